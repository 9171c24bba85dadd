//! Reads a response as it flows.

use std::{fmt, sync::Arc};

use http::{HeaderMap, header::CONTENT_ENCODING};

use super::{
    Event, Report, Shared, Unobserved,
    commit::Commit,
    refusal::{self, Refusal},
};
use crate::{
    dialect::{Dialect, Progress, Recorder},
    ledger::{Alternative, Anchor, Context, ItemRef, Turn, TurnId},
    scope::Scope,
    wire::{
        json::Cursor,
        sse::{Frame, SseSplitter},
        stream::{Element, JsonSplitter},
    },
};

/// Watches one response. It copies no more than an unfinished event, and keeps no more than what is
/// to be remembered.
///
/// [`feed`](Self::feed) it every piece of the body before that is passed on, then tell it how the body
/// ended: [`finish`](Self::finish) or [`interrupted`](Self::interrupted).
pub struct Observer {
    shared: Arc<Shared>,
    dialect: &'static dyn Dialect,
    scope: Scope,
    report: Report,
    recorder: Box<dyn Recorder>,
    framing: Framing,
    id: TurnId,
    context: Context,
    /// Digests of the parts that stood in the history, sorted, to count equal ones.
    stood: Box<[u32]>,
    /// What the request put in, to be forgotten if the stream says that it was bad.
    put_in: Vec<ItemRef>,
    committed: bool,
    ended: bool,
    over: bool,
}

/// How the body is cut into events.
enum Framing {
    /// Nothing but white space was seen.
    Unknown,
    Sse {
        splitter: SseSplitter,
        ahead: Ahead,
    },
    Json(JsonSplitter),
    /// Nothing can be read, or nothing need be read any more.
    Off,
}

/// What is known of the event that the splitter will give next, from its first line alone.
#[derive(Clone, Copy)]
enum Ahead {
    /// The line was not complete yet.
    Nothing,
    /// The line is no document.
    Looked,
    /// The line was read when it was complete. It has this many bytes.
    Read(usize),
}

pub(super) struct ObserverParts {
    pub(super) dialect: &'static dyn Dialect,
    pub(super) scope: Scope,
    pub(super) report: Report,
    pub(super) recorder: Box<dyn Recorder>,
    pub(super) id: TurnId,
    pub(super) context: Context,
    pub(super) stood: Box<[u32]>,
    pub(super) put_in: Vec<ItemRef>,
}

/// The digest of an anchor in [`Observer::stood`].
pub(super) fn stood_digest(anchor: &Anchor) -> u32 {
    let bytes = anchor.as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

impl Observer {
    pub(super) fn new(shared: &Arc<Shared>, parts: ObserverParts, headers: &HeaderMap) -> Self {
        let ObserverParts { dialect, scope, report, recorder, id, context, stood, put_in } = parts;
        let mut observer = Self {
            shared: shared.clone(),
            dialect,
            scope,
            report,
            recorder,
            framing: Framing::Unknown,
            id,
            context,
            stood,
            put_in,
            committed: false,
            ended: false,
            over: false,
        };
        let coding = headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes().to_ascii_lowercase());
        if coding.is_some_and(|coding| !matches!(&*coding, b"" | b"identity")) {
            observer.give_up(Unobserved::Encoded);
        }
        observer
    }

    /// Takes in a piece of the body. A commit that it gives is to be run before the piece is passed on.
    pub fn feed(&mut self, piece: &[u8]) -> Option<Commit> {
        if let Framing::Unknown = self.framing {
            self.recognise(piece);
        }
        let mut framing = std::mem::replace(&mut self.framing, Framing::Off);
        let mut change = Change::default();
        match &mut framing {
            Framing::Sse { splitter, ahead } => {
                splitter.feed(piece, &mut |frame| self.frame(&frame, ahead, &mut change));
                // A client that reads line by line acts on an event before the blank line after it.
                if let Ahead::Nothing = ahead
                    && let Some(data) = splitter.pending()
                {
                    *ahead = Ahead::Looked;
                    if is_document(data) {
                        *ahead = Ahead::Read(data.len());
                        self.event(data, &mut change);
                    }
                }
            }
            Framing::Json(splitter) => splitter.feed(piece, &mut |element| self.element(&element, &mut change)),
            Framing::Unknown | Framing::Off => {}
        }
        if !self.over {
            self.framing = framing;
        }
        self.commit(change)
    }

    /// The body has come to its end.
    pub fn finish(&mut self) -> Option<Commit> {
        let mut change = Change::default();
        match std::mem::replace(&mut self.framing, Framing::Off) {
            Framing::Sse { mut splitter, mut ahead } => {
                splitter.finish(&mut |frame| {
                    // What is left may be the first half of an event.
                    let whole = !matches!(&frame, Frame::Event { data, .. } if !is_document(data));
                    if whole {
                        self.frame(&frame, &mut ahead, &mut change);
                    }
                });
            }
            Framing::Json(mut splitter) => splitter.finish(&mut |element| self.element(&element, &mut change)),
            Framing::Unknown | Framing::Off => {}
        }
        self.commit(change).or_else(|| self.interrupted())
    }

    /// The body broke off, or nobody wants the rest. Complete parts are kept, provisionally.
    pub fn interrupted(&mut self) -> Option<Commit> {
        self.framing = Framing::Off;
        if std::mem::replace(&mut self.over, true) || self.committed || self.ended {
            return None;
        }
        self.report.unobserved(Unobserved::Interrupted);
        self.turn(false)
    }

    /// Why the body is not read further, if it is not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn recognise(&mut self, piece: &[u8]) {
        let piece = piece.strip_prefix(b"\xef\xbb\xbf").unwrap_or(piece);
        if piece.first() == Some(&0x1f) {
            return self.give_up(Unobserved::Encoded);
        }
        let max_event = self.shared.config.max_event;
        self.framing = match piece.trim_ascii_start().first() {
            None => Framing::Unknown,
            Some(b'{' | b'[') => Framing::Json(JsonSplitter::new(max_event)),
            Some(_) => Framing::Sse { splitter: SseSplitter::new(max_event), ahead: Ahead::Nothing },
        };
    }

    fn frame(&mut self, frame: &Frame<'_>, ahead: &mut Ahead, change: &mut Change) {
        match frame {
            Frame::Event { data, .. } => match std::mem::replace(ahead, Ahead::Nothing) {
                Ahead::Nothing | Ahead::Looked => self.event(data, change),
                // Further lines make it another event than it seemed to be.
                Ahead::Read(length) if data[length.min(data.len())..].trim_ascii().is_empty() => {}
                Ahead::Read(_) => self.give_up(Unobserved::Malformed),
            },
            // Some providers send an error as a bare line.
            Frame::Stray(line) => self.event(line, change),
            Frame::Oversized => {
                *ahead = Ahead::Nothing;
                self.give_up(Unobserved::TooLarge);
            }
        }
    }

    fn element(&mut self, element: &Element<'_>, change: &mut Change) {
        match element {
            Element::Value(value) => self.event(value, change),
            Element::Oversized => self.give_up(Unobserved::TooLarge),
            Element::End => {}
        }
    }

    fn event(&mut self, json: &[u8], change: &mut Change) {
        // Relays keep a stream alive with empty events, and end those of every protocol alike.
        if self.over || matches!(json.trim_ascii(), b"" | b"[DONE]") {
            return;
        }
        let progress = self.recorder.event(json);
        if progress.missing {
            self.shared.count(self.dialect.name(), Event::FinishedMissing);
        }
        if progress.error {
            return self.failed(json, change);
        }
        if progress.unobservable {
            let reason = if progress.over_bounds { Unobserved::TooLarge } else { Unobserved::Malformed };
            return self.give_up(reason);
        }
        self.ended = progress.ended;
        change.add(progress);
    }

    /// A terminal error: nothing of the turn is kept, and what it says is bad is forgotten.
    fn failed(&mut self, json: &[u8], change: &mut Change) {
        self.over = true;
        self.report.unobserved(Unobserved::Failed);
        change.failed = true;
        let verdict = refusal::classify_event(json);
        let name = self.dialect.name();
        match verdict.as_ref().map(|verdict| verdict.refusal) {
            Some(Refusal::Missing) => self.shared.count(name, Event::RefusedMissing),
            Some(Refusal::Structure) if !self.put_in.is_empty() => self.shared.count(name, Event::RefusedStructure),
            Some(Refusal::Invalid) if !self.put_in.is_empty() => {
                self.shared.count(name, Event::RefusedInvalid);
                change.forget = std::mem::take(&mut self.put_in);
            }
            _ => {}
        }
        if self.committed {
            // The end was seen before the error, so the turn is stored already.
            change.forget.extend(self.items());
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
            self.framing = Framing::Off;
            self.report.unobserved(reason);
            self.shared.count(self.dialect.name(), Event::Unobserved);
            tracing::debug!(dialect = self.dialect.name(), ?reason, "the response is not observed");
        }
    }

    fn commit(&mut self, change: Change) -> Option<Commit> {
        let (shared, name) = (&self.shared, self.dialect.name());
        if !change.forget.is_empty() {
            return Some(Commit::remove(shared, name, self.scope, change.forget, &self.report));
        }
        // After the end, only what adds something is worth another append.
        let adds = change.changed || !self.committed;
        if change.failed || self.over || !self.ended || !adds {
            return None;
        }
        let commit = self.turn(true);
        self.committed |= commit.is_some();
        commit
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
        Some(Commit::append(&self.shared, self.dialect.name(), self.scope, turn, &self.report))
    }
}

/// Whether a line of data is an event of its own, as far as its ends tell.
fn is_document(data: &[u8]) -> bool {
    let mut cursor = Cursor::new(data);
    cursor.peek() == Some(b'{') && cursor.skip().is_ok() && cursor.end().is_ok()
}

/// What a piece of the body brought.
#[derive(Default)]
struct Change {
    changed: bool,
    failed: bool,
    forget: Vec<ItemRef>,
}

impl Change {
    fn add(&mut self, progress: Progress) {
        self.changed |= progress.changed;
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("dialect", &self.dialect.name())
            .field("ended", &self.ended)
            .field("committed", &self.committed)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
