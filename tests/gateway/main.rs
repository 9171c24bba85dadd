//! The gateway example, as a process, between a raw client and a strict provider.
#![cfg(test)]

mod client;
#[cfg(all(feature = "disk", feature = "redis"))]
mod dashboard;
#[cfg(feature = "disk")]
mod disk;
mod families;
mod family;
#[cfg(feature = "redis")]
mod log;
mod operations;
mod process;
/// The part of the example that names public hosts: no test may ask them.
#[path = "../../examples/gateway/public.rs"]
mod public;
mod replay;
#[cfg(feature = "redis")]
mod replicas;
mod routing;
/// The part of the tests of the store that starts a server.
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "made for more than what is told here")]
#[path = "../redis/server.rs"]
mod server;
#[cfg(any(feature = "disk", feature = "redis"))]
mod stores;
mod streaming;
mod transparency;
mod upstream;
