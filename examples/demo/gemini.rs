//! The Gemini API: a signature on the first call of each step, or no answer.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::Event,
    testing::gemini::{GeminiProvider, Sentinels},
};

use crate::{
    agent::{Agent, BoxError, Call, OUTPUT, Said, Wire, events},
    provider::{self, Provider},
    story::{Outcome, Story},
};

const MISSING: &str = "missing a thought_signature";

/// The model stands in the path. The client names no session.
#[derive(Clone, Copy)]
struct Gemini {
    stream: bool,
}

impl Wire for Gemini {
    fn uri(&self) -> String {
        let verb = if self.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        format!("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:{verb}")
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![("x-goog-api-key", "demo")]
    }

    fn question(&self, text: &str) -> Value {
        question(text)
    }

    fn body(&self, history: &[Value]) -> Value {
        json!({ "contents": history })
    }

    fn read(&self, answer: &[u8]) -> Result<Said, BoxError> {
        Ok(said(&events(answer)?))
    }

    fn forget(&self, entries: Vec<Value>) -> Vec<Value> {
        forget(entries)
    }

    fn outputs(&self, calls: &[Call]) -> Vec<Value> {
        outputs(calls)
    }
}

pub(crate) fn question(text: &str) -> Value {
    json!({"role": "user", "parts": [{"text": text}]})
}

pub(crate) fn said(events: &[Value]) -> Said {
    let parts = events.iter().filter_map(|event| event["candidates"][0]["content"]["parts"].as_array());
    let parts: Vec<Value> = parts.flatten().cloned().collect();
    let shown = parts.iter().filter(|part| part["thought"] != true);
    let calls = parts.iter().filter_map(|part| part.get("functionCall"));
    Said {
        text: shown.filter_map(|part| part["text"].as_str()).collect(),
        calls: calls.map(|call| Call::new(&call["id"], &call["name"], call["args"].to_string())).collect(),
        entries: vec![json!({"role": "model", "parts": parts})],
        failed: None,
    }
}

/// Text in one piece, calls, and no thoughts or signatures.
pub(crate) fn forget(mut entries: Vec<Value>) -> Vec<Value> {
    for parts in entries.iter_mut().filter_map(|entry| entry["parts"].as_array_mut()) {
        let mut kept: Vec<Value> = Vec::new();
        for mut part in parts.drain(..).filter(|part| part["thought"] != true) {
            if let Some(fields) = part.as_object_mut() {
                fields.remove("thoughtSignature");
            }
            match (part["text"].as_str(), kept.last_mut().and_then(|last| last.get_mut("text"))) {
                (Some(""), _) => {}
                (Some(text), Some(Value::String(last))) => last.push_str(text),
                _ => kept.push(part),
            }
        }
        *parts = kept;
    }
    entries
}

pub(crate) fn outputs(calls: &[Call]) -> Vec<Value> {
    if calls.is_empty() {
        return Vec::new();
    }
    let outputs = calls.iter().map(|call| {
        let mut output = json!({"name": call.name, "response": {"result": OUTPUT}});
        if !call.id.is_null() {
            output["id"] = call.id.clone();
        }
        json!({ "functionResponse": output })
    });
    vec![json!({"role": "user", "parts": outputs.collect::<Vec<_>>()})]
}

pub(crate) async fn tool_loop(story: &mut Story) -> Outcome {
    story.chapter("Gemini");
    provider::tool_loop(story, GeminiProvider::new, |stream| Gemini { stream }, MISSING).await
}

pub(crate) async fn complete_client(story: &mut Story) -> Outcome {
    story.chapter("Gemini, with a client that keeps everything");
    let wire = Gemini { stream: true };
    story.scene("with the layer");
    let provider = GeminiProvider::new();
    let mut agent = Agent::new(provider.behind(&story.layer()), wire).keeping_state();
    let mut sent = Vec::new();
    loop {
        sent.push(agent.body().into_bytes());
        if agent.step(story).await?.calls == 0 {
            break;
        }
    }
    let received: Vec<_> = provider.requests().into_iter().map(|request| request.body.to_vec()).collect();
    story.show(sent == received, "every request arrived as it was sent, byte for byte");
    Ok(())
}

pub(crate) async fn restart(story: &mut Story) -> Outcome {
    story.chapter("Gemini, after the gateway was restarted in the middle of a conversation");
    let provider = GeminiProvider::new();
    let wire = Gemini { stream: true };

    story.scene("before the restart");
    let mut agent = Agent::new(provider.behind(&story.layer()), wire);
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");

    story.scene("after it: the memory is empty, so the provider refuses, and a sentinel stands in");
    let mut agent = agent.through(provider.behind(&story.layer()));
    let step = agent.step(story).await?;
    let report = step.report();
    story.expect(step.is_ok(), "the client sees an answer, not the refusal");
    story.expect(report.is_some_and(|report| report.healed && report.sentinels == 1), "one sentinel healed it");
    let refused = provider.refused();
    let last = agent.run(story).await?;
    story.expect(last.is_ok(), "the agent gets its answer");
    story.show(provider.refused() == refused && refused == 1, "it was refused once, and then no more");
    Ok(())
}

pub(crate) async fn changed_keys(story: &mut Story) -> Outcome {
    story.chapter("Gemini, when the provider takes its own signatures no longer");
    let provider = GeminiProvider::new();
    story.scene("with the layer");
    let layer = story.layer();
    let mut agent = Agent::new(provider.behind(&layer), Gemini { stream: false });
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");
    provider.revoke_signatures();
    story.tell("     .. the provider changes its keys");
    let step = agent.step(story).await?;
    let report = step.report();
    story.expect(step.is_ok(), "the client sees an answer, not the refusal");
    story.expect(report.is_some_and(|report| report.healed), "the request was sent once more");
    let last = agent.run(story).await?;
    story.expect(last.is_ok(), "the agent gets its answer");
    let refused = layer.engine().counters().get(Event::RefusedInvalid);
    story.show(refused == 1, "the refused signature was forgotten and not sent again");
    Ok(())
}

pub(crate) async fn no_sentinels(story: &mut Story) -> Outcome {
    story.chapter("Gemini, when nothing can be done");
    let provider = GeminiProvider::builder().sentinels(Sentinels::none()).build();
    let wire = Gemini { stream: true };

    story.scene("before a restart");
    let mut agent = Agent::new(provider.behind(&story.layer()), wire);
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");

    story.scene("after it, with a model that takes no sentinel");
    let mut agent = agent.through(provider.behind(&story.layer()));
    let with = agent.step(story).await?;
    story.expect(with.is_refused_with(MISSING), "the client sees the provider's first answer");

    story.scene("the same request without the layer");
    let mut agent = agent.through(provider.client());
    let without = agent.step(story).await?;
    story.show(with.answer.body == without.answer.body, "the layer passed on that very answer, byte for byte");
    Ok(())
}
