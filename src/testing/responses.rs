//! A strict fake of the Responses API, of OpenAI and of those who speak it too.
//!
//! [`ResponsesProvider`] is a [`Service`] that takes the place of an HTTP client, or is served over a socket. It
//! encrypts the reasoning that its [`Script`] tells, in the order and framing of the real provider, and refuses a request
//! that does not bring it back as
//! [the documentation](https://platform.openai.com/docs/guides/reasoning) demands. It also refuses what a careless
//! patch may produce: repeated JSON keys, unknown fields, an item twice, reasoning before something else than it was
//! given for, a `content-length` that does not fit.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, StatusCode};
//! use http_body_util::{BodyExt, Full};
//! use serde_json::{Value, json};
//! use tower::ServiceExt;
//! use tower_reasoning_replay::testing::responses::{ResponsesProvider, Say, Script, Turn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let provider = ResponsesProvider::builder()
//!     .script(Script::new([
//!         Turn::new([Say::hidden_reasoning(), Say::call("get_weather", json!({"city": "Paris"}))]),
//!         Turn::new([Say::text("It rains.")]),
//!     ]))
//!     .build();
//!
//! let ask = |input: &[Value]| {
//!     let body = json!({"model": "gpt-5", "store": true, "input": input});
//!     Request::post("https://api.openai.com/v1/responses").body(Full::new(Bytes::from(body.to_string())))
//! };
//! let question = json!({"role": "user", "content": "How is the weather in Paris?"});
//! let answer = provider.clone().oneshot(ask(&[question.clone()])?).await?;
//! let answer: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
//! let (reasoning, call) = (&answer["output"][0], &answer["output"][1]);
//! assert!(reasoning["encrypted_content"].is_string());
//!
//! // A client that keeps the call with its id, but has no room for reasoning, does not get far.
//! let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "grey"});
//! let refused = provider.clone().oneshot(ask(&[question.clone(), call.clone(), output.clone()])?).await?;
//! assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
//!
//! let accepted = provider.clone().oneshot(ask(&[question, reasoning.clone(), call.clone(), output])?).await?;
//! assert_eq!(accepted.status(), StatusCode::OK);
//! assert_eq!((provider.accepted(), provider.refused()), (2, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What is served
//!
//! `POST` to any path that ends with `/responses`, `/responses/compact` or `/responses/input_tokens`, the latter two
//! with the same checks.
//!
//! # What is checked
//!
//! 1. The JSON is valid and repeats no key; items are of known types, have what their type demands (as `summary`), and
//!    nothing else. An id is well formed.
//! 2. No item comes twice: neither by id, nor by ciphertext or `call_id`, nor because `previous_response_id` or
//!    `conversation` bring it already. Items of an unknown conversation count as none.
//! 3. Every ciphertext is one that was issued under the same credential and by the same model, was not revoked, and
//!    stands in an item with the same id or none. The stubs of `response.output_item.added` are not valid.
//! 4. An item without content, and an `item_reference`, refer to an item that was stored, in a request that does not
//!    say `"store": false`.
//! 5. Reasoning is followed by what it was given for: more reasoning of the same run, and then one of the calls,
//!    searches or messages that came after it, unchanged. If it has its id, so has the other.
//! 6. A call, a search and a message that kept their ids come after their reasoning, with its id. Only what was given
//!    with them, and outputs, may stand between. [`Builder::pairing`] says when this and the last sentence of 5 hold.
//! 7. Calls have outputs, and outputs follow calls.
//! 8. With [`Builder::require_reasoning_text`], each call comes after the reasoning text that it was given with.

mod check;
mod config;
mod emit;
mod exchange;
mod refusal;
mod request;
mod route;
mod script;
mod service;
mod vault;

pub use config::{Builder, InvalidWording, Keepalives, Refusals, Vendor};
pub use script::{Say, Script, Turn};
pub use service::ResponsesProvider;
pub use vault::{Issued, IssuedKind, Stage};

pub use super::provider::{Chunks, Gzip, ProviderBody, ProviderError, ProviderFuture, Recorded};

#[cfg(doc)]
use tower_service::Service;
