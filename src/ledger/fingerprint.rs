//! Keyed hashes of content. What is remembered and what is looked up go through the same functions.

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
/// What is short is collected and hashed in one go: a hasher for content of any length is large, and
/// most of what is hashed here is not.
#[derive(Clone)]
pub(crate) struct Running {
    key: HashKey,
    short: Vec<u8>,
    long: Option<Box<blake3::Hasher>>,
}

/// How much is collected. More than one chunk of the hash at a time is hashed faster than one by one.
const SHORT: usize = 2 << 10;

impl Running {
    pub(crate) fn new(key: &HashKey, tag: Tag) -> Self {
        let mut short = Vec::with_capacity(512);
        short.push(tag as u8);
        Self { key: key.clone(), short, long: None }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if self.short.len() + bytes.len() <= SHORT {
            self.short.extend_from_slice(bytes);
        } else {
            self.spill(bytes);
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        let hasher = self.long.get_or_insert_with(|| Box::new(blake3::Hasher::new_keyed(self.key.as_bytes())));
        hasher.update(&self.short);
        self.short.clear();
        if bytes.len() > SHORT {
            hasher.update(bytes);
        } else {
            self.short.extend_from_slice(bytes);
        }
    }

    /// Takes in bytes so that where they end is part of the hash.
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.update(&(bytes.len() as u64).to_le_bytes());
        self.update(bytes);
    }

    pub(crate) fn anchor(&self) -> Anchor {
        match &self.long {
            None => short(&self.key, &self.short),
            Some(hasher) => {
                let mut hasher = hasher.clone();
                hasher.update(&self.short);
                cut(&hasher.finalize())
            }
        }
    }
}

fn short(key: &HashKey, bytes: &[u8]) -> Anchor {
    cut(&blake3::keyed_hash(key.as_bytes(), bytes))
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
    short(key, &bytes)
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
