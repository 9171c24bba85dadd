//! What happened to one exchange.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::scope::Scope;

/// What happened to one exchange, in the extensions of its response.
///
/// A response streams on after its head was seen, so what was learned of it shows only at its end:
/// keep the report and take a [`summary`](Self::summary) then. It holds counts, fixed names and the keyed
/// hash of the scope, never content, ids or credentials.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::{Report, engine::Summary};
///
/// fn summary<B>(response: &http::Response<B>) -> Option<Summary> {
///     response.extensions().get::<Report>().map(Report::summary)
/// }
/// # assert!(summary(&http::Response::new(())).is_none());
/// ```
#[derive(Clone)]
pub struct Report(Arc<Mutex<Summary>>);

/// A [`Report`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The dialect of the exchange.
    pub dialect: &'static str,
    /// How the conversation was told from others.
    pub session: SessionKind,
    /// Whose conversation it is: what [`Store::forget`](crate::store::Store::forget) takes.
    pub scope: Option<Scope>,
    /// Pieces of state that were put back, on kept parts and with dropped calls.
    pub restored: u32,
    /// Calls of the client's history that were put back.
    pub calls_restored: u32,
    /// First calls of messages for which no state is known.
    pub missed: u32,
    /// Places for which several remembered parts fit, so that none was put back.
    pub ambiguous: u32,
    /// Sentinels that were put in place of state.
    pub sentinels: u32,
    /// The provider refused the request, and a changed one succeeded.
    pub healed: bool,
    /// Items of this response that were remembered, so far.
    pub learned: u32,
    /// Why nothing, or not all, could be remembered.
    pub unobserved: Option<Unobserved>,
}

/// How a conversation was told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionKind {
    /// There is no scope: the body could not be read, or no tenant is known.
    None,
    /// The client or the gateway named the session.
    Known,
    /// The session was named by a field that is often one constant; matching is strict.
    Weak,
    /// The session was derived from the first content; matching is strict.
    Derived,
}

/// Why a response was not observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unobserved {
    /// The request could not be read, so the response belongs to nobody.
    Request,
    /// It counts tokens, or its status says that it is no answer.
    NoAnswer,
    /// It is compressed.
    Encoded,
    /// An event is over the limit, or more came than is kept of one response.
    TooLarge,
    /// It makes no sense in its dialect.
    Malformed,
    /// It ended with an error.
    Failed,
    /// It broke off; complete parts may have been kept.
    Interrupted,
    /// The store did not take it.
    Store,
}

impl Report {
    pub(crate) fn new(dialect: &'static str) -> Self {
        Self(Arc::new(Mutex::new(Summary {
            dialect,
            session: SessionKind::None,
            scope: None,
            restored: 0,
            calls_restored: 0,
            missed: 0,
            ambiguous: 0,
            sentinels: 0,
            healed: false,
            learned: 0,
            unobserved: None,
        })))
    }

    /// What is known now.
    #[must_use]
    pub fn summary(&self) -> Summary {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn unobserved(&self, reason: Unobserved) {
        self.update(|summary| summary.unobserved = summary.unobserved.or(Some(reason)));
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.summary(), f)
    }
}
