//! Middleware for the HTTP client of an LLM gateway. It remembers the opaque reasoning state of
//! responses, and puts it back into the next request of the conversation.
//!
//! Reasoning models answer with state that belongs to them: Gemini puts a `thoughtSignature` on a part, Claude
//! signs its thinking, OpenAI sends encrypted `reasoning` items, DeepSeek and others a `reasoning_content`. The
//! next request has to carry it back, in its place and unchanged. Most clients and protocol translators drop it,
//! and then the provider refuses:
//!
//! > Function call is missing a thought_signature in functionCall parts.
//!
//! > messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.
//!
//! > Item 'fc_…' of type 'function_call' was provided without its required 'reasoning' item: 'rs_…'.
//!
//! > The `reasoning_content` in the thinking mode must be passed back to the API.
//!
//! [`ReplayLayer`] wraps the client service. It reads responses as they stream through and repairs the
//! requests that follow. Where it has nothing to do it passes on the same bytes, frames and errors.
//!
//! # Three lines
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_reasoning_replay::{MemoryStore, ReplayLayer};
//! # use tower_reasoning_replay::RequestBody;
//! # use http_body_util::Full;
//! # let client = tower::service_fn(|_: http::Request<RequestBody<Full<bytes::Bytes>>>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(Full::<bytes::Bytes>::default()))
//! # });
//!
//! let replay = ReplayLayer::new(MemoryStore::new());
//! let client = ServiceBuilder::new().layer(replay).service(client);
//! # fn is_service<S: tower::Service<http::Request<Full<bytes::Bytes>>>>(_: &S) {}
//! # is_service(&client);
//! ```
//!
//! The inner service takes `Request<RequestBody<B>>`: hyper-util's client does so for any `B` that it
//! takes itself. [`ReplayLayer::builder`] sets limits, keys and policies; [`engine::Builder`] lists them
//! with their defaults.
//!
//! # How an exchange goes
//!
//! 1. **Which dialect?** Method, path and content type decide. Everything else goes to the inner service
//!    with its body unread.
//! 2. **Whose conversation?** Tenant, provenance, model and session are folded into one keyed hash, the
//!    [`Scope`](scope::Scope). See [`scope`] for where each is read from.
//!    If the head names the session and the store tells from memory that it holds nothing of it, the request goes on
//!    unread, and what follows is made up for while the answer is awaited.
//! 3. **What is missing?** The history is read as spans of the body. If no place lacks state, the same
//!    bytes go on and the store is not asked.
//! 4. **What is known?** The store loads the [`Ledger`](ledger::Ledger) of the scope. State goes back only
//!    onto content that is proven to be the same; changed content gets nothing. Only the inserted or
//!    replaced byte ranges of the body change.
//! 5. **What does the answer hold?** An [`Observer`](engine::Observer) reads the frames in passing. The one
//!    that first shows the end is released when the turn is in the store, or after
//!    [`commit_wait`](engine::Builder::commit_wait): a client that goes on at once finds its turn.
//! 6. **What if the provider refuses?** The layer takes back what it had put in, or sets a
//!    [stand-in](Fallback) where it knows nothing and there is one, and sends once more. If that fails too, the client gets
//!    the first answer.
//!
//! What happened is in the [`Report`] in the extensions of each watched response, in the
//! [counters](engine::Snapshot) of the engine, and in `tracing` events.
//!
//! # Dialects
//!
//! | name | `POST` requests | provider's page |
//! |---|---|---|
//! | `gemini` | `…/models/{model}:generateContent`, `:streamGenerateContent` and `:countTokens` of the Gemini API and Vertex AI | [thought signatures](https://ai.google.dev/gemini-api/docs/thought-signatures) |
//! | `cloud_code` | the same methods on `/v1internal`, in the envelope of Cloud Code and Antigravity, Claude models included | |
//! | `anthropic` | `…/v1/messages` and its `count_tokens`, at Anthropic and at those who speak it too; `:rawPredict` and `:streamRawPredict` of `publishers/anthropic` on Vertex AI | [extended thinking](https://platform.claude.com/docs/en/build-with-claude/extended-thinking) |
//! | `responses` | `…/responses`, its `input_tokens` and `compact`, of OpenAI, Azure, ChatGPT plans, GitHub Copilot, xAI, OpenRouter, DeepSeek and others | [reasoning](https://developers.openai.com/api/docs/guides/reasoning) |
//! | `chat` | `…/chat/completions` of DeepSeek, Kimi, GLM, Qwen, OpenRouter, Mistral, Gemini's compatible endpoint and many more | [thinking mode](https://api-docs.deepseek.com/guides/thinking_mode), [reasoning tokens](https://openrouter.ai/docs/use-cases/reasoning-tokens) |
//!
//! Streams and whole answers are read alike. Amazon Bedrock's event streams, Gemini's Interactions API, WebSocket and
//! batches pass through untouched.
//!
//! # Modules
//!
//! | module | what it holds | what it does not know |
//! |---|---|---|
//! | [`guide`] | pages to read, with examples | |
//! | [`engine`] | one exchange without I/O, configuration, counters, reports | sockets, tasks |
//! | [`body`] | the bodies that the layer hands on | replay |
//! | [`scope`] | tenant, provenance, session: who a request belongs to | content |
//! | [`ledger`] | what is remembered: turns, items, anchors | HTTP, providers |
//! | `reqwest` | the layer around reqwest's client, or in reqwest-middleware (features of that name) | replay |
//! | [`store`] | where ledgers live, behind one trait | HTTP, providers |
//! | [`wire`] | JSON spans, canonical forms, event streams, patches | providers |
//! | `testing` | strict fakes of the providers and the contract of stores (feature `testing`) | |
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `disk` | `DiskStore`: ledgers in a file, so that a gateway of one process that restarts keeps its sessions |
//! | `metrics` | the counters, through the [`metrics`](https://docs.rs/metrics) facade |
//! | `redis` | `RedisStore`: ledgers in Redis or Valkey, for several replicas |
//! | `reqwest-0-12`, `reqwest-0-13` | `ReplayLayer` around reqwest's client as it is: see the module `reqwest` |
//! | `reqwest-middleware-0-4`, `reqwest-middleware-0-5` | `ReplayLayer` as a middleware of reqwest-middleware, for reqwest 0.12 and 0.13 |
//! | `full` | everything that an operator turns on: `disk`, `metrics`, `redis` |
//! | `testing` | the module `testing`, to try an integration or a store without a network |
//!
//! (`recordings` is for this crate's own tests.)
//!
//! # Without tower
//!
//! [`Engine`] is all of replay without I/O: it takes [`http::request::Parts`], [`bytes::Bytes`] and pieces
//! of the response, and spawns nothing. A gateway with a client of its own uses it directly. The module
//! [`engine`] has a whole exchange as an example, and the [guide](guide::engine) shows clients, filters and pipelines.
//!
//! # Stores
//!
//! | store | for | a restart | several replicas |
//! |---|---|---|---|
//! | [`MemoryStore`] | one process | forgets all | no |
//! | `store::DiskStore` (feature `disk`) | one process that restarts | keeps what was answered | no |
//! | `store::RedisStore` (feature `redis`) | several replicas, on Redis or Valkey | keeps all | yes; a failover may lose the newest turns |
//! | [`store::Layered`] | memory in front of another store | as the other | as the other |
//!
//! A store that fails costs replay, not requests, unless [`OnStoreError`] says otherwise. What outlives a process lies under a
//! [`HashKey`](scope::HashKey) that has to be kept: [`HashKey::load_or_create`](scope::HashKey::load_or_create),
//! [`HashKey::from_hex`](scope::HashKey::from_hex). It hides whose state it is; `store::Seal` encrypts what `RedisStore` keeps.
//!
//! # A store of one's own
//!
//! Another store implements [`Store`]: load, append,
//! remove, forget, clear. The module [`store`] has a complete one as an example, and
//! `testing::store_contract` tells whether a store keeps the rules. A store that several processes share,
//! or that outlives one, needs a [`hash_key`](engine::Builder::hash_key) that is the same everywhere:
//!
//! ```
//! use tower_reasoning_replay::{ReplayLayer, Store, engine::ConfigError, scope::HashKey};
//!
//! fn shared(store: impl Store, key: [u8; 32]) -> Result<ReplayLayer, ConfigError> {
//!     ReplayLayer::builder(store).hash_key(HashKey::from_bytes(key)).build_layer()
//! }
//! # shared(tower_reasoning_replay::MemoryStore::new(), [7; 32])?;
//! # Ok::<(), ConfigError>(())
//! ```
//!
//! # Another dialect
//!
//! Dialects live in this crate. Each is one file or folder in `src/dialect` that implements the trait `Dialect`, and
//! one line in its list of all dialects, `all`. It says
//!
//! * which requests are its own (`route`), and whose state is bound to what (`binds_account`, `binding`, `bound_tools`,
//!   `tolerance`);
//! * what a body holds, as spans of messages and parts, without copying (`read`, `defaults`, `layout`);
//! * what an answer holds, event by event (`recorder`, which gives a `Recorder`);
//! * how state is written back: into a kept part (`restore`, `signed`), as whole parts (`put_back`, `replace`,
//!   `goes_together`, `is_repeated`), as dropped calls (`message`);
//! * what may stand in for state, and where (`sentinel`, `sentinel_parts`, `stand_in`, `is_checked`);
//! * when two values are the same (`same_state`, `is_same_call`).
//!
//! Matching, stores, healing and framing stay as they are. `CONTRIBUTING.md` goes through the trait method by method.
//!
//! # Limits
//!
//! Everything is bounded: bodies, events, signatures, turns, ledgers, time. Over a bound a request or
//! response passes through as it came; remembered turns go oldest first, whole. The bounds and their
//! defaults are at [`engine::Builder`] and [`store::MemoryStoreBuilder`], and at each other store.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod body;
mod dialect;
pub mod engine;
mod fresh;
mod future;
pub mod guide;
mod layer;
pub mod ledger;
#[cfg(any(feature = "reqwest-0-12", feature = "reqwest-0-13"))]
pub mod reqwest;
pub mod scope;
mod service;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;

#[doc(inline)]
pub use self::{
    body::{RequestBody, ResponseBody},
    dialect::Sentinel,
    engine::{ConfigError, Engine, Fallback, OnStoreError, Report},
    future::ResponseFuture,
    layer::ReplayLayer,
    service::ReplayService,
    store::{MemoryStore, Store},
};

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
