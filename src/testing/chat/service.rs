//! The service itself.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Method, StatusCode};

use super::{
    check::{self, Rules, Tally},
    config::{Builder, Config},
    emit::{Event, Frame},
    flavour::{Flavour, Upstream},
    refusal::{Refusal, Refusals},
    request::{self, Asked},
    vault::{Issued, Maker, Spoken, Vault},
};
use crate::testing::provider::{
    Answer, Core, Fake, Incoming, face,
    json::{Node, Style},
};

/// A strict fake of the providers of chat completions.
///
/// Clones share one provider. It is always ready.
#[derive(Clone)]
pub struct ChatProvider {
    core: Arc<Core<Chat>>,
}

face!(ChatProvider, Builder, end: "the event with the finish reason");

impl ChatProvider {
    pub(super) fn with(mut config: Config) -> Self {
        let delivery = std::mem::take(&mut config.delivery);
        Self { core: Arc::new(Core::new(Chat::new(config), delivery)) }
    }

    /// Every message of the assistant that was issued, also those whose bytes never all arrived.
    #[must_use]
    pub fn issued(&self) -> Vec<Issued> {
        self.core.fake().vault.issued()
    }

    /// How many messages of the assistant, in all requests together, brought their state back as it was issued.
    #[must_use]
    pub fn restored(&self) -> usize {
        self.core.fake().restored.load(Ordering::SeqCst)
    }

    /// How many messages of the assistant, in all requests together, brought state that is not the one with which they
    /// were issued, whether that was refused or not.
    #[must_use]
    pub fn altered(&self) -> usize {
        self.core.fake().altered.load(Ordering::SeqCst)
    }

    /// How many messages of the assistant, in all requests together, were issued with state and came back without it,
    /// whether that was refused or not.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.core.fake().missing.load(Ordering::SeqCst)
    }

    /// Makes all state issued so far unknown, as if the keys had been changed.
    pub fn revoke_state(&self) {
        self.core.fake().vault.revoke_all();
    }
}

/// What the provider makes of requests.
pub(super) struct Chat {
    config: Config,
    vault: Vault,
    restored: AtomicUsize,
    altered: AtomicUsize,
    missing: AtomicUsize,
}

/// A refusal, and as much as is known of what was asked.
struct Refused {
    refusal: Refusal,
    asked: Option<Box<Asked>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, asked: None }
    }
}

impl Fake for Chat {
    fn answer(&self, incoming: &Incoming<'_>) -> Answer {
        let mut tally = Tally::default();
        let answer =
            self.understand(incoming, &mut tally).unwrap_or_else(|refused| self.refuse(&refused, incoming.end_early));
        self.restored.fetch_add(tally.restored, Ordering::SeqCst);
        self.altered.fetch_add(tally.altered, Ordering::SeqCst);
        self.missing.fetch_add(tally.missing, Ordering::SeqCst);
        Answer { genuine: tally.restored, sentinels: tally.sentinels, ..answer }
    }

    fn outage(&self, status: StatusCode) -> Answer {
        let refusal = Refusal { status: status.as_u16(), ..Refusal::request("The service is currently unavailable.") };
        let (status, content_type, body) =
            refusal.answer(Refusals::Native, self.config.flavour, Upstream::Other, false);
        Answer::whole(status, content_type, body)
    }
}

impl Chat {
    fn new(config: Config) -> Self {
        Self {
            vault: Vault::new(config.seed),
            config,
            restored: AtomicUsize::new(0),
            altered: AtomicUsize::new(0),
            missing: AtomicUsize::new(0),
        }
    }

    fn understand(&self, incoming: &Incoming<'_>, tally: &mut Tally) -> Result<Answer, Refused> {
        let path = incoming.parts.uri.path();
        if incoming.parts.method != Method::POST || !path.ends_with("/chat/completions") {
            let message = format!("Unknown request URL: {} {path}", incoming.parts.method);
            return Err(Refusal { status: 404, ..Refusal::request(message) }.into());
        }
        let flavour = self.config.flavour;
        let body = incoming
            .object()
            .map_err(|why| Refusal::request(format!("Failed to parse the request body as JSON: {why}")))?;
        let strict = self.config.strict_fields.unwrap_or(flavour.is_strict());
        let asked = request::read(&body, flavour, strict)?;
        let upstream = self.upstream(&asked.model);
        let credential = *incoming.credential(&["authorization", "api-key", "x-api-key"]).finalize().as_bytes();
        let rules = Rules {
            flavour,
            upstream,
            demand: self.config.demand.unwrap_or(flavour.demand()),
            empty_is_missing: self.config.empty_is_missing,
            sentinel: self.config.sentinel,
            legacy_signatures: self.config.legacy_signatures,
            credential: self.config.bind_credentials.then_some(credential),
        };
        let (found, verdict) = check::check(&asked, &self.vault.valid(), &rules);
        *tally = found;
        if let Err(refusal) = verdict {
            return Err(Refused { refusal, asked: Some(Box::new(asked)) });
        }
        let turn = self.config.script.turn(&body, asked.steps).unwrap_or_else(super::script::Turn::empty);
        let maker = Maker {
            flavour,
            upstream,
            model: &asked.model,
            credential,
            thinking: asked.thinking,
            inline: asked.inline,
            unknown_fields: self.config.unknown_fields,
            legacy_signatures: self.config.legacy_signatures,
        };
        let says = turn.choices.iter();
        let again = turn.choices.last().into_iter().cycle();
        let count = asked.choices.max(turn.choices.len());
        let spoken: Vec<Arc<Spoken>> =
            says.chain(again).take(count).map(|says| self.vault.speak(says, maker)).collect();
        let padding = |length| self.vault.name(length);
        let frame = Frame {
            finish: turn.finish_reason.as_deref(),
            prompt_tokens: incoming.body.len() / 4 + 1,
            ..self.frame(&asked, &padding)
        };
        Ok(if asked.stream {
            Answer::stream(self.sse(), chunks(frame.stream(&spoken), incoming.end_early))
        } else {
            Answer::whole(StatusCode::OK, "application/json", frame.whole(&spoken))
        })
    }

    fn upstream(&self, model: &str) -> Upstream {
        self.config.upstream.unwrap_or_else(|| Upstream::of(model))
    }

    fn sse(&self) -> &'static str {
        match self.config.flavour {
            Flavour::DeepSeek | Flavour::Mistral | Flavour::Kimi => "text/event-stream; charset=utf-8",
            Flavour::Glm => "text/event-stream;charset=UTF-8",
            _ => "text/event-stream",
        }
    }

    fn frame<'a>(&'a self, asked: &'a Asked, padding: &'a dyn Fn(usize) -> String) -> Frame<'a> {
        let id = match self.config.flavour {
            Flavour::OpenRouter => format!("gen-{}", self.vault.name(20)),
            Flavour::Glm | Flavour::Mistral | Flavour::Gemini | Flavour::Vertex => self.vault.name(22),
            _ => format!("chatcmpl-{}", self.vault.name(24)),
        };
        let upstream = self.upstream(&asked.model);
        Frame { config: &self.config, asked, upstream, id, prompt_tokens: 1, finish: None, padding }
    }

    /// Delivers a refusal in the form that is configured.
    fn refuse(&self, Refused { refusal, asked }: &Refused, end_early: bool) -> Answer {
        let flavour = self.config.flavour;
        let model = asked.as_ref().map(|asked| asked.model.as_str()).unwrap_or_default();
        let upstream = self.upstream(model);
        let stream = asked.as_ref().is_some_and(|asked| asked.stream);
        let answer = match (self.config.refusals, asked) {
            (Refusals::StreamEvent { after }, Some(asked)) if stream => {
                let style = if flavour.is_google() { Style::GOOGLE } else { Style::COMPACT };
                let error = Node::Object(vec![
                    ("code", refusal.status.into()),
                    ("message", refusal.message.as_str().into()),
                    ("metadata", Node::Object(vec![("raw", style.write(&refusal.body(flavour, upstream)).into())])),
                ]);
                let padding = |length| self.vault.name(length);
                let events = self.frame(asked, &padding).broken(after, error);
                Answer::stream(self.sse(), chunks(events, end_early))
            }
            (form, _) => {
                let (status, content_type, body) = refusal.answer(form, flavour, upstream, stream);
                Answer::whole(status, content_type, body)
            }
        };
        Answer { refusal: Some(refusal.message.clone()), ..answer }
    }
}

/// The bytes of each event; without those from the first finish reason on if the stream ends early.
fn chunks(mut events: Vec<Event>, early: bool) -> Vec<Vec<u8>> {
    if early && let Some(end) = events.iter().position(|event| event.terminal) {
        events.truncate(end);
    }
    events.into_iter().map(|event| event.text.into_bytes()).collect()
}
