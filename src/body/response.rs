use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::request::with_held;
use crate::engine::{Classifier, Commit, Committing, Observer, Timer};

pin_project! {
    /// The body of a response on its way to the client.
    ///
    /// Its frames are those of the inner body, each in the poll in which it came. Only the one that first
    /// shows the end of an answer waits until the turn is stored, for
    /// [`commit_wait`](crate::engine::Builder::commit_wait) at most. A store that answers at once, as the one in memory, does not make it wait.
    ///
    /// # Errors
    ///
    /// Those of the inner body, where they came.
    ///
    /// # Cancellation
    ///
    /// Dropping it before the end keeps the parts that were complete, provisionally: they are used only while
    /// no completed turn fits.
    pub struct ResponseBody<R: Body> {
        #[pin]
        inner: Option<R>,
        // What was held of an error body, and what follows it; or an answer of our own. There is no inner body then.
        before: VecDeque<Frame<Bytes>>,
        boxed: Option<Pin<Box<R>>>,
        error: Option<R::Error>,
        watching: Watching,
        waiting: Option<Box<Waiting<R::Error>>>,
        commit_wait: Duration,
    }

    impl<R: Body> PinnedDrop for ResponseBody<R> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // A client that goes away leaves what was complete behind.
            if let Some(waiting) = this.waiting.take() {
                waiting.committing.into_background();
            }
            let commit = match std::mem::replace(this.watching, Watching::Nothing) {
                Watching::Nothing => None,
                Watching::Observer(mut observer) => observer.interrupted(),
                Watching::Classifier(classifier) => classifier.finish(),
            };
            if let Some(commit) = commit {
                commit.run_in_background();
            }
        }
    }
}

enum Watching {
    Nothing,
    Observer(Box<Observer>),
    Classifier(Box<Classifier>),
}

/// Something that is passed on once a commit is done.
struct Waiting<E> {
    /// `None` is the end of the body.
    next: Option<Result<Frame<Bytes>, E>>,
    committing: Committing,
    timer: Timer,
}

impl<R: Body> ResponseBody<R> {
    fn new(inner: Option<R>, watching: Watching) -> Self {
        Self {
            inner,
            before: VecDeque::new(),
            boxed: None,
            error: None,
            watching,
            waiting: None,
            commit_wait: Duration::ZERO,
        }
    }

    pub(crate) fn pass(inner: R) -> Self {
        Self::new(Some(inner), Watching::Nothing)
    }

    pub(crate) fn observed(inner: R, observer: Box<Observer>, commit_wait: Duration) -> Self {
        let mut body = Self::new(Some(inner), Watching::Observer(observer));
        body.commit_wait = commit_wait;
        body
    }

    pub(crate) fn classified(inner: R, classifier: Box<Classifier>) -> Self {
        Self::new(Some(inner), Watching::Classifier(classifier))
    }

    /// An answer of our own.
    pub(crate) fn own(text: &'static str) -> Self {
        let mut body = Self::new(None, Watching::Nothing);
        body.before.push_back(Frame::data(Bytes::from_static(text.as_bytes())));
        body
    }

    /// A body of which some was held. A classifier has seen that, and is shown the rest.
    pub(crate) fn held(
        before: VecDeque<Frame<Bytes>>,
        rest: Option<Pin<Box<R>>>,
        error: Option<R::Error>,
        classifier: Option<Classifier>,
    ) -> Self {
        let watching = classifier.map_or(Watching::Nothing, |classifier| Watching::Classifier(Box::new(classifier)));
        let mut body = Self::new(None, watching);
        (body.before, body.boxed, body.error) = (before, rest, error);
        body
    }
}

impl<R: Body<Data = Bytes>> Body for ResponseBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let mut this = self.as_mut().project();
        if let Some(waiting) = this.waiting.as_deref_mut() {
            let done = Pin::new(&mut waiting.committing).poll(cx).is_ready();
            if !done && waiting.timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            return Poll::Ready(release(this.waiting, done));
        }
        // A frame is large, and is handed on from where it was first put.
        let (polled, ended);
        if let Some(mut inner) = this.inner.as_mut().as_pin_mut() {
            polled = inner.as_mut().poll_frame(cx);
            ended = polled.is_ready() && inner.is_end_stream();
        } else if let Some(frame) = this.before.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        } else if let Some(inner) = this.boxed {
            polled = inner.as_mut().poll_frame(cx);
            ended = polled.is_ready() && inner.is_end_stream();
        } else {
            return Poll::Ready(this.error.take().map(Err));
        }
        let Poll::Ready(next) = &polled else { return Poll::Pending };
        // Most frames lead to nothing.
        if let (Watching::Observer(observer), Some(Ok(frame))) = (&mut *this.watching, next)
            && let Some(data) = frame.data_ref()
            && !observer.read(data)
            && !ended
        {
            return polled;
        }
        let Some(commit) = watch(this.watching, next, ended) else { return polled };
        let Poll::Ready(next) = polled else { return Poll::Pending };
        hold_back(commit, next, this.waiting, *this.commit_wait, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.before.is_empty()
            && self.error.is_none()
            && self.waiting.is_none()
            && self.inner.as_ref().is_none_or(Body::is_end_stream)
            && self.boxed.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.before.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
        let waiting = self.waiting.as_ref().and_then(|waiting| waiting.next.as_ref()?.as_ref().ok()?.data_ref());
        let held = held + waiting.map_or(0, |data| data.len() as u64);
        let rest = self.boxed.as_ref().map(|rest| rest.size_hint());
        with_held(held, self.inner.as_ref().map(Body::size_hint).or(rest))
    }
}

/// Runs a commit, and passes on what leads to it: at once if that is done.
#[cold]
fn hold_back<E>(
    commit: Commit,
    next: Option<Result<Frame<Bytes>, E>>,
    waiting: &mut Option<Box<Waiting<E>>>,
    commit_wait: Duration,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, E>>> {
    let is_break = commit.is_provisional() || matches!(next, Some(Err(_)));
    let mut committing = commit.run();
    if Pin::new(&mut committing).poll(cx).is_ready() {
        return Poll::Ready(next);
    }
    if is_break {
        // A break is passed on at once; what it leaves behind goes its own way.
        committing.into_background();
        return Poll::Ready(next);
    }
    let mut timer = Timer::new(commit_wait);
    let over = timer.poll(cx).is_ready();
    *waiting = Some(Box::new(Waiting { next, committing, timer }));
    if over { Poll::Ready(release(waiting, false)) } else { Poll::Pending }
}

/// Passes on what waited. A commit that is not done goes on in the background.
fn release<E>(waiting: &mut Option<Box<Waiting<E>>>, done: bool) -> Option<Result<Frame<Bytes>, E>> {
    let waiting = *waiting.take()?;
    if !done {
        waiting.committing.is_late();
        waiting.committing.into_background();
    }
    waiting.next
}

/// Shows what the inner body gave to whoever watches. An observer has read its data.
fn watch<E>(watching: &mut Watching, next: &Option<Result<Frame<Bytes>, E>>, ended: bool) -> Option<Commit> {
    match watching {
        Watching::Nothing => None,
        Watching::Observer(observer) => {
            let mut commit = match next {
                Some(Ok(frame)) => match frame.data_ref() {
                    Some(_) => observer.commit(),
                    // Trailers come last.
                    None => observer.finish(),
                },
                Some(Err(_)) => observer.interrupted(),
                None => observer.finish(),
            };
            // A caller that asks whether this was the last frame does not poll again. What the end of the
            // body brings contains all that came before.
            if ended && let Some(last) = observer.finish() {
                commit = Some(last);
            }
            commit
        }
        Watching::Classifier(classifier) => {
            if let Some(Ok(frame)) = next
                && let Some(data) = frame.data_ref()
            {
                classifier.feed(data);
            }
            let over = ended || !matches!(next, Some(Ok(frame)) if frame.is_data());
            if !over {
                return None;
            }
            match std::mem::replace(watching, Watching::Nothing) {
                Watching::Classifier(classifier) => classifier.finish(),
                _ => None,
            }
        }
    }
}

impl<R: Body> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("observed", &matches!(self.watching, Watching::Observer(_)))
            .field("waiting", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}
