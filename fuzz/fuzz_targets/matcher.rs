//! State goes back onto equal content only, and never over a client's own.

#![no_main]

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{Request, Response, request};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tower_reasoning_replay::{
    Engine, MemoryStore,
    engine::Answer,
    scope::{HashKey, Session},
};

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a memory store never waits"),
    }
}

#[derive(Arbitrary, Clone, Debug)]
enum Part {
    Text(u8),
    Thought(u8),
    Call { name: u8, args: u8, id: Option<u8> },
    Media(u8),
}

impl Part {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!({"text": format!("text {}", text % 4)}),
            Self::Thought(text) => json!({"text": format!("thought {}", text % 4), "thought": true}),
            Self::Media(data) => json!({"inlineData": {"mimeType": "image/png", "data": format!("AAA{}", data % 4)}}),
            Self::Call { name, args, id } => {
                let mut call = json!({"name": format!("f{}", name % 2), "args": {"a": args % 3}});
                if let Some(id) = id {
                    call["id"] = json!(if id % 2 == 0 {
                        format!("call{}", id % 8)
                    } else {
                        format!("0123456789abcde{}", id % 8)
                    });
                }
                json!({"functionCall": call})
            }
        }
    }

    /// What must be equal for state to go back.
    fn content(part: &Value) -> String {
        let mut part = part.clone();
        if let Some(part) = part.as_object_mut() {
            part.remove("thoughtSignature");
        }
        if let Some(call) = part.get_mut("functionCall").and_then(Value::as_object_mut) {
            call.remove("id");
        }
        part.to_string()
    }
}

#[derive(Arbitrary, Debug)]
struct Turn {
    parts: Vec<(Part, bool)>,
    question: u8,
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Drop(u8),
    Swap(u8, u8),
    Replace(u8, u8, Part),
    Duplicate(u8),
    Own(u8, u8),
    Blank(u8, u8),
}

#[derive(Arbitrary, Debug)]
struct Talk {
    turns: Vec<Turn>,
    edits: Vec<Edit>,
    named: bool,
}

static HEAD: LazyLock<request::Parts> = LazyLock::new(|| {
    let uri = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent";
    Request::post(uri).body(()).unwrap().into_parts().0
});

fn question(text: u8) -> Value {
    json!({"role": "user", "parts": [{"text": format!("question {}", text % 3)}]})
}

fn body(contents: &[Value]) -> Bytes {
    json!({ "contents": contents }).to_string().into()
}

/// The parts of the model in a body.
fn parts(contents: &[Value]) -> impl Iterator<Item = &Value> {
    let model = contents.iter().filter(|content| content["role"] == "model");
    model.flat_map(|content| content["parts"].as_array().map(Vec::as_slice).unwrap_or_default())
}

fuzz_target!(|talk: Talk| {
    let mut head = HEAD.clone();
    if talk.named {
        head.extensions.insert(Session::new("fuzz"));
    }
    let engine = Engine::builder(MemoryStore::new()).hash_key(HashKey::from_bytes([7; 32])).build().unwrap();
    // What each signature was issued for.
    let mut issued: BTreeMap<String, String> = BTreeMap::new();
    let mut contents = vec![question(0)];
    for (at, turn) in talk.turns.iter().take(8).enumerate() {
        let mut signed = Vec::new();
        let mut kept = Vec::new();
        for (index, (part, is_signed)) in turn.parts.iter().take(6).enumerate() {
            let mut part = part.json();
            kept.push(part.clone());
            if *is_signed {
                let signature = format!("issued+signature+{at:03}+{index:03}");
                part["thoughtSignature"] = json!(signature);
                issued.insert(signature, String::new());
            }
            signed.push(part);
        }
        // Text that is streamed in chunks is one run.
        let mut run = 0;
        while run < signed.len() {
            let kind = |part: &Value| (part["text"].is_string(), part["thought"].clone());
            let mut end = run + 1;
            while end < signed.len() && signed[run]["text"].is_string() && kind(&signed[end]) == kind(&signed[run]) {
                end += 1;
            }
            for part in &signed[run..end] {
                if let Some(signature) = part["thoughtSignature"].as_str() {
                    // Any of its chunks, alone or with others, may carry it.
                    let content = signed[run..end].iter().map(Part::content).collect::<Vec<_>>().join("|");
                    issued.insert(signature.to_owned(), content);
                }
            }
            run = end;
        }
        let response = json!({"candidates": [{"content": {"parts": signed, "role": "model"}, "finishReason": "STOP"}]});
        let mut exchange = now(engine.prepare(engine.watch(&head).unwrap(), &head, body(&contents)));
        let (answer, ()) = Response::new(()).into_parts();
        if let Answer::Observe(mut observer) = exchange.answer(&answer) {
            let response = response.to_string();
            for commit in [observer.feed(response.as_bytes()), observer.finish()].into_iter().flatten() {
                now(commit.run());
            }
        }
        contents.push(json!({"role": "model", "parts": kept}));
        contents.push(question(turn.question));
    }

    let mut own = Vec::new();
    for (at, edit) in talk.edits.iter().take(8).enumerate() {
        let count = contents.len();
        let part_of = |content: &mut Value, part: u8, change: &mut dyn FnMut(&mut Value)| {
            if content["role"] == "model"
                && let Some(parts) = content["parts"].as_array_mut()
                && !parts.is_empty()
            {
                let at = usize::from(part) % parts.len();
                change(&mut parts[at]);
            }
        };
        if count == 0 {
            break;
        }
        let index = |at: u8| usize::from(at) % count;
        match edit {
            Edit::Drop(which) => drop(contents.remove(index(*which))),
            Edit::Swap(one, other) => contents.swap(index(*one), index(*other)),
            Edit::Duplicate(which) => contents.push(contents[index(*which)].clone()),
            Edit::Replace(which, part, by) => {
                part_of(&mut contents[index(*which)], *part, &mut |part| *part = by.json())
            }
            Edit::Own(which, part) => {
                let value = format!("the+clients+own+{at:03}");
                part_of(&mut contents[index(*which)], *part, &mut |part| part["thoughtSignature"] = json!(value));
                own.push(value);
            }
            Edit::Blank(which, part) => {
                part_of(&mut contents[index(*which)], *part, &mut |part| part["thoughtSignature"] = json!(""));
            }
        }
    }

    let request = body(&contents);
    let exchange = now(engine.prepare(engine.watch(&head).unwrap(), &head, request.clone()));
    let output = exchange.body();
    let text = std::str::from_utf8(&output).unwrap();
    let sent: Value = serde_json::from_str(text).expect("valid");
    let sent = sent["contents"].as_array().expect("contents");
    // Nothing is dropped here that could be put back as a whole, so that parts stand where they stood.
    assert_eq!(parts(sent).count(), parts(&contents).count(), "{text}");
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for (before, after) in parts(&contents).zip(parts(sent)) {
        assert_eq!(Part::content(before), Part::content(after), "{text}");
        let (before, signature) = (before["thoughtSignature"].as_str(), after["thoughtSignature"].as_str());
        if let Some(before) = before.filter(|before| !before.is_empty()) {
            assert_eq!(Some(before), signature, "a client's own was overwritten");
            continue;
        }
        let Some(signature) = signature.filter(|signature| !signature.is_empty()) else { continue };
        let content = issued.get(signature).unwrap_or_else(|| panic!("nobody issued {signature}"));
        *used.entry(signature).or_default() += 1;
        let after = Part::content(after);
        assert!(content.split('|').any(|issued| *issued == after), "{signature} of {content} stands on {after}");
    }
    assert!(used.values().all(|times| *times == 1), "one signature stands in two places: {text}");
});
