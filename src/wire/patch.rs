//! Changes to byte ranges of a body; every other byte stays as it is.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

/// Two edits of a [`Patch`] touch the same bytes, or one reaches beyond the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap;

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("edits overlap each other or reach beyond the body")
    }
}

impl Error for Overlap {}

/// Insertions and replacements by byte range, to be made all at once.
///
/// Positions are those of the original body. Edits may be added in any order; several insertions
/// at one place keep the order in which they were added, and stand before a replacement that
/// begins there.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::wire::patch::{Overlap, Patch};
///
/// let mut patch = Patch::default();
/// patch.replace(6..11, "there");
/// patch.insert(5, ",");
/// assert_eq!(patch.apply(b"hello world")?, "hello, there");
/// # Ok::<(), Overlap>(())
/// ```
#[derive(Default)]
pub struct Patch {
    edits: Vec<Edit>,
    added: usize,
    /// Whether an edit was added before its place.
    unordered: bool,
}

/// Where an edit ended up: see [`Patch::undo_positions`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// The range of the patched body that holds the bytes of the edit.
    pub patched: Range<usize>,
    /// The range of the original body that they stand for.
    pub original: Range<usize>,
}

struct Edit {
    range: Range<usize>,
    text: Framed,
}

/// Bytes with a few characters before and behind them, which are put together only in the patched body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Framed {
    pub(crate) before: &'static str,
    pub(crate) bytes: Bytes,
    pub(crate) after: &'static str,
}

impl Framed {
    pub(crate) fn len(&self) -> usize {
        self.before.len().saturating_add(self.bytes.len()).saturating_add(self.after.len())
    }

    /// What is written, in order.
    pub(crate) fn pieces(&self) -> [&[u8]; 3] {
        [self.before.as_bytes(), &self.bytes, self.after.as_bytes()]
    }

    /// Whether this is what is written.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        let rest = self.pieces().iter().try_fold(text, |text, piece| text.strip_prefix(*piece));
        rest.is_some_and(<[u8]>::is_empty)
    }
}

impl<T: Into<Bytes>> From<T> for Framed {
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), ..Self::default() }
    }
}

impl Edit {
    fn key(&self) -> (usize, bool) {
        (self.range.start, !self.range.is_empty())
    }
}

impl Patch {
    /// Inserts bytes before the byte at this position.
    pub fn insert(&mut self, at: usize, bytes: impl Into<Bytes>) {
        self.replace(at..at, bytes);
    }

    /// Replaces a range with these bytes.
    pub fn replace(&mut self, range: Range<usize>, bytes: impl Into<Bytes>) {
        self.splice(range, bytes.into().into());
    }

    /// Makes room for this many more edits.
    pub(crate) fn reserve(&mut self, edits: usize) {
        self.edits.reserve(edits);
    }

    pub(crate) fn splice(&mut self, range: Range<usize>, text: Framed) {
        let edit = Edit { range, text };
        self.added = self.added.saturating_add(edit.text.len());
        self.unordered |= self.edits.last().is_some_and(|last| edit.key() < last.key());
        self.edits.push(edit);
    }

    /// Whether there is no edit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The number of edits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edits.len()
    }

    /// The number of bytes that the edits bring, in place of others or not.
    #[must_use]
    pub fn added(&self) -> usize {
        self.added
    }

    /// The body with all edits made, in one allocation of its exact size.
    ///
    /// # Errors
    ///
    /// [`Overlap`] if two edits touch the same bytes, if an insertion lies inside a replaced range,
    /// or if an edit reaches beyond the body.
    pub fn apply(&self, body: &[u8]) -> Result<Bytes, Overlap> {
        let mut patched = Vec::with_capacity(self.length(body)?);
        self.write(body, &mut patched)?;
        Ok(patched.into())
    }

    /// How long the body is with all edits made.
    pub(crate) fn length(&self, body: &[u8]) -> Result<usize, Overlap> {
        let mut removed = 0;
        let mut end = 0;
        self.in_order(|edit| {
            if edit.range.start < end || edit.range.end < edit.range.start {
                return Err(Overlap);
            }
            end = edit.range.end;
            removed += edit.range.len();
            Ok(())
        })?;
        if end > body.len() {
            return Err(Overlap);
        }
        Ok((body.len() - removed).saturating_add(self.added))
    }

    /// Writes the body with all edits made.
    pub(crate) fn write(&self, body: &[u8], patched: &mut Vec<u8>) -> Result<(), Overlap> {
        let mut copied = 0;
        self.in_order(|edit| {
            patched.extend_from_slice(body.get(copied..edit.range.start).ok_or(Overlap)?);
            edit.text.pieces().into_iter().for_each(|piece| patched.extend_from_slice(piece));
            copied = edit.range.end;
            Ok(())
        })?;
        patched.extend_from_slice(body.get(copied..).ok_or(Overlap)?);
        Ok(())
    }

    /// Where each edit's bytes stand in the patched body, and which range of the original they
    /// stand for, in the order of the bodies.
    ///
    /// Whoever puts the original ranges back in their place has the original body again.
    ///
    /// # Errors
    ///
    /// [`Overlap`] if two edits touch the same bytes.
    pub fn undo_positions(&self) -> Result<Vec<Placed>, Overlap> {
        let mut positions = Vec::with_capacity(self.edits.len());
        let mut original = 0;
        let mut patched: usize = 0;
        self.in_order(|edit| {
            let Range { start, end } = edit.range;
            if start < original || end < start {
                return Err(Overlap);
            }
            let from = patched.saturating_add(start - original);
            patched = from.saturating_add(edit.text.len());
            original = end;
            positions.push(Placed { patched: from..patched, original: start..end });
            Ok(())
        })?;
        Ok(positions)
    }

    fn in_order<'a>(&'a self, mut visit: impl FnMut(&'a Edit) -> Result<(), Overlap>) -> Result<(), Overlap> {
        if !self.unordered {
            return self.edits.iter().try_for_each(visit);
        }
        let mut edits: Vec<&Edit> = self.edits.iter().collect();
        edits.sort_by_key(|edit| edit.key());
        edits.into_iter().try_for_each(&mut visit)
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patch").field("edits", &self.edits.len()).field("added", &self.added).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patch(edits: &[(Range<usize>, &'static str)]) -> Patch {
        let mut patch = Patch::default();
        for (range, bytes) in edits {
            patch.replace(range.clone(), *bytes);
        }
        patch
    }

    /// Puts the original ranges back.
    fn undo(patch: &Patch, patched: &[u8], original: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut copied = 0;
        for place in patch.undo_positions().unwrap() {
            body.extend_from_slice(&patched[copied..place.patched.start]);
            body.extend_from_slice(&original[place.original]);
            copied = place.patched.end;
        }
        body.extend_from_slice(&patched[copied..]);
        body
    }

    #[test]
    fn insertions_at_one_place_keep_their_order() {
        let patch = patch(&[(1..2, "B"), (1..1, "1"), (0..0, "0"), (1..1, "2"), (2..2, "3")]);
        assert_eq!(patch.apply(b"abc").unwrap(), "0a12B3c");
        assert_eq!(patch.len(), 5);
        assert_eq!(patch.added(), 5);
        assert_eq!(undo(&patch, b"0a12B3c", b"abc"), b"abc");

        let mut many = Patch::default();
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        many.insert(1, "!");
        for number in &numbers {
            many.insert(0, number.clone());
        }
        assert_eq!(many.apply(b"a").unwrap(), numbers.concat() + "a!");
    }

    #[test]
    fn what_is_framed_is_written_as_if_it_were_put_together() {
        let framed = |before, bytes: &'static str, after| Framed { before, bytes: bytes.into(), after };
        let mut patch = Patch::default();
        patch.splice(1..1, framed(",", "one", ""));
        patch.splice(1..1, framed("", "two", ","));
        patch.splice(2..3, framed("[", "three", "]"));
        assert_eq!(patch.apply(b"abc").unwrap(), "a,onetwo,b[three]");
        assert_eq!(patch.added(), 15);
        assert_eq!(undo(&patch, b"a,onetwo,b[three]", b"abc"), b"abc");
        let text = framed("[", "three", "]");
        assert!(text.is(b"[three]"));
        for other in [&b"[three"[..], b"[three]]", b"three]", b"[threa]", b""] {
            assert!(!text.is(other));
        }
    }

    #[test]
    fn overlaps_are_refused() {
        for edits in [
            &[(0..2, ""), (1..3, "")][..],
            &[(0..2, ""), (1..1, "x")],
            &[(1..2, ""), (1..2, "")],
            &[(0..4, "")],
            &[(4..4, "x")],
            &[(usize::MAX..usize::MAX, "x")],
        ] {
            assert_eq!(patch(edits).apply(b"abc"), Err(Overlap), "{edits:?}");
        }
        let mut backwards = Patch::default();
        backwards.replace(Range { start: 2, end: 1 }, "");
        assert_eq!(backwards.apply(b"abc"), Err(Overlap));
    }

    #[test]
    fn an_empty_patch_changes_nothing() {
        assert!(Patch::default().is_empty());
        assert_eq!(Patch::default().apply(b"abc").unwrap(), "abc");
    }

    #[test]
    fn debug_tells_no_content() {
        assert_eq!(format!("{:?}", patch(&[(0..0, "secret")])), "Patch { edits: 1, added: 6 }");
    }

    proptest! {
        #[test]
        fn without_the_insertions_it_is_the_original(
            body in prop::collection::vec(any::<u8>(), 0..40),
            edits in prop::collection::vec((0..40usize, 0..4usize, "[a-z]{0,5}"), 0..8),
        ) {
            let mut patch = Patch::default();
            let mut model: Vec<(Range<usize>, String)> = Vec::new();
            let mut overlaps = false;
            for (start, len, text) in edits {
                let range = start..start + len;
                overlaps |= range.end > body.len();
                overlaps |= model.iter().any(|(other, _)| {
                    range.start.max(other.start) < range.end.min(other.end)
                        || (range.is_empty() && other.start < start && start < other.end)
                        || (other.is_empty() && start < other.start && other.start < range.end)
                });
                patch.replace(range.clone(), text.clone());
                model.push((range, text));
            }
            let patched = patch.apply(&body);
            prop_assert_eq!(patched.is_err(), overlaps);
            if let Ok(patched) = patched {
                prop_assert_eq!(undo(&patch, &patched, &body), &body[..]);
                let mut expected = Vec::new();
                for at in 0..=body.len() {
                    for (_, text) in model.iter().filter(|(range, _)| *range == (at..at)) {
                        expected.extend_from_slice(text.as_bytes());
                    }
                    for (_, text) in
                        model.iter().filter(|(range, _)| range.start == at && !range.is_empty())
                    {
                        expected.extend_from_slice(text.as_bytes());
                    }
                    if at < body.len() && !model.iter().any(|(range, _)| range.contains(&at)) {
                        expected.push(body[at]);
                    }
                }
                prop_assert_eq!(patched, expected);
            }
        }
    }
}
