//! Rule 9: what is left of an answer that did not come to its end.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower_reasoning_replay::engine::{Event, Unobserved};

use crate::support::{
    body::{Scripted, Step, bytes},
    data,
    gemini::*,
    now, poll,
    rig::Rig,
    service::{answer, frames, whole},
    store::{Mode, TestStore},
};

fn call_event() -> String {
    sse(&[event(&[call_part(SIGNATURE)], None)])
}

async fn next(rig: &Rig) -> String {
    rig.inner.will(whole("{}"));
    rig.post(GENERATE, FOLLOW_UP).await;
    rig.inner.last().text()
}

/// The ways in which an answer breaks off after its first frames.
async fn break_off(rig: &Rig, frames: &[Bytes], way: &str) {
    let mut steps: Vec<Step> = frames.iter().cloned().map(Step::Data).collect();
    match way {
        "the connection is cut" => steps.push(Step::Error(1)),
        "the client goes" => steps.push(Step::Hang),
        _ => {}
    }
    rig.inner.will(answer(Scripted::new(steps)));
    if way == "the client goes" {
        let mut body = rig.send(request(STREAM, QUESTION)).await.unwrap().into_body();
        for _ in frames {
            data(&mut body);
        }
        assert!(poll(&mut body).is_pending());
    } else {
        rig.post(STREAM, QUESTION).await;
    }
}

const WAYS: [&str; 3] = ["the connection is cut", "the client goes", "the stream ends early"];

/// Rule 9: complete parts are kept, provisionally.
#[tokio::test]
async fn complete_parts_are_kept_provisionally() {
    for way in WAYS {
        let rig = Rig::new([]);
        break_off(&rig, &[call_event().into()], way).await;
        let turns = rig.store.turns();
        assert!(turns.len() == 1 && turns[0].is_provisional(), "{way}");
        assert_eq!((rig.count(Event::LearnedProvisional), rig.count(Event::Learned)), (1, 0));
        assert_eq!(next(&rig).await, restored(), "{way}");
    }
}

/// Rule 9: what was partial is never kept.
#[tokio::test]
async fn partial_parts_are_never_kept() {
    let whole_event = call_event();
    let text = sse(&[event(&[json!({"text": "It ra", "thoughtSignature": SIGNATURE})], None)]);
    for way in WAYS {
        for part in [&whole_event[..whole_event.len() - 6], &whole_event[..20], &text] {
            let rig = Rig::new([]);
            break_off(&rig, &[Bytes::copy_from_slice(part.as_bytes())], way).await;
            assert!(rig.store.turns().is_empty(), "{way} {part}");
            assert_eq!(next(&rig).await, FOLLOW_UP);
        }
    }
    // A call whose arguments stream is whole with its last piece only.
    let piece = |value: &str, more: bool| {
        let call = json!({"name": "look", "partialArgs": [{"jsonPath": "$.city", "stringValue": value, "willContinue": more}], "willContinue": more});
        sse(&[event(&[json!({"functionCall": call, "thoughtSignature": SIGNATURE})], None)])
    };
    let rig = Rig::new([]);
    break_off(&rig, &[piece("Par", true).into()], WAYS[0]).await;
    assert!(rig.store.turns().is_empty());
}

/// Rule 9: a provisional turn serves only while no completed one fits, and goes when the retry completes.
#[tokio::test]
async fn the_completed_turn_takes_the_place_of_the_provisional_one() {
    let other = "T3RoZXJTaWduYXR1cmVPZlRoZVNlY29uZEF0dGVtcHQ=";
    let complete = event(&[call_part(other)], Some("STOP")).to_string();
    for way in WAYS {
        let rig = Rig::new([]);
        break_off(&rig, &[call_event().into()], way).await;
        rig.inner.will(whole(complete.clone()));
        rig.post(GENERATE, QUESTION).await;
        assert_eq!(rig.store.states(), [format!("\"{other}\"")]);
        assert_eq!(next(&rig).await, restored_with(other));
        // Another attempt that breaks off later stands back behind it.
        break_off(&rig, &[call_event().into()], way).await;
        assert_eq!(rig.store.turns().len(), 2);
        assert_eq!(next(&rig).await, restored_with(other), "{way}");
    }
}

/// Rule 9: an error in the stream keeps nothing, in whichever form it comes.
#[tokio::test]
async fn an_error_in_the_stream_keeps_nothing() {
    let error = json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    let forms = [
        format!("data: {error}\r\n\r\n"),
        format!("{error}\r\n"),
        format!("data: {error}"),
        format!("event: error\ndata: {error}\n\n"),
    ];
    for form in forms {
        for size in [usize::MAX, 9, 1] {
            let text = call_event() + &form;
            let rig = Rig::new([frames(&cut(&text, size.min(text.len())))]);
            let got = rig.post(STREAM, QUESTION).await;
            assert_eq!(got.text(), text);
            assert!(rig.store.turns().is_empty(), "{form}");
            assert_eq!(got.report().unobserved, Some(Unobserved::Failed));
        }
    }
    let elements: Vec<Value> = vec![event(&[call_part(SIGNATURE)], None), error];
    let rig = Rig::new([whole(array(&elements))]);
    rig.post(ARRAY, QUESTION).await;
    assert!(rig.store.turns().is_empty());
}

/// Rule 9: an error that comes after the end takes the turn back.
#[tokio::test]
async fn an_error_after_the_end_takes_the_turn_back() {
    let error = json!({"error": {"code": 500, "message": "Internal error.", "status": "INTERNAL"}});
    let text = sse(&answer_events());
    let rig = Rig::new([frames(&[text.into(), format!("data: {error}\r\n\r\n").into()])]);
    rig.post(STREAM, QUESTION).await;
    assert_eq!(rig.store.states(), Vec::<String>::new());
    assert_eq!(next(&rig).await, FOLLOW_UP);
}

/// Rule 9, with a store that has to be waited for: what takes the turn back follows what stored it, though
/// that was waited for no longer.
#[tokio::test(start_paused = true)]
async fn an_error_after_the_end_does_not_overtake_the_turn() {
    let error = json!({"error": {"code": 500, "message": "Internal error.", "status": "INTERNAL"}});
    let events: Vec<Step> = vec![bytes(sse(&answer_events())), bytes(format!("data: {error}\r\n\r\n"))];
    for late in [false, true] {
        for append in [10, 300, 2_000].map(Duration::from_millis) {
            let mut steps = events.clone();
            if late {
                // A signature that came late was stored in between.
                steps.insert(1, bytes(sse(&[event(&[call_part(&SIGNATURE.replace('+', "A"))], None)])));
            }
            let rig = Rig::with(TestStore::remote(), [answer(Scripted::new(steps))], |builder| builder);
            rig.store.append_as(Mode::After(append));
            let began = tokio::time::Instant::now();
            rig.post(STREAM, QUESTION).await;
            assert!(began.elapsed() <= Duration::from_millis(250) * (2 + u32::from(late)));
            sleep(Duration::from_secs(5)).await;
            assert_eq!(rig.store.states(), Vec::<String>::new(), "{append:?} {late}");
            assert_eq!((rig.store.appends(), rig.store.removes()), (1 + usize::from(late), 1));
        }
    }
    // What never lands is not waited for by the client, and what fails is nothing to wait for.
    for mode in [Mode::Hangs, Mode::Fails] {
        let rig = Rig::with(TestStore::remote(), [answer(Scripted::new(events.clone()))], |builder| builder);
        rig.store.append_as(mode);
        rig.post(STREAM, QUESTION).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(rig.store.removes(), usize::from(mode == Mode::Fails));
    }
}

/// Rule 9, with a store that has to be waited for: what a client leaves behind goes through the queue.
#[tokio::test(start_paused = true)]
async fn a_slow_store_gets_it_through_the_queue() {
    for way in WAYS {
        let rig = Rig::with(TestStore::remote(), [], |builder| builder);
        rig.store.append_as(Mode::After(Duration::from_secs(3)));
        break_off(&rig, &[call_event().into()], way).await;
        sleep(Duration::from_secs(4)).await;
        assert_eq!(rig.store.turns().len(), 1, "{way}");
        assert_eq!(rig.count(Event::LearnedProvisional), 1);
    }
}

/// Rule 3: only the end of an answer waits for the store, never a break.
#[tokio::test(start_paused = true)]
async fn a_break_is_not_held() {
    for (marks_end, last) in [(true, None), (false, None), (false, Some(Step::Error(1)))] {
        let rig = Rig::with(TestStore::remote(), [], |builder| builder);
        rig.store.append_as(Mode::After(Duration::from_millis(100)));
        let mut body = Scripted::new([bytes(call_event())].into_iter().chain(last));
        if marks_end {
            body = body.marks_end();
        }
        rig.inner.will(answer(body));
        let began = tokio::time::Instant::now();
        rig.post(STREAM, QUESTION).await;
        assert!(began.elapsed().is_zero());
        sleep(Duration::from_millis(200)).await;
        assert_eq!(rig.store.turns().len(), 1);
    }
}

/// Rule 8 and 9: a client that goes while the last frame waits takes no turn with it.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_the_commit_waits() {
    let rig = Rig::with(TestStore::remote(), [whole(sse(&answer_events()))], |builder| builder);
    rig.store.append_as(Mode::After(Duration::from_secs(1)));
    let mut body = rig.send(request(STREAM, QUESTION)).await.unwrap().into_body();
    assert!(poll(&mut body).is_pending());
    drop(body);
    sleep(Duration::from_secs(2)).await;
    let turns = rig.store.turns();
    assert!(turns.len() == 1 && !turns[0].is_provisional());
}

/// Without a runtime nothing can go on in the background: the turn is dropped and counted, without a panic.
#[test]
fn without_a_runtime_the_turn_is_dropped_and_counted() {
    for store in [TestStore::new(), TestStore::remote()] {
        let rig = Rig::with(store, [], |builder| builder);
        rig.inner.will(answer(Scripted::new([bytes(call_event()), Step::Hang])));
        let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
        data(&mut body);
        rig.store.append_as(Mode::AtOnce);
        drop(body);
        // The answer is there at once, so there was nothing to wait for.
        rig.inner.will(answer(Scripted::new([bytes(call_event()), Step::Hang])));
        let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
        data(&mut body);
        rig.store.append_as(Mode::Hangs);
        drop(body);
        assert_eq!(rig.count(Event::CommitFailed) + rig.count(Event::LearnedProvisional), 2);
        assert!(rig.count(Event::CommitFailed) >= 1);
    }
}

/// Rule 11: a full queue drops turns and counts them; what has landed makes room.
#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_counts() {
    let rig = Rig::new([]);
    break_off(&rig, &[call_event().into()], "the client goes").await;
    let size = rig.store.turns()[0].bytes();
    for (entries, bytes, kept) in [(2, 1 << 20, 2), (1_000, 1, 0), (0, 1 << 20, 0), (1_000, size * 3 / 2, 1)] {
        let rig = Rig::with(TestStore::remote(), [], |builder| builder.commit_queue(entries, bytes));
        rig.store.append_as(Mode::After(Duration::from_secs(1)));
        for round in 1..=2 {
            for _ in 0..5 {
                break_off(&rig, &[call_event().into()], "the client goes").await;
            }
            assert_eq!(rig.count(Event::CommitFailed), round * (5 - kept), "{entries} {bytes}");
            sleep(Duration::from_secs(2)).await;
            assert_eq!(rig.count(Event::LearnedProvisional), round * kept);
        }
    }
}

/// A request whose call is given up before the answer leaves nothing and disturbs nothing.
#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing() {
    use crate::support::service::Act;
    let rig = Rig::new([]);
    rig.learn().await;
    rig.inner.will(Act::Hang);
    let call = rig.send(request(GENERATE, FOLLOW_UP));
    assert!(tokio::time::timeout(Duration::from_millis(5), call).await.is_err());
    assert_eq!(next(&rig).await, restored());
}
