//! What of a block is its content, and which of its fields are opaque.

use std::ops::Range;

use crate::{
    dialect::Unreadable,
    wire::json::{Cursor, Str},
};

/// The opaque fields of what the provider's own tools and its compaction leave in a message, by the type of the
/// object that has one.
///
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool>
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool>
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool>
/// <https://platform.claude.com/docs/en/build-with-claude/compaction>
const OPAQUE: [(&str, &str); 5] = [
    ("web_search_result", "encrypted_content"),
    ("web_search_result_location", "encrypted_index"),
    ("encrypted_code_execution_result", "encrypted_stdout"),
    ("advisor_redacted_result", "encrypted_content"),
    ("compaction", "encrypted_content"),
];

fn is_opaque(key: &Str<'_>) -> bool {
    OPAQUE.iter().any(|(_, field)| key.is(field))
}

/// Where the opaque fields of a block are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Opaque {
    pub(super) held: usize,
    pub(super) missing: usize,
}

/// Counts the opaque fields of a value that are there, and those that are not.
pub(super) fn opaque(value: &[u8]) -> Result<Opaque, Unreadable> {
    let mut found = Opaque::default();
    count(&mut Cursor::new(value), &mut found)?;
    Ok(found)
}

fn count(cursor: &mut Cursor<'_>, found: &mut Opaque) -> Result<(), Unreadable> {
    match cursor.peek() {
        Some(b'{') => {
            let (mut kind, mut held) = (None, 0);
            cursor.object(|cursor, key| {
                let is_text = cursor.peek() == Some(b'"');
                if is_text && key.is("type") {
                    kind = Some(cursor.string()?.0);
                } else if is_text && is_opaque(&key) {
                    held += usize::from(!cursor.string()?.0.is_empty());
                } else {
                    count(cursor, found)?;
                }
                Ok::<_, Unreadable>(())
            })?;
            found.held += held;
            let wants = kind.is_some_and(|kind| OPAQUE.iter().any(|(of, _)| kind.is(of)));
            found.missing += usize::from(wants && held == 0);
        }
        Some(b'[') => {
            cursor.array(|cursor| count(cursor, found))?;
        }
        _ => {
            cursor.skip()?;
        }
    }
    Ok(())
}

/// What is left out of an object's members where content is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// What marks the end of a cached prefix.
    CacheMarks,
    /// That, what is opaque, what says nothing, and who called a tool of the provider.
    Content,
    /// As for content, but what is opaque stays.
    State,
}

impl Leave {
    fn skips(self, key: &Str<'_>) -> bool {
        key.is("cache_control")
            || match self {
                Self::CacheMarks => false,
                Self::Content => key.is("caller") || is_opaque(key),
                Self::State => key.is("caller"),
            }
    }
}

/// `null`, or nothing in brackets: clients write out what the provider left out, and the other way round.
fn is_nothing(value: &[u8]) -> bool {
    let within = |open: &[u8], close: &[u8]| value.strip_prefix(open).and_then(|value| value.strip_suffix(close));
    let inner = within(b"{", b"}").or_else(|| within(b"[", b"]"));
    value == b"null" || inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

fn write(cursor: &mut Cursor<'_>, leave: Leave, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    match cursor.peek() {
        Some(b'{') => {
            out.push(b'{');
            let mut first = true;
            cursor.object(|cursor, key| {
                if leave.skips(&key) {
                    return cursor.skip().map(drop).map_err(Unreadable::from);
                }
                let before = out.len();
                if !first {
                    out.push(b',');
                }
                member(key.raw(), out);
                let value = out.len();
                write(cursor, leave, out)?;
                if leave != Leave::CacheMarks && is_nothing(&out[value..]) {
                    out.truncate(before);
                } else {
                    first = false;
                }
                Ok(())
            })?;
            out.push(b'}');
        }
        Some(b'[') => {
            out.push(b'[');
            let mut first = true;
            cursor.array(|cursor| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                write(cursor, leave, out)
            })?;
            out.push(b']');
        }
        _ => {
            let value = cursor.skip()?;
            out.extend_from_slice(&cursor.bytes()[value]);
        }
    }
    Ok(())
}

fn member(key: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(key);
    out.extend_from_slice(b"\":");
}

fn reduced(value: &[u8], leave: Leave) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    write(&mut Cursor::new(value), leave, &mut out).ok()?;
    Some(out)
}

/// A block that only this protocol has, without what is opaque in it and what is no content of it.
pub(super) fn content(block: &[u8]) -> Option<Vec<u8>> {
    reduced(block, Leave::Content)
}

/// As [`content`], but with what is opaque.
pub(super) fn state(block: &[u8]) -> Option<Vec<u8>> {
    reduced(block, Leave::State)
}

/// The tools without the marks of a cached prefix, which are no part of what precedes a thought.
pub(super) fn tools(tools: &[u8]) -> Option<Vec<u8>> {
    reduced(tools, Leave::CacheMarks)
}

/// A call of one of the provider's tools without its id, which is compared on its own.
pub(super) fn call(block: &[u8]) -> Option<Vec<u8>> {
    let mut fields = [("type", None), ("name", None), ("server_name", None), ("input", None)];
    pick(block, &mut fields)?;
    let mut out = vec![b'{'];
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !is_nothing(value)) {
            begin(name, &mut out);
            // What a tool is asked for may have names of any kind.
            out.extend_from_slice(value);
        }
    }
    out.push(b'}');
    Some(out)
}

/// The output of a call. A text alone and a list of that text are the same.
pub(super) fn output(block: &[u8]) -> Option<Vec<u8>> {
    let mut fields = [("content", None), ("is_error", None)];
    pick(block, &mut fields)?;
    let [(_, content), (_, is_error)] = fields;
    let mut out = vec![b'{'];
    if let Some(content) = content.filter(|content| !is_nothing(content)) {
        begin("content", &mut out);
        match lone_text(content) {
            Some(text) => out.extend_from_slice(text),
            None => write(&mut Cursor::new(content), Leave::CacheMarks, &mut out).ok()?,
        }
    }
    if is_error == Some(b"true") {
        begin("is_error", &mut out);
        out.extend_from_slice(b"true");
    }
    out.push(b'}');
    Some(out)
}

fn begin(name: &str, out: &mut Vec<u8>) {
    if out.len() > 1 {
        out.push(b',');
    }
    member(name.as_bytes(), out);
}

/// The raw values of these members of an object.
fn pick<'a>(block: &'a [u8], fields: &mut [(&'static str, Option<&'a [u8]>)]) -> Option<()> {
    let mut cursor = Cursor::new(block);
    let read = cursor.object(|cursor, key| {
        let value = cursor.skip()?;
        if let Some((_, held)) = fields.iter_mut().find(|(name, _)| key.is(name))
            && held.replace(&cursor.bytes()[value]).is_some()
        {
            return Err(Unreadable);
        }
        Ok(())
    });
    read.ok().map(drop)
}

/// The raw text of a list that holds one block of text and nothing else.
fn lone_text(list: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor::new(list);
    let mut block: Option<Range<usize>> = None;
    let mut count = 0;
    let read = cursor.array(|cursor| {
        count += 1;
        block = Some(cursor.skip()?);
        Ok::<_, Unreadable>(())
    });
    read.ok().filter(|_| count == 1)?;
    let mut fields = [("type", None), ("text", None)];
    pick(&list[block?], &mut fields)?;
    let [(_, kind), (_, text)] = fields;
    text.filter(|text| kind == Some(b"\"text\"") && text.first() == Some(&b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Option<Vec<u8>>) -> String {
        String::from_utf8(value.unwrap()).unwrap()
    }

    #[test]
    fn opaque_fields_are_counted_where_they_belong() {
        let counted = |value: &str| {
            let found = opaque(value.as_bytes()).unwrap();
            (found.held, found.missing)
        };
        assert_eq!(
            counted(r#"[{"type":"web_search_result","encrypted_content":"x"},{"type":"web_search_result"}]"#),
            (1, 1)
        );
        assert_eq!(counted(r#"{"type":"web_search_result","encrypted_content":""}"#), (0, 1));
        assert_eq!(counted(r#"{"a":{"encrypted_stdout":null,"type":"encrypted_code_execution_result"}}"#), (0, 1));
        assert_eq!(counted(r#"{"type":"bash_code_execution_result","stdout":"encrypted_content"}"#), (0, 0));
    }

    #[test]
    fn what_is_no_content_is_left_out() {
        let block = br#"{"type":"x","caller":{"type":"direct"},"cache_control":{"type":"ephemeral"},
            "content":[{"encrypted_content":"AAAA","title":"t","page_age":null}]}"#;
        assert_eq!(text(content(block)), r#"{"type":"x","content":[{"title":"t"}]}"#);
        assert_eq!(text(state(block)), r#"{"type":"x","content":[{"encrypted_content":"AAAA","title":"t"}]}"#);
        assert_eq!(text(tools(br#"[{"name":"a","cache_control":null,"x":null}]"#)), r#"[{"name":"a","x":null}]"#);
    }

    #[test]
    fn an_output_is_compared_by_what_it_says() {
        let same = r#"{"content":"seen"}"#;
        for block in [
            r#"{"type":"tool_result","tool_use_id":"a","content":"seen"}"#,
            r#"{"tool_use_id":"b","is_error":false,"content":[{"type":"text","text":"seen","cache_control":{}}]}"#,
        ] {
            assert_eq!(text(output(block.as_bytes())), same);
        }
        assert_eq!(text(output(br#"{"content":[],"is_error":true}"#)), r#"{"is_error":true}"#);
        assert!(output(br#"{"content":"a","content":"b"}"#).is_none());
    }
}
