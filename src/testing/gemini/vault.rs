//! The signatures that were issued, and what each of them signs.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use super::config::{Family, Surface};
use crate::testing::provider::{Random, base64};

/// What kind of part a signature was issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignedKind {
    /// A run of visible text.
    Text,
    /// A run of visible thoughts.
    Thought,
    /// A call of one of the client's tools.
    Call,
    /// An image or another medium.
    Media,
    /// Code or a tool that the provider ran.
    Native,
}

/// A signature that the provider issued.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The signature, as it was written in the answer (before any JSON escapes).
    pub signature: String,
    /// What kind of part it signs.
    pub kind: SignedKind,
    /// What it signs: the text of the whole run; `{"name", "args"}` of a call; `{"mimeType", "blake3"}` of a
    /// medium; any other part as `{"executableCode": {…}}`.
    pub content: Value,
    /// The model that issued it.
    pub model: String,
    /// The surface that issued it.
    pub surface: Surface,
    pub(super) credential: [u8; 32],
    /// How many were issued before it.
    pub(super) number: usize,
}

/// Does not show the signature or the content.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("kind", &self.kind)
            .field("model", &self.model)
            .field("surface", &self.surface)
            .field("characters", &self.signature.len())
            .finish_non_exhaustive()
    }
}

pub(super) struct Vault {
    random: Random,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    issued: Vec<Arc<Issued>>,
    valid: HashMap<Vec<u8>, Arc<Issued>>,
}

impl Vault {
    /// A vault whose signatures follow from `seed`, or differ from those of every other vault of this process.
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { random: Random::new(seed), held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A random name of `length` characters out of `a-z0-9`.
    pub(super) fn name(&self, length: usize) -> String {
        self.random.name(length)
    }

    /// Issues a signature of about `size` bytes (0: 156 to 1,500), in the shape of the family and surface.
    pub(super) fn issue(&self, mut issued: Issued, family: Family, size: usize) -> String {
        let mut random = self.random.draw();
        let mut draw = [0; 4];
        random.fill(&mut draw);
        let draw = u32::from_le_bytes(draw) as usize;
        let size = if size == 0 { 156 + draw % 1_320 } else { size + draw % (size / 2 + 1) };
        let mut payload = vec![0; size];
        random.fill(&mut payload);
        // A Tink ciphertext: a version, the id of the key, then random bytes.
        let key: [u8; 4] = match issued.surface {
            Surface::GeminiApi => [0xbe, 0x3e, 0xf6, 0xfb],
            Surface::Vertex => [0x8f, 0x3d, 0x6b, 0x5f],
            Surface::CloudCode => [0x72, 0xc8, 0xda, 0x7c],
        };
        if let Some(head) = payload.first_chunk_mut::<5>() {
            *head = [1, key[0], key[1], key[2], key[3]];
        }
        let bytes = match (family, issued.surface) {
            (Family::Claude, _) => base64::encode(&field(0x12, &field(0x0a, &payload))).into_bytes(),
            (Family::Gemini2, _) => field(0x0a, &payload),
            (_, Surface::Vertex) if draw.is_multiple_of(2) => payload,
            (_, Surface::Vertex) => field(0x0a, &payload),
            _ => field(0x12, &field(0x0a, &payload)),
        };
        issued.signature = base64::encode(&bytes);
        let signature = issued.signature.clone();
        let mut held = self.held();
        issued.number = held.issued.len();
        let issued = Arc::new(issued);
        held.issued.push(Arc::clone(&issued));
        held.valid.insert(bytes, issued);
        signature
    }

    pub(super) fn find(&self, bytes: &[u8]) -> Option<Arc<Issued>> {
        self.held().valid.get(bytes).map(Arc::clone)
    }

    pub(super) fn issued(&self) -> Vec<Arc<Issued>> {
        self.held().issued.clone()
    }

    pub(super) fn revoke_all(&self) {
        self.held().valid.clear();
    }
}

/// `payload` as a length-delimited protobuf field.
fn field(tag: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let mut length = payload.len();
    while length > 127 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(vault: &Vault, family: Family, surface: Surface, size: usize) -> String {
        let issued = Issued {
            signature: String::new(),
            kind: SignedKind::Text,
            content: Value::Null,
            model: "m".to_owned(),
            surface,
            credential: [0; 32],
            number: 0,
        };
        vault.issue(issued, family, size)
    }

    #[test]
    fn signatures_are_unique_and_look_like_the_real_ones() {
        let vault = Vault::new(Some(1));
        let mut all = std::collections::HashSet::new();
        for _ in 0..100 {
            let api = issue(&vault, Family::Gemini3, Surface::GeminiApi, 0);
            assert!(api.starts_with('E') && (208..=2_000).contains(&api.len()), "{}", api.len());
            let old = issue(&vault, Family::Gemini2, Surface::GeminiApi, 0);
            assert!(old.starts_with('C'));
            let vertex = issue(&vault, Family::Gemini3, Surface::Vertex, 0);
            assert!(vertex.starts_with('C') || vertex.starts_with("AY89a"));
            let claude = issue(&vault, Family::Claude, Surface::CloudCode, 0);
            assert!(claude.starts_with('R'));
            all.extend([api, old, vertex, claude]);
        }
        assert_eq!(all.len(), 400);
        let text: String = all.into_iter().collect();
        assert!(text.contains('+') && text.contains('/') && text.contains('='));
        assert!((1 << 20..2 << 20).contains(&issue(&vault, Family::Gemini3Image, Surface::GeminiApi, 800 << 10).len()));
    }

    #[test]
    fn seeds_repeat_and_vaults_without_one_differ() {
        let of = |seed| issue(&Vault::new(seed), Family::Gemini3, Surface::GeminiApi, 0);
        assert_eq!(of(Some(7)), of(Some(7)));
        assert_ne!(of(Some(7)), of(Some(8)));
        assert_ne!(of(None), of(None));
    }
}
