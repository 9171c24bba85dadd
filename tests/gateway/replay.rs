//! What the gateway is for, and the flags that change it.

use http::StatusCode;
use http_body_util::Full;
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Chunked, Conversation, get, send},
    process::Gateway,
    upstream::serve,
};

#[tokio::test]
async fn a_forgetful_client_gets_through_a_tool_loop() {
    for stream in [false, true] {
        let provider = GeminiProvider::new();
        let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off"]);
        let mut conversation = Conversation::new("", stream);
        for turn in 0..4 {
            let answer = conversation.turn(gateway.address).await;
            assert_eq!(answer.status, StatusCode::OK, "turn {turn}, stream {stream}: {}", answer.text());
        }
        assert_eq!((provider.accepted(), provider.refused()), (4, 0));
        let requests = provider.requests();
        let genuine: Vec<usize> = requests.iter().map(|request| request.genuine).collect();
        assert!(genuine[1] >= 1 && genuine[2] >= 2 && genuine[3] >= 2, "{genuine:?}");
        assert!(requests.iter().all(|request| request.sentinels == 0));
        assert!(requests.iter().all(|request| request.headers["accept-encoding"] == "identity"));

        let metrics = get(gateway.address, "/metrics").await;
        let restored = metrics.text().lines().find(|line| line.contains("dialect=\"gemini\",event=\"restored\""));
        let restored: usize = restored.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        assert_eq!(restored, genuine.iter().sum::<usize>());
        assert!(metrics.text().contains("\nreasoning_replay_store_turns 4\n"), "{}", metrics.text());
    }
}

#[tokio::test]
async fn without_the_layer_the_refusal_arrives_as_it_is() {
    for stream in [false, true] {
        let provider = GeminiProvider::new();
        let upstream = serve(&provider).await;
        let gateway = Gateway::before(upstream, &["--no-replay"]);
        let mut conversation = Conversation::new("", stream);
        conversation.headers.push(("accept-encoding", "br"));
        assert_eq!(conversation.turn(gateway.address).await.status, StatusCode::OK);
        let through = conversation.ask(gateway.address).await;
        let direct = conversation.ask(upstream).await;
        assert_eq!(through.status, StatusCode::BAD_REQUEST);
        assert!(through.text().contains("thought_signature"), "{}", through.text());
        assert_eq!(through.body, direct.body);
        let requests = provider.requests();
        assert_eq!(requests[1].body, conversation.body());
        assert_eq!(requests[1].headers["accept-encoding"], "br");
    }
}

#[tokio::test]
async fn heal_and_fallback_decide_about_unknown_state() {
    let cases: [(&[&str], StatusCode, usize, usize); 5] = [
        (&[], StatusCode::OK, 2, 1),
        (&["--heal=off"], StatusCode::BAD_REQUEST, 1, 0),
        (&["--fallback", "off"], StatusCode::BAD_REQUEST, 1, 0),
        (&["--fallback", "always"], StatusCode::OK, 1, 1),
        (&["--fallback=always", "--heal", "off"], StatusCode::OK, 1, 1),
    ];
    for (flags, status, requests, sentinels) in cases {
        let provider = GeminiProvider::new();
        let gateway = Gateway::before(serve(&provider).await, flags);
        let answer = Conversation::with_unknown_call().ask(gateway.address).await;
        assert_eq!(answer.status, status, "{flags:?}: {}", answer.text());
        let seen = provider.requests();
        assert_eq!(seen.len(), requests, "{flags:?}");
        assert_eq!(seen[requests - 1].sentinels, sentinels, "{flags:?}");
    }
}

#[tokio::test]
async fn invalid_state_is_healed_once() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &[]);
    let mut conversation = Conversation::new("", true);
    conversation.turn(gateway.address).await;
    provider.revoke_signatures();
    let answer = conversation.turn(gateway.address).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!((provider.accepted(), provider.refused()), (2, 1));
}

#[tokio::test]
async fn a_body_over_the_limit_passes_unpatched() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off", "--max-body", "200"]);
    let mut conversation = Conversation::new("", false);
    assert!(conversation.body().len() < 200);
    conversation.turn(gateway.address).await;
    let body = conversation.body();
    assert!(body.len() > 200);

    let told = send(gateway.address, conversation.request(Full::from(body.clone()))).await;
    let found_out = send(gateway.address, conversation.request(Chunked::new(&body))).await;
    assert_eq!([told.status, found_out.status], [StatusCode::BAD_REQUEST; 2]);
    let requests = provider.requests();
    assert_eq!([&requests[1].body, &requests[2].body], [body.as_bytes(); 2]);
    assert!(get(gateway.address, "/metrics").await.text().contains("event=\"unread\"} 2\n"));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_patched() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off"]);
    let mut conversation = Conversation::new("", false);
    conversation.turn(gateway.address).await;
    let answer = send(gateway.address, conversation.request(Chunked::new(&conversation.body()))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[tokio::test]
async fn an_encoded_colon_makes_no_difference() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off"]);
    let mut conversation = Conversation::new("", true);
    conversation.turn(gateway.address).await;
    conversation.uri = conversation.uri.replace(':', "%3A");
    let answer = conversation.ask(gateway.address).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[tokio::test]
async fn tenants_are_told_apart_by_their_header() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off", "--tenant-header", "x-tenant"]);
    let of = |tenant| {
        let mut conversation = Conversation::new("", false);
        conversation.headers.push(("x-session-id", "one-session"));
        conversation.headers.push(("x-tenant", tenant));
        conversation
    };
    let mut conversation = of("red");
    conversation.turn(gateway.address).await;
    let mut stranger = conversation.clone();
    stranger.headers = of("blue").headers;
    assert_eq!(stranger.ask(gateway.address).await.status, StatusCode::BAD_REQUEST);
    // The same tenant with another key is the same tenant.
    conversation.headers[0] = ("x-goog-api-key", "another-key");
    assert_eq!(conversation.ask(gateway.address).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_the_header_tenants_are_told_apart_by_their_keys() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off"]);
    let mut conversation = Conversation::new("", false);
    conversation.headers.push(("x-session-id", "one-session"));
    conversation.turn(gateway.address).await;
    let mut stranger = conversation.clone();
    stranger.headers[0] = ("x-goog-api-key", "another-key");
    assert_eq!(stranger.ask(gateway.address).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(conversation.ask(gateway.address).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_full_store_forgets_the_oldest_conversation() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off", "--max-ledgers", "1"]);
    let [mut first, mut second] = ["first", "second"].map(|session| {
        let mut conversation = Conversation::new("", false);
        conversation.headers.push(("x-session-id", session));
        conversation
    });
    first.turn(gateway.address).await;
    second.turn(gateway.address).await;
    assert_eq!(first.ask(gateway.address).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(second.ask(gateway.address).await.status, StatusCode::OK);
}
