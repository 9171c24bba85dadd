//! A JSON body, cut into its values as it flows.
//!
//! A body is one value, or an array whose elements come one by one, as a Gemini stream without
//! `alt=sse` sends them.

use std::fmt;

use memchr::memchr2;

use super::{json::MAX_DEPTH, sse::append};

/// How much of the buffer stays allocated between values.
const KEEP: usize = 4 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a [`JsonSplitter`] finds.
#[non_exhaustive]
pub enum Element<'a> {
    /// An element of the array, or the whole value if it is no array.
    Value(&'a [u8]),
    /// A value over the limit. It is skipped to its end, and told once.
    Oversized,
    /// The closing bracket of the array, or the end of the one value.
    End,
}

impl fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.debug_tuple("Value").field(&value.len()).finish(),
            Self::Oversized => f.write_str("Oversized"),
            Self::End => f.write_str("End"),
        }
    }
}

/// Cuts a JSON body into values, however its bytes are split over chunks.
///
/// An object, array or string is handed on with its last byte; a number or word with the byte
/// behind it, for only that tells its end. A value that lies in one chunk is not copied. The time
/// is linear in the bytes.
///
/// Only what is needed to find the end of a value is looked at: a value whose brackets match is
/// handed on, and whoever reads it finds out whether it is valid. After bytes that cannot be a JSON
/// body the splitter stays silent.
///
/// # Limits
///
/// At most the limit's bytes of an unfinished value are kept. Brackets nested deeper than
/// [`MAX_DEPTH`] silence the splitter.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::wire::stream::{Element, JsonSplitter};
///
/// let mut values = Vec::new();
/// let mut splitter = JsonSplitter::new(64 * 1024);
/// for chunk in [&br#"[{"a":1},{"b""#[..], br#":2}"#] {
///     splitter.feed(chunk, &mut |element| {
///         if let Element::Value(value) = element {
///             values.push(value.to_vec());
///         }
///     });
/// }
/// assert_eq!(values, [br#"{"a":1}"#, br#"{"b":2}"#]);
/// ```
pub struct JsonSplitter {
    limit: usize,
    /// Whether the values are elements of an array.
    array: bool,
    state: State,
    /// The value at hand, as far as it came in earlier chunks.
    value: Vec<u8>,
    /// The value at hand was over the limit.
    skipping: bool,
    /// How many brackets of the value are open, and one bit for each, the innermost lowest: set
    /// for an object.
    open: usize,
    objects: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing came but this many bytes of a byte-order mark.
    Start(usize),
    /// Before the body.
    Body,
    /// After the opening bracket of the array.
    First,
    /// After a comma.
    Next,
    /// After an element.
    After,
    /// In a value with brackets, outside its strings.
    Nested,
    /// In a string.
    Text,
    /// In a string, after a backslash.
    Escape,
    /// In a number or a word.
    Plain,
    /// After the body, or after bytes that cannot be one.
    Silent,
}

impl JsonSplitter {
    /// A splitter that keeps at most `limit` bytes of a value.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, array: false, state: State::Start(0), value: Vec::new(), skipping: false, open: 0, objects: 0 }
    }

    /// Reads the next bytes of the body.
    pub fn feed(&mut self, chunk: &[u8], elements: &mut dyn FnMut(Element<'_>)) {
        let mut pos = 0;
        // Where the part of the value at hand begins that lies in this chunk.
        let mut start = 0;
        while let Some(&byte) = chunk.get(pos) {
            match self.state {
                State::Silent => return,
                State::Start(seen) => {
                    if BYTE_ORDER_MARK.get(seen) == Some(&byte) {
                        pos += 1;
                        self.state = State::Start(seen + 1);
                    } else if seen == 0 || seen == BYTE_ORDER_MARK.len() {
                        self.state = State::Body;
                    } else {
                        self.state = State::Silent;
                    }
                }
                State::Body | State::First | State::Next | State::After
                    if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') =>
                {
                    pos += 1;
                }
                State::Body if byte == b'[' => {
                    pos += 1;
                    self.array = true;
                    self.state = State::First;
                }
                State::First | State::After if byte == b']' => {
                    self.state = State::Silent;
                    elements(Element::End);
                }
                State::After => {
                    pos += 1;
                    self.state = if byte == b',' { State::Next } else { State::Silent };
                }
                State::Body | State::First | State::Next => {
                    start = pos;
                    pos += 1;
                    self.state = match byte {
                        b'{' | b'[' => {
                            self.open = 1;
                            self.objects = u128::from(byte == b'{');
                            State::Nested
                        }
                        b'"' => State::Text,
                        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => State::Plain,
                        _ => State::Silent,
                    };
                }
                State::Nested => match byte {
                    b'"' => {
                        pos += 1;
                        self.state = State::Text;
                    }
                    b'{' | b'[' if self.open < MAX_DEPTH => {
                        pos += 1;
                        self.open += 1;
                        self.objects = self.objects << 1 | u128::from(byte == b'{');
                    }
                    b'}' | b']' if (self.objects & 1 == 1) == (byte == b'}') => {
                        pos += 1;
                        self.open -= 1;
                        self.objects >>= 1;
                        if self.open == 0 {
                            self.complete(&chunk[start..pos], elements);
                        }
                    }
                    b'{' | b'[' | b'}' | b']' => self.break_off(&chunk[start..pos], elements),
                    _ => {
                        pos += 1;
                        // Between the strings of a value lie a few bytes only, as a rule.
                        while let Some(byte) = chunk.get(pos)
                            && !matches!(byte, b'"' | b'{' | b'}' | b'[' | b']')
                        {
                            pos += 1;
                        }
                    }
                },
                State::Text => match memchr2(b'"', b'\\', &chunk[pos..]) {
                    Some(len) => {
                        pos += len + 1;
                        if chunk[pos - 1] == b'\\' {
                            self.state = State::Escape;
                        } else if self.open > 0 {
                            self.state = State::Nested;
                        } else {
                            self.complete(&chunk[start..pos], elements);
                        }
                    }
                    None => pos = chunk.len(),
                },
                State::Escape => {
                    pos += 1;
                    self.state = State::Text;
                }
                State::Plain => match byte {
                    b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => pos += 1,
                    b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' => {
                        self.complete(&chunk[start..pos], elements);
                    }
                    _ => self.break_off(&chunk[start..pos], elements),
                },
            }
        }
        if let State::Nested | State::Text | State::Escape | State::Plain = self.state {
            self.hold(&chunk[start..], elements);
        }
    }

    /// Hands on a number or word that only the end of the body ends, and begins anew.
    pub fn finish(&mut self, elements: &mut dyn FnMut(Element<'_>)) {
        if self.state == State::Plain && !self.array {
            self.complete(&[], elements);
        }
        *self = Self::new(self.limit);
    }

    /// How many bytes of the unfinished value are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.value.len()
    }

    /// The value ends with `rest`.
    fn complete(&mut self, rest: &[u8], elements: &mut dyn FnMut(Element<'_>)) {
        if !self.skipping {
            if self.value.is_empty() && rest.len() <= self.limit {
                elements(Element::Value(rest));
            } else {
                self.hold(rest, elements);
                if !self.skipping {
                    elements(Element::Value(&self.value));
                }
            }
        }
        self.clear();
        if self.array {
            self.state = State::After;
        } else {
            self.state = State::Silent;
            elements(Element::End);
        }
    }

    /// The value went on with `rest` until bytes came that cannot be.
    fn break_off(&mut self, rest: &[u8], elements: &mut dyn FnMut(Element<'_>)) {
        self.hold(rest, elements);
        self.clear();
        self.state = State::Silent;
    }

    fn hold(&mut self, part: &[u8], elements: &mut dyn FnMut(Element<'_>)) {
        if self.skipping {
            return;
        }
        if self.value.len().saturating_add(part.len()) > self.limit {
            self.clear();
            self.skipping = true;
            elements(Element::Oversized);
        } else {
            append(&mut self.value, part);
        }
    }

    fn clear(&mut self) {
        self.value.clear();
        self.value.shrink_to(KEEP);
        self.skipping = false;
    }
}

impl fmt::Debug for JsonSplitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonSplitter")
            .field("limit", &self.limit)
            .field("buffered", &self.value.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Value(Vec<u8>),
        Oversized,
        End,
    }

    fn split<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
        let mut splitter = JsonSplitter::new(limit);
        let mut seen = Vec::new();
        let mut see = |element: Element<'_>| {
            seen.push(match element {
                Element::Value(value) => Seen::Value(value.to_vec()),
                Element::Oversized => Seen::Oversized,
                Element::End => Seen::End,
            });
        };
        for chunk in chunks {
            splitter.feed(chunk, &mut see);
            assert!(splitter.buffered() <= limit);
        }
        splitter.finish(&mut see);
        seen
    }

    fn whole(body: &[u8]) -> Vec<Seen> {
        split(1 << 20, [body])
    }

    fn of(text: &str) -> Seen {
        Seen::Value(text.into())
    }

    #[test]
    fn an_array_comes_in_elements() {
        let body = b"\xef\xbb\xbf [{\"a\":\"]}\\\"\"}\n,\r\n[1,[2]] , \"x\",12 ,true,null]\n";
        let parts = [of(r#"{"a":"]}\""}"#), of("[1,[2]]"), of("\"x\""), of("12"), of("true"), of("null"), Seen::End];
        assert_eq!(whole(body), parts);
        assert_eq!(split(99, body.chunks(1)), parts);
        assert_eq!(whole(b"[]"), [Seen::End]);
    }

    #[test]
    fn any_other_value_comes_whole() {
        assert_eq!(whole(b" {\"a\":[1]} "), [of(r#"{"a":[1]}"#), Seen::End]);
        assert_eq!(whole(b"\"[\""), [of("\"[\""), Seen::End]);
        assert_eq!(whole(b"-1.5e3"), [of("-1.5e3"), Seen::End]);
        assert_eq!(whole(b"null\n"), [of("null"), Seen::End]);
    }

    #[test]
    fn an_element_comes_with_its_closing_brace() {
        let mut splitter = JsonSplitter::new(100);
        let mut count = 0;
        splitter.feed(b"[{\"a\":{}", &mut |_| count += 1);
        splitter.feed(b"}", &mut |element| {
            count += 1;
            assert!(matches!(element, Element::Value(b"{\"a\":{}}")));
        });
        assert_eq!(count, 1);
        assert_eq!(splitter.buffered(), 0);
    }

    #[test]
    fn what_is_no_json_body_is_met_with_silence() {
        for body in ["<html>", "", "\u{feff}", "{\"a\":]", "{\"a\":1", "12a?", "}", ",", "\"open"] {
            assert_eq!(whole(body.as_bytes()), [], "{body}");
        }
        assert_eq!(whole(b"[1,]"), [of("1")]);
        assert_eq!(whole(b"[1 2]"), [of("1")]);
        assert_eq!(whole(b"[1, 2"), [of("1")], "the number might have gone on");
        assert_eq!(whole(b"{} {}"), [of("{}"), Seen::End]);
        assert_eq!(whole("[".repeat(200).as_bytes()), []);
    }

    #[test]
    fn a_value_over_the_limit_is_skipped() {
        let body = b"[{\"a\":\"0123456789\"},{\"b\":1}]";
        for size in [1, 2, 5, 100] {
            assert_eq!(split(8, body.chunks(size)), [Seen::Oversized, of("{\"b\":1}"), Seen::End]);
            assert_eq!(split(8, b"{\"a\":12345}".chunks(size)), [Seen::Oversized, Seen::End]);
            assert_eq!(split(4, b"[123456,1]".chunks(size)), [Seen::Oversized, of("1"), Seen::End]);
        }
    }

    #[test]
    fn a_large_value_leaves_no_large_buffer() {
        let mut splitter = JsonSplitter::new(usize::MAX);
        splitter.feed(b"[\"", &mut |_| {});
        for _ in 0..1000 {
            splitter.feed(&[b'x'; 1024], &mut |_| {});
        }
        splitter.feed(b"\"", &mut |_| {});
        assert!(splitter.value.capacity() <= KEEP);
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "null|true|false|-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,2})?",
            "[a-z{}\\[\\],:\u{e9}]{0,6}".prop_map(|text| format!("\"{text}\"")),
            "(\\\\[\"\\\\/n]|\\\\u00[0-9a-f]{2}){0,3}".prop_map(|text| format!("\"{text}\"")),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(" ,"))),
                prop::collection::vec(inner, 0..4).prop_map(|values| {
                    let members: Vec<_> = values.iter().map(|value| format!("\"]\" : {value}")).collect();
                    format!("{{{}}}", members.join(",\n"))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn finds_what_serde_json_finds(body in json(), size in 1..9usize) {
            let expected: Vec<_> = match serde_json::from_str::<Vec<&RawValue>>(&body) {
                Ok(elements) => elements.iter().map(|element| of(element.get())).collect(),
                Err(_) => vec![of(&body)],
            };
            let expected: Vec<_> = expected.into_iter().chain([Seen::End]).collect();
            prop_assert_eq!(whole(body.as_bytes()), &expected[..]);
            prop_assert_eq!(split(1 << 20, body.as_bytes().chunks(size)), expected);
        }

        #[test]
        fn chunks_do_not_matter(
            body in "(\u{feff}|\\[|\\]|\\{|\\}|,|:|\"|\\\\|1|a| |\n|\u{e9}){0,24}",
            size in 1..9usize,
            limit in 1..12usize,
        ) {
            prop_assert_eq!(
                split(limit, body.as_bytes().chunks(size)),
                split(limit, [body.as_bytes()])
            );
        }
    }
}
