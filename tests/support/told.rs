//! A store that tells what was appended to it.

use std::sync::{Arc, Mutex};

use tower_reasoning_replay::{
    MemoryStore, Store,
    ledger::{ItemRef, Ledger, Turn},
    scope::Scope,
    store::{Appended, Reply},
};

#[derive(Clone, Default)]
pub(crate) struct Told {
    store: MemoryStore,
    turns: Arc<Mutex<Vec<Arc<Turn>>>>,
}

impl Told {
    /// What the last response left in the ledger.
    pub(crate) fn last_turn(&self) -> Option<Arc<Turn>> {
        self.turns.lock().unwrap().last().cloned()
    }
}

impl Store for Told {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        self.store.load(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        self.turns.lock().unwrap().push(turn.clone());
        self.store.append(scope, turn)
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        self.store.remove(scope, items)
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        self.store.forget(scope)
    }

    fn clear(&self) -> Reply<()> {
        self.store.clear()
    }

    fn appends_inline(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        false
    }
}
