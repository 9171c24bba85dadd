//! Decides which remembered part is which part of a history.
//!
//! Content must be equal; that is what a [`Place`]'s keys say. Where several remembered parts, or
//! several places, have equal content, ids decide, then neighbours, from everything that precedes
//! down to the last unit, then the order in which they occur. What remains undecided gets nothing.

use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use super::{Anchor, HeldAlternative, HeldPart, ItemRef, Kind, Turn, few::Few};

/// A part of a history that a remembered part may be.
#[derive(Clone, Debug)]
pub(crate) struct Place<'h> {
    pub(crate) kind: Kind,
    /// The hash of its content.
    pub(crate) key: Anchor,
    /// The hash of its content without what equals a declared default, if that is different.
    pub(crate) reduced: Option<Anchor>,
    pub(crate) id: Option<Cow<'h, str>>,
    /// The messages with which its turn may begin: the first of the run of messages of the model that
    /// holds it, and its own.
    pub(crate) starts: [usize; 2],
}

/// What is known about the history around the places. It costs a pass over the history, so it is
/// asked for only when something hangs on it.
pub(crate) trait Surroundings {
    /// The fingerprint of the system instruction.
    fn system(&self) -> Anchor;

    /// The fingerprint of everything before a message.
    fn before(&self, message: usize) -> Anchor;

    /// The fingerprint of the 2^`level` units before a message, if there are as many.
    fn window(&self, message: usize, level: usize) -> Option<u64>;

    /// How many units stand before a message.
    fn depth(&self, message: usize) -> usize;

    /// Whether the history holds this state already, at whichever part.
    fn holds(&self, state: &[u8]) -> bool;

    /// What the fingerprint `before` of everything before the message `from` becomes with the units from
    /// there to the message `to`.
    fn continued(&self, before: Anchor, from: usize, to: usize) -> Anchor;

    /// The number of equal parts in the history before the place.
    fn occurrence(&self, place: &Place<'_>) -> u32;
}

/// How sure a session is of being one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// The client named the session.
    Known,
    /// The session was derived, or may be one constant of an application: everything before a turn
    /// must be equal, or a native id must prove the call.
    Strict,
}

/// What was found for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Unknown,
    Ambiguous,
    Found(ItemRef),
}

/// Anchors are hashes already.
#[derive(Default)]
pub(crate) struct Passthrough(u64);

impl Hasher for Passthrough {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(8) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Hashes positions and ids of our own making, which nobody can choose so that they collide.
#[derive(Default)]
pub(crate) struct Mixing(u64);

impl Hasher for Mixing {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
        let (low, high) = (product & u128::from(u64::MAX), product >> 64);
        self.0 = u64::try_from(low ^ high).unwrap_or_default();
    }

    fn write_u128(&mut self, word: u128) {
        self.write(&word.to_le_bytes());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) type OwnMap<K, V> = HashMap<K, V, BuildHasherDefault<Mixing>>;
pub(crate) type OwnSet<K> = HashSet<K, BuildHasherDefault<Mixing>>;

pub(crate) type AnchorMap<V> = HashMap<Anchor, V, BuildHasherDefault<Passthrough>>;

/// More remembered parts than this that fit only by their reduced content are not looked at.
const MAX_REDUCED: usize = 64;

/// No more units than these are hashed for one request to find out which equal parts belong to which
/// neighbours.
const MAX_CONTINUED: usize = 1 << 16;

/// A remembered part that may be one of the places of a bucket.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// The position of its turn in the ledger.
    turn: usize,
    alternative: u32,
    part: u32,
}

impl Candidate {
    fn key(&self) -> (usize, u32, u32) {
        (self.turn, self.alternative, self.part)
    }
}

/// The places of equal content, and the remembered parts that fit them.
#[derive(Default)]
struct Bucket {
    places: Few<usize>,
    candidates: Few<Candidate>,
    reduced: Few<Candidate>,
}

/// See [`Matcher::is_kept_whole`].
#[derive(Default)]
struct Kept {
    run: Option<usize>,
    content: AnchorMap<()>,
    whole: OwnMap<(usize, usize), bool>,
}

/// The messages whose turn is known, and that turn. They are put in order when something hangs on it.
#[derive(Default)]
struct Known {
    in_order: BTreeMap<usize, usize>,
    found: Vec<(usize, usize)>,
}

impl Known {
    fn in_order(&mut self) -> &BTreeMap<usize, usize> {
        self.in_order.extend(self.found.drain(..));
        &self.in_order
    }
}

/// Assigns remembered parts to places; each part to at most one.
pub(crate) struct Matcher<'a> {
    turns: Vec<&'a Arc<Turn>>,
    surroundings: &'a dyn Surroundings,
    strictness: Strictness,
    used: OwnSet<(usize, u32, u32)>,
    /// How many remembered parts have an id; counted when an id is asked for first.
    ids: OnceCell<HashMap<&'a [u8], (u32, HeldPart<'a>)>>,
    /// The alternative with which the client went on, of turns that have several.
    chosen: OwnMap<usize, u32>,
    known: RefCell<Known>,
    /// What stands in the run that was looked at last, and of which turns all that is visible stands in a run.
    kept: RefCell<Kept>,
    /// How many units may still be hashed to find out which equal parts belong to which neighbours.
    budget: usize,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(
        turns: impl Iterator<Item = &'a Arc<Turn>>,
        surroundings: &'a dyn Surroundings,
        strictness: Strictness,
    ) -> Self {
        Self {
            turns: turns.collect(),
            surroundings,
            strictness,
            used: OwnSet::default(),
            ids: OnceCell::new(),
            chosen: OwnMap::default(),
            known: RefCell::default(),
            kept: RefCell::default(),
            budget: MAX_CONTINUED,
        }
    }

    fn ids(&self) -> &HashMap<&'a [u8], (u32, HeldPart<'a>)> {
        self.ids.get_or_init(|| {
            let mut ids = HashMap::with_capacity(self.turns.len());
            for turn in &self.turns {
                for part in turn.parts() {
                    if let Some(id) = part.id_raw() {
                        ids.entry(id).or_insert((0, part)).0 += 1;
                    }
                }
            }
            ids
        })
    }

    /// How many remembered parts have this id.
    pub(crate) fn count_of(&self, id: &str) -> u32 {
        self.ids().get(id.as_bytes()).map_or(0, |(count, _)| *count)
    }

    /// A remembered part with this id, the oldest of several.
    pub(crate) fn of_id(&self, id: &str) -> Option<HeldPart<'a>> {
        self.ids().get(id.as_bytes()).map(|(_, part)| *part)
    }

    /// Matches only what everything before it proves, whatever the session is, while `work` runs.
    pub(crate) fn strictly<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let former = std::mem::replace(&mut self.strictness, Strictness::Strict);
        let done = work(self);
        self.strictness = former;
        done
    }

    /// Finds what was remembered of these places, which are in the order of the history.
    pub(crate) fn assign(&mut self, places: &[Place<'_>]) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Unknown; places.len()];
        self.kept.take();
        self.used.reserve(places.len());
        self.known.get_mut().found.reserve(places.len());
        let buckets = self.fill(places);
        self.choose_alternatives(&buckets);
        // They are in the order of the places, which keeps the result the same on every run. What has an id tells whose
        // neighbour the rest is.
        let has_id = |bucket: &&Bucket| bucket.places.first().is_some_and(|first| places[*first].id.is_some());
        let in_order = || buckets.iter().filter(has_id).chain(buckets.iter().filter(|bucket| !has_id(bucket)));
        self.reserve(places, &buckets, &mut outcomes);
        // Content that is equal without reservation comes before content that only gained defaults, or
        // that is one chunk of a run: nowhere may the latter take what the former proves.
        for bucket in in_order() {
            if !self.resolve_one(places, bucket, &mut outcomes) {
                self.resolve(places, bucket, &bucket.candidates, &mut outcomes);
            }
        }
        for bucket in in_order() {
            self.resolve(places, bucket, &bucket.reduced, &mut outcomes);
        }
        outcomes
    }

    fn fill(&self, places: &[Place<'_>]) -> Vec<Bucket> {
        let mut by_key: AnchorMap<usize> = AnchorMap::with_capacity_and_hasher(places.len(), Default::default());
        let mut by_reduced: AnchorMap<Vec<usize>> = AnchorMap::default();
        let mut buckets: Vec<Bucket> = Vec::with_capacity(places.len());
        for (at, place) in places.iter().enumerate() {
            let bucket = *by_key.entry(place.key).or_insert_with(|| {
                if let Some(reduced) = place.reduced {
                    by_reduced.entry(reduced).or_default().push(buckets.len());
                }
                buckets.push(Bucket::default());
                buckets.len() - 1
            });
            buckets[bucket].places.push(at);
        }
        for (turn, held) in self.turns.iter().enumerate() {
            for (alternative, parts) in (0..).zip(held.alternatives()) {
                for (part, remembered) in (0..).zip(parts.parts()) {
                    let candidate = Candidate { turn, alternative, part };
                    let mut fits = |key: &Anchor, exact: bool| {
                        if let Some(bucket) = by_key.get(key) {
                            let bucket = &mut buckets[*bucket];
                            let list = if exact { &mut bucket.candidates } else { &mut bucket.reduced };
                            if exact || list.len() < MAX_REDUCED {
                                list.push(candidate);
                            }
                        }
                        for bucket in by_reduced.get(key).into_iter().flatten().take(MAX_REDUCED) {
                            let list = &mut buckets[*bucket].reduced;
                            if list.len() < MAX_REDUCED {
                                list.push(candidate);
                            }
                        }
                    };
                    fits(&remembered.anchor(), true);
                    for alias in remembered.aliases() {
                        fits(&alias, false);
                    }
                }
            }
        }
        buckets
    }

    /// A client goes on with one candidate of a response at most: with the one of which it kept most,
    /// the lowest index where that does not decide.
    fn choose_alternatives(&mut self, buckets: &[Bucket]) {
        let mut votes: HashMap<usize, HashMap<u32, usize>> = HashMap::new();
        if self.turns.iter().all(|turn| turn.alternatives().len() < 2) {
            return;
        }
        for bucket in buckets {
            let mut seen = HashSet::new();
            for candidate in bucket.candidates.iter().chain(&*bucket.reduced) {
                let several = self.turns[candidate.turn].alternatives().len() > 1;
                if several && seen.insert((candidate.turn, candidate.alternative)) {
                    *votes.entry(candidate.turn).or_default().entry(candidate.alternative).or_default() += 1;
                }
            }
        }
        for (turn, votes) in votes {
            let best = votes.into_iter().max_by_key(|(alternative, votes)| (*votes, std::cmp::Reverse(*alternative)));
            if let Some((alternative, _)) = best {
                self.chosen.entry(turn).or_insert(alternative);
            }
        }
    }

    fn part(&self, candidate: &Candidate) -> HeldPart<'a> {
        self.turns[candidate.turn].held(candidate.alternative, candidate.part)
    }

    fn is_free(&self, candidate: &Candidate) -> bool {
        !self.used.contains(&candidate.key())
    }

    fn take(&mut self, places: &[Place<'_>], place: usize, candidate: &Candidate, outcomes: &mut [Outcome]) {
        self.known.get_mut().found.push((places[place].starts[0], candidate.turn));
        self.used.insert(candidate.key());
        if self.turns[candidate.turn].alternatives().len() > 1 {
            self.chosen.entry(candidate.turn).or_insert(candidate.alternative);
        }
        let turn = self.turns[candidate.turn].id();
        outcomes[place] = Outcome::Found(ItemRef::new(turn, candidate.alternative, candidate.part));
    }

    /// The usual case: one place and one remembered part, where the client named the session. They are the same by
    /// their id; without one, or with one that the ledger does not know, by their content, unless that stood there
    /// before. It decides as [`resolve`](Self::resolve) would, and does not list what there is to decide between.
    fn resolve_one(&mut self, places: &[Place<'_>], bucket: &Bucket, outcomes: &mut [Outcome]) -> bool {
        let ([at], [candidate], []) = (&*bucket.places, &*bucket.candidates, &*bucket.reduced) else { return false };
        let (place, part) = (&places[*at], self.part(candidate));
        let is_same = place.id.is_some() && place.id.as_deref().map(str::as_bytes) == part.id_raw();
        let may_be =
            || part.id_raw().is_none() || place.id.as_deref().is_none_or(|id| !self.ids().contains_key(id.as_bytes()));
        let fits = self.strictness == Strictness::Known
            && place.kind == part.kind()
            && self.chosen.get(&candidate.turn).is_none_or(|alternative| *alternative == candidate.alternative)
            && self.is_free(candidate)
            && part.state().is_none_or(|state| !self.surroundings.holds(state))
            && (is_same || (may_be() && !self.stood(place, candidate)));
        if fits {
            self.take(places, *at, candidate, outcomes);
        }
        fits
    }

    /// What is equal only with reservation, but has all before it that preceded the turn, is not left to a place with
    /// equal content and another history.
    fn reserve(&mut self, places: &[Place<'_>], buckets: &[Bucket], outcomes: &mut [Outcome]) {
        if self.strictness == Strictness::Strict || buckets.iter().all(|bucket| bucket.reduced.is_empty()) {
            return;
        }
        let reduced = buckets.iter().flat_map(|bucket| bucket.reduced.iter()).map(Candidate::key);
        let reduced: OwnSet<_> = reduced.collect();
        let mut contested = OwnSet::default();
        for bucket in buckets {
            let befores = OnceCell::new();
            let find_befores = || {
                let starts = bucket.places.iter().flat_map(|at| places[*at].starts);
                starts.map(|start| (self.surroundings.before(start), ())).collect::<AnchorMap<()>>()
            };
            for candidate in bucket.candidates.iter().filter(|candidate| reduced.contains(&candidate.key())) {
                let has_id = self.part(candidate).id_raw().is_some();
                let before = self.turns[candidate.turn].context().before();
                if !has_id && !befores.get_or_init(find_befores).contains_key(&before) {
                    contested.insert(candidate.key());
                }
            }
        }
        if contested.is_empty() {
            return;
        }
        for bucket in buckets {
            let list = bucket.reduced.iter().filter(|candidate| contested.contains(&candidate.key())).copied();
            let list: Vec<_> = list.collect();
            if list.is_empty() {
                continue;
            }
            self.resolve_by(places, bucket, &list, outcomes, |matcher, open, candidates, outcomes| {
                matcher.by_history(places, &open, candidates, outcomes);
            });
        }
    }

    fn resolve(&mut self, places: &[Place<'_>], bucket: &Bucket, list: &[Candidate], outcomes: &mut [Outcome]) {
        self.resolve_by(places, bucket, list, outcomes, |matcher, open, candidates, outcomes| {
            matcher.resolve_list(places, open, candidates, outcomes);
        });
    }

    /// Assigns what may be assigned of a list, completed turns before provisional ones.
    fn resolve_by(
        &mut self,
        places: &[Place<'_>],
        bucket: &Bucket,
        list: &[Candidate],
        outcomes: &mut [Outcome],
        assign: impl Fn(&mut Self, Vec<usize>, &[Candidate], &mut [Outcome]),
    ) {
        for provisional in [false, true] {
            let candidates: Vec<_> = list
                .iter()
                .filter(|candidate| self.turns[candidate.turn].is_provisional() == provisional)
                .filter(|candidate| {
                    self.chosen.get(&candidate.turn).is_none_or(|alternative| *alternative == candidate.alternative)
                })
                .filter(|candidate| self.is_free(candidate))
                .filter(|candidate| self.part(candidate).state().is_none_or(|state| !self.surroundings.holds(state)))
                .copied()
                .collect();
            let open: Vec<_> = bucket
                .places
                .iter()
                .copied()
                .filter(|place| !matches!(outcomes[*place], Outcome::Found(_)))
                .filter(|place| self.fits(&places[*place], &candidates))
                .collect();
            if !open.is_empty() && !candidates.is_empty() {
                assign(self, open, &candidates, outcomes);
            }
        }
    }

    fn fits(&self, place: &Place<'_>, candidates: &[Candidate]) -> bool {
        candidates.first().is_some_and(|candidate| self.part(candidate).kind() == place.kind)
    }

    fn resolve_list(
        &mut self,
        places: &[Place<'_>],
        open: Vec<usize>,
        candidates: &[Candidate],
        outcomes: &mut [Outcome],
    ) {
        let mut by_id: HashMap<&str, Vec<Candidate>> = HashMap::new();
        for candidate in candidates {
            if let Some(id) = self.part(candidate).id() {
                by_id.entry(id).or_default().push(*candidate);
            }
        }
        let mut same_id: HashMap<&str, Vec<usize>> = HashMap::new();
        let (mut foreign, mut free) = (Vec::new(), Vec::new());
        for at in open {
            match places[at].id.as_deref() {
                Some(id) if by_id.contains_key(id) => same_id.entry(id).or_default().push(at),
                // The ledger knows the id for another call: this one is not what it was.
                Some(id) if self.ids().contains_key(id.as_bytes()) => foreign.push(at),
                _ => free.push(at),
            }
        }
        let mut groups: Vec<_> = same_id.into_iter().collect();
        groups.sort_by_key(|(_, group)| group.first().copied());
        for (id, group) in groups {
            let sharing = &by_id[id];
            let proven = self.count_of(id) == 1 && is_native(id, self.part(&sharing[0]).name());
            if group.len() == 1 && sharing.len() == 1 && (proven || self.strictness == Strictness::Known) {
                self.take(places, group[0], &sharing[0], outcomes);
            } else {
                self.by_context(places, group, sharing.clone(), outcomes);
            }
        }
        let without_id: Vec<_> =
            candidates.iter().filter(|candidate| self.part(candidate).id_raw().is_none()).copied().collect();
        self.by_context(places, foreign, without_id, outcomes);
        let rest: Vec<_> = candidates.iter().filter(|candidate| self.is_free(candidate)).copied().collect();
        self.by_context(places, free, rest, outcomes);
    }

    /// Assigns by what surrounds the places.
    fn by_context(
        &mut self,
        places: &[Place<'_>],
        mut open: Vec<usize>,
        mut candidates: Vec<Candidate>,
        outcomes: &mut [Outcome],
    ) {
        if open.is_empty() || candidates.is_empty() {
            return;
        }
        let known = self.strictness == Strictness::Known;
        if known && open.len() == 1 && candidates.len() == 1 && !self.stood(&places[open[0]], &candidates[0]) {
            return self.take(places, open[0], &candidates[0], outcomes);
        }
        if known {
            self.beside_known(places, &open, &candidates, outcomes);
            self.sift(&mut open, &mut candidates, outcomes);
        }
        self.by_history(places, &open, &candidates, outcomes);
        self.sift(&mut open, &mut candidates, outcomes);
        if !known {
            return;
        }
        open.retain(|place| candidates.iter().any(|candidate| !self.stood(&places[*place], candidate)));
        let levels = candidates.iter().map(|candidate| self.turns[candidate.turn].context().windows().len()).max();
        for level in (0..levels.unwrap_or(0)).rev() {
            if open.is_empty() || candidates.is_empty() {
                return;
            }
            self.by_window(places, level, &open, &candidates, outcomes);
            self.sift(&mut open, &mut candidates, outcomes);
        }
        self.by_neighbours(places, &open, &candidates, outcomes);
        self.sift(&mut open, &mut candidates, outcomes);
        if open.is_empty() || candidates.is_empty() {
            return;
        }
        let pairs =
            self.in_order(places, &open, &candidates).or_else(|| self.by_occurrence(places, &open, &candidates));
        match pairs {
            Some(mut pairs) => {
                pairs.retain(|(place, candidate)| !self.stood(&places[*place], candidate));
                self.take_all(places, &pairs, outcomes);
            }
            None => open.iter().for_each(|place| outcomes[*place] = Outcome::Ambiguous),
        }
    }

    /// Whether a place is one of the equal parts that stood there before the turn was made: fewer of
    /// them precede it, and what else precedes it does not say that the history was cut.
    fn stood(&self, place: &Place<'_>, candidate: &Candidate) -> bool {
        let part = self.part(candidate);
        let around = self.surroundings;
        // One chunk of a run says little on its own, and nobody counted those that stood there.
        let is_chunk = part.kind() != Kind::Call && place.key != part.anchor();
        if !is_chunk && (part.occurrence() == 0 || around.occurrence(place) >= part.occurrence()) {
            return false;
        }
        let context = self.turns[candidate.turn].context();
        let agrees = place.starts.iter().any(|start| {
            let levels = context.windows().iter().enumerate();
            let mut agreeing = levels.filter(|(level, window)| around.window(*start, *level) == Some(**window));
            let all = around.depth(*start);
            agreeing.any(|(level, _)| level > 0 || all == 1) || around.before(*start) == context.before()
        });
        !agrees
    }

    fn sift(&self, open: &mut Vec<usize>, candidates: &mut Vec<Candidate>, outcomes: &[Outcome]) {
        open.retain(|place| !matches!(outcomes[*place], Outcome::Found(_)));
        candidates.retain(|candidate| self.is_free(candidate));
    }

    fn take_all(&mut self, places: &[Place<'_>], pairs: &[(usize, Candidate)], outcomes: &mut [Outcome]) {
        for (place, candidate) in pairs {
            self.take(places, *place, candidate, outcomes);
        }
    }

    /// What stands in one run with a part of a turn that is known already is of that turn too, if that has it.
    fn beside_known(
        &mut self,
        places: &[Place<'_>],
        open: &[usize],
        candidates: &[Candidate],
        outcomes: &mut [Outcome],
    ) {
        let mut by_turn: OwnMap<usize, Vec<Candidate>> = OwnMap::default();
        for candidate in candidates.iter().rev() {
            by_turn.entry(candidate.turn).or_default().push(*candidate);
        }
        for at in open {
            let turn = self.known.get_mut().in_order().get(&places[*at].starts[0]);
            if let Some(candidate) = turn.and_then(|turn| by_turn.get_mut(turn)?.pop()) {
                self.take(places, *at, &candidate, outcomes);
            }
        }
    }

    /// Everything before the place equals everything before the turn. Of several such turns the
    /// newest is what the client went on with.
    fn by_history(&mut self, places: &[Place<'_>], open: &[usize], candidates: &[Candidate], outcomes: &mut [Outcome]) {
        let around = self.surroundings;
        let strict = self.strictness == Strictness::Strict;
        let mut by_before: AnchorMap<Vec<Candidate>> = AnchorMap::default();
        for candidate in candidates {
            let context = self.turns[candidate.turn].context();
            if !strict || context.system() == around.system() {
                by_before.entry(context.before()).or_default().push(*candidate);
            }
        }
        let mut groups: HashMap<Anchor, Vec<usize>> = HashMap::new();
        for place in open {
            let befores = places[*place].starts.map(|start| around.before(start));
            if let Some(before) = befores.into_iter().find(|before| by_before.contains_key(before)) {
                groups.entry(before).or_default().push(*place);
            }
        }
        for (before, group) in groups {
            let pairs = self.newest(places, &group, &by_before[&before]);
            self.take_all(places, &pairs, outcomes);
        }
    }

    /// The last 2^level units before the place equal those before the turn.
    fn by_window(
        &mut self,
        places: &[Place<'_>],
        level: usize,
        open: &[usize],
        candidates: &[Candidate],
        outcomes: &mut [Outcome],
    ) {
        let around = self.surroundings;
        let mut by_window: HashMap<u64, Vec<Candidate>> = HashMap::new();
        for candidate in candidates {
            if let Some(window) = self.turns[candidate.turn].context().windows().get(level) {
                by_window.entry(*window).or_default().push(*candidate);
            }
        }
        let mut groups: HashMap<u64, Vec<usize>> = HashMap::new();
        for place in open {
            let windows = places[*place].starts.map(|start| around.window(start, level));
            if let Some(window) = windows.into_iter().flatten().find(|window| by_window.contains_key(window)) {
                groups.entry(window).or_default().push(*place);
            }
        }
        for (window, group) in groups {
            let fitting = &by_window[&window];
            let pairs = self.in_order(places, &group, fitting).or_else(|| {
                // All that the request still shows before these places agrees: its head was cut off,
                // so the last place is the newest turn.
                let whole = group.iter().all(|place| around.depth(places[*place].starts[0]) < 2 << level);
                whole.then(|| {
                    let pairs = group.iter().rev().copied().zip(fitting.iter().rev().copied());
                    pairs.collect()
                })
            });
            if let Some(mut pairs) = pairs {
                pairs.retain(|(place, candidate)| !self.stood(&places[*place], candidate));
                self.take_all(places, &pairs, outcomes);
            }
        }
    }

    /// Pairs in the order of occurrence, where nothing is left to be decided.
    fn in_order(
        &self,
        places: &[Place<'_>],
        open: &[usize],
        candidates: &[Candidate],
    ) -> Option<Vec<(usize, Candidate)>> {
        let one_turn = candidates.iter().all(|candidate| candidate.turn == candidates[0].turn);
        if open.len() == candidates.len() || (one_turn && open.len() <= candidates.len()) {
            return Some(open.iter().copied().zip(candidates.iter().copied()).collect());
        }
        let context = self.turns[candidates[0].turn].context();
        let one_history = candidates.iter().all(|candidate| self.turns[candidate.turn].context().same_history(context));
        (one_history && !one_turn).then(|| self.newest(places, open, candidates))
    }

    /// The parts of the newest of these turns, in order: of that which is known beside them already, or of those of
    /// which all is there, if there are such.
    fn newest(&self, places: &[Place<'_>], open: &[usize], candidates: &[Candidate]) -> Vec<(usize, Candidate)> {
        let Some(start) = open.first().map(|at| places[*at].starts[0]) else { return Vec::new() };
        let beside = self.known.borrow_mut().in_order().get(&start).copied();
        let several = candidates.iter().any(|candidate| candidate.turn != candidates[0].turn);
        let newest = candidates.iter().max_by_key(|candidate| {
            let whole = several && self.is_kept_whole(places, start, candidate);
            (Some(candidate.turn) == beside, whole, candidate.turn)
        });
        let newest = newest.map(|candidate| candidate.turn);
        let parts = candidates.iter().filter(|candidate| Some(candidate.turn) == newest).copied();
        open.iter().copied().zip(parts).collect()
    }

    /// Whether all that a client shows of an answer stands in the run of messages that begins here.
    fn is_kept_whole(&self, places: &[Place<'_>], start: usize, candidate: &Candidate) -> bool {
        let Kept { run, content, whole } = &mut *self.kept.borrow_mut();
        if run.replace(start) != Some(start) {
            let from = places.partition_point(|place| place.starts[0] < start);
            let run = places[from..].iter().take_while(|place| place.starts[0] == start);
            *content = run.flat_map(|place| [Some(place.key), place.reduced]).flatten().map(|key| (key, ())).collect();
        }
        *whole.entry((start, candidate.turn)).or_insert_with(|| {
            let answer = self.turns[candidate.turn].alternative(candidate.alternative as usize);
            let parts = answer.iter().flat_map(HeldAlternative::parts);
            let mut shown = parts.filter(|part| matches!(part.kind(), Kind::Text | Kind::Call));
            shown.all(|part| [part.anchor()].into_iter().chain(part.aliases()).any(|key| content.contains_key(&key)))
        })
    }

    /// The turn stood right before, or right behind, another one that is known already: what stands
    /// between them in this history leads from the history of the one to that of the other.
    fn by_neighbours(
        &mut self,
        places: &[Place<'_>],
        open: &[usize],
        candidates: &[Candidate],
        outcomes: &mut [Outcome],
    ) {
        let around = self.surroundings;
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for place in open {
            groups.entry(places[*place].starts[0]).or_default().push(*place);
        }
        let mut by_depth: HashMap<usize, Vec<Candidate>> = HashMap::new();
        for candidate in candidates {
            by_depth.entry(self.turns[candidate.turn].context().depth() as usize).or_default().push(*candidate);
        }
        let forth = groups.iter().map(|(start, group)| (start, group, false));
        for (start, group, behind) in groups.iter().rev().map(|(start, group)| (start, group, true)).chain(forth) {
            if group.iter().any(|place| matches!(outcomes[*place], Outcome::Found(_))) {
                continue;
            }
            let known = self.known.get_mut().in_order();
            let neighbour = if behind { known.range(start + 1..).next() } else { known.range(..start).next_back() };
            let Some((message, turn)) = neighbour.map(|(message, turn)| (*message, *turn)) else { continue };
            let context = self.turns[turn].context();
            let Some(depth) = (context.depth() as usize + around.depth(*start)).checked_sub(around.depth(message))
            else {
                continue;
            };
            let length = around.depth(message).abs_diff(around.depth(*start));
            let Some(left) = self.budget.checked_sub(length) else { return };
            self.budget = left;
            let ahead = (!behind).then(|| around.continued(context.before(), message, *start));
            let mut proven = Vec::new();
            for candidate in by_depth.get(&depth).into_iter().flatten().rev() {
                let before = self.turns[candidate.turn].context().before();
                let fits = match ahead {
                    Some(ahead) => ahead == before,
                    None => {
                        let Some(left) = self.budget.checked_sub(length) else { return };
                        self.budget = left;
                        around.continued(before, *start, message) == context.before()
                    }
                };
                if fits && self.is_free(candidate) {
                    proven.push(*candidate);
                }
            }
            proven.reverse();
            let pairs = self.newest(places, group, &proven);
            self.take_all(places, &pairs, outcomes);
        }
    }

    /// Equal parts at different places of a history whose length before them is what it was.
    fn by_occurrence(
        &self,
        places: &[Place<'_>],
        open: &[usize],
        candidates: &[Candidate],
    ) -> Option<Vec<(usize, Candidate)>> {
        if open.len() < candidates.len() {
            // Some of them were cut off, and nothing tells how many stood before these.
            return None;
        }
        let mut by_ordinal: HashMap<(u32, usize), Vec<Candidate>> = HashMap::new();
        for candidate in candidates {
            let depth = self.turns[candidate.turn].context().depth() as usize;
            by_ordinal.entry((self.part(candidate).occurrence(), depth)).or_default().push(*candidate);
        }
        let mut pairs = Vec::new();
        for place in open {
            let ordinal =
                (self.surroundings.occurrence(&places[*place]), self.surroundings.depth(places[*place].starts[0]));
            if let Some([candidate]) = by_ordinal.get(&ordinal).map(Vec::as_slice) {
                pairs.push((*place, *candidate));
            }
        }
        let distinct: HashSet<_> = pairs.iter().map(|(_, c)| (c.turn, c.alternative, c.part)).collect();
        (!pairs.is_empty() && distinct.len() == pairs.len()).then_some(pairs)
    }
}

/// Whether an id looks issued by a provider, not counted up by one: `call_0`, `terminal:3` and `7`
/// name a position, and come again in other conversations.
pub(crate) fn is_native(id: &str, name: Option<&str>) -> bool {
    let rest = name.and_then(|name| id.strip_prefix(name)).unwrap_or(id);
    let digits = rest.len() - rest.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let prefix = rest[..rest.len() - digits].trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let separated = prefix.len() + digits < rest.len();
    let lower = prefix.to_ascii_lowercase();
    let is_word =
        matches!(&*lower, "" | "call" | "tool" | "toolcall" | "tool_call" | "func" | "function" | "fc" | "id");
    !(digits < 5 && (is_word || (separated && digits > 0)))
}

#[cfg(test)]
mod tests {
    use super::is_native;

    #[test]
    fn counters_are_no_native_ids() {
        for id in ["", "0", "call_0", "call-12", "Call3", "terminal:0", "run_shell_command:7", "ls0", "tool_call_9"] {
            assert!(!is_native(id, Some("ls")), "{id}");
        }
        for id in ["okz0loqw", "call_54402", "toolu_vrtx_01AbCdEf", "call_a8Xk2", "89nz05jy", "pyd_ai_e35f"] {
            assert!(is_native(id, Some("ls")), "{id}");
        }
    }
}
