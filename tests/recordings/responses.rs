//! Recorded traffic of the Responses API. The state is a reasoning item, which stands before what it led to.

use std::collections::{HashMap, HashSet, VecDeque};

use http::{Request, request::Builder};
use serde_json::{Map, Value, json};
use tower_reasoning_replay::engine::Event;

use crate::{
    client::write,
    load::{self, Exchange, Recording, Response},
    play::{Played, Session, Stage},
};

/// What the layer is excused from.
struct Exception {
    /// The beginning of the name of the file.
    file: &'static str,
    reason: &'static str,
    excuses: fn(Session, &Value) -> bool,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        file: "pydantic--test-openai-responses-test-openai-responses-compact",
        reason: "a compaction item that is lost as a whole leaves nothing behind that it belongs to",
        excuses: |_, item| kind(item) == "compaction",
    },
    Exception {
        file: "ai--openai-responses-openai-compaction",
        reason: "a compaction item that is lost as a whole leaves nothing behind that it belongs to",
        excuses: |_, item| kind(item) == "compaction",
    },
    Exception {
        file: "openinference--openinference-instrumentation-litellm-test-responses-test-responses-input-typed-reasoning-item",
        reason: "the recorded client left out the question, so that nothing says which conversation goes on",
        excuses: |session, _| session == Session::Derived,
    },
];

/// What the client does to each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Every item that carries state is removed.
    Removed,
    /// So it is, and items lose their ids and what else a translator does not know; keys stand in another order.
    Forgetful,
    /// Calls and outputs get ids of the client's own, and items lose theirs.
    IdsMinted,
    /// The history begins with the second question of the user, where there is one.
    HeadCut,
    /// Arguments are written with other white space, and their keys stand in another order.
    Rewritten,
    /// Each output stands right behind its call.
    Interleaved,
    /// Calls are dropped, their outputs are kept.
    CallsDropped,
    /// The state is taken out of its items, which stay.
    Stripped,
    /// So it is, and all items lose their ids.
    StrippedIds,
}

impl Mode {
    const ALL: [Self; 9] = [
        Self::Removed,
        Self::Forgetful,
        Self::IdsMinted,
        Self::HeadCut,
        Self::Rewritten,
        Self::Interleaved,
        Self::CallsDropped,
        Self::Stripped,
        Self::StrippedIds,
    ];

    fn keeps_opening(self) -> bool {
        self != Self::HeadCut
    }

    /// What carries state stays, without it.
    fn strips(self) -> bool {
        matches!(self, Self::Stripped | Self::StrippedIds)
    }
}

fn input(body: &Value) -> Vec<Value> {
    body["input"].as_array().cloned().unwrap_or_default()
}

fn kind(item: &Value) -> &str {
    item["type"].as_str().unwrap_or(if item.get("role").is_some() { "message" } else { "" })
}

fn carries(item: &Value) -> bool {
    matches!(kind(item), "reasoning" | "compaction")
}

fn is_call(item: &Value) -> bool {
    kind(item) == "function_call"
}

fn is_output(item: &Value) -> bool {
    kind(item) == "function_call_output"
}

fn asks(item: &Value) -> bool {
    kind(item) == "message" && item["role"] == "user"
}

/// The state of an item, if it has some.
fn token(item: &Value) -> Option<String> {
    if !carries(item) {
        return None;
    }
    let encrypted = item["encrypted_content"].as_str().filter(|state| !state.is_empty()).map(str::to_owned);
    let shown = || {
        let texts = item["content"].as_array()?.iter().filter_map(|part| part["text"].as_str());
        Some(texts.collect::<Vec<_>>().concat()).filter(|text| !text.is_empty())
    };
    encrypted.or_else(shown)
}

/// What a client has of an item, whatever it calls it: by this it is known that one item is another.
fn essence(item: &Value) -> Value {
    match kind(item) {
        "message" => {
            let text = match &item["content"] {
                Value::String(text) => text.clone(),
                parts => {
                    let parts = parts.as_array().into_iter().flatten();
                    parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().concat()
                }
            };
            json!(["message", item["role"], text])
        }
        "function_call" => {
            let arguments: Value = serde_json::from_str(item["arguments"].as_str().unwrap_or("{}")).unwrap_or_default();
            json!(["function_call", item["name"], arguments])
        }
        "mcp_call" => json!(["mcp_call", item["name"], item["arguments"]]),
        "web_search_call" => json!(["web_search_call", item["action"]["query"]]),
        kind => json!([kind]),
    }
}

/// A piece of state as it was issued.
#[derive(Clone, Debug)]
struct Issued {
    token: String,
    item: Value,
    /// The item that it led to.
    next: Option<Value>,
}

/// The items of an answer, as they were when they were done.
fn output(response: &Response) -> Vec<Value> {
    if response.status != 200 {
        return Vec::new();
    }
    if !response.is_sse {
        let document: Value = serde_json::from_str(&response.text).unwrap_or_default();
        let items = document["output"].as_array().filter(|_| document["object"] == "response");
        return items.cloned().unwrap_or_default();
    }
    let mut items: Vec<(u64, Value)> = Vec::new();
    // Some recordings hold the answers of a whole loop, one behind the other; a response ends with the first one.
    let ends = |event: &Value| event["type"] == "response.completed";
    for event in response.values().into_iter().take_while(|event| !ends(event)) {
        if event["type"] == "response.output_item.done" {
            items.push((event["output_index"].as_u64().unwrap(), event["item"].clone()));
        }
    }
    items.sort_by_key(|(index, _)| *index);
    items.into_iter().map(|(_, item)| item).collect()
}

fn issued(response: &Response) -> Vec<Issued> {
    let items = output(response);
    let states = items.iter().enumerate().filter_map(|(at, item)| {
        let next = items[at + 1..].iter().find(|item| !carries(item)).cloned();
        Some(Issued { token: token(item)?, item: item.clone(), next })
    });
    states.collect()
}

/// A request as the client sends it.
struct Sent {
    body: Value,
    bytes: Vec<u8>,
    /// Where the items of the recorded request went.
    places: HashMap<usize, usize>,
}

fn send(mode: Mode, recorded: &Value) -> Sent {
    let mut items: Vec<(usize, Value)> = input(recorded).into_iter().enumerate().collect();
    match mode {
        Mode::Removed => {}
        Mode::Forgetful => items.iter_mut().for_each(|(_, item)| *item = forget(item)),
        Mode::IdsMinted => mint(&mut items),
        Mode::HeadCut => {
            let second = (1..items.len()).find(|at| asks(&items[*at].1) && items[..*at].iter().any(|(_, it)| asks(it)));
            items.drain(..second.unwrap_or(0));
        }
        Mode::Rewritten => items.iter_mut().for_each(|(_, item)| rewrite(item)),
        Mode::Interleaved => interleave(&mut items),
        Mode::CallsDropped => items.retain(|(_, item)| !is_call(item)),
        Mode::Stripped => {}
        Mode::StrippedIds => items.iter_mut().filter(|(_, item)| kind(item) != "compaction").for_each(|(_, item)| {
            item.as_object_mut().unwrap().remove("id");
        }),
    }
    let mut body = recorded.clone();
    if mode.strips() {
        items.iter_mut().filter(|(_, item)| carries(item)).for_each(|(_, item)| {
            let item = item.as_object_mut().unwrap();
            item.remove("encrypted_content");
            item.remove("content");
            item.insert("summary".into(), json!([]));
        });
        body["store"] = false.into();
    } else {
        items.retain(|(_, item)| !carries(item));
    }
    let places = items.iter().enumerate().map(|(to, (from, _))| (*from, to)).collect();
    if body["input"].is_array() {
        body["input"] = items.into_iter().map(|(_, item)| item).collect();
    }
    let mut bytes = Vec::new();
    write(&body, matches!(mode, Mode::Forgetful | Mode::Rewritten), &mut bytes);
    Sent { body, bytes, places }
}

/// What remains of an item when it went through another protocol.
fn forget(item: &Value) -> Value {
    let mut item = item.clone();
    let members = item.as_object_mut().unwrap();
    for gone in ["id", "status", "phase"] {
        members.remove(gone);
    }
    if kind(&item) == "message" {
        let role = item["role"].clone();
        let text = essence(&item)[2].clone();
        let is_plain = item["content"].as_array().is_none_or(|parts| parts.iter().all(|part| part["text"].is_string()));
        if role == "assistant" && is_plain {
            return json!({"role": role, "content": text});
        }
    }
    item
}

fn mint(items: &mut [(usize, Value)]) {
    let mut minted: HashMap<String, String> = HashMap::new();
    for (_, item) in items {
        let members: &mut Map<String, Value> = item.as_object_mut().unwrap();
        members.remove("id");
        if let Some(id) = members.get("call_id").and_then(Value::as_str).map(str::to_owned) {
            let count = u32::try_from(minted.len()).unwrap() + 1;
            let fresh = || format!("minted_{:08x}", count.wrapping_mul(0x9e37_79b9));
            members.insert("call_id".into(), minted.entry(id).or_insert_with(fresh).clone().into());
        }
    }
}

fn rewrite(item: &mut Value) {
    let Some(arguments) = item["arguments"].as_str().filter(|_| is_call(item)) else { return };
    let Ok(value) = serde_json::from_str::<Value>(arguments) else { return };
    let mut reversed = Vec::new();
    write(&value, true, &mut reversed);
    let spaced = String::from_utf8(reversed).unwrap().replacen(':', " : ", 1);
    item["arguments"] = format!(" {spaced}\n").into();
}

fn interleave(items: &mut Vec<(usize, Value)>) {
    let mut outputs: VecDeque<(usize, Value)> = VecDeque::new();
    let calls: HashSet<Value> =
        items.iter().filter(|(_, item)| is_call(item)).map(|(_, item)| item["call_id"].clone()).collect();
    items.retain(|(at, item)| {
        let moves = is_output(item) && calls.contains(&item["call_id"]);
        if moves {
            outputs.push_back((*at, item.clone()));
        }
        !moves
    });
    let mut interleaved = Vec::new();
    for (at, item) in items.drain(..) {
        let id = item["call_id"].clone();
        let is_call = is_call(&item);
        interleaved.push((at, item));
        if let Some(output) = outputs.iter().position(|(_, output)| is_call && output["call_id"] == id) {
            interleaved.extend(outputs.remove(output));
        }
    }
    *items = interleaved;
}

#[derive(Clone, Debug, Default)]
struct Tally {
    exchanges: usize,
    expected: usize,
    restored: usize,
    /// Put back although the recorded client did not carry it.
    beyond: usize,
    misplaced: usize,
    excused: usize,
    calls: usize,
    used: HashSet<usize>,
    failures: Vec<String>,
}

#[derive(Default)]
struct Past {
    issued: Vec<Issued>,
    calls: Vec<Value>,
}

async fn play(recordings: &[Recording], mode: Mode, session: Session, chunk: Option<usize>) -> Tally {
    let stage = Stage::new();
    let mut tally = Tally::default();
    // Conversations with one opening share a ledger if nothing names them.
    let (mut everyone, mut every_call): (Vec<Issued>, Vec<Value>) = Default::default();
    for recording in recordings {
        let mut pasts: HashMap<u64, Past> = HashMap::new();
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            if exchange.response.status != 200 && exchange.request.is_none() {
                continue;
            }
            tally.exchanges += 1;
            let recorded = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            let sent = send(mode, &recorded);
            let name = format!("{}-{}", recording.name, exchange.session);
            let head = head(exchange, (session == Session::Known).then_some(&*name));
            let played = stage.exchange(head, sent.bytes.clone(), &exchange.response, chunk).await;
            let past = pasts.entry(exchange.session).or_default();
            let (reachable, calls) = match session {
                Session::Derived => (&everyone, &every_call),
                Session::Known => (&past.issued, &past.calls),
            };
            let mut check = Check { recording, at, mode, session, past, reachable, calls, tally: &mut tally };
            check.response(exchange, &played);
            let seen: Value = serde_json::from_slice(&played.seen[0]).expect("what goes upstream is JSON");
            check.request(&recorded, &sent, &seen);
            past.issued.extend(issued(&exchange.response));
            everyone.extend(issued(&exchange.response));
            let calls: Vec<Value> = output(&exchange.response).into_iter().filter(is_call).collect();
            past.calls.extend(calls.iter().cloned());
            every_call.extend(calls);
        }
    }
    tally
}

fn opening(recording: &Recording, at: usize) -> Value {
    let prompt = format!("What was answered here? {} {at}", recording.name);
    json!({"model": recording.model, "input": [{"role": "user", "content": prompt}]})
}

fn head(exchange: &Exchange, session: Option<&str>) -> Builder {
    let recorded = exchange.request.as_ref().filter(|request| !request.path.is_empty());
    let headers = recorded.map_or(&[][..], |request| &request.headers);
    let host = headers.iter().find(|(name, _)| name == "host").map_or("api.openai.com", |(_, host)| host);
    let path = recorded.map_or("/v1/responses", |request| &request.path);
    let mut head = Request::post(format!("https://{host}{path}")).header("authorization", "Bearer key");
    for (name, value) in headers {
        head = head.header(name, value);
    }
    if !headers.iter().any(|(name, _)| name == "content-type") {
        head = head.header("content-type", "application/json");
    }
    match session {
        Some(session) => head.header("x-session-id", session),
        None => head,
    }
}

struct Check<'a> {
    recording: &'a Recording,
    at: usize,
    mode: Mode,
    session: Session,
    past: &'a Past,
    /// What may be put back here at all.
    reachable: &'a [Issued],
    calls: &'a [Value],
    tally: &'a mut Tally,
}

impl Check<'_> {
    fn fail(&mut self, what: &str) {
        let (mode, name, at) = (self.mode, &self.recording.name, self.at);
        self.tally.failures.push(format!("{mode:?}: {name}, exchange {at}: {what}"));
    }

    fn excuse(&self, item: &Value) -> Option<usize> {
        let name = &self.recording.name;
        let fits = |exception: &Exception| name.starts_with(exception.file) && (exception.excuses)(self.session, item);
        EXCEPTIONS.iter().position(fits)
    }

    fn expect(&mut self, is_met: bool, item: &Value, what: impl FnOnce() -> String) {
        if is_met {
            self.tally.expected += 1;
            self.tally.restored += 1;
            return;
        }
        match self.excuse(item) {
            Some(excuse) => {
                self.tally.excused += 1;
                self.tally.used.insert(excuse);
            }
            None => {
                self.tally.expected += 1;
                let what = what();
                self.fail(&what);
            }
        }
    }

    fn response(&mut self, exchange: &Exchange, played: &Played) {
        if played.received != exchange.response.text.as_bytes() || played.status != exchange.response.status {
            self.fail("the response was altered");
        }
    }

    fn request(&mut self, recorded: &Value, sent: &Sent, seen: &Value) {
        let before = input(&sent.body);
        let after = input(seen);
        // Which item upstream is which one that the client sent; the others were put in.
        let (mut kept, mut added) = (HashMap::new(), Vec::new());
        let mut next = 0;
        for (at, item) in after.iter().enumerate() {
            match before.get(next) {
                Some(held) if held == item || self.is_filled(held, item) => {
                    kept.insert(next, at);
                    next += 1;
                }
                _ => added.push(at),
            }
        }
        if next != before.len() {
            self.fail("what the client sent did not go upstream as it was");
        }
        let rest = |body: &Value| {
            let mut body = body.clone();
            body.as_object_mut().unwrap().remove("input");
            body
        };
        if rest(&sent.body) != rest(seen) {
            self.fail("something else than the input was changed");
        }
        if !added.is_empty() && !recorded["previous_response_id"].is_null() {
            self.fail("something was put into a history that the provider keeps");
        }
        let carried: HashSet<String> = input(recorded).iter().filter_map(token).collect();
        self.insertions(&carried, &after, &added);
        self.carried(recorded, sent, &kept, &after);
        if self.mode == Mode::CallsDropped {
            self.calls(recorded, &after);
        }
        if self.mode == Mode::Removed {
            self.equals(recorded, &after);
        }
    }

    /// Whether an item that the client sent without its state has it now.
    fn is_filled(&self, held: &Value, item: &Value) -> bool {
        if !self.mode.strips() || !carries(held) || kind(held) != kind(item) || token(item).is_none() {
            return false;
        }
        let same_id = held.get("id").is_none() || held["id"] == item["id"];
        same_id && self.reachable.iter().any(|issued| Some(&issued.token) == token(item).as_ref())
    }

    /// Whatever carries state stands where it was issued, once; and whatever else was put in was issued too.
    fn insertions(&mut self, carried: &HashSet<String>, after: &[Value], added: &[usize]) {
        let mut met = HashSet::new();
        for (at, item) in after.iter().enumerate() {
            let Some(token) = token(item) else {
                if added.contains(&at) && !(is_call(item) && self.calls.contains(item)) {
                    self.tally.misplaced += 1;
                    self.fail(&format!("what stands at input[{at}] was never issued"));
                }
                continue;
            };
            let next = after[at + 1..].iter().find(|item| !carries(item));
            let is_at_home = |issued: &Issued| {
                let follows = match (&issued.next, next) {
                    (Some(one), Some(other)) => essence(one) == essence(other),
                    (None, _) => kind(&issued.item) == "compaction",
                    (Some(_), None) => false,
                };
                // The id goes back only with that of what follows.
                let is_named = next.is_some_and(|next| next["id"].as_str().is_some_and(|id| !id.is_empty()));
                let named = match item.get("id") {
                    None => true,
                    Some(id) => *id == issued.item["id"] && (is_named || !added.contains(&at)),
                };
                let mut bare = issued.item.clone();
                let mut put = item.clone();
                for item in [&mut bare, &mut put] {
                    item.as_object_mut().unwrap().remove("id");
                }
                issued.token == token && follows && named && (!added.contains(&at) || bare == put)
            };
            if !self.reachable.iter().any(is_at_home) || !met.insert(token.clone()) {
                self.tally.misplaced += 1;
                self.fail(&format!("what stands at input[{at}] was issued for something else"));
            } else if !carried.contains(&token) {
                self.tally.beyond += 1;
            }
        }
    }

    /// Everything that the recorded client carried back stands before what it stood before.
    fn carried(&mut self, recorded: &Value, sent: &Sent, kept: &HashMap<usize, usize>, after: &[Value]) {
        let items = input(recorded);
        for (at, item) in items.iter().enumerate() {
            let Some(token) = token(item) else { continue };
            let Some(issued) = self.past.issued.iter().find(|issued| issued.token == token).cloned() else {
                continue;
            };
            let is_compaction = kind(item) == "compaction";
            let stands = after.iter().position(|item| self::token(item).as_ref() == Some(&token));
            if let Some(to) = sent.places.get(&at).filter(|_| self.mode.strips()) {
                let is_met = stands.is_some() && kept.get(to).copied() == stands;
                self.expect(is_met, item, || format!("input[{at}] is not filled"));
                continue;
            }
            let next = (at + 1..items.len()).find(|at| !carries(&items[*at]));
            let Some(next) = next else { continue };
            if !is_compaction && issued.next.as_ref().map(essence) != Some(essence(&items[next])) {
                // The recorded client had it elsewhere than it was issued.
                continue;
            }
            if self.mode == Mode::CallsDropped && is_call(&items[next]) {
                // It returns with its call, if the output of that was kept.
                let answered = items.iter().any(|it| is_output(it) && it["call_id"] == items[next]["call_id"]);
                if answered {
                    self.expect(stands.is_some(), item, || format!("input[{at}] is not back with its call"));
                }
                continue;
            }
            let Some(to) = sent.places.get(&next).and_then(|to| kept.get(to)) else { continue };
            let is_met =
                stands.and_then(|stands| after.get(stands + 1..*to)).is_some_and(|between| between.iter().all(carries));
            self.expect(is_met, item, || format!("input[{at}] is not restored"));
        }
    }

    /// The calls of which outputs were kept are back, before them.
    fn calls(&mut self, recorded: &Value, after: &[Value]) {
        let items = input(recorded);
        for item in items.iter().filter(|item| is_call(item)) {
            let id = item["call_id"].as_str().unwrap();
            let Some(call) = self.past.calls.iter().find(|call| call["call_id"] == id) else { continue };
            let Some(output) = after.iter().position(|item| is_output(item) && item["call_id"] == id) else { continue };
            let back = after[..output].iter().position(|item| item == call);
            self.tally.calls += usize::from(back.is_some());
            if back.is_none() {
                self.fail("a dropped call is not back");
            }
        }
    }

    /// The rebuilt request is the recorded one, but for what the recorded client never carried, or wrote otherwise.
    fn equals(&mut self, recorded: &Value, after: &[Value]) {
        let reduce = |items: &[Value], tokens: &HashSet<String>| -> Vec<Value> {
            let items = items.iter().filter_map(|item| match token(item) {
                _ if !carries(item) => Some(item.clone()),
                Some(token) if tokens.contains(&token) => Some(token.into()),
                _ => None,
            });
            items.collect()
        };
        let items = input(recorded);
        let known: HashSet<String> = self.past.issued.iter().map(|issued| issued.token.clone()).collect();
        let carried: HashSet<String> = items.iter().filter_map(token).filter(|token| known.contains(token)).collect();
        let excused = items.iter().any(|item| carries(item) && self.excuse(item).is_some());
        if !excused && reduce(&items, &carried) != reduce(after, &carried) {
            self.fail("the rebuilt request is not the recorded one");
        }
    }
}

/// Conversations that go on after each recorded response, with a client that kept all items but the state as they came.
fn echoed(recordings: &[Recording]) -> Vec<Recording> {
    let mut echoed = Vec::new();
    for recording in recordings {
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            let items = output(&exchange.response);
            let kept = exchange.request.as_ref().is_some_and(|request| !request.body["previous_response_id"].is_null());
            let compacts = exchange.request.as_ref().is_some_and(|request| request.path.ends_with("/compact"));
            if items.is_empty() || kept || compacts {
                continue;
            }
            let mut first = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            first["input"] = input(&first).into_iter().filter(|item| !carries(item)).collect();
            let mut second = first.clone();
            let next = second["input"].as_array_mut().unwrap();
            let outputs = items
                .iter()
                .filter(|item| is_call(item))
                .map(|call| json!({"type": "function_call_output", "call_id": call["call_id"], "output": "done"}));
            let mut outputs: Vec<Value> = outputs.collect();
            if outputs.is_empty() {
                outputs.push(json!({"role": "user", "content": "And then?"}));
            }
            next.extend(items);
            next.extend(outputs);
            let request = |body: Value| load::Request {
                method: "POST".into(),
                path: exchange.request.as_ref().map(|request| request.path.clone()).unwrap_or_default(),
                headers: exchange.request.as_ref().map(|request| request.headers.clone()).unwrap_or_default(),
                body,
            };
            let done =
                json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]});
            let answer = plain(200, &json!({"object": "response", "status": "completed", "output": [done]}));
            echoed.push(Recording {
                name: format!("{}#{at}", recording.name),
                cloud_code: false,
                model: recording.model.clone(),
                quirks: Vec::new(),
                exchanges: vec![
                    Exchange { session: 0, request: Some(request(first)), response: exchange.response.clone() },
                    Exchange { session: 0, request: Some(request(second)), response: answer },
                ],
            });
        }
    }
    echoed
}

fn plain(status: u16, body: &Value) -> Response {
    Response {
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        text: body.to_string(),
        is_sse: false,
        chunk_sizes: Vec::new(),
    }
}

async fn table(title: &str, recordings: &[Recording]) {
    println!("{title}");
    println!(
        "{:14} {:8} {:>6} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8} {:>6}",
        "mode", "session", "chunks", "exchanges", "restored", "expected", "beyond", "misplaced", "excused", "calls"
    );
    let (mut failures, mut used) = (Vec::new(), HashSet::new());
    for mode in Mode::ALL {
        for session in [Session::Known, Session::Derived] {
            if session == Session::Derived && !mode.keeps_opening() {
                continue;
            }
            for chunk in [None, Some(7)] {
                let tally = play(recordings, mode, session, chunk).await;
                let Tally { exchanges, restored, expected, beyond, misplaced, excused, calls, .. } = tally;
                let chunks = chunk.map_or("as is".into(), |size| size.to_string());
                println!(
                    "{:14} {:8} {chunks:>6} {exchanges:>9} {restored:>9} {expected:>9} {beyond:>6} {misplaced:>9} {excused:>8} {calls:>6}",
                    format!("{mode:?}"),
                    format!("{session:?}"),
                );
                used.extend(tally.used);
                failures.extend(tally.failures.into_iter().map(|line| format!("{session:?} {chunks} {line}")));
            }
        }
    }
    for at in used {
        println!("excused: {}*: {}", EXCEPTIONS[at].file, EXCEPTIONS[at].reason);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

const FOLDERS: [&str; 1] = ["openai-responses"];

#[tokio::test]
async fn responses_are_restored_as_clients_carried_them_back() {
    table("Recorded conversations of the Responses API", &load::load(&FOLDERS)).await;
}

#[tokio::test]
async fn whatever_the_responses_api_issued_is_restored() {
    table("Recorded answers of the Responses API, echoed", &echoed(&load::load(&FOLDERS))).await;
}

/// Neither is one that a provider issued.
const STATE: &str = "gAAAAABmade-up-for-a-test-and-for-nothing-else";

async fn refuse(recording: &Recording) {
    let name = &recording.name;
    let error = &recording.exchanges[0].response;
    // Where the report names an item, it is the one that was put in.
    let from = error.text.find("rs_").map_or("", |at| &error.text[at..]);
    let id: String = from.chars().take_while(|at| at.is_ascii_alphanumeric() || *at == '_').collect();
    let id = if id.len() > 3 { id } else { "rs_0123456789abcdef".into() };
    let reasoning = json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": STATE});
    let call = json!({
        "type": "function_call", "id": "fc_0123456789abcdef", "call_id": "call_k3x9q7tzw2", "name": "look", "arguments": "{}"
    });
    let question = json!({"role": "user", "content": "Look."});
    let seen = json!({"type": "function_call_output", "call_id": "call_k3x9q7tzw2", "output": "nothing"});
    let good = json!({"object": "response", "status": "completed", "output": [reasoning, call]});
    let good = plain(200, &good);
    let stage = Stage::new();
    let exchange = async |input: Value, answer: &Response| {
        let body = json!({"model": recording.model, "input": input}).to_string();
        let request = Exchange { session: 0, request: None, response: answer.clone() };
        stage.exchange(head(&request, Some("s")), body.into_bytes(), answer, Some(7)).await
    };
    let states = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap();
        input(&body).iter().filter(|item| token(item).is_some()).count()
    };
    exchange(json!([question]), &good).await;
    let follow = json!([question, call, seen]);
    let refused = exchange(follow.clone(), error).await;
    assert_eq!((refused.status, &refused.received[..]), (error.status, error.text.as_bytes()), "{name}: altered");
    assert_eq!(states(&refused.seen[0]), 1, "{name}: nothing was put back");
    let counters = stage.layer.engine().counters();
    let is_structure = name.contains("without-following-item");
    let (event, other) = match is_structure {
        true => (Event::RefusedStructure, Event::RefusedInvalid),
        false => (Event::RefusedInvalid, Event::RefusedStructure),
    };
    assert_eq!((counters.get(event), counters.get(other)), (1, 0), "{name}: taken for something else");
    assert_eq!(refused.seen.len(), 2, "{name}: it was not sent again");
    assert_eq!(states(&refused.seen[1]), 0, "{name}: it was sent again as it was");
    let next = exchange(follow, &good).await;
    assert_eq!(states(&next.seen[0]), usize::from(is_structure), "{name}: what was refused is forgotten, nothing else");
}

#[tokio::test]
async fn refusals_of_the_responses_api_are_told_apart_and_reach_the_client() {
    let recordings = load::load(&FOLDERS);
    let errors: Vec<_> = recordings.iter().filter(|recording| recording.name.starts_with("error-")).collect();
    for recording in &errors {
        refuse(recording).await;
    }
    println!("{} errors of the Responses API", errors.len());
}
