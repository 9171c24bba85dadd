//! One exchange: a request that was read becomes an answer.

use http::{HeaderValue, Method as HttpMethod, StatusCode, header};
use serde_json::Value;

use super::{
    check::{self, Context, Tally},
    config::{Config, Family, Refusals, Surface},
    emit::{self, Frame},
    refusal::{Kind, Refusal},
    request,
    route::{self, Method, Route},
    vault::Vault,
};
use crate::testing::provider::{
    Answer, Fake, Incoming, Unreadable,
    json::{Node, Style},
};

const JSON: &str = "application/json; charset=UTF-8";
const SSE: &str = "text/event-stream";

/// What the provider makes of requests.
pub(super) struct Gemini {
    config: Config,
    pub(super) vault: Vault,
}

/// A request that was understood.
struct Asked<'a> {
    route: &'a Route,
    envelope: &'a Value,
    model: String,
    contents: Vec<request::Content>,
    bytes: usize,
    numeric_enums: bool,
    end_early: bool,
}

impl Fake for Gemini {
    fn answer(&self, incoming: &Incoming<'_>) -> Answer {
        let mut tally = Tally::default();
        let route = Route::of(&incoming.parts.uri).filter(|_| incoming.parts.method == HttpMethod::POST);
        let answer = match route {
            None => {
                let message = "The requested URL was not found on this server.";
                self.refuse(&Refusal::not_found(message), None, self.config.surface.unwrap_or(Surface::GeminiApi))
            }
            Some(route) => {
                let surface = self.config.surface.unwrap_or(route.surface);
                self.understand(incoming, &route, surface, &mut tally)
                    .unwrap_or_else(|refusal| self.refuse(&refusal, Some(&route), surface))
            }
        };
        varying(Answer { genuine: tally.genuine, sentinels: tally.sentinels, ..answer })
    }

    fn outage(&self, status: StatusCode) -> Answer {
        let refusal = Refusal {
            kind: Kind::Other,
            code: status.as_u16(),
            status: if status == StatusCode::TOO_MANY_REQUESTS { "RESOURCE_EXHAUSTED" } else { "UNAVAILABLE" },
            message: "The service is currently unavailable.".to_owned(),
            field: None,
        };
        let surface = self.config.surface.unwrap_or(Surface::GeminiApi);
        let (status, content_type, body) = refusal.answer(Refusals::Object, surface, self.style());
        varying(Answer::whole(status, content_type, body))
    }
}

fn varying(mut answer: Answer) -> Answer {
    answer.headers.insert(header::VARY, HeaderValue::from_static("Origin, X-Origin, Referer"));
    answer
}

impl Gemini {
    pub(super) fn new(config: Config) -> Self {
        let vault = Vault::new(config.seed);
        Self { config, vault }
    }

    fn style(&self) -> Style {
        Style { heavy: self.config.heavy_escapes, ..Style::GOOGLE }
    }

    fn understand(
        &self,
        incoming: &Incoming<'_>,
        route: &Route,
        surface: Surface,
        tally: &mut Tally,
    ) -> Result<Answer, Refusal> {
        let value = incoming.object().map_err(|why| match why {
            Unreadable::Length { .. } => Refusal::argument(why.to_string()),
            Unreadable::Json(why) => Refusal::argument(format!("Invalid JSON payload received. {why}")),
        })?;
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
            credential: credential(incoming),
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
            bytes: incoming.body.len(),
            numeric_enums: route.numeric_enums || self.config.numeric_enums,
            end_early: incoming.end_early,
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
        let turn = turn.unwrap_or_else(super::script::Turn::empty);
        let mut events = emit::events(&turn, context, stream);
        let early = asked.end_early && stream;
        if early && let Some(end) = events.iter().position(|event| event.terminal) {
            events.truncate(end);
        }
        let frame = self.frame(asked.route, &asked.model, context.family, tokens, asked.numeric_enums);
        let nodes: Vec<Node> = events.iter().map(|event| frame.node(event)).collect();
        let content_type = if method == Method::StreamSse { SSE } else { JSON };
        Answer { stream, ..Answer::stream(content_type, emit::chunks(method, &nodes, self.style(), !early)) }
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
                let content_type = if method == Method::StreamSse { SSE } else { JSON };
                Answer { stream, ..Answer::stream(content_type, emit::chunks(method, &nodes, style, true)) }
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
        Answer::stream(if sse { SSE } else { JSON }, chunks)
    }
}

/// Who asks, as a hash.
fn credential(incoming: &Incoming<'_>) -> [u8; 32] {
    let mut hasher = incoming.credential(&["x-goog-api-key", "authorization"]);
    for pair in incoming.parts.uri.query().unwrap_or_default().split('&') {
        if let Some(key) = pair.strip_prefix("key=") {
            hasher.update(b"x-goog-api-key").update(key.as_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}
