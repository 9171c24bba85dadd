//! State of another model, provider, account, session or process.

use std::sync::Arc;

use serde_json::{Value, json};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, Store,
    engine::Event,
    scope::HashKey,
    testing::gemini::{Say, Sentinels, Turn},
};

use super::client::*;

fn ls() -> Turn {
    call("ls", json!({"path": "/"}))
}

/// Asks, and answers the call: the history of a tool loop after its first step.
async fn step(gateway: &Gateway, client: &Client, history: &mut Vec<Value>) -> Answer {
    let answer = gateway.ask(client, history).await;
    let content = answer.kept();
    let back = outputs(&content);
    history.push(content);
    if back["parts"] != json!([]) {
        history.push(back);
    }
    answer
}

#[tokio::test]
async fn a_session_goes_from_claude_to_gemini_and_back_g3() {
    let claude = Client::claude(How::Sse);
    let gemini = Client::new(CLOUD, How::Sse);
    let gateway = Gateway::says([
        Turn::new([Say::thought("I think."), Say::call("ls", json!({"path": "/"}))]),
        text("Done."),
        call("cat", json!({"path": "/a"})),
        text("Done, too."),
    ]);
    let mut history = vec![user("Go")];
    step(&gateway, &claude, &mut history).await;
    step(&gateway, &claude, &mut history).await;
    history.push(user("Go on"));
    let answer = step(&gateway, &gemini, &mut history).await;
    assert!(answer.upstream().iter().all(|content| signatures(content).is_empty()), "nothing of Claude goes to Gemini");
    let answer = step(&gateway, &gemini, &mut history).await;
    assert_eq!(gateway.restored(&answer), [1]);
    history.push(user("And back"));
    let answer = gateway.ask(&claude, &history).await;
    assert_eq!(gateway.restored(&answer), [0], "nothing of Gemini goes to Claude");
    gateway.took(1);
}

#[tokio::test]
async fn a_loop_that_began_with_claude_ends_with_gemini_and_a_sentinel_g3() {
    let gateway = Gateway::says([Turn::new([Say::thought("I think."), Say::call("ls", json!({}))]), text("Done.")]);
    let mut history = vec![user("Go")];
    step(&gateway, &Client::claude(How::Sse), &mut history).await;
    let answer = gateway.ask(&Client::new(CLOUD, How::Sse), &history).await;
    assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 2));
    assert_eq!((gateway.last().genuine, gateway.last().sentinels), (0, 1));
}

#[tokio::test]
async fn a_loop_that_began_with_gemini_is_no_business_of_ours_with_claude_g3() {
    let gateway = Gateway::says([ls()]);
    let mut history = vec![user("Go")];
    step(&gateway, &Client::new(CLOUD, How::Sse), &mut history).await;
    let claude = Client::claude(How::Sse);
    let answer = gateway.ask(&claude, &history).await;
    assert_eq!(answer.sent, [claude.body(&history).to_string().as_bytes()]);
    assert!(answer.text().contains("Expected `thinking`"), "{}", answer.text());
}

#[tokio::test]
async fn two_models_of_one_family_do_not_share_g3() {
    let other = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.5-flash";
    let gateway = Gateway::says([ls(), text("Done.")]);
    let mut history = vec![user("Go")];
    step(&gateway, &Client::new(API, How::Sse), &mut history).await;
    let answer = gateway.ask(&Client::new(other, How::Sse), &history).await;
    assert_eq!(answer.signature(1, 0), Value::Null);
    assert_eq!((answer.status.as_u16(), gateway.last().sentinels), (200, 1));
}

#[tokio::test]
async fn a_session_goes_from_the_api_to_vertex_and_back_g4() {
    for (one, other) in [(API, VERTEX), (VERTEX, API)] {
        let gateway =
            Gateway::says([call("ls", json!({"path": "/"})), call("ls", json!({"path": "/b"})), text("Done.")]);
        let (one, other) = (Client::new(one, How::Sse), Client::new(other, How::Sse));
        let mut history = vec![user("Go")];
        step(&gateway, &one, &mut history).await;
        let moved = step(&gateway, &other, &mut history).await;
        assert_eq!(moved.signature(1, 0), Value::Null, "a signature of the one is nothing to the other");
        assert_eq!((moved.status.as_u16(), gateway.last().genuine, gateway.last().sentinels), (200, 0, 1));
        let back = gateway.ask(&one, &history).await;
        assert_eq!(gateway.restored(&back), [0], "what it issued itself is restored");
        assert_eq!((back.status.as_u16(), gateway.last().genuine, gateway.last().sentinels), (200, 1, 1));
        assert_eq!(gateway.count(Event::RefusedInvalid), 0);
    }
}

#[tokio::test]
async fn regions_of_vertex_are_one_provenance_g4() {
    let other = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-3-pro-preview";
    let gateway = Gateway::says([ls(), text("Done.")]);
    let mut history = vec![user("Go")];
    step(&gateway, &Client::new(VERTEX, How::Sse), &mut history).await;
    gateway.ask(&Client::new(other, How::Sse), &history).await;
    gateway.took(1);
}

#[tokio::test]
async fn what_the_client_brought_from_claude_is_left_to_the_operator_g12() {
    let client = Client::new(API, How::Sse);
    let gateway = Gateway::says([ls(), text("Done.")]);
    let foreign = json!({"text": "From Claude.", "thoughtSignature": "RXFvQkNrZ0lBUkFCR0FJcVFKV0w="});
    let history = [user("Go"), model(vec![foreign.clone()]), user("On")];
    let answer = gateway.ask(&client, &history).await;
    assert_eq!(answer.sent, [client.body(&history).to_string().as_bytes()]);
    assert_eq!((answer.status.as_u16(), answer.text().contains("Corrupted thought signature.")), (400, true));
    // Beside something of ours, it is ours that goes, once, and the client still reads of the refusal.
    let mut history = vec![user("Go")];
    step(&gateway, &client, &mut history).await;
    history[1]["parts"].as_array_mut().unwrap().insert(0, foreign);
    let answer = gateway.ask(&client, &history).await;
    assert_eq!((answer.status.as_u16(), answer.text().contains("Corrupted thought signature.")), (400, true));
}

#[tokio::test]
async fn ids_hold_no_state_and_pass_unchanged_g14() {
    for base in [API, CLOUD] {
        let gateway = Gateway::says([calls([("a", json!({})), ("b", json!({}))]), text("Done.")]);
        let client = Client::new(base, How::Sse);
        let mut history = vec![user("Go")];
        // That the client gets the provider's bytes is checked with every answer.
        step(&gateway, &client, &mut history).await;
        let second = gateway.ask(&client, &history).await;
        let sent: Vec<Value> = second.upstream().iter().map(unsigned).collect();
        assert_eq!(sent, history);
        for part in history[1]["parts"].as_array().unwrap() {
            let id = part["functionCall"]["id"].as_str().unwrap();
            assert!(id.len() <= 40 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        }
    }
}

#[tokio::test]
async fn nothing_reaches_another_session_tenant_or_agent_g16() {
    let agent = |name| vec![("x-claude-code-agent-id", name)];
    let base = Client::new(API, How::Sse);
    let others = [
        base.session(Some("s2")),
        base.session(None),
        Client { key: "key-2", ..base.clone() },
        Client { headers: agent("reviewer"), ..base.clone() },
        Client { session: None, headers: vec![("x-opencode-session", "s1")], ..base.clone() },
    ];
    for other in others {
        let gateway = Gateway::new(&strict([ls(), text("Done.")]).sentinels(Sentinels::none()).build());
        let mut history = vec![user("Go")];
        step(&gateway, &base, &mut history).await;
        // The same history, with the same ids, from somebody else.
        let answer = gateway.ask(&other, &history).await;
        assert_eq!(answer.sent[0], other.body(&history).to_string().as_bytes(), "{other:?}");
        let dropped = [history[0].clone(), history[2].clone()];
        let answer = gateway.ask(&other, &dropped).await;
        assert_eq!(answer.sent[0], other.body(&dropped).to_string().as_bytes(), "{other:?}");
        gateway.ask(&base, &history).await;
        assert_eq!((gateway.last().genuine, gateway.last().refusal), (1, None));
    }
}

#[tokio::test]
async fn agents_of_one_session_live_side_by_side_g16() {
    let main = Client::new(API, How::Sse);
    let agent = Client { headers: vec![("x-openai-subagent", "review")], ..main.clone() };
    let gateway = Gateway::says([ls(), ls(), ls(), ls(), text("Done."), text("Done.")]);
    let (mut one, mut other) = (vec![user("Go")], vec![user("Go")]);
    for _ in 0..2 {
        step(&gateway, &main, &mut one).await;
        step(&gateway, &agent, &mut other).await;
    }
    let last = gateway.ask(&main, &one).await;
    assert_eq!(gateway.restored(&last), [0, 2]);
    let last = gateway.ask(&agent, &other).await;
    assert_eq!(gateway.restored(&last), [1, 3]);
    gateway.took(2);
}

#[tokio::test]
async fn derived_sessions_of_equal_openings_keep_to_their_own_histories_g16() {
    // Two users of one key begin with the same words; only everything before a turn tells them apart.
    let client = Client::new(VERTEX, How::Sse).session(None);
    let gateway = Gateway::says([ls(), call("next", json!({})), call("next", json!({})), text("Done.")]);
    let mut one = vec![user("Go")];
    step(&gateway, &client, &mut one).await;
    let mut other = one.clone();
    one[2]["parts"][0]["functionResponse"]["response"] = json!({"files": ["a"]});
    other[2]["parts"][0]["functionResponse"]["response"] = json!({"files": ["b"]});
    step(&gateway, &client, &mut one).await;
    step(&gateway, &client, &mut other).await;
    let last = gateway.ask(&client, &one).await;
    assert_eq!(gateway.restored(&last), [0, 1]);
    let edited = [
        &one[..2],
        &[json!({"role": "user", "parts": [output(&one[1]["parts"][0], json!({"files": ["c"]}))]})],
        &one[3..],
    ]
    .concat();
    let last = gateway.ask(&client, &edited).await;
    assert_eq!(gateway.restored(&last), [0], "after an edit nothing is proven");
    assert_eq!((last.status.as_u16(), gateway.last().sentinels), (200, 1));
}

#[tokio::test]
async fn one_tenant_keeps_its_state_under_another_credential_when_the_gateway_names_it_g16() {
    let layer = || {
        let builder = ReplayLayer::builder(MemoryStore::new()).tenant_header("x-tenant".parse().unwrap());
        builder.build_layer().unwrap()
    };
    let client = |key, tenant| Client { key, headers: vec![("x-tenant", tenant)], ..Client::new(API, How::Sse) };
    for (tenant, restored) in [("acme", true), ("other", false)] {
        let gateway = Gateway::with(&strict([ls(), text("Done.")]).build(), layer());
        let mut history = vec![user("Go")];
        step(&gateway, &client("upstream-1", "acme"), &mut history).await;
        let answer = gateway.ask(&client("upstream-2", tenant), &history).await;
        assert_eq!(gateway.restored(&answer), if restored { vec![0] } else { vec![] });
    }
}

#[tokio::test]
async fn after_a_restart_the_loop_goes_on_with_a_sentinel_g17() {
    let client = Client::new(API, How::Sse);
    let provider = strict([ls(), call("cat", json!({})), text("Done.")]).build();
    let mut history = vec![user("Go")];
    step(&Gateway::new(&provider), &client, &mut history).await;
    let restarted = Gateway::new(&provider);
    let answer = step(&restarted, &client, &mut history).await;
    assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 2));
    assert_eq!((restarted.last().genuine, restarted.last().sentinels), (0, 1));
    // What is learned since is real, and the sentinel stands there from the start.
    let answer = restarted.ask(&client, &history).await;
    assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 1));
    assert_eq!((restarted.last().genuine, restarted.last().sentinels), (1, 1));
}

fn sharing(store: &Arc<dyn Store>, key: u8) -> ReplayLayer {
    ReplayLayer::builder(store.clone()).hash_key(HashKey::from_bytes([key; 32])).build_layer().unwrap()
}

#[tokio::test]
async fn a_restart_loses_nothing_if_the_store_stays_g17() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let client = Client::new(API, How::Sse);
    let provider = strict([ls(), text("Done.")]).build();
    let mut history = vec![user("Go")];
    step(&Gateway::with(&provider, sharing(&store, 1)), &client, &mut history).await;
    let restarted = Gateway::with(&provider, sharing(&store, 1));
    restarted.ask(&client, &history).await;
    restarted.took(1);
    // Another hash key does not reach it.
    let other = Gateway::with(&provider, sharing(&store, 2));
    let answer = other.ask(&client, &history).await;
    assert_eq!(answer.signature(1, 0), Value::Null);
}

#[tokio::test]
async fn replicas_that_share_a_store_take_turns_g18() {
    for how in WAYS {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let provider =
            strict([ls(), ls(), calls([("ls", json!({"path": "/"})), ("cat", json!({}))]), ls(), text("Done.")])
                .build();
        let replicas = [1, 1, 1].map(|key| Gateway::with(&provider, sharing(&store, key)));
        let client = Client::new(API, how);
        let mut history = vec![user("Go")];
        for at in 0..5 {
            step(&replicas[at % 3], &client, &mut history).await;
        }
        history.push(user("On"));
        let last = replicas[2].ask(&client, &history).await;
        assert_eq!(replicas[2].restored(&last), [0, 1, 2, 3, 4]);
        replicas[2].took(5);
    }
}

#[tokio::test]
async fn what_any_client_wrote_any_client_of_the_session_finds_g19() {
    // Learned and looked up in every way, with the history written in every way.
    for learned in WAYS {
        for asked in WAYS {
            for base in FACES {
                let gateway = Gateway::says([
                    Turn::new([
                        Say::text("I \"look\" at 東京 </b>."),
                        Say::call("ls", json!({"path": "/東京", "n": 1e2})),
                    ]),
                    text("Done."),
                ]);
                let client = Client::new(base, learned);
                let mut history = vec![user("Go")];
                step(&gateway, &client, &mut history).await;
                let escaped = client
                    .body(&history)
                    .to_string()
                    .replace("東京", "\\u6771\\u4eac")
                    .replace("</b>", "\\u003c\\/b\\u003e");
                gateway.ask_raw(&client.how(asked), escaped).await;
                gateway.took(1);
            }
        }
    }
}
