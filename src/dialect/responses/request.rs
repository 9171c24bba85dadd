//! Reads the history of a Responses request, and the items of an answer.

use std::{collections::HashSet, ops::Range};

use crate::{
    dialect::{
        Author, History, Message, Note, Part, PartKind, Payload, Slot, Unreadable,
        read::{self, set},
    },
    scope::MemberPath,
    wire::json::{Cursor, Str},
};

/// Reads the body of a request.
pub(super) fn read<'a>(body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
    let mut reader = Reader { history: empty, ..Reader::default() };
    let mut cursor = Cursor::new(body);
    cursor.object(|cursor, name| reader.member(cursor, name))?;
    cursor.end()?;
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader<'a> {
    history: History<'a>,
    seen: [bool; 7],
    /// Reasoning items that have nothing but an id, which stand for what the provider stored; and the id.
    id_only: Vec<(usize, Range<usize>)>,
    /// Some items stand for others.
    has_references: bool,
    is_stateless: bool,
}

impl<'a> Reader<'a> {
    fn once(&mut self, member: usize) -> Result<(), Unreadable> {
        if std::mem::replace(&mut self.seen[member], true) { Err(Unreadable) } else { Ok(()) }
    }

    fn member(&mut self, cursor: &mut Cursor<'a>, key: Str<'a>) -> Result<(), Unreadable> {
        match &*key.decode() {
            b"input" => {
                self.once(0)?;
                return self.input(cursor);
            }
            b"instructions" => {
                self.once(1)?;
                if cursor.peek() == Some(b'"') {
                    self.history.system.push(Payload::Text(cursor.string()?.0));
                    return Ok(());
                }
                let span = cursor.skip()?;
                let value = &cursor.bytes()[span];
                if value != b"null" {
                    self.history.system.push(Payload::Json(Some(value)));
                }
                return Ok(());
            }
            b"tools" => {
                self.once(2)?;
                self.history.tools = Some(cursor.skip()?);
                return Ok(());
            }
            b"model" if cursor.peek() == Some(b'"') => {
                self.once(3)?;
                self.history.model = Some(cursor.string()?.0.decode());
                return Ok(());
            }
            _ => {}
        }
        let span = cursor.skip()?;
        let value = &cursor.bytes()[span];
        match &*key.decode() {
            b"store" => {
                self.once(4)?;
                self.is_stateless = value == b"false";
            }
            // What the provider keeps is not sent again.
            b"previous_response_id" | b"conversation" => {
                self.once(if key.is("conversation") { 5 } else { 6 })?;
                self.history.kept_elsewhere |= !matches!(value, b"null" | b"\"\"");
            }
            // A stored prompt precedes the input, as instructions do.
            b"prompt" if value != b"null" => self.history.system.push(Payload::Json(Some(value))),
            _ => {}
        }
        read::note(&mut self.history, MemberPath::Root, key, value);
        Ok(())
    }

    fn input(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        match cursor.peek() {
            Some(b'"') => {
                let (text, span) = cursor.string()?;
                let first = self.history.parts.len();
                self.history.parts.push(Part {
                    message: self.history.messages.len(),
                    span: span.clone(),
                    kind: PartKind::Text,
                    id: None,
                    name: None,
                    payload: Payload::Text(text),
                    slot: Slot::Unfit,
                    snake_case: false,
                });
                self.history.messages.push(Message {
                    author: Author::Client,
                    span,
                    parts: first..first + 1,
                    note: Note::Nothing,
                });
            }
            Some(b'[') => {
                cursor.array(|cursor| self.item(cursor))?;
            }
            _ => {
                cursor.skip()?;
            }
        }
        Ok(())
    }

    fn item(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Unreadable> {
        read::make_room(&mut self.history, cursor);
        let first = self.history.parts.len();
        let item = item(cursor, self.history.messages.len(), &mut self.history.parts)?;
        self.has_references |= item.kind == ItemKind::Reference;
        if item.kind == ItemKind::Reasoning
            && let (Some((_, span)), Some(part)) = (&item.id, self.history.parts.get(first))
            && part.slot.is_missing()
        {
            self.id_only.push((first, span.clone()));
        }
        let parts = first..self.history.parts.len();
        let note = if item.id.is_some() { Note::Named } else { Note::Nothing };
        self.history.messages.push(Message { author: item.author, span: item.span, parts, note });
        Ok(())
    }

    /// What can be told only when all of the body was read.
    fn finish(mut self) -> History<'a> {
        let history = &mut self.history;
        if !self.is_stateless {
            for (part, span) in self.id_only {
                history.parts[part].slot = Slot::Held(span);
            }
        }
        if self.has_references {
            stand_in_for_calls(&mut history.parts);
        }
        if history.kept_elsewhere {
            for part in history.parts.iter_mut().filter(|part| part.slot.is_missing()) {
                part.slot = Slot::Unfit;
            }
            return self.history;
        }
        let mut at = 0;
        while let Some(author) = history.messages.get(at).map(|message| message.author) {
            let same = |message: &Message| message.author == author;
            let end = at + history.messages[at..].iter().take_while(|message| same(message)).count();
            let run = history.messages[at].parts.start..history.messages[end - 1].parts.end;
            let own = |part: &Part<'_>| part.kind == PartKind::Thought && matches!(part.slot, Slot::Held(_));
            let run = &mut history.parts[run];
            if author == Author::Model && run.iter().any(own) {
                for part in run.iter_mut().filter(|part| part.slot == Slot::Beside) {
                    part.slot = Slot::Unfit;
                }
            }
            at = end;
        }
        self.history
    }
}

/// A reference may stand for a call, so an output whose call is not there may well have one.
fn stand_in_for_calls(parts: &mut [Part<'_>]) {
    let calls = parts.iter().filter(|part| part.kind == PartKind::Call);
    let calls: HashSet<_> = calls.filter_map(|part| Some(part.id?.decode())).collect();
    for part in parts.iter_mut().filter(|part| part.kind == PartKind::Output) {
        if part.id.is_some_and(|id| !calls.contains(&id.decode())) {
            part.kind = PartKind::Other;
        }
    }
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Message,
    Reasoning,
    Call,
    Output,
    /// It stands for another item, which the provider stored.
    Reference,
    Native,
    Other,
}

/// An item of a history or of an answer, without its parts.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub(super) kind: ItemKind,
    pub(super) author: Author,
    pub(super) span: Range<usize>,
    /// Its id, and where that stands. An empty one is none.
    pub(super) id: Option<(Str<'a>, Range<usize>)>,
    /// The provider did not come to its end.
    pub(super) is_incomplete: bool,
    /// It is reasoning that is its own state, as it is shown in full.
    pub(super) is_shown: bool,
}

/// What was found in an item while its members were read.
#[derive(Default)]
struct Draft<'a> {
    kind: Option<Str<'a>>,
    role: Option<Str<'a>>,
    id: Option<(Str<'a>, Range<usize>)>,
    call_id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    status: Option<Str<'a>>,
    /// What a call is made with, by whichever name: a string or another value.
    made_with: Option<(Str<'a>, Payload<'a>)>,
    output: Option<Payload<'a>>,
    /// The opaque state, and whether there is some.
    encrypted: Option<(Range<usize>, Encrypted)>,
    /// The texts that are shown, as parts.
    content: Option<(Range<usize>, Range<usize>)>,
    summary: Option<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encrypted {
    Held,
    Blank,
    Odd,
}

/// Reads one item, and pushes its parts. The same reader serves requests and responses, so that what is remembered and
/// what is looked up can never be derived differently.
pub(super) fn item<'a>(
    cursor: &mut Cursor<'a>,
    message: usize,
    parts: &mut Vec<Part<'a>>,
) -> Result<Item<'a>, Unreadable> {
    if cursor.peek() != Some(b'{') {
        // An item that is no object is the provider's to refuse.
        return Err(Unreadable);
    }
    let bytes = cursor.bytes();
    let first = parts.len();
    let mut draft = Draft::default();
    let mut last_end = 0;
    let span = cursor.object(|cursor, key| {
        draft.member(cursor, key, message, parts)?;
        last_end = cursor.position();
        Ok::<_, Unreadable>(())
    })?;
    let kind = draft.kind();
    let mut author = Author::Model;
    let is_incomplete = draft.status.is_some_and(|status| status.is("incomplete"));
    let part = |kind: PartKind, payload: Payload<'a>, slot: Slot| Part {
        message,
        span: span.clone(),
        kind,
        id: None,
        name: None,
        payload,
        slot,
        snake_case: false,
    };
    let state = match &draft.encrypted {
        None => Slot::Absent(last_end),
        Some((span, Encrypted::Held)) => Slot::Held(span.clone()),
        Some((span, Encrypted::Blank)) => Slot::Blank(span.clone()),
        Some((_, Encrypted::Odd)) => Slot::Unfit,
    };
    let id = draft.id.as_ref().map(|(id, _)| *id);
    let one = match kind {
        ItemKind::Message => {
            let is_model = draft.role.is_some_and(|role| role.is("assistant"));
            if !is_model {
                author = Author::Client;
            }
            if let Some(summary) = draft.summary.filter(|summary| !summary.is_empty()) {
                parts.drain(summary);
            }
            for part in parts[first..].iter_mut().filter(|part| is_model && part.kind == PartKind::Text) {
                part.slot = Slot::Beside;
            }
            None
        }
        ItemKind::Reasoning => {
            let (content, shown) = draft.content.unwrap_or_default();
            let payload = match visible(&parts[content]) {
                Payload::Text(text) if text.is_empty() => visible(&parts[draft.summary.unwrap_or_default()]),
                // Reasoning that is shown in full is its own state.
                payload => {
                    let is_shown = state.is_missing();
                    let slot = if is_shown { Slot::Held(shown) } else { state.clone() };
                    parts.truncate(first);
                    parts.push(Part { id, ..part(PartKind::Thought, payload, slot) });
                    return Ok(Item { kind, author, span, id: draft.id, is_incomplete, is_shown });
                }
            };
            Some(Part { id, ..part(PartKind::Thought, payload, state) })
        }
        ItemKind::Call => {
            let payload = draft.made_with.map_or(Payload::Json(None), |(_, payload)| payload);
            // A call of a tool that needs no name is named by what it is.
            let name = draft.name.or(draft.kind);
            Some(Part { id: draft.call_id, name, ..part(PartKind::Call, payload, Slot::Beside) })
        }
        ItemKind::Output => {
            author = Author::Client;
            let payload = draft.output.unwrap_or(Payload::Json(None));
            Some(Part { id: draft.call_id, ..part(PartKind::Output, payload, Slot::Unfit) })
        }
        ItemKind::Reference => {
            let payload = Payload::Fields("item_reference", fields(bytes, draft.id.as_ref()));
            Some(Part { id, ..part(PartKind::Native, payload, Slot::Unfit) })
        }
        ItemKind::Native if draft.keeps_state() => {
            // Its id and its state belong together.
            let slot = if id.is_some() || matches!(state, Slot::Held(_)) { state } else { Slot::Unfit };
            let payload = Payload::Fields("compaction", fields(bytes, draft.id.as_ref()));
            Some(Part { id, ..part(PartKind::Native, payload, slot) })
        }
        ItemKind::Native => {
            let payload = Payload::Assembled(native(bytes, &span)?);
            Some(Part { id, ..part(PartKind::Native, payload, Slot::Beside) })
        }
        ItemKind::Other => {
            let payload = Payload::Json(Some(&bytes[span.clone()]));
            Some(part(PartKind::Other, payload, Slot::Unfit))
        }
    };
    if let Some(one) = one {
        parts.truncate(first);
        parts.push(one);
    }
    Ok(Item { kind, author, span, id: draft.id, is_incomplete, is_shown: false })
}

/// The text of these parts, one after the other.
fn visible<'a>(parts: &[Part<'a>]) -> Payload<'a> {
    let mut texts = parts.iter().filter_map(|part| match part.payload {
        Payload::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    });
    match (texts.next(), texts.next()) {
        (None, _) => Payload::Text(Str::empty()),
        (Some(one), None) => Payload::Text(one),
        (Some(one), Some(other)) => Payload::Pieces([one, other].into_iter().chain(texts).collect()),
    }
}

fn fields<'a>(bytes: &'a [u8], id: Option<&(Str<'a>, Range<usize>)>) -> Vec<(&'static str, &'a [u8])> {
    id.map(|(_, span)| ("id", &bytes[span.clone()])).into_iter().collect()
}

impl<'a> Draft<'a> {
    fn member(
        &mut self,
        cursor: &mut Cursor<'a>,
        key: Str<'a>,
        message: usize,
        parts: &mut Vec<Part<'a>>,
    ) -> Result<(), Unreadable> {
        let bytes = cursor.bytes();
        let is_text = cursor.peek() == Some(b'"');
        match &*key.decode() {
            b"type" if is_text => set(&mut self.kind, cursor.string()?.0),
            b"role" if is_text => set(&mut self.role, cursor.string()?.0),
            b"id" if is_text => {
                let (id, span) = cursor.string()?;
                if id.is_empty() { Ok(()) } else { set(&mut self.id, (id, span)) }
            }
            b"call_id" if is_text => set(&mut self.call_id, cursor.string()?.0),
            b"name" if is_text => set(&mut self.name, cursor.string()?.0),
            b"status" if is_text => set(&mut self.status, cursor.string()?.0),
            b"arguments" if is_text => {
                let arguments = Payload::Encoded(cursor.string()?.0);
                self.is_made_with(key, arguments)
            }
            b"arguments" | b"input" | b"action" | b"actions" | b"operation" => {
                let span = cursor.skip()?;
                let value = &bytes[span];
                if value == b"null" { Ok(()) } else { self.is_made_with(key, Payload::Json(Some(value))) }
            }
            b"output" => {
                let payload = if is_text {
                    Payload::Text(cursor.string()?.0)
                } else {
                    let span = cursor.skip()?;
                    Payload::Json(Some(&bytes[span]))
                };
                set(&mut self.output, payload)
            }
            b"encrypted_content" => {
                let span = cursor.skip()?;
                let state = match &bytes[span.clone()] {
                    b"null" | b"\"\"" => Encrypted::Blank,
                    [b'"', ..] => Encrypted::Held,
                    _ => Encrypted::Odd,
                };
                set(&mut self.encrypted, (span, state))
            }
            b"content" => {
                let first = parts.len();
                let span = content(cursor, message, parts)?;
                set(&mut self.content, (first..parts.len(), span))
            }
            b"summary" => {
                let first = parts.len();
                content(cursor, message, parts)?;
                set(&mut self.summary, first..parts.len())
            }
            _ => cursor.skip().map(drop).map_err(Unreadable::from),
        }
    }

    /// Of several names for what a call is made with, the first one counts.
    fn is_made_with(&mut self, name: Str<'a>, payload: Payload<'a>) -> Result<(), Unreadable> {
        match &self.made_with {
            Some((held, _)) if held.decode() == name.decode() => Err(Unreadable),
            Some(_) => Ok(()),
            None => {
                self.made_with = Some((name, payload));
                Ok(())
            }
        }
    }

    fn kind(&self) -> ItemKind {
        let Some(kind) = self.kind.map(|kind| kind.decode()) else {
            // Messages and references may leave out what they are.
            return match (self.role, &self.id) {
                (Some(_), _) => ItemKind::Message,
                (None, Some(_)) => ItemKind::Reference,
                (None, None) => ItemKind::Other,
            };
        };
        match &*kind {
            b"message" => ItemKind::Message,
            b"reasoning" => ItemKind::Reasoning,
            b"item_reference" => ItemKind::Reference,
            kind if kind.ends_with(b"_call") && self.call_id.is_some() => ItemKind::Call,
            // A program is run by the provider.
            b"program_output" => ItemKind::Native,
            kind if kind.ends_with(b"_output") && self.call_id.is_some() => ItemKind::Output,
            _ => ItemKind::Native,
        }
    }

    /// Whether an item of the provider's own is one that carries state.
    fn keeps_state(&self) -> bool {
        self.encrypted.is_some() || self.kind.is_some_and(|kind| kind.decode().ends_with(b"compaction"))
    }
}

/// Reads the content of a message, or the texts of a reasoning item.
fn content<'a>(cursor: &mut Cursor<'a>, message: usize, parts: &mut Vec<Part<'a>>) -> Result<Range<usize>, Unreadable> {
    let part = |span: Range<usize>, kind: PartKind, payload: Payload<'a>| Part {
        message,
        span,
        kind,
        id: None,
        name: None,
        payload,
        slot: Slot::Unfit,
        snake_case: false,
    };
    match cursor.peek() {
        Some(b'"') => {
            let (text, span) = cursor.string()?;
            parts.push(part(span.clone(), PartKind::Text, Payload::Text(text)));
            Ok(span)
        }
        Some(b'[') => cursor.array(|cursor| {
            let bytes = cursor.bytes();
            if cursor.peek() != Some(b'{') {
                let span = cursor.skip()?;
                parts.push(part(span.clone(), PartKind::Other, Payload::Json(Some(&bytes[span]))));
                return Ok(());
            }
            let (mut text, mut media) = (None, None);
            let span = cursor.object(|cursor, key| {
                let is_text = cursor.peek() == Some(b'"');
                match &*key.decode() {
                    b"text" | b"refusal" if is_text => set(&mut text, cursor.string()?.0),
                    b"image_url" | b"file_url" | b"file_data" | b"file_id" if is_text => {
                        media = Some(cursor.string()?.0);
                        Ok(())
                    }
                    _ => cursor.skip().map(drop).map_err(Unreadable::from),
                }
            })?;
            parts.push(match (text, media) {
                (Some(text), _) => part(span, PartKind::Text, Payload::Text(text)),
                (None, Some(uri)) => part(span, PartKind::Media, Payload::Uri(uri)),
                (None, None) => part(span.clone(), PartKind::Other, Payload::Json(Some(&bytes[span]))),
            });
            Ok(())
        }),
        _ => Ok(cursor.skip()?),
    }
}

/// What of an item that only this protocol has is compared: all but ids, state, and what came of it, which clients
/// leave out.
fn native(bytes: &[u8], span: &Range<usize>) -> Result<Vec<u8>, Unreadable> {
    const IGNORED: [&str; 15] = [
        "id",
        "call_id",
        "status",
        "created_by",
        "agent",
        "approval_request_id",
        "container_id",
        "fingerprint",
        "error",
        "output",
        "outputs",
        "results",
        "sources",
        "tools",
        "background",
    ];
    fn members(cursor: &mut Cursor<'_>, kept: &mut Vec<u8>) -> Result<(), Unreadable> {
        kept.push(b'{');
        let first = kept.len();
        cursor.object(|cursor, key| {
            let bytes = cursor.bytes();
            let is_ignored = IGNORED.iter().any(|ignored| key.is(ignored));
            if !is_ignored && key.is("action") && cursor.peek() == Some(b'{') {
                separate(kept, first);
                kept.extend_from_slice(b"\"action\":");
                return members(cursor, kept);
            }
            let span = cursor.skip()?;
            let value = &bytes[span];
            if !is_ignored && value != b"null" {
                separate(kept, first);
                kept.push(b'"');
                kept.extend_from_slice(key.raw());
                kept.extend_from_slice(b"\":");
                kept.extend_from_slice(value);
            }
            Ok::<_, Unreadable>(())
        })?;
        kept.push(b'}');
        Ok(())
    }
    let mut kept = Vec::with_capacity(span.len().min(512));
    members(&mut Cursor::at(bytes, span.start), &mut kept)?;
    Ok(kept)
}

/// Writes a comma between the members of an object that begins here.
pub(super) fn separate(object: &mut Vec<u8>, first: usize) {
    if object.len() > first {
        object.push(b',');
    }
}
