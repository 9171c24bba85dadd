//! What every provider demands of a request, whatever the state in it.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::chat::*;

use crate::client::*;

const UNANSWERED: &str =
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'";
const UNASKED: &str = "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'";

fn call(id: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "ok"})
}

fn calls(ids: &[&str]) -> Value {
    let calls: Vec<Value> = ids.iter().map(|id| call(id)).collect();
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

#[tokio::test]
async fn calls_are_answered_at_once_and_once() {
    let provider = ChatProvider::builder().flavour(Flavour::Glm).build();
    for good in [
        vec![user("Go"), calls(&["a", "b"]), result("b"), result("a"), user("On")],
        vec![user("Go"), calls(&["a"]), result("a"), calls(&["b"]), result("b")],
        vec![user("Go"), json!({"role": "assistant", "content": "Well,"}), calls(&["a"]), result("a")],
        vec![calls(&["a"]), result("a"), calls(&["a"]), result("a")],
        vec![json!({"role": "system", "content": [{"type": "text", "text": "Be kind."}]}), user("Go")],
    ] {
        accepted(&ask(&provider, &good).await);
    }
    for (bad, message) in [
        (vec![user("Go"), calls(&["a"])], UNANSWERED),
        (vec![user("Go"), calls(&["a"]), user("On"), result("a")], UNANSWERED),
        (vec![user("Go"), calls(&["a", "b"]), result("a"), user("On")], "did not have response messages: b"),
        (vec![user("Go"), calls(&["a"]), calls(&["b"]), result("a"), result("b")], UNANSWERED),
        (vec![user("Go"), result("a")], UNASKED),
        (vec![user("Go"), calls(&["a"]), result("a"), result("a")], UNASKED),
        (vec![user("Go"), calls(&["a"]), result("b")], UNASKED),
        (vec![user("Go"), calls(&["a", "a"]), result("a")], "Duplicate value"),
    ] {
        refused(&ask(&provider, &bad).await, message);
    }
}

#[tokio::test]
async fn bodies_are_read_with_care() {
    let provider = ChatProvider::builder().flavour(Flavour::Glm).build();
    let send_text = |text: &'static str, length: Option<usize>| {
        let mut request = Request::post(PATH);
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(Full::new(Bytes::from_static(text.as_bytes()))).unwrap();
        let provider = provider.clone();
        async move { send(&provider, request).await }
    };
    let good = r#"{"model":"m","messages":[{"role":"user","content":"Go"}]}"#;
    accepted(&send_text(good, None).await);
    accepted(&send_text(good, Some(good.len())).await);
    refused(&send_text(good, Some(good.len() + 1)).await, "content-length is");
    for (text, message) in [
        (r#"{"model":"m","messages":[{"role":"user","content":"Go","content":"Go"}]}"#, "is given twice"),
        (
            r#"{"model":"m","messages":[{"role":"assistant","content":"Go","reasoning_content":"","reasoning_content":""}]}"#,
            "is given twice",
        ),
        (r#"{"model":"m","#, "Failed to parse"),
        ("[]", "Not an object"),
        (r#"{"messages":[{"role":"user","content":"Go"}]}"#, "model"),
        (r#"{"model":"m"}"#, "Empty input messages"),
        (r#"{"model":"m","messages":[{"role":"user","content":"Go"}],"stream":1}"#, "expected a boolean"),
        (r#"{"model":"m","messages":[{"role":"user","content":"Go"}],"n":0}"#, "range [1, 128]"),
        (r#"{"model":"m","messages":[{"role":"user","content":"Go"}],"tools":{}}"#, "expected an array"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"Go"}],"stream_options":{"include_usage":true}}"#,
            "stream_options should be set along with stream",
        ),
    ] {
        refused(&send_text(text, None).await, message);
    }
}

#[tokio::test]
async fn arguments_are_json_in_a_string() {
    let provider = ChatProvider::builder().flavour(Flavour::Glm).build();
    let history = |arguments: Value| {
        let mut message = calls(&["a"]);
        message["tool_calls"][0]["function"]["arguments"] = arguments;
        vec![user("Go"), message, result("a")]
    };
    accepted(&ask(&provider, &history(json!(""))).await);
    refused(&ask(&provider, &history(json!("{"))).await, "is not valid JSON");
    refused(&ask(&provider, &history(json!({}))).await, "missing field `function.arguments`");
}

#[tokio::test]
async fn fields_of_others_are_refused_by_strict_providers() {
    let said = |field: &str| {
        let mut message = json!({"role": "assistant", "content": "Yes."});
        message[field] = json!("Hm.");
        vec![user("Go"), message, user("On")]
    };
    for (flavour, own, message) in [
        (
            Flavour::Cerebras,
            Some("reasoning"),
            "messages.1.assistant.reasoning_content: property 'messages.1.assistant.reasoning_content' is unsupported",
        ),
        (Flavour::Groq, Some("reasoning"), "property 'reasoning_content' is unsupported"),
        (Flavour::Gemini, None, "Unknown name \"reasoning_content\" at 'messages[1]': Cannot find field."),
        (Flavour::Mistral, None, "Extra inputs are not permitted"),
    ] {
        let provider = ChatProvider::builder().flavour(flavour).build();
        refused(&ask(&provider, &said("reasoning_content")).await, message);
        if let Some(own) = own {
            accepted(&ask(&provider, &said(own)).await);
        }
        let lenient = ChatProvider::builder().flavour(flavour).strict_fields(false).build();
        accepted(&ask(&lenient, &said("reasoning_content")).await);
    }
    let provider = ChatProvider::builder().flavour(Flavour::Glm);
    accepted(&ask(&provider.clone().build(), &said("reasoning")).await);
    refused(&ask(&provider.clone().strict_fields(true).build(), &said("reasoning")).await, "is unsupported");
    accepted(&ask(&provider.strict_fields(true).build(), &said("reasoning_content")).await);
}

#[tokio::test]
async fn the_body_of_cerebras_is_bare() {
    let provider = ChatProvider::builder().flavour(Flavour::Cerebras).build();
    let message = json!({"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."});
    let answer = ask(&provider, &[user("Go"), message, user("On")]).await;
    assert_eq!(answer.json()["code"], "wrong_api_format");
    assert_eq!(answer.json()["param"], "validation_error");
}

#[tokio::test]
async fn kimi_refuses_empty_parts_of_text() {
    let part = |text: &str| json!({"role": "user", "content": [{"type": "text", "text": text}]});
    let provider = ChatProvider::builder().flavour(Flavour::Kimi).build();
    accepted(&ask(&provider, &[part("Go")]).await);
    refused(&ask(&provider, &[part("")]).await, "text content is empty");
    accepted(&ask(&ChatProvider::builder().flavour(Flavour::Glm).build(), &[part("")]).await);
}

#[tokio::test]
async fn mistral_knows_its_ids() {
    let provider = ChatProvider::builder().flavour(Flavour::Mistral).build();
    accepted(&ask(&provider, &[user("Go"), calls(&["abcDEF123"]), result("abcDEF123")]).await);
    for id in ["abcDEF12", "abcDEF-12", "abcDEF1234"] {
        let history = [user("Go"), calls(&[id]), result(id)];
        refused(&ask(&provider, &history).await, "must be a-z, A-Z, 0-9, with a length of 9.");
    }
}

#[tokio::test]
async fn deepseek_cannot_think_with_a_forced_tool() {
    let provider = ChatProvider::new();
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "f"}})] {
        let mut request = body("m", &[user("Go")]);
        request["tool_choice"] = choice;
        refused(&post(&provider, &request).await, "Thinking mode does not support this tool_choice");
        request["thinking"] = json!({"type": "disabled"});
        accepted(&post(&provider, &request).await);
    }
}
