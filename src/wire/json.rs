//! A pull cursor over JSON text: spans instead of a tree, one pass, no allocation.
//!
//! The cursor accepts exactly what `serde_json` accepts for a raw value, save for values nested
//! deeper than [`MAX_DEPTH`]. It takes the text for UTF-8: who reads untrusted bytes checks them
//! with [`is_utf8`] first. On other bytes it does not fail, nor does it panic.
//!
//! A caller descends with [`Cursor::object`] and [`Cursor::array`] into what it needs and leaves
//! the rest, which the cursor skips and validates in the same pass.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::ops::Range;

use memchr::{memchr, memchr2};
use wide::u8x16;

/// How deeply arrays and objects may be nested.
pub const MAX_DEPTH: usize = 128;

/// The bytes are not the JSON that was expected here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not valid JSON, not of the expected kind, or nested too deeply")
    }
}

impl Error for Invalid {}

/// Whether the bytes may be read by a [`Cursor`].
#[must_use]
pub fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

/// A string in JSON text, as it is written there.
#[derive(Clone, Copy)]
pub struct Str<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Str<'a> {
    /// The string without characters, as it would be written `""`.
    #[must_use]
    pub(crate) fn empty() -> Self {
        Self { raw: b"", escaped: false }
    }

    /// The valid string that is written so between its quotes.
    #[inline]
    pub(super) fn new(raw: &'a [u8], escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The bytes between the quotes, with the escapes as written.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the string has no characters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Whether the string is written with at least one escape.
    #[must_use]
    pub fn is_escaped(&self) -> bool {
        self.escaped
    }

    /// The characters that the string stands for, borrowed where it has no escape.
    ///
    /// A surrogate without its other half, which JSON can write and UTF-8 cannot, is encoded as
    /// UTF-8 would encode its number (WTF-8), so that different strings stay different.
    #[must_use]
    #[inline]
    pub fn decode(&self) -> Cow<'a, [u8]> {
        if self.escaped { Cow::Owned(self.unescaped()) } else { Cow::Borrowed(self.raw) }
    }

    #[cold]
    fn unescaped(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.raw.len());
        self.decoded(&mut |piece| text.extend_from_slice(piece));
        text
    }

    /// Whether the string stands for this text.
    #[must_use]
    #[inline]
    pub fn is(&self, text: &str) -> bool {
        if self.escaped { self.is_escaped_text(text.as_bytes()) } else { self.raw == text.as_bytes() }
    }

    #[cold]
    fn is_escaped_text(&self, text: &[u8]) -> bool {
        // No escape stands for more bytes than it is written with.
        if self.raw.len() < text.len() {
            return false;
        }
        let mut rest = Some(text);
        self.decoded(&mut |piece| rest = rest.and_then(|rest| rest.strip_prefix(piece)));
        rest.is_some_and(<[u8]>::is_empty)
    }

    /// Hands the characters that the string stands for to `sink`, piece by piece.
    ///
    /// How they are cut into pieces means nothing and may change. See [`Str::decode`] for
    /// surrogates.
    pub fn decoded(&self, sink: &mut impl FnMut(&[u8])) {
        if !self.escaped {
            if !self.raw.is_empty() {
                sink(self.raw);
            }
            return;
        }
        // Text with many escapes would come in short pieces, and a hasher wants long ones.
        let mut buffer = [0; 512];
        let mut filled = 0;
        let mut rest = self.raw;
        loop {
            if filled > buffer.len() - VECTOR {
                sink(&buffer[..filled]);
                filled = 0;
            }
            let mut plain = rest.len().min(VECTOR);
            if let Some((vector, after)) = rest.split_first_chunk::<VECTOR>() {
                // A copy of fixed length is cheap; what is too much is overwritten.
                buffer[filled..filled + VECTOR].copy_from_slice(vector);
                let hits = u8x16::new(*vector).simd_eq(u8x16::splat(b'\\')).to_bitmask();
                if hits == 0 {
                    filled += VECTOR;
                    rest = after;
                    continue;
                }
                plain = hits.trailing_zeros() as usize;
            } else {
                plain = memchr(b'\\', rest).unwrap_or(plain);
                buffer[filled..filled + plain].copy_from_slice(&rest[..plain]);
            }
            filled += plain;
            let Some((_, escape)) = rest[plain..].split_first() else {
                break;
            };
            if filled > buffer.len() - 8 {
                sink(&buffer[..filled]);
                filled = 0;
            }
            let (bytes, len, written) = unescape(escape);
            buffer[filled..filled + bytes.len()].copy_from_slice(&bytes);
            filled += len;
            rest = escape.get(written..).unwrap_or_default();
        }
        if filled > 0 {
            sink(&buffer[..filled]);
        }
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Str").field("len", &self.raw.len()).field("escaped", &self.escaped).finish()
    }
}

/// The character of the escape whose backslash stands before `rest`: its bytes, their number, and
/// the number of bytes of `rest` that it is written with.
#[inline]
pub(super) fn unescape(rest: &[u8]) -> ([u8; 4], usize, usize) {
    match rest.first() {
        Some(b'u') => {
            let Some(unit) = hex(&rest[1..]) else {
                return ([b'u', 0, 0, 0], 1, 1);
            };
            if let (0xd800..0xdc00, Some([b'\\', b'u', low @ ..])) = (unit, rest.get(5..))
                && let Some(low @ 0xdc00..0xe000) = hex(low)
            {
                let (bytes, len) = encode(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
                return (bytes, len, 11);
            }
            let (bytes, len) = encode(unit);
            (bytes, len, 5)
        }
        Some(&letter) => ([UNESCAPED[usize::from(letter)], 0, 0, 0], 1, 1),
        None => ([0; 4], 0, 0),
    }
}

/// What the letter behind a backslash stands for.
const UNESCAPED: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes[b'b' as usize] = 0x08;
    bytes[b'f' as usize] = 0x0c;
    bytes[b'n' as usize] = b'\n';
    bytes[b'r' as usize] = b'\r';
    bytes[b't' as usize] = b'\t';
    bytes
};

fn hex(digits: &[u8]) -> Option<u32> {
    digits.first_chunk::<4>()?.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

/// UTF-8, for surrogates too.
fn encode(code: u32) -> ([u8; 4], usize) {
    let tail = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
    let head = |mark: u8, shift: u32| mark | (code >> shift) as u8;
    match code {
        0..0x80 => ([code as u8, 0, 0, 0], 1),
        0x80..0x800 => ([head(0xc0, 6), tail(0), 0, 0], 2),
        0x800..0x1_0000 => ([head(0xe0, 12), tail(6), tail(0), 0], 3),
        _ => ([head(0xf0, 18), tail(12), tail(6), tail(0)], 4),
    }
}

/// A place in JSON text, and the means to go on from there.
///
/// After an error inside a value the cursor gives nothing but errors, so that an error which a
/// callback swallows is not lost. An error because the value is of another kind than asked for
/// leaves the cursor before that value.
#[derive(Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
    depth: usize,
    failed: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of the text.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    /// A cursor at a position in the text, such as the start of a span seen before.
    #[must_use]
    pub fn at(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos: pos.min(bytes.len()), depth: 0, failed: false }
    }

    /// The whole text.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the cursor stands.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Moves to a position that is known to lie between two tokens.
    pub(super) fn jump(&mut self, pos: usize) {
        self.pos = pos.min(self.bytes.len());
    }

    /// Skips whitespace and tells the first byte of the next token.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        self.pos = whitespace(self.bytes, self.pos);
        self.bytes.get(self.pos).copied()
    }

    /// Validates and skips one value, and tells its span.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if no valid value follows.
    pub fn skip(&mut self) -> Result<Range<usize>, Invalid> {
        self.peek();
        let start = self.pos;
        match skip_value(self.bytes, start, MAX_DEPTH.saturating_sub(self.depth)) {
            Some(end) => {
                self.pos = end;
                Ok(start..end)
            }
            None => Err(self.fail()),
        }
    }

    /// Reads a string, and tells its span with the quotes.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the value is not a string, or not a valid one.
    #[inline]
    pub fn string(&mut self) -> Result<(Str<'a>, Range<usize>), Invalid> {
        if self.peek() != Some(b'"') {
            return Err(Invalid);
        }
        let start = self.pos;
        match skip_string(self.bytes, start + 1) {
            Some((end, escaped)) => {
                self.pos = end;
                let raw = &self.bytes[start + 1..end - 1];
                Ok((Str { raw, escaped }, start..end))
            }
            None => Err(self.fail()),
        }
    }

    /// Reads a string, and tells whether it is written as this one, which was read before.
    pub(crate) fn string_is(&mut self, text: &Str<'_>) -> Result<bool, Invalid> {
        if self.peek() != Some(b'"') {
            return Err(Invalid);
        }
        let end = self.pos + 1 + text.raw.len();
        if self.bytes.get(self.pos + 1..end) == Some(text.raw) && self.bytes.get(end) == Some(&b'"') {
            self.pos = end + 1;
            return Ok(true);
        }
        self.string().map(|(own, _)| own.raw == text.raw)
    }

    /// Visits the members of an object, and tells its span.
    ///
    /// At each call of `member` the cursor stands at the member's value. The callback reads the
    /// whole value, or nothing of it: then the value is skipped.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the value is not an object, not a valid one, or nested too deeply; and the
    /// errors of `member`.
    pub fn object<E: From<Invalid>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Str<'a>) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        let start = self.open(b'{')?;
        let result = self.members(&mut member);
        self.close(start, result)
    }

    /// Visits the elements of an array, and tells its span.
    ///
    /// At each call of `element` the cursor stands at the element. The callback reads the whole
    /// value, or nothing of it: then the value is skipped.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the value is not an array, not a valid one, or nested too deeply; and the
    /// errors of `element`.
    pub fn array<E: From<Invalid>>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        let start = self.open(b'[')?;
        let result = self.elements(&mut element);
        self.close(start, result)
    }

    /// Makes sure that only whitespace follows.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if anything else follows, or if there was an error before.
    pub fn end(&mut self) -> Result<(), Invalid> {
        if self.peek().is_none() && !self.failed { Ok(()) } else { Err(Invalid) }
    }

    fn open(&mut self, bracket: u8) -> Result<usize, Invalid> {
        if self.peek() != Some(bracket) {
            return Err(Invalid);
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.fail());
        }
        self.depth += 1;
        let start = self.pos;
        self.pos += 1;
        Ok(start)
    }

    fn close<E>(&mut self, start: usize, result: Result<(), E>) -> Result<Range<usize>, E> {
        self.depth -= 1;
        match result {
            Ok(()) => Ok(start..self.pos),
            Err(error) => {
                self.fail();
                Err(error)
            }
        }
    }

    fn members<E: From<Invalid>>(
        &mut self,
        member: &mut impl FnMut(&mut Self, Str<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() == Some(b'}') {
            self.pos += 1;
            return Ok(());
        }
        loop {
            let (key, _) = self.string()?;
            if self.peek() != Some(b':') {
                return Err(Invalid.into());
            }
            self.pos += 1;
            self.peek();
            let before = self.pos;
            member(self, key)?;
            if self.pos == before {
                self.skip()?;
            }
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b'}') => {
                    self.pos += 1;
                    return Ok(());
                }
                _ => return Err(Invalid.into()),
            }
        }
    }

    fn elements<E: From<Invalid>>(&mut self, element: &mut impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        if self.peek() == Some(b']') {
            self.pos += 1;
            return Ok(());
        }
        loop {
            self.peek();
            let before = self.pos;
            element(self)?;
            if self.pos == before {
                self.skip()?;
            }
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b']') => {
                    self.pos += 1;
                    return Ok(());
                }
                _ => return Err(Invalid.into()),
            }
        }
    }

    #[cold]
    fn fail(&mut self) -> Invalid {
        self.failed = true;
        self.pos = self.bytes.len();
        Invalid
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("len", &self.bytes.len())
            .field("pos", &self.pos)
            .field("depth", &self.depth)
            .field("failed", &self.failed)
            .finish()
    }
}

#[inline]
fn whitespace(bytes: &[u8], mut pos: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(pos) {
        pos += 1;
    }
    pos
}

/// Whether a valid JSON text begins with the same tokens as this piece of another one, white space aside,
/// and goes on with another member or element, or ends the object or array. The piece ends with a value.
pub(crate) fn begins_with(text: &[u8], piece: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    if text.starts_with(piece) {
        (at, of) = (piece.len(), piece.len());
    }
    loop {
        (at, of) = (whitespace(text, at), whitespace(piece, of));
        match (text.get(at), piece.get(of)) {
            (Some(b',' | b'}' | b']'), None) => return true,
            (Some(b'"'), Some(b'"')) => {
                let Some((end, _)) = skip_string(piece, of + 1) else { return false };
                let token = &piece[of..end];
                if !text[at..].starts_with(token) {
                    return false;
                }
                (at, of) = (at + token.len(), end);
            }
            (Some(one), Some(other)) if one == other => (at, of) = (at + 1, of + 1),
            _ => return false,
        }
    }
}

/// The end of the value that begins at `pos`, if it is valid and nested at most `depth` deep.
fn skip_value(bytes: &[u8], mut pos: usize, depth: usize) -> Option<usize> {
    // One bit for each open bracket, the innermost lowest: set for an object.
    let mut objects: u128 = 0;
    let mut open = 0;
    loop {
        pos = match *bytes.get(pos)? {
            b'"' => skip_string(bytes, pos + 1)?.0,
            bracket @ (b'{' | b'[') => {
                if open == depth {
                    return None;
                }
                let object = bracket == b'{';
                pos = whitespace(bytes, pos + 1);
                if bytes.get(pos) == Some(&(bracket + 2)) {
                    pos + 1
                } else {
                    open += 1;
                    objects = objects << 1 | u128::from(object);
                    if object {
                        pos = skip_key(bytes, pos)?;
                    }
                    continue;
                }
            }
            b'-' | b'0'..=b'9' => skip_number(bytes, pos)?,
            b't' => skip_word(bytes, pos, b"true")?,
            b'f' => skip_word(bytes, pos, b"false")?,
            b'n' => skip_word(bytes, pos, b"null")?,
            _ => return None,
        };
        loop {
            if open == 0 {
                return Some(pos);
            }
            pos = whitespace(bytes, pos);
            match (*bytes.get(pos)?, objects & 1 == 1) {
                (b',', true) => {
                    pos = skip_key(bytes, whitespace(bytes, pos + 1))?;
                    break;
                }
                (b',', false) => {
                    pos = whitespace(bytes, pos + 1);
                    break;
                }
                (b'}', true) | (b']', false) => {
                    pos += 1;
                    open -= 1;
                    objects >>= 1;
                }
                _ => return None,
            }
        }
    }
}

/// The place of the value whose key begins at `pos`.
#[inline]
fn skip_key(bytes: &[u8], pos: usize) -> Option<usize> {
    if bytes.get(pos) != Some(&b'"') {
        return None;
    }
    let pos = whitespace(bytes, skip_string(bytes, pos + 1)?.0);
    if bytes.get(pos) != Some(&b':') {
        return None;
    }
    Some(whitespace(bytes, pos + 1))
}

fn skip_word(bytes: &[u8], pos: usize, word: &[u8]) -> Option<usize> {
    bytes[pos..].starts_with(word).then(|| pos + word.len())
}

fn skip_number(bytes: &[u8], mut pos: usize) -> Option<usize> {
    let digits = |mut pos: usize| {
        let start = pos;
        while bytes.get(pos).is_some_and(u8::is_ascii_digit) {
            pos += 1;
        }
        (pos > start).then_some(pos)
    };
    if bytes.get(pos) == Some(&b'-') {
        pos += 1;
    }
    let start = pos;
    pos = digits(pos)?;
    if bytes[start] == b'0' && pos - start > 1 {
        return None;
    }
    if bytes.get(pos) == Some(&b'.') {
        pos = digits(pos + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(pos) {
        pos += 1;
        if let Some(b'+' | b'-') = bytes.get(pos) {
            pos += 1;
        }
        pos = digits(pos)?;
    }
    Some(pos)
}

/// The place after the closing quote of the string whose contents begin at `pos`, and whether it
/// has an escape.
///
/// Most strings are keys or ids, and the first vectors find their end. The others are text, in which
/// an escape may come at any time: a branch for each would be guessed wrong too often, so the
/// bytes to look at are marked for a whole block at once.
#[inline]
fn skip_string(bytes: &[u8], mut pos: usize) -> Option<(usize, bool)> {
    for _ in 0..VECTORS {
        let Some(vector) = bytes.get(pos..).and_then(<[u8]>::first_chunk) else {
            return skip_tail(bytes, pos, false);
        };
        let hits = special(u8x16::new(*vector));
        if hits != 0 {
            pos += hits.trailing_zeros() as usize;
            if bytes.get(pos) == Some(&b'"') {
                return Some((pos + 1, false));
            }
            break;
        }
        pos += VECTOR;
    }
    skip_text(bytes, pos)
}

/// Like [`skip_string`], for long text.
fn skip_text(bytes: &[u8], mut pos: usize) -> Option<(usize, bool)> {
    let mut has_escape = false;
    // Whether the block begins in the middle of an escape.
    let mut inside = 0;
    let mut plain = 0;
    loop {
        let Some(block) = bytes.get(pos..).and_then(<[u8]>::first_chunk::<BLOCK>) else {
            return skip_tail(bytes, pos - inside as usize, has_escape);
        };
        let Marks { quotes, backslashes, controls } = Marks::of(block);
        if quotes | backslashes | controls | inside == 0 {
            pos += BLOCK;
            plain += 1;
            if plain == PLAIN_BLOCKS {
                plain = 0;
                pos = skip_plain(bytes, pos)?;
            }
            continue;
        }
        plain = 0;
        let escaped = escaped(backslashes, &mut inside);
        let ends = quotes & !escaped;
        // The bytes before the closing quote, or all.
        let within = ends.wrapping_sub(1) & !ends;
        if controls & within != 0 {
            return None;
        }
        has_escape |= backslashes & within != 0;
        let escaped = escaped & within & !(quotes | backslashes);
        if escaped != 0 {
            let mut others = unusual(block, escaped);
            while others != 0 {
                let (letter, digits) = bytes[pos + others.trailing_zeros() as usize..].split_first()?;
                if !ESCAPES[usize::from(*letter)] {
                    hex(digits).filter(|_| *letter == b'u')?;
                }
                others &= others - 1;
            }
        }
        if ends != 0 {
            return Some((pos + ends.trailing_zeros() as usize + 1, has_escape));
        }
        pos += BLOCK;
    }
}

/// Marks the bytes that a backslash escapes. `inside` says whether the first one is, and then whether the
/// first one of the next block is.
#[inline]
fn escaped(backslashes: u64, inside: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !*inside;
    let follows = backslashes << 1 | *inside;
    // A run of backslashes that begins at an odd place carries through to the byte behind it, so that its parity
    // is told without going through it.
    let odd_starts = backslashes & !EVEN & !follows;
    let (carried, overflow) = odd_starts.overflowing_add(backslashes);
    *inside = u64::from(overflow);
    (EVEN ^ (carried << 1)) & follows
}

/// Whether a byte may stand behind a backslash alone.
const ESCAPES: [bool; 256] = {
    let (mut bytes, mut at) = ([false; 256], 0);
    let letters = b"\"\\/bfnrt";
    while at < letters.len() {
        bytes[letters[at] as usize] = true;
        at += 1;
    }
    bytes
};

/// How many escapes of a block are looked at without a branch.
const FEW: usize = 4;

/// Leaves of these marks those that are to be looked at one by one: none, if they are few and each stands at a byte
/// that may stand behind a backslash alone.
#[inline]
fn unusual(block: &[u8; BLOCK], marks: u64) -> u64 {
    let (mut rest, mut usual) = (marks, true);
    for _ in 0..FEW {
        // Where no mark is left, any byte will do.
        usual &= ESCAPES[usize::from(block[rest.trailing_zeros() as usize % BLOCK])] | (rest == 0);
        rest &= rest.wrapping_sub(1);
    }
    if usual { rest } else { marks }
}

/// Like [`skip_string`], near the end of the text.
fn skip_tail(bytes: &[u8], mut pos: usize, mut escaped: bool) -> Option<(usize, bool)> {
    loop {
        match *bytes.get(pos)? {
            b'"' => return Some((pos + 1, escaped)),
            b'\\' => {
                escaped = true;
                pos += skip_escape(bytes, pos)?;
            }
            0..0x20 => return None,
            _ => pos += 1,
        }
    }
}

/// The length of the escape at `pos`.
#[inline]
fn skip_escape(bytes: &[u8], pos: usize) -> Option<usize> {
    match *bytes.get(pos + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => hex(bytes.get(pos + 2..)?).map(|_| 6),
        _ => None,
    }
}

/// The place of the next quote or backslash, with no control character before it.
fn skip_plain(bytes: &[u8], mut pos: usize) -> Option<usize> {
    loop {
        let rest = bytes.get(pos..)?;
        // So much stays in the nearest cache for the second look.
        let window = &rest[..rest.len().min(WINDOW)];
        let end = memchr2(b'"', b'\\', window);
        let run = &window[..end.unwrap_or(window.len())];
        // Without a branch in it, this becomes a vector loop.
        let lowest = run.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte));
        if lowest < 0x20 || (end.is_none() && window.len() < WINDOW) {
            return None;
        }
        pos += run.len();
        if end.is_some() {
            return Some(pos);
        }
    }
}

/// How many vectors of a string are looked at one by one.
const VECTORS: usize = 2;

/// How many bytes are looked at together.
const BLOCK: usize = 64;

/// How many bytes of them are compared at once.
const VECTOR: usize = 16;

/// How much of a long run is searched at a time.
const WINDOW: usize = 8 << 10;

/// After how many blocks without a mark `memchr` is worth its call.
const PLAIN_BLOCKS: usize = 2;

/// The bytes of a block that mean something in a string, one bit for each.
struct Marks {
    quotes: u64,
    backslashes: u64,
    controls: u64,
}

impl Marks {
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut marks = Self { quotes: 0, backslashes: 0, controls: 0 };
        let mut lowest = u8x16::splat(u8::MAX);
        for (index, bytes) in vectors(block) {
            marks.quotes |= mask(bytes.simd_eq(u8x16::splat(b'"')), index);
            marks.backslashes |= mask(bytes.simd_eq(u8x16::splat(b'\\')), index);
            lowest = lowest.min(bytes);
        }
        // Text has none of them; they stand between tokens, if at all.
        if control(lowest).to_bitmask() != 0 {
            marks.controls = vectors(block).fold(0, |controls, (index, bytes)| controls | mask(control(bytes), index));
        }
        marks
    }
}

/// Marks control characters.
#[inline]
fn control(bytes: u8x16) -> u8x16 {
    bytes.min(u8x16::splat(0x1f)).simd_eq(bytes)
}

#[inline]
fn vectors(block: &[u8; BLOCK]) -> impl Iterator<Item = (usize, u8x16)> {
    block.as_chunks::<VECTOR>().0.iter().map(|bytes| u8x16::new(*bytes)).enumerate()
}

/// The bits of a vector of a block.
#[inline]
fn mask(vector: u8x16, index: usize) -> u64 {
    u64::from(vector.to_bitmask()) << (VECTOR * index)
}

/// Marks the bytes that are a quote, a backslash or a control character.
#[inline]
fn special(bytes: u8x16) -> u32 {
    (bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | control(bytes)).to_bitmask()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    /// Pieces of which JSON is made, and some of which it is not.
    const TOKENS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "\"\\\"\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\\u12",
        "0",
        "-",
        "1",
        "12.5",
        "1e5",
        "-0.0E-2",
        ".",
        "e",
        "+",
        "true",
        "false",
        "null",
        "nul",
        " ",
        "\n",
        "\t",
        "\r",
        "\u{c}",
        "\"\u{1}\"",
        "é",
        "\"long enough for several words\"",
        "{\"k\":",
        "[1,",
        "\"k\":1",
        "01",
        "\u{feff}",
    ];

    #[test]
    fn texts_begin_with_the_tokens_of_a_piece() {
        let text = br#"{ "a" : {"b": [1, 2.5], "c\" d": "x  y"} , "e":1}"#;
        for piece in [r#"{"a":{"b":[1,2.5],"c\" d":"x  y"}"#, r#"{ "a" : {"b": [1, 2.5], "c\" d": "x  y"}"#] {
            assert!(begins_with(text, piece.as_bytes()), "{piece}");
        }
        for piece in
            [r#"{"a":{"b":[1,2.5],"c\" d":"x y"}"#, r#"{"a":{"b":[1,2],"c\" d":"x  y"}"#, r#"{"a""#, r#"{"f":1"#]
        {
            assert!(!begins_with(text, piece.as_bytes()), "{piece}");
        }
        assert!(begins_with(br#"{"a":1,"b":2}"#, br#"{"a": 1"#));
        assert!(!begins_with(br#"{"a":12,"b":2}"#, br#"{"a":1"#));
        assert!(!begins_with(br#"{"a":1"#, br#"{"a":1"#));
    }

    fn accepts(bytes: &[u8]) -> Option<Range<usize>> {
        std::str::from_utf8(bytes).ok()?;
        let mut cursor = Cursor::new(bytes);
        let span = cursor.skip().ok()?;
        cursor.end().ok()?;
        Some(span)
    }

    fn oracle(bytes: &[u8]) -> Option<Range<usize>> {
        let raw = serde_json::from_slice::<&RawValue>(bytes).ok()?.get();
        let start = raw.as_ptr() as usize - bytes.as_ptr() as usize;
        Some(start..start + raw.len())
    }

    /// Reads a value by descending into all of it.
    fn read(cursor: &mut Cursor<'_>) -> Result<Value, Invalid> {
        Ok(match cursor.peek() {
            Some(b'{') => {
                let mut members = serde_json::Map::new();
                cursor.object::<Invalid>(|cursor, key| {
                    let value = read(cursor)?;
                    members.insert(String::from_utf8_lossy(&key.decode()).into_owned(), value);
                    Ok(())
                })?;
                members.into()
            }
            Some(b'[') => {
                let mut elements = Vec::new();
                cursor.array::<Invalid>(|cursor| {
                    elements.push(read(cursor)?);
                    Ok(())
                })?;
                elements.into()
            }
            Some(b'"') => String::from_utf8_lossy(&cursor.string()?.0.decode()).into(),
            _ => {
                let span = cursor.skip()?;
                // A number may be out of the range that serde_json can hold.
                serde_json::from_slice(&cursor.bytes()[span]).unwrap_or_default()
            }
        })
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,40}".prop_map(Value::from),
            "[\"\\\\/\u{8}\u{c}\n\r\t\u{1}é😀]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map("\\PC{0,4}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn nested(open: &str, close: &str, depth: usize) -> Vec<u8> {
        [open.repeat(depth), "1".into(), close.repeat(depth)].concat().into_bytes()
    }

    #[test]
    fn depth_is_bounded_for_skips_and_descents_together() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deepest = nested(open, close, MAX_DEPTH);
            let too_deep = nested(open, close, MAX_DEPTH + 1);
            assert!(accepts(&deepest).is_some());
            assert!(accepts(&too_deep).is_none());
            assert!(read(&mut Cursor::new(&deepest)).is_ok());
            assert!(read(&mut Cursor::new(&too_deep)).is_err());
        }
        let mixed = nested("[", "]", MAX_DEPTH + 1);
        let mut cursor = Cursor::new(&mixed);
        assert!(cursor.array::<Invalid>(|cursor| cursor.skip().map(drop)).is_err());
        assert!(accepts(&nested("[", "]", 1_000_000)).is_none());
    }

    #[test]
    fn another_kind_leaves_the_cursor_where_it_is() {
        let mut cursor = Cursor::new(b" [1]");
        assert_eq!(cursor.string().err(), Some(Invalid));
        assert_eq!(cursor.object::<Invalid>(|_, _| Ok(())).err(), Some(Invalid));
        assert_eq!(cursor.skip(), Ok(1..4));
        assert_eq!(cursor.end(), Ok(()));
    }

    #[test]
    fn a_swallowed_error_is_not_lost() {
        let mut cursor = Cursor::new(br#"{"a":{"b":}}"#);
        let result = cursor.object::<Invalid>(|cursor, _| {
            let _ = cursor.object::<Invalid>(|_, _| Ok(()));
            Ok(())
        });
        assert_eq!(result, Err(Invalid));
        assert_eq!(cursor.end(), Err(Invalid));
        assert_eq!(cursor.skip(), Err(Invalid));
    }

    #[test]
    fn decodes_every_escape() {
        for (text, decoded) in [
            (r#""\"\\\/\b\f\n\r\t""#, &b"\"\\/\x08\x0c\n\r\t"[..]),
            (r#""\u0041\u00e9\u20ac""#, "Aé€".as_bytes()),
            (r#""\ud83d\ude00""#, "😀".as_bytes()),
            (r#""\ud83d\u0041""#, b"\xed\xa0\xbdA"),
            (r#""\ud83d\ud83d\ude00""#, b"\xed\xa0\xbd\xf0\x9f\x98\x80"),
            (r#""\ude00\\u0041""#, b"\xed\xb8\x80\\u0041"),
            (r#""\ud83d""#, b"\xed\xa0\xbd"),
        ] {
            let (string, _) = Cursor::new(text.as_bytes()).string().unwrap();
            assert_eq!(&*string.decode(), decoded, "{text}");
            assert!(string.is_escaped());
            let mut streamed = Vec::new();
            string.decoded(&mut |piece| streamed.extend_from_slice(piece));
            assert_eq!(streamed, decoded, "{text}");
        }
    }

    #[test]
    fn compares_without_decoding() {
        let of = |text: &'static str| Cursor::new(text.as_bytes()).string().unwrap().0;
        assert!(of(r#""name""#).is("name"));
        assert!(of(r#""n\u0061me""#).is("name"));
        assert!(!of(r#""n\u0061m""#).is("name"));
        assert!(!of(r#""n\u0061mes""#).is("name"));
        assert!(!of(r#""\ud800""#).is("\u{fffd}"));
    }

    #[test]
    fn control_characters_are_found_wherever_they_stand() {
        for len in [1, 7, 8, 9, 31, 32, 33, 95, 96, 97, 160, 300] {
            for at in 0..len {
                for byte in [0, 0x1f, b'\n', 0x20, 0x7f] {
                    let mut text = vec![b'x'; len + 2];
                    text[0] = b'"';
                    text[len + 1] = b'"';
                    text[at + 1] = byte;
                    assert_eq!(accepts(&text).is_some(), byte >= 0x20, "{len} {at} {byte}");
                }
            }
        }
    }

    #[test]
    fn long_runs_are_read_as_short_ones() {
        let length = 2 * WINDOW + 300;
        let text = |special: &[(usize, u8)]| {
            let mut text = vec![b'x'; length];
            (text[0], text[length - 1]) = (b'"', b'"');
            special.iter().for_each(|(at, byte)| text[*at] = *byte);
            text
        };
        let edges = [WINDOW - 1, WINDOW, WINDOW + 1].map(|at| at + PLAIN_BLOCKS * BLOCK + 1);
        for at in edges.into_iter().chain(1..4).chain(length - 4..length - 2) {
            assert_eq!(accepts(&text(&[])), Some(0..length));
            assert_eq!(accepts(&text(&[(at, 0x1f)])), None, "{at}");
            assert_eq!(accepts(&text(&[(at, b'\\'), (at + 1, b'n')])), Some(0..length), "{at}");
            assert_eq!(accepts(&text(&[(at, b'\\'), (at + 1, b'x')])), None, "{at}");
            assert_eq!(accepts(&text(&[(at, b'"')])), None, "{at}");
            assert_eq!(accepts(&text(&[(at, b'\\'), (at + 1, b'"')])).is_some(), at + 1 < length - 1, "{at}");
        }
        assert_eq!(accepts(&text(&[(length - 1, b'x')])), None);
    }

    #[test]
    fn debug_tells_no_content() {
        let mut cursor = Cursor::new(br#""secret""#);
        let string = cursor.string().unwrap().0;
        assert!(!format!("{cursor:?} {string:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_writes(value in value(), pretty: bool) {
            let text = if pretty {
                serde_json::to_vec_pretty(&value).unwrap()
            } else {
                serde_json::to_vec(&value).unwrap()
            };
            prop_assert_eq!(accepts(&text), Some(0..text.len()));
            let mut cursor = Cursor::new(&text);
            prop_assert_eq!(read(&mut cursor), Ok(serde_json::from_slice(&text).unwrap()));
            prop_assert_eq!(cursor.end(), Ok(()));
        }

        #[test]
        fn decodes_what_serde_json_decodes(
            parts in prop::collection::vec(
                r#"[a-zé😀]{0,12}|(\\[nt"/\\])?|\\u[0-9a-c]{4}|\\ud83d\\ude00"#, 0..200),
        ) {
            let text = format!("\"{}\"", parts.concat());
            let string = Cursor::new(text.as_bytes()).string().unwrap().0;
            let expected: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&*string.decode(), expected.as_bytes());
            prop_assert!(string.is(&expected));
            prop_assert_eq!(string.is_escaped(), text.contains('\\'));
            prop_assert!(!string.is(&(expected.clone() + "x")));
            let mut shorter = expected.clone();
            prop_assert!(shorter.pop().is_none() || !string.is(&shorter));
        }

        #[test]
        fn accepts_what_serde_json_accepts(
            tokens in prop::collection::vec(0..TOKENS.len(), 0..12),
        ) {
            let text = tokens.iter().map(|&token| TOKENS[token]).collect::<String>();
            prop_assert_eq!(accepts(text.as_bytes()), oracle(text.as_bytes()), "{}", text);
            let mut cursor = Cursor::new(text.as_bytes());
            let descended = read(&mut cursor).is_ok() && cursor.end().is_ok();
            prop_assert_eq!(descended, oracle(text.as_bytes()).is_some(), "{}", text);
        }

        #[test]
        fn rejects_what_serde_json_rejects(
            value in value(),
            edits in prop::collection::vec(
                (any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
        ) {
            let mut text = serde_json::to_vec(&value).unwrap();
            for (at, byte, kind) in edits {
                let at = at.index(text.len() + 1);
                match (kind, at < text.len()) {
                    (0, true) => text[at] = byte,
                    (1, true) => drop(text.remove(at)),
                    (2, _) => text.truncate(at),
                    _ => text.insert(at, byte),
                }
            }
            prop_assert_eq!(accepts(&text), oracle(&text), "{}", String::from_utf8_lossy(&text));
        }

        #[test]
        fn any_bytes_are_harmless(bytes: Vec<u8>, pos: usize) {
            let _ = read(&mut Cursor::new(&bytes));
            let mut cursor = Cursor::at(&bytes, pos);
            let _ = cursor.skip();
            prop_assert!(cursor.position() <= bytes.len());
        }
    }
}
