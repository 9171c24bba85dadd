//! The reports of lost thinking in conversations with Claude, as scenarios.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;
mod talk;

mod agent;
mod blocks;
mod lost;
mod mixed;
mod refusals;
mod responses;
mod rows;

mod wild;
