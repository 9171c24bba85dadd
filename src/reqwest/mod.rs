//! The layer around [reqwest](https://docs.rs/reqwest)'s client, as a tower service or in
//! [reqwest-middleware](https://docs.rs/reqwest-middleware).
//!
//! With the feature `reqwest-0-13` (or `reqwest-0-12`), [`ReplayLayer`](crate::ReplayLayer) goes around a
//! [`reqwest::Client`](https://docs.rs/reqwest/latest/reqwest/struct.Client.html), or any other service of reqwest's own
//! requests and responses. What comes out is such a service again:
//!
#![cfg_attr(feature = "reqwest-0-13", doc = "```")]
#![cfg_attr(not(feature = "reqwest-0-13"), doc = "```ignore")]
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_reasoning_replay::{MemoryStore, ReplayLayer};
//!
//! # async fn ask() -> Result<(), reqwest::Error> {
//! let replay = ReplayLayer::new(MemoryStore::new());
//! let client = ServiceBuilder::new().layer(replay).service(reqwest::Client::new());
//!
//! let url = "https://api.anthropic.com/v1/messages".parse().expect("a valid URL");
//! let mut request = reqwest::Request::new(reqwest::Method::POST, url);
//! *request.body_mut() = Some("{}".into());
//! let response = client.oneshot(request).await?;
//! # let _ = response;
//! # Ok(()) }
//! ```
//!
//! With the feature `reqwest-middleware-0-5` (or `reqwest-middleware-0-4`, which goes with reqwest 0.12) the layer is a
//! middleware too:
//!
#![cfg_attr(feature = "reqwest-middleware-0-5", doc = "```")]
#![cfg_attr(not(feature = "reqwest-middleware-0-5"), doc = "```ignore")]
//! use reqwest_middleware::ClientBuilder;
//! use tower_reasoning_replay::{MemoryStore, ReplayLayer, Report, scope::Tenant};
//!
//! # async fn ask() -> Result<(), reqwest_middleware::Error> {
//! let replay = ReplayLayer::new(MemoryStore::new());
//! let client = ClientBuilder::new(reqwest::Client::new()).with(replay).build();
//!
//! let request = client.post("https://api.anthropic.com/v1/messages").with_extension(Tenant::new("customer-17"));
//! let response = request.body("{}").send().await?;
//! let report = response.extensions().get::<Report>();
//! # let _ = report;
//! # Ok(()) }
//! ```
//!
//! # What it sees
//!
//! A request as it was built. The headers that the client adds to every request,
//! [`default_headers`](https://docs.rs/reqwest/latest/reqwest/struct.ClientBuilder.html#method.default_headers), come later: **a
//! credential or a session among them is not seen**. Where callers are told apart by such headers, or clients with
//! different keys share an engine, set a [`Tenant`](crate::scope::Tenant).
//!
//! The extensions `Tenant`, [`Provenance`] and [`Session`] are read from those
//! of reqwest-middleware (`with_extension`), else from those that an `http::Request` brought when it was made a
//! `reqwest::Request`. The [`Report`](crate::Report) is in the extensions of the response.
//!
//! # What goes on
//!
//! - A request that is not watched, and the answer to it, as they came.
//! - A watched request with its timeout, version and extensions. A body in one piece, patched or not, is sent in one
//!   piece, so that reqwest can redirect or retry it, and so can a retrying middleware below.
//! - The errors of the client and of other middleware, as they came. A body that breaks off fails with an error that has the
//!   original one as a [source](std::error::Error::source).
//! - The response with its final URL, its remote address and its deadline.
//!
//! # Placement
//!
//! A retrying middleware may sit on either side. Below the layer, it sends the repaired request again; above it, each
//! attempt is repaired anew. What decompresses responses in reqwest sits below the layer, which asks for
//! `accept-encoding: identity` on requests that it watches.
//!
//! # Cancellation
//!
//! As with the tower service: see [`ResponseFuture`] and [`ResponseBody`](crate::ResponseBody).

#[cfg(any(feature = "reqwest-middleware-0-4", feature = "reqwest-middleware-0-5"))]
mod middleware;
mod transport;
mod version;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Extensions, request::Parts};
use pin_project_lite::pin_project;
use tower_service::Service;

use self::{
    transport::{FinalUrl, Transport},
    version::ClientRequest,
};
use crate::{
    engine::{Engine, Watch},
    future::ResponseFuture,
    scope::{Provenance, Session, Tenant},
    service::ReplayService,
};

pin_project! {
    /// The future of a [`ReplayService`] that takes reqwest's requests (`Q`).
    ///
    /// # Cancellation
    ///
    /// As that of [`ResponseFuture`].
    ///
    /// # Panics
    ///
    /// If polled again after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ReqwestFuture<Q, S>
    where
        Q: ClientRequest,
        S: Service<Q, Response = Q::Response>,
    {
        #[pin]
        state: State<Q, S>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Q, S>
    where
        Q: ClientRequest,
        S: Service<Q, Response = Q::Response>,
    {
        Passed { #[pin] future: S::Future },
        Watched { #[pin] future: ResponseFuture<Transport<Q, S>, Q::Body, Q::Body>, url: Q::Url },
    }
}

impl<Q, S> ReqwestFuture<Q, S>
where
    Q: ClientRequest,
    S: Service<Q, Response = Q::Response>,
{
    fn passed(future: S::Future) -> Self {
        Self { state: State::Passed { future } }
    }

    fn watched(service: S, engine: Engine, watched: Watched<Q>, request: Q) -> Self {
        let Watched { watch, head, body } = watched;
        let url = request.url();
        let transport = Transport::new(service, request);
        let future = ResponseFuture::watch(transport, engine, watch, head, body);
        Self { state: State::Watched { future, url } }
    }
}

impl<Q, S> Future for ReqwestFuture<Q, S>
where
    Q: ClientRequest,
    S: Service<Q, Response = Q::Response> + Clone,
{
    type Output = Result<Q::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed { future } => future.poll(cx),
            StateProjection::Watched { future, url } => {
                let mut response = ready!(future.poll(cx))?;
                // An answer of our own comes from nowhere else.
                let last = response.extensions_mut().remove::<FinalUrl<Q::Url>>();
                let url = last.map_or_else(|| url.clone(), |last| last.0);
                Poll::Ready(Ok(Q::response(response, url)))
            }
        }
    }
}

impl<Q, S> fmt::Debug for ReqwestFuture<Q, S>
where
    Q: ClientRequest,
    S: Service<Q, Response = Q::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watched = matches!(self.state, State::Watched { .. });
        f.debug_struct("ReqwestFuture").field("watched", &watched).finish_non_exhaustive()
    }
}

/// What is taken out of a request that is watched.
struct Watched<Q: ClientRequest> {
    watch: Watch,
    head: Parts,
    body: Q::Body,
}

/// Takes head and body out of a request that the engine knows; any other stays as it is. What is in `named` goes before
/// the request's own extensions.
fn watched<Q: ClientRequest>(engine: &Engine, request: &mut Q, named: Option<&Extensions>) -> Option<Watched<Q>> {
    let body = request.take_body()?;
    let headers = std::mem::take(request.headers_mut());
    let Some(mut head) = request.head() else {
        *request.headers_mut() = headers;
        request.set_body(body);
        return None;
    };
    head.headers = headers;
    if let Some(named) = named {
        copy::<Tenant>(named, &mut head.extensions);
        copy::<Provenance>(named, &mut head.extensions);
        copy::<Session>(named, &mut head.extensions);
    }
    match engine.watch(&head) {
        Some(watch) => Some(Watched { watch, head, body }),
        None => {
            *request.headers_mut() = head.headers;
            request.set_body(body);
            None
        }
    }
}

fn copy<T: Clone + Send + Sync + 'static>(from: &Extensions, to: &mut Extensions) {
    if let Some(named) = from.get::<T>() {
        to.insert(named.clone());
    }
}

/// A `ReplayService` takes the requests of this version of reqwest.
macro_rules! service {
    ($reqwest:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        impl<S> Service<::$reqwest::Request> for ReplayService<S>
        where
            S: Service<::$reqwest::Request, Response = ::$reqwest::Response> + Clone,
        {
            type Response = ::$reqwest::Response;
            type Error = S::Error;
            type Future = ReqwestFuture<::$reqwest::Request, S>;

            fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
                self.get_mut().poll_ready(cx)
            }

            fn call(&mut self, mut request: ::$reqwest::Request) -> Self::Future {
                let Some(watched) = watched(self.engine(), &mut request, None) else {
                    return ReqwestFuture::passed(self.get_mut().call(request));
                };
                // The service that was polled to readiness makes the call; a fresh clone stays behind.
                let fresh = self.get_ref().clone();
                let ready = std::mem::replace(self.get_mut(), fresh);
                ReqwestFuture::watched(ready, self.engine().clone(), watched, request)
            }
        }
    };
}

service!(reqwest_0_12, "reqwest-0-12");
service!(reqwest, "reqwest-0-13");
