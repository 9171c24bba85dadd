//! What a request must fulfil.
//!
//! The rules are those of <https://ai.google.dev/gemini-api/docs/thought-signatures>, made stricter where
//! [`Builder::bind_signatures`](super::Builder::bind_signatures) says so.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use super::{
    config::{Config, Family, InvalidWording, Sentinels, Surface},
    refusal::Refusal,
    request::{Content, Data, Part},
    vault::{Issued, SignedKind, Vault},
};
use crate::testing::provider::json::same;

/// What one request is checked, and its answer signed, under.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) vault: &'a Vault,
    pub(super) surface: Surface,
    pub(super) family: Family,
    pub(super) model: &'a str,
    pub(super) credential: [u8; 32],
    pub(super) counting: bool,
}

/// How many parts carried what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) genuine: usize,
    pub(super) sentinels: usize,
}

#[derive(Clone)]
enum Mark {
    Unsigned,
    Sentinel,
    Genuine(Arc<Issued>),
    Bad,
}

impl Mark {
    fn is_signed(&self) -> bool {
        matches!(self, Self::Sentinel | Self::Genuine(_))
    }
}

pub(super) fn check(contents: &[Content], context: &Context<'_>) -> (Tally, Result<(), Refusal>) {
    let marks = context.marks(contents);
    let mut tally = Tally::default();
    for mark in marks.iter().flatten() {
        match mark {
            Mark::Genuine(_) => tally.genuine += 1,
            Mark::Sentinel => tally.sentinels += 1,
            Mark::Unsigned | Mark::Bad => {}
        }
    }
    let verdict = layout(contents, context.counting).and_then(|()| match context.family {
        Family::Gemini2 => Ok(()),
        Family::Gemini3 => context.valid(&marks).and_then(|()| context.calls(contents, &marks)),
        Family::Gemini3Image => context
            .valid(&marks)
            .and_then(|()| context.calls(contents, &marks))
            .and_then(|()| context.text_and_media(contents, &marks)),
        Family::Claude => ids(contents).and_then(|()| context.thinking(contents, &marks)),
    });
    (tally, verdict)
}

/// Calls follow a user turn or responses, and as many responses follow as there were calls.
fn layout(contents: &[Content], counting: bool) -> Result<(), Refusal> {
    let mut runs = contents.chunk_by(|one, other| one.model == other.model).peekable();
    let mut first = true;
    let mut open = 0;
    while let Some(run) = runs.next() {
        let calls: usize = run.iter().map(Content::calls).sum();
        let responses: usize = run.iter().map(Content::responses).sum();
        let model = run.first().is_some_and(|content| content.model);
        let misplaced = if model { responses } else { calls };
        if misplaced > 0 || (first && model && calls > 0) {
            return Err(Refusal::argument(
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn.",
            ));
        }
        let ends_with_calls = calls > 0 && runs.peek().is_none() && !counting;
        if (!model && responses != open) || ends_with_calls {
            return Err(Refusal::argument(
                "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.",
            ));
        }
        open = calls;
        first = false;
    }
    Ok(())
}

/// Where the current turn starts: the last user content without function responses.
fn current_turn(contents: &[Content]) -> usize {
    contents.iter().rposition(|content| !content.model && !content.has_response()).unwrap_or(0)
}

impl Context<'_> {
    fn marks(&self, contents: &[Content]) -> Vec<Vec<Mark>> {
        let sentinels = match self.family {
            Family::Claude => Sentinels::none(),
            _ if self.counting && self.config.count_refuses_sentinels => Sentinels::none(),
            _ => self.config.sentinels,
        };
        let mut seen = HashSet::new();
        let mut newest = 0;
        contents
            .iter()
            .enumerate()
            .map(|(number, content)| {
                (0..content.parts.len())
                    .map(|at| {
                        let Some(signature) = content.parts.get(at).and_then(|part| part.signature.as_deref()) else {
                            return Mark::Unsigned;
                        };
                        if let Some(accepted) = sentinels.verdict(signature) {
                            return if accepted { Mark::Sentinel } else { Mark::Bad };
                        }
                        match self.vault.find(signature) {
                            Some(issued)
                                if self.fits(&issued, contents.get(..=number).unwrap_or_default(), at)
                                    && (seen.insert(signature) || !self.config.bind_signatures)
                                    && (issued.number >= newest || !self.config.order_signatures) =>
                            {
                                newest = issued.number;
                                Mark::Genuine(issued)
                            }
                            _ => Mark::Bad,
                        }
                    })
                    .collect()
            })
            .collect()
    }

    /// Whether `issued` may stand on the part with number `at` of the last of these contents.
    fn fits(&self, issued: &Issued, contents: &[Content], at: usize) -> bool {
        if issued.surface != self.surface || (self.config.bind_credentials && issued.credential != self.credential) {
            return false;
        }
        !self.config.bind_signatures
            || (issued.model == self.model
                && contents.last().is_some_and(|content| content.model)
                && self.signs(issued, contents, at))
    }

    /// Whether `issued` is for the part with number `at` of the last content. Neighbouring contents of the model are
    /// one: clients keep a stream as a content for each event.
    fn signs(&self, issued: &Issued, contents: &[Content], at: usize) -> bool {
        let start = contents.iter().rposition(|content| !content.model).map_or(0, |last| last + 1);
        let own = contents.last().map_or(0, |content| content.parts.len());
        let parts: Vec<&Part> =
            contents.get(start..).unwrap_or_default().iter().flat_map(|content| &content.parts).collect();
        let at = parts.len().saturating_sub(own) + at;
        let Some(part) = parts.get(at) else {
            return false;
        };
        let before = parts.get(..at).unwrap_or_default();
        match &part.data {
            Data::Text(text) if text.is_empty() && !part.thought && issued.kind == SignedKind::Call => {
                self.config.detach_call_signatures
                    && before.last().is_some_and(|call| is_call(&call.data, &issued.content))
            }
            Data::Text(text) if self.family == Family::Claude => {
                part.thought && issued.kind == SignedKind::Thought && issued.content.as_str() == Some(text.as_str())
            }
            Data::Text(_) => {
                let kind = if part.thought { SignedKind::Thought } else { SignedKind::Text };
                let start = before
                    .iter()
                    .rposition(|other| {
                        other.thought != part.thought
                            || other.signature.is_some()
                            || !matches!(other.data, Data::Text(_))
                    })
                    .map_or(0, |last| last + 1);
                let run: String = parts
                    .get(start..=at)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|part| match &part.data {
                        Data::Text(text) => Some(text.as_str()),
                        _ => None,
                    })
                    .collect();
                issued.kind == kind && issued.content.as_str().is_some_and(|issued| run.contains(issued))
            }
            Data::Call { .. } => issued.kind == SignedKind::Call && is_call(&part.data, &issued.content),
            Data::Response { .. } => false,
            Data::Media(media) => issued.kind == SignedKind::Media && *media == issued.content,
            Data::Native(native) => issued.kind == SignedKind::Native && same(native, &issued.content),
        }
    }

    fn valid(&self, marks: &[Vec<Mark>]) -> Result<(), Refusal> {
        if !marks.iter().flatten().any(|mark| matches!(mark, Mark::Bad)) {
            return Ok(());
        }
        Err(Refusal::argument(match (self.surface, self.config.wording) {
            (Surface::Vertex, _) => {
                "Unable to submit request because Thought signature is not valid.. Learn more: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/gemini"
            }
            (_, InvalidWording::Corrupted) => "Corrupted thought signature.",
            (_, InvalidWording::Invalid) => "Invalid thought signature.",
        }))
    }

    /// The first call of each model content of the current turn is signed.
    fn calls(&self, contents: &[Content], marks: &[Vec<Mark>]) -> Result<(), Refusal> {
        let steps = contents.iter().zip(marks).enumerate().skip(current_turn(contents));
        for (number, (content, marks)) in steps.filter(|(_, (content, _))| content.model) {
            let first = content.parts.iter().enumerate().find_map(|(at, part)| match &part.data {
                Data::Call { name, .. } => Some((at, name)),
                _ => None,
            });
            let Some((at, name)) = first else { continue };
            let detached = matches!(marks.get(at + 1), Some(Mark::Genuine(issued))
                if issued.kind == SignedKind::Call
                    && content.parts.get(at + 1).is_some_and(|part| matches!(&part.data, Data::Text(text) if text.is_empty())));
            if !detached && !marks.get(at).is_some_and(Mark::is_signed) {
                return Err(self.missing_call(name, number + 1));
            }
        }
        Ok(())
    }

    fn missing_call(&self, name: &str, position: usize) -> Refusal {
        Refusal::missing(match self.surface {
            Surface::GeminiApi => format!(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance. Additional data, function call `default_api:{name}` , position {position}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            ),
            Surface::Vertex | Surface::CloudCode => format!(
                "Unable to submit request because function call `default_api:{name}` in the {position}. content block is missing a `thought_signature`. Learn more: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures"
            ),
        })
    }

    /// Every run of the model's text that is not empty has a signature, and so has every medium.
    fn text_and_media(&self, contents: &[Content], marks: &[Vec<Mark>]) -> Result<(), Refusal> {
        for (number, (content, marks)) in contents.iter().zip(marks).enumerate() {
            if !content.model {
                continue;
            }
            let parts: Vec<(usize, &Part, &Mark)> = content
                .parts
                .iter()
                .zip(marks)
                .enumerate()
                .filter(|(_, (part, _))| !part.thought)
                .map(|(at, (part, mark))| (at, part, mark))
                .collect();
            let is_text = |part: &Part| matches!(part.data, Data::Text(_));
            for run in parts.chunk_by(|(_, one, _), (_, other, _)| is_text(one) && is_text(other)) {
                let Some((at, part, _)) = run.first() else {
                    continue;
                };
                let what = match &part.data {
                    Data::Text(_) => "Text",
                    Data::Media(_) => "Image",
                    _ => continue,
                };
                let empty = run.iter().all(|(_, part, _)| matches!(&part.data, Data::Text(text) if text.is_empty()));
                if !empty && !run.iter().any(|(_, _, mark)| mark.is_signed()) {
                    return Err(Refusal::missing(format!(
                        "{what} part is missing a thought_signature in content position {}, part position {}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details.",
                        number + 1,
                        at + 1,
                    )));
                }
            }
        }
        Ok(())
    }

    /// Thinking comes back whole, and before the calls of the current turn.
    fn thinking(&self, contents: &[Content], marks: &[Vec<Mark>]) -> Result<(), Refusal> {
        for (number, (content, marks)) in contents.iter().zip(marks).enumerate() {
            for (at, (part, mark)) in content.parts.iter().zip(marks).enumerate() {
                let place = format!("messages.{number}.content.{at}");
                if matches!(mark, Mark::Bad) {
                    return Err(self.anthropic(&format!("{place}: Invalid `signature` in `thinking` block")));
                }
                if part.thought && !mark.is_signed() {
                    return Err(self.anthropic(&format!("{place}.thinking.signature: Field required")));
                }
            }
        }
        let current = current_turn(contents);
        for (number, content) in contents.iter().enumerate().skip(current) {
            let thought_first = content.parts.first().is_some_and(|part| part.thought);
            if content.model && content.calls() > 0 && !thought_first {
                let found = match content.parts.first().map(|part| &part.data) {
                    Some(Data::Text(_)) => "text",
                    _ => "tool_use",
                };
                let mut refusal = self.anthropic(&format!(
                    "messages.{number}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this requirement, disable `thinking`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
                ));
                refusal.kind = super::refusal::Kind::MissingSignature;
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn anthropic(&self, message: &str) -> Refusal {
        anthropic(message, &self.vault.name(24))
    }
}

/// Anthropic's error, as text inside Google's.
fn anthropic(message: &str, request: &str) -> Refusal {
    let error = json!({
        "type": "error",
        "error": {"type": "invalid_request_error", "message": message},
        "request_id": format!("req_vrtx_{request}"),
    });
    Refusal::argument(error.to_string())
}

/// Calls and their responses have ids that belong together, as Anthropic demands.
fn ids(contents: &[Content]) -> Result<(), Refusal> {
    let mut open: HashSet<&str> = HashSet::new();
    for (number, content) in contents.iter().enumerate() {
        let mut next = HashSet::new();
        for (at, part) in content.parts.iter().enumerate() {
            let place = format!("messages.{number}.content.{at}");
            match &part.data {
                Data::Call { id: None, .. } => {
                    return Err(anthropic(&format!("{place}.tool_use.id: Field required"), "ids"));
                }
                Data::Call { id: Some(id), .. } => {
                    next.insert(id.as_str());
                }
                Data::Response { id } => {
                    let id = id.as_deref().unwrap_or_default();
                    if !open.remove(id) {
                        return Err(anthropic(
                            &format!(
                                "{place}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                            ),
                            "ids",
                        ));
                    }
                }
                _ => {}
            }
        }
        open.extend(next);
    }
    Ok(())
}

fn is_call(data: &Data, issued: &Value) -> bool {
    let Data::Call { name, args, .. } = data else {
        return false;
    };
    issued.get("name").and_then(Value::as_str) == Some(name)
        && issued.get("args").is_some_and(|issued| same(args, issued))
}
