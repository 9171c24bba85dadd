//! How bytes travel, and what is kept of requests.

use http::StatusCode;
use tower_reasoning_replay::testing::chat::*;

use crate::client::*;

#[tokio::test]
async fn frames_are_cut_as_asked() {
    let build = || ChatProvider::builder().seed(7);
    let whole = ask_stream(&build().build(), &[user("Go")]).await;
    assert_eq!(whole.frames.len(), whole.chunks().len() + 1);
    let cut = ask_stream(&build().chunks(Chunks::Bytes(3)).build(), &[user("Go")]).await;
    assert_eq!(cut.bytes(), whole.bytes());
    assert!(cut.frames.iter().all(|frame| frame.len() <= 3));
}

#[tokio::test]
async fn streams_end_early_as_asked() {
    let provider = ChatProvider::builder().end_early(true).build();
    let answer = ask_stream(&provider, &[user("Go")]).await;
    assert!(answer.finish_reasons().is_empty() && !answer.text().contains("[DONE]"));
    assert!(!answer.chunks().is_empty() && !answer.broken && answer.trailers.is_none());
}

#[tokio::test]
async fn outages_count_neither_way() {
    let provider = ChatProvider::new();
    provider.fail_next(StatusCode::SERVICE_UNAVAILABLE);
    let answer = ask(&provider, &[user("Go")]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["error"]["message"], "The service is currently unavailable.");
    assert_eq!((provider.accepted(), provider.refused(), provider.requests().len()), (0, 0, 1));
}

#[tokio::test]
async fn what_was_issued_is_known_but_not_shown() {
    let provider = ChatProvider::new();
    let message = ask(&provider, &[user("Go")]).await.message(0);
    let issued = provider.issued().pop().unwrap();
    assert_eq!((&issued.message, issued.model.as_str(), issued.has_state), (&message, "m", true));
    let shown = format!("{issued:?} {provider:?} {:?}", provider.requests());
    assert!(!shown.contains("weather") && !shown.contains("call_"), "{shown}");
}

#[tokio::test]
async fn seeds_repeat() {
    for flavour in ALL {
        let build = |seed| ChatProvider::builder().flavour(flavour).seed(seed).build();
        let of = |provider: ChatProvider| async move { ask(&provider, &[user("Go")]).await.bytes() };
        assert_eq!(of(build(1)).await, of(build(1)).await);
        assert_ne!(of(build(1)).await, of(build(2)).await);
    }
}

#[tokio::test]
async fn heavy_escapes_mean_the_same() {
    let build = |heavy| ChatProvider::builder().seed(1).flavour(Flavour::Gemini).heavy_escapes(heavy).build();
    let (plain, heavy) = (ask(&build(false), &[user("Go")]).await, ask(&build(true), &[user("Go")]).await);
    assert_ne!(plain.bytes(), heavy.bytes());
    assert_eq!(plain.json(), heavy.json());
}
