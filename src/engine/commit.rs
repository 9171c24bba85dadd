//! What is to be stored or forgotten, and the bounded queue of what could not be waited for.

use std::{
    collections::BTreeSet,
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;

use super::{Event, Report, Shared, Unobserved};
use crate::{
    ledger::{ItemRef, Turn},
    scope::Scope,
    store::{Appended, Reply},
};

/// Something to be stored, handed to the caller: the engine itself spawns nothing.
///
/// Await [`run`](Self::run) before the bytes that led to it are passed on, so that a client that fires
/// its next request at once finds the turn.
#[must_use = "a commit does nothing unless it is run"]
pub struct Commit {
    shared: Arc<Shared>,
    dialect: &'static str,
    scope: Scope,
    what: What,
    report: Report,
    turnstile: Option<Turnstile>,
}

enum What {
    Append(Arc<Turn>),
    Remove(Vec<ItemRef>),
}

/// The commits of one response that are under way, by number. What removes must not overtake what
/// appends; appends may overtake each other.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    next: u64,
    open: BTreeSet<u64>,
    wakers: Vec<Waker>,
}

/// A place in the line, given up when the commit is over.
struct Turnstile {
    line: Line,
    number: u64,
}

impl Line {
    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self) -> Turnstile {
        let number = self.with(|waiting| {
            waiting.next += 1;
            waiting.open.insert(waiting.next);
            waiting.next
        });
        Turnstile { line: self.clone(), number }
    }
}

impl Turnstile {
    fn poll_turn(&self, cx: &Context<'_>) -> Poll<()> {
        self.line.with(|waiting| {
            if waiting.open.first() == Some(&self.number) {
                return Poll::Ready(());
            }
            if !waiting.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        let wakers = self.line.with(|waiting| {
            waiting.open.remove(&self.number);
            std::mem::take(&mut waiting.wakers)
        });
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Commit {
    pub(super) fn append(
        shared: &Arc<Shared>,
        dialect: &'static str,
        scope: Scope,
        turn: Turn,
        report: &Report,
    ) -> Self {
        let what = What::Append(Arc::new(turn));
        Self { shared: shared.clone(), dialect, scope, what, report: report.clone(), turnstile: None }
    }

    /// A removal begins when the commits that entered this line before are over.
    pub(super) fn in_line(mut self, line: &Line) -> Self {
        self.turnstile = Some(line.enter());
        self
    }

    pub(super) fn remove(
        shared: &Arc<Shared>,
        dialect: &'static str,
        scope: Scope,
        items: Vec<ItemRef>,
        report: &Report,
    ) -> Self {
        let what = What::Remove(items);
        Self { shared: shared.clone(), dialect, scope, what, report: report.clone(), turnstile: None }
    }

    /// Stores it. Trouble is counted and logged, never returned.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the store may or may not have the turn.
    pub fn run(self) -> Committing {
        let waits = self.turnstile.is_some() && matches!(self.what, What::Remove(_));
        let reply = if waits { Running::Waiting } else { self.begin() };
        Committing { commit: self, reply }
    }

    fn begin(&self) -> Running {
        let store = &self.shared.store;
        match &self.what {
            What::Append(turn) => Running::Append(store.append(&self.scope, turn.clone())),
            What::Remove(items) => Running::Remove(store.remove(&self.scope, items)),
        }
    }

    /// Runs it to its end if the store [does so at once](crate::Store::appends_inline), else in the background,
    /// on the tokio runtime of the caller.
    ///
    /// # Limits
    ///
    /// Without a runtime, or with [too many](super::Builder::commit_queue) under way, it is dropped and counted as
    /// [`Event::CommitFailed`].
    pub fn run_in_background(self) {
        let inline = self.shared.store.appends_inline();
        let committing = self.run();
        if inline {
            committing.poll_once();
        } else {
            committing.into_background();
        }
    }

    /// Whether nobody needs to wait for it: what broke off is not what a next request builds on.
    pub(crate) fn is_provisional(&self) -> bool {
        matches!(&self.what, What::Append(turn) if turn.is_provisional())
    }

    fn bytes(&self) -> usize {
        match &self.what {
            What::Append(turn) => turn.bytes(),
            What::Remove(items) => size_of_val::<[ItemRef]>(items),
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("dialect", &self.dialect).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

enum Running {
    Waiting,
    Append(Reply<Appended>),
    Remove(Reply<usize>),
}

/// A [`Commit`] under way. It gives nothing: trouble is counted and logged.
#[must_use = "futures do nothing unless polled"]
pub struct Committing {
    commit: Commit,
    reply: Running,
}

impl Committing {
    fn poll_once(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        if Pin::new(&mut self).poll(&mut cx).is_pending() {
            self.into_background();
        }
    }

    /// Lets it go on without anyone waiting for it.
    pub(crate) fn into_background(self) {
        let shared = self.commit.shared.clone();
        let (dialect, report) = (self.commit.dialect, self.commit.report.clone());
        let place = Reserved::new(&shared, self.commit.bytes());
        match (place, Handle::try_current()) {
            (Some(place), Ok(runtime)) => {
                runtime.spawn(async move {
                    self.await;
                    drop(place);
                });
            }
            (place, _) => {
                shared.count(dialect, Event::CommitFailed);
                report.unobserved(Unobserved::Store);
                let reason = if place.is_none() { "the queue is full" } else { "there is no runtime" };
                tracing::warn!(dialect, reason, "a turn is dropped");
            }
        }
    }

    pub(crate) fn is_late(&self) {
        self.commit.shared.count(self.commit.dialect, Event::CommitLate);
    }
}

impl Future for Committing {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let (Running::Waiting, Some(turnstile)) = (&this.reply, &this.commit.turnstile) {
            std::task::ready!(turnstile.poll_turn(cx));
            this.reply = this.commit.begin();
        }
        let Commit { shared, dialect, report, what, .. } = &this.commit;
        let outcome = match &mut this.reply {
            Running::Waiting => return Poll::Pending,
            Running::Append(reply) => match std::task::ready!(Pin::new(reply).poll(cx)) {
                Ok(appended) => {
                    shared.counters.add(dialect, Event::Evicted, appended.evicted as u64);
                    if let What::Append(turn) = what {
                        let items = u32::try_from(turn.items()).unwrap_or(u32::MAX);
                        let event = if turn.is_provisional() { Event::LearnedProvisional } else { Event::Learned };
                        shared.count(dialect, event);
                        report.update(|summary| summary.learned = items);
                        tracing::debug!(dialect, items, bytes = turn.bytes(), "a turn is remembered");
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Running::Remove(reply) => match std::task::ready!(Pin::new(reply).poll(cx)) {
                Ok(removed) => {
                    shared.counters.add(dialect, Event::Forgotten, removed as u64);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = outcome {
            shared.count(dialect, Event::CommitFailed);
            report.unobserved(Unobserved::Store);
            tracing::warn!(dialect, error = error.source(), "the store did not take a turn");
        }
        this.commit.turnstile = None;
        Poll::Ready(())
    }
}

impl fmt::Debug for Committing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Committing").field(&self.commit).finish()
    }
}

/// Bounds what goes on in the background.
pub(crate) struct Queue {
    entries: AtomicUsize,
    bytes: AtomicUsize,
    max_entries: usize,
    max_bytes: usize,
}

impl Queue {
    pub(crate) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { entries: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_entries, max_bytes }
    }
}

/// A place in the queue.
struct Reserved {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Reserved {
    fn new(shared: &Arc<Shared>, bytes: usize) -> Option<Self> {
        let queue = &shared.queue;
        let reserved = Self { shared: shared.clone(), bytes };
        let entries = queue.entries.fetch_add(1, Ordering::AcqRel) + 1;
        let held = queue.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        // Dropping the reservation takes it back.
        (entries <= queue.max_entries && held <= queue.max_bytes).then_some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.queue.entries.fetch_sub(1, Ordering::AcqRel);
        self.shared.queue.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
