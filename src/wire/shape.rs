//! What the events of one stream have in common.
//!
//! A stream says the same thing thousands of times: one event is like the next but for a piece of text and a few
//! counters. Once an event was read in full, its [`Shape`] tells of further ones that they are the same, byte by byte, but
//! for the values that may differ. Such an event need not be read again: JSON in which the content of one string is
//! replaced by that of another valid one, or one whole number by another, is the same JSON with another value there.

use std::ops::Range;

use memchr::memchr2;

use super::json::{Cursor, Invalid, Str, is_utf8};

/// How long the parts of an event may be that do not differ.
const MAX_LITERAL: usize = 1024;

/// How many values may differ.
const MAX_HOLES: usize = 32;

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
#[derive(Clone, Debug)]
pub struct Shape {
    /// What does not differ, in order.
    literal: Vec<u8>,
    holes: Vec<Hole>,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    /// Where in `literal` the value stood.
    at: usize,
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
        let mut builder = Builder { json, pos: 0, literal: Vec::new(), holes: Vec::new() };
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
        builder.copy(json.len())?;
        (builder.literal.len() <= MAX_LITERAL && builder.holes.len() <= MAX_HOLES).then(|| {
            let Builder { mut literal, mut holes, .. } = builder;
            literal.shrink_to_fit();
            holes.shrink_to_fit();
            Self { literal, holes }
        })
    }

    /// The text in another JSON value of this shape, empty if none is looked for. `None` says that the value must be read.
    #[must_use]
    #[inline]
    pub fn find<'j>(&self, json: &'j [u8]) -> Option<Str<'j>> {
        let (text, end) = self.find_first(json)?;
        (end == json.len()).then_some(text)
    }

    /// The text in the value of this shape with which these bytes begin, and where that value ends.
    #[must_use]
    #[inline]
    pub fn find_first<'j>(&self, json: &'j [u8]) -> Option<(Str<'j>, usize)> {
        let (mut pos, mut from) = (0, 0);
        let mut text = Str::empty();
        for hole in &self.holes {
            let literal = &self.literal[from..hole.at];
            from = hole.at;
            if json.get(pos..pos + literal.len())? != literal {
                return None;
            }
            pos += literal.len();
            if hole.kind == HoleKind::Digits {
                pos = digits(json, pos)?;
                continue;
            }
            let (string, span) = Cursor::at(json, pos).string().ok()?;
            if !(string.raw().is_ascii() || is_utf8(string.raw())) {
                return None;
            }
            pos = span.end;
            if hole.kind == HoleKind::Text {
                text = string;
            }
        }
        let literal = &self.literal[from..];
        (json.get(pos..pos + literal.len())? == literal).then_some((text, pos + literal.len()))
    }
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

struct Builder<'j> {
    json: &'j [u8],
    pos: usize,
    literal: Vec<u8>,
    holes: Vec<Hole>,
}

impl Builder<'_> {
    /// What stands before `until` does not differ.
    fn copy(&mut self, until: usize) -> Option<()> {
        let piece = self.json.get(self.pos..until)?;
        if self.literal.len() + piece.len() > MAX_LITERAL {
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
        self.holes.push(Hole { at: self.literal.len(), kind });
        self.pos = span.end;
        Some(())
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
#[derive(Debug)]
pub(crate) struct Shapes<A> {
    /// The one that was met last stands first.
    held: Vec<(Shape, Option<A>)>,
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

/// An event that is like one that was learned.
pub(crate) struct Found<'j, A> {
    /// What it says.
    pub(crate) says: Option<A>,
    /// The text in which it says that.
    pub(crate) text: Str<'j>,
    /// Where it ends, with the blank line if one was to follow.
    pub(crate) end: usize,
}

/// How many shapes are held: in some streams, events of two kinds alternate.
const HELD: usize = 2;

/// Where no event is like another, one in so many is learned.
const MAX_PAUSE: u8 = 64;

impl<A> Default for Shapes<A> {
    fn default() -> Self {
        Self { held: Vec::new(), pause: 0, paused: 0 }
    }
}

impl<A: Copy> Shapes<A> {
    /// What an event says, and its text, if it is like one that was learned.
    #[inline]
    pub(crate) fn find<'j>(&mut self, json: &'j [u8], until: Until) -> Option<Found<'j, A>> {
        let mut at = 0;
        let (text, end) = loop {
            let found = self.held.get(at)?.0.find_first(json);
            if let Some((text, end)) = found
                && let Some(end) = until.behind(json, end)
            {
                break (text, end);
            }
            at += 1;
        };
        if at > 0 {
            self.held.swap(0, at);
        }
        (self.pause, self.paused) = (0, 0);
        let (_, says) = self.held.first()?;
        Some(Found { says: *says, text, end })
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
