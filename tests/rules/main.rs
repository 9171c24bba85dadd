//! The rules of the design, as those who use the layer see them.
#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod commit;
mod disconnect;
mod healing;
mod hostile;
mod isolation;
mod limits;
mod secrets;
mod socket;
mod spellings;
mod stacks;
mod transparency;
mod unknown;
