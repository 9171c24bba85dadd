//! Connections of callers, until the process is told to stop.

use std::{convert::Infallible, io, time::Duration};

use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};
use tower::Service;

/// How long responses under way may take once the process was told to stop.
const DRAIN: Duration = Duration::from_secs(30);
/// How long the head of a request may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(120);

/// The signals that end the process. Set up before the gateway says that it is ready.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Serves HTTP/1.1 and HTTP/2 until a signal comes; then finishes what is under way, for as long as
/// [`DRAIN`] or until a second signal.
pub(crate) async fn serve<S, R>(listener: TcpListener, gateway: S, mut stop: Stop)
where
    S: Service<Request<Incoming>, Response = http::Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<axum::BoxError>,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    // The upstream's `date` is passed on, or none.
    server.http1().auto_date_header(false).timer(TokioTimer::new()).header_read_timeout(HEAD);
    server.http2().auto_date_header(false).timer(TokioTimer::new());
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.asked() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The caller went away already, or file descriptors ran out for a while.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(gateway.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection broke");
            }
        });
    }
    drop(listener);
    tracing::info!("stopping; responses under way are finished");
    tokio::select! {
        done = timeout(DRAIN, connections.shutdown()) => {
            if done.is_err() {
                tracing::warn!("responses that were still under way are cut off");
            }
        }
        () = stop.asked() => {}
    }
}
