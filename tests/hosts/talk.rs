//! A client that forgets signatures, through whatever stack it is given.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{BoxError, Service, ServiceExt};
use tower_reasoning_replay::testing::gemini::{Builder, GeminiProvider, Say, Script, Turn};

use crate::support::gemini::GENERATE;

pub(crate) fn provider() -> Builder {
    GeminiProvider::builder().script(Script::new([
        Turn::new([Say::call("look", json!({"city": "Paris"}))]),
        Turn::new([Say::text("It rains.")]),
    ]))
}

pub(crate) fn ask(uri: &str, contents: &[Value]) -> Request<Full<Bytes>> {
    let body = json!({ "contents": contents }).to_string();
    let request = crate::support::gemini::post(uri).header("content-length", body.len());
    request.body(Full::from(body)).unwrap()
}

pub(crate) async fn send<S, R>(client: &mut S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let response = client.ready().await.map_err(Into::into)?.call(request).await.map_err(Into::into)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(Into::into)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// A question, a call, its output: without replay, the provider refuses the second request. Gives the history.
pub(crate) async fn talk_to<S, R>(client: &mut S, uri: &str) -> Vec<Value>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let mut contents = vec![json!({"role": "user", "parts": [{"text": "How is the weather?"}]})];
    let response = send(client, ask(uri, &contents)).await.unwrap();
    assert_eq!(response.status(), 200, "{response:?}");
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    let call = &answer["candidates"][0]["content"]["parts"][0]["functionCall"];
    contents.push(json!({"role": "model", "parts": [{"functionCall": call}]}));
    let output = json!({"name": "look", "id": call["id"], "response": {"sky": "grey"}});
    contents.push(json!({"role": "user", "parts": [{"functionResponse": output}]}));
    let response = send(client, ask(uri, &contents)).await.unwrap();
    assert_eq!(response.status(), 200, "{response:?}");
    contents
}

pub(crate) async fn talk<S, R>(client: &mut S) -> Vec<Value>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    talk_to(client, GENERATE).await
}
