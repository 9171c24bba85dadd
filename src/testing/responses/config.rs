//! The switches of the provider.

use super::{ResponsesProvider, Script, service};
use crate::testing::provider::Delivery;

/// Whose Responses API is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vendor {
    /// `api.openai.com`.
    OpenAi,
    /// Azure OpenAI: an invalid ciphertext has no code, and ids of another resource are refused.
    Azure,
    /// The backend of ChatGPT plans: stores nothing, and completes with an empty `output`.
    ChatGpt,
    /// GitHub Copilot: stores nothing, and gives each item another id in every event.
    Copilot,
    /// xAI: no stub in `response.output_item.added`, unpadded ciphertexts, UUIDs, comments that keep the connection
    /// alive, and errors whose `error` is a string.
    Xai,
    /// OpenRouter: events without an `event` line, comments, and `[DONE]` at the end. It stores nothing.
    OpenRouter,
    /// Bedrock's endpoint for models of OpenAI: one ciphertext for all events.
    BedrockMantle,
    /// DeepSeek: reasoning in the clear, which it demands back before each call. It stores nothing.
    DeepSeek,
}

/// How a refusal reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refusals {
    /// A JSON object with its status, also where a stream was asked for.
    #[default]
    Native,
    /// For streams: status 200, so many pieces of text, then `response.failed`.
    ResponseFailed {
        /// Pieces that come first.
        after: usize,
    },
    /// For streams: status 200, so many pieces of text, then an event `error`.
    ErrorEvent {
        /// Pieces that come first.
        after: usize,
    },
    /// By a relay that keeps the message but loses the code, with this status.
    Relayed {
        /// The relay's status, as 502.
        status: u16,
    },
    /// By a relay that puts the whole body into a string, with this status.
    Nested {
        /// The relay's status, as 502.
        status: u16,
    },
}

/// What an invalid ciphertext is called where the vendor has no wording of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InvalidWording {
    /// `The encrypted content … could not be verified. Reason: …`
    #[default]
    Reason,
    /// `The encrypted content … could not be verified.`
    Short,
    /// ``… reasoning `encrypted_content` was not issued to this caller``, as a hosted router says it, without a code.
    Caller,
}

/// What keeps a stream alive while the model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keepalives {
    /// Nothing.
    #[default]
    None,
    /// A comment before each item and before the end.
    Comments,
    /// An event of type `keepalive` before each item and before the end.
    Events,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) script: Script,
    pub(super) vendor: Vendor,
    pub(super) refusals: Refusals,
    pub(super) wording: InvalidWording,
    pub(super) stores: bool,
    pub(super) pairing: Option<bool>,
    pub(super) bind_credentials: bool,
    pub(super) bind_models: bool,
    pub(super) bind_call_ids: bool,
    pub(super) require_reasoning_text: bool,
    pub(super) clear_reasoning: bool,
    pub(super) only_if_included: bool,
    pub(super) without_stubs: bool,
    pub(super) same_ciphertext: bool,
    pub(super) ciphertext_size: usize,
    pub(super) empty_completed_output: bool,
    pub(super) churn_ids: bool,
    pub(super) without_event_lines: bool,
    pub(super) keepalives: Keepalives,
    pub(super) heavy_escapes: bool,
    pub(super) text_piece: usize,
    pub(super) delivery: Delivery,
    pub(super) seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            script: Script::default(),
            vendor: Vendor::OpenAi,
            refusals: Refusals::default(),
            wording: InvalidWording::default(),
            stores: true,
            pairing: None,
            bind_credentials: true,
            bind_models: true,
            bind_call_ids: true,
            require_reasoning_text: false,
            clear_reasoning: false,
            only_if_included: false,
            without_stubs: false,
            same_ciphertext: false,
            ciphertext_size: 0,
            empty_completed_output: false,
            churn_ids: false,
            without_event_lines: false,
            keepalives: Keepalives::default(),
            heavy_escapes: false,
            text_piece: 12,
            delivery: Delivery::default(),
            seed: None,
        }
    }
}

/// Sets up a [`ResponsesProvider`].
///
/// Without any switch it does what `api.openai.com` does, and is as strict as it can be.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    pub(super) config: Config,
}

impl Builder {
    /// The provider.
    #[must_use]
    pub fn build(self) -> ResponsesProvider {
        service::provider(self.config)
    }

    /// What the model says. Default: [`Script::default`].
    pub fn script(mut self, script: Script) -> Self {
        self.config.script = script;
        self
    }

    /// Whose API is spoken. This also puts the switches below to what the vendor is known for, so it comes before
    /// them. Default: [`Vendor::OpenAi`].
    pub fn vendor(mut self, vendor: Vendor) -> Self {
        let config = &mut self.config;
        config.vendor = vendor;
        config.empty_completed_output = vendor == Vendor::ChatGpt;
        config.churn_ids = vendor == Vendor::Copilot;
        config.without_stubs = vendor == Vendor::Xai;
        config.same_ciphertext = matches!(vendor, Vendor::Xai | Vendor::BedrockMantle);
        config.without_event_lines = vendor == Vendor::OpenRouter;
        config.keepalives = match vendor {
            Vendor::Xai | Vendor::OpenRouter => Keepalives::Comments,
            _ => Keepalives::None,
        };
        config.clear_reasoning = vendor == Vendor::DeepSeek;
        config.require_reasoning_text = vendor == Vendor::DeepSeek;
        config.stores = !matches!(vendor, Vendor::ChatGpt | Vendor::Copilot | Vendor::OpenRouter | Vendor::DeepSeek);
        self
    }

    /// How a refusal reaches the client. Default: [`Refusals::Native`].
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.config.refusals = refusals;
        self
    }

    /// What an invalid ciphertext is called. Default: [`InvalidWording::Reason`].
    pub fn invalid_wording(mut self, wording: InvalidWording) -> Self {
        self.config.wording = wording;
        self
    }

    /// Whether responses are stored, unless their request says `"store": false`. Where nothing is stored, every
    /// request counts as if it said so. Default: `true`.
    pub fn stores(mut self, stores: bool) -> Self {
        self.config.stores = stores;
        self
    }

    /// Whether an item that kept its id is refused without its neighbour: a call, a search or a message without the
    /// reasoning before it, and reasoning before an item that lost its id. Default: unless the request says
    /// `"store": false`. Reasoning that is not followed by what it was given for is refused in any case.
    pub fn pairing(mut self, pairing: bool) -> Self {
        self.config.pairing = Some(pairing);
        self
    }

    /// Whether a ciphertext, an item and a response are refused under any credential but the one that they were
    /// issued under. That is the first of `chatgpt-account-id` and `openai-organization` which is there, or else
    /// `authorization` with `api-key`. Default: `true`.
    pub fn bind_credentials(mut self, bind: bool) -> Self {
        self.config.bind_credentials = bind;
        self
    }

    /// Whether a ciphertext is refused under any model but the one that issued it. The real provider is not known to
    /// be so strict within a family. Default: `true`.
    pub fn bind_models(mut self, bind: bool) -> Self {
        self.config.bind_models = bind;
        self
    }

    /// Whether reasoning goes only before a call that kept its `call_id`; otherwise its name and arguments are
    /// enough. Default: `true`.
    pub fn bind_call_ids(mut self, bind: bool) -> Self {
        self.config.bind_call_ids = bind;
        self
    }

    /// Whether each call needs the reasoning text that it was given with right before it. Default: `false`.
    pub fn require_reasoning_text(mut self, require: bool) -> Self {
        self.config.require_reasoning_text = require;
        self
    }

    /// Whether all reasoning of the script is in the clear. Default: `false`.
    pub fn clear_reasoning(mut self, clear: bool) -> Self {
        self.config.clear_reasoning = clear;
        self
    }

    /// Whether a response has ciphertexts only if its request includes `reasoning.encrypted_content`. Default:
    /// `false`.
    pub fn only_if_included(mut self, only: bool) -> Self {
        self.config.only_if_included = only;
        self
    }

    /// Whether `response.output_item.added` has no `encrypted_content`. Default: `false`.
    pub fn without_stubs(mut self, without: bool) -> Self {
        self.config.without_stubs = without;
        self
    }

    /// Whether an item has one ciphertext, which is the same and valid in every event. Default: `false`: a stub that
    /// is not valid, and two more that are.
    pub fn same_ciphertext(mut self, same: bool) -> Self {
        self.config.same_ciphertext = same;
        self
    }

    /// Of about how many bytes a ciphertext is, before it is written as base64. Default: 0, which draws 800 to 2,000.
    pub fn ciphertext_size(mut self, bytes: usize) -> Self {
        self.config.ciphertext_size = bytes;
        self
    }

    /// Whether `response.completed` has an empty `output`. Default: `false`.
    pub fn empty_completed_output(mut self, empty: bool) -> Self {
        self.config.empty_completed_output = empty;
        self
    }

    /// Whether the ids of a response and its items are others in every event. All of them are taken back. Default:
    /// `false`.
    pub fn churn_ids(mut self, churn: bool) -> Self {
        self.config.churn_ids = churn;
        self
    }

    /// Whether a stream has no `event` lines and ends with `data: [DONE]`. Default: `false`.
    pub fn without_event_lines(mut self, without: bool) -> Self {
        self.config.without_event_lines = without;
        self
    }

    /// What keeps a stream alive. Default: [`Keepalives::None`].
    pub fn keepalives(mut self, keepalives: Keepalives) -> Self {
        self.config.keepalives = keepalives;
        self
    }

    /// Whether strings are escaped wherever JSON allows, ciphertexts included. Default: `false`.
    pub fn heavy_escapes(mut self, heavy: bool) -> Self {
        self.config.heavy_escapes = heavy;
        self
    }

    /// Into pieces of how many characters a stream breaks its text. Default: 12; 0 counts as 1.
    pub fn text_piece(mut self, characters: usize) -> Self {
        self.config.text_piece = characters.max(1);
        self
    }
}
