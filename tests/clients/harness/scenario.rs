//! What a conversation goes through.

/// A conversation of the user, the model and the tool `get_weather`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Three calls, one after the other, an answer, and another question.
    Loop,
    /// Two calls at once.
    Parallel,
    /// A question with an image, and a call.
    Image,
    /// As the loop, but the client leaves the second answer while it streams, and asks again.
    Abort,
    /// A call under one model, then under another, then under the first.
    Switch,
}

/// One answer of the model.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Calls for these cities, all at once.
    Calls(&'static [&'static str]),
    /// The same, after some words.
    TalkedCalls(&'static str, &'static [&'static str]),
    Text(&'static str),
}

const FINAL: &str = "Take an umbrella: it will rain until Friday.";

impl Scenario {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Parallel => "parallel",
            Self::Image => "image",
            Self::Abort => "abort",
            Self::Switch => "switch",
        }
    }

    pub(super) fn steps(self) -> &'static [Step] {
        use Step::{Calls, TalkedCalls, Text};
        match self {
            Self::Loop => &[
                Calls(&["Paris"]),
                Calls(&["Tokyo"]),
                Calls(&["Lima"]),
                Text("It rains in all three cities."),
                Text(FINAL),
            ],
            Self::Parallel => &[Calls(&["Paris", "Tokyo"]), Text(FINAL)],
            Self::Image => &[Calls(&["Paris"]), Text(FINAL)],
            Self::Abort => &[
                Calls(&["Paris"]),
                TalkedCalls("It is grey in Paris; let me look at the other two cities as well.", &["Tokyo"]),
                Calls(&["Lima"]),
                Text("It rains in all three cities."),
                Text(FINAL),
            ],
            Self::Switch => &[
                Calls(&["Paris"]),
                Text("It rains in Paris."),
                Calls(&["Tokyo"]),
                Text("It rains in Tokyo."),
                Calls(&["Lima"]),
                Text(FINAL),
            ],
        }
    }

    /// How often the tool is called.
    pub(super) fn calls(self) -> usize {
        let calls = |step: &Step| match step {
            Step::Calls(cities) | Step::TalkedCalls(_, cities) => cities.len(),
            Step::Text(_) => 0,
        };
        self.steps().iter().map(calls).sum()
    }

    /// The text with which the conversation ends.
    pub(super) fn final_text(self) -> &'static str {
        FINAL
    }

    /// How many requests it takes, at the least.
    pub(super) fn requests(self) -> usize {
        self.steps().len() + usize::from(self == Self::Abort)
    }

    /// How many of these must bring state to the provider: all that follow an answer whose state its provider demands.
    pub(super) fn with_state(self) -> usize {
        match self {
            // The first request under each model follows nothing of that model, or nothing that is demanded.
            Self::Switch => 3,
            _ => self.requests() - 1,
        }
    }
}
