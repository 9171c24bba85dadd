//! What the provider says when it refuses.

use std::fmt;

/// One refusal, not yet delivered.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) param: Option<String>,
    pub(super) code: Option<&'static str>,
}

impl Refusal {
    /// Something about the input as a whole.
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: Some("input".to_owned()), code: None }
    }

    /// Something about the request as a whole.
    pub(super) fn request(message: impl Into<String>) -> Self {
        Self { param: None, ..Self::input(message) }
    }

    pub(super) fn missing(param: impl fmt::Display) -> Self {
        Self {
            param: Some(param.to_string()),
            code: Some("missing_required_parameter"),
            ..Self::input(format!("Missing required parameter: '{param}'."))
        }
    }

    pub(super) fn unknown(param: impl fmt::Display) -> Self {
        Self {
            param: Some(param.to_string()),
            code: Some("unknown_parameter"),
            ..Self::input(format!("Unknown parameter: '{param}'."))
        }
    }

    pub(super) fn value(param: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_string()), code: Some("invalid_value"), ..Self::input(message) }
    }

    pub(super) fn wrong_type(param: impl fmt::Display, expected: &str, got: &str) -> Self {
        Self {
            param: Some(param.to_string()),
            code: Some("invalid_type"),
            ..Self::input(format!("Invalid type for '{param}': expected {expected}, but got {got} instead."))
        }
    }

    pub(super) fn ciphertext(message: impl Into<String>) -> Self {
        Self { code: Some("invalid_encrypted_content"), ..Self::request(message) }
    }

    pub(super) fn not_found(id: &str) -> Self {
        Self {
            status: 404,
            ..Self::input(format!(
                "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item from your input."
            ))
        }
    }

    pub(super) fn duplicate(id: &str) -> Self {
        Self::input(format!("Duplicate item found with id {id}. Remove duplicate items from your input and try again."))
    }

    pub(super) fn without_following(id: &str) -> Self {
        Self::input(format!("Item '{id}' of type 'reasoning' was provided without its required following item."))
    }

    pub(super) fn without_reasoning(id: &str, type_name: &str, reasoning: &str) -> Self {
        Self::input(format!(
            "Item '{id}' of type '{type_name}' was provided without its required 'reasoning' item: '{reasoning}'."
        ))
    }
}
