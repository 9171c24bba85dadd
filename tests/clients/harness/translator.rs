//! What stands between a client and the gateway, as a translator of protocols that has no place for state.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::net::TcpListener;

type Upstream = Client<HttpConnector, Full<Bytes>>;
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A running translator.
pub(super) struct Translator {
    pub(super) address: SocketAddr,
    stripped: Arc<AtomicUsize>,
}

impl Translator {
    /// Starts one before this gateway. One that is forgetful drops the state from requests; it writes a body anew only
    /// if there was some in it. One that is not passes everything on as it came.
    pub(super) async fn before(gateway: SocketAddr, forgetful: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stripped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&stripped);
        let upstream: Upstream = Client::builder(TokioExecutor::new()).build_http();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (upstream, count) = (upstream.clone(), Arc::clone(&count));
                let service = service_fn(move |request| {
                    let (upstream, count) = (upstream.clone(), Arc::clone(&count));
                    async move { pass(&upstream, gateway, forgetful, &count, request).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, stripped }
    }

    /// How many pieces of state were dropped.
    pub(super) fn stripped(&self) -> usize {
        self.stripped.load(Ordering::SeqCst)
    }
}

async fn pass(
    upstream: &Upstream,
    gateway: SocketAddr,
    forgetful: bool,
    count: &AtomicUsize,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Failed> {
    let (mut parts, body) = request.into_parts();
    let mut body = body.collect().await?.to_bytes();
    if forgetful && let Ok(mut document) = serde_json::from_slice::<Value>(&body) {
        let stripped = strip(&mut document);
        if stripped > 0 {
            count.fetch_add(stripped, Ordering::SeqCst);
            body = document.to_string().into();
        }
    }
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = format!("http://{gateway}{path}").parse::<Uri>()?;
    Ok(upstream.request(Request::from_parts(parts, Full::new(body))).await?)
}

/// Drops the state of every protocol from a request; how many pieces there were.
fn strip(document: &mut Value) -> usize {
    let mut stripped = 0;
    for (history, content) in [("contents", "parts"), ("messages", "content")] {
        let Some(history) = document.get_mut(history).and_then(Value::as_array_mut) else { continue };
        history.retain_mut(|entry| {
            let dropped = if content == "parts" { gemini(entry) } else { message_of(entry) };
            stripped += dropped;
            // What held nothing else was never said.
            let said = entry.get(content).and_then(Value::as_array);
            dropped == 0 || said.is_none_or(|said| !said.is_empty()) || entry.get("tool_calls").is_some()
        });
    }
    if let Some(input) = document.get_mut("input").and_then(Value::as_array_mut) {
        stripped += drop_where(input, |item| item["type"] == "reasoning");
    }
    stripped
}

fn list<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn drop_where(list: &mut Vec<Value>, is_dropped: impl Fn(&Value) -> bool) -> usize {
    let before = list.len();
    list.retain(|item| !is_dropped(item));
    before - list.len()
}

fn drop_fields(value: &mut Value, names: &[&str]) -> usize {
    let Some(object) = value.as_object_mut() else { return 0 };
    names.iter().filter(|name| object.remove(**name).is_some()).count()
}

/// Signatures and thoughts of a content, and parts that held nothing else.
fn gemini(content: &mut Value) -> usize {
    let mut stripped = 0;
    if let Some(parts) = content.get_mut("parts").and_then(Value::as_array_mut) {
        stripped += drop_where(parts, |part| part["thought"] == true);
        parts.retain_mut(|part| {
            let signatures = drop_fields(part, &["thoughtSignature", "thought_signature"]);
            stripped += signatures;
            let is_empty = part.as_object().is_some_and(|part| part.is_empty() || part.values().all(|text| text == ""));
            signatures == 0 || !is_empty
        });
    }
    stripped
}

/// Thinking, reasoning and signatures of a message, of Messages or of chat completions.
fn message_of(message: &mut Value) -> usize {
    const FIELDS: [&str; 8] = [
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "reasoning_text",
        "reasoning_opaque",
        "thinking_blocks",
        "extra_content",
        "provider_specific_fields",
    ];
    let mut stripped = drop_fields(message, &FIELDS);
    for call in list(message, "tool_calls") {
        stripped += drop_fields(call, &["extra_content", "provider_specific_fields"]);
    }
    if let Some(content) = message.get_mut("content").and_then(Value::as_array_mut) {
        stripped += drop_where(content, |block| block["type"] == "thinking" || block["type"] == "redacted_thinking");
    }
    stripped
}

#[test]
fn nothing_but_state_is_dropped() {
    use serde_json::json;
    let mut document = json!({
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "h", "thought": true}]},
            {"role": "model", "parts": [
                {"text": "m", "thought": true},
                {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "AAAA"},
                {"text": "", "thoughtSignature": "AAAA"},
            ]},
        ],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "thinking", "signature": "AAAA"}, {"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [{"id": "1", "extra_content": {}}]},
        ],
        "input": [{"type": "reasoning"}, {"type": "message"}],
        "reasoning": {"effort": "low"},
    });
    assert_eq!(strip(&mut document), 8);
    let rest = json!({
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
        ],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
        ],
        "input": [{"type": "message"}],
        "reasoning": {"effort": "low"},
    });
    assert_eq!(document, rest);
    assert_eq!(strip(&mut document), 0);
}
