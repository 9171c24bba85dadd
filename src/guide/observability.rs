//! What the report, the counters and the log say.
//!
//! None of them shows session ids, call ids, credentials, texts or signatures.
//!
//! # One exchange
//!
//! Each watched response has a [`Report`](crate::Report) in its extensions. What was put in is there with the head; what was learned
//! only when the body has ended.
//!
//! | what [`Summary`](crate::engine::Summary) says | what that means |
//! |---|---|
//! | `restored` > 0, `healed` false | it worked |
//! | `restored` 0, `missed` 0 | the client kept its state, or there was none |
//! | `missed` > 0 | calls came back without state that is known here: look at `session` |
//! | `session` is `Derived` or `Weak` and `missed` > 0 | the history was changed, and the match is strict: [name the session](super::sessions) |
//! | `ambiguous` > 0 | equal parts that nothing tells apart; nothing was put in |
//! | `sentinels` > 0 | stand-ins were sent, at the price of quality |
//! | `healed` | the provider refused once; the client did not see it |
//! | `unobserved` | why nothing, or not all, was learned |
//!
//! ```
//! use tower_reasoning_replay::{Report, engine::SessionKind};
//!
//! /// A line of one's own access log.
//! fn told<B>(response: &http::Response<B>) -> Option<String> {
//!     let now = response.extensions().get::<Report>()?.summary();
//!     let strict = matches!(now.session, SessionKind::Weak | SessionKind::Derived);
//!     Some(format!("dialect={} restored={} missed={} strict={strict}", now.dialect, now.restored, now.missed))
//! }
//! # assert!(told(&http::Response::new(())).is_none());
//! ```
//!
//! # All exchanges
//!
//! Counters by dialect and [`Event`](crate::engine::Event): [`Engine::counters`](crate::Engine::counters), or, with the
//! feature `metrics`, `reasoning_replay_events_total` with the labels `dialect` and `event`. The facade knows a series only
//! after its first event, so `rate` over a series that is not there yet is nothing, not 0; `/metrics` of the gateway example
//! has all of them from the start.
//!
//! | event | what it counts | when it grows |
//! |---|---|---|
//! | `watched` | requests of a known dialect that were read | |
//! | `unread` | requests of a known dialect that were not | bodies over `max_request`, encoded, not JSON |
//! | `no_tenant` | requests without a tenant, where one is required | the gateway lets somebody through without a name |
//! | `nothing_missing` | requests without a gap; the store was not asked | |
//! | `loaded` | requests for which the store was asked | |
//! | `load_failed` | loads that failed or came too late | the store is down or slow |
//! | `restored` | pieces of state that were put back | |
//! | `call_restored` | dropped calls that were put back | |
//! | `missed` | calls whose state is not known | state expired or was evicted, a restart, clients change their calls, sessions are not told apart |
//! | `ambiguous` | places that several parts fit | sessions are shared by conversations |
//! | `sentinel` | stand-ins that were sent | as `missed` |
//! | `learned` | turns that were remembered | it stops: answers are not observed |
//! | `learned_provisional` | turns that broke off | clients or upstreams hang up |
//! | `commit_failed` | turns that could not be stored | the store is down, the queue is full |
//! | `commit_late` | turns not stored within `commit_wait` | the store is slow |
//! | `evicted` | turns that went to make room | bounds are too tight |
//! | `unobserved` | answers that could not be read | answers arrive encoded, or over `max_event` |
//! | `refused_missing` | refusals: state is missing | as `missed` |
//! | `refused_structure` | refusals: the shape is wrong, after something was put in | a provider has changed its rules, or a mistake of this crate: report it |
//! | `refused_invalid` | refusals: state is not valid, after something was put in | a provider rotated its keys, or state crosses accounts |
//! | `forgotten` | items that went because they were refused | as above |
//! | `retried` | requests that were sent once more | |
//! | `healed` | second attempts that succeeded | much less than `retried`: the remedy does not help |
//! | `finished_missing` | answers that ended with `MISSING_THOUGHT_SIGNATURE` | as `missed` |
//!
//! Two ratios tell most: `restored / (restored + missed)`, how much of what was needed is known; and `healed / retried`,
//! whether the remedies help. The stores have counts of their own, in a snapshot each:
//! [`MemorySnapshot`](crate::store::MemorySnapshot), `DiskSnapshot`, `RedisSnapshot`,
//! [`LayeredSnapshot`](crate::store::LayeredSnapshot).
//!
//! The gateway example exports all of it on `/metrics`; `examples/gateway/dashboard.json` shows it in Grafana (import
//! it and choose a Prometheus data source), and [`alerts`](super::alerts) are rules on it.
//!
//! # The log
//!
//! Through [`tracing`](https://docs.rs/tracing), with targets that begin with `tower_reasoning_replay`:
//!
//! | level | message | fields |
//! |---|---|---|
//! | `warn` | `the store could not be asked` | `dialect`, `reason`, `error` |
//! | `warn` | `the store did not take a turn` | `dialect`, `error` |
//! | `warn` | `a turn is dropped` | `dialect`, `reason` |
//! | `info` | `the request is sent once more` | `dialect`, `restored`, `sentinels` |
//! | `debug` | `state is put back` | `dialect`, `restored`, `calls`, `sentinels` |
//! | `debug` | `a turn is remembered` | `dialect`, `items`, `bytes` |
//! | `debug` | `the provider refused the request` | `dialect`, `refusal`, `status`, `restored` |
//! | `debug` | `the response is not observed` | `dialect`, `reason` |
//! | `debug` | `the request is passed on unread` | `dialect` |
//! | `debug` | `the request cannot be read and is passed on as it came` | `dialect` |
//!
//! `error` is what the store says of its failure.
//!
//! To follow one conversation, put a span with an id of your own around the call: events carry it. `RUST_LOG` as
//! `info,tower_reasoning_replay=debug` shows every exchange.
