//! `reasoning_details` that arrive in fragments.
//!
//! <https://openrouter.ai/docs/use-cases/reasoning-tokens>

use crate::{
    dialect::Unreadable,
    wire::json::{Cursor, Str},
};

/// A list that is being put together. Its entries stand in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Details(Vec<Entry>);

/// One entry, with all members that came, known or not.
#[derive(Debug)]
struct Entry(Vec<(Vec<u8>, Value)>);

#[derive(Debug)]
enum Value {
    /// The escaped contents of a string that may go on.
    Text(Vec<u8>),
    Raw(Vec<u8>),
}

/// A fragment: the escaped name and the raw value of each member.
type Fragment<'a> = Vec<(Str<'a>, &'a [u8])>;

impl Details {
    /// Takes in the fragments of one event; tells how many bytes they added.
    pub(super) fn add(&mut self, list: &[u8]) -> Result<usize, Unreadable> {
        let mut added = 0;
        // The entries of one list are apart from each other.
        let known = self.0.len();
        let mut cursor = Cursor::new(list);
        cursor.array(|cursor| {
            if cursor.peek() != Some(b'{') {
                return Err(Unreadable);
            }
            let mut fragment = Fragment::new();
            cursor.object(|cursor, key| {
                let span = cursor.skip()?;
                if fragment.iter().any(|(held, _)| held.decode() == key.decode()) {
                    return Err(Unreadable);
                }
                fragment.push((key, &cursor.bytes()[span]));
                Ok::<_, Unreadable>(())
            })?;
            added += match self.position(&fragment, known).and_then(|at| self.0.get_mut(at)) {
                Some(entry) => entry.merge(&fragment),
                None => self.begin(&fragment),
            };
            Ok(())
        })?;
        Ok(added)
    }

    /// The entry that a fragment continues, among those that were there before its event.
    fn position(&self, fragment: &Fragment<'_>, known: usize) -> Option<usize> {
        if value(fragment, "index").is_some() {
            return self.0[..known].iter().rposition(|entry| entry.goes_on_with(fragment));
        }
        // Without an index only text goes on, right behind itself.
        let is_last = known == self.0.len() && value(fragment, "data").is_none();
        self.0.iter().rposition(|entry| entry.goes_on_with(fragment)).filter(|at| is_last && at + 1 == known)
    }

    fn begin(&mut self, fragment: &Fragment<'_>) -> usize {
        let mut entry = Entry(Vec::with_capacity(fragment.len()));
        let added = entry.merge(fragment);
        self.0.push(entry);
        added
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The list as it stands.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, entry) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            entry.write(out);
        }
        out.push(b']');
    }
}

/// The value of a member, unless it is null.
fn value<'a>(fragment: &Fragment<'a>, name: &str) -> Option<&'a [u8]> {
    let found = fragment.iter().find(|(key, _)| key.is(name)).map(|(_, value)| *value);
    found.filter(|value| *value != b"null")
}

fn is_empty(raw: &[u8]) -> bool {
    matches!(raw, b"null" | b"\"\"")
}

impl Entry {
    fn raw(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name.as_bytes())?;
        match value {
            Value::Raw(raw) if raw != b"null" => Some(raw),
            _ => None,
        }
    }

    /// Whether a fragment continues this entry: the same index, and nothing that tells them apart. Entries of
    /// different types may share an index.
    fn goes_on_with(&self, fragment: &Fragment<'_>) -> bool {
        let same = |name: &str| match (self.raw(name), value(fragment, name)) {
            (Some(one), Some(other)) => one == other || is_empty(one) || is_empty(other),
            _ => true,
        };
        self.raw("index") == value(fragment, "index") && same("type") && same("id")
    }

    /// Takes in a fragment; tells how many bytes it added.
    fn merge(&mut self, fragment: &Fragment<'_>) -> usize {
        let mut added = 0;
        for (key, raw) in fragment {
            let streams = matches!(&*key.decode(), b"text" | b"summary" | b"data");
            let text = super::reasoning::text_of(raw).filter(|_| streams);
            let held = self.0.iter_mut().find(|(held, _)| held == key.raw()).map(|(_, value)| value);
            match (held, text) {
                (Some(Value::Text(held)), Some(text)) => {
                    added += text.raw().len();
                    held.extend_from_slice(text.raw());
                }
                (Some(Value::Text(_)), None) => {}
                (Some(held @ Value::Raw(_)), Some(text)) => {
                    added += raw.len();
                    *held = Value::Text(text.raw().to_vec());
                }
                // The first one counts, but for what was empty, and signatures, which come last.
                (Some(Value::Raw(held)), None) => {
                    let later = matches!(&*key.decode(), b"signature" | b"id" | b"format");
                    if !is_empty(raw) && (is_empty(held) || later) {
                        added += raw.len();
                        *held = raw.to_vec();
                    }
                }
                (None, text) => {
                    added += key.raw().len() + raw.len();
                    let value = text.map_or_else(|| Value::Raw(raw.to_vec()), |text| Value::Text(text.raw().to_vec()));
                    self.0.push((key.raw().to_vec(), value));
                }
            }
        }
        added
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(key);
            out.extend_from_slice(b"\":");
            match value {
                Value::Raw(raw) => out.extend_from_slice(raw),
                Value::Text(text) => {
                    out.push(b'"');
                    out.extend_from_slice(text);
                    out.push(b'"');
                }
            }
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(events: &[&str]) -> String {
        let mut details = Details::default();
        for event in events {
            details.add(event.as_bytes()).unwrap();
        }
        let mut out = Vec::new();
        details.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fragments_of_one_index_are_one_entry() {
        let list = merged(&[
            r#"[{"type":"reasoning.text","text":"","signature":"","format":null,"index":0}]"#,
            r#"[{"type":"reasoning.text","text":"a\n","format":"f","index":0,"x":1}]"#,
            r#"[{"type":"reasoning.text","text":"b","index":0,"x":2}]"#,
            r#"[{"type":"reasoning.text","signature":"sig","index":0}]"#,
        ]);
        assert_eq!(list, r#"[{"type":"reasoning.text","text":"a\nb","signature":"sig","format":"f","index":0,"x":1}]"#);
    }

    #[test]
    fn entries_of_other_types_and_ids_stay_apart() {
        let summary = r#"{"type":"reasoning.summary","summary":"s","index":0}"#;
        let one = r#"{"type":"reasoning.encrypted","data":"d","id":"a","index":0}"#;
        let two = r#"{"type":"reasoning.encrypted","data":"e","id":"b","index":0}"#;
        let list = format!("[{summary},{one},{two}]");
        assert_eq!(merged(&[&format!("[{summary}]"), &format!("[{one}]"), &format!("[{two}]")]), list);
        assert_eq!(merged(&[&format!("[{summary},{one},{two}]")]), list);
        let text = merged(&[
            r#"[{"type":"reasoning.text","text":"a","provider":"p"}]"#,
            r#"[{"type":"reasoning.text","text":"b","provider":"p"}]"#,
            r#"[{"type":"reasoning.encrypted","data":"d"}]"#,
            r#"[{"type":"reasoning.encrypted","data":"e"}]"#,
        ]);
        assert_eq!(
            text,
            r#"[{"type":"reasoning.text","text":"ab","provider":"p"},{"type":"reasoning.encrypted","data":"d"},{"type":"reasoning.encrypted","data":"e"}]"#
        );
    }
}
