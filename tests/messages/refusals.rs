//! What happens after the provider refused thinking.

use serde_json::{Value, json};
use tower_reasoning_replay::engine::Event;

use crate::{
    support::{
        rig::Rig,
        service::{refusal, whole},
        store::TestStore,
    },
    talk::*,
};

fn error(message: &str) -> String {
    json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string()
}

fn history() -> Value {
    json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))])
}

/// A1, A12: what we put back is taken out again, once, and forgotten only if it was bad.
#[tokio::test]
async fn refused_thinking_is_taken_out_and_the_request_sent_again_a1() {
    for (message, event, kept) in [
        ("messages.1.content.0: Invalid `signature` in `thinking` block", Event::RefusedInvalid, false),
        (
            "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be \
             modified. These blocks must remain as they were in the original response.",
            Event::RefusedStructure,
            true,
        ),
        (
            "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different \
             conversation.",
            Event::RefusedStructure,
            true,
        ),
    ] {
        let talk = Talk::new();
        let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
        talk.send(json!([user("Look.")]), answer.clone()).await;
        talk.rig.inner.will(refusal(400, error(message))).will(whole(document(&json!([text("fine")]))));
        let got = talk.post(MESSAGES, talk.body(&history()).to_string()).await;
        assert_eq!(got.status, 200, "{message}");
        let seen = talk.rig.inner.seen();
        let messages = |body: String| serde_json::from_str::<Value>(&body).unwrap()["messages"].clone();
        assert_eq!(messages(seen[1].text())[1], model(answer.clone()));
        assert_eq!(messages(seen[2].text()), history());
        assert_eq!(talk.rig.count(event), 1);
        let upstream = talk.ask(history()).await;
        assert_eq!(upstream[1] == model(answer), kept, "{message}");
    }
}

/// A14: the client's own blocks are never taken out.
#[tokio::test]
async fn the_clients_own_thinking_is_its_own_affair_a14() {
    let talk = Talk::new();
    let mut own = history();
    own[1] = model(json!([thinking("Mine.", FIRST), call("toolu_01aB3dE", 1)]));
    let refused = error("messages.1.content.0: Invalid `signature` in `thinking` block");
    talk.rig.inner.will(refusal(400, refused.clone()));
    let got = talk.post(MESSAGES, talk.body(&own).to_string()).await;
    assert_eq!((got.status.as_u16(), got.text()), (400, refused));
    assert_eq!(talk.rig.inner.seen().len(), 1);
}

/// A13: a provider that once spoke of another conversation is one that looks at what precedes thinking.
#[tokio::test]
async fn what_an_answer_says_of_dropped_thinking_is_heeded_a13() {
    let talk = Talk::new();
    let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let changed = json!([user("Look around."), history()[1], history()[2]]);
    assert_eq!(talk.ask(changed.clone()).await[1], model(answer.clone()));
    let transformations = json!([
        {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "prefix_binding_mismatch"}
    ]);
    let mut told: Value = serde_json::from_str(&document(&json!([text("fine")]))).unwrap();
    told["input_transformations"] = transformations;
    talk.raw(&talk.body(&json!([user("Hi.")])), told.to_string()).await;
    assert_eq!(talk.ask(changed.clone()).await, changed);
    assert_eq!(talk.ask(history()).await[1], model(answer));
}

/// A15: what is learned from a refusal does not bring the field without its header.
#[tokio::test]
async fn a_retry_does_not_ask_for_tolerance_without_the_header_a15() {
    let mut talk = Talk::new();
    talk.rig = Rig::with(TestStore::new(), [], |builder| builder.drop_mismatched_thoughts(true));
    let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let history = json!([user("Look."), model(json!([answer[1]])), user(json!([output("toolu_01aB3dE")]))]);
    let message = "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different \
                   conversation.";
    talk.rig.inner.will(refusal(400, error(message))).will(whole(document(&json!([text("fine")]))));
    talk.post(MESSAGES, talk.body(&history).to_string()).await;
    let last = talk.rig.inner.last();
    assert_eq!(serde_json::from_str::<Value>(&last.text()).unwrap(), talk.body(&history));
    assert!(!last.headers.contains_key("anthropic-beta"));
}

/// A15: where a relay loses the header, the request goes as it came.
#[tokio::test]
async fn refused_tolerance_is_rolled_back_a15() {
    let mut talk = Talk::with("claude-opus-5-5");
    talk.rig = Rig::with(TestStore::new(), [], |builder| builder.drop_mismatched_thoughts(true));
    let body = talk.body(&json!([user("Hi.")]));
    let message = "thinking.enabled.block_binding: Extra inputs are not permitted";
    talk.rig.inner.will(refusal(400, error(message))).will(whole(document(&json!([text("fine")]))));
    let got = talk.post(MESSAGES, body.to_string()).await;
    assert_eq!((got.status.as_u16(), talk.rig.count(Event::Healed)), (200, 1));
    assert_eq!(talk.rig.inner.last().text(), body.to_string());
}
