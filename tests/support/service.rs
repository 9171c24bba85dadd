//! An inner service that answers from a script, and panics when it is called unready.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, SizeHint};
use tower::Service;
use tower_reasoning_replay::RequestBody;

use super::body::{BodyError, Scripted, Step};

/// What the service does with a request.
pub enum Act {
    Answer(Response<Scripted>),
    Fail(u32),
    Hang,
}

/// How the service answers when it is asked whether it is ready.
#[derive(Clone, Copy, Debug)]
pub enum Ready {
    Yes,
    NotYet,
    Fail(u32),
}

#[derive(Debug, PartialEq, Eq)]
pub struct ServiceError(pub u32);

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scripted failure")
    }
}

impl std::error::Error for ServiceError {}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The number of the instance that was called.
    pub instance: usize,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub frames: Vec<Bytes>,
    pub trailers: Option<HeaderMap>,
    pub error: Option<u32>,
    pub hint: SizeHint,
    /// It had ended before the first poll.
    pub ended_at_once: bool,
}

impl Seen {
    pub fn body(&self) -> Vec<u8> {
        self.frames.concat()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }
}

#[derive(Default)]
struct Shared {
    acts: Mutex<VecDeque<Act>>,
    readiness: Mutex<VecDeque<Ready>>,
    seen: Mutex<Vec<Seen>>,
    instances: AtomicUsize,
    leaves_body: bool,
}

/// Clones share the script; each is ready for itself.
pub struct Inner {
    shared: Arc<Shared>,
    instance: usize,
    ready: bool,
}

impl Inner {
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        let shared = Shared { acts: Mutex::new(acts.into_iter().collect()), ..Shared::default() };
        Self { shared: Arc::new(shared), instance: 0, ready: false }
    }

    /// Answers without a look at the body.
    pub fn leaving_the_body(acts: impl IntoIterator<Item = Act>) -> Self {
        let shared = Shared { acts: Mutex::new(acts.into_iter().collect()), leaves_body: true, ..Shared::default() };
        Self { shared: Arc::new(shared), instance: 0, ready: false }
    }

    pub fn will(&self, act: Act) -> &Self {
        self.shared.acts.lock().unwrap().push_back(act);
        self
    }

    /// Drops what was not asked for.
    pub fn clear(&self) {
        self.shared.acts.lock().unwrap().clear();
    }

    pub fn readiness(&self, readiness: impl IntoIterator<Item = Ready>) {
        self.shared.readiness.lock().unwrap().extend(readiness);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("no request arrived")
    }

    pub fn instance(&self) -> usize {
        self.instance
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        let instance = self.shared.instances.fetch_add(1, Ordering::SeqCst) + 1;
        Self { shared: self.shared.clone(), instance, ready: false }
    }
}

impl<B> Service<Request<RequestBody<B>>> for Inner
where
    B: Body<Data = Bytes, Error = BodyError> + Send + 'static,
{
    type Response = Response<Scripted>;
    type Error = ServiceError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Scripted>, ServiceError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServiceError>> {
        match self.shared.readiness.lock().unwrap().pop_front().unwrap_or(Ready::Yes) {
            Ready::Yes => {
                self.ready = true;
                Poll::Ready(Ok(()))
            }
            Ready::NotYet => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ready::Fail(code) => Poll::Ready(Err(ServiceError(code))),
        }
    }

    fn call(&mut self, request: Request<RequestBody<B>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "instance {} was called unready", self.instance);
        let (head, body) = request.into_parts();
        let mut seen = Seen {
            instance: self.instance,
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            frames: Vec::new(),
            trailers: None,
            error: None,
            hint: body.size_hint(),
            ended_at_once: body.is_end_stream(),
        };
        let shared = self.shared.clone();
        Box::pin(async move {
            if !shared.leaves_body {
                let mut body = pin!(body);
                while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                    match frame {
                        Ok(frame) => match frame.into_data() {
                            Ok(data) => seen.frames.push(data),
                            Err(frame) => seen.trailers = frame.into_trailers().ok(),
                        },
                        Err(BodyError(code)) => {
                            seen.error = Some(code);
                            break;
                        }
                    }
                }
            }
            shared.seen.lock().unwrap().push(seen);
            let act = shared.acts.lock().unwrap().pop_front();
            match act.expect("the script is over") {
                Act::Answer(response) => Ok(response),
                Act::Fail(code) => Err(ServiceError(code)),
                Act::Hang => std::future::pending().await,
            }
        })
    }
}

/// An answer with this body.
pub fn answer(body: Scripted) -> Act {
    Act::Answer(Response::new(body))
}

/// An answer in these frames.
pub fn frames(frames: &[Bytes]) -> Act {
    answer(Scripted::of(frames))
}

/// An answer in one frame.
pub fn whole(text: impl Into<Bytes>) -> Act {
    answer(Scripted::new([Step::Data(text.into())]))
}

/// A refusal, in one frame.
pub fn refusal(status: u16, text: impl Into<Bytes>) -> Act {
    refusal_as(status, Scripted::new([Step::Data(text.into())]))
}

pub fn refusal_as(status: u16, body: Scripted) -> Act {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("x-first", "yes".parse().unwrap());
    Act::Answer(response)
}
