//! The list of a ledger's turns: copied in no time, for a ledger that a request reads is copied to be appended to.

use std::{
    collections::VecDeque,
    ops::{Deref, RangeInclusive},
    sync::Arc,
};

use super::{Turn, TurnId};

/// How many turns are copied at most when one of them changes. Of the others their lists are shared.
const CHUNK: usize = 32;

/// A turn beside a part of its id, so that looking for an id does not visit every turn.
#[derive(Clone)]
pub(super) struct Held {
    key: u64,
    turn: Arc<Turn>,
}

impl Held {
    fn new(turn: Arc<Turn>) -> Self {
        Self { key: key_of(turn.id()), turn }
    }
}

/// This part of an id counts the turns of a process, so that it tells nearly all turns of a ledger apart.
fn key_of(id: TurnId) -> u64 {
    id.value() as u64
}

/// Turns, oldest first.
#[derive(Clone)]
pub(super) enum Turns {
    /// Most ledgers have one turn.
    One(Held),
    /// None or several, in lists of [`CHUNK`] turns but for the first and the last, none of which is empty.
    Many(VecDeque<Chunk>),
}

/// Some turns, and between which keys those of them and of all that were among them lie. They grow, mostly, so that a new
/// one is known not to be there without a look at the turns.
#[derive(Clone)]
pub(super) struct Chunk {
    keys: RangeInclusive<u64>,
    turns: Arc<Vec<Held>>,
}

impl Chunk {
    fn new(turns: Vec<Held>) -> Self {
        let keys = || turns.iter().map(|held| held.key);
        let range = keys().min().unwrap_or_default()..=keys().max().unwrap_or_default();
        Self { keys: range, turns: Arc::new(turns) }
    }

    /// The turns, to be changed by one of this key: a copy of them, if others have them too.
    fn changed_by(&mut self, key: u64) -> &mut Vec<Held> {
        self.keys = (*self.keys.start()).min(key)..=(*self.keys.end()).max(key);
        owned(&mut self.turns)
    }
}

impl Deref for Chunk {
    type Target = [Held];

    fn deref(&self) -> &[Held] {
        &self.turns
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::Many(VecDeque::new())
    }
}

impl Turns {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(chunks) => match (chunks.front(), chunks.back()) {
                (Some(first), Some(last)) if chunks.len() > 1 => first.len() + (chunks.len() - 2) * CHUNK + last.len(),
                (first, _) => first.map_or(0, |first| first.len()),
            },
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Turn>> + ExactSizeIterator {
        (0..self.len()).map(|at| self.at(at))
    }

    /// The turn at a position that there has to be.
    pub(super) fn at(&self, at: usize) -> &Arc<Turn> {
        match self {
            Self::One(held) => &held.turn,
            Self::Many(chunks) => {
                let (chunk, at) = place(chunks, at);
                &chunks[chunk][at].turn
            }
        }
    }

    /// Where the turn of this id is. Mostly it is one of the last or none at all.
    pub(super) fn position(&self, id: TurnId) -> Option<usize> {
        let key = key_of(id);
        let is_it = |held: &Held| held.key == key && held.turn.id() == id;
        match self {
            Self::One(held) => is_it(held).then_some(0),
            Self::Many(chunks) => {
                let mut start = self.len();
                chunks.iter().rev().find_map(|chunk| {
                    start -= chunk.len();
                    let at = chunk.keys.contains(&key).then(|| chunk.iter().rposition(is_it))??;
                    Some(start + at)
                })
            }
        }
    }

    pub(super) fn push(&mut self, turn: Arc<Turn>) {
        let held = Held::new(turn);
        match self {
            Self::One(first) => *self = Self::Many([Chunk::new(vec![first.clone(), held])].into()),
            Self::Many(chunks) if chunks.is_empty() => *self = Self::One(held),
            Self::Many(chunks) => match chunks.back_mut().filter(|last| last.len() < CHUNK) {
                Some(last) => last.changed_by(held.key).push(held),
                None => chunks.push_back(Chunk::new(vec![held])),
            },
        }
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Arc<Turn>> {
        match self {
            Self::One(held) => {
                let turn = Arc::clone(&held.turn);
                *self = Self::default();
                Some(turn)
            }
            Self::Many(chunks) => {
                let first = owned(&mut chunks.front_mut()?.turns);
                let turn = first.remove(0).turn;
                if first.is_empty() {
                    chunks.pop_front();
                }
                Some(turn)
            }
        }
    }

    /// Puts a turn in the place of another, which there has to be.
    pub(super) fn replace(&mut self, at: usize, turn: Arc<Turn>) -> Arc<Turn> {
        let held = Held::new(turn);
        let former = match self {
            Self::One(held) => held,
            Self::Many(chunks) => {
                let (chunk, at) = place(chunks, at);
                &mut chunks[chunk].changed_by(held.key)[at]
            }
        };
        std::mem::replace(former, held).turn
    }

    /// Keeps those turns for which this says so.
    pub(super) fn retain(&mut self, keep: impl Fn(usize, &Turn) -> bool) {
        let mut kept = Self::default();
        self.iter().enumerate().filter(|(at, turn)| keep(*at, turn)).for_each(|(_, turn)| kept.push(Arc::clone(turn)));
        *self = kept;
    }
}

/// The chunk of a position, and the position in it.
fn place(chunks: &VecDeque<Chunk>, at: usize) -> (usize, usize) {
    let first = chunks.front().map_or(0, |first| first.len());
    match at.checked_sub(first) {
        None => (0, at),
        Some(behind) => (1 + behind / CHUNK, behind % CHUNK),
    }
}

/// The chunk, to be changed: a copy of it, if others have it too.
fn owned(chunk: &mut Arc<Vec<Held>>) -> &mut Vec<Held> {
    if Arc::get_mut(chunk).is_none() {
        // A copy by itself would have no room, and would be given twice as much as it needs.
        let mut copy = Vec::with_capacity((chunk.len() + 1).next_power_of_two());
        copy.extend_from_slice(chunk);
        *chunk = Arc::new(copy);
    }
    Arc::make_mut(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Anchor, Context};

    fn turn(id: u128) -> Arc<Turn> {
        let start = Context::new(Anchor::from_bytes([0; 16]), Anchor::from_bytes([0; 16]), 0, []);
        Arc::new(Turn::new(TurnId::new(id), start, Vec::new(), false))
    }

    /// Against a plain list, through every length at which a chunk begins or ends.
    #[test]
    fn turns_stand_where_they_stand_in_a_plain_list() {
        let (mut turns, mut plain) = (Turns::default(), VecDeque::new());
        for step in 0_u128..400 {
            turns.push(turn(step));
            plain.push_back(step);
            // A reader has it half of the time.
            let (before, held) = (plain.clone(), (step % 2 == 0).then(|| turns.clone()));
            if step % 3 == 2 {
                assert_eq!(turns.pop_oldest().map(|turn| turn.id().value()), plain.pop_front());
            }
            if step % 5 == 4 {
                let at = plain.len() / 2;
                turns.replace(at, turn(1_000 + step));
                plain[at] = 1_000 + step;
            }
            if step % 50 == 49 {
                turns.retain(|at, _| at % 7 != 3);
                let mut at = 0;
                plain.retain(|_| {
                    at += 1;
                    (at - 1) % 7 != 3
                });
            }
            assert!(turns.iter().map(|turn| turn.id().value()).eq(plain.iter().copied()));
            assert!(turns.iter().rev().map(|turn| turn.id().value()).eq(plain.iter().rev().copied()));
            assert!(plain.iter().enumerate().all(|(at, id)| turns.position(TurnId::new(*id)) == Some(at)));
            assert_eq!(turns.position(TurnId::new(5_000)), None);
            if let Some(held) = held {
                assert!(held.iter().map(|turn| turn.id().value()).eq(before));
            }
        }
        while let Some(turn) = turns.pop_oldest() {
            assert_eq!(plain.pop_front(), Some(turn.id().value()));
        }
        assert_eq!((turns.len(), plain.len()), (0, 0));
    }

    #[test]
    fn a_copy_shares_all_but_what_changes() {
        let mut turns = Turns::default();
        (0..10 * CHUNK as u128).for_each(|id| turns.push(turn(id)));
        let held = turns.clone();
        turns.push(turn(1_000));
        turns.replace(0, turn(2_000));
        let copied = held.iter().filter(|turn| Arc::strong_count(turn) > 1).count();
        assert_eq!(copied, CHUNK - 1);
    }
}
