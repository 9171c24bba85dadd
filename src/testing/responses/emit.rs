//! How a turn is written: as a stream of events or as one document.

use serde_json::{Value, json};

use super::{
    config::{Config, Keepalives, Vendor},
    refusal::Refusal,
    script::{End, Say, Turn},
    vault::{Given, Issued, IssuedKind, Item, Said, Stage, Vault},
};
use crate::testing::provider::json::{Node, Style};

/// When every response was created, in seconds since 1970.
const CREATED: u64 = 1_765_552_659;

/// What the answer is made for.
pub(super) struct Frame<'a> {
    pub(super) config: &'a Config,
    pub(super) vault: &'a Vault,
    pub(super) body: &'a Value,
    pub(super) model: &'a str,
    /// What `store` says in the response.
    pub(super) stored: bool,
    pub(super) input_tokens: usize,
}

/// What is to be remembered of an answer.
pub(super) struct Made {
    pub(super) ids: Vec<String>,
    pub(super) items: Vec<Item>,
    pub(super) ciphertexts: Vec<(usize, Issued)>,
}

impl Made {
    /// As a response of this model, without its request.
    pub(super) fn given(self, frame: &Frame<'_>, credential: [u8; 32]) -> (Given, Vec<(usize, Issued)>) {
        let given = Given {
            ids: self.ids,
            items: self.items,
            model: frame.model.to_owned(),
            credential,
            stored: frame.stored,
            previous: None,
            brought: Vec::new(),
            answered: Vec::new(),
        };
        (given, self.ciphertexts)
    }
}

/// One item of the answer.
enum Piece<'a> {
    Reasoning(&'a [String]),
    Clear(String),
    Text { text: &'a str, phase: Option<&'a str> },
    Call { name: &'a str, arguments: String },
    CustomCall { name: &'a str, input: &'a str },
    Search { query: &'a str },
    Compaction,
}

struct Writer<'a> {
    frame: &'a Frame<'a>,
    prefix: Prefix,
    response_ids: Vec<String>,
    items: Vec<Item>,
    ciphertexts: Vec<(usize, Issued)>,
    events: Vec<Vec<u8>>,
    sequence: usize,
}

/// What the ids of a response have in common.
enum Prefix {
    Hex(String),
    Uuid(String),
}

/// An answer as a stream. Ends before the terminal event if `end_early`.
pub(super) fn stream(frame: &Frame<'_>, turn: &Turn, end_early: bool) -> (Vec<Vec<u8>>, Made) {
    let mut writer = Writer::new(frame);
    writer.start();
    let pieces = pieces(turn, frame.config);
    let count = pieces.len();
    for (index, piece) in pieces.iter().enumerate() {
        let last = index + 1 == count;
        let status = if last && matches!(turn.end, End::Incomplete { .. }) { "incomplete" } else { "completed" };
        writer.keep_alive();
        writer.item(index, piece, status);
    }
    writer.keep_alive();
    if !end_early {
        let whole = |(index, piece)| writer.whole(index, piece, &turn.end, index + 1 == count);
        let output = match frame.config.empty_completed_output {
            true => Vec::new(),
            false => pieces.iter().enumerate().map(whole).collect(),
        };
        let (event, status) = match turn.end {
            End::Completed => ("response.completed", "completed"),
            End::Incomplete { .. } => ("response.incomplete", "incomplete"),
            End::Failed { .. } => ("response.failed", "failed"),
        };
        let response = writer.response(status, &turn.end, output);
        writer.event(event, vec![("response", response)]);
        writer.done();
    }
    writer.made()
}

/// An answer as one document.
pub(super) fn document(frame: &Frame<'_>, turn: &Turn) -> (Vec<u8>, Made) {
    let mut writer = Writer::new(frame);
    let pieces = pieces(turn, frame.config);
    let count = pieces.len();
    let output = pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| {
            writer.add(piece);
            writer.whole(index, piece, &turn.end, index + 1 == count)
        })
        .collect();
    let status = match turn.end {
        End::Completed => "completed",
        End::Incomplete { .. } => "incomplete",
        End::Failed { .. } => "failed",
    };
    let node = writer.response(status, &turn.end, output);
    (writer.pretty(&node), writer.made().1)
}

/// The answer to a request to compact: the messages of the user, then the compaction.
pub(super) fn compaction(frame: &Frame<'_>, messages: &[String]) -> (Vec<u8>, Made) {
    let mut writer = Writer::new(frame);
    let mut output: Vec<Node> = messages
        .iter()
        .map(|text| {
            Node::Object(vec![
                ("id", writer.prefix.id(frame, "msg").into()),
                ("type", "message".into()),
                ("status", "completed".into()),
                ("content", json!([{"type": "input_text", "text": text}]).into()),
                ("role", "user".into()),
            ])
        })
        .collect();
    writer.add(&Piece::Compaction);
    output.push(writer.node(0, &Piece::Compaction, Stage::Completed, "completed"));
    let node = Node::Object(vec![
        ("id", writer.response_id().into()),
        ("object", "response.compaction".into()),
        ("created_at", CREATED.into()),
        ("output", Node::Array(output)),
        ("usage", frame.usage(1)),
    ]);
    (writer.pretty(&node), writer.made().1)
}

/// The number of tokens of an input.
pub(super) fn count(frame: &Frame<'_>) -> Vec<u8> {
    let node =
        Node::Object(vec![("object", "response.input_tokens".into()), ("input_tokens", frame.input_tokens.into())]);
    Writer::new(frame).pretty(&node)
}

/// A stream that begins well, with so many pieces of text, and then holds the refusal.
pub(super) fn refusal(frame: &Frame<'_>, refusal: &Refusal, after: usize, failed: bool) -> Vec<Vec<u8>> {
    let mut writer = Writer::new(frame);
    writer.start();
    if after > 0 {
        let piece = Piece::Text { text: "", phase: None };
        writer.add(&piece);
        let item = writer.node(0, &piece, Stage::Added, "in_progress");
        writer.event("response.output_item.added", vec![("output_index", 0.into()), ("item", item)]);
        writer.part("response.content_part.added", 0, output_text(""));
        for _ in 0..after {
            writer.delta("response.output_text.delta", 0, &[("content_index", 0)], "Let me see. ");
        }
    }
    if failed {
        let end =
            End::Failed { code: refusal.code.unwrap_or("invalid_prompt").to_owned(), message: refusal.message.clone() };
        let response = writer.response("failed", &end, Vec::new());
        writer.event("response.failed", vec![("response", response)]);
    } else {
        writer.event(
            "error",
            vec![
                ("code", json!(refusal.code).into()),
                ("message", refusal.message.as_str().into()),
                ("param", json!(refusal.param).into()),
            ],
        );
    }
    writer.done();
    writer.events
}

fn pieces<'a>(turn: &'a Turn, config: &Config) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for say in &turn.says {
        match say {
            Say::Reasoning(summary) if config.clear_reasoning => {
                let text = summary.join("\n");
                pieces.push(Piece::Clear(if text.is_empty() { "Let me think.".to_owned() } else { text }));
            }
            Say::Reasoning(summary) => pieces.push(Piece::Reasoning(summary)),
            Say::ReasoningText(text) => pieces.push(Piece::Clear(text.clone())),
            Say::Text { text, phase } => pieces.push(Piece::Text { text, phase: phase.as_deref() }),
            Say::Calls(calls) => pieces
                .extend(calls.iter().map(|(name, arguments)| Piece::Call { name, arguments: arguments.to_string() })),
            Say::CustomToolCall { name, input } => pieces.push(Piece::CustomCall { name, input }),
            Say::WebSearchCall { query } => pieces.push(Piece::Search { query }),
            Say::Compaction => pieces.push(Piece::Compaction),
        }
    }
    pieces
}

fn output_text(text: &str) -> Node {
    Node::Object(vec![
        ("type", "output_text".into()),
        ("annotations", Node::Array(vec![])),
        ("logprobs", Node::Array(vec![])),
        ("text", text.into()),
    ])
}

fn text_part(kind: &'static str, text: &str) -> Node {
    Node::Object(vec![("type", kind.into()), ("text", text.into())])
}

fn null() -> Node {
    Node::Value(Value::Null)
}

impl Prefix {
    /// A new id that begins with `kind`.
    fn id(&self, frame: &Frame<'_>, kind: &str) -> String {
        match self {
            Self::Hex(common) => format!("{kind}_{common}{}", frame.vault.hex(32)),
            Self::Uuid(_) if frame.config.vendor == Vendor::DeepSeek => frame.vault.uuid(),
            Self::Uuid(common) => format!("{kind}_{common}{}", frame.vault.hex(4)),
        }
    }
}

impl Frame<'_> {
    /// What of the request is repeated in the response.
    fn echo(&self, name: &str, default: Value) -> Node {
        self.body.get(name).cloned().unwrap_or(default).into()
    }

    fn usage(&self, output_tokens: usize) -> Node {
        Node::Object(vec![
            ("input_tokens", self.input_tokens.into()),
            ("input_tokens_details", json!({"cached_tokens": 0}).into()),
            ("output_tokens", output_tokens.into()),
            ("output_tokens_details", json!({"reasoning_tokens": 0}).into()),
            ("total_tokens", (self.input_tokens + output_tokens).into()),
        ])
    }

    /// Whether ciphertexts are given at all.
    fn encrypts(&self) -> bool {
        let included = || {
            let include = self.body.get("include").and_then(Value::as_array);
            include.is_some_and(|include| include.iter().any(|name| name == "reasoning.encrypted_content"))
        };
        !self.config.only_if_included || included()
    }
}

impl<'a> Writer<'a> {
    fn new(frame: &'a Frame<'a>) -> Self {
        let prefix = match frame.config.vendor {
            Vendor::Xai | Vendor::DeepSeek => Prefix::Uuid(frame.vault.uuid()),
            _ => Prefix::Hex(frame.vault.hex(18)),
        };
        Self {
            frame,
            prefix,
            response_ids: Vec::new(),
            items: Vec::new(),
            ciphertexts: Vec::new(),
            events: Vec::new(),
            sequence: 0,
        }
    }

    fn made(self) -> (Vec<Vec<u8>>, Made) {
        (self.events, Made { ids: self.response_ids, items: self.items, ciphertexts: self.ciphertexts })
    }

    fn style(&self) -> Style {
        Style { heavy: self.frame.config.heavy_escapes, ..Style::COMPACT }
    }

    fn pretty(&self, node: &Node) -> Vec<u8> {
        Style { pretty: true, spaced: true, ..self.style() }.write(node).into_bytes()
    }

    /// The id of the response, which may be another one each time.
    fn response_id(&mut self) -> String {
        if let Some(id) = self.response_ids.first().filter(|_| !self.frame.config.churn_ids) {
            return id.clone();
        }
        let id = match &self.prefix {
            Prefix::Uuid(common) => common.clone(),
            Prefix::Hex(_) if self.frame.config.churn_ids => self.frame.vault.opaque(),
            prefix @ Prefix::Hex(_) => prefix.id(self.frame, "resp"),
        };
        self.response_ids.push(id.clone());
        id
    }

    /// The id of an item, which may be another one each time.
    fn item_id(&mut self, index: usize) -> String {
        let churn = self.frame.config.churn_ids;
        let Some(item) = self.items.get_mut(index) else { return String::new() };
        if let Some(id) = item.ids.first().filter(|_| !churn) {
            return id.clone();
        }
        let id = if churn {
            self.frame.vault.opaque()
        } else {
            let kind = match item.said {
                Said::Reasoning { .. } => "rs",
                Said::Message(_) => "msg",
                Said::Call { .. } => "fc",
                Said::CustomCall { .. } => "ctc",
                Said::Search => "ws",
                Said::Compaction => "cmp",
            };
            self.prefix.id(self.frame, kind)
        };
        item.ids.push(id.clone());
        id
    }

    fn add(&mut self, piece: &Piece<'_>) {
        let call_id = || format!("call_{}", self.frame.vault.name(24));
        let said = match piece {
            Piece::Reasoning(_) => Said::Reasoning { clear: None },
            Piece::Clear(text) => Said::Reasoning { clear: Some(text.clone()) },
            Piece::Text { text, .. } => Said::Message((*text).to_owned()),
            Piece::Call { name, arguments } => Said::Call {
                call_id: call_id(),
                name: (*name).to_owned(),
                arguments: serde_json::from_str(arguments).unwrap_or_default(),
            },
            Piece::CustomCall { name, input } => {
                Said::CustomCall { call_id: call_id(), name: (*name).to_owned(), input: (*input).to_owned() }
            }
            Piece::Search { .. } => Said::Search,
            Piece::Compaction => Said::Compaction,
        };
        self.items.push(Item { ids: Vec::new(), said });
    }

    fn event(&mut self, name: &'static str, mut members: Vec<(&'static str, Node)>) {
        members.splice(0..0, [("type", name.into()), ("sequence_number", self.sequence.into())]);
        self.sequence += 1;
        let data = self.style().write(&Node::Object(members));
        let line = if self.frame.config.without_event_lines { String::new() } else { format!("event: {name}\n") };
        self.events.push(format!("{line}data: {data}\n\n").into_bytes());
    }

    fn start(&mut self) {
        for name in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress", &End::Completed, Vec::new());
            self.event(name, vec![("response", response)]);
        }
    }

    fn done(&mut self) {
        if self.frame.config.without_event_lines {
            self.events.push(b"data: [DONE]\n\n".to_vec());
        }
    }

    fn keep_alive(&mut self) {
        match self.frame.config.keepalives {
            Keepalives::None => {}
            Keepalives::Comments => {
                let comment = match self.frame.config.vendor {
                    Vendor::OpenRouter => "OPENROUTER PROCESSING",
                    _ => "keepalive",
                };
                self.events.push(format!(": {comment}\n\n").into_bytes());
            }
            Keepalives::Events => self.event("keepalive", Vec::new()),
        }
    }

    /// An event about one item, with further numbers that say about which part of it.
    fn about(
        &mut self,
        name: &'static str,
        index: usize,
        numbers: &[(&'static str, usize)],
        member: (&'static str, Node),
    ) {
        let mut members = vec![("item_id", self.item_id(index).into()), ("output_index", index.into())];
        members.extend(numbers.iter().map(|(name, number)| (*name, (*number).into())));
        members.push(member);
        if name == "response.output_text.done" {
            members.push(("logprobs", Node::Array(vec![])));
        }
        self.event(name, members);
    }

    fn part(&mut self, name: &'static str, index: usize, part: Node) {
        self.about(name, index, &[("content_index", 0)], ("part", part));
    }

    fn delta(&mut self, name: &'static str, index: usize, numbers: &[(&'static str, usize)], text: &str) {
        let mut members = vec![("item_id", self.item_id(index).into()), ("output_index", index.into())];
        members.extend(numbers.iter().map(|(name, number)| (*name, (*number).into())));
        members.push(("delta", text.into()));
        if name == "response.output_text.delta" {
            members.push(("logprobs", Node::Array(vec![])));
        }
        if matches!(self.frame.config.vendor, Vendor::OpenAi | Vendor::Azure | Vendor::ChatGpt | Vendor::Copilot) {
            members.push(("obfuscation", self.frame.vault.name(16_usize.saturating_sub(text.len()).max(1)).into()));
        }
        self.event(name, members);
    }

    fn deltas(&mut self, name: &'static str, index: usize, numbers: &[(&'static str, usize)], text: &str) {
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(self.frame.config.text_piece.max(1)) {
            let piece: String = piece.iter().collect();
            self.delta(name, index, numbers, &piece);
        }
    }

    /// The events of one item, from added to done.
    fn item(&mut self, index: usize, piece: &Piece<'_>, status: &'static str) {
        self.add(piece);
        let item = self.node(index, piece, Stage::Added, "in_progress");
        self.event("response.output_item.added", vec![("output_index", index.into()), ("item", item)]);
        match piece {
            Piece::Reasoning(summary) => {
                for (number, text) in summary.iter().enumerate() {
                    let at = [("summary_index", number)];
                    let name = "response.reasoning_summary_part.added";
                    self.about(name, index, &at, ("part", text_part("summary_text", "")));
                    self.deltas("response.reasoning_summary_text.delta", index, &at, text);
                    self.about("response.reasoning_summary_text.done", index, &at, ("text", text.as_str().into()));
                    let name = "response.reasoning_summary_part.done";
                    self.about(name, index, &at, ("part", text_part("summary_text", text)));
                }
            }
            Piece::Clear(text) => {
                let at = [("content_index", 0)];
                self.part("response.content_part.added", index, text_part("reasoning_text", ""));
                self.deltas("response.reasoning_text.delta", index, &at, text);
                self.about("response.reasoning_text.done", index, &at, ("text", text.as_str().into()));
                self.part("response.content_part.done", index, text_part("reasoning_text", text));
            }
            Piece::Text { text, .. } => {
                let at = [("content_index", 0)];
                self.part("response.content_part.added", index, output_text(""));
                self.deltas("response.output_text.delta", index, &at, text);
                self.about("response.output_text.done", index, &at, ("text", (*text).into()));
                self.part("response.content_part.done", index, output_text(text));
            }
            Piece::Call { arguments, .. } => {
                self.deltas("response.function_call_arguments.delta", index, &[], arguments);
                let name = "response.function_call_arguments.done";
                self.about(name, index, &[], ("arguments", arguments.as_str().into()));
            }
            Piece::CustomCall { input, .. } => {
                self.deltas("response.custom_tool_call_input.delta", index, &[], input);
                self.about("response.custom_tool_call_input.done", index, &[], ("input", (*input).into()));
            }
            Piece::Search { .. } => {
                for name in [
                    "response.web_search_call.in_progress",
                    "response.web_search_call.searching",
                    "response.web_search_call.completed",
                ] {
                    let members = vec![("output_index", index.into()), ("item_id", self.item_id(index).into())];
                    self.event(name, members);
                }
            }
            Piece::Compaction => {}
        }
        let item = self.node(index, piece, Stage::Done, status);
        self.event("response.output_item.done", vec![("output_index", index.into()), ("item", item)]);
    }

    /// An item as it stands in the whole response.
    fn whole(&mut self, index: usize, piece: &Piece<'_>, end: &End, last: bool) -> Node {
        let status = if last && matches!(end, End::Incomplete { .. }) { "incomplete" } else { "completed" };
        self.node(index, piece, Stage::Completed, status)
    }

    /// The ciphertext of an item at this stage.
    fn ciphertext(&mut self, index: usize, kind: IssuedKind, stage: Stage, item_id: &str) -> Option<String> {
        let config = self.frame.config;
        if (stage == Stage::Added && config.without_stubs) || !self.frame.encrypts() {
            return None;
        }
        let earlier = |same: fn(Stage) -> bool| {
            let found = self.ciphertexts.iter().find(|(other, issued)| *other == index && same(issued.stage));
            found.map(|(_, issued)| issued.encrypted_content.clone())
        };
        let (same, full) = (earlier(|_| true), earlier(|stage| stage != Stage::Added));
        let vault = self.frame.vault;
        let encrypted_content = match (same, full, stage) {
            (Some(same), _, _) if config.same_ciphertext => same,
            // The two full ones are of one length.
            (_, Some(full), _) => vault.ciphertext(config.vendor, full.len() / 4 * 3),
            (_, None, Stage::Added) if !config.same_ciphertext => vault.ciphertext(config.vendor, 618),
            _ if config.ciphertext_size > 0 => vault.ciphertext(config.vendor, config.ciphertext_size),
            _ => vault.ciphertext(config.vendor, 800 + vault.below(1_200)),
        };
        let issued = Issued {
            encrypted_content: encrypted_content.clone(),
            kind,
            stage,
            item_id: item_id.to_owned(),
            model: self.frame.model.to_owned(),
        };
        self.ciphertexts.push((index, issued));
        Some(encrypted_content)
    }

    /// An item at this stage; one that was just added is empty.
    fn node(&mut self, index: usize, piece: &Piece<'_>, stage: Stage, status: &'static str) -> Node {
        let added = stage == Stage::Added;
        let id = self.item_id(index);
        let call_id = self.items.get(index).and_then(|item| item.said.call_id()).unwrap_or_default().to_owned();
        let full = |text: &'_ str| if added { String::new() } else { text.to_owned() };
        let with_status = matches!(self.frame.config.vendor, Vendor::Xai | Vendor::DeepSeek);
        let mut members = vec![("id", Node::from(id.as_str()))];
        match piece {
            Piece::Reasoning(summary) => {
                members.extend([("type", "reasoning".into()), ("content", Node::Array(vec![]))]);
                if let Some(text) = self.ciphertext(index, IssuedKind::Reasoning, stage, &id) {
                    members.push(("encrypted_content", text.into()));
                }
                let parts = summary.iter().filter(|_| !added).map(|text| text_part("summary_text", text)).collect();
                members.push(("summary", Node::Array(parts)));
                if with_status {
                    members.push(("status", status.into()));
                }
            }
            Piece::Clear(text) => {
                let parts = if added { vec![] } else { vec![text_part("reasoning_text", text)] };
                members.extend([
                    ("type", "reasoning".into()),
                    ("content", Node::Array(parts)),
                    ("summary", Node::Array(vec![])),
                ]);
                if with_status {
                    members.push(("status", status.into()));
                }
            }
            Piece::Text { text, phase } => {
                let parts = if added { vec![] } else { vec![output_text(text)] };
                members.extend([
                    ("type", "message".into()),
                    ("status", status.into()),
                    ("content", Node::Array(parts)),
                ]);
                members.extend(phase.map(|phase| ("phase", phase.into())));
                members.push(("role", "assistant".into()));
            }
            Piece::Call { name, arguments } => members.extend([
                ("type", "function_call".into()),
                ("status", status.into()),
                ("arguments", full(arguments).into()),
                ("call_id", call_id.into()),
                ("name", (*name).into()),
            ]),
            Piece::CustomCall { name, input } => members.extend([
                ("type", "custom_tool_call".into()),
                ("status", status.into()),
                ("call_id", call_id.into()),
                ("input", full(input).into()),
                ("name", (*name).into()),
            ]),
            Piece::Search { query } => {
                members.extend([("type", "web_search_call".into()), ("status", status.into())]);
                if !added {
                    members.push(("action", json!({"type": "search", "query": query}).into()));
                }
            }
            Piece::Compaction => {
                members.push(("type", "compaction".into()));
                if let Some(text) = self.ciphertext(index, IssuedKind::Compaction, stage, &id) {
                    members.push(("encrypted_content", text.into()));
                }
            }
        }
        Node::Object(members)
    }

    /// The response as a whole.
    fn response(&mut self, status: &'static str, end: &End, output: Vec<Node>) -> Node {
        let running = status == "in_progress";
        let frame = self.frame;
        let error = match end {
            End::Failed { code, message } => json!({"code": code, "message": message}).into(),
            _ => null(),
        };
        let incomplete = match end {
            End::Incomplete { reason } => json!({ "reason": reason }).into(),
            _ => null(),
        };
        let usage = if running || status == "failed" { null() } else { frame.usage(output.len() * 20 + 1) };
        Node::Object(vec![
            ("id", self.response_id().into()),
            ("object", "response".into()),
            ("created_at", CREATED.into()),
            ("status", status.into()),
            ("background", false.into()),
            ("completed_at", if status == "completed" { (CREATED + 2).into() } else { null() }),
            ("error", error),
            ("incomplete_details", incomplete),
            ("instructions", frame.echo("instructions", Value::Null)),
            ("max_output_tokens", frame.echo("max_output_tokens", Value::Null)),
            ("max_tool_calls", null()),
            ("model", frame.model.into()),
            ("output", Node::Array(output)),
            ("parallel_tool_calls", frame.echo("parallel_tool_calls", json!(true))),
            ("previous_response_id", frame.echo("previous_response_id", Value::Null)),
            ("prompt_cache_key", frame.echo("prompt_cache_key", Value::Null)),
            ("reasoning", frame.echo("reasoning", json!({"effort": "medium", "summary": null}))),
            ("safety_identifier", null()),
            ("service_tier", if running { "auto".into() } else { "default".into() }),
            ("store", frame.stored.into()),
            ("temperature", 1.0.into()),
            ("text", json!({"format": {"type": "text"}, "verbosity": "medium"}).into()),
            ("tool_choice", frame.echo("tool_choice", json!("auto"))),
            ("tools", frame.echo("tools", json!([]))),
            ("top_logprobs", 0.into()),
            ("top_p", 1.0.into()),
            ("truncation", "disabled".into()),
            ("usage", usage),
            ("user", null()),
            ("metadata", frame.echo("metadata", json!({}))),
        ])
    }
}
