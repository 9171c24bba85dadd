//! How time and memory grow. Writes charts and tables to `docs/scaling`, and fails where something grows faster than
//! what it is given. See `README.md`.
//!
//! `cargo bench --bench scaling -- turns` measures one section only: `turns`, `histories`, `media`, `unsigned`,
//! `ledger`, `streams`, `ledgers` or `adversarial`; `quick` takes smaller sizes and writes nothing. `instructions` needs
//! valgrind, and counts what the times only show with the caches in them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chart;
mod clock;
mod instructions;
mod streams;
mod talk;
#[path = "../workload/mod.rs"]
mod workload;

use std::{
    alloc::System,
    fmt::Write as _,
    fs,
    hint::black_box,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower_reasoning_replay::{
    Engine, MemoryStore, Store,
    ledger::{Alternative, Anchor, Context as History, Item, Kind, Turn, TurnId, TurnPart},
    scope::Scope,
};

use self::{
    chart::{Chart, Series, Unit},
    streams::{SETTLED, Streams, script},
    talk::{Dialect, Talk},
    workload::{Random, attack, now, pass},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What may be left open at once, and what a body of an attacker may cost, at most.
const STREAM: f64 = 8192.0;
/// How steep a line may be by time. What is above 1 is for what leaves the caches as it grows, and for a busy machine;
/// see `README.md`.
const EXPONENT: f64 = 1.3;
/// How steep a line may be by instructions, which no cache changes.
const INSTRUCTIONS: f64 = 1.05;
/// How many times what an ordinary body costs per byte one that is made to be slow may cost.
const FACTOR: f64 = 60.0;

/// What was found out, and whether it is as it should be.
#[derive(Default)]
struct Findings {
    charts: Vec<Chart>,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Findings {
    fn chart(&mut self, chart: Chart, limit: Option<f64>) {
        println!("\n## {}\n\n{}", chart.title, chart.table());
        for series in &chart.series {
            let exponent = series.exponent();
            self.check(limit.is_none_or(|limit| exponent <= limit), || {
                format!("{}, {}: the exponent is {exponent:.2}", chart.title, series.name)
            });
        }
        self.charts.push(chart);
    }

    fn check(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(failure());
        }
    }
}

type Section = fn(&mut Findings, bool);

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if wanted.iter().any(|wanted| wanted == "count") {
        instructions::repeat(&wanted);
        return ExitCode::SUCCESS;
    }
    let quick = wanted.iter().any(|wanted| wanted == "quick");
    let sections: [(&str, Section); 9] = [
        ("turns", turns),
        ("histories", histories),
        ("media", media),
        ("unsigned", unsigned),
        ("ledger", ledger),
        ("streams", open_streams),
        ("ledgers", ledgers),
        ("adversarial", adversarial),
        ("instructions", instructions::compare),
    ];
    let mut findings = Findings::default();
    for (name, section) in sections {
        let is_usual = name != "instructions" && wanted.iter().all(|wanted| wanted == "quick");
        if is_usual || wanted.iter().any(|wanted| wanted == name) {
            section(&mut findings, quick);
        }
    }
    for failure in &findings.failures {
        println!("NOT AS IT SHOULD BE: {failure}");
    }
    if !quick {
        write(&findings, wanted.is_empty());
    }
    ExitCode::from(u8::from(!findings.failures.is_empty()))
}

fn write(findings: &Findings, is_all: bool) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join("scaling");
    fs::create_dir_all(&directory).unwrap();
    let mut text = String::from(
        "# How time and memory grow\n\n\
         Written by `cargo bench --bench scaling`; [the measurements](../../benches/README.md#how-it-grows) say how to read it.\n\
         *Exponent* is the slope of the last decade on logarithmic axes: 1 is proportional, 0 is constant.\n",
    );
    for chart in &findings.charts {
        fs::write(directory.join(format!("{}.svg", chart.name)), chart.svg()).unwrap();
        writeln!(
            text,
            "\n## {}\n\n![{}]({}.svg)\n\n{}",
            chart.title,
            chart.title,
            chart.name,
            chart.table().trim_end()
        )
        .unwrap();
    }
    if !findings.notes.is_empty() {
        text += "\n## Bounds\n\n";
        findings.notes.iter().for_each(|note| writeln!(text, "- {note}").unwrap());
    }
    if is_all {
        fs::write(directory.join("README.md"), text).unwrap();
    }
}

/// One thing at one size.
struct Case<'a> {
    series: String,
    x: f64,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Case<'a> {
    fn new(series: impl Into<String>, x: usize, run: impl FnMut() + 'a) -> Self {
        Self { series: series.into(), x: x as f64, run: Box::new(run) }
    }
}

/// The least CPU time of each, by turns, in nanoseconds, and what each allocates in all.
fn measure(mut cases: Vec<Case<'_>>, quick: bool) -> (Vec<Series>, Vec<Series>) {
    let (mut times, mut bytes) = (Vec::new(), Vec::new());
    for case in &mut cases {
        (case.run)();
        let region = Region::new(ALLOCATOR);
        (case.run)();
        bytes.push(region.change().bytes_allocated.max(1) as f64);
        times.push(f64::INFINITY);
    }
    for _ in 0..if quick { 5 } else { 10 } {
        for (case, least) in cases.iter_mut().zip(&mut times) {
            let (mut count, start, clock) = (0, Instant::now(), clock::now());
            while count == 0 || start.elapsed() < Duration::from_millis(2) {
                (case.run)();
                count += 1;
            }
            *least = least.min((clock::now() - clock) / f64::from(count));
        }
    }
    let series = |values: &[f64]| {
        let mut all: Vec<Series> = Vec::new();
        for (case, value) in cases.iter().zip(values) {
            let point = (case.x, *value);
            match all.iter_mut().find(|series| series.name == case.series) {
                Some(series) => series.points.push(point),
                None => all.push(Series { name: case.series.clone(), points: vec![point] }),
            }
        }
        all
    };
    (series(&times), series(&bytes))
}

/// A case that restores a body. It is compared with what it has to become, if that is known.
fn restoring<'a>(
    name: &str,
    x: usize,
    dialect: Dialect,
    engine: Engine,
    body: Bytes,
    full: Option<&Bytes>,
) -> Case<'a> {
    let head = dialect.head();
    if let Some(full) = full {
        assert!(pass(&engine, &head, &body) == *full, "{name} at {x}: not the same bytes");
    }
    Case::new(name, x, move || drop(black_box(pass(&engine, &head, &body))))
}

fn sizes<const N: usize>(all: [usize; N], quick: bool) -> Vec<usize> {
    all[..if quick { N - 2 } else { N }].to_vec()
}

fn turns(findings: &mut Findings, quick: bool) {
    let (mut restore, mut nothing) = (Vec::new(), Vec::new());
    for dialect in Dialect::ALL {
        for turns in sizes([10, 30, 100, 300, 1_000, 5_000], quick) {
            let talk = Talk::new(dialect, turns, 0);
            let engine = talk.taught(turns);
            let full = talk.body(0..turns, |_| true);
            let stripped = talk.body(0..turns, |_| false);
            restore.push(restoring(dialect.name(), turns, dialect, engine.clone(), stripped, Some(&full)));
            nothing.push(restoring(dialect.name(), turns, dialect, engine, full.clone(), Some(&full)));
        }
    }
    let (time, bytes) = measure(restore, quick);
    let (x, y, memory) =
        (("turns", Unit::Count), ("CPU time", Unit::Nanoseconds), ("bytes allocated in all", Unit::Bytes));
    findings.chart(
        Chart { name: "turns", title: "Restoring all of a history", x, y, is_log: true, series: time },
        Some(EXPONENT),
    );
    findings.chart(
        Chart { name: "turns-memory", title: "Memory of restoring all", x, y: memory, is_log: true, series: bytes },
        Some(EXPONENT),
    );
    let (time, _) = measure(nothing, quick);
    findings.chart(
        Chart { name: "turns-nothing", title: "A history with nothing to do", x, y, is_log: true, series: time },
        Some(EXPONENT),
    );
}

/// Clients that edit, cut or branch their histories.
fn histories(findings: &mut Findings, quick: bool) {
    let mut cases = Vec::new();
    for dialect in Dialect::ALL {
        for turns in sizes([10, 30, 100, 300, 1_000, 3_000], quick) {
            // A third of the turns are those of another branch.
            let talk = Talk::new(dialect, turns + turns / 2, 0);
            let (engine, name) = (talk.taught(turns), dialect.name());
            let mut add = |what: &str, kept: &dyn Fn(&usize) -> bool, engine: Engine| {
                let kept = || (0..turns).filter(kept);
                let (body, full) = (talk.body(kept(), |_| false), talk.body(kept(), |_| true));
                cases.push(restoring(&format!("{name}, {what}"), turns, dialect, engine, body, Some(&full)));
            };
            add("truncated", &|at| *at >= turns / 2, engine.clone());
            add("edited", &|at| at % 3 != 1, engine);
            add("branched", &|_| true, talk.taught(turns + turns / 2));
        }
    }
    let (time, _) = measure(cases, quick);
    findings.chart(
        Chart {
            name: "histories",
            title: "Truncated, edited and branched histories",
            x: ("turns before the cut", Unit::Count),
            y: ("CPU time", Unit::Nanoseconds),
            is_log: true,
            series: time,
        },
        Some(EXPONENT),
    );
}

fn media(findings: &mut Findings, quick: bool) {
    let mut cases = Vec::new();
    for dialect in Dialect::ALL {
        for media in sizes([10_000, 100_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000], quick) {
            let talk = Talk::new(dialect, 50, media);
            let full = talk.body(0..50, |_| true);
            let last1 = talk.body(0..50, |at| at != 49);
            cases.push(restoring(dialect.name(), media, dialect, talk.taught(50), last1, Some(&full)));
        }
    }
    let (time, bytes) = measure(cases, quick);
    let x = ("bytes of inline media, before 50 turns", Unit::Bytes);
    let y = ("CPU time", Unit::Nanoseconds);
    findings.chart(
        Chart { name: "media", title: "The last state of a history with media", x, y, is_log: true, series: time },
        Some(EXPONENT),
    );
    let y = ("bytes allocated in all", Unit::Bytes);
    findings.chart(
        Chart { name: "media-memory", title: "Memory of restoring beside media", x, y, is_log: true, series: bytes },
        Some(EXPONENT),
    );
}

fn unsigned(findings: &mut Findings, quick: bool) {
    const TURNS: usize = 400;
    let mut cases = Vec::new();
    for dialect in Dialect::ALL {
        let talk = Talk::new(dialect, TURNS, 0);
        let engine = talk.taught(TURNS);
        let full = talk.body(0..TURNS, |_| true);
        for share in [0, 10, 25, 50, 75, 100] {
            let body = talk.body(0..TURNS, |at| at * share / 100 == (at + 1) * share / 100);
            cases.push(restoring(dialect.name(), share, dialect, engine.clone(), body, Some(&full)));
        }
    }
    let (series, _) = measure(cases, quick);
    for series in &series {
        // Each further part may cost no more than one and a half of what those before it did.
        let [half, all] = [series.points[3].1, series.points[5].1];
        let base = series.points[0].1;
        let grows = (all - half) / (half - base).max(1.0);
        findings.check(grows <= 1.5, || {
            format!("unsigned, {}: the second half costs {grows:.2} times the first", series.name)
        });
    }
    findings.chart(
        Chart {
            name: "unsigned",
            title: "400 turns, by the share that lost its state",
            x: ("share of the turns without state", Unit::Percent),
            y: ("CPU time", Unit::Nanoseconds),
            is_log: false,
            series,
        },
        None,
    );
}

/// A request that stays the same, while the ledger fills with turns of other branches.
fn ledger(findings: &mut Findings, quick: bool) {
    let mut cases = Vec::new();
    for dialect in Dialect::ALL {
        let talk = Talk::new(dialect, 50, 0);
        let (full, last1) = (talk.body(0..50, |_| true), talk.body(0..50, |at| at != 49));
        for others in sizes([10, 100, 1_000, 10_000, 100_000], quick) {
            let engine = talk.taught(50);
            for other in 0..others {
                talk::teach_another(&engine, dialect, other);
            }
            cases.push(restoring(dialect.name(), others, dialect, engine, last1.clone(), Some(&full)));
        }
    }
    let (time, bytes) = measure(cases, quick);
    let x = ("items of other turns in the ledger", Unit::Count);
    let y = ("CPU time", Unit::Nanoseconds);
    findings.chart(
        Chart { name: "ledger", title: "The same request, and a growing ledger", x, y, is_log: true, series: time },
        Some(EXPONENT),
    );
    let y = ("bytes allocated in all", Unit::Bytes);
    findings.chart(
        Chart {
            name: "ledger-memory",
            title: "Memory of a request beside a growing ledger",
            x,
            y,
            is_log: true,
            series: bytes,
        },
        Some(EXPONENT),
    );
    let mut cases = Vec::new();
    for turns in sizes([10, 100, 1_000, 10_000, 100_000], quick) {
        let store = MemoryStore::builder().max_items_per_ledger(turns).max_bytes_per_ledger(1 << 30).max_bytes(2 << 30);
        let store = store.build().unwrap();
        (0..turns).for_each(|at| drop(now(store.append(&scope(1), turn(at as u64, 64)))));
        let [loading, busy] = [store.clone(), store.clone()];
        cases.push(Case::new("load", turns, move || drop(black_box(now(loading.load(&scope(1)))))));
        // Each new turn takes the place of the oldest.
        let mut next = turns as u64;
        cases.push(Case::new("append", turns, move || {
            next += 1;
            drop(now(store.append(&scope(1), turn(next, 64))));
        }));
        let mut next = 1 << 40;
        cases.push(Case::new("append while a request reads", turns, move || {
            let reader = now(busy.load(&scope(1)));
            next += 1;
            drop(now(busy.append(&scope(1), turn(next, 64))));
            drop(reader);
        }));
    }
    let (series, _) = measure(cases, quick);
    findings.chart(
        Chart {
            name: "ledger-store",
            title: "One ledger of the memory store",
            x: ("turns in the ledger", Unit::Count),
            y: ("CPU time", Unit::Nanoseconds),
            is_log: true,
            series,
        },
        Some(EXPONENT),
    );
}

fn held(region: &Region<'_, System>) -> f64 {
    let change = region.change();
    (change.bytes_allocated as isize - change.bytes_deallocated as isize) as f64
}

fn open_streams(findings: &mut Findings, quick: bool) {
    let mut memory = Vec::new();
    let mut times = Vec::new();
    for dialect in Dialect::ALL {
        let name = dialect.name();
        let script = script(dialect);
        drop(Streams::open(dialect, &script, 1));
        let (mut kept, mut idle, mut said) = (Vec::new(), Vec::new(), Vec::new());
        for count in sizes([1, 10, 100, 1_000, 10_000], quick) {
            let region = Region::new(ALLOCATOR);
            let mut streams = Streams::open(dialect, &script, count);
            (0..SETTLED).for_each(|_| streams.say());
            let early = held(&region);
            let rounds = 100_000 / count;
            let mut least = [f64::INFINITY; 2];
            for _ in 0..if quick { 3 } else { 5 } {
                let begin = clock::now();
                (0..rounds).for_each(|_| streams.say());
                let middle = clock::now();
                (0..rounds).for_each(|_| assert_eq!(streams.poll(), 0));
                let end = clock::now();
                let polls = (rounds * count) as f64;
                least[0] = least[0].min((middle - begin) / polls);
                least[1] = least[1].min((end - middle) / polls);
            }
            let late = held(&region);
            let grown = late - early;
            findings
                .check(grown <= 1024.0 * count as f64, || format!("{count} streams of {name}: they grew by {grown} B"));
            if count >= 1_000 {
                let each = late / count as f64;
                findings.check(each <= STREAM, || format!("{count} streams of {name}: {each:.0} B each"));
                if count == 10_000 {
                    findings.notes.push(format!(
                        "{name}: 10,000 idle streams hold {}, {} each (bound: 8 KiB).",
                        Unit::Bytes.show(late),
                        Unit::Bytes.show(each)
                    ));
                }
            }
            kept.push((count as f64, late));
            said.push((count as f64, least[0]));
            idle.push((count as f64, least[1]));
        }
        memory.push(Series { name: name.to_owned(), points: kept });
        times.push(Series { name: format!("{name}, an event"), points: said });
        times.push(Series { name: format!("{name}, idle"), points: idle });
    }
    let x = ("open streams", Unit::Count);
    findings.chart(
        Chart {
            name: "streams-memory",
            title: "Memory of idle streams",
            x,
            y: ("bytes held", Unit::Bytes),
            is_log: true,
            series: memory,
        },
        Some(EXPONENT),
    );
    findings.chart(
        Chart {
            name: "streams",
            title: "A poll of one of many streams",
            x,
            y: ("CPU time per poll", Unit::Nanoseconds),
            is_log: true,
            series: times,
        },
        None,
    );
}

fn turn(id: u64, size: usize) -> Arc<Turn> {
    let mut part = TurnPart::new(Kind::Call, Anchor::from_bytes(u128::from(id).to_le_bytes()));
    part.state = Some(Item::new(Bytes::from(vec![b'x'; size])));
    let anchor = Anchor::from_bytes([1; 16]);
    let context = History::new(anchor, anchor, 0, []);
    Arc::new(Turn::new(TurnId::new(id.into()), context, vec![Alternative::new(0, vec![part])], false))
}

fn scope(number: u64) -> Scope {
    let mut random = Random::new(number);
    let mut bytes = [0; 32];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
    Scope::from_bytes(bytes)
}

/// Many small ledgers within the bound of bytes.
fn ledgers(findings: &mut Findings, quick: bool) {
    const BOUND: u64 = 1 << 30;
    let mut memory = [("allocated", Vec::new()), ("counted by the store", Vec::new())];
    let mut times = [("load", Vec::new()), ("append a turn", Vec::new()), ("append and evict", Vec::new())];
    for count in sizes([1_000, 10_000, 100_000, 1_000_000], quick) {
        let number = count as u64;
        let region = Region::new(ALLOCATOR);
        let store = MemoryStore::builder().max_ledgers(count).max_bytes(BOUND).build().unwrap();
        (0..number).for_each(|at| drop(now(store.append(&scope(at), turn(at, 64)))));
        let (held, now_held) = (held(&region), store.snapshot());
        findings.check(now_held.ledgers == count && now_held.evicted_ledgers == 0, || {
            format!("{count} ledgers: the store holds {} and let {} go", now_held.ledgers, now_held.evicted_ledgers)
        });
        findings.check(now_held.bytes <= BOUND, || format!("{count} ledgers are counted as {} B", now_held.bytes));
        findings.check(held <= BOUND as f64, || format!("{count} ledgers: {held} B are allocated"));
        let each = held / count as f64;
        let over = held / now_held.bytes as f64;
        findings.check(over <= 2.0, || {
            format!("{count} ledgers: {over:.2} times the memory is allocated that the store counts")
        });
        if count == 1_000_000 {
            findings.notes.push(format!(
                "1,000,000 ledgers of one turn with 64 B of state fit into 1 GiB: {each:.0} B allocated and {:.0} B counted for each.",
                now_held.bytes as f64 / count as f64
            ));
        }
        memory[0].1.push((count as f64, held));
        memory[1].1.push((count as f64, now_held.bytes as f64));
        let operations = 20_000.min(number);
        let mut next = number;
        let mut least = [f64::INFINITY; 3];
        for round in 0..10 {
            let prepared: Vec<_> = (0..operations)
                .map(|at| {
                    let known = (at * 48_271 + round) % number;
                    (scope(known), scope(next + at), turn(number * 2 + next + at, 64), turn(next + at, 64))
                })
                .collect();
            next += operations;
            let began = clock::now();
            prepared.iter().for_each(|(known, ..)| drop(black_box(now(store.load(known)))));
            let loaded = clock::now();
            prepared.iter().for_each(|(known, _, turn, _)| drop(now(store.append(known, turn.clone()))));
            let appended = clock::now();
            prepared.iter().for_each(|(_, new, _, turn)| drop(now(store.append(new, turn.clone()))));
            let evicted = clock::now();
            for (least, time) in least.iter_mut().zip([loaded - began, appended - loaded, evicted - appended]) {
                *least = least.min(time / operations as f64);
            }
        }
        times.iter_mut().zip(least).for_each(|(series, least)| series.1.push((count as f64, least)));
    }
    let series = |(name, points): (&str, Vec<(f64, f64)>)| Series { name: name.to_owned(), points };
    let x = ("ledgers", Unit::Count);
    findings.chart(
        Chart {
            name: "ledgers-memory",
            title: "Memory of small ledgers",
            x,
            y: ("bytes", Unit::Bytes),
            is_log: true,
            series: memory.map(series).into(),
        },
        Some(EXPONENT),
    );
    findings.chart(
        Chart {
            name: "ledgers",
            title: "The memory store by its ledgers",
            x,
            y: ("CPU time", Unit::Nanoseconds),
            is_log: true,
            series: times.map(series).into(),
        },
        None,
    );
}

/// What is made to be slow, per byte, beside ordinary bodies.
fn adversarial(findings: &mut Findings, quick: bool) {
    for (dialect, name, title) in [
        (Dialect::ALL[0], "adversarial-gemini", "Slow bodies of Gemini"),
        (Dialect::ALL[1], "adversarial-anthropic", "Slow bodies of Anthropic"),
        (Dialect::ALL[2], "adversarial-responses", "Slow bodies of Responses"),
        (Dialect::ALL[3], "adversarial-chat", "Slow bodies of chat completions"),
    ] {
        let mut cases = Vec::new();
        for turns in [10, 40, 160, 640] {
            let talk = Talk::new(dialect, turns, 0);
            let body = talk.body(0..turns, |_| false);
            cases.push(restoring("ordinary", body.len(), dialect, talk.taught(turns), body, None));
        }
        for attack::Attack { name: attack, sizes: [_, large], make } in attack::attacks(dialect) {
            for size in sizes([large / 64, large / 16, large / 4, large], quick) {
                let engine = talk::engine();
                let body = make(size.max(1), &engine);
                cases.push(restoring(attack, body.len(), dialect, engine, body, None));
            }
        }
        let (mut series, _) = measure(cases, quick);
        for series in &series {
            let exponent = series.exponent();
            // The smaller sizes span no decade, and begin with a head that costs little.
            findings.check(quick || exponent <= EXPONENT, || {
                format!("{title}, {}: the exponent is {exponent:.2}", series.name)
            });
        }
        series.iter_mut().flat_map(|series| &mut series.points).for_each(|point| point.1 /= point.0);
        let ordinary = series[0].points.last().unwrap().1;
        for series in &series {
            let factor = series.points.last().unwrap().1 / ordinary;
            findings
                .check(factor <= FACTOR, || format!("{title}, {}: {factor:.0} times an ordinary body", series.name));
        }
        let (x, y) = (("bytes of the body", Unit::Bytes), ("ns per byte", Unit::NanosecondsPerByte));
        findings.chart(Chart { name, title, x, y, is_log: true, series }, None);
    }
}
