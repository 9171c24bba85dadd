//! What it takes to test an integration, or a store of one's own, without a network.

pub mod anthropic;
pub mod chat;
pub mod gemini;
mod provider;
pub mod responses;
pub mod store_contract;

pub use self::provider::Script;
