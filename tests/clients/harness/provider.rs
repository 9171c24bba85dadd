//! The strict fakes of the providers, and what they say.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tower_reasoning_replay::testing::{
    anthropic::{self, AnthropicProvider},
    chat::{self, ChatProvider, Flavour, Recorded},
    gemini::{self, GeminiProvider},
    responses::{self, ResponsesProvider},
};

use super::{
    program::Program,
    scenario::{Scenario, Step},
};
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
            Self::OpenRouter => ["anthropic/claude-sonnet-4.5", "anthropic/claude-opus-4.5"],
        }
    }

    /// What the provider says if state is missing.
    pub(super) fn missing(self) -> &'static str {
        match self {
            Self::Gemini | Self::GeminiChat => "thought_signature",
            Self::Responses => "without its required 'reasoning' item",
            Self::DeepSeek => "must be passed back to the API",
            Self::Messages | Self::OpenRouter => "Expected `thinking` or `redacted_thinking`",
        }
    }
}

/// Where the second answer stalls if the client is to leave it: a few events have come, and many have not.
const STALL_BEFORE: usize = 5;
/// For how long; a client that leaves does so at once.
const STALL: Duration = Duration::from_millis(500);

/// So that what a refusal says is the same each time.
const SEED: u64 = 17;

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
        let builder = $builder.script($script).seed(SEED);
        if $scenario == Scenario::Abort {
            builder.stall(STALL_BEFORE, STALL).faults_only_at(1).build()
        } else {
            builder.build()
        }
    }};
}

/// What is said in one step, in the words of a protocol.
macro_rules! script {
    ($protocol:ident, $scenario:expr, $program:expr, thought: $thought:expr, calls: $calls:expr) => {{
        let (scenario, program) = ($scenario, $program);
        let turns = scenario.steps().iter().map(|step| match step {
            Step::Calls(cities) => $protocol::Turn::new([$thought, $calls(program.tool().calls(cities))]),
            Step::TalkedCalls(text, cities) => {
                $protocol::Turn::new([$thought, $protocol::Say::text(*text), $calls(program.tool().calls(cities))])
            }
            Step::Text(text) => $protocol::Turn::new([$thought, $protocol::Say::text(*text)]),
        });
        if let Program::Agent(..) = program {
            let turns: Vec<_> = turns.collect();
            $protocol::Script::from_fn(move |body| match reached(scenario, body).and_then(|step| turns.get(step)) {
                Some(turn) => turn.clone(),
                None => $protocol::Turn::new([$protocol::Say::text("The weather in some cities")]),
            })
        } else {
            $protocol::Script::new(turns)
        }
    }};
}

/// Which step an agent has reached; agents put words of their own into a history, so that turns cannot be counted.
/// `None` for a request on the side: it offers no tools.
fn reached(scenario: Scenario, body: &Value) -> Option<usize> {
    body.get("tools").and_then(Value::as_array).filter(|tools| !tools.is_empty())?;
    let (mut results, mut said) = (0, String::new());
    survey(body, &mut results, &mut said);
    let is_over = |step: &Step| match step {
        Step::Calls(cities) | Step::TalkedCalls(_, cities) => {
            let over = results >= cities.len();
            results = results.saturating_sub(cities.len());
            over
        }
        Step::Text(text) => said.contains(text),
    };
    Some(scenario.steps().iter().map(is_over).take_while(|over| *over).count())
}

/// Counts the results of calls, and joins all text.
fn survey(value: &Value, results: &mut usize, said: &mut String) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| survey(value, results, said)),
        Value::Object(members) => {
            let is = |name: &str, words: &[&str]| {
                members.get(name).and_then(Value::as_str).is_some_and(|word| words.contains(&word))
            };
            let is_result = is("type", &["tool_result", "function_call_output"])
                || is("role", &["tool"])
                || members.contains_key("functionResponse");
            *results += usize::from(is_result);
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "text" || name == "content" => said.push_str(text),
                    _ => survey(value, results, said),
                }
            }
        }
        _ => {}
    }
}

impl Provider {
    /// One that binds its state to content as strictly as it can, or only as strictly as the real one is known to.
    pub(super) fn playing(protocol: Protocol, scenario: Scenario, program: Program, bound: bool) -> Self {
        let chat = |flavour| ChatProvider::builder().flavour(flavour);
        let playing = |builder: chat::Builder| {
            let script = script!(chat, scenario, program, thought: chat::Say::reasoning(THOUGHT), calls: chat::Say::calls::<&str>);
            Self::Chat(played!(builder, scenario, script))
        };
        match protocol {
            Protocol::Gemini => {
                let script = script!(gemini, scenario, program, thought: gemini::Say::thought(THOUGHT), calls: gemini::Say::calls::<&str>);
                Self::Gemini(played!(GeminiProvider::builder().bind_signatures(bound), scenario, script))
            }
            Protocol::Messages => {
                let script = script!(
                    anthropic, scenario, program,
                    thought: anthropic::Say::thinking(THOUGHT), calls: anthropic::Say::tool_uses::<&str>
                );
                Self::Messages(played!(AnthropicProvider::builder(), scenario, script))
            }
            Protocol::Responses => {
                let script = script!(
                    responses, scenario, program,
                    thought: responses::Say::reasoning([THOUGHT]), calls: responses::Say::calls::<&str>
                );
                Self::Responses(played!(ResponsesProvider::builder(), scenario, script))
            }
            Protocol::DeepSeek => playing(chat(Flavour::DeepSeek)),
            Protocol::GeminiChat => playing(chat(Flavour::Gemini)),
            // Anthropic behind it asks for no more.
            Protocol::OpenRouter => playing(chat(Flavour::OpenRouter).demand(chat::Demand::CurrentTurn)),
        }
    }

    pub(super) async fn serve(&self) -> SocketAddr {
        of!(self, provider => serve(provider).await)
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        of!(self, provider => provider.requests())
    }
}
