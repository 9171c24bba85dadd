//! A short conversation with Gemini, written out.

use bytes::Bytes;
use http::{Request, request::Builder};
use serde_json::{Value, json};

use super::body::{Scripted, Step};

pub const GENERATE: &str =
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:generateContent";
pub const STREAM: &str =
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse";
pub const ARRAY: &str =
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:streamGenerateContent";
pub const COUNT: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:countTokens";

/// The signature of the call.
pub const SIGNATURE: &str = "EjQKMgEMOdbHUZl0c29tZXRoaW5nIG9wYXF1ZQ+/==";
pub const SENTINEL: &str = "skip_thought_signature_validator";

/// The first question.
pub const QUESTION: &str = r#"{"contents":[{"role":"user","parts":[{"text":"How is the weather?"}]}]}"#;

/// The message with the result of the call, without what the client forgot.
pub const FOLLOW_UP: &str = concat!(
    r#"{"contents": [{"role":"user","parts":[{"text":"How is the weather?"}]},"#,
    r#" {"role":"model","parts":[{"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}}]}, "#,
    r#"{"role":"user","parts":[{"functionResponse":{"name":"look","id":"okz0loqw","response":{"sky":"grey"}}}]}]}"#
);

/// The same as it has to arrive.
pub fn restored() -> String {
    restored_with(SIGNATURE)
}

pub fn restored_with(signature: &str) -> String {
    let call = r#""id":"okz0loqw"}"#;
    FOLLOW_UP.replacen(call, &format!("{call},\"thoughtSignature\":\"{signature}\""), 1)
}

/// The history of the follow-up, in which the client has nothing to lose.
pub fn complete() -> String {
    restored_with("RW93bkNsaWVudFZhbHVlVGhhdElzTG9uZ0Vub3VnaA==")
}

pub fn call_part(signature: &str) -> Value {
    json!({"functionCall": {"name": "look", "args": {"city": "Paris"}, "id": "okz0loqw"}, "thoughtSignature": signature})
}

pub fn event(parts: &[Value], finish: Option<&str>) -> Value {
    candidate(0, parts, finish)
}

pub fn candidate(index: u32, parts: &[Value], finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": index});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({"candidates": [candidate], "modelVersion": "gemini-3-pro-preview"})
}

/// The call, and the end in an event of its own.
pub fn answer_events() -> Vec<Value> {
    vec![event(&[call_part(SIGNATURE)], None), event(&[json!({"text": ""})], Some("STOP"))]
}

pub fn sse(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect()
}

pub fn array(events: &[Value]) -> String {
    let events: Vec<String> = events.iter().map(Value::to_string).collect();
    format!("[{}\n]", events.join("\n,\r\n"))
}

/// The answer that holds the call, as one document.
pub fn document() -> String {
    event(&[call_part(SIGNATURE)], Some("STOP")).to_string()
}

pub fn error(status: u16, message: &str) -> String {
    json!({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}).to_string()
}

pub const MISSING: &str = "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance. Additional data, function call `default_api:look` , position 2. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details.";
pub const INVALID: &str = "Corrupted thought signature.";
pub const STRUCTURE: &str = "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.";

pub fn post(uri: &str) -> Builder {
    Request::post(uri)
        .header("content-type", "application/json")
        .header("x-goog-api-key", "a key")
        .header("x-session-id", "a session")
}

/// A request of a client that names its session.
pub fn request(uri: &str, body: impl Into<Bytes>) -> Request<Scripted> {
    post(uri).body(Scripted::new([Step::Data(body.into())])).unwrap()
}

/// A request in these frames.
pub fn request_in(uri: &str, frames: &[Bytes]) -> Request<Scripted> {
    post(uri).body(Scripted::of(frames)).unwrap()
}

/// Cuts text into frames of so many bytes.
pub fn cut(text: &str, size: usize) -> Vec<Bytes> {
    let text = Bytes::copy_from_slice(text.as_bytes());
    (0..text.len()).step_by(size).map(|at| text.slice(at..text.len().min(at + size))).collect()
}
