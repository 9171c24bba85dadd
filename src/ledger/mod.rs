//! What is remembered: turns, their items, and the anchors by which an item is found again.
//!
//! Nothing here knows HTTP or a provider. A [`Ledger`] holds the turns of one scope, oldest first,
//! within [`Limits`]; the matcher decides which remembered part is which part of a
//! request's history.

mod anchor;
mod context;
pub(crate) mod few;
pub(crate) mod fingerprint;
mod held;
pub(crate) mod matcher;
mod turn;
mod turns;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub(crate) use self::context::Trace;
use self::turns::Turns;
pub use self::{
    anchor::Anchor,
    context::Context,
    held::{HeldAlternative, HeldPart},
    turn::{Alternative, Item, ItemRef, Kind, Premise, Turn, TurnId, TurnPart},
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
#[derive(Clone, Default)]
pub struct Ledger {
    turns: Turns,
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

    /// The ledger that held these turns, oldest first. They are taken as they are: which of them belong together
    /// was decided when they were appended.
    #[cfg(any(feature = "disk", feature = "redis"))]
    pub(crate) fn restored(turns: impl IntoIterator<Item = Arc<Turn>>) -> Self {
        let mut ledger = Self::new();
        for turn in turns {
            ledger.count_in(&turn);
            ledger.turns.push(turn);
        }
        ledger
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
        self.turns.len() == 0
    }

    /// Adds a turn, or puts it in the place of the turn of the same [`TurnId`], and lets the oldest
    /// turns go until the ledger is within `limits`.
    ///
    /// Appending the same turn again changes nothing. A completed turn drops the provisional ones
    /// that had the same preceding history. Appends of one turn may overtake each other: a version
    /// that holds fewer items than the one that is there, or is provisional where that is complete, is
    /// ignored.
    ///
    /// Returns how many turns went to make room; a turn that is over the limits on its own is not
    /// taken and counts as gone.
    ///
    /// # Limits
    ///
    /// Takes constant time but for the search for the id, which reads 16 bytes per turn, and for
    /// provisional turns, which are looked at only while there are any. A ledger that was cloned shares its turns
    /// with the clone in lists of 32, of which an append copies the last one.
    pub fn append(&mut self, turn: Arc<Turn>, limits: &Limits) -> usize {
        if !Self::admits(&turn, limits) {
            return 1;
        }
        let held = self.turns.position(turn.id());
        if let Some(at) = held
            && is_older(&turn, self.turns.at(at))
        {
            return 0;
        }
        let supersedes = self.provisional > 0 && !turn.is_provisional();
        let context = supersedes.then(|| (turn.id(), turn.context().clone()));
        match held {
            Some(at) => self.replace(at, turn),
            None => {
                self.count_in(&turn);
                self.turns.push(turn);
            }
        }
        if let Some((id, context)) = context {
            self.drop_provisional(id, &context);
        }
        let mut gone = 0;
        while (self.items > limits.items || self.bytes > limits.bytes) && self.pop_oldest().is_some() {
            gone += 1;
        }
        gone
    }

    /// Forgets the named pieces of state, and turns that hold nothing more. Returns how many there were.
    pub fn remove(&mut self, items: &[ItemRef]) -> usize {
        let mut by_turn: BTreeMap<u128, Vec<ItemRef>> = BTreeMap::new();
        for item in items {
            by_turn.entry(item.turn.value()).or_default().push(*item);
        }
        let mut removed = 0;
        for (id, items) in by_turn {
            let Some(at) = self.turns.position(TurnId::new(id)) else {
                continue;
            };
            let (turn, gone) = self.turns.at(at).without(&items);
            if gone == 0 {
                continue;
            }
            removed += gone;
            if turn.items() > 0 {
                self.replace(at, Arc::new(turn));
            } else {
                self.take_out(at);
            }
        }
        removed
    }

    /// Puts a turn in the place of the one with its id, or last, whatever it is.
    #[cfg(feature = "redis")]
    pub(crate) fn put(&mut self, turn: Arc<Turn>) {
        match self.turns.position(turn.id()) {
            Some(at) => self.replace(at, turn),
            None => {
                self.count_in(&turn);
                self.turns.push(turn);
            }
        }
    }

    /// Takes the turn with this id out.
    #[cfg(feature = "redis")]
    pub(crate) fn take(&mut self, id: TurnId) {
        if let Some(at) = self.turns.position(id) {
            self.take_out(at);
        }
    }

    /// Whether a turn is within the limits on its own.
    pub(crate) fn admits(turn: &Turn, limits: &Limits) -> bool {
        turn.bytes() <= limits.bytes && turn.items() <= limits.items
    }

    /// Takes the oldest turn out.
    pub(crate) fn pop_oldest(&mut self) -> Option<Arc<Turn>> {
        let turn = self.turns.pop_oldest()?;
        self.count_out(&turn);
        Some(turn)
    }

    fn replace(&mut self, at: usize, turn: Arc<Turn>) {
        self.count_in(&turn);
        let former = self.turns.replace(at, turn);
        self.count_out(&former);
    }

    fn take_out(&mut self, gone: usize) {
        let turn = Arc::clone(self.turns.at(gone));
        self.turns.retain(|at, _| at != gone);
        self.count_out(&turn);
    }

    fn drop_provisional(&mut self, completed: TurnId, context: &Context) {
        let superseded =
            |turn: &Turn| turn.is_provisional() && turn.id() != completed && turn.context().same_history(context);
        let gone: Vec<_> = self.turns().filter(|turn| superseded(turn)).cloned().collect();
        if !gone.is_empty() {
            self.turns.retain(|_, turn| !superseded(turn));
            gone.iter().for_each(|turn| self.count_out(turn));
        }
    }

    fn count_in(&mut self, turn: &Turn) {
        self.items += turn.items();
        self.bytes += turn.bytes();
        self.provisional += usize::from(turn.is_provisional());
    }

    fn count_out(&mut self, turn: &Turn) {
        self.items -= turn.items();
        self.bytes -= turn.bytes();
        self.provisional -= usize::from(turn.is_provisional());
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("turns", &self.turns.len())
            .field("items", &self.items)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Whether a version of a turn was made before another: what follows only ever adds to it.
fn is_older(turn: &Turn, held: &Turn) -> bool {
    let progress = |turn: &Turn| (!turn.is_provisional(), turn.items());
    progress(turn) < progress(held)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn turn(id: u128, history: u8, provisional: bool, states: &[&'static str]) -> Arc<Turn> {
        let parts = states
            .iter()
            .map(|state| {
                let mut part = TurnPart::new(Kind::Text, Anchor::from_bytes([7; 16]));
                part.state = (!state.is_empty()).then(|| Item::new(Bytes::from_static(state.as_bytes())));
                part
            })
            .collect();
        let system = Anchor::from_bytes([0; 16]);
        let context = Context::new(system, Anchor::from_bytes([history; 16]), u32::from(history), [1, 2]);
        Arc::new(Turn::new(TurnId::new(id), context, vec![Alternative::new(0, parts)], provisional))
    }

    fn ids(ledger: &Ledger) -> Vec<u128> {
        let sums = ledger.turns().fold((0, 0, 0), |(items, bytes, provisional), turn| {
            (items + turn.items(), bytes + turn.bytes(), provisional + usize::from(turn.is_provisional()))
        });
        assert_eq!((ledger.items, ledger.bytes, ledger.provisional), sums);
        ledger.turns().map(|turn| turn.id().value()).collect()
    }

    fn limits(items: usize, bytes: usize) -> Limits {
        Limits { items, bytes }
    }

    fn filled(turns: impl IntoIterator<Item = Arc<Turn>>) -> Ledger {
        let mut ledger = Ledger::new();
        for turn in turns {
            assert_eq!(ledger.append(turn, &Limits::default()), 0);
        }
        ledger
    }

    /// Rule 10.
    #[test]
    fn appending_again_changes_nothing_not_even_the_order() {
        let mut ledger = filled([turn(1, 1, false, &["a"]), turn(2, 2, false, &["b"])]);
        assert_eq!(ledger.append(turn(1, 1, false, &["a"]), &Limits::default()), 0);
        assert_eq!(ids(&ledger), [1, 2]);
    }

    /// Rule 8: what follows the end appends to the same turn.
    #[test]
    fn a_turn_of_the_same_id_is_replaced_in_its_place() {
        let mut ledger = filled([turn(1, 1, false, &["a"]), turn(2, 2, false, &["b"])]);
        ledger.append(turn(1, 1, false, &["a", "late"]), &Limits::default());
        assert_eq!(ids(&ledger), [1, 2]);
        assert_eq!(ledger.items(), 3);
    }

    /// Rules 8 and 10.
    #[test]
    fn an_older_version_of_a_turn_takes_nothing_back() {
        let mut ledger = filled([turn(1, 1, false, &["a", "late"])]);
        ledger.append(turn(1, 1, false, &["a"]), &Limits::default());
        assert_eq!(ledger.items(), 2);
    }

    #[test]
    fn ids_that_share_their_lower_half_are_different_turns() {
        let high = 1 << 100;
        let mut ledger = filled([turn(5, 1, false, &["a"]), turn(5 | high, 2, false, &["b"])]);
        assert_eq!(ids(&ledger), [5, 5 | high]);
        let item = ItemRef::new(TurnId::new(5), 0, 0);
        assert_eq!(ledger.remove(&[item]), 1);
        assert_eq!(ids(&ledger), [5 | high]);
    }

    /// Rule 9.
    #[test]
    fn a_completed_turn_drops_provisional_ones_with_the_same_history() {
        let mut ledger = filled([
            turn(1, 1, true, &["a"]),
            turn(2, 2, true, &["b"]),
            turn(3, 1, true, &["c"]),
            turn(4, 1, false, &["d"]),
        ]);
        assert_eq!(ids(&ledger), [2, 4]);
        // A later attempt that breaks off is kept beside the completed one.
        ledger.append(turn(5, 1, true, &["e"]), &Limits::default());
        assert_eq!(ids(&ledger), [2, 4, 5]);
    }

    /// Rule 9.
    #[test]
    fn a_turn_that_completes_takes_the_place_of_its_own_provisional_version_and_never_back() {
        let mut ledger = filled([turn(1, 1, true, &["a"]), turn(2, 2, false, &["b"])]);
        ledger.append(turn(1, 1, false, &["a", "end"]), &Limits::default());
        ledger.append(turn(1, 1, true, &["a"]), &Limits::default());
        assert_eq!(ids(&ledger), [1, 2]);
        assert_eq!(ledger.items(), 3);
    }

    /// Rule 11.
    #[test]
    fn over_the_items_the_oldest_turns_go_whole() {
        let mut ledger = Ledger::new();
        let limits = limits(4, usize::MAX);
        assert_eq!(ledger.append(turn(1, 1, false, &["a", "b"]), &limits), 0);
        assert_eq!(ledger.append(turn(2, 2, false, &["c", "d"]), &limits), 0);
        assert_eq!(ledger.append(turn(3, 3, false, &["e"]), &limits), 1);
        assert_eq!(ids(&ledger), [2, 3]);
        assert_eq!(ledger.append(turn(4, 4, false, &["f", "g", "h", "i"]), &limits), 2);
        assert_eq!(ids(&ledger), [4]);
    }

    /// Rule 11.
    #[test]
    fn over_the_bytes_the_oldest_turns_go_whole() {
        let one = turn(1, 1, false, &["0123456789"]).bytes();
        let mut ledger = Ledger::new();
        for id in 1..=5 {
            ledger.append(turn(id, 1, false, &["0123456789"]), &limits(100, 3 * one));
        }
        assert_eq!(ids(&ledger), [3, 4, 5]);
        assert_eq!(ledger.bytes(), 3 * one);
    }

    /// Rule 11: nothing is ever cut, and what does not fit disturbs nothing.
    #[test]
    fn a_turn_over_the_limits_on_its_own_is_not_taken() {
        let mut ledger = filled([turn(1, 1, false, &["a"])]);
        assert_eq!(ledger.append(turn(2, 2, false, &["b", "c"]), &limits(1, usize::MAX)), 1);
        assert_eq!(ledger.append(turn(3, 3, false, &["b"]), &limits(10, 10)), 1);
        assert_eq!(ids(&ledger), [1]);
    }

    /// Rule 14: only the item at the named place.
    #[test]
    fn remove_takes_the_named_items_and_turns_left_with_nothing() {
        let mut ledger = filled([turn(1, 1, false, &["a", "", "b"]), turn(2, 2, true, &["c"])]);
        let at = |turn, part| ItemRef::new(TurnId::new(turn), 0, part);
        assert_eq!(ledger.remove(&[at(1, 1), at(1, 9), at(9, 0)]), 0);
        assert_eq!(ledger.remove(&[at(1, 0), at(1, 0)]), 1);
        assert_eq!(ids(&ledger), [1, 2]);
        assert!(ledger.turns().next().unwrap().part(&at(1, 2)).unwrap().has_state());
        assert_eq!(ledger.remove(&[at(2, 0), at(1, 2)]), 2);
        assert!(ledger.is_empty());
        assert_eq!((ledger.items(), ledger.bytes()), (0, 0));
    }

    /// Rule 12.
    #[test]
    fn debug_shows_counts_only() {
        let ledger = filled([turn(1, 1, false, &["a secret"])]);
        let text = format!("{ledger:?}");
        assert!(text.starts_with("Ledger { turns: 1, items: 1, bytes: "), "{text}");
        assert!(!text.contains("secret"));
    }
}
