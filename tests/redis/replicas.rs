//! Two gateways with one store, and a conversation that goes now to one and now to the other.

use std::time::{Duration, Instant};

use serde_json::json;
use tower_reasoning_replay::{
    ReplayLayer,
    engine::Event,
    scope::HashKey,
    store::{RedisStore, Seal},
    testing::gemini::GeminiProvider,
};

use super::{client::*, server::Server};

const KEY: [u8; 32] = [9; 32];

async fn gateway(server: &Server, provider: &GeminiProvider) -> (Gateway, RedisStore<redis::aio::ConnectionManager>) {
    let builder = RedisStore::builder(server.connect().await).seal(Seal::new([3; 32]));
    let store = builder.breaker(3, Duration::from_millis(200)).build().unwrap();
    // The bound of a load is for servers; a machine that compiles meanwhile is slower.
    let builder = ReplayLayer::builder(store.clone()).hash_key(HashKey::from_bytes(KEY));
    let layer = builder.load_timeout(Duration::from_secs(2)).commit_wait(Duration::from_secs(2)).build_layer().unwrap();
    (Gateway::with(provider, layer), store)
}

fn provider(rounds: usize) -> GeminiProvider {
    let turns = (0..rounds).map(|n| match n % 3 {
        0 => call("look", json!({"at": n})),
        1 => calls([("look", json!({"at": n})), ("hear", json!({"at": n}))]),
        _ => call("touch", json!({})),
    });
    strict(turns).build()
}

/// Rules 8 and 10: whichever replica answers, the next one knows.
#[tokio::test]
async fn a_conversation_that_alternates_between_replicas_misses_nothing() {
    const ROUNDS: usize = 12;
    let server = Server::start();
    for how in WAYS {
        let provider = provider(ROUNDS);
        let replicas = [gateway(&server, &provider).await, gateway(&server, &provider).await];
        let client = Client::new(API, how).session(Some(match how {
            How::Whole => "whole",
            How::Sse => "sse",
            _ => "array",
        }));
        let mut history = vec![user("Look around")];
        for round in 0..ROUNDS {
            let (gateway, _) = &replicas[round % 2];
            let answer = gateway.ask(&client, &history).await;
            assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 1), "{how:?} {round}: {}", answer.text());
            let kept = answer.kept();
            history.push(kept.clone());
            history.push(outputs(&kept));
        }
        let (last, _) = &replicas[ROUNDS % 2];
        last.ask(&client, &history).await;
        // Each turn has one signature, on its first call.
        last.took(ROUNDS);
        for (gateway, store) in &replicas {
            for event in [Event::Missed, Event::LoadFailed, Event::CommitFailed, Event::CommitLate, Event::Sentinel] {
                assert_eq!(gateway.count(event), 0, "{how:?} {event:?}");
            }
            assert!(gateway.count(Event::Restored) > 0);
            let snapshot = store.snapshot();
            assert_eq!((snapshot.failed, snapshot.damaged, snapshot.opened), (0, 0, 0));
            assert!(snapshot.changed > 0, "{snapshot:?}");
        }
    }
}

/// Rule 4: without its server a gateway answers, only without replay, and soon without delay.
#[tokio::test]
async fn a_gateway_whose_server_hangs_goes_on_and_recovers() {
    let server = Server::start();
    let provider = provider(400);
    let (gateway, store) = {
        let builder = RedisStore::builder(server.connect().await).breaker(2, Duration::from_millis(300));
        let store = builder.operation_timeout(Duration::from_millis(300)).build().unwrap();
        let builder = ReplayLayer::builder(store.clone()).hash_key(HashKey::from_bytes(KEY));
        (Gateway::with(&provider, builder.build_layer().unwrap()), store)
    };
    let client = Client::new(API, How::Sse);
    let first = gateway.ask(&client, &[user("Look around")]).await;
    let history = [user("Look around"), first.kept(), outputs(&first.kept())];
    server.freeze();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let begin = Instant::now();
        let answer = gateway.ask(&client, &history).await;
        waits.push(begin.elapsed());
        assert_eq!(answer.status, 200);
    }
    println!("{waits:?}");
    assert!(store.snapshot().opened >= 1);
    let slow = waits.iter().filter(|wait| **wait > Duration::from_millis(45)).count();
    assert!(slow < waits.len() - 2, "{waits:?}");
    server.thaw();
    let restored = gateway.count(Event::Restored);
    let deadline = Instant::now() + Duration::from_secs(10);
    while gateway.count(Event::Restored) == restored {
        assert!(Instant::now() < deadline, "{:?}", store.snapshot());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(gateway.ask(&client, &history).await.status, 200);
    }
}
