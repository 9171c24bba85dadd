//! The layer among tower's own middlewares, in either order.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, retry::Policy, service_fn, util::BoxCloneSyncService};
use tower_reasoning_replay::{MemoryStore, ReplayLayer, RequestBody, ResponseBody, engine::Event};

use crate::support::gemini::*;

type Body = Full<Bytes>;
type Upstream = BoxCloneSyncService<Request<RequestBody<Body>>, Response<Body>, BoxError>;
type Client = BoxCloneSyncService<Request<Body>, Response<ResponseBody<Body>>, BoxError>;

/// A status and a body, or what went wrong.
type Reply = Result<(u16, String), &'static str>;

/// What went upstream, and what is answered.
#[derive(Clone, Default)]
struct Wire {
    sent: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<Reply>>>,
}

impl Wire {
    fn upstream(&self) -> Upstream {
        let wire = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: Request<RequestBody<Body>>| {
            let wire = wire.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let length = head.headers.get("content-length");
                assert!(length.is_none_or(|length| *length == body.len().to_string()), "the length is right");
                wire.sent.lock().unwrap().push(String::from_utf8(body.to_vec())?);
                // A call takes its time, so that those beside it would get in its way.
                tokio::time::sleep(Duration::from_millis(3)).await;
                let (status, text) = wire.answers.lock().unwrap().remove(0)?;
                Ok(Response::builder().status(status).body(Full::from(text))?)
            }
        }))
    }

    fn will(&self, answers: impl IntoIterator<Item = Reply>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn last(&self) -> String {
        self.sent.lock().unwrap().last().cloned().unwrap()
    }
}

fn ask(body: &str) -> Request<Body> {
    post(GENERATE).header("content-length", body.len()).body(Full::from(body.to_owned())).unwrap()
}

/// Sends again what failed, three times.
#[derive(Clone)]
struct Thrice(usize);

impl<R> Policy<Request<Body>, R, BoxError> for Thrice {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Request<Body>, result: &mut Result<R, BoxError>) -> Option<Self::Future> {
        (result.is_err() && self.0 > 0).then(|| {
            self.0 -= 1;
            std::future::ready(())
        })
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

/// The layer outside of everything, inside of everything, and between.
fn stacks(wire: &Wire, layer: &ReplayLayer) -> Vec<(&'static str, Client)> {
    let time = Duration::from_secs(5);
    let outside = ServiceBuilder::new()
        .layer(layer.clone())
        .buffer::<Request<RequestBody<Body>>>(1)
        .load_shed()
        .concurrency_limit(1)
        .timeout(time)
        .service(wire.upstream());
    let inside = ServiceBuilder::new()
        .buffer::<Request<Body>>(1)
        .concurrency_limit(1)
        .retry(Thrice(3))
        .timeout(time)
        .layer(layer.clone())
        .service(wire.upstream());
    let between = ServiceBuilder::new()
        .timeout(time)
        .concurrency_limit(1)
        .retry(Thrice(3))
        .layer(layer.clone())
        .timeout(time)
        .concurrency_limit(1)
        .buffer::<Request<RequestBody<Body>>>(1)
        .service(wire.upstream());
    vec![
        ("outside", BoxCloneSyncService::new(outside)),
        ("inside", BoxCloneSyncService::new(inside)),
        ("between", BoxCloneSyncService::new(between)),
    ]
}

async fn text(client: &Client, request: Request<Body>) -> (u16, String) {
    let response = client.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body: Result<_, Infallible> = response.into_body().collect().await;
    (status, String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap())
}

/// Replay and healing work among middlewares that wait for readiness and hold permits: nothing is called
/// unready, and the second attempt does not wait for the first one's permit.
#[tokio::test(start_paused = true)]
async fn the_layer_stacks_with_buffers_limits_timeouts_and_retries() {
    for at in 0..3 {
        let wire = Wire::default();
        let layer = ReplayLayer::new(MemoryStore::new());
        let (name, client) = stacks(&wire, &layer).swap_remove(at);
        wire.will([Ok((200, document())), Ok((200, "{}".to_owned()))]);
        assert_eq!(text(&client, ask(QUESTION)).await, (200, document()), "{name}");
        assert_eq!(text(&client, ask(FOLLOW_UP)).await, (200, "{}".to_owned()));
        assert_eq!(wire.last(), restored(), "{name}");
        // What was put in is bad: it goes once more, without.
        wire.will([Ok((400, error(400, INVALID))), Ok((200, "{}".to_owned()))]);
        assert_eq!(text(&client, ask(FOLLOW_UP)).await, (200, "{}".to_owned()), "{name}");
        assert_eq!(wire.last(), restored_with(SENTINEL), "{name}");
        // Refused twice: the first answer comes back.
        let other = FOLLOW_UP.replace("okz0loqw", "p2m8x4na");
        wire.will([Ok((400, error(400, MISSING))), Ok((400, error(400, "Something else.")))]);
        assert_eq!(text(&client, ask(&other)).await, (400, error(400, MISSING)), "{name}");
        // What fails on the second attempt fails for us alone.
        let layer = ReplayLayer::new(MemoryStore::new());
        let (name, client) = stacks(&wire, &layer).swap_remove(at);
        wire.will([Ok((400, error(400, MISSING))), Err("the connection is gone")]);
        assert_eq!(text(&client, ask(FOLLOW_UP)).await, (400, error(400, MISSING)), "{name}");
        assert_eq!(layer.engine().counters().get(Event::Retried), 1);
    }
}

/// Many at once through one permit: each gets through, watched or not.
#[tokio::test(start_paused = true)]
async fn calls_side_by_side_do_not_block_each_other() {
    for at in 1..3 {
        let wire = Wire::default();
        let (name, client) = stacks(&wire, &ReplayLayer::new(MemoryStore::new())).swap_remove(at);
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..40 {
            wire.will([Ok((200, document()))]);
            let request = match call % 3 {
                0 => ask(QUESTION),
                1 => ask(FOLLOW_UP),
                _ => Request::get("https://generativelanguage.googleapis.com/v1beta/models")
                    .body(Full::default())
                    .unwrap(),
            };
            let client = client.clone();
            calls.spawn(async move { text(&client, request).await });
        }
        for (status, body) in calls.join_all().await {
            assert_eq!((status, body), (200, document()), "{name}");
        }
    }
}

/// A retry policy outside of the layer sends the client's own request again, and that is prepared anew.
#[tokio::test(start_paused = true)]
async fn a_retry_outside_is_a_request_of_its_own() {
    for at in 1..3 {
        let wire = Wire::default();
        let layer = ReplayLayer::new(MemoryStore::new());
        let (name, client) = stacks(&wire, &layer).swap_remove(at);
        wire.will([Ok((200, document())), Err("reset"), Err("reset"), Ok((200, "{}".to_owned()))]);
        text(&client, ask(QUESTION)).await;
        assert_eq!(text(&client, ask(FOLLOW_UP)).await, (200, "{}".to_owned()), "{name}");
        assert_eq!(wire.sent.lock().unwrap()[1..], [restored(), restored(), restored()]);
    }
}

/// A timeout outside of the layer drops the call and everything that hangs on it.
#[tokio::test(start_paused = true)]
async fn a_timeout_outside_gives_up_the_call() {
    let wire = Wire::default();
    let layer = ReplayLayer::new(MemoryStore::new());
    let upstream = ServiceBuilder::new().concurrency_limit(1).service(wire.upstream());
    let client = ServiceBuilder::new().timeout(Duration::from_millis(1)).layer(layer).service(upstream);
    for _ in 0..3 {
        let mut client = client.clone();
        let failed = client.ready().await.unwrap().call(ask(QUESTION)).await.unwrap_err();
        assert!(failed.is::<tower::timeout::error::Elapsed>());
    }
}
