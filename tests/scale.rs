//! Rule 11 in large: ten thousand open streams, and a million ledgers.
//!
//! A program of its own, without the harness and its threads, because it counts what the whole
//! program allocates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

mod support;

use std::{alloc::System, sync::Arc};

use bytes::Bytes;
use http::Response;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{
    gemini::{self, QUESTION, STREAM, event, sse},
    now,
};
use tower_reasoning_replay::{
    Engine, MemoryStore, Store,
    engine::{Answer, Observer},
    ledger::{Alternative, Anchor, Context, Item, Kind, Turn, TurnId, TurnPart},
    scope::Scope,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn held(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated.saturating_sub(change.bytes_deallocated)
}

fn observer(engine: &Engine) -> Box<Observer> {
    let (head, ()) = gemini::post(STREAM).body(()).unwrap().into_parts();
    let watch = engine.watch(&head).unwrap();
    let mut exchange = now(engine.prepare(watch, &head, Bytes::from_static(QUESTION.as_bytes())));
    match exchange.answer(&Response::new(()).into_parts().0) {
        Answer::Observe(observer) => observer,
        _ => panic!("the answer is not observed"),
    }
}

/// Ten thousand streams that have said something, and wait, hold 8 KiB each at most.
fn streams() {
    const STREAMS: usize = 10_000;
    let engine = Engine::builder(MemoryStore::new()).build().unwrap();
    let events = sse(&[
        event(&[json!({"text": "Let me think. ".repeat(8), "thought": true})], None),
        event(&[json!({"text": "Some words of an answer. ".repeat(8)})], None),
    ]);
    drop(observer(&engine));
    let region = Region::new(ALLOCATOR);
    let mut open: Vec<_> = (0..STREAMS).map(|_| observer(&engine)).collect();
    for observer in &mut open {
        assert!(observer.feed(events.as_bytes()).is_none());
    }
    // More of the same text takes no more, once its running hash is under way.
    let more = sse(&[event(&[json!({"text": "Some words of an answer. ".repeat(8)})], None)]);
    let mut say = || {
        for observer in &mut open {
            assert!(observer.feed(more.as_bytes()).is_none());
        }
    };
    (0..20).for_each(|_| say());
    let early = held(&region);
    (0..20).for_each(|_| say());
    let late = held(&region);
    assert!(late <= STREAMS * (8 << 10), "{} bytes each", late / STREAMS);
    assert!(late <= early + STREAMS * 64, "{early} bytes have become {late}");
    assert!(open.iter().all(|observer| !observer.is_over()));
}

/// A million ledgers of one small turn are all there, and are no more than the bound of the store.
fn ledgers() {
    const LEDGERS: u32 = 1_000_000;
    const BOUND: u64 = 1 << 30;
    let scope = |number: u32| {
        let mut bytes = [0; 32];
        for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
            four.copy_from_slice(&number.wrapping_add(1).wrapping_mul(0x9e37_79b1 + 2 * at as u32).to_le_bytes());
        }
        Scope::from_bytes(bytes)
    };
    let region = Region::new(ALLOCATOR);
    let store = MemoryStore::builder().max_ledgers(LEDGERS as usize).max_bytes(BOUND).build().unwrap();
    for number in 0..LEDGERS {
        let mut part = TurnPart::new(Kind::Call, Anchor::from_bytes(u128::from(number).to_le_bytes()));
        part.state = Some(Item::new(Bytes::from(vec![b'x'; 64])));
        let anchor = Anchor::from_bytes([1; 16]);
        let context = Context::new(anchor, anchor, 0, []);
        let turn = Turn::new(TurnId::new(number.into()), context, vec![Alternative::new(0, vec![part])], false);
        assert_eq!(now(store.append(&scope(number), Arc::new(turn))).unwrap().evicted, 0);
    }
    let now_held = store.snapshot();
    assert_eq!((now_held.ledgers, now_held.turns, now_held.evicted_ledgers), (LEDGERS as usize, LEDGERS as usize, 0));
    assert!(now_held.bytes <= BOUND, "{} bytes are counted", now_held.bytes);
    assert!(held(&region) as u64 <= BOUND, "{} bytes are allocated", held(&region));
    for number in [1, LEDGERS / 2, LEDGERS - 1] {
        assert_eq!(now(store.load(&scope(number))).unwrap().unwrap().items(), 1);
    }
    // One more, and the one that was not used for longest goes.
    let region = Region::new(ALLOCATOR);
    let turn = now(store.load(&scope(1))).unwrap().unwrap().turns().next().unwrap().clone();
    assert_eq!(now(store.append(&scope(LEDGERS), turn)).unwrap().evicted, 1);
    for (number, is_there) in [(0, false), (1, true), (LEDGERS, true)] {
        assert_eq!(now(store.load(&scope(number))).unwrap().is_some(), is_there, "{number}");
    }
    assert_eq!(store.snapshot().ledgers, LEDGERS as usize);
    // It costs what one ledger does, whatever there is.
    assert!(region.change().bytes_allocated <= 4_096, "{:?}", region.change());
}

fn main() {
    streams();
    ledgers();
}
