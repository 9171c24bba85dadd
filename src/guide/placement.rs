//! Where in a stack of services the layer belongs.
//!
//! The layer changes request bodies and reads response bodies, so its place follows from who else does so. From the
//! outside in:
//!
//! | | why there |
//! |---|---|
//! | authentication, tracing, timeouts of the caller | outside: the layer wants to know the tenant, and its own waits should count |
//! | a `Buffer`, a limit on concurrent calls | outside: inside, a place that was reserved is held while the body of a request is read |
//! | retries, balancing over equal keys of one provider | inside or outside: a patched body is one `Bytes` in one frame, so it can be sent again; each attempt from outside is an exchange of its own |
//! | URI rewriting, choice of the upstream | outside: the layer reads method, path and host as they go upstream |
//! | **the layer** | |
//! | decompression of responses | inside, with [`decompression_inside(true)`](crate::engine::Builder::decompression_inside) |
//! | request signing, such as SigV4 | inside: a signature has to cover the patched body |
//! | the HTTP client | inside |
//!
//! # What is left alone
//!
//! - A request that carries a digest or a signature over its body when it reaches the layer is passed on unpatched.
//! - One with `Expect: 100-continue`, a content encoding, or a content type that is not JSON is passed on unread.
//! - Paths and methods of no [dialect](crate#dialects) go to the inner service with their body unread.
//! - An encoded response passes on unobserved and is counted. So the layer asks for `accept-encoding: identity` on
//!   requests that it watches, unless a decompression layer sits inside it.
//!
//! # Timeouts
//!
//! The layer adds these waits, and no others: [`load_timeout`](crate::engine::Builder::load_timeout) before a request
//! that lacks state, [`commit_wait`](crate::engine::Builder::commit_wait) before the frame that shows the end of an
//! answer, and a second for the body of a refusal that it could heal. A healed request takes two round trips to the
//! provider. It sets no timeout on the caller's body or on the provider: those are the stack's.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use tower::{BoxError, Layer, Service, ServiceBuilder};
//! use tower_reasoning_replay::{MemoryStore, ReplayLayer, RequestBody, ResponseBody};
//!
//! # use bytes::Bytes;
//! # use http_body_util::Full;
//! # type Body = Full<Bytes>;
//! fn stack<C>(
//!     client: C,
//! ) -> impl Service<http::Request<Body>, Response = http::Response<ResponseBody<Body>>, Error = BoxError>
//! where
//!     C: Service<http::Request<RequestBody<Body>>, Response = http::Response<Body>> + Clone + Send + 'static,
//!     C::Error: Into<BoxError> + Send,
//!     C::Future: Send,
//! {
//!     ServiceBuilder::new()
//!         .timeout(Duration::from_secs(600))
//!         .concurrency_limit(256)
//!         .layer(ReplayLayer::new(MemoryStore::new()))
//!         // Here: decompression, signing.
//!         .service(client)
//! }
//! # let client = tower::service_fn(|_: http::Request<RequestBody<Body>>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(Body::default()))
//! # });
//! # let _ = stack(client);
//! ```
//!
//! # Redirects
//!
//! The [provenance](crate::scope::Provenance) is the host that the layer sees. If the client inside follows redirects to
//! other hosts, the state that was put in goes along, as the rest of the request does. Clients of providers should
//! follow none.
