//! What a request gets is what was learned, and nothing of the request is lost.

#![no_main]

use std::{
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

static HEADS: LazyLock<[request::Parts; 2]> = LazyLock::new(|| {
    [
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent",
        "https://cloudcode-pa.googleapis.com/v1internal:generateContent",
    ]
    .map(|uri| {
        let mut request = Request::post(uri).body(()).unwrap();
        request.extensions_mut().insert(Session::new("fuzz"));
        request.into_parts().0
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

/// The most signatures that a part has; the parts of a value are all its objects.
fn signatures(raw: &str, most: &mut usize) {
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
        let own = members.iter().filter(|(name, _)| name == "thoughtSignature" || name == "thought_signature").count();
        *most = (*most).max(own);
        members.iter().for_each(|(_, value)| signatures(value.get(), most));
    } else if let Ok(elements) = serde_json::from_str::<Vec<Box<RawValue>>>(raw) {
        elements.iter().for_each(|value| signatures(value.get(), most));
    }
}

// The input is a response, a zero byte, and a request.
fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (response, request) = (&data[..at], Bytes::copy_from_slice(data.get(at + 1..).unwrap_or_default()));
    let head = &HEADS[usize::from(which & 1)];
    let engine = Engine::builder(MemoryStore::new()).hash_key(HashKey::from_bytes([7; 32])).build().unwrap();
    // The turn is learned as the answer to the beginning, or to the very request.
    let first = if which & 2 == 0 { Bytes::from_static(b"{\"contents\":[]}") } else { request.clone() };
    learn(&engine, head, &first, response);

    let exchange = prepare(&engine, head, &request);
    let output = exchange.body();
    let summary = exchange.report().summary();
    if output == request {
        return;
    }
    assert!(summary.restored + summary.calls_restored > 0, "changed, and nothing was put back");
    assert!(output.len() > request.len() || which & 4 == 4 || summary.restored > 0);
    let input = std::str::from_utf8(&request).expect("only what can be read is changed");
    let text = std::str::from_utf8(&output).expect("what is put in can be read");
    if serde_json::from_str::<&RawValue>(input).is_ok() {
        serde_json::from_str::<&RawValue>(text).expect("what is put in is valid");
        let (mut before, mut after) = (0, 0);
        signatures(input, &mut before);
        signatures(text, &mut after);
        assert!(after <= before.max(1), "a part has two signatures");
    }
    // Placeholders are overwritten; everything else stays.
    let has_placeholder = ["\"\"", "null", "skip_", "context_", "c2tp", "Y29u", "\\", "=", " "];
    if !has_placeholder.iter().any(|placeholder| input.contains(placeholder)) {
        assert!(is_kept(&request, &output), "something of the request is gone");
    }
    // What is restored needs nothing more, and the same request gives the same bytes.
    assert_eq!(prepare(&engine, head, &request).body(), output);
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        drop(value);
        assert_eq!(prepare(&engine, head, &output).report().summary().restored, 0, "put back twice");
    }
});
