//! The protocols whose state stands beside what it belongs to, each with an oracle of its own on plain values.

use std::collections::HashSet;

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

/// A protocol, and for chat completions the fields in which the reasoning comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Messages,
    Responses,
    /// `reasoning_content`.
    Content,
    /// `reasoning` and `reasoning_details`.
    Details,
    /// `reasoning_text` and `reasoning_opaque`.
    Opaque,
    /// `extra_content` on calls.
    Extra,
}

pub(crate) fn family() -> impl Strategy<Value = Family> {
    use Family::{Content, Details, Extra, Messages, Opaque, Responses};
    prop_oneof![
        3 => Just(Messages), 3 => Just(Responses), 1 => Just(Content), 1 => Just(Details), 1 => Just(Opaque), 1 => Just(Extra)
    ]
}

/// A piece of an answer; words, names and arguments are few, so that equal ones are many.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Think { redacted: bool, shown: bool },
    Text(u8),
    Call { name: u8, args: u8 },
}

pub(crate) fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(redacted, shown)| Say::Think { redacted, shown }),
        2 => (0..3_u8).prop_map(Say::Text),
        3 => (0..2_u8, 0..3_u8).prop_map(|(name, args)| Say::Call { name, args }),
    ]
}

/// The same without a text right behind a text, and without a thought at the end, as models speak: how texts are cut
/// is then no question, and each thought has something behind it to stand before.
pub(crate) fn spoken(says: &[Say]) -> Vec<Say> {
    let mut spoken = says.to_vec();
    let said = spoken.iter().rposition(|say| !matches!(say, Say::Think { .. }));
    spoken.truncate(said.map_or(spoken.len(), |said| said + 1));
    spoken.dedup_by(|one, other| matches!((one, other), (Say::Text(_), Say::Text(_))));
    spoken
}

/// What a conversation says turn by turn, and what the client says after each.
pub(crate) fn script() -> impl Strategy<Value = Vec<(Vec<Say>, u8)>> {
    prop::collection::vec((prop::collection::vec(say(), 1..6), 0..2_u8), 1..6)
}

const WORDS: [&str; 3] = ["Sure, ", "Done.", "caf\u{e9} \"x\"\n\\ \u{6771}\u{4eac}"];
const MARK: &str = "opaque+state+";

/// State that nobody else has.
fn state(count: &mut u32) -> String {
    *count += 1;
    format!("{MARK}{count:06}/{}", "x".repeat(12))
}

/// The states that occur anywhere in a value.
pub(crate) fn states(value: &Value) -> Vec<String> {
    let text = value.to_string();
    text.match_indices(MARK).map(|(at, _)| text[at..at + MARK.len() + 6].to_owned()).collect()
}

fn arguments(args: u8) -> Value {
    [json!({}), json!({"a": 1, "b": "x\"\n"}), json!({"a": [1, 2.5, null], "b": {"c": true}})][usize::from(args)]
        .clone()
}

/// How an answer goes over the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Sse,
    /// CRLF, and events over several lines.
    Lines,
    Document,
}

pub(crate) fn wire() -> impl Strategy<Value = Wire> {
    prop_oneof![Just(Wire::Sse), Just(Wire::Lines), Just(Wire::Document)]
}

fn halves(text: &str) -> [&str; 2] {
    let mut at = text.len() / 2;
    while !text.is_char_boundary(at) {
        at += 1;
    }
    [&text[..at], &text[at..]]
}

pub(crate) fn is_thought(part: &Value) -> bool {
    matches!(part["type"].as_str(), Some("thinking" | "redacted_thinking" | "reasoning"))
}

fn is_call(part: &Value) -> bool {
    part["type"] == "tool_use" || part["type"] == "function_call" || part["function"].is_object()
}

fn call_id(part: &Value) -> Option<&str> {
    part["call_id"].as_str().or_else(|| part["id"].as_str()).filter(|_| is_call(part))
}

const FIELDS: [&str; 5] = ["reasoning_content", "reasoning", "reasoning_details", "reasoning_text", "reasoning_opaque"];

impl Family {
    pub(crate) fn uri(self) -> &'static str {
        match self {
            Self::Messages => "https://api.anthropic.com/v1/messages",
            Self::Responses => "https://api.openai.com/v1/responses",
            _ => "https://api.example.com/v1/chat/completions",
        }
    }

    fn is_chat(self) -> bool {
        !matches!(self, Self::Messages | Self::Responses)
    }

    /// The body of a request; the history stands last.
    pub(crate) fn body(self, history: &[Value], pretty: bool) -> String {
        let list = |history: &[Value]| history.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",");
        let head = match self {
            Self::Messages => {
                r#"{"model":"claude-sonnet-4-5","max_tokens":1024,"thinking":{"type":"adaptive"},"messages":["#
            }
            Self::Responses => r#"{"model":"gpt-5","store":false,"include":["reasoning.encrypted_content"],"input":["#,
            _ => r#"{"model":"m","tools":[{"type":"function","function":{"name":"ls"}}],"messages":["#,
        };
        let body = format!("{head}{}]}}", list(history));
        if pretty { format!("{:#}\n", serde_json::from_str::<Value>(&body).unwrap()) } else { body }
    }

    /// The history of a body.
    pub(crate) fn history(self, body: &Value) -> Vec<Value> {
        body[if self == Self::Responses { "input" } else { "messages" }].as_array().unwrap().clone()
    }

    /// An answer in the parts in which an honest client sends it back: blocks, items, or one message.
    pub(crate) fn answer(self, says: &[Say], count: &mut u32) -> Vec<Value> {
        match self {
            Self::Messages => says.iter().map(|say| Self::block(say, count)).collect(),
            Self::Responses => says.iter().map(|say| Self::item(say, count)).collect(),
            _ => vec![self.message(says, count)],
        }
    }

    fn block(say: &Say, count: &mut u32) -> Value {
        match say {
            Say::Think { redacted: true, .. } => json!({"type": "redacted_thinking", "data": state(count)}),
            Say::Think { shown, .. } => {
                let text = if *shown { "First, \"things\"." } else { "" };
                json!({"type": "thinking", "thinking": text, "signature": state(count)})
            }
            Say::Text(word) => json!({"type": "text", "text": WORDS[usize::from(*word)]}),
            Say::Call { name, args } => {
                *count += 1;
                let name = ["ls", "cat"][usize::from(*name)];
                json!({"type": "tool_use", "id": format!("toolu_01aB3dE{count:06}"), "name": name, "input": arguments(*args)})
            }
        }
    }

    fn item(say: &Say, count: &mut u32) -> Value {
        *count += 1;
        let at = *count;
        match say {
            Say::Think { shown, .. } => {
                let summary = if *shown { json!([{"type": "summary_text", "text": "Look."}]) } else { json!([]) };
                json!({"type": "reasoning", "id": format!("rs_{at:06}ab"), "summary": summary, "encrypted_content": state(count)})
            }
            Say::Text(word) => json!({
                "type": "message", "id": format!("msg_{at:06}ab"), "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": WORDS[usize::from(*word)], "annotations": []}],
            }),
            Say::Call { name, args } => json!({
                "type": "function_call", "id": format!("fc_{at:06}ab"), "call_id": format!("call_k3x9q7tz{at:06}"),
                "name": (["ls", "cat"][usize::from(*name)]), "arguments": arguments(*args).to_string(), "status": "completed",
            }),
        }
    }

    fn message(self, says: &[Say], count: &mut u32) -> Value {
        let (mut text, mut calls, mut thinks) = (String::new(), Vec::new(), 0);
        for say in says {
            match say {
                Say::Text(word) => text += WORDS[usize::from(*word)],
                Say::Call { name, args } => {
                    *count += 1;
                    let name = ["ls", "cat"][usize::from(*name)];
                    let function = json!({"name": name, "arguments": arguments(*args).to_string()});
                    calls.push(
                        json!({"id": format!("call_k3x9q7tz{count:06}"), "type": "function", "function": function}),
                    );
                }
                Say::Think { .. } => thinks += 1,
            }
        }
        let mut message =
            json!({"role": "assistant", "content": if text.is_empty() { Value::Null } else { text.into() }});
        if thinks > 0 {
            match self {
                Self::Details => {
                    let clear = json!({"type": "reasoning.text", "text": "So \"it\" is.", "signature": state(count), "format": "anthropic-claude-v1", "index": 0});
                    let closed = json!({"type": "reasoning.encrypted", "data": state(count), "format": "openai-responses-v1", "index": 1});
                    message["reasoning"] = "So \"it\" is.".into();
                    message["reasoning_details"] = if thinks > 1 { json!([clear, closed]) } else { json!([clear]) };
                }
                Self::Opaque => {
                    message["reasoning_text"] = "So it is.".into();
                    message["reasoning_opaque"] = state(count).into();
                }
                Self::Extra => {
                    if let Some(call) = calls.first_mut() {
                        call["extra_content"] = json!({"google": {"thought_signature": state(count)}});
                    }
                }
                _ => message["reasoning_content"] = format!("So \"it\" is:\n{}", state(count)).into(),
            }
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        message
    }

    /// Whether the client keeps anything of an answer.
    pub(crate) fn says_something(self, parts: &[Value]) -> bool {
        match self {
            Self::Messages | Self::Responses => parts.iter().any(|part| !is_thought(part)),
            _ => parts.iter().any(|part| !part["content"].is_null() || part["tool_calls"].is_array()),
        }
    }

    /// The elements of the history that parts of an answer are.
    pub(crate) fn place(self, parts: &[Value]) -> Vec<Value> {
        if self == Self::Messages { vec![json!({"role": "assistant", "content": parts})] } else { parts.to_vec() }
    }

    pub(crate) fn said(self, text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    /// What the client says next: the outputs of the calls, or one of few questions.
    pub(crate) fn next(self, parts: &[Value], word: u8) -> Vec<Value> {
        let content = format!("output {word}");
        let message_calls = parts.iter().filter_map(|part| part["tool_calls"].as_array()).flatten();
        let calls: Vec<&Value> = parts.iter().filter(|part| is_call(part)).chain(message_calls).collect();
        let outputs = calls.iter().filter_map(|call| call_id(call));
        if calls.is_empty() {
            return vec![self.said(["go on", "again"][usize::from(word)])];
        }
        match self {
            Self::Messages => {
                let results: Vec<Value> =
                    outputs.map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": content})).collect();
                vec![json!({"role": "user", "content": results})]
            }
            Self::Responses => {
                outputs.map(|id| json!({"type": "function_call_output", "call_id": id, "output": content})).collect()
            }
            _ => outputs.map(|id| json!({"role": "tool", "tool_call_id": id, "content": content})).collect(),
        }
    }

    /// The history without the states for which `goes` holds.
    pub(crate) fn without(self, history: &[Value], goes: &dyn Fn(&str) -> bool) -> Vec<Value> {
        let gone = |value: &Value| {
            let held = states(value);
            !held.is_empty() && held.iter().all(|state| goes(state))
        };
        let mut left = history.to_vec();
        match self {
            Self::Responses => left.retain(|item| !(is_thought(item) && gone(item))),
            Self::Messages => {
                for message in &mut left {
                    if let Some(blocks) = message["content"].as_array_mut() {
                        blocks.retain(|block| !(is_thought(block) && gone(block)));
                    }
                }
            }
            _ => {
                for message in &mut left {
                    let members = message.as_object_mut().unwrap();
                    let details = FIELDS[1..3].iter().any(|field| members.get(*field).is_some_and(&gone));
                    let opaque = members.get("reasoning_opaque").is_some_and(&gone);
                    members.retain(|name, value| {
                        let beside = details && name == "reasoning" || opaque && name == "reasoning_text";
                        !(beside || FIELDS.contains(&&**name) && gone(value))
                    });
                    if let Some(calls) = members.get_mut("tool_calls").and_then(Value::as_array_mut) {
                        for call in calls {
                            call.as_object_mut()
                                .unwrap()
                                .retain(|name, value| !(name == "extra_content" && gone(value)));
                        }
                    }
                }
            }
        }
        left
    }

    /// What a forgetful client has of an answer.
    pub(crate) fn forgotten(self, parts: &[Value], as_strings: bool) -> Vec<Value> {
        let mut left = self.without(&self.place(parts), &|_| true);
        if as_strings {
            left.iter_mut().for_each(as_string);
        }
        left
    }

    /// The history without the calls whose ids are not among these, and without what they leave empty.
    pub(crate) fn without_other_calls(self, history: &[Value], ids: &HashSet<String>) -> Vec<Value> {
        let stays = |part: &Value| call_id(part).is_none_or(|id| ids.contains(id));
        let mut left = history.to_vec();
        left.retain_mut(|element| match self {
            Self::Responses => stays(element),
            Self::Messages => {
                let Some(blocks) = element["content"].as_array_mut() else { return true };
                let before = blocks.len();
                blocks.retain(stays);
                before == blocks.len() || !blocks.is_empty()
            }
            _ => {
                let Some(calls) = element.get_mut("tool_calls").and_then(Value::as_array_mut) else { return true };
                calls.retain(stays);
                let none = calls.is_empty();
                if none {
                    element.as_object_mut().unwrap().remove("tool_calls");
                }
                !none || !element["content"].is_null()
            }
        });
        left
    }

    pub(crate) fn call_ids(self, history: &[Value]) -> HashSet<String> {
        let all = history.iter().flat_map(|element| self.parts(element));
        all.filter_map(|part| call_id(&part).map(str::to_owned)).collect()
    }

    /// The parts of one element of the history: blocks, the item, or text and calls of a message.
    fn parts(self, element: &Value) -> Vec<Value> {
        match (self, &element["content"]) {
            (Self::Responses, _) => vec![element.clone()],
            (Self::Messages, Value::Array(blocks)) => blocks.clone(),
            (Self::Messages, Value::String(text)) => vec![json!({"type": "text", "text": text})],
            (_, content) => {
                let text = content.as_str().map(|text| json!({"text": text}));
                let calls = element["tool_calls"].as_array().into_iter().flatten().cloned();
                text.into_iter().chain(calls).collect()
            }
        }
    }

    /// Each state of a history that `is_ours`, and whether it stands on content of the answer it came with.
    pub(crate) fn placed(
        self,
        history: &[Value],
        is_ours: &dyn Fn(&str) -> bool,
        answers: &[Vec<Value>],
    ) -> Vec<(String, bool)> {
        let content = |part: &Value| {
            let mut part = part.clone();
            if let Some(members) = part.as_object_mut() {
                // Ids are minted anew by some clients; what is called decides.
                for name in ["extra_content", "id", "call_id"] {
                    members.remove(name);
                }
            }
            part
        };
        let issued = |state: &str| {
            answers.iter().find(|answer| answer.iter().any(|part| states(part).iter().any(|held| held == state)))
        };
        let mut placed = Vec::new();
        // Items are one list; otherwise each message is one.
        let lists: Vec<Vec<Value>> = match self {
            Self::Responses => vec![history.to_vec()],
            Self::Messages => history.iter().map(|message| self.parts(message)).collect(),
            _ => history.iter().map(|message| vec![message.clone()]).collect(),
        };
        for list in &lists {
            for (at, part) in list.iter().enumerate() {
                for state in states(part).into_iter().filter(|state| is_ours(state)) {
                    let Some(answer) = issued(&state) else {
                        placed.push((state, false));
                        continue;
                    };
                    let fits = if self.is_chat() {
                        let own: Vec<Value> = answer.iter().flat_map(|message| self.parts(message)).collect();
                        let signed =
                            |parts: &[Value]| parts.iter().find(|part| states(part).contains(&state)).map(&content);
                        let parts = self.parts(part);
                        if self == Self::Extra {
                            signed(&parts) == signed(&own)
                        } else {
                            parts.iter().any(|part| own.iter().any(|own| content(own) == content(part)))
                        }
                    } else {
                        let of = answer.iter().position(|part| states(part).contains(&state)).unwrap();
                        let next = list[at..].iter().find(|part| !is_thought(part));
                        let last = list[..at].iter().rfind(|part| !is_thought(part));
                        let among = |part: &Value, own: &[Value]| own.iter().any(|own| content(own) == content(part));
                        let is_next = next.is_some_and(|next| among(next, &answer[of..]));
                        // An item goes with the one behind it; a block stands beside one of its own answer.
                        let is_last = || last.is_some_and(|last| among(last, &answer[..of]));
                        is_next || self == Self::Messages && is_last()
                    };
                    placed.push((state, fits));
                }
            }
        }
        placed
    }

    pub(crate) fn encode(self, parts: &[Value], wire: Wire) -> Vec<u8> {
        let events = match (wire, self) {
            (Wire::Document, Self::Messages) => {
                return json!({"id": "msg_1", "type": "message", "role": "assistant", "content": parts, "stop_reason": "end_turn"})
                    .to_string()
                    .into_bytes();
            }
            (Wire::Document, Self::Responses) => {
                return json!({"id": "resp_1", "object": "response", "status": "completed", "output": parts, "error": null})
                    .to_string()
                    .into_bytes();
            }
            (Wire::Document, _) => {
                let choices: Vec<Value> = parts
                    .iter()
                    .map(|message| json!({"index": 0, "message": message, "finish_reason": "stop"}))
                    .collect();
                return format!("{:#}", json!({"object": "chat.completion", "choices": choices})).into_bytes();
            }
            (_, Self::Messages) => message_events(parts),
            (_, Self::Responses) => item_events(parts),
            _ => chat_events(&parts[0]),
        };
        let mut text = String::from(": hello\n\n");
        for event in &events {
            let name = event["type"].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
            match wire {
                Wire::Lines => {
                    let lines = format!("{event:#}").replace('\n', "\r\ndata:");
                    text += &format!("{}data:{lines}\r\n\r\n", name.replace('\n', "\r\n"));
                }
                _ => text += &format!("{name}data: {event}\n\n"),
            }
        }
        if self.is_chat() {
            text += "data: [DONE]\n\n";
        }
        text.into_bytes()
    }
}

/// A text alone becomes a string.
fn as_string(message: &mut Value) {
    let text = match message["content"].as_array().map(Vec::as_slice) {
        Some([block]) if block["type"] == "text" => block["text"].clone(),
        _ => return,
    };
    message["content"] = text;
}

/// However a text alone is written, it is the same.
pub(crate) fn in_one_form(mut history: Vec<Value>) -> Vec<Value> {
    history.iter_mut().filter(|message| message["role"] == "assistant").for_each(as_string);
    history
}

fn message_events(blocks: &[Value]) -> Vec<Value> {
    let mut events =
        vec![json!({"type": "message_start", "message": {"type": "message", "role": "assistant", "content": []}})];
    for (index, block) in blocks.iter().enumerate() {
        let mut start = block.clone();
        let mut deltas = Vec::new();
        for (field, kind) in [("thinking", "thinking_delta"), ("signature", "signature_delta"), ("text", "text_delta")]
        {
            let Some(text) = block[field].as_str() else { continue };
            start[field] = "".into();
            deltas.extend(halves(text).map(|half| json!({"type": kind, field: half})));
        }
        if block["type"] == "tool_use" {
            start["input"] = json!({});
            let input = block["input"].to_string();
            deltas.extend(halves(&input).map(|half| json!({"type": "input_json_delta", "partial_json": half})));
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.extend(deltas.into_iter().map(delta));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}));
    events.push(json!({"type": "message_stop"}));
    events
}

fn item_events(items: &[Value]) -> Vec<Value> {
    let mut events = vec![json!({"type": "response.created", "response": {"object": "response", "output": []}})];
    for (index, item) in items.iter().enumerate() {
        let mut added = item.clone();
        if is_thought(item) {
            added["encrypted_content"] = "a stub that is of no use".into();
        }
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": added}));
        if let Some(text) = item["content"][0]["text"].as_str() {
            let delta =
                |half: &str| json!({"type": "response.output_text.delta", "output_index": index, "delta": half});
            events.extend(halves(text).map(delta));
        }
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    let response = json!({"object": "response", "status": "completed", "output": items, "error": null});
    events.push(json!({"type": "response.completed", "response": response}));
    events
}

fn chat_events(message: &Value) -> Vec<Value> {
    let chunk = |delta: Value, finish: Option<&str>| json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    for field in ["reasoning_content", "reasoning", "reasoning_text", "reasoning_opaque", "content"] {
        let Some(text) = message[field].as_str() else { continue };
        let is_whole = field == "reasoning_opaque";
        let pieces = if is_whole { vec![text] } else { halves(text).to_vec() };
        events.extend(pieces.into_iter().map(|piece| chunk(json!({field: piece}), None)));
    }
    for entry in message["reasoning_details"].as_array().into_iter().flatten() {
        match entry["text"].as_str() {
            Some(text) => {
                for half in halves(text) {
                    let piece = json!({"type": entry["type"], "text": half, "format": entry["format"], "index": entry["index"]});
                    events.push(chunk(json!({"reasoning_details": [piece]}), None));
                }
                let last = json!({"type": entry["type"], "signature": entry["signature"], "format": entry["format"], "index": entry["index"]});
                events.push(chunk(json!({"reasoning_details": [last]}), None));
            }
            None => events.push(chunk(json!({"reasoning_details": [entry]}), None)),
        }
    }
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let mut start = call.clone();
        start["index"] = index.into();
        start["function"]["arguments"] = "".into();
        events.push(chunk(json!({"tool_calls": [start]}), None));
        for half in halves(call["function"]["arguments"].as_str().unwrap()) {
            events.push(chunk(json!({"tool_calls": [{"index": index, "function": {"arguments": half}}]}), None));
        }
    }
    events.push(chunk(json!({}), Some("stop")));
    events.push(json!({"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 3}}));
    events
}

/// What a client does to its history before it sends it.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Drop(Index),
    Truncate(Index),
    Branch(Index),
    Swap(Index, Index),
    ChangeText(Index),
    ChangeArgs(Index),
    DropPart(Index, Index),
    KeepOwn(Index),
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Edit::Drop),
        at().prop_map(Edit::Truncate),
        at().prop_map(Edit::Branch),
        (at(), at()).prop_map(|(one, other)| Edit::Swap(one, other)),
        at().prop_map(Edit::ChangeText),
        at().prop_map(Edit::ChangeArgs),
        (at(), at()).prop_map(|(one, other)| Edit::DropPart(one, other)),
        at().prop_map(Edit::KeepOwn),
    ]
}

fn is_model(element: &Value) -> bool {
    element["role"] == "assistant" || element["type"] == "function_call" || is_thought(element)
}

impl Edit {
    pub(crate) fn apply(&self, family: Family, history: &mut Vec<Value>, answers: &[Vec<Value>]) {
        if history.is_empty() {
            return;
        }
        let count = history.len();
        let models: Vec<usize> = (0..count).filter(|at| is_model(&history[*at])).collect();
        let pick = |index: &Index| (!models.is_empty()).then(|| models[index.index(models.len())]);
        match self {
            Self::Drop(at) if count > 1 => drop(history.remove(at.index(count))),
            Self::Truncate(at) => drop(history.drain(..at.index(count))),
            Self::Branch(at) => history.truncate(at.index(count) + 1),
            Self::Swap(one, other) => history.swap(one.index(count), other.index(count)),
            Self::ChangeText(at) => {
                let Some(at) = pick(at) else { return };
                match history[at].get_mut("content") {
                    Some(content @ Value::String(_)) => *content = "Sure, edited".into(),
                    Some(Value::Array(blocks)) => {
                        if let Some(block) = blocks.iter_mut().find(|block| block.get("text").is_some()) {
                            block["text"] = "Sure, edited".into();
                        }
                    }
                    _ => {}
                }
            }
            Self::ChangeArgs(at) => {
                let Some(at) = pick(at) else { return };
                let other = json!({"a": 1, "b": "y"});
                match family {
                    Family::Messages => {
                        let blocks = history[at].get_mut("content").and_then(Value::as_array_mut).into_iter().flatten();
                        blocks.filter(|block| is_call(block)).take(1).for_each(|block| block["input"] = other.clone());
                    }
                    Family::Responses if is_call(&history[at]) => history[at]["arguments"] = other.to_string().into(),
                    Family::Responses => {}
                    _ => {
                        if let Some(call) = history[at].get_mut("tool_calls").and_then(|calls| calls.get_mut(0)) {
                            call["function"]["arguments"] = other.to_string().into();
                        }
                    }
                }
            }
            Self::DropPart(at, part) => {
                let Some(at) = pick(at) else { return };
                let list = if family == Family::Messages { "content" } else { "tool_calls" };
                let Some(parts) = history[at].get_mut(list).and_then(Value::as_array_mut) else { return };
                if family == Family::Responses || parts.is_empty() {
                    return;
                }
                parts.remove(part.index(parts.len()));
                if parts.is_empty() {
                    let left = history[at]["content"].is_string();
                    if family == Family::Messages || !left {
                        history.remove(at);
                    } else {
                        history[at].as_object_mut().unwrap().remove("tool_calls");
                    }
                }
            }
            // A client that still has its state, of one answer.
            Self::KeepOwn(of) if !answers.is_empty() => {
                let own = &answers[of.index(answers.len())];
                let bare = family.forgotten(own, false);
                let bare = in_one_form(bare);
                let form = in_one_form(history.clone());
                if !bare.is_empty()
                    && bare.len() <= count
                    && family.says_something(own)
                    && let Some(at) = (0..=count - bare.len()).find(|at| form[*at..at + bare.len()] == bare[..])
                {
                    drop(history.splice(at..at + bare.len(), family.place(own)));
                }
            }
            _ => {}
        }
    }
}
