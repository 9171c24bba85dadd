//! However a response is cut into pieces, the same turn is stored.

#![no_main]

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};

use arbitrary::Unstructured;
use bytes::Bytes;
use http::{Request, Response, request};
use libfuzzer_sys::fuzz_target;
use tower_reasoning_replay::{
    Engine, Store,
    engine::Answer,
    ledger::{ItemRef, Ledger, Turn},
    scope::{HashKey, Scope, Session},
    store::{Appended, Reply},
};

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a memory store never waits"),
    }
}

/// A store that keeps one ledger, and shows it.
#[derive(Clone, Default)]
struct One(Arc<std::sync::Mutex<Ledger>>);

impl Store for One {
    fn load(&self, _: &Scope) -> Reply<Option<Arc<Ledger>>> {
        Reply::ready(Some(Arc::new(self.0.lock().unwrap().clone())))
    }
    fn append(&self, _: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        Reply::ready(Appended::new(self.0.lock().unwrap().append(turn, &Default::default())))
    }
    fn remove(&self, _: &Scope, items: &[ItemRef]) -> Reply<usize> {
        Reply::ready(self.0.lock().unwrap().remove(items))
    }
    fn forget(&self, _: &Scope) -> Reply<bool> {
        Reply::ready(true)
    }
    fn clear(&self) -> Reply<()> {
        Reply::ready(())
    }
    fn appends_inline(&self) -> bool {
        true
    }
    fn is_shared(&self) -> bool {
        false
    }
}

static HEAD: LazyLock<request::Parts> = LazyLock::new(|| {
    let uri = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse";
    let mut request = Request::post(uri).body(()).unwrap();
    request.extensions_mut().insert(Session::new("fuzz"));
    request.into_parts().0
});

/// What is stored of a response that comes in these pieces.
fn stored<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    finished: bool,
) -> Vec<(bool, Vec<tower_reasoning_replay::ledger::Alternative>)> {
    let store = One::default();
    let engine =
        Engine::builder(store.clone()).hash_key(HashKey::from_bytes([7; 32])).max_event(1 << 16).build().unwrap();
    let body = Bytes::from_static(br#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#);
    let mut exchange = now(engine.prepare(engine.watch(&HEAD).unwrap(), &HEAD, body));
    let (answer, ()) = Response::new(()).into_parts();
    let Answer::Observe(mut observer) = exchange.answer(&answer) else { panic!("a success is observed") };
    for piece in pieces {
        if let Some(commit) = observer.feed(piece) {
            now(commit.run());
        }
    }
    let last = if finished { observer.finish() } else { observer.interrupted() };
    if let Some(commit) = last {
        now(commit.run());
    }
    let ledger = store.0.lock().unwrap();
    assert!(ledger.turns().len() <= 1);
    assert!(ledger.bytes() <= 17 << 20);
    ledger.turns().map(|turn| (turn.is_provisional(), turn.alternatives().to_vec())).collect()
}

// The end of the input says how the response is cut.
fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(cuts) = input.arbitrary_len::<u8>() else { return };
    let cuts: Vec<usize> = (0..cuts.min(16)).filter_map(|_| input.arbitrary_len::<u8>().ok()).collect();
    let response = input.take_rest();
    let whole = stored([response], true);
    let mut pieces = Vec::new();
    let mut rest = response;
    for cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(stored(pieces, true), whole, "in pieces");
    if response.len() <= 4_096 {
        assert_eq!(stored(response.chunks(1), true), whole, "byte by byte");
    }
    // A body that broke off leaves no more than one that ended, and never a completed turn that the other
    // does not have.
    for (provisional, _) in stored([response], false) {
        assert!(provisional || whole.iter().any(|(whole, _)| !whole));
    }
});
