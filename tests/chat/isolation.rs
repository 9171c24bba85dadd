//! State goes back to the conversation from which it came, onto the content that it came with.

use serde_json::{Value, json};

use crate::talk::*;

fn thought() -> Value {
    json!({"reasoning_content": "I have to."})
}

fn bare() -> Value {
    json!([user("look"), answer(&[FIRST], &json!({})), output(FIRST)])
}

async fn learned() -> Talk {
    let talk = Talk::new();
    talk.ask(&json!([user("look")]), answer(&[FIRST], &thought())).await;
    talk
}

/// Another tenant, session, model or provider gets nothing.
#[tokio::test]
async fn nobody_else_gets_it_d1() {
    let mut talk = learned().await;
    assert_eq!(talk.look(&bare()).await[1], answer(&[FIRST], &thought()));
    let (headers, model, uri) = (talk.headers.clone(), talk.model.clone(), talk.uri.clone());
    for other in [
        vec![("authorization", "Bearer other"), ("x-session-id", "s")],
        vec![("authorization", "Bearer key"), ("x-session-id", "t")],
        vec![("authorization", "Bearer key"), ("x-session-id", "s"), ("x-claude-code-agent-id", "a")],
    ] {
        talk.headers = other;
        assert_eq!(talk.look(&bare()).await, bare(), "{:?}", talk.headers);
    }
    talk.headers = headers;
    talk.model = "another-model".into();
    assert_eq!(talk.look(&bare()).await, bare());
    talk.model = model;
    talk.uri = "https://api.other.com/v1/chat/completions".into();
    assert_eq!(talk.look(&bare()).await, bare());
    talk.uri = uri;
    assert_eq!(talk.look(&bare()).await[1], answer(&[FIRST], &thought()));
}

/// What was changed is other content.
#[tokio::test]
async fn changed_text_and_arguments_get_nothing_d1() {
    let talk = learned().await;
    let changed = |id: &str, name: &str, arguments: &str| {
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        json!([user("look"), {"role": "assistant", "content": null, "tool_calls": [call]}, output(id)])
    };
    let same = format!("{{ \"at\" : \"{FIRST}\" }}");
    for history in [
        changed(FIRST, "look", "{\"at\":\"elsewhere\"}"),
        changed(FIRST, "look", "{}"),
        changed(FIRST, "look", "nonsense"),
        changed(FIRST, "listen", &same),
    ] {
        assert_eq!(talk.look(&history).await, history);
    }
    for id in [FIRST, "another_id"] {
        assert_eq!(talk.look(&changed(id, "look", &same)).await[1]["reasoning_content"], "I have to.");
    }

    talk.ask(&json!([user("hm?")]), said("It rains.", &json!({"reasoning_content": "Wet."}))).await;
    for text in ["It rains", "It rains. ", "It Rains.", ""] {
        let history = json!([user("hm?"), said(text, &json!({})), user("and?")]);
        assert_eq!(talk.look(&history).await, history, "{text:?}");
    }
    let history = json!([user("hm?"), said("It rains.", &json!({})), user("and?")]);
    assert_eq!(talk.look(&history).await[1]["reasoning_content"], "Wet.");
}

/// Equal calls and equal texts keep what each was thought for.
#[tokio::test]
async fn equal_steps_keep_their_own_d10() {
    for derived in [false, true] {
        let mut talk = Talk::new();
        if derived {
            talk.headers.pop();
        }
        let mut bare = vec![user("look")];
        let mut honest = bare.clone();
        // Ids are counted, and equal.
        for step in 0..4 {
            let members = json!({"reasoning_content": format!("Step {step}.")});
            let arrived = talk.ask(&json!(bare), answer(&["call_0"], &members)).await;
            assert_eq!(arrived, json!(honest));
            bare.extend([answer(&["call_0"], &json!({})), output("call_0")]);
            honest.extend([answer(&["call_0"], &members), output("call_0")]);
        }
        assert_eq!(talk.look(&json!(bare)).await, json!(honest));
        // One head of the history is as good as the whole.
        assert_eq!(talk.look(&json!(bare[..5])).await, json!(honest[..5]));
    }
}

/// A derived session is proven by all that came before.
#[tokio::test]
async fn a_derived_session_is_found_by_what_precedes_it_d1() {
    let mut talk = Talk::new();
    talk.headers.pop();
    let plain = said("Yes.", &json!({}));
    talk.ask(&json!([user("hello"), plain, user("really?")]), said("Sure.", &thought())).await;
    let history = json!([user("hello"), plain, user("really?"), said("Sure.", &json!({})), user("fine")]);
    assert_eq!(talk.look(&history).await[3], said("Sure.", &thought()));
    let other =
        json!([user("hello"), said("No.", &json!({})), user("really?"), said("Sure.", &json!({})), user("fine")]);
    assert_eq!(talk.look(&other).await, other);
    let other = json!([user("hallo"), plain, user("really?"), said("Sure.", &json!({})), user("fine")]);
    assert_eq!(talk.look(&other).await, other);
}

/// Branches keep their own, and a side request does not disturb them.
#[tokio::test]
async fn branches_live_side_by_side_d10() {
    let talk = Talk::new();
    let ask = |way: &str| json!([user("look"), said("Where?", &json!({})), user(way)]);
    for way in ["left", "right"] {
        let members = json!({"reasoning_content": format!("To the {way}.")});
        talk.ask(&ask(way), said("Done.", &members)).await;
        talk.ask(&json!([user("a title, please")]), said("Done.", &json!({"reasoning_content": "A title."}))).await;
    }
    for way in ["left", "right", "left"] {
        let mut history = ask(way);
        history.as_array_mut().unwrap().extend([said("Done.", &json!({})), user("and?")]);
        assert_eq!(talk.look(&history).await[3]["reasoning_content"], format!("To the {way}."));
    }
}

/// Compacted and shortened histories keep what still stands; turns of which nothing was kept stay away.
#[tokio::test]
async fn a_shortened_history_keeps_what_still_stands_d1() {
    let talk = Talk::new();
    let two = json!([user("look"), answer(&[FIRST], &json!({})), output(FIRST)]);
    talk.ask(&json!([user("look")]), answer(&[FIRST], &json!({"reasoning_content": "One."}))).await;
    talk.ask(&two, answer(&[SECOND], &json!({"reasoning_content": "Two."}))).await;
    let history = json!([user("A summary."), answer(&[SECOND], &json!({})), output(SECOND)]);
    let arrived = talk.look(&history).await;
    assert_eq!(
        arrived,
        json!([user("A summary."), answer(&[SECOND], &json!({"reasoning_content": "Two."})), output(SECOND)])
    );
    // Of a dropped call that may be any, nothing comes back.
    let history = json!([user("look"), output("call_0")]);
    assert_eq!(talk.look(&history).await, history);
}
