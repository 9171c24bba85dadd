//! Many open streams in one process.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_reasoning_replay::{MemoryStore, ReplayLayer, ResponseBody};

use crate::{
    talk::Dialect,
    workload::{
        now,
        talk::{self, Says},
    },
};

/// How many events there are, and how many of them come again and again.
const EVENTS: usize = 1_000;
const AGAIN: usize = 300;
/// After so many, every stream is in its text.
pub(crate) const SETTLED: usize = EVENTS - AGAIN;

/// An answer that says its next event when it is time, and waits in between.
pub(crate) struct Paced {
    time: Arc<AtomicUsize>,
    events: Arc<[Bytes]>,
    said: usize,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.said == self.time.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let over = self.said.checked_sub(EVENTS).map(|over| EVENTS - AGAIN + over % AGAIN);
        let event = self.events[over.unwrap_or(self.said)].clone();
        self.said += 1;
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}

/// Streams of one gateway.
pub(crate) struct Streams {
    time: Arc<AtomicUsize>,
    bodies: Vec<ResponseBody<Paced>>,
}

/// The events that all streams of a dialect say; the last of them again and again.
pub(crate) fn script(dialect: Dialect) -> Arc<[Bytes]> {
    // Thoughts and text, without calls, which belong to what is remembered.
    let stream = match dialect {
        Dialect::Gemini => talk::stream(dialect, Says::Text),
        _ => talk::events(dialect, EVENTS, Says::Text),
    };
    let events = talk::frames(&stream).into_iter().take(EVENTS);
    let events: Arc<[Bytes]> = events.map(|event| Bytes::copy_from_slice(&event)).collect();
    // Bytes that were shared once take some more.
    events.iter().for_each(|event| drop(event.clone()));
    events
}

impl Streams {
    pub(crate) fn open(dialect: Dialect, events: &Arc<[Bytes]>, count: usize) -> Self {
        let time = Arc::new(AtomicUsize::new(0));
        let (clock, script) = (time.clone(), events.clone());
        let provider = service_fn(move |_: Request<_>| {
            let body = Paced { time: clock.clone(), events: script.clone(), said: 0 };
            let response = Response::builder().header("content-type", "text/event-stream").body(body).unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let layer = ReplayLayer::builder(MemoryStore::new()).build_layer().unwrap();
        let mut service = layer.layer(provider);
        let bodies = (0..count)
            .map(|_| {
                let request = Request::from_parts(dialect.head(), Full::new(dialect.question()));
                now(service.call(request)).unwrap().into_body()
            })
            .collect();
        Self { time, bodies }
    }

    /// Has all of them say their next event.
    pub(crate) fn say(&mut self) {
        self.time.fetch_add(1, Ordering::Relaxed);
        assert_eq!(self.poll(), self.bodies.len(), "an event did not pass in the poll in which it came");
    }

    /// Polls all of them, and tells how many had something to say.
    pub(crate) fn poll(&mut self) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let polls = self.bodies.iter_mut().map(|body| Pin::new(body).poll_frame(&mut context));
        polls.filter(|poll| matches!(poll, Poll::Ready(Some(Ok(_))))).count()
    }
}
