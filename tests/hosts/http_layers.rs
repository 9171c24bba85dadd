//! The middlewares of tower-http around the layer and inside of it.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    decompression::DecompressionLayer,
    follow_redirect::{FollowRedirectLayer, policy::clone_body_fn},
    limit::RequestBodyLimitLayer,
    map_request_body::MapRequestBodyLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveHeadersLayer,
    trace::TraceLayer,
};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, RequestBody,
    engine::Event,
    testing::gemini::{GeminiProvider, Gzip},
};

use crate::{
    support::gemini::GENERATE,
    talk::{ask, provider, send, talk, talk_to},
};

type Body = Full<Bytes>;

fn layer() -> ReplayLayer {
    ReplayLayer::new(MemoryStore::new())
}

#[tokio::test]
async fn decompression_inside_shows_the_layer_what_the_provider_compressed() {
    let inner = provider().gzip(Gzip::Always).build();
    let layer = ReplayLayer::builder(MemoryStore::new()).decompression_inside(true).build_layer().unwrap();
    let mut client = ServiceBuilder::new().layer(layer).layer(DecompressionLayer::new()).service(inner.clone());
    talk(&mut client).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
    assert!(inner.requests().iter().all(|request| request.headers["accept-encoding"] == "gzip"));
}

#[tokio::test]
async fn decompression_outside_finds_nothing_to_do() {
    let inner = provider().gzip(Gzip::IfAccepted).build();
    let mut client = ServiceBuilder::new().layer(DecompressionLayer::new()).layer(layer()).service(inner.clone());
    talk(&mut client).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
    assert!(inner.requests().iter().all(|request| request.headers["accept-encoding"] == "identity"));
}

/// A gateway that compresses for its clients.
#[tokio::test]
async fn compression_outside_does_not_hide_the_answer() {
    let inner = provider().build();
    let stack = ServiceBuilder::new().layer(CompressionLayer::new()).layer(layer()).service(inner.clone());
    let mut compressed = stack.clone().map_request(|mut request: Request<Body>| {
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        request
    });
    let question = [serde_json::json!({"role": "user", "parts": [{"text": "How is the weather?"}]})];
    let response = send(&mut compressed, ask(GENERATE, &question)).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.body()[..2], [0x1f, 0x8b]);
    talk(&mut DecompressionLayer::new().layer(stack)).await;
    assert_eq!((inner.accepted(), inner.refused()), (3, 0));
}

/// Answers each request once with a redirection to the same path elsewhere.
fn redirecting(
    inner: &GeminiProvider,
) -> impl tower::Service<
    Request<RequestBody<Body>>,
    Response = Response<http_body_util::Either<Body, tower_reasoning_replay::testing::gemini::ProviderBody>>,
    Error = BoxError,
    Future: Send,
> + Clone
+ use<> {
    let inner = inner.clone();
    service_fn(move |request: Request<RequestBody<Body>>| {
        let inner = inner.clone();
        async move {
            if request.uri().host() == Some("old.example") {
                let path = request.uri().path().to_owned();
                let response = Response::builder()
                    .status(StatusCode::TEMPORARY_REDIRECT)
                    .header("location", format!("https://generativelanguage.googleapis.com{path}"));
                return Ok(response.body(http_body_util::Either::Left(Body::default()))?);
            }
            let response = inner.oneshot(request).await?;
            Ok::<_, BoxError>(response.map(http_body_util::Either::Right))
        }
    })
}

#[tokio::test]
async fn a_redirection_takes_the_patched_body_along() {
    let old = GENERATE.replace("generativelanguage.googleapis.com", "old.example");
    let inner = provider().build();
    let inside = FollowRedirectLayer::with_policy(clone_body_fn(RequestBody::<Body>::try_clone));
    let mut client = ServiceBuilder::new().layer(layer()).layer(inside).service(redirecting(&inner));
    talk_to(&mut client, &old).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));

    let inner = provider().build();
    let outside = FollowRedirectLayer::with_policy(clone_body_fn(|body: &Body| Some(body.clone())));
    let mut client = ServiceBuilder::new().layer(outside).layer(layer()).service(redirecting(&inner));
    talk_to(&mut client, &old).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
}

#[tokio::test]
async fn common_layers_work_on_either_side() {
    let inner = provider().build();
    let layer = layer();
    let mut client = ServiceBuilder::new()
        .layer(SetSensitiveHeadersLayer::new([header::AUTHORIZATION]))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(TraceLayer::new_for_http())
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(CatchPanicLayer::new())
        .layer(RequestBodyLimitLayer::new(4096))
        .layer(layer.clone())
        .layer(MapRequestBodyLayer::new(|body| body))
        .layer(TraceLayer::new_for_http())
        .layer(PropagateRequestIdLayer::x_request_id())
        .service(inner.clone());
    talk(&mut client).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
    assert!(inner.requests().iter().all(|request| request.headers.contains_key("x-request-id")));
    // A body over the limit of the gateway is refused by that, and nothing goes upstream.
    let long = [serde_json::json!({"role": "user", "parts": [{"text": "x".repeat(5000)}]})];
    let response = send(&mut client, ask(GENERATE, &long)).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(inner.requests().len(), 2);
}

#[tokio::test]
async fn a_panic_inside_is_caught_outside_and_the_next_request_goes_on() {
    let inner = provider().build();
    let layer = layer();
    let served = inner.clone();
    let panicking = service_fn(move |request: Request<RequestBody<_>>| {
        assert!(!request.headers().contains_key("x-panic"), "as it was told");
        served.clone().oneshot(request)
    });
    let mut client = ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(layer.clone()).service(panicking);
    let mut request = ask(GENERATE, &[]);
    request.headers_mut().insert("x-panic", HeaderValue::from_static("yes"));
    let response = send(&mut client, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    talk(&mut client).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
    assert_eq!(layer.engine().counters().get(Event::Restored), 1);
}
