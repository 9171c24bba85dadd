//! A client that talks to the provider and picks its answers apart.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::testing::anthropic::{AnthropicProvider, Builder, Say, Script, Turn};

pub(crate) const PATH: &str = "/v1/messages";
pub(crate) const VERTEX: &str = "/v1/projects/p/locations/global/publishers/anthropic/models";
pub(crate) const SONNET: &str = "claude-sonnet-4-5";
pub(crate) const FABLE: &str = "claude-fable-5-1";
pub(crate) const BETA: &str = "thinking-binding-controls-2026-08-01";

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

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type") == "text/event-stream; charset=utf-8"
    }

    /// The events of a stream, whose names are those of their data.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert!(self.is_stream(), "{}", self.text());
        let text = self.text();
        assert!(text.ends_with("\n\n") && !text.contains('\r'), "{text:?}");
        text.split_terminator("\n\n")
            .map(|event| {
                let (name, data) = event.split_once('\n').unwrap();
                let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
                data
            })
            .collect()
    }

    /// The message, put together if it is a stream.
    pub(crate) fn message(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        if !self.is_stream() {
            return self.json();
        }
        let mut message = Value::Null;
        let mut blocks: Vec<Value> = Vec::new();
        let mut input = String::new();
        let add = |target: &mut Value, delta: &Value| {
            *target = json!(format!("{}{}", target.as_str().unwrap(), delta.as_str().unwrap()));
        };
        for event in self.events() {
            let index = || event["index"].as_u64().unwrap() as usize;
            match event["type"].as_str().unwrap() {
                "message_start" => message = event["message"].clone(),
                "content_block_start" => {
                    assert_eq!(index(), blocks.len());
                    input.clear();
                    blocks.push(event["content_block"].clone());
                }
                "content_block_delta" => {
                    assert_eq!(index() + 1, blocks.len());
                    let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                    match delta["type"].as_str().unwrap() {
                        "thinking_delta" => add(&mut block["thinking"], &delta["thinking"]),
                        "signature_delta" => add(&mut block["signature"], &delta["signature"]),
                        "text_delta" => add(&mut block["text"], &delta["text"]),
                        "input_json_delta" => input.push_str(delta["partial_json"].as_str().unwrap()),
                        other => panic!("{other}"),
                    }
                }
                "content_block_stop" => {
                    assert_eq!(index() + 1, blocks.len());
                    if !input.is_empty() {
                        blocks.last_mut().unwrap()["input"] = serde_json::from_str(&input).unwrap();
                    }
                }
                "message_delta" => message["stop_reason"] = event["delta"]["stop_reason"].clone(),
                "message_stop" | "ping" => {}
                other => panic!("{other}"),
            }
        }
        message["content"] = json!(blocks);
        message
    }

    pub(crate) fn content(&self) -> Vec<Value> {
        self.message()["content"].as_array().unwrap().clone()
    }

    /// What was dropped from the request: where, and why.
    pub(crate) fn dropped(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let message = self.message();
        let transformations = message["input_transformations"].as_array().into_iter().flatten();
        transformations
            .map(|one| {
                assert_eq!(one["type"], "thinking_dropped");
                (text(&one["path"]), text(&one["reason"]))
            })
            .collect()
    }
}

pub(crate) async fn send(provider: &AnthropicProvider, request: Request<Full<Bytes>>) -> Answer {
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

pub(crate) async fn post(provider: &AnthropicProvider, path: &str, body: &Value) -> Answer {
    send(provider, Request::post(path).body(Full::new(Bytes::from(body.to_string()))).unwrap()).await
}

/// A body in manual mode.
pub(crate) fn manual(messages: &[Value]) -> Value {
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    json!({"model": SONNET, "max_tokens": 4096, "thinking": thinking, "messages": messages})
}

/// A body in adaptive mode.
pub(crate) fn adaptive(messages: &[Value]) -> Value {
    let mut body = manual(messages);
    body["thinking"] = json!({"type": "adaptive"});
    body
}

/// The body with another value in one place.
pub(crate) fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

/// Asks in manual mode.
pub(crate) async fn ask(provider: &AnthropicProvider, messages: &[Value]) -> Answer {
    post(provider, PATH, &manual(messages)).await
}

/// Asks a model that binds blocks to what stands before them.
pub(crate) async fn ask_fable(provider: &AnthropicProvider, messages: &[Value]) -> Answer {
    post(provider, PATH, &with(adaptive(messages), "model", json!(FABLE))).await
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(crate) fn assistant(blocks: &[Value]) -> Value {
    json!({"role": "assistant", "content": blocks})
}

/// Answers every call of the client's tools.
pub(crate) fn results(blocks: &[Value]) -> Value {
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    let results: Vec<Value> =
        calls.map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "ok"})).collect();
    json!({"role": "user", "content": results})
}

pub(crate) fn is_thought(block: &Value) -> bool {
    block["type"] == "thinking" || block["type"] == "redacted_thinking"
}

pub(crate) fn thoughtless(blocks: &[Value]) -> Vec<Value> {
    blocks.iter().filter(|block| !is_thought(block)).cloned().collect()
}

pub(crate) fn script(turns: impl IntoIterator<Item = Turn>) -> Builder {
    AnthropicProvider::builder().script(Script::new(turns))
}

pub(crate) fn says(says: impl IntoIterator<Item = Say>) -> Builder {
    script([Turn::new(says)])
}

/// The history of a first step: question, call, result; and the blocks of the answer.
pub(crate) async fn first_step(provider: &AnthropicProvider) -> (Vec<Value>, Vec<Value>) {
    let question = user("How is the weather?");
    let answer = ask(provider, std::slice::from_ref(&question)).await;
    accepted(&answer);
    let blocks = answer.content();
    (vec![question, assistant(&blocks), results(&blocks)], blocks)
}

#[track_caller]
pub(crate) fn accepted(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.header("request-id").starts_with("req_"));
}

/// It was refused with just this message.
#[track_caller]
pub(crate) fn refused(answer: &Answer, message: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], "error");
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert_eq!(body["error"]["message"], message);
    assert_eq!(body["request_id"], answer.header("request-id"));
}

pub(crate) fn invalid(at: &str) -> String {
    format!("{at}: Invalid `signature` in `thinking` block")
}

pub(crate) fn modified(at: &str) -> String {
    format!(
        "{at}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These blocks must remain as they were in the original response."
    )
}

pub(crate) fn expected(at: &str, found: &str) -> String {
    format!(
        "{at}.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this requirement, disable `thinking`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
    )
}
