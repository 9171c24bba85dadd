//! What the model says.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::testing::provider;

/// What the model answers to each request.
///
/// A script in turns is served without keeping a conversation: the turn is the one whose number is the
/// count of model turns that the request's history holds (neighbouring model contents count once), and
/// after the last turn the first one follows again.
///
/// ```
/// use serde_json::json;
/// use tower_reasoning_replay::testing::gemini::{Say, Script, Turn};
///
/// let script = Script::new([
///     Turn::new([
///         Say::thought("I had better look."),
///         Say::call("get_weather", json!({"city": "Paris"})),
///     ]),
///     Turn::new([Say::text("It rains in Paris.")]),
/// ]);
/// # let _ = script;
/// ```
pub type Script = provider::Script<Turn>;

/// A weather agent: one call, then two parallel calls, then an answer in two scripts.
impl Default for Script {
    fn default() -> Self {
        Self::new([
            Turn::new([
                Say::thought("The user asks about the weather. I should <look> it up."),
                Say::call("get_weather", json!({"city": "Paris", "days": 1})),
            ]),
            Turn::new([Say::calls([
                ("get_weather", json!({"city": "東京", "days": 2})),
                ("get_time", json!({"zone": "Asia/Tokyo"})),
            ])]),
            Turn::new([
                Say::thought("Both results are in; time to answer."),
                Say::text("It rains in \"Paris\" & the sun shines in 東京 (とうきょう): 24 °C.\nTake an umbrella."),
            ]),
        ])
    }
}

/// One answer of the model.
#[derive(Clone, Debug)]
pub struct Turn {
    pub(super) candidates: Vec<Vec<Say>>,
    pub(super) finish_reason: Option<String>,
    pub(super) block_reason: Option<String>,
}

impl Turn {
    /// An answer with one candidate that says this.
    #[must_use]
    pub fn new(says: impl IntoIterator<Item = Say>) -> Self {
        Self { candidates: vec![says.into_iter().collect()], finish_reason: None, block_reason: None }
    }

    /// An answer with one candidate that says nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::new([])
    }

    /// No candidate at all, only the feedback that the prompt was blocked, as for `SAFETY`.
    #[must_use]
    pub fn blocked(reason: impl Into<String>) -> Self {
        Self { candidates: Vec::new(), finish_reason: None, block_reason: Some(reason.into()) }
    }

    /// Adds another candidate, which takes the next index.
    #[must_use]
    pub fn candidate(mut self, says: impl IntoIterator<Item = Say>) -> Self {
        self.candidates.push(says.into_iter().collect());
        self
    }

    /// Ends every candidate for this reason, as `MAX_TOKENS`. Default: `STOP`, or `OTHER` where a Claude
    /// model calls a tool.
    #[must_use]
    pub fn finish_reason(mut self, reason: impl Into<String>) -> Self {
        self.finish_reason = Some(reason.into());
        self
    }
}

/// One piece of what the model says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Say {
    /// A visible thought. The one that belongs to a Claude model is signed.
    Thought(String),
    /// Text. Neighbours are one run, which is signed where it ends the answer (and, by image models, always).
    Text(String),
    /// Calls of the client's tools, by name and arguments. Only the first of an answer is signed.
    Calls(Vec<(String, Value)>),
    /// Code that the provider runs, in Python; signed.
    ExecutableCode(String),
    /// What that code printed; never signed.
    CodeResult(String),
    /// A call of one of the provider's tools; signed.
    ToolCall {
        /// Which tool, as `GOOGLE_SEARCH_WEB`.
        tool_type: String,
        /// What it is given.
        args: Value,
    },
    /// What the provider's tool gave back; signed. It shares the id of the call before it.
    ToolResponse {
        /// Which tool, as `GOOGLE_SEARCH_WEB`.
        tool_type: String,
        /// What it gave.
        response: Value,
    },
    /// An image or another medium; signed.
    Media {
        /// Its type, as `image/png`.
        mime_type: String,
        /// Its bytes.
        bytes: Bytes,
    },
}

impl Say {
    /// A visible thought.
    #[must_use]
    pub fn thought(text: impl Into<String>) -> Self {
        Self::Thought(text.into())
    }

    /// Text of the answer.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A call of one of the client's tools.
    #[must_use]
    pub fn call(name: impl Into<String>, args: Value) -> Self {
        Self::Calls(vec![(name.into(), args)])
    }

    /// Parallel calls of the client's tools.
    #[must_use]
    pub fn calls<N: Into<String>>(calls: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self::Calls(calls.into_iter().map(|(name, args)| (name.into(), args)).collect())
    }

    /// Python code that the provider runs.
    #[must_use]
    pub fn executable_code(code: impl Into<String>) -> Self {
        Self::ExecutableCode(code.into())
    }

    /// What the code printed.
    #[must_use]
    pub fn code_result(output: impl Into<String>) -> Self {
        Self::CodeResult(output.into())
    }

    /// A call of one of the provider's own tools.
    #[must_use]
    pub fn tool_call(tool_type: impl Into<String>, args: Value) -> Self {
        Self::ToolCall { tool_type: tool_type.into(), args }
    }

    /// The result of one of the provider's own tools.
    #[must_use]
    pub fn tool_response(tool_type: impl Into<String>, response: Value) -> Self {
        Self::ToolResponse { tool_type: tool_type.into(), response }
    }

    /// An image or another medium.
    #[must_use]
    pub fn media(mime_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::Media { mime_type: mime_type.into(), bytes: bytes.into() }
    }
}
