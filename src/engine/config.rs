//! How an engine is set up.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use http::HeaderName;

use super::Engine;
use crate::{
    dialect::Sentinel,
    scope::{HashKey, SessionSources},
    store::Store,
};

/// When a sentinel may stand in for a signature that is not known.
///
/// Gemini documents the values and their cost, lower quality of the answer, at
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fallback {
    /// Never.
    Off,
    /// When the provider has answered that state is missing: the request is sent once more with the
    /// sentinel. If that succeeds, it is set up front for the same tenant, provenance and model for
    /// an hour. The default.
    #[default]
    OnRejection,
    /// From the start.
    Always,
}

/// What happens to a request when the store cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnStoreError {
    /// It goes on without replay. The default.
    #[default]
    Pass,
    /// It is answered with `503 Service Unavailable`.
    Fail,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) sessions: SessionSources,
    pub(crate) tenant_headers: Vec<HeaderName>,
    pub(crate) require_tenant: bool,
    pub(crate) fallback: Fallback,
    pub(crate) sentinel: Sentinel,
    pub(crate) reasoning_placeholder: bool,
    pub(crate) drop_mismatched_thoughts: bool,
    pub(crate) heal: bool,
    pub(crate) on_store_error: OnStoreError,
    pub(crate) decompression_inside: bool,
    pub(crate) max_request: usize,
    pub(crate) max_event: usize,
    pub(crate) max_signature: usize,
    pub(crate) max_turn: usize,
    pub(crate) load_timeout: Duration,
    pub(crate) reload_timeout: Duration,
    pub(crate) commit_wait: Duration,
    pub(crate) queue_entries: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) max_hashes: usize,
    pub(crate) max_spare: usize,
}

/// Signatures of fewer characters are no state: providers and clients use short values as markers.
pub(crate) const MIN_SIGNATURE: usize = 16;
/// The parts that are kept of one response.
pub(crate) const MAX_PARTS: usize = 4_096;
/// How much of an error body is held before it is answered.
pub(crate) const MAX_HELD: usize = 64 << 10;
/// For how long.
pub(crate) const HOLD_TIME: Duration = Duration::from_secs(1);
/// For how long a provider that took a sentinel gets it up front.
pub(crate) const FALLBACK_TIME: Duration = Duration::from_secs(60 * 60);
/// For how long it is remembered that a provider binds thoughts to what precedes them.
pub(crate) const BOUND_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How many of them are remembered.
pub(crate) const MAX_FALLBACKS: usize = 1_024;
/// How many sessions are remembered by what they can be derived from.
pub(crate) const MAX_ALIASES: usize = 10_240;

impl Default for Config {
    fn default() -> Self {
        Self {
            sessions: SessionSources::default(),
            tenant_headers: Vec::new(),
            require_tenant: false,
            fallback: Fallback::default(),
            sentinel: Sentinel::default(),
            reasoning_placeholder: false,
            drop_mismatched_thoughts: false,
            heal: true,
            on_store_error: OnStoreError::default(),
            decompression_inside: false,
            max_request: 64 << 20,
            max_event: 32 << 20,
            max_signature: 4 << 20,
            max_turn: 16 << 20,
            load_timeout: Duration::from_millis(50),
            reload_timeout: Duration::from_secs(1),
            commit_wait: Duration::from_millis(250),
            queue_entries: 1_024,
            queue_bytes: 64 << 20,
            max_hashes: 16 << 20,
            max_spare: 16 << 20,
        }
    }
}

/// Sets up an [`Engine`] or a [`ReplayLayer`](crate::ReplayLayer).
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::{Fallback, MemoryStore, ReplayLayer};
///
/// let layer = ReplayLayer::builder(MemoryStore::new())
///     .tenant_header("x-tenant".parse()?)
///     .require_tenant(true)
///     .fallback(Fallback::Off)
///     .build_layer()?;
/// # let _ = layer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
#[derive(Clone)]
pub struct Builder {
    store: Arc<dyn Store>,
    key: Option<HashKey>,
    config: Config,
}

impl Builder {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, key: None, config: Config::default() }
    }

    /// The key of all hashes. Default: random, which a shared or persistent store does not allow. With
    /// another key everything remembered so far is unreachable.
    pub fn hash_key(mut self, key: HashKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Where sessions are read from. Default: the headers and fields that known clients send.
    pub fn sessions(mut self, sources: SessionSources) -> Self {
        self.config.sessions = sources;
        self
    }

    /// Adds a header that names the tenant, asked after the [`Tenant`](crate::scope::Tenant) extension
    /// and before the credential. Default: none. Only list a header that the gateway sets itself or
    /// strips from what callers send: who can choose it can choose whose state is replayed.
    pub fn tenant_header(mut self, name: HeaderName) -> Self {
        self.config.tenant_headers.push(name);
        self
    }

    /// Whether requests of which nothing says who sends them are left alone. Default: `false`, they
    /// share one anonymous tenant.
    pub fn require_tenant(mut self, require: bool) -> Self {
        self.config.require_tenant = require;
        self
    }

    /// When a sentinel may stand in for a signature. Default: [`Fallback::OnRejection`].
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.config.fallback = fallback;
        self
    }

    /// Which sentinel. Default: [`Sentinel::Literal`].
    pub fn sentinel(mut self, sentinel: Sentinel) -> Self {
        self.config.sentinel = sentinel;
        self
    }

    /// Whether a placeholder may stand in for reasoning text that is not known, once a provider of chat completions
    /// has answered that it must be passed back. Default: `false`, since the model reads the placeholder as its own
    /// thought. What is known is sent in any case. [`Fallback`] says when.
    ///
    /// <https://api-docs.deepseek.com/guides/thinking_mode>
    pub fn reasoning_placeholder(mut self, allowed: bool) -> Self {
        self.config.reasoning_placeholder = allowed;
        self
    }

    /// Whether requests to models that bind thinking to what precedes it ask for thoughts that do not fit to be left
    /// out, instead of refused: `thinking.block_binding.prefix_mismatch_behavior` is set to `drop_block`, together
    /// with the beta header that it needs, unless the request says something of its own. Default: `false`.
    ///
    /// <https://platform.claude.com/docs/en/build-with-claude/preserved-thinking>
    pub fn drop_mismatched_thoughts(mut self, drop: bool) -> Self {
        self.config.drop_mismatched_thoughts = drop;
        self
    }

    /// Whether a refused request is sent once more. Default: `true`. Without it no error body is held, and
    /// invalid items are still forgotten.
    pub fn heal(mut self, heal: bool) -> Self {
        self.config.heal = heal;
        self
    }

    /// What happens when the store cannot answer. Default: [`OnStoreError::Pass`].
    pub fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.config.on_store_error = on_store_error;
        self
    }

    /// Says that a decompression layer sits inside this one, so that responses arrive here decoded.
    /// Default: `false`; the layer then asks for `accept-encoding: identity` on requests that it
    /// watches, since it cannot observe an encoded response.
    pub fn decompression_inside(mut self, inside: bool) -> Self {
        self.config.decompression_inside = inside;
        self
    }

    /// The longest request body that is read, in bytes. Default: 64 MiB. Longer ones pass through.
    pub fn max_request(mut self, bytes: usize) -> Self {
        self.config.max_request = bytes;
        self
    }

    /// The longest event of a response that is read, in bytes. Default: 32 MiB. A response that is one
    /// JSON document is one event. A response with a longer one passes through unobserved.
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.config.max_event = bytes;
        self
    }

    /// The longest signature that is kept, in bytes. Default: 4 MiB: those on images reach 3 MB. A part with
    /// a longer one is not restored.
    pub fn max_signature(mut self, bytes: usize) -> Self {
        self.config.max_signature = bytes;
        self
    }

    /// The most that is kept of one response, in bytes. Default: 16 MiB, as much as a ledger holds.
    pub fn max_turn(mut self, bytes: usize) -> Self {
        self.config.max_turn = bytes;
        self
    }

    /// How long a request waits for a store that does not answer at once. Default: 50 ms. Then it goes on
    /// without replay, or as [`on_store_error`](Self::on_store_error) says.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.config.load_timeout = timeout;
        self
    }

    /// How long a refused request waits for a store that did not answer in time before. Default: 1 s.
    pub fn reload_timeout(mut self, timeout: Duration) -> Self {
        self.config.reload_timeout = timeout;
        self
    }

    /// How long the end of a response waits for the store. Default: 250 ms; then the commit goes on in
    /// the background.
    pub fn commit_wait(mut self, wait: Duration) -> Self {
        self.config.commit_wait = wait;
        self
    }

    /// How many commits, of how many bytes in all, may be under way in the background. Default: 1,024
    /// and 64 MiB. Over that turns are dropped and counted.
    pub fn commit_queue(mut self, entries: usize, bytes: usize) -> Self {
        self.config.queue_entries = entries;
        self.config.queue_bytes = bytes;
        self
    }

    /// How many bytes of hashes are kept of the last requests, so that the next request of a conversation is hashed only
    /// where it goes on: some 50 bytes for each text, call and output of a history. Default: 16 MiB. With 0, every
    /// request is hashed in full while its answer is awaited. They hold no content and no state; clearing the store leaves them.
    pub fn max_hashes(mut self, bytes: usize) -> Self {
        self.config.max_hashes = bytes;
        self
    }

    /// How many bytes of memory are kept for bodies to come, once those that were written into it are sent: bodies of 32 KiB and
    /// more that came in several frames, and patched ones. Default: 16 MiB. With 0, memory is allocated for each of them,
    /// which the system has to clear page by page: that takes longer than all the rest.
    pub fn max_spare(mut self, bytes: usize) -> Self {
        self.config.max_spare = bytes;
        self
    }

    /// The engine, for a gateway with an HTTP client of its own.
    ///
    /// # Errors
    ///
    /// If a limit is zero or contradicts another, if the store is shared and no hash key was given,
    /// or if no key could be drawn.
    pub fn build(self) -> Result<Engine, ConfigError> {
        let config = &self.config;
        let limits =
            [("max_request", config.max_request), ("max_event", config.max_event), ("max_turn", config.max_turn)];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(ConfigError::new(format!("{name} is 0; leave it out for the default")));
        }
        if config.max_signature < MIN_SIGNATURE {
            return Err(ConfigError::new(format!(
                "max_signature is under {MIN_SIGNATURE} bytes, so nothing would be kept"
            )));
        }
        if config.max_signature > config.max_turn {
            return Err(ConfigError::new("max_signature is over max_turn; raise max_turn".to_owned()));
        }
        let key = match self.key {
            Some(key) => key,
            None if self.store.is_shared() => {
                return Err(ConfigError::new("a shared store needs a hash_key that is the same everywhere".to_owned()));
            }
            None => HashKey::random().map_err(|error| ConfigError(error.into()))?,
        };
        Ok(Engine::new(self.config, key, self.store))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A configuration cannot work.
#[derive(Debug)]
pub struct ConfigError(Box<dyn StdError + Send + Sync>);

impl ConfigError {
    pub(crate) fn new(reason: String) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the replay layer cannot be built: {}", self.0)
    }
}

impl StdError for ConfigError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
