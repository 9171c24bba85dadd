//! Reads a request as the provider's JSON reader does.

use serde_json::{Map, Value};

use super::{
    prefix::{Element, Prefix},
    refusal::Refusal,
    vault::Kept,
};

/// The beta header that `thinking.block_binding` needs.
pub(super) const BINDING_BETA: &str = "thinking-binding-controls-2026-08-01";

/// A request that was understood.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) mode: Mode,
    /// Thoughts are to be hidden.
    pub(super) hides: bool,
    /// What is to happen to a block behind another prefix, if the request says so.
    pub(super) binding: Option<Binding>,
    pub(super) runs: Vec<Run>,
    /// The whole conversation.
    pub(super) prefix: Prefix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Disabled,
    Enabled,
    Adaptive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    Error,
    DropBlock,
}

/// Neighbouring messages of one role.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) assistant: bool,
    pub(super) blocks: Vec<Block>,
}

#[derive(Debug)]
pub(super) struct Block {
    /// Message and block.
    pub(super) at: (usize, usize),
    pub(super) data: Data,
    /// How many elements of the prefix stand before it.
    pub(super) reach: usize,
}

#[derive(Debug)]
pub(super) enum Data {
    Thinking { thinking: String, signature: String },
    Redacted { data: String },
    ToolUse { id: String, name: String, input: Value },
    ToolResult { id: String },
    ServerToolUse { id: String, name: String },
    SearchResult { id: String, encrypted: Vec<String> },
    Text(String),
    Other(String),
}

impl Block {
    pub(super) fn is_thought(&self) -> bool {
        matches!(self.data, Data::Thinking { .. } | Data::Redacted { .. })
    }

    pub(super) fn path(&self) -> String {
        path(self.at)
    }

    /// What can be compared with the blocks of an answer; nothing for thoughts.
    pub(super) fn kept(&self) -> Option<Kept> {
        Some(match &self.data {
            Data::Text(text) => Kept::Text(text.trim().to_owned()),
            Data::ToolUse { id, name, input } => {
                Kept::ToolUse { id: id.clone(), name: name.clone(), input: input.clone() }
            }
            Data::ServerToolUse { id, .. } => Kept::Server("server_tool_use", id.clone()),
            Data::SearchResult { id, .. } => Kept::Server("web_search_tool_result", id.clone()),
            _ => return None,
        })
    }

    /// The type as refusals name it.
    pub(super) fn kind(&self) -> &str {
        match &self.data {
            Data::Thinking { .. } => "thinking",
            Data::Redacted { .. } => "redacted_thinking",
            Data::ToolUse { .. } => "tool_use",
            Data::ToolResult { .. } => "tool_result",
            Data::ServerToolUse { .. } => "server_tool_use",
            Data::SearchResult { .. } => "web_search_tool_result",
            Data::Text(_) => "text",
            Data::Other(kind) => kind,
        }
    }
}

impl Run {
    pub(super) fn has_tool_result(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block.data, Data::ToolResult { .. }))
    }
}

pub(super) fn path((message, block): (usize, usize)) -> String {
    format!("messages.{message}.content.{block}")
}

fn extra(at: &str) -> Refusal {
    Refusal::invalid(format!("{at}: Extra inputs are not permitted"))
}

fn required(at: &str) -> Refusal {
    Refusal::invalid(format!("{at}: Field required"))
}

/// Reads a body. `betas` are the values of `anthropic-beta`; a request without `thinking` has the mode `absent`.
pub(super) fn read(body: &Value, betas: &[String], absent: Mode, counting: bool) -> Result<Asked, Refusal> {
    if !counting && !body.get("max_tokens").is_some_and(Value::is_u64) {
        return Err(required("max_tokens"));
    }
    let (mode, hides, binding) = thinking(body.get("thinking"), betas, absent)?;
    let choice = body.get("tool_choice").and_then(|choice| choice.get("type")).and_then(Value::as_str);
    if mode == Mode::Enabled && matches!(choice, Some("any" | "tool")) {
        return Err(Refusal::invalid("Thinking may not be enabled when tool_choice forces tool use."));
    }
    let messages = match body.get("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(Refusal::invalid("messages: Input should be a valid list")),
        None => return Err(required("messages")),
    };
    if messages.is_empty() {
        return Err(Refusal::invalid("messages: at least one message is required"));
    }
    let mut prefix = Prefix::new(body.get("system"), body.get("tools"));
    let mut runs: Vec<Run> = Vec::new();
    for (number, value) in messages.iter().enumerate() {
        let last = number + 1 == messages.len();
        let (assistant, blocks) = message(value, number, last, &mut prefix)?;
        match runs.last_mut() {
            Some(run) if run.assistant == assistant => run.blocks.extend(blocks),
            _ => runs.push(Run { assistant, blocks }),
        }
    }
    Ok(Asked { mode, hides, binding, runs, prefix })
}

fn thinking(value: Option<&Value>, betas: &[String], absent: Mode) -> Result<(Mode, bool, Option<Binding>), Refusal> {
    let Some(value) = value else { return Ok((absent, false, None)) };
    let fields = value.as_object().ok_or_else(|| Refusal::invalid("thinking: Input should be a valid dictionary"))?;
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    let (mode, allowed): (_, &[&str]) = match kind {
        "disabled" => (Mode::Disabled, &["type"]),
        "enabled" => (Mode::Enabled, &["type", "budget_tokens", "display"]),
        "adaptive" => (Mode::Adaptive, &["type", "display"]),
        _ => {
            return Err(Refusal::invalid(format!(
                "thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags: 'disabled', 'enabled', 'adaptive'"
            )));
        }
    };
    if mode == Mode::Enabled && !fields.get("budget_tokens").is_some_and(Value::is_u64) {
        return Err(required("thinking.enabled.budget_tokens"));
    }
    let mut binding = None;
    for (name, value) in fields {
        if name == "block_binding" && mode != Mode::Disabled && betas.iter().any(|beta| beta == BINDING_BETA) {
            let at = format!("thinking.{kind}.block_binding.prefix_mismatch_behavior");
            binding = Some(match value.get("prefix_mismatch_behavior").and_then(Value::as_str) {
                Some("error") => Binding::Error,
                Some("drop_block") => Binding::DropBlock,
                _ => return Err(Refusal::invalid(format!("{at}: Input should be 'error' or 'drop_block'"))),
            });
        } else if !allowed.contains(&name.as_str()) {
            return Err(extra(&format!("thinking.{kind}.{name}")));
        }
    }
    let hides = fields.get("display").and_then(Value::as_str) == Some("omitted");
    Ok((mode, hides, binding))
}

fn message(value: &Value, number: usize, last: bool, prefix: &mut Prefix) -> Result<(bool, Vec<Block>), Refusal> {
    let at = format!("messages.{number}");
    let fields =
        value.as_object().ok_or_else(|| Refusal::invalid(format!("{at}: Input should be a valid dictionary")))?;
    if let Some(name) = fields.keys().find(|name| *name != "role" && *name != "content") {
        return Err(extra(&format!("{at}.{name}")));
    }
    let assistant = match fields.get("role").and_then(Value::as_str) {
        Some("user") => false,
        Some("assistant") => true,
        Some(_) => return Err(Refusal::invalid(format!("{at}.role: Input should be 'user' or 'assistant'"))),
        None => return Err(required(&format!("{at}.role"))),
    };
    let single;
    let blocks = match fields.get("content") {
        Some(Value::String(text)) if text.is_empty() => &[][..],
        Some(Value::String(text)) => {
            single = [serde_json::json!({"type": "text", "text": text})];
            &single[..]
        }
        Some(Value::Array(blocks)) => blocks,
        Some(_) => return Err(Refusal::invalid(format!("{at}.content: Input should be a valid list"))),
        None => return Err(required(&format!("{at}.content"))),
    };
    if blocks.is_empty() && !(last && assistant) {
        return Err(Refusal::invalid(format!(
            "{at}: all messages must have non-empty content except for the optional final assistant message"
        )));
    }
    let mut read = Vec::with_capacity(blocks.len());
    for (index, value) in blocks.iter().enumerate() {
        let place = (number, index);
        let data = block(value, place)?;
        let block = Block { at: place, data, reach: prefix.elements.len() };
        let misplaced = match (&block.data, assistant) {
            (Data::ToolResult { .. }, true) => Some("user"),
            (
                Data::Thinking { .. }
                | Data::Redacted { .. }
                | Data::ToolUse { .. }
                | Data::ServerToolUse { .. }
                | Data::SearchResult { .. },
                false,
            ) => Some("assistant"),
            _ => None,
        };
        if let Some(role) = misplaced {
            let kind = block.kind();
            return Err(Refusal::invalid(format!("{at}: `{kind}` blocks can only be in `{role}` messages")));
        }
        if !block.is_thought() {
            prefix.elements.push(Element::new(assistant, value, place));
        }
        read.push(block);
    }
    Ok((assistant, read))
}

/// The fields of a block of a known type: those that it must have, and those that it may have.
fn schema(kind: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match kind {
        "text" => (&["text"], &["citations", "cache_control"]),
        "thinking" => (&["signature", "thinking"], &[]),
        "redacted_thinking" => (&["data"], &[]),
        "tool_use" => (&["id", "name", "input"], &["cache_control", "caller"]),
        "tool_result" => (&["tool_use_id"], &["content", "is_error", "cache_control"]),
        "server_tool_use" => (&["id", "name", "input"], &["cache_control", "caller"]),
        "web_search_tool_result" => (&["tool_use_id", "content"], &["cache_control", "caller"]),
        _ => return None,
    })
}

/// Whether a type is taken without a look inside.
fn is_opaque(kind: &str) -> bool {
    let others = ["image", "document", "search_result", "container_upload", "compaction", "fallback"];
    others.contains(&kind) || kind.starts_with("mcp_") || kind.ends_with("_tool_result")
}

fn block(value: &Value, place: (usize, usize)) -> Result<Data, Refusal> {
    let at = path(place);
    let fields =
        value.as_object().ok_or_else(|| Refusal::invalid(format!("{at}: Input should be a valid dictionary")))?;
    let Some(kind) = fields.get("type").and_then(Value::as_str) else {
        return Err(required(&format!("{at}.type")));
    };
    let Some((needed, allowed)) = schema(kind) else {
        if is_opaque(kind) {
            return Ok(Data::Other(kind.to_owned()));
        }
        return Err(Refusal::invalid(format!(
            "{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        )));
    };
    let at = format!("{at}.{kind}");
    if let Some(name) = needed.iter().find(|name| !fields.contains_key(**name)) {
        return Err(required(&format!("{at}.{name}")));
    }
    if let Some(name) = fields
        .keys()
        .find(|name| *name != "type" && !needed.contains(&name.as_str()) && !allowed.contains(&name.as_str()))
    {
        return Err(extra(&format!("{at}.{name}")));
    }
    let string = |name: &str| string(fields, name, &at);
    let input = || match fields.get("input") {
        Some(input @ Value::Object(_)) => Ok(input.clone()),
        _ => Err(Refusal::invalid(format!("{at}.input: Input should be a valid dictionary"))),
    };
    Ok(match kind {
        "thinking" => Data::Thinking { thinking: string("thinking")?, signature: string("signature")? },
        "redacted_thinking" => Data::Redacted { data: string("data")? },
        "tool_use" => Data::ToolUse { id: string("id")?, name: string("name")?, input: input()? },
        "tool_result" => Data::ToolResult { id: string("tool_use_id")? },
        "server_tool_use" => {
            input()?;
            Data::ServerToolUse { id: string("id")?, name: string("name")? }
        }
        "web_search_tool_result" => {
            let mut encrypted = Vec::new();
            // An error is an object in place of the list.
            for (number, result) in fields.get("content").and_then(Value::as_array).into_iter().flatten().enumerate() {
                let at = format!("{at}.content.{number}");
                let content = result.get("encrypted_content").and_then(Value::as_str);
                encrypted.push(content.ok_or_else(|| required(&format!("{at}.encrypted_content")))?.to_owned());
            }
            Data::SearchResult { id: string("tool_use_id")?, encrypted }
        }
        _ => {
            let text = string("text")?;
            if text.is_empty() {
                return Err(Refusal::invalid("messages: text content blocks must be non-empty"));
            }
            Data::Text(text)
        }
    })
}

fn string(fields: &Map<String, Value>, name: &str, at: &str) -> Result<String, Refusal> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(Refusal::invalid(format!("{at}.{name}: Input should be a valid string"))),
    }
}
