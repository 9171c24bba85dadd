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

pub(crate) use self::history::{Author, History, Message, Note, Part, PartKind, Payload, Slot, Thinking, Unreadable};
use crate::{
    ledger::{Alternative, Anchor, Kind, few::Few},
    scope::HashKey,
    wire::{canonical::Defaults, patch::Framed, shape::Until},
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

    /// Reads the history of a request body that is known to be UTF-8, into the lists of an empty one.
    fn read<'a>(&self, body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable>;

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
    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<Splice>;

    /// The edits that give a kept part what is remembered of it: its state, or what is missing of the whole part.
    fn complete(
        &self,
        _body: &[u8],
        history: &History<'_>,
        part: usize,
        state: &Bytes,
        _whole: Option<&Bytes>,
    ) -> Option<Few<Splice>> {
        self.restore(history.parts.get(part)?, state).map(Few::One)
    }

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
        Some(Splice::replace(history.parts.get(part)?.span.clone(), whole.clone()))
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

    /// Names the parts on which a provider that answers *missing* wants state, and whose state is not
    /// known: those for which `filled` says no.
    fn sentinel_parts(
        &self,
        _history: &History<'_>,
        _filled: &dyn Fn(usize) -> bool,
        _wanted: Wanted,
        _each: &mut dyn FnMut(usize),
    ) {
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
        self.restore(history.parts.get(part)?, sentinel)
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
    pub(crate) text: Framed,
}

impl Splice {
    pub(crate) fn insert(at: usize, text: impl Into<Framed>) -> Self {
        Self::replace(at..at, text)
    }

    pub(crate) fn replace(range: Range<usize>, text: impl Into<Framed>) -> Self {
        Self { range, text: text.into() }
    }

    /// Inserts remembered bytes behind a few characters, without a copy of them.
    pub(crate) fn insert_behind(at: usize, before: &'static str, bytes: &Bytes) -> Self {
        Self::insert(at, Framed { before, bytes: bytes.clone(), after: "" })
    }

    /// Makes the change on its own.
    pub(crate) fn apply(&self, text: &[u8]) -> Bytes {
        let [before, bytes, after] = self.text.pieces();
        [&text[..self.range.start], before, bytes, after, &text[self.range.end..]].concat().into()
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
    let (before, after) = if spot.before.is_some() { ("", ",") } else { (",", "") };
    let texts = parts.iter().map(|part| Framed { before, bytes: part.raw.clone(), after });
    Some(texts.map(|text| Splice::insert(at, text)).collect())
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

    /// Takes in the event with which these bytes begin if it is known from earlier ones what it says, and tells where it
    /// ends. `None` says that nothing was taken in, and that it has to be read.
    fn again(&mut self, json: &[u8], until: Until) -> Option<Known>;

    /// What was seen so far, in the order of the provider's indexes. `complete` says that the
    /// response came to its end; otherwise what may be partial is left out.
    fn turn(&self, complete: bool) -> Vec<Alternative>;
}

/// What an event brought that is known from earlier ones. It is neither the end nor an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Where it ends.
    pub(crate) end: usize,
    /// As in [`Progress`].
    pub(crate) changed: bool,
    /// The response cannot be remembered, because a bound was reached.
    pub(crate) over_bounds: bool,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Events of each protocol. `T` stands for a text, `N` for a number and `~` for some space.
    const EVENTS: [(usize, &str, &[&str]); 5] = [
        (0, "m", GEMINI),
        (1, "claude-x", GEMINI),
        (
            2,
            "m",
            &[
                r#"{"type":"message_start","message":{"usage":{"input_tokens":N}}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"T"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2lnbmF0dXJlIG9uZQ=="}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"T"},"p":"T"}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"T"}~}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"encrypted_index":"T"}}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
                r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}"#,
                r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
                r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":\"T\"}"}}"#,
                r#"{"type":"content_block_stop","index":2}"#,
                r#"{"type":"ping","n":[N,-N,N.5,NeN,"T",{"T":"T"}]}"#,
                r#"{"type":"message_delta","usage":{"output_tokens":N}~}"#,
                r#"{"type":"message_stop"}"#,
                r#"{"type":"error","error":{"message":"T"}}"#,
            ],
        ),
        (
            3,
            "m",
            &[
                r#"{"type":"response.output_text.delta","output_index":N,"delta":"T","sequence_number":N}"#,
                r#"{"type":"response.output_text.delta","delta":"T","obfuscation":"T","error":null}"#,
                r#"{"type":"T","delta":"T"}"#,
                r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"r","summary":[],"encrypted_content":"c2lnbmF0dXJlIG9uZQ=="}}"#,
                r#"{"type":"response.output_item.done","item":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"T"}]}}"#,
                r#"{"type":"response.completed","response":{"object":"response","status":"completed"}}"#,
                r#"{"type":"response.failed"}"#,
                r#"{"error":{"message":"T"}}"#,
            ],
        ),
        (
            4,
            "m",
            &[
                r#"{"id":"T","created":N,"choices":[{"index":0,"delta":{"content":"T"},"finish_reason":null}],"usage":null}"#,
                r#"{"id":"T","choices":[{"index":0,"delta":{"reasoning_content":"T"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"content":"","reasoning":"T"}}],"obfuscation":"T"}"#,
                r#"{"choices":[{"index":N,"delta":{"role":"assistant","content":[{"type":"text","text":"T"}]}}]}"#,
                r#"{"choices":[{"delta":{"content":"T","reasoning_content":"T"}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"T"}}]}}]}"#,
                r#"{"choices":[{"delta":{"reasoning_details":[{"type":"reasoning.text","text":"T","index":0}]}}]}"#,
                r#"{"choices":[{"delta":{"reasoning_opaque":"T"}}]}"#,
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"T"}]}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"total":N}}"#,
                r#"{"choices":[],"usage":{"total_tokens":N}}"#,
                r#"{"error":{"message":"T"},"choices":[]}"#,
            ],
        ),
    ];

    const GEMINI: &[&str] = &[
        r#"{"candidates":[{"content":{"parts":[{"text":"T"}],"role":"model"},"index":0}],"usageMetadata":{"totalTokenCount":N},"modelVersion":"T"}"#,
        r#"{"candidates":[{"content":{"parts":[{"thought":true,"text":"T"}]}}],"usageMetadata":{"a":[{"n":N}]}}"#,
        r#"{"response":{"candidates":[{"content":{"parts":[{"text":"T"}]}}],"responseId":"T"},"traceId":"T"}"#,
        r#"{"candidates":[{"content":{"parts":[],"role":"model"}}],"usageMetadata":{"totalTokenCount":N}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"T"},{"text":"T"}]},"index":N}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"T","thoughtSignature":"c2lnbmF0dXJlIG9uZQ=="}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"","thought":true,"thoughtSignature":"c2lnbmF0dXJlIG9uZQ=="}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"T"}}}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"T"}]},"finishReason":"STOP"}]}"#,
        r#"{"usageMetadata":{"totalTokenCount":N},"error":null}"#,
        r#"{"error":{"message":"T"}}"#,
    ];

    /// Whether a second event like it makes no sense.
    fn is_single(event: &str) -> bool {
        event.contains("_start\"") || event.contains("_stop\"")
    }

    fn recorder(which: usize, model: &str, max_bytes: usize) -> Box<dyn Recorder> {
        let limits = RecorderLimits { min_state: 16, max_state: 1 << 10, max_parts: 8, max_bytes };
        all()[which].recorder(model, &HashKey::from_bytes([7; 32]), limits, Arc::default())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]

        /// An event that is known from one before it says what it would say if it was read. Behind a line end, no
        /// event is known.
        #[test]
        fn a_known_event_is_what_it_would_be_if_read(
            which in 0..EVENTS.len(),
            runs in prop::collection::vec((any::<prop::sample::Index>(), 1..6_usize), 1..8),
            texts in prop::collection::vec(
                prop_oneof![
                    4 => "[a-z \u{e9}]{0,12}",
                    2 => r#"([a-z\u{e9}]{0,20}\\(["\\/bfnrt]|u00e9|u0000|ud83d|ude00)){0,30}"#,
                    1 => r#"(\\[nu"x]|\\u00e9|["\x00{}:,a]){0,3}"#,
                ], 1..24),
            cut: prop::sample::Index,
            numbers in prop::collection::vec("0|1|7|42|-1|007|12x|1\\.5|", 1..24),
            sorted: bool,
            damage in prop::collection::vec(
                (0..32_usize, any::<prop::sample::Index>(), prop::sample::select(&b"\"\\{}[],:0 T\xff\x01"[..])), 0..2),
            max_bytes in prop::sample::select(vec![40_usize, 1 << 20]),
        ) {
            let (dialect, model, events) = EVENTS[which];
            let (mut learns, mut reads) = (recorder(dialect, model, max_bytes), recorder(dialect, model, max_bytes));
            let (mut texts, mut numbers) = (texts.iter().cycle(), numbers.iter().cycle());
            let mut at = 0;
            let mut runs: Vec<_> = runs.iter().map(|(event, times)| (event.index(events.len()), *times)).collect();
            // In some protocols, only what began goes on.
            if sorted {
                runs.sort_unstable();
                runs.dedup_by_key(|(event, _)| *event);
            }
            for (event, times) in runs {
                let event = events[event];
                let times = if is_single(event) { 1 } else { times };
                for time in 0..times {
                    let mut json = Vec::new();
                    for byte in event.bytes() {
                        match byte {
                            b'T' => json.extend_from_slice(texts.next().unwrap().as_bytes()),
                            // Most events are sound.
                            b'N' if time % 3 == 2 => json.extend_from_slice(numbers.next().unwrap().as_bytes()),
                            b'N' => json.extend_from_slice((10 * time).to_string().as_bytes()),
                            b'~' => json.resize(json.len() + at % 3, b' '),
                            byte => json.push(byte),
                        }
                    }
                    for (_, place, with) in damage.iter().filter(|(when, ..)| *when == at) {
                        let place = place.index(json.len());
                        json[place] = *with;
                    }
                    at += 1;
                    let read = reads.event(&[b"\n", &json[..]].concat());
                    let line = [&json[..], b"\n\n", b"{}"].concat();
                    // Of what is not whole, nothing is taken in.
                    let begun = &line[..cut.index(json.len() + 2)];
                    prop_assert!(learns.again(begun, Until::BlankLine(usize::MAX)).is_none());
                    match learns.again(&line, Until::BlankLine(usize::MAX)) {
                        Some(Known { end, changed, over_bounds }) => {
                            prop_assert_eq!(end, json.len() + 2);
                            let Progress { ended, bound, .. } = read;
                            let unobservable = over_bounds;
                            let progress = Progress { changed, unobservable, over_bounds, ended, bound, ..Progress::default() };
                            prop_assert_eq!(progress, read);
                        }
                        None => prop_assert_eq!(learns.event(&json), read, "{}", String::from_utf8_lossy(&json)),
                    }
                    for complete in [false, true] {
                        prop_assert_eq!(learns.turn(complete), reads.turn(complete));
                    }
                }
            }
        }
    }

    #[test]
    fn the_second_event_of_a_kind_is_known() {
        for (which, model, events) in EVENTS {
            let mut recorder = recorder(which, model, 1 << 20);
            let mut known = 0;
            for event in events {
                for time in 0..if is_single(event) { 1 } else { 4 } {
                    let event =
                        event.replace('T', ["one", "two", "", "a \\\"b\\\""][time]).replace('N', &time.to_string());
                    let event = event.replace('~', &" ".repeat(time % 3));
                    let line = event.clone() + "\r\n\r\n";
                    match recorder.again(line.as_bytes(), Until::BlankLine(event.len())) {
                        Some(Known { end, .. }) => {
                            assert_eq!(end, line.len());
                            known += 1;
                        }
                        None => _ = recorder.event(event.as_bytes()),
                    }
                    assert!(recorder.again(line.as_bytes(), Until::BlankLine(event.len() - 1)).is_none());
                }
            }
            assert!(known >= 3, "{model} {which}: {known}");
        }
    }
}
