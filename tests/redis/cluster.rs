//! A cluster of three nodes.

use std::time::{Duration, Instant};

use redis::{cluster::ClusterClient, cmd};
use tower_reasoning_replay::{
    store::{RedisStore, Store},
    testing::store_contract::store_contract,
};

use super::{server::Server, turns::*};

/// Three nodes that share the slots, and know of each other.
async fn cluster() -> [Server; 3] {
    let options =
        ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"];
    let nodes = [Server::start_with(&options), Server::start_with(&options), Server::start_with(&options)];
    for (at, node) in nodes.iter().enumerate() {
        let mut command = cmd("CLUSTER");
        command.arg("ADDSLOTS");
        for slot in (0..16_384).filter(|slot| slot * 3 / 16_384 == at) {
            command.arg(slot);
        }
        let _: () = node.ask(&command).await;
        let _: () = node.ask(cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(at + 1)).await;
    }
    for node in &nodes[1..] {
        let _: () = nodes[0].ask(cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    for node in &nodes {
        loop {
            let state: String = node.ask(cmd("CLUSTER").arg("INFO")).await;
            if state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3") {
                break;
            }
            assert!(Instant::now() < deadline, "{state}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledgers_spread_over_the_nodes_of_a_cluster() {
    let nodes = cluster().await;
    // A busy machine answers late; what has to be in time is asked for below.
    let client = ClusterClient::builder(nodes.iter().map(Server::url).collect::<Vec<_>>());
    let client = client.response_timeout(Duration::from_secs(10)).build().unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    let builder = || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        RedisStore::builder(connection.clone()).prefix(format!("cluster-{number}:"))
    };
    let patient = || builder().operation_timeout(Duration::from_secs(20));
    store_contract(|| async { patient().build().unwrap() }).await;
    for node in &nodes {
        let _: () = node.ask(&cmd("FLUSHALL")).await;
    }
    let (store, other) = (patient().build().unwrap(), patient().build().unwrap());
    for n in 0..100 {
        append(&store, n, &turn(u128::from(n))).await;
    }
    append(&other, 1, &turn(1)).await;
    for node in &nodes {
        let keys: usize = node.ask(&cmd("DBSIZE")).await;
        assert!(keys > 10, "one node holds nearly nothing");
    }
    store.clear().await.unwrap();
    let mut left = 0;
    for node in &nodes {
        left += node.ask::<usize>(&cmd("DBSIZE")).await;
    }
    assert_eq!((left, ids(&other, 1).await), (1, vec![1]));
    // One node less: what lies there is an error, in time, and the rest is served.
    let [mut dead, ..] = nodes;
    dead.kill();
    let mut outcomes = Vec::new();
    for n in 0..20 {
        let store = builder().build().unwrap();
        let begin = Instant::now();
        outcomes.push(store.append(&scope(n), turn(1)).await.is_ok());
        assert!(begin.elapsed() < Duration::from_millis(1_300), "{:?}", begin.elapsed());
    }
    assert!(outcomes.contains(&false));
}
