//! Cloud Code Assist and Antigravity: Gemini in a `request`/`response` envelope, with the model in the
//! body. Claude is served through it too, in Gemini's shape.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Uri};

use super::{
    Dialect, History, Part, Recorder, RecorderLimits, Route, Splice, StandIns, ToolDefaults, Unreadable, Wanted, Whole,
    gemini::{self, Gemini},
};
use crate::scope::HashKey;

/// `/v1internal:generateContent` and its siblings.
#[derive(Debug)]
pub(super) struct CloudCode;

impl Dialect for CloudCode {
    fn name(&self) -> &'static str {
        "cloud_code"
    }

    fn route(&self, method: &Method, uri: &Uri) -> Option<Route> {
        let (resource, operation) = gemini::operation(method, uri)?;
        let version = resource.rsplit('/').next()?;
        version.ends_with("internal").then_some(Route { operation, model: None })
    }

    fn read<'a>(&self, body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
        gemini::request::read_envelope(body, empty, |key| key == b"request")
    }

    fn recorder(
        &self,
        model: &str,
        key: &HashKey,
        limits: RecorderLimits,
        defaults: Arc<ToolDefaults>,
    ) -> Box<dyn Recorder> {
        // Claude's state is the thinking part itself, text and signature together.
        let whole_thoughts = is_claude(model);
        Box::new(gemini::response::GeminiRecorder::new(key, limits, defaults, whole_thoughts))
    }

    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<Splice> {
        Gemini.restore(part, state)
    }

    fn is_same_call(&self, body: &[u8], part: &Part<'_>, whole: &[u8]) -> bool {
        Gemini.is_same_call(body, part, whole)
    }

    fn same_state(&self, one: &[u8], other: &[u8]) -> bool {
        Gemini.same_state(one, other)
    }

    fn message(&self, parts: &[Whole<'_>]) -> Bytes {
        Gemini.message(parts)
    }

    fn sentinel_parts(
        &self,
        history: &History<'_>,
        filled: &dyn Fn(usize) -> bool,
        wanted: Wanted,
        each: &mut dyn FnMut(usize),
    ) {
        // Nothing stands in for Claude's signatures.
        if !serves_claude(history) {
            Gemini.sentinel_parts(history, filled, wanted, each);
        }
    }

    fn is_checked(&self, history: &History<'_>, message: usize, wanted: Wanted) -> bool {
        !serves_claude(history) && Gemini.is_checked(history, message, wanted)
    }

    fn signed(&self, part: &Bytes, state: &Bytes) -> Option<Bytes> {
        Gemini.signed(part, state)
    }

    fn sentinel(&self, stand_ins: StandIns, wanted: Wanted) -> Option<Bytes> {
        Gemini.sentinel(stand_ins, wanted)
    }
}

fn serves_claude(history: &History<'_>) -> bool {
    history.model.as_deref().is_some_and(|model| is_claude(&String::from_utf8_lossy(model)))
}

fn is_claude(model: &str) -> bool {
    model.rsplit('/').next().is_some_and(|model| model.starts_with("claude"))
}
