//! A cluster of three nodes.

use std::time::{Duration, Instant};

use redis::{cluster::ClusterClient, cmd};
use tower_reasoning_replay::{
    store::{RedisStore, Store},
    testing::store_contract,
};

use super::{server::Server, turns::*};

/// Three nodes that share the slots, and know of each other.
async fn cluster() -> [Server; 3] {
    let options =
        ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "yes"];
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
    let client = ClusterClient::new(nodes.iter().map(Server::url).collect::<Vec<_>>()).unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let store = |prefix: &str| RedisStore::builder(connection.clone()).prefix(prefix).build().unwrap();
    // All but `clear`, which takes a connection to each node.
    store_contract::what_was_written_is_read(store("b:")).await;
    store_contract::large_turns_come_back_whole(store("c:")).await;
    store_contract::concurrent_appends_merge(store("d:")).await;
    store_contract::a_completed_turn_supersedes_provisional_ones(store("e:")).await;
    store_contract::remove_takes_the_named_items_only(store("f:")).await;
    store_contract::forget_takes_one_ledger(store("g:")).await;
    store_contract::scopes_share_nothing(store("h:")).await;
    let store = store("i:");
    for n in 0..100 {
        append(&store, n, &turn(u128::from(n))).await;
    }
    let mut sum = 0;
    for node in &nodes {
        let gone = store.clear_node(node.connect().await).await.unwrap();
        assert!(gone > 10, "one node holds nearly nothing");
        sum += gone;
    }
    assert_eq!(sum, 100);
    for n in 0..100 {
        assert!(store.load(&scope(n)).await.unwrap().is_none());
    }
}
