//! Where ledgers live: behind one object-safe trait.
//!
//! [`MemoryStore`] keeps them in this process, within bounds and for a limited time. `DiskStore` (feature `disk`)
//! keeps them in a file, so that a gateway that restarts keeps its sessions, and `RedisStore` (feature `redis`) on a
//! server of Redis or Valkey, for several replicas. [`Layered`] puts memory in front of another store.
//!
//! # Implement your own store
//!
//! A store maps a [`Scope`] to a [`Ledger`]. The ledger knows what an append and a removal mean; a store
//! applies them atomically and hands ledgers out without copying them. One that has to wait, because
//! it asks a server, returns [`Reply::pending`] instead of [`Reply::ready`].
//!
//! The contract in `testing::store_contract` (feature `testing`) tells whether a store keeps the rules.
//!
//! ```
//! use std::{
//!     collections::HashMap,
//!     sync::{Arc, Mutex, MutexGuard, PoisonError},
//! };
//!
//! use tower_reasoning_replay::{
//!     ledger::{Anchor, Context, ItemRef, Ledger, Limits, Turn, TurnId},
//!     scope::Scope,
//!     store::{Appended, Reply, Store},
//! };
//!
//! /// Keeps ledgers until it is dropped.
//! #[derive(Default)]
//! struct NaiveStore {
//!     ledgers: Mutex<HashMap<Scope, Arc<Ledger>>>,
//!     limits: Limits,
//! }
//!
//! impl NaiveStore {
//!     fn ledgers(&self) -> MutexGuard<'_, HashMap<Scope, Arc<Ledger>>> {
//!         self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
//!     }
//! }
//!
//! impl Store for NaiveStore {
//!     fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
//!         Reply::ready(self.ledgers().get(scope).cloned())
//!     }
//!
//!     fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
//!         let mut ledgers = self.ledgers();
//!         let ledger = ledgers.entry(*scope).or_default();
//!         // Whoever has loaded the ledger keeps what was loaded: then this makes a copy.
//!         let evicted = Arc::make_mut(ledger).append(turn, &self.limits);
//!         if ledger.is_empty() {
//!             ledgers.remove(scope);
//!         }
//!         Reply::ready(Appended::new(evicted))
//!     }
//!
//!     fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
//!         let mut ledgers = self.ledgers();
//!         let Some(ledger) = ledgers.get_mut(scope) else { return Reply::ready(0) };
//!         let removed = Arc::make_mut(ledger).remove(items);
//!         if ledger.is_empty() {
//!             ledgers.remove(scope);
//!         }
//!         Reply::ready(removed)
//!     }
//!
//!     fn forget(&self, scope: &Scope) -> Reply<bool> {
//!         Reply::ready(self.ledgers().remove(scope).is_some())
//!     }
//!
//!     fn clear(&self) -> Reply<()> {
//!         self.ledgers().clear();
//!         Reply::ready(())
//!     }
//!
//!     fn appends_inline(&self) -> bool {
//!         true
//!     }
//!
//!     fn is_shared(&self) -> bool {
//!         false
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let store: Arc<dyn Store> = Arc::new(NaiveStore::default());
//! let scope = Scope::from_bytes([1; 32]);
//! assert!(store.load(&scope).await?.is_none());
//!
//! let start = Context::new(Anchor::from_bytes([0; 16]), Anchor::from_bytes([0; 16]), 0, []);
//! let turn = Arc::new(Turn::new(TurnId::new(1), start, Vec::new(), false));
//! store.append(&scope, turn.clone()).await?;
//! let ledger = store.load(&scope).await?.unwrap_or_default();
//! assert!(ledger.turns().eq([&turn]));
//! # Ok::<(), tower_reasoning_replay::store::StoreError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod codec;
#[cfg(feature = "disk")]
mod disk;
mod layered;
mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use sync_wrapper::SyncWrapper;

#[cfg(feature = "disk")]
pub use self::disk::{DiskSnapshot, DiskStore, DiskStoreBuilder, DiskStoreError};
pub use self::layered::{Layered, LayeredBuilder, LayeredSnapshot};
pub use self::memory::{MemorySnapshot, MemoryStore, MemoryStoreBuilder, MemoryStoreError};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{RedisSnapshot, RedisStore, RedisStoreBuilder, RedisStoreError, Seal};
use crate::{
    ledger::{ItemRef, Ledger, Turn},
    scope::Scope,
};

/// Keeps ledgers, one for each scope.
///
/// The trait is object-safe: the layer holds an `Arc<dyn Store>`. A store that answers at once returns
/// [`Reply::ready`], which allocates nothing; one that has to wait returns [`Reply::pending`].
///
/// # Ordering
///
/// Appends to one scope merge: no writer may lose another's turn, and appending a turn twice leaves
/// one. [`Ledger::append`] and [`Ledger::remove`] hold those rules; a store applies them atomically.
///
/// # Cancellation
///
/// A reply may be dropped at any time. An append that was started may or may not have happened then.
pub trait Store: Send + Sync + 'static {
    /// The ledger of `scope`, shared and not copied; `None` if there is none. Loading extends the
    /// ledger's time to live.
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>>;

    /// Whether there may be a ledger of `scope`; `false` only if there surely is none.
    ///
    /// It is asked before a request is read, to send one at once of which nothing is known. So it answers from memory, and
    /// it is no use of the ledger: its time to live stays as it is. Default: `true`.
    fn may_hold(&self, _scope: &Scope) -> bool {
        true
    }

    /// Adds `turn` to the ledger of `scope`, which begins with it if there is none.
    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended>;

    /// Forgets these items of the ledger of `scope`; says how many there were.
    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize>;

    /// Forgets the whole ledger of `scope`; says whether there was one.
    fn forget(&self, scope: &Scope) -> Reply<bool>;

    /// Forgets everything.
    fn clear(&self) -> Reply<()>;

    /// Whether an append completes at once, without a runtime. Such appends run inline, also when the
    /// response is dropped; the others go through a bounded queue. Default: `false`.
    fn appends_inline(&self) -> bool {
        false
    }

    /// Whether other processes see this store, or this process after a restart. Then the hash key
    /// must be given: a random one would make every ledger unreachable. Default: `true`.
    fn is_shared(&self) -> bool {
        true
    }
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        (**self).load(scope)
    }

    fn may_hold(&self, scope: &Scope) -> bool {
        (**self).may_hold(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        (**self).append(scope, turn)
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        (**self).remove(scope, items)
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        (**self).forget(scope)
    }

    fn clear(&self) -> Reply<()> {
        (**self).clear()
    }

    fn appends_inline(&self) -> bool {
        (**self).appends_inline()
    }

    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// How many turns went to make room.
    pub evicted: usize,
}

impl Appended {
    /// An append that let `evicted` turns go.
    #[must_use]
    pub fn new(evicted: usize) -> Self {
        Self { evicted }
    }
}

/// The answer of a [`Store`]: at once, or later.
#[must_use = "a reply does nothing unless it is awaited"]
pub struct Reply<T>(State<T>);

enum State<T> {
    Ready(Option<Result<T, StoreError>>),
    Pending(SyncWrapper<Later<T>>),
}

type Later<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

impl<T> Reply<T> {
    /// An answer that is there at once.
    pub fn ready(value: T) -> Self {
        Self(State::Ready(Some(Ok(value))))
    }

    /// A failure that is known at once.
    pub fn failed(error: StoreError) -> Self {
        Self(State::Ready(Some(Err(error))))
    }

    /// The answer, if it is there without waiting.
    pub(crate) fn now(&mut self) -> Option<Result<T, StoreError>> {
        match &mut self.0 {
            State::Ready(answer) => answer.take(),
            State::Pending(_) => None,
        }
    }

    /// An answer that has to be waited for.
    pub fn pending(future: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Self {
        Self(State::Pending(SyncWrapper::new(Box::pin(future))))
    }
}

impl<T: Unpin> Future for Reply<T> {
    type Output = Result<T, StoreError>;

    /// # Panics
    ///
    /// If polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            State::Ready(answer) => match answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => panic!("a store's reply was polled after it was ready"),
            },
            State::Pending(future) => future.get_mut().as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            State::Ready(_) => "Reply::Ready",
            State::Pending(_) => "Reply::Pending",
        })
    }
}

/// A store could not do what was asked of it. The request goes on without replay.
#[derive(Debug)]
pub struct StoreError(Box<dyn StdError + Send + Sync>);

impl StoreError {
    /// Wraps the reason. It is written to the log with what it says of itself, so it must not quote what is stored.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the replay store could not be used")
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}
