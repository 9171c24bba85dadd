use std::{collections::HashMap, sync::Arc};

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

/// What all fields of a ledger say.
pub(super) struct Read {
    pub(super) version: Version,
    pub(super) ledger: Ledger,
    /// How many turns are there that cannot be read.
    pub(super) damaged: u64,
}

pub(super) fn id_bytes(id: TurnId) -> [u8; 16] {
    id.value().to_be_bytes()
}

/// The ledger of these fields and values; `None` if they are none.
pub(super) async fn ledger(fields: Vec<Value>, scope: &Scope, seal: Option<&Seal>) -> Option<Read> {
    let mut version = None;
    let mut heads: Vec<(u64, TurnId)> = Vec::new();
    let mut damaged = 0;
    let mut values: HashMap<TurnId, Bytes> = HashMap::with_capacity(fields.len() / 6);
    let mut fields = fields.into_iter();
    while let (Some(field), Some(value)) = (fields.next().and_then(string), fields.next()) {
        let Some((kind, rest)) = field.split_first() else { continue };
        let id = || rest.try_into().ok().map(|id| TurnId::new(u128::from_be_bytes(id)));
        match (kind, string(value)) {
            (b'm', Some(meta)) if rest.is_empty() => version = Version::of_meta(&meta),
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
    Some(Read { version: version?, ledger: Ledger::from_turns(turns), damaged })
}

/// The place that the head of a turn names.
fn place(head: &[u8]) -> Option<u64> {
    std::str::from_utf8(head).ok()?.split(' ').next()?.parse().ok()
}
