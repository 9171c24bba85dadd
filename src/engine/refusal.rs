//! What a provider's refusal says about remembered state, read off the raw body of the error.
//!
//! Gateways and routers relay refusals in many forms: wrapped in objects and arrays, quoted once or twice
//! inside JSON strings, prefixed, upper-cased, under another status code. So the body is not parsed. It is
//! un-escaped, stripped of quotes and back-ticks, lower-cased, and searched for the phrases that the
//! providers use:
//! [Gemini](https://ai.google.dev/gemini-api/docs/thought-signatures),
//! [Claude](https://platform.claude.com/docs/en/build-with-claude/extended-thinking),
//! [OpenAI](https://developers.openai.com/api/docs/guides/reasoning),
//! [DeepSeek](https://api-docs.deepseek.com/guides/thinking_mode).
//!
//! Only errors are looked at, never a model's answer: a model may well talk about thought signatures. An
//! error body that quotes the user's text can still be misread; the engine acts on a verdict only where it
//! has put something into the request itself or could do so.
//!
//! # Limits
//!
//! The first 64 KiB of a body are looked at. Time is linear and memory bounded by a small multiple of that.
//!
//! # Examples
//!
//! ```
//! use tower_reasoning_replay::engine::refusal::{Refusal, classify};
//!
//! let body = br#"{"error":{"code":400,"message":"Corrupted thought signature.","status":"INVALID_ARGUMENT"}}"#;
//! assert_eq!(classify(400, body).map(|verdict| verdict.refusal), Some(Refusal::Invalid));
//! assert_eq!(classify(200, body), None);
//! ```

use std::{collections::BTreeMap, fmt};

use memchr::memmem;
use serde_json::value::RawValue;

/// How much of a body is looked at, in bytes.
const LOOKED_AT: usize = 64 << 10;

/// The longest event that is searched for an error, in bytes.
const LONGEST_EVENT: usize = 1 << 20;

/// How far apart the words of one statement may stand, in bytes.
const STATEMENT: usize = 512;

/// The longest name or id that is read off a body, in bytes.
const LONGEST_NAME: usize = 256;

/// Why a provider refused a request, as far as reasoning state is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// State is missing that would have helped. Nothing is to be forgotten.
    Missing,
    /// The shape of the history is wrong; an insertion may be at fault. It is to be rolled back, and
    /// nothing to be forgotten.
    Structure,
    /// State that was sent is not accepted. What was put in at the [`Place`] is to be forgotten; if no
    /// place is named, everything that was put in.
    Invalid,
}

/// Where in the request the provider found fault, as far as it says so.
///
/// Its `Debug` output shows positions, but neither names nor ids.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The position of the content, message or input item, counted from 0.
    pub content: Option<usize>,
    /// The position of the part or block in it, counted from 0.
    pub part: Option<usize>,
    /// The name of the called function, without Gemini's `default_api:`.
    pub call: Option<String>,
    /// The id of the item: of the reasoning item if one is named, else of the item or call.
    pub item: Option<String>,
}

impl Place {
    /// Whether the provider named no place at all.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |name: &Option<String>| name.as_ref().map(|_| format_args!("..").to_string());
        f.debug_struct("Place")
            .field("content", &self.content)
            .field("part", &self.part)
            .field("call", &hidden(&self.call))
            .field("item", &hidden(&self.item))
            .finish()
    }
}

/// A refusal that concerns reasoning state, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// What kind of refusal it is.
    pub refusal: Refusal,
    /// What the provider says about the place.
    pub place: Place,
    /// The provider says that it looks at what precedes the state: it is bound to the conversation.
    pub bound: bool,
}

/// Classifies an error response; `None` if it is no error or does not concern reasoning state.
///
/// Looked at are 400, 404 and 422, and the codes under which gateways relay another provider's refusal: 429
/// and 5xx. There the words of a phrase must stand in one statement.
#[must_use]
pub fn classify(status: u16, body: &[u8]) -> Option<Verdict> {
    let spread = match status {
        400 | 404 | 422 => Spread::Body,
        429 | 500..=599 => Spread::Statement,
        _ => return None,
    };
    Text::new(body).verdict(spread)
}

/// Classifies one event of a stream whose status was 200; `None` unless the event is a terminal error that
/// concerns reasoning state.
///
/// An error is `{"error":…}`, alone or in an array, `{"type":"error",…}` and `{"type":"response.failed",…}`. Only what
/// describes the error is looked at, not what the model had said until then. Events over 1 MiB are not
/// looked at.
#[must_use]
pub fn classify_event(json: &[u8]) -> Option<Verdict> {
    if json.len() > LONGEST_EVENT || memmem::find(json, b"error").is_none() {
        return None;
    }
    let description = match json.trim_ascii_start().first()? {
        b'[' => serde_json::from_slice::<Vec<&RawValue>>(json)
            .ok()?
            .into_iter()
            .find_map(|element| description(element.get().as_bytes()))?,
        _ => description(json)?,
    };
    Text::new(&description).verdict(Spread::Body)
}

/// The members of an error object that describe the error, one a line.
fn description(json: &[u8]) -> Option<Vec<u8>> {
    type Object<'a> = BTreeMap<String, &'a RawValue>;
    let object: Object<'_> = serde_json::from_slice(json).ok()?;
    let is = |kind: &str| {
        let value = object.get("type").and_then(|value| serde_json::from_str::<String>(value.get()).ok());
        value.is_some_and(|value| value == kind)
    };
    let told = |value: &&RawValue| !matches!(value.get(), "null" | "false" | "\"\"" | "{}" | "[]");
    let error = object.get("error").copied().filter(told);
    let mut members = vec![error];
    if is("response.failed") {
        let response = object.get("response").map(|response| response.get());
        let response = response.and_then(|response| serde_json::from_str::<Object<'_>>(response).ok());
        members.push(response.and_then(|response| response.get("error").copied()));
    } else if error.is_some() || is("error") {
        members.extend(["code", "message", "param", "detail"].map(|name| object.get(name).copied()));
    }
    let mut description = Vec::new();
    for member in members.into_iter().flatten() {
        description.extend_from_slice(clip(member.get().as_bytes()));
        description.push(b'\n');
    }
    (!description.is_empty()).then_some(description)
}

fn clip(body: &[u8]) -> &[u8] {
    body.get(..LOOKED_AT).unwrap_or(body)
}

/// How far apart the words of a phrase may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    Body,
    Statement,
}

/// Phrases, and sets of words that make a phrase when they stand in one statement, by kind of refusal. They
/// are tested in this order and the first hit wins: several messages of a later kind quote the words of
/// another. All are lower-case and without quotes.
const MISSING: &[&[&str]] = &[
    &["missing a thought_signature"],
    &["missing a thought signature"],
    &["missing thought_signature"],
    &["missing_thought_signature"],
    &["must start with a thinking block"],
    &["must be thinking"],
    &["expected", "thinking", "found"],
    &["must be passed back"],
    &["reasoning_content is missing"],
    &["without its required reasoning item"],
];

const STRUCTURE: &[&[&str]] = &[
    &["without its required following item"],
    &["duplicate item found"],
    &["duplicate function_call_output"],
    &["item with id", "not found"],
    &["no tool call found for"],
    &["no tool output found for"],
    &["number of function response parts"],
    &["function call turn comes immediately after"],
    &["cannot be modified"],
    &["cannot contain thinking"],
    &["final block in an assistant message cannot be"],
    &["bound to a different conversation"],
    &["extra inputs are not permitted"],
];

/// What a provider says that binds state to what precedes it.
const BOUND: &[&[&str]] = &[&["bound to a different conversation"], &["preceded this", "when it was created"]];

const INVALID: &[&[&str]] =
    &[&["signature: field required"], &["thinking.thinking: field required"], &["different azure openai resource"]];

/// What is not accepted, to be found together with one of [`FAULTS`].
const STATE: &[&[&str]] = &[
    &["thought_signature"],
    &["thought signature"],
    &["thoughtsignature"],
    &["encrypted_content"],
    &["encrypted content"],
    &["encrypted function output"],
    &["reasoning_content"],
    &["thinking", "signature"],
    &["redacted_thinking", "data"],
    &["compaction blob"],
];

const FAULTS: &[&str] = &[
    "invalid",
    "corrupt",
    "not valid",
    "verif",
    "decrypt",
    "reject",
    "decod",
    "not issued",
    "did not match",
    "field required",
];

/// A body made readable: un-escaped at any depth, without quotes and back-ticks, white space collapsed.
struct Text {
    plain: Vec<u8>,
    lower: Vec<u8>,
}

impl Text {
    fn new(body: &[u8]) -> Self {
        let plain = unescape(clip(body));
        let lower = plain.to_ascii_lowercase();
        Self { plain, lower }
    }

    fn verdict(&self, spread: Spread) -> Option<Verdict> {
        let refusal = if self.says(MISSING) {
            Refusal::Missing
        } else if self.says(STRUCTURE) {
            Refusal::Structure
        } else if self.says(INVALID) || self.blames_state(spread) || self.blames_block() {
            Refusal::Invalid
        } else {
            return None;
        };
        Some(Verdict { refusal, place: self.place(), bound: self.says(BOUND) })
    }

    fn says(&self, phrases: &[&[&str]]) -> bool {
        phrases.iter().any(|words| match words {
            [phrase] => has(&self.lower, phrase),
            // The search of the whole body comes first, because it nearly always ends the matter.
            words => has_all(&self.lower, words) && self.statements().any(|part| has_all(part, words)),
        })
    }

    fn blames_state(&self, spread: Spread) -> bool {
        let blamed =
            |text: &[u8]| STATE.iter().any(|words| has_all(text, words)) && FAULTS.iter().any(|fault| has(text, fault));
        blamed(&self.lower) && (spread == Spread::Body || self.statements().any(blamed))
    }

    /// `messages.3.content.0: Invalid signature`, which says nothing of thinking.
    fn blames_block(&self) -> bool {
        positions(&self.lower, ": invalid signature").any(|at| {
            let path = self.lower[..at].trim_ascii_end();
            let digits = path.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            digits > 0 && path[..path.len() - digits].ends_with(b".content.")
        })
    }

    /// Overlapping pieces of the text, so that whatever stands in one statement stands in one of them.
    fn statements(&self) -> impl Iterator<Item = &[u8]> {
        let text = &self.lower;
        (0..text.len()).step_by(STATEMENT).map(move |start| &text[start..text.len().min(start + 2 * STATEMENT)])
    }

    fn place(&self) -> Place {
        let mut place = self.position().unwrap_or_default();
        place.item = self.item();
        place
    }

    /// The position, in one of the providers' notations. Gemini's prose counts from 1, paths from 0.
    fn position(&self) -> Option<Place> {
        self.position_in_prose()
            .or_else(|| self.position_of_call())
            .or_else(|| self.position_of_block())
            .or_else(|| self.path("contents", "parts"))
            .or_else(|| self.path("messages", "content"))
            .or_else(|| self.path("input", "content"))
            .or_else(|| {
                let (content, _) = positions(&self.lower, "message at index ")
                    .find_map(|at| self.number(at + "message at index ".len()))?;
                Some(Place { content: Some(content), ..Place::default() })
            })
    }

    /// `in content position 3, part position 1`.
    fn position_in_prose(&self) -> Option<Place> {
        const CONTENT: &str = "content position ";
        const PART: &str = ", part position ";
        positions(&self.lower, CONTENT).find_map(|at| {
            let (content, end) = self.number(at + CONTENT.len())?;
            let part = self.lower[end..].starts_with(PART.as_bytes());
            let part = part.then(|| self.number(end + PART.len())).flatten();
            Some(Place {
                content: Some(content.checked_sub(1)?),
                part: part.and_then(|(part, _)| part.checked_sub(1)),
                ..Place::default()
            })
        })
    }

    /// `` function call `default_api:Bash` , position 2 ``.
    fn position_of_call(&self) -> Option<Place> {
        const POSITION: &str = ", position ";
        positions(&self.lower, POSITION).find_map(|at| {
            let (content, _) = self.number(at + POSITION.len())?;
            let call = self.call_before(at)?;
            Some(Place { content: content.checked_sub(1), call: Some(call), ..Place::default() })
        })
    }

    /// `` function call `default_api:Bash` in the 2. content block ``.
    fn position_of_block(&self) -> Option<Place> {
        const BLOCK: &str = ". content block";
        const IN_THE: &[u8] = b" in the ";
        positions(&self.lower, BLOCK).find_map(|at| {
            let digits = self.lower[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let (content, _) = self.number(at - digits)?;
            let before = self.lower[..at - digits].strip_suffix(IN_THE)?;
            Some(Place {
                content: Some(content.checked_sub(1)?),
                call: self.call_before(before.len()),
                ..Place::default()
            })
        })
    }

    /// `contents[6].parts[0]` or `messages.1.content.0`, whichever way it is written.
    fn path(&self, contents: &str, parts: &str) -> Option<Place> {
        positions(&self.lower, contents).find_map(|at| {
            let (content, end) = self.step(at + contents.len())?;
            let inner = end + 1 + parts.len();
            let named = self.lower.get(end..inner);
            let named = named.is_some_and(|named| named[0] == b'.' && named[1..] == *parts.as_bytes());
            let part = named.then(|| self.step(inner)).flatten();
            Some(Place { content: Some(content), part: part.map(|(part, _)| part), ..Place::default() })
        })
    }

    /// One step of a path, `[6]` or `.6`, and where it ends.
    fn step(&self, at: usize) -> Option<(usize, usize)> {
        let (number, end) = self.number(at + 1)?;
        match self.lower.get(at)? {
            b'.' => Some((number, end)),
            b'[' if self.lower.get(end) == Some(&b']') => Some((number, end + 1)),
            _ => None,
        }
    }

    /// The number that starts here, and where it ends.
    fn number(&self, at: usize) -> Option<(usize, usize)> {
        let text = self.lower.get(at..)?;
        let digits = text.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..10).contains(&digits) {
            return None;
        }
        let number = str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
        Some((number, at + digits))
    }

    /// The name in `function call <name>` that ends here.
    fn call_before(&self, end: usize) -> Option<String> {
        const CALL: &[u8] = b"function call ";
        const PREFIX: &str = "default_api:";
        let from = end.saturating_sub(CALL.len() + LONGEST_NAME + 2);
        let start = from + memmem::rfind(&self.lower[from..end], CALL)? + CALL.len();
        let name = str::from_utf8(&self.plain[start..end]).ok()?.trim();
        let name = match name.get(..PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &name[PREFIX.len()..],
            _ => name,
        };
        let real = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_whitespace);
        real.then(|| name.to_owned())
    }

    fn item(&self) -> Option<String> {
        let before = ["required reasoning item: ", "for item ", "with id "];
        let named =
            |prefix: &&str| positions(&self.lower, prefix).find_map(|at| self.id(at + prefix.len())).map(|(id, _)| id);
        before
            .iter()
            .find_map(named)
            .or_else(|| {
                positions(&self.lower, "item ").find_map(|at| {
                    let (id, end) = self.id(at + "item ".len())?;
                    self.lower[end..].starts_with(b" of type ").then_some(id)
                })
            })
            .or_else(|| named(&"call_id "))
    }

    /// The id that starts here, and where it ends; `None` for plain words and ids that were shortened.
    fn id(&self, at: usize) -> Option<(String, usize)> {
        let text = &self.plain[at..];
        let belongs = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.:|/+=".contains(byte);
        let length = text.iter().take(LONGEST_NAME + 1).take_while(belongs).count();
        let end = at + length;
        let id = str::from_utf8(&text[..length]).ok()?;
        let shortened = id.contains("..") || text[length..].starts_with("…".as_bytes());
        let id = id.trim_end_matches(['.', ':']);
        let real = length <= LONGEST_NAME && id.bytes().any(|byte| byte.is_ascii_digit() || byte == b'_');
        (real && !shortened).then(|| (id.to_owned(), end))
    }
}

fn has(text: &[u8], phrase: &str) -> bool {
    memmem::find(text, phrase.as_bytes()).is_some()
}

fn has_all(text: &[u8], words: &[&str]) -> bool {
    words.iter().all(|word| has(text, word))
}

fn positions(text: &[u8], phrase: &str) -> impl Iterator<Item = usize> {
    memmem::find_iter(text, phrase.as_bytes())
}

/// Undoes JSON's escapes at any depth, drops quotes and back-ticks, and collapses white space.
///
/// A run of backslashes counts as one: that is what quoting JSON inside JSON strings makes longer.
fn unescape(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len());
    let mut push = |byte: u8| match byte {
        b'"' | b'\'' | b'`' => {}
        byte if byte.is_ascii_whitespace() => {
            if plain.last() != Some(&b' ') {
                plain.push(b' ');
            }
        }
        byte => plain.push(byte),
    };
    let mut escaped = false;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        if byte == b'\\' {
            escaped = true;
            continue;
        }
        if !std::mem::take(&mut escaped) {
            push(byte);
            continue;
        }
        match byte.to_ascii_lowercase() {
            b'n' | b'r' | b't' | b'b' | b'f' => push(b' '),
            b'u' => match body.get(at..at + 4).and_then(code_unit) {
                Some(0x5c) => {
                    escaped = true;
                    at += 4;
                }
                Some(unit) => {
                    let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                    character.encode_utf8(&mut [0; 4]).bytes().for_each(&mut push);
                    at += 4;
                }
                None => push(byte),
            },
            _ => push(byte),
        }
    }
    plain
}

fn code_unit(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const GEMINI_MISSING: &str = "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance. Additional data, function call `default_api:ReadFile` , position 2. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details.";
    const VERTEX_MISSING: &str = "Unable to submit request because function call `default_api:ReadFile` in the 2. content block is missing a `thought_signature`. Learn more: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures";
    const VERTEX_INVALID: &str = "Unable to submit request because Thought signature is not valid.. Learn more: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/gemini";
    const BAD_BASE64: &str = "Invalid value at 'contents[6].parts[1].thought_signature' (TYPE_BYTES), Base64 decoding failed for \"not base64!\"";
    const CLAUDE_INVALID: &str = "messages.1.content.0: Invalid `signature` in `thinking` block";
    const CLAUDE_EXPECTED: &str = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). To avoid this requirement, disable `thinking`.";
    const CLAUDE_BOUND: &str = "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\". Content that preceded this block when it was created is missing from this request, starting at `messages.0.content.0`.";
    const CLAUDE_MODIFIED: &str = "messages.5.content.1: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These blocks must remain as they were in the original response.";
    const OPENAI_INVALID: &str = "The encrypted content gAAA...xY== could not be verified. Reason: Encrypted content could not be decrypted or parsed.";
    const OPENAI_PAIR: &str =
        "Item 'rs_0a1b2c3d' of type 'reasoning' was provided without its required following item.";
    const OPENAI_REVERSE: &str =
        "Item 'fc_0a1b' of type 'function_call' was provided without its required 'reasoning' item: 'rs_0a1b2c3d'.";
    const XAI_INVALID: &str = "Could not decrypt the provided encrypted_content. Ensure the value is the unmodified encrypted_content from a previous response.";
    const DEEPSEEK: &str = "The `reasoning_content` in the thinking mode must be passed back to the API.";
    const KIMI: &str = "thinking is enabled but reasoning_content is missing in assistant tool call message at index 3";

    fn place(content: impl Into<Option<usize>>, part: impl Into<Option<usize>>) -> Place {
        Place { content: content.into(), part: part.into(), ..Place::default() }
    }

    fn call(content: usize, name: &str) -> Place {
        Place { content: Some(content), call: Some(name.to_owned()), ..Place::default() }
    }

    fn item(id: &str) -> Place {
        Place { item: Some(id.to_owned()), ..Place::default() }
    }

    /// Every message that the providers are known to send, with what it means.
    fn known() -> Vec<(&'static str, Refusal, Place)> {
        use Refusal::{Invalid, Missing, Structure};
        vec![
            (GEMINI_MISSING, Missing, call(1, "ReadFile")),
            (VERTEX_MISSING, Missing, call(1, "ReadFile")),
            (
                "Function call `FC1` in the `1.` content block is missing a `thought_signature`.",
                Missing,
                call(0, "FC1"),
            ),
            ("Image part is missing a thought_signature in content position 3, part position 1.", Missing, place(2, 0)),
            ("Text part is missing a thought_signature in content position 2, part position 1", Missing, place(1, 0)),
            ("Corrupted thought signature.", Invalid, Place::default()),
            ("Invalid thought signature.", Invalid, Place::default()),
            (VERTEX_INVALID, Invalid, Place::default()),
            (BAD_BASE64, Invalid, place(6, 1)),
            (
                "Invalid value at 'request.contents[4].parts[0].thought_signature' (TYPE_BYTES), Base64 decoding failed for \"x\"",
                Invalid,
                place(4, 0),
            ),
            (
                "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.",
                Structure,
                Place::default(),
            ),
            (
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn.",
                Structure,
                Place::default(),
            ),
            (CLAUDE_INVALID, Invalid, place(1, 0)),
            ("Validation error: messages.39.content.0: Invalid signature in thinking block", Invalid, place(39, 0)),
            ("messages.7.content.2: Invalid signature", Invalid, place(7, 2)),
            ("messages.1.content.0: Invalid `data` in `redacted_thinking` block", Invalid, place(1, 0)),
            ("messages.1.content.0.thinking.signature: Field required", Invalid, place(1, 0)),
            ("messages.1.content.0.thinking.thinking: Field required", Invalid, place(1, 0)),
            ("messages.1.content.0.redacted_thinking.data: Field required", Invalid, place(1, 0)),
            ("messages.1.content.0.thinking.signature: Extra inputs are not permitted", Structure, place(1, 0)),
            ("thinking.adaptive.block_binding: Extra inputs are not permitted", Structure, Place::default()),
            (CLAUDE_BOUND, Structure, place(1, 0)),
            (CLAUDE_MODIFIED, Structure, place(5, 1)),
            (
                "When thinking is disabled, an `assistant` message in the final position cannot contain `thinking`. To use thinking blocks, enable `thinking` in your request.",
                Structure,
                Place::default(),
            ),
            ("messages.3: The final block in an assistant message cannot be `thinking`.", Structure, place(3, None)),
            (CLAUDE_EXPECTED, Missing, place(1, 0)),
            (
                "messages.129.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`",
                Missing,
                place(129, 0),
            ),
            ("messages.2.content.0.type must be `thinking`", Missing, place(2, 0)),
            (
                "The `content[].thinking` in the thinking mode must be passed back to the API.",
                Missing,
                Place::default(),
            ),
            (OPENAI_INVALID, Invalid, Place::default()),
            (
                "The encrypted content for item rs_0a1b could not be verified. Reason: Encrypted content organization_id did not match the target organization.",
                Invalid,
                item("rs_0a1b"),
            ),
            ("Encrypted function output content could not be decrypted or decoded.", Invalid, Place::default()),
            ("invalid_encrypted_content", Invalid, Place::default()),
            (XAI_INVALID, Invalid, Place::default()),
            (
                "Could not decode the compaction blob. Ensure it is unmodified from the compact response.",
                Invalid,
                Place::default(),
            ),
            ("reasoning `encrypted_content` was not issued to this caller", Invalid, Place::default()),
            ("The item was created under a different Azure OpenAI resource.", Invalid, Place::default()),
            (OPENAI_PAIR, Structure, item("rs_0a1b2c3d")),
            (OPENAI_REVERSE, Missing, item("rs_0a1b2c3d")),
            (
                "Item 'msg_0a1b' of type 'message' was provided without its required 'reasoning' item",
                Missing,
                item("msg_0a1b"),
            ),
            (
                "Item with id 'rs_0a1b' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item from your input.",
                Structure,
                item("rs_0a1b"),
            ),
            (
                "Duplicate item found with id rs_0a1b. Remove duplicate items from your input and try again.",
                Structure,
                item("rs_0a1b"),
            ),
            ("No tool call found for function call output with call_id call_9z.", Structure, item("call_9z")),
            ("Duplicate function_call_output for call_id run_shell_command:0", Structure, item("run_shell_command:0")),
            ("The `reasoning_text` in the thinking mode must be passed back to the API.", Missing, Place::default()),
            (DEEPSEEK, Missing, Place::default()),
            (
                "the reasoning content from the previous turn must be passed back in thinking mode",
                Missing,
                Place::default(),
            ),
            (KIMI, Missing, place(3, None)),
        ]
    }

    /// The ways in which providers, SDKs, routers and gateways deliver one message.
    fn deliveries(message: &str) -> Vec<(&'static str, Vec<u8>)> {
        let google = json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}});
        let claude = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "req_1"});
        let pretty = serde_json::to_string_pretty(&google).unwrap();
        let lines: String = pretty.lines().map(|line| format!("data: {line}\r\n")).collect();
        let router = json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": pretty, "provider_name": "Google AI Studio"}}, "user_id": "user_1"});
        let proxy = json!({"error": {"message": format!("litellm.BadRequestError: VertexAIException - {google}"), "type": null, "code": "400"}});
        vec![
            ("text", message.as_bytes().to_vec()),
            ("object", google.to_string().into_bytes()),
            ("pretty", pretty.clone().into_bytes()),
            ("array", serde_json::to_vec_pretty(&json!([google])).unwrap()),
            ("event", format!("event: error\ndata: {claude}\n\n").into_bytes()),
            ("lines", lines.into_bytes()),
            ("anthropic", claude.to_string().into_bytes()),
            ("string", json!({"code": "invalid-argument", "error": message}).to_string().into_bytes()),
            ("bytes", format!("b'{}'", google.to_string().replace('\'', "\\'")).into_bytes()),
            ("cloud code", json!({"error": {"code": 400, "message": claude.to_string()}}).to_string().into_bytes()),
            ("router", router.to_string().into_bytes()),
            ("proxy", proxy.to_string().into_bytes()),
            ("proxied router", json!({"error": {"message": router.to_string()}}).to_string().into_bytes()),
            ("upper case", google.to_string().to_uppercase().into_bytes()),
            ("html-safe", google.to_string().replace('`', "\\u0060").replace('\'', "\\u0027").into_bytes()),
            ("page", format!("<html><body><pre>{message}</pre></body></html>").into_bytes()),
        ]
    }

    fn kind(status: u16, body: &[u8]) -> Option<Refusal> {
        classify(status, body).map(|verdict| verdict.refusal)
    }

    fn verdict_of(refusal: Refusal, place: Place) -> Verdict {
        Verdict { refusal, place, bound: false }
    }

    #[test]
    fn every_known_message_is_recognised_in_every_delivery_r2() {
        for (message, refusal, place) in known() {
            for (form, body) in deliveries(message) {
                for status in [400, 404, 422, 429, 500, 502, 529] {
                    let verdict = classify(status, &body);
                    let verdict = verdict.unwrap_or_else(|| panic!("{message} as {form}, {status}"));
                    assert_eq!(verdict.refusal, refusal, "{message} as {form}, {status}");
                    if form == "upper case" {
                        assert_eq!(verdict.place.content, place.content, "{message} as {form}");
                        assert_eq!(verdict.place.part, place.part, "{message} as {form}");
                    } else {
                        assert_eq!(verdict.place, place, "{message} as {form}, {status}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_statuses_are_never_classified() {
        for status in [0, 100, 200, 201, 302, 401, 402, 403, 405, 408, 409, 413, 415, 600, u16::MAX] {
            for (message, ..) in known() {
                assert_eq!(classify(status, message.as_bytes()), None, "{status}");
            }
        }
    }

    #[test]
    fn unrelated_errors_are_not_ours_a23() {
        let unrelated = [
            "",
            "{}",
            "null",
            "<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>",
            "Thinking mode does not support this tool_choice",
            "tool_choice 'required' is incompatible with thinking enabled",
            "Thinking may not be enabled when tool_choice forces tool use.",
            "Invalid JSON payload received. Unknown name \"id\" at 'contents[1].parts[0].function_call': Cannot find field.",
            "Invalid JSON payload received. Unknown name \"id\" at 'contents[1].parts[0].function_response': Cannot find field.",
            "Request contains an invalid argument.",
            "Please use a valid role: user, model.",
            "API key not valid. Please pass a valid API key.",
            "Overloaded",
            "Resource has been exhausted (e.g. check quota).",
            "Previous response with id 'resp_1' not found.",
            "Invalid 'input[6].id': ''. Expected an ID that contains letters, numbers, underscores, or dashes",
            "messages.4: role 'system' must precede an 'assistant' message or end the array",
            "`max_tokens` must be greater than `thinking.budget_tokens`",
            "prompt is too long: 212345 tokens > 200000 maximum",
            "text content is empty",
            "illegal request",
        ];
        for message in unrelated {
            for (form, body) in deliveries(message) {
                for status in [400, 404, 422, 429, 500, 502] {
                    assert_eq!(classify(status, &body), None, "{message} as {form}, {status}");
                }
            }
        }
    }

    #[test]
    fn invalid_is_recognised_whatever_its_case_g5() {
        for message in ["invalid thought signature", "THOUGHT SIGNATURE IS NOT VALID", "Corrupted Thought Signature"] {
            assert_eq!(kind(400, message.as_bytes()), Some(Refusal::Invalid), "{message}");
        }
    }

    #[test]
    fn missing_names_call_and_content_g1() {
        let verdict = classify(400, GEMINI_MISSING.as_bytes()).unwrap();
        assert_eq!(verdict, verdict_of(Refusal::Missing, call(1, "ReadFile")));
    }

    #[test]
    fn missing_on_vertex_counts_from_one_too_g2() {
        let verdict = classify(400, VERTEX_MISSING.as_bytes()).unwrap();
        assert_eq!(verdict, verdict_of(Refusal::Missing, call(1, "ReadFile")));
    }

    #[test]
    fn missing_on_images_names_the_part_g6() {
        let body = b"Image part is missing a thought_signature in content position 3, part position 1.";
        assert_eq!(classify(400, body).unwrap().place, place(2, 0));
    }

    #[test]
    fn missing_on_text_names_the_part_g7() {
        let body = b"Text part is missing a thought_signature in content position 2, part position 1";
        assert_eq!(classify(400, body).unwrap().place, place(1, 0));
    }

    #[test]
    fn missing_through_a_router_is_still_missing_d9() {
        for (form, body) in deliveries(GEMINI_MISSING) {
            assert_eq!(kind(502, &body), Some(Refusal::Missing), "{form}");
        }
    }

    #[test]
    fn invalid_without_back_ticks_is_recognised_a11() {
        let body = b"Validation error: messages.39.content.0: Invalid signature in thinking block";
        assert_eq!(classify(400, body), Some(verdict_of(Refusal::Invalid, place(39, 0))));
    }

    #[test]
    fn invalid_is_read_off_the_raw_body_a12() {
        let body = json!({"error": {"message": format!("The request was rejected: {CLAUDE_INVALID}"), "type": "upstream_error"}});
        assert_eq!(kind(429, body.to_string().as_bytes()), Some(Refusal::Invalid));
    }

    #[test]
    fn a_binding_to_another_conversation_is_structure_a13() {
        let verdict = classify(400, CLAUDE_BOUND.as_bytes()).unwrap();
        assert_eq!(verdict, Verdict { bound: true, ..verdict_of(Refusal::Structure, place(1, 0)) });
    }

    #[test]
    fn the_text_counts_when_the_code_is_lost_r2() {
        for code in [json!(null), json!(0), json!("invalid_encrypted_content")] {
            let body =
                json!({"error": {"message": "The encrypted content gAAA...wX== could not be verified.", "code": code}});
            assert_eq!(kind(400, body.to_string().as_bytes()), Some(Refusal::Invalid));
        }
    }

    #[test]
    fn shortened_ids_name_no_item() {
        for id in ["rs_...", "rs_0a…", "rs_0a...9z", "in"] {
            let body = format!("The encrypted content for item {id} could not be verified.");
            assert_eq!(classify(400, body.as_bytes()).unwrap().place.item, None, "{id}");
        }
    }

    #[test]
    fn absurd_positions_name_no_place() {
        let bodies = [
            "is missing a thought_signature in content position 0, part position 0",
            "is missing a thought_signature in content position 99999999999999999999999",
            "is missing a thought_signature, function call `x` in the 0. content block",
            "is missing a thought_signature, function call",
            "is missing a thought_signature contents[",
            "is missing a thought_signature contents[1",
            "is missing a thought_signature messages.",
            "is missing a thought_signature. content block",
            "is missing a thought_signature for item ",
        ];
        for body in bodies {
            let verdict = classify(400, body.as_bytes()).unwrap();
            assert_eq!(verdict.refusal, Refusal::Missing);
            assert!(verdict.place.content.is_none(), "{body}: {verdict:?}");
        }
        let body = "function call `x` , position 0 is missing a thought_signature";
        assert_eq!(classify(400, body.as_bytes()).unwrap().place, Place { content: None, ..call(0, "x") });
    }

    #[test]
    fn words_of_a_relayed_refusal_stand_in_one_statement() {
        let apart = format!("thought_signature {} invalid", "x ".repeat(2_000));
        assert_eq!(kind(400, apart.as_bytes()), Some(Refusal::Invalid));
        assert_eq!(kind(500, apart.as_bytes()), None);
        let near = format!("{} thought_signature {} invalid", "x ".repeat(2_000), "x".repeat(400));
        assert_eq!(kind(500, near.as_bytes()), Some(Refusal::Invalid));
        let apart = format!("model thinking not found {} expected one of", "x ".repeat(2_000));
        assert_eq!(kind(404, apart.as_bytes()), None);
    }

    #[test]
    fn only_the_first_64_kib_are_looked_at() {
        let mut body = vec![b' '; LOOKED_AT];
        body.extend_from_slice(b"Corrupted thought signature.");
        assert_eq!(classify(400, &body), None);
        assert_eq!(kind(400, &body[1_000..]), Some(Refusal::Invalid));
    }

    #[test]
    fn bodies_that_are_not_utf8_are_read_as_far_as_they_go() {
        let mut body = vec![0xff, 0xfe, 0x80];
        body.extend_from_slice(b"\xc3 Corrupted thought signature. \\u12 \\ud800 \\");
        assert_eq!(kind(400, &body), Some(Refusal::Invalid));
        assert_eq!(classify(400, &[0x1f, 0x8b, 0x08, 0x00]), None);
    }

    #[test]
    fn terminal_events_are_classified() {
        let error = json!({"code": "invalid_encrypted_content", "message": OPENAI_INVALID});
        let events = [
            json!({"error": error}),
            json!([{"error": error}]),
            json!([{"candidates": []}, {"error": error}]),
            json!({"type": "error", "error": error}),
            json!({"type": "error", "code": "invalid_encrypted_content", "message": OPENAI_INVALID, "param": null, "sequence_number": 3}),
            json!({"type": "response.failed", "response": {"id": "resp_1", "error": error, "output": []}}),
            json!({"id": "gen-1", "choices": [{"delta": {"content": ""}, "finish_reason": "error"}], "error": error}),
            json!({"code": "invalid-argument", "error": XAI_INVALID}),
            json!({"error": true, "message": OPENAI_INVALID}),
        ];
        for event in events {
            let verdict = classify_event(event.to_string().as_bytes());
            assert_eq!(verdict.map(|verdict| verdict.refusal), Some(Refusal::Invalid), "{event}");
        }
        for (message, refusal, place) in known() {
            let event = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
            let verdict = classify_event(format!(" {event:#}\r\n").as_bytes());
            assert_eq!(verdict.map(|verdict| (verdict.refusal, verdict.place)), Some((refusal, place)), "{message}");
        }
    }

    #[test]
    fn model_text_is_never_classified() {
        let events = [
            json!({"candidates": [{"content": {"parts": [{"text": CLAUDE_INVALID}]}, "finishReason": "ERROR"}]}),
            json!({"response": {"candidates": [{"content": {"parts": [{"text": GEMINI_MISSING}]}}], "error": {"message": GEMINI_MISSING}}}),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": format!("error: {CLAUDE_INVALID}")}}),
            json!({"type": "response.output_text.delta", "delta": format!("{{\"error\":{{\"message\":\"{OPENAI_PAIR}\"}}}}")}),
            json!({"type": "response.created", "error": null, "response": {"error": null, "instructions": OPENAI_INVALID}}),
            json!({"type": "response.completed", "response": {"error": null, "output": [{"text": OPENAI_INVALID}]}}),
            json!({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "An error occurred."}, "output": [{"text": OPENAI_INVALID}]}}),
            json!({"choices": [{"delta": {"content": DEEPSEEK}}], "error": {"message": "Overloaded"}}),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "content": CLAUDE_INVALID}),
            json!({"error": ""}),
            json!({"error": {}}),
            json!([]),
            json!(GEMINI_MISSING),
        ];
        for event in events {
            assert_eq!(classify_event(event.to_string().as_bytes()), None, "{event}");
        }
        for broken in [&b""[..], b"{", b"error", b"{\"error\":", b"[{\"error\":1", b"\xff\"error\""] {
            assert_eq!(classify_event(broken), None);
        }
    }

    #[test]
    fn huge_and_deep_events_are_survived() {
        let deep = format!("{{\"error\":{}", "[".repeat(500_000));
        assert_eq!(classify_event(deep.as_bytes()), None);
        let huge = json!({"error": {"message": format!("Corrupted thought signature. {}", "x".repeat(2 << 20))}});
        assert_eq!(classify_event(huge.to_string().as_bytes()), None);
    }

    #[test]
    fn debug_shows_neither_names_nor_ids() {
        let place = Place { call: Some("secret_call".into()), item: Some("rs_secret".into()), ..place(3, 1) };
        let shown = format!("{:?}", verdict_of(Refusal::Invalid, place));
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains('3'), "{shown}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn random_bytes_never_panic(status in prop_oneof![Just(400u16), Just(500u16), any::<u16>()], body in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = classify(status, &body);
            let _ = classify_event(&body);
        }

        #[test]
        fn cut_and_spliced_messages_never_panic(
            first in prop::sample::select(known()),
            second in prop::sample::select(known()),
            cut in 0usize..300,
            noise in "[\\\\u0-9a-f\"'`.\\[\\] ]{0,20}",
        ) {
            let cut = cut.min(first.0.len());
            let mut body = first.0.as_bytes()[..cut].to_vec();
            body.extend_from_slice(noise.as_bytes());
            body.extend_from_slice(second.0.as_bytes());
            let _ = classify(400, &body);
            let _ = classify_event(&body);
        }

        #[test]
        fn wrapping_changes_no_verdict(
            known in prop::sample::select(known()),
            wraps in prop::collection::vec(0usize..16, 1..4),
            status in prop::sample::select(vec![400u16, 404, 422, 429, 500, 502]),
        ) {
            let (message, refusal, place) = known;
            let mut text = message.to_owned();
            for wrap in wraps {
                let (form, body) = deliveries(&text).swap_remove(wrap);
                // Upper case changes names, and a page is only text.
                if form != "upper case" {
                    text = String::from_utf8(body).unwrap();
                }
            }
            let verdict = classify(status, text.as_bytes()).map(|verdict| (verdict.refusal, verdict.place));
            prop_assert_eq!(verdict, Some((refusal, place)));
        }
    }
}
