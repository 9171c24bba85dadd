//! How the story is told, and whether it is true.

use std::{collections::BTreeMap, error::Error, process::ExitCode};

use http::StatusCode;
use tower_reasoning_replay::{Engine, MemoryStore, ReplayLayer, engine::Summary};

/// How a chapter ends: an error is nothing that the story tells.
pub(crate) type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

pub(crate) struct Story {
    chapters: usize,
    checks: usize,
    failures: Vec<String>,
    engines: Vec<Engine>,
    /// Whether what happens is told, or only checked; and how many failures there were when that began.
    silent: Option<usize>,
}

impl Story {
    pub(crate) fn begin() -> Self {
        println!("A client that drops all reasoning state talks to providers that want it back.");
        println!("The providers are strict fakes in this process; nothing goes over a network.");
        Self { chapters: 0, checks: 0, failures: Vec::new(), engines: Vec::new(), silent: None }
    }

    pub(crate) fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        self.silent = None;
        println!("\n{}. {title}", self.chapters);
    }

    pub(crate) fn scene(&self, title: &str) {
        self.tell(&format!("\n   {title}"));
    }

    pub(crate) fn tell(&self, line: &str) {
        if self.silent.is_none() {
            println!("{line}");
        }
    }

    /// From here on everything is checked, and nothing is told.
    pub(crate) fn silently(&mut self) {
        self.silent = Some(self.failures.len());
    }

    /// Says that what was checked in silence went as it was told before.
    pub(crate) fn so_too(&mut self, how: &str) {
        if self.silent.take() == Some(self.failures.len()) {
            self.tell(&format!("     == so too {how}"));
        }
    }

    /// A request with a history of so many entries went out, and an answer came.
    pub(crate) fn exchange(&self, entries: usize, status: StatusCode, said: &str, report: Option<Summary>) {
        self.tell(&format!("     -> {entries} {}", if entries == 1 { "entry" } else { "entries" }));
        if let Some(done) = report.and_then(|report| work(&report, status.is_success())) {
            self.tell(&format!("        the layer {done}"));
        }
        self.tell(&format!("     <- {} {}", status.as_u16(), wrap(said)));
    }

    /// Something that has to be so. It is told only if it is not.
    pub(crate) fn expect(&mut self, is_so: bool, what: &str) {
        self.checks += 1;
        if !is_so {
            println!("     !! expected, but not so: {what}");
            self.failures.push(format!("chapter {}: {what}", self.chapters));
        }
    }

    /// Something that has to be so, and is worth telling.
    pub(crate) fn show(&mut self, is_so: bool, what: &str) {
        if is_so {
            self.tell(&format!("     == {what}"));
        }
        self.expect(is_so, what);
    }

    /// A layer that remembers nothing yet: the three lines of the README.
    pub(crate) fn layer(&mut self) -> ReplayLayer {
        self.watched(ReplayLayer::new(MemoryStore::new()))
    }

    /// Adds the counters of a layer to those that are shown in the end.
    pub(crate) fn watched(&mut self, layer: ReplayLayer) -> ReplayLayer {
        self.engines.push(layer.engine().clone());
        layer
    }

    pub(crate) fn end(self) -> ExitCode {
        let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for engine in &self.engines {
            for (dialect, event, count) in engine.counters().iter().filter(|(_, _, count)| *count > 0) {
                *sums.entry((dialect, event.name())).or_default() += count;
            }
        }
        println!("\nThe counters of all layers");
        for ((dialect, event), count) in &sums {
            println!("   {dialect:<12} {event:<20} {count:>4}");
        }
        if self.failures.is_empty() {
            println!("\nAll {} expectations of {} chapters were met.", self.checks, self.chapters);
            return ExitCode::SUCCESS;
        }
        println!("\n{} of {} expectations were not met:", self.failures.len(), self.checks);
        self.failures.iter().for_each(|failure| println!("   {failure}"));
        ExitCode::FAILURE
    }
}

/// What the layer did to a request; `None` if nothing.
fn work(report: &Summary, answered: bool) -> Option<String> {
    let count = |count: u32, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let state = count(report.restored, "piece of state", "pieces of state");
    let calls = count(report.calls_restored, "call", "calls").map(|what| format!(" and {what}")).unwrap_or_default();
    let sentinels = count(report.sentinels, "stand-in", "stand-ins");
    let done = [
        state.map(|what| format!("puts back {what}{calls}")),
        sentinels.map(|what| if answered { format!("sets {what}") } else { format!("tries {what}, in vain") }),
        report.healed.then(|| "sends the refused request once more".to_owned()),
    ];
    let done: Vec<String> = done.into_iter().flatten().collect();
    (!done.is_empty()).then(|| done.join(", "))
}

/// Breaks long lines, indented to stand behind a status.
fn wrap(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split_inclusive([' ', '\n']) {
        let length = word.chars().count();
        if column > 0 && column + length > WIDTH {
            wrapped.push_str("\n            ");
            column = 0;
        }
        wrapped.push_str(word);
        column += length;
        if word.ends_with('\n') {
            wrapped.push_str("            ");
            column = 0;
        }
    }
    wrapped
}
