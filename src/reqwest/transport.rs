//! A service of reqwest's types, in the types of `http`.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::version::ClientRequest;
use crate::body::RequestBody;

/// Sends what the layer makes of one request.
pub(super) struct Transport<Q, S> {
    service: S,
    /// The request without headers and body. Timeouts and extensions are in no `http::Request`.
    request: Arc<Q>,
}

impl<Q, S> Transport<Q, S> {
    pub(super) fn new(service: S, request: Q) -> Self {
        Self { service, request: Arc::new(request) }
    }
}

impl<Q, S: Clone> Clone for Transport<Q, S> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), request: Arc::clone(&self.request) }
    }
}

impl<Q, S> fmt::Debug for Transport<Q, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// Where a response came from, after redirects.
#[derive(Clone)]
pub(super) struct FinalUrl<U>(pub(super) U);

impl<Q, S> Service<Request<RequestBody<Q::Body>>> for Transport<Q, S>
where
    Q: ClientRequest,
    S: Service<Q, Response = Q::Response>,
{
    type Response = Response<Q::Body>;
    type Error = S::Error;
    type Future = Sent<Q, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody<Q::Body>>) -> Self::Future {
        let (head, body) = request.into_parts();
        let mut request = self.request.again();
        *request.headers_mut() = head.headers;
        request.set_body(Q::body(body));
        Sent { future: self.service.call(request), request: PhantomData }
    }
}

pin_project! {
    /// A request under way.
    pub struct Sent<Q, F> {
        #[pin]
        future: F,
        request: PhantomData<fn() -> Q>,
    }
}

impl<Q, F, E> Future for Sent<Q, F>
where
    Q: ClientRequest,
    F: Future<Output = Result<Q::Response, E>>,
{
    type Output = Result<Response<Q::Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut response, url) = Q::taken(ready!(self.project().future.poll(cx))?);
        response.extensions_mut().insert(FinalUrl(url));
        Poll::Ready(Ok(response))
    }
}

impl<Q, F> fmt::Debug for Sent<Q, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent").finish_non_exhaustive()
    }
}
