//! What stands before a block, so that two conversations can be compared.

use serde_json::{Map, Value, json};

/// A conversation without its thoughts: hashes of what each element means.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefix {
    pub(super) system: [u8; 32],
    pub(super) tools: [u8; 32],
    pub(super) elements: Vec<Element>,
}

/// One block that is no thought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    hash: [u8; 32],
    /// Message and block.
    pub(super) at: (usize, usize),
}

impl Element {
    pub(super) fn new(assistant: bool, block: &Value, at: (usize, usize)) -> Self {
        let mut block = canonical(block);
        if let Some(fields) = block.as_object_mut() {
            // What a client writes for a field without a value, and the short form of a result.
            fields.retain(|_, value| !value.is_null());
            if let Some(content) = fields.get_mut("content").filter(|content| content.is_string()) {
                *content = json!([{"type": "text", "text": content.take()}]);
            }
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(assistant)]).update(block.to_string().as_bytes());
        Self { hash: *hasher.finalize().as_bytes(), at }
    }
}

/// How one prefix differs from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    System,
    /// Content is missing, from here on.
    Missing((usize, usize)),
    Other,
}

impl Prefix {
    pub(super) fn new(system: Option<&Value>, tools: Option<&Value>) -> Self {
        let system = match system {
            Some(Value::String(text)) => json!([{"type": "text", "text": text}]),
            Some(other) => other.clone(),
            None => Value::Array(Vec::new()),
        };
        let tools = tools.cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        let hash = |value: &Value| *blake3::hash(canonical(value).to_string().as_bytes()).as_bytes();
        Self { system: hash(&system), tools: hash(&tools), elements: Vec::new() }
    }

    /// What distinguishes `other` up to its `other_reach` from this one up to `reach`.
    pub(super) fn difference(&self, reach: usize, other: &Self, other_reach: usize) -> Option<Difference> {
        let own = self.elements.get(..reach).unwrap_or_default();
        let theirs = other.elements.get(..other_reach).unwrap_or_default();
        if self.system != other.system {
            return Some(Difference::System);
        }
        if self.tools != other.tools {
            return Some(Difference::Other);
        }
        let same = own.iter().zip(theirs).take_while(|(one, other)| one.hash == other.hash).count();
        if own.len() == same && theirs.len() == same {
            return None;
        }
        // Whether nothing but omission leads from one to the other.
        let mut left = own.iter();
        let omitted = theirs.iter().all(|element| left.any(|one| one.hash == element.hash));
        Some(match own.get(same) {
            Some(first) if omitted => Difference::Missing(first.at),
            _ => Difference::Other,
        })
    }
}

/// The value without what does not count: the order of keys, the spelling of numbers, breakpoints of the cache.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut keys: Vec<&String> = members.keys().filter(|key| *key != "cache_control").collect();
            keys.sort_unstable();
            let members: Map<String, Value> = keys
                .into_iter()
                .filter_map(|key| members.get(key).map(|member| (key.clone(), canonical(member))))
                .collect();
            members.into()
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => (float as i64).into(),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakpoints_key_order_and_number_spelling_do_not_count() {
        let one = json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, {"b": 1.0, "a": 2}]);
        let other = json!([{"text": "x", "type": "text"}, {"a": 2, "b": 1}]);
        assert_eq!(canonical(&one), canonical(&other));
        assert_eq!(
            Prefix::new(Some(&json!("x")), None).system,
            Prefix::new(Some(&json!([{"type": "text", "text": "x"}])), Some(&json!([]))).system
        );
    }

    #[test]
    fn spellings_of_a_block_do_not_count() {
        let hash = |assistant, block: &Value| Element::new(assistant, block, (0, 0)).hash;
        let text = json!({"type": "text", "text": "x"});
        assert_eq!(hash(true, &text), hash(true, &json!({"type": "text", "text": "x", "citations": null})));
        assert_ne!(hash(true, &text), hash(false, &text));
        let result = |content: Value| json!({"type": "tool_result", "tool_use_id": "x", "content": content});
        assert_eq!(hash(false, &result(json!("x"))), hash(false, &result(json!([text]))));
        assert_ne!(hash(false, &result(json!("x"))), hash(false, &result(json!("y"))));
    }

    #[test]
    fn differences_are_named() {
        let with = |texts: &[&str]| {
            let mut prefix = Prefix::default();
            for (at, text) in texts.iter().enumerate() {
                prefix.elements.push(Element::new(false, &json!(text), (at, 0)));
            }
            prefix
        };
        let whole = with(&["a", "b", "c"]);
        let difference = |texts: &[&str]| whole.difference(3, &with(texts), texts.len());
        assert_eq!(difference(&["a", "b", "c"]), None);
        assert_eq!(difference(&["b", "c"]), Some(Difference::Missing((0, 0))));
        assert_eq!(difference(&["a", "b"]), Some(Difference::Missing((2, 0))));
        assert_eq!(difference(&["a", "x", "c"]), Some(Difference::Other));
        assert_eq!(difference(&["a", "b", "c", "d"]), Some(Difference::Other));
        let other = Prefix::new(Some(&json!("s")), None);
        assert_eq!(whole.difference(0, &other, 0), Some(Difference::System));
    }
}
