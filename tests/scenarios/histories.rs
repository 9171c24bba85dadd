//! Histories that were truncated, compacted, edited, branched or regrouped.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::{Event, SessionKind},
    testing::gemini::{GeminiProvider, Say, Script, Turn},
};

use super::client::*;

/// Three rounds of question, call, output and answer.
async fn long(client: &Client) -> (Gateway, Vec<Value>) {
    let names = ["Paris", "Tokyo", "Oslo"];
    let turns =
        names.iter().flat_map(|city| [call("get", json!({"city": city})), text(&format!("It rains in {city}."))]);
    let gateway = Gateway::says(turns.collect::<Vec<_>>());
    let mut history = Vec::new();
    for city in names {
        history.push(user(&format!("And {city}?")));
        for _ in 0..2 {
            let answer = gateway.ask(client, &history).await;
            let kept = answer.kept();
            let back = outputs(&kept);
            history.push(kept);
            if back["parts"] != json!([]) {
                history.push(back);
            }
        }
    }
    history.push(user("Thanks."));
    (gateway, history)
}

fn ways() -> [Client; 4] {
    [
        Client::new(API, How::Sse),
        Client::new(API, How::Whole),
        Client::new(VERTEX, How::Array),
        Client::new(CLOUD, How::Sse),
    ]
}

#[tokio::test]
async fn a_history_without_its_head_keeps_what_still_stands_g11() {
    for client in ways() {
        let (gateway, history) = long(&client).await;
        let last = gateway.ask(&client, &history[4..]).await;
        assert_eq!(gateway.restored(&last), [2, 3, 4, 5]);
        let last = gateway.ask(&client, &history[8..]).await;
        assert_eq!(gateway.restored(&last), [4, 5]);
        gateway.took(2);
    }
}

#[tokio::test]
async fn a_history_without_its_tail_keeps_what_still_stands_g11() {
    for client in ways() {
        let (gateway, history) = long(&client).await;
        for (length, expected) in [(5, &[0, 1][..]), (3, &[0]), (1, &[])] {
            let last = gateway.ask(&client, &history[..length]).await;
            assert_eq!(gateway.restored(&last), expected);
            assert_eq!(gateway.provider.refused(), 0);
        }
    }
}

#[tokio::test]
async fn a_compacted_history_keeps_what_still_stands_g11() {
    for client in ways() {
        let (gateway, history) = long(&client).await;
        let summary = user("Summary: the user asked about Paris and Tokyo; it rains in both.");
        let last = gateway
            .ask(&client, &[&[summary, model(vec![json!({"text": "Understood."})])], &history[8..]].concat())
            .await;
        assert_eq!(gateway.restored(&last), [4, 5]);
        gateway.took(2);
    }
}

#[tokio::test]
async fn an_edited_history_keeps_what_still_stands_g11() {
    for client in ways() {
        let (gateway, mut history) = long(&client).await;
        history[0] = user("And Paris, please?");
        history[2]["parts"][0]["functionResponse"]["response"] = json!({"ok": "[old result cleared]"});
        history[7]["parts"][0]["text"] = json!("It rains in Tokyo, I said.");
        let last = gateway.ask(&client, &history).await;
        // The text that was changed gets nothing; all else does.
        assert_eq!(gateway.restored(&last), [0, 1, 2, 4, 5]);
        assert_eq!(last.signature(7, 0), Value::Null);
        gateway.took(5);
    }
}

#[tokio::test]
async fn a_history_with_turns_inserted_and_removed_keeps_what_still_stands_g11() {
    for client in ways() {
        let (gateway, history) = long(&client).await;
        let inserted = [user("By the way"), model(vec![json!({"text": "Yes?"})])];
        let edited = [&history[..4], &inserted, &history[8..]].concat();
        let last = gateway.ask(&client, &edited).await;
        assert_eq!(gateway.restored(&last), [0, 1, 4, 5]);
        gateway.took(4);
    }
}

#[tokio::test]
async fn another_system_instruction_does_not_end_a_named_session_g11() {
    for client in ways() {
        let (gateway, history) = long(&client).await;
        let dated = client.beside(json!({"systemInstruction": {"parts": [{"text": "It is Tuesday."}]}}));
        let last = gateway.ask(&dated, &history).await;
        assert_eq!(gateway.restored(&last), [0, 1, 2, 3, 4, 5]);
        gateway.took(6);
    }
}

#[tokio::test]
async fn a_named_session_outlives_the_compaction_of_its_first_message_g20() {
    let client = Client { headers: vec![("x-opencode-session", "ses_1")], ..Client::new(API, How::Sse).session(None) };
    let (gateway, history) = long(&client).await;
    let last = gateway.ask(&client, &[&[user("Summary: …")], &history[9..]].concat()).await;
    assert_eq!(last.summary().session, SessionKind::Known);
    assert_eq!(gateway.restored(&last), [4, 5]);
}

#[tokio::test]
async fn a_derived_session_that_was_compacted_is_helped_out_with_a_sentinel_g20() {
    let client = Client::new(API, How::Sse).session(None);
    let gateway = Gateway::says([call("a", json!({"x": 1})), call("b", json!({"x": 2})), call("c", json!({}))]);
    let mut history = vec![user("A long task")];
    for _ in 0..2 {
        let kept = without_ids(&gateway.ask(&client, &history).await.kept());
        let back = outputs(&kept);
        history.extend([kept, back]);
    }
    gateway.ask(&client, &history).await;
    gateway.took(2);
    // The first message is another one now, so nothing tells whose conversation this is.
    history[0] = user("Summary of a long task");
    let answer = gateway.ask(&client, &history).await;
    assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 2));
    assert_eq!(answer.summary().session, SessionKind::Derived);
    assert_eq!(gateway.last().sentinels, 2);
}

#[tokio::test]
async fn nothing_fails_locally_when_the_whole_history_is_foreign_g11() {
    let client = Client::new(API, How::Sse);
    let (gateway, _) = long(&client).await;
    let foreign = [user("Hi"), model(vec![json!({"text": "Hello"})]), user("How are you?")];
    let answer = gateway.ask(&client, &foreign).await;
    assert_eq!((answer.status.as_u16(), &answer.sent[0][..]), (200, client.body(&foreign).to_string().as_bytes()));
}

/// A provider that may be asked for an earlier turn again.
fn branching(turns: impl IntoIterator<Item = Turn>) -> Gateway {
    let turns = std::sync::Mutex::new(turns.into_iter().collect::<std::collections::VecDeque<_>>());
    let script = Script::from_fn(move |_| turns.lock().unwrap().pop_front().unwrap_or_else(|| text("Well.")));
    Gateway::new(&GeminiProvider::builder().script(script).bind_signatures(true).build())
}

#[tokio::test]
async fn two_branches_are_alive_at_once_g11() {
    for client in ways() {
        let gateway = branching([
            call("root", json!({})),
            call("get", json!({"side": "left"})),
            call("get", json!({"side": "right"})),
            text("The left is done."),
            text("The right is done."),
        ]);
        let root = gateway.ask(&client, &[user("Go")]).await.kept();
        let trunk = [user("Go"), root.clone(), outputs(&root)];
        let (mut left, mut right) = (trunk.to_vec(), trunk.to_vec());
        left[2]["parts"][0]["functionResponse"]["response"] = json!({"go": "left"});
        right[2]["parts"][0]["functionResponse"]["response"] = json!({"go": "right"});
        for round in 0..2 {
            for branch in [&mut left, &mut right] {
                let answer = gateway.ask(&client, branch).await;
                gateway.took(1 + round);
                let kept = answer.kept();
                let back = outputs(&kept);
                branch.push(kept);
                branch.push(if back["parts"] == json!([]) { user("Go on") } else { back });
            }
        }
        for branch in [&left, &right, &left] {
            let answer = gateway.ask(&client, branch).await;
            gateway.took(3);
            assert_eq!(answer.summary().ambiguous, 0);
        }
    }
}

#[tokio::test]
async fn two_branches_of_equal_calls_keep_their_own_signatures_g11() {
    for client in ways() {
        let poll = || call("poll", json!({}));
        let gateway = branching([poll(), poll(), poll()]);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let root = without_ids(&first.kept());
        let branch = |side: &str| {
            let mut back = outputs(&root);
            back["parts"][0]["functionResponse"]["response"] = json!({"side": side});
            vec![user("Go"), root.clone(), back]
        };
        let mut branches = [branch("left"), branch("right")];
        for branch in &mut branches {
            let answer = gateway.ask(&client, branch).await;
            let kept = without_ids(&answer.kept());
            let back = outputs(&kept);
            branch.extend([kept, back]);
        }
        for at in [0, 1, 0] {
            let answer = gateway.ask(&client, &branches[at]).await;
            assert_eq!(gateway.restored(&answer), [0, 1 + at]);
            gateway.took(2);
        }
    }
}

#[tokio::test]
async fn of_an_answer_that_was_generated_again_the_newest_counts_g11() {
    for client in ways() {
        let poll = || call("poll", json!({}));
        let gateway = branching([poll(), poll(), poll()]);
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(without_ids(&gateway.ask(&client, &[user("Go")]).await.kept()));
        }
        let kept = kept.remove(2);
        let answer = gateway.ask(&client, &[user("Go"), kept.clone(), outputs(&kept)]).await;
        assert_eq!(gateway.restored(&answer), [2]);
        gateway.took(1);
    }
}

#[tokio::test]
async fn of_two_answers_with_ids_the_one_that_was_kept_counts_g11() {
    let client = Client::new(API, How::Sse);
    let poll = || call("poll", json!({}));
    let gateway = branching([poll(), poll()]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    gateway.ask(&client, &[user("Go")]).await;
    let kept = first.kept();
    let answer = gateway.ask(&client, &[user("Go"), kept.clone(), outputs(&kept)]).await;
    assert_eq!(gateway.restored(&answer), [0]);
    gateway.took(1);
}

#[tokio::test]
async fn a_side_request_does_not_disturb_the_conversation_g11() {
    for client in ways() {
        let gateway = branching([
            call("get", json!({"x": 1})),
            text("Title: Weather"),
            call("get", json!({"x": 1})),
            call("get", json!({"x": 2})),
        ]);
        let mut history = vec![user("Go")];
        let first = gateway.ask(&client, &history).await;
        let kept = first.kept();
        history.extend([kept.clone(), outputs(&kept)]);
        gateway.ask(&client, &[user("Make a title for: Go")]).await;
        // A subagent without an id of its own makes an equal call.
        gateway.ask(&client, &[user("You are a subagent. Go")]).await;
        let answer = gateway.ask(&client, &history).await;
        assert_eq!(gateway.restored(&answer), [0]);
        gateway.took(1);
    }
}

#[tokio::test]
async fn a_turn_that_the_client_split_into_contents_keeps_its_signatures_g9() {
    for client in ways() {
        let turn = Turn::new([Say::text("I look."), Say::calls([("a", json!({"x": 1})), ("b", json!({"x": 2}))])]);
        let gateway = Gateway::says([turn, text("Done.")]);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let kept = first.kept();
        let parts = kept["parts"].as_array().unwrap();
        let split = [user("Go"), model(vec![parts[0].clone()]), model(parts[1..].to_vec()), outputs(&kept)];
        let second = gateway.ask(&client, &split).await;
        assert_eq!(second.signature(2, 0), first.signatures()[0]);
        gateway.took(1);
    }
}

#[tokio::test]
async fn each_split_call_keeps_its_own_and_the_others_get_a_sentinel_g9() {
    for client in ways() {
        let gateway = Gateway::says([
            calls([("a", json!({"x": 1})), ("b", json!({"x": 2})), ("c", json!({}))]),
            text("Done."),
            text("Done."),
        ]);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let kept = first.kept();
        let parts = kept["parts"].as_array().unwrap();
        let mut split = vec![user("Go")];
        split.extend(parts.iter().map(|part| model(vec![part.clone()])));
        split.push(outputs(&kept));
        let second = gateway.ask(&client, &split).await;
        assert_eq!((second.status.as_u16(), second.sent.len()), (200, 2));
        assert_eq!((second.summary().restored, second.summary().sentinels, second.summary().healed), (1, 2, true));
        let last = gateway.last();
        assert_eq!((last.genuine, last.sentinels, last.refusal), (1, 2, None));
        // From now on the sentinel is there from the start.
        let third = gateway.ask(&client, &split).await;
        assert_eq!((third.status.as_u16(), third.sent.len()), (200, 1));
        assert_eq!(third.sent[0], second.sent[1]);
        assert_eq!(gateway.count(Event::Retried), 1);
    }
}

#[tokio::test]
async fn parallel_outputs_in_contents_of_their_own_are_one_answer_g9() {
    for client in ways() {
        let gateway = Gateway::says([
            calls([("a", json!({"x": 1})), ("b", json!({"x": 2}))]),
            call("a", json!({"x": 1})),
            text("Done."),
        ]);
        let mut history = vec![user("Go")];
        for _ in 0..2 {
            let kept = gateway.ask(&client, &history).await.kept();
            let back = outputs(&kept);
            history.push(kept);
            let back = back["parts"].as_array().unwrap();
            history.extend(back.iter().map(|part| json!({"role": "user", "parts": [part]})));
        }
        gateway.ask(&client, &history).await;
        gateway.took(2);
    }
}

#[tokio::test]
async fn a_step_that_was_interleaved_with_its_outputs_gets_through_g9() {
    let client = Client::new(API, How::Sse);
    let gateway = Gateway::says([calls([("a", json!({"x": 1})), ("b", json!({"x": 2}))]), text("Done.")]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let kept = first.kept();
    let mut history = vec![user("Go")];
    for part in kept["parts"].as_array().unwrap() {
        let one = model(vec![part.clone()]);
        let back = outputs(&one);
        history.extend([one, back]);
    }
    let second = gateway.ask(&client, &history).await;
    assert_eq!((second.status.as_u16(), gateway.last().genuine, gateway.last().sentinels), (200, 1, 1));
    assert_eq!(second.signature(1, 0), first.signatures()[0]);
}

#[tokio::test]
async fn turns_that_the_client_merged_keep_their_signatures_g9() {
    // A tool that the client runs for the model in between leaves two turns side by side.
    for client in ways() {
        let gateway = Gateway::says([text("One."), text("Two."), text("Three.")]);
        let first = gateway.ask(&client, &[user("Count")]).await;
        let second = gateway.ask(&client, &[user("Count"), first.kept(), user("Go on")]).await;
        // The client keeps both answers in one content, as parts of their own.
        let merged = model(vec![json!({"text": "One."}), json!({"text": "Two."})]);
        let third = gateway.ask(&client, &[user("Count"), merged, user("Go on")]).await;
        assert_eq!(third.signature(1, 0), first.signatures()[0]);
        assert_eq!(third.signature(1, 1), second.signatures()[0]);
        assert_eq!(gateway.provider.refused(), 0);
    }
}

#[tokio::test]
async fn text_that_was_compacted_keeps_the_clients_own_signature_untouched_g28() {
    let client = Client::new(API, How::Sse);
    let gateway = Gateway::says([text("A long answer about many things."), text("Done.")]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let mut kept = first.kept();
    kept["parts"][0] = json!({"text": "A long answer…", "thoughtSignature": first.signatures()[0]});
    let history = [user("Go"), kept, user("On")];
    let body = client.body(&history).to_string();
    let second = gateway.ask(&client, &history).await;
    // Ours to leave alone: the provider's refusal is the client's to read.
    assert_eq!(second.sent, [body.as_bytes()]);
    assert_eq!(second.status.as_u16(), 400);
    assert_eq!(gateway.count(Event::Forgotten), 0);
    // What was compacted without a signature gets none.
    let history = [user("Go"), model(vec![json!({"text": "A long answer…"})]), user("On")];
    let third = gateway.ask(&client, &history).await;
    assert_eq!(third.sent, [client.body(&history).to_string().as_bytes()]);
}
