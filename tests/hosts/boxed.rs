//! Boxed services, as gateways keep them in their state.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use tower::{
    Layer, ServiceExt,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, ReplayService, RequestBody, ResponseFuture,
    testing::gemini::{GeminiProvider, ProviderBody, ProviderError},
};

use crate::talk::{provider, talk};

type Body = Full<Bytes>;

#[test]
fn a_service_can_be_shared_and_sent() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<ReplayLayer>();
    shared::<ReplayService<GeminiProvider>>();
    shared::<ReplayService<BoxCloneSyncService<Request<RequestBody<Body>>, Response<Body>, ProviderError>>>();
    sent::<ResponseFuture<GeminiProvider, Body, ProviderBody>>();
}

#[tokio::test]
async fn boxed_services_of_every_kind_replay() {
    let stack = || {
        let inner = provider().build();
        (inner.clone(), ReplayLayer::new(MemoryStore::new()).layer(inner))
    };
    let (inner, service) = stack();
    talk(&mut BoxCloneSyncService::new(service)).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
    let (inner, service) = stack();
    talk(&mut BoxCloneService::new(service)).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
    let (inner, service) = stack();
    talk(&mut BoxService::new(service)).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
}

/// Boxes on both sides, with boxed bodies: what a gateway of plugins has.
#[tokio::test]
async fn a_boxed_service_inside_and_boxed_bodies_replay() {
    let inner = provider().build();
    let upstream = inner.clone().map_request(|request: Request<BoxBody<Bytes, _>>| request);
    let upstream = BoxCloneSyncService::new(upstream);
    let service = ReplayLayer::new(MemoryStore::new())
        .layer(upstream.map_request(|request: Request<RequestBody<Body>>| request.map(BodyExt::boxed)))
        .map_response(|response| response.map(BodyExt::boxed));
    talk(&mut BoxCloneSyncService::new(service)).await;
    assert_eq!((inner.accepted(), inner.refused()), (2, 0));
}
