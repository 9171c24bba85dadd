//! Recorded provider traffic, played through the layer as a client that lost its state.
//!
//! `REPLAY_RECORDINGS` names the folder of the recordings. They are not part of the repository.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "recordings/chat.rs"]
mod chat;
#[path = "recordings/client.rs"]
mod client;
#[path = "recordings/errors.rs"]
mod errors;
#[path = "recordings/load.rs"]
mod load;
#[path = "recordings/messages.rs"]
mod messages;
#[path = "recordings/parts.rs"]
mod parts;
#[path = "recordings/play.rs"]
mod play;
#[path = "recordings/responses.rs"]
mod responses;

use std::collections::HashSet;

use client::Mode;
use play::{Exception, Session, Tally, play};

const FOLDERS: [&str; 2] = ["gemini", "gemini-cloudcode"];

/// What the layer is excused from.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        file: "pydantic--test-google-test-google-model-file-search-grounding-gemini-3-",
        reason: "the client wrote a response into a signed toolResponse that had none: its content is not proven",
    },
    Exception {
        file: "ruby_llm--chat-function-calling-vertexai-gemini-2-5-flash-can-handle-multiple-tool-calls-in-a-single",
        reason: "copied-to-several-parts: the second of two equal calls was never signed",
    },
];

async fn table(title: &str, recordings: &[load::Recording]) {
    println!("{title}");
    println!(
        "{:14} {:8} {:>6} {:>9} {:>9} {:>9} {:>6} {:>6} {:>9} {:>8}",
        "mode", "session", "chunks", "exchanges", "restored", "expected", "moved", "beyond", "misplaced", "excused"
    );
    let (mut failures, mut used) = (Vec::new(), HashSet::new());
    for mode in Mode::ALL {
        for session in [Session::Known, Session::Derived] {
            if session == Session::Derived && !mode.keeps_opening() {
                continue;
            }
            for chunk in [None, Some(7)] {
                let tally = play(recordings, mode, session, chunk, EXCEPTIONS).await;
                let Tally { exchanges, restored, expected, moved, beyond, misplaced, excused, .. } = tally;
                let chunks = chunk.map_or("as is".into(), |size| size.to_string());
                println!(
                    "{:14} {:8} {chunks:>6} {exchanges:>9} {restored:>9} {expected:>9} {moved:>6} {beyond:>6} {misplaced:>9} {excused:>8}",
                    format!("{mode:?}"),
                    format!("{session:?}"),
                );
                used.extend(tally.used);
                failures.extend(tally.failures.into_iter().map(|line| format!("{session:?} {chunks} {line}")));
            }
        }
    }
    for at in used {
        println!("excused: {}*: {}", EXCEPTIONS[at].file, EXCEPTIONS[at].reason);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test]
async fn what_clients_carried_back_is_restored() {
    table("Recorded conversations", &load::load(&FOLDERS)).await;
}

#[tokio::test]
async fn whatever_a_response_issued_is_restored() {
    table("Recorded responses, echoed", &play::echoed(&load::load(&FOLDERS))).await;
}

#[tokio::test]
async fn reported_errors_are_told_apart_and_reach_the_client() {
    let recordings = load::load(&FOLDERS);
    let errors: Vec<_> = recordings.iter().filter(|recording| recording.name.starts_with("error-")).collect();
    for recording in &errors {
        errors::refuse(recording).await;
    }
    println!("{} errors", errors.len());
}

const MESSAGES: [&str; 1] = ["anthropic"];

#[tokio::test]
async fn what_clients_of_messages_carried_back_is_restored() {
    messages::table("Recorded conversations, Messages", &messages::load(&MESSAGES)).await;
}

#[tokio::test]
async fn whatever_an_answer_of_messages_issued_is_restored() {
    messages::table("Recorded answers, echoed, Messages", &messages::echoed(&messages::load(&MESSAGES))).await;
}

#[tokio::test]
async fn reported_errors_of_messages_are_told_apart_and_reach_the_client() {
    let recordings = messages::load(&MESSAGES);
    let errors: Vec<_> = recordings.iter().filter(|recording| recording.name.starts_with("error-")).collect();
    for recording in &errors {
        messages::refuse(recording).await;
    }
    println!("{} errors", errors.len());
}
