//! The cursor accepts what `serde_json` accepts, and sees the same in it.

#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use tower_reasoning_replay::wire::json::{Cursor, Invalid, MAX_DEPTH};

fn skip(text: &[u8]) -> Option<Range<usize>> {
    let mut cursor = Cursor::new(text);
    let span = cursor.skip().ok()?;
    cursor.end().ok()?;
    Some(span)
}

fn read(cursor: &mut Cursor<'_>) -> Result<Value, Invalid> {
    Ok(match cursor.peek() {
        Some(b'{') => {
            let mut members = serde_json::Map::new();
            cursor.object::<Invalid>(|cursor, key| {
                let value = read(cursor)?;
                let decoded = key.decode();
                if let Ok(name) = std::str::from_utf8(&decoded) {
                    assert!(key.is(name));
                }
                let name = String::from_utf8_lossy(&decoded).into_owned();
                members.insert(name, value);
                Ok(())
            })?;
            members.into()
        }
        Some(b'[') => {
            let mut elements = Vec::new();
            cursor.array::<Invalid>(|cursor| {
                elements.push(read(cursor)?);
                Ok(())
            })?;
            elements.into()
        }
        Some(b'"') => {
            let (text, _) = cursor.string()?;
            let mut streamed = Vec::new();
            text.decoded(&mut |piece| streamed.extend_from_slice(piece));
            assert_eq!(streamed, &*text.decode());
            String::from_utf8_lossy(&streamed).into()
        }
        _ => {
            let span = cursor.skip()?;
            serde_json::from_slice(&cursor.bytes()[span]).unwrap_or_default()
        }
    })
}

/// How deeply the brackets of valid JSON are nested.
fn depth(text: &str) -> usize {
    let (mut open, mut most, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                open += 1;
                most = most.max(open);
            }
            b'}' | b']' if !quoted => open -= 1,
            _ => {}
        }
    }
    most
}

fuzz_target!(|bytes: &[u8]| {
    let skipped = skip(bytes);
    let mut cursor = Cursor::new(bytes);
    let value = read(&mut cursor).and_then(|value| cursor.end().map(|()| value));
    assert_eq!(skipped.is_some(), value.is_ok());

    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let raw = serde_json::from_str::<&RawValue>(text).ok();
    let span = raw.filter(|raw| depth(raw.get()) <= MAX_DEPTH).map(|raw| {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        start..start + raw.get().len()
    });
    assert_eq!(skipped, span);
    if let (Ok(expected), Ok(value)) = (serde_json::from_str::<Value>(text), value) {
        assert_eq!(value, expected);
    }
});
