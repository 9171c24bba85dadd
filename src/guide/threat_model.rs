//! What an attacker can and cannot do.
//!
//! Each claim names the test that holds it, by file and function; one without a name follows from how the thing is built. What the
//! layer protects: that state reaches nobody but the conversation that it came from, that it is not told, and that the gateway stays up.
//!
//! What it trusts: the process and its memory, the gateway that names tenants, the operating system's randomness, BLAKE3 and
//! XChaCha20-Poly1305.
//!
//! # A malicious client
//!
//! It has a tenant of its own, and sends what it likes.
//!
//! | it cannot | because | test |
//! |---|---|---|
//! | get state of another tenant, whatever session, model or call id it names | the tenant is part of the scope | `tests/rules/isolation.rs`: `scopes_never_share`; `tests/scenarios/isolation.rs`: `nothing_reaches_another_session_tenant_or_agent_g16` |
//! | pass for a tenant that an extension names, by a header or a credential of the same value | each way to name one is a namespace | `src/scope/tenant.rs`: `an_extension_and_a_header_of_one_name_differ` |
//! | have state put onto content of its making | only content that is proven to be the same gets any | `tests/scenarios/arguments.rs`: `changed_arguments_are_another_call_g13`; `tests/scenarios/equal.rs`: `an_equal_call_of_the_clients_own_making_takes_nobodys_signature_g27` |
//! | have an edited history replayed in a session that it only shares by chance | the match is strict there | `tests/rules/isolation.rs`: `weak_and_derived_sessions_match_strictly` |
//! | have its own values learned as state | only what a provider answered is | `tests/scenarios/refusals.rs`: `our_own_sentinels_are_never_learned_g25` |
//! | crash the process or make it slow with odd JSON, depth, repeated keys or types | such bodies pass on as they came; depth is bounded | `tests/rules/transparency.rs`: `wrong_types_anywhere_never_fail_nor_disturb`, `what_cannot_be_read_passes_as_it_came`; the targets in `fuzz/` |
//! | make one request hold more than `max_request` | longer bodies are resumed, unread | `tests/rules/transparency.rs`: `a_long_body_is_resumed` |
//!
//! | it can | so |
//! |---|---|
//! | share its state among all who use its credential, where the credential is the tenant | name the tenant, if a key has several users |
//! | in a tenant of several users, name another user's session. It gets no state in the answer, but what it sends with the same content, or with the output of a call whose id it knows, goes upstream with that state, and it may ask the model for what it reads | the same: one tenant for each who must not see the others |
//! | make the gateway hold many bodies of `max_request` at once: nothing bounds their sum | limit concurrent calls outside the layer: [`limits`](super::limits) |
//! | fill the store with conversations, and so push out those of others | see below |
//! | send slowly, and hold its place | timeouts outside the layer |
//! | send each request twice upstream, by provoking a refusal: once more, and no oftener (`tests/rules/healing.rs`: `a_provider_without_sentinels_is_asked_once_more_and_no_oftener`) | limit its rate; [`heal(false)`](crate::engine::Builder::heal) |
//! | choose the provenance by a `host` header, if the URI of the request has no authority. It stays within its tenant | send absolute URIs, or set [`Provenance`](crate::scope::Provenance) |
//!
//! # A malicious upstream
//!
//! It answers what it likes; it already sees every request that goes to it.
//!
//! | it cannot | because | test |
//! |---|---|---|
//! | get state that came from another provider | provenance is part of the scope | `tests/scenarios/isolation.rs`: `a_session_goes_from_the_api_to_vertex_and_back_g4`; `tests/gateway/routing.rs`: `upstreams_of_two_prefixes_share_nothing` |
//! | make a stream hold more than its bounds, by endless lines, huge events, many parts or candidates | they are bounded, and over them the bytes flow on unobserved | `tests/rules/limits.rs`: `an_endless_line_is_dropped`, `a_long_event_passes_unobserved`, `a_large_turn_is_not_kept`, `parts_are_bounded`; `tests/rules/hostile.rs`: `many_candidates` |
//! | hold back the client by an error that never ends | 64 KiB and a second, then it flows | `tests/rules/healing.rs`: `a_slow_error_body_flows_on`, `a_long_error_body_flows_on`, `an_error_body_of_empty_frames_flows_on` |
//! | have requests repeated without end | one retry | `tests/rules/healing.rs`: `a_provider_without_sentinels_is_asked_once_more_and_no_oftener` |
//! | have anything forgotten by an error about something else | only the phrases of refusals do, and only what was put in | `tests/rules/healing.rs`: `other_errors_forget_nothing`, `a_model_may_talk_about_signatures` |
//! | crash the process | | `tests/rules/hostile.rs`: `noise`; the targets in `fuzz/` |
//!
//! | it can | so |
//! |---|---|
//! | say what it likes as reasoning, and get it back in the next request of that conversation; it could also have said it as text | |
//! | have what it said forgotten | |
//! | make each open stream hold up to `max_event` and `max_turn` | lower both for upstreams that are not trusted |
//! | fill the ledgers of those who ask it, as a client can | |
//!
//! # A neighbour
//!
//! Another tenant on the same gateway. It can do what a client can, so it reads nothing of others. But **the bounds of a store, and the
//! queue of commits, are shared by all tenants, and there are no shares**: one that opens 10,240 conversations within an hour
//! pushes out those that were not used for longest, of whomever. That costs the others replay, not requests. Limit how many
//! conversations a tenant may open, raise the bounds, or give large tenants a layer and a store of their own. It could learn that others
//! use the gateway from how long its own state lives; nothing of whom.
//!
//! # Thieves
//!
//! | who has | learns | can |
//! |---|---|---|
//! | the contents of Redis, not sealed | reasoning in the clear, signatures, names, arguments and ids of calls that are kept whole; sizes and times. Not whose they are: no tenant, session or model | replay signatures with an account of its own, where the provider does not bind them |
//! | the contents of Redis, sealed | how many ledgers and turns there are, their order, sizes and ages | nothing (`tests/redis/contents.rs`: `the_server_holds_a_keyed_hash_as_key_and_with_a_seal_nothing_readable`; `tests/gateway/replicas.rs`: `a_sealed_store_and_its_log_tell_no_secrets`) |
//! | the file of `DiskStore`, or an old copy | as Redis, not sealed; also what was forgotten and not yet overwritten | as above. The file is made for its owner only (`tests/disk.rs`: `a_store_on_disk_outlives_the_process_and_is_for_its_owner_only`) |
//! | the hash key alone | nothing | nothing |
//! | the hash key and a store | whether a guessed tenant, provenance, model and session have a ledger, and whether a guessed text stood at a place: it may try guesses, offline | link ledgers to customers whose names it knows |
//! | the seal key alone | nothing | nothing |
//! | the seal key and Redis | as Redis, not sealed | make turns that open; see the next table |
//! | a dump of the process's memory | everything: keys, state, what passes | everything |
//!
//! A key that lies beside its store falls with it: the gateway example without `--key-file` or `REPLAY_KEY` keeps its hash key in
//! `PATH.key` or on the server itself, and warns.
//!
//! | who may write to | can | cannot |
//! |---|---|---|
//! | Redis, not sealed | withhold, swap and change state, put words into reasoning that a model takes for its own, bring calls back that were never made: checksums are no signatures | have it put onto other content than the anchors name; run code. What is damaged is a miss (`tests/redis/contents.rs`: `a_turn_that_cannot_be_read_is_a_miss_and_the_others_are_there`, `what_is_no_ledger_is_a_miss_and_is_replaced`) |
//! | Redis, sealed | withhold turns, put back older versions of one, change what is readable of them | read or make any, move one to another ledger (`src/store/redis/seal.rs`: `a_sealed_turn_opens_in_its_place_only`) |
//! | the file of `DiskStore` | as Redis, not sealed | |
//! | the file of the hash key | make everything unreachable | |
//!
//! So a store on a server wants a password, TLS and a network of its own, and a seal if others may get at it.
//!
//! # A reader of logs and metrics
//!
//! Logs, `Debug` output, reports and metrics hold names of dialects and events, counts, sizes, status codes, and the first four bytes of
//! a scope, a keyed hash (`tests/rules/secrets.rs`: `logs_tell_nothing`, `debug_tells_nothing`, `metrics_tell_nothing`;
//! `tests/gateway/families.rs`: `the_log_tells_no_secrets_of_any_family`). So a reader learns how busy the gateway is, with which
//! providers, and which lines belong to one conversation. What libraries beneath log at `trace` is theirs: name
//! targets in `RUST_LOG`.
//!
//! `Summary::scope` has the whole hash: enough to [`forget`](crate::Store::forget) the ledger, and nothing else.
//!
//! # What the layer does not do
//!
//! - It authenticates nobody, and checks no signature: opaque is opaque.
//! - It does not wipe memory: what was freed may linger in the process, keys included.
//! - It hides nothing from the provider, and no timing from a client: whether state was known shows in how the provider answers.
