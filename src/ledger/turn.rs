use std::{
    fmt,
    hash::{Hash, Hasher},
};

use bytes::Bytes;

use super::{
    Anchor, Context,
    held::{Alternatives, HeldAlternative, HeldPart},
};

/// Names one turn; drawn at random when its exchange begins.
// As bytes, for a number of 128 bits would make everything around it larger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TurnId([u8; 16]);

impl TurnId {
    /// The id with this value.
    #[must_use]
    pub fn new(value: u128) -> Self {
        Self(value.to_le_bytes())
    }

    /// The value, to be stored.
    #[must_use]
    pub fn value(self) -> u128 {
        u128::from_le_bytes(self.0)
    }
}

impl Hash for TurnId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.value());
    }
}

impl fmt::Debug for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TurnId({:032x})", self.value())
    }
}

/// What a part of a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A run of visible text.
    Text,
    /// A run of the model's visible thoughts.
    Thought,
    /// A call of one of the client's tools.
    Call,
    /// An image, a sound, a file.
    Media,
    /// A part that only this protocol has, such as code that the provider ran.
    Native,
}

/// One piece of opaque state, as the raw bytes in which it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Item(Bytes);

impl Item {
    /// An item from the raw bytes of its JSON value.
    #[must_use]
    pub fn new(raw: Bytes) -> Self {
        Self(raw)
    }

    /// The raw bytes of its JSON value.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({} bytes)", self.0.len())
    }
}

/// One part of a turn that is to be remembered: what the client will have of it, and the state it carried. The turn
/// holds it as a [`HeldPart`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnPart {
    /// What the part is.
    pub kind: Kind,
    /// The hash of its content.
    pub anchor: Anchor,
    /// Further hashes under which equal content may come back: a call without the arguments that
    /// equal their declared defaults, the one signed chunk of a text run.
    pub aliases: Box<[Anchor]>,
    /// For a text run whose state came on one of its chunks: the last byte of that chunk in the
    /// decoded text. `None` means the end of the run.
    pub state_at: Option<u32>,
    /// The state came alone on an empty part that followed this one; where the client kept that part,
    /// it goes back there.
    pub trailing: bool,
    /// The provider's id of the call.
    pub id: Option<Box<str>>,
    /// The name of the called tool.
    pub name: Option<Box<str>>,
    /// How many equal parts stood in the history before this turn.
    pub occurrence: u32,
    /// The opaque state, if the part carried any.
    pub state: Option<Item>,
    /// The whole part as raw JSON, where the protocol lets it be put back when the client dropped it.
    pub whole: Option<Bytes>,
}

impl TurnPart {
    /// A part of this kind and content, and nothing else.
    #[must_use]
    pub fn new(kind: Kind, anchor: Anchor) -> Self {
        Self {
            kind,
            anchor,
            aliases: Box::default(),
            state_at: None,
            trailing: false,
            id: None,
            name: None,
            occurrence: 0,
            state: None,
            whole: None,
        }
    }
}

impl fmt::Debug for TurnPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnPart")
            .field("kind", &self.kind)
            .field("anchor", &self.anchor)
            .field("state", &self.state)
            .field("whole", &self.whole.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// One of the answers of a response that is to be remembered. Responses with several candidates have several; the client
/// continues at most one. The turn holds it as a [`HeldAlternative`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alternative {
    /// The provider's index of the candidate.
    pub index: u32,
    /// Its parts, in order.
    pub parts: Vec<TurnPart>,
}

impl Alternative {
    /// The candidate of this index.
    #[must_use]
    pub fn new(index: u32, parts: Vec<TurnPart>) -> Self {
        Self { index, parts }
    }
}

/// Where a piece of state is held: the address by which a store forgets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ItemRef {
    /// The turn.
    pub turn: TurnId,
    /// The position of the alternative in the turn.
    pub alternative: u32,
    /// The position of the part in the alternative.
    pub part: u32,
}

impl ItemRef {
    /// The address of the part at these positions.
    #[must_use]
    pub fn new(turn: TurnId, alternative: u32, part: u32) -> Self {
        Self { turn, alternative, part }
    }
}

/// What a turn was made from, beside its [`Context`]: what providers that bind state to what precedes it look at.
///
/// <https://platform.claude.com/docs/en/build-with-claude/preserved-thinking>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Premise {
    /// The request asked for thinking; otherwise the model thought by default, if it did.
    pub asked: bool,
    /// How many thoughts went upstream with the request, the client's own and those put back.
    pub thoughts: u32,
    /// The hash of the state of the last one of them.
    pub last: Option<Anchor>,
    /// The hash of the tools.
    pub tools: Option<Anchor>,
}

impl Premise {
    /// The premise of a request to which this many thoughts belonged, the last of which has this hash.
    #[must_use]
    pub fn new(asked: bool, thoughts: u32, last: Option<Anchor>, tools: Option<Anchor>) -> Self {
        Self { asked, thoughts, last, tools }
    }
}

/// What a ledger takes to hold a turn: two counters, a pointer, and a part of the id.
const SHARED: usize = 4 * size_of::<usize>();

/// One observed model response: its opaque items, in order, with what the client will still have of it.
///
/// # Limits
///
/// Of parts that take 4 GiB or more together it holds the hashes, and nothing else.
#[derive(Clone)]
pub struct Turn {
    id: TurnId,
    context: Context,
    premise: Option<Box<Premise>>,
    alternatives: Alternatives,
    provisional: bool,
}

impl Turn {
    /// A turn. A `provisional` one was cut off before its end.
    #[must_use]
    pub fn new(id: TurnId, context: Context, mut alternatives: Vec<Alternative>, provisional: bool) -> Self {
        alternatives.sort_by_key(|alternative| alternative.index);
        Self { id, context, premise: None, alternatives: Alternatives::pack(&alternatives), provisional }
    }

    /// The turn with what it was made from, where the protocol binds state to that.
    #[must_use]
    pub fn with_premise(mut self, premise: Option<Premise>) -> Self {
        self.premise = premise.map(Box::new);
        self
    }

    /// What it was made from, where the protocol binds state to that.
    #[must_use]
    pub fn premise(&self) -> Option<&Premise> {
        self.premise.as_deref()
    }

    /// The id of the turn.
    #[must_use]
    pub fn id(&self) -> TurnId {
        self.id
    }

    /// What preceded it.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Its alternatives, lowest index first.
    #[must_use]
    pub fn alternatives(&self) -> impl DoubleEndedIterator<Item = HeldAlternative<'_>> + ExactSizeIterator + Clone {
        (0..self.alternatives.len()).map(|at| self.alternatives.at(at))
    }

    /// Its alternatives as they were given to it.
    #[must_use]
    pub fn to_alternatives(&self) -> Vec<Alternative> {
        self.alternatives().map(|alternative| alternative.to_alternative()).collect()
    }

    /// The alternative at this position.
    #[must_use]
    pub fn alternative(&self, at: usize) -> Option<HeldAlternative<'_>> {
        self.alternatives.get(at)
    }

    /// The parts of all alternatives, one after the other.
    #[must_use]
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = HeldPart<'_>> + ExactSizeIterator + Clone {
        self.alternatives.parts()
    }

    /// The part at this address.
    #[must_use]
    pub fn part(&self, at: &ItemRef) -> Option<HeldPart<'_>> {
        self.alternative(at.alternative as usize)?.part(at.part as usize)
    }

    /// The part at a position that is known to be there.
    pub(crate) fn held(&self, alternative: u32, part: u32) -> HeldPart<'_> {
        self.alternatives.at(alternative as usize).held(part as usize)
    }

    /// Whether the response broke off before its end.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// How many items it holds.
    #[must_use]
    pub fn items(&self) -> usize {
        self.alternatives.items()
    }

    /// How many bytes it holds, overhead included, as a ledger holds it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + SHARED
            + self.context.bytes()
            + self.premise.as_ref().map_or(0, |_| size_of::<Premise>())
            + self.alternatives.bytes()
    }

    /// The same turn without what is held at these addresses, and at how many of them there was something.
    pub(crate) fn without(&self, items: &[ItemRef]) -> (Self, usize) {
        let mut alternatives = self.to_alternatives();
        let mut gone = 0;
        for at in items {
            let parts = alternatives.get_mut(at.alternative as usize).map(|alternative| &mut alternative.parts);
            let part = parts.and_then(|parts| parts.get_mut(at.part as usize));
            if let Some(part) = part.filter(|part| part.state.is_some() || part.whole.is_some()) {
                part.state = None;
                part.whole = None;
                gone += 1;
            }
        }
        let turn = Self::new(self.id, self.context.clone(), alternatives, self.provisional);
        (turn.with_premise(self.premise.as_deref().cloned()), gone)
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.provisional, &self.context, &self.premise)
            == (other.id, other.provisional, &other.context, &other.premise)
            && self.alternatives().eq(other.alternatives())
    }
}

impl Eq for Turn {}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alternatives: Vec<_> = self.alternatives().collect();
        f.debug_struct("Turn")
            .field("id", &self.id)
            .field("context", &self.context)
            .field("premise", &self.premise)
            .field("alternatives", &alternatives)
            .field("provisional", &self.provisional)
            .finish_non_exhaustive()
    }
}
