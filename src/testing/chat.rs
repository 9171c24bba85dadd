//! A strict fake of the providers of chat completions: DeepSeek, Kimi, OpenRouter, Gemini's compatible endpoint, Mistral
//! and their like.
//!
//! [`ChatProvider`] is a [`Service`] that takes the place of an HTTP client, or is served over a socket; it serves every
//! path that ends with `/chat/completions`. Which provider it is, its [`Flavour`] says. It hands out the state of what its
//! [`Script`] says in the fields and framing of that provider, and refuses a history that does not bring the state back
//! in the way that this provider demands; where the real one does not refuse, it counts. It also refuses what a careless
//! patch may produce: repeated JSON keys, state on another message than its own, or twice, a `content-length` that does
//! not fit.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, StatusCode};
//! use http_body_util::{BodyExt, Full};
//! use serde_json::{Value, json};
//! use tower::ServiceExt;
//! use tower_reasoning_replay::testing::chat::{ChatProvider, Flavour, Say, Script, Turn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let provider = ChatProvider::builder()
//!     .flavour(Flavour::DeepSeek)
//!     .script(Script::new([
//!         Turn::new([Say::reasoning("I had better look."), Say::call("get_weather", json!({"city": "Paris"}))]),
//!         Turn::new([Say::reasoning("Now I know."), Say::text("It rains.")]),
//!     ]))
//!     .build();
//!
//! let ask = |messages: &Value| {
//!     let tools = json!([{"type": "function", "function": {"name": "get_weather"}}]);
//!     let body = json!({"model": "deepseek-v4", "tools": tools, "messages": messages});
//!     Request::post("https://api.deepseek.com/chat/completions").body(Full::new(Bytes::from(body.to_string())))
//! };
//! let mut messages = json!([{"role": "user", "content": "How is the weather in Paris?"}]);
//! let answer = provider.clone().oneshot(ask(&messages)?).await?;
//! let answer: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
//! let said = &answer["choices"][0]["message"];
//! assert_eq!(said["reasoning_content"], "I had better look.");
//!
//! // A client that has no field for the reasoning does not get far.
//! let call = &said["tool_calls"][0];
//! let history = [
//!     json!({"role": "assistant", "content": "", "tool_calls": [call]}),
//!     json!({"role": "tool", "tool_call_id": call["id"], "content": "grey"}),
//! ];
//! messages.as_array_mut().ok_or("not a list")?.extend(history);
//! let refused = provider.clone().oneshot(ask(&messages)?).await?;
//! assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
//!
//! messages[1]["reasoning_content"] = said["reasoning_content"].clone();
//! let accepted = provider.clone().oneshot(ask(&messages)?).await?;
//! assert_eq!(accepted.status(), StatusCode::OK);
//! assert_eq!((provider.accepted(), provider.refused(), provider.restored()), (2, 1, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked
//!
//! 1. The JSON is valid and repeats no key. Roles, contents and calls have the types that they should have; arguments are
//!    JSON. [`Flavour::Groq`], [`Cerebras`](Flavour::Cerebras), [`Gemini`](Flavour::Gemini), [`Vertex`](Flavour::Vertex)
//!    and [`Mistral`](Flavour::Mistral) refuse fields that they do not know.
//! 2. Every call is answered by a message of the role `tool` before any other message, and every such message answers a
//!    call.
//! 3. What came back of [`OpenRouter`](Flavour::OpenRouter), [`Gemini`](Flavour::Gemini), [`Vertex`](Flavour::Vertex),
//!    [`Copilot`](Flavour::Copilot) and [`Mistral`](Flavour::Mistral) is exactly what was issued, with the message that it
//!    was issued for; of all but Mistral, once in a request. The state of an answer whose calls were split over several
//!    messages stands on one of them. Reasoning in clear text is only compared, and counted.
//! 4. It came back wherever it is demanded: see [`Demand`]. No state is demanded of a request that turns thinking off.

mod check;
mod config;
mod emit;
mod flavour;
mod refusal;
mod request;
mod script;
mod service;
mod vault;

pub use config::Builder;
pub use flavour::{Demand, Flavour, Upstream};
pub use refusal::Refusals;
pub use script::{Say, Script, Turn};
pub use service::ChatProvider;
pub use vault::Issued;

pub use super::provider::{Chunks, Gzip, ProviderBody, ProviderError, ProviderFuture, Recorded};

#[cfg(doc)]
use tower_service::Service;
