//! Puts parts of an answer back into a message, which has one member for each kind of them.

use std::ops::Range;

use bytes::Bytes;

use super::{
    reasoning::{self, Field},
    request::{self, Scan},
};
use crate::{
    dialect::{History, Note, Part, PartKind, Slot, Splice, Spot, Unreadable, Whole},
    ledger::{Kind, few::Few},
    wire::{json::Cursor, patch::Framed},
};

/// Whether a whole thought is a chunk of content; the others are members of the message.
fn is_chunk(whole: &Whole<'_>) -> bool {
    whole.raw.first() == Some(&b'{')
}

/// A message of the model that holds these parts.
pub(super) fn message(parts: &[Whole<'_>]) -> Bytes {
    let of = |wanted: &dyn Fn(&Whole<'_>) -> bool| {
        let found = parts.iter().filter(|part| wanted(part)).map(|part| &part.raw[..]);
        found.collect::<Vec<_>>().join(&b","[..])
    };
    let chunks = of(&|part| part.kind != Kind::Call && is_chunk(part));
    let members = of(&|part| part.kind != Kind::Call && !is_chunk(part));
    let calls = of(&|part| part.kind == Kind::Call);
    let mut bytes = Vec::with_capacity(chunks.len() + members.len() + calls.len() + 64);
    bytes.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
    if chunks.is_empty() {
        bytes.extend_from_slice(b"null");
    } else {
        bytes.push(b'[');
        bytes.extend_from_slice(&chunks);
        bytes.push(b']');
    }
    if !members.is_empty() {
        bytes.push(b',');
        bytes.extend_from_slice(&members);
    }
    if !calls.is_empty() {
        bytes.extend_from_slice(b",\"tool_calls\":[");
        bytes.extend_from_slice(&calls);
        bytes.push(b']');
    }
    bytes.push(b'}');
    bytes.into()
}

/// What is put into one message.
struct Insertion<'a> {
    body: &'a [u8],
    scan: Scan<'a>,
    splices: Few<Splice>,
    /// New members, each with a comma before it.
    members: Few<Framed>,
    /// The fields that are put back.
    fields: Few<Field>,
}

/// The splices that put whole parts back into a message; none if one of them has no room there.
pub(super) fn put_back(body: &[u8], history: &History<'_>, spot: Spot, wholes: &[Whole<'_>]) -> Option<Few<Splice>> {
    let message = history.messages.get(spot.message)?;
    if let (Note::Open(end), [whole]) = (message.note, wholes)
        && whole.kind != Kind::Call
        && !is_chunk(whole)
    {
        let members = Framed { before: ",", bytes: whole.raw.clone(), after: "" };
        return Some(Few::One(Splice::insert(end, members)));
    }
    let scan = request::scan(&mut Cursor::at(body, message.span.start)).ok()?;
    let mut insertion =
        Insertion { body, scan, splices: Few::default(), members: Few::default(), fields: Few::default() };
    let (mut chunks, mut calls) = (Vec::new(), Vec::new());
    for whole in wholes {
        if whole.kind == Kind::Call {
            calls.push(&whole.raw[..]);
        } else if is_chunk(whole) {
            chunks.push(&whole.raw[..]);
        } else {
            insertion.add_members(whole.raw)?;
        }
    }
    if !chunks.is_empty() {
        let parts = history.parts_of(spot.message).iter();
        let blank = parts.filter(|part| part.kind == PartKind::Thought && matches!(part.slot, Slot::Blank(_)));
        let mut blank = blank.filter(|part| body.get(part.span.start) == Some(&b'{'));
        insertion.add_chunks(&chunks.join(&b","[..]), blank.next().map(|part| part.span.clone()))?;
    }
    if !calls.is_empty() {
        let before = spot.before.and_then(|before| history.parts.get(before)).map(|part| part.span.start);
        insertion.add_calls(&calls.join(&b","[..]), before)?;
    }
    Some(insertion.finish()).filter(|splices| !splices.is_empty())
}

/// The splices that add the fields of a remembered thought that a message which shows it lacks: what is opaque, and
/// what is shown if the client shows it under a name that its provider did not use.
pub(super) fn complete(body: &[u8], history: &History<'_>, part: &Part<'_>, whole: &Bytes) -> Option<Few<Splice>> {
    let shown = part.text().filter(|shown| !shown.is_empty() && part.slot.is_missing())?.decode();
    let message = history.messages.get(part.message)?;
    let scan = request::scan(&mut Cursor::at(body, message.span.start)).ok()?;
    // Under another name the client may say something else, which the state does not belong to.
    let says_other = |field: Field| {
        let own = scan.field(field).map(|own| &body[own.clone()]).filter(|own| !field.is_vacant(own));
        own.is_some_and(|own| reasoning::text_of(own).is_none_or(|own| own.decode() != shown))
    };
    if Field::ALL.into_iter().any(|field| field.is_text() && says_other(field)) {
        return None;
    }
    let is_vacant = |field: Field| scan.field(field).is_none_or(|own| field.is_vacant(&body[own.clone()]));
    let fields = members_of(whole)?;
    let is_named = fields.iter().any(|member| member.field.is_text() && !is_vacant(member.field));
    let mut splices = Few::default();
    for Member { field, span, value } in fields.iter().filter(|member| is_vacant(member.field)) {
        if field.is_text() && is_named {
            continue;
        }
        splices.push(match scan.field(*field) {
            None => Splice::insert(scan.end, Framed { before: ",", bytes: whole.slice(span.clone()), after: "" }),
            Some(vacant) => Splice::replace(vacant.clone(), whole.slice(value.clone())),
        });
    }
    Some(splices).filter(|splices| !splices.is_empty())
}

impl Insertion<'_> {
    fn member(&mut self, member: impl Into<Bytes>) {
        let before = if self.scan.is_empty && self.members.is_empty() { "" } else { "," };
        self.members.push(Framed { before, bytes: member.into(), after: "" });
    }

    fn insert(&mut self, at: usize, pieces: &[&[u8]]) {
        self.splices.push(Splice::insert(at, pieces.concat()));
    }

    /// The members take the place of blank ones of their names; what the client says stays.
    fn add_members(&mut self, members: &Bytes) -> Option<()> {
        for Member { field, span, value } in members_of(members)?.iter() {
            if self.fields.contains(field) {
                return None;
            }
            self.fields.push(*field);
            let value = members.get(value.clone())?;
            match self.scan.field(*field).cloned() {
                None => self.member(members.slice(span.clone())),
                Some(held) => {
                    let own = &self.body[held.clone()];
                    if !field.is_vacant(own) {
                        return None;
                    }
                    // The client says that it was empty, and it was.
                    if own == value {
                        continue;
                    }
                    self.splices.push(Splice::replace(held, members.slice_ref(value)));
                }
            }
        }
        Some(())
    }

    /// Chunks of thinking stand before what is said.
    fn add_chunks(&mut self, chunks: &[u8], blank: Option<Range<usize>>) -> Option<()> {
        if let Some(range) = blank {
            self.splices.push(Splice::replace(range, Bytes::copy_from_slice(chunks)));
            return Some(());
        }
        let Some(content) = self.scan.content.as_ref().map(|content| content.span.clone()) else {
            self.member([b"\"content\":[", chunks, b"]"].concat());
            return Some(());
        };
        match &self.body[content.clone()] {
            b"null" | b"\"\"" => {
                self.splices.push(Splice::replace(content, [b"[", chunks, b"]"].concat()));
            }
            [b'"', ..] => {
                self.insert(content.start, &[b"[", chunks, b",{\"type\":\"text\",\"text\":"]);
                self.insert(content.end, &[b"}]"]);
            }
            [b'[', ..] => {
                let comma: &[u8] = if elements(self.body, &content).is_none() { b"" } else { b"," };
                self.insert(content.start + 1, &[chunks, comma]);
            }
            _ => return None,
        }
        Some(())
    }

    /// Calls stand among the others, before the one that begins at `before`.
    fn add_calls(&mut self, calls: &[u8], before: Option<usize>) -> Option<()> {
        let Some(held) = self.scan.calls.clone() else {
            self.member([b"\"tool_calls\":[", calls, b"]"].concat());
            return Some(());
        };
        match &self.body[held.clone()] {
            b"null" => {
                self.splices.push(Splice::replace(held, [b"[", calls, b"]"].concat()));
            }
            [b'[', ..] => match (elements(self.body, &held), before) {
                (None, _) => self.insert(held.start + 1, &[calls]),
                (Some(elements), None) => self.insert(elements.end, &[b",", calls]),
                // What is said stands before all calls.
                (Some(elements), Some(before)) => {
                    let at = if held.contains(&before) { before } else { elements.start };
                    self.insert(at, &[calls, b","]);
                }
            },
            _ => return None,
        }
        Some(())
    }

    fn finish(mut self) -> Few<Splice> {
        let members = std::mem::take(&mut self.members);
        members.iter().for_each(|member| self.splices.push(Splice::insert(self.scan.end, member.clone())));
        self.splices
    }
}

/// A member that is a field of reasoning: where it stands, and its value.
struct Member {
    field: Field,
    span: Range<usize>,
    value: Range<usize>,
}

/// What members without the braces around them consist of.
fn members_of(members: &[u8]) -> Option<Few<Member>> {
    let mut found = Few::default();
    let mut cursor = Cursor::new(members);
    loop {
        let (name, key) = cursor.string().ok()?;
        let field = Field::of(&name.decode())?;
        (cursor.peek() == Some(b':')).then_some(())?;
        cursor = Cursor::at(members, cursor.position() + 1);
        let value = cursor.skip().ok()?;
        found.push(Member { field, span: key.start..value.end, value });
        match cursor.peek() {
            Some(b',') => cursor = Cursor::at(members, cursor.position() + 1),
            None => return Some(found),
            Some(_) => return None,
        }
    }
}

/// From where the first element of a list begins to where the last one ends.
fn elements(body: &[u8], list: &Range<usize>) -> Option<Range<usize>> {
    let mut found: Option<Range<usize>> = None;
    let mut cursor = Cursor::at(body, list.start);
    cursor
        .array::<Unreadable>(|cursor| {
            let span = cursor.skip()?;
            found = Some(found.as_ref().map_or(span.start, |found| found.start)..span.end);
            Ok(())
        })
        .ok()?;
    found
}

/// The splice that writes a stand-in for reasoning into a message.
pub(super) fn placeholder(body: &[u8], history: &History<'_>, part: usize, value: &Bytes) -> Option<Splice> {
    let message = history.parts.get(part)?.message;
    let raw = [b"\"reasoning_content\":", &value[..]].concat().into();
    let spot = Spot { message, before: None };
    let splices = put_back(body, history, spot, &[Whole { kind: Kind::Thought, raw: &raw }])?;
    match &*splices {
        [splice] => Some(splice.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::insert::tests, *};
    use crate::wire::patch::Patch;

    /// The message after these parts were put back into it.
    fn put(message: &str, before: Option<usize>, wholes: &[(Kind, &'static str)]) -> Option<Value> {
        let body = format!("{{\"messages\":[{message}]}}");
        let history = request::read(body.as_bytes(), History::default()).unwrap();
        let raws: Vec<_> = wholes.iter().map(|(_, raw)| Bytes::from_static(raw.as_bytes())).collect();
        let wholes: Vec<_> = wholes.iter().zip(&raws).map(|((kind, _), raw)| Whole { kind: *kind, raw }).collect();
        let splices = put_back(body.as_bytes(), &history, Spot { message: 0, before }, &wholes)?;
        let mut patch = Patch::default();
        splices.iter().for_each(|splice| patch.splice(splice.range.clone(), splice.text.clone()));
        let body: Value = serde_json::from_slice(&patch.apply(body.as_bytes()).unwrap()).unwrap();
        Some(body["messages"][0].clone())
    }

    const WHY: (Kind, &str) = (Kind::Thought, r#""reasoning_content":"why""#);
    const BOTH: (Kind, &str) = (Kind::Thought, r#""reasoning":"why","reasoning_details":[{"index":0}]"#);
    const CHUNK: (Kind, &str) = (Kind::Thought, r#"{"type":"thinking","thinking":[]}"#);
    const CALL: (Kind, &str) = (Kind::Call, r#"{"id":"b"}"#);

    #[test]
    fn members_stand_once_each() {
        fn put(message: &str, whole: (Kind, &'static str)) -> Option<Value> {
            tests::put(message, None, &[whole])
        }
        let whole = |mut message: Value, more: Value| {
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Some(message)
        };
        let bare = json!({"role": "assistant", "content": "so"});
        let why = json!({"reasoning_content": "why"});
        let both = json!({"reasoning": "why", "reasoning_details": [{"index": 0}]});
        assert_eq!(put(r#"{"role":"assistant","content":"so"}"#, WHY), whole(bare.clone(), why.clone()));
        assert_eq!(put(r#"{"role":"assistant","content":"so" }"#, BOTH), whole(bare.clone(), both.clone()));
        for blank in ["null", "\"\"", "\" \"", "\"The reasoning of this step is not available.\""] {
            let message = format!("{{\"role\":\"assistant\",\"reasoning_content\":{blank},\"content\":\"so\"}}");
            assert_eq!(put(&message, WHY), whole(bare.clone(), why.clone()), "{blank}");
        }
        let extra = (Kind::Thought, r#""extra_content":{"google":{"thought_signature":"abc"}}"#);
        for vacant in ["null", "\"\"", "{}", r#"{"google":{"thought_signature":""}}"#] {
            let message = format!("{{\"extra_content\":{vacant},\"role\":\"assistant\",\"content\":\"so\"}}");
            let signed = json!({"extra_content": {"google": {"thought_signature": "abc"}}});
            assert_eq!(put(&message, extra), whole(bare.clone(), signed), "{vacant}");
        }
        assert_eq!(put(r#"{"role":"assistant","extra_content":{"google":{"thought":true}}}"#, extra), None);
        let blank = r#"{"reasoning_details":[],"role":"assistant","content":"so"}"#;
        assert_eq!(put(blank, BOTH), whole(bare.clone(), both));
        assert_eq!(put(r#"{"role":"assistant","reasoning_details":[{"text":"own"}]}"#, BOTH), None);
        assert_eq!(tests::put(r#"{"role":"assistant"}"#, None, &[WHY, WHY]), None);
    }

    #[test]
    fn chunks_stand_before_what_is_said() {
        let content = |message: &str| put(message, None, &[CHUNK]).unwrap()["content"].clone();
        let (chunk, text) = (json!({"type": "thinking", "thinking": []}), json!({"type": "text", "text": "s\no"}));
        for nothing in ["", r#","content":null"#, r#","content":"""#, r#","content":[]"#] {
            assert_eq!(content(&format!("{{\"role\":\"assistant\"{nothing}}}")), json!([chunk]), "{nothing}");
        }
        for said in [r#""s\no""#, r#"[{"type":"text","text":"s\no"}]"#] {
            let message = format!("{{\"role\":\"assistant\",\"content\":{said}}}");
            assert_eq!(content(&message), json!([chunk, text]), "{said}");
        }
        let blank = r#"{"role":"assistant","content":[{"type":"thinking","closed":true,"thinking":[]},{"type":"text","text":"s\no"}]}"#;
        assert_eq!(content(blank), json!([chunk, text]));
    }

    #[test]
    fn calls_stand_in_their_order() {
        let calls = |message: &str, before| put(message, before, &[CALL]).unwrap()["tool_calls"].clone();
        for nothing in ["", r#","tool_calls":null"#, r#","tool_calls":[]"#] {
            assert_eq!(calls(&format!("{{\"role\":\"assistant\"{nothing}}}"), None), json!([{"id": "b"}]), "{nothing}");
        }
        let two = r#"{"role":"assistant","content":"so","tool_calls":[{"function":{"name":"a"}} , {"function":{"name":"c"}}]}"#;
        let call = |name: &str| json!({"function": {"name": name}});
        for (before, order) in [
            (None, json!([call("a"), call("c"), {"id": "b"}])),
            (Some(0), json!([{"id": "b"}, call("a"), call("c")])),
            (Some(1), json!([{"id": "b"}, call("a"), call("c")])),
            (Some(2), json!([call("a"), {"id": "b"}, call("c")])),
        ] {
            assert_eq!(calls(two, before), order, "{before:?}");
        }
    }

    #[test]
    fn all_of_a_turn_come_back_together() {
        let message = put(r#"{"role":"assistant","content":"so"}"#, None, &[BOTH, CHUNK, CALL]).unwrap();
        assert_eq!(
            message,
            json!({
                "role": "assistant", "content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "so"}],
                "reasoning": "why", "reasoning_details": [{"index": 0}], "tool_calls": [{"id": "b"}],
            })
        );
        let raws = [BOTH, CHUNK, CALL].map(|(kind, raw)| (kind, Bytes::from_static(raw.as_bytes())));
        let wholes: Vec<_> = raws.iter().map(|(kind, raw)| Whole { kind: *kind, raw }).collect();
        let new: Value = serde_json::from_slice(&super::message(&wholes)).unwrap();
        assert_eq!(new["content"], json!([{"type": "thinking", "thinking": []}]));
        assert_eq!((&new["reasoning"], &new["tool_calls"]), (&json!("why"), &json!([{"id": "b"}])));
        let bare: Value = serde_json::from_slice(&super::message(&wholes[2..])).unwrap();
        assert_eq!(bare, json!({"role": "assistant", "content": null, "tool_calls": [{"id": "b"}]}));
    }
}
