//! What the provider says: its grammar, its scripts, its endpoints.

use http::StatusCode;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::anthropic::*;

use crate::client::*;

#[tokio::test]
async fn an_honest_client_gets_through_the_whole_loop_everywhere() {
    for path in [PATH, "/v1/messages?beta=true", "/anthropic/v1/messages", "/api/v1/messages"] {
        for stream in [false, true] {
            for (model, shape) in [
                (SONNET, manual as fn(&[Value]) -> Value),
                (SONNET, adaptive),
                ("claude-sonnet-5", adaptive),
                (FABLE, adaptive),
            ] {
                let provider = AnthropicProvider::builder().heavy_escapes(true).signature_piece(100).build();
                let mut history = vec![user("How is the weather?")];
                for step in 0..7 {
                    let body = with(with(shape(&history), "model", json!(model)), "stream", json!(stream));
                    let answer = post(&provider, path, &body).await;
                    accepted(&answer);
                    assert_eq!(answer.is_stream(), stream);
                    let blocks = answer.content();
                    let back = results(&blocks);
                    let calls = back["content"].as_array().unwrap().len();
                    assert_eq!(calls, [1, 2, 0][step % 3], "{path} {model} {step}");
                    let reason = if calls > 0 { "tool_use" } else { "end_turn" };
                    assert_eq!(answer.message()["stop_reason"], reason);
                    history.push(assistant(&blocks));
                    history.push(if calls > 0 { back } else { user("And tomorrow?") });
                }
                assert_eq!((provider.accepted(), provider.refused()), (7, 0));
                // Every block that came is in the history, and every one of them fits.
                let last = provider.requests().pop().unwrap();
                assert_eq!(last.genuine, provider.issued().len() - 1);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_has_the_events_of_the_real_one() {
    let provider = says([
        Say::thinking("Hm, 東京."),
        Say::redacted(),
        Say::hidden_thinking(),
        Say::text("It rains."),
        Say::tool_use("f", json!({})),
    ])
    .text_piece(100)
    .build();
    let answer = post(&provider, PATH, &with(manual(&[user("Go")]), "stream", json!(true))).await;
    let events = answer.events();
    let kinds: Vec<String> = events
        .iter()
        .map(|event| {
            let inner = event["delta"]["type"].as_str().or(event["content_block"]["type"].as_str());
            format!("{} {}", event["type"].as_str().unwrap(), inner.unwrap_or_default()).trim().to_owned()
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start thinking",
            "ping",
            "content_block_delta thinking_delta",
            "content_block_delta signature_delta",
            "content_block_stop",
            "content_block_start redacted_thinking",
            "content_block_stop",
            "content_block_start thinking",
            "content_block_delta signature_delta",
            "content_block_stop",
            "content_block_start text",
            "content_block_delta text_delta",
            "content_block_stop",
            "content_block_start tool_use",
            "content_block_delta input_json_delta",
            "content_block_delta input_json_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(events[1]["content_block"], json!({"type": "thinking", "thinking": "", "signature": ""}));
    assert_eq!(
        (&events[15]["delta"]["partial_json"], &events[16]["delta"]["partial_json"]),
        (&json!(""), &json!("{}"))
    );
    assert!(answer.text().contains(
        r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}

"#
    ));
    let start = &events[0]["message"];
    assert!(start["id"].as_str().unwrap().starts_with("msg_01"));
    assert_eq!((&start["content"], &start["stop_reason"]), (&json!([]), &Value::Null));
    let blocks = answer.content();
    assert!(blocks[1]["data"].as_str().unwrap().starts_with('E'));
    assert_eq!(blocks[2]["thinking"], "");
    assert!(blocks[2]["signature"].as_str().unwrap().starts_with('E'));
    assert!(blocks[4]["id"].as_str().unwrap().starts_with("toolu_01"));
    let kinds: Vec<IssuedKind> = provider.issued().iter().map(|issued| issued.kind).collect();
    assert_eq!(kinds, [IssuedKind::Thinking, IssuedKind::Redacted, IssuedKind::Thinking]);
    // Back they come.
    accepted(&ask(&provider, &[user("Go"), assistant(&blocks), results(&blocks)]).await);
}

#[tokio::test]
async fn signatures_may_come_in_pieces() {
    let build = |size| says([Say::thinking("Hm."), Say::text("Yes.")]).signature_piece(size).build();
    let body = with(manual(&[user("Go")]), "stream", json!(true));
    for size in [0, 1, 100] {
        let provider = build(size);
        let answer = post(&provider, PATH, &body).await;
        let pieces = answer.events().iter().filter(|event| event["delta"]["type"] == "signature_delta").count();
        let blocks = answer.content();
        let signature = blocks[0]["signature"].as_str().unwrap();
        assert_eq!(signature, provider.issued()[0].signature);
        assert_eq!(pieces, signature.len().div_ceil(size.max(1)));
        accepted(&ask(&provider, &[user("Go"), assistant(&blocks), user("On")]).await);
    }
}

#[tokio::test]
async fn searches_have_encrypted_content_that_is_wanted_back() {
    let provider =
        says([Say::thinking("Hm."), Say::web_search("weather"), Say::thinking("Ah."), Say::text("It rains.")]).build();
    for stream in [false, true] {
        let body = with(manual(&[user("Go")]), "stream", json!(stream));
        let blocks = post(&provider, PATH, &body).await.content();
        let kinds: Vec<&str> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["thinking", "server_tool_use", "web_search_tool_result", "thinking", "text"]);
        assert_eq!(blocks[1]["input"], json!({"query": "weather"}));
        assert_eq!(blocks[1]["id"], blocks[2]["tool_use_id"]);
        let history = |blocks: &[Value]| [user("Go"), assistant(blocks), user("On")];
        accepted(&ask(&provider, &history(&blocks)).await);
        let mut changed = blocks.clone();
        changed[2]["content"][0]["encrypted_content"] = json!("EqQB");
        let message = "messages.1.content.2: Invalid `encrypted_content` in `search_result` block";
        refused(&ask(&provider, &history(&changed)).await, message);
        changed[2]["content"][0].as_object_mut().unwrap().remove("encrypted_content");
        let message = "messages.1.content.2.web_search_tool_result.content.0.encrypted_content: Field required";
        refused(&ask(&provider, &history(&changed)).await, message);
        changed = blocks.clone();
        let id = changed.remove(2)["tool_use_id"].as_str().unwrap().to_owned();
        let message = format!(
            "messages.1.content.1: `web_search` tool use with id `{id}` was found without a corresponding `web_search_tool_result` block"
        );
        refused(&ask(&provider, &history(&changed)).await, &message);
    }
}

#[tokio::test]
async fn vertex_has_its_own_paths_and_ids() {
    let provider = AnthropicProvider::new();
    let mut body = manual(&[user("Go")]);
    body.as_object_mut().unwrap().remove("model");
    body["anthropic_version"] = json!("vertex-2023-10-16");
    let path = |method: &str| format!("{VERTEX}/claude-sonnet-4-5@20250929:{method}");
    let whole = post(&provider, &path("rawPredict"), &body).await;
    accepted(&whole);
    assert!(!whole.is_stream());
    assert!(whole.json()["id"].as_str().unwrap().starts_with("msg_vrtx_"));
    assert_eq!(whole.json()["model"], "claude-sonnet-4-5@20250929");
    let stream = post(&provider, &path("streamRawPredict"), &body).await;
    assert!(stream.is_stream());
    let blocks = stream.content();
    assert!(blocks[2]["id"].as_str().unwrap().starts_with("toolu_vrtx_"));
    // The blocks are valid at the other endpoint too.
    accepted(&ask(&provider, &[user("Go"), assistant(&blocks), results(&blocks)]).await);
    let count = with(body, "model", json!(SONNET));
    accepted(&post(&provider, &format!("{VERTEX}/count-tokens:rawPredict"), &count).await);
    let refusal = post(&provider, &path("rawPredict"), &json!({"max_tokens": 1, "messages": []})).await;
    refused(&refusal, "messages: at least one message is required");
    assert!(refusal.header("request-id").starts_with("req_vrtx_"));
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let provider = AnthropicProvider::new();
    for path in ["/", "/v1/messages/batches", "/v1/complete"] {
        let answer = post(&provider, path, &manual(&[user("Go")])).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["error"]["type"], "not_found_error");
    }
}

#[tokio::test]
async fn scripts_go_by_turn_or_by_request() {
    let provider = AnthropicProvider::builder()
        .script(Script::from_fn(|body| {
            Turn::new([Say::text(format!("{} messages", body["messages"].as_array().unwrap().len()))])
                .stop_reason("max_tokens")
        }))
        .build();
    let answer = ask(&provider, &[user("A"), user("B")]).await.message();
    assert_eq!((&answer["content"][0]["text"], &answer["stop_reason"]), (&json!("2 messages"), &json!("max_tokens")));
    assert_eq!(ask(&script([]).build(), &[user("A")]).await.content(), Vec::<Value>::new());
}

#[tokio::test]
async fn thinking_follows_the_mode() {
    let kinds =
        |blocks: Vec<Value>| blocks.iter().map(|block| block["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let provider = says([Say::text("Look: "), Say::tool_use("f", json!({}))]).build();
    // In manual mode it always thinks before it calls.
    assert_eq!(kinds(ask(&provider, &[user("Go")]).await.content()), ["thinking", "text", "tool_use"]);
    let free = post(&provider, PATH, &adaptive(&[user("Go")])).await.content();
    assert_eq!(kinds(free), ["text", "tool_use"]);
    // Without being asked it does not think, unless that is its way.
    let mut body = adaptive(&[user("Go")]);
    body.as_object_mut().unwrap().remove("thinking");
    let build = || says([Say::thinking("Hm."), Say::redacted(), Say::text("Yes.")]);
    for (builder, model, thinks) in [
        (build(), SONNET, false),
        (build(), "claude-sonnet-5", true),
        (build().think_by_default(true), SONNET, true),
        (build().think_by_default(false), "claude-sonnet-5", false),
        (build().think_unasked(true), SONNET, true),
    ] {
        let provider = builder.build();
        let body = with(body.clone(), "model", json!(model));
        let blocks = post(&provider, PATH, &body).await.content();
        assert_eq!(blocks.len(), if thinks { 3 } else { 1 }, "{model}");
    }
    let hidden = with(body, "thinking", json!({"type": "adaptive", "display": "omitted"}));
    let provider = build().build();
    let blocks = post(&provider, PATH, &hidden).await.content();
    assert_eq!(blocks[0]["thinking"], "");
    accepted(&ask(&provider, &[user("Go"), assistant(&blocks), user("On")]).await);
}

#[tokio::test]
async fn a_paused_turn_is_continued_within_one_message() {
    let provider = script([
        Turn::new([Say::thinking("Long."), Say::web_search("a")]).stop_reason("pause_turn"),
        Turn::new([Say::thinking("Longer."), Say::text("There.")]),
    ])
    .build();
    let first = ask(&provider, &[user("Go")]).await;
    assert_eq!(first.message()["stop_reason"], "pause_turn");
    let (first, paused) = (first.content(), [user("Go"), assistant(&first.content())]);
    // The script goes by turns, of which this is the second.
    let second = ask(&provider, &paused).await.content();
    assert_eq!(second[1]["text"], "There.");
    let apart = [user("Go"), assistant(&first), assistant(&second), user("On")];
    let joined = [user("Go"), assistant(&[first, second].concat()), user("On")];
    accepted(&ask(&provider, &apart).await);
    accepted(&ask(&provider, &joined).await);
}
