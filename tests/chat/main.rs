//! The reports of reasoning that got lost in chat completions, as scenarios. `tests/SCENARIOS.md` tells what each row is
//! about.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
#[path = "../support/mod.rs"]
mod support;
mod talk;

mod healing;
mod isolation;
mod loops;
mod lost;
mod places;
mod stand_ins;
mod streams;
