//! What is said of a run.

use std::fmt;

use tower_reasoning_replay::testing::chat::Recorded;

use super::{
    program::{Told, Tool},
    provider::Protocol,
    run::Case,
};

/// How a run went, in the words of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It went as it should; so many refusals never reached the client.
    Works { healed: usize },
    /// The client cannot do this, and why.
    NotSupported(String),
    /// All went well for the client, but only so many requests brought state: this provider does not insist on it.
    Lacks { state: usize, of: usize },
    /// What went wrong.
    Fails(String),
    /// The provider refused a request for want of state, and the client was told, where that was to be seen.
    Refused,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works { healed: 0 } => f.write_str("works"),
            Self::Works { healed } => write!(f, "works (healed {healed})"),
            Self::NotSupported(why) => write!(f, "not supported by the client: {why}"),
            Self::Lacks { state, of } => write!(f, "fails: only {state} of {of} requests brought state"),
            Self::Fails(why) => write!(f, "fails: {why}"),
            Self::Refused => f.write_str("refused"),
        }
    }
}

/// Judges what a program told by what its provider saw.
pub(super) fn judge(
    told: Result<Told, String>,
    seen: &[Recorded],
    protocol: Protocol,
    case: &Case,
    tool: Tool,
) -> Verdict {
    let scenario = case.scenario;
    let told = match told {
        Ok(told) => told,
        Err(why) => return Verdict::Fails(why),
    };
    if let Some(why) = told.unsupported {
        return Verdict::NotSupported(why);
    }
    let refusals: Vec<&str> = seen.iter().filter_map(|request| request.refusal.as_deref()).collect();
    if let Some(refused) = told.refused {
        let is_missing = refused.contains(protocol.missing());
        return match refusals.last() {
            Some(said) if is_missing && said.contains(protocol.missing()) && case.is_bare() => Verdict::Refused,
            Some(said) if is_missing && said.contains(protocol.missing()) => {
                Verdict::Fails("refused for want of state".to_owned())
            }
            Some(said) => Verdict::Fails(format!("the provider refuses: {}", said.trim_end())),
            None => Verdict::Fails(format!("the client reports: {}", refused.trim_end())),
        };
    }
    if told.last.as_deref() != Some(scenario.final_text()) {
        return Verdict::Fails(format!("the last answer is {:?}", told.last.unwrap_or_default()));
    }
    if told.calls.len() != scenario.calls() || told.calls.iter().any(|name| name != tool.name) {
        return Verdict::Fails(format!("the tool was called {} times, as {:?}", told.calls.len(), told.calls));
    }
    if seen.len() < scenario.requests() {
        return Verdict::Fails(format!("only {} requests arrived", seen.len()));
    }
    let with_state = seen.iter().filter(|request| request.refusal.is_none() && request.genuine > 0).count();
    if with_state < scenario.with_state() {
        return Verdict::Lacks { state: with_state, of: seen.len() };
    }
    Verdict::Works { healed: refusals.len() }
}
