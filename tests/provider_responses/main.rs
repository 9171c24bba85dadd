//! The fake of the Responses API is as strict as it says: every rule takes the right request and refuses the wrong one.
#![cfg(test)]

mod answers;
mod client;
mod delivery;
mod items;
mod rules;
