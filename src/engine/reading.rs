//! What was read of a request body, and the lists for that, which are used again.

use std::{
    mem::take,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::Shared;
use crate::{
    dialect::{Dialect, History},
    wire::json::is_utf8,
};

/// How many histories' lists are kept for requests to come.
const MAX_SPARES: usize = 4;

/// How long the lists are that are kept: some 1 MiB for each history.
const MAX_PARTS: usize = 8 << 10;

self_cell::self_cell!(
    struct Read {
        owner: Bytes,
        #[covariant]
        dependent: History,
    }
);

/// A request body and the history that was read in it.
pub(super) struct Reading {
    read: Read,
    shared: Arc<Shared>,
}

impl Reading {
    /// Reads a body; `None` if it holds no history that can be read.
    pub(super) fn of(shared: &Arc<Shared>, dialect: &dyn Dialect, body: &Bytes) -> Option<Self> {
        if !is_utf8(body) {
            return None;
        }
        let empty = shared.spares.take();
        let read = Read::try_new(body.clone(), |body| dialect.read(body, empty)).ok()?;
        Some(Self { read, shared: shared.clone() })
    }

    pub(super) fn history(&self) -> &History<'_> {
        self.read.borrow_dependent()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let history = self.read.with_dependent_mut(|_, history| take(history).emptied());
        self.shared.spares.put(history);
    }
}

/// Empty lists that have room.
#[derive(Default)]
pub(super) struct Spares(Mutex<Vec<History<'static>>>);

impl Spares {
    fn take(&self) -> History<'static> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put(&self, history: History<'static>) {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < MAX_SPARES && history.parts.capacity().max(history.messages.capacity()) <= MAX_PARTS {
            spares.push(history);
        }
    }
}
