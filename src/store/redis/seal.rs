use std::fmt;

use bytes::Bytes;
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use super::{fault::Fault, random};
use crate::{
    ledger::{Turn, TurnId},
    scope::Scope,
    store::codec,
};

/// How a value begins that anyone can read, and one that is sealed.
const PLAIN: u8 = 1;
const SEALED: u8 = 2;
const NONCE: usize = 24;

/// Encrypts what a [`RedisStore`](super::RedisStore) keeps, with XChaCha20-Poly1305 and keys of yours.
///
/// Each turn is sealed for itself, under a random nonce, and bound to its scope and its id: one that was moved to
/// another place, changed, or sealed with a key that is not known is a miss. What stays readable are the keys of the
/// ledgers and, for each turn, its random id, its order, size and number of items, whether it is complete, and a keyed
/// hash of what preceded it. Whoever may write to the server can withhold turns, or put back an older version of
/// one, but not read or make any.
///
/// With a seal, turns that were stored without one are misses.
///
/// # Rotation
///
/// Replicas are restarted one after the other, so a new key is made known everywhere before it is used:
///
/// 1. `Seal::new(old).also_opens(new)` on all replicas,
/// 2. `Seal::new(new).also_opens(old)` on all replicas,
/// 3. `Seal::new(new)` a [time to live](super::RedisStoreBuilder::ttl) later.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::store::Seal;
///
/// # let (old, new) = ([1; 32], [2; 32]);
/// let seal = Seal::new(new).also_opens(old);
/// assert_eq!(format!("{seal:?}"), "Seal { keys: 2, .. }");
/// ```
#[derive(Clone)]
pub struct Seal {
    current: XChaCha20Poly1305,
    previous: Vec<XChaCha20Poly1305>,
}

impl Seal {
    /// Seals and opens with this key, which should be random.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { current: cipher(key), previous: Vec::new() }
    }

    /// Opens what was sealed with this key, too.
    #[must_use]
    pub fn also_opens(mut self, key: [u8; 32]) -> Self {
        self.previous.push(cipher(key));
        self
    }

    fn close(&self, scope: &Scope, id: TurnId, value: &[u8]) -> Result<Vec<u8>, Fault> {
        let nonce: [u8; NONCE] = random()?;
        let aad = aad(scope, id);
        let payload = Payload { msg: value, aad: &aad };
        let sealed = self.current.encrypt(&XNonce::from(nonce), payload).map_err(|_| Fault::Seal)?;
        let mut out = Vec::with_capacity(1 + NONCE + sealed.len());
        out.push(SEALED);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    fn open(&self, scope: &Scope, id: TurnId, value: &[u8]) -> Option<Bytes> {
        let (nonce, sealed) = value.split_first_chunk::<NONCE>()?;
        let (nonce, aad) = (XNonce::from(*nonce), aad(scope, id));
        let mut ciphers = [&self.current].into_iter().chain(&self.previous);
        ciphers.find_map(|cipher| cipher.decrypt(&nonce, Payload { msg: sealed, aad: &aad }).ok()).map(Bytes::from)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("keys", &(1 + self.previous.len())).finish_non_exhaustive()
    }
}

fn cipher(key: [u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(key))
}

fn aad(scope: &Scope, id: TurnId) -> [u8; 48] {
    let mut aad = [0; 48];
    aad[..32].copy_from_slice(scope.as_bytes());
    aad[32..].copy_from_slice(&id.value().to_be_bytes());
    aad
}

/// The value under which a turn is stored.
pub(super) fn pack(seal: Option<&Seal>, scope: &Scope, turn: &Turn) -> Result<Vec<u8>, Fault> {
    let value = codec::encode(turn);
    match seal {
        Some(seal) => seal.close(scope, turn.id(), &value),
        None => Ok([&[PLAIN][..], &value].concat()),
    }
}

/// The turn that is stored under this id; `None` if it is not readable.
pub(super) fn unpack(seal: Option<&Seal>, scope: &Scope, id: TurnId, mut value: Bytes) -> Option<Turn> {
    let value = match (seal, *value.first()?) {
        (None, PLAIN) => value.split_off(1),
        (Some(seal), SEALED) => seal.open(scope, id, &value[1..])?,
        _ => return None,
    };
    codec::decode(&value).filter(|turn| turn.id() == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Alternative, Anchor, Context, Item, Kind, TurnPart};

    fn turn() -> Turn {
        let context = Context::new(Anchor::from_bytes([0; 16]), Anchor::from_bytes([0; 16]), 0, []);
        let mut part = TurnPart::new(Kind::Text, Anchor::from_bytes([1; 16]));
        part.state = Some(Item::new(Bytes::from_static(b"\"a state that nobody reads\"")));
        Turn::new(TurnId::new(7), context, vec![Alternative::new(0, vec![part])], false)
    }

    fn has_state(value: &[u8]) -> bool {
        memchr::memmem::find(value, b"nobody").is_some()
    }

    #[test]
    fn a_sealed_turn_opens_in_its_place_only() {
        let (seal, turn) = (Seal::new([1; 32]), turn());
        let (here, there) = (Scope::from_bytes([1; 32]), Scope::from_bytes([2; 32]));
        let value = Bytes::from(pack(Some(&seal), &here, &turn).unwrap());
        assert!(!has_state(&value));
        assert_ne!(value, pack(Some(&seal), &here, &turn).unwrap(), "a nonce was used twice");
        assert_eq!(unpack(Some(&seal), &here, turn.id(), value.clone()).as_ref(), Some(&turn));
        assert_eq!(unpack(Some(&seal), &there, turn.id(), value.clone()), None);
        assert_eq!(unpack(Some(&seal), &here, TurnId::new(8), value.clone()), None);
        assert_eq!(unpack(None, &here, turn.id(), value.clone()), None);
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1;
            assert_eq!(unpack(Some(&seal), &here, turn.id(), damaged.into()), None, "byte {at}");
            assert_eq!(unpack(Some(&seal), &here, turn.id(), value.slice(..at)), None, "{at} bytes");
        }
    }

    #[test]
    fn keys_rotate() {
        let (turn, scope) = (turn(), Scope::from_bytes([1; 32]));
        let value = Bytes::from(pack(Some(&Seal::new([1; 32])), &scope, &turn).unwrap());
        let open = |seal: Seal| unpack(Some(&seal), &scope, turn.id(), value.clone()).is_some();
        assert!(open(Seal::new([2; 32]).also_opens([3; 32]).also_opens([1; 32])));
        assert!(!open(Seal::new([2; 32])));
    }

    #[test]
    fn what_was_never_sealed_is_not_taken_for_sealed() {
        let (turn, scope) = (turn(), Scope::from_bytes([1; 32]));
        let value = Bytes::from(pack(None, &scope, &turn).unwrap());
        assert!(has_state(&value));
        assert_eq!(unpack(None, &scope, turn.id(), value.clone()).as_ref(), Some(&turn));
        assert_eq!(unpack(None, &scope, TurnId::new(8), value.clone()), None);
        assert_eq!(unpack(Some(&Seal::new([1; 32])), &scope, turn.id(), value), None);
    }
}
