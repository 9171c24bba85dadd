//! How bytes and refusals travel: frames, compression, relays, accidents, records.

use std::{io::Read, time::Duration};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::testing::anthropic::*;

use crate::client::*;

fn streamed(messages: &[Value]) -> Value {
    with(manual(messages), "stream", json!(true))
}

/// A history whose signature is not valid.
async fn broken(provider: &AnthropicProvider) -> Vec<Value> {
    let (mut history, _) = first_step(provider).await;
    history[1]["content"][0]["signature"] = json!("EqQB");
    history
}

#[tokio::test]
async fn relays_pass_the_words_on_with_other_statuses() {
    let message = invalid("messages.1.content.0");
    for status in [429, 500, 502] {
        let provider = AnthropicProvider::builder().refusals(Refusals::Relayed { status }).build();
        for body in [manual(&broken(&provider).await), streamed(&broken(&provider).await)] {
            let answer = post(&provider, PATH, &body).await;
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(answer.json()["error"]["message"], message);
        }
        assert_eq!(provider.refused(), 2);
        assert_eq!(provider.requests().last().unwrap().refusal.as_deref(), Some(message.as_str()));
    }
    let provider = AnthropicProvider::builder().refusals(Refusals::OpenRouter { status: 502 }).build();
    let answer = ask(&provider, &broken(&provider).await).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    let raw: Value = serde_json::from_str(answer.json()["error"]["metadata"]["raw"].as_str().unwrap()).unwrap();
    assert_eq!(raw["error"]["message"], message);
    let provider = AnthropicProvider::builder().refusals(Refusals::Bedrock).build();
    let answer = ask(&provider, &broken(&provider).await).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let said = format!("The model returned the following errors: {message}");
    assert_eq!(answer.json(), json!({ "message": said }));
    let provider = AnthropicProvider::builder().refusals(Refusals::LiteLlm { status: 500 }).build();
    let answer = ask(&provider, &broken(&provider).await).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("Invalid `signature` in `thinking` block"));
}

#[tokio::test]
async fn a_stream_may_break_off_with_a_refusal() {
    let provider = AnthropicProvider::builder().refusals(Refusals::StreamEvent { after: 2 }).build();
    let history = broken(&provider).await;
    let answer = post(&provider, PATH, &streamed(&history)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let events = answer.events();
    assert_eq!(events.iter().filter(|event| event["type"] == "content_block_stop").count(), 2);
    let error = json!({"type": "invalid_request_error", "message": invalid("messages.1.content.0")});
    assert_eq!(events.last().unwrap(), &json!({"type": "error", "error": error}));
    assert_eq!((provider.accepted(), provider.refused()), (1, 1));
    // What is no stream is refused as ever.
    refused(&ask(&provider, &history).await, &invalid("messages.1.content.0"));
}

#[tokio::test]
async fn a_stream_may_break_off_with_an_overload() {
    let provider = AnthropicProvider::builder().overload_after(1).faults_only_at(1).build();
    let body = streamed(&[user("Go")]);
    assert_eq!(post(&provider, PATH, &body).await.content().len(), 3);
    let events = post(&provider, PATH, &body).await.events();
    let error = json!({"type": "overloaded_error", "message": "Overloaded"});
    assert_eq!(events.last().unwrap(), &json!({"type": "error", "error": error}));
    assert_eq!(events.iter().filter(|event| event["type"] == "content_block_stop").count(), 1);
    assert_eq!((provider.accepted(), provider.refused()), (2, 0));
}

#[tokio::test]
async fn bodies_are_cut_and_compressed_as_asked() {
    let body = streamed(&[user("Go")]);
    let whole = post(&AnthropicProvider::builder().seed(7).build(), PATH, &body).await;
    assert_eq!(whole.frames.len(), whole.events().len());
    for (chunks, largest) in [(Chunks::Bytes(1), 1), (Chunks::Bytes(7), 7), (Chunks::Whole, usize::MAX)] {
        let cut = post(&AnthropicProvider::builder().seed(7).chunks(chunks).build(), PATH, &body).await;
        assert_eq!(cut.bytes(), whole.bytes());
        assert!(cut.frames.iter().all(|frame| !frame.is_empty() && frame.len() <= largest));
    }
    for (gzip, label) in [(Gzip::Always, "gzip"), (Gzip::Unlabelled, "")] {
        let packed = post(&AnthropicProvider::builder().seed(7).gzip(gzip).build(), PATH, &body).await;
        assert_eq!(packed.header("content-encoding"), label);
        let mut text = Vec::new();
        GzDecoder::new(packed.bytes().as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, whole.bytes());
    }
    let request = Request::post(PATH).header("accept-encoding", "gzip, deflate");
    let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    assert_eq!(send(&AnthropicProvider::new(), request).await.header("content-encoding"), "gzip");

    let mut packed = Vec::new();
    let text = body.to_string();
    flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    let request = Request::post(PATH).header("content-encoding", "gzip").body(Full::new(Bytes::from(packed))).unwrap();
    accepted(&send(&AnthropicProvider::new(), request).await);
}

#[tokio::test(start_paused = true)]
async fn accidents_happen_as_asked() {
    let body = streamed(&[user("Go")]);
    let build = || AnthropicProvider::builder().seed(1);
    let whole = post(&build().build(), PATH, &body).await;
    let cut = post(&build().cut_after(700).build(), PATH, &body).await;
    assert!(cut.broken && cut.bytes() == whole.bytes()[..700]);

    let provider = build().end_early(true).faults_only_at(0).build();
    let early = post(&provider, PATH, &body).await;
    assert!(!early.broken && whole.bytes().starts_with(&early.bytes()));
    assert_eq!(early.events().last().unwrap()["type"], "content_block_stop");
    assert_eq!(post(&provider, PATH, &body).await.events().last().unwrap()["type"], "message_stop");

    let done = post(&build().done_marker(true).build(), PATH, &body).await;
    assert_eq!(done.bytes(), [whole.bytes(), b"data: [DONE]\n\n".to_vec()].concat());

    let head = build().cut_before_head(true).build();
    let request = Request::post(PATH).body(Full::new(Bytes::from(body.to_string()))).unwrap();
    assert!(head.oneshot(request).await.is_err());
    let trailers = post(&build().trailers(true).build(), PATH, &body).await;
    assert_eq!(trailers.trailers.unwrap()["x-provider-trailer"], "end");

    let began = tokio::time::Instant::now();
    let slow = build().head_delay(Duration::from_secs(1)).stall(3, Duration::from_secs(10)).build();
    accepted(&post(&slow, PATH, &body).await);
    assert_eq!(began.elapsed().as_secs(), 11);
}

#[tokio::test]
async fn outages_happen_and_count_as_neither() {
    let provider = AnthropicProvider::new();
    for (status, kind) in [(529, "overloaded_error"), (429, "rate_limit_error"), (500, "api_error")] {
        provider.fail_next(StatusCode::from_u16(status).unwrap());
        let answer = ask(&provider, &[user("Go")]).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.json()["error"]["type"], kind);
    }
    accepted(&ask(&provider, &[user("Go")]).await);
    assert_eq!((provider.accepted(), provider.refused(), provider.requests().len()), (1, 0, 4));
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let provider = AnthropicProvider::new();
    let body = manual(&[user("Hello")]).to_string();
    let request = Request::post("/v1/messages?beta=true").header("x-test", "1");
    accepted(&send(&provider, request.body(Full::new(Bytes::from(body.clone()))).unwrap()).await);
    let recorded = provider.requests().pop().unwrap();
    assert_eq!((recorded.uri.query(), &recorded.headers["x-test"]), (Some("beta=true"), &"1".parse().unwrap()));
    assert_eq!(recorded.body, body);
    let issued = &provider.issued()[0];
    assert_eq!((issued.kind, issued.model.as_str()), (IssuedKind::Thinking, SONNET));
    assert!(issued.thinking.starts_with("The user asks"));
    let shown = format!("{recorded:?}{provider:?}{issued:?}");
    assert!(!shown.contains("Hello") && !shown.contains("The user asks") && !shown.contains(&issued.signature));
}
