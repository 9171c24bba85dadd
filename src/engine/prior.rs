//! What was hashed of the last request of a conversation, so that the next one hashes only what is new in it.
//!
//! Requests of one conversation begin with the same bytes, mostly. A unit that stands where one of the same bytes stood
//! has the same hash. Whether the bytes are the same is told by a fast hash with a key of its own, within one scope
//! only: a client that finds two contents with one such hash deceives nobody else, and state goes back by content alone,
//! which is always hashed in full.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use foldhash::quality::RandomState;
use quick_cache::{Weighter, sync::Cache};

use crate::{
    dialect::{Author, Part, Payload},
    ledger::Trace,
    scope::Scope,
};

/// The units of a request: what their bytes are, and what they were hashed to.
#[derive(Debug)]
pub(super) struct Prior {
    keys: Vec<u64>,
    trace: Trace,
}

impl Prior {
    pub(super) fn new(keys: Vec<u64>, trace: Trace) -> Self {
        Self { keys, trace }
    }

    /// Whether the unit at this place was of these bytes.
    pub(super) fn is(&self, unit: usize, key: u64) -> bool {
        self.keys.get(unit) == Some(&key)
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.keys.len() * size_of::<u64>() + self.trace.bytes()
    }
}

#[derive(Clone)]
struct Bytes;

/// Conversations of one scope are told apart by what they begin with: side requests have their own.
type Key = (Scope, u64);

impl Weighter<Key, Arc<Prior>> for Bytes {
    fn weight(&self, _: &Key, prior: &Arc<Prior>) -> u64 {
        (size_of::<Key>() + prior.bytes()) as u64
    }
}

/// The last requests of many conversations, within a bound; those that were not used for long go first.
pub(super) struct Priors {
    cache: Cache<Key, Arc<Prior>, Bytes>,
    hasher: RandomState,
}

/// About how many conversations there are.
const LIKELY: usize = 1_024;

impl Priors {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { cache: Cache::with_weighter(LIKELY, max_bytes as u64, Bytes), hasher: RandomState::default() }
    }

    fn get(&self, scope: Scope, first: u64) -> Option<Arc<Prior>> {
        self.cache.get(&(scope, first))
    }

    fn put(&self, scope: Scope, prior: Prior) {
        if let Some(first) = prior.keys.first() {
            self.cache.insert((scope, *first), Arc::new(prior));
        }
    }

    /// Those of one scope.
    pub(super) fn of(&self, scope: Scope) -> PriorsOf<'_> {
        PriorsOf { priors: self, scope }
    }
}

/// The last requests of one scope.
#[derive(Clone, Copy)]
pub(super) struct PriorsOf<'p> {
    priors: &'p Priors,
    scope: Scope,
}

impl PriorsOf<'_> {
    /// The last request whose first unit was of these bytes.
    pub(super) fn get(&self, first: u64) -> Option<Arc<Prior>> {
        self.priors.get(self.scope, first)
    }

    pub(super) fn put(&self, prior: Prior) {
        self.priors.put(self.scope, prior);
    }

    /// The fast hash of the bytes of a unit: one part, or a run of text.
    pub(super) fn key<'h>(&self, author: Author, parts: impl Iterator<Item = &'h Part<'h>>) -> u64 {
        let mut hash = self.priors.hasher.build_hasher();
        hash.write_u8(author as u8);
        parts.for_each(|part| write(part, &mut hash));
        hash.finish()
    }
}

/// Writes all on which the hash of a part depends.
fn write(part: &Part<'_>, hash: &mut impl Hasher) {
    fn field(hash: &mut impl Hasher, tag: u8, bytes: &[u8]) {
        hash.write_u8(tag);
        hash.write_usize(bytes.len());
        hash.write(bytes);
    }
    hash.write_u8(part.kind as u8);
    if let Some(name) = &part.name {
        field(hash, 0, name.raw());
    }
    match &part.payload {
        Payload::Text(text) => field(hash, 1, text.raw()),
        Payload::Pieces(pieces) => pieces.iter().for_each(|piece| field(hash, 2, piece.raw())),
        Payload::Data(data) => field(hash, 3, data.raw()),
        Payload::Uri(uri) => field(hash, 4, uri.raw()),
        Payload::Json(value) => field(hash, 5, value.unwrap_or(b"{}")),
        Payload::Encoded(text) => field(hash, 6, text.raw()),
        Payload::Assembled(value) => field(hash, 7, value),
        Payload::Fields(tag, fields) => {
            field(hash, 8, tag.as_bytes());
            for (name, value) in fields {
                field(hash, 9, name.as_bytes());
                field(hash, 10, value);
            }
        }
        Payload::Reduced(value, reduction) => {
            hash.write_usize(*reduction as usize);
            field(hash, 11, value);
        }
    }
}

impl fmt::Debug for PriorsOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PriorsOf(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::Anchor, scope::HashKey};

    /// Rule 12: what one scope has hashed is nothing to another, and nothing is kept where nothing may be.
    #[test]
    fn scopes_share_no_hashes() {
        let scopes = [1, 2].map(|n| Scope::from_bytes([n; 32]));
        let prior = || Prior::new(vec![5], Trace::new(&HashKey::from_bytes([7; 32]), Anchor::from_bytes([0; 16])));
        for (bytes, kept) in [(1 << 20, true), (0, false)] {
            let priors = Priors::new(bytes);
            priors.of(scopes[0]).put(prior());
            assert_eq!(priors.of(scopes[0]).get(5).is_some(), kept);
            assert!(priors.of(scopes[0]).get(6).is_none() && priors.of(scopes[1]).get(5).is_none());
        }
    }
}
