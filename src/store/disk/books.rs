use std::collections::{BTreeSet, HashMap};

use crate::{ledger::Ledger, scope::Scope};

/// What one ledger holds, and when it was last used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// In microseconds since the Unix epoch.
    pub(super) used: u64,
    pub(super) turns: u64,
    pub(super) items: u64,
    pub(super) bytes: u64,
}

impl Entry {
    pub(super) fn of(ledger: &Ledger, used: u64) -> Self {
        Self { used, turns: ledger.turns().len() as u64, items: ledger.items() as u64, bytes: ledger.bytes() as u64 }
    }
}

/// What the file holds, without the turns: all ledgers in the order of their last use.
#[derive(Default)]
pub(super) struct Books {
    ledgers: HashMap<Scope, Entry>,
    order: BTreeSet<(u64, Scope)>,
    sum: Entry,
}

impl Books {
    pub(super) fn get(&self, scope: &Scope) -> Option<&Entry> {
        self.ledgers.get(scope)
    }

    pub(super) fn set(&mut self, scope: &Scope, entry: Entry) {
        self.remove(scope);
        self.ledgers.insert(*scope, entry);
        self.order.insert((entry.used, *scope));
        self.sum.turns += entry.turns;
        self.sum.items += entry.items;
        self.sum.bytes += entry.bytes;
    }

    /// Says that a ledger was used, if it is there and this is news.
    pub(super) fn touch(&mut self, scope: &Scope, used: u64) -> bool {
        match self.ledgers.get(scope) {
            Some(entry) if entry.used < used => {
                let entry = Entry { used, ..*entry };
                self.set(scope, entry);
                true
            }
            _ => false,
        }
    }

    pub(super) fn remove(&mut self, scope: &Scope) -> Option<Entry> {
        let entry = self.ledgers.remove(scope)?;
        self.order.remove(&(entry.used, *scope));
        self.sum.turns -= entry.turns;
        self.sum.items -= entry.items;
        self.sum.bytes -= entry.bytes;
        Some(entry)
    }

    /// The ledger whose last use is longest ago, and when that was.
    pub(super) fn oldest(&self) -> Option<(Scope, u64)> {
        self.order.first().map(|(used, scope)| (*scope, *used))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Scope, &Entry)> {
        self.ledgers.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.ledgers.len()
    }

    /// What all ledgers together hold.
    pub(super) fn sum(&self) -> Entry {
        self.sum
    }
}
