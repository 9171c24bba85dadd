//! What an operator sees.

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Conversation, KEY, QUESTION, get, send},
    process::Gateway,
    upstream::{Recorder, nobody, serve},
};

#[tokio::test]
async fn own_paths_are_answered_and_never_forwarded() {
    let upstream = Recorder::answering("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nupstream").await;
    for flags in [&[][..], &["--no-replay"]] {
        let gateway = Gateway::before(upstream.address, flags);
        let health = get(gateway.address, "/healthz").await;
        assert_eq!((health.status, health.text()), (StatusCode::OK, "ok"));
        assert_eq!(get(gateway.address, "/healthz?x=1").await.text(), "ok");
        for path in ["/healthz", "/metrics"] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                let request = Request::builder().method(method).uri(path).header("host", "x");
                let answer = send(gateway.address, request.body(Full::from("{}")).unwrap()).await;
                assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
            }
        }
        assert_eq!(get(gateway.address, "/metrics").await.status, StatusCode::OK);
    }
    assert!(upstream.received().is_empty());
}

/// Checks the text format, and returns the names of the families.
pub(crate) fn families(text: &str) -> Vec<&str> {
    assert!(text.ends_with('\n'));
    let mut families = Vec::new();
    let mut series = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        assert!(!help.is_empty());
        let (typed, kind) = lines.next().unwrap().strip_prefix("# TYPE ").unwrap().split_once(' ').unwrap();
        assert_eq!(typed, name);
        assert!(matches!(kind, "counter" | "gauge"));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert!(!families.contains(&name), "{name} comes twice");
        families.push(name);
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (key, value) = sample.rsplit_once(' ').unwrap();
            value.parse::<u64>().unwrap();
            assert!(!series.contains(&key), "{key} comes twice");
            series.push(key);
            let labels = key.strip_prefix(name).unwrap();
            if !labels.is_empty() {
                let labels = labels.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
                for label in labels.split(',') {
                    let (label, value) = label.split_once('=').unwrap();
                    assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()));
                    assert!(value.len() > 2 && value.starts_with('"') && value.ends_with('"'));
                }
            }
        }
    }
    families
}

#[tokio::test]
async fn metrics_are_what_prometheus_reads() {
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let gateway = Gateway::before(upstream, &[]);
    Conversation::new("", true).turn(gateway.address).await;
    let metrics = get(gateway.address, "/metrics").await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = metrics.text();
    let families = families(text);
    for name in ["ledgers", "turns", "items", "bytes", "evicted_ledgers_total", "expired_ledgers_total"] {
        assert!(families.contains(&&*format!("reasoning_replay_store_{name}")), "{text}");
    }
    for line in [
        "reasoning_replay_events_total{dialect=\"gemini\",event=\"watched\"} 1\n",
        "reasoning_replay_events_total{dialect=\"gemini\",event=\"learned\"} 1\n",
        "reasoning_replay_events_total{dialect=\"cloud_code\",event=\"learned\"} 0\n",
        "reasoning_replay_store_ledgers 1\n",
        "reasoning_replay_store_turns 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }

    let bare = Gateway::before(upstream, &["--no-replay"]);
    let metrics = get(bare.address, "/metrics").await;
    assert_eq!(metrics.status, StatusCode::OK);
    assert_eq!(self::families(metrics.text()), ["gateway_info"]);
}

#[tokio::test]
async fn the_log_tells_no_secrets() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--tenant-header", "x-tenant"]);
    let start = || {
        let mut conversation = Conversation::new("", true);
        conversation.uri.push_str("&key=key-in-the-query");
        conversation.headers.extend([
            ("authorization", "Bearer token-of-the-caller"),
            ("x-session-id", "session-of-the-caller"),
            ("x-tenant", "tenant-of-the-caller"),
        ]);
        conversation
    };
    let mut conversation = start();
    for _ in 0..3 {
        assert_eq!(conversation.turn(gateway.address).await.status, StatusCode::OK);
    }
    // What goes wrong is logged too: a refusal that is healed, one that is not, and bytes that are no JSON.
    provider.revoke_signatures();
    let mut conversation = start();
    conversation.turn(gateway.address).await;
    provider.revoke_signatures();
    conversation.turn(gateway.address).await;
    provider.fail_next(StatusCode::INTERNAL_SERVER_ERROR);
    conversation.turn(gateway.address).await;
    send(gateway.address, conversation.request(Full::from("{\"contents\": no-json-of-the-caller"))).await;
    gateway.terminate();
    let ended = gateway.ended().await;

    let down = Gateway::before(nobody().await, &[]);
    start().turn(down.address).await;
    down.terminate();
    let log = ended.log + &down.ended().await.log;

    assert_eq!(ended.stdout, "");
    for shown in
        ["streamGenerateContent", "state is put back", "sent once more", "the upstream did not answer", "status=200"]
    {
        assert!(log.contains(shown), "{shown:?} is not in the log:\n{log}");
    }
    let mut secrets: Vec<String> =
        [KEY, QUESTION, "Umbrella", "umbrella", "Paris", "get_weather"].map(str::to_owned).into();
    secrets.extend(["-of-the-caller", "key-in-the-query", "key="].map(str::to_owned));
    secrets.extend(provider.issued().into_iter().map(|issued| issued.signature));
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret:?} is in the log:\n{log}");
    }
}
