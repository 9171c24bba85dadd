//! What a provider remembers of its requests.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

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
    /// Parts that carried state of the provider which was valid there, as far as the provider got in reading.
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
