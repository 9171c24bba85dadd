//! What an operator counts: a fixed list of events for each dialect.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::dialect;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Something that happened to an exchange.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* $variant,)*
        }

        impl Event {
            /// All of them.
            pub const ALL: &[Event] = &[$(Event::$variant,)*];

            /// The name in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

events! {
    /// A request of a known dialect was read.
    Watched => "watched",
    /// A request of a known dialect was not read, or could not be: too long, encoded, not JSON.
    Unread => "unread",
    /// A request was refused replay because no tenant is known.
    NoTenant => "no_tenant",
    /// The request had no place where state could be missing; the store was not asked.
    NothingMissing => "nothing_missing",
    /// The store was asked for a ledger.
    Loaded => "loaded",
    /// The store could not answer, or not in time.
    LoadFailed => "load_failed",
    /// A piece of state was put back.
    Restored => "restored",
    /// A call that the client had dropped was put back.
    CallRestored => "call_restored",
    /// A call whose state is not known, where the provider may want it.
    Missed => "missed",
    /// Several remembered parts fit one place, and nothing decided.
    Ambiguous => "ambiguous",
    /// A sentinel was put in place of state.
    Sentinel => "sentinel",
    /// A turn was remembered.
    Learned => "learned",
    /// A turn that broke off was remembered for as long as no completed one takes its place.
    LearnedProvisional => "learned_provisional",
    /// A turn could not be stored: the store failed, the queue was full, or no runtime was there.
    CommitFailed => "commit_failed",
    /// A turn was not in the store within `commit_wait`; the response went on, the commit too.
    CommitLate => "commit_late",
    /// An older turn went to make room.
    Evicted => "evicted",
    /// A response could not be observed: encoded, an event over the limit, no sense in it.
    Unobserved => "unobserved",
    /// The provider said that state was missing.
    RefusedMissing => "refused_missing",
    /// The provider said that the shape of the history is wrong, after something was put in.
    RefusedStructure => "refused_structure",
    /// The provider said that state was not valid, after something was put in.
    RefusedInvalid => "refused_invalid",
    /// A remembered item was forgotten because the provider refused it.
    Forgotten => "forgotten",
    /// A refused request was sent once more.
    Retried => "retried",
    /// The second attempt succeeded.
    Healed => "healed",
    /// An answer ended with `MISSING_THOUGHT_SIGNATURE`.
    FinishedMissing => "finished_missing",
}

/// The counters of one engine.
pub(crate) struct Counters(Vec<Vec<AtomicU64>>);

impl Counters {
    pub(crate) fn new() -> Self {
        let row = || Event::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self(dialect::all().iter().map(|_| row()).collect())
    }

    pub(crate) fn add(&self, dialect: &'static str, event: Event, count: u64) {
        if count == 0 {
            return;
        }
        let row = dialect::all().iter().position(|known| known.name() == dialect);
        if let Some(counter) = row.and_then(|row| self.0[row].get(event as usize)) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        #[cfg(feature = "metrics")]
        metrics::counter!("reasoning_replay_events_total", "dialect" => dialect, "event" => event.name())
            .increment(count);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let rows = dialect::all().iter().zip(&self.0);
        let rows = rows.flat_map(|(dialect, row)| {
            Event::ALL.iter().zip(row).map(|(event, count)| (dialect.name(), *event, count.load(Ordering::Relaxed)))
        });
        Snapshot(rows.collect())
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// The counters of an engine at one moment.
///
/// With the feature `metrics` the same counts go through the `metrics` facade, as
/// `reasoning_replay_events_total` with the labels `dialect` and `event`, the latter as
/// [`Event::name`] gives it.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::{MemoryStore, ReplayLayer, engine::Event};
///
/// let layer = ReplayLayer::new(MemoryStore::new());
/// assert_eq!(layer.engine().counters().get(Event::Restored), 0);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(Vec<(&'static str, Event, u64)>);

impl Snapshot {
    /// How often an event happened, in all dialects.
    #[must_use]
    pub fn get(&self, event: Event) -> u64 {
        self.0.iter().filter(|(_, held, _)| *held == event).map(|(_, _, count)| count).sum()
    }

    /// Every dialect, event and count, those that never happened included.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Event, u64)> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = self.0.iter().filter(|(_, _, count)| *count > 0);
        f.debug_map().entries(happened.map(|(dialect, event, count)| ((dialect, event.name()), count))).finish()
    }
}
