//! What the provider writes: parts, events, and their framing.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    check::Context,
    config::{AnswerSignature, Family, Surface},
    request,
    route::Method,
    script::{Say, Turn},
    vault::{Issued, SignedKind},
};
use crate::testing::provider::{
    base64,
    json::{Node, Style},
};

/// One message of a stream, or the one message of an answer that is none.
#[derive(Debug)]
pub(super) struct Event {
    candidates: Vec<Candidate>,
    block_reason: Option<String>,
    pub(super) terminal: bool,
}

#[derive(Debug, Default)]
struct Candidate {
    index: usize,
    parts: Vec<Node>,
    finish: Option<String>,
}

/// What an answer says about itself in each of its events.
pub(super) struct Frame<'a> {
    pub(super) model: &'a str,
    pub(super) response_id: String,
    pub(super) trace_id: Option<String>,
    pub(super) prompt_tokens: usize,
    pub(super) numeric_enums: bool,
}

impl Frame<'_> {
    pub(super) fn node(&self, event: &Event) -> Node {
        let mut fields = Vec::new();
        if !event.candidates.is_empty() {
            let candidates = event.candidates.iter().map(|candidate| self.candidate(candidate)).collect();
            fields.push(("candidates", Node::Array(candidates)));
        }
        if let Some(reason) = &event.block_reason {
            fields.push(("promptFeedback", Node::Object(vec![("blockReason", reason.as_str().into())])));
        }
        let parts: usize = event.candidates.iter().map(|candidate| candidate.parts.len()).sum();
        let mut usage = vec![("promptTokenCount", self.prompt_tokens.into())];
        if parts > 0 {
            usage.push(("candidatesTokenCount", (parts * 3).into()));
        }
        usage.push(("totalTokenCount", (self.prompt_tokens + parts * 3).into()));
        fields.push(("usageMetadata", Node::Object(usage)));
        fields.push(("modelVersion", self.model.into()));
        fields.push(("responseId", self.response_id.as_str().into()));
        let response = Node::Object(fields);
        match &self.trace_id {
            Some(trace) => Node::Object(vec![("response", response), ("traceId", trace.as_str().into())]),
            None => response,
        }
    }

    fn candidate(&self, candidate: &Candidate) -> Node {
        let mut content = Vec::new();
        if !candidate.parts.is_empty() {
            content.push(("parts", Node::Array(candidate.parts.clone())));
        }
        content.push(("role", "model".into()));
        let mut fields = vec![("content", Node::Object(content))];
        if let Some(finish) = &candidate.finish {
            fields.push((
                "finishReason",
                match number(finish) {
                    Some(number) if self.numeric_enums => number.into(),
                    _ => finish.as_str().into(),
                },
            ));
        }
        fields.push(("index", candidate.index.into()));
        Node::Object(fields)
    }
}

/// The number that Vertex writes for a finish reason.
fn number(finish: &str) -> Option<u32> {
    const REASONS: [&str; 9] = [
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "RECITATION",
        "OTHER",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MALFORMED_FUNCTION_CALL",
    ];
    (1..).zip(REASONS).find(|(_, reason)| *reason == finish).map(|(number, _)| number)
}

/// The chunks of a body with these messages.
pub(super) fn chunks(method: Method, nodes: &[Node], style: Style, complete: bool) -> Vec<Vec<u8>> {
    let compact = Style { pretty: false, ..style };
    let pretty = Style { pretty: true, ..style };
    match method {
        Method::StreamSse => {
            nodes.iter().map(|node| format!("data: {}\r\n\r\n", compact.write(node)).into_bytes()).collect()
        }
        Method::StreamArray => {
            let elements = nodes.iter().enumerate().map(|(at, node)| {
                let opening = if at == 0 { "[" } else { "\n,\r\n" };
                format!("{opening}{}", pretty.write(node)).into_bytes()
            });
            elements.chain(complete.then(|| b"\n]".to_vec())).collect()
        }
        _ => nodes.iter().map(|node| format!("{}\n", pretty.write(node)).into_bytes()).collect(),
    }
}

/// An event with a little text, or one that only finishes.
pub(super) fn plain(text: Option<&str>, finish: Option<&str>) -> Event {
    let candidate = Candidate {
        index: 0,
        parts: text.map(|text| text_part(text, false, None)).into_iter().collect(),
        finish: finish.map(ToOwned::to_owned),
    };
    Event { candidates: vec![candidate], block_reason: None, terminal: finish.is_some() }
}

/// The events of an answer; one, if it is no stream.
pub(super) fn events(turn: &Turn, context: &Context<'_>, stream: bool) -> Vec<Event> {
    if let Some(reason) = &turn.block_reason {
        return vec![Event { candidates: Vec::new(), block_reason: Some(reason.clone()), terminal: true }];
    }
    let candidates: Vec<Vec<Candidate>> = turn
        .candidates
        .iter()
        .enumerate()
        .map(|(index, says)| {
            let mut speaker = Speaker { context, stream, steps: Vec::new(), tool_id: String::new() };
            speaker.candidate(index, says, turn.finish_reason.as_deref())
        })
        .collect();
    if !stream {
        let candidates = candidates.into_iter().flatten().collect();
        return vec![Event { candidates, block_reason: None, terminal: true }];
    }
    // The candidates take turns.
    let longest = candidates.iter().map(Vec::len).max().unwrap_or(0);
    let mut queues: Vec<_> = candidates.into_iter().map(Vec::into_iter).collect();
    let mut events = Vec::new();
    for _ in 0..longest {
        for candidate in queues.iter_mut().filter_map(Iterator::next) {
            let terminal = candidate.finish.is_some();
            events.push(Event { candidates: vec![candidate], block_reason: None, terminal });
        }
    }
    events
}

/// What is said, with neighbouring text as one run and calls one by one.
enum Piece<'a> {
    Thought(&'a str),
    Text(Vec<&'a str>),
    Call(&'a str, &'a Value),
    Native { field: &'static str, content: Vec<(&'static str, Node)>, signed: bool },
    Media(&'a str, &'a Bytes),
}

struct Speaker<'a> {
    context: &'a Context<'a>,
    stream: bool,
    steps: Vec<Vec<Node>>,
    tool_id: String,
}

impl Speaker<'_> {
    fn candidate(&mut self, index: usize, says: &[Say], finish: Option<&str>) -> Vec<Candidate> {
        let place = self.context.config.answer_signature;
        let family = self.context.family;
        let pieces = self.pieces(says);
        let calls = pieces.iter().any(|piece| matches!(piece, Piece::Call(..)));
        let mut first_call = true;
        let mut first_spoken = true;
        let mut detached = false;
        for (at, piece) in pieces.iter().enumerate() {
            let last = at + 1 == pieces.len();
            // Gemini 2.5 signs whatever comes first after its thoughts.
            let old_first = family == Family::Gemini2 && first_spoken;
            match piece {
                Piece::Thought(text) => {
                    let signed = match family {
                        Family::Claude => true,
                        Family::Gemini3 | Family::Gemini3Image => self.context.config.sign_thoughts,
                        Family::Gemini2 => false,
                    };
                    let signature = signed.then(|| self.sign(SignedKind::Thought, (*text).into()));
                    self.text(&[text], true, signature.as_deref(), false);
                    continue;
                }
                Piece::Text(run) => {
                    let ends = match family {
                        Family::Gemini3 => last && !calls,
                        Family::Gemini3Image => true,
                        Family::Gemini2 | Family::Claude => false,
                    };
                    if old_first {
                        let first = run.first().map(|text| self.split(text).first().copied().unwrap_or_default());
                        let signature = self.sign(SignedKind::Text, first.unwrap_or_default().into());
                        self.text(run, false, Some(&signature), true);
                    } else {
                        let signature = ends.then(|| self.sign(SignedKind::Text, run.concat().into()));
                        detached = last && signature.is_some() && self.stream && place != AnswerSignature::OnText;
                        self.text(run, false, signature.as_deref(), false);
                    }
                }
                Piece::Call(name, args) => {
                    let signed = match family {
                        Family::Gemini2 => old_first,
                        Family::Gemini3 | Family::Gemini3Image => first_call,
                        Family::Claude => false,
                    };
                    first_call = false;
                    self.call(name, args, signed);
                }
                Piece::Native { field, content, signed } => {
                    let signed = *signed && family != Family::Claude;
                    self.native(field, content, signed);
                }
                Piece::Media(mime_type, bytes) => {
                    self.media(mime_type, bytes, family != Family::Claude);
                }
            }
            first_spoken = false;
        }
        let finish = match finish {
            Some(finish) => finish,
            None if family == Family::Claude && calls => "OTHER",
            None => "STOP",
        };
        self.finish(index, finish, detached)
    }

    /// Hands out the steps with the finish reason where the place of the signature wants it.
    fn finish(&mut self, index: usize, finish: &str, detached: bool) -> Vec<Candidate> {
        let place = self.context.config.answer_signature;
        let steps = std::mem::take(&mut self.steps);
        if !self.stream {
            let parts = steps.into_iter().flatten().collect();
            return vec![Candidate { index, parts, finish: Some(finish.to_owned()) }];
        }
        let ends_with_text = detached
            || steps.last().and_then(|step| step.first()).is_some_and(
                |node| matches!(node, Node::Object(fields) if fields.iter().any(|(name, _)| *name == "text")),
            );
        let mut candidates: Vec<Candidate> =
            steps.into_iter().map(|parts| Candidate { index, parts, finish: None }).collect();
        let late = (detached && place == AnswerSignature::AfterFinish && candidates.len() > 1)
            .then(|| candidates.pop())
            .flatten();
        let new = matches!(self.context.family, Family::Gemini3 | Family::Gemini3Image);
        let apart = if ends_with_text {
            place == AnswerSignature::BeforeFinish && detached
        } else {
            new && place != AnswerSignature::OnText && self.context.surface != Surface::Vertex && !candidates.is_empty()
        };
        if apart {
            let parts = vec![text_part("", false, None)];
            candidates.push(Candidate { index, parts, finish: None });
        }
        let size = self.context.config.parts_per_event;
        let mut candidates: Vec<Candidate> = candidates
            .chunks_mut(size)
            .map(|group| {
                let parts = group.iter_mut().flat_map(|candidate| std::mem::take(&mut candidate.parts));
                Candidate { index, parts: parts.collect(), finish: None }
            })
            .collect();
        if candidates.is_empty() {
            candidates.push(Candidate { index, ..Candidate::default() });
        }
        if let Some(last) = candidates.last_mut() {
            last.finish = Some(finish.to_owned());
        }
        candidates.extend(late);
        candidates
    }

    fn pieces<'b>(&self, says: &'b [Say]) -> Vec<Piece<'b>> {
        let mut pieces = Vec::new();
        for say in says {
            match say {
                Say::Thought(text) => pieces.push(Piece::Thought(text)),
                Say::Text(text) => match pieces.last_mut() {
                    Some(Piece::Text(run)) => run.push(text),
                    _ => pieces.push(Piece::Text(vec![text])),
                },
                Say::Calls(calls) => {
                    pieces.extend(calls.iter().map(|(name, args)| Piece::Call(name, args)));
                }
                Say::ExecutableCode(code) => pieces.push(Piece::Native {
                    field: "executableCode",
                    content: vec![("language", "PYTHON".into()), ("code", code.as_str().into())],
                    signed: true,
                }),
                Say::CodeResult(output) => pieces.push(Piece::Native {
                    field: "codeExecutionResult",
                    content: vec![("outcome", "OUTCOME_OK".into()), ("output", output.as_str().into())],
                    signed: false,
                }),
                Say::ToolCall { tool_type, args } => pieces.push(Piece::Native {
                    field: "toolCall",
                    content: vec![("toolType", tool_type.as_str().into()), ("args", args.clone().into())],
                    signed: true,
                }),
                Say::ToolResponse { tool_type, response } => pieces.push(Piece::Native {
                    field: "toolResponse",
                    content: vec![("toolType", tool_type.as_str().into()), ("response", response.clone().into())],
                    signed: true,
                }),
                Say::Media { mime_type, bytes } => pieces.push(Piece::Media(mime_type, bytes)),
            }
        }
        // A Claude model that thinks does not call a tool without a thought.
        let call = pieces.iter().position(|piece| matches!(piece, Piece::Call(..)));
        let thoughtless = call.is_some() && !matches!(pieces.first(), Some(Piece::Thought(_)));
        if self.context.family == Family::Claude && thoughtless {
            pieces.insert(0, Piece::Thought("I should use a tool for this."));
        }
        pieces
    }

    fn split<'b>(&self, text: &'b str) -> Vec<&'b str> {
        if !self.stream {
            return vec![text];
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, _)) = rest.char_indices().nth(self.context.config.text_piece) {
            let (piece, after) = rest.split_at(at);
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        pieces
    }

    fn text(&mut self, run: &[&str], thought: bool, signature: Option<&str>, on_first: bool) {
        let pieces: Vec<&str> = run.iter().flat_map(|text| self.split(text)).collect();
        let own_part = self.stream && self.context.config.answer_signature != AnswerSignature::OnText && !on_first;
        let signed = if on_first { 0 } else { pieces.len().saturating_sub(1) };
        for (at, piece) in pieces.iter().enumerate() {
            let signature = signature.filter(|_| !own_part && at == signed);
            self.steps.push(vec![text_part(piece, thought, signature)]);
        }
        if own_part && signature.is_some() {
            self.steps.push(vec![text_part("", thought, signature)]);
        }
    }

    fn call(&mut self, name: &str, args: &Value, signed: bool) {
        let context = self.context;
        let mut call = vec![("name", name.into()), ("args", args.clone().into())];
        let wants_id = context.config.ids.unwrap_or(match context.surface {
            Surface::GeminiApi => context.family != Family::Gemini2,
            Surface::Vertex => false,
            Surface::CloudCode => true,
        });
        if context.family == Family::Claude {
            call.push(("id", format!("toolu_vrtx_{}", context.vault.name(24)).into()));
        } else if wants_id {
            call.push(("id", context.vault.name(8).into()));
        }
        let signature = signed.then(|| self.sign(SignedKind::Call, json!({"name": name, "args": args})));
        let part = vec![("functionCall", Node::Object(call))];
        self.push(part, signature, context.config.detach_call_signatures);
    }

    fn native(&mut self, field: &'static str, content: &[(&'static str, Node)], signed: bool) {
        let mut content = content.to_vec();
        let plain = Style::GOOGLE.write(&Node::Object(vec![(field, Node::Object(content.clone()))]));
        if field == "toolCall" {
            self.tool_id = self.context.vault.name(8);
        }
        if field.starts_with("tool") {
            content.push(("id", self.tool_id.as_str().into()));
        }
        let signature = signed.then(|| {
            let content = serde_json::from_str(&plain).unwrap_or_default();
            self.sign(SignedKind::Native, content)
        });
        self.push(vec![(field, Node::Object(content))], signature, false);
    }

    fn media(&mut self, mime_type: &str, bytes: &Bytes, signed: bool) {
        let data = vec![("mimeType", mime_type.into()), ("data", base64::encode(bytes).into())];
        let signature = signed.then(|| self.sign(SignedKind::Media, request::media(mime_type, bytes)));
        self.push(vec![("inlineData", Node::Object(data))], signature, false);
    }

    fn push(&mut self, mut part: Vec<(&'static str, Node)>, signature: Option<String>, detach: bool) {
        match signature {
            Some(signature) if detach => {
                self.steps.push(vec![Node::Object(part)]);
                self.steps.push(vec![text_part("", false, Some(&signature))]);
            }
            signature => {
                part.extend(signature.map(|signature| ("thoughtSignature", signature.into())));
                self.steps.push(vec![Node::Object(part)]);
            }
        }
    }

    fn sign(&self, kind: SignedKind, content: Value) -> String {
        let context = self.context;
        let size = match kind {
            SignedKind::Media if context.config.large_media_signatures => 800 << 10,
            _ => 0,
        };
        let issued = Issued {
            signature: String::new(),
            kind,
            content,
            model: context.model.to_owned(),
            surface: context.surface,
            credential: context.credential,
            number: 0,
        };
        context.vault.issue(issued, context.family, size)
    }
}

fn text_part(text: &str, thought: bool, signature: Option<&str>) -> Node {
    let mut part = vec![("text", text.into())];
    if thought {
        part.push(("thought", true.into()));
    }
    part.extend(signature.map(|signature| ("thoughtSignature", signature.into())));
    Node::Object(part)
}
