//! A request whose body has come, and the strict reading of it.

use std::{fmt, io::Read};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, header, request::Parts};
use serde_json::Value;

use super::json;

/// A request that came whole.
pub(crate) struct Incoming<'a> {
    pub(crate) parts: &'a Parts,
    /// As it came, compressed or not.
    pub(crate) body: &'a Bytes,
    /// It has the accidents that are configured.
    pub(crate) faulty: bool,
    /// If the answer is a stream, it ends in good order but before its end is announced.
    pub(crate) end_early: bool,
}

/// Why a body cannot be taken for a JSON object.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// It is not as long as its header says.
    Length { said: String, bytes: usize },
    /// It is no JSON object, or one that a careful reader refuses.
    Json(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { said, bytes } => write!(f, "content-length is {said}, but the body has {bytes} bytes"),
            Self::Json(why) => f.write_str(why),
        }
    }
}

impl Incoming<'_> {
    /// The body as the JSON object that it has to be: as long as announced, and without a repeated key.
    pub(crate) fn object(&self) -> Result<Value, Unreadable> {
        if let Some(length) = self.parts.headers.get(header::CONTENT_LENGTH)
            && length.as_bytes() != self.body.len().to_string().as_bytes()
        {
            let said = String::from_utf8_lossy(length.as_bytes()).into_owned();
            return Err(Unreadable::Length { said, bytes: self.body.len() });
        }
        let text = text(&self.parts.headers, self.body)?;
        let value: Value = serde_json::from_str(&text).map_err(|error| Unreadable::Json(error.to_string()))?;
        if !value.is_object() {
            return Err(Unreadable::Json("Unexpected token. Not an object.".to_owned()));
        }
        match json::repeated_key(&text) {
            Some(key) => Err(Unreadable::Json(format!("Key {key:?} is given twice."))),
            None => Ok(value),
        }
    }

    /// Who asks, as a hash over these headers.
    pub(crate) fn credential(&self, headers: &[&str]) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        for name in headers {
            for value in self.parts.headers.get_all(*name) {
                hasher.update(name.as_bytes()).update(value.as_bytes());
            }
        }
        hasher
    }
}

/// The body as text, decompressed if it is gzip.
fn text(headers: &HeaderMap, body: &Bytes) -> Result<String, Unreadable> {
    let mut bytes = body.to_vec();
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() == b"gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(body.as_ref())
            .read_to_end(&mut plain)
            .map_err(|_| Unreadable::Json("The body is no gzip.".to_owned()))?;
        bytes = plain;
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::Json("The body is not UTF-8.".to_owned()))
}
