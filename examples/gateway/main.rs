//! A reverse proxy for LLM providers that remembers reasoning state and restores it.
//!
//! ```text
//! cargo run --release --example gateway -- --listen 127.0.0.1:8080
//! ```
//!
//! The stores on a server and on disk take features: `--features redis,disk`.
//!
//! Point a client at `http://127.0.0.1:8080` instead of the provider. `--help` lists the flags.
//!
//! The gateway holds no credentials and authenticates nobody: callers bring their own keys, and are told
//! apart by them. Of what passes it changes only what the layer restores, `host`, and the headers of a
//! connection. It logs paths, never queries, headers or bodies; `RUST_LOG=trace` makes the HTTP
//! libraries beneath it less discreet, so name targets there.

mod flags;
mod headers;
mod own;
mod proxy;
mod public;
mod replay;
mod serve;
#[cfg(feature = "redis")]
mod server;
mod store;
mod upstream;

use std::{
    convert::Infallible,
    env,
    error::Error as StdError,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
    sync::Arc,
};

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::trace::{DefaultOnResponse, TraceLayer};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use self::{
    flags::{Asked, Flags, HELP},
    replay::Replay,
    serve::{Stop, serve},
};

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match Flags::parse(env::args_os().skip(1)) {
        Ok(Asked::Run(flags)) => *flags,
        Ok(Asked::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => return bad_flags(&reason),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(stderr().is_terminal()).with_writer(stderr).init();
    let flags = Arc::new(flags);
    // The bounds, files and keys are given by flags, so what is wrong with them is wrong with a flag.
    let replay = match Replay::start(flags.clone()).await {
        Ok(replay) => replay,
        Err(error) => return bad_flags(&error.to_string()),
    };
    let ended = run(flags, replay.clone()).await;
    if let Some(store) = replay.store() {
        store.flush().await;
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bad_flags(reason: &str) -> ExitCode {
    eprintln!("gateway: {reason}");
    ExitCode::from(2)
}

async fn run(flags: Arc<Flags>, replay: Replay) -> Result<(), Box<dyn StdError>> {
    let listen = flags.listen;
    let own = own::router(replay.clone());
    let gateway = move |request: Request<Incoming>| {
        let (own, replay, flags) = (own.clone(), replay.clone(), flags.clone());
        let request = request.map(Body::new);
        async move {
            if own::is_own(request.uri().path()) {
                own.oneshot(request).await
            } else {
                Ok::<_, Infallible>(proxy::forward(replay.client(), &flags.upstreams, request).await)
            }
        }
    };
    let trace =
        TraceLayer::new_for_http().make_span_with(span).on_response(DefaultOnResponse::new().level(Level::INFO));
    let gateway = ServiceBuilder::new().layer(trace).service_fn(gateway);

    let stop = Stop::new()?;
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    writeln!(stdout(), "listening on {}", listener.local_addr()?)?;
    stdout().flush()?;
    serve(listener, gateway, stop).await;
    Ok(())
}

/// The path alone: queries hold keys.
fn span<B>(request: &Request<B>) -> tracing::Span {
    tracing::info_span!("request", method = %request.method(), path = request.uri().path())
}
