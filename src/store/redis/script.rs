use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, ErrorKind, ServerErrorKind, Value, aio::ConnectionLike};

use super::fault::Fault;

/// An operation that the server runs as a whole.
pub(super) struct Script {
    text: &'static str,
    hash: Box<str>,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(include_str!("ledger.lua"), include_str!($name)))
    };
}

pub(super) struct Scripts {
    pub(super) load: Script,
    pub(super) append: Script,
    pub(super) find: Script,
    pub(super) remove: Script,
    pub(super) forget: Script,
    pub(super) clear: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            load: script!("load.lua"),
            append: script!("append.lua"),
            find: script!("find.lua"),
            remove: script!("remove.lua"),
            forget: script!("forget.lua"),
            clear: Script::new(include_str!("clear.lua")),
        }
    }
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().into() }
    }

    /// Runs the script; a server that does not know it yet is told.
    pub(super) async fn call<C>(&self, connection: &C, key: &[u8], args: &[&[u8]]) -> Result<Value, Fault>
    where
        C: ConnectionLike + Clone,
    {
        let mut connection = connection.clone();
        match command("EVALSHA", &self.hash, key, args).query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                Ok(command("EVAL", self.text, key, args).query_async(&mut connection).await?)
            }
            answer => Ok(answer?),
        }
    }
}

fn command(name: &str, script: &str, key: &[u8], args: &[&[u8]]) -> Cmd {
    let bytes: usize = args.iter().map(|arg| arg.len()).sum();
    let mut command = Cmd::with_capacity(args.len() + 4, bytes + key.len() + script.len() + 16);
    command.arg(name).arg(script).arg(1).arg(key);
    for arg in args {
        command.arg(arg);
    }
    command
}

/// The bytes of a string, not copied.
pub(super) fn string(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) => Some(text.into()),
        _ => None,
    }
}

pub(super) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<usize> {
    match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

/// The key of a ledger.
pub(super) fn key(prefix: &str, scope: &[u8; 32]) -> Arc<[u8]> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = scope.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]);
    prefix.bytes().chain(digits).collect()
}

/// The pattern that all keys of ledgers match.
pub(super) fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_prefix_and_the_scope() {
        let made = key("p:", &[0xa7; 32]);
        assert_eq!(&*made, format!("p:{}", "a7".repeat(32)).as_bytes());
        assert_eq!(pattern("a*b[c]:"), r"a\*b\[c\]:*");
    }
}
