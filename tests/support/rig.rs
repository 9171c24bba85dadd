//! The layer between a scripted service and a store that is told how to be.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};
use tower_reasoning_replay::{
    ReplayLayer, ReplayService, Report, ResponseBody,
    engine::{Builder, Event, Summary},
};

use super::{
    body::{BodyError, Scripted},
    gemini,
    service::{Act, Inner, ServiceError},
    store::TestStore,
};

pub type Response = http::Response<ResponseBody<Scripted>>;

pub struct Rig {
    pub layer: ReplayLayer,
    pub store: TestStore,
    pub inner: Inner,
}

/// What a client got.
#[derive(Debug)]
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub frames: Vec<Bytes>,
    pub trailers: Option<HeaderMap>,
    pub error: Option<BodyError>,
    pub report: Option<Summary>,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.frames.concat()).into_owned()
    }

    #[track_caller]
    pub fn report(&self) -> Summary {
        self.report.expect("no report")
    }
}

impl Rig {
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Self::with(TestStore::new(), acts, |builder| builder)
    }

    pub fn with(
        store: TestStore,
        acts: impl IntoIterator<Item = Act>,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        Self::around(Inner::new(acts), store, configure)
    }

    pub fn around(inner: Inner, store: TestStore, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let layer = configure(ReplayLayer::builder(store.clone())).build_layer().unwrap();
        Self { layer, store, inner }
    }

    pub fn service(&self) -> ReplayService<Inner> {
        self.layer.layer(self.inner.clone())
    }

    pub async fn send(&self, request: Request<Scripted>) -> Result<Response, ServiceError> {
        let mut service = self.service();
        ServiceExt::<Request<Scripted>>::ready(&mut service).await?.call(request).await
    }

    pub async fn exchange(&self, request: Request<Scripted>) -> Got {
        drain(self.send(request).await.unwrap()).await
    }

    /// Posts this body in the name of the usual client.
    pub async fn post(&self, uri: &str, body: impl Into<Bytes>) -> Got {
        self.exchange(gemini::request(uri, body)).await
    }

    /// The first exchange of the conversation, so that the call is known.
    pub async fn learn(&self) {
        self.inner.will(super::service::whole(gemini::document()));
        let got = self.post(gemini::GENERATE, gemini::QUESTION).await;
        assert_eq!(got.report().learned, 2, "{got:?}");
    }

    pub fn count(&self, event: Event) -> u64 {
        self.layer.engine().counters().get(event)
    }
}

pub async fn drain(response: Response) -> Got {
    let (head, mut body) = response.into_parts();
    let report = head.extensions.get::<Report>().cloned();
    let (mut frames, mut trailers, mut error) = (Vec::new(), None, None);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => frames.push(data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
            Err(failed) => {
                error = Some(failed);
                break;
            }
        }
    }
    drop(body);
    Got {
        status: head.status,
        headers: head.headers,
        frames,
        trailers,
        error,
        report: report.map(|report| report.summary()),
    }
}
