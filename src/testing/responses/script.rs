//! What the model says.

use serde_json::{Value, json};

use crate::testing::provider;

/// What the model answers to each request.
///
/// A script in turns is served without keeping a conversation: the turn is the one whose number is the
/// count of model turns that the request's history holds (whatever of one response is still there counts once, and
/// so do neighbouring items of the model), and after the last turn the first one follows again.
///
/// ```
/// use serde_json::json;
/// use tower_reasoning_replay::testing::responses::{Say, Script, Turn};
///
/// let script = Script::new([
///     Turn::new([
///         Say::reasoning(["I had better look."]),
///         Say::call("get_weather", json!({"city": "Paris"})),
///     ]),
///     Turn::new([Say::text("It rains in Paris.")]),
/// ]);
/// # let _ = script;
/// ```
pub type Script = provider::Script<Turn>;

/// A weather agent: one call, then two parallel calls, then an answer in two scripts. Each is reasoned about.
impl Default for Script {
    fn default() -> Self {
        Self::new([
            Turn::new([
                Say::reasoning(["**Planning**\n\nThe user asks about the weather. I should <look> it up."]),
                Say::call("get_weather", json!({"city": "Paris", "days": 1})),
            ]),
            Turn::new([
                Say::hidden_reasoning(),
                Say::calls([
                    ("get_weather", json!({"city": "東京", "days": 2})),
                    ("get_time", json!({"zone": "Asia/Tokyo"})),
                ]),
            ]),
            Turn::new([
                Say::reasoning(["**Answering**", "Both results are in."]),
                Say::text("It rains in \"Paris\" & the sun shines in 東京 (とうきょう): 24 °C.\nTake an umbrella."),
            ]),
        ])
    }
}

/// How an answer ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    Completed,
    Incomplete { reason: String },
    Failed { code: String, message: String },
}

/// One answer of the model.
#[derive(Clone, Debug)]
pub struct Turn {
    pub(super) says: Vec<Say>,
    pub(super) end: End,
}

impl Turn {
    /// An answer that says this, each piece as an item of its own.
    #[must_use]
    pub fn new(says: impl IntoIterator<Item = Say>) -> Self {
        Self { says: says.into_iter().collect(), end: End::Completed }
    }

    /// An answer without any item.
    #[must_use]
    pub fn empty() -> Self {
        Self::new([])
    }

    /// Ends the answer with `response.incomplete` for this reason, as `max_output_tokens`. Its last item is
    /// incomplete too.
    #[must_use]
    pub fn incomplete(mut self, reason: impl Into<String>) -> Self {
        self.end = End::Incomplete { reason: reason.into() };
        self
    }

    /// Ends the answer with `response.failed`, this code and this message.
    #[must_use]
    pub fn failed(mut self, code: impl Into<String>, message: impl Into<String>) -> Self {
        self.end = End::Failed { code: code.into(), message: message.into() };
        self
    }
}

/// One piece of what the model says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Say {
    /// Encrypted reasoning, with as many parts of summary as there are texts.
    Reasoning(Vec<String>),
    /// Reasoning in the clear, as DeepSeek and open-weight models give it: nothing is encrypted.
    ReasoningText(String),
    /// A message.
    Text {
        /// What it says.
        text: String,
        /// Its phase, as `commentary` or `final_answer`.
        phase: Option<String>,
    },
    /// Calls of the client's functions, by name and arguments, each an item.
    Calls(Vec<(String, Value)>),
    /// A call of one of the client's tools that take text.
    CustomToolCall {
        /// The tool's name.
        name: String,
        /// What it is given.
        input: String,
    },
    /// A search that the provider ran.
    WebSearchCall {
        /// What was searched for.
        query: String,
    },
    /// What is left of the conversation after the provider compacted it.
    Compaction,
}

impl Say {
    /// Encrypted reasoning, with these parts of summary.
    #[must_use]
    pub fn reasoning<T: Into<String>>(summary: impl IntoIterator<Item = T>) -> Self {
        Self::Reasoning(summary.into_iter().map(Into::into).collect())
    }

    /// Encrypted reasoning without any summary.
    #[must_use]
    pub fn hidden_reasoning() -> Self {
        Self::Reasoning(Vec::new())
    }

    /// Reasoning in the clear.
    #[must_use]
    pub fn reasoning_text(text: impl Into<String>) -> Self {
        Self::ReasoningText(text.into())
    }

    /// A message without a phase.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), phase: None }
    }

    /// A message of a phase, as `commentary` or `final_answer`.
    #[must_use]
    pub fn phased_text(phase: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), phase: Some(phase.into()) }
    }

    /// One call of a function.
    #[must_use]
    pub fn call(name: impl Into<String>, args: Value) -> Self {
        Self::calls([(name, args)])
    }

    /// Parallel calls of functions.
    #[must_use]
    pub fn calls<N: Into<String>>(calls: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self::Calls(calls.into_iter().map(|(name, args)| (name.into(), args)).collect())
    }

    /// A call of a tool that takes text.
    #[must_use]
    pub fn custom_tool_call(name: impl Into<String>, input: impl Into<String>) -> Self {
        Self::CustomToolCall { name: name.into(), input: input.into() }
    }

    /// A search that the provider ran.
    #[must_use]
    pub fn web_search_call(query: impl Into<String>) -> Self {
        Self::WebSearchCall { query: query.into() }
    }

    /// What is left of the conversation after the provider compacted it.
    #[must_use]
    pub fn compaction() -> Self {
        Self::Compaction
    }
}
