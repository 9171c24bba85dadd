//! A server of Redis or Valkey, and the hash key that it keeps for all gateways that share it.

use std::{fmt::Write, time::Duration};

use redis::{
    Client, IntoConnectionInfo, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use tower_reasoning_replay::scope::HashKey;

#[derive(Clone)]
pub(crate) struct Server {
    connection: ConnectionManager,
    /// Under which name the server keeps the hash key.
    name: String,
}

/// A hash key, and what tells it from another.
pub(crate) struct SharedKey {
    pub(crate) key: HashKey,
    pub(crate) digits: String,
}

impl Server {
    /// How long an operation may take. The engine waits for a part of that.
    pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

    /// Connects when it is first asked, and again after the connection was lost. The error does not repeat the URL.
    pub(crate) fn at(url: &str, prefix: &str) -> Result<Self, String> {
        let unusable = |_| "--store: this is no URL of a server, as redis://127.0.0.1:6379/0".to_owned();
        let info = url.into_connection_info().map_err(unusable)?;
        // A server that vanished without closing its connections would be noticed late.
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(Self::PATIENCE);
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(unusable)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Self::PATIENCE))
            .set_response_timeout(Some(Self::PATIENCE))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(unusable)?;
        Ok(Self { connection, name: format!("{prefix}hash-key") })
    }

    pub(crate) fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// The hash key that the server keeps. Of all that ask at the same time one makes it: the one that is `known`, or a
    /// random one.
    pub(crate) async fn key(&self, known: Option<&str>) -> Result<SharedKey, String> {
        let ours = match known {
            Some(digits) => digits.to_owned(),
            None => random_digits()?,
        };
        let kept: RedisResult<String> = async {
            let mut connection = self.connection();
            // Without an expiry. It is not made anew while there is one, so what is read is what all have.
            let () = redis::cmd("SET").arg(&self.name).arg(&ours).arg("NX").query_async(&mut connection).await?;
            redis::cmd("GET").arg(&self.name).query_async(&mut connection).await
        }
        .await;
        let digits = kept.map_err(|error| format!("the server of the store does not answer: {error}"))?;
        let key = HashKey::from_hex(&digits).map_err(|error| format!("{} on the server: {error}", self.name))?;
        Ok(SharedKey { key, digits })
    }
}

fn random_digits() -> Result<String, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no randomness: {error}"))?;
    Ok(bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    }))
}
