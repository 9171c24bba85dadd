//! How a turn holds its parts: small, for there are many and they are held for long.

use std::{fmt, ops::Range};

use bytes::Bytes;
use memchr::memmem;

use super::{Alternative, Anchor, Item, Kind, TurnPart};

/// What a part has, as bits in the order in which its spans are listed.
const ID: u8 = 1;
const NAME: u8 = 1 << 1;
const STATE: u8 = 1 << 2;
const WHOLE: u8 = 1 << 3;
const ALIASES: u8 = 1 << 4;
/// Its span begins with the number and is empty.
const STATE_AT: u8 = 1 << 5;

/// A span is two numbers of 32 bits: where it begins, and how long it is.
const SPAN: usize = 8;

/// The fixed size of a part. The rest is among the bytes of its turn: from `at` on a span for each bit in `has`, and
/// what these name.
#[derive(Clone)]
struct Packed {
    anchor: Anchor,
    occurrence: u32,
    at: u32,
    kind: Kind,
    has: u8,
    trailing: bool,
}

/// The alternatives of a turn. Everything whose size varies is in one allocation, which begins with where the parts of
/// each alternative end.
#[derive(Clone)]
pub(super) struct Alternatives {
    parts: Box<[Packed]>,
    raw: Bytes,
    count: u32,
    items: u32,
}

impl Alternatives {
    pub(super) fn pack(alternatives: &[Alternative]) -> Self {
        let parts = || alternatives.iter().flat_map(|alternative| &alternative.parts);
        let layouts: Vec<Layout<'_>> = parts().map(Layout::of).collect();
        let size =
            SPAN * alternatives.len() + parts().zip(&layouts).map(|(part, layout)| layout.size(part)).sum::<usize>();
        // Nothing can be found in what is longer than a number of 32 bits can say.
        let fits = u32::try_from(size).is_ok();
        let mut raw = Vec::with_capacity(if fits { size } else { SPAN * alternatives.len() });
        let mut end = 0;
        for alternative in alternatives {
            end += alternative.parts.len();
            raw.extend_from_slice(&span(alternative.index as usize, end));
        }
        let packed = parts().zip(&layouts).map(|(part, layout)| Packed {
            anchor: part.anchor,
            occurrence: part.occurrence,
            at: number(raw.len()),
            kind: part.kind,
            has: if fits { layout.write(part, &mut raw) } else { 0 },
            trailing: part.trailing,
        });
        let parts: Box<[Packed]> = packed.collect();
        let items = parts.iter().map(|part| (part.has & (STATE | WHOLE)).count_ones()).sum();
        Self { parts, raw: raw.into(), count: number(alternatives.len()), items }
    }

    pub(super) fn items(&self) -> usize {
        self.items as usize
    }

    /// How many bytes it holds beside its own size.
    pub(super) fn bytes(&self) -> usize {
        size_of_val::<[Packed]>(&self.parts) + self.raw.len()
    }

    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    pub(super) fn get(&self, at: usize) -> Option<HeldAlternative<'_>> {
        (at < self.len()).then(|| self.at(at))
    }

    /// The alternative at this position, which there has to be; otherwise one that is empty.
    pub(super) fn at(&self, at: usize) -> HeldAlternative<'_> {
        let (index, end) = read(&self.raw, SPAN * at);
        let start = at.checked_sub(1).map_or(0, |before| read(&self.raw, SPAN * before).1);
        let parts = self.parts.get(start..end).unwrap_or_default();
        HeldAlternative { index: number(index), parts, raw: &self.raw }
    }

    pub(super) fn parts(&self) -> impl DoubleEndedIterator<Item = HeldPart<'_>> + ExactSizeIterator + Clone {
        let raw = &self.raw;
        self.parts.iter().map(move |part| HeldPart { part, raw })
    }
}

/// The bit of an id, a name or a state, its bytes, and where in the whole part they begin.
type Piece<'p> = (u8, Option<&'p [u8]>, Option<usize>);

/// What a part has, and what of it stands in its whole already.
struct Layout<'p> {
    has: u8,
    whole: Option<&'p [u8]>,
    pieces: [Piece<'p>; 3],
}

impl<'p> Layout<'p> {
    fn of(part: &'p TurnPart) -> Self {
        let whole = part.whole.as_deref();
        let pieces = [
            (ID, part.id.as_deref().map(str::as_bytes)),
            (NAME, part.name.as_deref().map(str::as_bytes)),
            (STATE, part.state.as_ref().map(|state| &state.raw()[..])),
        ];
        let pieces = pieces.map(|(bit, piece)| {
            let at = whole.zip(piece).and_then(|(whole, piece)| inside(whole, piece));
            (bit, piece, at)
        });
        let flags =
            [(WHOLE, whole.is_some()), (ALIASES, !part.aliases.is_empty()), (STATE_AT, part.state_at.is_some())];
        let flags = pieces.iter().map(|(bit, piece, _)| (*bit, piece.is_some())).chain(flags);
        let has = flags.filter(|(_, is_there)| *is_there).fold(0, |has, (bit, _)| has | bit);
        Self { has, whole, pieces }
    }

    /// How many bytes the part takes beside its fixed size, aliases included.
    fn size(&self, part: &TurnPart) -> usize {
        let own = self.pieces.iter().filter(|(.., at)| at.is_none()).filter_map(|(_, piece, _)| *piece);
        SPAN * self.has.count_ones() as usize
            + self.whole.map_or(0, <[u8]>::len)
            + own.map(<[u8]>::len).sum::<usize>()
            + size_of_val::<[Anchor]>(&part.aliases)
    }

    /// Writes what the part has, and says what that is.
    fn write(&self, part: &TurnPart, raw: &mut Vec<u8>) -> u8 {
        let start = raw.len();
        raw.resize(start + SPAN * self.has.count_ones() as usize, 0);
        let note = |raw: &mut Vec<u8>, bit: u8, at: usize, length: usize| {
            let to = start + SPAN * before(self.has, bit);
            raw[to..to + SPAN].copy_from_slice(&span(at, length));
        };
        let whole = raw.len();
        let mut add = |bit, piece: &[u8]| {
            note(raw, bit, raw.len(), piece.len());
            raw.extend_from_slice(piece);
        };
        if let Some(whole) = self.whole {
            add(WHOLE, whole);
        }
        for (bit, piece, _) in self.pieces.iter().filter(|(.., at)| at.is_none()) {
            piece.iter().for_each(|piece| add(*bit, piece));
        }
        for (bit, piece, at) in &self.pieces {
            if let (Some(piece), Some(at)) = (piece, at) {
                note(raw, *bit, whole + at, piece.len());
            }
        }
        if !part.aliases.is_empty() {
            note(raw, ALIASES, raw.len(), part.aliases.len());
            part.aliases.iter().for_each(|alias| raw.extend_from_slice(alias.as_bytes()));
        }
        if let Some(at) = part.state_at {
            note(raw, STATE_AT, at as usize, 0);
        }
        self.has
    }
}

/// Where in the whole a piece begins. Mostly it is a slice of it, which need not be looked for.
fn inside(whole: &[u8], piece: &[u8]) -> Option<usize> {
    let slice = (piece.as_ptr() as usize)
        .checked_sub(whole.as_ptr() as usize)
        .filter(|at| whole.len().checked_sub(*at).is_some_and(|left| piece.len() <= left));
    slice.or_else(|| memmem::find(whole, piece))
}

/// How many spans are listed before this one.
#[inline]
fn before(has: u8, bit: u8) -> usize {
    (has & (bit - 1)).count_ones() as usize
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn span(at: usize, length: usize) -> [u8; SPAN] {
    let mut span = [0; SPAN];
    span[..4].copy_from_slice(&number(at).to_le_bytes());
    span[4..].copy_from_slice(&number(length).to_le_bytes());
    span
}

#[inline]
fn read(raw: &[u8], at: usize) -> (usize, usize) {
    let Some((start, length)) = raw.get(at..).and_then(<[u8]>::first_chunk::<SPAN>).map(|span| {
        let [a, b, c, d, e, f, g, h] = *span;
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    }) else {
        return (0, 0);
    };
    (start as usize, length as usize)
}

/// One of the answers of a response, as a [`Turn`](super::Turn) holds it.
#[derive(Clone, Copy)]
pub struct HeldAlternative<'t> {
    index: u32,
    parts: &'t [Packed],
    raw: &'t Bytes,
}

impl<'t> HeldAlternative<'t> {
    /// The provider's index of the candidate.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its parts, in order.
    #[must_use]
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = HeldPart<'t>> + ExactSizeIterator + Clone + use<'t> {
        let raw = self.raw;
        self.parts.iter().map(move |part| HeldPart { part, raw })
    }

    /// The part at this position.
    #[must_use]
    pub fn part(&self, at: usize) -> Option<HeldPart<'t>> {
        Some(HeldPart { part: self.parts.get(at)?, raw: self.raw })
    }

    /// The part at a position that is known to be there.
    pub(super) fn held(&self, at: usize) -> HeldPart<'t> {
        HeldPart { part: &self.parts[at], raw: self.raw }
    }

    /// The alternative as it was given to its turn.
    #[must_use]
    pub fn to_alternative(&self) -> Alternative {
        Alternative::new(self.index, self.parts().map(|part| part.to_part()).collect())
    }
}

impl PartialEq for HeldAlternative<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.parts().eq(other.parts())
    }
}

impl Eq for HeldAlternative<'_> {}

impl fmt::Debug for HeldAlternative<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.parts().collect();
        f.debug_struct("HeldAlternative").field("index", &self.index).field("parts", &parts).finish()
    }
}

/// One part of a remembered turn, as the [`Turn`](super::Turn) holds it. See [`TurnPart`] for what each of these is.
#[derive(Clone, Copy)]
pub struct HeldPart<'t> {
    part: &'t Packed,
    raw: &'t Bytes,
}

impl<'t> HeldPart<'t> {
    /// What the part is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.part.kind
    }

    /// The hash of its content.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        self.part.anchor
    }

    /// Further hashes under which equal content may come back.
    #[must_use]
    pub fn aliases(&self) -> impl ExactSizeIterator<Item = Anchor> + Clone + use<'t> {
        let (start, count) = self.span(ALIASES).unwrap_or_default();
        let bytes = self.raw.get(start..).and_then(|raw| raw.as_chunks().0.get(..count));
        bytes.unwrap_or_default().iter().map(|bytes| Anchor::from_bytes(*bytes))
    }

    /// Where in a text run the chunk ends on which its state came.
    #[must_use]
    pub fn state_at(&self) -> Option<u32> {
        Some(number(self.span(STATE_AT)?.0))
    }

    /// Whether the state came alone on an empty part that followed this one.
    #[must_use]
    pub fn is_trailing(&self) -> bool {
        self.part.trailing
    }

    /// The provider's id of the call.
    #[must_use]
    pub fn id(&self) -> Option<&'t str> {
        std::str::from_utf8(self.piece(ID)?).ok()
    }

    /// The name of the called tool.
    #[must_use]
    pub fn name(&self) -> Option<&'t str> {
        std::str::from_utf8(self.piece(NAME)?).ok()
    }

    /// The bytes of the id. That they are text was so when they came; to look again takes longer than to compare them.
    pub(crate) fn id_raw(&self) -> Option<&'t [u8]> {
        self.piece(ID)
    }

    /// The bytes of the name.
    pub(crate) fn name_raw(&self) -> Option<&'t [u8]> {
        self.piece(NAME)
    }

    /// How many equal parts stood in the history before this turn.
    #[must_use]
    pub fn occurrence(&self) -> u32 {
        self.part.occurrence
    }

    /// Whether the part carried opaque state.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.part.has & STATE != 0
    }

    /// The opaque state, as the raw bytes of its JSON value.
    #[must_use]
    pub fn state(&self) -> Option<&'t [u8]> {
        self.piece(STATE)
    }

    /// The opaque state, sharing the memory of the turn.
    #[must_use]
    pub fn item(&self) -> Option<Item> {
        self.shared(STATE).map(Item::new)
    }

    /// Whether the whole part may be put back.
    #[must_use]
    pub fn has_whole(&self) -> bool {
        self.part.has & WHOLE != 0
    }

    /// The whole part as raw JSON, sharing the memory of the turn.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        self.shared(WHOLE)
    }

    /// The whole part as raw JSON.
    pub(crate) fn whole_raw(&self) -> Option<&'t [u8]> {
        self.piece(WHOLE)
    }

    /// Where in the whole part the state stands, if it does.
    pub(crate) fn state_in_whole(&self) -> Option<Range<usize>> {
        let ((whole, length), (state, of_state)) = (self.span(WHOLE)?, self.span(STATE)?);
        let at = state.checked_sub(whole)?;
        (at + of_state <= length).then_some(at..at + of_state)
    }

    /// The part as it was given to its turn.
    #[must_use]
    pub fn to_part(&self) -> TurnPart {
        let whole = self.whole();
        let state = match (self.state_in_whole(), &whole) {
            (Some(range), Some(whole)) => Some(Item::new(whole.slice(range))),
            _ => self.item(),
        };
        TurnPart {
            kind: self.kind(),
            anchor: self.anchor(),
            aliases: self.aliases().collect(),
            state_at: self.state_at(),
            trailing: self.is_trailing(),
            id: self.id().map(Into::into),
            name: self.name().map(Into::into),
            occurrence: self.occurrence(),
            state,
            whole,
        }
    }

    #[inline]
    fn span(&self, bit: u8) -> Option<(usize, usize)> {
        let Packed { at, has, .. } = *self.part;
        (has & bit != 0).then(|| read(self.raw, at as usize + SPAN * before(has, bit)))
    }

    #[inline]
    fn piece(&self, bit: u8) -> Option<&'t [u8]> {
        let (start, length) = self.span(bit)?;
        self.raw.get(start..start + length)
    }

    fn shared(&self, bit: u8) -> Option<Bytes> {
        let (start, length) = self.span(bit)?;
        (start + length <= self.raw.len()).then(|| self.raw.slice(start..start + length))
    }
}

impl PartialEq for HeldPart<'_> {
    fn eq(&self, other: &Self) -> bool {
        let small = |part: &Self| {
            let Packed { anchor, occurrence, kind, has, trailing, .. } = *part.part;
            (anchor, occurrence, kind, has, trailing, part.state_at())
        };
        let pieces = |part: &Self| [ID, NAME, STATE, WHOLE].map(|bit| part.piece(bit));
        small(self) == small(other) && pieces(self) == pieces(other) && self.aliases().eq(other.aliases())
    }
}

impl Eq for HeldPart<'_> {}

impl fmt::Debug for HeldPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_part().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(state: Option<Item>, whole: Option<Bytes>) -> TurnPart {
        let mut part = TurnPart::new(Kind::Call, Anchor::from_bytes([1; 16]));
        (part.id, part.name) = (Some("id_7".into()), Some("tool".into()));
        (part.state, part.whole) = (state, whole);
        part
    }

    fn packed(part: &TurnPart) -> Alternatives {
        Alternatives::pack(&[Alternative::new(0, vec![part.clone()])])
    }

    #[test]
    fn what_a_whole_part_contains_is_held_once() {
        let whole = Bytes::from_static(br#"{"id":"id_7","name":"tool","signature":"abc"}"#);
        let slice = packed(&part(Some(Item::new(whole.slice(39..44))), Some(whole.clone())));
        let copy = packed(&part(Some(Item::new(Bytes::from_static(b"\"abc\""))), Some(whole.clone())));
        assert_eq!(slice.raw.len(), SPAN + 4 * SPAN + whole.len());
        assert_eq!(copy.raw, slice.raw);
        let elsewhere = packed(&part(Some(Item::new(Bytes::from_static(b"\"xyz\""))), Some(whole.clone())));
        assert_eq!(elsewhere.raw.len(), slice.raw.len() + 5);
        assert_eq!(elsewhere.parts().next().unwrap().state_in_whole(), None);
    }

    #[test]
    fn alternatives_end_where_they_ended() {
        let text = || TurnPart::new(Kind::Text, Anchor::from_bytes([2; 16]));
        let given =
            [Alternative::new(0, vec![text(); 2]), Alternative::new(4, vec![]), Alternative::new(7, vec![text()])];
        let held = Alternatives::pack(&given);
        let back: Vec<_> = (0..4).map_while(|at| held.get(at)).map(|held| held.to_alternative()).collect();
        assert_eq!(back, given);
        assert_eq!(held.parts().len(), 3);
        assert!(Alternatives::pack(&[]).get(0).is_none());
    }
}
