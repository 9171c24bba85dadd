//! The conversations that are measured. All of it comes from fixed seeds, so every run sees the same bytes.

// No target uses all of it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod attack;
pub mod pipe;
pub mod talk;

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Response, request, response};
use tower_reasoning_replay::{
    Engine, MemoryStore, Store,
    engine::{Answer, Exchange, Observer},
    scope::HashKey,
};

/// Numbers that look random (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// Escaped text that looks like code: a backslash every 28 bytes or so, some CJK.
    pub fn text(&mut self, length: usize) -> String {
        const WORDS: [&str; 12] =
            ["let", "value", "=", "match", "self.inner", "{", "}", "=>", "return", "Some(x)", "// note", "fn"];
        const ESCAPES: [&str; 4] = ["\\n", "\\\"", "\\t", "\\n"];
        const CJK: [&str; 4] = ["数据", "変換", "日志", "测试"];
        let mut text = String::with_capacity(length + 16);
        let mut plain = 0;
        while text.len() < length {
            if plain >= 20 {
                text += ESCAPES[self.below(ESCAPES.len())];
                plain = 0;
                continue;
            }
            let word = if self.below(24) == 0 { CJK[self.below(CJK.len())] } else { WORDS[self.below(WORDS.len())] };
            text += word;
            text.push(' ');
            plain += word.len() + 1;
        }
        text
    }

    pub fn hex(&mut self) -> String {
        format!("{:016x}", self.next())
    }

    pub fn base64(&mut self, length: usize) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..length).map(|_| char::from(DIGITS[self.below(64)])).collect()
    }
}

/// A store that can hold what is measured.
pub fn store() -> MemoryStore {
    MemoryStore::builder().max_items_per_ledger(100_000).max_bytes_per_ledger(64 << 20).build().unwrap()
}

/// An engine with such a store.
pub fn engine() -> Engine {
    engine_with(store())
}

/// An engine whose hashes are the same in every process.
pub fn engine_with(store: impl Store) -> Engine {
    Engine::builder(store).hash_key(HashKey::from_bytes([7; 32])).build().unwrap()
}

pub fn success() -> response::Parts {
    Response::builder().header("content-type", "text/event-stream").body(()).unwrap().into_parts().0
}

/// A future that is ready at once.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a memory store never waits"),
    }
}

pub fn prepare(engine: &Engine, head: &request::Parts, body: &Bytes) -> Exchange {
    let watch = engine.watch(head).unwrap();
    now(engine.prepare(watch, head, body.clone()))
}

/// One pass of a body through the engine, and what it gives.
pub fn pass(engine: &Engine, head: &request::Parts, body: &Bytes) -> Bytes {
    prepare(engine, head, black_box(body)).body()
}

pub fn observer(exchange: &mut Exchange) -> Box<Observer> {
    match exchange.answer(&success()) {
        Answer::Observe(observer) => observer,
        answer => panic!("{answer:?}"),
    }
}

/// An observer of the answer to this request.
pub fn observe(engine: &Engine, head: &request::Parts, request: &Bytes) -> Box<Observer> {
    observer(&mut prepare(engine, head, request))
}

/// Feeds a response in pieces. Nothing of it is stored.
pub fn feed(engine: &Engine, head: &request::Parts, request: &Bytes, response: &[u8], chunk: usize) {
    feed_pieces(engine, head, request, response.chunks(chunk));
}

/// Shows the pieces of a response to an observer.
pub fn feed_pieces<'p>(
    engine: &Engine,
    head: &request::Parts,
    request: &Bytes,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) {
    let mut observer = observe(engine, head, request);
    for piece in pieces {
        black_box(observer.feed(piece));
    }
    black_box(observer.finish());
}

/// Shows a response to the engine and stores what it learns.
pub fn learn(engine: &Engine, head: &request::Parts, body: &Bytes, response: &[u8]) {
    let mut watch = engine.watch(head).unwrap();
    watch.leave_unpatched();
    let mut exchange = now(engine.prepare(watch, head, body.clone()));
    let mut observer = observer(&mut exchange);
    if let Some(commit) = observer.feed(response) {
        now(commit.run());
    }
    if let Some(commit) = observer.finish() {
        now(commit.run());
    }
}
