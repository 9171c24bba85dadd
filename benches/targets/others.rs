//! What a user might reach for instead.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    convert::Infallible,
    hint::black_box,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    measure::{Table, least},
    store::{self, Times},
    workload::{
        self,
        talk::{self, Dialect, Form, Says, Talk},
    },
};

/// What a library that borrows does: every message and part, with what is asked of it as raw values.
pub(crate) fn raw_values(dialect: Dialect, body: &[u8]) {
    #[derive(Deserialize)]
    struct Gemini<'a> {
        #[serde(borrow)]
        contents: Vec<Content<'a>>,
    }
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        role: Cow<'a, str>,
        #[serde(borrow)]
        parts: Vec<Part<'a>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part<'a> {
        #[serde(borrow)]
        function_call: Option<&'a RawValue>,
        #[serde(borrow)]
        thought_signature: Option<&'a RawValue>,
        #[serde(borrow)]
        text: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Messages<'a> {
        #[serde(borrow)]
        messages: Vec<Message<'a>>,
    }
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: Cow<'a, str>,
        #[serde(borrow)]
        content: Option<&'a RawValue>,
        #[serde(borrow)]
        tool_calls: Option<Vec<Item<'a>>>,
        #[serde(borrow)]
        reasoning_content: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Input<'a> {
        #[serde(borrow)]
        input: Vec<Item<'a>>,
    }
    /// An item of Responses, a block of Messages, a call of chat completions.
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Cow<'a, str>>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        call_id: Option<&'a RawValue>,
        #[serde(borrow)]
        input: Option<&'a RawValue>,
        #[serde(borrow)]
        function: Option<&'a RawValue>,
        #[serde(borrow)]
        text: Option<&'a RawValue>,
        #[serde(borrow)]
        signature: Option<&'a RawValue>,
    }
    fn seen(items: &[Item<'_>]) -> usize {
        let is_known = |item: &&Item<'_>| {
            let raw = [item.id, item.call_id, item.input, item.function, item.text, item.signature];
            item.kind.is_some() || raw.iter().any(Option::is_some)
        };
        items.iter().filter(is_known).count()
    }
    let body = black_box(body);
    black_box(match dialect {
        Dialect::Gemini => {
            let body: Gemini<'_> = serde_json::from_slice(body).unwrap();
            let parts =
                body.contents.iter().filter(|content| content.role == "model").flat_map(|content| &content.parts);
            let is_known =
                |part: &&Part<'_>| [part.function_call, part.thought_signature, part.text].iter().any(Option::is_some);
            parts.filter(is_known).count()
        }
        Dialect::Responses => seen(&serde_json::from_slice::<Input<'_>>(body).unwrap().input),
        Dialect::Anthropic | Dialect::Chat => {
            let body: Messages<'_> = serde_json::from_slice(body).unwrap();
            let count = |message: &Message<'_>| {
                let blocks = message.content.map(RawValue::get).filter(|raw| raw.starts_with('['));
                let blocks: Option<Vec<Item<'_>>> = blocks.map(|raw| serde_json::from_str(raw).unwrap());
                let calls = message.tool_calls.as_deref().map_or(0, seen);
                blocks.map_or(0, |blocks| seen(&blocks)) + calls + usize::from(message.reasoning_content.is_some())
            };
            body.messages.iter().filter(|message| message.role == "assistant").map(count).sum()
        }
    });
}

/// The state of each call, by its id.
type Known = HashMap<String, Value>;

fn known(talk: &Talk) -> Known {
    let state = |state: &str| match talk.dialect {
        Dialect::Gemini | Dialect::Chat => Value::from(state),
        Dialect::Anthropic | Dialect::Responses => serde_json::from_str(&talk.dialect.state(state)).unwrap(),
    };
    let id = |id: &str| match talk.dialect {
        Dialect::Gemini => id.to_owned(),
        Dialect::Anthropic => format!("toolu_01{id}"),
        Dialect::Responses | Dialect::Chat => format!("call_{id}"),
    };
    talk.turns.iter().map(|turn| (id(&turn.id), state(&turn.state))).collect()
}

/// The whole thing as one would write it in an afternoon: parse, put in by the id of the call, and write anew.
fn naive(dialect: Dialect, known: &Known, body: &[u8]) -> Vec<u8> {
    let find = |call: &Value, member: &str| known.get(call[member].as_str()?).cloned();
    let mut body: Value = serde_json::from_slice(body).unwrap();
    match dialect {
        Dialect::Gemini => {
            for content in body["contents"].as_array_mut().unwrap() {
                for part in content["parts"].as_array_mut().unwrap() {
                    if let Some(state) = find(&part["functionCall"], "id") {
                        part["thoughtSignature"] = state;
                    }
                }
            }
        }
        Dialect::Anthropic => {
            for message in body["messages"].as_array_mut().unwrap() {
                if let Some(blocks) = message["content"].as_array_mut()
                    && let Some(state) = blocks.iter().find_map(|block| find(block, "id"))
                {
                    blocks.insert(0, state);
                }
            }
        }
        Dialect::Responses => {
            let mut input: VecDeque<Value> = VecDeque::new();
            for item in body["input"].as_array().unwrap().clone() {
                if item["type"] == "function_call"
                    && let Some(state) = find(&item, "call_id")
                {
                    let message = input.pop_back();
                    input.push_back(state);
                    input.extend(message);
                }
                input.push_back(item);
            }
            body["input"] = Vec::from(input).into();
        }
        Dialect::Chat => {
            for message in body["messages"].as_array_mut().unwrap() {
                if let Some(state) = find(&message["tool_calls"][0], "id") {
                    message["reasoning_content"] = state;
                }
            }
        }
    }
    serde_json::to_vec(&body).unwrap()
}

fn run(events: impl Stream) -> usize {
    workload::now(events.fold(0, |count, _| std::future::ready(count + 1)))
}

fn pieces(response: &Bytes, chunk: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    let mut rest = response.clone();
    let pieces = std::iter::from_fn(move || {
        let piece = rest.split_to(chunk.min(rest.len()));
        (!piece.is_empty()).then_some(Ok(piece))
    });
    stream::iter(pieces)
}

pub(crate) fn table() -> Table {
    Table::new("Beside other libraries", &["what", "the other", "this crate", "the other takes", "that is"])
}

pub(crate) fn compare(table: &mut Table) {
    for dialect in Dialect::ALL {
        let (name, head, talk) = (dialect.name(), dialect.head(), Talk::new(dialect, 200));
        let engine = talk.taught();
        let (stripped, full, known) = (talk.all(Form::Stripped), talk.all(Form::Full), known(&talk));
        let value: Value = serde_json::from_slice(&full).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&naive(dialect, &known, &stripped)).unwrap(), value, "{name}");
        let [nothing, restore, borrowed, parse, whole] = least([
            &mut || drop(black_box(workload::pass(&engine, &head, &full))),
            &mut || drop(black_box(workload::pass(&engine, &head, &stripped))),
            &mut || raw_values(dialect, &full),
            &mut || drop(black_box(serde_json::from_slice::<Value>(black_box(&full)).unwrap())),
            &mut || drop(black_box(naive(dialect, &known, black_box(&stripped)))),
        ]);
        table.beside(&format!("{name}, hist_200, nothing to do"), "parse as borrowed `RawValue`", nothing, borrowed);
        table.beside(&format!("{name}, hist_200, nothing to do"), "parse as `Value`", nothing, parse);
        table.beside(&format!("{name}, hist_200, restore all"), "parse, change and write a `Value`", restore, whole);
    }
    let (engine, dialect) = (workload::engine(), Dialect::Gemini);
    let (head, request) = (dialect.head(), dialect.question());
    let sse = talk::stream(dialect, Says::Text);
    let line = talk::line(dialect, 2 << 20);
    for (what, response, chunk) in [
        ("sse, an event in a piece", &sse, 206),
        ("sse, pieces of 7 B", &sse, 7),
        ("sse, pieces of 16 KiB", &sse, 16 << 10),
        ("one line of 2 MiB, pieces of 16 KiB", &line, 16 << 10),
    ] {
        let [ours, one, other] = least([
            &mut || workload::feed(&engine, &head, &request, response, chunk),
            &mut || _ = black_box(run(pieces(response, chunk).eventsource())),
            &mut || _ = black_box(run(sse_stream::SseStream::from_bytes_stream(pieces(response, chunk)))),
        ]);
        table.beside(what, "`eventsource-stream`, the events alone", ours, one);
        table.beside(what, "`sse-stream`, the events alone", ours, other);
    }
}

/// What get and put take in other stores.
pub(crate) fn stores() -> [(&'static str, (Times, Times)); 3] {
    type Key = [u8; 32];
    type Held = Arc<[u8]>;
    let value = |_| Held::from(vec![b'x'; 1_536]);
    let key = |number| *store::scope(number).as_bytes();
    let moka: moka::sync::Cache<Key, Held> =
        moka::sync::Cache::builder().max_capacity(store::LEDGERS).time_to_idle(Duration::from_secs(3_600)).build();
    let get = |number| drop(black_box(moka.get(&key(number))));
    let moka = store::times(2, &get, &value, &|number, value| moka.insert(key(number), value));
    let capacity = NonZeroUsize::new(usize::try_from(store::LEDGERS).unwrap()).unwrap();
    let lru: Mutex<lru::LruCache<Key, Held>> = Mutex::new(lru::LruCache::new(capacity));
    let get = |number| drop(black_box(lru.lock().unwrap().get(&key(number)).cloned()));
    let put = |number, value| {
        // What it lets go is dropped after the lock.
        let gone = lru.lock().unwrap().push(key(number), value);
        drop(black_box(gone))
    };
    let lru = store::times(2, &get, &value, &put);
    let map: Mutex<HashMap<Key, Held>> = Mutex::new(HashMap::new());
    let get = |number| drop(black_box(map.lock().unwrap().get(&key(number)).cloned()));
    let put = |number, value| _ = map.lock().unwrap().insert(key(number), value);
    let map = store::times(2, &get, &value, &put);
    [("`moka`, an hour to live", moka), ("`Mutex<LruCache>`", lru), ("`Mutex<HashMap>`, which drops nothing", map)]
}

pub(crate) fn compare_stores(table: &mut Table, ours: (Times, Times), others: &[(&str, (Times, Times))]) {
    for (library, theirs) in others {
        table.beside("store with 10,240 entries, 2 threads, get", library, ours.0.half, theirs.0.half);
        table.beside("store with 10,240 entries, 2 threads, put", library, ours.1.half, theirs.1.half);
        table.beside("the same, p99.9 of put", library, ours.1.most, theirs.1.most);
    }
}
