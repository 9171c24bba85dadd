//! A patched body without the edits is the original, and edits come in their order.

#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use tower_reasoning_replay::wire::patch::Patch;

fuzz_target!(|input: (Vec<(u8, u8, Vec<u8>)>, &[u8])| {
    let (edits, body) = input;
    let mut patch = Patch::default();
    let mut ranges: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
    let mut overlaps = false;
    for (start, end, bytes) in edits {
        let range = Range { start: usize::from(start), end: usize::from(end) };
        overlaps |= range.start > range.end || range.end > body.len();
        for (other, _) in &ranges {
            overlaps |= if range.is_empty() {
                other.start < range.start && range.start < other.end
            } else if other.is_empty() {
                range.start < other.start && other.start < range.end
            } else {
                range.start < other.end && other.start < range.end
            };
        }
        patch.replace(range.clone(), bytes.clone());
        ranges.push((range, bytes));
    }

    let patched = patch.apply(body);
    assert_eq!(patched.is_err(), overlaps);
    let Ok(patched) = patched else {
        return;
    };
    ranges.sort_by_key(|(range, _)| (range.start, range.end > range.start));
    let places = patch.undo_positions().expect("nothing overlaps");
    assert_eq!(places.len(), ranges.len());
    let mut original = Vec::new();
    let mut copied = 0;
    for (place, (range, bytes)) in places.into_iter().zip(ranges) {
        assert_eq!(place.original, range);
        assert_eq!(patched[place.patched.clone()], bytes);
        original.extend_from_slice(&patched[copied..place.patched.start]);
        original.extend_from_slice(&body[place.original]);
        copied = place.patched.end;
    }
    original.extend_from_slice(&patched[copied..]);
    assert_eq!(original, body);
});
