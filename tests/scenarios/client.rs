//! A gateway with the layer in it, clients that forget, and what each side saw.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::{Map, Value, json};
use tower::{Layer, Service, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, ReplayService, Report, RequestBody,
    engine::{Event, Summary},
    testing::gemini::{Builder, GeminiProvider, Recorded, Script, Turn},
};

pub(crate) const API: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview";
pub(crate) const IMAGE: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-image-preview";
pub(crate) const VERTEX: &str = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/gemini-3-pro-preview";
pub(crate) const CLOUD: &str = "https://cloudcode-pa.googleapis.com/v1internal";
pub(crate) const GEMINI: &str = "gemini-3-pro-preview";
pub(crate) const CLAUDE: &str = "claude-opus-4-5-thinking";

type BoxError = Box<dyn StdError + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How an answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Whole,
    Sse,
    Array,
    Count,
}

/// Every way to ask for an answer.
pub(crate) const WAYS: [How; 3] = [How::Whole, How::Sse, How::Array];

/// Every face of the provider that serves Gemini.
pub(crate) const FACES: [&str; 3] = [API, VERTEX, CLOUD];

/// Who asks, and where.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) base: &'static str,
    pub(crate) how: How,
    pub(crate) model: &'static str,
    pub(crate) session: Option<&'static str>,
    pub(crate) key: &'static str,
    pub(crate) query: &'static str,
    /// What the request holds beside its contents.
    pub(crate) beside: Value,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

impl Client {
    pub(crate) fn new(base: &'static str, how: How) -> Self {
        let (beside, headers) = (json!({}), Vec::new());
        Self { base, how, model: GEMINI, session: Some("s1"), key: "key-1", query: "", beside, headers }
    }

    pub(crate) fn claude(how: How) -> Self {
        Self { model: CLAUDE, ..Self::new(CLOUD, how) }
    }

    pub(crate) fn how(&self, how: How) -> Self {
        Self { how, ..self.clone() }
    }

    pub(crate) fn session(&self, session: Option<&'static str>) -> Self {
        Self { session, ..self.clone() }
    }

    pub(crate) fn beside(&self, beside: Value) -> Self {
        Self { beside, ..self.clone() }
    }

    pub(crate) fn body(&self, contents: &[Value]) -> Value {
        let mut body = self.beside.as_object().cloned().unwrap_or_default();
        body.insert("contents".to_owned(), contents.into());
        match self.base {
            CLOUD => json!({"model": self.model, "project": "p", "request": body}),
            _ => body.into(),
        }
    }

    fn request(&self, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let method = match self.how {
            How::Whole => "generateContent",
            How::Sse => "streamGenerateContent?alt=sse",
            How::Array => "streamGenerateContent",
            How::Count => "countTokens",
        };
        let separator = match (self.query, self.how) {
            ("", _) => "",
            (_, How::Sse) => "&",
            _ => "?",
        };
        let mut request = Request::post(format!("{}:{method}{separator}{}", self.base, self.query))
            .header("content-type", "application/json")
            .header("x-goog-api-key", self.key);
        if let Some(session) = self.session {
            request = request.header("session-id", session);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body.into())).unwrap()
    }
}

/// An answer that a test wrote by hand.
#[derive(Clone, Debug)]
pub(crate) struct Canned(pub(crate) StatusCode, pub(crate) &'static str, pub(crate) Vec<Bytes>);

impl Canned {
    /// One SSE event for each value.
    pub(crate) fn sse(events: impl IntoIterator<Item = Value>) -> Self {
        let events = events.into_iter().map(|event| Bytes::from(format!("data: {event}\r\n\r\n")));
        Self(StatusCode::OK, "text/event-stream", events.collect())
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self(StatusCode::OK, "application/json; charset=UTF-8", vec![body.to_string().into()])
    }
}

/// The provider, or answers written by hand, and what went over the wire to it.
#[derive(Clone)]
pub(crate) struct Upstream {
    provider: GeminiProvider,
    canned: Arc<Mutex<VecDeque<Canned>>>,
    sent: Arc<Mutex<Vec<Bytes>>>,
    given: Arc<Mutex<Vec<u8>>>,
}

impl Service<Request<RequestBody<Full<Bytes>>>> for Upstream {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Full<Bytes>>>) -> Self::Future {
        let upstream = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            upstream.sent.lock().unwrap().push(body.clone());
            upstream.given.lock().unwrap().clear();
            let canned = upstream.canned.lock().unwrap().pop_front();
            let response = match canned {
                Some(Canned(status, content_type, frames)) => {
                    let body = Frames(frames.into());
                    let response = Response::builder().status(status).header("content-type", content_type);
                    response.body(body.map_err(BoxError::from).boxed_unsync())?
                }
                None => {
                    let request = Request::from_parts(head, Full::new(body));
                    upstream
                        .provider
                        .clone()
                        .oneshot(request)
                        .await?
                        .map(|body| body.map_err(BoxError::from).boxed_unsync())
                }
            };
            let given = upstream.given.clone();
            Ok(response.map(|body| {
                let body = body.map_frame(move |frame| {
                    given.lock().unwrap().extend(frame.data_ref().into_iter().flatten());
                    frame
                });
                body.boxed_unsync()
            }))
        })
    }
}

/// A body of these frames.
struct Frames(VecDeque<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}

/// A gateway whose HTTP client is wrapped in the layer.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) provider: GeminiProvider,
    pub(crate) layer: ReplayLayer,
    upstream: Upstream,
    service: ReplayService<Upstream>,
}

impl Gateway {
    pub(crate) fn new(provider: &GeminiProvider) -> Self {
        Self::with(provider, ReplayLayer::new(MemoryStore::new()))
    }

    pub(crate) fn with(provider: &GeminiProvider, layer: ReplayLayer) -> Self {
        let provider = provider.clone();
        let upstream = Upstream {
            provider: provider.clone(),
            canned: Arc::default(),
            sent: Arc::default(),
            given: Arc::default(),
        };
        let service = layer.layer(upstream.clone());
        Self { provider, layer, upstream, service }
    }

    /// A gateway to a provider that says these turns one after the other.
    pub(crate) fn says(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::new(&strict(turns).build())
    }

    /// The next request is answered with this.
    pub(crate) fn answer_next(&self, canned: Canned) {
        self.upstream.canned.lock().unwrap().push_back(canned);
    }

    pub(crate) async fn ask(&self, client: &Client, contents: &[Value]) -> Answer {
        self.ask_raw(client, client.body(contents).to_string()).await
    }

    pub(crate) async fn ask_raw(&self, client: &Client, body: impl Into<Bytes>) -> Answer {
        let before = self.upstream.sent.lock().unwrap().len();
        let response = self.service.clone().oneshot(client.request(body)).await.unwrap();
        let (head, body) = response.into_parts();
        let report = head.extensions.get::<Report>().cloned();
        let bytes = body.collect().await.unwrap().to_bytes();
        let sent = self.upstream.sent.lock().unwrap()[before..].to_vec();
        if sent.len() == 1 {
            assert_eq!(bytes, *self.upstream.given.lock().unwrap(), "the client gets what the provider sent");
        }
        Answer { status: head.status, headers: head.headers, bytes, sent, report }
    }

    /// How often something was counted.
    pub(crate) fn count(&self, event: Event) -> u64 {
        self.layer.engine().counters().get(event)
    }

    /// The last request that the provider saw.
    pub(crate) fn last(&self) -> Recorded {
        self.provider.requests().pop().unwrap()
    }

    /// Which of the issued signatures went upstream, in the order in which they stood there.
    #[track_caller]
    pub(crate) fn restored(&self, answer: &Answer) -> Vec<usize> {
        let contents = answer.upstream();
        let models = contents.iter().filter(|content| content["role"] == "model");
        let sentinel = "skip_thought_signature_validator";
        let signatures = models.flat_map(signatures).filter(|signature| signature != sentinel);
        signatures.map(|signature| self.number(&signature)).collect()
    }

    /// The number of an issued signature.
    #[track_caller]
    pub(crate) fn number(&self, signature: &str) -> usize {
        self.provider.issued().iter().position(|issued| issued.signature == signature).expect("it was issued")
    }

    /// The provider took every request, with no sentinel, and found so many of its signatures in the last one.
    #[track_caller]
    pub(crate) fn took(&self, genuine: usize) {
        let last = self.last();
        assert_eq!(last.refusal, None);
        let sentinels: usize = self.provider.requests().iter().map(|request| request.sentinels).sum();
        assert_eq!((self.provider.refused(), sentinels), (0, 0));
        assert_eq!(last.genuine, genuine, "{}", String::from_utf8_lossy(&last.body));
    }
}

/// A provider as strict as it can be, that says these turns one after the other, whatever it is asked.
pub(crate) fn strict(turns: impl IntoIterator<Item = Turn>) -> Builder {
    let turns: Mutex<VecDeque<Turn>> = Mutex::new(turns.into_iter().collect());
    let script = Script::from_fn(move |_| turns.lock().unwrap().pop_front().unwrap_or_else(|| text("Well.")));
    GeminiProvider::builder().script(script).bind_signatures(true).order_signatures(true)
}

pub(crate) fn call(name: &str, args: Value) -> Turn {
    Turn::new([tower_reasoning_replay::testing::gemini::Say::call(name, args)])
}

pub(crate) fn calls<const N: usize>(calls: [(&str, Value); N]) -> Turn {
    Turn::new([tower_reasoning_replay::testing::gemini::Say::calls(calls)])
}

pub(crate) fn text(text: &str) -> Turn {
    Turn::new([tower_reasoning_replay::testing::gemini::Say::text(text)])
}

/// What a client got, and what the provider got for it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
    /// The bodies that went upstream: one, or two if the request was sent once more.
    pub(crate) sent: Vec<Bytes>,
    pub(crate) report: Option<Report>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn summary(&self) -> Summary {
        self.report.as_ref().unwrap().summary()
    }

    fn events(&self) -> Vec<Value> {
        let events: Vec<Value> = if self.headers["content-type"] == "text/event-stream" {
            let events = self.text().split_terminator("\r\n\r\n");
            events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
        } else {
            match serde_json::from_slice(&self.bytes).unwrap() {
                Value::Array(events) => events,
                single => vec![single],
            }
        };
        events.into_iter().map(|event| event.get("response").cloned().unwrap_or(event)).collect()
    }

    /// The parts of a candidate as they came, over all events.
    pub(crate) fn parts(&self, index: u64) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        let events = self.events();
        let candidates = events.iter().filter_map(|event| event["candidates"].as_array()).flatten();
        let candidates = candidates.filter(|candidate| candidate["index"].as_u64().unwrap_or(0) == index);
        candidates.filter_map(|candidate| candidate["content"]["parts"].as_array().cloned()).flatten().collect()
    }

    /// The content as it came, every part on its own.
    pub(crate) fn whole(&self) -> Value {
        model(self.parts(0))
    }

    /// What a client keeps that knows text and calls, and nothing else.
    pub(crate) fn kept(&self) -> Value {
        forget(&self.parts(0))
    }

    /// The signatures as they came, in order.
    pub(crate) fn signatures(&self) -> Vec<String> {
        signatures(&self.whole())
    }

    /// The contents that went upstream, before any refusal.
    pub(crate) fn upstream(&self) -> Vec<Value> {
        contents(&self.sent[0])
    }

    /// The field of a part that went upstream.
    pub(crate) fn signature(&self, content: usize, part: usize) -> Value {
        self.upstream()[content]["parts"][part]["thoughtSignature"].clone()
    }
}

pub(crate) fn contents(body: &[u8]) -> Vec<Value> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let body = body.get("request").or_else(|| body.get("generateContentRequest")).unwrap_or(&body);
    body["contents"].as_array().cloned().unwrap()
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "parts": [{"text": text}]})
}

pub(crate) fn model(parts: impl IntoIterator<Item = Value>) -> Value {
    json!({"role": "model", "parts": Value::Array(parts.into_iter().collect())})
}

/// The content of a client that merges text, drops thoughts and empty parts, and knows no signatures.
pub(crate) fn forget(parts: &[Value]) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for part in parts.iter().filter(|part| part["thought"] != json!(true)) {
        let part = unsigned(part);
        match (part["text"].as_str(), kept.last_mut().and_then(|last| last.get_mut("text"))) {
            (Some(""), _) => {}
            (Some(more), Some(Value::String(text))) => text.push_str(more),
            _ => kept.push(part),
        }
    }
    model(kept)
}

/// A part, or a content, without its signatures.
pub(crate) fn unsigned(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(parts) = value.get_mut("parts").and_then(Value::as_array_mut) {
        parts.iter_mut().for_each(|part| *part = unsigned(part));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("thoughtSignature");
        fields.remove("thought_signature");
    }
    value
}

pub(crate) fn signatures(content: &Value) -> Vec<String> {
    let parts = content["parts"].as_array().unwrap().iter();
    parts.filter_map(|part| part["thoughtSignature"].as_str().map(ToOwned::to_owned)).collect()
}

/// The output of a call.
pub(crate) fn output(call: &Value, response: Value) -> Value {
    let call = call.get("functionCall").unwrap_or(call);
    let mut fields = Map::new();
    fields.insert("name".to_owned(), call["name"].clone());
    fields.insert("response".to_owned(), response);
    if let Some(id) = call.get("id") {
        fields.insert("id".to_owned(), id.clone());
    }
    json!({ "functionResponse": fields })
}

/// Answers every call of a model content.
pub(crate) fn outputs(content: &Value) -> Value {
    let calls = content["parts"].as_array().unwrap().iter().filter(|part| part.get("functionCall").is_some());
    json!({"role": "user", "parts": calls.map(|call| output(call, json!({"ok": true}))).collect::<Vec<_>>()})
}

/// A content without the ids of its calls and outputs.
pub(crate) fn without_ids(content: &Value) -> Value {
    with_ids(content, |_| None)
}

/// A content with other ids on its calls and outputs.
pub(crate) fn with_ids(content: &Value, id: impl Fn(usize) -> Option<String>) -> Value {
    let mut content = content.clone();
    let parts = content["parts"].as_array_mut().unwrap();
    let fields = parts.iter_mut().filter_map(|part| {
        let fields = part.as_object_mut().unwrap();
        let name = ["functionCall", "functionResponse"].into_iter().find(|name| fields.contains_key(*name))?;
        fields.get_mut(name)?.as_object_mut()
    });
    for (at, fields) in fields.enumerate() {
        fields.remove("id");
        if let Some(id) = id(at) {
            fields.insert("id".to_owned(), id.into());
        }
    }
    content
}
