//! Anthropic Messages: thinking in blocks of its own, which come back unchanged and in their place.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::Event,
    testing::anthropic::{AnthropicProvider, Say, Script, Turn},
};

use crate::{
    agent::{Agent, BoxError, Call, OUTPUT, Said, Wire, events},
    provider::{self, Provider},
    story::{Outcome, Story},
};

const MISSING: &str = "Expected `thinking` or `redacted_thinking`, but found";

/// The client names its session, as Claude Code does.
#[derive(Clone)]
struct Messages {
    model: &'static str,
    thinking: Value,
    stream: bool,
    counts: bool,
}

impl Messages {
    /// A model that has to be told to think, and then insists on its thoughts.
    fn manual(stream: bool) -> Self {
        let thinking = json!({"type": "enabled", "budget_tokens": 1024});
        Self { model: "claude-sonnet-4-5", thinking, stream, counts: false }
    }

    /// A model that decides for itself when to think.
    fn adaptive(model: &'static str) -> Self {
        Self { model, thinking: json!({"type": "adaptive"}), stream: true, counts: false }
    }
}

impl Wire for Messages {
    fn uri(&self) -> String {
        format!("https://api.anthropic.com/v1/messages{}", if self.counts { "/count_tokens" } else { "" })
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![("x-api-key", "demo"), ("anthropic-version", "2023-06-01"), ("x-claude-code-session-id", "2f6c8a1e")]
    }

    fn body(&self, history: &[Value]) -> Value {
        let mut body = json!({"model": self.model, "thinking": self.thinking, "messages": history});
        if !self.counts {
            body["max_tokens"] = 4096.into();
            body["stream"] = self.stream.into();
        }
        body
    }

    fn read(&self, answer: &[u8]) -> Result<Said, BoxError> {
        let blocks = match &events(answer)?[..] {
            [count] if self.counts => {
                return Ok(Said { text: format!("{} input tokens", count["input_tokens"]), ..Said::default() });
            }
            [document] if document["type"] == "message" => document["content"].as_array().cloned().unwrap_or_default(),
            events => assembled(events)?,
        };
        let texts = blocks.iter().filter_map(|block| block["text"].as_str());
        let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
        Ok(Said {
            text: texts.collect(),
            calls: calls.map(|call| Call::new(&call["id"], &call["name"], call["input"].to_string())).collect(),
            entries: vec![json!({"role": "assistant", "content": blocks})],
            failed: None,
        })
    }

    fn forget(&self, mut entries: Vec<Value>) -> Vec<Value> {
        for blocks in entries.iter_mut().filter_map(|entry| entry["content"].as_array_mut()) {
            blocks.retain(|block| block["type"] != "thinking" && block["type"] != "redacted_thinking");
        }
        entries
    }

    fn outputs(&self, calls: &[Call]) -> Vec<Value> {
        let outputs =
            calls.iter().map(|call| json!({"type": "tool_result", "tool_use_id": call.id, "content": OUTPUT}));
        let outputs: Vec<Value> = outputs.collect();
        if outputs.is_empty() { outputs } else { vec![json!({"role": "user", "content": outputs})] }
    }
}

/// The blocks of a stream.
fn assembled(events: &[Value]) -> Result<Vec<Value>, BoxError> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut input = String::new();
    for event in events {
        let last = blocks.last_mut();
        match (event["type"].as_str(), last) {
            (Some("content_block_start"), _) => blocks.push(event["content_block"].clone()),
            (Some("content_block_delta"), Some(block)) => {
                for field in ["text", "thinking", "signature"] {
                    if let (Some(piece), Some(Value::String(text))) =
                        (event["delta"][field].as_str(), block.get_mut(field))
                    {
                        text.push_str(piece);
                    }
                }
                input.push_str(event["delta"]["partial_json"].as_str().unwrap_or_default());
            }
            (Some("content_block_stop"), Some(block)) if !input.is_empty() => {
                block["input"] = serde_json::from_str(&std::mem::take(&mut input))?;
            }
            _ => {}
        }
    }
    Ok(blocks)
}

fn script() -> Script {
    Script::new([
        Turn::new([Say::thinking("Paris first."), Say::tool_use("get_weather", json!({"city": "Paris"}))]),
        Turn::new([Say::thinking("Now Tokyo."), Say::tool_use("get_weather", json!({"city": "Tokyo"}))]),
        Turn::new([Say::text("Light rain in both.")]),
    ])
}

fn provider() -> AnthropicProvider {
    AnthropicProvider::builder().script(script()).build()
}

pub(crate) async fn tool_loop(story: &mut Story) -> Outcome {
    story.chapter("Anthropic Messages");
    provider::tool_loop(story, provider, Messages::manual, MISSING).await
}

pub(crate) async fn interleaved(story: &mut Story) -> Outcome {
    story.chapter("Anthropic, with thinking between text and calls, some of it hidden or redacted");
    let script = Script::new([
        Turn::new([
            Say::thinking("Paris first."),
            Say::text("Let me look."),
            Say::hidden_thinking(),
            Say::tool_use("get_weather", json!({"city": "Paris"})),
        ]),
        Turn::new([Say::redacted(), Say::tool_use("get_weather", json!({"city": "Tokyo"}))]),
        Turn::new([Say::text("Light rain in both.")]),
    ]);
    let provider = AnthropicProvider::builder().script(script).build();
    let layer = story.layer();

    story.scene("with the layer");
    let mut agent = Agent::new(provider.behind(&layer), Messages::manual(true));
    for _ in 0..2 {
        let step = agent.step(story).await?;
        story.expect(step.calls == 1, "the model calls a tool");
    }

    story.scene("the client asks how long its history is, without the layer");
    let mut counting = Agent::new(provider.client(), Messages { counts: true, ..agent.wire.clone() });
    counting.history.clone_from(&agent.history);
    let without = counting.step(story).await?;
    story.expect(without.is_refused_with(MISSING), "the count misses its thinking too");

    story.scene("and with it");
    let learned = layer.engine().counters().get(Event::Learned);
    let mut counting = counting.through(provider.behind(&layer));
    let with = counting.step(story).await?;
    story.expect(with.is_ok(), "the count is answered");
    story.show(provider.genuine() == 3, "all three blocks were counted, as the next request will bring them");
    story.expect(layer.engine().counters().get(Event::Learned) == learned, "nothing is learned from a count");
    let last = agent.run(story).await?;
    story.expect(last.is_ok(), "the agent gets its answer");
    story.show(provider.genuine() == 3 && provider.refused() == 1, "and so it did");
    Ok(())
}

pub(crate) async fn changed_keys(story: &mut Story) -> Outcome {
    story.chapter("Anthropic, when the provider takes its own signatures no longer");
    let provider = provider();
    let layer = story.layer();
    story.scene("with the layer");
    let mut agent = Agent::new(provider.behind(&layer), Messages::adaptive("claude-sonnet-5"));
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");
    provider.revoke_signatures();
    story.tell("     .. the provider changes its keys");
    let step = agent.step(story).await?;
    story.expect(step.is_ok(), "the client sees an answer, not the refusal");
    story.expect(step.report().is_some_and(|report| report.healed), "the request was sent once more");
    let last = agent.run(story).await?;
    story.expect(last.is_ok() && last.restored() == 1, "the agent gets its answer, with the newer thought");
    let refused = layer.engine().counters().get(Event::RefusedInvalid);
    story.show(refused == 1, "the refused block was forgotten and not sent again");
    Ok(())
}

/// A model that binds its thinking to everything before it: what no longer fits is not put back.
pub(crate) async fn edited(story: &mut Story) -> Outcome {
    story.chapter("Anthropic, with a model that binds its thinking to what precedes it, and an edited history");
    let wire = Messages::adaptive("claude-opus-5-5");
    let question = "How is the weather in Paris and Oslo?";

    story.scene("without the layer: a client that keeps its thinking, and edits its question");
    let mut agent = Agent::new(provider().client(), wire.clone()).keeping_state();
    agent.step(story).await?;
    agent.history[0] = wire.question(question);
    let step = agent.step(story).await?;
    story.expect(step.is_refused_with("bound to a different conversation"), "the provider looks at what precedes");

    story.scene("with the layer: a client that forgets its thinking, and edits its question");
    let provider = provider();
    let mut agent = Agent::new(provider.behind(&story.layer()), wire.clone());
    agent.step(story).await?;
    let step = agent.step(story).await?;
    story.expect(step.restored() == 1, "as long as nothing is edited, thinking comes back");
    agent.history[0] = wire.question(question);
    let last = agent.run(story).await?;
    story.expect(last.is_ok(), "the agent gets its answer");
    story.show(last.restored() == 0, "nothing was put back behind the edit");
    story.show(provider.refused() == 0, "the provider refused nothing");
    Ok(())
}
