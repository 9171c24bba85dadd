//! The programs: what they are told, and what they tell.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::install::Installed;

/// Far more than any conversation takes; the slowest part is the start of an interpreter.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a client is run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    /// A file in `tests/clients/python`.
    Python(&'static str),
    /// A file in `tests/clients/js`.
    Node(&'static str),
    /// A file in `tests/clients/cli`, and the tool of its own that the model calls.
    Agent(&'static str, Tool),
}

/// A tool that the model is to call for a city.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// The name of the argument, and what is in it for a city.
    pub(super) argument: (&'static str, fn(&str) -> String),
}

impl Tool {
    /// The tool of all programs that are no agents.
    const WEATHER: Self = Self { name: "get_weather", argument: ("city", str::to_owned) };

    /// A shell, which has a file for each city.
    pub(super) const fn shell(name: &'static str, argument: &'static str) -> Self {
        Self { name, argument: (argument, |city| format!("cat {city}.txt")) }
    }

    pub(super) fn calls(self, cities: &[&str]) -> Vec<(&'static str, Value)> {
        let (argument, text) = self.argument;
        cities.iter().map(|city| (self.name, json!({argument: text(city)}))).collect()
    }
}

/// What a program is told: its one argument.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Asked {
    pub(super) base_url: String,
    pub(super) api_key: String,
    pub(super) dialect: &'static str,
    pub(super) scenario: &'static str,
    pub(super) stream: bool,
    pub(super) model: &'static str,
    pub(super) other_model: &'static str,
    /// A name for the conversation, which the program sends as `x-session-id`. Without one it sends what its SDK sends
    /// by itself.
    pub(super) session: Option<String>,
}

/// What a program tells, in the last line that it prints.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    /// The text of the last answer.
    #[serde(rename = "final")]
    pub(super) last: Option<String>,
    /// The names of the tools that were called.
    #[serde(default)]
    pub(super) calls: Vec<String>,
    /// The provider's error, if it refused a request.
    pub(super) refused: Option<String>,
    /// Why the client cannot do this.
    pub(super) unsupported: Option<String>,
    pub(super) version: Option<String>,
}

impl Program {
    fn command(self, installed: &Installed) -> Command {
        match self {
            Self::Python(file) => {
                let mut command = Command::new(installed.python());
                command.arg(super::install::sources("python").join(file));
                command
            }
            Self::Node(file) => node(&installed.node(), file),
            Self::Agent(file, _) => node(&installed.agents(), file),
        }
    }

    /// Whether it can be told to stream: agents always do.
    pub(super) fn streams(self) -> &'static [bool] {
        if let Self::Agent(..) = self { &[true] } else { &[false, true] }
    }

    /// The tool that the model calls.
    pub(super) fn tool(self) -> Tool {
        if let Self::Agent(_, tool) = self { tool } else { Tool::WEATHER }
    }

    /// Runs it; what goes wrong is told in words. `notes` is where its output goes, with the endings `out` and `err`.
    pub(super) fn run(self, asked: &Asked, installed: &Installed, notes: &Path) -> Result<Told, String> {
        let (out, err) = (ending(notes, "out"), ending(notes, "err"));
        let mut command = self.command(installed);
        command.arg(serde_json::to_string(asked).unwrap());
        // Keys and proxies of whoever runs this are none of the programs' business.
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LANG"));
        command.env("HOME", installed.home()).env("NO_PROXY", "127.0.0.1");
        command.env("PYTHONPYCACHEPREFIX", installed.home().join("pycache"));
        command.env("DO_NOT_TRACK", "1").env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut child = command.spawn().map_err(|error| format!("the program does not start: {error}"))?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                return Err(format!("the program did not end within {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = std::fs::read_to_string(&out).unwrap();
        if !status.success() {
            let complaint = std::fs::read_to_string(&err).unwrap();
            let complaint = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            return Err(format!("the program broke: {complaint}"));
        }
        let line = said.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(|error| format!("the program told nothing that can be read: {error}"))
    }
}

/// With the node of that installation: the packages want a newer one than many machines have.
fn node(installation: &Path, file: &str) -> Command {
    let mut command = Command::new(installation.join("node_modules/.bin/node"));
    command.arg(installation.join(file));
    command
}

pub(super) fn ending(notes: &Path, ending: &str) -> PathBuf {
    notes.with_added_extension(ending)
}
