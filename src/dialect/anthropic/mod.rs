//! Anthropic's Messages API, at Anthropic, on Vertex AI, and at those who speak it too.
//!
//! The state is a block of its own: `thinking` with a `signature`, or `redacted_thinking`. It must come back
//! unchanged, where it stood: <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>.

mod models;
mod reduce;
mod request;
mod response;
mod stream;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use http::{Method, Uri};

use super::{
    Binding, Dialect, History, Layout, Operation, Part, PartKind, Payload, Recorder, RecorderLimits, Route, Slot,
    Splice, Spot, Thinking, Tolerance, ToolDefaults, Unreadable, Whole, elements,
};
use crate::{
    ledger::{
        Anchor,
        few::Few,
        fingerprint::{self, Tag},
    },
    scope::HashKey,
    wire::{
        base64,
        canonical::canonical,
        json::{Cursor, begins_with},
        patch::Framed,
    },
};

/// Messages, wherever they are served.
#[derive(Debug)]
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn route(&self, method: &Method, uri: &Uri) -> Option<Route> {
        if method != Method::POST {
            return None;
        }
        let path = uri.path();
        if let Some((_, method)) = path.split_once("/publishers/anthropic/models/") {
            return vertex(method);
        }
        let (path, operation) = match path.strip_suffix("/count_tokens") {
            Some(path) => (path, Operation::Count),
            None => (path, Operation::Generate),
        };
        let before = path.strip_suffix("/messages")?;
        let is_messages = before.ends_with("/v1") || before.ends_with("/anthropic") || before.contains("/anthropic/");
        is_messages.then_some(Route { operation, model: None })
    }

    fn read<'a>(&self, body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
        request::read(body, empty)
    }

    fn binds_account(&self, model: &str) -> bool {
        models::binds_account(model)
    }

    fn binding(&self, model: &str) -> Binding {
        if models::is_bound(model) { Binding::Bound } else { Binding::Possible }
    }

    fn layout(&self) -> Layout {
        Layout::Parts
    }

    fn recorder(
        &self,
        _model: &str,
        key: &HashKey,
        limits: RecorderLimits,
        defaults: Arc<ToolDefaults>,
    ) -> Box<dyn Recorder> {
        Box::new(response::MessagesRecorder::new(key, limits, defaults))
    }

    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<Splice> {
        match (part.kind, &part.slot) {
            // Of thinking without text nothing tells in which field its state belongs: the whole block goes back.
            (PartKind::Thought, _) if part.is_empty_text() => None,
            (PartKind::Thought, Slot::Absent(at)) => Some(Splice::insert_behind(*at, ",\"signature\":", state)),
            (PartKind::Thought, Slot::Blank(span)) => Some(Splice::replace(span.clone(), state.clone())),
            (PartKind::Native, Slot::Blank(range)) => native(&part.span, range, state),
            _ => None,
        }
    }

    fn is_same_call(&self, body: &[u8], part: &Part<'_>, whole: &[u8]) -> bool {
        // Without its name or its arguments it could begin alike.
        if part.kind != PartKind::Call || part.name.is_none() || !matches!(part.payload, Payload::Json(Some(_))) {
            return false;
        }
        let members = body.get(part.span.clone()).and_then(|block| block.strip_suffix(b"}"));
        members.is_some_and(|members| begins_with(whole, members.trim_ascii_end()))
    }

    fn same_state(&self, one: &[u8], other: &[u8]) -> bool {
        if let (Ok((one, _)), Ok((other, _))) = (Cursor::new(one).string(), Cursor::new(other).string()) {
            return base64::same_value(&one.decode(), &other.decode());
        }
        one.first() == other.first() && form(one).is_some_and(|form_of_one| form(other) == Some(form_of_one))
    }

    fn message(&self, parts: &[Whole<'_>]) -> Bytes {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part.raw[..]).collect();
        [b"{\"role\":\"assistant\",\"content\":[", &parts.join(&b","[..])[..], b"]}"].concat().into()
    }

    fn put_back(&self, body: &[u8], history: &History<'_>, spot: Spot, parts: &[Whole<'_>]) -> Option<Few<Splice>> {
        let message = history.messages.get(spot.message)?;
        match history.parts.get(message.parts.clone())? {
            [text] if body.get(text.span.start) == Some(&b'"') => beside_string(text, spot, parts),
            _ => elements(self.layout(), body, history, spot, parts),
        }
    }

    fn goes_together(&self) -> bool {
        // A string becomes a list once.
        true
    }

    fn bound_tools(&self, key: &HashKey, tools: &[u8]) -> Option<Anchor> {
        Some(fingerprint::json(key, Tag::Other, Some(&reduce::tools(tools)?)))
    }

    fn tolerance(&self, body: &[u8], history: &History<'_>) -> Option<Tolerance> {
        (history.thinking == Thinking::On).then(|| tolerance(body)).flatten()
    }
}

/// `{model}:rawPredict` and `{model}:streamRawPredict`; tokens are counted by a model of that name.
///
/// <https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/count-tokens>
fn vertex(method: &str) -> Option<Route> {
    let model = ["rawPredict", "streamRawPredict"].iter().find_map(|verb| {
        let before = method.strip_suffix(verb)?;
        [":", "%3A", "%3a"].iter().find_map(|colon| before.strip_suffix(colon))
    });
    match model? {
        model if model.is_empty() || model.contains('/') => None,
        model if model.starts_with("count-tokens") => Some(Route { operation: Operation::Count, model: None }),
        model => Some(Route { operation: Operation::Generate, model: Some(model.to_owned()) }),
    }
}

/// The edit that puts a whole block in the place of what the client left of it, save for a mark of a cached prefix
/// that stands before or behind that.
fn native(block: &Range<usize>, range: &Range<usize>, state: &Bytes) -> Option<Splice> {
    let inner = state.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let text = if range == block {
        state.clone().into()
    } else if range.start == block.start {
        Framed { before: "{", bytes: state.slice_ref(inner.trim_ascii_end()), after: "" }
    } else {
        Framed { before: ",", bytes: state.slice_ref(inner), after: "}" }
    };
    Some(Splice::replace(range.clone(), text))
}

/// A message whose content is one string becomes one whose content is a list, which means the same.
fn beside_string(text: &Part<'_>, spot: Spot, parts: &[Whole<'_>]) -> Option<Few<Splice>> {
    spot.before?;
    let mut splices = Vec::with_capacity(parts.len() + 2);
    splices.extend((0..).zip(parts).map(|(at, part)| {
        let before = if at == 0 { "[" } else { "," };
        Splice::insert_behind(text.span.start, before, part.raw)
    }));
    let before = if parts.is_empty() { "[{" } else { ",{" };
    let head = Framed { before, bytes: Bytes::from_static(b"\"type\":\"text\",\"text\":"), after: "" };
    splices.push(Splice::insert(text.span.start, head));
    splices.push(Splice::insert(text.span.end, &b"}]"[..]));
    Some(Few::List(splices))
}

/// Asks for thinking that does not fit to be dropped, if the request configures thinking and says nothing of that.
///
/// <https://platform.claude.com/docs/en/build-with-claude/preserved-thinking>
fn tolerance(body: &[u8]) -> Option<Tolerance> {
    let (mut says_more, mut end) = (false, None);
    let read = Cursor::new(body).object::<Unreadable>(|cursor, key| {
        if key.is("thinking") && cursor.peek() == Some(b'{') {
            let span = cursor.object::<Unreadable>(|_, key| {
                says_more |= key.is("block_binding");
                Ok(())
            })?;
            end = Some(span.end - 1);
        }
        Ok(())
    });
    let end = end.filter(|_| read.is_ok() && !says_more)?;
    let splice = Splice::insert(end, &b",\"block_binding\":{\"prefix_mismatch_behavior\":\"drop_block\"}"[..]);
    Some(Tolerance { splice, header: ("anthropic-beta", "thinking-binding-controls-2026-08-01") })
}

/// The canonical form of a raw value with its state.
fn form(raw: &[u8]) -> Option<Vec<u8>> {
    let mut form = Vec::new();
    canonical(&reduce::state(raw)?, &mut |bytes| form.extend_from_slice(bytes)).ok()?;
    Some(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_protocol_are_known() {
        let route = |path: &str| Anthropic.route(&Method::POST, &path.parse().unwrap());
        let generates = |path: &str| route(path).filter(|route| route.operation == Operation::Generate);
        for path in [
            "/v1/messages",
            "/v1/messages?beta=true",
            "/api/v1/messages",
            "/anthropic/v1/messages",
            "/anthropic/messages",
        ] {
            assert!(generates(path).is_some_and(|route| route.model.is_none()), "{path}");
            let (path, query) = path.split_once('?').map_or((path, ""), |(path, query)| (path, query));
            let count = route(&format!("{path}/count_tokens?{query}")).unwrap();
            assert_eq!(count.operation, Operation::Count);
        }
        let vertex = "/v1/projects/p/locations/l/publishers/anthropic/models/";
        for verb in [":rawPredict", ":streamRawPredict", "%3ArawPredict"] {
            let found = generates(&format!("{vertex}claude-opus-5@20260101{verb}")).unwrap();
            assert_eq!(found.model.as_deref(), Some("claude-opus-5@20260101"));
            let count = route(&format!("{vertex}count-tokens{verb}")).unwrap();
            assert_eq!((count.operation, count.model), (Operation::Count, None));
        }
        for other in [
            "/v1/messages/batches",
            "/v1/messages/batches/count_tokens",
            "/v1/threads/t/messages",
            "/model/anthropic.claude-opus-5-v1:0/invoke",
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-5:predict",
            "/v1/chat/completions",
        ] {
            assert!(route(other).is_none(), "{other}");
        }
        assert!(Anthropic.route(&Method::GET, &"/v1/messages".parse().unwrap()).is_none());
    }

    #[test]
    fn a_call_that_is_spelled_as_it_came_is_the_same() {
        let whole = br#"{"type":"tool_use","id":"t","name":"n","input":{"a":1},"caller":{"type":"direct"}}"#;
        let same = |block: &str| {
            let part = request::one(&mut Cursor::new(block.as_bytes())).unwrap();
            Anthropic.is_same_call(block.as_bytes(), &part, whole)
        };
        assert!(same(r#"{"type":"tool_use","id":"t","name":"n","input":{"a":1},"caller":{"type":"direct"}}"#));
        assert!(same(r#"{"type":"tool_use", "id":"t", "name":"n", "input":{"a":1} }"#));
        assert!(!same(r#"{"type":"tool_use","id":"t","name":"n"}"#));
        assert!(!same(r#"{"type":"tool_use","id":"t"}"#));
        assert!(!same(r#"{"type":"tool_use","id":"t","name":"n","input":{"a":2}}"#));
    }

    #[test]
    fn states_are_compared_by_value() {
        let same = |one: &str, other: &str| Anthropic.same_state(one.as_bytes(), other.as_bytes());
        assert!(same(r#""+/+/+w==""#, r#""-_-_-w""#));
        assert!(!same(r#""+/+/+w==""#, r#""+/+/""#));
        assert!(same(r#"{"a":1,"encrypted_content":"x","caller":{}}"#, r#"{"encrypted_content":"x","a":1.0}"#));
        assert!(!same(r#"{"a":1,"encrypted_content":"x"}"#, r#"{"a":1,"encrypted_content":"y"}"#));
        assert!(!same(r#""x""#, r#"{"a":1}"#));
    }

    #[test]
    fn a_history_is_read() {
        let body = br#"{"model":"m","system":[{"type":"text","text":"s"}],"metadata":{"user_id":"u"},"messages":[
            {"role":"user","content":"hi"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"c2ln"},{"type":"text","text":"a"}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"t"},{"type":"tool_use","id":"i","name":"n"}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"i"},{"type":"hologram"},7]}]}"#;
        let history = Anthropic.read(body, History::default()).unwrap();
        assert_eq!(history.model.as_deref(), Some(&b"m"[..]));
        assert_eq!((history.system.len(), history.members.len(), history.messages.len()), (1, 1, 4));
        let parts: Vec<_> = history.parts.iter().map(|part| (part.kind, part.slot.clone())).collect();
        let span = |text: &str| {
            let start = memchr::memmem::find(body, text.as_bytes()).unwrap();
            start..start + text.len()
        };
        assert_eq!(parts[0], (PartKind::Text, Slot::Unfit));
        assert_eq!(parts[1], (PartKind::Thought, Slot::Held(span("\"c2ln\""))));
        assert_eq!(parts[2], (PartKind::Text, Slot::Unfit));
        assert!(matches!(parts[3], (PartKind::Thought, Slot::Absent(_))));
        assert_eq!(parts[4], (PartKind::Call, Slot::Beside));
        assert_eq!(parts[5].0, PartKind::Output);
        assert_eq!(parts[6], (PartKind::Native, Slot::Unfit));
        assert_eq!(parts[7], (PartKind::Other, Slot::Unfit));
    }

    #[test]
    fn what_is_ambiguous_is_not_read() {
        for body in [
            r#"{"messages":[],"messages":[]}"#,
            r#"{"model":"a","model":"a"}"#,
            r#"{"messages":[{"role":"user","role":"assistant"}]}"#,
            r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"a","text":"b"}]}]}"#,
            r#"{"messages":[{"content":[{"type":"thinking","signature":"a","signature":"b"}]}]}"#,
            r#"{"thinking":{"type":"disabled","type":"enabled"}}"#,
            r#"{"messages":["hi"]}"#,
            r#"{"messages":[]} x"#,
        ] {
            assert!(Anthropic.read(body.as_bytes(), History::default()).is_err(), "{body}");
        }
        let deep = format!(r#"{{"messages":[{{"content":[{}]}}]}}"#, "[".repeat(500) + &"]".repeat(500));
        assert!(Anthropic.read(deep.as_bytes(), History::default()).is_err());
    }

    #[test]
    fn marks_of_a_cached_prefix_are_no_part_of_the_tools() {
        let key = HashKey::from_bytes([7; 32]);
        let hash = |tools: &str| Anthropic.bound_tools(&key, tools.as_bytes());
        assert_eq!(hash(r#"[{"name":"n","cache_control":{"type":"ephemeral"}}]"#), hash(r#"[{"name":"n"}]"#));
        assert_ne!(hash(r#"[{"name":"n"}]"#), hash(r#"[{"name":"m"}]"#));
    }
}
