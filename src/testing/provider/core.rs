//! The work that is the same in every protocol: reads a request, has it answered, records it, delivers the answer.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;

use super::{
    body::{self, ProviderBody, ProviderError},
    delivery::{Delivery, Gzip},
    read::Incoming,
    record::Recorded,
};

/// What one protocol makes of requests.
pub(crate) trait Fake: Send + Sync + 'static {
    /// Answers a request; one that is refused has [`Answer::refusal`].
    fn answer(&self, incoming: &Incoming<'_>) -> Answer;

    /// What it says with this status when it is out of order.
    fn outage(&self, status: StatusCode) -> Answer;
}

/// An answer before it is put into frames.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// Further headers.
    pub(crate) headers: HeaderMap,
    /// The body, event by event if it is a stream.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// Whether the length is unknown beforehand.
    pub(crate) stream: bool,
    /// The text of the refusal, if it is one.
    pub(crate) refusal: Option<String>,
    /// For the record: parts with valid state.
    pub(crate) genuine: usize,
    /// For the record: parts with an accepted sentinel.
    pub(crate) sentinels: usize,
}

impl Answer {
    /// An answer that is no stream.
    pub(crate) fn whole(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            headers: HeaderMap::new(),
            chunks: vec![body],
            stream: false,
            refusal: None,
            genuine: 0,
            sentinels: 0,
        }
    }

    /// A stream with status 200.
    pub(crate) fn stream(content_type: &'static str, events: Vec<Vec<u8>>) -> Self {
        Self { chunks: events, stream: true, ..Self::whole(StatusCode::OK, content_type, Vec::new()) }
    }
}

/// What all clones of a provider share.
pub(crate) struct Core<F> {
    fake: F,
    delivery: Delivery,
    arrived: AtomicUsize,
    accepted: AtomicUsize,
    refused: AtomicUsize,
    recorded: Mutex<Vec<Recorded>>,
    failures: Mutex<VecDeque<StatusCode>>,
}

impl<F: Fake> Core<F> {
    pub(crate) fn new(fake: F, delivery: Delivery) -> Self {
        Self {
            fake,
            delivery,
            arrived: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            recorded: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    pub(crate) fn fake(&self) -> &F {
        &self.fake
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        lock(&self.recorded).clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    pub(crate) fn fail_next(&self, status: StatusCode) {
        lock(&self.failures).push_back(status);
    }

    pub(crate) fn call<B>(self: Arc<Self>, request: Request<B>) -> ProviderFuture
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        ProviderFuture(Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = collect(body)
                .await
                .map_err(|error| ProviderError::because("the body of the request could not be read", error))?;
            let number = self.arrived.fetch_add(1, Ordering::SeqCst);
            let faulty = self.delivery.faulty(number);
            let answer = self.answer(&parts, &body, faulty);
            let response = self.respond(&parts, answer, body, faulty)?;
            if let Some(delay) = self.delivery.head_delay.filter(|_| faulty) {
                tokio::time::sleep(delay).await;
            }
            if self.delivery.cut_before_head && faulty {
                return Err(ProviderError::new("the connection was cut before the head of the response"));
            }
            Ok(response)
        }))
    }

    fn answer(&self, parts: &Parts, body: &Bytes, faulty: bool) -> Answer {
        let failure = lock(&self.failures).pop_front();
        if let Some(status) = failure {
            return self.fake.outage(status);
        }
        let answer = self.fake.answer(&Incoming { parts, body, faulty, end_early: self.delivery.end_early && faulty });
        let counter = if answer.refusal.is_some() { &self.refused } else { &self.accepted };
        counter.fetch_add(1, Ordering::SeqCst);
        answer
    }

    fn respond(
        &self,
        parts: &Parts,
        answer: Answer,
        body: Bytes,
        faulty: bool,
    ) -> Result<Response<ProviderBody>, ProviderError> {
        lock(&self.recorded).push(Recorded {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            body,
            status: answer.status,
            genuine: answer.genuine,
            sentinels: answer.sentinels,
            refusal: answer.refusal,
        });
        let (compress, label) = match self.delivery.gzip {
            Gzip::Never => (false, false),
            Gzip::Always => (true, true),
            Gzip::Unlabelled => (true, false),
            Gzip::IfAccepted => {
                let accepted = accepts_gzip(&parts.headers);
                (accepted, accepted)
            }
        };
        let chunks = if compress {
            body::gzip(answer.chunks)
                .map_err(|error| ProviderError::because("the body could not be compressed", error.into()))?
        } else {
            answer.chunks
        };
        let mut response = Response::new(ProviderBody::new(chunks, answer.stream, &self.delivery, faulty));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        *headers = answer.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        if label {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut words = coding.split(';').map(str::trim);
            words.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
                && !words.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
}

/// The answer under way.
pub struct ProviderFuture(Pin<Box<dyn Future<Output = Result<Response<ProviderBody>, ProviderError>> + Send>>);

impl Future for ProviderFuture {
    type Output = Result<Response<ProviderBody>, ProviderError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ProviderFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderFuture")
    }
}

async fn collect<B>(body: B) -> Result<Bytes, Box<dyn StdError + Send + Sync>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(Into::into)?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
