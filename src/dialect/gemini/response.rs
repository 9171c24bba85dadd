//! Reads what Gemini answers into the parts of a turn.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use memchr::memmem;

use super::{partial, request};
use crate::{
    dialect::{Known, Part, PartKind, Progress, Recorder, RecorderLimits, Slot, ToolDefaults, Unreadable},
    ledger::{
        Alternative, Anchor, Item, Kind, TurnPart,
        fingerprint::{self, Running, Tag},
    },
    scope::HashKey,
    wire::{
        json::{Cursor, Str, is_utf8},
        shape::{Found, Member, Said, Shapes, Text, Until},
    },
};

/// More candidates than any provider gives; further ones are not remembered.
const MAX_CANDIDATES: usize = 64;

/// Reads the events of one response.
pub(in crate::dialect) struct GeminiRecorder {
    key: HashKey,
    limits: RecorderLimits,
    defaults: Arc<ToolDefaults>,
    /// Thought parts are state of their own, to be put back whole.
    whole_thoughts: bool,
    candidates: BTreeMap<u32, Candidate>,
    /// What most events are like: a candidate, and the kind of the text that it adds.
    shapes: Shapes<(u32, Kind)>,
    /// What the event at hand says.
    said: Said<(u32, Kind)>,
    bytes: usize,
    ended: bool,
    unobservable: bool,
    over_bounds: bool,
}

#[derive(Default)]
struct Candidate {
    parts: Vec<Seen>,
    finished: bool,
}

/// A part of the answer as far as it has come.
struct Seen {
    part: TurnPart,
    /// The running hash of a text run.
    run: Option<Run>,
    /// The pieces of the arguments of a call that streams them.
    pieces: Option<Pieces>,
}

struct Run {
    /// `None` once another part has followed: then the part has its anchor.
    hash: Option<Running>,
    /// The hash of this run and of those before it from which only thoughts part it: clients that drop
    /// the thoughts merge them.
    joined: Option<Running>,
    length: u32,
    chunks: u32,
    /// A signature on an empty part closed the run; what follows is another one.
    closed: bool,
    /// The escaped text, where the part has to be put back whole.
    text: Option<Vec<u8>>,
    /// The hash of the one chunk that carried the state.
    signed_chunk: Option<Anchor>,
}

struct Pieces {
    raw: Vec<Vec<u8>>,
    open: bool,
}

/// The parts of a candidate in one event.
#[derive(Default)]
struct Content<'a> {
    first: Option<Part<'a>>,
    more: Vec<Part<'a>>,
}

impl<'a> Content<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        cursor.object(|cursor, key| {
            if !key.is("parts") || cursor.peek() != Some(b'[') {
                return cursor.skip().map(drop).map_err(Unreadable::from);
            }
            cursor.array(|cursor| {
                let part = request::one(cursor)?;
                match self.first {
                    None => self.first = Some(part),
                    Some(_) => self.more.push(part),
                }
                Ok::<_, Unreadable>(())
            })?;
            Ok(())
        })?;
        Ok(())
    }
}

impl GeminiRecorder {
    pub(in crate::dialect) fn new(
        key: &HashKey,
        limits: RecorderLimits,
        defaults: Arc<ToolDefaults>,
        whole_thoughts: bool,
    ) -> Self {
        Self {
            key: key.clone(),
            limits,
            defaults,
            whole_thoughts,
            candidates: BTreeMap::new(),
            shapes: Shapes::default(),
            said: Said::Nothing,
            bytes: 0,
            ended: false,
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
        cursor.object(|cursor, key| {
            if key.is("response") && cursor.peek() == Some(b'{') {
                return cursor
                    .object(|cursor, key| {
                        let key = key.decode();
                        self.root_member(cursor, &key, progress)
                    })
                    .map(drop);
            }
            let key = key.decode();
            self.root_member(cursor, &key, progress)
        })?;
        Ok(cursor.end()?)
    }

    fn root_member(&mut self, cursor: &mut Cursor<'_>, key: &[u8], progress: &mut Progress) -> Result<(), Unreadable> {
        match (key, cursor.peek()) {
            (b"candidates", Some(b'[')) => {
                cursor.array(|cursor| self.candidate(cursor, progress))?;
            }
            (b"error", _) => {
                let span = cursor.skip()?;
                progress.error |= &cursor.bytes()[span] != b"null";
            }
            _ => {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    fn candidate(&mut self, cursor: &mut Cursor<'_>, progress: &mut Progress) -> Result<(), Unreadable> {
        let bytes = cursor.bytes();
        if cursor.peek() != Some(b'{') {
            cursor.skip()?;
            return Ok(());
        }
        // The index may stand behind the content, so parts wait for it: the one that most events have
        // costs nothing.
        let (mut index, mut content, mut finish) = (0, Content::default(), None);
        cursor.object(|cursor, key| {
            let key = key.decode();
            if &*key == b"content" && cursor.peek() == Some(b'{') {
                // Of two, the last one counts.
                content = Content::default();
                return content.read(cursor);
            }
            let span = cursor.skip()?;
            let value = &bytes[span];
            match &*key {
                b"index" => index = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
                b"content" => content = Content::default(),
                b"finishReason" | b"finish_reason" => finish = Some(value),
                _ => {}
            }
            Ok::<_, Unreadable>(())
        })?;
        if !self.candidates.contains_key(&index) && self.candidates.len() >= MAX_CANDIDATES {
            self.over_bounds = true;
            return Ok(());
        }
        self.candidates.entry(index).or_default();
        for part in content.first.iter().chain(&content.more) {
            self.part(index, part, bytes, progress);
        }
        // The reason may be a name or, with numeric enums, a number; 0 and its name say that there is none.
        let finished =
            finish.is_some_and(|reason| !matches!(reason, b"null" | b"0" | b"\"\"" | b"\"FINISH_REASON_UNSPECIFIED\""));
        if finished {
            self.said = Said::More;
        }
        if finished && let Some(candidate) = self.candidates.get_mut(&index) {
            candidate.finished = true;
        }
        progress.missing |= finish == Some(b"\"MISSING_THOUGHT_SIGNATURE\"");
        Ok(())
    }

    /// The state that a part carries, as it came.
    fn state(&mut self, part: &Part<'_>, bytes: &[u8]) -> Option<Item> {
        let Slot::Held(span) = &part.slot else { return None };
        // The span includes the quotes.
        let length = span.len().saturating_sub(2);
        if length > self.limits.max_state || self.is_short(&bytes[span.clone()]) {
            return None;
        }
        self.bytes += length;
        Some(Item::new(Bytes::copy_from_slice(&bytes[span.clone()])))
    }

    /// Whether a raw signature has too few characters to be state. An escape is one of them.
    fn is_short(&self, raw: &[u8]) -> bool {
        let least = self.limits.min_state;
        let written = raw.len().saturating_sub(2);
        let characters = || Cursor::new(raw).string().map_or(written, |(text, _)| text.decode().len());
        written < least || (written < 6 * least && characters() < least)
    }

    fn part(&mut self, index: u32, part: &Part<'_>, bytes: &[u8], progress: &mut Progress) {
        let state = self.state(part, bytes);
        match (part.text(), part.remembered_kind()) {
            (Some(text), Some(_)) if state.is_none() && text.is_empty() => {}
            (Some(text), Some(kind)) if state.is_none() => self.said.add((index, kind), bytes, text),
            _ => self.said = Said::More,
        }
        progress.changed |= state.is_some() || !part.is_empty_text();
        let key = self.key.clone();
        let whole_thoughts = self.whole_thoughts;
        let Some(candidate) = self.candidates.get_mut(&index) else { return };
        match part.kind {
            PartKind::Text | PartKind::Thought => {
                let (Some(text), Some(kind)) = (part.text(), part.remembered_kind()) else { return };
                if text.is_empty() {
                    match state {
                        // Thinking that is not shown is state all the same.
                        Some(state) if whole_thoughts && kind == Kind::Thought && !candidate.is_thinking() => {
                            candidate.hidden_thought(&key, state);
                        }
                        Some(state) => candidate.carry(kind, state),
                        None => {}
                    }
                    return;
                }
                let keeps_text = whole_thoughts && kind == Kind::Thought;
                if keeps_text {
                    self.bytes += text.raw().len();
                }
                let state = state.map(|state| (state, part.anchor(&key, None)));
                candidate.text(&key, kind, &Text::from(text), state, keeps_text);
            }
            PartKind::Call => {
                let span = &bytes[part.span.clone()];
                let streams = memmem::find(span, b"artialArgs").is_some()
                    || memmem::find(span, b"illContinue").is_some()
                    || memmem::find(span, b"artial_args").is_some()
                    || memmem::find(span, b"ill_continue").is_some()
                    || part.name.is_none();
                self.bytes += span.len();
                if streams {
                    candidate.piece(&key, part, span, state);
                    return;
                }
                let Some(anchor) = part.anchor(&key, None) else { return };
                let defaults = part.name.and_then(|name| self.defaults.get(&*name.decode()));
                let reduced = defaults.and_then(|defaults| part.anchor(&key, Some(defaults)));
                let mut seen = TurnPart::new(Kind::Call, anchor);
                seen.aliases = reduced.into_iter().filter(|reduced| *reduced != anchor).collect();
                seen.id = decoded(part.id.as_ref()).filter(|id| !id.is_empty());
                seen.name = decoded(part.name.as_ref());
                let whole = Bytes::copy_from_slice(span);
                // A signature that is not kept takes the whole part with it.
                if let Slot::Held(value) = &part.slot {
                    seen.state = state.map(|_| {
                        let start = value.start - part.span.start;
                        Item::new(whole.slice(start..start + value.len()))
                    });
                    seen.whole = seen.state.is_some().then_some(whole);
                } else {
                    seen.whole = Some(whole);
                }
                candidate.push(seen);
            }
            PartKind::Media | PartKind::Native => {
                let (Some(kind), Some(anchor)) = (part.remembered_kind(), part.anchor(&key, None)) else { return };
                let mut seen = TurnPart::new(kind, anchor);
                seen.id = decoded(part.id.as_ref()).filter(|id| !id.is_empty());
                seen.state = state;
                candidate.push(seen);
            }
            PartKind::Output | PartKind::Other => {}
        }
    }

    fn is_over_bounds(&self) -> bool {
        let parts: usize = self.candidates.values().map(|candidate| candidate.parts.len()).sum();
        parts > self.limits.max_parts || self.bytes > self.limits.max_bytes
    }
}

fn decoded(text: Option<&Str<'_>>) -> Option<Box<str>> {
    Some(String::from_utf8_lossy(&text?.decode()).into())
}

impl Candidate {
    fn push(&mut self, part: TurnPart) {
        self.begin(Seen { part, run: None, pieces: None });
    }

    /// Begins a part. Those before it are over, and need not be ready for more; only a run of text that
    /// thoughts follow may be continued behind them.
    fn begin(&mut self, seen: Seen) {
        let is_thought = seen.part.kind == Kind::Thought;
        if let Some(text) = self.text_before_thoughts().filter(|_| !is_thought) {
            text.seal();
        }
        if let Some(last) = self.parts.last_mut().filter(|last| !is_thought || last.part.kind != Kind::Text) {
            last.seal();
        }
        self.parts.push(seen);
    }

    /// The text at the end, not counting the thoughts after it.
    fn text_before_thoughts(&mut self) -> Option<&mut Seen> {
        let mut before = self.parts.iter_mut().rev().skip_while(|seen| seen.part.kind == Kind::Thought);
        before.next().filter(|seen| seen.part.kind == Kind::Text)
    }

    /// The hash of the unsigned text before the thoughts at the end, which a new run of text continues.
    fn joined(&mut self, kind: Kind) -> Option<Running> {
        let Seen { part, run, .. } = self.text_before_thoughts().filter(|_| kind == Kind::Text)?;
        let run = run.as_mut().filter(|run| !run.closed && part.state.is_none())?;
        if let Some(hash) = &run.hash {
            part.anchor = hash.anchor();
        }
        let hash = run.hash.take();
        run.joined.take().or(hash)
    }

    /// Whether the last thought still waits for its signature.
    fn is_thinking(&self) -> bool {
        let mut thoughts = self.parts.iter().rev().filter(|seen| seen.part.kind == Kind::Thought);
        thoughts.next().is_some_and(|seen| seen.part.state.is_none())
    }

    /// A thought of which there is nothing but its signature.
    fn hidden_thought(&mut self, key: &HashKey, state: Item) {
        let hash = Running::new(key, Tag::Thought);
        let mut part = TurnPart::new(Kind::Thought, hash.anchor());
        part.state = Some(state);
        let text = Some(Vec::new());
        let run = Run { hash: None, joined: None, length: 0, chunks: 1, closed: true, text, signed_chunk: None };
        self.begin(Seen { part, run: Some(run), pieces: None });
    }

    /// A signature that came alone, on an empty part: it belongs to the nearest part before it of the
    /// same kind, if that has none of its own, and closes it.
    fn carry(&mut self, kind: Kind, state: Item) {
        let carries = |held: Kind| match kind {
            Kind::Thought => held == Kind::Thought,
            _ => matches!(held, Kind::Text | Kind::Call),
        };
        let Some(seen) = self.parts.iter_mut().rev().find(|seen| carries(seen.part.kind)) else { return };
        if seen.part.state.is_some() {
            return;
        }
        seen.part.state = Some(state);
        seen.part.trailing = true;
        if let Some(run) = &mut seen.run {
            run.closed = true;
        }
    }

    /// Adds text to the last part, or begins another one: then it says so. State comes with the hash of the text alone.
    fn text(
        &mut self,
        key: &HashKey,
        kind: Kind,
        text: &Text<'_>,
        state: Option<(Item, Option<Anchor>)>,
        keeps_text: bool,
    ) -> bool {
        let goes_on = self.parts.last().is_some_and(|last| {
            last.part.kind == kind
                && last.run.as_ref().is_some_and(|run| !run.closed)
                && !(state.is_some() && last.part.state.is_some())
        });
        if !goes_on {
            let tag = if kind == Kind::Thought { Tag::Thought } else { Tag::Text };
            let joined = self.joined(kind);
            self.begin(Seen {
                part: TurnPart::new(kind, Anchor::from_bytes([0; 16])),
                run: Some(Run {
                    hash: Some(Running::new(key, tag)),
                    joined,
                    length: 0,
                    chunks: 0,
                    closed: false,
                    text: keeps_text.then(Vec::new),
                    signed_chunk: None,
                }),
                pieces: None,
            });
        }
        let Some(Seen { part: seen, run: Some(run), .. }) = self.parts.last_mut() else { return false };
        let mut length = 0_usize;
        text.decoded(&mut |bytes| {
            if let Some(hash) = &mut run.hash {
                hash.update(bytes);
            }
            if let Some(joined) = &mut run.joined {
                joined.update(bytes);
            }
            length += bytes.len();
        });
        run.length = run.length.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        run.chunks += 1;
        if let Some(kept) = &mut run.text {
            kept.extend_from_slice(text.raw());
        }
        if let Some((state, anchor)) = state {
            seen.state = Some(state);
            seen.state_at = Some(run.length);
            run.signed_chunk = anchor;
        }
        !goes_on
    }

    /// A piece of a call that streams its arguments. The first one names the call; the last one says
    /// no more that it continues.
    fn piece(&mut self, key: &HashKey, part: &Part<'_>, span: &[u8], state: Option<Item>) {
        let continues = memmem::find(span, b"illContinue").is_some() || memmem::find(span, b"ill_continue").is_some();
        if part.name.is_some() {
            let mut seen = TurnPart::new(Kind::Call, Anchor::from_bytes([0; 16]));
            seen.id = decoded(part.id.as_ref()).filter(|id| !id.is_empty());
            seen.name = decoded(part.name.as_ref());
            seen.state = state;
            self.begin(Seen { part: seen, run: None, pieces: Some(Pieces { raw: Vec::new(), open: true }) });
        } else if let Some(last) = self.parts.last_mut() {
            // The signature may come with any piece.
            if last.pieces.is_some() && last.part.state.is_none() {
                last.part.state = state;
            }
        }
        let Some(Seen { part, pieces: Some(pieces), .. }) = self.parts.last_mut() else { return };
        if !pieces.open {
            return;
        }
        pieces.raw.extend(partial::pieces(span));
        pieces.open = continues_call(span, continues);
        if pieces.open {
            return;
        }
        let Some(args) = partial::assemble(pieces.raw.iter().map(Vec::as_slice)) else { return };
        let name = part.name.as_deref().unwrap_or_default();
        let Some(anchor) = fingerprint::call(key, name.as_bytes(), Some(&args), None) else { return };
        part.anchor = anchor;
        part.whole = Some(partial::whole(part, &args));
    }
}

/// Whether a piece says that more of its call follows. A piece inside it may say so of itself only.
fn continues_call(span: &[u8], mentions: bool) -> bool {
    if !mentions {
        return false;
    }
    let mut continues = false;
    let mut cursor = Cursor::new(span);
    let _ = cursor.object::<Unreadable>(|cursor, key| {
        if !(key.is("functionCall") || key.is("function_call")) || cursor.peek() != Some(b'{') {
            return cursor.skip().map(drop).map_err(Unreadable::from);
        }
        cursor.object::<Unreadable>(|cursor, key| {
            let is_flag = key.is("willContinue") || key.is("will_continue");
            let value = cursor.skip()?;
            continues |= is_flag && &cursor.bytes()[value] == b"true";
            Ok(())
        })?;
        Ok(())
    });
    continues
}

impl Seen {
    /// Gives back what a run that is over needs no more.
    fn seal(&mut self) {
        if let Some(hash) = self.run.as_mut().and_then(|run| run.hash.take()) {
            self.part.anchor = hash.anchor();
        }
    }

    /// The part as it is remembered; `None` while it is not whole.
    fn finished(&self, complete: bool, is_last: bool) -> Option<TurnPart> {
        if self.pieces.as_ref().is_some_and(|pieces| pieces.open) {
            return None;
        }
        let mut part = self.part.clone();
        if let Some(run) = &self.run {
            // The last run of a response that broke off may lack its end.
            if !complete && is_last && !run.closed {
                return None;
            }
            if let Some(hash) = &run.hash {
                part.anchor = hash.anchor();
            }
            if run.chunks > 1 {
                part.aliases = run.signed_chunk.into_iter().collect();
            }
            if part.state_at == Some(run.length) {
                part.state_at = None;
            }
            if let (Some(joined), None) = (&run.joined, part.state_at) {
                part.aliases = part.aliases.iter().copied().chain([joined.anchor()]).collect();
            }
            if let (Some(text), Some(state)) = (&run.text, &part.state) {
                part.whole = Some(whole_thought(text, state));
            }
        }
        Some(part)
    }
}

fn whole_thought(text: &[u8], state: &Item) -> Bytes {
    let head = b"{\"thought\":true,\"text\":\"";
    let middle = b"\",\"thoughtSignature\":";
    [&head[..], text, middle, state.raw(), b"}"].concat().into()
}

impl GeminiRecorder {
    /// Takes in an event that is like one before it, and tells where it ends and whether it changed something.
    #[inline]
    fn take_in(&mut self, json: &[u8], until: Until) -> Option<(bool, usize)> {
        let Found { says, text, end } = self.shapes.find(json, until)?;
        let mut changed = false;
        if let Some((index, kind)) = says.filter(|_| !text.is_empty()) {
            let candidate = self.candidates.get_mut(&index)?;
            let keeps_text = self.whole_thoughts && kind == Kind::Thought;
            if keeps_text {
                self.bytes += text.raw().len();
            }
            changed = true;
            if candidate.text(&self.key, kind, &text, None, keeps_text) || keeps_text {
                self.keep_bounds();
            }
        }
        Some((changed, end))
    }

    #[inline]
    fn progress(&self, mut progress: Progress) -> Progress {
        progress.unobservable = self.unobservable;
        progress.over_bounds = self.over_bounds;
        progress.ended = self.ended;
        progress
    }

    fn keep_bounds(&mut self) {
        self.over_bounds |= self.is_over_bounds();
        if self.over_bounds {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.unobservable = true;
        self.candidates.clear();
        self.shapes.clear();
        self.ended = false;
    }
}

/// What a member of an event is; those that are read are named in [`GeminiRecorder::root_member`].
fn member(key: &[u8]) -> Member {
    match key {
        b"candidates" | b"error" => Member::Read,
        b"response" => Member::Envelope,
        _ => Member::Free,
    }
}

impl Recorder for GeminiRecorder {
    fn event(&mut self, json: &[u8]) -> Progress {
        let mut progress = Progress::default();
        if let Some((changed, _)) = self.take_in(json, Until::End) {
            progress.changed = changed;
        } else if !self.unobservable {
            self.said = Said::Nothing;
            // An event that is no JSON, or not of this protocol, may hide anything.
            if is_utf8(json) && self.read(json, &mut progress).is_ok() {
                self.ended =
                    !self.candidates.is_empty() && self.candidates.values().all(|candidate| candidate.finished);
                if !progress.error && !progress.missing {
                    self.shapes.learn(json, std::mem::replace(&mut self.said, Said::More), member);
                }
                self.keep_bounds();
            } else {
                self.over_bounds |= self.is_over_bounds();
                self.give_up();
            }
        }
        self.progress(progress)
    }

    #[inline]
    fn again(&mut self, json: &[u8], until: Until) -> Option<Known> {
        let (changed, end) = self.take_in(json, until)?;
        Some(Known { end, changed, over_bounds: self.over_bounds })
    }

    fn turn(&self, complete: bool) -> Vec<Alternative> {
        let alternatives = self.candidates.iter().map(|(index, candidate)| {
            let complete = complete || candidate.finished;
            let last = candidate.parts.len().saturating_sub(1);
            let parts = candidate.parts.iter().enumerate();
            let parts = parts.filter_map(|(at, seen)| seen.finished(complete, at == last)).collect();
            Alternative::new(*index, parts)
        });
        alternatives.filter(|alternative| !alternative.parts.is_empty()).collect()
    }
}
