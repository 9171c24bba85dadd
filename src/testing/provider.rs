//! What every fake provider needs, whatever protocol it speaks.
//!
//! A protocol implements [`Fake`]: it makes an [`Answer`] of a request that was read. [`Core`] does the rest: it reads
//! requests, counts and records them, and delivers answers with the frames and accidents of a [`Delivery`]. The macro
//! `face` gives the public type of a provider and its builder the methods that all of them have.

pub(crate) mod base64;
mod body;
mod core;
mod delivery;
mod face;
pub(crate) mod json;
mod random;
mod read;
mod record;
mod script;

pub use self::{
    body::{ProviderBody, ProviderError},
    core::ProviderFuture,
    delivery::{Chunks, Gzip},
    record::Recorded,
    script::Script,
};
pub(crate) use self::{
    core::{Answer, Core, Fake},
    delivery::Delivery,
    face::face,
    random::Random,
    read::{Incoming, Unreadable},
};
