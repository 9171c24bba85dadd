//! Whole conversations of every client with every provider.

use std::{
    fmt::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tower_reasoning_replay::testing::chat::{Builder, ChatProvider, Flavour, Say, Script, Turn, Upstream};

use crate::agent::*;

/// Two questions with several steps each; some calls and texts are equal.
fn script() -> Script {
    let turns = [
        Turn::new([Say::reasoning("I had \"better\" look."), Say::call("look", json!({"at": "Paris", "days": 1}))]),
        Turn::new([
            Say::reasoning("Both, then."),
            Say::text("Let me see:"),
            Say::calls([("look", json!({"at": "東京"})), ("look", json!({"at": "Oslo"}))]),
        ]),
        Turn::new([Say::reasoning("So it is."), Say::text("It rains.")]),
        Turn::new([Say::reasoning("Once more."), Say::call("look", json!({"at": "Paris", "days": 1}))]),
        Turn::new([
            Say::reasoning("Two more."),
            Say::calls([("look", json!({"at": "Rome"})), ("look", json!({"at": "Rome"}))]),
        ]),
        Turn::new([Say::reasoning("As before."), Say::text("It rains.")]),
        Turn::new([Say::reasoning("Done."), Say::text("It rains everywhere.")]),
    ];
    let step = AtomicUsize::new(0);
    Script::from_fn(move |_| turns[step.fetch_add(1, Ordering::Relaxed) % turns.len()].clone())
}

fn provider(flavour: Flavour) -> Builder {
    ChatProvider::builder().flavour(flavour).script(script())
}

fn model(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::OpenRouter | Flavour::Ollama | Flavour::Vllm => "acme/next-9-preview",
        Flavour::Gemini | Flavour::Vertex => "google/gemini-3-pro-preview",
        Flavour::Mistral => "magistral-medium-2509",
        _ => "next-9-preview",
    }
}

/// Whether every message over which a step is spread has to have what the step thought.
fn repeats(flavour: Flavour) -> bool {
    !matches!(flavour, Flavour::Groq | Flavour::Cerebras | Flavour::Ollama | Flavour::Vllm | Flavour::Mistral)
}

/// Goes through the script, and tells what went wrong.
async fn converse(mut agent: Agent, flavour: Flavour, steps: usize) -> Result<Agent, String> {
    let (mut before, mut switched) = (String::new(), false);
    for step in 0..steps {
        let reply = agent.try_step().await.map_err(|error| format!("step {step}: {error}"))?;
        let (provider, wrong) = (&agent.provider, |what: &str| format!("step {step}: {what} in {}", reply.arrived));
        if provider.refused() > 0 {
            return Err(wrong("a refusal"));
        }
        if provider.altered() > 0 {
            return Err(wrong("altered state"));
        }
        if provider.missing() > 0 && (repeats(flavour) || !agent.client.splits()) {
            return Err(wrong("missing state"));
        }
        let arrived = messages(&reply.arrived);
        if !arrived.starts_with(&before) {
            return Err(wrong(&format!("a history that is not that of before, {before},")));
        }
        before = arrived;
        switched |= reply.arrived != reply.sent;
    }
    if agent.provider.restored() == 0 {
        return Err("nothing was ever restored".to_owned());
    }
    if switched != (agent.client != Client::Keeps) {
        return Err("the wrong clients were helped".to_owned());
    }
    Ok(agent)
}

fn report(failures: &[String]) {
    let mut text = String::new();
    failures.iter().for_each(|failure| writeln!(text, "{failure}").unwrap());
    assert!(failures.is_empty(), "{} failures:\n{text}", failures.len());
}

fn fits(flavour: Flavour, client: Client) -> bool {
    match client {
        // Where there is one field, who keeps what is shown keeps everything.
        Client::KeepsShown => matches!(flavour, Flavour::OpenRouter | Flavour::Copilot),
        // Groq and Cerebras refuse a name that is not theirs, and that of Copilot's models says nothing of a relay.
        Client::Renames => !matches!(flavour, Flavour::Groq | Flavour::Cerebras | Flavour::Copilot),
        // Of a step that was split, Gemini wants more signatures than there are.
        Client::Interleaves => !matches!(flavour, Flavour::Gemini | Flavour::Vertex),
        _ => true,
    }
}

/// G9: each part of a step that was split wants a signature; the first one gets its own, the others a sentinel.
#[tokio::test]
async fn a_step_that_was_split_gets_its_signature_and_a_sentinel_g9() {
    for stream in [false, true] {
        let mut agent = Agent::new(provider(Flavour::Gemini), Client::Interleaves);
        (agent.stream, agent.model) = (stream, model(Flavour::Gemini));
        for _ in 0..7 {
            agent.step().await;
        }
        let requests = agent.provider.requests();
        assert_eq!((agent.provider.refused(), agent.provider.altered(), requests.len()), (1, 0, 8));
        // Once it is known that they are wanted, they come up front.
        let sentinels: Vec<usize> = requests.iter().map(|request| request.sentinels).collect();
        assert_eq!(sentinels, [0, 0, 0, 1, 0, 0, 1, 0], "{stream}");
        assert!(requests[3].genuine >= 2 && requests[6].genuine >= 2);
    }
}

/// D1, D4, D6, D7, D8: whatever a client lost of its reasoning, the provider never misses it, and a history never
/// changes behind it.
#[tokio::test]
async fn no_provider_misses_what_a_client_lost_d1() {
    let mut failures = Vec::new();
    for flavour in ALL {
        for client in Client::ALL.into_iter().filter(|client| fits(flavour, *client)) {
            for (stream, session) in [(false, Some("s")), (true, Some("s")), (false, None), (true, None)] {
                let mut agent = Agent::new(provider(flavour).heavy_escapes(stream), client);
                (agent.stream, agent.session, agent.model) = (stream, session, model(flavour));
                if let Err(error) = converse(agent, flavour, 7).await {
                    failures.push(format!("{flavour:?} {client:?} {stream} {session:?}: {error}"));
                }
            }
        }
    }
    report(&failures);
}

/// D9: whoever stands behind the router, its details come back whole, in order, and with fields that nobody knows.
#[tokio::test]
async fn details_of_every_upstream_come_back_as_they_were_d9() {
    let mut failures = Vec::new();
    for upstream in
        [Upstream::Anthropic, Upstream::Google, Upstream::OpenAi, Upstream::XAi, Upstream::MiniMax, Upstream::Other]
    {
        for client in Client::ALL {
            for (stream, unknown) in [(false, false), (true, false), (false, true), (true, true)] {
                let provider = provider(Flavour::OpenRouter).upstream(upstream).unknown_fields(unknown).text_piece(3);
                let mut agent = Agent::new(provider, client);
                (agent.stream, agent.model) = (stream, model(Flavour::OpenRouter));
                if let Err(error) = converse(agent, Flavour::OpenRouter, 7).await {
                    failures.push(format!("{upstream:?} {client:?} {stream} {unknown}: {error}"));
                }
            }
        }
    }
    report(&failures);
}

/// G1, G9: signatures of Gemini's compatible endpoint, on calls and on messages, in deltas of their own and as of old.
#[tokio::test]
async fn signatures_of_the_compatible_endpoint_come_back_g1() {
    let mut failures = Vec::new();
    for flavour in [Flavour::Gemini, Flavour::Vertex] {
        for client in Client::ALL.into_iter().filter(|client| fits(flavour, *client)) {
            for (stream, apart, legacy) in
                [(false, false, true), (true, true, false), (true, false, true), (true, true, true)]
            {
                let provider = provider(flavour).metadata_deltas(apart).legacy_signatures(legacy);
                let mut agent = Agent::new(provider, client);
                (agent.stream, agent.model) = (stream, model(flavour));
                if let Err(error) = converse(agent, flavour, 7).await {
                    failures.push(format!("{flavour:?} {client:?} {stream} {apart} {legacy}: {error}"));
                }
            }
        }
    }
    report(&failures);
}

/// What is opaque comes behind all else, and without the last line.
#[tokio::test]
async fn the_pair_of_copilot_comes_back_from_any_stream_d8() {
    let mut failures = Vec::new();
    for client in Client::ALL {
        for done in [true, false] {
            let mut agent = Agent::new(provider(Flavour::Copilot).metadata_deltas(true).done(done), client);
            agent.stream = true;
            if let Err(error) = converse(agent, Flavour::Copilot, 7).await {
                failures.push(format!("{client:?} {done}: {error}"));
            }
        }
    }
    report(&failures);
}
