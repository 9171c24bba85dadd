//! Retries, limits and timeouts around the layer and inside of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, retry::Policy, service_fn};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, RequestBody,
    engine::Event,
    testing::gemini::{ProviderBody, ProviderError},
};

use crate::{
    support::{
        body::{Scripted, Step},
        gemini::{FOLLOW_UP, GENERATE, INVALID, QUESTION, document, error, post, request, restored},
        rig::drain,
        service::{Inner, refusal, refusal_as, whole},
    },
    talk::{provider, talk},
};

/// Sends again what failed, as far as the body can be cloned.
#[derive(Clone)]
struct Again(usize);

impl<B: Body, R, E> Policy<Request<RequestBody<B>>, R, E> for Again {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Request<RequestBody<B>>, result: &mut Result<R, E>) -> Option<Self::Future> {
        (result.is_err() && self.0 > 0).then(|| {
            self.0 -= 1;
            std::future::ready(())
        })
    }

    fn clone_request(&mut self, request: &Request<RequestBody<B>>) -> Option<Request<RequestBody<B>>> {
        let mut clone = Request::post(request.uri()).body(request.body().try_clone()?).ok()?;
        *clone.headers_mut() = request.headers().clone();
        Some(clone)
    }
}

/// The caller's body cannot be cloned. What the layer has read can.
#[tokio::test]
async fn a_retry_inside_of_the_layer_sends_the_patched_body_again() {
    let inner = provider().build();
    let calls = Arc::new(AtomicUsize::new(0));
    let (served, counted) = (inner.clone(), calls.clone());
    // Every other attempt fails.
    let flaky = service_fn(move |request: Request<RequestBody<_>>| {
        let fails = counted.fetch_add(1, Ordering::SeqCst) % 2 == 0;
        let served = served.clone();
        async move {
            if fails {
                return Err(BoxError::from("reset"));
            }
            served.oneshot(request).await.map_err(BoxError::from)
        }
    });
    let client = ServiceBuilder::new()
        .map_request(|request: Request<Full<Bytes>>| {
            request.map(|body| body.map_err(|never| -> ProviderError { match never {} }).boxed_unsync())
        })
        .layer(ReplayLayer::new(MemoryStore::new()))
        .retry(Again(1))
        .service(flaky);
    let client: tower::util::BoxService<_, http::Response<tower_reasoning_replay::ResponseBody<ProviderBody>>, _> =
        tower::util::BoxService::new(client);
    talk(&mut { client }).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

/// A slot of a rate limit inside is taken by the second attempt, which waits for it.
#[tokio::test(start_paused = true)]
async fn a_second_attempt_waits_for_the_rate_limit() {
    let inner = Inner::new([whole(document()), refusal(400, error(400, INVALID)), whole("{}")]);
    let layer = ReplayLayer::new(MemoryStore::new());
    let upstream = ServiceBuilder::new()
        .buffer::<Request<RequestBody<Scripted>>>(4)
        .rate_limit(1, Duration::from_secs(10))
        .service(inner.clone());
    let client = layer.layer(upstream);
    let response = client.clone().oneshot(request(GENERATE, QUESTION)).await.unwrap();
    drain(response).await;
    let begin = Instant::now();
    let response = client.oneshot(request(GENERATE, FOLLOW_UP)).await.unwrap();
    assert_eq!(drain(response).await.text(), "{}");
    assert_eq!(layer.engine().counters().get(Event::Healed), 1);
    assert!(begin.elapsed() >= Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(inner.seen()[1].text(), restored());
}

/// What is shed inside is shed for the client: the error is the same, watched or not.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_shed_is_shed_for_the_client() {
    let busy = service_fn(|_: Request<RequestBody<Full<Bytes>>>| {
        std::future::pending::<Result<http::Response<Full<Bytes>>, BoxError>>()
    });
    let upstream = ServiceBuilder::new().load_shed().concurrency_limit(1).service(busy);
    let client = ReplayLayer::new(MemoryStore::new()).layer(upstream);
    let ask = |uri: &str| post(uri).body(Full::from(FOLLOW_UP)).unwrap();
    let first = tokio::spawn(client.clone().oneshot(ask(GENERATE)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    for uri in [GENERATE, "https://generativelanguage.googleapis.com/v1beta/models"] {
        let shed = client.clone().oneshot(ask(uri)).await.unwrap_err();
        assert!(shed.is::<tower::load_shed::error::Overloaded>(), "{uri}: {shed}");
    }
    first.abort();
}

/// A caller that times out while its body is read, or while an error is held, leaves nothing behind: the
/// bodies are dropped, and so are the permits.
#[tokio::test(start_paused = true)]
async fn a_timeout_while_reading_or_holding_gives_back_permits_and_bodies() {
    let stuck = Scripted::new([Step::Data(error(400, INVALID).into()), Step::Hang]);
    let stuck_log = stuck.log();
    let inner = Inner::new([whole(document()), refusal_as(400, stuck), whole("{}")]);
    let limited = ServiceBuilder::new().concurrency_limit(1).service(inner.clone());
    let client = ServiceBuilder::new()
        .timeout(Duration::from_millis(500))
        .layer(ReplayLayer::new(MemoryStore::new()))
        .service(limited);
    let hanging = Scripted::new([Step::Data(Bytes::from_static(b"{\"contents\"")), Step::Hang]);
    let log = hanging.log();
    let failed = client.clone().oneshot(post(GENERATE).body(hanging).unwrap()).await.unwrap_err();
    assert!(failed.is::<tower::timeout::error::Elapsed>());
    assert!(log.is_dropped());
    assert!(inner.seen().is_empty());

    drain(client.clone().oneshot(request(GENERATE, QUESTION)).await.unwrap()).await;
    let failed = client.clone().oneshot(request(GENERATE, FOLLOW_UP)).await.unwrap_err();
    assert!(failed.is::<tower::timeout::error::Elapsed>());
    assert!(stuck_log.is_dropped());

    let response = client.clone().oneshot(request(GENERATE, FOLLOW_UP)).await.unwrap();
    assert_eq!(drain(response).await.text(), "{}");
    assert_eq!(inner.last().text(), restored(), "nothing is forgotten without an answer");
}
