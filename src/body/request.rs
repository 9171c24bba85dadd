use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::wire::buffers::{Buffer, Buffers};

pin_project! {
    /// The body of a request on its way to the inner service.
    ///
    /// It is the body that came, never read; or the frames in which that came, or one patched frame; or
    /// what was read before a limit or an error, and then the rest or that error.
    ///
    /// # Errors
    ///
    /// Those of the caller's body, where they came. A request is not failed for them before the inner
    /// service has seen them.
    pub struct RequestBody<B: Body> {
        #[pin]
        untouched: Option<B>,
        frames: VecDeque<Bytes>,
        rest: Option<Pin<Box<B>>>,
        trailers: Option<HeaderMap>,
        error: Option<B::Error>,
    }
}

impl<B: Body> RequestBody<B> {
    pub(crate) fn untouched(body: B) -> Self {
        Self { untouched: Some(body), ..Self::frames(VecDeque::new()) }
    }

    /// A copy of what is left of the body, if all of that is in memory: it shares the bytes. A body that was
    /// patched, or read to its end, is; one that was never read, is longer than the limit, or failed, is not.
    ///
    /// Retry and redirect policies inside of the layer need it, whatever the kind of body:
    ///
    /// ```
    /// use http::Request;
    /// use tower_reasoning_replay::RequestBody;
    ///
    /// fn clone_request<B: http_body::Body>(request: &Request<RequestBody<B>>) -> Option<Request<RequestBody<B>>> {
    ///     let mut clone = Request::new(request.body().try_clone()?);
    ///     *clone.method_mut() = request.method().clone();
    ///     *clone.uri_mut() = request.uri().clone();
    ///     *clone.version_mut() = request.version();
    ///     *clone.headers_mut() = request.headers().clone();
    ///     *clone.extensions_mut() = request.extensions().clone();
    ///     Some(clone)
    /// }
    /// # let request = Request::new(RequestBody::<http_body_util::Full<bytes::Bytes>>::default());
    /// # assert!(clone_request(&request).is_some());
    /// ```
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        let is_held =
            self.untouched.as_ref().is_none_or(Body::is_end_stream) && self.rest.is_none() && self.error.is_none();
        is_held.then(|| Self { trailers: self.trailers.clone(), ..Self::frames(self.frames.clone()) })
    }

    fn frames(frames: VecDeque<Bytes>) -> Self {
        Self { untouched: None, frames, rest: None, trailers: None, error: None }
    }

    pub(crate) fn whole(body: Bytes) -> Self {
        let frames = if body.is_empty() { VecDeque::new() } else { VecDeque::from([body]) };
        Self::frames(frames)
    }

    /// The body, if it is in one piece: for clients whose own bodies say whether they can be sent again.
    #[cfg(any(feature = "reqwest-0-12", feature = "reqwest-0-13"))]
    pub(crate) fn as_whole(&self) -> Option<Bytes> {
        let is_whole = self.untouched.is_none()
            && self.rest.is_none()
            && self.trailers.is_none()
            && self.error.is_none()
            && self.frames.len() <= 1;
        is_whole.then(|| self.frames.front().cloned().unwrap_or_default())
    }
}

impl<B: Body> Default for RequestBody<B> {
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

/// Where the caller's body can be cloned. [`try_clone`](RequestBody::try_clone) asks nothing of it.
impl<B> Clone for RequestBody<B>
where
    B: Body + Clone,
    B::Error: Clone,
{
    fn clone(&self) -> Self {
        Self {
            untouched: self.untouched.clone(),
            frames: self.frames.clone(),
            rest: self.rest.clone(),
            trailers: self.trailers.clone(),
            error: self.error.clone(),
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(body) = this.untouched.as_pin_mut() {
            return body.poll_frame(cx);
        }
        if let Some(frame) = this.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if let Some(rest) = this.rest {
            return rest.as_mut().poll_frame(cx);
        }
        if let Some(error) = this.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
            && self.error.is_none()
            && self.trailers.is_none()
            && self.untouched.as_ref().is_none_or(Body::is_end_stream)
            && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held: u64 = self.frames.iter().map(|frame| frame.len() as u64).sum();
        if self.error.is_some() {
            let mut hint = SizeHint::new();
            hint.set_lower(held);
            return hint;
        }
        let rest = self.rest.as_ref().map(|rest| rest.size_hint());
        with_held(held, self.untouched.as_ref().map(Body::size_hint).or(rest))
    }
}

/// The hint of a body before which `held` bytes come.
pub(super) fn with_held(held: u64, rest: Option<SizeHint>) -> SizeHint {
    let hint = rest.unwrap_or_else(|| SizeHint::with_exact(0));
    let mut sum = SizeHint::new();
    sum.set_lower(hint.lower().saturating_add(held));
    if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(held)) {
        sum.set_upper(upper);
    }
    sum
}

impl<B: Body> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("frames", &self.frames.len())
            .field("rest", &self.rest.is_some())
            .finish_non_exhaustive()
    }
}

/// However short the limit, a body may have so many frames.
const MIN_FRAMES: usize = 1 << 10;

/// So much room is made for a body before it is there.
const MAX_EXPECTED: usize = 4 << 20;

/// Reads a body, up to a limit.
pub(crate) struct Collect<B: Body> {
    body: Option<Pin<Box<B>>>,
    frames: VecDeque<Bytes>,
    /// The frames in one piece, if they are more than one.
    joined: Option<Buffer>,
    buffers: Buffers,
    length: usize,
    limit: usize,
    trailers: Option<HeaderMap>,
}

/// What came of reading a body.
pub(crate) enum Collected<B: Body> {
    /// All of it: in one piece to be read, and in the frames in which it came.
    Whole { whole: Bytes, body: RequestBody<B>, has_trailers: bool },
    /// It is longer than the limit, or it failed: it goes on as it would have come.
    Resumed(RequestBody<B>),
}

impl<B: Body<Data = Bytes>> Collect<B> {
    pub(crate) fn new(body: B, limit: usize, buffers: Buffers) -> Self {
        let body = Some(Box::pin(body));
        Self { body, frames: VecDeque::new(), joined: None, buffers, length: 0, limit, trailers: None }
    }

    /// Takes in a frame. It is copied at once if it is not the only one: then it is still at hand.
    fn push(&mut self, data: Bytes) {
        let before = self.length;
        self.length = before.saturating_add(data.len());
        if self.length <= self.limit && before > 0 && !data.is_empty() {
            let joined = self.joined.get_or_insert_with(|| {
                let to_come = self.body.as_ref().map_or(0, |body| body.size_hint().lower());
                let expected = self.length.saturating_add(usize::try_from(to_come).unwrap_or(usize::MAX));
                // Who says how much comes need not send it.
                let room = expected.min(self.limit).min(self.length.max(MAX_EXPECTED));
                let mut joined = self.buffers.take(room);
                self.frames.iter().for_each(|frame| joined.extend_from_slice(frame));
                joined
            });
            joined.extend_from_slice(&data);
        }
        self.frames.push_back(data);
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Collected<B>> {
        let error = loop {
            let Some(body) = &mut self.body else { break None };
            match ready!(body.as_mut().poll_frame(cx)) {
                None => break None,
                Some(Err(error)) => break Some(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.push(data);
                        // A body of empty frames alone would be read for ever.
                        if self.length > self.limit || self.frames.len() > self.limit.max(MIN_FRAMES) {
                            let rest = self.body.take();
                            let frames = std::mem::take(&mut self.frames);
                            let body = RequestBody { rest, ..RequestBody::frames(frames) };
                            return Poll::Ready(Collected::Resumed(body));
                        }
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        };
        let frames = std::mem::take(&mut self.frames);
        let trailers = self.trailers.take();
        let has_trailers = trailers.is_some();
        if error.is_some() {
            let body = RequestBody { trailers, error, ..RequestBody::frames(frames) };
            return Poll::Ready(Collected::Resumed(body));
        }
        let only = || frames.iter().find(|frame| !frame.is_empty()).cloned().unwrap_or_default();
        let whole = self.joined.take().map_or_else(only, Buffer::freeze);
        let body = RequestBody { trailers, ..RequestBody::frames(frames) };
        Poll::Ready(Collected::Whole { whole, body, has_trailers })
    }
}
