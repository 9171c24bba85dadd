//! Over sockets: HTTP/1.1 and HTTP/2, framing, trailers, flow control, connections.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{MemoryStore, ReplayLayer, ReplayService, Report, RequestBody, engine::Event};

use crate::support::{
    body::{Scripted, Step, trailers},
    gemini::{FOLLOW_UP, INVALID, QUESTION, SIGNATURE, call_part, document, error, event, post, restored, sse},
};

const SOON: Duration = Duration::from_secs(20);

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Arrived {
    version: Version,
    headers: HeaderMap,
    body: String,
    trailers: Option<HeaderMap>,
}

#[derive(Clone, Default)]
struct Server {
    connections: Arc<AtomicUsize>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Server {
    /// Answers each request with what `answer` makes of its number.
    async fn start<A, F, R>(&self, answer: A) -> SocketAddr
    where
        A: Fn(usize) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<R>> + Send + 'static,
        R: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                server.connections.fetch_add(1, Ordering::SeqCst);
                let (server, answer) = (server.clone(), answer.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (server, answer) = (server.clone(), answer.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap();
                        let trailers = body.trailers().cloned();
                        let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
                        let arrived = Arrived { version: head.version, headers: head.headers, body, trailers };
                        let number = {
                            let mut all = server.arrived.lock().unwrap();
                            all.push(arrived);
                            all.len() - 1
                        };
                        Ok::<_, Infallible>(answer(number).await)
                    }
                });
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        address
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }
}

type Upstream<B> = ReplayService<Client<HttpConnector, RequestBody<B>>>;

fn client<B: Body<Data = Bytes, Error: Send> + Send>(http2: bool) -> (ReplayLayer, Upstream<B>) {
    let layer = ReplayLayer::new(MemoryStore::new());
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .http2_only(http2)
        .http2_initial_stream_window_size(64 * 1024)
        .http2_initial_connection_window_size(64 * 1024);
    let client = layer.layer(builder.build_http());
    (layer, client)
}

fn uri(address: SocketAddr) -> String {
    format!("http://{address}/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse")
}

async fn answers(number: usize) -> Response<Full<Bytes>> {
    Response::new(Full::from(if number == 0 { document() } else { "{}".to_owned() }))
}

/// The client's body may come with a length or in chunks: what goes upstream is framed for the body that goes.
#[tokio::test]
async fn a_patched_body_is_framed_anew_over_either_protocol() {
    for (http2, has_length) in [(false, true), (false, false), (true, true), (true, false)] {
        let server = Server::default();
        let address = server.start(answers).await;
        let (_, client) = client::<Scripted>(http2);
        for body in [QUESTION, FOLLOW_UP] {
            let frames = body.as_bytes().chunks(50).map(|piece| Step::Data(Bytes::copy_from_slice(piece)));
            let mut request = post(&uri(address));
            if has_length {
                request = request.header("content-length", body.len());
            }
            let request = request.body(Scripted::new(frames)).unwrap();
            let response = timeout(SOON, client.clone().oneshot(request)).await.unwrap().unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap();
        }
        let last = server.arrived().pop().unwrap();
        assert_eq!(last.body, restored());
        assert_eq!(last.version == Version::HTTP_2, http2);
        let length = last.headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
        assert!(length.is_none_or(|length| length == restored().len().to_string()));
    }
}

/// Trailers may vouch for the body, so that one is not changed; both arrive.
#[tokio::test]
async fn trailers_of_a_request_arrive_with_the_body_as_it_came() {
    let server = Server::default();
    let address = server.start(answers).await;
    let (layer, client) = client::<Scripted>(true);
    for body in [QUESTION, FOLLOW_UP] {
        let body = Scripted::new([Step::Data(body.into()), Step::Trailers(trailers())]);
        let response = client.clone().oneshot(post(&uri(address)).body(body).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let arrived = server.arrived();
    assert_eq!(arrived[1].body, FOLLOW_UP);
    assert!(arrived.iter().all(|arrived| arrived.trailers == Some(trailers())));
    assert_eq!(layer.engine().counters().get(Event::Learned), 1);
}

/// Trailers of a response stand behind its body: of an answer that is observed, and of a refusal that is given back
/// after a second attempt.
#[tokio::test]
async fn trailers_of_a_response_arrive_over_either_protocol() {
    for http2 in [false, true] {
        let server = Server::default();
        let address = server
            .start(|number| async move {
                let (status, text) = if number == 0 { (200, document()) } else { (400, error(400, INVALID)) };
                let body = Scripted::new([Step::Data(text.into()), Step::Trailers(trailers())]);
                Response::builder().status(status).header("trailer", "x-trailer").body(body).unwrap()
            })
            .await;
        let (layer, client) = client::<Full<Bytes>>(http2);
        for (body, status) in [(QUESTION, 200), (FOLLOW_UP, 400)] {
            let request = post(&uri(address)).header("te", "trailers").body(Full::from(body)).unwrap();
            let response = timeout(SOON, client.clone().oneshot(request)).await.unwrap().unwrap();
            assert_eq!(response.status(), status);
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers(), Some(&trailers()), "http2: {http2}, {status}");
        }
        assert_eq!(layer.engine().counters().get(Event::Learned), 1);
        assert_eq!(server.arrived().len(), 3, "the refusal had a second attempt");
    }
}

/// The connection of the first attempt makes the second, once the refusal was read to its end.
#[tokio::test]
async fn a_second_attempt_reuses_the_connection() {
    for http2 in [false, true] {
        let server = Server::default();
        let address = server
            .start(|number| async move {
                let (status, text) = match number {
                    0 => (200, document()),
                    1 => (400, error(400, INVALID)),
                    _ => (200, "{}".to_owned()),
                };
                Response::builder().status(status).body(Full::<Bytes>::from(text)).unwrap()
            })
            .await;
        let (layer, client) = client::<Full<Bytes>>(http2);
        for body in [QUESTION, FOLLOW_UP, FOLLOW_UP] {
            let response = client.clone().oneshot(post(&uri(address)).body(Full::from(body)).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap();
            // The pool takes a connection back in a task of its own.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(layer.engine().counters().get(Event::Healed), 1);
        assert_eq!(server.arrived().len(), 4);
        assert_eq!(server.connections.load(Ordering::SeqCst), 1, "http2: {http2}");
    }
}

/// A long stream that counts what was taken from it, and tells when it was dropped.
struct Long {
    frames: VecDeque<Bytes>,
    taken: Arc<AtomicUsize>,
    _alive: Arc<()>,
}

const FRAMES: usize = 400;

impl Long {
    fn frames() -> VecDeque<Bytes> {
        let text = "x".repeat(16_000);
        let said = sse(&[event(&[serde_json::json!({ "text": text })], None)]);
        let mut frames = VecDeque::from(vec![Bytes::from(said); FRAMES]);
        frames.push_front(sse(&[event(&[call_part(SIGNATURE)], None)]).into());
        frames.push_back(sse(&[event(&[], Some("STOP"))]).into());
        frames
    }
}

impl Body for Long {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(self.frames.pop_front().map(|frame| Ok(Frame::data(frame))))
    }
}

/// The layer reads no faster than its client: over HTTP/2, what the client leaves stays with the provider. Then the
/// client gets every byte, or goes away, and the provider is told at once.
#[tokio::test]
async fn a_slow_reader_slows_the_provider_and_one_that_leaves_stops_it() {
    for leaves in [false, true] {
        let (taken, alive) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let (counter, held) = (taken.clone(), alive.clone());
        let address = Server::default()
            .start(move |_| {
                let long = Long { frames: Long::frames(), taken: counter.clone(), _alive: held.clone() };
                async move { Response::new(long) }
            })
            .await;
        let (layer, client) = client::<Full<Bytes>>(true);
        let response = client.oneshot(post(&uri(address)).body(Full::from(QUESTION)).unwrap()).await.unwrap();
        let mut body = response.into_body();
        let first = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let so_far = taken.load(Ordering::SeqCst);
        assert!(so_far < FRAMES / 4, "{so_far} frames were taken for a client that reads none");
        if leaves {
            // The head that the server holds is one more.
            let holders = Arc::strong_count(&alive);
            drop(body);
            let dropped = async {
                while Arc::strong_count(&alive) >= holders {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(SOON, dropped).await.unwrap();
            assert_eq!(layer.engine().counters().get(Event::LearnedProvisional), 1);
        } else {
            let rest = timeout(SOON, body.collect()).await.unwrap().unwrap().to_bytes();
            assert!([&first[..], &rest].concat() == Long::frames().into_iter().flatten().collect::<Vec<u8>>());
            assert_eq!(layer.engine().counters().get(Event::Learned), 1);
        }
    }
}

/// Early hints and the like are for the HTTP client; the answer is the one that is learned from.
#[tokio::test]
async fn an_interim_response_does_not_stand_for_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(QUESTION.as_bytes()) {
            assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
        }
        socket.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await.unwrap();
        let text = document();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
    });
    let (layer, client) = client::<Full<Bytes>>(false);
    let request = post(&uri(address)).body(Full::from(QUESTION)).unwrap();
    let response = timeout(SOON, client.oneshot(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.extensions().get::<Report>().is_some());
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), document());
    assert_eq!(layer.engine().counters().get(Event::Learned), 1);
}
