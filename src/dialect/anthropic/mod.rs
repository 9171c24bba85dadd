//! Anthropic's Messages API, at Anthropic, on Vertex AI, and at those who speak it too.
//!
//! The state is a block of its own: `thinking` with a `signature`, or `redacted_thinking`. It must come back
//! unchanged, where it stood: <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>.

mod models;
mod reduce;
mod request;
mod response;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use http::{Method, Uri};

use super::{
    Binding, Dialect, History, Layout, Operation, Part, PartKind, Payload, Recorder, RecorderLimits, Route, Slot,
    Splice, Spot, StandIns, Thinking, Tolerance, ToolDefaults, Unreadable, Wanted, Whole, elements,
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
        canonical::{Defaults, canonical},
        json::{Cursor, begins_with},
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

    fn read<'a>(&self, body: &'a [u8]) -> Result<History<'a>, Unreadable> {
        request::read(body)
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

    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<(Range<usize>, Bytes)> {
        match (part.kind, &part.slot) {
            // Of thinking without text nothing tells in which field its state belongs: the whole block goes back.
            (PartKind::Thought, _) if part.is_empty_text() => None,
            (PartKind::Thought, Slot::Absent(at)) => Some((*at..*at, [b",\"signature\":", &state[..]].concat().into())),
            (PartKind::Thought, Slot::Blank(span)) => Some((span.clone(), state.clone())),
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

    fn sentinel_parts(&self, _history: &History<'_>, _filled: &dyn Fn(usize) -> bool, _wanted: Wanted) -> Vec<usize> {
        Vec::new()
    }

    fn is_checked(&self, _history: &History<'_>, _message: usize, _wanted: Wanted) -> bool {
        false
    }

    fn signed(&self, _part: &Bytes, _state: &Bytes) -> Option<Bytes> {
        None
    }

    fn sentinel(&self, _stand_ins: StandIns, _wanted: Wanted) -> Option<Bytes> {
        None
    }

    fn defaults(&self, tools: &[u8]) -> ToolDefaults {
        defaults(tools)
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
fn native(block: &Range<usize>, range: &Range<usize>, state: &Bytes) -> Option<(Range<usize>, Bytes)> {
    let inner = state.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let edit = if range == block {
        state.clone()
    } else if range.start == block.start {
        [b"{", inner.trim_ascii_end()].concat().into()
    } else {
        [b",", inner, b"}"].concat().into()
    };
    Some((range.clone(), edit))
}

/// A message whose content is one string becomes one whose content is a list, which means the same.
fn beside_string(text: &Part<'_>, spot: Spot, parts: &[Whole<'_>]) -> Option<Few<Splice>> {
    spot.before?;
    let mut head = vec![b'['];
    for part in parts {
        head.extend_from_slice(part.raw);
        head.push(b',');
    }
    head.extend_from_slice(b"{\"type\":\"text\",\"text\":");
    let splices = [Splice::insert(text.span.start, head), Splice::insert(text.span.end, &b"}]"[..])];
    Some(splices.into_iter().collect())
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

/// Reads `tools[].{name, input_schema}`.
fn defaults(tools: &[u8]) -> ToolDefaults {
    let mut found = ToolDefaults::new();
    let mut cursor = Cursor::new(tools);
    // What cannot be read declares nothing.
    let _ = cursor.array::<Unreadable>(|cursor| {
        if cursor.peek() != Some(b'{') {
            return Ok(());
        }
        let (mut name, mut schema) = (None, None);
        cursor.object::<Unreadable>(|cursor, key| {
            if key.is("name") && cursor.peek() == Some(b'"') {
                name = Some(cursor.string()?.0.decode());
            } else if key.is("input_schema") {
                let span = cursor.skip()?;
                schema = Some(&cursor.bytes()[span]);
            }
            Ok(())
        })?;
        if let (Some(name), Some(defaults)) = (name, schema.and_then(Defaults::from_schema)) {
            found.insert(name.into_owned(), defaults);
        }
        Ok(())
    });
    found
}
