//! What things took before, in `benches/instructions.json`.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::{Map, Value, json};

use crate::ratio;

/// By how many percent a count may exceed what was written down: hash tables with random keys make 1 or 2 of them.
pub(crate) const TOLERANCE: f64 = 3.0;

/// By name: how many instructions, and for how many bytes.
pub(crate) type Counts = BTreeMap<String, (u64, u64)>;

pub(crate) struct Baseline {
    /// What the counts belong to.
    machine: String,
    instructions: BTreeMap<String, u64>,
    /// Ratios that miss their target, and what they may not exceed until they meet it.
    known: BTreeMap<String, f64>,
}

/// What counts depend on: the compiler, the C library, and the processor, by which that chooses how it copies.
fn machine() -> String {
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let parts = [said(&compiler, "--version"), said("getconf", "GNU_LIBC_VERSION"), processor];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn is_within(measured: f64, bound: f64) -> bool {
    measured <= bound * (1.0 + TOLERANCE / 100.0)
}

/// Thousands apart.
fn digits(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap()).collect();
    parts.join(",")
}

impl Baseline {
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read(file).unwrap_or_else(|_| b"{}".to_vec());
        let value: Value = serde_json::from_slice(&text).expect("benches/instructions.json is not JSON");
        let members = |name: &str| value[name].as_object().cloned().unwrap_or_default();
        Self {
            machine: value["machine"].as_str().unwrap_or_default().to_owned(),
            instructions: members("instructions")
                .into_iter()
                .map(|(name, count)| (name, count.as_u64().unwrap()))
                .collect(),
            known: members("known").into_iter().map(|(name, bound)| (name, bound.as_f64().unwrap())).collect(),
        }
    }

    pub(crate) fn write(&self, file: &Path) {
        let known: Map<String, Value> = self.known.iter().map(|(name, bound)| (name.clone(), json!(bound))).collect();
        let value = json!({
            "about": "Instructions counted by `cargo bench --bench instructions`; `known` are ratios that miss their target, and may only get better.",
            "machine": self.machine,
            "instructions": self.instructions,
            "known": known,
        });
        std::fs::write(file, serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
    }

    /// Prints both tables. Whether nothing got worse; with all cases there, none may be unknown or missing.
    pub(crate) fn compare(&self, counts: &Counts, is_all: bool) -> bool {
        let mut is_good = true;
        let here = machine();
        let is_same = here == self.machine;
        if !is_same {
            println!(
                "The counts belong to another machine, and only ratios are checked.\nThere: {}\nHere: {here}\n",
                self.machine
            );
        }
        println!("| what | instructions | per byte | before | |\n|---|---|---|---|---|");
        for (name, (count, bytes)) in counts {
            let before = self.instructions.get(name);
            let change = before.map(|before| 100.0 * (*count as f64 / *before as f64 - 1.0));
            let verdict = match change {
                None => "**not written down**".to_owned(),
                Some(change) if change > TOLERANCE => format!("**{change:+.1} %**"),
                Some(change) => format!("{change:+.1} %"),
            };
            is_good &= change.is_some_and(|change| change <= TOLERANCE || !is_same);
            let per_byte = *count as f64 / *bytes as f64;
            let before = before.map(|before| digits(*before)).unwrap_or_default();
            println!("| {name} | {} | {per_byte:.2} | {before} | {verdict} |", digits(*count));
        }
        println!("\n| id | what | target | measured | met |\n|---|---|---|---|---|");
        for one in ratio::ratios() {
            let Some(measured) = one.measured(counts) else { continue };
            let verdict = match self.known.get(&one.name) {
                _ if measured <= one.target => "yes".to_owned(),
                Some(known) if is_within(measured, *known) => format!("no, known: {known:.3}"),
                Some(known) => format!("**no, and worse than the known {known:.3}**"),
                None => "**no**".to_owned(),
            };
            is_good &= !verdict.starts_with('*');
            println!("| {} | {} | ≤ {} | {measured:.3} | {verdict} |", one.id, one.name, one.target);
        }
        for name in self.instructions.keys().filter(|name| is_all && !counts.contains_key(*name)) {
            println!("{name}: written down, but not counted");
            is_good = false;
        }
        is_good
    }

    /// Takes these counts for what things take. A known ratio is dropped once it meets its target, and lowered if it got
    /// better; it is never raised: who means that edits the file.
    pub(crate) fn accept(&mut self, counts: &Counts, is_all: bool) {
        self.machine = machine();
        if is_all {
            self.instructions.clear();
        }
        self.instructions.extend(counts.iter().map(|(name, (count, _))| (name.clone(), *count)));
        let ratios = ratio::ratios();
        for one in &ratios {
            let Some(measured) = one.measured(counts) else { continue };
            let rounded = (measured * 1_000.0).ceil() / 1_000.0;
            let known = self.known.remove(&one.name);
            if measured > one.target {
                self.known.insert(one.name.clone(), known.map_or(rounded, |known| known.min(rounded)));
            }
        }
        self.known.retain(|name, _| ratios.iter().any(|one| one.name == *name));
    }
}
