//! One client for all versions of reqwest, and both ways to add the layer.

use std::{error::Error, fmt::Debug, future::Future, time::Duration};

use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{ReplayLayer, Report, engine::Summary, scope::Tenant};

use crate::support::body::Scripted;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Body,
    pub(crate) tenant: Option<&'static str>,
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug)]
pub(crate) enum Body {
    Whole(String),
    Streamed(Scripted),
}

impl Ask {
    pub(crate) fn new(url: impl Into<String>, body: Body) -> Self {
        Self { url: url.into(), headers: vec![("content-type", "application/json")], body, tenant: None, timeout: None }
    }
}

/// An error with all that it says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) chain: Vec<String>,
    pub(crate) timed_out: bool,
}

impl Failure {
    fn new(error: &(dyn Error + 'static), timed_out: bool) -> Self {
        let mut chain = vec![error.to_string()];
        let mut next = error.source();
        while let Some(error) = next {
            chain.push(error.to_string());
            next = error.source();
        }
        Self { chain, timed_out }
    }

    pub(crate) fn says(&self, words: &str) -> bool {
        self.chain.iter().any(|said| said.contains(words))
    }
}

/// A response whose body is under way.
pub(crate) trait Answer: Sized + Debug + Send {
    fn status(&self) -> StatusCode;
    fn headers(&self) -> &HeaderMap;
    fn url(&self) -> String;
    fn report(&self) -> Option<Report>;
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Failure>> + Send;

    fn summary(&self) -> Summary {
        self.report().expect("no report").summary()
    }

    fn text(mut self) -> impl Future<Output = Result<String, Failure>> + Send {
        async move {
            let mut bytes = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                bytes.extend_from_slice(&chunk);
            }
            Ok(String::from_utf8(bytes).unwrap())
        }
    }
}

/// A client with the layer, or without.
pub(crate) trait Client: Sized + Send + Sync + 'static {
    type Answer: Answer;

    fn new(layer: Option<&ReplayLayer>) -> Self;
    fn ask(&self, ask: Ask) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

macro_rules! clients {
    ($version:ident, $reqwest:ident, $middleware:ident) => {
        pub(crate) mod $version {
            use super::*;

            impl Answer for $reqwest::Response {
                fn status(&self) -> StatusCode {
                    self.status()
                }

                fn headers(&self) -> &HeaderMap {
                    self.headers()
                }

                fn url(&self) -> String {
                    self.url().to_string()
                }

                fn report(&self) -> Option<Report> {
                    self.extensions().get().cloned()
                }

                async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
                    self.chunk().await.map_err(failure)
                }
            }

            #[allow(clippy::needless_pass_by_value, reason = "what is mapped is owned")]
            fn failure(error: $reqwest::Error) -> Failure {
                Failure::new(&error, error.is_timeout())
            }

            fn request(ask: Ask) -> ($reqwest::Request, Option<Tenant>) {
                let mut request = $reqwest::Request::new($reqwest::Method::POST, ask.url.parse().unwrap());
                for (name, value) in ask.headers {
                    request.headers_mut().insert(name, value.parse().unwrap());
                }
                *request.timeout_mut() = ask.timeout;
                *request.body_mut() = Some(match ask.body {
                    Body::Whole(text) => text.into(),
                    Body::Streamed(body) => $reqwest::Body::wrap(body),
                });
                (request, ask.tenant.map(Tenant::new))
            }

            /// The layer as a middleware.
            #[derive(Debug)]
            pub(crate) struct Middleware(pub(crate) $middleware::ClientWithMiddleware);

            impl Client for Middleware {
                type Answer = $reqwest::Response;

                fn new(layer: Option<&ReplayLayer>) -> Self {
                    let builder = $middleware::ClientBuilder::new($reqwest::Client::new());
                    Self(match layer {
                        Some(layer) => builder.with(layer.clone()).build(),
                        None => builder.build(),
                    })
                }

                async fn ask(&self, ask: Ask) -> Result<$reqwest::Response, Failure> {
                    let (request, tenant) = request(ask);
                    let mut extensions = Extensions::new();
                    if let Some(tenant) = tenant {
                        extensions.insert(tenant);
                    }
                    self.0.execute_with_extensions(request, &mut extensions).await.map_err(|error| match error {
                        $middleware::Error::Reqwest(error) => failure(error),
                        error => Failure::new(&error, false),
                    })
                }
            }

            /// The layer around the client.
            #[derive(Debug)]
            pub(crate) struct Tower($reqwest::Client, Option<ReplayLayer>);

            impl Client for Tower {
                type Answer = $reqwest::Response;

                fn new(layer: Option<&ReplayLayer>) -> Self {
                    Self($reqwest::Client::new(), layer.cloned())
                }

                async fn ask(&self, ask: Ask) -> Result<$reqwest::Response, Failure> {
                    let (mut request, tenant) = request(ask);
                    if let Some(tenant) = tenant {
                        let body = request.body_mut().take().unwrap();
                        let mut named = http::Request::<$reqwest::Body>::try_from(request).unwrap().map(|_| body);
                        named.extensions_mut().insert(tenant);
                        request = named.try_into().unwrap();
                    }
                    match &self.1 {
                        Some(layer) => layer.layer(self.0.clone()).oneshot(request).await,
                        None => self.0.execute(request).await,
                    }
                    .map_err(failure)
                }
            }

            /// A middleware that lets go of its first attempt, and makes another.
            #[derive(Debug)]
            pub(crate) struct Impatient;

            #[async_trait::async_trait]
            impl $middleware::Middleware for Impatient {
                async fn handle(
                    &self,
                    request: $reqwest::Request,
                    extensions: &mut Extensions,
                    next: $middleware::Next<'_>,
                ) -> $middleware::Result<$reqwest::Response> {
                    let again = request.try_clone().unwrap();
                    let first = next.clone().run(request, extensions);
                    assert!(tokio::time::timeout(Duration::from_millis(200), first).await.is_err(), "too fast");
                    next.run(again, extensions).await
                }
            }

            impl Middleware {
                pub(crate) fn impatient(layer: &ReplayLayer) -> Self {
                    let builder = $middleware::ClientBuilder::new($reqwest::Client::new());
                    Self(builder.with(Impatient).with(layer.clone()).build())
                }
            }
        }
    };
}

clients!(v0_12, reqwest_0_12, reqwest_middleware_0_4);
clients!(v0_13, reqwest, reqwest_middleware);

/// One test for every version and way.
macro_rules! for_every_client {
    ($($test:ident),* $(,)?) => {
        $crate::client::for_every_client!(@ v0_12 Middleware middleware_0_4: $($test)*);
        $crate::client::for_every_client!(@ v0_12 Tower tower_0_12: $($test)*);
        $crate::client::for_every_client!(@ v0_13 Middleware middleware_0_5: $($test)*);
        $crate::client::for_every_client!(@ v0_13 Tower tower_0_13: $($test)*);
    };
    (@ $version:ident $client:ident $name:ident: $($test:ident)*) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $test() {
                    let test = super::$test::<$crate::client::$version::$client>();
                    tokio::time::timeout(std::time::Duration::from_secs(20), test).await.expect("this takes too long");
                }
            )*
        }
    };
}

pub(crate) use for_every_client;
