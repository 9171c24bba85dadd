//! The input of a request, read strictly.

use serde_json::{Map, Value};

use super::{
    config::{Config, Vendor},
    refusal::Refusal,
};

/// One item of the input.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Option<String>,
    pub(super) data: Data,
}

/// What an item of the input says.
#[derive(Debug)]
pub(super) enum Data {
    Reasoning {
        encrypted: Option<String>,
        clear: Option<String>,
    },
    Message {
        assistant: bool,
        text: String,
    },
    Call {
        call_id: String,
        name: String,
        arguments: Value,
    },
    CustomCall {
        call_id: String,
        name: String,
        input: String,
    },
    Output {
        call_id: String,
        custom: bool,
    },
    Compaction {
        encrypted: String,
    },
    Reference,
    /// Another item of the model.
    Native,
    /// Another item of the client.
    Other,
}

impl Data {
    /// Whether the model said it.
    pub(super) fn is_models(&self) -> bool {
        !matches!(
            self,
            Self::Message { assistant: false, .. } | Self::Output { .. } | Self::Compaction { .. } | Self::Other
        )
    }

    pub(super) fn call_id(&self) -> Option<&str> {
        match self {
            Self::Call { call_id, .. } | Self::CustomCall { call_id, .. } => Some(call_id),
            _ => None,
        }
    }
}

/// Types of items that are known, but about which no more is demanded than that they are objects.
const NATIVE: [&str; 12] = [
    "web_search_call",
    "file_search_call",
    "computer_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "tool_search_call",
];
const OTHER: [&str; 6] = [
    "computer_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
    "mcp_approval_response",
    "tool_search_output",
];

/// The items of the input, each with its place in it.
pub(super) fn entries(body: &Value, config: &Config) -> Result<Vec<Entry>, Refusal> {
    match body.get("input") {
        None | Some(Value::Null) => Err(Refusal::missing("input")),
        Some(Value::String(text)) => {
            Ok(vec![Entry { id: None, data: Data::Message { assistant: false, text: text.clone() } }])
        }
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(at, item)| entry(item, &format!("input[{at}]"), config)).collect()
        }
        Some(other) => Err(Refusal::wrong_type("input", "one of an array of objects or a string", kind(other))),
    }
}

fn entry(item: &Value, at: &str, config: &Config) -> Result<Entry, Refusal> {
    let item = item.as_object().ok_or_else(|| Refusal::wrong_type(at, "an object", kind(item)))?;
    let reader = Reader { item, at, config };
    let type_name = match item.get("type") {
        Some(Value::String(name)) => name.as_str(),
        None if item.contains_key("role") => "message",
        None if item.len() == 1 && item.contains_key("id") => "item_reference",
        None => return Err(Refusal::missing(format!("{at}.type"))),
        Some(other) => return Err(Refusal::wrong_type(format!("{at}.type"), "a string", kind(other))),
    };
    let (prefix, data) = match type_name {
        "reasoning" => ("rs", reader.reasoning()?),
        "message" => ("msg", reader.message()?),
        "function_call" => {
            reader.only(&["call_id", "name", "arguments", "status", "namespace", "caller"])?;
            let call_id = reader.name("call_id")?;
            let arguments = reader.string("arguments")?;
            let arguments = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
            ("fc", Data::Call { call_id, name: reader.name("name")?, arguments })
        }
        "custom_tool_call" => {
            reader.only(&["call_id", "name", "input", "status", "namespace", "caller"])?;
            let call_id = reader.name("call_id")?;
            ("ctc", Data::CustomCall { call_id, name: reader.name("name")?, input: reader.string("input")? })
        }
        "function_call_output" | "custom_tool_call_output" => {
            reader.only(&["call_id", "output", "status", "caller"])?;
            match item.get("output") {
                Some(Value::String(_) | Value::Array(_)) => {}
                None => return Err(Refusal::missing(format!("{at}.output"))),
                Some(other) => {
                    let expected = "one of an array of objects or a string";
                    return Err(Refusal::wrong_type(format!("{at}.output"), expected, kind(other)));
                }
            }
            let custom = type_name != "function_call_output";
            ("", Data::Output { call_id: reader.name("call_id")?, custom })
        }
        "compaction" => {
            reader.only(&["encrypted_content", "created_by"])?;
            ("cmp", Data::Compaction { encrypted: reader.string("encrypted_content")? })
        }
        "item_reference" => {
            reader.only(&[])?;
            if !item.contains_key("id") {
                return Err(Refusal::missing(format!("{at}.id")));
            }
            ("", Data::Reference)
        }
        "web_search_call" => ("ws", Data::Native),
        name if NATIVE.contains(&name) => ("", Data::Native),
        name if OTHER.contains(&name) => ("", Data::Other),
        name => {
            return Err(Refusal::value(
                at,
                format!(
                    "Invalid value: '{name}'. Supported values are: 'message', 'reasoning', 'function_call', 'function_call_output', 'custom_tool_call', 'custom_tool_call_output', 'compaction', 'item_reference', '{}', and '{}'.",
                    NATIVE.join("', '"),
                    OTHER.join("', '"),
                ),
            ));
        }
    };
    Ok(Entry { id: reader.id(prefix)?, data })
}

struct Reader<'a> {
    item: &'a Map<String, Value>,
    at: &'a str,
    config: &'a Config,
}

impl Reader<'_> {
    fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    /// Refuses every field but these, `type` and `id`.
    fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let unknown = |name: &&String| !matches!(name.as_str(), "type" | "id") && !known.contains(&name.as_str());
        match self.item.keys().find(unknown) {
            None => Ok(()),
            Some(name) => Err(Refusal::unknown(self.field(name))),
        }
    }

    fn string(&self, name: &str) -> Result<String, Refusal> {
        match self.item.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            None => Err(Refusal::missing(self.field(name))),
            Some(other) => Err(Refusal::wrong_type(self.field(name), "a string", kind(other))),
        }
    }

    /// A string that is not empty.
    fn name(&self, name: &str) -> Result<String, Refusal> {
        let text = self.string(name)?;
        if text.is_empty() {
            let field = self.field(name);
            let message = format!(
                "Invalid '{field}': empty string. Expected a string with minimum length 1, but got an empty string instead."
            );
            return Err(Refusal { code: Some("empty_string"), ..Refusal::value(field, message) });
        }
        Ok(text)
    }

    /// The item's id, if it has one.
    fn id(&self, prefix: &str) -> Result<Option<String>, Refusal> {
        let id = match self.item.get("id") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(id)) => id,
            Some(other) => return Err(Refusal::wrong_type(self.field("id"), "a string", kind(other))),
        };
        let field = self.field("id");
        let vendor = self.config.vendor;
        let opaque = self.config.churn_ids || vendor == Vendor::OpenRouter;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if id.is_empty() || !(opaque || id.bytes().all(known)) {
            let message = format!(
                "Invalid '{field}': '{id}'. Expected an ID that contains letters, numbers, underscores, or dashes, but this value contained additional characters."
            );
            return Err(Refusal::value(field, message));
        }
        let official = matches!(vendor, Vendor::OpenAi | Vendor::Azure | Vendor::ChatGpt);
        if official && !opaque && !id.starts_with(prefix) {
            let message = format!("Invalid '{field}': '{id}'. Expected an ID that begins with '{prefix}'.");
            return Err(Refusal::value(field, message));
        }
        Ok(Some(id.clone()))
    }

    fn reasoning(&self) -> Result<Data, Refusal> {
        self.only(&["summary", "content", "encrypted_content", "status"])?;
        let xai = self.config.vendor == Vendor::Xai;
        let mangled = || {
            Refusal::request("Could not decode the compaction blob. Ensure it is unmodified from the compact response.")
        };
        let wrong = |name: &str, other: &Value| {
            if xai { mangled() } else { Refusal::wrong_type(self.field(name), "an array of objects", kind(other)) }
        };
        match self.item.get("summary") {
            Some(Value::Array(parts)) => self.parts("summary", parts, &["summary_text"])?,
            None if xai => return Err(mangled()),
            None => return Err(Refusal::missing(self.field("summary"))),
            Some(other) => return Err(wrong("summary", other)),
        };
        let mut clear = None;
        match self.item.get("content") {
            None => {}
            Some(Value::Null) if !xai => {}
            Some(Value::Array(parts)) => {
                let text = self.parts("content", parts, &["reasoning_text"])?;
                clear = (!parts.is_empty()).then_some(text);
            }
            Some(other) => return Err(wrong("content", other)),
        }
        let encrypted = match self.item.get("encrypted_content") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => return Err(Refusal::wrong_type(self.field("encrypted_content"), "a string", kind(other))),
        };
        if encrypted.is_none() && clear.is_none() && self.item.get("id").is_none_or(Value::is_null) {
            return Err(Refusal::missing(self.field("id")));
        }
        Ok(Data::Reasoning { encrypted, clear })
    }

    fn message(&self) -> Result<Data, Refusal> {
        self.only(&["role", "content", "status", "phase"])?;
        let role = self.string("role")?;
        let assistant = role == "assistant";
        if !assistant && !matches!(role.as_str(), "user" | "system" | "developer") {
            return Err(Refusal::value(
                self.field("role"),
                format!(
                    "Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'."
                ),
            ));
        }
        let text = match self.item.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                let types: &[&str] = if assistant {
                    &["output_text", "refusal"]
                } else {
                    &["input_text", "input_image", "input_file", "input_audio"]
                };
                self.parts("content", parts, types)?
            }
            None => return Err(Refusal::missing(self.field("content"))),
            Some(other) => {
                let expected = "one of an array of objects or a string";
                return Err(Refusal::wrong_type(self.field("content"), expected, kind(other)));
            }
        };
        Ok(Data::Message { assistant, text })
    }

    /// The text of these parts, which have one of these types.
    fn parts(&self, name: &str, parts: &[Value], types: &[&str]) -> Result<String, Refusal> {
        let mut text = String::new();
        for (number, part) in parts.iter().enumerate() {
            let at = format!("{}[{number}]", self.field(name));
            let part = part.as_object().ok_or_else(|| Refusal::wrong_type(&at, "an object", kind(part)))?;
            let found = part.get("type").and_then(Value::as_str);
            let found = found.ok_or_else(|| Refusal::missing(format!("{at}.type")))?;
            if !types.contains(&found) {
                let supported = types.join("' and '");
                let message = format!("Invalid value: '{found}'. Supported values are: '{supported}'.");
                return Err(Refusal::value(at, message));
            }
            if found.ends_with("_text") {
                let said = part.get("text").and_then(Value::as_str);
                text.push_str(said.ok_or_else(|| Refusal::missing(format!("{at}.text")))?);
            }
        }
        Ok(text)
    }
}

/// What a value is called in a refusal.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
