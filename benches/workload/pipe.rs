//! Hyper on both ends of a pipe, in one thread: what a gateway does with a response, and nothing else.

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt};
use tower_reasoning_replay::{ReplayLayer, ReplayService, RequestBody};

use super::{store, talk::Dialect};

/// These frames, one in each poll.
struct Frames(Arc<[Bytes]>, usize);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.get(self.1).cloned();
        self.1 += 1;
        Poll::Ready(next.map(|frame| Ok(Frame::data(frame))))
    }
}

/// A connection to a provider that answers with frames.
struct Connection<B>(Arc<Mutex<SendRequest<B>>>);

impl<B> Clone for Connection<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn open(frames: Arc<[Bytes]>) -> Self {
        let (near, far) = tokio::io::duplex(256 << 10);
        let serve = hyper::service::service_fn(move |request: Request<Incoming>| {
            let frames = frames.clone();
            async move {
                request.into_body().collect().await?;
                let response = Response::builder().header("content-type", "text/event-stream");
                Ok::<_, hyper::Error>(response.body(Frames(frames, 0)).unwrap())
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), serve));
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        Self(Arc::new(Mutex::new(sender)))
    }
}

impl<B: Body + Send + 'static> Service<Request<B>> for Connection<B> {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.lock().unwrap().poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.0.lock().unwrap().send_request(request))
    }
}

/// The same provider behind two connections, with the layer and without it.
pub struct Pipe {
    runtime: Runtime,
    dialect: Dialect,
    request: Bytes,
    bare: Connection<Full<Bytes>>,
    layered: ReplayService<Connection<RequestBody<Full<Bytes>>>>,
}

impl Pipe {
    pub fn new(dialect: Dialect, frames: Vec<Bytes>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let frames: Arc<[Bytes]> = frames.into();
        let (bare, layered) =
            runtime.block_on(async { (Connection::open(frames.clone()).await, Connection::open(frames).await) });
        let layer = ReplayLayer::builder(store())
            .hash_key(tower_reasoning_replay::scope::HashKey::from_bytes([7; 32]))
            .build_layer()
            .unwrap();
        let request = dialect.question();
        Self { runtime, dialect, request, bare, layered: layer.layer(layered) }
    }

    pub fn bare(&self) {
        self.runtime.block_on(self.exchange(self.bare.clone()));
    }

    pub fn layered(&self) {
        self.runtime.block_on(self.exchange(self.layered.clone()));
    }

    async fn exchange<S, R>(&self, service: S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<R>>,
        S::Error: std::fmt::Debug,
        R: Body<Data = Bytes>,
        R::Error: std::fmt::Debug,
    {
        let request = Request::from_parts(self.dialect.head(), Full::new(self.request.clone()));
        let response = service.oneshot(request).await.unwrap();
        let mut body = std::pin::pin!(response.into_body());
        while let Some(frame) = body.frame().await {
            black_box(frame.unwrap());
        }
    }
}
