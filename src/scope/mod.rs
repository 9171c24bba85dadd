//! Whose conversation a request belongs to: tenant, provenance, model and session, folded into one
//! keyed hash.
//!
//! A gateway says what only it knows by extensions of the request: [`Tenant`], [`Session`], [`Provenance`]. The
//! rest is read off the request itself. What a client sends is no authentication: its session ids count only
//! within its tenant.
//!
//! # Examples
//!
//! ```
//! use http::Request;
//! use tower_reasoning_replay::scope::{Session, Tenant};
//!
//! fn authenticated(mut request: Request<()>, customer: &str, chat: &str) -> Request<()> {
//!     request.extensions_mut().insert(Tenant::new(customer));
//!     request.extensions_mut().insert(Session::new(chat));
//!     request
//! }
//! # authenticated(Request::new(()), "c", "d");
//! ```

mod caller;
mod key;
pub(crate) mod provenance;
pub(crate) mod session;
pub(crate) mod tenant;

use std::fmt;

pub(crate) use self::{
    caller::Caller,
    key::{ScopeInput, SessionOf},
    session::{Member, MemberPath, Named, Strength},
};
pub use self::{
    key::{HashKey, KeyError},
    provenance::Provenance,
    session::{Session, SessionSources},
    tenant::Tenant,
};

/// Whose conversation this is: tenant, provenance, model and session, folded into one keyed 256-bit hash.
///
/// It is the key under which a [`Store`](crate::store::Store) keeps a ledger. Nothing of what went
/// into it can be read back from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope([u8; 32]);

impl Scope {
    /// The scope with this hash.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash, to be used as a key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:02x}{:02x}{:02x}{:02x})", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}
