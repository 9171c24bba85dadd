//! Arguments of a call that arrive in pieces.
//!
//! With `streamFunctionCallArguments`, Vertex sends `partialArgs`: a path and a piece of the value
//! that stands there.
//!
//! <https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling>

use bytes::Bytes;

use crate::{
    dialect::Unreadable,
    ledger::TurnPart,
    wire::json::{Cursor, Str},
};

/// More steps in a path, or more elements before one that was never sent, make no sense.
const MAX_DEPTH: usize = 32;
const MAX_GAP: usize = 1_024;

/// A value that is being put together.
#[derive(Debug)]
enum Node {
    Nothing,
    Object(Vec<(Vec<u8>, Node)>),
    Array(Vec<Node>),
    /// The escaped contents of a string.
    Text(Vec<u8>),
    Raw(Vec<u8>),
}

/// The arguments that `pieces`, each the value of a `partialArgs` field, add up to.
pub(super) fn assemble<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut root = Node::Object(Vec::new());
    for piece in pieces {
        let mut cursor = Cursor::new(piece);
        if cursor.peek() != Some(b'[') {
            return None;
        }
        cursor.array(|cursor| add(cursor, &mut root)).ok()?;
    }
    let mut out = Vec::new();
    write(&root, &mut out);
    Some(out)
}

fn add(cursor: &mut Cursor<'_>, root: &mut Node) -> Result<(), Unreadable> {
    if cursor.peek() != Some(b'{') {
        return Err(Unreadable);
    }
    let mut path: Option<Str<'_>> = None;
    let mut text: Option<Str<'_>> = None;
    let mut raw: Option<&[u8]> = None;
    cursor.object(|cursor, key| {
        let key = key.decode();
        match &*key {
            b"jsonPath" | b"json_path" if cursor.peek() == Some(b'"') => path = Some(cursor.string()?.0),
            b"stringValue" | b"string_value" if cursor.peek() == Some(b'"') => text = Some(cursor.string()?.0),
            b"numberValue" | b"number_value" | b"boolValue" | b"bool_value" => {
                let span = cursor.skip()?;
                raw = Some(&cursor.bytes()[span]);
            }
            b"nullValue" | b"null_value" => {
                cursor.skip()?;
                raw = Some(b"null");
            }
            _ => {
                cursor.skip()?;
            }
        }
        Ok::<_, Unreadable>(())
    })?;
    let path = path.ok_or(Unreadable)?.decode();
    let target = locate(root, &path).ok_or(Unreadable)?;
    match (text, raw, &mut *target) {
        (Some(text), None, Node::Text(held)) => held.extend_from_slice(text.raw()),
        (Some(text), None, Node::Nothing) => *target = Node::Text(text.raw().to_vec()),
        (None, Some(raw), Node::Nothing) => *target = Node::Raw(raw.to_vec()),
        // A piece without a value only says that its place is complete.
        (None, None, _) => {}
        _ => return Err(Unreadable),
    }
    Ok(())
}

/// The node at a path such as `$.steps[2].name` or `$['a b']`.
fn locate<'n>(root: &'n mut Node, path: &[u8]) -> Option<&'n mut Node> {
    let mut rest = path.strip_prefix(b"$")?;
    let mut node = root;
    for _ in 0..MAX_DEPTH {
        let Some((first, tail)) = rest.split_first() else { return Some(node) };
        match first {
            b'.' => {
                let end = tail.iter().position(|byte| matches!(byte, b'.' | b'[')).unwrap_or(tail.len());
                node = member(node, &tail[..end])?;
                rest = &tail[end..];
            }
            b'[' => {
                if let Some((quote @ (b'\'' | b'"'), quoted)) = tail.split_first() {
                    let end = quoted.windows(2).position(|pair| pair == [*quote, b']'])?;
                    node = member(node, &quoted[..end])?;
                    rest = &quoted[end + 2..];
                } else {
                    let end = tail.iter().position(|byte| *byte == b']')?;
                    let index = std::str::from_utf8(&tail[..end]).ok()?.parse().ok()?;
                    node = element(node, index)?;
                    rest = &tail[end + 1..];
                }
            }
            _ => return None,
        }
    }
    rest.is_empty().then_some(node)
}

fn member<'n>(node: &'n mut Node, name: &[u8]) -> Option<&'n mut Node> {
    if matches!(node, Node::Nothing) {
        *node = Node::Object(Vec::new());
    }
    let Node::Object(members) = node else { return None };
    // Pieces of one value follow each other, so the search begins at the end.
    let at = match members.iter().rposition(|(held, _)| held == name) {
        Some(at) => at,
        None => {
            members.push((name.to_vec(), Node::Nothing));
            members.len() - 1
        }
    };
    members.get_mut(at).map(|(_, node)| node)
}

fn element(node: &mut Node, index: usize) -> Option<&mut Node> {
    if matches!(node, Node::Nothing) {
        *node = Node::Array(Vec::new());
    }
    let Node::Array(elements) = node else { return None };
    if index > elements.len().saturating_add(MAX_GAP) {
        return None;
    }
    while elements.len() <= index {
        elements.push(Node::Nothing);
    }
    elements.get_mut(index)
}

fn write(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::Nothing => out.extend_from_slice(b"null"),
        Node::Raw(raw) => out.extend_from_slice(raw),
        Node::Text(text) => {
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        }
        Node::Array(elements) => {
            out.push(b'[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(element, out);
            }
            out.push(b']');
        }
        Node::Object(members) => {
            out.push(b'{');
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                let name = String::from_utf8_lossy(name);
                out.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

/// The `partialArgs` values of a part.
pub(super) fn pieces(part: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut cursor = Cursor::new(part);
    // The part was read once already, so this cannot fail half-way.
    let _ = cursor.object::<Unreadable>(|cursor, key| {
        if !(key.is("functionCall") || key.is("function_call")) || cursor.peek() != Some(b'{') {
            return cursor.skip().map(drop).map_err(Unreadable::from);
        }
        cursor.object::<Unreadable>(|cursor, key| {
            let is_piece = key.is("partialArgs") || key.is("partial_args");
            let value = cursor.skip()?;
            if is_piece {
                pieces.push(cursor.bytes()[value].to_vec());
            }
            Ok(())
        })?;
        Ok(())
    });
    pieces
}

/// The whole part of a call whose arguments were put together.
pub(super) fn whole(part: &TurnPart, args: &[u8]) -> Bytes {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let mut out = format!("{{\"functionCall\":{{\"name\":{}", text(part.name.as_deref().unwrap_or_default()));
    if let Some(id) = &part.id {
        out.push_str(",\"id\":");
        out.push_str(&text(id));
    }
    out.push_str(",\"args\":");
    let mut out = out.into_bytes();
    out.extend_from_slice(args);
    out.push(b'}');
    if let Some(state) = &part.state {
        out.extend_from_slice(b",\"thoughtSignature\":");
        out.extend_from_slice(state.raw());
    }
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::assemble;

    #[test]
    fn pieces_of_strings_numbers_and_nested_values_add_up() {
        let pieces: [&[u8]; 3] = [
            br#"[{"jsonPath":"$.city","stringValue":"Flo","willContinue":true}]"#,
            br#"[{"jsonPath":"$.city","stringValue":"rence"},{"jsonPath":"$.days[1].n","numberValue":2}]"#,
            br#"[{"jsonPath":"$['a b']","boolValue":true},{"jsonPath":"$.none","nullValue":"NULL_VALUE"}]"#,
        ];
        let args = assemble(pieces).unwrap();
        let args: serde_json::Value = serde_json::from_slice(&args).unwrap();
        let expected = serde_json::json!({"city": "Florence", "days": [null, {"n": 2}], "a b": true, "none": null});
        assert_eq!(args, expected);
    }

    #[test]
    fn a_path_that_makes_no_sense_assembles_nothing() {
        for piece in [r#"[{"jsonPath":"city"}]"#, r#"[{"jsonPath":"$.a[999999999]","numberValue":1}]"#, "{}", "[1]"] {
            assert_eq!(assemble([piece.as_bytes()]), None, "{piece}");
        }
    }
}
