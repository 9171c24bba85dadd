//! Reasoning in the clear, as DeepSeek and open-weight models give it.

use serde_json::{Value, json};

use crate::{
    support::service::{refusal, whole},
    talk::*,
};

fn shown(id: &str, text: &str) -> Value {
    json!({
        "type": "reasoning", "id": id, "summary": [], "content": [{"type": "reasoning_text", "text": text}],
        "status": "completed",
    })
}

const UUID: &str = "6b1f3c52-9f8e-4d57-8a3b-0f2d4c6e8a10";

/// R13: what is shown in full goes back before each call that it led to, and again on every turn.
#[tokio::test]
async fn shown_reasoning_comes_back_r13() {
    for form in Form::ALL {
        for store in [None, Some(false)] {
            let mut talk = Talk::storing(store);
            talk.uri = "https://api.deepseek.com/responses";
            let thought = shown(UUID, "I \"look\".\n");
            talk.learn(&[user("Look.")], form, &[thought.clone(), call(0), call(1)]).await;
            let outputs = [output(0), output(1)];
            let kept = [call(0), call(1)];
            let honest = input(&[&[user("Look."), thought.clone()], &kept, &outputs]);
            talk.arrives(&input(&[&[user("Look.")], &kept, &outputs]), &honest).await;
            talk.arrives(&input(&[&[user("Look.")], &outputs]), &honest).await;
            talk.is_not_ours(&honest).await;
            let bare = input(&[&[user("Look."), without(&thought, &["id"])], &nameless(&kept), &outputs]);
            talk.arrives(&input(&[&[user("Look.")], &nameless(&kept), &outputs]), &bare).await;
            talk.is_not_ours(&bare).await;
        }
    }
}

/// R12: it stays with the vendor that showed it.
#[tokio::test]
async fn shown_reasoning_does_not_reach_another_vendor_r12() {
    let mut talk = Talk::new();
    talk.uri = "https://api.deepseek.com/responses";
    talk.learn(&[user("Look.")], Form::Stream, &[shown(UUID, "I look."), call(0)]).await;
    let kept = json!([user("Look."), call(0), output(0)]);
    for uri in [RESPONSES, "https://openrouter.ai/api/v1/responses"] {
        talk.uri = uri;
        talk.stays(&kept).await;
    }
    // What the client itself brought is its own affair.
    talk.is_not_ours(&json!([user("Look."), shown(UUID, "I look."), call(0), output(0)])).await;
}

/// R15: of an answer that was cut off, what is only shown stays out.
#[tokio::test]
async fn shown_reasoning_of_a_truncated_answer_stays_out_r15() {
    let answer = [shown(UUID, "I look and look and"), call(0)];
    let mut whole: Value = serde_json::from_str(&document(&answer)).unwrap();
    whole["status"] = "incomplete".into();
    for reply in [sse(&events(&answer, Form::Stream, "incomplete")), whole.to_string()] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Look.")])).to_string(), &reply).await;
        talk.stays(&json!([user("Look."), call(0), output(0)])).await;
    }
}

/// What the provider misses and nobody knows is not made up: its words reach the client.
#[tokio::test]
async fn reasoning_that_nobody_knows_is_not_made_up_r6() {
    let talk = Talk::new();
    for message in [
        "The `reasoning_text` in the thinking mode must be passed back to the API.",
        "Item 'fc_7fQz2LkW' of type 'function_call' was provided without its required 'reasoning' item: 'rs_7fQz2LkW'.",
    ] {
        let refused = json!({"error": {"message": message, "type": "invalid_request_error", "code": null}}).to_string();
        talk.rig.inner.will(refusal(400, refused.clone())).will(whole("never"));
        let got = talk.post(RESPONSES, talk.body(&json!([user("Look."), call(0), output(0)])).to_string()).await;
        assert_eq!((got.status.as_u16(), got.text()), (400, refused));
        talk.rig.inner.clear();
    }
    assert_eq!(talk.rig.inner.seen().len(), 2);
}
