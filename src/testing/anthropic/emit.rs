//! What the provider writes: blocks, messages, and the events of a stream.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    check::{Context, Verdict},
    prefix::Element,
    refusal::Refusal,
    request::{Asked, Mode},
    script::{Say, Turn},
    vault::{Answered, Issued, IssuedKind, Kept},
};
use crate::testing::provider::json::{Node, Style};

/// One block of an answer.
#[derive(Clone, Debug)]
pub(super) enum Spoken {
    Thinking { thinking: String, signature: String },
    Redacted { data: String },
    Text(String),
    ToolUse { id: String, name: String, input: Value },
    ServerToolUse { id: String, name: &'static str, input: Value },
    SearchResult { id: String, pages: Vec<(String, String)>, encrypted: Vec<String> },
}

impl Spoken {
    fn is_thought(&self) -> bool {
        matches!(self, Self::Thinking { .. } | Self::Redacted { .. })
    }

    pub(super) fn node(&self) -> Node {
        Node::Object(match self {
            Self::Thinking { thinking, signature } => vec![
                ("type", "thinking".into()),
                ("thinking", thinking.as_str().into()),
                ("signature", signature.as_str().into()),
            ],
            Self::Redacted { data } => vec![("type", "redacted_thinking".into()), ("data", data.as_str().into())],
            Self::Text(text) => vec![("type", "text".into()), ("text", text.as_str().into())],
            Self::ToolUse { id, name, input } => tool("tool_use", id, name, input.clone()),
            Self::ServerToolUse { id, name, input } => tool("server_tool_use", id, name, input.clone()),
            Self::SearchResult { id, pages, encrypted } => {
                let results = pages.iter().zip(encrypted).map(|((title, url), encrypted)| {
                    Node::Object(vec![
                        ("type", "web_search_result".into()),
                        ("title", title.as_str().into()),
                        ("url", url.as_str().into()),
                        ("encrypted_content", encrypted.as_str().into()),
                        ("page_age", Node::Value(Value::Null)),
                    ])
                });
                vec![
                    ("type", "web_search_tool_result".into()),
                    ("tool_use_id", id.as_str().into()),
                    ("content", Node::Array(results.collect())),
                ]
            }
        })
    }

    fn kept(&self, number: Option<usize>) -> Kept {
        match self {
            Self::Thinking { .. } | Self::Redacted { .. } => Kept::Thought(number.unwrap_or_default()),
            Self::Text(text) => Kept::Text(text.trim().to_owned()),
            Self::ToolUse { id, name, input } => {
                Kept::ToolUse { id: id.clone(), name: name.clone(), input: input.clone() }
            }
            Self::ServerToolUse { id, .. } => Kept::Server("server_tool_use", id.clone()),
            Self::SearchResult { id, .. } => Kept::Server("web_search_tool_result", id.clone()),
        }
    }
}

fn tool(kind: &'static str, id: &str, name: &str, input: Value) -> Vec<(&'static str, Node)> {
    vec![("type", kind.into()), ("id", id.into()), ("name", name.into()), ("input", Node::Value(input))]
}

/// Says a turn: draws ids, and issues whatever is opaque.
pub(super) fn speak(turn: &Turn, asked: &Asked, verdict: &Verdict, context: &Context<'_>) -> Vec<Spoken> {
    let mut blocks = says(turn, asked, context);
    let mut prefix = asked.prefix.clone();
    // The answer extends the last message, or is the next one.
    let last = asked.runs.last();
    let continues = last.is_some_and(|run| run.assistant);
    let (message, block) = last.and_then(|run| run.blocks.last()).map_or((0, 0), |block| block.at);
    let (message, first) = if continues { (message, block + 1) } else { (message + 1, 0) };
    let answer = context.vault.open();
    // What is no thought is known before the thoughts are signed.
    for (at, block) in blocks.iter_mut().enumerate() {
        if let Spoken::SearchResult { pages, encrypted, .. } = block {
            let contents = pages.iter().map(|_| {
                let issued = context.issued(IssuedKind::SearchResult, answer, at);
                context.vault.issue(issued).signature.clone()
            });
            *encrypted = contents.collect();
        }
        if !block.is_thought() {
            let value = serde_json::from_str(&Style::COMPACT.write(&block.node())).unwrap_or_default();
            prefix.elements.push(Element::new(true, &value, (message, first + at)));
        }
    }
    let prefix = Arc::new(prefix);
    let mut reach = asked.prefix.elements.len();
    let mut chain = verdict.chain.clone();
    let mut kept = Vec::with_capacity(blocks.len());
    for (position, block) in blocks.iter_mut().enumerate() {
        let (kind, text) = match &*block {
            Spoken::Thinking { thinking, .. } => (IssuedKind::Thinking, thinking.clone()),
            Spoken::Redacted { .. } => (IssuedKind::Redacted, String::new()),
            other => {
                reach += 1;
                kept.push(other.kept(None));
                continue;
            }
        };
        let issued = context.vault.issue(Issued {
            thinking: text,
            prefix: Arc::clone(&prefix),
            reach,
            chain: chain.clone(),
            ..context.issued(kind, answer, position)
        });
        chain.push(issued.number);
        match block {
            Spoken::Thinking { signature: opaque, .. } | Spoken::Redacted { data: opaque } => {
                opaque.clone_from(&issued.signature);
            }
            _ => {}
        }
        kept.push(block.kept(Some(issued.number)));
    }
    context.vault.close(answer, Answered { blocks: kept, continues });
    blocks
}

/// The blocks without anything opaque.
fn says(turn: &Turn, asked: &Asked, context: &Context<'_>) -> Vec<Spoken> {
    let thinks = asked.mode != Mode::Disabled || context.config.think_unasked;
    let mut blocks = Vec::new();
    let calls = turn.says.iter().any(|say| matches!(say, Say::ToolUses(_)));
    if asked.mode == Mode::Enabled && calls && !turn.says.first().is_some_and(Say::is_thought) {
        blocks
            .push(Spoken::Thinking { thinking: "I should use a tool for this.".to_owned(), signature: String::new() });
    }
    let vertex = if context.vertex { "vrtx_" } else { "01" };
    let id = |kind: &str| format!("{kind}_{vertex}{}", context.vault.random.name(22));
    for say in &turn.says {
        match say {
            Say::Thinking(_) | Say::HiddenThinking | Say::Redacted if !thinks => {}
            Say::Thinking(text) if !asked.hides => {
                blocks.push(Spoken::Thinking { thinking: text.clone(), signature: String::new() });
            }
            Say::Thinking(_) | Say::HiddenThinking => {
                blocks.push(Spoken::Thinking { thinking: String::new(), signature: String::new() });
            }
            Say::Redacted => blocks.push(Spoken::Redacted { data: String::new() }),
            Say::Text(text) => blocks.push(Spoken::Text(text.clone())),
            Say::ToolUses(calls) => blocks.extend(calls.iter().map(|(name, input)| Spoken::ToolUse {
                id: id("toolu"),
                name: name.clone(),
                input: input.clone(),
            })),
            Say::WebSearch { query, pages } => {
                let id = id("srvtoolu");
                let input = json!({ "query": query });
                blocks.push(Spoken::ServerToolUse { id: id.clone(), name: "web_search", input });
                blocks.push(Spoken::SearchResult { id, pages: pages.clone(), encrypted: Vec::new() });
            }
        }
    }
    blocks
}

impl Context<'_> {
    fn issued(&self, kind: IssuedKind, answer: usize, position: usize) -> Issued {
        Issued {
            signature: String::new(),
            kind,
            thinking: String::new(),
            model: self.name.to_owned(),
            family: self.model.family.clone(),
            credential: self.credential,
            number: 0,
            answer,
            position,
            prefix: Arc::default(),
            reach: 0,
            chain: Vec::new(),
        }
    }
}

/// What an answer says about itself.
pub(super) struct Message<'a> {
    pub(super) model: &'a str,
    pub(super) id: String,
    pub(super) stop_reason: String,
    pub(super) input_tokens: usize,
    pub(super) dropped: Vec<(String, &'static str)>,
}

impl Message<'_> {
    /// The whole message, as an answer that is no stream has it.
    pub(super) fn whole(&self, blocks: &[Spoken]) -> Node {
        let content = blocks.iter().map(Spoken::node).collect();
        self.node(content, self.stop_reason.as_str().into(), blocks.len() * 7)
    }

    fn node(&self, content: Vec<Node>, stop_reason: Node, output_tokens: usize) -> Node {
        let usage = vec![("input_tokens", self.input_tokens.into()), ("output_tokens", output_tokens.into())];
        let mut fields = vec![
            ("model", self.model.into()),
            ("id", self.id.as_str().into()),
            ("type", "message".into()),
            ("role", "assistant".into()),
            ("content", Node::Array(content)),
            ("stop_reason", stop_reason),
            ("stop_sequence", Node::Value(Value::Null)),
            ("usage", Node::Object(usage)),
        ];
        if !self.dropped.is_empty() {
            let dropped = self.dropped.iter().map(|(path, reason)| {
                Node::Object(vec![
                    ("type", "thinking_dropped".into()),
                    ("path", path.as_str().into()),
                    ("reason", (*reason).into()),
                ])
            });
            fields.push(("input_transformations", Node::Array(dropped.collect())));
        }
        Node::Object(fields)
    }
}

/// How a stream is cut up.
#[derive(Clone, Copy)]
pub(super) struct Pieces {
    pub(super) text: usize,
    pub(super) signature: usize,
}

/// How a stream ends.
pub(super) enum Ending<'a> {
    Complete {
        done_marker: bool,
    },
    /// In good order, but before the stop reason.
    Early,
    Error(&'a Refusal),
}

/// The events of a stream with these blocks.
pub(super) fn stream(
    message: &Message<'_>,
    blocks: &[Spoken],
    pieces: Pieces,
    style: Style,
    ending: &Ending<'_>,
) -> Vec<Vec<u8>> {
    let mut events = Events { style, events: Vec::new() };
    let start = message.node(Vec::new(), Node::Value(Value::Null), 1);
    events.push("message_start", vec![("message", start)]);
    for (index, block) in blocks.iter().enumerate() {
        events.block(index, block, pieces);
    }
    match ending {
        Ending::Early => {}
        Ending::Error(refusal) => events.raw("error", &refusal.event()),
        Ending::Complete { done_marker } => {
            let delta =
                vec![("stop_reason", message.stop_reason.as_str().into()), ("stop_sequence", Node::Value(Value::Null))];
            let usage = vec![("output_tokens", (blocks.len() * 7).into())];
            events.push("message_delta", vec![("delta", Node::Object(delta)), ("usage", Node::Object(usage))]);
            events.push("message_stop", vec![]);
            if *done_marker {
                events.events.push(b"data: [DONE]\n\n".to_vec());
            }
        }
    }
    events.events
}

struct Events {
    style: Style,
    events: Vec<Vec<u8>>,
}

impl Events {
    fn raw(&mut self, name: &str, data: &Node) {
        self.events.push(format!("event: {name}\ndata: {}\n\n", self.style.write(data)).into_bytes());
    }

    fn push(&mut self, name: &'static str, fields: Vec<(&'static str, Node)>) {
        let kind = std::iter::once(("type", name.into()));
        self.raw(name, &Node::Object(kind.chain(fields).collect()));
    }

    fn delta(&mut self, index: usize, kind: &'static str, field: &'static str, piece: &str) {
        let delta = Node::Object(vec![("type", kind.into()), (field, piece.into())]);
        self.push("content_block_delta", vec![("index", index.into()), ("delta", delta)]);
    }

    fn block(&mut self, index: usize, block: &Spoken, pieces: Pieces) {
        let start = match block {
            Spoken::Thinking { .. } => Spoken::Thinking { thinking: String::new(), signature: String::new() }.node(),
            Spoken::Text(_) => Spoken::Text(String::new()).node(),
            Spoken::ToolUse { id, name, .. } => Node::Object(tool("tool_use", id, name, json!({}))),
            Spoken::ServerToolUse { id, name, .. } => Node::Object(tool("server_tool_use", id, name, json!({}))),
            Spoken::Redacted { .. } | Spoken::SearchResult { .. } => block.node(),
        };
        self.push("content_block_start", vec![("index", index.into()), ("content_block", start)]);
        if index == 0 {
            self.push("ping", vec![]);
        }
        match block {
            Spoken::Thinking { thinking, signature } => {
                for piece in split(thinking, pieces.text) {
                    self.delta(index, "thinking_delta", "thinking", piece);
                }
                for piece in split(signature, pieces.signature) {
                    self.delta(index, "signature_delta", "signature", piece);
                }
            }
            Spoken::Text(text) => {
                for piece in split(text, pieces.text) {
                    self.delta(index, "text_delta", "text", piece);
                }
            }
            Spoken::ToolUse { input, .. } | Spoken::ServerToolUse { input, .. } => {
                let input = self.style.write(&Node::Value(input.clone()));
                for piece in std::iter::once("").chain(split(&input, pieces.text)) {
                    self.delta(index, "input_json_delta", "partial_json", piece);
                }
            }
            Spoken::Redacted { .. } | Spoken::SearchResult { .. } => {}
        }
        self.push("content_block_stop", vec![("index", index.into())]);
    }
}

/// The pieces of a text; none of an empty one.
fn split(text: &str, characters: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, _)) = rest.char_indices().nth(characters) {
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}
