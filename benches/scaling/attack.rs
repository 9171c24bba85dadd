//! Bodies and ledgers of Gemini that are made to be slow. Those of the other dialects are in `workload::family`.

use bytes::Bytes;
use tower_reasoning_replay::Engine;

use crate::{
    talk::{Dialect, engine},
    workload::{self, Calls, Conversation, family::Make},
};

const GO: &str = r#"{"contents":[{"role":"user","parts":[{"text":"go"}]}"#;

/// By name, with the larger of the sizes at which they are measured.
pub(crate) fn gemini() -> Vec<(&'static str, usize, Make)> {
    vec![
        ("all calls identical", 400, Box::new(|turns| repeated(Calls::Same, turns))),
        ("all ids equal", 400, Box::new(|turns| repeated(Calls::SameId, turns))),
        ("as many candidates as equal places", 10_000, Box::new(candidates)),
        ("backslashes", 4 << 20, Box::new(|size| text(r"\\", size))),
        ("escaped characters", 4 << 20, Box::new(|size| text(r"\u00e9", size))),
        ("deep arguments", 4 << 20, Box::new(|size| deep(size, 100))),
        ("dropped calls behind unknown ones", 5_000, Box::new(dropped)),
    ]
}

fn learn(engine: &Engine, asked: &Bytes, parts: &str) {
    let answer =
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{parts}]}},\"finishReason\":\"STOP\"}}]}}\r\n\r\n");
    workload::learn(engine, &workload::head(), asked, answer.as_bytes());
}

/// An engine that knows something of the session, so that bodies are matched.
fn knowing() -> Engine {
    let engine = engine();
    workload::learn(&engine, &workload::head(), &Dialect::Gemini.question(), Dialect::Gemini.answer(0).as_bytes());
    engine
}

fn repeated(calls: Calls, turns: usize) -> (Engine, Bytes) {
    let talk = Conversation::new(13, turns, calls, 0);
    (workload::taught(&talk), talk.stripped())
}

fn candidates(count: usize) -> (Engine, Bytes) {
    let engine = engine();
    let call = r#"{"functionCall":{"name":"f","args":{"a":1}}"#;
    let mut body = GO.to_owned();
    // As many in an answer as it may have parts, and some more room.
    for from in (0..count).step_by(1_000) {
        let signed =
            (from..count.min(from + 1_000)).map(|at| format!(r#"{call},"thoughtSignature":"signature-{at:08}"}}"#));
        learn(&engine, &Bytes::from(body.clone() + "]}"), &signed.collect::<Vec<_>>().join(","));
        for _ in from..count.min(from + 1_000) {
            body += &format!(r#",{{"role":"model","parts":[{call}}}]}}"#);
        }
    }
    (engine, Bytes::from(body + "]}"))
}

fn text(piece: &str, size: usize) -> (Engine, Bytes) {
    let text = piece.repeat(size / piece.len());
    (knowing(), Bytes::from(format!(r#"{GO},{{"role":"model","parts":[{{"text":"{text}"}}]}}]}}"#)))
}

fn deep(size: usize, depth: usize) -> (Engine, Bytes) {
    let args = format!("{}1{}", r#"{"a":["#.repeat(depth / 2), "]}".repeat(depth / 2));
    let call = format!(r#",{{"role":"model","parts":[{{"functionCall":{{"name":"f","args":{args}}}}}]}}"#);
    (knowing(), Bytes::from(format!("{GO}{}]}}", call.repeat((size / call.len()).max(1)))))
}

fn dropped(count: usize) -> (Engine, Bytes) {
    let engine = engine();
    let call = |at: usize| format!(r#"{{"functionCall":{{"name":"f","id":"n{at:07x}x","args":{{"a":{at}}}}}"#);
    let mut body = GO.to_owned();
    for at in 0..count {
        learn(
            &engine,
            &Dialect::Gemini.question(),
            &format!(r#"{},"thoughtSignature":"signature-{at:08}"}}"#, call(at)),
        );
        body += &format!(r#",{{"role":"model","parts":[{}}}]}}"#, call(count + at));
    }
    for at in 0..count {
        body += &format!(
            r#",{{"role":"user","parts":[{{"functionResponse":{{"name":"f","id":"n{at:07x}x","response":{{"b":{at}}}}}}}]}}"#
        );
    }
    (engine, Bytes::from(body + "]}"))
}
