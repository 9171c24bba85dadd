//! A gateway that remembers in a file.

use http::StatusCode;
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Conversation, get},
    families::counted,
    family::Family,
    process::{Gateway, run},
    stores::{Exchange, Folder, HEX, refused, taken},
    upstream::serve,
};

/// In three ways: told to stop, killed, and told to stop again.
#[tokio::test]
async fn a_restart_costs_no_conversation_of_any_family() {
    let folder = Folder::new();
    for (number, mut exchange) in Exchange::of_each_family(true).into_iter().enumerate() {
        let upstream = exchange.serve().await;
        let store = format!("disk:{}", folder.file(&number.to_string()));
        let flags = ["--store", &*store, "--fallback", "off"];
        let mut gateway = Gateway::before(upstream, &flags);
        exchange.turn(&gateway).await;
        for is_killed in [false, true, false] {
            if is_killed {
                gateway.kill();
            } else {
                gateway.terminate();
                let ended = gateway.ended().await;
                assert!(ended.status.success(), "{}", ended.log);
                assert!(ended.log.contains("the store is on disk"), "{}", ended.log);
                assert!(ended.log.contains("does not protect against one who steals both"), "{}", ended.log);
            }
            gateway = Gateway::before(upstream, &flags);
            exchange.turn(&gateway).await;
        }
        assert!(exchange.genuine() >= 2, "{}", exchange.name());
        if let Some(family) = Family::ALL.into_iter().find(|family| family.name() == exchange.name()) {
            assert_eq!(exchange.genuine(), 3, "{family:?}");
            assert_eq!(counted(&gateway, family, "missed").await, 0, "{family:?}");
        }
    }
}

#[tokio::test]
async fn the_key_is_made_once_and_belongs_to_its_owner() {
    let folder = Folder::new();
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let (store, key) = (format!("disk:{}", folder.file("store")), folder.file("key"));
    let flags = ["--store", &*store, "--key-file", &*key, "--fallback", "off"];
    let mut conversation = Conversation::new("", false);
    let mut made = None;
    for _ in 0..2 {
        let gateway = Gateway::before(upstream, &flags);
        taken("with a key in a file", &conversation.turn(gateway.address).await);
        let text = std::fs::read_to_string(&key).unwrap();
        assert_eq!(text.trim().len(), 64);
        assert_eq!(*made.get_or_insert_with(|| text.clone()), text);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap());
            assert_eq!(mode & 0o777, 0o600);
        }
        gateway.terminate();
        let log = gateway.ended().await.log;
        assert!(!log.contains(text.trim()), "the key is in the log:\n{log}");
        assert!(!log.contains("steals"), "{log}");
    }
    assert!(!std::fs::exists(folder.file("store.key")).unwrap());
    // The flag counts, and not the variable.
    let gateway = Gateway::with_key(HEX, upstream, &flags);
    taken("with a variable too", &conversation.ask(gateway.address).await);
    gateway.kill();
    // With another key nothing is found.
    let gateway = Gateway::with_key(HEX, upstream, &["--store", &store, "--fallback", "off"]);
    assert_eq!(conversation.ask(gateway.address).await.status, StatusCode::BAD_REQUEST);
}

#[test]
fn bad_keys_and_files_are_told() {
    let folder = Folder::new();
    let (short, store) = (folder.file("short"), folder.file("store"));
    std::fs::write(&short, &HEX[..62]).unwrap();
    let flags = ["--store", &*format!("disk:{store}"), "--key-file", &*short];
    let output = run(&flags);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&short) && said.contains("64 hexadecimal digits, but there are not 64"), "{said}");
    assert!(!said.contains(&HEX[..62]));
    assert!(!std::fs::exists(&store).unwrap(), "nothing is made before the key is known");

    let said = refused(&HEX[..62], &flags[..2]);
    assert!(said.contains("REPLAY_KEY: a hash key is 64 hexadecimal digits") && !said.contains(&HEX[..62]), "{said}");
    let said = refused(HEX, &["--store", &format!("disk:{}", folder.file("no/such/folder"))]);
    assert!(said.contains("could not be opened"), "{said}");
    let said = refused(HEX, &["--store", &format!("disk:{short}")]);
    assert!(said.contains("is not a file of this store"), "{said}");
    let said = refused(HEX, &[flags[0], flags[1], "--ttl", "0"]);
    assert!(said.contains("`ttl` is zero"), "{said}");
}

#[tokio::test]
async fn a_file_serves_one_gateway_and_tells_what_it_holds() {
    let folder = Folder::new();
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let store = format!("disk:{}", folder.file("store"));
    let gateway = Gateway::with_key(HEX, upstream, &["--store", &store]);
    Conversation::new("", true).turn(gateway.address).await;
    assert!(refused(HEX, &["--store", &store]).contains("in use by another process"));
    let metrics = get(gateway.address, "/metrics").await;
    for line in ["ledgers 1", "turns 1", "failed_total 0", "damaged_turns_total 0"] {
        let line = format!("\nreasoning_replay_store_{line}\n");
        assert!(metrics.text().contains(&line), "{line}{}", metrics.text());
    }
    crate::operations::families(metrics.text());
}
