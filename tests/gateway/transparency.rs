//! Nothing changes on the way but what has to.

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Conversation, MODEL, raw, send, soon},
    process::Gateway,
    upstream::{Received, Recorder, serve},
};

const ANSWER: &str = "HTTP/1.1 418 Short And Stout\r\n\
    Server: kettle\r\n\
    Set-Cookie: a=1\r\n\
    Connection: keep-alive, X-Secret-Hop\r\n\
    Keep-Alive: timeout=5\r\n\
    X-Secret-Hop: gone\r\n\
    Proxy-Authenticate: Basic\r\n\
    Upgrade: h2c\r\n\
    Set-Cookie: b=2\r\n\
    Retry-After: 7\r\n\
    Content-Length: 5\r\n\
    Content-Type: text/weird; a=\"b\"\r\n\
    \r\n\
    stout";

/// By name; the order within a name is kept.
fn sorted(mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.sort_by(|one, other| one.0.cmp(&other.0));
    headers
}

fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    sorted(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

async fn through(flags: &[&str], target: &str, body: &str) -> (Received, String, String) {
    let upstream = Recorder::answering(ANSWER).await;
    let gateway = Gateway::before(upstream.address, flags);
    let request = format!(
        "POST {target} HTTP/1.1\r\n\
         Host: gateway.example\r\n\
         X-Twice: one\r\n\
         User-Agent: Raw/1\r\n\
         Accept-Encoding: gzip, br\r\n\
         Content-Type: application/json\r\n\
         X-Twice: two, three\r\n\
         Connection: close, X-Hop\r\n\
         X-Hop: gone\r\n\
         Keep-Alive: timeout=9\r\n\
         Proxy-Authorization: Basic eDp5\r\n\
         Proxy-Connection: keep-alive\r\n\
         TE: trailers\r\n\
         Trailer: x-sum\r\n\
         Upgrade: websocket\r\n\
         Authorization: Bearer t\r\n\
         X-Empty: \r\n\
         Forwarded: for=1.2.3.4\r\n\
         Content-Length: {}\r\n\
         \r\n\
         {body}",
        body.len()
    );
    let answer = raw(gateway.address, &request).await;
    let authority = upstream.address.to_string();
    let mut received = upstream.received();
    assert_eq!(received.len(), 1, "{answer}");
    (received.remove(0), answer, authority)
}

fn expected(authority: &str, length: usize, encoding: &str) -> Vec<(String, String)> {
    pairs(&[
        ("host", authority),
        ("x-twice", "one"),
        ("x-twice", "two, three"),
        ("user-agent", "Raw/1"),
        ("accept-encoding", encoding),
        ("content-type", "application/json"),
        ("authorization", "Bearer t"),
        ("x-empty", ""),
        ("forwarded", "for=1.2.3.4"),
        ("content-length", &length.to_string()),
    ])
}

fn check_answer(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "stout");
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 418 Short And Stout"));
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    // `connection` is the gateway's own: the client asked for it.
    let expected = [
        ("server", "kettle"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("retry-after", "7"),
        ("content-length", "5"),
        ("content-type", "text/weird; a=\"b\""),
        ("connection", "close"),
    ];
    assert_eq!(sorted(headers), pairs(&expected));
}

#[tokio::test]
async fn headers_of_other_requests_are_left_alone() {
    for flags in [&[][..], &["--no-replay"]] {
        let (received, answer, authority) = through(flags, "/v1/other?x=1", "{\"a\": 1}").await;
        assert_eq!(received.line, "POST /v1/other?x=1 HTTP/1.1");
        assert_eq!(sorted(received.headers), expected(&authority, 8, "gzip, br"));
        assert_eq!(received.body, b"{\"a\": 1}");
        check_answer(&answer);
    }
}

#[tokio::test]
async fn a_watched_request_asks_for_an_answer_that_can_be_read() {
    let body = r#"{ "contents": [{"role":"user","parts":[{"text":"hi\u0021"}]}] }"#;
    let (received, answer, authority) = through(&[], &format!("{MODEL}:generateContent?key=k"), body).await;
    assert_eq!(received.line, format!("POST {MODEL}:generateContent?key=k HTTP/1.1"));
    assert_eq!(sorted(received.headers), expected(&authority, body.len(), "identity"));
    assert_eq!(received.body, body.as_bytes());
    check_answer(&answer);
}

#[tokio::test]
async fn a_get_stays_bare() {
    let upstream = Recorder::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let gateway = Gateway::before(upstream.address, &[]);
    let answer = raw(gateway.address, "GET /v1beta/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    assert_eq!(upstream.received()[0].headers, pairs(&[("host", &upstream.address.to_string())]));
}

#[tokio::test]
async fn the_length_of_an_answer_to_head_is_kept() {
    let upstream = Recorder::answering("HTTP/1.1 200 OK\r\nContent-Length: 4711\r\n\r\n").await;
    let gateway = Gateway::before(upstream.address, &[]);
    let answer = raw(gateway.address, "HEAD /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 4711\r\nconnection: close\r\n\r\n");
}

#[tokio::test]
async fn a_body_in_chunks_stays_one() {
    let upstream =
        Recorder::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n").await;
    let gateway = Gateway::before(upstream.address, &[]);
    let request = "POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let answer = raw(gateway.address, request).await;
    assert!(answer.ends_with("\r\n\r\n3\r\none\r\n0\r\n\r\n"), "{answer}");
    let received = upstream.received();
    assert_eq!(received[0].body, b"4\r\nbody\r\n0\r\n\r\n");
    let expected = [("host", &*upstream.address.to_string()), ("transfer-encoding", "chunked")];
    assert_eq!(sorted(received[0].headers.clone()), pairs(&expected));
}

#[tokio::test]
async fn callers_may_speak_http_2() {
    let provider = GeminiProvider::new();
    let gateway = Gateway::before(serve(&provider).await, &["--fallback", "off"]);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut conversation = Conversation::new("", true);
    conversation.uri = format!("http://{}{}", gateway.address, conversation.uri);
    let request = || {
        let mut request: Request<Full<Bytes>> = conversation.request(Full::from(conversation.body()));
        request.headers_mut().remove("host");
        request
    };
    let (one, two) = (sender.send_request(request()), sender.send_request(request()));
    let (one, two) = soon(async { tokio::join!(one, two) }).await;
    for response in [one.unwrap(), two.unwrap()] {
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
        assert!(body.starts_with(b"data: {"));
    }
    assert!(!provider.requests()[0].headers.contains_key("te"));
    // What was learned over one version serves the other.
    conversation.uri = conversation.uri.split_once("/v1beta").map(|(_, path)| format!("/v1beta{path}")).unwrap();
    conversation.turn(gateway.address).await;
    let answer = send(gateway.address, conversation.request(Full::from(conversation.body()))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}
