//! Sends a request on, and its response back.

use std::{error::Error as StdError, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{
    Request, StatusCode, Version,
    header::{CONTENT_TYPE, HOST},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use tower_reasoning_replay::Report;

use crate::{headers::strip_hop_by_hop, upstream::Upstreams};

/// A client, with the layer around it or without.
pub(crate) type Client = BoxCloneSyncService<Request<Body>, Response, legacy::Error>;

/// Speaks HTTP/1.1 and, where TLS agrees on it, HTTP/2. It adds no header but `host`.
pub(crate) fn https_client<B>() -> legacy::Client<HttpsConnector<HttpConnector>, B>
where
    B: http_body::Body<Data = Bytes> + Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    let tls =
        HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_all_versions().wrap_connector(tcp);
    legacy::Client::builder(TokioExecutor::new()).timer(TokioTimer::new()).pool_timer(TokioTimer::new()).build(tls)
}

/// Gives clients with different bodies one type.
pub(crate) fn boxed<S, R>(client: S) -> Client
where
    S: Service<Request<Body>, Response = http::Response<R>, Error = legacy::Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<axum::BoxError>,
{
    BoxCloneSyncService::new(client.map_response(|response| response.map(Body::new)))
}

/// Sends a request to its upstream. Bodies stream in both directions.
pub(crate) async fn forward(client: Client, upstreams: &Upstreams, request: Request<Body>) -> Response {
    let (arrived, body) = request.into_parts();
    let uri = match upstreams.resolve(&arrived.uri) {
        Ok(uri) => uri,
        Err(reason) => return refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "not_found_error", reason),
    };
    // What the connection left in the extensions stays here. The version is that of the connection
    // to the upstream, which is chosen later.
    let mut onward = Request::new(body);
    *onward.method_mut() = arrived.method;
    *onward.uri_mut() = uri;
    *onward.headers_mut() = arrived.headers;
    onward.headers_mut().remove(HOST);
    strip_hop_by_hop(onward.headers_mut());

    match client.oneshot(onward).await {
        Ok(mut response) => {
            if let Some(report) = response.extensions().get::<Report>() {
                tracing::debug!(?report, "the request went through the layer");
            }
            strip_hop_by_hop(response.headers_mut());
            *response.version_mut() = Version::HTTP_11;
            response
        }
        Err(error) => {
            tracing::warn!(error = chain(&error), "the upstream did not answer");
            let reason = if error.is_connect() {
                "the upstream cannot be reached"
            } else {
                "the connection to the upstream broke before it answered"
            };
            refusal(StatusCode::BAD_GATEWAY, "UNAVAILABLE", "api_error", reason)
        }
    }
}

/// An answer of the gateway itself, in a shape that the clients of all these providers read: Google's have a code and a
/// status, Anthropic's and OpenAI's a type, and all of them a message. The reason is fixed text, so it needs no escapes.
fn refusal(status: StatusCode, name: &str, kind: &str, reason: &'static str) -> Response {
    let code = status.as_u16();
    let error = format!(r#"{{"type":"{kind}","code":{code},"message":"{reason}","status":"{name}"}}"#);
    let body = format!(r#"{{"type":"error","error":{error}}}"#);
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
