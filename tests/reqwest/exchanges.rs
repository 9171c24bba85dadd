//! What goes on as it came, what is sent in one piece, and how exchanges end.

use std::time::Duration;

use http::StatusCode;
use tower_reasoning_replay::{
    MemoryStore, OnStoreError, ReplayLayer,
    engine::Event,
    testing::gemini::{Chunks, GeminiProvider},
};

use crate::{
    client::{Answer, Ask, Body, Client, for_every_client, v0_12, v0_13},
    support::{
        body::{Scripted, Step, bytes},
        gemini,
        store::{Mode, TestStore},
    },
    talk::{Dialect, Talk},
    upstream::{Recorder, Stalling, nobody, serve},
};

for_every_client!(
    a_foreign_request_is_the_same_on_the_wire,
    a_streamed_body_is_repaired,
    a_body_over_the_limit_goes_on,
    a_body_that_fails_is_sent_so_far,
    a_repaired_request_follows_a_redirect,
    frames_are_not_held_back,
    a_client_that_goes_away_closes_the_connection,
    a_deadline_is_kept,
    an_error_is_that_of_the_client,
    a_body_that_breaks_off_says_so,
    a_store_that_fails_may_be_told,
);

const PATH: &str = "/v1beta/models/gemini-3-pro-preview:generateContent";

fn layer() -> ReplayLayer {
    ReplayLayer::new(MemoryStore::new())
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn streamed(steps: impl IntoIterator<Item = Step>) -> Body {
    Body::Streamed(Scripted::new(steps))
}

/// The bytes of a body that came in chunks.
fn unchunked(body: &[u8]) -> Vec<u8> {
    let (mut whole, mut rest) = (Vec::new(), body);
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let length = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
}

async fn a_foreign_request_is_the_same_on_the_wire<C: Client>() {
    let mut seen = Vec::new();
    for layer in [None, Some(layer())] {
        let upstream = Recorder::answering(&json("{}")).await;
        let client = C::new(layer.as_ref());
        let url = format!("http://{}/v1/embeddings", upstream.address);
        let body = streamed([bytes("{\"input\":"), Step::Pending, bytes("\"text\"}")]);
        let mut ask = Ask::new(url, body);
        ask.headers.push(("accept-encoding", "gzip"));
        let answer = client.ask(ask).await.unwrap();
        assert!(answer.report().is_none());
        assert_eq!(answer.text().await.unwrap(), "{}");
        let mut received = upstream.received();
        let mut received = received.pop().unwrap();
        received.headers.retain(|(name, _)| name != "host");
        seen.push((received.line, received.headers, received.body));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].2, b"9\r\n{\"input\":\r\n7\r\n\"text\"}\r\n0\r\n\r\n");
}

/// A session in which the call is known.
async fn learn<C: Client>(client: &C, address: std::net::SocketAddr) {
    let answer = client.ask(follow(address, Body::Whole(gemini::QUESTION.to_owned()))).await.unwrap();
    let report = answer.report().unwrap();
    assert_eq!(answer.text().await.unwrap(), gemini::document());
    assert_eq!(report.summary().learned, 2);
}

fn follow(address: std::net::SocketAddr, body: Body) -> Ask {
    let mut ask = Ask::new(format!("http://{address}{PATH}"), body);
    ask.headers.extend([("x-goog-api-key", "a key"), ("x-session-id", "a session")]);
    ask
}

async fn a_streamed_body_is_repaired<C: Client>() {
    let upstream = Recorder::answering(&json(&gemini::document())).await;
    let client = C::new(Some(&layer()));
    learn(&client, upstream.address).await;
    let (one, other) = gemini::FOLLOW_UP.split_at(100);
    let answer =
        client.ask(follow(upstream.address, streamed([bytes(one), Step::Pending, bytes(other)]))).await.unwrap();
    assert_eq!(answer.summary().restored, 1);
    let received = upstream.received().pop().unwrap();
    assert_eq!(String::from_utf8(received.body).unwrap(), gemini::restored());
    let header = |wanted: &str| received.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    assert_eq!(header("content-length"), Some(&*gemini::restored().len().to_string()));
    assert_eq!(header("accept-encoding"), Some("identity"));
}

async fn a_body_over_the_limit_goes_on<C: Client>() {
    let upstream = Recorder::answering(&json(&gemini::document())).await;
    let layer = ReplayLayer::builder(MemoryStore::new()).max_request(150).build_layer().unwrap();
    let client = C::new(Some(&layer));
    let pieces = gemini::cut(gemini::FOLLOW_UP, 100);
    let answer = client.ask(follow(upstream.address, streamed(pieces.into_iter().map(Step::Data)))).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), gemini::document());
    assert_eq!(unchunked(&upstream.received()[0].body), gemini::FOLLOW_UP.as_bytes());
    assert_eq!(layer.engine().counters().get(Event::Unread), 1);
}

async fn a_body_that_fails_is_sent_so_far<C: Client>() {
    let upstream = Recorder::answering(&json(&gemini::document())).await;
    let layer = layer();
    let client = C::new(Some(&layer));
    let failure = client.ask(follow(upstream.address, streamed([bytes("{"), Step::Error(1)]))).await.unwrap_err();
    assert!(failure.says("a scripted error"), "{failure:?}");
    assert_eq!(layer.engine().counters().get(Event::Unread), 1);
}

async fn a_repaired_request_follows_a_redirect<C: Client>() {
    let moved = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere{PATH}\r\ncontent-length: 0\r\n\r\n");
    let upstream = Recorder::in_turn(vec![json(&gemini::document()), moved, json(&gemini::document())]).await;
    let client = C::new(Some(&layer()));
    learn(&client, upstream.address).await;
    let answer = client.ask(follow(upstream.address, Body::Whole(gemini::FOLLOW_UP.to_owned()))).await.unwrap();
    assert_eq!(answer.url(), format!("http://{}/elsewhere{PATH}", upstream.address));
    let received = upstream.received();
    assert_eq!(received.len(), 3);
    for request in &received[1..] {
        assert_eq!(str::from_utf8(&request.body).unwrap(), gemini::restored());
    }
}

fn stream(upstream: &Stalling) -> Talk {
    Talk::new(format!("http://{}", upstream.address), Dialect::Gemini, true)
}

async fn frames_are_not_held_back<C: Client>() {
    let upstream = Stalling::start().await;
    let client = C::new(Some(&layer()));
    let mut answer = client.ask(stream(&upstream).ask()).await.unwrap();
    assert!(answer.headers().contains_key("content-type"));
    assert_eq!(answer.chunk().await.unwrap().unwrap(), Stalling::FIRST);
    upstream.go_on.send(()).unwrap();
    assert_eq!(answer.text().await.unwrap(), Stalling::SECOND);
}

async fn a_client_that_goes_away_closes_the_connection<C: Client>() {
    let upstream = Stalling::start().await;
    let client = C::new(Some(&layer()));
    let mut answer = client.ask(stream(&upstream).ask()).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), Stalling::FIRST);
    drop(answer);
    tokio::time::timeout(Duration::from_secs(10), upstream.closed).await.expect("it stays open").unwrap();
    drop(upstream.go_on);
}

async fn a_deadline_is_kept<C: Client>() {
    let upstream = Stalling::start().await;
    let client = C::new(Some(&layer()));
    let mut ask = stream(&upstream).ask();
    ask.timeout = Some(Duration::from_millis(300));
    let mut answer = client.ask(ask).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), Stalling::FIRST);
    let failure = answer.chunk().await.unwrap_err();
    assert!(failure.timed_out, "{failure:?}");
    drop(upstream.go_on);
}

async fn an_error_is_that_of_the_client<C: Client>() {
    let address = nobody().await;
    let ask = || follow(address, Body::Whole(gemini::QUESTION.to_owned()));
    let bare = C::new(None).ask(ask()).await.unwrap_err();
    assert_eq!(C::new(Some(&layer())).ask(ask()).await.unwrap_err(), bare);
}

async fn a_body_that_breaks_off_says_so<C: Client>() {
    let mut failures = Vec::new();
    for layer in [None, Some(layer())] {
        let provider = GeminiProvider::builder()
            .chunks(Chunks::Bytes(10))
            .stall(1, Duration::from_millis(50))
            .cut_after(20)
            .build();
        let talk = Talk::new(format!("http://{}", serve(&provider).await), Dialect::Gemini, true);
        let answer = C::new(layer.as_ref()).ask(talk.ask()).await.unwrap();
        failures.push(answer.text().await.unwrap_err());
    }
    let (bare, watched) = (&failures[0], &failures[1]);
    assert_eq!(watched.chain[0], bare.chain[0]);
    assert!(watched.chain.ends_with(&bare.chain[1..]), "{failures:?}");
}

async fn a_store_that_fails_may_be_told<C: Client>() {
    let store = TestStore::remote();
    store.load_as(Mode::Fails);
    let layer = ReplayLayer::builder(store).on_store_error(OnStoreError::Fail).build_layer().unwrap();
    let address = nobody().await;
    let answer = C::new(Some(&layer)).ask(follow(address, Body::Whole(gemini::FOLLOW_UP.to_owned()))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.url(), format!("http://{address}{PATH}"));
}

/// Another middleware lets go of a request and makes it again: its extensions are what they were.
async fn extensions_outlive_a_dropped_attempt<C: Client>(client: impl Fn(&ReplayLayer) -> C) {
    let layer = layer();
    let provider = GeminiProvider::builder().head_delay(Duration::from_secs(5)).faults_only_at(1).build();
    let mut talk = Talk::new(format!("http://{}", serve(&provider).await), Dialect::Gemini, false);
    talk.tenant = Some("one");
    assert!(talk.turn(&C::new(Some(&layer))).await);
    let answer = client(&layer).ask(talk.ask()).await.unwrap();
    assert_eq!((answer.status(), answer.summary().restored), (StatusCode::OK, 1));
}

#[tokio::test]
async fn extensions_outlive_a_dropped_attempt_0_4() {
    extensions_outlive_a_dropped_attempt(v0_12::Middleware::impatient).await;
}

#[tokio::test]
async fn extensions_outlive_a_dropped_attempt_0_5() {
    extensions_outlive_a_dropped_attempt(v0_13::Middleware::impatient).await;
}
