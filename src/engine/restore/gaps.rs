//! Where a history could lack state, told by its shape alone.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use crate::dialect::{Author, History, PartKind};

/// The places of a history where state could be missing.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Parts of the model that could carry state and carry none. Several parts stand for one run of text.
    pub(super) targets: Vec<Range<usize>>,
    /// Outputs whose call is not in the history.
    pub(super) orphans: Vec<usize>,
    /// Calls, and outputs that may answer them, while they are paired.
    open: Open,
}

#[derive(Debug, Default)]
struct Open {
    calls: Vec<usize>,
    outputs: Vec<usize>,
}

impl Gaps {
    /// Finds them by looking at the shape of the history alone. The lists of another history are used again.
    pub(crate) fn find(history: &History<'_>, former: Self) -> Self {
        let Self { mut targets, mut orphans, mut open } = former;
        targets.clear();
        orphans.clear();
        open.calls.clear();
        find_targets(history, &mut targets);
        find_orphans(history, &mut open, &mut orphans);
        Self { targets, orphans, open }
    }

    /// How many elements the longest of the lists has room for.
    pub(crate) fn room(&self) -> usize {
        let Self { targets, orphans, open: Open { calls, outputs } } = self;
        targets.capacity().max(orphans.capacity()).max(calls.capacity()).max(outputs.capacity())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.orphans.is_empty()
    }
}

/// The parts, and runs of text parts, that lack state. A run goes on in the next message of the model:
/// some clients make a message of every event.
fn find_targets(history: &History<'_>, targets: &mut Vec<Range<usize>>) {
    let mut push = |target: Range<usize>| {
        if targets.is_empty() {
            // Where one lacks state, most do.
            targets.reserve_exact(history.parts.len() - target.start);
        }
        targets.push(target);
    };
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
                push(start..at);
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
            push(start..at);
        }
    }
}

/// How many unanswered calls of earlier messages are remembered while outputs are paired with calls.
const MAX_OPEN_CALLS: usize = 64;

/// Whether a run of text has text without state.
pub(super) fn lacks_state(history: &History<'_>, run: &Range<usize>) -> bool {
    history.parts[run.clone()].iter().any(|part| part.slot.is_missing() && !part.is_empty_text())
}

/// The outputs that answer no call of the history.
fn find_orphans(history: &History<'_>, open: &mut Open, orphans: &mut Vec<usize>) {
    let Open { calls, outputs } = open;
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
                    pair(history, calls, outputs, orphans);
                }
                // Calls that nobody answered so far hardly will be.
                let old = calls.len().saturating_sub(MAX_OPEN_CALLS);
                calls.drain(..old);
            }
        }
        at = end;
    }
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
