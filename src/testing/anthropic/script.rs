//! What the model says.

use serde_json::{Value, json};

use crate::testing::provider;

/// What the model answers to each request.
///
/// A script in turns is served without keeping a conversation: the turn is the one whose number is the count of
/// assistant turns that the request's history holds (neighbouring assistant messages count once), and after the last
/// turn the first one follows again.
///
/// ```
/// use serde_json::json;
/// use tower_reasoning_replay::testing::anthropic::{Say, Script, Turn};
///
/// let script = Script::new([
///     Turn::new([
///         Say::thinking("I had better look."),
///         Say::tool_use("get_weather", json!({"city": "Paris"})),
///     ]),
///     Turn::new([Say::text("It rains in Paris.")]),
/// ]);
/// # let _ = script;
/// ```
pub type Script = provider::Script<Turn>;

/// A weather agent: one call, then two parallel calls, then an answer in two scripts. It thinks before each.
impl Default for Script {
    fn default() -> Self {
        Self::new([
            Turn::new([
                Say::thinking("The user asks about the weather. I should <look> it up."),
                Say::text("Let me look."),
                Say::tool_use("get_weather", json!({"city": "Paris", "days": 1})),
            ]),
            Turn::new([
                Say::thinking("Paris is done; now 東京, weather and time."),
                Say::tool_uses([
                    ("get_weather", json!({"city": "東京", "days": 2})),
                    ("get_time", json!({"zone": "Asia/Tokyo"})),
                ]),
            ]),
            Turn::new([
                Say::thinking("Both results are in; time to answer."),
                Say::text("It rains in \"Paris\" & the sun shines in 東京 (とうきょう): 24 °C.\nTake an umbrella."),
            ]),
        ])
    }
}

/// One answer of the model.
#[derive(Clone, Debug)]
pub struct Turn {
    pub(super) says: Vec<Say>,
    pub(super) stop_reason: Option<String>,
}

impl Turn {
    /// An answer that says this.
    ///
    /// What is thought is left out where thinking is off. In manual mode, an answer that calls a tool begins with a
    /// thought, whether it is given here or not.
    #[must_use]
    pub fn new(says: impl IntoIterator<Item = Say>) -> Self {
        Self { says: says.into_iter().collect(), stop_reason: None }
    }

    /// Stops for this reason, as `pause_turn`. Default: `tool_use` after a call of the client's tools, or `end_turn`.
    #[must_use]
    pub fn stop_reason(mut self, reason: impl Into<String>) -> Self {
        self.stop_reason = Some(reason.into());
        self
    }
}

/// One piece of what the model says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Say {
    /// A thought in a signed block.
    Thinking(String),
    /// A thought whose block has a signature, but no text.
    HiddenThinking,
    /// A thought in a `redacted_thinking` block.
    Redacted,
    /// A block of text.
    Text(String),
    /// Calls of the client's tools, by name and input.
    ToolUses(Vec<(String, Value)>),
    /// A search that the provider does itself: its call, and a result with encrypted content for each page.
    WebSearch {
        /// What is searched for.
        query: String,
        /// Title and address of each page that is found.
        pages: Vec<(String, String)>,
    },
}

impl Say {
    /// A thought.
    #[must_use]
    pub fn thinking(text: impl Into<String>) -> Self {
        Self::Thinking(text.into())
    }

    /// A thought of which only the signature is shown.
    #[must_use]
    pub fn hidden_thinking() -> Self {
        Self::HiddenThinking
    }

    /// A thought of which nothing can be read.
    #[must_use]
    pub fn redacted() -> Self {
        Self::Redacted
    }

    /// Text of the answer.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A call of one of the client's tools.
    #[must_use]
    pub fn tool_use(name: impl Into<String>, input: Value) -> Self {
        Self::ToolUses(vec![(name.into(), input)])
    }

    /// Parallel calls of the client's tools.
    #[must_use]
    pub fn tool_uses<N: Into<String>>(calls: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self::ToolUses(calls.into_iter().map(|(name, input)| (name.into(), input)).collect())
    }

    /// A search by the provider that finds one page.
    #[must_use]
    pub fn web_search(query: impl Into<String>) -> Self {
        let page = ("Example Domain".to_owned(), "https://example.com/".to_owned());
        Self::WebSearch { query: query.into(), pages: vec![page] }
    }

    pub(super) fn is_thought(&self) -> bool {
        matches!(self, Self::Thinking(_) | Self::HiddenThinking | Self::Redacted)
    }
}
