//! Works out which remembered items a request lacks, and the edits that put them back.

mod dropped;
mod gaps;
mod insert;
mod order;
mod whole;
mod without_id;

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZeroU32,
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;

use self::{dropped::Run, gaps::lacks_state, insert::Pending, whole::is_whole};
pub(crate) use self::{gaps::Gaps, insert::Inserted, whole::state_anchor};
use super::{
    refusal,
    survey::{Around, is_blank_thought},
};
use crate::{
    dialect::{Author, Dialect, History, Layout, Part, PartKind, Splice, Spot, ToolDefaults, Whole, read::text},
    ledger::{
        Anchor, HeldPart, Item, ItemRef, Kind, Ledger, Turn, TurnId,
        few::Few,
        fingerprint::{Running, Tag},
        matcher::{AnchorMap, Matcher, Outcome, OwnMap, OwnSet, Place, Strictness, Surroundings, is_native},
    },
    scope::HashKey,
    wire::patch::Framed,
};

/// How often the runs that are not known are taken apart: by messages, by empty parts, by parts.
const MAX_ROUNDS: usize = 4;

/// An edit of the request body.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) splices: Few<Splice>,
    /// The items that it puts back, and where they stand in the request that goes upstream.
    pub(crate) items: Few<Placed>,
    /// It adds a part or a message, or makes a thought of what was none.
    pub(crate) structural: bool,
    /// The call in it that has no state where the provider may want some.
    pub(crate) unsigned: Option<Box<Unsigned>>,
}

/// An inserted call without state that is the first one of its message.
#[derive(Clone, Debug)]
pub(crate) struct Unsigned {
    pub(crate) placed: Placed,
    /// The message of the history that it is put into, or before.
    pub(crate) message: usize,
    /// The splices of the edit with a sentinel on the call.
    pub(crate) splices: Few<Splice>,
}

/// A piece of state that an edit puts back.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) item: ItemRef,
    /// The position of its message in the contents that go upstream.
    pub(crate) content: usize,
    /// The position of its part in that message.
    pub(crate) part: usize,
    /// Digests of the name of its call and of its id.
    call: Option<NonZeroU32>,
    id: Option<NonZeroU32>,
    /// The state, if it is that of a whole thought.
    pub(crate) thought: Option<Item>,
    /// The part of the history that it was put on, or that its call goes before as the first one.
    at: Option<usize>,
    how: How,
}

impl Placed {
    /// Whether it stands where the provider found fault.
    pub(crate) fn is_at(&self, place: &refusal::Place) -> bool {
        PutIn::from(self).is_at(place)
    }
}

/// A piece of state that was put back, in the few bytes that an open stream may hold of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PutIn {
    pub(crate) item: ItemRef,
    content: u32,
    part: u32,
    call: Option<NonZeroU32>,
    id: Option<NonZeroU32>,
}

impl PutIn {
    /// Whether it stands where the provider found fault.
    pub(crate) fn is_at(&self, place: &refusal::Place) -> bool {
        place.content.is_none_or(|content| content == self.content as usize)
            && place.part.is_none_or(|part| part == self.part as usize)
            && place.call.as_deref().is_none_or(|call| self.call == Some(digest(call.as_bytes())))
            && place.item.as_deref().is_none_or(|id| self.id == Some(digest(id.as_bytes())))
    }
}

impl From<&Placed> for PutIn {
    fn from(placed: &Placed) -> Self {
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let Placed { item, content, part, call, id, .. } = *placed;
        Self { item, content: position(content), part: position(part), call, id }
    }
}

/// Tells the names of the calls of one request apart.
fn digest(name: &[u8]) -> NonZeroU32 {
    let digest =
        name.iter().fold(0x811c_9dc5_u32, |digest, byte| (digest ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    NonZeroU32::MIN.saturating_add(digest)
}

/// How a piece of state is put back.
#[derive(Clone, Copy, Debug)]
enum How {
    /// On a part of the history.
    On,
    /// With a part, the n-th of those that are inserted at its place.
    Part(usize),
    /// In a message, the n-th of those that are inserted at its place.
    Message(usize),
}

/// What is put back into one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) edits: Vec<Edit>,
    /// Parts of the history that get state, or whose message gets a call before them.
    pub(crate) filled: OwnSet<usize>,
    pub(crate) restored: u32,
    pub(crate) calls: u32,
    pub(crate) ambiguous: u32,
    /// Thoughts that are known and were not put back because nobody asked for them.
    pub(crate) withheld: u32,
    pub(crate) inserted: Inserted,
}

impl Plan {
    /// The pieces of state that are put back.
    pub(super) fn placed(&self) -> impl Iterator<Item = &Placed> {
        self.edits.iter().flat_map(|edit| edit.items.iter())
    }

    /// Leaves out these edits: the parts that had state by them have none.
    pub(super) fn take_out(&mut self, goes: impl Fn(&Edit) -> bool) {
        let (gone, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.edits).into_iter().partition(goes);
        for edit in &gone {
            for part in edit.filled() {
                self.filled.remove(&part);
            }
        }
        self.filled.extend(left.iter().flat_map(Edit::filled));
        self.edits = left;
    }
}

impl Edit {
    /// The parts of the history that need no state because of this edit.
    fn filled(&self) -> impl Iterator<Item = usize> {
        let unsigned = self.unsigned.iter().map(|unsigned| &unsigned.placed);
        self.items.iter().chain(unsigned).filter_map(|placed| placed.at)
    }
}

/// Kinds of parts.
#[derive(Default)]
pub(crate) struct Kinds {
    all: bool,
    some: Few<Kind>,
}

impl Kinds {
    /// Those that are worth finding again: of which some carry state, or all where more hangs on what a message is than
    /// the state of its parts.
    fn worth_matching(gaps: &Gaps, ledger: &Ledger) -> Self {
        let mut kinds = Self::default();
        for turn in ledger.turns() {
            for part in turn.parts() {
                kinds.all |= is_whole(&part);
                if part.has_state() && !kinds.some.contains(&part.kind()) {
                    kinds.some.push(part.kind());
                }
            }
            kinds.all |= turn.alternatives().len() > 1 || !gaps.orphans.is_empty();
            if kinds.all {
                break;
            }
        }
        kinds
    }

    fn contain(&self, history: &History<'_>, target: &Range<usize>) -> bool {
        let kind = history.parts[target.start].remembered_kind();
        kind.is_some_and(|kind| self.all || self.some.contains(&kind))
    }
}

pub(crate) struct Restorer<'a> {
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) key: &'a HashKey,
    pub(crate) history: &'a History<'a>,
    pub(crate) around: &'a Around<'a>,
    pub(crate) defaults: &'a ToolDefaults,
    pub(crate) strictness: Strictness,
    pub(crate) gaps: &'a Gaps,
    pub(crate) run_starts: &'a [usize],
    /// Items that must not be put back: the provider refused them.
    pub(crate) refused: &'a HashSet<ItemRef>,
    /// What stands in for state that is not known.
    pub(crate) sentinel: Option<Bytes>,
    /// The provider asked for everything that is known.
    pub(crate) demand: bool,
    /// The provider looks at what precedes a thought.
    pub(crate) bound: bool,
    /// What of the tools it looks at, if it does.
    pub(crate) tools: Option<Anchor>,
}

impl Restorer<'_> {
    /// What of the ledger could go back, told without looking at content; `None` if that is nothing.
    pub(crate) fn worth_matching(history: &History<'_>, gaps: &Gaps, ledger: &Ledger) -> Option<Kinds> {
        let kinds = Kinds::worth_matching(gaps, ledger);
        let may_find = gaps.targets.iter().any(|target| kinds.contain(history, target))
            || !(gaps.orphans.is_empty() || ledger.is_empty());
        may_find.then_some(kinds)
    }

    /// Matches the ledger against the history.
    pub(crate) fn plan(&self, ledger: &Ledger, kinds: &Kinds) -> Plan {
        let turns: OwnMap<_, _> = ledger.turns().map(|turn| (turn.id(), turn)).collect();
        let mut work = Work {
            restorer: self,
            turns,
            plan: Plan::default(),
            assigned: OwnMap::default(),
            fills: Vec::new(),
            pending: Vec::new(),
            nths: OwnMap::default(),
            outputs: OnceCell::new(),
            runs: OwnMap::default(),
            first_calls: HashSet::new(),
        };
        let mut matcher = Matcher::new(ledger.turns(), self.around, self.strictness);
        work.kept_parts(&mut matcher, kinds);
        let dropped = work.dropped_calls(&matcher, ledger);
        let comebacks: Vec<_> = dropped.iter().map(|dropped| work.comes_back(dropped)).collect();
        let mut returning = work.whole_thoughts(&comebacks);
        for (dropped, comeback) in dropped.into_iter().zip(&comebacks) {
            let thoughts = returning.remove(&(comeback.turn, comeback.alternative)).unwrap_or_default();
            work.put_calls_back(&dropped, &thoughts);
        }
        work.finish()
    }

    fn place(&self, target: &Range<usize>, matcher: &Matcher<'_>) -> Option<Place<'_>> {
        let parts = &self.history.parts[target.clone()];
        let first = parts.first()?;
        let kind = first.remembered_kind()?;
        let id = first.id.as_ref().map(|id| text(id.decode())).filter(|id| !id.is_empty());
        let (key, reduced) = if parts.len() > 1 {
            let tag = if kind == Kind::Thought { Tag::Thought } else { Tag::Text };
            let mut hash = Running::new(self.key, tag);
            for part in parts {
                part.text()?.decoded(&mut |bytes| hash.update(bytes));
            }
            (hash.anchor(), None)
        } else {
            let same = id.as_deref().filter(|_| kind == Kind::Call).and_then(|id| self.same_call(first, matcher, id));
            let key = same.or_else(|| first.anchor(self.key, None))?;
            let defaults = first.name.filter(|_| kind == Kind::Call);
            let defaults = defaults.and_then(|name| self.defaults.get(&*name.decode()));
            let reduced = defaults.and_then(|defaults| first.anchor(self.key, Some(defaults)));
            (key, reduced.filter(|reduced| *reduced != key))
        };
        Some(Place { kind, key, reduced, id, starts: [self.run_starts[first.message], first.message] })
    }

    /// The anchor of a call that is spelled as the one that is remembered under its id.
    fn same_call(&self, part: &Part<'_>, matcher: &Matcher<'_>, id: &str) -> Option<Anchor> {
        let remembered = matcher.of_id(id).filter(|remembered| remembered.kind() == Kind::Call)?;
        let whole = remembered.whole_raw()?;
        self.dialect.is_same_call(self.around.body, part, whole).then_some(remembered.anchor())
    }

    /// Whether what begins here is an element of an array: one part, or one message, may stand for many.
    fn is_element(&self, at: usize) -> bool {
        let before = self.around.body.get(..at).unwrap_or_default().trim_ascii_end();
        matches!(before.last(), Some(b'[' | b','))
    }

    /// The message of the history at which the run of messages by one author begins, for each message.
    pub(crate) fn run_starts(history: &History<'_>) -> Vec<usize> {
        let mut start = 0;
        let starts = history.messages.iter().enumerate().map(|(at, message)| {
            if history.messages[start].author != message.author {
                start = at;
            }
            start
        });
        starts.collect()
    }

    /// Parts of a run of text that may be known on their own when the run is not: first what stands
    /// in one message, then what stands between empty parts, then each part.
    fn split(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let ends = |at: usize| {
            let part = &self.history.parts[at];
            part.is_empty_text() || !part.slot.is_missing()
        };
        let message = |at: usize| self.history.parts[at].message;
        let mut pieces = Vec::new();
        if message(range.start) != message(range.end - 1) {
            let mut start = range.start;
            for at in range.start + 1..=range.end {
                if at == range.end || message(at) != message(start) {
                    pieces.push(start..at);
                    start = at;
                }
            }
        } else if range.clone().any(ends) {
            let mut start = range.start;
            for at in range.clone().chain([range.end]) {
                if at == range.end || ends(at) {
                    if start < at {
                        pieces.push(start..at);
                    }
                    start = at + 1;
                }
            }
        } else {
            pieces.extend(range.clone().map(|at| at..at + 1));
        }
        pieces.retain(|piece| lacks_state(self.history, piece));
        pieces
    }
}

/// The plan while it is worked out.
struct Work<'a> {
    restorer: &'a Restorer<'a>,
    turns: OwnMap<TurnId, &'a Arc<Turn>>,
    plan: Plan,
    /// The remembered part that a part of the history is.
    assigned: OwnMap<usize, ItemRef>,
    /// Thoughts that are there but for their state, and what they are.
    fills: Vec<(usize, ItemRef)>,
    /// Whole parts that go back.
    pending: Vec<Pending>,
    nths: OwnMap<(Option<usize>, usize), usize>,
    /// Where the outputs begin that stand right before each message.
    outputs: OnceCell<Vec<usize>>,
    /// What stands in the runs of messages of the model that end before these.
    runs: OwnMap<usize, Run>,
    /// Messages of which the first call is one that is put in.
    first_calls: HashSet<usize>,
}

impl<'a> Work<'a> {
    fn part(&self, item: &ItemRef) -> Option<HeldPart<'a>> {
        self.turns.get(&item.turn)?.part(item)
    }

    /// Puts state back on the parts that the client kept.
    fn kept_parts(&mut self, matcher: &mut Matcher<'_>, worth_matching: &Kinds) {
        let history = self.restorer.history;
        let is_worth = |target: &&Range<usize>| worth_matching.contain(history, target);
        let mut targets = Vec::with_capacity(self.restorer.gaps.targets.len());
        targets.extend(self.restorer.gaps.targets.iter().filter(is_worth).cloned());
        let in_pieces = |target: &Range<usize>| target.len() > 1;
        if !targets.iter().any(in_pieces) {
            self.by_pieces(matcher, targets);
            return;
        }
        if self.restorer.strictness == Strictness::Strict {
            self.by_pieces(matcher, targets);
            self.put_texts_in_order();
            return;
        }
        // A run may be known by its pieces only, and they are tried last. What precedes it protects
        // them from equal parts elsewhere.
        let left = matcher.strictly(|matcher| self.by_pieces(matcher, targets.clone()));
        let is_free = |target: &Range<usize>| target.clone().all(|at| !self.assigned.contains_key(&at));
        let (whole, begun): (Vec<_>, Vec<_>) = targets.iter().cloned().partition(is_free);
        let pieces = left.into_iter().filter(|piece| begun.iter().any(|target| target.contains(&piece.start)));
        let mut open: Vec<_> = pieces.chain(whole).collect();
        open.sort_by_key(|target| target.start);
        self.by_pieces(matcher, open);
        self.put_texts_in_order();
    }

    /// Looks for these targets, for the pieces of those that are not known, and so on; gives the
    /// smallest pieces that remain unknown.
    fn by_pieces(&mut self, matcher: &mut Matcher<'_>, mut open: Vec<Range<usize>>) -> Vec<Range<usize>> {
        let restorer = self.restorer;
        let mut left = Vec::new();
        for _ in 0..MAX_ROUNDS {
            // A run of which the client signed something itself is known by its pieces only.
            let held = |target: &Range<usize>| {
                restorer.history.parts[target.clone()].iter().any(|part| !part.slot.is_missing())
            };
            let mut later = Vec::new();
            let (mut targets, mut places) = (Vec::with_capacity(open.len()), Vec::with_capacity(open.len()));
            for target in open {
                if held(&target) {
                    later.push(target);
                } else if let Some(place) = restorer.place(&target, matcher) {
                    targets.push(target);
                    places.push(place);
                }
            }
            let outcomes = matcher.assign(&places);
            let found = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Found(_))).count();
            self.assigned.reserve(found);
            if !restorer.dialect.goes_together() {
                self.plan.edits.reserve_exact(found);
                self.plan.filled.reserve(found);
            }
            for (target, outcome) in targets.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Found(item) => self.assign(&target, item),
                    Outcome::Ambiguous => self.plan.ambiguous += 1,
                    Outcome::Unknown => later.push(target),
                }
            }
            let (several, single): (Vec<_>, Vec<_>) = later.into_iter().partition(|target| target.len() > 1);
            left.extend(single);
            open = several.iter().flat_map(|target| restorer.split(target)).collect();
            if open.is_empty() {
                break;
            }
            open.sort_by_key(|target| target.start);
        }
        left
    }

    fn assign(&mut self, target: &Range<usize>, item: ItemRef) {
        let slot = self.part(&item).map(|part| self.slot(target, &part));
        for at in target.clone() {
            // What is left of another thought beside this one is no part of it.
            let other = target.len() > 1 && is_blank_thought(&self.restorer.history.parts[at]);
            if !other || slot == Some(at) {
                self.assigned.insert(at, item);
            }
        }
        let Some(part) = self.part(&item).filter(HeldPart::has_state) else { return };
        if self.restorer.refused.contains(&item) {
            return;
        }
        let Some(at) = slot else { return };
        match is_whole(&part) {
            // The thoughts of a turn come back all together.
            true => self.fills.push((at, item)),
            false => self.fill(at, item),
        }
    }

    fn placed(&self, item: ItemRef, message: usize, part: usize, how: How) -> Placed {
        let history = self.restorer.history;
        let first = history.messages.get(message).map_or(0, |message| message.parts.start);
        let held = self.part(&item);
        let call = held.filter(|part| part.kind() == Kind::Call).and_then(|part| part.name_raw()).map(digest);
        let id = held.and_then(|part| part.id_raw()).map(digest);
        let state = held.filter(is_whole).and_then(|part| part.item());
        Placed {
            item,
            content: message,
            part: part.saturating_sub(first),
            call,
            id,
            thought: state,
            at: Some(part),
            how,
        }
    }

    /// The part of a target that carried the state.
    fn slot(&self, target: &Range<usize>, part: &HeldPart<'_>) -> usize {
        let history = self.restorer.history;
        let last = target.clone().rev().find(|at| !history.parts[*at].is_empty_text()).unwrap_or(target.start);
        if part.is_trailing() {
            // The client may still have the empty part on which the state came.
            let next = last + 1;
            let kind = if part.kind() == Kind::Thought { PartKind::Thought } else { PartKind::Text };
            let is_carrier = history.parts.get(next).is_some_and(|next| {
                self.restorer.run_starts[next.message] == self.restorer.run_starts[history.parts[last].message]
                    && next.kind == kind
                    && next.is_empty_text()
                    && next.slot.is_missing()
            });
            if is_carrier {
                return next;
            }
        }
        let Some(end) = part.state_at().filter(|_| target.len() > 1) else { return last };
        let mut length = 0_u64;
        for at in target.clone() {
            if let Some(text) = history.parts[at].text() {
                text.decoded(&mut |bytes| length += bytes.len() as u64);
            }
            if length >= u64::from(end) {
                return at;
            }
        }
        last
    }

    /// Writes the state of a thought that is there without it.
    fn fill(&mut self, at: usize, item: ItemRef) {
        let Some(part) = self.part(&item) else { return };
        let (Some(state), restorer) = (part.item(), self.restorer) else { return };
        let (body, history) = (restorer.around.body, restorer.history);
        // Only where parts are members is there more to be written of the whole part than its state.
        let whole = (restorer.dialect.layout() == Layout::Members).then(|| part.whole()).flatten();
        let splices = restorer.dialect.complete(body, history, at, state.raw(), whole.as_ref());
        let Some(splices) = splices else { return };
        if !self.plan.filled.insert(at) {
            return;
        }
        self.plan.restored += 1;
        let placed = self.placed(item, history.parts[at].message, at, How::On);
        // A thought comes and goes together with those beside it.
        let structural = placed.thought.is_some();
        self.plan.edits.push(Edit { splices, items: Few::One(placed), structural, unsigned: None });
    }

    /// Puts a whole part in the place of what the client left of it.
    fn replace_part(&mut self, at: usize, item: ItemRef) {
        let Some(whole) = self.part(&item).and_then(|part| part.whole()) else { return };
        let restorer = self.restorer;
        let Some(splice) = restorer.dialect.replace(restorer.around.body, restorer.history, at, &whole) else { return };
        let placed = self.placed(item, restorer.history.parts[at].message, at, How::On);
        let splices = Few::One(splice);
        self.assigned.insert(at, item);
        self.plan.filled.insert(at);
        self.plan.restored += 1;
        self.plan.edits.push(Edit { splices, items: Few::One(placed), structural: true, unsigned: None });
    }

    fn finish(mut self) -> Plan {
        self.insert_pending();
        self.settle();
        self.plan
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Response, header::CONTENT_TYPE};
    use serde_json::{Value, json};

    use crate::{
        Engine, MemoryStore,
        engine::{Answer, Fallback},
    };

    /// A provider and a client around one engine.
    struct Talk {
        engine: Engine,
        session: Option<&'static str>,
    }

    impl Talk {
        fn new(session: Option<&'static str>) -> Self {
            let engine = Engine::builder(MemoryStore::new()).fallback(Fallback::Off).build().unwrap();
            Self { engine, session }
        }

        /// Sends these contents, which are answered by these parts; gives the contents that went upstream.
        async fn send(&self, contents: Value, answer: Value) -> Value {
            self.send_body(json!({ "contents": contents }), answer).await
        }

        async fn send_body(&self, body: Value, answer: Value) -> Value {
            let uri = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent";
            let mut request = Request::post(uri).header(CONTENT_TYPE, "application/json");
            if let Some(session) = self.session {
                request = request.header("x-session-id", session);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let watch = self.engine.watch(&head).unwrap();
            let body = Bytes::from(body.to_string());
            let mut exchange = self.engine.prepare(watch, &head, body).await;
            let upstream: Value = serde_json::from_slice(&exchange.body()).unwrap();
            let (head, ()) = Response::new(()).into_parts();
            let Answer::Observe(mut observer) = exchange.answer(&head) else { panic!("it is observed") };
            let answer = json!({"candidates": [{"content": {"parts": answer}, "finishReason": "STOP"}]});
            if let Some(commit) = observer.feed(answer.to_string().as_bytes()) {
                commit.run().await;
            }
            upstream["contents"].clone()
        }
    }

    fn ask(text: &str) -> Value {
        json!({"role": "user", "parts": [{"text": text}]})
    }

    const STATE: &str = "c2lnbmF0dXJlIG9uZSBvZiBtYW55";

    /// Rule 13: what precedes proves a dropped call whose id does not.
    #[tokio::test]
    async fn a_dropped_call_with_a_counted_id_comes_back_to_a_derived_session_by_what_precedes_it() {
        let call = json!({"functionCall": {"id": "call_3", "name": "look", "args": {}}, "thoughtSignature": STATE});
        let output = json!({"role": "user", "parts": [
            {"functionResponse": {"id": "call_3", "name": "look", "response": {"seen": true}}}
        ]});
        let talk = Talk::new(None);
        talk.send(json!([ask("look")]), json!([call])).await;
        let upstream = talk.send(json!([ask("look"), output]), json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1], json!({"role": "model", "parts": [call]}));
        assert_eq!(upstream[2], output);
        let aside = json!({"role": "model", "parts": [{"text": "something else"}]});
        let upstream = talk.send(json!([ask("look"), aside, output]), json!([{"text": "fine"}])).await;
        assert_eq!(upstream, json!([ask("look"), aside, output]));
    }

    /// Rule 6: a call whose id is that of another call is not the one that it looks like.
    #[tokio::test]
    async fn a_call_under_the_id_of_another_one_gets_nothing() {
        let call = |id: &str, n: u32| json!({"functionCall": {"id": id, "name": "look", "args": {"n": n}}});
        let signed = |id: &str, n: u32, state: &str| {
            let mut call = call(id, n);
            call["thoughtSignature"] = state.into();
            call
        };
        let model = |call: Value| json!({"role": "model", "parts": [call]});
        let output = |id: &str| {
            let response = json!({"id": id, "name": "look", "response": {"seen": true}});
            json!({"role": "user", "parts": [{"functionResponse": response}]})
        };
        let (one, other) = ("k3x9q7tz", "b8w2m5rv");
        let talk = Talk::new(Some("s"));
        talk.send(json!([ask("look")]), json!([signed(one, 1, STATE)])).await;
        let history = json!([ask("look"), model(call(one, 1)), output(one)]);
        talk.send(history, json!([signed(other, 2, "YW5vdGhlciBzaWduYXR1cmUgb2Y=")])).await;
        let edited = json!([ask("look"), model(call(one, 2)), output(one)]);
        assert_eq!(talk.send(edited.clone(), json!([{"text": "fine"}])).await, edited);
    }

    fn said(text: &str) -> Value {
        json!({"role": "model", "parts": [{"text": text}]})
    }

    /// A call without an id, the message that it is alone in, and its output.
    fn nameless() -> [Value; 3] {
        let call = json!({"functionCall": {"name": "look", "args": {}}});
        let output = json!({"functionResponse": {"name": "look", "response": {"seen": true}}});
        let [model, user] =
            [("model", &call), ("user", &output)].map(|(role, part)| json!({"role": role, "parts": [part]}));
        [call, model, user]
    }

    /// Rule 7: of a history that was cut, what is left before a dropped call says whose it is.
    #[tokio::test]
    async fn a_dropped_call_without_id_comes_back_to_a_history_that_was_cut() {
        let [call, message, output] = nameless();
        let talk = Talk::new(Some("s"));
        talk.send(json!([ask("begin"), said("so"), ask("look")]), json!([call])).await;
        let upstream = talk.send(json!([ask("look"), output]), json!([{"text": "fine"}])).await;
        assert_eq!(upstream, json!([ask("look"), message, output]));
    }

    /// Rule 6: a neighbour that is the same does not help where those before it are others.
    #[tokio::test]
    async fn a_dropped_call_without_id_does_not_come_back_behind_other_neighbours() {
        let [call, _, output] = nameless();
        let talk = Talk::new(Some("s"));
        let asked = json!([ask("a"), said("b"), ask("c"), said("d"), ask("go on")]);
        talk.send(asked, json!([call])).await;
        let other = json!([ask("1"), said("2"), ask("3"), said("4"), ask("5"), said("6"), ask("go on"), output]);
        assert_eq!(talk.send(other.clone(), json!([{"text": "fine"}])).await, other);
    }

    /// Rule 13: in a session that may be many, a dropped call comes back under its own instruction only.
    #[tokio::test]
    async fn a_dropped_call_without_id_wants_the_same_instruction_where_the_session_proves_little() {
        let [call, message, output] = nameless();
        let talk = Talk::new(None);
        let body = |instruction: &str, contents: &Value| {
            let instruction = json!({"parts": [{"text": instruction}]});
            json!({"prompt_cache_key": "app", "systemInstruction": instruction, "contents": contents})
        };
        talk.send_body(body("one", &json!([ask("look")])), json!([call])).await;
        let history = json!([ask("look"), output]);
        let fine = json!([{"text": "fine"}]);
        assert_eq!(talk.send_body(body("two", &history), fine.clone()).await, history);
        let upstream = talk.send_body(body("one", &history), fine).await;
        assert_eq!(upstream, json!([ask("look"), message, output]));
    }

    /// Rules 2 and 6: two calls of a turn fit an output, and one of a later turn does so less well.
    #[tokio::test]
    async fn a_later_call_does_not_decide_between_two_that_an_output_may_answer() {
        let call = |name: &str| json!({"functionCall": {"name": name, "args": {}}});
        let output = |name: &str| json!({"functionResponse": {"name": name, "response": {"ok": 0}}});
        let talk = Talk::new(Some("s"));
        talk.send(json!([ask("go")]), json!([call("cat"), call("ls"), {"text": "sure, "}, call("ls")])).await;
        let kept = json!({"role": "model", "parts": [{"text": "sure, "}]});
        let outputs = json!({"role": "user", "parts": [output("cat"), output("ls"), output("ls")]});
        let before = talk.send(json!([ask("go"), kept, outputs]), json!([call("ls")])).await;
        let last = json!({"role": "user", "parts": [output("ls")]});
        let after = talk.send(json!([ask("go"), kept, outputs, last]), json!([{"text": "fine"}])).await;
        let before = before.as_array().unwrap();
        assert_eq!(&after.as_array().unwrap()[..before.len()], &before[..]);
    }

    /// Rule 13: what was kept of its turn, and is proven, proves a dropped call whose id does not.
    #[tokio::test]
    async fn a_dropped_call_with_a_counted_id_comes_back_beside_what_was_kept_of_its_turn() {
        let call = json!({"functionCall": {"id": "call_3", "name": "look", "args": {}}, "thoughtSignature": STATE});
        let output = json!({"role": "user", "parts": [
            {"functionResponse": {"id": "call_3", "name": "look", "response": {"seen": true}}}
        ]});
        let text = json!({"text": "so "});
        let talk = Talk::new(None);
        talk.send(json!([ask("look")]), json!([text, call])).await;
        let upstream = talk.send(json!([ask("look"), said("so "), output]), json!([{"text": "fine"}])).await;
        assert_eq!(upstream, json!([ask("look"), {"role": "model", "parts": [text, call]}, output]));
    }

    /// Rule 6: absent and empty arguments are the same, for the tools of the provider too.
    #[tokio::test]
    async fn a_server_tool_call_is_the_same_with_empty_arguments() {
        let signed = json!({"toolCall": {"id": "j425u3dm", "toolType": "FILE_SEARCH"}, "thoughtSignature": STATE});
        let kept = json!({"tool_call": {"id": "j425u3dm", "tool_type": "FILE_SEARCH", "args": { }}});
        let talk = Talk::new(Some("s"));
        talk.send(json!([ask("search")]), json!([signed, {"text": "found"}])).await;
        let history = json!([ask("search"), {"role": "model", "parts": [kept, {"text": "found"}]}, ask("and now?")]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1]["parts"][0]["thought_signature"], STATE);
    }

    /// The empty part on which a signature came is where it goes, also when each part is a message.
    #[tokio::test]
    async fn a_trailing_signature_goes_to_the_empty_part_in_the_next_message_of_the_model() {
        let talk = Talk::new(Some("s"));
        talk.send(json!([ask("hi")]), json!([{"text": "hello"}, {"text": "", "thoughtSignature": STATE}])).await;
        let model = |parts: Value| json!({"role": "model", "parts": parts});
        let history = json!([ask("hi"), model(json!([{"text": "hello"}])), model(json!([{"text": ""}])), ask("on")]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1]["parts"][0], json!({"text": "hello"}));
        assert_eq!(upstream[2]["parts"][0]["thoughtSignature"], STATE);
    }

    /// Rule 6: the empty part on which a signature came belongs to the text before it, also where a call comes back.
    #[tokio::test]
    async fn a_dropped_call_goes_behind_the_empty_part_that_carries_the_signature_of_a_text() {
        let call = json!({"functionCall": {"name": "look", "args": {}}});
        let (text, carrier) = (json!({"text": "so "}), json!({"text": "", "thoughtSignature": STATE}));
        let talk = Talk::new(Some("s"));
        talk.send(json!([ask("look")]), json!([text, carrier, call])).await;
        let output = json!({"functionResponse": {"name": "look", "response": {"seen": true}}});
        // A signature of the client's own cuts the run, so that the text is known alone.
        let own = json!({"text": "more", "thoughtSignature": "Zm9yZWlnbiBzaWduYXR1cmUgdmFsdWU"});
        let kept = json!({"role": "model", "parts": [text, {"text": ""}, own]});
        let history = json!([ask("look"), kept, {"role": "user", "parts": [output]}]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1]["parts"], json!([text, carrier, call, own]));
    }

    /// Rule 7: a client of the kind that makes a message of every event.
    #[tokio::test]
    async fn a_run_of_text_is_known_across_messages_of_the_model() {
        let talk = Talk::new(Some("s"));
        let chunk = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
        let answer =
            json!([{"text": "hel"}, {"text": "lo "}, {"text": "you"}, {"text": "", "thoughtSignature": STATE}]);
        talk.send(json!([ask("hi")]), answer).await;
        let history = json!([ask("hi"), chunk("hel"), chunk("lo "), chunk("you"), ask("on")]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1], chunk("hel"));
        assert_eq!(upstream[2], chunk("lo "));
        assert_eq!(upstream[3]["parts"][0], json!({"text": "you", "thoughtSignature": STATE}));
    }

    /// Messages of two turns side by side are known each on its own.
    #[tokio::test]
    async fn adjacent_messages_of_different_turns_are_told_apart() {
        let talk = Talk::new(Some("s"));
        let other = "YW5vdGhlciBzaWduYXR1cmUgb2YgbWFueQ==";
        let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
        talk.send(json!([ask("one")]), json!([{"text": "first", "thoughtSignature": STATE}])).await;
        talk.send(json!([ask("two")]), json!([{"text": "second", "thoughtSignature": other}])).await;
        let history = json!([ask("one"), model("first"), model("second"), ask("on")]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1]["parts"][0]["thoughtSignature"], STATE);
        assert_eq!(upstream[2]["parts"][0]["thoughtSignature"], other);
    }

    /// Clients drop empty text, so it is nothing that precedes a turn.
    #[tokio::test]
    async fn an_empty_part_that_is_kept_once_and_dropped_later_changes_no_history() {
        let talk = Talk::new(None);
        let call = json!({"functionCall": {"name": "look"}});
        let output = json!({"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {}}}]});
        let kept = json!({"role": "model", "parts": [call, {"text": ""}]});
        let answer = json!({"text": "seen", "thoughtSignature": STATE});
        talk.send(json!([ask("look"), kept, output]), json!([answer])).await;
        let bare = json!({"role": "model", "parts": [call]});
        let text = json!({"role": "model", "parts": [{"text": "seen"}]});
        let upstream = talk.send(json!([ask("look"), bare, output, text, ask("on")]), json!([{"text": "fine"}])).await;
        assert_eq!(upstream[3]["parts"][0], answer);
    }

    /// Rule 6: equal content comes before the one signed chunk of a run.
    #[tokio::test]
    async fn a_chunk_does_not_take_what_belongs_to_the_whole_run() {
        let talk = Talk::new(Some("s"));
        let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
        talk.send(json!([ask("one")]), json!([{"text": "done. "}])).await;
        let history = [ask("one"), model("done. "), ask("two")];
        let answer = json!([{"text": "done. ", "thoughtSignature": STATE}, {"text": "sure"}]);
        talk.send(json!(history), answer).await;
        let [one, first, two] = history;
        let history = json!([one, first, two, model("done. sure"), ask("three")]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1], model("done. "));
        assert_eq!(upstream[3]["parts"][0]["thoughtSignature"], STATE);
    }

    /// Rule 6: equal unsigned parts that already stood there when the turn was made count.
    #[tokio::test]
    async fn a_part_that_stood_there_already_does_not_get_the_state_of_a_later_one() {
        let talk = Talk::new(Some("s"));
        let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
        let [one, two, three] = ["one", "two", "three"].map(ask);
        talk.send(json!([one]), json!([{"text": "ok"}])).await;
        talk.send(json!([one, model("ok"), two]), json!([{"text": "ok", "thoughtSignature": STATE}])).await;
        // Another answer is asked for.
        let branch = json!([one, model("ok"), three]);
        assert_eq!(talk.send(branch.clone(), json!([{"text": "fine"}])).await, branch);
        // The head is cut off.
        let upstream = talk.send(json!([two, model("ok"), three]), json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1]["parts"][0]["thoughtSignature"], STATE);
        let history = json!([one, model("ok"), two, model("ok"), three]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1], model("ok"));
        assert_eq!(upstream[3]["parts"][0]["thoughtSignature"], STATE);
    }

    /// The pieces of a run come after whole parts, but not after those with less proof.
    #[tokio::test]
    async fn a_run_in_pieces_keeps_its_state_from_an_equal_part_of_another_turn() {
        let talk = Talk::new(Some("s"));
        let other = "YW5vdGhlciBzaWduYXR1cmUgb2YgbWFueQ==";
        let answer = json!([
            {"text": "wait"}, {"text": "", "thoughtSignature": other}, {"text": "ok", "thoughtSignature": STATE}
        ]);
        talk.send(json!([ask("one")]), answer).await;
        let first = json!({"role": "model", "parts": [{"text": "wait"}, {"text": ""}, {"text": "ok"}]});
        let second = json!({"role": "model", "parts": [{"text": "ok"}]});
        let history = json!([ask("one"), first, ask("two"), second, ask("three")]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1]["parts"][1]["thoughtSignature"], other);
        assert_eq!(upstream[1]["parts"][2]["thoughtSignature"], STATE);
        assert_eq!(upstream[3], second);
    }

    #[tokio::test]
    async fn a_chunk_of_a_run_is_known_only_where_the_run_was() {
        let talk = Talk::new(Some("s"));
        let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
        let answer = json!([{"text": "ok", "thoughtSignature": STATE}, {"text": ", then"}]);
        talk.send(json!([ask("one"), model("ok"), ask("two")]), answer).await;
        let history = json!([ask("one"), model("ok"), ask("two"), model("ok, changed"), ask("three")]);
        assert_eq!(talk.send(history.clone(), json!([{"text": "fine"}])).await, history);
        let pieces = json!({"role": "model", "parts": [{"text": "ok"}, {"text": ", changed"}]});
        let history = json!([ask("one"), model("ok"), ask("two"), pieces, ask("three")]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1], model("ok"));
        assert_eq!(upstream[3]["parts"][0]["thoughtSignature"], STATE);
    }

    /// Rule 2: the same history gives the same bytes on every turn.
    #[tokio::test]
    async fn equal_calls_without_ids_come_back_where_they_were_made() {
        let talk = Talk::new(Some("s"));
        let call = json!({"role": "model", "parts": [{"functionCall": {"name": "look", "args": {}}}]});
        let seen = |what: u8| {
            let output = json!({"functionResponse": {"name": "look", "response": {"seen": what % 2}}});
            json!({"role": "user", "parts": [output]})
        };
        let (mut history, mut whole) = (vec![ask("look")], vec![ask("look")]);
        for turn in 0..6 {
            let upstream = talk.send(json!(history), call["parts"].clone()).await;
            assert_eq!(upstream, json!(whole));
            history.push(seen(turn));
            whole.extend([call.clone(), seen(turn)]);
        }
    }

    /// Rule 6: a dropped call returns in its order among what was kept of its turn.
    #[tokio::test]
    async fn a_dropped_call_stands_before_what_followed_it_in_another_message() {
        let talk = Talk::new(Some("s"));
        let call = json!({"functionCall": {"id": "k3x9q7tz", "name": "look", "args": {}}, "thoughtSignature": STATE});
        talk.send(json!([ask("look")]), json!([call, {"text": "so "}, {"inlineData": {"data": "aW1n"}}])).await;
        let model = |part: Value| json!({"role": "model", "parts": [part]});
        let (text, media) = (json!({"text": "so "}), model(json!({"inlineData": {"data": "aW1n"}})));
        let output = json!({"functionResponse": {"id": "k3x9q7tz", "name": "look", "response": {}}});
        let output = json!({"role": "user", "parts": [output]});
        let history = json!([ask("look"), model(text.clone()), media, output]);
        let upstream = talk.send(history, json!([{"text": "fine"}])).await;
        assert_eq!(upstream[1], json!({"role": "model", "parts": [call, text]}));
        assert_eq!((&upstream[2], &upstream[3]), (&media, &output));
    }
}
