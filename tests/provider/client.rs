//! A client that talks to the provider and picks its answers apart.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::testing::gemini::{Builder, GeminiProvider, Say, Script, Turn};

pub(crate) const API: &str = "/v1beta/models/gemini-3-pro-preview";
pub(crate) const OLD: &str = "/v1beta/models/gemini-2.5-pro";
pub(crate) const IMAGE: &str = "/v1beta/models/gemini-3-pro-image-preview";
pub(crate) const VERTEX: &str = "/v1/projects/p/locations/global/publishers/google/models/gemini-3-pro-preview";
pub(crate) const CLOUD: &str = "/v1internal";
pub(crate) const CLAUDE: &str = "claude-opus-4-5-thinking";

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

    /// The messages of a stream, without the envelope of Cloud Code.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.text();
        let events: Vec<Value> = if self.header("content-type") == "text/event-stream" {
            assert!(text.ends_with("\r\n\r\n"), "{text:?}");
            let events = text.split_terminator("\r\n\r\n");
            events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
        } else {
            match self.json() {
                Value::Array(events) => events,
                single => vec![single],
            }
        };
        events.into_iter().map(|event| event.get("response").cloned().unwrap_or(event)).collect()
    }

    /// Everything that candidate `index` says.
    pub(crate) fn parts(&self, index: u64) -> Vec<Value> {
        let events = self.events();
        let candidates = events.iter().filter_map(|event| event["candidates"].as_array()).flatten();
        candidates
            .filter(|candidate| candidate["index"] == index)
            .filter_map(|candidate| candidate["content"]["parts"].as_array().cloned())
            .flatten()
            .collect()
    }

    pub(crate) fn content(&self) -> Value {
        json!({"role": "model", "parts": self.parts(0)})
    }
}

pub(crate) async fn send(provider: &GeminiProvider, request: Request<Full<Bytes>>) -> Answer {
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

pub(crate) async fn post(provider: &GeminiProvider, path: &str, body: &Value) -> Answer {
    let request = Request::post(path).body(Full::new(Bytes::from(body.to_string()))).unwrap();
    send(provider, request).await
}

/// Asks with these contents; `path` is one of the constants, with or without a method.
pub(crate) async fn ask(provider: &GeminiProvider, path: &str, contents: &[Value]) -> Answer {
    let method = if path.contains(':') { "" } else { ":generateContent" };
    let body = if path.starts_with(CLOUD) {
        json!({"model": "gemini-3-pro-preview", "project": "p", "request": {"contents": contents}})
    } else {
        json!({ "contents": contents })
    };
    post(provider, &format!("{path}{method}"), &body).await
}

pub(crate) async fn claude(provider: &GeminiProvider, method: &str, contents: &[Value]) -> Answer {
    let body = json!({"model": CLAUDE, "request": {"contents": contents}});
    post(provider, &format!("{CLOUD}:{method}"), &body).await
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "parts": [{"text": text}]})
}

/// Answers every call of a model content.
pub(crate) fn responses(content: &Value) -> Value {
    let calls = content["parts"].as_array().unwrap().iter().filter_map(|part| part.get("functionCall"));
    let parts: Vec<Value> = calls
        .map(|call| {
            let mut response = json!({"name": call["name"], "response": {"ok": true}});
            if let Some(id) = call.get("id") {
                response["id"] = id.clone();
            }
            json!({ "functionResponse": response })
        })
        .collect();
    json!({"role": "user", "parts": parts})
}

pub(crate) fn unsigned(mut content: Value) -> Value {
    for part in content["parts"].as_array_mut().unwrap() {
        part.as_object_mut().unwrap().remove("thoughtSignature");
    }
    content
}

pub(crate) fn script(turns: impl IntoIterator<Item = Turn>) -> Builder {
    GeminiProvider::builder().script(Script::new(turns))
}

pub(crate) fn says(says: impl IntoIterator<Item = Say>) -> Builder {
    script([Turn::new(says)])
}

/// The history of a first step of the default script: question, call, response.
pub(crate) async fn first_step(provider: &GeminiProvider, path: &str) -> Vec<Value> {
    let question = user("How is the weather?");
    let answer = ask(provider, path, std::slice::from_ref(&question)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let content = answer.content();
    let back = responses(&content);
    vec![question, content, back]
}

pub(crate) fn call_part(content: &mut Value) -> &mut Value {
    let parts = content["parts"].as_array_mut().unwrap();
    parts.iter_mut().find(|part| part.get("functionCall").is_some()).unwrap()
}

#[track_caller]
pub(crate) fn accepted(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[track_caller]
pub(crate) fn refused(answer: &Answer, message: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    let body = serde_json::from_slice::<Value>(&answer.bytes()).unwrap();
    let error = if body.is_array() { &body[0]["error"] } else { &body["error"] };
    assert_eq!((&error["code"], &error["status"]), (&json!(400), &json!("INVALID_ARGUMENT")));
    let said = error["message"].as_str().unwrap();
    assert!(said.contains(message), "{said}");
}

/// The finish reason of the first candidate in each event.
pub(crate) fn reasons(answer: &Answer) -> Vec<Value> {
    answer.events().iter().map(|event| event["candidates"][0]["finishReason"].clone()).collect()
}
