//! What the tests of gateways with a store have in common.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use http::StatusCode;
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Answer, Conversation},
    families::Provider,
    family::{Family, Talk},
    process::{Gateway, run_with_key},
    upstream::serve,
};

/// A folder for as long as a test takes.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("replay-gateway-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A conversation of one family with its strict provider.
pub(crate) enum Exchange {
    Gemini(GeminiProvider, Conversation),
    Other(Provider, Talk),
}

impl Exchange {
    /// One of each family.
    pub(crate) fn of_each_family(stream: bool) -> Vec<Self> {
        let gemini = Self::Gemini(GeminiProvider::new(), Conversation::new("", stream));
        let others = Family::ALL.map(|family| Self::Other(Provider::new(family), Talk::new(family, stream)));
        [gemini].into_iter().chain(others).collect()
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Gemini(..) => "gemini",
            Self::Other(_, talk) => talk.family.name(),
        }
    }

    pub(crate) async fn serve(&self) -> std::net::SocketAddr {
        match self {
            Self::Gemini(provider, _) => serve(provider).await,
            Self::Other(provider, _) => provider.serve().await,
        }
    }

    /// One more turn, which the provider takes.
    pub(crate) async fn turn(&mut self, gateway: &Gateway) {
        let answer = match self {
            Self::Gemini(_, conversation) => conversation.turn(gateway.address).await,
            Self::Other(_, talk) => talk.turn(gateway.address).await,
        };
        taken(self.name(), &answer);
    }

    /// How many pieces of genuine state the last request had.
    pub(crate) fn genuine(&self) -> usize {
        match self {
            Self::Gemini(provider, _) => provider.requests().last().unwrap().genuine,
            Self::Other(provider, _) => provider.requests().last().unwrap().genuine,
        }
    }
}

pub(crate) fn taken(what: &str, answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{what}: {}", answer.text());
}

/// Runs a gateway that a bad flag, file or key ends at once; what it says.
pub(crate) fn refused(key: &str, flags: &[&str]) -> String {
    let output = run_with_key(key, flags);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
    assert!(output.stdout.is_empty());
    said
}

/// A hash key.
pub(crate) const HEX: &str = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";
