//! An agent whose client forgets all reasoning state, without the layer and with it.
//!
//! It needs no network: the providers are the strict fakes of the feature `testing`.
//!
//! ```text
//! cargo run --example demo --features testing
//! ```
//!
//! The program ends with an error if anything happens otherwise than it says. Each dialect tells a
//! chapter: a file beside this one, and a line in [`CHAPTERS`].

mod agent;
mod anthropic;
mod chat;
mod cloud_code;
mod gemini;
mod provider;
mod responses;
mod story;

use std::{future::Future, pin::Pin, process::ExitCode};

use story::{Outcome, Story};

type Chapter = for<'a> fn(&'a mut Story) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// What is told, in order.
const CHAPTERS: &[Chapter] = &[
    |story| Box::pin(gemini::tool_loop(story)),
    |story| Box::pin(gemini::complete_client(story)),
    |story| Box::pin(gemini::restart(story)),
    |story| Box::pin(gemini::changed_keys(story)),
    |story| Box::pin(gemini::no_sentinels(story)),
    |story| Box::pin(cloud_code::tool_loop(story)),
    |story| Box::pin(cloud_code::claude(story)),
    |story| Box::pin(anthropic::tool_loop(story)),
    |story| Box::pin(anthropic::interleaved(story)),
    |story| Box::pin(anthropic::changed_keys(story)),
    |story| Box::pin(anthropic::edited(story)),
    |story| Box::pin(responses::dropped_reasoning(story)),
    |story| Box::pin(responses::dropped_call(story)),
    |story| Box::pin(responses::churned_ids(story)),
    |story| Box::pin(responses::changed_keys(story)),
    |story| Box::pin(chat::deepseek(story)),
    |story| Box::pin(chat::restart(story)),
    |story| Box::pin(chat::openrouter(story)),
    |story| Box::pin(chat::gemini(story)),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut story = Story::begin();
    for chapter in CHAPTERS {
        if let Err(error) = chapter(&mut story).await {
            story.expect(false, &format!("the chapter comes to its end ({error})"));
        }
    }
    story.end()
}
