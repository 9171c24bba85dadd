//! Cloud Code: Gemini in an envelope, and Claude in Gemini's shape.

use tower::Layer;
use tower_reasoning_replay::testing::gemini::{GeminiProvider, Say, Script, Turn};

use crate::{
    agent::{Agent, Endpoint, client},
    story::{Outcome, Story},
};

pub(crate) async fn tool_loop(story: &mut Story) -> Outcome {
    for stream in [true, false] {
        let endpoint = Endpoint::CloudCode { model: "gemini-3-pro-preview", stream };
        story.chapter(if stream { "Cloud Code, streamed" } else { "Cloud Code, not streamed" });

        story.scene("without the layer");
        let mut agent = Agent::new(client(GeminiProvider::new()), endpoint);
        let last = agent.run(story).await?;
        story.expect(last.is_refused_with("is missing a `thought_signature`"), "a signature is missing");

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

/// Claude wants its thinking back, text and signature together; the client has dropped the whole part.
pub(crate) async fn claude(story: &mut Story) -> Outcome {
    let script = || {
        Script::new([
            Turn::new([
                Say::thought("I had better look it up."),
                Say::call("get_weather", serde_json::json!({"city": "Paris"})),
            ]),
            Turn::new([
                Say::thought("Tokyo is still to be done."),
                Say::call("get_weather", serde_json::json!({"city": "Tokyo"})),
            ]),
            Turn::new([Say::text("Light rain in both.")]),
        ])
    };
    for stream in [true, false] {
        let endpoint = Endpoint::CloudCode { model: "claude-opus-4-5-thinking", stream };
        let title = ["Claude through Cloud Code, not streamed", "Claude through Cloud Code, streamed"];
        story.chapter(title[usize::from(stream)]);

        story.scene("without the layer");
        let provider = GeminiProvider::builder().script(script()).build();
        let mut agent = Agent::new(client(provider), endpoint);
        let last = agent.run(story).await?;
        story.expect(last.is_refused_with("but found"), "Claude wants its thinking back");

        story.scene("with the layer");
        let provider = GeminiProvider::builder().script(script()).build();
        let mut agent = Agent::new(client(story.layer().layer(provider.clone())), endpoint);
        let last = agent.run(story).await?;
        story.expect(last.is_ok(), "the agent gets its answer");
        story.expect(last.report().is_some_and(|report| report.restored == 2), "both thoughts are back");
        story.show(provider.refused() == 0, "the provider refused nothing");
    }
    Ok(())
}
