//! A conversation through the layer that is answered from a script.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tower_reasoning_replay::engine::Builder;

use crate::support::{
    body::{Scripted, Step},
    rig::{Got, Rig},
    service::{Inner, whole},
    store::TestStore,
};

pub(crate) const CHAT: &str = "https://api.example.com/v1/chat/completions";

pub(crate) const FIRST: &str = "call_k3x9q7tzab12";
pub(crate) const SECOND: &str = "call_w8r2m5ndcc47";
pub(crate) const OPAQUE: &str = "b3BhcXVlIHN0YXRlIG9mIG1hbnkgYnl0ZXM=";

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(crate) fn call(id: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "look", "arguments": format!("{{\"at\":\"{id}\"}}")}})
}

pub(crate) fn output(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "seen"})
}

/// A message with these members, too.
pub(crate) fn with(mut message: Value, members: &Value) -> Value {
    message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    message
}

/// A message of the model with these calls and members.
pub(crate) fn answer(calls: &[&str], members: &Value) -> Value {
    let mut message = json!({"role": "assistant", "content": null});
    if !calls.is_empty() {
        message["tool_calls"] = calls.iter().map(|id| call(id)).collect::<Vec<_>>().into();
    }
    with(message, members)
}

/// A message of the model that says this, with these members.
pub(crate) fn said(text: &str, members: &Value) -> Value {
    with(json!({"role": "assistant", "content": text}), members)
}

pub(crate) fn document(message: &Value, reason: &str) -> String {
    json!({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": reason}]}).to_string()
}

pub(crate) fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub(crate) fn delta(delta: &Value) -> String {
    event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}))
}

pub(crate) fn finish(reason: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

/// How the provider streams: the deltas, the end, and what follows it.
pub(crate) fn stream(deltas: &[Value], reason: &str) -> String {
    let usage = event(&json!({"choices": [], "usage": {"total_tokens": 7}}));
    deltas.iter().map(delta).collect::<String>() + &finish(reason) + &usage + "data: [DONE]\n\n"
}

pub(crate) struct Talk {
    pub(crate) rig: Rig,
    pub(crate) uri: String,
    pub(crate) model: String,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::on(TestStore::new(), configure)
    }

    pub(crate) fn on(store: TestStore, configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self {
            rig: Rig::around(Inner::new([]), store, configure),
            uri: CHAT.to_owned(),
            model: "some-model-2049".to_owned(),
            headers: vec![("authorization", "Bearer key"), ("x-session-id", "s")],
        }
    }

    pub(crate) fn body(&self, messages: &Value) -> Value {
        json!({"model": self.model, "messages": messages})
    }

    pub(crate) fn request(&self, body: impl Into<Bytes>) -> Request<Scripted> {
        let mut request = Request::post(&self.uri).header("content-type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        request.body(Scripted::new([Step::Data(body.into())])).unwrap()
    }

    /// Sends this body; the answer has to be in the script.
    pub(crate) async fn post(&self, body: impl Into<Bytes>) -> Got {
        self.rig.exchange(self.request(body)).await
    }

    /// What arrived last.
    pub(crate) fn arrived(&self) -> Value {
        serde_json::from_str(&self.rig.inner.last().text()).expect("what goes upstream is JSON")
    }

    /// Sends these messages, which are answered by this body; gives the messages that arrived.
    pub(crate) async fn send(&self, messages: &Value, answer: impl Into<Bytes>) -> Value {
        let answer = answer.into();
        self.rig.inner.will(whole(answer.clone()));
        let body = self.body(messages);
        let sent = body.to_string();
        let got = self.post(sent.clone()).await;
        assert_eq!(got.frames.concat(), answer, "the answer was changed");
        let arrived = self.arrived();
        let seen = self.rig.inner.last().text();
        assert!(arrived != body || seen == sent, "the body was written anew");
        arrived["messages"].clone()
    }

    /// Sends these messages, which are answered by this message.
    pub(crate) async fn ask(&self, messages: &Value, answer: Value) -> Value {
        self.send(messages, document(&answer, "stop")).await
    }

    /// Sends this history, and is answered with something that does not matter.
    pub(crate) async fn look(&self, messages: &Value) -> Value {
        self.send(messages, document(&json!({"role": "assistant", "content": "fine"}), "stop")).await
    }
}
