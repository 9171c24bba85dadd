//! What the provider writes: messages, deltas, and their framing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    config::Config,
    flavour::{Flavour, Manner, Upstream},
    request::Asked,
    script::Say,
    vault::{Spoken, State},
};
use crate::testing::provider::json::{Node, Style};

/// What an answer says about itself.
pub(super) struct Frame<'a> {
    pub(super) config: &'a Config,
    pub(super) asked: &'a Asked,
    pub(super) upstream: Upstream,
    pub(super) id: String,
    pub(super) prompt_tokens: usize,
    /// The finish reason that the script gives.
    pub(super) finish: Option<&'a str>,
    /// Random letters for padding.
    pub(super) padding: &'a dyn Fn(usize) -> String,
}

/// One event of a stream.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) text: String,
    /// Whether it has a finish reason, or comes behind one that has.
    pub(super) terminal: bool,
}

const CREATED: u64 = 1_790_000_000;

type Fields = Vec<(&'static str, Node)>;

fn null() -> Node {
    Node::Value(Value::Null)
}

impl Frame<'_> {
    fn flavour(&self) -> Flavour {
        self.config.flavour
    }

    fn head(&self, object: &'static str) -> Fields {
        let mut head = vec![
            ("id", self.id.as_str().into()),
            ("object", object.into()),
            ("created", CREATED.into()),
            ("model", self.asked.model.as_str().into()),
        ];
        match self.flavour() {
            Flavour::OpenRouter => head.push(("provider", self.upstream.name().into())),
            Flavour::DeepSeek | Flavour::Groq | Flavour::Ollama | Flavour::LlamaCpp => {
                head.push(("system_fingerprint", "fp_0123456789".into()));
            }
            _ => {}
        }
        head
    }

    fn usage(&self, spoken: &[Arc<Spoken>]) -> Node {
        let words = |text: &str| text.split_whitespace().count();
        let reasoning: usize = spoken.iter().filter_map(|spoken| spoken.reasoning.as_deref()).map(words).sum();
        let completion: usize =
            reasoning + spoken.iter().map(|spoken| words(&spoken.text) + 8 * spoken.calls.len()).sum::<usize>();
        Node::Object(vec![
            ("prompt_tokens", self.prompt_tokens.into()),
            ("completion_tokens", completion.into()),
            ("total_tokens", (self.prompt_tokens + completion).into()),
            ("completion_tokens_details", Node::Object(vec![("reasoning_tokens", reasoning.into())])),
        ])
    }

    fn reason(&self, spoken: &Spoken) -> String {
        match self.finish {
            Some(finish) => finish.to_owned(),
            // Gemini does not tell calls from text here.
            None if spoken.calls.is_empty() || self.flavour().is_google() => "stop".to_owned(),
            None => "tool_calls".to_owned(),
        }
    }

    /// A choice; `field` is `message` or `delta`.
    fn choice(&self, index: usize, field: &'static str, content: Node, finish: Option<&str>) -> Node {
        let reason = finish.map_or_else(null, Node::from);
        let mut choice = vec![("index", index.into()), (field, content), ("finish_reason", reason)];
        match self.flavour() {
            Flavour::OpenRouter => {
                let native = finish.map(|finish| self.upstream.native_finish(finish));
                choice.push(("native_finish_reason", native.map_or_else(null, Node::from)));
            }
            Flavour::DeepSeek | Flavour::Groq => choice.push(("logprobs", null())),
            _ => {}
        }
        Node::Object(choice)
    }

    /// The body of an answer that is no stream.
    pub(super) fn whole(&self, spoken: &[Arc<Spoken>]) -> Vec<u8> {
        let choices = spoken.iter().enumerate().map(|(index, spoken)| {
            let mut message = spoken.message.clone();
            if self.flavour() == Flavour::OpenRouter {
                message["refusal"] = Value::Null;
                if message.get("reasoning").is_none() {
                    message["reasoning"] = Value::Null;
                }
            }
            self.choice(index, "message", message.into(), Some(&self.reason(spoken)))
        });
        let mut body = self.head("chat.completion");
        body.push(("choices", Node::Array(choices.collect())));
        body.push(("usage", self.usage(spoken)));
        let text = self.style().write(&Node::Object(body));
        // OpenRouter keeps the connection alive with white space.
        let padding = if self.flavour() == Flavour::OpenRouter { "\n         \n" } else { "" };
        format!("{padding}{text}").into_bytes()
    }

    fn style(&self) -> Style {
        Style { heavy: self.config.heavy_escapes, ..Style::COMPACT }
    }

    fn event(&self, choices: Vec<Node>, usage: Option<Node>, error: Option<Node>, terminal: bool) -> Event {
        let mut body = self.head("chat.completion.chunk");
        if let Some(error) = error {
            body.push(("error", error));
        }
        body.push(("choices", Node::Array(choices)));
        match usage {
            Some(usage) => body.push(("usage", usage)),
            None if self.flavour() == Flavour::DeepSeek => body.push(("usage", null())),
            None => {}
        }
        if self.flavour() == Flavour::Mistral {
            body.push(("p", (self.padding)(self.prompt_tokens % 23 + 1).into()));
        }
        Event { text: format!("data: {}\n\n", self.style().write(&Node::Object(body))), terminal }
    }

    /// The events of a stream.
    pub(super) fn stream(&self, spoken: &[Arc<Spoken>]) -> Vec<Event> {
        let flavour = self.flavour();
        let usage_with_finish = matches!(
            flavour,
            Flavour::DeepSeek | Flavour::Kimi | Flavour::Glm | Flavour::MiMo | Flavour::Mistral | Flavour::MiniMax
        );
        let usage_behind = !usage_with_finish && (self.asked.include_usage || flavour == Flavour::OpenRouter);
        let mut queues: Vec<_> = spoken.iter().map(|spoken| self.deltas(spoken).into_iter()).collect();
        let longest = queues.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let mut events = Vec::new();
        // The choices take turns.
        for round in 0..longest {
            if flavour == Flavour::OpenRouter && round % 4 == 0 {
                events.push(comment());
            }
            for (index, queue) in queues.iter_mut().enumerate() {
                if let Some(delta) = queue.next() {
                    events.push(self.event(vec![self.choice(index, "delta", delta, None)], None, None, false));
                }
            }
        }
        for (index, spoken_here) in spoken.iter().enumerate() {
            let delta = match flavour {
                Flavour::DeepSeek => vec![("content", "".into()), ("reasoning_content", null())],
                Flavour::OpenRouter => vec![("role", "assistant".into()), ("content", "".into())],
                Flavour::Gemini | Flavour::Vertex => vec![("role", "assistant".into())],
                Flavour::Mistral => vec![("content", "".into())],
                _ => Vec::new(),
            };
            let choice = self.choice(index, "delta", Node::Object(delta), Some(&self.reason(spoken_here)));
            let last = index + 1 == spoken.len();
            let usage = (usage_with_finish && last).then(|| self.usage(spoken));
            events.push(self.event(vec![choice], usage, None, true));
        }
        if usage_behind {
            events.push(self.event(Vec::new(), Some(self.usage(spoken)), None, true));
        }
        if self.config.done {
            events.push(done());
        }
        events
    }

    /// A stream that begins well and then holds an error.
    pub(super) fn broken(&self, after: usize, error: Node) -> Vec<Event> {
        let word = || Node::Object(vec![("role", "assistant".into()), ("content", "Let me see. ".into())]);
        let mut events: Vec<Event> =
            (0..after).map(|_| self.event(vec![self.choice(0, "delta", word(), None)], None, None, false)).collect();
        if self.flavour() == Flavour::OpenRouter {
            let delta = Node::Object(vec![("role", "assistant".into()), ("content", "".into())]);
            let choice = self.choice(0, "delta", delta, Some("error"));
            events.push(self.event(vec![choice], None, Some(error), true));
        } else {
            let error = Node::Object(vec![("error", error)]);
            events.push(Event { text: format!("data: {}\n\n", self.style().write(&error)), terminal: true });
        }
        if self.config.done {
            events.push(done());
        }
        events
    }

    /// What one choice says, delta for delta, without the last one that only finishes.
    fn deltas(&self, spoken: &Spoken) -> Vec<Node> {
        let mut writer = Writer { frame: self, spoken, deltas: Vec::new(), call: 0, detail: 0, sealed: false };
        writer.open();
        let last_text = spoken.says.iter().rposition(|say| matches!(say, Say::Text(_)));
        for (at, say) in spoken.says.iter().enumerate() {
            match say {
                Say::Reasoning(thought) => {
                    let closes = !matches!(spoken.says.get(at + 1), Some(Say::Reasoning(_)));
                    writer.reasoning(thought, closes);
                }
                Say::Text(text) => writer.text(text, Some(at) == last_text),
                Say::Calls(calls) => writer.calls(calls.len()),
            }
        }
        writer.close();
        writer.deltas
    }

    fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, _)) = rest.char_indices().nth(self.config.text_piece) {
            let (piece, after) = rest.split_at(at);
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        pieces
    }
}

fn comment() -> Event {
    Event { text: ": OPENROUTER PROCESSING\n\n".to_owned(), terminal: false }
}

fn done() -> Event {
    Event { text: "data: [DONE]\n\n".to_owned(), terminal: true }
}

struct Writer<'a> {
    frame: &'a Frame<'a>,
    spoken: &'a Spoken,
    deltas: Vec<Node>,
    /// Calls that were written.
    call: usize,
    /// Entries of details that were written.
    detail: usize,
    /// Whether the opaque value was written.
    sealed: bool,
}

impl Writer<'_> {
    fn flavour(&self) -> Flavour {
        self.frame.flavour()
    }

    fn push(&mut self, mut fields: Fields) {
        let role = match self.flavour() {
            Flavour::OpenRouter | Flavour::Glm | Flavour::Gemini | Flavour::Vertex => true,
            _ => self.deltas.is_empty(),
        };
        if role {
            fields.insert(0, ("role", "assistant".into()));
        }
        self.deltas.push(Node::Object(fields));
    }

    /// The delta with which an answer begins, if it has one for that alone.
    fn open(&mut self) {
        match self.flavour() {
            Flavour::DeepSeek if self.spoken.reasoning.is_some() => {
                self.push(vec![("content", null()), ("reasoning_content", "".into())]);
            }
            Flavour::DeepSeek => self.push(vec![("content", "".into()), ("reasoning_content", null())]),
            Flavour::LlamaCpp => self.push(vec![("content", null())]),
            Flavour::Groq | Flavour::Mistral | Flavour::Kimi | Flavour::Copilot => {
                self.push(vec![("content", "".into())]);
            }
            _ => {}
        }
    }

    /// Whatever is left to be said before the finish reason.
    fn close(&mut self) {
        self.opaque();
        while let Some(entry) = self.next_detail() {
            self.entry(entry);
        }
        match &self.spoken.state {
            State::Details(details) if details.is_empty() => {
                let fields =
                    vec![("content", "".into()), ("reasoning", null()), ("reasoning_details", Node::Array(Vec::new()))];
                self.push_details(fields);
            }
            // Nothing was said that could have carried it.
            State::Signature(_) if self.spoken.calls.is_empty() && self.spoken.text.is_empty() => {
                let extra = self.signature();
                self.push([("content", "".into())].into_iter().chain(extra).collect());
            }
            _ => {}
        }
    }

    /// MiniMax has no `reasoning` beside its details.
    fn push_details(&mut self, mut fields: Fields) {
        if self.flavour() == Flavour::MiniMax {
            fields.retain(|(name, _)| *name != "reasoning");
        }
        self.push(fields);
    }

    fn next_detail(&mut self) -> Option<Value> {
        let State::Details(details) = &self.spoken.state else {
            return None;
        };
        let entry = details.get(self.detail).cloned();
        self.detail += usize::from(entry.is_some());
        entry
    }

    fn reasoning(&mut self, thought: &str, closes: bool) {
        let frame = self.frame;
        match self.flavour().manner() {
            Manner::Text(field) => {
                // The first delta of DeepSeek says already that the field is there.
                if thought.is_empty() && self.flavour() == Flavour::DeepSeek {
                    return;
                }
                for piece in frame.pieces(thought) {
                    let mut fields = match self.flavour() {
                        Flavour::DeepSeek => vec![("content", null())],
                        Flavour::Ollama => vec![("content", "".into())],
                        _ => Vec::new(),
                    };
                    fields.push((field, piece.into()));
                    if self.flavour() == Flavour::Groq {
                        fields.push(("channel", "analysis".into()));
                    }
                    self.push(fields);
                }
            }
            Manner::Details => self.details(thought),
            // Thoughts are not shown.
            Manner::Signature(_) => {}
            Manner::Opaque => {
                for piece in frame.pieces(thought) {
                    self.push(vec![("content", null()), ("reasoning_text", piece.into())]);
                }
                if closes && !frame.config.metadata_deltas {
                    self.opaque();
                }
            }
            Manner::Chunks => {
                let pieces = frame.pieces(thought);
                for (at, piece) in pieces.iter().enumerate() {
                    let text = Node::Object(vec![("type", "text".into()), ("text", (*piece).into())]);
                    let mut chunk = vec![("type", "thinking".into()), ("thinking", Node::Array(vec![text]))];
                    if closes && at + 1 == pieces.len() {
                        chunk.push(("closed", true.into()));
                    }
                    self.push(vec![("content", Node::Array(vec![Node::Object(chunk)]))]);
                }
            }
        }
    }

    /// The opaque value, once.
    fn opaque(&mut self) {
        if let State::Opaque { opaque, .. } = &self.spoken.state
            && !self.sealed
        {
            self.sealed = true;
            self.push(vec![("content", null()), ("reasoning_opaque", opaque.as_str().into())]);
        }
    }

    /// The entries that belong to one thought.
    fn details(&mut self, thought: &str) {
        let minimax = self.flavour() == Flavour::MiniMax;
        let sealed = !minimax && matches!(self.frame.upstream, Upstream::Anthropic | Upstream::OpenAi | Upstream::XAi);
        if thought.is_empty() && !sealed {
            return;
        }
        let Some(mut entry) = self.next_detail() else {
            return;
        };
        let clear = ["text", "summary"].into_iter().find(|field| entry.get(*field).is_some_and(Value::is_string));
        if let Some(field) = clear {
            self.fragments(&entry, field, thought);
            // A summary is followed by what it sums up.
            if field != "summary" {
                return;
            }
            match self.next_detail() {
                Some(sealed) => entry = sealed,
                None => return,
            }
        }
        self.entry(entry);
    }

    /// An entry in one piece.
    fn entry(&mut self, entry: Value) {
        self.push_details(vec![
            ("content", "".into()),
            ("reasoning", null()),
            ("reasoning_details", Node::Array(vec![entry.into()])),
        ]);
    }

    /// An entry of clear text, in fragments that have its type, format and index in common.
    fn fragments(&mut self, entry: &Value, field: &'static str, thought: &str) {
        let frame = self.frame;
        let common = json!({"type": entry["type"], "format": entry["format"], "index": entry["index"]});
        let signed = entry.get("signature").is_some();
        let mut fragments: Vec<(Option<&str>, Value)> = Vec::new();
        if signed {
            let mut first = common.clone();
            first["text"] = json!("");
            first["signature"] = json!("");
            fragments.push((Some(""), first));
        }
        for piece in frame.pieces(thought) {
            let mut fragment = common.clone();
            fragment[field] = json!(piece);
            fragments.push((Some(piece), fragment));
        }
        if signed {
            let mut last = common.clone();
            last["signature"] = entry["signature"].clone();
            fragments.push((None, last));
        }
        // Fields that nobody knows come once.
        if let Some((note, (_, last))) = entry.get("provider_note").zip(fragments.last_mut()) {
            last["provider_note"] = note.clone();
        }
        for (text, fragment) in fragments {
            let fields = vec![
                ("content", "".into()),
                ("reasoning", text.map_or_else(null, Node::from)),
                ("reasoning_details", Node::Array(vec![fragment.into()])),
            ];
            self.push_details(fields);
        }
    }

    fn text(&mut self, text: &str, last: bool) {
        let frame = self.frame;
        let pieces = frame.pieces(text);
        let signed = last && self.spoken.calls.is_empty() && matches!(self.spoken.state, State::Signature(_));
        for (at, piece) in pieces.iter().enumerate() {
            let ends = signed && at + 1 == pieces.len();
            let mut fields = match (self.flavour(), &self.spoken.state) {
                (Flavour::Mistral, State::Chunks(_)) => {
                    let chunk = Node::Object(vec![("type", "text".into()), ("text", (*piece).into())]);
                    vec![("content", Node::Array(vec![chunk]))]
                }
                (Flavour::DeepSeek, _) => vec![("content", (*piece).into()), ("reasoning_content", null())],
                _ => vec![("content", (*piece).into())],
            };
            let extra = ends.then(|| self.signature()).into_iter().flatten();
            if ends && frame.config.metadata_deltas {
                self.push(fields);
                let extra = extra.collect();
                self.deltas.push(Node::Object(extra));
            } else {
                fields.extend(extra);
                self.push(fields);
            }
        }
    }

    /// The fields that carry the signature.
    fn signature(&self) -> Fields {
        let (State::Signature(signature), Manner::Signature(namespace)) = (&self.spoken.state, self.flavour().manner())
        else {
            return Vec::new();
        };
        let signature = || Node::from(signature.as_str());
        let legacy = self.frame.config.legacy_signatures;
        let mut inner = vec![("thought_signature", signature())];
        if legacy {
            inner.insert(0, ("thought", true.into()));
        }
        let mut fields = vec![("extra_content", Node::Object(vec![(namespace, Node::Object(inner))]))];
        if legacy {
            fields.push(("thought_signature", signature()));
        }
        fields
    }

    fn calls(&mut self, count: usize) {
        let frame = self.frame;
        let spoken = self.spoken;
        for (index, call) in spoken.calls.iter().enumerate().skip(self.call).take(count) {
            let arguments = call.args.to_string();
            let function = |arguments: &str| {
                Node::Object(vec![("name", call.name.as_str().into()), ("arguments", arguments.into())])
            };
            let whole = matches!(
                self.flavour(),
                Flavour::Ollama | Flavour::Groq | Flavour::Mistral | Flavour::Gemini | Flavour::Vertex
            );
            let head = |arguments: &str| {
                vec![("id", call.id.as_str().into()), ("type", "function".into()), ("function", function(arguments))]
            };
            if self.flavour().is_google() {
                let extra = if index == 0 { self.signature() } else { Vec::new() };
                let call_list = |call: Fields| ("tool_calls", Node::Array(vec![Node::Object(call)]));
                if frame.config.legacy_signatures {
                    self.push(std::iter::once(call_list(head(&arguments))).chain(extra).collect());
                } else if frame.config.metadata_deltas && !extra.is_empty() {
                    self.push_call(head(&arguments));
                    let id = ("id", call.id.as_str().into());
                    self.push_call(std::iter::once(id).chain(extra).collect());
                } else {
                    self.push_call(extra.into_iter().chain(head(&arguments)).collect());
                }
                continue;
            }
            let numbered = |mut fields: Fields| {
                fields.insert(0, ("index", index.into()));
                fields
            };
            if whole {
                self.push_call(numbered(head(&arguments)));
                continue;
            }
            self.push_call(numbered(head("")));
            for piece in frame.pieces(&arguments) {
                let function = Node::Object(vec![("arguments", piece.into())]);
                self.push_call(numbered(vec![("function", function)]));
            }
        }
        self.call += count;
    }

    fn push_call(&mut self, call: Fields) {
        let mut fields = match self.flavour() {
            Flavour::OpenRouter => vec![("content", null())],
            Flavour::Ollama | Flavour::Mistral => vec![("content", "".into())],
            _ => Vec::new(),
        };
        fields.push(("tool_calls", Node::Array(vec![Node::Object(call)])));
        self.push(fields);
    }
}
