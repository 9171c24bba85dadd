//! Gets the clients: pinned packages, below the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{clients::Client, program::Program};

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    root: PathBuf,
}

impl Installed {
    pub(super) fn python(&self) -> PathBuf {
        self.root.join("venv/bin/python")
    }

    /// Where `node_modules` is, and copies of the programs: modules are looked for beside the file that imports them.
    pub(super) fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    /// As [`node`](Self::node), for the command lines of agents.
    pub(super) fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    /// The home of the programs.
    pub(super) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Where runs leave their notes.
    pub(super) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }
}

/// A folder of programs of this target.
pub(super) fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(language)
}

/// The folder of this build, as `target/debug`.
fn profile() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

/// Builds the gateway and gets what these clients need.
///
/// # Panics
///
/// Panics with the list of everything that could not be had.
pub(crate) fn all(clients: &[&Client]) -> Installed {
    let root = profile().parent().unwrap().join("clients");
    let installed = Installed { root };
    for folder in [installed.home(), installed.node(), installed.agents(), installed.runs()] {
        fs::create_dir_all(folder).unwrap();
    }
    let mut missing = gateway();
    if clients.iter().any(|client| matches!(client.program, Program::Python(_))) {
        missing.extend(python(&installed));
    }
    if clients.iter().any(|client| matches!(client.program, Program::Node(_))) {
        missing.extend(node("js", &installed.node()));
    }
    if clients.iter().any(|client| matches!(client.program, Program::Agent(..))) {
        missing.extend(node("cli", &installed.agents()));
    }
    assert!(missing.is_empty(), "these are missing:\n- {}", missing.join("\n- "));
    installed
}

/// `cargo test --test` builds no examples.
fn gateway() -> Vec<String> {
    let profile = profile();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--example", "gateway", "--features", "clients", "--target-dir"]);
    command.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test of its package makes build scripts of others run anew, here and in the next build.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(name) => {
            command.args(["--profile", name]);
        }
    }
    ran("the gateway", &mut command).err().into_iter().collect()
}

/// Runs what may take a while; if it fails, its last words.
fn ran(what: &str, command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(format!("{what}: {}", lines[lines.len().saturating_sub(3)..].join(" / ")))
}

/// Whether this was installed from the same lists; it is noted behind the installation.
fn is_current(stamp: &Path, lists: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|noted| noted == lists)
}

fn read(files: &[PathBuf]) -> String {
    files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

fn python(installed: &Installed) -> Vec<String> {
    let [requirements, constraints] = ["requirements.txt", "constraints.txt"].map(|file| sources("python").join(file));
    let lists = read(&[requirements.clone(), constraints.clone()]);
    let venv = installed.root.join("venv");
    let stamp = venv.join("installed.txt");
    if is_current(&stamp, &lists) {
        return Vec::new();
    }
    println!("installing the packages of PyPI in {}", venv.display());
    if let Err(why) = ran("a Python with venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)) {
        return vec![why];
    }
    let pip = |what: &str, wanted: &[&std::ffi::OsStr]| {
        let mut command = Command::new(installed.python());
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "2"]);
        ran(what, command.arg("--constraint").arg(&constraints).args(wanted))
    };
    if pip("PyPI", &["--requirement".as_ref(), requirements.as_ref()]).is_ok() {
        fs::write(stamp, lists).unwrap();
        return Vec::new();
    }
    // One of them is at fault, or all: ask for each by itself.
    let wanted = fs::read_to_string(&requirements).unwrap();
    let lines = wanted.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let missing: Vec<String> = lines.filter_map(|line| pip(line, &[line.as_ref()]).err()).collect();
    if missing.is_empty() { vec!["PyPI: what is pinned does not go together".to_owned()] } else { missing }
}

fn node(language: &str, folder: &Path) -> Vec<String> {
    let lists: Vec<PathBuf> =
        ["package.json", "package-lock.json"].iter().map(|file| sources(language).join(file)).collect();
    let current = read(&lists);
    for file in fs::read_dir(sources(language)).unwrap() {
        let file = file.unwrap();
        if file.path().is_file() {
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
    let stamp = folder.join("installed.txt");
    if is_current(&stamp, &current) {
        return Vec::new();
    }
    println!("installing the packages of npm in {}", folder.display());
    if let Err(why) = ran("node", Command::new("node").arg("--version")) {
        return vec![why];
    }
    let mut command = Command::new("npm");
    command.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    match ran("npm", &mut command) {
        Ok(()) => {
            fs::write(stamp, current).unwrap();
            Vec::new()
        }
        Err(why) => vec![why],
    }
}
