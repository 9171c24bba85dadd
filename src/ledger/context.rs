use std::ops::Range;

use super::{
    Anchor,
    fingerprint::{self, Tag},
};
use crate::scope::HashKey;

/// What preceded a turn in its request, as fingerprints of the canonical client content without any
/// opaque state.
///
/// `before` covers everything; `windows` holds, for k = 0, 1, 2, …, a fingerprint of the last 2^k
/// units, so that neighbours can be compared in histories that were truncated, compacted or edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    system: Anchor,
    before: Anchor,
    depth: u32,
    windows: Box<[u64]>,
}

impl Context {
    /// The context of a turn: `system` is the fingerprint of the system instruction, `before` that of
    /// all units before the turn, `depth` their number, and `windows` the fingerprints of the last
    /// 1, 2, 4, … of them.
    #[must_use]
    pub fn new(system: Anchor, before: Anchor, depth: u32, windows: impl Into<Box<[u64]>>) -> Self {
        Self { system, before, depth, windows: windows.into() }
    }

    /// The fingerprint of the system instruction.
    #[must_use]
    pub fn system(&self) -> Anchor {
        self.system
    }

    /// The fingerprint of everything before the turn.
    #[must_use]
    pub fn before(&self) -> Anchor {
        self.before
    }

    /// How many units stood before the turn.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The fingerprints of the last 1, 2, 4, … units.
    #[must_use]
    pub fn windows(&self) -> &[u64] {
        &self.windows
    }

    /// Whether everything before both turns is the same, the system instruction included.
    #[must_use]
    pub fn same_history(&self, other: &Self) -> bool {
        self.before == other.before && self.depth == other.depth && self.system == other.system
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val::<[u64]>(&self.windows)
    }
}

/// The units of a history, so that the context at any place of it can be told.
///
/// A unit is a run of text of one author, a call, an output, a piece of media: what remains the same
/// when a client splits, merges or re-keys its messages.
#[derive(Debug)]
pub(crate) struct Trace {
    key: HashKey,
    system: Anchor,
    units: Vec<Anchor>,
    /// `chain[n]` covers the first n units.
    chain: Vec<Anchor>,
    /// `rolling[n]` is a polynomial over the first n units, from which any window can be had.
    rolling: Vec<u64>,
    /// The base of the polynomial, raised to 1, 2, 4, ….
    powers: Vec<u64>,
}

/// The modulus of the rolling hash, a Mersenne prime.
const PRIME: u64 = (1 << 61) - 1;

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2^61 is 1 to this modulus, so what stands above counts as what stands below.
    let low = u64::try_from(product & u128::from(PRIME)).unwrap_or_default();
    let high = u64::try_from(product >> 61).unwrap_or_default();
    let sum = low + high;
    if sum >= PRIME { sum - PRIME } else { sum }
}

fn number(anchor: &Anchor) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&anchor.as_bytes()[..8]);
    u64::from_le_bytes(bytes) % PRIME
}

impl Trace {
    pub(crate) fn new(key: &HashKey, system: Anchor) -> Self {
        let seed = fingerprint::bytes(key, Tag::Window, b"");
        Self {
            key: key.clone(),
            system,
            units: Vec::new(),
            chain: vec![fingerprint::bytes(key, Tag::Chain, b"")],
            rolling: vec![0],
            powers: vec![number(&seed) | 1],
        }
    }

    pub(crate) fn push(&mut self, unit: Anchor) {
        let (Some(chain), Some(rolling)) = (self.chain.last(), self.rolling.last()) else { return };
        let link = self.link(chain, &unit);
        let rolling = (multiply(*rolling, self.powers[0]) + number(&unit)) % PRIME;
        self.chain.push(link);
        self.units.push(unit);
        self.rolling.push(rolling);
        if self.chain.len() > 1 << self.powers.len() {
            let last = self.powers[self.powers.len() - 1];
            self.powers.push(multiply(last, last));
        }
    }

    /// Takes in the first units of another trace under the same key; there are none so far.
    pub(crate) fn resume(&mut self, other: &Self, units: usize) {
        self.units.extend_from_slice(&other.units[..units]);
        self.chain.extend_from_slice(&other.chain[1..=units]);
        self.rolling.extend_from_slice(&other.rolling[1..=units]);
        self.powers.clone_from(&other.powers);
    }

    /// The unit at a place, if there is one.
    pub(crate) fn unit(&self, at: usize) -> Option<Anchor> {
        self.units.get(at).copied()
    }

    /// Makes room for so many units.
    pub(crate) fn reserve(&mut self, units: usize) {
        self.units.reserve_exact(units);
        self.chain.reserve_exact(units);
        self.rolling.reserve_exact(units);
    }

    /// The memory that it takes, besides its key.
    pub(crate) fn bytes(&self) -> usize {
        let anchors = self.units.capacity() + self.chain.capacity();
        anchors * size_of::<Anchor>() + (self.rolling.capacity() + self.powers.capacity()) * size_of::<u64>()
    }

    fn link(&self, chain: &Anchor, unit: &Anchor) -> Anchor {
        fingerprint::pair(&self.key, Tag::Chain, chain, unit)
    }

    /// What the fingerprint `before` of everything before these units becomes with them.
    pub(crate) fn continued(&self, before: Anchor, units: Range<usize>) -> Anchor {
        let units = self.units.get(units).unwrap_or_default();
        units.iter().fold(before, |chain, unit| self.link(&chain, unit))
    }

    /// How many units there are.
    pub(crate) fn len(&self) -> usize {
        self.chain.len() - 1
    }

    /// The fingerprint of the system instruction.
    pub(crate) fn system(&self) -> Anchor {
        self.system
    }

    /// The fingerprint of everything before the unit `at`.
    pub(crate) fn before(&self, at: usize) -> Anchor {
        self.chain[at]
    }

    /// The fingerprint of the 2^`level` units before the unit `at`, if there are as many.
    pub(crate) fn window(&self, at: usize, level: usize) -> Option<u64> {
        let from = at.checked_sub(1_usize.checked_shl(u32::try_from(level).ok()?)?)?;
        let gone = multiply(self.rolling[from], *self.powers.get(level)?);
        // The length is part of it, so that windows of different lengths never meet.
        Some(((self.rolling[at] + PRIME - gone) % PRIME) << 3 | (level as u64 & 7))
    }

    /// The context of a turn that begins at the unit `at`.
    pub(crate) fn context(&self, at: usize) -> Context {
        let windows: Vec<u64> = (0..usize::BITS as usize).map_while(|level| self.window(at, level)).collect();
        let depth = u32::try_from(at).unwrap_or(u32::MAX);
        Context::new(self.system, self.before(at), depth, windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(units: &[u8]) -> Trace {
        let key = HashKey::from_bytes([7; 32]);
        let mut trace = Trace::new(&key, Anchor::from_bytes([0; 16]));
        for unit in units {
            trace.push(fingerprint::bytes(&key, Tag::Other, &[*unit]));
        }
        trace
    }

    #[test]
    fn products_are_reduced_as_by_division() {
        let mut value = 1;
        for (a, b) in [(0, 7), (PRIME - 1, PRIME - 1), (PRIME - 1, 2), (1 << 60, 1 << 60), (1 << 60, 3), (PRIME - 1, 1)]
        {
            value = multiply(value + a % 5, a.max(1));
            for (a, b) in [(a, b), (value, b), (value, value)] {
                assert_eq!(u128::from(multiply(a, b)), u128::from(a) * u128::from(b) % u128::from(PRIME), "{a} {b}");
            }
        }
    }

    #[test]
    fn windows_see_only_what_is_near() {
        let (one, other) = (trace(b"abcdefgh"), trace(b"Xbcdefgh"));
        for level in 0..3 {
            assert_eq!(one.window(8, level), other.window(8, level), "level {level}");
            assert!(one.window(8, level).is_some());
        }
        assert_ne!(one.window(8, 3), other.window(8, 3));
        assert_ne!(one.before(8), other.before(8));
        assert_eq!(one.window(8, 4), None);
    }

    #[test]
    fn a_history_can_be_continued_with_the_units_of_another() {
        let (long, short) = (trace(b"0123456789abcd"), trace(b"89ab"));
        assert_eq!(short.continued(long.before(8), 0..4), long.before(12));
        assert_ne!(short.continued(long.before(6), 0..4), long.before(10));
        assert_eq!(short.continued(long.before(6), 2..2), long.before(6));
    }

    #[test]
    fn a_trace_that_was_resumed_is_what_it_would_be_from_the_beginning() {
        let long = trace(b"0123456789abcdefgh");
        for units in 0..=18 {
            let mut resumed = trace(b"");
            resumed.resume(&long, units);
            for unit in b"xyz" {
                resumed.push(fingerprint::bytes(&HashKey::from_bytes([7; 32]), Tag::Other, &[*unit]));
            }
            let whole = trace(&[&b"0123456789abcdefgh"[..units], b"xyz"].concat());
            for at in 0..=units + 3 {
                assert_eq!(resumed.context(at), whole.context(at), "{units} {at}");
            }
        }
    }

    #[test]
    fn windows_are_the_same_after_the_head_is_gone() {
        let (long, short) = (trace(b"0123456789abcdefgh"), trace(b"efgh"));
        assert_eq!(long.window(18, 2), short.window(4, 2));
        assert_eq!(long.context(18).windows().len(), 5);
        assert_eq!(short.context(4).windows().len(), 3);
    }
}
