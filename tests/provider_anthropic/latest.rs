//! The latest assistant message, whose thinking cannot be modified.

use serde_json::{Value, json};
use tower_reasoning_replay::testing::anthropic::*;

use crate::client::*;

/// Two thoughts, text before, between and behind them, and a call.
async fn interleaved() -> (AnthropicProvider, Vec<Value>) {
    let provider = says([
        Say::text("First."),
        Say::thinking("One."),
        Say::text("Second."),
        Say::redacted(),
        Say::text("Third."),
        Say::tool_use("f", json!({"n": 1})),
    ])
    .build();
    let blocks = post(&provider, PATH, &adaptive(&[user("Go")])).await.content();
    assert_eq!(blocks.len(), 6);
    (provider, blocks)
}

async fn back(provider: &AnthropicProvider, blocks: &[Value]) -> Answer {
    post(provider, PATH, &adaptive(&[user("Go"), assistant(blocks), results(blocks)])).await
}

fn pick(blocks: &[Value], places: &[usize]) -> Vec<Value> {
    places.iter().map(|at| blocks[*at].clone()).collect()
}

#[tokio::test]
async fn all_of_its_thinking_or_none_comes_back() {
    let (provider, blocks) = interleaved().await;
    accepted(&back(&provider, &blocks).await);
    accepted(&back(&provider, &thoughtless(&blocks)).await);
    refused(&back(&provider, &pick(&blocks, &[0, 1, 2, 4, 5])).await, &modified("messages.1.content.1"));
    refused(&back(&provider, &pick(&blocks, &[0, 2, 3, 4, 5])).await, &modified("messages.1.content.2"));
}

#[tokio::test]
async fn its_thinking_stands_where_it_stood_among_what_is_left() {
    let (provider, blocks) = interleaved().await;
    for places in [&[1, 3, 5][..], &[0, 1, 3, 4, 5], &[1, 2, 3, 5], &[1, 3, 4, 5]] {
        accepted(&back(&provider, &pick(&blocks, places)).await);
    }
    for (places, at) in [
        // Hoisted to the head, as some relays do.
        (&[1, 3, 0, 2, 4, 5][..], "messages.1.content.0"),
        // The two in the wrong order.
        (&[0, 3, 2, 1, 4, 5], "messages.1.content.1"),
        // Behind the call.
        (&[0, 1, 2, 4, 5, 3], "messages.1.content.5"),
        // One step off.
        (&[0, 1, 3, 2, 4, 5], "messages.1.content.2"),
    ] {
        refused(&back(&provider, &pick(&blocks, places)).await, &modified(at));
    }
}

#[tokio::test]
async fn equal_text_on_both_sides_of_a_thought_is_told_apart() {
    let provider = says([Say::text("Hm."), Say::thinking("One."), Say::text("Hm.")]).build();
    let blocks = post(&provider, PATH, &adaptive(&[user("Go")])).await.content();
    let again = |places: &[usize]| adaptive(&[user("Go"), assistant(&pick(&blocks, places)), user("On")]);
    for places in [&[0, 1, 2][..], &[1, 2], &[0, 1]] {
        accepted(&post(&provider, PATH, &again(places)).await);
    }
    refused(&post(&provider, PATH, &again(&[0, 2, 1])).await, &modified("messages.1.content.2"));
}

#[tokio::test]
async fn its_thinking_is_unchanged() {
    let (provider, mut blocks) = interleaved().await;
    for text in ["", "One", "One. ", "One.\n"] {
        blocks[1]["thinking"] = json!(text);
        refused(&back(&provider, &blocks).await, &modified("messages.1.content.1"));
    }
    blocks[1]["thinking"] = json!("One.");
    accepted(&back(&provider, &blocks).await);
    // Two signatures change places.
    let provider = says([Say::thinking("One."), Say::thinking("Two."), Say::tool_use("f", json!({}))]).build();
    let (_, blocks) = first_step(&provider).await;
    let mut crossed = blocks.clone();
    crossed[0]["signature"] = blocks[1]["signature"].clone();
    crossed[1]["signature"] = blocks[0]["signature"].clone();
    refused(&back(&provider, &crossed).await, &modified("messages.1.content.0"));
    let mut joined = vec![blocks[0].clone(), blocks[2].clone()];
    joined[0]["thinking"] = json!("One.Two.");
    refused(&back(&provider, &joined).await, &modified("messages.1.content.0"));
    let swapped = pick(&blocks, &[1, 0, 2]);
    refused(&back(&provider, &swapped).await, &modified("messages.1.content.1"));
}

#[tokio::test]
async fn nothing_is_moved_into_it() {
    let provider = script([
        Turn::new([Say::thinking("One."), Say::tool_use("f", json!({"n": 1}))]),
        Turn::new([Say::thinking("Two."), Say::tool_use("f", json!({"n": 2}))]),
    ])
    .build();
    let (mut history, first) = first_step(&provider).await;
    let second = ask(&provider, &history).await.content();
    history.extend([assistant(&second), results(&second)]);
    accepted(&ask(&provider, &history).await);
    let mut moved = history.clone();
    moved[1] = assistant(&thoughtless(&first));
    moved[3] = assistant(&[&first[..1], &second[..]].concat());
    refused(&post(&provider, PATH, &adaptive(&moved)).await, &modified("messages.3.content.0"));
    moved[3] = assistant(&[&first[..1], &second[1..]].concat());
    refused(&post(&provider, PATH, &adaptive(&moved)).await, &modified("messages.3.content.0"));
    // An ordinary user message does not open it to changes.
    let mut done = history.clone();
    done[3]["content"][0]["thinking"] = json!("2");
    done.push(user("On."));
    refused(&ask(&provider, &done).await, &modified("messages.3.content.0"));
}
