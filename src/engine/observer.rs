//! Reads a response as it flows.

use std::{fmt, sync::Arc};

use http::{HeaderMap, header::CONTENT_ENCODING};

use super::{
    Event, Report, Shared, Unobserved,
    commit::{Commit, Line},
    refusal::{self, Refusal, Verdict},
    restore::PutIn,
};
use crate::{
    dialect::{Dialect, Known, Progress, Recorder},
    ledger::{Alternative, Anchor, Context, ItemRef, Premise, Turn, TurnId},
    scope::Scope,
    wire::{
        json::Cursor,
        shape::Until,
        sse::{Frame, Sink, SseSplitter},
        stream::{Element, JsonSplitter},
    },
};

/// Watches one response. It copies no more than an unfinished event, and keeps no more than what is
/// to be remembered.
///
/// [`feed`](Self::feed) it every piece of the body before that is passed on, then tell it how the body
/// ended: [`finish`](Self::finish) or [`interrupted`](Self::interrupted). A pipeline that has events and not bytes
/// gives it those, with [`feed_event`](Self::feed_event).
///
/// # Limits
///
/// An event over [`max_event`](super::Builder::max_event), or an answer over [`max_turn`](super::Builder::max_turn), ends the
/// observation: nothing of the response is remembered, and the [`Report`] says so. Memory does not grow with the
/// length of the stream, only with what is kept of it.
pub struct Observer {
    framing: Framing,
    reader: Reader,
}

/// Reads the events.
struct Reader {
    shared: Arc<Shared>,
    dialect: &'static dyn Dialect,
    scope: Scope,
    report: Report,
    recorder: Box<dyn Recorder>,
    id: TurnId,
    context: Context,
    premise: Option<Premise>,
    /// Tenant, provenance and model: of which of them it is noted that the provider binds thoughts.
    told_by: Option<Scope>,
    /// Digests of the parts that stood in the history, sorted, to count equal ones.
    stood: Box<[u32]>,
    /// What the request put in, to be forgotten if the stream says that it was bad.
    put_in: Vec<PutIn>,
    /// Where a store has to be waited for.
    line: Option<Line>,
    committed: bool,
    /// A part or a piece of state came that was not handed out to be stored.
    unstored: bool,
    ended: bool,
    over: bool,
    /// What the piece at hand leads to, if it leads to something.
    change: Option<Box<Change>>,
}

/// How the body is cut into events.
enum Framing {
    /// Nothing but white space was seen.
    Unknown,
    Sse {
        splitter: SseSplitter,
        read_ahead: ReadAhead,
    },
    Json(JsonSplitter),
    /// Nothing can be read, or nothing need be read any more.
    Off,
}

/// Whether the event that the splitter will give next was read when its line was complete.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ReadAhead {
    #[default]
    No,
    /// Its first line was no document of its own. It is not tried again, however many lines follow.
    Tried,
    Read,
}

pub(super) struct ObserverParts {
    pub(super) dialect: &'static dyn Dialect,
    pub(super) scope: Scope,
    pub(super) report: Report,
    pub(super) recorder: Box<dyn Recorder>,
    pub(super) id: TurnId,
    pub(super) context: Context,
    pub(super) premise: Option<Premise>,
    pub(super) told_by: Option<Scope>,
    pub(super) stood: Box<[u32]>,
    pub(super) put_in: Vec<PutIn>,
}

/// The digest of an anchor in [`Observer::stood`].
pub(super) fn stood_digest(anchor: &Anchor) -> u32 {
    let bytes = anchor.as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

impl Observer {
    pub(super) fn new(shared: &Arc<Shared>, parts: ObserverParts, headers: &HeaderMap) -> Self {
        let ObserverParts { dialect, scope, report, recorder, id, context, premise, told_by, stood, put_in } = parts;
        let line = (!shared.store.appends_inline()).then(Line::default);
        let mut reader = Reader {
            shared: shared.clone(),
            dialect,
            scope,
            report,
            recorder,
            id,
            context,
            premise,
            told_by,
            stood,
            put_in,
            line,
            committed: false,
            unstored: false,
            ended: false,
            over: false,
            change: None,
        };
        let coding = headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes().to_ascii_lowercase());
        if coding.is_some_and(|coding| !matches!(&*coding, b"" | b"identity")) {
            reader.give_up(Unobserved::Encoded);
        }
        Self { framing: Framing::Unknown, reader }
    }

    /// Takes in a piece of the body. A commit that it gives is to be run before the piece is passed on.
    pub fn feed(&mut self, piece: &[u8]) -> Option<Commit> {
        if self.read(piece) { self.commit() } else { None }
    }

    /// Takes in a piece of the body, and tells whether there is something to [`commit`](Self::commit).
    #[inline(always)]
    pub(crate) fn read(&mut self, piece: &[u8]) -> bool {
        let reader = &mut self.reader;
        match &mut self.framing {
            Framing::Sse { splitter, read_ahead } if !reader.over => {
                splitter.feed_to(piece, &mut Events { reader, read_ahead });
                if let Some(data) = splitter.pending() {
                    reader.read_ahead(data, read_ahead);
                }
            }
            _ => self.read_otherwise(piece),
        }
        if self.reader.over {
            self.framing = Framing::Off;
        }
        self.reader.change.is_some()
    }

    /// Takes in a piece of what is no event stream, or not yet.
    #[cold]
    fn read_otherwise(&mut self, piece: &[u8]) {
        if let Framing::Unknown = self.framing {
            self.recognise(piece);
        }
        if self.reader.over {
            return;
        }
        let reader = &mut self.reader;
        match &mut self.framing {
            Framing::Sse { splitter, read_ahead } => {
                splitter.feed_to(piece, &mut Events { reader, read_ahead });
                if let Some(data) = splitter.pending() {
                    reader.read_ahead(data, read_ahead);
                }
            }
            Framing::Json(splitter) => splitter.feed(piece, &mut |element| reader.element(&element)),
            Framing::Unknown | Framing::Off => {}
        }
    }

    pub(crate) fn commit(&mut self) -> Option<Commit> {
        self.reader.commit()
    }

    /// Takes in one event of a stream that was cut into events before: the data of a server-sent event, or an element
    /// of a streamed array, without its framing. A whole JSON answer is one such event. A commit that it gives is
    /// to be run before the event is passed on.
    ///
    /// It leads to the same turn as [`feed`](Self::feed) of the framed bytes. Do not mix the two for one response.
    pub fn feed_event(&mut self, data: &[u8]) -> Option<Commit> {
        let reader = &mut self.reader;
        if data.len() > reader.shared.config.max_event {
            reader.give_up(Unobserved::TooLarge);
        } else {
            reader.event(document(data));
        }
        reader.commit()
    }

    /// The body has come to its end. Call it once; without a terminal event it is as if the body
    /// broke off.
    pub fn finish(&mut self) -> Option<Commit> {
        let reader = &mut self.reader;
        match std::mem::replace(&mut self.framing, Framing::Off) {
            Framing::Sse { mut splitter, mut read_ahead } => {
                splitter.finish(&mut |frame| {
                    // What is left may be the first half of an event.
                    let whole = !matches!(&frame, Frame::Event { data, .. } if !is_document(document(data)));
                    if whole {
                        reader.frame(&frame, &mut read_ahead);
                    }
                });
            }
            Framing::Json(mut splitter) => splitter.finish(&mut |element| reader.element(&element)),
            Framing::Unknown | Framing::Off => {}
        }
        reader.commit().or_else(|| self.interrupted())
    }

    /// The body broke off, or nobody wants the rest. Complete parts are kept, provisionally.
    pub fn interrupted(&mut self) -> Option<Commit> {
        self.framing = Framing::Off;
        self.reader.interrupted()
    }

    /// Whether the body is not read any further; then it need not be fed. [`Report`] says why.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.reader.over
    }

    fn recognise(&mut self, piece: &[u8]) {
        let piece = piece.strip_prefix(b"\xef\xbb\xbf").unwrap_or(piece);
        if piece.first() == Some(&0x1f) {
            return self.reader.give_up(Unobserved::Encoded);
        }
        let max_event = self.reader.shared.config.max_event;
        self.framing = match piece.trim_ascii_start().first() {
            None => Framing::Unknown,
            Some(b'{' | b'[') => Framing::Json(JsonSplitter::new(max_event)),
            Some(_) => Framing::Sse { splitter: SseSplitter::new(max_event), read_ahead: ReadAhead::No },
        };
    }
}

impl Reader {
    fn interrupted(&mut self) -> Option<Commit> {
        if std::mem::replace(&mut self.over, true) || self.committed || self.ended {
            return None;
        }
        self.report.unobserved(Unobserved::Interrupted);
        self.turn(false)
    }

    fn frame(&mut self, frame: &Frame<'_>, read_ahead: &mut ReadAhead) {
        match frame {
            Frame::Event { .. } if std::mem::take(read_ahead) == ReadAhead::Read => {}
            Frame::Event { data, .. } => self.event(document(data)),
            // Some providers send an error as a bare line.
            Frame::Stray(line) => self.event(line),
            Frame::Oversized => {
                *read_ahead = ReadAhead::No;
                self.give_up(Unobserved::TooLarge);
            }
        }
    }

    /// A client that reads line by line acts on an event before the blank line after it.
    #[cold]
    fn read_ahead(&mut self, data: &[u8], read_ahead: &mut ReadAhead) {
        if *read_ahead != ReadAhead::No {
            return;
        }
        *read_ahead = ReadAhead::Tried;
        let first = first_line(data);
        if is_document(first) {
            *read_ahead = ReadAhead::Read;
            self.event(first);
        }
    }

    fn element(&mut self, element: &Element<'_>) {
        match element {
            Element::Value(value) => self.event(value),
            Element::Oversized => self.give_up(Unobserved::TooLarge),
            Element::End => {}
        }
    }

    fn event(&mut self, json: &[u8]) {
        // Relays keep a stream alive with empty events, and end those of every protocol alike.
        if self.over || matches!(json.trim_ascii(), b"" | b"[DONE]") {
            return;
        }
        let progress = self.recorder.event(json);
        self.note(json, progress);
    }

    /// Takes in an event that is known from earlier ones, and tells where the next one begins.
    #[inline]
    fn known(&mut self, data: &[u8], most: usize) -> Option<usize> {
        // What comes after the end is read.
        if self.over || self.ended {
            return None;
        }
        let Known { end, changed, over_bounds } = self.recorder.again(data, Until::BlankLine(most))?;
        self.unstored |= changed;
        if over_bounds {
            self.give_up(Unobserved::TooLarge);
        }
        Some(end)
    }

    /// Acts on what an event brought.
    fn note(&mut self, json: &[u8], progress: Progress) {
        if progress.missing {
            self.shared.count(self.dialect.name(), Event::FinishedMissing);
        }
        if progress.bound {
            self.shared.note_bound(self.told_by);
        }
        if progress.error {
            return self.failed(json);
        }
        if progress.unobservable {
            let reason = if progress.over_bounds { Unobserved::TooLarge } else { Unobserved::Malformed };
            return self.give_up(reason);
        }
        self.ended = progress.ended;
        // What follows the end in the same piece of the body, or makes it unreadable, takes nothing
        // back. After the end, only what adds something is worth another append.
        self.unstored |= progress.changed;
        if self.ended && (self.unstored || !self.committed) {
            if let Some(turn) = self.turn(true) {
                self.change().turn = Some(turn);
                self.committed = true;
            }
            self.unstored = false;
        }
    }

    /// A terminal error: nothing of the turn is kept, and what it says is bad is forgotten.
    fn failed(&mut self, json: &[u8]) {
        self.over = true;
        self.report.unobserved(Unobserved::Failed);
        let verdict = refusal::classify_event(json);
        if verdict.as_ref().is_some_and(|verdict| verdict.bound) {
            self.shared.note_bound(self.told_by);
        }
        let name = self.dialect.name();
        let put_in = !self.put_in.is_empty();
        match verdict {
            Some(Verdict { refusal: Refusal::Missing, .. }) => self.shared.count(name, Event::RefusedMissing),
            Some(Verdict { refusal: Refusal::Structure, .. }) if put_in => {
                self.shared.count(name, Event::RefusedStructure);
            }
            Some(Verdict { refusal: Refusal::Invalid, place, .. }) if put_in => {
                self.shared.count(name, Event::RefusedInvalid);
                let bad = self.put_in.iter().filter(|placed| placed.is_at(&place));
                let bad = bad.map(|placed| placed.item).collect();
                self.change().forget = bad;
            }
            _ => {}
        }
        if self.committed {
            // The end was seen before the error, so the turn is stored already.
            let items = self.items();
            self.change().forget.extend(items);
        }
    }

    /// Where the items of this response are held once it is stored.
    fn items(&self) -> Vec<ItemRef> {
        let alternatives = self.recorder.turn(true);
        let items = (0..).zip(&alternatives).flat_map(|(at, alternative)| {
            let parts = (0..).zip(&alternative.parts);
            let holds = parts.filter(|(_, part)| part.state.is_some() || part.whole.is_some());
            holds.map(move |(part, _)| ItemRef::new(self.id, at, part))
        });
        items.collect()
    }

    fn give_up(&mut self, reason: Unobserved) {
        if !std::mem::replace(&mut self.over, true) {
            self.report.unobserved(reason);
            self.shared.count(self.dialect.name(), Event::Unobserved);
            tracing::debug!(dialect = self.dialect.name(), ?reason, "the response is not observed");
        }
    }

    fn change(&mut self) -> &mut Change {
        self.change.get_or_insert_default()
    }

    /// What is to be run now.
    fn commit(&mut self) -> Option<Commit> {
        let change = self.change.take()?;
        let (shared, name) = (&self.shared, self.dialect.name());
        if !change.forget.is_empty() {
            let commit = Commit::remove(shared, name, self.scope, change.forget, &self.report);
            return Some(self.in_line(commit));
        }
        change.turn
    }

    fn turn(&self, complete: bool) -> Option<Commit> {
        let mut alternatives = self.recorder.turn(complete);
        let carries = |alternative: &Alternative| {
            alternative.parts.iter().any(|part| part.state.is_some() || part.whole.is_some())
        };
        if !alternatives.iter().any(carries) {
            return None;
        }
        for part in alternatives.iter_mut().flat_map(|alternative| &mut alternative.parts) {
            let digest = stood_digest(&part.anchor);
            let from = self.stood.partition_point(|held| *held < digest);
            let until = self.stood.partition_point(|held| *held <= digest);
            part.occurrence = u32::try_from(until - from).unwrap_or(u32::MAX);
        }
        let turn = Turn::new(self.id, self.context.clone(), alternatives, !complete);
        let turn = turn.with_premise(self.premise.clone());
        let commit = Commit::append(&self.shared, self.dialect.name(), self.scope, turn, &self.report);
        Some(self.in_line(commit))
    }

    fn in_line(&self, commit: Commit) -> Commit {
        match &self.line {
            Some(line) => commit.in_line(line),
            None => commit,
        }
    }
}

/// Shows the events of a stream to their reader.
struct Events<'o> {
    reader: &'o mut Reader,
    read_ahead: &'o mut ReadAhead,
}

impl Sink for Events<'_> {
    fn frame(&mut self, frame: Frame<'_>) {
        self.reader.frame(&frame, self.read_ahead);
    }

    #[inline]
    fn known(&mut self, data: &[u8], most: usize) -> Option<usize> {
        if *self.read_ahead != ReadAhead::No {
            return None;
        }
        self.reader.known(data, most)
    }
}

fn first_line(data: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', data).map_or(data, |end| &data[..end])
}

/// What of an event's data is read: its first line if that is a document, for it may have been read
/// when it was complete; else all lines.
fn document(data: &[u8]) -> &[u8] {
    let first = first_line(data);
    if first.len() < data.len() && is_document(first) { first } else { data }
}

/// Whether a line of data is an event of its own, as far as its ends tell.
fn is_document(data: &[u8]) -> bool {
    let mut cursor = Cursor::new(data);
    cursor.peek() == Some(b'{') && cursor.skip().is_ok() && cursor.end().is_ok()
}

/// What a piece of the body leads to.
#[derive(Default)]
struct Change {
    turn: Option<Commit>,
    forget: Vec<ItemRef>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("dialect", &self.reader.dialect.name())
            .field("ended", &self.reader.ended)
            .field("committed", &self.reader.committed)
            .field("over", &self.reader.over)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use bytes::Bytes;

    use super::Observer;
    use crate::{Engine, MemoryStore, engine::Answer, scope::Session};

    fn now<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("a memory store never waits"),
        }
    }

    /// How many turns and items are stored of a response that comes in pieces of this size.
    fn stored(response: &str, size: usize) -> (usize, usize) {
        observed(|observer| {
            for piece in response.as_bytes().chunks(size) {
                if let Some(commit) = observer.feed(piece) {
                    now(commit.run());
                }
            }
        })
    }

    /// How many turns and items are stored of a response whose events come one by one.
    fn stored_of_events(events: &[&str]) -> (usize, usize) {
        observed(|observer| {
            for event in events {
                if let Some(commit) = observer.feed_event(event.as_bytes()) {
                    now(commit.run());
                }
            }
        })
    }

    /// How many turns and items are stored of what the observer is given.
    fn observed(give: impl FnOnce(&mut Observer)) -> (usize, usize) {
        let store = MemoryStore::new();
        let engine = Engine::builder(store.clone()).max_event(1 << 10).build().unwrap();
        let request = http::Request::post("https://generativelanguage.googleapis.com/v1/models/m:generateContent");
        let mut head = request.body(()).unwrap().into_parts().0;
        head.extensions.insert(Session::new("s"));
        let body = Bytes::from_static(b"{\"contents\":[]}");
        let mut exchange = now(engine.prepare(engine.watch(&head).unwrap(), &head, body));
        let answer = http::Response::new(()).into_parts().0;
        let Answer::Observe(mut observer) = exchange.answer(&answer) else { panic!("a success is observed") };
        give(&mut observer);
        if let Some(commit) = observer.finish() {
            now(commit.run());
        }
        (store.snapshot().turns, store.snapshot().items)
    }

    const TURN: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\"},\
        \"thoughtSignature\":\"0123456789abcdef\"}]},\"finishReason\":\"STOP\"}]}\n\n";

    /// Rule 8: the end is the end, whatever comes after it in the same piece.
    #[test]
    fn how_a_body_is_cut_does_not_matter() {
        for rest in [
            "",
            "data: {\"candidates\":[{\n\n",
            "data: nonsense\n\n",
            "data: {\"candidates\":[{\"index\":1,\"content\":{\"parts\":[{\"text\":\"x\"}]}}]}\n\n",
        ] {
            let response = format!("{TURN}{rest}");
            for size in [1, 7, 100, response.len()] {
                assert_eq!(stored(&response, size), (1, 2), "{rest} in pieces of {size}");
            }
        }
    }

    /// Rule 9: an error takes the turn back, also behind what looked like its end.
    #[test]
    fn an_error_after_the_end_takes_the_turn_back() {
        let response = format!("{TURN}data: {{\"error\":{{\"code\":500}}}}\n\n");
        for size in [1, 7, 100, response.len()] {
            assert_eq!(stored(&response, size), (0, 0), "in pieces of {size}");
        }
    }

    #[test]
    fn the_first_line_of_an_event_counts_if_it_is_a_document() {
        let response = TURN.replace("}]}\n\n", "}]}\ndata: {\"candidates\":[{\n\n");
        assert!(response.lines().count() > 2);
        for size in [1, 7, 100, response.len()] {
            assert_eq!(stored(&response, size), (1, 2), "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_of_several_lines_is_read_once_it_is_whole() {
        let response = TURN.replace("},\"finish", "}\ndata: ,\"finish");
        assert!(response.lines().count() > 2);
        for size in [1, 7, response.len()] {
            assert_eq!(stored(&response, size), (1, 2), "in pieces of {size}");
        }
    }

    /// Whoever has cut the stream into events learns what the bytes would have taught.
    #[test]
    fn an_event_without_its_frame_counts_as_one_with_it() {
        let turn = TURN.strip_prefix("data: ").unwrap().trim_end();
        let error = "{\"error\":{\"code\":500}}";
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 10));
        for events in [
            &[turn][..],
            &[turn, "[DONE]"],
            &["", turn, "nonsense"],
            &[turn, error],
            &[error, turn],
            &[&turn.replace("STOP", "")],
            &[&turn.replace(",\"finishReason\":\"STOP\"", "")],
            &[&long, turn],
            &[turn, &long],
            &[&format!("{turn}\n{{")],
        ] {
            let lines = |event: &str| format!("data: {}\n\n", event.replace('\n', "\ndata: "));
            let framed: String = events.iter().map(|event| lines(event)).collect();
            for size in [1, 7, framed.len()] {
                assert_eq!(stored_of_events(events), stored(&framed, size), "{events:?} in pieces of {size}");
            }
        }
        assert_eq!(stored_of_events(&[turn]), (1, 2));
        assert_eq!(stored_of_events(&[turn, error]), (0, 0));
        assert_eq!(stored_of_events(&[&long, turn]), (0, 0));
    }
}
