//! What the store on disk takes for a load and for a commit, beside the bare database with values of the same size in
//! the same run.
//!
//! `cargo bench --bench disk --features disk`; `REPLAY_BENCH_DIR` names a directory on the disk to be measured.

#![allow(clippy::unwrap_used, reason = "a measurement that fails may panic")]

use std::{
    env,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::runtime::Runtime;
use tower_reasoning_replay::{
    ledger::{Alternative, Anchor, Context, Item, Kind, Ledger, Turn, TurnId, TurnPart},
    scope::Scope,
    store::{DiskStore, Layered, Store, codec},
};

const BARE: TableDefinition<'static, &[u8; 40], &[u8]> = TableDefinition::new("bare");
const SIGNATURE: usize = 1_536;

fn scope(n: u64) -> Scope {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Scope::from_bytes(bytes)
}

/// A call with its signature and the text before it.
fn turn(id: u128) -> Arc<Turn> {
    let anchor = |n: u8| Anchor::from_bytes([n; 16]);
    let mut call = TurnPart::new(Kind::Call, anchor(2));
    call.id = Some("call_0123456789abcdef".into());
    call.name = Some("read_file".into());
    let signature = format!("\"{}\"", "s".repeat(SIGNATURE));
    call.whole = Some(Bytes::from(format!(
        "{{\"functionCall\":{{\"name\":\"read_file\",\"args\":{{}}}},\"thoughtSignature\":{signature}}}"
    )));
    call.state = Some(Item::new(signature.into()));
    let parts = vec![TurnPart::new(Kind::Text, anchor(1)), call];
    let context = Context::new(anchor(3), Anchor::from_bytes(id.to_be_bytes()), 7, [1, 2, 3, 4]);
    Arc::new(Turn::new(TurnId::new(id), context, vec![Alternative::new(0, parts)], false))
}

fn key(scope: &Scope, row: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(scope.as_bytes());
    key[32..].copy_from_slice(&row.to_be_bytes());
    key
}

struct Times(Vec<Duration>);

impl Times {
    fn at(&mut self, part: f64) -> Duration {
        self.0.sort_unstable();
        self.0[((self.0.len() - 1) as f64 * part) as usize]
    }
}

fn show(what: &str, times: Vec<Duration>, more: &str) {
    let mut times = Times(times);
    let (count, p50, p99) = (times.0.len(), times.at(0.5), times.at(0.99));
    println!("{what:<44} {p50:>10.1?} {p99:>10.1?} {count:>7}  {more}");
}

fn timed<T>(times: &mut Vec<Duration>, run: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let output = run();
    times.push(begin.elapsed());
    output
}

fn commits(runtime: &Runtime, directory: &Path) {
    let value = codec::encode(&turn(1));
    println!("\ncommit of a turn of {} B{:>29} {:>10} {:>7}", value.len(), "p50", "p99", "count");
    let store = DiskStore::open(directory.join("commits.redb")).unwrap();
    let bare = Database::create(directory.join("bare.redb")).unwrap();
    let mut id = 0_u128;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..600_u64 {
        let scope = scope(round % 200);
        id += 1;
        let turn = turn(id);
        timed(&mut ours, || runtime.block_on(store.append(&scope, turn)).unwrap());
        timed(&mut theirs, || {
            let transaction = bare.begin_write().unwrap();
            transaction.open_table(BARE).unwrap().insert(&key(&scope, round), &*value).unwrap();
            transaction.commit().unwrap();
        });
    }
    show("bare, one at a time", theirs, "");
    show("store, one at a time", ours, "");
    for batch in [8_u64, 64, 512] {
        let begin = Instant::now();
        let mut times = Vec::new();
        for round in 0..4_096 / batch {
            timed(&mut times, || {
                let transaction = bare.begin_write().unwrap();
                {
                    let mut table = transaction.open_table(BARE).unwrap();
                    for n in 0..batch {
                        table.insert(&key(&scope(1_000 + n), batch << 32 | round), &*value).unwrap();
                    }
                }
                transaction.commit().unwrap();
            });
        }
        let rate = 4_096.0 / begin.elapsed().as_secs_f64();
        show(&format!("bare, {batch} in a transaction"), times, &format!("{rate:.0}/s"));
    }
    for writers in [8_u64, 64, 512] {
        let before = store.snapshot().transactions;
        let each = 4_096 / writers;
        let begin = Instant::now();
        let times = runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|writer| {
                    let store = store.clone();
                    let first = id + u128::from(writer * each);
                    tokio::spawn(async move {
                        let mut times = Vec::new();
                        for n in 0..each {
                            let turn = turn(first + 1 + u128::from(n));
                            let begin = Instant::now();
                            store.append(&scope(1_000 + writer), turn).await.unwrap();
                            times.push(begin.elapsed());
                        }
                        times
                    })
                })
                .collect();
            let mut times = Vec::new();
            for task in tasks {
                times.extend(task.await.unwrap());
            }
            times
        });
        id += u128::from(writers * each);
        let transactions = store.snapshot().transactions - before;
        let rate = (writers * each) as f64 / begin.elapsed().as_secs_f64();
        let more = format!("{:.1} in a transaction, {rate:.0}/s", (writers * each) as f64 / transactions as f64);
        show(&format!("store, {writers} at a time"), times, &more);
    }
}

fn loads(runtime: &Runtime, directory: &Path) {
    for turns in [1_u64, 20, 200] {
        let path = directory.join(format!("loads-{turns}.redb"));
        let ledgers = 64.min(4_000 / turns);
        println!("\nload of a ledger of {turns:>3} turns{:>27} {:>10} {:>7}", "p50", "p99", "count");
        let store = DiskStore::open(&path).unwrap();
        let bare = Database::create(directory.join(format!("bare-{turns}.redb"))).unwrap();
        let transaction = bare.begin_write().unwrap();
        {
            let mut table = transaction.open_table(BARE).unwrap();
            for n in 0..ledgers {
                for row in 0..turns {
                    let turn = turn(u128::from(row));
                    table.insert(&key(&scope(n), row), &*codec::encode(&turn)).unwrap();
                    drop(store.append(&scope(n), turn));
                }
                runtime.block_on(store.flush()).unwrap();
            }
        }
        transaction.commit().unwrap();
        drop(store);
        let warm = DiskStore::open(&path).unwrap();
        let (mut cached_times, mut bare_times) = (Vec::new(), Vec::new());
        let (mut cold_times, mut warm_times) = (Vec::new(), Vec::new());
        let load = |store: &dyn Store, n: u64| -> Arc<Ledger> {
            let ledger = runtime.block_on(store.load(&scope(n))).unwrap().unwrap();
            assert_eq!(ledger.turns().len() as u64, turns);
            ledger
        };
        for n in 0..ledgers {
            load(&warm, n);
        }
        for _ in 0..10 {
            for n in 0..ledgers {
                timed(&mut warm_times, || black_box(load(&warm, n)));
            }
        }
        let front = Layered::builder(warm).written_by_others(false).build();
        let mut front_times = Vec::new();
        for round in 0..10 {
            for n in 0..ledgers {
                let mut times = Vec::new();
                timed(&mut times, || black_box(load(&front, n)));
                if round > 0 {
                    front_times.extend(times);
                }
            }
        }
        drop(front);
        let cold = DiskStore::builder(&path).cache_bytes(0).open().unwrap();
        drop(bare);
        let bare_path = directory.join(format!("bare-{turns}.redb"));
        let read = |bare: &Database, n: u64| {
            let transaction = bare.begin_read().unwrap();
            let table = transaction.open_table(BARE).unwrap();
            let (first, last) = (key(&scope(n), 0), key(&scope(n), u64::MAX));
            let range = table.range_owned::<&[u8; 40]>(&first..=&last).unwrap();
            black_box(range.map(|row| row.unwrap().1.value().to_vec().len()).sum::<usize>());
        };
        for _ in 0..10 {
            let bare = Database::open(&bare_path).unwrap();
            (0..ledgers).for_each(|n| read(&bare, n));
            (0..ledgers).for_each(|n| timed(&mut cached_times, || read(&bare, n)));
            drop(bare);
            let bare = Database::builder().set_cache_size(0).open(&bare_path).unwrap();
            for n in 0..ledgers {
                timed(&mut bare_times, || read(&bare, n));
                timed(&mut cold_times, || black_box(load(&cold, n)));
            }
        }
        show("bare, pages in its cache", cached_times, "every value copied");
        show("bare, without a cache", bare_times, "every value copied");
        show("store, without a cache", cold_times, "on a thread for blocking calls");
        show("store, used lately", warm_times, "");
        show("memory in front of it", front_times, "");
    }
}

fn openings(runtime: &Runtime, directory: &Path) {
    println!("\nopening");
    for megabytes in [16_u64, 256] {
        let path = directory.join(format!("open-{megabytes}.redb"));
        let open = || DiskStore::builder(&path).max_bytes(1 << 30).open().unwrap();
        let store = open();
        let count = (megabytes << 20) / turn(1).bytes() as u64;
        for n in 0..count {
            drop(store.append(&scope(n % (count / 40)), turn(u128::from(n))));
            if n % 500 == 499 {
                runtime.block_on(store.flush()).unwrap();
            }
        }
        runtime.block_on(store.flush()).unwrap();
        // As after a crash: the file as it is while it is open.
        let crashed = path.with_extension("crashed");
        std::fs::copy(&path, &crashed).unwrap();
        let snapshot = store.snapshot();
        let begin = Instant::now();
        drop(store);
        let closed = begin.elapsed();
        let begin = Instant::now();
        drop(open());
        let opened = begin.elapsed();
        let begin = Instant::now();
        let store = DiskStore::builder(&crashed).max_bytes(1 << 30).open().unwrap();
        let repaired = begin.elapsed();
        assert_eq!(store.snapshot().turns, count);
        println!(
            "{megabytes:>4} MiB in {} ledgers, a file of {} MiB: closed in {closed:.1?}, opened and closed in \
             {opened:.1?}, opened after a crash in {repaired:.1?}",
            snapshot.ledgers,
            snapshot.file_bytes >> 20,
        );
    }
}

fn main() {
    let parent = env::var_os("REPLAY_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let directory = parent.join(format!("replay-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let runtime = Runtime::new().unwrap();
    commits(&runtime, &directory);
    loads(&runtime, &directory);
    openings(&runtime, &directory);
    std::fs::remove_dir_all(&directory).unwrap();
}
