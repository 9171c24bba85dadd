//! A client that talks to the provider and puts its answers together.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::testing::chat::{Builder, ChatProvider, Flavour, Say, Script, Turn};

pub(crate) const PATH: &str = "/v1/chat/completions";

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

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) frames: Vec<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) broken: bool,
}

impl Answer {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.frames.concat()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The chunks of a stream, without comments and `[DONE]`.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let text = self.text();
        assert!(text.ends_with("\n\n"), "{text:?}");
        let events = text.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
        let data = events.map(|event| event.strip_prefix("data: ").unwrap()).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// The choices with this index in each chunk of a stream.
    pub(crate) fn choices(&self, index: usize) -> Vec<Value> {
        let chunks = self.chunks();
        let choices = chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten();
        choices.filter(|choice| choice["index"] == index).cloned().collect()
    }

    pub(crate) fn deltas(&self, index: usize) -> Vec<Value> {
        self.choices(index).into_iter().map(|choice| choice["delta"].clone()).collect()
    }

    /// The whole message of a choice, streamed or not.
    pub(crate) fn message(&self, index: usize) -> Value {
        if self.header("content-type").starts_with("text/event-stream") {
            merge(&self.deltas(index))
        } else {
            let body = self.json();
            body["choices"][index]["message"].clone()
        }
    }

    pub(crate) fn finish_reasons(&self) -> Vec<Value> {
        let reasons = self.choices(0).into_iter().map(|choice| choice["finish_reason"].clone());
        reasons.filter(|reason| !reason.is_null()).collect()
    }
}

/// What an attentive client makes of deltas.
fn merge(deltas: &[Value]) -> Value {
    let mut message = json!({"role": "assistant", "content": null});
    for delta in deltas {
        for (field, value) in delta.as_object().unwrap() {
            match (field.as_str(), value) {
                ("role" | "channel", _) | (_, Value::Null) => {}
                ("tool_calls", calls) => merge_calls(&mut message, calls),
                ("reasoning_details", entries) => merge_details(&mut message, entries),
                ("content", Value::Array(chunks)) => merge_chunks(&mut message, chunks),
                ("content", Value::String(text)) if text.is_empty() && message["content"].is_array() => {}
                (field, Value::String(text)) => {
                    message[field] = json!(format!("{}{text}", message[field].as_str().unwrap_or_default()));
                }
                (field, value) => message[field] = value.clone(),
            }
        }
    }
    message
}

fn list<'a>(message: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    if !message[field].is_array() {
        message[field] = json!([]);
    }
    message[field].as_array_mut().unwrap()
}

fn merge_calls(message: &mut Value, deltas: &Value) {
    let calls = list(message, "tool_calls");
    for delta in deltas.as_array().unwrap() {
        let at = match delta["index"].as_u64() {
            Some(index) => usize::try_from(index).unwrap(),
            None => calls.iter().position(|call| call["id"] == delta["id"]).unwrap_or(calls.len()),
        };
        if at == calls.len() {
            calls.push(json!({}));
        }
        let call = &mut calls[at];
        for field in ["id", "type", "extra_content"] {
            if let Some(value) = delta.get(field) {
                call[field] = value.clone();
            }
        }
        for field in ["name", "arguments"] {
            if let Some(text) = delta["function"][field].as_str() {
                call["function"][field] =
                    json!(format!("{}{text}", call["function"][field].as_str().unwrap_or_default()));
            }
        }
    }
}

fn merge_details(message: &mut Value, fragments: &Value) {
    let entries = list(message, "reasoning_details");
    for fragment in fragments.as_array().unwrap() {
        let last = entries.last_mut();
        match last.filter(|last| last["type"] == fragment["type"] && last["index"] == fragment["index"]) {
            Some(last) => {
                for (field, value) in fragment.as_object().unwrap() {
                    match (field.as_str(), value) {
                        ("text" | "summary" | "signature", Value::String(text)) => {
                            last[field] = json!(format!("{}{text}", last[field].as_str().unwrap_or_default()));
                        }
                        _ => last[field] = value.clone(),
                    }
                }
            }
            None => entries.push(fragment.clone()),
        }
    }
}

fn merge_chunks(message: &mut Value, chunks: &[Value]) {
    let whole = list(message, "content");
    for chunk in chunks {
        let open = |last: &&mut Value| last["type"] == chunk["type"] && last.get("closed").is_none();
        match whole.last_mut().filter(open) {
            Some(last) if chunk["type"] == "thinking" => {
                let text = chunk["thinking"][0]["text"].as_str().unwrap();
                let before = last["thinking"][0]["text"].as_str().unwrap();
                last["thinking"][0]["text"] = json!(format!("{before}{text}"));
                if let Some(closed) = chunk.get("closed") {
                    last["closed"] = closed.clone();
                }
            }
            Some(last) => {
                let before = last["text"].as_str().unwrap();
                last["text"] = json!(format!("{before}{}", chunk["text"].as_str().unwrap()));
            }
            None => whole.push(chunk.clone()),
        }
    }
}

pub(crate) async fn send(provider: &ChatProvider, request: Request<Full<Bytes>>) -> Answer {
    let response = provider.clone().oneshot(request).await.unwrap();
    let (head, mut body) = response.into_parts();
    let mut answer =
        Answer { status: head.status, headers: head.headers, frames: vec![], trailers: None, broken: false };
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => answer.frames.push(data),
            Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
            Err(_) => answer.broken = true,
        }
    }
    assert!(body.is_end_stream());
    answer
}

pub(crate) async fn post(provider: &ChatProvider, body: &Value) -> Answer {
    send(provider, Request::post(PATH).body(Full::new(Bytes::from(body.to_string()))).unwrap()).await
}

/// A request with these messages, and with tools.
pub(crate) fn body(model: &str, messages: &[Value]) -> Value {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    json!({"model": model, "messages": messages, "tools": tools})
}

pub(crate) fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

pub(crate) async fn ask(provider: &ChatProvider, messages: &[Value]) -> Answer {
    post(provider, &body("m", messages)).await
}

pub(crate) async fn ask_stream(provider: &ChatProvider, messages: &[Value]) -> Answer {
    post(provider, &streamed(body("m", messages))).await
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// Answers every call of a message.
pub(crate) fn results(message: &Value) -> Vec<Value> {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    calls.map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "ok"})).collect()
}

/// The message without this field.
pub(crate) fn without(message: &Value, field: &str) -> Value {
    let mut message = message.clone();
    message.as_object_mut().unwrap().remove(field).unwrap();
    message
}

pub(crate) fn script(turns: impl IntoIterator<Item = Turn>) -> Builder {
    ChatProvider::builder().script(Script::new(turns))
}

/// A provider that always says this.
pub(crate) fn says(flavour: Flavour, says: impl IntoIterator<Item = Say>) -> Builder {
    script([Turn::new(says)]).flavour(flavour)
}

/// A question, what is said to it, and the results of what that calls.
pub(crate) async fn first_step(provider: &ChatProvider, model: &str) -> Vec<Value> {
    let mut history = vec![user("How is the weather?")];
    let answer = post(provider, &body(model, &history)).await;
    accepted(&answer);
    let message = answer.message(0);
    let results = results(&message);
    history.push(message);
    history.extend(results);
    history
}

#[track_caller]
pub(crate) fn accepted(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[track_caller]
pub(crate) fn refused(answer: &Answer, message: &str) {
    assert!(answer.status.is_client_error(), "{}", answer.text());
    // A body may hold another one as text.
    let said = answer.text().replace("\\\"", "\"").replace("\\\\", "\\").replace("\\u0027", "'");
    assert!(said.contains(message), "{said}");
}
