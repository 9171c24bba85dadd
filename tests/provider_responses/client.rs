//! A client that talks to the provider and picks its answers apart.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::testing::responses::{Builder, ResponsesProvider, Say, Script, Turn};

pub(crate) const PATH: &str = "/v1/responses";

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) frames: Vec<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) broken: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.frames.concat()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.frames.concat()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The events of a stream, without comments and `[DONE]`.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert!(self.header("content-type").starts_with("text/event-stream"), "{}", self.text());
        let text = self.text();
        let events = text.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
        events
            .filter_map(|event| {
                let (name, data) = match event.split_once('\n') {
                    Some((name, data)) => (name.strip_prefix("event: "), data),
                    None => (None, event),
                };
                let data = data.strip_prefix("data: ").unwrap();
                if data == "[DONE]" {
                    return None;
                }
                let value: Value = serde_json::from_str(data).unwrap();
                assert!(name.is_none_or(|name| value["type"] == name), "{event}");
                Some(value)
            })
            .collect()
    }

    pub(crate) fn types(&self) -> Vec<String> {
        self.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn of_type(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["type"] == name).collect()
    }

    /// The items of the answer, as a client collects them.
    pub(crate) fn output(&self) -> Vec<Value> {
        if self.header("content-type").starts_with("text/event-stream") {
            self.of_type("response.output_item.done").into_iter().map(|event| event["item"].clone()).collect()
        } else {
            self.json()["output"].as_array().unwrap().clone()
        }
    }
}

pub(crate) async fn send(provider: &ResponsesProvider, request: Request<Full<Bytes>>) -> Answer {
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

pub(crate) async fn post(provider: &ResponsesProvider, path: &str, body: &Value) -> Answer {
    let request = Request::post(path).body(Full::new(Bytes::from(body.to_string()))).unwrap();
    send(provider, request).await
}

/// A request with this input and whatever `more` says.
pub(crate) fn body(input: &[Value], more: &Value) -> Value {
    let mut body = json!({"model": "gpt-5", "input": input});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

pub(crate) async fn ask_with(provider: &ResponsesProvider, input: &[Value], more: Value) -> Answer {
    post(provider, PATH, &body(input, &more)).await
}

pub(crate) async fn ask(provider: &ResponsesProvider, input: &[Value]) -> Answer {
    ask_with(provider, input, json!({})).await
}

/// The same, in a request that wants nothing stored.
pub(crate) async fn ask_stateless(provider: &ResponsesProvider, input: &[Value]) -> Answer {
    ask_with(provider, input, json!({"store": false})).await
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// Answers every call among these items.
pub(crate) fn outputs(items: &[Value]) -> Vec<Value> {
    let answer = |item: &Value| {
        let kind = match item["type"].as_str().unwrap() {
            "function_call" => "function_call_output",
            "custom_tool_call" => "custom_tool_call_output",
            _ => return None,
        };
        Some(json!({"type": kind, "call_id": item["call_id"], "output": "{\"ok\":true}"}))
    };
    items.iter().filter_map(answer).collect()
}

/// The items without this field.
pub(crate) fn without(items: &[Value], field: &str) -> Vec<Value> {
    let mut items = items.to_vec();
    for item in &mut items {
        item.as_object_mut().unwrap().remove(field);
    }
    items
}

/// An item with another value in this field.
pub(crate) fn with(item: &Value, field: &str, value: Value) -> Value {
    let mut item = item.clone();
    item[field] = value;
    item
}

pub(crate) fn script(turns: impl IntoIterator<Item = Turn>) -> Builder {
    ResponsesProvider::builder().script(Script::new(turns))
}

pub(crate) fn says(says: impl IntoIterator<Item = Say>) -> Builder {
    script([Turn::new(says)])
}

/// The history of a first step of the default script: question, reasoning, call, output.
pub(crate) async fn first_step(provider: &ResponsesProvider, more: Value) -> Vec<Value> {
    let mut history = vec![user("How is the weather?")];
    let answer = ask_with(provider, &history, more).await;
    accepted(&answer);
    let items = answer.output();
    let back = outputs(&items);
    history.extend(items);
    history.extend(back);
    history
}

#[track_caller]
pub(crate) fn accepted(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(!answer.text().contains("\"error\": {"), "{}", answer.text());
}

/// Refused with this message and code; the message may be shortened at its end.
#[track_caller]
pub(crate) fn refused_as(answer: &Answer, message: &str, param: impl Into<Value>, code: impl Into<Value>) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    let error = answer.json()["error"].clone();
    let said = error["message"].as_str().unwrap();
    assert!(said.starts_with(message), "{said}");
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!((&error["param"], &error["code"]), (&param.into(), &code.into()));
}

/// Refused because of the input as a whole.
#[track_caller]
pub(crate) fn refused(answer: &Answer, message: &str) {
    refused_as(answer, message, json!("input"), Value::Null);
}
