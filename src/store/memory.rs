//! Ledgers in the memory of this process.

mod builder;
mod hash;
mod order;

use std::{
    collections::{HashMap, hash_map},
    fmt,
    hash::BuildHasher,
    mem,
    ops::{Add, Sub},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
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

/// Readers of different scopes rarely meet on one of so many locks.
const SHARDS: usize = 16;
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

    /// What the store holds at this moment. Takes the lock of its writers for an instant.
    #[must_use]
    pub fn snapshot(&self) -> MemorySnapshot {
        let books = self.0.books();
        MemorySnapshot {
            ledgers: books.order.len(),
            turns: books.held.turns,
            items: books.held.items,
            bytes: books.held.bytes as u64,
            evicted_ledgers: books.evicted_ledgers,
            expired_ledgers: books.expired_ledgers,
            evicted_turns: books.evicted_turns,
        }
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
        let MemorySnapshot { ledgers, bytes, .. } = self.snapshot();
        f.debug_struct("MemoryStore").field("ledgers", &ledgers).field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        Reply::ready(self.0.load(scope).map(|(ledger, _)| ledger))
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
/// Readers touch the shard of their scope and nothing else. Writers come one at a time, for whatever is written,
/// the order of use and both bounds are those of the whole store: one lock that holds all of it goes from one
/// processor to another in a fraction of the time that several of them take, and what takes long is done before
/// or after it is held.
///
/// The lock of the books is taken before that of a shard, never after it.
struct Shared {
    shards: [Shard; SHARDS],
    books: Apart<Mutex<Books>>,
    epoch: Instant,
    life: u64,
    limits: Limits,
    max_ledgers: usize,
    max_bytes: u64,
    /// How many bytes of ledgers that went may await their release.
    max_awaiting: usize,
}

/// On cache lines of its own, so that those who use it do not disturb those who use its neighbours.
#[repr(align(64))]
struct Apart<T>(T);

type Shard = Apart<RwLock<Entries>>;
type Entries = HashMap<Scope, Entry, ScopeHash>;

struct Entry {
    ledger: Arc<Ledger>,
    used: u64,
    slot: u32,
}

/// What writers keep.
struct Books {
    order: Order,
    held: Held,
    /// The last stamp given. Stamps are nanoseconds since `epoch`, but no two are the same.
    stamp: u64,
    /// No ledger expires before this.
    next_expiry: u64,
    gone: Gone,
    evicted_ledgers: u64,
    expired_ledgers: u64,
    evicted_turns: u64,
}

impl Books {
    /// The time, or a little later if that was taken.
    fn stamp(&mut self, now: u64) -> u64 {
        self.stamp = now.max(self.stamp + 1);
        self.stamp
    }

    fn enter(&mut self, scope: &Scope, used: u64, ledger: Arc<Ledger>) -> Entry {
        self.held = self.held + Held::by(&ledger);
        Entry { ledger, used, slot: self.order.push(*scope, used) }
    }

    fn strike(&mut self, entry: Entry) -> Arc<Ledger> {
        self.held = self.held - Held::by(&entry.ledger);
        self.order.remove(entry.slot);
        entry.ledger
    }
}

/// Ledgers that went and that nobody else holds, to be released a few turns at a time.
#[derive(Default)]
struct Gone {
    ledgers: Vec<Ledger>,
    bytes: usize,
}

impl Gone {
    /// Takes a ledger, unless it has to be dropped at once.
    fn take(&mut self, ledger: Arc<Ledger>, room: usize) -> Option<Arc<Ledger>> {
        let bytes = self.bytes + ledger.bytes();
        if ledger.turns().len() <= RELEASED_PER_APPEND || bytes > room {
            return Some(ledger);
        }
        // A reader that holds it will release it.
        let ledger = Arc::into_inner(ledger)?;
        self.bytes = bytes;
        self.ledgers.push(ledger);
        None
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

/// What a write leaves over, to be dropped after the locks.
#[derive(Default)]
struct Waste {
    former: Option<Arc<Ledger>>,
    expired: [Option<Arc<Ledger>>; PURGED_PER_APPEND],
    evicted: Option<Arc<Ledger>>,
    released: [Option<Arc<Turn>>; RELEASED_PER_APPEND],
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

impl Add for Held {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { turns: self.turns + more.turns, items: self.items + more.items, bytes: self.bytes + more.bytes }
    }
}

impl Sub for Held {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self { turns: self.turns - less.turns, items: self.items - less.items, bytes: self.bytes - less.bytes }
    }
}

impl Shared {
    fn new(config: &MemoryStoreBuilder) -> Self {
        let life = nanoseconds(config.time_to_live).max(1);
        let books = Books {
            order: Order::new(),
            held: Held::default(),
            stamp: 0,
            next_expiry: life.saturating_sub(STAMP_SLACK),
            gone: Gone::default(),
            evicted_ledgers: 0,
            expired_ledgers: 0,
            evicted_turns: 0,
        };
        Self {
            shards: std::array::from_fn(|_| Apart(RwLock::default())),
            books: Apart(Mutex::new(books)),
            epoch: Instant::now(),
            life,
            limits: config.limits,
            max_ledgers: config.max_ledgers,
            max_bytes: config.max_bytes,
            max_awaiting: usize::try_from(config.max_bytes).unwrap_or(usize::MAX) / AWAITING_RELEASE,
        }
    }

    /// The ledger, and whether its life was extended.
    fn load(&self, scope: &Scope) -> Option<(Arc<Ledger>, bool)> {
        let (ledger, used) = {
            let entries = self.shard(scope).read();
            let entry = entries.get(scope)?;
            (Arc::clone(&entry.ledger), entry.used)
        };
        let now = self.now();
        if self.is_expired(used, now) {
            drop(ledger);
            self.expire(scope);
            return None;
        }
        let extends = now.saturating_sub(used) > self.life / EXTENSIONS_PER_LIFE;
        if extends {
            self.extend(scope);
        }
        Some((ledger, extends))
    }

    fn append(&self, scope: &Scope, turn: &Arc<Turn>) -> Appended {
        if !Ledger::admits(turn, &self.limits) {
            self.books().evicted_turns += 1;
            return Appended::new(1);
        }
        let begin = || {
            let mut ledger = Ledger::new();
            ledger.append(Arc::clone(turn), &self.limits);
            Some((Arc::new(ledger), 0))
        };
        let (gone, evicted) = self.append_or(scope, turn, begin);
        Appended::new(gone.unwrap_or(0) + evicted)
    }

    fn append_if_there(&self, scope: &Scope, turn: &Arc<Turn>) -> bool {
        Ledger::admits(turn, &self.limits) && self.append_or(scope, turn, || None).0.is_some()
    }

    /// Appends a turn, or does something else where there is no ledger. Returns how many turns of the ledger went, and
    /// how many of others.
    fn append_or(
        &self,
        scope: &Scope,
        turn: &Arc<Turn>,
        otherwise: impl FnOnce() -> Option<(Arc<Ledger>, usize)>,
    ) -> (Option<usize>, usize) {
        let now = self.now();
        let mut waste = Waste::default();
        let mut books = self.books();
        let used = books.stamp(now);
        let append = |ledger: &mut Ledger| ledger.append(Arc::clone(turn), &self.limits);
        let gone = self.change(&mut books, scope, used, &mut waste, otherwise, append);
        books.evicted_turns += gone.unwrap_or(0) as u64;
        (gone, self.tidy(books, scope, waste))
    }

    fn put(&self, scope: &Scope, ledger: Arc<Ledger>) {
        let fits = !ledger.is_empty() && ledger.bytes() <= self.limits.bytes && ledger.items() <= self.limits.items;
        let now = self.now();
        let mut waste = Waste::default();
        let mut books = self.books();
        let used = books.stamp(now);
        waste.former = self.take_out(&mut books, scope);
        if fits {
            let entry = books.enter(scope, used, ledger);
            self.shard(scope).write().insert(*scope, entry);
        }
        self.tidy(books, scope, waste);
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> usize {
        let now = self.now();
        let mut waste = Waste::default();
        let mut books = self.books();
        let used = books.stamp(now);
        let remove = |ledger: &mut Ledger| (ledger.remove(items), ledger.is_empty());
        let removed = self.change(&mut books, scope, used, &mut waste, || None, remove);
        let empty = removed.filter(|(_, empty)| *empty).and_then(|_| self.take_out(&mut books, scope));
        drop(books);
        drop((waste, empty));
        removed.map_or(0, |(removed, _)| removed)
    }

    fn forget(&self, scope: &Scope) -> bool {
        let now = self.now();
        let mut books = self.books();
        let used = self.shard(scope).read().get(scope).map(|entry| entry.used);
        let gone = self.take_out(&mut books, scope);
        drop(books);
        drop(gone);
        used.is_some_and(|used| !self.is_expired(used, now))
    }

    fn clear(&self) {
        let mut books = self.books();
        let entries: Vec<Entries> = self.shards.iter().map(|shard| mem::take(&mut *shard.write())).collect();
        let gone = (mem::replace(&mut books.order, Order::new()), mem::take(&mut books.gone));
        books.held = Held::default();
        drop(books);
        drop((entries, gone));
    }

    /// Changes the ledger of `scope`, in place or as a copy. Where there is none, or one that has expired, takes what
    /// `otherwise` gives.
    fn change<T>(
        &self,
        books: &mut Books,
        scope: &Scope,
        used: u64,
        waste: &mut Waste,
        otherwise: impl FnOnce() -> Option<(Arc<Ledger>, T)>,
        change: impl FnOnce(&mut Ledger) -> T,
    ) -> Option<T> {
        let mut entries = self.shard(scope).write();
        let held = match entries.entry(*scope) {
            hash_map::Entry::Vacant(vacant) => {
                let (ledger, answer) = otherwise()?;
                vacant.insert(books.enter(scope, used, ledger));
                return Some(answer);
            }
            hash_map::Entry::Occupied(found) if self.is_expired(found.get().used, used) => {
                books.expired_ledgers += 1;
                waste.former = Some(books.strike(found.remove()));
                let (ledger, answer) = otherwise()?;
                entries.insert(*scope, books.enter(scope, used, ledger));
                return Some(answer);
            }
            hash_map::Entry::Occupied(found) => {
                let entry = found.into_mut();
                entry.used = used;
                books.order.touch(entry.slot, used);
                if let Some(ledger) = Arc::get_mut(&mut entry.ledger) {
                    let before = Held::by(ledger);
                    let answer = change(ledger);
                    books.held = books.held - before + Held::by(ledger);
                    return Some(answer);
                }
                Arc::clone(&entry.ledger)
            }
        };
        // A reader holds the ledger, so a copy takes its place. Others may read while it is made.
        drop(entries);
        let mut copy = Ledger::clone(&held);
        let answer = change(&mut copy);
        books.held = books.held - Held::by(&held) + Held::by(&copy);
        let copy = Arc::new(copy);
        if let Some(entry) = self.shard(scope).write().get_mut(scope) {
            waste.former = Some(mem::replace(&mut entry.ledger, copy));
        }
        Some(answer)
    }

    /// Takes the ledger of `scope` out, for the caller to drop it outside the lock.
    fn take_out(&self, books: &mut Books, scope: &Scope) -> Option<Arc<Ledger>> {
        let entry = self.shard(scope).write().remove(scope)?;
        Some(books.strike(entry))
    }

    /// Brings the store within its bounds after a write to `scope`. Returns how many turns of other ledgers went.
    fn tidy<'s>(&'s self, mut books: MutexGuard<'s, Books>, scope: &Scope, mut waste: Waste) -> usize {
        waste.released = books.gone.release();
        self.purge(&mut books, &mut waste);
        let mut turns = 0;
        while let Some(gone) = self.evict(&mut books, scope, &mut waste) {
            turns += gone;
            if !self.is_over(&books) {
                break;
            }
            // Others have their turn while what went is dropped.
            drop(books);
            waste = Waste::default();
            books = self.books();
        }
        drop(books);
        drop(waste);
        turns
    }

    /// Lets the ledger go that was not used for longest, if the store is over a bound; never that of `scope`, which was
    /// just written. Returns how many turns it had.
    fn evict(&self, books: &mut Books, scope: &Scope, waste: &mut Waste) -> Option<usize> {
        let (oldest, _) = books.order.oldest().filter(|(oldest, _)| self.is_over(books) && oldest != scope)?;
        let ledger = self.take_out(books, &oldest)?;
        let turns = ledger.turns().len();
        books.evicted_ledgers += 1;
        books.evicted_turns += turns as u64;
        waste.evicted = books.gone.take(ledger, self.max_awaiting);
        Some(turns)
    }

    /// Lets a few expired ledgers go, if there can be any.
    fn purge(&self, books: &mut Books, waste: &mut Waste) {
        let now = books.stamp;
        if now < books.next_expiry {
            return;
        }
        for expired in &mut waste.expired {
            let Some((oldest, used)) = books.order.oldest() else {
                return;
            };
            if !self.is_expired(used, now) {
                books.next_expiry = used.saturating_add(self.life) - STAMP_SLACK.min(self.life);
                return;
            }
            let Some(ledger) = self.take_out(books, &oldest) else {
                return;
            };
            books.expired_ledgers += 1;
            *expired = books.gone.take(ledger, self.max_awaiting);
        }
    }

    fn expire(&self, scope: &Scope) {
        let now = self.now();
        let mut books = self.books();
        // The ledger may have been written to or taken out since it was seen.
        let used = self.shard(scope).read().get(scope).map(|entry| entry.used);
        if used.is_some_and(|used| self.is_expired(used, now)) {
            let gone = self.take_out(&mut books, scope);
            books.expired_ledgers += 1;
            drop(books);
            drop(gone);
        }
    }

    fn extend(&self, scope: &Scope) {
        let now = self.now();
        let mut books = self.books();
        let used = books.stamp(now);
        if let Some(entry) = self.shard(scope).write().get_mut(scope) {
            entry.used = used;
            books.order.touch(entry.slot, used);
        }
    }

    fn is_over(&self, books: &Books) -> bool {
        books.held.bytes as u64 > self.max_bytes || books.order.len() > self.max_ledgers
    }

    fn is_expired(&self, used: u64, now: u64) -> bool {
        now.saturating_add(STAMP_SLACK) >= used.saturating_add(self.life)
    }

    fn now(&self) -> u64 {
        nanoseconds(Instant::now().saturating_duration_since(self.epoch))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, scope: &Scope) -> &Shard {
        // The tables take their buckets from both ends.
        &self.shards[(ScopeHash.hash_one(scope) >> 44) as usize % SHARDS]
    }
}

impl Shard {
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
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
        let gone = &shared.books().gone;
        (gone.ledgers.iter().map(|ledger| ledger.turns().len()).sum(), gone.bytes)
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
