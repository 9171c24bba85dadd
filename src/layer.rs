use tower_layer::Layer;

use crate::{
    engine::{Builder, ConfigError, Engine},
    service::ReplayService,
    store::{MemoryStore, Store},
};

/// Wraps an HTTP client service in a [`ReplayService`].
///
/// All services of one layer, and of its clones, share one engine: its store, its counters, its keys.
///
/// # Placement
///
/// - Inside of the caller's authentication, tracing and timeouts.
/// - Outside of request signing: the layer changes the body. A request that already carries a digest or
///   signature of its body is left unpatched.
/// - After URI rewriting: method, path and host are read as they go upstream.
/// - Response compression: the layer asks for `accept-encoding: identity` on requests that it watches. A
///   decompression layer inside of it is announced by
///   [`decompression_inside`](crate::engine::Builder::decompression_inside).
///
/// # Examples
///
/// ```
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_reasoning_replay::{MemoryStore, ReplayLayer, RequestBody};
/// # use http_body_util::Full;
/// # use bytes::Bytes;
///
/// # let client = service_fn(|_: http::Request<RequestBody<Full<Bytes>>>| async {
/// #     Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default()))
/// # });
/// let replay = ReplayLayer::new(MemoryStore::new());
/// let client = ServiceBuilder::new().layer(replay).service(client);
/// # let request = http::Request::new(Full::<Bytes>::default());
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(client.oneshot(request))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReplayLayer {
    engine: Engine,
}

impl ReplayLayer {
    /// A layer with the defaults, on a store in memory.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give for the hash key. Use
    /// [`builder`](Self::builder) to be told instead.
    #[must_use]
    pub fn new(store: MemoryStore) -> Self {
        match Self::builder(store).build_layer() {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets up a layer on any store; [`build_layer`](Builder::build_layer) makes it.
    pub fn builder(store: impl Store) -> Builder {
        Engine::builder(store)
    }

    /// The engine that the services of this layer share: its [counters](Engine::counters), its
    /// [store](Engine::store).
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl From<Engine> for ReplayLayer {
    fn from(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Builder {
    /// The tower layer.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_layer(self) -> Result<ReplayLayer, ConfigError> {
        self.build().map(ReplayLayer::from)
    }
}

impl<S> Layer<S> for ReplayLayer {
    type Service = ReplayService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReplayService::new(inner, self.engine.clone())
    }
}
