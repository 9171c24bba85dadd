use super::Anchor;

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
