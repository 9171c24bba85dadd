//! Where what came goes back to, byte for byte.

use serde_json::{Value, json};

use crate::{support::same, talk::*};

fn details() -> Value {
    json!([
        {"type": "reasoning.text", "text": "Why?", "signature": OPAQUE, "format": "f", "index": 0, "note": {"a": [1, null]}},
        {"type": "reasoning.encrypted", "data": OPAQUE, "id": "rs_1", "index": 1},
    ])
}

/// D6: whatever the model is called, each field goes back under its name, and nothing else changes.
#[tokio::test]
async fn every_field_goes_back_under_its_own_name_d6() {
    for model in ["deepseek-v4", "gpt-oss", "next/unheard-of-9:free", ""] {
        for members in [
            r#""reasoning_content":"W\u0068y \"not\"?\n""#.to_owned(),
            r#""reasoning":"Why?""#.to_owned(),
            format!("\"reasoning_details\":{}", details()),
            format!("\"reasoning\":\"Why?\",\"reasoning_details\":{}", details()),
            format!("\"reasoning_text\":\"Why?\",\"reasoning_opaque\":\"{OPAQUE}\""),
            format!("\"reasoning_opaque\":\"{OPAQUE}\""),
            format!("\"extra_content\":{{\"vertex\":{{\"thought_signature\":\"{OPAQUE}\"}}}}"),
        ] {
            let mut talk = Talk::new();
            talk.model = model.into();
            let answer = format!(
                "{{\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",{members},\"content\":\"Yes.\"}},\"finish_reason\":\"stop\"}}]}}"
            );
            talk.send(&json!([user("may I?")]), answer).await;
            let body = format!(
                "{{ \"messages\" : [{}, {{ \"content\" : \"Yes.\" , \"role\":\"assistant\" }},{}],\"model\":\"{model}\"}}",
                user("may I?"),
                user("when?")
            );
            let wanted = body.replacen("\"role\":\"assistant\" }", &format!("\"role\":\"assistant\",{members} }}"), 1);
            for _ in 0..2 {
                talk.rig.inner.will(crate::support::service::whole(document(&said("fine", &json!({})), "stop")));
                talk.post(body.clone()).await;
                assert_eq!(talk.rig.inner.last().text(), wanted);
            }
        }
    }
}

/// D1: null, nothing and white space are nothing; anything else is the client's own.
#[tokio::test]
async fn blank_reasoning_counts_as_missing_d1() {
    for field in ["reasoning_content", "reasoning", "reasoning_text"] {
        let talk = Talk::new();
        let thought = json!({field: "Why not?"});
        talk.ask(&json!([user("may I?")]), said("Yes.", &thought)).await;
        for blank in [json!(null), json!(""), json!(" "), json!("\n\t ")] {
            let history = json!([user("may I?"), said("Yes.", &json!({field: blank})), user("when?")]);
            assert_eq!(talk.look(&history).await[1], said("Yes.", &thought), "{field} {blank}");
        }
        for own in [json!("Own."), json!(7)] {
            let history = json!([user("may I?"), said("Yes.", &json!({field: own})), user("when?")]);
            assert_eq!(talk.look(&history).await, history);
        }
    }
}

/// D7, D8: who shows the reasoning but has no field for what is opaque gets that back beside it.
#[tokio::test]
async fn what_is_opaque_comes_back_beside_what_was_kept_d7() {
    let pairs = [("reasoning", "reasoning_details", details()), ("reasoning_text", "reasoning_opaque", json!(OPAQUE))];
    for (shown, opaque, state) in pairs {
        let talk = Talk::new();
        let whole = json!({shown: "Why?", opaque: state});
        talk.ask(&json!([user("may I?")]), with(answer(&[FIRST], &whole), &json!({"content": "Hm."}))).await;
        let history = |members: &Value| {
            json!([user("may I?"), with(answer(&[FIRST], members), &json!({"content": "Hm."})), output(FIRST)])
        };
        let blank = if state.is_array() { json!([]) } else { json!("") };
        for kept in
            [json!({shown: "Why?"}), json!({shown: "Why?", opaque: null}), json!({shown: "Why?", opaque: blank})]
        {
            assert_eq!(talk.look(&history(&kept)).await, history(&whole), "{kept}");
        }
        // A thought of the client's own is not what the state belongs to.
        for own in [json!({shown: "Why not?"}), json!({shown: "Why?", opaque: state}), json!({opaque: state})] {
            assert_eq!(talk.look(&history(&own)).await, history(&own), "{own}");
        }
        let other = json!([user("may I?"), said("Never.", &json!({shown: "Why not?"})), user("hm")]);
        assert_eq!(talk.look(&other).await, other);
    }
}

/// D7: who shows the reasoning under another name than its provider's gets all that came under the provider's.
#[tokio::test]
async fn reasoning_under_another_name_comes_back_under_its_own_d7() {
    for (whole, kept) in [
        (json!({"reasoning": "Why?", "reasoning_details": details()}), json!({"reasoning_content": "Why?"})),
        (
            json!({"reasoning": "Why?", "reasoning_details": details()}),
            json!({"reasoning_content": "Why?", "reasoning_details": []}),
        ),
        (
            json!({"reasoning": "Why?", "reasoning_details": details()}),
            json!({"reasoning_content": "Why?", "reasoning": null}),
        ),
        (json!({"reasoning": "Why?"}), json!({"reasoning_content": "Why?"})),
        (json!({"reasoning_content": "Why?"}), json!({"reasoning": "Why?"})),
        (json!({"reasoning_text": "Why?", "reasoning_opaque": OPAQUE}), json!({"reasoning_content": "Why?"})),
    ] {
        let mut talk = Talk::new();
        talk.model = "acme/next-9".into();
        talk.ask(&json!([user("may I?")]), answer(&[FIRST], &whole)).await;
        let history = |members: &Value| json!([user("may I?"), answer(&[FIRST], members), output(FIRST)]);
        assert_eq!(talk.look(&history(&kept)).await, history(&with(kept.clone(), &whole)), "{kept}");
        // Nothing of it belongs to another thought, nor to one that is half another.
        for own in [
            json!({"reasoning_content": "Why not?"}),
            json!({"reasoning_content": "Why?", "reasoning": "Why not?"}),
            json!({"reasoning_content": "Why?", "reasoning_text": "Why not?"}),
        ] {
            assert_eq!(talk.look(&history(&own)).await, history(&own), "{own}");
        }
    }
    // Who makes a model puts nothing beside the one name that it has.
    let talk = Talk::new();
    let whole = json!({"reasoning_content": "Why?"});
    talk.ask(&json!([user("may I?")]), answer(&[FIRST], &whole)).await;
    let loads = talk.rig.store.loads();
    talk.look(&json!([user("may I?"), answer(&[FIRST], &whole), output(FIRST)])).await;
    assert_eq!(talk.rig.store.loads(), loads);
}

/// Where nothing stood beside what is shown, nothing is put there.
#[tokio::test]
async fn nothing_comes_beside_what_was_all_d10() {
    for shown in ["reasoning", "reasoning_text", "reasoning_content"] {
        let mut talk = Talk::new();
        talk.model = "acme/next-9".into();
        talk.ask(&json!([user("may I?")]), said("Yes.", &json!({shown: "Why?"}))).await;
        let history = json!([user("may I?"), said("Yes.", &json!({shown: "Why?"})), user("when?")]);
        assert_eq!(talk.look(&history).await, history);
    }
}

/// What lacks nothing goes on as it came, and the store is not asked.
#[tokio::test]
async fn the_store_is_not_asked_for_what_is_there_d10() {
    let chunk =
        json!([{"type": "thinking", "thinking": [{"type": "text", "text": "Why?"}]}, {"type": "text", "text": "Yes."}]);
    for complete in [
        said("Yes.", &json!({"reasoning_content": "Why?"})),
        said("Yes.", &json!({"reasoning": "Why?", "reasoning_details": details()})),
        said("Yes.", &json!({"reasoning_details": details()})),
        said("Yes.", &json!({"reasoning_text": "Why?", "reasoning_opaque": OPAQUE})),
        said("Yes.", &json!({"extra_content": {"google": {"thought_signature": OPAQUE}}})),
        json!({"role": "assistant", "content": chunk}),
    ] {
        let talk = Talk::new();
        talk.ask(&json!([user("may I?")]), complete.clone()).await;
        assert_eq!(talk.rig.store.loads(), 0);
        let body = bytes::Bytes::from(talk.body(&json!([user("may I?"), complete, user("when?")])).to_string());
        talk.rig.inner.will(crate::support::service::whole(document(&said("fine", &json!({})), "stop")));
        talk.post(body.clone()).await;
        assert_eq!(talk.rig.store.loads(), 0, "{complete}");
        assert!(same(&talk.rig.inner.last().frames[0], &body), "the body was copied");
    }
}

/// A request that wants no thinking gets none.
#[tokio::test]
async fn nothing_goes_back_when_no_thinking_is_wanted_d1() {
    for off in [
        json!({"thinking": {"type": "disabled"}}),
        json!({"reasoning": {"enabled": false}}),
        json!({"reasoning_effort": "none"}),
    ] {
        let talk = Talk::new();
        talk.ask(&json!([user("may I?")]), said("Yes.", &json!({"reasoning_content": "Why?"}))).await;
        let history = json!([user("may I?"), said("Yes.", &json!({})), user("when?")]);
        let body = with(talk.body(&history), &off).to_string();
        talk.rig.inner.will(crate::support::service::whole(document(&said("fine", &json!({})), "stop")));
        talk.post(body.clone()).await;
        assert_eq!(talk.rig.inner.last().text(), body);
    }
}

/// D2, D10: a step whose messages follow each other, and one that has some of it already.
#[tokio::test]
async fn what_one_message_of_a_step_has_is_not_doubled_d10() {
    let talk = Talk::new();
    let whole = json!({"reasoning_details": details()});
    talk.ask(&json!([user("look")]), answer(&[FIRST, SECOND], &whole)).await;
    for (one, two) in [(&whole, &json!({})), (&json!({}), &whole)] {
        let history =
            json!([user("look"), answer(&[FIRST], one), output(FIRST), answer(&[SECOND], two), output(SECOND)]);
        assert_eq!(talk.look(&history).await, history);
    }
}

/// Marks for the cache and elements of a list do not make other content, and stay.
#[tokio::test]
async fn marks_for_the_cache_stay_where_they_are_d1() {
    let talk = Talk::new();
    talk.ask(&json!([user("may I?")]), said("Yes.", &json!({"reasoning_content": "Why?"}))).await;
    let marked = json!([{"type": "text", "text": "Yes.", "cache_control": {"type": "ephemeral"}}]);
    let question = json!({"role": "user", "content": [{"type": "text", "text": "may I?", "cache_control": {"type": "ephemeral"}}]});
    let history = json!([question, {"role": "assistant", "content": marked}, user("when?")]);
    let arrived = talk.look(&history).await;
    assert_eq!(arrived[0], question);
    assert_eq!(arrived[1], json!({"role": "assistant", "content": marked, "reasoning_content": "Why?"}));
}

/// Chunks of thinking go back into whatever the client made of the content.
#[tokio::test]
async fn chunks_of_thinking_find_their_content_in_every_shape_d1() {
    let thinking = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Why?"}], "closed": true});
    let talk = Talk::new();
    let signed = json!({"content": [thinking], "tool_calls": [call(FIRST)]});
    talk.ask(&json!([user("look")]), with(json!({"role": "assistant"}), &signed)).await;
    for content in [json!(null), json!(""), json!([])] {
        let bare = with(answer(&[FIRST], &json!({})), &json!({"content": content}));
        let arrived = talk.look(&json!([user("look"), bare, output(FIRST)])).await;
        assert_eq!(arrived[1]["content"], json!([thinking]), "{content}");
    }
    let text = json!({"type": "text", "text": "Yes."});
    talk.ask(&json!([user("may I?")]), json!({"role": "assistant", "content": [thinking, text]})).await;
    for content in [json!("Yes."), json!([text])] {
        let arrived =
            talk.look(&json!([user("may I?"), {"role": "assistant", "content": content}, user("when?")])).await;
        assert_eq!(arrived[1]["content"], json!([thinking, text]), "{content}");
    }
}

/// D9: a list that the client kept in part, or in another order, is its own.
#[tokio::test]
async fn details_of_the_clients_own_making_stay_d9() {
    let talk = Talk::new();
    talk.ask(&json!([user("may I?")]), said("Yes.", &json!({"reasoning_details": details()}))).await;
    let (one, two) = (details()[0].clone(), details()[1].clone());
    for own in [json!([one]), json!([two, one]), json!([{"type": "reasoning.text", "text": "Why?", "index": 0}])] {
        let history = json!([user("may I?"), said("Yes.", &json!({"reasoning_details": own})), user("when?")]);
        assert_eq!(talk.look(&history).await, history);
    }
}

/// D2, D7: a client that shows the reasoning of a step on every message of it.
#[tokio::test]
async fn shown_reasoning_of_a_step_that_was_split_gets_its_details_once_d7() {
    let talk = Talk::new();
    let whole = json!({"reasoning": "Why?", "reasoning_details": details()});
    talk.ask(&json!([user("look")]), answer(&[FIRST, SECOND], &whole)).await;
    let shown = json!({"reasoning": "Why?"});
    let history = |first: &Value| {
        json!([user("look"), answer(&[FIRST], first), output(FIRST), answer(&[SECOND], &shown), output(SECOND)])
    };
    assert_eq!(talk.look(&history(&shown)).await, history(&whole));
}

/// D10: state that the client holds, in whatever spelling, stands where it is and nowhere else.
#[tokio::test]
async fn what_the_client_spells_in_its_own_way_goes_nowhere_else_d10() {
    let thought = json!({"reasoning": "Why?", "reasoning_details": details()});
    let talk = Talk::new();
    talk.ask(&json!([user("may I?")]), said("Yes.", &thought)).await;
    let history =
        json!([user("may I?"), said("Yes.", &thought), user("really?"), said("Yes.", &json!({})), user("so?")]);
    for body in [talk.body(&history).to_string(), serde_json::to_string_pretty(&talk.body(&history)).unwrap()] {
        talk.rig.inner.will(crate::support::service::whole(document(&said("fine", &json!({})), "stop")));
        talk.post(body.clone()).await;
        assert_eq!(talk.rig.inner.last().text(), body);
    }
}
