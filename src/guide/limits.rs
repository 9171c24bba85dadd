//! How to choose each bound, and how much memory that takes.
//!
//! Everything is bounded, and no bound fails a request. Over one, a body passes through as it came, and remembered turns
//! go oldest first, whole.
//!
//! # Of an exchange
//!
//! | setting | default | over it | raise it if | lower it if |
//! |---|---|---|---|---|
//! | [`max_request`](crate::engine::Builder::max_request) | 64 MiB | the body is passed on unread: `unread` | clients send more media inline | many large requests at once; nothing restores what is not read |
//! | [`max_event`](crate::engine::Builder::max_event) | 32 MiB | the answer is not observed: `unobserved` | models send larger media in one event, or whole answers in one document | upstreams are not trusted |
//! | [`max_signature`](crate::engine::Builder::max_signature) | 4 MiB | the part is not restored | signatures on media grow | state is text only: 64 KiB does |
//! | [`max_turn`](crate::engine::Builder::max_turn) | 16 MiB | nothing is kept of that answer | as `max_signature`, with several in one answer; raise the bytes of a ledger, too | as above |
//! | [`load_timeout`](crate::engine::Builder::load_timeout) | 50 ms | the request goes on without replay: `load_failed` | the store is far, and a miss is worse than a wait | the store is near |
//! | [`reload_timeout`](crate::engine::Builder::reload_timeout) | 1 s | a refused request is not mended from the store | as above | |
//! | [`commit_wait`](crate::engine::Builder::commit_wait) | 250 ms | the end of the answer goes on, the commit too: `commit_late` | clients answer within milliseconds, and the store is slow | the last frame must not wait: then a quick client may miss its turn |
//! | [`commit_queue`](crate::engine::Builder::commit_queue) | 1,024 commits, 64 MiB | the turn is dropped: `commit_failed` | many streams end at once, and the store is slow | memory is scarce |
//! | [`max_hashes`](crate::engine::Builder::max_hashes) | 16 MiB | the next request of a conversation that was not heard of for long is hashed in full | many long conversations at once: 50 B for each text, call and output of a history | memory is scarce |
//! | [`max_spare`](crate::engine::Builder::max_spare) | 16 MiB | memory for a body is allocated anew, and cleared by the system page by page | many long requests at once: two bodies each | memory is scarce |
//!
//! Fixed: 4,096 parts of one answer, 128 levels of JSON, 64 KiB and 1 s of a refusal that is held, 256 characters of a
//! session's name, 10,240 sessions that a count may find under their derived name, 1,024 tenants and models for which a stand-in
//! is set up front.
//!
//! # Of a store
//!
//! | setting | `MemoryStore` | `DiskStore` | `RedisStore` | over it |
//! |---|---|---|---|---|
//! | time to live since the last use | 1 hour | 1 hour | 1 hour | the ledger is gone: `missed` |
//! | ledgers | 10,240 | 10,240 | the server's `maxmemory` | those not used for longest go |
//! | bytes of all ledgers | 256 MiB | 256 MiB | the server's `maxmemory` | as above |
//! | items of one ledger | 4,096 | 4,096 | 4,096 | its oldest turns go: `evicted` |
//! | bytes of one ledger | 16 MiB | 16 MiB | 16 MiB | as above |
//! | ledgers and bytes kept in this process | all | 64 MiB | 256, 64 MiB | they are read again |
//!
//! The time to live should be longer than a user's pause, and than the longest tool call. An hour suits agents; a chat that
//! goes on after lunch wants more. It costs memory only up to the bounds.
//!
//! The bounds of a store are not divided among tenants: see [the threat model](super::threat_model#a-neighbour).
//!
//! # Memory, worked out
//!
//! A gateway with the layer needs, beside what it needs anyway:
//!
//! | what | how much | from when to when |
//! |---|---|---|
//! | request bodies | requests × (body + patched body), each up to `max_request` and what is restored | until the head of the answer is there |
//! | open streams | streams × 8 KiB and the state seen so far, at most `max_event` + `max_turn` | until the end of the answer |
//! | commits in the background | the bytes of `commit_queue` | |
//! | hashes of the last requests | the bytes of `max_hashes` | |
//! | buffers for bodies, used again | the bytes of `max_spare` | |
//! | lists for histories, used again | 4 × 1 MiB at most | |
//! | ledgers | the bytes of the store and a sixteenth; about 20 % and 256 B a ledger for bookkeeping | |
//! | index of `DiskStore` | ledgers × 250 B | |
//! | `RedisStore` | its near cache | |
//!
//! An example: 500 requests at once, of which 50 have not got the head of their answer yet; bodies of 800 KB; turns of 1.8 KB,
//! which is a call with a signature of 1.5 KB; 5,000 conversations in an hour of 40 turns each.
//!
//! - request bodies: 50 × 2 × 800 KB = 80 MB
//! - open streams: 500 × (8 KiB + 1.8 KB) = 5 MB
//! - ledgers: 5,000 × 40 × 1.8 KB = 360 MB. More than the default of 256 MiB, so raise
//!   [`max_bytes`](crate::store::MemoryStoreBuilder::max_bytes) or let the oldest go.
//!
//! The worst case is no example but a bound: nothing in the layer limits how many requests there are. Whoever can open 1,000 requests
//! of 64 MiB can make it hold 64 GB. So limit concurrent calls *outside* the layer (see [`placement`](super::placement)), or
//! `max_request`, by `requests × max_request × 2 ≤ memory`.
//!
//! ```
//! use tower_reasoning_replay::{ReplayLayer, store::MemoryStore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::builder().max_ledgers(20_000).max_bytes(512 << 20).build()?;
//! let layer = ReplayLayer::builder(store).max_request(8 << 20).max_event(4 << 20).build_layer()?;
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```
