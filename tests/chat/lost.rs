//! Reasoning that clients drop, between them and the provider.

use serde_json::{Value, json};

use crate::talk::*;

/// D1, D4, D8.
#[tokio::test]
async fn reasoning_goes_back_onto_calls_and_onto_plain_answers_d1() {
    let talk = Talk::new();
    let (asked, called) = (user("look"), answer(&[FIRST], &json!({"reasoning_content": "I have to."})));
    talk.ask(&json!([asked]), called.clone()).await;
    let said = json!({"role": "assistant", "content": "seen", "reasoning_content": "It is there."});
    for bare in [answer(&[FIRST], &json!({})), answer(&[FIRST], &json!({"reasoning_content": ""}))] {
        let upstream = talk.ask(&json!([asked, bare, output(FIRST)]), said.clone()).await;
        assert_eq!(upstream, json!([asked, called, output(FIRST)]));
        let history = json!([asked, bare, output(FIRST), {"role": "assistant", "content": "seen"}, user("and?")]);
        let upstream = talk.ask(&history, json!({"content": "fine"})).await;
        assert_eq!(upstream, json!([asked, called, output(FIRST), said, user("and?")]));
    }
}

/// D2 and D10: what every message of a step needs, and what stands once.
#[tokio::test]
async fn parallel_calls_in_messages_of_their_own_get_what_they_need_d2() {
    for (members, repeated) in [
        (json!({"reasoning_content": "Both."}), true),
        (
            json!({"reasoning": "Both.", "reasoning_details": [{"type": "reasoning.encrypted", "data": "b3BhcXVlIHN0YXRl"}]}),
            false,
        ),
    ] {
        let (talk, none) = (Talk::new(), json!({}));
        talk.ask(&json!([user("look")]), answer(&[FIRST, SECOND], &members)).await;
        let (one, two) = (answer(&[FIRST], &json!({})), answer(&[SECOND], &json!({})));
        let history = json!([user("look"), one, output(FIRST), two, output(SECOND)]);
        let apart = talk.ask(&history, json!({"content": "fine"})).await;
        let history = json!([user("look"), one, two, output(FIRST), output(SECOND)]);
        let upstream = talk.ask(&history, json!({"content": "fine"})).await;
        assert_eq!(upstream[1], answer(&[FIRST], &members));
        assert_eq!(upstream[2], answer(&[SECOND], if repeated { &members } else { &none }));
        assert_eq!((&apart[1], &apart[3]), (&upstream[1], &upstream[2]));
    }
}

/// D9: fragments are one list, in the order in which they came.
#[tokio::test]
async fn fragments_of_details_go_back_as_one_list_d9() {
    let talk = Talk::new();
    let delta = |delta: Value| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
    let events = [
        delta(json!({"reasoning_details": [{"type": "reasoning.text", "text": "I ", "index": 0}]})),
        ": PROCESSING\n\n".to_owned(),
        delta(json!({"reasoning_details": [{"type": "reasoning.text", "text": "look.", "index": 0}]})),
        delta(json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "b3BhcXVlIHN0YXRl", "index": 0}]})),
        delta(json!({"tool_calls": [{"index": 0, "id": FIRST, "function": call(FIRST)["function"]}]})),
        format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})),
    ];
    talk.send(&json!([user("look")]), events.concat()).await;
    let history = json!([user("look"), answer(&[FIRST], &json!({})), output(FIRST)]);
    let upstream = talk.ask(&history, json!({"content": "fine"})).await;
    assert_eq!(
        upstream[1]["reasoning_details"],
        json!([
            {"type": "reasoning.text", "text": "I look.", "index": 0},
            {"type": "reasoning.encrypted", "data": "b3BhcXVlIHN0YXRl", "index": 0},
        ])
    );
}

/// Steps that a client joins have room for the reasoning of one: no member stands twice.
#[tokio::test]
async fn joined_steps_have_the_reasoning_of_one_d10() {
    let talk = Talk::new();
    let asked = user("look");
    talk.ask(&json!([asked]), answer(&[FIRST], &json!({"reasoning_content": "One."}))).await;
    let history = json!([asked, answer(&[FIRST], &json!({})), output(FIRST)]);
    talk.ask(&history, answer(&[SECOND], &json!({"reasoning_content": "Two."}))).await;
    let request = json!([asked, answer(&[FIRST, SECOND], &json!({})), output(FIRST), output(SECOND)]);
    let upstream = talk.ask(&request, json!({"content": "fine"})).await;
    assert_eq!(upstream[1], answer(&[FIRST, SECOND], &json!({"reasoning_content": "One."})));
}

/// The signature of a call stands in it, and chunks of thinking stand in the content.
#[tokio::test]
async fn state_goes_back_to_the_place_from_which_it_came_g1() {
    let talk = Talk::new();
    let mut signed = answer(&[FIRST, SECOND], &json!({}));
    signed["tool_calls"][0]["extra_content"] = json!({"google": {"thought_signature": "c2lnbmF0dXJlIG9uZQ=="}});
    talk.ask(&json!([user("look")]), signed.clone()).await;
    let history = json!([user("look"), answer(&[FIRST, SECOND], &json!({})), output(FIRST), output(SECOND)]);
    assert_eq!(talk.ask(&history, json!({"content": "fine"})).await[1], signed);

    let thinking = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Why not?"}], "closed": true});
    let content = json!([thinking, {"type": "text", "text": "Yes."}]);
    talk.ask(&json!([user("may I?")]), json!({"content": content})).await;
    let history = json!([user("may I?"), {"role": "assistant", "content": "Yes."}, user("when?")]);
    let upstream = talk.ask(&history, json!({"content": "fine"})).await;
    assert_eq!(upstream[1], json!({"role": "assistant", "content": content}));
}

/// Calls that a client dropped come back with their reasoning, before the outputs that it kept.
#[tokio::test]
async fn dropped_calls_come_back_with_their_reasoning_d1() {
    let talk = Talk::new();
    let called = answer(&[FIRST, SECOND], &json!({"reasoning_content": "Both."}));
    talk.ask(&json!([user("look")]), called.clone()).await;
    let history = json!([user("look"), output(FIRST), output(SECOND)]);
    let upstream = talk.ask(&history, json!({"content": "fine"})).await;
    assert_eq!(upstream, json!([user("look"), called, output(FIRST), output(SECOND)]));
    let one = answer(&[SECOND], &json!({}));
    let history = json!([user("look"), one, output(FIRST), output(SECOND)]);
    let upstream = talk.ask(&history, json!({"content": "fine"})).await;
    assert_eq!(upstream, json!([user("look"), called, output(FIRST), output(SECOND)]));
}

/// The client's own reasoning stays, and a request that has it all is not touched.
#[tokio::test]
async fn reasoning_of_the_clients_own_stays_d10() {
    let talk = Talk::new();
    talk.ask(&json!([user("look")]), answer(&[FIRST], &json!({"reasoning_content": "I have to."}))).await;
    for own in [json!({"reasoning_content": "Own."}), json!({"reasoning": "Own."})] {
        let history = json!([user("look"), answer(&[FIRST], &own), output(FIRST)]);
        assert_eq!(talk.ask(&history, json!({"content": "fine"})).await, history);
    }
}
