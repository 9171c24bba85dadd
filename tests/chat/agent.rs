//! Clients that lose reasoning, in front of the strict fake provider.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    ReplayLayer,
    engine::Builder as Layered,
    testing::chat::{Builder, ChatProvider, Flavour},
};

use crate::{support::store::TestStore, talk::*};

pub(crate) const ALL: [Flavour; 16] = [
    Flavour::DeepSeek,
    Flavour::Kimi,
    Flavour::MiMo,
    Flavour::Glm,
    Flavour::Qwen,
    Flavour::LlamaCpp,
    Flavour::Groq,
    Flavour::Cerebras,
    Flavour::Ollama,
    Flavour::Vllm,
    Flavour::OpenRouter,
    Flavour::MiniMax,
    Flavour::Gemini,
    Flavour::Vertex,
    Flavour::Copilot,
    Flavour::Mistral,
];

const FIELDS: [&str; 7] = [
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "reasoning_text",
    "reasoning_opaque",
    "extra_content",
    "thought_signature",
];

/// What a client does to the messages that it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// It has no field for reasoning.
    Strips,
    /// It writes null where reasoning stood.
    Nulls,
    /// It writes nothing, or white space, where reasoning stood.
    Blanks,
    /// It writes text as a list of elements, and members in another order.
    Elements,
    /// It makes a message of every call, each with its output behind it.
    Interleaves,
    /// It keeps what it shows, and drops what is opaque.
    KeepsShown,
    /// It keeps what it shows, under another name than the provider's.
    Renames,
    /// It keeps nothing of calls but their outputs.
    DropsCalls,
    /// It keeps everything.
    Keeps,
}

impl Client {
    pub(crate) const ALL: [Self; 9] = [
        Self::Strips,
        Self::Nulls,
        Self::Blanks,
        Self::Elements,
        Self::Interleaves,
        Self::KeepsShown,
        Self::Renames,
        Self::DropsCalls,
        Self::Keeps,
    ];

    pub(crate) fn splits(self) -> bool {
        self == Self::Interleaves
    }

    /// The messages that it has of an answer, and of what its tools gave.
    pub(crate) fn keep(self, message: &Value) -> Vec<Value> {
        let calls: Vec<Value> = message["tool_calls"].as_array().cloned().unwrap_or_default();
        let results: Vec<Value> = calls
            .iter()
            .map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": call["function"]["arguments"]}))
            .collect();
        if self == Self::Keeps {
            return [vec![message.clone()], results].concat();
        }
        let mut kept = message.clone();
        if let Some(chunks) = message["content"].as_array() {
            kept["content"] =
                chunks.iter().filter_map(|chunk| chunk["text"].as_str()).collect::<Vec<_>>().concat().into();
        }
        for call in kept["tool_calls"].as_array_mut().into_iter().flatten() {
            call.as_object_mut().unwrap().remove("extra_content");
        }
        let mut renamed = Value::Null;
        for field in FIELDS {
            let Some(value) = kept.as_object_mut().unwrap().remove(field) else { continue };
            match self {
                Self::Nulls => kept[field] = Value::Null,
                Self::Blanks if value.is_array() => kept[field] = json!([]),
                Self::Blanks if value.is_string() => kept[field] = json!(["", " ", "\n"][calls.len() % 3]),
                Self::KeepsShown if matches!(field, "reasoning" | "reasoning_text") => kept[field] = value,
                Self::Renames if field == "reasoning" => kept["reasoning_content"] = value,
                Self::Renames if field == "reasoning_content" => renamed = value,
                _ => {}
            }
        }
        if !renamed.is_null() {
            kept["reasoning"] = renamed;
        }
        match self {
            Self::Elements => {
                let mut other = json!({});
                if let Some(calls) = kept.get("tool_calls") {
                    other["tool_calls"] = calls.clone();
                }
                if let Some(text) = kept["content"].as_str().filter(|text| !text.is_empty()) {
                    other["content"] = json!([{"type": "text", "text": text}]);
                }
                other["role"] = "assistant".into();
                [vec![other], results].concat()
            }
            Self::Interleaves if calls.len() > 1 => {
                let split = kept["tool_calls"].as_array().unwrap().iter().enumerate();
                let messages = split.map(|(at, call)| {
                    let mut one = kept.clone();
                    one["tool_calls"] = json!([call]);
                    if at > 0 {
                        one["content"] = Value::Null;
                    }
                    one
                });
                messages.zip(results).flat_map(|(one, result)| [one, result]).collect()
            }
            Self::DropsCalls if !calls.is_empty() => {
                let has_text = kept["content"].as_str().is_some_and(|text| !text.is_empty());
                kept.as_object_mut().unwrap().remove("tool_calls");
                let text = has_text.then_some(kept);
                text.into_iter().chain(results).collect()
            }
            _ => [vec![kept], results].concat(),
        }
    }
}

/// A client, the layer, and the provider.
pub(crate) struct Agent {
    pub(crate) provider: ChatProvider,
    pub(crate) layer: ReplayLayer,
    pub(crate) store: TestStore,
    pub(crate) client: Client,
    pub(crate) stream: bool,
    pub(crate) session: Option<&'static str>,
    pub(crate) model: &'static str,
    pub(crate) tools: bool,
    pub(crate) history: Vec<Value>,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// What arrived at the provider last.
    pub(crate) arrived: String,
    pub(crate) sent: String,
}

impl Agent {
    pub(crate) fn new(provider: Builder, client: Client) -> Self {
        Self::with(provider, client, |builder| builder)
    }

    pub(crate) fn with(provider: Builder, client: Client, configure: impl FnOnce(Layered) -> Layered) -> Self {
        let store = TestStore::new();
        Self {
            provider: provider.build(),
            layer: configure(ReplayLayer::builder(store.clone())).build_layer().unwrap(),
            store,
            client,
            stream: false,
            session: Some("s"),
            model: "m",
            tools: true,
            history: vec![user("How is the weather?")],
        }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({"model": self.model, "messages": self.history, "stream": self.stream});
        if self.stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        if self.tools {
            body["tools"] = json!([{"type": "function", "function": {"name": "look", "parameters": {}}}]);
        }
        body
    }

    /// Sends the history as it stands.
    pub(crate) async fn send(&self) -> Reply {
        let sent = self.body().to_string();
        let mut request =
            Request::post(CHAT).header("content-type", "application/json").header("authorization", "Bearer key");
        if let Some(session) = self.session {
            request = request.header("x-session-id", session);
        }
        let request = request.body(Full::new(Bytes::from(sent.clone()))).unwrap();
        let response = self.layer.layer(self.provider.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let text = response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes();
        let arrived = self.provider.requests().pop().unwrap().body;
        Reply {
            status,
            text: String::from_utf8(text.to_vec()).unwrap(),
            arrived: String::from_utf8(arrived.to_vec()).unwrap(),
            sent,
        }
    }

    /// Sends the history, which is accepted, and goes on with the answer.
    pub(crate) async fn try_step(&mut self) -> Result<Reply, String> {
        let reply = self.send().await;
        if reply.status != StatusCode::OK {
            return Err(format!("{} for {}", reply.text, reply.arrived));
        }
        let issued = self.provider.issued().pop().unwrap().message;
        self.history.extend(self.client.keep(&issued));
        if issued.get("tool_calls").is_none() {
            self.history.push(user(&format!("And then, after {}?", self.history.len())));
        }
        Ok(reply)
    }

    pub(crate) async fn step(&mut self) -> Reply {
        self.try_step().await.unwrap()
    }
}

/// The messages of a body, up to the end of the last one.
pub(crate) fn messages(body: &str) -> String {
    let body: &serde_json::value::RawValue = serde_json::from_str(body).unwrap();
    let members: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
        serde_json::from_str(body.get()).unwrap();
    members["messages"].get().strip_suffix(']').unwrap().to_owned()
}
