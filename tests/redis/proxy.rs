//! A wire between a store and its server that is slow, breaks, or lets nothing through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

#[derive(Default)]
struct State {
    /// How long an answer is held back, in milliseconds.
    delay: AtomicU64,
    /// After so many bytes of answers the connection is cut; negative: never.
    left: AtomicI64,
    /// How many bytes of answers went through.
    passed: AtomicU64,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { left: AtomicI64::new(-1), ..State::default() });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, shared.clone()));
            }
        });
        Self { port, state, task }
    }

    pub(crate) fn delay(&self, delay: Duration) {
        self.state.delay.store(u64::try_from(delay.as_millis()).unwrap(), SeqCst);
    }

    /// Cuts the connection once after so many more bytes of answers.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.state.left.store(i64::try_from(bytes).unwrap(), SeqCst);
    }

    /// Whether the cut was made.
    pub(crate) fn has_cut(&self) -> bool {
        self.state.left.load(SeqCst) < 0
    }

    /// How many bytes of answers went through so far.
    pub(crate) fn passed(&self) -> u64 {
        self.state.passed.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let ask = async move { tokio::io::copy(&mut from_client, &mut to_server).await };
    let answer = async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            match state.delay.load(SeqCst) {
                0 => {}
                delay => sleep(Duration::from_millis(delay)).await,
            }
            let left = state.left.load(SeqCst);
            let passes = usize::try_from(left).map_or(read, |left| left.min(read));
            state.passed.fetch_add(passes as u64, SeqCst);
            if to_client.write_all(&buffer[..passes]).await.is_err() {
                return;
            }
            if left >= 0 {
                let cut = passes < read || left == passes as i64;
                state.left.store(if cut { -1 } else { left - passes as i64 }, SeqCst);
                if cut {
                    let _ = to_client.flush().await;
                    return;
                }
            }
        }
    };
    tokio::select! {
        _ = ask => {}
        () = answer => {}
    }
}
