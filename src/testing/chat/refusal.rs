//! What the provider says when it refuses, and in which wrapping.

use http::StatusCode;
use serde_json::{Value, json};

use super::flavour::{Flavour, Upstream};
use crate::testing::provider::json::{Node, Style};

/// How a refusal reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refusals {
    /// As the provider does: [`Flavour::Gemini`] and [`Flavour::Vertex`] in an array, [`Flavour::MiMo`] behind `data:`
    /// if a stream was asked for, [`Flavour::OpenRouter`] around the upstream's own words.
    #[default]
    Native,
    /// As the provider does, but typed `application/octet-stream`.
    OctetStream,
    /// As the WorkBuddy relay words a missing state: `{"code":11155,"message":"the reasoning content …"}`.
    WorkBuddy,
    /// As the SiliconFlow relay wraps it: `{"code":20015,"message":…,"data":null}`.
    SiliconFlow,
    /// The provider's body as text in the error of a relay, with this status.
    Relayed {
        /// The relay's status, as 429 or 502.
        status: u16,
    },
    /// Wrapped by a relay in the manner of OpenRouter, with this status.
    OpenRouter {
        /// The relay's status, as 429 or 502.
        status: u16,
    },
    /// For streams: status 200, so many deltas of text, then a chunk that has `error`, and where there is a choice the
    /// finish reason `error`.
    StreamEvent {
        /// Deltas that come first.
        after: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// State that is demanded is absent.
    Missing,
    /// State came that is not what was issued.
    Altered,
    /// The request is not in order.
    Request,
}

/// One refusal, not yet delivered.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) status: u16,
    pub(super) message: String,
    /// Which field is wrong, in the words of the provider.
    pub(super) param: Option<String>,
}

impl Refusal {
    pub(super) fn request(message: impl Into<String>) -> Self {
        Self { kind: Kind::Request, status: 400, message: message.into(), param: None }
    }

    pub(super) fn at(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::request(message) }
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { kind: Kind::Missing, ..Self::request(message) }
    }

    pub(super) fn altered(message: impl Into<String>) -> Self {
        Self { kind: Kind::Altered, ..Self::request(message) }
    }

    pub(super) fn http_status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// A field that a strict provider does not know, at `messages.{at}.{role}.{field}`.
    pub(super) fn unknown_field(flavour: Flavour, at: usize, role: &str, field: &str, value: &Value) -> Self {
        match flavour {
            Flavour::Groq => Self::request(format!(
                "'messages.{at}' : for 'role:{role}' the following must be satisfied[('messages.{at}' : property '{field}' is unsupported)]"
            )),
            Flavour::Gemini | Flavour::Vertex => Self::request(format!(
                "Invalid JSON payload received. Unknown name {field:?} at 'messages[{at}]': Cannot find field."
            )),
            Flavour::Mistral => Self {
                status: 422,
                ..Self::at(
                    json!(["body", "messages", at, role, field]).to_string(),
                    format!("Extra inputs are not permitted: {value}"),
                )
            },
            _ => Self::at(
                "validation_error",
                format!("messages.{at}.{role}.{field}: property 'messages.{at}.{role}.{field}' is unsupported"),
            ),
        }
    }

    /// The body in the provider's own words.
    pub(super) fn body(&self, flavour: Flavour, upstream: Upstream) -> Node {
        let message = || Node::from(self.message.as_str());
        let null = || Node::Value(Value::Null);
        let param = || self.param.as_deref().map_or_else(null, Node::from);
        let error = |fields| Node::Object(vec![("error", Node::Object(fields))]);
        match flavour {
            Flavour::Kimi => error(vec![("message", message()), ("type", "invalid_request_error".into())]),
            Flavour::MiMo => error(vec![
                ("code", self.status.to_string().into()),
                ("message", "Param Incorrect".into()),
                ("param", message()),
                ("type", "".into()),
            ]),
            Flavour::Cerebras => Node::Object(vec![
                ("message", message()),
                ("type", "invalid_request_error".into()),
                ("param", param()),
                ("code", "wrong_api_format".into()),
            ]),
            Flavour::Gemini | Flavour::Vertex => Node::Array(vec![google(self)]),
            Flavour::OpenRouter if self.kind == Kind::Request => Node::Object(vec![
                ("error", Node::Object(vec![("message", message()), ("code", self.status.into())])),
                ("user_id", "user_2x".into()),
            ]),
            Flavour::OpenRouter => wrapped(self.status, self.raw(upstream), upstream.name()),
            Flavour::MiniMax => Node::Object(vec![
                ("type", "error".into()),
                (
                    "error",
                    Node::Object(vec![
                        ("type", "bad_request_error".into()),
                        ("message", format!("invalid params, {} (2013)", self.message).into()),
                        ("http_code", self.status.to_string().into()),
                    ]),
                ),
            ]),
            Flavour::Copilot => error(vec![("message", message()), ("code", "invalid_request_body".into())]),
            Flavour::Mistral => Node::Object(vec![
                ("object", "error".into()),
                ("message", message()),
                ("type", "invalid_request_error".into()),
                ("param", param()),
                ("code", "3051".into()),
            ]),
            _ => error(vec![
                ("message", message()),
                ("type", "invalid_request_error".into()),
                ("param", param()),
                ("code", "invalid_request_error".into()),
            ]),
        }
    }

    /// The words of the provider behind OpenRouter.
    fn raw(&self, upstream: Upstream) -> String {
        match upstream {
            Upstream::Anthropic => json!({
                "type": "error",
                "error": {"type": "invalid_request_error", "message": self.message},
            })
            .to_string(),
            Upstream::Google => Style { pretty: true, ..Style::GOOGLE }.write(&google(self)) + "\n",
            _ => json!({
                "error": {"message": self.message, "type": "invalid_request_error", "param": "input", "code": null},
            })
            .to_string(),
        }
    }

    /// The whole body of a refusal that is no stream, with its status and content type.
    pub(super) fn answer(
        &self,
        form: Refusals,
        flavour: Flavour,
        upstream: Upstream,
        stream: bool,
    ) -> (StatusCode, &'static str, Vec<u8>) {
        const JSON: &str = "application/json";
        let style = if flavour.is_google() { Style { pretty: true, ..Style::GOOGLE } } else { Style::COMPACT };
        let native = style.write(&self.body(flavour, upstream));
        let relay = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
        let own = self.http_status();
        let (status, content_type, body) = match form {
            Refusals::OctetStream => (own, "application/octet-stream", native),
            Refusals::WorkBuddy => {
                let message = if self.kind == Kind::Missing {
                    "the reasoning content from the previous turn must be passed back in thinking mode"
                } else {
                    &self.message
                };
                let body = Node::Object(vec![("code", 11155.into()), ("message", message.into())]);
                (own, JSON, Style::COMPACT.write(&body))
            }
            Refusals::SiliconFlow => {
                let body = Node::Object(vec![
                    ("code", 20015.into()),
                    ("message", self.message.as_str().into()),
                    ("data", Node::Value(Value::Null)),
                ]);
                (own, JSON, Style::COMPACT.write(&body))
            }
            Refusals::Relayed { status } => {
                let body = Node::Object(vec![(
                    "error",
                    Node::Object(vec![
                        ("message", format!("upstream returned {}: {native}", self.status).into()),
                        ("type", "upstream_error".into()),
                        ("code", status.into()),
                    ]),
                )]);
                (relay(status), JSON, Style::COMPACT.write(&body))
            }
            Refusals::OpenRouter { status } if flavour != Flavour::OpenRouter => {
                (relay(status), JSON, Style::COMPACT.write(&wrapped(status, native, "DeepSeek")))
            }
            Refusals::OpenRouter { status } => (relay(status), JSON, native),
            _ if flavour == Flavour::MiMo && stream => (own, JSON, format!("data:{native}")),
            _ => (own, JSON, native),
        };
        (status, content_type, body.into_bytes())
    }
}

/// Google's envelope.
fn google(refusal: &Refusal) -> Node {
    let status = if refusal.status == 404 { "NOT_FOUND" } else { "INVALID_ARGUMENT" };
    Node::Object(vec![(
        "error",
        Node::Object(vec![
            ("code", refusal.status.into()),
            ("message", refusal.message.as_str().into()),
            ("status", status.into()),
        ]),
    )])
}

/// OpenRouter's envelope around the words of another.
fn wrapped(code: u16, raw: String, provider: &'static str) -> Node {
    let metadata = Node::Object(vec![("raw", raw.into()), ("provider_name", provider.into())]);
    Node::Object(vec![
        (
            "error",
            Node::Object(vec![
                ("message", "Provider returned error".into()),
                ("code", code.into()),
                ("metadata", metadata),
            ]),
        ),
        ("user_id", "user_2x".into()),
    ])
}
