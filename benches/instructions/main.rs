//! How many instructions things take, counted by callgrind, against what they took before. See `../README.md`.
//!
//! ```text
//! cargo bench --bench instructions                      # compare with instructions.json, fail if it got worse
//! cargo bench --bench instructions -- --accept          # and write down what was counted
//! cargo bench --bench instructions -- --only chat       # only what begins so
//! cargo bench --bench instructions -- --repeat NAME     # one thing for six seconds, for a profiler
//! ```
//!
//! What is to be counted is made in this process and written to files. A second process under callgrind reads them, so
//! that no time is spent there on making them; it counts inside of one function only, and dumps after each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod baseline;
mod case;
mod ratio;
#[path = "../../tests/support/told.rs"]
mod told;
#[path = "../workload/mod.rs"]
mod workload;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use baseline::{Baseline, Counts};
use case::Case;

const NO_STRING_INSTRUCTIONS: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    if arguments.first().is_some_and(|first| first == "--count") {
        arguments[1..].iter().for_each(|file| Case::read(Path::new(file)).run_counted());
        return ExitCode::SUCCESS;
    }
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    if let Some(name) = value("--repeat") {
        let (one, _) =
            case::build(&directory, &name).into_iter().find(|(found, _)| *found == name).expect("no such name");
        let thing = Case::read(&directory.join(format!("{one}.case")));
        let mut thing = thing.prepared();
        let start = Instant::now();
        let (mut times, mut least) = (0, Duration::MAX);
        while start.elapsed() < Duration::from_secs(6) {
            let begun = Instant::now();
            thing();
            least = least.min(begun.elapsed());
            times += 1;
        }
        println!("{one}: {times} times, {:?} each, {least:?} at least", start.elapsed() / times);
        return ExitCode::SUCCESS;
    }
    let only = value("--only").unwrap_or_default();
    let start = Instant::now();
    let cases = case::build(&directory, &only);
    eprintln!("{} cases made in {:.0?}", cases.len(), start.elapsed());
    let start = Instant::now();
    let counts = count(&directory, &cases);
    eprintln!("counted in {:.0?}", start.elapsed());
    let _ = std::fs::remove_dir_all(&directory);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let mut baseline = Baseline::read(&file);
    let is_good = baseline.compare(&counts, only.is_empty());
    if arguments.iter().any(|argument| argument == "--accept") {
        baseline.accept(&counts, only.is_empty());
        baseline.write(&file);
        println!("\nWritten to benches/instructions.json.");
        return ExitCode::SUCCESS;
    }
    if is_good {
        println!("\nNothing got worse.");
        return ExitCode::SUCCESS;
    }
    println!(
        "\nIt got worse by more than {} %. If that is meant: cargo bench --bench instructions -- --accept",
        baseline::TOLERANCE
    );
    ExitCode::FAILURE
}

/// Counts all of them, in two processes.
fn count(directory: &Path, cases: &[(String, u64)]) -> Counts {
    let mut shares: [Vec<&(String, u64)>; 2] = Default::default();
    for dialect in workload::talk::Dialect::ALL {
        let of_it: Vec<_> = cases.iter().filter(|(name, _)| name.starts_with(dialect.name())).collect();
        let share = shares.iter_mut().min_by_key(|share| share.iter().map(|(_, bytes)| bytes).sum::<u64>()).unwrap();
        share.extend(of_it);
    }
    let children: Vec<_> = shares
        .iter()
        .enumerate()
        .filter(|(_, share)| !share.is_empty())
        .map(|(at, share)| {
            let out = directory.join(format!("out-{at}"));
            let mut valgrind = Command::new(std::env::var_os("VALGRIND").unwrap_or("valgrind".into()));
            // Large blocks each have a mapping of their own, so that one grows without a copy, wherever it came to lie.
            valgrind
                .env("MALLOC_MMAP_THRESHOLD_", "65536")
                // Valgrind takes each byte of a copy by string instructions for an instruction. Where a block came to lie
                // decides whether it is copied, and so it would decide the count.
                .env("GLIBC_TUNABLES", NO_STRING_INSTRUCTIONS)
                .args(["--tool=callgrind", "-q", "--collect-atstart=no", "--compress-strings=no"])
                .arg(format!("--toggle-collect=*{}*", case::COUNTED))
                .arg(format!("--dump-before=*{}*", case::DUMPED))
                .arg(format!("--callgrind-out-file={}", out.display()))
                .arg(std::env::current_exe().unwrap())
                .arg("--count")
                .args(share.iter().map(|(name, _)| directory.join(format!("{name}.case"))))
                .stdout(Stdio::null());
            let child = valgrind.spawn().unwrap_or_else(|error| panic!("valgrind cannot be run: {error}"));
            (child, out, share)
        })
        .collect();
    let mut counts = Counts::new();
    for (mut child, out, share) in children {
        assert!(child.wait().unwrap().success(), "the counting process failed");
        for (at, (name, bytes)) in share.iter().enumerate() {
            let total = |time: usize| -> u64 {
                let number = at * case::TIMES + time;
                let dump = std::fs::read_to_string(format!("{}.{number}", out.display())).unwrap();
                let total = dump.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a dump has totals");
                total.trim().parse().unwrap()
            };
            let least = (1..=case::TIMES).map(total).min().unwrap_or_default();
            counts.insert(name.clone(), (least, *bytes));
        }
    }
    counts
}
