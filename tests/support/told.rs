//! A store that tells what was appended to it.
#![allow(dead_code, unreachable_pub)]

use std::sync::{Arc, Mutex};

use tower_reasoning_replay::{
    MemoryStore, Store,
    ledger::{ItemRef, Ledger, Turn},
    scope::Scope,
    store::{Appended, Reply},
};

/// A turn, and the conversation that it is of.
pub type Noted = (Scope, Arc<Turn>);

/// Clones share everything.
#[derive(Clone, Default)]
pub struct Told {
    store: MemoryStore,
    turns: Arc<Mutex<Vec<Noted>>>,
}

impl Told {
    pub fn by(store: MemoryStore) -> Self {
        Self { store, turns: Arc::default() }
    }

    pub fn turns(&self) -> Vec<Noted> {
        self.turns.lock().unwrap().clone()
    }

    /// What the last response left in the ledger.
    pub fn last_turn(&self) -> Option<Arc<Turn>> {
        self.turns.lock().unwrap().last().map(|(_, turn)| turn.clone())
    }
}

impl Store for Told {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        self.store.load(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        self.turns.lock().unwrap().push((*scope, turn.clone()));
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
