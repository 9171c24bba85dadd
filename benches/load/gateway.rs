//! The gateway as a process, and the CPU time that it has used.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where the gateway is. It is built beside this program, unless `gateway=PATH` names one.
pub(crate) fn binary(named: Option<&str>) -> PathBuf {
    if let Some(path) = named {
        return path.into();
    }
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--example", "gateway", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .status()
        .unwrap();
    assert!(built.success(), "the gateway was not built");
    profile.join("examples").join("gateway")
}

/// A running gateway. Dropping it kills it.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Gateway {
    pub(crate) fn start(binary: &Path, upstream: SocketAddr, flags: &[&str]) -> Self {
        let mut child = Command::new(binary)
            .args(["--listen", "127.0.0.1:0", "--upstream", &format!("http://{upstream}")])
            .args(flags)
            // A line in the log for each request would be the same on both sides, and make the difference look smaller.
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").expect("the gateway says where it listens");
        Self { address: address.parse().unwrap(), child }
    }

    /// CPU time that its threads have used since they began, in nanoseconds. None of them ends while it is measured.
    pub(crate) fn cpu(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("needs the /proc of Linux");
        threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
            .map(|line| line.split(' ').next().and_then(|on_cpu| on_cpu.parse::<u64>().ok()).unwrap())
            .sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
