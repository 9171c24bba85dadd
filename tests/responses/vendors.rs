//! Every way in which a vendor refuses, with the strict provider.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    testing::responses::{InvalidWording, Refusals, ResponsesProvider, Vendor},
};

use crate::talk::{is_reasoning, user};

const VENDORS: [Vendor; 7] = [
    Vendor::OpenAi,
    Vendor::Azure,
    Vendor::ChatGpt,
    Vendor::Copilot,
    Vendor::Xai,
    Vendor::OpenRouter,
    Vendor::BedrockMantle,
];

/// Keeps what the client of a chat protocol has of an answer, and answers its calls.
fn go_on(history: &mut Vec<Value>, text: &str) {
    let document: Value = serde_json::from_str(text).unwrap();
    let items = document["output"].as_array().unwrap().iter().filter(|item| !is_reasoning(item));
    let mut items: Vec<Value> = items.cloned().collect();
    items.iter_mut().for_each(|item| drop(item.as_object_mut().unwrap().remove("id")));
    let calls: Vec<Value> = items.iter().filter_map(|item| item.get("call_id").cloned()).collect();
    history.extend(items);
    history.extend(
        calls.into_iter().map(|id| json!({"type": "function_call_output", "call_id": id, "output": "It rains."})),
    );
}

/// R1, R2, R3, R4: when every ciphertext became invalid, one more request gets through, in whatever form the refusal
/// comes; and what came since then is put back.
#[tokio::test]
async fn every_vendor_is_asked_once_more_r2() {
    revoked(&[InvalidWording::Reason, InvalidWording::Short]).await;
}

/// R3: the words of routers that bind state to their caller.
#[tokio::test]
async fn a_router_that_knows_another_caller_is_asked_once_more_r3() {
    revoked(&[InvalidWording::Caller]).await;
}

async fn revoked(wordings: &[InvalidWording]) {
    let forms = [Refusals::Native, Refusals::Relayed { status: 502 }, Refusals::Nested { status: 502 }];
    for vendor in VENDORS {
        for form in forms {
            for wording in wordings.iter().copied() {
                let provider =
                    ResponsesProvider::builder().vendor(vendor).refusals(form).invalid_wording(wording).build();
                let layer = ReplayLayer::new(MemoryStore::new());
                let mut history = vec![user("How is the weather?")];
                for step in 0..3 {
                    if step == 1 {
                        provider.revoke();
                    }
                    let body = json!({"model": "gpt-5", "store": false, "input": history}).to_string();
                    let request = Request::post("https://api.openai.com/v1/responses")
                        .header("content-type", "application/json")
                        .header("authorization", "Bearer key")
                        .header("session-id", "s")
                        .body(Full::new(Bytes::from(body)))
                        .unwrap();
                    let response = layer.layer(provider.clone()).oneshot(request).await.unwrap();
                    assert_eq!(response.status(), StatusCode::OK, "{vendor:?} {form:?} {wording:?} {step}");
                    let text = response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes();
                    go_on(&mut history, std::str::from_utf8(&text).unwrap());
                    assert_eq!(provider.refused(), usize::from(step > 0), "{vendor:?} {form:?} {wording:?} {step}");
                }
                let last: Value = serde_json::from_slice(&provider.requests().pop().unwrap().body).unwrap();
                let back = last["input"].as_array().unwrap().iter().filter(|item| is_reasoning(item)).count();
                assert_eq!(back, 1, "{vendor:?} {form:?} {wording:?}: {last}");
            }
        }
    }
}
