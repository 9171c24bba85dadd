use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::{
    body::{RequestBody, ResponseBody},
    engine::Engine,
    future::ResponseFuture,
};

/// An HTTP client service that puts remembered reasoning state back into requests, and remembers that
/// of responses.
///
/// Errors are those of the inner service, always. A request that is none of ours goes to the inner
/// service at once, with its body unread.
///
/// # Cancellation
///
/// Dropping the future drops the inner one. Dropping a response body keeps, provisionally, what was
/// complete.
#[derive(Clone, Debug)]
pub struct ReplayService<S> {
    inner: S,
    engine: Engine,
}

impl<S> ReplayService<S> {
    /// Wraps a service.
    #[must_use]
    pub fn new(inner: S, engine: Engine) -> Self {
        Self { inner, engine }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl<S, B, R> Service<Request<B>> for ReplayService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let Some(watch) = self.engine.watch(&head) else {
            let request = Request::from_parts(head, RequestBody::untouched(body));
            return ResponseFuture::pass(self.inner.call(request));
        };
        // The service that was polled to readiness makes the call; a fresh clone stays behind.
        let fresh = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, fresh);
        ResponseFuture::watch(ready, self.engine.clone(), watch, head, body)
    }
}
