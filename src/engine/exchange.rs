//! A request and its response.

use std::{cell::OnceCell, collections::HashSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, response};

use super::{
    Event, OnStoreError, Report, Shared, Unobserved, Watch,
    config::{HOLD_TIME, MAX_HELD, MAX_PARTS, MIN_SIGNATURE},
    heal::Classifier,
    observer::{Observer, ObserverParts, stood_digest},
    reading::Reading,
    restore::{Plan, PutIn, state_anchor},
    survey::Survey,
};
use crate::{
    dialect::{Binding, History, PartKind, RecorderLimits, Slot, Thinking, Tolerance, ToolDefaults, Wanted},
    ledger::{Context, ItemRef, Premise, TurnId, matcher::Strictness},
    scope::{Caller, Scope},
    wire::patch::Patch,
};

/// What is known of a request before its answer comes.
pub(super) struct Draft {
    pub(super) shared: Arc<Shared>,
    pub(super) watch: Watch,
    pub(super) original: Bytes,
    pub(super) scope: Option<Scope>,
    /// Tenant, provenance and model: for which of them a sentinel is known to be taken.
    pub(super) fallback_scope: Option<Scope>,
    pub(super) strictness: Strictness,
    pub(super) model: String,
    pub(super) report: Report,
    pub(super) load_failed: bool,
    /// What gets a sentinel.
    pub(super) sentinels: Vec<Lacking>,
    pub(super) refused: HashSet<ItemRef>,
    /// Which state the provider said it misses; it decides what stands in.
    pub(super) wanted: Wanted,
    /// The provider wants everything that is known.
    pub(super) demand: bool,
    /// What asks the provider to leave out thoughts that do not fit. It goes with a header, so that it is decided once.
    pub(super) tolerance: Option<Tolerance>,
}

/// A part without state where the provider may want some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lacking {
    /// A part of the history.
    Kept(usize),
    /// A call that is put back.
    Inserted(ItemRef),
}

impl Draft {
    pub(super) fn new(shared: &Arc<Shared>, watch: Watch, original: Bytes, report: Report) -> Self {
        Self {
            shared: shared.clone(),
            watch,
            original,
            scope: None,
            fallback_scope: None,
            strictness: Strictness::Strict,
            model: String::new(),
            report,
            load_failed: false,
            sentinels: Vec::new(),
            refused: HashSet::new(),
            wanted: Wanted::default(),
            demand: false,
            tolerance: None,
        }
    }

    /// Whether the provider could miss state that is not put back; where it surely does is counted.
    fn misses(&self, history: &History<'_>, plan: &Plan) -> bool {
        let lacking = |wanted| {
            let mut count = 0_u32;
            self.lacking(history, plan, wanted, |_| count = count.saturating_add(1));
            count
        };
        let missed = lacking(Wanted::FirstCalls);
        self.shared.counters.add(self.watch.dialect(), Event::Missed, u64::from(missed));
        self.report.update(|summary| summary.missed = missed);
        plan.withheld > 0 || [Wanted::EveryPart, Wanted::Reasoning].into_iter().any(|wanted| lacking(wanted) > 0)
    }

    pub(super) fn note(&self, plan: &Plan, sentinels: usize) {
        self.report.update(|summary| {
            summary.restored = plan.restored;
            summary.calls_restored = plan.calls;
            summary.ambiguous = plan.ambiguous;
            summary.sentinels = u32::try_from(sentinels).unwrap_or(u32::MAX);
        });
        if !plan.edits.is_empty() || sentinels > 0 {
            tracing::debug!(
                dialect = self.watch.dialect(),
                restored = plan.restored,
                calls = plan.calls,
                sentinels,
                "state is put back"
            );
        }
    }

    /// What asks the provider to leave out thoughts that do not fit, if the operator wants that.
    fn tolerance(&self, history: &History<'_>) -> Option<Tolerance> {
        let is_wanted = self.shared.config.drop_mismatched_thoughts && self.watch.patchable && self.is_bound();
        is_wanted.then(|| self.watch.dialect.tolerance(&self.original, history)).flatten()
    }

    /// The body with everything put in; `None` if that changes nothing.
    pub(super) fn patch(&self, history: &History<'_>, plan: &Plan, sentinels: &[Lacking]) -> Option<Bytes> {
        let mut patch = Patch::default();
        patch.reserve(plan.edits.len() + sentinels.len());
        let lacking: HashSet<&Lacking> = sentinels.iter().collect();
        for edit in &plan.edits {
            let unsigned = edit.unsigned.as_ref();
            let unsigned = unsigned.filter(|unsigned| lacking.contains(&Lacking::Inserted(unsigned.placed.item)));
            for splice in unsigned.map_or(&edit.splices, |unsigned| &unsigned.splices).iter() {
                patch.splice(splice.range.clone(), splice.text.clone());
            }
        }
        let sentinel = self.sentinel(self.wanted);
        for lacking in sentinels {
            let Lacking::Kept(part) = lacking else { continue };
            let stand_in = |value| self.watch.dialect.stand_in(&self.original, history, *part, value);
            if let Some(splice) = sentinel.as_ref().and_then(stand_in) {
                patch.splice(splice.range, splice.text);
            }
        }
        if let Some(Tolerance { splice, .. }) = &self.tolerance {
            patch.splice(splice.range.clone(), splice.text.clone());
        }
        if patch.is_empty() || !self.watch.patchable {
            return None;
        }
        // Edits never overlap: each part has one slot, and insertions stand between parts.
        let mut patched = self.shared.buffers.take(patch.length(&self.original).ok()?);
        patch.write(&self.original, &mut patched).ok()?;
        Some(patched.freeze())
    }
}

/// A request that was prepared, and what comes of it.
///
/// # Ordering
///
/// Send [`body`](Self::body), unless [`is_failed`](Self::is_failed). While waiting, [`settle`](Self::settle). Ask
/// [`answer`](Self::answer) what to do with the response. If that is [`Answer::Hold`], hold the body and ask
/// [`refused`](Self::refused); after a second attempt, [`retried`](Self::retried), then `answer` again. What cannot be
/// held to its end goes to the [`classifier`](Self::classifier).
pub struct Exchange {
    pub(super) draft: Draft,
    /// Who sent a request that is still to be read.
    later: Option<Box<Caller>>,
    pub(super) plan: Plan,
    pub(super) patched: Option<Bytes>,
    /// What was read of the request while it was prepared, until it is settled what follows it.
    reading: Option<Reading>,
    /// What was hashed of the history while the request was prepared.
    survey: Option<Survey>,
    pub(super) settled: Option<Settled>,
    pub(super) could_miss: bool,
    pub(super) retry: Retry,
}

/// What has to be known of a request once its answer comes.
pub(super) struct Settled {
    context: Context,
    stood: Box<[u32]>,
    defaults: Arc<ToolDefaults>,
    premise: Option<Premise>,
}

/// How far a second attempt has come.
pub(super) enum Retry {
    Not,
    /// It was sent. `learns` says that its success shows that sentinels are taken where state is missing.
    Sent {
        learns: bool,
    },
    Done,
}

/// What to do with a response.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// Nothing: pass it on.
    Pass,
    /// Feed it to the observer in passing.
    Observe(Box<Observer>),
    /// Hold its body, within these bounds, and ask [`Exchange::refused`] what to do. Whoever cannot hold it, or no
    /// longer, passes it on and shows it to the [`Exchange::classifier`].
    Hold(Held),
    /// Pass it on, and show its body to the classifier in passing.
    Classify(Box<Classifier>),
}

/// How much of an error body to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// In bytes: 64 KiB. A longer body is passed on.
    pub bytes: usize,
    /// One second. What takes longer is passed on.
    pub time: Duration,
}

/// What to do about a refusal.
#[non_exhaustive]
pub enum Remedy {
    /// Nothing: the answer goes to the client as it came.
    None,
    /// Send this body instead, once. If that is refused too, the client gets the first answer.
    Retry(Bytes),
}

impl fmt::Debug for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Retry(body) => write!(f, "Retry({} bytes)", body.len()),
        }
    }
}

impl Exchange {
    /// One in which nothing is put back.
    pub(super) fn new(draft: Draft) -> Self {
        Self {
            draft,
            later: None,
            plan: Plan::default(),
            patched: None,
            reading: None,
            survey: None,
            settled: None,
            could_miss: false,
            retry: Retry::Not,
        }
    }

    /// The request goes on as it came, and is read when there is time for that.
    pub(super) fn read_later(&mut self, caller: Caller) {
        self.later = Some(Box::new(caller));
    }

    /// Makes the body of what is put back, and of the sentinels that are due up front.
    pub(super) fn planned(&mut self, reading: Reading, plan: Plan, survey: OnceCell<Survey>) {
        let (draft, history) = (&mut self.draft, reading.history());
        if draft.takes_sentinel() {
            draft.sentinels = draft.sentinels(history, &plan, draft.wanted);
        }
        draft.tolerance = draft.tolerance(history);
        self.patched = draft.patch(history, &plan, &draft.sentinels);
        let misses = draft.misses(history, &plan);
        self.could_miss = draft.load_failed || misses;
        let sentinels = if self.patched.is_some() { draft.sentinels.len() } else { 0 };
        let count = |event, count: u64| draft.shared.counters.add(draft.watch.dialect(), event, count);
        count(Event::Restored, plan.restored.into());
        count(Event::CallRestored, plan.calls.into());
        count(Event::Ambiguous, plan.ambiguous.into());
        count(Event::Sentinel, sentinels as u64);
        draft.note(&plan, sentinels);
        (self.plan, self.reading, self.survey) = (plan, Some(reading), survey.into_inner());
    }

    /// The body to send, if it is not the one that came.
    #[must_use]
    pub fn patched(&self) -> Option<&Bytes> {
        self.patched.as_ref()
    }

    /// The body to send: the patched one, or the one that came, neither of them copied. A `content-length`
    /// has to be set anew where there is one.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.patched.as_ref().unwrap_or(&self.draft.original).clone()
    }

    /// Adds to the head what has to go with the body; call it once, before the request is sent. It changes nothing
    /// unless [`drop_mismatched_thoughts`](super::Builder::drop_mismatched_thoughts) is set.
    pub fn shape(&self, headers: &mut HeaderMap) {
        let Some(Tolerance { header: (name, value), .. }) = self.draft.tolerance else { return };
        let lists = |held: &HeaderValue| held.to_str().is_ok_and(|held| held.split(',').any(|one| one.trim() == value));
        if !headers.get_all(name).iter().any(lists) {
            headers.append(name, HeaderValue::from_static(value));
        }
    }

    /// What happened so far. Of a request that goes on unread, because nothing is known of its conversation, it tells more
    /// once the exchange is [settled](Self::settle).
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.draft.report
    }

    /// Whether the request must not be sent: the store failed, and the operator chose
    /// [`OnStoreError::Fail`].
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.draft.load_failed && self.draft.shared.config.on_store_error == OnStoreError::Fail
    }

    /// What to do with the response that has this head: observe an answer, hold an error that a second
    /// attempt could mend, pass on the rest.
    pub fn answer(&mut self, head: &response::Parts) -> Answer {
        self.catch_up();
        let may_retry = matches!(self.retry, Retry::Not);
        if head.status.is_success() {
            return self.observer(head).map_or(Answer::Pass, |observer| Answer::Observe(Box::new(observer)));
        }
        self.draft.report.unobserved(Unobserved::NoAnswer);
        let draft = &self.draft;
        let put_in = self.has_put_in() || draft.tolerance.is_some();
        if !is_error(head.status) || draft.scope.is_none() || !may_retry || !(put_in || self.could_miss) {
            return Answer::Pass;
        }
        // What was put in may be at fault, and what is missing may still be known, or stood in for.
        let could_help = put_in || draft.load_failed || self.plan.withheld > 0 || draft.may_use_sentinel();
        if could_help && draft.shared.config.heal && draft.watch.patchable {
            return Answer::Hold(Held { bytes: MAX_HELD, time: HOLD_TIME });
        }
        self.classifier(head.status).map_or(Answer::Pass, |classifier| Answer::Classify(Box::new(classifier)))
    }

    /// Whether something of ours is in the request.
    pub(super) fn has_put_in(&self) -> bool {
        !self.plan.edits.is_empty() || !self.draft.sentinels.is_empty()
    }

    /// Works out what has to be known of the request once its answer comes. Call it while waiting for
    /// the answer, so that the answer need not wait for it; it changes nothing else.
    pub fn settle(&mut self) {
        self.catch_up();
        if self.settled.is_none() && self.draft.scope.is_some() && !self.draft.watch.is_count() {
            self.settled = self.settled();
        }
    }

    /// Reads a request that went on unread, for nothing is known of its conversation.
    fn catch_up(&mut self) {
        let Some(caller) = self.later.take() else { return };
        let draft = &mut self.draft;
        let Some(reading) = draft.read(&caller) else { return };
        draft.lacks_something(&reading);
        self.could_miss = draft.misses(reading.history(), &self.plan);
        self.reading = Some(reading);
    }

    fn settled(&mut self) -> Option<Settled> {
        let draft = &self.draft;
        let reading = self.reading.take();
        let read_again = if reading.is_none() { Some(draft.history(&draft.original)?) } else { None };
        let history = read_again.as_ref().or_else(|| reading.as_ref().map(Reading::history))?;
        let priors = draft.shared.priors.of(draft.scope());
        let survey = self.survey.take().unwrap_or_else(|| Survey::new(history, draft.key(), priors));
        let mut stood: Vec<u32> = survey.standing().map(stood_digest).collect();
        stood.sort_unstable();
        let context = survey.context();
        priors.put(survey.into_prior());
        Some(Settled {
            context,
            stood: stood.into(),
            defaults: Arc::new(draft.defaults(history)),
            premise: self.premise(history),
        })
    }

    fn observer(&mut self, head: &response::Parts) -> Option<Observer> {
        let draft = &self.draft;
        let scope = draft.scope?;
        if draft.watch.is_count() {
            draft.report.unobserved(Unobserved::NoAnswer);
            return None;
        }
        let settled = self.settled.take().or_else(|| self.settled())?;
        let draft = &self.draft;
        let config = &draft.shared.config;
        let limits = RecorderLimits {
            min_state: MIN_SIGNATURE,
            max_state: config.max_signature,
            max_parts: MAX_PARTS,
            max_bytes: config.max_turn,
        };
        let parts = ObserverParts {
            dialect: draft.watch.dialect,
            scope,
            report: draft.report.clone(),
            recorder: draft.watch.dialect.recorder(&draft.model, draft.key(), limits, settled.defaults),
            id: turn_id(),
            context: settled.context,
            premise: settled.premise,
            told_by: draft.fallback_scope,
            stood: settled.stood,
            put_in: self.plan.placed().map(PutIn::from).collect(),
        };
        Some(Observer::new(&draft.shared, parts, &head.headers))
    }

    /// What the answer is made from, where the provider may look at it.
    fn premise(&self, history: &History<'_>) -> Option<Premise> {
        let draft = &self.draft;
        if draft.watch.dialect.binding(&draft.model) == Binding::Free {
            return None;
        }
        let own = history.parts.iter().enumerate().filter(|(_, part)| part.kind == PartKind::Thought);
        let own = own.filter_map(|(at, part)| match &part.slot {
            Slot::Held(span) => Some((self.plan.inserted.position(history, at), &draft.original[span.clone()])),
            _ => None,
        });
        let ours = self
            .plan
            .placed()
            .filter_map(|placed| Some(((placed.content, placed.part), &placed.thought.as_ref()?.raw()[..])));
        let mut thoughts: Vec<((usize, usize), &[u8])> = own.chain(ours).collect();
        thoughts.sort_by_key(|(position, _)| *position);
        let last = thoughts.last().map(|(_, state)| state_anchor(draft.key(), state));
        let count = u32::try_from(thoughts.len()).unwrap_or(u32::MAX);
        Some(Premise::new(history.thinking == Thinking::On, count, last, draft.bound_tools(history)))
    }
}

pub(super) fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// An id that no other turn has, in this process or another.
fn turn_id() -> TurnId {
    use std::{
        hash::{BuildHasher, RandomState},
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("process"));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    TurnId::new(u128::from(*PROCESS) << 64 | u128::from(next))
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("dialect", &self.draft.watch.dialect())
            .field("patched", &self.patched.is_some())
            .field("report", &self.draft.report)
            .finish_non_exhaustive()
    }
}
