//! Real SDKs and agents through the gateway: which of them works, and that the documented table says so.
//!
//! ```sh
//! cargo test --features clients --test clients -- --nocapture
//! ```
//!
//! This installs pinned packages of PyPI and npm below `target/clients`, and fails with a list of what it could not
//! get. `CLIENTS_ONLY=anthropic,litellm` runs some clients only; `CLIENTS_WRITE=1` writes the results to
//! `docs/clients.md`, which must otherwise say the same. What a run that failed sent and logged is in
//! `target/clients/runs`.
#![cfg(test)]

mod harness;
/// The part of the tests of the gateway that starts one.
#[path = "../gateway/process.rs"]
#[allow(dead_code, reason = "made for more than what is told here")]
mod process;
/// The part of the tests of the gateway that serves a provider.
#[path = "../gateway/upstream.rs"]
#[allow(dead_code, reason = "made for more than what is told here")]
mod upstream;

#[tokio::test(flavor = "multi_thread")]
async fn every_client_does_what_the_documentation_says() {
    let clients = harness::clients::chosen();
    let installed = harness::install::all(&clients);
    let rows = harness::run_all(&clients, &installed).await;
    harness::table::settle(&rows);
}
