//! Ledgers in the memory of this process.

mod builder;
mod hash;
mod order;

use std::{
    collections::{HashMap, hash_map},
    fmt, mem,
    ops::{Add, Sub},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

/// How many expired ledgers an append purges at most.
const PURGED_PER_APPEND: usize = 2;
/// How many turns of ledgers that went an append releases at most.
const RELEASED_PER_APPEND: usize = 2;
/// How many bytes of ledgers that went may await their release: one part in so many of all bytes.
const AWAITING_RELEASE: usize = 16;
/// A load extends a ledger's life when more than one part in so many of it has passed.
const EXTENSIONS_PER_LIFE: u64 = 16;
/// For how many ledgers there is room from the beginning, at most, so that no append has to make some: it costs
/// addresses, and memory only as ledgers come.
const ROOM: usize = 1 << 20;
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

    /// What the store holds at this moment. Takes its lock for an instant.
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
        self.0.append_if_there(scope, Arc::clone(turn))
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

    fn may_hold(&self, scope: &Scope) -> bool {
        self.0.books().entries.contains_key(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        Reply::ready(self.0.append(scope, turn))
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
/// One lock holds everything: the order of use and the bounds are those of the whole store, so writers would meet
/// anyway. Under it nothing is made, freed or waited for that can be done before or after, so a load takes tens of
/// nanoseconds of it and an append some hundred. Each further lock would cost more than it saves: a processor takes
/// one only when all that it has under way is done, and nothing of a store this large is in its caches.
struct Shared {
    books: Apart<Mutex<Books>>,
    epoch: Instant,
    life: u64,
    limits: Limits,
    max_ledgers: usize,
    max_bytes: u64,
    /// How many bytes of ledgers that went may await their release.
    max_awaiting: usize,
}

/// On cache lines of its own, so that those who write it do not disturb those who read its neighbours.
#[repr(align(64))]
struct Apart<T>(T);

struct Entry {
    ledger: Arc<Ledger>,
    used: u64,
    slot: u32,
}

struct Books {
    entries: HashMap<Scope, Entry, ScopeHash>,
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

    /// Lets everything go, for the caller to drop it outside the lock, and makes room for so many ledgers.
    fn empty(&mut self, ledgers: usize) -> impl Sized + use<> {
        let room = ledgers.saturating_add(1).min(ROOM);
        let entries = mem::replace(&mut self.entries, HashMap::with_capacity_and_hasher(room, ScopeHash));
        self.held = Held::default();
        (entries, mem::replace(&mut self.order, Order::with_capacity(room)), mem::take(&mut self.gone))
    }

    /// Adds a ledger where there is none.
    fn add(&mut self, scope: &Scope, used: u64, ledger: Arc<Ledger>) {
        self.held = self.held + Held::by(&ledger);
        let slot = self.order.push(*scope, used);
        self.entries.insert(*scope, Entry { ledger, used, slot });
    }

    /// Takes the ledger of `scope` out, for the caller to drop it outside the lock.
    fn take_out(&mut self, scope: &Scope) -> Option<Arc<Ledger>> {
        let Entry { ledger, slot, .. } = self.entries.remove(scope)?;
        self.held = self.held - Held::by(&ledger);
        self.order.remove(slot);
        Some(ledger)
    }

    fn touch(&mut self, scope: &Scope, used: u64) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(scope)?;
        entry.used = used;
        self.order.touch(entry.slot, used);
        Some(entry)
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
        let mut books = Books {
            entries: HashMap::default(),
            order: Order::default(),
            held: Held::default(),
            stamp: 0,
            next_expiry: life.saturating_sub(STAMP_SLACK),
            gone: Gone::default(),
            evicted_ledgers: 0,
            expired_ledgers: 0,
            evicted_turns: 0,
        };
        drop(books.empty(config.max_ledgers));
        Self {
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
        let now = self.now();
        let mut books = self.books();
        let entry = books.entries.get(scope)?;
        if self.is_expired(entry.used, now) {
            let gone = books.take_out(scope);
            books.expired_ledgers += 1;
            drop(books);
            drop(gone);
            return None;
        }
        let ledger = Arc::clone(&entry.ledger);
        let extends = now.saturating_sub(entry.used) > self.life / EXTENSIONS_PER_LIFE;
        if extends {
            let used = books.stamp(now);
            books.touch(scope, used);
        }
        Some((ledger, extends))
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Appended {
        if !Ledger::admits(&turn, &self.limits) {
            self.books().evicted_turns += 1;
            return Appended::new(1);
        }
        let (gone, evicted) = self.append_or(scope, turn, |turn| {
            let mut ledger = Ledger::new();
            let gone = ledger.append(turn, &self.limits);
            Some((Arc::new(ledger), gone))
        });
        Appended::new(gone.unwrap_or(0) + evicted)
    }

    fn append_if_there(&self, scope: &Scope, turn: Arc<Turn>) -> bool {
        Ledger::admits(&turn, &self.limits) && self.append_or(scope, turn, |_| None).0.is_some()
    }

    /// Appends a turn, or does something else where there is no ledger. Returns how many turns of the ledger went, and
    /// how many of others.
    fn append_or(
        &self,
        scope: &Scope,
        turn: Arc<Turn>,
        otherwise: impl FnOnce(Arc<Turn>) -> Option<(Arc<Ledger>, usize)>,
    ) -> (Option<usize>, usize) {
        let now = self.now();
        let mut waste = Waste::default();
        let mut books = self.books();
        let used = books.stamp(now);
        let append = |ledger: &mut Ledger, turn| ledger.append(turn, &self.limits);
        let gone = self.change(&mut books, scope, used, &mut waste, turn, otherwise, append);
        books.evicted_turns += gone.unwrap_or(0) as u64;
        (gone, self.tidy(books, scope, waste))
    }

    fn put(&self, scope: &Scope, ledger: Arc<Ledger>) {
        let fits = !ledger.is_empty() && ledger.bytes() <= self.limits.bytes && ledger.items() <= self.limits.items;
        let now = self.now();
        let mut waste = Waste::default();
        let mut books = self.books();
        let used = books.stamp(now);
        waste.former = books.take_out(scope);
        if fits {
            books.add(scope, used, ledger);
        }
        self.tidy(books, scope, waste);
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> usize {
        let now = self.now();
        let mut waste = Waste::default();
        let mut books = self.books();
        let used = books.stamp(now);
        let remove = |ledger: &mut Ledger, items: &[ItemRef]| (ledger.remove(items), ledger.is_empty());
        let removed = self.change(&mut books, scope, used, &mut waste, items, |_| None, remove);
        let empty = removed.filter(|(_, empty)| *empty).and_then(|_| books.take_out(scope));
        drop(books);
        drop((waste, empty));
        removed.map_or(0, |(removed, _)| removed)
    }

    fn forget(&self, scope: &Scope) -> bool {
        let now = self.now();
        let mut books = self.books();
        let used = books.entries.get(scope).map(|entry| entry.used);
        let gone = books.take_out(scope);
        drop(books);
        drop(gone);
        used.is_some_and(|used| !self.is_expired(used, now))
    }

    fn clear(&self) {
        let mut books = self.books();
        let gone = books.empty(self.max_ledgers);
        drop(books);
        drop(gone);
    }

    /// Changes the ledger of `scope` by what is given, in place or as a copy. Where there is none, or one that has
    /// expired, takes what `otherwise` makes of it.
    #[allow(clippy::too_many_arguments)]
    fn change<G, T>(
        &self,
        books: &mut Books,
        scope: &Scope,
        used: u64,
        waste: &mut Waste,
        given: G,
        otherwise: impl FnOnce(G) -> Option<(Arc<Ledger>, T)>,
        change: impl FnOnce(&mut Ledger, G) -> T,
    ) -> Option<T> {
        let Books { entries, order, held, expired_ledgers, .. } = books;
        match entries.entry(*scope) {
            hash_map::Entry::Occupied(found) if !self.is_expired(found.get().used, used) => {
                let entry = found.into_mut();
                entry.used = used;
                order.touch(entry.slot, used);
                let before = Held::by(&entry.ledger);
                if Arc::get_mut(&mut entry.ledger).is_none() {
                    // A reader holds it, so a copy takes its place.
                    let copy = Arc::new(Ledger::clone(&entry.ledger));
                    waste.former = Some(mem::replace(&mut entry.ledger, copy));
                }
                let ledger = Arc::make_mut(&mut entry.ledger);
                let answer = change(ledger, given);
                *held = *held - before + Held::by(ledger);
                Some(answer)
            }
            hash_map::Entry::Occupied(found) => {
                let Entry { ledger, slot, .. } = found.remove();
                *held = *held - Held::by(&ledger);
                order.remove(slot);
                *expired_ledgers += 1;
                waste.former = Some(ledger);
                let (ledger, answer) = otherwise(given)?;
                books.add(scope, used, ledger);
                Some(answer)
            }
            hash_map::Entry::Vacant(vacant) => {
                let (ledger, answer) = otherwise(given)?;
                *held = *held + Held::by(&ledger);
                let slot = order.push(*scope, used);
                vacant.insert(Entry { ledger, used, slot });
                Some(answer)
            }
        }
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
        let ledger = books.take_out(&oldest)?;
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
            let Some(ledger) = books.take_out(&oldest) else {
                return;
            };
            books.expired_ledgers += 1;
            *expired = books.gone.take(ledger, self.max_awaiting);
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
            shared.append(&first, turn.clone());
        }
        assert_eq!(shared.append(&second, turns[0].clone()).evicted, 50);
        assert_eq!(awaiting(&shared), (50, 50 * turns[0].bytes()));
        for turn in &turns[..30] {
            // One scope after another, so that every stripe has its turn.
            for id in 0..=255 {
                shared.append(&Scope::from_bytes([id; 32]), turn.clone());
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
                shared.append(&Scope::from_bytes([scope; 32]), turn(id));
            }
            assert!(awaiting(&shared).1 <= (1 << 20) / AWAITING_RELEASE);
        }
        shared.clear();
        assert_eq!(awaiting(&shared), (0, 0));
    }
}
