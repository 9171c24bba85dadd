//! Equal calls and equal texts: each keeps the signature that it came with.

use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::{Say, Turn};

use super::client::*;

fn poll() -> Turn {
    call("poll", json!({"job": 7}))
}

/// Runs a loop of equal calls with equal outputs; checks that each call carries what it came with.
async fn runs(gateway: &Gateway, client: &Client, steps: usize, keep: impl Fn(&Answer, usize) -> Value) -> Vec<Value> {
    let mut history = vec![user("Wait for the job")];
    for step in 0..steps {
        let answer = gateway.ask(client, &history).await;
        assert_eq!(gateway.provider.refused(), 0, "step {step}");
        let kept = keep(&answer, step);
        let back = outputs(&kept);
        history.extend([kept, back]);
    }
    history
}

fn sent_signatures(answer: &Answer) -> Vec<String> {
    answer.upstream().iter().filter(|content| content["role"] == "model").flat_map(signatures).collect()
}

#[tokio::test]
async fn equal_calls_of_different_turns_keep_their_own_signatures_g15() {
    type Keep = fn(&Answer, usize) -> Value;
    let keeps: [(&str, Keep); 4] = [
        ("ids kept", |answer, _| answer.kept()),
        ("no ids", |answer, _| without_ids(&answer.kept())),
        ("one id in every turn", |answer, _| with_ids(&answer.kept(), |at| Some(format!("poll:{at}")))),
        ("other ids", |answer, step| with_ids(&answer.kept(), |at| Some(format!("toolu_{step:04}{at:04}xyz")))),
    ];
    for base in FACES {
        for how in WAYS {
            for (what, keep) in keeps {
                let gateway = Gateway::says([poll(), poll(), poll(), poll()]);
                let client = Client::new(base, how);
                let history = runs(&gateway, &client, 4, keep).await;
                let last = gateway.ask(&client, &history).await;
                assert_eq!(gateway.restored(&last), [0, 1, 2, 3], "{base} {how:?} {what}");
                gateway.took(4);
            }
        }
    }
}

#[tokio::test]
async fn equal_parallel_calls_keep_their_order_g15() {
    for base in FACES {
        for ids in [true, false] {
            let twins = || calls([("poll", json!({})), ("poll", json!({})), ("poll", json!({}))]);
            let gateway = Gateway::says([twins(), twins(), twins()]);
            let client = Client::new(base, How::Sse);
            let keep = |answer: &Answer, _| if ids { answer.kept() } else { without_ids(&answer.kept()) };
            let history = runs(&gateway, &client, 3, keep).await;
            let last = gateway.ask(&client, &history).await;
            assert_eq!(gateway.restored(&last), [0, 1, 2]);
            for turn in 0..3 {
                let content = &last.upstream()[2 * turn + 1]["parts"];
                assert_eq!(
                    (&content[1]["thoughtSignature"], &content[2]["thoughtSignature"]),
                    (&Value::Null, &Value::Null)
                );
            }
            gateway.took(3);
        }
    }
}

#[tokio::test]
async fn equal_short_answers_keep_their_own_signatures_g15() {
    for how in WAYS {
        let gateway = Gateway::says([text("OK"), text("OK"), text("OK")]);
        let client = Client::new(API, how);
        let mut history = vec![user("Next")];
        for _ in 0..3 {
            let answer = gateway.ask(&client, &history).await;
            history.extend([answer.kept(), user("Next")]);
        }
        let last = gateway.ask(&client, &history).await;
        assert_eq!(gateway.restored(&last), [0, 1, 2]);
        gateway.took(3);
    }
}

#[tokio::test]
async fn ids_that_a_translator_counts_anew_in_each_turn_do_not_mix_results_g15() {
    // `run_shell_command:0` names another command in every turn.
    let command = |command: &str| call("run_shell_command", json!({"command": command}));
    let gateway = Gateway::says([command("ls"), command("pwd"), command("ls"), text("Done.")]);
    let client = Client::new(API, How::Sse);
    let keep = |answer: &Answer, _| with_ids(&answer.kept(), |at| Some(format!("run_shell_command:{at}")));
    let history = runs(&gateway, &client, 3, keep).await;
    let last = gateway.ask(&client, &history).await;
    assert_eq!(gateway.restored(&last), [0, 1, 2]);
    gateway.took(3);
}

#[tokio::test]
async fn the_signature_of_one_turn_does_not_overwrite_that_of_another_with_its_id_g15() {
    // The provider itself counts its ids.
    let gateway = Gateway::says([]);
    let client = Client::new(API, How::Whole);
    let answer = |city: &str, signature: &str| {
        json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"functionCall": {"name": "get", "args": {"city": city}, "id": "call_0"}, "thoughtSignature": signature},
        ]}}]})
    };
    let mut history = vec![user("Go")];
    let issued = ["Signature/of/Paris/1", "Signature/of/Tokyo/1", "Signature/of/Paris/2"];
    for (city, signature) in ["Paris", "Tokyo", "Paris"].into_iter().zip(issued) {
        gateway.answer_next(Canned::json(&answer(city, signature)));
        let kept = gateway.ask(&client, &history).await.kept();
        let back = outputs(&kept);
        history.extend([kept, back]);
    }
    gateway.answer_next(Canned::json(&json!({})));
    let last = gateway.ask(&client, &history).await;
    assert_eq!(sent_signatures(&last), issued);
}

#[tokio::test]
async fn after_the_head_was_cut_off_equal_calls_keep_theirs_g11() {
    for ids in [true, false] {
        for cut in [2, 4] {
            let gateway = Gateway::says([poll(), poll(), poll(), poll()]);
            let client = Client::new(API, How::Sse);
            let keep = |answer: &Answer, _| if ids { answer.kept() } else { without_ids(&answer.kept()) };
            let history = runs(&gateway, &client, 4, keep).await;
            let mut rest = vec![user("Summary: there is a job.")];
            rest.extend_from_slice(&history[1 + cut..]);
            let last = gateway.ask(&client, &rest).await;
            assert_eq!(gateway.provider.refused(), 0);
            assert_eq!(gateway.restored(&last), (cut / 2..4).collect::<Vec<_>>(), "ids {ids}, cut {cut}");
        }
    }
}

#[tokio::test]
async fn an_equal_call_of_the_clients_own_making_takes_nobodys_signature_g27() {
    // The client put an example call before the first answer: it stood there when the turn was made.
    let gateway = Gateway::says([poll(), text("Done.")]);
    let client = Client::new(VERTEX, How::Sse);
    let example = model(vec![json!({"functionCall": {"name": "poll", "args": {"job": 7}}})]);
    let mut history = vec![user("Example"), example.clone(), outputs(&example), user("Wait for the job")];
    let first = gateway.ask(&client, &history).await;
    let kept = first.kept();
    history.extend([kept.clone(), outputs(&kept)]);
    let second = gateway.ask(&client, &history).await;
    assert_eq!(second.signature(1, 0), Value::Null);
    assert_eq!(second.signature(4, 0), first.signatures()[0]);
    gateway.took(1);
}

#[tokio::test]
async fn text_and_call_of_equal_words_do_not_meet_g27() {
    let gateway = Gateway::says([Turn::new([Say::thought("OK"), Say::text("OK")])]);
    let client = Client::new(API, How::Sse);
    let first = gateway.ask(&client, &[user("OK")]).await;
    // Only the visible text was signed; a thought of equal words gets nothing.
    let kept = model(vec![json!({"text": "OK", "thought": true}), json!({"text": "OK"})]);
    let second = gateway.ask(&client, &[user("OK"), kept, user("OK")]).await;
    assert_eq!(second.signature(1, 0), Value::Null);
    assert_eq!(second.signature(1, 1), first.signatures()[0]);
    gateway.took(1);
}

#[tokio::test]
async fn of_equal_calls_one_that_cannot_be_told_gets_nothing_g15() {
    let gateway = Gateway::says([poll(), poll(), poll()]);
    let client = Client::new(VERTEX, How::Sse);
    let history = runs(&gateway, &client, 3, |answer, _| answer.kept()).await;
    // Any of them may be the one that is left; the summary tells nothing.
    let rest = [&[user("Summary: there is a job.")], &history[5..]].concat();
    let last = gateway.ask(&client, &rest).await;
    assert_eq!(gateway.restored(&last), [0; 0]);
    assert_eq!((last.status.as_u16(), last.summary().ambiguous, gateway.last().sentinels), (200, 1, 1));
}

#[tokio::test]
async fn a_compacted_history_that_goes_on_does_not_mix_with_the_one_before_g11() {
    for client in [Client::new(VERTEX, How::Sse), Client::new(CLOUD, How::Whole)] {
        let gateway = Gateway::says([poll(), poll(), poll(), poll(), poll(), poll()]);
        let keep = |answer: &Answer, _| without_ids(&answer.kept());
        let history = runs(&gateway, &client, 3, keep).await;
        let mut rest = [&[user("Summary: there is a job.")], &history[5..]].concat();
        for step in 0..3 {
            let answer = gateway.ask(&client, &rest).await;
            // What was made since is known by what precedes it; the one call of before cannot be told.
            assert_eq!(gateway.restored(&answer), (3..3 + step).collect::<Vec<_>>(), "step {step}");
            assert_eq!(answer.status.as_u16(), 200);
            let kept = without_ids(&answer.kept());
            let back = outputs(&kept);
            rest.extend([kept, back]);
        }
        assert_eq!(gateway.count(tower_reasoning_replay::engine::Event::RefusedInvalid), 0);
    }
}
