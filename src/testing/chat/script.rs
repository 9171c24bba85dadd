//! What the model says.

use serde_json::{Value, json};

use crate::testing::provider;

/// What the model answers to each request.
///
/// A script in turns is served without keeping a conversation: the turn is the one whose number is the count of the
/// assistant's steps that the request's history holds (neighbouring messages of the assistant count once), and after
/// the last turn the first one follows again.
///
/// ```
/// use serde_json::json;
/// use tower_reasoning_replay::testing::chat::{Say, Script, Turn};
///
/// let script = Script::new([
///     Turn::new([Say::reasoning("I had better look."), Say::call("get_weather", json!({"city": "Paris"}))]),
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
                Say::reasoning("The user asks about the weather. I should <look> it up."),
                Say::call("get_weather", json!({"city": "Paris", "days": 1})),
            ]),
            Turn::new([
                Say::reasoning("Now the other city, and its time."),
                Say::calls([
                    ("get_weather", json!({"city": "東京", "days": 2})),
                    ("get_time", json!({"zone": "Asia/Tokyo"})),
                ]),
            ]),
            Turn::new([
                Say::reasoning("Both results are in; time to answer."),
                Say::text("It rains in \"Paris\" & the sun shines in 東京 (とうきょう): 24 °C.\nTake an umbrella."),
            ]),
        ])
    }
}

/// One answer of the model.
#[derive(Clone, Debug)]
pub struct Turn {
    pub(super) choices: Vec<Vec<Say>>,
    pub(super) finish_reason: Option<String>,
}

impl Turn {
    /// An answer with one choice that says this. A request that asks for more choices (`n`) gets the last one again.
    #[must_use]
    pub fn new(says: impl IntoIterator<Item = Say>) -> Self {
        Self { choices: vec![says.into_iter().collect()], finish_reason: None }
    }

    /// An answer with one choice that says nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::new([])
    }

    /// Adds another choice, which takes the next index, whether the request asks for it or not.
    #[must_use]
    pub fn choice(mut self, says: impl IntoIterator<Item = Say>) -> Self {
        self.choices.push(says.into_iter().collect());
        self
    }

    /// Ends every choice for this reason, as `length`. Default: `tool_calls` where a tool is called (but not by
    /// Gemini), otherwise `stop`.
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
    /// Reasoning. If it is empty, its field is there, and empty.
    Reasoning(String),
    /// Text of the answer.
    Text(String),
    /// Calls of the client's tools, by name and arguments.
    Calls(Vec<(String, Value)>),
}

impl Say {
    /// Reasoning.
    #[must_use]
    pub fn reasoning(text: impl Into<String>) -> Self {
        Self::Reasoning(text.into())
    }

    /// Reasoning whose field is there, but empty.
    #[must_use]
    pub fn empty_reasoning() -> Self {
        Self::Reasoning(String::new())
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
}
