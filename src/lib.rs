//! Middleware that remembers the opaque reasoning state of LLM responses and puts it back.

pub mod engine;
pub mod ledger;
pub mod scope;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;
