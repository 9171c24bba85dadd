//! Reads a request's messages, and refuses what a strict reader of them refuses.

use serde_json::{Map, Value, json};

use super::{
    flavour::{Flavour, Manner},
    refusal::Refusal,
    vault::Call,
};

/// A message of the assistant.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Its index among all messages.
    pub(super) at: usize,
    pub(super) text: String,
    /// The runs of text and thinking, if the content is a list of chunks.
    pub(super) runs: Vec<(bool, String)>,
    pub(super) calls: Vec<Call>,
    /// The signature of each call, undecoded.
    pub(super) signatures: Vec<Option<String>>,
    /// The signature of the message, undecoded.
    pub(super) signature: Option<String>,
    /// Fields about reasoning that are there and not null.
    pub(super) fields: Map<String, Value>,
    /// Whether the message before it is one of the assistant, too.
    pub(super) continues: bool,
    /// Whether a message of the user follows anywhere.
    pub(super) old: bool,
}

/// A request that is in order.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) choices: usize,
    pub(super) has_tools: bool,
    /// Whether the model is to reason.
    pub(super) thinking: bool,
    /// Whether reasoning is to stand in the content.
    pub(super) inline: bool,
    pub(super) said: Vec<Said>,
    /// Neighbouring messages of the assistant count once.
    pub(super) steps: usize,
}

const REASONING: [&str; 7] = [
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "reasoning_text",
    "reasoning_opaque",
    "extra_content",
    "thought_signature",
];

pub(super) fn read(body: &Value, flavour: Flavour, strict: bool) -> Result<Asked, Refusal> {
    let model = match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        _ => return Err(Refusal::at("model", "you must provide a model parameter")),
    };
    let thinking = thinks(body, flavour);
    if flavour == Flavour::DeepSeek
        && thinking
        && body.get("tool_choice").is_some_and(|choice| choice.is_object() || choice == "required")
    {
        return Err(Refusal::request("Thinking mode does not support this tool_choice"));
    }
    let stream = switch(body, "stream")?;
    let include_usage = match body.get("stream_options") {
        None | Some(Value::Null) => false,
        Some(_) if !stream => {
            return Err(Refusal::at("stream_options", "stream_options should be set along with stream = true"));
        }
        Some(options) => switch(options, "include_usage")?,
    };
    let choices = match body.get("n") {
        None | Some(Value::Null) => 1,
        Some(n) => n
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=128).contains(n))
            .ok_or_else(|| Refusal::at("n", format!("Invalid value for n: {n}, it is not in the range [1, 128]")))?,
    };
    let has_tools = match body.get("tools") {
        None | Some(Value::Null) => false,
        Some(Value::Array(tools)) => !tools.is_empty(),
        Some(_) => return Err(Refusal::at("tools", "Invalid type for 'tools': expected an array")),
    };
    let messages = match body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        _ => return Err(Refusal::at("messages", "Empty input messages")),
    };
    let mut reader = Reader { flavour, strict, open: Vec::new(), after_assistant: false, said: Vec::new() };
    for (at, message) in messages.iter().enumerate() {
        reader.message(at, message)?;
    }
    reader.answered()?;
    let said = reader.said;
    let steps = said.iter().filter(|said| !said.continues).count();
    let inline = flavour == Flavour::MiniMax && body.get("reasoning_split") == Some(&json!(false));
    Ok(Asked { model, stream, include_usage, choices, has_tools, thinking, inline, said, steps })
}

/// Whether the model is to reason: it does so unless the request says otherwise.
fn thinks(body: &Value, flavour: Flavour) -> bool {
    let off = match flavour {
        Flavour::Qwen | Flavour::LlamaCpp | Flavour::Vllm => {
            let template = body.get("chat_template_kwargs").and_then(|options| options.get("enable_thinking"));
            body.get("enable_thinking").or(template) == Some(&json!(false))
        }
        Flavour::OpenRouter => {
            let reasoning = body.get("reasoning");
            let option = |name| reasoning.and_then(|options| options.get(name));
            option("enabled") == Some(&json!(false)) || option("effort") == Some(&json!("none"))
        }
        Flavour::DeepSeek | Flavour::Kimi | Flavour::MiMo | Flavour::Glm => {
            body.get("thinking").and_then(|thinking| thinking.get("type")) == Some(&json!("disabled"))
        }
        _ => false,
    };
    !off
}

fn switch(object: &Value, name: &str) -> Result<bool, Refusal> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => Err(Refusal::at(name, format!("Invalid type for '{name}': expected a boolean, got {other}"))),
    }
}

struct Reader {
    flavour: Flavour,
    strict: bool,
    /// Ids of calls that have no answer yet.
    open: Vec<String>,
    after_assistant: bool,
    said: Vec<Said>,
}

impl Reader {
    fn message(&mut self, at: usize, value: &Value) -> Result<(), Refusal> {
        let Value::Object(message) = value else {
            return Err(wrong(at, "", "an object", value));
        };
        let role = string(message, at, "role")?.unwrap_or_default();
        let known: &[&str] = match role {
            "system" | "developer" | "user" => &["role", "content", "name"],
            "tool" => &["role", "content", "name", "tool_call_id"],
            "assistant" => {
                &["role", "content", "name", "tool_calls", "refusal", "annotations", "audio", "function_call", "prefix"]
            }
            other => {
                return Err(Refusal::at(
                    format!("messages[{at}].role"),
                    format!(
                        "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', and 'tool'."
                    ),
                ));
            }
        };
        let own: &[&str] = if role == "assistant" { self.flavour.own_fields() } else { &[] };
        if self.strict
            && let Some((field, value)) =
                message.iter().find(|(field, _)| !known.contains(&field.as_str()) && !own.contains(&field.as_str()))
        {
            return Err(Refusal::unknown_field(self.flavour, at, role, field, value));
        }
        if role == "tool" {
            let id = string(message, at, "tool_call_id")?
                .ok_or_else(|| Refusal::at(format!("messages[{at}]"), "missing field `tool_call_id`"))?;
            let Some(place) = self.open.iter().position(|open| open == id) else {
                return Err(Refusal::at(
                    format!("messages[{at}].role"),
                    "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
                ));
            };
            self.open.remove(place);
        } else {
            self.answered()?;
        }
        let (text, runs, there) = self.content(at, role, message.get("content"))?;
        if role == "assistant" {
            self.assistant(at, message, (text, runs, there))?;
        } else if !there {
            return Err(Refusal::at(format!("messages[{at}].content"), "missing field `content`"));
        }
        if role == "user" {
            for said in &mut self.said {
                said.old = true;
            }
        }
        self.after_assistant = role == "assistant";
        Ok(())
    }

    /// Whatever was called has been answered.
    fn answered(&self) -> Result<(), Refusal> {
        if self.open.is_empty() {
            return Ok(());
        }
        Err(Refusal::request(format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
            self.open.join(", ")
        )))
    }

    fn assistant(
        &mut self,
        at: usize,
        message: &Map<String, Value>,
        (text, runs, there): (String, Vec<(bool, String)>, bool),
    ) -> Result<(), Refusal> {
        let mut said = Said { at, text, runs, continues: self.after_assistant, ..Said::default() };
        let calls = match message.get("tool_calls") {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(calls)) if !calls.is_empty() => calls,
            Some(other) => return Err(wrong(at, "tool_calls", "a list that is not empty", other)),
        };
        for (number, call) in calls.iter().enumerate() {
            let (call, signature) = self.call(at, number, call)?;
            if self.open.contains(&call.id) {
                return Err(Refusal::at(
                    format!("messages[{at}].tool_calls[{number}].id"),
                    format!("Duplicate value for 'tool_call_id' of '{}'", call.id),
                ));
            }
            self.open.push(call.id.clone());
            said.calls.push(call);
            said.signatures.push(signature);
        }
        if !there && said.calls.is_empty() {
            return Err(Refusal::at(
                format!("messages[{at}]"),
                "Invalid assistant message: content or tool_calls must be set",
            ));
        }
        for field in REASONING {
            let Some(value) = message.get(field).filter(|value| !value.is_null()) else {
                continue;
            };
            let fits = match field {
                "reasoning_details" => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
                "extra_content" => value.is_object(),
                _ => value.is_string(),
            };
            if !fits {
                let kind = match field {
                    "reasoning_details" => "a list of objects",
                    "extra_content" => "an object",
                    _ => "a string",
                };
                return Err(wrong(at, field, kind, value));
            }
            said.fields.insert(field.to_owned(), value.clone());
        }
        said.signature = self.extra(message.get("extra_content"), &format!("messages[{at}]"))?;
        if self.flavour.is_google() && said.signature.is_none() {
            said.signature = string(message, at, "thought_signature")?.map(ToOwned::to_owned);
        }
        self.said.push(said);
        Ok(())
    }

    fn call(&self, at: usize, number: usize, value: &Value) -> Result<(Call, Option<String>), Refusal> {
        let place = format!("messages[{at}].tool_calls[{number}]");
        let missing = |field: &str| Refusal::at(place.clone(), format!("{place}: missing field `{field}`"));
        let Value::Object(call) = value else {
            return Err(wrong(at, "tool_calls", "a list of objects", value));
        };
        let known = |field: &str| {
            matches!(field, "id" | "type" | "function" | "index")
                || (field == "extra_content" && self.flavour.is_google())
        };
        if self.strict
            && let Some((field, value)) = call.iter().find(|(field, _)| !known(field))
        {
            let field = format!("tool_calls.{number}.{field}");
            return Err(Refusal::unknown_field(self.flavour, at, "assistant", &field, value));
        }
        let id = string(call, at, "id")?.ok_or_else(|| missing("id"))?;
        if self.flavour == Flavour::Mistral && (id.len() != 9 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            return Err(Refusal::request(format!(
                "Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9."
            )));
        }
        if call.get("type").is_some_and(|kind| kind != "function") {
            return Err(Refusal::at(place, "unknown variant of tool call: expected `function`"));
        }
        let function = call.get("function").ok_or_else(|| missing("function"))?;
        let name = function.get("name").and_then(Value::as_str).ok_or_else(|| missing("function.name"))?;
        let arguments =
            function.get("arguments").and_then(Value::as_str).ok_or_else(|| missing("function.arguments"))?;
        let args = if arguments.is_empty() { Ok(json!({})) } else { serde_json::from_str(arguments) };
        let args = args.map_err(|error| {
            Refusal::at(place.clone(), format!("{place}.function.arguments is not valid JSON: {error}"))
        })?;
        let signature = self.extra(call.get("extra_content"), &place)?;
        Ok((Call { id: id.to_owned(), name: name.to_owned(), args }, signature))
    }

    /// The signature in an `extra_content`.
    fn extra(&self, value: Option<&Value>, place: &str) -> Result<Option<String>, Refusal> {
        let (Manner::Signature(namespace), Some(Value::Object(extra))) = (self.flavour.manner(), value) else {
            return Ok(None);
        };
        let unknown = |name: &str, at: String| {
            Refusal::request(format!(
                "Invalid JSON payload received. Unknown name {name:?} at '{at}': Cannot find field."
            ))
        };
        if let Some(other) = extra.keys().find(|name| *name != namespace) {
            return Err(unknown(other, format!("{place}.extra_content")));
        }
        let Some(Value::Object(inner)) = extra.get(namespace) else {
            return Ok(None);
        };
        if let Some(other) = inner.keys().find(|name| !matches!(name.as_str(), "thought" | "thought_signature")) {
            return Err(unknown(other, format!("{place}.extra_content.{namespace}")));
        }
        match inner.get("thought_signature") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(signature)) if signature.is_empty() => Ok(None),
            Some(Value::String(signature)) => Ok(Some(signature.clone())),
            Some(other) => Err(Refusal::request(format!(
                "Invalid value at '{place}.extra_content.{namespace}.thought_signature' (TYPE_BYTES), {other}"
            ))),
        }
    }

    /// The text of a content, its runs if it is made of chunks, and whether there is any content.
    #[expect(clippy::type_complexity, reason = "three parts that are taken apart at once")]
    fn content(
        &self,
        at: usize,
        role: &str,
        value: Option<&Value>,
    ) -> Result<(String, Vec<(bool, String)>, bool), Refusal> {
        let chunks = match value {
            None | Some(Value::Null) => return Ok((String::new(), Vec::new(), false)),
            Some(Value::String(text)) => return Ok((text.clone(), Vec::new(), true)),
            Some(Value::Array(chunks)) => chunks,
            Some(other) => return Err(wrong(at, "content", "a string or a list", other)),
        };
        let mut runs: Vec<(bool, String)> = Vec::new();
        for chunk in chunks {
            let kind = chunk.get("type").and_then(Value::as_str).unwrap_or_default();
            let (thinking, text) = match kind {
                "text" => {
                    let text = chunk.get("text").and_then(Value::as_str);
                    let text = text.ok_or_else(|| wrong(at, "content", "text in each part of type `text`", chunk))?;
                    if text.is_empty() && self.flavour == Flavour::Kimi {
                        return Err(Refusal::request("Invalid request: text content is empty"));
                    }
                    (false, text.to_owned())
                }
                "thinking" if self.flavour == Flavour::Mistral && role == "assistant" => (true, thinking(at, chunk)?),
                "image_url" | "input_audio" | "file" | "video_url" if role != "assistant" => continue,
                "refusal" if role == "assistant" => continue,
                other => {
                    return Err(Refusal::at(
                        format!("messages[{at}].content"),
                        format!("messages[{at}]: unknown variant `{other}`, expected `text`"),
                    ));
                }
            };
            match runs.last_mut() {
                Some((last, run)) if *last == thinking => run.push_str(&text),
                _ => runs.push((thinking, text)),
            }
        }
        let text = runs.iter().filter(|(thinking, _)| !thinking).map(|(_, text)| text.as_str()).collect();
        Ok((text, runs, true))
    }
}

/// The text of a chunk of thinking.
fn thinking(at: usize, chunk: &Value) -> Result<String, Refusal> {
    let malformed = || wrong(at, "content", "a chunk of thinking", chunk);
    let fields = chunk.as_object().ok_or_else(malformed)?;
    let closed = fields.get("closed").is_none_or(Value::is_boolean);
    if !closed || fields.keys().any(|field| !matches!(field.as_str(), "type" | "thinking" | "closed")) {
        return Err(malformed());
    }
    let inner = fields.get("thinking").and_then(Value::as_array).ok_or_else(malformed)?;
    inner
        .iter()
        .map(|part| match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => Ok(text),
            _ => Err(malformed()),
        })
        .collect()
}

fn string<'a>(object: &'a Map<String, Value>, at: usize, name: &str) -> Result<Option<&'a str>, Refusal> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(at, name, "a string", other)),
    }
}

fn wrong(at: usize, name: &str, kind: &str, value: &Value) -> Refusal {
    let place = if name.is_empty() { format!("messages[{at}]") } else { format!("messages[{at}].{name}") };
    Refusal::at(place.clone(), format!("Invalid type for '{place}': expected {kind}, got {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: &Value, flavour: Flavour, strict: bool) -> Result<Asked, String> {
        super::read(&json!({"model": "m", "messages": messages}), flavour, strict).map_err(|refusal| refusal.message)
    }

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})
    }

    #[test]
    fn steps_count_neighbours_once() {
        let messages = json!([
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": "Well,", "reasoning_content": ""},
            {"role": "assistant", "tool_calls": [call("a")]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "assistant", "content": [{"type": "text", "text": "Do"}, {"type": "text", "text": "ne."}]},
        ]);
        let asked = read(&messages, Flavour::DeepSeek, true).unwrap();
        assert_eq!((asked.steps, asked.said.len(), asked.said[2].text.as_str()), (2, 3, "Done."));
        assert_eq!(asked.said[0].fields["reasoning_content"], "");
        assert!(asked.said[1].continues && !asked.said[2].continues && !asked.said[0].old);
    }

    #[test]
    fn names_what_it_cannot_read() {
        let cases = [
            (json!([]), "Empty input messages"),
            (json!(["x"]), "expected an object"),
            (json!([{"role": "model", "content": ""}]), "Invalid value: 'model'"),
            (json!([{"role": "user"}]), "missing field `content`"),
            (json!([{"role": "user", "content": 1}]), "expected a string or a list"),
            (json!([{"role": "user", "content": [{"type": "thinking"}]}]), "unknown variant `thinking`"),
            (json!([{"role": "assistant"}]), "content or tool_calls must be set"),
            (json!([{"role": "assistant", "tool_calls": []}]), "a list that is not empty"),
            (json!([{"role": "assistant", "tool_calls": [{"id": "a"}]}]), "missing field `function`"),
            (json!([{"role": "assistant", "content": "", "reasoning_content": 1}]), "expected a string, got 1"),
            (json!([{"role": "assistant", "content": "", "reasoning_details": [1]}]), "a list of objects"),
            (json!([{"role": "assistant", "tool_calls": [call("a"), call("a")]}]), "Duplicate value"),
            (json!([{"role": "tool", "tool_call_id": "a", "content": ""}]), "Messages with role 'tool' must be"),
            (json!([{"role": "tool", "content": ""}]), "missing field `tool_call_id`"),
            (
                json!([{"role": "assistant", "tool_calls": [call("a")]}, {"role": "user", "content": ""}]),
                "An assistant message with 'tool_calls' must be followed by tool messages",
            ),
            (
                json!([{"role": "assistant", "content": null, "tool_calls": [call("a")]}]),
                "did not have response messages: a",
            ),
            (json!([{"role": "assistant", "content": "", "extra_content": {"vertex": {}}}]), "Unknown name \"vertex\""),
        ];
        for (messages, message) in cases {
            let said = read(&messages, Flavour::Gemini, false).unwrap_err();
            assert!(said.contains(message), "{said}");
        }
        let tone = json!([{"role": "user", "content": "", "tone": 1}]);
        assert!(read(&tone, Flavour::Gemini, false).is_ok());
        assert!(read(&tone, Flavour::Gemini, true).unwrap_err().contains("Unknown name \"tone\" at 'messages[0]'"));
    }
}
