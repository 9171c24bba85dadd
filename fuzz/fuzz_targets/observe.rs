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

/// A request of each protocol.
static REQUESTS: LazyLock<[(request::Parts, Bytes); 5]> = LazyLock::new(|| {
    let messages = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    [
        (
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse",
            r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
        ),
        (
            "https://cloudcode-pa.googleapis.com/v1internal:streamGenerateContent?alt=sse",
            r#"{"model":"m","request":{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}}"#,
        ),
        ("https://api.anthropic.com/v1/messages", messages),
        ("https://api.openai.com/v1/responses", r#"{"model":"m","input":"hi"}"#),
        ("https://api.deepseek.com/chat/completions", messages),
    ]
    .map(|(uri, body)| {
        let mut request = Request::post(uri).body(()).unwrap();
        request.extensions_mut().insert(Session::new("fuzz"));
        (request.into_parts().0, Bytes::from_static(body.as_bytes()))
    })
});

/// What is stored of a response that comes in these pieces.
fn stored<'a>(
    which: u8,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    finished: bool,
) -> Vec<(bool, Vec<tower_reasoning_replay::ledger::Alternative>)> {
    let store = One::default();
    let engine =
        Engine::builder(store.clone()).hash_key(HashKey::from_bytes([7; 32])).max_event(1 << 16).build().unwrap();
    let (head, body) = &REQUESTS[usize::from(which) % REQUESTS.len()];
    let mut exchange = now(engine.prepare(engine.watch(head).unwrap(), head, body.clone()));
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
    ledger.turns().map(|turn| (turn.is_provisional(), turn.to_alternatives())).collect()
}

/// The same stream with an empty line of data before that of each event, so that none is known from the one before it.
/// `None` if it is not made of events with one line of data.
fn unlike(response: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(response).ok().filter(|text| !text.contains('\r'))?;
    let events = text.strip_suffix("\n\n")?.split("\n\n");
    let mut out = String::new();
    for event in events {
        let data = event.strip_prefix("data: ").filter(|data| data.starts_with('{') && !data.contains('\n'))?;
        out = out + "data:\ndata: " + data + "\n\n";
    }
    (out.len() < 1 << 16).then(|| out.into_bytes())
}

// The first byte says in which protocol it is; the end of the input says how the response is cut.
fuzz_target!(|data: &[u8]| {
    let Some((&which, data)) = data.split_first() else { return };
    let mut input = Unstructured::new(data);
    let Ok(cuts) = input.arbitrary_len::<u8>() else { return };
    let cuts: Vec<usize> = (0..cuts.min(16)).filter_map(|_| input.arbitrary_len::<u8>().ok()).collect();
    let response = input.take_rest();
    let whole = stored(which, [response], true);
    if let Some(unlike) = unlike(response) {
        assert_eq!(stored(which, [&unlike[..]], true), whole, "read one by one");
    }
    let mut pieces = Vec::new();
    let mut rest = response;
    for cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(stored(which, pieces, true), whole, "in pieces");
    if response.len() <= 4_096 {
        assert_eq!(stored(which, response.chunks(1), true), whole, "byte by byte");
    }
    // A body that broke off leaves no more than one that ended, and never a completed turn that the other
    // does not have.
    for (provisional, _) in stored(which, [response], false) {
        assert!(provisional || whole.iter().any(|(whole, _)| !whole));
    }
});
