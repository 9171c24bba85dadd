//! The fake of the Messages API is as strict as it says: every rule takes the right request and refuses the wrong one.
#![cfg(test)]

mod answers;
mod binding;
mod client;
mod delivery;
mod latest;
mod rules;
