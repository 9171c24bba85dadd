//! A server of Redis or Valkey, for as long as a test takes.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use redis::{
    Cmd,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

pub(crate) struct Server {
    process: Option<Child>,
    pub(crate) port: u16,
    folder: PathBuf,
    options: Vec<String>,
}

/// Where the server and its libraries are.
fn program() -> &'static (PathBuf, PathBuf) {
    static PROGRAM: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redis/server.sh");
        let tools =
            Path::new(&std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("tools/redis");
        let output = Command::new(&script).arg(tools).output().expect("sh runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "there is no server of Redis or Valkey, and none could be fetched: {said}");
        let output = String::from_utf8(output.stdout).expect("paths are text");
        let mut lines = output.lines();
        (lines.next().expect("a path").into(), lines.next().unwrap_or_default().into())
    })
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with options beside the usual ones.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("replay-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the server");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { process: None, port: 0, folder, options };
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            server.port = listener.local_addr().expect("an address").port();
            drop(listener);
            // Another process may have taken the port meanwhile, or the one beside it that a cluster uses.
            if server.port < 50_000 && server.run() {
                return server;
            }
        }
        panic!("the server did not start; its log is in {}", server.folder.display());
    }

    /// Starts the process, and waits until it answers.
    pub(crate) fn run(&mut self) -> bool {
        let (program, libraries) = program();
        let log = std::fs::File::create(self.folder.join("log")).expect("a log");
        let mut command = Command::new(program);
        if !libraries.as_os_str().is_empty() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let child = command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(&self.folder)
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("the server runs");
        let child = self.process.insert(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if child.try_wait().expect("a process").is_some() {
                return false;
            }
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if log.contains("eady to accept connections") {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends the process at once; what it held is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// The process takes connections no more, nor answers, but lives.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) async fn connect(&self) -> ConnectionManager {
        connect(self.port).await
    }

    /// Asks the server something directly.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &Cmd) -> T {
        let mut connection = self.connect().await;
        command.query_async(&mut connection).await.expect("the server answers")
    }
}

/// A connection that comes back quickly.
pub(crate) async fn connect(port: u16) -> ConnectionManager {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a client");
    let config = ConnectionManagerConfig::new()
        .set_min_delay(Duration::from_millis(1))
        .set_max_delay(Duration::from_millis(20))
        .set_number_of_retries(2)
        .set_connection_timeout(Some(Duration::from_millis(300)))
        .set_response_timeout(Some(Duration::from_secs(5)));
    ConnectionManager::new_lazy_with_config(client, config).expect("a connection")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
