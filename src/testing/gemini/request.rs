//! Reads a request's contents as the provider's JSON reader does.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use crate::testing::provider::base64;

#[derive(Debug)]
pub(super) struct Content {
    pub(super) model: bool,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) data: Data,
    pub(super) thought: bool,
    /// Decoded; absent if the field is absent or empty.
    pub(super) signature: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(super) enum Data {
    Text(String),
    Call {
        name: String,
        args: Value,
        id: Option<String>,
    },
    Response {
        id: Option<String>,
    },
    /// By its identity: type and hash, or URI.
    Media(Value),
    /// Any other part, as `{"executableCode": {…}}`, without its id.
    Native(Value),
}

impl Content {
    pub(super) fn has_response(&self) -> bool {
        self.responses() > 0
    }

    pub(super) fn responses(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part.data, Data::Response { .. })).count()
    }

    pub(super) fn calls(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part.data, Data::Call { .. })).count()
    }
}

/// How many model turns there are; neighbouring model contents are one.
pub(super) fn model_turns(contents: &[Content]) -> usize {
    contents
        .iter()
        .enumerate()
        .filter(|(at, content)| {
            content.model
                && !at.checked_sub(1).and_then(|before| contents.get(before)).is_some_and(|before| before.model)
        })
        .count()
}

/// What may stand in a part. All of them but those aside are its one datum.
const PART: &[&str] = &[
    "thought",
    "thoughtSignature",
    "videoMetadata",
    "partMetadata",
    "mediaResolution",
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];
const ASIDE: [&str; 5] = ["thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution"];

/// Reads `contents`, whose fields are named with `prefix` in refusals.
pub(super) fn contents(value: Option<&Value>, prefix: &str, rejects_ids: bool) -> Result<Vec<Content>, Refusal> {
    let empty = || Refusal::argument("* GenerateContentRequest.contents: contents is not specified\n");
    let list = list(value.ok_or_else(empty)?);
    if list.is_empty() {
        return Err(empty());
    }
    list.iter().enumerate().map(|(at, value)| content(value, &format!("{prefix}contents[{at}]"), rejects_ids)).collect()
}

/// A repeated field; a single object stands for a list of one.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        single => std::slice::from_ref(single),
    }
}

fn content(value: &Value, at: &str, rejects_ids: bool) -> Result<Content, Refusal> {
    let fields = fields(value, at, Some(&["role", "parts"]))?;
    let model = match fields.get("role").map(|role| string(role, at, "role")).transpose()?.unwrap_or("user") {
        "user" | "function" | "" => false,
        "model" => true,
        _ => return Err(Refusal::argument("Please use a valid role: user, model.")),
    };
    let parts = fields.get("parts").map_or(&[][..], |parts| list(parts));
    if parts.is_empty() {
        return Err(Refusal::argument(format!(
            "* GenerateContentRequest.{at}.parts: contents.parts must not be empty.\n"
        )));
    }
    let parts = parts
        .iter()
        .enumerate()
        .map(|(number, value)| part(value, &format!("{at}.parts[{number}]"), rejects_ids))
        .collect::<Result<_, _>>()?;
    Ok(Content { model, parts })
}

fn part(value: &Value, at: &str, rejects_ids: bool) -> Result<Part, Refusal> {
    let fields = fields(value, at, Some(PART))?;
    let thought = match fields.get("thought") {
        None => false,
        Some(Value::Bool(thought)) => *thought,
        Some(other) => return Err(wrong(at, "thought", "TYPE_BOOL", other)),
    };
    let signature = match fields.get("thoughtSignature") {
        None => None,
        Some(value) => Some(bytes(string(value, at, "thought_signature")?, at, "thought_signature")?),
    };
    let signature = signature.filter(|signature| !signature.is_empty());
    let mut data = fields.iter().filter(|(name, _)| !ASIDE.contains(&name.as_str()));
    let Some((name, value)) = data.next() else {
        return Err(Refusal::argument(format!(
            "* GenerateContentRequest.{at}.data: required oneof field 'data' must have one initialized field\n"
        )));
    };
    if let Some((other, _)) = data.next() {
        return Err(Refusal::field(
            at,
            format!("Invalid value at '{at}' (oneof), oneof field 'data' is already set. Cannot set '{other}'"),
        ));
    }
    let inside = format!("{at}.{}", snake(name));
    let data = match name.as_str() {
        "text" => Data::Text(string(value, at, "text")?.to_owned()),
        "functionCall" => {
            let call = self::fields(value, &inside, Some(&["id", "name", "args", "partialArgs", "willContinue"]))?;
            let args = match call.get("args") {
                None => json!({}),
                Some(args @ Value::Object(_)) => (*args).clone(),
                Some(other) => {
                    return Err(wrong(&inside, "args", "type.googleapis.com/google.protobuf.Struct", other));
                }
            };
            Data::Call { name: name_of(&call, &inside)?, args, id: id(&call, &inside, rejects_ids)? }
        }
        "functionResponse" => {
            let allowed = ["id", "name", "response", "parts", "willContinue", "scheduling"];
            let response = self::fields(value, &inside, Some(&allowed))?;
            name_of(&response, &inside)?;
            Data::Response { id: id(&response, &inside, rejects_ids)? }
        }
        "inlineData" => {
            let blob = self::fields(value, &inside, Some(&["mimeType", "data", "displayName"]))?;
            let mime_type = blob.get("mimeType").map(|text| string(text, &inside, "mime_type")).transpose()?;
            let data = blob.get("data").map(|text| string(text, &inside, "data")).transpose()?;
            Data::Media(media(mime_type.unwrap_or_default(), &bytes(data.unwrap_or_default(), &inside, "data")?))
        }
        "fileData" => {
            let file = self::fields(value, &inside, Some(&["mimeType", "fileUri", "displayName"]))?;
            Data::Media(json!({"fileUri": file.get("fileUri")}))
        }
        _ => {
            let mut native: Map<String, Value> =
                self::fields(value, &inside, None)?.into_iter().map(|(key, value)| (key, value.clone())).collect();
            native.remove("id");
            let mut outer = Map::new();
            outer.insert(name.clone(), native.into());
            Data::Native(outer.into())
        }
    };
    Ok(Part { data, thought, signature })
}

/// What a medium is, so that two can be compared.
pub(super) fn media(mime_type: &str, bytes: &[u8]) -> Value {
    json!({"mimeType": mime_type, "blake3": blake3::hash(bytes).to_hex().as_str()})
}

fn name_of(fields: &BTreeMap<String, &Value>, at: &str) -> Result<String, Refusal> {
    match fields.get("name").map(|name| string(name, at, "name")).transpose()? {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Refusal::argument(format!("* GenerateContentRequest.{at}.name: Name cannot be empty.\n"))),
    }
}

fn id(fields: &BTreeMap<String, &Value>, at: &str, rejects: bool) -> Result<Option<String>, Refusal> {
    match fields.get("id") {
        Some(_) if rejects => Err(Refusal::unknown_name("id", at)),
        id => Ok(id.map(|id| string(id, at, "id")).transpose()?.map(ToOwned::to_owned)),
    }
}

/// The fields of a message under their camel-case names. Nulls are absent.
fn fields<'a>(value: &'a Value, at: &str, known: Option<&[&str]>) -> Result<BTreeMap<String, &'a Value>, Refusal> {
    let Value::Object(object) = value else {
        return Err(Refusal::field(
            at,
            format!("Invalid value at '{at}' (type.googleapis.com/google.protobuf.Message), {value}"),
        ));
    };
    let mut fields = BTreeMap::new();
    for (key, value) in object {
        let name = camel(key);
        if known.is_some_and(|known| !known.contains(&name.as_str())) {
            return Err(Refusal::unknown_name(key, at));
        }
        if fields.insert(name, value).is_some() {
            return Err(Refusal::field(
                at,
                format!(
                    "Invalid JSON payload received. Field {key:?} at '{at}' is given twice, under both of its names."
                ),
            ));
        }
    }
    fields.retain(|_, value| !value.is_null());
    Ok(fields)
}

fn string<'a>(value: &'a Value, at: &str, name: &str) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| wrong(at, name, "TYPE_STRING", value))
}

fn bytes(text: &str, at: &str, name: &str) -> Result<Vec<u8>, Refusal> {
    base64::decode(text).ok_or_else(|| {
        let field = format!("{at}.{name}");
        let message = format!("Invalid value at '{field}' (TYPE_BYTES), Base64 decoding failed for {text:?}");
        Refusal::field(&field, message)
    })
}

fn wrong(at: &str, name: &str, kind: &str, value: &Value) -> Refusal {
    let field = format!("{at}.{name}");
    let message = format!("Invalid value at '{field}' ({kind}), {value}");
    Refusal::field(&field, message)
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        if let Some(first) = letters.next() {
            out.push(first.to_ascii_uppercase());
            out.push_str(letters.as_str());
        }
    }
    out
}

fn snake(key: &str) -> String {
    let mut out = String::new();
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &Value) -> Result<Vec<Content>, String> {
        super::contents(Some(contents), "", false).map_err(|refusal| refusal.message)
    }

    #[test]
    fn takes_both_spellings_but_not_together() {
        let contents = read(&json!([{"role": "model", "parts": [
            {"function_call": {"name": "f"}, "thoughtSignature": "AAAA"},
            {"functionCall": {"name": "f", "args": {}}, "thought_signature": ""},
        ]}]))
        .unwrap();
        assert_eq!(contents[0].calls(), 2);
        assert!(contents[0].parts[0].signature.is_some() && contents[0].parts[1].signature.is_none());
        let both = json!([{"parts": [{"text": "", "thoughtSignature": "AAAA", "thought_signature": "AAAA"}]}]);
        assert!(read(&both).unwrap_err().starts_with("Invalid JSON payload received."));
    }

    #[test]
    fn names_what_it_cannot_read() {
        let cases = [
            (json!([]), "contents is not specified"),
            (json!([{"role": "assistant", "parts": [{"text": ""}]}]), "Please use a valid role: user, model."),
            (json!([{"role": "user"}]), "must not be empty"),
            (json!([{"parts": [{}]}]), "required oneof field 'data'"),
            (json!([{"parts": [{"thoughtSignature": "AAAA"}]}]), "required oneof field 'data'"),
            (json!([{"parts": [{"text": "", "functionCall": {"name": "f"}}]}]), "is already set"),
            (json!([{"parts": [{"text": 1}]}]), "(TYPE_STRING), 1"),
            (
                json!([{"parts": [{"text": "", "signature": ""}]}]),
                r#"Unknown name "signature" at 'contents[0].parts[0]'"#,
            ),
            (
                json!([{"parts": [{"functionCall": {"name": "f", "thoughtSignature": "AAAA"}}]}]),
                r#"Unknown name "thoughtSignature" at 'contents[0].parts[0].function_call'"#,
            ),
            (
                json!([{"parts": [{"text": "", "thoughtSignature": "a b"}]}]),
                r#"Invalid value at 'contents[0].parts[0].thought_signature' (TYPE_BYTES), Base64 decoding failed for "a b""#,
            ),
            (json!([{"parts": [{"functionCall": {"name": "f", "args": []}}]}]), "Invalid value at"),
            (json!([{"parts": [{"functionCall": {}}]}]), "Name cannot be empty"),
            (json!(["x"]), "Invalid value at 'contents[0]'"),
        ];
        for (contents, message) in cases {
            let said = read(&contents).unwrap_err();
            assert!(said.contains(message), "{said}");
        }
    }
}
