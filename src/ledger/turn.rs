use std::fmt;

use bytes::Bytes;

use super::{Anchor, Context};

/// Names one turn; drawn at random when its exchange begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TurnId(u128);

impl TurnId {
    /// The id with this value.
    #[must_use]
    pub fn new(value: u128) -> Self {
        Self(value)
    }

    /// The value, to be stored.
    #[must_use]
    pub fn value(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TurnId({:032x})", self.0)
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

/// One part of a remembered turn: what the client will have of it, and the state it carried.
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

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val::<[Anchor]>(&self.aliases)
            + self.id.as_ref().map_or(0, |id| id.len())
            + self.name.as_ref().map_or(0, |name| name.len())
            // A whole part contains its state.
            + self.whole.as_ref().or(self.state.as_ref().map(Item::raw)).map_or(0, Bytes::len)
    }

    fn items(&self) -> usize {
        usize::from(self.state.is_some()) + usize::from(self.whole.is_some())
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

/// One of the answers of a response. Responses with several candidates have several; the client
/// continues at most one.
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

/// The list in a place of its size. To shrink it where it is would leave holes among what is held, in which the next
/// turns are scattered.
fn exact<T>(list: Vec<T>) -> Vec<T> {
    if list.len() == list.capacity() {
        return list;
    }
    let mut exact = Vec::with_capacity(list.len());
    exact.extend(list);
    exact
}

/// One observed model response: its opaque items, in order, with what the client will still have of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    id: TurnId,
    context: Context,
    premise: Option<Box<Premise>>,
    alternatives: Vec<Alternative>,
    provisional: bool,
    items: usize,
    bytes: usize,
}

impl Turn {
    /// A turn. A `provisional` one was cut off before its end.
    #[must_use]
    pub fn new(id: TurnId, context: Context, mut alternatives: Vec<Alternative>, provisional: bool) -> Self {
        alternatives.sort_by_key(|alternative| alternative.index);
        // It is held for long.
        alternatives
            .iter_mut()
            .for_each(|alternative| alternative.parts = exact(std::mem::take(&mut alternative.parts)));
        let alternatives = exact(alternatives);
        let parts = || alternatives.iter().flat_map(|alternative| &alternative.parts);
        let items = parts().map(TurnPart::items).sum();
        let bytes = size_of::<Self>()
            + context.bytes()
            + alternatives.len() * size_of::<Alternative>()
            + parts().map(TurnPart::bytes).sum::<usize>();
        Self { id, context, premise: None, alternatives, provisional, items, bytes }
    }

    /// The turn with what it was made from, where the protocol binds state to that.
    #[must_use]
    pub fn with_premise(mut self, premise: Option<Premise>) -> Self {
        self.bytes -= self.premise.as_ref().map_or(0, |_| size_of::<Premise>());
        self.premise = premise.map(Box::new);
        self.bytes += self.premise.as_ref().map_or(0, |_| size_of::<Premise>());
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
    pub fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// Whether the response broke off before its end.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// How many items it holds.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items
    }

    /// How many bytes it holds, overhead included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The part at this address.
    #[must_use]
    pub fn part(&self, at: &ItemRef) -> Option<&TurnPart> {
        self.alternatives.get(at.alternative as usize)?.parts.get(at.part as usize)
    }

    /// The same turn without what is held at these addresses, and at how many of them there was something.
    pub(crate) fn without(&self, items: &[ItemRef]) -> (Self, usize) {
        let mut alternatives = self.alternatives.clone();
        let mut gone = 0;
        for at in items {
            let parts = alternatives.get_mut(at.alternative as usize).map(|alternative| &mut alternative.parts);
            let part = parts.and_then(|parts| parts.get_mut(at.part as usize));
            if let Some(part) = part.filter(|part| part.items() > 0) {
                part.state = None;
                part.whole = None;
                gone += 1;
            }
        }
        let turn = Self::new(self.id, self.context.clone(), alternatives, self.provisional);
        (turn.with_premise(self.premise.as_deref().cloned()), gone)
    }
}
