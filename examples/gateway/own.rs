//! The two paths that the gateway answers itself.

use std::fmt::Write;

use axum::{Router, routing::get};
use http::header::CONTENT_TYPE;
use tower_reasoning_replay::{Engine, MemoryStore, store::MemorySnapshot};

/// What `/metrics` tells about.
#[derive(Clone)]
pub(crate) struct Replay {
    pub(crate) engine: Engine,
    pub(crate) store: MemoryStore,
}

pub(crate) fn is_own(path: &str) -> bool {
    matches!(path, "/healthz" | "/metrics")
}

/// Other methods than GET and HEAD are answered with `405 Method Not Allowed`.
pub(crate) fn router(replay: Option<Replay>) -> Router {
    let metrics = move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(replay)) };
    Router::new().route("/healthz", get("ok")).route("/metrics", get(metrics))
}

/// The text format of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
fn text(replay: Option<Replay>) -> String {
    let mut text = String::new();
    family(&mut text, "gateway_info", "gauge", "The version of the gateway.");
    sample(&mut text, "gateway_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
    if let Some(replay) = replay {
        events(&mut text, &replay.engine);
        held(&mut text, &replay.store.snapshot());
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

fn held(text: &mut String, store: &MemorySnapshot) {
    let gauges = [
        ("ledgers", "Conversations that are remembered.", store.ledgers as u64),
        ("turns", "Model responses that are remembered.", store.turns as u64),
        ("items", "Pieces of state that are remembered.", store.items as u64),
        ("bytes", "Bytes that they take.", store.bytes),
    ];
    let counters = [
        ("evicted_ledgers_total", "Conversations that went because the store was full.", store.evicted_ledgers),
        ("expired_ledgers_total", "Conversations that went because nobody used them.", store.expired_ledgers),
        ("evicted_turns_total", "Model responses that went because a bound was reached.", store.evicted_turns),
    ];
    for (kind, rows) in [("gauge", &gauges[..]), ("counter", &counters)] {
        for (name, help, value) in rows {
            let name = format!("reasoning_replay_store_{name}");
            family(text, &name, kind, help);
            sample(text, &name, "", *value);
        }
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(text, "{name}{labels} {value}");
}
