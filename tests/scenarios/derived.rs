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
