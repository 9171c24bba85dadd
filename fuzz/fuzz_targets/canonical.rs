//! Two values have equal canonical forms if and only if they are equal.

#![no_main]

use std::collections::BTreeMap;
use std::fmt;

use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use tower_reasoning_replay::wire::canonical::{Defaults, canonical, canonical_with};

#[derive(PartialEq)]
enum Model {
    Word(String),
    /// The sign, the digits without zeros at either end, and where the point stands before them.
    Number(bool, String, i128),
    Text(String),
    Array(Vec<Model>),
    Object(BTreeMap<String, Model>),
}

/// An object that has no key twice.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    if members.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key comes twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

fn number(text: &str) -> Option<Model> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0').to_owned();
    if digits.is_empty() {
        return Some(Model::Number(false, digits, 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let point = i128::from(exponent) + whole.len() as i128 - leading as i128;
    Some(Model::Number(negative, digits, point))
}

fn model(text: &str) -> Option<Model> {
    let text = text.trim_matches([' ', '\n', '\t', '\r']);
    Some(match text.as_bytes().first()? {
        b'{' => {
            let members: Members<'_> = serde_json::from_str(text).ok()?;
            Model::Object(
                members.0.into_iter().map(|(key, value)| Some((key, model(value.get())?))).collect::<Option<_>>()?,
            )
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            Model::Array(elements.into_iter().map(|element| model(element.get())).collect::<Option<_>>()?)
        }
        b'"' => Model::Text(serde_json::from_str(text).ok()?),
        b't' | b'f' | b'n' => {
            let raw: &RawValue = serde_json::from_str(text).ok()?;
            Model::Word(raw.get().to_owned())
        }
        _ => {
            let raw: &RawValue = serde_json::from_str(text).ok()?;
            number(raw.get())?
        }
    })
}

fn form(text: &[u8]) -> Option<Vec<u8>> {
    let mut form = Vec::new();
    canonical(text, &mut |piece| form.extend_from_slice(piece)).ok()?;
    Some(form)
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == b'|');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());

    let defaults = Defaults::from_schema(second);
    let mut without = Vec::new();
    let result = canonical_with(first, defaults.as_ref(), &mut |piece| without.extend_from_slice(piece));
    assert_eq!(result.is_ok(), form(first).is_some());

    let (Ok(a), Ok(b)) = (std::str::from_utf8(first), std::str::from_utf8(second)) else {
        return;
    };
    // Beyond the depth that the canonical form allows, the model would not end soon.
    if bytes.iter().filter(|&&byte| matches!(byte, b'{' | b'[')).count() > 100 {
        return;
    }
    let forms = (form(first), form(second));
    let models = (model(a), model(b));
    for (form, model, text) in [(&forms.0, &models.0, a), (&forms.1, &models.1, b)] {
        if model.is_none() {
            // The model knows no lone surrogates.
            assert!(form.is_none() || text.contains("\\u"));
        }
    }
    if let ((Some(a), Some(b)), (Some(c), Some(d))) = (forms, models) {
        assert_eq!(a == b, c == d);
    }
});
