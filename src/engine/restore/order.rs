//! Equal texts of one turn, which are told apart by their order alone.

use std::collections::BTreeMap;

use super::Work;
use crate::ledger::{Anchor, ItemRef, Kind, TurnId, matcher::OwnMap};

impl Work<'_> {
    /// Runs that are known by their pieces are looked for when others are known already, so an equal text that stood
    /// alone may have been taken for the one that was a piece. The first of the history is the first of the turn.
    pub(super) fn put_texts_in_order(&mut self) {
        let mut kept: OwnMap<(TurnId, u32), Vec<(usize, u32)>> = OwnMap::default();
        for at in 0..self.restorer.history.parts.len() {
            if let Some(item) = self.assigned.get(&at) {
                kept.entry((item.turn, item.alternative)).or_default().push((at, item.part));
            }
        }
        for ((turn, alternative), kept) in kept {
            if !kept.is_sorted_by_key(|(_, part)| *part) {
                self.put_in_order(turn, alternative, &kept);
            }
        }
    }

    fn put_in_order(&mut self, turn: TurnId, alternative: u32, kept: &[(usize, u32)]) {
        // Each text, as the parts of the history that are its pieces. State is on its part already.
        let mut texts: BTreeMap<Anchor, Vec<&[(usize, u32)]>> = BTreeMap::new();
        for pieces in kept.chunk_by(|one, other| one.1 == other.1) {
            let part = self.part(&ItemRef::new(turn, alternative, pieces[0].1));
            if let Some(part) = part.filter(|part| part.kind() == Kind::Text && !part.has_state()) {
                texts.entry(part.anchor()).or_default().push(pieces);
            }
        }
        for equal in texts.into_values() {
            let mut numbers: Vec<u32> = equal.iter().map(|pieces| pieces[0].1).collect();
            numbers.sort_unstable();
            // The pieces of one text stand side by side, or it is not known where it stands.
            if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
                continue;
            }
            for (pieces, number) in equal.into_iter().zip(numbers) {
                for (at, _) in pieces {
                    self.assigned.insert(*at, ItemRef::new(turn, alternative, number));
                }
            }
        }
    }
}
