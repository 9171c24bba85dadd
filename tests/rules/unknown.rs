//! Rules 1 and 4: a request of which nothing is known goes on at once, and is read when there is time for that.

use bytes::Bytes;
use tower_reasoning_replay::{
    Fallback,
    engine::{Builder, Event, SessionKind, Snapshot, Summary},
    scope::HashKey,
};

use crate::support::{
    assert_same,
    gemini::*,
    rig::{Got, Rig},
    service::{Act, refusal, whole},
    store::{Mode, TestStore},
};

fn rig(store: TestStore) -> Rig {
    Rig::with(store, [], |builder| builder)
}

async fn exchange(rig: &Rig, uri: &str, body: &Bytes, acts: impl IntoIterator<Item = Act>) -> Got {
    for act in acts {
        rig.inner.will(act);
    }
    rig.post(uri, body.clone()).await
}

/// What is sent is what came, the store is not asked, and the answer is learned all the same.
#[tokio::test]
async fn a_request_of_an_unknown_session_goes_on_at_once() {
    let rig = rig(TestStore::knowing());
    let body = Bytes::from_static(FOLLOW_UP.as_bytes());
    let got = exchange(&rig, GENERATE, &body, [whole(document())]).await;
    assert_same(&rig.inner.last().frames, std::slice::from_ref(&body));
    assert_eq!((rig.store.loads(), rig.store.appends()), (0, 1));
    let report = got.report();
    assert_eq!((report.session, report.learned, report.missed), (SessionKind::Known, 2, 1));
    // From now on it is known.
    let got = exchange(&rig, GENERATE, &body, [whole("{}")]).await;
    assert_eq!((rig.store.loads(), got.report().restored), (1, 1));
    assert_eq!(rig.inner.last().text(), restored());
}

/// Everything that is sent, reported and counted is what it is with a store that cannot tell.
#[tokio::test]
async fn nothing_but_the_time_of_reading_is_different() {
    type Scene = (&'static str, fn() -> Vec<Act>, fn(Builder) -> Builder);
    let broken = FOLLOW_UP.replace("]}]}", "]}");
    let signed = complete();
    let scenes: [Scene; 5] = [
        ("an answer", || vec![whole(document())], |builder| builder),
        ("missing", || vec![refusal(400, error(400, MISSING)), whole(document())], |builder| builder),
        ("another error", || vec![refusal(429, error(429, "slow down"))], |builder| builder),
        ("no sentinels", || vec![refusal(400, error(400, MISSING))], |builder| builder.fallback(Fallback::Off)),
        ("sentinels up front", || vec![whole(document())], |builder| builder.fallback(Fallback::Always)),
    ];
    for (what, acts, configure) in scenes {
        for body in [QUESTION, FOLLOW_UP, &signed, &broken, "[]", "\u{feff}", r#"{"contents":[]}"#] {
            for uri in [GENERATE, STREAM, COUNT] {
                let mut seen: Vec<(Vec<String>, String, Option<Summary>, Snapshot)> = Vec::new();
                for store in [TestStore::new(), TestStore::knowing()] {
                    let rig = Rig::with(store, [], |builder| configure(builder.hash_key(HashKey::from_bytes([7; 32]))));
                    let body = Bytes::copy_from_slice(body.as_bytes());
                    let got = exchange(&rig, uri, &body, acts()).await;
                    let sent = rig.inner.seen().iter().map(|seen| seen.text()).collect();
                    seen.push((sent, got.text(), got.report, rig.layer.engine().counters()));
                }
                assert!(seen[0] == seen[1], "{what}, {body}: {:?}", seen);
            }
        }
    }
}

/// A provider that is known to take a sentinel gets it up front, also where nothing else is known.
#[tokio::test]
async fn a_learned_sentinel_is_set_all_the_same() {
    let rig = rig(TestStore::knowing());
    let body = Bytes::from_static(FOLLOW_UP.as_bytes());
    exchange(&rig, GENERATE, &body, [refusal(400, error(400, MISSING)), whole("{}")]).await;
    let other = request_of(&rig, "another session", &body).await;
    assert_eq!((other.report().sentinels, rig.count(Event::Retried)), (1, 1));
    assert_eq!(rig.inner.last().text(), restored_with(SENTINEL));
}

async fn request_of(rig: &Rig, session: &'static str, body: &Bytes) -> Got {
    rig.inner.will(whole("{}"));
    let mut request = request(GENERATE, body.clone());
    request.headers_mut().insert("x-session-id", session.parse().unwrap());
    rig.exchange(request).await
}

/// What the provider will miss is counted where the store could not be asked, too.
#[tokio::test]
async fn what_is_missed_is_counted_though_the_store_fails() {
    let store = TestStore::new();
    store.load_as(Mode::Fails);
    let rig = rig(store);
    let got = exchange(&rig, GENERATE, &Bytes::from_static(FOLLOW_UP.as_bytes()), [whole("{}")]).await;
    assert_eq!((got.report().missed, rig.count(Event::Missed), rig.count(Event::LoadFailed)), (1, 1, 1));
}

/// The dialects whose model stands in the body, before and behind the history.
#[tokio::test]
async fn the_model_may_stand_in_the_body() {
    const MESSAGES: &str = r#""messages":[{"role":"user","content":"How is the weather?"}]"#;
    let answer = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Grey.","reasoning_content":"It is November."},"finish_reason":"stop"}]}"#;
    for body in [
        format!(r#"{{"model":"deepseek-reasoner",{MESSAGES}}}"#),
        format!(r#"{{{MESSAGES},"model":"deepseek-reasoner"}}"#),
    ] {
        let rig = rig(TestStore::knowing());
        let uri = "https://api.deepseek.com/chat/completions";
        let got = exchange(&rig, uri, &Bytes::from(body.clone()), [whole(answer)]).await;
        assert_eq!((rig.store.loads(), got.report().learned), (0, 2), "{body}");
        let next = body.replace("}]", r#"},{"role":"assistant","content":"Grey."},{"role":"user","content":"Why?"}]"#);
        exchange(&rig, uri, &Bytes::from(next), [whole("{}")]).await;
        assert!(rig.inner.last().text().contains(r#""reasoning_content":"It is November.""#), "{body}");
    }
}
