//! The fields of a message that hold its reasoning, under all the names that providers give them.

use crate::{
    dialect::{Unreadable, gemini::placeholder},
    wire::json::{Cursor, Str},
};

/// What may stand in for reasoning that is not known. Some providers take an empty one for none.
pub(super) const PLACEHOLDER: &str = "The reasoning of this step is not available.";

/// Longer strings stand for something.
const MAX_BLANK: usize = 256;

/// A member of a message of the model that is reasoning, or state of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `reasoning_content`, clear text:
    /// <https://api-docs.deepseek.com/guides/thinking_mode>.
    Content,
    /// `reasoning`, clear text: <https://openrouter.ai/docs/use-cases/reasoning-tokens>.
    Reasoning,
    /// `reasoning_text`, clear text, and beside it `reasoning_opaque`.
    Text,
    Opaque,
    /// `reasoning_details`, a list: <https://openrouter.ai/docs/use-cases/reasoning-tokens>.
    Details,
    /// `thought_signature`, and an `extra_content` that has one:
    /// <https://ai.google.dev/gemini-api/docs/thought-signatures>.
    Signature,
    Extra,
}

impl Field {
    /// All of them. Those that name a turn best come first.
    pub(super) const ALL: [Self; 7] =
        [Self::Opaque, Self::Details, Self::Extra, Self::Signature, Self::Content, Self::Reasoning, Self::Text];

    /// The fields that show the reasoning.
    const VISIBLE: [Self; 3] = [Self::Content, Self::Reasoning, Self::Text];

    pub(super) fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"reasoning_content" => Self::Content,
            b"reasoning" => Self::Reasoning,
            b"reasoning_text" => Self::Text,
            b"reasoning_opaque" => Self::Opaque,
            b"reasoning_details" => Self::Details,
            b"thought_signature" => Self::Signature,
            b"extra_content" => Self::Extra,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Content => "reasoning_content",
            Self::Reasoning => "reasoning",
            Self::Text => "reasoning_text",
            Self::Opaque => "reasoning_opaque",
            Self::Details => "reasoning_details",
            Self::Signature => "thought_signature",
            Self::Extra => "extra_content",
        }
    }

    pub(super) fn is_text(self) -> bool {
        Self::VISIBLE.contains(&self)
    }

    /// The field in which the opaque state of what this one shows may stand.
    pub(super) fn beside(self) -> Option<Self> {
        match self {
            Self::Reasoning | Self::Content => Some(Self::Details),
            Self::Text => Some(Self::Opaque),
            _ => None,
        }
    }

    /// Whether a value leaves its place to one that says something.
    pub(super) fn is_vacant(self, value: &[u8]) -> bool {
        let is_empty = || weigh_text(value, &|_| false) == Weight::Blank;
        self.weigh(value) == Weight::Blank
            || is_empty()
            || (self == Self::Extra && matches!(extra(value), Extra::Blank))
    }

    /// What the raw value of this field is worth.
    pub(super) fn weigh(self, value: &[u8]) -> Weight {
        match self {
            Self::Extra => match extra(value) {
                Extra::Signed(_) => Weight::Real,
                Extra::Blank if has_signature(value) => Weight::Blank,
                Extra::Blank | Extra::Other => Weight::Nothing,
            },
            Self::Details => details(value),
            Self::Signature | Self::Opaque => weigh_text(value, &placeholder::is_placeholder),
            Self::Content | Self::Reasoning | Self::Text => weigh_text(value, &is_placeholder),
        }
    }
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Something.
    Real,
    /// It is there, and empty.
    Blank,
    /// It is no reasoning.
    Nothing,
}

/// Whether this text is what we let stand in for reasoning.
pub(super) fn is_placeholder(text: &[u8]) -> bool {
    text.trim_ascii() == PLACEHOLDER.as_bytes()
}

fn weigh_text(value: &[u8], is_placeholder: &dyn Fn(&[u8]) -> bool) -> Weight {
    if value.len() > MAX_BLANK {
        return Weight::Real;
    }
    match value.first() {
        Some(b'"') => {
            let text = text_of(value).map(|text| text.decode());
            let blank = text.is_some_and(|text| text.trim_ascii().is_empty() || is_placeholder(&text));
            if blank { Weight::Blank } else { Weight::Real }
        }
        Some(b'n') => Weight::Blank,
        Some(b'[' | b'{') if is_hollow(value) => Weight::Blank,
        _ => Weight::Real,
    }
}

/// An array or object without anything in it.
fn is_hollow(value: &[u8]) -> bool {
    let inner = value.get(1..value.len().saturating_sub(1)).unwrap_or_default();
    inner.trim_ascii().is_empty()
}

/// The string that this raw JSON value is.
pub(super) fn text_of(value: &[u8]) -> Option<Str<'_>> {
    Cursor::new(value).string().ok().map(|(text, _)| text)
}

/// A list is blank if none of its entries says anything.
fn details(value: &[u8]) -> Weight {
    let mut cursor = Cursor::new(value);
    if cursor.peek() != Some(b'[') {
        return weigh_text(value, &|_| false);
    }
    let mut weight = Weight::Blank;
    let _ = cursor.array::<Unreadable>(|cursor| {
        if weight == Weight::Real || cursor.peek() != Some(b'{') {
            cursor.skip()?;
            return Ok(());
        }
        cursor.object::<Unreadable>(|cursor, key| {
            let says = matches!(&*key.decode(), b"text" | b"summary" | b"data" | b"signature");
            let span = cursor.skip()?;
            if says && weigh_text(&cursor.bytes()[span], &is_placeholder) == Weight::Real {
                weight = Weight::Real;
            }
            Ok(())
        })?;
        Ok(())
    });
    weight
}

/// The opaque values of a list: signatures and encrypted data.
pub(super) fn opaque_details<'a>(value: &'a [u8], each: &mut dyn FnMut(Str<'a>)) {
    let mut cursor = Cursor::new(value);
    let _ = cursor.array::<Unreadable>(|cursor| {
        if cursor.peek() != Some(b'{') {
            cursor.skip()?;
            return Ok(());
        }
        cursor.object::<Unreadable>(|cursor, key| {
            if matches!(&*key.decode(), b"data" | b"signature") && cursor.peek() == Some(b'"') {
                let (text, _) = cursor.string()?;
                if !text.is_empty() {
                    each(text);
                }
                return Ok(());
            }
            cursor.skip()?;
            Ok(())
        })?;
        Ok(())
    });
}

/// What an `extra_content` holds.
#[derive(Debug)]
pub(super) enum Extra<'a> {
    /// A signature, under whichever vendor's name.
    Signed(Str<'a>),
    /// Nothing, or a value that stands for a signature.
    Blank,
    /// Something else, which is not ours to touch.
    Other,
}

pub(super) fn extra(value: &[u8]) -> Extra<'_> {
    let mut cursor = Cursor::new(value);
    match cursor.peek() {
        Some(b'n') => return Extra::Blank,
        Some(b'{') => {}
        _ => return Extra::Other,
    }
    let (mut signature, mut other) = (None, false);
    let read = cursor.object::<Unreadable>(|cursor, _| {
        if cursor.peek() != Some(b'{') {
            let span = cursor.skip()?;
            other |= &cursor.bytes()[span] != b"null";
            return Ok(());
        }
        cursor.object::<Unreadable>(|cursor, key| {
            if key.is("thought_signature") && cursor.peek() == Some(b'"') {
                let (text, _) = cursor.string()?;
                if !placeholder::is_placeholder(&text.decode()) {
                    signature = Some(text);
                }
                return Ok(());
            }
            let is_signature = key.is("thought_signature");
            let span = cursor.skip()?;
            other |= !(is_signature && &cursor.bytes()[span] == b"null");
            Ok(())
        })?;
        Ok(())
    });
    match (read, signature) {
        (Ok(_), Some(signature)) => Extra::Signed(signature),
        (Ok(_), None) if !other => Extra::Blank,
        _ => Extra::Other,
    }
}

/// Whether an `extra_content` names a signature at all: others are no reasoning.
fn has_signature(value: &[u8]) -> bool {
    memchr::memmem::find(value, b"thought_signature").is_some()
}

/// The field that shows the reasoning, of those whose raw values `value` knows, and its value.
pub(super) fn shown<'a>(value: impl Fn(Field) -> Option<&'a [u8]>) -> Option<(Field, &'a [u8])> {
    let mut shown = Field::VISIBLE.into_iter().filter_map(|field| Some((field, value(field)?)));
    shown.find(|(field, value)| field.weigh(value) == Weight::Real)
}

/// The text of the field that shows the reasoning.
pub(super) fn visible<'a>(value: impl Fn(Field) -> Option<&'a [u8]>) -> Str<'a> {
    shown(value).and_then(|(_, value)| text_of(value)).unwrap_or_else(Str::empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_counts_as_nothing() {
        for (field, value) in [
            (Field::Content, "null"),
            (Field::Content, "\"\""),
            (Field::Reasoning, "\" \\n\""),
            (Field::Content, "\"The reasoning of this step is not available.\""),
            (Field::Details, "[]"),
            (Field::Details, "[ ]"),
            (Field::Details, "null"),
            (Field::Details, r#"[{"type":"reasoning.text","text":"","signature":null,"index":0}]"#),
            (Field::Signature, "\"skip_thought_signature_validator\""),
            (Field::Extra, r#"{"google":{"thought_signature":"skip_thought_signature_validator"}}"#),
        ] {
            assert_eq!(field.weigh(value.as_bytes()), Weight::Blank, "{value}");
        }
        for (field, value) in [
            (Field::Content, "\"so\""),
            (Field::Details, r#"[{"type":"reasoning.encrypted","data":"x"}]"#),
            (Field::Extra, r#"{"vertex":{"thought":true,"thought_signature":"abc"}}"#),
        ] {
            assert_eq!(field.weigh(value.as_bytes()), Weight::Real, "{value}");
        }
        for value in ["null", "{}", r#"{"google":{"thought":true}}"#, "7"] {
            assert_eq!(Field::Extra.weigh(value.as_bytes()), Weight::Nothing, "{value}");
        }
    }
}
