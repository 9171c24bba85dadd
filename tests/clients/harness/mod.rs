//! Runs programs of others against a strict provider:
//!
//! ```text
//! program ──► translator ──► gateway ──► provider
//! ```
//!
//! The translator makes any client forgetful: it drops the state from requests on their way in. Then a conversation
//! ends well only if the layer puts the state back, and without the layer it must be refused.

pub(crate) mod clients;
pub(crate) mod install;
mod program;
mod provider;
mod run;
mod scenario;
pub(crate) mod table;
mod translator;
mod verdict;

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinSet};

use self::{clients::Client, install::Installed, run::Case, table::Row};

/// As many programs run side by side as this machine has processors.
fn side_by_side() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get())
}

/// Runs every case of these clients, and tells of each as it ends.
pub(crate) async fn run_all(clients: &[&'static Client], installed: &Installed) -> Vec<Row> {
    let installed = Arc::new(installed.clone());
    let slots = Arc::new(Semaphore::new(side_by_side()));
    let mut runs = JoinSet::new();
    let mut rows = Vec::new();
    for client in clients.iter().copied() {
        for protocol in client.protocols.iter().copied() {
            let row = rows.len();
            rows.push(Row::new(client, protocol));
            for case in Case::of(client) {
                let (installed, slots) = (Arc::clone(&installed), Arc::clone(&slots));
                runs.spawn(async move {
                    let _slot = slots.acquire_owned().await.unwrap();
                    (row, case, run::run(client, protocol, case, &installed).await)
                });
            }
        }
    }
    while let Some(ended) = runs.join_next().await {
        let (row, case, outcome) = ended.unwrap();
        println!("{}, {case}: {}", rows[row].name(), outcome.verdict);
        rows[row].take(case, outcome);
    }
    rows
}
