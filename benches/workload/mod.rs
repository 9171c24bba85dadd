//! The conversations that are measured, and the means to measure them.
//!
//! All of it comes from one seed, so every run sees the same bytes.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod family;

use std::{
    fmt::Write as _,
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, request, response};
use tower_reasoning_replay::{
    Engine, MemoryStore,
    engine::{Answer, Exchange, Observer},
    scope::{Session, Tenant},
    store::MemoryStoreBuilder,
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

/// One turn of the model and what the client answered.
pub struct Turn {
    pub text: String,
    /// The value of `functionCall`.
    pub call: String,
    /// The base64 signature.
    pub signature: String,
    /// The value of `functionResponse`.
    pub output: String,
}

/// How a conversation is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Every call has its own id and arguments.
    Different,
    /// Every call has the same id.
    SameId,
    /// Every call is the same, and none has an id.
    Same,
    /// There is none.
    None,
}

/// A conversation.
pub struct Conversation {
    head: String,
    pub turns: Vec<Turn>,
    tail: String,
    /// A message with inline media before the turns, if any.
    media: String,
    calls: Calls,
}

impl Conversation {
    pub fn new(seed: u64, turns: usize, calls: Calls, media: usize) -> Self {
        let random = &mut Random::new(seed);
        let user = random.text(1_500);
        let system = random.text(4 << 10);
        let mut tools = String::new();
        for tool in 0..6 {
            let comma = if tool == 0 { "" } else { "," };
            let description = random.text(480);
            write!(
                tools,
                r#"{comma}{{"name":"tool_{tool}","description":"{description}","parameters":{{"type":"OBJECT","properties":{{"path":{{"type":"STRING"}},"line":{{"type":"INTEGER"}},"options":{{"type":"OBJECT"}}}}}}}}"#
            )
            .unwrap();
        }
        let turns = (0..turns).map(|turn| Turn::new(random, turn, calls)).collect();
        let media = match media {
            0 => String::new(),
            length => format!(
                r#",{{"role":"user","parts":[{{"inlineData":{{"mimeType":"image/png","data":"{}"}}}}]}}"#,
                random.base64(length)
            ),
        };
        Self {
            head: format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{user}"}}]}}"#),
            turns,
            tail: format!(
                r#"],"systemInstruction":{{"parts":[{{"text":"{system}"}}]}},"tools":[{{"functionDeclarations":[{tools}]}}],"generationConfig":{{"temperature":0.2}}}}"#
            ),
            media,
            calls,
        }
    }

    /// The request body after `turns`, of which those have a signature for which `is_signed` holds.
    pub fn body(&self, turns: std::ops::Range<usize>, is_signed: impl Fn(usize) -> bool) -> Bytes {
        self.pick(turns, is_signed)
    }

    /// As `body`, after any of the turns.
    pub fn pick(&self, turns: impl Iterator<Item = usize>, is_signed: impl Fn(usize) -> bool) -> Bytes {
        let mut body = self.head.clone();
        body += &self.media;
        for at in turns {
            self.turns[at].write(&mut body, is_signed(at), self.calls);
        }
        body += &self.tail;
        body.into()
    }

    pub fn full(&self) -> Bytes {
        self.body(0..self.turns.len(), |_| true)
    }

    pub fn stripped(&self) -> Bytes {
        self.body(0..self.turns.len(), |_| false)
    }

    pub fn last1(&self) -> Bytes {
        let last = self.turns.len() - 1;
        self.body(0..self.turns.len(), |at| at != last)
    }
}

impl Turn {
    fn new(random: &mut Random, turn: usize, calls: Calls) -> Self {
        let text = random.text(900);
        let id = if calls == Calls::SameId { "00000000deadbeef".to_owned() } else { random.hex() };
        let id = if calls == Calls::Same { String::new() } else { format!(r#","id":"{id}""#) };
        let tool = turn % 6;
        let (tool, line, content) = match calls {
            Calls::Same => (0, 7, "the same content every time".to_owned()),
            _ => (tool, turn, random.text(160)),
        };
        let call = format!(
            r#"{{"name":"tool_{tool}"{id},"args":{{"path":"src/module_{tool}.rs","line":{line},"options":{{"deep":true,"mode":"fast"}},"list":[1,null,2.5],"content":"{content}"}}}}"#
        );
        let output = format!(r#"{{"name":"tool_{tool}"{id},"response":{{"result":"{}"}}}}"#, random.text(1_000));
        Self { text, call, signature: random.base64(1_536), output }
    }

    fn write(&self, body: &mut String, signed: bool, calls: Calls) {
        let Self { text, call, signature, output } = self;
        if calls == Calls::None {
            write!(body, r#",{{"role":"model","parts":[{{"text":"{text}"}}]}}"#).unwrap();
            write!(body, r#",{{"role":"user","parts":[{{"text":"{text}"}}]}}"#).unwrap();
            return;
        }
        write!(body, r#",{{"role":"model","parts":[{{"text":"{text}"}},{{"functionCall":{call}"#).unwrap();
        if signed {
            write!(body, r#","thoughtSignature":"{signature}""#).unwrap();
        }
        write!(body, r#"}}]}},{{"role":"user","parts":[{{"functionResponse":{output}}}]}}"#).unwrap();
    }

    /// The turn as a provider streams it.
    pub fn events(&self) -> String {
        let Self { text, call, signature, .. } = self;
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}},\"index\":0}}]}}\r\n\r\n\
             data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{call},\"thoughtSignature\":\"{signature}\"}}],\"role\":\"model\"}},\"finishReason\":\"STOP\",\"index\":0}}]}}\r\n\r\n"
        )
    }
}

/// 1.03 MB in 5,000 events: 600 with thoughts, 4 signed calls, 2 signed texts, the rest text.
pub fn sse(with_text: bool) -> Bytes {
    let mut random = Random::new(11);
    let mut out = String::new();
    for event in 0..5_000 {
        let role = r#""role":"model""#;
        let end = if event == 4_999 { r#","finishReason":"STOP""# } else { "" };
        let usage = format!(r#""usageMetadata":{{"totalTokenCount":{}}}"#, 1_000 + event);
        let part = if event % 1_250 == 1_249 && event < 4_999 {
            let (id, path) = (random.hex(), random.hex());
            format!(
                r#"{{"functionCall":{{"name":"tool","id":"{id}","args":{{"path":"{path}"}}}},"thoughtSignature":"{}"}}"#,
                random.base64(512)
            )
        } else if event % 2_400 == 2_399 {
            format!(r#"{{"text":"{}","thoughtSignature":"{}"}}"#, random.text(40), random.base64(512))
        } else if !with_text {
            String::new()
        } else if event < 600 {
            format!(r#"{{"thought":true,"text":"{}"}}"#, random.text(60))
        } else {
            format!(r#"{{"text":"{}"}}"#, random.text(75))
        };
        writeln!(
            out,
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{part}],{role}}}{end},\"index\":0}}],{usage}}}\r\n\r"
        )
        .unwrap();
    }
    out.into()
}

/// An engine whose store can hold what is measured.
pub fn engine() -> Engine {
    let store: MemoryStoreBuilder = MemoryStore::builder();
    let store = store.max_items_per_ledger(100_000).max_bytes_per_ledger(64 << 20).build().unwrap();
    Engine::builder(store).build().unwrap()
}

pub fn head() -> request::Parts {
    session_head("bench")
}

pub fn session_head(session: &str) -> request::Parts {
    let request = Request::post(
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse",
    );
    let mut request = request.header("content-type", "application/json").body(()).unwrap();
    request.extensions_mut().insert(Session::new(session));
    request.extensions_mut().insert(Tenant::new("bench"));
    request.into_parts().0
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

pub fn observer(exchange: &mut Exchange) -> Box<Observer> {
    match exchange.answer(&success()) {
        Answer::Observe(observer) => observer,
        answer => panic!("{answer:?}"),
    }
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

/// An engine that saw every turn of the conversation.
pub fn taught(conversation: &Conversation) -> Engine {
    let engine = engine();
    let head = head();
    for (at, turn) in conversation.turns.iter().enumerate() {
        learn(&engine, &head, &conversation.body(0..at, |_| true), turn.events().as_bytes());
    }
    engine
}

/// The least time of each of several things, in nanoseconds, by turns in one process.
pub fn least<const N: usize>(budget: Duration, mut things: [&mut dyn FnMut(); N]) -> [f64; N] {
    // Short things are repeated until the clock is no matter.
    let repeats = things.each_mut().map(|thing| {
        thing();
        let start = Instant::now();
        thing();
        (20_000 / start.elapsed().as_nanos().max(1)).clamp(1, 4_000) as u32
    });
    let mut least = [f64::INFINITY; N];
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 5 || start.elapsed() < budget {
        for (at, thing) in things.iter_mut().enumerate() {
            let start = Instant::now();
            for _ in 0..repeats[at] {
                thing();
            }
            least[at] = least[at].min(start.elapsed().as_nanos() as f64 / f64::from(repeats[at]));
        }
        rounds += 1;
    }
    least
}

/// Looks for a byte that is not there.
pub fn memchr(body: &[u8]) {
    black_box(memchr::memchr(0, black_box(body)));
}

/// A copy into memory of its own.
pub fn memcpy(body: &[u8]) {
    black_box(Bytes::copy_from_slice(black_box(body)));
}

/// What a library that borrows does: every message and part as a raw value.
pub fn raw_values(body: &[u8]) {
    use std::borrow::Cow;

    use serde_json::value::RawValue;

    #[derive(serde::Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        contents: Vec<Message<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: Cow<'a, str>,
        #[serde(borrow)]
        parts: Vec<Part<'a>>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part<'a> {
        #[serde(borrow)]
        function_call: Option<&'a RawValue>,
        #[serde(borrow)]
        thought_signature: Option<&'a RawValue>,
        #[serde(borrow)]
        text: Option<&'a RawValue>,
    }
    let body: Body<'_> = serde_json::from_slice(black_box(body)).unwrap();
    let parts = body.contents.iter().flat_map(|message| &message.parts);
    let some =
        parts.filter(|part| part.function_call.is_some() || part.thought_signature.is_some() || part.text.is_some());
    black_box((some.count(), body.contents.iter().filter(|message| message.role == "model").count()));
}

pub fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        0.0..1e3 => format!("{nanoseconds:.1} ns"),
        1e3..1e6 => format!("{:.1} µs", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    }
}

pub fn heading(title: &str) {
    println!("\n## {title}\n");
    println!("| workload | measured | floor | ratio | target |");
    println!("|---|---|---|---|---|");
}

pub fn row(workload: &str, measured: &str, floor: &str, ratio: &str, target: &str) {
    println!("| {workload} | {measured} | {floor} | {ratio} | {target} |");
}
