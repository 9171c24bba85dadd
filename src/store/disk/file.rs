use std::{
    fs::OpenOptions,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError, Table,
    TableDefinition, TableHandle, backends::FileBackend,
};

use super::{
    books::{Books, Entry},
    builder::DiskStoreError,
};
use crate::{
    fresh,
    ledger::{Ledger, Turn},
    scope::Scope,
    store::{StoreError, codec},
};

/// The version of the tables below. What a turn looks like has a version of its own, in each value.
const FORMAT: u64 = 1;
/// Smaller files are not worth compacting.
const SMALL: u64 = 64 << 20;
/// How many times larger than what it holds a file may be before it is compacted when it is opened.
const LOOSE: u64 = 3;

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("replay-meta");
/// When a ledger was last used, and its turns, items and bytes.
pub(super) const LEDGERS: TableDefinition<'static, &[u8; 32], (u64, u64, u64, u64)> =
    TableDefinition::new("replay-ledgers");
/// The scope and the place of a turn in its ledger, so that a ledger is one range.
pub(super) const TURNS: TableDefinition<'static, &[u8; 40], &[u8]> = TableDefinition::new("replay-turns");

const META_FORMAT: &str = "format";
/// The number of the last transaction: what was queued before it is in the file, what came after is not.
const META_APPLIED: &str = "applied";

pub(super) type LedgerTable<'txn> = Table<'txn, &'static [u8; 32], (u64, u64, u64, u64)>;
pub(super) type TurnTable<'txn> = Table<'txn, &'static [u8; 40], &'static [u8]>;

/// A ledger as it is in the file.
#[derive(Clone, Default)]
pub(super) struct Stored {
    pub(super) ledger: Arc<Ledger>,
    /// The place of each of its turns.
    pub(super) rows: Vec<u64>,
    /// The places of values that are damaged.
    pub(super) dead: Vec<u64>,
}

/// The file, which is closed and opened again after a failure: the database takes no further calls then.
pub(super) struct File {
    path: PathBuf,
    cache: usize,
    database: RwLock<Option<Database>>,
    broken: AtomicBool,
    pub(super) damaged: AtomicU64,
    #[cfg(test)]
    pub(super) faults: Arc<faults::Faults>,
}

/// What a file held when it was opened.
pub(super) struct Opened {
    pub(super) books: Books,
    pub(super) applied: u64,
}

impl File {
    pub(super) fn open(path: &Path, cache: usize) -> Result<(Self, Opened), DiskStoreError> {
        let file = Self {
            path: path.to_owned(),
            cache,
            database: RwLock::new(None),
            broken: AtomicBool::new(true),
            damaged: AtomicU64::new(0),
            #[cfg(test)]
            faults: Arc::default(),
        };
        let opened = file.reopen()?;
        Ok((file, opened))
    }

    /// Opens the file, after it was closed if it was open.
    pub(super) fn reopen(&self) -> Result<Opened, DiskStoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        let opened = catch_unwind(AssertUnwindSafe(|| self.open_and_check()));
        let (fresh, opened) = opened.unwrap_or_else(|_| {
            Err(DiskStoreError::Damaged(self.path.clone(), "the database gave up on its content".into()))
        })?;
        *database = Some(fresh);
        self.broken.store(false, Ordering::Release);
        Ok(opened)
    }

    /// Waits for the calls under way, and lets the file go.
    pub(super) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Calls the database. After a failure it has to be opened again.
    pub(super) fn call<T>(&self, call: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = match self.database.try_read() {
            Ok(database) => database,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(StoreError::new("the file is being opened again")),
        };
        let Some(database) = &*database else {
            return Err(StoreError::new("the file could not be opened again"));
        };
        // Pages that are damaged may make the database panic.
        let outcome = catch_unwind(AssertUnwindSafe(|| call(database)));
        let error = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => StoreError::new(error),
            Err(_) => StoreError::new("the database gave up on its content"),
        };
        self.broken.store(true, Ordering::Release);
        Err(error)
    }

    /// The ledger of a scope, and the number of the last transaction that it is from.
    pub(super) fn load(&self, scope: &Scope) -> Result<(Stored, u64), StoreError> {
        self.call(|database| {
            let snapshot = database.begin_read()?;
            let applied = applied(&snapshot.open_table(META)?)?;
            Ok((self.read(&snapshot.open_table(TURNS)?, scope)?, applied))
        })
    }

    /// Reads a ledger. A damaged turn is a miss.
    pub(super) fn read(
        &self,
        table: &impl ReadableTable<&'static [u8; 40], &'static [u8]>,
        scope: &Scope,
    ) -> Result<Stored, redb::Error> {
        let (mut rows, mut dead, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        let (first, last) = (key(scope, 0), key(scope, u64::MAX));
        for entry in table.range::<&[u8; 40]>(&first..=&last)? {
            let (at, value) = entry?;
            let row = row(at.value());
            match decode(scope, value.value()) {
                Some(turn) => {
                    rows.push(row);
                    turns.push(Arc::new(turn));
                }
                None => dead.push(row),
            }
        }
        if !dead.is_empty() {
            self.damaged.fetch_add(dead.len() as u64, Ordering::Relaxed);
            tracing::warn!(turns = dead.len(), "turns on disk are damaged, and left out");
        }
        Ok(Stored { ledger: Arc::new(Ledger::restored(turns)), rows, dead })
    }

    fn open_and_check(&self) -> Result<(Database, Opened), DiskStoreError> {
        let mut database = self.open_database()?;
        let opened = self.check(&database).map_err(|failed| self.explain(failed))?;
        let bytes = self.bytes();
        if bytes > SMALL && bytes > LOOSE * opened.books.sum().bytes {
            // It only makes the file smaller: if it cannot be done, the store works as well.
            if let Err(error) = database.compact() {
                tracing::warn!(%error, "the file of the store could not be compacted");
                database = self.open_database()?;
            }
        }
        Ok((database, opened))
    }

    fn open_database(&self) -> Result<Database, DiskStoreError> {
        if !self.path.exists() {
            self.make()?;
        }
        self.open_at(&self.path, OpenOptions::new().read(true).write(true))
    }

    /// Makes a file that holds nothing. It appears whole: what a crash leaves half made has another name.
    fn make(&self) -> Result<(), DiskStoreError> {
        let io = |error: io::Error| DiskStoreError::Io(self.path.clone(), error.into());
        let draft = fresh::draft_of(&self.path).map_err(io)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let made = self.open_at(&draft, &options).and_then(|database| {
            self.check(&database).map_err(|failed| self.explain(failed))?;
            database.close().map_err(|error| self.refusal(error))
        });
        if made.is_err() {
            fresh::discard(&draft);
        }
        made?;
        match fresh::publish(&draft, &self.path) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            published => published.map_err(io),
        }
    }

    fn open_at(&self, path: &Path, options: &OpenOptions) -> Result<Database, DiskStoreError> {
        let file = options.open(path).map_err(|error| DiskStoreError::Io(self.path.clone(), error.into()))?;
        let backend = FileBackend::new(file).map_err(|error| self.refusal(error))?;
        #[cfg(test)]
        let backend = faults::Faulty { backend, faults: Arc::clone(&self.faults) };
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache);
        builder.create_with_backend(backend).map_err(|error| self.refusal(error))
    }

    fn refusal(&self, error: DatabaseError) -> DiskStoreError {
        let path = self.path.clone();
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => DiskStoreError::InUse(path),
            DatabaseError::UpgradeRequired(found) => {
                DiskStoreError::OtherFormat { path, found: found.into(), known: FORMAT }
            }
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                DiskStoreError::NotAStore(path)
            }
            DatabaseError::Storage(StorageError::Corrupted(text)) => DiskStoreError::Damaged(path, text.into()),
            error => DiskStoreError::Io(path, error.into()),
        }
    }

    fn explain(&self, failed: Failed) -> DiskStoreError {
        let path = self.path.clone();
        match failed {
            Failed::Refused(error) => error,
            Failed::Database(redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_)) => {
                DiskStoreError::NotAStore(path)
            }
            Failed::Database(redb::Error::Corrupted(text)) => DiskStoreError::Damaged(path, text.into()),
            Failed::Database(error) => DiskStoreError::Io(path, error.into()),
        }
    }

    /// Reads which ledgers there are; makes the tables of a new file.
    fn check(&self, database: &Database) -> Result<Opened, Failed> {
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        let names: Vec<String> =
            transaction.list_tables().map_err(redb::Error::from)?.map(|table| table.name().to_owned()).collect();
        let ours = names.iter().any(|name| name == META.name());
        if !ours && !names.is_empty() {
            return Err(Failed::Refused(DiskStoreError::NotAStore(self.path.clone())));
        }
        let mut opened = Opened { books: Books::default(), applied: 0 };
        {
            let mut meta = transaction.open_table(META).map_err(redb::Error::from)?;
            if ours {
                let found = meta.get(META_FORMAT).map_err(redb::Error::from)?.map_or(0, |found| found.value());
                if found != FORMAT {
                    let path = self.path.clone();
                    return Err(Failed::Refused(DiskStoreError::OtherFormat { path, found, known: FORMAT }));
                }
                opened.applied = applied(&meta)?;
            } else {
                meta.insert(META_FORMAT, FORMAT).map_err(redb::Error::from)?;
            }
            let ledgers = transaction.open_table(LEDGERS).map_err(redb::Error::from)?;
            transaction.open_table(TURNS).map_err(redb::Error::from)?;
            if !ledgers.is_empty().map_err(redb::Error::from)? {
                for entry in ledgers.iter().map_err(redb::Error::from)? {
                    let (scope, value) = entry.map_err(redb::Error::from)?;
                    let (used, turns, items, bytes) = value.value();
                    opened.books.set(&Scope::from_bytes(*scope.value()), Entry { used, turns, items, bytes });
                }
            }
        }
        if ours {
            transaction.abort().map_err(redb::Error::from)?;
        } else {
            transaction.commit().map_err(redb::Error::from)?;
        }
        Ok(opened)
    }
}

enum Failed {
    Refused(DiskStoreError),
    Database(redb::Error),
}

impl From<redb::Error> for Failed {
    fn from(error: redb::Error) -> Self {
        Self::Database(error)
    }
}

fn applied(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, redb::Error> {
    Ok(meta.get(META_APPLIED)?.map_or(0, |applied| applied.value()))
}

/// Says in a transaction which number it has.
pub(super) fn number(transaction: &redb::WriteTransaction, number: u64) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(META_APPLIED, number)?;
    Ok(())
}

/// A turn as a value. With [`decode`] the one place where turns become bytes and bytes become turns.
pub(super) fn encode(_: &Scope, turn: &Turn) -> Bytes {
    codec::encode(turn)
}

pub(super) fn decode(_: &Scope, value: &[u8]) -> Option<Turn> {
    codec::decode(&Bytes::copy_from_slice(value))
}

pub(super) fn key(scope: &Scope, row: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(scope.as_bytes());
    key[32..].copy_from_slice(&row.to_be_bytes());
    key
}

fn row(key: &[u8; 40]) -> u64 {
    let mut row = [0; 8];
    row.copy_from_slice(&key[32..]);
    u64::from_be_bytes(row)
}

#[cfg(test)]
pub(super) mod faults {
    use std::ops::Bound;

    use redb::{BackendError, StorageBackend};

    use super::*;

    /// A disk that fails when it is told to.
    #[derive(Debug, Default)]
    pub(in crate::store::disk) struct Faults {
        pub(in crate::store::disk) writes: AtomicBool,
        pub(in crate::store::disk) syncs: AtomicBool,
        pub(in crate::store::disk) reads: AtomicBool,
        pub(in crate::store::disk) slow_syncs: AtomicU64,
    }

    impl Faults {
        fn check(fault: &AtomicBool, kind: io::ErrorKind) -> io::Result<()> {
            if fault.load(Ordering::SeqCst) { Err(kind.into()) } else { Ok(()) }
        }
    }

    #[derive(Debug)]
    pub(super) struct Faulty {
        pub(super) backend: FileBackend,
        pub(super) faults: Arc<Faults>,
    }

    impl StorageBackend for Faulty {
        fn len(&self) -> io::Result<u64> {
            self.backend.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            Faults::check(&self.faults.reads, io::ErrorKind::Other)?;
            self.backend.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            Faults::check(&self.faults.writes, io::ErrorKind::StorageFull)?;
            self.backend.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            Faults::check(&self.faults.syncs, io::ErrorKind::Other)?;
            std::thread::sleep(std::time::Duration::from_millis(self.faults.slow_syncs.load(Ordering::SeqCst)));
            self.backend.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            Faults::check(&self.faults.writes, io::ErrorKind::StorageFull)?;
            self.backend.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.backend.close()
        }

        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.backend.try_lock_range(start, end)
        }

        fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.backend.try_lock_shared_range(start, end)
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.backend.unlock_range(start, end)
        }
    }
}
