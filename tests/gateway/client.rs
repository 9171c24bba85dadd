//! A raw client, and one that remembers nothing but what it shows.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const MODEL: &str = "/v1beta/models/gemini-3-pro-preview";
pub(crate) const KEY: &str = "key-of-the-caller-4f1d";

/// Every exchange of these tests ends far sooner.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("this takes too long")
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// What the model says, as a client without a field for signatures and thoughts understands it.
    fn content(&self) -> Value {
        let is_stream = self.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let events: Vec<Value> = if is_stream {
            let events = self.text().split_terminator("\r\n\r\n");
            events.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
        } else {
            vec![serde_json::from_slice(&self.body).unwrap()]
        };
        let mut text = String::new();
        let mut calls = Vec::new();
        for event in &events {
            for part in event["candidates"][0]["content"]["parts"].as_array().into_iter().flatten() {
                if let Some(call) = part.get("functionCall") {
                    calls.push(json!({ "functionCall": call }));
                } else if part["thought"] != json!(true) {
                    text.push_str(part["text"].as_str().unwrap_or_default());
                }
            }
        }
        let texts = (!text.is_empty()).then(|| json!({ "text": text }));
        json!({"role": "model", "parts": texts.into_iter().chain(calls).collect::<Vec<_>>()})
    }
}

/// Sends a request over a connection of its own; the head of the response, with its body under way.
pub(crate) async fn open<B>(address: SocketAddr, request: Request<B>) -> http::Response<Incoming>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    soon(sender.send_request(request)).await.unwrap()
}

pub(crate) async fn send<B>(address: SocketAddr, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (head, body) = open(address, request).await.into_parts();
    let body = soon(body.collect()).await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, Request::get(path).header("host", "gateway").body(Full::default()).unwrap()).await
}

/// A body whose length is not told beforehand.
pub(crate) struct Chunked(VecDeque<Bytes>);

impl Chunked {
    pub(crate) fn new(body: &str) -> Self {
        let (one, other) = body.split_at(body.len() / 2);
        Self([one, other].map(|piece| Bytes::copy_from_slice(piece.as_bytes())).into())
    }
}

impl Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Sends bytes, and reads until the connection ends.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// A conversation of a client that drops all state.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) uri: String,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    contents: Vec<Value>,
}

impl Conversation {
    /// Begins one with a question. `prefix` stands before the path.
    pub(crate) fn new(prefix: &str, stream: bool) -> Self {
        let verb = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        Self {
            uri: format!("{prefix}{MODEL}:{verb}"),
            headers: vec![("x-goog-api-key", KEY)],
            contents: vec![json!({"role": "user", "parts": [{"text": QUESTION}]})],
        }
    }

    /// One whose model called a tool before this gateway was there.
    pub(crate) fn with_unknown_call() -> Self {
        let mut conversation = Self::new("", false);
        conversation.take(json!({
            "role": "model",
            "parts": [{"functionCall": {"name": "get_weather", "args": {"city": "Oslo"}}}],
        }));
        conversation
    }

    pub(crate) fn body(&self) -> String {
        json!({ "contents": self.contents }).to_string()
    }

    pub(crate) fn request<B>(&self, body: B) -> Request<B> {
        let request = Request::post(&*self.uri).header("host", "gateway").header("content-type", "application/json");
        let headers = self.headers.iter();
        headers.fold(request, |request, (name, value)| request.header(*name, *value)).body(body).unwrap()
    }

    /// Sends what there is, without taking the answer in.
    pub(crate) async fn ask(&self, address: SocketAddr) -> Answer {
        send(address, self.request(Full::from(self.body()))).await
    }

    /// Sends what there is; takes the answer in and answers its calls, or asks on.
    pub(crate) async fn turn(&mut self, address: SocketAddr) -> Answer {
        let answer = self.ask(address).await;
        if answer.status.is_success() {
            self.take(answer.content());
        }
        answer
    }

    fn take(&mut self, content: Value) {
        let calls = content["parts"].as_array().unwrap().iter().filter_map(|part| part.get("functionCall"));
        let mut parts: Vec<Value> = calls
            .map(|call| {
                let mut response = json!({"name": call["name"], "response": {"sky": "grey"}});
                if let Some(id) = call.get("id") {
                    response["id"] = id.clone();
                }
                json!({ "functionResponse": response })
            })
            .collect();
        if parts.is_empty() {
            parts.push(json!({"text": "And tomorrow?"}));
        }
        self.contents.push(content);
        self.contents.push(json!({"role": "user", "parts": parts}));
    }
}

pub(crate) const QUESTION: &str = "How is the weather in the city of secrets?";
