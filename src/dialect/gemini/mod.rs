//! `generateContent` of the Gemini Developer API and of Vertex AI.
//!
//! The state is a `thoughtSignature` beside the content of a part. It must come back on the part in
//! which it came: <https://ai.google.dev/gemini-api/docs/thought-signatures>.

mod partial;
pub(super) mod placeholder;
pub(super) mod request;
pub(super) mod response;

pub(super) use self::placeholder::is_placeholder;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Uri};

use super::{
    Author, Dialect, History, Operation, Part, PartKind, Recorder, RecorderLimits, Route, Slot, Splice, StandIns,
    ToolDefaults, Unreadable, Wanted, Whole,
};
use crate::{
    scope::HashKey,
    wire::{
        base64,
        json::{Cursor, begins_with},
    },
};

/// The Developer API and Vertex: the model stands in the path.
#[derive(Debug)]
pub(super) struct Gemini;

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn route(&self, method: &Method, uri: &Uri) -> Option<Route> {
        let (resource, operation) = operation(method, uri)?;
        let (_, model) = resource.rsplit_once('/')?;
        // `models/x`, `tunedModels/x`, and Vertex's `endpoints/x`.
        let collection = resource[..resource.len() - model.len() - 1].rsplit('/').next()?;
        if model.is_empty() || !matches!(collection, "models" | "tunedModels" | "endpoints") {
            return None;
        }
        let model = if collection == "models" { model.to_owned() } else { format!("{collection}/{model}") };
        Some(Route { operation, model: Some(model) })
    }

    fn read<'a>(&self, body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
        request::read(body, empty)
    }

    fn recorder(
        &self,
        _model: &str,
        key: &HashKey,
        limits: RecorderLimits,
        defaults: Arc<ToolDefaults>,
    ) -> Box<dyn Recorder> {
        Box::new(response::GeminiRecorder::new(key, limits, defaults, false))
    }

    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<Splice> {
        restore(part, state)
    }

    fn is_same_call(&self, body: &[u8], part: &Part<'_>, whole: &[u8]) -> bool {
        is_same_call(body, part, whole)
    }

    fn same_state(&self, one: &[u8], other: &[u8]) -> bool {
        same_state(one, other)
    }

    fn message(&self, parts: &[Whole<'_>]) -> Bytes {
        message(parts)
    }

    fn sentinel_parts(
        &self,
        history: &History<'_>,
        filled: &dyn Fn(usize) -> bool,
        wanted: Wanted,
        each: &mut dyn FnMut(usize),
    ) {
        sentinel_parts(history, filled, wanted, each);
    }

    fn is_checked(&self, history: &History<'_>, message: usize, wanted: Wanted) -> bool {
        wanted == Wanted::EveryPart || message >= current_turn(history)
    }

    fn signed(&self, part: &Bytes, state: &Bytes) -> Option<Bytes> {
        let read = request::one(&mut Cursor::new(part)).ok()?;
        Some(restore(&read, state)?.apply(part))
    }

    fn sentinel(&self, stand_ins: StandIns, _wanted: Wanted) -> Option<Bytes> {
        stand_ins.sentinel.map(placeholder::sentinel)
    }
}

/// What stands before the colon of the last path segment, and the operation behind it. Clients that
/// encode every segment of a path write the colon as `%3A`.
pub(super) fn operation<'u>(method: &Method, uri: &'u Uri) -> Option<(&'u str, Operation)> {
    if method != Method::POST {
        return None;
    }
    const VERBS: [(&str, Operation); 3] = [
        ("streamGenerateContent", Operation::Generate),
        ("generateContent", Operation::Generate),
        ("countTokens", Operation::Count),
    ];
    VERBS.iter().find_map(|(verb, operation)| {
        let before = uri.path().strip_suffix(verb)?;
        let resource = [":", "%3A", "%3a"].iter().find_map(|colon| before.strip_suffix(colon))?;
        Some((resource, *operation))
    })
}

pub(super) fn restore(part: &Part<'_>, state: &Bytes) -> Option<Splice> {
    match &part.slot {
        Slot::Absent(at) => {
            let field = match (part.snake_case, *at == part.span.start + 1) {
                (true, true) => "\"thought_signature\":",
                (true, false) => ",\"thought_signature\":",
                (false, true) => "\"thoughtSignature\":",
                (false, false) => ",\"thoughtSignature\":",
            };
            Some(Splice::insert_behind(*at, field, state))
        }
        Slot::Blank(span) => Some(Splice::replace(span.clone(), state.clone())),
        Slot::Held(_) | Slot::Beside | Slot::Unfit => None,
    }
}

/// Whether the whole part begins with all members of the kept one, as a part does whose signature comes last
/// and was taken off. What follows them in it is no content of the call: with a second one it would not have
/// been remembered.
pub(super) fn is_same_call(body: &[u8], part: &Part<'_>, whole: &[u8]) -> bool {
    let (PartKind::Call, Slot::Absent(end)) = (part.kind, &part.slot) else { return false };
    body.get(part.span.start..*end).is_some_and(|members| begins_with(whole, members))
}

/// Two raw JSON strings hold the same signature if they decode to the same bytes.
pub(super) fn same_state(one: &[u8], other: &[u8]) -> bool {
    let (Ok((one, _)), Ok((other, _))) = (Cursor::new(one).string(), Cursor::new(other).string()) else {
        return false;
    };
    base64::same_value(&one.decode(), &other.decode())
}

pub(super) fn message(parts: &[Whole<'_>]) -> Bytes {
    let parts: Vec<&[u8]> = parts.iter().map(|part| &part.raw[..]).collect();
    let parts = parts.join(&b","[..]);
    [b"{\"role\":\"model\",\"parts\":[", &parts[..], b"]}"].concat().into()
}

/// The provider checks the *current turn*, which begins at the last message of the user that holds
/// something else than outputs of calls; in it, the first call of each model message.
fn sentinel_parts(history: &History<'_>, filled: &dyn Fn(usize) -> bool, wanted: Wanted, each: &mut dyn FnMut(usize)) {
    let is_open = |at: &usize| history.parts[*at].slot.is_missing() && !filled(*at);
    let model = |from: usize| {
        let messages = history.messages.iter().skip(from);
        messages.filter(|message| message.author == Author::Model)
    };
    match wanted {
        Wanted::Reasoning => {}
        Wanted::FirstCalls => {
            let first_calls = model(current_turn(history))
                .filter_map(|message| message.parts.clone().find(|at| history.parts[*at].kind == PartKind::Call));
            first_calls.filter(is_open).for_each(each);
        }
        Wanted::EveryPart => {
            let parts = model(0).flat_map(|message| message.parts.clone());
            let carries = |at: &usize| {
                let part = &history.parts[*at];
                matches!(part.kind, PartKind::Text | PartKind::Media | PartKind::Call) && !part.is_empty_text()
            };
            parts.filter(carries).filter(is_open).for_each(each);
        }
    }
}

/// The index of the message with which the current turn begins.
fn current_turn(history: &History<'_>) -> usize {
    let begins = |at: &usize| {
        let message = &history.messages[*at];
        let parts = history.parts_of(*at);
        message.author == Author::Client && !parts.is_empty() && parts.iter().all(|part| part.kind != PartKind::Output)
    };
    (0..history.messages.len()).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colon_may_be_encoded() {
        let route = |path: &str| Gemini.route(&Method::POST, &path.parse().unwrap());
        for colon in [":", "%3A", "%3a"] {
            for (verb, operation) in [
                ("generateContent", Operation::Generate),
                ("streamGenerateContent?alt=sse", Operation::Generate),
                ("countTokens", Operation::Count),
            ] {
                let found = route(&format!("/v1beta/models/gemini-3-pro{colon}{verb}")).unwrap();
                assert_eq!((found.model.as_deref(), found.operation), (Some("gemini-3-pro"), operation));
            }
        }
        for other in ["/v1beta/models/m:embedContent", "/v1beta/models/generateContent", "/v1beta/models/:countTokens"]
        {
            assert!(route(other).is_none(), "{other}");
        }
    }
}
