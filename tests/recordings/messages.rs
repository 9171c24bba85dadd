//! Conversations with Claude, played as clients that lost their state. Reads blocks independently of the crate, as the
//! oracle.

use std::collections::{HashMap, HashSet};

use http::Request;
use serde_json::{Map, Value, json};
use tower_reasoning_replay::engine::Event;

use crate::{
    load::{self, Exchange, Recording, Request as Recorded, Response},
    parts::{normalised, same},
    play::{Played, Session, Stage},
};

/// What the client lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The blocks of thinking.
    Thoughts,
    /// Every opaque value; the blocks are kept.
    Values,
}

/// What else the client does to each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Plain,
    /// Keys stand in another order, empty fields and callers are dropped, adjacent texts are merged, the end of a
    /// cached prefix is marked.
    Forgetful,
    /// The history begins with the second question of the user, where there is one.
    HeadCut,
    /// Each block of the model becomes a message of its own.
    Split,
    /// Adjacent messages of the model become one.
    Joined,
    /// Calls and outputs get ids of the client's own.
    IdsMinted,
    /// A text alone becomes a string.
    Strings,
    /// Calls are dropped, their outputs are kept.
    CallsDropped,
}

impl Mode {
    const ALL: [Self; 8] = [
        Self::Plain,
        Self::Forgetful,
        Self::HeadCut,
        Self::Split,
        Self::Joined,
        Self::IdsMinted,
        Self::Strings,
        Self::CallsDropped,
    ];
}

/// What the layer is excused from.
struct Excuse {
    /// The beginning of the name of the file.
    file: &'static str,
    session: Session,
    modes: &'static [Mode],
    reason: &'static str,
}

const EXCUSES: &[Excuse] = &[Excuse {
    file: "pydantic--test-anthropic-test-pause-turn-web-search-vcr#1",
    session: Session::Derived,
    modes: &[Mode::Split, Mode::Joined],
    reason: "the answer goes on with a paused one, and where it begins the client leaves no trace: nothing proves what \
             precedes it",
}];

const OPAQUE: [&str; 4] = ["signature", "encrypted_content", "encrypted_index", "encrypted_stdout"];

fn is_thought(block: &Value) -> bool {
    matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"))
}

fn messages(body: &Value) -> &[Value] {
    body["messages"].as_array().map_or(&[], Vec::as_slice)
}

fn is_model(message: &Value) -> bool {
    message["role"] == "assistant"
}

/// The blocks of a message; a string is one block of text.
fn blocks(message: &Value) -> Vec<Value> {
    match &message["content"] {
        Value::Array(blocks) => blocks.clone(),
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    }
}

fn is_opaque(of: &Map<String, Value>, key: &str) -> bool {
    OPAQUE.contains(&key) || (key == "data" && of.get("type").is_some_and(|kind| kind == "redacted_thinking"))
}

/// The opaque values of a block, at every level. Shorter ones are no state.
fn tokens(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| tokens(element, found)),
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_str().filter(|_| is_opaque(members, key)) {
                    Some(token) if token.len() >= 16 => found.push(normalised(token)),
                    Some(_) => {}
                    None => tokens(value, found),
                }
            }
        }
        _ => {}
    }
}

fn tokens_of(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    tokens(value, &mut found);
    found
}

/// Removes the opaque values.
fn strip(value: &mut Value) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(strip),
        Value::Object(members) => {
            let keys: Vec<String> = members.keys().filter(|key| is_opaque(members, key)).cloned().collect();
            for key in keys {
                members.remove(&key);
            }
            members.values_mut().for_each(strip);
        }
        _ => {}
    }
}

/// A value without what says nothing, and who called a tool of the provider.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(tidy),
        Value::Object(members) => {
            members.values_mut().for_each(tidy);
            let nothing = |value: &Value| value.is_null() || *value == json!([]) || *value == json!({});
            members
                .retain(|key, value| key != "caller" && key != "cache_control" && (key == "input" || !nothing(value)));
        }
        _ => {}
    }
}

fn tidied(value: &Value) -> Value {
    let mut value = value.clone();
    tidy(&mut value);
    value
}

/// What a client sees of a block, so that texts can be joined and cut.
fn visible(block: &Value) -> String {
    match block["type"].as_str() {
        Some("text") => block["text"].as_str().unwrap_or_default().to_owned(),
        Some("thinking" | "redacted_thinking") => String::new(),
        Some("tool_use") => format!("\0{}{}", block["name"], tidied(&block["input"])),
        Some(kind) => format!("\0{kind}{}{}{}", block["id"], block["tool_use_id"], block["name"]),
        None => format!("\0{block}"),
    }
}

/// The blocks that a response brought.
fn answer(response: &Response) -> Vec<Value> {
    if response.status != 200 {
        return Vec::new();
    }
    if !response.is_sse {
        return response.values().first().map(blocks).unwrap_or_default();
    }
    let mut blocks: Vec<(u64, Value, String)> = Vec::new();
    for event in response.values() {
        let index = event["index"].as_u64();
        match event["type"].as_str() {
            Some("content_block_start") => {
                blocks.push((index.unwrap(), event["content_block"].clone(), String::new()));
            }
            Some("content_block_delta") => {
                let (_, block, input) = blocks.iter_mut().find(|(at, ..)| Some(*at) == index).unwrap();
                let delta = &event["delta"];
                for key in ["text", "thinking", "signature"] {
                    if let Some(piece) = delta[key].as_str() {
                        block[key] = (block[key].as_str().unwrap_or_default().to_owned() + piece).into();
                    }
                }
                input.push_str(delta["partial_json"].as_str().unwrap_or_default());
                if !delta["citation"].is_null() {
                    if !block["citations"].is_array() {
                        block["citations"] = json!([]);
                    }
                    block["citations"].as_array_mut().unwrap().push(delta["citation"].clone());
                }
            }
            _ => {}
        }
    }
    let blocks = blocks.into_iter().map(|(_, mut block, input)| {
        if !input.is_empty() {
            block["input"] = serde_json::from_str(&input).unwrap();
        }
        block
    });
    blocks.collect()
}

/// What was issued in one conversation, answer by answer.
#[derive(Default)]
struct Past {
    answers: Vec<Vec<Value>>,
    tokens: HashSet<String>,
}

impl Past {
    fn learn(&mut self, response: &Response) {
        let blocks = answer(response);
        self.tokens.extend(blocks.iter().flat_map(tokens_of));
        self.answers.push(blocks);
    }

    fn knows(&self, block: &Value) -> bool {
        let tokens = tokens_of(block);
        !tokens.is_empty() && tokens.iter().all(|token| self.tokens.contains(token))
    }

    /// Whether a block with state stands in a run of the model's blocks where it stood when it was issued.
    fn fits(&self, run: &[Value], at: usize) -> bool {
        let joined = |blocks: &[Value]| blocks.iter().map(visible).collect::<String>();
        let (before, after) = (joined(&run[..at]), joined(&run[at + 1..]));
        let equal = |issued: &Value| equal(issued, &run[at]);
        self.answers.iter().any(|answer| {
            let mut found = (0..answer.len()).filter(|index| equal(&answer[*index]));
            if is_thought(&run[at]) {
                found.any(|index| {
                    before.ends_with(&joined(&answer[..index])) && after.starts_with(&joined(&answer[index + 1..]))
                })
            } else {
                found.next().is_some()
            }
        })
    }
}

/// Two blocks are equal, their state included.
fn equal(one: &Value, other: &Value) -> bool {
    let form = |block: &Value| {
        let mut tokens = tokens_of(block);
        tokens.sort();
        let mut block = tidied(block);
        strip(&mut block);
        (tokens, block)
    };
    let ((one, one_block), (other, other_block)) = (form(one), form(other));
    one == other && same(&one_block, &other_block)
}

/// A request as the client sends it.
fn send(loss: Loss, mode: Mode, recorded: &Value) -> Value {
    let mut body = recorded.clone();
    let mut sent: Vec<Value> = Vec::new();
    for message in messages(recorded) {
        let mut message = message.clone();
        if is_model(&message) {
            let mut kept = blocks(&message);
            match loss {
                Loss::Thoughts => kept.retain(|block| !is_thought(block)),
                Loss::Values => kept.iter_mut().for_each(strip),
            }
            if mode == Mode::CallsDropped {
                kept.retain(|block| block["type"] != "tool_use");
            }
            if mode == Mode::Forgetful {
                kept = forget(kept);
            }
            if kept.is_empty() {
                continue;
            }
            message["content"] = kept.into();
        }
        match mode {
            Mode::Split if is_model(&message) => {
                sent.extend(blocks(&message).into_iter().map(|block| json!({"role": "assistant", "content": [block]})));
                continue;
            }
            Mode::Joined if is_model(&message) && sent.last().is_some_and(is_model) => {
                let last = sent.last_mut().unwrap();
                let joined = [blocks(last), blocks(&message)].concat();
                last["content"] = joined.into();
                continue;
            }
            Mode::Strings => {
                if let [block] = &blocks(&message)[..]
                    && block["type"] == "text"
                    && block["citations"].is_null()
                {
                    message["content"] = block["text"].clone();
                }
            }
            _ => {}
        }
        sent.push(message);
    }
    match mode {
        Mode::IdsMinted => mint(&mut sent),
        Mode::HeadCut => {
            let asks = |message: &Value| {
                !is_model(message) && blocks(message).iter().all(|block| block["type"] != "tool_result")
            };
            if let Some(second) = (1..sent.len()).find(|at| asks(&sent[*at]) && is_model(&sent[*at - 1])) {
                sent.drain(..second);
            }
        }
        Mode::Forgetful => {
            // The last block of each message of the last exchange ends a cached prefix.
            for message in sent.iter_mut().rev().take(2) {
                if let Some(last) = message["content"].as_array_mut().and_then(|blocks| blocks.last_mut())
                    && !is_thought(last)
                {
                    last["cache_control"] = json!({"type": "ephemeral"});
                }
            }
        }
        _ => {}
    }
    body["messages"] = sent.into();
    body
}

fn forget(blocks: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    let is_plain = |block: &Value| block["type"] == "text" && block["citations"].as_array().is_none_or(Vec::is_empty);
    for mut block in blocks {
        tidy(&mut block);
        if block["type"] == "thinking" && block["thinking"].is_null() {
            block["thinking"] = "".into();
        }
        match kept.last_mut() {
            Some(last) if is_plain(last) && is_plain(&block) => {
                last["text"] = (last["text"].as_str().unwrap().to_owned() + block["text"].as_str().unwrap()).into();
            }
            _ => kept.push(block),
        }
    }
    kept
}

/// Gives every call a new id, and its output the same.
fn mint(messages: &mut [Value]) {
    let mut ids: HashMap<String, String> = HashMap::new();
    for message in messages {
        for block in message["content"].as_array_mut().into_iter().flatten() {
            let key = match block["type"].as_str() {
                Some("tool_use") => "id",
                Some("tool_result") => "tool_use_id",
                _ => continue,
            };
            let count = u32::try_from(ids.len()).unwrap() + 1;
            let minted = ids.entry(block[key].as_str().unwrap_or_default().to_owned());
            let minted = minted.or_insert_with(|| format!("toolu_{:08x}", count.wrapping_mul(0x9e37_79b9)));
            block[key] = minted.as_str().into();
        }
    }
}

/// Compact JSON with the keys of every object in order, or in reverse order.
fn write(value: &Value, reversed: bool) -> String {
    match value {
        Value::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(|element| write(element, reversed)).collect();
            format!("[{}]", elements.join(","))
        }
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(key, value)| format!("{}:{}", json!(key), write(value, reversed))).collect();
            if reversed {
                members.reverse();
            }
            format!("{{{}}}", members.join(","))
        }
        _ => value.to_string(),
    }
}

#[derive(Default)]
struct Tally {
    exchanges: usize,
    restored: usize,
    expected: usize,
    /// Put back although the recorded client did not carry it.
    beyond: usize,
    misplaced: usize,
    excused: usize,
    used: HashSet<usize>,
    failures: Vec<String>,
}

fn head(recording: &Recording, exchange: &Exchange, session: Option<&str>) -> http::request::Builder {
    let recorded = exchange.request.as_ref().filter(|request| !request.path.is_empty());
    let path = recorded.map_or("/v1/messages", |request| &request.path);
    let headers = recorded.map_or(&[][..], |request| &request.headers);
    let host = headers.iter().find(|(name, _)| name == "host").map(|(_, host)| &**host);
    let elsewhere = !recording.model.starts_with("claude");
    let host = host.unwrap_or(if elsewhere { "api.minimax.io" } else { "api.anthropic.com" });
    let path = if elsewhere { format!("/anthropic{path}") } else { path.to_owned() };
    let mut head = Request::post(format!("https://{host}{path}"));
    for (name, value) in headers.iter().filter(|(name, _)| name != "content-type" && name != "host") {
        head = head.header(name, value);
    }
    if let Some(session) = session {
        head = head.header("x-session-id", session);
    }
    head.header("content-type", "application/json").header("x-api-key", "key")
}

/// A request for a response of which the request was not recorded.
fn opening(recording: &Recording, at: usize) -> Value {
    let prompt = format!("What was answered here? {} {at}", recording.name);
    json!({"model": recording.model, "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]})
}

async fn play(recordings: &[Recording], loss: Loss, mode: Mode, session: Session, chunk: Option<usize>) -> Tally {
    let stage = Stage::new();
    let mut tally = Tally::default();
    let mut everyone = Past::default();
    for recording in recordings {
        let mut pasts: HashMap<u64, Past> = HashMap::new();
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            tally.exchanges += 1;
            let recorded = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            let sent = send(loss, mode, &recorded);
            let bytes = write(&sent, mode == Mode::Forgetful).into_bytes();
            let name = format!("{}-{}", recording.name, exchange.session);
            let head = head(recording, exchange, (session == Session::Known).then_some(&*name));
            let played = stage.exchange(head, bytes, &exchange.response, chunk).await;
            let past = pasts.entry(exchange.session).or_default();
            let label = format!("{loss:?} {mode:?}: {}, exchange {at}", recording.name);
            let mut check = Check {
                label,
                file: &recording.name,
                loss,
                mode,
                session,
                past,
                everyone: &everyone,
                tally: &mut tally,
            };
            check.response(exchange, &played);
            let seen: Value = serde_json::from_slice(&played.seen[0]).expect("what goes upstream is JSON");
            check.carried(&recorded, &sent, &seen);
            check.insertions(&recorded, &sent, &seen);
            if mode == Mode::Plain {
                check.equality(&recorded, &sent, &seen);
            }
            past.learn(&exchange.response);
            everyone.learn(&exchange.response);
        }
    }
    tally
}

struct Check<'a> {
    label: String,
    file: &'a str,
    loss: Loss,
    mode: Mode,
    session: Session,
    past: &'a Past,
    everyone: &'a Past,
    tally: &'a mut Tally,
}

/// The blocks of each run of messages of the model.
fn runs(body: &Value) -> Vec<Vec<Value>> {
    let mut runs: Vec<Vec<Value>> = Vec::new();
    let mut goes_on = false;
    for message in messages(body) {
        if !is_model(message) {
            goes_on = false;
            continue;
        }
        if !goes_on {
            runs.push(Vec::new());
        }
        goes_on = true;
        runs.last_mut().unwrap().extend(blocks(message));
    }
    runs
}

impl Check<'_> {
    fn fail(&mut self, what: &str) {
        self.tally.failures.push(format!("{}: {what}", self.label));
    }

    fn excuse(&self) -> Option<usize> {
        EXCUSES.iter().position(|excuse| {
            self.file.starts_with(excuse.file) && self.session == excuse.session && excuse.modes.contains(&self.mode)
        })
    }

    fn response(&mut self, exchange: &Exchange, played: &Played) {
        if played.received != exchange.response.text.as_bytes() || played.status != exchange.response.status {
            self.fail("the response was altered");
        }
    }

    fn expect(&mut self, is_met: bool, count: usize, what: impl FnOnce() -> String) {
        if is_met {
            self.tally.expected += count;
            self.tally.restored += count;
            return;
        }
        match self.excuse() {
            Some(excuse) => {
                self.tally.excused += count;
                self.tally.used.insert(excuse);
            }
            None => {
                self.tally.expected += count;
                self.fail(&what());
            }
        }
    }

    /// What the recorded client carried back, and this one lost, stands where it was issued.
    fn carried(&mut self, recorded: &Value, sent: &Value, seen: &Value) {
        let upstream = runs(seen);
        let cut = messages(recorded).len()
            - if self.mode == Mode::HeadCut { messages(sent).len() } else { messages(recorded).len() };
        let outputs: HashSet<String> = messages(recorded)
            .iter()
            .flat_map(blocks)
            .filter_map(|block| Some(block["tool_use_id"].as_str()?.to_owned()))
            .collect();
        for message in messages(recorded).iter().skip(cut).filter(|message| is_model(message)) {
            let held = blocks(message);
            let all_dropped = held.iter().all(|block| {
                let answered = block["id"].as_str().is_some_and(|id| outputs.contains(id));
                is_thought(block) || (block["type"] == "tool_use" && !answered)
            });
            for block in &held {
                let dropped = self.mode == Mode::CallsDropped && block["type"] == "tool_use";
                let lost = match self.loss {
                    Loss::Thoughts => is_thought(block),
                    Loss::Values => true,
                };
                if dropped {
                    let issued = self
                        .past
                        .answers
                        .iter()
                        .flatten()
                        .any(|issued| issued["type"] == "tool_use" && issued["id"] == block["id"]);
                    if issued && outputs.contains(block["id"].as_str().unwrap_or_default()) {
                        let is_back = upstream.iter().flatten().any(|back| equal(&tidied(back), &tidied(block)));
                        self.expect(is_back, 1, || format!("a dropped call of {} is not back", block["name"]));
                    }
                    continue;
                }
                if !lost || !self.past.knows(block) || (self.mode == Mode::CallsDropped && all_dropped) {
                    continue;
                }
                let stands = upstream
                    .iter()
                    .any(|run| (0..run.len()).any(|at| equal(&run[at], block) && self.past.fits(run, at)));
                let count = tokens_of(block).len();
                self.expect(stands, count, || format!("a {} is not restored", block["type"]));
            }
        }
    }

    /// Nothing is put where it was not issued, and nothing more than once.
    fn insertions(&mut self, recorded: &Value, sent: &Value, seen: &Value) {
        let carried: HashSet<String> =
            messages(recorded).iter().flat_map(blocks).flat_map(|block| tokens_of(&block)).collect();
        let own: HashSet<String> = messages(sent).iter().flat_map(blocks).flat_map(|block| tokens_of(&block)).collect();
        let mut placed = HashSet::new();
        for run in runs(seen) {
            for at in 0..run.len() {
                let ours: Vec<String> = tokens_of(&run[at]).into_iter().filter(|token| !own.contains(token)).collect();
                if ours.is_empty() {
                    continue;
                }
                let twice = ours.iter().any(|token| placed.contains(token));
                placed.extend(ours.iter().cloned());
                if twice || !self.everyone.fits(&run, at) {
                    self.tally.misplaced += 1;
                    self.fail(&format!("a {} stands where it was not issued", run[at]["type"]));
                }
                self.tally.beyond += ours.iter().filter(|token| !carried.contains(*token)).count();
            }
        }
    }

    /// The request that goes upstream is the recorded one, but for what was never issued here and what was put back
    /// beyond it.
    fn equality(&mut self, recorded: &Value, sent: &Value, seen: &Value) {
        let reachable = if self.session == Session::Derived { self.everyone } else { self.past };
        let carried: HashSet<String> =
            messages(recorded).iter().flat_map(blocks).flat_map(|block| tokens_of(&block)).collect();
        let form = |body: &Value, is_recorded: bool| {
            let mut body = body.clone();
            let held: Vec<Value> = messages(&body).to_vec();
            let held = held.into_iter().map(|mut message| {
                if is_model(&message) {
                    let mut kept = blocks(&message);
                    kept.retain_mut(|block| {
                        let lost = self.loss == Loss::Values || is_thought(block);
                        if is_recorded && lost && !reachable.knows(block) {
                            strip(block);
                            return self.loss == Loss::Values || !is_thought(block);
                        }
                        is_recorded
                            || !is_thought(block)
                            || tokens_of(block).iter().all(|token| carried.contains(token))
                    });
                    message["content"] = kept.into_iter().map(|block| tidied(&block)).collect();
                }
                message
            });
            body["messages"] = held.collect();
            body
        };
        let (one, other) = (form(recorded, true), form(seen, false));
        if self.excuse().is_none() && !same(&one, &other) {
            self.fail("the rebuilt request is not the recorded one");
        }
        // What was not put back is as it was sent.
        if tokens_of(&seen["messages"]) == tokens_of(&sent["messages"]) && sent != seen {
            self.fail("the request was changed without need");
        }
    }
}

/// Conversations that go on after each recorded response, with a client that kept all blocks as they came.
pub(crate) fn echoed(recordings: &[Recording]) -> Vec<Recording> {
    let mut echoed = Vec::new();
    for recording in recordings {
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            let answered = answer(&exchange.response);
            let is_empty = |block: &Value| block["type"] == "text" && block["text"] == "";
            let kept: Vec<Value> = answered.into_iter().filter(|block| !is_empty(block)).collect();
            if kept.is_empty() {
                continue;
            }
            let first = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            let mut second = first.clone();
            let calls = kept.iter().filter(|block| block["type"] == "tool_use");
            let outputs =
                calls.map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "done"}));
            let mut next: Vec<Value> = outputs.collect();
            if next.is_empty() {
                next.push(json!({"type": "text", "text": "And then?"}));
            }
            let held = second["messages"].as_array_mut().unwrap();
            held.push(json!({"role": "assistant", "content": kept}));
            held.push(json!({"role": "user", "content": next}));
            let request = |body: Value| Recorded {
                method: "POST".into(),
                path: exchange.request.as_ref().map(|request| request.path.clone()).unwrap_or_default(),
                headers: exchange.request.as_ref().map(|request| request.headers.clone()).unwrap_or_default(),
                body,
            };
            let exchanges = vec![
                Exchange { session: 0, request: Some(request(first)), response: exchange.response.clone() },
                Exchange {
                    session: 0,
                    request: Some(request(second)),
                    response: document(&json!([{"type": "text", "text": "Done."}])),
                },
            ];
            echoed.push(Recording {
                name: format!("{}#{at}", recording.name),
                cloud_code: false,
                model: recording.model.clone(),
                quirks: Vec::new(),
                exchanges,
            });
        }
    }
    echoed
}

fn document(content: &Value) -> Response {
    let body = json!({"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"});
    Response {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        text: body.to_string(),
        is_sse: false,
        chunk_sizes: Vec::new(),
    }
}

/// The recordings with ids of calls like those that the provider issues, where they were blotted out.
pub(crate) fn load(folders: &[&str]) -> Vec<Recording> {
    let legible = |text: &str| text.replace("toolu_REDACTED_", "toolu_01rEdAcTeDx");
    let mut recordings = load::load(folders);
    for exchange in recordings.iter_mut().flat_map(|recording| &mut recording.exchanges) {
        exchange.response.text = legible(&exchange.response.text);
        if let Some(request) = &mut exchange.request {
            request.body = serde_json::from_str(&legible(&request.body.to_string())).unwrap();
        }
    }
    recordings
}

pub(crate) async fn table(title: &str, recordings: &[Recording]) {
    println!("{title}");
    println!(
        "{:9} {:13} {:8} {:>6} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8}",
        "lost", "mode", "session", "chunks", "exchanges", "restored", "expected", "beyond", "misplaced", "excused"
    );
    let (mut failures, mut used) = (Vec::new(), HashSet::new());
    for loss in [Loss::Thoughts, Loss::Values] {
        for mode in Mode::ALL {
            for session in [Session::Known, Session::Derived] {
                // Without its first content nothing tells the conversation.
                if session == Session::Derived && mode == Mode::HeadCut {
                    continue;
                }
                for chunk in [None, Some(7)] {
                    let tally = play(recordings, loss, mode, session, chunk).await;
                    let Tally { exchanges, restored, expected, beyond, misplaced, excused, .. } = tally;
                    let chunks = chunk.map_or("as is".into(), |size| size.to_string());
                    println!(
                        "{:9} {:13} {:8} {chunks:>6} {exchanges:>9} {restored:>9} {expected:>9} {beyond:>6} {misplaced:>9} {excused:>8}",
                        format!("{loss:?}"),
                        format!("{mode:?}"),
                        format!("{session:?}"),
                    );
                    used.extend(tally.used);
                    failures.extend(tally.failures.into_iter().map(|line| format!("{session:?} {chunks} {line}")));
                }
            }
        }
    }
    for at in used {
        println!("excused: {}*: {}", EXCUSES[at].file, EXCUSES[at].reason);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Plays an error as the answer to a request into which thinking was put; every complaint ends the test.
pub(crate) async fn refuse(recording: &Recording) {
    let name = &recording.name;
    let signature = "bWFkZSB1cCBmb3IgYSB0ZXN0IG9uZQ==";
    let thought = json!({"type": "thinking", "thinking": "I have to look.", "signature": signature});
    let call = json!({"type": "tool_use", "id": "toolu_01k3x9q7tz", "name": "look", "input": {"at": 1}});
    let output = json!({"type": "tool_result", "tool_use_id": "toolu_01k3x9q7tz", "content": "seen"});
    let question = json!({"role": "user", "content": "Look."});
    let first = json!([question]);
    let follow = json!([question, {"role": "assistant", "content": [call]}, {"role": "user", "content": [output]}]);
    let good = document(&json!([thought, call]));
    let missing = name.contains("required") || name.contains("expected-thinking");
    let structure = name.contains("bound-to") || name.contains("modified");
    let model = if recording.model == "claude" { "claude-sonnet-4-5" } else { &recording.model };
    let mut error = recording.exchanges[0].response.clone();
    for pretty in [false, true] {
        if pretty {
            let value: Value = serde_json::from_str(&error.text).unwrap();
            error.text = serde_json::to_string_pretty(&value).unwrap();
        }
        let stage = Stage::new();
        let send = async |messages: &Value, answer: &Response| {
            let body = json!({
                "model": model, "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048,
                "messages": messages,
            });
            let exchange = Exchange { session: 0, request: None, response: answer.clone() };
            stage.exchange(head(recording, &exchange, Some("s")), body.to_string().into_bytes(), answer, Some(7)).await
        };
        let signatures = |body: &[u8]| tokens_of(&serde_json::from_slice(body).unwrap()).len();
        send(&first, &good).await;
        let refused = send(&follow, &error).await;
        assert_eq!(refused.status, error.status, "{name}");
        assert_eq!(refused.received, error.text, "{name}: the error was altered");
        assert_eq!(signatures(&refused.seen[0]), 1, "{name}: nothing was put back");
        let counters = stage.layer.engine().counters();
        let counted =
            [Event::RefusedMissing, Event::RefusedStructure, Event::RefusedInvalid].map(|event| counters.get(event));
        let expected = [missing, structure, !missing && !structure].map(u64::from);
        assert_eq!(counted, expected, "{name}: taken for something else");
        if !missing {
            assert_eq!(refused.seen.len(), 2, "{name}: it was not sent again");
            assert_eq!(signatures(&refused.seen[1]), 0, "{name}");
        }
        let next = send(&follow, &good).await;
        let kept = usize::from(missing || structure);
        assert_eq!(signatures(&next.seen[0]), kept, "{name}: what was refused is forgotten, and nothing else");
    }
}
