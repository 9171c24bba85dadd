//! What is remembered of a response, and what is not.

use serde_json::{Value, json};

use crate::{
    support::{
        body::Scripted,
        data,
        gemini::cut,
        service::{answer, frames, whole},
    },
    talk::*,
};

fn items() -> [Value; 2] {
    [reasoning(0), call(0)]
}

fn kept() -> Value {
    json!([user("Look."), call(0), output(0)])
}

fn honest() -> Value {
    json!([user("Look."), reasoning(0), call(0), output(0)])
}

/// Whether what this answer says is known afterwards.
async fn is_learned(reply: &str) -> bool {
    let talk = Talk::storing(Some(false));
    talk.raw(&talk.body(&json!([user("Look.")])).to_string(), reply).await;
    let appended = talk.rig.store.appends() > 0;
    talk.arrives(&kept(), &if appended { honest() } else { kept() }).await;
    appended
}

/// R15: of an answer that was cut off at a limit, encrypted reasoning that came to its end is kept.
#[tokio::test]
async fn encrypted_reasoning_of_an_incomplete_answer_is_kept_r15() {
    for form in Form::ALL {
        assert!(is_learned(&form.write(&items())).await);
        assert!(is_learned(&sse(&events(&items(), form, "incomplete"))).await);
    }
}

/// R15: nothing is kept of an answer that failed, was cancelled, goes on in the background or broke off.
#[tokio::test]
async fn what_did_not_end_well_is_not_kept_r15() {
    for form in [Form::Stream, Form::Bare] {
        assert!(!is_learned(&sse(&events(&items(), form, "failed"))).await);
        let mut whole = events(&items(), form, "completed");
        whole.pop();
        for end in 0..=whole.len() {
            assert!(!is_learned(&sse(&whole[..end])).await);
        }
        whole.push(json!({"type": "error", "code": "server_error", "message": "Sorry."}));
        assert!(!is_learned(&sse(&whole)).await);
    }
    for status in ["failed", "cancelled", "queued", "in_progress"] {
        let mut document: Value = serde_json::from_str(&document(&items())).unwrap();
        document["status"] = status.into();
        assert!(!is_learned(&document.to_string()).await, "{status}");
    }
}

/// Where items were not told one by one, those of the end count; a stub never does.
#[tokio::test]
async fn items_that_only_the_end_tells_are_kept_r6() {
    let mut told = events(&items(), Form::Bare, "completed");
    told.retain(|event| event["type"] != "response.output_item.done");
    told.last_mut().unwrap()["response"]["output"] = json!(items());
    assert!(is_learned(&sse(&told)).await);
}

/// Rule 8: the turn is in the store when the client sees the end, and not before; whoever leaves earlier leaves
/// nothing.
#[tokio::test]
async fn the_turn_is_known_when_the_end_is_seen_r15() {
    for form in [Form::Stream, Form::Bare, Form::Churned, Form::Plain] {
        let all: Vec<bytes::Bytes> =
            form.write(&items()).split_inclusive("\n\n").map(|event| event.to_owned().into()).collect();
        let end = all.iter().position(|event| memory(event).contains("response.completed")).unwrap();
        for leaves_at in [1, end, end + 1] {
            let talk = Talk::storing(Some(false));
            talk.rig.inner.will(frames(&all));
            let body = Scripted::of(&cut(&talk.body(&json!([user("Look.")])).to_string(), 1 << 20));
            let response = talk.rig.send(talk.request(RESPONSES).body(body).unwrap()).await.unwrap();
            let mut body = response.into_body();
            for event in &all[..leaves_at] {
                assert_eq!(talk.rig.store.appends(), 0);
                assert!(crate::support::same(&data(&mut body), event));
            }
            assert_eq!(talk.rig.store.appends(), usize::from(leaves_at > end));
            drop(body);
            talk.arrives(&kept(), &if leaves_at > end { honest() } else { kept() }).await;
        }
    }
}

fn memory(event: &bytes::Bytes) -> &str {
    std::str::from_utf8(event).unwrap()
}

/// R7, R13: a count and a compaction are patched like the request that they stand for, and teach nothing.
#[tokio::test]
async fn counts_and_compactions_are_patched_and_teach_nothing_r13() {
    for end in ["input_tokens", "compact"] {
        let talk = Talk::storing(Some(false));
        let uri = format!("{RESPONSES}/{end}");
        talk.rig.inner.will(whole(document(&items())));
        talk.post(&uri, talk.body(&json!([user("Look.")])).to_string()).await;
        assert_eq!(talk.rig.store.appends(), 0, "{end}");
        talk.stays(&kept()).await;
        talk.learn(&[user("Look.")], Form::Stream, &items()).await;
        let appends = talk.rig.store.appends();
        talk.rig.inner.will(whole(document(&[reasoning(1), call(1)])));
        talk.post(&uri, talk.body(&kept()).to_string()).await;
        assert_eq!(talk.rig.inner.last().text(), talk.body(&honest()).to_string(), "{end}");
        assert_eq!(talk.rig.store.appends(), appends);
    }
}

/// A body that is compressed all the same passes as it is, and nothing is made of it.
#[tokio::test]
async fn a_compressed_answer_passes_unread_r13() {
    let talk = Talk::new();
    let frame = bytes::Bytes::from_static(b"\x1f\x8b\x08\0\0\0\0\0\0\x03response.completed");
    talk.rig.inner.will(answer(Scripted::of(std::slice::from_ref(&frame))));
    let got = talk.post(RESPONSES, talk.body(&json!([user("Look.")])).to_string()).await;
    crate::support::assert_same(&got.frames, &[frame]);
    assert_eq!(talk.rig.inner.last().headers["accept-encoding"], "identity");
    assert_eq!(talk.rig.store.appends(), 0);
}
