//! The two paths that the gateway answers itself.

use std::fmt::Write;

use axum::{Router, routing::get};
use http::header::CONTENT_TYPE;
use tower_reasoning_replay::Engine;

use crate::{replay::Replay, store::Opened};

pub(crate) fn is_own(path: &str) -> bool {
    matches!(path, "/healthz" | "/metrics")
}

/// Other methods than GET and HEAD are answered with `405 Method Not Allowed`.
pub(crate) fn router(replay: Replay) -> Router {
    let metrics = move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&replay)) };
    Router::new().route("/healthz", get("ok")).route("/metrics", get(metrics))
}

/// The text format of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
fn text(replay: &Replay) -> String {
    let mut text = String::new();
    family(&mut text, "gateway_info", "gauge", "The version of the gateway.");
    sample(&mut text, "gateway_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
    if let Some(engine) = replay.engine() {
        events(&mut text, &engine);
    }
    if let Some(store) = replay.store() {
        held(&mut text, store);
    }
    text
}

fn events(text: &mut String, engine: &Engine) {
    let name = "reasoning_replay_events_total";
    family(text, name, "counter", "What happened to exchanges.");
    for (dialect, event, count) in engine.counters().iter() {
        sample(text, name, &format!("{{dialect=\"{dialect}\",event=\"{}\"}}", event.name()), count);
    }
}

fn held(text: &mut String, store: &Opened) {
    for (name, help, value) in rows(store) {
        let name = format!("reasoning_replay_store_{name}");
        family(text, &name, if name.ends_with("_total") { "counter" } else { "gauge" }, help);
        sample(text, &name, "", value);
    }
}

fn rows(store: &Opened) -> Vec<(&'static str, &'static str, u64)> {
    match store {
        Opened::Memory(store) => {
            let now = store.snapshot();
            vec![
                ("ledgers", LEDGERS, now.ledgers as u64),
                ("turns", TURNS, now.turns as u64),
                ("items", ITEMS, now.items as u64),
                ("bytes", BYTES, now.bytes),
                ("evicted_ledgers_total", EVICTED_LEDGERS, now.evicted_ledgers),
                ("expired_ledgers_total", EXPIRED_LEDGERS, now.expired_ledgers),
                ("evicted_turns_total", EVICTED_TURNS, now.evicted_turns),
            ]
        }
        #[cfg(feature = "disk")]
        Opened::Disk(store) => {
            let now = store.snapshot();
            vec![
                ("ledgers", LEDGERS, now.ledgers as u64),
                ("turns", TURNS, now.turns),
                ("items", ITEMS, now.items),
                ("bytes", BYTES, now.bytes),
                ("file_bytes", "Bytes of the file.", now.file_bytes),
                ("queued", "Writes that await the disk.", now.queued as u64),
                ("evicted_ledgers_total", EVICTED_LEDGERS, now.evicted_ledgers),
                ("expired_ledgers_total", EXPIRED_LEDGERS, now.expired_ledgers),
                ("evicted_turns_total", EVICTED_TURNS, now.evicted_turns),
                ("transactions_total", "Transactions that were committed.", now.transactions),
                ("reads_total", "Loads that have read the file.", now.reads),
                ("damaged_turns_total", "Model responses that were found damaged.", now.damaged_turns),
                ("refused_total", "Operations that were refused because too many awaited the disk.", now.refused),
                ("failed_total", "Operations that have failed because the disk did.", now.failed),
            ]
        }
        #[cfg(feature = "redis")]
        Opened::Redis(store) => {
            let now = store.snapshot();
            vec![
                ("is_left_alone", "Whether the server is left alone after failures: 1 if so.", u64::from(now.is_open)),
                ("left_alone_total", "How often the server was left alone after failures.", now.opened),
                ("refused_total", "Operations that were not tried because of that.", now.refused),
                ("failed_total", "Operations that were tried and have failed.", now.failed),
                ("retried_total", "Attempts that followed one that had failed.", now.retried),
                ("loads_same_total", "Loads that found what this process had.", now.same),
                ("loads_changed_total", "Loads that found what had changed.", now.changed),
                ("loads_whole_total", "Loads that transferred a whole conversation.", now.whole),
                ("loads_missed_total", "Loads that found nothing.", now.missed),
                ("damaged_turns_total", "Model responses that could not be read.", now.damaged),
            ]
        }
    }
}

const LEDGERS: &str = "Conversations that are remembered.";
const TURNS: &str = "Model responses that are remembered.";
const ITEMS: &str = "Pieces of state that are remembered.";
const BYTES: &str = "Bytes that they take.";
const EVICTED_LEDGERS: &str = "Conversations that went because the store was full.";
const EXPIRED_LEDGERS: &str = "Conversations that went because nobody used them.";
const EVICTED_TURNS: &str = "Model responses that went because a bound was reached.";

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(text, "{name}{labels} {value}");
}
