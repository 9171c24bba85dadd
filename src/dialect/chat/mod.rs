//! Chat completions, of OpenAI and of the many that speak its protocol.
//!
//! The state is the reasoning itself, in a member of the message whose name depends on the provider. It must come
//! back in the field in which it came, on the same message:
//!
//! * `reasoning_content`: <https://api-docs.deepseek.com/guides/thinking_mode>,
//!   <https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model>,
//!   <https://docs.z.ai/guides/capabilities/thinking-mode>
//! * `reasoning` and `reasoning_details`: <https://openrouter.ai/docs/use-cases/reasoning-tokens>
//!   (many clients send it back as `reasoning_content`, and drop the details)
//! * chunks of `thinking` in the content: <https://docs.mistral.ai/capabilities/reasoning/>
//! * `extra_content` of a call: <https://ai.google.dev/gemini-api/docs/thought-signatures>

mod details;
mod insert;
mod reasoning;
mod request;
mod response;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Uri};

use super::{
    Author, Dialect, History, Layout, Operation, Part, PartKind, Recorder, RecorderLimits, Route, Slot, Splice, Spot,
    StandIns, ToolDefaults, Unreadable, Wanted, Whole, gemini::placeholder,
};
use crate::{
    ledger::few::Few,
    scope::HashKey,
    wire::{
        base64,
        canonical::canonical,
        json::{Cursor, Str, begins_with},
    },
};

/// `…/chat/completions` under any prefix: the model stands in the body, or is the deployment in the path.
#[derive(Debug)]
pub(super) struct Chat;

impl Dialect for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn route(&self, method: &Method, uri: &Uri) -> Option<Route> {
        if method != Method::POST {
            return None;
        }
        let path = uri.path();
        let prefix = path.strip_suffix('/').unwrap_or(path).strip_suffix("/chat/completions")?;
        // https://learn.microsoft.com/azure/ai-foundry/openai/reference
        let deployment = prefix.rsplit_once("/deployments/").map(|(_, deployment)| deployment);
        let model = deployment.filter(|model| !model.is_empty() && !model.contains('/')).map(str::to_owned);
        Some(Route { operation: Operation::Generate, model })
    }

    fn read<'a>(&self, body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
        request::read(body, empty)
    }

    fn layout(&self) -> Layout {
        Layout::Members
    }

    fn recorder(
        &self,
        _model: &str,
        key: &HashKey,
        limits: RecorderLimits,
        defaults: Arc<ToolDefaults>,
    ) -> Box<dyn Recorder> {
        Box::new(response::ChatRecorder::new(key, limits, defaults))
    }

    /// Calls carry state of their own.
    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<Splice> {
        if part.kind != PartKind::Call {
            return None;
        }
        match &part.slot {
            Slot::Beside => {
                let at = part.span.end.checked_sub(1)?;
                Some(Splice::insert_behind(at, ",\"extra_content\":", state))
            }
            Slot::Blank(span) => Some(Splice::replace(span.clone(), state.clone())),
            Slot::Absent(_) | Slot::Held(_) | Slot::Unfit => None,
        }
    }

    /// Reasoning that is shown gets back what stood beside it.
    fn complete(
        &self,
        body: &[u8],
        history: &History<'_>,
        part: usize,
        state: &Bytes,
        whole: Option<&Bytes>,
    ) -> Option<Few<Splice>> {
        let target = history.parts.get(part)?;
        if target.kind == PartKind::Thought {
            return insert::complete(body, history, target, whole?);
        }
        self.restore(target, state).map(Few::One)
    }

    fn is_same_call(&self, body: &[u8], part: &Part<'_>, whole: &[u8]) -> bool {
        if part.kind != PartKind::Call || part.slot != Slot::Beside {
            return false;
        }
        let members = part.span.end.checked_sub(1).and_then(|end| body.get(part.span.start..end));
        members.is_some_and(|members| begins_with(whole, members))
    }

    fn same_state(&self, one: &[u8], other: &[u8]) -> bool {
        same_state(one, other)
    }

    fn message(&self, parts: &[Whole<'_>]) -> Bytes {
        insert::message(parts)
    }

    fn put_back(&self, body: &[u8], history: &History<'_>, spot: Spot, parts: &[Whole<'_>]) -> Option<Few<Splice>> {
        insert::put_back(body, history, spot, parts)
    }

    /// Who wants `reasoning_content` wants it on every message of the step; a list of details comes back once.
    fn is_repeated(&self, whole: &[u8]) -> bool {
        let Some(value) = whole.strip_prefix(b"\"reasoning_content\":") else { return false };
        let mut cursor = Cursor::new(value);
        cursor.skip().is_ok() && cursor.end().is_ok()
    }

    fn sentinel_parts(
        &self,
        history: &History<'_>,
        filled: &dyn Fn(usize) -> bool,
        wanted: Wanted,
        each: &mut dyn FnMut(usize),
    ) {
        match wanted {
            Wanted::Reasoning => without_reasoning(history, filled, each),
            Wanted::FirstCalls | Wanted::EveryPart => first_calls(history, filled, each),
        }
    }

    fn is_checked(&self, history: &History<'_>, message: usize, wanted: Wanted) -> bool {
        wanted != Wanted::Reasoning && serves_gemini(history) && message >= current_turn(history)
    }

    fn signed(&self, part: &Bytes, state: &Bytes) -> Option<Bytes> {
        let read = request::call(&mut Cursor::new(part), 0).ok()?;
        Some(self.restore(&read, state)?.apply(part))
    }

    fn sentinel(&self, stand_ins: StandIns, wanted: Wanted) -> Option<Bytes> {
        match wanted {
            Wanted::Reasoning => {
                stand_ins.reasoning.then(|| format!("\"{}\"", reasoning::PLACEHOLDER).into_bytes().into())
            }
            Wanted::FirstCalls | Wanted::EveryPart => stand_ins.sentinel.map(|form| {
                let sentinel = placeholder::sentinel(form);
                [b"{\"google\":{\"thought_signature\":", &sentinel[..], b"}}"].concat().into()
            }),
        }
    }

    fn stand_in(&self, body: &[u8], history: &History<'_>, part: usize, sentinel: &Bytes) -> Option<Splice> {
        if sentinel.first() == Some(&b'"') {
            return insert::placeholder(body, history, part, sentinel);
        }
        self.restore(history.parts.get(part)?, sentinel)
    }
}

/// Whether a model is one of Gemini's, under whichever prefix: they want their signatures.
fn is_gemini(model: &[u8]) -> bool {
    model.windows(6).any(|word| word.eq_ignore_ascii_case(b"gemini"))
}

fn serves_gemini(history: &History<'_>) -> bool {
    history.model.as_deref().is_some_and(is_gemini)
}

/// The first part of each message of the model that has no reasoning.
fn without_reasoning(history: &History<'_>, filled: &dyn Fn(usize) -> bool, each: &mut dyn FnMut(usize)) {
    let answers = history.messages.iter().filter(|message| message.author == Author::Model);
    let bare = answers.filter(|message| {
        !message.parts.clone().any(|at| {
            let part = &history.parts[at];
            let own = part.kind == PartKind::Thought && (matches!(part.slot, Slot::Held(_)) || !part.is_empty_text());
            own || filled(at)
        })
    });
    bare.filter(|message| !message.parts.is_empty()).map(|message| message.parts.start).for_each(each);
}

/// The first call of each message of the model in the current turn.
fn first_calls(history: &History<'_>, filled: &dyn Fn(usize) -> bool, each: &mut dyn FnMut(usize)) {
    if !serves_gemini(history) {
        return;
    }
    let messages = history.messages.iter().skip(current_turn(history));
    let answers = messages.filter(|message| message.author == Author::Model);
    let calls = answers.filter_map(|message| {
        let mut parts = message.parts.clone();
        parts.find(|at| history.parts[*at].kind == PartKind::Call)
    });
    calls.filter(|at| history.parts[*at].slot.is_missing() && !filled(*at)).for_each(each);
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

/// Two raw values are the same state if they are equal JSON; signatures if they decode to the same bytes.
fn same_state(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let same_text = |one: &Str<'_>, other: &Str<'_>| {
        let (one, other) = (one.decode(), other.decode());
        one == other || base64::same_value(&one, &other)
    };
    if let (reasoning::Extra::Signed(one), reasoning::Extra::Signed(other)) =
        (reasoning::extra(one), reasoning::extra(other))
    {
        return same_text(&one, &other);
    }
    if let (Some(one), Some(other)) = (reasoning::text_of(one), reasoning::text_of(other)) {
        return same_text(&one, &other);
    }
    let form = |value: &[u8]| {
        let mut form = Vec::new();
        canonical(value, &mut |piece| form.extend_from_slice(piece)).ok().map(|()| form)
    };
    matches!((form(one), form(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Sentinel;

    #[test]
    fn any_prefix_will_do() {
        let route = |path: &str| Chat.route(&Method::POST, &path.parse().unwrap());
        for path in [
            "/chat/completions",
            "/v1/chat/completions",
            "/api/paas/v4/chat/completions/",
            "/v1beta/openai/chat/completions?x=y",
        ] {
            assert_eq!(route(path).unwrap().model, None, "{path}");
        }
        let azure = route("/openai/deployments/gpt-5/chat/completions?api-version=1").unwrap();
        assert_eq!(azure.model.as_deref(), Some("gpt-5"));
        for other in ["/v1/completions", "/v1/chat/completions/x", "/v1/responses", "/v1/xchat/completions"] {
            assert!(route(other).is_none(), "{other}");
        }
        assert!(Chat.route(&Method::GET, &"/v1/chat/completions".parse().unwrap()).is_none());
    }

    #[test]
    fn the_signature_of_a_call_goes_back_into_its_extra_content() {
        let state = Bytes::from_static(br#"{"google":{"thought_signature":"abc"}}"#);
        for (call, whole) in [
            (
                r#"{"id":"c","function":{"name":"f","arguments":"{}"}}"#,
                r#"{"id":"c","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"abc"}}}"#,
            ),
            (
                r#"{"extra_content":{"google":{"thought_signature":"skip_thought_signature_validator"}},"function":{"name":"f"}}"#,
                r#"{"extra_content":{"google":{"thought_signature":"abc"}},"function":{"name":"f"}}"#,
            ),
        ] {
            let signed = Chat.signed(&Bytes::from(call), &state).unwrap();
            assert_eq!(signed, whole);
            assert!(Chat.signed(&signed, &state).is_none());
        }
    }

    #[test]
    fn equal_state_is_spelled_in_many_ways() {
        let same = |one: &str, other: &str| same_state(one.as_bytes(), other.as_bytes());
        assert!(same(r#""ab+/""#, r#""ab-_""#));
        assert!(same(r#"[{"a":1,"b":"c"}]"#, r#"[ {"b":"c","a":1.0} ]"#));
        assert!(same(r#"{"google":{"thought_signature":"ab+/"}}"#, r#"{"google":{"thought_signature":"ab-_"}}"#));
        assert!(!same(r#"{"google":{"thought_signature":"ab+/"}}"#, r#"{"google":{"thought_signature":"abcd"}}"#));
        assert!(!same(r#""one""#, r#""two""#));
    }

    #[test]
    fn only_what_asks_for_all_of_a_step_is_repeated() {
        assert!(Chat.is_repeated(br#""reasoning_content":"why""#));
        assert!(!Chat.is_repeated(br#""reasoning_content":"why","reasoning_details":[]"#));
        assert!(!Chat.is_repeated(br#""reasoning":"why""#));
    }

    #[test]
    fn stand_ins_go_where_they_are_wanted() {
        let stand_ins = StandIns { sentinel: Some(Sentinel::Literal), reasoning: true };
        let body = br#"{"model":"google/gemini-3-pro","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"so","reasoning_content":"","tool_calls":[{"id":"a","function":{"name":"f"}},{"id":"b","function":{"name":"g"}}]},{"role":"tool","tool_call_id":"a","content":""},{"role":"assistant","reasoning":"own","content":"x"}]}"#;
        let history = request::read(body, History::default()).unwrap();
        let named = |history: &History<'_>, filled: &dyn Fn(usize) -> bool, wanted| {
            let mut parts = Vec::new();
            Chat.sentinel_parts(history, filled, wanted, &mut |part| parts.push(part));
            parts
        };
        let nothing = |_: usize| false;
        let apply = |wanted: Wanted| {
            let value = Chat.sentinel(stand_ins, wanted).unwrap();
            let parts = named(&history, &nothing, wanted);
            let [part] = parts[..] else { panic!("one part") };
            let splice = Chat.stand_in(body, &history, part, &value).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&splice.apply(body)).unwrap();
            body["messages"][1].clone()
        };
        assert_eq!(apply(Wanted::Reasoning)["reasoning_content"], reasoning::PLACEHOLDER);
        let calls = apply(Wanted::FirstCalls)["tool_calls"].clone();
        assert_eq!(calls[0]["extra_content"]["google"]["thought_signature"], "skip_thought_signature_validator");
        assert_eq!(calls[1].get("extra_content"), None);
        assert!(named(&history, &|_| true, Wanted::Reasoning).is_empty());
        let other = request::read(
            br#"{"model":"glm","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]}"#,
            History::default(),
        )
        .unwrap();
        assert!(named(&other, &nothing, Wanted::FirstCalls).is_empty());
    }
}
