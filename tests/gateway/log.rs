//! The lines of the log that the README shows are lines of a run.

use std::collections::BTreeSet;

use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{client::Conversation, process::Gateway, stores::HEX, upstream::serve};

const README: &str = include_str!("../../README.md");

/// A line of our own without the moment and the values: level, span, target, message and the names of fields.
fn form(line: &str) -> Option<String> {
    let (moment, line) = line.trim().split_once(' ')?;
    // What an error says depends on who was faster.
    let (line, error) = line.split_once(" error=").map_or((line, ""), |(line, _)| (line, " error="));
    let line = line.trim();
    if !moment.starts_with(|c: char| c.is_ascii_digit()) || !line.contains("tower_reasoning_replay::") {
        return None;
    }
    let mut form = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('=') {
        form.push_str(before);
        form.push('=');
        rest = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?.1,
            None => &after[after.find([' ', '}']).unwrap_or(after.len())..],
        };
    }
    Some(form + rest + error)
}

/// With `--nocapture` it prints the lines.
#[tokio::test]
async fn the_lines_of_the_readme_are_those_of_a_run() {
    let provider = GeminiProvider::new();
    let upstream = serve(&provider).await;
    let gateway = Gateway::before(upstream, &[]);
    let mut conversation = Conversation::new("", true);
    for _ in 0..2 {
        conversation.turn(gateway.address).await;
    }
    provider.revoke_signatures();
    conversation.turn(gateway.address).await;
    gateway.terminate();
    let told = gateway.ended().await.log;

    let down = Gateway::with_key(HEX, upstream, &["--store", "redis://127.0.0.1:1"]);
    let mut conversation = Conversation::new("", true);
    for _ in 0..2 {
        conversation.turn(down.address).await;
    }
    down.terminate();
    let told = told + &down.ended().await.log;

    let lines: Vec<&str> = told.lines().filter(|line| line.contains("tower_reasoning_replay::")).collect();
    println!("{}", lines.join("\n"));
    let run: BTreeSet<String> = lines.iter().filter_map(|line| form(line)).collect();
    let shown: Vec<String> = README.lines().filter_map(form).collect();
    assert!(shown.len() >= 6, "{shown:#?}");
    for line in shown {
        assert!(run.contains(&line), "the README shows\n{line}\nand the run has\n{run:#?}");
    }
}
