//! The Responses API of OpenAI, and of Azure, xAI, GitHub Copilot, OpenRouter, DeepSeek and others.
//!
//! The state is a `reasoning` item of its own, before the items that it led to. It must come back together with them:
//! <https://platform.openai.com/docs/guides/reasoning#keeping-reasoning-items-in-context>.

mod request;
mod response;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Uri};

use super::{
    Dialect, History, Layout, Message, Note, Operation, Part, PartKind, Payload, Recorder, RecorderLimits, Route, Slot,
    Splice, Spot, ToolDefaults, Unreadable, Whole, elements,
};
use crate::{
    ledger::{Kind, few::Few},
    scope::HashKey,
    wire::{canonical::canonical, json::Cursor},
};

/// `/v1/responses` and what counts or compacts its input.
#[derive(Debug)]
pub(super) struct Responses;

impl Dialect for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn route(&self, method: &Method, uri: &Uri) -> Option<Route> {
        let path = uri.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let operation = match path.rsplit('/').next()? {
            "responses" => Operation::Generate,
            // What is compacted is the history itself, and no turn follows from it.
            "input_tokens" | "compact" if path.rsplit('/').nth(1) == Some("responses") => Operation::Count,
            _ => return None,
        };
        (method == Method::POST).then_some(Route { operation, model: None })
    }

    fn read<'a>(&self, body: &'a [u8], empty: History<'a>) -> Result<History<'a>, Unreadable> {
        request::read(body, empty)
    }

    /// State is bound to the organization, and on Azure to the resource.
    fn binds_account(&self, _model: &str) -> bool {
        true
    }

    fn layout(&self) -> Layout {
        Layout::Items
    }

    fn recorder(
        &self,
        _model: &str,
        key: &HashKey,
        limits: RecorderLimits,
        defaults: Arc<ToolDefaults>,
    ) -> Box<dyn Recorder> {
        Box::new(response::ResponsesRecorder::new(key, limits, defaults))
    }

    /// Only what is encrypted stands in a field of its own.
    fn restore(&self, part: &Part<'_>, state: &Bytes) -> Option<Splice> {
        if state.first() != Some(&b'"') {
            return None;
        }
        match &part.slot {
            Slot::Absent(at) => Some(Splice::insert_behind(*at, ",\"encrypted_content\":", state)),
            Slot::Blank(span) => Some(Splice::replace(span.clone(), state.clone())),
            Slot::Held(_) | Slot::Beside | Slot::Unfit => None,
        }
    }

    fn is_same_call(&self, _body: &[u8], part: &Part<'_>, whole: &[u8]) -> bool {
        let (Some(name), Payload::Encoded(arguments)) = (part.name, &part.payload) else { return false };
        let (mut is_called, mut is_made_with) = (false, false);
        let read = Cursor::new(whole).object::<Unreadable>(|cursor, key| {
            let is_text = cursor.peek() == Some(b'"');
            match &*key.decode() {
                b"name" if is_text => is_called = cursor.string_is(&name)?,
                b"arguments" if is_text => is_made_with = cursor.string_is(arguments)?,
                _ => {
                    cursor.skip()?;
                }
            }
            Ok(())
        });
        read.is_ok() && is_called && is_made_with
    }

    fn same_state(&self, one: &[u8], other: &[u8]) -> bool {
        match (one.first(), other.first()) {
            (Some(b'"'), Some(b'"')) => {
                let (one, other) = (Cursor::new(one).string(), Cursor::new(other).string());
                matches!((one, other), (Ok((one, _)), Ok((other, _))) if one.decode() == other.decode())
            }
            (Some(b'['), Some(b'[')) => {
                let written = |value: &[u8]| {
                    let mut text = Vec::with_capacity(value.len());
                    canonical(value, &mut |bytes| text.extend_from_slice(bytes)).is_ok().then_some(text)
                };
                one == other || written(one).is_some_and(|one| written(other) == Some(one))
            }
            _ => false,
        }
    }

    fn message(&self, parts: &[Whole<'_>]) -> Bytes {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part.raw[..]).collect();
        parts.join(&b","[..]).into()
    }

    /// A reasoning item goes back as it came, but without its id where the item after it has none: the provider
    /// looks for what followed it by their ids.
    fn put_back(&self, body: &[u8], history: &History<'_>, spot: Spot, parts: &[Whole<'_>]) -> Option<Few<Splice>> {
        let mut is_named = is_named(history, spot.message + usize::from(spot.before.is_none()));
        let mut fitted: Few<Bytes> = Few::default();
        for part in parts.iter().rev() {
            if part.kind == Kind::Thought {
                fitted.push(fit(history, part.raw, is_named)?);
            } else {
                is_named = has_id(part.raw)?;
                fitted.push(part.raw.clone());
            }
        }
        let fitted = fitted.iter().rev().zip(parts);
        let parts: Few<Whole<'_>> = fitted.map(|(raw, part)| Whole { kind: part.kind, raw }).collect();
        elements(self.layout(), body, history, spot, &parts)
    }

    fn replace(&self, _body: &[u8], history: &History<'_>, part: usize, whole: &Bytes) -> Option<Splice> {
        let part = history.parts.get(part)?;
        Some(Splice::replace(part.span.clone(), fit(history, whole, is_named(history, part.message + 1))?))
    }
}

/// Whether the first item from this message on that is no reasoning has an id.
fn is_named(history: &History<'_>, message: usize) -> bool {
    let mut messages = history.messages.get(message..).unwrap_or_default().iter();
    let is_thought = |message: &&Message| {
        let parts = &history.parts[message.parts.clone()];
        matches!(parts, [part] if part.kind == PartKind::Thought)
    };
    messages.find(|message| !is_thought(message)).is_some_and(|message| message.note == Note::Named)
}

/// Whether a raw item has an id; an empty one is none.
fn has_id(raw: &[u8]) -> Option<bool> {
    says(raw, "id")
}

/// Whether a raw item carries its state itself.
fn has_state(raw: &[u8]) -> Option<bool> {
    if says(raw, "encrypted_content")? {
        return Some(true);
    }
    // Reasoning that is shown in full is its own state.
    let mut parts = Vec::new();
    request::item(&mut Cursor::new(raw), 0, &mut parts).ok()?;
    Some(parts.iter().any(|part| matches!(part.slot, Slot::Held(_))))
}

/// Whether a raw item has a string of this name that is not empty.
fn says(raw: &[u8], name: &str) -> Option<bool> {
    let mut says = false;
    let item = Cursor::new(raw).object::<Unreadable>(|cursor, key| {
        if key.is(name) && cursor.peek() == Some(b'"') {
            says = !cursor.string()?.0.is_empty();
        }
        Ok(())
    });
    item.is_ok().then_some(says)
}

/// A reasoning item as it may stand before an item that has an id or has none; `None` if it may not.
fn fit(history: &History<'_>, raw: &Bytes, is_named: bool) -> Option<Bytes> {
    if (!is_named || is_stateless(history)) && !has_state(raw)? {
        // It only refers to what is stored, and is found there as what precedes another item.
        return None;
    }
    if is_named || !has_id(raw)? { Some(raw.clone()) } else { without_id(raw) }
}

/// Whether the request says that nothing is to be stored.
fn is_stateless(history: &History<'_>) -> bool {
    history.members.iter().any(|member| member.key == b"store" && member.value == b"false")
}

/// The raw item without its id.
fn without_id(raw: &[u8]) -> Option<Bytes> {
    let mut item = Vec::with_capacity(raw.len());
    item.push(b'{');
    let mut cursor = Cursor::new(raw);
    let members = cursor.object::<Unreadable>(|cursor, key| {
        let span = cursor.skip()?;
        if !key.is("id") {
            request::separate(&mut item, 1);
            item.extend_from_slice(&[b"\"", key.raw(), b"\":", &cursor.bytes()[span]].concat());
        }
        Ok(())
    });
    members.ok()?;
    item.push(b'}');
    Some(item.into())
}

/// Reads `tools[].{name, parameters}`, also those that are grouped in `tools[].tools[]`.
#[cfg(test)]
mod tests;
