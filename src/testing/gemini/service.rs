//! The service itself.

use std::sync::Arc;

use super::{
    config::{Builder, Config},
    exchange::Gemini,
    vault::Issued,
};
use crate::testing::provider::{Core, face};

/// A strict fake of the Gemini API, Vertex AI and Cloud Code.
///
/// Clones share one provider. It is always ready.
#[derive(Clone)]
pub struct GeminiProvider {
    core: Arc<Core<Gemini>>,
}

face!(GeminiProvider, Builder, end: "the event with the finish reason");

impl GeminiProvider {
    pub(super) fn with(mut config: Config) -> Self {
        let delivery = std::mem::take(&mut config.delivery);
        Self { core: Arc::new(Core::new(Gemini::new(config), delivery)) }
    }

    /// Every signature that was issued, also those of answers whose bytes never all arrived.
    #[must_use]
    pub fn issued(&self) -> Vec<Issued> {
        self.core.fake().vault.issued().iter().map(|issued| Issued::clone(issued)).collect()
    }

    /// Makes every signature issued so far invalid, as if the keys had been changed.
    pub fn revoke_signatures(&self) {
        self.core.fake().vault.revoke_all();
    }
}
