//! An agent whose client forgets all reasoning state, without the layer and with it.
//!
//! It needs no network: the provider is the strict fake of the feature `testing`.
//!
//! ```text
//! cargo run --example demo --features testing
//! ```
//!
//! The program ends with an error if anything happens otherwise than it says. Each dialect tells a
//! chapter: a file beside this one, and a line in [`CHAPTERS`].

mod agent;
mod cloud_code;
mod gemini;
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
