//! What was issued: ciphertexts, the items that they belong to, and the responses that these came in.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use super::config::Vendor;
use crate::testing::provider::{Random, base64};

/// What kind of item a ciphertext was issued in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IssuedKind {
    /// `reasoning`.
    Reasoning,
    /// `compaction`.
    Compaction,
}

/// Where in an answer a ciphertext stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// In `response.output_item.added`: a stub that is never valid, unless it is the ciphertext of the other stages too.
    Added,
    /// In `response.output_item.done`.
    Done,
    /// In the whole response, at the end of a stream or as the only document.
    Completed,
}

/// A ciphertext that the provider issued.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The ciphertext.
    pub encrypted_content: String,
    /// What kind of item it stands in.
    pub kind: IssuedKind,
    /// Where in the answer it stood.
    pub stage: Stage,
    /// The id that the item had there.
    pub item_id: String,
    /// The model that issued it.
    pub model: String,
}

/// Does not show the ciphertext.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("kind", &self.kind)
            .field("stage", &self.stage)
            .field("item_id", &self.item_id)
            .field("model", &self.model)
            .field("characters", &self.encrypted_content.len())
            .finish_non_exhaustive()
    }
}

/// What an issued item says.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Reasoning { clear: Option<String> },
    Message(String),
    Call { call_id: String, name: String, arguments: Value },
    CustomCall { call_id: String, name: String, input: String },
    Search,
    Compaction,
}

impl Said {
    pub(super) fn is_reasoning(&self) -> bool {
        matches!(self, Self::Reasoning { .. })
    }

    pub(super) fn call_id(&self) -> Option<&str> {
        match self {
            Self::Call { call_id, .. } | Self::CustomCall { call_id, .. } => Some(call_id),
            _ => None,
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Reasoning { .. } => "reasoning",
            Self::Message(_) => "message",
            Self::Call { .. } => "function_call",
            Self::CustomCall { .. } => "custom_tool_call",
            Self::Search => "web_search_call",
            Self::Compaction => "compaction",
        }
    }
}

/// An item of a response. Its first id is the one by which refusals call it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) ids: Vec<String>,
    pub(super) said: Said,
}

impl Item {
    pub(super) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }
}

/// A response that was given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) ids: Vec<String>,
    pub(super) items: Vec<Item>,
    pub(super) model: String,
    pub(super) credential: [u8; 32],
    /// Whether its items may be referred to by id.
    pub(super) stored: bool,
    /// The response that it goes on from.
    pub(super) previous: Option<usize>,
    /// The items of earlier responses that its request brought.
    pub(super) brought: Vec<Place>,
    /// The calls that its request answered.
    pub(super) answered: Vec<String>,
}

/// Which item of which response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) response: usize,
    pub(super) index: usize,
}

/// Everything that was issued.
#[derive(Debug, Default)]
pub(super) struct Held {
    given: Vec<Given>,
    issued: Vec<Issued>,
    by_ciphertext: HashMap<String, Place>,
    by_id: HashMap<String, Place>,
    by_call: HashMap<String, Place>,
    by_text: HashMap<String, Vec<Place>>,
    by_response: HashMap<String, usize>,
    conversations: HashMap<String, usize>,
}

impl Held {
    pub(super) fn given(&self, response: usize) -> Option<&Given> {
        self.given.get(response)
    }

    pub(super) fn item(&self, place: Place) -> Option<&Item> {
        self.given(place.response)?.items.get(place.index)
    }

    pub(super) fn ciphertext(&self, text: &str) -> Option<Place> {
        self.by_ciphertext.get(text).copied()
    }

    pub(super) fn id(&self, id: &str) -> Option<Place> {
        self.by_id.get(id).copied()
    }

    pub(super) fn call(&self, call_id: &str) -> Option<Place> {
        self.by_call.get(call_id).copied()
    }

    /// Where reasoning in the clear was given with this text.
    pub(super) fn text(&self, text: &str) -> &[Place] {
        self.by_text.get(text).map_or(&[], Vec::as_slice)
    }

    pub(super) fn response(&self, id: &str) -> Option<usize> {
        self.by_response.get(id).copied()
    }

    /// The newest response of a conversation.
    pub(super) fn conversation(&self, id: &str) -> Option<usize> {
        self.conversations.get(id).copied()
    }

    /// Makes the newest response the newest of this conversation.
    pub(super) fn continue_conversation(&mut self, id: &str) {
        if let Some(newest) = self.given.len().checked_sub(1) {
            self.conversations.insert(id.to_owned(), newest);
        }
    }

    /// A response and those that it goes on from, the newest first.
    pub(super) fn chain(&self, newest: Option<usize>) -> impl Iterator<Item = (usize, &Given)> {
        let with_number = |number: usize| Some((number, self.given(number)?));
        std::iter::successors(newest.and_then(with_number), move |(_, given)| given.previous.and_then(with_number))
    }

    /// The reasoning items of which the item at `place` is one, or that stand right before its group.
    pub(super) fn reasoning_of(&self, place: Place) -> Vec<Place> {
        let items = self.given(place.response).map_or(&[][..], |given| &given.items);
        let head = items.get(..=place.index).unwrap_or_default();
        let last = head.iter().rposition(|item| item.said.is_reasoning());
        let Some(last) = last else { return Vec::new() };
        let first = head
            .get(..last)
            .and_then(|before| before.iter().rposition(|item| !item.said.is_reasoning()))
            .map_or(0, |other| other + 1);
        (first..=last).map(|index| Place { index, ..place }).collect()
    }

    /// The items that the reasoning item at `place` was given for: those behind its run, up to the next run.
    pub(super) fn group_of(&self, place: Place) -> Vec<Place> {
        let items = self.given(place.response).map_or(&[][..], |given| &given.items);
        let behind = items.iter().enumerate().skip(place.index);
        behind
            .skip_while(|(_, item)| item.said.is_reasoning())
            .take_while(|(_, item)| !item.said.is_reasoning())
            .map(|(index, _)| Place { index, ..place })
            .collect()
    }

    /// Adds a response with its ciphertexts, each with the number of its item.
    pub(super) fn add(&mut self, given: Given, ciphertexts: Vec<(usize, Issued)>) {
        let response = self.given.len();
        for (index, item) in given.items.iter().enumerate() {
            let place = Place { response, index };
            for id in &item.ids {
                self.by_id.insert(id.clone(), place);
            }
            if let Some(call_id) = item.said.call_id() {
                self.by_call.insert(call_id.to_owned(), place);
            }
            if let Said::Reasoning { clear: Some(text) } = &item.said {
                self.by_text.entry(text.clone()).or_default().push(place);
            }
        }
        for (index, issued) in ciphertexts {
            if issued.stage != Stage::Added {
                self.by_ciphertext.insert(issued.encrypted_content.clone(), Place { response, index });
            }
            self.issued.push(issued);
        }
        for id in &given.ids {
            self.by_response.insert(id.clone(), response);
        }
        self.given.push(given);
    }

    pub(super) fn issued(&self) -> &[Issued] {
        &self.issued
    }

    pub(super) fn revoke(&mut self) {
        self.by_ciphertext.clear();
    }

    pub(super) fn forget(&mut self) {
        for given in &mut self.given {
            given.stored = false;
        }
    }
}

/// Draws names and ciphertexts, and keeps what was issued.
pub(super) struct Vault {
    random: Random,
    held: Mutex<Held>,
}

impl Vault {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { random: Random::new(seed), held: Mutex::default() }
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.random.draw().fill(&mut bytes);
        bytes
    }

    /// A random number below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        let mut bytes = [0; 4];
        self.random.draw().fill(&mut bytes);
        (u32::from_le_bytes(bytes) as usize).checked_rem(end).unwrap_or(0)
    }

    /// So many random characters out of `a-z0-9`.
    pub(super) fn name(&self, length: usize) -> String {
        self.random.name(length)
    }

    /// Hexadecimal digits.
    pub(super) fn hex(&self, length: usize) -> String {
        let digit = |byte: u8| char::from_digit(u32::from(byte) % 16, 16);
        self.bytes(length).into_iter().filter_map(digit).collect()
    }

    /// A UUID.
    pub(super) fn uuid(&self) -> String {
        let part = |length| self.hex(length);
        format!("{}-{}-{}-{}-{}", part(8), part(4), part(4), part(4), part(12))
    }

    /// An id that says nothing, in standard base64.
    pub(super) fn opaque(&self) -> String {
        base64::encode(&self.bytes(64))
    }

    /// A ciphertext of `size` random bytes, in the shape of the vendor.
    pub(super) fn ciphertext(&self, vendor: Vendor, size: usize) -> String {
        let mut bytes = self.bytes(size.max(16));
        let url_safe = |text: &str| text.replace('+', "-").replace('/', "_");
        match vendor {
            Vendor::Xai => base64::encode(&bytes).trim_end_matches('=').to_owned(),
            Vendor::BedrockMantle => format!("rsn_{}", url_safe(base64::encode(&bytes).trim_end_matches('='))),
            _ => {
                // A Fernet token: a version, the seconds since 1970, then random bytes.
                if let Some(head) = bytes.first_chunk_mut::<6>() {
                    *head = [0x80, 0, 0, 0, 0, 0x69];
                }
                url_safe(&base64::encode(&bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertexts_look_like_those_of_the_vendor() {
        let vault = Vault::new(Some(1));
        let openai = vault.ciphertext(Vendor::OpenAi, 800);
        assert!(openai.starts_with("gAAAAABp") && openai.len() == 1068, "{}", openai.len());
        assert!(!openai.contains(['+', '/']) && openai.ends_with('='));
        let xai = vault.ciphertext(Vendor::Xai, 800);
        assert!(xai.contains(['+', '/']) && !xai.ends_with('='));
        assert!(vault.ciphertext(Vendor::BedrockMantle, 800).starts_with("rsn_"));
    }

    #[test]
    fn groups_follow_their_runs_of_reasoning() {
        let item = |said: Said| Item { ids: vec![], said };
        let reasoning = || item(Said::Reasoning { clear: None });
        let items = vec![
            item(Said::Message("a".into())),
            reasoning(),
            reasoning(),
            item(Said::Search),
            item(Said::Message("b".into())),
            reasoning(),
        ];
        let mut held = Held::default();
        held.add(
            Given {
                ids: vec![],
                items,
                model: String::new(),
                credential: [0; 32],
                stored: true,
                previous: None,
                brought: vec![],
                answered: vec![],
            },
            vec![],
        );
        let at = |index| Place { response: 0, index };
        for index in [1, 2] {
            assert_eq!(held.group_of(at(index)), [at(3), at(4)]);
            assert_eq!(held.reasoning_of(at(index + 2)), [at(1), at(2)]);
        }
        assert_eq!(held.group_of(at(5)), []);
        assert_eq!(held.reasoning_of(at(0)), []);
    }
}
