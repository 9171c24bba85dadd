//! What a user sees of stores: the contract, the bounds, the time to live.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic too")]

use std::{
    collections::HashMap,
    sync::{Arc, Barrier, Mutex},
    thread,
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::advance;
use tower_reasoning_replay::{
    ledger::{Alternative, Anchor, Context, Item, ItemRef, Kind, Ledger, Limits, Turn, TurnId, TurnPart},
    scope::Scope,
    store::{Appended, MemoryStore, Reply, Store},
    testing::store_contract::{ledgers_stay_within_limits, store_contract},
};

/// The store of the documentation's example.
#[derive(Default)]
struct NaiveStore {
    ledgers: Mutex<HashMap<Scope, Arc<Ledger>>>,
    limits: Limits,
}

impl Store for NaiveStore {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        Reply::ready(self.ledgers.lock().unwrap().get(scope).cloned())
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        let mut ledgers = self.ledgers.lock().unwrap();
        let ledger = ledgers.entry(*scope).or_default();
        let evicted = Arc::make_mut(ledger).append(turn, &self.limits);
        if ledger.is_empty() {
            ledgers.remove(scope);
        }
        Reply::ready(Appended::new(evicted))
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        let mut ledgers = self.ledgers.lock().unwrap();
        let Some(ledger) = ledgers.get_mut(scope) else {
            return Reply::ready(0);
        };
        let removed = Arc::make_mut(ledger).remove(items);
        if ledger.is_empty() {
            ledgers.remove(scope);
        }
        Reply::ready(removed)
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        Reply::ready(self.ledgers.lock().unwrap().remove(scope).is_some())
    }

    fn clear(&self) -> Reply<()> {
        self.ledgers.lock().unwrap().clear();
        Reply::ready(())
    }
}

/// Answers later and from another task, as a store on a server does.
struct RemoteStore(Arc<NaiveStore>);

impl RemoteStore {
    fn later<T: Send + Unpin + 'static>(
        &self,
        call: impl FnOnce(&NaiveStore) -> Reply<T> + Send + 'static,
    ) -> Reply<T> {
        let store = Arc::clone(&self.0);
        Reply::pending(async move {
            tokio::task::yield_now().await;
            call(&store).await
        })
    }
}

impl Store for RemoteStore {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        let scope = *scope;
        self.later(move |store| store.load(&scope))
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        let scope = *scope;
        self.later(move |store| store.append(&scope, turn))
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        let (scope, items) = (*scope, items.to_vec());
        self.later(move |store| store.remove(&scope, &items))
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        let scope = *scope;
        self.later(move |store| store.forget(&scope))
    }

    fn clear(&self) -> Reply<()> {
        self.later(Store::clear)
    }
}

fn scope(n: u64) -> Scope {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
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

/// The answer of a store that answers at once.
fn now<T: Unpin>(reply: Reply<T>) -> T {
    let mut reply = std::pin::pin!(reply);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match reply.as_mut().poll(&mut context) {
        std::task::Poll::Ready(answer) => answer.unwrap(),
        std::task::Poll::Pending => panic!("the store does not answer at once"),
    }
}

fn ids(store: &MemoryStore, n: u64) -> Vec<u128> {
    now(store.load(&scope(n))).map_or_else(Vec::new, |ledger| ledger.turns().map(|turn| turn.id().value()).collect())
}

fn held(store: &MemoryStore, scopes: impl IntoIterator<Item = u64>) -> Vec<u64> {
    scopes.into_iter().filter(|n| now(store.load(&scope(*n))).is_some()).collect()
}

/// Rules 8 to 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_keeps_the_contract() {
    store_contract(|| async { MemoryStore::new() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_keeps_the_contract_behind_the_trait_object() {
    store_contract(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_of_the_documentation_keeps_the_contract() {
    store_contract(|| async { NaiveStore::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_answers_later_keeps_the_contract() {
    store_contract(|| async { RemoteStore(Arc::default()) }).await;
}

/// Rule 11.
#[tokio::test]
async fn ledgers_stay_within_their_limits() {
    for (items, bytes) in [(2, 1 << 20), (64, 16 << 10), (4_096, 16 << 20)] {
        let mut limits = Limits::default();
        limits.items = items;
        limits.bytes = bytes;
        let store = MemoryStore::builder().max_items_per_ledger(items).max_bytes_per_ledger(bytes).build().unwrap();
        ledgers_stay_within_limits(store, &limits).await;
        ledgers_stay_within_limits(NaiveStore { limits, ..NaiveStore::default() }, &limits).await;
    }
}

/// A contract that never fails is none: each of these stores breaks one rule.
mod the_contract_finds {
    use tower_reasoning_replay::testing::store_contract::*;

    use super::*;

    #[derive(Default)]
    struct Broken {
        store: NaiveStore,
        drops_appends_of: Option<Scope>,
        one_scope: bool,
        copies_before_append: bool,
    }

    impl Broken {
        fn scope(&self, scope: &Scope) -> Scope {
            if self.one_scope { Scope::from_bytes([0; 32]) } else { *scope }
        }
    }

    impl Store for Broken {
        fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
            self.store.load(&self.scope(scope))
        }

        fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
            if self.drops_appends_of == Some(*scope) {
                return Reply::ready(Appended::default());
            }
            let scope = self.scope(scope);
            if !self.copies_before_append {
                return self.store.append(&scope, turn);
            }
            let mut ledger = now(self.store.load(&scope)).unwrap_or_default();
            thread::sleep(Duration::from_millis(2));
            Arc::make_mut(&mut ledger).append(turn, &Limits::default());
            self.store.ledgers.lock().unwrap().insert(scope, ledger);
            Reply::ready(Appended::default())
        }

        fn remove(&self, scope: &Scope, _: &[ItemRef]) -> Reply<usize> {
            now(self.store.forget(&self.scope(scope)));
            Reply::ready(1)
        }

        fn forget(&self, scope: &Scope) -> Reply<bool> {
            self.store.forget(&self.scope(scope))
        }

        fn clear(&self) -> Reply<()> {
            Reply::ready(())
        }
    }

    #[tokio::test]
    #[should_panic(expected = "read your writes")]
    async fn a_lost_write() {
        let drops_appends_of = Some(Scope::from_bytes([1; 32]));
        what_was_written_is_read(Broken { drops_appends_of, ..Broken::default() }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "scopes share nothing")]
    async fn a_shared_scope() {
        scopes_share_nothing(Broken { one_scope: true, ..Broken::default() }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    #[should_panic(expected = "concurrent appends merge")]
    async fn an_append_that_is_not_atomic() {
        concurrent_appends_merge(Broken { copies_before_append: true, ..Broken::default() }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "remove takes the named items only")]
    async fn a_removal_of_too_much() {
        remove_takes_the_named_items_only(Broken::default()).await;
    }

    #[tokio::test]
    #[should_panic(expected = "clear takes everything")]
    async fn a_store_that_is_not_cleared() {
        clear_takes_everything(Broken::default()).await;
    }

    #[tokio::test]
    #[should_panic(expected = "ledgers stay within their limits")]
    async fn a_ledger_without_limits() {
        let mut limits = Limits::default();
        limits.items = 2;
        ledgers_stay_within_limits(NaiveStore::default(), &limits).await;
    }
}

#[test]
fn memory_store_answers_at_once_and_is_not_shared() {
    let store = MemoryStore::new();
    assert!(store.appends_inline());
    assert!(!store.is_shared());
    assert_eq!(now(store.append(&scope(1), turn(1))), Appended::new(0));
}

#[test]
fn clones_are_one_store() {
    let store = MemoryStore::new();
    now(store.clone().append(&scope(1), turn(1)));
    assert_eq!(ids(&store, 1), [1]);
}

#[test]
fn loads_share_the_ledger_without_copying_it() {
    let store = MemoryStore::new();
    now(store.append(&scope(1), turn(1)));
    let first = now(store.load(&scope(1))).unwrap();
    let second = now(store.load(&scope(1))).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    now(store.append(&scope(1), turn(2)));
    let third = now(store.load(&scope(1))).unwrap();
    assert!(Arc::ptr_eq(first.turns().next().unwrap(), third.turns().next().unwrap()), "turns are never copied");
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_ledger_expires_an_hour_after_its_last_use() {
    let store = MemoryStore::new();
    now(store.append(&scope(1), turn(1)));
    advance(HOUR - Duration::from_millis(1)).await;
    assert_eq!(store.snapshot().ledgers, 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(ids(&store, 1), []);
    let snapshot = store.snapshot();
    assert_eq!((snapshot.ledgers, snapshot.bytes, snapshot.expired_ledgers), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn loads_and_appends_extend_the_time_to_live() {
    let store = MemoryStore::new();
    now(store.append(&scope(1), turn(1)));
    now(store.append(&scope(2), turn(1)));
    for round in 2..10 {
        advance(50 * MINUTE).await;
        assert_eq!(ids(&store, 1), [1], "only read");
        now(store.append(&scope(2), turn(round)));
    }
    assert_eq!(ids(&store, 2).len(), 9, "only written");
    advance(HOUR).await;
    assert!(held(&store, [1, 2]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_load_extends_once_a_sixteenth_has_passed() {
    let store = MemoryStore::builder().time_to_live(16 * MINUTE).build().unwrap();
    now(store.append(&scope(1), turn(1)));
    now(store.append(&scope(2), turn(1)));
    advance(MINUTE).await;
    assert_eq!(held(&store, [1]), [1]);
    advance(Duration::from_secs(1)).await;
    assert_eq!(held(&store, [2]), [2]);
    advance(15 * MINUTE).await;
    assert_eq!(held(&store, [1, 2]), [2]);
}

#[tokio::test(start_paused = true)]
async fn an_append_to_an_expired_ledger_begins_anew() {
    let store = MemoryStore::new();
    now(store.append(&scope(1), turn(1)));
    advance(HOUR).await;
    now(store.append(&scope(1), turn(2)));
    assert_eq!(ids(&store, 1), [2]);
    assert_eq!(store.snapshot().expired_ledgers, 1);
}

#[tokio::test(start_paused = true)]
async fn removing_from_and_forgetting_an_expired_ledger_find_nothing() {
    let store = MemoryStore::new();
    now(store.append(&scope(1), turn(1)));
    now(store.append(&scope(2), turn(1)));
    advance(HOUR).await;
    assert_eq!(now(store.remove(&scope(1), &[ItemRef::new(TurnId::new(1), 0, 0)])), 0);
    assert!(!now(store.forget(&scope(2))));
    assert_eq!(store.snapshot().ledgers, 0);
}

#[tokio::test(start_paused = true)]
async fn appends_purge_expired_ledgers_in_passing_wherever_they_are() {
    let store = MemoryStore::new();
    for n in 0..100 {
        now(store.append(&scope(n), turn(1)));
    }
    advance(30 * MINUTE).await;
    for n in 100..150 {
        now(store.append(&scope(n), turn(1)));
    }
    advance(30 * MINUTE).await;
    now(store.append(&scope(1_000), turn(1)));
    let after_one = store.snapshot();
    assert!((1..10).contains(&after_one.expired_ledgers), "a bounded number at once: {after_one:?}");
    for id in 2..=100 {
        now(store.append(&scope(1_000), turn(id)));
    }
    let snapshot = store.snapshot();
    assert_eq!((snapshot.ledgers, snapshot.expired_ledgers), (51, 100));
    advance(30 * MINUTE).await;
    for id in 101..=200 {
        now(store.append(&scope(1_000), turn(id)));
    }
    let snapshot = store.snapshot();
    assert_eq!((snapshot.ledgers, snapshot.expired_ledgers), (1, 150));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_empty_for_long_still_purges() {
    let store = MemoryStore::new();
    for _ in 0..3 {
        now(store.append(&scope(1), turn(1)));
        advance(HOUR).await;
        now(store.append(&scope(2), turn(1)));
        assert_eq!(store.snapshot().ledgers, 1);
        now(store.clear());
        advance(HOUR).await;
    }
}

/// Rule 11: the default bounds hold what they promise.
#[test]
fn by_default_every_one_of_10240_ledgers_stays_and_the_next_takes_the_place_of_the_oldest() {
    let store = MemoryStore::new();
    for n in 0..10_240 {
        assert_eq!(now(store.append(&scope(n), turn(1))).evicted, 0);
    }
    assert_eq!(store.snapshot().ledgers, 10_240);
    assert_eq!(held(&store, 0..10_240).len(), 10_240);
    for n in 10_240..10_340 {
        assert_eq!(now(store.append(&scope(n), turn(1))).evicted, 1);
    }
    assert_eq!(held(&store, 0..10_340), (100..10_340).collect::<Vec<_>>());
    let snapshot = store.snapshot();
    assert_eq!((snapshot.ledgers, snapshot.evicted_ledgers, snapshot.evicted_turns), (10_240, 100, 100));
}

/// Rule 11.
#[test]
fn sixteen_full_ledgers_fit_and_the_seventeenth_takes_the_place_of_the_oldest() {
    let store = MemoryStore::new();
    let full = turn_after(1, 0, false, &[(16 << 20) - 4_096]);
    for n in 0..16 {
        now(store.append(&scope(n), full.clone()));
    }
    assert_eq!(held(&store, 0..16).len(), 16);
    now(store.append(&scope(16), full));
    assert_eq!(held(&store, 0..17), (1..17).collect::<Vec<_>>());
}

/// Rule 11.
#[test]
fn a_ledger_that_grows_makes_others_go_but_never_itself() {
    let one = turn(1).bytes();
    let store = MemoryStore::builder().max_bytes(10 * one as u64).max_bytes_per_ledger(10 * one).build().unwrap();
    for n in 1..=5 {
        now(store.append(&scope(n), turn(1)));
        now(store.append(&scope(n), turn(2)));
    }
    for id in 3..=10 {
        let appended = now(store.append(&scope(1), turn(id)));
        assert_eq!(appended.evicted, if id % 2 == 1 { 2 } else { 0 });
        assert_eq!(ids(&store, 1), (1..=id).collect::<Vec<_>>());
        assert!(store.snapshot().bytes <= 10 * one as u64);
    }
    assert_eq!(held(&store, 1..=5), [1]);
    assert_eq!(now(store.append(&scope(1), turn(11))).evicted, 1);
    assert_eq!(ids(&store, 1), (2..=11).collect::<Vec<_>>());
}

/// Rule 11.
#[test]
fn ledgers_that_were_written_to_stay_and_the_others_go() {
    let store = MemoryStore::builder().max_ledgers(3).build().unwrap();
    for n in 1..=3 {
        now(store.append(&scope(n), turn(1)));
    }
    now(store.append(&scope(1), turn(2)));
    now(store.append(&scope(4), turn(1)));
    now(store.append(&scope(5), turn(1)));
    assert_eq!(held(&store, 1..=5), [1, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn ledgers_that_were_read_stay_and_the_others_go() {
    let store = MemoryStore::builder().max_ledgers(2).build().unwrap();
    now(store.append(&scope(1), turn(1)));
    now(store.append(&scope(2), turn(1)));
    advance(5 * MINUTE).await;
    assert_eq!(held(&store, [1]), [1]);
    now(store.append(&scope(3), turn(1)));
    assert_eq!(held(&store, 1..=3), [1, 3]);
}

#[test]
fn bounds_that_make_no_sense_are_refused_with_what_to_do() {
    let builder = MemoryStore::builder;
    let refused = [
        (builder().time_to_live(Duration::ZERO), "`time_to_live`"),
        (builder().max_ledgers(0), "`max_ledgers`"),
        (builder().max_items_per_ledger(0), "`max_items_per_ledger`"),
        (builder().max_bytes_per_ledger(0), "`max_bytes_per_ledger`"),
        (builder().max_bytes(0), "`max_bytes`"),
        (builder().max_bytes((16 << 20) - 1), "`max_bytes`"),
    ];
    for (builder, name) in refused {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    builder().max_bytes(16 << 20).time_to_live(Duration::MAX).max_ledgers(1).build().unwrap();
}

/// Rule 12.
#[test]
fn debug_shows_counts_only() {
    let store = MemoryStore::new();
    now(store.append(&scope(1), turn(1)));
    let bytes = turn(1).bytes();
    assert_eq!(format!("{store:?}"), format!("MemoryStore {{ ledgers: 1, bytes: {bytes}, .. }}"));
}

/// Rule 10.
#[test]
fn threads_that_write_read_and_forget_leave_true_counts_and_lose_no_turn() {
    const THREADS: u64 = 8;
    const TURNS: u128 = 400;
    let store = MemoryStore::new();
    let start = Barrier::new(THREADS as usize + 1);
    thread::scope(|threads| {
        for thread in 0..THREADS {
            let (store, start) = (&store, &start);
            threads.spawn(move || {
                start.wait();
                for n in 0..TURNS {
                    // All threads share scope 0, neighbours share one more, and each has one that comes and goes.
                    let id = u128::from(thread) * TURNS + n;
                    for shared in [0, 1 + thread / 2] {
                        now(store.append(&scope(shared), turn(id)));
                        assert!(ids(store, shared).contains(&id));
                    }
                    now(store.append(&scope(100 + thread), turn(id)));
                    if n % 7 == 0 {
                        assert!(now(store.forget(&scope(100 + thread))));
                    }
                }
            });
        }
        start.wait();
        for _ in 0..200 {
            assert!(store.snapshot().ledgers <= 1 + THREADS as usize / 2 + THREADS as usize);
        }
    });
    let mut seen = ids(&store, 0);
    seen.sort_unstable();
    assert_eq!(seen, (0..u128::from(THREADS) * TURNS).collect::<Vec<_>>());
    assert_counts_are_true(&store, 0..200);
}

/// Rules 10 and 11.
#[test]
fn bounds_hold_while_threads_fight_for_room() {
    const THREADS: u64 = 4;
    let one = turn(1).bytes();
    let store = MemoryStore::builder()
        .max_ledgers(40)
        .max_bytes(200 * one as u64)
        .max_bytes_per_ledger(20 * one)
        .build()
        .unwrap();
    thread::scope(|threads| {
        for thread in 0..THREADS {
            let store = &store;
            threads.spawn(move || {
                let mut random = 0x2545_f491_4f6c_dd1d_u64.wrapping_mul(thread + 1);
                for id in 0..5_000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let n = random % 100;
                    match random >> 60 {
                        0 => drop(now(store.forget(&scope(n)))),
                        1 => drop(now(store.remove(&scope(n), &[ItemRef::new(TurnId::new(id), 0, 0)]))),
                        2 if id % 500 == 0 => now(store.clear()),
                        3..8 => drop(now(store.load(&scope(n)))),
                        _ => drop(now(store.append(&scope(n), turn(id)))),
                    }
                    let snapshot = store.snapshot();
                    assert!(snapshot.ledgers <= 40 + THREADS as usize);
                    assert!(snapshot.bytes <= (200 + THREADS) * one as u64);
                }
            });
        }
    });
    let snapshot = store.snapshot();
    assert!(snapshot.ledgers <= 40 && snapshot.bytes <= 200 * one as u64, "{snapshot:?}");
    assert!(snapshot.evicted_ledgers > 0);
    assert_counts_are_true(&store, 0..100);
}

fn assert_counts_are_true(store: &MemoryStore, scopes: impl IntoIterator<Item = u64>) {
    let ledgers: Vec<_> = scopes.into_iter().filter_map(|n| now(store.load(&scope(n)))).collect();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.ledgers, ledgers.len());
    assert_eq!(snapshot.turns, ledgers.iter().map(|ledger| ledger.turns().len()).sum::<usize>());
    assert_eq!(snapshot.items, ledgers.iter().map(|ledger| ledger.items()).sum::<usize>());
    assert_eq!(snapshot.bytes, ledgers.iter().map(|ledger| ledger.bytes() as u64).sum::<u64>());
    assert!(ledgers.iter().all(|ledger| !ledger.is_empty()));
}

/// What a store holds, done the plain way.
#[derive(Default)]
struct Model {
    /// Oldest use first.
    ledgers: Vec<(u64, Vec<Arc<Turn>>)>,
    evicted_ledgers: u64,
}

const MODEL_LEDGERS: usize = 4;
const MODEL_ITEMS: usize = 6;
const MODEL_BYTES: usize = 4_000;
const MODEL_TOTAL: usize = 9_000;

fn sum(turns: &[Arc<Turn>], of: impl Fn(&Turn) -> usize) -> usize {
    turns.iter().map(|turn| of(turn)).sum()
}

impl Model {
    fn total(&self) -> usize {
        self.ledgers.iter().map(|(_, turns)| sum(turns, Turn::bytes)).sum()
    }

    fn append(&mut self, n: u64, turn: &Arc<Turn>) -> usize {
        if turn.bytes() > MODEL_BYTES || turn.items() > MODEL_ITEMS {
            return 1;
        }
        let at = self.ledgers.iter().position(|(scope, _)| *scope == n);
        let mut turns = at.map_or_else(Vec::new, |at| self.ledgers.remove(at).1);
        let same = turns.iter().position(|held| held.id() == turn.id());
        let progress = |turn: &Turn| (!turn.is_provisional(), turn.items());
        let stale = same.is_some_and(|at| progress(turn) < progress(&turns[at]));
        if !stale {
            match same {
                Some(at) => turns[at] = turn.clone(),
                None => turns.push(turn.clone()),
            }
            if !turn.is_provisional() {
                turns.retain(|held| !held.is_provisional() || !held.context().same_history(turn.context()));
            }
        }
        let mut gone = 0;
        while sum(&turns, Turn::bytes) > MODEL_BYTES || sum(&turns, Turn::items) > MODEL_ITEMS {
            turns.remove(0);
            gone += 1;
        }
        self.ledgers.push((n, turns));
        while self.ledgers.len() > MODEL_LEDGERS || self.total() > MODEL_TOTAL {
            gone += self.ledgers.remove(0).1.len();
            self.evicted_ledgers += 1;
        }
        gone
    }

    fn remove(&mut self, n: u64, item: ItemRef) -> usize {
        let Some(at) = self.ledgers.iter().position(|(scope, _)| *scope == n) else {
            return 0;
        };
        let (_, mut turns) = self.ledgers.remove(at);
        let mut removed = 0;
        for turn in &mut turns {
            if turn.id() == item.turn && turn.part(&item).is_some_and(|part| part.has_state()) {
                let mut alternatives = turn.to_alternatives();
                alternatives[0].parts[item.part as usize].state = None;
                *turn = Arc::new(Turn::new(turn.id(), turn.context().clone(), alternatives, turn.is_provisional()));
                removed = 1;
            }
        }
        turns.retain(|turn| turn.items() > 0);
        if !turns.is_empty() {
            self.ledgers.push((n, turns));
        }
        removed
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { scope: u64, id: u128, history: u8, provisional: bool, states: Vec<usize> },
    Remove { scope: u64, id: u128, part: u32 },
    Hold { scope: u64 },
    Forget { scope: u64 },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let scope = 0..6_u64;
    let states = prop::collection::vec(prop_oneof![9 => 0..400_usize, 1 => 3_000..5_000_usize], 1..8);
    prop_oneof![
        20 => (scope.clone(), 0..12_u128, 0..3_u8, any::<bool>(), states).prop_map(
            |(scope, id, history, provisional, states)| Step::Append { scope, id, history, provisional, states },
        ),
        5 => (scope.clone(), 0..12_u128, 0..7_u32).prop_map(|(scope, id, part)| Step::Remove { scope, id, part }),
        3 => scope.clone().prop_map(|scope| Step::Hold { scope }),
        1 => scope.prop_map(|scope| Step::Forget { scope }),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Rules 9, 10 and 11, and that a ledger that somebody holds never changes.
    #[test]
    fn any_sequence_of_calls_does_what_a_simple_model_does(steps in prop::collection::vec(step(), 1..80)) {
        let store = MemoryStore::builder()
            .max_ledgers(MODEL_LEDGERS)
            .max_items_per_ledger(MODEL_ITEMS)
            .max_bytes_per_ledger(MODEL_BYTES)
            .max_bytes(MODEL_TOTAL as u64)
            .build()
            .unwrap();
        let mut model = Model::default();
        let mut watched: Vec<(Arc<Ledger>, Vec<Arc<Turn>>)> = Vec::new();
        for step in steps {
            match step {
                Step::Append { scope: n, id, history, provisional, states } => {
                    let turn = turn_after(id, history, provisional, &states);
                    let appended = now(store.append(&scope(n), turn.clone()));
                    prop_assert_eq!(appended.evicted, model.append(n, &turn));
                }
                Step::Remove { scope: n, id, part } => {
                    let item = ItemRef::new(TurnId::new(id), 0, part);
                    prop_assert_eq!(now(store.remove(&scope(n), &[item])), model.remove(n, item));
                }
                Step::Hold { scope: n } => {
                    if let Some(ledger) = now(store.load(&scope(n))) {
                        let turns = ledger.turns().cloned().collect();
                        watched.push((ledger, turns));
                    }
                }
                Step::Forget { scope: n } => {
                    let before = model.ledgers.len();
                    model.ledgers.retain(|(scope, _)| *scope != n);
                    prop_assert_eq!(now(store.forget(&scope(n))), model.ledgers.len() < before);
                }
                Step::Clear => {
                    now(store.clear());
                    model.ledgers.clear();
                }
            }
            for n in 0..6 {
                let read = now(store.load(&scope(n))).map(|ledger| ledger.turns().cloned().collect::<Vec<_>>());
                let expected = model.ledgers.iter().find(|(scope, _)| *scope == n).map(|(_, turns)| turns.clone());
                prop_assert_eq!(read, expected);
            }
            assert_counts_are_true(&store, 0..6);
            prop_assert_eq!(store.snapshot().evicted_ledgers, model.evicted_ledgers);
        }
        for (ledger, turns) in watched {
            prop_assert!(ledger.turns().eq(&turns));
        }
    }
}
