//! Ledgers in a file of this machine.

mod books;
mod builder;
mod file;
mod overlay;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot};

pub use self::builder::{DiskStoreBuilder, DiskStoreError};
use self::{
    books::Books,
    file::File,
    overlay::{Call, Clock, Overlay, Pending, replay},
    writer::Writer,
};
use super::{Appended, Reply, Store, StoreError};
use crate::{
    ledger::{ItemRef, Ledger, Limits, Turn},
    scope::Scope,
};

/// A load extends a ledger's life when more than one part in so many of it has passed.
const EXTENSIONS_PER_LIFE: u64 = 16;
/// What a call takes in the queue beside the bytes that it brings.
const CALL_BYTES: usize = 64;

/// Keeps ledgers in a file, so that a gateway of one process that restarts keeps its sessions, without a server.
///
/// Cloning is cheap; all clones are one store. A file serves one store at a time: a second one is refused when it is
/// opened. Processes that share their ledgers need a store on a server instead.
///
/// The [hash key](crate::scope::HashKey) has to be the same after a restart, or everything is unreachable.
/// [`HashKey::load_or_create`](crate::scope::HashKey::load_or_create) keeps one beside the store.
///
/// # When a turn is on disk
///
/// Calls are collected while the disk is busy, and committed together by a thread of the store, in one transaction
/// that is synced. An append, a removal and whatever else changes something is answered when that is over: what was
/// answered survives a crash of the process, and of the machine if its disk keeps what it has synced. What was not
/// answered is there whole, or not at all. Loads see a turn from the moment of its append, also while the disk is at
/// it. A client's answer waits for the disk up to [`commit_wait`](crate::engine::Builder::commit_wait).
///
/// A call that finds the queue full is refused at once.
///
/// # Limits
///
/// | bound | default |
/// |---|---|
/// | [time to live](DiskStoreBuilder::ttl) after the last use | 1 hour |
/// | [ledgers](DiskStoreBuilder::max_ledgers) | 10,240 |
/// | [bytes of all ledgers](DiskStoreBuilder::max_bytes) | 256 MiB |
/// | [items and bytes of one ledger](DiskStoreBuilder::limits) | 4,096 and 16 MiB |
/// | [memory](DiskStoreBuilder::cache_bytes) for pages and ledgers of the file | 64 MiB |
/// | [writes that await the disk](DiskStoreBuilder::queue) | 1,024 and 64 MiB |
///
/// Over a bound of a ledger its oldest turns go; over a bound of the store the ledgers that were not used for longest
/// go, whole. Appends purge expired ledgers in passing, a few at a time, and a store at rest does so by and by; an
/// expired ledger is never returned, purged or not. Which ledgers there are, and when each was used, is kept in memory:
/// about 250 bytes for each.
///
/// The pages of what went are used again, so that the file grows to a small multiple of what it holds at most, and not
/// with time. A file that is more than 64 MiB, and three times what it holds, is compacted when it is opened. Pages
/// that are not used any more are not overwritten before that.
///
/// # Failures
///
/// A turn that is damaged on disk counts as a miss. When the disk is full or fails, calls are answered with an error,
/// and the file is opened again after a pause, at most once in five seconds: the store goes on when the disk does.
/// After a crash, opening reads the whole file once.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::{
///     ReplayLayer,
///     scope::HashKey,
///     store::DiskStore,
/// };
/// # let directory = std::env::temp_dir().join(format!("replay-example-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
///
/// let key = HashKey::load_or_create(directory.join("replay.key"))?;
/// let store = DiskStore::open(directory.join("replay.redb"))?;
/// let layer = ReplayLayer::builder(store).hash_key(key).build_layer()?;
/// # drop(layer);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DiskStore(Arc<Running>);

/// What a [`DiskStore`] holds, and what has become of its calls since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskSnapshot {
    /// How many ledgers there are. Expired ones count until they are purged.
    pub ledgers: usize,
    /// How many turns they hold.
    pub turns: u64,
    /// How many items they hold.
    pub items: u64,
    /// How many bytes they hold, as counted by [`Ledger::bytes`].
    pub bytes: u64,
    /// How large the file is.
    pub file_bytes: u64,
    /// How many calls await the disk.
    pub queued: usize,
    /// How many bytes they bring.
    pub queued_bytes: usize,
    /// How many transactions were committed.
    pub transactions: u64,
    /// How many loads have read the file.
    pub reads: u64,
    /// How many ledgers went because the store was over a bound.
    pub evicted_ledgers: u64,
    /// How many ledgers went because nobody used them any more.
    pub expired_ledgers: u64,
    /// How many turns went because a ledger or the store was over a bound, those of evicted ledgers
    /// and turns that were too large to be taken included.
    pub evicted_turns: u64,
    /// How many turns were found damaged.
    pub damaged_turns: u64,
    /// How many calls were refused because the queue was full.
    pub refused: u64,
    /// How many calls have failed because the disk did.
    pub failed: u64,
}

impl DiskStore {
    /// Opens the store in this file with the default bounds, and makes the file if there is none.
    ///
    /// # Errors
    ///
    /// As [`DiskStoreBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DiskStoreError> {
        Self::builder(path).open()
    }

    /// Begins a store with other bounds.
    pub fn builder(path: impl AsRef<Path>) -> DiskStoreBuilder {
        DiskStoreBuilder::new(path.as_ref())
    }

    /// Waits until everything that was asked for before is on disk, or has failed. Dropping the last clone does so too.
    pub fn flush(&self) -> Reply<()> {
        self.0.shared.send(0, Call::Flush)
    }

    /// What the store holds at this moment.
    #[must_use]
    pub fn snapshot(&self) -> DiskSnapshot {
        let Shared { counters, file, .. } = &*self.0.shared;
        let state = self.0.shared.lock();
        let (ledgers, queued, queued_bytes) = (state.live.len(), state.entries, state.bytes);
        drop(state);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskSnapshot {
            ledgers,
            turns: get(&counters.turns),
            items: get(&counters.items),
            bytes: get(&counters.bytes),
            file_bytes: file.bytes(),
            queued,
            queued_bytes,
            transactions: get(&counters.transactions),
            reads: get(&counters.reads),
            evicted_ledgers: get(&counters.evicted_ledgers),
            expired_ledgers: get(&counters.expired_ledgers),
            evicted_turns: get(&counters.evicted_turns),
            damaged_turns: get(&file.damaged),
            refused: get(&counters.refused),
            failed: get(&counters.failed),
        }
    }

    fn with(config: DiskStoreBuilder) -> Result<Self, DiskStoreError> {
        let DiskStoreBuilder { path, ttl, limits, max_bytes, max_ledgers, cache_bytes, .. } = config;
        let (file, mut opened) = File::open(&path, cache_bytes / 2)?;
        let clock = Clock::new();
        // If the clock was set back since, what seems to be of the future was used just now.
        let now = clock.now();
        let ahead: Vec<_> = opened.books.iter().filter(|(_, entry)| entry.used > now).map(|(s, e)| (*s, *e)).collect();
        for (scope, entry) in ahead {
            opened.books.set(&scope, books::Entry { used: now, ..entry });
        }
        let live = opened.books.iter().map(|(scope, entry)| (*scope, entry.used)).collect();
        let overlay = Overlay::over(live, opened.applied, cache_bytes / 2);
        let shared = Arc::new(Shared {
            overlay: Mutex::new(overlay),
            wake: Condvar::new(),
            clock,
            file,
            counters: Counters::default(),
            life: u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX).max(1),
            limits,
            max_bytes,
            max_ledgers,
            queue_entries: config.queue_entries,
            queue_bytes: config.queue_bytes,
        });
        shared.tell(&opened.books);
        let writer = Writer::new(Arc::clone(&shared), opened.books);
        let thread = thread::Builder::new().name("replay-disk".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| DiskStoreError::Io(path, error.into()))?;
        Ok(Self(Arc::new(Running { shared, thread: Some(thread) })))
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.0.shared.counters;
        f.debug_struct("DiskStore")
            .field("turns", &counters.turns.load(Ordering::Relaxed))
            .field("bytes", &counters.bytes.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Store for DiskStore {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        self.0.shared.load(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        let Shared { limits, counters, .. } = &*self.0.shared;
        if !Ledger::admits(&turn, limits) {
            counters.evicted_turns.fetch_add(1, Ordering::Relaxed);
            return Reply::ready(Appended::new(1));
        }
        let bytes = turn.bytes();
        self.0.shared.send(bytes, |answer| Call::Append(*scope, turn, answer))
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        self.0.shared.send(size_of_val(items), |answer| Call::Remove(*scope, items.into(), answer))
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        self.0.shared.send(0, |answer| Call::Forget(*scope, answer))
    }

    fn clear(&self) -> Reply<()> {
        self.0.shared.send(0, Call::Clear)
    }

    fn appends_inline(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// The store as long as anybody has it.
struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    /// Waits until everything is on disk, and closes the file.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take()
            // The writer may have woken, and dropped, the last one that had the store.
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the store on disk has panicked");
        }
        self.shared.file.close();
    }
}

/// What the store and its writer share. The lock is held for moments, never while the disk is waited for.
struct Shared {
    overlay: Mutex<Overlay>,
    wake: Condvar,
    clock: Clock,
    file: File,
    counters: Counters,
    life: u64,
    limits: Limits,
    max_bytes: u64,
    max_ledgers: usize,
    queue_entries: usize,
    queue_bytes: usize,
}

#[derive(Default)]
struct Counters {
    turns: AtomicU64,
    items: AtomicU64,
    bytes: AtomicU64,
    transactions: AtomicU64,
    reads: AtomicU64,
    evicted_ledgers: AtomicU64,
    expired_ledgers: AtomicU64,
    evicted_turns: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> Duration {
        Duration::from_micros(self.life)
    }

    fn is_expired(&self, used: u64, now: u64) -> bool {
        now >= used.saturating_add(self.life)
    }

    /// Tells what the file holds.
    fn tell(&self, books: &Books) {
        let sum = books.sum();
        self.counters.turns.store(sum.turns, Ordering::Relaxed);
        self.counters.items.store(sum.items, Ordering::Relaxed);
        self.counters.bytes.store(sum.bytes, Ordering::Relaxed);
    }

    /// Gives a call to the writer.
    fn send<T: Send + Unpin + 'static>(&self, bytes: usize, call: impl FnOnce(overlay::Answer<T>) -> Call) -> Reply<T> {
        let (answer, answered) = oneshot::channel();
        if let Err(error) = self.queue(&mut self.lock(), bytes, call(answer)) {
            return Reply::failed(error);
        }
        self.wake.notify_one();
        Reply::pending(async move { answered.await.unwrap_or_else(|_| Err(StoreError::new("the store is closed"))) })
    }

    fn queue(&self, state: &mut Overlay, bytes: usize, call: Call) -> Result<(), StoreError> {
        let bytes = bytes.saturating_add(CALL_BYTES);
        if state.closed {
            return Err(StoreError::new("the store is closed"));
        }
        let is_full = state.entries >= self.queue_entries || state.bytes.saturating_add(bytes) > self.queue_bytes;
        // One call always has room.
        if is_full && state.entries > 0 {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::new("the queue of the store on disk is full"));
        }
        state.push(call, bytes, self.clock.now());
        Ok(())
    }

    fn load(self: &Arc<Self>, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        let mut state = self.lock();
        let pending = state.pending(scope);
        let now = self.clock.now();
        // The first change decided whether what was there had expired.
        let judged = pending.first().map_or(now, |pending| pending.at);
        let Some(used) = state.used(scope).filter(|used| !self.is_expired(*used, judged)) else {
            drop(state);
            return Reply::ready(replay(Arc::default(), &pending, &self.limits));
        };
        if now.saturating_sub(used) > self.life / EXTENSIONS_PER_LIFE
            && self.queue(&mut state, 0, Call::Touch(*scope)).is_ok()
        {
            state.live.insert(*scope, now);
            self.wake.notify_one();
        }
        if let Some(stored) = state.warm.get(scope) {
            drop(state);
            return Reply::ready(replay(Arc::clone(&stored.ledger), &pending, &self.limits));
        }
        drop(state);
        let (shared, scope) = (Arc::clone(self), *scope);
        let read = move || shared.read(&scope, &pending);
        match Handle::try_current() {
            Ok(runtime) => {
                let task = runtime.spawn_blocking(read);
                Reply::pending(async move { task.await.unwrap_or_else(|error| Err(StoreError::new(error))) })
            }
            Err(_) => match read() {
                Ok(ledger) => Reply::ready(ledger),
                Err(error) => Reply::failed(error),
            },
        }
    }

    /// Reads a ledger from the file, with the changes that were not in it when the load began.
    fn read(&self, scope: &Scope, pending: &[Pending]) -> Result<Option<Arc<Ledger>>, StoreError> {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        let (stored, applied) = match self.file.load(scope) {
            Ok(read) => read,
            Err(error) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                let mut state = self.lock();
                // Whoever writes next does it otherwise.
                if state.queue.is_empty() && self.queue(&mut state, 0, Call::Mend).is_ok() {
                    self.wake.notify_one();
                }
                return Err(error);
            }
        };
        let stored = Arc::new(stored);
        let mut state = self.lock();
        if state.committed == applied && state.live.contains_key(scope) {
            state.warm.put(scope, Arc::clone(&stored));
        }
        drop(state);
        // What the transactions up to that number have brought is in what was read.
        let since = pending.iter().position(|pending| pending.number > applied).unwrap_or(pending.len());
        Ok(replay(Arc::clone(&stored.ledger), &pending[since..], &self.limits))
    }
}
