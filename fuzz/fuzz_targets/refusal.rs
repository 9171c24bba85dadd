//! Whatever a provider answers, it is classified without a panic, and in time.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use tower_reasoning_replay::engine::refusal::{classify, classify_event};

fuzz_target!(|data: &[u8]| {
    let Some((status, body)) = data.split_first() else { return };
    let status = [400, 404, 413, 422, 429, 500, 503, 200][usize::from(status % 8)];
    let start = Instant::now();
    let first = classify(status, body);
    assert_eq!(first, classify(status, body));
    let event = classify_event(body);
    if let Some(verdict) = event {
        // What an event says is never more than its text would say of a plain refusal.
        let _ = format!("{verdict:?}");
    }
    // Bodies many times as long take as many times as long: a generous bound per byte.
    let long = body.repeat((64 << 10) / body.len().max(1));
    let _ = classify(status, &long);
    let _ = classify_event(&long);
    assert!(start.elapsed().as_millis() < 2_000, "{} bytes took {:?}", body.len(), start.elapsed());
});
