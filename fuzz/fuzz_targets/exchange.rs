//! What a request gets is what was learned, and nothing of the request is lost.

#![no_main]

use std::{
    collections::HashSet,
    future::Future,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, request};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, value::RawValue};
use tower_reasoning_replay::{
    Engine, MemoryStore,
    engine::{Answer, Exchange},
    scope::{HashKey, Session},
};

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a memory store never waits"),
    }
}

/// A request of each protocol, and a body with which a conversation in it may begin.
static HEADS: LazyLock<[(request::Parts, Bytes); 6]> = LazyLock::new(|| {
    [
        ("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent", r#"{"contents":[]}"#),
        ("https://cloudcode-pa.googleapis.com/v1internal:generateContent", r#"{"contents":[]}"#),
        (
            "https://api.anthropic.com/v1/messages",
            r#"{"model":"claude-opus-4-5","thinking":{"type":"adaptive"},"messages":[{"role":"user","content":"go"}]}"#,
        ),
        // A model that binds its thoughts to what precedes them.
        (
            "https://api.anthropic.com/v1/messages",
            r#"{"model":"claude-opus-5-5","thinking":{"type":"adaptive"},"messages":[{"role":"user","content":"go"}]}"#,
        ),
        ("https://api.openai.com/v1/responses", r#"{"model":"gpt-5","store":false,"input":"go"}"#),
        (
            "https://api.deepseek.com/chat/completions",
            r#"{"model":"m","tools":[],"messages":[{"role":"user","content":"go"}]}"#,
        ),
    ]
    .map(|(uri, first)| {
        let mut request = Request::post(uri).body(()).unwrap();
        request.extensions_mut().insert(Session::new("fuzz"));
        (request.into_parts().0, Bytes::from_static(first.as_bytes()))
    })
});

fn prepare(engine: &Engine, head: &request::Parts, body: &Bytes) -> Exchange {
    now(engine.prepare(engine.watch(head).unwrap(), head, body.clone()))
}

fn learn(engine: &Engine, head: &request::Parts, body: &Bytes, response: &[u8]) {
    let mut exchange = prepare(engine, head, body);
    let (answer, ()) = Response::new(()).into_parts();
    if let Answer::Observe(mut observer) = exchange.answer(&answer) {
        for commit in [observer.feed(response), observer.finish()].into_iter().flatten() {
            now(commit.run());
        }
    }
}

/// Whether `input` is what is left of `output` when something is taken out, or when placeholders were
/// overwritten.
fn is_kept(input: &[u8], output: &[u8]) -> bool {
    let mut rest = output.iter();
    input.iter().all(|byte| rest.any(|other| other == byte))
}

/// Whether `output` has everything that `input` has, in its order; what holds nothing may have been filled.
fn is_within(input: &Value, output: &Value) -> bool {
    match (input, output) {
        (Value::Object(input), Value::Object(output)) => input.iter().all(|(name, value)| {
            let found = output.get(name);
            is_blank(value) || found.is_some_and(|found| is_within(value, found))
        }),
        (Value::Array(input), Value::Array(output)) => {
            let mut rest = output.iter();
            // What is left of a thought makes room for the whole.
            input.iter().filter(|value| !is_hollow(value)).all(|value| rest.any(|found| is_within(value, found)))
        }
        // A text becomes a list when something stands beside it.
        (Value::String(text), Value::Array(output)) => output.iter().any(|part| part["text"] == **text),
        (input, output) => is_blank(input) || input == output,
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => {
            let text = text.trim();
            text.is_empty()
                || text.starts_with("skip_")
                || text.starts_with("context_")
                || text.starts_with("c2tp")
                || text.starts_with("Y29u")
        }
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

/// Whether it is a thought without state.
fn is_hollow(value: &Value) -> bool {
    let is_thought =
        value["type"].as_str().is_some_and(|kind| kind.contains("thinking") || kind.starts_with("reasoning"));
    is_thought && ["signature", "data", "encrypted_content"].iter().all(|state| is_blank(&value[state]))
}

/// How many objects of a value name a member twice, in whichever spelling.
fn doubles(raw: &str, count: &mut usize) {
    struct Members(Vec<(String, Box<RawValue>)>);
    impl<'de> serde::Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    if let Ok(Members(members)) = serde_json::from_str::<Members>(raw) {
        let names: HashSet<String> =
            members.iter().map(|(name, _)| name.replace("thought_signature", "thoughtSignature")).collect();
        *count += usize::from(names.len() < members.len());
        members.iter().for_each(|(_, value)| doubles(value.get(), count));
    } else if let Ok(elements) = serde_json::from_str::<Vec<Box<RawValue>>>(raw) {
        elements.iter().for_each(|value| doubles(value.get(), count));
    }
}

// The input is the protocol, how the turn is learned, a response, a zero byte, and a request.
fuzz_target!(|data: &[u8]| {
    let [which, how, data @ ..] = data else { return };
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (response, request) = (&data[..at], Bytes::copy_from_slice(data.get(at + 1..).unwrap_or_default()));
    let which = usize::from(*which) % HEADS.len();
    let (head, beginning) = &HEADS[which];
    let engine = Engine::builder(MemoryStore::new()).hash_key(HashKey::from_bytes([7; 32])).build().unwrap();
    // The turn is learned as the answer to the beginning, or to the very request.
    let first = if how & 1 == 0 { beginning.clone() } else { request.clone() };
    learn(&engine, head, &first, response);

    let exchange = prepare(&engine, head, &request);
    let output = exchange.body();
    let summary = exchange.report().summary();
    if output == request {
        return;
    }
    assert!(summary.restored + summary.calls_restored > 0, "changed, and nothing was put back");
    let input = std::str::from_utf8(&request).expect("only what can be read is changed");
    let text = std::str::from_utf8(&output).expect("what is put in can be read");
    if serde_json::from_str::<&RawValue>(input).is_ok() {
        serde_json::from_str::<&RawValue>(text).expect("what is put in is valid");
        let (mut before, mut after) = (0, 0);
        doubles(input, &mut before);
        doubles(text, &mut after);
        // What the provider names twice is put back as it came.
        let mut learned = 0;
        for line in std::iter::once(response).chain(response.split(|byte| matches!(byte, b'\n' | b'\r'))) {
            if let Ok(line) = std::str::from_utf8(line) {
                doubles(line.strip_prefix("data:").unwrap_or(line), &mut learned);
            }
        }
        assert!(after <= before || learned > 0, "a member is there twice: {text}");
        if let (Ok(before), Ok(after)) = (serde_json::from_str(input), serde_json::from_str(text)) {
            assert!(is_within(&before, &after), "something of the request is another: {text}");
        }
    }
    // Placeholders are overwritten, and so is what is left of a thought; everything else stays.
    let has_placeholder =
        ["\"\"", "null", "skip_", "context_", "c2tp", "Y29u", "\\", "=", " ", "thinking\"", "reasoning"];
    if !has_placeholder.iter().any(|placeholder| input.contains(placeholder)) {
        assert!(is_kept(&request, &output), "something of the request is gone");
    }
    // What is restored needs nothing more, and the same request gives the same bytes.
    assert_eq!(prepare(&engine, head, &request).body(), output);
    if serde_json::from_str::<Value>(text).is_ok() {
        // What came back may be what tells more apart, but not for ever.
        let mut former = output;
        let mut rounds = 0;
        loop {
            let again = prepare(&engine, head, &former);
            if again.body() == former {
                assert_eq!(again.body().as_ptr(), former.as_ptr(), "copied, and nothing was put back");
                break;
            }
            rounds += 1;
            assert!(which >= 2 && rounds < 4, "put back again and again");
            former = again.body();
        }
    }
});
