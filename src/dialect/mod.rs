//! One wire protocol each, behind one trait.
//!
//! A dialect knows where its protocol keeps opaque state. It turns a request body into a
//! [`History`], a response into the parts of a turn, and says how a piece of state is written back.
//! It knows no store and no HTTP client. To add one, write a file with an implementation of
//! [`Dialect`] and name it in [`all`].

mod cloud_code;
mod gemini;
mod history;

use std::{collections::HashMap, fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use http::{Method, Uri};

pub(crate) use self::history::{Author, History, Message, Part, PartKind, Payload, Slot, Unreadable};
use crate::{ledger::Alternative, scope::HashKey, wire::canonical::Defaults};

/// What a watched request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// An answer, streamed or not.
    Generate,
    /// The size of a request. Patched like the request it counts for, never learned from.
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

    /// Whether the provider may bind state to the account of the caller.
    fn binds_account(&self) -> bool {
        false
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

    /// A model message that holds these raw parts, for calls that the client dropped.
    fn message(&self, parts: &[Bytes]) -> Bytes;

    /// The parts on which a provider that answers *missing* wants state, and whose state is not
    /// known: those for which `filled` says no.
    fn sentinel_parts(&self, history: &History<'_>, filled: &dyn Fn(usize) -> bool, wanted: Wanted) -> Vec<usize>;

    /// Whether the provider that answers *missing* looks at a call that is put into this message, or right
    /// before it.
    fn is_checked(&self, history: &History<'_>, message: usize, wanted: Wanted) -> bool;

    /// A raw part without state, with this state in it.
    fn signed(&self, part: &Bytes, state: &Bytes) -> Option<Bytes>;

    /// The value that the provider accepts in place of state, as a raw JSON value.
    fn sentinel(&self, form: Sentinel) -> Option<Bytes>;

    /// The declared defaults of the tools, from the raw value of the request's tool list.
    fn defaults(&self, tools: &[u8]) -> ToolDefaults;
}

/// The declared defaults of the arguments of each tool that has some, by the tool's name.
pub(crate) type ToolDefaults = HashMap<Vec<u8>, Defaults>;

/// Which parts a sentinel is wanted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The first call of each model message of the current turn.
    FirstCalls,
    /// Every part of the model that may carry state: image models want it on text and media too.
    EveryPart,
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
    /// The response cannot be remembered: a bound was reached, or it makes no sense.
    pub(crate) unobservable: bool,
    /// It is a bound that was reached.
    pub(crate) over_bounds: bool,
}

/// Every dialect, in the order in which they are asked.
pub(crate) fn all() -> &'static [&'static dyn Dialect] {
    &[&gemini::Gemini, &cloud_code::CloudCode]
}
