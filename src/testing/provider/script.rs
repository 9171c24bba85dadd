//! What a model says, request after request.

use std::{fmt, sync::Arc};

use serde_json::Value;

/// What the model answers to each request.
///
/// A script in turns is served without keeping a conversation: the turn is the one whose number is the count of the
/// model's turns that the request's history holds, and after the last turn the first one follows again. What belongs to
/// one turn counts once, and so do neighbouring messages or items of the model.
#[derive(Clone)]
pub struct Script<T>(Source<T>);

type Choose<T> = dyn Fn(&Value) -> T + Send + Sync;

enum Source<T> {
    Turns(Arc<[T]>),
    Choose(Arc<Choose<T>>),
}

impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Turns(turns) => Self::Turns(turns.clone()),
            Self::Choose(choose) => Self::Choose(choose.clone()),
        }
    }
}

impl<T: Clone> Script<T> {
    /// These turns, one after the other. Without any, every answer is empty.
    #[must_use]
    pub fn new(turns: impl IntoIterator<Item = T>) -> Self {
        Self(Source::Turns(turns.into_iter().collect()))
    }

    /// Whatever `choose` makes of the request's body, as it came.
    #[must_use]
    pub fn from_fn(choose: impl Fn(&Value) -> T + Send + Sync + 'static) -> Self {
        Self(Source::Choose(Arc::new(choose)))
    }

    /// The turn that follows this many of the model; `None` if there is nothing to be said.
    pub(in crate::testing) fn turn(&self, body: &Value, model_turns: usize) -> Option<T> {
        match &self.0 {
            Source::Turns(turns) => model_turns.checked_rem(turns.len()).and_then(|at| turns.get(at)).cloned(),
            Source::Choose(choose) => Some(choose(body)),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Script<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Turns(turns) => f.debug_tuple("Script").field(turns).finish(),
            Source::Choose(_) => f.write_str("Script(closure)"),
        }
    }
}
