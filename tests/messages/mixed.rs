//! Histories in which turns are mixed, cut, or changed beside what is put back.

use serde_json::{Value, json};

use crate::{
    support::service::{refusal, whole},
    talk::*,
};

const THIRD: &str = "EqUBCkYIBxgCKkBhbmQgYSB0aGlyZCBvbmUgb2YgdGhlbQ==";

fn error(message: &str) -> String {
    json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string()
}

/// Of two answers to one request, the one that the client went on with gets its own, and nothing of the other.
#[tokio::test]
async fn two_answers_to_one_request_are_not_mixed() {
    let answer = |state: &str, id: &str| json!([thinking("Hm.", state), text("Let me look."), call(id, 1)]);
    let one = answer(FIRST, "toolu_01aB3dE");
    let other = answer(SECOND, "toolu_01xY7zW");
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), one.clone()).await;
    talk.send(json!([user("Look.")]), other.clone()).await;
    for (answer, id) in [(one, "toolu_01aB3dE"), (other, "toolu_01xY7zW")] {
        let unsigned = json!({"type": "thinking", "thinking": "Hm."});
        for kept in [json!([answer[1], answer[2]]), json!([unsigned, answer[1], answer[2]])] {
            let upstream = talk.ask(json!([user("Look."), model(kept), user(json!([output(id)]))])).await;
            assert_eq!(upstream[1], model(answer.clone()));
        }
    }
}

/// Of two answers to one request that begin alike, it is the one of which all is there; of less than one, none.
#[tokio::test]
async fn of_two_answers_that_begin_alike_the_whole_one_is_known() {
    let answer =
        |state: &str, last: &str| json!([thinking("Hm.", state), text("A"), redacted(&state.repeat(2)), text(last)]);
    let talk = Talk::new();
    for (state, last) in [(FIRST, "B"), (SECOND, "C")] {
        talk.send(json!([user("Go.")]), answer(state, last)).await;
    }
    for (state, last) in [(FIRST, "B"), (SECOND, "C")] {
        let history = json!([user("Go."), model(json!([text("A"), text(last)])), user("And?")]);
        assert_eq!(talk.ask(history).await[1], model(answer(state, last)));
    }
    for kept in [json!([text("A"), text("D")]), json!([text("B"), text("C")])] {
        let history = json!([user("Go."), model(kept), user("And?")]);
        assert_eq!(talk.ask(history.clone()).await, history);
    }
}

/// A few words of an answer may stand in any other.
#[tokio::test]
async fn equal_words_in_another_answer_get_nothing() {
    let talk = Talk::new();
    talk.send(json!([user("One.")]), json!([text("Well."), thinking("Hm.", FIRST), text("That is all.")])).await;
    let other = json!([user("Two."), model(json!([text("So."), text("That is all.")])), user("And?")]);
    assert_eq!(talk.ask(other.clone()).await, other);
}

/// A13: what stood between two thoughts of one turn precedes the second of them as well.
#[tokio::test]
async fn bound_thinking_is_not_put_behind_a_gap_in_its_own_turn_a13() {
    let answer = json!([thinking("First.", FIRST), text("So."), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    let outputs = user(json!([output("toolu_01aB3dE")]));
    for (model_id, is_back) in [("claude-sonnet-4-5", true), ("claude-opus-5-5", false)] {
        let talk = Talk::with(model_id);
        talk.send(json!([user("Look.")]), answer.clone()).await;
        let upstream = talk.ask(json!([user("Look."), model(json!([answer[3]])), outputs])).await;
        let thoughts = json!([answer[0], answer[2], answer[3]]);
        assert_eq!(upstream[1], model(if is_back { thoughts } else { json!([answer[3]]) }), "{model_id}");
        let upstream = talk.ask(json!([user("Look."), model(json!([answer[1], answer[3]])), outputs])).await;
        assert_eq!(upstream[1], model(answer.clone()), "{model_id}");
    }
}

/// Rule 6: thinking does not stand before what the client changed.
#[tokio::test]
async fn thinking_is_not_put_before_changed_content() {
    let answer = json!([thinking("First.", FIRST), text("So."), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    for (changed, next) in [
        (json!([text("So."), call("toolu_01aB3dE", 7)]), json!([output("toolu_01aB3dE")])),
        (json!([text("So."), text("What else?")]), json!("And?")),
        (json!([text("Well."), call("toolu_01aB3dE", 1)]), json!([output("toolu_01aB3dE")])),
    ] {
        let talk = Talk::new();
        talk.send(json!([user("Look.")]), answer.clone()).await;
        let history = json!([user("Look."), model(changed), user(next)]);
        assert_eq!(talk.ask(history.clone()).await, history);
    }
}

/// Thinking precedes what it led to; without that it would stand last in its message, which the provider refuses.
#[tokio::test]
async fn thinking_is_not_put_last() {
    let answer = json!([thinking("First.", FIRST), text("So."), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), answer).await;
    for kept in [json!("So."), json!([text("So.")])] {
        let history = json!([user("Look."), model(kept), user("And?")]);
        assert_eq!(talk.ask(history.clone()).await, history);
    }
}

/// What was kept of a turn in another order is not what it was.
#[tokio::test]
async fn reordered_content_gets_none() {
    let answer = json!([thinking("First.", FIRST), text("So."), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let kept = model(json!([answer[3], answer[1]]));
    let history = json!([user("Look."), kept, user(json!([output("toolu_01aB3dE")]))]);
    assert_eq!(talk.ask(history.clone()).await, history);
}

/// A client that answers parallel calls one by one gets all thinking in one place, or none.
#[tokio::test]
async fn a_turn_that_was_taken_apart_gets_its_thinking_once() {
    let first = call("toolu_01aB3dE", 1);
    let second = call("toolu_01xY7zW", 2);
    let apart = json!([
        user("Look."),
        model(json!([first])),
        user(json!([output("toolu_01aB3dE")])),
        model(json!([second])),
        user(json!([output("toolu_01xY7zW")])),
    ]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), json!([thinking("1", FIRST), first, second])).await;
    let mut expected = apart.clone();
    expected[1] = model(json!([thinking("1", FIRST), first]));
    assert_eq!(talk.ask(apart.clone()).await, expected);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), json!([thinking("1", FIRST), first, thinking("2", SECOND), second])).await;
    assert_eq!(talk.ask(apart.clone()).await, apart);
}

/// All thinking of a turn goes back or none: after a part of it was forgotten, none.
#[tokio::test]
async fn the_rest_of_a_turn_with_forgotten_thinking_stays_away() {
    let answer = json!([thinking("First.", FIRST), text("So."), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let history = json!([user("Look."), model(json!([answer[1], answer[3]])), user(json!([output("toolu_01aB3dE")]))]);
    let message = "messages.1.content.2: Invalid `signature` in `thinking` block";
    talk.rig.inner.will(refusal(400, error(message))).will(whole(document(&json!([text("fine")]))));
    let got = talk.post(MESSAGES, talk.body(&history).to_string()).await;
    assert_eq!(got.status, 200);
    let seen = talk.rig.inner.seen();
    assert_eq!(serde_json::from_str::<Value>(&seen[1].text()).unwrap()["messages"][1], model(answer));
    assert_eq!(talk.ask(history.clone()).await, history);
    // The calls come back without it.
    let dropped = json!([user("Look."), user(json!([output("toolu_01aB3dE")]))]);
    let upstream = talk.ask(dropped).await;
    assert_eq!(upstream[1], model(json!([call("toolu_01aB3dE", 1)])));
}

/// A signature that was put on kept thinking is taken back together with what stands beside it.
#[tokio::test]
async fn signatures_are_rolled_back_with_the_blocks_beside_them() {
    let answer = json!([thinking("First.", FIRST), text("So."), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let unsigned = json!({"type": "thinking", "thinking": "First."});
    let kept = model(json!([unsigned, answer[1], answer[3]]));
    let history = json!([user("Look."), kept, user(json!([output("toolu_01aB3dE")]))]);
    let message = "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message \
                   cannot be modified. These blocks must remain as they were in the original response.";
    talk.rig.inner.will(refusal(400, error(message))).will(whole(document(&json!([text("fine")]))));
    talk.post(MESSAGES, talk.body(&history).to_string()).await;
    let seen = talk.rig.inner.seen();
    let messages = |at: usize| serde_json::from_str::<Value>(&seen[at].text()).unwrap()["messages"].clone();
    assert_eq!(messages(1)[1], model(answer));
    assert_eq!(messages(2), history);
}

/// What the error names is dropped with all of ours behind it, and what precedes it stays.
#[tokio::test]
async fn what_precedes_refused_thinking_stays() {
    let talk = Talk::new();
    let mut history = vec![user("Look.")];
    let mut whole_history = history.clone();
    for (at, state) in [FIRST, SECOND, THIRD].into_iter().enumerate() {
        let id = format!("toolu_01aB3dE{at}x");
        let answer = json!([thinking("Hm.", state), call(&id, 1)]);
        talk.send(json!(history), answer.clone()).await;
        history.extend([model(json!([answer[1]])), user(json!([output(&id)]))]);
        whole_history.extend([model(answer), user(json!([output(&id)]))]);
    }
    let message = "messages.3.content.0: Invalid `signature` in `thinking` block";
    talk.rig.inner.will(refusal(400, error(message))).will(whole(document(&json!([text("fine")]))));
    talk.post(MESSAGES, talk.body(&json!(history)).to_string()).await;
    let healed: Value = serde_json::from_str(&talk.rig.inner.last().text()).unwrap();
    let mut expected = history.clone();
    expected[1] = whole_history[1].clone();
    assert_eq!(healed["messages"], json!(expected));
    // Only the item at the named place is forgotten.
    expected[5] = whole_history[5].clone();
    assert_eq!(talk.ask(json!(history)).await, json!(expected));
}
