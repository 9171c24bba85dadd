//! Turns, scopes, and what a store should hold of them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use redis::aio::ConnectionLike;
use tower_reasoning_replay::{
    ledger::{Alternative, Anchor, Context, Item, ItemRef, Kind, Ledger, Limits, Turn, TurnId, TurnPart},
    scope::Scope,
    store::{RedisStore, Store},
};

pub(crate) fn scope(n: u8) -> Scope {
    Scope::from_bytes([n; 32])
}

pub(crate) fn key(prefix: &str, n: u8) -> String {
    format!("{prefix}{}", format!("{n:02x}").repeat(32))
}

pub(crate) fn item(turn: u128, part: u32) -> ItemRef {
    ItemRef::new(TurnId::new(turn), 0, part)
}

/// A turn with a piece of state of each of these sizes, or a part without state for zero.
pub(crate) fn turn_after(id: u128, history: u8, provisional: bool, states: &[usize]) -> Arc<Turn> {
    let parts = states
        .iter()
        .enumerate()
        .map(|(n, size)| {
            let mut part = TurnPart::new(Kind::Text, Anchor::from_bytes([1; 16]));
            part.state = (*size > 0).then(|| Item::new(Bytes::from(vec![b'a' + (n % 26) as u8; *size])));
            part
        })
        .collect();
    let context = Context::new(Anchor::from_bytes([2; 16]), Anchor::from_bytes([history; 16]), 1, [3]);
    Arc::new(Turn::new(TurnId::new(id), context, vec![Alternative::new(0, parts)], provisional))
}

pub(crate) fn turn(id: u128) -> Arc<Turn> {
    turn_after(id, 0, false, &[16])
}

pub(crate) async fn load(store: &impl Store, n: u8) -> Vec<Arc<Turn>> {
    let ledger = store.load(&scope(n)).await.unwrap();
    ledger.map_or_else(Vec::new, |ledger| ledger.turns().cloned().collect())
}

pub(crate) async fn ids(store: &impl Store, n: u8) -> Vec<u128> {
    load(store, n).await.iter().map(|turn| turn.id().value()).collect()
}

pub(crate) async fn append(store: &impl Store, n: u8, turn: &Arc<Turn>) -> usize {
    store.append(&scope(n), turn.clone()).await.unwrap().evicted
}

/// Fills a ledger with turns that hold so many bytes of state each.
pub(crate) async fn fill<C>(store: &RedisStore<C>, n: u8, turns: u128, bytes: usize)
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    for id in 1..=turns {
        append(store, n, &turn_after(id, 0, false, &[bytes])).await;
    }
}

/// What a store should hold: the ledgers that the crate knows, and what was removed of their turns.
#[derive(Default)]
pub(crate) struct Model {
    ledgers: HashMap<u8, (Ledger, HashMap<TurnId, BTreeSet<u32>>)>,
}

impl Model {
    pub(crate) fn append(&mut self, n: u8, turn: &Arc<Turn>, limits: &Limits) -> usize {
        if turn.items() > limits.items || turn.bytes() > limits.bytes {
            return 1;
        }
        let (ledger, removed) = self.ledgers.entry(n).or_default();
        let rest = without(turn, removed.get(&turn.id()));
        if rest.items() == 0 && turn.items() > 0 {
            return 0;
        }
        ledger.append(Arc::new(rest), limits)
    }

    pub(crate) fn remove(&mut self, n: u8, items: &[ItemRef]) -> usize {
        let Some((ledger, removed)) = self.ledgers.get_mut(&n) else { return 0 };
        for item in items {
            let held = ledger.turns().find(|turn| turn.id() == item.turn).and_then(|turn| turn.part(item));
            if held.is_some_and(|part| part.has_state()) {
                removed.entry(item.turn).or_default().insert(item.part);
            }
        }
        ledger.remove(items)
    }

    pub(crate) fn forget(&mut self, n: u8) -> bool {
        self.ledgers.remove(&n).is_some_and(|(ledger, _)| !ledger.is_empty())
    }

    pub(crate) fn clear(&mut self) {
        self.ledgers.clear();
    }

    pub(crate) fn ledger(&self, n: u8) -> Option<&Ledger> {
        self.ledgers.get(&n).map(|(ledger, _)| ledger).filter(|ledger| !ledger.is_empty())
    }
}

fn without(turn: &Turn, removed: Option<&BTreeSet<u32>>) -> Turn {
    let mut alternatives = turn.to_alternatives();
    for part in removed.into_iter().flatten() {
        if let Some(part) = alternatives[0].parts.get_mut(*part as usize) {
            part.state = None;
        }
    }
    Turn::new(turn.id(), turn.context().clone(), alternatives, turn.is_provisional())
}
