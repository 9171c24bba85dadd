//! One run of one program.

use std::{fmt, fmt::Write as _, path::Path};

use super::{
    clients::Client,
    install::Installed,
    program::{Asked, ending},
    provider::{Protocol, Provider},
    scenario::Scenario,
    translator::Translator,
    verdict::{Verdict, judge},
};
use crate::process::Gateway;

/// What stands between the program and the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// A forgetful translator, and the layer.
    Replay,
    /// The same, and the client names its conversation.
    Named,
    /// A forgetful translator, and no layer: must be refused.
    Nothing,
    /// The layer, and no translator.
    Kept,
    /// Neither: shows what the client keeps by itself.
    Alone,
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) between: Between,
    pub(crate) scenario: Scenario,
    pub(crate) stream: bool,
}

impl Case {
    /// All cases of one client.
    pub(crate) fn of(client: &Client) -> Vec<Self> {
        let mut cases = Vec::new();
        for &stream in client.program.streams() {
            let mut case = |between, scenario| cases.push(Self { between, scenario, stream });
            for scenario in [Scenario::Loop, Scenario::Parallel, Scenario::Image, Scenario::Abort, Scenario::Switch] {
                // Only a stream can be left half-way.
                if stream || scenario != Scenario::Abort {
                    case(Between::Replay, scenario);
                }
            }
            for between in [Between::Alone, Between::Kept, Between::Nothing, Between::Named] {
                case(between, Scenario::Loop);
            }
        }
        cases
    }

    /// Whether there is no layer, so that a refusal for want of state is a result and no failure.
    pub(super) fn is_bare(self) -> bool {
        matches!(self.between, Between::Nothing | Between::Alone)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scenario.name())?;
        f.write_str(match self.between {
            Between::Replay => "",
            Between::Named => " with a session id",
            Between::Nothing => " without the layer",
            Between::Kept => " with what the client keeps",
            Between::Alone => " with what the client keeps and without the layer",
        })?;
        f.write_str(if self.stream { ", streamed" } else { "" })
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) version: Option<String>,
}

/// Runs one case.
pub(super) async fn run(client: &'static Client, protocol: Protocol, case: Case, installed: &Installed) -> Outcome {
    let forgetful = !matches!(case.between, Between::Kept | Between::Alone);
    // How a client lays out what it keeps is between it and its provider.
    let provider = Provider::playing(protocol, case.scenario, client.program, forgetful);
    let without: &[&str] = &["--no-replay"];
    let flags = if case.is_bare() { without } else { &[] };
    let gateway = Gateway::before(provider.serve().await, flags);
    let translator = Translator::before(gateway.address, forgetful).await;
    let [model, other_model] = protocol.models();
    let asked = Asked {
        base_url: format!("http://{}", translator.address),
        api_key: "key-of-the-caller".to_owned(),
        dialect: protocol.dialect(),
        scenario: case.scenario.name(),
        stream: case.stream,
        model,
        other_model,
        session: (case.between == Between::Named).then(|| "session-of-the-caller".to_owned()),
    };
    let name = format!("{} {} {case}", client.name, protocol.name()).replace([' ', ',', '(', ')', '/'], "-");
    let notes = installed.runs().join(name);
    let told = {
        let (installed, notes) = (installed.clone(), notes.clone());
        tokio::task::spawn_blocking(move || client.program.run(&asked, &installed, &notes)).await.unwrap()
    };
    let seen = provider.requests();
    let version = told.as_ref().ok().and_then(|told| told.version.clone());
    let said = format!("{told:?}");
    let verdict = judge(told, &seen, protocol, &case, client.program.tool());
    let mut log = format!("{verdict}\n{said}\nthe translator dropped {}\n", translator.stripped());
    for request in &seen {
        let body = String::from_utf8_lossy(&request.body);
        writeln!(log, "\n{request:?}\n{:?}\n{body}", request.headers).unwrap();
    }
    gateway.terminate();
    log.push('\n');
    log.push_str(&gateway.ended().await.log);
    write(&notes, &log);
    Outcome { verdict, version }
}

fn write(notes: &Path, log: &str) {
    std::fs::write(ending(notes, "log"), log).unwrap();
}
