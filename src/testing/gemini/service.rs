//! The service itself, and what it remembers of its requests.

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use tower_service::Service;

use super::{
    body::{ProviderBody, ProviderError},
    config::{Builder, Config},
    exchange::{Shared, lock},
    vault::Issued,
};

/// A strict fake of the Gemini API, Vertex AI and Cloud Code.
///
/// Clones share one provider. It is always ready.
#[derive(Clone)]
pub struct GeminiProvider {
    shared: Arc<Shared>,
}

/// A request that the provider saw, and what it made of it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The URI.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body, as it came.
    pub body: Bytes,
    /// The status of the answer.
    pub status: StatusCode,
    /// Parts that carried a signature which was valid there, as far as the provider got in reading.
    pub genuine: usize,
    /// Parts that carried an accepted sentinel.
    pub sentinels: usize,
    /// The text of the refusal, if it was refused.
    pub refusal: Option<String>,
}

/// Does not show headers or the body.
impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("bytes", &self.body.len())
            .field("status", &self.status)
            .field("genuine", &self.genuine)
            .field("sentinels", &self.sentinels)
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl Default for GeminiProvider {
    fn default() -> Self {
        Self::with(Config::default())
    }
}

impl fmt::Debug for GeminiProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeminiProvider")
            .field("accepted", &self.accepted())
            .field("refused", &self.refused())
            .finish_non_exhaustive()
    }
}

impl GeminiProvider {
    /// A provider with every switch at its default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets up a provider.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn with(config: Config) -> Self {
        Self { shared: Arc::new(Shared::new(config)) }
    }

    /// Every request whose body was read to its end, in the order in which they were answered.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.recorded).clone()
    }

    /// Every signature that was issued, also those of answers whose bytes never all arrived.
    #[must_use]
    pub fn issued(&self) -> Vec<Issued> {
        self.shared.vault.issued().iter().map(|issued| Issued::clone(issued)).collect()
    }

    /// How many requests passed every check.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many requests were refused, in whatever form.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Makes every signature issued so far invalid, as if the keys had been changed.
    pub fn revoke_signatures(&self) {
        self.shared.vault.revoke_all();
    }

    /// Answers the next request with this status whatever it holds; several calls queue up. Such a request counts
    /// neither as accepted nor as refused.
    pub fn fail_next(&self, status: StatusCode) {
        lock(&self.shared.failures).push_back(status);
    }
}

impl<B> Service<Request<B>> for GeminiProvider
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response<ProviderBody>;
    type Error = ProviderError;
    type Future = ProviderFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ProviderError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ProviderFuture {
        let shared = Arc::clone(&self.shared);
        ProviderFuture(Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = collect(body)
                .await
                .map_err(|error| ProviderError::because("the body of the request could not be read", error))?;
            let number = shared.arrived.fetch_add(1, Ordering::SeqCst);
            let faulty = shared.config.faults_only_at.is_none_or(|only| only == number);
            let answer = shared.answer(&parts, &body);
            let response = shared.response(&parts, answer, body, faulty)?;
            if let Some(delay) = shared.config.head_delay.filter(|_| faulty) {
                tokio::time::sleep(delay).await;
            }
            if shared.config.cut_before_head && faulty {
                return Err(ProviderError::new("the connection was cut before the head of the response"));
            }
            Ok(response)
        }))
    }
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
