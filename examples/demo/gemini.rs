//! The Gemini API: a signature on the first call of each step, or no answer.

use tower::Layer;
use tower_reasoning_replay::{
    engine::Event,
    testing::gemini::{GeminiProvider, Sentinels},
};

use crate::{
    agent::{Agent, Endpoint, client},
    story::{Outcome, Story},
};

const MISSING: &str = "missing a thought_signature";

pub(crate) async fn tool_loop(story: &mut Story) -> Outcome {
    for stream in [true, false] {
        let endpoint = Endpoint::Gemini { stream };
        story.chapter(if stream { "Gemini, streamed" } else { "Gemini, not streamed" });

        story.scene("without the layer");
        let mut agent = Agent::new(client(GeminiProvider::new()), endpoint);
        let last = agent.run(story).await?;
        story.expect(last.is_refused_with(MISSING), "the provider says that a signature is missing");

        story.scene("with the layer");
        let provider = GeminiProvider::new();
        let mut agent = Agent::new(client(story.layer().layer(provider.clone())), endpoint);
        let last = agent.run(story).await?;
        story.expect(last.is_ok(), "the agent gets its answer");
        story.expect(last.report().is_some_and(|report| report.restored == 2), "each step has its signature back");
        story.show(provider.refused() == 0, "the provider refused nothing");
    }
    Ok(())
}

pub(crate) async fn complete_client(story: &mut Story) -> Outcome {
    story.chapter("Gemini, with a client that keeps everything");
    let endpoint = Endpoint::Gemini { stream: true };
    story.scene("with the layer");
    let provider = GeminiProvider::new();
    let mut agent = Agent::new(client(story.layer().layer(provider.clone())), endpoint).keeping_state();
    let mut sent = Vec::new();
    loop {
        sent.push(endpoint.body(&agent.contents).into_bytes());
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
    let endpoint = Endpoint::Gemini { stream: true };

    story.scene("before the restart");
    let mut agent = Agent::new(client(story.layer().layer(provider.clone())), endpoint);
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");

    story.scene("after it: the memory is empty, so the provider refuses, and a sentinel stands in");
    let mut agent = agent.through(client(story.layer().layer(provider.clone())));
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
    let mut agent = Agent::new(client(layer.layer(provider.clone())), Endpoint::Gemini { stream: false });
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");
    provider.revoke_signatures();
    println!("     .. the provider changes its keys");
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
    let endpoint = Endpoint::Gemini { stream: true };

    story.scene("before a restart");
    let mut agent = Agent::new(client(story.layer().layer(provider.clone())), endpoint);
    let step = agent.step(story).await?;
    story.expect(step.calls == 1, "the model calls a tool");

    story.scene("after it, with a model that takes no sentinel");
    let mut agent = agent.through(client(story.layer().layer(provider.clone())));
    let with = agent.step(story).await?;
    story.expect(with.is_refused_with(MISSING), "the client sees the provider's first answer");

    story.scene("the same request without the layer");
    let mut agent = agent.through(client(provider));
    let without = agent.step(story).await?;
    story.show(with.answer.body == without.answer.body, "the layer passed on that very answer, byte for byte");
    Ok(())
}
