//! What may change in a release, and how to roll it out.
//!
//! # Versions
//!
//! The crate follows [Semantic Versioning](https://semver.org/). Before 1.0 a change that breaks comes with a new minor
//! version, and `CHANGELOG.md` says what to do.
//!
//! | part of the promise | not part of it |
//! |---|---|
//! | every public item, but those named on the right | the texts of errors, `Debug` output, log messages |
//! | defaults of settings: a change is told in the changelog | new variants and fields of what is `#[non_exhaustive]` |
//! | names of metrics, labels and events | how fast something is |
//! | which exchanges are watched, by dialect | which phrases of a provider are understood: these follow the providers |
//! | the format of what stores keep, as below | the module `testing`: it follows the providers, and may break in a minor version |
//!
//! Types of other crates in the public API, on purpose: `bytes`, `http`, `http-body`, `tower-layer`, `tower-service`; `redis` with the
//! feature of that name. A new major version of one of these is a breaking change here. `.ci/release` checks the list. (The module `testing` also names
//! `serde_json`.)
//!
//! # Toolchain
//!
//! The oldest Rust is 1.95, as `rust-version` says: it is the only one with which the crate is tested. It may work with older
//! ones; nobody has looked. Raising it comes with a new minor version.
//!
//! # What is stored
//!
//! | what | version of its format | read by an older release | read by a newer release |
//! |---|---|---|---|
//! | a turn ([`codec::VERSION`](crate::store::codec::VERSION)) | 1 | a field at the end is passed over; another version is a miss | older versions are read, or are a miss if the changelog says so |
//! | a ledger on a server | 1 | another layout counts as absent, and the next append replaces it | as above |
//! | a file on disk | 1 | another format is an error that says so, when it is opened | as above |
//! | scopes and anchors, the keyed hashes | 1 | another derivation finds nothing | as above |
//!
//! What an upgrade can cost is state, as if it had expired; never something false. A release that costs it says so in the
//! changelog.
//!
//! # Rolling out
//!
//! Replicas of neighbouring releases may share a server while one takes the place of the other. If the formats are the same,
//! nothing is noticed. If the newer one writes another format of a turn, the older ones miss those turns, count them as
//! `damaged`, and go on; if it writes another layout of a ledger, the older ones begin such ledgers anew, so conversations that
//! alternate between releases miss turns until the rollout is over. To avoid even that, give the new release another
//! `prefix`.
//!
//! The file of `DiskStore` serves one process. So the old one has to end before the new one opens it: its signal, its flush,
//! then the start. To go back to a release that does not read the file, remove the file.
//!
//! Changing a setting: `ttl` and limits may differ between replicas for a while; each applies its own to what it writes. The
//! hash key may not: see [`stores`](super::stores#keys) for keys and their rotation. A
//! [source of sessions](crate::scope::SessionSources) that is added or taken away, and another name of a tenant, rename the
//! sessions that it concerns: they are missed once.
//!
//! # Looking ahead
//!
//! When a provider changes what it accepts, the counters `refused_missing`, `refused_structure` and `refused_invalid` show it
//! first. `--no-replay` of the gateway example, or leaving out the layer, is the way back that always works: without it the
//! client gets what the provider says.
