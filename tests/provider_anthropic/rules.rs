//! What is refused wherever it stands, and what is not.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::anthropic::*;

use crate::client::*;

#[tokio::test]
async fn every_block_is_one_that_was_issued() {
    let provider = AnthropicProvider::new();
    let (history, blocks) = first_step(&provider).await;
    accepted(&ask(&provider, &history).await);
    let with_thinking = |block: Value| {
        let mut history = history.clone();
        history[1]["content"][0] = block;
        history
    };
    let signature = blocks[0]["signature"].as_str().unwrap();
    let other = AnthropicProvider::new();
    let foreign = first_step(&other).await.1[0]["signature"].clone();
    for signature in [json!(""), json!("skip"), json!(signature[..signature.len() - 4]), foreign] {
        let history = with_thinking(with(blocks[0].clone(), "signature", signature));
        refused(&ask(&provider, &history).await, &invalid("messages.1.content.0"));
    }
    let invented = json!({"type": "redacted_thinking", "data": signature});
    let message = "messages.1.content.0: Invalid `data` in `redacted_thinking` block";
    refused(&ask(&provider, &with_thinking(invented)).await, message);
    assert_eq!(provider.requests().last().unwrap().genuine, 0);

    for (field, message) in [
        ("signature", "messages.1.content.0.thinking.signature: Field required"),
        ("thinking", "messages.1.content.0.thinking.thinking: Field required"),
    ] {
        let mut block = blocks[0].clone();
        block.as_object_mut().unwrap().remove(field);
        refused(&ask(&provider, &with_thinking(block)).await, message);
    }
    let redacted = with_thinking(json!({"type": "redacted_thinking"}));
    refused(&ask(&provider, &redacted).await, "messages.1.content.0.redacted_thinking.data: Field required");
    for field in ["cache_control", "thought", "index"] {
        let block = with(blocks[0].clone(), field, json!({"type": "ephemeral"}));
        let message = format!("messages.1.content.0.thinking.{field}: Extra inputs are not permitted");
        refused(&ask(&provider, &with_thinking(block)).await, &message);
    }
    // A breakpoint elsewhere is no harm.
    let mut cached = history.clone();
    cached[1]["content"][2]["cache_control"] = json!({"type": "ephemeral"});
    cached[2]["content"][0]["cache_control"] = json!({"type": "ephemeral"});
    accepted(&ask(&provider, &cached).await);
}

#[tokio::test]
async fn blocks_of_earlier_turns_may_be_left_out_but_not_changed() {
    let provider = script([
        Turn::new([Say::thinking("One."), Say::text("A."), Say::thinking("Two."), Say::text("B.")]),
        Turn::new([Say::thinking("Three."), Say::text("C.")]),
    ])
    .build();
    let first = ask(&provider, &[user("1")]).await.content();
    let second = ask(&provider, &[user("1"), assistant(&first), user("2")]).await.content();
    let history = |first: &[Value]| [user("1"), assistant(first), user("2"), assistant(&second), user("3")];
    accepted(&ask(&provider, &history(&first)).await);
    accepted(&ask(&provider, &history(&thoughtless(&first))).await);
    accepted(&ask(&provider, &history(&first[1..])).await);
    accepted(&ask(&provider, &history(&first[..2])).await);

    let mut changed = first.clone();
    changed[0]["thinking"] = json!("One");
    refused(&ask(&provider, &history(&changed)).await, &invalid("messages.1.content.0"));
    changed[0]["thinking"] = json!("");
    refused(&ask(&provider, &history(&changed)).await, &invalid("messages.1.content.0"));
    // What is moved, used twice or put beside other content is refused only by a strict provider.
    let loose = script([Turn::new([Say::thinking("Hm."), Say::text("Yes.")])]).bind_signatures(false).build();
    let blocks = ask(&loose, &[user("1")]).await.content();
    let answer = [json!({"type": "text", "text": "No."}), blocks[0].clone()];
    accepted(&ask(&loose, &[user("1"), assistant(&answer), user("2"), assistant(&blocks), user("3")]).await);
    let swapped = [&first[2], &first[1], &first[0], &first[3]].map(Clone::clone);
    refused(&ask(&provider, &history(&swapped)).await, &invalid("messages.1.content.0"));
    let twice = [&first[0], &first[0], &first[1], &first[2], &first[3]].map(Clone::clone);
    refused(&ask(&provider, &history(&twice)).await, &invalid("messages.1.content.1"));
    let copied = [user("1"), assistant(&first), user("2"), assistant(&first), user("3")];
    refused(&ask(&provider, &copied).await, &invalid("messages.3.content.0"));
    let among_others = [first[0].clone(), json!({"type": "text", "text": "Quite another answer."})];
    refused(&ask(&provider, &history(&among_others)).await, &invalid("messages.1.content.0"));
    let merged =
        [user("1"), assistant(&[&first[..], &second[..]].concat()), user("3"), assistant(&first[1..2]), user("4")];
    refused(&ask(&provider, &merged).await, &invalid("messages.1.content.4"));
}

#[tokio::test]
async fn families_and_keys_matter() {
    let provider = AnthropicProvider::new();
    let (history, _) = first_step(&provider).await;
    let model = |id: &str| with(manual(&history), "model", json!(id));
    accepted(&post(&provider, PATH, &model("claude-sonnet-4-5-20250929")).await);
    refused(&post(&provider, PATH, &model("claude-opus-4-5")).await, &invalid("messages.1.content.0"));
    provider.revoke_signatures();
    refused(&ask(&provider, &history).await, &invalid("messages.1.content.0"));
    // Without the block, the request is fine in adaptive mode.
    let mut without = history.clone();
    without[1]["content"].as_array_mut().unwrap().remove(0);
    accepted(&post(&provider, PATH, &adaptive(&without)).await);
}

#[tokio::test]
async fn manual_mode_wants_each_calling_message_of_the_final_turn_to_begin_with_thinking() {
    let provider = AnthropicProvider::new();
    let (mut history, first) = first_step(&provider).await;
    let second = ask(&provider, &history).await.content();
    history.extend([assistant(&second), results(&second)]);
    accepted(&ask(&provider, &history).await);

    let mut lost = history.clone();
    lost[1] = assistant(&thoughtless(&first));
    refused(&ask(&provider, &lost).await, &expected("messages.1.content.0", "text"));
    accepted(&post(&provider, PATH, &adaptive(&lost)).await);
    lost = history.clone();
    lost[3] = assistant(&thoughtless(&second));
    refused(&ask(&provider, &lost).await, &expected("messages.3.content.0", "tool_use"));
    // Text beside a result begins no new turn; a message of text alone does.
    lost[4]["content"].as_array_mut().unwrap().push(json!({"type": "text", "text": "Go on."}));
    refused(&ask(&provider, &lost).await, &expected("messages.3.content.0", "tool_use"));
    lost.extend([assistant(&[json!({"type": "text", "text": "Done."})]), user("Thanks.")]);
    accepted(&ask(&provider, &lost).await);
    // So does an answer of text alone not need any.
    accepted(&ask(&provider, &[user("Hello"), assistant(&[json!({"type": "text", "text": "Hi."})]), user("On")]).await);

    let forced = with(manual(&history), "tool_choice", json!({"type": "any"}));
    refused(&post(&provider, PATH, &forced).await, "Thinking may not be enabled when tool_choice forces tool use.");
    accepted(&post(&provider, PATH, &with(manual(&history), "tool_choice", json!({"type": "auto"}))).await);
}

#[tokio::test]
async fn redacted_blocks_count_as_thinking() {
    let provider = says([Say::redacted(), Say::tool_use("f", json!({"x": 1}))]).build();
    let (mut history, blocks) = first_step(&provider).await;
    accepted(&ask(&provider, &history).await);
    history[1]["content"][0]["data"] = json!(blocks[0]["data"].as_str().unwrap()[1..]);
    let message = "messages.1.content.0: Invalid `data` in `redacted_thinking` block";
    refused(&ask(&provider, &history).await, message);
    history[1]["content"][0] = json!({"type": "redacted_thinking", "data": blocks[0]["data"], "thinking": ""});
    let message = "messages.1.content.0.redacted_thinking.thinking: Extra inputs are not permitted";
    refused(&ask(&provider, &history).await, message);
}

#[tokio::test]
async fn where_thinking_is_off_the_final_turn_holds_none() {
    let message = |kind: &str| {
        format!(
            "When thinking is disabled, an `assistant` message in the final position cannot contain `{kind}`. To use thinking blocks, enable `thinking` in your request."
        )
    };
    let build = || says([Say::thinking("Hm."), Say::tool_use("f", json!({}))]);
    let provider = build().build();
    let (history, blocks) = first_step(&provider).await;
    let off = with(manual(&history), "thinking", json!({"type": "disabled"}));
    refused(&post(&provider, PATH, &off).await, &message("thinking"));
    let mut absent = off.clone();
    absent.as_object_mut().unwrap().remove("thinking");
    refused(&post(&provider, PATH, &absent).await, &message("thinking"));
    let without = [user("How is the weather?"), assistant(&thoughtless(&blocks)), results(&blocks)];
    accepted(&post(&provider, PATH, &with(off.clone(), "messages", json!(without))).await);
    // In a finished turn they do not matter.
    let mut later = history.clone();
    later.extend([assistant(&[json!({"type": "text", "text": "Done."})]), user("Thanks.")]);
    accepted(&post(&provider, PATH, &with(off, "messages", json!(later))).await);

    let provider = says([Say::redacted(), Say::tool_use("f", json!({}))]).build();
    let (history, _) = first_step(&provider).await;
    let off = with(manual(&history), "thinking", json!({"type": "disabled"}));
    refused(&post(&provider, PATH, &off).await, &message("redacted_thinking"));

    // A model that thinks by default, or unasked, takes them back.
    for provider in [build().think_by_default(true).build(), build().think_unasked(true).build()] {
        let (history, _) = first_step(&provider).await;
        accepted(&post(&provider, PATH, &with(absent.clone(), "messages", json!(history))).await);
    }
}

#[tokio::test]
async fn calls_and_results_pair() {
    let provider = says([Say::tool_uses([("f", json!({"n": 1})), ("g", json!({}))])]).build();
    let (history, blocks) = first_step(&provider).await;
    let [f, g] = [&blocks[1]["id"], &blocks[2]["id"]].map(|id| id.as_str().unwrap());
    accepted(&ask(&provider, &history).await);
    let unanswered = |ids: &str| {
        format!(
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        )
    };
    refused(&ask(&provider, &history[..2]).await, &unanswered(&format!("{f}, {g}")));
    accepted(&post(&provider, "/v1/messages/count_tokens", &manual(&history[..2])).await);
    refused(
        &ask(&provider, &[history[0].clone(), history[1].clone(), user("Well?")]).await,
        &unanswered(&format!("{f}, {g}")),
    );
    let mut one = history.clone();
    one[2]["content"].as_array_mut().unwrap().remove(0);
    refused(&ask(&provider, &one).await, &unanswered(f));
    let stray = [user("Hello"), history[2].clone()];
    let message = format!(
        "messages.1.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {f}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
    );
    refused(&ask(&provider, &stray).await, &message);
    let mut twice = history.clone();
    twice[1]["content"][2]["id"] = json!(f);
    refused(&ask(&provider, &twice).await, "messages.1.content.2: `tool_use` ids must be unique");
    // Neighbouring messages of one role count as one.
    let results = history[2]["content"].as_array().unwrap();
    let apart = [
        history[0].clone(),
        assistant(&blocks[..2]),
        assistant(&blocks[2..]),
        json!({"role": "user", "content": [results[0]]}),
        json!({"role": "user", "content": [results[1]]}),
    ];
    accepted(&ask(&provider, &apart).await);
    // A client may give calls ids of its own.
    let renamed = json!(history).to_string().replace(f, "call_1").replace(g, "call_2");
    accepted(&ask(&provider, &serde_json::from_str::<Vec<Value>>(&renamed).unwrap()).await);
}

#[tokio::test]
async fn messages_and_blocks_are_read_strictly() {
    let provider = AnthropicProvider::new();
    let text = |text: &str| json!({"type": "text", "text": text});
    let cases = [
        (json!([]), "messages: at least one message is required"),
        (json!([assistant(&[text("Hi.")])]), "messages: first message must use the \"user\" role"),
        (json!([{"role": "model", "content": "x"}]), "messages.0.role: Input should be 'user' or 'assistant'"),
        (json!([{"content": "x"}]), "messages.0.role: Field required"),
        (json!([{"role": "user"}]), "messages.0.content: Field required"),
        (
            json!([{"role": "user", "content": []}]),
            "messages.0: all messages must have non-empty content except for the optional final assistant message",
        ),
        (
            json!([{"role": "user", "content": "x", "reasoning": "y"}]),
            "messages.0.reasoning: Extra inputs are not permitted",
        ),
        (json!([{"role": "user", "content": [{"text": "x"}]}]), "messages.0.content.0.type: Field required"),
        (json!([{"role": "user", "content": [text("")]}]), "messages: text content blocks must be non-empty"),
        (
            json!([{"role": "user", "content": [{"type": "text", "text": "x", "signature": "y"}]}]),
            "messages.0.content.0.text.signature: Extra inputs are not permitted",
        ),
        (
            json!([{"role": "user", "content": [{"type": "reasoning"}]}]),
            "messages.0.content.0: Input tag 'reasoning' found using 'type' does not match any of the expected tags",
        ),
        (
            json!([user("x"), assistant(&[json!({"type": "text", "text": "y", "thought": true})])]),
            "messages.1.content.0.text.thought: Extra inputs are not permitted",
        ),
        (
            json!([{"role": "user", "content": [{"type": "thinking", "thinking": "", "signature": "x"}]}]),
            "messages.0: `thinking` blocks can only be in `assistant` messages",
        ),
        (
            json!([user("x"), assistant(&[json!({"type": "tool_result", "tool_use_id": "x"})])]),
            "messages.1: `tool_result` blocks can only be in `user` messages",
        ),
        (
            json!([user("x"), assistant(&[json!({"type": "tool_use", "id": "x", "name": "f", "input": "{}"})])]),
            "messages.1.content.0.tool_use.input: Input should be a valid dictionary",
        ),
    ];
    for (messages, message) in cases {
        refused(&post(&provider, PATH, &with(manual(&[]), "messages", messages)).await, message);
    }
    let body = manual(&[user("Go")]);
    for (field, message) in [
        ("model", "model: Field required"),
        ("max_tokens", "max_tokens: Field required"),
        ("messages", "messages: Field required"),
    ] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove(field);
        refused(&post(&provider, PATH, &body).await, message);
    }
    for (thinking, message) in [
        (json!({"type": "enabled"}), "thinking.enabled.budget_tokens: Field required"),
        (json!({"type": "adaptive", "effort": 1}), "thinking.adaptive.effort: Extra inputs are not permitted"),
        (
            json!({"type": "on"}),
            "thinking: Input tag 'on' found using 'type' does not match any of the expected tags: 'disabled', 'enabled', 'adaptive'",
        ),
    ] {
        refused(&post(&provider, PATH, &with(body.clone(), "thinking", thinking)).await, message);
    }
}

#[tokio::test]
async fn blocks_of_other_kinds_are_taken_as_they_are() {
    let provider = AnthropicProvider::new();
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    let assistant = assistant(&[
        json!({"type": "compaction", "content": null, "encrypted_content": "x"}),
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "bash_code_execution", "input": {}}),
        json!({"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {}}),
        json!({"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "f", "server_name": "s", "input": {}}),
        json!({"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "content": []}),
        json!({"type": "text", "text": "Done.", "citations": null}),
    ]);
    accepted(&ask(&provider, &[json!({"role": "user", "content": [image]}), assistant, user("On")]).await);
}

#[tokio::test]
async fn json_is_read_strictly() {
    let provider = AnthropicProvider::new();
    let (history, _) = first_step(&provider).await;
    let text = manual(&history).to_string();
    let raw = |text: String| {
        let request = Request::post(PATH).body(Full::new(Bytes::from(text))).unwrap();
        send(&provider, request)
    };
    accepted(&raw(text.clone()).await);
    let repeated = text.replace("\"signature\":", "\"signature\":\"x\",\"signature\":");
    refused(&raw(repeated).await, "The request body is not valid JSON: Key \"signature\" is given twice.");
    let answer = raw(text[..text.len() - 1].to_owned()).await;
    assert!(answer.json()["error"]["message"].as_str().unwrap().starts_with("The request body is not valid JSON: EOF"));
    let short = Request::post(PATH).header("content-length", "12").body(Full::new(Bytes::from(text.clone()))).unwrap();
    let message = format!("content-length is 12, but the body has {} bytes", text.len());
    refused(&send(&provider, short).await, &message);
}

#[tokio::test]
async fn a_count_is_checked_like_the_request_it_counts_for() {
    let provider = AnthropicProvider::new();
    let (mut history, blocks) = first_step(&provider).await;
    let issued = provider.issued().len();
    let mut body = manual(&history);
    body.as_object_mut().unwrap().remove("max_tokens");
    let count = "/v1/messages/count_tokens?beta=true";
    let answer = post(&provider, count, &body).await;
    accepted(&answer);
    assert!(answer.json()["input_tokens"].as_u64().unwrap() > 0);
    history[1] = assistant(&thoughtless(&blocks));
    refused(&post(&provider, count, &manual(&history)).await, &expected("messages.1.content.0", "text"));
    history[1] = assistant(&[with(blocks[0].clone(), "signature", json!("EqQB")), blocks[2].clone()]);
    refused(&post(&provider, count, &manual(&history)).await, &invalid("messages.1.content.0"));
    assert_eq!(provider.issued().len(), issued);
}
