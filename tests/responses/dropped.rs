//! Calls that the client dropped while it kept their outputs.

use serde_json::json;

use crate::talk::*;

/// R8: the call comes back with its reasoning, before the output, under its own ids.
#[tokio::test]
async fn a_dropped_call_comes_back_with_its_reasoning_r8() {
    for form in Form::ALL {
        for store in [None, Some(true), Some(false)] {
            let talk = Talk::storing(store);
            talk.learn(&[user("Look.")], form, &[reasoning(0), call(0)]).await;
            let kept = json!([user("Look."), output(0), user("And?")]);
            let honest = json!([user("Look."), reasoning(0), call(0), output(0), user("And?")]);
            for _ in 0..2 {
                talk.arrives(&kept, &honest).await;
            }
            // The question was compacted away.
            talk.arrives(&json!([output(0)]), &json!([reasoning(0), call(0), output(0)])).await;
        }
    }
}

/// R8: calls of one answer return together and in their order, with what was kept of it left where it is.
#[tokio::test]
async fn parallel_calls_come_back_together_r8() {
    let answer = [reasoning(0), call(0), call(1), custom_call(2)];
    let outputs = [output(0), output(1), custom_output(2)];
    for form in Form::ALL {
        let talk = Talk::new();
        talk.learn(&[user("Look.")], form, &answer).await;
        let history = |kept: &[_], outputs: &[_]| input(&[&[user("Look.")], kept, outputs]);
        let honest = history(&answer, &outputs);
        talk.arrives(&history(&[], &outputs), &honest).await;
        talk.arrives(&history(&answer[1..2], &outputs), &honest).await;
        talk.arrives(&history(&answer[2..3], &outputs), &honest).await;
        talk.arrives(&history(&answer[2..], &outputs), &honest).await;
        // Only what was answered comes back: a call without its output would be refused.
        let only = [reasoning(0), call(0)];
        talk.arrives(&history(&[], &outputs[..1]), &history(&only, &outputs[..1])).await;
    }
}

/// R8: of several turns, each call comes back in its place with its own reasoning.
#[tokio::test]
async fn dropped_calls_of_several_turns_come_back_in_their_places_r8() {
    let talk = Talk::storing(Some(false));
    let (mut kept, mut honest) = (vec![user("Look.")], vec![user("Look.")]);
    for step in 0..4 {
        talk.learn(&kept, Form::Stream, &[reasoning(step), call(step)]).await;
        kept.push(output(step));
        honest.extend([reasoning(step), call(step), output(step)]);
    }
    talk.arrives(&json!(kept), &json!(honest)).await;
}

/// R8: what is not known, is held twice, was never answered or may stand behind a reference inserts nothing.
#[tokio::test]
async fn what_is_not_proven_inserts_nothing_r8() {
    let talk = Talk::new();
    talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
    talk.stays(&json!([user("Look."), output(1)])).await;
    talk.stays(&json!([user("Look."), without(&output(0), &["call_id"])])).await;
    talk.stays(&json!([user("Look."), user("And?")])).await;
    talk.is_not_ours(&json!([user("Look."), {"type": "item_reference", "id": call(0)["id"]}, output(0)])).await;
    talk.is_not_ours(&json!([user("Look."), {"id": call(0)["id"]}, output(0)])).await;
    let mut twin = call(1);
    twin["call_id"] = call_id(0).into();
    talk.learn(&[user("Peek.")], Form::Stream, &[reasoning(1), twin]).await;
    talk.stays(&json!([user("Look."), output(0)])).await;
}

/// R8: in a conversation that nothing names, only an id that the provider drew is proof.
#[tokio::test]
async fn a_counted_id_proves_nothing_in_a_derived_session_r8() {
    let talk = Talk::derived();
    let mut counted = call(1);
    counted["call_id"] = "call_1".into();
    let counted_output = json!({"type": "function_call_output", "call_id": "call_1", "output": "seen"});
    talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
    let later = [user("Look."), call(0), output(0)];
    talk.learn(&later, Form::Stream, &[reasoning(1), counted.clone()]).await;
    // The place is the same.
    let so_far = [user("Look."), reasoning(0), call(0), output(0)];
    talk.arrives(
        &input(&[&later, std::slice::from_ref(&counted_output)]),
        &input(&[&so_far, &[reasoning(1), counted, counted_output.clone()]]),
    )
    .await;
    // The place is another, and one of the two ids is still proof.
    let edited = [user("Look."), user("There."), output(0)];
    let expected = [user("Look."), user("There."), reasoning(0), call(0), output(0)];
    talk.arrives(&input(&[&edited]), &input(&[&expected])).await;
    talk.stays(&json!([user("Look."), user("There."), counted_output])).await;
}

/// R8: a call of another tool than functions is one too.
#[tokio::test]
async fn calls_of_every_kind_come_back_r8() {
    for (kind, made_with) in [
        ("custom_tool_call", json!({"name": "patch", "input": "*** patch"})),
        ("local_shell_call", json!({"action": {"type": "exec", "command": ["ls"], "env": {}}})),
        ("shell_call", json!({"action": {"commands": ["ls"]}})),
        ("apply_patch_call", json!({"operation": {"type": "delete_file", "path": "a"}})),
        ("computer_call", json!({"action": {"type": "screenshot"}, "pending_safety_checks": []})),
    ] {
        let mut item = json!({"type": kind, "id": "xc_7fQz2LkW", "call_id": call_id(0), "status": "completed"});
        made_with.as_object().unwrap().iter().for_each(|(key, value)| item[key] = value.clone());
        let output = json!({"type": format!("{kind}_output"), "call_id": call_id(0), "output": "done"});
        let talk = Talk::new();
        talk.learn(&[user("Do.")], Form::Stream, &[reasoning(0), item.clone()]).await;
        let honest = json!([user("Do."), reasoning(0), item, output]);
        talk.arrives(&json!([user("Do."), output]), &honest).await;
        talk.arrives(&json!([user("Do."), item, output]), &honest).await;
    }
}
