use std::{error::Error as StdError, fmt, time::Duration};

use super::MemoryStore;
use crate::ledger::Limits;

/// Sets the bounds of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MemoryStoreBuilder {
    pub(super) time_to_live: Duration,
    pub(super) max_ledgers: usize,
    pub(super) max_bytes: u64,
    pub(super) limits: Limits,
}

impl Default for MemoryStoreBuilder {
    fn default() -> Self {
        Self {
            time_to_live: Duration::from_secs(60 * 60),
            max_ledgers: 10_240,
            max_bytes: 256 << 20,
            limits: Limits::default(),
        }
    }
}

impl MemoryStoreBuilder {
    /// How long a ledger is kept after its last use. Default: one hour.
    ///
    /// Every append extends it; a load extends it when more than a sixteenth has passed since it was
    /// last extended. So a ledger that was only read expires between 15/16 of this time and this time
    /// after the last load.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// How many ledgers are kept. Default: 10,240.
    pub fn max_ledgers(mut self, ledgers: usize) -> Self {
        self.max_ledgers = ledgers;
        self
    }

    /// How many bytes all ledgers together may hold, as counted by
    /// [`Ledger::bytes`](crate::ledger::Ledger::bytes). Default: 256 MiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many items one ledger may hold. Default: 4,096.
    pub fn max_items_per_ledger(mut self, items: usize) -> Self {
        self.limits.items = items;
        self
    }

    /// How many bytes one ledger may hold, as counted by
    /// [`Ledger::bytes`](crate::ledger::Ledger::bytes). Default: 16 MiB.
    pub fn max_bytes_per_ledger(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Builds the store.
    ///
    /// # Errors
    ///
    /// If a bound is zero, if there may be more than 2^31 ledgers, or if all ledgers together may hold
    /// less than a single one.
    pub fn build(self) -> Result<MemoryStore, MemoryStoreError> {
        if self.time_to_live.is_zero() {
            return Err(MemoryStoreError(
                "`time_to_live` is zero: nothing would be remembered; give it a positive time",
            ));
        }
        if self.max_ledgers == 0 || self.max_ledgers > 1 << 31 {
            return Err(MemoryStoreError("`max_ledgers` is out of range: allow 1 to 2^31 ledgers"));
        }
        if self.limits.items == 0 {
            return Err(MemoryStoreError("`max_items_per_ledger` is zero: allow at least one item"));
        }
        if self.limits.bytes == 0 {
            return Err(MemoryStoreError("`max_bytes_per_ledger` is zero: allow at least one byte"));
        }
        if self.max_bytes < self.limits.bytes as u64 {
            return Err(MemoryStoreError(
                "`max_bytes` is less than `max_bytes_per_ledger`: raise the former or lower the latter, so that one full ledger fits",
            ));
        }
        Ok(MemoryStore::with(&self))
    }
}

/// The bounds given to a [`MemoryStoreBuilder`] make no sense together. Its text says what to change.
#[derive(Clone, PartialEq, Eq)]
pub struct MemoryStoreError(&'static str);

impl fmt::Display for MemoryStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for MemoryStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryStoreError").field(&self.0).finish()
    }
}

impl StdError for MemoryStoreError {}
