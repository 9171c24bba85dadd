//! Works out which remembered items a request lacks, and the edits that put them back.

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZeroU32,
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;

use super::{refusal, survey::Around};
use crate::{
    dialect::{Author, Dialect, History, Part, PartKind, ToolDefaults},
    ledger::{
        Anchor, Context, ItemRef, Kind, Ledger, Turn, TurnId, TurnPart,
        few::Few,
        fingerprint::{Running, Tag},
        matcher::{AnchorMap, Matcher, Outcome, OwnMap, OwnSet, Place, Strictness, Surroundings, is_native},
    },
    scope::HashKey,
};

/// The places of a history where state could be missing.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Parts of the model that could carry state and carry none. Several parts stand for one run of text.
    targets: Vec<Range<usize>>,
    /// Outputs whose call is not in the history.
    orphans: Vec<usize>,
}

impl Gaps {
    /// Finds them by looking at the shape of the history alone.
    pub(crate) fn find(history: &History<'_>) -> Self {
        Self { targets: targets(history), orphans: orphans(history) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.orphans.is_empty()
    }
}

/// The parts, and runs of text parts, that lack state. A run goes on in the next message of the model:
/// some clients make a message of every event.
fn targets(history: &History<'_>) -> Vec<Range<usize>> {
    let mut targets = Vec::new();
    let is_model = |part: usize| history.messages[history.parts[part].message].author == Author::Model;
    let mut at = 0;
    while at < history.parts.len() {
        let (start, part) = (at, &history.parts[at]);
        at += 1;
        if !is_model(start) {
            continue;
        }
        if part.text().is_none() {
            if part.slot.is_missing() && part.remembered_kind().is_some() {
                targets.push(start..at);
            }
            continue;
        }
        let goes_on = |at: usize| {
            let (last, next) = (history.parts[at - 1].message, history.parts[at].message);
            history.parts[at].kind == part.kind && (last..=next).all(|at| history.messages[at].author == Author::Model)
        };
        while at < history.parts.len() && goes_on(at) {
            at += 1;
        }
        if lacks_state(history, &(start..at)) {
            targets.push(start..at);
        }
    }
    targets
}

/// How many unanswered calls of earlier messages are remembered while outputs are paired with calls.
const MAX_OPEN_CALLS: usize = 64;

/// Whether a run of text has text without state.
fn lacks_state(history: &History<'_>, run: &Range<usize>) -> bool {
    history.parts[run.clone()].iter().any(|part| part.slot.is_missing() && !part.is_empty_text())
}

/// The outputs that answer no call of the history.
fn orphans(history: &History<'_>) -> Vec<usize> {
    let mut orphans = Vec::new();
    let (mut calls, mut outputs): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < history.messages.len() {
        let author = history.messages[at].author;
        let end = (at..history.messages.len()).find(|next| history.messages[*next].author != author);
        let end = end.unwrap_or(history.messages.len());
        let parts = history.messages[at].parts.start..history.messages[end - 1].parts.end;
        match author {
            Author::Model => calls.extend(parts.filter(|part| history.parts[*part].kind == PartKind::Call)),
            Author::Client => {
                outputs.clear();
                outputs.extend(parts.filter(|part| history.parts[*part].kind == PartKind::Output));
                if !outputs.is_empty() {
                    pair(history, &mut calls, &outputs, &mut orphans);
                }
                // Calls that nobody answered so far hardly will be.
                let old = calls.len().saturating_sub(MAX_OPEN_CALLS);
                calls.drain(..old);
            }
        }
        at = end;
    }
    orphans
}

/// Pairs outputs with open calls: by id, then by name in order where a side has no id.
fn pair(history: &History<'_>, calls: &mut Vec<usize>, outputs: &[usize], orphans: &mut Vec<usize>) {
    let id = |part: usize| history.parts[part].id.map(|id| id.decode()).filter(|id| !id.is_empty());
    if let ([call], [output]) = (&calls[..], outputs)
        && id(*call).is_some_and(|call| id(*output).is_some_and(|output| call == output))
    {
        return calls.clear();
    }
    let name = |part: usize| history.parts[part].name.map(|name| name.decode());
    let mut by_id: HashMap<_, Vec<usize>> = HashMap::new();
    for (at, call) in calls.iter().enumerate().rev() {
        if let Some(id) = id(*call) {
            by_id.entry(id).or_default().push(at);
        }
    }
    let mut answered = HashSet::new();
    let mut open = Vec::new();
    for &output in outputs {
        match id(output).and_then(|id| by_id.get_mut(&id)?.pop()) {
            Some(call) => drop(answered.insert(call)),
            None => open.push(output),
        }
    }
    let mut by_name: HashMap<_, Vec<usize>> = HashMap::new();
    let mut by_name_without_id: HashMap<_, Vec<usize>> = HashMap::new();
    for (at, call) in calls.iter().enumerate().rev() {
        if !answered.contains(&at) {
            let named = if id(*call).is_some() { &mut by_name } else { &mut by_name_without_id };
            named.entry(name(*call)).or_default().push(at);
        }
    }
    for output in open {
        let name = name(output);
        let without_id = by_name_without_id.get_mut(&name).and_then(Vec::pop);
        let call =
            without_id.or_else(|| if id(output).is_none() { by_name.get_mut(&name).and_then(Vec::pop) } else { None });
        match call {
            Some(call) => drop(answered.insert(call)),
            None => orphans.push(output),
        }
    }
    let mut at = 0;
    calls.retain(|_| {
        at += 1;
        !answered.contains(&(at - 1))
    });
}

/// How often the runs that are not known are taken apart: by messages, by empty parts, by parts.
const MAX_ROUNDS: usize = 4;

/// An edit of the request body.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) range: Range<usize>,
    pub(crate) bytes: Bytes,
    /// The items that it puts back, and where they stand in the request that goes upstream.
    pub(crate) items: Vec<Placed>,
    /// It adds a part or a message.
    pub(crate) structural: bool,
    /// The call in it that has no state where the provider may want some.
    pub(crate) unsigned: Option<Unsigned>,
}

/// An inserted call without state that is the first one of its message.
#[derive(Clone, Debug)]
pub(crate) struct Unsigned {
    pub(crate) placed: Placed,
    /// The message of the history that it is put into, or before.
    pub(crate) message: usize,
    /// The bytes of the edit with a sentinel on the call.
    pub(crate) bytes: Bytes,
}

/// A piece of state that an edit puts back.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) item: ItemRef,
    /// The position of its message in the contents that go upstream.
    pub(crate) content: usize,
    /// The position of its part in that message.
    pub(crate) part: usize,
    pub(crate) call: Option<Box<str>>,
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
}

impl PutIn {
    /// Whether it stands where the provider found fault.
    pub(crate) fn is_at(&self, place: &refusal::Place) -> bool {
        place.content.is_none_or(|content| content == self.content as usize)
            && place.part.is_none_or(|part| part == self.part as usize)
            && place.call.as_deref().is_none_or(|call| self.call == Some(digest(call)))
    }
}

impl From<&Placed> for PutIn {
    fn from(placed: &Placed) -> Self {
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let call = placed.call.as_deref().map(digest);
        Self { item: placed.item, content: position(placed.content), part: position(placed.part), call }
    }
}

/// Tells the names of the calls of one request apart.
fn digest(name: &str) -> NonZeroU32 {
    let digest =
        name.bytes().fold(0x811c_9dc5_u32, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193));
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
    pub(crate) inserted: Inserted,
}

impl Plan {
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

/// A part that is inserted into a message, or a message that is.
enum Insertion {
    Part { before: usize, message: usize },
    Message { before: usize },
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
}

impl Restorer<'_> {
    /// Matches the ledger against the history.
    pub(crate) fn plan(&self, ledger: &Ledger) -> Plan {
        let turns: OwnMap<_, _> = ledger.turns().map(|turn| (turn.id(), turn)).collect();
        let mut work = Work {
            restorer: self,
            turns,
            plan: Plan::default(),
            assigned: OwnMap::default(),
            insertions: Vec::new(),
            nths: HashMap::new(),
            outputs: OnceCell::new(),
            runs: OwnMap::default(),
            first_calls: HashMap::new(),
        };
        if ledger.is_empty() {
            return work.finish();
        }
        let mut matcher = Matcher::new(ledger.turns(), self.around, self.strictness);
        work.kept_parts(&mut matcher, &self.worth_matching(ledger));
        work.whole_parts();
        work.dropped_calls(&matcher, ledger);
        work.finish()
    }

    /// The kinds of parts that are worth finding again: those of which some carry state, or all where
    /// more hangs on what a message is than the state of its parts.
    fn worth_matching(&self, ledger: &Ledger) -> Vec<Kind> {
        const ALL: [Kind; 5] = [Kind::Text, Kind::Thought, Kind::Call, Kind::Media, Kind::Native];
        let mut kinds = Vec::with_capacity(ALL.len());
        for turn in ledger.turns() {
            let parts = turn.alternatives().iter().flat_map(|alternative| &alternative.parts);
            let mut whole_thought = false;
            for part in parts {
                whole_thought |= part.kind == Kind::Thought && part.whole.is_some();
                if part.state.is_some() && !kinds.contains(&part.kind) {
                    kinds.push(part.kind);
                }
            }
            if whole_thought || turn.alternatives().len() > 1 || !self.gaps.orphans.is_empty() {
                return ALL.into();
            }
        }
        kinds
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
        let remembered = matcher.of_id(id).filter(|remembered| remembered.kind == Kind::Call)?;
        let whole = remembered.whole.as_ref()?;
        self.dialect.is_same_call(self.around.body, part, whole).then_some(remembered.anchor)
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

/// Decoded text that is UTF-8, as all of the body is but for lone surrogates.
fn text(decoded: Cow<'_, [u8]>) -> Cow<'_, str> {
    match decoded {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

/// The plan while it is worked out.
struct Work<'a> {
    restorer: &'a Restorer<'a>,
    turns: OwnMap<TurnId, &'a Arc<Turn>>,
    plan: Plan,
    /// The remembered part that a part of the history is.
    assigned: OwnMap<usize, ItemRef>,
    insertions: Vec<Insertion>,
    nths: HashMap<(bool, usize), usize>,
    /// Where the outputs begin that stand right before each message.
    outputs: OnceCell<Vec<usize>>,
    /// What stands in the runs of messages of the model that end before these.
    runs: OwnMap<usize, Run>,
    /// The first of the calls that are inserted into a message: the part before which it stands, and its edit.
    first_calls: HashMap<usize, (usize, usize)>,
}

/// A message, a part of it, and which part of a turn that is.
type Sibling = (usize, usize, u32);

/// The parts of some messages of the model, by what tells whose they are.
#[derive(Default)]
struct Run {
    assigned: OwnMap<(TurnId, u32), Vec<usize>>,
    by_id: HashMap<Box<[u8]>, Vec<usize>>,
    by_anchor: AnchorMap<Vec<usize>>,
    anchors: OwnMap<usize, Anchor>,
}

/// Equal parts of a turn, and how many of them are taken in a message.
#[derive(Default)]
struct Unused {
    parts: Few<u32>,
    message: usize,
    taken: usize,
}

impl Unused {
    /// The first one that is not taken in this message.
    fn first(&mut self, message: usize, taken: &OwnSet<u32>) -> Option<u32> {
        if self.message != message {
            (self.message, self.taken) = (message, 0);
        }
        while self.parts.get(self.taken).is_some_and(|part| taken.contains(part)) {
            self.taken += 1;
        }
        self.parts.get(self.taken).copied()
    }
}

impl<'a> Work<'a> {
    fn part(&self, item: &ItemRef) -> Option<&'a TurnPart> {
        self.turns.get(&item.turn)?.part(item)
    }

    /// Puts state back on the parts that the client kept.
    fn kept_parts(&mut self, matcher: &mut Matcher<'_>, worth_matching: &[Kind]) {
        let history = self.restorer.history;
        let is_worth = |target: &&Range<usize>| {
            let kind = history.parts[target.start].remembered_kind();
            kind.is_some_and(|kind| worth_matching.contains(&kind))
        };
        let targets: Vec<_> = self.restorer.gaps.targets.iter().filter(is_worth).cloned().collect();
        let in_pieces = |target: &Range<usize>| target.len() > 1;
        if self.restorer.strictness == Strictness::Strict || !targets.iter().any(in_pieces) {
            self.by_pieces(matcher, targets);
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
            let (mut later, whole): (Vec<_>, Vec<_>) = open.into_iter().partition(held);
            let (targets, places): (Vec<_>, Vec<_>) = whole
                .into_iter()
                .filter_map(|target| restorer.place(&target, matcher).map(|place| (target, place)))
                .unzip();
            for (target, outcome) in targets.into_iter().zip(matcher.assign(&places)) {
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
        for at in target.clone() {
            self.assigned.insert(at, item);
        }
        let Some(part) = self.part(&item) else { return };
        let Some(state) = &part.state else { return };
        if self.restorer.refused.contains(&item) {
            return;
        }
        let at = self.slot(target, part);
        if self.plan.filled.contains(&at) {
            return;
        }
        let target = &self.restorer.history.parts[at];
        let Some((range, bytes)) = self.restorer.dialect.restore(target, state.raw()) else { return };
        self.plan.filled.insert(at);
        self.plan.restored += 1;
        let placed = self.placed(item, target.message, at, How::On);
        self.plan.edits.push(Edit { range, bytes, items: vec![placed], structural: false, unsigned: None });
    }

    fn placed(&self, item: ItemRef, message: usize, part: usize, how: How) -> Placed {
        let history = self.restorer.history;
        let first = history.messages.get(message).map_or(0, |message| message.parts.start);
        let call = self.part(&item).filter(|part| part.kind == Kind::Call).and_then(|part| part.name.clone());
        Placed { item, content: message, part: part.saturating_sub(first), call, at: Some(part), how }
    }

    /// How many insertions, of messages or of parts, came before this one at its place.
    fn nth(&mut self, message: bool, before: usize) -> usize {
        let next = self.nths.entry((message, before)).or_default();
        *next += 1;
        *next - 1
    }

    /// The part of a target that carried the state.
    fn slot(&self, target: &Range<usize>, part: &TurnPart) -> usize {
        let history = self.restorer.history;
        let last = target.clone().rev().find(|at| !history.parts[*at].is_empty_text()).unwrap_or(target.start);
        if part.trailing {
            // The client may still have the empty part on which the state came.
            let next = last + 1;
            let kind = if part.kind == Kind::Thought { PartKind::Thought } else { PartKind::Text };
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
        let Some(end) = part.state_at.filter(|_| target.len() > 1) else { return last };
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

    /// Puts whole thinking parts back into the messages of which the client kept something else.
    fn whole_parts(&mut self) {
        let restorer = self.restorer;
        let is_whole = |part: &TurnPart| part.kind == Kind::Thought && part.whole.is_some();
        let mut turns = self.turns.values().flat_map(|turn| turn.alternatives());
        let any = turns.any(|alternative| alternative.parts.iter().any(is_whole));
        if !any || restorer.history.thinking_off {
            return;
        }
        let mut done = HashSet::new();
        for (at, message) in restorer.history.messages.iter().enumerate() {
            let mut of: Vec<(usize, ItemRef)> =
                message.parts.clone().filter_map(|part| Some((part, *self.assigned.get(&part)?))).collect();
            of.sort_by_key(|(part, _)| *part);
            let Some((_, first)) = of.first().copied() else { continue };
            let one_turn = of.iter().all(|(_, item)| (item.turn, item.alternative) == (first.turn, first.alternative));
            // The client's own thoughts stay as they are; ours never stand beside them.
            let own = message.parts.clone().any(|part| {
                let kept = &restorer.history.parts[part];
                kept.kind == PartKind::Thought && !self.plan.filled.contains(&part) && !is_blank_thought(kept)
            });
            if !one_turn || own {
                continue;
            }
            let Some(turn) = self.turns.get(&first.turn) else { continue };
            let Some(alternative) = turn.alternatives().get(first.alternative as usize) else { continue };
            let missing: Vec<(u32, &TurnPart)> = (0..)
                .zip(&alternative.parts)
                .filter(|(index, part)| is_whole(part) && of.iter().all(|(_, item)| item.part != *index))
                .filter(|(index, _)| done.insert((first.turn, first.alternative, *index)))
                .collect();
            let refused = missing.iter().any(|(index, part)| {
                let item = ItemRef::new(first.turn, first.alternative, *index);
                restorer.refused.contains(&item)
                    || part.state.as_ref().is_some_and(|state| restorer.around.holds(state))
            });
            if refused {
                continue;
            }
            let mut blank: Vec<usize> = message.parts.clone().collect();
            blank.retain(|part| is_blank_thought(&restorer.history.parts[*part]) && !self.assigned.contains_key(part));
            for (index, part) in missing {
                let next = of.iter().find(|(_, item)| item.part > index).map(|(part, _)| *part);
                let last = of.iter().rfind(|(_, item)| item.part < index).map(|(part, _)| *part);
                let item = ItemRef::new(first.turn, first.alternative, index);
                let between = |at: &usize| last.is_none_or(|last| last < *at) && next.is_none_or(|next| *at < next);
                match blank.iter().position(between) {
                    Some(found) => self.replace_part(at, blank.remove(found), item, part),
                    None => self.insert_part(at, next, item, part),
                }
                self.plan.restored += 1;
            }
        }
    }

    /// Puts a whole part in the place of what the client left of it.
    fn replace_part(&mut self, message: usize, at: usize, item: ItemRef, part: &TurnPart) {
        let Some(whole) = part.whole.clone() else { return };
        let range = self.restorer.history.parts[at].span.clone();
        let items = part.state.iter().map(|_| self.placed(item, message, at, How::On)).collect();
        self.assigned.insert(at, item);
        self.plan.filled.insert(at);
        self.plan.edits.push(Edit { range, bytes: whole, items, structural: true, unsigned: None });
    }

    /// Inserts a whole part into a message: before a part of it, or at its end.
    fn insert_part(&mut self, message: usize, before: Option<usize>, item: ItemRef, part: &TurnPart) {
        let history = self.restorer.history;
        let parts = history.messages[message].parts.clone();
        let Some(whole) = &part.whole else { return };
        // A lone part stands where there is no room for another.
        if parts.is_empty() || !self.restorer.is_element(history.parts[parts.start].span.start) {
            return;
        }
        let offset = match before {
            Some(before) => history.parts[before].span.start,
            None => history.parts[parts.end - 1].span.end,
        };
        let separated = |whole: &[u8]| match before {
            Some(_) => Bytes::from([whole, b","].concat()),
            None => Bytes::from([b",", whole].concat()),
        };
        let at = before.unwrap_or(parts.end);
        let nth = self.nth(false, at);
        let mut placed = self.placed(item, message, at, How::Part(nth));
        placed.at = None;
        let mut unsigned = None;
        if part.kind == Kind::Call {
            let kept = parts.clone().find(|at| history.parts[*at].kind == PartKind::Call);
            let ours = self.first_calls.get(&message).copied();
            if kept.is_none_or(|kept| kept >= at) && ours.is_none_or(|(before, _)| before > at) {
                // The first call of the message is now ours.
                self.plan.filled.extend(kept);
                placed.at = kept;
                if let Some((_, edit)) = self.first_calls.insert(message, (at, self.plan.edits.len())) {
                    self.plan.edits[edit].unsigned = None;
                }
                let whole = self.with_sentinel(part);
                unsigned = whole.map(|whole| Unsigned { placed: placed.clone(), message, bytes: separated(&whole) });
            }
        }
        let items = part.state.iter().map(|_| placed.clone()).collect();
        let bytes = separated(whole);
        self.insertions.push(Insertion::Part { before: at, message });
        self.plan.edits.push(Edit { range: offset..offset, bytes, items, structural: true, unsigned });
    }

    /// A call that never had state, with the value that stands in for it.
    fn with_sentinel(&self, part: &TurnPart) -> Option<Bytes> {
        let sentinel = self.restorer.sentinel.as_ref().filter(|_| part.kind == Kind::Call && part.state.is_none())?;
        self.restorer.dialect.signed(part.whole.as_ref()?, sentinel)
    }

    /// Puts back the calls whose outputs the client kept.
    fn dropped_calls(&mut self, matcher: &Matcher<'_>, ledger: &Ledger) {
        let mut groups: BTreeMap<(usize, u32), Vec<(u32, usize)>> = BTreeMap::new();
        let mut taken = HashSet::new();
        let found: Vec<_> = self.lookup(matcher, ledger);
        for (turn, alternative, part, output) in found {
            if taken.insert((turn, alternative, part)) {
                groups.entry((turn, alternative)).or_default().push((part, output));
            }
        }
        let turns: Vec<_> = ledger.turns().collect();
        for ((turn, alternative), mut calls) in groups {
            calls.sort_unstable();
            let first_output = calls.iter().map(|(_, output)| self.restorer.history.parts[*output].message).min();
            let Some(message) = first_output else { continue };
            self.put_calls_back(turns[turn], alternative, &calls, message);
        }
    }

    /// The remembered call of each orphaned output: position of the turn, alternative, part, output.
    fn lookup(&self, matcher: &Matcher<'_>, ledger: &Ledger) -> Vec<(usize, u32, u32, usize)> {
        let history = self.restorer.history;
        let orphans = &self.restorer.gaps.orphans;
        if orphans.is_empty() {
            return Vec::new();
        }
        let mut by_id: HashMap<&str, (usize, u32, u32, &TurnPart)> = HashMap::new();
        let mut by_name: HashMap<&str, Vec<(usize, u32, u32)>> = HashMap::new();
        let assigned: HashSet<ItemRef> = self.assigned.values().copied().collect();
        for (at, turn) in ledger.turns().enumerate() {
            for (alternative, parts) in (0..).zip(turn.alternatives()) {
                for (part, remembered) in (0..).zip(&parts.parts) {
                    let item = ItemRef::new(turn.id(), alternative, part);
                    let answered = assigned.contains(&item)
                        || remembered.state.as_ref().is_some_and(|state| self.restorer.around.holds(state));
                    if remembered.kind != Kind::Call || remembered.whole.is_none() || answered {
                        continue;
                    }
                    if let Some(id) = &remembered.id {
                        by_id.insert(id, (at, alternative, part, remembered));
                    } else if let Some(name) = &remembered.name {
                        by_name.entry(name).or_default().push((at, alternative, part));
                    }
                }
            }
        }
        let turns: Vec<_> = ledger.turns().collect();
        let strict = self.restorer.strictness == Strictness::Strict;
        let (mut found, mut without_id) = (Vec::new(), Vec::new());
        for output in orphans {
            let part = &history.parts[*output];
            let id = part.id.map(|id| id.decode()).filter(|id| !id.is_empty());
            let name = part.name.map(|name| name.decode());
            let name = name.as_deref().filter(|name| !is_placeholder_name(name));
            if let Some(id) = id {
                let Ok(id) = std::str::from_utf8(&id) else { continue };
                let Some((turn, alternative, call, remembered)) = by_id.get(id) else { continue };
                let called = remembered.name.as_deref();
                let agrees = name.is_none_or(|name| called.is_some_and(|called| called.as_bytes() == name));
                let places = || self.restorer.around.answered_at(*output);
                let proven = !strict || is_native(id, called) || self.neighbours_agree(turns[*turn], &places());
                if agrees && matcher.count_of(id) == 1 && proven {
                    found.push((*turn, *alternative, *call, *output));
                }
                continue;
            }
            if let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) {
                without_id.push((*output, name.to_owned()));
            }
        }
        // Everything that precedes an output decides first, then what stands near those that remain.
        let mut used = HashSet::new();
        for whole in [true, false] {
            without_id.retain(|(output, name)| {
                let places = self.restorer.around.answered_at(*output);
                let beside = self.turns_before(history.parts[*output].message);
                let fits = |(turn, alternative, _): &(usize, u32, u32)| match whole {
                    true => {
                        beside.contains(&(turns[*turn].id(), *alternative)) || self.was_made_at(turns[*turn], &places)
                    }
                    false => self.neighbours_agree(turns[*turn], &places),
                };
                let calls = by_name.get(&**name).into_iter().flatten();
                let (completed, provisional): (Vec<&(usize, u32, u32)>, Vec<_>) = calls
                    .filter(|call| fits(call) && !used.contains(*call))
                    .partition(|(turn, ..)| !turns[*turn].is_provisional());
                let calls = if completed.is_empty() { provisional } else { completed };
                let &[call] = calls.as_slice() else { return true };
                used.insert(*call);
                found.push((call.0, call.1, call.2, *output));
                false
            });
        }
        found
    }

    /// Whether everything before a turn stands at one of these places.
    fn was_made_at(&self, turn: &Turn, places: &[Context]) -> bool {
        let named = self.restorer.strictness == Strictness::Known;
        let mut places = places.iter().filter(|place| named || place.system() == turn.context().system());
        places.any(|place| place.before() == turn.context().before())
    }

    /// Whether a turn was made at one of these places, as far as the session lets that be told.
    fn neighbours_agree(&self, turn: &Turn, places: &[Context]) -> bool {
        if self.restorer.strictness == Strictness::Strict || self.was_made_at(turn, places) {
            return self.was_made_at(turn, places);
        }
        let windows = turn.context().windows();
        places.iter().any(|place| {
            let level = windows.len().min((place.depth() + 1).ilog2() as usize);
            let Some(level) = level.checked_sub(1) else { return false };
            windows.get(level) == place.windows().get(level)
        })
    }

    fn put_calls_back(&mut self, turn: &Turn, alternative: u32, calls: &[(u32, usize)], output: usize) {
        let history = self.restorer.history;
        let Some(remembered) = turn.alternatives().get(alternative as usize) else { return };
        if !self.restorer.is_element(history.messages[output].span.start) {
            return;
        }
        let parts = &remembered.parts;
        let item = |part: u32| ItemRef::new(turn.id(), alternative, part);
        self.plan.calls += u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let signed = calls.iter().filter(|(part, _)| parts[*part as usize].state.is_some()).count();
        self.plan.restored += u32::try_from(signed).unwrap_or(u32::MAX);
        // Where siblings were kept, in the model's messages right before the outputs, the calls join them.
        let kept = self.siblings(output, turn.id(), alternative, parts);
        if let Some((last_message, last, _)) = kept.last().copied() {
            let end = history.messages[last_message].parts.end;
            let after = (last_message, Some(last + 1).filter(|at| *at < end));
            let mut rest = &kept[..];
            for (part, _) in calls {
                // They are in order, so what comes too early for one does so for the next.
                let next = rest.iter().position(|(.., sibling)| sibling > part).unwrap_or(rest.len());
                rest = &rest[next..];
                let next = rest.first();
                let (message, before) = next.map_or(after, |(message, at, _)| (*message, Some(*at)));
                self.insert_part(message, before, item(*part), &parts[*part as usize]);
            }
            return;
        }
        let mut inserted = self.thoughts_before(turn, alternative, calls);
        self.plan.restored += u32::try_from(inserted.len()).unwrap_or(u32::MAX);
        inserted.extend(calls.iter().map(|(part, _)| *part));
        inserted.sort_unstable();
        let inserted = || inserted.iter().map(|part| (*part, &parts[*part as usize]));
        let whole: Vec<Bytes> = inserted().filter_map(|(_, part)| part.whole.clone()).collect();
        let message = |parts: &[Bytes]| Bytes::from([&self.restorer.dialect.message(parts)[..], b","].concat());
        let bytes = message(&whole);
        let nth = self.nth(true, output);
        let placed = |position: usize, index: u32, part: &TurnPart| Placed {
            item: item(index),
            content: output,
            part: position,
            call: part.name.clone().filter(|_| part.kind == Kind::Call),
            at: None,
            how: How::Message(nth),
        };
        let first = (0..).zip(inserted()).find(|(_, (_, part))| part.kind == Kind::Call);
        let unsigned = first.and_then(|(position, (index, part))| {
            let mut whole = whole.clone();
            *whole.get_mut(position)? = self.with_sentinel(part)?;
            Some(Unsigned { placed: placed(position, index, part), message: output, bytes: message(&whole) })
        });
        let items = (0..).zip(inserted()).filter(|(_, (_, part))| part.state.is_some());
        let items = items.map(|(position, (index, part))| placed(position, index, part)).collect();
        let at = history.messages[output].span.start;
        self.plan.edits.push(Edit { range: at..at, bytes, items, structural: true, unsigned });
        self.insertions.push(Insertion::Message { before: output });
    }

    /// The model's messages right before the outputs of which this message is one.
    fn answered(&self, output: usize) -> Range<usize> {
        let history = self.restorer.history;
        let starts = self.outputs.get_or_init(|| {
            let mut start = 0;
            let starts = history.messages.iter().enumerate().map(|(at, message)| {
                let parts = &history.parts[message.parts.clone()];
                let before = start;
                // What a client says beside outputs begins nothing new.
                let is_output = |part: &Part<'_>| part.kind == PartKind::Output;
                let answers = message.author == Author::Client && (parts.is_empty() || parts.iter().any(is_output));
                if !answers {
                    start = at + 1;
                }
                before
            });
            starts.collect()
        });
        let end = starts.get(output).copied().unwrap_or_default();
        match end.checked_sub(1) {
            Some(last) if history.messages[last].author == Author::Model => self.restorer.run_starts[last]..end,
            _ => end..end,
        }
    }

    /// The turns of which something stands in the messages that this output may answer.
    fn turns_before(&self, output: usize) -> HashSet<(TurnId, u32)> {
        let messages = &self.restorer.history.messages[self.answered(output)];
        let parts = messages.iter().flat_map(|message| message.parts.clone());
        parts.filter_map(|part| self.assigned.get(&part)).map(|item| (item.turn, item.alternative)).collect()
    }

    /// The whole thinking parts that stood before calls of which nothing was kept.
    fn thoughts_before(&self, turn: &Turn, alternative: u32, calls: &[(u32, usize)]) -> Vec<u32> {
        let restorer = self.restorer;
        let (Some(remembered), false) = (turn.alternatives().get(alternative as usize), restorer.history.thinking_off)
        else {
            return Vec::new();
        };
        let last = calls.last().map_or(0, |(part, _)| *part);
        let thoughts = (0..last).zip(&remembered.parts);
        let thoughts = thoughts.filter(|(_, part)| part.kind == Kind::Thought && part.whole.is_some());
        let thoughts: Vec<u32> = thoughts.map(|(index, _)| index).collect();
        // They come back all together, and no part twice.
        let unfit = thoughts.iter().any(|index| {
            let item = ItemRef::new(turn.id(), alternative, *index);
            let part = &remembered.parts[*index as usize];
            restorer.refused.contains(&item)
                || self.assigned.values().any(|assigned| *assigned == item)
                || part.state.as_ref().is_some_and(|state| restorer.around.holds(state))
        });
        if unfit { Vec::new() } else { thoughts }
    }

    /// The parts of the model's messages before an output that belong to a turn, with their messages and
    /// their positions in the turn, in the order of the history.
    fn siblings(&mut self, output: usize, turn: TurnId, alternative: u32, parts: &[TurnPart]) -> Vec<Sibling> {
        let messages = self.answered(output);
        if messages.is_empty() {
            return Vec::new();
        }
        let end = messages.end;
        if !self.runs.contains_key(&end) {
            let run = self.run(messages);
            self.runs.insert(end, run);
        }
        let Some(run) = self.runs.get(&end) else { return Vec::new() };
        let history = self.restorer.history;
        let assigned = run.assigned.get(&(turn, alternative)).into_iter().flatten();
        let mut candidates: Vec<usize> = assigned.copied().collect();
        let mut by_id: HashMap<&[u8], Unused> = HashMap::new();
        let mut by_anchor: AnchorMap<Unused> = AnchorMap::default();
        for (index, part) in (0..).zip(parts) {
            let known = by_anchor.entry(part.anchor).or_insert_with(|| {
                candidates.extend(run.by_anchor.get(&part.anchor).into_iter().flatten());
                Unused::default()
            });
            known.parts.push(index);
            let Some(id) = part.id.as_deref().map(str::as_bytes) else { continue };
            let known = by_id.entry(id).or_insert_with(|| {
                candidates.extend(run.by_id.get(id).into_iter().flatten());
                Unused::default()
            });
            known.parts.push(index);
        }
        candidates.sort_unstable();
        candidates.dedup();
        let mut siblings = Vec::with_capacity(candidates.len());
        let mut taken: OwnSet<u32> = OwnSet::default();
        let mut last = None;
        for at in candidates {
            let kept = &history.parts[at];
            // Each message is looked at by itself.
            if last.replace(kept.message) != Some(kept.message) {
                taken.clear();
            }
            let index = match self.assigned.get(&at) {
                Some(item) => Some(item.part),
                None => {
                    let id = kept.id.map(|id| id.decode());
                    let same_id = id.and_then(|id| by_id.get_mut(&*id)?.first(kept.message, &taken));
                    let anchor = run.anchors.get(&at);
                    let same = anchor.and_then(|anchor| by_anchor.get_mut(anchor)?.first(kept.message, &taken));
                    same_id.into_iter().chain(same).min()
                }
            };
            if let Some(index) = index {
                taken.insert(index);
                siblings.push((kept.message, at, index));
            }
        }
        siblings
    }

    /// What stands in these messages of the model, hashed once for all the outputs behind them.
    fn run(&self, messages: Range<usize>) -> Run {
        let history = self.restorer.history;
        let mut run = Run::default();
        for at in messages.flat_map(|message| history.messages[message].parts.clone()) {
            let kept = &history.parts[at];
            if let Some(item) = self.assigned.get(&at) {
                run.assigned.entry((item.turn, item.alternative)).or_default().push(at);
            } else if kept.kind == PartKind::Call {
                if let Some(id) = kept.id {
                    run.by_id.entry(id.decode().into()).or_default().push(at);
                }
                if let Some(anchor) = kept.anchor(self.restorer.key, None) {
                    run.by_anchor.entry(anchor).or_default().push(at);
                    run.anchors.insert(at, anchor);
                }
            }
        }
        run
    }

    fn finish(mut self) -> Plan {
        let inserted = &mut self.plan.inserted;
        for insertion in &self.insertions {
            match insertion {
                Insertion::Message { before } => inserted.messages.push(*before),
                Insertion::Part { before, message } => inserted.parts.entry(*message).or_default().push(*before),
            }
        }
        inserted.messages.sort_unstable();
        inserted.parts.values_mut().for_each(|parts| parts.sort_unstable());
        for edit in &mut self.plan.edits {
            let unsigned = edit.unsigned.iter_mut().map(|unsigned| &mut unsigned.placed);
            for placed in edit.items.iter_mut().chain(unsigned) {
                inserted.settle(placed, self.restorer.history);
            }
        }
        self.plan
    }
}

/// The messages and parts that are inserted, by what of the history they stand before, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inserted {
    messages: Vec<usize>,
    parts: HashMap<usize, Vec<usize>>,
}

impl Inserted {
    /// Where a part of the history stands in the contents that go upstream: its content, and its
    /// position in that.
    pub(crate) fn position(&self, history: &History<'_>, part: usize) -> (usize, usize) {
        let message = history.parts[part].message;
        let parts = self.parts.get(&message).map_or(0, |parts| parts.partition_point(|before| *before <= part));
        let content = message + self.messages.partition_point(|before| *before <= message);
        (content, part - history.messages[message].parts.start + parts)
    }

    /// Turns the place in the history into that in what goes upstream.
    fn settle(&self, placed: &mut Placed, history: &History<'_>) {
        let message = placed.content;
        let first = history.messages.get(message).map_or(0, |message| message.parts.start);
        let parts = |from: usize, bound: usize| {
            self.parts.get(&message).map_or(0, |parts| parts.partition_point(|before| *before < bound) + from)
        };
        match placed.how {
            How::On => (placed.content, placed.part) = self.position(history, placed.part + first),
            How::Part(nth) => {
                placed.part += parts(nth, placed.part + first);
                placed.content += self.messages.partition_point(|before| *before < message);
            }
            How::Message(nth) => placed.content += self.messages.partition_point(|before| *before < message) + nth,
        }
    }
}

/// What is left of a thought of which a client dropped the text and the signature.
fn is_blank_thought(part: &Part<'_>) -> bool {
    part.kind == PartKind::Thought && part.is_empty_text() && part.slot.is_missing()
}

/// Names that translators write where they do not know the name.
fn is_placeholder_name(name: &[u8]) -> bool {
    matches!(
        name.to_ascii_lowercase().as_slice(),
        b"" | b"unknown" | b"unknown_function" | b"tool" | b"function" | b"none" | b"null"
    )
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
            let uri = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent";
            let mut request = Request::post(uri).header(CONTENT_TYPE, "application/json");
            if let Some(session) = self.session {
                request = request.header("x-session-id", session);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let watch = self.engine.watch(&head).unwrap();
            let body = Bytes::from(json!({"contents": contents}).to_string());
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
