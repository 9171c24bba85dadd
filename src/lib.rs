//! Middleware that remembers the opaque reasoning state of LLM responses and puts it back.

pub mod engine;
pub mod ledger;
pub mod scope;
pub mod store;
pub mod wire;
