use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Whoever drops a reply earlier than this does not say that the server was slow: clients go away all the time.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

/// Knows whether the server answers, so that a dead one is not waited for again and again.
pub(super) struct Breaker {
    failures: u32,
    interval: Duration,
    state: Mutex<State>,
    opened: AtomicU64,
}

#[derive(Default)]
struct State {
    /// How many operations failed since one succeeded.
    failed: u32,
    /// While open: when the next operation may try.
    next_probe: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(failures: u32, interval: Duration) -> Self {
        Self { failures, interval, state: Mutex::default(), opened: AtomicU64::new(0) }
    }

    /// How often it has opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().next_probe.is_some()
    }

    /// Whether an operation would be refused now.
    pub(super) fn refuses(&self) -> bool {
        self.state().next_probe.is_some_and(|at| Instant::now() < at)
    }

    /// Lets an operation begin; `None` while open, but for one in each interval.
    pub(super) fn admit(&self) -> Option<Watch<'_>> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(next) = &mut state.next_probe {
            if now < *next {
                return None;
            }
            *next = now + self.interval;
        }
        Some(Watch { breaker: self, began: now, over: false })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self) {
        *self.state() = State::default();
    }

    pub(super) fn failed(&self) {
        let mut state = self.state();
        state.failed = state.failed.saturating_add(1);
        if state.failed >= self.failures && state.next_probe.is_none() {
            state.next_probe = Some(Instant::now() + self.interval);
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An operation under way. Dropped without a word after some time, it was waited for in vain.
pub(super) struct Watch<'a> {
    breaker: &'a Breaker,
    began: Instant,
    over: bool,
}

impl Watch<'_> {
    pub(super) fn succeeded(mut self) {
        self.over = true;
        self.breaker.succeeded();
    }

    pub(super) fn failed(mut self) {
        self.over = true;
        self.breaker.failed();
    }

    /// It says nothing about the server.
    pub(super) fn void(mut self) {
        self.over = true;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.over && self.began.elapsed() >= PATIENCE {
            self.breaker.failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit().unwrap().failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_so_many_failures_in_a_row_and_lets_one_try_in_each_interval() {
        let breaker = Breaker::new(3, SECOND);
        fail(&breaker, 2);
        breaker.admit().unwrap().succeeded();
        fail(&breaker, 2);
        assert!(!breaker.is_open());
        fail(&breaker, 1);
        assert!(breaker.is_open() && breaker.refuses() && breaker.admit().is_none());
        for _ in 0..3 {
            advance(SECOND).await;
            assert!(!breaker.refuses());
            let probe = breaker.admit().unwrap();
            assert!(breaker.refuses() && breaker.admit().is_none());
            probe.failed();
        }
        assert_eq!(breaker.opened(), 1);
        advance(SECOND).await;
        breaker.admit().unwrap().succeeded();
        assert!(!breaker.is_open());
        fail(&breaker, 2);
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_late_has_failed_and_what_is_dropped_early_says_nothing() {
        let breaker = Breaker::new(2, SECOND);
        for _ in 0..10 {
            drop(breaker.admit().unwrap());
            breaker.admit().unwrap().void();
        }
        assert!(!breaker.is_open());
        for _ in 0..2 {
            let watch = breaker.admit().unwrap();
            advance(PATIENCE).await;
            drop(watch);
        }
        assert!(breaker.is_open());
    }

    /// Whatever becomes of a probe, the next one goes an interval later.
    #[tokio::test(start_paused = true)]
    async fn a_probe_that_never_ends_does_not_keep_it_open() {
        let breaker = Breaker::new(1, SECOND);
        fail(&breaker, 1);
        advance(SECOND).await;
        let stuck = breaker.admit().unwrap();
        advance(SECOND).await;
        breaker.admit().unwrap().succeeded();
        assert!(!breaker.is_open());
        stuck.void();
    }
}
