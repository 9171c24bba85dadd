//! What users of gateways and clients reported, as conversations with the strict provider. `tests/SCENARIOS.md`
//! tells what each row is about.
#![cfg(test)]

mod arguments;
mod client;
mod derived;
mod dropped;
mod equal;
mod faces;
mod histories;
mod isolation;
mod lost;
mod mangled;
mod parts;
mod refusals;
