//! An agent with a client that has no field for reasoning state.

use std::error::Error;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use tower_reasoning_replay::{Report, engine::Summary};

use crate::story::Story;

type BoxError = Box<dyn Error + Send + Sync>;

/// What the client got.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// What the layer did, as far as there is one. It is taken when the body has ended.
    pub(crate) report: Option<Summary>,
}

/// An HTTP client: the provider itself, or the layer around it.
pub(crate) type Client = BoxCloneSyncService<Request<Full<Bytes>>, Answer, BoxError>;

/// Makes a [`Client`] of any HTTP client service.
pub(crate) fn client<S, R>(service: S) -> Client
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<R>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service.map_err(Into::into).and_then(async |response: http::Response<R>| {
        let report = response.extensions().get::<Report>().cloned();
        let status = response.status();
        let body = response.into_body().collect().await.map_err(Into::into)?.to_bytes();
        Ok(Answer { status, body, report: report.map(|report| report.summary()) })
    }))
}

/// Where the agent sends its requests.
#[derive(Clone, Copy)]
pub(crate) enum Endpoint {
    /// The Gemini API, with the model in the path. The client names no session.
    Gemini { stream: bool },
    /// Cloud Code, with the model and the session in the body.
    CloudCode { model: &'static str, stream: bool },
}

impl Endpoint {
    fn stream(self) -> bool {
        match self {
            Self::Gemini { stream } | Self::CloudCode { stream, .. } => stream,
        }
    }

    fn uri(self) -> String {
        let verb = if self.stream() { "streamGenerateContent?alt=sse" } else { "generateContent" };
        match self {
            Self::Gemini { .. } => {
                format!("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:{verb}")
            }
            Self::CloudCode { .. } => format!("https://cloudcode-pa.googleapis.com/v1internal:{verb}"),
        }
    }

    /// The body of a request with this history.
    pub(crate) fn body(self, contents: &[Value]) -> String {
        let body = match self {
            Self::Gemini { .. } => json!({ "contents": contents }),
            Self::CloudCode { model, .. } => json!({
                "model": model,
                "project": "demo",
                "request": {"contents": contents, "session_id": "2f6c8a1e-demo"},
            }),
        };
        body.to_string()
    }

    /// The parts that the model said, as the provider wrote them.
    pub(crate) fn parts(self, body: &[u8]) -> Result<Vec<Value>, BoxError> {
        let body = std::str::from_utf8(body)?;
        let events: Vec<Value> = if self.stream() {
            let events = body.split_terminator("\r\n\r\n").filter_map(|event| event.strip_prefix("data: "));
            events.map(serde_json::from_str).collect::<Result<_, _>>()?
        } else {
            vec![serde_json::from_str(body)?]
        };
        let events = events.iter().map(|event| event.get("response").unwrap_or(event));
        let parts = events.filter_map(|event| event["candidates"][0]["content"]["parts"].as_array());
        Ok(parts.flatten().cloned().collect())
    }
}

pub(crate) struct Agent {
    client: Client,
    endpoint: Endpoint,
    /// Whether this client keeps what the provider sent, as the documentation asks for.
    keeps_state: bool,
    pub(crate) contents: Vec<Value>,
}

impl Agent {
    pub(crate) fn new(client: Client, endpoint: Endpoint) -> Self {
        let question = json!({"role": "user", "parts": [{"text": "How is the weather in Paris and Tokyo?"}]});
        Self { client, endpoint, keeps_state: false, contents: vec![question] }
    }

    pub(crate) fn keeping_state(mut self) -> Self {
        self.keeps_state = true;
        self
    }

    /// Goes on with the same history through another client.
    pub(crate) fn through(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Sends the history as the client has it. If the provider answers, the history grows by what it
    /// said, and by the outputs of the tools that it called.
    pub(crate) async fn step(&mut self, story: &Story) -> Result<Step, BoxError> {
        let body = Full::new(Bytes::from(self.endpoint.body(&self.contents)));
        let request = Request::post(self.endpoint.uri());
        let request = request.header("content-type", "application/json").header("x-goog-api-key", "demo").body(body)?;
        let answer = self.client.clone().oneshot(request).await?;
        let messages = self.contents.len();
        let status = answer.status;
        if !status.is_success() {
            story.exchange(messages, status, &refusal(&answer.body), answer.report);
            return Ok(Step { answer, calls: 0 });
        }
        let parts = self.endpoint.parts(&answer.body)?;
        let parts = if self.keeps_state { parts } else { forget(parts) };
        let calls: Vec<&Value> = parts.iter().filter_map(|part| part.get("functionCall")).collect();
        story.exchange(messages, status, &said(&parts), answer.report);
        let outputs: Vec<Value> = calls.iter().map(|call| run_tool(call)).collect();
        let calls = calls.len();
        self.contents.push(json!({"role": "model", "parts": parts}));
        if calls > 0 {
            self.contents.push(json!({"role": "user", "parts": outputs}));
        }
        Ok(Step { answer, calls })
    }

    /// Works until the model has no more calls to make, or the provider refuses.
    pub(crate) async fn run(&mut self, story: &Story) -> Result<Step, BoxError> {
        loop {
            let step = self.step(story).await?;
            if step.calls == 0 {
                return Ok(step);
            }
        }
    }
}

/// What came of one request.
pub(crate) struct Step {
    pub(crate) answer: Answer,
    pub(crate) calls: usize,
}

impl Step {
    pub(crate) fn is_ok(&self) -> bool {
        self.answer.status.is_success()
    }

    /// Whether the client sees a provider's complaint with these words in it.
    pub(crate) fn is_refused_with(&self, words: &str) -> bool {
        self.answer.status == StatusCode::BAD_REQUEST && refusal(&self.answer.body).contains(words)
    }

    pub(crate) fn report(&self) -> Option<&Summary> {
        self.answer.report.as_ref()
    }
}

/// What most clients and translators keep: text in one piece, calls, and no thoughts or signatures.
fn forget(parts: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for mut part in parts.into_iter().filter(|part| part["thought"] != true) {
        if let Some(fields) = part.as_object_mut() {
            fields.remove("thoughtSignature");
        }
        match (part["text"].as_str(), kept.last_mut().and_then(|last| last.get_mut("text"))) {
            (Some(""), _) => {}
            (Some(text), Some(Value::String(last))) => last.push_str(text),
            _ => kept.push(part),
        }
    }
    kept
}

fn run_tool(call: &Value) -> Value {
    let mut output = json!({"name": call["name"], "response": {"result": "24 °C, light rain"}});
    if let Some(id) = call.get("id") {
        output["id"] = id.clone();
    }
    json!({ "functionResponse": output })
}

/// What a person would say that the model said.
fn said(parts: &[Value]) -> String {
    let text: String =
        parts.iter().filter(|part| part["thought"] != true).filter_map(|part| part["text"].as_str()).collect();
    let calls = parts.iter().filter_map(|part| part.get("functionCall"));
    let calls = calls.map(|call| format!("the model calls {}({})", call["name"].as_str().unwrap_or("?"), call["args"]));
    let text = (!text.is_empty()).then(|| format!("{text:?}"));
    text.into_iter().chain(calls).collect::<Vec<_>>().join("\n")
}

/// The message of an error body, in whichever wrapping it comes.
fn refusal(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = json.get(0).unwrap_or(&json);
    error["error"]["message"].as_str().unwrap_or("an answer that is no error of the provider").to_owned()
}
