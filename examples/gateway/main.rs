//! A reverse proxy for LLM providers that remembers reasoning state and restores it.
//!
//! ```text
//! cargo run --release --example gateway -- --listen 127.0.0.1:8080
//! ```
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
mod serve;
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
use tower_reasoning_replay::{MemoryStore, ReplayLayer};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use self::{
    flags::{Asked, Flags, HELP},
    own::Replay,
    proxy::{Client, boxed, https_client},
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
    // The bounds are given by flags, so what is wrong with them is wrong with a flag.
    let (client, replay) = match client(&flags) {
        Ok(client) => client,
        Err(error) => return bad_flags(&error.to_string()),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(stderr().is_terminal()).with_writer(stderr).init();
    match run(flags, client, replay).await {
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

/// The client that talks to the upstreams.
fn client(flags: &Flags) -> Result<(Client, Option<Replay>), Box<dyn StdError>> {
    if !flags.replay {
        return Ok((boxed(https_client()), None));
    }
    let client = https_client();
    // The three lines.
    let store = MemoryStore::builder().max_ledgers(flags.max_ledgers).time_to_live(flags.ttl).build()?;
    let replay = flags.tuned(ReplayLayer::builder(store.clone())).build_layer()?;
    let client = ServiceBuilder::new().layer(replay.clone()).service(client);

    Ok((boxed(client), Some(Replay { engine: replay.engine().clone(), store })))
}

async fn run(flags: Flags, client: Client, replay: Option<Replay>) -> Result<(), Box<dyn StdError>> {
    let own = own::router(replay);
    let upstreams = Arc::new(flags.upstreams);
    let gateway = move |request: Request<Incoming>| {
        let (own, client, upstreams) = (own.clone(), client.clone(), upstreams.clone());
        let request = request.map(Body::new);
        async move {
            if own::is_own(request.uri().path()) {
                own.oneshot(request).await
            } else {
                Ok::<_, Infallible>(proxy::forward(client, &upstreams, request).await)
            }
        }
    };
    let trace =
        TraceLayer::new_for_http().make_span_with(span).on_response(DefaultOnResponse::new().level(Level::INFO));
    let gateway = ServiceBuilder::new().layer(trace).service_fn(gateway);

    let stop = Stop::new()?;
    let listen = flags.listen;
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
