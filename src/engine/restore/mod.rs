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
mod tests;
