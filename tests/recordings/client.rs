//! Clients that lose their state, and what else clients do to a history.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value, json};

use crate::parts::{contents, contents_mut, field, is_thought, parts, snake, strip, text, token};

/// What the client does to each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every signature is removed.
    Removed,
    /// Empty text and thoughts are dropped, text is merged, keys stand in another order.
    Forgetful,
    /// The fields of parts are spelt in snake case.
    SnakeCase,
    /// Calls and outputs lose their ids.
    IdsRemoved,
    /// Calls and outputs get ids of the client's own.
    IdsMinted,
    /// The history begins with the second question of the user, where there is one.
    HeadCut,
    /// Arguments write 1 as 1.0, and their keys stand in another order.
    Numbers,
    /// Each part of the model becomes a content of its own.
    Split,
    /// Adjacent contents of the model become one.
    Joined,
    /// Calls are dropped, their outputs are kept.
    CallsDropped,
}

impl Mode {
    pub(crate) const ALL: [Self; 10] = [
        Self::Removed,
        Self::Forgetful,
        Self::SnakeCase,
        Self::IdsRemoved,
        Self::IdsMinted,
        Self::HeadCut,
        Self::Numbers,
        Self::Split,
        Self::Joined,
        Self::CallsDropped,
    ];

    /// Whether a conversation can still be recognised by its first content.
    pub(crate) fn keeps_opening(self) -> bool {
        self != Self::HeadCut
    }
}

/// The position of a content, and of a part in it.
pub(crate) type Place = (usize, usize);

/// A request as the client sends it.
pub(crate) struct Sent {
    pub(crate) body: Value,
    pub(crate) bytes: Vec<u8>,
    /// Where the parts of the recorded request went.
    pub(crate) places: HashMap<Place, Place>,
}

/// A content whose parts know where they come from.
struct Tagged {
    content: Value,
    parts: Vec<(Vec<Place>, Value)>,
}

/// Sends a recorded request in this mode.
pub(crate) fn send(mode: Mode, recorded: &Value, derived: bool) -> Sent {
    let mut body = recorded.clone();
    if derived && let Some(inner) = body.get_mut("request").and_then(Value::as_object_mut) {
        inner.remove("session_id");
        inner.remove("sessionId");
        body.as_object_mut().unwrap().remove("user_prompt_id");
    }
    let mut tagged: Vec<Tagged> = contents(&body).iter().enumerate().map(|(at, content)| tag(at, content)).collect();
    match mode {
        Mode::Removed => {}
        Mode::Forgetful => tagged.retain_mut(|content| !is_model(content) || forget(content)),
        Mode::SnakeCase => each(&mut tagged, &mut |part| *part = spell(part)),
        Mode::IdsRemoved => each(&mut tagged, &mut remove_id),
        Mode::IdsMinted => mint(&mut tagged),
        Mode::HeadCut => cut(&mut tagged),
        Mode::Numbers => each(&mut tagged, &mut |part| {
            if let Some(args) = part.get_mut("functionCall").and_then(|call| call.get_mut("args")) {
                to_float(args);
            }
        }),
        Mode::Split => tagged = tagged.into_iter().flat_map(split).collect(),
        Mode::Joined => tagged = join(tagged),
        Mode::CallsDropped => tagged.retain_mut(|content| {
            let model = is_model(content);
            content.parts.retain(|(_, part)| !model || field(part, "functionCall").is_none());
            !model || !content.parts.is_empty()
        }),
    }
    each(&mut tagged, &mut strip);
    let mut places = HashMap::new();
    let sent = tagged.into_iter().enumerate().map(|(at, tagged)| {
        let mut content = tagged.content;
        let parts = tagged.parts.into_iter().enumerate().map(|(position, (origins, part))| {
            places.extend(origins.into_iter().map(|origin| (origin, (at, position))));
            part
        });
        let parts: Vec<_> = parts.collect();
        if content.get("parts").is_some() || !parts.is_empty() {
            content["parts"] = parts.into();
        }
        content
    });
    let sent: Vec<_> = sent.collect();
    if let Some(held) = contents_mut(&mut body) {
        *held = sent;
    }
    let mut bytes = Vec::new();
    write(&body, matches!(mode, Mode::Forgetful | Mode::Numbers), &mut bytes);
    Sent { body, bytes, places }
}

fn tag(at: usize, content: &Value) -> Tagged {
    let parts = parts(content).iter().enumerate().map(|(part, value)| (vec![(at, part)], value.clone()));
    Tagged { content: content.clone(), parts: parts.collect() }
}

fn is_model(content: &Tagged) -> bool {
    content.content["role"] == "model"
}

fn each(tagged: &mut [Tagged], change: &mut dyn FnMut(&mut Value)) {
    tagged.iter_mut().flat_map(|content| &mut content.parts).for_each(|(_, part)| change(part));
}

/// Drops what clients drop; says whether anything is left.
fn forget(content: &mut Tagged) -> bool {
    let mut kept: Vec<(Vec<Place>, Value)> = Vec::new();
    // Whether the last part that can carry it has a signature already.
    let mut signed: Vec<bool> = Vec::new();
    for (origins, part) in content.parts.drain(..) {
        if is_thought(&part) {
            continue;
        }
        let carries = token(&part).is_some();
        if text(&part) == Some("") {
            let carrier = (0..kept.len()).rev().find(|at| {
                let part = &kept[*at].1;
                text(part).is_some() || field(part, "functionCall").is_some()
            });
            // It belongs to the part before it, if that has none of its own.
            if let Some(at) = carrier.filter(|at| carries && !signed[*at]) {
                kept[at].0.extend(origins);
                signed[at] = true;
            }
            continue;
        }
        let last = kept.last_mut().filter(|(_, last)| text(last).is_some() && text(&part).is_some());
        if let Some((merged, last)) = last {
            let joined = text(last).unwrap().to_owned() + text(&part).unwrap();
            last["text"] = joined.into();
            merged.extend(origins);
            *signed.last_mut().unwrap() |= carries;
        } else {
            kept.push((origins, part));
            signed.push(carries);
        }
    }
    content.parts = kept;
    !content.parts.is_empty()
}

fn spell(part: &Value) -> Value {
    const SPELT: [&str; 12] = [
        "functionCall",
        "functionResponse",
        "inlineData",
        "fileData",
        "mimeType",
        "fileUri",
        "displayName",
        "executableCode",
        "codeExecutionResult",
        "toolCall",
        "toolResponse",
        "toolType",
    ];
    let Some(part) = part.as_object() else { return part.clone() };
    let spelt = part.iter().map(|(name, value)| {
        // What is inside of arguments and responses is the tools' own.
        let value = if matches!(&**name, "args" | "response") { value.clone() } else { spell(value) };
        (if SPELT.contains(&&**name) { snake(name) } else { name.clone() }, value)
    });
    spelt.collect::<Map<_, _>>().into()
}

fn remove_id(part: &mut Value) {
    for name in ["functionCall", "functionResponse", "function_call", "function_response"] {
        if let Some(held) = part.get_mut(name).and_then(Value::as_object_mut) {
            held.remove("id");
        }
    }
}

/// Gives every call a new id, and its output the same.
fn mint(tagged: &mut [Tagged]) {
    let mut open: VecDeque<(Value, Value, String)> = VecDeque::new();
    let mut count = 0_u32;
    each(tagged, &mut |part| {
        for name in ["functionCall", "function_call"] {
            if let Some(call) = part.get_mut(name) {
                count += 1;
                let id = format!("minted_{:08x}", count.wrapping_mul(0x9e37_79b9));
                open.push_back((call["id"].clone(), call["name"].clone(), id.clone()));
                call["id"] = id.into();
            }
        }
        for name in ["functionResponse", "function_response"] {
            if let Some(output) = part.get_mut(name) {
                let by_id = open.iter().position(|(id, ..)| !id.is_null() && *id == output["id"]);
                let by_name = || open.iter().position(|(_, name, _)| *name == output["name"]);
                let Some((.., id)) = by_id.or_else(by_name).and_then(|at| open.remove(at)) else { continue };
                output["id"] = id.into();
            }
        }
    });
}

fn cut(tagged: &mut Vec<Tagged>) {
    let asks = |content: &Tagged| {
        !is_model(content) && content.parts.iter().all(|(_, part)| field(part, "functionResponse").is_none())
    };
    if let Some(second) = (1..tagged.len()).find(|at| asks(&tagged[*at]) && is_model(&tagged[*at - 1])) {
        tagged.drain(..second);
    }
}

fn to_float(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_i64().filter(|whole| whole.unsigned_abs() < 1 << 53) {
                #[allow(clippy::cast_precision_loss)]
                let float = whole as f64;
                *value = json!(float);
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(to_float),
        Value::Object(members) => members.values_mut().for_each(to_float),
        _ => {}
    }
}

fn split(content: Tagged) -> Vec<Tagged> {
    if !is_model(&content) || content.parts.len() < 2 {
        return vec![content];
    }
    let Tagged { content, parts } = content;
    parts.into_iter().map(|part| Tagged { content: content.clone(), parts: vec![part] }).collect()
}

fn join(tagged: Vec<Tagged>) -> Vec<Tagged> {
    let mut joined: Vec<Tagged> = Vec::new();
    for content in tagged {
        match joined.last_mut().filter(|last| is_model(last) && is_model(&content)) {
            Some(last) => last.parts.extend(content.parts),
            None => joined.push(content),
        }
    }
    joined
}

/// Writes compact JSON with the keys in order, or in reverse order.
pub(crate) fn write(value: &Value, reversed: bool, out: &mut Vec<u8>) {
    match value {
        Value::Array(elements) => {
            out.push(b'[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(element, reversed, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if reversed {
                members.reverse();
            }
            out.push(b'{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(Value::from(&**name).to_string().as_bytes());
                out.push(b':');
                write(value, reversed, out);
            }
            out.push(b'}');
        }
        _ => out.extend_from_slice(value.to_string().as_bytes()),
    }
}
