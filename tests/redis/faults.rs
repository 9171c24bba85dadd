//! Servers that are down, slow, full, or demoted, and wires that break: nothing waits longer than it should, and nothing
//! is lost that was acknowledged.

use std::{
    error::Error as _,
    future::Future,
    time::{Duration, Instant},
};

use redis::{aio::ConnectionManager, cmd};
use tower_reasoning_replay::store::{RedisStore, RedisStoreBuilder, Store, StoreError};

use super::{
    proxy::Proxy,
    server::{Server, connect},
    turns::*,
};

const LOAD_TIMEOUT: Duration = Duration::from_millis(50);

/// A store that fails quickly, and whose breaker never opens.
fn patient(connection: ConnectionManager) -> RedisStoreBuilder<ConnectionManager> {
    let builder = RedisStore::builder(connection).breaker(u32::MAX, Duration::from_secs(1));
    builder.operation_timeout(Duration::from_millis(400))
}

async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    (future.await, begin.elapsed())
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    outcome.unwrap_err().source().unwrap().to_string()
}

/// Every operation ends with an error within its bound.
async fn all_fail(store: &RedisStore<ConnectionManager>, bound: Duration) -> Vec<String> {
    let items = [item(1, 0)];
    let (load, after) = timed(store.load(&scope(1))).await;
    let mut took = vec![after];
    let (append, after) = timed(store.append(&scope(1), turn(99))).await;
    took.push(after);
    let (remove, after) = timed(store.remove(&scope(1), &items)).await;
    took.push(after);
    let (forget, after) = timed(store.forget(&scope(1))).await;
    took.push(after);
    let (clear, after) = timed(store.clear()).await;
    took.push(after);
    assert!(took.iter().all(|took| *took < bound), "{took:?}");
    vec![reason(load), reason(append), reason(remove), reason(forget), reason(clear)]
}

#[tokio::test]
async fn a_server_that_is_killed_fails_everything_in_time_and_one_that_came_back_is_used() {
    let mut server = Server::start();
    let store = patient(server.connect().await).build().unwrap();
    fill(&store, 1, 3, 10).await;
    server.kill();
    all_fail(&store, Duration::from_millis(600)).await;
    assert!(store.snapshot().retried > 0);
    assert!(server.run());
    // It came back empty: what is known here is not used, and what is written begins anew.
    assert!(
        store.load(&scope(1)).await.is_ok_and(|ledger| ledger.is_none())
            || store.load(&scope(1)).await.unwrap().is_none()
    );
    append(&store, 1, &turn(9)).await;
    assert_eq!(ids(&store, 1).await, [9]);
    // Scripts are not known to it either, also not after somebody took them away.
    let _: () = server.ask(cmd("SCRIPT").arg("FLUSH")).await;
    append(&store, 1, &turn(10)).await;
    let _: () = server.ask(cmd("SCRIPT").arg("FLUSH")).await;
    assert_eq!(ids(&store, 1).await, [9, 10]);
    assert_eq!(store.remove(&scope(1), &[item(9, 0)]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_commit_outlives_a_short_outage() {
    let mut server = Server::start();
    let store = RedisStore::builder(server.connect().await)
        .operation_timeout(Duration::from_secs(10))
        .retries(8)
        .build()
        .unwrap();
    append(&store, 1, &turn(1)).await;
    server.kill();
    let background = tokio::spawn({
        let store = store.clone();
        async move { store.append(&scope(1), turn(2)).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (runs, _server) = tokio::task::spawn_blocking(move || (server.run(), server)).await.unwrap();
    assert!(runs);
    background.await.unwrap().unwrap();
    assert!(store.snapshot().retried > 0 && store.snapshot().failed == 0);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let server = Server::start();
    let store = patient(server.connect().await).build().unwrap();
    fill(&store, 1, 3, 10).await;
    server.freeze();
    let reasons = all_fail(&store, Duration::from_millis(600)).await;
    server.thaw();
    assert!(reasons.iter().any(|reason| reason.contains("in time")), "{reasons:?}");
    // Answers that came too late do not confuse what is asked now; what was asked may have been done.
    tokio::time::sleep(Duration::from_millis(100)).await;
    append(&store, 2, &turn(1)).await;
    assert_eq!(ids(&store, 2).await, [1]);
    assert!([&[][..], &[1, 2, 3], &[2, 3], &[1, 2, 3, 99], &[2, 3, 99]].contains(&&*ids(&store, 1).await));
}

/// What the engine does to a slow store: it waits for 50 ms, and drops the reply.
#[tokio::test]
async fn a_dead_server_costs_one_wait_in_each_interval_and_not_one_for_each_request() {
    let server = Server::start();
    let interval = Duration::from_millis(300);
    let builder = RedisStore::builder(server.connect().await).breaker(3, interval);
    let store = builder.operation_timeout(Duration::from_millis(400)).build().unwrap();
    append(&store, 1, &turn(1)).await;
    server.freeze();
    let begin = Instant::now();
    let (mut waited, mut asked) = (0, 0);
    while begin.elapsed() < 4 * interval {
        asked += 1;
        let (_, took) = timed(tokio::time::timeout(LOAD_TIMEOUT, store.load(&scope(1)))).await;
        if took > LOAD_TIMEOUT / 2 {
            waited += 1;
        } else {
            assert!(took < Duration::from_millis(10), "{took:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let snapshot = store.snapshot();
    println!("{asked} loads in {:?}, of which {waited} waited; {snapshot:?}", begin.elapsed());
    assert!((3..=3 + 5).contains(&waited) && asked > 50, "{waited} of {asked}");
    assert!(snapshot.is_open && snapshot.opened == 1 && snapshot.refused == asked - waited);
    let error = store.append(&scope(1), turn(2)).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("not asked again yet"));
    assert_eq!(error.to_string(), "the replay store could not be used");

    server.thaw();
    tokio::time::sleep(interval).await;
    assert_eq!(ids(&store, 1).await, [1]);
    assert!(!store.snapshot().is_open);
    append(&store, 1, &turn(2)).await;
}

#[tokio::test]
async fn a_breaker_opens_for_refused_connections_too_and_one_success_closes_it() {
    let mut server = Server::start();
    let interval = Duration::from_millis(200);
    let store = RedisStore::builder(server.connect().await).breaker(3, interval).retries(0).build().unwrap();
    append(&store, 1, &turn(1)).await;
    server.kill();
    for _ in 0..3 {
        store.append(&scope(1), turn(2)).await.unwrap_err();
    }
    assert!(store.snapshot().is_open);
    let (outcome, took) = timed(store.load(&scope(1))).await;
    assert!(reason(outcome).contains("not asked") && took < Duration::from_millis(5));
    assert!(server.run());
    let deadline = Instant::now() + Duration::from_secs(5);
    while store.load(&scope(1)).await.is_err() {
        assert!(Instant::now() < deadline, "it never closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!store.snapshot().is_open);
    // Clients that go away say nothing about the server.
    for _ in 0..20 {
        let _ = tokio::time::timeout(Duration::ZERO, store.load(&scope(1))).await;
    }
    assert!(!store.snapshot().is_open);
}

/// The engine drops the load of a large ledger, but not each time, and others are not made to suffer for it.
#[tokio::test]
async fn a_load_that_takes_longer_than_anyone_waits_is_there_for_the_next_one() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    fill(&RedisStore::new(server.connect().await), 1, 3, 10).await;
    let store = RedisStore::builder(connect(proxy.port).await).breaker(1, Duration::from_secs(60)).build().unwrap();
    ids(&store, 2).await;
    proxy.delay(Duration::from_millis(150));
    assert!(tokio::time::timeout(LOAD_TIMEOUT, store.load(&scope(1))).await.is_err());
    assert!(store.snapshot().is_open, "so far it did not answer");
    tokio::time::sleep(Duration::from_millis(400)).await;
    proxy.delay(Duration::ZERO);
    let snapshot = store.snapshot();
    assert!(!snapshot.is_open && (snapshot.changed, snapshot.whole) == (1, 1), "{snapshot:?}");
    assert_eq!(ids(&store, 1).await, [1, 2, 3]);
    assert_eq!(store.snapshot().same, 1);
}

/// All that the engine does is to drop what takes too long; that must be enough to come back.
#[tokio::test]
async fn a_store_recovers_though_nobody_waits_for_its_replies() {
    let mut server = Server::start();
    let interval = Duration::from_millis(200);
    let store = RedisStore::builder(server.connect().await).breaker(3, interval).build().unwrap();
    append(&store, 1, &turn(1)).await;
    let loads = async |for_long: Duration| {
        let begin = Instant::now();
        while begin.elapsed() < for_long {
            if matches!(tokio::time::timeout(LOAD_TIMEOUT, store.load(&scope(1))).await, Ok(Ok(_))) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    };
    server.kill();
    assert!(!loads(5 * interval).await && store.snapshot().is_open);
    assert!(server.run());
    assert!(loads(20 * interval).await, "{:?}", store.snapshot());
    assert!(!store.snapshot().is_open);
}

#[tokio::test]
async fn a_slow_wire_ends_what_takes_too_long_and_nothing_else() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let store = patient(connect(proxy.port).await).build().unwrap();
    append(&store, 1, &turn(1)).await;
    proxy.delay(Duration::from_millis(100));
    assert_eq!(ids(&store, 1).await, [1]);
    append(&store, 1, &turn(2)).await;
    proxy.delay(Duration::from_millis(700));
    let (outcome, took) = timed(store.load(&scope(1))).await;
    assert!(reason(outcome).contains("in time") && took < Duration::from_millis(500), "{took:?}");
    proxy.delay(Duration::ZERO);
    // The answer that is late belongs to the load that was given up, and to no other.
    assert_eq!(ids(&store, 1).await, [1, 2]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_at_any_byte_is_an_error_and_never_half_a_ledger() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let store = patient(connect(proxy.port).await).near_cache(0, 0).build().unwrap();
    fill(&store, 1, 2, 30).await;
    // From the second time on the server knows the script.
    ids(&store, 1).await;
    let passed = proxy.passed();
    assert_eq!(ids(&store, 1).await, [1, 2]);
    let length = proxy.passed() - passed;
    assert!((300..3_000).contains(&length), "{length}");
    for bytes in 0..length {
        proxy.cut_after(bytes);
        let outcome = store.load(&scope(1)).await;
        assert!(outcome.is_err(), "{bytes} of {length} bytes were taken for all");
        assert!(proxy.has_cut());
        assert_eq!(ids(&store, 1).await, [1, 2], "after {bytes} bytes");
    }
    assert_eq!(store.snapshot().damaged, 0);
}

/// The server has done what was asked, and nobody has heard of it: then it is asked again.
#[tokio::test]
async fn a_commit_whose_answer_breaks_off_at_any_byte_is_done_once() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let store = patient(connect(proxy.port).await).operation_timeout(Duration::from_secs(5)).build().unwrap();
    append(&store, 1, &turn(1)).await;
    let passed = proxy.passed();
    append(&store, 1, &turn(2)).await;
    let length = proxy.passed() - passed;
    let mut expected = vec![1, 2];
    for bytes in 0..length {
        let id = 100 + u128::from(bytes);
        proxy.cut_after(bytes);
        append(&store, 1, &turn(id)).await;
        assert!(proxy.has_cut());
        expected.push(id);
        assert_eq!(ids(&store, 1).await, expected);
        proxy.cut_after(bytes / 4);
        // What was removed by the attempt that nobody heard of is not counted by the next one.
        assert!(store.remove(&scope(1), &[item(id, 0)]).await.unwrap() <= 1);
        expected.pop();
        assert_eq!(ids(&store, 1).await, expected);
    }
    assert_eq!(store.snapshot().failed, 0);
    assert!(store.snapshot().retried >= length);
}

#[tokio::test]
async fn a_server_without_memory_refuses_appends_at_once_and_serves_the_rest() {
    let server = Server::start_with(&["--maxmemory-policy", "noeviction"]);
    let store = RedisStore::new(server.connect().await);
    append(&store, 1, &turn_after(1, 1, true, &[100, 100])).await;
    append(&store, 1, &turn(2)).await;
    let _: () = server.ask(cmd("CONFIG").arg("SET").arg("maxmemory").arg(1)).await;
    for attempt in 0..10 {
        // One that would drop another turn has not done so when it fails, nor one to a new ledger.
        for (n, turn) in [(1, turn_after(3, 1, false, &[10])), (2, turn(4))] {
            let (outcome, took) = timed(store.append(&scope(n), turn)).await;
            assert_eq!(reason(outcome), "the server refused with OOM", "{attempt}");
            assert!(took < Duration::from_millis(40), "{took:?}");
        }
    }
    assert_eq!(ids(&store, 1).await, [1, 2]);
    // A refused item goes also then.
    assert_eq!(store.remove(&scope(1), &[item(1, 0)]).await.unwrap(), 1);
    assert_eq!(load(&store, 1).await[0].items(), 1);
    let snapshot = store.snapshot();
    assert_eq!((snapshot.opened, snapshot.retried, snapshot.failed), (0, 0, 20), "loads went on");
    let _: () = server.ask(cmd("CONFIG").arg("SET").arg("maxmemory").arg(0)).await;
    append(&store, 1, &turn(5)).await;
    assert_eq!(ids(&store, 1).await, [1, 2, 5]);
    assert!(store.forget(&scope(1)).await.unwrap());
}

#[tokio::test]
async fn a_primary_that_was_demoted_is_an_error_and_not_an_old_answer() {
    let (server, primary) = (Server::start(), Server::start());
    let store = patient(server.connect().await).build().unwrap();
    append(&store, 1, &turn(1)).await;
    let behind = RedisStore::new(primary.connect().await);
    append(&behind, 1, &turn(2)).await;
    let port = primary.port.to_string();
    let _: () = server.ask(cmd("REPLICAOF").arg("127.0.0.1").arg(port)).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let role: String = server.ask(cmd("INFO").arg("replication")).await;
        if role.contains("master_link_status:up") {
            break;
        }
        assert!(Instant::now() < deadline, "{role}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(reason(store.load(&scope(1)).await), "the server refused with READONLY");
    let (outcome, took) = timed(store.append(&scope(1), turn(3))).await;
    assert!(outcome.is_err() && took < Duration::from_millis(600), "{took:?}");
    assert!(store.snapshot().retried > 0);
    assert!(store.remove(&scope(1), &[item(2, 0)]).await.is_err());
    // Promoted again, it has what the other had.
    let _: () = server.ask(cmd("REPLICAOF").arg("NO").arg("ONE")).await;
    assert_eq!(ids(&store, 1).await, [2]);
    append(&store, 1, &turn(3)).await;
}

#[tokio::test]
async fn a_server_that_does_not_let_us_in_is_an_error_that_names_nothing() {
    let server = Server::start_with(&["--requirepass", "a secret password"]);
    let store = patient(server.connect().await).build().unwrap();
    let reasons = all_fail(&store, Duration::from_millis(600)).await;
    assert!(reasons.iter().all(|reason| !reason.contains("secret")), "{reasons:?}");
    assert!(reasons[0].contains("NOAUTH"), "{reasons:?}");
}
