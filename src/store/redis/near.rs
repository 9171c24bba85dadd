use std::sync::Arc;

use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::Version;
use crate::{ledger::Ledger, scope::Scope, store::memory::ScopeHash};

/// A ledger as it was under this version. That stays true; whether it is the present version, only the server knows.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) version: Version,
    /// The number of the write that made it.
    pub(super) write: u64,
    pub(super) ledger: Arc<Ledger>,
    /// Nothing that the server holds is missing, so that changes can be followed.
    pub(super) whole: bool,
}

/// Ledgers that need not be transferred again if the server says that they have not changed.
pub(super) struct Near(Option<Cache<Scope, Known, Weight, ScopeHash>>);

#[derive(Clone)]
struct Weight {
    /// An entry weighs at least one part of all bytes for each entry that is allowed.
    least: u64,
}

impl Weighter<Scope, Known> for Weight {
    fn weight(&self, _scope: &Scope, known: &Known) -> u64 {
        (known.ledger.bytes() as u64).max(self.least)
    }
}

impl Near {
    pub(super) fn new(entries: usize, bytes: usize) -> Self {
        if entries == 0 || bytes == 0 {
            return Self(None);
        }
        let weight = Weight { least: (bytes as u64).div_ceil(entries as u64) };
        // With shards, a large ledger would exceed its shard's share.
        let options =
            OptionsBuilder::new().shards(1).estimated_items_capacity(entries).weight_capacity(bytes as u64).build();
        Self(options.ok().map(|options| Cache::with_options(options, weight, ScopeHash, DefaultLifecycle::default())))
    }

    pub(super) fn get(&self, scope: &Scope) -> Option<Known> {
        self.0.as_ref()?.get(scope)
    }

    pub(super) fn insert(&self, scope: &Scope, known: Known) {
        if let Some(cache) = &self.0 {
            cache.insert(*scope, known);
        }
    }

    pub(super) fn remove(&self, scope: &Scope) {
        if let Some(cache) = &self.0 {
            cache.remove(scope);
        }
    }

    pub(super) fn clear(&self) {
        if let Some(cache) = &self.0 {
            cache.clear();
        }
    }

    /// Follows a change that took the place of the version `before` (`None`: there was no ledger), if that is known.
    pub(super) fn follow(
        &self,
        scope: &Scope,
        before: Option<Version>,
        (version, write): (Version, u64),
        change: impl FnOnce(&mut Ledger) -> bool,
    ) {
        if self.0.is_none() {
            return;
        }
        let mut ledger = match before {
            None => Arc::default(),
            Some(before) => match self.get(scope) {
                Some(known) if known.version == before && known.whole => known.ledger,
                _ => return,
            },
        };
        if change(Arc::make_mut(&mut ledger)) {
            self.insert(scope, Known { version, write, ledger, whole: true });
        } else {
            self.remove(scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Anchor, Context, Limits, Turn, TurnId};

    fn turn(id: u128) -> Arc<Turn> {
        let context = Context::new(Anchor::from_bytes([0; 16]), Anchor::from_bytes([0; 16]), 0, []);
        Arc::new(Turn::new(TurnId::new(id), context, Vec::new(), false))
    }

    fn known(version: u8, turns: u128) -> Known {
        let mut ledger = Ledger::new();
        for id in 0..turns {
            ledger.append(turn(id), &Limits::default());
        }
        Known { version: Version([version; 32]), write: 1, ledger: Arc::new(ledger), whole: true }
    }

    fn held(near: &Near) -> usize {
        (0..=255).filter(|n| near.get(&Scope::from_bytes([*n; 32])).is_some()).count()
    }

    #[test]
    fn both_bounds_hold() {
        let near = Near::new(10, 1 << 20);
        for n in 0..=255 {
            near.insert(&Scope::from_bytes([n; 32]), known(1, 1));
        }
        assert!((5..=10).contains(&held(&near)), "{}", held(&near));
        let near = Near::new(1_000, 10 * turn(1).bytes());
        for n in 0..=255 {
            near.insert(&Scope::from_bytes([n; 32]), known(1, 5));
        }
        assert!((1..=2).contains(&held(&near)), "{}", held(&near));
        let off = Near::new(0, 1 << 20);
        off.insert(&Scope::from_bytes([0; 32]), known(1, 1));
        assert_eq!(held(&off), 0);
    }

    #[test]
    fn a_change_is_followed_only_from_the_version_that_it_replaced() {
        let (near, scope) = (Near::new(10, 1 << 20), Scope::from_bytes([1; 32]));
        let (one, two, three) = (Version([1; 32]), Version([2; 32]), Version([3; 32]));
        let state = || near.get(&scope).map(|known| (known.version.0[0], known.ledger.turns().len()));
        let add = |ledger: &mut Ledger| {
            ledger.append(turn(9), &Limits::default());
            true
        };
        near.follow(&scope, Some(one), (two, 1), add);
        assert_eq!(state(), None);
        near.follow(&scope, None, (one, 1), add);
        assert_eq!(state(), Some((1, 1)));
        near.follow(&scope, Some(two), (three, 1), add);
        assert_eq!(state(), Some((1, 1)));
        near.insert(&scope, known(1, 3));
        let loaded = near.get(&scope).unwrap().ledger;
        near.follow(&scope, Some(one), (two, 1), add);
        assert_eq!((state(), loaded.turns().len()), (Some((2, 4)), 3));
        near.follow(&scope, Some(two), (three, 1), |_| false);
        assert_eq!(state(), None);
        near.insert(&scope, Known { whole: false, ..known(1, 3) });
        near.follow(&scope, Some(one), (two, 1), add);
        assert_eq!(state(), Some((1, 3)));
    }
}
