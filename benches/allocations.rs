//! What is allocated, counted by the allocator. See `README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::semicolon_if_nothing_returned)]

mod workload;

use std::alloc::System;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower_reasoning_replay::Store;
use workload::{
    Calls, Conversation,
    family::{Family, Talk},
    heading, row,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many allocations something makes, and of how many bytes.
fn count<T>(thing: impl FnOnce() -> T) -> (usize, usize) {
    let region = Region::new(ALLOCATOR);
    let kept = thing();
    let change = region.change();
    drop(kept);
    (change.allocations + change.reallocations, change.bytes_allocated)
}

fn main() {
    let head = workload::head();
    heading("Allocations of `Engine::prepare`");
    for turns in [10, 200, 1_000] {
        let talk = Conversation::new(turns, usize::try_from(turns).unwrap(), Calls::Different, 0);
        let engine = workload::taught(&talk);
        let (stripped, full, last1) = (talk.stripped(), talk.full(), talk.last1());
        for (name, body, target) in [
            ("restore all", &stripped, "P5 ≤ 16 + O(log N), ≤ 1.1 × bytes"),
            ("last1", &last1, "P5 ≤ 16 + O(log N), ≤ 1.1 × bytes"),
            ("all signed", &full, "P5 0–2"),
        ] {
            let run = || workload::prepare(&engine, &head, body).body();
            run();
            let (allocations, bytes) = count(run);
            let ratio = format!("{:.2} × bytes", bytes as f64 / full.len() as f64);
            row(
                &format!("hist_{turns}, {name}"),
                &format!("{allocations}"),
                &format!("{} B", full.len()),
                &ratio,
                target,
            );
        }
    }
    let talk = Conversation::new(7, 1_000, Calls::None, 0);
    let (engine, body) = (workload::engine(), talk.full());
    let run = || workload::prepare(&engine, &head, &body).body();
    run();
    let (allocations, bytes) = count(run);
    row(
        "plain_2m",
        &format!("{allocations}"),
        &format!("{} B", body.len()),
        &format!("{:.2} × bytes", bytes as f64 / body.len() as f64),
        "P5 0–2",
    );
    families();
    observer();
    ledger();
}

/// The protocols whose state stands beside what it belongs to.
fn families() {
    heading("Allocations of `Engine::prepare`, protocols with whole thoughts, hist_200");
    for family in Family::ALL {
        let (head, talk) = (family.head(), Talk::new(family, 200));
        let engine = talk.taught();
        let full = talk.body(|_| true, false);
        for (name, body, target) in [
            ("restore all", talk.body(|_| false, false), "P5 ≤ 16 + O(log N), ≤ 1.1 × bytes"),
            ("last1", talk.body(|at| at != 199, false), "P5 ≤ 16 + O(log N), ≤ 1.1 × bytes"),
            ("nothing to do", full.clone(), "P5 0–2"),
        ] {
            let run = || workload::prepare(&engine, &head, &body).body();
            assert!(run() == full);
            let (allocations, bytes) = count(run);
            let ratio = format!("{:.2} × bytes", bytes as f64 / full.len() as f64);
            row(
                &format!("{}, {name}", family.name()),
                &format!("{allocations}"),
                &format!("{} B", full.len()),
                &ratio,
                target,
            );
        }
    }
}

/// Allocations per event, and what a stream keeps.
fn observer() {
    heading("Allocations and memory of an observed stream");
    let (engine, head) = (workload::engine(), workload::head());
    let request = Conversation::new(3, 0, Calls::Different, 0).full();
    for (name, with_text) in [("without text", false), ("with text", true)] {
        let response = workload::sse(with_text);
        for chunk in [206, 16 << 10] {
            let mut exchange = workload::prepare(&engine, &head, &request);
            let mut observer = workload::observer(&mut exchange);
            drop(exchange);
            let pieces: Vec<&[u8]> = response.chunks(chunk).collect();
            // The first events set things up.
            let (first, rest) = pieces.split_at(pieces.len() / 10);
            first.iter().for_each(|piece| drop(observer.feed(piece)));
            let quiet = &rest[..rest.len() / 20];
            let region = Region::new(ALLOCATOR);
            quiet.iter().for_each(|piece| drop(observer.feed(piece)));
            let change = region.change();
            let events = quiet.iter().map(|piece| piece.len()).sum::<usize>() as f64 / 206.0;
            let per_event = (change.allocations + change.reallocations) as f64 / events;
            row(&format!("sse {name}, {chunk} B chunks"), &format!("{per_event:.2} per event"), "", "", "P5 0");
        }
    }
    let response = workload::sse(true);
    let mut kept = Vec::with_capacity(8);
    let region = Region::new(ALLOCATOR);
    let mut exchange = workload::prepare(&engine, &head, &request);
    let mut observer = workload::observer(&mut exchange);
    drop(exchange);
    for (at, piece) in response.chunks(206).enumerate() {
        drop(observer.feed(piece));
        if at % 1_000 == 0 {
            let change = region.change();
            let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
            kept.push(held);
        }
    }
    let most = kept.iter().max().copied().unwrap_or(0);
    row("an open stream, sse with text", &format!("{most} B"), "8 KiB", &format!("{kept:?}"), "P10 ≤ 8 KiB");
}

/// What an idle ledger takes, against the bytes of its items.
fn ledger() {
    heading("Memory of idle ledgers");
    for turns in [1, 10, 200] {
        let talk = Conversation::new(3, turns, Calls::Different, 0);
        let bodies: Vec<Bytes> = (0..turns).map(|at| talk.body(0..at, |_| true)).collect();
        let events: Vec<String> = talk.turns.iter().map(workload::Turn::events).collect();
        let items: usize = talk.turns.iter().map(|turn| turn.call.len() + turn.signature.len() + 40).sum();
        let engine = workload::engine();
        // Sessions before the one that is measured have grown the store's own tables.
        let ledgers = 64;
        let heads: Vec<_> = (0..=ledgers).map(|session| workload::session_head(&session.to_string())).collect();
        let teach = |head| {
            bodies
                .iter()
                .zip(&events)
                .for_each(|(body, events)| workload::learn(&engine, head, body, events.as_bytes()))
        };
        teach(&heads[0]);
        let region = Region::new(ALLOCATOR);
        heads[1..].iter().for_each(teach);
        let change = region.change();
        let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
        let held = held as f64 / ledgers as f64;
        let target = 1.25 * items as f64 + 256.0;
        row(
            &format!("a ledger of {turns} turns"),
            &format!("{held:.0} B"),
            &format!("items {items} B"),
            &format!("{:.2} of the target", held / target),
            "P10 ≤ 1.25 × items + 256 B",
        );
        drop(engine.store().clear());
    }
}
