//! Whether the state of a history is what was issued, and all that is demanded.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;

use super::{
    flavour::{Demand, Flavour, Manner, Upstream},
    refusal::Refusal,
    request::{Asked, Said},
    vault::{Spoken, State},
};
use crate::testing::provider::{base64, json::same};

/// What the state of a history is measured by.
pub(super) struct Rules {
    pub(super) flavour: Flavour,
    pub(super) upstream: Upstream,
    pub(super) demand: Demand,
    /// Text of no length is no text.
    pub(super) empty_is_missing: bool,
    pub(super) sentinel: bool,
    /// The signature of a call may stand on its message.
    pub(super) legacy_signatures: bool,
    /// Whose state is taken; nothing if anyone's is.
    pub(super) credential: Option<[u8; 32]>,
}

/// What was found in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Messages whose state came back as it was issued.
    pub(super) restored: usize,
    /// Messages with other state than theirs.
    pub(super) altered: usize,
    /// Messages whose state did not come back.
    pub(super) missing: usize,
    /// Accepted sentinels.
    pub(super) sentinels: usize,
}

/// What became of the state of one message.
#[derive(Clone, Debug)]
enum Mark {
    /// It came back as it was.
    Restored,
    /// There was none, and none is there.
    Stateless,
    /// There was some, and none is there; nothing is known to have been there if `known` is not set.
    Absent { known: bool },
    /// A constant stands in its place.
    Sentinel,
    /// Something else is there; refused in these words, or counted only.
    Altered(Option<Refusal>),
}

const SENTINEL: &str = "skip_thought_signature_validator";

pub(super) fn check(asked: &Asked, valid: &[Arc<Spoken>], rules: &Rules) -> (Tally, Result<(), Refusal>) {
    let mut history = History { rules, valid, consumed: vec![false; valid.len()], ids: HashSet::new() };
    let mut marks: Vec<Mark> = asked.said.iter().map(|said| history.mark(said)).collect();
    history.settle(asked, &mut marks);
    let mut tally = Tally::default();
    let mut verdict = Ok(());
    for (said, mark) in asked.said.iter().zip(&marks) {
        let refusal = match mark {
            Mark::Restored => {
                tally.restored += 1;
                None
            }
            Mark::Stateless => None,
            Mark::Sentinel => {
                tally.sentinels += 1;
                None
            }
            Mark::Altered(refusal) => {
                tally.altered += 1;
                refusal.clone()
            }
            Mark::Absent { known } => {
                tally.missing += usize::from(*known);
                (asked.thinking && history.demanded(asked, said, *known)).then(|| history.missing(said))
            }
        };
        if let (Some(refusal), Ok(())) = (refusal, &verdict) {
            verdict = Err(refusal);
        }
    }
    (tally, verdict)
}

struct History<'a> {
    rules: &'a Rules,
    valid: &'a [Arc<Spoken>],
    /// Which of the valid ones have come back in this request.
    consumed: Vec<bool>,
    /// Ids of encrypted details that have come.
    ids: HashSet<String>,
}

impl History<'_> {
    /// Whether state that was issued with `spoken` is taken from whoever asks.
    fn is_ours(&self, spoken: &Spoken) -> bool {
        self.rules.credential.is_none_or(|credential| credential == spoken.credential)
    }

    /// Which answers a message repeats, wholly or in part.
    fn candidates(&self, said: &Said) -> Vec<usize> {
        let known = |spoken: &Spoken| spoken.calls.iter().any(|one| said.calls.iter().any(|other| one.id == other.id));
        let by_id = self.valid.iter().any(|spoken| known(spoken));
        let all = self.valid.iter().enumerate();
        all.filter(|(_, spoken)| (!by_id || known(spoken)) && self.is_ours(spoken) && fits(spoken, said))
            .map(|(at, _)| at)
            .collect()
    }

    fn spoken(&self, at: usize) -> Option<&Spoken> {
        self.valid.get(at).map(Arc::as_ref)
    }

    fn is_consumed(&self, at: usize) -> bool {
        self.consumed.get(at).copied().unwrap_or_default()
    }

    fn consume(&mut self, at: usize) {
        if let Some(consumed) = self.consumed.get_mut(at) {
            *consumed = true;
        }
    }

    fn mark(&mut self, said: &Said) -> Mark {
        let candidates = self.candidates(said);
        let stateless = !candidates.is_empty()
            && candidates.iter().all(|at| self.spoken(*at).is_some_and(|spoken| spoken.state == State::None));
        let absent = if stateless { Mark::Stateless } else { Mark::Absent { known: !candidates.is_empty() } };
        match self.rules.flavour.manner() {
            Manner::Text(field) => match said.fields.get(field).and_then(Value::as_str) {
                Some("") if self.rules.empty_is_missing => absent,
                Some(text) => self.text(&candidates, text),
                // Where nothing was said of reasoning, its presence may be demanded all the same.
                None => match absent {
                    Mark::Stateless => Mark::Absent { known: false },
                    absent => absent,
                },
            },
            Manner::Details => match said.fields.get("reasoning_details").and_then(Value::as_array) {
                Some(details) => self.details(said, &candidates, details, absent),
                None => absent,
            },
            Manner::Signature(_) => self.signatures(said, absent),
            Manner::Opaque => self.opaque(said, &candidates, absent),
            Manner::Chunks => {
                if said.runs.iter().any(|(thinking, _)| *thinking) {
                    self.chunks(said, &candidates)
                } else {
                    absent
                }
            }
        }
    }

    fn text(&self, candidates: &[usize], text: &str) -> Mark {
        let is_it = |spoken: &Spoken| matches!(&spoken.state, State::Text(own) if own == text);
        let with_state = candidates.iter().filter_map(|at| self.spoken(*at)).any(|spoken| spoken.state != State::None);
        if candidates.iter().filter_map(|at| self.spoken(*at)).any(is_it) {
            Mark::Restored
        } else if with_state || (!text.is_empty() && self.valid.iter().any(|spoken| is_it(spoken))) {
            Mark::Altered(None)
        } else {
            // What another provider thought is none of our business.
            Mark::Stateless
        }
    }

    fn details(&mut self, said: &Said, candidates: &[usize], details: &[Value], absent: Mark) -> Mark {
        let checked = self.rules.flavour == Flavour::OpenRouter;
        let refused = |message: String| Mark::Altered(checked.then(|| Refusal::altered(message)));
        for entry in details {
            let identity = entry.get("id").or_else(|| entry.get("data")).and_then(Value::as_str);
            if let Some(id) = identity
                && !self.ids.insert(id.to_owned())
            {
                return refused(format!(
                    "Duplicate item found with id {id}. Remove duplicate items from your input and try again."
                ));
            }
        }
        let is_it = |spoken: &Spoken| match &spoken.state {
            State::Details(own) => {
                own.len() == details.len() && own.iter().zip(details).all(|(own, other)| same(own, other))
            }
            _ => false,
        };
        let fitting = candidates.iter().copied().filter(|at| self.spoken(*at).is_some_and(is_it));
        let fitting: Vec<usize> = fitting.collect();
        if let Some(at) = fitting.iter().copied().find(|at| !self.is_consumed(*at)) {
            self.consume(at);
            return Mark::Restored;
        }
        if !fitting.is_empty() {
            return refused(self.wording(said, "The reasoning of one answer came twice"));
        }
        if details.is_empty() {
            return absent;
        }
        let issued = |entry: &Value| {
            self.valid
                .iter()
                .filter(|spoken| self.is_ours(spoken))
                .any(|spoken| matches!(&spoken.state, State::Details(own) if own.iter().any(|own| same(own, entry))))
        };
        // Nobody can tell where clear text comes from.
        let sealed = details.iter().any(|entry| entry.get("signature").is_some() || entry.get("data").is_some());
        let verified = checked && (sealed || !matches!(self.rules.upstream, Upstream::MiniMax | Upstream::Other));
        if !verified && candidates.is_empty() && !details.iter().any(issued) {
            return Mark::Stateless;
        }
        if details.iter().all(issued) {
            refused(self.wording(said, "The sequence of reasoning_details is not the one that was issued"))
        } else {
            refused(self.forged(said))
        }
    }

    /// How the upstream refuses genuine state in the wrong place.
    fn wording(&self, said: &Said, otherwise: &str) -> String {
        match self.rules.upstream {
            Upstream::Anthropic => format!(
                "messages.{}.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These blocks must remain as they were in the original response.",
                said.at
            ),
            Upstream::Google => "Corrupted thought signature.".to_owned(),
            _ => format!("{otherwise}: messages.{}", said.at),
        }
    }

    /// How the upstream refuses state that was never issued.
    fn forged(&self, said: &Said) -> String {
        match self.rules.upstream {
            Upstream::Anthropic => format!("messages.{}.content.0: Invalid `signature` in `thinking` block", said.at),
            Upstream::Google => "Corrupted thought signature.".to_owned(),
            Upstream::OpenAi | Upstream::XAi => {
                "The encrypted content could not be verified. Reason: Encrypted content could not be decrypted or parsed."
                    .to_owned()
            }
            _ => format!("The reasoning_details of messages.{} were not issued.", said.at),
        }
    }

    fn signatures(&mut self, said: &Said, absent: Mark) -> Mark {
        let (flavour, legacy) = (self.rules.flavour, self.rules.legacy_signatures);
        let corrupted = || {
            let message = match flavour {
                Flavour::Vertex => {
                    "Unable to submit request because Thought signature is not valid.. Learn more: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/gemini"
                }
                _ => "Corrupted thought signature.",
            };
            Mark::Altered(Some(Refusal::altered(message)))
        };
        let mut marks = Vec::new();
        let of_calls = said.calls.iter().map(Some).zip(&said.signatures);
        for (call, signature) in of_calls.chain([(None, &said.signature)]) {
            let Some(signature) = signature else {
                continue;
            };
            let Some(decoded) = base64::decode(signature) else {
                return Mark::Altered(Some(Refusal::altered(format!(
                    "Invalid value at 'messages[{}].extra_content' (TYPE_BYTES), Base64 decoding failed for {signature:?}",
                    said.at
                ))));
            };
            if decoded == SENTINEL.as_bytes() || base64::decode(SENTINEL).is_some_and(|literal| literal == decoded) {
                if !self.rules.sentinel {
                    return corrupted();
                }
                marks.push(Mark::Sentinel);
                continue;
            }
            let issued = self.valid.iter().position(|spoken| {
                self.is_ours(spoken)
                    && matches!(&spoken.state, State::Signature(own) if base64::decode(own).as_ref() == Some(&decoded))
            });
            let in_place =
                issued.and_then(|at| self.spoken(at)).is_some_and(|spoken| match (call, spoken.calls.first()) {
                    (Some(call), Some(first)) => call.name == first.name && same(&call.args, &first.args),
                    // Where an answer calls nothing, its text is what is signed.
                    (None, None) => spoken.text == said.text,
                    (None, Some(first)) if legacy => {
                        said.calls.first().is_some_and(|call| call.name == first.name && same(&call.args, &first.args))
                    }
                    _ => false,
                });
            match issued {
                Some(at) if in_place && !self.is_consumed(at) => self.consume(at),
                _ => return corrupted(),
            }
            marks.push(Mark::Restored);
        }
        let on_message = said.calls.is_empty() || legacy;
        let first_is_signed = on_message || said.signatures.first().is_some_and(Option::is_some);
        match marks.iter().find(|mark| matches!(mark, Mark::Restored)).or(marks.first()) {
            Some(mark) if first_is_signed => mark.clone(),
            _ => absent,
        }
    }

    fn opaque(&mut self, said: &Said, candidates: &[usize], absent: Mark) -> Mark {
        let field = |name| said.fields.get(name).and_then(Value::as_str);
        let refused = |message: String| Mark::Altered(Some(Refusal::altered(message)));
        let (text, opaque) = match (field("reasoning_text"), field("reasoning_opaque")) {
            (None, None) => return absent,
            (Some(text), Some(opaque)) => (text, opaque),
            _ => {
                return refused(format!(
                    "messages.{}: reasoning_text and reasoning_opaque must be sent back together",
                    said.at
                ));
            }
        };
        let is_it = |spoken: &Spoken| match &spoken.state {
            State::Opaque { text: own, opaque: issued } => own == text && issued == opaque,
            _ => false,
        };
        let found = candidates.iter().copied().find(|at| self.spoken(*at).is_some_and(is_it));
        match found {
            Some(at) if !self.is_consumed(at) => {
                self.consume(at);
                Mark::Restored
            }
            _ => refused(format!("messages.{}: Invalid signature in reasoning_opaque", said.at)),
        }
    }

    fn chunks(&self, said: &Said, candidates: &[usize]) -> Mark {
        let thinking = |runs: &[(bool, String)]| -> Vec<String> {
            runs.iter().filter(|(thinking, _)| *thinking).map(|(_, text)| text.clone()).collect()
        };
        let spoken: Vec<&Spoken> = candidates.iter().filter_map(|at| self.spoken(*at)).collect();
        // A client may leave out empty text, but nothing else.
        let kept: Vec<&(bool, String)> =
            said.runs.iter().filter(|(thinking, text)| *thinking || !text.is_empty()).collect();
        let is_it = |state: &State| matches!(state, State::Chunks(own) if own.iter().collect::<Vec<_>>() == kept);
        let own = thinking(&said.runs);
        let elsewhere =
            || self.valid.iter().any(|spoken| matches!(&spoken.state, State::Chunks(runs) if thinking(runs) == own));
        if spoken.iter().any(|spoken| is_it(&spoken.state)) {
            Mark::Restored
        } else if spoken.is_empty() && !elsewhere() {
            Mark::Stateless
        } else {
            Mark::Altered(Some(Refusal::altered(format!(
                "Thinking chunks of message {} must be passed back as they were issued.",
                said.at
            ))))
        }
    }

    /// Parts of an answer that was split need no state if another part of it has it.
    fn settle(&self, asked: &Asked, marks: &mut [Mark]) {
        if matches!(self.rules.flavour.manner(), Manner::Text(_) | Manner::Chunks) {
            return;
        }
        for (said, mark) in asked.said.iter().zip(marks) {
            if !matches!(mark, Mark::Absent { known: true }) {
                continue;
            }
            let candidates = self.candidates(said);
            let part = |at: &usize| self.spoken(*at).is_some_and(|spoken| spoken.calls.len() > said.calls.len());
            let signed = |at: &usize| match (self.rules.flavour.manner(), self.spoken(*at)) {
                // Only the part with the first call is signed.
                (Manner::Signature(_), Some(spoken)) => {
                    let first = spoken.calls.first();
                    first.is_none_or(|first| {
                        said.calls.iter().any(|call| call.name == first.name && same(&call.args, &first.args))
                    })
                }
                _ => !self.is_consumed(*at),
            };
            let elsewhere = if candidates.iter().all(part) {
                candidates.iter().any(|at| self.is_consumed(*at) || !signed(at))
            } else {
                !candidates.iter().any(|at| signed(at) && !self.is_consumed(*at))
            };
            if elsewhere {
                *mark = Mark::Absent { known: false };
            }
        }
    }

    fn demanded(&self, asked: &Asked, said: &Said, known: bool) -> bool {
        let calls = !said.calls.is_empty();
        match self.rules.demand {
            Demand::Nothing => false,
            Demand::CurrentTurn => calls && !said.old,
            Demand::ToolCalls => calls,
            Demand::WithTools => asked.has_tools,
            Demand::Issued => known,
        }
    }

    fn missing(&self, said: &Said) -> Refusal {
        let name = said.calls.first().map_or("", |call| call.name.as_str());
        let position = said.at + 1;
        Refusal::missing(match (self.rules.flavour, self.rules.upstream) {
            (Flavour::Kimi, _) => format!(
                "thinking is enabled but reasoning_content is missing in assistant tool call message at index {}",
                said.at
            ),
            (Flavour::MiMo, _) => {
                "The reasoning_content in the thinking mode must be passed back to the API.".to_owned()
            }
            (Flavour::Vertex, _) => format!(
                "Unable to submit request because function call `default_api:{name}` in the {position}. content block is missing a `thought_signature`. Learn more: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures"
            ),
            (Flavour::Gemini, _) | (Flavour::OpenRouter, Upstream::Google) => format!(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance. Additional data, function call `default_api:{name}` , position {position}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            ),
            (Flavour::OpenRouter, Upstream::Anthropic) => format!(
                "messages.{}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block.",
                said.at,
                if said.calls.is_empty() { "text" } else { "tool_use" }
            ),
            (Flavour::OpenRouter, Upstream::OpenAi | Upstream::XAi) => {
                "Item of type 'function_call' was provided without its required 'reasoning' item.".to_owned()
            }
            (flavour, _) => {
                let field = match flavour.manner() {
                    Manner::Text(field) => field,
                    Manner::Details => "reasoning_details",
                    Manner::Signature(_) => "extra_content",
                    Manner::Opaque => "reasoning_opaque",
                    Manner::Chunks => "content[].thinking",
                };
                format!("The `{field}` in the thinking mode must be passed back to the API.")
            }
        })
    }
}

/// Whether a message says what was spoken, or part of it if its calls were split.
fn fits(spoken: &Spoken, said: &Said) -> bool {
    let mut left: Vec<_> = spoken.calls.iter().collect();
    for call in &said.calls {
        let Some(at) = left.iter().position(|own| own.name == call.name && same(&own.args, &call.args)) else {
            return false;
        };
        left.remove(at);
    }
    match (said.text.is_empty(), said.calls.is_empty()) {
        (false, _) => said.text == spoken.text,
        (true, false) => true,
        (true, true) => spoken.text.is_empty() && spoken.calls.is_empty(),
    }
}
