//! Reasoning in clear text: where it is demanded, and how it is counted.

use http::StatusCode;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::chat::*;

use crate::client::*;

const DEEPSEEK: &str = "The `reasoning_content` in the thinking mode must be passed back to the API.";

fn turns() -> [Turn; 2] {
    [
        Turn::new([Say::reasoning("Look first."), Say::call("f", json!({"a": 1}))]),
        Turn::new([Say::reasoning("Done."), Say::text("Yes.")]),
    ]
}

/// Two whole turns and the question after them.
async fn conversation(provider: &ChatProvider) -> Vec<Value> {
    let mut history = first_step(provider, "m").await;
    let answer = ask(provider, &history).await;
    accepted(&answer);
    history.extend([answer.message(0), user("And now?")]);
    history
}

#[tokio::test]
async fn deepseek_demands_it_of_every_message_if_there_are_tools() {
    let provider = script(turns()).build();
    let history = conversation(&provider).await;
    accepted(&ask(&provider, &history).await);
    for at in [1, 3] {
        let mut stripped = history.clone();
        stripped[at] = without(&history[at], "reasoning_content");
        let answer = ask(&provider, &stripped).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            answer.text(),
            format!(
                r#"{{"error":{{"message":"{DEEPSEEK}","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}}}"#
            )
        );
        // Without tools nobody asks for it.
        accepted(&post(&provider, &without(&body("m", &stripped), "tools")).await);
        stripped[at]["reasoning_content"] = Value::Null;
        refused(&ask(&provider, &stripped).await, DEEPSEEK);
        // It is only its presence that counts.
        stripped[at]["reasoning_content"] = json!("");
        accepted(&ask(&provider, &stripped).await);
        // The name of another provider's field does not do.
        stripped[at] = without(&history[at], "reasoning_content");
        stripped[at]["reasoning"] = json!("Look first.");
        refused(&ask(&provider, &stripped).await, DEEPSEEK);
    }
}

#[tokio::test]
async fn an_older_deepseek_demands_it_of_calls_only() {
    let provider = script(turns()).demand(Demand::ToolCalls).build();
    let mut history = conversation(&provider).await;
    history[3] = without(&history[3], "reasoning_content");
    accepted(&ask(&provider, &history).await);
    history[1] = without(&history[1], "reasoning_content");
    refused(&ask(&provider, &history).await, DEEPSEEK);
    accepted(&ask(&script(turns()).demand(Demand::Nothing).build(), &history).await);
}

#[tokio::test]
async fn empty_reasoning_counts_when_it_was_empty() {
    let provider = says(Flavour::DeepSeek, [Say::empty_reasoning(), Say::call("f", json!({}))]).build();
    let mut history = first_step(&provider, "m").await;
    assert_eq!(history[1]["reasoning_content"], "");
    accepted(&ask(&provider, &history).await);
    assert_eq!((provider.restored(), provider.altered()), (1, 0));
    history[1] = without(&history[1], "reasoning_content");
    refused(&ask(&provider, &history).await, DEEPSEEK);
    assert_eq!(provider.missing(), 1);
}

#[tokio::test]
async fn split_calls_need_it_on_every_message() {
    let turn = [Say::reasoning("Both."), Say::calls([("f", json!({"a": 1})), ("f", json!({"a": 2}))])];
    let provider = says(Flavour::DeepSeek, turn).build();
    let history = first_step(&provider, "m").await;
    let part = |at: usize| {
        let mut message = history[1].clone();
        message["tool_calls"] = json!([history[1]["tool_calls"][at]]);
        message
    };
    let split = [user("Go"), part(0), history[2].clone(), part(1), history[3].clone()];
    accepted(&ask(&provider, &split).await);
    assert_eq!(provider.restored(), 2);
    let mut stripped = split;
    stripped[3] = without(&stripped[3], "reasoning_content");
    refused(&ask(&provider, &stripped).await, DEEPSEEK);
}

#[tokio::test]
async fn kimi_names_the_message() {
    let provider = script(turns()).flavour(Flavour::Kimi).build();
    let mut history = conversation(&provider).await;
    history[3] = without(&history[3], "reasoning_content");
    accepted(&ask(&provider, &history).await);
    history[1] = without(&history[1], "reasoning_content");
    let answer = ask(&provider, &history).await;
    let message = "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1";
    assert_eq!(answer.json(), json!({"error": {"message": message, "type": "invalid_request_error"}}));
    history[1]["reasoning_content"] = json!("");
    accepted(&ask(&provider, &history).await);
}

#[tokio::test]
async fn relays_of_kimi_have_their_own_words() {
    let kimi = || script(turns()).flavour(Flavour::Kimi);
    let provider = kimi().empty_is_missing(true).refusals(Refusals::WorkBuddy).build();
    let mut history = first_step(&provider, "m").await;
    accepted(&ask(&provider, &history).await);
    history[1]["reasoning_content"] = json!("");
    let text = ask(&provider, &history).await.text();
    assert_eq!(
        text,
        r#"{"code":11155,"message":"the reasoning content from the previous turn must be passed back in thinking mode"}"#
    );
    history[1]["reasoning_content"] = json!(" ");
    accepted(&ask(&provider, &history).await);
    history[1] = without(&history[1], "reasoning_content");
    let answer = ask(&kimi().refusals(Refusals::SiliconFlow).build(), &history).await;
    assert_eq!((&answer.json()["code"], &answer.json()["data"]), (&json!(20015), &Value::Null));
    refused(&answer, "at index 1");
}

#[tokio::test]
async fn mimo_hides_it_in_the_param() {
    let mimo = |form| script(turns()).flavour(Flavour::MiMo).refusals(form).build();
    let provider = mimo(Refusals::Native);
    let mut history = first_step(&provider, "m").await;
    accepted(&ask(&provider, &history).await);
    history[1] = without(&history[1], "reasoning_content");
    let answer = ask(&provider, &history).await;
    let param = "The reasoning_content in the thinking mode must be passed back to the API.";
    let error = json!({"error": {"code": "400", "message": "Param Incorrect", "param": param, "type": ""}});
    assert_eq!((answer.status, answer.json()), (StatusCode::BAD_REQUEST, error.clone()));
    let answer = ask_stream(&provider, &history).await;
    assert_eq!(serde_json::from_str::<Value>(answer.text().strip_prefix("data:").unwrap()).unwrap(), error);
    let answer = ask(&mimo(Refusals::Relayed { status: 502 }), &history).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains(param));
}

#[tokio::test]
async fn refusals_come_in_every_form() {
    let deepseek = |form| script(turns()).refusals(form).build();
    let provider = deepseek(Refusals::Native);
    let mut history = first_step(&provider, "m").await;
    history[1] = without(&history[1], "reasoning_content");
    assert_eq!(ask(&provider, &history).await.header("content-type"), "application/json");
    let answer = ask(&deepseek(Refusals::OctetStream), &history).await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    refused(&answer, DEEPSEEK);
    let answer = ask(&deepseek(Refusals::OpenRouter { status: 429 }), &history).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let raw = answer.json()["error"]["metadata"]["raw"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap()["error"]["message"], DEEPSEEK);
    let broken = deepseek(Refusals::StreamEvent { after: 2 });
    let answer = ask_stream(&broken, &history).await;
    accepted(&answer);
    let chunks = answer.chunks();
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[2]["error"]["message"], DEEPSEEK);
    assert_eq!(broken.refused(), 1);
    // What is no stream cannot break off.
    refused(&ask(&broken, &history).await, DEEPSEEK);
    assert_eq!(broken.requests()[0].refusal.as_deref(), Some(DEEPSEEK));
}

#[tokio::test]
async fn those_who_do_not_refuse_count() {
    for (flavour, field) in [
        (Flavour::Glm, "reasoning_content"),
        (Flavour::Qwen, "reasoning_content"),
        (Flavour::LlamaCpp, "reasoning_content"),
        (Flavour::Groq, "reasoning"),
        (Flavour::Cerebras, "reasoning"),
        (Flavour::Ollama, "reasoning"),
        (Flavour::Vllm, "reasoning"),
    ] {
        let provider = script(turns()).flavour(flavour).build();
        let counts = || (provider.restored(), provider.altered(), provider.missing());
        let history = conversation(&provider).await;
        assert_eq!(counts(), (1, 0, 0), "{flavour:?}");
        accepted(&ask(&provider, &history).await);
        assert_eq!(counts(), (3, 0, 0));
        let mut changed = history.clone();
        changed[1][field] = json!("Look  first.");
        accepted(&ask(&provider, &changed).await);
        assert_eq!(counts(), (4, 1, 0));
        // What was thought elsewhere is not what was thought here.
        changed[1][field] = history[3][field].clone();
        accepted(&ask(&provider, &changed).await);
        assert_eq!(counts(), (5, 2, 0));
        changed[1] = without(&history[1], field);
        accepted(&ask(&provider, &changed).await);
        assert_eq!(counts(), (6, 2, 1));
        assert_eq!(provider.requests().pop().unwrap().genuine, 1);
        // Another provider's answers are nobody's business.
        let foreign = json!({"role": "assistant", "content": "Other.", field: "Elsewhere."});
        accepted(&ask(&provider, &[user("Go"), foreign, user("On")]).await);
        assert_eq!(counts(), (6, 2, 1));
        // But what was thought here does not belong there.
        let moved = json!({"role": "assistant", "content": "Other.", field: history[1][field]});
        accepted(&ask(&provider, &[user("Go"), moved, user("On")]).await);
        assert_eq!(counts(), (6, 3, 1));
        provider.revoke_state();
        accepted(&ask(&provider, &history).await);
        assert_eq!(counts(), (6, 3, 1));
        assert_eq!(provider.refused(), 0);
    }
}

#[tokio::test]
async fn minimax_counts_whole_entries() {
    let provider = script(turns()).flavour(Flavour::MiniMax).build();
    let counts = || (provider.restored(), provider.altered(), provider.missing());
    let mut history = conversation(&provider).await;
    accepted(&ask(&provider, &history).await);
    assert_eq!(counts(), (3, 0, 0));
    history[1]["reasoning_details"][0]["format"] = json!("unknown");
    history[3] = without(&history[3], "reasoning_details");
    accepted(&ask(&provider, &history).await);
    assert_eq!(counts(), (3, 1, 1));
    let details = provider.issued()[0].message["reasoning_details"].clone();
    let mut other = json!({"role": "assistant", "content": "Other.", "reasoning_details": details});
    accepted(&ask(&provider, &[user("Go"), other.clone(), user("On")]).await);
    assert_eq!(counts(), (3, 2, 1));
    other["reasoning_details"][0]["text"] = json!("Elsewhere.");
    accepted(&ask(&provider, &[user("Go"), other, user("On")]).await);
    assert_eq!(counts(), (3, 2, 1));
}

#[tokio::test]
async fn ids_tell_equal_calls_apart() {
    let turn = |thought: &str| Turn::new([Say::reasoning(thought), Say::call("f", json!({}))]);
    let provider = script([turn("First."), turn("Second.")]).flavour(Flavour::Glm).build();
    let mut history = first_step(&provider, "m").await;
    let message = ask(&provider, &history).await.message(0);
    history.extend(std::iter::once(message.clone()).chain(results(&message)));
    let before = provider.restored();
    accepted(&ask(&provider, &history).await);
    assert_eq!((provider.restored() - before, provider.altered()), (2, 0));
    history[1]["reasoning_content"] = json!("Second.");
    history[3]["reasoning_content"] = json!("First.");
    accepted(&ask(&provider, &history).await);
    assert_eq!((provider.restored() - before, provider.altered()), (2, 2));
}

#[tokio::test]
async fn ids_and_the_spelling_of_arguments_may_change() {
    let provider = script([Turn::new([Say::reasoning("Hm."), Say::call("f", json!({"a": 1, "b": [2]}))])])
        .flavour(Flavour::Glm)
        .build();
    let mut history = first_step(&provider, "m").await;
    history[1]["tool_calls"][0]["id"] = json!("mine");
    history[1]["tool_calls"][0]["function"]["arguments"] = json!("{ \"b\": [2.0], \"a\": 1 }");
    history[2]["tool_call_id"] = json!("mine");
    accepted(&ask(&provider, &history).await);
    assert_eq!((provider.restored(), provider.altered()), (1, 0));
}
