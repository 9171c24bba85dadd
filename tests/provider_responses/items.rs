//! What the reader of requests takes and refuses, whatever was issued.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::responses::*;

use crate::client::*;

async fn raw(provider: &ResponsesProvider, text: String) -> Answer {
    send(provider, Request::post(PATH).body(Full::new(Bytes::from(text))).unwrap()).await
}

#[tokio::test]
async fn json_is_read_strictly() {
    let provider = ResponsesProvider::new();
    let broken = "We could not parse the JSON body of your request.";
    for text in ["", "[]", "{\"model\": \"gpt-5\"", "\"x\""] {
        refused_as(&raw(&provider, text.to_owned()).await, broken, Value::Null, Value::Null);
    }
    let text = json!({"model": "gpt-5", "input": [user("Hello")]}).to_string();
    let twice = text.replace("\"content\":", "\"content\":\"Bye\",\"content\":");
    let answer = raw(&provider, twice).await;
    refused_as(&answer, broken, Value::Null, Value::Null);
    assert!(answer.text().contains("Key \\\"content\\\" is given twice."));
    let short = Request::post(PATH).header("content-length", "12").body(Full::new(Bytes::from(text))).unwrap();
    let answer = send(&provider, short).await;
    refused_as(&answer, "content-length is 12, but the body has ", Value::Null, Value::Null);
    assert_eq!((provider.accepted(), provider.refused()), (0, 6));
}

#[tokio::test]
async fn items_have_what_their_type_demands() {
    let provider = ResponsesProvider::new();
    let code = |code: &str| json!(code);
    for (item, message, param, expected) in [
        (
            json!({"type": "reasoning", "id": "rs_1"}),
            "Missing required parameter: 'input[1].summary'.",
            "input[1].summary",
            "missing_required_parameter",
        ),
        (
            json!({"type": "reasoning", "summary": []}),
            "Missing required parameter: 'input[1].id'.",
            "input[1].id",
            "missing_required_parameter",
        ),
        (
            json!({"type": "reasoning", "id": "rs_1", "summary": null}),
            "Invalid type for 'input[1].summary': expected an array of objects, but got null instead.",
            "input[1].summary",
            "invalid_type",
        ),
        (
            json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "text", "text": "x"}]}),
            "Invalid value: 'text'. Supported values are: 'summary_text'.",
            "input[1].summary[0]",
            "invalid_value",
        ),
        (
            json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}]}),
            "Invalid 'input[1].content': array too long.",
            "input[1].content",
            "array_above_max_length",
        ),
        (
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x", "signature": "x"}),
            "Unknown parameter: 'input[1].signature'.",
            "input[1].signature",
            "unknown_parameter",
        ),
        (
            json!({"type": "function_call", "call_id": "call_1", "name": "f"}),
            "Missing required parameter: 'input[1].arguments'.",
            "input[1].arguments",
            "missing_required_parameter",
        ),
        (
            json!({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": {}}),
            "Invalid type for 'input[1].arguments': expected a string, but got an object instead.",
            "input[1].arguments",
            "invalid_type",
        ),
        (
            json!({"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}),
            "Invalid 'input[1].call_id': empty string.",
            "input[1].call_id",
            "empty_string",
        ),
        (
            json!({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}", "encrypted_content": "x"}),
            "Unknown parameter: 'input[1].encrypted_content'.",
            "input[1].encrypted_content",
            "unknown_parameter",
        ),
        (
            json!({"type": "function_call_output", "call_id": "call_1"}),
            "Missing required parameter: 'input[1].output'.",
            "input[1].output",
            "missing_required_parameter",
        ),
        (
            json!({"type": "compaction", "id": "cmp_1"}),
            "Missing required parameter: 'input[1].encrypted_content'.",
            "input[1].encrypted_content",
            "missing_required_parameter",
        ),
        (
            json!({"type": "item_reference"}),
            "Missing required parameter: 'input[1].id'.",
            "input[1].id",
            "missing_required_parameter",
        ),
        (
            json!({"content": "x"}),
            "Missing required parameter: 'input[1].type'.",
            "input[1].type",
            "missing_required_parameter",
        ),
        (json!({"role": "model", "content": "x"}), "Invalid value: 'model'.", "input[1].role", "invalid_value"),
        (
            json!({"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}),
            "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'.",
            "input[1].content[0]",
            "invalid_value",
        ),
        (
            json!({"role": "user", "content": [{"type": "input_text"}]}),
            "Missing required parameter: 'input[1].content[0].text'.",
            "input[1].content[0].text",
            "missing_required_parameter",
        ),
        (
            json!({"type": "thinking", "thinking": "x"}),
            "Invalid value: 'thinking'. Supported values are: 'message', 'reasoning'",
            "input[1]",
            "invalid_value",
        ),
    ] {
        let answer = ask(&provider, &[user("Hello"), item]).await;
        refused_as(&answer, message, json!(param), code(expected));
    }
    let hello = json!("Hello");
    for input in [&hello, &json!([]), &json!([user("Hello")])] {
        accepted(&post(&provider, PATH, &json!({"model": "gpt-5", "input": input})).await);
    }
    let missing = post(&provider, PATH, &json!({"model": "gpt-5"})).await;
    refused_as(&missing, "Missing required parameter: 'input'.", json!("input"), code("missing_required_parameter"));
    let missing = post(&provider, PATH, &json!({"input": "Hello"})).await;
    refused_as(&missing, "Missing required parameter: 'model'.", json!("model"), code("missing_required_parameter"));
}

#[tokio::test]
async fn ids_are_well_formed() {
    let provider = ResponsesProvider::new();
    let invalid = json!("invalid_value");
    let mut history = first_step(&provider, json!({})).await;
    history[1]["id"] = json!("");
    let expected = "Invalid 'input[1].id': ''. Expected an ID that contains letters, numbers, underscores, or dashes, but this value contained additional characters.";
    refused_as(&ask(&provider, &history).await, expected, json!("input[1].id"), invalid.clone());
    history[1]["id"] = json!("rs_a b");
    refused_as(
        &ask(&provider, &history).await,
        "Invalid 'input[1].id': 'rs_a b'.",
        json!("input[1].id"),
        invalid.clone(),
    );
    history[1]["id"] = Value::Null;
    history[2]["id"] = json!("call_1");
    let expected = "Invalid 'input[2].id': 'call_1'. Expected an ID that begins with 'fc'.";
    refused_as(&ask(&provider, &history).await, expected, json!("input[2].id"), invalid);
    history[2]["id"] = Value::Null;
    accepted(&ask(&provider, &history).await);
}

#[tokio::test]
async fn null_content_is_taken_by_openai_but_not_by_xai() {
    let provider = ResponsesProvider::new();
    let mut history = first_step(&provider, json!({})).await;
    history[1]["content"] = Value::Null;
    accepted(&ask(&provider, &history).await);

    let provider = ResponsesProvider::builder().vendor(Vendor::Xai).build();
    let history = first_step(&provider, json!({})).await;
    accepted(&ask(&provider, &history).await);
    let expected = json!({"code": "invalid-argument", "error": "Could not decode the compaction blob. Ensure it is unmodified from the compact response."});
    let mut changed = history.clone();
    changed[1]["content"] = Value::Null;
    let answer = ask(&provider, &changed).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::BAD_REQUEST, expected.clone()));
    let mut changed = history.clone();
    changed[1].as_object_mut().unwrap().remove("summary");
    assert_eq!(ask(&provider, &changed).await.json(), expected);
    let mut changed = history;
    changed[1]["encrypted_content"] = json!("AAAA");
    let expected = "Could not decrypt the provided encrypted_content. Ensure the value is the unmodified encrypted_content from a previous response.";
    assert_eq!(ask(&provider, &changed).await.json()["error"], expected);
}
