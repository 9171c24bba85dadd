//! What a user sees of stores that keep their ledgers on disk, and of memory in front of another store.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::sleep};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    ReplayLayer,
    ledger::{Alternative, Anchor, Context, Item, ItemRef, Kind, Ledger, Limits, Turn, TurnId, TurnPart},
    scope::{HashKey, Scope},
    store::{Appended, DiskStore, DiskStoreBuilder, DiskStoreError, Layered, MemoryStore, Reply, Store, StoreError},
    testing::{
        gemini::{GeminiProvider, Say, Script, Turn as Say1},
        store_contract::{ledgers_stay_within_limits, store_contract},
    },
};

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("replay-disk-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("replay.redb")
    }

    /// A file that nobody has.
    fn another(&self) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.0.join(format!("{}.redb", COUNT.fetch_add(1, Ordering::SeqCst)))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scope(n: u64) -> Scope {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Scope::from_bytes(bytes)
}

fn turn_after(id: u128, history: u8, provisional: bool, states: &[usize]) -> Arc<Turn> {
    let parts = states
        .iter()
        .map(|len| {
            let mut part = TurnPart::new(Kind::Text, Anchor::from_bytes([1; 16]));
            part.state = Some(Item::new(Bytes::from(vec![b's'; *len])));
            part
        })
        .collect();
    let context = Context::new(Anchor::from_bytes([2; 16]), Anchor::from_bytes([history; 16]), 1, [3]);
    Arc::new(Turn::new(TurnId::new(id), context, vec![Alternative::new(0, parts)], provisional))
}

fn turn(id: u128) -> Arc<Turn> {
    turn_after(id, 0, false, &[16])
}

async fn turns(store: &impl Store, n: u64) -> Vec<Arc<Turn>> {
    let ledger = store.load(&scope(n)).await.unwrap();
    ledger.map_or_else(Vec::new, |ledger| ledger.turns().cloned().collect())
}

async fn ids(store: &impl Store, n: u64) -> Vec<u128> {
    turns(store, n).await.iter().map(|turn| turn.id().value()).collect()
}

fn limits(items: usize, bytes: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.items, limits.bytes) = (items, bytes);
    limits
}

/// Ways to answer loads: from memory where it can be, or always from the file.
fn ways(path: impl AsRef<Path>) -> [DiskStoreBuilder; 2] {
    let path = path.as_ref();
    [DiskStore::builder(path), DiskStore::builder(path.with_extension("cold")).cache_bytes(0)]
}

/// A store of which every call takes a while, fails, or never ends, as it is told.
#[derive(Clone, Default)]
struct Server(Arc<ServerState>);

#[derive(Default)]
struct ServerState {
    memory: MemoryStore,
    mode: Mutex<Mode>,
    loads: AtomicUsize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mode {
    #[default]
    Works,
    Slow(Duration),
    Fails,
    Hangs,
}

impl Server {
    fn set(&self, mode: Mode) {
        *self.0.mode.lock().unwrap() = mode;
    }

    fn later<T: Send + Unpin + 'static>(
        &self,
        call: impl FnOnce(&MemoryStore) -> Reply<T> + Send + 'static,
    ) -> Reply<T> {
        let (this, mode) = (Arc::clone(&self.0), *self.0.mode.lock().unwrap());
        Reply::pending(async move {
            match mode {
                Mode::Works => tokio::task::yield_now().await,
                Mode::Slow(time) => sleep(time).await,
                Mode::Fails => return Err(StoreError::new("the server is down")),
                Mode::Hangs => std::future::pending().await,
            }
            call(&this.memory).await
        })
    }
}

impl Store for Server {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        let scope = *scope;
        self.later(move |memory| memory.load(&scope))
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        let scope = *scope;
        self.later(move |memory| memory.append(&scope, turn))
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        let (scope, items) = (*scope, items.to_vec());
        self.later(move |memory| memory.remove(&scope, &items))
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        let scope = *scope;
        self.later(move |memory| memory.forget(&scope))
    }

    fn clear(&self) -> Reply<()> {
        self.later(Store::clear)
    }
}

/// Rules 8 to 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn disk_store_keeps_the_contract() {
    let scratch = Scratch::new();
    store_contract(|| async { DiskStore::open(scratch.another()).unwrap() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn disk_store_keeps_the_contract_when_every_load_reads_the_file() {
    let scratch = Scratch::new();
    store_contract(|| async { DiskStore::builder(scratch.another()).cache_bytes(0).open().unwrap() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_in_front_of_the_disk_keeps_the_contract() {
    let scratch = Scratch::new();
    for others in [false, true] {
        store_contract(|| async {
            let disk = DiskStore::builder(scratch.another()).cache_bytes(0).open().unwrap();
            Layered::builder(disk).written_by_others(others).build()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_in_front_of_a_server_keeps_the_contract() {
    for others in [false, true] {
        store_contract(|| async { Layered::builder(Server::default()).written_by_others(others).build() }).await;
    }
}

/// Rule 11.
#[tokio::test]
async fn ledgers_stay_within_their_limits() {
    let scratch = Scratch::new();
    for (items, bytes) in [(2, 1 << 20), (64, 16 << 10)] {
        let limits = limits(items, bytes);
        let disk = |cache| DiskStore::builder(scratch.another()).limits(limits).cache_bytes(cache).open().unwrap();
        let memory = || MemoryStore::builder().max_items_per_ledger(items).max_bytes_per_ledger(bytes).build().unwrap();
        ledgers_stay_within_limits(disk(64 << 20), &limits).await;
        ledgers_stay_within_limits(disk(0), &limits).await;
        for others in [false, true] {
            let layered = Layered::builder(disk(0)).memory(memory()).written_by_others(others).build();
            ledgers_stay_within_limits(layered, &limits).await;
        }
    }
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let scratch = Scratch::new();
    let builder = || DiskStore::builder(scratch.file());
    for (wrong, word) in [
        (builder().ttl(Duration::ZERO), "`ttl`"),
        (builder().max_ledgers(0), "`max_ledgers`"),
        (builder().limits(limits(0, 1 << 20)), "`limits`"),
        (builder().limits(limits(1, 0)), "`limits`"),
        (builder().max_bytes(1 << 20), "`max_bytes`"),
        (builder().queue(0, 64 << 20), "`queue`"),
        (builder().queue(1, 1 << 20), "`queue`"),
    ] {
        let error = wrong.open().unwrap_err();
        assert!(matches!(error, DiskStoreError::Bounds(_)) && error.to_string().contains(word), "{error}");
    }
    assert!(!scratch.file().exists());
}

#[test]
fn a_store_on_disk_outlives_the_process_and_is_for_its_owner_only() {
    let scratch = Scratch::new();
    let store = DiskStore::open(scratch.file()).unwrap();
    assert!(store.is_shared() && !store.appends_inline());
    let without_key = ReplayLayer::builder(store.clone()).build_layer();
    assert!(without_key.is_err(), "a random key would make every ledger unreachable");
    assert!(ReplayLayer::builder(store).hash_key(HashKey::from_bytes([1; 32])).build_layer().is_ok());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(scratch.file()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_second_store_on_one_file_is_refused_until_the_first_is_gone() {
    let scratch = Scratch::new();
    let store = DiskStore::open(scratch.file()).unwrap();
    let clone = store.clone();
    drop(store);
    let error = DiskStore::open(scratch.file()).unwrap_err();
    assert!(matches!(error, DiskStoreError::InUse(_)), "{error:?}");
    assert!(error.to_string().contains("is in use by another process"), "{error}");
    clone.append(&scope(1), turn(1)).await.unwrap();
    drop(clone);
    assert_eq!(ids(&DiskStore::open(scratch.file()).unwrap(), 1).await, [1]);
}

const CHILD: &str = "REPLAY_DISK_TEST_CHILD";

/// What this very binary does as another process.
fn child(task: &str, path: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "as_another_process", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, format!("{task}:{}", path.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
fn as_another_process() {
    let Ok(task) = env::var(CHILD) else { return };
    let (task, path) = task.split_once(':').unwrap();
    match task.split_once('-').unwrap_or((task, "")) {
        ("open", _) => say(&match DiskStore::open(path) {
            Ok(_) => "opened".to_owned(),
            Err(error) => format!("refused {error}"),
        }),
        ("write", round) => {
            Runtime::new().unwrap().block_on(write_without_end(Path::new(path), round.parse().unwrap()));
        }
        _ => unreachable!(),
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n!{text}").unwrap();
    out.flush().unwrap();
}

/// What other processes say.
fn said(line: &str) -> Option<&str> {
    line.strip_prefix('!')
}

#[test]
fn a_second_process_on_one_file_is_refused() {
    let scratch = Scratch::new();
    let attempt = || {
        let output = child("open", &scratch.file()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(said).unwrap().to_owned()
    };
    let store = DiskStore::open(scratch.file()).unwrap();
    let answer = attempt();
    assert!(answer.starts_with("refused") && answer.contains("in use by another process"), "{answer}");
    drop(store);
    assert_eq!(attempt(), "opened");
}

const SCOPES: u64 = 12;

/// The turn of this id, which says all that is needed to know whether it is whole.
fn known_turn(id: u128) -> Arc<Turn> {
    let size = [20, 300, 3_000, 9_000, 70_000][id as usize % 5];
    let states: Vec<usize> = (0..1 + id as usize % 3).map(|n| size + n * 7 + id as usize % 11).collect();
    turn_after(id, (id % 200) as u8, false, &states)
}

fn roomy(path: &Path) -> DiskStore {
    DiskStore::builder(path).limits(limits(1 << 20, 64 << 20)).max_bytes(2 << 30).open().unwrap()
}

async fn write_without_end(path: &Path, round: u128) {
    let store = roomy(path);
    say("open");
    let next = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..6)
        .map(|_| {
            let (store, next) = (store.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                while next.load(Ordering::SeqCst) < u64::MAX {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    let id = (round << 64) + u128::from(n);
                    store.append(&scope(n % SCOPES), known_turn(id)).await.unwrap();
                    say(&format!("{n}"));
                    if n % 50 == 49 {
                        // What was removed must not come back either.
                        let item = ItemRef::new(TurnId::new(id), 0, 0);
                        if store.remove(&scope(n % SCOPES), &[item]).await.unwrap() == 1 {
                            say(&format!("-{n}"));
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Whatever was acknowledged is there, and whatever is there is whole, wherever the process was cut off.
#[test]
fn every_acknowledged_turn_survives_a_kill() {
    const ROUNDS: u128 = 30;
    let scratch = Scratch::new();
    let runtime = Runtime::new().unwrap();
    let mut acknowledged: BTreeMap<u128, bool> = BTreeMap::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    for round in 0..ROUNDS {
        let mut process = child(&format!("write-{round}"), &scratch.file()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| said(&line) == Some("open")), "round {round}");
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Read on, or the writers wait for the pipe.
        let reader = std::thread::spawn(move || lines.filter_map(|line| said(&line).map(str::to_owned)).collect());
        std::thread::sleep(Duration::from_micros(2_000 + random % 90_000));
        process.kill().unwrap();
        process.wait().unwrap();
        let said: Vec<String> = reader.join().unwrap();
        // The last line may be cut short: it is not believed.
        for line in said.split_last().map_or(&[][..], |(_, sure)| sure) {
            match line.strip_prefix('-') {
                Some(n) => acknowledged.insert((round << 64) + n.parse::<u128>().unwrap(), false),
                None => acknowledged.insert((round << 64) + line.parse::<u128>().unwrap(), true),
            };
        }
        let store = roomy(&scratch.file());
        assert_eq!(store.snapshot().damaged_turns, 0);
        let mut found = BTreeSet::new();
        for n in 0..SCOPES {
            for turn in runtime.block_on(turns(&store, n)) {
                let id = turn.id().value();
                assert!(found.insert(id), "a turn is there twice");
                let known = known_turn(id);
                let removed = id as u64 % 50 == 49 && turn.items() + 1 == known.items();
                assert!(turn == known || removed, "a turn is there, but not whole");
                assert!(!(acknowledged.get(&id) == Some(&false) && turn == known), "what was removed came back");
            }
        }
        let lost: Vec<_> = acknowledged.iter().filter(|(id, _)| !found.contains(id)).collect();
        // A turn of one item that was removed is gone altogether.
        let lost = lost.iter().filter(|(id, kept)| **kept && **id as u64 % 50 != 49).count();
        assert_eq!(lost, 0, "round {round}: {} were acknowledged", acknowledged.len());
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}

/// A process may also be cut off while it makes the file.
#[test]
fn a_file_that_was_half_made_can_be_opened() {
    let scratch = Scratch::new();
    for round in 0..25 {
        let path = scratch.another();
        let mut process = child("open", &path).spawn().unwrap();
        let begin = Instant::now();
        let is_begun = || std::fs::read_dir(path.parent().unwrap()).unwrap().count() > round as usize;
        while !is_begun() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(round * 60));
        process.kill().unwrap();
        process.wait().unwrap();
        let store = DiskStore::open(&path).unwrap();
        assert_eq!(store.snapshot().ledgers, 0, "round {round}");
        drop(store);
        // What was cut off has left its draft behind at most.
        for entry in std::fs::read_dir(&scratch.0).unwrap() {
            let name = entry.unwrap().path();
            assert!(name.extension().is_some_and(|end| end == "redb" || end == "new"), "{name:?}");
            if name.extension().is_some_and(|end| end == "new") {
                std::fs::remove_file(name).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn dropping_the_last_clone_and_flushing_put_everything_on_disk() {
    let scratch = Scratch::new();
    let store = DiskStore::open(scratch.file()).unwrap();
    for id in 1..=200 {
        drop(store.append(&scope(id as u64 % 7), turn(id)));
    }
    drop(store);
    let store = DiskStore::open(scratch.file()).unwrap();
    assert_eq!(store.snapshot().turns, 200);
    drop(store.append(&scope(1), turn(1_000)));
    store.flush().await.unwrap();
    assert_eq!((store.snapshot().turns, store.snapshot().queued), (201, 0));
}

/// One transaction takes whatever has come together.
#[tokio::test]
async fn many_appends_at_once_are_few_transactions() {
    let scratch = Scratch::new();
    let store = DiskStore::open(scratch.file()).unwrap();
    let replies: Vec<_> = (0..500).map(|id| store.append(&scope(id as u64 % 40), turn(id))).collect();
    for reply in replies {
        reply.await.unwrap();
    }
    assert!(store.snapshot().transactions < 100, "{:?}", store.snapshot());
}

#[tokio::test]
async fn a_store_without_a_runtime_answers_too() {
    let scratch = Scratch::new();
    let path = scratch.file();
    std::thread::spawn(move || {
        let [warm, cold] = ways(path);
        for builder in [warm, cold] {
            let store = builder.open().unwrap();
            let wait = |store: &DiskStore| {
                while store.snapshot().queued > 0 {
                    std::thread::yield_now();
                }
            };
            drop(store.append(&scope(1), turn(1)));
            wait(&store);
            let mut load = std::pin::pin!(store.load(&scope(1)));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match load.as_mut().poll(&mut context) {
                std::task::Poll::Ready(ledger) => assert_eq!(ledger.unwrap().unwrap().turns().len(), 1),
                std::task::Poll::Pending => panic!("nobody would wake it"),
            }
        }
    })
    .join()
    .unwrap();
}

#[tokio::test]
async fn a_ledger_expires_after_its_last_use_open_or_not() {
    const LIFE: Duration = Duration::from_millis(1_000);
    let scratch = Scratch::new();
    for [builder, again] in [ways(scratch.0.join("a")), ways(scratch.0.join("b"))].map(|ways| {
        let [one, _] = ways.clone();
        [one.clone().ttl(LIFE), one.ttl(LIFE)]
    }) {
        let store = builder.open().unwrap();
        store.append(&scope(1), turn(1)).await.unwrap();
        store.append(&scope(2), turn(1)).await.unwrap();
        store.append(&scope(3), turn(1)).await.unwrap();
        let begin = Instant::now();
        while begin.elapsed() < LIFE * 2 {
            assert_eq!(ids(&store, 1).await, [1], "it is in use");
            sleep(LIFE / 10).await;
        }
        assert_eq!(ids(&store, 2).await, [0_u128; 0]);
        assert!(!store.forget(&scope(2)).await.unwrap());
        assert_eq!(store.remove(&scope(3), &[ItemRef::new(TurnId::new(1), 0, 0)]).await.unwrap(), 0);
        store.append(&scope(3), turn(2)).await.unwrap();
        assert_eq!(ids(&store, 3).await, [2], "it begins anew");
        assert_eq!(store.snapshot().expired_ledgers, 2);
        drop(store);
        let store = again.clone().open().unwrap();
        assert_eq!((ids(&store, 1).await, ids(&store, 3).await), (vec![1], vec![2]));
        drop(store);
        sleep(LIFE).await;
        let store = again.open().unwrap();
        assert_eq!((ids(&store, 1).await, ids(&store, 3).await), (vec![], vec![]));
    }
}

/// A load that extends a life is a write only now and then, and a store at rest lets go what has expired.
#[tokio::test]
async fn loads_are_rarely_writes_and_expired_ledgers_leave_the_disk() {
    let scratch = Scratch::new();
    let store = DiskStore::builder(scratch.file()).ttl(Duration::from_millis(800)).open().unwrap();
    let appended: Vec<_> = (0..100).map(|n| store.append(&scope(n), turn(1))).collect();
    for reply in appended {
        reply.await.unwrap();
    }
    let before = store.snapshot().transactions;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(400) {
        ids(&store, 1).await;
    }
    let written = store.snapshot().transactions - before;
    assert!((1..=(begin.elapsed().as_millis() / 40) as u64).contains(&written), "{written}");
    let begin = Instant::now();
    while store.snapshot().ledgers > 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", store.snapshot());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.snapshot().bytes, 0);
}

/// Rule 11.
#[tokio::test]
async fn over_the_bounds_of_the_store_the_ledgers_not_used_for_longest_go_whole() {
    let scratch = Scratch::new();
    for builder in ways(scratch.file()) {
        let one = turn(1).bytes();
        let builder = builder.max_ledgers(5).limits(limits(100, 4 * one)).max_bytes(12 * one as u64);
        let store = builder.clone().open().unwrap();
        for n in 0..5 {
            assert_eq!(store.append(&scope(n), turn(1)).await.unwrap().evicted, 0);
        }
        assert_eq!(store.append(&scope(0), turn(2)).await.unwrap().evicted, 0);
        assert_eq!(store.append(&scope(5), turn(1)).await.unwrap().evicted, 1);
        assert_eq!((ids(&store, 1).await, ids(&store, 0).await), (vec![], vec![1, 2]));
        for id in 1..=4 {
            for n in [5, 4, 3] {
                store.append(&scope(n), turn(id)).await.unwrap();
            }
        }
        let snapshot = store.snapshot();
        assert_eq!((snapshot.ledgers, snapshot.bytes), (3, 12 * one as u64));
        drop(store);
        let store = builder.open().unwrap();
        assert_eq!(store.append(&scope(9), turn(1)).await.unwrap().evicted, 4);
        assert_eq!((ids(&store, 5).await.len(), ids(&store, 3).await.len()), (0, 4));
    }
}

/// The pages of what went are used again.
#[tokio::test]
async fn the_file_does_not_grow_with_time() {
    let scratch = Scratch::new();
    let store = DiskStore::builder(scratch.file())
        .limits(limits(4_096, 1 << 20))
        .max_bytes(4 << 20)
        .queue(1_024, 64 << 20)
        .open()
        .unwrap();
    let mut sizes = Vec::new();
    for round in 0..6_u128 {
        // Each round writes four times what the store may hold.
        let replies: Vec<_> = (0..800)
            .map(|n| store.append(&scope((n % 50) as u64), turn_after(round * 800 + n, 0, false, &[20_000])))
            .collect();
        for reply in replies {
            reply.await.unwrap();
        }
        sizes.push(store.snapshot().file_bytes);
    }
    assert!(store.snapshot().bytes <= 4 << 20);
    assert!(sizes[5] <= sizes[1] * 3 / 2, "{sizes:?}");
    assert!(sizes[5] <= 64 << 20, "{sizes:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Append { scope: u64, id: u128, history: u8, provisional: bool, states: Vec<usize> },
    Remove { scope: u64, id: u128, part: u32 },
    Forget { scope: u64 },
    Clear,
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let scope = 0..6_u64;
    let states = prop::collection::vec(prop_oneof![9 => 0..400_usize, 1 => 3_000..5_000_usize], 1..8);
    prop_oneof![
        20 => (scope.clone(), 0..12_u128, 0..3_u8, any::<bool>(), states).prop_map(
            |(scope, id, history, provisional, states)| Step::Append { scope, id, history, provisional, states },
        ),
        5 => (scope.clone(), 0..12_u128, 0..7_u32).prop_map(|(scope, id, part)| Step::Remove { scope, id, part }),
        1 => scope.prop_map(|scope| Step::Forget { scope }),
        1 => Just(Step::Clear),
        1 => Just(Step::Flush),
        2 => Just(Step::Reopen),
    ]
}

/// The answers of a step by the store and by memory, compared at once or later.
type Compare = Box<dyn FnOnce(&Runtime)>;

fn compare<T: PartialEq + std::fmt::Debug + Unpin + 'static>(one: Reply<T>, other: Reply<T>) -> Compare {
    Box::new(move |runtime| assert_eq!(runtime.block_on(one).unwrap(), runtime.block_on(other).unwrap()))
}

fn play(steps: Vec<Step>, cache: usize, waits: bool, bounded: bool, layered: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = Scratch::new();
    let limits = limits(6, 4_000);
    let (ledgers, bytes) = if bounded { (4, 9_000) } else { (1_000, 1 << 30) };
    let memory = || {
        let memory = MemoryStore::builder().max_items_per_ledger(limits.items).max_bytes_per_ledger(limits.bytes);
        memory.max_ledgers(ledgers).max_bytes(bytes).build().unwrap()
    };
    let open = || -> Arc<dyn Store> {
        let disk = DiskStore::builder(scratch.file()).limits(limits).cache_bytes(cache);
        let disk = disk.max_ledgers(ledgers).max_bytes(bytes).queue(10_000, 64 << 20).open().unwrap();
        if layered {
            Arc::new(Layered::builder(disk).memory(memory()).written_by_others(false).build())
        } else {
            Arc::new(disk)
        }
    };
    let oracle = memory();
    let mut store = open();
    let _entered = runtime.enter();
    let mut later: Vec<Compare> = Vec::new();
    for step in steps {
        let compared: Compare = match step {
            Step::Append { scope: n, id, history, provisional, states } => {
                let turn = turn_after(id, history, provisional, &states);
                compare(store.append(&scope(n), turn.clone()), oracle.append(&scope(n), turn))
            }
            Step::Remove { scope: n, id, part } => {
                let item = ItemRef::new(TurnId::new(id), 0, part);
                compare(store.remove(&scope(n), &[item]), oracle.remove(&scope(n), &[item]))
            }
            Step::Forget { scope: n } => compare(store.forget(&scope(n)), oracle.forget(&scope(n))),
            Step::Clear => compare(store.clear(), oracle.clear()),
            Step::Flush => {
                later.drain(..).for_each(|compare| compare(&runtime));
                continue;
            }
            Step::Reopen => {
                later.drain(..).for_each(|compare| compare(&runtime));
                drop(store);
                store = open();
                Box::new(|_| ())
            }
        };
        if waits {
            compared(&runtime);
        } else {
            later.push(compared);
        }
        for n in 0..6 {
            assert_eq!(runtime.block_on(turns(&store, n)), runtime.block_on(turns(&oracle, n)));
        }
    }
    later.into_iter().for_each(|compare| compare(&runtime));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    /// Rules 9, 10 and 11.
    #[test]
    fn the_disk_does_what_memory_does(steps in prop::collection::vec(step(), 1..50), warm in any::<bool>()) {
        play(steps, if warm { 1 << 20 } else { 0 }, true, true, false);
    }

    /// Rule 8: also when nobody waits for the disk. Which ledgers go is decided there, so nothing goes here.
    #[test]
    fn the_disk_does_so_before_anything_is_written(
        steps in prop::collection::vec(step(), 1..120), cache in prop::sample::select(vec![0, 10_000, 1 << 20]),
    ) {
        play(steps, cache, false, false, false);
    }

    #[test]
    fn memory_in_front_of_the_disk_does_what_memory_does(steps in prop::collection::vec(step(), 1..50)) {
        play(steps, 0, true, false, true);
    }
}

/// Many tasks at one store, each of which knows what it has written.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_see_what_they_have_written() {
    const TASKS: u64 = 12;
    let scratch = Scratch::new();
    for (cache, layered) in [(0, false), (1 << 20, false), (0, true)] {
        let disk = DiskStore::builder(scratch.another()).cache_bytes(cache).open().unwrap();
        let store: Arc<dyn Store> =
            if layered { Arc::new(Layered::builder(disk).written_by_others(false).build()) } else { Arc::new(disk) };
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut own = Vec::new();
                    for n in 0..60_u128 {
                        let id = u128::from(task) * 1_000 + n;
                        let appended = store.append(&scope(0), turn(id));
                        let to_own = store.append(&scope(1 + task), turn(id));
                        own.push(id);
                        if !layered {
                            assert_eq!(ids(&store, 1 + task).await, own, "before the disk has it");
                        }
                        appended.await.unwrap();
                        to_own.await.unwrap();
                        assert!(ids(&store, 0).await.contains(&id));
                        assert_eq!(ids(&store, 1 + task).await, own);
                        if n % 9 == 8 {
                            assert!(store.forget(&scope(1 + task)).await.unwrap());
                            own.clear();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(ids(&store, 0).await.len(), TASKS as usize * 60);
    }
}

#[tokio::test]
async fn memory_alone_answers_what_only_this_process_writes() {
    let server = Server::default();
    let store = Layered::builder(server.clone()).written_by_others(false).build();
    server.append(&scope(1), turn(1)).await.unwrap();
    assert_eq!(ids(&store, 1).await, [1]);
    let loads = server.0.loads.load(Ordering::SeqCst);
    store.append(&scope(1), turn(2)).await.unwrap();
    for _ in 0..5 {
        assert_eq!(ids(&store, 1).await, [1, 2]);
    }
    assert_eq!(server.0.loads.load(Ordering::SeqCst), loads);
    assert_eq!(ids(&server, 1).await, [1, 2]);
    let snapshot = store.snapshot();
    assert_eq!((snapshot.from_memory, snapshot.from_behind, snapshot.stale, snapshot.failed), (5, 1, 0, 0));
}

/// A ledger of which memory would know only the newest turn is no ledger.
#[tokio::test]
async fn a_first_append_does_not_hide_what_is_behind() {
    let server = Server::default();
    server.append(&scope(1), turn(1)).await.unwrap();
    for others in [false, true] {
        let store = Layered::builder(server.clone()).written_by_others(others).build();
        store.append(&scope(1), turn(2)).await.unwrap();
        assert_eq!(ids(&store, 1).await, [1, 2]);
    }
}

#[tokio::test]
async fn what_is_written_while_it_is_loaded_is_not_lost_from_memory() {
    let server = Server::default();
    server.append(&scope(1), turn(1)).await.unwrap();
    let store = Layered::builder(server.clone()).written_by_others(false).build();
    server.set(Mode::Slow(Duration::from_millis(30)));
    let old = store.load(&scope(1));
    let old = tokio::spawn(async move { old.await.unwrap().unwrap().turns().len() });
    sleep(Duration::from_millis(5)).await;
    server.set(Mode::Works);
    store.append(&scope(1), turn(2)).await.unwrap();
    old.await.unwrap();
    assert_eq!(ids(&store, 1).await, [1, 2]);
    // Nobody knows whether a write that nobody waited for has happened.
    server.set(Mode::Hangs);
    drop(store.append(&scope(1), turn(3)));
    server.set(Mode::Works);
    assert_eq!(ids(&store, 1).await, [1, 2]);
}

/// What another replica has written is seen, and what is old is better than nothing.
#[tokio::test]
async fn memory_answers_when_the_server_does_not() {
    let server = Server::default();
    let store = Layered::builder(server.clone()).patience(Duration::from_millis(20)).build();
    store.append(&scope(1), turn(1)).await.unwrap();
    server.append(&scope(1), turn(2)).await.unwrap();
    assert_eq!(ids(&store, 1).await, [1, 2]);
    server.append(&scope(1), turn(3)).await.unwrap();
    server.set(Mode::Fails);
    assert_eq!(ids(&store, 1).await, [1, 2]);
    assert!(store.load(&scope(2)).await.is_err(), "memory knows nothing of it either");
    assert!(store.append(&scope(1), turn(4)).await.is_err());
    assert_eq!(ids(&store, 1).await, [1, 2, 4], "what the server did not take is kept");
    server.set(Mode::Hangs);
    let begin = Instant::now();
    assert_eq!(ids(&store, 1).await, [1, 2, 4]);
    assert!(begin.elapsed() < Duration::from_millis(500));
    let snapshot = store.snapshot();
    assert_eq!((snapshot.stale, snapshot.failed), (3, 4));
    // Who knows nothing else waits on.
    server.set(Mode::Slow(Duration::from_millis(60)));
    server.0.memory.append(&scope(3), turn(1)).await.unwrap();
    assert_eq!(ids(&store, 3).await, [1]);
    server.set(Mode::Works);
    assert_eq!(ids(&store, 1).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_the_disk_did_not_take_is_kept_in_memory() {
    let server = Server::default();
    let store = Layered::builder(server.clone()).written_by_others(false).build();
    server.append(&scope(2), turn(1)).await.unwrap();
    server.set(Mode::Fails);
    for n in [1, 2] {
        assert!(store.append(&scope(n), turn(5)).await.is_err());
        assert_eq!(ids(&store, n).await, [5]);
    }
    assert!(store.remove(&scope(1), &[ItemRef::new(TurnId::new(5), 0, 0)]).await.is_err());
    assert!(store.load(&scope(1)).await.is_err(), "memory must not give what was to be forgotten");
}

/// A life that is extended in memory is extended behind, or a restart would forget what is in use.
#[tokio::test]
async fn what_is_in_use_in_memory_lives_on_on_disk() {
    const LIFE: Duration = Duration::from_millis(1_000);
    let scratch = Scratch::new();
    let disk = || DiskStore::builder(scratch.file()).ttl(LIFE).open().unwrap();
    let memory = MemoryStore::builder().time_to_live(LIFE).build().unwrap();
    let store = Layered::builder(disk()).memory(memory).written_by_others(false).build();
    store.append(&scope(1), turn(1)).await.unwrap();
    let begin = Instant::now();
    while begin.elapsed() < LIFE * 2 {
        assert_eq!(ids(&store, 1).await, [1]);
        sleep(LIFE / 20).await;
    }
    drop(store);
    assert_eq!(ids(&disk(), 1).await, [1]);
}

/// The whole way: a gateway learns, ends, begins anew, and the next request of the conversation is repaired.
#[tokio::test]
async fn a_gateway_that_restarts_keeps_its_sessions() {
    const URI: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:generateContent";
    let scratch = Scratch::new();
    for layered in [false, true] {
        let path = scratch.another();
        let provider = GeminiProvider::builder()
            .script(Script::new([
                Say1::new([Say::call("get_weather", json!({"city": "Paris"}))]),
                Say1::new([Say::text("It rains.")]),
            ]))
            .build();
        let start = || {
            let disk = DiskStore::open(&path).unwrap();
            let store: Arc<dyn Store> = if layered {
                Arc::new(Layered::builder(disk).written_by_others(false).build())
            } else {
                Arc::new(disk)
            };
            let key = HashKey::load_or_create(scratch.0.join("replay.key")).unwrap();
            ReplayLayer::builder(store).hash_key(key).build_layer().unwrap()
        };
        let ask = async |layer: ReplayLayer, contents: &Value| {
            let body = Full::new(Bytes::from(json!({ "contents": contents }).to_string()));
            let request = Request::post(URI).header("x-goog-api-key", "k").header("session-id", "one");
            let request = request.header("content-type", "application/json").body(body).unwrap();
            let answer = layer.layer(provider.clone()).oneshot(request).await.unwrap();
            let status = answer.status();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice::<Value>(&body).unwrap())
        };
        let mut contents = json!([{"role": "user", "parts": [{"text": "How is the weather in Paris?"}]}]);
        let (status, answer) = ask(start(), &contents).await;
        assert_eq!(status, StatusCode::OK);
        let call = &answer["candidates"][0]["content"]["parts"][0];
        assert!(call["thoughtSignature"].is_string(), "{answer}");
        // The client keeps no signature, and the gateway begins anew.
        contents.as_array_mut().unwrap().extend([
            json!({"role": "model", "parts": [{"functionCall": call["functionCall"]}]}),
            json!({"role": "user", "parts": [{"functionResponse": {"name": "get_weather", "response": {"sky": "grey"}}}]}),
        ]);
        let (status, answer) = ask(start(), &contents).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!((provider.accepted(), provider.refused()), (2, 0));
        assert_eq!(provider.requests()[1].genuine, 1);
    }
}
