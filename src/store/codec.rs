//! Turns as bytes, for stores that keep them outside of this process.
//!
//! A value begins with the version of its format and ends with a checksum. Its parts say how long they are, so
//! that a later release may add fields at the end of each that this one passes over. A value of another version,
//! or one that is damaged, is no turn: it counts as a miss.
//!
//! # Examples
//!
//! ```
//! use tower_reasoning_replay::{
//!     ledger::{Alternative, Anchor, Context, Kind, Turn, TurnId, TurnPart},
//!     store::codec,
//! };
//!
//! let start = Context::new(Anchor::from_bytes([0; 16]), Anchor::from_bytes([0; 16]), 0, []);
//! let part = TurnPart::new(Kind::Text, Anchor::from_bytes([1; 16]));
//! let turn = Turn::new(TurnId::new(7), start, vec![Alternative::new(0, vec![part])], false);
//! let value = codec::encode(&turn);
//! assert_eq!(codec::decode(&value), Some(turn));
//! assert_eq!(codec::decode(&value.slice(..value.len() - 1)), None);
//! ```

use bytes::Bytes;

use crate::ledger::{Alternative, Anchor, Context, HeldPart, Item, Kind, Premise, Turn, TurnId, TurnPart};

/// The version of the format.
pub const VERSION: u8 = 1;

/// How long the checksum is, in bytes.
const CHECKSUM: usize = 8;

/// Where the state of a part stands in its value.
const NO_STATE: u8 = 0;
const OWN_STATE: u8 = 1;
/// It is a slice of the whole part, which is kept once.
const STATE_IN_WHOLE: u8 = 2;

/// A turn as bytes.
#[must_use]
pub fn encode(turn: &Turn) -> Bytes {
    let mut out = Vec::with_capacity(turn.bytes());
    out.push(VERSION);
    section(&mut out, |out| {
        out.extend_from_slice(&turn.id().value().to_le_bytes());
        out.push(u8::from(turn.is_provisional()));
        let context = turn.context();
        out.extend_from_slice(context.system().as_bytes());
        out.extend_from_slice(context.before().as_bytes());
        out.extend_from_slice(&context.depth().to_le_bytes());
        count(out, context.windows().len());
        for window in context.windows() {
            out.extend_from_slice(&window.to_le_bytes());
        }
        optional(out, turn.premise(), |out, premise| {
            out.push(u8::from(premise.asked));
            out.extend_from_slice(&premise.thoughts.to_le_bytes());
            optional(out, premise.last.as_ref(), |out, last| out.extend_from_slice(last.as_bytes()));
            optional(out, premise.tools.as_ref(), |out, tools| out.extend_from_slice(tools.as_bytes()));
        });
        count(out, turn.alternatives().len());
        for alternative in turn.alternatives() {
            out.extend_from_slice(&alternative.index().to_le_bytes());
            count(out, alternative.parts().len());
            for part in alternative.parts() {
                section(out, |out| encode_part(&part, out));
            }
        }
    });
    let checksum = checksum(&out);
    out.extend_from_slice(&checksum);
    out.into()
}

fn encode_part(part: &HeldPart<'_>, out: &mut Vec<u8>) {
    out.push(match part.kind() {
        Kind::Text => 0,
        Kind::Thought => 1,
        Kind::Call => 2,
        Kind::Media => 3,
        Kind::Native => 4,
    });
    out.extend_from_slice(part.anchor().as_bytes());
    count(out, part.aliases().len());
    for alias in part.aliases() {
        out.extend_from_slice(alias.as_bytes());
    }
    optional(out, part.state_at(), |out, at| out.extend_from_slice(&at.to_le_bytes()));
    out.push(u8::from(part.is_trailing()));
    optional(out, part.id(), |out, id| bytes(out, id.as_bytes()));
    optional(out, part.name(), |out, name| bytes(out, name.as_bytes()));
    out.extend_from_slice(&part.occurrence().to_le_bytes());
    optional(out, part.whole_raw(), bytes);
    match (part.state(), part.state_in_whole()) {
        (None, _) => out.push(NO_STATE),
        (Some(_), Some(at)) => {
            out.push(STATE_IN_WHOLE);
            count(out, at.start);
            count(out, at.len());
        }
        (Some(state), None) => {
            out.push(OWN_STATE);
            bytes(out, state);
        }
    }
}

/// The turn that these bytes are.
///
/// `None` if they are damaged, or of a version that this release does not know.
#[must_use]
pub fn decode(value: &Bytes) -> Option<Turn> {
    let end = value.len().checked_sub(CHECKSUM)?;
    if checksum(value.get(..end)?) != value.get(end..)? {
        return None;
    }
    let mut reader = Reader { value: value.slice(..end) };
    if reader.byte()? != VERSION {
        return None;
    }
    let mut reader = reader.section()?;
    let id = TurnId::new(u128::from_le_bytes(reader.array()?));
    let provisional = reader.flag()?;
    let (system, before) = (reader.anchor()?, reader.anchor()?);
    let depth = reader.number()?;
    let windows: Vec<u64> = reader.list(|reader| Some(u64::from_le_bytes(reader.array()?)))?;
    let context = Context::new(system, before, depth, windows);
    let premise = reader.optional(|reader| {
        let (asked, thoughts) = (reader.flag()?, reader.number()?);
        let (last, tools) = (reader.optional(Reader::anchor)?, reader.optional(Reader::anchor)?);
        Some(Premise::new(asked, thoughts, last, tools))
    })?;
    let alternatives = reader.list(|reader| {
        let index = reader.number()?;
        let parts = reader.list(|reader| decode_part(&mut reader.section()?))?;
        Some(Alternative::new(index, parts))
    })?;
    Some(Turn::new(id, context, alternatives, provisional).with_premise(premise))
}

fn decode_part(reader: &mut Reader) -> Option<TurnPart> {
    let kind = match reader.byte()? {
        0 => Kind::Text,
        1 => Kind::Thought,
        2 => Kind::Call,
        3 => Kind::Media,
        4 => Kind::Native,
        _ => return None,
    };
    let mut part = TurnPart::new(kind, reader.anchor()?);
    part.aliases = reader.list(Reader::anchor)?.into();
    part.state_at = reader.optional(Reader::number)?;
    part.trailing = reader.flag()?;
    part.id = reader.optional(Reader::text)?;
    part.name = reader.optional(Reader::text)?;
    part.occurrence = reader.number()?;
    part.whole = reader.optional(Reader::bytes)?;
    part.state = match reader.byte()? {
        NO_STATE => None,
        OWN_STATE => Some(Item::new(reader.bytes()?)),
        STATE_IN_WHOLE => {
            let (at, length) = (reader.count()?, reader.count()?);
            let whole = part.whole.as_ref()?;
            let end = at.checked_add(length).filter(|end| *end <= whole.len())?;
            Some(Item::new(whole.slice(at..end)))
        }
        _ => return None,
    };
    Some(part)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM]);
    sum
}

fn count(out: &mut Vec<u8>, count: usize) {
    // What is remembered is bounded far below this.
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes something and before it its length.
fn section(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    count(out, 0);
    write(out);
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

/// Reads off the front. Nothing is believed: what is not there is `None`.
struct Reader {
    value: Bytes,
}

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.value.len()).then(|| self.value.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Some(array)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn anchor(&mut self) -> Option<Anchor> {
        self.array().map(Anchor::from_bytes)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.count()?;
        self.take(length)
    }

    fn section(&mut self) -> Option<Self> {
        Some(Self { value: self.bytes()? })
    }

    fn text(&mut self) -> Option<Box<str>> {
        Some(std::str::from_utf8(&self.bytes()?).ok()?.into())
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        // Every element takes a byte at least, so no count can ask for more room than there are bytes.
        if count > self.value.len() {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn anchor() -> impl Strategy<Value = Anchor> {
        any::<[u8; 16]>().prop_map(Anchor::from_bytes)
    }

    fn part() -> impl Strategy<Value = TurnPart> {
        let kind = prop::sample::select(vec![Kind::Text, Kind::Thought, Kind::Call, Kind::Media, Kind::Native]);
        let texts = (prop::option::of("\\PC{0,8}"), prop::option::of("\\PC{0,8}"));
        let whole = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        let state = prop::option::of((any::<bool>(), 0usize..40, prop::collection::vec(any::<u8>(), 0..20)));
        let rest = (prop::collection::vec(anchor(), 0..3), prop::option::of(any::<u32>()), any::<bool>(), any::<u32>());
        (kind, anchor(), texts, whole, state, rest).prop_map(|(kind, anchor, texts, whole, state, rest)| {
            let mut part = TurnPart::new(kind, anchor);
            (part.id, part.name) = (texts.0.map(Into::into), texts.1.map(Into::into));
            part.whole = whole.map(Bytes::from);
            part.state = state.map(|(inside, at, own)| match &part.whole {
                Some(whole) if inside && at <= whole.len() => Item::new(whole.slice(at..)),
                _ => Item::new(own.into()),
            });
            (part.aliases, part.state_at, part.trailing, part.occurrence) = (rest.0.into(), rest.1, rest.2, rest.3);
            part
        })
    }

    fn turn() -> impl Strategy<Value = Turn> {
        let premise = (any::<bool>(), any::<u32>(), prop::option::of(anchor()), prop::option::of(anchor()));
        let premise = premise.prop_map(|(asked, thoughts, last, tools)| Premise::new(asked, thoughts, last, tools));
        let context = (anchor(), anchor(), any::<u32>(), prop::collection::vec(any::<u64>(), 0..5));
        let context = context.prop_map(|(system, before, depth, windows)| Context::new(system, before, depth, windows));
        let alternative = (any::<u32>(), prop::collection::vec(part(), 0..4));
        let alternative = alternative.prop_map(|(index, parts)| Alternative::new(index, parts));
        let alternatives = prop::collection::vec(alternative, 0..3);
        (any::<u128>(), context, prop::option::of(premise), alternatives, any::<bool>()).prop_map(
            |(id, context, premise, alternatives, provisional)| {
                Turn::new(TurnId::new(id), context, alternatives, provisional).with_premise(premise)
            },
        )
    }

    proptest! {
        #[test]
        fn a_turn_comes_back_as_it_was(turn in turn()) {
            let value = encode(&turn);
            let back = decode(&value);
            prop_assert_eq!(back.as_ref(), Some(&turn));
            // The size decides what a ledger holds, so it has to be the same everywhere.
            prop_assert_eq!(back.map(|back| (back.bytes(), back.items())), Some((turn.bytes(), turn.items())));
        }

        #[test]
        fn a_damaged_value_is_no_turn(turn in turn(), at in any::<prop::sample::Index>(), flip in 1..=u8::MAX) {
            let mut value = encode(&turn).to_vec();
            let at = at.index(value.len());
            value[at] ^= flip;
            prop_assert_eq!(decode(&value.clone().into()), None);
            value.truncate(at);
            prop_assert_eq!(decode(&value.into()), None);
        }

        #[test]
        fn nothing_makes_it_panic(mut value in prop::collection::vec(any::<u8>(), 0..200)) {
            value.insert(0, VERSION);
            let sum = checksum(&value);
            value.extend_from_slice(&sum);
            let _ = decode(&value.into());
        }
    }

    #[test]
    fn fields_of_a_later_release_are_passed_over() {
        let start = Context::new(Anchor::from_bytes([0; 16]), Anchor::from_bytes([0; 16]), 0, []);
        let turn = Turn::new(TurnId::new(7), start, Vec::new(), false);
        let value = encode(&turn);
        let mut later = value[..value.len() - CHECKSUM].to_vec();
        later.extend_from_slice(b"more");
        let length = u32::try_from(later.len() - 5).unwrap();
        later[1..5].copy_from_slice(&length.to_le_bytes());
        let sum = checksum(&later);
        later.extend_from_slice(&sum);
        assert_eq!(decode(&later.into()), Some(turn));
    }

    #[test]
    fn another_version_is_a_miss() {
        let start = Context::new(Anchor::from_bytes([0; 16]), Anchor::from_bytes([0; 16]), 0, []);
        let value = encode(&Turn::new(TurnId::new(7), start, Vec::new(), false));
        let mut other = value[..value.len() - CHECKSUM].to_vec();
        other[0] = VERSION + 1;
        let sum = checksum(&other);
        other.extend_from_slice(&sum);
        assert_eq!(decode(&other.into()), None);
    }
}
