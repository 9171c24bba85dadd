use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    request, response,
};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    body::{Collect, Collected, RequestBody, ResponseBody},
    dialect::Wanted,
    engine::{Answer, Engine, Exchange, Held, Loading, Prepare, Remedy, Step, Timer, Watch},
};

pin_project! {
    /// The future of a [`ReplayService`](crate::ReplayService).
    ///
    /// A request that is not watched costs no allocation here: the future is the inner one.
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the inner future. Nothing is learned, and nothing is forgotten, without an answer.
    ///
    /// # Panics
    ///
    /// If polled again after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<RequestBody<B>>>,
        B: Body,
        R: Body,
    {
        #[pin]
        call: Call<S::Future>,
        work: Option<Box<Work<S, B, R>>>,
    }
}

pin_project! {
    #[project = CallProjection]
    enum Call<F> {
        None,
        Running { #[pin] future: F },
    }
}

const POLLED_AGAIN: &str = "a response future was polled after it was ready";

/// What a watched request needs besides the call.
struct Work<S, B: Body, R: Body> {
    service: S,
    engine: Engine,
    watch: Watch,
    head: request::Parts,
    exchange: Option<Exchange>,
    /// Others had their turn since the call was made.
    yielded: bool,
    stage: Stage<B, R>,
}

enum Stage<B: Body, R: Body> {
    Collecting(Collect<B>),
    Preparing { prepare: Prepare, body: Option<RequestBody<B>> },
    Calling,
    Holding(Box<Holding<R>>),
    Reloading { load: Box<Loading>, wanted: Wanted, first: First<R> },
    Readying { body: Bytes, first: First<R> },
    Retrying { first: First<R> },
    Over,
}

/// An answer that the client may get: the first, if there is no better one.
type First<R> = Option<Box<Response<ResponseBody<R>>>>;

/// An error body, as far as it is held.
struct Holding<R: Body> {
    head: response::Parts,
    body: Pin<Box<R>>,
    frames: VecDeque<Frame<Bytes>>,
    length: usize,
    held: Held,
    timer: Timer,
    state: HoldState<R::Error>,
}

enum HoldState<E> {
    Going,
    Whole,
    TooLong,
    Failed(E),
}

impl<S, B, R> ResponseFuture<S, B, R>
where
    S: Service<Request<RequestBody<B>>>,
    B: Body<Data = Bytes>,
    R: Body,
{
    pub(crate) fn pass(future: S::Future) -> Self {
        Self { call: Call::Running { future }, work: None }
    }

    pub(crate) fn watch(service: S, engine: Engine, watch: Watch, mut head: request::Parts, body: B) -> Self {
        engine.shape(&watch, &mut head.headers);
        let stage = Stage::Collecting(Collect::new(body, engine.max_request(), engine.buffers().clone()));
        let work = Work { service, engine, watch, head, exchange: None, yielded: false, stage };
        Self { call: Call::None, work: Some(Box::new(work)) }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(work) = this.work.as_deref_mut() else {
            return match this.call.project() {
                CallProjection::Running { future } => {
                    future.poll(cx).map_ok(|response| response.map(ResponseBody::pass))
                }
                CallProjection::None => panic!("{POLLED_AGAIN}"),
            };
        };
        loop {
            match &mut work.stage {
                Stage::Collecting(collect) => {
                    let collected = ready!(collect.poll(cx));
                    let Some(request) = work.collected(collected) else { continue };
                    this.call.set(Call::Running { future: work.service.call(request) });
                    work.stage = Stage::Calling;
                }
                Stage::Preparing { prepare, body } => {
                    let exchange = ready!(Pin::new(prepare).poll(cx));
                    let body = body.take().unwrap_or_default();
                    match work.prepared(exchange, body) {
                        Ok(request) => {
                            this.call.set(Call::Running { future: work.service.call(request) });
                            work.stage = Stage::Calling;
                        }
                        Err(response) => return Poll::Ready(Ok(*response)),
                    }
                }
                Stage::Calling => {
                    let CallProjection::Running { future } = this.call.as_mut().project() else {
                        panic!("{POLLED_AGAIN}")
                    };
                    let Poll::Ready(outcome) = future.poll(cx) else {
                        // The request is handed over, but whoever sends it may run on this very thread: let
                        // it go first. What follows then costs nobody any time.
                        if !std::mem::replace(&mut work.yielded, true) {
                            cx.waker().wake_by_ref();
                        } else if let Some(exchange) = &mut work.exchange {
                            exchange.settle();
                        }
                        return Poll::Pending;
                    };
                    this.call.set(Call::None);
                    work.stage = Stage::Over;
                    if let Some(response) = work.answered(outcome?) {
                        return Poll::Ready(Ok(*response));
                    }
                }
                Stage::Holding(holding) => {
                    ready!(holding.poll(cx));
                    if let Some(response) = work.held() {
                        return Poll::Ready(Ok(*response));
                    }
                }
                Stage::Reloading { load, wanted, first } => {
                    let loaded = ready!(load.poll(cx)).and_then(Result::ok).flatten();
                    let (wanted, first) = (*wanted, first.take());
                    let remedy = work.exchange.as_mut().map(|exchange| exchange.reloaded(loaded.as_deref(), wanted));
                    if let Some(response) = work.retry_or(remedy.unwrap_or(Remedy::None), first) {
                        return Poll::Ready(Ok(*response));
                    }
                }
                Stage::Readying { body, first } => {
                    // An error here is not for the client to see: there is an answer.
                    let is_ready = ready!(work.service.poll_ready(cx)).is_ok();
                    let (body, first) = (body.clone(), first.take());
                    work.stage = Stage::Over;
                    match first {
                        Some(first) if !is_ready => return Poll::Ready(Ok(*first)),
                        first => {
                            let request = work.request(body);
                            this.call.set(Call::Running { future: work.service.call(request) });
                            work.stage = Stage::Retrying { first };
                        }
                    }
                }
                Stage::Retrying { first } => {
                    let CallProjection::Running { future } = this.call.as_mut().project() else {
                        panic!("{POLLED_AGAIN}")
                    };
                    let second = ready!(future.poll(cx)).ok();
                    let first = first.take();
                    work.stage = Stage::Over;
                    this.call.set(Call::None);
                    if let Some(response) = work.retried(second, first) {
                        return Poll::Ready(Ok(*response));
                    }
                }
                Stage::Over => panic!("{POLLED_AGAIN}"),
            }
        }
    }
}

impl<S, B, R> Work<S, B, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    /// A request to be sent at once; `None` if it has to be prepared first.
    fn collected(&mut self, collected: Collected<B>) -> Option<Request<RequestBody<B>>> {
        match collected {
            Collected::Resumed(body) => {
                self.engine.count_unread(&self.watch);
                Some(Request::from_parts(self.head.clone(), body))
            }
            Collected::Whole { whole, body, has_trailers } => {
                if has_trailers {
                    self.watch.leave_unpatched();
                }
                let prepare = self.engine.prepare(self.watch.clone(), &self.head, whole);
                self.stage = Stage::Preparing { prepare, body: Some(body) };
                None
            }
        }
    }

    /// The request to be sent, or an answer of our own.
    fn prepared(
        &mut self,
        exchange: Exchange,
        body: RequestBody<B>,
    ) -> Result<Request<RequestBody<B>>, Box<Response<ResponseBody<R>>>> {
        if exchange.is_failed() {
            let text = "{\"error\":{\"code\":503,\"message\":\"the store of reasoning state cannot be reached\",\"status\":\"UNAVAILABLE\"}}";
            let mut response = Response::new(ResponseBody::own(text));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response.extensions_mut().insert(exchange.report().clone());
            return Err(Box::new(response));
        }
        exchange.shape(&mut self.head.headers);
        let request = match exchange.patched() {
            Some(patched) => self.request(patched.clone()),
            None => Request::from_parts(self.head.clone(), body),
        };
        self.exchange = Some(exchange);
        Ok(request)
    }

    /// A request with another body.
    fn request(&self, body: Bytes) -> Request<RequestBody<B>> {
        let mut head = self.head.clone();
        if head.headers.contains_key(CONTENT_LENGTH) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Request::from_parts(head, RequestBody::whole(body))
    }

    /// The response for the client; `None` if more is to be done first.
    fn answered(&mut self, response: Response<R>) -> Option<Box<Response<ResponseBody<R>>>> {
        let Some(exchange) = &mut self.exchange else {
            return Some(Box::new(response.map(ResponseBody::pass)));
        };
        let (mut head, body) = response.into_parts();
        head.extensions.insert(exchange.report().clone());
        let body = match exchange.answer(&head) {
            Answer::Pass => ResponseBody::pass(body),
            Answer::Observe(observer) => ResponseBody::observed(body, observer, self.engine.commit_wait()),
            Answer::Classify(classifier) => ResponseBody::classified(body, classifier),
            Answer::Hold(held) => {
                self.stage = Stage::Holding(Box::new(Holding::new(head, body, held)));
                return None;
            }
        };
        self.stage = Stage::Over;
        Some(Box::new(Response::from_parts(head, body)))
    }

    /// The body was held to its end, or as far as it may be.
    fn held(&mut self) -> Option<Box<Response<ResponseBody<R>>>> {
        let Stage::Holding(holding) = std::mem::replace(&mut self.stage, Stage::Over) else { return None };
        let Holding { head, body, frames, state, .. } = *holding;
        let status = head.status;
        let exchange = self.exchange.as_mut()?;
        let seen = || frames.iter().filter_map(Frame::data_ref);
        match state {
            HoldState::Whole => {
                let whole: Vec<u8> = seen().flatten().copied().collect();
                let step = exchange.remedy(status, &whole);
                let first = Response::from_parts(head, ResponseBody::held(frames, None, None, None));
                match step {
                    Step::Settled(remedy) => self.retry_or(remedy, Some(Box::new(first))),
                    Step::Forget(commit, remedy) => {
                        commit.run_in_background();
                        self.retry_or(remedy, Some(Box::new(first)))
                    }
                    Step::Reload(load, wanted) => {
                        self.stage = Stage::Reloading { load, wanted, first: Some(Box::new(first)) };
                        None
                    }
                }
            }
            HoldState::Going | HoldState::TooLong | HoldState::Failed(_) => {
                let mut classifier = exchange.classifier(status);
                if let Some(classifier) = &mut classifier {
                    seen().for_each(|data| classifier.feed(data));
                }
                let (rest, error) = match state {
                    HoldState::Failed(error) => (None, Some(error)),
                    _ => (Some(body), None),
                };
                let body = ResponseBody::held(frames, rest, error, classifier);
                Some(Box::new(Response::from_parts(head, body)))
            }
        }
    }

    /// The first answer, unless there is something better to send.
    fn retry_or(&mut self, remedy: Remedy, first: First<R>) -> First<R> {
        match remedy {
            Remedy::Retry(body) => {
                // The instance that made the first call is used up; a fresh one is polled to readiness.
                self.service = self.service.clone();
                self.stage = Stage::Readying { body, first };
                None
            }
            Remedy::None => first,
        }
    }

    /// What the client gets after the second attempt.
    fn retried(&mut self, second: Option<Response<R>>, first: First<R>) -> First<R> {
        let Some(exchange) = &mut self.exchange else { return first };
        let Some(second) = second else { return first };
        let (head, body) = second.into_parts();
        if exchange.retried(&head) {
            return self.answered(Response::from_parts(head, body));
        }
        first
    }
}

impl<R: Body<Data = Bytes>> Holding<R> {
    fn new(head: response::Parts, body: R, held: Held) -> Self {
        Self {
            head,
            body: Box::pin(body),
            frames: VecDeque::new(),
            length: 0,
            held,
            timer: Timer::new(held.time),
            state: HoldState::Going,
        }
    }

    /// Ready when the body is whole, or when it will not be held any longer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.length <= self.held.bytes {
            let frame = match self.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    self.state = HoldState::Failed(error);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => {
                    self.state = HoldState::Whole;
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    ready!(self.timer.poll(cx));
                    break;
                }
            };
            // An empty frame counts too, or a body of nothing else would be held for ever.
            self.length += frame.data_ref().map_or(0, |data| data.len().max(1));
            self.frames.push_back(frame);
        }
        self.state = HoldState::TooLong;
        Poll::Ready(())
    }
}

impl<S, B, R> fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<RequestBody<B>>>,
    B: Body,
    R: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("watched", &self.work.is_some()).finish_non_exhaustive()
    }
}
