//! The calls that the client dropped while it kept their outputs.

use super::{whole::Comeback, without_id::Calls, *};
use crate::ledger::HeldAlternative;

/// A message, a part of it, and which part of a turn that is.
type Sibling = (usize, usize, u32);

/// Calls of one turn that the client dropped.
pub(super) struct Dropped {
    turn: TurnId,
    alternative: u32,
    /// Their positions in the turn, in order.
    calls: Vec<u32>,
    /// The message of the first output.
    output: usize,
    /// What was kept of the turn in the model's messages right before the outputs.
    kept: Vec<Sibling>,
}

/// The parts of some messages of the model, by what tells whose they are.
#[derive(Default)]
pub(super) struct Run {
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

impl Work<'_> {
    /// The calls whose outputs the client kept, turn by turn.
    pub(super) fn dropped_calls(&mut self, matcher: &Matcher<'_>, ledger: &Ledger) -> Vec<Dropped> {
        let found = self.lookup(matcher, ledger);
        if found.is_empty() {
            return Vec::new();
        }
        let mut groups: BTreeMap<(usize, u32), Vec<(u32, usize)>> = BTreeMap::new();
        let mut taken = HashSet::new();
        for (turn, alternative, part, output) in found {
            if taken.insert((turn, alternative, part)) {
                groups.entry((turn, alternative)).or_default().push((part, output));
            }
        }
        let turns: Vec<_> = ledger.turns().collect();
        let mut dropped = Vec::new();
        for ((turn, alternative), mut calls) in groups {
            calls.sort_unstable();
            let first_output = calls.iter().map(|(_, output)| self.restorer.history.parts[*output].message).min();
            let Some(output) = first_output else { continue };
            let turn = turns[turn];
            let Some(remembered) = turn.alternative(alternative as usize) else { continue };
            if !self.restorer.is_element(self.restorer.history.messages[output].span.start) {
                continue;
            }
            let kept = self.siblings(output, turn.id(), alternative, &remembered);
            let calls = calls.into_iter().map(|(part, _)| part).collect();
            dropped.push(Dropped { turn: turn.id(), alternative, calls, output, kept });
        }
        dropped
    }

    /// The remembered call of each orphaned output: position of the turn, alternative, part, output.
    fn lookup(&self, matcher: &Matcher<'_>, ledger: &Ledger) -> Vec<(usize, u32, u32, usize)> {
        let history = self.restorer.history;
        let orphans = &self.restorer.gaps.orphans;
        if orphans.is_empty() {
            return Vec::new();
        }
        let mut by_id: HashMap<&str, (usize, u32, u32, HeldPart<'_>)> = HashMap::new();
        let mut by_name: HashMap<&str, Calls> = HashMap::new();
        let assigned: HashSet<ItemRef> = self.assigned.values().copied().collect();
        for (at, turn) in ledger.turns().enumerate() {
            for (alternative, parts) in (0..).zip(turn.alternatives()) {
                for (part, remembered) in (0..).zip(parts.parts()) {
                    let item = ItemRef::new(turn.id(), alternative, part);
                    let answered = assigned.contains(&item)
                        || remembered.state().is_some_and(|state| self.restorer.around.holds(state));
                    if remembered.kind() != Kind::Call || !remembered.has_whole() || answered {
                        continue;
                    }
                    if let Some(id) = remembered.id() {
                        by_id.insert(id, (at, alternative, part, remembered));
                    } else if let Some(name) = remembered.name() {
                        by_name.entry(name).or_default().add((at, alternative, part), turn, self.restorer);
                    }
                }
            }
        }
        // What stands elsewhere was not dropped, whatever the order in which it stands.
        let present: HashSet<Cow<'_, [u8]>> = {
            let calls = history.parts.iter().filter(|part| part.kind == PartKind::Call);
            calls.filter_map(|call| call.id.map(|id| id.decode())).collect()
        };
        let turns: Vec<_> = ledger.turns().collect();
        let strict = self.restorer.strictness == Strictness::Strict;
        let (mut found, mut without_id) = (Vec::new(), Vec::new());
        for output in orphans {
            let part = &history.parts[*output];
            let id = part.id.map(|id| id.decode()).filter(|id| !id.is_empty());
            let name = part.name.map(|name| name.decode()).filter(|name| !is_placeholder_name(name));
            if let Some(id) = id {
                if present.contains(&*id) {
                    continue;
                }
                let Ok(id) = std::str::from_utf8(&id) else { continue };
                let Some((turn, alternative, call, remembered)) = by_id.get(id) else { continue };
                let called = remembered.name();
                let agrees = name.as_deref().is_none_or(|name| called.is_some_and(|called| called.as_bytes() == name));
                // What was kept of its turn was proven by what precedes it.
                let kept = || self.stands_before(part.message, &(turns[*turn].id(), *alternative));
                let made = || self.was_made_at(turns[*turn], &self.restorer.around.answered_at(*output));
                let proven = !strict || is_native(id, called) || kept() || made();
                if agrees && matcher.count_of(id) == 1 && proven {
                    found.push((*turn, *alternative, *call, *output));
                }
                continue;
            }
            let name = name.and_then(|name| match name {
                Cow::Borrowed(name) => std::str::from_utf8(name).ok().map(Cow::Borrowed),
                Cow::Owned(name) => String::from_utf8(name).ok().map(Cow::Owned),
            });
            without_id.extend(name.map(|name| (*output, name)));
        }
        let without_id = self.find_without_id(without_id, by_name);
        found.extend(
            without_id.into_iter().map(|((turn, alternative, call), output)| (turn, alternative, call, output)),
        );
        found
    }

    /// Whether everything before a turn stands at one of these places.
    fn was_made_at(&self, turn: &Turn, places: &[usize]) -> bool {
        let (around, context) = (self.restorer.around, turn.context());
        around.system() == context.system() && places.iter().any(|unit| around.before_unit(*unit) == context.before())
    }

    pub(super) fn comes_back(&self, dropped: &Dropped) -> Comeback {
        let Dropped { turn, alternative, calls, output, kept } = dropped;
        let joins = !kept.is_empty();
        Comeback { turn: *turn, alternative: *alternative, calls: calls.clone(), before: *output, joins }
    }

    /// Puts calls back, and the thoughts that stood before them.
    pub(super) fn put_calls_back(&mut self, dropped: &Dropped, thoughts: &[u32]) {
        let history = self.restorer.history;
        let Dropped { turn, alternative, output, .. } = *dropped;
        let item = |part: u32| ItemRef::new(turn, alternative, part);
        // Where siblings were kept, in the model's messages right before the outputs, the calls join them.
        if let Some((last_message, last, _)) = dropped.kept.last().copied() {
            let end = history.messages[last_message].parts.end;
            // An empty part that carries the signature of a text stays behind it.
            let carries = |at: &usize| history.parts[*at].is_empty_text() && self.plan.filled.contains(at);
            let behind = last + 1 + (last + 1..end).take_while(carries).count();
            let after = (last_message, Some(behind).filter(|at| *at < end));
            let mut rest = &dropped.kept[..];
            for part in &dropped.calls {
                // They are in order, so what comes too early for one does so for the next.
                let next = rest.iter().position(|(.., sibling)| sibling > part).unwrap_or(rest.len());
                rest = &rest[next..];
                let next = rest.first();
                let (message, before) = next.map_or(after, |(message, at, _)| (*message, Some(*at)));
                self.pending.push(Pending { message, before, item: item(*part) });
            }
            return;
        }
        let mut inserted: Vec<u32> = thoughts.iter().chain(&dropped.calls).copied().collect();
        inserted.sort_unstable();
        let parts: Vec<(u32, HeldPart<'_>, Option<Bytes>)> = inserted
            .into_iter()
            .filter_map(|index| self.part(&item(index)).map(|part| (index, part, part.whole())))
            .collect();
        let wholes: Vec<Whole<'_>> = parts
            .iter()
            .filter_map(|(_, part, whole)| Some(Whole { kind: part.kind(), raw: whole.as_ref()? }))
            .collect();
        let items_layout = self.restorer.dialect.layout() == Layout::Items;
        let message = |parts: &[Whole<'_>]| {
            if items_layout {
                let spot = Spot { message: output, before: Some(history.messages[output].parts.start) };
                return self.restorer.dialect.put_back(self.restorer.around.body, history, spot, parts);
            }
            let text = Framed { before: "", bytes: self.restorer.dialect.message(parts), after: "," };
            Some(Few::One(Splice::insert(history.messages[output].span.start, text)))
        };
        let Some(splices) = message(&wholes) else { return };
        let count = if items_layout { parts.len() } else { 1 };
        let first_nth = self.next_nth(output, count);
        let placed = |position: usize, index: u32| {
            let mut placed = self.placed(item(index), output, 0, How::Message(first_nth));
            match items_layout {
                true => (placed.part, placed.how) = (0, How::Message(first_nth + position)),
                false => placed.part = position,
            }
            placed.at = None;
            placed
        };
        let first = (0..).zip(&parts).find(|(_, (_, part, _))| part.kind() == Kind::Call);
        let unsigned = first.and_then(|(position, (index, part, _))| {
            let mut wholes = wholes.clone();
            let signed = self.with_sentinel(part)?;
            wholes.get_mut(position)?.raw = &signed;
            let splices = message(&wholes)?;
            Some(Box::new(Unsigned { placed: placed(position, *index), message: output, splices }))
        });
        let carries = |part: &HeldPart<'_>| part.has_state() || part.kind() == Kind::Thought;
        let items = (0..).zip(&parts).filter(|(_, (_, part, _))| carries(part));
        let items: Few<_> = items.map(|(position, (index, ..))| placed(position, *index)).collect();
        let amount = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.plan.calls += amount(dropped.calls.len());
        self.plan.restored += amount(items.len());
        self.plan.edits.push(Edit { splices, items, structural: true, unsigned });
        self.insert_messages(output, count);
    }

    /// The model's messages right before the outputs of which this message is one.
    pub(super) fn answered(&self, output: usize) -> Range<usize> {
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

    /// The answers of which something stands in these messages, one after the other.
    fn standing_in(&self, messages: Range<usize>) -> impl Iterator<Item = (TurnId, u32)> {
        let messages = &self.restorer.history.messages[messages];
        let parts = messages.iter().flat_map(|message| message.parts.clone());
        parts.filter_map(|part| self.assigned.get(&part)).map(|item| (item.turn, item.alternative))
    }

    /// The answers of which something stands in these messages.
    pub(super) fn turns_in(&self, messages: Range<usize>) -> Vec<(TurnId, u32)> {
        let mut seen: OwnSet<(TurnId, u32)> = OwnSet::default();
        self.standing_in(messages).filter(|answer| seen.insert(*answer)).collect()
    }

    /// Whether something of an answer stands in the messages that this output may answer.
    fn stands_before(&self, output: usize, answer: &(TurnId, u32)) -> bool {
        self.standing_in(self.answered(output)).any(|standing| standing == *answer)
    }

    /// The parts of the model's messages before an output that belong to a turn, with their messages and
    /// their positions in the turn, in the order of the history.
    fn siblings(
        &mut self,
        output: usize,
        turn: TurnId,
        alternative: u32,
        remembered: &HeldAlternative<'_>,
    ) -> Vec<Sibling> {
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
        for (index, part) in (0..).zip(remembered.parts()) {
            let known = by_anchor.entry(part.anchor()).or_insert_with(|| {
                candidates.extend(run.by_anchor.get(&part.anchor()).into_iter().flatten());
                Unused::default()
            });
            known.parts.push(index);
            let Some(id) = part.id_raw() else { continue };
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
}

/// Names that translators write where they do not know the name.
fn is_placeholder_name(name: &[u8]) -> bool {
    matches!(
        name.to_ascii_lowercase().as_slice(),
        b"" | b"unknown" | b"unknown_function" | b"tool" | b"function" | b"none" | b"null"
    )
}
