//! Reads the history of a Messages request.

use std::ops::Range;

use super::reduce::{self, Opaque};
use crate::{
    dialect::{
        Author, History, Message, Note, Part, PartKind, Payload, Slot, Thinking, Unreadable,
        gemini::is_placeholder,
        history::Reduction,
        read::{self, once, set},
    },
    scope::MemberPath,
    wire::json::{Cursor, Str},
};

pub(super) fn read<'a>(body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
    let mut reader = Reader { history: empty, ..Reader::default() };
    let mut cursor = Cursor::new(body);
    cursor.object(|cursor, key| reader.member(cursor, key))?;
    cursor.end()?;
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader<'a> {
    history: History<'a>,
    seen_messages: bool,
    seen_system: bool,
    seen_thinking: bool,
    /// The request makes the model call a tool, which it does without thinking.
    forced: bool,
}

impl<'a> Reader<'a> {
    fn member(&mut self, cursor: &mut Cursor<'a>, key: Str<'a>) -> Result<(), Unreadable> {
        match &*key.decode() {
            b"messages" => {
                once(&mut self.seen_messages)?;
                match cursor.peek() {
                    Some(b'[') => {
                        cursor.array(|cursor| self.message(cursor))?;
                    }
                    _ => {
                        cursor.skip()?;
                    }
                }
            }
            b"system" => {
                once(&mut self.seen_system)?;
                self.system(cursor)?;
            }
            b"tools" => set(&mut self.history.tools, cursor.skip()?)?,
            b"model" if cursor.peek() == Some(b'"') => {
                set(&mut self.history.model, cursor.string()?.0.decode())?;
            }
            b"thinking" => {
                once(&mut self.seen_thinking)?;
                self.history.thinking = match kind(cursor)? {
                    Some(kind) if kind.is("disabled") => Thinking::Off,
                    Some(_) => Thinking::On,
                    None => Thinking::Unsaid,
                };
            }
            b"tool_choice" => {
                self.forced = kind(cursor)?.is_some_and(|kind| kind.is("any") || kind.is("tool"));
            }
            _ => {
                let span = cursor.skip()?;
                read::note(&mut self.history, MemberPath::Root, key, &cursor.bytes()[span]);
            }
        }
        Ok(())
    }

    fn system(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        let system = &mut self.history.system;
        content(cursor, |cursor| {
            system.push(one(cursor)?.payload);
            Ok(())
        })
    }

    fn message(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        if cursor.peek() != Some(b'{') {
            // A message that is no object is the provider's to refuse.
            return Err(Unreadable);
        }
        read::make_room(&mut self.history, cursor);
        let message = self.history.messages.len();
        let first = self.history.parts.len();
        let mut author = Author::Client;
        let (mut seen_role, mut seen_content) = (false, false);
        let parts = &mut self.history.parts;
        let span = cursor.object(|cursor, key| {
            if key.is("role") {
                once(&mut seen_role)?;
                if cursor.peek() == Some(b'"') && cursor.string()?.0.is("assistant") {
                    author = Author::Model;
                }
            } else if key.is("content") {
                once(&mut seen_content)?;
                content(cursor, |cursor| block(cursor, message, |part| parts.push(part)))?;
            }
            Ok::<_, Unreadable>(())
        })?;
        let parts = first..self.history.parts.len();
        self.history.messages.push(Message { author, span, parts, note: Note::Nothing });
        Ok(())
    }

    /// Says where state stands beside a part, once all of its message and the whole request are known.
    fn finish(mut self) -> History<'a> {
        let history = &mut self.history;
        // A model that has to call a tool does so without thinking:
        // <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>
        if self.forced && history.thinking == Thinking::Unsaid {
            history.thinking = Thinking::Off;
        }
        let off = history.thinking == Thinking::Off;
        for message in &history.messages {
            let parts = &mut history.parts[message.parts.clone()];
            let is_model = message.author == Author::Model;
            let is_thought = |part: &Part<'_>| part.kind == PartKind::Thought;
            let own = parts.iter().any(|part| is_thought(part) && matches!(part.slot, Slot::Held(_)));
            let lacks_thoughts = is_model && !off && !own;
            for part in parts {
                match &part.slot {
                    Slot::Held(_) if part.kind == PartKind::Native && lacks_thoughts => part.slot = Slot::Beside,
                    Slot::Beside if !lacks_thoughts => part.slot = Slot::Unfit,
                    slot if slot.is_missing() && (!is_model || (off && is_thought(part))) => part.slot = Slot::Unfit,
                    _ => {}
                }
            }
        }
        self.history
    }
}

/// The `type` of an object.
fn kind<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Str<'a>>, Unreadable> {
    if cursor.peek() != Some(b'{') {
        cursor.skip()?;
        return Ok(None);
    }
    let mut kind = None;
    cursor.object(|cursor, key| {
        if key.is("type") && cursor.peek() == Some(b'"') {
            return set(&mut kind, cursor.string()?.0);
        }
        Ok(())
    })?;
    Ok(kind)
}

/// The blocks of a list, or the one string that stands for a list of one block of text.
fn content<'a>(
    cursor: &mut Cursor<'a>,
    block: impl FnMut(&mut Cursor<'a>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    match cursor.peek() {
        Some(b'[') => cursor.array(block).map(drop),
        Some(b'"') => {
            let mut block = block;
            block(cursor)
        }
        _ => cursor.skip().map(drop).map_err(Unreadable::from),
    }
}

/// The members of a block.
#[derive(Default)]
struct Draft<'a> {
    kind: Option<Str<'a>>,
    text: Option<Str<'a>>,
    thinking: Option<Str<'a>>,
    signature: Option<Slot>,
    data: Option<Slot>,
    id: Option<Str<'a>>,
    answers: Option<Str<'a>>,
    name: Option<Str<'a>>,
    input: Option<Range<usize>>,
    source: Option<Option<Payload<'a>>>,
    citations: Option<Range<usize>>,
    cache: Option<Cache>,
    members: usize,
    /// Where the last member ends.
    end: usize,
}

/// A mark of a cached prefix among the members of a block.
struct Cache {
    /// Its position among them.
    nth: usize,
    /// From the end of the member before it to its own end.
    span: Range<usize>,
}

/// What [LiteLLM](https://docs.litellm.ai/docs/completion/message_sanitization) writes where a message has an empty
/// text, which the provider would refuse.
const FILLER: &str = "[System: Empty message content sanitised to satisfy protocol]";

/// What a text says: a filler says nothing.
fn said(text: Str<'_>) -> Str<'_> {
    if text.raw() == FILLER.as_bytes() { Str::empty() } else { text }
}

/// Reads one block that stands alone.
pub(super) fn one<'a>(cursor: &mut Cursor<'a>) -> Result<Part<'a>, Unreadable> {
    let mut found = None;
    block(cursor, 0, |part| found = Some(part))?;
    found.ok_or(Unreadable)
}

/// Reads one block. The same reader serves requests and responses, so that what is remembered and what is looked up
/// can never be derived differently.
fn block<'a>(cursor: &mut Cursor<'a>, message: usize, found: impl FnOnce(Part<'a>)) -> Result<(), Unreadable> {
    let bytes = cursor.bytes();
    let part =
        |span, kind, payload, slot| Part { message, span, kind, id: None, name: None, payload, slot, snake_case: true };
    match cursor.peek() {
        Some(b'{') => {}
        Some(b'"') => {
            let (text, span) = cursor.string()?;
            found(part(span, PartKind::Text, Payload::Text(text), Slot::Beside));
            return Ok(());
        }
        _ => {
            let span = cursor.skip()?;
            let payload = Payload::Json(Some(&bytes[span.clone()]));
            found(part(span, PartKind::Other, payload, Slot::Unfit));
            return Ok(());
        }
    }
    let mut draft = Draft::default();
    let span = cursor.object(|cursor, key| draft.member(cursor, key))?;
    let raw = &bytes[span.clone()];
    let reduced = |kind, reduction: Reduction, slot| part(span.clone(), kind, Payload::Reduced(raw, reduction), slot);
    let kind = draft.kind.map(|kind| kind.decode()).unwrap_or_default();
    found(match (&*kind, draft.text) {
        (b"text", Some(text)) => match draft.cited(bytes) {
            None => part(span, PartKind::Text, Payload::Text(said(text)), Slot::Beside),
            Some(found) => reduced(PartKind::Native, reduce::content, draft.native(&span, found)),
        },
        (b"thinking", _) => {
            let text = draft.thinking.unwrap_or_else(Str::empty);
            let slot = draft.signature.unwrap_or(Slot::Absent(draft.end));
            part(span, PartKind::Thought, Payload::Text(text), slot)
        }
        (b"redacted_thinking", _) => {
            let slot = draft.data.unwrap_or(Slot::Absent(draft.end));
            part(span, PartKind::Thought, Payload::Text(Str::empty()), slot)
        }
        (b"tool_use", _) => {
            let input = draft.input.map(|input| &bytes[input]).filter(|input| *input != b"null");
            let call = part(span, PartKind::Call, Payload::Json(input), Slot::Beside);
            Part { id: draft.id, name: draft.name, ..call }
        }
        (b"tool_result", _) => Part { id: draft.answers, ..reduced(PartKind::Output, reduce::output, Slot::Unfit) },
        (b"image" | b"document", _) => match draft.source.flatten() {
            Some(payload) => part(span, PartKind::Media, payload, Slot::Unfit),
            None => reduced(PartKind::Other, reduce::content, Slot::Unfit),
        },
        (b"server_tool_use" | b"mcp_tool_use", _) => {
            let call = reduced(PartKind::Native, reduce::call, Slot::Beside);
            Part { id: draft.id, name: draft.name, ..call }
        }
        _ => {
            let slot = draft.native(&span, reduce::opaque(raw)?);
            reduced(PartKind::Native, reduce::content, slot)
        }
    });
    Ok(())
}

impl<'a> Draft<'a> {
    fn member(&mut self, cursor: &mut Cursor<'a>, key: Str<'a>) -> Result<(), Unreadable> {
        let before = if self.members == 0 { cursor.position() } else { self.end };
        let is_text = cursor.peek() == Some(b'"');
        match &*key.decode() {
            b"type" if is_text => set(&mut self.kind, cursor.string()?.0)?,
            b"text" if is_text => set(&mut self.text, cursor.string()?.0)?,
            b"thinking" if is_text => set(&mut self.thinking, cursor.string()?.0)?,
            b"signature" => set(&mut self.signature, state(cursor)?)?,
            b"data" => set(&mut self.data, state(cursor)?)?,
            b"id" if is_text => set(&mut self.id, cursor.string()?.0)?,
            b"tool_use_id" if is_text => set(&mut self.answers, cursor.string()?.0)?,
            b"name" if is_text => set(&mut self.name, cursor.string()?.0)?,
            b"input" => set(&mut self.input, cursor.skip()?)?,
            b"source" => set(&mut self.source, media(cursor)?)?,
            b"citations" => set(&mut self.citations, cursor.skip()?)?,
            b"cache_control" => {
                let span = before..cursor.skip()?.end;
                set(&mut self.cache, Cache { nth: self.members, span })?;
            }
            _ => {
                cursor.skip()?;
            }
        }
        self.members += 1;
        self.end = cursor.position();
        Ok(())
    }

    /// The opaque fields of the citations of a text; `None` if citations of this kind have none.
    fn cited(&self, bytes: &[u8]) -> Option<Opaque> {
        let found = reduce::opaque(&bytes[self.citations.clone()?]).ok()?;
        (found != Opaque::default()).then_some(found)
    }

    /// The slot of a block with these opaque fields. They go back with the whole block, of which only a mark of a
    /// cached prefix stays, if that comes first or last.
    fn native(&self, span: &Range<usize>, found: Opaque) -> Slot {
        match found {
            Opaque { held: 0, missing: 0 } => Slot::Beside,
            Opaque { held: 0, .. } => match &self.cache {
                None => Slot::Blank(span.clone()),
                Some(cache) if cache.nth > 0 && cache.nth + 1 == self.members => {
                    Slot::Blank(span.start..cache.span.start)
                }
                Some(cache) if cache.nth == 0 && self.members > 1 => Slot::Blank(cache.span.end..span.end),
                Some(_) => Slot::Beside,
            },
            _ => Slot::Held(span.clone()),
        }
    }
}

fn state(cursor: &mut Cursor<'_>) -> Result<Slot, Unreadable> {
    let bytes = cursor.bytes();
    if cursor.peek() == Some(b'"') {
        let (value, span) = cursor.string()?;
        // What other protocols take for a signature is none here.
        let blank = value.is_empty() || is_placeholder(&value.decode());
        return Ok(if blank { Slot::Blank(span) } else { Slot::Held(span) });
    }
    let span = cursor.skip()?;
    Ok(if &bytes[span.clone()] == b"null" { Slot::Blank(span) } else { Slot::Unfit })
}

/// What an image or a document holds; `None` for text and anything else.
fn media<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Payload<'a>>, Unreadable> {
    if cursor.peek() != Some(b'{') {
        cursor.skip()?;
        return Ok(None);
    }
    let (mut kind, mut value, mut twice) = (None, None, false);
    cursor.object::<Unreadable>(|cursor, key| {
        if cursor.peek() != Some(b'"') {
            return cursor.skip().map(drop).map_err(Unreadable::from);
        }
        let (text, _) = cursor.string()?;
        match &*key.decode() {
            b"type" => twice |= kind.replace(text).is_some(),
            b"data" | b"url" | b"file_id" => twice |= value.replace(text).is_some(),
            _ => {}
        }
        Ok(())
    })?;
    let (Some(kind), Some(value), false) = (kind, value, twice) else { return Ok(None) };
    Ok(match &*kind.decode() {
        b"base64" => Some(Payload::Data(value)),
        b"url" | b"file" => Some(Payload::Uri(value)),
        _ => None,
    })
}
