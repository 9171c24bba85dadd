//! What is done about a refusal: what is forgotten, what is rolled back, and whether the request is sent once more.

use std::{
    cell::OnceCell,
    collections::HashSet,
    fmt,
    future::{Future, poll_fn},
    sync::Arc,
};

use http::{StatusCode, response};
use tokio::time::Instant;

use super::{
    Event, Known, Report, Shared, Unobserved,
    commit::Commit,
    config::{FALLBACK_TIME, MAX_HELD},
    exchange::{Exchange, Lacking, Remedy, Retry, is_error},
    prepare::Loading,
    refusal::{self, Place, Refusal, Verdict},
    restore::{Gaps, Placed},
};
use crate::{
    dialect::{Binding, Wanted},
    ledger::{ItemRef, Ledger},
    scope::Scope,
};

/// What a refusal leads to.
pub(crate) enum Step {
    Settled(Remedy),
    /// Something is to be forgotten first.
    Forget(Commit, Remedy),
    /// The store has to be asked once more.
    Reload(Box<Loading>, Wanted),
}

impl Exchange {
    /// What to do about an error whose body was held. The store may be asked for it, which takes
    /// [`reload_timeout`](super::Builder::reload_timeout) at most. At most one retry is given for an exchange.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, what the provider called invalid may stay in the store.
    pub fn refused(&mut self, status: StatusCode, body: &[u8]) -> impl Future<Output = Remedy> + Send + '_ {
        let step = self.remedy(status, body);
        async move {
            match step {
                Step::Settled(remedy) => remedy,
                Step::Forget(commit, remedy) => {
                    commit.run_in_background();
                    remedy
                }
                Step::Reload(mut load, wanted) => {
                    let loaded = poll_fn(|cx| load.poll(cx)).await;
                    self.reloaded(loaded.and_then(Result::ok).flatten().as_deref(), wanted)
                }
            }
        }
    }

    /// Classifies an error body in passing, when it cannot be held, or not any longer.
    pub fn classifier(&mut self, status: StatusCode) -> Option<Classifier> {
        Some(Classifier {
            shared: self.draft.shared.clone(),
            dialect: self.draft.watch.dialect(),
            scope: self.draft.scope?,
            report: self.draft.report.clone(),
            fallback_scope: self.draft.fallback_scope.filter(|_| !self.draft.sentinels.is_empty()),
            told_by: self.draft.fallback_scope,
            placed: self.plan.placed().cloned().collect(),
            put_in: self.has_put_in(),
            status: status.as_u16(),
            body: Vec::new(),
        })
    }

    /// The first step after a refusal; [`Step::Reload`] is followed by [`reloaded`](Self::reloaded).
    pub(crate) fn remedy(&mut self, status: StatusCode, body: &[u8]) -> Step {
        let Some(verdict) = refusal::classify(status.as_u16(), body) else { return Step::Settled(Remedy::None) };
        let put_in = self.has_put_in();
        if verdict.bound {
            self.draft.shared.note_bound(self.draft.fallback_scope);
        }
        tracing::debug!(
            dialect = self.draft.watch.dialect(),
            refusal = ?verdict.refusal,
            status = status.as_u16(),
            restored = self.plan.placed().count(),
            "the provider refused the request"
        );
        match verdict.refusal {
            Refusal::Missing => {
                self.count(Event::RefusedMissing);
                let wanted = wanted(body);
                let withheld = self.plan.withheld > 0 && !self.draft.demand;
                if (self.draft.load_failed || withheld) && self.may_retry() {
                    self.draft.demand |= withheld;
                    let reply = self.draft.shared.store.load(&self.draft.scope());
                    let load = Loading::new(reply, self.draft.shared.config.reload_timeout);
                    return Step::Reload(Box::new(load), wanted);
                }
                Step::Settled(self.with_sentinels(wanted))
            }
            Refusal::Structure if self.draft.tolerance.is_some() && names_tolerance(body) => {
                self.count(Event::RefusedStructure);
                self.draft.tolerance = None;
                Step::Settled(self.retry(0, false))
            }
            Refusal::Structure if put_in => {
                self.count(Event::RefusedStructure);
                self.roll_back();
                Step::Settled(self.retry(0, false))
            }
            Refusal::Invalid if put_in => {
                self.count(Event::RefusedInvalid);
                self.invalid(&verdict)
            }
            _ => Step::Settled(Remedy::None),
        }
    }

    fn count(&self, event: Event) {
        self.draft.shared.count(self.draft.watch.dialect(), event);
    }

    fn may_retry(&self) -> bool {
        matches!(self.retry, Retry::Not) && self.draft.shared.config.heal && self.draft.watch.patchable
    }

    /// Takes out the parts and messages that were put in; if there are none, everything.
    fn roll_back(&mut self) {
        if !self.plan.edits.iter().any(|edit| edit.structural) {
            self.plan.edits.clear();
            return self.draft.sentinels.clear();
        }
        // Calls that were the first ones of their messages are so again.
        self.plan.take_out(|edit| edit.structural);
        self.draft.sentinels.retain(|lacking| matches!(lacking, Lacking::Kept(_)));
        if self.draft.takes_sentinel()
            && let Some(history) = self.draft.history(&self.draft.original)
        {
            self.draft.sentinels = self.draft.sentinels(&history, &self.plan, self.draft.wanted);
        }
    }

    /// What was put in is bad: it is forgotten, and the request goes without it.
    fn invalid(&mut self, verdict: &Verdict) -> Step {
        let place = &verdict.place;
        let bad: Vec<ItemRef> =
            self.plan.placed().filter(|placed| placed.is_at(place)).map(|placed| placed.item).collect();
        if bad.is_empty() && (!place.is_unknown() || self.draft.sentinels.is_empty()) && !self.is_sentinel_at(place) {
            // What stands there is the client's own.
            return Step::Settled(Remedy::None);
        }
        let sentinel_refused = !self.draft.sentinels.is_empty() && (place.is_unknown() || bad.is_empty());
        if sentinel_refused {
            self.draft.sentinels.clear();
            if let Some(scope) = &self.draft.fallback_scope {
                self.draft.shared.fallbacks.remove(scope);
            }
        }
        self.draft.refuse(bad.iter().copied());
        let is_bad: HashSet<ItemRef> = bad.iter().copied().collect();
        // Where a thought depends on those before it, what comes after a bad one is bad as well.
        let chained = self.draft.watch.dialect.binding(&self.draft.model) != Binding::Free;
        let from = place.content.filter(|_| chained && !bad.is_empty());
        self.plan.take_out(|edit| {
            let goes =
                |placed: &Placed| is_bad.contains(&placed.item) || from.is_some_and(|from| placed.content >= from);
            edit.items.iter().any(goes)
        });
        let before = self.draft.sentinels.len();
        if !sentinel_refused
            && self.draft.may_use_sentinel()
            && let Some(history) = self.draft.history(&self.draft.original)
        {
            self.draft.sentinels = self.draft.sentinels(&history, &self.plan, self.draft.wanted);
        }
        let added = self.draft.sentinels.len().saturating_sub(before);
        let remedy = self.retry(added, false);
        let scope = self.draft.scope();
        match bad.is_empty() {
            true => Step::Settled(remedy),
            false => {
                let (shared, report) = (&self.draft.shared, &self.draft.report);
                Step::Forget(Commit::remove(shared, self.draft.watch.dialect(), scope, bad, report), remedy)
            }
        }
    }

    fn is_sentinel_at(&self, place: &Place) -> bool {
        let (Some(content), Some(history)) = (place.content, self.draft.history(&self.draft.original)) else {
            return false;
        };
        let position = |lacking: &Lacking| match lacking {
            Lacking::Kept(part) => Some(self.plan.inserted.position(&history, *part)),
            Lacking::Inserted(item) => {
                let mut unsigned = self.plan.edits.iter().filter_map(|edit| edit.unsigned.as_ref());
                let placed = &unsigned.find(|unsigned| unsigned.placed.item == *item)?.placed;
                Some((placed.content, placed.part))
            }
        };
        let mut positions = self.draft.sentinels.iter().filter_map(position);
        positions.any(|(at, part)| at == content && place.part.is_none_or(|place| place == part))
    }

    /// What to do once the store was asked again.
    pub(crate) fn reloaded(&mut self, ledger: Option<&Ledger>, wanted: Wanted) -> Remedy {
        if let Some(ledger) = ledger {
            let history = self.draft.history(&self.draft.original);
            let plan = history.map(|history| {
                let survey = OnceCell::new();
                self.draft.plan(&history, &Gaps::find(&history, Gaps::default()), &survey, Some(ledger))
            });
            if let Some(plan) = plan {
                let (shared, name) = (&self.draft.shared, self.draft.watch.dialect());
                shared.counters.add(name, Event::Restored, u64::from(plan.restored));
                shared.counters.add(name, Event::CallRestored, u64::from(plan.calls));
                self.plan = plan;
                self.draft.note(&self.plan, self.draft.sentinels.len());
            }
        }
        match self.with_sentinels(wanted) {
            Remedy::None => self.retry(0, self.draft.demand),
            remedy => remedy,
        }
    }

    /// Sends the request again with sentinels where state is not known.
    fn with_sentinels(&mut self, wanted: Wanted) -> Remedy {
        if !self.draft.may_use_sentinel() || !self.may_retry() {
            return Remedy::None;
        }
        let Some(history) = self.draft.history(&self.draft.original) else { return Remedy::None };
        self.draft.wanted = wanted;
        let parts = self.draft.sentinels(&history, &self.plan, wanted);
        let held: HashSet<Lacking> = self.draft.sentinels.iter().copied().collect();
        let added = parts.iter().filter(|part| !held.contains(part)).count();
        drop(history);
        if added == 0 {
            return Remedy::None;
        }
        self.draft.sentinels = parts;
        self.retry(added, true)
    }

    /// The changed body, if it is one and a second attempt is allowed.
    fn retry(&mut self, sentinels: usize, learns: bool) -> Remedy {
        if !self.may_retry() {
            return Remedy::None;
        }
        let patched = self
            .draft
            .history(&self.draft.original)
            .and_then(|history| self.draft.patch(&history, &self.plan, &self.draft.sentinels));
        if patched == self.patched {
            return Remedy::None;
        }
        self.patched = patched;
        self.retry = Retry::Sent { learns };
        // What precedes the answer may be something else now.
        self.settled = None;
        self.count(Event::Retried);
        self.draft.shared.counters.add(self.draft.watch.dialect(), Event::Sentinel, sentinels as u64);
        let restored = u32::try_from(self.plan.placed().count()).unwrap_or(u32::MAX);
        let total = u32::try_from(self.draft.sentinels.len()).unwrap_or(u32::MAX);
        self.draft.report.update(|summary| {
            summary.restored = restored;
            summary.sentinels = total;
        });
        tracing::info!(
            dialect = self.draft.watch.dialect(),
            restored,
            sentinels = total,
            "the request is sent once more"
        );
        Remedy::Retry(self.body())
    }

    /// What became of the second attempt: whether its response is the one for the client, whose
    /// [`answer`](Self::answer) is to be asked for then. If not, the client gets the first answer as it came.
    pub fn retried(&mut self, head: &response::Parts) -> bool {
        let Retry::Sent { learns } = std::mem::replace(&mut self.retry, Retry::Done) else { return false };
        if is_error(head.status) {
            self.draft.report.unobserved(Unobserved::NoAnswer);
            return false;
        }
        self.count(Event::Healed);
        self.draft.report.update(|summary| {
            summary.healed = true;
            summary.unobserved = None;
        });
        if learns && let Some(scope) = self.draft.fallback_scope {
            let known = Known { until: Instant::now() + FALLBACK_TIME, wanted: self.draft.wanted };
            self.draft.shared.fallbacks.insert(scope, known);
        }
        true
    }
}

/// Image models name the kind of part that lacks state, and want it on every part.
fn wanted(body: &[u8]) -> Wanted {
    let body = body[..body.len().min(MAX_HELD)].to_ascii_lowercase();
    let names = |phrase: &[u8]| memchr::memmem::find(&body, phrase).is_some();
    if names(b"image part") || names(b"text part") {
        Wanted::EveryPart
    } else if names(b"thought_signature") || names(b"thought signature") {
        Wanted::FirstCalls
    } else {
        Wanted::Reasoning
    }
}

/// Whether what is refused is the request for tolerance itself, whose header may have been lost on the way.
fn names_tolerance(body: &[u8]) -> bool {
    memchr::memmem::find(&body[..body.len().min(MAX_HELD)], b"block_binding").is_some()
}

/// Reads an error body that passes by, to forget what the provider refused.
///
/// [`feed`](Self::feed) it the body; it looks at the first 64 KiB. Then [`finish`](Self::finish).
pub struct Classifier {
    shared: Arc<Shared>,
    dialect: &'static str,
    scope: Scope,
    report: Report,
    fallback_scope: Option<Scope>,
    /// Tenant, provenance and model.
    told_by: Option<Scope>,
    placed: Vec<Placed>,
    /// Something of ours was in the request, so it may be at fault.
    put_in: bool,
    status: u16,
    body: Vec<u8>,
}

impl Classifier {
    /// Takes in a piece of the body.
    pub fn feed(&mut self, piece: &[u8]) {
        let room = MAX_HELD.saturating_sub(self.body.len());
        self.body.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// The body has ended, or enough of it was seen. The commit, if there is one, forgets what the provider
    /// called invalid.
    pub fn finish(self) -> Option<Commit> {
        let verdict = refusal::classify(self.status, &self.body)?;
        if verdict.bound {
            self.shared.note_bound(self.told_by);
        }
        match verdict.refusal {
            Refusal::Missing => self.shared.count(self.dialect, Event::RefusedMissing),
            Refusal::Structure if self.put_in => self.shared.count(self.dialect, Event::RefusedStructure),
            Refusal::Invalid if self.put_in => {
                self.shared.count(self.dialect, Event::RefusedInvalid);
                let bad: Vec<_> = self
                    .placed
                    .iter()
                    .filter(|placed| placed.is_at(&verdict.place))
                    .map(|placed| placed.item)
                    .collect();
                if let Some(scope) = self.fallback_scope.filter(|_| verdict.place.is_unknown() || bad.is_empty()) {
                    self.shared.fallbacks.remove(&scope);
                }
                if !bad.is_empty() {
                    return Some(Commit::remove(&self.shared, self.dialect, self.scope, bad, &self.report));
                }
            }
            Refusal::Structure | Refusal::Invalid => {}
        }
        None
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classifier")
            .field("dialect", &self.dialect)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
