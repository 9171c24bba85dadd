//! What is to be stored or forgotten, and the bounded queue of what could not be waited for.

use std::{
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
    order: Order,
}

enum What {
    Append(Arc<Turn>),
    Remove(Vec<ItemRef>),
}

/// What a commit has to do with the others of its response.
enum Order {
    Any,
    /// Those that follow wait until this is dropped.
    First {
        _under_way: UnderWay,
    },
    After(Appends),
}

/// The appends of one response that are under way: what takes the turn back must not overtake them.
#[derive(Clone, Default)]
pub(super) struct Appends(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    count: usize,
    waker: Option<Waker>,
}

impl Appends {
    fn with<T>(&self, change: impl FnOnce(&mut Open) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self) -> UnderWay {
        self.with(|open| open.count += 1);
        UnderWay(self.clone())
    }

    fn poll_done(&self, cx: &Context<'_>) -> Poll<()> {
        self.with(|open| {
            if open.count == 0 {
                return Poll::Ready(());
            }
            open.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// An append that is under way.
struct UnderWay(Appends);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let waker = self.0.with(|open| {
            open.count -= 1;
            open.waker.take()
        });
        waker.into_iter().for_each(Waker::wake);
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
        Self { shared: shared.clone(), dialect, scope, what, report: report.clone(), order: Order::Any }
    }

    /// One of the appends of a response, which what follows waits for.
    pub(super) fn among(mut self, appends: &Appends) -> Self {
        self.order = Order::First { _under_way: appends.begin() };
        self
    }

    /// Runs when these appends have landed, or failed.
    pub(super) fn after(mut self, appends: &Appends) -> Self {
        self.order = Order::After(appends.clone());
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
        Self { shared: shared.clone(), dialect, scope, what, report: report.clone(), order: Order::Any }
    }

    /// Stores it. Trouble is counted and logged, never returned.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the store may or may not have the turn.
    pub fn run(self) -> Committing {
        let reply = match &self.order {
            Order::After(appends) => Running::Waiting(appends.clone()),
            _ => self.begin(),
        };
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
    Waiting(Appends),
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
        if let Running::Waiting(appends) = &this.reply {
            std::task::ready!(appends.poll_done(cx));
            this.reply = this.commit.begin();
        }
        let Commit { shared, dialect, report, what, .. } = &this.commit;
        let outcome = match &mut this.reply {
            Running::Waiting(_) => return Poll::Pending,
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
        if outcome.is_err() {
            shared.count(dialect, Event::CommitFailed);
            report.unobserved(Unobserved::Store);
            tracing::warn!(dialect, "the store did not take a turn");
        }
        this.commit.order = Order::Any;
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
