//! JSON as the provider writes it, and what it demands of the JSON that it reads.

use std::collections::HashSet;

use serde_json::Value;

/// JSON whose object keys keep the order in which they were given.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Object(Vec<(&'static str, Node)>),
    Array(Vec<Node>),
    Value(Value),
}

impl<T: Into<Value>> From<T> for Node {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

/// How JSON is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// One member a line, two spaces deep; otherwise all on one line.
    pub(crate) pretty: bool,
    /// A colon is followed by a space.
    pub(crate) spaced: bool,
    /// Escape what means something in HTML.
    pub(crate) html: bool,
    /// Escape everything that may be escaped.
    pub(crate) heavy: bool,
}

impl Style {
    /// Nothing that need not be.
    pub(crate) const COMPACT: Self = Self { pretty: false, spaced: false, html: false, heavy: false };

    /// As Google's servers write it.
    pub(crate) const GOOGLE: Self = Self { spaced: true, html: true, ..Self::COMPACT };

    pub(crate) fn write(self, node: &Node) -> String {
        let mut out = String::new();
        self.node(node, 0, &mut out);
        out
    }

    fn node(self, node: &Node, depth: usize, out: &mut String) {
        match node {
            Node::Object(members) => {
                let members = members.iter().map(|(key, member)| (*key, member));
                self.list(('{', '}'), members, depth, out, |style, (key, member), out| {
                    style.string(key, out);
                    out.push_str(style.colon());
                    style.node(member, depth + 1, out);
                });
            }
            Node::Array(items) => {
                self.list(('[', ']'), items.iter(), depth, out, |style, item, out| {
                    style.node(item, depth + 1, out);
                });
            }
            Node::Value(value) => self.value(value, depth, out),
        }
    }

    fn value(self, value: &Value, depth: usize, out: &mut String) {
        match value {
            Value::Object(members) => {
                self.list(('{', '}'), members.iter(), depth, out, |style, (key, member), out| {
                    style.string(key, out);
                    out.push_str(style.colon());
                    style.value(member, depth + 1, out);
                });
            }
            Value::Array(items) => {
                self.list(('[', ']'), items.iter(), depth, out, |style, item, out| {
                    style.value(item, depth + 1, out);
                });
            }
            Value::String(text) => self.string(text, out),
            Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        }
    }

    fn list<T>(
        self,
        (open, close): (char, char),
        items: impl Iterator<Item = T>,
        depth: usize,
        out: &mut String,
        write: impl Fn(Self, T, &mut String),
    ) {
        out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                out.push(',');
            }
            empty = false;
            self.line(depth + 1, out);
            write(self, item, out);
        }
        if !empty {
            self.line(depth, out);
        }
        out.push(close);
    }

    fn colon(self) -> &'static str {
        if self.spaced { ": " } else { ":" }
    }

    fn line(self, depth: usize, out: &mut String) {
        if self.pretty {
            out.push('\n');
            for _ in 0..depth {
                out.push_str("  ");
            }
        }
    }

    fn string(self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '/' if self.heavy => out.push_str("\\/"),
                '<' | '>' | '&' | '\'' if self.html || self.heavy => unit(character as u16, out),
                '=' | '+' if self.heavy => unit(character as u16, out),
                character if character.is_control() || (self.heavy && !character.is_ascii()) => {
                    for code in character.encode_utf16(&mut [0; 2]) {
                        unit(*code, out);
                    }
                }
                character => out.push(character),
            }
        }
        out.push('"');
    }
}

fn unit(code: u16, out: &mut String) {
    out.push_str(&format!("\\u{code:04x}"));
}

/// The first object key that `text`, which is valid JSON, gives twice in one object.
pub(crate) fn repeated_key(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut open: Vec<Option<HashSet<String>>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => open.push(Some(HashSet::new())),
            b'[' => open.push(None),
            b'}' | b']' => {
                open.pop();
            }
            b'"' => {
                let start = at;
                at += 1;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes.get(at) == Some(&b'\\') { 2 } else { 1 };
                }
                let is_key = bytes.get(at + 1..).and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace()))
                    == Some(&b':');
                if is_key && let Some(Some(keys)) = open.last_mut() {
                    let key = text
                        .get(start..=at)
                        .and_then(|key| serde_json::from_str::<String>(key).ok())
                        .unwrap_or_default();
                    if let Some(key) = keys.replace(key) {
                        return Some(key);
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether two values mean the same: numbers by value, exactly; the order of keys does not count.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let integer = |number: &serde_json::Number| {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(|| {
                    number
                        .as_f64()
                        .filter(|float| float.fract() == 0.0 && float.abs() < 1e37)
                        .map(|float| float as i128)
                })
            };
            match (integer(one), integer(other)) {
                (Some(one), Some(other)) => one == other,
                (None, None) => one.as_f64() == other.as_f64(),
                _ => false,
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn writes_the_layout_of_the_provider() {
        let node = Node::Object(vec![
            ("b", Node::Array(vec![1.into(), Node::Object(vec![])])),
            ("a", json!({"x": "<天\u{1}>"}).into()),
        ]);
        assert_eq!(Style::COMPACT.write(&node), "{\"b\":[1,{}],\"a\":{\"x\":\"<天\\u0001>\"}}");
        assert_eq!(Style::GOOGLE.write(&node), "{\"b\": [1,{}],\"a\": {\"x\": \"\\u003c天\\u0001\\u003e\"}}");
        let pretty = Style { pretty: true, ..Style::GOOGLE };
        assert_eq!(
            pretty.write(&Node::Object(vec![("a", Node::Array(vec![true.into()]))])),
            "{\n  \"a\": [\n    true\n  ]\n}"
        );
    }

    #[test]
    fn heavy_escapes_mean_the_same_text() {
        let text = "a/b+c=d '天气' \u{1f600} \"\\\n";
        let heavy = Style { heavy: true, ..Style::GOOGLE }.write(&text.into());
        assert!(heavy.is_ascii() && !heavy.contains('+') && !heavy.contains('='));
        assert_eq!(serde_json::from_str::<String>(&heavy).unwrap(), text);
    }

    #[test]
    fn finds_repeated_keys_only_within_one_object() {
        assert_eq!(repeated_key(r#"{"a":{"a":1},"b":[{"a":1},{"a":"\"a\":"}]}"#), None);
        assert_eq!(repeated_key(r#"{"b":[{"a":1, "x":"\\", "\u0061" :2}]}"#), Some("a".to_owned()));
    }

    #[test]
    fn numbers_compare_by_value() {
        assert!(same(&json!({"a": 1, "b": [2.0]}), &json!({"b": [2], "a": 1.0})));
        assert!(!same(&json!(9_007_199_254_740_993_u64), &json!(9_007_199_254_740_992.0)));
        assert!(!same(&json!(1), &json!("1")));
    }
}
