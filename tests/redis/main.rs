//! What a user sees of the store on a server: the contract, what replicas share, and what faults cost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic too")]

#[allow(dead_code, reason = "made for more than what is told here")]
#[path = "../scenarios/client.rs"]
mod client;
mod cluster;
mod contents;
mod faults;
mod merging;
mod proxy;
mod replicas;
mod server;
mod turns;
