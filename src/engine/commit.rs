//! What is to be stored or forgotten, and the bounded queue of what could not be waited for.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
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
}

enum What {
    Append(Arc<Turn>),
    Remove(Vec<ItemRef>),
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
        Self { shared: shared.clone(), dialect, scope, what, report: report.clone() }
    }

    pub(super) fn remove(
        shared: &Arc<Shared>,
        dialect: &'static str,
        scope: Scope,
        items: Vec<ItemRef>,
        report: &Report,
    ) -> Self {
        Self { shared: shared.clone(), dialect, scope, what: What::Remove(items), report: report.clone() }
    }

    /// Stores it. Trouble is counted and logged, never returned.
    pub fn run(self) -> Committing {
        let store = &self.shared.store;
        let reply = match &self.what {
            What::Append(turn) => Running::Append(store.append(&self.scope, turn.clone())),
            What::Remove(items) => Running::Remove(store.remove(&self.scope, items)),
        };
        Committing { commit: self, reply }
    }

    /// Runs it to its end if the store does so at once, else in the background.
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
    Append(Reply<Appended>),
    Remove(Reply<usize>),
}

/// A [`Commit`] under way.
#[must_use = "futures do nothing unless polled"]
pub struct Committing {
    commit: Commit,
    reply: Running,
}

impl Committing {
    fn poll_once(mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
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
        let Commit { shared, dialect, report, what, .. } = &this.commit;
        let outcome = match &mut this.reply {
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
