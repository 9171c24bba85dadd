//! tower-reasoning-replay

pub mod body;
mod dialect;
pub mod engine;
mod future;
mod layer;
pub mod ledger;
pub mod scope;
mod service;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;

#[doc(inline)]
pub use self::{
    body::{RequestBody, ResponseBody},
    dialect::Sentinel,
    engine::{ConfigError, Engine, Fallback, OnStoreError, Report},
    future::ResponseFuture,
    layer::ReplayLayer,
    service::ReplayService,
    store::{MemoryStore, Store},
};
