use std::{error::Error as StdError, fmt};

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why an operation failed. It repeats nothing of what was stored, nor of what a server said but its code.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was not even tried.
    Open,
    TimedOut,
    Unreachable(&'static str),
    /// The server has answered, with this code.
    Refused(Box<str>),
    /// The server has answered something else than was asked for.
    Answer,
    /// Others changed what was to be changed, again and again.
    Contended,
    NoRuntime,
    NoRandomness,
    Seal,
}

impl Fault {
    /// Whether a moment later it may go well.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut | Self::Unreachable(_) | Self::Contended => true,
            Self::Refused(code) => {
                !matches!(&**code, "OOM" | "MISCONF" | "NOREPLICAS" | "NOPERM" | "NOAUTH" | "WRONGPASS" | "ERR")
            }
            Self::Open | Self::Answer | Self::NoRuntime | Self::NoRandomness | Self::Seal => false,
        }
    }

    /// Whether it means that the server is of no use at the moment.
    pub(super) fn is_of_the_server(&self) -> bool {
        match self {
            Self::TimedOut | Self::Unreachable(_) | Self::Answer => true,
            // It has no room, but what it has can be read.
            Self::Refused(code) => &**code != "OOM",
            Self::Open | Self::Contended | Self::NoRuntime | Self::NoRandomness | Self::Seal => false,
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            _ if error.is_timeout() => Self::TimedOut,
            ErrorKind::Io => Self::Unreachable(if error.is_connection_refusal() {
                "the connection was refused"
            } else {
                "the connection was lost"
            }),
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::Refused("READONLY".into()),
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused(code(&error).into()),
            ErrorKind::AuthenticationFailed => Self::Refused("WRONGPASS".into()),
            // Also an answer that breaks off.
            ErrorKind::Parse => Self::Unreachable("the answer could not be read"),
            ErrorKind::UnexpectedReturnType => Self::Answer,
            _ => Self::Unreachable("there is no connection"),
        }
    }
}

/// Older servers wrap the error of a command into one of the script.
fn code(error: &RedisError) -> &str {
    let detail = error.detail().unwrap_or_default();
    let inner =
        ["OOM", "READONLY", "MISCONF", "NOREPLICAS"].into_iter().find(|code| detail.contains(&format!("-{code} ")));
    let code = inner.or_else(|| error.code()).unwrap_or("ERR");
    // What a server calls an error is a word; anything longer is not repeated.
    if code.len() <= 16 && code.bytes().all(|byte| byte.is_ascii_uppercase()) { code } else { "ERR" }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("the server did not answer before and is not asked again yet"),
            Self::TimedOut => f.write_str("the server did not answer in time"),
            Self::Unreachable(why) => f.write_str(why),
            Self::Refused(code) => write!(f, "the server refused with {code}"),
            Self::Answer => f.write_str("the server answered something unexpected"),
            Self::Contended => f.write_str("others kept changing the same turn"),
            Self::NoRuntime => f.write_str("there is no tokio runtime"),
            Self::NoRandomness => f.write_str("the system gives no random numbers"),
            Self::Seal => f.write_str("the turn is too large to be sealed"),
        }
    }
}

impl StdError for Fault {}
