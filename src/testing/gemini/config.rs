//! The switches of the provider.

use super::{GeminiProvider, Script};
use crate::testing::provider::{Delivery, base64};

/// The face of the provider that is talked to. Signatures of one are not valid on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Surface {
    /// `generativelanguage.googleapis.com`.
    GeminiApi,
    /// `aiplatform.googleapis.com`.
    Vertex,
    /// `cloudcode-pa.googleapis.com`, also called Code Assist and Antigravity.
    CloudCode,
}

/// How a model treats signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Signs, but never checks: Gemini 2.5, and whatever is not known to check.
    Gemini2,
    /// Checks every signature, and demands one on the first call of each step of the current turn.
    Gemini3,
    /// As [`Gemini3`](Self::Gemini3), and demands one on every run of text and on every medium of the model.
    Gemini3Image,
    /// A Claude model behind Cloud Code, which demands its thinking back, text and signature together.
    Claude,
}

/// Which constants are taken in place of a signature. They are never taken by a Claude model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentinels {
    skip: bool,
    context: bool,
    literal: bool,
    base64: bool,
}

impl Sentinels {
    const SKIP: &str = "skip_thought_signature_validator";
    const CONTEXT: &str = "context_engineering_is_the_way_to_go";

    /// Both phrases in both forms: the default.
    #[must_use]
    pub fn all() -> Self {
        Self { skip: true, context: true, literal: true, base64: true }
    }

    /// None: the constants are invalid signatures.
    #[must_use]
    pub fn none() -> Self {
        Self { skip: false, context: false, literal: false, base64: false }
    }

    /// Whether `skip_thought_signature_validator` is taken.
    #[must_use]
    pub fn skip(mut self, accepted: bool) -> Self {
        self.skip = accepted;
        self
    }

    /// Whether `context_engineering_is_the_way_to_go` is taken.
    #[must_use]
    pub fn context(mut self, accepted: bool) -> Self {
        self.context = accepted;
        self
    }

    /// Whether an accepted phrase may stand as it is.
    #[must_use]
    pub fn literal(mut self, accepted: bool) -> Self {
        self.literal = accepted;
        self
    }

    /// Whether an accepted phrase may stand encoded as base64.
    #[must_use]
    pub fn base64(mut self, accepted: bool) -> Self {
        self.base64 = accepted;
        self
    }

    /// Whether these bytes, decoded from a signature field, are a sentinel, and whether it is accepted.
    pub(super) fn verdict(self, decoded: &[u8]) -> Option<bool> {
        [(Self::SKIP, self.skip), (Self::CONTEXT, self.context)].into_iter().find_map(|(phrase, accepted)| {
            if decoded == phrase.as_bytes() {
                Some(accepted && self.base64)
            } else if base64::decode(phrase).is_some_and(|literal| literal == decoded) {
                Some(accepted && self.literal)
            } else {
                None
            }
        })
    }
}

/// How a refusal reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refusals {
    /// As the real one does: an object; typed `text/event-stream`, but bare, for `alt=sse`; in an array for
    /// an array stream and for whatever is not SSE on Cloud Code.
    #[default]
    Native,
    /// A JSON object with its right type.
    Object,
    /// A bare JSON object with the type `text/event-stream`.
    SseTyped,
    /// A JSON array around the object.
    Array,
    /// For streams: status 200, so many events of text, then a stray line `{"error": …}`.
    StreamLine {
        /// Events that come first.
        after: usize,
    },
    /// For streams: status 200, so many events of text, then `data: {"error": …}`.
    StreamEvent {
        /// Events that come first.
        after: usize,
    },
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
    /// Status 200 and a candidate that ended with `MISSING_THOUGHT_SIGNATURE`; only for a missing signature.
    FinishReason,
}

/// What an invalid signature is called on the Gemini API and Cloud Code. Vertex has its own wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InvalidWording {
    /// `Corrupted thought signature.`
    #[default]
    Corrupted,
    /// `Invalid thought signature.`
    Invalid,
}

/// Where a stream carries the signature of its last text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AnswerSignature {
    /// On a last part of empty text, in the event with the finish reason.
    #[default]
    TrailingEmpty,
    /// On the last piece of text, in the event with the finish reason. Calls finish in their own event too.
    OnText,
    /// On a part of empty text, in an event of its own before the finish reason.
    BeforeFinish,
    /// On a part of empty text, in an event of its own after the finish reason.
    AfterFinish,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) surface: Option<Surface>,
    pub(super) family: Option<Family>,
    pub(super) sentinels: Sentinels,
    pub(super) count_refuses_sentinels: bool,
    pub(super) refusals: Refusals,
    pub(super) wording: InvalidWording,
    pub(super) bind_signatures: bool,
    pub(super) bind_credentials: bool,
    pub(super) order_signatures: bool,
    pub(super) vertex_v1_rejects_ids: bool,
    pub(super) script: Script,
    pub(super) answer_signature: AnswerSignature,
    pub(super) sign_thoughts: bool,
    pub(super) detach_call_signatures: bool,
    pub(super) large_media_signatures: bool,
    pub(super) ids: Option<bool>,
    pub(super) numeric_enums: bool,
    pub(super) heavy_escapes: bool,
    pub(super) text_piece: usize,
    pub(super) parts_per_event: usize,
    pub(super) delivery: Delivery,
    pub(super) seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            surface: None,
            family: None,
            sentinels: Sentinels::all(),
            count_refuses_sentinels: false,
            refusals: Refusals::default(),
            wording: InvalidWording::default(),
            bind_signatures: true,
            bind_credentials: false,
            order_signatures: false,
            vertex_v1_rejects_ids: false,
            script: Script::default(),
            answer_signature: AnswerSignature::default(),
            sign_thoughts: false,
            detach_call_signatures: false,
            large_media_signatures: false,
            ids: None,
            numeric_enums: false,
            heavy_escapes: false,
            text_piece: 12,
            parts_per_event: 1,
            delivery: Delivery::default(),
            seed: None,
        }
    }
}

/// Sets up a [`GeminiProvider`].
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
    pub fn build(self) -> GeminiProvider {
        GeminiProvider::with(self.config)
    }

    /// What the model says. Default: [`Script::default`].
    pub fn script(mut self, script: Script) -> Self {
        self.config.script = script;
        self
    }

    /// Whose wording, keys, ids and alphabets are used, whatever the path. Default: the path's surface.
    pub fn surface(mut self, surface: Surface) -> Self {
        self.config.surface = Some(surface);
        self
    }

    /// How signatures are treated, whatever the model id. Default: the model id decides.
    pub fn family(mut self, family: Family) -> Self {
        self.config.family = Some(family);
        self
    }

    /// Which constants are taken in place of a signature. Default: [`Sentinels::all`].
    pub fn sentinels(mut self, sentinels: Sentinels) -> Self {
        self.config.sentinels = sentinels;
        self
    }

    /// Whether `countTokens` takes no sentinels, although generating does. Default: `false`.
    pub fn count_refuses_sentinels(mut self, refuses: bool) -> Self {
        self.config.count_refuses_sentinels = refuses;
        self
    }

    /// How a refusal reaches the client. Default: [`Refusals::Native`].
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.config.refusals = refusals;
        self
    }

    /// What an invalid signature is called. Default: [`InvalidWording::Corrupted`].
    pub fn invalid_wording(mut self, wording: InvalidWording) -> Self {
        self.config.wording = wording;
        self
    }

    /// Whether a signature is refused on any content, model or surface but the one that it was issued for,
    /// and when it is used twice in one request. The real provider is not known to be so strict. Default: `true`.
    pub fn bind_signatures(mut self, bind: bool) -> Self {
        self.config.bind_signatures = bind;
        self
    }

    /// Whether a signature is refused under any credential (`x-goog-api-key`, `key=`, `authorization`) but the
    /// one that it was issued under. Default: `false`.
    pub fn bind_credentials(mut self, bind: bool) -> Self {
        self.config.bind_credentials = bind;
        self
    }

    /// Whether a signature is refused before one that was issued earlier, which tells equal calls of different turns
    /// apart. Only for tests that never ask for an earlier turn again: a history may mix both answers rightly.
    /// Default: `false`.
    pub fn order_signatures(mut self, order: bool) -> Self {
        self.config.order_signatures = order;
        self
    }

    /// Whether Vertex `v1` refuses ids of calls and their responses. Default: `false`.
    pub fn vertex_v1_rejects_ids(mut self, rejects: bool) -> Self {
        self.config.vertex_v1_rejects_ids = rejects;
        self
    }

    /// Where a stream carries the signature of its last text. Default: [`AnswerSignature::TrailingEmpty`].
    pub fn answer_signature(mut self, place: AnswerSignature) -> Self {
        self.config.answer_signature = place;
        self
    }

    /// Whether Gemini 3 signs its thoughts too. Default: `false`.
    pub fn sign_thoughts(mut self, sign: bool) -> Self {
        self.config.sign_thoughts = sign;
        self
    }

    /// Whether the signature of a call comes on a part of empty text behind it. Then it is taken back in either
    /// place. Default: `false`.
    pub fn detach_call_signatures(mut self, detach: bool) -> Self {
        self.config.detach_call_signatures = detach;
        self
    }

    /// Whether signatures of media are one to two MiB long, as the real ones are. Default: `false`.
    pub fn large_media_signatures(mut self, large: bool) -> Self {
        self.config.large_media_signatures = large;
        self
    }

    /// Whether calls have ids. Default: only those of Gemini 3 on the Gemini API and of Cloud Code.
    pub fn ids(mut self, ids: bool) -> Self {
        self.config.ids = Some(ids);
        self
    }

    /// Whether finish reasons are numbers even if the query does not ask for it. Default: `false`.
    pub fn numeric_enums(mut self, numeric: bool) -> Self {
        self.config.numeric_enums = numeric;
        self
    }

    /// Whether strings are escaped wherever JSON allows, signatures included. Default: `false`, which escapes
    /// only `<`, `>`, `&` and `'` beyond need.
    pub fn heavy_escapes(mut self, heavy: bool) -> Self {
        self.config.heavy_escapes = heavy;
        self
    }

    /// Into pieces of how many characters a stream breaks its text. Default: 12; 0 counts as 1.
    pub fn text_piece(mut self, characters: usize) -> Self {
        self.config.text_piece = characters.max(1);
        self
    }

    /// How many parts an event of a stream holds. Default: 1; 0 counts as 1.
    pub fn parts_per_event(mut self, parts: usize) -> Self {
        self.config.parts_per_event = parts.max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_are_told_by_their_decoded_bytes() {
        let verdict = |policy: Sentinels, text: &str| policy.verdict(&base64::decode(text).unwrap());
        let encoded = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";
        assert_eq!(verdict(Sentinels::all(), Sentinels::SKIP), Some(true));
        assert_eq!(verdict(Sentinels::all(), encoded.trim_end_matches('=')), Some(true));
        assert_eq!(verdict(Sentinels::all(), "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv"), Some(true));
        assert_eq!(verdict(Sentinels::all().literal(false), Sentinels::SKIP), Some(false));
        assert_eq!(verdict(Sentinels::all().base64(false), encoded), Some(false));
        assert_eq!(verdict(Sentinels::all().context(false), Sentinels::CONTEXT), Some(false));
        assert_eq!(verdict(Sentinels::none(), encoded), Some(false));
        assert_eq!(verdict(Sentinels::all(), "AAAA"), None);
    }
}
