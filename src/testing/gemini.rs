//! A strict fake of `generateContent`: the Gemini API, Vertex AI and Cloud Code.
//!
//! [`GeminiProvider`] is a [`Service`] that takes the place of an HTTP client, or is served over a socket. It signs
//! what its [`Script`] says, in the grammar and framing of the real provider, and refuses a request that does not
//! bring the signatures back as
//! [the documentation](https://ai.google.dev/gemini-api/docs/thought-signatures) demands. It also refuses what a
//! careless patch may produce: repeated JSON keys, both spellings of one field, a signature on another part than its
//! own, a `content-length` that does not fit.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, StatusCode};
//! use http_body_util::{BodyExt, Full};
//! use serde_json::{Value, json};
//! use tower::ServiceExt;
//! use tower_reasoning_replay::testing::gemini::{GeminiProvider, Say, Script, Turn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let provider = GeminiProvider::builder()
//!     .script(Script::new([
//!         Turn::new([Say::call("get_weather", json!({"city": "Paris"}))]),
//!         Turn::new([Say::text("It rains.")]),
//!     ]))
//!     .build();
//!
//! let ask = |contents: &Value| {
//!     Request::post("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:generateContent")
//!         .body(Full::new(Bytes::from(json!({ "contents": contents }).to_string())))
//! };
//! let mut contents = json!([{"role": "user", "parts": [{"text": "How is the weather in Paris?"}]}]);
//! let answer = provider.clone().oneshot(ask(&contents)?).await?;
//! let answer: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
//! let call = &answer["candidates"][0]["content"]["parts"][0];
//! assert!(call["thoughtSignature"].is_string());
//!
//! // A client that has no field for the signature does not get far.
//! let history = [
//!     json!({"role": "model", "parts": [{"functionCall": call["functionCall"]}]}),
//!     json!({"role": "user", "parts": [{"functionResponse": {"name": "get_weather", "response": {"sky": "grey"}}}]}),
//! ];
//! contents.as_array_mut().ok_or("not a list")?.extend(history);
//! let refused = provider.clone().oneshot(ask(&contents)?).await?;
//! assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
//!
//! contents[1]["parts"][0]["thoughtSignature"] = call["thoughtSignature"].clone();
//! let accepted = provider.clone().oneshot(ask(&contents)?).await?;
//! assert_eq!(accepted.status(), StatusCode::OK);
//! assert_eq!((provider.accepted(), provider.refused()), (2, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked
//!
//! 1. The JSON is valid and repeats no key; contents and parts have only fields that the provider knows, each under
//!    one of its two spellings; a part has exactly one datum.
//! 2. Calls follow a user turn, and are answered by as many responses. Neighbouring contents of one role count as one.
//! 3. Every signature in the request is one that was issued (compared decoded, in either base64 alphabet, padded or
//!    not) by this surface, or an accepted sentinel. Bound signatures also stand on the content that they were issued for.
//! 4. The first call in each model content of the current turn is signed. The current turn begins with the last user
//!    content that has no function response.
//! 5. Image models: every run of the model's text, and every medium, is signed. Claude models: thinking is unchanged,
//!    and stands at the head of each content of the current turn that calls a tool.
//!
//! [`Family::Gemini2`] keeps only the first two.

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

pub use config::{AnswerSignature, Builder, Family, InvalidWording, Refusals, Sentinels, Surface};
pub use script::{Say, Script, Turn};
pub use service::GeminiProvider;
pub use vault::{Issued, SignedKind};

pub use super::provider::{Chunks, Gzip, ProviderBody, ProviderError, ProviderFuture, Recorded};

#[cfg(doc)]
use tower_service::Service;
