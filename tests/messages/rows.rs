//! Reports that come down to one bare property each.

use serde_json::{Value, json};
use tower_reasoning_replay::engine::Event;

use crate::{
    support::service::{refusal, whole},
    talk::*,
};

fn outputs() -> Value {
    user(json!([output("toolu_01aB3dE")]))
}

/// A2: a body in a spelling of its own keeps every byte of it; only the block is new.
#[tokio::test]
async fn what_is_put_back_is_spliced_in_and_the_rest_keeps_its_spelling_a2() {
    let talk = Talk::new();
    let answer = json!([thinking("Fir\u{301}st.", FIRST), call("toolu_01aB3dE", 1)]);
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let call = r#"{ "input" :{"at":1.0}, "name":"l\u006fok","id":"toolu_01aB3dE","type":"tool_use"}"#;
    let head = "{ \"max_tokens\" : 4096 , \"model\":\"claude-sonnet-4-5\",\t\"thinking\": {\"budget_tokens\":1024,\"type\":\"enabled\"},\n\"messages\" :[{\"content\":\"L\\u006fok.\",\"role\":\"user\"},{\"role\":\"assistant\",\"content\" : [ ";
    let tail = " ]} ,{\"role\":\"user\",\"content\":[{\"tool_use_id\":\"toolu_01aB3dE\",\"type\":\"tool_result\",\"content\":\"s\\u0065en\"}]}] }\n";
    talk.rig.inner.will(whole(document(&json!([text("fine")]))));
    talk.post(MESSAGES, [head, call, tail].concat()).await;
    let seen = talk.rig.inner.last().text();
    let block = answer[0].to_string();
    assert_eq!(seen, [head, &block, ",", call, tail].concat());
    // With nothing to be put back, nothing changes at all.
    talk.rig.inner.will(whole(document(&json!([text("fine")]))));
    talk.post(MESSAGES, seen.clone()).await;
    assert_eq!(talk.rig.inner.last().text(), seen);
}

/// A5: a block whose text is empty is as good as any; one that was cut off is none, nor is one cut signature.
#[tokio::test]
async fn hidden_thinking_comes_back_and_half_a_signature_is_never_kept_a5() {
    let answer = json!([thinking("", FIRST), call("toolu_01aB3dE", 1)]);
    let history = json!([user("Look."), model(json!([answer[1]])), outputs()]);
    for reply in [document(&answer), stream(&answer)] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Look.")])), reply).await;
        assert_eq!(talk.ask(history.clone()).await[1], model(answer.clone()));
    }
    // The stream breaks at every event: whatever comes back is the whole block.
    let events = events(&answer);
    for length in 0..events.len() {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Look.")])), sse(&events[..length])).await;
        let back = talk.ask(history.clone()).await;
        assert!(back == history || back[1] == model(answer.clone()), "{length}: {back}");
    }
}

/// A6: redacted thinking keeps its type and its `data`, alone as well.
#[tokio::test]
async fn redacted_thinking_comes_back_with_its_data_a6() {
    let answer = json!([redacted("EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5"), call("toolu_01aB3dE", 1)]);
    for reply in [document(&answer), stream(&answer)] {
        for kept in [json!([answer[1]]), json!([{"type": "redacted_thinking"}, answer[1]])] {
            let talk = Talk::new();
            talk.raw(&talk.body(&json!([user("Look.")])), reply.clone()).await;
            let upstream = talk.ask(json!([user("Look."), model(kept), outputs()])).await;
            assert_eq!(upstream[1], model(answer.clone()));
        }
    }
}

/// A12: the second request is another one, there is but one, and each stage is counted.
#[tokio::test]
async fn one_more_request_without_what_was_refused_is_sent_and_counted_a12() {
    let message = "messages.1.content.0: Invalid `signature` in `thinking` block";
    let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string();
    let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    let history = json!([user("Look."), model(json!([answer[1]])), outputs()]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), answer).await;
    // The provider refuses both attempts: the client reads the first refusal, byte for byte.
    let other = error.replace("messages.1", "messages.2");
    talk.rig.inner.will(refusal(400, error.clone())).will(refusal(400, other));
    let got = talk.post(MESSAGES, talk.body(&history).to_string()).await;
    assert_eq!((got.status.as_u16(), got.text()), (400, error.clone()));
    let seen = talk.rig.inner.seen();
    assert_eq!(seen.len(), 3, "one request and one more");
    assert_ne!(seen[1].text(), seen[2].text());
    assert_eq!(seen[2].text(), talk.body(&history).to_string());
    let count = |event| talk.rig.count(event);
    let stages = [Event::Restored, Event::RefusedInvalid, Event::Forgotten, Event::Retried, Event::Healed];
    assert_eq!(stages.map(count), [1, 1, 1, 1, 0]);
    // Nothing is left to be blamed: the same refusal is the client's own, and asks for no other attempt.
    talk.rig.inner.will(refusal(400, error.clone()));
    let got = talk.post(MESSAGES, talk.body(&history).to_string()).await;
    assert_eq!((got.status.as_u16(), got.text(), talk.rig.inner.seen().len()), (400, error, 4));
}

/// A19: nothing stands in for a signature here. What is not known is left out, whatever the provider says.
#[tokio::test]
async fn no_signature_is_ever_made_up_a19() {
    let message = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When \
                   `thinking` is enabled, a final `assistant` message must start with a thinking block";
    let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string();
    let talk = Talk::new();
    let history = json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), outputs()]);
    talk.rig.inner.will(refusal(400, error.clone()));
    let sent = talk.body(&history).to_string();
    let got = talk.post(MESSAGES, sent.clone()).await;
    assert_eq!((got.status.as_u16(), got.text()), (400, error));
    let seen: Vec<String> = talk.rig.inner.seen().iter().map(|seen| seen.text()).collect();
    assert_eq!(seen, [sent]);
}
