//! Whose conversation a request belongs to: tenant, provenance, model and session, folded into one
//! keyed hash.

use std::fmt;

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
