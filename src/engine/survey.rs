//! What surrounds the parts of a history: one pass that hashes all of it, made only when something
//! hangs on it, and once for each turn that is remembered.

use std::{borrow::Cow, cell::OnceCell, collections::HashMap, mem::take, sync::Arc};

use foldhash::quality::RandomState;

use super::prior::{Prior, PriorsOf};
use crate::{
    dialect::{Author, Dialect, History, Message, Part, PartKind, Payload, Slot},
    ledger::{
        Anchor, Context, Trace,
        few::Few,
        fingerprint::{self, Running, Tag},
        matcher::{AnchorMap, Place, Surroundings},
    },
    scope::HashKey,
    wire::json::Cursor,
};

/// The units of a history, and where each message begins among them.
#[derive(Debug)]
pub(crate) struct Survey {
    trace: Trace,
    /// The fast hashes of the bytes of the units.
    keys: Vec<u64>,
    starts: Vec<usize>,
    /// The units at which each part of the model stands.
    places: AnchorMap<Few<usize>>,
}

/// How many outputs right before an output are looked at as those of parallel calls.
const MAX_PARALLEL: usize = 16;

/// How many messages right before that of an output are looked at as outputs that answer with it.
const MAX_ANSWERS: usize = 64;

/// Tells the units of the two authors apart.
fn unit(author: Author, anchor: Anchor) -> Anchor {
    let mut bytes = *anchor.as_bytes();
    bytes[15] ^= u8::from(author == Author::Model);
    Anchor::from_bytes(bytes)
}

/// The unit that a part is. What the client attaches is only ever compared with what it attached
/// before, so megabytes of its media are hashed as they are written.
fn landmark(part: &Part<'_>, author: Author, key: &HashKey) -> Anchor {
    match &part.payload {
        Payload::Data(data) if author == Author::Client => fingerprint::bytes(key, Tag::Data, data.raw()),
        _ => part.anchor(key, None).unwrap_or_else(|| Anchor::from_bytes([0xff; 16])),
    }
}

/// A survey that is being made.
struct Surveyor<'a> {
    history: &'a History<'a>,
    key: &'a HashKey,
    priors: PriorsOf<'a>,
    /// The last request that began like this one, as long as this one goes on like it.
    prior: Option<Arc<Prior>>,
    survey: Survey,
    /// The parts of the run of text that goes on.
    run: Vec<usize>,
}

impl Surveyor<'_> {
    /// The run of text has ended.
    fn end(&mut self) {
        if !self.run.is_empty() {
            let run = take(&mut self.run);
            self.unit(&run);
            self.run = run;
            self.run.clear();
        }
    }

    /// Takes in a unit: one part, or a run of text.
    fn unit(&mut self, parts: &[usize]) {
        let Some(first) = parts.first().map(|at| &self.history.parts[*at]) else { return };
        let author = self.history.messages[first.message].author;
        let key = self.priors.key(author, parts.iter().map(|at| &self.history.parts[*at]));
        let at = self.survey.keys.len();
        self.survey.keys.push(key);
        if at == 0 {
            self.prior = self.priors.get(key);
        }
        let known = self.prior.as_ref().filter(|prior| prior.is(at, key)).and_then(|prior| prior.trace().unit(at));
        let anchor = match known {
            Some(known) => unit(author, known),
            None => {
                self.resume(at);
                let anchor = self.hash(first, author, parts);
                self.survey.trace.push(unit(author, anchor));
                anchor
            }
        };
        if author == Author::Model {
            self.survey.places.entry(anchor).or_default().push(at);
        }
    }

    fn hash(&self, first: &Part<'_>, author: Author, parts: &[usize]) -> Anchor {
        if first.text().is_none() {
            return landmark(first, author, self.key);
        }
        let mut hash = Running::new(self.key, Tag::Text);
        for text in parts.iter().filter_map(|at| self.history.parts[*at].text()) {
            text.decoded(&mut |bytes| hash.update(bytes));
        }
        hash.anchor()
    }

    /// From this unit on the request is another one than the last.
    fn resume(&mut self, unit: usize) {
        if let Some(prior) = self.prior.take() {
            self.survey.trace.resume(prior.trace(), unit);
        }
    }
}

impl Survey {
    pub(crate) fn new(history: &History<'_>, key: &HashKey, priors: PriorsOf<'_>) -> Self {
        let units = history.parts.len();
        let mut survey = Self {
            trace: Trace::new(key, system(history, key)),
            keys: Vec::with_capacity(units),
            starts: Vec::with_capacity(history.messages.len()),
            places: AnchorMap::with_capacity_and_hasher(history.messages.len(), Default::default()),
        };
        survey.trace.reserve(units);
        let mut surveyor = Surveyor { history, key, priors, prior: None, survey, run: Vec::new() };
        for message in &history.messages {
            // A run of text goes on in the next message of its author, if that begins with text.
            let mut parts = history.parts[message.parts.clone()].iter();
            let first = parts.find(|part| part.kind != PartKind::Thought && !part.is_empty_text());
            let goes_on = first.is_none_or(|part| part.text().is_some());
            let author = |at: &usize| history.messages[history.parts[*at].message].author;
            if !goes_on || surveyor.run.first().map(author).is_some_and(|author| author != message.author) {
                surveyor.end();
            }
            surveyor.survey.starts.push(surveyor.survey.keys.len());
            for at in message.parts.clone() {
                let part = &history.parts[at];
                match (part.kind, part.text()) {
                    // Clients drop thoughts, so they are no landmarks.
                    (PartKind::Thought, _) => {}
                    // So they do with empty text.
                    (_, Some(text)) if text.is_empty() => {}
                    (_, Some(_)) => surveyor.run.push(at),
                    _ => {
                        surveyor.end();
                        surveyor.unit(&[at]);
                    }
                }
            }
        }
        surveyor.end();
        surveyor.resume(surveyor.survey.keys.len());
        surveyor.survey
    }

    /// What the next request may be told by to go on from this one.
    pub(super) fn into_prior(self) -> Prior {
        Prior::new(self.keys, self.trace)
    }

    /// The first unit of a message.
    pub(crate) fn start(&self, message: usize) -> usize {
        self.starts.get(message).copied().unwrap_or_else(|| self.trace.len())
    }

    /// The context of a turn that follows the whole history.
    pub(crate) fn context(&self) -> Context {
        self.trace.context(self.trace.len())
    }

    /// The parts of the model that stand in the history, each as often as it does.
    pub(crate) fn standing(&self) -> impl Iterator<Item = &Anchor> {
        self.places.iter().flat_map(|(anchor, units)| units.iter().map(move |_| anchor))
    }

    fn occurrence(&self, place: &Place<'_>) -> u32 {
        let start = self.start(place.starts[0]);
        let before = self.places.get(&place.key).map_or(0, |units| units.partition_point(|unit| *unit < start));
        u32::try_from(before).unwrap_or(u32::MAX)
    }
}

/// The fingerprint of the system instruction.
pub(crate) fn system(history: &History<'_>, key: &HashKey) -> Anchor {
    let mut hash = Running::new(key, Tag::System);
    // An empty instruction is none: some clients write it out.
    let is_empty = |payload: &&Payload<'_>| matches!(payload, Payload::Text(text) if text.is_empty());
    for payload in history.system.iter().filter(|payload| !is_empty(payload)) {
        if let Some(anchor) = payload.anchor(key, Tag::Other) {
            hash.update(anchor.as_bytes());
        }
    }
    hash.anchor()
}

/// The fingerprint of the first message of the client.
pub(crate) fn opening(history: &History<'_>, key: &HashKey) -> Option<Anchor> {
    let first = history.messages.iter().find(|message| message.author == Author::Client)?;
    let mut hash = Running::new(key, Tag::Client);
    let mut text = Running::new(key, Tag::Text);
    for part in &history.parts[first.parts.clone()] {
        match part.text() {
            Some(chunk) => chunk.decoded(&mut |bytes| text.update(bytes)),
            None => hash.update(landmark(part, Author::Client, key).as_bytes()),
        }
    }
    hash.update(text.anchor().as_bytes());
    Some(hash.anchor())
}

/// Parts, by a digest of the state that they hold.
type Held = HashMap<u64, Few<usize>, RandomState>;

/// The history of one request as the matcher sees it; everything is worked out on first use.
pub(crate) struct Around<'a> {
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) body: &'a [u8],
    pub(crate) history: &'a History<'a>,
    pub(crate) survey: &'a OnceCell<Survey>,
    pub(crate) key: &'a HashKey,
    priors: PriorsOf<'a>,
    held: OnceCell<Held>,
    /// The parts that have an id, in the order of their ids.
    named: OnceCell<Vec<usize>>,
}

impl<'a> Around<'a> {
    pub(crate) fn new(
        dialect: &'static dyn Dialect,
        body: &'a [u8],
        history: &'a History<'a>,
        survey: &'a OnceCell<Survey>,
        key: &'a HashKey,
        priors: PriorsOf<'a>,
    ) -> Self {
        Self { dialect, body, history, survey, key, priors, held: OnceCell::new(), named: OnceCell::new() }
    }

    pub(crate) fn survey(&self) -> &'a Survey {
        self.survey.get_or_init(|| Survey::new(self.history, self.key, self.priors))
    }

    /// What may have preceded the call of this output: what precedes the output, or one of those right
    /// before it, for parallel calls are answered together, in one message or in one each.
    /// These are the units before which it may have stood.
    pub(crate) fn answered_at(&self, output: usize) -> Vec<usize> {
        let message = self.history.parts[output].message;
        let answers = |message: &&Message| {
            let parts = &self.history.parts[message.parts.clone()];
            message.author == Author::Client
                && !parts.is_empty()
                && parts.iter().all(|part| part.kind == PartKind::Output)
        };
        let before = self.history.messages[..message].iter().rev();
        let first = message - before.take(MAX_ANSWERS).take_while(answers).count();
        // The messages before hold outputs alone, each of which is a unit.
        let survey = self.survey();
        let mut at = survey.start(message);
        let mut units: Vec<usize> = (survey.start(first)..=at).collect();
        let mut in_text = false;
        for part in &self.history.parts[self.history.messages[message].parts.start..output] {
            let is_text = part.text().is_some();
            if is_text && (part.kind == PartKind::Thought || part.is_empty_text()) {
                continue;
            }
            at += usize::from(!is_text || !in_text);
            in_text = is_text;
            if part.kind != PartKind::Output {
                units.clear();
            }
            units.push(at);
        }
        // The first of them, and the nearest.
        let nearest = units.len().saturating_sub(MAX_PARALLEL).max(1);
        units.drain(1..nearest);
        units
    }

    /// The fingerprint of everything before a unit.
    pub(crate) fn before_unit(&self, unit: usize) -> Anchor {
        self.survey().trace.before(unit)
    }

    /// The fingerprint of the 2^`level` units before a unit, if there are as many.
    pub(crate) fn window_before(&self, unit: usize, level: usize) -> Option<u64> {
        self.survey().trace.window(unit, level)
    }

    /// Whether a thought, or a part that only this protocol has, has this id already. What is left of a thought does
    /// not count: there is room for it.
    pub(crate) fn names(&self, id: &str) -> bool {
        let named = self.named.get_or_init(|| {
            let named = |part: &Part<'_>| {
                matches!(part.kind, PartKind::Thought | PartKind::Native | PartKind::Other)
                    && part.id.is_some()
                    && !is_blank_thought(part)
            };
            let all = &self.history.parts;
            let mut parts = Vec::with_capacity(all.iter().filter(|part| named(part)).count());
            parts.extend((0..all.len()).filter(|at| named(&all[*at])));
            parts.sort_unstable_by(|one, other| self.id(*one).cmp(&self.id(*other)));
            parts
        });
        named.binary_search_by(|at| self.id(*at).as_deref().cmp(&Some(id.as_bytes()))).is_ok()
    }

    fn id(&self, part: usize) -> Option<Cow<'_, [u8]>> {
        self.history.parts[part].id.map(|id| id.decode())
    }

    /// The states that the client sent, by a digest that equal values share.
    fn held(&self) -> &Held {
        self.held.get_or_init(|| {
            let is_held = |part: &&Part<'_>| matches!(part.slot, Slot::Held(_));
            let count = self.history.parts.iter().filter(is_held).count();
            let mut held = Held::with_capacity_and_hasher(count, RandomState::default());
            for (at, part) in self.history.parts.iter().enumerate() {
                if let Slot::Held(span) = &part.slot {
                    held.entry(digest(&self.body[span.clone()])).or_default().push(at);
                }
            }
            held
        })
    }
}

/// What is left of a thought of which a client dropped the text and the signature.
pub(crate) fn is_blank_thought(part: &Part<'_>) -> bool {
    part.kind == PartKind::Thought && part.is_empty_text() && part.slot.is_missing()
}

/// A digest of raw state that all spellings of a value share: of a string of base64 in any alphabet and padding, or of
/// the longest string in a list or an object, whatever the white space and the order.
fn digest(raw: &[u8]) -> u64 {
    const FIRST: usize = 32;
    let text = raw.strip_prefix(b"\"").unwrap_or_default();
    let first = &text[..text.len().min(FIRST)];
    if !text.is_empty() && !first.contains(&b'\\') {
        let end = memchr::memchr(b'"', first).unwrap_or(first.len());
        return digest_of(&first[..end]);
    }
    let mut longest = (0, 0);
    let mut at = 0;
    while let Some(found) = raw.get(at..).and_then(|rest| memchr::memchr(b'"', rest)) {
        let Ok((text, span)) = Cursor::at(raw, at + found).string() else { break };
        at = span.end;
        let text = text.decode();
        let length = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        longest = longest.max((length, digest_of(&text[..text.len().min(FIRST)])));
    }
    longest.1
}

fn digest_of(text: &[u8]) -> u64 {
    let text = text.iter().take_while(|byte| **byte != b'=');
    text.fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        let byte = match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        };
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Surroundings for Around<'_> {
    fn system(&self) -> Anchor {
        self.survey().trace.system()
    }

    fn before(&self, message: usize) -> Anchor {
        let survey = self.survey();
        survey.trace.before(survey.start(message))
    }

    fn window(&self, message: usize, level: usize) -> Option<u64> {
        let survey = self.survey();
        survey.trace.window(survey.start(message), level)
    }

    fn depth(&self, message: usize) -> usize {
        self.survey().start(message)
    }

    fn holds(&self, state: &[u8]) -> bool {
        let Some(parts) = self.held().get(&digest(state)) else { return false };
        parts.iter().any(|at| {
            let Slot::Held(span) = &self.history.parts[*at].slot else { return false };
            self.dialect.same_state(&self.body[span.clone()], state)
        })
    }

    fn continued(&self, before: Anchor, from: usize, to: usize) -> Anchor {
        let survey = self.survey();
        survey.trace.continued(before, survey.start(from)..survey.start(to))
    }

    fn occurrence(&self, place: &Place<'_>) -> u32 {
        self.survey().occurrence(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Survey, digest};
    use crate::{
        dialect::{self, History},
        engine::prior::Priors,
        scope::{HashKey, Scope},
    };

    /// A part, by a number: texts, thoughts, calls, outputs and media, some of which differ in spelling only.
    fn part(number: u8) -> Value {
        let value = number / 8 % 3;
        let (text, data) = (["one ", "two", ""][usize::from(value)], ["aW1n", "aW1nZQ=="][usize::from(value % 2)]);
        match number % 8 {
            0 => json!({ "text": text }),
            1 => json!({"text": "thought", "thought": true}),
            2 => json!({"functionCall": {"name": "f", "args": {"a": value, "b": 2.0}}}),
            3 => json!({"functionCall": {"name": "f", "args": {"b": 2, "a": value}}, "thoughtSignature": "c2ln"}),
            4 => json!({"functionResponse": {"name": "f", "response": {"r": value}}}),
            5 => json!({"inlineData": {"data": data}}),
            6 => json!({"executableCode": {"code": value}}),
            _ => json!({"other": value}),
        }
    }

    proptest! {
        /// What a request is hashed to does not depend on the requests before it.
        #[test]
        fn a_survey_that_goes_on_from_the_last_one_is_what_it_would_be_from_the_beginning(
            contents in prop::collection::vec((any::<bool>(), prop::collection::vec(0..24_u8, 0..4)), 1..12),
            requests in prop::collection::vec(
                (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::option::of(0..24_u8)), 1..6),
        ) {
            let (key, scope) = (HashKey::from_bytes([7; 32]), Scope::from_bytes([1; 32]));
            let (priors, none) = (Priors::new(1 << 20), Priors::new(0));
            for (start, end, change) in requests {
                let (start, end) = (start.index(contents.len() + 1) / 3, end.index(contents.len() + 1));
                let mut contents: Vec<Value> = contents
                    .iter()
                    .map(|(model, parts)| {
                        let parts: Vec<Value> = parts.iter().map(|number| part(*number)).collect();
                        json!({"role": if *model { "model" } else { "user" }, "parts": parts})
                    })
                    .collect();
                contents.truncate(end);
                contents.drain(..start.min(end));
                if let (Some(number), Some(last)) = (change, contents.len().checked_sub(2)) {
                    contents[last]["parts"] = json!([part(number)]);
                }
                let body = json!({ "contents": contents }).to_string();
                let history = dialect::all()[0].read(body.as_bytes(), History::default()).unwrap();
                let one = Survey::new(&history, &key, priors.of(scope));
                let other = Survey::new(&history, &key, none.of(scope));
                prop_assert_eq!(&one.starts, &other.starts);
                for unit in 0..=other.trace.len() {
                    prop_assert_eq!(one.trace.context(unit), other.trace.context(unit));
                }
                let places = |survey: &Survey| {
                    let mut places: Vec<_> =
                        survey.places.iter().map(|(anchor, units)| (*anchor.as_bytes(), units.to_vec())).collect();
                    places.sort_unstable();
                    places
                };
                prop_assert_eq!(places(&one), places(&other));
                priors.of(scope).put(one.into_prior());
            }
        }
    }

    #[test]
    fn equal_state_has_one_digest_however_it_is_spelled() {
        let long = "A".repeat(40);
        for (one, other) in [
            (r#""ab+/cd==""#, r#""ab-_cd""#),
            (r#""ab+/cd==""#, r#""ab+\/cd""#),
            (r#"[{"data":"opaque+state","index":0}]"#, "[ {\n  \"index\" : 0.0,\n  \"data\": \"opaque-state\"} ]"),
            (
                r#"{"google":{"thought_signature":"opaque+state/xxxxxxxx="}}"#,
                r#"{"vertex":{"thought_signature":"opaque-state_xxxxxxxx"}}"#,
            ),
            (&format!("\"{long}b\""), &format!("\"\\u0041{}c\"", &long[1..])),
        ] {
            assert_eq!(digest(one.as_bytes()), digest(other.as_bytes()), "{one} {other}");
        }
        assert_ne!(digest(br#""one""#), digest(br#""two""#));
        assert_ne!(digest(br#"[{"data":"one","type":"a"}]"#), digest(br#"[{"data":"another","type":"a"}]"#));
        for broken in ["", "\"", "[\"", "7", "\"\\"] {
            digest(broken.as_bytes());
        }
    }
}
