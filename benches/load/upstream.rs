//! A provider that answers from a script, on a thread of its own.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    time::{Instant, Sleep},
};

use crate::shape::Shape;

/// What the upstream answers from now on.
#[derive(Clone)]
pub(crate) enum Script {
    /// These bytes.
    Whole(Bytes),
    /// Events at this distance, until it is told to stop.
    Paced(Arc<Shape>, Duration),
    /// All events of the shape, as fast as they are taken.
    Flood(Arc<Shape>),
}

pub(crate) struct Upstream {
    script: Mutex<Script>,
    pub(crate) stop: AtomicBool,
    /// Each stream begins at another of the events.
    next: AtomicUsize,
    /// The last request, as it arrived.
    pub(crate) asked: Mutex<Bytes>,
}

impl Upstream {
    pub(crate) fn start() -> (Arc<Self>, SocketAddr) {
        let upstream = Arc::new(Self {
            script: Mutex::new(Script::Whole(Bytes::new())),
            stop: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            asked: Mutex::new(Bytes::new()),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let serving = upstream.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serving.serve(listener));
        });
        (upstream, address)
    }

    pub(crate) fn play(&self, script: Script) {
        self.stop.store(false, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        *self.script.lock().unwrap() = script;
    }

    async fn serve(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let upstream = self.clone();
            let service = service_fn(move |request| upstream.clone().answer(request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, hyper::Error> {
        let body = request.into_body().collect().await?.to_bytes();
        *self.asked.lock().unwrap() = body;
        let script = self.script.lock().unwrap().clone();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Streams do not tick together, and together they say all of the events.
        let begin = match &script {
            Script::Paced(shape, _) => number.wrapping_mul(1_237) % shape.events.len(),
            _ => 0,
        };
        let wait = match &script {
            Script::Paced(_, pace) => pace.mul_f64((number as f64 * 0.618).fract()),
            _ => Duration::ZERO,
        };
        let timer = Box::pin(tokio::time::sleep(wait));
        let answer = Answer { upstream: self, script, said: 0, begin, timer, over: false };
        Ok(Response::builder().header("content-type", "text/event-stream").body(answer).unwrap())
    }
}

/// One answer; a frame, and so a chunk on the wire, for each event.
struct Answer {
    upstream: Arc<Upstream>,
    script: Script,
    said: usize,
    begin: usize,
    timer: Pin<Box<Sleep>>,
    over: bool,
}

impl Answer {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.over {
            return Poll::Ready(None);
        }
        let said = self.said;
        let (shape, is_over) = match &self.script {
            Script::Whole(body) => {
                self.over = true;
                return Poll::Ready(Some(body.clone()));
            }
            Script::Paced(shape, pace) => {
                if let Some(first) = shape.first.get(said) {
                    self.said += 1;
                    return Poll::Ready(Some(first.clone()));
                }
                ready!(self.timer.as_mut().poll(cx));
                // A stream that is late does not catch up.
                self.timer.as_mut().reset(Instant::now() + *pace);
                (shape, self.upstream.stop.load(Ordering::Relaxed))
            }
            Script::Flood(shape) => {
                if let Some(first) = shape.first.get(said) {
                    self.said += 1;
                    return Poll::Ready(Some(first.clone()));
                }
                (shape, said - shape.first.len() == shape.events.len())
            }
        };
        self.said += 1;
        if is_over {
            self.over = true;
            return Poll::Ready(Some(shape.last.clone()));
        }
        Poll::Ready(Some(match &self.script {
            Script::Flood(_) => shape.events[said - shape.first.len()].clone(),
            _ => shape.stamped(self.begin + said),
        }))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.next(cx).map(|next| next.map(|data| Ok(Frame::data(data))))
    }
}
