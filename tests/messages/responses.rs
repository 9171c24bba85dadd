//! What is remembered of a response, and what is not.

use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    support::{
        body::{Scripted, Step, bytes},
        service::{answer, frames},
    },
    talk::*,
};

fn history() -> Value {
    json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))])
}

/// Learns from this body, and tells the blocks of the model in the request after it.
async fn after(reply: String) -> Value {
    let talk = Talk::new();
    talk.raw(&talk.body(&json!([user("Look.")])), reply).await;
    talk.ask(history()).await[1]["content"].clone()
}

/// A9: a block without its end is never kept; the whole ones before it are.
#[tokio::test]
async fn of_a_broken_stream_whole_blocks_are_kept_a9() {
    let blocks = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    let whole = events(&blocks);
    assert_eq!(after(sse(&whole)).await, blocks);
    // Each of these breaks off inside of the call, which the client would not have either.
    let first_ends = whole.iter().position(|event| event["type"] == "content_block_stop").unwrap();
    let bare = json!([call("toolu_01aB3dE", 1)]);
    for end in 0..first_ends {
        assert_eq!(after(sse(&whole[..=end])).await, bare, "{end}");
    }
}

/// Rule 8: clients go on once they know why the message stops; that it has stopped may come later.
#[tokio::test]
async fn a_client_that_does_not_wait_for_the_end_finds_the_turn() {
    let talk = Talk::new();
    let blocks = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    let whole = stream(&blocks);
    let (seen, _) = whole.split_once("event: message_stop").unwrap();
    talk.rig.inner.will(answer(Scripted::new([bytes(seen.to_owned()), Step::Hang])));
    let asked = talk.body(&json!([user("Look.")])).to_string();
    let request = Request::post(MESSAGES)
        .header("x-api-key", "a key")
        .header("x-claude-code-session-id", "s")
        .body(Scripted::new([bytes(asked)]))
        .unwrap();
    let mut open = talk.rig.service().oneshot(request).await.unwrap().into_body();
    assert_eq!(open.frame().await.unwrap().unwrap().into_data().unwrap(), seen);
    assert_eq!(talk.ask(history()).await[1]["content"], blocks);
    drop(open);
}

/// Rule 8: what follows the end belongs to the turn.
#[tokio::test]
async fn what_follows_the_reason_to_stop_is_kept_with_the_turn() {
    let blocks = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    let mut events = events(&blocks);
    let call = events.iter().position(|event| event["index"] == 1).unwrap();
    events.insert(call, json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}}));
    events.push(json!({"type": "message_stop"}));
    assert_eq!(after(sse(&events)).await, blocks);
}

/// Rule 9: after an error nothing is kept.
#[tokio::test]
async fn an_error_takes_the_turn_back() {
    let blocks = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let (whole, end) = (stream(&blocks), "event: message_stop");
    let (stopped, _) = whole.split_once(end).unwrap();
    // Before the reason to stop, and behind it, when the turn is stored already.
    for before in [sse(&events(&blocks)), stopped.to_owned()] {
        let answer = before + &sse(std::slice::from_ref(&error));
        assert_eq!(after(answer).await, json!([call("toolu_01aB3dE", 1)]));
    }
}

/// Unsigned thinking is nothing that could go back.
#[tokio::test]
async fn unsigned_thinking_is_not_learned() {
    for block in
        [thinking("First.", ""), json!({"type": "thinking", "thinking": "First."}), thinking("First.", "short")]
    {
        let blocks = json!([block, call("toolu_01aB3dE", 1)]);
        assert_eq!(after(document(&blocks)).await, json!([call("toolu_01aB3dE", 1)]));
        assert_eq!(after(stream(&blocks)).await, json!([call("toolu_01aB3dE", 1)]));
    }
}

/// Events and deltas of a later version of the protocol mean nothing.
#[tokio::test]
async fn what_is_not_known_is_passed_over() {
    let blocks = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    let mut all = Vec::new();
    for event in events(&blocks) {
        let stop = event["type"] == "content_block_stop" && event["index"] == 0;
        if stop {
            let delta = json!({"type": "mood_delta", "mood": "good"});
            all.push(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        all.extend([json!({"type": "ping"}), json!({"type": "weather", "index": "none"}), event]);
    }
    all.push(json!({"type": "message_stop"}));
    assert_eq!(after(sse(&all) + "data: [DONE]\n\n").await, blocks);
}

/// Nonsense makes a response one that is not remembered.
#[tokio::test]
async fn nonsense_is_not_remembered() {
    let events = events(&json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]));
    let odd = [
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "x"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": text("")}),
        json!({"type": "content_block_stop", "index": 7}),
        json!({"type": "content_block_start", "index": -1, "content_block": text("")}),
    ];
    for odd in odd {
        let reply = sse(&events) + &sse(&[odd, json!({"type": "message_stop"})]);
        assert_eq!(after(reply).await, json!([call("toolu_01aB3dE", 1)]));
    }
}

/// Arguments that were cut off make no call; a call without any has none.
#[tokio::test]
async fn arguments_are_put_together_from_their_pieces() {
    let start = |id: &str| {
        let block = json!({"type": "tool_use", "id": id, "name": "look", "input": {}});
        json!({"type": "content_block_start", "index": 1, "content_block": block})
    };
    let piece = |piece: &str| {
        let delta = json!({"type": "input_json_delta", "partial_json": piece});
        json!({"type": "content_block_delta", "index": 1, "delta": delta})
    };
    let stop = json!({"type": "content_block_stop", "index": 1});
    let ended = json!({"type": "message_stop"});
    for (pieces, input) in [
        (vec![], Some(json!({}))),
        (vec![""], Some(json!({}))),
        (vec!["", "{\"at\": \"\\u00", "e9\"}"], Some(json!({"at": "é"}))),
        (vec!["{\"at\": "], None),
    ] {
        let talk = Talk::new();
        let mut all = events(&json!([thinking("First.", FIRST)]));
        all.push(start("toolu_01aB3dE"));
        all.extend(pieces.iter().map(|text| piece(text)));
        all.extend([stop.clone(), ended.clone()]);
        talk.raw(&talk.body(&json!([user("Look.")])), sse(&all)).await;
        // The call was dropped: if it is known it is back, with what stood before it.
        let upstream = talk.ask(json!([user("Look."), user(json!([output("toolu_01aB3dE")]))])).await;
        match input {
            Some(input) => assert_eq!(upstream[1]["content"][1]["input"], input),
            None => assert_eq!(upstream.as_array().unwrap().len(), 2),
        }
    }
}

/// Rule 3: the frames pass as they came.
#[tokio::test]
async fn frames_pass_untouched() {
    let reply = stream(&json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]));
    for size in [1, 7, reply.len()] {
        let talk = Talk::new();
        let pieces = crate::support::gemini::cut(&reply, size);
        talk.rig.inner.will(frames(&pieces));
        let got = talk.post(MESSAGES, talk.body(&json!([user("Look.")])).to_string()).await;
        crate::support::assert_same(&got.frames, &pieces);
        let upstream = talk.ask(history()).await;
        assert_eq!(upstream[1]["content"][0], thinking("First.", FIRST), "in pieces of {size}");
    }
    // Nothing at all is no answer.
    let talk = Talk::new();
    talk.rig.inner.will(answer(Scripted::new([])));
    talk.post(MESSAGES, talk.body(&json!([user("Look.")])).to_string()).await;
    assert_eq!(talk.ask(history()).await, history());
}
