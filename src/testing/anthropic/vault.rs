//! What was issued, and what each block was issued with.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use super::prefix::Prefix;
use crate::testing::provider::{Random, base64};

/// What kind of opaque state was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IssuedKind {
    /// The `signature` of a `thinking` block.
    Thinking,
    /// The `data` of a `redacted_thinking` block.
    Redacted,
    /// The `encrypted_content` of a search result.
    SearchResult,
}

/// Opaque state that the provider issued.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The signature or data, as it was written in the answer (before any JSON escapes).
    pub signature: String,
    /// What kind it is of.
    pub kind: IssuedKind,
    /// The text of the thinking block; empty for any other, and for hidden thinking.
    pub thinking: String,
    /// The model that issued it.
    pub model: String,
    pub(super) family: String,
    pub(super) credential: [u8; 32],
    /// How many were issued before it.
    pub(super) number: usize,
    /// The answer that it came in, and where in it.
    pub(super) answer: usize,
    pub(super) position: usize,
    /// What stood before it.
    pub(super) prefix: Arc<Prefix>,
    /// How many elements of the prefix.
    pub(super) reach: usize,
    /// The thinking blocks before it that were there, by their numbers.
    pub(super) chain: Vec<usize>,
}

/// Does not show the state or the text.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("kind", &self.kind)
            .field("model", &self.model)
            .field("characters", &self.signature.len())
            .finish_non_exhaustive()
    }
}

/// One block of an answer, as far as it can be found again.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kept {
    /// By its number.
    Thought(usize),
    /// Without the white space around it.
    Text(String),
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
    /// By the id that it shares with its partner, and its type.
    Server(&'static str, String),
}

impl Kept {
    /// Whether `other` is this block as a client may send it back: with an id of its own.
    pub(super) fn is(&self, other: &Self) -> bool {
        use crate::testing::provider::json::same;
        match (self, other) {
            (
                Self::ToolUse { id, name, input },
                Self::ToolUse { id: other_id, name: other_name, input: other_input },
            ) => id == other_id || (name == other_name && same(input, other_input)),
            _ => self == other,
        }
    }
}

/// One answer of the provider.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) blocks: Vec<Kept>,
    /// It continues an assistant message.
    pub(super) continues: bool,
}

pub(super) struct Vault {
    pub(super) random: Random,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    issued: Vec<Arc<Issued>>,
    valid: HashMap<String, Arc<Issued>>,
    answers: Vec<Arc<Answered>>,
}

impl Vault {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { random: Random::new(seed), held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an answer, which is then [closed](Self::close).
    pub(super) fn open(&self) -> usize {
        let mut held = self.held();
        held.answers.push(Arc::default());
        held.answers.len() - 1
    }

    pub(super) fn close(&self, answer: usize, answered: Answered) {
        if let Some(slot) = self.held().answers.get_mut(answer) {
            *slot = Arc::new(answered);
        }
    }

    pub(super) fn answer(&self, answer: usize) -> Arc<Answered> {
        self.held().answers.get(answer).map(Arc::clone).unwrap_or_default()
    }

    /// Issues a signature, data or content of 232 and more characters, and gives it a number.
    pub(super) fn issue(&self, mut issued: Issued) -> Arc<Issued> {
        let mut random = self.random.draw();
        let mut draw = [0; 2];
        random.fill(&mut draw);
        let size = 168 + usize::from(u16::from_le_bytes(draw)) % 1_000;
        let mut payload = vec![0; size];
        random.fill(&mut payload);
        // A container in field 2, and a version in field 3.
        let mut bytes = vec![0x12, (size & 127) as u8 | 128, (size >> 7) as u8];
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&[0x18, 1]);
        issued.signature = base64::encode(&bytes);
        let mut held = self.held();
        issued.number = held.issued.len();
        let issued = Arc::new(issued);
        held.issued.push(Arc::clone(&issued));
        held.valid.insert(issued.signature.clone(), Arc::clone(&issued));
        issued
    }

    pub(super) fn find(&self, signature: &str, kind: IssuedKind) -> Option<Arc<Issued>> {
        self.held().valid.get(signature).filter(|issued| issued.kind == kind).map(Arc::clone)
    }

    pub(super) fn issued(&self) -> Vec<Arc<Issued>> {
        self.held().issued.clone()
    }

    pub(super) fn revoke_all(&self) {
        self.held().valid.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(vault: &Vault) -> String {
        let issued = Issued {
            signature: String::new(),
            kind: IssuedKind::Thinking,
            thinking: String::new(),
            model: "m".to_owned(),
            family: "m".to_owned(),
            credential: [0; 32],
            number: 0,
            answer: 0,
            position: 0,
            prefix: Arc::default(),
            reach: 0,
            chain: Vec::new(),
        };
        vault.issue(issued).signature.clone()
    }

    #[test]
    fn signatures_are_unique_and_look_like_the_real_ones() {
        let vault = Vault::new(Some(1));
        let all: std::collections::HashSet<String> = (0..200).map(|_| issue(&vault)).collect();
        assert_eq!(all.len(), 200);
        for signature in all {
            assert!(signature.starts_with('E') && (228..=5_776).contains(&signature.len()), "{}", signature.len());
        }
    }

    #[test]
    fn seeds_repeat_and_vaults_without_one_differ() {
        let of = |seed| issue(&Vault::new(seed));
        assert_eq!(of(Some(7)), of(Some(7)));
        assert_ne!(of(Some(7)), of(Some(8)));
        assert_ne!(of(None), of(None));
    }
}
