//! The values that stand for a signature that the client does not have.

use bytes::Bytes;

use crate::{dialect::Sentinel, wire::base64};

/// The values that Gemini's documentation lets a client send in place of a signature, and their
/// base64 forms, which clients that treat the field as bytes send.
///
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
const SENTINELS: [&[u8]; 4] = [
    b"skip_thought_signature_validator",
    b"context_engineering_is_the_way_to_go",
    b"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    b"Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
];

/// The longest text that is looked at: a base64 sentinel with some space around it.
const MAX: usize = 64;

/// Whether this signature stands for none.
pub(in crate::dialect) fn is_placeholder(value: &[u8]) -> bool {
    if value.len() > MAX {
        return false;
    }
    let value = value.trim_ascii();
    value.is_empty() || SENTINELS.iter().any(|sentinel| base64::same_value(sentinel, value))
}

/// The sentinel as a raw JSON string.
pub(in crate::dialect) fn sentinel(form: Sentinel) -> Bytes {
    Bytes::from_static(match form {
        Sentinel::Literal => b"\"skip_thought_signature_validator\"",
        Sentinel::Base64 => b"\"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=\"",
    })
}
