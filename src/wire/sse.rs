//! An event stream, cut into events as it flows.
//!
//! The rules are those of the [WHATWG standard]: lines end with CR, LF or CRLF, one byte-order mark
//! may lead, `:` begins a comment, several `data` lines are joined by LF, and a blank line ends the
//! event. Two things differ, because providers need it: an event whose blank line the end of the
//! stream cuts off still counts, and a line of bare JSON is handed on as [`Frame::Stray`].
//!
//! [WHATWG standard]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

use std::fmt;
use std::mem;

use memchr::memchr2;

/// How much of a buffer stays allocated between events.
const KEEP: usize = 1024;

/// How much may stand before the data of an event that is expected again.
const MAX_HEAD: usize = 128;

/// What stands before a name, and before data, as it is written by nearly all.
const NAME: &[u8] = b"event: ";
const DATA: &[u8] = b"data: ";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a [`SseSplitter`] finds.
#[non_exhaustive]
pub enum Frame<'a> {
    /// An event with at least one `data` line.
    Event {
        /// The value of the last `event` field, empty if there is none.
        name: &'a [u8],
        /// The values of the `data` fields, joined by LF.
        data: &'a [u8],
    },
    /// A line that begins with `{` or `[`, as no field does: some providers send bare JSON when
    /// something goes wrong. It ends the event before it.
    Stray(&'a [u8]),
    /// An event over the limit. It is skipped to its end, and told once.
    Oversized,
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { name, data } => {
                f.debug_struct("Event").field("name", &name.len()).field("data", &data.len()).finish()
            }
            Self::Stray(line) => f.debug_tuple("Stray").field(&line.len()).finish(),
            Self::Oversized => f.write_str("Oversized"),
        }
    }
}

/// Cuts an event stream into events, however its bytes are split over chunks.
///
/// An event is handed on with the first byte of its blank line. One that lies in one chunk is not
/// copied. The time is linear in the bytes, also for a line of many megabytes in tiny chunks.
///
/// # Limits
///
/// Of an unfinished event at most the limit's bytes are kept: its name, its data and the line at
/// hand. Once they would be more the event is [`Frame::Oversized`]. Comments do not count.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::wire::sse::{Frame, SseSplitter};
///
/// let mut events = Vec::new();
/// let mut splitter = SseSplitter::new(64 * 1024);
/// for chunk in [&b"event: delta\nda"[..], b"ta: {}\n", b"\n"] {
///     splitter.feed(chunk, &mut |frame| {
///         if let Frame::Event { name, data } = frame {
///             events.push((name.to_vec(), data.to_vec()));
///         }
///     });
/// }
/// assert_eq!(events, [(b"delta".to_vec(), b"{}".to_vec())]);
/// ```
pub struct SseSplitter {
    limit: usize,
    /// The next byte begins an event.
    is_between: bool,
    /// How many bytes of a byte-order mark have been seen; `None` once it can come no more.
    mark: Option<usize>,
    /// The line at hand, as far as it came in earlier chunks.
    line: Vec<u8>,
    /// The line at hand has begun, and none of it is kept.
    dropping: bool,
    /// The last line ended with a CR, to which a LF now would belong.
    after_cr: bool,
    /// The event was over the limit.
    skipping: bool,
    /// The event as far as it came in earlier chunks.
    name: Vec<u8>,
    data: Vec<u8>,
    /// Where the data begins in `data`, which may be a whole line.
    data_start: usize,
    has_data: bool,
    /// What stood before the data of the last event.
    head: Vec<u8>,
    /// An event as far as it came in earlier chunks, while it has the same before its data, or some of that, and no line
    /// has ended behind that. Most events come to be known with their last byte; then no line of them is looked at.
    begun: Vec<u8>,
}

/// What of the event lies in the chunk at hand and is not copied yet.
#[derive(Default)]
struct Borrowed<'c> {
    name: Option<&'c [u8]>,
    data: Option<&'c [u8]>,
}

impl SseSplitter {
    /// A splitter that keeps at most `limit` bytes of an event.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            is_between: false,
            mark: Some(0),
            line: Vec::new(),
            dropping: false,
            after_cr: false,
            skipping: false,
            name: Vec::new(),
            data: Vec::new(),
            data_start: 0,
            has_data: false,
            head: Vec::new(),
            begun: Vec::new(),
        }
    }

    /// Reads the next bytes of the stream.
    pub fn feed(&mut self, chunk: &[u8], frames: &mut dyn FnMut(Frame<'_>)) {
        self.feed_to(chunk, &mut Blind(frames));
    }

    /// Reads the next bytes of the stream for one who may know an event before its end was looked for.
    pub(crate) fn feed_to(&mut self, chunk: &[u8], sink: &mut impl Sink) {
        let mut chunk = chunk;
        if !self.is_between {
            chunk = self.resume(chunk, sink);
        }
        while !chunk.is_empty() {
            chunk = self.whole(chunk, sink);
            if !chunk.is_empty() {
                chunk = self.lines(chunk, sink);
            }
        }
    }

    /// Reads on up to the end of the event at hand. Tells what is left.
    #[inline(never)]
    fn resume<'c>(&mut self, mut chunk: &'c [u8], sink: &mut impl Sink) -> &'c [u8] {
        while let Some(seen) = self.mark {
            let Some((first, rest)) = chunk.split_first() else {
                return chunk;
            };
            if BYTE_ORDER_MARK.get(seen) == Some(first) {
                chunk = rest;
                self.mark = (seen + 1 < BYTE_ORDER_MARK.len()).then_some(seen + 1);
            } else {
                self.mark = None;
                self.hold(&BYTE_ORDER_MARK[..seen], &Borrowed::default(), &mut |frame| sink.frame(frame));
                self.is_between = self.has_nothing();
            }
        }
        if !self.begun.is_empty() {
            chunk = self.go_on(chunk, sink);
        }
        if self.is_between || chunk.is_empty() { chunk } else { self.lines(chunk, sink) }
    }

    /// Reads the next bytes line by line, up to the end of the event at hand. Tells what is left.
    fn lines<'c>(&mut self, mut chunk: &'c [u8], sink: &mut impl Sink) -> &'c [u8] {
        let mut event = Borrowed::default();
        loop {
            if self.after_cr
                && let Some((first, rest)) = chunk.split_first()
            {
                self.after_cr = false;
                if *first == b'\n' {
                    chunk = rest;
                }
            }
            let Some(len) = line_end(chunk) else {
                break;
            };
            self.after_cr = chunk[len] == b'\r';
            let (line, rest) = (&chunk[..len], &chunk[len + 1..]);
            chunk = rest;
            self.line(line, &mut event, &mut |frame| sink.frame(frame));
            if line.is_empty() && self.has_nothing() {
                self.is_between = true;
                return chunk;
            }
        }
        self.hold(chunk, &event, &mut |frame| sink.frame(frame));
        if !self.skipping {
            if let Some(name) = event.name {
                self.name.clear();
                self.name.extend_from_slice(name);
            }
            if let Some(data) = event.data {
                append(&mut self.data, data);
            }
        }
        self.is_between = self.has_nothing();
        &[]
    }

    /// Whether there is nothing of an event.
    fn has_nothing(&self) -> bool {
        self.line.is_empty()
            && self.name.is_empty()
            && !(self.has_data || self.dropping || self.skipping)
            && self.begun.is_empty()
    }

    /// Hands on the events with which a chunk begins and that lie in it as a whole, of one line of data and perhaps a name
    /// before it, as nearly all do, and keeps what may be the beginning of another one. Tells what is left to be read
    /// line by line.
    fn whole<'c>(&mut self, mut chunk: &'c [u8], sink: &mut impl Sink) -> &'c [u8] {
        if self.after_cr
            && let Some((first, rest)) = chunk.split_first()
        {
            self.after_cr = false;
            if *first == b'\n' {
                chunk = rest;
            }
        }
        while !chunk.is_empty() {
            if !self.head.is_empty()
                && let Some(data) = chunk.strip_prefix(&*self.head)
            {
                if let Some(end) = sink.known(data, self.limit.saturating_sub(self.head.len())) {
                    chunk = data.get(end..).unwrap_or_default();
                    continue;
                }
                if line_end(data).is_none() {
                    return self.begin(chunk);
                }
            }
            match Whole::of(chunk, self.limit) {
                Ok(Whole { head, name, data, rest }) => {
                    sink.frame(Frame::Event { name, data });
                    expect(&mut self.head, &[head]);
                    chunk = rest;
                }
                Err(Some(head)) => {
                    expect(&mut self.head, &[head]);
                    return self.begin(chunk);
                }
                Err(None) if chunk.len() < self.head.len() => return self.begin(chunk),
                Err(None) => return chunk,
            }
        }
        chunk
    }

    /// Keeps the beginning of an event of which no line of data has ended, if it may be one like the last. Tells what is
    /// left to be read line by line.
    fn begin<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let head = &self.head[..chunk.len().min(self.head.len())];
        if head.is_empty() || chunk.len() > self.limit || !chunk.starts_with(head) {
            return chunk;
        }
        append(&mut self.begun, chunk);
        self.is_between = false;
        &[]
    }

    /// Reads on in an event that has begun in an earlier chunk. Tells what is left of this one.
    fn go_on<'c>(&mut self, chunk: &'c [u8], sink: &mut impl Sink) -> &'c [u8] {
        let missing = self.head.get(self.begun.len()..).unwrap_or_default();
        let (head, data) = chunk.split_at(chunk.len().min(missing.len()));
        // To compare nothing takes long where it stands nowhere: some processors look there all the same.
        if !head.is_empty() && !missing.starts_with(head) {
            return self.undo(chunk, sink);
        }
        let end = line_end(data);
        let after = match &data[end.unwrap_or(data.len())..] {
            [] => 0,
            [b'\n', b'\n', ..] => 2,
            [b'\r', b'\n', b'\r', b'\n', ..] => 4,
            _ => return self.undo(chunk, sink),
        };
        let (event, rest) = chunk.split_at(head.len() + end.unwrap_or(data.len()) + after);
        if self.begun.len() + event.len() - after > self.limit {
            return self.undo(chunk, sink);
        }
        append(&mut self.begun, event);
        if end.is_none() {
            return rest;
        }
        let mut begun = mem::take(&mut self.begun);
        if sink.known(&begun[self.head.len()..], self.limit - self.head.len()).is_none() {
            match Whole::of(&begun, self.limit) {
                Ok(Whole { name, data, .. }) => sink.frame(Frame::Event { name, data }),
                Err(_) => _ = self.lines(&begun, sink),
            }
        }
        begun.clear();
        begun.shrink_to(KEEP);
        self.begun = begun;
        self.is_between = true;
        rest
    }

    /// Reads line by line what had begun like the event before it. The chunk at hand is left.
    fn undo<'c>(&mut self, chunk: &'c [u8], sink: &mut impl Sink) -> &'c [u8] {
        let mut begun = mem::take(&mut self.begun);
        if begun.is_empty() || begun.len() < self.head.len() {
            self.lines(&begun, sink);
            begun.clear();
        } else {
            // The line of the data may be long, and is moved.
            let start = self.head.len() - DATA.len();
            self.lines(&begun[..start], sink);
            begun.drain(..start);
            give(&mut begun, &mut self.line);
            self.is_between = false;
        }
        self.begun = begun;
        chunk
    }

    /// Hands on what the end of the stream left unterminated, and begins anew.
    pub fn finish(&mut self, frames: &mut dyn FnMut(Frame<'_>)) {
        self.undo(&[], &mut Blind(&mut *frames));
        let mut event = Borrowed::default();
        if !self.line.is_empty() {
            self.line(b"", &mut event, frames);
        }
        self.dropping = false;
        self.blank(&mut event, frames);
        *self = Self::new(self.limit);
    }

    /// The data of the event at hand, of which at least one line is complete, but not the blank line
    /// after it. A client that reads line by line may act on it already.
    #[must_use]
    pub fn pending(&self) -> Option<&[u8]> {
        (self.has_data && !self.skipping).then(|| &self.data[self.data_start..])
    }

    /// How many bytes of the unfinished event are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.line.len() + self.name.len() + self.data.len() + self.begun.len()
    }

    /// Keeps the begun line, of which `part` is next.
    fn hold(&mut self, part: &[u8], event: &Borrowed<'_>, frames: &mut dyn FnMut(Frame<'_>)) {
        if part.is_empty() || self.dropping {
            return;
        }
        if self.skipping || (self.line.is_empty() && part[0] == b':') {
            self.dropping = true;
        } else if self.fits(self.line.len() + part.len(), event) {
            append(&mut self.line, part);
        } else {
            self.dropping = true;
            self.skip(frames);
        }
    }

    /// Whether the event may have a line of this length.
    fn fits(&self, line: usize, event: &Borrowed<'_>) -> bool {
        let name = event.name.map_or(self.name.len(), <[u8]>::len);
        let data = event.data.map_or(self.data.len() - self.data_start, <[u8]>::len);
        name.saturating_add(data).saturating_add(line) <= self.limit
    }

    fn skip(&mut self, frames: &mut dyn FnMut(Frame<'_>)) {
        self.skipping = true;
        self.clear();
        frames(Frame::Oversized);
    }

    /// Reads the line that ends here, of which `rest` is in the chunk at hand.
    fn line<'c>(&mut self, rest: &'c [u8], event: &mut Borrowed<'c>, frames: &mut dyn FnMut(Frame<'_>)) {
        if mem::take(&mut self.dropping) {
            return;
        }
        if self.line.is_empty() {
            if rest.is_empty() {
                self.blank(event, frames);
            } else if !self.skipping && rest[0] != b':' {
                if !self.fits(rest.len(), event) {
                    *event = Borrowed::default();
                    self.skip(frames);
                    return;
                }
                match Field::of(rest) {
                    Field::Data(start) => self.push_data(&rest[start..], event),
                    Field::Name(start) => event.name = Some(&rest[start..]),
                    Field::Stray => {
                        self.blank(event, frames);
                        frames(Frame::Stray(rest));
                    }
                    Field::Other => {}
                }
            }
            return;
        }
        if !self.fits(self.line.len() + rest.len(), event) {
            *event = Borrowed::default();
            self.skip(frames);
            return;
        }
        let mut line = mem::take(&mut self.line);
        append(&mut line, rest);
        match Field::of(&line) {
            Field::Data(start) if !self.has_data => {
                give(&mut line, &mut self.data);
                self.data_start = start;
                self.has_data = true;
            }
            Field::Data(start) => {
                self.own_data(event);
                append(&mut self.data, b"\n");
                append(&mut self.data, &line[start..]);
            }
            Field::Name(start) => {
                event.name = None;
                self.name.clear();
                self.name.extend_from_slice(&line[start..]);
            }
            Field::Stray => {
                self.blank(event, frames);
                frames(Frame::Stray(&line));
            }
            Field::Other => {}
        }
        line.clear();
        line.shrink_to(KEEP);
        self.line = line;
    }

    fn push_data<'c>(&mut self, value: &'c [u8], event: &mut Borrowed<'c>) {
        if self.has_data {
            self.own_data(event);
            append(&mut self.data, b"\n");
            append(&mut self.data, value);
        } else {
            self.has_data = true;
            event.data = Some(value);
        }
    }

    fn own_data(&mut self, event: &mut Borrowed<'_>) {
        if let Some(data) = event.data.take() {
            append(&mut self.data, data);
        }
    }

    fn blank(&mut self, event: &mut Borrowed<'_>, frames: &mut dyn FnMut(Frame<'_>)) {
        let event = mem::take(event);
        if self.has_data {
            frames(Frame::Event {
                name: event.name.unwrap_or(&self.name),
                data: event.data.unwrap_or(&self.data[self.data_start..]),
            });
            let name = event.name.unwrap_or(&self.name);
            if name.is_empty() {
                expect(&mut self.head, &[DATA]);
            } else if !self.after_cr {
                expect(&mut self.head, &[NAME, name, b"\n", DATA]);
            }
        }
        self.skipping = false;
        self.clear();
    }

    /// Forgets the event, and gives back the memory that a large one took.
    fn clear(&mut self) {
        for buffer in [&mut self.line, &mut self.name, &mut self.data] {
            buffer.clear();
            buffer.shrink_to(KEEP);
        }
        self.data_start = 0;
        self.has_data = false;
    }
}

/// Who takes in what is found.
pub(crate) trait Sink {
    fn frame(&mut self, frame: Frame<'_>);

    /// Takes in the event whose data these bytes begin with, if it can be told what it is and that it ends here: with a
    /// blank line, after at most so many bytes. Tells where the next event begins.
    fn known(&mut self, data: &[u8], most: usize) -> Option<usize>;
}

/// One who knows no event.
struct Blind<'f>(&'f mut dyn FnMut(Frame<'_>));

impl Sink for Blind<'_> {
    fn frame(&mut self, frame: Frame<'_>) {
        (self.0)(frame);
    }

    fn known(&mut self, _: &[u8], _: usize) -> Option<usize> {
        None
    }
}

/// An event that lies in one chunk, and has one line of data and perhaps a name before it.
struct Whole<'c> {
    /// What stands before the data.
    head: &'c [u8],
    name: &'c [u8],
    data: &'c [u8],
    /// What follows the line end after it.
    rest: &'c [u8],
}

impl<'c> Whole<'c> {
    /// The event with which a chunk begins; or what stands there before the data, if no line of that has ended.
    #[inline]
    fn of(chunk: &'c [u8], limit: usize) -> Result<Self, Option<&'c [u8]>> {
        let (mut name, mut rest) = (&chunk[..0], chunk);
        if let Some(value) = rest.strip_prefix(NAME) {
            let (line, after) = line(value).ok_or(None)?;
            if line.len() + NAME.len() > limit {
                return Err(None);
            }
            (name, rest) = (line, after);
        }
        let value = rest.strip_prefix(DATA).ok_or(None)?;
        let head = &chunk[..chunk.len() - value.len()];
        let end = line_end(value).ok_or(Some(head))?;
        let (data, rest) = match value.split_at(end) {
            (data, [b'\n', b'\n', rest @ ..] | [b'\r', b'\n', b'\n', rest @ ..]) => (data, rest),
            (data, [b'\n', b'\r', b'\n', rest @ ..] | [b'\r', b'\n', b'\r', b'\n', rest @ ..]) => (data, rest),
            _ => return Err(None),
        };
        let fits = name.len().saturating_add(data.len()).saturating_add(DATA.len()) <= limit;
        if fits { Ok(Self { head, name, data, rest }) } else { Err(None) }
    }
}

/// Takes in what stands before the data of an event, in pieces.
fn expect(head: &mut Vec<u8>, pieces: &[&[u8]]) {
    let rest = pieces.iter().try_fold(&head[..], |rest, piece| rest.strip_prefix(*piece));
    if rest.is_none_or(|rest| !rest.is_empty()) {
        head.clear();
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() <= MAX_HEAD {
            pieces.iter().for_each(|piece| head.extend_from_slice(piece));
        }
    }
}

/// Hands on what a buffer holds to an empty one. What is small is copied, so that each comes to have room of its own.
fn give(from: &mut Vec<u8>, to: &mut Vec<u8>) {
    if from.len() <= KEEP {
        append(to, from);
        from.clear();
    } else {
        mem::swap(from, to);
    }
}

/// Takes in more of what is not whole. A large buffer grows by an eighth, so that it holds little more than that.
pub(super) fn append(buffer: &mut Vec<u8>, part: &[u8]) {
    if buffer.capacity() - buffer.len() < part.len() {
        buffer.reserve_exact(part.len().max(buffer.len().clamp(KEEP / 4, KEEP)).max(buffer.len() / 8));
    }
    buffer.extend_from_slice(part);
}

/// Where the line at hand ends. A few bytes are looked at one by one.
#[inline]
fn line_end(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < 16 {
        return bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    }
    memchr2(b'\n', b'\r', bytes)
}

/// A line that LF or CRLF ends, and what follows that.
#[inline]
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr2(b'\n', b'\r', bytes)?;
    let rest = match &bytes[end..] {
        [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => rest,
        _ => return None,
    };
    Some((&bytes[..end], rest))
}

impl fmt::Debug for SseSplitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseSplitter")
            .field("limit", &self.limit)
            .field("buffered", &self.buffered())
            .field("skipping", &self.skipping)
            .finish_non_exhaustive()
    }
}

/// What a line holds, and where its value begins.
enum Field {
    Data(usize),
    Name(usize),
    Stray,
    Other,
}

impl Field {
    fn of(line: &[u8]) -> Self {
        let value = |rest: &[u8]| match rest {
            [] => Some(line.len()),
            [b':', b' ', ..] => Some(line.len() - rest.len() + 2),
            [b':', ..] => Some(line.len() - rest.len() + 1),
            _ => None,
        };
        if let Some(start) = line.strip_prefix(b"data").and_then(value) {
            Self::Data(start)
        } else if let Some(start) = line.strip_prefix(b"event").and_then(value) {
            Self::Name(start)
        } else if matches!(line.first(), Some(b'{' | b'[')) {
            Self::Stray
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Event(Vec<u8>, Vec<u8>),
        Stray(Vec<u8>),
        Oversized,
    }

    fn event(name: &str, data: &str) -> Seen {
        Seen::Event(name.into(), data.into())
    }

    fn seen(frame: &Frame<'_>) -> Seen {
        match frame {
            Frame::Event { name, data } => Seen::Event(name.to_vec(), data.to_vec()),
            Frame::Stray(line) => Seen::Stray(line.to_vec()),
            Frame::Oversized => Seen::Oversized,
        }
    }

    fn split<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
        let mut splitter = SseSplitter::new(limit);
        let mut frames = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, &mut |frame| frames.push(seen(&frame)));
            assert!(splitter.buffered() <= limit + "data: ".len());
        }
        splitter.finish(&mut |frame| frames.push(seen(&frame)));
        frames
    }

    fn whole(stream: &str) -> Vec<Seen> {
        split(usize::MAX / 2, [stream.as_bytes()])
    }

    /// The standard's rules, one line after the other.
    fn oracle(stream: &[u8]) -> Vec<Seen> {
        let text = String::from_utf8_lossy(stream);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut frames = Vec::new();
        let (mut name, mut data) = ("", None::<String>);
        for line in text.split('\n').chain([""]) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            if line.is_empty() {
                frames.extend(data.take().map(|data| event(name, &data)));
                name = "";
            } else if line.starts_with(['{', '[']) {
                frames.extend(data.take().map(|data| event(name, &data)));
                name = "";
                frames.push(Seen::Stray(line.into()));
            } else if field == "event" {
                name = value;
            } else if field == "data" {
                data = Some(data.map_or(value.into(), |data| data + "\n" + value));
            }
        }
        frames
    }

    #[test]
    fn follows_the_examples_of_the_standard() {
        assert_eq!(whole("data: YHOO\ndata: +2\ndata: 10\n\n"), [event("", "YHOO\n+2\n10")]);
        assert_eq!(
            whole(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event"),
            [event("", "first event"), event("", "second event"), event("", " third event")]
        );
        assert_eq!(whole("data\n\ndata\ndata\n\ndata:"), [event("", ""), event("", "\n"), event("", "")]);
        assert_eq!(whole("data:test\n\ndata: test\n\n"), [event("", "test"), event("", "test")]);
    }

    #[test]
    fn knows_names_marks_and_line_ends() {
        assert_eq!(
            whole("\u{feff}event: a\r\ndata: 1\r\n\r\nevent: b\rdata: 2\r\rdata: 3\n\n"),
            [event("a", "1"), event("b", "2"), event("", "3")]
        );
        assert_eq!(whole("event: a\n\ndata: 1\n\n"), [event("", "1")], "an event needs data");
        assert_eq!(whole("event: a\nevent: b\ndata: 1\n\n"), [event("b", "1")]);
        assert_eq!(whole("\u{feff}\u{feff}data: 1\n\n"), [], "the second mark is part of the field");
        assert_eq!(whole("datas: 1\ndat: 2\n\n"), []);
    }

    #[test]
    fn an_event_comes_with_the_first_byte_of_its_blank_line() {
        for (stream, rest) in [("data: 1\r\n\r", "\n"), ("data: 1\n\n", ""), ("data: 1\r\r", "")] {
            let mut splitter = SseSplitter::new(100);
            let mut frames = Vec::new();
            for byte in stream.as_bytes().chunks(1) {
                assert!(frames.is_empty());
                splitter.feed(byte, &mut |frame| frames.push(seen(&frame)));
            }
            assert_eq!(frames, [event("", "1")]);
            splitter.feed(rest.as_bytes(), &mut |_| panic!("nothing follows"));
            splitter.finish(&mut |_| panic!("nothing follows"));
        }
    }

    #[test]
    fn an_event_in_one_chunk_is_not_copied() {
        let stream = b": hello\nevent: a\ndata: 1\n\ndata: 2\n\n";
        let mut splitter = SseSplitter::new(100);
        let mut frames = 0;
        splitter.feed(stream, &mut |frame| {
            if let Frame::Event { data, .. } = frame {
                frames += 1;
                assert!(stream.as_ptr_range().contains(&data.as_ptr()));
            }
        });
        assert_eq!(frames, 2);
        assert_eq!(splitter.data.capacity() + splitter.line.capacity(), 0);
    }

    #[test]
    fn bare_json_is_handed_on() {
        let stream = "data: 1\n{\"error\":1}\ndata: 2\n\n[{\"error\": 2}]";
        let stray = |line: &str| Seen::Stray(line.into());
        let frames = [event("", "1"), stray("{\"error\":1}"), event("", "2"), stray("[{\"error\": 2}]")];
        assert_eq!(whole(stream), frames);
        assert_eq!(split(100, stream.as_bytes().chunks(3)), frames);
    }

    #[test]
    fn an_event_over_the_limit_is_skipped_and_told_once() {
        let stream = b"event: x\ndata: 0123456789\ndata: 0123456789\ndata: 0\n\nevent: y\ndata: 1\n\n\
            data: 01234567890123456789\n{}\n\n: 0123456789012345678901234567890\ndata: 2\n\ndata: 3";
        let frames = [Seen::Oversized, event("y", "1"), Seen::Oversized, event("", "2"), event("", "3")];
        for size in [1, 2, 7, 1000] {
            assert_eq!(split(20, stream.chunks(size)), frames, "{size}");
        }
    }

    #[test]
    fn an_event_that_goes_on_like_another_begins_is_one() {
        let begin = &b"data: 1\n\ndata: a"[..];
        assert_eq!(split(100, [begin, b"data: b\n\r\n"]), [event("", "1"), event("", "adata: b")]);
        assert_eq!(split(12, [begin, b"data: bcdef"]), [event("", "1"), Seen::Oversized]);
    }

    #[test]
    fn a_large_event_leaves_no_large_buffer() {
        let mut splitter = SseSplitter::new(1 << 22);
        splitter.feed(b"data: ", &mut |_| {});
        for _ in 0..1000 {
            splitter.feed(&[b'x'; 1024], &mut |_| {});
        }
        let capacity = |splitter: &SseSplitter| {
            let buffers = [&splitter.line, &splitter.data, &splitter.name, &splitter.begun];
            buffers.map(Vec::capacity).iter().sum::<usize>()
        };
        let held = capacity(&splitter);
        assert!(held <= splitter.buffered() + splitter.buffered() / 8 + KEEP);
        splitter.feed(b"\r\n", &mut |_| {});
        assert!(capacity(&splitter) <= held + KEEP, "the line is moved");
        splitter.feed(b"\r\n", &mut |_| {});
        assert!(capacity(&splitter) <= 8 * KEEP);
        assert_eq!(splitter.buffered(), 0);
    }

    #[test]
    fn a_line_of_megabytes_in_single_bytes_takes_linear_time() {
        let mut stream = b"data: ".to_vec();
        stream.resize(4 << 20, b'x');
        let frames = split(8 << 20, stream.chunks(1));
        assert_eq!(frames, [Seen::Event(Vec::new(), stream[6..].to_vec())]);
    }

    /// One who knows events of `a`.
    #[derive(Default)]
    struct Knowing(Vec<Seen>);

    impl Sink for Knowing {
        fn frame(&mut self, frame: Frame<'_>) {
            self.0.push(seen(&frame));
        }

        fn known(&mut self, data: &[u8], most: usize) -> Option<usize> {
            let length = data.iter().take_while(|byte| **byte == b'a').count();
            let after = [&b"\n\n"[..], b"\r\n\r\n"].into_iter().find(|end| data[length..].starts_with(end))?;
            (0 < length && length <= most).then(|| self.0.push(event("", &"a".repeat(length))))?;
            Some(length + after.len())
        }
    }

    const LINES: &str = "((data|event|id|retry|dat|)(:| : |: |)([a-z:\u{e9}{]{0,4})|\\{[a-z:]{0,3}|\\[)";

    proptest! {
        #[test]
        fn frames_are_those_of_the_standard(
            mark: bool,
            lines in prop::collection::vec((LINES, "\r|\n|\r\n|\n\n|\r\n\r\n|\r\r"), 0..12),
            size in 1..9usize,
        ) {
            let mut stream = if mark { "\u{feff}".to_owned() } else { String::new() };
            for (line, end) in lines {
                stream += &line;
                stream += &end;
            }
            let stream = stream.as_bytes();
            prop_assert_eq!(split(1 << 20, [stream]), oracle(stream));
            prop_assert_eq!(split(1 << 20, stream.chunks(size)), oracle(stream));
        }

        /// It does not matter either whether an event is known with its last byte or read.
        #[test]
        fn known_events_are_the_same(
            events in prop::collection::vec(
                "(event: [ab]\r?\n|: c\n)?(data: [a{]{0,6}(data: a)?(\r\n|\n|\r)){1,2}(\r\n|\n|\r)|\\{\n", 1..8),
            size in 1..24usize,
            limit in 0..24usize,
        ) {
            let stream = events.concat();
            for limit in [limit, 1 << 20] {
                let (mut splitter, mut knowing) = (SseSplitter::new(limit), Knowing::default());
                for chunk in stream.as_bytes().chunks(size) {
                    splitter.feed_to(chunk, &mut knowing);
                }
                splitter.finish(&mut |frame| knowing.frame(frame));
                let data = |seen: &Seen| if let Seen::Event(_, data) = seen { event("", str::from_utf8(data).unwrap()) } else { seen.clone() };
                let seen: Vec<_> = split(limit, [stream.as_bytes()]).iter().map(data).collect();
                prop_assert_eq!(knowing.0.iter().map(data).collect::<Vec<_>>(), seen);
            }
        }

        #[test]
        fn chunks_do_not_matter(
            stream in prop::collection::vec(
                prop::sample::select(&b"\xef\xbb\xbf\r\n\n: {[datevnx\xff"[..]), 0..60),
            tokens in prop::collection::vec("data: |data:|event:|: |\n|\n\n|\r|[a-z]{0,5}", 0..16),
            size in 1..9usize,
            limit in 0..24usize,
        ) {
            for stream in [&stream[..], tokens.concat().as_bytes()] {
                prop_assert_eq!(split(limit, stream.chunks(size)), split(limit, [stream]));
            }
        }
    }
}
