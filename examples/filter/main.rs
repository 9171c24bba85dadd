//! Replay in a filter: a proxy calls it with heads and chunks, and no tower is near.
//!
//! It needs no network: the provider is a strict fake of the feature `testing`.
//!
//! ```text
//! cargo run --example filter --features testing
//! ```
//!
//! `filter.rs` is the filter; this file is the host, and a client that forgets signatures. The program ends with an
//! error if anything happens otherwise than it says.

mod filter;

use std::error::Error;

use bytes::Bytes;
use filter::Filter;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::{
    Engine, Fallback, MemoryStore,
    engine::Event,
    testing::gemini::{Chunks, GeminiProvider, Say, Script, Turn},
};

const URI: &str =
    "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse";

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The proxy: it has the chunks, and calls the filter.
async fn proxy(engine: &Engine, provider: &GeminiProvider, body: &Value) -> Outcome<(StatusCode, String)> {
    let body = Bytes::from(body.to_string());
    let request = Request::post(URI).header("x-session-id", "a session").header("content-length", body.len());
    let (mut head, ()) = request.body(())?.into_parts();
    let mut filter = Filter::request_head(engine, &mut head);

    let mut upstream = Vec::new();
    let mut chunks = body.chunks(100).map(Bytes::copy_from_slice).peekable();
    while let Some(chunk) = chunks.next() {
        let mut chunk = Some(chunk);
        filter.request_body(&mut chunk, chunks.peek().is_none()).await;
        upstream.extend(chunk);
    }

    let request = Request::from_parts(head, Full::new(Bytes::from(upstream.concat())));
    let (head, mut body) = provider.clone().oneshot(request).await?.into_parts();
    filter.response_head(&head);
    let mut client = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame?.into_data() {
            filter.response_body(Some(&chunk), false);
            client.extend_from_slice(&chunk);
        }
    }
    filter.response_body(None, true);
    Ok((head.status, String::from_utf8(client)?))
}

/// The call of an answer, as a client keeps it that has no field for signatures.
fn call(answer: &str) -> Outcome<Value> {
    for event in answer.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(event)?;
        if let Some(call) = event.pointer("/candidates/0/content/parts/0/functionCall") {
            return Ok(call.clone());
        }
    }
    Err("the answer has no call".into())
}

fn check(is_so: bool, what: &str) -> Outcome {
    println!("{} {what}", if is_so { "✓" } else { "✗" });
    if is_so { Ok(()) } else { Err(what.into()) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let script = Script::new([
        Turn::new([Say::call("get_weather", json!({"city": "Paris"}))]),
        Turn::new([Say::text("It rains.")]),
    ]);
    let provider = GeminiProvider::builder().script(script).chunks(Chunks::Bytes(40)).build();
    // A filter cannot send again: stand-ins have to be there from the start.
    let engine = Engine::builder(MemoryStore::new()).heal(false).fallback(Fallback::Always).build()?;
    let count = |event| engine.counters().get(event);

    let mut contents = vec![json!({"role": "user", "parts": [{"text": "How is the weather in Paris?"}]})];
    let (status, answer) = proxy(&engine, &provider, &json!({ "contents": contents })).await?;
    check(status == StatusCode::OK && answer.contains("thoughtSignature"), "the answer is a signed call")?;
    check(count(Event::Learned) == 1, "it is remembered when the last chunk was shown")?;

    contents.push(json!({"role": "model", "parts": [{"functionCall": call(&answer)?}]}));
    let output = json!({"functionResponse": {"name": "get_weather", "response": {"sky": "grey"}}});
    contents.push(json!({"role": "user", "parts": [output]}));
    let follow_up = json!({ "contents": contents });
    let (status, _) = proxy(&engine, &provider, &follow_up).await?;
    check(
        status == StatusCode::OK && count(Event::Restored) == 1,
        "the client forgets the signature, the filter does not",
    )?;
    check(provider.refused() == 0, "the provider has refused nothing")?;

    provider.revoke_signatures();
    let (status, _) = proxy(&engine, &provider, &follow_up).await?;
    check(status == StatusCode::BAD_REQUEST, "the provider changes its keys: this refusal reaches the client")?;
    check(count(Event::Forgotten) > 0, "what it called invalid is forgotten")?;
    let (status, _) = proxy(&engine, &provider, &follow_up).await?;
    check(
        status == StatusCode::OK && count(Event::Sentinel) > 0,
        "the next attempt goes with a stand-in, and is taken",
    )?;
    Ok(())
}
