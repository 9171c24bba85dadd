//! The table of results, and the documented one.

use std::{fs, path::PathBuf};

use super::{
    clients::Client,
    provider::Protocol,
    run::{Between, Case, Outcome},
    scenario::Scenario,
    verdict::Verdict,
};

/// What a column shows.
const COLUMNS: [(&str, Between, Scenario); 9] = [
    ("keeps state itself", Between::Alone, Scenario::Loop),
    ("kept, with the layer", Between::Kept, Scenario::Loop),
    ("loop", Between::Replay, Scenario::Loop),
    ("loop, named", Between::Named, Scenario::Loop),
    ("parallel", Between::Replay, Scenario::Parallel),
    ("image", Between::Replay, Scenario::Image),
    ("abort", Between::Replay, Scenario::Abort),
    ("switch", Between::Replay, Scenario::Switch),
    ("without the layer", Between::Nothing, Scenario::Loop),
];

/// Between these lines of the document stand the results.
const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- end of the results -->";

/// The results of one client and protocol.
#[derive(Debug)]
pub(crate) struct Row {
    client: &'static Client,
    protocol: Protocol,
    version: Option<String>,
    results: Vec<(Case, Verdict)>,
}

impl Row {
    pub(super) fn new(client: &'static Client, protocol: Protocol) -> Self {
        Self { client, protocol, version: None, results: Vec::new() }
    }

    pub(super) fn name(&self) -> String {
        format!("{}, {}", self.client.name, self.protocol.name())
    }

    pub(super) fn take(&mut self, case: Case, outcome: Outcome) {
        self.version = self.version.take().or(outcome.version);
        self.results.push((case, outcome.verdict));
    }

    /// The results of a column: not streamed, streamed.
    fn of(&self, between: Between, scenario: Scenario) -> Vec<(&Case, &Verdict)> {
        let results = self.results.iter().map(|(case, verdict)| (case, verdict));
        let mut own: Vec<_> =
            results.filter(|(case, _)| (case.between, case.scenario) == (between, scenario)).collect();
        own.sort_by_key(|(case, _)| case.stream);
        own
    }

    /// With what its line in the document begins.
    fn key(&self) -> String {
        format!("| {} | {} |", self.client.name, self.protocol.name())
    }

    fn line(&self) -> String {
        let mut cells = vec![self.version.clone().unwrap_or_default()];
        for (_, between, scenario) in COLUMNS {
            let mut words: Vec<String> =
                self.of(between, scenario).into_iter().map(|(_, verdict)| word(between, verdict)).collect();
            words.dedup();
            cells.push(words.join(" / "));
        }
        format!("{} {} |", self.key(), cells.join(" | "))
    }

    /// With what the notes on it begin.
    fn note(&self) -> String {
        format!("- {}, {}: ", self.client.name, self.protocol.name())
    }

    /// Whatever takes more than a word.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (_, between, scenario) in COLUMNS {
            for (case, verdict) in self.of(between, scenario) {
                if ["fails", "not supported"].contains(&word(between, verdict).as_str()) {
                    notes.push(format!("{}{case}: {verdict}", self.note()));
                }
            }
        }
        notes
    }

    /// Whether the control shows what it should: that without the layer the provider refuses, or gets no state.
    fn proves_nothing(&self) -> bool {
        let control = self.of(Between::Nothing, Scenario::Loop);
        let refused =
            |verdict: &Verdict| matches!(verdict, Verdict::Refused | Verdict::Lacks { .. } | Verdict::NotSupported(_));
        !control.iter().all(|(_, verdict)| refused(verdict))
            || !control.iter().any(|(_, verdict)| matches!(verdict, Verdict::Refused | Verdict::Lacks { .. }))
    }
}

fn word(between: Between, verdict: &Verdict) -> String {
    match (between, verdict) {
        (Between::Alone, Verdict::Works { .. }) => "yes".to_owned(),
        (Between::Alone, Verdict::Refused) => "no".to_owned(),
        (_, Verdict::NotSupported(_)) => "not supported".to_owned(),
        (Between::Alone | Between::Nothing, Verdict::Lacks { .. }) => "no state".to_owned(),
        (_, Verdict::Fails(_) | Verdict::Lacks { .. }) => "fails".to_owned(),
        (_, verdict) => verdict.to_string(),
    }
}

fn document() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md")
}

/// The documented lines, without the head of the table.
fn documented(text: &str) -> Vec<String> {
    let results = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(results, _)| results);
    let is_result = |line: &&str| line.starts_with("| ") && !line.starts_with("| client ") || line.starts_with("- ");
    results.lines().filter(is_result).map(str::to_owned).collect()
}

fn is_of(line: &str, rows: &[Row]) -> bool {
    rows.iter().any(|row| line.starts_with(&row.key()) || line.starts_with(&row.note()))
}

/// Prints the results, and either writes them into the document or compares them with it.
///
/// # Panics
///
/// Panics if the document says something else, or a control was not refused.
pub(crate) fn settle(rows: &[Row]) {
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    let notes: Vec<String> = rows.iter().flat_map(Row::notes).collect();
    println!("\n{}\n", written(&lines, &notes));
    let idle: Vec<String> = rows.iter().filter(|row| row.proves_nothing()).map(Row::name).collect();
    assert!(idle.is_empty(), "without the layer, these are not refused, so that their results say nothing: {idle:?}");

    let text = fs::read_to_string(document()).unwrap();
    let before = documented(&text);
    if std::env::var_os("CLIENTS_WRITE").is_some_and(|write| write == "1") {
        // Others' results stay, each in its place.
        let (mut all, mut all_notes): (Vec<String>, Vec<String>) =
            before.into_iter().partition(|line| line.starts_with('|'));
        for (row, line) in rows.iter().zip(&lines) {
            match all.iter_mut().find(|before| before.starts_with(&row.key())) {
                Some(before) => before.clone_from(line),
                None => all.push(line.clone()),
            }
        }
        all_notes.retain(|line| !is_of(line, rows));
        all_notes.extend(notes);
        let (head, rest) = text.split_once(BEGIN).unwrap();
        let (_, tail) = rest.split_once(END).unwrap();
        let text = format!("{head}{BEGIN}\n\n{}\n\n{END}{tail}", written(&all, &all_notes));
        fs::write(document(), text).unwrap();
        return;
    }
    let now = [lines, notes].concat();
    let new: Vec<&String> = now.iter().filter(|line| !before.contains(line)).collect();
    let gone: Vec<&String> = before.iter().filter(|line| is_of(line, rows) && !now.contains(line)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{} says something else; CLIENTS_WRITE=1 writes it anew\nfound: {new:#?}\ndocumented: {gone:#?}",
        document().display()
    );
}

/// The table and the notes as they stand in the document.
fn written(lines: &[String], notes: &[String]) -> String {
    let columns: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
    let head = format!("| client | protocol | version | {} |", columns.join(" | "));
    let rule = format!("|{}", "---|".repeat(columns.len() + 3));
    let table = [&[head, rule], lines].concat().join("\n");
    if notes.is_empty() { table } else { format!("{table}\n\n{}", notes.join("\n")) }
}
