//! One exchange: a request that was read becomes an answer.

use http::{HeaderName, HeaderValue, Method as HttpMethod, StatusCode};
use serde_json::{Value, json};

use super::{
    check::{self, Context},
    config::{Config, Refusals, Vendor},
    emit::{self, Frame},
    refusal::Refusal,
    request::{self, Data},
    route::Method,
    vault::Vault,
};
use crate::testing::provider::{
    Answer, Fake, Incoming, Unreadable,
    json::{Node, Style},
};

const JSON: &str = "application/json";

/// What the provider makes of requests.
pub(super) struct Responses {
    config: Config,
    pub(super) vault: Vault,
}

impl Fake for Responses {
    fn answer(&self, incoming: &Incoming<'_>) -> Answer {
        let mut genuine = 0;
        let mut answer = match Method::of(&incoming.parts.uri).filter(|_| incoming.parts.method == HttpMethod::POST) {
            None => {
                let message = format!("Invalid URL ({} {})", incoming.parts.method, incoming.parts.uri.path());
                self.refuse(&Refusal { status: 404, ..Refusal::request(message) }, None)
            }
            Some(method) => match self.read(incoming) {
                Err(refusal) => self.refuse(&refusal, None),
                Ok(body) => self
                    .understand(incoming, method, &body, &mut genuine)
                    .unwrap_or_else(|refusal| self.refuse(&refusal, Some((&body, method)))),
            },
        };
        answer.genuine = genuine;
        self.headed(answer)
    }

    fn outage(&self, status: StatusCode) -> Answer {
        let (message, kind, code) = if status == StatusCode::TOO_MANY_REQUESTS {
            ("Rate limit reached for requests. Please try again in 1s.", "requests", Some("rate_limit_exceeded"))
        } else {
            ("The server had an error while processing your request. Sorry about that!", "server_error", None)
        };
        let body = error(message, kind, None, code);
        self.headed(Answer::whole(status, JSON, self.pretty(&body)))
    }
}

impl Responses {
    pub(super) fn new(config: Config) -> Self {
        let vault = Vault::new(config.seed);
        Self { config, vault }
    }

    fn headed(&self, mut answer: Answer) -> Answer {
        if let Ok(id) = HeaderValue::from_str(&format!("req_{}", self.vault.hex(32))) {
            answer.headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        answer
    }

    fn pretty(&self, node: &Node) -> Vec<u8> {
        let style = Style { heavy: self.config.heavy_escapes, pretty: true, spaced: true, ..Style::COMPACT };
        style.write(node).into_bytes()
    }

    fn read(&self, incoming: &Incoming<'_>) -> Result<Value, Refusal> {
        incoming.object().map_err(|why| match why {
            Unreadable::Length { .. } => Refusal::request(why.to_string()),
            Unreadable::Json(why) => Refusal::request(format!(
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. {why})"
            )),
        })
    }

    fn understand(
        &self,
        incoming: &Incoming<'_>,
        method: Method,
        body: &Value,
        genuine: &mut usize,
    ) -> Result<Answer, Refusal> {
        let model = body.get("model").and_then(Value::as_str).ok_or_else(|| Refusal::missing("model"))?;
        let stored = self.stored(body);
        let entries = request::entries(body, &self.config)?;
        let credential = credential(incoming);
        let passed = {
            let held = self.vault.held();
            let context = Context { config: &self.config, held: &held, model, credential, stored };
            check::check(body, &entries, &context, genuine)?
        };
        let frame = self.frame(body, incoming.body.len());
        let (answer, made) = match method {
            Method::CountInput => return Ok(Answer::whole(StatusCode::OK, JSON, emit::count(&frame))),
            Method::Compact => {
                let is_user = |item: &Value| item.get("role").is_some_and(|role| role == "user");
                let items = body.get("input").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let messages: Vec<String> = entries
                    .iter()
                    .zip(items)
                    .filter(|(_, item)| is_user(item))
                    .filter_map(|(entry, _)| match &entry.data {
                        Data::Message { text, .. } => Some(text.clone()),
                        _ => None,
                    })
                    .collect();
                let (document, made) = emit::compaction(&frame, &messages);
                (Answer::whole(StatusCode::OK, JSON, document), made)
            }
            Method::Create => {
                let turn = self.config.script.turn(body, passed.model_turns).unwrap_or_else(super::script::Turn::empty);
                if is_stream(body) {
                    let (events, made) = emit::stream(&frame, &turn, incoming.end_early);
                    (Answer::stream(self.sse(), events), made)
                } else {
                    let (document, made) = emit::document(&frame, &turn);
                    (Answer::whole(StatusCode::OK, JSON, document), made)
                }
            }
        };
        let (mut given, ciphertexts) = made.given(&frame, credential);
        given.previous = passed.previous;
        given.brought = passed.brought;
        given.answered = passed.answered;
        let mut held = self.vault.held();
        held.add(given, ciphertexts);
        if let Some(id) = body.get("conversation").and_then(check::conversation_id) {
            held.continue_conversation(id);
        }
        Ok(answer)
    }

    fn stored(&self, body: &Value) -> bool {
        self.config.stores && body.get("store") != Some(&Value::Bool(false))
    }

    fn frame<'a>(&'a self, body: &'a Value, bytes: usize) -> Frame<'a> {
        Frame {
            config: &self.config,
            vault: &self.vault,
            body,
            model: body.get("model").and_then(Value::as_str).unwrap_or_default(),
            stored: self.stored(body),
            input_tokens: bytes / 4 + 1,
        }
    }

    fn sse(&self) -> &'static str {
        match self.config.vendor {
            Vendor::OpenAi | Vendor::Azure | Vendor::ChatGpt | Vendor::DeepSeek => "text/event-stream; charset=utf-8",
            _ => "text/event-stream",
        }
    }

    /// Delivers a refusal in the form that is configured.
    fn refuse(&self, refusal: &Refusal, asked: Option<(&Value, Method)>) -> Answer {
        let stream = asked.filter(|(body, method)| *method == Method::Create && is_stream(body));
        let status = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
        let kind = "invalid_request_error";
        let native = match self.config.vendor {
            Vendor::Xai => {
                Node::Object(vec![("code", "invalid-argument".into()), ("error", refusal.message.as_str().into())])
            }
            _ => error(&refusal.message, kind, refusal.param.as_deref(), refusal.code),
        };
        let mut answer = match (self.config.refusals, stream) {
            (Refusals::ResponseFailed { after }, Some((body, _))) => {
                Answer::stream(self.sse(), emit::refusal(&self.frame(body, 0), refusal, after, true))
            }
            (Refusals::ErrorEvent { after }, Some((body, _))) => {
                Answer::stream(self.sse(), emit::refusal(&self.frame(body, 0), refusal, after, false))
            }
            (Refusals::Relayed { status: code }, _) => {
                let body = error(&refusal.message, "upstream_error", None, None);
                Answer::whole(status(code), JSON, self.pretty(&body))
            }
            (Refusals::Nested { status: code }, _) => {
                let raw = String::from_utf8_lossy(&self.pretty(&native)).into_owned();
                let body = json!({"error": {"message": "Provider returned error", "code": code, "metadata": {"raw": raw, "provider_name": "OpenAI"}}});
                Answer::whole(status(code), JSON, Style::COMPACT.write(&body.into()).into_bytes())
            }
            (Refusals::Native | Refusals::ResponseFailed { .. } | Refusals::ErrorEvent { .. }, _) => {
                Answer::whole(status(refusal.status), JSON, self.pretty(&native))
            }
        };
        answer.refusal = Some(refusal.message.clone());
        answer
    }
}

fn is_stream(body: &Value) -> bool {
    body.get("stream") == Some(&Value::Bool(true))
}

fn error(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Node {
    let error = vec![
        ("message", message.into()),
        ("type", kind.into()),
        ("param", json!(param).into()),
        ("code", json!(code).into()),
    ];
    Node::Object(vec![("error", Node::Object(error))])
}

/// Who asks, as a hash.
fn credential(incoming: &Incoming<'_>) -> [u8; 32] {
    let account = ["chatgpt-account-id", "openai-organization"]
        .into_iter()
        .find(|name| incoming.parts.headers.contains_key(*name));
    let hasher = match account {
        Some(name) => incoming.credential(&[name]),
        None => incoming.credential(&["authorization", "api-key"]),
    };
    *hasher.finalize().as_bytes()
}
