//! Error bodies as users reported them, as answers to a request into which something was put.

use serde_json::{Value, json};
use tower_reasoning_replay::engine::Event;

use crate::{
    client::{self, Mode},
    load::{self, Exchange, Recording, Request},
    parts::{contents, parts, token},
    play::{Stage, head},
};

/// Neither of them is one that a provider issued.
const STATES: [&str; 2] = ["bWFkZSB1cCBmb3IgYSB0ZXN0IG9uZQ==", "bWFkZSB1cCBmb3IgYSB0ZXN0IHR3bw=="];

fn signatures(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    contents(&body).iter().flat_map(parts).filter_map(token).collect()
}

/// Plays one error; every complaint ends the test.
pub(crate) async fn refuse(recording: &Recording) {
    let name = &recording.name;
    let claude = recording.model.starts_with("claude");
    let model = if claude { "claude-sonnet-4-5" } else { &recording.model };
    let thought = json!({"thought": true, "text": "I have to look.", "thoughtSignature": STATES[0]});
    let call = json!({"functionCall": {"name": "look", "args": {"at": 1}, "id": "k3x9q7tz"}});
    let answer = if claude {
        json!([thought, call])
    } else {
        let mut call = call;
        call["thoughtSignature"] = STATES[1].into();
        json!([call])
    };
    let question = json!({"role": "user", "parts": [{"text": "Look."}]});
    let output = json!({"functionResponse": {"name": "look", "response": {"seen": true}, "id": "k3x9q7tz"}});
    let follow = json!([question, {"role": "model", "parts": answer}, {"role": "user", "parts": [output]}]);
    let body = |contents: Value| match recording.cloud_code {
        true => json!({"model": model, "project": "p", "request": {"contents": contents}}),
        false => json!({"contents": contents}),
    };
    let good = json!({"candidates": [{"content": {"role": "model", "parts": answer}, "finishReason": "STOP"}]});
    let good = load::Response {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        text: if recording.cloud_code { json!({"response": good}) } else { good }.to_string(),
        is_sse: false,
        chunk_sizes: Vec::new(),
    };
    let mut error = recording.exchanges[0].response.clone();
    for (bare_sse, pretty) in [(false, false), (false, true), (true, true)] {
        if let (true, Ok(value)) = (pretty, serde_json::from_str::<Value>(&recording.exchanges[0].response.text)) {
            error.text = serde_json::to_string_pretty(&value).unwrap();
        }
        if bare_sse {
            error.headers = vec![("content-type".into(), "text/event-stream".into())];
        }
        let stage = Stage::new();
        let send = async |contents: Value, answer: &load::Response, mode: Mode| {
            let exchange = Exchange {
                session: 0,
                request: Some(Request {
                    method: "POST".into(),
                    path: String::new(),
                    headers: Vec::new(),
                    body: Value::Null,
                }),
                response: answer.clone(),
            };
            let sent = client::send(mode, &body(contents), false);
            stage.exchange(head(recording, &exchange, Some("s")), sent.bytes, answer, Some(7)).await
        };
        send(json!([question]), &good, Mode::Removed).await;
        let refused = send(follow.clone(), &error, Mode::Forgetful).await;
        assert_eq!(refused.status, error.status, "{name}");
        assert_eq!(refused.received, error.text, "{name}: the error was altered");
        assert_eq!(signatures(&refused.seen[0]).len(), 1, "{name}: nothing was put back");
        let counters = stage.layer.engine().counters();
        let missing = name.contains("missing") || name.contains("expected-thinking");
        let (event, other) = if missing {
            (Event::RefusedMissing, Event::RefusedInvalid)
        } else {
            (Event::RefusedInvalid, Event::RefusedMissing)
        };
        assert_eq!((counters.get(event), counters.get(other)), (1, 0), "{name}: taken for something else");
        if !missing {
            assert_eq!(refused.seen.len(), 2, "{name}: it was not sent again");
            assert!(!signatures(&refused.seen[1]).iter().any(|held| STATES.contains(&&**held)), "{name}");
        }
        let next = send(follow.clone(), &good, Mode::Forgetful).await;
        let kept = signatures(&next.seen[0]).len();
        assert_eq!(kept, usize::from(missing), "{name}: what was refused is forgotten, and nothing else");
    }
}
