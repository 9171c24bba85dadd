//! What was read of a request body, and the lists for that, which are used again.

use std::{
    mem::take,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Shared, restore::Gaps};
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

/// A request body, the history that was read in it, and where that could lack state.
pub(super) struct Reading {
    read: Read,
    gaps: Gaps,
    shared: Arc<Shared>,
}

impl Reading {
    /// Reads a body; `None` if it holds no history that can be read.
    pub(super) fn of(shared: &Arc<Shared>, dialect: &dyn Dialect, body: &Bytes) -> Option<Self> {
        if !is_utf8(body) {
            return None;
        }
        let Spare { history, gaps } = shared.spares.take();
        let read = Read::try_new(body.clone(), |body| dialect.read(body, history)).ok()?;
        let gaps = Gaps::find(read.borrow_dependent(), gaps);
        Some(Self { read, gaps, shared: shared.clone() })
    }

    pub(super) fn history(&self) -> &History<'_> {
        self.read.borrow_dependent()
    }

    pub(super) fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let history = self.read.with_dependent_mut(|_, history| take(history).emptied());
        self.shared.spares.put(Spare { history, gaps: take(&mut self.gaps) });
    }
}

/// Lists that have room, for one request. What the second still holds is of no use.
#[derive(Default)]
struct Spare {
    history: History<'static>,
    gaps: Gaps,
}

/// Those of former requests.
#[derive(Default)]
pub(super) struct Spares(Mutex<Vec<Spare>>);

impl Spares {
    fn take(&self) -> Spare {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put(&self, spare: Spare) {
        let room = spare.history.parts.capacity().max(spare.history.messages.capacity()).max(spare.gaps.room());
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < MAX_SPARES && room <= MAX_PARTS {
            spares.push(spare);
        }
    }
}
