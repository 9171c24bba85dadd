//! Clients that do anything that may be done to a history, in front of the strict fake provider: what goes upstream
//! is never refused where the client's own request would not be.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, Store,
    testing::anthropic::{AnthropicProvider, Say, Script, Turn},
};

use crate::talk::{model, user};

/// A small generator of numbers that are the same on every run.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn happens(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn is_thought(block: &Value) -> bool {
    block["type"] == "thinking" || block["type"] == "redacted_thinking"
}

fn answer(random: &mut Random) -> Turn {
    let mut says = Vec::new();
    // Equal texts side by side cannot be told apart once a client has merged or parted them.
    let mut texts = vec!["Let me look.", "I see.", "One moment.", "Right."];
    for at in 0..=random.below(3) {
        match random.below(5) {
            0 => says.push(Say::hidden_thinking()),
            1 => says.push(Say::redacted()),
            2 | 3 => says.push(Say::thinking(["Hm.", "Well.", "So."][random.below(3)])),
            _ => {}
        }
        if random.happens(60) || at == 0 {
            says.push(Say::text(texts.remove(random.below(texts.len()))));
        }
        if random.happens(15) {
            says.push(Say::web_search("weather"));
        }
    }
    match random.below(4) {
        0 => says.push(Say::text("That is all.")),
        1 => says.push(Say::tool_uses([("look", json!({"at": 1})), ("look", json!({"at": 2}))])),
        _ => says.push(Say::tool_use("look", json!({"at": random.below(2)}))),
    }
    Turn::new(says)
}

/// What a client makes of a message of the model.
fn kept(blocks: &[Value], random: &mut Random, own: bool) -> Vec<Value> {
    if own && random.happens(30) {
        return vec![model(blocks.to_vec())];
    }
    let mut kept: Vec<Value> = blocks.iter().filter(|block| !is_thought(block)).cloned().collect();
    let is_text = |block: &Value| block["type"] == "text";
    match random.below(12) {
        0 => {
            if let Some(text) = kept.iter_mut().find(|block| is_text(block)) {
                text["text"] = format!("{}!", text["text"].as_str().unwrap()).into();
            }
        }
        1 if kept.iter().any(|block| block["type"] == "tool_use") => {
            let first = kept.iter().position(is_text);
            first.map(|first| kept.remove(first));
        }
        2 if kept.len() > 1 => {
            // A search and its result stay together.
            let second = kept.split_off(1);
            if kept[0]["type"] == "text" {
                return vec![model(kept), model(second)];
            }
            kept.extend(second);
        }
        3 => {
            if let Some(last) = kept.last_mut() {
                last["cache_control"] = json!({"type": "ephemeral"});
            }
        }
        4 if kept.iter().filter(|block| is_text(block)).count() > 1 => {
            kept.reverse();
            kept.sort_by_key(|block| !is_text(block));
            if kept.iter().any(|block| block["type"] == "server_tool_use") {
                kept = blocks.iter().filter(|block| !is_thought(block)).cloned().collect();
            }
        }
        5 if kept.len() == 1 && is_text(&kept[0]) => return vec![model(kept[0]["text"].clone())],
        _ => {}
    }
    vec![model(kept)]
}

#[derive(Clone)]
enum Entry {
    User(Value),
    Model(Vec<Value>),
}

fn said(entry: &Entry) -> Value {
    match entry {
        Entry::User(content) => user(content.clone()),
        Entry::Model(blocks) => model(blocks.clone()),
    }
}

fn messages(entries: &[Entry], random: &mut Random, own: bool) -> Vec<Value> {
    entries
        .iter()
        .flat_map(|entry| match entry {
            Entry::User(content) => vec![user(content.clone())],
            Entry::Model(blocks) => kept(blocks, random, own),
        })
        .collect()
}

fn next(blocks: &[Value], random: &mut Random) -> Value {
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    let outputs: Vec<Value> =
        calls.map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "seen"})).collect();
    if outputs.is_empty() { ["And?", "Go on."][random.below(2)].into() } else { outputs.into() }
}

/// A history without its thoughts, in one form.
fn plain(messages: &Value) -> Vec<Value> {
    let mut all = messages.as_array().unwrap().clone();
    for message in &mut all {
        if let Some(text) = message["content"].as_str() {
            message["content"] = json!([{"type": "text", "text": text}]);
        }
        message["content"].as_array_mut().unwrap().retain(|block| !is_thought(block));
    }
    all
}

/// One line for each message.
fn short(messages: &Value) -> String {
    let block = |block: &Value| {
        let of = |field: &str| block[field].as_str().unwrap_or_default().chars().skip(2).take(12).collect::<String>();
        match block["type"].as_str() {
            Some("thinking") => format!("thinking {}", of("signature")),
            Some("redacted_thinking") => format!("redacted {}", of("data")),
            Some("text") => format!("{}", block["text"]),
            Some("tool_result") => format!("result {}", of("tool_use_id")),
            Some(kind) => format!("{kind} {} {}", of("id"), block["input"]),
            None => block.to_string(),
        }
    };
    let lines = messages.as_array().unwrap().iter().enumerate().map(|(at, message)| {
        let content = match message["content"].as_array() {
            Some(blocks) => blocks.iter().map(block).collect::<Vec<_>>().join(", "),
            None => message["content"].to_string(),
        };
        format!("{at} {}: {content}", message["role"])
    });
    lines.collect::<Vec<_>>().join("\n")
}

async fn live(seed: u64, model_id: &str) {
    let mut random = Random(seed);
    let turns = Arc::new(Mutex::new(random.clone()));
    let provider =
        AnthropicProvider::builder().script(Script::from_fn(move |_| answer(&mut turns.lock().unwrap()))).build();
    let store = MemoryStore::new();
    let layer = ReplayLayer::builder(store.clone()).heal(false).build_layer().unwrap();
    let own = !model_id.contains("5-5");
    // What was forgotten of one of two answers to one request cannot be told from what was changed in the other.
    let forgets = seed.is_multiple_of(2);
    let question = |at: usize| if forgets { format!("How is the weather at {at}?") } else { "How are you?".to_owned() };
    let mut talks = [0, 1, 2].map(|at| vec![Entry::User(question(at).into())]);
    for step in 0..60 {
        let at = random.below(3);
        if forgets && random.happens(4) {
            store.clear().await.unwrap();
        }
        if random.happens(10) {
            // Another way from an earlier place on.
            let users: Vec<usize> = (0..talks[at].len())
                .filter(|at_entry| matches!(&talks[at][*at_entry], Entry::User(content) if content.is_string()))
                .collect();
            let from = users[random.below(users.len())];
            talks[at].truncate(from + 1);
            if forgets || random.happens(50) {
                talks[at][from] = Entry::User(question(step + 10).into());
            }
        }
        let sent = messages(&talks[at], &mut random, own);
        let system = if random.happens(5) { "Be verbose." } else { "Be brief." };
        let body = json!({
            "model": model_id, "max_tokens": 2048, "thinking": {"type": "adaptive"}, "system": system,
            "stream": random.happens(50), "messages": sent,
        });
        for _ in 0..=usize::from(!forgets && random.happens(15)) {
            let request = Request::post("https://api.anthropic.com/v1/messages")
                .header("content-type", "application/json")
                .header("x-api-key", "a key")
                .header("x-claude-code-session-id", "s")
                .body(Full::new(Bytes::from(body.to_string())))
                .unwrap();
            let response = layer.layer(provider.clone()).oneshot(request).await.unwrap();
            let status = response.status();
            let answer = response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes();
            let arrived = provider.requests().pop().unwrap().body;
            let arrived: Value = serde_json::from_slice(&arrived).unwrap();
            assert!(
                status == 200,
                "{model_id} {seed} {step}: {}\nsent\n{}\narrived\n{}\nsaid\n{}",
                String::from_utf8_lossy(&answer),
                short(&body["messages"]),
                short(&arrived["messages"]),
                short(&talks[at].iter().map(said).collect())
            );
            assert_eq!(plain(&arrived["messages"]), plain(&body["messages"]), "{model_id} {seed} {step}");
            let blocks = crate::agent::content(&answer);
            if random.happens(60) {
                let said = next(&blocks, &mut random);
                if matches!(talks[at].last(), Some(Entry::Model(_))) {
                    talks[at].truncate(talks[at].len() - 1);
                }
                talks[at].push(Entry::Model(blocks));
                talks[at].push(Entry::User(said));
                break;
            }
        }
    }
}

#[tokio::test]
async fn nothing_that_is_put_back_is_refused() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(10);
    for seed in 0..seeds {
        for model_id in ["claude-sonnet-5", "claude-opus-5-5"] {
            live(seed, model_id).await;
        }
    }
}
