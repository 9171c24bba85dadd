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
/// A request that is none of ours goes to the inner service at once, with its body unread. The response to
/// any other carries a [`Report`](crate::Report) in its extensions.
///
/// # Readiness
///
/// `poll_ready` is that of the inner service. The instance that was polled to readiness makes the call; a clone
/// of it stays behind. A second attempt after a refusal polls a fresh clone to readiness.
///
/// # Errors
///
/// Those of the inner service, always, and nothing else. With [`OnStoreError::Fail`](crate::OnStoreError::Fail) a
/// request whose store cannot answer gets a response of `503 Service Unavailable`, which is no error.
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
    /// Wraps a service. A [`ReplayLayer`](crate::ReplayLayer) does the same.
    #[must_use]
    pub fn new(inner: S, engine: Engine) -> Self {
        Self { inner, engine }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to be changed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives back the inner service. The engine lives on in its other holders.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// The engine: its [counters](Engine::counters), its [store](Engine::store).
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
