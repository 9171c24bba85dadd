//! Clients that keep their connections.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::shape::Shape;

/// What the clients of one gateway have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: AtomicUsize,
    pub(crate) streams: AtomicUsize,
    pub(crate) ages: Mutex<Vec<Duration>>,
}

/// One connection to a gateway.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn ask(&mut self, path: &str, session: &str, body: Bytes) -> Incoming {
        let request = Request::post(path)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .header("x-api-key", "a credential of the caller")
            .header("session-id", session)
            .body(Full::new(body))
            .unwrap();
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        response.into_body()
    }

    /// How long the first byte of the answer takes.
    pub(crate) async fn first_byte(&mut self, path: &str, session: &str, body: Bytes) -> Duration {
        let began = Instant::now();
        let mut answer = self.ask(path, session, body).await;
        answer.frame().await.unwrap().unwrap();
        let took = began.elapsed();
        answer.collect().await.unwrap();
        took
    }

    /// Reads one stream to its end, and notes how old each event is on arrival.
    pub(crate) async fn stream(&mut self, shape: &Shape, session: &str, seen: Arc<Seen>) {
        let mut answer = self.ask(shape.path, session, shape.request.clone()).await;
        let mut begun = Vec::new();
        let mut is_first = true;
        while let Some(frame) = Pin::new(&mut answer).frame().await {
            let frame = frame.unwrap();
            let Some(data) = frame.data_ref() else { continue };
            // Paced events arrive one by one; now and then one is cut.
            let is_whole = data.ends_with(b"\n\n") || data.ends_with(b"\r\n\r\n");
            let age = if begun.is_empty() && is_whole {
                shape.age(data)
            } else {
                begun.extend_from_slice(data);
                if !is_whole {
                    continue;
                }
                let age = shape.age(&begun);
                begun.clear();
                age
            };
            let Some(age) = age else { continue };
            if std::mem::take(&mut is_first) {
                seen.streams.fetch_add(1, Ordering::Relaxed);
            }
            seen.events.fetch_add(1, Ordering::Relaxed);
            seen.ages.lock().unwrap().push(age);
        }
    }
}
