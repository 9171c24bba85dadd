//! A stack as a gateway has it: authentication, trace, timeout, replay, retry, client.
//!
//! It needs no network: the client is a strict fake of a provider, whose connections break now and then.
//!
//! ```text
//! cargo run --example production_stack --features testing
//! ```
//!
//! The program ends with an error if anything happens otherwise than it says.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, retry::Policy, service_fn};
use tower_http::trace::TraceLayer;
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, RequestBody,
    engine::Event,
    scope::Tenant,
    testing::gemini::{GeminiProvider, Say, Script, Turn},
};

const URI: &str = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:generateContent";

type Outcome<T = ()> = Result<T, BoxError>;

/// Who calls, by the gateway's own key for each customer. The provider gets the gateway's key for it.
fn authenticate<B>(mut request: Request<B>) -> Outcome<Request<B>> {
    let tenant = match request.headers_mut().remove(AUTHORIZATION).as_ref().map(HeaderValue::as_bytes) {
        Some(b"Bearer key-of-ann") => Tenant::new("ann"),
        Some(b"Bearer key-of-bob") => Tenant::new("bob"),
        _ => return Err("nobody with this key is known".into()),
    };
    request.extensions_mut().insert(tenant);
    request.headers_mut().insert("x-goog-api-key", HeaderValue::from_static("the gateway's own key"));
    Ok(request)
}

/// Sends once more what a broken connection has cost. Inside of the layer the same patched body goes again.
#[derive(Clone)]
struct Reconnect(bool);

impl<B: Body, R> Policy<Request<RequestBody<B>>, R, BoxError> for Reconnect {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request<RequestBody<B>>, result: &mut Result<R, BoxError>) -> Option<Ready<()>> {
        (result.is_err() && std::mem::take(&mut self.0)).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<RequestBody<B>>) -> Option<Request<RequestBody<B>>> {
        let mut clone = Request::new(request.body().try_clone()?);
        *clone.method_mut() = request.method().clone();
        *clone.uri_mut() = request.uri().clone();
        *clone.version_mut() = request.version();
        *clone.headers_mut() = request.headers().clone();
        *clone.extensions_mut() = request.extensions().clone();
        Some(clone)
    }
}

async fn send<S, R>(stack: &S, key: &str, contents: &[Value]) -> Outcome<(StatusCode, Value)>
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<R>, Error = BoxError> + Clone,
    R: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let body = json!({ "contents": contents }).to_string();
    let request = Request::post(URI)
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .header("content-length", body.len())
        .header("x-session-id", "a session")
        .body(Full::from(body))?;
    let response = stack.clone().oneshot(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(Into::into)?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}

fn check(is_so: bool, what: &str) -> Outcome {
    println!("{} {what}", if is_so { "✓" } else { "✗" });
    if is_so { Ok(()) } else { Err(what.into()) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let script = Script::new([
        Turn::new([Say::call("get_weather", json!({"city": "Paris"}))]),
        Turn::new([Say::text("It rains.")]),
    ]);
    let provider = GeminiProvider::builder().script(script).build();
    let attempts = Arc::new(AtomicUsize::new(0));
    let (served, counted) = (provider.clone(), attempts.clone());
    // Every second attempt finds its connection broken.
    let client = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let is_broken = counted.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        let served = served.clone();
        async move {
            if is_broken {
                return Err(BoxError::from("the connection is broken"));
            }
            served.oneshot(request).await.map_err(BoxError::from)
        }
    });

    let replay = ReplayLayer::new(MemoryStore::new());
    let stack = ServiceBuilder::new()
        .filter(authenticate)
        .layer(TraceLayer::new_for_http())
        .timeout(Duration::from_secs(600))
        .layer(replay.clone())
        .retry(Reconnect(true))
        .service(client);
    let count = |event| replay.engine().counters().get(event);

    let mut contents = vec![json!({"role": "user", "parts": [{"text": "How is the weather in Paris?"}]})];
    check(send(&stack, "a guess", &contents).await.is_err(), "a caller whom nobody knows is refused")?;
    check(attempts.load(Ordering::SeqCst) == 0, "and nothing goes upstream")?;

    let (status, answer) = send(&stack, "key-of-ann", &contents).await?;
    let part = &answer["candidates"][0]["content"]["parts"][0];
    check(status == StatusCode::OK && part["thoughtSignature"].is_string(), "Ann gets a signed call")?;
    contents.push(json!({"role": "model", "parts": [{"functionCall": part["functionCall"]}]}));
    let output = json!({"functionResponse": {"name": "get_weather", "response": {"sky": "grey"}}});
    contents.push(json!({"role": "user", "parts": [output]}));

    let (status, _) = send(&stack, "key-of-ann", &contents).await?;
    check(
        status == StatusCode::OK && provider.refused() == 0,
        "she sends it back unsigned, and the provider takes it",
    )?;
    check(attempts.load(Ordering::SeqCst) == 3, "although a connection broke: the same body went again")?;
    check(count(Event::Restored) == 1, "the signature was put back once for both attempts")?;

    send(&stack, "key-of-bob", &contents).await?;
    check(count(Event::Restored) == 1, "Bob sends the same, and gets nothing of what is Ann's")?;
    Ok(())
}
