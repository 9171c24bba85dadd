//! One wire protocol each, behind one trait.
//!
//! A dialect knows where its protocol keeps opaque state. It turns a request body into a
//! [`History`], a response into the parts of a turn, and says how a piece of state is written back.
//! It knows no store and no HTTP client. To add one, write a file with an implementation of
//! [`Dialect`] and name it in [`all`].

mod anthropic;
mod chat;
mod cloud_code;
mod gemini;
mod history;
pub(crate) mod read;
mod responses;

use std::{collections::HashMap, fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use http::{Method, Uri};

pub(crate) use self::history::{Author, History, Message, Part, PartKind, Payload, Slot, Thinking, Unreadable};
use crate::{
    ledger::{Alternative, Anchor, Kind, few::Few},
    scope::HashKey,
    wire::canonical::Defaults,
};

/// What a watched request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// An answer, streamed or not.
    Generate,
    /// The size of a request, or a summary of it. Patched like the request it is about, never learned from.
    Count,
}

/// What a dialect recognised in a request's method and URI.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) operation: Operation,
    /// The model, where the path names it.
    pub(crate) model: Option<String>,
}

/// One wire protocol.
pub(crate) trait Dialect: Send + Sync + fmt::Debug + 'static {
    /// Its name in reports and metrics.
    fn name(&self) -> &'static str;

    /// Whether a request is one of this protocol that carries a history.
    fn route(&self, method: &Method, uri: &Uri) -> Option<Route>;

    /// Reads the history of a request body that is known to be UTF-8.
    fn read<'a>(&self, body: &'a [u8]) -> Result<History<'a>, Unreadable>;

    /// Whether the provider may bind the state of this model to the account of the caller.
    fn binds_account(&self, _model: &str) -> bool {
        false
    }

    /// Whether the provider checks that what precedes a thought is what preceded it when it was made, thoughts
    /// included, and on which evidence.
    fn binding(&self, _model: &str) -> Binding {
        Binding::Free
    }

    /// How the parts of an answer stand in a request.
    fn layout(&self) -> Layout {
        Layout::Parts
    }

    /// Reads one response to `model`.
    fn recorder(
        &self,
        model: &str,
        key: &HashKey,
        limits: RecorderLimits,
        defaults: Arc<ToolDefaults>,
    ) -> Box<dyn Recorder>;

    /// The edit that writes `state` (a raw JSON value) into the slot of a kept part.
    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<(Range<usize>, Bytes)>;

    /// Whether a kept call has the content of the call whose whole part this is, as far as that can be told
    /// without hashing. If not, they may still be equal.
    fn is_same_call(&self, _body: &[u8], _part: &Part<'_>, _whole: &[u8]) -> bool {
        false
    }

    /// The value by which two raw pieces of state are compared.
    fn same_state(&self, one: &[u8], other: &[u8]) -> bool;

    /// A model message, or the items of one answer, that holds these parts, for calls that the client dropped.
    /// It goes before the message of the first output, and a comma is added.
    fn message(&self, parts: &[Whole<'_>]) -> Bytes;

    /// The splices that put whole parts of one turn back at one spot; none if there is no room for them.
    fn put_back(&self, body: &[u8], history: &History<'_>, spot: Spot, parts: &[Whole<'_>]) -> Option<Few<Splice>> {
        elements(self.layout(), body, history, spot, parts)
    }

    /// Whether all that goes back to one place goes there in one go, rather than part by part.
    fn goes_together(&self) -> bool {
        self.layout() != Layout::Parts
    }

    /// The splice that puts a whole thought in the place of what a client left of it, which has neither text nor state.
    fn replace(&self, _body: &[u8], history: &History<'_>, part: usize, whole: &Bytes) -> Option<Splice> {
        Some(Splice { range: history.parts.get(part)?.span.clone(), bytes: whole.clone() })
    }

    /// Whether a whole part goes onto each message over which the client spread its turn, not on the first only.
    fn is_repeated(&self, _whole: &[u8]) -> bool {
        false
    }

    /// What of the tools a provider that binds state to what precedes it looks at.
    fn bound_tools(&self, _key: &HashKey, _tools: &[u8]) -> Option<Anchor> {
        None
    }

    /// What asks a provider that binds state to what precedes it to leave out what does not fit, instead of refusing
    /// it; none if the request says something of its own, or has no thoughts.
    fn tolerance(&self, _body: &[u8], _history: &History<'_>) -> Option<Tolerance> {
        None
    }

    /// The parts on which a provider that answers *missing* wants state, and whose state is not
    /// known: those for which `filled` says no.
    fn sentinel_parts(&self, _history: &History<'_>, _filled: &dyn Fn(usize) -> bool, _wanted: Wanted) -> Vec<usize> {
        Vec::new()
    }

    /// Whether the provider that answers *missing* looks at a call that is put into this message, or right
    /// before it.
    fn is_checked(&self, _history: &History<'_>, _message: usize, _wanted: Wanted) -> bool {
        false
    }

    /// A raw part without state, with this state in it.
    fn signed(&self, _part: &Bytes, _state: &Bytes) -> Option<Bytes> {
        None
    }

    /// The value that the provider accepts in place of state, as a raw JSON value; none if there is none that the
    /// operator allows.
    fn sentinel(&self, _stand_ins: StandIns, _wanted: Wanted) -> Option<Bytes> {
        None
    }

    /// The edit that writes a sentinel onto a part that [`sentinel_parts`](Self::sentinel_parts) named.
    fn stand_in(&self, _body: &[u8], history: &History<'_>, part: usize, sentinel: &Bytes) -> Option<Splice> {
        let (range, bytes) = self.restore(history.parts.get(part)?, sentinel)?;
        Some(Splice { range, bytes })
    }
}

/// The declared defaults of the arguments of each tool that has some, by the tool's name.
pub(crate) type ToolDefaults = HashMap<Vec<u8>, Defaults>;

/// How the parts of an answer stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As elements of their message's own list.
    Parts,
    /// Each as an item of the one list that is the history: every [`Message`] is one item of it. What is put back
    /// stands directly before the item that followed it.
    Items,
    /// As members of their message's object.
    Members,
}

/// How a provider checks what precedes a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Not at all; and if it once does, nothing is known of it.
    Free,
    /// Not as far as is known, but its answers may tell otherwise.
    Possible,
    /// This model does.
    Bound,
}

/// A whole part of a turn that is put back, as raw bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'w> {
    pub(crate) kind: Kind,
    pub(crate) raw: &'w Bytes,
}

/// Where whole parts are put back: into a message, before one of its parts, or behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) message: usize,
    pub(crate) before: Option<usize>,
}

/// One change of the body.
#[derive(Clone, Debug)]
pub(crate) struct Splice {
    pub(crate) range: Range<usize>,
    pub(crate) bytes: Bytes,
}

impl Splice {
    pub(crate) fn insert(at: usize, bytes: impl Into<Bytes>) -> Self {
        Self { range: at..at, bytes: bytes.into() }
    }
}

/// Puts whole parts back as elements of the list that holds the parts of a message, or the messages.
pub(crate) fn elements(
    layout: Layout,
    body: &[u8],
    history: &History<'_>,
    spot: Spot,
    parts: &[Whole<'_>],
) -> Option<Few<Splice>> {
    let message = history.messages.get(spot.message)?;
    let (first, at) = match layout {
        Layout::Items => {
            let span = &message.span;
            (span.start, if spot.before.is_some() { span.start } else { span.end })
        }
        _ => {
            let held = history.parts.get(message.parts.clone())?;
            let at = match spot.before {
                Some(before) => history.parts.get(before)?.span.start,
                None => held.last()?.span.end,
            };
            (held.first()?.span.start, at)
        }
    };
    // One part, or one message, may stand where a list of them may: then there is no room for another.
    let before = body.get(..first)?.trim_ascii_end();
    if !matches!(before.last(), Some(b'[' | b',')) {
        return None;
    }
    let room = parts.iter().map(|part| part.raw.len() + 1).sum();
    let mut bytes = Vec::with_capacity(room);
    for part in parts {
        if spot.before.is_none() {
            bytes.push(b',');
        }
        bytes.extend_from_slice(part.raw);
        if spot.before.is_some() {
            bytes.push(b',');
        }
    }
    Some(Few::One(Splice::insert(at, bytes)))
}

/// A change of the body that has to go together with a header.
#[derive(Clone, Debug)]
pub(crate) struct Tolerance {
    pub(crate) splice: Splice,
    /// The name of a header that holds a list, and what is added to that.
    pub(crate) header: (&'static str, &'static str),
}

/// What the operator allows to stand in for state that is not known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StandIns {
    /// Gemini's sentinel, in this form.
    pub(crate) sentinel: Option<Sentinel>,
    /// A placeholder for reasoning text.
    pub(crate) reasoning: bool,
}

/// Which state a provider misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// That of the first call of each model message of the current turn.
    #[default]
    FirstCalls,
    /// That of every part of the model that may carry some: image models want it on text and media too.
    EveryPart,
    /// The reasoning of every message of the model.
    Reasoning,
}

/// The two forms of the value that Gemini accepts in place of a signature.
///
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sentinel {
    /// `skip_thought_signature_validator`, as documented. The default.
    #[default]
    Literal,
    /// The same text in base64, which some Vertex models want.
    Base64,
}

/// The bounds of what is remembered of one response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecorderLimits {
    /// Signatures of fewer characters are no state.
    pub(crate) min_state: usize,
    /// Signatures of more bytes are not kept.
    pub(crate) max_state: usize,
    /// The parts of one response.
    pub(crate) max_parts: usize,
    /// The bytes kept of one response.
    pub(crate) max_bytes: usize,
}

/// Reads the events of one response into the parts of a turn.
pub(crate) trait Recorder: Send + Sync {
    /// Takes in one event or document, as JSON.
    fn event(&mut self, json: &[u8]) -> Progress;

    /// What was seen so far, in the order of the provider's indexes. `complete` says that the
    /// response came to its end; otherwise what may be partial is left out.
    fn turn(&self, complete: bool) -> Vec<Alternative>;
}

/// How far a response has come with an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The end of the response was seen, now or before.
    pub(crate) ended: bool,
    /// The event added a part or a piece of state.
    pub(crate) changed: bool,
    /// The event is a terminal error.
    pub(crate) error: bool,
    /// The provider ended the answer because state was missing.
    pub(crate) missing: bool,
    /// The provider says that it left out a thought because of what precedes it.
    pub(crate) bound: bool,
    /// The response cannot be remembered: a bound was reached, or it makes no sense.
    pub(crate) unobservable: bool,
    /// It is a bound that was reached.
    pub(crate) over_bounds: bool,
}

/// Every dialect, in the order in which they are asked.
pub(crate) fn all() -> &'static [&'static dyn Dialect] {
    &[&gemini::Gemini, &cloud_code::CloudCode, &anthropic::Anthropic, &responses::Responses, &chat::Chat]
}
