use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use redis::Value;

use super::{
    Version,
    script::string,
    seal::{Seal, unpack},
};
use crate::{
    ledger::{Ledger, Turn, TurnId},
    scope::Scope,
};

/// After so many bytes others get their turn on this thread.
const BYTES_AT_ONCE: usize = 1 << 20;

/// A ledger as a server tells it.
pub(super) struct Read {
    pub(super) version: Version,
    /// The number of the write that made it.
    pub(super) write: u64,
    pub(super) ledger: Ledger,
    /// How many turns are there that cannot be read.
    pub(super) damaged: u64,
}

pub(super) fn id_bytes(id: TurnId) -> [u8; 16] {
    id.value().to_be_bytes()
}

/// The ledger of these fields and values; `None` if they are none.
pub(super) async fn ledger(fields: Vec<Value>, scope: &Scope, seal: Option<&Seal>) -> Option<Read> {
    let mut meta = None;
    let mut heads: Vec<(u64, TurnId)> = Vec::new();
    let mut damaged = 0;
    let mut values: HashMap<TurnId, Bytes> = HashMap::with_capacity(fields.len() / 6);
    let mut fields = fields.into_iter();
    while let (Some(field), Some(value)) = (fields.next().and_then(string), fields.next()) {
        let Some((kind, rest)) = field.split_first() else { continue };
        let id = || rest.try_into().ok().map(|id| TurnId::new(u128::from_be_bytes(id)));
        match (kind, string(value)) {
            (b'm', Some(value)) if rest.is_empty() => meta = of_meta(&value),
            (b'h', Some(head)) => match id().zip(place(&head)) {
                Some((id, place)) => heads.push((place, id)),
                None => damaged += 1,
            },
            (b't', Some(value)) => {
                if let Some(id) = id() {
                    values.insert(id, value);
                }
            }
            _ => {}
        }
    }
    heads.sort_unstable_by_key(|(place, _)| *place);
    let mut turns: Vec<Arc<Turn>> = Vec::with_capacity(heads.len());
    let mut read = 0;
    for (_, id) in heads {
        let value = values.remove(&id);
        read += value.as_ref().map_or(0, Bytes::len);
        match value.and_then(|value| unpack(seal, scope, id, value)) {
            Some(turn) => turns.push(Arc::new(turn)),
            None => damaged += 1,
        }
        if read >= BYTES_AT_ONCE {
            read = 0;
            tokio::task::yield_now().await;
        }
    }
    let (version, write) = meta?;
    Some(Read { version, write, ledger: Ledger::restored(turns), damaged })
}

/// What the ledger `held` has become; `None` if this does not say it.
pub(super) async fn since(held: &Ledger, changes: Vec<Value>, scope: &Scope, seal: Option<&Seal>) -> Option<Read> {
    let mut changes = changes.into_iter();
    let (version, write) = of_meta(&string(changes.next()?)?)?;
    let done = string(changes.next()?)?;
    let mut turns: HashMap<TurnId, Option<Arc<Turn>>> = HashMap::new();
    let mut read = 0;
    while let Some(id) = changes.next() {
        let id = TurnId::new(u128::from_be_bytes(string(id)?[..].try_into().ok()?));
        let value = string(changes.next()?).unwrap_or_default();
        read += value.len();
        turns.insert(id, unpack(seal, scope, id, value).map(Arc::new));
        if read >= BYTES_AT_ONCE {
            read = 0;
            tokio::task::yield_now().await;
        }
    }
    let mut ledger = held.clone();
    let (steps, []) = done.as_chunks::<17>() else { return None };
    let mut unread = HashSet::new();
    for [what, id @ ..] in steps {
        let id = TurnId::new(u128::from_be_bytes(*id));
        match (what, turns.get(&id)?) {
            (b'+', Some(turn)) => ledger.put(turn.clone()),
            // It went later, or cannot be read.
            (b'+', None) => {
                ledger.take(id);
                unread.insert(id);
            }
            (b'-', _) => {
                ledger.take(id);
                unread.remove(&id);
            }
            _ => return None,
        }
    }
    Some(Read { version, write, ledger, damaged: unread.len() as u64 })
}

fn of_meta(meta: &[u8]) -> Option<(Version, u64)> {
    let mut words = std::str::from_utf8(meta).ok()?.split(' ');
    let version = Version::of(words.nth(1)?.as_bytes())?;
    Some((version, words.next_back()?.parse().ok()?))
}

/// The place that the head of a turn names.
fn place(head: &[u8]) -> Option<u64> {
    std::str::from_utf8(head).ok()?.split(' ').next()?.parse().ok()
}
