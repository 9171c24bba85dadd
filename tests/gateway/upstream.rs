//! What stands behind the gateway.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tower::Service;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves a provider on a socket.
pub(crate) async fn serve<P, B>(provider: &P) -> SocketAddr
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    P::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    P::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (listener, address) = listen().await;
    let provider = provider.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(provider.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    listen().await.1
}

/// A request as it stood on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    /// With its chunks' lengths, if it came in chunks.
    pub(crate) body: Vec<u8>,
}

impl Received {
    async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = find(&bytes, b"\r\n\r\n") {
                break end;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = bytes.split_off(head + 4);
        let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let length: usize = value("content-length").map_or(0, |length| length.parse().unwrap());
        let is_chunked = value("transfer-encoding").is_some();
        while if is_chunked { !body.ends_with(b"0\r\n\r\n") } else { body.len() < length } {
            if stream.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        Some(Self { line, headers, body })
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// An upstream that answers requests with fixed bytes.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Recorder {
    /// Answers every request with the same.
    pub(crate) async fn answering(answer: &str) -> Self {
        Self::in_turn(vec![answer.to_owned()]).await
    }

    /// Answers one after the other, and then goes on with the last.
    pub(crate) async fn in_turn(answers: Vec<String>) -> Self {
        let (listener, address) = listen().await;
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let answers: Arc<[String]> = answers.into();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
                tokio::spawn(async move {
                    while let Some(request) = Received::read(&mut stream).await {
                        let answer = {
                            let mut log = log.lock().unwrap();
                            log.push(request);
                            &answers[(log.len() - 1).min(answers.len() - 1)]
                        };
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { address, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// An upstream that answers one request with an event, and with another when it is told to.
pub(crate) struct Stalling {
    pub(crate) address: SocketAddr,
    pub(crate) go_on: oneshot::Sender<()>,
    /// Resolves when the connection was closed before that.
    pub(crate) closed: oneshot::Receiver<()>,
}

impl Stalling {
    pub(crate) const FIRST: &str =
        "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"one\"}]}}]}\r\n\r\n";
    pub(crate) const SECOND: &str = "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"two\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n";

    pub(crate) async fn start() -> Self {
        Self::saying(Self::FIRST, Self::SECOND).await
    }

    pub(crate) async fn saying(first: &'static str, second: &'static str) -> Self {
        let (listener, address) = listen().await;
        let (go_on, go) = oneshot::channel();
        let (close, closed) = oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            Received::read(&mut stream).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(chunk(first).as_bytes()).await.unwrap();
            let mut byte = [0];
            tokio::select! {
                _ = go => {
                    stream.write_all(chunk(second).as_bytes()).await.unwrap();
                    stream.write_all(b"0\r\n\r\n").await.unwrap();
                }
                _ = stream.read(&mut byte) => close.send(()).unwrap(),
            }
        });
        Self { address, go_on, closed }
    }
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}
