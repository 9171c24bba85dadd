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

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

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

/// What a client knows of a provider's protocol.
pub(crate) trait Wire {
    fn uri(&self) -> String;

    /// The headers of a request: a key, and what else the provider or the layer reads.
    fn headers(&self) -> Vec<(&'static str, &'static str)>;

    fn question(&self, text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    /// The body of a request with this history.
    fn body(&self, history: &[Value]) -> Value;

    /// Reads what the model said.
    fn read(&self, answer: &[u8]) -> Result<Said, BoxError>;

    /// What most clients and translators keep of the model's entries.
    fn forget(&self, entries: Vec<Value>) -> Vec<Value>;

    /// The entries that answer these calls.
    fn outputs(&self, calls: &[Call]) -> Vec<Value>;
}

/// What the model said.
#[derive(Default)]
pub(crate) struct Said {
    /// The entries of the history, as the provider wants them back.
    pub(crate) entries: Vec<Value>,
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    /// The error with which an answer ended that had begun well.
    pub(crate) failed: Option<String>,
}

pub(crate) struct Call {
    /// Null if there is none.
    pub(crate) id: Value,
    pub(crate) name: String,
    /// As JSON.
    pub(crate) arguments: String,
}

impl Call {
    pub(crate) fn new(id: &Value, name: &Value, arguments: String) -> Self {
        Self { id: id.clone(), name: name.as_str().unwrap_or("?").to_owned(), arguments }
    }
}

impl Said {
    /// What a person would say that the model said.
    fn told(&self) -> String {
        let text = (!self.text.is_empty()).then(|| format!("{:?}", self.text));
        let calls = self.calls.iter().map(|call| format!("the model calls {}({})", call.name, call.arguments));
        let failed = self.failed.iter().map(|why| format!("and then an error: {why}"));
        text.into_iter().chain(calls).chain(failed).collect::<Vec<_>>().join("\n")
    }
}

/// The JSON of the events of a stream, or the one document that an answer is.
pub(crate) fn events(answer: &[u8]) -> Result<Vec<Value>, BoxError> {
    let text = std::str::from_utf8(answer)?;
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let data = if data.is_empty() { vec![text] } else { data };
    let data = data.into_iter().filter(|data| *data != "[DONE]");
    Ok(data.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

pub(crate) struct Agent<W> {
    client: Client,
    pub(crate) wire: W,
    /// Whether this client keeps what the provider sent, as the documentation asks for.
    keeps_state: bool,
    pub(crate) history: Vec<Value>,
}

impl<W: Wire> Agent<W> {
    pub(crate) fn new(client: Client, wire: W) -> Self {
        let history = vec![wire.question("How is the weather in Paris and Tokyo?")];
        Self { client, wire, keeps_state: false, history }
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

    /// What the next request says.
    pub(crate) fn body(&self) -> String {
        self.wire.body(&self.history).to_string()
    }

    /// Sends the history as the client has it. If the provider answers, the history grows by what it
    /// said, and by the outputs of the tools that it called.
    pub(crate) async fn step(&mut self, story: &Story) -> Result<Step, BoxError> {
        let request = Request::post(self.wire.uri()).header("content-type", "application/json");
        let headers = self.wire.headers().into_iter();
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        let answer = self.client.clone().oneshot(request.body(Full::from(self.body()))?).await?;
        let entries = self.history.len();
        let status = answer.status;
        if !status.is_success() {
            story.exchange(entries, status, &shortened(&refusal(&answer.body)), answer.report);
            return Ok(Step { answer, calls: 0, failed: true });
        }
        let mut said = self.wire.read(&answer.body)?;
        story.exchange(entries, status, &said.told(), answer.report);
        let (calls, failed) = (said.calls.len(), said.failed.is_some());
        if !failed {
            let entries = std::mem::take(&mut said.entries);
            self.history.extend(if self.keeps_state { entries } else { self.wire.forget(entries) });
            self.history.extend(self.wire.outputs(&said.calls));
        }
        Ok(Step { answer, calls, failed })
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

/// What every tool has to say.
pub(crate) const OUTPUT: &str = "24 °C, light rain";

/// What came of one request.
pub(crate) struct Step {
    pub(crate) answer: Answer,
    pub(crate) calls: usize,
    failed: bool,
}

impl Step {
    /// Whether the client got an answer, and all of it.
    pub(crate) fn is_ok(&self) -> bool {
        !self.failed
    }

    /// Whether the client sees a provider's complaint with these words in it.
    pub(crate) fn is_refused_with(&self, words: &str) -> bool {
        self.answer.status == StatusCode::BAD_REQUEST && refusal(&self.answer.body).contains(words)
    }

    pub(crate) fn report(&self) -> Option<&Summary> {
        self.answer.report.as_ref()
    }

    /// How many pieces of state the layer put back into this request.
    pub(crate) fn restored(&self) -> u32 {
        self.report().map_or(0, |report| report.restored)
    }
}

/// The beginning of a message that explains at length.
fn shortened(message: &str) -> String {
    const ENOUGH: usize = 160;
    match message.char_indices().nth(ENOUGH) {
        Some((at, _)) => format!("{} …", message[..at].trim_end()),
        None => message.to_owned(),
    }
}

/// The message of an error body, in whichever wrapping it comes.
fn refusal(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &json.get(0).unwrap_or(&json)["error"];
    if let Some(raw) = error["metadata"]["raw"].as_str() {
        return refusal(raw.as_bytes());
    }
    error["message"].as_str().unwrap_or("an answer that is no error of the provider").to_owned()
}
