//! Which store, its keys, and what a failover costs.
//!
//! # Choosing
//!
//! | you run | take |
//! |---|---|
//! | one process, and a restart may cost the conversations under way | [`MemoryStore`](crate::MemoryStore) |
//! | one process that is restarted for releases | `DiskStore`, feature `disk` |
//! | several replicas, or a platform without a disk | `RedisStore`, feature `redis` |
//! | several replicas, and the server may be down for a moment | [`Layered`](crate::store::Layered) in front of `RedisStore` |
//! | several replicas without a server | `MemoryStore`, and a balancer that sends a conversation to the same replica |
//!
//! What a conversation loses when its state is lost: with Gemini, one refused request, then a stand-in and lower quality;
//! with chat completions that insist on reasoning, a refusal; with Claude and OpenAI, thinking that is not there. The next
//! turns are remembered as ever.
//!
//! # What each promises
//!
//! | | `MemoryStore` | `DiskStore` | `RedisStore` |
//! |---|---|---|---|
//! | the process restarts, or is killed | all is gone | what was answered is there: every commit is synced | nothing happens |
//! | several replicas | no: each knows its own | no: a second process that opens the file is refused | yes: appends merge, and a load asks the primary, always |
//! | the store is lost, or down | | its calls fail, and it is opened again when the disk is back | its calls fail, after three failures at once, but for one attempt each second; it goes on when the server does |
//! | bounds | see [`limits`](super::limits) | `ttl`, `max_ledgers`, `max_bytes` | `ttl`; how much in all: the server's `maxmemory`, with a policy that evicts |
//! | a load of 20 turns, p50 | 60–100 ns | 0.25 µs used lately, 92 µs from the file | 69 µs unchanged, 80 µs one turn behind, 258 µs all of it (a `PING`: 63 µs) |
//! | a commit, p50 | 0.35 µs, 0.87 µs with two threads | 0.37 ms alone, 1.0 ms with 8 writers, 4.0 ms with 64 | 94 µs (a bare `SET`: 63 µs) |
//!
//! The times were measured on one shared machine, with the server beside the process: `benches/README.md` says how. A call
//! that fails costs replay, and never the request, unless [`OnStoreError`](crate::OnStoreError) says otherwise.
//!
//! # Redis and Valkey
//!
//! - Redis 6 or later, or Valkey; a single server, a primary with replicas, or a cluster.
//! - Give it `maxmemory` and a policy that evicts: `volatile-lru` beside other data, `allkeys-lru` alone. With `noeviction`
//!   appends fail when it is full, and loads go on.
//! - Take a connection that connects again on its own, with a response timeout of at most the operation timeout, and a
//!   short TCP user timeout.
//! - Permissions that suffice are those of the scripts: `EVAL` and `EVALSHA`, the commands on hashes, `PEXPIRE`,
//!   `DEL`; `SCAN` and `UNLINK` for [`clear`](crate::Store::clear).
//!
//! **What a failover loses.** A server copies to its replicas after it has answered. An append that was acknowledged may be
//! gone after a failover, or after a restart without persistence. Then a turn is missing, as if it had expired. Nothing
//! false comes from that: a ledger names each of its states at random, so a process never takes a ledger that was set back for
//! the one that it knows. An old primary that was demoted answers with an error, and not with old state.
//!
//! # Keys
//!
//! | key | what it does | lost | stolen |
//! |---|---|---|---|
//! | [`HashKey`](crate::scope::HashKey) | names ledgers, and compares content | all that is stored is unreachable, until it expires | see [the threat model](super::threat_model) |
//! | `Seal` (Redis only) | encrypts turns | all that it sealed is a miss | what lies on the server can be read |
//!
//! Both are 32 random bytes: `openssl rand -hex 32`. Keep them in a secret store and apart from what they protect. They are
//! two keys for two purposes; do not use one for both.
//!
//! **Sealing.** The hash key hides whose state it is, not the state. `RedisStore::builder(…).seal(Seal::new(key))` encrypts
//! each turn with XChaCha20-Poly1305, bound to its ledger and its id. The file of `DiskStore` is not encrypted: it belongs to
//! its owner only (mode 600), so put it on an encrypted disk.
//!
//! **Rotating the seal** takes three rollouts, and no conversation is lost: `Seal::new(old).also_opens(new)` everywhere, then
//! `Seal::new(new).also_opens(old)`, then, a time to live later, `Seal::new(new)`.
//!
//! **Rotating the hash key** loses all conversations, for there is no second one. During a rollout the replicas with the old
//! and with the new key do not find each other's ledgers. Do it when few conversations are under way. To shorten the pain,
//! [`Fallback::OnRejection`](crate::Fallback) helps Gemini's clients over it.
//!
//! # Moving
//!
//! There is no export. To move from one store to another, start with the new one empty: what was under way is missing once,
//! and after a time to live nothing remembers the old one. The same holds for `DiskStore` between machines, but its file may be
//! copied while no process has it open; it needs the same hash key.
//!
//! # Forgetting
//!
//! [`Store::forget`](crate::Store::forget) drops one conversation: the scope is in the [`Report`](crate::Report). There is
//! nothing that drops a tenant: a scope is a hash, and does not tell to whom it belongs. Its ledgers go after a time to live
//! without use, or with [`Store::clear`](crate::Store::clear).
//!
//! ```
//! use tower_reasoning_replay::{Report, Store, store::StoreError};
//!
//! async fn forget<B>(store: &impl Store, response: &http::Response<B>) -> Result<bool, StoreError> {
//!     match response.extensions().get::<Report>().and_then(|report| report.summary().scope) {
//!         Some(scope) => store.forget(&scope).await,
//!         None => Ok(false),
//!     }
//! }
//! # let store = tower_reasoning_replay::MemoryStore::new();
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! assert!(!forget(&store, &http::Response::new(())).await?);
//! # Ok::<(), StoreError>(())
//! # })?;
//! # Ok::<(), StoreError>(())
//! ```
//!
//! What is on a disk or in backups of a server outlives a `forget`: `DiskStore` does not overwrite the pages of what went
//! before they are used again, or the file is compacted.
