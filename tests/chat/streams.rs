//! How answers arrive, and when they count.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_reasoning_replay::engine::Unobserved;

use crate::{
    support::{
        assert_same,
        body::{Scripted, Step},
        rig::drain,
        service::{answer as answered, frames, whole},
        store::{Mode, TestStore},
    },
    talk::*,
};

fn bare() -> Value {
    json!([user("look"), said("Yes.", &json!({})), user("and?")])
}

/// What a history with this text arrives with, after this stream.
async fn after(stream: impl Into<Bytes>) -> Value {
    let talk = Talk::new();
    talk.send(&json!([user("look")]), stream).await;
    talk.look(&bare()).await[1].clone()
}

/// D9: entries stand in the order in which they first came, with fields that nobody knows, whatever comes between.
#[tokio::test]
async fn fragments_are_merged_in_their_order_d9() {
    let fragment = |entry: Value| delta(&json!({"reasoning": null, "reasoning_details": [entry]}));
    let comment = ": OPENROUTER PROCESSING\n\n".to_owned();
    let events = [
        comment.clone(),
        fragment(json!({"type": "reasoning.summary", "summary": "Fi", "format": "f", "index": 0, "note": [1]})),
        delta(&json!({"role": "assistant", "content": ""})),
        fragment(json!({"type": "reasoning.summary", "summary": "rst.", "format": "f", "index": 0})),
        comment.clone(),
        event(&json!({"choices": [], "usage": {"total_tokens": 1}})),
        fragment(json!({"type": "reasoning.text", "text": "", "signature": "", "index": 1})),
        fragment(json!({"type": "reasoning.text", "text": "Why\n", "index": 1})),
        fragment(json!({"type": "reasoning.text", "text": "not?", "index": 1})),
        fragment(json!({"type": "reasoning.text", "signature": OPAQUE, "index": 1})),
        fragment(json!({"type": "reasoning.encrypted", "data": OPAQUE, "id": "rs_1", "index": 2})),
        delta(&json!({"content": "Yes."})),
        finish("stop"),
        event(&json!({"choices": [], "usage": {"total_tokens": 7}})),
        comment,
        "data: [DONE]\n\n".to_owned(),
    ];
    let wanted = json!([
        {"type": "reasoning.summary", "summary": "First.", "format": "f", "index": 0, "note": [1]},
        {"type": "reasoning.text", "text": "Why\nnot?", "signature": OPAQUE, "index": 1},
        {"type": "reasoning.encrypted", "data": OPAQUE, "id": "rs_1", "index": 2},
    ]);
    let stream = events.concat();
    assert_eq!(after(stream.clone()).await["reasoning_details"], wanted);
    assert_eq!(after(stream.replace("\n", "\r\n")).await["reasoning_details"], wanted);
}

/// Whatever the cuts of the stream, the same is known.
#[tokio::test]
async fn a_stream_may_be_cut_anywhere_d8() {
    let text = stream(
        &[
            json!({"role": "assistant", "content": null, "reasoning_text": "Wh"}),
            json!({"reasoning_text": "y? 東京"}),
            json!({"content": "Yes.", "reasoning_opaque": OPAQUE}),
        ],
        "stop",
    );
    let wanted = said("Yes.", &json!({"reasoning_text": "Why? 東京", "reasoning_opaque": OPAQUE}));
    for size in [1, 2, 3, 7, 50] {
        let talk = Talk::new();
        let pieces: Vec<Bytes> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        talk.rig.inner.will(frames(&pieces));
        let got = talk.post(talk.body(&json!([user("look")])).to_string()).await;
        assert_same(&got.frames, &pieces);
        assert_eq!(talk.look(&bare()).await[1], wanted, "{size}");
    }
}

/// G1: calls come without an index, each whole; the signature in the same delta or in one of its own.
#[tokio::test]
async fn calls_without_an_index_keep_their_signature_g1() {
    let signed = |id: &str| with(call(id), &json!({"extra_content": {"google": {"thought_signature": OPAQUE}}}));
    let alone = json!({"id": FIRST, "extra_content": {"google": {"thought_signature": OPAQUE}}});
    for deltas in [
        vec![json!({"tool_calls": [signed(FIRST)]}), json!({"tool_calls": [call(SECOND)]})],
        vec![json!({"tool_calls": [signed(FIRST), call(SECOND)]})],
        vec![
            json!({"tool_calls": [call(FIRST)]}),
            json!({"tool_calls": [alone]}),
            json!({"tool_calls": [call(SECOND)]}),
        ],
    ] {
        let talk = Talk::new();
        talk.send(&json!([user("look")]), stream(&deltas, "stop")).await;
        let history = json!([user("look"), answer(&[FIRST, SECOND], &json!({})), output(FIRST), output(SECOND)]);
        let arrived = talk.look(&history).await;
        assert_eq!(arrived[1]["tool_calls"], json!([signed(FIRST), call(SECOND)]));
    }
    // A text is signed on its message.
    let extra = json!({"extra_content": {"google": {"thought_signature": OPAQUE}}});
    let deltas = [json!({"content": "Ye"}), json!({"content": "s."}), extra.clone()];
    assert_eq!(after(stream(&deltas, "stop")).await, said("Yes.", &extra));
}

/// Chunks of thinking and text, as strings and as lists.
#[tokio::test]
async fn chunks_come_in_strings_and_lists_d8() {
    let thinking =
        |text: &str| json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]});
    let whole = json!([
        {"type": "thinking", "thinking": [{"type": "text", "text": "Why?"}]}, {"type": "text", "text": "Yes."},
    ]);
    for deltas in [
        vec![
            json!({"content": ""}),
            thinking("Wh"),
            thinking("y?"),
            json!({"content": "Ye"}),
            json!({"content": "s."}),
        ],
        vec![
            json!({"content": null}),
            thinking("Why?"),
            json!({"content": [{"type": "text", "text": "Yes."}], "p": "ab"}),
        ],
    ] {
        assert_eq!(after(stream(&deltas, "stop")).await["content"], whole);
    }
}

/// The first word about the end counts; what comes behind it belongs to the same turn.
#[tokio::test]
async fn what_comes_late_belongs_to_the_same_turn_d9() {
    let entry = json!([{"type": "reasoning.encrypted", "data": OPAQUE, "id": "rs_1", "index": 0}]);
    let events = [
        delta(&json!({"reasoning": "Why?"})),
        delta(&json!({"content": "Yes."})),
        finish("stop"),
        event(&json!({"choices": [{"index": 0, "delta": {"reasoning_details": entry}, "finish_reason": "stop"}]})),
        event(&json!({"choices": [], "usage": {}})),
        "data: [DONE]\n\n".to_owned(),
    ];
    let talk = Talk::new();
    talk.rig.inner.will(frames(&events.clone().map(Bytes::from)));
    talk.post(talk.body(&json!([user("look")])).to_string()).await;
    assert_eq!(talk.rig.store.turns().len(), 1);
    let wanted = said("Yes.", &json!({"reasoning": "Why?", "reasoning_details": entry}));
    assert_eq!(talk.look(&bare()).await[1], wanted);
}

/// A client that goes on at the finish finds the turn, and `[DONE]` need not come.
#[tokio::test]
async fn the_turn_is_known_when_the_client_sees_the_finish_d1() {
    let events = [delta(&json!({"reasoning_content": "Why?"})), delta(&json!({"content": "Yes."})), finish("stop")];
    let store = TestStore::remote();
    store.append_as(Mode::After(Duration::from_millis(30)));
    let talk = Talk::on(store.clone(), |builder| builder);
    let steps = events.iter().map(|event| Step::Data(event.clone().into())).chain([Step::Hang]);
    talk.rig.inner.will(answered(Scripted::new(steps)));
    let response = talk.rig.send(talk.request(talk.body(&json!([user("look")])).to_string())).await.unwrap();
    let mut body = response.into_body();
    for event in &events {
        assert!(store.turns().is_empty());
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, event);
    }
    assert_eq!(store.turns().len(), 1);
    assert_eq!(talk.look(&bare()).await[1]["reasoning_content"], "Why?");
}

/// Without its end nothing of an answer is kept, and after an error neither.
#[tokio::test]
async fn broken_answers_leave_nothing_d1() {
    let begun = delta(&json!({"reasoning_content": "Why?"})) + &delta(&json!({"content": "Yes."}));
    let error = json!({"error": {"code": 502, "message": "Provider disconnected"}});
    let failed =
        with(error.clone(), &json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}));
    for (steps, why) in [
        (vec![Step::Data(begun.clone().into())], Unobserved::Interrupted),
        (vec![Step::Data(begun.clone().into()), Step::Error(7)], Unobserved::Interrupted),
        (vec![Step::Data((begun.clone() + &event(&error)).into())], Unobserved::Failed),
        (vec![Step::Data((begun.clone() + &event(&failed) + "data: [DONE]\n\n").into())], Unobserved::Failed),
    ] {
        let talk = Talk::new();
        talk.rig.inner.will(answered(Scripted::new(steps)));
        let got = talk.post(talk.body(&json!([user("look")])).to_string()).await;
        assert_eq!(got.report().unobserved, Some(why));
        assert!(talk.rig.store.turns().is_empty());
        assert_eq!(talk.look(&bare()).await, bare());
    }
    // A client that goes away in the middle leaves nothing either.
    let talk = Talk::new();
    talk.rig.inner.will(answered(Scripted::new([Step::Data(begun.into()), Step::Hang])));
    let response = talk.rig.send(talk.request(talk.body(&json!([user("look")])).to_string())).await.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert!(talk.rig.store.turns().is_empty());
}

/// What a limit cut off is not the reasoning of anything, unless it is signed.
#[tokio::test]
async fn reasoning_that_was_cut_off_waits_until_it_is_missed_d8() {
    for reason in ["length", "content_filter"] {
        let clear = [json!({"reasoning_content": "Why?"}), json!({"content": "Yes."})];
        assert_eq!(after(stream(&clear, reason)).await, said("Yes.", &json!({})), "{reason}");
        let pair = json!({"reasoning_text": "Why?", "reasoning_opaque": OPAQUE});
        let signed = [pair.clone(), json!({"content": "Yes."})];
        assert_eq!(after(stream(&signed, reason)).await, said("Yes.", &pair), "{reason}");
    }
    for reason in ["stop", "tool_calls", "end_turn"] {
        let clear = [json!({"reasoning_content": "Why?"}), json!({"content": "Yes."})];
        assert_eq!(after(stream(&clear, reason)).await, said("Yes.", &json!({"reasoning_content": "Why?"})));
    }
}

/// The client goes on with one of several choices, and gets what that one thought.
#[tokio::test]
async fn of_several_choices_the_one_that_was_kept_counts_d10() {
    let choice = |index: usize, text: &str, thought: &str| {
        let message = said(text, &json!({"reasoning_content": thought}));
        json!({"index": index, "message": message, "finish_reason": "stop"})
    };
    let talk = Talk::new();
    let choices = [choice(0, "Yes.", "For it."), choice(1, "No.", "Against it."), choice(2, "Yes.", "Still for it.")];
    talk.send(&json!([user("look")]), json!({"choices": choices}).to_string()).await;
    for (text, thought) in [("No.", "Against it."), ("Yes.", "For it.")] {
        let history = json!([user("look"), said(text, &json!({})), user("and?")]);
        assert_eq!(talk.look(&history).await[1]["reasoning_content"], thought);
    }
    // Streamed, they come in turns.
    let part = |index: usize, delta: Value, reason: Value| {
        event(&json!({"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}))
    };
    let events = [
        part(0, json!({"reasoning_content": "For "}), Value::Null),
        part(1, json!({"reasoning_content": "Against "}), Value::Null),
        part(0, json!({"reasoning_content": "it.", "content": null}), Value::Null),
        part(1, json!({"reasoning_content": "it."}), Value::Null),
        part(1, json!({"content": "No."}), "stop".into()),
        part(0, json!({"content": "Yes."}), "stop".into()),
        "data: [DONE]\n\n".to_owned(),
    ];
    let talk = Talk::new();
    talk.send(&json!([user("look")]), events.concat()).await;
    for (text, thought) in [("No.", "Against it."), ("Yes.", "For it.")] {
        let history = json!([user("look"), said(text, &json!({})), user("and?")]);
        assert_eq!(talk.look(&history).await[1]["reasoning_content"], thought);
    }
}

/// An answer that is compressed passes on unobserved.
#[tokio::test]
async fn a_compressed_answer_passes_on_d1() {
    let talk = Talk::new();
    let document = document(&said("Yes.", &json!({"reasoning_content": "Why?"})), "stop");
    let mut response = http::Response::new(Scripted::new([Step::Data(document.clone().into())]));
    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    talk.rig.inner.will(crate::support::service::Act::Answer(response));
    let request = talk.request(talk.body(&json!([user("look")])).to_string());
    let got = drain(talk.rig.send(request).await.unwrap()).await;
    assert_eq!((got.text(), got.report().unobserved), (document, Some(Unobserved::Encoded)));
    let headers = talk.rig.inner.last().headers;
    assert_eq!(headers["accept-encoding"], "identity");
    talk.rig.inner.will(whole("{}"));
    talk.post(talk.body(&bare()).to_string()).await;
    assert_eq!(talk.arrived()["messages"], bare());
}
