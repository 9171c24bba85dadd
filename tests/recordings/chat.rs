//! Chat completions: recorded conversations, with clients that lost the reasoning.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};
use tower_reasoning_replay::engine::Event;

use crate::{
    load::{self, Exchange, Recording, Request},
    parts::{normalised, same},
    play::{Exception, Played, Session, Stage},
};

const FOLDERS: [&str; 1] = ["openai-chat"];

/// The members of a message that are reasoning.
const FIELDS: [&str; 7] = [
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "reasoning_opaque",
    "reasoning_details",
    "thought_signature",
    "extra_content",
];

/// What the layer is excused from.
struct Excuse {
    /// The beginning of the name of the file.
    file: &'static str,
    reason: &'static str,
}

/// All of them hold only where nothing names the conversation.
const EXCEPTIONS: &[Excuse] = &[Excuse {
    file: "rig--openrouter-streaming-tools-stream-encrypted-reasoning-survives-into-the-next-turn",
    reason: "the client dropped the first question, by which a conversation without a name is known",
}];

/// What recorded clients wrote otherwise than it was issued: what is restored is what was issued.
const REWRITTEN: &[Exception] = &[
    Exception {
        file: "fantasy--testopenroutercommon-glm-multi-tool-streaming",
        reason: "the client lost the first fragment of the details",
    },
    Exception {
        file: "rig--openrouter-streaming-tools-stream-encrypted-reasoning-survives-into-the-next-turn",
        reason: "the client wrote null for the format of the details",
    },
];

/// What the client does to each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Every field of reasoning is removed.
    Removed,
    /// Every field of reasoning is there and empty.
    Blanked,
    /// Keys stand in another order, arguments are spelled otherwise, empty fields are dropped, text has marks for
    /// the cache.
    Forgetful,
    /// Text is a list of parts.
    Lists,
    /// Calls and outputs get ids of the client's own.
    IdsMinted,
    /// The history begins with the second question of the user, where there is one.
    HeadCut,
    /// Each call becomes a message of its own.
    Split,
    /// The steps of one turn of the user become one message.
    Joined,
    /// Calls are dropped, their outputs are kept.
    CallsDropped,
}

impl Mode {
    const ALL: [Self; 9] = [
        Self::Removed,
        Self::Blanked,
        Self::Forgetful,
        Self::Lists,
        Self::IdsMinted,
        Self::HeadCut,
        Self::Split,
        Self::Joined,
        Self::CallsDropped,
    ];

    fn keeps_opening(self) -> bool {
        self != Self::HeadCut
    }
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn is_answer(message: &Value) -> bool {
    message["role"] == "assistant"
}

/// Whether a value of a field says nothing.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty() || text == "skip_thought_signature_validator",
        Value::Array(entries) => entries
            .iter()
            .all(|entry| ["text", "summary", "data", "signature"].iter().all(|name| is_blank(&entry[*name]))),
        Value::Object(vendors) => vendors.values().all(|vendor| is_blank(&vendor["thought_signature"])),
        _ => false,
    }
}

/// The fields of reasoning that a message has, and those of its calls under their position.
fn reasoning(message: &Value) -> BTreeMap<String, Value> {
    let of_message = FIELDS.iter().map(|name| ((*name).to_owned(), &message[*name]));
    let of_calls = list(message, "tool_calls").iter().enumerate();
    let of_calls = of_calls.map(|(at, call)| (format!("call {at}"), &call["extra_content"]));
    let all = of_message.chain(of_calls).filter(|(_, value)| !is_blank(value));
    all.map(|(name, value)| (name, value.clone())).collect()
}

fn strip(message: &mut Value) {
    let Some(members) = message.as_object_mut() else { return };
    FIELDS.iter().for_each(|name| drop(members.remove(*name)));
    for call in members.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        call.as_object_mut().unwrap().remove("extra_content");
    }
}

/// What a message says.
fn text(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// What a message calls.
fn calls(message: &Value) -> Vec<(String, Value)> {
    let call = |call: &Value| {
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
        let parsed = match arguments.trim() {
            "" | "null" => json!({}),
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        };
        (call["function"]["name"].as_str().unwrap_or_default().to_owned(), parsed)
    };
    list(message, "tool_calls").iter().map(call).collect()
}

fn same_calls(one: &[(String, Value)], other: &[(String, Value)]) -> bool {
    let same_call = |(one, other): (&(String, Value), &(String, Value))| one.0 == other.0 && same(&one.1, &other.1);
    one.len() == other.len() && one.iter().zip(other).all(same_call)
}

/// Whether a message says what an answer said. Some clients keep less white space around calls.
fn same_text(message: &Value, answer: &Value) -> bool {
    let (said, answered) = (text(message), text(answer));
    said == answered || (!calls(message).is_empty() && said.trim() == answered.trim())
}

/// Whether a message is this answer.
fn is_whole(message: &Value, answer: &Value) -> bool {
    same_text(message, answer) && same_calls(&calls(message), &calls(answer))
}

/// Whether a message begins with all calls of this answer, which made some.
fn begins_with(message: &Value, answer: &Value) -> bool {
    let (called, all) = (calls(message), calls(answer));
    !all.is_empty() && called.get(..all.len()).is_some_and(|first| same_calls(first, &all))
}

/// Whether a message is a piece of this answer.
fn is_piece(message: &Value, answer: &Value) -> bool {
    let (said, called, all) = (text(message), calls(message), calls(answer));
    let is_called = |call: &(String, Value)| all.iter().any(|held| held.0 == call.0 && same(&held.1, &call.1));
    (said.is_empty() || same_text(message, answer))
        && !(said.is_empty() && called.is_empty())
        && called.iter().all(is_called)
}

/// Puts together what a stream or document said, choice by choice.
fn answers(response: &load::Response) -> Vec<Value> {
    let mut choices: BTreeMap<u64, (Value, String)> = BTreeMap::new();
    if response.status != 200 {
        return Vec::new();
    }
    for event in response.values() {
        if !event["error"].is_null() {
            return Vec::new();
        }
        for choice in list(&event, "choices") {
            let held = choices.entry(choice["index"].as_u64().unwrap_or(0)).or_default();
            if let Some(reason) = choice["finish_reason"].as_str() {
                held.1 = reason.to_owned();
            }
            match (choice.get("delta"), choice.get("message")) {
                (Some(delta), _) => merge(&mut held.0, delta),
                (None, Some(message)) => held.0 = message.clone(),
                (None, None) => {}
            }
        }
    }
    let ended = choices.into_values().filter(|(_, reason)| !reason.is_empty() && reason != "error");
    let answers = ended.map(|(mut answer, reason)| {
        answer["role"] = "assistant".into();
        // What was cut off is put back on demand only.
        let signed = list(&answer, "reasoning_details")
            .iter()
            .any(|entry| !is_blank(&entry["signature"]) || !is_blank(&entry["data"]));
        if matches!(&*reason, "length" | "content_filter") && !signed {
            strip(&mut answer);
        }
        answer
    });
    answers.collect()
}

fn append(held: &mut Value, more: &Value) {
    match (&mut *held, more) {
        (_, Value::Null) => {}
        (Value::String(held), Value::String(more)) => held.push_str(more),
        (held, more) => *held = more.clone(),
    }
}

fn merge(answer: &mut Value, delta: &Value) {
    for name in ["content", "reasoning_content", "reasoning", "reasoning_text"] {
        if !delta[name].is_null() {
            append(&mut answer[name], &delta[name]);
        }
    }
    for name in ["reasoning_opaque", "thought_signature", "extra_content"] {
        if !is_blank(&delta[name]) {
            answer[name] = delta[name].clone();
        }
    }
    if delta["reasoning_details"].is_array() && answer["reasoning_details"].is_null() {
        answer["reasoning_details"] = json!([]);
    }
    for fragment in list(delta, "reasoning_details") {
        let entries = answer["reasoning_details"].as_array_mut().unwrap();
        let goes_on = |entry: &&mut Value| {
            let ids = (entry["id"].as_str(), fragment["id"].as_str());
            let told_apart = matches!(ids, (Some(one), Some(other)) if one != other);
            entry["type"] == fragment["type"] && entry["index"] == fragment["index"] && !told_apart
        };
        match entries.iter_mut().find(goes_on) {
            None => entries.push(fragment.clone()),
            Some(entry) => {
                for (name, value) in fragment.as_object().unwrap() {
                    match &**name {
                        "text" | "summary" | "data" => append(&mut entry[&**name], value),
                        _ if is_blank(value) => {}
                        "signature" | "id" | "format" => entry[&**name] = value.clone(),
                        _ if entry.get(&**name).is_none_or(Value::is_null) => entry[&**name] = value.clone(),
                        _ => {}
                    }
                }
            }
        }
    }
    for piece in list(delta, "tool_calls") {
        if !answer["tool_calls"].is_array() {
            answer["tool_calls"] = json!([]);
        }
        let held = answer["tool_calls"].as_array_mut().unwrap();
        let at = held.iter().position(|call| call["index"] == piece["index"]);
        let at = at.unwrap_or_else(|| {
            held.push(json!({"index": piece["index"], "type": "function", "function": {"name": "", "arguments": ""}}));
            held.len() - 1
        });
        let call = &mut held[at];
        if let Some(id) = piece["id"].as_str().filter(|id| !id.is_empty()) {
            call["id"] = id.into();
        }
        if let Some(name) = piece["function"]["name"].as_str().filter(|name| !name.is_empty()) {
            call["function"]["name"] = name.into();
        }
        if !piece["extra_content"].is_null() {
            call["extra_content"] = piece["extra_content"].clone();
        }
        append(&mut call["function"]["arguments"], &piece["function"]["arguments"]);
    }
}

/// A request as the client sends it.
struct Sent {
    body: Value,
    bytes: Vec<u8>,
}

fn send(mode: Mode, recorded: &Value) -> Sent {
    let mut body = recorded.clone();
    let messages = body["messages"].as_array_mut().unwrap();
    if mode == Mode::CallsDropped {
        messages.iter_mut().filter(|message| is_answer(message)).for_each(|message| {
            message.as_object_mut().unwrap().remove("tool_calls");
        });
        messages.retain(|message| !is_answer(message) || !text(message).is_empty());
    }
    for message in messages.iter_mut().filter(|message| is_answer(message)) {
        let held = reasoning(message);
        strip(message);
        if mode == Mode::Blanked {
            let fields = held.keys().filter(|name| FIELDS.contains(&&***name));
            let names: Vec<_> = fields.cloned().collect();
            for (at, name) in names.iter().enumerate() {
                let nothing = [json!(""), Value::Null, json!(" ")][at % 3].clone();
                message[&**name] = if name == "reasoning_details" { json!([]) } else { nothing };
            }
        }
    }
    match mode {
        Mode::Removed | Mode::Blanked | Mode::CallsDropped => {}
        Mode::Forgetful => messages.iter_mut().for_each(forget),
        Mode::Lists => messages.iter_mut().for_each(|message| {
            if let Some(text) = message["content"].as_str().filter(|text| !text.is_empty()) {
                message["content"] = json!([{"type": "text", "text": text}]);
            }
        }),
        Mode::IdsMinted => mint(messages),
        Mode::HeadCut => {
            let asks = |message: &Value| message["role"] == "user";
            if let Some(second) = (1..messages.len()).find(|at| asks(&messages[*at]) && is_answer(&messages[*at - 1])) {
                messages.drain(..second);
            }
        }
        Mode::Split => *messages = messages.drain(..).flat_map(split).collect(),
        Mode::Joined => *messages = join(std::mem::take(messages)),
    }
    let mut bytes = Vec::new();
    write(&body, mode == Mode::Forgetful, &mut bytes);
    Sent { body, bytes }
}

fn forget(message: &mut Value) {
    if is_answer(message) {
        if is_blank(&message["content"]) {
            message.as_object_mut().unwrap().remove("content");
        }
        for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            if let Some(parsed) = parsed {
                let mut spelled = Vec::new();
                write(&parsed, true, &mut spelled);
                *arguments = String::from_utf8(spelled).unwrap().replace(":", " : ").into();
                // A colon inside a string is content.
                if serde_json::from_str::<Value>(arguments.as_str().unwrap()).ok() != Some(parsed.clone()) {
                    *arguments = serde_json::to_string_pretty(&parsed).unwrap().into();
                }
            }
            call.as_object_mut().unwrap().remove("index");
        }
        if message["tool_calls"].is_null() {
            message.as_object_mut().unwrap().remove("tool_calls");
        }
    } else if let Some(text) = message["content"].as_str().filter(|text| !text.is_empty()) {
        message["content"] = json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]);
    }
}

fn mint(messages: &mut [Value]) {
    let mut minted: HashMap<String, String> = HashMap::new();
    let mut count = 0_u32;
    for message in messages {
        for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
            count += 1;
            let id = format!("minted_{:08x}", count.wrapping_mul(0x9e37_79b9));
            minted.insert(call["id"].as_str().unwrap_or_default().to_owned(), id.clone());
            call["id"] = id.into();
        }
        if let Some(id) = message["tool_call_id"].as_str().and_then(|id| minted.get(id)) {
            message["tool_call_id"] = id.clone().into();
        }
    }
}

fn split(message: Value) -> Vec<Value> {
    let calls = list(&message, "tool_calls").to_vec();
    if !is_answer(&message) || calls.len() < 2 {
        return vec![message];
    }
    let pieces = calls.into_iter().enumerate().map(|(at, call)| {
        let mut piece = message.clone();
        if at > 0 {
            piece["content"] = Value::Null;
        }
        piece["tool_calls"] = json!([call]);
        piece
    });
    pieces.collect()
}

/// Steps that follow each other become one: all calls, then all outputs.
fn join(messages: Vec<Value>) -> Vec<Value> {
    let mut joined: Vec<Value> = Vec::new();
    for message in messages {
        let last = joined.iter().rposition(|held| held["role"] != "tool");
        let last = last.filter(|at| is_answer(&joined[*at]) && is_answer(&message));
        let Some(last) = last else {
            joined.push(message);
            continue;
        };
        let said = text(&joined[last]) + &text(&message);
        let mut all = list(&joined[last], "tool_calls").to_vec();
        all.extend(list(&message, "tool_calls").iter().cloned());
        joined[last]["content"] = said.into();
        if !all.is_empty() {
            joined[last]["tool_calls"] = all.into();
        }
    }
    joined
}

/// Writes compact JSON with the keys in order, or in reverse order.
fn write(value: &Value, reversed: bool, out: &mut Vec<u8>) {
    let reverse = |value: &Value| {
        fn deep(value: &Value) -> String {
            match value {
                Value::Array(elements) => {
                    format!("[{}]", elements.iter().map(deep).collect::<Vec<_>>().join(","))
                }
                Value::Object(members) => {
                    let members: Vec<_> = members.iter().collect();
                    let members = members.into_iter().rev();
                    let members = members.map(|(name, value)| format!("{}:{}", Value::from(&**name), deep(value)));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                }
                _ => value.to_string(),
            }
        }
        deep(value)
    };
    let text = if reversed { reverse(value) } else { value.to_string() };
    out.extend_from_slice(text.as_bytes());
}

#[derive(Default)]
struct Tally {
    exchanges: usize,
    expected: usize,
    restored: usize,
    beyond: usize,
    misplaced: usize,
    excused: usize,
    used: HashSet<usize>,
    failures: Vec<String>,
}

/// What was answered in one conversation so far.
#[derive(Default)]
struct Past {
    answers: Vec<Value>,
}

async fn play(recordings: &[Recording], mode: Mode, session: Session, chunk: Option<usize>) -> Tally {
    let stage = Stage::new();
    let mut tally = Tally::default();
    let mut everyone: Vec<Value> = Vec::new();
    for recording in recordings.iter().filter(|recording| !recording.name.starts_with("error-")) {
        let mut pasts: HashMap<u64, Past> = HashMap::new();
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            tally.exchanges += 1;
            let recorded = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            let sent = send(mode, &recorded);
            let name = format!("{}-{}", recording.name, exchange.session);
            let head = head(exchange, (session == Session::Known).then_some(&*name));
            let played = stage.exchange(head, sent.bytes.clone(), &exchange.response, chunk).await;
            let past = pasts.entry(exchange.session).or_default();
            let reachable = if session == Session::Derived { &everyone } else { &past.answers };
            let mut check = Check { recording, at, mode, session, past, reachable, tally: &mut tally };
            check.exchange(exchange, &recorded, &sent, &played);
            let mut answers = answers(&exchange.response);
            everyone.extend(answers.iter().cloned());
            past.answers.append(&mut answers);
        }
    }
    tally
}

/// A request for a response of which the request was not recorded.
fn opening(recording: &Recording, at: usize) -> Value {
    let prompt = format!("What was answered here? {} {at}", recording.name);
    json!({"model": recording.model, "messages": [{"role": "user", "content": prompt}]})
}

fn head(exchange: &Exchange, session: Option<&str>) -> http::request::Builder {
    let recorded = exchange.request.as_ref().filter(|request| !request.path.is_empty());
    let headers = recorded.map_or(&[][..], |request| &request.headers);
    let host = headers.iter().find(|(name, _)| name == "host").map_or("api.example.com", |(_, host)| host);
    let path = recorded.map_or("/v1/chat/completions", |request| &request.path);
    let mut head = http::Request::builder().method("POST").uri(format!("https://{host}{path}"));
    for (name, value) in headers {
        head = head.header(name, value);
    }
    if !headers.iter().any(|(name, _)| name == "content-type") {
        head = head.header("content-type", "application/json");
    }
    if let Some(session) = session {
        head = head.header("x-session-id", session);
    }
    head.header("authorization", "Bearer key")
}

struct Check<'a> {
    recording: &'a Recording,
    at: usize,
    mode: Mode,
    session: Session,
    past: &'a Past,
    /// What may be put back here at all.
    reachable: &'a [Value],
    tally: &'a mut Tally,
}

impl Check<'_> {
    fn fail(&mut self, what: &str) {
        let (mode, name, at) = (self.mode, &self.recording.name, self.at);
        self.tally.failures.push(format!("{mode:?}: {name}, exchange {at}: {what}"));
    }

    fn exchange(&mut self, exchange: &Exchange, recorded: &Value, sent: &Sent, played: &Played) {
        if played.received != exchange.response.text.as_bytes() || played.status != exchange.response.status {
            self.fail("the response was altered");
        }
        if twice(&played.seen[0]) {
            self.fail("a member stands twice in what goes upstream");
        }
        let seen: Value = serde_json::from_slice(&played.seen[0]).expect("what goes upstream is JSON");
        match self.mode {
            Mode::CallsDropped => self.calls(recorded, &seen),
            _ => self.messages(sent, &seen),
        }
        self.insertions(&seen);
        if self.mode != Mode::CallsDropped {
            self.rest(sent, &seen);
        }
        if self.mode == Mode::Removed && self.recording.quirks.is_empty() {
            self.equals(recorded, &seen);
        }
    }

    /// Every message that is an answer, or the first piece of one, has its reasoning back.
    fn messages(&mut self, sent: &Sent, seen: &Value) {
        let mut used: HashSet<usize> = HashSet::new();
        for (at, message) in list(&sent.body, "messages").iter().enumerate().filter(|(_, held)| is_answer(held)) {
            let fits = |answer: &Value| match self.mode {
                Mode::Split => is_piece(message, answer),
                // Of several steps in one message, one has its reasoning back; which one is told by its place.
                Mode::Joined => begins_with(message, answer) || is_whole(message, answer),
                _ => is_whole(message, answer),
            };
            let all: Vec<_> = (0..self.past.answers.len()).filter(|at| fits(&self.past.answers[*at])).collect();
            // Equal answers stand in the order in which they came.
            let repeated = |answer: &Value| reasoning(answer).keys().eq(["reasoning_content"]);
            let piece = |index: &usize| self.mode == Mode::Split && used.contains(index);
            let Some(index) = all.iter().find(|at| !used.contains(*at) || piece(at)).copied() else { continue };
            let is_first = used.insert(index);
            let answer = self.past.answers[index].clone();
            if !is_first && !repeated(&answer) {
                continue;
            }
            let found = seen["messages"].get(at).map(reasoning).unwrap_or_default();
            let expected = reasoning(&answer).into_iter().filter(|(name, _)| is_first || !name.starts_with("call"));
            for (name, value) in expected {
                // Pieces of an answer count their calls anew.
                let name = if self.mode == Mode::Split && name.starts_with("call") { "call 0" } else { &*name };
                let joined = self.mode == Mode::Joined && !found.is_empty();
                self.expect(joined || found.get(name).is_some_and(|found| same(found, &value)), || {
                    format!("{name} is not back on message {at}")
                });
            }
        }
    }

    /// The calls whose outputs were kept are back before them, with the reasoning that led to them.
    fn calls(&mut self, recorded: &Value, seen: &Value) {
        for message in list(recorded, "messages").iter().filter(|message| is_answer(message)) {
            let calls = list(message, "tool_calls");
            let Some(first) = calls.first() else { continue };
            let answers = self.past.answers.iter().filter(|answer| is_whole(message, answer));
            let answer = answers.clone().find(|answer| list(answer, "tool_calls")[0]["id"] == first["id"]);
            // The recorded client named the calls itself.
            let Some(answer) = answer.filter(|_| first["id"].as_str().is_some_and(|id| !id.is_empty())).cloned() else {
                continue;
            };
            let ids = |message: &Value| -> Vec<Value> {
                list(message, "tool_calls").iter().map(|call| call["id"].clone()).collect()
            };
            // An id that was issued twice proves nothing.
            let issued: Vec<_> = self.reachable.iter().flat_map(ids).collect();
            if ids(message).iter().any(|id| issued.iter().filter(|held| *held == id).count() > 1) {
                continue;
            }
            let upstream = list(seen, "messages");
            let back = upstream.iter().position(|held| is_answer(held) && ids(held) == ids(message));
            let answered = back.is_some_and(|at| upstream.get(at + 1).is_some_and(|next| next["role"] == "tool"));
            let whole = back.is_some_and(|at| same_calls(&self::calls(&upstream[at]), &self::calls(message)));
            self.expect(answered && whole, || format!("dropped calls {:?} are not back", ids(message)));
            let found = back.map(|at| reasoning(&upstream[at])).unwrap_or_default();
            for (name, value) in reasoning(&answer) {
                self.expect(found.get(&name).is_some_and(|found| same(found, &value)), || {
                    format!("{name} is not back with dropped calls")
                });
            }
        }
    }

    fn excuse(&self) -> Option<usize> {
        let holds = |excuse: &Excuse| self.session == Session::Derived && self.recording.name.starts_with(excuse.file);
        EXCEPTIONS.iter().position(holds)
    }

    fn expect(&mut self, is_met: bool, what: impl FnOnce() -> String) {
        if is_met {
            self.tally.expected += 1;
            self.tally.restored += 1;
            return;
        }
        if let Some(excuse) = self.excuse() {
            self.tally.excused += 1;
            self.tally.used.insert(excuse);
            return;
        }
        self.tally.expected += 1;
        let what = what();
        self.fail(&what);
    }

    /// Whatever was put in stands on what it was issued with, and details stand once.
    fn insertions(&mut self, seen: &Value) {
        let mut met: HashSet<String> = HashSet::new();
        for (at, message) in list(seen, "messages").iter().enumerate() {
            let found = reasoning(message);
            if found.is_empty() {
                continue;
            }
            let fits = |answer: &Value| match self.mode {
                Mode::Joined => {
                    let (said, called) = (text(message), calls(message));
                    said.contains(text(answer).trim())
                        && calls(answer)
                            .iter()
                            .all(|call| called.iter().any(|held| held.0 == call.0 && same(&held.1, &call.1)))
                }
                _ => is_piece(message, answer),
            };
            let issued = |answer: &Value| {
                let issued = reasoning(answer);
                let mut held = found.iter();
                held.all(|(name, value)| match name.starts_with("call") {
                    true => issued.values().any(|issued| same(issued, value)),
                    false => issued.get(name).is_some_and(|issued| same(issued, value)),
                })
            };
            if !self.reachable.iter().any(|answer| fits(answer) && issued(answer)) {
                self.tally.misplaced += 1;
                self.fail(&format!("what stands on message {at} was issued with something else"));
            }
            for opaque in list(message, "reasoning_details") {
                let opaque = opaque["data"].as_str().or(opaque["signature"].as_str()).filter(|value| !value.is_empty());
                if opaque.is_some_and(|opaque| !met.insert(normalised(opaque))) {
                    self.tally.misplaced += 1;
                    self.fail(&format!("details stand twice, again on message {at}"));
                }
            }
        }
    }

    /// Nothing else is changed.
    fn rest(&mut self, sent: &Sent, seen: &Value) {
        let bare = |body: &Value| {
            let mut body = body.clone();
            body["messages"].as_array_mut().into_iter().flatten().filter(|held| is_answer(held)).for_each(strip);
            body
        };
        if bare(&sent.body) != bare(seen) {
            self.fail("something else was changed");
        }
    }

    /// What the recorded client carried stands where it did.
    fn equals(&mut self, recorded: &Value, seen: &Value) {
        for (at, (one, other)) in list(recorded, "messages").iter().zip(list(seen, "messages")).enumerate() {
            if !is_answer(one) || !self.past.answers.iter().any(|answer| is_whole(one, answer)) {
                continue;
            }
            let (carried, found) = (reasoning(one), reasoning(other));
            self.tally.beyond += found.len().saturating_sub(carried.len());
            for (name, value) in carried {
                let rewritten = REWRITTEN.iter().any(|file| self.recording.name.starts_with(file.file));
                let is_back = found.get(&name).is_some_and(|found| same(found, &value));
                if !(is_back || rewritten || self.excuse().is_some()) {
                    self.fail(&format!("{name} of message {at} is not what was recorded"));
                }
            }
        }
    }
}

/// Whether an object of this body has a member twice.
fn twice(body: &[u8]) -> bool {
    struct Once;
    impl<'de> serde::Deserialize<'de> for Once {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Once)
        }
    }
    impl<'de> serde::de::Visitor<'de> for Once {
        type Value = Once;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }
        fn visit_bool<E>(self, _: bool) -> Result<Once, E> {
            Ok(Once)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Once, E> {
            Ok(Once)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Once, E> {
            Ok(Once)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Once, E> {
            Ok(Once)
        }
        fn visit_str<E>(self, _: &str) -> Result<Once, E> {
            Ok(Once)
        }
        fn visit_unit<E>(self) -> Result<Once, E> {
            Ok(Once)
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Once, A::Error> {
            while seq.next_element::<Once>()?.is_some() {}
            Ok(Once)
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
            let mut names = HashSet::new();
            while let Some(name) = map.next_key::<String>()? {
                if !names.insert(name) {
                    return Err(serde::de::Error::custom("twice"));
                }
                map.next_value::<Once>()?;
            }
            Ok(Once)
        }
    }
    serde_json::from_slice::<Once>(body).is_err()
}

/// Conversations that go on after each recorded response, with a client that kept the answer.
fn echoed(recordings: &[Recording]) -> Vec<Recording> {
    let mut echoed = Vec::new();
    for recording in recordings {
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            let Some(answer) = answers(&exchange.response).into_iter().next() else { continue };
            if text(&answer).is_empty() && calls(&answer).is_empty() {
                continue;
            }
            let first = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            let mut second = first.clone();
            let messages = second["messages"].as_array_mut().unwrap();
            let mut kept = Map::new();
            for name in ["role", "content", "tool_calls"].iter().chain(&FIELDS) {
                if let Some(value) = answer.get(*name) {
                    kept.insert((*name).to_owned(), value.clone());
                }
            }
            messages.push(kept.into());
            let outputs = list(&answer, "tool_calls")
                .iter()
                .map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "done"}));
            messages.extend(outputs);
            if calls(&answer).is_empty() {
                messages.push(json!({"role": "user", "content": "And then?"}));
            }
            let request = |body: Value| Request {
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
                    response: document(&json!({"content": "Done."})),
                },
            ];
            echoed.push(Recording {
                name: format!("{}#{at}", recording.name),
                cloud_code: false,
                model: recording.model.clone(),
                quirks: vec!["echoed".into()],
                exchanges,
            });
        }
    }
    echoed
}

fn document(message: &Value) -> load::Response {
    let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
    load::Response {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        text: body.to_string(),
        is_sse: false,
        chunk_sizes: Vec::new(),
    }
}

async fn table(title: &str, recordings: &[Recording]) {
    println!("{title}");
    println!(
        "{:14} {:8} {:>6} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8}",
        "mode", "session", "chunks", "exchanges", "restored", "expected", "beyond", "misplaced", "excused"
    );
    let (mut failures, mut used) = (Vec::new(), HashSet::new());
    for mode in Mode::ALL {
        for session in [Session::Known, Session::Derived] {
            if session == Session::Derived && !mode.keeps_opening() {
                continue;
            }
            for chunk in [None, Some(7)] {
                let tally = play(recordings, mode, session, chunk).await;
                let Tally { exchanges, restored, expected, beyond, misplaced, excused, .. } = tally;
                let chunks = chunk.map_or("as is".into(), |size| size.to_string());
                println!(
                    "{:14} {:8} {chunks:>6} {exchanges:>9} {restored:>9} {expected:>9} {beyond:>6} {misplaced:>9} {excused:>8}",
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
    for Exception { file, reason } in REWRITTEN {
        println!("rewritten: {file}*: {reason}");
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test]
async fn what_clients_carried_back_is_restored() {
    table("Recorded chats", &load::load(&FOLDERS)).await;
}

#[tokio::test]
async fn whatever_a_response_issued_is_restored() {
    table("Recorded chat responses, echoed", &echoed(&load::load(&FOLDERS))).await;
}

/// Error bodies as users reported them, as answers to a request into which something was put.
#[tokio::test]
async fn reported_errors_are_told_apart_and_reach_the_client() {
    let recordings = load::load(&FOLDERS);
    let errors: Vec<_> = recordings.iter().filter(|recording| recording.name.starts_with("error-")).collect();
    for recording in &errors {
        refuse(recording).await;
    }
    println!("{} errors", errors.len());
}

async fn refuse(recording: &Recording) {
    let name = &recording.name;
    let data = "bWFkZSB1cCBmb3IgYSB0ZXN0IG9uZQ==";
    let call = json!({"id": "call_k3x9q7tzab12", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let mut answer = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    match &**name {
        name if name.contains("openrouter") => {
            answer["reasoning_details"] = json!([{"type": "reasoning.encrypted", "data": data, "index": 0}]);
        }
        name if name.contains("gemini") => {
            answer["tool_calls"][0]["extra_content"] = json!({"google": {"thought_signature": data}});
        }
        _ => answer["reasoning_content"] = "I have to look.".into(),
    }
    let question = json!({"role": "user", "content": "Look."});
    let output = json!({"role": "tool", "tool_call_id": "call_k3x9q7tzab12", "content": "seen"});
    let follow = json!({"model": recording.model, "messages": [question, answer, output]});
    let error = &recording.exchanges[0].response;
    for bare_sse in [false, true] {
        let mut error = error.clone();
        if bare_sse {
            error.headers = vec![("content-type".into(), "text/event-stream".into())];
        }
        let stage = Stage::new();
        let send = async |body: &Value, answer: &load::Response| {
            let exchange = Exchange { session: 0, request: None, response: answer.clone() };
            stage.exchange(head(&exchange, Some("s")), send(Mode::Removed, body).bytes, answer, Some(7)).await
        };
        let good = document(&answer);
        let put_back = |played: &Played, attempt: usize| {
            let body: Value = serde_json::from_slice(&played.seen[attempt]).unwrap();
            list(&body, "messages").iter().filter(|message| !reasoning(message).is_empty()).count()
        };
        send(&json!({"model": recording.model, "messages": [question]}), &good).await;
        let refused = send(&follow, &error).await;
        assert_eq!((refused.status, &*refused.received), (error.status, error.text.as_bytes()), "{name}: altered");
        assert_eq!(put_back(&refused, 0), 1, "{name}: nothing was put back");
        let counters = stage.layer.engine().counters();
        let missing = !name.contains("corrupted");
        let counted = (counters.get(Event::RefusedMissing), counters.get(Event::RefusedInvalid));
        assert_eq!(counted, if missing { (1, 0) } else { (0, 1) }, "{name}: taken for something else");
        if !missing {
            assert_eq!(refused.seen.len(), 2, "{name}: it was not sent again");
            assert_eq!(put_back(&refused, 1), 0, "{name}: what was refused was sent again");
        }
        let next = send(&follow, &good).await;
        assert_eq!(put_back(&next, 0), usize::from(missing), "{name}: what was refused is forgotten, and nothing else");
    }
}
