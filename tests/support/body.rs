//! A body that does what its script says.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// What a body does next.
#[derive(Clone, Debug)]
pub enum Step {
    Data(Bytes),
    /// Not yet; wakes at once.
    Pending,
    /// Not yet, for so long.
    Wait(Duration),
    /// Never again.
    Hang,
    Error(u32),
    Trailers(HeaderMap),
}

pub fn bytes(data: impl Into<Bytes>) -> Step {
    Step::Data(data.into())
}

pub fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", "end".parse().unwrap());
    trailers
}

/// What an error of a body was.
#[derive(Debug, PartialEq, Eq)]
pub struct BodyError(pub u32);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scripted error")
    }
}

impl std::error::Error for BodyError {}

/// What was done to a body.
#[derive(Debug, Default)]
pub struct Log {
    polls: AtomicUsize,
    dropped: AtomicBool,
}

impl Log {
    pub fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    pub fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub struct Scripted {
    steps: VecDeque<Step>,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
    marks_end: bool,
    exact: bool,
    claims: Option<u64>,
    log: Arc<Log>,
}

impl Scripted {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps = steps.into_iter().collect();
        Self { steps, wait: None, marks_end: false, exact: false, claims: None, log: Arc::default() }
    }

    pub fn of(frames: &[Bytes]) -> Self {
        Self::new(frames.iter().cloned().map(Step::Data))
    }

    /// Says with its last frame that it is the last.
    pub fn marks_end(mut self) -> Self {
        self.marks_end = true;
        self
    }

    /// Knows its length.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Says that so much is still to come, whatever that is.
    pub fn claims(mut self, length: u64) -> Self {
        self.claims = Some(length);
        self
    }

    pub fn log(&self) -> Arc<Log> {
        self.log.clone()
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.log.polls.fetch_add(1, Ordering::SeqCst);
        loop {
            if let Some(wait) = &mut this.wait {
                std::task::ready!(wait.as_mut().poll(cx));
                this.wait = None;
            }
            return Poll::Ready(match this.steps.pop_front() {
                None => None,
                Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Error(code)) => Some(Err(BodyError(code))),
                Some(Step::Pending) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Wait(time)) => {
                    this.wait = Some(Box::pin(tokio::time::sleep(time)));
                    continue;
                }
                Some(Step::Hang) => {
                    this.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.marks_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(claim) = self.claims {
            return SizeHint::with_exact(claim);
        }
        if !self.exact {
            return SizeHint::default();
        }
        let length = self.steps.iter().map(|step| if let Step::Data(data) = step { data.len() as u64 } else { 0 });
        SizeHint::with_exact(length.sum())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.log.dropped.store(true, Ordering::SeqCst);
    }
}
