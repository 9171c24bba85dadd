//! Blocks that are bound to what stood before them, or to an organization.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::anthropic::*;

use crate::client::*;

const SYSTEM: &str = " The `system` prompt differs from the one this block was created with.";
const CHAIN: &str = " The `thinking` block that preceded this one when it was created is missing from this request.";

fn bound(at: &str, hint: &str) -> String {
    format!(
        "{}. The block is bound to a different conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\". That setting requires the `{BETA}` value in the `anthropic-beta` header.{hint}",
        invalid(at)
    )
}

fn missing(at: &str) -> String {
    format!(" Content that preceded this block when it was created is missing from this request, starting at `{at}`.")
}

/// A conversation of `turns` answers, each a thought and a text, and a last question.
async fn conversation(provider: &AnthropicProvider, turns: usize) -> Vec<Value> {
    let mut history = vec![user("Question 0")];
    for turn in 1..=turns {
        let blocks = ask_fable(provider, &history).await.content();
        assert_eq!(blocks.len(), 2);
        history.extend([assistant(&blocks), user(&format!("Question {turn}"))]);
    }
    accepted(&ask_fable(provider, &history).await);
    history
}

fn provider() -> AnthropicProvider {
    says([Say::thinking("Hm."), Say::text("Yes.")]).build()
}

/// Without the thinking of the messages with these numbers.
fn dropping(history: &[Value], messages: &[usize]) -> Vec<Value> {
    let mut history = history.to_vec();
    for message in messages {
        history[*message]["content"].as_array_mut().unwrap().remove(0);
    }
    history
}

async fn ask_binding(provider: &AnthropicProvider, messages: &[Value], behavior: &str, beta: &str) -> Answer {
    let thinking = json!({"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": behavior}});
    let body = with(with(adaptive(messages), "model", json!(FABLE)), "thinking", thinking);
    let request = Request::post(PATH).header("anthropic-beta", beta);
    send(provider, request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await
}

#[tokio::test]
async fn what_stands_before_a_block_is_what_it_was() {
    let provider = provider();
    let body = |messages: &[Value]| {
        let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
        let body = with(with(adaptive(messages), "model", json!(FABLE)), "system", json!("Be brief."));
        with(body, "tools", tools)
    };
    let mut history = vec![user("One?")];
    let blocks = post(&provider, PATH, &body(&history)).await.content();
    history.extend([assistant(&blocks), user("Two?")]);
    let whole = body(&history);
    accepted(&post(&provider, PATH, &whole).await);

    // What is no part of it.
    let mut same = with(whole.clone(), "max_tokens", json!(1));
    same["system"] = json!([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]);
    same["tools"][0]["cache_control"] = json!({"type": "ephemeral"});
    same["tool_choice"] = json!({"type": "auto"});
    same["metadata"] = json!({"user_id": "u"});
    same["messages"][0]["content"] = json!([{"type": "text", "text": "One?", "cache_control": {"type": "ephemeral"}}]);
    same["thinking"] = json!({"type": "adaptive", "display": "summarized"});
    accepted(&post(&provider, PATH, &same).await);

    let at = "messages.1.content.0";
    refused(&post(&provider, PATH, &with(whole.clone(), "system", json!("Be long."))).await, &bound(at, SYSTEM));
    let mut none = whole.clone();
    none.as_object_mut().unwrap().remove("system");
    refused(&post(&provider, PATH, &none).await, &bound(at, SYSTEM));
    refused(&post(&provider, PATH, &with(whole.clone(), "tools", json!([]))).await, &bound(at, ""));
    let mut other = whole.clone();
    other["messages"][0]["content"] = json!("Uno?");
    refused(&post(&provider, PATH, &other).await, &bound(at, ""));
    // Without the block, anything goes.
    other["messages"][1] = assistant(&thoughtless(&blocks));
    accepted(&post(&provider, PATH, &other).await);
}

#[tokio::test]
async fn content_that_is_missing_is_named() {
    let provider = provider();
    let history = conversation(&provider, 3).await;
    let cut = dropping(&history[2..], &[1]);
    refused(&ask_fable(&provider, &cut).await, &bound("messages.3.content.0", &missing("messages.0.content.0")));
    let gone = dropping(&[&history[..1], &history[3..]].concat(), &[]);
    refused(&ask_fable(&provider, &gone).await, &bound("messages.1.content.0", &missing("messages.1.content.1")));
}

#[tokio::test]
async fn kept_blocks_are_an_unbroken_run() {
    let provider = provider();
    let history = conversation(&provider, 4).await;
    // From the start, from the end, or all of them.
    for gone in [&[][..], &[1], &[1, 3], &[1, 3, 5], &[1, 3, 5, 7], &[7], &[5, 7], &[3, 5, 7]] {
        accepted(&ask_fable(&provider, &dropping(&history, gone)).await);
    }
    for (gone, at) in [
        (&[3][..], "messages.5.content.0"),
        (&[5], "messages.7.content.0"),
        (&[1, 5], "messages.7.content.0"),
        (&[3, 5], "messages.7.content.0"),
    ] {
        refused(&ask_fable(&provider, &dropping(&history, gone)).await, &bound(at, CHAIN));
    }
}

#[tokio::test]
async fn a_block_that_was_absent_does_not_come_back() {
    let provider = provider();
    let mut history = conversation(&provider, 2).await;
    let mut without = dropping(&history, &[1]);
    let blocks = ask_fable(&provider, &without).await.content();
    without.extend([assistant(&blocks), user("On?")]);
    accepted(&ask_fable(&provider, &without).await);
    history.extend([assistant(&blocks), user("On?")]);
    refused(&ask_fable(&provider, &history).await, &bound("messages.5.content.0", ""));
}

#[tokio::test]
async fn blocks_of_one_answer_are_bound_to_each_other() {
    let provider = says([
        Say::thinking("One."),
        Say::text("A."),
        Say::thinking("Two."),
        Say::tool_use("f", json!({"x": 1, "y": [1.5, 2]})),
    ])
    .build();
    let blocks = ask_fable(&provider, &[user("Go")]).await.content();
    let history = |blocks: &[Value]| vec![user("Go"), assistant(blocks), results(blocks)];
    accepted(&ask_fable(&provider, &history(&blocks)).await);
    accepted(&ask_fable(&provider, &history(&thoughtless(&blocks))).await);
    let without_text = [&blocks[..1], &blocks[2..]].concat();
    let message = bound("messages.1.content.1", &missing("messages.1.content.1"));
    refused(&ask_fable(&provider, &history(&without_text)).await, &message);
    // Arguments that are spelled otherwise are the same.
    let mut second = history(&blocks);
    let more = ask_fable(&provider, &second).await.content();
    second.extend([assistant(&more), results(&more)]);
    second[1]["content"][3]["input"] = serde_json::from_str(r#"{"y": [1.5, 2.0], "x": 1.0}"#).unwrap();
    accepted(&ask_fable(&provider, &second).await);
    second[2]["content"][0]["content"] = json!("something else");
    refused(&ask_fable(&provider, &second).await, &bound("messages.3.content.0", ""));
}

#[tokio::test]
async fn mismatches_are_dropped_and_reported_on_demand() {
    let provider = provider();
    let history = conversation(&provider, 4).await;
    let gap = dropping(&history, &[3]);
    let answer = ask_binding(&provider, &gap, "drop_block", "other-beta").await;
    refused(&answer, "thinking.adaptive.block_binding: Extra inputs are not permitted");
    let several = format!("other-beta, {BETA}");
    let answer = ask_binding(&provider, &gap, "drop_block", &several).await;
    accepted(&answer);
    let reason = "prefix_binding_mismatch".to_owned();
    // The last one stands behind the same gap.
    assert_eq!(
        answer.dropped(),
        [("messages.5.content.0".to_owned(), reason.clone()), ("messages.7.content.0".to_owned(), reason)]
    );
    assert_eq!(provider.requests().last().unwrap().genuine, 1);
    assert!(ask_binding(&provider, &history, "drop_block", BETA).await.dropped().is_empty());
    // With the header, nothing need be said about it.
    let message = bound("messages.5.content.0", CHAIN)
        .replace(&format!(" That setting requires the `{BETA}` value in the `anthropic-beta` header."), "");
    refused(&ask_binding(&provider, &gap, "error", BETA).await, &message);
    let message = "thinking.adaptive.block_binding.prefix_mismatch_behavior: Input should be 'error' or 'drop_block'";
    refused(&ask_binding(&provider, &gap, "ignore", BETA).await, message);
}

#[tokio::test]
async fn what_was_dropped_is_absent_from_the_next_chain() {
    let provider = provider();
    let mut history = conversation(&provider, 2).await;
    history[0] = user("Another question 0");
    let answer = ask_binding(&provider, &history, "drop_block", BETA).await;
    assert_eq!(answer.dropped().len(), 2);
    let blocks = answer.content();
    history.extend([assistant(&blocks), user("On?")]);
    let answer = ask_binding(&provider, &history, "drop_block", BETA).await;
    assert_eq!(answer.dropped().len(), 2);
    assert_eq!(provider.requests().last().unwrap().genuine, 1);
    // A stream reports at its start.
    let thinking = json!({"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}});
    let mut body = with(with(adaptive(&history), "model", json!(FABLE)), "thinking", thinking);
    body["stream"] = json!(true);
    body["anthropic_beta"] = json!([BETA]);
    let answer = post(&provider, PATH, &body).await;
    assert_eq!(answer.dropped().len(), 2);
    assert_eq!(answer.events()[0]["message"]["input_transformations"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn binding_can_be_switched_on_and_off() {
    let build = || says([Say::thinking("Hm."), Say::text("Yes.")]);
    let unbound = build().bind_prefix(false).build();
    let history = conversation(&unbound, 4).await;
    accepted(&ask_fable(&unbound, &dropping(&history, &[3])).await);
    // The request can still ask for it.
    let answer = ask_binding(&unbound, &dropping(&history, &[3]), "drop_block", BETA).await;
    assert_eq!(answer.dropped().len(), 2);

    let older = |provider: AnthropicProvider| async move {
        let mut history = vec![user("One?")];
        let blocks = post(&provider, PATH, &adaptive(&history)).await.content();
        history.extend([assistant(&blocks), user("Two?")]);
        history[0] = user("Uno?");
        post(&provider, PATH, &adaptive(&history)).await
    };
    accepted(&older(build().build()).await);
    refused(&older(build().bind_prefix(true).build()).await, &bound("messages.1.content.0", ""));
}

#[tokio::test]
async fn newer_models_drop_what_they_cannot_read() {
    let provider = provider();
    let history = conversation(&provider, 1).await;
    let answer = post(&provider, PATH, &with(adaptive(&history), "model", json!("claude-opus-5-5"))).await;
    accepted(&answer);
    let dropped = [("messages.1.content.0".to_owned(), "model_binding_mismatch".to_owned())];
    assert_eq!(answer.dropped(), dropped);
    // Older ones refuse.
    let answer = post(&provider, PATH, &adaptive(&history)).await;
    refused(&answer, &invalid("messages.1.content.0"));
}

#[tokio::test]
async fn other_organizations_lose_their_blocks() {
    let under = |key: &'static str, model: &'static str, messages: Vec<Value>| {
        let body = with(adaptive(&messages), "model", json!(model)).to_string();
        Request::post(PATH).header("x-api-key", key).body(Full::new(Bytes::from(body))).unwrap()
    };
    let build = || says([Say::thinking("Hm."), Say::text("Yes.")]);
    for (builder, model, binds) in [
        (build(), SONNET, false),
        (build().bind_credentials(true), SONNET, true),
        (build(), FABLE, false),
        (build(), "claude-sonnet-5-5", true),
        (build().bind_credentials(false), "claude-sonnet-5-5", false),
    ] {
        let provider = builder.build();
        let blocks = send(&provider, under("a", model, vec![user("Go")])).await.content();
        let history = vec![user("Go"), assistant(&blocks), user("On")];
        let own = send(&provider, under("a", model, history.clone())).await;
        assert_eq!((own.dropped().len(), provider.requests()[1].genuine), (0, 1));
        let other = send(&provider, under("b", model, history)).await;
        accepted(&other);
        let dropped = ("messages.1.content.0".to_owned(), "organization_binding_mismatch".to_owned());
        assert_eq!(other.dropped(), if binds { vec![dropped] } else { vec![] }, "{model}");
        assert_eq!(provider.requests()[2].genuine, usize::from(!binds));
    }
}
