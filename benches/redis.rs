//! How long a load and a commit take over the loopback, beside bare commands of the same size. See `README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "made for tests, which need more of it")]
#[path = "../tests/redis/server.rs"]
mod server;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{Cmd, Value, aio::ConnectionManager, cmd};
use server::Server;
use tower_reasoning_replay::{
    ledger::{Alternative, Anchor, Context, Item, Kind, Turn, TurnId, TurnPart},
    scope::Scope,
    store::{RedisStore, Seal, Store},
};

/// How long one size is measured.
const BUDGET: Duration = Duration::from_secs(4);
/// The bytes of a signature.
const STATE: usize = 1_536;

type Step = Box<dyn FnMut() -> Pin<Box<dyn Future<Output = ()>>>>;

fn main() {
    // `cargo bench` passes it, and a run of all targets as tests does not.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start();
        for turns in [1, 20, 200, 2_000] {
            measure(&server, turns).await;
        }
    });
}

fn turn(id: u128) -> Arc<Turn> {
    let mut part = TurnPart::new(Kind::Call, Anchor::from_bytes([1; 16]));
    part.id = Some("call_0123456789abcdef".into());
    part.name = Some("read_file".into());
    let state: Vec<u8> = (0..STATE as u64).map(|n| (n.wrapping_mul(id as u64 + 7) >> 3) as u8 | 0x40).collect();
    part.state = Some(Item::new(Bytes::from(state)));
    let context = Context::new(Anchor::from_bytes([2; 16]), Anchor::from_bytes(id.to_le_bytes()), 9, [1, 2, 3, 4]);
    Arc::new(Turn::new(TurnId::new(id), context, vec![Alternative::new(0, vec![part])], false))
}

async fn measure(server: &Server, turns: u128) {
    let connection = server.connect().await;
    let scope = Scope::from_bytes([turns as u8; 32]);
    let build = |prefix: &str| RedisStore::builder(connection.clone()).prefix(prefix);
    let plain = build("plain:").build().unwrap();
    let far = build("plain:").near_cache(0, 0).build().unwrap();
    let sealed = build("sealed:").seal(Seal::new([1; 32])).near_cache(0, 0).build().unwrap();
    for id in 0..turns {
        plain.append(&scope, turn(id)).await.unwrap();
        sealed.append(&scope, turn(id)).await.unwrap();
    }
    let digits: String = scope.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let fields: Vec<Vec<u8>> = ask(&connection, cmd("HGETALL").arg(format!("plain:{digits}"))).await;
    let bytes: usize = fields.iter().map(Vec::len).sum();
    let _: Value = ask(&connection, cmd("SET").arg("whole").arg(vec![b'x'; bytes])).await;
    let value = vec![b'x'; STATE + 300];

    let command = |command: &Cmd| -> Step {
        let (command, connection) = (command.clone(), connection.clone());
        Box::new(move || {
            let (command, connection) = (command.clone(), connection.clone());
            Box::pin(async move { drop(ask::<Value>(&connection, &command).await) })
        })
    };
    let load = |store: &RedisStore<ConnectionManager>| -> Step {
        let store = store.clone();
        Box::new(move || {
            let reply = store.load(&scope);
            Box::pin(async move { assert!(reply.await.unwrap().is_some()) })
        })
    };
    // The last turn again and again, so that the ledger stays as large as it is.
    let commit = |store: &RedisStore<ConnectionManager>| -> Step {
        let (store, turn) = (store.clone(), turn(turns - 1));
        Box::new(move || {
            let reply = store.append(&scope, turn.clone());
            Box::pin(async move { assert_eq!(reply.await.unwrap().evicted, 0) })
        })
    };
    let mut steps: [(&str, &str, Step); 10] = [
        ("PING", "", command(&cmd("PING"))),
        ("SET of a turn", "", command(cmd("SET").arg("turn").arg(&value))),
        ("GET of all", "", command(cmd("GET").arg("whole"))),
        ("load, same", "PING", load(&plain)),
        ("load, one turn behind", "PING", load(&plain)),
        ("load, all", "GET of all", load(&far)),
        ("load, all, sealed", "GET of all", load(&sealed)),
        ("commit", "SET of a turn", commit(&plain)),
        ("commit, no near cache", "SET of a turn", commit(&far)),
        ("commit, sealed", "SET of a turn", commit(&sealed)),
    ];
    let mut times = vec![Vec::new(); steps.len()];
    let begin = Instant::now();
    while begin.elapsed() < BUDGET {
        for ((name, _, step), times) in steps.iter_mut().zip(&mut times) {
            if *name == "load, same" {
                // It is the first load that finds the ledger as the other stores have left it.
                plain.load(&scope).await.unwrap();
            }
            if *name == "load, one turn behind" {
                far.append(&scope, turn(turns - 1)).await.unwrap();
            }
            let begin = Instant::now();
            step().await;
            times.push(begin.elapsed());
        }
    }
    println!("\n{turns} turns, {} KB; {} rounds", bytes / 1_000, times[0].len());
    println!("{:>35} {:>10}   p50 beside", "p50", "p99");
    let at = |times: &[Duration], part: f64| times[((times.len() - 1) as f64 * part) as usize];
    times.iter_mut().for_each(|times| times.sort_unstable());
    for (n, (name, floor, _)) in steps.iter().enumerate() {
        let (p50, p99) = (at(&times[n], 0.5), at(&times[n], 0.99));
        let beside = steps.iter().position(|(name, ..)| name == floor).map(|floor| at(&times[floor], 0.5));
        let beside = beside
            .map_or_else(String::new, |beside| format!("{:.2} × {floor}", p50.as_secs_f64() / beside.as_secs_f64()));
        println!("{name:24} {:>8.0}µs {:>8.0}µs   {beside}", p50.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6);
    }
}

async fn ask<T: redis::FromRedisValue>(connection: &ConnectionManager, command: &Cmd) -> T {
    command.query_async(&mut connection.clone()).await.unwrap()
}
