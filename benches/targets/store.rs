//! The memory store at capacity.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tower_reasoning_replay::{
    MemoryStore, Store,
    ledger::{Alternative, Anchor, Context, Item, Kind, Turn, TurnId, TurnPart},
    scope::Scope,
};

use crate::workload::{Random, now};

/// How many ledgers a store holds.
pub(crate) const LEDGERS: u64 = 10_240;
const OPERATIONS: u64 = 20_000;
const ROUNDS: usize = 7;

/// The 50th and the 99.9th percentile, in nanoseconds, the clock included.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) half: f64,
    pub(crate) most: f64,
}

pub(crate) fn scope(number: u64) -> Scope {
    let mut random = Random::new(number);
    let mut bytes = [0; 32];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
    Scope::from_bytes(bytes)
}

fn turn(id: u64) -> Arc<Turn> {
    let mut part = TurnPart::new(Kind::Call, Anchor::from_bytes(u128::from(id).to_le_bytes()));
    part.state = Some(Item::new(Bytes::from(vec![b'x'; 1_536])));
    let anchor = Anchor::from_bytes([1; 16]);
    let context = Context::new(anchor, anchor, 0, []);
    Arc::new(Turn::new(TurnId::new(id.into()), context, vec![Alternative::new(0, vec![part])], false))
}

/// One operation after the other on each of several threads; the best of some rounds.
fn best(threads: u64, operation: &(dyn Fn(u64) + Sync)) -> Times {
    let mut best = Times { half: f64::INFINITY, most: f64::INFINITY };
    for _ in 0..ROUNDS {
        let mut times: Vec<u64> = std::thread::scope(|scope| {
            let run = |thread| {
                let time = |at| {
                    let start = Instant::now();
                    operation(thread * OPERATIONS + at);
                    u64::try_from(start.elapsed().as_nanos()).unwrap()
                };
                (0..OPERATIONS).map(time).collect::<Vec<_>>()
            };
            let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
            handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
        });
        times.sort_unstable();
        let at = |part: f64| times[(times.len() as f64 * part) as usize] as f64;
        best = Times { half: best.half.min(at(0.5)), most: best.most.min(at(0.999)) };
    }
    best
}

/// Fills a store, then reads what is there and puts in what is new. The functions are given numbers of ledgers.
pub(crate) fn times(threads: u64, get: &(dyn Fn(u64) + Sync), put: &(dyn Fn(u64) + Sync)) -> (Times, Times) {
    (0..LEDGERS).for_each(put);
    let next = AtomicU64::new(LEDGERS);
    let get = best(threads, &|at| get(at.wrapping_mul(7) % LEDGERS));
    let put = best(threads, &|_| put(next.fetch_add(1, Ordering::Relaxed)));
    (get, put)
}

pub(crate) fn ours(threads: u64) -> (Times, Times) {
    let store = MemoryStore::new();
    // What is put in was made by an observer: it costs nothing here.
    let turns: Vec<_> = (0..threads * OPERATIONS).map(turn).collect();
    let turn = |number: u64| turns[usize::try_from(number).unwrap() % turns.len()].clone();
    times(threads, &|number| drop(black_box(now(store.load(&scope(number))))), &|number| {
        drop(black_box(now(store.append(&scope(number), turn(number)))))
    })
}
