//! Whose manners the provider has.

/// Which provider of chat completions is played.
///
/// Each has fields of its own for reasoning, framing of its own, and rules of its own about what a history has to bring
/// back. What comes back but is not checked is counted: see [`ChatProvider::restored`], [`ChatProvider::altered`] and
/// [`ChatProvider::missing`].
///
/// [`ChatProvider::restored`]: super::ChatProvider::restored
/// [`ChatProvider::altered`]: super::ChatProvider::altered
/// [`ChatProvider::missing`]: super::ChatProvider::missing
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Flavour {
    /// `reasoning_content`, which every message of the assistant must bring back as soon as the request has `tools`.
    #[default]
    DeepSeek,
    /// `reasoning_content`, which every message of the assistant that calls a tool must bring back.
    Kimi,
    /// As [`Kimi`](Self::Kimi), refused as `Param Incorrect`.
    MiMo,
    /// `reasoning_content`; counted only.
    Glm,
    /// `reasoning_content`; counted only.
    Qwen,
    /// `reasoning_content`; counted only.
    LlamaCpp,
    /// `reasoning`, in deltas with `channel`; counted only. Refuses fields that it does not know.
    Groq,
    /// `reasoning`; counted only. Refuses fields that it does not know.
    Cerebras,
    /// `reasoning`; counted only. A call is never cut into fragments.
    Ollama,
    /// `reasoning`; counted only.
    Vllm,
    /// `reasoning` and `reasoning_details`, which must come back as they were, whole, in order and once.
    OpenRouter,
    /// `reasoning_details` without a format; counted only. Thoughts stand in the content between `<think>` and
    /// `</think>` if the request says `"reasoning_split": false`.
    MiniMax,
    /// The Gemini API: `extra_content.google.thought_signature` on the first call of an answer or, without calls, on
    /// the message. Refuses fields that it does not know.
    Gemini,
    /// Vertex AI: as [`Gemini`](Self::Gemini), with `extra_content.vertex`.
    Vertex,
    /// `reasoning_text` and `reasoning_opaque`, which must come back together.
    Copilot,
    /// Thinking among the chunks of `content`, which must come back as it was. Refuses fields that it does not know.
    Mistral,
}

/// Whose model answers behind [`Flavour::OpenRouter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Upstream {
    /// `anthropic/…`: signed text, streamed in fragments with the signature alone in the last one.
    Anthropic,
    /// `google/…`: text, a signature without text behind text, and encrypted data with the id of the first call.
    Google,
    /// `openai/…`: a summary and encrypted data.
    OpenAi,
    /// `x-ai/…`: as [`OpenAi`](Self::OpenAi), in another format.
    XAi,
    /// `minimax/…`: plain text without a format.
    MiniMax,
    /// Any other: plain text of the format `unknown`; without reasoning, an empty list that counts.
    Other,
}

impl Upstream {
    /// The upstream of a model id.
    pub(super) fn of(model: &str) -> Self {
        match model.split('/').next().unwrap_or_default() {
            "anthropic" => Self::Anthropic,
            "google" => Self::Google,
            "openai" => Self::OpenAi,
            "x-ai" => Self::XAi,
            "minimax" => Self::MiniMax,
            _ => Self::Other,
        }
    }

    /// The `format` of its details, if they have one.
    pub(super) fn format(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("anthropic-claude-v1"),
            Self::Google => Some("google-gemini-v1"),
            Self::OpenAi => Some("openai-responses-v1"),
            Self::XAi => Some("xai-responses-v1"),
            Self::MiniMax => None,
            Self::Other => Some("unknown"),
        }
    }

    /// What OpenRouter calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "Anthropic",
            Self::Google => "Google AI Studio",
            Self::OpenAi => "OpenAI",
            Self::XAi => "xAI",
            Self::MiniMax => "Minimax",
            Self::Other => "DeepInfra",
        }
    }

    /// How it words a finish reason itself.
    pub(super) fn native_finish(self, finish: &str) -> String {
        match (self, finish) {
            (Self::Anthropic, "stop") => "end_turn",
            (Self::Anthropic, "tool_calls") => "tool_use",
            (Self::Google, "stop" | "tool_calls") => "STOP",
            (Self::OpenAi | Self::XAi, "stop" | "tool_calls") => "completed",
            _ => finish,
        }
        .to_owned()
    }
}

/// Which messages of the assistant must bring their state back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Demand {
    /// None: absent state is only counted.
    Nothing,
    /// Those that call a tool and follow the last message of the user.
    CurrentTurn,
    /// Those that call a tool.
    ToolCalls,
    /// All, if the request has `tools`; otherwise none.
    WithTools,
    /// Those that repeat an answer of this provider which came with state.
    Issued,
}

/// The field of a message in which clear text stands, and that of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Clear text in this field.
    Text(&'static str),
    /// `reasoning_details`.
    Details,
    /// `extra_content`, in this namespace.
    Signature(&'static str),
    /// `reasoning_text` and `reasoning_opaque`.
    Opaque,
    /// Chunks of `content`.
    Chunks,
}

impl Flavour {
    pub(super) fn manner(self) -> Manner {
        match self {
            Self::DeepSeek | Self::Kimi | Self::MiMo | Self::Glm | Self::Qwen | Self::LlamaCpp => {
                Manner::Text("reasoning_content")
            }
            Self::Groq | Self::Cerebras | Self::Ollama | Self::Vllm => Manner::Text("reasoning"),
            Self::OpenRouter | Self::MiniMax => Manner::Details,
            Self::Gemini => Manner::Signature("google"),
            Self::Vertex => Manner::Signature("vertex"),
            Self::Copilot => Manner::Opaque,
            Self::Mistral => Manner::Chunks,
        }
    }

    /// The fields of a message of the assistant that are about reasoning and that this provider knows.
    pub(super) fn own_fields(self) -> &'static [&'static str] {
        match self.manner() {
            Manner::Text("reasoning_content") => &["reasoning_content"],
            Manner::Text(_) => &["reasoning"],
            Manner::Details => &["reasoning", "reasoning_details"],
            Manner::Signature(_) => &["extra_content", "thought_signature"],
            Manner::Opaque => &["reasoning_text", "reasoning_opaque"],
            Manner::Chunks => &[],
        }
    }

    /// Whether fields that it does not know are refused if nobody says otherwise.
    pub(super) fn is_strict(self) -> bool {
        matches!(self, Self::Groq | Self::Cerebras | Self::Gemini | Self::Vertex | Self::Mistral)
    }

    pub(super) fn demand(self) -> Demand {
        match self {
            Self::DeepSeek => Demand::WithTools,
            Self::Kimi | Self::MiMo => Demand::ToolCalls,
            Self::Gemini | Self::Vertex => Demand::CurrentTurn,
            Self::OpenRouter | Self::Copilot => Demand::Issued,
            _ => Demand::Nothing,
        }
    }

    pub(super) fn is_google(self) -> bool {
        matches!(self, Self::Gemini | Self::Vertex)
    }
}
