//! The service itself.

use std::sync::Arc;

use super::{
    config::{Builder, Config},
    exchange::Responses,
    vault::Issued,
};
use crate::testing::provider::{Core, face};

/// A strict fake of the Responses API.
///
/// Clones share one provider. It is always ready.
#[derive(Clone)]
pub struct ResponsesProvider {
    core: Arc<Core<Responses>>,
}

face!(ResponsesProvider, Builder, end: "its terminal event");

pub(super) fn provider(mut config: Config) -> ResponsesProvider {
    let delivery = std::mem::take(&mut config.delivery);
    ResponsesProvider { core: Arc::new(Core::new(Responses::new(config), delivery)) }
}

impl ResponsesProvider {
    /// Every ciphertext that was issued, stubs included, also those of answers whose bytes never all arrived.
    #[must_use]
    pub fn issued(&self) -> Vec<Issued> {
        self.core.fake().vault.held().issued().to_vec()
    }

    /// Makes every ciphertext issued so far invalid, as if the keys had been changed.
    pub fn revoke(&self) {
        self.core.fake().vault.held().revoke();
    }

    /// Forgets every response stored so far, as if its time had run out: no id refers to anything any more.
    pub fn forget_responses(&self) {
        self.core.fake().vault.held().forget();
    }
}
