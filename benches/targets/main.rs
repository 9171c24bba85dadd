//! How far the targets are met, and how long other libraries take. See `../README.md`.
//!
//! ```text
//! cargo bench --bench targets                    # both tables
//! cargo bench --bench targets -- --json FILE     # and a record of them
//! cargo bench --bench targets -- --only ours     # the first table; `others` is the second
//! cargo bench --bench targets -- --only stores   # what stores take, of both tables
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::semicolon_if_nothing_returned)]

mod measure;
mod others;
mod store;
#[path = "../workload/mod.rs"]
mod workload;

use std::{
    hint::black_box,
    process::{Command, Stdio},
};

use bytes::Bytes;
use measure::{Table, least, memchr, memcpy, time};
use store::Times;
use workload::{
    pass,
    pipe::Pipe,
    talk::{self, Dialect, EVENTS, Form, Says, Talk},
};

/// What the ancestor, one Go gateway's cache, takes to restore hist_200 on a machine like this, in nanoseconds.
const ANCESTOR: f64 = 3.9e9;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|found| found == name).and_then(|at| arguments.get(at + 1));
    let is_wanted = |table: &str| value("--only").is_none_or(|only| only == table);
    let mut record = serde_json::Map::new();
    let machine = machine();
    println!("# Figures\n\nWhat `cargo bench --bench targets` printed: {machine}.");
    record.insert("machine".into(), machine.into());
    // Stores come first: what the rest leaves of the heap, and how it is cut up, is no matter of theirs.
    let (store, other_stores) = (store::ours(2), others::stores());
    let only_stores = value("--only").is_some_and(|only| only == "stores");
    if is_wanted("ours") || only_stores {
        let mut table = Table::new("Targets", &["id", "what", "target", "measured", "met"]);
        if !only_stores {
            for dialect in Dialect::ALL {
                requests(&mut table, dialect);
                linear(&mut table, dialect);
            }
            Dialect::ALL.into_iter().for_each(|dialect| events(&mut table, dialect));
            Dialect::ALL.into_iter().for_each(|dialect| hyper(&mut table, dialect));
        }
        stores(&mut table, store);
        if !only_stores {
            allocations(&mut table);
        }
        record.extend([table.record()]);
    }
    if is_wanted("others") || only_stores {
        let mut table = others::table();
        if !only_stores {
            others::compare(&mut table);
        }
        others::compare_stores(&mut table, store, &other_stores);
        record.extend([table.record()]);
    }
    if let Some(file) = value("--json") {
        std::fs::write(file, serde_json::to_string_pretty(&record).unwrap() + "\n").unwrap();
    }
}

/// On what this runs, and how busy it is.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let about = read("/proc/cpuinfo");
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "{}, {cores} cores, with a load of {load} at the beginning",
        model.map_or("an unknown processor", |model| model.1)
    )
}

/// P1, P2 and P3.
fn requests(table: &mut Table, dialect: Dialect) {
    let (name, head, stranger) = (dialect.name(), dialect.head(), dialect.session_head("stranger"));
    let talk = Talk::new(dialect, 200);
    let engine = talk.taught();
    let (stripped, full, last1) = (talk.all(Form::Stripped), talk.all(Form::Full), talk.last1());
    let (anew, anew_full) = (talk.all(Form::Anew), talk.all(Form::AnewFull));
    for (body, expected) in [(&stripped, &full), (&last1, &full), (&anew, &anew_full), (&full, &full)] {
        assert!(pass(&engine, &head, body) == *expected, "{name}: not the same bytes");
    }
    let plain = talk::plain(dialect, 1_000);
    assert_eq!(pass(&engine, &stranger, &stripped).as_ptr(), stripped.as_ptr());
    // Gemini is told by one marker, the others by several.
    let markers = if dialect == Dialect::Gemini { 3.0 } else { 6.0 };
    let [no_marker, unknown_plain, find_plain, unknown, find_stripped] = least([
        &mut || drop(black_box(pass(&engine, &head, &plain))),
        &mut || drop(black_box(pass(&engine, &stranger, &plain))),
        &mut || memchr(&plain),
        &mut || drop(black_box(pass(&engine, &stranger, &stripped))),
        &mut || memchr(&stripped),
    ]);
    table.target(
        "P1",
        &format!("{name}, no marker, plain_2m"),
        markers,
        no_marker / find_plain,
        "× memchr",
        &time(no_marker),
    );
    for (what, taken, find) in [("hist_200", unknown, find_stripped), ("plain_2m", unknown_plain, find_plain)] {
        let what = format!("{name}, unknown scope, {what}");
        table.target("P1", &what, markers, taken / find, "× memchr", &time(taken));
    }
    let [nothing, restore, last, written_anew, copy, find, raw] = least([
        &mut || drop(black_box(pass(&engine, &head, &full))),
        &mut || drop(black_box(pass(&engine, &head, &stripped))),
        &mut || drop(black_box(pass(&engine, &head, &last1))),
        &mut || drop(black_box(pass(&engine, &head, &anew))),
        &mut || memcpy(&full),
        &mut || memchr(&full),
        &mut || others::raw_values(dialect, &full),
    ]);
    let of = |what: &str| format!("{name}, hist_200, {what}");
    table.target("P2", &of("nothing to do"), 20.0, nothing / find, "× memchr", &time(nothing));
    table.target("P2", &of("nothing to do"), 0.33, nothing / raw, "× RawValue", &format!("{} there", time(raw)));
    for (what, bytes, target) in [("media_2m", 1_200 << 10, 8.0), ("media_20m", 19_200 << 10, 3.0)] {
        let talk = Talk { media: dialect.media(bytes), ..Talk::new(dialect, 200) };
        let full = talk.all(Form::Full);
        assert_eq!(pass(&engine, &head, &full).as_ptr(), full.as_ptr(), "{name}: copied");
        let [nothing, find] = least([&mut || drop(black_box(pass(&engine, &head, &full))), &mut || memchr(&full)]);
        table.target(
            "P2",
            &format!("{name}, {what}, nothing to do"),
            target,
            nothing / find,
            "× memchr",
            &time(nothing),
        );
    }
    let floor = nothing + copy;
    for (what, taken) in [("restore all", restore), ("last1", last), ("arguments written anew", written_anew)] {
        table.target("P3", &of(what), 1.5, taken / floor, "× pass + memcpy", &time(taken));
    }
    if dialect == Dialect::Gemini {
        let shown = format!("{:.0} × faster", ANCESTOR / restore);
        table.target("P3", &of("restore all"), 0.0005, restore / ANCESTOR, "of the ancestor's", &shown);
    }
}

/// P4, by time. The instructions are counted by another bench, and they decide.
fn linear(table: &mut Table, dialect: Dialect) {
    let head = dialect.head();
    let cases = [200, 1_000].map(|turns| {
        let talk = Talk::new(dialect, turns);
        let engine = workload::engine();
        // What came before a turn does not matter here, and is left out for the time that it takes.
        let body = dialect.body(&talk.before, "");
        talk.turns.iter().for_each(|turn| workload::learn(&engine, &head, &body, dialect.answer(turn).as_bytes()));
        (engine, talk.all(Form::Stripped), talk.all(Form::Full))
    });
    let run = |at: usize, full: bool| {
        let (engine, stripped, whole) = &cases[at];
        drop(black_box(pass(engine, &head, if full { whole } else { stripped })));
    };
    let [a, b, c, d] =
        least([&mut || run(0, false), &mut || run(1, false), &mut || run(0, true), &mut || run(1, true)]);
    let bytes = |pick: fn(&(tower_reasoning_replay::Engine, Bytes, Bytes)) -> usize| {
        pick(&cases[1]) as f64 / pick(&cases[0]) as f64
    };
    let name = |what: &str| format!("{}, hist_1000 / hist_200, {what}", dialect.name());
    table.target("P4", &name("restore all"), 1.05, b / a / bytes(|case| case.1.len()), "× the bytes, by time", "");
    table.target("P4", &name("nothing to do"), 1.05, d / c / bytes(|case| case.2.len()), "× the bytes, by time", "");
}

/// P6.
fn events(table: &mut Table, dialect: Dialect) {
    let (engine, head, request) = (workload::engine(), dialect.head(), dialect.question());
    for (says, target) in [(Says::Nothing, 60.0), (Says::Text, 280.0)] {
        let stream = talk::stream(dialect, says);
        let in_pieces = |size: usize| (format!("pieces of {size} B"), stream.chunks(size).collect());
        let whole: Vec<Bytes> = talk::frames(&stream);
        let cuts: [(String, Vec<&[u8]>); 3] = [
            ("each in a piece".to_owned(), whole.iter().map(|event| &event[..]).collect()),
            in_pieces(206),
            in_pieces(16 << 10),
        ];
        for (how, pieces) in &cuts {
            let feed = |pieces: &[&[u8]]| workload::feed_pieces(&engine, &head, &request, pieces.iter().copied());
            let [all, none] = least([&mut || feed(pieces), &mut || feed(&[])]);
            let what = format!("{}, an event {}, {how}", dialect.name(), says.name());
            table.target("P6", &what, target, (all - none) / EVENTS as f64, "ns", "");
        }
    }
    let (short, long) = (talk::line(dialect, 1 << 20), talk::line(dialect, 4 << 20));
    for chunk in [7, 1_400, 64 << 10] {
        let [a, b] = least([&mut || workload::feed(&engine, &head, &request, &short, chunk), &mut || {
            workload::feed(&engine, &head, &request, &long, chunk)
        }]);
        let what = format!("{}, a line of 4 MiB / 1 MiB, pieces of {chunk} B", dialect.name());
        let ratio = b / a * short.len() as f64 / long.len() as f64;
        table.target("P6", &what, 1.05, ratio, "× the bytes, by time", "");
    }
}

/// P7, by time. The instructions are counted by another bench, and they decide.
fn hyper(table: &mut Table, dialect: Dialect) {
    for (says, target) in [(Says::Nothing, 1.12), (Says::Text, 1.40)] {
        let pipe = Pipe::new(dialect, talk::frames(&talk::stream(dialect, says)));
        let [with, without] = least([&mut || pipe.layered(), &mut || pipe.bare()]);
        let what = format!("{}, hyper over a pipe, {}", dialect.name(), says.name());
        let shown = format!("+{} an event", time((with - without).max(0.0) / EVENTS as f64));
        table.target("P7", &what, target, with / without, "× unlayered, by time", &shown);
    }
}

/// P9.
fn stores(table: &mut Table, (get, put): (Times, Times)) {
    table.target("P9", "memory store at capacity, 2 threads, get, p50", 150.0, get.half, "ns", "with the clock");
    table.target("P9", "memory store at capacity, 2 threads, put, p50", 500.0, put.half, "ns", "with the clock");
    table.target("P9", "memory store at capacity, 2 threads, put, p99.9", 5_000.0, put.most, "ns", "with the clock");
}

/// P5 and P10, from the test that holds them: counting would cost time here.
fn allocations(table: &mut Table) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--quiet", "--profile", "bench", "--test", "allocations", "--", "--rows"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::null())
        .output()
        .expect("cargo can be run");
    let rows = String::from_utf8(output.stdout).unwrap();
    let mut found = 0;
    for row in rows.lines() {
        if let [id, what, target, measured] = row.split('\t').collect::<Vec<_>>()[..] {
            found += 1;
            table.target(id, what, target.parse().unwrap(), measured.parse().unwrap(), "", "");
        }
    }
    assert!(found > 0, "`cargo test --profile bench --test allocations` says nothing");
}
