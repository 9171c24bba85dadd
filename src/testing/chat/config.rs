//! The switches of the provider.

use super::{ChatProvider, Demand, Flavour, Refusals, Script, Upstream};
use crate::testing::provider::Delivery;

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) flavour: Flavour,
    pub(super) upstream: Option<Upstream>,
    pub(super) script: Script,
    pub(super) demand: Option<Demand>,
    pub(super) strict_fields: Option<bool>,
    pub(super) empty_is_missing: bool,
    pub(super) sentinel: bool,
    pub(super) bind_credentials: bool,
    pub(super) refusals: Refusals,
    pub(super) metadata_deltas: bool,
    pub(super) legacy_signatures: bool,
    pub(super) unknown_fields: bool,
    pub(super) done: bool,
    pub(super) heavy_escapes: bool,
    pub(super) text_piece: usize,
    pub(super) delivery: Delivery,
    pub(super) seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flavour: Flavour::default(),
            upstream: None,
            script: Script::default(),
            demand: None,
            strict_fields: None,
            empty_is_missing: false,
            sentinel: true,
            bind_credentials: false,
            refusals: Refusals::default(),
            metadata_deltas: false,
            legacy_signatures: false,
            unknown_fields: false,
            done: true,
            heavy_escapes: false,
            text_piece: 12,
            delivery: Delivery::default(),
            seed: None,
        }
    }
}

/// Sets up a [`ChatProvider`].
///
/// Without any switch it does what the real one of its [`Flavour`] does, and is as strict as it can be.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    pub(super) config: Config,
}

impl Builder {
    /// The provider.
    #[must_use]
    pub fn build(self) -> ChatProvider {
        ChatProvider::with(self.config)
    }

    /// Which provider it is. Default: [`Flavour::DeepSeek`].
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.config.flavour = flavour;
        self
    }

    /// Whose model answers behind [`Flavour::OpenRouter`], whatever the model id. Default: the model id decides.
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.config.upstream = Some(upstream);
        self
    }

    /// What the model says. Default: [`Script::default`].
    pub fn script(mut self, script: Script) -> Self {
        self.config.script = script;
        self
    }

    /// Which messages must bring their state back. Default: as the flavour demands; the older rule of DeepSeek is
    /// [`Demand::ToolCalls`].
    pub fn demand(mut self, demand: Demand) -> Self {
        self.config.demand = Some(demand);
        self
    }

    /// Whether fields of a message that the provider does not know are refused, those of other providers' reasoning
    /// among them. Default: as the flavour does.
    pub fn strict_fields(mut self, strict: bool) -> Self {
        self.config.strict_fields = Some(strict);
        self
    }

    /// Whether reasoning in clear text counts as missing if it is empty. Default: `false`.
    pub fn empty_is_missing(mut self, missing: bool) -> Self {
        self.config.empty_is_missing = missing;
        self
    }

    /// Whether `skip_thought_signature_validator`, as it is or encoded as base64, is taken in place of a signature by
    /// [`Flavour::Gemini`] and [`Flavour::Vertex`]. Default: `true`.
    pub fn sentinel(mut self, accepted: bool) -> Self {
        self.config.sentinel = accepted;
        self
    }

    /// Whether state counts as never issued under any `authorization` but the one that it was issued under. Default:
    /// `false`.
    pub fn bind_credentials(mut self, bind: bool) -> Self {
        self.config.bind_credentials = bind;
        self
    }

    /// How a refusal reaches the client. Default: [`Refusals::Native`].
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.config.refusals = refusals;
        self
    }

    /// Whether streams of [`Flavour::Gemini`] and [`Flavour::Vertex`] carry a signature in a delta of its own, behind
    /// the one that it belongs to, and those of [`Flavour::Copilot`] the opaque value behind all else. Default: `false`.
    pub fn metadata_deltas(mut self, metadata: bool) -> Self {
        self.config.metadata_deltas = metadata;
        self
    }

    /// Whether [`Flavour::Gemini`] and [`Flavour::Vertex`] put every signature on the message, once in
    /// `extra_content` and once in `thought_signature`, as they did in 2025. Default: `false`.
    pub fn legacy_signatures(mut self, legacy: bool) -> Self {
        self.config.legacy_signatures = legacy;
        self
    }

    /// Whether entries of `reasoning_details` have a field that nobody knows. Default: `false`.
    pub fn unknown_fields(mut self, unknown: bool) -> Self {
        self.config.unknown_fields = unknown;
        self
    }

    /// Whether streams end with `data: [DONE]`. Default: `true`.
    pub fn done(mut self, done: bool) -> Self {
        self.config.done = done;
        self
    }

    /// Whether strings are escaped wherever JSON allows. Default: `false`.
    pub fn heavy_escapes(mut self, heavy: bool) -> Self {
        self.config.heavy_escapes = heavy;
        self
    }

    /// Into pieces of how many characters a stream breaks text, reasoning and arguments. Default: 12; 0 counts as 1.
    pub fn text_piece(mut self, characters: usize) -> Self {
        self.config.text_piece = characters.max(1);
        self
    }
}
