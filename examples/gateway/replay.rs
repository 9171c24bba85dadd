//! The client that talks to the upstreams: through the layer, as soon as there is one.

#[cfg(feature = "redis")]
use std::time::Duration;
use std::{
    error::Error as StdError,
    sync::{Arc, PoisonError, RwLock},
};

use tower::ServiceBuilder;
use tower_reasoning_replay::{ConfigError, Engine, ReplayLayer, Store, scope::HashKey};

#[cfg(feature = "redis")]
use crate::server::{Server, SharedKey};
use crate::{
    flags::Flags,
    proxy::{Client, boxed, https_client},
    store::{KeyFrom, Opened, open},
};

/// How long to wait before a server is asked again for the hash key: while there is none, and after.
#[cfg(feature = "redis")]
const INTERVALS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// Shared by all requests.
#[derive(Clone)]
pub(crate) struct Replay {
    way: Arc<RwLock<Way>>,
    /// `None` if the gateway only forwards.
    store: Option<Opened>,
}

struct Way {
    client: Client,
    engine: Option<Engine>,
}

impl Replay {
    /// Sets up what the flags ask for. A server that does not answer is no error: until it does, requests pass without
    /// replay.
    pub(crate) async fn start(flags: Arc<Flags>) -> Result<Self, Box<dyn StdError>> {
        let bare = Way { client: boxed(https_client()), engine: None };
        if !flags.replay {
            return Ok(Self { way: Arc::new(RwLock::new(bare)), store: None });
        }
        let (store, key) = open(&flags)?;
        let replay = Self { way: Arc::new(RwLock::new(bare)), store: Some(store.clone()) };
        match key {
            KeyFrom::Nowhere => replay.go(layered(&flags, &store, None)?),
            KeyFrom::Given(key) => replay.go(layered(&flags, &store, Some(key))?),
            #[cfg(feature = "redis")]
            KeyFrom::Server(server) => {
                // What is wrong with a flag is told now, whether the server answers or not.
                layered(&flags, &store, Some(HashKey::random()?))?;
                let first = replay.clone().ask(&flags, &store, &server, None).await;
                tokio::spawn(replay.clone().watch(flags, store, server, first));
            }
        }
        Ok(replay)
    }

    pub(crate) fn client(&self) -> Client {
        self.way.read().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    pub(crate) fn engine(&self) -> Option<Engine> {
        self.way.read().unwrap_or_else(PoisonError::into_inner).engine.clone()
    }

    pub(crate) fn store(&self) -> Option<&Opened> {
        self.store.as_ref()
    }

    fn go(&self, way: Way) {
        *self.way.write().unwrap_or_else(PoisonError::into_inner) = way;
    }

    /// Asks the server for the hash key, and goes by it if it is not the known one. What is known now.
    #[cfg(feature = "redis")]
    async fn ask(self, flags: &Flags, store: &Opened, server: &Server, known: Option<&str>) -> Result<String, String> {
        let SharedKey { key, digits } = server.key(known).await?;
        if known == Some(&*digits) {
            return Ok(digits);
        }
        if known.is_some() {
            tracing::warn!("the server of the store has another hash key now: what was stored before is unreachable");
        } else {
            tracing::warn!(
                "the hash key is kept on the server of the store: this does not protect against a stolen store; \
                 --key-file or {} gives one from elsewhere",
                crate::store::KEY_VARIABLE
            );
        }
        self.go(layered(flags, store, Some(key)).map_err(|error| error.to_string())?);
        Ok(digits)
    }

    /// Goes on asking. So a server that was down is noticed when it is back, and one that has lost everything is given
    /// the hash key again, or gives the one that another gateway was quicker to give.
    #[cfg(feature = "redis")]
    async fn watch(self, flags: Arc<Flags>, store: Opened, server: Server, first: Result<String, String>) {
        let mut known = None;
        let mut is_told = false;
        let mut outcome = first;
        loop {
            match outcome {
                Ok(digits) => {
                    known = Some(digits);
                    is_told = false;
                }
                Err(error) if !is_told && known.is_none() => {
                    tracing::warn!(error, "there is no hash key yet: requests pass without replay");
                    is_told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(INTERVALS[usize::from(known.is_some())]).await;
            outcome = self.clone().ask(&flags, &store, &server, known.as_deref()).await;
        }
    }
}

fn layered(flags: &Flags, store: &Opened, key: Option<HashKey>) -> Result<Way, ConfigError> {
    match store {
        Opened::Memory(store) => around(flags, store.clone(), key),
        #[cfg(feature = "redis")]
        Opened::Redis(store) => around(flags, store.clone(), key),
        #[cfg(feature = "disk")]
        Opened::Disk(store) => around(flags, store.clone(), key),
    }
}

fn around(flags: &Flags, store: impl Store, key: Option<HashKey>) -> Result<Way, ConfigError> {
    let client = https_client();
    // The three lines.
    let replay = ReplayLayer::builder(store);
    let replay = flags.tuned(replay, key).build_layer()?;
    let client = ServiceBuilder::new().layer(replay.clone()).service(client);

    Ok(Way { client: boxed(client), engine: Some(replay.engine().clone()) })
}
