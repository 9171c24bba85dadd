//! Clients that lose their state, in front of the strict fake provider.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    testing::anthropic::{AnthropicProvider, Builder, Say, Script, Turn},
};

use crate::talk::{model, text, user};

/// What a client has of the blocks that it was sent.
type Keep = fn(Vec<Value>) -> Value;

fn is_thought(block: &Value) -> bool {
    block["type"] == "thinking" || block["type"] == "redacted_thinking"
}

fn without_thoughts(mut blocks: Vec<Value>) -> Value {
    blocks.retain(|block| !is_thought(block));
    blocks.into()
}

fn without_states(mut blocks: Vec<Value>) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Array(elements) => elements.iter_mut().for_each(strip),
            Value::Object(members) => {
                members.retain(|key, _| !matches!(&**key, "signature" | "data" | "encrypted_content"));
                members.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    blocks.iter_mut().for_each(strip);
    blocks.into()
}

/// As [`without_thoughts`]; a text alone becomes a string.
fn as_strings(blocks: Vec<Value>) -> Value {
    match without_thoughts(blocks) {
        Value::Array(blocks) if blocks.len() == 1 && blocks[0]["type"] == "text" => blocks[0]["text"].clone(),
        kept => kept,
    }
}

fn as_they_came(blocks: Vec<Value>) -> Value {
    blocks.into()
}

/// As [`without_thoughts`], and LiteLLM's text where the answer had none.
fn with_fillers(mut blocks: Vec<Value>) -> Value {
    blocks.retain(|block| !is_thought(block));
    as_they_came_with_fillers(blocks)
}

fn as_they_came_with_fillers(mut blocks: Vec<Value>) -> Value {
    if blocks.iter().all(|block| block["type"] != "text") {
        let first = blocks.iter().position(|block| !is_thought(block)).unwrap();
        blocks.insert(first, text("[System: Empty message content sanitised to satisfy protocol]"));
    }
    blocks.into()
}

/// What each has of an answer, and what of that arrives.
const CLIENTS: [(&str, Keep, Keep); 4] = [
    ("without thoughts", without_thoughts, as_they_came),
    ("without states", without_states, as_they_came),
    ("as strings", as_strings, as_they_came),
    ("with fillers", with_fillers, as_they_came_with_fillers),
];

/// The blocks of an answer, put together if it is a stream.
pub(crate) fn content(body: &[u8]) -> Vec<Value> {
    if let Ok(document) = serde_json::from_slice::<Value>(body) {
        return document["content"].as_array().unwrap_or_else(|| panic!("refused: {document}")).clone();
    }
    let mut blocks: Vec<Value> = Vec::new();
    let mut input = String::new();
    for data in std::str::from_utf8(body).unwrap().lines().filter_map(|line| line.strip_prefix("data: ")) {
        let Ok(event) = serde_json::from_str::<Value>(data) else { continue };
        match event["type"].as_str() {
            Some("content_block_start") => {
                input.clear();
                blocks.push(event["content_block"].clone());
            }
            Some("content_block_delta") => {
                let block = blocks.last_mut().unwrap();
                for field in ["text", "thinking", "signature"] {
                    if let Some(piece) = event["delta"][field].as_str() {
                        block[field] = (block[field].as_str().unwrap().to_owned() + piece).into();
                    }
                }
                input.push_str(event["delta"]["partial_json"].as_str().unwrap_or_default());
            }
            Some("content_block_stop") if !input.is_empty() => {
                blocks.last_mut().unwrap()["input"] = serde_json::from_str(&input).unwrap();
                input.clear();
            }
            _ => {}
        }
    }
    blocks
}

fn outputs(blocks: &[Value]) -> Value {
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    let outputs: Vec<Value> = calls
        .map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": format!("{}", call["input"])}))
        .collect();
    if outputs.is_empty() { user("And then?") } else { user(outputs) }
}

/// Talks for so many steps; what arrives is what an honest client would have sent.
async fn talk(
    provider: Builder,
    body: &Value,
    (keep, arrives): (Keep, Keep),
    named: bool,
    steps: usize,
) -> AnthropicProvider {
    let provider = provider.build();
    let layer = ReplayLayer::new(MemoryStore::new());
    let (mut kept, mut honest) = (vec![user("How is the weather?")], vec![user("How is the weather?")]);
    for step in 0..steps {
        let mut sent = body.clone();
        sent["messages"] = json!(kept);
        let mut request = Request::post("https://api.anthropic.com/v1/messages")
            .header("content-type", "application/json")
            .header("x-api-key", "a key");
        if named {
            request = request.header("x-claude-code-session-id", "s");
        }
        let request = request.body(Full::new(Bytes::from(sent.to_string()))).unwrap();
        let response = layer.layer(provider.clone()).oneshot(request).await.unwrap();
        let answer = response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes();
        let arrived: Value = serde_json::from_slice(&provider.requests().pop().unwrap().body).unwrap();
        assert_eq!(arrived["messages"], json!(honest), "step {step}");
        let blocks = content(&answer);
        kept.extend([model(keep(blocks.clone())), outputs(&blocks)]);
        honest.extend([model(arrives(blocks.clone())), outputs(&blocks)]);
    }
    assert_eq!((provider.accepted(), provider.refused()), (steps, 0));
    provider
}

fn bodies(model: &str) -> [Value; 4] {
    let manual = json!({"type": "enabled", "budget_tokens": 1024});
    [(manual, false), (json!({"type": "adaptive"}), true)]
        .map(|(thinking, stream)| {
            let body = json!({
                "model": model, "max_tokens": 2048, "thinking": thinking, "stream": stream, "system": "Be brief.",
            });
            let mut other = body.clone();
            other["stream"] = (!stream).into();
            [body, other]
        })
        .concat()
        .try_into()
        .unwrap()
}

fn interleaved() -> Script {
    Script::new([
        Turn::new([
            Say::thinking("First \"things\" first."),
            Say::text("Let me look."),
            Say::hidden_thinking(),
            Say::tool_use("look", json!({"at": 1.0, "of": "東京"})),
        ]),
        Turn::new([
            Say::redacted(),
            Say::thinking("Both."),
            Say::tool_uses([("look", json!({})), ("look", json!({}))]),
        ]),
        Turn::new([Say::hidden_thinking(), Say::web_search("weather"), Say::thinking("Well."), Say::text("It rains.")]),
        Turn::new([Say::thinking("Done."), Say::text("It still rains.")]),
    ])
}

/// A8, A22: a tool loop gets through with whatever client, and what arrives is the same history every time.
#[tokio::test]
async fn clients_that_lose_state_get_through_their_tool_loops_a8() {
    for model in ["claude-sonnet-4-5", "claude-sonnet-5"] {
        for body in bodies(model) {
            for (name, keep, arrives) in CLIENTS {
                for script in [Script::default(), interleaved()] {
                    for named in [true, false] {
                        println!("{model} {name} {body} {named}");
                        let provider = AnthropicProvider::builder().script(script.clone()).signature_piece(100);
                        talk(provider.heavy_escapes(body["stream"] == true), &body, (keep, arrives), named, 9).await;
                    }
                }
            }
        }
    }
}

/// A13: so they do where thinking is bound to everything before it.
#[tokio::test]
async fn bound_thinking_comes_back_in_one_chain_a13() {
    for model in ["claude-fable-5-1", "claude-opus-5-5", "claude-haiku-5-5"] {
        let body = json!({"model": model, "max_tokens": 2048, "stream": true, "thinking": {"type": "adaptive"}});
        for (name, keep, arrives) in CLIENTS {
            for script in [Script::default(), interleaved()] {
                println!("{model} {name}");
                talk(AnthropicProvider::builder().script(script), &body, (keep, arrives), true, 9).await;
            }
        }
    }
}
