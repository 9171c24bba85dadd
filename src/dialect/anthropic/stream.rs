//! Blocks that come in pieces.

use std::ops::Range;

use crate::{
    dialect::{PartKind, Unreadable, read::set},
    ledger::fingerprint::Running,
    wire::{
        json::{Cursor, Str, is_utf8},
        shape,
    },
};

/// What a text joins that begins now.
#[derive(Default)]
pub(super) struct Tail {
    /// The index of the block that ended last.
    pub(super) last: Option<u32>,
    /// The texts right before it.
    pub(super) near: Option<Running>,
    /// Those and texts further back, from which only blocks of the provider's own tools part it.
    pub(super) far: Option<Running>,
}

/// A block of which more may come.
pub(super) enum Growing {
    Text(Box<Text>),
    Thinking {
        /// The escaped text and signature.
        text: Vec<u8>,
        signature: Vec<u8>,
    },
    Other {
        /// The block as it began.
        raw: Vec<u8>,
        /// The arguments of a call, or the members of its only delta.
        rest: Rest,
    },
}

#[derive(Default)]
pub(super) enum Rest {
    #[default]
    None,
    Input(Vec<u8>),
    Members(Vec<u8>),
    /// Something that is not understood.
    Unclear,
}

pub(super) struct Text {
    pub(super) own: Running,
    /// The hashes of this text and of those before it, near and far: some clients merge them. Thinking stands nowhere
    /// between them, so what precedes the first precedes all.
    pub(super) near: Option<Running>,
    pub(super) far: Option<Running>,
    pub(super) is_empty: bool,
    /// The escaped text and the citations, where these may have opaque fields.
    pub(super) cited: Option<(Vec<u8>, Vec<u8>)>,
}

/// A piece of a block.
pub(super) struct Delta<'a> {
    pub(super) kind: Str<'a>,
    pub(super) text: Option<Str<'a>>,
    pub(super) thinking: Option<Str<'a>>,
    pub(super) signature: Option<Str<'a>>,
    pub(super) partial_json: Option<Str<'a>>,
    pub(super) citation: Option<Range<usize>>,
}

impl<'a> Delta<'a> {
    pub(super) fn read(raw: &'a [u8]) -> Result<Self, Unreadable> {
        let mut kind = None;
        let mut delta = Self {
            kind: Str::empty(),
            text: None,
            thinking: None,
            signature: None,
            partial_json: None,
            citation: None,
        };
        Cursor::new(raw).object(|cursor, key| {
            let is_text = cursor.peek() == Some(b'"');
            match &*key.decode() {
                b"type" if is_text => set(&mut kind, cursor.string()?.0),
                b"text" if is_text => set(&mut delta.text, cursor.string()?.0),
                b"thinking" if is_text => set(&mut delta.thinking, cursor.string()?.0),
                b"signature" if is_text => set(&mut delta.signature, cursor.string()?.0),
                b"partial_json" if is_text => set(&mut delta.partial_json, cursor.string()?.0),
                b"citation" => set(&mut delta.citation, cursor.skip()?),
                _ => Ok(()),
            }
        })?;
        delta.kind = kind.ok_or(Unreadable)?;
        Ok(delta)
    }
}

impl Tail {
    pub(super) fn is_before(&self, index: u32) -> bool {
        self.last.is_some_and(|last| last.checked_add(1) == Some(index))
    }

    /// Another block than one of text begins.
    pub(super) fn pass(&mut self, index: u32, kind: PartKind) {
        let tail = std::mem::take(self);
        if kind == PartKind::Native && tail.is_before(index) {
            *self = Self { last: Some(index), near: None, far: tail.far.or(tail.near) };
        }
    }
}

impl Text {
    pub(super) fn take_in(&mut self, text: &shape::Text<'_>) {
        self.is_empty &= text.is_empty();
        text.decoded(&mut |bytes| {
            self.own.update(bytes);
            for joined in self.near.iter_mut().chain(&mut self.far) {
                joined.update(bytes);
            }
        });
        if let Some((written, _)) = &mut self.cited {
            written.extend_from_slice(text.raw());
        }
    }
}

impl Growing {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.cited.as_ref().map_or(0, |(text, citations)| text.len() + citations.len()),
            Self::Thinking { text, signature } => text.len() + signature.len(),
            Self::Other { raw, rest } => raw.len() + rest.bytes(),
        }
    }
}

impl Rest {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Input(bytes) | Self::Members(bytes) => bytes.len(),
            Self::None | Self::Unclear => 0,
        }
    }

    /// The block with what came behind its beginning.
    pub(super) fn complete(self, raw: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::None => Some(raw),
            Self::Unclear => None,
            Self::Input(input) => {
                if input.is_empty() {
                    return Some(raw);
                }
                let mut cursor = Cursor::new(&input);
                let is_value = is_utf8(&input) && cursor.skip().is_ok() && cursor.end().is_ok();
                if is_value { with_member(&raw, "input", &input) } else { None }
            }
            Self::Members(members) => {
                let mut raw = Some(raw);
                Cursor::new(&members)
                    .object::<Unreadable>(|cursor, key| {
                        let value = cursor.skip()?;
                        if !key.is("type") {
                            let name = key.decode();
                            let name = str::from_utf8(&name).map_err(|_| Unreadable)?;
                            raw = raw.take().and_then(|raw| with_member(&raw, name, &members[value]));
                        }
                        Ok(())
                    })
                    .ok()?;
                raw
            }
        }
    }
}

/// An object with this member: in the place of the one that it has, or at its end.
fn with_member(object: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(object);
    let (mut held, mut members) = (None, 0);
    let span = cursor.object::<Unreadable>(|cursor, key| {
        members += 1;
        if key.is(name) {
            return set(&mut held, cursor.skip()?);
        }
        Ok(())
    });
    let end = span.ok()?.end - 1;
    Some(match held {
        Some(held) => [&object[..held.start], value, &object[held.end..]].concat(),
        None => {
            let name = serde_json::to_vec(name).ok()?;
            let comma = if members > 0 { &b","[..] } else { b"" };
            [&object[..end], comma, &name, b":", value, &object[end..]].concat()
        }
    })
}
