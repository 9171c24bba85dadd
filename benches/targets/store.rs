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

/// One operation after the other on each of several threads, each with what was made for it before; the best of some
/// rounds. What was made is kept until the round is over.
fn best<T: Clone + Send>(threads: u64, make: &(dyn Fn(u64) -> T + Sync), operation: &(dyn Fn(T) + Sync)) -> Times {
    let mut best = Times { half: f64::INFINITY, most: f64::INFINITY };
    let mut kept = Vec::new();
    for _ in 0..ROUNDS {
        let (times, made): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
            let run = |thread| {
                let time = |at| {
                    let made = make(thread * OPERATIONS + at);
                    let given = made.clone();
                    let start = Instant::now();
                    operation(given);
                    (u64::try_from(start.elapsed().as_nanos()).unwrap(), made)
                };
                (0..OPERATIONS).map(time).unzip::<_, _, Vec<_>, Vec<_>>()
            };
            let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).unzip()
        });
        let mut times = times.concat();
        times.sort_unstable();
        let at = |part: f64| times[(times.len() as f64 * part) as usize] as f64;
        best = Times { half: best.half.min(at(0.5)), most: best.most.min(at(0.999)) };
        // The store lets go in the next round of what was put into it in this one.
        kept = made;
    }
    drop(kept);
    best
}

/// Fills a store, then reads what is there and puts in what is new. `get` is given the number of a ledger; `make` makes
/// what is put in under a number, as an observer would have.
pub(crate) fn times<T: Clone + Send>(
    threads: u64,
    get: &(dyn Fn(u64) + Sync),
    make: &(dyn Fn(u64) -> T + Sync),
    put: &(dyn Fn(u64, T) + Sync),
) -> (Times, Times) {
    let filling: Vec<_> = (0..LEDGERS).map(make).collect();
    (0..).zip(&filling).for_each(|(number, made)| put(number, made.clone()));
    let next = AtomicU64::new(LEDGERS);
    let get = best(threads, &|at| at.wrapping_mul(7) % LEDGERS, get);
    let make = |_| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        (number, make(number))
    };
    let put = best(threads, &make, &|(number, made)| put(number, made));
    (get, put)
}

pub(crate) fn ours(threads: u64) -> (Times, Times) {
    let store = MemoryStore::new();
    times(threads, &|number| drop(black_box(now(store.load(&scope(number))))), &turn, &|number, turn| {
        drop(black_box(now(store.append(&scope(number), turn))))
    })
}
