//! A strict fake of the Messages API: the Claude API, relays with its face, and Claude on Vertex AI.
//!
//! [`AnthropicProvider`] is a [`Service`] that takes the place of an HTTP client, or is served over a socket. It signs
//! what its [`Script`] thinks, in the grammar and framing of the real provider, and refuses a request that does not
//! bring the thinking back as [the documentation][thinking] demands, in the provider's own words. It also refuses what
//! a careless patch may produce: repeated JSON keys, unknown fields, a block twice or beside other content than its
//! own, a `content-length` that does not fit.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, StatusCode};
//! use http_body_util::{BodyExt, Full};
//! use serde_json::{Value, json};
//! use tower::ServiceExt;
//! use tower_reasoning_replay::testing::anthropic::{AnthropicProvider, Say, Script, Turn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let provider = AnthropicProvider::builder()
//!     .script(Script::new([
//!         Turn::new([Say::thinking("I had better look."), Say::tool_use("get_weather", json!({"city": "Paris"}))]),
//!         Turn::new([Say::text("It rains.")]),
//!     ]))
//!     .build();
//!
//! let ask = |messages: &Value| {
//!     let thinking = json!({"type": "enabled", "budget_tokens": 1024});
//!     let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 2048, "thinking": thinking, "messages": messages});
//!     Request::post("https://api.anthropic.com/v1/messages").body(Full::new(Bytes::from(body.to_string())))
//! };
//! let mut messages = json!([{"role": "user", "content": "How is the weather in Paris?"}]);
//! let answer = provider.clone().oneshot(ask(&messages)?).await?;
//! let answer: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
//! let (thinking, call) = (&answer["content"][0], &answer["content"][1]);
//! assert!(thinking["signature"].is_string());
//!
//! // A client that has no place for thinking does not get far.
//! let history = [
//!     json!({"role": "assistant", "content": [call]}),
//!     json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "grey"}]}),
//! ];
//! messages.as_array_mut().ok_or("not a list")?.extend(history);
//! let refused = provider.clone().oneshot(ask(&messages)?).await?;
//! assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
//!
//! messages[1]["content"] = json!([thinking, call]);
//! let accepted = provider.clone().oneshot(ask(&messages)?).await?;
//! assert_eq!(accepted.status(), StatusCode::OK);
//! assert_eq!((provider.accepted(), provider.refused()), (2, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked
//!
//! 1. The JSON is valid and repeats no key; messages and blocks have only fields that the provider knows.
//! 2. The first role is the user's, every call is answered in the next message, and every result belongs to a call.
//!    Neighbouring messages of one role count as one.
//! 3. Every thinking block is one that was issued, text and signature together, by a model of the same family. So is
//!    the encrypted content of every search result.
//! 4. The thinking blocks of the latest assistant message are complete and stand where they stood among what is left
//!    of it. With [`bind_signatures`](Builder::bind_signatures), those of earlier messages stand so too, if they are
//!    there, and beside the content that they came with.
//! 5. In manual mode (`"type": "enabled"`), each message of the final turn that calls a tool begins with thinking. The
//!    final turn begins with the last user message that has no tool result. Adaptive mode does not mind.
//! 6. Where thinking is off, the final turn holds none.
//! 7. Newer models [bind a block to what stood before it][binding]: system, tools, messages, and an unbroken run of
//!    the thinking blocks that were there. They drop blocks of other models and organizations, and report it.
//!
//! [thinking]: https://platform.claude.com/docs/en/build-with-claude/extended-thinking
//! [binding]: https://platform.claude.com/docs/build-with-claude/preserved-thinking/fix-bound-to-a-different-conversation

mod check;
mod config;
mod emit;
mod exchange;
mod prefix;
mod refusal;
mod request;
mod route;
mod script;
mod service;
mod vault;

pub use config::{Builder, Refusals};
pub use script::{Say, Script, Turn};
pub use service::AnthropicProvider;
pub use vault::{Issued, IssuedKind};

pub use super::provider::{Chunks, Gzip, ProviderBody, ProviderError, ProviderFuture, Recorded};

#[cfg(doc)]
use tower_service::Service;
