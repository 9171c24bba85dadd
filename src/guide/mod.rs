//! The guide: how to put replay into a gateway, and how to run it, with examples that are compiled and run.
//!
//! There is nothing to call here. Each page is a module of documentation.
//!
//! | page | what it answers |
//! |---|---|
//! | [`placement`] | where in a stack of services the layer belongs |
//! | [`engine`] | how gateways with an HTTP client, a filter or a pipeline of their own use it |
//! | [`sessions`] | how conversations and callers are told apart, client by client |
//! | [`limits`] | how to choose each bound, and how much memory that takes |
//! | [`stores`] | which store, its keys, what a failover costs |
//! | [`observability`] | what the report, the counters and the log say |
//! | [`alerts`] | when to wake somebody, and what to do then |
//! | [`threat_model`] | what an attacker can and cannot do |
//! | [`upgrades`] | what may change in a release, and how to roll it out |

pub mod alerts;
pub mod engine;
pub mod limits;
pub mod observability;
pub mod placement;
pub mod sessions;
pub mod stores;
pub mod threat_model;
pub mod upgrades;

#[cfg(test)]
mod tests;
