//! The service itself.

use std::sync::Arc;

use super::{
    config::{Builder, Config},
    exchange::Anthropic,
    vault::Issued,
};
use crate::testing::provider::{Core, face};

/// A strict fake of the Messages API.
///
/// Clones share one provider. It is always ready.
#[derive(Clone)]
pub struct AnthropicProvider {
    core: Arc<Core<Anthropic>>,
}

face!(AnthropicProvider, Builder, end: "the event with the stop reason");

impl AnthropicProvider {
    pub(super) fn with(mut config: Config) -> Self {
        let delivery = std::mem::take(&mut config.delivery);
        Self { core: Arc::new(Core::new(Anthropic::new(config), delivery)) }
    }

    /// Everything opaque that was issued, also that of answers whose bytes never all arrived.
    #[must_use]
    pub fn issued(&self) -> Vec<Issued> {
        self.core.fake().vault.issued().iter().map(|issued| Issued::clone(issued)).collect()
    }

    /// Makes everything issued so far invalid, as if the keys had been changed.
    pub fn revoke_signatures(&self) {
        self.core.fake().vault.revoke_all();
    }
}
