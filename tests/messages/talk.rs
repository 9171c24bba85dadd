//! A conversation with Claude through the layer.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::support::{
    body::{Scripted, Step},
    rig::{Got, Rig},
    service::whole,
};

pub(crate) const MESSAGES: &str = "https://api.anthropic.com/v1/messages";
pub(crate) const COUNT: &str = "https://api.anthropic.com/v1/messages/count_tokens?beta=true";

/// Signatures as a provider could have issued them.
pub(crate) const FIRST: &str = "EqMBCkYIBxgCKkDb0p6dVx+/c2lnbmF0dXJl==";
pub(crate) const SECOND: &str = "EqQBCkYIBxgCKkAzYW5vdGhlciBvbmUgb2YgdGhlbQ==";

pub(crate) fn thinking(text: &str, signature: &str) -> Value {
    json!({"type": "thinking", "thinking": text, "signature": signature})
}

pub(crate) fn redacted(data: &str) -> Value {
    json!({"type": "redacted_thinking", "data": data})
}

pub(crate) fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

pub(crate) fn call(id: &str, at: u32) -> Value {
    json!({"type": "tool_use", "id": id, "name": "look", "input": {"at": at}})
}

pub(crate) fn output(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "seen"})
}

pub(crate) fn user(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}

pub(crate) fn model(content: impl Into<Value>) -> Value {
    json!({"role": "assistant", "content": content.into()})
}

pub(crate) fn document(content: &Value) -> String {
    json!({"id": "msg_01", "type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"})
        .to_string()
}

/// The events in which these blocks stream, without the last one.
pub(crate) fn events(content: &Value) -> Vec<Value> {
    let mut events = vec![json!({"type": "message_start", "message": {"role": "assistant", "content": []}})];
    for (index, block) in content.as_array().unwrap().iter().enumerate() {
        let (mut start, mut deltas) = (block.clone(), Vec::new());
        let mut pieces = |field: &str, kind: &str, key: &str, value: String| {
            start[field] = if field == "input" { json!({}) } else { json!("") };
            for piece in value.chars().collect::<Vec<_>>().chunks(5) {
                deltas.push(json!({"type": kind, key: piece.iter().collect::<String>()}));
            }
        };
        let held = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
        match block["type"].as_str().unwrap() {
            "text" => pieces("text", "text_delta", "text", held("text")),
            "thinking" => {
                pieces("thinking", "thinking_delta", "thinking", held("thinking"));
                pieces("signature", "signature_delta", "signature", held("signature"));
            }
            "tool_use" | "server_tool_use" => {
                pieces("input", "input_json_delta", "partial_json", block["input"].to_string());
            }
            _ => {}
        }
        if let Some(citations) = block["citations"].as_array() {
            start["citations"] = json!([]);
            deltas.extend(citations.iter().map(|citation| json!({"type": "citations_delta", "citation": citation})));
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.extend(deltas.into_iter().map(delta));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events
}

pub(crate) fn sse(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

/// The whole stream of these blocks.
pub(crate) fn stream(content: &Value) -> String {
    let mut events = events(content);
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}));
    events.push(json!({"type": "message_stop"}));
    sse(&events)
}

pub(crate) struct Talk {
    pub(crate) rig: Rig,
    pub(crate) model: &'static str,
    session: Option<&'static str>,
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self { rig: Rig::new([]), model: "claude-sonnet-4-5", session: Some("s") }
    }

    pub(crate) fn with(model: &'static str) -> Self {
        Self { model, ..Self::new() }
    }

    /// A conversation that nothing names.
    pub(crate) fn derived() -> Self {
        Self { session: None, ..Self::new() }
    }

    pub(crate) fn body(&self, messages: &Value) -> Value {
        json!({
            "model": self.model, "max_tokens": 4096, "messages": messages,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        })
    }

    pub(crate) async fn post(&self, uri: &str, body: impl Into<Bytes>) -> Got {
        let mut request = Request::post(uri).header("content-type", "application/json").header("x-api-key", "a key");
        if let Some(session) = self.session {
            request = request.header("x-claude-code-session-id", session);
        }
        self.rig.exchange(request.body(Scripted::new([Step::Data(body.into())])).unwrap()).await
    }

    /// Sends this history, is answered with this text, and tells the body that arrived.
    pub(crate) async fn raw(&self, body: &Value, answer: impl Into<Bytes>) -> Value {
        let sent = body.to_string();
        self.rig.inner.will(whole(answer));
        self.post(MESSAGES, sent.clone()).await;
        let seen = self.rig.inner.last().text();
        let value: Value = serde_json::from_str(&seen).expect("what goes upstream is JSON");
        assert!(value != *body || seen == sent, "the body was written anew");
        value
    }

    /// Sends this history, is answered with these blocks, and tells the history that arrived.
    pub(crate) async fn send(&self, messages: Value, answer: Value) -> Value {
        self.raw(&self.body(&messages), document(&answer)).await["messages"].clone()
    }

    /// Sends this history, and tells the history that arrived.
    pub(crate) async fn ask(&self, messages: Value) -> Value {
        self.send(messages, json!([text("fine")])).await
    }
}
