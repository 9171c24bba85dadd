//! How refusals and accidents reach the client.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::testing::responses::*;

use crate::client::*;

const PAIRING: &str = "was provided without its required 'reasoning' item";
const CIPHER: &str = "could not be verified. Reason: Encrypted content could not be decrypted or parsed.";

/// The answer to a request with an invalid ciphertext.
async fn refusal_in(form: Refusals, stream: bool) -> Answer {
    let provider = ResponsesProvider::builder().refusals(form).build();
    let mut history = first_step(&provider, json!({})).await;
    history[1]["encrypted_content"] = json!("gAAAmadeupDQ==");
    let answer = ask_with(&provider, &history, json!({ "stream": stream })).await;
    assert_eq!((provider.accepted(), provider.refused()), (1, 1));
    assert!(provider.requests()[1].refusal.as_ref().unwrap().contains(CIPHER));
    answer
}

#[tokio::test]
async fn refusals_come_in_every_form() {
    let code = "invalid_encrypted_content";
    for stream in [false, true] {
        let answer = refusal_in(Refusals::Native, stream).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::BAD_REQUEST, "application/json"));
        assert!(answer.text().starts_with("{\n  \"error\": {\n    \"message\": \"The encrypted content for item rs_"));
        assert_eq!(answer.json()["error"]["code"], code);

        let answer = refusal_in(Refusals::Relayed { status: 502 }, stream).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(CIPHER));
        assert_eq!(answer.json()["error"]["code"], Value::Null);

        let answer = refusal_in(Refusals::Nested { status: 502 }, stream).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        let raw: Value = serde_json::from_str(answer.json()["error"]["metadata"]["raw"].as_str().unwrap()).unwrap();
        assert_eq!(raw["error"]["code"], code);
    }
    for after in [0, 2] {
        let answer = refusal_in(Refusals::ResponseFailed { after }, true).await;
        assert_eq!(answer.status, StatusCode::OK);
        let response = &answer.of_type("response.failed")[0]["response"];
        assert_eq!((&response["status"], &response["error"]["code"]), (&json!("failed"), &json!(code)));
        assert!(response["error"]["message"].as_str().unwrap().contains(CIPHER));
        assert_eq!(answer.of_type("response.output_text.delta").len(), after);
        assert_eq!(answer.types().last().unwrap(), "response.failed");

        let answer = refusal_in(Refusals::ErrorEvent { after }, true).await;
        let event = answer.events().pop().unwrap();
        assert_eq!((&event["type"], &event["code"], &event["param"]), (&json!("error"), &json!(code), &Value::Null));
        assert!(event["message"].as_str().unwrap().contains(CIPHER));
        assert_eq!(event["sequence_number"], answer.events().len() - 1);
        assert_eq!(answer.of_type("response.output_text.delta").len(), after);
    }
    // Who asked for no stream gets none.
    for form in [Refusals::ResponseFailed { after: 1 }, Refusals::ErrorEvent { after: 1 }] {
        assert_eq!(refusal_in(form, false).await.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn refusals_without_a_code_have_one_in_a_stream() {
    let provider = ResponsesProvider::builder().refusals(Refusals::ResponseFailed { after: 0 }).build();
    let mut history = first_step(&provider, json!({})).await;
    history.remove(1);
    let answer = ask_with(&provider, &history, json!({"stream": true})).await;
    let error = &answer.of_type("response.failed")[0]["response"]["error"];
    assert_eq!(error["code"], "invalid_prompt");
    assert!(error["message"].as_str().unwrap().contains(PAIRING));
}

#[tokio::test]
async fn streams_may_break_off() {
    let stream = json!({"stream": true});
    let whole = ask_with(&ResponsesProvider::builder().seed(1).build(), &[user("Go")], stream.clone()).await;
    let provider = ResponsesProvider::builder().seed(1).cut_after(1_000).build();
    let cut = ask_with(&provider, &[user("Go")], stream.clone()).await;
    assert!(cut.broken && cut.text() == whole.text()[..1_000]);
    for vendor in [Vendor::OpenAi, Vendor::OpenRouter] {
        let provider = ResponsesProvider::builder().vendor(vendor).end_early(true).faults_only_at(0).build();
        let early = ask_with(&provider, &[user("Go")], stream.clone()).await;
        assert!(!early.broken && early.of_type("response.completed").is_empty() && !early.text().contains("[DONE]"));
        assert_eq!(early.output().len(), 2);
        assert_eq!(provider.issued().len(), 2);
        // The ciphertexts that did come are valid, the others were never made.
        let history = [vec![user("Go")], early.output(), outputs(&early.output())].concat();
        let answer = ask_with(&provider, &history, stream.clone()).await;
        accepted(&answer);
        assert_eq!(answer.of_type("response.completed").len(), 1);
    }
    let provider = ResponsesProvider::builder().cut_before_head(true).build();
    let request = http::Request::post(PATH).body(http_body_util::Full::<bytes::Bytes>::default()).unwrap();
    assert!(provider.oneshot(request).await.is_err());
}

#[tokio::test]
async fn bytes_may_come_in_any_frames() {
    let build = || ResponsesProvider::builder().seed(3);
    let stream = json!({"stream": true});
    let whole = ask_with(&build().build(), &[user("Go")], stream.clone()).await;
    for chunks in [Chunks::Bytes(7), Chunks::Whole] {
        let answer = ask_with(&build().chunks(chunks).trailers(true).build(), &[user("Go")], stream.clone()).await;
        assert_eq!(answer.text(), whole.text());
        assert!(answer.frames.len() != whole.frames.len() && answer.trailers.is_some());
    }
    let answer = ask_with(&build().gzip(Gzip::Always).build(), &[user("Go")], stream).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert_eq!(answer.frames.concat()[..2], [0x1f, 0x8b]);
}

#[tokio::test(start_paused = true)]
async fn answers_may_take_their_time() {
    let provider =
        ResponsesProvider::builder().head_delay(Duration::from_secs(5)).stall(2, Duration::from_secs(9)).build();
    let start = tokio::time::Instant::now();
    accepted(&ask_with(&provider, &[user("Go")], json!({"stream": true})).await);
    assert_eq!(start.elapsed().as_secs(), 14);
}

#[tokio::test]
async fn the_service_may_be_out_of_order() {
    let provider = ResponsesProvider::new();
    provider.fail_next(StatusCode::TOO_MANY_REQUESTS);
    provider.fail_next(StatusCode::SERVICE_UNAVAILABLE);
    let limited = ask(&provider, &[user("Go")]).await;
    assert_eq!(
        (limited.status, &limited.json()["error"]["code"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limit_exceeded"))
    );
    let down = ask(&provider, &[user("Go")]).await;
    assert_eq!((down.status, &down.json()["error"]["type"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("server_error")));
    accepted(&ask(&provider, &[user("Go")]).await);
    assert_eq!((provider.accepted(), provider.refused(), provider.requests().len()), (1, 0, 3));
}

#[test]
fn no_state_is_shown_when_debugging() {
    let text = format!("{:?}", ResponsesProvider::new());
    assert_eq!(text, "ResponsesProvider { accepted: 0, refused: 0, .. }");
}
