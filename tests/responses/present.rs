//! What the client or the provider still has is not put in again.

use serde_json::{Value, json};

use crate::{
    support::{body::Step, service::whole},
    talk::*,
};

/// R9: reasoning that is there stays as it is, in whatever shape, and is never sent twice.
#[tokio::test]
async fn reasoning_that_is_there_is_not_put_in_again_r9() {
    let mut reshaped = reasoning(0);
    reshaped["summary"] = json!([{"type": "summary_text", "text": "shortened"}]);
    let mut other = reasoning(0);
    other["encrypted_content"] = state(5).into();
    let bare = without(&reasoning(0), &["id"]);
    let lacks_summary = without(&reasoning(0), &["id", "summary"]);
    for form in Form::ALL {
        let talk = Talk::storing(Some(false));
        talk.learn(&[user("Look.")], form, &[reasoning(0), call(0)]).await;
        for own in [reasoning(0), reshaped.clone(), other.clone(), bare.clone(), lacks_summary.clone()] {
            talk.is_not_ours(&json!([user("Look."), own, call(0), output(0)])).await;
            talk.is_not_ours(&json!([user("Look."), own, without(&call(0), &["id"]), output(0)])).await;
        }
    }
}

/// R9: nor is it put in where the client has it at another place, or has its id on something else.
#[tokio::test]
async fn an_item_that_stands_elsewhere_is_not_sent_twice_r9() {
    let talk = Talk::new();
    talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
    let reference = json!({"type": "item_reference", "id": reasoning(0)["id"]});
    for own in [reasoning(0), without(&reasoning(0), &["id"]), reference] {
        talk.stays(&json!([user("First."), own, user("Look."), call(0), output(0)])).await;
        talk.stays(&json!([user("Look."), call(0), output(0), user("And?"), own])).await;
    }
}

/// R9, R7: an id alone stands for what the provider stored, unless the request says that nothing is.
#[tokio::test]
async fn an_id_alone_counts_as_there_unless_nothing_is_stored_r9() {
    let remains = [json!(null), json!("")].map(|state| {
        let mut item = reasoning(0);
        item["encrypted_content"] = state;
        item
    });
    let [null, empty] = remains;
    for own in [without(&reasoning(0), &["encrypted_content"]), null, empty] {
        for store in [None, Some(true)] {
            let talk = Talk::storing(store);
            talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
            talk.is_not_ours(&json!([user("Look."), own, call(0), output(0)])).await;
        }
        let talk = Talk::storing(Some(false));
        talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
        let kept = json!([user("Look."), own, call(0), output(0)]);
        let body = talk.body(&kept).to_string();
        let arrived: Value = serde_json::from_str(&talk.raw(&body, &document(&[])).await).unwrap();
        assert_eq!(arrived["input"], json!([user("Look."), reasoning(0), call(0), output(0)]), "{own}");
        // Reasoning of an unknown id stays as it is, whatever follows it.
        let mut foreign = own.clone();
        foreign["id"] = "rs_unheardOf1".into();
        foreign["summary"] = json!([{"type": "summary_text", "text": "Another thought."}]);
        talk.stays(&json!([user("Look."), foreign, said(3, "Hm."), output(3)])).await;
    }
}

/// R7: references stay what they are, and what they stand for is not put in beside them.
#[tokio::test]
async fn references_stay_what_they_are_r7() {
    let reference = |item: &Value| json!({"type": "item_reference", "id": item["id"]});
    for store in [None, Some(true), Some(false)] {
        let talk = Talk::storing(store);
        talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
        let all = [reference(&reasoning(0)), reference(&call(0))];
        talk.stays(&input(&[&[user("Look.")], &all, &[output(0)]])).await;
        talk.stays(&json!([user("Look."), all[0], call(0), output(0)])).await;
    }
}

/// R8, R9: what the provider keeps itself is not sent again: the store is not even asked.
#[tokio::test]
async fn a_request_that_goes_on_from_what_is_kept_is_left_alone_r9() {
    for (member, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("conversation", json!({"id": "conv_1"})),
    ] {
        let mut talk = Talk::new();
        talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0), said(0, "Wait.")]).await;
        talk.more[member] = value;
        talk.is_not_ours(&json!([output(0)])).await;
        talk.is_not_ours(&json!([user("Look."), call(0), said(0, "Wait."), output(0), user("And?")])).await;
        talk.is_not_ours(&json!("And?")).await;
        // As if it were not there.
        talk.more[member] = Value::Null;
        talk.arrives(&json!([output(0)]), &json!([reasoning(0), call(0), output(0)])).await;
    }
}

/// Nothing to do: the same frames go on, and the store is not asked.
#[tokio::test]
async fn a_history_that_lacks_nothing_goes_on_in_its_own_frames_r9() {
    let talk = Talk::new();
    talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
    let loads = talk.rig.store.loads();
    let body = talk.body(&json!([user("Look."), reasoning(0), call(0), output(0)])).to_string();
    let frames = crate::support::gemini::cut(&body, 23);
    let scripted = crate::support::body::Scripted::new(frames.iter().cloned().map(Step::Data));
    talk.rig.inner.will(whole(document(&[])));
    talk.rig.exchange(talk.request(RESPONSES).body(scripted).unwrap()).await;
    crate::support::assert_same(&talk.rig.inner.last().frames, &frames);
    assert_eq!(talk.rig.store.loads(), loads);
    talk.is_not_ours(&json!("Hello.")).await;
    talk.is_not_ours(&json!([user("Hello.")])).await;
}
