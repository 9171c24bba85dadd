//! Reads what a provider of chat completions answers into the parts of a turn.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    details::Details,
    reasoning::{self, Extra, Field, Weight},
    request,
};
use crate::{
    dialect::{Known, PartKind, Progress, Recorder, RecorderLimits, Slot, ToolDefaults, Unreadable},
    ledger::{
        Alternative, Item, Kind, TurnPart,
        fingerprint::{Running, Tag},
    },
    scope::HashKey,
    wire::{
        json::{Cursor, Str, is_utf8},
        shape::{Found, Member, Said, Shapes, Text, Until},
    },
};

/// More choices than any provider gives; further ones are not remembered.
const MAX_CHOICES: usize = 64;

/// Reads the events of one response.
pub(super) struct ChatRecorder {
    key: HashKey,
    limits: RecorderLimits,
    defaults: Arc<ToolDefaults>,
    choices: BTreeMap<u32, Choice>,
    /// What most events are like: a choice, and which text they add to it.
    shapes: Shapes<(u32, Spoken)>,
    /// What the event at hand says.
    said: Said<(u32, Spoken)>,
    bytes: usize,
    ended: bool,
    unobservable: bool,
    over_bounds: bool,
}

/// A text of which many pieces come, one like the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Content,
    Field(Field),
}

/// How a choice came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Complete,
    /// A limit or a filter cut it off.
    Truncated,
}

#[derive(Default)]
struct Choice {
    /// The fields of the reasoning, in the order in which they first came.
    fields: Vec<(Field, Gathered)>,
    chunks: Vec<Chunk>,
    /// What is said was the last thing that came, so that a further chunk of thinking is another one.
    text_is_last: bool,
    /// The hash of what is said.
    text: Option<Running>,
    calls: Vec<Call>,
    finish: Option<Finish>,
}

enum Gathered {
    /// The escaped contents of a string that may go on.
    Text(Vec<u8>),
    Raw(Vec<u8>),
    Details(Details),
}

/// A chunk of thinking in the content.
enum Chunk {
    Whole(Bytes),
    Pieces {
        /// The elements of `thinking`; texts that follow each other are one.
        thinking: Vec<Gathered>,
        /// The further members: escaped name and raw value.
        rest: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

enum Call {
    Whole(Bytes),
    Pieces(Pieces),
}

/// A call that arrives in pieces. Strings are kept escaped.
#[derive(Default)]
struct Pieces {
    index: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    arguments: Vec<u8>,
    /// Arguments that came as an object.
    object: Option<Vec<u8>>,
    extra: Option<Vec<u8>>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Function,
    Custom,
    /// The `function_call` of old, of which there is one.
    Legacy,
}

/// One delta of a call.
#[derive(Default)]
struct Delta<'a> {
    index: Option<&'a [u8]>,
    id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    arguments: Option<&'a [u8]>,
    extra: Option<&'a [u8]>,
    shape: Shape,
}

impl ChatRecorder {
    pub(super) fn new(key: &HashKey, limits: RecorderLimits, defaults: Arc<ToolDefaults>) -> Self {
        Self {
            key: key.clone(),
            limits,
            defaults,
            choices: BTreeMap::new(),
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
            if key.is("choices") && cursor.peek() == Some(b'[') {
                return cursor.array(|cursor| self.choice(cursor, progress)).map(drop);
            }
            let span = cursor.skip()?;
            progress.error |= key.is("error") && &cursor.bytes()[span] != b"null";
            Ok(())
        })?;
        Ok(cursor.end()?)
    }

    fn choice(&mut self, cursor: &mut Cursor<'_>, progress: &mut Progress) -> Result<(), Unreadable> {
        if cursor.peek() != Some(b'{') {
            cursor.skip()?;
            return Ok(());
        }
        let bytes = cursor.bytes();
        let (mut index, mut delta, mut message, mut reason) = (0, None, None, None);
        cursor.object(|cursor, key| {
            let span = cursor.skip()?;
            let value = &bytes[span];
            match &*key.decode() {
                b"index" => index = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
                b"delta" if value.first() == Some(&b'{') => delta = Some(value),
                b"message" if value.first() == Some(&b'{') => message = Some(value),
                b"finish_reason" => reason = reasoning::text_of(value).filter(|reason| !reason.is_empty()),
                b"error" => progress.error |= value != b"null",
                _ => {}
            }
            Ok::<_, Unreadable>(())
        })?;
        if !self.choices.contains_key(&index) && self.choices.len() >= MAX_CHOICES {
            self.over_bounds = true;
            return Ok(());
        }
        let choice = self.choices.entry(index).or_default();
        // Where both stand there, the message repeats what the deltas said.
        let mut reader = Reader {
            json: bytes,
            choice,
            key: &self.key,
            whole: delta.is_none(),
            said: Said::Nothing,
            bytes: 0,
            changed: false,
        };
        if let Some(object) = delta.or(message) {
            reader.object(object)?;
        }
        let Reader { bytes: added, changed, said, .. } = reader;
        self.said = match (said, &self.said) {
            (Said::Nothing, Said::Nothing) => Said::Nothing,
            (Said::One(spoken, span), Said::Nothing) => Said::One((index, spoken), span),
            _ => Said::More,
        };
        self.bytes = self.bytes.saturating_add(added);
        progress.changed |= changed;
        let finish = match reason.as_ref().map(Str::decode).as_deref() {
            Some(b"error") => {
                progress.error = true;
                None
            }
            Some(b"length" | b"content_filter" | b"max_tokens" | b"model_length" | b"sensitive") => {
                Some(Finish::Truncated)
            }
            Some(_) => Some(Finish::Complete),
            // A document is whole without a word about it.
            None => (delta.is_none() && message.is_some()).then_some(Finish::Complete),
        };
        if finish.is_some() {
            self.said = Said::More;
        }
        // The first word about the end counts.
        choice.finish = choice.finish.or(finish);
        Ok(())
    }

    /// Takes in an event that is like one before it, and tells where it ends and whether it changed something.
    #[inline]
    fn take_in(&mut self, json: &[u8], until: Until) -> Option<(bool, usize)> {
        let Found { says, text, end } = self.shapes.find(json, until)?;
        let Some((index, spoken)) = says else { return Some((false, end)) };
        let choice = self.choices.get_mut(&index)?;
        let changed = !text.is_empty();
        match spoken {
            Spoken::Content => choice.speak(&self.key, &text),
            Spoken::Field(field) => {
                let Some(Gathered::Text(held)) = choice.held(field) else { return None };
                held.extend_from_slice(text.raw());
                self.bytes = self.bytes.saturating_add(text.raw().len());
                self.over_bounds |= self.bytes > self.limits.max_bytes;
                self.settle_bounds();
            }
        }
        Some((changed, end))
    }

    #[inline]
    fn settle_bounds(&mut self) {
        self.unobservable |= self.over_bounds;
        if self.unobservable {
            self.choices.clear();
            self.shapes.clear();
            self.ended = false;
        }
    }

    fn progress(&self, mut progress: Progress) -> Progress {
        progress.unobservable = self.unobservable;
        progress.over_bounds = self.over_bounds;
        progress.ended = self.ended;
        progress
    }

    fn is_over_bounds(&self) -> bool {
        let parts: usize = self.choices.values().map(Choice::len).sum();
        parts > self.limits.max_parts || self.bytes > self.limits.max_bytes
    }

    /// Whether a signature is one that is kept: long enough to be state, and not too long.
    fn keeps(&self, signature: &Str<'_>) -> bool {
        let written = signature.raw().len();
        let long = written >= 6 * self.limits.min_state || signature.decode().len() >= self.limits.min_state;
        long && written <= self.limits.max_state
    }

    /// The parts of a choice in the order in which they stand in a message.
    fn parts(&self, choice: &Choice, finish: Finish) -> Vec<TurnPart> {
        let mut parts = Vec::new();
        parts.extend(self.thought(choice, finish));
        parts.extend(choice.chunks.iter().filter_map(|chunk| self.chunk(chunk, finish)));
        parts.extend(choice.text.as_ref().map(|text| TurnPart::new(Kind::Text, text.anchor())));
        parts.extend(choice.calls.iter().filter_map(|call| self.call(call)));
        parts
    }

    fn thought(&self, choice: &Choice, finish: Finish) -> Option<TurnPart> {
        let mut whole = Vec::new();
        let mut values: Vec<(Field, Weight, Range<usize>)> = Vec::new();
        for (field, gathered) in &choice.fields {
            let mut value = Vec::new();
            gathered.write(&mut value);
            let weight = match field.weigh(&value) {
                Weight::Nothing => continue,
                // What we put in for want of reasoning is none, also when the model repeats it.
                Weight::Blank if field.is_text() && !is_empty_text(&value) => continue,
                weight => weight,
            };
            if !self.is_kept(*field, &value) {
                continue;
            }
            if !whole.is_empty() {
                whole.push(b',');
            }
            whole.push(b'"');
            whole.extend_from_slice(field.name().as_bytes());
            whole.extend_from_slice(b"\":");
            let start = whole.len();
            whole.extend_from_slice(&value);
            values.push((*field, weight, start..whole.len()));
        }
        if values.is_empty() {
            return None;
        }
        let whole = Bytes::from(whole);
        let value = |wanted: Field| values.iter().find(|(field, ..)| *field == wanted);
        let shown = reasoning::visible(|field| value(field).map(|(.., span)| &whole[span.clone()]));
        let real = |field: Field| value(field).filter(|(_, weight, _)| *weight == Weight::Real);
        let state = Field::ALL.into_iter().find_map(real).map(|(.., span)| whole.slice(span.clone()));
        let is_signed = [Field::Opaque, Field::Extra, Field::Signature].into_iter().any(|field| real(field).is_some())
            || real(Field::Details).is_some_and(|(.., span)| {
                let mut signed = false;
                reasoning::opaque_details(&whole[span.clone()], &mut |_| signed = true);
                signed
            });
        let mut part = self.thought_part(&shown);
        part.state = state.filter(|_| finish == Finish::Complete || is_signed).map(Item::new);
        part.whole = Some(whole.clone());
        Some(part)
    }

    fn thought_part(&self, shown: &Str<'_>) -> TurnPart {
        let mut hash = Running::new(&self.key, Tag::Thought);
        shown.decoded(&mut |bytes| hash.update(bytes));
        TurnPart::new(Kind::Thought, hash.anchor())
    }

    /// Whether a field may be kept: what is opaque in it must be neither too short nor too long.
    fn is_kept(&self, field: Field, value: &[u8]) -> bool {
        match field {
            Field::Content | Field::Reasoning | Field::Text => true,
            Field::Opaque | Field::Signature => {
                reasoning::text_of(value).is_some_and(|text| text.is_empty() || self.keeps(&text))
            }
            Field::Extra => matches!(reasoning::extra(value), Extra::Signed(signature) if self.keeps(&signature)),
            Field::Details => {
                let mut kept = true;
                reasoning::opaque_details(value, &mut |opaque| kept &= opaque.raw().len() <= self.limits.max_state);
                kept
            }
        }
    }

    fn chunk(&self, chunk: &Chunk, finish: Finish) -> Option<TurnPart> {
        let whole = match chunk {
            Chunk::Whole(whole) => whole.clone(),
            Chunk::Pieces { thinking, rest } => write_chunk(thinking, rest).into(),
        };
        let (mut thinking, mut is_signed) = (None, false);
        let mut cursor = Cursor::new(&whole);
        cursor
            .object::<Unreadable>(|cursor, key| {
                let span = cursor.skip()?;
                if key.is("thinking") {
                    thinking = Some(span);
                } else if key.is("signature") {
                    is_signed |= reasoning::text_of(&whole[span]).is_some_and(|text| self.keeps(&text));
                }
                Ok(())
            })
            .ok()?;
        let thinking = thinking?;
        let shown = request::thinking_text(&whole[thinking.clone()]);
        let text = shown.decode();
        if reasoning::is_placeholder(&text) {
            return None;
        }
        let says = !text.trim_ascii().is_empty();
        let mut part = self.thought_part(&shown);
        let is_state = is_signed || (says && finish == Finish::Complete);
        part.state = is_state.then(|| Item::new(whole.slice(thinking)));
        part.whole = Some(whole.clone());
        Some(part)
    }

    fn call(&self, call: &Call) -> Option<TurnPart> {
        let (whole, is_legacy) = match call {
            Call::Whole(whole) => (whole.clone(), false),
            Call::Pieces(pieces) => (pieces.write().into(), pieces.shape == Shape::Legacy),
        };
        let read = request::call(&mut Cursor::new(&whole), 0).ok()?;
        if read.kind != PartKind::Call {
            return None;
        }
        let anchor = read.anchor(&self.key, None)?;
        let defaults = read.name.and_then(|name| self.defaults.get(&*name.decode()));
        let reduced = defaults.and_then(|defaults| read.anchor(&self.key, Some(defaults)));
        let mut part = TurnPart::new(Kind::Call, anchor);
        part.aliases = reduced.into_iter().filter(|reduced| *reduced != anchor).collect();
        part.id = decoded(read.id.as_ref()).filter(|id| !id.is_empty());
        part.name = decoded(read.name.as_ref());
        if is_legacy {
            return Some(part);
        }
        let Slot::Held(extra) = &read.slot else {
            part.whole = Some(whole.clone());
            return Some(part);
        };
        // A signature that is not kept takes the whole part with it.
        let kept =
            matches!(reasoning::extra(&whole[extra.clone()]), Extra::Signed(signature) if self.keeps(&signature));
        if kept {
            part.state = Some(Item::new(whole.slice(extra.clone())));
            part.whole = Some(whole.clone());
        }
        Some(part)
    }
}

/// What a member of an event is; those that are read are named in [`ChatRecorder::read`].
fn member(key: &[u8]) -> Member {
    if matches!(key, b"choices" | b"error") { Member::Read } else { Member::Free }
}

fn is_empty_text(value: &[u8]) -> bool {
    reasoning::text_of(value).is_some_and(|text| text.decode().trim_ascii().is_empty())
}

fn decoded(text: Option<&Str<'_>>) -> Option<Box<str>> {
    Some(String::from_utf8_lossy(&text?.decode()).into())
}

/// Reads one delta or message into its choice.
struct Reader<'c> {
    /// The event in which it stands.
    json: &'c [u8],
    choice: &'c mut Choice,
    key: &'c HashKey,
    /// It is a message: its values are kept as they came.
    whole: bool,
    said: Said<Spoken>,
    bytes: usize,
    changed: bool,
}

impl Reader<'_> {
    fn note(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.changed = true;
    }

    fn object(&mut self, object: &[u8]) -> Result<(), Unreadable> {
        let mut seen = [false; Field::ALL.len()];
        let mut cursor = Cursor::new(object);
        cursor.object(|cursor, key| {
            if key.is("tool_calls") && cursor.peek() == Some(b'[') {
                cursor.array(|cursor| {
                    let span = cursor.skip()?;
                    self.call(&object[span])
                })?;
                return Ok(());
            }
            let span = cursor.skip()?;
            let value = &object[span];
            let key = key.decode();
            match &*key {
                b"content" => self.content(value)?,
                b"function_call" if value.first() == Some(&b'{') => {
                    let delta = Delta { shape: Shape::Legacy, ..read_function(value, "arguments")? };
                    self.piece(&delta);
                }
                key => {
                    let Some(field) = Field::of(key) else { return Ok(()) };
                    if std::mem::replace(&mut seen[field as usize], true) {
                        return Err(Unreadable);
                    }
                    if value != b"null" {
                        self.gather(field, value)?;
                    }
                }
            }
            Ok::<_, Unreadable>(())
        })?;
        Ok(())
    }

    fn call(&mut self, call: &[u8]) -> Result<(), Unreadable> {
        self.said = Said::More;
        if self.whole {
            self.note(call.len());
            self.choice.calls.push(Call::Whole(Bytes::copy_from_slice(call)));
        } else {
            self.piece(&read_call(call)?);
        }
        Ok(())
    }

    fn content(&mut self, value: &[u8]) -> Result<(), Unreadable> {
        let mut cursor = Cursor::new(value);
        match cursor.peek() {
            Some(b'"') => self.text(&cursor.string()?.0),
            Some(b'[') => {
                cursor.array(|cursor| {
                    let span = cursor.skip()?;
                    self.element(&value[span])
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &Str<'_>) {
        if text.is_empty() {
            return;
        }
        self.said.add(Spoken::Content, self.json, text);
        self.choice.speak(self.key, &Text::from(text));
        self.changed = true;
    }

    fn element(&mut self, element: &[u8]) -> Result<(), Unreadable> {
        let mut cursor = Cursor::new(element);
        match cursor.peek() {
            Some(b'"') => {
                self.text(&cursor.string()?.0);
                return Ok(());
            }
            Some(b'{') => {}
            _ => return Ok(()),
        }
        let (mut is_thinking, mut text, mut thinking) = (false, None, None);
        let mut rest = Vec::new();
        cursor.object(|cursor, key| {
            let span = cursor.skip()?;
            let value = &element[span];
            match &*key.decode() {
                b"type" => is_thinking = value == b"\"thinking\"",
                b"text" => text = reasoning::text_of(value),
                b"thinking" => thinking = Some(value),
                _ => rest.push((key.raw(), value)),
            }
            Ok::<_, Unreadable>(())
        })?;
        match (is_thinking, thinking, text) {
            (true, Some(_), _) if self.whole => {
                self.said = Said::More;
                self.note(element.len());
                self.choice.chunks.push(Chunk::Whole(Bytes::copy_from_slice(element)));
                Ok(())
            }
            (true, Some(value), _) => self.thinking(value, &rest),
            (false, _, Some(text)) => {
                self.text(&text);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A chunk of thinking goes on in the next one, until something is said.
    fn thinking(&mut self, value: &[u8], more: &[(&[u8], &[u8])]) -> Result<(), Unreadable> {
        self.said = Said::More;
        self.note(value.len());
        let goes_on = !std::mem::replace(&mut self.choice.text_is_last, false);
        if !goes_on || self.choice.chunks.is_empty() {
            self.choice.chunks.push(Chunk::Pieces { thinking: Vec::new(), rest: Vec::new() });
        }
        let Some(Chunk::Pieces { thinking, rest }) = self.choice.chunks.last_mut() else { return Ok(()) };
        for (key, value) in more {
            match rest.iter_mut().find(|(held, _)| held == key) {
                Some((_, held)) => *held = value.to_vec(),
                None => rest.push((key.to_vec(), value.to_vec())),
            }
        }
        let mut add = |raw: &[u8]| match (plain_text(raw), thinking.last_mut()) {
            (Some(text), Some(Gathered::Text(held))) => held.extend_from_slice(text.raw()),
            (Some(text), _) => thinking.push(Gathered::Text(text.raw().to_vec())),
            (None, _) => thinking.push(Gathered::Raw(raw.to_vec())),
        };
        let mut cursor = Cursor::new(value);
        if cursor.peek() != Some(b'[') {
            add(value);
            return Ok(());
        }
        cursor.array(|cursor| {
            let span = cursor.skip()?;
            add(&value[span]);
            Ok::<_, Unreadable>(())
        })?;
        Ok(())
    }

    /// Keeps a value as it came, if there is none that says more.
    fn set(&mut self, field: Field, value: &[u8]) {
        self.said = Said::More;
        let says = field.weigh(value);
        if says == Weight::Nothing {
            return;
        }
        let gathered = Gathered::Raw(value.to_vec());
        match self.choice.held(field) {
            Some(Gathered::Raw(held)) if held == value || says == Weight::Blank => return,
            Some(held) => *held = gathered,
            None => self.choice.fields.push((field, gathered)),
        }
        self.bytes += value.len();
        self.changed |= says == Weight::Real;
    }

    /// Adds a piece of a value.
    fn gather(&mut self, field: Field, value: &[u8]) -> Result<(), Unreadable> {
        if self.whole || !(field.is_text() || field == Field::Details) {
            self.set(field, value);
            return Ok(());
        }
        if field == Field::Details {
            if value.first() != Some(&b'[') {
                return Ok(());
            }
            if self.choice.held(field).is_none() {
                self.choice.fields.push((field, Gathered::Details(Details::default())));
            }
            self.said = Said::More;
            let Some(Gathered::Details(details)) = self.choice.held(field) else { return Ok(()) };
            let added = details.add(value)?;
            self.bytes += added;
            self.changed |= added > 0;
            return Ok(());
        }
        let Some(text) = reasoning::text_of(value) else { return Ok(()) };
        if self.choice.held(field).is_none() {
            self.choice.fields.push((field, Gathered::Text(Vec::new())));
        }
        if !text.is_empty() {
            self.said.add(Spoken::Field(field), self.json, &text);
        }
        if let Some(Gathered::Text(held)) = self.choice.held(field) {
            held.extend_from_slice(text.raw());
            self.bytes += text.raw().len();
            self.changed |= !text.is_empty();
        }
        Ok(())
    }

    fn piece(&mut self, delta: &Delta<'_>) {
        self.said = Said::More;
        let at = self.position(delta);
        let calls = &mut self.choice.calls;
        let at = at.unwrap_or_else(|| {
            let index = delta.index.map(<[u8]>::to_vec);
            calls.push(Call::Pieces(Pieces { index, shape: delta.shape, ..Pieces::default() }));
            calls.len() - 1
        });
        let Some(Call::Pieces(pieces)) = calls.get_mut(at) else { return };
        let added = pieces.add(delta);
        self.bytes += added;
        self.changed |= added > 0;
    }

    /// The call that a delta continues. Some providers leave out the index, or give all calls the same one.
    fn position(&self, delta: &Delta<'_>) -> Option<usize> {
        let id = delta.id.filter(|id| !id.is_empty());
        let begins = delta.name.is_some_and(|name| !name.is_empty());
        let pieces = |call: &Call| match call {
            Call::Pieces(pieces) => (pieces.index.clone(), pieces.id.clone(), pieces.shape),
            Call::Whole(_) => (None, None, Shape::Function),
        };
        let mut calls = self.choice.calls.iter().enumerate().rev().map(|(at, call)| (at, pieces(call)));
        if delta.shape == Shape::Legacy {
            return calls.find(|(_, (.., shape))| *shape == Shape::Legacy).map(|(at, _)| at);
        }
        let mut calls = calls.filter(|(_, (.., shape))| *shape != Shape::Legacy);
        if let Some(index) = delta.index {
            let (at, (_, held, _)) = calls.find(|(_, (held, ..))| held.as_deref() == Some(index))?;
            let other = id.is_some_and(|id| held.is_some_and(|held| !held.is_empty() && held != id.raw()));
            return (!(other && begins)).then_some(at);
        }
        if let Some(id) = id {
            return calls.find(|(_, (_, held, _))| held.as_deref() == Some(id.raw())).map(|(at, _)| at);
        }
        calls.next().filter(|_| !begins).map(|(at, _)| at)
    }
}

/// The text of an element `{"type":"text","text":…}` that has nothing else.
fn plain_text(raw: &[u8]) -> Option<Str<'_>> {
    let (mut text, mut plain) = (None, true);
    let mut cursor = Cursor::new(raw);
    cursor
        .object::<Unreadable>(|cursor, key| {
            if key.is("text") && cursor.peek() == Some(b'"') {
                text = Some(cursor.string()?.0);
                return Ok(());
            }
            let is_type = key.is("type");
            let span = cursor.skip()?;
            plain &= is_type && &raw[span] == b"\"text\"";
            Ok(())
        })
        .ok()?;
    text.filter(|_| plain)
}

fn read_call(call: &[u8]) -> Result<Delta<'_>, Unreadable> {
    let mut delta = Delta::default();
    let mut cursor = Cursor::new(call);
    cursor.object(|cursor, key| {
        let span = cursor.skip()?;
        let value = &call[span];
        let is_object = value.first() == Some(&b'{');
        match &*key.decode() {
            b"index" if value != b"null" => delta.index = Some(value),
            b"id" => delta.id = reasoning::text_of(value),
            b"function" if is_object => {
                let called = read_function(value, "arguments")?;
                (delta.name, delta.arguments) = (called.name, called.arguments);
            }
            b"custom" if is_object => {
                let called = read_function(value, "input")?;
                (delta.name, delta.arguments, delta.shape) = (called.name, called.arguments, Shape::Custom);
            }
            b"extra_content" if is_object => delta.extra = Some(value),
            _ => {}
        }
        Ok::<_, Unreadable>(())
    })?;
    Ok(delta)
}

fn read_function<'a>(function: &'a [u8], arguments: &str) -> Result<Delta<'a>, Unreadable> {
    let mut delta = Delta::default();
    let mut cursor = Cursor::new(function);
    cursor.object(|cursor, key| {
        let span = cursor.skip()?;
        let value = &function[span];
        if key.is("name") {
            delta.name = reasoning::text_of(value);
        } else if key.is(arguments) && value != b"null" {
            delta.arguments = Some(value);
        }
        Ok::<_, Unreadable>(())
    })?;
    Ok(delta)
}

impl Pieces {
    /// Takes in a delta; tells how many bytes it added.
    fn add(&mut self, delta: &Delta<'_>) -> usize {
        let mut added = 0;
        let mut set = |held: &mut Option<Vec<u8>>, text: Option<Str<'_>>| {
            if let Some(text) = text.filter(|_| held.as_ref().is_none_or(Vec::is_empty)) {
                added += text.raw().len();
                *held = Some(text.raw().to_vec());
            }
        };
        set(&mut self.id, delta.id);
        set(&mut self.name, delta.name);
        if let Some(arguments) = delta.arguments {
            match reasoning::text_of(arguments) {
                Some(text) => {
                    added += text.raw().len();
                    self.arguments.extend_from_slice(text.raw());
                }
                None => {
                    added += arguments.len();
                    self.object = Some(arguments.to_vec());
                }
            }
        }
        let is_signed = |extra: &[u8]| matches!(reasoning::extra(extra), Extra::Signed(_));
        let adds = |extra: &&[u8]| self.extra.as_deref().is_none_or(|held| held != *extra && is_signed(extra));
        if let Some(extra) = delta.extra.filter(adds) {
            added += extra.len();
            self.extra = Some(extra.to_vec());
        }
        added
    }

    /// The call as it would have come in one piece.
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.arguments.len() + 128);
        out.push(b'{');
        if let Some(id) = &self.id {
            out.extend_from_slice(b"\"id\":\"");
            out.extend_from_slice(id);
            out.extend_from_slice(b"\",");
        }
        let (head, arguments): (&[u8], &[u8]) = match self.shape {
            Shape::Custom => (b"\"type\":\"custom\",\"custom\":{", b"\"input\":"),
            Shape::Function | Shape::Legacy => (b"\"type\":\"function\",\"function\":{", b"\"arguments\":"),
        };
        out.extend_from_slice(head);
        if let Some(name) = &self.name {
            out.extend_from_slice(b"\"name\":\"");
            out.extend_from_slice(name);
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(arguments);
        match &self.object {
            Some(object) if self.arguments.is_empty() => out.extend_from_slice(object),
            _ => {
                out.push(b'"');
                out.extend_from_slice(&self.arguments);
                out.push(b'"');
            }
        }
        out.push(b'}');
        if let Some(extra) = &self.extra {
            out.extend_from_slice(b",\"extra_content\":");
            out.extend_from_slice(extra);
        }
        out.push(b'}');
        out
    }
}

impl Gathered {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                out.push(b'"');
                out.extend_from_slice(text);
                out.push(b'"');
            }
            Self::Raw(raw) => out.extend_from_slice(raw),
            Self::Details(details) => details.write(out),
        }
    }
}

fn write_chunk(thinking: &[Gathered], rest: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"{\"type\":\"thinking\",\"thinking\":[".to_vec();
    for (at, element) in thinking.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match element {
            Gathered::Text(_) => {
                out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
                element.write(&mut out);
                out.push(b'}');
            }
            _ => element.write(&mut out),
        }
    }
    out.push(b']');
    for (key, value) in rest {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    }
    out.push(b'}');
    out
}

impl Choice {
    /// Takes in a piece of what is said.
    #[inline]
    fn speak(&mut self, key: &HashKey, text: &Text<'_>) {
        if text.is_empty() {
            return;
        }
        let hash = self.text.get_or_insert_with(|| Running::new(key, Tag::Text));
        text.decoded(&mut |bytes| hash.update(bytes));
        self.text_is_last = true;
    }

    fn held(&mut self, field: Field) -> Option<&mut Gathered> {
        self.fields.iter_mut().find(|(held, _)| *held == field).map(|(_, gathered)| gathered)
    }

    fn len(&self) -> usize {
        let entries = self.fields.iter().map(|(_, gathered)| match gathered {
            Gathered::Details(details) => details.len(),
            _ => 1,
        });
        entries.sum::<usize>() + self.chunks.len() + self.calls.len()
    }
}

impl Recorder for ChatRecorder {
    fn event(&mut self, json: &[u8]) -> Progress {
        let mut progress = Progress::default();
        if let Some((changed, _)) = self.take_in(json, Until::End) {
            progress.changed = changed;
        } else if !self.unobservable {
            self.said = Said::Nothing;
            // An event that is no JSON, or not of this protocol, may hide anything.
            let valid = is_utf8(json) && self.read(json, &mut progress).is_ok();
            self.over_bounds |= self.is_over_bounds();
            self.unobservable |= !valid;
            self.ended = self.choices.values().any(|choice| choice.finish.is_some());
            if valid && !progress.error {
                self.shapes.learn(json, std::mem::replace(&mut self.said, Said::More), member);
            }
            self.settle_bounds();
        }
        self.progress(progress)
    }

    #[inline]
    fn again(&mut self, json: &[u8], until: Until) -> Option<Known> {
        let (changed, end) = self.take_in(json, until)?;
        Some(Known { end, changed, over_bounds: self.over_bounds })
    }

    /// Nothing is kept of what did not come to its end.
    fn turn(&self, _complete: bool) -> Vec<Alternative> {
        let alternatives = self.choices.iter().filter_map(|(index, choice)| {
            let parts = self.parts(choice, choice.finish?);
            Some(Alternative::new(*index, parts))
        });
        alternatives.filter(|alternative| !alternative.parts.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn recorder(max_bytes: usize) -> ChatRecorder {
        let limits = RecorderLimits { min_state: 16, max_state: 1 << 20, max_parts: 100, max_bytes };
        ChatRecorder::new(&HashKey::from_bytes([7; 32]), limits, Arc::default())
    }

    /// The parts of the only choice of a stream of these deltas.
    fn stream(deltas: &[Value], reason: &str) -> Vec<TurnPart> {
        let mut recorder = recorder(1 << 20);
        for delta in deltas {
            let event = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
            assert!(!recorder.event(event.to_string().as_bytes()).ended);
        }
        let event = json!({"choices": [{"delta": {}, "finish_reason": reason}]});
        assert!(recorder.turn(false).is_empty());
        assert!(recorder.event(event.to_string().as_bytes()).ended);
        assert!(!recorder.event(br#"{"choices":[],"usage":{"total_tokens":3},"p":"abc"}"#).changed);
        recorder.turn(true).remove(0).parts
    }

    fn document(message: &Value, reason: &str) -> Vec<TurnPart> {
        let mut recorder = recorder(1 << 20);
        let event = json!({"choices": [{"index": 0, "message": message, "finish_reason": reason}]});
        assert!(recorder.event(event.to_string().as_bytes()).ended);
        recorder.turn(true).remove(0).parts
    }

    fn whole(part: &TurnPart) -> String {
        String::from_utf8_lossy(part.whole.as_ref().unwrap()).into_owned()
    }

    fn state(part: &TurnPart) -> Option<String> {
        part.state.as_ref().map(|state| String::from_utf8_lossy(state.raw()).into_owned())
    }

    #[test]
    fn a_stream_and_a_document_of_one_answer_are_one_turn() {
        let streamed = stream(
            &[
                json!({"role": "assistant", "content": null, "reasoning_content": ""}),
                json!({"reasoning_content": "wh"}),
                json!({"reasoning_content": "y\n"}),
                json!({"content": "s", "reasoning_content": null}),
                json!({"content": "o"}),
                json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":"}}]}),
                json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": " 1}"}},
                    {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}),
            ],
            "tool_calls",
        );
        let said = document(
            &json!({
                "role": "assistant", "content": "so", "reasoning_content": "why\n",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
                ],
            }),
            "tool_calls",
        );
        for parts in [&streamed, &said] {
            assert_eq!(
                parts.iter().map(|part| part.kind).collect::<Vec<_>>(),
                [Kind::Thought, Kind::Text, Kind::Call, Kind::Call]
            );
            assert_eq!(whole(&parts[0]), r#""reasoning_content":"why\n""#);
            assert_eq!(state(&parts[0]).as_deref(), Some(r#""why\n""#));
        }
        for (one, other) in streamed.iter().zip(&said) {
            assert_eq!((one.anchor, &one.id, &one.name), (other.anchor, &other.id, &other.name));
        }
        assert_eq!(
            whole(&streamed[2]),
            r#"{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}}"#
        );
    }

    #[test]
    fn calls_without_an_index_are_told_apart() {
        let call =
            |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
        let names = |deltas: &[Value]| {
            let parts = stream(deltas, "stop");
            parts.iter().map(|part| part.name.as_deref().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for ids in [["a", "b"], ["", ""]] {
            let deltas = [json!({"tool_calls": [call(ids[0], "f")]}), json!({"tool_calls": [call(ids[1], "g")]})];
            assert_eq!(names(&deltas), ["f", "g"], "{ids:?}");
        }
        let mut same = [call("a", "f"), call("b", "g")];
        same.iter_mut().for_each(|call| call["index"] = 0.into());
        assert_eq!(names(&same.map(|call| json!({"tool_calls": [call]}))), ["f", "g"]);
        let pieces = [
            json!({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{\"x\""}}]}),
            json!({"tool_calls": [{"function": {"arguments": ":1}"}}]}),
        ];
        assert_eq!(stream(&pieces, "stop")[0].anchor, {
            let call = json!({"function": {"name": "f", "arguments": "{\"x\":1}"}});
            document(&json!({"tool_calls": [call]}), "stop")[0].anchor
        });
    }

    #[test]
    fn the_signature_of_a_call_may_come_alone() {
        let extra = json!({"google": {"thought_signature": "c2lnbmF0dXJlIG9uZQ=="}});
        let parts = stream(
            &[
                json!({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}),
                json!({"tool_calls": [{"id": "a", "extra_content": extra}]}),
            ],
            "stop",
        );
        assert_eq!(state(&parts[0]), Some(extra.to_string()));
        assert!(whole(&parts[0]).ends_with(&format!("\"extra_content\":{extra}}}")));
        let parts = stream(&[json!({"content": "so"}), json!({"extra_content": extra})], "stop");
        assert_eq!(whole(&parts[0]), format!("\"extra_content\":{extra}"));
        let short = json!({"google": {"thought_signature": "short"}});
        let parts =
            document(&json!({"tool_calls": [{"id": "a", "function": {"name": "f"}, "extra_content": short}]}), "stop");
        assert_eq!((&parts[0].state, &parts[0].whole), (&None, &None));
    }

    #[test]
    fn opaque_state_stands_beside_what_is_shown() {
        let opaque = "b3BhcXVlIHN0YXRlIG9mIG1hbnkgYnl0ZXM=";
        let parts = stream(
            &[json!({"reasoning_text": "wh"}), json!({"reasoning_text": "y"}), json!({"reasoning_opaque": opaque})],
            "stop",
        );
        assert_eq!(whole(&parts[0]), format!(r#""reasoning_text":"why","reasoning_opaque":"{opaque}""#));
        assert_eq!(state(&parts[0]), Some(format!("\"{opaque}\"")));
        let details = json!([{"type": "reasoning.encrypted", "data": opaque, "index": 0}]);
        let message = json!({"reasoning": null, "reasoning_details": details, "content": "so"});
        let parts = document(&message, "length");
        assert_eq!(whole(&parts[0]), format!("\"reasoning_details\":{details}"));
        assert_eq!(state(&parts[0]), Some(details.to_string()));
    }

    #[test]
    fn what_is_blank_or_cut_off_is_put_back_only_on_demand() {
        for (message, reason) in [
            (json!({"reasoning_content": "", "content": "so"}), "stop"),
            (json!({"reasoning_content": "why", "content": "so"}), "length"),
            (json!({"reasoning_content": "why", "content": "so"}), "content_filter"),
        ] {
            let parts = document(&message, reason);
            assert_eq!((state(&parts[0]), parts[0].whole.is_some()), (None, true), "{message}");
        }
        let kinds = |message: Value| document(&message, "stop").iter().map(|part| part.kind).collect::<Vec<_>>();
        assert_eq!(kinds(json!({"reasoning_content": null, "content": "so"})), [Kind::Text]);
        assert_eq!(kinds(json!({"reasoning_content": reasoning::PLACEHOLDER, "content": "so"})), [Kind::Text]);
    }

    #[test]
    fn chunks_of_thinking_are_joined() {
        let chunk =
            |text: &str| json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]});
        let parts = stream(
            &[chunk("wh"), chunk("y"), json!({"content": "s"}), json!({"content": [{"type": "text", "text": "o"}]})],
            "stop",
        );
        assert_eq!(whole(&parts[0]), r#"{"type":"thinking","thinking":[{"type":"text","text":"why"}]}"#);
        let message = json!({"content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "why"}], "closed": true}, {"type": "text", "text": "so"},
        ]});
        let said = document(&message, "stop");
        assert_eq!(whole(&said[0]), message["content"][0].to_string());
        assert_eq!(
            parts.iter().map(|part| part.anchor).collect::<Vec<_>>(),
            said.iter().map(|part| part.anchor).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_choice_is_an_alternative_once_it_has_ended() {
        let mut recorder = recorder(1 << 20);
        let event = |index: u8, text: &str, reason: Value| {
            json!({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]}).to_string()
        };
        recorder.event(event(0, "a", Value::Null).as_bytes());
        recorder.event(event(1, "b", Value::Null).as_bytes());
        assert!(recorder.event(event(1, "c", "stop".into()).as_bytes()).ended);
        assert_eq!(recorder.turn(true).iter().map(|turn| turn.index).collect::<Vec<_>>(), [1]);
        let progress = recorder.event(event(0, "d", "stop".into()).as_bytes());
        assert!(progress.ended && progress.changed);
        assert_eq!(recorder.turn(true).iter().map(|turn| turn.index).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn errors_nonsense_and_too_much_are_told() {
        for error in [
            r#"{"error":{"message":"no"},"choices":[{"delta":{},"finish_reason":"error"}]}"#,
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
            r#"{"choices":[{"error":{"code":502},"message":{}}]}"#,
        ] {
            assert!(recorder(100).event(error.as_bytes()).error, "{error}");
        }
        assert!(!recorder(100).event(br#"{"error":null,"choices":[]}"#).error);
        for nonsense in [
            "{",
            r#"{"choices":[{"delta":{"reasoning":"a","reasoning":"b"}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_details":[7]}}]}"#,
        ] {
            assert!(recorder(100).event(nonsense.as_bytes()).unobservable, "{nonsense}");
        }
        let mut recorder = recorder(100);
        let event = json!({"choices": [{"delta": {"reasoning": "x".repeat(60)}}]}).to_string();
        assert!(!recorder.event(event.as_bytes()).unobservable);
        assert!(recorder.event(event.as_bytes()).over_bounds);
    }
}
