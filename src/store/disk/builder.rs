use std::{
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::DiskStore;
use crate::ledger::Limits;

/// Sets the bounds of a [`DiskStore`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct DiskStoreBuilder {
    pub(super) path: PathBuf,
    pub(super) ttl: Duration,
    pub(super) limits: Limits,
    pub(super) max_bytes: u64,
    pub(super) max_ledgers: usize,
    pub(super) cache_bytes: usize,
    pub(super) queue_entries: usize,
    pub(super) queue_bytes: usize,
}

impl DiskStoreBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            ttl: Duration::from_secs(60 * 60),
            limits: Limits::default(),
            max_bytes: 256 << 20,
            max_ledgers: 10_240,
            cache_bytes: 64 << 20,
            queue_entries: 1_024,
            queue_bytes: 64 << 20,
        }
    }

    /// How long a ledger is kept after its last use, while the store is open or not. Default: one hour.
    ///
    /// Every append and removal extends it; a load extends it when more than a sixteenth has passed since it
    /// was last extended, so that loads are not writes.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The bounds of one ledger. Default: those of [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many bytes all ledgers together may hold, as counted by
    /// [`Ledger::bytes`](crate::ledger::Ledger::bytes). Default: 256 MiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many ledgers are kept. Default: 10,240.
    pub fn max_ledgers(mut self, ledgers: usize) -> Self {
        self.max_ledgers = ledgers;
        self
    }

    /// How many bytes of memory may hold what is on disk: one half pages of the file, one half ledgers that were
    /// used lately. Default: 64 MiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How many writes, and how many bytes of them, may await the disk; more are refused at once. Default: 1,024
    /// and 64 MiB.
    pub fn queue(mut self, entries: usize, bytes: usize) -> Self {
        self.queue_entries = entries;
        self.queue_bytes = bytes;
        self
    }

    /// Opens the store, and makes its file if there is none. The directory has to be there.
    ///
    /// This waits for the disk. After a crash the whole file is read once.
    ///
    /// # Errors
    ///
    /// If the bounds make no sense together, or if the file is in use, is no file of a store, was written by
    /// another release, or cannot be read.
    pub fn open(self) -> Result<DiskStore, DiskStoreError> {
        if self.ttl.is_zero() {
            return Err(DiskStoreError::Bounds("`ttl` is zero: nothing would be remembered; give it a positive time"));
        }
        if self.max_ledgers == 0 {
            return Err(DiskStoreError::Bounds("`max_ledgers` is zero: allow at least one ledger"));
        }
        if self.limits.items == 0 || self.limits.bytes == 0 {
            return Err(DiskStoreError::Bounds("`limits` allow nothing: allow at least one item and one byte"));
        }
        if self.max_bytes < self.limits.bytes as u64 {
            return Err(DiskStoreError::Bounds(
                "`max_bytes` is less than the bytes of one ledger in `limits`: raise the former or lower the latter",
            ));
        }
        if self.queue_entries == 0 || self.queue_bytes < self.limits.bytes {
            return Err(DiskStoreError::Bounds(
                "`queue` has no room for one turn: allow at least one entry, and the bytes of one ledger in `limits`",
            ));
        }
        DiskStore::with(self)
    }
}

/// A [`DiskStore`] could not be opened. Its text says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum DiskStoreError {
    /// The bounds make no sense together.
    Bounds(&'static str),
    /// Another process, or another store of this one, has the file open.
    InUse(PathBuf),
    /// There is a file, but it is not one of a store.
    NotAStore(PathBuf),
    /// The file was written in a format that this release does not know.
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        found: u64,
        /// The version that this release reads.
        known: u64,
    },
    /// The file is damaged beyond what leaving out single turns could mend.
    Damaged(PathBuf, Box<dyn StdError + Send + Sync>),
    /// The file could not be opened, read or written, or the thread that writes it could not be started.
    Io(PathBuf, Box<dyn StdError + Send + Sync>),
}

impl fmt::Display for DiskStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounds(text) => f.write_str(text),
            Self::InUse(path) => write!(
                f,
                "{} is in use by another process, or is open in this one already: one file serves one store; give each \
                 process a file of its own, or share one store on a server",
                path.display()
            ),
            Self::NotAStore(path) => {
                write!(f, "{} is not a file of this store: give another path, or move it away", path.display())
            }
            Self::OtherFormat { path, found, known } => write!(
                f,
                "{} was written by another release, in format {found}, and this one reads format {known}: move the file \
                 away to begin anew",
                path.display()
            ),
            Self::Damaged(path, _) => {
                write!(f, "{} is damaged: move the file away to begin anew", path.display())
            }
            Self::Io(path, _) => write!(f, "{} could not be opened", path.display()),
        }
    }
}

impl StdError for DiskStoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Damaged(_, source) | Self::Io(_, source) => Some(&**source),
            _ => None,
        }
    }
}
