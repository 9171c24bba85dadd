//! The switches of the provider.

use super::{AnthropicProvider, Script};
use crate::testing::provider::Delivery;

/// How a refusal reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refusals {
    /// As the real one does: status 400 and a JSON object, also where a stream was asked for.
    #[default]
    Native,
    /// The same object, passed on by a relay with this status.
    Relayed {
        /// The relay's status, as 429, 500 or 502.
        status: u16,
    },
    /// For streams: status 200, so many blocks of text, then `event: error`.
    StreamEvent {
        /// Blocks that come first.
        after: usize,
    },
    /// As Amazon Bedrock does: status 400 and `{"message": "The model returned the following errors: …"}`.
    Bedrock,
    /// Wrapped by a relay in the manner of OpenRouter, with this status.
    OpenRouter {
        /// The relay's status, as 429 or 502.
        status: u16,
    },
    /// Wrapped by a relay in the manner of LiteLLM, with this status.
    LiteLlm {
        /// The relay's status, as 429 or 500.
        status: u16,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) script: Script,
    pub(super) refusals: Refusals,
    pub(super) bind_signatures: bool,
    pub(super) bind_credentials: Option<bool>,
    pub(super) bind_prefix: Option<bool>,
    pub(super) think_by_default: Option<bool>,
    pub(super) think_unasked: bool,
    pub(super) signature_piece: usize,
    pub(super) text_piece: usize,
    pub(super) heavy_escapes: bool,
    pub(super) done_marker: bool,
    pub(super) overload_after: Option<usize>,
    pub(super) delivery: Delivery,
    pub(super) seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            script: Script::default(),
            refusals: Refusals::default(),
            bind_signatures: true,
            bind_credentials: None,
            bind_prefix: None,
            think_by_default: None,
            think_unasked: false,
            signature_piece: usize::MAX,
            text_piece: 12,
            heavy_escapes: false,
            done_marker: false,
            overload_after: None,
            delivery: Delivery::default(),
            seed: None,
        }
    }
}

/// Sets up an [`AnthropicProvider`].
///
/// Without any switch it does what the real one does, and is as strict as it can be.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    pub(super) config: Config,
}

impl Builder {
    /// The provider.
    #[must_use]
    pub fn build(self) -> AnthropicProvider {
        AnthropicProvider::with(self.config)
    }

    /// What the model says. Default: [`Script::default`].
    pub fn script(mut self, script: Script) -> Self {
        self.config.script = script;
        self
    }

    /// How a refusal reaches the client. Default: [`Refusals::Native`].
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.config.refusals = refusals;
        self
    }

    /// Whether a block is refused beside other content than it came with, and when it is used twice in one request.
    /// The real provider is not known to be so strict outside the latest assistant message. Default: `true`.
    pub fn bind_signatures(mut self, bind: bool) -> Self {
        self.config.bind_signatures = bind;
        self
    }

    /// Whether a block is dropped, and the drop reported, under any credential (`x-api-key`, `authorization`) but the
    /// one that it was issued under. Default: the model id decides, `true` for `claude-sonnet-5-5` and
    /// `claude-haiku-5-5`.
    pub fn bind_credentials(mut self, bind: bool) -> Self {
        self.config.bind_credentials = Some(bind);
        self
    }

    /// Whether a block is refused behind other content, or another run of thinking blocks, than it was made behind.
    /// Default: the model id decides, `true` from `claude-fable-5-1`, `claude-mythos-5-1`, `claude-opus-5-5`,
    /// `claude-sonnet-5-5` and `claude-haiku-5-5` on.
    pub fn bind_prefix(mut self, bind: bool) -> Self {
        self.config.bind_prefix = Some(bind);
        self
    }

    /// Whether a request without `thinking` means `adaptive`; otherwise it means `disabled`. Default: the model id
    /// decides, `true` from `claude-sonnet-5` on.
    pub fn think_by_default(mut self, think: bool) -> Self {
        self.config.think_by_default = Some(think);
        self
    }

    /// Whether the model thinks although thinking is off, and takes its blocks back then. Default: `false`.
    pub fn think_unasked(mut self, think: bool) -> Self {
        self.config.think_unasked = think;
        self
    }

    /// Into pieces of how many characters a stream breaks signatures. Default: it does not; 0 counts as 1.
    pub fn signature_piece(mut self, characters: usize) -> Self {
        self.config.signature_piece = characters.max(1);
        self
    }

    /// Into pieces of how many characters a stream breaks text, thoughts and input. Default: 12; 0 counts as 1.
    pub fn text_piece(mut self, characters: usize) -> Self {
        self.config.text_piece = characters.max(1);
        self
    }

    /// Whether strings are escaped wherever JSON allows, signatures included. Default: `false`.
    pub fn heavy_escapes(mut self, heavy: bool) -> Self {
        self.config.heavy_escapes = heavy;
        self
    }

    /// Whether streams end with `data: [DONE]`, as those of some relays do. Default: `false`.
    pub fn done_marker(mut self, marker: bool) -> Self {
        self.config.done_marker = marker;
        self
    }

    /// Breaks streams off with `event: error` and `overloaded_error` after so many blocks; such a request counts as
    /// accepted. It is confined by [`faults_only_at`](Self::faults_only_at) too. Default: never.
    pub fn overload_after(mut self, blocks: usize) -> Self {
        self.config.overload_after = Some(blocks);
        self
    }
}
