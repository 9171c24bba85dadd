//! Chat completions: reasoning in a member of the message, under another name for each provider.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    testing::chat::{ChatProvider, Flavour, Say, Script, Turn},
};

use crate::{
    agent::{Agent, BoxError, Call, OUTPUT, Said, Wire, events},
    provider::{self, Provider},
    story::{Outcome, Story},
};

#[derive(Clone, Copy)]
struct Chat {
    uri: &'static str,
    model: &'static str,
    stream: bool,
}

impl Chat {
    fn deepseek(stream: bool) -> Self {
        Self { uri: "https://api.deepseek.com/chat/completions", model: "deepseek-v4", stream }
    }

    fn openrouter(stream: bool) -> Self {
        Self { uri: "https://openrouter.ai/api/v1/chat/completions", model: "anthropic/claude-sonnet-4.5", stream }
    }

    fn gemini(stream: bool) -> Self {
        let uri = "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions";
        Self { uri, model: "gemini-3-pro-preview", stream }
    }
}

impl Wire for Chat {
    fn uri(&self) -> String {
        self.uri.to_owned()
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![("authorization", "Bearer demo")]
    }

    fn body(&self, history: &[Value]) -> Value {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let tool = json!({"type": "function", "function": {"name": "get_weather", "parameters": parameters}});
        json!({"model": self.model, "messages": history, "stream": self.stream, "tools": [tool]})
    }

    /// Understands text and calls, as every client does. What else a message holds is lost on it.
    fn read(&self, answer: &[u8]) -> Result<Said, BoxError> {
        let (mut text, mut calls) = (String::new(), Vec::<Call>::new());
        for event in &events(answer)? {
            let choice = &event["choices"][0];
            let said = choice.get("delta").unwrap_or(&choice["message"]);
            text.push_str(said["content"].as_str().unwrap_or_default());
            for call in said["tool_calls"].as_array().into_iter().flatten() {
                let function = &call["function"];
                let arguments = function["arguments"].as_str().unwrap_or_default();
                match calls.last_mut().filter(|_| function["name"].as_str().is_none()) {
                    Some(last) => last.arguments.push_str(arguments),
                    None => calls.push(Call::new(&call["id"], &function["name"], arguments.to_owned())),
                }
            }
        }
        let mut message = json!({"role": "assistant", "content": text});
        if !calls.is_empty() {
            let call = |call: &Call| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": call.id, "type": "function", "function": function})
            };
            message["tool_calls"] = calls.iter().map(call).collect();
        }
        Ok(Said { entries: vec![message], text, calls, failed: None })
    }

    fn forget(&self, entries: Vec<Value>) -> Vec<Value> {
        entries
    }

    fn outputs(&self, calls: &[Call]) -> Vec<Value> {
        calls.iter().map(|call| json!({"role": "tool", "tool_call_id": call.id, "content": OUTPUT})).collect()
    }
}

fn provider(flavour: Flavour) -> ChatProvider {
    let script = Script::new([
        Turn::new([Say::reasoning("Paris first."), Say::call("get_weather", json!({"city": "Paris"}))]),
        Turn::new([Say::reasoning("Now Tokyo."), Say::call("get_weather", json!({"city": "Tokyo"}))]),
        Turn::new([Say::text("Light rain in both.")]),
    ]);
    ChatProvider::builder().flavour(flavour).script(script).build()
}

const MISSING: &str = "The `reasoning_content` in the thinking mode must be passed back to the API.";

pub(crate) async fn deepseek(story: &mut Story) -> Outcome {
    story.chapter("DeepSeek with tools: reasoning_content");
    provider::tool_loop(story, || provider(Flavour::DeepSeek), Chat::deepseek, MISSING).await
}

pub(crate) async fn restart(story: &mut Story) -> Outcome {
    story.chapter("DeepSeek, after the gateway was restarted in the middle of a conversation");
    let provider = provider(Flavour::DeepSeek);

    story.scene("before the restart");
    let mut agent = Agent::new(provider.behind(&story.layer()), Chat::deepseek(true));
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");

    story.scene("after it: the reasoning is gone, and nothing is made up");
    let mut agent = agent.through(provider.behind(&story.layer()));
    let step = agent.step(story).await?;
    story.expect(step.is_refused_with(MISSING), "the client sees the provider's answer");
    let sent_once = provider.requests().len() == 2;
    story.expect(sent_once, "there was nothing to send once more");

    story.scene("where the operator allows a placeholder, it stands in once the provider has refused");
    let layer = ReplayLayer::builder(MemoryStore::new()).reasoning_placeholder(true).build_layer()?;
    let layer = story.watched(layer);
    let mut agent = agent.through(provider.behind(&layer));
    let step = agent.step(story).await?;
    let report = step.report();
    story.expect(report.is_some_and(|report| report.healed && report.sentinels == 1), "one placeholder healed it");
    let requests = provider.requests();
    let has_reasoning = |body: &[u8]| contains(body, b"reasoning_content");
    let seen: Vec<bool> = requests.iter().rev().take(2).map(|request| has_reasoning(&request.body)).collect();
    story.show(seen == [true, false], "the first attempt was sent as it came");
    let last = agent.run(story).await?;
    story.expect(last.is_ok(), "the agent gets its answer");
    Ok(())
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window == word)
}

pub(crate) async fn openrouter(story: &mut Story) -> Outcome {
    story.chapter("Claude through OpenRouter: reasoning_details");
    provider::tool_loop(story, || provider(Flavour::OpenRouter), Chat::openrouter, "but found `tool_use`").await
}

pub(crate) async fn gemini(story: &mut Story) -> Outcome {
    story.chapter("Gemini's endpoint for chat completions: a signature on the call");
    provider::tool_loop(story, || provider(Flavour::Gemini), Chat::gemini, "missing a thought_signature").await
}
