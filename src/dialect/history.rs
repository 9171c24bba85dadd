use std::{borrow::Cow, ops::Range};

use crate::{
    ledger::{
        Anchor, Kind,
        fingerprint::{self, Running, Tag},
    },
    scope::{HashKey, Member},
    wire::{
        canonical::Defaults,
        json::{Cursor, Invalid, Str},
    },
};

/// The history of a request: its messages and parts as spans of the body. Nothing is copied and
/// nothing is hashed here.
#[derive(Debug, Default)]
pub(crate) struct History<'a> {
    /// The model, where the body names it.
    pub(crate) model: Option<Cow<'a, [u8]>>,
    /// The system instruction's parts.
    pub(crate) system: Vec<Payload<'a>>,
    /// The messages, oldest first.
    pub(crate) messages: Vec<Message>,
    /// The parts of all messages, in order.
    pub(crate) parts: Vec<Part<'a>>,
    /// The spans of the tool declarations.
    pub(crate) tools: Option<Range<usize>>,
    /// Small members of the body in which a client may name its session.
    pub(crate) members: Vec<Member<'a>>,
    /// What the request says about thinking.
    pub(crate) thinking: Thinking,
    /// The provider keeps the history itself, and the request only goes on from there: nothing is put back.
    pub(crate) kept_elsewhere: bool,
}

/// What a request says about thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// Nothing: the model does as it does by default.
    #[default]
    Unsaid,
    On,
    /// None at all is wanted; nothing is put back that is a thought.
    Off,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Client,
    Model,
}

/// One message of the history.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) author: Author,
    /// The message in the body.
    pub(crate) span: Range<usize>,
    /// Its parts, as indexes into [`History::parts`].
    pub(crate) parts: Range<usize>,
    /// What the dialect wants to know of it where parts are put back.
    pub(crate) note: Note,
}

/// What was noted of a message while it was read, so that it need not be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Note {
    #[default]
    Nothing,
    /// The provider's id of it is there.
    Named,
    /// No member of it is one that could be put back. Another one would be inserted here.
    Open(usize),
}

/// One part of a message.
#[derive(Clone, Debug)]
pub(crate) struct Part<'a> {
    /// The index of its message.
    pub(crate) message: usize,
    /// The part in the body.
    pub(crate) span: Range<usize>,
    pub(crate) kind: PartKind,
    pub(crate) id: Option<Str<'a>>,
    pub(crate) name: Option<Str<'a>>,
    pub(crate) payload: Payload<'a>,
    pub(crate) slot: Slot,
    /// The client spells this part's fields in snake case.
    pub(crate) snake_case: bool,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    Text,
    Thought,
    Call,
    /// The output of a call.
    Output,
    Media,
    /// A part that only this protocol has; the payload tells which.
    Native,
    /// Anything else: compared, never restored.
    Other,
}

/// The content of a part, by which it is compared.
#[derive(Clone, Debug)]
pub(crate) enum Payload<'a> {
    /// Decoded text.
    Text(Str<'a>),
    /// Decoded text that is written in several pieces.
    Pieces(Vec<Str<'a>>),
    /// Base64 data.
    Data(Str<'a>),
    /// A reference to a file.
    Uri(Str<'a>),
    /// A JSON value, compared in canonical form. `None` stands for an empty object.
    Json(Option<&'a [u8]>),
    /// A JSON value that is written inside a string. It is decoded when it is looked at.
    Encoded(Str<'a>),
    /// A JSON value that was put together from pieces.
    Assembled(Vec<u8>),
    /// Named JSON values, compared in canonical form and in this order.
    Fields(&'static str, Vec<(&'static str, &'a [u8])>),
    /// A JSON value, compared by what this leaves of it.
    Reduced(&'a [u8], Reduction),
}

/// Leaves of a JSON value what it is compared by; `None` if it cannot be read.
pub(crate) type Reduction = fn(&[u8]) -> Option<Vec<u8>>;

/// Where a part's state stands, or would stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// There is none; it would be inserted here.
    Absent(usize),
    /// There is a value that stands for none: empty, null, a sentinel. The span is that of the value.
    Blank(Range<usize>),
    /// The client sent state of its own. The span is that of the JSON string.
    Held(Range<usize>),
    /// The part carries none itself: the state of its turn stands beside it, and does not.
    Beside,
    /// The part cannot carry state, or in a way that is not understood; or what stands beside it is there.
    Unfit,
}

impl Slot {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Absent(_) | Self::Blank(_) | Self::Beside)
    }
}

impl<'a> History<'a> {
    /// The lists of this history without what is in them, for one of another body.
    pub(crate) fn emptied(self) -> History<'static> {
        History {
            system: emptied(self.system),
            messages: emptied(self.messages),
            parts: emptied(self.parts),
            members: emptied(self.members),
            ..History::default()
        }
    }

    /// The parts of a message.
    pub(crate) fn parts_of(&self, message: usize) -> &[Part<'a>] {
        &self.parts[self.messages[message].parts.clone()]
    }
}

/// An empty list in the memory of another one: collecting elements of one size happens in place.
fn emptied<T, U>(mut list: Vec<T>) -> Vec<U> {
    list.clear();
    list.into_iter().filter_map(|_| None).collect()
}

impl Part<'_> {
    /// The kind under which the part may be remembered; `None` if it never is.
    pub(crate) fn remembered_kind(&self) -> Option<Kind> {
        match self.kind {
            PartKind::Text => Some(Kind::Text),
            PartKind::Thought => Some(Kind::Thought),
            PartKind::Call => Some(Kind::Call),
            PartKind::Media => Some(Kind::Media),
            PartKind::Native => Some(Kind::Native),
            PartKind::Output | PartKind::Other => None,
        }
    }

    /// The text of a text or thought part.
    pub(crate) fn text(&self) -> Option<&Str<'_>> {
        match (self.kind, &self.payload) {
            (PartKind::Text | PartKind::Thought, Payload::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a text or thought part without any text.
    pub(crate) fn is_empty_text(&self) -> bool {
        self.text().is_some_and(Str::is_empty)
    }

    /// The hash of the part's content; `None` if it has no canonical form. `defaults` are the
    /// arguments that do not count because they equal their declared defaults.
    pub(crate) fn anchor(&self, key: &HashKey, defaults: Option<&Defaults>) -> Option<Anchor> {
        if self.kind == PartKind::Call {
            let name = self.name.as_ref()?.decode();
            return match &self.payload {
                Payload::Encoded(text) => fingerprint::call(key, &name, encoded(text).as_deref(), defaults),
                payload => fingerprint::call(key, &name, payload.json(), defaults),
            };
        }
        let tag = match self.kind {
            PartKind::Thought => Tag::Thought,
            PartKind::Output => Tag::Output,
            PartKind::Text => Tag::Text,
            _ => Tag::Other,
        };
        self.payload.anchor(key, tag)
    }
}

impl Payload<'_> {
    fn json(&self) -> Option<&[u8]> {
        match self {
            Self::Json(value) => *value,
            Self::Assembled(value) => Some(value),
            _ => None,
        }
    }

    /// The hash of the content.
    pub(crate) fn anchor(&self, key: &HashKey, tag: Tag) -> Option<Anchor> {
        Some(match self {
            Self::Text(text) => {
                let mut hash = Running::new(key, tag);
                text.decoded(&mut |bytes| hash.update(bytes));
                hash.anchor()
            }
            Self::Pieces(pieces) => {
                let mut hash = Running::new(key, tag);
                for text in pieces {
                    text.decoded(&mut |bytes| hash.update(bytes));
                }
                hash.anchor()
            }
            Self::Data(data) => fingerprint::data(key, &data.decode()),
            Self::Uri(uri) => fingerprint::bytes(key, Tag::Uri, &uri.decode()),
            Self::Encoded(text) => fingerprint::json(key, tag, encoded(text).as_deref()),
            Self::Json(_) | Self::Assembled(_) => fingerprint::json(key, tag, self.json()),
            Self::Fields(tag, fields) => return fingerprint::fields(key, tag, fields),
            Self::Reduced(value, reduction) => fingerprint::json(key, tag, Some(&reduction(value)?)),
        })
    }
}

/// The JSON value that a string holds: none for an empty one or `null`, and the string itself if what it holds is no
/// JSON.
fn encoded<'a>(text: &Str<'a>) -> Option<Cow<'a, [u8]>> {
    let value = text.decode();
    if matches!(value.trim_ascii(), b"" | b"null") {
        return None;
    }
    let mut cursor = Cursor::new(&value);
    let is_json = cursor.skip().is_ok() && cursor.end().is_ok();
    Some(if is_json { value } else { [b"\"", text.raw(), b"\""].concat().into() })
}

/// A body in which no history could be read. It passes on as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl From<Invalid> for Unreadable {
    fn from(_: Invalid) -> Self {
        Self
    }
}
