//! Elements are those of `serde_json`, however the bytes are split.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tower_reasoning_replay::wire::json::Cursor;
use tower_reasoning_replay::wire::stream::{Element, JsonSplitter};

#[derive(Debug, PartialEq)]
enum Seen {
    Value(Vec<u8>),
    Oversized,
    End,
}

fn split<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut splitter = JsonSplitter::new(limit);
    let mut elements = Vec::new();
    let mut see = |element: Element<'_>| {
        elements.push(match element {
            Element::Value(value) => Seen::Value(value.to_vec()),
            Element::End => Seen::End,
            _ => Seen::Oversized,
        });
    };
    for chunk in chunks {
        splitter.feed(chunk, &mut see);
        assert!(splitter.buffered() <= limit);
    }
    splitter.finish(&mut see);
    elements
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (limit, size, body) = input;
    let size = usize::from(size).max(1);
    for limit in [usize::MAX, usize::from(limit)] {
        let whole = split(limit, [body]);
        assert_eq!(split(limit, body.chunks(size)), whole);
        assert_eq!(split(limit, body.chunks(1)), whole);
    }

    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let of = |raw: &RawValue| Seen::Value(raw.get().as_bytes().to_vec());
    let expected: Vec<_> = if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) {
        elements.into_iter().map(of).collect()
    } else if let Ok(value) = serde_json::from_str::<&RawValue>(text) {
        vec![of(value)]
    } else {
        return;
    };
    // Deeper values are not for the splitter, and an array may be one level deeper.
    if Cursor::new(text.as_bytes()).skip().is_ok() {
        let expected: Vec<_> = expected.into_iter().chain([Seen::End]).collect();
        assert_eq!(split(usize::MAX, [body]), expected);
    }
});
