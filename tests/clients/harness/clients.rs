//! The clients: one entry each.

use super::{program::Program, provider::Protocol};

/// A client, and what it speaks.
#[derive(Debug)]
pub(crate) struct Client {
    /// As its package is called.
    pub(crate) name: &'static str,
    pub(super) program: Program,
    pub(super) protocols: &'static [Protocol],
}

const CLIENTS: &[Client] =
    &[Client { name: "google-genai", program: Program::Python("google_genai.py"), protocols: &[Protocol::Gemini] }];

/// All clients, or those that the variable `CLIENTS_ONLY` names.
pub(crate) fn chosen() -> Vec<&'static Client> {
    let Ok(only) = std::env::var("CLIENTS_ONLY") else { return CLIENTS.iter().collect() };
    let names: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let find = |name: &&str| CLIENTS.iter().find(|client| client.name == *name);
    names.iter().map(|name| find(name).unwrap_or_else(|| panic!("CLIENTS_ONLY names no client: {name}"))).collect()
}
