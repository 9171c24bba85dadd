//! What the examples share: a fake provider on a socket.
//!
//! Each example is a program that checks itself, without a network:
//!
//! | program | how the layer gets in |
//! |---|---|
//! | `reqwest_tower` | around reqwest's client, a tower service of reqwest's own requests |
//! | `async_openai` | the same, behind async-openai's `with_http_service` |
//! | `rig` | as a middleware of reqwest-middleware, which rig-reqwest takes |

use std::{io, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::Service;

/// Whatever may go wrong.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves a provider on a socket, for as long as the runtime lives.
///
/// # Errors
///
/// If there is no socket to be had.
pub async fn serve<P, B>(provider: P) -> io::Result<SocketAddr>
where
    P: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    P::Error: Into<BoxError>,
    P::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(provider.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}
