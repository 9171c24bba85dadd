//! Instructions, counted by valgrind: caches, page faults and other programs do not change them.

use std::{hint::black_box, process::Command};

use bytes::Bytes;
use tower_reasoning_replay::Engine;

use crate::{
    Findings, INSTRUCTIONS,
    chart::Series,
    talk::{self, Dialect, Talk},
    workload::pass,
};

/// What is counted, and at which two sizes.
const CASES: [(&str, [usize; 2]); 5] = [
    ("restore", [100, 1_000]),
    ("nothing", [100, 1_000]),
    ("edited", [100, 1_000]),
    ("branched", [100, 1_000]),
    ("ledger", [1_000, 10_000]),
];

/// Counts each thing at two sizes, by the difference of a run that does it and one that only prepares it.
pub(crate) fn compare(findings: &mut Findings, _quick: bool) {
    println!("\n## Instructions\n\n| case | smaller | ten times as large | exponent |\n|---|---|---|---|");
    for (case, sizes) in CASES {
        for dialect in Dialect::ALL {
            let name = dialect.name();
            let points = sizes.map(|size| {
                let of = |times| run(case, name, size, times) as f64;
                // The first pass of a process sets things up.
                (size as f64, of(2) - of(1))
            });
            let series = Series { name: format!("{name}, {case}"), points: points.to_vec() };
            let exponent = series.exponent();
            println!("| {} | {:.2} M | {:.2} M | {exponent:.3} |", series.name, points[0].1 / 1e6, points[1].1 / 1e6);
            findings.check(exponent <= INSTRUCTIONS, || {
                format!("{}: the exponent by instructions is {exponent:.3}", series.name)
            });
        }
    }
}

fn run(case: &str, dialect: &str, size: usize, times: usize) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["count", case, dialect, &size.to_string(), &times.to_string()])
        .output()
        .expect("instructions are counted by valgrind");
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.unwrap_or_else(|| panic!("valgrind said {said}"))
}

/// Does one thing so many times: what the other process is told to do.
pub(crate) fn repeat(arguments: &[String]) {
    let [_, case, dialect, size, times, ..] = arguments else { panic!("count CASE DIALECT SIZE TIMES") };
    let dialect = Dialect::ALL.into_iter().find(|known| known.name() == dialect).unwrap();
    let (engine, body) = prepared(case, dialect, size.parse().unwrap());
    let head = dialect.head();
    for _ in 0..times.parse().unwrap() {
        drop(black_box(pass(&engine, &head, &body)));
    }
}

fn prepared(case: &str, dialect: Dialect, size: usize) -> (Engine, Bytes) {
    match case {
        "ledger" => {
            let talk = Talk::new(dialect, 50, 0);
            let engine = talk.taught(50);
            for other in 0..size {
                talk::teach_another(&engine, dialect, other);
            }
            (engine, talk.body(0..50, |at| at != 49))
        }
        "branched" => {
            let talk = Talk::new(dialect, size + size / 2, 0);
            (talk.taught(size + size / 2), talk.body(0..size, |_| false))
        }
        _ => {
            let talk = Talk::new(dialect, size, 0);
            let is_kept = |at: &usize| case != "edited" || at % 3 != 1;
            (talk.taught(size), talk.body((0..size).filter(is_kept), |_| case == "nothing"))
        }
    }
}
