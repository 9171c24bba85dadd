//! Reads what a model answers into the parts of a turn.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    reduce, request,
    stream::{Delta, Growing, Rest, Tail, Text},
};
use crate::{
    dialect::{
        Known, Part, PartKind, Payload, Progress, Recorder, RecorderLimits, Slot, ToolDefaults, Unreadable, read::set,
    },
    ledger::{
        Alternative, Item, Kind, TurnPart,
        few::Few,
        fingerprint::{Running, Tag},
    },
    scope::HashKey,
    wire::{
        json::{Cursor, Str, is_utf8},
        shape::{self, Found, Member, Said, Shapes, Until},
    },
};

/// Reads the events of one response, or the one document that it is.
pub(super) struct MessagesRecorder {
    learner: Learner,
    blocks: BTreeMap<u32, Block>,
    tail: Tail,
    /// What most events are like: the block that they continue, and with what.
    shapes: Shapes<(u32, Piece)>,
    ended: bool,
    bound: bool,
    unobservable: bool,
    over_bounds: bool,
}

/// What is to be known to make parts of blocks.
struct Learner {
    key: HashKey,
    limits: RecorderLimits,
    defaults: Arc<ToolDefaults>,
    bytes: usize,
    /// Thinking was too large to be kept. Without it, the rest of the turn's must not go back either.
    gap: bool,
}

/// A block of the answer.
enum Block {
    Open(Box<Growing>),
    Done(Few<TurnPart>),
}

/// A piece of which many come, one like the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Text,
    Thinking,
    Input,
}

/// The members of an event, or of a document, that say something.
#[derive(Default)]
struct Event<'a> {
    kind: Option<Str<'a>>,
    index: Option<Range<usize>>,
    block: Option<Range<usize>>,
    delta: Option<Range<usize>>,
    message: Option<Range<usize>>,
    content: Option<Range<usize>>,
    error: Option<Range<usize>>,
    transformations: Option<Range<usize>>,
}

impl<'a> Event<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Unreadable> {
        let mut event = Self::default();
        cursor.object(|cursor, key| match &*key.decode() {
            b"type" if cursor.peek() == Some(b'"') => set(&mut event.kind, cursor.string()?.0),
            b"index" => set(&mut event.index, cursor.skip()?),
            b"content_block" => set(&mut event.block, cursor.skip()?),
            b"delta" => set(&mut event.delta, cursor.skip()?),
            b"message" => set(&mut event.message, cursor.skip()?),
            b"content" => set(&mut event.content, cursor.skip()?),
            b"error" => set(&mut event.error, cursor.skip()?),
            b"input_transformations" => set(&mut event.transformations, cursor.skip()?),
            _ => Ok(()),
        })?;
        Ok(event)
    }

    fn index(&self, json: &[u8]) -> Result<u32, Unreadable> {
        let digits = self.index.clone().and_then(|span| json.get(span)).ok_or(Unreadable)?;
        str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Unreadable)
    }
}

/// Whether the change of a message says why it stops.
fn stops(json: &[u8], delta: &Range<usize>) -> bool {
    let mut stops = false;
    let mut cursor = Cursor::at(json, delta.start);
    let _ = cursor.object::<Unreadable>(|cursor, key| {
        stops |= key.is("stop_reason") && cursor.peek() == Some(b'"');
        Ok(())
    });
    stops
}

impl MessagesRecorder {
    pub(super) fn new(key: &HashKey, limits: RecorderLimits, defaults: Arc<ToolDefaults>) -> Self {
        Self {
            learner: Learner { key: key.clone(), limits, defaults, bytes: 0, gap: false },
            blocks: BTreeMap::new(),
            tail: Tail::default(),
            shapes: Shapes::default(),
            ended: false,
            bound: false,
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
        let event = Event::read(&mut cursor)?;
        cursor.end()?;
        if let Some(span) = &event.transformations {
            self.bound |= speaks_of_prefix(&json[span.clone()]);
        }
        progress.error |= event.error.as_ref().is_some_and(|span| &json[span.clone()] != b"null");
        match event.kind.map(|kind| kind.decode()).as_deref() {
            Some(b"message_start") => {
                if let Some(span) = event.message {
                    self.message(json, span)?;
                }
            }
            Some(b"content_block_start") => {
                let index = event.index(json)?;
                let block = event.block.ok_or(Unreadable)?;
                self.start(index, json, block)?;
            }
            Some(b"content_block_delta") => {
                let index = event.index(json)?;
                let delta = event.delta.ok_or(Unreadable)?;
                let said = self.delta(index, json, delta)?;
                self.learn(json, said, progress);
            }
            Some(b"content_block_stop") => {
                let index = event.index(json)?;
                progress.changed |= self.stop(index)?;
            }
            // The reason to stop is told before the end, and clients that know it do not wait for more.
            Some(b"message_delta") => {
                self.ended |= event.delta.as_ref().is_some_and(|span| stops(json, span));
                self.learn(json, Said::Nothing, progress);
            }
            Some(b"message_stop") => self.ended = true,
            Some(b"error") => progress.error = true,
            Some(b"message") | None => {
                if let Some(content) = event.content.filter(|span| json[span.start] == b'[') {
                    self.document(json, content.start)?;
                    self.ended = true;
                    progress.changed = true;
                }
            }
            Some(_) => self.learn(json, Said::Nothing, progress),
        }
        Ok(())
    }

    fn learn(&mut self, json: &[u8], said: Said<(u32, Piece)>, progress: &Progress) {
        if !progress.error {
            self.shapes.learn(json, said, member);
        }
    }

    /// Takes in an event that is like one before it, and tells where it ends.
    #[inline]
    fn take_in(&mut self, json: &[u8], until: Until) -> Option<usize> {
        let Found { says, text, end } = self.shapes.find(json, until)?;
        let Some((index, piece)) = says else { return Some(end) };
        let Some(Block::Open(growing)) = self.blocks.get_mut(&index) else { return None };
        match (&mut **growing, piece) {
            (Growing::Text(block), Piece::Text) => {
                block.take_in(&text);
                if block.cited.is_none() {
                    return Some(end);
                }
                self.learner.bytes += text.raw().len();
            }
            (Growing::Thinking { text: held, .. }, Piece::Thinking) => {
                held.extend_from_slice(text.raw());
                self.learner.bytes += text.raw().len();
            }
            (Growing::Other { rest: Rest::Input(input), .. }, Piece::Input) => {
                let before = input.len();
                text.decoded(&mut |bytes| input.extend_from_slice(bytes));
                self.learner.bytes += input.len() - before;
            }
            _ => return None,
        }
        self.over_bounds |= self.is_over_bounds();
        self.settle_bounds();
        Some(end)
    }

    fn settle_bounds(&mut self) {
        self.unobservable |= self.over_bounds;
        if self.unobservable {
            self.shapes.clear();
            self.blocks.clear();
            self.tail = Tail::default();
        }
    }

    fn progress(&self, mut progress: Progress) -> Progress {
        progress.unobservable = self.unobservable;
        progress.over_bounds = self.over_bounds;
        progress.bound = self.bound;
        progress.ended = self.ended;
        progress
    }

    /// The message with which a stream starts has no blocks yet; it may say what the provider did to the request.
    fn message(&mut self, json: &[u8], span: Range<usize>) -> Result<(), Unreadable> {
        let mut cursor = Cursor::at(json, span.start);
        if cursor.peek() != Some(b'{') {
            return Ok(());
        }
        // A second answer in one stream is nothing that is understood.
        if !self.blocks.is_empty() {
            return Err(Unreadable);
        }
        let transformations = Event::read(&mut cursor)?.transformations;
        self.bound |= transformations.is_some_and(|span| speaks_of_prefix(&json[span]));
        Ok(())
    }

    /// All blocks of a response that is one document.
    fn document(&mut self, json: &[u8], at: usize) -> Result<(), Unreadable> {
        if !self.blocks.is_empty() {
            return Err(Unreadable);
        }
        let mut index = 0;
        Cursor::at(json, at).array(|cursor| {
            let part = request::one(cursor)?;
            let raw = &json[part.span.clone()];
            if let Some((text, citations)) = text_of(raw)? {
                let mut begun = self.begin_text(index);
                begun.take_in(&shape::Text::from(&text));
                begun.cited = citations.map(|citations| (text.raw().to_vec(), raw[citations].to_vec()));
                self.end_text(index, begun, Some(raw))?;
            } else {
                self.tail.pass(index, part.kind);
                let parts = self.learner.parts(raw)?;
                self.blocks.insert(index, Block::Done(parts));
            }
            index += 1;
            Ok::<_, Unreadable>(())
        })?;
        Ok(())
    }

    fn start(&mut self, index: u32, json: &[u8], span: Range<usize>) -> Result<(), Unreadable> {
        if self.blocks.contains_key(&index) {
            return Err(Unreadable);
        }
        let raw = &json[span];
        let part = request::one(&mut Cursor::new(raw))?;
        let growing = if let Some((text, citations)) = text_of(raw)? {
            let mut begun = self.begin_text(index);
            begun.take_in(&shape::Text::from(&text));
            if let Some(citations) = citations {
                self.learner.bytes += text.raw().len();
                begun.cited = Some((text.raw().to_vec(), elements(&raw[citations]).to_vec()));
            }
            Growing::Text(Box::new(begun))
        } else {
            self.tail.pass(index, part.kind);
            match (part.kind, &part.payload) {
                // Of thinking that is not shown, nothing may come but the signature.
                (PartKind::Thought, Payload::Text(text)) if !is_redacted(raw) => {
                    let signature = match &part.slot {
                        Slot::Held(span) => raw[span.start + 1..span.end - 1].to_vec(),
                        _ => Vec::new(),
                    };
                    self.learner.bytes += text.raw().len() + signature.len();
                    Growing::Thinking { text: text.raw().to_vec(), signature }
                }
                _ => {
                    self.learner.bytes += raw.len();
                    Growing::Other { raw: raw.to_vec(), rest: Rest::None }
                }
            }
        };
        self.blocks.insert(index, Block::Open(Box::new(growing)));
        Ok(())
    }

    fn delta(&mut self, index: u32, json: &[u8], span: Range<usize>) -> Result<Said<(u32, Piece)>, Unreadable> {
        // What belongs to a block that did not begin, or is over, makes no sense.
        let Some(Block::Open(growing)) = self.blocks.get_mut(&index) else { return Err(Unreadable) };
        let raw = &json[span];
        let delta = Delta::read(raw)?;
        let before = growing.bytes();
        let mut said = Said::Nothing;
        match (&mut **growing, delta.kind.decode().as_ref()) {
            (Growing::Text(text), b"text_delta") => {
                let piece = delta.text.ok_or(Unreadable)?;
                text.take_in(&shape::Text::from(&piece));
                said.add((index, Piece::Text), json, &piece);
            }
            (Growing::Text(text), b"citations_delta") => {
                let citation = delta.citation.ok_or(Unreadable)?;
                if text.cited.is_none() && text.is_empty {
                    text.cited = Some(Default::default());
                }
                if let Some((_, citations)) = &mut text.cited {
                    if !citations.is_empty() {
                        citations.push(b',');
                    }
                    citations.extend_from_slice(&raw[citation]);
                }
                said = Said::More;
            }
            (Growing::Thinking { text, .. }, b"thinking_delta") => {
                let piece = delta.thinking.ok_or(Unreadable)?;
                text.extend_from_slice(piece.raw());
                said.add((index, Piece::Thinking), json, &piece);
            }
            (Growing::Thinking { signature, .. }, b"signature_delta") => {
                signature.extend_from_slice(delta.signature.ok_or(Unreadable)?.raw());
                said = Said::More;
            }
            (Growing::Other { rest, .. }, b"input_json_delta") => {
                let piece = delta.partial_json.ok_or(Unreadable)?;
                said.add((index, Piece::Input), json, &piece);
                match rest {
                    Rest::Input(input) => piece.decoded(&mut |bytes| input.extend_from_slice(bytes)),
                    Rest::None => *rest = Rest::Input(piece.decode().into_owned()),
                    Rest::Members(_) | Rest::Unclear => *rest = Rest::Unclear,
                }
            }
            (Growing::Other { rest, .. }, b"compaction_delta") => {
                // It holds the members of the block in whole.
                *rest = match rest {
                    Rest::None => Rest::Members(raw.to_vec()),
                    _ => Rest::Unclear,
                };
                said = Said::More;
            }
            (Growing::Other { rest, .. }, _) => {
                *rest = Rest::Unclear;
                said = Said::More;
            }
            // What does not fit its block may fit the next one.
            _ => said = Said::More,
        }
        let growth = growing.bytes().saturating_sub(before);
        self.learner.bytes += growth;
        Ok(said)
    }

    /// A block is over. Says whether it is worth something.
    fn stop(&mut self, index: u32) -> Result<bool, Unreadable> {
        let Some(Block::Open(growing)) = self.blocks.remove(&index) else { return Err(Unreadable) };
        let parts = match *growing {
            Growing::Text(text) => {
                self.end_text(index, *text, None)?;
                return Ok(true);
            }
            Growing::Thinking { text, signature } => {
                let raw =
                    [&b"{\"type\":\"thinking\",\"thinking\":\""[..], &text, b"\",\"signature\":\"", &signature, b"\"}"];
                self.learner.bytes = self.learner.bytes.saturating_sub(text.len() + signature.len());
                self.learner.parts(&raw.concat())?
            }
            Growing::Other { raw, rest } => {
                let held = raw.len() + rest.bytes();
                self.learner.bytes = self.learner.bytes.saturating_sub(held);
                // Arguments that were cut off are no arguments, and the call is none.
                match rest.complete(raw) {
                    Some(raw) => self.learner.parts(&raw)?,
                    None => Few::default(),
                }
            }
        };
        self.blocks.insert(index, Block::Done(parts));
        Ok(true)
    }

    fn begin_text(&mut self, index: u32) -> Text {
        let tail = std::mem::take(&mut self.tail);
        let tail = if tail.is_before(index) { tail } else { Tail::default() };
        Text {
            own: Running::new(&self.learner.key, Tag::Text),
            near: tail.near,
            far: tail.far,
            is_empty: true,
            cited: None,
        }
    }

    /// A text is over. `raw` is its block, if that came in one piece.
    fn end_text(&mut self, index: u32, text: Text, raw: Option<&[u8]>) -> Result<(), Unreadable> {
        let mut parts = Few::default();
        if !text.is_empty {
            if let Some((written, citations)) = &text.cited {
                self.learner.bytes = self.learner.bytes.saturating_sub(written.len() + citations.len());
                let built = match raw {
                    Some(raw) => raw.to_vec(),
                    None => {
                        let pieces =
                            [&b"{\"type\":\"text\",\"text\":\""[..], written, b"\",\"citations\":[", citations, b"]}"];
                        pieces.concat()
                    }
                };
                // Without opaque fields in them, citations are nothing to be remembered.
                let cited = request::one(&mut Cursor::new(&built))?;
                if cited.kind == PartKind::Native {
                    parts = self.learner.parts(&built)?;
                }
            }
            let mut part = TurnPart::new(Kind::Text, text.own.anchor());
            part.aliases = text.near.iter().chain(&text.far).map(Running::anchor).collect();
            parts.push(part);
        }
        let near = if text.is_empty { text.near } else { Some(text.near.unwrap_or(text.own)) };
        self.tail = Tail { last: Some(index), near, far: text.far };
        self.blocks.insert(index, Block::Done(parts));
        Ok(())
    }

    fn is_over_bounds(&self) -> bool {
        self.blocks.len() > self.learner.limits.max_parts || self.learner.bytes > self.learner.limits.max_bytes
    }
}

/// What a member of an event is; those that are read are named in [`Event::read`].
fn member(key: &[u8]) -> Member {
    match key {
        b"type"
        | b"index"
        | b"content_block"
        | b"delta"
        | b"message"
        | b"content"
        | b"error"
        | b"input_transformations" => Member::Read,
        _ => Member::Free,
    }
}

type CitedText<'a> = (Str<'a>, Option<Range<usize>>);

/// The text of a block of text, and where its citations are.
fn text_of(raw: &[u8]) -> Result<Option<CitedText<'_>>, Unreadable> {
    let mut cursor = Cursor::new(raw);
    if cursor.peek() != Some(b'{') {
        return Ok(None);
    }
    let (mut is_text, mut text, mut citations) = (false, None, None);
    cursor.object(|cursor, key| {
        if cursor.peek() == Some(b'"') {
            if key.is("type") {
                is_text = cursor.string()?.0.is("text");
            } else if key.is("text") {
                set(&mut text, cursor.string()?.0)?;
            }
        } else if key.is("citations") && cursor.peek() == Some(b'[') {
            set(&mut citations, cursor.skip()?)?;
        }
        Ok::<_, Unreadable>(())
    })?;
    Ok(text.filter(|_| is_text).map(|text| (text, citations)))
}

/// What stands between the brackets of a list.
fn elements(list: &[u8]) -> &[u8] {
    let inner = list.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]"));
    inner.unwrap_or_default().trim_ascii()
}

fn is_redacted(raw: &[u8]) -> bool {
    let mut redacted = false;
    let _ = Cursor::new(raw).object::<Unreadable>(|cursor, key| {
        if key.is("type") && cursor.peek() == Some(b'"') {
            redacted = cursor.string()?.0.is("redacted_thinking");
        }
        Ok(())
    });
    redacted
}

/// Whether one of the transformations was made because of what precedes a thought.
///
/// <https://platform.claude.com/docs/en/build-with-claude/preserved-thinking>
fn speaks_of_prefix(transformations: &[u8]) -> bool {
    let mut cursor = Cursor::new(transformations);
    let mut found = false;
    let _ = cursor.array::<Unreadable>(|cursor| {
        if cursor.peek() != Some(b'{') {
            return Ok(());
        }
        cursor.object::<Unreadable>(|cursor, key| {
            if key.is("reason") && cursor.peek() == Some(b'"') {
                let reason = cursor.string()?.0.decode();
                let speaks = |of: &[u8]| memchr::memmem::find(&reason, of).is_some();
                found |= speaks(b"prefix") || speaks(b"conversation");
            }
            Ok(())
        })?;
        Ok(())
    });
    found
}

fn decoded(text: Option<&Str<'_>>) -> Option<Box<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(String::from_utf8_lossy(&text.decode()).into())
}

impl Learner {
    /// What is remembered of a whole block that is no text.
    fn parts(&mut self, raw: &[u8]) -> Result<Few<TurnPart>, Unreadable> {
        let part = request::one(&mut Cursor::new(raw))?;
        Ok(self.part(&part, raw).map_or_else(Few::default, Few::One))
    }

    fn part(&mut self, part: &Part<'_>, raw: &[u8]) -> Option<TurnPart> {
        let anchor = part.anchor(&self.key, None)?;
        match part.kind {
            PartKind::Thought => {
                // Thinking without a signature is nothing that could go back.
                let Slot::Held(value) = &part.slot else { return None };
                if self.is_short(&raw[value.clone()]) {
                    return None;
                }
                if value.len() > self.limits.max_state {
                    self.gap = true;
                    return None;
                }
                let mut seen = TurnPart::new(Kind::Thought, anchor);
                let whole = self.keep(raw);
                seen.state = Some(Item::new(whole.slice(value.clone())));
                seen.whole = Some(whole);
                Some(seen)
            }
            PartKind::Call => {
                let mut seen = TurnPart::new(Kind::Call, anchor);
                let defaults = part.name.and_then(|name| self.defaults.get(&*name.decode()));
                let reduced = defaults.and_then(|defaults| part.anchor(&self.key, Some(defaults)));
                seen.aliases = reduced.into_iter().filter(|reduced| *reduced != anchor).collect();
                seen.id = decoded(part.id.as_ref());
                seen.name = decoded(part.name.as_ref());
                seen.whole = Some(self.keep(raw));
                Some(seen)
            }
            PartKind::Native => {
                let mut seen = TurnPart::new(Kind::Native, anchor);
                seen.id = decoded(part.id.as_ref());
                seen.name = decoded(part.name.as_ref());
                let opaque = reduce::opaque(raw).ok()?;
                if opaque.held > 0 && raw.len() <= self.limits.max_state {
                    seen.state = Some(Item::new(self.keep(raw)));
                }
                Some(seen)
            }
            PartKind::Text | PartKind::Media | PartKind::Output | PartKind::Other => None,
        }
    }

    fn keep(&mut self, raw: &[u8]) -> Bytes {
        self.bytes += raw.len();
        Bytes::copy_from_slice(raw)
    }

    /// Whether a raw signature has too few characters to be state. An escape is one of them.
    fn is_short(&self, raw: &[u8]) -> bool {
        let least = self.limits.min_state;
        raw.len() < least + 2 || Cursor::new(raw).string().map_or(true, |(text, _)| text.decode().len() < least)
    }
}

impl Recorder for MessagesRecorder {
    fn event(&mut self, json: &[u8]) -> Progress {
        let mut progress = Progress::default();
        if !self.unobservable && self.take_in(json, Until::End).is_none() {
            // An event that is no JSON, or not of this protocol, may hide anything.
            let valid = is_utf8(json) && self.read(json, &mut progress).is_ok();
            self.over_bounds |= self.is_over_bounds();
            self.unobservable |= !valid;
            self.settle_bounds();
        }
        self.progress(progress)
    }

    fn again(&mut self, json: &[u8], until: Until) -> Option<Known> {
        let end = self.take_in(json, until)?;
        Some(Known { end, changed: false, over_bounds: self.over_bounds })
    }

    fn turn(&self, _complete: bool) -> Vec<Alternative> {
        // A block that did not come to its end is partial, whether the response did or not.
        let done = self.blocks.values().filter_map(|block| match block {
            Block::Done(parts) => Some(parts),
            Block::Open(_) => None,
        });
        let mut parts: Vec<TurnPart> = done.flat_map(|parts| parts.iter().cloned()).collect();
        if self.learner.gap {
            for thought in parts.iter_mut().filter(|part| part.kind == Kind::Thought) {
                thought.state = None;
                thought.whole = None;
            }
        }
        if parts.is_empty() { Vec::new() } else { vec![Alternative::new(0, parts)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: [&str; 9] = [
        r#"{"type":"message_start","message":{"content":[]}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a\"\ud83d"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"\ude00"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"AAAABBBB"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"CCCC\/DDD="}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
        r#"{"type":"message_stop"}"#,
    ];

    fn recorder(limits: RecorderLimits) -> MessagesRecorder {
        MessagesRecorder::new(&HashKey::from_bytes([7; 32]), limits, Arc::default())
    }

    const LIMITS: RecorderLimits =
        RecorderLimits { min_state: 16, max_state: 1 << 10, max_parts: 16, max_bytes: 1 << 12 };

    #[test]
    fn thinking_is_kept_as_it_came() {
        let mut recorder = recorder(LIMITS);
        for (at, event) in STREAM.iter().enumerate() {
            let progress = recorder.event(event.as_bytes());
            assert!(!progress.unobservable && !progress.error, "{event}");
            assert_eq!((progress.changed, progress.ended), (at == 6, at >= 7), "{event}");
            assert_eq!(recorder.turn(false).len(), usize::from(at >= 6), "{event}");
        }
        let turn = recorder.turn(true);
        let part = &turn[0].parts[0];
        let whole = r#"{"type":"thinking","thinking":"a\"\ud83d\ude00","signature":"AAAABBBBCCCC\/DDD="}"#;
        assert_eq!(part.whole.as_deref(), Some(whole.as_bytes()));
        assert_eq!(&part.state.as_ref().unwrap().raw()[..], br#""AAAABBBBCCCC\/DDD=""#);
        let text = request::one(&mut Cursor::new(br#"{"type":"thinking","thinking":"a\"\ud83d\ude00"}"#)).unwrap();
        assert_eq!(text.anchor(&recorder.learner.key, None), Some(part.anchor));
    }

    /// Rule 11: what does not fit ends the observation, or goes whole.
    #[test]
    fn bounds_hold() {
        let mut small = recorder(RecorderLimits { max_bytes: 16, ..LIMITS });
        let over = STREAM.iter().map(|event| small.event(event.as_bytes())).any(|progress| progress.over_bounds);
        assert!(over && small.turn(true).is_empty());
        let mut few = recorder(RecorderLimits { max_parts: 0, ..LIMITS });
        assert!(few.event(STREAM[1].as_bytes()).over_bounds);
        // Without one of its blocks, the thinking of a turn is of no use.
        let mut short = recorder(RecorderLimits { max_state: 20, ..LIMITS });
        let long = "A".repeat(40);
        let document = format!(
            r#"{{"type":"message","content":[
                {{"type":"thinking","thinking":"a","signature":"AAAABBBBCCCCDDDD"}},
                {{"type":"redacted_thinking","data":"{long}"}}, {{"type":"tool_use","id":"i","name":"n","input":{{}}}}]}}"#
        );
        assert!(short.event(document.as_bytes()).ended);
        let turn = short.turn(true);
        assert!(turn[0].parts.iter().all(|part| part.state.is_none()));
        assert_eq!(turn[0].parts.iter().filter(|part| part.whole.is_some()).count(), 1, "the call");
    }

    #[test]
    fn nothing_makes_it_panic() {
        let document = br#"{"type":"message","content":[{"type":"text","text":"a","citations":[{"encrypted_index":"x"}]},
            {"type":"web_search_tool_result","content":[{"type":"web_search_result","encrypted_content":"y"}]},{},[],7]}"#;
        let streams = STREAM.iter().map(|event| event.as_bytes()).chain([&document[..]]);
        for event in streams {
            for end in 0..event.len() {
                let mut recorder = recorder(LIMITS);
                for before in &STREAM[..6] {
                    recorder.event(before.as_bytes());
                }
                recorder.event(&event[..end]);
                recorder.event(&[&event[..end], b"\"}"].concat());
                let mut changed = event.to_vec();
                for byte in [b'"', b'{', b'}', b'0', b'\\', 0xff] {
                    changed[end] = byte;
                    let _ = request::read(&changed, crate::dialect::History::default());
                    recorder.event(&changed);
                }
                recorder.turn(true);
            }
        }
    }
}
