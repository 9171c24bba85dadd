//! What must come back, and where.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::responses::*;

use crate::client::*;

const CIPHER: &str = "invalid_encrypted_content";

#[tokio::test]
async fn every_full_ciphertext_is_valid_and_a_stub_is_not() {
    let provider = ResponsesProvider::new();
    let question = user("How is the weather?");
    let answer = ask_with(&provider, std::slice::from_ref(&question), json!({"stream": true})).await;
    let items = answer.output();
    let history = |ciphertext: &str| {
        let reasoning = with(&items[0], "encrypted_content", json!(ciphertext));
        let mut history = vec![question.clone(), reasoning, items[1].clone()];
        history.extend(outputs(&items));
        history
    };
    let issued = provider.issued();
    assert_eq!(
        issued.iter().map(|issued| issued.stage).collect::<Vec<_>>(),
        [Stage::Added, Stage::Done, Stage::Completed]
    );
    let id = items[0]["id"].as_str().unwrap();
    assert!(issued.iter().all(|issued| issued.item_id == id && issued.kind == IssuedKind::Reasoning));
    let expected = format!(
        "The encrypted content for item {id} could not be verified. Reason: Encrypted content could not be decrypted or parsed."
    );
    refused_as(&ask(&provider, &history(&issued[0].encrypted_content)).await, &expected, Value::Null, json!(CIPHER));
    for issued in &issued[1..] {
        accepted(&ask(&provider, &history(&issued.encrypted_content)).await);
    }
    let seen = provider.requests();
    assert_eq!(seen.iter().map(|seen| seen.genuine).collect::<Vec<_>>(), [0, 0, 1, 1]);
    provider.revoke();
    refused_as(&ask(&provider, &history(&issued[1].encrypted_content)).await, &expected, Value::Null, json!(CIPHER));
}

#[tokio::test]
async fn ciphertexts_are_bound_to_item_model_and_organisation() {
    let provider = ResponsesProvider::new();
    let history = first_step(&provider, json!({})).await;
    let bare = without(&history, "id");
    accepted(&ask(&provider, &bare).await);

    // Without an id, the ciphertext itself is named.
    let mut changed = bare.clone();
    changed[1]["encrypted_content"] = json!("gAAAmadeupDQ==");
    let expected = "The encrypted content gAAA...DQ== could not be verified. Reason: Encrypted content could not be decrypted or parsed.";
    refused_as(&ask(&provider, &changed).await, expected, Value::Null, json!(CIPHER));
    changed[1]["encrypted_content"] = json!("");
    refused_as(&ask(&provider, &changed).await, "The encrypted content ", Value::Null, json!(CIPHER));

    // Another item's id.
    let mut changed = history.clone();
    changed[1]["id"] = json!("rs_0");
    let expected = "The encrypted content for item rs_0 could not be verified.";
    refused_as(&ask(&provider, &changed).await, expected, Value::Null, json!(CIPHER));

    let other = ask_with(&provider, &history, json!({"model": "gpt-6"})).await;
    refused_as(&other, "The encrypted content for item rs_", Value::Null, json!(CIPHER));

    let as_organisation = |name: &'static str, value: &'static str, history: &[Value]| {
        let body = Bytes::from(body(history, &json!({})).to_string());
        Request::post(PATH).header(name, value).body(Full::new(body)).unwrap()
    };
    for (name, value) in
        [("authorization", "Bearer b"), ("api-key", "b"), ("chatgpt-account-id", "b"), ("openai-organization", "b")]
    {
        let answer = send(&provider, as_organisation(name, value, &bare)).await;
        let cipher = bare[1]["encrypted_content"].as_str().unwrap();
        let expected = format!(
            "The encrypted content gAAA...{} could not be verified. Reason: Encrypted content organization_id did not match the target organization.",
            &cipher[cipher.len() - 4..]
        );
        refused_as(&answer, &expected, Value::Null, json!(CIPHER));
    }
    // The account counts, not its token.
    let first = |token: &'static str, input: &[Value]| {
        let mut request = as_organisation("chatgpt-account-id", "a", input);
        request.headers_mut().insert("authorization", token.parse().unwrap());
        request
    };
    let items = send(&provider, first("Bearer 1", &[user("Hello")])).await.output();
    let history = [vec![user("Hello")], items.clone(), outputs(&items)].concat();
    accepted(&send(&provider, first("Bearer 2", &history)).await);

    let lenient = ResponsesProvider::builder().bind_credentials(false).bind_models(false).build();
    let history = first_step(&lenient, json!({})).await;
    accepted(&send(&lenient, as_organisation("authorization", "Bearer b", &history)).await);
    accepted(&ask_with(&lenient, &history, json!({"model": "gpt-6"})).await);
}

#[tokio::test]
async fn vendors_have_words_of_their_own_for_an_invalid_ciphertext() {
    for (builder, message, code) in [
        (
            ResponsesProvider::builder().vendor(Vendor::Azure),
            "The encrypted content gAAA...DQ== could not be verified.",
            Value::Null,
        ),
        (
            ResponsesProvider::builder().invalid_wording(InvalidWording::Short),
            "The encrypted content gAAA...DQ== could not be verified.",
            json!(CIPHER),
        ),
        (
            ResponsesProvider::builder().invalid_wording(InvalidWording::Caller),
            "Upstream request failed: [invalid_request_error] reasoning `encrypted_content` was not issued to this caller",
            Value::Null,
        ),
    ] {
        let provider = builder.build();
        let mut history = without(&first_step(&provider, json!({})).await, "id");
        accepted(&ask(&provider, &history).await);
        history[1]["encrypted_content"] = json!("gAAAmadeupDQ==");
        let answer = ask(&provider, &history).await;
        refused_as(&answer, message, Value::Null, code);
        assert_eq!(provider.requests()[2].refusal.as_deref(), Some(message));
    }
}

#[tokio::test]
async fn recorded_replays_are_accepted() {
    // Stored, with ids; and stateless, in all three spellings that clients have.
    let provider = ResponsesProvider::new();
    let stored = first_step(&provider, json!({})).await;
    accepted(&ask(&provider, &stored).await);
    let stateless = first_step(&provider, json!({"store": false})).await;
    accepted(&ask_stateless(&provider, &stateless).await);
    accepted(&ask_stateless(&provider, &without(&stateless, "id")).await);
    let mut half = stateless.clone();
    half[2].as_object_mut().unwrap().remove("id");
    accepted(&ask_stateless(&provider, &half).await);
    half = stateless.clone();
    half[1].as_object_mut().unwrap().remove("id");
    accepted(&ask_stateless(&provider, &half).await);
    // A client may drop the summary's text, and the reasoning of calls without ids.
    half[1]["summary"] = json!([]);
    accepted(&ask_stateless(&provider, &half).await);
    let mut dropped = without(&stored, "id");
    dropped.remove(1);
    accepted(&ask(&provider, &dropped).await);
    assert_eq!(provider.refused(), 0);
}

#[tokio::test]
async fn reasoning_is_followed_by_what_it_was_given_for() {
    let provider = ResponsesProvider::new();
    let history = first_step(&provider, json!({})).await;
    let id = history[1]["id"].as_str().unwrap().to_owned();
    let expected = format!("Item '{id}' of type 'reasoning' was provided without its required following item.");
    let (question, reasoning, call, output) = (&history[0], &history[1], &history[2], &history[3]);
    for input in [
        // Nothing, or something else, follows.
        vec![question.clone(), reasoning.clone()],
        vec![question.clone(), reasoning.clone(), user("Well?")],
        vec![question.clone(), reasoning.clone(), json!({"role": "assistant", "content": "It rains."})],
        // The call comes first, or later.
        vec![question.clone(), call.clone(), reasoning.clone(), output.clone()],
        vec![reasoning.clone(), question.clone(), call.clone(), output.clone()],
        // The call was changed.
        vec![question.clone(), reasoning.clone(), with(call, "name", json!("get_time")), output.clone()],
        vec![question.clone(), reasoning.clone(), with(call, "arguments", json!("{}")), output.clone()],
    ] {
        refused(&ask(&provider, &input).await, &expected);
        let bare = without(&input, "id");
        refused(&ask_stateless(&provider, &bare).await, &expected);
    }
    // The arguments mean the same in another spelling.
    let spelled = with(call, "arguments", json!("{\"days\": 1.0, \"city\": \"\\u0050aris\"}"));
    accepted(&ask(&provider, &[question.clone(), reasoning.clone(), spelled, output.clone()]).await);
    // An id is kept by both or by none, as long as items are stored.
    let mut bare_call = history.clone();
    bare_call[2].as_object_mut().unwrap().remove("id");
    refused(&ask(&provider, &bare_call).await, &expected);
    accepted(&ask_stateless(&provider, &bare_call).await);
    // Another call id is another call, unless that is switched off.
    let renamed = |history: &[Value]| {
        let mut history = without(history, "id");
        history[2]["call_id"] = json!("call_1");
        history[3]["call_id"] = json!("call_1");
        history
    };
    refused(&ask(&provider, &renamed(&history)).await, &expected);
    let lenient = ResponsesProvider::builder().bind_call_ids(false).build();
    let history = first_step(&lenient, json!({})).await;
    accepted(&ask(&lenient, &renamed(&history)).await);
}

#[tokio::test]
async fn reasoning_before_a_custom_tool_call_is_bound_to_its_input() {
    let provider = says([Say::hidden_reasoning(), Say::custom_tool_call("patch", "+x")]).build();
    let items = ask(&provider, &[user("Go")]).await.output();
    let input = |call: Value| [user("Go"), items[0].clone(), call, outputs(&items)[0].clone()];
    accepted(&ask(&provider, &input(items[1].clone())).await);
    for (field, value) in [("input", "+y"), ("name", "other")] {
        let changed = input(with(&items[1], field, json!(value)));
        refused(&ask(&provider, &changed).await, "Item 'rs_");
    }
    refused(&ask(&provider, &[user("Go"), items[1].clone(), outputs(&items)[0].clone()]).await, "Item 'ctc_");
}

#[tokio::test]
async fn a_message_is_what_it_says() {
    let provider = says([Say::hidden_reasoning(), Say::phased_text("final_answer", "It rains.")]).build();
    let question = user("How is the weather?");
    let items = ask(&provider, std::slice::from_ref(&question)).await.output();
    assert_eq!((&items[1]["phase"], &items[1]["status"]), (&json!("final_answer"), &json!("completed")));
    let next = |message: Value| [question.clone(), items[0].clone(), message, user("And tomorrow?")];
    accepted(&ask(&provider, &next(items[1].clone())).await);
    let edited = json!({"role": "assistant", "content": "It may rain."});
    let expected = "Item 'rs_";
    refused(&ask(&provider, &next(edited.clone())).await, expected);
    refused(&ask_stateless(&provider, &next(edited)).await, expected);
    let bare = json!({"role": "assistant", "content": "It rains."});
    refused(&ask(&provider, &next(bare.clone())).await, expected);
    accepted(&ask_stateless(&provider, &next(bare.clone())).await);
    accepted(&ask(&provider, &without(&next(bare), "id")).await);
    // The message alone.
    let alone = [question.clone(), items[1].clone(), user("And tomorrow?")];
    let expected = format!(
        "Item '{}' of type 'message' was provided without its required 'reasoning' item: '{}'.",
        items[1]["id"].as_str().unwrap(),
        items[0]["id"].as_str().unwrap()
    );
    refused(&ask(&provider, &alone).await, &expected);
    accepted(&ask(&provider, &without(&alone, "id")).await);
}

#[tokio::test]
async fn items_that_kept_their_ids_need_their_reasoning() {
    let provider = script([Turn::new([
        Say::hidden_reasoning(),
        Say::hidden_reasoning(),
        Say::calls([("a", json!({})), ("b", json!({}))]),
    ])])
    .build();
    let question = user("Go");
    let items = ask(&provider, std::slice::from_ref(&question)).await.output();
    let [one, two, a, b] = &items[..] else { panic!("{items:?}") };
    let back = outputs(&items);
    let all = |items: &[&Value]| {
        let mut input = vec![question.clone()];
        input.extend(items.iter().map(|item| (*item).clone()));
        input
    };
    let message = |item: &Value, reasoning: &Value| {
        format!(
            "Item '{}' of type 'function_call' was provided without its required 'reasoning' item: '{}'.",
            item["id"].as_str().unwrap(),
            reasoning["id"].as_str().unwrap()
        )
    };
    accepted(&ask(&provider, &all(&[one, two, a, b, &back[0], &back[1]])).await);
    accepted(&ask(&provider, &all(&[one, two, a, &back[0], b, &back[1]])).await);
    accepted(&ask(&provider, &all(&[one, two, a, &back[0]])).await);
    refused(&ask(&provider, &all(&[a, b, &back[0], &back[1]])).await, &message(a, one));
    refused(&ask(&provider, &all(&[one, a, b, &back[0], &back[1]])).await, &message(a, two));
    refused(&ask(&provider, &all(&[two, a, b, &back[0], &back[1]])).await, &message(a, one));
    // Only what belongs to the response may stand between.
    let between = user("Hm");
    refused(&ask(&provider, &all(&[one, two, a, &back[0], &between, b, &back[1]])).await, &message(b, one));
    // Reasoning that lost its id does not count for items that kept theirs.
    let bare = without(std::slice::from_ref(one), "id").remove(0);
    refused(&ask(&provider, &all(&[&bare, two, a, b, &back[0], &back[1]])).await, &message(a, one));
    // Between two calls it comes too late.
    let late = all(&[a, one, two, b, &back[0], &back[1]]);
    let expected = "was provided without its required following item.";
    assert!(ask(&provider, &without(&late, "id")).await.text().contains(expected));
    // Nothing of that is demanded where nothing is stored, nor when it is switched off.
    accepted(&ask_stateless(&provider, &all(&[a, b, &back[0], &back[1]])).await);
    let lenient = script([Turn::new([Say::hidden_reasoning(), Say::call("a", json!({}))])]).pairing(false).build();
    let items = ask(&lenient, std::slice::from_ref(&question)).await.output();
    let back = outputs(&items);
    accepted(&ask(&lenient, &[question.clone(), items[1].clone(), back[0].clone()]).await);
    let strict = script([Turn::new([Say::hidden_reasoning(), Say::call("a", json!({}))])]).pairing(true).build();
    let items = ask_stateless(&strict, std::slice::from_ref(&question)).await.output();
    let back = outputs(&items);
    let answer = ask_stateless(&strict, &[question, items[1].clone(), back[0].clone()]).await;
    refused(&answer, &message(&items[1], &items[0]));
}

#[tokio::test]
async fn searches_pair_like_calls() {
    let provider = says([
        Say::hidden_reasoning(),
        Say::web_search_call("weather"),
        Say::hidden_reasoning(),
        Say::text("It rains."),
    ])
    .build();
    let items = ask(&provider, &[user("Go")]).await.output();
    let input = |items: &[&Value]| {
        let mut input = vec![user("Go")];
        input.extend(items.iter().map(|item| (*item).clone()));
        input.push(user("And?"));
        input
    };
    let [one, search, two, text] = &items[..] else { panic!("{items:?}") };
    assert_eq!(search["action"], json!({"type": "search", "query": "weather"}));
    accepted(&ask(&provider, &input(&[one, search, two, text])).await);
    accepted(&ask(&provider, &input(&[two, text])).await);
    let expected = format!("Item '{}' of type 'reasoning'", one["id"].as_str().unwrap());
    refused(&ask(&provider, &input(&[one, two, text])).await, &expected);
    let other = with(search, "id", json!("ws_1"));
    refused(&ask(&provider, &input(&[one, &other, two, text])).await, &expected);
    let answer = ask(&provider, &input(&[search, two, text])).await;
    refused(&answer, &format!("Item '{}' of type 'web_search_call'", search["id"].as_str().unwrap()));
}

#[tokio::test]
async fn items_without_content_refer_to_what_is_stored() {
    let provider = ResponsesProvider::new();
    let history = first_step(&provider, json!({})).await;
    let id = history[1]["id"].as_str().unwrap().to_owned();
    let expected = format!(
        "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item from your input."
    );
    let mut by_id = history.clone();
    by_id[1] = json!({"type": "reasoning", "id": id, "summary": []});
    let mut referred = history.clone();
    referred[1] = json!({"type": "item_reference", "id": id});
    let mut both = referred.clone();
    both[2] = json!({"id": history[2]["id"]});
    let not_found = |answer: Answer| {
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["error"]["message"], expected);
        assert_eq!(
            (&answer.json()["error"]["param"], &answer.json()["error"]["code"]),
            (&json!("input"), &Value::Null)
        );
    };
    for input in [&by_id, &referred, &both] {
        accepted(&ask(&provider, input).await);
        not_found(ask_stateless(&provider, input).await);
    }
    // References pair like the items themselves.
    let alone: Vec<Value> = both.iter().filter(|item| item["id"] != id.as_str()).cloned().collect();
    assert_eq!(alone.len(), 3);
    assert!(ask(&provider, &alone).await.text().contains("without its required 'reasoning' item"));
    provider.forget_responses();
    not_found(ask(&provider, &by_id).await);
    accepted(&ask(&provider, &history).await);
    // What was never stored is not there either.
    let stateless = first_step(&provider, json!({"store": false})).await;
    let id = stateless[1]["id"].clone();
    let answer = ask(&provider, &[user("Hello"), json!({"type": "item_reference", "id": id})]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let nothing = ResponsesProvider::builder().stores(false).build();
    let history = first_step(&nothing, json!({})).await;
    let answer = ask(&nothing, &[user("Hello"), json!({"type": "item_reference", "id": history[1]["id"]})]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn no_item_comes_twice() {
    let provider = ResponsesProvider::new();
    let history = first_step(&provider, json!({})).await;
    let id = history[1]["id"].as_str().unwrap();
    let expected = format!("Duplicate item found with id {id}. Remove duplicate items from your input and try again.");
    let mut twice = history.clone();
    twice.insert(1, history[1].clone());
    refused(&ask(&provider, &twice).await, &expected);
    // Without ids, the other ciphertexts of the item give it away.
    refused(&ask(&provider, &without(&twice, "id")).await, &expected);
    twice[1].as_object_mut().unwrap().remove("id");
    refused(&ask(&provider, &twice).await, &expected);
    twice = history.clone();
    twice.insert(1, json!({"type": "item_reference", "id": id}));
    refused(&ask(&provider, &twice).await, &expected);
    let call = history[2]["id"].as_str().unwrap();
    twice = without(&history, "id");
    twice.insert(2, twice[2].clone());
    refused(&ask(&provider, &twice).await, &format!("Duplicate item found with id {call}."));
    // Ids of the client's own making count as well.
    let own = with(&json!({"type": "message", "role": "user", "content": "x"}), "id", json!("msg_1"));
    refused(&ask(&provider, &[own.clone(), own]).await, "Duplicate item found with id msg_1.");
}

#[tokio::test]
async fn calls_and_outputs_pair() {
    let provider =
        says([Say::calls([("a", json!({})), ("b", json!({}))]), Say::custom_tool_call("patch", "+x")]).build();
    let question = user("Go");
    let items = ask(&provider, std::slice::from_ref(&question)).await.output();
    let back = outputs(&items);
    let history = [vec![question.clone()], items.clone(), back.clone()].concat();
    accepted(&ask(&provider, &history).await);
    let id = |at: usize| items[at]["call_id"].as_str().unwrap();
    let lacking = |at: usize| {
        history.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, item)| item.clone()).collect::<Vec<_>>()
    };
    for (at, message) in [
        (1, format!("No tool call found for function call output with call_id {}.", id(0))),
        (3, format!("No tool call found for custom tool call output with call_id {}.", id(2))),
        (4, format!("No tool output found for function call {}.", id(0))),
        (5, format!("No tool output found for function call {}.", id(1))),
        (6, format!("No tool output found for custom tool call {}.", id(2))),
    ] {
        refused(&ask(&provider, &lacking(at)).await, &message);
        refused(&ask(&provider, &without(&lacking(at), "id")).await, &message);
    }
    let mut turned = history.clone();
    turned.swap(1, 4);
    refused(&ask(&provider, &turned).await, "No tool call found for function call output");
    // Calls of the client's own making pair as well.
    let call = json!({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"});
    let output =
        json!({"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "x"}]});
    accepted(&ask(&provider, &[question.clone(), call.clone(), output.clone()]).await);
    refused(
        &ask(&provider, &[question.clone(), output]).await,
        "No tool call found for function call output with call_id call_1.",
    );
    refused(&ask(&provider, &[question, call]).await, "No tool output found for function call call_1.");
}

#[tokio::test]
async fn a_previous_response_brings_its_items() {
    let provider = ResponsesProvider::new();
    let question = user("How is the weather?");
    let first = ask(&provider, std::slice::from_ref(&question)).await.json();
    let items = first["output"].as_array().unwrap().clone();
    let back = outputs(&items);
    let go_on = |id: &Value, input: &[Value]| {
        let body = body(input, &json!({"previous_response_id": id}));
        let provider = provider.clone();
        async move { post(&provider, PATH, &body).await }
    };
    let unknown = go_on(&json!("resp_1"), &back).await;
    let expected = "Previous response with id 'resp_1' not found.";
    refused_as(&unknown, expected, json!("previous_response_id"), json!("previous_response_not_found"));
    let second = go_on(&first["id"], &back).await;
    accepted(&second);
    // The script went on, too.
    let second = second.json();
    assert_eq!(second["output"].as_array().unwrap().len(), 3);
    assert_eq!(second["previous_response_id"], first["id"]);
    // What the server has must not come again.
    let duplicate = |item: &Value| format!("Duplicate item found with id {}.", item["id"].as_str().unwrap());
    let again = [items.clone(), back.clone()].concat();
    refused(&go_on(&first["id"], &again).await, &duplicate(&items[0]));
    refused(&go_on(&first["id"], &without(&again, "id")).await, &duplicate(&items[0]));
    refused(&go_on(&first["id"], &without(&again[1..], "id")).await, &duplicate(&items[1]));
    // Its calls want their outputs, and only those.
    let call_id = items[1]["call_id"].as_str().unwrap();
    refused(
        &go_on(&first["id"], &[user("Well?")]).await,
        &format!("No tool output found for function call {call_id}."),
    );
    let more = outputs(second["output"].as_array().unwrap());
    accepted(&go_on(&second["id"], &more).await);
    refused(&go_on(&first["id"], &more).await, "No tool call found for function call output");
    // A history that came in full is known afterwards, too.
    let full = [vec![question], items.clone(), back].concat();
    let third = ask(&provider, &full).await.json();
    let calls = outputs(third["output"].as_array().unwrap());
    accepted(&go_on(&third["id"], &calls).await);
    refused(&go_on(&third["id"], &[items[..1].to_vec(), calls].concat()).await, &duplicate(&items[0]));
    // Responses of others, and those that were not stored, are unknown.
    let stateless = ask_stateless(&provider, &[user("Hello")]).await.json();
    assert!(go_on(&stateless["id"], &[user("Hello")]).await.text().contains("previous_response_not_found"));
    let body = Bytes::from(body(&[user("Hello")], &json!({"previous_response_id": first["id"]})).to_string());
    let foreign = Request::post(PATH).header("authorization", "Bearer b").body(Full::new(body)).unwrap();
    assert!(send(&provider, foreign).await.text().contains("previous_response_not_found"));
}

#[tokio::test]
async fn a_conversation_brings_its_items() {
    let provider = ResponsesProvider::new();
    let within = |input: &[Value], conversation: Value| {
        let body = body(input, &json!({ "conversation": conversation }));
        let provider = provider.clone();
        async move { post(&provider, PATH, &body).await }
    };
    let items = within(&[user("How is the weather?")], json!("conv_1")).await.output();
    let back = outputs(&items);
    let again = within(&[items.clone(), back.clone()].concat(), json!("conv_1")).await;
    refused(&again, "Duplicate item found with id rs_");
    let answer = within(&back, json!({"id": "conv_1"})).await;
    accepted(&answer);
    assert_eq!(answer.output().len(), 3);
    let mut both = body(&[user("Hello")], &json!({"conversation": "conv_1"}));
    both["previous_response_id"] = json!("resp_1");
    let answer = post(&provider, PATH, &both).await;
    refused_as(&answer, "Mutually exclusive parameters", Value::Null, json!("mutually_exclusive_parameters"));
}

#[tokio::test]
async fn reasoning_in_the_clear_is_demanded_back_before_each_call() {
    let provider = ResponsesProvider::builder().vendor(Vendor::DeepSeek).build();
    let question = user("How is the weather?");
    let items = ask(&provider, std::slice::from_ref(&question)).await.output();
    assert!(items[0].get("encrypted_content").is_none());
    assert_eq!(items[0]["content"][0]["type"], "reasoning_text");
    assert_eq!(provider.issued().len(), 0);
    let back = outputs(&items);
    let history = [vec![question.clone()], items.clone(), back.clone()].concat();
    let second = ask(&provider, &history).await;
    accepted(&second);
    accepted(&ask(&provider, &without(&history, "id")).await);
    assert_eq!(provider.requests()[1].genuine, 1);
    let expected = "The `reasoning_text` in the thinking mode must be passed back to the API.";
    let lost = [question.clone(), items[1].clone(), back[0].clone()];
    refused_as(&ask(&provider, &lost).await, expected, Value::Null, Value::Null);
    refused_as(&ask(&provider, &without(&lost, "id")).await, expected, Value::Null, Value::Null);
    let mut edited = history.clone();
    edited[1]["content"][0]["text"] = json!("Shortened.");
    refused_as(&ask(&provider, &edited).await, expected, Value::Null, Value::Null);
    let mut emptied = history.clone();
    emptied[1]["content"] = json!([]);
    refused_as(&ask(&provider, &emptied).await, expected, Value::Null, Value::Null);
    // Every call, not only those of the current turn.
    let more = second.output();
    let later = [history.clone(), more.clone(), outputs(&more)].concat();
    accepted(&ask(&provider, &later).await);
    let mut lost = later.clone();
    lost.remove(1);
    refused_as(&ask(&provider, &lost).await, expected, Value::Null, Value::Null);
    // Calls that came from elsewhere need some reasoning too.
    let call = json!({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "call_1", "output": "x"});
    let foreign = [question.clone(), call.clone(), output.clone()];
    refused_as(&ask(&provider, &foreign).await, expected, Value::Null, Value::Null);
    let text = json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]});
    accepted(&ask(&provider, &[question, text, call, output]).await);
}

#[tokio::test]
async fn equal_reasoning_in_the_clear_belongs_to_its_own_call() {
    let provider = script([
        Turn::new([Say::reasoning_text("Hm."), Say::call("a", json!({}))]),
        Turn::new([Say::reasoning_text("Hm."), Say::call("b", json!({}))]),
        Turn::new([Say::text("Done.")]),
    ])
    .require_reasoning_text(true)
    .build();
    let mut history = vec![user("Go")];
    for _ in 0..2 {
        let items = ask(&provider, &history).await.output();
        let back = outputs(&items);
        history.extend(items);
        history.extend(back);
    }
    accepted(&ask(&provider, &history).await);
    accepted(&ask(&provider, &without(&history, "id")).await);
    assert_eq!(provider.requests()[3].genuine, 2);
}

#[tokio::test]
async fn equal_calls_with_equal_reasoning_in_the_clear_are_told_apart() {
    let equal = || Turn::new([Say::reasoning_text("Hm."), Say::text("Once more."), Say::call("a", json!({}))]);
    let provider = script([equal(), equal(), equal()]).require_reasoning_text(true).bind_call_ids(false).build();
    let mut history = vec![user("Go")];
    for _ in 0..2 {
        let items = ask(&provider, &history).await.output();
        let back = outputs(&items);
        history.extend(items);
        history.extend(back);
    }
    accepted(&ask(&provider, &without(&history, "id")).await);
    // The second turn alone.
    let later = [&history[..1], &history[5..]].concat();
    accepted(&ask(&provider, &without(&later, "id")).await);
    // Under call ids of the client's own.
    let renamed = |history: &[Value]| -> Vec<Value> {
        let mut history = without(history, "id");
        let paired = history.iter_mut().filter(|item| item.get("call_id").is_some());
        for (number, item) in paired.enumerate() {
            item["call_id"] = json!(format!("call_{}", number / 2));
        }
        history
    };
    accepted(&ask(&provider, &renamed(&history)).await);
    let other = script([
        Turn::new([Say::reasoning_text("Hm."), Say::call("a", json!({}))]),
        Turn::new([Say::reasoning_text("Hm."), Say::call("b", json!({}))]),
    ])
    .bind_call_ids(false)
    .build();
    let history = first_step(&other, json!({})).await;
    let items = ask(&other, &history).await.output();
    let later = [vec![user("Go")], items.clone(), outputs(&items)].concat();
    accepted(&ask(&other, &without(&later, "id")).await);
    accepted(&ask(&other, &renamed(&later)).await);
}

#[tokio::test]
async fn nothing_foreign_stands_between_reasoning_and_what_it_was_given_for() {
    let provider = ResponsesProvider::builder().vendor(Vendor::OpenRouter).build();
    let mut history = first_step(&provider, json!({})).await;
    let own = json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Mine."}]});
    history.insert(2, own.clone());
    let expected = "was provided without its required following item.";
    assert!(ask(&provider, &history).await.text().contains(expected));
    history.remove(2);
    history.insert(1, own);
    accepted(&ask(&provider, &history).await);
}

#[tokio::test]
async fn items_of_another_resource_are_refused_by_azure() {
    let provider = ResponsesProvider::builder().vendor(Vendor::Azure).build();
    let history = first_step(&provider, json!({})).await;
    accepted(&ask(&provider, &history).await);
    let lone = [history[0].clone(), history[2].clone(), history[3].clone()];
    let body = Bytes::from(body(&lone, &json!({"store": false})).to_string());
    let request = Request::post("/openai/responses?api-version=2025-04-01-preview").header("api-key", "b");
    let answer = send(&provider, request.body(Full::new(body)).unwrap()).await;
    refused(&answer, "Item with id 'fc_");
    assert!(answer.text().contains("different Azure OpenAI resource"));
}

#[tokio::test]
async fn any_id_that_copilot_gave_is_taken_back() {
    let provider = ResponsesProvider::builder().vendor(Vendor::Copilot).build();
    let question = user("How is the weather?");
    let answer = ask_with(&provider, std::slice::from_ref(&question), json!({"stream": true})).await;
    let done = answer.output();
    let completed = answer.of_type("response.completed")[0]["response"]["output"].as_array().unwrap().clone();
    assert_ne!(done[0]["id"], completed[0]["id"]);
    let back = outputs(&done);
    for (reasoning, call) in [(&done[0], &done[1]), (&completed[0], &completed[1]), (&done[0], &completed[1])] {
        accepted(&ask(&provider, &[question.clone(), reasoning.clone(), call.clone(), back[0].clone()]).await);
    }
    let mixed = with(&done[0], "id", done[1]["id"].clone());
    let answer = ask(&provider, &[question.clone(), mixed, completed[1].clone(), back[0].clone()]).await;
    refused_as(&answer, "The encrypted content for item ", Value::Null, json!(CIPHER));
    let twice = [question, done[0].clone(), completed[0].clone(), done[1].clone(), back[0].clone()];
    refused(&ask(&provider, &twice).await, "Duplicate item found with id ");
}

#[tokio::test]
async fn the_input_is_checked_for_every_method() {
    let provider = ResponsesProvider::new();
    let mut history = first_step(&provider, json!({})).await;
    let issued = provider.issued().len();
    let count = post(&provider, "/v1/responses/input_tokens", &body(&history, &json!({}))).await;
    accepted(&count);
    assert_eq!(count.json()["object"], "response.input_tokens");
    assert!(count.json()["input_tokens"].as_u64().unwrap() > 0);
    assert_eq!(provider.issued().len(), issued);
    history.remove(1);
    for path in ["/v1/responses/input_tokens", "/v1/responses/compact"] {
        refused(&post(&provider, path, &body(&history, &json!({"stream": true}))).await, "Item 'fc_");
    }
}

#[tokio::test]
async fn compactions_come_back_as_they_were() {
    let provider = ResponsesProvider::new();
    let history = first_step(&provider, json!({})).await;
    let answer = post(&provider, "/v1/responses/compact", &body(&history, &json!({}))).await;
    accepted(&answer);
    assert_eq!(answer.json()["object"], "response.compaction");
    let output = answer.output();
    assert_eq!(output[0]["content"], json!([{"type": "input_text", "text": "How is the weather?"}]));
    assert_eq!(provider.issued().last().unwrap().kind, IssuedKind::Compaction);
    let mut input = output.clone();
    input.push(user("And now?"));
    accepted(&ask(&provider, &input).await);
    accepted(&ask(&provider, &without(&input, "id")).await);
    let mut twice = input.clone();
    twice.insert(2, output[1].clone());
    refused(&ask(&provider, &twice).await, "Duplicate item found with id cmp_");
    // A ciphertext is valid only in its own type of item.
    let mut changed = input.clone();
    changed[1]["encrypted_content"] = history[1]["encrypted_content"].clone();
    refused_as(&ask(&provider, &changed).await, "The encrypted content for item cmp_", Value::Null, json!(CIPHER));

    let inline = says([Say::compaction(), Say::hidden_reasoning(), Say::text("Go on.")]).build();
    let items = ask_with(&inline, &[user("Long story")], json!({"stream": true})).await.output();
    assert_eq!(items[0]["type"], "compaction");
    accepted(&ask(&inline, &[items, vec![user("And?")]].concat()).await);
}
