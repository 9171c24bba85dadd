//! Rule 8: a client that fires its next request the moment it sees the finish finds the turn.

use std::{task::Poll, time::Duration};

use bytes::Bytes;
use http_body::Body;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tower_reasoning_replay::engine::Event;

use crate::support::{
    body::{Scripted, Step, bytes, trailers},
    data,
    gemini::*,
    now, poll,
    rig::{Rig, drain},
    same,
    service::{answer, frames, whole},
    store::{Mode, TestStore},
};

/// Asks the next question at this moment, and tells whether the call was restored in it.
fn next_is_restored(rig: &Rig) -> bool {
    rig.inner.will(whole("{}"));
    now(rig.post(GENERATE, FOLLOW_UP));
    let sent = rig.inner.last().text();
    assert!(sent == restored() || sent == FOLLOW_UP, "{sent}");
    sent == restored()
}

/// The byte that first shows a client the end of an answer.
fn end_of_line(text: &str) -> usize {
    let finish = text.find("finishReason").unwrap();
    finish + text[finish..].find('\r').unwrap()
}

/// Rule 8, for SSE: whichever way the bytes are cut, the turn is stored when the line with the finish
/// is complete, also when the cut falls between `}` and the line end.
#[tokio::test]
async fn sse_under_every_split() {
    let text = sse(&answer_events());
    let end = end_of_line(&text);
    for split in 1..text.len() {
        let (one, two) = (Bytes::from(text[..split].to_owned()), Bytes::from(text[split..].to_owned()));
        let rig = Rig::new([frames(&[one.clone(), two.clone()])]);
        let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
        assert!(same(&data(&mut body), &one));
        assert_eq!(next_is_restored(&rig), split > end, "split at {split} of {}, end at {end}", text.len());
        assert!(same(&data(&mut body), &two));
        assert!(next_is_restored(&rig), "split at {split}");
    }
}

/// Rule 8, for SSE byte by byte, with each of the line ends.
#[tokio::test]
async fn sse_byte_by_byte() {
    for line_end in ["\n", "\r", "\r\n"] {
        let text = sse(&answer_events()).replace("\r\n", line_end);
        let finish = text.find("finishReason").unwrap();
        let end = finish + text[finish..].find(line_end).unwrap();
        let rig = Rig::new([frames(&cut(&text, 1))]);
        let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
        for at in 0..text.len() {
            data(&mut body);
            if at + 1 >= end {
                assert_eq!(next_is_restored(&rig), at >= end, "{line_end:?} at {at}, end {end}");
            }
        }
    }
}

/// Rule 8, for an array stream: the closing brace of the element, not the bracket.
#[tokio::test]
async fn an_array_stream_ends_with_the_brace() {
    let text = array(&answer_events());
    let brace = text.rfind('}').unwrap();
    for split in 1..text.len() {
        let rig = Rig::new([frames(&[text[..split].to_owned().into(), text[split..].to_owned().into()])]);
        let mut body = now(rig.send(request(ARRAY, QUESTION))).unwrap().into_body();
        data(&mut body);
        assert_eq!(next_is_restored(&rig), split > brace, "split at {split}, brace at {brace}");
        data(&mut body);
        assert!(next_is_restored(&rig));
    }
}

/// Rule 8, for one document: its last byte.
#[tokio::test]
async fn a_document_ends_with_its_last_byte() {
    let text = document();
    for split in 1..text.len() {
        let rig = Rig::new([frames(&[text[..split].to_owned().into(), text[split..].to_owned().into()])]);
        let mut body = now(rig.send(request(GENERATE, QUESTION))).unwrap().into_body();
        data(&mut body);
        assert!(!next_is_restored(&rig), "split at {split}");
        data(&mut body);
        assert!(next_is_restored(&rig), "split at {split}");
    }
}

/// Rule 8: the last line may lack its end. Then the end of the body counts, in each of its three forms.
#[tokio::test]
async fn the_end_of_the_body_ends_a_last_line() {
    let text = sse(&answer_events());
    let text = text.trim_end();
    // `is_end_stream` right after the frame: who asks does not poll again.
    let rig = Rig::new([answer(Scripted::new([bytes(text.to_owned())]).marks_end())]);
    let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
    data(&mut body);
    assert!(body.is_end_stream());
    assert!(next_is_restored(&rig));
    // `None`.
    let rig = Rig::new([answer(Scripted::new([bytes(text.to_owned())]))]);
    let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
    data(&mut body);
    assert!(!next_is_restored(&rig));
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
    assert!(next_is_restored(&rig));
    // Trailers.
    let rig = Rig::new([answer(Scripted::new([bytes(text.to_owned()), Step::Trailers(trailers())]))]);
    let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
    data(&mut body);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    assert!(next_is_restored(&rig));
}

/// Rule 8: with a slow store exactly the frame with the end is held, until the turn is stored.
#[tokio::test(start_paused = true)]
async fn a_slow_store_holds_the_last_frame() {
    let events = answer_events();
    let first = Bytes::from(sse(&events[..1]));
    let last = Bytes::from(sse(&events[1..]));
    let rig = Rig::with(TestStore::remote(), [], |builder| builder);
    rig.store.append_as(Mode::After(Duration::from_millis(100)));
    let steps = [Step::Data(first.clone()), Step::Data(last.clone()), Step::Trailers(trailers())];
    rig.inner.will(answer(Scripted::new(steps)));
    let began = Instant::now();
    let mut body = rig.send(request(STREAM, QUESTION)).await.unwrap().into_body();
    assert!(same(&data(&mut body), &first));
    assert!(poll(&mut body).is_pending());
    assert!(!body.is_end_stream());
    assert_eq!(body.size_hint().lower(), last.len() as u64);
    let held = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap().into_data().unwrap();
    assert!(same(&held, &last));
    assert_eq!(began.elapsed(), Duration::from_millis(100));
    assert_eq!(rig.store.states().len(), 1);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
    assert_eq!((rig.count(Event::Learned), rig.count(Event::CommitLate)), (1, 0));
}

/// Rule 8: a body has not ended while its last frame is held, even if the inner one has.
#[tokio::test(start_paused = true)]
async fn a_body_has_not_ended_while_its_last_frame_is_held() {
    let rig = Rig::with(TestStore::remote(), [], |builder| builder);
    rig.store.append_as(Mode::After(Duration::from_millis(100)));
    rig.inner.will(answer(Scripted::new([bytes(sse(&answer_events()))]).marks_end()));
    let mut body = rig.send(request(STREAM, QUESTION)).await.unwrap().into_body();
    assert!(poll(&mut body).is_pending());
    assert!(!body.is_end_stream());
    assert!(http_body_util::BodyExt::frame(&mut body).await.unwrap().is_ok());
    assert!(body.is_end_stream());
}

/// Rule 8: after `commit_wait` the frame goes on, and so does the commit.
#[tokio::test(start_paused = true)]
async fn commit_wait_is_the_longest_wait() {
    for (wait, expected) in [(None, 250), (Some(40), 40), (Some(0), 0)] {
        let rig = Rig::with(TestStore::remote(), [whole(sse(&answer_events()))], |builder| match wait {
            Some(wait) => builder.commit_wait(Duration::from_millis(wait)),
            None => builder,
        });
        rig.store.append_as(Mode::After(Duration::from_secs(5)));
        let began = Instant::now();
        let got = rig.post(STREAM, QUESTION).await;
        assert_eq!(began.elapsed().as_millis(), expected);
        assert_eq!(got.text(), sse(&answer_events()));
        assert_eq!((rig.store.states().len(), rig.count(Event::CommitLate)), (0, 1));
        sleep(Duration::from_secs(6)).await;
        assert_eq!((rig.store.states().len(), rig.count(Event::Learned)), (1, 1));
    }
}

/// Rules 4 and 8: a store that fails costs the client nothing.
#[tokio::test(start_paused = true)]
async fn a_failing_store_costs_nothing() {
    for (mode, millis) in [(Mode::Fails, 0), (Mode::Hangs, 250)] {
        let rig = Rig::with(TestStore::remote(), [whole(sse(&answer_events()))], |builder| builder);
        rig.store.append_as(mode);
        let began = Instant::now();
        assert_eq!(rig.post(STREAM, QUESTION).await.text(), sse(&answer_events()));
        assert_eq!(began.elapsed().as_millis(), millis);
        assert_eq!(rig.count(Event::CommitFailed), u64::from(mode == Mode::Fails));
    }
}

/// A text that is signed after its end.
fn late_signature() -> (String, String) {
    let finish = sse(&[event(&[json!({"text": "It rains."})], Some("STOP"))]);
    let late = sse(&[event(&[json!({"text": "", "thoughtSignature": SIGNATURE})], None)]);
    (finish, late)
}

const TEXT_FOLLOW_UP: &str = concat!(
    r#"{"contents":[{"role":"user","parts":[{"text":"How is the weather?"}]},"#,
    r#"{"role":"model","parts":[{"text":"It rains."}]},{"role":"user","parts":[{"text":"And now?"}]}]}"#
);

/// Rule 8: a late signature appends to the same turn; `[DONE]` and usage add nothing.
#[tokio::test]
async fn a_late_signature_appends_to_the_turn() {
    let (finish, late) = late_signature();
    let usage = sse(&[json!({"usageMetadata": {"totalTokenCount": 7}})]);
    let tails = [
        vec![late.clone()],
        vec![usage.clone(), late.clone(), usage, "data: [DONE]\n\n".to_owned()],
        vec!["data: [DONE]\n\n".to_owned(), late.clone()],
        vec![": ping\n\ndata:\n\n".to_owned(), late.clone()],
    ];
    for tail in tails {
        for ends_at_once in [false, true] {
            let mut text = vec![finish.clone()];
            text.extend(tail.clone());
            if ends_at_once {
                text = vec![text.concat()];
            }
            let body = Scripted::new(text.into_iter().map(bytes)).marks_end();
            let rig = Rig::new([answer(body)]);
            let got = rig.post(STREAM, QUESTION).await;
            assert_eq!(got.report().unobserved, None, "{tail:?}");
            assert_eq!(rig.store.turns().len(), 1);
            rig.inner.will(whole("{}"));
            rig.post(GENERATE, TEXT_FOLLOW_UP).await;
            let restored = format!("\"text\":\"It rains.\",\"thoughtSignature\":\"{SIGNATURE}\"");
            assert!(rig.inner.last().text().contains(&restored), "{tail:?} {ends_at_once}");
        }
    }
}

/// Rule 8: a late signature is not lost if it is the last line of the frame with the end and lacks its line end.
#[tokio::test]
async fn a_late_signature_without_a_line_end_is_kept() {
    let (finish, late) = late_signature();
    let text = sse(&[event(&[call_part(SIGNATURE)], None)]) + &finish + late.trim_end();
    let rig = Rig::new([answer(Scripted::new([bytes(text)]).marks_end())]);
    let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
    data(&mut body);
    assert!(body.is_end_stream());
    drop(body);
    assert_eq!(rig.store.states().len(), 2);
}

/// Rules 8 and 10: appends of one turn may overtake each other on their way; the fuller one stays.
#[tokio::test(start_paused = true)]
async fn an_append_that_comes_late_takes_nothing_back() {
    let (finish, late) = late_signature();
    let call = sse(&[event(&[call_part(SIGNATURE)], None)]);
    let rig = Rig::with(TestStore::remote(), [], |builder| builder);
    rig.inner.will(answer(Scripted::new([bytes(call + &finish), bytes(late)])));
    rig.store.next_append(Mode::After(Duration::from_secs(2))).next_append(Mode::AtOnce);
    rig.post(STREAM, QUESTION).await;
    assert_eq!(rig.store.states().len(), 2);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.store.appends(), 2);
    assert_eq!(rig.store.states().len(), 2, "the older append took the late signature back");
}

/// Rule 8: with several candidates the end is when each that was seen has finished.
#[tokio::test]
async fn every_candidate_seen_has_to_finish() {
    let events = [
        candidate(0, &[call_part(SIGNATURE)], None),
        candidate(1, &[json!({"text": "Perhaps."})], None),
        candidate(0, &[], Some("STOP")),
        candidate(1, &[], Some("STOP")),
    ];
    let parts: Vec<Bytes> = events.iter().map(|event| sse(std::slice::from_ref(event)).into()).collect();
    let rig = Rig::new([frames(&parts)]);
    let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
    for (at, _) in parts.iter().enumerate() {
        data(&mut body);
        assert_eq!(next_is_restored(&rig), at == 3, "after event {at}");
    }
    assert_eq!(rig.store.turns()[0].alternatives().len(), 2);
}

/// Numeric enums, and the value that stands for no reason.
#[tokio::test]
async fn finish_reasons_may_be_numbers() {
    for (reason, ends) in [
        (json!(1), true),
        (json!(0), false),
        (json!("FINISH_REASON_UNSPECIFIED"), false),
        (json!(null), false),
        (json!("MAX_TOKENS"), true),
    ] {
        let mut event = event(&[call_part(SIGNATURE)], None);
        event["candidates"][0]["finishReason"] = reason.clone();
        let rig = Rig::new([frames(&[sse(&[event]).into()])]);
        let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
        data(&mut body);
        assert_eq!(next_is_restored(&rig), ends, "{reason}");
    }
}

/// Rule 8: an answer without state is not stored, and never held.
#[tokio::test]
async fn an_answer_without_state_is_not_stored() {
    let text = sse(&[event(&[json!({"text": "Hello."})], Some("STOP"))]);
    let rig = Rig::with(TestStore::remote(), [whole(text)], |builder| builder);
    rig.store.append_as(Mode::Hangs);
    let response = rig.send(request(STREAM, QUESTION)).await.unwrap();
    now(drain(response));
    assert_eq!(rig.store.appends(), 0);
}
