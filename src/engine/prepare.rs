//! The way of a request to the provider.

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::HashSet,
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::request::Parts;
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep},
};

use super::{
    Event, Exchange, Fallback, Known, Report, SessionKind, Shared, Unobserved, Watch,
    exchange::{Draft, Lacking},
    reading::Reading,
    restore::{Gaps, Plan, Restorer},
    survey::{self, Around, Survey},
};
use crate::{
    dialect::{Binding, History, Operation, StandIns, ToolDefaults, Wanted, read},
    ledger::{Anchor, ItemRef, Ledger, matcher::Strictness},
    scope::{Caller, HashKey, Named, Scope, ScopeInput, SessionOf, Strength},
    store::{Reply, StoreError},
    wire::json::is_utf8,
};

/// A request that is being prepared; gives the [`Exchange`].
///
/// It is ready at once unless the store has to be waited for, and then after
/// [`load_timeout`](super::Builder::load_timeout) at most. Without a tokio runtime to tell the time it waits for as long
/// as the store takes.
///
/// # Cancellation
///
/// It may be dropped at any time.
///
/// # Panics
///
/// If polled again after it was ready.
#[must_use = "futures do nothing unless polled"]
pub struct Prepare(State);

enum State {
    Ready(Option<Box<Exchange>>),
    Loading(Option<Box<Waiting>>),
}

/// What waits for the store.
struct Waiting {
    exchange: Box<Exchange>,
    reading: Reading,
    load: Loading,
}

/// A load with an end.
pub(crate) struct Loading {
    reply: Reply<Option<Arc<Ledger>>>,
    timeout: Timer,
}

/// A time that passes; without a runtime to tell the time it never does. It begins with the first
/// poll, so that what is there at once needs no timer.
pub(crate) struct Timer {
    time: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, sleep: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.time.is_zero() {
            return Poll::Ready(());
        }
        if self.sleep.is_none() && Handle::try_current().is_err() {
            return Poll::Pending;
        }
        let time = self.time;
        self.sleep.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx)
    }
}

impl Loading {
    pub(super) fn new(reply: Reply<Option<Arc<Ledger>>>, timeout: Duration) -> Self {
        Self { reply, timeout: Timer::new(timeout) }
    }

    /// `None` if the time is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Option<Arc<Ledger>>, StoreError>>> {
        if let Poll::Ready(reply) = Pin::new(&mut self.reply).poll(cx) {
            return Poll::Ready(Some(reply));
        }
        self.timeout.poll(cx).map(|()| None)
    }
}

impl Prepare {
    pub(super) fn new(shared: &Arc<Shared>, watch: Watch, head: &Parts, body: Bytes) -> Self {
        let name = watch.dialect.name();
        shared.count(name, Event::Watched);
        let mut exchange = Box::new(Exchange::new(Draft::new(shared, watch, body, Report::new(name))));
        let draft = &mut exchange.draft;
        let caller = Caller::of(head, &shared.config.tenant_headers, &shared.config.sessions);
        if shared.config.require_tenant && caller.tenant.is_anonymous() {
            shared.count(name, Event::NoTenant);
            draft.report.unobserved(Unobserved::Request);
            return Self::ready(exchange);
        }
        if draft.is_unknown(&caller) {
            exchange.read_later(caller);
            return Self::ready(exchange);
        }
        let Some(reading) = draft.read(&caller) else {
            return Self::ready(exchange);
        };
        if !draft.lacks_something(&reading) {
            exchange.planned(reading, Plan::default(), OnceCell::new());
            return Self::ready(exchange);
        }
        let mut reply = shared.store.load(&draft.scope());
        match reply.now() {
            Some(loaded) => {
                exchange.loaded(reading, Some(loaded));
                Self::ready(exchange)
            }
            None => {
                let load = Loading::new(reply, shared.config.load_timeout);
                Self(State::Loading(Some(Box::new(Waiting { exchange, reading, load }))))
            }
        }
    }

    fn ready(exchange: Box<Exchange>) -> Self {
        Self(State::Ready(Some(exchange)))
    }
}

impl Future for Prepare {
    type Output = Exchange;

    /// # Panics
    ///
    /// If polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Exchange> {
        let this = self.get_mut();
        let exchange = match &mut this.0 {
            State::Ready(exchange) => exchange.take(),
            State::Loading(waiting) => {
                let loaded = match waiting {
                    Some(waiting) => ready!(waiting.load.poll(cx)),
                    None => None,
                };
                waiting.take().map(|waiting| {
                    let Waiting { mut exchange, reading, .. } = *waiting;
                    exchange.loaded(reading, loaded);
                    exchange
                })
            }
        };
        match exchange {
            Some(exchange) => Poll::Ready(*exchange),
            None => panic!("a request was prepared already"),
        }
    }
}

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            State::Ready(_) => "Prepare::Ready",
            State::Loading(_) => "Prepare::Loading",
        })
    }
}

impl Draft {
    /// Reads the history, and finds out whose it is; `None` if that cannot be told, which is counted and reported.
    pub(super) fn read(&mut self, caller: &Caller) -> Option<Reading> {
        let reading = Reading::of(&self.shared, self.watch.dialect, &self.original);
        if reading.is_none() {
            self.shared.count(self.watch.dialect(), Event::Unread);
            tracing::debug!(dialect = self.watch.dialect(), "the request cannot be read and is passed on as it came");
        }
        let reading = reading.filter(|reading| self.find_scope(reading.history(), caller));
        if reading.is_none() {
            self.report.unobserved(Unobserved::Request);
        }
        reading
    }

    pub(super) fn history<'b>(&self, body: &'b [u8]) -> Option<History<'b>> {
        if !is_utf8(body) {
            return None;
        }
        self.watch.dialect.read(body, History::default()).ok()
    }

    /// Whether nothing can be known of the conversation, told without reading its history. Then nothing is put back.
    fn is_unknown(&self, caller: &Caller) -> bool {
        let config = &self.shared.config;
        let Some(named) = &caller.named else { return false };
        if config.drop_mismatched_thoughts || config.fallback == Fallback::Always {
            return false;
        }
        let in_path = self.watch.route.model.as_deref().map(Cow::Borrowed);
        let Some(model) = in_path.or_else(|| read::early_model(&self.original)) else { return false };
        let fold = |session: SessionOf<'_>| self.scope_of(caller, &model, session);
        let anyone = Named::anyone();
        let takes_sentinel = || self.shared.known_fallback(&fold(SessionOf::Named(&anyone))).is_some();
        let scope = fold(SessionOf::Named(named));
        !self.shared.store.may_hold(&scope) && (config.fallback == Fallback::Off || !takes_sentinel())
    }

    fn scope_of(&self, caller: &Caller, model: &str, session: SessionOf<'_>) -> Scope {
        let Caller { tenant, origin, .. } = caller;
        let binds_account = self.watch.dialect.binds_account(model);
        self.key().scope(&ScopeInput { tenant, origin, binds_account, model, session })
    }

    /// Whether there is a place where state could be missing, and be put back; counted.
    pub(super) fn lacks_something(&self, reading: &Reading) -> bool {
        let lacks = !reading.gaps().is_empty() && !reading.history().kept_elsewhere && self.watch.patchable;
        self.shared.count(self.watch.dialect(), if lacks { Event::Loaded } else { Event::NothingMissing });
        lacks
    }

    /// Finds out whose conversation this is; says whether there is one.
    fn find_scope(&mut self, history: &History<'_>, caller: &Caller) -> bool {
        let shared = self.shared.clone();
        let from_body = || history.model.as_deref().map(|model| String::from_utf8_lossy(model).into_owned());
        let model = self.watch.route.model.take().or_else(from_body).unwrap_or_default();
        let (this, key) = (&*self, &shared.key);
        let fold = |session: SessionOf<'_>| this.scope_of(caller, &model, session);
        let opening = OnceCell::new();
        let derived = |system: bool| {
            let mut hash = [0; 32];
            if system {
                hash[..16].copy_from_slice(survey::system(history, key).as_bytes());
            }
            let opening = *opening.get_or_init(|| survey::opening(history, key));
            hash[16..].copy_from_slice(opening?.as_bytes());
            Some(fold(SessionOf::Derived { hash: &hash, agent: caller.agent.as_ref() }))
        };
        let in_body = caller.in_body(&history.members, &shared.config.sessions);
        let named = caller.named.as_ref().or(in_body.as_ref());
        let (scope, strictness, kind) = match named {
            Some(named) => {
                let scope = fold(SessionOf::Named(named));
                match named.strength {
                    Strength::Known => (Some(scope), Strictness::Known, SessionKind::Known),
                    Strength::Weak => (Some(scope), Strictness::Strict, SessionKind::Weak),
                }
            }
            None => (derived(true), Strictness::Strict, SessionKind::Derived),
        };
        let Some(mut scope) = scope else {
            // A request without a message of the client has nothing to be restored, and no name.
            shared.count(self.watch.dialect(), Event::NothingMissing);
            return false;
        };
        if named.is_some() && self.watch.route.operation == Operation::Generate {
            // Counts often leave out the session, some the system instruction too.
            for alias in [derived(true), derived(false)].into_iter().flatten() {
                shared.aliases.insert(alias, scope);
            }
        } else if named.is_none() && self.watch.is_count() {
            let aliases = [Some(scope), derived(false)];
            scope = aliases.into_iter().flatten().find_map(|alias| shared.aliases.get(&alias)).unwrap_or(scope);
        }
        self.fallback_scope = Some(fold(SessionOf::Named(&Named::anyone())));
        self.scope = Some(scope);
        self.strictness = strictness;
        self.model = model;
        if let Some(known) = self.known_fallback() {
            self.wanted = known.wanted;
            self.demand = known.wanted == Wanted::Reasoning;
        }
        self.report.update(|summary| {
            summary.session = kind;
            summary.scope = Some(scope);
        });
        true
    }

    pub(super) fn scope(&self) -> Scope {
        self.scope.unwrap_or_else(|| Scope::from_bytes([0; 32]))
    }

    pub(super) fn key(&self) -> &HashKey {
        &self.shared.key
    }

    fn load_failed(&mut self, error: Option<&StoreError>) {
        self.load_failed = true;
        self.shared.count(self.watch.dialect(), Event::LoadFailed);
        let reason = if error.is_some() { "it failed" } else { "it took too long" };
        let error = error.and_then(StdError::source);
        tracing::warn!(dialect = self.watch.dialect(), reason, error, "the store could not be asked");
    }

    /// Works out what is put back.
    pub(super) fn plan(
        &self,
        history: &History<'_>,
        gaps: &Gaps,
        survey: &OnceCell<Survey>,
        ledger: Option<&Ledger>,
    ) -> Plan {
        let worth = |ledger| Some((ledger, Restorer::worth_matching(history, gaps, ledger)?));
        let Some((ledger, kinds)) = ledger.and_then(worth) else {
            return Plan::default();
        };
        let bound = self.is_bound();
        let priors = self.shared.priors.of(self.scope());
        let around = Around::new(self.watch.dialect, &self.original, history, survey, self.key(), priors);
        let restorer = Restorer {
            dialect: self.watch.dialect,
            key: self.key(),
            history,
            around: &around,
            defaults: &self.defaults(history),
            strictness: self.strictness,
            gaps,
            run_starts: &Restorer::run_starts(history),
            refused: &self.refused,
            sentinel: self.sentinel(self.wanted),
            demand: self.demand,
            bound,
            tools: if bound { self.bound_tools(history) } else { None },
        };
        restorer.plan(ledger, &kinds)
    }

    pub(super) fn defaults(&self, history: &History<'_>) -> ToolDefaults {
        let tools = history.tools.clone().map(|span| &self.original[span]);
        let tools = tools.filter(|tools| memchr::memmem::find(tools, b"\"default\"").is_some());
        tools.map(read::defaults).unwrap_or_default()
    }

    /// Names where the provider may want state that is not known.
    pub(super) fn lacking(&self, history: &History<'_>, plan: &Plan, wanted: Wanted, mut each: impl FnMut(Lacking)) {
        let dialect = self.watch.dialect;
        let is_filled = |part| plan.filled.contains(&part);
        dialect.sentinel_parts(history, &is_filled, wanted, &mut |part| each(Lacking::Kept(part)));
        let unsigned = plan.edits.iter().filter_map(|edit| edit.unsigned.as_ref());
        let unsigned = unsigned.filter(|unsigned| dialect.is_checked(history, unsigned.message, wanted));
        unsigned.for_each(|unsigned| each(Lacking::Inserted(unsigned.placed.item)));
    }

    /// Where a sentinel changes anything: clients send it themselves, and what they send is theirs.
    pub(super) fn sentinels(&self, history: &History<'_>, plan: &Plan, wanted: Wanted) -> Vec<Lacking> {
        let Some(sentinel) = self.sentinel(wanted) else { return Vec::new() };
        let changes = |lacking: &Lacking| match lacking {
            Lacking::Kept(part) => {
                let splice = self.watch.dialect.stand_in(&self.original, history, *part, &sentinel);
                splice.is_some_and(|splice| !splice.text.is(&self.original[splice.range]))
            }
            Lacking::Inserted(_) => true,
        };
        let mut sentinels = Vec::new();
        self.lacking(history, plan, wanted, |lacking| sentinels.extend(Some(lacking).filter(changes)));
        sentinels
    }

    /// What of the tools the provider may look at.
    pub(super) fn bound_tools(&self, history: &History<'_>) -> Option<Anchor> {
        self.watch.dialect.bound_tools(self.key(), &self.original[history.tools.clone()?])
    }

    /// Whether the provider is known to look at what precedes a thought.
    pub(super) fn is_bound(&self) -> bool {
        let told = || self.fallback_scope.and_then(|scope| self.shared.bound.get(&scope));
        match self.watch.dialect.binding(&self.model) {
            Binding::Free => false,
            Binding::Possible => told().is_some_and(|until| tokio::time::Instant::now() < until),
            Binding::Bound => true,
        }
    }

    pub(super) fn sentinel(&self, wanted: Wanted) -> Option<Bytes> {
        let config = &self.shared.config;
        let stand_ins = StandIns { sentinel: Some(config.sentinel), reasoning: config.reasoning_placeholder };
        self.watch.dialect.sentinel(stand_ins, wanted)
    }

    pub(super) fn may_use_sentinel(&self) -> bool {
        self.watch.patchable && !self.watch.is_count() && self.shared.config.fallback != Fallback::Off
    }

    /// Whether sentinels are due without being asked for.
    pub(super) fn takes_sentinel(&self) -> bool {
        let is_due = match self.shared.config.fallback {
            Fallback::Off => false,
            Fallback::Always => true,
            Fallback::OnRejection => self.known_fallback().is_some(),
        };
        is_due && self.may_use_sentinel()
    }

    /// What this provider is known to want for this model.
    fn known_fallback(&self) -> Option<Known> {
        self.fallback_scope.and_then(|scope| self.shared.known_fallback(&scope))
    }

    pub(super) fn refuse(&mut self, items: impl IntoIterator<Item = ItemRef>) {
        let refused: &mut HashSet<ItemRef> = &mut self.refused;
        refused.extend(items);
    }
}

impl Exchange {
    /// What comes of the store's answer; of none if it took too long.
    fn loaded(&mut self, reading: Reading, loaded: Option<Result<Option<Arc<Ledger>>, StoreError>>) {
        let survey = OnceCell::new();
        let plan = match loaded {
            Some(Ok(ledger)) => self.draft.plan(reading.history(), reading.gaps(), &survey, ledger.as_deref()),
            Some(Err(error)) => {
                self.draft.load_failed(Some(&error));
                Plan::default()
            }
            None => {
                self.draft.load_failed(None);
                Plan::default()
            }
        };
        self.planned(reading, plan, survey);
    }
}
