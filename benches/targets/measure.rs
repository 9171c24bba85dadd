//! The least time of things that are run by turns, and the tables.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};

/// How long the things of one line are run, at least.
pub(crate) const BUDGET: Duration = Duration::from_millis(400);

/// The least time of each of several things, in nanoseconds, by turns in one process.
pub(crate) fn least<const N: usize>(mut things: [&mut dyn FnMut(); N]) -> [f64; N] {
    // Short things are repeated until the clock is no matter; a long one, and what is run beside it, is run fewer times.
    let mut round = 0;
    let repeats = things.each_mut().map(|thing| {
        thing();
        let start = Instant::now();
        thing();
        let once = start.elapsed().as_nanos().max(1);
        round += once;
        u32::try_from((20_000 / once).clamp(1, 4_000)).unwrap_or(1)
    });
    let rounds = if round > 1_000_000_000 { 1 } else { 9 };
    let mut least = [f64::INFINITY; N];
    let (start, mut done) = (Instant::now(), 0);
    while done < rounds || start.elapsed() < BUDGET {
        for (at, thing) in things.iter_mut().enumerate() {
            let start = Instant::now();
            (0..repeats[at]).for_each(|_| thing());
            least[at] = least[at].min(start.elapsed().as_nanos() as f64 / f64::from(repeats[at]));
        }
        done += 1;
    }
    least
}

/// Looks for a byte that is not there.
pub(crate) fn memchr(body: &[u8]) {
    black_box(memchr::memchr(0, black_box(body)));
}

/// A copy into memory of its own.
pub(crate) fn memcpy(body: &[u8]) {
    black_box(Bytes::copy_from_slice(black_box(body)));
}

pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        0.0..1e3 => format!("{nanoseconds:.1} ns"),
        1e3..1e6 => format!("{:.1} µs", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    }
}

/// A table in Markdown, and for the record.
pub(crate) struct Table {
    name: &'static str,
    rows: Vec<Value>,
}

impl Table {
    pub(crate) fn new(name: &'static str, head: &[&str]) -> Self {
        println!("\n## {name}\n\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        Self { name, rows: Vec::new() }
    }

    /// A target that is an upper bound. `measured` is in the unit of the target, `shown` says more.
    pub(crate) fn target(&mut self, id: &str, what: &str, target: f64, measured: f64, unit: &str, shown: &str) {
        let met = measured <= target;
        let digits = if target < 0.1 && target > 0.0 { 5 } else { 2 };
        let shown = if shown.is_empty() { String::new() } else { format!(" ({shown})") };
        println!(
            "| {id} | {what} | ≤ {target} {unit} | {measured:.digits$} {unit}{shown} | {} |",
            if met { "yes" } else { "no" }
        );
        self.rows
            .push(json!({"id": id, "what": what, "target": target, "measured": measured, "unit": unit, "met": met}));
    }

    /// How long this crate takes for something, and how long another library.
    pub(crate) fn beside(&mut self, what: &str, library: &str, ours: f64, theirs: f64) {
        println!("| {what} | {library} | {} | {} | {:.1} × |", time(ours), time(theirs), theirs / ours);
        self.rows.push(json!({"what": what, "library": library, "ours_ns": ours, "theirs_ns": theirs}));
    }

    pub(crate) fn record(self) -> (String, Value) {
        (self.name.to_owned(), self.rows.into())
    }
}
