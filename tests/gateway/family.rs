//! A client of each family that remembers nothing but what it shows.

use std::net::SocketAddr;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::client::{Answer, send};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Messages,
    Responses,
    Chat,
}

impl Family {
    pub(crate) const ALL: [Self; 3] = [Self::Messages, Self::Responses, Self::Chat];

    /// The name of its dialect.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Messages => "anthropic",
            Self::Responses => "responses",
            Self::Chat => "chat",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages?beta=true",
            Self::Responses => "/v1/responses",
            Self::Chat => "/chat/completions",
        }
    }

    /// What its provider says if state is missing.
    pub(crate) fn missing(self) -> &'static str {
        match self {
            Self::Messages => "Expected `thinking` or `redacted_thinking`",
            Self::Responses => "without its required 'reasoning' item",
            Self::Chat => "must be passed back to the API",
        }
    }

    /// The headers that its clients send, credentials first.
    pub(crate) fn headers(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Messages => vec![
                ("x-api-key", "key-of-the-caller"),
                ("anthropic-version", "2023-06-01"),
                ("anthropic-beta", "interleaved-thinking-2025-05-14,context-management-2025-06-27"),
                ("x-claude-code-session-id", "session-of-the-caller"),
            ],
            Self::Responses => vec![
                ("authorization", "Bearer key-of-the-caller"),
                ("openai-organization", "org-of-the-caller"),
                ("openai-project", "proj-of-the-caller"),
                ("session_id", "session-of-the-caller"),
            ],
            Self::Chat => vec![
                ("authorization", "Bearer key-of-the-caller"),
                ("x-session-id", "session-of-the-caller"),
                ("http-referer", "https://caller.example/"),
                ("x-title", "Caller"),
            ],
        }
    }
}

/// A conversation of a client that drops all state.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) family: Family,
    pub(crate) uri: String,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// What the body says besides the history.
    pub(crate) settings: Value,
    history: Vec<Value>,
}

impl Talk {
    /// Begins one with a question.
    pub(crate) fn new(family: Family, stream: bool) -> Self {
        let settings = match family {
            Family::Messages => json!({
                "model": "claude-sonnet-4-5", "max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 1024},
            }),
            Family::Responses => json!({"model": "gpt-5.4", "include": ["reasoning.encrypted_content"]}),
            Family::Chat => json!({
                "model": "deepseek-v4", "tools": [{"type": "function", "function": {"name": "get_weather"}}],
            }),
        };
        let mut talk = Self {
            family,
            uri: family.path().to_owned(),
            headers: family.headers(),
            settings,
            history: vec![json!({"role": "user", "content": "How is the weather in the city of the-caller?"})],
        };
        talk.settings["stream"] = stream.into();
        talk
    }

    pub(crate) fn body(&self) -> String {
        let mut body = self.settings.clone();
        let name = if self.family == Family::Responses { "input" } else { "messages" };
        body[name] = self.history.clone().into();
        body.to_string()
    }

    pub(crate) fn request(&self) -> Request<Full<bytes::Bytes>> {
        let request = Request::post(&*self.uri).header("host", "gateway").header("content-type", "application/json");
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(Full::from(self.body())).unwrap()
    }

    /// Sends what there is, without taking the answer in.
    pub(crate) async fn ask(&self, address: SocketAddr) -> Answer {
        send(address, self.request()).await
    }

    /// Sends what there is; takes the answer in and answers its calls, or asks on.
    pub(crate) async fn turn(&mut self, address: SocketAddr) -> Answer {
        let answer = self.ask(address).await;
        if answer.status.is_success() {
            let (entries, outputs) = match self.family {
                Family::Messages => messages(&events(&answer)),
                Family::Responses => items(&events(&answer)),
                Family::Chat => chat(&events(&answer)),
            };
            self.history.extend(entries);
            if outputs.is_empty() {
                self.history.push(json!({"role": "user", "content": "And tomorrow?"}));
            }
            self.history.extend(outputs);
        }
        answer
    }
}

/// The events of a stream, or the document.
fn events(answer: &Answer) -> Vec<Value> {
    let data = answer.text().lines().filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<Value> =
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect();
    if data.is_empty() { vec![serde_json::from_slice(&answer.body).unwrap()] } else { data }
}

const OUTPUT: &str = "grey";

/// Text and calls, and the outputs of these.
fn messages(events: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let mut blocks: Vec<Value> = Vec::new();
    for event in events {
        match event["type"].as_str() {
            Some("message") => blocks = event["content"].as_array().unwrap().clone(),
            Some("content_block_start") => {
                let mut block = event["content_block"].clone();
                if block["type"] == "tool_use" {
                    block["input"] = "".into();
                }
                blocks.push(block);
            }
            Some("content_block_delta") => {
                let block = blocks.last_mut().unwrap();
                for (piece, field) in [("text", "text"), ("partial_json", "input")] {
                    if let Some(piece) = event["delta"][piece].as_str() {
                        block[field] = (block[field].as_str().unwrap().to_owned() + piece).into();
                    }
                }
            }
            Some("content_block_stop") => {
                let block = blocks.last_mut().unwrap();
                if let Some(input) = block["input"].as_str() {
                    block["input"] = serde_json::from_str(input).unwrap();
                }
            }
            _ => {}
        }
    }
    blocks.retain(|block| block["type"] == "text" || block["type"] == "tool_use");
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    let outputs: Vec<Value> =
        calls.map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": OUTPUT})).collect();
    let outputs = if outputs.is_empty() { outputs } else { vec![json!({"role": "user", "content": outputs})] };
    (vec![json!({"role": "assistant", "content": blocks})], outputs)
}

/// As [`messages`]; items keep their ids.
fn items(events: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    let whole = events.iter().filter_map(|event| event["output"].as_array()).flatten();
    let items = done.map(|event| &event["item"]).chain(whole).filter(|item| item["type"] != "reasoning");
    let items: Vec<Value> = items.cloned().collect();
    let calls = items.iter().filter(|item| item["type"] == "function_call");
    let outputs =
        calls.map(|call| json!({"type": "function_call_output", "call_id": call["call_id"], "output": OUTPUT}));
    let outputs = outputs.collect();
    (items, outputs)
}

/// As [`messages`].
fn chat(events: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let (mut text, mut calls) = (String::new(), Vec::<Value>::new());
    for event in events {
        let choice = &event["choices"][0];
        let said = choice.get("delta").unwrap_or(&choice["message"]);
        text.push_str(said["content"].as_str().unwrap_or_default());
        for call in said["tool_calls"].as_array().into_iter().flatten() {
            let at = call["index"].as_u64().map_or(calls.len(), |at| usize::try_from(at).unwrap());
            match calls.get_mut(at) {
                Some(begun) => {
                    let pieces = [&begun["function"]["arguments"], &call["function"]["arguments"]];
                    begun["function"]["arguments"] = pieces.map(|piece| piece.as_str().unwrap()).concat().into();
                }
                None => {
                    let mut call = call.clone();
                    call.as_object_mut().unwrap().remove("index");
                    calls.push(call);
                }
            }
        }
    }
    let outputs = calls.iter().map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": OUTPUT}));
    let outputs = outputs.collect();
    let mut message = json!({"role": "assistant", "content": text});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    (vec![message], outputs)
}
