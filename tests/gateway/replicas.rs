//! Gateways that share what they remember on a server.

use std::time::{Duration, Instant};

use http::StatusCode;
use redis::cmd;
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Conversation, get},
    families::counted,
    family::Family,
    process::Gateway,
    server::Server,
    stores::{Exchange, Folder, HEX, refused, taken},
    upstream::serve,
};

/// They start at the same time, and no key is given.
#[tokio::test]
async fn a_conversation_of_each_family_alternates_between_gateways() {
    let server = Server::start();
    for mut exchange in Exchange::of_each_family(true) {
        let upstream = exchange.serve().await;
        let prefix = format!("{}:", exchange.name());
        let flags = ["--store", &server.url(), "--store-prefix", &prefix, "--fallback", "off"];
        let gateways = std::thread::scope(|scope| {
            [(); 2].map(|()| scope.spawn(|| Gateway::before(upstream, &flags))).map(|one| one.join().unwrap())
        });
        for turn in 0..6 {
            exchange.turn(&gateways[turn % 2]).await;
        }
        assert!(exchange.genuine() >= 2, "{}", exchange.name());
        for gateway in gateways {
            let metrics = get(gateway.address, "/metrics").await;
            crate::operations::families(metrics.text());
            assert!(metrics.text().contains("\nreasoning_replay_store_failed_total 0\n"), "{}", metrics.text());
            if let Some(family) = Family::ALL.into_iter().find(|family| family.name() == exchange.name()) {
                assert_eq!(exchange.genuine(), 5, "{family:?}");
                assert_eq!(counted(&gateway, family, "missed").await, 0, "{family:?}");
            }
            gateway.terminate();
            let log = gateway.ended().await.log;
            assert!(log.contains("does not protect against a stolen store"), "{log}");
            let key: String = server.ask(cmd("GET").arg(format!("{prefix}hash-key"))).await;
            assert!(key.len() == 64 && !log.contains(&key), "{log}");
        }
    }
}

/// What is there can be read by nobody who has not the key, and secrets are in no log.
#[tokio::test]
async fn a_sealed_store_and_its_log_tell_no_secrets() {
    const PASSWORD: &str = "password-of-the-operator";
    let server = Server::start_with(&["--requirepass", PASSWORD]);
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}/1", server.port);
    let folder = Folder::new();
    let seal = folder.file("seal");
    let other = HEX.replace('0', "f");
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let flags = ["--store", &*url, "--seal-key-file", &*seal, "--fallback", "off"];
    let mut conversation = Conversation::new("", true);
    let mut log = String::new();
    // The second gateway has another key for what it adds, and the third knows only that.
    for (keys, status) in [(HEX.to_owned(), 200), (format!("{other}\n\n{HEX}\n"), 200), (other.clone(), 400)] {
        std::fs::write(&seal, keys).unwrap();
        let gateway = Gateway::with_key(HEX, upstream, &flags);
        let answer = conversation.turn(gateway.address).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        gateway.terminate();
        log += &gateway.ended().await.log;
    }
    let mut connection = redis::Client::open(&*url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let names: Vec<String> = cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert_eq!(names.len(), 1, "a key that was given is not stored: {names:?}");
    let held: Vec<Vec<u8>> = cmd("HGETALL").arg(&names[0]).query_async(&mut connection).await.unwrap();
    let held = held.concat();
    let issued = provider.issued();
    assert!(issued.len() >= 2);
    for issued in issued {
        let signature = issued.signature.as_bytes();
        assert!(!held.windows(signature.len()).any(|window| window == signature));
    }

    // A password that is wrong costs replay only, and is no more told.
    let wrong = url.replace(PASSWORD, "wrong-password");
    let gateway = Gateway::before(upstream, &["--store", &wrong]);
    taken("with a wrong password", &Conversation::new("", false).turn(gateway.address).await);
    gateway.terminate();
    log += &gateway.ended().await.log;
    assert!(log.contains("there is no hash key yet"), "{log}");
    for secret in [PASSWORD, "wrong-password", HEX, &other] {
        assert!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
    }
}

#[test]
fn bad_seals_and_urls_are_told() {
    let folder = Folder::new();
    let (seal, missing) = (folder.file("seal"), folder.file("missing"));
    let url = "redis://:hunter2@127.0.0.1:1/";
    for text in ["", "\n", &HEX[1..], &format!("{HEX}\n{}", HEX.replace('0', "g"))] {
        std::fs::write(&seal, text).unwrap();
        let said = refused(HEX, &["--store", url, "--seal-key-file", &seal]);
        assert!(said.contains("keys of 64 hexadecimal digits") && said.contains(&seal), "{said}");
        assert!(!said.contains(&HEX[1..]), "{said}");
    }
    let said = refused(HEX, &["--store", url, "--seal-key-file", &missing]);
    assert!(said.contains("openssl rand -hex 32") && said.contains(&missing), "{said}");
    for (flags, reason) in [
        (&["--store", "redis://:hunter2@127.0.0.1:port/"][..], "this is no URL of a server"),
        (&["--store", url, "--store-prefix", ""], "`prefix` is empty"),
        (&["--store", url, "--ttl", "0"], "`ttl` is out of range"),
        (&["--store", url, "--max-ledgers", "7"], "--max-ledgers is not for a store on a server"),
        (&["--store", url, "--max-body", "0"], "max_request is 0"),
    ] {
        let said = refused(HEX, flags);
        assert!(said.contains(reason) && !said.contains("hunter2"), "{flags:?}: {said}");
    }
    assert!(refused("", &["--store", url]).contains("REPLAY_KEY"));
}

/// Has a conversation of two turns; whether the second found what the first had left.
async fn replays(gateway: &Gateway) -> bool {
    let mut conversation = Conversation::new("", false);
    taken("a first turn", &conversation.turn(gateway.address).await);
    conversation.ask(gateway.address).await.status == StatusCode::OK
}

async fn comes_to_replay(gateway: &Gateway) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !replays(gateway).await {
        assert!(Instant::now() < deadline, "replay does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_down_costs_replay_only() {
    let mut server = Server::start();
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let url = server.url();
    let flags = ["--store", &*url, "--fallback", "off"];
    server.kill();
    // One with a key of its own, and one that is to get it from the server.
    let gateways = [Gateway::with_key(HEX, upstream, &[&flags[..], &["--store-prefix", "keyed:"]].concat()), {
        Gateway::before(upstream, &flags)
    }];
    for gateway in &gateways {
        for _ in 0..4 {
            assert!(!replays(gateway).await);
        }
    }
    assert!(server.run());
    for gateway in &gateways {
        comes_to_replay(gateway).await;
    }
    server.kill();
    for gateway in &gateways {
        for _ in 0..8 {
            assert!(!replays(gateway).await);
        }
        let metrics = get(gateway.address, "/metrics").await;
        assert!(metrics.text().contains("\nreasoning_replay_store_is_left_alone 1\n"), "{}", metrics.text());
    }
    // It comes back empty, without the hash key: the gateway gives it again, and one that joins has the same.
    assert!(server.run());
    for gateway in &gateways {
        comes_to_replay(gateway).await;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.ask::<Option<String>>(cmd("GET").arg("reasoning-replay:hash-key")).await.is_none() {
        assert!(Instant::now() < deadline, "the key does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut conversation = Conversation::new("", false);
    taken("a first turn", &conversation.turn(gateways[1].address).await);
    let joined = Gateway::before(upstream, &flags);
    taken("a second turn", &conversation.ask(joined.address).await);
}

#[tokio::test]
async fn what_another_has_put_in_the_place_of_the_key_is_told() {
    let server = Server::start();
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let () = server.ask(cmd("SET").arg("reasoning-replay:hash-key").arg("no key")).await;
    let gateway = Gateway::before(upstream, &["--store", &server.url(), "--fallback", "off"]);
    assert!(!replays(&gateway).await);
    // Someone mends it; then gateways follow.
    let () = server.ask(cmd("SET").arg("reasoning-replay:hash-key").arg(HEX)).await;
    comes_to_replay(&gateway).await;
    gateway.terminate();
    let log = gateway.ended().await.log;
    assert!(log.contains("reasoning-replay:hash-key on the server: a hash key is 64"), "{log}");
    assert!(!log.contains("no key\"") && !log.contains(HEX), "{log}");
}
