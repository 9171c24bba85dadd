//! What was answered, and the state that came with it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use super::{
    flavour::{Flavour, Manner, Upstream},
    script::Say,
};
use crate::testing::provider::{Random, base64};

/// A message of the assistant that the provider issued.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The whole message, as an honest client of the whole answer holds it, state included.
    pub message: Value,
    /// The model that the request named.
    pub model: String,
    /// Whether state came with it that has to come back.
    pub has_state: bool,
}

/// Does not show the message.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("model", &self.model).field("has_state", &self.has_state).finish_non_exhaustive()
    }
}

/// The state of one message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    None,
    /// In clear text.
    Text(String),
    /// Entries of `reasoning_details`.
    Details(Vec<Value>),
    /// A signature, in base64.
    Signature(String),
    Opaque {
        text: String,
        opaque: String,
    },
    /// Runs of text, each with whether it is thinking.
    Chunks(Vec<(bool, String)>),
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) args: Value,
}

/// One choice of an answer, with all that is random about it.
#[derive(Clone, Debug)]
pub(super) struct Spoken {
    pub(super) says: Vec<Say>,
    /// All text of the answer.
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
    /// All reasoning; nothing if the script has none, and not even an empty one.
    pub(super) reasoning: Option<String>,
    pub(super) state: State,
    pub(super) model: String,
    pub(super) credential: [u8; 32],
    /// The whole message.
    pub(super) message: Value,
    revoked: bool,
}

pub(super) struct Vault {
    random: Random,
    spoken: Mutex<Vec<Arc<Spoken>>>,
}

/// What a choice is made for.
#[derive(Clone, Copy)]
pub(super) struct Maker<'a> {
    pub(super) flavour: Flavour,
    pub(super) upstream: Upstream,
    pub(super) model: &'a str,
    pub(super) credential: [u8; 32],
    /// Whether the model reasons.
    pub(super) thinking: bool,
    /// Whether [`Flavour::MiniMax`] reasons within the content.
    pub(super) inline: bool,
    pub(super) unknown_fields: bool,
    /// Whether signatures stand on the message, whatever they sign.
    pub(super) legacy_signatures: bool,
}

impl Vault {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { random: Random::new(seed), spoken: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Arc<Spoken>>> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self, length: usize) -> String {
        self.random.name(length)
    }

    /// Whatever was spoken and is still valid.
    pub(super) fn valid(&self) -> Vec<Arc<Spoken>> {
        self.held().iter().filter(|spoken| !spoken.revoked).map(Arc::clone).collect()
    }

    pub(super) fn issued(&self) -> Vec<Issued> {
        let issued = |spoken: &Arc<Spoken>| Issued {
            message: spoken.message.clone(),
            model: spoken.model.clone(),
            has_state: spoken.state != State::None,
        };
        self.held().iter().map(issued).collect()
    }

    pub(super) fn revoke_all(&self) {
        for spoken in self.held().iter_mut() {
            Arc::make_mut(spoken).revoked = true;
        }
    }

    /// Random bytes as base64, in the shape of a signature.
    fn signature(&self, head: &[u8]) -> String {
        let mut random = self.random.draw();
        let mut draw = [0; 2];
        random.fill(&mut draw);
        let mut bytes = vec![0; 156 + usize::from(u16::from_le_bytes(draw)) % 600];
        random.fill(&mut bytes);
        for (byte, head) in bytes.iter_mut().zip(head) {
            *byte = *head;
        }
        base64::encode(&bytes)
    }

    fn id(&self, maker: Maker<'_>, name: &str) -> String {
        match maker.flavour {
            Flavour::Kimi => format!("{name}:{}", self.name(8)),
            Flavour::Mistral => self.name(9),
            Flavour::Gemini | Flavour::Vertex => self.name(8),
            Flavour::OpenRouter if maker.upstream == Upstream::Google => format!("tool_{name}_{}", self.name(20)),
            Flavour::OpenRouter if maker.upstream == Upstream::Anthropic => format!("toolu_{}", self.name(24)),
            _ => format!("call_{}", self.name(24)),
        }
    }

    /// Makes a choice of what the script says, and keeps it.
    pub(super) fn speak(&self, says: &[Say], maker: Maker<'_>) -> Arc<Spoken> {
        let mut spoken = Spoken {
            says: Vec::new(),
            text: String::new(),
            calls: Vec::new(),
            reasoning: None,
            state: State::None,
            model: maker.model.to_owned(),
            credential: maker.credential,
            message: Value::Null,
            revoked: false,
        };
        for say in says {
            match say {
                Say::Reasoning(_) if !maker.thinking => continue,
                Say::Reasoning(thought) if maker.inline => {
                    let tagged = format!("<think>\n{thought}\n</think>\n\n");
                    spoken.text.push_str(&tagged);
                    spoken.says.push(Say::Text(tagged));
                    continue;
                }
                Say::Reasoning(thought) => {
                    spoken.reasoning.get_or_insert_default().push_str(thought);
                }
                Say::Text(text) => spoken.text.push_str(text),
                Say::Calls(calls) => spoken.calls.extend(calls.iter().map(|(name, args)| Call {
                    id: self.id(maker, name),
                    name: name.clone(),
                    args: args.clone(),
                })),
            }
            spoken.says.push(say.clone());
        }
        spoken.state = self.state(&spoken, maker);
        spoken.message = message(&spoken, maker);
        let spoken = Arc::new(spoken);
        self.held().push(Arc::clone(&spoken));
        spoken
    }

    fn state(&self, spoken: &Spoken, maker: Maker<'_>) -> State {
        match (maker.flavour.manner(), &spoken.reasoning) {
            (Manner::Text(_), Some(text)) => State::Text(text.clone()),
            (Manner::Opaque, Some(text)) => {
                State::Opaque { text: text.clone(), opaque: self.signature(&[0x12, 0xff, 0x04]) }
            }
            (Manner::Chunks, Some(_)) => State::Chunks(runs(&spoken.says)),
            (Manner::Signature(_), _) if maker.thinking => {
                let head: &[u8] = if maker.flavour == Flavour::Gemini { &[0x12, 0x34] } else { &[1, 0x8f, 0x3d, 0x6b] };
                State::Signature(self.signature(head))
            }
            (Manner::Details, _) if !maker.inline => self.details(spoken, maker),
            _ => State::None,
        }
    }

    fn details(&self, spoken: &Spoken, maker: Maker<'_>) -> State {
        let upstream = if maker.flavour == Flavour::MiniMax { Upstream::MiniMax } else { maker.upstream };
        let thoughts = spoken.says.iter().filter_map(|say| match say {
            Say::Reasoning(thought) => Some(thought.as_str()),
            _ => None,
        });
        let mut entries: Vec<Value> = Vec::new();
        for thought in thoughts {
            match upstream {
                Upstream::Anthropic => entries.push(json!({
                    "type": "reasoning.text", "text": thought, "signature": self.signature(&[0x12, 0xfb, 0x02]),
                })),
                Upstream::OpenAi | Upstream::XAi => {
                    if !thought.is_empty() {
                        entries.push(json!({"type": "reasoning.summary", "summary": thought}));
                    }
                    entries.push(json!({
                        "type": "reasoning.encrypted",
                        "data": self.signature(&[0x80, 0, 0, 0]),
                        "id": format!("rs_{}", self.name(32)),
                    }));
                }
                _ if thought.is_empty() => {}
                _ => entries.push(json!({"type": "reasoning.text", "text": thought})),
            }
        }
        if upstream == Upstream::Google && maker.thinking {
            if !spoken.text.is_empty() || spoken.calls.is_empty() {
                entries.push(json!({"type": "reasoning.text", "signature": self.signature(&[1, 0x8f, 0x3d, 0x6b])}));
            }
            if let Some(call) = spoken.calls.first() {
                let data = self.signature(&[0x12, 0x34]);
                entries.push(json!({"type": "reasoning.encrypted", "data": data, "id": call.id}));
            }
        }
        for (index, entry) in entries.iter_mut().enumerate() {
            entry["format"] = json!(upstream.format());
            entry["index"] = json!(index);
            if maker.unknown_fields {
                entry["provider_note"] = json!({"kept": [index, null, "<ünknown>"]});
            }
        }
        if entries.is_empty() && spoken.reasoning.is_none() { State::None } else { State::Details(entries) }
    }
}

/// The runs of text and thinking that are said.
fn runs(says: &[Say]) -> Vec<(bool, String)> {
    let mut runs: Vec<(bool, String)> = Vec::new();
    for say in says {
        let (thinking, text) = match say {
            Say::Reasoning(text) => (true, text),
            Say::Text(text) => (false, text),
            Say::Calls(_) => continue,
        };
        match runs.last_mut() {
            Some((last, run)) if *last == thinking => run.push_str(text),
            _ => runs.push((thinking, text.clone())),
        }
    }
    runs
}

/// The message of the assistant that a whole answer holds.
fn message(spoken: &Spoken, maker: Maker<'_>) -> Value {
    let flavour = maker.flavour;
    let mut message = json!({"role": "assistant"});
    message["content"] = if spoken.text.is_empty() && !spoken.calls.is_empty() {
        match flavour {
            Flavour::DeepSeek | Flavour::Ollama | Flavour::Mistral => json!(""),
            _ => Value::Null,
        }
    } else {
        json!(spoken.text)
    };
    let mut calls: Vec<Value> = spoken
        .calls
        .iter()
        .map(|call| {
            json!({
                "id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": call.args.to_string()},
            })
        })
        .collect();
    match (&spoken.state, flavour.manner()) {
        (State::Text(text), Manner::Text(field)) => message[field] = json!(text),
        (State::Details(details), _) => {
            if flavour == Flavour::OpenRouter {
                message["reasoning"] = json!(spoken.reasoning.as_ref().filter(|text| !text.is_empty()));
            }
            message["reasoning_details"] = json!(details);
        }
        (State::Signature(signature), Manner::Signature(namespace)) if maker.legacy_signatures => {
            message["extra_content"] = json!({namespace: {"thought": true, "thought_signature": signature}});
            message["thought_signature"] = json!(signature);
        }
        (State::Signature(signature), Manner::Signature(namespace)) => {
            let extra = json!({namespace: {"thought_signature": signature}});
            match calls.first_mut() {
                Some(call) => call["extra_content"] = extra,
                None => message["extra_content"] = extra,
            }
        }
        (State::Opaque { text, opaque }, _) => {
            message["reasoning_text"] = json!(text);
            message["reasoning_opaque"] = json!(opaque);
        }
        (State::Chunks(runs), _) => {
            let chunk = |(thinking, text): &(bool, String)| {
                if *thinking {
                    json!({"type": "thinking", "thinking": [{"type": "text", "text": text}], "closed": true})
                } else {
                    json!({"type": "text", "text": text})
                }
            };
            message["content"] = runs.iter().map(chunk).collect();
        }
        (State::None, Manner::Text(field)) if flavour == Flavour::DeepSeek => message[field] = Value::Null,
        _ => {}
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(flavour: Flavour, upstream: Upstream, says: &[Say]) -> Value {
        let maker = Maker {
            flavour,
            upstream,
            model: "m",
            credential: [0; 32],
            thinking: true,
            inline: false,
            unknown_fields: false,
            legacy_signatures: false,
        };
        Vault::new(Some(1)).speak(says, maker).message.clone()
    }

    #[test]
    fn each_upstream_has_entries_of_its_own() {
        let says = [Say::reasoning("Hm."), Say::text("Look:"), Say::call("f", json!({}))];
        let kinds = |upstream| -> Vec<String> {
            let message = spoken(Flavour::OpenRouter, upstream, &says);
            let entries = message["reasoning_details"].as_array().unwrap().clone();
            entries
                .iter()
                .map(|entry| {
                    let keys: Vec<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
                    keys.join(" ")
                })
                .collect()
        };
        assert_eq!(kinds(Upstream::Anthropic), ["format index signature text type"]);
        assert_eq!(
            kinds(Upstream::Google),
            ["format index text type", "format index signature type", "data format id index type"]
        );
        for upstream in [Upstream::OpenAi, Upstream::XAi] {
            assert_eq!(kinds(upstream), ["format index summary type", "data format id index type"]);
        }
        assert_eq!(kinds(Upstream::MiniMax), ["format index text type"]);
        let empty = spoken(Flavour::OpenRouter, Upstream::Other, &[Say::empty_reasoning(), Say::text("Yes.")]);
        assert_eq!(empty["reasoning_details"], json!([]));
        let none = spoken(Flavour::OpenRouter, Upstream::Other, &[Say::text("Yes.")]);
        assert!(none.get("reasoning_details").is_none());
    }

    #[test]
    fn whole_messages_have_the_shape_of_their_provider() {
        let says = [Say::reasoning("Hm."), Say::calls([("f", json!({"b": 1})), ("g", json!({}))])];
        let gemini = spoken(Flavour::Gemini, Upstream::Other, &says);
        assert!(gemini["tool_calls"][0]["extra_content"]["google"]["thought_signature"].is_string());
        assert!(gemini["tool_calls"][1].get("extra_content").is_none());
        let vertex = spoken(Flavour::Vertex, Upstream::Other, &[Say::text("Yes.")]);
        assert!(vertex["extra_content"]["vertex"]["thought_signature"].is_string());
        let mistral = spoken(Flavour::Mistral, Upstream::Other, &says);
        assert_eq!(mistral["content"][0]["thinking"], json!([{"type": "text", "text": "Hm."}]));
        assert_eq!(mistral["tool_calls"][0]["id"].as_str().unwrap().len(), 9);
        assert_eq!(spoken(Flavour::Kimi, Upstream::Other, &says)["reasoning_content"], "Hm.");
        assert_eq!(spoken(Flavour::Groq, Upstream::Other, &says)["reasoning"], "Hm.");
    }
}
