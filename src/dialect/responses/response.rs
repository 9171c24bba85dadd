//! Reads what the Responses API answers into the parts of a turn.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::request::{self, ItemKind};
use crate::{
    dialect::{Known, Part, PartKind, Payload, Progress, Recorder, RecorderLimits, Slot, ToolDefaults, Unreadable},
    ledger::{
        Alternative, Anchor, Item, Kind, TurnPart,
        fingerprint::{self, Running, Tag},
    },
    scope::HashKey,
    wire::{
        json::{Cursor, Str, is_utf8},
        shape::{Member, Said, Shapes, Until},
    },
};

/// Reads the events of one response.
///
/// Items count as they are when they are done: the provider encrypts state anew each time it writes an item, and some
/// give it another id each time, so only its place in the answer says which one it is.
pub(super) struct ResponsesRecorder {
    key: HashKey,
    limits: RecorderLimits,
    defaults: Arc<ToolDefaults>,
    items: BTreeMap<usize, Seen>,
    /// What most events are like, of those that say nothing.
    shapes: Shapes<()>,
    bytes: usize,
    ended: bool,
    /// The answer was cut off at a limit.
    is_truncated: bool,
    /// The provider does not store what it answered.
    is_unstored: bool,
    unobservable: bool,
    over_bounds: bool,
}

/// An item of the answer.
struct Seen {
    part: TurnPart,
    thought: Option<Thought>,
}

/// In what the state of a reasoning item consists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thought {
    Encrypted,
    /// It is shown in full.
    Shown,
    /// Only the provider has it, under its id.
    Stored,
}

/// What is known of an event or of a response before it is looked into.
#[derive(Default)]
struct Members<'a> {
    kind: Option<Str<'a>>,
    object: Option<Str<'a>>,
    status: Option<Str<'a>>,
    index: Option<usize>,
    item: Option<Range<usize>>,
    response: Option<Range<usize>>,
    output: Option<Range<usize>>,
    is_unstored: bool,
    is_error: bool,
}

impl<'a> Members<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Unreadable> {
        let mut members = Members::default();
        let bytes = cursor.bytes();
        cursor.object(|cursor, key| {
            let is_text = cursor.peek() == Some(b'"');
            match &*key.decode() {
                b"type" if is_text => members.kind = Some(cursor.string()?.0),
                b"object" if is_text => members.object = Some(cursor.string()?.0),
                b"status" if is_text => members.status = Some(cursor.string()?.0),
                b"output_index" => {
                    let span = cursor.skip()?;
                    members.index = std::str::from_utf8(&bytes[span]).ok().and_then(|index| index.parse().ok());
                }
                b"item" => once(&mut members.item, cursor.skip()?)?,
                b"response" => once(&mut members.response, cursor.skip()?)?,
                b"output" => once(&mut members.output, cursor.skip()?)?,
                b"store" => {
                    let span = cursor.skip()?;
                    members.is_unstored = &bytes[span] == b"false";
                }
                b"error" => {
                    let span = cursor.skip()?;
                    members.is_error = &bytes[span] != b"null";
                }
                _ => {
                    cursor.skip()?;
                }
            }
            Ok::<_, Unreadable>(())
        })?;
        Ok(members)
    }
}

fn once(held: &mut Option<Range<usize>>, span: Range<usize>) -> Result<(), Unreadable> {
    if held.replace(span).is_some() { Err(Unreadable) } else { Ok(()) }
}

impl ResponsesRecorder {
    pub(super) fn new(key: &HashKey, limits: RecorderLimits, defaults: Arc<ToolDefaults>) -> Self {
        Self {
            key: key.clone(),
            limits,
            defaults,
            items: BTreeMap::new(),
            shapes: Shapes::default(),
            bytes: 0,
            ended: false,
            is_truncated: false,
            is_unstored: false,
            unobservable: false,
            over_bounds: false,
        }
    }

    fn read(&mut self, json: &[u8], progress: &mut Progress) -> Result<(), Unreadable> {
        let mut cursor = Cursor::new(json);
        if cursor.peek() != Some(b'{') {
            cursor.skip()?;
            return Ok(cursor.end()?);
        }
        let event = Members::read(&mut cursor)?;
        cursor.end()?;
        let Some(kind) = event.kind else {
            // A document, or an error that a relay wrote into the stream.
            progress.error |= event.is_error;
            return self.response(json, &event, progress);
        };
        match &*kind.decode() {
            b"response.output_item.done" => {
                // What follows the end belongs to no response.
                let Some(span) = event.item.filter(|_| !self.ended) else { return Ok(()) };
                let next = || self.items.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
                let index = event.index.unwrap_or_else(next);
                self.item(json, &span, index, progress)
            }
            b"response.completed" | b"response.incomplete" | b"response.done" => {
                let Some(span) = event.response else {
                    self.ended = true;
                    return Ok(());
                };
                let response = Members::read(&mut Cursor::at(json, span.start))?;
                self.is_truncated |= kind.is("response.incomplete");
                self.response(json, &response, progress)?;
                self.ended |= !progress.error;
                Ok(())
            }
            b"response.failed" | b"error" => {
                progress.error = true;
                Ok(())
            }
            _ => {
                // All that is looked at is of which kind it is.
                let member = |key: &[u8]| if key == b"type" { Member::Read } else { Member::Free };
                self.shapes.learn(json, Said::Nothing, member);
                Ok(())
            }
        }
    }

    /// The whole answer. What was seen item by item counts as it was then.
    fn response(&mut self, json: &[u8], response: &Members<'_>, progress: &mut Progress) -> Result<(), Unreadable> {
        progress.error |= response.is_error;
        let status = response.status.map(|status| status.decode());
        match status.as_deref() {
            Some(b"failed" | b"cancelled") => progress.error = true,
            // It is worked on in the background, and asked for later.
            Some(b"queued" | b"in_progress") => return Ok(()),
            Some(b"incomplete") => self.is_truncated = true,
            _ => {}
        }
        if progress.error || !(response.output.is_some() || response.object.is_some_and(|object| object.is("response")))
        {
            return Ok(());
        }
        self.is_unstored |= response.is_unstored;
        if let Some(output) = response.output.as_ref().filter(|_| !self.ended) {
            let mut cursor = Cursor::at(json, output.start);
            if cursor.peek() == Some(b'[') {
                let mut spans = Vec::new();
                cursor.array(|cursor| {
                    spans.push(cursor.skip()?);
                    Ok::<_, Unreadable>(())
                })?;
                // Where there are as many, all of them were seen, whatever their indexes.
                if spans.len() > self.items.len() {
                    for (index, span) in spans.into_iter().enumerate() {
                        if !self.items.contains_key(&index) {
                            self.item(json, &span, index, progress)?;
                        }
                    }
                }
            }
        }
        self.ended = true;
        Ok(())
    }

    fn item(
        &mut self,
        json: &[u8],
        span: &Range<usize>,
        index: usize,
        progress: &mut Progress,
    ) -> Result<(), Unreadable> {
        let mut parts = Vec::new();
        let item = request::item(&mut Cursor::at(json, span.start), 0, &mut parts)?;
        let raw = &json[item.span.clone()];
        let seen = self.seen(json, &item, &parts, raw);
        if let Some(held) = self.items.get(&index) {
            // Some relays number every item alike, and some repeat one.
            if held.part.kind == seen.part.kind && held.part.anchor == seen.part.anchor {
                return Ok(());
            }
            let next = self.items.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
            return self.add(next, seen, progress);
        }
        self.add(index, seen, progress)
    }

    fn add(&mut self, index: usize, seen: Seen, progress: &mut Progress) -> Result<(), Unreadable> {
        let part = &seen.part;
        self.bytes += part.whole.as_ref().or(part.state.as_ref().map(Item::raw)).map_or(0, Bytes::len);
        self.items.insert(index, seen);
        self.over_bounds |= self.items.len() > self.limits.max_parts || self.bytes > self.limits.max_bytes;
        progress.changed = true;
        Ok(())
    }

    /// What is remembered of an item.
    fn seen(&self, json: &[u8], item: &request::Item<'_>, parts: &[Part<'_>], raw: &[u8]) -> Seen {
        let part = match item.kind {
            ItemKind::Message => self.message(parts),
            ItemKind::Reasoning => return self.reasoning(json, item, parts, raw),
            ItemKind::Call => self.call(item, parts, raw),
            ItemKind::Native => self.native(json, parts),
            ItemKind::Output | ItemKind::Reference | ItemKind::Other => None,
        };
        // What says nothing holds its place.
        Seen { part: part.unwrap_or_else(nothing), thought: None }
    }

    fn message(&self, parts: &[Part<'_>]) -> Option<TurnPart> {
        let mut hash = Running::new(&self.key, Tag::Text);
        let mut texts = parts.iter().filter_map(Part::text).filter(|text| !text.is_empty()).peekable();
        texts.peek()?;
        texts.for_each(|text| text.decoded(&mut |bytes| hash.update(bytes)));
        Some(TurnPart::new(Kind::Text, hash.anchor()))
    }

    fn call(&self, item: &request::Item<'_>, parts: &[Part<'_>], raw: &[u8]) -> Option<TurnPart> {
        let part = parts.first().filter(|part| part.kind == PartKind::Call)?;
        let anchor = part.anchor(&self.key, None)?;
        let defaults = part.name.and_then(|name| self.defaults.get(&*name.decode()));
        let reduced = defaults.and_then(|defaults| part.anchor(&self.key, Some(defaults)));
        let mut seen = TurnPart::new(Kind::Call, anchor);
        seen.aliases = reduced.into_iter().filter(|reduced| *reduced != anchor).collect();
        seen.id = decoded(part.id.as_ref());
        seen.name = decoded(part.name.as_ref());
        seen.whole = (!item.is_incomplete).then(|| Bytes::copy_from_slice(raw));
        Some(seen)
    }

    fn native(&self, json: &[u8], parts: &[Part<'_>]) -> Option<TurnPart> {
        let part = parts.first()?;
        let mut seen = TurnPart::new(Kind::Native, part.anchor(&self.key, None)?);
        seen.id = decoded(part.id.as_ref());
        // Without its id the state would be found by nothing.
        if let (Slot::Held(span), Some(_)) = (&part.slot, &seen.id) {
            seen.state =
                self.is_fit(&json[span.clone()]).then(|| Item::new(Bytes::copy_from_slice(&json[span.clone()])));
        }
        Some(seen)
    }

    fn reasoning(&self, json: &[u8], item: &request::Item<'_>, parts: &[Part<'_>], raw: &[u8]) -> Seen {
        let Some(part) = parts.first() else { return Seen { part: nothing(), thought: None } };
        let id = item.id.as_ref().map(|(id, _)| id);
        let anchor = part.anchor(&self.key, None);
        let anchor = anchor.unwrap_or_else(|| fingerprint::bytes(&self.key, Tag::Thought, b""));
        let mut seen = TurnPart::new(Kind::Thought, anchor);
        seen.id = decoded(id);
        if let Payload::Pieces(pieces) = &part.payload {
            seen.aliases = [self.joined(pieces, b"\n"), self.joined(pieces, b"\n\n")].into();
        }
        let held = match &part.slot {
            Slot::Held(span) => Some(span.clone()),
            _ => None,
        };
        let (thought, span) = match (held, &item.id) {
            (Some(span), _) if item.is_shown => (Thought::Shown, span),
            (Some(span), _) if self.is_fit(&json[span.clone()]) => (Thought::Encrypted, span),
            (None, Some((_, span))) => (Thought::Stored, span.clone()),
            _ => return Seen { part: seen, thought: None },
        };
        if thought == Thought::Stored {
            // Nothing that a client kept of it is a place for its id.
            let id = id.map(Str::decode).unwrap_or_default();
            seen.anchor = fingerprint::bytes(&self.key, Tag::Uri, &id);
            seen.aliases = Box::default();
        }
        let whole = Bytes::copy_from_slice(raw);
        let start = span.start - item.span.start;
        seen.state = Some(Item::new(whole.slice(start..start + span.len())));
        seen.whole = Some(whole);
        Seen { part: seen, thought: Some(thought) }
    }

    /// The hash of pieces as clients join them.
    fn joined(&self, pieces: &[Str<'_>], separator: &[u8]) -> Anchor {
        let mut hash = Running::new(&self.key, Tag::Thought);
        for (at, piece) in pieces.iter().enumerate() {
            if at > 0 {
                hash.update(separator);
            }
            piece.decoded(&mut |bytes| hash.update(bytes));
        }
        hash.anchor()
    }

    /// Whether a raw string is long enough to be state, and not too long to be kept.
    fn is_fit(&self, raw: &[u8]) -> bool {
        let Ok((text, _)) = Cursor::new(raw).string() else { return false };
        let least = self.limits.min_state;
        let is_short = text.raw().len() < least || (text.raw().len() < 6 * least && text.decode().len() < least);
        !is_short && text.raw().len() <= self.limits.max_state
    }

    /// The part of an item as it is remembered once the answer is over.
    fn finished(&self, seen: &Seen) -> Option<TurnPart> {
        if seen.part == nothing() {
            return None;
        }
        let mut part = seen.part.clone();
        match seen.thought {
            // What was not stored cannot be referred to.
            Some(Thought::Stored) if self.is_unstored => return None,
            Some(Thought::Shown | Thought::Stored) if self.is_truncated => part.state = None,
            _ => {}
        }
        Some(part)
    }
}

/// An item of which nothing is remembered.
fn nothing() -> TurnPart {
    TurnPart::new(Kind::Native, Anchor::from_bytes([0; 16]))
}

fn decoded(text: Option<&Str<'_>>) -> Option<Box<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(String::from_utf8_lossy(&text.decode()).into())
}

impl ResponsesRecorder {
    fn progress(&self, mut progress: Progress) -> Progress {
        progress.unobservable = self.unobservable;
        progress.over_bounds = self.over_bounds;
        progress.ended = self.ended && !self.unobservable;
        progress
    }
}

impl Recorder for ResponsesRecorder {
    fn event(&mut self, json: &[u8]) -> Progress {
        let mut progress = Progress::default();
        if !self.unobservable && self.shapes.find(json, Until::End).is_none() {
            let valid = is_utf8(json) && self.read(json, &mut progress).is_ok();
            self.unobservable |= !valid || self.over_bounds;
            if self.unobservable {
                self.items.clear();
                self.shapes.clear();
            }
        }
        self.progress(progress)
    }

    fn again(&mut self, json: &[u8], until: Until) -> Option<Known> {
        let end = self.shapes.find(json, until)?.end;
        Some(Known { end, changed: false, over_bounds: false })
    }

    fn turn(&self, complete: bool) -> Vec<Alternative> {
        // Without its end nothing says that the answer holds.
        if !complete && !self.ended {
            return Vec::new();
        }
        let parts: Vec<_> = self.items.values().filter_map(|seen| self.finished(seen)).collect();
        if parts.is_empty() { Vec::new() } else { vec![Alternative::new(0, parts)] }
    }
}
