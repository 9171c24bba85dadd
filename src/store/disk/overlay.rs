use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;

use super::file::Stored;
use crate::{
    ledger::{ItemRef, Ledger, Limits, Turn},
    scope::Scope,
    store::{Appended, StoreError},
};

/// Tells the time, in microseconds since the Unix epoch. It never goes back while the store is open.
pub(super) struct Clock {
    begin: Instant,
    epoch: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { begin: Instant::now(), epoch: u64::try_from(epoch.as_micros()).unwrap_or(u64::MAX) }
    }

    pub(super) fn now(&self) -> u64 {
        self.epoch.saturating_add(u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A call that awaits the writer.
pub(super) struct Queued {
    pub(super) number: u64,
    /// When it was made.
    pub(super) at: u64,
    pub(super) bytes: usize,
    pub(super) call: Call,
}

pub(super) enum Call {
    Append(Scope, Arc<Turn>, Answer<Appended>),
    Remove(Scope, Arc<[ItemRef]>, Answer<usize>),
    Forget(Scope, Answer<bool>),
    Clear(Answer<()>),
    /// A load has extended the life of a ledger.
    Touch(Scope),
    /// Everything before is in the file when this is answered.
    Flush(Answer<()>),
    /// A load has failed: the file has to be opened again.
    Mend,
}

impl Call {
    fn change(&self) -> Option<(Scope, Change)> {
        match self {
            Self::Append(scope, turn, _) => Some((*scope, Change::Append(Arc::clone(turn)))),
            Self::Remove(scope, items, _) => Some((*scope, Change::Remove(Arc::clone(items)))),
            Self::Forget(scope, _) => Some((*scope, Change::Forget)),
            Self::Clear(_) | Self::Touch(_) | Self::Flush(_) | Self::Mend => None,
        }
    }
}

/// A change of a ledger that may not be in the file yet.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) at: u64,
    change: Change,
}

#[derive(Clone)]
enum Change {
    Append(Arc<Turn>),
    Remove(Arc<[ItemRef]>),
    Forget,
}

/// The ledger with these changes; `None` if nothing is left.
pub(super) fn replay(ledger: Arc<Ledger>, changes: &[Pending], limits: &Limits) -> Option<Arc<Ledger>> {
    let mut ledger = ledger;
    for pending in changes {
        match &pending.change {
            Change::Append(turn) => drop(Arc::make_mut(&mut ledger).append(Arc::clone(turn), limits)),
            Change::Remove(items) => drop(Arc::make_mut(&mut ledger).remove(items)),
            Change::Forget => ledger = Arc::default(),
        }
    }
    (!ledger.is_empty()).then_some(ledger)
}

/// What lies over the file: the calls that await the writer, and which ledgers there are.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) queue: VecDeque<Queued>,
    /// How many calls, and bytes of them, were taken and are not in the file yet.
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pending: HashMap<Scope, Vec<Pending>>,
    /// The last call that takes everything and is not in the file yet.
    cleared: Option<u64>,
    /// The ledgers in the file, and when they were last used.
    pub(super) live: HashMap<Scope, u64>,
    pub(super) warm: Warm,
    /// The last number that was given to a call or a transaction.
    pub(super) last: u64,
    /// The number of the last transaction.
    pub(super) committed: u64,
    stamp: u64,
    pub(super) closing: bool,
    pub(super) closed: bool,
}

impl Overlay {
    /// What lies over a file that holds these ledgers, after this transaction.
    pub(super) fn over(live: HashMap<Scope, u64>, applied: u64, max_warm: usize) -> Self {
        let warm = Warm { max_bytes: max_warm, ..Warm::default() };
        Self { live, warm, last: applied, committed: applied, ..Self::default() }
    }

    /// Queues a call, and lets loads see what it changes.
    pub(super) fn push(&mut self, call: Call, bytes: usize, now: u64) {
        self.last += 1;
        let (number, at) = (self.last, self.stamp(now));
        if let Some((scope, change)) = call.change() {
            self.pending.entry(scope).or_default().push(Pending { number, at, change });
        } else if matches!(call, Call::Clear(_)) {
            self.cleared = Some(number);
        }
        self.entries += 1;
        self.bytes += bytes;
        self.queue.push_back(Queued { number, at, bytes, call });
    }

    /// The time, or a little later if that was taken: no two calls have the same.
    pub(super) fn stamp(&mut self, now: u64) -> u64 {
        self.stamp = now.max(self.stamp + 1);
        self.stamp
    }

    /// The changes of this ledger that may not be in the file.
    pub(super) fn pending(&self, scope: &Scope) -> Vec<Pending> {
        let pending = self.pending.get(scope).map_or(&[][..], Vec::as_slice);
        let cleared = self.cleared.unwrap_or(0);
        pending.iter().filter(|pending| pending.number > cleared).cloned().collect()
    }

    /// When the ledger in the file was last used; `None` also if it is to be taken with all others.
    pub(super) fn used(&self, scope: &Scope) -> Option<u64> {
        if self.cleared.is_some() { None } else { self.live.get(scope).copied() }
    }

    /// The calls up to this number are over, whether they are in the file or have failed.
    pub(super) fn settle(&mut self, calls: &[Queued], number: u64) {
        for queued in calls {
            self.entries -= 1;
            self.bytes -= queued.bytes;
            let scope = match &queued.call {
                Call::Append(scope, ..) | Call::Remove(scope, ..) | Call::Forget(scope, _) => scope,
                _ => continue,
            };
            if let Some(pending) = self.pending.get_mut(scope) {
                pending.retain(|pending| pending.number > number);
                if pending.is_empty() {
                    self.pending.remove(scope);
                }
            }
        }
        self.cleared = self.cleared.filter(|cleared| *cleared > number);
    }
}

/// Ledgers of the file that were used lately, decoded.
#[derive(Default)]
pub(super) struct Warm {
    ledgers: HashMap<Scope, (Arc<Stored>, u64)>,
    order: BTreeMap<u64, Scope>,
    tick: u64,
    bytes: usize,
    max_bytes: usize,
}

impl Warm {
    pub(super) fn get(&mut self, scope: &Scope) -> Option<Arc<Stored>> {
        let (stored, tick) = self.ledgers.get_mut(scope)?;
        self.order.remove(tick);
        self.tick += 1;
        *tick = self.tick;
        self.order.insert(self.tick, *scope);
        Some(Arc::clone(stored))
    }

    pub(super) fn put(&mut self, scope: &Scope, stored: Arc<Stored>) {
        self.remove(scope);
        let bytes = stored.ledger.bytes();
        if bytes > self.max_bytes {
            return;
        }
        self.tick += 1;
        self.bytes += bytes;
        self.order.insert(self.tick, *scope);
        self.ledgers.insert(*scope, (stored, self.tick));
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, scope: &Scope) {
        if let Some((stored, tick)) = self.ledgers.remove(scope) {
            self.order.remove(&tick);
            self.bytes -= stored.ledger.bytes();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self { max_bytes: self.max_bytes, ..Self::default() };
    }
}
