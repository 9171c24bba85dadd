//! Conversations that nobody named: a derived session, or a field that is one constant per application.

use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::SessionKind,
    testing::gemini::{Say, Turn},
};

use super::client::*;

fn clients() -> Vec<Client> {
    let mut clients = Vec::new();
    for base in FACES {
        for how in WAYS {
            clients.push(Client::new(base, how).session(None));
        }
    }
    clients.push(Client::new(API, How::Sse).session(None).beside(json!({"labels": {"app": "x"}})));
    clients
}

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
async fn a_conversation_that_nobody_named_gets_through_its_tool_loop_g1() {
    for client in clients() {
        let poll = || call("poll", json!({"job": 7}));
        let parallel = calls([("a", json!({"x": 1})), ("a", json!({"x": 1})), ("b", json!({}))]);
        let gateway = Gateway::says([poll(), parallel, poll(), Turn::new([Say::thought("Hm."), Say::text("Done.")])]);
        let history = tool_loop(&gateway, &client, 4).await;
        let last = gateway.ask(&client, &history).await;
        assert_eq!(last.summary().session, SessionKind::Derived);
        assert_eq!(gateway.restored(&last), [0, 1, 2, 3]);
        gateway.took(4);
    }
}

#[tokio::test]
async fn native_ids_prove_a_call_after_an_edit_and_counted_ones_do_not_g20() {
    for (native, expected) in [(true, vec![0, 1, 2]), (false, vec![0])] {
        let client = Client::new(API, How::Sse).session(None);
        let step = |n: u32| call("get", json!({ "n": n }));
        let gateway = Gateway::says([step(1), step(2), step(3), text("Done.")]);
        let mut history = vec![user("Go")];
        for at in 0..3 {
            let content = gateway.ask(&client, &history).await.kept();
            let content = if native { content } else { with_ids(&content, |_| Some(format!("call_{at}"))) };
            let back = outputs(&content);
            history.extend([content, back]);
        }
        // An old output was cleared to save room.
        history[2]["parts"][0]["functionResponse"]["response"] = json!({"cleared": true});
        let last = gateway.ask(&client, &history).await;
        assert_eq!(gateway.restored(&last), expected, "{native}");
        assert_eq!(last.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_dropped_call_comes_back_by_its_native_id_g20() {
    let client = Client::new(API, How::Sse).session(None);
    let gateway = Gateway::says([calls([("a", json!({"x": 1})), ("b", json!({}))]), text("Done.")]);
    let content = gateway.ask(&client, &[user("Go")]).await.kept();
    let last = gateway.ask(&client, &[user("Go"), outputs(&content)]).await;
    assert_eq!(unsigned(&last.upstream()[1]), content);
    gateway.took(1);
}

#[tokio::test]
async fn cloud_code_names_its_session_in_the_request_g20() {
    let body = |contents: &[Value], beside: Value| {
        let mut request = beside;
        request["contents"] = contents.into();
        json!({"project": "p", "model": GEMINI, "request": request, "requestType": "agent", "userAgent": "antigravity"})
    };
    for beside in [json!({"sessionId": "-3750763034362895579"}), json!({"session_id": "0b1c"})] {
        let gateway = Gateway::says([call("ls", json!({"path": "/"})), text("Done.")]);
        let client = Client::new(CLOUD, How::Sse).session(None);
        let first = gateway.ask_raw(&client, body(&[user("Go")], beside.clone()).to_string()).await;
        assert_eq!(first.summary().session, SessionKind::Known);
        let content = first.kept();
        let history = [user("Summary"), content.clone(), outputs(&content)];
        let second = gateway.ask_raw(&client, body(&history, beside.clone()).to_string()).await;
        assert_eq!(gateway.restored(&second), [0]);
        // A count names neither the session nor the model in the same way.
        let history = [user("Go"), content.clone(), outputs(&content)];
        let count = json!({"request": {"model": "models/gemini-3-pro-preview", "contents": history}});
        let counted = gateway.ask_raw(&client.how(How::Count), count.to_string()).await;
        assert_eq!((counted.status.as_u16(), gateway.restored(&counted)), (200, vec![0]));
        gateway.took(1);
    }
}

/// What a client does between two requests that changes nothing of what precedes a turn.
#[tokio::test]
async fn what_stands_beside_the_history_may_change_g20() {
    let tool = |name: &str| json!({"functionDeclarations": [{"name": name, "parameters": {"type": "object"}}]});
    let beside = [
        json!({"tools": [tool("a"), tool("b")]}),
        json!({"tools": [tool("b"), tool("a")], "generationConfig": {"temperature": 1}}),
        json!({"tools": [tool("c"), tool("b"), tool("a")], "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}}),
        json!({"systemInstruction": {}}),
        json!({"systemInstruction": null}),
        json!({"systemInstruction": {"parts": []}}),
        json!({"system_instruction": {"role": "user", "parts": [{"text": ""}]}}),
        json!({"systemInstruction": ""}),
        json!({"systemInstruction": {"parts": {"text": ""}}}),
    ];
    for base in FACES {
        let gateway = Gateway::says((0..beside.len()).map(|_| call("poll", json!({"job": 7}))));
        let mut history = vec![user("Go")];
        for (at, beside) in beside.iter().enumerate() {
            let client = Client::new(base, How::Sse).session(None).beside(beside.clone());
            let answer = gateway.ask(&client, &history).await;
            assert_eq!(gateway.restored(&answer), (0..at).collect::<Vec<_>>(), "{beside}");
            let content = answer.kept();
            history.extend([content.clone(), outputs(&content)]);
        }
        gateway.took(beside.len() - 1);
        let other = json!({"systemInstruction": {"parts": [{"text": "Be brief."}]}});
        let client = Client::new(base, How::Sse).session(None).beside(other);
        let last = gateway.ask(&client, &history).await;
        assert_eq!(last.summary().restored, 0, "another instruction is another conversation");
    }
}

/// A client that gives up and asks again, and one that goes on with what it got.
#[tokio::test]
async fn an_attempt_that_broke_off_does_not_stand_in_the_way_g20() {
    for base in [API, VERTEX] {
        let client = Client::new(base, How::Sse).session(None);
        let state = "YnJva2VuIG9mZiBzaWduYXR1cmU=";
        let broken = json!({"functionCall": {"name": "ls", "args": {"path": "/"}}, "thoughtSignature": state});
        let broken = Canned::sse([json!({"candidates": [{"content": {"role": "model", "parts": [broken]}}]})]);
        let gateway = Gateway::says([call("ls", json!({"path": "/"})), text("Done."), text("Well.")]);
        gateway.answer_next(broken.clone());
        let first = gateway.ask(&client, &[user("Go")]).await;
        let kept = [user("Go"), first.kept(), outputs(&first.kept())];
        let ok = || Canned::json(&json!({}));
        gateway.answer_next(ok());
        assert_eq!(gateway.ask(&client, &kept).await.signature(1, 0), json!(state), "it is all there is");
        // The second attempt comes to its end, and the third breaks off again.
        let second = gateway.ask(&client, &[user("Go")]).await;
        gateway.answer_next(broken);
        gateway.ask(&client, &[user("Go")]).await;
        let history = [user("Go"), second.kept(), outputs(&second.kept())];
        let last = gateway.ask(&client, &history).await;
        assert_eq!(gateway.restored(&last), [0]);
        gateway.took(1);
    }
}

/// Of answers to one request each keeps its own, and of equal ones the newest counts.
#[tokio::test]
async fn answers_that_were_generated_again_keep_their_own_g20() {
    let client = Client::new(VERTEX, How::Sse).session(None);
    let ls = |path: &str| call("ls", json!({ "path": path }));
    let gateway = Gateway::new(
        &strict([ls("/"), ls("/etc"), ls("/"), ls("/x"), ls("/x"), text("Done.")]).order_signatures(false).build(),
    );
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(gateway.ask(&client, &[user("Go")]).await.kept());
    }
    for (kept, expected) in [(0, 2), (1, 1), (2, 2)] {
        let history = [user("Go"), answers[kept].clone(), outputs(&answers[kept])];
        let next = gateway.ask(&client, &history).await;
        assert_eq!(gateway.restored(&next), [expected]);
        assert_eq!(gateway.last().refusal, None);
    }
    // An output that came out otherwise is another history: nothing of the one before crosses.
    let after = |response: Value| {
        let parts = json!([output(&answers[1]["parts"][0], response)]);
        [user("Go"), answers[1].clone(), json!({"role": "user", "parts": parts})]
    };
    let next = gateway.ask(&client, &after(json!({"files": ["a"]}))).await.kept();
    let mut history = after(json!({"files": ["b"]})).to_vec();
    history.extend([next.clone(), outputs(&next)]);
    let last = gateway.ask(&client, &history).await;
    assert_eq!(last.summary().restored, 1);
}

/// Each model gets back what was its own.
#[tokio::test]
async fn a_conversation_goes_to_another_model_and_back_g3() {
    const OTHER: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-flash-preview";
    let one = Client::new(API, How::Sse).session(None);
    let other = Client::new(OTHER, How::Whole).session(None);
    let poll = || call("poll", json!({"job": 7}));
    let gateway = Gateway::new(&strict([poll(), poll(), poll(), poll(), text("Done.")]).build());
    let mut history = vec![user("Go")];
    for client in [&one, &other, &one, &other] {
        let answer = gateway.ask(client, &history).await;
        let content = answer.kept();
        history.extend([content.clone(), outputs(&content)]);
    }
    for (client, expected) in [(&one, [0, 2]), (&other, [1, 3])] {
        let last = gateway.ask(client, &history).await;
        assert_eq!(gateway.restored(&last), expected);
        // What the other model signed gets a sentinel here.
        assert_eq!((last.status.as_u16(), last.summary().sentinels), (200, 2));
    }
}

/// Agents that begin with the same words and run at the same time, with and without ids.
#[tokio::test]
async fn agents_of_equal_openings_run_side_by_side_g16() {
    for (base, ids) in [(API, true), (API, false), (VERTEX, false)] {
        let client = Client::new(base, How::Sse).session(None);
        let read = |path: &str| call("read", json!({ "path": path }));
        let turns = ["/a", "/b", "/c", "/same", "/same", "/same"].map(read);
        let gateway = Gateway::new(&strict(turns).ids(ids).order_signatures(false).build());
        let mut agents: Vec<Vec<Value>> = vec![vec![user("Explore.")]; 3];
        for round in 0..2 {
            let answers: Vec<Value> = {
                let mut answers = Vec::new();
                for agent in &agents {
                    let answer = gateway.ask(&client, agent).await;
                    assert_eq!(answer.summary().restored, round);
                    answers.push(answer.kept());
                }
                answers
            };
            for (at, content) in answers.into_iter().enumerate() {
                let parts = json!([output(&content["parts"][0], json!({ "agent": at }))]);
                agents[at].extend([content, json!({"role": "user", "parts": parts})]);
            }
        }
        for (at, agent) in agents.iter().enumerate() {
            let last = gateway.ask(&client, agent).await;
            assert_eq!(gateway.restored(&last), [at, at + 3], "{base} {ids}");
        }
        gateway.took(2);
    }
}

/// Rule 13: everything before a turn counts, also what stands in a cache or beside what a tool says.
#[tokio::test]
async fn what_precedes_a_turn_out_of_sight_counts_too_g16() {
    let client = Client::new(VERTEX, How::Sse).session(None);
    let cached = |name: &str| client.beside(json!({ "cachedContent": format!("cachedContents/{name}") }));
    let ask = async |gateway: &Gateway, client: &Client, history: &[Value]| {
        let part =
            json!({"functionCall": {"name": "ls", "args": {}}, "thoughtSignature": "YSBzaWduYXR1cmUgb2YgbWFueQ=="});
        let content = json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]});
        gateway.answer_next(Canned::json(&content));
        gateway.ask(client, history).await
    };
    let gateway = Gateway::says([]);
    let first = ask(&gateway, &cached("a"), &[user("Go")]).await;
    let history = [user("Go"), first.kept(), outputs(&first.kept())];
    for (name, restored) in [("a", 1), ("b", 0)] {
        assert_eq!(ask(&gateway, &cached(name), &history).await.summary().restored, restored, "{name}");
    }
    let gateway = Gateway::says([]);
    let shows = |data: &str| {
        let parts = json!([{"inlineData": {"mimeType": "image/png", "data": data}}]);
        let output =
            json!({"functionResponse": {"name": "shot", "response": {"image": {"$ref": "x"}}, "parts": parts}});
        json!({"role": "user", "parts": [output]})
    };
    let called = model([
        json!({"functionCall": {"name": "shot", "args": {}}, "thoughtSignature": "b3duIHNpZ25hdHVyZSBvZiBpdHM="}),
    ]);
    let first = ask(&gateway, &client, &[user("Go"), called.clone(), shows("aW1nMQ==")]).await;
    for (data, restored) in [("aW1nMQ==", 1), ("aW1nMg==", 0)] {
        let history = [user("Go"), called.clone(), shows(data), first.kept(), outputs(&first.kept())];
        assert_eq!(ask(&gateway, &client, &history).await.summary().restored, restored, "{data}");
    }
}
