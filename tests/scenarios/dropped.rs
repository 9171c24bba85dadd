//! Calls that the client dropped while it kept their output.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    Fallback, MemoryStore, ReplayLayer,
    engine::Event,
    testing::gemini::{Say, Sentinels, Turn},
};

use super::client::*;

fn three() -> Turn {
    calls([("a", json!({"x": 1})), ("b", json!({"x": 2})), ("c", json!({"x": 3}))])
}

async fn begin(client: &Client, turn: Turn) -> (Gateway, Answer) {
    let gateway = Gateway::new(&strict([turn, text("Done.")]).sentinels(Sentinels::none()).build());
    let first = gateway.ask(client, &[user("Go")]).await;
    (gateway, first)
}

/// The outputs of these calls of an answer.
fn back(answer: &Answer, which: &[usize]) -> Vec<Value> {
    let parts: Vec<Value> = answer.kept()["parts"].as_array().unwrap().clone();
    let calls: Vec<Value> = parts.into_iter().filter(|part| part.get("functionCall").is_some()).collect();
    which.iter().map(|at| output(&calls[*at], json!({"ok": at}))).collect()
}

fn says(parts: impl IntoIterator<Item = Value>) -> Value {
    json!({"role": "user", "parts": Value::Array(parts.into_iter().collect())})
}

/// What the provider must have seen: the call with its own id, name, arguments and signature.
#[track_caller]
fn is_call(sent: &Value, first: &Answer, at: usize) {
    let whole = first.whole();
    let calls: Vec<&Value> =
        whole["parts"].as_array().unwrap().iter().filter(|part| part.get("functionCall").is_some()).collect();
    assert_eq!(sent, calls[at]);
}

#[tokio::test]
async fn a_dropped_call_comes_back_right_before_its_output_g1() {
    for base in [API, CLOUD] {
        for how in WAYS {
            let client = Client::new(base, how);
            let (gateway, first) = begin(&client, call("ls", json!({"path": "/"}))).await;
            let second = gateway.ask(&client, &[user("Go"), says(back(&first, &[0]))]).await;
            let sent = second.upstream();
            assert_eq!((sent.len(), &sent[1]["role"]), (3, &json!("model")));
            is_call(&sent[1]["parts"][0], &first, 0);
            assert_eq!(sent[2], says(back(&first, &[0])));
            assert_eq!((second.summary().restored, second.summary().calls_restored), (1, 1));
            assert_eq!((gateway.count(Event::Restored), gateway.count(Event::CallRestored)), (1, 1));
            gateway.took(1);
        }
    }
}

#[tokio::test]
async fn dropped_siblings_return_together_and_in_their_order_g10() {
    let client = Client::new(API, How::Sse);
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        for apart in [false, true] {
            let (gateway, first) = begin(&client, three()).await;
            let outputs = back(&first, &order);
            let mut history = vec![user("Go")];
            match apart {
                true => history.extend(outputs.into_iter().map(|output| says(vec![output]))),
                false => history.push(says(outputs)),
            }
            let second = gateway.ask(&client, &history).await;
            let sent = second.upstream();
            assert_eq!(sent.len(), history.len() + 1, "one content is added, {order:?}");
            (0..3).for_each(|at| is_call(&sent[1]["parts"][at], &first, at));
            assert_eq!(&sent[2..], &history[1..]);
            gateway.took(1);
        }
    }
}

#[tokio::test]
async fn a_dropped_call_joins_the_siblings_that_were_kept_g10() {
    let client = Client::new(API, How::Sse);
    for dropped in [vec![0], vec![1], vec![2], vec![0, 1], vec![1, 2], vec![0, 2]] {
        let (gateway, first) = begin(&client, three()).await;
        let mut kept = first.kept();
        let mut at = 0;
        kept["parts"].as_array_mut().unwrap().retain(|_| {
            at += 1;
            !dropped.contains(&(at - 1))
        });
        let second = gateway.ask(&client, &[user("Go"), kept, says(back(&first, &[0, 1, 2]))]).await;
        let sent = second.upstream();
        assert_eq!(sent.len(), 3, "{dropped:?}");
        (0..3).for_each(|at| is_call(&sent[1]["parts"][at], &first, at));
        gateway.took(1);
    }
}

#[tokio::test]
async fn a_dropped_call_joins_the_text_before_it_g10() {
    let client = Client::new(API, How::Sse);
    let (gateway, first) = begin(&client, Turn::new([Say::text("I look."), Say::call("ls", json!({}))])).await;
    let history = [user("Go"), model(vec![json!({"text": "I look."})]), says(back(&first, &[0]))];
    let second = gateway.ask(&client, &history).await;
    let sent = second.upstream();
    let parts: Vec<Value> = sent
        .iter()
        .filter(|content| content["role"] == "model")
        .flat_map(|content| content["parts"].as_array().unwrap().clone())
        .collect();
    assert_eq!(parts[0], json!({"text": "I look."}));
    is_call(&parts[1], &first, 0);
    gateway.took(1);
}

#[tokio::test]
async fn one_output_of_two_brings_back_its_own_call_only_g10() {
    let client = Client::new(API, How::Sse);
    let (gateway, first) = begin(&client, calls([("a", json!({})), ("b", json!({}))])).await;
    let second = gateway.ask(&client, &[user("Go"), says(back(&first, &[0]))]).await;
    let sent = second.upstream();
    assert_eq!(sent[1]["parts"].as_array().unwrap().len(), 1);
    is_call(&sent[1]["parts"][0], &first, 0);
    gateway.took(1);
}

#[tokio::test]
async fn without_ids_the_one_unanswered_call_of_the_name_comes_back_g13() {
    for base in [VERTEX, API] {
        let client = Client::new(base, How::Sse);
        let gateway = Gateway::new(&strict([call("ls", json!({"path": "/"})), text("Done.")]).ids(false).build());
        let first = gateway.ask(&client, &[user("Go")]).await;
        let second = gateway.ask(&client, &[user("Go"), says(back(&first, &[0]))]).await;
        is_call(&second.upstream()[1]["parts"][0], &first, 0);
        gateway.took(1);
    }
    // Two calls of that name: nothing tells which one it is.
    let client = Client::new(VERTEX, How::Sse);
    let (gateway, first) = begin(&client, calls([("ls", json!({"path": "/"})), ("ls", json!({"path": "/etc"}))])).await;
    let second = gateway.ask(&client, &[user("Go"), says(back(&first, &[0]))]).await;
    assert_eq!(second.upstream().len(), 2);
    // Two names: both come back, in their order.
    let (gateway, first) = begin(&client, calls([("a", json!({})), ("b", json!({}))])).await;
    let second = gateway.ask(&client, &[user("Go"), says(back(&first, &[1, 0]))]).await;
    is_call(&second.upstream()[1]["parts"][0], &first, 0);
    is_call(&second.upstream()[1]["parts"][1], &first, 1);
    gateway.took(1);
}

#[tokio::test]
async fn a_placeholder_name_is_no_name_g13() {
    for name in ["unknown", "unknown_function", "tool", ""] {
        let client = Client::new(API, How::Sse);
        let (gateway, first) = begin(&client, call("ls", json!({}))).await;
        let mut output = back(&first, &[0]).remove(0);
        output["functionResponse"]["name"] = json!(name);
        let second = gateway.ask(&client, &[user("Go"), says(vec![output])]).await;
        is_call(&second.upstream()[1]["parts"][0], &first, 0);
    }
}

#[tokio::test]
async fn what_is_not_proven_inserts_nothing_g13() {
    let client = Client::new(API, How::Sse);
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 4] = [
        ("another id", |output| output["id"] = json!("zzzzzzzz")),
        ("another name", |output| output["name"] = json!("rm")),
        ("no id, another name", |output| {
            output.as_object_mut().unwrap().remove("id");
            output["name"] = json!("rm");
        }),
        ("no id, no name", |output| {
            output.as_object_mut().unwrap().remove("id");
            output["name"] = json!("unknown");
        }),
    ];
    for (what, change) in changes {
        let (gateway, first) = begin(&client, call("ls", json!({}))).await;
        let mut output = back(&first, &[0]).remove(0);
        change(&mut output["functionResponse"]);
        let history = [user("Go"), says(vec![output])];
        let second = gateway.ask(&client, &history).await;
        assert_eq!(second.sent, [client.body(&history).to_string().as_bytes()], "{what}");
        assert!(!second.status.is_success(), "the provider's refusal goes to the client");
    }
}

#[tokio::test]
async fn an_id_that_is_held_twice_inserts_nothing_g15() {
    let client = Client::new(API, How::Whole);
    let gateway = Gateway::says([]);
    let answer = |city: &str| {
        json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"functionCall": {"name": "get", "args": {"city": city}, "id": "qwertz12"}, "thoughtSignature": format!("signature+of+{city}+")},
        ]}}]})
    };
    for (city, question) in [("Paris", "One"), ("Tokyo", "Two")] {
        gateway.answer_next(Canned::json(&answer(city)));
        gateway.ask(&client, &[user(question)]).await;
    }
    gateway.answer_next(Canned::json(&json!({})));
    let output = json!({"functionResponse": {"name": "get", "response": {}, "id": "qwertz12"}});
    let history = [user("Two"), says(vec![output])];
    let sent = gateway.ask(&client, &history).await.upstream();
    assert_eq!(sent, history);
}

#[tokio::test]
async fn a_turn_of_which_nothing_was_kept_is_not_put_back_g28() {
    let client = Client::new(API, How::Sse);
    let (gateway, _) = begin(&client, three()).await;
    let history = [user("Go"), user("Never mind.")];
    let second = gateway.ask(&client, &history).await;
    assert_eq!(second.sent, [client.body(&history).to_string().as_bytes()]);
}

#[tokio::test]
async fn dropped_calls_of_several_turns_come_back_each_in_its_place_g1() {
    let client = Client::new(API, How::Sse);
    let turns = [
        call("a", json!({"x": 1})),
        calls([("b", json!({})), ("c", json!({}))]),
        call("a", json!({"x": 1})),
        text("Done."),
    ];
    let gateway = Gateway::new(&strict(turns).sentinels(Sentinels::none()).build());
    let mut history = vec![user("Go")];
    let mut answers = Vec::new();
    for count in [1, 2, 1] {
        let answer = gateway.ask(&client, &history).await;
        history.push(says(back(&answer, &[0, 1][..count])));
        answers.push(answer);
    }
    let last = gateway.ask(&client, &history).await;
    let sent = last.upstream();
    let roles: Vec<&str> = sent.iter().map(|content| content["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "model", "user", "model", "user", "model", "user"]);
    for (at, answer) in answers.iter().enumerate() {
        is_call(&sent[2 * at + 1]["parts"][0], answer, 0);
    }
    gateway.took(3);
}

#[tokio::test]
async fn a_call_without_a_signature_comes_back_without_one_g27() {
    // The client dropped the second of two parallel calls, which never had a signature.
    let client = Client::new(API, How::Sse);
    let (gateway, first) = begin(&client, calls([("a", json!({})), ("b", json!({}))])).await;
    let kept = model(vec![first.kept()["parts"][0].clone()]);
    let second = gateway.ask(&client, &[user("Go"), kept, says(back(&first, &[0, 1]))]).await;
    is_call(&second.upstream()[1]["parts"][1], &first, 1);
    gateway.took(1);
}

#[tokio::test]
async fn dropped_calls_of_claude_come_back_behind_their_thinking_g26() {
    let client = Client::claude(How::Sse);
    let gateway =
        Gateway::says([Turn::new([Say::thought("I think."), Say::call("ls", json!({"p": 1}))]), text("Done.")]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let second = gateway.ask(&client, &[user("Go"), says(back(&first, &[0]))]).await;
    let sent = second.upstream();
    assert_eq!(sent[1]["parts"][0]["thought"], json!(true));
    is_call(&sent[1]["parts"][1], &first, 0);
    gateway.took(1);
}

#[tokio::test]
async fn a_call_joins_siblings_whose_outputs_stand_in_contents_of_their_own_g10() {
    for client in [Client::new(API, How::Sse), Client::new(CLOUD, How::Whole)] {
        for (kept, order) in [(0, [0, 1, 2]), (1, [0, 1, 2]), (2, [0, 1, 2]), (0, [2, 0, 1]), (1, [1, 2, 0])] {
            let (gateway, first) = begin(&client, three()).await;
            let mut history = vec![user("Go"), model([first.kept()["parts"][kept].clone()])];
            history.extend(back(&first, &order).into_iter().map(|output| says([output])));
            let second = gateway.ask(&client, &history).await;
            let sent = second.upstream();
            assert_eq!(sent.len(), history.len(), "{kept} {order:?}");
            (0..3).for_each(|at| is_call(&sent[1]["parts"][at], &first, at));
            assert_eq!(&sent[2..], &history[2..]);
            gateway.took(1);
        }
    }
}

#[tokio::test]
async fn a_dropped_call_of_claude_joins_its_sibling_behind_the_thinking_g26() {
    let client = Client::claude(How::Sse);
    for kept in [0, 1] {
        let turn = Turn::new([Say::thought("I think."), Say::calls([("a", json!({"x": 1})), ("b", json!({"x": 2}))])]);
        let gateway = Gateway::says([turn, text("Done.")]);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let content = model([first.kept()["parts"][kept].clone()]);
        let second = gateway.ask(&client, &[user("Go"), content, says(back(&first, &[0, 1]))]).await;
        let sent = second.upstream();
        assert_eq!(sent[1]["parts"].as_array().unwrap().len(), 3, "{kept}");
        assert_eq!(sent[1]["parts"][0]["text"], "I think.");
        is_call(&sent[1]["parts"][1], &first, 0);
        is_call(&sent[1]["parts"][2], &first, 1);
        gateway.took(1);
    }
}

#[tokio::test]
async fn without_ids_a_dropped_call_joins_the_siblings_that_were_kept_g13() {
    let client = Client::new(VERTEX, How::Sse);
    for apart in [false, true] {
        for kept in 0..3 {
            let (gateway, first) = begin(&client, three()).await;
            let mut history = vec![user("Go"), model([first.kept()["parts"][kept].clone()])];
            let outputs = back(&first, &[0, 1, 2]);
            match apart {
                true => history.extend(outputs.into_iter().map(|output| says([output]))),
                false => history.push(says(outputs)),
            }
            let second = gateway.ask(&client, &history).await;
            let sent = second.upstream();
            assert_eq!(sent.len(), history.len(), "{kept} {apart}");
            (0..3).for_each(|at| is_call(&sent[1]["parts"][at], &first, at));
            gateway.took(1);
        }
    }
}

#[tokio::test]
async fn without_ids_the_call_of_a_later_turn_comes_back_where_it_stood_g13() {
    let client = Client::new(VERTEX, How::Sse);
    let gateway = Gateway::says([call("ls", json!({"path": "/"})), call("ls", json!({"path": "/"})), text("Done.")]);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let mut history = vec![user("Go"), first.kept(), says(back(&first, &[0]))];
    let second = gateway.ask(&client, &history).await;
    history.push(says(back(&second, &[0])));
    let third = gateway.ask(&client, &history).await;
    let sent = third.upstream();
    is_call(&sent[1]["parts"][0], &first, 0);
    is_call(&sent[3]["parts"][0], &second, 0);
    gateway.took(2);
}

/// The second of two parallel calls never had a signature, so alone it needs a stand-in.
#[tokio::test]
async fn a_sibling_that_comes_back_alone_gets_a_sentinel_g9() {
    type Keeps = fn(&Answer) -> Vec<Value>;
    let keeps: [(&str, &[usize], Keeps); 3] = [
        ("nothing", &[1], |_| Vec::new()),
        ("the text", &[1], |first| vec![model([first.kept()["parts"][0].clone()])]),
        ("the last call", &[1, 2], |first| vec![model([first.kept()["parts"][3].clone()])]),
    ];
    for base in FACES {
        for fallback in [Fallback::OnRejection, Fallback::Always] {
            for (what, which, keeps) in keeps {
                let client = Client::new(base, How::Sse);
                let said = [Say::text("I look."), Say::calls([("a", json!({})), ("b", json!({})), ("c", json!({}))])];
                let provider = strict([Turn::new(said), text("Done."), text("Well.")]).build();
                let layer = ReplayLayer::builder(MemoryStore::new()).fallback(fallback).build_layer().unwrap();
                let gateway = Gateway::with(&provider, layer);
                let first = gateway.ask(&client, &[user("Go")]).await;
                let mut history = vec![user("Go")];
                history.extend(keeps(&first));
                history.push(says(back(&first, which)));
                let second = gateway.ask(&client, &history).await;
                assert_eq!(second.status.as_u16(), 200, "{base} {what}");
                assert_eq!(second.sent.len(), if fallback == Fallback::Always { 1 } else { 2 }, "{base} {what}");
                let sent = contents(second.sent.last().unwrap());
                let parts = sent[1]["parts"].as_array().unwrap();
                let call = parts.iter().find(|part| part.get("functionCall").is_some()).unwrap();
                assert_eq!(call["functionCall"]["name"], "b");
                assert_eq!(call["thoughtSignature"], "skip_thought_signature_validator", "{what}");
                assert_eq!(
                    sent.iter()
                        .flat_map(|content| content["parts"].as_array().unwrap())
                        .filter(|part| part["thoughtSignature"] == "skip_thought_signature_validator")
                        .count(),
                    1
                );
                assert_eq!(second.summary().sentinels, 1);
                // What was learned of the provider saves the next request the detour.
                let third = gateway.ask(&client, &history).await;
                assert_eq!((third.sent.len(), third.sent.last()), (1, second.sent.last()));
                // With the first call back, its signature is enough.
                let mut whole = history.clone();
                let last = whole.len() - 1;
                let mut outputs = back(&first, &[0]);
                outputs.extend(back(&first, which));
                whole[last] = says(outputs);
                let fourth = gateway.ask(&client, &whole).await;
                assert_eq!((fourth.status.as_u16(), fourth.summary().sentinels, fourth.sent.len()), (200, 0, 1));
                is_call(
                    fourth.upstream()[1]["parts"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .find(|part| part.get("functionCall").is_some())
                        .unwrap(),
                    &first,
                    0,
                );
            }
        }
    }
}

/// In a turn that is over nobody asks for it.
#[tokio::test]
async fn a_lone_sibling_of_an_older_turn_stays_as_it_was_g9() {
    let client = Client::new(API, How::Sse);
    let provider = strict([calls([("a", json!({})), ("b", json!({}))]), text("Done."), text("Well.")]).build();
    let layer = ReplayLayer::builder(MemoryStore::new()).fallback(Fallback::Always).build_layer().unwrap();
    let gateway = Gateway::with(&provider, layer);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let history = [user("Go"), says(back(&first, &[1])), model([json!({"text": "Done."})]), user("And?")];
    let last = gateway.ask(&client, &history).await;
    is_call(&last.upstream()[1]["parts"][0], &first, 1);
    assert_eq!(last.summary().sentinels, 0);
}

/// Outputs of several turns in one content: what precedes each says which call it answers.
#[tokio::test]
async fn without_ids_the_calls_of_merged_outputs_come_back_each_in_a_content_g13() {
    for base in [VERTEX, API] {
        for session in [Some("s"), None] {
            let turns = || {
                [
                    vec![
                        calls([("ls", json!({"path": "/"})), ("cat", json!({"path": "/x"}))]),
                        call("ls", json!({"path": "/"})),
                        call("ls", json!({"path": "/etc"})),
                    ],
                    vec![call("ls", json!({"path": "/"})), call("cat", json!({})), call("ls", json!({"path": "/"}))],
                    vec![call("a", json!({})), calls([("b", json!({})), ("c", json!({}))]), call("d", json!({}))],
                ]
            };
            for turns in turns() {
                let client = Client::new(base, How::Sse).session(session);
                let gateway = Gateway::new(&strict(turns).ids(false).build());
                let (mut apart, mut merged, mut answers) = (vec![user("Go")], Vec::new(), Vec::new());
                for _ in 0..3 {
                    let answer = gateway.ask(&client, &apart).await;
                    let which: Vec<usize> = (0..answer.kept()["parts"].as_array().unwrap().len()).collect();
                    let outputs = back(&answer, &which);
                    merged.extend(outputs.clone());
                    apart.push(says(outputs));
                    answers.push(answer);
                }
                let last = gateway.ask(&client, &[user("Go"), says(merged.clone())]).await;
                let sent = last.upstream();
                assert_eq!((last.status.as_u16(), sent.len()), (200, 5), "{sent:#?}");
                for (at, answer) in answers.iter().enumerate() {
                    let whole = answer.whole();
                    let calls: Vec<&Value> = whole["parts"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .filter(|part| part.get("functionCall").is_some())
                        .collect();
                    assert_eq!(sent[at + 1]["parts"].as_array().unwrap().iter().collect::<Vec<_>>(), calls);
                }
                assert_eq!(sent[4], says(merged.clone()));
                // Asked again, the same goes upstream.
                let again = gateway.ask(&client, &[user("Go"), says(merged)]).await;
                assert_eq!(again.sent[0], last.sent[0]);
            }
        }
    }
}

/// Where one part, or one message, stands for many there is no room for another.
#[tokio::test]
async fn nothing_is_inserted_beside_what_is_no_element_of_an_array_g19() {
    let client = Client::new(API, How::Sse);
    let lone = |content: &Value| json!({"role": content["role"], "parts": content["parts"][0]});
    let (gateway, first) = begin(&client, calls([("a", json!({})), ("b", json!({}))])).await;
    let outputs = says(back(&first, &[0, 1]));
    // The first call stands alone, and is signed; the second one has no place beside it.
    let kept = lone(&model([first.kept()["parts"][0].clone()]));
    let second = gateway.ask(&client, &[user("Go"), kept, outputs]).await;
    is_call(&second.upstream()[1]["parts"], &first, 0);
    assert_eq!(second.upstream().len(), 3);
    // A message that is all there is.
    let body = json!({"contents": lone(&says(back(&first, &[0])))}).to_string();
    let third = gateway.ask_raw(&client, body.clone()).await;
    assert_eq!(third.sent[0], body);
    // An output that stands alone in its message is an element of the contents all the same.
    for space in ["", " \n\t"] {
        let output = lone(&says(back(&first, &[0])));
        let body = format!("{{\"contents\":{space}[{space}{}{space},{space}{output}]}}", user("Go"));
        let fourth = gateway.ask_raw(&client, body).await;
        is_call(&fourth.upstream()[1]["parts"][0], &first, 0);
        assert_eq!(fourth.upstream()[2], output);
    }
}

/// Rule 9: what broke off stands back behind what came to its end, for calls that were dropped too.
#[tokio::test]
async fn without_ids_a_dropped_call_of_a_completed_turn_comes_first_g13() {
    let client = Client::new(VERTEX, How::Sse);
    let (gateway, first) = begin(&client, call("ls", json!({"path": "/"}))).await;
    let broken =
        json!({"functionCall": {"name": "ls", "args": {}}, "thoughtSignature": "YnJva2VuIG9mZiBzaWduYXR1cmU="});
    gateway.answer_next(Canned::sse([json!({"candidates": [{"content": {"parts": [broken]}}]})]));
    gateway.ask(&client, &[user("Go")]).await;
    let second = gateway.ask(&client, &[user("Go"), says(back(&first, &[0]))]).await;
    is_call(&second.upstream()[1]["parts"][0], &first, 0);
    gateway.took(1);
}

/// A client that says something beside the first output has not begun anything new with it.
#[tokio::test]
async fn a_call_joins_its_sibling_over_what_the_client_said_beside_an_output_g8() {
    for base in FACES {
        let client = Client::new(base, How::Sse);
        let (gateway, first) = begin(&client, three()).await;
        let kept = model([first.kept()["parts"][0].clone()]);
        let outputs = back(&first, &[0, 1, 2]);
        let beside = says([outputs[0].clone(), json!({"text": "Note the date."})]);
        let history = [user("Go"), kept, beside, says([outputs[1].clone()]), says([outputs[2].clone()])];
        let second = gateway.ask(&client, &history).await;
        let sent = second.upstream();
        assert_eq!(sent.len(), history.len());
        (0..3).for_each(|at| is_call(&sent[1]["parts"][at], &first, at));
        assert_eq!(&sent[2..], &history[2..]);
        gateway.took(1);
    }
}
