//! What is remembered: turns, their items, and the anchors by which an item is found again.
//!
//! Nothing here knows HTTP or a provider. A [`Ledger`] holds the turns of one scope, oldest first,
//! within [`Limits`]; the [matcher](self::matcher) decides which remembered part is which part of a
//! request's history.

mod anchor;
mod context;
pub(crate) mod matcher;
mod turn;

use std::{collections::VecDeque, sync::Arc};

pub use self::{
    anchor::Anchor,
    context::Context,
    turn::{Alternative, Item, ItemRef, Kind, Turn, TurnId, TurnPart},
};

/// The bounds of one ledger.
///
/// Over a bound the oldest turns go first, whole; nothing is ever cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many items (pieces of opaque state and calls) a ledger keeps. Default 4,096.
    pub items: usize,
    /// How many bytes a ledger keeps. Default 16 MiB.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { items: 4_096, bytes: 16 << 20 }
    }
}

/// All turns remembered for one scope, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    turns: VecDeque<Arc<Turn>>,
    items: usize,
    bytes: usize,
    provisional: usize,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The remembered turns, oldest first.
    #[must_use]
    pub fn turns(&self) -> impl DoubleEndedIterator<Item = &Arc<Turn>> + ExactSizeIterator {
        self.turns.iter()
    }

    /// How many items the ledger holds.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// How many bytes the ledger holds, overhead included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds a turn, or replaces the turn of the same [`TurnId`] with it, and lets the oldest turns go
    /// until the ledger is within `limits`.
    ///
    /// Appending the same turn twice leaves one. A completed turn takes the place of a provisional
    /// one that had the same preceding history. Returns how many turns went; a turn that is over the
    /// limits on its own is not taken and counts as gone.
    pub fn append(&mut self, turn: Arc<Turn>, limits: &Limits) -> usize {
        if turn.bytes() > limits.bytes || turn.items() > limits.items {
            return 1;
        }
        if let Some(at) = self.turns.iter().rposition(|held| held.id() == turn.id()) {
            self.discard(at);
        }
        if self.provisional > 0 && !turn.is_provisional() {
            while let Some(at) = self
                .turns
                .iter()
                .position(|held| held.is_provisional() && held.context().same_history(turn.context()))
            {
                self.discard(at);
            }
        }
        self.items += turn.items();
        self.bytes += turn.bytes();
        self.provisional += usize::from(turn.is_provisional());
        self.turns.push_back(turn);
        let mut gone = 0;
        while self.items > limits.items || self.bytes > limits.bytes {
            self.discard(0);
            gone += 1;
        }
        gone
    }

    /// Forgets the named pieces of state, and turns that hold nothing more. Returns how many there were.
    pub fn remove(&mut self, items: &[ItemRef]) -> usize {
        let mut removed = 0;
        for item in items {
            let Some(at) = self.turns.iter().position(|held| held.id() == item.turn) else { continue };
            let Some(turn) = self.turns[at].without(item) else { continue };
            removed += 1;
            let provisional = turn.is_provisional();
            self.items = self.items - self.turns[at].items() + turn.items();
            self.bytes = self.bytes - self.turns[at].bytes() + turn.bytes();
            if turn.items() == 0 {
                self.turns.remove(at);
                self.bytes -= turn.bytes();
                self.provisional -= usize::from(provisional);
            } else {
                self.turns[at] = Arc::new(turn);
            }
        }
        removed
    }

    fn discard(&mut self, at: usize) {
        if let Some(turn) = self.turns.remove(at) {
            self.items -= turn.items();
            self.bytes -= turn.bytes();
            self.provisional -= usize::from(turn.is_provisional());
        }
    }
}
