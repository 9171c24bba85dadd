//! Reads the history of a chat completion request.

use std::ops::Range;

use super::{
    is_gemini,
    reasoning::{self, Extra, Field, Weight},
};
use crate::{
    dialect::{
        Author, History, Message, Note, Part, PartKind, Payload, Slot, Thinking, Unreadable,
        read::{self, set},
    },
    scope::MemberPath,
    wire::json::{Cursor, Str},
};

pub(super) fn read<'a>(body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
    let mut reader = Reader { history: empty, ..Reader::default() };
    let mut cursor = Cursor::new(body);
    cursor.object(|cursor, key| reader.member(cursor, key))?;
    cursor.end()?;
    let mut history = reader.history;
    let model = history.model.as_deref().unwrap_or_default();
    let (is_vendors, is_gemini) = (model.contains(&b'/'), is_gemini(model));
    if !is_vendors {
        reader.contents.iter().for_each(|at| hold(&mut history, *at));
    }
    // What Gemini signs it wants back, whatever is asked for.
    if history.thinking == Thinking::Off && !is_gemini {
        let missing = history.parts.iter_mut().filter(|part| part.slot.is_missing());
        missing.for_each(|part| part.slot = Slot::Unfit);
    }
    Ok(history)
}

#[derive(Default)]
struct Reader<'a> {
    history: History<'a>,
    seen_messages: Option<()>,
    /// A message that is no instruction was seen: instructions after it are part of the conversation.
    begun: bool,
    /// The thoughts that the client shows as `reasoning_content`, with nothing opaque beside it.
    contents: Vec<usize>,
}

/// Takes a thought for all that there was of it. Who makes a model names it without a slash, and puts nothing beside
/// `reasoning_content`. Behind a name that a vendor precedes may stand a relay that gave the reasoning another name
/// and had more beside it: many clients write all reasoning as `reasoning_content`.
fn hold(history: &mut History<'_>, thought: usize) {
    let Some(part) = history.parts.get_mut(thought) else { return };
    part.slot = Slot::Held(part.span.clone());
    let parts = history.messages.get(part.message).map_or(0..0, |message| message.parts.clone());
    lacks_nothing(&mut history.parts[parts]);
}

/// Beside a thought of the client's own nothing is missing.
fn lacks_nothing(answer: &mut [Part<'_>]) {
    let beside = answer.iter_mut().filter(|part| part.slot == Slot::Beside);
    beside.for_each(|part| part.slot = Slot::Unfit);
}

impl<'a> Reader<'a> {
    fn member(&mut self, cursor: &mut Cursor<'a>, key: Str<'a>) -> Result<(), Unreadable> {
        let bytes = cursor.bytes();
        let name = key.decode();
        match &*name {
            b"messages" => {
                set(&mut self.seen_messages, ())?;
                cursor.array(|cursor| self.message(cursor))?;
            }
            b"model" if cursor.peek() == Some(b'"') => {
                let model = cursor.string()?.0.decode();
                set(&mut self.history.model, model)?;
            }
            b"tools" => {
                let span = cursor.skip()?;
                set(&mut self.history.tools, span)?;
            }
            _ => {
                let value = &bytes[cursor.skip()?];
                if value.len() <= read::MAX_MEMBER && is_off(&name, value) {
                    self.history.thinking = Thinking::Off;
                }
                read::note(&mut self.history, MemberPath::Root, key, value);
            }
        }
        Ok(())
    }

    fn message(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        let bytes = cursor.bytes();
        read::make_room(&mut self.history, cursor);
        let message = self.history.messages.len();
        let first = self.history.parts.len();
        let (mut lists, begun) = (Lists::default(), self.begun);
        let parts = &mut self.history.parts;
        // Where the role stands first, lists need not be read again once it is known.
        let scan = scan_lists(cursor, |role, list, cursor| {
            let author = match &*role.decode() {
                b"assistant" => Author::Model,
                b"tool" | b"function" => return Ok(None),
                b"system" | b"developer" if !begun => return Ok(None),
                _ => Author::Client,
            };
            lists.read(author, list, cursor, message, parts)
        })?;
        let role = scan.role.map(|role| role.decode()).unwrap_or_default();
        let is_instruction = matches!(&*role, b"system" | b"developer");
        if is_instruction && !self.begun {
            let system = &mut self.history.system;
            return each_content(bytes, &scan, 0, &Slot::Unfit, |part| system.push(part.payload));
        }
        self.begun = true;
        let author = if &*role == b"assistant" { Author::Model } else { Author::Client };
        match &*role {
            b"assistant" => self.answer(bytes, &scan, message, first, lists)?,
            b"tool" | b"function" => {
                let (span, payload) = output(bytes, &scan)?;
                let part = Part {
                    message,
                    span,
                    kind: PartKind::Output,
                    id: scan.id,
                    name: scan.name,
                    payload,
                    slot: Slot::Unfit,
                    snake_case: false,
                };
                self.history.parts.push(part);
            }
            _ if lists.has_content => {}
            _ => {
                let parts = &mut self.history.parts;
                each_content(bytes, &scan, message, &Slot::Unfit, |part| parts.push(part))?;
            }
        }
        let parts = first..self.history.parts.len();
        let note = scan.note();
        self.history.messages.push(Message { author, span: scan.span, parts, note });
        Ok(())
    }

    /// A message of the model: its reasoning, what it says, what it calls.
    fn answer(
        &mut self,
        bytes: &'a [u8],
        scan: &Scan<'a>,
        message: usize,
        first: usize,
        mut lists: Lists,
    ) -> Result<(), Unreadable> {
        let parts = &mut self.history.parts;
        if !lists.has_content {
            each_content(bytes, scan, message, &Slot::Beside, |part| parts.push(part))?;
            lists.put_calls_last(parts);
        }
        if let Some((field, part)) = thought(bytes, scan, message) {
            if field == Field::Content && part.slot.is_missing() && !part.is_empty_text() {
                if self.contents.len() == self.contents.capacity() {
                    self.contents.reserve_exact(self.history.messages.capacity() + 1);
                }
                self.contents.push(first);
            }
            parts.insert(first, part);
        }
        if let Some(calls) = scan.calls.as_ref().filter(|_| lists.calls.is_none()) {
            let mut cursor = Cursor::at(bytes, calls.start);
            match cursor.peek() {
                Some(b'[') => {
                    cursor.array(|cursor| {
                        parts.push(call(cursor, message)?);
                        Ok::<_, Unreadable>(())
                    })?;
                }
                Some(b'n') => {}
                // What is no list of calls is the provider's to refuse.
                _ => return Err(Unreadable),
            }
        }
        if let Some(called) = scan.function_call.as_ref().filter(|span| bytes[span.start] == b'{') {
            let mut cursor = Cursor::at(bytes, called.start);
            let (name, payload, _) = function(&mut cursor, "arguments")?;
            parts.push(called_part(message, called.clone(), None, name, payload, Slot::Beside, bytes));
        }
        let answer = &mut parts[first..];
        let own = answer.iter().any(|part| part.kind == PartKind::Thought && !part.slot.is_missing());
        if own {
            lacks_nothing(answer);
        }
        Ok(())
    }
}

/// The lists of a message that were read while it was scanned.
#[derive(Default)]
struct Lists {
    has_content: bool,
    /// Its calls, as indexes into the parts of the history.
    calls: Option<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Content,
    Calls,
}

impl Lists {
    /// Reads a list; none if it means nothing in a message by this author.
    fn read<'a>(
        &mut self,
        author: Author,
        list: List,
        cursor: &mut Cursor<'a>,
        message: usize,
        parts: &mut Vec<Part<'a>>,
    ) -> Result<Option<Range<usize>>, Unreadable> {
        let is_model = author == Author::Model;
        if list == List::Calls && !is_model {
            return Ok(None);
        }
        let first = parts.len();
        let beside = if is_model { Slot::Beside } else { Slot::Unfit };
        let span = cursor.array(|cursor| {
            parts.push(match list {
                List::Content => element(cursor, message, &beside)?,
                List::Calls => call(cursor, message)?,
            });
            Ok::<_, Unreadable>(())
        })?;
        match list {
            List::Content => {
                self.has_content = true;
                self.put_calls_last(parts);
            }
            List::Calls => self.calls = Some(first..parts.len()),
        }
        Ok(Some(span))
    }

    /// Puts what was said behind the calls before them.
    fn put_calls_last(&mut self, parts: &mut [Part<'_>]) {
        if let Some(calls) = &mut self.calls
            && calls.end < parts.len()
        {
            parts[calls.start..].rotate_left(calls.len());
            *calls = parts.len() - calls.len()..parts.len();
        }
    }
}

/// Whether a member of the request says that no thinking at all is wanted. `enable_thinking` is not asked: many
/// servers do not know it, and think.
fn is_off(key: &[u8], value: &[u8]) -> bool {
    let says = |object: &[u8], name: &str, wanted: &[u8]| {
        let mut cursor = Cursor::new(object);
        let mut found = false;
        if cursor.peek() == Some(b'{') {
            let _ = cursor.object::<Unreadable>(|cursor, key| {
                let span = cursor.skip()?;
                found |= key.is(name) && &cursor.bytes()[span] == wanted;
                Ok(())
            });
        }
        found
    };
    match key {
        b"thinking" => says(value, "type", b"\"disabled\""),
        b"reasoning" => says(value, "enabled", b"false") || says(value, "effort", b"\"none\""),
        b"reasoning_effort" => value == b"\"none\"",
        _ => false,
    }
}

/// A value, and the text that it is if it is a string.
pub(super) struct Value<'a> {
    pub(super) span: Range<usize>,
    text: Option<Str<'a>>,
}

impl<'a> Value<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Unreadable> {
        if cursor.peek() == Some(b'"') {
            let (text, span) = cursor.string()?;
            return Ok(Self { span, text: Some(text) });
        }
        Ok(Self { span: cursor.skip()?, text: None })
    }
}

/// Where the members of a message stand.
#[derive(Default)]
pub(super) struct Scan<'a> {
    pub(super) span: Range<usize>,
    /// Where the last member ends, or the place behind the brace if there is none.
    pub(super) end: usize,
    pub(super) is_empty: bool,
    role: Option<Str<'a>>,
    pub(super) content: Option<Value<'a>>,
    pub(super) calls: Option<Range<usize>>,
    function_call: Option<Range<usize>>,
    id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    fields: [Option<Value<'a>>; Field::ALL.len()],
}

impl<'a> Scan<'a> {
    pub(super) fn field(&self, field: Field) -> Option<&Range<usize>> {
        Some(&self.fields[field as usize].as_ref()?.span)
    }

    fn note(&self) -> Note {
        let is_open = !self.is_empty && self.fields.iter().all(Option::is_none);
        if is_open { Note::Open(self.end) } else { Note::Nothing }
    }

    fn text(&self, field: Field) -> Option<Str<'a>> {
        self.fields[field as usize].as_ref()?.text
    }
}

/// Reads what a message is made of.
pub(super) fn scan<'a>(cursor: &mut Cursor<'a>) -> Result<Scan<'a>, Unreadable> {
    scan_lists(cursor, |_, _, _| Ok(None))
}

/// The same for one who may read a list while its members are visited, if the role is known by then.
fn scan_lists<'a>(
    cursor: &mut Cursor<'a>,
    mut read: impl FnMut(&Str<'a>, List, &mut Cursor<'a>) -> Result<Option<Range<usize>>, Unreadable>,
) -> Result<Scan<'a>, Unreadable> {
    let mut list = |role: Option<&Str<'a>>, list: List, cursor: &mut Cursor<'a>| {
        let is_list = cursor.peek() == Some(b'[');
        let span = match role.filter(|_| is_list) {
            Some(role) => read(role, list, cursor)?,
            None => None,
        };
        span.map_or_else(|| cursor.skip().map_err(Unreadable::from), Ok)
    };
    let mut scan = Scan { is_empty: true, ..Scan::default() };
    let span = cursor.object(|cursor, key| {
        let key = key.decode();
        let is_text = cursor.peek() == Some(b'"');
        scan.is_empty = false;
        match &*key {
            b"role" if is_text => set(&mut scan.role, cursor.string()?.0)?,
            b"tool_call_id" if is_text => set(&mut scan.id, cursor.string()?.0)?,
            b"name" if is_text => set(&mut scan.name, cursor.string()?.0)?,
            b"content" if is_text => set(&mut scan.content, Value::read(cursor)?)?,
            b"content" => {
                let span = list(scan.role.as_ref(), List::Content, cursor)?;
                set(&mut scan.content, Value { span, text: None })?;
            }
            b"tool_calls" => {
                let span = list(scan.role.as_ref(), List::Calls, cursor)?;
                set(&mut scan.calls, span)?;
            }
            b"function_call" => set(&mut scan.function_call, cursor.skip()?)?,
            key => {
                let value = Value::read(cursor)?;
                if let Some(field) = Field::of(key) {
                    set(&mut scan.fields[field as usize], value)?;
                }
            }
        }
        scan.end = cursor.position();
        Ok::<_, Unreadable>(())
    })?;
    if scan.is_empty {
        scan.end = span.start + 1;
    }
    scan.span = span;
    Ok(scan)
}

/// The reasoning of a message, as one part.
fn thought<'a>(bytes: &'a [u8], scan: &Scan<'a>, message: usize) -> Option<(Field, Part<'a>)> {
    let weighed = |wanted: Weight| {
        let mut fields = Field::ALL.into_iter().filter_map(|field| Some((field, scan.field(field)?.clone())));
        fields.find(|(field, span)| field.weigh(&bytes[span.clone()]) == wanted)
    };
    let (field, span, slot) = match weighed(Weight::Real) {
        Some((field, span)) => {
            // Where only what is shown was kept, what is opaque may have stood beside it.
            let slot = match field.beside() {
                None => Slot::Held(span.clone()),
                Some(other) => scan.field(other).map_or(Slot::Absent(scan.end), |blank| Slot::Blank(blank.clone())),
            };
            (field, span, slot)
        }
        None => {
            let (field, span) = weighed(Weight::Blank)?;
            (field, span.clone(), Slot::Blank(span))
        }
    };
    let shown = reasoning::shown(|field| Some(&bytes[scan.field(field)?.clone()]));
    let text = shown.and_then(|(shown, _)| scan.text(shown)).unwrap_or_else(Str::empty);
    Some((field, thought_part(message, span, text, slot)))
}

fn thought_part(message: usize, span: Range<usize>, text: Str<'_>, slot: Slot) -> Part<'_> {
    Part {
        message,
        span,
        kind: PartKind::Thought,
        id: None,
        name: None,
        payload: Payload::Text(text),
        slot,
        snake_case: false,
    }
}

/// Visits what a message says: one string, or the elements of a list. `beside` is where state of it would stand.
fn each_content<'a>(
    bytes: &'a [u8],
    scan: &Scan<'a>,
    message: usize,
    beside: &Slot,
    mut each: impl FnMut(Part<'a>),
) -> Result<(), Unreadable> {
    let Some(content) = &scan.content else { return Ok(()) };
    if let Some(text) = content.text {
        // Clients write nothing as an empty string too.
        if !text.is_empty() {
            each(said(message, content.span.clone(), PartKind::Text, Payload::Text(text), beside));
        }
        return Ok(());
    }
    let mut cursor = Cursor::at(bytes, content.span.start);
    let mut each = |cursor: &mut Cursor<'a>| {
        each(element(cursor, message, beside)?);
        Ok(())
    };
    match cursor.peek() {
        Some(b'[') => cursor.array(each).map(drop),
        Some(b'n') => Ok(()),
        _ => each(&mut cursor),
    }
}

fn said<'a>(message: usize, span: Range<usize>, kind: PartKind, payload: Payload<'a>, beside: &Slot) -> Part<'a> {
    let slot = if kind == PartKind::Other { Slot::Unfit } else { beside.clone() };
    Part { message, span, kind, id: None, name: None, payload, slot, snake_case: false }
}

/// Reads one element of what a message says.
fn element<'a>(cursor: &mut Cursor<'a>, message: usize, beside: &Slot) -> Result<Part<'a>, Unreadable> {
    let bytes = cursor.bytes();
    let part = |span, kind, payload| said(message, span, kind, payload, beside);
    match cursor.peek() {
        Some(b'"') => {
            let (text, span) = cursor.string()?;
            return Ok(part(span, PartKind::Text, Payload::Text(text)));
        }
        Some(b'{') => {}
        _ => {
            let span = cursor.skip()?;
            let value = &bytes[span.clone()];
            return Ok(part(span, PartKind::Other, Payload::Json(Some(value))));
        }
    }
    let (mut kind, mut text, mut thinking, mut signature) = (None, None, None, None);
    let (mut link, mut data, mut file) = (None, None, None);
    let span = cursor.object(|cursor, key| {
        let key = key.decode();
        let is_text = cursor.peek() == Some(b'"');
        match &*key {
            b"type" if is_text => set(&mut kind, cursor.string()?.0)?,
            b"text" if is_text => set(&mut text, cursor.string()?.0)?,
            b"thinking" => set(&mut thinking, cursor.skip()?)?,
            b"signature" => set(&mut signature, cursor.skip()?)?,
            b"image_url" | b"video_url" => set(&mut link, named(cursor, "url")?)?,
            b"input_audio" => set(&mut data, named(cursor, "data")?)?,
            b"file" => set(&mut file, cursor.skip()?)?,
            _ => {
                cursor.skip()?;
            }
        }
        Ok::<_, Unreadable>(())
    })?;
    let kind = kind.map(|kind| kind.decode()).unwrap_or_default();
    if &*kind == b"thinking" {
        let Some(value) = thinking else {
            return Ok(part(span, PartKind::Other, Payload::Json(None)));
        };
        let text = thinking_text(&bytes[value.clone()]);
        let signed = signature.filter(|value| &bytes[value.clone()] != b"null" && value.len() > 2);
        let is_blank = text.decode().trim_ascii().is_empty() || reasoning::is_placeholder(&text.decode());
        let slot = match (is_blank, signed) {
            (true, None) => Slot::Blank(value),
            _ => Slot::Held(value),
        };
        return Ok(thought_part(message, span, text, slot));
    }
    if let Some(text) = text {
        return Ok(part(span, PartKind::Text, Payload::Text(text)));
    }
    if let Some(link) = link.flatten() {
        return Ok(part(span, PartKind::Media, Payload::Uri(link)));
    }
    if let Some(data) = data.flatten() {
        return Ok(part(span, PartKind::Media, Payload::Data(data)));
    }
    let payload = match file {
        // Marks for the cache beside it say nothing.
        Some(file) => Payload::Fields("file", vec![("file", &bytes[file])]),
        None => Payload::Json(Some(&bytes[span.clone()])),
    };
    Ok(part(span, PartKind::Other, payload))
}

/// The text of the first member of this name, or that of a string.
fn named<'a>(cursor: &mut Cursor<'a>, name: &str) -> Result<Option<Str<'a>>, Unreadable> {
    let mut found = None;
    match cursor.peek() {
        Some(b'"') => found = Some(cursor.string()?.0),
        Some(b'{') => {
            cursor.object::<Unreadable>(|cursor, key| {
                if key.is(name) && cursor.peek() == Some(b'"') {
                    found = found.or(Some(cursor.string()?.0));
                    return Ok(());
                }
                cursor.skip()?;
                Ok(())
            })?;
        }
        _ => _ = cursor.skip()?,
    }
    Ok(found)
}

/// What a chunk of thinking shows: a string, or the first text of a list.
pub(super) fn thinking_text(value: &[u8]) -> Str<'_> {
    if let Some(text) = reasoning::text_of(value) {
        return text;
    }
    let mut first = None;
    let mut cursor = Cursor::new(value);
    if cursor.peek() == Some(b'[') {
        let _ = cursor.array::<Unreadable>(|cursor| {
            let text =
                if cursor.peek() == Some(b'{') { named(cursor, "text")? } else { cursor.skip().map(|_| None)? };
            first = first.or(text);
            Ok(())
        });
    }
    first.unwrap_or_else(Str::empty)
}

/// What a tool gave back. One text is the same with and without a list around it.
fn output<'a>(bytes: &'a [u8], scan: &Scan<'a>) -> Result<(Range<usize>, Payload<'a>), Unreadable> {
    let Some(content) = &scan.content else { return Ok((scan.span.clone(), Payload::Json(None))) };
    let (content, value) = (content.span.clone(), &bytes[content.span.clone()]);
    if let Some(text) = scan.content.as_ref().and_then(|content| content.text) {
        return Ok((content, Payload::Text(text)));
    }
    let (mut texts, mut count) = (None, 0_usize);
    if value.first() == Some(&b'[') {
        each_content(bytes, scan, 0, &Slot::Unfit, |part| {
            count += 1;
            if let Payload::Text(text) = part.payload {
                texts = Some(text);
            }
        })?;
    }
    Ok(match texts {
        Some(text) if count == 1 => (content, Payload::Text(text)),
        _ => (content, Payload::Json(Some(value))),
    })
}

/// Reads one element of `tool_calls`. The same reader serves requests and responses, so that what is remembered and
/// what is looked up can never be derived differently.
pub(super) fn call<'a>(cursor: &mut Cursor<'a>, message: usize) -> Result<Part<'a>, Unreadable> {
    let bytes = cursor.bytes();
    if cursor.peek() != Some(b'{') {
        let span = cursor.skip()?;
        return Ok(called_part(message, span, None, None, Payload::Json(None), Slot::Unfit, bytes));
    }
    let (mut id, mut called, mut slot) = (None, None, None);
    let span = cursor.object(|cursor, key| {
        let key = key.decode();
        match (&*key, cursor.peek()) {
            (b"id", Some(b'"')) => set(&mut id, cursor.string()?.0)?,
            (b"function", Some(b'{')) => set(&mut called, function(cursor, "arguments")?)?,
            (b"custom", Some(b'{')) => set(&mut called, function(cursor, "input")?)?,
            (b"extra_content", _) => {
                let span = cursor.skip()?;
                let found = match reasoning::extra(&bytes[span.clone()]) {
                    Extra::Signed(_) => Slot::Held(span),
                    Extra::Blank => Slot::Blank(span),
                    Extra::Other => Slot::Unfit,
                };
                set(&mut slot, found)?;
            }
            _ => {
                cursor.skip()?;
            }
        }
        Ok::<_, Unreadable>(())
    })?;
    let (name, payload, _) = called.unwrap_or((None, Payload::Json(None), 0..0));
    Ok(called_part(message, span, id, name, payload, slot.unwrap_or(Slot::Beside), bytes))
}

/// A call; what has no name is something else.
fn called_part<'a>(
    message: usize,
    span: Range<usize>,
    id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    payload: Payload<'a>,
    slot: Slot,
    bytes: &'a [u8],
) -> Part<'a> {
    if name.is_none() {
        let payload = Payload::Json(Some(&bytes[span.clone()]));
        let (kind, slot) = (PartKind::Other, Slot::Unfit);
        return Part { message, span, kind, id, name, payload, slot, snake_case: false };
    }
    Part { message, span, kind: PartKind::Call, id, name, payload, slot, snake_case: false }
}

type Called<'a> = (Option<Str<'a>>, Payload<'a>, Range<usize>);

/// The name of what is called, and with what.
fn function<'a>(cursor: &mut Cursor<'a>, arguments: &str) -> Result<Called<'a>, Unreadable> {
    let (mut name, mut payload) = (None, None);
    let span = cursor.object(|cursor, key| {
        if key.is("name") && cursor.peek() == Some(b'"') {
            return set(&mut name, cursor.string()?.0);
        }
        if !key.is(arguments) {
            return cursor.skip().map(drop).map_err(Unreadable::from);
        }
        // Arguments are JSON inside a string. What is no JSON is compared as the string that it is.
        let value = Value::read(cursor)?;
        let held = match value.text {
            Some(text) => Payload::Encoded(text),
            None => Payload::Json(Some(&cursor.bytes()[value.span]).filter(|value| *value != b"null")),
        };
        set(&mut payload, held)
    })?;
    Ok((name, payload.unwrap_or(Payload::Json(None)), span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::HashKey;

    /// In which order the members of a message stand decides how it is read, and not what it is.
    #[test]
    fn the_order_of_members_does_not_matter() {
        let calls = r#""tool_calls":[{"id":"c1","function":{"name":"n","arguments":"{}"}},{"id":"c2","function":{"name":"m","arguments":"{\"a\":1}"}}]"#;
        let contents = [
            r#""content":[{"type":"text","text":"a"},{"type":"thinking","thinking":"t"},{"type":"text","text":"b"}]"#,
            r#""content":"a""#,
            r#""content":[]"#,
            r#""content":null"#,
        ];
        for role in ["assistant", "user", "tool", "developer", "system"] {
            let role = format!(r#""role":"{role}""#);
            for content in contents {
                for reasoning in [r#""reasoning_content":"thought""#, r#""reasoning_content":"""#, r#""name":"x""#] {
                    let members = [&*role, calls, content, reasoning];
                    let read = |order: [usize; 4]| {
                        let message = order.map(|at| members[at]).join(",");
                        let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}},{{{message}}}]}}"#);
                        let history = read(body.as_bytes(), History::default()).unwrap();
                        let parts = history.parts_of(1).iter().map(|part| {
                            let (raw, id) = (body[part.span.clone()].to_owned(), part.id.map(|id| id.raw().to_vec()));
                            (part.kind, part.message, raw, id, std::mem::discriminant(&part.slot))
                        });
                        parts.collect::<Vec<_>>()
                    };
                    let expected = read([1, 2, 3, 0]);
                    for order in [[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 2, 1], [2, 0, 1, 3], [1, 0, 2, 3], [3, 1, 0, 2]] {
                        // A tool's answer is one value, whatever stands around it.
                        assert_eq!(read(order), expected, "{role} {content} {reasoning} {order:?}");
                    }
                }
            }
        }
    }

    fn parts(message: &str) -> Vec<(PartKind, bool)> {
        let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}},{message}]}}");
        let history = read(body.as_bytes(), History::default()).unwrap();
        history.parts_of(1).iter().map(|part| (part.kind, part.slot.is_missing())).collect()
    }

    #[test]
    fn reasoning_of_the_clients_own_leaves_nothing_missing() {
        use PartKind::{Call, Text, Thought};
        let call = r#""tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
        let message = |rest: &str| parts(&format!("{{\"role\":\"assistant\",\"content\":\"so\",{call}{rest}}}"));
        assert_eq!(message(""), [(Text, true), (Call, true)]);
        for held in [
            r#","reasoning_content":"why""#,
            r#","reasoning_details":[{"type":"reasoning.encrypted","data":"abc"}]"#,
            r#","reasoning_text":"","reasoning_opaque":"abc""#,
            r#","extra_content":{"google":{"thought_signature":"abc"}}"#,
        ] {
            assert_eq!(message(held), [(Thought, false), (Text, false), (Call, false)], "{held}");
        }
        // What can be shown may have lost what cannot.
        let half = [r#","reasoning":"why""#, r#","reasoning_text":"why""#];
        for blank in
            [r#","reasoning_content":"""#, r#","reasoning":null"#, r#","reasoning_details":[]"#].iter().chain(&half)
        {
            assert_eq!(message(blank), [(Thought, true), (Text, true), (Call, true)], "{blank}");
        }
        assert_eq!(message(r#","extra_content":{"google":{"thought":true}}"#), [(Text, true), (Call, true)]);
    }

    #[test]
    fn a_chunk_of_thinking_is_a_thought() {
        use PartKind::{Text, Thought};
        let text = r#"{"type":"text","text":"so"}"#;
        let held = r#"{"type":"thinking","thinking":[{"type":"text","text":"why"}]}"#;
        let blank = r#"{"type":"thinking","thinking":[],"closed":true}"#;
        let message = |chunk: &str| parts(&format!("{{\"role\":\"assistant\",\"content\":[{chunk},{text}]}}"));
        assert_eq!(message(held), [(Thought, false), (Text, false)]);
        assert_eq!(message(blank), [(Thought, true), (Text, true)]);
    }

    #[test]
    fn a_call_is_the_same_in_every_spelling() {
        let key = HashKey::from_bytes([7; 32]);
        let anchor = |arguments: &str| {
            let call = format!("{{\"id\":\"c\",\"function\":{{\"name\":\"f\",\"arguments\":{arguments}}}}}");
            call_anchor(&call, &key)
        };
        fn call_anchor(call: &str, key: &HashKey) -> Option<crate::ledger::Anchor> {
            self::call(&mut Cursor::new(call.as_bytes()), 0).unwrap().anchor(key, None)
        }
        assert_eq!(anchor(r#""{\"a\":1}""#), anchor(r#""{ \"a\": 1.0 }""#));
        assert_eq!(anchor(r#""{\"a\":1}""#), anchor(r#"{"a":1}"#));
        assert_eq!(anchor(r#""""#), anchor(r#""{}""#));
        assert_eq!(anchor("null"), anchor(r#""null""#));
        assert_ne!(anchor(r#""{\"a\":""#), anchor(r#""{\"a\":1}""#));
        assert_eq!(anchor(r#""{\"a\":""#), anchor(r#""{\u0022a\":""#));
        assert!(anchor(r#""{\"a\":""#).is_some());
    }

    #[test]
    fn instructions_at_the_head_are_the_system_and_later_ones_are_not() {
        let body = r#"{"messages":[{"role":"developer","content":"a"},{"role":"system","content":[{"type":"text","text":"b"}]},
            {"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:x"}}]},
            {"role":"system","content":"c"},
            {"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"out"}]}],"model":"m","session_id":"s"}"#;
        let history = read(body.as_bytes(), History::default()).unwrap();
        assert_eq!((history.system.len(), history.messages.len(), history.members.len()), (2, 3, 1));
        let kinds: Vec<_> = history.parts.iter().map(|part| part.kind).collect();
        assert_eq!(kinds, [PartKind::Text, PartKind::Media, PartKind::Text, PartKind::Output]);
        assert!(matches!(&history.parts[3].payload, Payload::Text(text) if text.is("out")));
    }

    #[test]
    fn what_is_there_twice_is_unreadable() {
        for body in [
            r#"{"messages":[],"messages":[]}"#,
            r#"{"messages":[{"role":"user","role":"assistant"}]}"#,
            r#"{"messages":[{"role":"assistant","reasoning":"a","reasoning":"b"}]}"#,
            r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"a","id":"b"}]}]}"#,
            r#"{"messages":{}}"#,
            r#"{"messages":[7]}"#,
            r#"{"messages":[]} x"#,
        ] {
            assert!(read(body.as_bytes(), History::default()).is_err(), "{body}");
        }
    }

    #[test]
    fn without_thinking_nothing_is_missing_but_what_gemini_signs() {
        let missing = |model: &str, off: &str| {
            let body =
                format!("{{\"model\":\"{model}\",{off},\"messages\":[{{\"role\":\"assistant\",\"content\":\"so\"}}]}}");
            read(body.as_bytes(), History::default()).unwrap().parts[0].slot.is_missing()
        };
        for off in
            [r#""thinking":{"type":"disabled"}"#, r#""reasoning":{"effort":"none"}"#, r#""reasoning_effort":"none""#]
        {
            assert!(!missing("deepseek-v4", off), "{off}");
            assert!(missing("google/gemini-3-pro", off), "{off}");
        }
        assert!(missing("qwen3", r#""enable_thinking":false"#));
    }
}
