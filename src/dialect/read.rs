//! What the readers of all dialects share.

use std::{borrow::Cow, ops::Range};

use super::{History, ToolDefaults, Unreadable};
use crate::{
    scope::{Member, MemberPath},
    wire::{
        canonical::Defaults,
        json::{Cursor, Str},
    },
};

/// Members over this size are no session ids.
pub(super) const MAX_MEMBER: usize = 4 << 10;

/// Decoded text that is UTF-8, as all of a body is but for lone surrogates.
pub(crate) fn text(decoded: Cow<'_, [u8]>) -> Cow<'_, str> {
    match decoded {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

/// How far a body is read for its model alone, in bytes.
const EARLY: usize = 4 << 10;

/// The model, if a member at the root of the body names it before anything long, as most clients do.
pub(crate) fn early_model(body: &[u8]) -> Option<Cow<'_, str>> {
    let mut model = None;
    // It ends with an error, at the model or where the piece does.
    let _ = Cursor::new(&body[..body.len().min(EARLY)]).object::<Unreadable>(|cursor, key| {
        if key.is("model") {
            model = Some(text(cursor.string()?.0.decode()));
            return Err(Unreadable);
        }
        Ok(())
    });
    model
}

/// Room for so many is made where it is not known how many there will be.
const ROOM: usize = 16;

/// No more room is made than for so many times as many as there are, for the rest may be of another kind.
const MOST: usize = 64;

/// Makes room for the next message: at once for all that there will be if the rest of the body is as what was read of it.
pub(super) fn make_room(history: &mut History<'_>, cursor: &Cursor<'_>) {
    let start = history.messages.first().map_or(0, |first| first.span.start);
    let (read, left) = (cursor.position().saturating_sub(start), cursor.bytes().len() - cursor.position());
    room(&mut history.messages, 1, read, left);
    room(&mut history.parts, ROOM / 4, read, left);
}

fn room<T>(list: &mut Vec<T>, needed: usize, read: usize, left: usize) {
    if list.capacity() - list.len() < needed {
        let likely = (list.len() as f64 * left as f64 / read.max(1) as f64) as usize;
        list.reserve_exact((likely + likely / 16).min(MOST * list.len()) + ROOM);
    }
}

/// Notes that a member was seen; the second one makes a body ambiguous.
pub(super) fn once(seen: &mut bool) -> Result<(), Unreadable> {
    if std::mem::replace(seen, true) { Err(Unreadable) } else { Ok(()) }
}

/// Sets what may be set once.
pub(super) fn set<T>(field: &mut Option<T>, value: T) -> Result<(), Unreadable> {
    if field.replace(value).is_some() { Err(Unreadable) } else { Ok(()) }
}

/// Notes a member of the body in which a client may name its session.
pub(super) fn note<'a>(history: &mut History<'a>, path: MemberPath, key: Str<'a>, value: &'a [u8]) {
    if value.len() <= MAX_MEMBER {
        history.members.push(Member { path, key: key.raw(), value });
    }
}

/// The declared defaults of the arguments of each tool, from the raw value of the request's tool list. A tool has a
/// `name` and a schema; some protocols wrap it in `function`, `functionDeclarations` or the `tools` of a namespace.
pub(crate) fn defaults(tools: &[u8]) -> ToolDefaults {
    let mut found = ToolDefaults::new();
    // What cannot be read declares nothing.
    let _ = declarations(&mut Cursor::new(tools), &mut found);
    found
}

fn declarations<'a>(cursor: &mut Cursor<'a>, found: &mut ToolDefaults) -> Result<(), Unreadable> {
    match cursor.peek() {
        Some(b'[') => cursor.array(|cursor| declarations(cursor, found)).map(drop),
        Some(b'{') => declaration(cursor, found),
        _ => cursor.skip().map(drop).map_err(Unreadable::from),
    }
}

fn declaration<'a>(cursor: &mut Cursor<'a>, found: &mut ToolDefaults) -> Result<(), Unreadable> {
    let (mut name, mut schema): (Option<Str<'a>>, Option<Range<usize>>) = (None, None);
    cursor.object(|cursor, key| {
        match &*key.decode() {
            b"name" if cursor.peek() == Some(b'"') => name = Some(cursor.string()?.0),
            b"parameters" | b"parametersJsonSchema" | b"parameters_json_schema" | b"input_schema" => {
                schema = Some(cursor.skip()?);
            }
            b"function" | b"functionDeclarations" | b"function_declarations" | b"tools" => {
                declarations(cursor, found)?;
            }
            _ => {
                cursor.skip()?;
            }
        }
        Ok::<_, Unreadable>(())
    })?;
    let schema = schema.and_then(|span| Defaults::from_schema(&cursor.bytes()[span]));
    if let (Some(name), Some(defaults)) = (name, schema) {
        found.insert(name.decode().into_owned(), defaults);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{EARLY, defaults, early_model};

    #[test]
    fn a_model_that_stands_before_the_history_is_found_at_once() {
        let of = |body: &str| early_model(body.as_bytes()).map(Cow::into_owned);
        assert_eq!(of(r#"{"stream":true,"a":{"model":"n"},"mod\u0065l":"m","messages":["#).as_deref(), Some("m"));
        assert_eq!(of(r#"{"model":7,"messages":[]}"#), None);
        assert_eq!(of(r#"{"messages":[]}"#), None);
        assert_eq!(of(r#"{"model":"m"#), None);
        assert_eq!(of(r#"[{"model":"m"}]"#), None);
        assert_eq!(of(&format!(r#"{{"messages":["{}"],"model":"m"}}"#, "x".repeat(EARLY))), None);
    }

    #[test]
    fn tools_of_every_protocol_declare_defaults() {
        let schema = r#"{"type":"object","properties":{"a":{"default":1}}}"#;
        for tools in [
            format!(r#"[{{"functionDeclarations":[{{"name":"n","parameters":{schema}}}]}}]"#),
            format!(r#"{{"function_declarations":{{"parameters_json_schema":{schema},"name":"n"}}}}"#),
            format!(r#"[7,{{"name":"n","input_schema":{schema}}},{{"type":"web_search"}}]"#),
            format!(r#"[{{"type":"function","function":{{"name":"n","parameters":{schema}}}}}]"#),
            format!(r#"[{{"type":"namespace","name":"m","tools":[{{"name":"n","parameters":{schema}}}]}}]"#),
        ] {
            assert_eq!(defaults(tools.as_bytes()).keys().collect::<Vec<_>>(), [b"n"], "{tools}");
        }
        assert!(defaults(br#"[{"name":"n","parameters":"#).is_empty());
    }
}
