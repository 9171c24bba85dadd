//! Events are those of the standard, however the bytes are split.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_reasoning_replay::wire::sse::{Frame, SseSplitter};

#[derive(Debug, PartialEq)]
enum Seen {
    Event(Vec<u8>, Vec<u8>),
    Stray(Vec<u8>),
    Oversized,
}

fn split<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut splitter = SseSplitter::new(limit);
    let mut frames = Vec::new();
    let mut see = |frame: Frame<'_>| {
        frames.push(match frame {
            Frame::Event { name, data } => Seen::Event(name.to_vec(), data.to_vec()),
            Frame::Stray(line) => Seen::Stray(line.to_vec()),
            _ => Seen::Oversized,
        });
    };
    for chunk in chunks {
        splitter.feed(chunk, &mut see);
        assert!(splitter.buffered() <= limit.saturating_add("data: ".len()));
    }
    splitter.finish(&mut see);
    frames
}

fn lines(stream: &[u8]) -> Vec<&[u8]> {
    let mut rest = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines = Vec::new();
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push(&rest[..end]);
        let width = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + width..];
    }
    lines.push(rest);
    lines.push(b"");
    lines
}

fn oracle(stream: &[u8]) -> Vec<Seen> {
    let mut frames = Vec::new();
    let (mut name, mut data) = (&b""[..], None::<Vec<u8>>);
    for line in lines(stream) {
        let colon = line.iter().position(|&byte| byte == b':');
        let field = &line[..colon.unwrap_or(line.len())];
        let value = colon.map_or(&b""[..], |colon| &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if line.is_empty() {
            frames.extend(data.take().map(|data| Seen::Event(name.to_vec(), data)));
            name = b"";
        } else if let b'{' | b'[' = line[0] {
            frames.extend(data.take().map(|data| Seen::Event(name.to_vec(), data)));
            name = b"";
            frames.push(Seen::Stray(line.to_vec()));
        } else if field == b"event" {
            name = value;
        } else if field == b"data" {
            match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            }
        }
    }
    frames
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (limit, size, stream) = input;
    let size = usize::from(size).max(1);
    assert_eq!(split(usize::MAX, [stream]), oracle(stream));
    for limit in [usize::MAX, usize::from(limit)] {
        let whole = split(limit, [stream]);
        assert_eq!(split(limit, stream.chunks(size)), whole);
        assert_eq!(split(limit, stream.chunks(1)), whole);
    }
});
