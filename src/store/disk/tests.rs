//! What only a disk that fails, or a file that was tampered with, can show.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicU32,
    time::Instant,
};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::*;
use crate::ledger::{Alternative, Anchor, Context, Item, Kind, TurnId, TurnPart};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("replay-disk-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("replay.redb")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn turn(id: u128) -> Arc<Turn> {
    turn_after(id, 0, false)
}

fn turn_after(id: u128, history: u8, provisional: bool) -> Arc<Turn> {
    let anchor = Anchor::from_bytes([1; 16]);
    let mut part = TurnPart::new(Kind::Text, anchor);
    part.state = Some(Item::new(Bytes::from(format!("\"state {id}\""))));
    let context = Context::new(anchor, Anchor::from_bytes([history; 16]), 0, []);
    Arc::new(Turn::new(TurnId::new(id), context, vec![Alternative::new(0, vec![part])], provisional))
}

fn scope(n: u8) -> Scope {
    Scope::from_bytes([n; 32])
}

async fn ids(store: &DiskStore, n: u8) -> Vec<u128> {
    let ledger = store.load(&scope(n)).await.unwrap();
    ledger.map_or_else(Vec::new, |ledger| ledger.turns().map(|turn| turn.id().value()).collect())
}

fn cold(path: &Path) -> DiskStore {
    // Nothing is kept in memory, so that each load reads the file.
    DiskStore::builder(path).cache_bytes(0).open().unwrap()
}

fn faults(store: &DiskStore) -> &file::faults::Faults {
    &store.0.shared.file.faults
}

/// Calls until the store has taken up its work again.
async fn until_it_goes_on(store: &DiskStore, id: u128) {
    let begin = Instant::now();
    while store.append(&scope(9), turn(id)).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the store does not go on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Rule 8: loads see a turn before the disk has it, and an append is answered when it has.
#[tokio::test]
async fn a_turn_is_read_while_the_disk_is_slow() {
    let scratch = Scratch::new();
    for store in [cold(&scratch.file()), DiskStore::open(scratch.0.join("other")).unwrap()] {
        store.append(&scope(1), turn(1)).await.unwrap();
        faults(&store).slow_syncs.store(300, Ordering::SeqCst);
        let begin = Instant::now();
        let appended: Vec<_> = (2..=20).map(|id| store.append(&scope(1), turn(id))).collect();
        let removed = store.remove(&scope(1), &[ItemRef::new(TurnId::new(3), 0, 0)]);
        let expected: Vec<u128> = (1..=20).filter(|id| *id != 3).collect();
        assert_eq!(ids(&store, 1).await, expected);
        assert!(begin.elapsed() < Duration::from_millis(250), "the load has waited for the disk");
        for reply in appended {
            assert_eq!(reply.await.unwrap().evicted, 0);
        }
        assert_eq!(removed.await.unwrap(), 1);
        assert!(begin.elapsed() >= Duration::from_millis(300), "the append was answered before the disk had it");
        assert!(store.snapshot().transactions <= 4, "{:?}", store.snapshot());
        assert_eq!(ids(&store, 1).await, expected);
        let forgotten = store.forget(&scope(1));
        assert_eq!(ids(&store, 1).await, [0_u128; 0]);
        let again = store.append(&scope(1), turn(50));
        assert_eq!(ids(&store, 1).await, [50]);
        let cleared = store.clear();
        assert_eq!(ids(&store, 1).await, [0_u128; 0]);
        let last = store.append(&scope(1), turn(60));
        assert_eq!(ids(&store, 1).await, [60]);
        assert!(forgotten.await.unwrap());
        again.await.unwrap();
        cleared.await.unwrap();
        last.await.unwrap();
        assert_eq!(ids(&store, 1).await, [60]);
    }
}

/// Doing twice what was done may give something else: here the third turn would take the place of the first.
#[tokio::test]
async fn what_the_disk_has_got_while_it_was_read_is_not_done_again() {
    let scratch = Scratch::new();
    let limits = Limits { items: 2, ..Limits::default() };
    let store = DiskStore::builder(scratch.file()).limits(limits).cache_bytes(0).open().unwrap();
    for id in [1, 2] {
        store.append(&scope(1), turn(id)).await.unwrap();
    }
    faults(&store).slow_syncs.store(200, Ordering::SeqCst);
    drop(store.append(&scope(1), turn(3)));
    drop(store.remove(&scope(1), &[ItemRef::new(TurnId::new(3), 0, 0)]));
    drop(store.append(&scope(1), turn(4)));
    let shared = &store.0.shared;
    let pending = shared.lock().pending(&scope(1));
    assert!(pending.len() > 1, "the disk was too fast");
    let before = ids(&store, 1).await;
    store.flush().await.unwrap();
    let read = shared.read(&scope(1), &pending).unwrap().unwrap();
    assert_eq!(before, [2, 4]);
    assert!(read.turns().map(|turn| turn.id().value()).eq([2, 4]));
}

/// A ledger that is read is taken as it was, and not put together anew.
#[tokio::test]
async fn turns_that_would_not_be_appended_so_again_are_there_after_a_restart() {
    let scratch = Scratch::new();
    let store = cold(&scratch.file());
    for turn in [turn_after(1, 1, true), turn_after(2, 2, false), turn_after(1, 2, true)] {
        store.append(&scope(1), turn).await.unwrap();
    }
    assert_eq!(ids(&store, 1).await, [1, 2]);
    drop(store);
    assert_eq!(ids(&cold(&scratch.file()), 1).await, [1, 2]);
}

/// Rule 11.
#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let scratch = Scratch::new();
    let limits = Limits { bytes: 64 << 10, ..Limits::default() };
    for (entries, bytes, room) in [(8, 1 << 20, 8), (1_000, 64 << 10, (64 << 10) / (turn(100).bytes() + CALL_BYTES))] {
        let path = scratch.0.join(format!("{entries}"));
        let store = DiskStore::builder(path).limits(limits).queue(entries, bytes).open().unwrap();
        faults(&store).slow_syncs.store(300, Ordering::SeqCst);
        let mut replies: Vec<_> = (100..room as u128 + 105).map(|id| store.append(&scope(1), turn(id))).collect();
        let refused = replies.split_off(room);
        assert_eq!(store.snapshot().queued, room);
        for mut reply in refused {
            assert!(reply.now().is_some_and(|answer| answer.is_err()), "it is not refused at once");
        }
        for reply in replies {
            reply.await.unwrap();
        }
        let snapshot = store.snapshot();
        assert_eq!((snapshot.refused, snapshot.queued, snapshot.queued_bytes), (5, 0, 0));
        assert_eq!(ids(&store, 1).await, (100..100 + room as u128).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_disk_that_is_full_or_fails_is_an_error_and_the_store_goes_on_after_it() {
    let scratch = Scratch::new();
    let store = cold(&scratch.file());
    store.append(&scope(1), turn(1)).await.unwrap();
    for (round, fault) in [&faults(&store).writes, &faults(&store).syncs].into_iter().enumerate() {
        let id = 10 + round as u128;
        fault.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert!(store.append(&scope(1), turn(id)).await.is_err());
            assert!(store.flush().await.is_err());
        }
        assert_eq!(store.snapshot().queued, 0);
        fault.store(false, Ordering::SeqCst);
        until_it_goes_on(&store, id).await;
        // What was not acknowledged may be there or not; the rest is.
        let found = ids(&store, 1).await;
        assert!(found.contains(&1) && found.iter().all(|found| [1, 10, 11].contains(found)), "{found:?}");
        store.append(&scope(1), turn(100 + id)).await.unwrap();
        assert!(ids(&store, 1).await.contains(&(100 + id)));
        store.remove(&scope(1), &[ItemRef::new(TurnId::new(100 + id), 0, 0)]).await.unwrap();
    }
    assert!(store.snapshot().failed >= 12);
    let before = ids(&store, 1).await;
    drop(store);
    assert_eq!(ids(&cold(&scratch.file()), 1).await, before);
}

#[tokio::test]
async fn a_load_that_fails_is_an_error_and_the_next_ones_are_answered_again() {
    let scratch = Scratch::new();
    let store = cold(&scratch.file());
    for id in 1..=50 {
        store.append(&scope(1), turn(id)).await.unwrap();
    }
    faults(&store).reads.store(true, Ordering::SeqCst);
    assert!(store.load(&scope(1)).await.is_err());
    assert!(store.load(&scope(2)).await.unwrap().is_none(), "what is not there needs no disk");
    faults(&store).reads.store(false, Ordering::SeqCst);
    let begin = Instant::now();
    let found = loop {
        if let Ok(found) = store.load(&scope(1)).await {
            break found;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "loads alone do not mend the store");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(found.unwrap().turns().len(), 50);
}

#[tokio::test]
async fn a_damaged_turn_is_a_miss_and_goes_with_the_next_write() {
    let scratch = Scratch::new();
    let store = cold(&scratch.file());
    for id in 1..=3 {
        store.append(&scope(1), turn(id)).await.unwrap();
    }
    drop(store);
    let rows = |database: &Database| {
        let transaction = database.begin_read().unwrap();
        let table = transaction.open_table(file::TURNS).unwrap();
        table.iter().unwrap().map(|row| (*row.as_ref().unwrap().0.value(), row.unwrap().1.value().to_vec())).collect()
    };
    let database = Database::open(scratch.file()).unwrap();
    let kept: Vec<([u8; 40], Vec<u8>)> = rows(&database);
    assert_eq!(kept.len(), 3);
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(file::TURNS).unwrap();
        let (key, mut value) = kept[1].clone();
        let middle = value.len() / 2;
        value[middle] ^= 1;
        table.insert(&key, &*value).unwrap();
        // The last one is cut short.
        table.insert(&kept[2].0, &kept[2].1[..20]).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let store = cold(&scratch.file());
    assert_eq!(ids(&store, 1).await, [1]);
    assert_eq!(store.snapshot().damaged_turns, 2);
    store.append(&scope(1), turn(4)).await.unwrap();
    assert_eq!(ids(&store, 1).await, [1, 4]);
    assert_eq!(store.snapshot().turns, 2);
    drop(store);
    assert_eq!(rows(&Database::open(scratch.file()).unwrap()).len(), 2);
}

#[test]
fn a_file_of_another_format_or_of_something_else_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("replay-meta");
    let other: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("other");
    let edit = |name: &str, edit: &dyn Fn(&redb::WriteTransaction)| {
        let path = scratch.0.join(name);
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        edit(&transaction);
        transaction.commit().unwrap();
        path
    };
    let newer = edit("newer", &|edit| drop(edit.open_table(meta).unwrap().insert("format", 2).unwrap()));
    let error = DiskStore::open(&newer).unwrap_err();
    assert!(matches!(error, DiskStoreError::OtherFormat { found: 2, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("format 2") && error.to_string().contains("newer"), "{error}");
    let foreign = edit("foreign", &|edit| drop(edit.open_table(other).unwrap().insert("a", "b").unwrap()));
    let text = scratch.0.join("text");
    std::fs::write(&text, "no database at all, but some words ".repeat(500)).unwrap();
    for path in [foreign, text] {
        let before = std::fs::metadata(&path).unwrap().len();
        let error = DiskStore::open(&path).unwrap_err();
        assert!(matches!(error, DiskStoreError::NotAStore(_)), "{error:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), before);
    }
    let error = DiskStore::open(scratch.0.join("no").join("where")).unwrap_err();
    assert!(matches!(error, DiskStoreError::Io(..)), "{error:?}");
}

/// A clock that was set back must not make a ledger immortal, nor the store unusable.
#[tokio::test]
async fn what_seems_to_be_of_the_future_was_used_just_now() {
    let scratch = Scratch::new();
    let store = cold(&scratch.file());
    store.append(&scope(1), turn(1)).await.unwrap();
    drop(store);
    let database = Database::open(scratch.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(file::LEDGERS).unwrap();
        let (used, turns, items, bytes) = table.get(&[1; 32]).unwrap().unwrap().value();
        table.insert(&[1; 32], (used * 2, turns, items, bytes)).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let store = DiskStore::builder(scratch.file()).ttl(Duration::from_millis(300)).open().unwrap();
    assert_eq!(ids(&store, 1).await, [1]);
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(ids(&store, 1).await, [0_u128; 0]);
}

/// Rule 12.
#[tokio::test]
async fn debug_shows_counts_only() {
    let scratch = Scratch::new();
    let store = cold(&scratch.file());
    store.append(&scope(115), turn(1)).await.unwrap();
    let text = format!("{store:?} {:?}", store.snapshot());
    assert!(
        text.starts_with("DiskStore { turns: 1, bytes: ") && !text.contains("state") && !text.contains("115"),
        "{text}"
    );
}
