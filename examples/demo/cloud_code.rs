//! Cloud Code: Gemini in an envelope, and Claude in Gemini's shape.

use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::{GeminiProvider, Say, Script, Turn};

use crate::{
    agent::{BoxError, Call, Said, Wire, events},
    gemini, provider,
    story::{Outcome, Story},
};

/// Model and session stand in the body.
#[derive(Clone, Copy)]
struct CloudCode {
    model: &'static str,
    stream: bool,
}

impl Wire for CloudCode {
    fn uri(&self) -> String {
        let verb = if self.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        format!("https://cloudcode-pa.googleapis.com/v1internal:{verb}")
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![("authorization", "Bearer demo")]
    }

    fn question(&self, text: &str) -> Value {
        gemini::question(text)
    }

    fn body(&self, history: &[Value]) -> Value {
        json!({
            "model": self.model,
            "project": "demo",
            "request": {"contents": history, "session_id": "2f6c8a1e-demo"},
        })
    }

    fn read(&self, answer: &[u8]) -> Result<Said, BoxError> {
        let events: Vec<Value> = events(answer)?.iter_mut().map(|event| event["response"].take()).collect();
        Ok(gemini::said(&events))
    }

    fn forget(&self, entries: Vec<Value>) -> Vec<Value> {
        gemini::forget(entries)
    }

    fn outputs(&self, calls: &[Call]) -> Vec<Value> {
        gemini::outputs(calls)
    }
}

pub(crate) async fn tool_loop(story: &mut Story) -> Outcome {
    story.chapter("Cloud Code");
    let wire = |stream| CloudCode { model: "gemini-3-pro-preview", stream };
    provider::tool_loop(story, GeminiProvider::new, wire, "is missing a `thought_signature`").await
}

/// Claude wants its thinking back, text and signature together; the client has dropped the whole part.
pub(crate) async fn claude(story: &mut Story) -> Outcome {
    story.chapter("Claude through Cloud Code");
    let script = Script::new([
        Turn::new([Say::thought("I had better look it up."), Say::call("get_weather", json!({"city": "Paris"}))]),
        Turn::new([Say::thought("Tokyo is still to be done."), Say::call("get_weather", json!({"city": "Tokyo"}))]),
        Turn::new([Say::text("Light rain in both.")]),
    ]);
    let provider = || GeminiProvider::builder().script(script.clone()).build();
    let wire = |stream| CloudCode { model: "claude-opus-4-5-thinking", stream };
    provider::tool_loop(story, provider, wire, "but found").await
}
