//! When to wake somebody, and what to do then.
//!
//! These are the rules of `examples/gateway/alerts.yml`, for Prometheus. They use what `/metrics` of the gateway example
//! exports; a gateway of its own that takes the feature `metrics` has `reasoning_replay_events_total` under the same name, and
//! exports the snapshot of its store as it likes. Thresholds are a beginning: they assume some traffic.
//!
//! `page` wants somebody now: requests fail, or will. `ticket` wants somebody this week: replay is lost, and quality with it.
//!
//! ```yaml
#![doc = include_str!("../../examples/gateway/alerts.yml")]
//! ```
