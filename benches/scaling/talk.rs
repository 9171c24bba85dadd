//! Conversations that are taught in linear time, and engines with room for them.

use bytes::Bytes;
use tower_reasoning_replay::{Engine, MemoryStore};

pub(crate) use crate::workload::talk::Dialect;
use crate::workload::{
    self,
    talk::{self, Form, Turn},
};

/// How many turns before it a request shows that teaches a turn. All of them would take quadratic time.
const SHOWN: usize = 4;

pub(crate) struct Talk {
    pub(crate) dialect: Dialect,
    inner: talk::Talk,
}

impl Talk {
    pub(crate) fn new(dialect: Dialect, turns: usize, media: usize) -> Self {
        let media = if media == 0 { String::new() } else { dialect.media(media) };
        Self { dialect, inner: talk::Talk { media, ..talk::Talk::new(dialect, turns) } }
    }

    /// The body after these turns, of which those have their state for which `has_state` holds.
    pub(crate) fn body(&self, turns: impl Iterator<Item = usize>, has_state: impl Fn(usize) -> bool) -> Bytes {
        self.inner.body(turns, |at| if has_state(at) { Form::Full } else { Form::Stripped })
    }

    /// An engine that saw the first so many turns.
    pub(crate) fn taught(&self, turns: usize) -> Engine {
        let (engine, head) = (engine(), self.dialect.head());
        for at in 0..turns {
            // Without the media: what precedes a turn decides nothing here.
            let shown: String =
                (at.saturating_sub(SHOWN)..at).map(|at| self.dialect.turn(&self.inner.turns[at], Form::Full)).collect();
            let asked = self.dialect.body(&self.inner.before, &shown);
            workload::learn(&engine, &head, &asked, self.dialect.answer(&self.inner.turns[at]).as_bytes());
        }
        engine
    }
}

/// Shows an engine a short turn with a call, which belongs to no conversation.
pub(crate) fn teach_another(engine: &Engine, dialect: Dialect, number: usize) {
    let turn = Turn {
        text: "So.".into(),
        id: format!("f{number:015x}"),
        tool: "tool_0".into(),
        args: format!(r#"{{"line":{number}}}"#),
        state: format!("c2hvcnQtc3RhdGUtb2YtYS10dXJu{number:08x}"),
        output: String::new(),
    };
    let asked = dialect.question();
    workload::learn(engine, &dialect.head(), &asked, dialect.answer(&turn).as_bytes());
}

/// An engine whose ledgers may be as large as is measured.
pub(crate) fn engine() -> Engine {
    let store = MemoryStore::builder().max_items_per_ledger(1 << 20).max_bytes_per_ledger(1 << 30).max_bytes(2 << 30);
    // All that a body takes is to be seen, whether it is within what is kept or not.
    Engine::builder(store.build().unwrap()).max_spare(0).build().unwrap()
}
