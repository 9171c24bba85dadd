//! Where state is remembered, and under which keys.

#[cfg(any(feature = "disk", feature = "redis"))]
use std::path::Path;
use std::{error::Error as StdError, fmt, path::PathBuf, str::FromStr};
#[cfg(feature = "redis")]
use std::{fs, io};

#[cfg(feature = "redis")]
use redis::aio::ConnectionManager;
#[cfg(feature = "disk")]
use tower_reasoning_replay::store::DiskStore;
#[cfg(feature = "redis")]
use tower_reasoning_replay::store::RedisStore;
use tower_reasoning_replay::{MemoryStore, scope::HashKey};

use crate::flags::Flags;
#[cfg(feature = "redis")]
use crate::server::Server;

/// The variable of the environment that holds the hash key.
pub(crate) const KEY_VARIABLE: &str = "REPLAY_KEY";

/// What `--store` names.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Place {
    #[default]
    Memory,
    /// A URL, which may hold a password.
    Redis(String),
    Disk(PathBuf),
}

impl Place {
    pub(crate) fn is_redis(&self) -> bool {
        matches!(self, Self::Redis(_))
    }
}

impl FromStr for Place {
    type Err = String;

    /// The error does not repeat what was given: it may hold a password.
    fn from_str(value: &str) -> Result<Self, String> {
        let not_built_in = |what: &str, feature: &str| {
            format!("{what} takes the feature {feature:?}: build the gateway with `--features {feature}`")
        };
        if value == "memory" {
            Ok(Self::Memory)
        } else if value.starts_with("redis://") || value.starts_with("rediss://") {
            let built_in = cfg!(feature = "redis");
            built_in.then(|| Self::Redis(value.to_owned())).ok_or_else(|| not_built_in("a store on a server", "redis"))
        } else if let Some(path) = value.strip_prefix("disk:") {
            if path.is_empty() {
                return Err("after disk: comes the path of a file".to_owned());
            }
            let built_in = cfg!(feature = "disk");
            built_in.then(|| Self::Disk(path.into())).ok_or_else(|| not_built_in("a store on disk", "disk"))
        } else {
            Err("this is none of memory, redis://HOST:PORT[/DB], rediss://HOST:PORT[/DB] and disk:PATH".to_owned())
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::Redis(_) => "Redis(..)",
            Self::Disk(_) => "Disk(..)",
        })
    }
}

/// An open store.
#[derive(Clone)]
pub(crate) enum Opened {
    Memory(MemoryStore),
    #[cfg(feature = "redis")]
    Redis(RedisStore<ConnectionManager>),
    #[cfg(feature = "disk")]
    Disk(DiskStore),
}

/// Where the hash key comes from.
pub(crate) enum KeyFrom {
    /// It is drawn at random, for as long as the process lives.
    Nowhere,
    Given(HashKey),
    /// The store keeps it, for all that share the store.
    #[cfg(feature = "redis")]
    Server(Server),
}

/// Opens the store that the flags name, and says where its hash key is. Asks no server.
pub(crate) fn open(flags: &Flags) -> Result<(Opened, KeyFrom), Box<dyn StdError>> {
    let given = given_key(flags)?;
    match &flags.store {
        Place::Memory => {
            let store = MemoryStore::builder().max_ledgers(flags.max_ledgers()).time_to_live(flags.ttl).build()?;
            Ok((Opened::Memory(store), given.map_or(KeyFrom::Nowhere, KeyFrom::Given)))
        }
        #[cfg(feature = "redis")]
        Place::Redis(url) => {
            let server = Server::at(url, flags.store_prefix())?;
            let mut store = RedisStore::builder(server.connection())
                .prefix(flags.store_prefix())
                .ttl(flags.ttl)
                .operation_timeout(Server::PATIENCE);
            if let Some(path) = &flags.seal_key_file {
                store = store.seal(seal(path)?);
            }
            let store = Opened::Redis(store.build()?);
            Ok((store, given.map_or(KeyFrom::Server(server), KeyFrom::Given)))
        }
        #[cfg(feature = "disk")]
        Place::Disk(path) => {
            let key = match given {
                Some(key) => key,
                None => {
                    let mut beside = path.clone().into_os_string();
                    beside.push(".key");
                    let key = HashKey::load_or_create(&beside).map_err(with_causes)?;
                    tracing::warn!(
                        path = %Path::new(&beside).display(),
                        "the hash key is kept beside the store: this does not protect against one who steals both; \
                         --key-file or {KEY_VARIABLE} gives one from elsewhere"
                    );
                    key
                }
            };
            let store = DiskStore::builder(path).max_ledgers(flags.max_ledgers()).ttl(flags.ttl).open();
            Ok((Opened::Disk(store.map_err(with_causes)?), KeyFrom::Given(key)))
        }
        #[cfg(not(all(feature = "redis", feature = "disk")))]
        _ => Err("this store is not built in".into()),
    }
}

impl Opened {
    /// Waits until everything is where it is kept.
    pub(crate) async fn flush(&self) {
        #[cfg(feature = "disk")]
        if let Self::Disk(store) = self {
            match store.flush().await {
                Ok(()) => tracing::info!("the store is on disk"),
                Err(error) => tracing::warn!(%error, "not all of the store is on disk"),
            }
        }
    }
}

/// The key of `--key-file`, else that of the environment.
fn given_key(flags: &Flags) -> Result<Option<HashKey>, Box<dyn StdError>> {
    if let Some(path) = &flags.key_file {
        return Ok(Some(HashKey::load_or_create(path).map_err(with_causes)?));
    }
    match std::env::var(KEY_VARIABLE) {
        Ok(hex) => {
            let key = HashKey::from_hex(&hex);
            Ok(Some(key.map_err(|error| format!("{KEY_VARIABLE}: {error}"))?))
        }
        Err(std::env::VarError::NotPresent) => Ok(None),
        // The error would repeat it.
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{KEY_VARIABLE} is no text").into()),
    }
}

/// Seals with the first key of the file, and opens with the others too. The file is not made here: every replica needs
/// the same.
#[cfg(feature = "redis")]
fn seal(path: &Path) -> Result<tower_reasoning_replay::store::Seal, String> {
    use tower_reasoning_replay::store::Seal;

    let what = "--seal-key-file should hold keys of 64 hexadecimal digits, one in a line";
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{} is not there; all replicas need the same, so make it once: openssl rand -hex 32",
            path.display()
        ),
        _ => format!("{} cannot be read: {error}", path.display()),
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Option<Vec<[u8; 32]>> = lines.map(bytes).collect();
    let keys = keys.ok_or_else(|| format!("{what}, and {} has another line", path.display()))?;
    let (first, others) = keys.split_first().ok_or_else(|| format!("{what}, and {} is empty", path.display()))?;
    Ok(others.iter().fold(Seal::new(*first), |seal, key| seal.also_opens(*key)))
}

#[cfg(feature = "redis")]
fn bytes(hex: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let bytes: Vec<u8> = digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if hex.len() == 64 { bytes.try_into().ok() } else { None }
}

/// The error as one text, with what caused it.
fn with_causes(error: impl StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
