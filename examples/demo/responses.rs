//! OpenAI Responses: reasoning in items of its own, each before what it led to.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::Event,
    testing::responses::{Builder, Refusals, ResponsesProvider, Say, Script, Turn, Vendor},
};

use crate::{
    agent::{Agent, BoxError, Call, OUTPUT, Said, Wire, events},
    provider::{self, Provider},
    story::{Outcome, Story},
};

/// Which items a client keeps.
type Keeps = fn(&Value) -> bool;

fn all_but_reasoning(item: &Value) -> bool {
    item["type"] != "reasoning"
}

fn messages_only(item: &Value) -> bool {
    item["type"] == "message"
}

#[derive(Clone, Copy)]
struct Responses {
    uri: &'static str,
    /// Whether the provider is to keep the answers, and may so be referred to their ids.
    store: bool,
    stream: bool,
    keeps: Keeps,
}

impl Responses {
    fn openai(stream: bool) -> Self {
        Self { uri: "https://api.openai.com/v1/responses", store: true, stream, keeps: all_but_reasoning }
    }
}

impl Wire for Responses {
    fn uri(&self) -> String {
        self.uri.to_owned()
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![("authorization", "Bearer demo")]
    }

    fn body(&self, history: &[Value]) -> Value {
        json!({
            "model": "gpt-5.4", "input": history, "store": self.store, "stream": self.stream,
            "include": ["reasoning.encrypted_content"],
        })
    }

    fn read(&self, answer: &[u8]) -> Result<Said, BoxError> {
        let events = events(answer)?;
        let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
        let streamed = done.map(|event| &event["item"]);
        let whole = events.iter().filter(|event| event["object"] == "response");
        let whole = whole.filter_map(|response| response["output"].as_array()).flatten();
        let items: Vec<Value> = streamed.chain(whole).cloned().collect();
        let failed = events.iter().find(|event| event["type"] == "response.failed");
        let failed = failed.and_then(|event| event["response"]["error"]["message"].as_str());
        let messages = items.iter().filter(|item| item["type"] == "message");
        let texts = messages.filter_map(|item| item["content"][0]["text"].as_str());
        let calls = items.iter().filter(|item| item["type"] == "function_call");
        let arguments = |call: &Value| call["arguments"].as_str().unwrap_or_default().to_owned();
        Ok(Said {
            text: texts.collect(),
            calls: calls.map(|call| Call::new(&call["call_id"], &call["name"], arguments(call))).collect(),
            failed: failed.map(str::to_owned),
            entries: items,
        })
    }

    fn forget(&self, mut entries: Vec<Value>) -> Vec<Value> {
        entries.retain(self.keeps);
        entries
    }

    fn outputs(&self, calls: &[Call]) -> Vec<Value> {
        let output = |call: &Call| json!({"type": "function_call_output", "call_id": call.id, "output": OUTPUT});
        calls.iter().map(output).collect()
    }
}

fn builder() -> Builder {
    ResponsesProvider::builder().script(Script::new([
        Turn::new([Say::reasoning(["Paris first."]), Say::call("get_weather", json!({"city": "Paris"}))]),
        Turn::new([Say::hidden_reasoning(), Say::call("get_weather", json!({"city": "Tokyo"}))]),
        Turn::new([Say::text("Light rain in both.")]),
    ]))
}

pub(crate) async fn dropped_reasoning(story: &mut Story) -> Outcome {
    story.chapter("OpenAI Responses, with a client that drops reasoning");
    let words = "was provided without its required 'reasoning' item";
    provider::tool_loop(story, || builder().build(), Responses::openai, words).await
}

pub(crate) async fn dropped_call(story: &mut Story) -> Outcome {
    story.chapter("Responses, with a client that keeps of a call only its output");
    let wire = |stream| Responses { keeps: messages_only, ..Responses::openai(stream) };
    provider::tool_loop(story, || builder().build(), wire, "No tool call found for function call output").await
}

/// GitHub Copilot gives an item another id in each event. Nothing is refused for lack of reasoning: the model just
/// does not have it.
pub(crate) async fn churned_ids(story: &mut Story) -> Outcome {
    story.chapter("Responses, with ids that change in every event, as GitHub Copilot's do");
    let copilot = || builder().vendor(Vendor::Copilot).build();
    let wire = Responses { uri: "https://api.githubcopilot.com/responses", store: false, ..Responses::openai(true) };

    story.scene("without the layer");
    let provider = copilot();
    let last = Agent::new(provider.client(), wire).run(story).await?;
    story.expect(last.is_ok(), "nothing is refused");
    story.show(provider.genuine() == 0, "the model has none of its reasoning");

    story.scene("with the layer");
    let provider = copilot();
    let last = Agent::new(provider.behind(&story.layer()), wire).run(story).await?;
    story.expect(last.is_ok() && provider.refused() == 0, "nothing is refused");
    story.show(provider.genuine() == 2, "the model has all of it");
    Ok(())
}

pub(crate) async fn changed_keys(story: &mut Story) -> Outcome {
    story.chapter("Responses, when the provider takes its own ciphertexts no longer");
    let wire = Responses { store: false, ..Responses::openai(true) };

    story.scene("it says so with a status: the refusal is healed");
    let provider = builder().build();
    let mut agent = Agent::new(provider.behind(&story.layer()), wire);
    agent.step(story).await?;
    provider.revoke();
    story.tell("     .. the provider changes its keys");
    let step = agent.step(story).await?;
    story.expect(step.is_ok(), "the client sees an answer, not the refusal");
    story.show(step.report().is_some_and(|report| report.healed), "the client knows nothing of it");

    story.scene("it says so in a stream that began well: nothing can be taken back, but what failed is forgotten");
    let provider = builder().refusals(Refusals::ResponseFailed { after: 0 }).build();
    let layer = story.layer();
    let mut agent = Agent::new(provider.behind(&layer), wire);
    agent.step(story).await?;
    provider.revoke();
    story.tell("     .. the provider changes its keys");
    let step = agent.step(story).await?;
    story.expect(!step.is_ok() && step.restored() == 1, "the client sees the failure");
    let last = agent.run(story).await?;
    story.expect(last.is_ok(), "the client tries again, and gets its answer");
    let forgotten = layer.engine().counters().get(Event::Forgotten);
    story.show(forgotten == 1 && provider.refused() == 1, "it failed once, and then no more");
    Ok(())
}
