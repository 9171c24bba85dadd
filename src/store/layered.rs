//! Memory in front of another store.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::{Appended, MemoryStore, Reply, Store, StoreError};
use crate::{
    ledger::{ItemRef, Ledger, Turn},
    scope::Scope,
};

/// Memory in front of another store, as one store.
///
/// Appends and removals go to both, and are answered when the store behind has answered. What a load does depends on
/// [who writes](LayeredBuilder::written_by_others) to the store behind:
///
/// | the store behind | say | a load |
/// |---|---|---|
/// | is on a server, for several replicas (the default) | `written_by_others(true)` | asks it each time, for another replica may have written; memory answers when it fails, or takes longer than the [patience](LayeredBuilder::patience): what is old is better than nothing |
/// | is written by this process alone, as a `DiskStore` is | `written_by_others(false)` | is answered from memory, at once; what memory lacks is asked for, and kept |
///
/// With `written_by_others(false)` memory must not hold what the store behind has let go, nor less of a ledger: give
/// both the same [limits](crate::ledger::Limits) of one ledger, and the memory no longer time to live. Memory may hold
/// fewer ledgers. A load that extends a life in memory extends it behind, too.
///
/// What the store behind could not take is kept in memory; the failure is returned and counted all the same.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::store::{Layered, MemoryStore, Store};
///
/// /// For several replicas: a server that is down for a moment costs no conversation.
/// fn replicated(server: impl Store) -> impl Store {
///     Layered::new(server)
/// }
///
/// /// For one process: a restart costs no conversation, and loads never wait for the disk twice.
/// fn restartable(disk: impl Store) -> impl Store {
///     Layered::builder(disk).written_by_others(false).build()
/// }
/// # restartable(replicated(MemoryStore::new()));
/// ```
pub struct Layered<F>(Arc<Layers<F>>);

/// Sets up a [`Layered`] store.
#[must_use = "a builder does nothing until `build` is called"]
pub struct LayeredBuilder<F> {
    memory: MemoryStore,
    behind: F,
    written_by_others: bool,
    patience: Duration,
}

/// How often each side of a [`Layered`] store has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayeredSnapshot {
    /// Loads that memory has answered without asking.
    pub from_memory: u64,
    /// Loads that the store behind has answered.
    pub from_behind: u64,
    /// Loads that memory has answered because the store behind failed or took too long.
    pub stale: u64,
    /// Calls that the store behind has failed.
    pub failed: u64,
}

struct Layers<F> {
    memory: MemoryStore,
    behind: F,
    written_by_others: bool,
    patience: Duration,
    flights: Mutex<Flights>,
    from_memory: AtomicU64,
    from_behind: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
}

/// What is under way. A ledger that was loaded goes into memory only if nothing was written in the meantime.
#[derive(Default)]
struct Flights {
    scopes: HashMap<Scope, Flight>,
    clears: usize,
}

#[derive(Default)]
struct Flight {
    loads: usize,
    writes: usize,
    /// Something was written while it was loaded.
    is_old: bool,
}

impl<F: Store> Layered<F> {
    /// A store with the default memory in front of one that others write to as well.
    pub fn new(behind: F) -> Self {
        Self::builder(behind).build()
    }

    /// Begins a store with this one behind.
    pub fn builder(behind: F) -> LayeredBuilder<F> {
        LayeredBuilder {
            memory: MemoryStore::new(),
            behind,
            written_by_others: true,
            patience: Duration::from_millis(40),
        }
    }

    /// The memory in front.
    #[must_use]
    pub fn memory(&self) -> &MemoryStore {
        &self.0.memory
    }

    /// The store behind.
    #[must_use]
    pub fn behind(&self) -> &F {
        &self.0.behind
    }

    /// How often each side has answered so far.
    #[must_use]
    pub fn snapshot(&self) -> LayeredSnapshot {
        LayeredSnapshot {
            from_memory: self.0.from_memory.load(Ordering::Relaxed),
            from_behind: self.0.from_behind.load(Ordering::Relaxed),
            stale: self.0.stale.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
        }
    }
}

impl<F: Store> LayeredBuilder<F> {
    /// The memory in front. Default: [`MemoryStore::new`].
    pub fn memory(mut self, memory: MemoryStore) -> Self {
        self.memory = memory;
        self
    }

    /// Whether other processes write to the store behind. Then every load asks it. Default: `true`.
    pub fn written_by_others(mut self, written_by_others: bool) -> Self {
        self.written_by_others = written_by_others;
        self
    }

    /// How long a load waits for a store that others write to before memory answers, if it has the ledger. Keep it
    /// below the [`load_timeout`](crate::engine::Builder::load_timeout) of the engine. Default: 40 ms.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Builds the store.
    pub fn build(self) -> Layered<F> {
        Layered(Arc::new(Layers {
            memory: self.memory,
            behind: self.behind,
            written_by_others: self.written_by_others,
            patience: self.patience,
            flights: Mutex::default(),
            from_memory: AtomicU64::new(0),
            from_behind: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))
    }
}

impl<F> Clone for Layered<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> fmt::Debug for Layered<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered")
            .field("memory", &self.0.memory)
            .field("written_by_others", &self.0.written_by_others)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for LayeredBuilder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredBuilder")
            .field("memory", &self.memory)
            .field("written_by_others", &self.written_by_others)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl<F: Store> Store for Layered<F> {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        if self.0.written_by_others { self.0.load_behind(scope) } else { self.0.load_in_front(scope) }
    }

    fn may_hold(&self, scope: &Scope) -> bool {
        self.0.memory.may_hold(scope) || self.0.behind.may_hold(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        let layers = &self.0;
        let writing = Writing::begin(layers, scope);
        // A ledger of which memory would have only this turn would hide the others.
        let is_kept = if layers.written_by_others {
            layers.memory.append(scope, Arc::clone(&turn)).now().is_some()
        } else {
            layers.memory.append_if_there(scope, &turn)
        };
        finish(layers.behind.append(scope, Arc::clone(&turn)), async move |answer| {
            if answer.is_err() && !is_kept {
                let layers = &writing.layers;
                let before = layers.behind.load(&writing.scope).await.ok().flatten();
                let _flights = layers.flights();
                if let Some(before) = before {
                    layers.memory.put(&writing.scope, before);
                }
                drop(layers.memory.append(&writing.scope, turn));
            }
            writing.end(answer)
        })
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        let writing = Writing::begin(&self.0, scope);
        drop(self.0.memory.remove(scope, items));
        finish(self.0.behind.remove(scope, items), async move |answer| writing.end(answer))
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        let writing = Writing::begin(&self.0, scope);
        drop(self.0.memory.forget(scope));
        finish(self.0.behind.forget(scope), async move |answer| writing.end(answer))
    }

    fn clear(&self) -> Reply<()> {
        let clearing = Clearing::begin(&self.0);
        drop(self.0.memory.clear());
        finish(self.0.behind.clear(), async move |answer| {
            let layers = &clearing.0;
            layers.count(&answer);
            answer
        })
    }

    fn appends_inline(&self) -> bool {
        self.0.behind.appends_inline()
    }

    fn is_shared(&self) -> bool {
        self.0.behind.is_shared()
    }
}

/// Does something with an answer, at once if it is there.
fn finish<T, U, Fut>(mut reply: Reply<T>, then: impl FnOnce(Result<T, StoreError>) -> Fut + Send + 'static) -> Reply<U>
where
    T: Send + Unpin + 'static,
    U: Send + 'static,
    Fut: Future<Output = Result<U, StoreError>> + Send + 'static,
{
    let now = reply.now();
    Reply::pending(async move {
        let answer = match now {
            Some(answer) => answer,
            None => reply.await,
        };
        then(answer).await
    })
}

impl<F: Store> Layers<F> {
    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count<T>(&self, answer: &Result<T, StoreError>) {
        if answer.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn load_in_front(self: &Arc<Self>, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        if let Some((ledger, extended)) = self.memory.load_and_tell(scope) {
            self.from_memory.fetch_add(1, Ordering::Relaxed);
            if extended {
                // It lives on behind, too.
                let mut reply = self.behind.load(scope);
                if reply.now().is_none()
                    && let Ok(runtime) = Handle::try_current()
                {
                    runtime.spawn(reply);
                }
            }
            return Reply::ready(Some(ledger));
        }
        let loading = Loading::begin(self, scope);
        let mut reply = self.behind.load(scope);
        match reply.now() {
            Some(answer) => match loading.end(answer) {
                Ok(ledger) => Reply::ready(ledger),
                Err(error) => Reply::failed(error),
            },
            None => Reply::pending(async move { loading.end(reply.await) }),
        }
    }

    fn load_behind(self: &Arc<Self>, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        let loading = Loading::begin(self, scope);
        let mut reply = self.behind.load(scope);
        if let Some(answer) = reply.now() {
            return match loading.end_or_memory(answer) {
                Ok(ledger) => Reply::ready(ledger),
                Err(error) => Reply::failed(error),
            };
        }
        Reply::pending(async move {
            if Handle::try_current().is_err() {
                return loading.end_or_memory(reply.await);
            }
            match tokio::time::timeout(loading.layers.patience, &mut reply).await {
                Ok(answer) => loading.end_or_memory(answer),
                // Who knows nothing else waits on.
                Err(_) => match loading.layers.stale(&loading.scope) {
                    Some(ledger) => Ok(Some(ledger)),
                    None => loading.end_or_memory(reply.await),
                },
            }
        })
    }

    /// What memory has, where the store behind should have answered.
    fn stale(&self, scope: &Scope) -> Option<Arc<Ledger>> {
        let (ledger, _) = self.memory.load_and_tell(scope)?;
        self.stale.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("a ledger is taken from memory, for the store behind does not answer");
        Some(ledger)
    }
}

/// A load from the store behind under way.
struct Loading<F: Store> {
    layers: Arc<Layers<F>>,
    scope: Scope,
}

impl<F: Store> Loading<F> {
    fn begin(layers: &Arc<Layers<F>>, scope: &Scope) -> Self {
        layers.flights().scopes.entry(*scope).or_default().loads += 1;
        Self { layers: Arc::clone(layers), scope: *scope }
    }

    /// Keeps in memory what was loaded.
    fn end(self, answer: Result<Option<Arc<Ledger>>, StoreError>) -> Result<Option<Arc<Ledger>>, StoreError> {
        self.layers.count(&answer);
        let ledger = answer?;
        self.layers.from_behind.fetch_add(1, Ordering::Relaxed);
        let flights = self.layers.flights();
        let is_current = flights.clears == 0
            && flights.scopes.get(&self.scope).is_some_and(|flight| flight.writes == 0 && !flight.is_old);
        if is_current {
            match &ledger {
                Some(ledger) => self.layers.memory.put(&self.scope, Arc::clone(ledger)),
                None => drop(self.layers.memory.forget(&self.scope)),
            }
        }
        drop(flights);
        Ok(ledger)
    }

    /// The same, and if nothing was loaded, memory answers.
    fn end_or_memory(self, answer: Result<Option<Arc<Ledger>>, StoreError>) -> Result<Option<Arc<Ledger>>, StoreError> {
        let (layers, scope) = (Arc::clone(&self.layers), self.scope);
        self.end(answer).or_else(|error| layers.stale(&scope).map(Some).ok_or(error))
    }
}

impl<F: Store> Drop for Loading<F> {
    fn drop(&mut self) {
        let mut flights = self.layers.flights();
        if let Some(flight) = flights.scopes.get_mut(&self.scope) {
            flight.loads -= 1;
            flight.is_old &= flight.loads > 0;
            if flight.loads == 0 && flight.writes == 0 {
                flights.scopes.remove(&self.scope);
            }
        }
    }
}

/// A write to one ledger under way.
struct Writing<F: Store> {
    layers: Arc<Layers<F>>,
    scope: Scope,
    is_over: bool,
}

impl<F: Store> Writing<F> {
    fn begin(layers: &Arc<Layers<F>>, scope: &Scope) -> Self {
        let mut flights = layers.flights();
        let flight = flights.scopes.entry(*scope).or_default();
        flight.writes += 1;
        flight.is_old = flight.loads > 0;
        drop(flights);
        Self { layers: Arc::clone(layers), scope: *scope, is_over: false }
    }

    fn end<T>(mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.layers.count(&answer);
        self.is_over = true;
        answer
    }
}

impl<F: Store> Drop for Writing<F> {
    fn drop(&mut self) {
        let mut flights = self.layers.flights();
        if let Some(flight) = flights.scopes.get_mut(&self.scope) {
            flight.writes -= 1;
            // A load that began while this was under way may have missed it.
            flight.is_old = flight.loads > 0;
            if flight.loads == 0 && flight.writes == 0 {
                flights.scopes.remove(&self.scope);
            }
        }
        // Nobody knows whether it has happened behind; where memory answers alone, it must not say otherwise.
        if !self.is_over && !self.layers.written_by_others {
            drop(self.layers.memory.forget(&self.scope));
        }
    }
}

/// A call that takes everything, under way.
struct Clearing<F: Store>(Arc<Layers<F>>);

impl<F: Store> Clearing<F> {
    fn begin(layers: &Arc<Layers<F>>) -> Self {
        let mut flights = layers.flights();
        flights.clears += 1;
        Self::age(&mut flights);
        drop(flights);
        Self(Arc::clone(layers))
    }

    fn age(flights: &mut Flights) {
        for flight in flights.scopes.values_mut() {
            flight.is_old = flight.loads > 0;
        }
    }
}

impl<F: Store> Drop for Clearing<F> {
    fn drop(&mut self) {
        let mut flights = self.0.flights();
        flights.clears -= 1;
        Self::age(&mut flights);
    }
}
