use std::{error::Error as StdError, fmt, time::Duration};

use redis::aio::ConnectionLike;

use super::{RedisStore, Seal};
use crate::ledger::Limits;

/// How long a prefix may be, in bytes.
const LONGEST_PREFIX: usize = 256;
/// The server counts in milliseconds from 1970 on; no sum may exceed what it can count.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Sets what a [`RedisStore`] is to do.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RedisStoreBuilder<C> {
    pub(super) connection: C,
    pub(super) settings: Settings,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) prefix: Box<str>,
    pub(super) ttl: Duration,
    pub(super) limits: Limits,
    pub(super) near_entries: usize,
    pub(super) near_bytes: usize,
    pub(super) seal: Option<Seal>,
    pub(super) operation_timeout: Duration,
    pub(super) retries: u32,
    pub(super) breaker_failures: u32,
    pub(super) breaker_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefix: "reasoning-replay:".into(),
            ttl: Duration::from_secs(60 * 60),
            limits: Limits::default(),
            near_entries: 256,
            near_bytes: 64 << 20,
            seal: None,
            operation_timeout: Duration::from_secs(1),
            retries: 3,
            breaker_failures: 3,
            breaker_interval: Duration::from_secs(1),
        }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStoreBuilder<C> {
    /// With what every key begins. Default: `reasoning-replay:`.
    ///
    /// Stores with the same prefix on the same database are one store. In a cluster the ledgers spread over the nodes
    /// unless the prefix contains a hash tag (`{…}`), which puts all of them on one.
    pub fn prefix(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// How long a ledger is kept after its last load or append, in milliseconds at the finest. Default: one hour.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// What one ledger may hold. Default: [`Limits::default`], that is 4,096 items and 16 MiB.
    ///
    /// All replicas should have the same; each applies its own to what it appends.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// How many ledgers of how many bytes in sum are kept in this process, so that they need not be transferred again
    /// while the server says that they have not changed. Default: 256 ledgers, 64 MiB.
    ///
    /// An entry counts as its bytes, and at least as `bytes` divided by `entries`. A ledger larger than `bytes` is
    /// transferred each time. Zero for either turns it off.
    pub fn near_cache(mut self, entries: usize, bytes: usize) -> Self {
        (self.settings.near_entries, self.settings.near_bytes) = (entries, bytes);
        self
    }

    /// Encrypts what is stored. Default: it is stored as it is.
    pub fn seal(mut self, seal: Seal) -> Self {
        self.settings.seal = Some(seal);
        self
    }

    /// How long an operation may take, its retries included. Default: one second.
    ///
    /// The engine waits for a load and for a commit by bounds of its own; this one holds for what goes on in the
    /// background after that, and for each batch of a [`clear`](crate::Store::clear). The response timeout of the
    /// connection should not be longer, and one shorter than this leaves time for another attempt.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.settings.operation_timeout = timeout;
        self
    }

    /// How often an append, a removal or a `forget` that failed is tried again, after 50 ms, 100 ms, 200 ms and so on and up
    /// to half as much again, within the [operation timeout](Self::operation_timeout). Default: 3.
    ///
    /// Loads are not tried again, nor is what a server without memory or permission refuses.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// After so many operations in a row that failed, or were given up by who waited for them, the server is left alone:
    /// operations fail at once, but for one in each `interval`. When one succeeds, all go on. Default: 3 failures, one
    /// second.
    ///
    /// A reply that was dropped within 5 ms does not count, nor does an append that fails because the server is out of
    /// memory, for loads may go on then.
    pub fn breaker(mut self, failures: u32, interval: Duration) -> Self {
        (self.settings.breaker_failures, self.settings.breaker_interval) = (failures, interval);
        self
    }

    /// Builds the store. Nothing is sent.
    ///
    /// # Errors
    ///
    /// If the prefix is empty or longer than 256 bytes; if the time to live is less than a millisecond or more than a
    /// century; or if a limit, the operation timeout, or a part of the breaker is zero.
    pub fn build(self) -> Result<RedisStore<C>, RedisStoreError> {
        let settings = &self.settings;
        if settings.prefix.is_empty() || settings.prefix.len() > LONGEST_PREFIX {
            return Err(RedisStoreError("`prefix` is empty or too long: give it 1 to 256 bytes"));
        }
        if settings.ttl < Duration::from_millis(1) || settings.ttl > LONGEST_LIFE {
            return Err(RedisStoreError("`ttl` is out of range: give it between a millisecond and a century"));
        }
        if settings.limits.items == 0 || settings.limits.bytes == 0 {
            return Err(RedisStoreError("`limits` has a zero: allow at least one item and one byte"));
        }
        if settings.operation_timeout.is_zero() {
            return Err(RedisStoreError("`operation_timeout` is zero: nothing could succeed; give it a positive time"));
        }
        if settings.breaker_failures == 0 || settings.breaker_interval.is_zero() {
            return Err(RedisStoreError(
                "`breaker` has a zero: allow at least one failure, and some time between two attempts",
            ));
        }
        Ok(RedisStore::with(self))
    }
}

impl<C> fmt::Debug for RedisStoreBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &settings.prefix)
            .field("ttl", &settings.ttl)
            .field("limits", &settings.limits)
            .field("sealed", &settings.seal.is_some())
            .field("operation_timeout", &settings.operation_timeout)
            .field("retries", &settings.retries)
            .finish_non_exhaustive()
    }
}

/// What was given to a [`RedisStoreBuilder`] makes no sense. Its text says what to change.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisStoreError(&'static str);

impl fmt::Display for RedisStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for RedisStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStoreError").field(&self.0).finish()
    }
}

impl StdError for RedisStoreError {}
