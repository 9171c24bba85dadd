//! Rules 12, 13 and 15: nobody gets what is another's, and nothing is told about anybody.

use http::Request;
use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::{Event, SessionKind},
    scope::{Provenance, Session, Tenant},
};

use crate::support::{
    body::{Scripted, bytes},
    gemini::*,
    rig::Rig,
    service::{refusal, whole},
    store::TestStore,
};

type Change = fn(&mut Request<Scripted>);

fn header(request: &mut Request<Scripted>, name: &'static str, value: &'static str) {
    request.headers_mut().insert(name, value.parse().unwrap());
}

fn at(request: &mut Request<Scripted>, uri: &str) {
    *request.uri_mut() = uri.parse().unwrap();
}

async fn learn(rig: &Rig, change: Change) {
    rig.inner.will(whole(document()));
    let mut request = request(GENERATE, QUESTION);
    change(&mut request);
    rig.exchange(request).await;
}

async fn is_restored(rig: &Rig, change: Change) -> bool {
    rig.inner.will(whole("{}"));
    let mut request = request(GENERATE, FOLLOW_UP);
    change(&mut request);
    rig.exchange(request).await;
    let sent = rig.inner.last().text();
    assert!(sent == restored() || sent == FOLLOW_UP, "{sent}");
    sent == restored()
}

/// Rule 12: whoever differs in tenant, session, model, provenance or agent has a memory of its own.
#[tokio::test]
async fn scopes_never_share() {
    let changes: [(&str, Change); 21] = [
        ("as it is", |_| {}),
        ("key", |r| header(r, "x-goog-api-key", "another key")),
        ("key by another header", |r| header(r, "x-api-key", "a key")),
        ("token", |r| header(r, "authorization", "Bearer token")),
        ("key in the query", |r| at(r, &format!("{GENERATE}?key=k"))),
        ("tenant", |r| drop(r.extensions_mut().insert(Tenant::new("t")))),
        ("another tenant", |r| drop(r.extensions_mut().insert(Tenant::new("u")))),
        ("tenant by header", |r| header(r, "x-tenant", "t")),
        ("session", |r| header(r, "x-session-id", "another session")),
        ("session by another header", |r| {
            header(r, "x-roo-task-id", "a session");
            r.headers_mut().remove("x-session-id");
        }),
        ("session by extension", |r| drop(r.extensions_mut().insert(Session::new("a session")))),
        ("no session", |r| drop(r.headers_mut().remove("x-session-id"))),
        ("model", |r| at(r, &GENERATE.replace("3-pro", "3-flash"))),
        ("tuned model", |r| at(r, &GENERATE.replace("/models/", "/tunedModels/"))),
        ("vertex", |r| at(r, &GENERATE.replace("generativelanguage", "us-central1-aiplatform"))),
        ("another host", |r| at(r, &GENERATE.replace("generativelanguage.googleapis.com", "relay.example"))),
        ("another port", |r| at(r, &GENERATE.replace("generativelanguage.googleapis.com", "relay.example:8443"))),
        ("provenance", |r| drop(r.extensions_mut().insert(Provenance::new("p")))),
        ("another provenance", |r| drop(r.extensions_mut().insert(Provenance::new("q")))),
        ("agent", |r| header(r, "x-claude-code-agent-id", "a")),
        ("subagent", |r| header(r, "x-openai-subagent", "a")),
    ];
    for (mine, learned_as) in changes {
        let rig = Rig::with(TestStore::new(), [], |builder| builder.tenant_header("x-tenant".parse().unwrap()));
        learn(&rig, learned_as).await;
        for (other, change) in changes {
            assert_eq!(is_restored(&rig, change).await, mine == other, "learned as {mine}, asked as {other}");
        }
    }
}

/// Rule 12 and the design's word on tenants: with the extension another upstream key keeps the replay.
#[tokio::test]
async fn a_named_tenant_keeps_its_replay_under_another_key() {
    let rig = Rig::new([]);
    learn(&rig, |r| drop(r.extensions_mut().insert(Tenant::new("t")))).await;
    assert!(
        is_restored(&rig, |r| {
            r.extensions_mut().insert(Tenant::new("t"));
            header(r, "x-goog-api-key", "another key");
        })
        .await
    );
}

/// Rule 12: surfaces that are one provenance share; spellings of one session are one session.
#[tokio::test]
async fn what_is_one_is_one() {
    let rig = Rig::new([]);
    learn(&rig, |_| {}).await;
    assert!(is_restored(&rig, |r| at(r, &GENERATE.replace("/v1beta/", "/v1/"))).await);
    assert!(is_restored(&rig, |r| at(r, STREAM)).await);
    assert!(
        is_restored(&rig, |r| {
            r.headers_mut().remove("x-session-id");
            header(r, "session_id", "a session");
        })
        .await
    );
}

/// Requests of which nobody knows who sends them are left alone, if the operator wants that.
#[tokio::test]
async fn a_tenant_may_be_required() {
    let anonymous: Change = |r| drop(r.headers_mut().remove("x-goog-api-key"));
    for require in [false, true] {
        let rig = Rig::with(TestStore::new(), [], |builder| builder.require_tenant(require));
        learn(&rig, anonymous).await;
        assert_eq!(is_restored(&rig, anonymous).await, !require);
        assert_eq!(rig.count(Event::NoTenant), if require { 2 } else { 0 });
        assert_eq!(rig.store.turns().len(), usize::from(!require));
        // And never somebody's.
        assert!(!is_restored(&rig, |_| {}).await);
    }
}

/// A conversation whose second message may be edited, with a call of this id.
fn conversation(note: &str, id: Option<&str>, signature: Option<&str>) -> Value {
    let mut call = json!({"functionCall": {"name": "look", "args": {"city": "Paris"}}});
    let mut output = json!({"functionResponse": {"name": "look", "response": {}}});
    if let Some(id) = id {
        call["functionCall"]["id"] = id.into();
        output["functionResponse"]["id"] = id.into();
    }
    if let Some(signature) = signature {
        call["thoughtSignature"] = signature.into();
    }
    json!([
        {"role": "user", "parts": [{"text": "How is the weather?"}]},
        {"role": "model", "parts": [{"text": "Where?"}]},
        {"role": "user", "parts": [{"text": note}]},
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": [output]},
    ])
}

/// Learns the call after `one`, and tells whether it comes back after `other`.
async fn crosses(session: &str, id: Option<&str>, one: &str, other: &str) -> (bool, SessionKind) {
    let rig = Rig::new([]);
    let whole_one = conversation(one, id, Some(SIGNATURE));
    let ask = |contents: Value| {
        let mut body = json!({ "contents": contents });
        let mut request = post(GENERATE);
        match session {
            "known" => {}
            "weak" => body["prompt_cache_key"] = "my application".into(),
            _ => {}
        }
        if session != "known" {
            request.headers_mut().unwrap().remove("x-session-id");
        }
        request.body(Scripted::new([bytes(body.to_string())])).unwrap()
    };
    let answer = event(&[whole_one[3]["parts"][0].clone()], Some("STOP"));
    rig.inner.will(whole(answer.to_string()));
    let first: Vec<Value> = whole_one.as_array().unwrap()[..3].to_vec();
    let got = rig.exchange(ask(first.into())).await;
    assert_eq!(got.report().learned, 2);
    rig.inner.will(whole("{}"));
    let got = rig.exchange(ask(conversation(other, id, None))).await;
    (rig.inner.last().text().contains(SIGNATURE), got.report().session)
}

/// Rule 13: a derived session, and one that may be a constant, want equal preceding history or a native id.
#[tokio::test]
async fn weak_and_derived_sessions_match_strictly() {
    for (session, kind) in
        [("known", SessionKind::Known), ("weak", SessionKind::Weak), ("derived", SessionKind::Derived)]
    {
        for (id, native) in [
            (None, false),
            (Some("call_0"), false),
            (Some("look:3"), false),
            (Some("7"), false),
            (Some("okz0loqw"), true),
            (Some("toolu_vrtx_01AbCdEf"), true),
        ] {
            assert_eq!(crosses(session, id, "Here.", "Here.").await, (true, kind), "{session} {id:?}");
            let expected = session == "known" || native;
            assert_eq!(crosses(session, id, "Here.", "There.").await, (expected, kind), "{session} {id:?}");
        }
    }
}

/// Rule 13: what only looks like a session is none.
#[tokio::test]
async fn users_are_no_sessions() {
    for field in ["user", "safety_identifier", "previous_response_id"] {
        let rig = Rig::new([whole("{}")]);
        let body = FOLLOW_UP.replacen('{', &format!("{{\"{field}\":\"u\","), 1);
        let mut request = post(GENERATE);
        request.headers_mut().unwrap().remove("x-session-id");
        let got = rig.exchange(request.body(Scripted::new([bytes(body)])).unwrap()).await;
        assert_eq!(got.report().session, SessionKind::Derived, "{field}");
    }
}

/// Rule 15: a count is patched like the request that it counts for, and never learned from.
#[tokio::test]
async fn a_count_is_patched_and_never_learned_from() {
    let wrapped = |body: &str| {
        let model = "\"model\":\"models/gemini-3-pro-preview\"";
        format!("{{\"generateContentRequest\":{{{model},{}}}", &body[1..])
    };
    let rig = Rig::new([]);
    rig.learn().await;
    for named in [true, false] {
        for (body, expected) in [(FOLLOW_UP.to_owned(), restored()), (wrapped(FOLLOW_UP), wrapped(&restored()))] {
            // Whatever it answers, even an answer.
            rig.inner.will(whole(document()));
            let mut request = request(COUNT, body);
            if !named {
                request.headers_mut().remove("x-session-id");
            }
            let got = rig.exchange(request).await;
            assert_eq!(rig.inner.last().text(), expected, "named: {named}");
            assert_eq!(got.text(), document());
            assert_eq!(rig.store.appends(), 1);
        }
    }
    // Never a sentinel, also not on a refusal.
    let rig = Rig::new([refusal(400, error(400, MISSING))]);
    assert_eq!(rig.post(COUNT, FOLLOW_UP).await.text(), error(400, MISSING));
    assert_eq!(rig.inner.seen().len(), 1);
    // Another tenant's count without a session finds nothing.
    let rig = Rig::new([]);
    rig.learn().await;
    rig.inner.will(whole("{}"));
    let mut request = request(COUNT, FOLLOW_UP);
    request.headers_mut().remove("x-session-id");
    header(&mut request, "x-goog-api-key", "another key");
    rig.exchange(request).await;
    assert_eq!(rig.inner.last().text(), FOLLOW_UP);
}

/// Rule 12, end to end: clients with equal conversations never get each other's signatures.
#[tokio::test]
async fn equal_conversations_of_two_clients_stay_apart() {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tower::{Layer, ServiceExt};
    use tower_reasoning_replay::{MemoryStore, ReplayLayer, testing::gemini::GeminiProvider};

    let provider = GeminiProvider::builder().bind_credentials(true).ids(false).build();
    let layer = ReplayLayer::new(MemoryStore::new());
    // Two tenants; each has a named conversation and one that is derived.
    let clients = [("one", Some("s")), ("two", Some("s")), ("one", None), ("two", None)];
    let question = json!({"role": "user", "parts": [{"text": "How is the weather?"}]});
    let mut histories = vec![vec![question]; clients.len()];
    for turn in 0..12 {
        for ((key, session), history) in clients.iter().zip(&mut histories) {
            let mut request = Request::post(STREAM).header("content-type", "application/json");
            request = request.header("x-goog-api-key", *key);
            if let Some(session) = session {
                request = request.header("x-session-id", *session);
            }
            let body = json!({ "contents": history }).to_string();
            let request = request.body(Full::new(Bytes::from(body))).unwrap();
            let response = layer.layer(provider.clone()).oneshot(request).await.unwrap();
            let status = response.status();
            let text = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert_eq!(status, 200, "{text}");
            let (mut calls, mut said) = (Vec::new(), String::new());
            for event in text.split_terminator("\r\n\r\n") {
                let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                for part in event["candidates"][0]["content"]["parts"].as_array().into_iter().flatten() {
                    match part.get("functionCall") {
                        Some(call) => calls.push(json!({ "functionCall": call })),
                        None if part["thought"] == true => {}
                        None => said += part["text"].as_str().unwrap(),
                    }
                }
            }
            let outputs: Vec<Value> = calls
                .iter()
                .map(|part| json!({"functionResponse": {"name": part["functionCall"]["name"], "response": {}}}))
                .collect();
            if !said.is_empty() {
                calls.insert(0, json!({ "text": said }));
            }
            history.push(json!({"role": "model", "parts": calls}));
            history.push(match outputs.is_empty() {
                true => json!({"role": "user", "parts": [{"text": format!("And now? {turn}")}]}),
                false => json!({"role": "user", "parts": outputs}),
            });
        }
    }
    assert_eq!((provider.refused(), provider.accepted()), (0, 48));
    assert!(provider.requests().last().unwrap().genuine > 8);
    assert_eq!(layer.engine().counters().get(Event::Sentinel), 0);
}
