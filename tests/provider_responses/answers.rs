//! What the provider says: its grammar, its scripts, its vendors.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::responses::*;

use crate::client::*;

const VENDORS: [Vendor; 8] = [
    Vendor::OpenAi,
    Vendor::Azure,
    Vendor::ChatGpt,
    Vendor::Copilot,
    Vendor::Xai,
    Vendor::OpenRouter,
    Vendor::BedrockMantle,
    Vendor::DeepSeek,
];

#[tokio::test]
async fn an_honest_client_gets_through_the_whole_loop_everywhere() {
    for vendor in VENDORS {
        for stream in [false, true] {
            for store in [false, true] {
                let provider = ResponsesProvider::builder().vendor(vendor).heavy_escapes(true).build();
                let more = json!({"stream": stream, "store": store, "include": ["reasoning.encrypted_content"]});
                let mut history = vec![user("How is the weather?")];
                for step in 0..7 {
                    let answer = ask_with(&provider, &history, more.clone()).await;
                    accepted(&answer);
                    let items = answer.output();
                    let back = outputs(&items);
                    assert_eq!(back.len(), [1, 2, 0][step % 3], "{vendor:?} {stream} {store} {step}");
                    let done = back.is_empty();
                    history.extend(items);
                    history.extend(back);
                    if done {
                        history.push(user("And tomorrow?"));
                    }
                }
                assert_eq!((provider.accepted(), provider.refused()), (7, 0));
                assert_eq!(provider.requests().pop().unwrap().genuine, 6, "{vendor:?} {stream} {store}");
            }
        }
    }
}

#[tokio::test]
async fn streams_have_the_order_and_framing_of_the_provider() {
    let provider = says([
        Say::reasoning(["**A**", "B"]),
        Say::call("f", json!({"x": 1})),
        Say::custom_tool_call("patch", "+x"),
        Say::web_search_call("w"),
        Say::phased_text("commentary", "Some <text> 東京."),
        Say::reasoning_text("Hm."),
    ])
    .build();
    let answer = ask_with(&provider, &[user("Go")], json!({"stream": true, "instructions": "Be short."})).await;
    assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
    assert!(answer.header("x-request-id").starts_with("req_"));
    let text = answer.text();
    assert!(text.starts_with("event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_"));
    assert!(text.ends_with("}\n\n") && !text.contains('\r') && !text.contains("[DONE]"));
    assert_eq!(answer.frames.len(), answer.events().len());
    let item = |inner: &[&str]| {
        let mut names = vec!["output_item.added"];
        names.extend(inner);
        names.push("output_item.done");
        names.iter().map(|name| format!("response.{name}")).collect::<Vec<_>>()
    };
    let summary = [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ];
    let expected: Vec<String> = [
        vec!["response.created".to_owned(), "response.in_progress".to_owned()],
        item(&[summary, summary].concat()),
        item(&["function_call_arguments.delta", "function_call_arguments.done"]),
        item(&["custom_tool_call_input.delta", "custom_tool_call_input.done"]),
        item(&["web_search_call.in_progress", "web_search_call.searching", "web_search_call.completed"]),
        item(&[
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
        ]),
        item(&["content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done"]),
        vec!["response.completed".to_owned()],
    ]
    .concat();
    assert_eq!(answer.types(), expected);
    for (number, event) in answer.events().iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let deltas: String = answer
        .of_type("response.output_text.delta")
        .iter()
        .map(|event| event["delta"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(deltas, "Some <text> 東京.");
    let done = &answer.of_type("response.output_text.done")[0];
    assert_eq!((&done["text"], &done["logprobs"]), (&json!("Some <text> 東京."), &json!([])));
    let added = answer.of_type("response.output_item.added");
    assert_eq!((&added[1]["item"]["arguments"], &added[1]["item"]["status"]), (&json!(""), &json!("in_progress")));
    assert_eq!(added[4]["item"]["content"], json!([]));
    let done = answer.output();
    assert_eq!(
        done[0]["summary"],
        json!([{"type": "summary_text", "text": "**A**"}, {"type": "summary_text", "text": "B"}])
    );
    assert_eq!((&done[1]["arguments"], &done[2]["input"]), (&json!("{\"x\":1}"), &json!("+x")));
    assert_eq!(done[5]["content"], json!([{"type": "reasoning_text", "text": "Hm."}]));
    for (item, prefix) in done.iter().zip(["rs_", "fc_", "ctc_", "ws_", "msg_", "rs_"]) {
        assert!(item["id"].as_str().unwrap().starts_with(prefix));
    }
    let completed = &answer.of_type("response.completed")[0]["response"];
    assert_eq!((&completed["status"], &completed["instructions"]), (&json!("completed"), &json!("Be short.")));
    assert_eq!((&completed["error"], &completed["store"]), (&Value::Null, &json!(true)));
    // In the whole response the items are the same, but for the ciphertext.
    let whole = completed["output"].as_array().unwrap();
    assert_eq!(without(whole, "encrypted_content"), without(&done, "encrypted_content"));
    let at = [&added[0]["item"], &done[0], &whole[0]].map(|item| item["encrypted_content"].as_str().unwrap());
    assert!(at[0].len() < at[1].len() && at[1].len() == at[2].len(), "{at:?}");
    assert!(at[1] != at[2] && at.iter().all(|text| text.starts_with("gAAAA")));
    let issued: Vec<String> = provider.issued().into_iter().map(|issued| issued.encrypted_content).collect();
    assert_eq!(issued, at);
}

#[tokio::test]
async fn a_document_holds_what_a_stream_ends_with() {
    let build = || says([Say::hidden_reasoning(), Say::text("Hello.")]).build();
    let answer = ask(&build(), &[user("Go")]).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.text().starts_with("{\n  \"id\": \"resp_"));
    let stream = ask_with(&build(), &[user("Go")], json!({"stream": true})).await;
    let whole = &stream.of_type("response.completed")[0]["response"];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&answer.json()), keys(whole));
    for (one, other) in answer.output().iter().zip(whole["output"].as_array().unwrap()) {
        assert_eq!(keys(one), keys(other));
    }
}

#[tokio::test]
async fn vendors_differ_in_the_ways_that_are_known() {
    let answer_of = |vendor| async move {
        let provider = ResponsesProvider::builder().vendor(vendor).build();
        let answer = ask_with(&provider, &[user("Go")], json!({"stream": true})).await;
        accepted(&answer);
        let added = answer.of_type("response.output_item.added")[0]["item"].clone();
        let done = answer.output();
        let completed = answer.of_type("response.completed")[0]["response"].clone();
        (answer, added, done, completed)
    };
    let cipher = "encrypted_content";
    let (_, _, _, completed) = answer_of(Vendor::ChatGpt).await;
    assert_eq!((&completed["output"], &completed["store"]), (&json!([]), &json!(false)));

    let (answer, _, done, completed) = answer_of(Vendor::Copilot).await;
    let mut ids: Vec<String> = answer
        .events()
        .iter()
        .filter_map(|event| event.get("item_id").or(event["item"].get("id")))
        .map(ToString::to_string)
        .collect();
    ids.extend(completed["output"].as_array().unwrap().iter().map(|item| item["id"].to_string()));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_ne!(answer.events()[0]["response"]["id"], answer.events()[1]["response"]["id"]);
    assert_eq!(done[1]["call_id"], completed["output"][1]["call_id"]);

    let (answer, added, done, completed) = answer_of(Vendor::Xai).await;
    assert!(added.get(cipher).is_none());
    assert_eq!(done[0][cipher], completed["output"][0][cipher]);
    assert!(answer.text().contains("\n\n: keepalive\n\nevent: response.output_item.added\n"));
    assert_eq!(done[0]["status"], "completed");

    let (answer, _, _, _) = answer_of(Vendor::OpenRouter).await;
    assert!(answer.text().starts_with("data: {\"type\":\"response.created\""));
    assert!(answer.text().ends_with("}\n\ndata: [DONE]\n\n") && !answer.text().contains("event:"));
    assert!(answer.text().contains("\n\n: OPENROUTER PROCESSING\n\n"));

    let (_, added, done, completed) = answer_of(Vendor::BedrockMantle).await;
    assert!(added[cipher].as_str().unwrap().starts_with("rsn_"));
    assert!(added[cipher] == done[0][cipher] && done[0][cipher] == completed["output"][0][cipher]);

    let (answer, _, done, _) = answer_of(Vendor::DeepSeek).await;
    assert!(answer.types().contains(&"response.reasoning_text.delta".to_owned()));
    assert!(done[0].get(cipher).is_none() && !done[0]["id"].as_str().unwrap().starts_with("rs_"));
}

#[tokio::test]
async fn keepalives_may_be_events() {
    let provider = ResponsesProvider::builder().keepalives(Keepalives::Events).build();
    let answer = ask_with(&provider, &[user("Go")], json!({"stream": true})).await;
    let events = answer.of_type("keepalive");
    assert_eq!(events.len(), 3);
    assert_eq!(events[0], json!({"type": "keepalive", "sequence_number": 2}));
    assert!(answer.text().contains("event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":2}\n\n"));
}

#[tokio::test]
async fn ciphertexts_may_have_to_be_asked_for() {
    let provider = ResponsesProvider::builder().only_if_included(true).build();
    let mut history = first_step(&provider, json!({})).await;
    assert!(history[1].get("encrypted_content").is_none() && provider.issued().is_empty());
    // Then the item is only a reference.
    accepted(&ask(&provider, &history).await);
    assert_eq!(ask_stateless(&provider, &history).await.status, StatusCode::NOT_FOUND);
    history = first_step(&provider, json!({"include": ["reasoning.encrypted_content"], "store": false})).await;
    assert!(history[1]["encrypted_content"].is_string());
    let large = ResponsesProvider::builder().ciphertext_size(300 << 10).seed(7).build();
    let history = first_step(&large, json!({})).await;
    assert!(history[1]["encrypted_content"].as_str().unwrap().len() >= 400 << 10);
    let same = first_step(&ResponsesProvider::builder().ciphertext_size(300 << 10).seed(7).build(), json!({})).await;
    assert_eq!(history, same);
}

#[tokio::test]
async fn turns_may_end_otherwise() {
    let says = || [Say::hidden_reasoning(), Say::text("It ra")];
    let provider = script([Turn::new(says()).incomplete("max_output_tokens")]).build();
    for stream in [true, false] {
        let answer = ask_with(&provider, &[user("Go")], json!({ "stream": stream })).await;
        let whole = match stream {
            true => answer.of_type("response.incomplete")[0]["response"].clone(),
            false => answer.json(),
        };
        assert_eq!(whole["status"], "incomplete");
        assert_eq!(whole["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(whole["output"][1]["status"], "incomplete");
        assert_eq!(answer.output()[1]["status"], "incomplete");
        assert_eq!(answer.status, StatusCode::OK);
    }
    let provider = script([Turn::new(says()).failed("server_error", "Out of order.")]).build();
    let answer = ask_with(&provider, &[user("Go")], json!({"stream": true})).await;
    let whole = &answer.of_type("response.failed")[0]["response"];
    assert_eq!(
        (&whole["status"], &whole["error"]),
        (&json!("failed"), &json!({"code": "server_error", "message": "Out of order."}))
    );
    assert!(answer.types().last().unwrap() == "response.failed");
    let empty = script([]).build();
    assert_eq!(ask(&empty, &[user("Go")]).await.json()["output"], json!([]));
}

#[tokio::test]
async fn scripts_may_look_at_the_request() {
    let script =
        Script::from_fn(|body| Turn::new([Say::text(body["input"][0]["content"].as_str().unwrap_or_default())]));
    let provider = ResponsesProvider::builder().script(script).build();
    assert_eq!(ask(&provider, &[user("Echo")]).await.output()[0]["content"][0]["text"], "Echo");
}

#[tokio::test]
async fn a_turn_counts_once_however_it_comes_back() {
    let provider = ResponsesProvider::new();
    let mut history = first_step(&provider, json!({})).await;
    let items = ask(&provider, &history).await.output();
    let back = outputs(&items);
    // Two parallel calls, each followed by its own output, are still one turn.
    history.extend(items[..2].iter().cloned());
    history.extend([back[0].clone(), items[2].clone(), back[1].clone()]);
    let answer = ask(&provider, &history).await;
    accepted(&answer);
    assert_eq!(answer.output()[1]["type"], "message");
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let provider = ResponsesProvider::new();
    let hello = body(&[user("Hello")], &json!({}));
    for path in ["/", "/v1/chat/completions", "/v1/responses/resp_1"] {
        let answer = post(&provider, path, &hello).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["error"]["message"], format!("Invalid URL (POST {path})"));
    }
    let get = Request::get(PATH).body(Full::default()).unwrap();
    assert_eq!(send(&provider, get).await.status, StatusCode::NOT_FOUND);
    for path in ["/responses", "/backend-api/codex/responses", "/openai/responses?api-version=1", "/api/v1/responses"] {
        accepted(&post(&provider, path, &hello).await);
    }
}
