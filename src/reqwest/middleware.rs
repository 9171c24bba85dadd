//! The layer as a middleware of reqwest-middleware.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use http::Extensions;
use tower_service::Service;

use super::{ReqwestFuture, watched};
use crate::layer::ReplayLayer;

type Answer<'s, T> = Pin<Box<dyn Future<Output = T> + Send + 's>>;

/// The rest of a chain as a service, which lends its extensions to one call after the other.
struct Chain<'s, 'e, N> {
    next: N,
    extensions: &'s Lent<'e>,
}

/// A caller's extensions. They are the very ones, so a call that is dropped loses nothing of them.
struct Lent<'e>(Mutex<Option<&'e mut Extensions>>);

impl<'e> Lent<'e> {
    fn new(extensions: &'e mut Extensions) -> Self {
        Self(Mutex::new(Some(extensions)))
    }

    fn slot(&self) -> MutexGuard<'_, Option<&'e mut Extensions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Clone> Clone for Chain<'_, '_, N> {
    fn clone(&self) -> Self {
        Self { next: self.next.clone(), extensions: self.extensions }
    }
}

macro_rules! middleware {
    ($reqwest:ident, $middleware:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        impl<'s, 'e: 's> Service<::$reqwest::Request> for Chain<'s, 'e, ::$middleware::Next<'s>> {
            type Response = ::$reqwest::Response;
            type Error = ::$middleware::Error;
            type Future = Answer<'s, ::$middleware::Result<::$reqwest::Response>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<::$middleware::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: ::$reqwest::Request) -> Self::Future {
                let Self { next, extensions } = self.clone();
                Box::pin(async move {
                    let mut lent = extensions.slot().take();
                    // One call is over before the other begins, so there is no need for others.
                    let mut none = Extensions::new();
                    let outcome = next.run(request, lent.as_deref_mut().unwrap_or(&mut none)).await;
                    *extensions.slot() = lent;
                    outcome
                })
            }
        }

        /// The layer as a middleware: see the module [`reqwest`](crate::reqwest).
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        #[async_trait]
        impl ::$middleware::Middleware for ReplayLayer {
            async fn handle(
                &self,
                mut request: ::$reqwest::Request,
                extensions: &mut Extensions,
                next: ::$middleware::Next<'_>,
            ) -> ::$middleware::Result<::$reqwest::Response> {
                let Some(watched) = watched(self.engine(), &mut request, Some(extensions)) else {
                    return next.run(request, extensions).await;
                };
                let lent = Lent::new(extensions);
                let chain = Chain { next, extensions: &lent };
                // Behind a pointer, so that nobody has to prove again for how long everything is lent.
                let answer: Answer<'_, ::$middleware::Result<::$reqwest::Response>> =
                    Box::pin(ReqwestFuture::watched(chain, self.engine().clone(), watched, request));
                answer.await
            }
        }
    };
}

middleware!(reqwest_0_12, reqwest_middleware_0_4, "reqwest-middleware-0-4");
middleware!(reqwest, reqwest_middleware, "reqwest-middleware-0-5");
