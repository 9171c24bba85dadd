//! What differs between the Gemini API, Vertex and Cloud Code.

use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::{Say, Turn};

use super::client::*;

async fn tool_loop(gateway: &Gateway, client: &Client, steps: usize) -> Vec<Value> {
    let mut history = vec![user("Go")];
    for _ in 0..steps {
        let content = gateway.ask(client, &history).await.kept();
        let back = outputs(&content);
        history.push(content);
        history.push(if back["parts"] == json!([]) { user("On") } else { back });
    }
    history
}

#[tokio::test]
async fn vertex_writes_enums_as_numbers_and_no_ids_g2() {
    for how in WAYS {
        let gateway = Gateway::new(
            &strict([call("a", json!({"x": 1})), calls([("a", json!({"x": 1})), ("b", json!({}))]), text("Done.")])
                .vertex_v1_rejects_ids(true)
                .build(),
        );
        let client = Client { query: "%24alt=json%3Benum-encoding%3Dint", ..Client::new(VERTEX, how) };
        let history = tool_loop(&gateway, &client, 3).await;
        assert!(!json!(history).to_string().contains("\"id\""));
        gateway.ask(&client, &history).await;
        gateway.took(3);
    }
}

#[tokio::test]
async fn the_client_goes_on_with_the_second_candidate_g10() {
    for how in WAYS {
        for base in FACES {
            let turn = Turn::new([Say::text("The first answer.")]).candidate([Say::text("The second answer.")]);
            let gateway = Gateway::says([turn, text("Well.")]);
            let client = Client::new(base, how);
            let first = gateway.ask(&client, &[user("Go")]).await;
            let second = gateway.ask(&client, &[user("Go"), forget(&first.parts(1)), user("On")]).await;
            assert_eq!(gateway.restored(&second), [1]);
            gateway.took(1);
        }
    }
}

#[tokio::test]
async fn of_candidates_with_equal_content_the_first_counts_g10() {
    for how in WAYS {
        let same = || [Say::call("ls", json!({"path": "/"}))];
        let gateway = Gateway::new(&strict([Turn::new(same()).candidate(same())]).ids(false).build());
        let client = Client::new(API, how);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let content = first.kept();
        let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
        assert_eq!(gateway.restored(&second), [0]);
        gateway.took(1);
    }
}

#[tokio::test]
async fn the_calls_of_one_candidate_do_not_mix_with_those_of_another_g10() {
    let client = Client::new(VERTEX, How::Sse);
    let turn = Turn::new([Say::call("a", json!({})), Say::text("One")])
        .candidate([Say::call("a", json!({})), Say::text("Two")]);
    let gateway = Gateway::says([turn]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let content = forget(&first.parts(1));
    let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
    assert_eq!(gateway.restored(&second), [1]);
    gateway.took(1);
}

#[tokio::test]
async fn claude_gets_its_thinking_back_whole_before_the_call_g26() {
    for how in WAYS {
        let turns = [
            Turn::new([Say::thought("I \"think\" that\nI should look: 東京."), Say::call("ls", json!({"path": "/"}))]),
            Turn::new([
                Say::thought("And now?"),
                Say::text("I look again."),
                Say::calls([("ls", json!({"path": "/a"})), ("ls", json!({"path": "/b"}))]),
            ]),
            Turn::new([Say::thought("That is all."), Say::text("Done.")]),
        ];
        let gateway = Gateway::new(&strict(turns).text_piece(5).build());
        let client = Client::claude(how);
        let history = tool_loop(&gateway, &client, 3).await;
        let last = gateway.ask(&client, &history).await;
        gateway.took(3);
        let sent = last.upstream();
        for (content, thought) in [(1, "I \"think\" that\nI should look: 東京."), (3, "And now?"), (5, "That is all.")]
        {
            let part = &sent[content]["parts"][0];
            assert_eq!((&part["thought"], part["text"].as_str()), (&json!(true), Some(thought)), "{how:?}");
            // What the client kept follows, as it was.
            assert_eq!(sent[content]["parts"].as_array().unwrap()[1..], *history[content]["parts"].as_array().unwrap());
        }
    }
}

#[tokio::test]
async fn claude_thinking_that_the_client_kept_gets_only_its_signature_g26() {
    let client = Client::claude(How::Sse);
    let gateway = Gateway::says([Turn::new([Say::thought("I think."), Say::call("ls", json!({}))]), text("Done.")]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let content = model(vec![json!({"thought": true, "text": "I think."}), first.kept()["parts"][0].clone()]);
    let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
    assert_eq!(second.upstream()[1]["parts"].as_array().unwrap().len(), 2);
    gateway.took(1);
}

#[tokio::test]
async fn claude_thinking_that_the_client_changed_is_left_alone_g28() {
    let client = Client::claude(How::Sse);
    let gateway =
        Gateway::says([Turn::new([Say::thought("I think about it all."), Say::call("ls", json!({}))]), text("Done.")]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let content = model(vec![
        json!({"thought": true, "text": "I think…", "thoughtSignature": first.signatures()[0]}),
        first.kept()["parts"][0].clone(),
    ]);
    let history = [user("Go"), content.clone(), outputs(&content)];
    let second = gateway.ask(&client, &history).await;
    assert_eq!(second.sent, [client.body(&history).to_string().as_bytes()]);
    assert!(second.text().contains("Invalid `signature`"));
}

#[tokio::test]
async fn the_envelope_of_cloud_code_stays_as_it_is_g1() {
    let gateway = Gateway::says([call("ls", json!({"path": "/"}))]);
    let client = Client::new(CLOUD, How::Sse).session(None);
    let body = |contents: &[Value]| {
        json!({"model": GEMINI, "project": "p", "user_prompt_id": "0a1b########7", "request": {
            "session_id": "0a1b", "contents": contents, "generationConfig": {"thinkingConfig": {"includeThoughts": true}},
        }, "enabled_credit_types": []})
    };
    let first = gateway.ask_raw(&client, body(&[user("Go")]).to_string()).await;
    let content = first.kept();
    let history = [user("Go"), content.clone(), outputs(&content)];
    let second = gateway.ask_raw(&client, body(&history).to_string()).await;
    let mut expected = history.to_vec();
    expected[1]["parts"][0]["thoughtSignature"] = first.signatures()[0].clone().into();
    assert_eq!(serde_json::from_slice::<Value>(&second.sent[0]).unwrap(), body(&expected));
    gateway.took(1);
}

/// A call whose arguments are streamed, as Vertex does on demand.
fn streamed(id: Option<&str>) -> Canned {
    let mut open = json!({"name": "book", "willContinue": true});
    if let Some(id) = id {
        open["id"] = json!(id);
    }
    let piece = |pieces: Value| json!({"functionCall": {"partialArgs": pieces, "willContinue": true}});
    let parts = [
        json!({"functionCall": open, "thoughtSignature": "Signature+of+the+call+"}),
        piece(json!([{"jsonPath": "$.city", "stringValue": "Flo", "willContinue": true}])),
        piece(json!([{"jsonPath": "$.city", "stringValue": "rence \"2\""}])),
        piece(
            json!([{"jsonPath": "$.guests[0].age", "numberValue": 7}, {"jsonPath": "$.guests[1].age", "numberValue": 9}]),
        ),
        piece(json!([{"jsonPath": "$.late", "boolValue": true}])),
        json!({"functionCall": {}}),
    ];
    let mut events: Vec<Value> = parts
        .into_iter()
        .map(|part| json!({"candidates": [{"content": {"role": "model", "parts": [part]}}]}))
        .collect();
    events
        .push(json!({"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}]}));
    Canned::sse(events)
}

#[tokio::test]
async fn arguments_that_were_streamed_in_pieces_are_put_together_g22() {
    let args = json!({"late": true, "city": "Florence \"2\"", "guests": [{"age": 7}, {"age": 9}]});
    let client = Client::new(VERTEX, How::Sse);
    for (args, same) in [(args.clone(), true), (json!({"late": true, "city": "Florence"}), false)] {
        let gateway = Gateway::says([]);
        gateway.answer_next(streamed(None));
        gateway.ask(&client, &[user("Go")]).await;
        gateway.answer_next(Canned::json(&json!({})));
        let content = model(vec![json!({"functionCall": {"name": "book", "args": args}})]);
        let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
        let expected = if same { json!("Signature+of+the+call+") } else { Value::Null };
        assert_eq!(second.signature(1, 0), expected);
    }
}

#[tokio::test]
async fn a_dropped_call_with_streamed_arguments_comes_back_whole_g22() {
    let gateway = Gateway::says([]);
    let client = Client::new(API, How::Sse);
    gateway.answer_next(streamed(Some("k3j2h1g0")));
    gateway.ask(&client, &[user("Go")]).await;
    gateway.answer_next(Canned::json(&json!({})));
    let back = json!({"functionResponse": {"name": "book", "id": "k3j2h1g0", "response": {}}});
    let second = gateway.ask(&client, &[user("Go"), json!({"role": "user", "parts": [back]})]).await;
    let expected = json!({
        "functionCall": {"name": "book", "id": "k3j2h1g0", "args": {"late": true, "city": "Florence \"2\"", "guests": [{"age": 7}, {"age": 9}]}},
        "thoughtSignature": "Signature+of+the+call+",
    });
    assert_eq!(second.upstream()[1], model(vec![expected]));
}

#[tokio::test]
async fn claude_thinking_without_text_comes_back_too_g26() {
    let thought = json!({"thought": true, "text": "", "thoughtSignature": "Signature+of+a+thought+"});
    let call = json!({"functionCall": {"name": "ls", "args": {}, "id": "toolu_vrtx_01AbCdEf"}});
    for how in [How::Whole, How::Sse] {
        let gateway = Gateway::says([]);
        let client = Client::claude(how);
        let event = |parts: Vec<Value>, finish: Value| json!({"response": {"candidates": [{"content": model(parts), "finishReason": finish}]}});
        gateway.answer_next(match how {
            How::Whole => Canned::json(&event(vec![thought.clone(), call.clone()], json!("STOP"))),
            _ => Canned::sse([event(vec![thought.clone()], Value::Null), event(vec![call.clone()], json!("OTHER"))]),
        });
        gateway.ask(&client, &[user("Go")]).await;
        for kept in [true, false] {
            gateway.answer_next(Canned::json(&json!({})));
            let content = model([call.clone()]);
            let mut history = vec![user("Go"), content.clone(), outputs(&content)];
            if !kept {
                history.remove(1);
            }
            let answer = gateway.ask(&client, &history).await;
            assert_eq!(answer.upstream()[1], model([thought.clone(), call.clone()]), "{how:?} {kept}");
        }
    }
}

/// Beside what is left of the thinking, a whole part would be a second one.
#[tokio::test]
async fn claude_thinking_of_which_a_blank_was_kept_takes_its_place_g26() {
    let blanks = [
        json!({"thought": true, "text": ""}),
        json!({"thought": true}),
        json!({"text": "", "thought": true, "thoughtSignature": ""}),
        json!({"thought": true, "thought_signature": null}),
        json!({"thought": true, "text": "", "thoughtSignature": "skip_thought_signature_validator"}),
    ];
    for how in WAYS {
        for blank in &blanks {
            for said in [
                vec![Say::thought("I think."), Say::call("ls", json!({"path": "/"}))],
                vec![Say::thought("I think."), Say::text("I look."), Say::call("ls", json!({"path": "/"}))],
                vec![Say::thought("I think."), Say::calls([("a", json!({"x": 1})), ("b", json!({"x": 2}))])],
            ] {
                let gateway = Gateway::says([Turn::new(said), text("Done."), text("Well.")]);
                let client = Client::claude(how);
                let first = gateway.ask(&client, &[user("Go")]).await;
                let kept = first.kept();
                let mut content = kept.clone();
                content["parts"].as_array_mut().unwrap().insert(0, blank.clone());
                let history = [user("Go"), content.clone(), outputs(&content)];
                let second = gateway.ask(&client, &history).await;
                let sent = second.upstream();
                let parts = sent[1]["parts"].as_array().unwrap();
                assert_eq!(parts.len(), content["parts"].as_array().unwrap().len(), "{blank}");
                assert_eq!((&parts[0]["thought"], &parts[0]["text"]), (&json!(true), &json!("I think.")), "{blank}");
                assert_eq!(parts[1..], *kept["parts"].as_array().unwrap());
                gateway.took(1);
                // A dropped sibling joins behind it.
                if parts.len() == 3 && kept["parts"][0].get("functionCall").is_some() {
                    let mut content = content.clone();
                    content["parts"].as_array_mut().unwrap().remove(1);
                    let history = [user("Go"), content, outputs(&kept)];
                    let third = gateway.ask(&client, &history).await;
                    assert_eq!(third.upstream()[1], sent[1], "{blank}");
                    gateway.took(1);
                }
            }
        }
    }
}

/// A signature that the client kept on an emptied thought is its own: nothing is put beside it.
#[tokio::test]
async fn claude_thinking_that_was_emptied_but_kept_its_signature_is_left_alone_g28() {
    let client = Client::claude(How::Sse);
    let gateway = Gateway::says([Turn::new([Say::thought("I think."), Say::call("ls", json!({}))]), text("Done.")]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    for signature in [first.signatures()[0].clone(), "c29tZSBvdGhlciBzaWduYXR1cmUgb2Ygb2xk".to_owned()] {
        let own = json!({"thought": true, "text": "", "thoughtSignature": signature});
        let content = model([own, first.kept()["parts"][0].clone()]);
        let history = [user("Go"), content.clone(), outputs(&content)];
        let second = gateway.ask(&client, &history).await;
        assert_eq!(second.sent, [client.body(&history).to_string().as_bytes()]);
    }
}
