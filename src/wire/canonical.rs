//! One form for equal JSON values.
//!
//! Clients read a value, keep it as their own objects and write it again: keys change places,
//! `1.0` becomes `1`, `é` becomes `\u00e9`. [`canonical`] turns all of these into the same bytes,
//! and values that differ into different bytes, so that hashes of the bytes can stand for the
//! values.
//!
//! The bytes are meant for hashing and comparing, not for reading: every value begins with a tag
//! and tells where it ends. Numbers are compared exactly, with as many digits as they have.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

pub use super::json::Invalid;
use super::json::{Cursor, Str};

/// How deeply schemas may be nested for their defaults to be read.
const MAX_SCHEMA_DEPTH: usize = 32;

/// How many bytes are collected before they are handed on.
const BATCH: usize = 4 * 1024;

/// Hands the canonical form of one JSON value to `sink`, piece by piece.
///
/// # Errors
///
/// [`Invalid`] if `value` is not one valid JSON value, if it is nested too deeply, if an object has
/// a key twice, or if the exponent of a number is beyond 64 bits. `sink` may have seen a part then.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::wire::canonical::canonical;
///
/// let form = |value: &str| {
///     let mut bytes = Vec::new();
///     canonical(value.as_bytes(), &mut |piece| bytes.extend_from_slice(piece)).map(|()| bytes)
/// };
/// assert_eq!(form(r#"{"a": 10e-1, "b": "é"}"#)?, form(r#"{"b":"\u00e9","a":1}"#)?);
/// assert_ne!(form("9007199254740993")?, form("9007199254740992")?);
/// assert!(form(r#"{"a":1,"a":1}"#).is_err());
/// # Ok::<(), tower_reasoning_replay::wire::json::Invalid>(())
/// ```
pub fn canonical(value: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), Invalid> {
    canonical_with(value, None, sink)
}

/// Like [`canonical`], but leaves out the members of objects whose value equals the default that
/// is declared for them, at every level.
///
/// # Errors
///
/// As [`canonical`].
pub fn canonical_with(value: &[u8], defaults: Option<&Defaults>, sink: &mut dyn FnMut(&[u8])) -> Result<(), Invalid> {
    let mut writer = Writer::new(value, sink)?;
    let mut node = 0;
    let mut cursor = Cursor::new(value);
    writer.value(&mut cursor, &mut node, defaults.map(|defaults| &defaults.0))?;
    writer.flush();
    Ok(())
}

/// The defaults that a JSON schema declares for the properties of objects.
pub struct Defaults(Schema);

impl Defaults {
    /// Reads the defaults from a JSON schema or OpenAPI schema object: the `default` of
    /// `properties`, at every level, through `items` too.
    ///
    /// Returns `None` if it declares no default, or cannot be read. A schema more than 32 levels
    /// down declares nothing.
    #[must_use]
    pub fn from_schema(schema: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(schema);
        let schema = Schema::read(&mut cursor, 0).ok()?;
        cursor.end().ok()?;
        schema.declares().then_some(Self(schema))
    }
}

impl fmt::Debug for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defaults").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Schema {
    /// The properties that declare something, by their decoded names.
    properties: BTreeMap<Box<[u8]>, Property>,
    items: Option<Box<Schema>>,
}

struct Property {
    /// The canonical form, itself without what `schema` declares.
    default: Option<Box<[u8]>>,
    schema: Schema,
}

impl Schema {
    fn declares(&self) -> bool {
        !self.properties.is_empty() || self.items.is_some()
    }

    fn read(cursor: &mut Cursor<'_>, depth: usize) -> Result<Self, Invalid> {
        Ok(Property::read(cursor, depth)?.schema)
    }
}

impl Property {
    fn read(cursor: &mut Cursor<'_>, depth: usize) -> Result<Self, Invalid> {
        let mut schema = Schema::default();
        let mut default = None;
        if cursor.peek() != Some(b'{') || depth > MAX_SCHEMA_DEPTH {
            cursor.skip()?;
            return Ok(Self { default: None, schema });
        }
        cursor.object::<Invalid>(|cursor, key| {
            if key.is("default") {
                default = Some(cursor.skip()?);
            } else if key.is("properties") && cursor.peek() == Some(b'{') {
                cursor.object::<Invalid>(|cursor, name| {
                    let property = Self::read(cursor, depth + 1)?;
                    if property.default.is_some() || property.schema.declares() {
                        schema.properties.insert(name.decode().into(), property);
                    }
                    Ok(())
                })?;
            } else if key.is("items") {
                let items = Schema::read(cursor, depth + 1)?;
                schema.items = items.declares().then(|| Box::new(items));
            }
            Ok(())
        })?;
        let default = default.and_then(|span: Range<usize>| {
            let mut form = Vec::new();
            let mut sink = |piece: &[u8]| form.extend_from_slice(piece);
            let value = cursor.bytes().get(span)?;
            let mut writer = Writer::new(value, &mut sink).ok()?;
            let mut node = 0;
            writer.value(&mut Cursor::new(value), &mut node, Some(&schema)).ok()?;
            writer.flush();
            Some(form.into())
        });
        Ok(Self { default, schema })
    }
}

/// An object, or a member of one. Nodes stand in the order of the text; arrays and plain values
/// have none, for they are read in their order anyway.
enum Node<'a> {
    Object {
        /// The index of the first node after those inside.
        next: u32,
        /// The position behind the closing bracket.
        end: u32,
    },
    Member {
        key: Str<'a>,
        /// The index of the first node after those inside the value.
        next: u32,
        /// The position of the value.
        value: u32,
    },
}

/// Writes canonical forms. What is read was validated when the nodes were planned.
struct Writer<'a, 's> {
    bytes: &'a [u8],
    nodes: Vec<Node<'a>>,
    /// The members of the objects that are open, those of each in their canonical order.
    members: Vec<u32>,
    out: Vec<u8>,
    /// How many members are open that may yet be left out; nothing leaves `out` meanwhile.
    undecided: usize,
    sink: &'s mut dyn FnMut(&[u8]),
}

impl<'a, 's> Writer<'a, 's> {
    fn new(bytes: &'a [u8], sink: &'s mut dyn FnMut(&[u8])) -> Result<Self, Invalid> {
        // Positions are kept in 32 bits.
        u32::try_from(bytes.len()).map_err(|_| Invalid)?;
        // Room for the arguments of a usual call.
        let mut nodes = Vec::with_capacity(16);
        let mut cursor = Cursor::new(bytes);
        plan(&mut cursor, &mut nodes)?;
        cursor.end()?;
        Ok(Self {
            bytes,
            nodes,
            members: Vec::with_capacity(16),
            out: Vec::with_capacity(bytes.len().min(BATCH) + 64),
            undecided: 0,
            sink,
        })
    }

    /// Writes the value at the cursor, whose first node, if it has any, is `node`.
    fn value(&mut self, cursor: &mut Cursor<'a>, node: &mut usize, schema: Option<&Schema>) -> Result<(), Invalid> {
        match cursor.peek().ok_or(Invalid)? {
            b'{' => {
                let &Node::Object { next, end } = self.nodes.get(*node).ok_or(Invalid)? else {
                    return Err(Invalid);
                };
                self.object(*node + 1, next as usize, schema)?;
                cursor.jump(end as usize);
                *node = next as usize;
            }
            b'[' => {
                let items = schema.and_then(|schema| schema.items.as_deref());
                self.put(b"[");
                cursor.array(|cursor| self.value(cursor, node, items))?;
                self.put(b"]");
            }
            b'"' => {
                let (text, _) = cursor.string()?;
                self.text(text);
            }
            b't' => self.word(cursor, b"t")?,
            b'f' => self.word(cursor, b"f")?,
            b'n' => self.word(cursor, b"n")?,
            _ => {
                let span = cursor.skip()?;
                self.number(cursor.bytes().get(span).ok_or(Invalid)?)?;
            }
        }
        Ok(())
    }

    fn object(&mut self, first: usize, end: usize, schema: Option<&Schema>) -> Result<(), Invalid> {
        let base = self.members.len();
        let mut index = first;
        while index < end {
            let (_, next, _) = member(&self.nodes, index as u32).ok_or(Invalid)?;
            self.members.push(index as u32);
            index = next as usize;
        }
        let nodes = &self.nodes;
        let order = |a: &u32, b: &u32| match (member(nodes, *a), member(nodes, *b)) {
            (Some((a, ..)), Some((b, ..))) => decoded_order(a, b),
            _ => Ordering::Equal,
        };
        let members = &mut self.members[base..];
        members.sort_unstable_by(order);
        if members.windows(2).any(|pair| order(&pair[0], &pair[1]).is_eq()) {
            return Err(Invalid);
        }
        let count = members.len();
        self.put(b"{");
        for place in base..base + count {
            let index = self.members[place];
            let (key, _, value) = member(&self.nodes, index).ok_or(Invalid)?;
            let property = schema.and_then(|schema| schema.properties.get(&*key.decode()));
            let default = property.and_then(|property| property.default.as_deref());
            let before = self.out.len();
            self.undecided += usize::from(default.is_some());
            self.text(key);
            let start = self.out.len();
            let mut cursor = Cursor::at(self.bytes, value as usize);
            let mut node = index as usize + 1;
            self.value(&mut cursor, &mut node, property.map(|property| &property.schema))?;
            if let Some(default) = default {
                self.undecided -= 1;
                if self.out[start..] == *default {
                    self.out.truncate(before);
                }
            }
        }
        self.members.truncate(base);
        self.put(b"}");
        Ok(())
    }

    fn word(&mut self, cursor: &mut Cursor<'a>, tag: &[u8]) -> Result<(), Invalid> {
        cursor.skip()?;
        self.put(tag);
        Ok(())
    }

    fn text(&mut self, text: Str<'_>) {
        const TAG: usize = 1;
        const HEAD: usize = TAG + size_of::<u64>();
        let most = text.raw().len();
        if text.is_escaped() && most <= BATCH {
            // The length is known once the text is decoded, and filled in then.
            self.make_room(HEAD + most);
            let start = self.out.len();
            self.out.extend_from_slice(&[b's'; HEAD]);
            text.decoded(&mut |piece| self.out.extend_from_slice(piece));
            let len = (self.out.len() - start - HEAD) as u64;
            self.out[start + TAG..start + HEAD].copy_from_slice(&len.to_le_bytes());
            return;
        }
        let mut len = most;
        if text.is_escaped() {
            len = 0;
            text.decoded(&mut |piece| len += piece.len());
        }
        self.put(b"s");
        self.put(&(len as u64).to_le_bytes());
        text.decoded(&mut |piece| self.put(piece));
    }

    /// A number is its digits without zeros at either end, times a power of ten.
    fn number(&mut self, text: &[u8]) -> Result<(), Invalid> {
        let (sign, text) = match text.strip_prefix(b"-") {
            Some(text) => (b"-", text),
            None => (b"+", text),
        };
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(e) => (&text[..e], &text[e + 1..]),
            None => (text, &b""[..]),
        };
        let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
            Some(point) => (&mantissa[..point], &mantissa[point + 1..]),
            None => (mantissa, &b""[..]),
        };
        let lower = trim_end_zeros(fraction);
        let mut scale = -(lower.len() as i64);
        let mut upper = whole;
        if lower.is_empty() {
            upper = trim_end_zeros(whole);
            scale = (whole.len() - upper.len()) as i64;
        }
        upper = trim_start_zeros(upper);
        let lower = if upper.is_empty() { trim_start_zeros(lower) } else { lower };
        if upper.is_empty() && lower.is_empty() {
            self.put(b"0");
            return Ok(());
        }
        let scale = exponent_value(exponent)?.checked_add(scale).ok_or(Invalid)?;
        self.put(sign);
        self.put(&scale.to_le_bytes());
        self.put(&((upper.len() + lower.len()) as u64).to_le_bytes());
        self.put(upper);
        self.put(lower);
        Ok(())
    }

    fn put(&mut self, piece: &[u8]) {
        self.make_room(piece.len());
        if self.undecided == 0 && piece.len() > BATCH {
            (self.sink)(piece);
        } else {
            self.out.extend_from_slice(piece);
        }
    }

    fn make_room(&mut self, len: usize) {
        if self.undecided == 0 && self.out.len() + len > BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            (self.sink)(&self.out);
            self.out.clear();
        }
    }
}

fn plan<'a>(cursor: &mut Cursor<'a>, nodes: &mut Vec<Node<'a>>) -> Result<(), Invalid> {
    match cursor.peek() {
        Some(b'{') => {
            let object = nodes.len();
            nodes.push(Node::Object { next: 0, end: 0 });
            let span = cursor.object::<Invalid>(|cursor, key| {
                let index = nodes.len();
                let value = cursor.position() as u32;
                nodes.push(Node::Member { key, next: 0, value });
                plan(cursor, nodes)?;
                let after = nodes.len() as u32;
                if let Some(Node::Member { next, .. }) = nodes.get_mut(index) {
                    *next = after;
                }
                Ok(())
            })?;
            let after = nodes.len() as u32;
            nodes[object] = Node::Object { next: after, end: span.end as u32 };
        }
        Some(b'[') => {
            cursor.array(|cursor| plan(cursor, nodes))?;
        }
        _ => {
            cursor.skip()?;
        }
    }
    Ok(())
}

fn member<'a>(nodes: &[Node<'a>], index: u32) -> Option<(Str<'a>, u32, u32)> {
    match nodes.get(index as usize)? {
        &Node::Member { key, next, value } => Some((key, next, value)),
        Node::Object { .. } => None,
    }
}

fn decoded_order(a: Str<'_>, b: Str<'_>) -> Ordering {
    match (a.decode(), b.decode()) {
        (Cow::Borrowed(a), Cow::Borrowed(b)) => a.cmp(b),
        (a, b) => a.cmp(&b),
    }
}

fn exponent_value(text: &[u8]) -> Result<i64, Invalid> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let mut value: i64 = 0;
    for digit in digits {
        value = value.checked_mul(10).and_then(|value| value.checked_add(i64::from(digit - b'0'))).ok_or(Invalid)?;
    }
    Ok(if negative { -value } else { value })
}

fn trim_start_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

fn trim_end_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
    &digits[..digits.len() - zeros]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn form(value: &str) -> Result<Vec<u8>, Invalid> {
        let mut form = Vec::new();
        canonical(value.as_bytes(), &mut |piece| form.extend_from_slice(piece)).map(|()| form)
    }

    fn form_with(schema: &str, value: &str) -> Result<Vec<u8>, Invalid> {
        let defaults = Defaults::from_schema(schema.as_bytes());
        let mut form = Vec::new();
        canonical_with(value.as_bytes(), defaults.as_ref(), &mut |piece| {
            form.extend_from_slice(piece);
        })
        .map(|()| form)
    }

    #[track_caller]
    fn equal(a: &str, b: &str) {
        assert_eq!(form(a).unwrap(), form(b).unwrap(), "{a} {b}");
    }

    #[track_caller]
    fn different(a: &str, b: &str) {
        assert_ne!(form(a).unwrap(), form(b).unwrap(), "{a} {b}");
    }

    #[test]
    fn numbers_are_equal_by_exact_value() {
        for one in ["1.0", "1e0", "10e-1", "0.1e1", "0.01E+2", "1.000", "100e-02"] {
            equal("1", one);
        }
        for zero in ["-0", "0.0", "-0.000e5", "0e999999999999999999999"] {
            equal("0", zero);
        }
        equal("1e400", "10e399");
        equal("12300", "1.23e4");
        equal("0.00120", "12e-4");
        different("1", "-1");
        different("9007199254740993", "9007199254740992");
        different("0.1", "0.10000000000000001");
        different("1e400", "1e401");
        different("1", "10");
        different("101", "11");
        different("1", "\"1\"");
    }

    #[test]
    fn an_exponent_has_bounds() {
        assert!(form("1e9223372036854775807").is_ok());
        assert!(form("1e-9223372036854775807").is_ok());
        assert!(form("1e9223372036854775808").is_err());
        assert!(form("10e9223372036854775807").is_err());
        assert!(form("0.01e-9223372036854775807").is_err());
    }

    #[test]
    fn strings_are_equal_by_what_they_stand_for() {
        equal(r#""é\n/""#, r#""\u00e9\u000A\/""#);
        equal(r#""😀""#, r#""\ud83d\ude00""#);
        different(r#""\ud83d""#, r#""\ufffd""#);
        different(r#"["a","b"]"#, r#"["asb"]"#);
        different(r#"["a",true]"#, r#"["at"]"#);
    }

    #[test]
    fn members_are_equal_in_any_order() {
        equal(r#"{"a":1,"b":{"c":[],"d":{}}}"#, r#" { "b" : {"d":{},"\u0063":[ ]} , "a":1.0 } "#);
        different(r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#);
        different(r#"[[1],2]"#, r#"[[1,2]]"#);
        different(r#"[[],[]]"#, r#"[[[]]]"#);
        different("{}", "[]");
        different(r#"{"a":null}"#, "{}");
        assert!(form(r#"{"a":1,"b":2,"\u0061":1}"#).is_err());
        assert!(form(r#"[{"a":{"b":1,"b":1}}]"#).is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(form(&nested(128)).is_ok());
        assert!(form(&nested(129)).is_err());
        let nested = |depth| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert!(form(&nested(128)).is_ok());
        assert!(form(&nested(129)).is_err());
    }

    #[test]
    fn large_values_come_whole() {
        let text = "x".repeat(3 * BATCH);
        let value = format!("[\"{text}\",\"{}\",[{}1]]", &text[..100], "1,".repeat(BATCH));
        let tight = form(&value).unwrap();
        assert_eq!(tight, form(&value.replace(',', " ,\n ")).unwrap());
        assert!(tight.len() > 4 * BATCH);
        for len in [BATCH - 9, BATCH, BATCH + 1, 3 * BATCH] {
            let plain = "/".repeat(len);
            equal(&format!("[1,\"{plain}\"]"), &format!("[1,\"\\{plain}\"]"));
        }
    }

    #[test]
    fn declared_defaults_make_no_difference() {
        let schema = r#"{"type":"object","properties":{
            "depth":{"type":"integer","default":2},
            "name":{"type":"string"},
            "where":{"default":{"line":1},"properties":{"line":{"default":1.0},"column":{"default":0}}},
            "list":{"items":{"properties":{"on":{"default":false}}}},
            "nothing":{"default":null}}}"#;
        let equal = |a: &str, b: &str| form_with(schema, a).unwrap() == form_with(schema, b).unwrap();
        assert!(equal(r#"{"depth":2.0,"name":"x","nothing":null}"#, r#"{"name":"x"}"#));
        assert!(!equal(r#"{"depth":3}"#, "{}"));
        assert!(!equal(r#"{"name":null}"#, "{}"));
        assert!(equal(r#"{"where":{"line":1,"column":0}}"#, r#"{"where":{}}"#));
        assert!(equal(r#"{"where":{"column":0}}"#, "{}"), "the default itself has defaults");
        assert!(!equal(r#"{"where":{"line":2}}"#, "{}"));
        assert!(equal(r#"{"list":[{"on":false},{"on":true}]}"#, r#"{"list":[{},{"on":true}]}"#));
        assert!(!equal(r#"{"list":[{}]}"#, r#"{"list":[]}"#));
        assert!(!equal(r#"[{"depth":2}]"#, "[{}]"), "the array itself has no properties");
    }

    #[test]
    fn without_defaults_there_is_nothing_to_keep() {
        for schema in [
            "{}",
            "true",
            "not json",
            r#"{"default":1}"#,
            r#"{"properties":{"a":{"type":"string"},"default":{"type":"string"}}}"#,
            r#"{"properties":{"a":{"default":1}}"#,
        ] {
            assert!(Defaults::from_schema(schema.as_bytes()).is_none(), "{schema}");
        }
        let deep = |depth| {
            let level = r#"{"properties":{"a":"#;
            level.repeat(depth) + r#"{"default":1}"# + &"}}".repeat(depth)
        };
        assert!(Defaults::from_schema(deep(MAX_SCHEMA_DEPTH).as_bytes()).is_some());
        assert!(Defaults::from_schema(deep(MAX_SCHEMA_DEPTH + 1).as_bytes()).is_none());
        assert!(Defaults::from_schema(deep(10_000).as_bytes()).is_none());
    }

    /// A value in a form in which equality is that of the text.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Model {
        Word(&'static str),
        /// A number times ten to the minus sixth.
        Number(i64),
        Text(String),
        Array(Vec<Model>),
        Object(BTreeMap<String, Model>),
    }

    fn model() -> impl Strategy<Value = Model> {
        let leaf = prop_oneof![
            prop::sample::select(&["null", "true", "false"][..]).prop_map(Model::Word),
            prop_oneof![-12..12i64, any::<i64>()].prop_flat_map(|digits| {
                prop::sample::select(&[1, 10, 100_000, 1_000_000, 10_000_000][..])
                    .prop_map(move |scale| Model::Number(digits.checked_mul(scale).unwrap_or(digits)))
            }),
            "[sa-c\"\\\\\n/é😀]{0,2}".prop_map(Model::Text),
        ];
        leaf.prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Model::Array),
                prop::collection::btree_map("[ab\"é]{0,2}", inner, 0..4).prop_map(Model::Object),
            ]
        })
    }

    /// Writes a value in one of many ways, as the bits of `style` will have it.
    fn write(model: &Model, style: &mut impl FnMut(usize) -> usize, out: &mut String) {
        let gap = |style: &mut dyn FnMut(usize) -> usize| ["", "", " ", "\n\t", "\r"][style(5)];
        *out += gap(style);
        match model {
            Model::Word(word) => *out += word,
            Model::Number(millionths) => {
                let digits = millionths.unsigned_abs().to_string();
                if *millionths < 0 {
                    out.push('-');
                }
                // As digits with a point somewhere, and an exponent that makes up for it.
                let digits = digits + &"0".repeat(style(3));
                let digits = format!("{digits:0>width$}", width = digits.len() + style(2) * 3);
                let added = digits.len() as i64;
                let point = style(digits.len()) + 1;
                let (whole, fraction) = digits.split_at(point);
                let whole = whole.trim_start_matches('0');
                *out += if whole.is_empty() { "0" } else { whole };
                if !fraction.is_empty() {
                    *out = format!("{out}.{fraction}");
                }
                let zeros = trailing(&digits, *millionths);
                let exponent = -6 - zeros + (added - point as i64);
                match (exponent, style(2)) {
                    (0, 0) => {}
                    (0.., 1) => *out = format!("{out}E+{exponent}"),
                    _ => *out = format!("{out}e{exponent}"),
                }
            }
            Model::Text(text) => write_text(text, style, out),
            Model::Array(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write(element, style, out);
                }
                out.push(']');
            }
            Model::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for index in 1..members.len() {
                    members.swap(index, style(index + 1));
                }
                out.push('{');
                for (index, (key, value)) in members.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_text(key, style, out);
                    *out += gap(style);
                    out.push(':');
                    write(value, style, out);
                }
                out.push('}');
            }
        }
        *out += gap(style);
    }

    /// How many zeros were put behind the digits of the number.
    fn trailing(digits: &str, millionths: i64) -> i64 {
        let plain = millionths.unsigned_abs().to_string();
        let written = digits.trim_start_matches('0');
        written.len().saturating_sub(plain.len()) as i64
    }

    fn write_text(text: &str, style: &mut impl FnMut(usize) -> usize, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            if style(3) == 0 {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    *out += &format!("\\u{unit:04x}");
                }
            } else {
                let plain = serde_json::to_string(&character).unwrap();
                *out += &plain[1..plain.len() - 1];
            }
        }
        out.push('"');
    }

    fn written(model: &Model, seed: u64) -> String {
        let mut state = seed | 1;
        let mut out = String::new();
        write(
            model,
            &mut |bound| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize % bound
            },
            &mut out,
        );
        out
    }

    proptest! {
        #[test]
        fn equal_values_have_equal_forms(model in model(), seeds: [u64; 2]) {
            let [a, b] = seeds.map(|seed| written(&model, seed));
            prop_assert_eq!(form(&a).unwrap(), form(&b).unwrap(), "{} {}", a, b);
        }

        #[test]
        fn different_values_have_different_forms(
            models in prop::collection::vec(model(), 2..12),
            seed: u64,
        ) {
            let forms: Vec<_> =
                models.iter().map(|model| form(&written(model, seed)).unwrap()).collect();
            for (a, b) in models.iter().zip(&forms) {
                for (c, d) in models.iter().zip(&forms) {
                    prop_assert_eq!(a == c, b == d, "{:?} {:?}", a, c);
                }
            }
        }

        #[test]
        fn any_bytes_are_harmless(bytes: Vec<u8>, text in "[\\[\\]{}\":,0-9eE.+a\\\\u-]{0,30}") {
            for value in [&bytes[..], text.as_bytes()] {
                let mut len = 0;
                let result = canonical(value, &mut |piece| len += piece.len());
                prop_assert!(result.is_ok() <= (len > 0));
                let valid = serde_json::from_slice::<Box<RawValue>>(value).is_ok();
                prop_assert!(result.is_err() || valid || std::str::from_utf8(value).is_err());
                let defaults = Defaults::from_schema(value);
                let _ = canonical_with(value, defaults.as_ref(), &mut |_| {});
            }
        }
    }
}
