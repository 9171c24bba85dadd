//! What the pages say of the code, held against it.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use crate::{
    engine::Event,
    ledger::Limits,
    scope::{provenance::ACCOUNTS, session, tenant::KEYS},
    store,
};

const SESSIONS: &str = include_str!("sessions.rs");
const LIMITS: &str = include_str!("limits.rs");
const THREATS: &str = include_str!("threat_model.rs");
const OBSERVABILITY: &str = include_str!("observability.rs");
const UPGRADES: &str = include_str!("upgrades.rs");

/// The cells of the rows of the table whose first heading is this.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let head = format!("//! | {heading} |");
    let lines = page.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = lines.map_while(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!rows.is_empty(), "there is no table of {heading:?}");
    rows
}

/// What stands in the first cells, without their back-ticks and links.
fn names(page: &str, heading: &str) -> Vec<String> {
    let first = |row: Vec<String>| row[0].split('`').nth(1).unwrap().to_owned();
    table(page, heading).into_iter().map(first).collect()
}

#[test]
fn the_sources_of_sessions_are_those_of_the_code_in_their_order() {
    assert_eq!(names(SESSIONS, "header"), session::HEADERS);
    assert_eq!(names(SESSIONS, "field of the body"), session::FIELDS);
    assert_eq!(names(SESSIONS, "header of an agent"), session::AGENTS);
    for name in KEYS.into_iter().chain(ACCOUNTS) {
        assert!(SESSIONS.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_events_are_those_of_the_code_in_their_order() {
    let known: Vec<_> = Event::ALL.iter().map(|event| event.name()).collect();
    assert_eq!(names(OBSERVABILITY, "event"), known);
}

#[test]
fn messages_of_the_log_and_their_fields_are_in_the_code() {
    let sources: String = ["commit", "exchange", "heal", "mod", "observer", "prepare"]
        .map(|name| fs::read_to_string(root().join(format!("src/engine/{name}.rs"))).unwrap())
        .concat();
    for row in table(OBSERVABILITY, "level") {
        let (level, message) = (row[0].trim_matches('`'), row[1].trim_matches('`'));
        let at = sources.find(&format!("\"{message}\"")).unwrap_or_else(|| panic!("nothing says {message:?}"));
        let call = sources[..at].rsplit_once("tracing::").unwrap().1;
        assert!(call.starts_with(&format!("{level}!(")), "{message:?} is not of the level {level}");
        for field in row[2].split(", ") {
            assert!(call.contains(field.trim_matches('`')), "{message:?} has no {field}");
        }
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

fn time(time: Duration) -> String {
    if time.as_millis() < 1_000 { format!("{} ms", time.as_millis()) } else { format!("{} s", time.as_secs()) }
}

fn number(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

#[test]
fn defaults_of_limits_are_those_of_the_code() {
    let config = crate::engine::config::Config::default();
    let expected = [
        ("max_request", size(config.max_request)),
        ("max_event", size(config.max_event)),
        ("max_signature", size(config.max_signature)),
        ("max_turn", size(config.max_turn)),
        ("load_timeout", time(config.load_timeout)),
        ("reload_timeout", time(config.reload_timeout)),
        ("commit_wait", time(config.commit_wait)),
        ("commit_queue", format!("{} commits, {}", number(config.queue_entries), size(config.queue_bytes))),
        ("max_hashes", size(config.max_hashes)),
        ("max_spare", size(config.max_spare)),
    ];
    let rows = table(LIMITS, "setting");
    assert_eq!(rows.len(), expected.len());
    for (row, (name, default)) in rows.iter().zip(expected) {
        assert!(row[0].starts_with(&format!("[`{name}`]")), "{row:?}");
        assert_eq!(row[1], default, "{name}");
    }
    let limits = Limits::default();
    for (name, default) in [("items of one ledger", number(limits.items)), ("bytes of one ledger", size(limits.bytes))]
    {
        let line = format!("//! | {name} | {default} | {default} | {default} |");
        assert!(LIMITS.contains(&line), "{line}");
    }
}

#[test]
fn versions_of_what_is_stored_are_those_of_the_code() {
    let rows = table(UPGRADES, "what");
    assert_eq!(rows[0][1], store::codec::VERSION.to_string());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the file or the folder of a test target holds.
fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_tests_that_are_named_for_claims_are_there() {
    let mut named = BTreeSet::new();
    let mut file: Option<&str> = None;
    for word in THREATS.split('`') {
        let is_file = word.starts_with("tests/") || word.starts_with("src/");
        let is_test =
            word.contains('_') && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_file {
            file = Some(word);
        } else if is_test
            && let Some(file) = file
            && !word.starts_with("max_")
        {
            named.insert((file, word));
        }
    }
    assert!(named.len() > 25, "{named:?}");
    for (file, test) in named {
        assert!(text(file).contains(&format!("fn {test}(")), "{file} has no {test}");
    }
}
