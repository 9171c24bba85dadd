//! One exchange: a request that was read becomes an answer.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Response, StatusCode, header, request::Parts};
use serde_json::Value;

use super::{
    body::{self, ProviderBody, ProviderError},
    check::{self, Context, Tally},
    config::{Config, Family, Gzip, Refusals, Surface},
    emit::{self, Frame},
    json::{self, Node, Style},
    refusal::{Kind, Refusal},
    request,
    route::{self, Method, Route},
    service::Recorded,
    vault::Vault,
};

const JSON: &str = "application/json; charset=UTF-8";
const SSE: &str = "text/event-stream";

/// What all clones of a provider share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) vault: Vault,
    pub(super) arrived: AtomicUsize,
    pub(super) accepted: AtomicUsize,
    pub(super) refused: AtomicUsize,
    pub(super) recorded: Mutex<Vec<Recorded>>,
    pub(super) failures: Mutex<VecDeque<StatusCode>>,
}

/// An answer before it is put into frames.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    chunks: Vec<Vec<u8>>,
    stream: bool,
    tally: Tally,
    refusal: Option<String>,
}

impl Answer {
    fn whole(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, chunks: vec![body], stream: false, tally: Tally::default(), refusal: None }
    }
}

/// A request that was understood.
struct Asked<'a> {
    route: &'a Route,
    envelope: &'a Value,
    model: String,
    contents: Vec<request::Content>,
    bytes: usize,
    numeric_enums: bool,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        let vault = Vault::new(config.seed);
        Self {
            config,
            vault,
            arrived: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            recorded: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    fn style(&self) -> Style {
        Style { pretty: false, heavy: self.config.heavy_escapes }
    }

    pub(super) fn answer(&self, parts: &Parts, body: &Bytes) -> Answer {
        if let Some(status) = lock(&self.failures).pop_front() {
            let refusal = Refusal {
                kind: Kind::Other,
                code: status.as_u16(),
                status: if status == StatusCode::TOO_MANY_REQUESTS { "RESOURCE_EXHAUSTED" } else { "UNAVAILABLE" },
                message: "The service is currently unavailable.".to_owned(),
                field: None,
            };
            let surface = self.config.surface.unwrap_or(Surface::GeminiApi);
            let (status, content_type, body) = refusal.answer(Refusals::Object, surface, self.style());
            return Answer::whole(status, content_type, body);
        }
        let mut tally = Tally::default();
        let route = Route::of(&parts.uri).filter(|_| parts.method == HttpMethod::POST);
        let mut answer = match route {
            None => {
                let message = "The requested URL was not found on this server.";
                self.refuse(&Refusal::not_found(message), None, self.config.surface.unwrap_or(Surface::GeminiApi))
            }
            Some(route) => {
                let surface = self.config.surface.unwrap_or(route.surface);
                self.understand(parts, body, &route, surface, &mut tally)
                    .unwrap_or_else(|refusal| self.refuse(&refusal, Some(&route), surface))
            }
        };
        answer.tally = tally;
        let counter = if answer.refusal.is_some() { &self.refused } else { &self.accepted };
        counter.fetch_add(1, Ordering::SeqCst);
        answer
    }

    fn understand(
        &self,
        parts: &Parts,
        body: &Bytes,
        route: &Route,
        surface: Surface,
        tally: &mut Tally,
    ) -> Result<Answer, Refusal> {
        if let Some(length) = parts.headers.get(header::CONTENT_LENGTH)
            && length.as_bytes() != body.len().to_string().as_bytes()
        {
            let length = String::from_utf8_lossy(length.as_bytes());
            return Err(Refusal::argument(format!(
                "content-length is {length}, but the body has {} bytes",
                body.len()
            )));
        }
        let text = text(&parts.headers, body)?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Refusal::argument(format!("Invalid JSON payload received. {error}")))?;
        if !value.is_object() {
            return Err(Refusal::argument("Invalid JSON payload received. Unexpected token. Not an object."));
        }
        if let Some(key) = json::repeated_key(&text) {
            return Err(Refusal::argument(format!("Invalid JSON payload received. Key {key:?} is given twice.")));
        }
        if route.method == Method::Onboard {
            return Ok(Answer::whole(StatusCode::OK, JSON, b"{}\n".to_vec()));
        }
        let (mut inner, mut prefix) = (&value, "");
        if route.surface == Surface::CloudCode {
            let missing = || Refusal::field("request", "Invalid value at 'request': it is required".to_owned());
            inner = value.get("request").ok_or_else(missing)?;
            prefix = "request.";
        } else if let Some(wrapped) = value.get("generateContentRequest").filter(|_| route.method == Method::Count) {
            inner = wrapped;
            prefix = "generate_content_request.";
        }
        let named = [value.get("model"), inner.get("model")].into_iter().flatten().find_map(Value::as_str);
        let model = route.model.as_deref().or(named).unwrap_or_default();
        let model = model.strip_prefix("models/").unwrap_or(model);
        let no_model = || {
            Refusal::not_found(format!(
                "models/{model} is not found for API version {}, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods.",
                route.version
            ))
        };
        let known = route::family(model, surface);
        let family = self.config.family.or(known).ok_or_else(no_model)?;
        let rejects_ids = self.config.vertex_v1_rejects_ids && surface == Surface::Vertex && route.version == "v1";
        let contents = request::contents(inner.get("contents"), prefix, rejects_ids)?;
        let context = Context {
            config: &self.config,
            vault: &self.vault,
            surface,
            family,
            model,
            credential: credential(parts),
            counting: route.method == Method::Count,
        };
        let (found, verdict) = check::check(&contents, &context);
        *tally = found;
        verdict?;
        let asked = Asked {
            route,
            envelope: &value,
            model: model.to_owned(),
            contents,
            bytes: body.len(),
            numeric_enums: route.numeric_enums || self.config.numeric_enums,
        };
        Ok(self.speak(&asked, &context))
    }

    /// Answers a request that passed.
    fn speak(&self, asked: &Asked<'_>, context: &Context<'_>) -> Answer {
        let tokens = asked.bytes / 4 + 1;
        let method = asked.route.method;
        if method == Method::Count {
            let count = Node::Object(vec![("totalTokens", tokens.into())]);
            return Answer::whole(StatusCode::OK, JSON, emit::chunks(method, &[count], self.style(), true).concat());
        }
        let stream = method != Method::Generate;
        let turn = self.config.script.turn(asked.envelope, request::model_turns(&asked.contents));
        let mut events = emit::events(&turn, context, stream);
        let early = self.config.end_early && stream;
        if early && let Some(end) = events.iter().position(|event| event.terminal) {
            events.truncate(end);
        }
        let frame = self.frame(asked.route, &asked.model, context.family, tokens, asked.numeric_enums);
        let nodes: Vec<Node> = events.iter().map(|event| frame.node(event)).collect();
        Answer {
            content_type: if method == Method::StreamSse { SSE } else { JSON },
            chunks: emit::chunks(method, &nodes, self.style(), !early),
            stream,
            ..Answer::whole(StatusCode::OK, JSON, Vec::new())
        }
    }

    fn frame<'a>(
        &self,
        route: &Route,
        model: &'a str,
        family: Family,
        prompt_tokens: usize,
        numeric_enums: bool,
    ) -> Frame<'a> {
        let response_id = match family {
            Family::Claude => format!("msg_vrtx_{}", self.vault.name(24)),
            _ => self.vault.name(22),
        };
        let trace_id = (route.surface == Surface::CloudCode).then(|| self.vault.name(16));
        Frame { model, response_id, trace_id, prompt_tokens, numeric_enums }
    }

    /// Delivers a refusal in the form that is configured.
    fn refuse(&self, refusal: &Refusal, route: Option<&Route>, surface: Surface) -> Answer {
        let style = self.style();
        let method = route.map_or(Method::Generate, |route| route.method);
        let native = match (method, surface) {
            (Method::StreamSse, _) => Refusals::SseTyped,
            (Method::StreamArray, _) | (_, Surface::CloudCode) => Refusals::Array,
            _ => Refusals::Object,
        };
        let stream = matches!(method, Method::StreamSse | Method::StreamArray);
        let mut answer = match (self.config.refusals, route) {
            (Refusals::StreamLine { after }, Some(route)) if stream => {
                self.break_off(refusal, route, surface, after, false)
            }
            (Refusals::StreamEvent { after }, Some(route)) if stream => {
                self.break_off(refusal, route, surface, after, true)
            }
            (Refusals::FinishReason, Some(route))
                if refusal.kind == Kind::MissingSignature && method != Method::Count =>
            {
                let model = route.model.as_deref().unwrap_or("gemini-3-pro-preview");
                let frame = self.frame(route, model, Family::Gemini3, 1, false);
                let nodes = [frame.node(&emit::plain(None, Some("MISSING_THOUGHT_SIGNATURE")))];
                Answer {
                    content_type: if method == Method::StreamSse { SSE } else { JSON },
                    chunks: emit::chunks(method, &nodes, style, true),
                    stream,
                    ..Answer::whole(StatusCode::OK, JSON, Vec::new())
                }
            }
            (form, _) => {
                let form = match form {
                    Refusals::Native
                    | Refusals::StreamLine { .. }
                    | Refusals::StreamEvent { .. }
                    | Refusals::FinishReason => native,
                    form => form,
                };
                let (status, content_type, body) = refusal.answer(form, surface, style);
                Answer::whole(status, content_type, body)
            }
        };
        answer.refusal = Some(refusal.message.clone());
        answer
    }

    /// A stream that begins well and then holds the refusal.
    fn break_off(&self, refusal: &Refusal, route: &Route, surface: Surface, after: usize, event: bool) -> Answer {
        let style = self.style();
        let model = route.model.as_deref().unwrap_or("gemini-3-pro-preview");
        let frame = self.frame(route, model, Family::Gemini3, 1, false);
        let mut nodes: Vec<Node> = (0..after).map(|_| frame.node(&emit::plain(Some("Let me see. "), None))).collect();
        let envelope = refusal.envelope(surface);
        let sse = route.method == Method::StreamSse;
        let mut chunks = emit::chunks(route.method, &nodes, style, false);
        if !sse {
            nodes.push(envelope);
            chunks = emit::chunks(route.method, &nodes, style, true);
        } else if event {
            chunks.extend(emit::chunks(route.method, &[envelope], style, false));
        } else {
            chunks.push(format!("{}\r\n", style.write(&envelope)).into_bytes());
        }
        Answer {
            content_type: if sse { SSE } else { JSON },
            chunks,
            stream: true,
            ..Answer::whole(StatusCode::OK, JSON, Vec::new())
        }
    }

    pub(super) fn response(
        &self,
        parts: &Parts,
        answer: Answer,
        body: Bytes,
        faulty: bool,
    ) -> Result<Response<ProviderBody>, ProviderError> {
        lock(&self.recorded).push(Recorded {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            body,
            status: answer.status,
            genuine: answer.tally.genuine,
            sentinels: answer.tally.sentinels,
            refusal: answer.refusal,
        });
        let (compress, label) = match self.config.gzip {
            Gzip::Never => (false, false),
            Gzip::Always => (true, true),
            Gzip::Unlabelled => (true, false),
            Gzip::IfAccepted => {
                let accepted = accepts_gzip(&parts.headers);
                (accepted, accepted)
            }
        };
        let chunks = if compress {
            body::gzip(answer.chunks)
                .map_err(|error| ProviderError::because("the body could not be compressed", error.into()))?
        } else {
            answer.chunks
        };
        let body = ProviderBody::new(chunks, answer.stream, &self.config, faulty);
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(header::VARY, HeaderValue::from_static("Origin, X-Origin, Referer"));
        if label {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut words = coding.split(';').map(str::trim);
            words.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
                && !words.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
}

/// The body of the request as text, decompressed if it is gzip.
fn text(headers: &HeaderMap, body: &Bytes) -> Result<String, Refusal> {
    let mut bytes = body.to_vec();
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() == b"gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(body.as_ref())
            .read_to_end(&mut plain)
            .map_err(|_| Refusal::argument("Invalid JSON payload received. The body is no gzip."))?;
        bytes = plain;
    }
    String::from_utf8(bytes).map_err(|_| Refusal::argument("Invalid JSON payload received. The body is not UTF-8."))
}

/// Who asks, as a hash.
fn credential(parts: &Parts) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for name in ["x-goog-api-key", "authorization"] {
        for value in parts.headers.get_all(name) {
            hasher.update(name.as_bytes()).update(value.as_bytes());
        }
    }
    for pair in parts.uri.query().unwrap_or_default().split('&') {
        if let Some(key) = pair.strip_prefix("key=") {
            hasher.update(b"x-goog-api-key").update(key.as_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
