//! What the events of one stream have in common.
//!
//! A stream says the same thing thousands of times: one event is like the next but for a piece of text and a few
//! counters. Once an event was read in full, its [`Shape`] tells of further ones that they are the same, byte by byte, but
//! for the values that may differ. Such an event need not be read again: JSON in which the content of one string is
//! replaced by that of another valid one, or one whole number by another, is the same JSON with another value there.
//! So is one with more or less space before its last bracket, as some providers send it to hide how long a text is.
//!
//! Most of what may differ does not: an id, a model, the time of the answer. So a value is compared with what it was as
//! a part of what surrounds it, and is looked at for itself only once it was another one.

use std::{fmt, ops::Range};

use memchr::{memchr2, memrchr};
use wide::u8x16;

use super::json::{self, Cursor, Invalid, Str, is_utf8};

/// How long the parts of an event may be that do not differ.
const MAX_LITERAL: usize = 1024;

/// How many values may differ.
const MAX_HOLES: usize = 32;

/// How much of the values that may differ is kept, as long as they do not.
const MAX_STILL: usize = 512;

/// A JSON value that was read, without the values that may differ in others of its kind.
///
/// # Limits
///
/// 1 KiB of what does not differ, and 32 values that may.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::wire::shape::Shape;
///
/// let read = br#"{"text":"a","usage":{"count":7}}"#;
/// let shape = Shape::new(read, Some(8..11), &[20..31]).unwrap();
/// let text = shape.find(br#"{"text":"so \"it\" goes","usage":{"count":12}}"#).unwrap();
/// assert_eq!(text.decode(), &b"so \"it\" goes"[..]);
/// assert!(shape.find(br#"{"text":"b","usage":{"count":12},"end":true}"#).is_none());
/// ```
#[derive(Clone)]
pub struct Shape {
    /// What does not differ, and the values that did not so far, in order.
    literal: Vec<u8>,
    /// The values that may differ.
    holes: Vec<Hole>,
    /// Those of them that do.
    open: Vec<Open>,
    /// How long a value of this shape is at least.
    least: usize,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    /// Where in `literal` the value stands, or stood.
    at: u16,
    /// How many bytes of `literal` it is; none once it is open.
    len: u16,
    kind: HoleKind,
    is_open: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    at: u16,
    kind: HoleKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoleKind {
    /// The string that is looked for.
    Text,
    /// Any other string.
    String,
    /// The digits before the point of a number.
    Digits,
    /// Spaces, if any.
    Space,
}

impl Shape {
    /// The shape of `json`, which must have been read in full. `text` is the span, with the quotes, of the string in it
    /// that is looked for. The strings and numbers in `free`, which are spans of whole values in ascending order, may be any.
    ///
    /// `None` if it is over the bounds, or if the spans are not those of such values.
    #[must_use]
    pub fn new(json: &[u8], text: Option<Range<usize>>, free: &[Range<usize>]) -> Option<Self> {
        // In an event stream, what has several lines is another event than its first one alone.
        if memchr2(b'\n', b'\r', json).is_some() {
            return None;
        }
        let mut builder = Builder { json, pos: 0, literal: Vec::new(), still: 0, holes: Vec::new() };
        let mut text = text;
        for span in free {
            if let Some(before) = text.take_if(|text| text.start < span.start) {
                builder.text(&before)?;
            }
            builder.free(span)?;
        }
        if let Some(text) = text {
            builder.text(&text)?;
        }
        builder.space();
        builder.copy(json.len())?;
        let Builder { mut literal, still, mut holes, .. } = builder;
        literal.shrink_to_fit();
        holes.shrink_to_fit();
        let least = literal.len() - still;
        let mut shape = Self { literal, open: Vec::with_capacity(holes.len()), holes, least };
        shape.note_open();
        Some(shape)
    }

    /// The text in another JSON value of this shape, empty if none is looked for. `None` says that the value must be read.
    #[must_use]
    pub fn find<'j>(&self, json: &'j [u8]) -> Option<Str<'j>> {
        let (text, end) = self.find_first(json)?;
        (end == json.len()).then_some(text)
    }

    /// The text in the value of this shape with which these bytes begin, and where that value ends.
    #[must_use]
    pub fn find_first<'j>(&self, json: &'j [u8]) -> Option<(Str<'j>, usize)> {
        let mut heard = Heard::default();
        let end = self.follow(json, &mut heard).or_else(|| Some(self.differ(json, &mut heard)?.0))?;
        Some((heard.written(json), end))
    }

    /// Where the value ends with which these bytes begin, if it differs from the one that was read where others did.
    #[inline(always)]
    fn follow(&self, json: &[u8], heard: &mut Heard) -> Option<usize> {
        let (mut pos, mut from) = (0, 0);
        for hole in &self.open {
            let at = usize::from(hole.at);
            pos = behind(json, pos, &self.literal[from..at])?;
            from = at;
            pos = fill(json, pos, hole.kind, heard)?;
        }
        behind(json, pos, &self.literal[from..])
    }

    /// Like [`follow`](Self::follow), also where values differ that did not so far: tells which, one bit for each.
    #[cold]
    fn differ(&self, json: &[u8], heard: &mut Heard) -> Option<(usize, u32)> {
        let (mut pos, mut from, mut which) = (0, 0, 0);
        for (index, hole) in self.holes.iter().enumerate() {
            let at = usize::from(hole.at);
            pos = behind(json, pos, &self.literal[from..at])?;
            from = at + usize::from(hole.len);
            let end = fill(json, pos, hole.kind, heard)?;
            if !hole.is_open && json[pos..end] != self.literal[at..from] {
                which |= 1 << index;
            }
            pos = end;
        }
        Some((behind(json, pos, &self.literal[from..])?, which))
    }

    /// Takes in which values differ.
    fn open(&mut self, which: u32) {
        let mut removed = 0;
        for (index, hole) in self.holes.iter_mut().enumerate() {
            hole.at -= removed;
            if which >> index & 1 == 1 {
                let at = usize::from(hole.at);
                self.literal.drain(at..at + usize::from(hole.len));
                removed += hole.len;
                (hole.len, hole.is_open) = (0, true);
            }
        }
        self.note_open();
    }

    fn note_open(&mut self) {
        self.open.clear();
        let open = self.holes.iter().filter(|hole| hole.is_open);
        self.open.extend(open.map(|hole| Open { at: hole.at, kind: hole.kind }));
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shape")
            .field("literal", &self.literal.len())
            .field("holes", &self.holes.len())
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

/// The place behind these bytes, if they stand here.
#[inline]
fn behind(json: &[u8], pos: usize, literal: &[u8]) -> Option<usize> {
    (json.get(pos..pos + literal.len())? == literal).then_some(pos + literal.len())
}

/// The end of a value of this kind that stands here.
#[inline]
fn fill(json: &[u8], pos: usize, kind: HoleKind, heard: &mut Heard) -> Option<usize> {
    match kind {
        HoleKind::Text => hear(json, pos, heard),
        HoleKind::String => skip(json, pos),
        HoleKind::Digits => digits(json, pos),
        HoleKind::Space => Some(spaces(json, pos)),
    }
}

/// How many bytes of a string are looked at together.
const BLOCK: usize = 16;

/// How many times that is done before it counts as a long one.
const BLOCKS: usize = 24;

/// What a string of so many blocks stands for. A block ends with an escape, if there is one in it.
const PLAIN: usize = BLOCKS * (BLOCK + 3);

/// The text that was found last.
struct Heard {
    /// Where it stands, without its quotes.
    span: Range<usize>,
    escaped: bool,
    /// What it stands for, and how long that is; none if it is a long one.
    plain: [u8; PLAIN],
    length: Option<usize>,
}

impl Default for Heard {
    fn default() -> Self {
        Self { span: 0..0, escaped: false, plain: [0; PLAIN], length: None }
    }
}

impl Heard {
    #[inline]
    fn written<'j>(&self, json: &'j [u8]) -> Str<'j> {
        Str::new(json.get(self.span.clone()).unwrap_or_default(), self.escaped)
    }

    #[inline]
    fn plain(&self) -> Option<&[u8]> {
        self.plain.get(..self.length?)
    }

    /// Writes what stands here from this place on. More of it than counts may be written.
    #[inline]
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        if let Some(room) = self.plain.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *room = bytes;
        }
    }
}

/// The end of the valid string that stands here, which is the text.
#[inline(never)]
fn hear(json: &[u8], start: usize, heard: &mut Heard) -> Option<usize> {
    string(json, start, Some(heard))
}

/// The end of the valid string that stands here.
#[inline(never)]
fn skip(json: &[u8], start: usize) -> Option<usize> {
    string(json, start, None)
}

/// The end of the valid string that stands here.
///
/// Of a short string, the escapes are looked at one by one. For long ones it is worth to make no branch at each of them.
#[inline(always)]
fn string(json: &[u8], start: usize, mut heard: Option<&mut Heard>) -> Option<usize> {
    let mut rest = json.get(start..)?.strip_prefix(b"\"")?;
    let (mut filled, mut escaped) = (0, false);
    let mut seen = u8x16::splat(0);
    for _ in 0..BLOCKS {
        let block = rest.first_chunk::<BLOCK>().copied().unwrap_or_else(|| last(rest));
        if let Some(heard) = &mut heard {
            heard.put(filled, block);
        }
        let bytes = u8x16::new(block);
        seen |= bytes;
        let marks = bytes.simd_eq(u8x16::splat(b'"'))
            | bytes.simd_eq(u8x16::splat(b'\\'))
            | bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
        let marks = marks.to_bitmask();
        if marks == 0 {
            rest = &rest[BLOCK..];
            filled += BLOCK;
            continue;
        }
        let before = marks.trailing_zeros() as usize;
        filled += before;
        match rest.get(before..)? {
            [b'"', after @ ..] => {
                let end = json.len() - after.len();
                if seen.to_bitmask() != 0 && !is_utf8(&json[start + 1..end - 1]) {
                    return None;
                }
                if let Some(heard) = heard {
                    (heard.span, heard.escaped, heard.length) = (start + 1..end - 1, escaped, Some(filled));
                }
                return Some(end);
            }
            [b'\\', escape @ ..] => {
                let (character, length, written) = unescape(escape)?;
                if let Some(heard) = &mut heard {
                    heard.put(filled, character);
                }
                filled += length;
                rest = escape.get(written..)?;
                escaped = true;
            }
            _ => return None,
        }
    }
    long(json, start, heard)
}

/// Like [`string`], for any.
#[cold]
#[inline(never)]
fn long(json: &[u8], start: usize, heard: Option<&mut Heard>) -> Option<usize> {
    let (text, span) = Cursor::at(json, start).string().ok()?;
    if !is_utf8(text.raw()) {
        return None;
    }
    if let Some(heard) = heard {
        (heard.span, heard.escaped, heard.length) = (span.start + 1..span.end - 1, text.is_escaped(), None);
    }
    Some(span.end)
}

/// A block of what is left, and zeros.
#[inline]
fn last(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// The character of a valid escape whose backslash stands before `rest`: as in [`json::unescape`].
#[inline]
fn unescape(rest: &[u8]) -> Option<([u8; 4], usize, usize)> {
    let is_valid = match rest.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => true,
        b'u' => rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    };
    is_valid.then(|| json::unescape(rest))
}

/// The end of a whole number.
#[inline]
fn digits(json: &[u8], start: usize) -> Option<usize> {
    let mut pos = start;
    while json.get(pos).is_some_and(u8::is_ascii_digit) {
        pos += 1;
    }
    let is_number = pos > start && (json[start] != b'0' || pos - start == 1);
    is_number.then_some(pos)
}

#[inline]
fn spaces(json: &[u8], mut pos: usize) -> usize {
    while json.get(pos) == Some(&b' ') {
        pos += 1;
    }
    pos
}

struct Builder<'j> {
    json: &'j [u8],
    pos: usize,
    literal: Vec<u8>,
    /// How much of `literal` is values that may differ.
    still: usize,
    holes: Vec<Hole>,
}

impl Builder<'_> {
    /// What stands before `until` does not differ.
    fn copy(&mut self, until: usize) -> Option<()> {
        let piece = self.json.get(self.pos..until)?;
        if self.literal.len() - self.still + piece.len() > MAX_LITERAL {
            return None;
        }
        self.literal.extend_from_slice(piece);
        self.pos = until;
        Some(())
    }

    fn hole(&mut self, span: Range<usize>, kind: HoleKind) -> Option<()> {
        self.copy(span.start)?;
        if self.holes.len() == MAX_HOLES {
            return None;
        }
        let at = u16::try_from(self.literal.len()).ok()?;
        let is_open = kind == HoleKind::Text || self.still + span.len() > MAX_STILL;
        let held = if is_open { &[] } else { &self.json[span.clone()] };
        self.literal.extend_from_slice(held);
        self.still += held.len();
        self.holes.push(Hole { at, len: u16::try_from(held.len()).ok()?, kind, is_open });
        self.pos = span.end;
        Some(())
    }

    /// Makes a hole of the space before the last bracket.
    fn space(&mut self) {
        let Some(bracket) = memrchr(b'}', self.json) else { return };
        let before = self.json[..bracket].iter().rev().take_while(|byte| **byte == b' ').count();
        if self.holes.len() < MAX_HOLES && bracket - before >= self.pos {
            // If that is too much, so is the rest.
            _ = self.hole(bracket - before..bracket, HoleKind::Space);
        }
    }

    fn text(&mut self, span: &Range<usize>) -> Option<()> {
        let (_, found) = Cursor::at(self.json, span.start).string().ok()?;
        (found == *span).then_some(())?;
        self.hole(found, HoleKind::Text)
    }

    /// Makes holes of the strings and numbers in a value. Keys are none.
    fn free(&mut self, span: &Range<usize>) -> Option<()> {
        self.copy(span.start)?;
        let mut pos = span.start;
        while pos < span.end {
            match self.json[pos] {
                b'"' => {
                    let (_, string) = Cursor::at(self.json, pos).string().ok()?;
                    pos = string.end;
                    if Cursor::at(self.json, pos).peek() != Some(b':') {
                        self.hole(string, HoleKind::String)?;
                    }
                }
                b'0'..=b'9' => {
                    let end = digits(self.json, pos)?;
                    self.hole(pos..end, HoleKind::Digits)?;
                    // A fraction or an exponent has rules of its own.
                    pos = end;
                    while let Some(b'.' | b'e' | b'E' | b'+' | b'-' | b'0'..=b'9') = self.json.get(pos) {
                        pos += 1;
                    }
                }
                _ => pos += 1,
            }
        }
        (pos == span.end).then_some(())
    }
}

/// What an event was found to say while it was read in full.
#[derive(Debug)]
pub(crate) enum Said<A> {
    Nothing,
    /// One thing, and the span with the quotes of the string in which it says that.
    One(A, Range<usize>),
    /// More than one thing, or what is not said twice.
    More,
}

impl<A> Said<A> {
    /// Notes something that is said in this text.
    pub(crate) fn add(&mut self, what: A, json: &[u8], text: &Str<'_>) {
        *self = match (&self, span_of(json, text)) {
            (Self::Nothing, Some(span)) => Self::One(what, span),
            _ => Self::More,
        };
    }
}

/// What a member of the outermost object of an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// It is looked at.
    Read,
    /// It is not looked at, or means nothing.
    Free,
    /// It is the object whose members are looked at.
    Envelope,
}

/// The shapes that the events of one stream had lately, and what an event of each of them says.
pub(crate) struct Shapes<A> {
    /// The one that was met last stands first.
    held: Vec<(Shape, Option<A>)>,
    heard: Heard,
    /// How many events are not learned after a shape that was learned in vain.
    pause: u8,
    /// How many of them are still to come.
    paused: u8,
}

/// Where an event has to end to be one that was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// With the last byte.
    End,
    /// At a blank line, after at most so many bytes.
    BlankLine(usize),
}

impl Until {
    /// What ends at `end` is followed by what has to follow it, which ends here.
    #[inline]
    fn behind(self, json: &[u8], end: usize) -> Option<usize> {
        let Self::BlankLine(most) = self else { return (end == json.len()).then_some(end) };
        match json.get(end..)? {
            _ if end > most => None,
            [b'\n', b'\n', ..] => Some(end + 2),
            [b'\r', b'\n', b'\r', b'\n', ..] => Some(end + 4),
            _ => None,
        }
    }
}

/// A text in an event.
pub(crate) struct Text<'a> {
    written: Str<'a>,
    /// What it stands for, if that is known.
    plain: Option<&'a [u8]>,
}

impl<'a> Text<'a> {
    /// The bytes between the quotes.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.written.raw()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Hands on what it stands for, piece by piece.
    #[inline]
    pub(crate) fn decoded(&self, sink: &mut impl FnMut(&[u8])) {
        match self.plain {
            Some(plain) => sink(plain),
            None => self.written.decoded(sink),
        }
    }
}

impl<'a> From<&Str<'a>> for Text<'a> {
    fn from(written: &Str<'a>) -> Self {
        Self { written: *written, plain: None }
    }
}

/// An event that is like one that was learned.
pub(crate) struct Found<'a, A> {
    /// What it says.
    pub(crate) says: Option<A>,
    /// The text in which it says that.
    pub(crate) text: Text<'a>,
    /// Where it ends, with the blank line if one was to follow.
    pub(crate) end: usize,
}

/// How many shapes are held: in some streams, events of two kinds alternate.
const HELD: usize = 2;

/// Where no event is like another, one in so many is learned.
const MAX_PAUSE: u8 = 64;

impl<A> Default for Shapes<A> {
    fn default() -> Self {
        Self { held: Vec::new(), heard: Heard::default(), pause: 0, paused: 0 }
    }
}

impl<A: Copy> Shapes<A> {
    /// What an event says, and its text, if it is like one that was learned.
    #[inline(always)]
    pub(crate) fn find<'a>(&'a mut self, json: &'a [u8], until: Until) -> Option<Found<'a, A>> {
        let (at, end) = match self.followed(json, until) {
            Some(found) => found,
            None if until == Until::End => self.differ(json)?,
            // It may not be whole.
            None => return None,
        };
        if at > 0 {
            self.held.swap(0, at);
        }
        (self.pause, self.paused) = (0, 0);
        let (_, says) = self.held.first()?;
        let text = Text { written: self.heard.written(json), plain: self.heard.plain() };
        Some(Found { says: *says, text, end })
    }

    /// Which shape an event has that differs where others did, and where it ends.
    #[inline(always)]
    fn followed(&mut self, json: &[u8], until: Until) -> Option<(usize, usize)> {
        for (at, (shape, _)) in self.held.iter().enumerate() {
            if json.len() >= shape.least
                && let Some(end) = shape.follow(json, &mut self.heard)
                && let Some(end) = until.behind(json, end)
            {
                return Some((at, end));
            }
        }
        None
    }

    /// The same for an event that differs where none did so far.
    #[cold]
    fn differ(&mut self, json: &[u8]) -> Option<(usize, usize)> {
        let mut held = self.held.iter_mut().enumerate();
        held.find_map(|(at, (shape, _))| {
            let (end, which) = shape.differ(json, &mut self.heard).filter(|(end, _)| *end == json.len())?;
            shape.open(which);
            Some((at, end))
        })
    }

    /// Learns an event that was read in full and like none.
    pub(crate) fn learn(&mut self, json: &[u8], said: Said<A>, member: impl Fn(&[u8]) -> Member) {
        if self.paused > 0 {
            self.paused -= 1;
            return;
        }
        let (says, text) = match said {
            Said::Nothing => (None, None),
            Said::One(says, text) => (Some(says), Some(text)),
            Said::More => return,
        };
        self.pause = (2 * self.pause + 1).min(MAX_PAUSE);
        self.paused = self.pause - 1;
        let mut free = Vec::new();
        if members(&mut Cursor::new(json), &member, &mut free).is_err() {
            return;
        }
        if let Some(shape) = Shape::new(json, text, &free) {
            self.held.truncate(HELD - 1);
            self.held.insert(0, (shape, says));
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.held = Vec::new();
    }
}

/// The spans of the members that mean nothing.
fn members(
    cursor: &mut Cursor<'_>,
    member: &impl Fn(&[u8]) -> Member,
    free: &mut Vec<Range<usize>>,
) -> Result<(), Invalid> {
    cursor.object(|cursor, key| {
        match member(&key.decode()) {
            Member::Free => free.push(cursor.skip()?),
            Member::Envelope if cursor.peek() == Some(b'{') => {
                cursor.object(|cursor, key| {
                    if member(&key.decode()) == Member::Free {
                        free.push(cursor.skip()?);
                    }
                    Ok::<_, Invalid>(())
                })?;
            }
            Member::Read | Member::Envelope => {}
        }
        Ok(())
    })?;
    Ok(())
}

/// The span, with its quotes, of a string that was read from `json`.
fn span_of(json: &[u8], text: &Str<'_>) -> Option<Range<usize>> {
    let start = text.raw().as_ptr().addr().checked_sub(json.as_ptr().addr())?;
    let span = start.checked_sub(1)?..start + text.raw().len() + 1;
    (json.len() >= span.end).then_some(span)
}
