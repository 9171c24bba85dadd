//! The strict fakes, and what every one of them can show.

use tower::Layer;
use tower_reasoning_replay::{
    ReplayLayer,
    testing::{anthropic::AnthropicProvider, chat::ChatProvider, gemini::GeminiProvider, responses::ResponsesProvider},
};

use crate::{
    agent::{Agent, Client, Wire, client},
    story::{Outcome, Story},
};

/// A strict fake in this process.
pub(crate) trait Provider: Clone {
    /// A client that talks to it.
    fn client(&self) -> Client;

    /// A client that talks to it through the layer.
    fn behind(&self, layer: &ReplayLayer) -> Client;

    fn refused(&self) -> usize;

    /// How many pieces of state the last request brought as they had been issued.
    fn genuine(&self) -> usize;
}

macro_rules! providers {
    ($($provider:ty),*) => {$(
        impl Provider for $provider {
            fn client(&self) -> Client {
                client(self.clone())
            }

            fn behind(&self, layer: &ReplayLayer) -> Client {
                client(layer.layer(self.clone()))
            }

            fn refused(&self) -> usize {
                <$provider>::refused(self)
            }

            fn genuine(&self) -> usize {
                self.requests().last().map_or(0, |request| request.genuine)
            }
        }
    )*};
}

providers!(GeminiProvider, AnthropicProvider, ResponsesProvider, ChatProvider);

/// A tool loop with a client that forgets. Without the layer the provider refuses with these words; with it the
/// agent gets its answer.
pub(crate) async fn tool_loop<P: Provider, W: Wire>(
    story: &mut Story,
    provider: impl Fn() -> P,
    wire: impl Fn(bool) -> W,
    words: &str,
) -> Outcome {
    for stream in [true, false] {
        if !stream {
            story.silently();
        }
        story.scene("without the layer");
        let mut agent = Agent::new(provider().client(), wire(stream));
        let last = agent.run(story).await?;
        story.expect(last.is_refused_with(words), "the provider says what is missing");

        story.scene("with the layer");
        let provider = provider();
        let mut agent = Agent::new(provider.behind(&story.layer()), wire(stream));
        let last = agent.run(story).await?;
        story.expect(last.is_ok(), "the agent gets its answer");
        story.expect(last.restored() == 2, "each step has its state back");
        story.expect(provider.genuine() == 2, "it is the state that was issued");
        story.show(provider.refused() == 0, "the provider refused nothing");
    }
    story.so_too("without streaming");
    Ok(())
}
