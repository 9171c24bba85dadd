//! The contract, the bounds, and writers that know nothing of each other.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use redis::aio::ConnectionManager;
use tower_reasoning_replay::{
    ledger::{ItemRef, Limits},
    store::{RedisStore, Seal, Store},
    testing::store_contract::{ledgers_stay_within_limits, store_contract},
};

use super::{
    proxy::Proxy,
    server::{self, Server},
    turns::*,
};

fn limits(items: usize, bytes: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.items, limits.bytes) = (items, bytes);
    limits
}

/// Rules 8 to 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_the_contract() {
    let server = Server::start();
    let connection = server.connect().await;
    let number = std::sync::atomic::AtomicU32::new(0);
    let builder = || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let builder = RedisStore::builder(connection.clone()).prefix(format!("contract-{number}:"));
        // What is not optimised seals slowly.
        builder.operation_timeout(Duration::from_secs(20))
    };
    store_contract(|| async { builder().build().unwrap() }).await;
    store_contract(|| async { builder().near_cache(0, 0).build().unwrap() }).await;
    store_contract(|| async { builder().seal(Seal::new([7; 32])).build().unwrap() }).await;
    for limits in [limits(10, 1 << 16), limits(1_000, 8_000), limits(2, 4_096)] {
        ledgers_stay_within_limits(builder().limits(limits).build().unwrap(), &limits).await;
        ledgers_stay_within_limits(builder().limits(limits).near_cache(0, 0).build().unwrap(), &limits).await;
    }
    ledgers_stay_within_limits(builder().build().unwrap(), &Limits::default()).await;
    assert!(builder().build().unwrap().is_shared() && !builder().build().unwrap().appends_inline());
}

#[derive(Clone, Debug)]
enum Step {
    Append { scope: u8, id: u128, history: u8, provisional: bool, states: Vec<usize> },
    Remove { scope: u8, items: Vec<(u128, u32)> },
    Forget { scope: u8 },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let scope = 0..3_u8;
    let states = prop::collection::vec(prop_oneof![8 => 0..400_usize, 1 => 3_000..5_000_usize], 1..8);
    let items = prop::collection::vec((0..10_u128, 0..7_u32), 1..4);
    prop_oneof![
        20 => (scope.clone(), 0..10_u128, 0..3_u8, any::<bool>(), states).prop_map(
            |(scope, id, history, provisional, states)| Step::Append { scope, id, history, provisional, states },
        ),
        6 => (scope.clone(), items).prop_map(|(scope, items)| Step::Remove { scope, items }),
        1 => scope.prop_map(|scope| Step::Forget { scope }),
        1 => Just(Step::Clear),
    ]
}

/// Rules 9, 10, 11 and 14: whatever is done through whichever replica, all of them see what one ledger would hold.
#[test]
fn any_sequence_of_calls_does_to_all_replicas_what_it_does_to_a_ledger() {
    let server = Server::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let limits = limits(8, 5_000);
    let connection = runtime.block_on(server.connect());
    let replica = |entries| {
        let builder = RedisStore::builder(connection.clone()).limits(limits).near_cache(entries, 1 << 20);
        builder.build().unwrap()
    };
    let replicas = [replica(100), replica(100), replica(0)];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) };
    let steps = prop::collection::vec((0..3_usize, step(), any::<[bool; 3]>()), 1..40);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&steps, |steps| {
        runtime.block_on(async {
            replicas[0].clear().await.unwrap();
            let mut model = Model::default();
            for (at, step, looks) in steps {
                let store = &replicas[at];
                match step {
                    Step::Append { scope: n, id, history, provisional, states } => {
                        let turn = turn_after(id, history, provisional, &states);
                        prop_assert_eq!(append(store, n, &turn).await, model.append(n, &turn, &limits));
                    }
                    Step::Remove { scope: n, items } => {
                        let items: Vec<ItemRef> = items.into_iter().map(|(id, part)| item(id, part)).collect();
                        let removed = store.remove(&scope(n), &items).await.unwrap();
                        prop_assert_eq!(removed, model.remove(n, &items));
                    }
                    Step::Forget { scope: n } => {
                        prop_assert_eq!(store.forget(&scope(n)).await.unwrap(), model.forget(n));
                    }
                    Step::Clear => {
                        store.clear().await.unwrap();
                        model.clear();
                    }
                }
                for (store, _) in replicas.iter().zip(looks).filter(|(_, looks)| *looks) {
                    for n in 0..3 {
                        let ledger = store.load(&scope(n)).await.unwrap();
                        let sums = ledger.as_ref().map(|ledger| (ledger.items(), ledger.bytes()));
                        let expected = model.ledger(n);
                        prop_assert_eq!(sums, expected.map(|ledger| (ledger.items(), ledger.bytes())));
                        if let (Some(ledger), Some(expected)) = (ledger, expected) {
                            prop_assert!(ledger.turns().eq(expected.turns()));
                        }
                    }
                }
            }
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    for replica in &replicas {
        let snapshot = replica.snapshot();
        assert_eq!((snapshot.damaged, snapshot.failed, snapshot.opened), (0, 0, 0));
    }
    assert!(replicas[0].snapshot().same > 100 && replicas[2].snapshot().same == 0);
}

async fn replicas(server: &Server, number: usize, limits: Limits) -> Vec<RedisStore<ConnectionManager>> {
    let mut replicas = Vec::new();
    for _ in 0..number {
        // Each has a connection of its own, so that their commands really interleave.
        let builder = RedisStore::builder(server::connect(server.port).await).limits(limits);
        replicas.push(builder.operation_timeout(Duration::from_secs(20)).build().unwrap());
    }
    replicas
}

/// Rule 10: each of many replicas writes versions of turns that others write too, provisional ones first, in any order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_know_nothing_of_each_other_lose_nothing() {
    const TURNS: u128 = 40;
    let server = Server::start();
    let stores = replicas(&server, 6, Limits::default()).await;
    let writers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(writer, store)| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut random = 0x2545_f491_4f6c_dd1d_u64.wrapping_mul(writer as u64 + 1);
                let mut next = move |below: u64| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random % below
                };
                for _ in 0..300 {
                    let id = 1 + u128::from(next(TURNS as u64));
                    let version = 1 + next(4) as usize;
                    let turn = turn_after(id, id as u8, version == 1, &vec![20; version]);
                    append(&store, 1, &turn).await;
                    let held = load(&store, 1).await;
                    let held = held.iter().find(|held| held.id() == turn.id()).expect("a turn was lost");
                    assert!(held.items() >= version, "a version was taken back");
                    if next(3) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                // In the end each has written the last version of its share.
                for id in (1..=TURNS).filter(|id| *id % 6 == writer as u128) {
                    append(&store, 1, &turn_after(id, id as u8, false, &[20; 4])).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let order = ids(&stores[0], 1).await;
    let mut model = Model::default();
    for id in &order {
        model.append(1, &turn_after(*id, *id as u8, false, &[20; 4]), &Limits::default());
    }
    for store in &stores {
        let ledger = store.load(&scope(1)).await.unwrap().unwrap();
        let expected = model.ledger(1).unwrap();
        assert!(ledger.turns().eq(expected.turns()) && ledger.turns().len() == TURNS as usize);
        assert_eq!((ledger.items(), ledger.bytes()), (expected.items(), expected.bytes()));
        assert_eq!((store.snapshot().damaged, store.snapshot().failed), (0, 0));
    }
}

/// Rules 10, 11 and 14: bounds hold, and what one removes no other brings back, while all write and remove.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bounds_hold_and_what_was_removed_stays_removed_while_replicas_fight() {
    let server = Server::start();
    let stores = replicas(&server, 4, limits(30, 1 << 20)).await;
    let writers: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(writer, store)| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..200 {
                    let id = 1 + n % 60;
                    append(&store, 1, &turn_after(id, id as u8, false, &[10, 20])).await;
                    if writer == 0 {
                        store.remove(&scope(1), &[item(id, 0)]).await.unwrap();
                    }
                    let ledger = store.load(&scope(1)).await.unwrap().unwrap();
                    assert!(ledger.items() <= 30, "{ledger:?}");
                    if writer == 0 {
                        let held = ledger.turns().find(|turn| turn.id().value() == id);
                        assert!(held.is_none_or(|held| held.part(&item(id, 0)).unwrap().state().is_none()));
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let ledger = stores[1].load(&scope(1)).await.unwrap().unwrap();
    let items: usize = ledger.turns().map(|turn| turn.items()).sum();
    assert_eq!(ledger.items(), items);
    let fresh = replicas(&server, 1, limits(30, 1 << 20)).await;
    assert!(fresh[0].load(&scope(1)).await.unwrap().unwrap().turns().eq(ledger.turns()));
    // The counts of the server are true: as much room is left as the ledger says.
    let room = 30 - ledger.items();
    for id in 0..room as u128 {
        assert_eq!(append(&fresh[0], 1, &turn(1_000 + id)).await, 0);
    }
    assert_eq!(append(&fresh[0], 1, &turn(2_000)).await, 1);
}

/// Rule 14: a slow writer does not bring back what was refused, but what is new of it is taken.
#[tokio::test]
async fn a_late_append_does_not_bring_back_what_was_removed() {
    let server = Server::start();
    let stores = replicas(&server, 2, Limits::default()).await;
    let (one, other) = (&stores[0], &stores[1]);
    let first = turn_after(1, 1, false, &[10, 20]);
    append(one, 1, &first).await;
    append(one, 1, &turn(2)).await;
    ids(other, 1).await;
    assert_eq!(one.remove(&scope(1), &[item(1, 0)]).await.unwrap(), 1);
    append(other, 1, &first).await;
    append(other, 1, &turn_after(1, 1, false, &[10, 20, 30])).await;
    for store in [one, other] {
        let held = load(store, 1).await;
        assert_eq!(held.len(), 2);
        let states: Vec<bool> = held[0].parts().map(|part| part.has_state()).collect();
        assert_eq!(states, [false, true, true]);
    }
    // All of a turn.
    assert_eq!(other.remove(&scope(1), &[item(1, 1), item(1, 2), item(1, 0)]).await.unwrap(), 2);
    append(one, 1, &first).await;
    append(one, 1, &turn_after(1, 1, true, &[10])).await;
    assert_eq!((ids(one, 1).await, ids(other, 1).await), (vec![2], vec![2]));
    // All turns, and the ledger is not there.
    assert_eq!(one.remove(&scope(1), &[item(2, 0)]).await.unwrap(), 1);
    append(other, 1, &turn(2)).await;
    assert!(one.load(&scope(1)).await.unwrap().is_none());
    // Whoever forgets the ledger forgets that, too.
    append(other, 1, &first).await;
    assert!(ids(one, 1).await.is_empty());
    assert!(!one.forget(&scope(1)).await.unwrap(), "there is no ledger, only what was removed of it");
    append(other, 1, &first).await;
    assert_eq!(ids(one, 1).await, [1]);
}

/// Rule 11: what is remembered of removals is bounded, too.
#[tokio::test]
async fn removals_leave_a_bounded_trace() {
    let server = Server::start();
    let store = &replicas(&server, 1, Limits::default()).await[0];
    append(store, 1, &turn(1)).await;
    for round in 0..13 {
        let ids = (0..100).map(|n| 100 + round * 100 + n);
        for id in ids.clone() {
            append(store, 1, &turn(id)).await;
        }
        let items: Vec<ItemRef> = ids.map(|id| item(id, 0)).collect();
        assert_eq!(store.remove(&scope(1), &items).await.unwrap(), 100);
    }
    let fields: usize = server.ask(redis::cmd("HLEN").arg(key("reasoning-replay:", 1))).await;
    // One turn with its head and its place, the meta, two fields for each removal that is remembered, the last writes.
    assert_eq!(fields, 3 + 1 + 2 * 1_024 + 65);
    let late: Vec<_> = [1_399, 100].map(turn).into();
    for turn in &late {
        append(store, 1, turn).await;
    }
    assert_eq!(ids(store, 1).await, [1, 100]);
}

#[tokio::test]
async fn a_ledger_lives_for_its_time_after_the_last_use() {
    let server = Server::start();
    let life = Duration::from_millis(900);
    let store = RedisStore::builder(server.connect().await).ttl(life).build().unwrap();
    for n in 1..=3 {
        append(&store, n, &turn(1)).await;
    }
    for _ in 0..4 {
        tokio::time::sleep(life / 2).await;
        assert_eq!(ids(&store, 1).await, [1], "a load keeps it alive");
        append(&store, 2, &turn(1)).await;
    }
    assert_eq!(ids(&store, 2).await, [1], "an append keeps it alive, even if it changes nothing");
    assert_eq!(ids(&store, 3).await, [0; 0]);
    tokio::time::sleep(life + Duration::from_millis(100)).await;
    for n in 1..=3 {
        assert!(store.load(&scope(n)).await.unwrap().is_none(), "the near cache alone has answered");
    }
    let left: Vec<String> = server.ask(redis::cmd("KEYS").arg("*")).await;
    assert_eq!(left, [""; 0]);
    append(&store, 1, &turn(2)).await;
    assert_eq!(ids(&store, 1).await, [2]);
}

/// Rule 10: the retry of an append whose answer was lost.
#[tokio::test]
async fn the_same_turn_from_two_replicas_is_one() {
    let server = Server::start();
    let stores = replicas(&server, 2, Limits::default()).await;
    let turns: Vec<Arc<_>> = (1..=5).map(turn).collect();
    for turn in &turns {
        for store in [&stores[0], &stores[1], &stores[0]] {
            append(store, 1, turn).await;
        }
    }
    assert_eq!((load(&stores[0], 1).await, load(&stores[1], 1).await), (turns.clone(), turns));
}

/// Rule 10: what another adds to a turn between the two steps of a removal is not lost.
#[tokio::test]
async fn a_removal_takes_nothing_that_came_meanwhile() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let slow = RedisStore::builder(server::connect(proxy.port).await);
    let slow = slow.operation_timeout(Duration::from_secs(10)).build().unwrap();
    let other = &replicas(&server, 1, Limits::default()).await[0];
    // Wherever between the two steps it comes.
    for (n, wait) in (1..).zip([0, 50, 100, 150, 200, 250, 300]) {
        append(other, n, &turn_after(1, 1, false, &[10, 20])).await;
        // The server is to know the scripts, so that there are two answers to wait for.
        append(other, 99, &turn(1)).await;
        slow.remove(&scope(99), &[item(1, 0)]).await.unwrap();
        proxy.delay(Duration::from_millis(150));
        let removing = tokio::spawn({
            let slow = slow.clone();
            async move { slow.remove(&scope(n), &[item(1, 0)]).await }
        });
        tokio::time::sleep(Duration::from_millis(wait)).await;
        append(other, n, &turn_after(1, 1, false, &[10, 20, 30])).await;
        assert_eq!(removing.await.unwrap().unwrap(), 1);
        proxy.delay(Duration::ZERO);
        let held = load(other, n).await;
        let states: Vec<bool> = held[0].parts().map(|part| part.has_state()).collect();
        assert_eq!(states, [false, true, true], "after {wait} ms");
        other.forget(&scope(99)).await.unwrap();
    }
}
