//! The layer in the stacks and over the transports in which gateways have it.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod boxed;
mod http_layers;
mod policies;
mod talk;
mod wire;
