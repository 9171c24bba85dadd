//! Conversations as agents have them, in each protocol.

use std::{fmt::Write as _, ops::Range};

use bytes::Bytes;
use http::{Request, request};
use tower_reasoning_replay::{
    Engine,
    scope::{Session, Tenant},
};

use super::{Random, engine, learn};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    Gemini,
    Anthropic,
    Responses,
    Chat,
}

/// One turn of the model and what the client answered.
#[derive(Clone)]
pub struct Turn {
    /// Empty, if the model said nothing.
    pub text: String,
    /// Empty, if the call has none.
    pub id: String,
    pub tool: String,
    pub args: String,
    /// The opaque state: a signature, a ciphertext, or the reasoning.
    pub state: String,
    pub output: String,
}

impl Turn {
    /// 900 B of text, a call with five arguments, a state of 1,536 B, and 1,000 B of output.
    pub fn random(random: &mut Random, at: usize) -> Self {
        let tool = at % 6;
        Self {
            text: random.text(900),
            id: random.hex(),
            tool: format!("tool_{tool}"),
            args: format!(
                r#"{{"path":"src/module_{tool}.rs","line":{at},"options":{{"deep":true,"mode":"fast"}},"list":[1,null,2.5],"content":"{}"}}"#,
                random.text(160)
            ),
            state: random.base64(1_536),
            output: random.text(1_000),
        }
    }

    /// As little as a turn can be.
    pub fn small(random: &mut Random, at: usize) -> Self {
        Self {
            text: String::new(),
            id: random.hex(),
            tool: "tool_0".into(),
            args: format!(r#"{{"line":{at}}}"#),
            state: random.base64(64),
            output: "done".into(),
        }
    }
}

/// What is missing of a turn in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    Full,
    /// Its state.
    Stripped,
    /// Its state, and its arguments are written anew, in another order.
    Anew,
    /// Nothing, and its arguments are written anew.
    AnewFull,
}

impl Dialect {
    pub const ALL: [Self; 4] = [Self::Gemini, Self::Anthropic, Self::Responses, Self::Chat];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gemini => "gemini",
            Self::Anthropic => "anthropic",
            Self::Responses => "responses",
            Self::Chat => "chat",
        }
    }

    pub fn head(self) -> request::Parts {
        self.session_head("bench")
    }

    pub fn session_head(self, session: &str) -> request::Parts {
        let uri = match self {
            Self::Gemini => {
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
            }
            Self::Anthropic => "https://api.anthropic.com/v1/messages",
            Self::Responses => "https://api.openai.com/v1/responses",
            Self::Chat => "https://api.deepseek.com/chat/completions",
        };
        let mut request = Request::post(uri).header("content-type", "application/json").body(()).unwrap();
        request.extensions_mut().insert(Session::new(session));
        request.extensions_mut().insert(Tenant::new("bench"));
        request.into_parts().0
    }

    /// A request with a question and nothing else.
    pub fn question(self) -> Bytes {
        self.body(&Before::nothing(), "")
    }

    /// A body with this history behind a first message of the user.
    pub fn body(self, before: &Before, history: &str) -> Bytes {
        let Before { system, user, tools } = before;
        let tools = tools
            .iter()
            .enumerate()
            .map(|(at, description)| {
                let properties = r#"{"path":{"type":"string"},"line":{"type":"integer"},"options":{"type":"object"}}"#;
                let schema = format!(r#"{{"type":"object","properties":{properties}}}"#);
                let named = format!(r#""name":"tool_{at}","description":"{description}""#);
                match self {
                    Self::Gemini => format!(r#"{{{named},"parameters":{schema}}}"#),
                    Self::Anthropic => format!(r#"{{{named},"input_schema":{schema}}}"#),
                    Self::Responses => format!(r#"{{"type":"function",{named},"parameters":{schema}}}"#),
                    Self::Chat => format!(r#"{{"type":"function","function":{{{named},"parameters":{schema}}}}}"#),
                }
            })
            .collect::<Vec<_>>()
            .join(",");
        let body = match self {
            Self::Gemini => format!(
                r#"{{"contents":[{{"role":"user","parts":[{{"text":"{user}"}}]}}{history}],"systemInstruction":{{"parts":[{{"text":"{system}"}}]}},"tools":[{{"functionDeclarations":[{tools}]}}],"generationConfig":{{"temperature":0.2}}}}"#
            ),
            Self::Anthropic => format!(
                r#"{{"model":"claude-sonnet-4-5","max_tokens":4096,"thinking":{{"type":"adaptive"}},"system":"{system}","tools":[{tools}],"messages":[{{"role":"user","content":"{user}"}}{history}]}}"#
            ),
            Self::Responses => format!(
                r#"{{"model":"gpt-5","store":false,"instructions":"{system}","tools":[{tools}],"input":[{{"role":"user","content":"{user}"}}{history}]}}"#
            ),
            Self::Chat => format!(
                r#"{{"model":"m","tools":[{tools}],"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{user}"}}{history}]}}"#
            ),
        };
        body.into()
    }

    /// A model's answer and the output of its call, behind a comma.
    pub fn turn(self, turn: &Turn, form: Form) -> String {
        let Turn { text, id, tool, args, state, output } = turn;
        let args = match form {
            Form::Anew | Form::AnewFull => args.replace(r#""deep":true,"mode":"fast""#, r#""mode":"fast","deep":true"#),
            Form::Full | Form::Stripped => args.clone(),
        };
        let text_of_args = args.replace('\\', r"\\").replace('"', r#"\""#);
        let has_state = matches!(form, Form::Full | Form::AnewFull);
        match self {
            Self::Gemini => {
                let text = if text.is_empty() { String::new() } else { format!(r#"{{"text":"{text}"}},"#) };
                let id = if id.is_empty() { String::new() } else { format!(r#","id":"{id}""#) };
                let state = if has_state { format!(",{}", self.state(state)) } else { String::new() };
                format!(
                    r#",{{"role":"model","parts":[{text}{{"functionCall":{{"name":"{tool}"{id},"args":{args}}}{state}}}]}},{{"role":"user","parts":[{{"functionResponse":{{"name":"{tool}"{id},"response":{{"result":"{output}"}}}}}}]}}"#
                )
            }
            Self::Anthropic => {
                let thinking = if has_state { format!("{},", self.state(state)) } else { String::new() };
                let text =
                    if text.is_empty() { String::new() } else { format!(r#"{{"type":"text","text":"{text}"}},"#) };
                format!(
                    r#",{{"role":"assistant","content":[{thinking}{text}{{"type":"tool_use","id":"toolu_01{id}","name":"{tool}","input":{args}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"toolu_01{id}","content":"{output}"}}]}}"#
                )
            }
            Self::Responses => {
                let reasoning = if has_state { format!(",{}", self.state(state)) } else { String::new() };
                let message = if text.is_empty() { String::new() } else { format!(",{}", message(turn)) };
                format!(
                    r#"{reasoning}{message},{{"type":"function_call","id":"fc_{id}","call_id":"call_{id}","name":"{tool}","arguments":"{text_of_args}","status":"completed"}},{{"type":"function_call_output","call_id":"call_{id}","output":"{output}"}}"#
                )
            }
            Self::Chat => {
                let reasoning = if has_state { format!(",{}", self.state(state)) } else { String::new() };
                let content = if text.is_empty() { "null".to_owned() } else { format!("\"{text}\"") };
                format!(
                    r#",{{"role":"assistant","content":{content},"tool_calls":[{{"id":"call_{id}","type":"function","function":{{"name":"{tool}","arguments":"{text_of_args}"}}}}]{reasoning}}},{{"role":"tool","tool_call_id":"call_{id}","content":"{output}"}}"#
                )
            }
        }
    }

    /// The state as it stands in a request.
    pub fn state(self, state: &str) -> String {
        match self {
            Self::Gemini => format!(r#""thoughtSignature":"{state}""#),
            Self::Anthropic => format!(r#"{{"type":"thinking","thinking":"","signature":"{state}"}}"#),
            Self::Responses => {
                format!(
                    r#"{{"type":"reasoning","id":"rs_{}","summary":[],"encrypted_content":"{state}"}}"#,
                    &state[..16].replace(['+', '/'], "x")
                )
            }
            Self::Chat => format!(r#""reasoning_content":"{state}""#),
        }
    }

    /// A turn without a call and without state, and what the user said to it.
    pub fn plain_turn(self, text: &str) -> String {
        match self {
            Self::Gemini => format!(
                r#",{{"role":"model","parts":[{{"text":"{text}"}}]}},{{"role":"user","parts":[{{"text":"{text}"}}]}}"#
            ),
            Self::Anthropic => format!(
                r#",{{"role":"assistant","content":[{{"type":"text","text":"{text}"}}]}},{{"role":"user","content":"{text}"}}"#
            ),
            Self::Responses => format!(
                r#",{{"type":"message","role":"assistant","content":[{{"type":"output_text","text":"{text}"}}]}},{{"role":"user","content":"{text}"}}"#
            ),
            Self::Chat => {
                format!(r#",{{"role":"assistant","content":"{text}"}},{{"role":"user","content":"{text}"}}"#)
            }
        }
    }

    /// A message of the user with an image of so many bytes.
    pub fn media(self, length: usize) -> String {
        let data = Random::new(17).base64(length);
        match self {
            Self::Gemini => {
                format!(r#",{{"role":"user","parts":[{{"inlineData":{{"mimeType":"image/png","data":"{data}"}}}}]}}"#)
            }
            Self::Anthropic => format!(
                r#",{{"role":"user","content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}]}}"#
            ),
            Self::Responses => format!(
                r#",{{"role":"user","content":[{{"type":"input_image","image_url":"data:image/png;base64,{data}"}}]}}"#
            ),
            Self::Chat => format!(
                r#",{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}"#
            ),
        }
    }

    /// The provider's answer, as a document or, for Gemini, as a stream.
    pub fn answer(self, turn: &Turn) -> String {
        let Turn { text, id, tool, args, state, .. } = turn;
        let text_of_args = args.replace('\\', r"\\").replace('"', r#"\""#);
        let state = self.state(state);
        match self {
            Self::Gemini => {
                let id = if id.is_empty() { String::new() } else { format!(r#","id":"{id}""#) };
                let said = if text.is_empty() {
                    String::new()
                } else {
                    format!(
                        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}},\"index\":0}}]}}\r\n\r\n"
                    )
                };
                format!(
                    "{said}data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"{tool}\"{id},\"args\":{args}}},{state}}}],\"role\":\"model\"}},\"finishReason\":\"STOP\",\"index\":0}}]}}\r\n\r\n"
                )
            }
            Self::Anthropic => {
                let text =
                    if text.is_empty() { String::new() } else { format!(r#"{{"type":"text","text":"{text}"}},"#) };
                format!(
                    r#"{{"type":"message","role":"assistant","content":[{state},{text}{{"type":"tool_use","id":"toolu_01{id}","name":"{tool}","input":{args}}}],"stop_reason":"tool_use"}}"#
                )
            }
            Self::Responses => {
                let message = if text.is_empty() { String::new() } else { format!("{},", message(turn)) };
                format!(
                    r#"{{"object":"response","status":"completed","output":[{state},{message}{{"type":"function_call","id":"fc_{id}","call_id":"call_{id}","name":"{tool}","arguments":"{text_of_args}","status":"completed"}}]}}"#
                )
            }
            Self::Chat => {
                let content = if text.is_empty() { "null".to_owned() } else { format!("\"{text}\"") };
                format!(
                    r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":{content},"tool_calls":[{{"id":"call_{id}","type":"function","function":{{"name":"{tool}","arguments":"{text_of_args}"}}}}],{state}}},"finish_reason":"tool_calls"}}]}}"#
                )
            }
        }
    }
}

fn message(turn: &Turn) -> String {
    let Turn { id, text, .. } = turn;
    format!(
        r#"{{"type":"message","id":"msg_{id}","role":"assistant","status":"completed","content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}"#
    )
}

/// What agents send before the history.
pub struct Before {
    pub system: String,
    pub user: String,
    /// The descriptions of the tools.
    pub tools: Vec<String>,
}

impl Before {
    /// A system instruction of 4 KB, six tools of 4 KB together, and 1.5 KB of the user's text.
    pub fn random(random: &mut Random) -> Self {
        Self {
            system: random.text(4 << 10),
            user: random.text(1_500),
            tools: (0..6).map(|_| random.text(480)).collect(),
        }
    }

    pub fn nothing() -> Self {
        Self { system: "You help.".into(), user: "go".into(), tools: Vec::new() }
    }
}

/// A conversation.
pub struct Talk {
    pub dialect: Dialect,
    pub turns: Vec<Turn>,
    pub before: Before,
    /// A message with media in front of the turns, behind a comma.
    pub media: String,
}

impl Talk {
    pub fn new(dialect: Dialect, turns: usize) -> Self {
        let random = &mut Random::new(9);
        let before = Before::random(random);
        Self { dialect, turns: (0..turns).map(|at| Turn::random(random, at)).collect(), before, media: String::new() }
    }

    /// One whose turns are as small as can be.
    pub fn small(dialect: Dialect, turns: usize) -> Self {
        let random = &mut Random::new(19);
        let turns = (0..turns).map(|at| Turn::small(random, at)).collect();
        Self { dialect, turns, before: Before::nothing(), media: String::new() }
    }

    /// The first `from` turns of this one, and then others: another branch of it.
    pub fn branch(&self, from: usize) -> Self {
        let random = &mut Random::new(23);
        let others = (from..self.turns.len()).map(|at| Turn::random(random, at));
        let Before { system, user, tools } = &self.before;
        Self {
            dialect: self.dialect,
            turns: self.turns[..from].iter().cloned().chain(others).collect(),
            before: Before { system: system.clone(), user: user.clone(), tools: tools.clone() },
            media: String::new(),
        }
    }

    /// The body after these turns, each in its form.
    pub fn body(&self, turns: impl Iterator<Item = usize>, form: impl Fn(usize) -> Form) -> Bytes {
        let mut history = self.media.clone();
        for at in turns {
            history += &self.dialect.turn(&self.turns[at], form(at));
        }
        self.dialect.body(&self.before, &history)
    }

    pub fn all(&self, form: Form) -> Bytes {
        self.body(0..self.turns.len(), |_| form)
    }

    pub fn last1(&self) -> Bytes {
        let last = self.turns.len() - 1;
        self.body(0..last + 1, |at| if at == last { Form::Stripped } else { Form::Full })
    }

    /// A client that compacts: every third turn is gone.
    pub fn edited(&self, form: Form) -> Bytes {
        self.body((0..self.turns.len()).filter(|at| at % 3 != 1), |_| form)
    }

    /// Shows an engine these turns.
    pub fn teach(&self, engine: &Engine, turns: Range<usize>) {
        let head = self.dialect.head();
        let mut history: String = self.media.clone();
        for turn in &self.turns[..turns.start] {
            history += &self.dialect.turn(turn, Form::Full);
        }
        for turn in &self.turns[turns] {
            let answer = self.dialect.answer(turn);
            learn(engine, &head, &self.dialect.body(&self.before, &history), answer.as_bytes());
            history += &self.dialect.turn(turn, Form::Full);
        }
    }

    /// An engine that saw every turn.
    pub fn taught(&self) -> Engine {
        let engine = engine();
        self.teach(&engine, 0..self.turns.len());
        engine
    }
}

/// A conversation of text alone, of about 1 KB a turn for each side.
pub fn plain(dialect: Dialect, turns: usize) -> Bytes {
    let random = &mut Random::new(7);
    let before = Before { tools: Vec::new(), ..Before::random(random) };
    let history: String = (0..turns).map(|_| dialect.plain_turn(&random.text(980))).collect();
    dialect.body(&before, &history)
}

/// What the events of a stream are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Text, which is hashed.
    Text,
    /// Nothing that a client keeps: an empty part, usage, a summary of reasoning.
    Nothing,
}

impl Says {
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "with text",
            Self::Nothing => "without text",
        }
    }
}

/// How many events a stream has.
pub const EVENTS: usize = 5_000;

/// A stream of 5,000 events of about 206 B. That of Gemini has 600 thoughts, four signed calls and two signed texts; the
/// others begin with their state.
pub fn stream(dialect: Dialect, says: Says) -> Bytes {
    if dialect == Dialect::Gemini { gemini_stream(says) } else { events(dialect, EVENTS, says) }
}

fn gemini_stream(says: Says) -> Bytes {
    let mut random = Random::new(11);
    let mut out = String::new();
    for event in 0..EVENTS {
        let role = r#""role":"model""#;
        let end = if event + 1 == EVENTS { r#","finishReason":"STOP""# } else { "" };
        let usage = format!(r#""usageMetadata":{{"totalTokenCount":{}}}"#, 1_000 + event);
        let part = if event % 1_250 == 1_249 && event + 1 < EVENTS {
            let (id, path) = (random.hex(), random.hex());
            format!(
                r#"{{"functionCall":{{"name":"tool","id":"{id}","args":{{"path":"{path}"}}}},"thoughtSignature":"{}"}}"#,
                random.base64(512)
            )
        } else if event % 2_400 == 2_399 {
            format!(r#"{{"text":"{}","thoughtSignature":"{}"}}"#, random.text(40), random.base64(512))
        } else if says == Says::Nothing {
            String::new()
        } else if event < 600 {
            format!(r#"{{"thought":true,"text":"{}"}}"#, random.text(60))
        } else {
            format!(r#"{{"text":"{}"}}"#, random.text(75))
        };
        writeln!(
            out,
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{part}],{role}}}{end},\"index\":0}}],{usage}}}\r\n\r"
        )
        .unwrap();
    }
    out.into()
}

fn chat_event(delta: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,"model":"m","choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":null}}]}}"#
    )
}

fn write_event(dialect: Dialect, out: &mut String, name: &str, data: &str) {
    match dialect {
        Dialect::Gemini => write!(out, "data: {data}\r\n\r\n"),
        Dialect::Chat => write!(out, "data: {data}\n\n"),
        Dialect::Anthropic | Dialect::Responses => write!(out, "event: {name}\ndata: {data}\n\n"),
    }
    .unwrap();
}

/// An event that says this.
fn text_event(dialect: Dialect, out: &mut String, text: &str) {
    let (name, data) = match dialect {
        Dialect::Gemini => (
            "",
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}},"index":0}}],"usageMetadata":{{"totalTokenCount":1000}}}}"#
            ),
        ),
        Dialect::Anthropic => (
            "content_block_delta",
            format!(r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"text_delta","text":"{text}"}}}}"#),
        ),
        Dialect::Responses => (
            "response.output_text.delta",
            format!(
                r#"{{"type":"response.output_text.delta","item_id":"msg_0123456789","output_index":1,"content_index":0,"delta":"{text}","sequence_number":7}}"#
            ),
        ),
        Dialect::Chat => ("", chat_event(&format!(r#""content":"{text}""#))),
    };
    write_event(dialect, out, name, &data);
}

/// An event that says nothing.
fn quiet_event(dialect: Dialect, out: &mut String, random: &mut Random) {
    let (name, data) = match dialect {
        Dialect::Gemini => (
            "",
            r#"{"candidates":[{"content":{"parts":[],"role":"model"},"index":0}],"usageMetadata":{"totalTokenCount":1000}}"#.to_owned(),
        ),
        Dialect::Anthropic => (
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":null,"stop_sequence":null},"usage":{"input_tokens":1234,"cache_read_input_tokens":56789,"cache_creation_input_tokens":0,"output_tokens":321}}"#.to_owned(),
        ),
        Dialect::Responses => (
            "response.reasoning_summary_text.delta",
            format!(
                r#"{{"type":"response.reasoning_summary_text.delta","item_id":"rs_0123456789","output_index":0,"summary_index":0,"delta":"{}","sequence_number":7}}"#,
                random.text(20)
            ),
        ),
        Dialect::Chat => (
            "",
            r#"{"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,"model":"m","choices":[],"usage":{"prompt_tokens":1234,"completion_tokens":56,"total_tokens":1290}}"#.to_owned(),
        ),
    };
    write_event(dialect, out, name, &data);
}

/// The beginning of a stream: some state, and the text that is to follow, opened.
pub fn beginning(dialect: Dialect) -> String {
    let mut random = Random::new(11);
    let mut out = String::new();
    let mut event = |name: &str, data: &str| write_event(dialect, &mut out, name, data);
    match dialect {
        Dialect::Gemini => {}
        Dialect::Anthropic => {
            event("message_start", r#"{"type":"message_start","message":{"role":"assistant","content":[]}}"#);
            event(
                "content_block_start",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            );
            event(
                "content_block_delta",
                &format!(
                    r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"signature_delta","signature":"{}"}}}}"#,
                    random.base64(512)
                ),
            );
            event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#);
            event(
                "content_block_start",
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            );
        }
        Dialect::Responses => event(
            "response.output_item.done",
            &format!(
                r#"{{"type":"response.output_item.done","output_index":0,"item":{}}}"#,
                dialect.state(&random.base64(512))
            ),
        ),
        Dialect::Chat => event("", &chat_event(&format!(r#""reasoning_content":"{}""#, random.text(60)))),
    }
    out
}

/// So many events of about 206 B behind the beginning of a stream.
pub fn events(dialect: Dialect, events: usize, says: Says) -> Bytes {
    let mut random = Random::new(12);
    let mut out = beginning(dialect);
    for _ in 0..events {
        match says {
            Says::Text => text_event(dialect, &mut out, &random.text(75)),
            Says::Nothing => quiet_event(dialect, &mut out, &mut random),
        }
    }
    out.into()
}

/// A stream whose only event is of text, in a line of about this size.
pub fn line(dialect: Dialect, size: usize) -> Bytes {
    let mut out = beginning(dialect);
    text_event(dialect, &mut out, &Random::new(5).text(size));
    out.into()
}

/// A stream, an event for each frame.
pub fn frames(stream: &Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = &stream[..];
    let end: &[u8] = if memchr::memmem::find(rest, b"\r\n\r\n").is_some() { b"\r\n\r\n" } else { b"\n\n" };
    while let Some(at) = memchr::memmem::find(rest, end) {
        frames.push(stream.slice_ref(&rest[..at + end.len()]));
        rest = &rest[at + end.len()..];
    }
    frames
}
