//! Reads contents and parts independently of the crate, as the oracle.

use serde_json::Value;

/// A signature by its value: base64 in one alphabet and without padding.
pub(crate) fn normalised(token: &str) -> String {
    token.trim_end_matches('=').replace('-', "+").replace('_', "/")
}

/// A field of a part, in either spelling.
pub(crate) fn field<'a>(part: &'a Value, name: &str) -> Option<&'a Value> {
    let spelt = || part.get(snake(name)).filter(|_| name.contains(|c: char| c.is_ascii_uppercase()));
    part.get(name).or_else(spelt).filter(|value| !value.is_null())
}

pub(crate) fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The signature that a part carries.
pub(crate) fn token(part: &Value) -> Option<String> {
    field(part, "thoughtSignature")?.as_str().filter(|token| !token.is_empty()).map(normalised)
}

pub(crate) fn strip(part: &mut Value) {
    if let Some(part) = part.as_object_mut() {
        part.remove("thoughtSignature");
        part.remove("thought_signature");
    }
}

pub(crate) fn is_thought(part: &Value) -> bool {
    part["thought"] == true
}

/// The text of a part that is text: a part of which nothing is left counts as empty text.
pub(crate) fn text(part: &Value) -> Option<&str> {
    let held = part.as_object()?;
    let bare = held.keys().all(|key| matches!(&**key, "thoughtSignature" | "thought_signature" | "thought"));
    if bare { Some("") } else { part["text"].as_str() }
}

pub(crate) fn contents(body: &Value) -> &[Value] {
    let inner = body.get("request").unwrap_or(body);
    inner["contents"].as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn contents_mut(body: &mut Value) -> Option<&mut Vec<Value>> {
    let inner = if body.get("request").is_some() { &mut body["request"] } else { body };
    inner["contents"].as_array_mut()
}

pub(crate) fn parts(content: &Value) -> &[Value] {
    content["parts"].as_array().map_or(&[], Vec::as_slice)
}

/// JSON values are equal; numbers by their value.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
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

/// A signature that a response issued, and where.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) token: String,
    /// The parts of its candidate.
    parts: Vec<Value>,
    at: usize,
}

/// The signatures of one candidate.
pub(crate) fn issued(parts: &[Value]) -> Vec<Issued> {
    let tokens = parts.iter().enumerate().filter_map(|(at, part)| Some((at, token(part)?)));
    // Shorter values are no state.
    let tokens = tokens.filter(|(_, token)| token.len() >= 16);
    tokens.map(|(at, token)| Issued { token, parts: parts.to_vec(), at }).collect()
}

impl Issued {
    /// Whether the part of `content` at `at` is what was signed.
    pub(crate) fn fits(&self, content: &[Value], at: usize) -> bool {
        let (signed, part) = (&self.parts[self.at], &content[at]);
        match (text(signed), text(part)) {
            (Some(_), Some("")) => self.fits_empty(content, at),
            (Some(""), _) => self.fits_before(part),
            (Some(_), Some(kept)) => {
                is_thought(signed) == is_thought(part) && (self.is_run(kept) || self.is_in_run(content, at))
            }
            _ => same_content(signed, part),
        }
    }

    /// An empty part that was kept: what stands before it has to be what stood before it.
    fn fits_empty(&self, content: &[Value], at: usize) -> bool {
        let visible = |part: &&Value| !is_thought(part) && text(part) != Some("");
        let kept = content[..at].iter().rev().find(visible);
        let stood = self.parts[..self.at].iter().rev().find(visible);
        text(&self.parts[self.at]) == Some("")
            && match (kept, stood) {
                (Some(kept), Some(stood)) => match (text(kept), text(stood)) {
                    (Some(kept), Some(stood)) => kept.ends_with(stood),
                    _ => same_content(stood, kept),
                },
                (kept, _) => kept.is_none(),
            }
    }

    /// A signature that came alone belongs to the nearest text or call before it.
    fn fits_before(&self, part: &Value) -> bool {
        let before = self.parts[..self.at].iter().enumerate().rev();
        let thought = is_thought(&self.parts[self.at]);
        let mut before = before.filter(|(_, part)| is_thought(part) == thought && text(part) != Some(""));
        let Some((at, nearest)) =
            before.find(|(_, part)| text(part).is_some() || field(part, "functionCall").is_some())
        else {
            return false;
        };
        match (text(nearest), text(part)) {
            (Some(_), Some(kept)) => {
                let chunks = self.chunks_around(at);
                let until = chunks.partition_point(|chunk| *chunk <= at);
                let ends = (0..until).any(|from| self.joined(&chunks[from..until]) == kept);
                is_thought(part) == thought && ends
            }
            (None, None) => same_content(nearest, part),
            _ => false,
        }
    }

    /// The text parts that stream in one run with the part at `at`. Clients that drop thoughts join the
    /// text around them.
    fn chunks_around(&self, at: usize) -> Vec<usize> {
        let thought = is_thought(&self.parts[at]);
        let in_run = |at: &usize| text(&self.parts[*at]).is_some() && is_thought(&self.parts[*at]) == thought;
        let passes = |at: &usize| in_run(at) || (!thought && is_thought(&self.parts[*at]));
        let from = (0..at).rev().take_while(passes).last().unwrap_or(at);
        (from..self.parts.len()).take_while(passes).filter(in_run).collect()
    }

    fn joined(&self, chunks: &[usize]) -> String {
        chunks.iter().filter_map(|at| text(&self.parts[*at])).collect()
    }

    /// The text is that of adjacent chunks, the signed one among them.
    fn is_run(&self, kept: &str) -> bool {
        let chunks = self.chunks_around(self.at);
        let own = chunks.iter().position(|at| *at == self.at).unwrap();
        (0..=own).any(|from| (own..chunks.len()).any(|to| self.joined(&chunks[from..=to]) == kept))
    }

    /// The client cut the run in another way.
    fn is_in_run(&self, content: &[Value], at: usize) -> bool {
        let thought = is_thought(&content[at]);
        let in_run = |part: &&Value| text(part).is_some() && is_thought(part) == thought;
        let before: Vec<_> = content[..at].iter().rev().take_while(in_run).filter_map(text).collect();
        let mut run: String = before.into_iter().rev().collect();
        run.extend(content[at..].iter().take_while(in_run).filter_map(text));
        run == self.joined(&self.chunks_around(self.at))
    }
}

/// Parts of any other kind: everything but the signature is equal.
pub(crate) fn same_content(signed: &Value, part: &Value) -> bool {
    if let Some(signed) = field(signed, "functionCall") {
        let Some(part) = field(part, "functionCall") else { return false };
        let empty = serde_json::json!({});
        let args = |call: &Value| call.get("args").filter(|args| !args.is_null()).unwrap_or(&empty).clone();
        // Arguments that came in pieces are compared where they are put together.
        let streamed = field(signed, "partialArgs").is_some() || field(signed, "willContinue").is_some();
        return signed["name"] == part["name"] && (streamed || same(&args(signed), &args(part)));
    }
    const KINDS: [(&str, &[&str]); 6] = [
        ("inlineData", &["data"]),
        ("fileData", &["fileUri"]),
        ("executableCode", &["code"]),
        ("codeExecutionResult", &["output"]),
        ("toolCall", &["args", "toolType"]),
        ("toolResponse", &["response", "toolType"]),
    ];
    let null = Value::Null;
    KINDS.iter().any(|(kind, names)| {
        let (Some(signed), Some(part)) = (field(signed, kind), field(part, kind)) else { return false };
        let equal = |name: &&str| {
            let (signed, part) = (field(signed, name).unwrap_or(&null), field(part, name).unwrap_or(&null));
            match (*name, signed, part) {
                ("data", Value::String(signed), Value::String(part)) => normalised(signed) == normalised(part),
                _ => same(signed, part) || (is_nothing(signed) && is_nothing(part)),
            }
        };
        names.iter().all(equal)
    })
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}
