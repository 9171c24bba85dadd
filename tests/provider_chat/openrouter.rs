//! `reasoning_details` come back whole, unmodified, in order and once.

use http::StatusCode;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::chat::*;

use crate::client::*;

const CLAUDE: &str = "anthropic/claude";
const GEMINI: &str = "google/gemini-3";
const GPT: &str = "openai/gpt";

fn provider() -> ChatProvider {
    ChatProvider::builder().flavour(Flavour::OpenRouter).build()
}

/// The history of the first two steps of the default script.
async fn two_steps(provider: &ChatProvider, model: &str) -> Vec<Value> {
    let mut history = first_step(provider, model).await;
    let answer = post(provider, &body(model, &history)).await;
    accepted(&answer);
    let message = answer.message(0);
    let results = results(&message);
    history.push(message);
    history.extend(results);
    history
}

/// What the upstream said of this history.
async fn raw(provider: &ChatProvider, model: &str, history: &[Value]) -> String {
    let answer = post(provider, &body(model, history)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!((&error["message"], &error["code"]), (&json!("Provider returned error"), &json!(400)));
    assert!(error["metadata"]["provider_name"].is_string());
    let raw = error["metadata"]["raw"].as_str().unwrap();
    serde_json::from_str::<Value>(raw).unwrap()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn they_must_be_there() {
    for (model, message) in [
        (CLAUDE, "Expected `thinking` or `redacted_thinking`, but found `tool_use`"),
        (GEMINI, "Function call is missing a thought_signature"),
        (GPT, "without its required 'reasoning' item"),
        ("x-ai/grok", "without its required 'reasoning' item"),
        ("minimax/m", "The `reasoning_details` in the thinking mode must be passed back"),
    ] {
        let provider = provider();
        let mut history = two_steps(&provider, model).await;
        accepted(&post(&provider, &body(model, &history)).await);
        history[3] = without(&history[3], "reasoning_details");
        let said = raw(&provider, model, &history).await;
        assert!(said.contains(message), "{said}");
        let lenient = ChatProvider::builder().flavour(Flavour::OpenRouter).demand(Demand::Nothing).build();
        let mut history = two_steps(&lenient, model).await;
        history[1] = without(&history[1], "reasoning_details");
        accepted(&post(&lenient, &body(model, &history)).await);
        assert_eq!(lenient.missing(), 1);
    }
}

#[tokio::test]
async fn they_must_be_as_they_were() {
    for (model, message) in [
        (CLAUDE, "Invalid `signature` in `thinking` block"),
        (GEMINI, "Corrupted thought signature."),
        (GPT, "could not be verified"),
        ("deepseek/d", "were not issued"),
    ] {
        for field in ["text", "summary", "signature", "data", "format", "index", "type", "id"] {
            let provider = provider();
            let mut history = first_step(&provider, model).await;
            let Some(value) = history[1]["reasoning_details"][0].get_mut(field) else {
                continue;
            };
            *value = json!("changed");
            let said = raw(&provider, model, &history).await;
            assert!(said.contains(message), "{said}");
            assert_eq!(provider.altered(), 1);
        }
    }
}

#[tokio::test]
async fn unknown_fields_belong_to_them() {
    let provider = ChatProvider::builder().flavour(Flavour::OpenRouter).unknown_fields(true).build();
    let mut history = first_step(&provider, CLAUDE).await;
    accepted(&post(&provider, &body(CLAUDE, &history)).await);
    history[1]["reasoning_details"][0].as_object_mut().unwrap().remove("provider_note").unwrap();
    raw(&provider, CLAUDE, &history).await;
}

#[tokio::test]
async fn they_keep_their_order_and_their_number() {
    let turn = [Say::reasoning("One."), Say::reasoning("Two."), Say::call("f", json!({}))];
    for model in [CLAUDE, GPT] {
        let provider = says(Flavour::OpenRouter, turn.clone()).build();
        let history = first_step(&provider, model).await;
        let message = if model == CLAUDE { "cannot be modified" } else { "is not the one that was issued" };
        let mut turned = history.clone();
        turned[1]["reasoning_details"].as_array_mut().unwrap().reverse();
        assert!(raw(&provider, model, &turned).await.contains(message));
        let mut shorter = history.clone();
        shorter[1]["reasoning_details"].as_array_mut().unwrap().pop();
        assert!(raw(&provider, model, &shorter).await.contains(message));
    }
}

#[tokio::test]
async fn fragments_must_be_merged() {
    let provider = provider();
    let answer = post(&provider, &streamed(body(CLAUDE, &[user("Go")]))).await;
    let message = answer.message(0);
    let mut history = vec![user("Go"), message.clone()];
    history.extend(results(&message));
    accepted(&post(&provider, &body(CLAUDE, &history)).await);
    let fragments = answer.deltas(0).into_iter().filter_map(|delta| delta["reasoning_details"].as_array().cloned());
    history[1]["reasoning_details"] = fragments.flatten().collect();
    raw(&provider, CLAUDE, &history).await;
}

#[tokio::test]
async fn they_come_once_in_a_request() {
    for (model, message) in [
        (GPT, "Duplicate item found with id rs_"),
        (GEMINI, "Duplicate item found with id tool_"),
        (CLAUDE, "cannot be modified"),
    ] {
        let turn = [Say::reasoning("Both."), Say::calls([("f", json!({"a": 1})), ("f", json!({"a": 2}))])];
        let provider = says(Flavour::OpenRouter, turn).build();
        let history = first_step(&provider, model).await;
        let part = |at: usize| {
            let mut message = history[1].clone();
            message["tool_calls"] = json!([history[1]["tool_calls"][at]]);
            message
        };
        let once =
            [user("Go"), part(0), history[2].clone(), without(&part(1), "reasoning_details"), history[3].clone()];
        accepted(&post(&provider, &body(model, &once)).await);
        assert_eq!((provider.restored(), provider.missing()), (1, 0), "{model}");
        let twice = [user("Go"), part(0), history[2].clone(), part(1), history[3].clone()];
        let said = raw(&provider, model, &twice).await;
        assert!(said.contains(message), "{said}");
        let mut within = history.clone();
        let entry = within[1]["reasoning_details"][0].clone();
        within[1]["reasoning_details"].as_array_mut().unwrap().push(entry);
        raw(&provider, model, &within).await;
        let neither = once.map(|mut message| {
            message.as_object_mut().unwrap().remove("reasoning_details");
            message
        });
        raw(&provider, model, &neither).await;
    }
}

#[tokio::test]
async fn they_stay_with_their_message() {
    for model in [CLAUDE, GEMINI, GPT] {
        let provider = provider();
        let mut history = two_steps(&provider, model).await;
        let (one, other) = (history[1]["reasoning_details"].clone(), history[3]["reasoning_details"].clone());
        history[1]["reasoning_details"] = other;
        history[3]["reasoning_details"] = one;
        raw(&provider, model, &history).await;
        assert_eq!(provider.altered(), 2);
    }
}

#[tokio::test]
async fn an_empty_list_means_something() {
    let provider = says(Flavour::OpenRouter, [Say::empty_reasoning(), Say::call("f", json!({}))]).build();
    let history = first_step(&provider, "deepseek/d").await;
    assert_eq!(history[1]["reasoning_details"], json!([]));
    accepted(&post(&provider, &body("deepseek/d", &history)).await);
    let mut stripped = history.clone();
    stripped[1] = without(&history[1], "reasoning_details");
    raw(&provider, "deepseek/d", &stripped).await;
    // Where nothing was thought, nothing is missing.
    let provider = says(Flavour::OpenRouter, [Say::call("f", json!({}))]).build();
    let history = first_step(&provider, "deepseek/d").await;
    assert!(history[1].get("reasoning_details").is_none());
    accepted(&post(&provider, &body("deepseek/d", &history)).await);
    assert_eq!(provider.missing(), 0);
}

#[tokio::test]
async fn equal_answers_do_not_lend_each_other_their_details() {
    let provider = says(Flavour::OpenRouter, [Say::reasoning("Hm."), Say::text("OK")]).build();
    let mut history = vec![user("Go")];
    for _ in 0..2 {
        let message = post(&provider, &body(CLAUDE, &history)).await.message(0);
        history.extend([message, user("Again")]);
    }
    accepted(&post(&provider, &body(CLAUDE, &history)).await);
    let mut stripped = history.clone();
    stripped[3] = without(&history[3], "reasoning_details");
    raw(&provider, CLAUDE, &stripped).await;
    let mut doubled = history;
    doubled[3]["reasoning_details"] = doubled[1]["reasoning_details"].clone();
    raw(&provider, CLAUDE, &doubled).await;
}

#[tokio::test]
async fn what_was_never_issued_is_refused() {
    let provider = provider();
    let mut foreign = json!({"role": "assistant", "content": "Other."});
    accepted(&post(&provider, &body(CLAUDE, &[user("Go"), foreign.clone(), user("On")])).await);
    foreign["reasoning_details"] = json!([{"type": "reasoning.text", "text": "x", "signature": "AAAA"}]);
    raw(&provider, CLAUDE, &[user("Go"), foreign.clone(), user("On")]).await;
    raw(&provider, "deepseek/d", &[user("Go"), foreign.clone(), user("On")]).await;
    // Clear text cannot be told from text that was issued elsewhere.
    foreign["reasoning_details"] = json!([{"type": "reasoning.text", "text": "x", "format": "unknown", "index": 0}]);
    accepted(&post(&provider, &body("deepseek/d", &[user("Go"), foreign.clone(), user("On")])).await);
    raw(&provider, CLAUDE, &[user("Go"), foreign, user("On")]).await;
    let history = first_step(&provider, CLAUDE).await;
    provider.revoke_state();
    raw(&provider, CLAUDE, &history).await;
}

#[tokio::test]
async fn streams_break_off_with_an_error() {
    let form = Refusals::StreamEvent { after: 1 };
    let provider = ChatProvider::builder().flavour(Flavour::OpenRouter).refusals(form).build();
    let mut history = first_step(&provider, GEMINI).await;
    history[1] = without(&history[1], "reasoning_details");
    let answer = post(&provider, &streamed(body(GEMINI, &history))).await;
    accepted(&answer);
    let chunks = answer.chunks();
    assert_eq!((chunks.len(), &chunks[0]["choices"][0]["finish_reason"]), (2, &Value::Null));
    assert_eq!(chunks[1]["choices"][0]["finish_reason"], "error");
    let said = chunks[1]["error"]["message"].as_str().unwrap();
    assert!(said.starts_with("Function call is missing a thought_signature"), "{said}");
}

#[tokio::test]
async fn requests_that_are_not_in_order_are_refused_by_the_relay_itself() {
    let answer = post(&provider(), &body(CLAUDE, &[])).await;
    assert_eq!(answer.json()["error"], json!({"message": "Empty input messages", "code": 400}));
}
