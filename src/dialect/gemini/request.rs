//! Reads the history of a `generateContent` request.
//!
//! Proto-JSON lets a client spell every field in camel case or in snake case, even mixed in one part,
//! so both are read everywhere.

use std::ops::Range;

use super::{partial, placeholder};
use crate::{
    dialect::{
        Author, History, Message, Note, Part, PartKind, Payload, Slot, Thinking, Unreadable,
        read::{self, once},
    },
    scope::MemberPath,
    wire::json::{Cursor, Str},
};

/// Reads a body whose contents stand at its root, or in `generateContentRequest` when it is counted.
pub(in crate::dialect) fn read<'a>(body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
    read_envelope(body, empty, |key| matches!(key, b"generateContentRequest" | b"generate_content_request"))
}

/// Reads a body that may wrap the request in a member for which `is_envelope` holds.
pub(in crate::dialect) fn read_envelope<'a>(
    body: &'a [u8],
    empty: History<'a>,
    is_envelope: impl Fn(&[u8]) -> bool,
) -> Result<History<'a>, Unreadable> {
    let mut reader = Reader { history: empty, ..Reader::default() };
    let mut cursor = Cursor::new(body);
    cursor.object(|cursor, name| {
        if is_envelope(&name.decode()) {
            let path = MemberPath::Request;
            return cursor.object(|cursor, key| reader.member(cursor, path, key)).map(drop);
        }
        reader.member(cursor, MemberPath::Root, name)
    })?;
    cursor.end()?;
    Ok(reader.history)
}

#[derive(Default)]
struct Reader<'a> {
    history: History<'a>,
    seen_contents: bool,
    seen_system: bool,
    seen_tools: bool,
    seen_model: [bool; 2],
}

impl<'a> Reader<'a> {
    fn member(&mut self, cursor: &mut Cursor<'a>, path: MemberPath, key: Str<'a>) -> Result<(), Unreadable> {
        match &*key.decode() {
            b"contents" => {
                once(&mut self.seen_contents)?;
                match cursor.peek() {
                    Some(b'[') => {
                        cursor.array(|cursor| self.content(cursor))?;
                    }
                    Some(b'{') => self.content(cursor)?,
                    _ => {
                        cursor.skip()?;
                    }
                }
            }
            b"systemInstruction" | b"system_instruction" => {
                once(&mut self.seen_system)?;
                self.system(cursor)?;
            }
            b"tools" => {
                once(&mut self.seen_tools)?;
                self.history.tools = Some(cursor.skip()?);
            }
            b"model" if cursor.peek() == Some(b'"') => {
                once(&mut self.seen_model[usize::from(path == MemberPath::Root)])?;
                let model = cursor.string()?.0.decode();
                // The envelope and what is in it may both name the model, if they agree.
                if self.history.model.as_ref().is_some_and(|held| *held != model) {
                    return Err(Unreadable);
                }
                self.history.model = Some(model);
            }
            // What is cached precedes the contents, as the instruction does.
            b"cachedContent" | b"cached_content" if cursor.peek() == Some(b'"') => {
                let (name, _) = cursor.string()?;
                self.history.system.push(Payload::Uri(name));
            }
            b"generationConfig" | b"generation_config" => {
                let span = cursor.skip()?;
                if thinking_off(&cursor.bytes()[span]) {
                    self.history.thinking = Thinking::Off;
                }
            }
            _ => {
                let span = cursor.skip()?;
                read::note(&mut self.history, path, key, &cursor.bytes()[span]);
            }
        }
        Ok(())
    }

    fn system(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        match cursor.peek() {
            Some(b'{') => {}
            Some(b'"') => {
                self.history.system.push(Payload::Text(cursor.string()?.0));
                return Ok(());
            }
            _ => {
                cursor.skip()?;
                return Ok(());
            }
        }
        let system = &mut self.history.system;
        cursor.object(|cursor, key| {
            if !key.is("parts") {
                return cursor.skip().map(drop).map_err(Unreadable::from);
            }
            each(cursor, |cursor| {
                let part = one(cursor)?;
                if part.kind != PartKind::Other || !matches!(part.payload, Payload::Json(None)) {
                    system.push(part.payload);
                }
                Ok(())
            })
        })?;
        Ok(())
    }

    fn content(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        if cursor.peek() != Some(b'{') {
            // A message that is no object is the provider's to refuse.
            return Err(Unreadable);
        }
        read::make_room(&mut self.history, cursor);
        let message = self.history.messages.len();
        let first = self.history.parts.len();
        let mut author = Author::Client;
        let (mut seen_role, mut seen_parts) = (false, false);
        let parts = &mut self.history.parts;
        let span = cursor.object(|cursor, key| {
            if key.is("role") {
                once(&mut seen_role)?;
                if cursor.peek() == Some(b'"') {
                    if cursor.string()?.0.is("model") {
                        author = Author::Model;
                    }
                    return Ok(());
                }
                cursor.skip()?;
            } else if key.is("parts") {
                once(&mut seen_parts)?;
                each(cursor, |cursor| part(cursor, message, |part| parts.push(part)))?;
            } else {
                cursor.skip()?;
            }
            Ok::<_, Unreadable>(())
        })?;
        let parts = first..self.history.parts.len();
        self.history.messages.push(Message { author, span, parts, note: Note::Nothing });
        Ok(())
    }
}

/// The elements of an array, or the one value that stands for an array of one.
fn each<'a>(
    cursor: &mut Cursor<'a>,
    mut element: impl FnMut(&mut Cursor<'a>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    match cursor.peek() {
        Some(b'[') => cursor.array(element).map(drop),
        Some(b'{') => element(cursor),
        _ => cursor.skip().map(drop).map_err(Unreadable::from),
    }
}

/// `thinkingConfig.thinkingBudget: 0` is how a request says that it wants no thinking.
fn thinking_off(config: &[u8]) -> bool {
    let mut off = false;
    let mut cursor = Cursor::new(config);
    if cursor.peek() != Some(b'{') {
        return false;
    }
    let _ = cursor.object::<Unreadable>(|cursor, key| {
        let is_config = key.is("thinkingConfig") || key.is("thinking_config");
        if !is_config || cursor.peek() != Some(b'{') {
            return cursor.skip().map(drop).map_err(Unreadable::from);
        }
        cursor.object::<Unreadable>(|cursor, key| {
            let is_budget = key.is("thinkingBudget") || key.is("thinking_budget");
            let span = cursor.skip()?;
            off |= is_budget && &cursor.bytes()[span] == b"0";
            Ok(())
        })?;
        Ok(())
    });
    off
}

/// What a part was found to hold while its members were read.
#[derive(Default)]
struct Draft<'a> {
    text: Option<Str<'a>>,
    thought: bool,
    body: Option<(PartKind, Payload<'a>)>,
    id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    slot: Option<Slot>,
    snake_case: bool,
    confused: bool,
    members: usize,
}

impl<'a> Draft<'a> {
    fn holds(&mut self, kind: PartKind, payload: Payload<'a>) {
        self.confused |= self.body.replace((kind, payload)).is_some();
    }
}

/// Reads one part that stands alone.
pub(super) fn one<'a>(cursor: &mut Cursor<'a>) -> Result<Part<'a>, Unreadable> {
    let mut found = None;
    part(cursor, 0, |part| found = Some(part))?;
    found.ok_or(Unreadable)
}

/// Reads one part. The same reader serves requests and responses, so that what is remembered and
/// what is looked up can never be derived differently.
fn part<'a>(cursor: &mut Cursor<'a>, message: usize, found: impl FnOnce(Part<'a>)) -> Result<(), Unreadable> {
    let bytes = cursor.bytes();
    if cursor.peek() != Some(b'{') {
        let span = cursor.skip()?;
        found(Part {
            message,
            kind: PartKind::Other,
            id: None,
            name: None,
            payload: Payload::Json(Some(&bytes[span.clone()])),
            slot: Slot::Unfit,
            snake_case: false,
            span,
        });
        return Ok(());
    }
    let mut draft = Draft::default();
    let mut last_end = 0;
    let span = cursor.object(|cursor, key| {
        draft.members += 1;
        member(cursor, key, &mut draft)?;
        last_end = cursor.position();
        Ok::<_, Unreadable>(())
    })?;
    if draft.members == 0 {
        last_end = span.start + 1;
    }
    let has_text = draft.text.is_some();
    let (kind, payload) = match (draft.body, draft.text) {
        (Some((kind, payload)), text) => {
            draft.confused |= text.is_some_and(|text| !text.is_empty());
            (kind, payload)
        }
        (None, Some(text)) if draft.thought => (PartKind::Thought, Payload::Text(text)),
        (None, Some(text)) => (PartKind::Text, Payload::Text(text)),
        (None, None) => (PartKind::Other, Payload::Json(Some(&bytes[span.clone()]))),
    };
    // A part that holds nothing but, perhaps, a signature is what is left of an empty text part.
    let bare = draft.members == usize::from(draft.slot.is_some()) + usize::from(draft.thought);
    let (kind, payload) = if kind == PartKind::Other && !has_text && bare {
        (if draft.thought { PartKind::Thought } else { PartKind::Text }, Payload::Text(Str::empty()))
    } else {
        (kind, payload)
    };
    let slot = match kind {
        _ if draft.confused => Slot::Unfit,
        PartKind::Output | PartKind::Other => Slot::Unfit,
        _ => draft.slot.unwrap_or(Slot::Absent(last_end)),
    };
    let kind = if draft.confused { PartKind::Other } else { kind };
    let payload = if draft.confused { Payload::Json(Some(&bytes[span.clone()])) } else { payload };
    let Draft { id, name, snake_case, .. } = draft;
    found(Part { message, span, kind, id, name, payload, slot, snake_case });
    Ok(())
}

fn member<'a>(cursor: &mut Cursor<'a>, key: Str<'a>, draft: &mut Draft<'a>) -> Result<(), Unreadable> {
    let bytes = cursor.bytes();
    let key = key.decode();
    match &*key {
        b"text" => {
            if cursor.peek() == Some(b'"') {
                if draft.text.replace(cursor.string()?.0).is_some() {
                    return Err(Unreadable);
                }
                return Ok(());
            }
            let span = cursor.skip()?;
            draft.confused |= &bytes[span] != b"null";
        }
        b"thought" => {
            let span = cursor.skip()?;
            draft.thought = &bytes[span] == b"true";
        }
        b"thoughtSignature" | b"thought_signature" => {
            let slot = slot(cursor)?;
            draft.snake_case |= key.contains(&b'_');
            // Proto-JSON refuses a field that is there twice, in whichever spelling.
            draft.confused |= draft.slot.replace(slot).is_some();
        }
        b"functionCall" | b"function_call" => call(cursor, draft)?,
        b"functionResponse" | b"function_response" => {
            let fields = fields(cursor, draft)?;
            let response = fields.response.map(|span| &bytes[span]);
            let payload = match fields.parts {
                // What the tool shows stands beside what it says.
                Some(parts) => {
                    let named = [("parts", Some(&bytes[parts])), ("response", response)];
                    let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
                    Payload::Fields("functionResponse", named.collect())
                }
                None => Payload::Json(response),
            };
            draft.holds(PartKind::Output, payload);
        }
        b"inlineData" | b"inline_data" => {
            let fields = fields(cursor, draft)?;
            match fields.data {
                Some(data) => draft.holds(PartKind::Media, Payload::Data(data)),
                None => draft.holds(PartKind::Other, Payload::Json(fields.span.map(|span| &bytes[span]))),
            }
        }
        b"fileData" | b"file_data" => {
            let fields = fields(cursor, draft)?;
            match fields.uri {
                Some(uri) => draft.holds(PartKind::Media, Payload::Uri(uri)),
                None => draft.holds(PartKind::Other, Payload::Json(fields.span.map(|span| &bytes[span]))),
            }
        }
        b"executableCode" | b"executable_code" => native(cursor, draft, "executableCode")?,
        b"codeExecutionResult" | b"code_execution_result" => native(cursor, draft, "codeExecutionResult")?,
        b"toolCall" | b"tool_call" => native(cursor, draft, "toolCall")?,
        b"toolResponse" | b"tool_response" => native(cursor, draft, "toolResponse")?,
        _ => {
            cursor.skip()?;
            return Ok(());
        }
    }
    draft.snake_case |= key.contains(&b'_');
    Ok(())
}

fn slot(cursor: &mut Cursor<'_>) -> Result<Slot, Unreadable> {
    let bytes = cursor.bytes();
    if cursor.peek() == Some(b'"') {
        let (value, span) = cursor.string()?;
        let blank = value.is_empty() || placeholder::is_placeholder(&value.decode());
        return Ok(if blank { Slot::Blank(span) } else { Slot::Held(span) });
    }
    let span = cursor.skip()?;
    Ok(if &bytes[span.clone()] == b"null" { Slot::Blank(span) } else { Slot::Unfit })
}

/// The fields of the objects that a part may hold.
#[derive(Default)]
struct Fields<'a> {
    span: Option<Range<usize>>,
    args: Option<Range<usize>>,
    partial_args: Option<Range<usize>>,
    response: Option<Range<usize>>,
    parts: Option<Range<usize>>,
    data: Option<Str<'a>>,
    uri: Option<Str<'a>>,
    code: Option<Range<usize>>,
    output: Option<Range<usize>>,
    tool_type: Option<Range<usize>>,
}

fn fields<'a>(cursor: &mut Cursor<'a>, draft: &mut Draft<'a>) -> Result<Fields<'a>, Unreadable> {
    let mut fields = Fields::default();
    if cursor.peek() != Some(b'{') {
        draft.confused = true;
        fields.span = Some(cursor.skip()?);
        return Ok(fields);
    }
    let span = cursor.object(|cursor, key| {
        let key = key.decode();
        let is_text = cursor.peek() == Some(b'"');
        let twice = match &*key {
            b"id" if is_text => draft.id.replace(cursor.string()?.0).is_some(),
            b"name" if is_text => draft.name.replace(cursor.string()?.0).is_some(),
            b"data" if is_text => fields.data.replace(cursor.string()?.0).is_some(),
            b"fileUri" | b"file_uri" if is_text => fields.uri.replace(cursor.string()?.0).is_some(),
            b"args" => fields.args.replace(cursor.skip()?).is_some(),
            b"partialArgs" | b"partial_args" => fields.partial_args.replace(cursor.skip()?).is_some(),
            b"response" => fields.response.replace(cursor.skip()?).is_some(),
            b"parts" => fields.parts.replace(cursor.skip()?).is_some(),
            b"code" => fields.code.replace(cursor.skip()?).is_some(),
            b"output" => fields.output.replace(cursor.skip()?).is_some(),
            b"toolType" | b"tool_type" => fields.tool_type.replace(cursor.skip()?).is_some(),
            _ => {
                cursor.skip()?;
                false
            }
        };
        if twice { Err(Unreadable) } else { Ok(()) }
    })?;
    fields.span = Some(span);
    Ok(fields)
}

fn call<'a>(cursor: &mut Cursor<'a>, draft: &mut Draft<'a>) -> Result<(), Unreadable> {
    let bytes = cursor.bytes();
    let fields = fields(cursor, draft)?;
    let args = fields.args.map(|span| &bytes[span]).filter(|args| *args != b"null");
    let payload = match (args, fields.partial_args) {
        (None, Some(partial)) => match partial::assemble([&bytes[partial]]) {
            Some(args) => Payload::Assembled(args),
            None => {
                draft.confused = true;
                Payload::Json(None)
            }
        },
        (args, _) => Payload::Json(args),
    };
    draft.holds(PartKind::Call, payload);
    Ok(())
}

fn native<'a>(cursor: &mut Cursor<'a>, draft: &mut Draft<'a>, tag: &'static str) -> Result<(), Unreadable> {
    let bytes = cursor.bytes();
    let fields = fields(cursor, draft)?;
    // Enums are left out where the rest tells the parts apart: Vertex may write them as numbers.
    let named = [
        ("args", fields.args),
        ("code", fields.code),
        ("output", fields.output),
        ("response", fields.response),
        ("toolType", fields.tool_type),
    ];
    let named = named.into_iter().filter_map(|(name, span)| Some((name, &bytes[span?])));
    // Clients write out arguments that the provider left out, and the other way round.
    let named = named.filter(|(_, value)| !is_nothing(value));
    let payload = Payload::Fields(tag, named.collect());
    draft.holds(PartKind::Native, payload);
    Ok(())
}

/// `null` or an object without members.
fn is_nothing(value: &[u8]) -> bool {
    let inner = value.strip_prefix(b"{").and_then(|value| value.strip_suffix(b"}"));
    value == b"null" || inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_and_what_is_in_it_may_both_name_the_model() {
        let read = |body: &str| {
            let history = read_envelope(body.as_bytes(), History::default(), |key| key == b"request").ok()?;
            Some(history.model?.into_owned())
        };
        assert_eq!(read(r#"{"model":"m","request":{"contents":[],"model":"m"}}"#).as_deref(), Some(&b"m"[..]));
        assert_eq!(read(r#"{"model":"m","request":{"contents":[],"model":"n"}}"#), None);
        assert_eq!(read(r#"{"model":"m","model":"m","request":{"contents":[]}}"#), None);
    }
}
