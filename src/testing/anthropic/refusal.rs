//! What the provider says when it refuses, and in which wrapping.

use http::StatusCode;

use super::config::Refusals;
use crate::testing::provider::json::{Node, Style};

/// One refusal, not yet delivered.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "invalid_request_error", message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, kind: "not_found_error", message: message.into() }
    }

    pub(super) fn overloaded() -> Self {
        let status = StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        Self { status, kind: "overloaded_error", message: "Overloaded".to_owned() }
    }

    pub(super) fn outage(status: StatusCode) -> Self {
        let (kind, message) = match status.as_u16() {
            429 => ("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
            503 | 529 => ("overloaded_error", "Overloaded"),
            _ => ("api_error", "Internal server error"),
        };
        Self { status, kind, message: message.to_owned() }
    }

    /// As the event of a stream has it: without the id of the request.
    pub(super) fn event(&self) -> Node {
        Node::Object(self.fields())
    }

    fn fields(&self) -> Vec<(&'static str, Node)> {
        let error = vec![("type", self.kind.into()), ("message", self.message.as_str().into())];
        vec![("type", "error".into()), ("error", Node::Object(error))]
    }

    /// The whole body of a refusal that is no stream, with its status.
    pub(super) fn answer(&self, form: Refusals, request_id: &str, style: Style) -> (StatusCode, Vec<u8>) {
        let mut fields = self.fields();
        fields.push(("request_id", request_id.into()));
        let native = Node::Object(fields);
        let relay = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
        let (status, node) = match form {
            Refusals::Native | Refusals::StreamEvent { .. } => (self.status, native),
            Refusals::Relayed { status } => (relay(status), native),
            Refusals::Bedrock => {
                let message = format!("The model returned the following errors: {}", self.message);
                (self.status, Node::Object(vec![("message", message.into())]))
            }
            Refusals::OpenRouter { status } => {
                let metadata =
                    Node::Object(vec![("raw", style.write(&native).into()), ("provider_name", "Anthropic".into())]);
                let error = Node::Object(vec![
                    ("message", "Provider returned error".into()),
                    ("code", status.into()),
                    ("metadata", metadata),
                ]);
                (relay(status), Node::Object(vec![("error", error), ("user_id", "user_2x".into())]))
            }
            Refusals::LiteLlm { status } => {
                let raw = style.write(&native);
                let message =
                    format!("litellm.BadRequestError: AnthropicException - {raw}. Received Model Group=claude");
                let error = Node::Object(vec![
                    ("message", message.into()),
                    ("type", Node::Value(serde_json::Value::Null)),
                    ("param", Node::Value(serde_json::Value::Null)),
                    ("code", status.to_string().into()),
                ]);
                (relay(status), Node::Object(vec![("error", error)]))
            }
        };
        (status, style.write(&node).into_bytes())
    }
}
