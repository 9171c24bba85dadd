//! Thoughts that are put back whole, beside what the client kept of their turn.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
};

use super::{Work, insert::Pending};
use crate::{
    dialect::{Layout, Part, PartKind, Slot, Thinking},
    engine::survey::is_blank_thought,
    ledger::{
        Anchor, HeldAlternative, HeldPart, ItemRef, Kind, Premise, Turn, TurnId,
        few::Few,
        fingerprint,
        matcher::{OwnMap, OwnSet, Surroundings},
    },
    scope::HashKey,
    wire::json::Cursor,
};

/// The parts that the client kept of one turn, in messages of the model that follow each other.
pub(super) struct Group<'k> {
    turn: TurnId,
    alternative: u32,
    /// Parts of the history, and which parts of the turn they are, in the order of the history.
    kept: &'k [(usize, u32)],
    /// Thoughts of the client's own, or parts of another answer to the same request, stand among them.
    own: bool,
}

/// A turn whose thoughts may go back.
struct Candidate<'k> {
    turn: TurnId,
    alternative: u32,
    /// The part of the history, or the one behind it, before which the first thing goes.
    at: usize,
    message: usize,
    /// Which of its thoughts are put back whole, in order; all of them are in `thoughts`.
    missing: Few<u32>,
    thoughts: Few<u32>,
    /// All that stood between its thoughts is there.
    gapless: bool,
    /// Thoughts that are there but for their state.
    fills: Vec<(usize, ItemRef)>,
    group: Option<Group<'k>>,
}

/// The thoughts that return with calls of which nothing was kept, by the turn.
pub(super) type Returning = HashMap<(TurnId, u32), Few<u32>>;

/// A turn of which only calls come back: their positions in it, and the message that they go before.
pub(super) struct Comeback {
    pub(super) turn: TurnId,
    pub(super) alternative: u32,
    pub(super) calls: Vec<u32>,
    pub(super) before: usize,
    /// Something of the turn was kept in the messages that they join.
    pub(super) joins: bool,
}

/// Whether a part is put back whole where it is missing. Without state it is known, but nobody wants it unless
/// the provider says so.
pub(super) fn is_whole(part: &HeldPart<'_>) -> bool {
    part.kind() == Kind::Thought && part.has_whole()
}

/// Whether a thought is remembered of which nothing is left to be put back.
fn is_forgotten(part: &HeldPart<'_>) -> bool {
    part.kind() == Kind::Thought && !part.has_whole() && !part.has_state()
}

/// A text that says nothing.
fn is_filler(part: &Part<'_>) -> bool {
    part.kind == PartKind::Text && part.is_empty_text()
}

/// Whether all that stood before the last of these thoughts in its turn is there.
fn is_gapless(turn: &HeldAlternative<'_>, thoughts: &[u32], is_there: impl Fn(u32) -> bool) -> bool {
    let last = thoughts.last().copied().unwrap_or_default();
    (0..last).zip(turn.parts()).all(|(index, part)| is_whole(&part) || is_there(index))
}

/// The hash by which states are told apart wherever they stand.
pub(crate) fn state_anchor(key: &HashKey, raw: &[u8]) -> Anchor {
    match Cursor::new(raw).string() {
        Ok((text, _)) if raw.first() == Some(&b'"') => fingerprint::data(key, &text.decode()),
        _ => fingerprint::json(key, fingerprint::Tag::Other, Some(raw)),
    }
}

impl Work<'_> {
    /// Puts whole thoughts back where the client kept something else of their turn; says which return with calls of
    /// which nothing was kept.
    pub(super) fn whole_thoughts(&mut self, comebacks: &[Comeback]) -> Returning {
        let restorer = self.restorer;
        let fills = std::mem::take(&mut self.fills);
        let any = self.turns.values().any(|turn| turn.parts().any(|part| is_whole(&part)));
        if !any || restorer.history.thinking == Thinking::Off {
            return Returning::new();
        }
        let fills: OwnMap<usize, ItemRef> = fills.into_iter().collect();
        let joining = comebacks.iter().filter(|comeback| comeback.joins);
        let joining: HashMap<_, _> =
            joining.map(|comeback| ((comeback.turn, comeback.alternative), comeback)).collect();
        let mut candidates = Vec::new();
        let mut done = OwnSet::default();
        let (mut kept, mut there) = (Vec::new(), Vec::new());
        let groups = self.groups(&mut kept);
        candidates.reserve_exact(groups.len());
        done.reserve(groups.len());
        for group in groups {
            let fills = group.kept.iter().filter_map(|(at, _)| Some((*at, *fills.get(at)?))).collect();
            // Calls come back before their outputs, whatever of their turn stands behind those.
            let joins = |comeback: &&&Comeback| {
                let first = group.kept.first().map(|(at, _)| restorer.history.parts[*at].message);
                first.is_some_and(|first| self.answered(comeback.before).contains(&first))
            };
            let coming = joining.get(&(group.turn, group.alternative)).filter(joins);
            let coming = coming.map_or(&[][..], |comeback| &comeback.calls);
            candidates.extend(self.candidate(group, fills, coming, &mut there, &mut done));
        }
        let assigned: OwnSet<ItemRef> = match comebacks {
            [] => OwnSet::default(),
            _ => self.assigned.values().copied().collect(),
        };
        for comeback in comebacks.iter().filter(|comeback| !comeback.joins) {
            candidates.extend(self.comeback(comeback, &assigned, &mut done));
        }
        if !candidates.is_sorted_by_key(|candidate| candidate.at) {
            candidates.sort_by_key(|candidate| candidate.at);
        }
        if restorer.bound {
            self.keep_chain(&mut candidates);
        }
        let has_blank = restorer.history.parts.iter().any(is_blank_thought);
        self.pending.reserve_exact(candidates.len());
        let mut returning = Returning::new();
        for candidate in candidates {
            self.put_thoughts_back(candidate, has_blank, &mut returning);
        }
        returning
    }

    /// The kept parts of each turn, as they follow each other in the messages of the model. They are listed in `kept`.
    fn groups<'k>(&self, kept: &'k mut Vec<(usize, u32)>) -> Vec<Group<'k>> {
        let history = self.restorer.history;
        let items = self.restorer.dialect.layout() == Layout::Items;
        let turns = self.turns.len().min(self.assigned.len());
        let mut groups: Vec<Group<'k>> = Vec::with_capacity(turns);
        let mut starts = Vec::with_capacity(turns);
        kept.reserve_exact(self.assigned.len());
        let (mut run, mut last, mut own_before) = (None, None, false);
        for (message, held) in history.messages.iter().enumerate() {
            let parts = || held.parts.clone();
            let is_own = |at: usize| {
                let part = &history.parts[at];
                part.kind == PartKind::Thought
                    && !self.assigned.contains_key(&at)
                    && !(is_blank_thought(part) || self.plan.filled.contains(&at))
            };
            if run.replace(self.restorer.run_starts[message]) != Some(self.restorer.run_starts[message]) {
                // Nothing goes on over a message of the client.
                (last, own_before) = (None, false);
            }
            let own_message = !items && parts().any(is_own);
            for at in parts() {
                own_before |= items && is_own(at);
                let Some(item) = self.assigned.get(&at) else { continue };
                let (turn, alternative) = (item.turn, item.alternative);
                if last.replace((turn, alternative)) != Some((turn, alternative)) {
                    groups.push(Group { turn, alternative, kept: &[], own: false });
                    starts.push(kept.len());
                }
                kept.push((at, item.part));
                if let Some(group) = groups.last_mut() {
                    group.own |= own_message || std::mem::take(&mut own_before);
                }
            }
        }
        let kept: &'k [_] = kept;
        let ends = starts.iter().copied().skip(1).chain([kept.len()]);
        for ((group, start), end) in groups.iter_mut().zip(&starts).zip(ends) {
            group.kept = &kept[*start..end];
        }
        for at in 1..groups.len() {
            if self.are_mixed(&groups[at - 1], &groups[at]) {
                (groups[at - 1].own, groups[at].own) = (true, true);
            }
        }
        groups
    }

    /// Whether two groups side by side are none of the answers that they seem to be: one message holds parts of both, or
    /// the other answer was not made behind the one.
    fn are_mixed(&self, one: &Group<'_>, other: &Group<'_>) -> bool {
        let restorer = self.restorer;
        let message = |kept: Option<&(usize, u32)>| kept.map(|(at, _)| restorer.history.parts[*at].message);
        let (Some(last), Some(first)) = (message(one.kept.last()), message(other.kept.first())) else { return false };
        let context = |group: &Group<'_>| Some(self.turns.get(&group.turn)?.context());
        let (Some(before), Some(behind)) = (context(one), context(other)) else { return false };
        match restorer.dialect.layout() {
            Layout::Parts if last == first => true,
            Layout::Parts if restorer.run_starts[last] == restorer.run_starts[first] => {
                restorer.around.depth(last) == restorer.around.depth(first)
                    || behind.windows().first().copied() != restorer.around.window(first, 0)
            }
            Layout::Members if last == first => before.same_history(behind),
            _ => false,
        }
    }

    /// Whether all thoughts of a turn can stand where they stood: none was forgotten, what was kept is in its order,
    /// and each has what followed it behind it, and nothing between that is not known.
    fn fits_in(
        &self,
        group: &Group<'_>,
        turn: &Turn,
        remembered: &HeldAlternative<'_>,
        missing: &[u32],
        coming: &[u32],
    ) -> bool {
        if remembered.parts().any(|part| is_forgotten(&part)) || !group.kept.is_sorted_by_key(|(_, part)| *part) {
            return false;
        }
        let (Some((first, _)), history) = (group.kept.first(), self.restorer.history) else { return false };
        let is_known = |at: usize| self.is_known(at);
        let message = |at: usize| history.parts[at].message;
        let end = |at: usize| history.messages[message(at)].parts.end;
        let begins = |start: usize| self.restorer.around.before(start) == turn.context().before();
        let run = self.restorer.run_starts[message(*first)];
        // Everything that precedes a message is hashed only where it decides.
        let start = if run == message(*first) || begins(message(*first)) { message(*first) } else { run };
        let start = history.messages[start].parts.start;
        // A few words of it may stand in any answer.
        let known_whole = || group.kept.last().is_some_and(|(last, _)| (start..end(*last)).all(is_known));
        if !missing.is_empty() && !known_whole() && !begins(message(*first)) && !begins(run) {
            return false;
        }
        missing.iter().all(|index| {
            let next = group.kept.partition_point(|(_, part)| part <= index);
            let from = next.checked_sub(1).map_or(start, |last| group.kept[last].0 + 1);
            let leads_on = next < group.kept.len() || coming.iter().any(|call| call > index);
            let until = group.kept.get(next).map_or_else(|| end(from.saturating_sub(1)), |(at, _)| *at);
            leads_on && (from..until).all(is_known)
        })
    }

    /// Whether nothing unknown follows a group in its run of messages.
    fn is_last_of_run(&self, group: &Group<'_>) -> bool {
        let (Some((last, _)), restorer) = (group.kept.last(), self.restorer) else { return false };
        let (parts, starts) = (&restorer.history.parts, &restorer.run_starts);
        let run = starts[parts[*last].message];
        let mut behind = (last + 1..parts.len()).take_while(|at| starts[parts[*at].message] == run);
        behind.all(|at| self.is_known(at))
    }

    fn is_known(&self, at: usize) -> bool {
        let part = &self.restorer.history.parts[at];
        self.assigned.contains_key(&at) || part.is_empty_text() || part.kind == PartKind::Thought
    }

    fn alternative(&self, turn: TurnId, alternative: u32) -> Option<(&Turn, HeldAlternative<'_>)> {
        let turn = self.turns.get(&turn)?;
        Some((turn, turn.alternative(alternative as usize)?))
    }

    /// Whether the request wants the thoughts of a turn at all: one that does not ask for thinking gets only those
    /// that the model thought unasked.
    fn is_wanted(&self, turn: &Turn) -> bool {
        let asked = turn.premise().is_some_and(|premise| premise.asked);
        self.restorer.history.thinking == Thinking::On || !asked
    }

    /// The thoughts of a turn that go back, if they all can.
    fn candidate<'k>(
        &mut self,
        group: Group<'k>,
        fills: Vec<(usize, ItemRef)>,
        coming: &[u32],
        there: &mut Vec<u32>,
        done: &mut OwnSet<ItemRef>,
    ) -> Option<Candidate<'k>> {
        let restorer = self.restorer;
        let pairs = restorer.dialect.layout() == Layout::Items;
        let (turn, remembered) = self.alternative(group.turn, group.alternative)?;
        let item = |part: u32| ItemRef::new(group.turn, group.alternative, part);
        if group.own || !self.is_wanted(turn) {
            return None;
        }
        there.clear();
        there.extend(group.kept.iter().map(|(_, part)| *part).chain(coming.iter().copied()));
        there.sort_unstable();
        let is_there = |part: u32| there.binary_search(&part).is_ok();
        // What comes back behind all that was kept goes to the end of the run.
        let last_kept = group.kept.iter().map(|(_, part)| *part).max();
        let ends_run = OnceCell::new();
        let leads_on = |next: u32| {
            let is_before = last_kept.is_some_and(|last| next <= last);
            is_there(next) && (is_before || *ends_run.get_or_init(|| self.is_last_of_run(&group)))
        };
        let (mut missing, mut thoughts, mut withheld) = (Few::default(), Few::default(), 0);
        for (index, part) in (0..).zip(remembered.parts()).filter(|(_, part)| is_whole(part)) {
            if !part.has_state() && !restorer.demand {
                withheld += 1;
                continue;
            }
            if is_there(index) {
                thoughts.push(index);
                continue;
            }
            let raw = part.whole_raw().unwrap_or_default();
            // A turn is spread by its calls; its words stand once, and equal ones elsewhere are others.
            let is_call = |(_, part): &(usize, u32)| {
                remembered.part(*part as usize).is_some_and(|part| part.kind() == Kind::Call)
            };
            let repeated = || group.kept.iter().any(is_call) && restorer.dialect.is_repeated(raw);
            // Where a thought has to precede what it led to, that has to be there.
            let mut later = (index + 1..).zip(remembered.parts().skip(index as usize + 1));
            let next = later.find(|(_, part)| !is_whole(part));
            if pairs && !next.is_some_and(|(next, _)| leads_on(next)) {
                continue;
            }
            let held = part.state().is_some_and(|state| restorer.around.holds(state))
                || (pairs && part.id().is_some_and(|id| restorer.around.names(id)));
            let refused = restorer.refused.contains(&item(index));
            let twice = done.contains(&item(index)) && !repeated();
            match (refused || twice || (held && !repeated()), pairs) {
                (false, _) => {
                    thoughts.push(index);
                    missing.push(index);
                }
                (true, true) => {}
                (true, false) => return None,
            }
        }
        let fits =
            restorer.dialect.layout() != Layout::Parts || self.fits_in(&group, turn, &remembered, &missing, coming);
        let gapless = is_gapless(&remembered, &thoughts, is_there);
        self.plan.withheld += withheld;
        // What has no room here has none elsewhere, where the rest of the turn stands.
        done.extend(missing.iter().map(|part| item(*part)));
        if !fits {
            return None;
        }
        let (at, _) = *group.kept.first()?;
        let message = restorer.history.parts[at].message;
        let (turn, alternative) = (group.turn, group.alternative);
        Some(Candidate { turn, alternative, at, message, missing, thoughts, gapless, fills, group: Some(group) })
    }

    /// The thoughts that stood before calls of which nothing else was kept.
    fn comeback(
        &self,
        comeback: &Comeback,
        assigned: &OwnSet<ItemRef>,
        done: &mut OwnSet<ItemRef>,
    ) -> Option<Candidate<'static>> {
        let restorer = self.restorer;
        let pairs = restorer.dialect.layout() == Layout::Items;
        let (turn, remembered) = self.alternative(comeback.turn, comeback.alternative)?;
        if !self.is_wanted(turn) || (!pairs && remembered.parts().any(|part| is_forgotten(&part))) {
            return None;
        }
        let last = *comeback.calls.iter().max()?;
        let mut missing = Few::default();
        for (index, part) in (0..last).zip(remembered.parts()).filter(|(_, part)| is_whole(part)) {
            let item = ItemRef::new(comeback.turn, comeback.alternative, index);
            let next = (index + 1..=last).find(|at| remembered.part(*at as usize).is_none_or(|part| !is_whole(&part)));
            if (!part.has_state() && !restorer.demand)
                || (pairs && !next.is_some_and(|at| comeback.calls.contains(&at)))
            {
                continue;
            }
            let unfit = restorer.refused.contains(&item)
                || assigned.contains(&item)
                || part.state().is_some_and(|state| restorer.around.holds(state))
                || (pairs && part.id().is_some_and(|id| restorer.around.names(id)))
                || done.contains(&item);
            // They come back all together, and no part twice.
            if unfit {
                return None;
            }
            missing.push(index);
        }
        done.extend(missing.iter().map(|part| ItemRef::new(comeback.turn, comeback.alternative, *part)));
        let message = comeback.before;
        let at = restorer.history.messages[message].parts.start;
        let (turn, alternative, thoughts) = (comeback.turn, comeback.alternative, missing.clone());
        let fills = Vec::new();
        let gapless = is_gapless(&remembered, &missing, |part| comeback.calls.contains(&part));
        (!missing.is_empty()).then_some(Candidate {
            turn,
            alternative,
            at,
            message,
            missing,
            thoughts,
            gapless,
            fills,
            group: None,
        })
    }

    fn put_thoughts_back(&mut self, candidate: Candidate<'_>, has_blank: bool, returning: &mut Returning) {
        let Candidate { turn, alternative, missing, fills, group, .. } = candidate;
        let Some(group) = group else {
            returning.insert((turn, alternative), missing);
            return;
        };
        for (at, item) in fills {
            self.fill(at, item);
        }
        let restorer = self.restorer;
        let history = restorer.history;
        let layout = restorer.dialect.layout();
        let items = layout == Layout::Items;
        let mut blank: Vec<usize> = Vec::new();
        if has_blank && layout != Layout::Members {
            let messages = group.kept.iter().map(|(at, _)| history.parts[*at].message);
            let mut messages: Vec<usize> = match (items, messages.clone().min(), messages.clone().max()) {
                // An item that is left of a thought stands among those that are kept.
                (true, Some(first), Some(last)) => (restorer.run_starts[first]..=last).collect(),
                _ => messages.collect(),
            };
            messages.dedup();
            blank.extend(messages.into_iter().flat_map(|message| history.messages[message].parts.clone()));
            blank.retain(|at| {
                let taken = self.assigned.contains_key(at) || self.plan.filled.contains(at);
                is_blank_thought(&history.parts[*at]) && !taken
            });
            blank.sort_unstable();
        }
        for &index in missing.iter() {
            let item = ItemRef::new(turn, alternative, index);
            let Some(part) = self.part(&item) else { continue };
            let raw = part.whole_raw().unwrap_or_default();
            if restorer.dialect.is_repeated(raw) {
                let message = |(at, _): &(usize, u32)| history.parts[*at].message;
                for parts in group.kept.chunk_by(|one, other| message(one) == message(other)) {
                    let pending = parts.first().map(|first| (message(first), Some(first.0)));
                    self.pending.extend(pending.map(|(message, before)| Pending { message, before, item }));
                }
                continue;
            }
            let next = group.kept.iter().find(|(_, kept)| *kept > index).map(|(at, _)| *at);
            let last = group.kept.iter().rfind(|(_, kept)| *kept < index).map(|(at, _)| *at);
            let leads_on = |at: usize, next: usize| {
                !items || history.parts[at..next].iter().all(|part| part.kind == PartKind::Thought)
            };
            let between = |at: &usize| {
                last.is_none_or(|last| last < *at) && next.is_none_or(|next| *at < next && leads_on(*at, next))
            };
            if let Some(found) = blank.iter().position(between) {
                self.replace_part(blank.remove(found), item);
                continue;
            }
            let (message, before) = match (next, last) {
                (Some(next), _) => {
                    let message = history.parts[next].message;
                    let start = last.map_or(0, |last| last + 1).max(history.messages[message].parts.start);
                    let mut before = next;
                    // What a client wrote where the model said nothing stands behind the thought, which comes first.
                    while layout == Layout::Parts && before > start && is_filler(&history.parts[before - 1]) {
                        before -= 1;
                    }
                    (message, Some(before))
                }
                (None, Some(last)) => {
                    let message = history.parts[last].message;
                    let end = history.messages[message].parts.end;
                    (message, Some(last + 1).filter(|at| *at < end))
                }
                (None, None) => continue,
            };
            self.pending.push(Pending { message, before, item });
        }
    }

    /// Keeps the longest chain of turns, from the newest one back, of which each was made with what will now precede
    /// it.
    ///
    /// <https://platform.claude.com/docs/en/build-with-claude/preserved-thinking>
    fn keep_chain(&self, candidates: &mut Vec<Candidate<'_>>) {
        let mut links = self.links(candidates);
        links.sort_by_key(|link| link.at);
        let mut kept: HashSet<usize> = HashSet::new();
        // What has to stand before the oldest link so far, and how much may.
        let mut chain: Option<(Option<Anchor>, u32)> = None;
        for link in links.iter().rev() {
            let premise = |premise: Option<&Premise>| premise.map(|premise| (premise.last, premise.thoughts));
            let length = u32::try_from(link.thoughts.len()).unwrap_or(u32::MAX);
            let fits = chain.is_none_or(|(expected, room)| length <= room && expected == link.thoughts.last().copied());
            match link.candidate {
                Some(candidate) => {
                    if fits && self.has_prefix(&candidates[candidate]) {
                        kept.insert(candidate);
                        let left = chain.map_or(u32::MAX, |(_, room)| room - length);
                        let (last, thoughts) = premise(link.premise).unwrap_or_default();
                        chain = Some((last, thoughts.min(left)));
                    } else if chain.is_some() {
                        // Nothing older may stand before a turn that was made without this one.
                        break;
                    }
                }
                None => {
                    let mut left = chain.filter(|_| fits).map_or(u32::MAX, |(_, room)| room - length);
                    if !fits {
                        // The client's own stands where another one stood for what is newer.
                        kept.clear();
                        left = u32::MAX;
                    }
                    let Some((last, thoughts)) = premise(link.premise) else { break };
                    chain = Some((last, thoughts.min(left)));
                }
            }
        }
        let mut at = 0;
        candidates.retain(|candidate| {
            at += 1;
            // What brings no thought breaks no chain.
            candidate.thoughts.is_empty() || kept.contains(&(at - 1))
        });
    }

    fn links(&self, candidates: &[Candidate<'_>]) -> Vec<Link<'_>> {
        let restorer = self.restorer;
        let state = |turn: TurnId, alternative: u32, part: u32| {
            let part = self.part(&ItemRef::new(turn, alternative, part))?;
            Some(state_anchor(restorer.key, part.state()?))
        };
        let ours = candidates.iter().enumerate().filter(|(_, candidate)| !candidate.thoughts.is_empty());
        let mut links: Vec<Link<'_>> = ours
            .map(|(at, candidate)| {
                let Candidate { turn, alternative, thoughts, .. } = candidate;
                let thoughts = thoughts.iter().filter_map(|part| state(*turn, *alternative, *part)).collect();
                let premise = self.turns.get(turn).and_then(|turn| turn.premise());
                Link { at: candidate.at, thoughts, premise, candidate: Some(at) }
            })
            .collect();
        let mut premises: HashMap<Anchor, Option<&Premise>> = HashMap::new();
        for turn in self.turns.values() {
            let mut before = None;
            for part in turn.parts().filter(is_whole) {
                let Some(state) = part.state() else { continue };
                // Only the first thought of a turn has what preceded the turn right before it.
                premises.insert(state_anchor(restorer.key, state), turn.premise().filter(|_| before.is_none()));
                before = Some(());
            }
        }
        let mut at = 0;
        let history = restorer.history;
        while at < history.parts.len() {
            let first = at;
            let mut thoughts = Vec::new();
            // Thoughts of the client's own in one message are one link.
            while at < history.parts.len() && history.parts[at].message == history.parts[first].message {
                if let (PartKind::Thought, Slot::Held(span)) = (history.parts[at].kind, &history.parts[at].slot) {
                    thoughts.push(state_anchor(restorer.key, &restorer.around.body[span.clone()]));
                }
                at += 1;
            }
            if let Some(first_thought) = thoughts.first() {
                let premise = premises.get(first_thought).copied().flatten();
                links.push(Link { at: first, thoughts, premise, candidate: None });
            }
        }
        links
    }

    /// Whether everything before the thoughts of a turn is what it was when the turn was made.
    fn has_prefix(&self, candidate: &Candidate<'_>) -> bool {
        let around = self.restorer.around;
        let Some(turn) = self.turns.get(&candidate.turn) else { return false };
        let tools = turn.premise().and_then(|premise| premise.tools);
        let starts = [self.restorer.run_starts[candidate.message], candidate.message];
        // What the client changed in front of what it kept is no part of the turn.
        let messages = &self.restorer.history.messages;
        let is_first = |start: usize| (messages[start].parts.start..candidate.at).all(|at| self.is_known(at));
        candidate.gapless
            && tools == self.restorer.tools
            && turn.context().system() == around.system()
            && starts.iter().any(|start| around.before(*start) == turn.context().before() && is_first(*start))
    }
}

/// Thoughts that follow each other, in a request whose provider looks at what precedes them.
struct Link<'a> {
    at: usize,
    thoughts: Vec<Anchor>,
    premise: Option<&'a Premise>,
    candidate: Option<usize>,
}
