//! The layer around reqwest's clients, and in reqwest-middleware, over sockets. Every test runs for every version.
#![cfg(test)]

mod client;
mod exchanges;
mod loops;
#[path = "../support/mod.rs"]
mod support;
mod talk;
#[allow(dead_code, reason = "made for more than what is told here")]
#[path = "../gateway/upstream.rs"]
mod upstream;
