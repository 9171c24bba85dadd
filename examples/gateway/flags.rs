//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use http::HeaderName;
use tower_reasoning_replay::{Fallback, engine::Builder, scope::HashKey};

use crate::{store::Place, upstream::Upstreams};

pub(crate) const HELP: &str = "\
A reverse proxy for LLM providers that remembers reasoning state and restores it.

Usage: gateway [FLAGS]

  --listen ADDR         where to listen; port 0 picks one [127.0.0.1:8080]
  --upstream URL        where everything goes; path and query are kept, behind the URL's own path
  --upstream PREFIX=URL where paths under PREFIX go, without PREFIX; may be repeated
                        [without any, the path chooses the provider's public host: as it is there, or
                        behind the provider's name, as /deepseek/chat/completions]
  --store WHERE         where state is remembered [memory]:
                        memory                   in this process
                        disk:PATH                in a file, for one process that restarts
                        redis://HOST:PORT[/DB]   on a server of Redis or Valkey, for several replicas
                        rediss://HOST:PORT[/DB]  the same, with TLS
  --store-prefix PREFIX with what every key on the server begins [reasoning-replay:]
  --key-file PATH       the hash key of the store, 64 hexadecimal digits; made if it is not there
                        [the variable REPLAY_KEY; else a server keeps one for all that share it, and
                        disk:PATH has one in PATH.key]
  --seal-key-file PATH  encrypts what is on the server: keys of 64 hexadecimal digits, one in a line; the
                        first seals, the others only open [none: it is stored as it is]
  --heal on|off         whether a refused request is sent once more, repaired [on]
  --fallback WHEN       when a sentinel stands in for unknown state: off, on-rejection, always
                        [on-rejection]
  --reasoning-placeholder on|off
                        whether a placeholder stands in for reasoning text that is not known, as
                        --fallback says [off]
  --drop-mismatched-thoughts on|off
                        whether models that bind their thinking to what precedes it are asked to leave
                        out what does not fit, instead of refusing it [off]
  --tenant-header NAME  the header that names the caller; only one that callers cannot choose
                        [none: callers are told apart by their credentials]
  --max-body BYTES      longer request bodies pass unread [67108864]
  --max-ledgers N       conversations remembered at once; a server has a bound of its own [10240]
  --ttl SECONDS         how long an unused conversation is remembered [3600]
  --no-replay           forwards only
  --help                prints this

GET /healthz and GET /metrics are answered here. RUST_LOG filters the log, which goes to stderr.
";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    Run(Box<Flags>),
}

#[derive(Debug)]
pub(crate) struct Flags {
    pub(crate) listen: SocketAddr,
    pub(crate) upstreams: Upstreams,
    pub(crate) replay: bool,
    pub(crate) store: Place,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) seal_key_file: Option<PathBuf>,
    pub(crate) ttl: Duration,
    store_prefix: Option<String>,
    max_ledgers: Option<usize>,
    heal: bool,
    fallback: Fallback,
    reasoning_placeholder: bool,
    drop_mismatched_thoughts: bool,
    tenant_header: Option<HeaderName>,
    max_body: usize,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            upstreams: Upstreams::default(),
            replay: true,
            store: Place::default(),
            key_file: None,
            seal_key_file: None,
            ttl: Duration::from_secs(60 * 60),
            store_prefix: None,
            max_ledgers: None,
            heal: true,
            fallback: Fallback::default(),
            reasoning_placeholder: false,
            drop_mismatched_thoughts: false,
            tenant_header: None,
            max_body: 64 << 20,
        }
    }
}

impl Flags {
    /// Reads the arguments that follow the program's name. The error says what to change, and repeats no
    /// URL: it may hold a credential.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
        let mut flags = Self::default();
        let mut seen: Vec<String> = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = text(argument)?;
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (&*argument, None),
            };
            if name != "--upstream" && seen.iter().any(|seen| seen == name) {
                return Err(format!("{name} is given twice"));
            }
            seen.push(name.to_owned());
            match (name, attached) {
                ("--help" | "-h", None) => return Ok(Asked::Help),
                ("--no-replay", None) => flags.replay = false,
                ("--help" | "-h" | "--no-replay", Some(_)) => return Err(format!("{name} takes no value")),
                (name, _) if !name.starts_with('-') => {
                    return Err("an argument is no flag; --help lists them".to_owned());
                }
                (name, _) if !TAKE_A_VALUE.contains(&name) => {
                    return Err(format!("there is no flag {name:?}; --help lists them"));
                }
                (name, Some(value)) => flags.set(name, &value)?,
                (name, None) => {
                    let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                    flags.set(name, &text(value)?)?;
                }
            }
        }
        flags.fit()?;
        Ok(Asked::Run(Box::new(flags)))
    }

    /// A flag that would do nothing is a mistake, and one about secrets a dangerous one.
    fn fit(&self) -> Result<(), String> {
        let is_redis = self.store.is_redis();
        for (name, is_given) in
            [("--store-prefix", self.store_prefix.is_some()), ("--seal-key-file", self.seal_key_file.is_some())]
        {
            if is_given && !is_redis {
                return Err(format!("{name} is for a store on a server: --store redis://HOST:PORT"));
            }
        }
        if is_redis && self.max_ledgers.is_some() {
            return Err("--max-ledgers is not for a store on a server: give the server a `maxmemory`".to_owned());
        }
        Ok(())
    }

    #[cfg(feature = "redis")]
    pub(crate) fn store_prefix(&self) -> &str {
        self.store_prefix.as_deref().unwrap_or("reasoning-replay:")
    }

    pub(crate) fn max_ledgers(&self) -> usize {
        self.max_ledgers.unwrap_or(10_240)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--listen" => self.listen = parsed(name, value, "an address and a port, as 127.0.0.1:8080")?,
            "--upstream" => self.upstreams.add(value).map_err(|reason| format!("{name}: {reason}"))?,
            "--store" => self.store = value.parse().map_err(|reason| format!("{name}: {reason}"))?,
            "--store-prefix" => self.store_prefix = Some(value.to_owned()),
            "--key-file" => self.key_file = Some(value.into()),
            "--seal-key-file" => self.seal_key_file = Some(value.into()),
            "--heal" => self.heal = on_or_off(name, value)?,
            "--fallback" => {
                let known =
                    [("off", Fallback::Off), ("on-rejection", Fallback::OnRejection), ("always", Fallback::Always)];
                self.fallback = one_of(name, value, &known)?;
            }
            "--reasoning-placeholder" => self.reasoning_placeholder = on_or_off(name, value)?,
            "--drop-mismatched-thoughts" => self.drop_mismatched_thoughts = on_or_off(name, value)?,
            "--tenant-header" => self.tenant_header = Some(parsed(name, value, "the name of a header")?),
            "--max-body" => self.max_body = parsed(name, value, "a number of bytes")?,
            "--max-ledgers" => self.max_ledgers = Some(parsed(name, value, "a number")?),
            "--ttl" => self.ttl = Duration::from_secs(parsed(name, value, "a number of seconds")?),
            _ => return Err(format!("there is no flag {name:?}; --help lists them")),
        }
        Ok(())
    }

    /// Sets up the layer as the flags say, with this hash key or one for this process alone.
    pub(crate) fn tuned(&self, layer: Builder, key: Option<HashKey>) -> Builder {
        let layer = match key {
            Some(key) => layer.hash_key(key),
            None => layer,
        };
        let layer = layer
            .heal(self.heal)
            .fallback(self.fallback)
            .reasoning_placeholder(self.reasoning_placeholder)
            .drop_mismatched_thoughts(self.drop_mismatched_thoughts)
            .max_request(self.max_body);
        match &self.tenant_header {
            Some(name) => layer.tenant_header(name.clone()),
            None => layer,
        }
    }
}

const TAKE_A_VALUE: [&str; 14] = [
    "--listen",
    "--upstream",
    "--store",
    "--store-prefix",
    "--key-file",
    "--seal-key-file",
    "--heal",
    "--fallback",
    "--reasoning-placeholder",
    "--drop-mismatched-thoughts",
    "--tenant-header",
    "--max-body",
    "--max-ledgers",
    "--ttl",
];

fn text(argument: OsString) -> Result<String, String> {
    argument.into_string().map_err(|_| "an argument is not UTF-8".to_owned())
}

fn parsed<T: FromStr>(name: &str, value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} wants {what}, not {value:?}"))
}

fn on_or_off(name: &str, value: &str) -> Result<bool, String> {
    one_of(name, value, &[("on", true), ("off", false)])
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        format!("{name} wants {}, not {value:?}", words.join(" or "))
    })
}
