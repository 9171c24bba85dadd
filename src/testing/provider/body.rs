//! The body of an answer, with its frames, pauses and accidents.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    future::Future,
    io::Write,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::delivery::{Chunks, Delivery};

/// A connection that broke, or a request that could not be read.
#[derive(Debug)]
pub struct ProviderError {
    what: &'static str,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ProviderError {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, source: None }
    }

    pub(crate) fn because(what: &'static str, source: Box<dyn StdError + Send + Sync>) -> Self {
        Self { what, source: Some(source) }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl StdError for ProviderError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

enum Step {
    Chunk(Bytes),
    Pause(Duration),
    Cut,
    Trailers(HeaderMap),
}

/// The body of the provider's answers.
pub struct ProviderBody {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    exact: Option<u64>,
}

impl ProviderBody {
    /// A body of these chunks, with the frames and, if `faulty`, the accidents that are configured.
    pub(crate) fn new(chunks: Vec<Vec<u8>>, stream: bool, delivery: &Delivery, faulty: bool) -> Self {
        let mut chunks: Vec<Bytes> = match delivery.chunks {
            Chunks::Events => chunks.into_iter().map(Bytes::from).collect(),
            Chunks::Whole => vec![chunks.concat().into()],
            Chunks::Bytes(size) => {
                let whole = Bytes::from(chunks.concat());
                (0..whole.len())
                    .step_by(size.max(1))
                    .map(|start| whole.slice(start..whole.len().min(start.saturating_add(size.max(1)))))
                    .collect()
            }
        };
        chunks.retain(|chunk| !chunk.is_empty());
        let mut steps = VecDeque::new();
        let mut left = delivery.cut_after.filter(|_| faulty).unwrap_or(usize::MAX);
        let mut cut = false;
        let count = chunks.len();
        let pauses = |at: usize, steps: &mut VecDeque<Step>| {
            for (_, pause) in delivery.stalls.iter().filter(|(before, _)| faulty && *before == at) {
                steps.push_back(Step::Pause(*pause));
            }
        };
        let mut exact = 0;
        for (at, mut chunk) in chunks.into_iter().enumerate() {
            pauses(at, &mut steps);
            exact += chunk.len() as u64;
            cut = left < chunk.len();
            chunk.truncate(left);
            left = left.saturating_sub(chunk.len());
            if !chunk.is_empty() {
                steps.push_back(Step::Chunk(chunk));
            }
            if cut {
                steps.push_back(Step::Cut);
                break;
            }
        }
        if !cut {
            pauses(count, &mut steps);
            if delivery.trailers {
                let mut trailers = HeaderMap::new();
                trailers.insert(HeaderName::from_static("x-provider-trailer"), HeaderValue::from_static("end"));
                steps.push_back(Step::Trailers(trailers));
            }
        }
        let exact = (!stream && !delivery.trailers).then_some(exact);
        Self { steps, pause: None, exact }
    }
}

impl Body for ProviderBody {
    type Data = Bytes;
    type Error = ProviderError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProviderError>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            return Poll::Ready(match self.steps.pop_front() {
                None => None,
                Some(Step::Pause(pause)) => {
                    self.pause = Some(Box::pin(tokio::time::sleep(pause)));
                    continue;
                }
                Some(Step::Chunk(chunk)) => {
                    self.exact = self.exact.map(|exact| exact.saturating_sub(chunk.len() as u64));
                    Some(Ok(Frame::data(chunk)))
                }
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Cut) => {
                    self.steps.clear();
                    Some(Err(ProviderError::new("the connection was cut while the body was under way")))
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pause.is_none() && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for ProviderBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderBody").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// Compresses chunk for chunk, so that each can be read when it comes.
pub(crate) fn gzip(chunks: Vec<Vec<u8>>) -> std::io::Result<Vec<Vec<u8>>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut out = Vec::with_capacity(chunks.len() + 1);
    for chunk in chunks {
        encoder.write_all(&chunk)?;
        encoder.flush()?;
        out.push(std::mem::take(encoder.get_mut()));
    }
    out.push(encoder.finish()?);
    Ok(out)
}
