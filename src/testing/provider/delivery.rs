//! How bytes travel, and which accidents they have.

use std::time::Duration;

/// How the bytes of a body are cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Chunks {
    /// One frame for each event; a body that is no stream is one frame.
    #[default]
    Events,
    /// Frames of so many bytes, across events and characters. 0 counts as 1.
    Bytes(usize),
    /// Everything in one frame.
    Whole,
}

/// When bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Gzip {
    /// When the request's `accept-encoding` names gzip.
    #[default]
    IfAccepted,
    /// Never.
    Never,
    /// Always, with `content-encoding: gzip`.
    Always,
    /// Always, but without the header.
    Unlabelled,
}

/// The switches that all providers have. The `face` macro documents them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) chunks: Chunks,
    pub(crate) gzip: Gzip,
    pub(crate) trailers: bool,
    pub(crate) head_delay: Option<Duration>,
    pub(crate) stalls: Vec<(usize, Duration)>,
    pub(crate) cut_after: Option<usize>,
    pub(crate) cut_before_head: bool,
    pub(crate) end_early: bool,
    pub(crate) faults_only_at: Option<usize>,
}

impl Delivery {
    /// Whether the request with this number, from 0, has the accidents.
    pub(crate) fn faulty(&self, number: usize) -> bool {
        self.faults_only_at.is_none_or(|only| only == number)
    }
}
