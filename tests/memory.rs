//! Rule 11: what an open stream costs, however long it is.
//!
//! A program of its own, without the harness and its threads, because it counts what the whole
//! program allocates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

mod support;

use std::alloc::System;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{
    gemini::{self, GENERATE, QUESTION, STREAM, call_part, event, sse},
    now,
};
use tower_reasoning_replay::{
    Engine, MemoryStore,
    engine::{Answer, Observer},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an open stream may hold, in bytes.
const OPEN: isize = 8 << 10;

fn held(region: &Region<'_, System>) -> isize {
    let change = region.change();
    // Bytes that a reallocation adds count as allocated, those that it gives back as freed.
    change.bytes_allocated as isize - change.bytes_deallocated as isize
}

fn observer(engine: &Engine, uri: &str) -> Box<Observer> {
    let (head, ()) = gemini::post(uri).body(()).unwrap().into_parts();
    let watch = engine.watch(&head).unwrap();
    let mut exchange = now(engine.prepare(watch, &head, Bytes::from_static(QUESTION.as_bytes())));
    let (response, ()) = Response::new(()).into_parts();
    match exchange.answer(&response) {
        Answer::Observe(observer) => observer,
        _ => panic!("the answer is not observed"),
    }
}

fn text(thought: bool) -> Value {
    json!({"text": "Some words of an answer, \"quoted\" and 東京. ".repeat(8), "thought": thought})
}

/// An event of a stream that says this.
type Event = fn(&str) -> String;

/// Streams of the other protocols: their beginning, an event that comes again and again, and the request before them.
const FAMILIES: [(&str, &str, &str, Event); 3] = [
    (
        "https://api.anthropic.com/v1/messages",
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
        concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[]}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,",
            "\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,",
            "\"delta\":{\"type\":\"signature_delta\",\"signature\":\"c2lnbmF0dXJlIG9mIGEgdGhvdWdodA==\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,",
            "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        ),
        |text| {
            let delta = json!({"type": "text_delta", "text": text});
            let event = json!({"type": "content_block_delta", "index": 1, "delta": delta});
            format!("event: content_block_delta\ndata: {event}\n\n")
        },
    ),
    (
        "https://api.openai.com/v1/responses",
        r#"{"model":"m","store":false,"input":"hi"}"#,
        concat!(
            "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":",
            "{\"type\":\"reasoning\",\"id\":\"rs_0a1b2c3d\",\"summary\":[],\"encrypted_content\":\"gAAAAABopaque0state\"}}\n\n",
        ),
        |text| {
            let event = json!({"type": "response.output_text.delta", "output_index": 1, "delta": text});
            format!("event: response.output_text.delta\ndata: {event}\n\n")
        },
    ),
    (
        "https://api.deepseek.com/chat/completions",
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"So it is.\"},\"finish_reason\":null}]}\n\n",
        |text| {
            let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
            format!("data: {}\n\n", json!({"choices": [choice]}))
        },
    ),
];

/// 20 MB of text in each protocol hold no more than some text does.
fn families(engine: &Engine) {
    for (uri, request, beginning, event) in FAMILIES {
        let event = event(&"Some words of an answer, \"quoted\" and 東京. ".repeat(8));
        for frame in [event.len(), 61] {
            let open = || {
                let (head, ()) = gemini::post(uri).body(()).unwrap().into_parts();
                let watch = engine.watch(&head).unwrap();
                let mut exchange = now(engine.prepare(watch, &head, Bytes::from_static(request.as_bytes())));
                let (response, ()) = Response::new(()).into_parts();
                match exchange.answer(&response) {
                    Answer::Observe(observer) => observer,
                    _ => panic!("the answer is not observed"),
                }
            };
            drop(open());
            let region = Region::new(ALLOCATOR);
            let mut observer = open();
            assert!(observer.feed(beginning.as_bytes()).is_none());
            let mut length = 0;
            let mut most = 0;
            while length < 20 << 20 {
                for piece in event.as_bytes().chunks(frame) {
                    assert!(observer.feed(piece).is_none());
                }
                length += event.len();
                most = most.max(held(&region));
                // What is unfinished of an event is held besides.
                assert!(most <= OPEN + event.len() as isize, "{uri}: {most} bytes after {length} in frames of {frame}");
            }
            assert!(!observer.is_over(), "{uri}");
        }
    }
}

fn main() {
    let engine = Engine::builder(MemoryStore::new()).build().unwrap();
    // Whatever is made once for all.
    drop(observer(&engine, STREAM));

    // Events without state, each in a frame and across frames.
    let stream = sse(&vec![event(&[text(false)], None); 64]).into_bytes();
    let array = gemini::array(&vec![event(&[text(false)], None); 64]).into_bytes();
    let array = &[&array[..array.len() - 2], b",\n"].concat();
    for (body, frame) in [(&stream, stream.len() / 64), (&stream, 61), (array, 61), (array, array.len() / 64)] {
        let region = Region::new(ALLOCATOR);
        let mut observer = observer(&engine, STREAM);
        let mut feed = |skip: usize| {
            for piece in body[skip..].chunks(frame) {
                assert!(observer.feed(piece).is_none());
            }
        };
        feed(0);
        // The array opens once.
        let skip = usize::from(body[0] == b'[');
        feed(skip);
        assert!(held(&region) <= OPEN, "{} bytes in frames of {frame}", held(&region));
        let warm = Region::new(ALLOCATOR);
        for _ in 0..8 {
            feed(skip);
        }
        let change = warm.change();
        assert_eq!((change.allocations, change.reallocations), (0, 0), "in frames of {frame}");
        assert!(!observer.is_over());
    }

    families(&engine);

    // Rule 1: a request body in one frame is never copied, if it is not patched.
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "x".repeat(4 << 20)}]}]}).to_string();
    let request = gemini::request(GENERATE, body);
    let rig = support::rig::Rig::new([support::service::whole("{}")]);
    let region = Region::new(ALLOCATOR);
    drop(now(rig.send(request)).unwrap());
    assert!(region.change().bytes_allocated < 1 << 20, "{:?}", region.change());

    // 50 MB, in events of 16 KiB.
    let words = json!({"text": "word ".repeat(3_200)});
    let piece = sse(&[event(&[words], None)]).into_bytes();
    let region = Region::new(ALLOCATOR);
    let mut long = observer(&engine, STREAM);
    let mut length = 0;
    while length < 50 << 20 {
        for piece in piece.chunks(4_000) {
            assert!(long.feed(piece).is_none());
        }
        length += piece.len();
        // Between events hardly more is held than at the start.
        assert!(held(&region) <= OPEN, "{} bytes after {length}", held(&region));
    }
    assert!(!long.is_over());
    drop(long);

    // Answers that think and speak by turns: what is over costs no more than it is remembered by.
    let turns: Vec<Value> = (0..200).map(|at| event(&[text(at % 2 == 0)], None)).collect();
    let region = Region::new(ALLOCATOR);
    let mut changing = observer(&engine, STREAM);
    for event in &turns {
        changing.feed(sse(std::slice::from_ref(event)).as_bytes());
    }
    assert!(held(&region) <= OPEN + 200 * 1_024, "{} bytes", held(&region));
    drop(changing);

    // An event over the bound takes no more than the bound, and gives it back.
    let engine = Engine::builder(MemoryStore::new()).max_event(100_000).build().unwrap();
    let region = Region::new(ALLOCATOR);
    let mut observer = observer(&engine, GENERATE);
    observer.feed(b"data: ");
    for _ in 0..10_000 {
        observer.feed(&[b'x'; 1_000]);
        assert!(held(&region) <= OPEN + 300_000, "{} bytes", held(&region));
    }
    observer.feed(b"\n\n");
    assert!(observer.is_over() && held(&region) <= OPEN, "{} bytes", held(&region));

    // A turn that was committed is the store's.
    let engine = Engine::builder(MemoryStore::new()).build().unwrap();
    let mut observer = self::observer(&engine, STREAM);
    let commit = observer.feed(sse(&[event(&[call_part(gemini::SIGNATURE)], Some("STOP"))]).as_bytes());
    now(commit.unwrap().run());
    assert!(observer.finish().is_none());
}
