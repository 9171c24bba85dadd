use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Shared,
    books::{Books, Entry},
    file::{self, LEDGERS, LedgerTable, Stored, TURNS, TurnTable},
    overlay::{Answer, Call, Queued},
};
use crate::{
    ledger::Ledger,
    scope::Scope,
    store::{Appended, StoreError},
};

/// How many expired ledgers an append purges at most.
const PURGED_PER_APPEND: usize = 2;
/// How many of them go at once while nothing else is to be done.
const PURGED_AT_REST: usize = 64;
/// How often it is looked for them then, at most and at least.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long it is waited after a failure until the file is opened again; twice that after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Owns what is written: takes all calls that have come together, and commits them in one transaction.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// What the file holds; `None` after a failure, until the file was opened again.
    books: Option<Books>,
    failures: u32,
    not_before: Instant,
}

/// A ledger in a transaction.
struct Work {
    base: Base,
    now: Option<Arc<Ledger>>,
}

/// What the file has of a ledger when a transaction begins.
enum Base {
    Nothing,
    Known(Arc<Stored>),
    /// Something, which was not read, because all of it goes.
    Unknown,
}

/// A transaction under way.
struct Batch<'a, 'txn> {
    shared: &'a Shared,
    books: &'a mut Books,
    turns: TurnTable<'txn>,
    ledgers: LedgerTable<'txn>,
    works: HashMap<Scope, Work>,
    touched: HashSet<Scope>,
    tally: Tally,
}

/// What went in a transaction.
#[derive(Clone, Copy, Default)]
struct Tally {
    evicted_ledgers: u64,
    expired_ledgers: u64,
    evicted_turns: u64,
}

enum Outcome {
    Appended(usize),
    Removed(usize),
    Forgotten(bool),
    Done,
}

/// A ledger as a transaction has left it in the file.
type Written = (Scope, Option<Arc<Stored>>);

/// What a transaction has left in the file.
struct Committed {
    outcomes: Vec<Outcome>,
    ledgers: Vec<Written>,
    cleared: bool,
    tally: Tally,
}

/// What the writer does next.
struct Next {
    calls: Vec<Queued>,
    number: u64,
    at: u64,
    ends: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, books: Books) -> Self {
        Self { shared, books: Some(books), failures: 0, not_before: Instant::now() }
    }

    pub(super) fn run(mut self) {
        loop {
            let next = self.next();
            if next.ends {
                return;
            }
            self.process(next);
        }
    }

    /// Waits for calls, or until expired ledgers may be purged.
    fn next(&self) -> Next {
        let Shared { overlay, wake, clock, .. } = &*self.shared;
        let mut state = overlay.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = self.shared.life().div_f64(16.0).clamp(REST.0, REST.1);
        while state.queue.is_empty() && !state.closing {
            let (woken, timeout) = wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() {
                break;
            }
        }
        let ends = state.queue.is_empty() && state.closing;
        // What takes everything is a transaction of its own.
        let is_clear = |queued: &Queued| matches!(queued.call, Call::Clear(_));
        let count = match state.queue.iter().position(is_clear) {
            Some(0) => 1,
            Some(at) => at,
            None => state.queue.len(),
        };
        let calls: Vec<Queued> = state.queue.drain(..count).collect();
        let number = match calls.last() {
            Some(last) => last.number,
            None => {
                // Everything before is in the file.
                state.last += 1;
                state.last
            }
        };
        let at = state.stamp(clock.now());
        Next { calls, number, at, ends }
    }

    fn process(&mut self, Next { calls, number, at, .. }: Next) {
        let at_rest = calls.is_empty();
        if self.books.is_none() || self.shared.file.is_broken() {
            self.books = None;
            if at_rest || !self.mend() {
                self.fail(calls, number, "the file of the store is out of order");
                return;
            }
        }
        let needs_transaction = !calls.iter().all(|queued| matches!(queued.call, Call::Flush(_) | Call::Mend));
        if at_rest && !self.is_purge_due(at) || !at_rest && !needs_transaction {
            self.publish(calls, number, None);
            return;
        }
        let Some(books) = &mut self.books else { return };
        let shared = &*self.shared;
        let outcome = shared.file.call(|database| {
            let transaction = database.begin_write()?;
            let committed = if matches!(calls.first(), Some(Queued { call: Call::Clear(_), .. })) {
                transaction.delete_table(TURNS)?;
                transaction.delete_table(LEDGERS)?;
                transaction.open_table(TURNS)?;
                transaction.open_table(LEDGERS)?;
                *books = Books::default();
                Committed { outcomes: vec![Outcome::Done], ledgers: Vec::new(), cleared: true, tally: Tally::default() }
            } else {
                let mut batch = Batch {
                    shared,
                    books,
                    turns: transaction.open_table(TURNS)?,
                    ledgers: transaction.open_table(LEDGERS)?,
                    works: HashMap::new(),
                    touched: HashSet::new(),
                    tally: Tally::default(),
                };
                let outcomes = calls.iter().map(|queued| batch.apply(queued)).collect::<Result<_, _>>()?;
                if at_rest {
                    batch.purge(PURGED_AT_REST, at);
                }
                let (ledgers, tally) = batch.write()?;
                Committed { outcomes, ledgers, cleared: false, tally }
            };
            file::number(&transaction, number)?;
            transaction.commit()?;
            Ok(committed)
        });
        match outcome {
            Ok(committed) => {
                self.failures = 0;
                self.publish(calls, number, Some(committed));
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(error = %source, calls = calls.len(), "writes of the store on disk have failed");
                self.books = None;
                self.pause();
                self.fail(calls, number, &source);
            }
        }
    }

    fn is_purge_due(&self, at: u64) -> bool {
        let oldest = self.books.as_ref().and_then(Books::oldest);
        oldest.is_some_and(|(_, used)| self.shared.is_expired(used, at))
    }

    fn pause(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + pause;
    }

    /// Opens the file again after a failure, unless the last attempt was just now.
    fn mend(&mut self) -> bool {
        if Instant::now() < self.not_before {
            return false;
        }
        match self.shared.file.reopen() {
            Ok(opened) => {
                let mut books = opened.books;
                let mut state = self.shared.lock();
                // Loads may have extended lives in the meantime.
                for (scope, used) in &state.live {
                    books.touch(scope, *used);
                }
                // What was being written may be in the file, or not.
                state.warm.clear();
                state.live = books.iter().map(|(scope, entry)| (*scope, entry.used)).collect();
                state.committed = opened.applied;
                drop(state);
                self.shared.tell(&books);
                self.books = Some(books);
                tracing::info!("the file of the store was opened again");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the file of the store could not be opened again");
                self.pause();
                false
            }
        }
    }

    /// Lets loads see what is in the file now, and answers.
    fn publish(&self, calls: Vec<Queued>, number: u64, committed: Option<Committed>) {
        let mut state = self.shared.lock();
        let mut outcomes = Vec::new();
        if let Some(committed) = committed {
            if committed.cleared {
                state.live.clear();
                state.warm.clear();
            }
            for (scope, stored) in committed.ledgers {
                let entry = self.books.as_ref().and_then(|books| books.get(&scope));
                match (stored, entry) {
                    (Some(stored), Some(entry)) => {
                        // A load may have extended its life while it was written.
                        let used = state.live.get(&scope).map_or(entry.used, |used| entry.used.max(*used));
                        state.live.insert(scope, used);
                        state.warm.put(&scope, stored);
                    }
                    _ => {
                        state.live.remove(&scope);
                        state.warm.remove(&scope);
                    }
                }
            }
            state.committed = number;
            outcomes = committed.outcomes;
            let counters = &self.shared.counters;
            counters.transactions.fetch_add(1, Ordering::Relaxed);
            counters.evicted_ledgers.fetch_add(committed.tally.evicted_ledgers, Ordering::Relaxed);
            counters.expired_ledgers.fetch_add(committed.tally.expired_ledgers, Ordering::Relaxed);
            counters.evicted_turns.fetch_add(committed.tally.evicted_turns, Ordering::Relaxed);
        }
        state.settle(&calls, number);
        drop(state);
        if let Some(books) = &self.books {
            self.shared.tell(books);
        }
        let mut outcomes = outcomes.into_iter();
        for queued in calls {
            // Whoever asked may have gone.
            match (queued.call, outcomes.next()) {
                (Call::Append(.., answer), Some(Outcome::Appended(evicted))) => {
                    drop(answer.send(Ok(Appended::new(evicted))));
                }
                (Call::Remove(.., answer), Some(Outcome::Removed(removed))) => drop(answer.send(Ok(removed))),
                (Call::Forget(_, answer), Some(Outcome::Forgotten(was))) => drop(answer.send(Ok(was))),
                (Call::Clear(answer) | Call::Flush(answer), _) => drop(answer.send(Ok(()))),
                _ => {}
            }
        }
    }

    fn fail(&self, calls: Vec<Queued>, number: u64, reason: &str) {
        self.shared.lock().settle(&calls, number);
        for queued in calls {
            let counted = !matches!(queued.call, Call::Touch(_) | Call::Mend);
            self.shared.counters.failed.fetch_add(u64::from(counted), Ordering::Relaxed);
            match queued.call {
                Call::Append(.., answer) => refuse(answer, reason),
                Call::Remove(.., answer) => refuse(answer, reason),
                Call::Forget(_, answer) => refuse(answer, reason),
                Call::Clear(answer) | Call::Flush(answer) => refuse(answer, reason),
                Call::Touch(_) | Call::Mend => {}
            }
        }
    }
}

impl Drop for Writer {
    /// Nobody waits for a writer that is gone.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let calls: Vec<Queued> = state.queue.drain(..).collect();
        let number = state.last;
        drop(state);
        self.fail(calls, number, "the store is closed");
    }
}

fn refuse<T>(answer: Answer<T>, reason: &str) {
    // Whoever asked may have gone.
    drop(answer.send(Err(StoreError::new(reason))));
}

impl Batch<'_, '_> {
    fn apply(&mut self, Queued { at, call, .. }: &Queued) -> Result<Outcome, redb::Error> {
        let at = *at;
        Ok(match call {
            Call::Append(scope, turn, _) => {
                let limits = &self.shared.limits;
                self.expire(scope, at);
                let ledger = Arc::make_mut(self.work(scope)?.now.get_or_insert_default());
                let gone = ledger.append(Arc::clone(turn), limits);
                let entry = Entry::of(ledger, at);
                self.tally.evicted_turns += gone as u64;
                self.books.set(scope, entry);
                self.purge(PURGED_PER_APPEND, at);
                Outcome::Appended(gone + self.make_room(scope))
            }
            Call::Remove(scope, items, _) => {
                self.expire(scope, at);
                if self.books.get(scope).is_none() {
                    return Ok(Outcome::Removed(0));
                }
                let ledger = Arc::make_mut(self.work(scope)?.now.get_or_insert_default());
                let removed = ledger.remove(items);
                let entry = Entry::of(ledger, at);
                if ledger.is_empty() {
                    self.take_out(scope);
                } else {
                    self.books.set(scope, entry);
                }
                Outcome::Removed(removed)
            }
            Call::Forget(scope, _) => {
                self.expire(scope, at);
                Outcome::Forgotten(self.take_out(scope).is_some())
            }
            Call::Touch(scope) => {
                if self.books.touch(scope, at) {
                    self.touched.insert(*scope);
                }
                Outcome::Done
            }
            Call::Clear(_) | Call::Flush(_) | Call::Mend => Outcome::Done,
        })
    }

    /// The ledger in this transaction, read if it was not yet.
    fn work(&mut self, scope: &Scope) -> Result<&mut Work, redb::Error> {
        if !self.works.contains_key(scope) {
            let work = if self.books.get(scope).is_none() {
                Work { base: Base::Nothing, now: None }
            } else {
                let warm = self.shared.lock().warm.get(scope);
                let stored = match warm {
                    Some(stored) => stored,
                    None => Arc::new(self.shared.file.read(&self.turns, scope)?),
                };
                let now = Some(Arc::clone(&stored.ledger));
                Work { base: Base::Known(stored), now }
            };
            self.works.insert(*scope, work);
        }
        Ok(self.works.entry(*scope).or_insert(Work { base: Base::Nothing, now: None }))
    }

    /// Takes a whole ledger out, if it is there.
    fn take_out(&mut self, scope: &Scope) -> Option<Entry> {
        let entry = self.books.remove(scope)?;
        self.works.entry(*scope).or_insert(Work { base: Base::Unknown, now: None }).now = None;
        Some(entry)
    }

    fn expire(&mut self, scope: &Scope, at: u64) {
        if self.books.get(scope).is_some_and(|entry| self.shared.is_expired(entry.used, at)) {
            self.take_out(scope);
            self.tally.expired_ledgers += 1;
        }
    }

    /// Lets a few expired ledgers go.
    fn purge(&mut self, count: usize, at: u64) {
        for _ in 0..count {
            match self.books.oldest() {
                Some((scope, used)) if self.shared.is_expired(used, at) => self.expire(&scope, at),
                _ => return,
            }
        }
    }

    /// Lets the ledgers go that were not used for longest, until the store is within its bounds; never that of
    /// `scope`, which was just written. Returns how many turns went.
    fn make_room(&mut self, scope: &Scope) -> usize {
        let mut turns = 0;
        while (self.books.len() > self.shared.max_ledgers || self.books.sum().bytes > self.shared.max_bytes)
            && let Some((oldest, _)) = self.books.oldest()
            && oldest != *scope
            && let Some(entry) = self.take_out(&oldest)
        {
            self.tally.evicted_ledgers += 1;
            self.tally.evicted_turns += entry.turns;
            turns += usize::try_from(entry.turns).unwrap_or(usize::MAX);
        }
        turns
    }

    /// Writes what has changed.
    fn write(mut self) -> Result<(Vec<Written>, Tally), redb::Error> {
        let mut ledgers = Vec::with_capacity(self.works.len());
        for (scope, Work { base, now }) in mem::take(&mut self.works) {
            let before = match (base, &now) {
                (Base::Nothing, _) => Arc::default(),
                (Base::Known(stored), Some(_)) => stored,
                (Base::Known(_) | Base::Unknown, _) => {
                    let (first, last) = (file::key(&scope, 0), file::key(&scope, u64::MAX));
                    self.turns.retain_in::<&[u8; 40], _>(&first..=&last, |_, _| false)?;
                    Arc::default()
                }
            };
            let stored = match now {
                Some(ledger) => Some(Arc::new(self.write_turns(&scope, &before, ledger)?)),
                None => None,
            };
            self.touched.remove(&scope);
            self.write_entry(&scope)?;
            ledgers.push((scope, stored));
        }
        for scope in mem::take(&mut self.touched) {
            self.write_entry(&scope)?;
        }
        Ok((ledgers, self.tally))
    }

    fn write_entry(&mut self, scope: &Scope) -> Result<(), redb::Error> {
        match self.books.get(scope) {
            Some(Entry { used, turns, items, bytes }) => {
                self.ledgers.insert(scope.as_bytes(), (*used, *turns, *items, *bytes))?;
            }
            None => drop(self.ledgers.remove(scope.as_bytes())?),
        }
        Ok(())
    }

    /// Makes the file hold these turns where it held others. Turns keep their order and new ones come last, so
    /// that one pass over both finds what has changed.
    fn write_turns(&mut self, scope: &Scope, before: &Stored, ledger: Arc<Ledger>) -> Result<Stored, redb::Error> {
        let mut rows = Vec::with_capacity(ledger.turns().len());
        let mut after = ledger.turns().peekable();
        for (row, former) in before.rows.iter().zip(before.ledger.turns()) {
            let key = file::key(scope, *row);
            match after.next_if(|turn| turn.id() == former.id()) {
                Some(turn) => {
                    if !Arc::ptr_eq(turn, former) && turn != former {
                        self.turns.insert(&key, &*file::encode(scope, turn))?;
                    }
                    rows.push(*row);
                }
                None => drop(self.turns.remove(&key)?),
            }
        }
        for row in &before.dead {
            self.turns.remove(&file::key(scope, *row))?;
        }
        let last = before.rows.iter().chain(&before.dead).max();
        let first = last.map_or(0, |last| last + 1);
        for (row, turn) in (first..).zip(after) {
            self.turns.insert(&file::key(scope, row), &*file::encode(scope, turn))?;
            rows.push(row);
        }
        Ok(Stored { ledger, rows, dead: Vec::new() })
    }
}
