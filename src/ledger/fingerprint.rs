//! Keyed hashes of content. What is remembered and what is looked up go through the same functions.

use polyval::{Block, Polyval, universal_hash::UniversalHash};

use crate::{
    ledger::Anchor,
    scope::HashKey,
    wire::{
        base64,
        canonical::{Defaults, canonical, canonical_with},
    },
};

/// What a hash was taken of; hashes of different things never meet.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Tag {
    Text = 1,
    Thought,
    Call,
    Output,
    Data,
    Uri,
    Native,
    Other,
    Chain,
    System,
    Window,
    Client,
}

/// A hash that is being taken.
///
/// Content is compressed with the universal hash POLYVAL under a key that is derived for it, and what is left of it is
/// hashed with BLAKE3, keyed too, which alone is ever stored or compared. Whoever does not have the key finds two
/// contents with one hash no more easily than by guessing, and it takes a fifth of the time that BLAKE3 takes for
/// texts of a usual length. What is shorter than a block is hashed as it is.
#[derive(Clone)]
pub(crate) struct Running {
    key: [u8; 32],
    compressor: Polyval,
    tag: u8,
    /// The bytes that are not compressed yet.
    rest: [u8; BLOCK],
    held: usize,
    length: u64,
}

/// As much as one step of BLAKE3 and four of POLYVAL take in.
const BLOCK: usize = 64;

/// Marks the tag of what was compressed.
const COMPRESSED: u8 = 0x80;

impl Running {
    pub(crate) fn new(key: &HashKey, tag: Tag) -> Self {
        Self {
            key: *key.as_bytes(),
            compressor: key.compressor().clone(),
            tag: tag as u8,
            rest: [0; BLOCK],
            held: 0,
            length: 0,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let room = BLOCK - self.held;
        if bytes.len() < room {
            self.rest[self.held..self.held + bytes.len()].copy_from_slice(bytes);
            self.held += bytes.len();
            return;
        }
        let (first, bytes) = bytes.split_at(room);
        self.rest[self.held..].copy_from_slice(first);
        let whole = bytes.len() - bytes.len() % BLOCK;
        let (blocks, rest) = bytes.split_at(whole);
        self.compressor.update(Block::slice_as_chunks(&self.rest).0);
        self.compressor.update(Block::slice_as_chunks(blocks).0);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.held = rest.len();
    }

    /// Takes in bytes so that where they end is part of the hash.
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.update(&(bytes.len() as u64).to_le_bytes());
        self.update(bytes);
    }

    pub(crate) fn anchor(&self) -> Anchor {
        let rest = &self.rest[..self.held];
        let mut input = [self.tag; BLOCK];
        if self.length < BLOCK as u64 {
            input[1..=rest.len()].copy_from_slice(rest);
            return short(&self.key, &input[..=rest.len()]);
        }
        let mut compressor = self.compressor.clone();
        compressor.update_padded(rest);
        input[0] |= COMPRESSED;
        input[1..9].copy_from_slice(&self.length.to_le_bytes());
        input[9..25].copy_from_slice(&compressor.finalize());
        short(&self.key, &input[..25])
    }
}

fn short(key: &[u8; 32], bytes: &[u8]) -> Anchor {
    cut(&blake3::keyed_hash(key, bytes))
}

fn cut(hash: &blake3::Hash) -> Anchor {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    Anchor::from_bytes(bytes)
}

/// The anchor of two anchors, one after the other.
pub(crate) fn pair(key: &HashKey, tag: Tag, one: &Anchor, other: &Anchor) -> Anchor {
    let mut bytes = [tag as u8; 33];
    bytes[1..17].copy_from_slice(one.as_bytes());
    bytes[17..].copy_from_slice(other.as_bytes());
    short(key.as_bytes(), &bytes)
}

/// The anchor of a call; `None` if its arguments have no canonical form.
pub(crate) fn call(key: &HashKey, name: &[u8], args: Option<&[u8]>, defaults: Option<&Defaults>) -> Option<Anchor> {
    let mut hash = Running::new(key, Tag::Call);
    hash.field(name);
    canonical_with(args.unwrap_or(b"{}"), defaults, &mut |bytes| hash.update(bytes)).ok()?;
    Some(hash.anchor())
}

/// The anchor of base64 data, which is the same in every alphabet and padding.
pub(crate) fn data(key: &HashKey, text: &[u8]) -> Anchor {
    let mut hash = Running::new(key, Tag::Data);
    base64::normalized(text, &mut |bytes| hash.update(bytes));
    hash.anchor()
}

/// The anchor of a JSON value of any kind; the raw bytes stand in for a value without a canonical form.
pub(crate) fn json(key: &HashKey, tag: Tag, value: Option<&[u8]>) -> Anchor {
    let value = value.unwrap_or(b"{}");
    let mut hash = Running::new(key, tag);
    if canonical(value, &mut |bytes| hash.update(bytes)).is_err() {
        hash = Running::new(key, tag);
        hash.field(value);
    }
    hash.anchor()
}

/// The anchor of named JSON values; `None` if one has no canonical form.
pub(crate) fn fields(key: &HashKey, tag: &str, fields: &[(&str, &[u8])]) -> Option<Anchor> {
    let mut hash = Running::new(key, Tag::Native);
    hash.field(tag.as_bytes());
    for (name, value) in fields {
        hash.field(name.as_bytes());
        canonical(value, &mut |bytes| hash.update(bytes)).ok()?;
    }
    Some(hash.anchor())
}

/// The anchor of plain bytes.
pub(crate) fn bytes(key: &HashKey, tag: Tag, bytes: &[u8]) -> Anchor {
    let mut hash = Running::new(key, tag);
    hash.update(bytes);
    hash.anchor()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(pieces: &[&[u8]]) -> Anchor {
        let mut hash = Running::new(&HashKey::from_bytes([7; 32]), Tag::Text);
        pieces.iter().for_each(|piece| hash.update(piece));
        hash.anchor()
    }

    #[test]
    fn every_length_has_a_hash_of_its_own() {
        let zeros = [0; 300];
        let anchors: std::collections::HashSet<_> = (0..zeros.len()).map(|length| of(&[&zeros[..length]])).collect();
        assert_eq!(anchors.len(), zeros.len());
    }

    #[test]
    fn key_and_tag_and_every_byte_matter_at_every_length() {
        for length in [1, 15, 16, 62, 63, 64, 65, 127, 128, 129, 1_000] {
            let mut content = vec![b'x'; length];
            let key = HashKey::from_bytes([7; 32]);
            let anchor = bytes(&key, Tag::Text, &content);
            assert_ne!(anchor, bytes(&key, Tag::Thought, &content));
            assert_ne!(anchor, bytes(&HashKey::from_bytes([8; 32]), Tag::Text, &content));
            for at in 0..length {
                content[at] ^= 1;
                assert_ne!(anchor, bytes(&key, Tag::Text, &content), "{at} of {length}");
                content[at] ^= 1;
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_content_is_cut(
            content in prop::collection::vec(any::<u8>(), 0..400),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
            cuts.extend([0, content.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &content[cut[0]..cut[1]]).collect();
            prop_assert_eq!(of(&pieces), of(&[&content]));
        }
    }
}
