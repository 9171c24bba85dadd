//! The strict fakes of the providers, and what they say.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tower_reasoning_replay::testing::{
    anthropic::{self, AnthropicProvider},
    chat::{self, ChatProvider, Flavour, Recorded},
    gemini::{self, GeminiProvider},
    responses::{self, ResponsesProvider},
};

use super::scenario::{Scenario, Step};
use crate::upstream::serve;

/// What is spoken, and with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `generateContent`.
    Gemini,
    /// Messages.
    Messages,
    /// OpenAI Responses.
    Responses,
    /// Chat completions of DeepSeek.
    DeepSeek,
    /// Chat completions of the Gemini API.
    GeminiChat,
    /// Chat completions of OpenRouter.
    OpenRouter,
}

impl Protocol {
    /// As the table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gemini => "Gemini",
            Self::Messages => "Messages",
            Self::Responses => "Responses",
            Self::DeepSeek => "chat (DeepSeek)",
            Self::GeminiChat => "chat (Gemini)",
            Self::OpenRouter => "chat (OpenRouter)",
        }
    }

    /// As the programs are told it.
    pub(super) fn dialect(self) -> &'static str {
        match self {
            Self::Gemini => "gemini",
            Self::Messages => "anthropic",
            Self::Responses => "responses",
            Self::DeepSeek | Self::GeminiChat | Self::OpenRouter => "chat",
        }
    }

    /// A model, and another.
    pub(super) fn models(self) -> [&'static str; 2] {
        match self {
            Self::Gemini | Self::GeminiChat => ["gemini-3-pro-preview", "gemini-3-flash-preview"],
            Self::Messages => ["claude-sonnet-4-5", "claude-opus-4-5"],
            Self::Responses => ["gpt-5.4", "gpt-5.4-mini"],
            Self::DeepSeek => ["deepseek-v4", "deepseek-v4-flash"],
            Self::OpenRouter => ["anthropic/claude-sonnet-4.5", "google/gemini-3-pro-preview"],
        }
    }

    /// What the provider says if state is missing.
    pub(super) fn missing(self) -> &'static str {
        match self {
            Self::Gemini | Self::GeminiChat => "thought_signature",
            Self::Messages => "Expected `thinking` or `redacted_thinking`",
            Self::Responses => "without its required 'reasoning' item",
            Self::DeepSeek => "must be passed back to the API",
            Self::OpenRouter => "reasoning",
        }
    }
}

/// Where the second answer stalls if the client is to leave it: a few events have come, and many have not.
const STALL_BEFORE: usize = 5;
/// For how long; a client that leaves does so at once.
const STALL: Duration = Duration::from_millis(500);

const THOUGHT: &str = "I should look at the weather before I say anything about it.";

/// A provider that plays one scenario.
pub(super) enum Provider {
    Gemini(GeminiProvider),
    Messages(AnthropicProvider),
    Responses(ResponsesProvider),
    Chat(ChatProvider),
}

macro_rules! of {
    ($provider:expr, $inner:ident => $what:expr) => {
        match $provider {
            Provider::Gemini($inner) => $what,
            Provider::Messages($inner) => $what,
            Provider::Responses($inner) => $what,
            Provider::Chat($inner) => $what,
        }
    };
}

/// Sets up a provider; the second answer of an abort stalls.
macro_rules! played {
    ($builder:expr, $scenario:expr, $script:expr) => {{
        let builder = $builder.script($script);
        if $scenario == Scenario::Abort {
            builder.stall(STALL_BEFORE, STALL).faults_only_at(1).build()
        } else {
            builder.build()
        }
    }};
}

/// What is said in one step, in the words of a protocol.
macro_rules! script {
    ($protocol:ident, $scenario:expr, thought: $thought:expr, calls: $calls:expr) => {
        $protocol::Script::new($scenario.steps().iter().map(|step| match step {
            Step::Calls(cities) => $protocol::Turn::new([$thought, $calls(of_cities(cities))]),
            Step::TalkedCalls(text, cities) => {
                $protocol::Turn::new([$thought, $protocol::Say::text(*text), $calls(of_cities(cities))])
            }
            Step::Text(text) => $protocol::Turn::new([$thought, $protocol::Say::text(*text)]),
        }))
    };
}

fn of_cities(cities: &[&str]) -> Vec<(&'static str, Value)> {
    cities.iter().map(|city| ("get_weather", json!({"city": city}))).collect()
}

impl Provider {
    /// One that binds its state to content as strictly as it can, or only as strictly as the real one is known to.
    pub(super) fn playing(protocol: Protocol, scenario: Scenario, bound: bool) -> Self {
        let chat = |flavour| {
            let script =
                script!(chat, scenario, thought: chat::Say::reasoning(THOUGHT), calls: chat::Say::calls::<&str>);
            Self::Chat(played!(ChatProvider::builder().flavour(flavour), scenario, script))
        };
        match protocol {
            Protocol::Gemini => {
                let script = script!(gemini, scenario, thought: gemini::Say::thought(THOUGHT), calls: gemini::Say::calls::<&str>);
                Self::Gemini(played!(GeminiProvider::builder().bind_signatures(bound), scenario, script))
            }
            Protocol::Messages => {
                let script = script!(
                    anthropic, scenario,
                    thought: anthropic::Say::thinking(THOUGHT), calls: anthropic::Say::tool_uses::<&str>
                );
                Self::Messages(played!(AnthropicProvider::builder(), scenario, script))
            }
            Protocol::Responses => {
                let script = script!(
                    responses, scenario,
                    thought: responses::Say::reasoning([THOUGHT]), calls: responses::Say::calls::<&str>
                );
                Self::Responses(played!(ResponsesProvider::builder(), scenario, script))
            }
            Protocol::DeepSeek => chat(Flavour::DeepSeek),
            Protocol::GeminiChat => chat(Flavour::Gemini),
            Protocol::OpenRouter => chat(Flavour::OpenRouter),
        }
    }

    pub(super) async fn serve(&self) -> SocketAddr {
        of!(self, provider => serve(provider).await)
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        of!(self, provider => provider.requests())
    }
}
