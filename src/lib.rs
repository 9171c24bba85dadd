//! tower-reasoning-replay

pub mod ledger;
pub mod scope;
pub mod store;
mod wire;
