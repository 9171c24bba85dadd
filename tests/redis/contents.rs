//! What is transferred, what stands on the server, and what becomes of what cannot be read.

use std::{future::Future, time::Duration};

use redis::{aio::ConnectionManager, cmd};
use tower_reasoning_replay::{
    ledger::Limits,
    store::{RedisStore, RedisStoreBuilder, Seal, Store},
};

use super::{
    proxy::Proxy,
    server::{Server, connect},
    turns::*,
};

const PREFIX: &str = "reasoning-replay:";

async fn builder(server: &Server) -> RedisStoreBuilder<ConnectionManager> {
    RedisStore::builder(server.connect().await)
}

async fn calls(server: &Server) -> u64 {
    let stats: String = server.ask(cmd("INFO").arg("commandstats")).await;
    let calls = stats.lines().filter(|line| line.starts_with("cmdstat_eval"));
    calls.filter_map(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok()).sum()
}

/// One round trip each, and no transfer of what is known.
#[tokio::test]
async fn a_ledger_is_transferred_when_it_has_changed_and_only_then() {
    let server = Server::start();
    let proxy = Proxy::before(server.port).await;
    let one = RedisStore::new(connect(proxy.port).await);
    let other = RedisStore::new(server.connect().await);
    fill(&one, 1, 20, 10_000).await;
    // From the second time on the server knows the script.
    ids(&one, 9).await;
    let (asked, passed) = (calls(&server).await, proxy.passed());
    for _ in 0..10 {
        assert_eq!(ids(&one, 1).await.len(), 20);
    }
    assert_eq!((calls(&server).await - asked, proxy.passed() - passed), (10, 10 * 10), "`same`, and no more");
    let snapshot = one.snapshot();
    assert_eq!((snapshot.same, snapshot.changed, snapshot.missed), (10, 0, 1), "its own appends are known to it");

    assert_eq!(ids(&other, 1).await.len(), 20);
    append(&other, 1, &turn(21)).await;
    let passed = proxy.passed();
    assert_eq!(ids(&one, 1).await.len(), 21);
    assert!(proxy.passed() - passed < 1_000, "only what another wrote has to come");
    assert_eq!((one.snapshot().same, one.snapshot().changed), (10, 1));
    assert_eq!((one.snapshot().whole, other.snapshot().whole), (0, 1));
    // An append after that of another is not mistaken for the only change.
    append(&other, 1, &turn(22)).await;
    append(&one, 1, &turn(23)).await;
    assert_eq!(ids(&one, 1).await, (1..=23).collect::<Vec<_>>());
    assert_eq!((one.snapshot().same, one.snapshot().changed), (10, 2));
    one.remove(&scope(1), &[item(1, 0), item(5, 0)]).await.unwrap();
    assert_eq!(ids(&one, 1).await.len(), 21);
    assert_eq!((one.snapshot().same, one.snapshot().changed), (11, 2));
    assert_eq!(ids(&other, 1).await, ids(&one, 1).await);

    // Who is many writes behind gets all of it.
    for _ in 0..65 {
        append(&other, 1, &turn(23)).await;
    }
    assert_eq!((ids(&one, 1).await.len(), one.snapshot().whole), (21, 1));

    // A commit moves what it adds, in one round trip.
    let (asked, passed) = (calls(&server).await, proxy.passed());
    append(&one, 1, &turn(24)).await;
    assert_eq!(calls(&server).await - asked, 1);
    assert!(proxy.passed() - passed < 100);
    assert_eq!(ids(&one, 2).await, [0; 0]);
    assert_eq!(one.snapshot().missed, 2);
}

/// A version is never the name of two states: also not after everything was lost and written anew.
#[tokio::test]
async fn a_ledger_that_was_lost_and_written_anew_is_not_taken_for_the_old_one() {
    let server = Server::start();
    let (one, other) = (builder(&server).await.build().unwrap(), builder(&server).await.build().unwrap());
    fill(&one, 1, 5, 10).await;
    assert_eq!(ids(&one, 1).await, [1, 2, 3, 4, 5]);
    let _: () = server.ask(&cmd("FLUSHALL")).await;
    assert!(one.load(&scope(1)).await.unwrap().is_none());
    fill(&one, 1, 5, 10).await;
    let _: () = server.ask(&cmd("FLUSHALL")).await;
    for id in 11..=15 {
        append(&other, 1, &turn(id)).await;
    }
    assert_eq!(ids(&one, 1).await, [11, 12, 13, 14, 15]);
    // A copy from another time, as a replica that was promoted has it.
    let dump: Vec<u8> = server.ask(cmd("DUMP").arg(key(PREFIX, 1))).await;
    append(&one, 1, &turn(16)).await;
    assert_eq!(ids(&one, 1).await.len(), 6);
    let _: () = server.ask(cmd("RESTORE").arg(key(PREFIX, 1)).arg(0).arg(dump).arg("REPLACE")).await;
    assert_eq!(ids(&one, 1).await, [11, 12, 13, 14, 15]);
}

#[tokio::test]
async fn a_ledger_larger_than_the_near_cache_is_transferred_each_time() {
    let server = Server::start();
    let store = builder(&server).await.near_cache(10, 10_000).build().unwrap();
    fill(&store, 1, 20, 1_000).await;
    for _ in 0..3 {
        assert_eq!(ids(&store, 1).await.len(), 20);
    }
    assert_eq!((store.snapshot().same, store.snapshot().changed), (0, 3));
}

/// Rule 12.
#[tokio::test]
async fn the_server_holds_a_keyed_hash_as_key_and_with_a_seal_nothing_readable() {
    let server = Server::start();
    for seal in [None, Some(Seal::new([1; 32]))] {
        let sealed = seal.is_some();
        let mut builder = builder(&server).await.prefix(format!("{sealed}:"));
        if let Some(seal) = seal {
            builder = builder.seal(seal);
        }
        assert!(!format!("{builder:?}").contains("[1"));
        let store = builder.build().unwrap();
        let secret = turn_after(1, 1, false, &[40]);
        append(&store, 1, &secret).await;
        let keys: Vec<String> = server.ask(cmd("KEYS").arg(format!("{sealed}:*"))).await;
        assert_eq!(keys, [key(&format!("{sealed}:"), 1)]);
        let fields: Vec<Vec<u8>> = server.ask(cmd("HGETALL").arg(&keys[0])).await;
        let readable = fields.iter().any(|field| String::from_utf8_lossy(field).contains(&"a".repeat(40)));
        assert_eq!(readable, !sealed);
        assert_eq!(load(&store, 1).await, [secret]);
        let shown = format!("{store:?} {:?}", store.snapshot());
        assert!(!shown.contains("127.0.0.1") && !shown.contains("aaaa"), "{shown}");
    }
}

#[tokio::test]
async fn keys_rotate_and_what_no_key_opens_is_a_miss() {
    let server = Server::start();
    let (old, new) = ([1; 32], [2; 32]);
    let connection = server.connect().await;
    let with = |seal: Seal| RedisStore::builder(connection.clone()).seal(seal).build().unwrap();
    append(&with(Seal::new(old)), 1, &turn(1)).await;
    // First the new key is made known, then it is used, then the old one is given up.
    let prepared = with(Seal::new(old).also_opens(new));
    let rotated = with(Seal::new(new).also_opens(old));
    append(&prepared, 1, &turn(2)).await;
    append(&rotated, 1, &turn(3)).await;
    assert_eq!((ids(&prepared, 1).await, ids(&rotated, 1).await), (vec![1, 2, 3], vec![1, 2, 3]));
    let after = with(Seal::new(new));
    assert_eq!(ids(&after, 1).await, [3]);
    assert_eq!((after.snapshot().damaged, after.snapshot().failed), (2, 0));
    let none = RedisStore::new(connection.clone());
    assert!(none.load(&scope(1)).await.unwrap().is_none());
    // What cannot be read cannot be refused either; what can be is removed.
    assert_eq!(after.remove(&scope(1), &[item(1, 0), item(3, 0)]).await.unwrap(), 1);
    assert_eq!(ids(&rotated, 1).await, [1, 2]);
    // A sealed turn that was moved to another ledger is a miss.
    let dump: Vec<u8> = server.ask(cmd("DUMP").arg(key(PREFIX, 1))).await;
    let _: () = server.ask(cmd("RESTORE").arg(key(PREFIX, 2)).arg(0).arg(dump)).await;
    assert_eq!((ids(&rotated, 2).await, ids(&rotated, 1).await.len()), (vec![], 2));
}

/// A damaged turn, or one of a later release, is a miss for itself.
#[tokio::test]
async fn a_turn_that_cannot_be_read_is_a_miss_and_the_others_are_there() {
    let server = Server::start();
    let limits = Limits::default();
    for damage in ["t", "h", "o", "version"] {
        let prefix = format!("{damage}:");
        let reader = || async { builder(&server).await.prefix(prefix.clone()).limits(limits).build().unwrap() };
        let store = reader().await;
        fill(&store, 1, 5, 10).await;
        let kind = if damage == "version" { "t" } else { damage };
        let mut field = kind.as_bytes().to_vec();
        field.extend_from_slice(if kind == "o" {
            b"2".as_slice()
        } else {
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
        });
        let value: Vec<u8> = server.ask(cmd("HGET").arg(key(&prefix, 1)).arg(&field)).await;
        assert!(!value.is_empty(), "{damage}");
        let other = match damage {
            "version" => [&[9], &value[1..]].concat(),
            _ => b"\xff\x00 nonsense".to_vec(),
        };
        let _: () = server.ask(cmd("HSET").arg(key(&prefix, 1)).arg(&field).arg(other)).await;
        // One that knew the ledger before is told only of changes; one that comes anew sees the damage.
        let fresh = reader().await;
        let left: &[u128] = if damage == "o" { &[1, 2, 3, 4, 5] } else { &[1, 2, 4, 5] };
        assert_eq!(ids(&fresh, 1).await, left, "{damage}");
        assert_eq!(fresh.snapshot().damaged, u64::from(damage != "o"));
        append(&fresh, 1, &turn(6)).await;
        append(&fresh, 1, &turn_after(3, 0, false, &[10, 20])).await;
        let mut after = ids(&fresh, 1).await;
        after.sort_unstable();
        assert_eq!(after, [1, 2, 3, 4, 5, 6], "{damage}: the turn can be written again");
        // Over the limits everything goes, the damaged too.
        let small = reader().await;
        let mut few = limits;
        few.items = 2;
        let small_store = builder(&server).await.prefix(prefix.clone()).limits(few).build().unwrap();
        append(&small_store, 1, &turn(7)).await;
        append(&small_store, 1, &turn(8)).await;
        // What a damaged head said is not known, so that less may be kept until the ledger is empty.
        let kept: &[u128] = if damage == "h" { &[8] } else { &[7, 8] };
        assert_eq!(ids(&small, 1).await, kept, "{damage}");
        assert_eq!(small.remove(&scope(1), &[item(7, 0), item(8, 0)]).await.unwrap(), kept.len());
        append(&small_store, 1, &turn(9)).await;
        append(&small_store, 1, &turn(10)).await;
        assert_eq!(ids(&small, 1).await, [9, 10], "{damage}");
        assert_eq!(fresh.snapshot().failed + small.snapshot().failed, 0);
    }
}

/// Something else at the key, or a ledger in the layout of another release.
#[tokio::test]
async fn what_is_no_ledger_is_a_miss_and_is_replaced() {
    let server = Server::start();
    let store = builder(&server).await.build().unwrap();
    let at = key(PREFIX, 1);
    let meta = |meta: &str| cmd("HSET").arg(&at).arg("m").arg(meta).arg("t").arg("x").to_owned();
    let digits = "a".repeat(32);
    let others = [
        cmd("SET").arg(&at).arg("text").to_owned(),
        cmd("RPUSH").arg(&at).arg("a").arg("b").to_owned(),
        cmd("SADD").arg(&at).arg("a").to_owned(),
        cmd("XADD").arg(&at).arg("*").arg("a").arg("b").to_owned(),
        cmd("HSET").arg(&at).arg("field").arg("value").to_owned(),
        meta(""),
        meta(&format!("2 {digits} 0 0 0 0 0 0 0 0")),
        meta(&format!("1 {digits} 1 1 1 5 2 0 0 1")),
        meta(&format!("1 {digits} 9 1 1 0 2 0 0 1")),
        meta(&format!("1 {digits} 1 99999999999999999999 1 0 2 0 0 1")),
        meta(&format!("1 {digits} x 1 1 0 2 0 0 1")),
    ];
    for other in &others {
        for operation in 0..4 {
            let _: () = server.ask(cmd("DEL").arg(&at)).await;
            let _: redis::Value = server.ask(other).await;
            match operation {
                0 => assert!(store.load(&scope(1)).await.unwrap().is_none()),
                1 => assert_eq!(store.remove(&scope(1), &[item(1, 0)]).await.unwrap(), 0),
                2 => assert!(!store.forget(&scope(1)).await.unwrap()),
                _ => assert_eq!(append(&store, 1, &turn(1)).await, 0),
            }
        }
        assert_eq!(ids(&store, 1).await, [1]);
        append(&store, 1, &turn(2)).await;
        assert_eq!(ids(&RedisStore::new(server.connect().await), 1).await, [1, 2]);
    }
    assert_eq!(store.snapshot().damaged, others.len() as u64);
}

#[tokio::test]
async fn clear_takes_what_has_the_prefix_and_nothing_else() {
    let server = Server::start();
    let store = builder(&server).await.prefix("a*[b]?\\:").build().unwrap();
    let near = builder(&server).await.prefix("a*[b]?\\:x").build().unwrap();
    let other = builder(&server).await.prefix("axb?\\:").build().unwrap();
    for n in 0..=255 {
        append(&store, n, &turn(1)).await;
    }
    append(&near, 1, &turn(1)).await;
    append(&other, 1, &turn(1)).await;
    let _: () = server.ask(cmd("SET").arg("a*[b]?\\:not a ledger").arg("x")).await;
    store.clear().await.unwrap();
    let left: usize = server.ask(&cmd("DBSIZE")).await;
    assert_eq!(left, 3);
    assert!(store.load(&scope(7)).await.unwrap().is_none());
    assert_eq!((ids(&near, 1).await, ids(&other, 1).await), (vec![1], vec![1]));
}

/// What a large ledger costs the server does not grow with what it holds.
#[tokio::test]
async fn an_append_costs_what_it_adds() {
    let server = Server::start();
    let store = builder(&server).await.near_cache(0, 0).build().unwrap();
    let spent = async || {
        let stats: String = server.ask(cmd("INFO").arg("commandstats")).await;
        let mut lines = stats.lines().filter(|line| line.starts_with("cmdstat_eval"));
        lines.try_fold(0_u64, |sum, line| Some(sum + line.split(['=', ',']).nth(3)?.parse::<u64>().ok()?)).unwrap()
    };
    let mut cost = [0; 2];
    fill(&store, 1, 3_000, 4_000).await;
    fill(&store, 2, 10, 4_000).await;
    for _ in 0..3 {
        for (cost, n) in cost.iter_mut().zip([1, 2]) {
            let before = spent().await;
            for id in 0..100 {
                append(&store, n, &turn(10_000 + id)).await;
            }
            *cost += spent().await - before;
        }
    }
    assert!(cost[0] < 3 * cost[1] + 3_000, "µs in a ledger of 12 MB and in one of 40 KB: {cost:?}");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connection = runtime.block_on(connect(1));
    let builder = || RedisStore::builder(connection.clone());
    let mut none = Limits::default();
    none.items = 0;
    let refused = [
        (builder().prefix(""), "`prefix`"),
        (builder().prefix("x".repeat(257)), "`prefix`"),
        (builder().ttl(Duration::ZERO), "`ttl`"),
        (builder().ttl(Duration::MAX), "`ttl`"),
        (builder().limits(none), "`limits`"),
        (builder().operation_timeout(Duration::ZERO), "`operation_timeout`"),
        (builder().breaker(0, Duration::from_secs(1)), "`breaker`"),
        (builder().breaker(1, Duration::ZERO), "`breaker`"),
    ];
    for (builder, name) in refused {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    // Without a runtime there is an error and no panic.
    let store = builder().build().unwrap();
    let mut reply = std::pin::pin!(store.load(&scope(1)));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(reply.as_mut().poll(&mut context), std::task::Poll::Ready(Err(_))));
}
