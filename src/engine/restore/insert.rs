//! Parts that are put back whole: where they go, and where what they hold stands then.

use bytes::Bytes;

use super::{Edit, How, Placed, Unsigned, Work};
use crate::{
    dialect::{History, Layout, PartKind, Splice, Spot, Whole},
    ledger::{HeldPart, ItemRef, Kind, TurnId, few::Few, matcher::OwnMap},
};

/// A whole part that is to be put back: into a message, before one of its parts or behind the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) message: usize,
    pub(super) before: Option<usize>,
    pub(super) item: ItemRef,
}

/// The messages and parts that are inserted, by what of the history they stand before, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inserted {
    messages: Vec<usize>,
    parts: OwnMap<usize, Few<usize>>,
}

impl Work<'_> {
    /// Makes edits of what is to be put back. What goes to one place stands there in the order of its turn.
    pub(super) fn insert_pending(&mut self) {
        let history = self.restorer.history;
        let place = |pending: &Pending| {
            let end = history.messages[pending.message].parts.end;
            (pending.message, pending.before.unwrap_or(end))
        };
        let count = self.pending.len();
        self.plan.edits.reserve_exact(count);
        self.nths.reserve(count);
        let mut turns: OwnMap<(TurnId, u32), usize> = OwnMap::with_capacity_and_hasher(count, Default::default());
        for pending in &self.pending {
            let next = turns.len();
            turns.entry((pending.item.turn, pending.item.alternative)).or_insert(next);
        }
        let turn = |pending: &Pending| turns.get(&(pending.item.turn, pending.item.alternative)).copied();
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_by_cached_key(|pending| (place(pending), turn(pending), pending.item.part));
        if self.restorer.dialect.layout() == Layout::Parts {
            self.plan.inserted.parts.reserve(count);
        }
        // Where the parts of a turn depend on each other, they come and go together.
        let together = self.restorer.dialect.goes_together();
        let mut rest = &pending[..];
        while let Some(first) = rest.first() {
            let beside = |next: &&Pending| place(next) == place(first) && turn(next) == turn(first);
            let count = if together { rest.iter().take_while(beside).count() } else { 1 };
            let (these, later) = rest.split_at(count.max(1));
            self.insert(these);
            rest = later;
        }
    }

    fn insert(&mut self, pending: &[Pending]) {
        let restorer = self.restorer;
        let history = restorer.history;
        let Some(&Pending { message, before, .. }) = pending.first() else { return };
        let parts: Few<(&Pending, HeldPart<'_>, Option<Bytes>)> = pending
            .iter()
            .filter_map(|pending| self.part(&pending.item).map(|part| (pending, part, part.whole())))
            .collect();
        let wholes: Few<_> = parts
            .iter()
            .filter_map(|(_, part, whole)| Some(Whole { kind: part.kind(), raw: whole.as_ref()? }))
            .collect();
        // A message has one member of a name, and so the thoughts of one turn.
        let thinks = wholes.iter().any(|whole| whole.kind == Kind::Thought);
        if thinks && restorer.dialect.layout() == Layout::Members && self.nth(Some(message), message) > 0 {
            return;
        }
        let put = |wholes: &[Whole<'_>]| {
            restorer.dialect.put_back(restorer.around.body, history, Spot { message, before }, wholes)
        };
        let Some(splices) = put(&wholes) else { return };
        let at = before.unwrap_or(history.messages[message].parts.end);
        let (mut items, mut unsigned) = (Few::default(), None);
        for (pending, part, _) in parts.iter() {
            let mut placed = self.settle_later(pending, message, at);
            if part.kind() == Kind::Call {
                self.plan.calls += 1;
                if let Some(kept) = self.first_call(message, at) {
                    placed.at = kept;
                    unsigned = self.unsigned(part, &placed, message, &put);
                }
            }
            if part.has_state() || part.kind() == Kind::Thought {
                self.plan.restored += 1;
                items.push(placed);
            }
        }
        self.plan.edits.push(Edit { splices, items, structural: true, unsigned });
    }

    /// The place of a part that is put in, to be worked out once all of them are known.
    fn settle_later(&mut self, pending: &Pending, message: usize, at: usize) -> Placed {
        let history = self.restorer.history;
        match self.restorer.dialect.layout() {
            Layout::Parts => {
                let nth = self.nth(Some(message), at);
                self.plan.inserted.parts.entry(message).or_default().push(at);
                let mut placed = self.placed(pending.item, message, at, How::Part(nth));
                placed.at = None;
                placed
            }
            Layout::Items => {
                let before = if pending.before.is_some() { message } else { message + 1 };
                let nth = self.nth(None, before);
                self.plan.inserted.messages.push(before);
                let mut placed = self.placed(pending.item, before, 0, How::Message(nth));
                (placed.part, placed.at) = (0, None);
                placed
            }
            Layout::Members => {
                let first = history.messages[message].parts.start;
                let is_thought = self.part(&pending.item).is_some_and(|part| part.kind() == Kind::Thought);
                let mut placed = self.placed(pending.item, message, first, How::On);
                match is_thought {
                    true => drop(self.plan.filled.insert(first)),
                    false => placed.at = None,
                }
                placed
            }
        }
    }

    /// Whether a call that is put in is the first one of its message, and which kept one was so before.
    #[allow(clippy::option_option)]
    fn first_call(&mut self, message: usize, at: usize) -> Option<Option<usize>> {
        let history = self.restorer.history;
        let kept = history.messages[message].parts.clone().find(|at| history.parts[*at].kind == PartKind::Call);
        let is_first = self.restorer.dialect.layout() == Layout::Parts && kept.is_none_or(|kept| kept >= at);
        if !is_first || !self.first_calls.insert(message) {
            return None;
        }
        self.plan.filled.extend(kept);
        Some(kept)
    }

    /// A call without state that is the first one of its message, as it is with a sentinel.
    fn unsigned(
        &self,
        part: &HeldPart<'_>,
        placed: &Placed,
        message: usize,
        put: &dyn Fn(&[Whole<'_>]) -> Option<Few<Splice>>,
    ) -> Option<Box<Unsigned>> {
        let whole = self.with_sentinel(part)?;
        let splices = put(&[Whole { kind: Kind::Call, raw: &whole }])?;
        Some(Box::new(Unsigned { placed: placed.clone(), message, splices }))
    }

    /// A call that never had state, with the value that stands in for it.
    pub(super) fn with_sentinel(&self, part: &HeldPart<'_>) -> Option<Bytes> {
        let sentinel = self.restorer.sentinel.as_ref().filter(|_| part.kind() == Kind::Call && !part.has_state())?;
        self.restorer.dialect.signed(&part.whole()?, sentinel)
    }

    /// How many insertions, of messages or of parts of one, came before this one at its place.
    fn nth(&mut self, message: Option<usize>, before: usize) -> usize {
        let next = self.nths.entry((message, before)).or_default();
        *next += 1;
        *next - 1
    }

    /// How many messages were inserted before one, to which now come these.
    pub(super) fn next_nth(&mut self, before: usize, count: usize) -> usize {
        let next = self.nths.entry((None, before)).or_default();
        *next += count;
        *next - count
    }

    /// Notes that messages are inserted before one.
    pub(super) fn insert_messages(&mut self, before: usize, count: usize) {
        self.plan.inserted.messages.extend(std::iter::repeat_n(before, count));
    }

    /// Works out where everything stands in what goes upstream.
    pub(super) fn settle(&mut self) {
        let inserted = &mut self.plan.inserted;
        inserted.messages.sort_unstable();
        inserted.parts.values_mut().for_each(|parts| parts.sort_unstable());
        for edit in &mut self.plan.edits {
            let unsigned = edit.unsigned.iter_mut().map(|unsigned| &mut unsigned.placed);
            for placed in edit.items.iter_mut().chain(unsigned) {
                inserted.settle(placed, self.restorer.history);
            }
        }
    }
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
