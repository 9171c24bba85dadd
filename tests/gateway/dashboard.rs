//! What the dashboard, the alerts and the guide ask for is exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Conversation, get},
    process::Gateway,
    stores::{Folder, HEX},
    upstream::serve,
};

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&text("examples/gateway/dashboard.json")).unwrap()
}

/// The values of every member of this name, wherever it stands.
fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| members(value, name, found)),
        Value::Object(object) => {
            found.extend(object.get(name));
            object.values().for_each(|value| members(value, name, found));
        }
        _ => {}
    }
}

fn strings(value: &Value, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    members(value, name, &mut found);
    found.iter().filter_map(|value| value.as_str()).map(str::to_owned).collect()
}

fn alerts() -> Vec<String> {
    let text = text("examples/gateway/alerts.yml");
    let expressions: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect();
    assert_eq!(expressions.len(), text.matches("- alert: ").count());
    expressions
}

/// A metric as an expression names it: its labels, and the values that each is asked for.
type Asked = (String, BTreeMap<String, Vec<String>>);

/// The metrics in an expression.
fn asked(expression: &str) -> Vec<Asked> {
    let starts = expression.match_indices("reasoning_replay_").map(|(at, _)| at);
    starts
        .map(|at| {
            let rest = &expression[at..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inner, _)| inner);
            let matchers = selector.split(',').filter_map(|matcher| matcher.split_once('='));
            let labels = matchers.map(|(label, value)| {
                let value = value.trim_start_matches('~').trim_matches('"');
                let values = value.split('|').filter(|value| !value.starts_with('$')).map(str::to_owned).collect();
                (label.to_owned(), values)
            });
            (name.to_owned(), labels.collect())
        })
        .collect()
}

/// The names in back-ticks on a page of the guide.
fn on_page(path: &str) -> Vec<Asked> {
    text(path).split('`').filter(|word| word.starts_with("reasoning_replay_")).flat_map(asked).collect()
}

/// What a scrape of Prometheus adds to each series.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];

/// The series of a page of metrics: names, and the labels of each.
fn series(page: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let key = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()));
            (name.to_owned(), labels.collect())
        })
        .collect()
}

#[tokio::test]
async fn what_is_asked_for_is_exported() {
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let folder = Folder::new();
    let disk = format!("disk:{}", folder.file("replay.redb"));
    let mut exported = Vec::new();
    // A server that is not there has a page of metrics, too.
    for store in ["memory", &disk, "redis://127.0.0.1:1"] {
        let gateway = Gateway::with_key(HEX, upstream, &["--store", store]);
        let mut conversation = Conversation::new("", true);
        conversation.turn(gateway.address).await;
        conversation.turn(gateway.address).await;
        exported.extend(series(get(gateway.address, "/metrics").await.text()));
    }

    let dashboard = dashboard();
    let mut expressions = strings(&dashboard, "expr");
    assert!(expressions.len() > 30);
    expressions.extend(strings(&dashboard["templating"], "definition"));
    expressions.extend(alerts());
    let pages = ["src/guide/observability.rs", "src/guide/alerts.rs"].map(on_page);
    assert!(!pages.concat().is_empty());
    let all: Vec<Asked> = expressions.iter().flat_map(|expression| asked(expression)).chain(pages.concat()).collect();
    for (name, labels) in &all {
        let of_name: Vec<_> =
            exported.iter().filter(|(exported, _)| exported == name).map(|(_, labels)| labels).collect();
        assert!(!of_name.is_empty(), "no gateway exports {name}");
        for (label, values) in labels.iter().filter(|(label, _)| !OF_THE_SCRAPE.contains(&&***label)) {
            for value in values {
                let is_there = of_name.iter().any(|labels| labels.get(label) == Some(value));
                assert!(is_there, "{name} has no {label}={value:?}");
            }
            assert!(of_name.iter().all(|labels| labels.contains_key(label)), "{name} has no {label}");
        }
    }

    // The other way round: what an operator could see is on the dashboard.
    let shown: BTreeSet<String> =
        strings(&dashboard, "expr").iter().flat_map(|expression| asked(expression)).map(|asked| asked.0).collect();
    let events: BTreeSet<String> =
        all.iter().filter_map(|(_, labels)| labels.get("event")).flatten().cloned().collect();
    for (name, labels) in exported.iter().filter(|(name, _)| name != "gateway_info") {
        assert!(shown.contains(name), "{name} is on no panel");
        if let Some(event) = labels.get("event") {
            assert!(events.contains(event), "the event {event} is on no panel");
        }
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "reasoning-replay");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let variables = &dashboard["templating"]["list"];
    assert_eq!((&variables[0]["name"], &variables[0]["type"]), (&"datasource".into(), &"datasource".into()));
    let mut sources = Vec::new();
    members(&dashboard, "datasource", &mut sources);
    assert!(sources.iter().all(|source| source["uid"] == "${datasource}"));
    let names: Vec<&str> =
        variables.as_array().unwrap().iter().filter_map(|variable| variable["name"].as_str()).collect();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24);
    }
    for expression in strings(&dashboard, "expr") {
        for variable in expression.split('$').skip(1) {
            let end = variable.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap();
            let name = &variable[..end];
            assert!(names.contains(&name) || name == "__rate_interval", "there is no variable {name}");
        }
    }
}
