//! Streams arrive as they come, and end as they should.

use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    client::{Conversation, get, open, soon},
    process::Gateway,
    upstream::Stalling,
};

#[tokio::test]
async fn an_event_does_not_wait_for_the_next() {
    for flags in [&[][..], &["--no-replay"]] {
        let upstream = Stalling::start().await;
        let gateway = Gateway::before(upstream.address, flags);
        let conversation = Conversation::new("", true);
        let response = open(gateway.address, conversation.request(Full::from(conversation.body()))).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        // The upstream stalls for as long as this has not come.
        let first = soon(body.frame()).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, Stalling::FIRST);
        upstream.go_on.send(()).unwrap();
        assert_eq!(soon(body.collect()).await.unwrap().to_bytes(), Stalling::SECOND);
    }
}

#[tokio::test]
async fn a_request_that_is_not_watched_is_not_collected() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::before(upstream.local_addr().unwrap(), &[]);
    let mut caller = TcpStream::connect(gateway.address).await.unwrap();
    caller.write_all(b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf").await.unwrap();
    let (mut stream, _) = soon(upstream.accept()).await.unwrap();
    let mut seen = Vec::new();
    // The rest is not even written yet.
    while !seen.ends_with(b"half") {
        assert_ne!(soon(stream.read_buf(&mut seen)).await.unwrap(), 0);
    }
    caller.write_all(b"rest").await.unwrap();
    while !seen.ends_with(b"halfrest") {
        assert_ne!(soon(stream.read_buf(&mut seen)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_connection_upstream() {
    for flags in [&[][..], &["--no-replay"]] {
        let upstream = Stalling::start().await;
        let gateway = Gateway::before(upstream.address, flags);
        let conversation = Conversation::new("", true);
        let response = open(gateway.address, conversation.request(Full::from(conversation.body()))).await;
        let mut body = response.into_body();
        soon(body.frame()).await.unwrap().unwrap();
        drop(body);
        soon(upstream.closed).await.unwrap();
        assert_eq!(get(gateway.address, "/healthz").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_stream_under_way_is_finished_before_the_process_ends() {
    let upstream = Stalling::start().await;
    let mut gateway = Gateway::before(upstream.address, &[]);
    let address = gateway.address;
    let conversation = Conversation::new("", true);
    let response = open(address, conversation.request(Full::from(conversation.body()))).await;
    let mut body = response.into_body();
    soon(body.frame()).await.unwrap().unwrap();
    gateway.terminate();
    // No new connection is taken any more, and the old one lives.
    soon(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(gateway.is_running());
    upstream.go_on.send(()).unwrap();
    assert_eq!(soon(body.collect()).await.unwrap().to_bytes(), Stalling::SECOND);
    let ended = gateway.ended().await;
    assert!(ended.status.success(), "{:?}", ended.status);
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let gateway = Gateway::start(&[]);
    // A connection that is kept alive does not hold it up.
    let _idle = TcpStream::connect(gateway.address).await.unwrap();
    gateway.terminate();
    assert!(gateway.ended().await.status.success());
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let upstream = Stalling::start().await;
    let gateway = Gateway::before(upstream.address, &[]);
    let conversation = Conversation::new("", true);
    let response = open(gateway.address, conversation.request(Full::from(conversation.body()))).await;
    gateway.terminate();
    soon(async {
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    gateway.terminate();
    assert!(gateway.ended().await.status.success());
    drop(response);
}
