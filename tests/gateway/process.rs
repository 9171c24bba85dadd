//! The gateway as a process.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Everything that our own code and tower-http log.
const LOG: &str = "info,gateway=trace,tower_reasoning_replay=trace,tower_http=trace";

/// Where the gateway takes its hash key from if no flag gives one.
const KEY_VARIABLE: &str = "REPLAY_KEY";

fn command() -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let binary: PathBuf = profile.join("examples").join("gateway");
    assert!(
        binary.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test gateway` wants `cargo build --example gateway` first",
        binary.display()
    );
    let mut command = Command::new(binary);
    command.env("RUST_LOG", LOG).env_remove(KEY_VARIABLE);
    command
}

/// Runs the gateway with flags that let it end at once.
pub(crate) fn run(flags: &[&str]) -> Output {
    command().args(flags).stdin(Stdio::null()).output().unwrap()
}

/// As [`run`], with a hash key in the environment.
#[cfg(any(feature = "disk", feature = "redis"))]
pub(crate) fn run_with_key(key: &str, flags: &[&str]) -> Output {
    command().env(KEY_VARIABLE, key).args(flags).stdin(Stdio::null()).output().unwrap()
}

/// A running gateway. Dropping it kills it.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: Option<JoinHandle<String>>,
}

/// How a gateway ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it said after that it listens.
    pub(crate) stdout: String,
    pub(crate) log: String,
}

impl Gateway {
    /// Starts it with these flags, on a port of its choice.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::spawn(command(), flags)
    }

    fn spawn(mut command: Command, flags: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).unwrap();
            String::from_utf8(log).unwrap()
        });
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.trim_end().strip_prefix("listening on ") else {
            child.kill().unwrap();
            panic!("the gateway said {line:?} and {}", log.join().unwrap());
        };
        let address = address.parse().unwrap();
        Self { address, child, stdout, log: Some(log) }
    }

    /// Starts it in front of one upstream.
    pub(crate) fn before(upstream: SocketAddr, flags: &[&str]) -> Self {
        let upstream = format!("http://{upstream}");
        Self::start(&[&["--upstream", &upstream], flags].concat())
    }

    /// As [`before`](Self::before), with a hash key in the environment.
    #[cfg(any(feature = "disk", feature = "redis"))]
    pub(crate) fn with_key(key: &str, upstream: SocketAddr, flags: &[&str]) -> Self {
        let mut command = command();
        command.env(KEY_VARIABLE, key);
        let upstream = format!("http://{upstream}");
        Self::spawn(command, &[&["--upstream", &upstream], flags].concat())
    }

    /// Ends it at once, as `kill -9` does.
    #[cfg(any(feature = "disk", feature = "redis"))]
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        Ended { status, stdout, log }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
