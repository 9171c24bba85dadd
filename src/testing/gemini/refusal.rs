//! What the provider says when it refuses, and in which wrapping.

use http::StatusCode;

use super::config::{Refusals, Surface};
use crate::testing::provider::json::{Node, Style};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    MissingSignature,
    Other,
}

/// One refusal, not yet delivered.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) code: u16,
    pub(super) status: &'static str,
    pub(super) message: String,
    /// The field that is wrong, for refusals by the JSON reader.
    pub(super) field: Option<String>,
}

impl Refusal {
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self { kind: Kind::Other, code: 400, status: "INVALID_ARGUMENT", message: message.into(), field: None }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { code: 404, status: "NOT_FOUND", ..Self::argument(message) }
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { kind: Kind::MissingSignature, ..Self::argument(message) }
    }

    /// A field that the JSON reader cannot take.
    pub(super) fn field(field: &str, message: String) -> Self {
        Self { field: Some(field.to_owned()), ..Self::argument(message) }
    }

    pub(super) fn unknown_name(name: &str, at: &str) -> Self {
        Self::field(at, format!("Invalid JSON payload received. Unknown name {name:?} at '{at}': Cannot find field."))
    }

    pub(super) fn http_status(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// The Google envelope.
    pub(super) fn envelope(&self, surface: Surface) -> Node {
        let mut error = vec![("code", self.code.into()), ("message", self.message.as_str().into())];
        if surface != Surface::GeminiApi {
            let reason = if self.code == 404 { "notFound" } else { "badRequest" };
            error.push((
                "errors",
                Node::Array(vec![Node::Object(vec![
                    ("message", self.message.as_str().into()),
                    ("domain", "global".into()),
                    ("reason", reason.into()),
                ])]),
            ));
        }
        error.push(("status", self.status.into()));
        if let Some(field) = &self.field {
            error.push((
                "details",
                Node::Array(vec![Node::Object(vec![
                    ("@type", "type.googleapis.com/google.rpc.BadRequest".into()),
                    (
                        "fieldViolations",
                        Node::Array(vec![Node::Object(vec![
                            ("field", field.as_str().into()),
                            ("description", self.message.as_str().into()),
                        ])]),
                    ),
                ])]),
            ));
        }
        Node::Object(vec![("error", Node::Object(error))])
    }

    /// The whole body of a refusal that is no stream, with its status and content type.
    pub(super) fn answer(&self, form: Refusals, surface: Surface, style: Style) -> (StatusCode, &'static str, Vec<u8>) {
        const JSON: &str = "application/json; charset=UTF-8";
        const SSE: &str = "text/event-stream";
        let pretty = Style { pretty: true, ..style };
        let status = self.http_status();
        let relay = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
        match form {
            Refusals::SseTyped => (status, SSE, format!("{}\n", pretty.write(&self.envelope(surface))).into_bytes()),
            Refusals::Array => (status, JSON, format!("[{}\n]\n", pretty.write(&self.envelope(surface))).into_bytes()),
            Refusals::OpenRouter { status } => {
                let raw = pretty.write(&self.envelope(surface));
                let body = Node::Object(vec![
                    (
                        "error",
                        Node::Object(vec![
                            ("message", "Provider returned error".into()),
                            ("code", status.into()),
                            (
                                "metadata",
                                Node::Object(vec![("raw", raw.into()), ("provider_name", "Google AI Studio".into())]),
                            ),
                        ]),
                    ),
                    ("user_id", "user_2x".into()),
                ]);
                (relay(status), "application/json", Style { pretty: false, ..style }.write(&body).into_bytes())
            }
            Refusals::LiteLlm { status } => {
                let raw = pretty.write(&self.envelope(surface));
                let message = format!(
                    "litellm.BadRequestError: GeminiException BadRequestError - {raw}\n. Received Model Group=gemini"
                );
                let body = Node::Object(vec![(
                    "error",
                    Node::Object(vec![
                        ("message", message.into()),
                        ("type", Node::Value(serde_json::Value::Null)),
                        ("param", Node::Value(serde_json::Value::Null)),
                        ("code", status.to_string().into()),
                    ]),
                )]);
                (relay(status), "application/json", Style { pretty: false, ..style }.write(&body).into_bytes())
            }
            _ => (status, JSON, format!("{}\n", pretty.write(&self.envelope(surface))).into_bytes()),
        }
    }
}
