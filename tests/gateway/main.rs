//! The gateway example, as a process, between a raw client and a strict provider.
#![cfg(test)]

mod client;
mod families;
mod family;
mod operations;
mod process;
/// The part of the example that names public hosts: no test may ask them.
#[path = "../../examples/gateway/public.rs"]
mod public;
mod replay;
mod routing;
mod streaming;
mod transparency;
mod upstream;
