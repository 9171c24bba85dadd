//! Bytes: incremental framing, spans, splices. Knows no provider.
//!
//! - [`json`] walks JSON by spans, in one pass and without a tree;
//! - [`canonical`] gives equal JSON values equal bytes;
//! - [`base64`] compares opaque values by what they decode to;
//! - [`shape`] knows an event that is like one that was read;
//! - [`sse`] cuts an event stream into events, and [`stream`] a JSON body into values;
//! - [`patch`] changes byte ranges of a body and leaves the rest as it is.
//!
//! Nothing here panics, whatever the input, and nothing keeps more memory than the one unfinished
//! event or value that its limit allows.
//!
//! # Examples
//!
//! ```
//! use tower_reasoning_replay::wire::json::{Cursor, Invalid};
//!
//! let body = br#"{"model":"m","contents":[{"role":"user"},{"role":"model"}]}"#;
//! let mut turns = Vec::new();
//! let mut cursor = Cursor::new(body);
//! cursor.object::<Invalid>(|cursor, key| {
//!     if key.is("contents") {
//!         cursor.array::<Invalid>(|cursor| {
//!             turns.push(cursor.skip()?);
//!             Ok(())
//!         })?;
//!     }
//!     Ok(())
//! })?;
//! cursor.end()?;
//! assert_eq!(&body[turns[1].clone()], br#"{"role":"model"}"#);
//! # Ok::<(), Invalid>(())
//! ```

pub mod base64;
pub(crate) mod buffers;
pub mod canonical;
pub mod json;
pub mod patch;
pub mod shape;
pub mod sse;
pub mod stream;
