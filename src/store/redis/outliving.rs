use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{runtime::Handle, time::Instant};

use super::breaker::{Breaker, PATIENCE};
use crate::store::StoreError;

type Work<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Work that goes on in the background when nobody waits for it any more, so that what was slow to come is there for
/// the next one who asks. It ends by itself.
pub(super) struct Outliving<T: Send + 'static, B: AsRef<Breaker>> {
    work: Option<Work<T>>,
    began: Option<Instant>,
    given_up: Arc<AtomicBool>,
    breaker: B,
}

impl<T: Send, B: AsRef<Breaker>> Outliving<T, B> {
    /// The work is told by the flag that it was given up, which the breaker has heard of then.
    pub(super) fn new(breaker: B, given_up: Arc<AtomicBool>, work: Work<T>) -> Self {
        Self { work: Some(work), began: None, given_up, breaker }
    }
}

impl<T: Send, B: AsRef<Breaker> + Unpin> Future for Outliving<T, B> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.began.get_or_insert_with(Instant::now);
        let Some(work) = &mut this.work else { return Poll::Pending };
        let outcome = std::task::ready!(work.as_mut().poll(cx));
        this.work = None;
        Poll::Ready(outcome)
    }
}

impl<T: Send, B: AsRef<Breaker>> Drop for Outliving<T, B> {
    fn drop(&mut self) {
        let (Some(work), Some(began), Ok(runtime)) = (self.work.take(), self.began, Handle::try_current()) else {
            return;
        };
        // Earlier it was the client who went away.
        if began.elapsed() >= PATIENCE && !self.given_up.swap(true, Ordering::Relaxed) {
            self.breaker.as_ref().failed();
            runtime.spawn(work);
        }
    }
}
