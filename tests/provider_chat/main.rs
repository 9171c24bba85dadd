//! The fake of chat completions is as strict as it says: every rule takes the right request and refuses the wrong one.
#![cfg(test)]

mod answers;
mod clear;
mod client;
mod delivery;
mod openrouter;
mod schema;
mod sealed;
