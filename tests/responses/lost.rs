//! Reasoning that the client lost comes back before what it led to.

use serde_json::{Value, json};

use crate::talk::*;

const STORES: [Option<bool>; 3] = [None, Some(true), Some(false)];

/// R6: whoever keeps the ids of items gets the reasoning with its own, in whatever form it came.
#[tokio::test]
async fn an_item_that_kept_its_id_gets_its_reasoning_r6() {
    let answers = [
        vec![reasoning(0), call(0)],
        vec![reasoning(0), call(0), call(1), call(2)],
        vec![reasoning(0), reasoning(1), reasoning(2), call(0)],
        vec![reasoning(0), call(0), reasoning(1), call(1)],
        vec![reasoning(0), custom_call(0)],
        vec![reasoning(0), said(0, "Well, \"so\".")],
    ];
    for answer in answers {
        let outputs: Vec<Value> = answer
            .iter()
            .filter_map(|item| {
                Some((item["type"].as_str()?, (0..3).find(|number| item["call_id"] == call_id(*number))?))
            })
            .map(|(kind, number)| if kind == "function_call" { output(number) } else { custom_output(number) })
            .collect();
        for form in Form::ALL {
            for store in STORES {
                let talk = Talk::storing(store);
                let opening = [user("Look.")];
                talk.learn(&opening, form, &answer).await;
                let kept = input(&[&opening, &without_reasoning(&answer), &outputs, &[user("And?")]]);
                let honest = input(&[&opening, &answer, &outputs, &[user("And?")]]);
                for _ in 0..3 {
                    talk.arrives(&kept, &honest).await;
                }
                talk.is_not_ours(&honest).await;
            }
        }
    }
}

/// R6, R10: whoever lost the ids of items gets the reasoning without one, as does an id that became empty.
#[tokio::test]
async fn an_item_without_an_id_gets_reasoning_without_one_r10() {
    let answer = [reasoning(0), reasoning(1), call(0), call(1)];
    for form in Form::ALL {
        for store in STORES {
            for id in [None, Some(json!("")), Some(Value::Null)] {
                let talk = Talk::storing(store);
                talk.learn(&[user("Look.")], form, &answer).await;
                let mut calls = nameless(&[call(0), call(1)]);
                if let Some(id) = &id {
                    calls.iter_mut().for_each(|call| call["id"] = id.clone());
                }
                let outputs = [output(0), output(1)];
                let honest = input(&[&[user("Look.")], &nameless(&answer[..2]), &calls, &outputs]);
                talk.arrives(&input(&[&[user("Look.")], &calls, &outputs]), &honest).await;
            }
        }
    }
}

/// R6: of items of which only some kept their ids, each decides for the reasoning right before it.
#[tokio::test]
async fn ids_that_were_partly_kept_decide_each_for_itself_r6() {
    let answer = [reasoning(0), call(0), reasoning(1), call(1)];
    let talk = Talk::new();
    talk.learn(&[user("Look.")], Form::Stream, &answer).await;
    let bare = without(&call(1), &["id"]);
    let outputs = [output(0), output(1)];
    let kept = input(&[&[user("Look."), call(0), bare.clone()], &outputs]);
    let expected = [user("Look."), reasoning(0), call(0), without(&reasoning(1), &["id"]), bare];
    talk.arrives(&kept, &input(&[&expected, &outputs])).await;
}

/// R6: outputs that stand right behind their calls do not part calls from their reasoning.
#[tokio::test]
async fn interleaved_outputs_keep_one_reasoning_for_all_calls_r6() {
    for form in Form::ALL {
        let talk = Talk::new();
        talk.learn(&[user("Look.")], form, &[reasoning(0), call(0), call(1)]).await;
        let kept = json!([user("Look."), call(0), output(0), call(1), output(1)]);
        let honest = json!([user("Look."), reasoning(0), call(0), output(0), call(1), output(1)]);
        talk.arrives(&kept, &honest).await;
    }
}

/// R6: commentary, calls and the final answer are told by what they say; their phases are the client's to keep.
#[tokio::test]
async fn phases_of_an_answer_keep_their_reasoning_r6() {
    let phased = |number: usize, phase: &str, text: &str| {
        let mut message = said(number, text);
        message["phase"] = phase.into();
        message
    };
    let step = [reasoning(0), phased(0, "commentary", "I look."), call(0)];
    let last = [reasoning(1), phased(1, "final_answer", "It is there.")];
    for form in Form::ALL {
        let talk = Talk::storing(Some(false));
        talk.learn(&[user("Look.")], form, &step).await;
        let so_far = [user("Look."), step[1].clone(), call(0), output(0)];
        talk.learn(&so_far, form, &last).await;
        let honest = input(&[&[user("Look.")], &step, &[output(0)], &last, &[user("And?")]]);
        talk.arrives(&input(&[&so_far, &last[1..], &[user("And?")]]), &honest).await;
        // As a client of another protocol has them.
        let plain = |text: &str| json!({"role": "assistant", "content": text});
        let calls = nameless(&[call(0)]);
        let kept =
            input(&[&[user("Look."), plain("I look.")], &calls, &[output(0), plain("It is there."), user("And?")]]);
        let expected = input(&[
            &[user("Look."), without(&reasoning(0), &["id"]), plain("I look.")],
            &calls,
            &[output(0), without(&reasoning(1), &["id"]), plain("It is there."), user("And?")],
        ]);
        talk.arrives(&kept, &expected).await;
    }
}

/// R5: reasoning goes back only together with what followed it; what led to another item stays away with it.
#[tokio::test]
async fn reasoning_is_never_put_back_alone_r5() {
    let answer = [reasoning(0), search(0), reasoning(1), said(0, "Found.")];
    for form in Form::ALL {
        let talk = Talk::new();
        talk.learn(&[user("Search.")], form, &answer).await;
        let history = |kept: &[Value]| input(&[&[user("Search.")], kept, &[user("And?")]]);
        talk.arrives(&history(&[search(0), said(0, "Found.")]), &history(&answer)).await;
        // A client that knows nothing of searches.
        talk.arrives(&history(&[said(0, "Found.")]), &history(&answer[2..])).await;
        talk.arrives(&history(&[search(0)]), &history(&answer[..2])).await;
        talk.stays(&history(&[])).await;
        talk.stays(&history(&[said(0, "Found it.")])).await;
        talk.stays(&history(&[without(&said(0, "Found it."), &["id"])])).await;
    }
}

/// R5: a call whose arguments or name were edited is another call, whatever its id says.
#[tokio::test]
async fn an_edited_call_gets_nothing_r5() {
    let talk = Talk::new();
    talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
    let edits = [
        ("arguments", json!({"at": 1, "deep": true}).to_string()),
        ("arguments", json!({"at": 0}).to_string()),
        ("arguments", json!({"at": 0, "deep": true, "wide": true}).to_string()),
        ("arguments", r#"{"at":9007199254740993,"deep":true}"#.to_owned()),
        ("arguments", "{}".to_owned()),
        ("arguments", "nonsense".to_owned()),
        ("name", "peek".to_owned()),
    ];
    for (member, value) in edits {
        let mut edited = call(0);
        edited[member] = value.into();
        talk.stays(&json!([user("Look."), edited, output(0)])).await;
    }
    let mut respelled = call(0);
    respelled["arguments"] = "{ \"deep\" : true,\n \"at\" : 0.0 }".into();
    let kept = json!([user("Look."), respelled, output(0)]);
    talk.arrives(&kept, &json!([user("Look."), reasoning(0), respelled, output(0)])).await;
}

/// R7: what only the provider has goes back as the whole item that it sent, where that can be found, and never as
/// a reference.
#[tokio::test]
async fn stored_reasoning_goes_back_where_it_can_be_found_r7() {
    let stored =
        |id: &str| json!({"type": "reasoning", "id": id, "summary": [{"type": "summary_text", "text": "So."}]});
    let thought = stored("rs_7fQz2LkWm3XvB9tR");
    for form in [Form::Whole, Form::Stream, Form::Bare] {
        for learned in STORES {
            let mut talk = Talk::storing(learned);
            let answer = [thought.clone(), call(0)];
            let reply = form.write(&answer);
            // The provider says what it does, whatever it was asked for.
            let reply = match (learned, form) {
                (Some(false), Form::Whole) => reply.replacen('{', r#"{"store":false,"#, 1),
                (Some(false), _) => reply.replace(r#""object":"response""#, r#""object":"response","store":false"#),
                _ => reply,
            };
            talk.raw(&talk.body(&json!([user("Look.")])).to_string(), &reply).await;
            for store in STORES {
                talk.store = store;
                let kept = json!([user("Look."), call(0), output(0)]);
                if learned == Some(false) || store == Some(false) {
                    talk.stays(&kept).await;
                } else {
                    talk.arrives(&kept, &json!([user("Look."), thought, call(0), output(0)])).await;
                }
                // Without the id of the call nothing would be found to precede it.
                talk.stays(&json!([user("Look."), without(&call(0), &["id"]), output(0)])).await;
            }
        }
    }
}

/// R11: the item goes back as the raw bytes that came, whatever it has and lacks.
#[tokio::test]
async fn an_item_goes_back_as_it_was_written_r11() {
    let state = state(3).replace('-', "\\u002d");
    let raw = format!(
        "{{ \"id\":\"rs_7fQz2LkW\",\"content\" : null,\n\t\"encrypted_content\":\"{state}\", \"summary\":[ \
         {{\"type\":\"summary_text\",\"text\":\"\\u0041h \\/ 1.0\"}} ],\"extra\":1.00e2,\"type\":\"reasoning\",\"status\":null }}"
    );
    let bare = format!(
        "{{\"content\":null,\"encrypted_content\":\"{state}\",\"summary\":[ \
         {{\"type\":\"summary_text\",\"text\":\"\\u0041h \\/ 1.0\"}} ],\"extra\":1.00e2,\"type\":\"reasoning\",\"status\":null}}"
    );
    let lacks_summary = format!("{{\"type\":\"reasoning\",\"encrypted_content\":\"{state}\"}}");
    for (raw, bare) in [(&raw, &bare), (&lacks_summary, &lacks_summary)] {
        let talk = Talk::new();
        let answer = document(&["THOUGHT".into(), call(0)]).replace("\"THOUGHT\"", raw);
        talk.raw(&talk.body(&json!([user("Look.")])).to_string(), &answer).await;
        // The rest of the body keeps its own spelling.
        let body = |thought: &str, call: &Value| {
            format!(
                "{{\n  \"input\" : [ {}\t,\r\n{thought}{call} , {} ] ,\"model\":\"gpt-5\", \"temperature\": 1.0 }}\n",
                user("Look."),
                output(0),
            )
        };
        let nameless = without(&call(0), &["id"]);
        for (call, expected) in [(call(0), raw), (nameless, bare)] {
            for _ in 0..2 {
                let arrived = talk.raw(&body("", &call), &document(&[])).await;
                assert_eq!(arrived, body(&format!("{expected},"), &call));
            }
        }
    }
}

/// R13: nothing fails without reasoning, and yet a client that cannot express it gets it back: by the id of a call,
/// or by what it is called with.
#[tokio::test]
async fn a_client_of_another_protocol_loses_no_quality_r13() {
    for form in Form::ALL {
        let talk = Talk::storing(Some(false));
        talk.learn(&[user("Look.")], form, &[reasoning(0), call(0), call(1)]).await;
        let minimal = |number: usize, id: &str| {
            let item = without(&call(number), &["id", "status"]);
            let mut item = item;
            item["call_id"] = id.into();
            item
        };
        let out = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "seen"});
        let thought = without(&reasoning(0), &["id"]);
        for [one, two] in [[call_id(0), call_id(1)], ["call_1".into(), "call_2".into()]] {
            let rest = [minimal(0, &one), minimal(1, &two), out(&one), out(&two)];
            let kept = input(&[&[user("Look.")], &rest]);
            talk.arrives(&kept, &input(&[&[user("Look."), thought.clone()], &rest])).await;
        }
    }
}

/// R13: the same history gives the same bytes on every turn, however long it grows.
#[tokio::test]
async fn a_history_is_restored_alike_on_every_turn_r13() {
    for form in Form::ALL {
        let talk = Talk::storing(Some(false));
        let (mut kept, mut honest) = (vec![user("Look.")], vec![user("Look.")]);
        for step in 0..6 {
            let answer = [reasoning(step), call(step)];
            let (sent, expected) = (talk.body(&json!(kept)).to_string(), talk.body(&json!(honest)).to_string());
            assert_eq!(talk.raw(&sent, &form.write(&answer)).await, expected, "step {step}");
            kept.extend([call(step), output(step)]);
            honest.extend([reasoning(step), call(step), output(step)]);
        }
        // The head is cut, and what remains is known.
        talk.arrives(&json!(kept[5..]), &json!(honest[7..])).await;
        talk.arrives(&input(&[&[user("Summary.")], &kept[7..]]), &input(&[&[user("Summary.")], &honest[10..]])).await;
    }
}

/// Branches of one conversation: each equal answer gets the reasoning of its own.
#[tokio::test]
async fn branches_are_told_apart_by_what_precedes_them_r13() {
    let talk = Talk::new();
    let message = |text: &str| json!({"role": "assistant", "content": text});
    for (number, question) in ["Left.", "Right."].into_iter().enumerate() {
        talk.learn(&[user(question)], Form::Stream, &[reasoning(number), said(number, "Yes.")]).await;
    }
    for (number, question) in ["Left.", "Right.", "Left."].into_iter().enumerate() {
        let kept = [user(question), message("Yes."), user("And?")];
        let thought = without(&reasoning(number % 2), &["id"]);
        talk.arrives(&input(&[&kept]), &input(&[&kept[..1], &[thought], &kept[1..]])).await;
    }
    // An answer that was generated again: the newest counts.
    talk.learn(&[user("Left.")], Form::Stream, &[reasoning(2), said(2, "Yes.")]).await;
    let kept = [user("Left."), message("Yes."), user("And?")];
    let thought = without(&reasoning(2), &["id"]);
    talk.arrives(&input(&[&kept]), &input(&[&kept[..1], &[thought], &kept[1..]])).await;
}

/// Equal answers to equal questions at different places of one history keep their order.
#[tokio::test]
async fn equal_calls_of_one_history_keep_their_own_r13() {
    let talk = Talk::new();
    let again = |number: usize| {
        let mut again = call(0);
        (again["id"], again["call_id"]) = (call(number)["id"].clone(), call_id(number).into());
        again
    };
    let (mut kept, mut honest) = (vec![user("Look.")], vec![user("Look.")]);
    for step in 0..4 {
        talk.learn(&kept, Form::Stream, &[reasoning(step), again(step)]).await;
        kept.extend([again(step), output(step)]);
        honest.extend([reasoning(step), again(step), output(step)]);
    }
    talk.arrives(&json!(kept), &json!(honest)).await;
    // So do they with ids that a translator counts anew in each turn.
    let counted = |items: &[Value]| {
        let mut items = nameless(items);
        items
            .iter_mut()
            .filter(|item| item.get("call_id").is_some())
            .for_each(|item| item["call_id"] = "call_0".into());
        json!(items)
    };
    talk.arrives(&counted(&kept), &counted(&honest)).await;
}
