//! State that is sealed: signatures of Gemini, the opaque value of Copilot; and the chunks of Mistral.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::chat::*;

use crate::client::*;

const SKIP: &str = "skip_thought_signature_validator";

fn gemini() -> Builder {
    ChatProvider::builder().flavour(Flavour::Gemini)
}

/// Where the signature of the first call of a message stands.
fn signature(message: &mut Value) -> &mut Value {
    &mut message["tool_calls"][0]["extra_content"]["google"]["thought_signature"]
}

fn unsigned(message: &Value) -> Value {
    let mut message = message.clone();
    message["tool_calls"][0].as_object_mut().unwrap().remove("extra_content").unwrap();
    message
}

#[tokio::test]
async fn gemini_demands_the_signature_of_the_first_call_of_the_current_turn() {
    let provider = gemini().build();
    let history = first_step(&provider, "m").await;
    accepted(&ask(&provider, &history).await);
    let mut stripped = history.clone();
    stripped[1] = unsigned(&history[1]);
    let answer = ask(&provider, &stripped).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error = &answer.json()[0]["error"];
    assert_eq!((&error["code"], &error["status"]), (&json!(400), &json!("INVALID_ARGUMENT")));
    let said = error["message"].as_str().unwrap();
    assert!(said.starts_with("Function call is missing a thought_signature in functionCall parts."), "{said}");
    assert!(said.contains("function call `default_api:get_weather` , position 2."), "{said}");
    // Text before it, in a message of its own, changes nothing.
    let mut led = stripped.clone();
    led.insert(1, json!({"role": "assistant", "content": "Well,"}));
    refused(&ask(&provider, &led).await, "position 3.");
    // An older turn does not matter.
    stripped.push(user("Never mind."));
    accepted(&ask(&provider, &stripped).await);
    assert_eq!(provider.missing(), 3);
    let strict = gemini().demand(Demand::ToolCalls).build();
    refused(&ask(&strict, &stripped).await, "missing a thought_signature");
}

#[tokio::test]
async fn vertex_has_a_namespace_and_words_of_its_own() {
    let provider = ChatProvider::builder().flavour(Flavour::Vertex).build();
    let history = first_step(&provider, "m").await;
    accepted(&ask(&provider, &history).await);
    let mut stripped = history.clone();
    stripped[1] = unsigned(&history[1]);
    refused(
        &ask(&provider, &stripped).await,
        "function call `default_api:get_weather` in the 2. content block is missing a `thought_signature`",
    );
    let mut renamed = history.clone();
    let extra = &mut renamed[1]["tool_calls"][0]["extra_content"];
    *extra = json!({"google": extra["vertex"]});
    refused(&ask(&provider, &renamed).await, "Unknown name \"google\"");
    let mut forged = history;
    forged[1]["tool_calls"][0]["extra_content"]["vertex"]["thought_signature"] = json!("AAAA");
    refused(&ask(&provider, &forged).await, "Thought signature is not valid.");
}

#[tokio::test]
async fn signatures_must_have_been_issued_for_that_call() {
    let provider = gemini().build();
    let history = first_step(&provider, "m").await;
    let good = signature(&mut history[1].clone()).as_str().unwrap().to_owned();
    let with = |text: &str| {
        let mut history = history.clone();
        *signature(&mut history[1]) = json!(text);
        history
    };
    // The alphabet and the padding do not matter.
    let url_safe = good.replace('+', "-").replace('/', "_");
    accepted(&ask(&provider, &with(url_safe.trim_end_matches('='))).await);
    for forged in ["AAAA", &format!("AAAA{good}")] {
        refused(&ask(&provider, &with(forged)).await, "Corrupted thought signature.");
    }
    refused(&ask(&provider, &with("a b")).await, "Base64 decoding failed");
    refused(&ask(&provider, &with("")).await, "missing a thought_signature");

    let mut other = history.clone();
    other[1]["tool_calls"][0]["function"]["arguments"] = json!("{}");
    refused(&ask(&provider, &other).await, "Corrupted thought signature.");
    // The same one cannot sign two calls.
    let mut twice = history.clone();
    twice.extend([history[1].clone(), history[2].clone()]);
    refused(&ask(&provider, &twice).await, "Corrupted thought signature.");
    let mut moved = history.clone();
    let extra = moved[1]["tool_calls"][0].as_object_mut().unwrap().remove("extra_content").unwrap();
    moved[1]["extra_content"] = extra;
    refused(&ask(&provider, &moved).await, "Corrupted thought signature.");
    provider.revoke_state();
    refused(&ask(&provider, &history).await, "Corrupted thought signature.");
}

#[tokio::test]
async fn the_sentinel_is_taken_unless_it_is_switched_off() {
    for text in [SKIP, "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="] {
        let provider = gemini().build();
        let mut history = first_step(&provider, "m").await;
        *signature(&mut history[1]) = json!(text);
        accepted(&ask(&provider, &history).await);
        let last = provider.requests().pop().unwrap();
        assert_eq!((last.genuine, last.sentinels), (0, 1));
        let strict = gemini().sentinel(false).build();
        refused(&ask(&strict, &history).await, "Corrupted thought signature.");
    }
}

#[tokio::test]
async fn only_the_first_of_parallel_calls_is_signed() {
    let turn = [Say::calls([("f", json!({"a": 1})), ("f", json!({"a": 2}))])];
    let provider = says(Flavour::Gemini, turn).build();
    let history = first_step(&provider, "m").await;
    assert!(history[1]["tool_calls"][1].get("extra_content").is_none());
    accepted(&ask(&provider, &history).await);
    let mut second = history.clone();
    second[1] = unsigned(&history[1]);
    second[1]["tool_calls"][1]["extra_content"] = json!({"google": {"thought_signature": SKIP}});
    refused(&ask(&provider, &second).await, "position 2.");
    assert_eq!(provider.missing(), 1);
    let part = |at: usize| json!({"role": "assistant", "tool_calls": [history[1]["tool_calls"][at]]});
    let mut split = [user("Go"), part(0), history[2].clone(), part(1), history[3].clone()];
    // Split over two steps, the second has no signature that could be restored.
    refused(&ask(&provider, &split).await, "position 4.");
    assert_eq!(provider.missing(), 1);
    split[3]["tool_calls"][0]["extra_content"] = json!({"google": {"thought_signature": SKIP}});
    accepted(&ask(&provider, &split).await);
    // Of two parts without any, only the first one misses its own.
    let [question, one, two, three, four] = split;
    let old = [question, unsigned(&one), two, unsigned(&three), four, user("On")];
    accepted(&ask(&provider, &old).await);
    assert_eq!(provider.missing(), 2);
}

#[tokio::test]
async fn text_is_signed_on_the_message() {
    let provider = says(Flavour::Gemini, [Say::text("Yes.")]).build();
    let message = ask(&provider, &[user("Go")]).await.message(0);
    accepted(&ask(&provider, &[user("Go"), message.clone(), user("On")]).await);
    assert_eq!(provider.restored(), 1);
    accepted(&ask(&provider, &[user("Go"), without(&message, "extra_content"), user("On")]).await);
    assert_eq!(provider.missing(), 1);
    let mut changed = message;
    changed["content"] = json!("No.");
    refused(&ask(&provider, &[user("Go"), changed, user("On")]).await, "Corrupted thought signature.");
}

#[tokio::test]
async fn old_signatures_stand_on_the_message() {
    let provider = gemini().legacy_signatures(true).build();
    for stream in [false, true] {
        let mut request = body("m", &[user("Go")]);
        request["stream"] = json!(stream);
        let message = post(&provider, &request).await.message(0);
        assert_eq!(message["extra_content"]["google"]["thought_signature"], message["thought_signature"]);
        assert_eq!(message["extra_content"]["google"]["thought"], true);
        assert!(message["tool_calls"][0].get("extra_content").is_none());
        let mut history = vec![user("Go"), message.clone()];
        history.extend(results(&message));
        accepted(&ask(&provider, &history).await);
        history[1] = without(&message, "thought_signature");
        accepted(&ask(&provider, &history).await);
        history[1] = without(&history[1], "extra_content");
        refused(&ask(&provider, &history).await, "missing a thought_signature");
    }
    assert_eq!(provider.restored(), 4);
}

#[tokio::test]
async fn credentials_bind_when_asked_to() {
    for flavour in [Flavour::Gemini, Flavour::Copilot, Flavour::OpenRouter] {
        for (bind, status) in [(false, StatusCode::OK), (true, StatusCode::BAD_REQUEST)] {
            let provider = ChatProvider::builder().flavour(flavour).bind_credentials(bind).build();
            let history = first_step(&provider, "anthropic/c").await;
            let text = body("anthropic/c", &history).to_string();
            let request = Request::post(PATH).header("authorization", "Bearer other").body(Full::from(text)).unwrap();
            assert_eq!(send(&provider, request).await.status, status, "{flavour:?}");
            accepted(&post(&provider, &body("anthropic/c", &history)).await);
        }
    }
    let provider = ChatProvider::builder().flavour(Flavour::Glm).bind_credentials(true).build();
    let text = body("m", &first_step(&provider, "m").await).to_string();
    let request = Request::post(PATH).header("authorization", "Bearer other").body(Full::from(text)).unwrap();
    accepted(&send(&provider, request).await);
    assert_eq!((provider.restored(), provider.altered()), (0, 1));
}

#[tokio::test]
async fn copilot_wants_both_fields() {
    let provider = ChatProvider::builder().flavour(Flavour::Copilot).build();
    let history = first_step(&provider, "m").await;
    accepted(&ask(&provider, &history).await);
    for field in ["reasoning_text", "reasoning_opaque"] {
        let mut half = history.clone();
        half[1] = without(&history[1], field);
        refused(&ask(&provider, &half).await, "must be sent back together");
        let mut changed = history.clone();
        changed[1][field] = json!("changed");
        refused(&ask(&provider, &changed).await, "Invalid signature in reasoning_opaque");
    }
    let mut neither = history.clone();
    neither[1] = without(&without(&history[1], "reasoning_text"), "reasoning_opaque");
    refused(&ask(&provider, &neither).await, "The `reasoning_opaque` in the thinking mode must be passed back");
    let mut elsewhere = history.clone();
    elsewhere[1]["tool_calls"][0]["function"]["name"] = json!("other");
    refused(&ask(&provider, &elsewhere).await, "Invalid signature in reasoning_opaque");
    assert_eq!((provider.restored(), provider.altered(), provider.missing()), (1, 5, 1));
    let lenient = ChatProvider::builder().flavour(Flavour::Copilot).demand(Demand::Nothing).build();
    accepted(&ask(&lenient, &neither).await);
}

#[tokio::test]
async fn mistral_wants_its_chunks_as_they_were() {
    let turn = [Say::reasoning("Hm, hm."), Say::text("Look:"), Say::call("f", json!({}))];
    let provider = says(Flavour::Mistral, turn).build();
    let history = first_step(&provider, "m").await;
    assert_eq!(history[1]["content"][0]["closed"], true);
    let with = |content: Value| {
        let mut history = history.clone();
        history[1]["content"] = content;
        history
    };
    let thinking = |parts: &[&str]| {
        let parts: Vec<Value> = parts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        json!({"type": "thinking", "thinking": parts})
    };
    let text = json!({"type": "text", "text": "Look:"});
    for good in [
        history[1]["content"].clone(),
        json!([thinking(&["Hm, hm."]), text]),
        json!([thinking(&["Hm,", " hm."]), text]),
    ] {
        accepted(&ask(&provider, &with(good)).await);
    }
    assert_eq!(provider.restored(), 3);
    for wrong in [
        json!([thinking(&["Hm,hm."]), text]),
        json!([text, thinking(&["Hm, hm."])]),
        json!([thinking(&["Hm, hm."]), {"type": "text", "text": "Look."}]),
    ] {
        refused(&ask(&provider, &with(wrong)).await, "must be passed back as they were issued");
    }
    let mut noted = thinking(&["Hm, hm."]);
    noted["signature"] = json!("x");
    refused(&ask(&provider, &with(json!([noted, text]))).await, "a chunk of thinking");
    // Left out it is only missed.
    accepted(&ask(&provider, &with(json!("Look:"))).await);
    assert_eq!((provider.altered(), provider.missing()), (3, 1));
    let strict = says(Flavour::Mistral, [Say::text("Yes.")]).demand(Demand::ToolCalls).build();
    refused(&ask(&strict, &with(json!("Look:"))).await, "must be passed back");
}
