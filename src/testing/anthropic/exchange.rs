//! One exchange: a request that was read becomes an answer.

use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::{
    check::{self, Context, Verdict},
    config::{Config, Refusals},
    emit::{self, Ending, Message, Pieces, Spoken},
    refusal::Refusal,
    request::{self, Asked, Mode},
    route::{Model, Route},
    vault::Vault,
};
use crate::testing::provider::{
    Answer, Fake, Incoming, Unreadable,
    json::{Node, Style},
};

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream; charset=utf-8";

/// What the provider makes of requests.
pub(super) struct Anthropic {
    config: Config,
    pub(super) vault: Vault,
}

/// What is known of a request while it is being understood.
#[derive(Default)]
struct Progress {
    stream: bool,
    genuine: usize,
}

impl Fake for Anthropic {
    fn answer(&self, incoming: &Incoming<'_>) -> Answer {
        let request_id = self.request_id(incoming);
        let mut progress = Progress::default();
        let answer = match Route::of(&incoming.parts.uri).filter(|_| incoming.parts.method == Method::POST) {
            None => self.refuse(&Refusal::not_found("Not Found"), &request_id, false),
            Some(route) => self
                .understand(incoming, &route, &mut progress)
                .unwrap_or_else(|refusal| self.refuse(&refusal, &request_id, progress.stream)),
        };
        identified(Answer { genuine: progress.genuine, ..answer }, &request_id)
    }

    fn outage(&self, status: StatusCode) -> Answer {
        let request_id = format!("req_01{}", self.vault.random.name(22));
        let (status, body) = Refusal::outage(status).answer(Refusals::Native, &request_id, self.style());
        identified(Answer::whole(status, JSON, body), &request_id)
    }
}

fn identified(mut answer: Answer, request_id: &str) -> Answer {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        answer.headers.insert("request-id", id);
    }
    answer
}

impl Anthropic {
    pub(super) fn new(config: Config) -> Self {
        let vault = Vault::new(config.seed);
        Self { config, vault }
    }

    fn style(&self) -> Style {
        Style { heavy: self.config.heavy_escapes, ..Style::COMPACT }
    }

    fn request_id(&self, incoming: &Incoming<'_>) -> String {
        let vertex = Route::of(&incoming.parts.uri).is_some_and(|route| route.vertex);
        format!("req_{}{}", if vertex { "vrtx_" } else { "01" }, self.vault.random.name(22))
    }

    fn understand(&self, incoming: &Incoming<'_>, route: &Route, progress: &mut Progress) -> Result<Answer, Refusal> {
        let body = incoming.object().map_err(|why| match why {
            Unreadable::Length { .. } => Refusal::invalid(why.to_string()),
            Unreadable::Json(why) => Refusal::invalid(format!("The request body is not valid JSON: {why}")),
        })?;
        let asked_for = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        progress.stream = route.stream.unwrap_or(asked_for);
        let name = route.model.as_deref().or_else(|| body.get("model").and_then(Value::as_str)).unwrap_or_default();
        if name.is_empty() {
            return Err(Refusal::invalid("model: Field required"));
        }
        let model = Model::of(name);
        let absent = match self.config.think_by_default.unwrap_or(model.thinks) {
            true => Mode::Adaptive,
            false => Mode::Disabled,
        };
        let betas = betas(incoming, &body);
        let asked = request::read(&body, &betas, absent, route.counting)?;
        let context = Context {
            config: &self.config,
            vault: &self.vault,
            name,
            model,
            credential: *incoming.credential(&["x-api-key", "authorization"]).finalize().as_bytes(),
            betas,
            counting: route.counting,
            vertex: route.vertex,
        };
        let (genuine, verdict) = check::check(&asked, &context);
        progress.genuine = genuine;
        let verdict = verdict?;
        let tokens = incoming.body.len() / 4 + 1;
        if route.counting {
            let count = self.style().write(&Node::Object(vec![("input_tokens", tokens.into())]));
            return Ok(Answer::whole(StatusCode::OK, JSON, count.into_bytes()));
        }
        Ok(self.speak(incoming, &body, &asked, verdict, &context, progress.stream))
    }

    /// Answers a request that passed.
    fn speak(
        &self,
        incoming: &Incoming<'_>,
        body: &Value,
        asked: &Asked,
        verdict: Verdict,
        context: &Context<'_>,
        stream: bool,
    ) -> Answer {
        let turns = asked.runs.iter().filter(|run| run.assistant).count();
        let turn = self.config.script.turn(body, turns).unwrap_or_else(|| super::script::Turn::new([]));
        let mut blocks = emit::speak(&turn, asked, &verdict, context);
        let calls = blocks.iter().any(|block| matches!(block, Spoken::ToolUse { .. }));
        let stop_reason = turn.stop_reason.unwrap_or_else(|| if calls { "tool_use" } else { "end_turn" }.to_owned());
        let message = Message {
            model: context.name,
            id: format!("msg_{}{}", if context.vertex { "vrtx_" } else { "01" }, self.vault.random.name(22)),
            stop_reason,
            input_tokens: incoming.body.len() / 4 + 1,
            dropped: verdict.dropped,
        };
        if !stream {
            return Answer::whole(StatusCode::OK, JSON, self.style().write(&message.whole(&blocks)).into_bytes());
        }
        let overloaded = Refusal::overloaded();
        let ending = match self.config.overload_after.filter(|_| incoming.faulty) {
            Some(after) => {
                blocks.truncate(after);
                Ending::Error(&overloaded)
            }
            None if incoming.end_early => Ending::Early,
            None => Ending::Complete { done_marker: self.config.done_marker },
        };
        Answer::stream(SSE, emit::stream(&message, &blocks, self.pieces(), self.style(), &ending))
    }

    fn pieces(&self) -> Pieces {
        Pieces { text: self.config.text_piece, signature: self.config.signature_piece }
    }

    /// Delivers a refusal in the form that is configured.
    fn refuse(&self, refusal: &Refusal, request_id: &str, stream: bool) -> Answer {
        let answer = match self.config.refusals {
            Refusals::StreamEvent { after } if stream => {
                let blocks: Vec<Spoken> = (0..after).map(|_| Spoken::Text("Let me see. ".to_owned())).collect();
                let message = Message {
                    model: "claude-sonnet-4-5",
                    id: format!("msg_01{}", self.vault.random.name(22)),
                    stop_reason: String::new(),
                    input_tokens: 1,
                    dropped: Vec::new(),
                };
                let ending = Ending::Error(refusal);
                Answer::stream(SSE, emit::stream(&message, &blocks, self.pieces(), self.style(), &ending))
            }
            form => {
                let (status, body) = refusal.answer(form, request_id, self.style());
                Answer::whole(status, JSON, body)
            }
        };
        Answer { refusal: Some(refusal.message.clone()), ..answer }
    }
}

/// The beta features that are asked for: in headers, or in the body as on Vertex.
fn betas(incoming: &Incoming<'_>, body: &Value) -> Vec<String> {
    let headers = incoming.parts.headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
    let body = body.get("anthropic_beta").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    headers.chain(body).flat_map(|value| value.split(',')).map(|beta| beta.trim().to_owned()).collect()
}
