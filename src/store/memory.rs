//! Ledgers in the memory of this process.

mod builder;
mod hash;
mod order;

use std::{
    fmt,
    hash::BuildHasher,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use quick_cache::{
    UnitWeighter,
    sync::{Cache, DefaultLifecycle, EntryAction, EntryResult},
};
use tokio::time::Instant;

pub use self::builder::{MemoryStoreBuilder, MemoryStoreError};
pub(in crate::store) use self::hash::ScopeHash;
use self::order::Order;
use super::{Appended, Reply, Store};
use crate::{
    ledger::{ItemRef, Ledger, Limits, Turn},
    scope::Scope,
};

/// Writers of different scopes rarely meet on one of so many locks.
const STRIPES: usize = 16;
/// How many expired ledgers an append purges at most.
const PURGED_PER_APPEND: usize = 2;
/// How many turns of ledgers that went an append releases at most.
const RELEASED_PER_APPEND: usize = 2;
/// How many bytes of ledgers that went may await their release: one part in so many of all bytes.
const AWAITING_RELEASE: usize = 16;
/// A load extends a ledger's life when more than one part in so many of it has passed.
const EXTENSIONS_PER_LIFE: u64 = 16;
/// Stamps of one instant run ahead of it by a nanosecond each; in nanoseconds, what that may add up to
/// before a life seems longer than it is.
const STAMP_SLACK: u64 = 1_000;
/// The stamp of a stripe that holds nothing.
const EMPTY: u64 = u64::MAX;

/// Keeps ledgers in the memory of this process, within bounds and for a limited time.
///
/// Cloning is cheap; all clones are one store.
///
/// # Limits
///
/// | bound | default |
/// |---|---|
/// | [time to live](MemoryStoreBuilder::time_to_live) after the last use | 1 hour |
/// | [ledgers](MemoryStoreBuilder::max_ledgers) | 10,240 |
/// | [bytes of all ledgers](MemoryStoreBuilder::max_bytes) | 256 MiB |
/// | [items of one ledger](MemoryStoreBuilder::max_items_per_ledger) | 4,096 |
/// | [bytes of one ledger](MemoryStoreBuilder::max_bytes_per_ledger) | 16 MiB |
///
/// Over a bound of a ledger its oldest turns go; over a bound of the store the ledgers that were not
/// used for longest go, whole. Nothing goes before a bound is reached. The bounds of the store may be
/// exceeded by the turns that are being added at this moment. Appends purge expired ledgers in
/// passing, a few at a time; an expired ledger is never returned, purged or not. The memory of a ledger
/// that went is released over the next appends, so that no single one pays for it; what awaits this is
/// not counted, and never more than a sixteenth of the bytes of all ledgers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_reasoning_replay::store::MemoryStore;
///
/// let store = MemoryStore::builder()
///     .time_to_live(Duration::from_secs(30 * 60))
///     .max_bytes(64 << 20)
///     .max_bytes_per_ledger(4 << 20)
///     .build()?;
/// assert_eq!(store.snapshot().ledgers, 0);
/// # Ok::<(), tower_reasoning_replay::store::MemoryStoreError>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

/// What a [`MemoryStore`] holds, and what it has let go since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemorySnapshot {
    /// How many ledgers there are. Expired ones count until they are purged.
    pub ledgers: usize,
    /// How many turns they hold.
    pub turns: usize,
    /// How many items they hold.
    pub items: usize,
    /// How many bytes they hold, as counted by [`Ledger::bytes`].
    pub bytes: u64,
    /// How many ledgers went because the store was over a bound.
    pub evicted_ledgers: u64,
    /// How many ledgers went because nobody used them any more.
    pub expired_ledgers: u64,
    /// How many turns went because a ledger or the store was over a bound, those of evicted ledgers
    /// and turns that were too large to be taken included.
    pub evicted_turns: u64,
}

impl MemoryStore {
    /// A store with the default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&MemoryStoreBuilder::default())
    }

    /// Begins a store with other bounds.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::default()
    }

    /// What the store holds at this moment. Takes each of a fixed number of locks for an instant; while
    /// others write, the counts may not be of the same instant.
    #[must_use]
    pub fn snapshot(&self) -> MemorySnapshot {
        let mut sum = MemorySnapshot {
            ledgers: self.0.ledgers.load(Ordering::Relaxed),
            bytes: self.0.bytes.load(Ordering::Relaxed),
            ..MemorySnapshot::default()
        };
        for index in 0..STRIPES {
            let stripe = self.0.lock(index);
            sum.turns += stripe.turns;
            sum.items += stripe.items;
            sum.evicted_ledgers += stripe.evicted_ledgers;
            sum.expired_ledgers += stripe.expired_ledgers;
            sum.evicted_turns += stripe.evicted_turns;
        }
        sum
    }

    /// The ledger of a scope, and whether its life was extended.
    pub(super) fn load_and_tell(&self, scope: &Scope) -> Option<(Arc<Ledger>, bool)> {
        self.0.load(scope)
    }

    /// Takes a whole ledger in the place of what is there, for the store behind this one. One that is over the limits
    /// is not taken.
    pub(super) fn put(&self, scope: &Scope, ledger: Arc<Ledger>) {
        self.0.put(scope, ledger);
    }

    /// Appends a turn only if there is a ledger; says whether it was.
    pub(super) fn append_if_there(&self, scope: &Scope, turn: &Arc<Turn>) -> bool {
        self.0.append_if_there(scope, turn)
    }

    fn with(config: &MemoryStoreBuilder) -> Self {
        Self(Arc::new(Shared::new(config)))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("ledgers", &self.0.ledgers.load(Ordering::Relaxed))
            .field("bytes", &self.0.bytes.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        Reply::ready(self.0.load(scope).map(|(ledger, _)| ledger))
    }

    fn may_hold(&self, scope: &Scope) -> bool {
        self.0.cache.contains_key(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        Reply::ready(self.0.append(scope, &turn))
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        Reply::ready(self.0.remove(scope, items))
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        Reply::ready(self.0.forget(scope))
    }

    fn clear(&self) -> Reply<()> {
        self.0.clear();
        Reply::ready(())
    }

    fn appends_inline(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// The state behind all clones of a store.
///
/// The cache holds the ledgers, and readers touch nothing else. It evicts nothing on its own account:
/// its victims are chosen by frequency and per shard, so it could let the turn go that was written
/// last, would refuse large ledgers in silence, and would not notice that one grew. Instead a writer
/// holds the lock of the scope's stripe, which keeps the order of use, and both bounds hold over the
/// whole store.
///
/// A thread holds one stripe at a time, and takes the locks of the cache after it, never before.
struct Shared {
    cache: Cache<Scope, Entry, UnitWeighter, ScopeHash>,
    stripes: [Mutex<Stripe>; STRIPES],
    /// When the oldest ledger of each stripe was last used, to find the oldest of all without a lock.
    oldest: [AtomicU64; STRIPES],
    ledgers: AtomicUsize,
    bytes: AtomicU64,
    /// The last stamp given. Stamps are nanoseconds since `epoch`, but no two are the same.
    stamp: AtomicU64,
    /// No ledger expires before this.
    next_expiry: AtomicU64,
    epoch: Instant,
    life: u64,
    limits: Limits,
    max_ledgers: usize,
    max_bytes: u64,
    /// How many bytes of ledgers that went may await their release in one stripe.
    max_awaiting: usize,
}

#[derive(Clone)]
struct Entry {
    ledger: Arc<Ledger>,
    used: u64,
    slot: u32,
}

struct Stripe {
    order: Order,
    gone: Gone,
    turns: usize,
    items: usize,
    evicted_ledgers: u64,
    expired_ledgers: u64,
    evicted_turns: u64,
}

/// Ledgers that went and that nobody else holds, to be released a few turns at a time.
#[derive(Default)]
struct Gone {
    ledgers: Vec<Ledger>,
    bytes: usize,
}

impl Gone {
    /// Takes an entry, unless it has to be dropped at once.
    fn take(&mut self, entry: Entry, room: usize) -> Result<(), Arc<Ledger>> {
        let turns = entry.ledger.turns().len();
        let bytes = self.bytes + entry.ledger.bytes();
        if turns <= RELEASED_PER_APPEND || bytes > room {
            return Err(entry.ledger);
        }
        let Some(ledger) = Arc::into_inner(entry.ledger) else {
            // A reader holds it, and will release it.
            return Ok(());
        };
        self.bytes = bytes;
        self.ledgers.push(ledger);
        Ok(())
    }

    /// A few turns, for the caller to drop them outside the lock.
    fn release(&mut self) -> [Option<Arc<Turn>>; RELEASED_PER_APPEND] {
        let mut turns = [const { None }; RELEASED_PER_APPEND];
        for turn in &mut turns {
            let Some(ledger) = self.ledgers.last_mut() else {
                break;
            };
            *turn = ledger.pop_oldest();
            self.bytes -= turn.as_ref().map_or(0, |turn| turn.bytes());
            if ledger.is_empty() {
                self.ledgers.pop();
            }
        }
        turns
    }
}

#[derive(Clone, Copy, Default)]
struct Held {
    turns: usize,
    items: usize,
    bytes: usize,
}

impl Held {
    fn by(ledger: &Ledger) -> Self {
        Self { turns: ledger.turns().len(), items: ledger.items(), bytes: ledger.bytes() }
    }
}

/// How a change of a ledger went.
enum Change<T> {
    /// Nobody else held the ledger, so it was changed in place.
    Made { answer: T, before: Held, after: Held, slot: u32 },
    /// A reader holds the ledger, so a copy has to take its place.
    Shared(Entry),
}

impl Shared {
    fn new(config: &MemoryStoreBuilder) -> Self {
        let capacity = u64::MAX / 2;
        let lifecycle = DefaultLifecycle::default();
        let cache = Cache::with(config.max_ledgers, capacity, UnitWeighter, ScopeHash, lifecycle);
        let life = nanoseconds(config.time_to_live).max(1);
        Self {
            cache,
            stripes: std::array::from_fn(|_| {
                Mutex::new(Stripe {
                    order: Order::new(),
                    gone: Gone::default(),
                    turns: 0,
                    items: 0,
                    evicted_ledgers: 0,
                    expired_ledgers: 0,
                    evicted_turns: 0,
                })
            }),
            oldest: std::array::from_fn(|_| AtomicU64::new(EMPTY)),
            ledgers: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
            next_expiry: AtomicU64::new(life.saturating_sub(STAMP_SLACK)),
            epoch: Instant::now(),
            life,
            limits: config.limits,
            max_ledgers: config.max_ledgers,
            max_bytes: config.max_bytes,
            max_awaiting: usize::try_from(config.max_bytes).unwrap_or(usize::MAX) / AWAITING_RELEASE / STRIPES,
        }
    }

    /// The ledger, and whether its life was extended.
    fn load(&self, scope: &Scope) -> Option<(Arc<Ledger>, bool)> {
        let entry = self.cache.get(scope)?;
        let now = self.now();
        if self.is_expired(entry.used, now) {
            self.expire(scope);
            return None;
        }
        let extends = now.saturating_sub(entry.used) > self.life / EXTENSIONS_PER_LIFE;
        if extends {
            self.extend(scope);
        }
        Some((entry.ledger, extends))
    }

    fn append(&self, scope: &Scope, turn: &Arc<Turn>) -> Appended {
        let index = stripe_of(scope);
        if !Ledger::admits(turn, &self.limits) {
            self.lock(index).evicted_turns += 1;
            return Appended::new(1);
        }
        let mut evicted = 0;
        let mut stripe = self.lock(index);
        let used = self.stamp();
        let mut expired = None;
        let appended = self.change(&mut stripe, index, scope, used, &mut expired, |ledger| {
            ledger.append(Arc::clone(turn), &self.limits)
        });
        if let Some(gone) = appended {
            evicted += gone;
            stripe.evicted_turns += gone as u64;
        } else {
            let mut ledger = Ledger::new();
            ledger.append(Arc::clone(turn), &self.limits);
            self.add(&mut stripe, index, scope, used, Arc::new(ledger));
        }
        let released = stripe.gone.release();
        drop(stripe);
        drop((expired, released));
        self.purge(used);
        evicted += self.make_room(scope);
        Appended::new(evicted)
    }

    fn append_if_there(&self, scope: &Scope, turn: &Arc<Turn>) -> bool {
        if !Ledger::admits(turn, &self.limits) {
            return false;
        }
        let index = stripe_of(scope);
        let mut stripe = self.lock(index);
        let used = self.stamp();
        let mut expired = None;
        let appended = self.change(&mut stripe, index, scope, used, &mut expired, |ledger| {
            ledger.append(Arc::clone(turn), &self.limits)
        });
        stripe.evicted_turns += appended.unwrap_or(0) as u64;
        let released = stripe.gone.release();
        drop(stripe);
        drop((expired, released));
        self.purge(used);
        self.make_room(scope);
        appended.is_some()
    }

    fn put(&self, scope: &Scope, ledger: Arc<Ledger>) {
        let index = stripe_of(scope);
        let fits = !ledger.is_empty() && ledger.bytes() <= self.limits.bytes && ledger.items() <= self.limits.items;
        let mut stripe = self.lock(index);
        let used = self.stamp();
        let former = self.take_out(&mut stripe, index, scope);
        if fits {
            self.add(&mut stripe, index, scope, used, ledger);
        }
        let released = stripe.gone.release();
        drop(stripe);
        drop((former, released));
        self.purge(used);
        self.make_room(scope);
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> usize {
        let index = stripe_of(scope);
        let mut stripe = self.lock(index);
        let used = self.stamp();
        let mut gone = None;
        let removed =
            self.change(&mut stripe, index, scope, used, &mut gone, |ledger| (ledger.remove(items), ledger.is_empty()));
        if let Some((_, true)) = removed {
            gone = self.take_out(&mut stripe, index, scope);
        }
        drop(stripe);
        drop(gone);
        removed.map_or(0, |(removed, _)| removed)
    }

    fn forget(&self, scope: &Scope) -> bool {
        let index = stripe_of(scope);
        let mut stripe = self.lock(index);
        let gone = self.take_out(&mut stripe, index, scope);
        drop(stripe);
        gone.is_some_and(|entry| !self.is_expired(entry.used, self.now()))
    }

    fn clear(&self) {
        for index in 0..STRIPES {
            let mut stripe = self.lock(index);
            let mut gone = Vec::with_capacity(stripe.order.len());
            while let Some((scope, _)) = stripe.order.oldest()
                && let Some(entry) = self.take_out(&mut stripe, index, &scope)
            {
                gone.push(entry);
            }
            let released = mem::take(&mut stripe.gone);
            drop(stripe);
            drop(released);
        }
    }

    /// Changes the ledger of `scope`, in place or as a copy; `None` if there is none. A ledger that had
    /// expired is taken out and left in `expired`, to be dropped outside the locks.
    fn change<T>(
        &self,
        stripe: &mut Stripe,
        index: usize,
        scope: &Scope,
        used: u64,
        expired: &mut Option<Entry>,
        change: impl Fn(&mut Ledger) -> T,
    ) -> Option<T> {
        let seen = self.cache.entry(scope, None, |_, entry| {
            if self.is_expired(entry.used, used) {
                return EntryAction::Remove;
            }
            let Some(ledger) = Arc::get_mut(&mut entry.ledger) else {
                return EntryAction::Retain(Change::Shared(entry.clone()));
            };
            let before = Held::by(ledger);
            let answer = change(ledger);
            entry.used = used;
            EntryAction::Retain(Change::Made { answer, before, after: Held::by(ledger), slot: entry.slot })
        });
        match seen {
            EntryResult::Retained(Change::Made { answer, before, after, slot }) => {
                self.account(stripe, before, after);
                stripe.order.touch(slot, used);
                self.publish(stripe, index);
                Some(answer)
            }
            EntryResult::Retained(Change::Shared(Entry { ledger, slot, .. })) => {
                let before = Held::by(&ledger);
                let mut copy = Ledger::clone(&ledger);
                drop(ledger);
                let answer = change(&mut copy);
                self.account(stripe, before, Held::by(&copy));
                stripe.order.touch(slot, used);
                self.publish(stripe, index);
                self.cache.insert(*scope, Entry { ledger: Arc::new(copy), used, slot });
                Some(answer)
            }
            EntryResult::Removed(_, entry) => {
                stripe.expired_ledgers += 1;
                self.settle(stripe, index, &entry);
                *expired = Some(entry);
                None
            }
            _ => None,
        }
    }

    fn add(&self, stripe: &mut Stripe, index: usize, scope: &Scope, used: u64, ledger: Arc<Ledger>) {
        self.account(stripe, Held::default(), Held::by(&ledger));
        self.ledgers.fetch_add(1, Ordering::Relaxed);
        let slot = stripe.order.push(*scope, used);
        self.publish(stripe, index);
        self.cache.insert(*scope, Entry { ledger, used, slot });
    }

    /// Takes the ledger of `scope` out, for the caller to drop it outside the lock.
    fn take_out(&self, stripe: &mut Stripe, index: usize, scope: &Scope) -> Option<Entry> {
        let (_, entry) = self.cache.remove(scope)?;
        self.settle(stripe, index, &entry);
        Some(entry)
    }

    /// Balances the books after an entry has left the cache.
    fn settle(&self, stripe: &mut Stripe, index: usize, entry: &Entry) {
        self.account(stripe, Held::by(&entry.ledger), Held::default());
        self.ledgers.fetch_sub(1, Ordering::Relaxed);
        stripe.order.remove(entry.slot);
        self.publish(stripe, index);
    }

    fn account(&self, stripe: &mut Stripe, before: Held, after: Held) {
        stripe.turns = stripe.turns - before.turns + after.turns;
        stripe.items = stripe.items - before.items + after.items;
        if after.bytes >= before.bytes {
            self.bytes.fetch_add((after.bytes - before.bytes) as u64, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub((before.bytes - after.bytes) as u64, Ordering::Relaxed);
        }
    }

    /// Lets the ledgers go that were not used for longest, until the store is within its bounds; never
    /// that of `scope`, which was just written. Returns how many turns went.
    fn make_room(&self, scope: &Scope) -> usize {
        let mut turns = 0;
        while self.is_over()
            && let Some(index) = self.oldest_stripe()
        {
            let mut stripe = self.lock(index);
            let Some((oldest, _)) = stripe.order.oldest() else {
                continue;
            };
            if oldest == *scope {
                break;
            }
            let Some(entry) = self.take_out(&mut stripe, index, &oldest) else {
                break;
            };
            let gone = entry.ledger.turns().len();
            stripe.evicted_ledgers += 1;
            stripe.evicted_turns += gone as u64;
            turns += gone;
            let now = stripe.gone.take(entry, self.max_awaiting);
            drop(stripe);
            drop(now);
        }
        turns
    }

    /// Lets a few expired ledgers go, if there can be any.
    fn purge(&self, now: u64) {
        if now < self.next_expiry.load(Ordering::Relaxed) {
            return;
        }
        for _ in 0..PURGED_PER_APPEND {
            let Some(index) = self.oldest_stripe() else {
                return;
            };
            let mut stripe = self.lock(index);
            let Some((oldest, used)) = stripe.order.oldest() else {
                return;
            };
            if !self.is_expired(used, now) {
                let expiry = used.saturating_add(self.life) - STAMP_SLACK.min(self.life);
                self.next_expiry.store(expiry, Ordering::Relaxed);
                return;
            }
            let Some(entry) = self.take_out(&mut stripe, index, &oldest) else {
                return;
            };
            stripe.expired_ledgers += 1;
            let now = stripe.gone.take(entry, self.max_awaiting);
            drop(stripe);
            drop(now);
        }
    }

    fn expire(&self, scope: &Scope) {
        let index = stripe_of(scope);
        let mut stripe = self.lock(index);
        let now = self.now();
        // The ledger may have been written to or taken out since it was seen.
        if self.cache.peek(scope).is_some_and(|entry| self.is_expired(entry.used, now)) {
            let entry = self.take_out(&mut stripe, index, scope);
            stripe.expired_ledgers += 1;
            drop(stripe);
            drop(entry);
        }
    }

    fn extend(&self, scope: &Scope) {
        let index = stripe_of(scope);
        let mut stripe = self.lock(index);
        let used = self.stamp();
        let seen = self.cache.entry(scope, None, |_, entry| {
            entry.used = used;
            EntryAction::Retain(entry.slot)
        });
        if let EntryResult::Retained(slot) = seen {
            stripe.order.touch(slot, used);
            self.publish(&stripe, index);
        }
    }

    fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.max_bytes || self.ledgers.load(Ordering::Relaxed) > self.max_ledgers
    }

    fn is_expired(&self, used: u64, now: u64) -> bool {
        now.saturating_add(STAMP_SLACK) >= used.saturating_add(self.life)
    }

    fn now(&self) -> u64 {
        nanoseconds(Instant::now().saturating_duration_since(self.epoch))
    }

    /// The time, or a little later if that was taken. Taken while the stripe is locked, so that the
    /// order of stamps is the order of writes.
    fn stamp(&self) -> u64 {
        let now = self.now();
        let last = self.stamp.fetch_max(now, Ordering::Relaxed);
        if last < now { now } else { self.stamp.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    fn oldest_stripe(&self) -> Option<usize> {
        let stamps = self.oldest.iter().map(|stamp| stamp.load(Ordering::Relaxed));
        let (index, stamp) = stamps.enumerate().min_by_key(|(_, stamp)| *stamp)?;
        (stamp != EMPTY).then_some(index)
    }

    fn publish(&self, stripe: &Stripe, index: usize) {
        let stamp = stripe.order.oldest().map_or(EMPTY, |(_, used)| used);
        // Most writes leave the oldest where it is; not storing keeps the line in the other cores' caches.
        if self.oldest[index].load(Ordering::Relaxed) != stamp {
            self.oldest[index].store(stamp, Ordering::Relaxed);
        }
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Stripe> {
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stripe_of(scope: &Scope) -> usize {
    // The cache takes its shard from the middle bits and its buckets from both ends.
    (ScopeHash.hash_one(scope) >> 44) as usize % STRIPES
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ledger::{Alternative, Anchor, Context, Item, Kind, TurnId, TurnPart};

    fn turn(id: u128) -> Arc<Turn> {
        let anchor = Anchor::from_bytes([1; 16]);
        let mut part = TurnPart::new(Kind::Text, anchor);
        part.state = Some(Item::new(Bytes::from_static(b"\"state\"")));
        let context = Context::new(anchor, anchor, 0, []);
        let alternatives = vec![Alternative::new(0, vec![part])];
        Arc::new(Turn::new(TurnId::new(id), context, alternatives, false))
    }

    fn awaiting(shared: &Shared) -> (usize, usize) {
        (0..STRIPES).fold((0, 0), |(turns, bytes), index| {
            let gone = &shared.lock(index).gone;
            let held: usize = gone.ledgers.iter().map(|ledger| ledger.turns().len()).sum();
            (turns + held, bytes + gone.bytes)
        })
    }

    /// Rule 11: an eviction costs no single append the time it takes to free a long ledger.
    #[test]
    fn the_turns_of_a_ledger_that_went_are_released_over_the_next_appends() {
        let MemoryStore(shared) = MemoryStore::builder().max_ledgers(1).build().unwrap();
        let [first, second] = [[1; 32], [2; 32]].map(Scope::from_bytes);
        let turns: Vec<_> = (0..50).map(turn).collect();
        for turn in &turns {
            shared.append(&first, turn);
        }
        assert_eq!(shared.append(&second, &turns[0]).evicted, 50);
        assert_eq!(awaiting(&shared), (50, 50 * turns[0].bytes()));
        for turn in &turns[..30] {
            // One scope after another, so that every stripe has its turn.
            for id in 0..=255 {
                shared.append(&Scope::from_bytes([id; 32]), turn);
            }
        }
        assert_eq!(awaiting(&shared), (0, 0));
        drop(shared);
        assert!(turns.iter().all(|turn| Arc::strong_count(turn) == 1));
    }

    #[test]
    fn little_awaits_release_when_little_is_allowed() {
        let MemoryStore(shared) =
            MemoryStore::builder().max_ledgers(1).max_bytes(1 << 20).max_bytes_per_ledger(1 << 20).build().unwrap();
        for scope in 0..=255 {
            for id in 0..50 {
                shared.append(&Scope::from_bytes([scope; 32]), &turn(id));
            }
            assert!(awaiting(&shared).1 <= (1 << 20) / AWAITING_RELEASE);
        }
        shared.clear();
        assert_eq!(awaiting(&shared), (0, 0));
    }
}
