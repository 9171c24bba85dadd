//! The reports of lost reasoning in conversations over the Responses API, as scenarios.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;
mod talk;

mod agent;
mod answers;
mod clear;
mod dropped;
mod isolation;
mod lost;
mod present;
mod refusals;
mod vendors;
