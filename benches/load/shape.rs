//! What the upstream says: events with a place for the time at which they are sent.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::workload::{
    Random,
    talk::{self, Before, Dialect, Says},
};

/// The digits of a stamp: tenths of a microsecond since the program began, behind a one, because numbers in JSON do
/// not begin with a zero.
const DIGITS: usize = 11;
const BLANK: &str = "10000000000";

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    let tenths = BEGAN.elapsed().as_nanos() / 100;
    10_000_000_000 + u64::try_from(tenths).unwrap()
}

/// The protocol and content of a stream.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    /// What stands before the stamp.
    marker: &'static str,
    /// What begins every stream.
    pub(crate) first: Vec<Bytes>,
    /// What comes again and again, each with a stamp.
    pub(crate) events: Vec<Bytes>,
    /// What ends every stream.
    pub(crate) last: Bytes,
    pub(crate) request: Bytes,
}

pub(crate) const GEMINI: &str = "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse";
pub(crate) const MESSAGES: &str = "/v1/messages";

impl Shape {
    /// The workload `sse`: thoughts, text, a few calls and signatures.
    pub(crate) fn gemini(with_text: bool) -> Self {
        let all = talk::stream(Dialect::Gemini, if with_text { Says::Text } else { Says::Nothing });
        let mut events = pieces(&all, "\r\n\r\n");
        let last = events.pop().unwrap();
        let stamped = events.iter().map(|event| {
            // Takes the place of a count of tokens, which has four digits.
            let at = event.find("TokenCount\":").unwrap() + "TokenCount\":".len();
            format!("{}{BLANK}}}}}\r\n\r\n", &event[..at]).into()
        });
        Self {
            name: if with_text { "Gemini, text" } else { "Gemini, no text" },
            path: GEMINI,
            marker: "TokenCount\":",
            first: Vec::new(),
            events: stamped.collect(),
            last: last.into(),
            request: Dialect::Gemini.body(&Before::random(&mut Random::new(3)), ""),
        }
    }

    /// A thought, and then deltas of text, or pings that are as long.
    pub(crate) fn messages(with_text: bool) -> Self {
        let all = talk::events(Dialect::Anthropic, 5_000, Says::Text);
        let all = pieces(&all, "\n\n");
        let (first, deltas) = all.split_at(all.len() - 5_000);
        let mut random = Random::new(5);
        let stamped = deltas.iter().map(|event| {
            let event = if with_text {
                event.trim_end().strip_suffix('}').unwrap().to_owned()
            } else {
                format!("event: ping\ndata: {{\"type\":\"ping\",\"padding\":\"{}\"", random.base64(125))
            };
            format!("{event},\"at\":{BLANK}}}\n\n").into()
        });
        Self {
            name: if with_text { "Anthropic, text" } else { "Anthropic, pings" },
            path: MESSAGES,
            marker: "\"at\":",
            events: stamped.collect(),
            first: first.iter().map(|event| event.clone().into()).collect(),
            last: concat!(
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
            )
            .into(),
            request: Dialect::Anthropic.question(),
        }
    }

    /// This event, sent now.
    pub(crate) fn stamped(&self, event: usize) -> Bytes {
        let event = &self.events[event % self.events.len()];
        let at = self.place(event).unwrap();
        let mut copy = event.to_vec();
        copy[at..at + DIGITS].copy_from_slice(now().to_string().as_bytes());
        copy.into()
    }

    /// How old the event is, if it has a stamp.
    pub(crate) fn age(&self, event: &[u8]) -> Option<Duration> {
        let at = self.place(event)?;
        let stamp: u64 = std::str::from_utf8(event.get(at..at + DIGITS)?).ok()?.parse().ok()?;
        Some(Duration::from_nanos(now().saturating_sub(stamp) * 100))
    }

    fn place(&self, event: &[u8]) -> Option<usize> {
        Some(memchr::memmem::rfind(event, self.marker.as_bytes())? + self.marker.len())
    }
}

fn pieces(all: &[u8], end: &str) -> Vec<String> {
    std::str::from_utf8(all).unwrap().split_inclusive(end).map(str::to_owned).collect()
}
