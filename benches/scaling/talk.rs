//! Conversations of all dialects with one face.

use bytes::Bytes;
use http::request;
use tower_reasoning_replay::{Engine, MemoryStore};

use crate::workload::{
    self, Calls, Conversation, Random,
    family::{self, Family},
};

/// How many turns before it a request shows that teaches a turn. All of them would take quadratic time.
const SHOWN: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Gemini,
    Family(Family),
}

impl Dialect {
    pub(crate) const ALL: [Self; 4] =
        [Self::Gemini, Self::Family(Family::Messages), Self::Family(Family::Responses), Self::Family(Family::Chat)];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gemini => "gemini",
            Self::Family(family) => family.name(),
        }
    }

    pub(crate) fn head(self) -> request::Parts {
        match self {
            Self::Gemini => workload::head(),
            Self::Family(family) => family.head(),
        }
    }

    /// A request with a question and nothing else.
    pub(crate) fn question(self) -> Bytes {
        match self {
            Self::Gemini => Bytes::from_static(br#"{"contents":[{"role":"user","parts":[{"text":"go"}]}]}"#),
            Self::Family(family) => family.body("", ""),
        }
    }

    /// A short answer with a call.
    pub(crate) fn answer(self, number: usize) -> String {
        let turn = family::Turn {
            text: "So.".into(),
            id: format!("f{number:015x}"),
            tool: "tool_0".into(),
            args: format!(r#"{{"line":{number}}}"#),
            state: format!("c2hvcnQtc3RhdGUtb2YtYS10dXJu{number:08x}"),
            output: String::new(),
        };
        match self {
            Self::Gemini => format!(
                "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"{}\",\"id\":\"{}\",\"args\":{}}},\"thoughtSignature\":\"{}\"}}],\"role\":\"model\"}},\"finishReason\":\"STOP\",\"index\":0}}]}}\r\n\r\n",
                turn.tool, turn.id, turn.args, turn.state
            ),
            Self::Family(family) => family.document(&turn),
        }
    }
}

pub(crate) struct Talk {
    pub(crate) dialect: Dialect,
    inner: Inner,
    media: String,
}

enum Inner {
    Gemini(Conversation),
    Family(family::Talk),
}

impl Talk {
    pub(crate) fn new(dialect: Dialect, turns: usize, media: usize) -> Self {
        let picture = |family| {
            let data = Random::new(4).base64(media);
            match family {
                Family::Messages => format!(
                    r#",{{"role":"user","content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}]}}"#
                ),
                Family::Responses => format!(
                    r#",{{"role":"user","content":[{{"type":"input_image","image_url":"data:image/png;base64,{data}"}}]}}"#
                ),
                Family::Chat => format!(
                    r#",{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}"#
                ),
            }
        };
        let (inner, media) = match dialect {
            Dialect::Gemini => (Inner::Gemini(Conversation::new(9, turns, Calls::Different, media)), String::new()),
            Dialect::Family(family) => {
                let media = if media == 0 { String::new() } else { picture(family) };
                (Inner::Family(family::Talk::new(family, turns)), media)
            }
        };
        Self { dialect, inner, media }
    }

    /// The body after these turns, of which those have their state for which `has_state` holds.
    pub(crate) fn body(&self, turns: impl Iterator<Item = usize>, has_state: impl Fn(usize) -> bool) -> Bytes {
        let go = r#"{"role":"user","content":"go"}"#;
        match &self.inner {
            Inner::Gemini(talk) => talk.pick(turns, has_state),
            Inner::Family(talk) if self.media.is_empty() => talk.pick(turns, has_state),
            Inner::Family(talk) => {
                let body = talk.pick(turns, has_state);
                let body = std::str::from_utf8(&body).unwrap();
                Bytes::from(body.replacen(go, &format!("{go}{}", self.media), 1))
            }
        }
    }

    /// An engine that saw the first so many turns.
    pub(crate) fn taught(&self, turns: usize) -> Engine {
        let (engine, head) = (engine(), self.dialect.head());
        for at in 0..turns {
            // Without the media: what precedes a turn decides nothing here.
            let shown = at.saturating_sub(SHOWN)..at;
            let (asked, answer) = match &self.inner {
                Inner::Gemini(talk) => (self.dialect.question(), talk.turns[at].events()),
                Inner::Family(talk) => (talk.pick(shown, |_| true), talk.family.document(&talk.turns[at])),
            };
            workload::learn(&engine, &head, &asked, answer.as_bytes());
        }
        engine
    }
}

/// An engine whose ledgers may be as large as is measured.
pub(crate) fn engine() -> Engine {
    let store = MemoryStore::builder().max_items_per_ledger(1 << 20).max_bytes_per_ledger(1 << 30).max_bytes(2 << 30);
    Engine::builder(store.build().unwrap()).build().unwrap()
}
