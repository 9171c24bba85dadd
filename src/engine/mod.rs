//! One exchange, without I/O.
//!
//! The tower face is thin: everything that replay is happens here, on [`http::request::Parts`],
//! [`Bytes`] and `feed(&[u8])`. A gateway with an HTTP client of its own uses it like this:
//!
//! ```
//! use bytes::Bytes;
//! use tower_reasoning_replay::{Engine, MemoryStore, engine::{Answer, Remedy}};
//!
//! # async fn send(_: &http::request::Parts, _: Bytes) -> (http::response::Parts, Vec<Bytes>) {
//! #     let (parts, ()) = http::Response::new(()).into_parts();
//! #     (parts, vec![Bytes::from_static(b"data: {}\r\n\r\n")])
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder(MemoryStore::new()).build()?;
//!
//! # let (mut request, body) = http::Request::post("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent")
//! #     .body(Bytes::from_static(b"{\"contents\":[]}"))?.into_parts();
//! // 1. Is it ours? If not, nothing of it has to be read.
//! let Some(watch) = engine.watch(&request) else { return Ok(()) };
//!
//! // 2. Put back what is missing. `engine.shape` asks for an answer that can be observed. The body may
//! //    have another length than the one that came: set `content-length` anew where there is one.
//! engine.shape(&watch, &mut request.headers);
//! let mut exchange = engine.prepare(watch, &request, body).await;
//! exchange.shape(&mut request.headers);
//! let (mut head, mut frames) = send(&request, exchange.body()).await;
//!
//! // 3. If the provider refuses, there may be something better to send, once.
//! let mut answer = exchange.answer(&head);
//! if let Answer::Hold(held) = answer {
//!     // `frames` is the error body; `held` says how much of it to wait for.
//!     # let _ = held;
//!     if let Remedy::Retry(body) = exchange.refused(head.status, &frames.concat()).await {
//!         let (second_head, second_frames) = send(&request, body).await;
//!         if exchange.retried(&second_head) {
//!             (head, frames) = (second_head, second_frames);
//!         }
//!     }
//!     answer = exchange.answer(&head);
//! }
//!
//! // 4. Feed what comes, before it is passed on; commit what the engine hands out.
//! if let Answer::Observe(mut observer) = answer {
//!     for frame in &frames {
//!         if let Some(commit) = observer.feed(frame) {
//!             commit.run().await;
//!         }
//!         // … now pass the frame on …
//!     }
//!     if let Some(commit) = observer.finish() {
//!         commit.run().await;
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! The [guide](crate::guide::engine) has clients, filters and pipelines with all that can go wrong.

mod commit;
pub(crate) mod config;
mod counters;
mod exchange;
mod heal;
mod observer;
mod prepare;
mod prior;
mod reading;
pub mod refusal;
mod report;
mod restore;
mod survey;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    request::Parts,
};
use quick_cache::sync::Cache;
use tokio::time::Instant;

pub(crate) use self::commit::Queue;
pub use self::{
    commit::{Commit, Committing},
    config::{Builder, ConfigError, Fallback, OnStoreError},
    counters::{Event, Snapshot},
    exchange::{Answer, Exchange, Held, Remedy},
    heal::Classifier,
    observer::Observer,
    prepare::Prepare,
    report::{Report, SessionKind, Summary, Unobserved},
};
use self::{config::Config, counters::Counters, prior::Priors, reading::Spares};
pub(crate) use self::{
    heal::Step,
    prepare::{Loading, Timer},
};
use crate::{
    dialect::{self, Dialect, Operation, Route, Wanted},
    scope::{HashKey, Scope},
    store::Store,
    wire::buffers::Buffers,
};

/// Reads requests, puts back what they lack, watches responses and remembers.
///
/// It does no I/O but to ask its [`Store`], and spawns nothing but [commits](Commit) that its caller sends to the
/// background. It is cheap to clone; clones share everything. The [module](self) shows a whole exchange.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) key: HashKey,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) counters: Counters,
    pub(crate) queue: Queue,
    /// The tenants, provenances and models of which it was learned that they take a sentinel, and
    /// until when.
    pub(crate) fallbacks: Cache<Scope, Known>,
    /// Those whose provider is known to look at what precedes a thought, and until when.
    pub(crate) bound: Cache<Scope, Instant>,
    /// The named scope of a conversation, by the scope that would be derived of it: a count often
    /// does not name the session of the request that it counts for.
    pub(crate) aliases: Cache<Scope, Scope>,
    spares: Spares,
    priors: Priors,
    /// For bodies that come in pieces, or are patched.
    buffers: Buffers,
}

/// What a provider is known to take where state is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    until: Instant,
    wanted: Wanted,
}

impl Shared {
    /// The provider has said that it looks at what precedes a thought.
    pub(crate) fn note_bound(&self, scope: Option<Scope>) {
        if let Some(scope) = scope {
            self.bound.insert(scope, Instant::now() + config::BOUND_TIME);
        }
    }

    /// What stands in where state is missing, if it was learned.
    fn known_fallback(&self, scope: &Scope) -> Option<Known> {
        self.fallbacks.get(scope).filter(|known| Instant::now() < known.until)
    }

    pub(crate) fn count(&self, dialect: &'static str, event: Event) {
        self.counters.add(dialect, event, 1);
    }
}

/// A request of a known dialect, recognised by its head.
#[derive(Clone)]
pub struct Watch {
    dialect: &'static dyn Dialect,
    route: Route,
    /// The body may be changed: nothing signs it.
    patchable: bool,
}

impl Watch {
    /// The name of the dialect.
    #[must_use]
    pub fn dialect(&self) -> &'static str {
        self.dialect.name()
    }

    /// Rules out that the body is changed, for one that is signed or has trailers. The answer is learned from
    /// all the same. Heads that show a digest or a signature have ruled it out already.
    pub fn leave_unpatched(&mut self) {
        self.patchable = false;
    }

    /// Whether the request only counts tokens.
    #[must_use]
    pub fn is_count(&self) -> bool {
        self.route.operation == Operation::Count
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("dialect", &self.dialect()).field("is_count", &self.is_count()).finish()
    }
}

impl Engine {
    /// Sets up an engine on a store.
    pub fn builder(store: impl Store) -> Builder {
        Builder::new(Arc::new(store))
    }

    pub(crate) fn new(config: Config, key: HashKey, store: Arc<dyn Store>) -> Self {
        let queue = Queue::new(config.queue_entries, config.queue_bytes);
        let (priors, buffers) = (Priors::new(config.max_hashes), Buffers::new(config.max_spare));
        Self(Arc::new(Shared {
            config,
            key,
            store,
            counters: Counters::new(),
            queue,
            fallbacks: Cache::new(config::MAX_FALLBACKS),
            bound: Cache::new(config::MAX_FALLBACKS),
            aliases: Cache::new(config::MAX_ALIASES),
            spares: Spares::default(),
            priors,
            buffers,
        }))
    }

    /// Whether a request is one that the engine knows, by its head alone: method, path, content type
    /// and length. If not, its body need not be read.
    ///
    /// # Limits
    ///
    /// A request of a known path is passed over, and counted as [`Event::Unread`], if its type is not JSON, its
    /// body is encoded, its `content-length` is over [`max_request`](Self::max_request), or it has an `expect`
    /// header.
    #[must_use]
    pub fn watch(&self, head: &Parts) -> Option<Watch> {
        let found = dialect::all().iter().find_map(|dialect| Some((*dialect, dialect.route(&head.method, &head.uri)?)));
        let (dialect, route) = found?;
        let shared = &self.0;
        if !self.is_readable(&head.headers) {
            shared.count(dialect.name(), Event::Unread);
            tracing::debug!(dialect = dialect.name(), "the request is passed on unread");
            return None;
        }
        Some(Watch { dialect, route, patchable: !is_signed(&head.headers) })
    }

    fn is_readable(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(HeaderValue::as_bytes);
        let is_json = |kind: &[u8]| kind.windows(4).any(|word| word.eq_ignore_ascii_case(b"json"));
        let is_json = text(CONTENT_TYPE).is_none_or(is_json);
        let is_plain = text(CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let fits = length.is_none_or(|length| length <= self.0.config.max_request as u64);
        is_json && is_plain && fits && !headers.contains_key(EXPECT)
    }

    /// The longest request body to be read, in bytes. Default: 64 MiB.
    #[must_use]
    pub fn max_request(&self) -> usize {
        self.0.config.max_request
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    /// Asks for a response that can be observed: `accept-encoding: identity`, unless a decompression
    /// layer sits inside, or something vouches for the head of the request.
    pub fn shape(&self, watch: &Watch, headers: &mut HeaderMap) {
        if !self.0.config.decompression_inside && watch.patchable {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }

    /// Puts back what a request lacks. The future is ready at once unless the store has to be waited
    /// for, which takes [`load_timeout`](Builder::load_timeout) at most; it never fails. What cannot be read goes on
    /// as it came.
    ///
    /// # Cancellation
    ///
    /// The future may be dropped at any time. Nothing is stored by then.
    pub fn prepare(&self, watch: Watch, head: &Parts, body: Bytes) -> Prepare {
        Prepare::new(&self.0, watch, head, body)
    }

    /// The counters at this moment.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.0.counters.snapshot()
    }

    /// The store, to look after it: [`clear`](Store::clear) forgets everything.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// How long the piece with the end of a response is to be held until the turn is stored. Default: 250 ms.
    #[must_use]
    pub fn commit_wait(&self) -> Duration {
        self.0.config.commit_wait
    }

    /// Counts a watched request that turned out to be too long to be read, or broke off: it is not given to
    /// [`prepare`](Self::prepare), but sent on as it came.
    pub fn count_unread(&self, watch: &Watch) {
        self.0.count(watch.dialect(), Event::Unread);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("counters", &self.0.counters).finish_non_exhaustive()
    }
}

/// Whether something vouches for the bytes of the body.
fn is_signed(headers: &HeaderMap) -> bool {
    const HEADERS: [&str; 7] = [
        "content-digest",
        "repr-digest",
        "digest",
        "content-md5",
        "signature",
        "signature-input",
        "x-amz-content-sha256",
    ];
    let aws = headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"));
    aws || HEADERS.iter().any(|name| headers.contains_key(*name))
}
