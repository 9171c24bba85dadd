//! What a request must fulfil.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    config::{Config, InvalidWording, Vendor},
    refusal::Refusal,
    request::{Data, Entry},
    vault::{Given, Held, Place, Said},
};
use crate::testing::provider::json::same;

/// What one request is checked under.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) held: &'a Held,
    pub(super) model: &'a str,
    pub(super) credential: [u8; 32],
    /// Whether items may be referred to by id, and the response will be stored.
    pub(super) stored: bool,
}

/// A request that passed.
pub(super) struct Passed {
    /// The response that it goes on from.
    pub(super) previous: Option<usize>,
    /// The turns of the model that came before, on the server or in the input.
    pub(super) model_turns: usize,
    pub(super) brought: Vec<Place>,
    pub(super) answered: Vec<String>,
}

/// An item of the input, and the issued item that it is, if it is one.
struct Slot<'a> {
    entry: &'a Entry,
    place: Option<Place>,
    /// Whether it came with an id of that item.
    kept_id: bool,
    /// Whether it is reasoning, or refers to it.
    reasoning: bool,
}

impl Slot<'_> {
    fn has_text(&self) -> bool {
        matches!(&self.entry.data, Data::Reasoning { clear: Some(text), .. } if !text.is_empty())
    }
}

/// Checks the input. `genuine` becomes the number of items whose state is valid, as far as they were read.
pub(super) fn check(
    body: &Value,
    entries: &[Entry],
    context: &Context<'_>,
    genuine: &mut usize,
) -> Result<Passed, Refusal> {
    let previous = context.previous(body)?;
    let mut ids: HashSet<&str> = HashSet::new();
    for id in entries.iter().filter_map(|entry| entry.id.as_deref()) {
        if !ids.insert(id) {
            return Err(Refusal::duplicate(id));
        }
    }
    let mut taken: HashSet<Place> = HashSet::new();
    for (response, given) in context.held.chain(previous) {
        taken.extend(&given.brought);
        taken.extend((0..given.items.len()).map(|index| Place { response, index }));
    }
    let mut slots: Vec<Slot<'_>> = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let behind = entries.get(at + 1..).unwrap_or_default();
        let place = context.resolve(entry, at, behind, &taken)?;
        let item = place.and_then(|place| context.held.item(place));
        if let Some(place) = place
            && !taken.insert(place)
        {
            return Err(Refusal::duplicate(item.map_or("", |item| item.id())));
        }
        let has_state = matches!(
            entry.data,
            Data::Compaction { .. }
                | Data::Reasoning { encrypted: Some(_), .. }
                | Data::Reasoning { clear: Some(_), .. }
        );
        *genuine += usize::from(has_state && place.is_some());
        let kept_id = item.is_some_and(|item| entry.id.as_ref().is_some_and(|id| item.ids.contains(id)));
        let reasoning =
            matches!(entry.data, Data::Reasoning { .. }) || item.is_some_and(|item| item.said.is_reasoning());
        slots.push(Slot { entry, place, kept_id, reasoning });
    }
    context.followers(&slots)?;
    context.leaders(&slots)?;
    let answered = outputs(entries, context, previous)?;
    Ok(Passed {
        previous,
        model_turns: context.held.chain(previous).count() + model_turns(&slots),
        brought: slots.iter().filter_map(|slot| slot.place).collect(),
        answered,
    })
}

impl Context<'_> {
    fn given(&self, place: Place) -> Option<&Given> {
        self.held.given(place.response)
    }

    fn is_ours(&self, given: &Given) -> bool {
        !self.config.bind_credentials || given.credential == self.credential
    }

    fn pairing(&self) -> bool {
        self.config.pairing.unwrap_or(self.stored)
    }

    /// The response that the request goes on from.
    fn previous(&self, body: &Value) -> Result<Option<usize>, Refusal> {
        let conversation = body.get("conversation").and_then(conversation_id);
        match (body.get("previous_response_id"), conversation) {
            (None | Some(Value::Null), None) => Ok(None),
            (None | Some(Value::Null), Some(id)) => Ok(self.held.conversation(id)),
            (Some(id), None) => {
                let id = id.as_str().unwrap_or_default();
                let known = self.held.response(id).filter(|response| {
                    self.held.given(*response).is_some_and(|given| given.stored && self.is_ours(given))
                });
                known.map(Some).ok_or_else(|| Refusal {
                    param: Some("previous_response_id".to_owned()),
                    code: Some("previous_response_not_found"),
                    ..Refusal::input(format!("Previous response with id '{id}' not found."))
                })
            }
            (Some(_), Some(_)) => Err(Refusal {
                param: None,
                code: Some("mutually_exclusive_parameters"),
                ..Refusal::input(
                    "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing one of: 'previous_response_id' or 'conversation'.",
                )
            }),
        }
    }

    /// The issued item that `entry` is.
    fn resolve(
        &self,
        entry: &Entry,
        at: usize,
        behind: &[Entry],
        taken: &HashSet<Place>,
    ) -> Result<Option<Place>, Refusal> {
        let by_id = || match entry.id.as_deref().and_then(|id| Some((id, self.held.id(id)?))) {
            Some((_, place)) if self.given(place).is_some_and(|given| self.is_ours(given)) => Ok(Some(place)),
            // Only the sense of this message is known, and that it has no code.
            Some((id, _)) if self.config.vendor == Vendor::Azure => {
                Err(Refusal::input(format!("Item with id '{id}' was created under a different Azure OpenAI resource.")))
            }
            _ => Ok(None),
        };
        let id = entry.id.as_deref().unwrap_or_default();
        match &entry.data {
            Data::Reasoning { encrypted: Some(ciphertext), clear } => {
                let place = self.decrypt(entry, ciphertext, Said::is_reasoning)?;
                let item = self.held.item(place);
                if clear.is_some() && !item.is_some_and(|item| matches!(item.said, Said::Reasoning { clear: Some(_) }))
                {
                    self.unclear(at)?;
                }
                Ok(Some(place))
            }
            Data::Reasoning { encrypted: None, clear: Some(text) } => self.clear(entry, text, at, behind, taken),
            // Where the text is demanded, an item without it stands for nothing.
            Data::Reasoning { encrypted: None, clear: None } if self.config.require_reasoning_text => Ok(None),
            Data::Reasoning { encrypted: None, clear: None } | Data::Reference => {
                let place =
                    by_id()?.filter(|place| self.stored && self.given(*place).is_some_and(|given| given.stored));
                place.map(Some).ok_or_else(|| Refusal::not_found(id))
            }
            Data::Compaction { encrypted } => {
                self.decrypt(entry, encrypted, |said| matches!(said, Said::Compaction)).map(Some)
            }
            Data::Call { call_id, .. } | Data::CustomCall { call_id, .. } => {
                let by_call = self.held.call(call_id);
                let by_call = by_call.filter(|place| self.given(*place).is_some_and(|given| self.is_ours(given)));
                Ok(by_id()?.or(by_call))
            }
            Data::Message { assistant: true, .. } | Data::Native => by_id(),
            Data::Message { assistant: false, .. } | Data::Output { .. } | Data::Other => Ok(None),
        }
    }

    /// The item that a ciphertext was issued in.
    fn decrypt(&self, entry: &Entry, ciphertext: &str, fits: impl Fn(&Said) -> bool) -> Result<Place, Refusal> {
        const BROKEN: &str = "Encrypted content could not be decrypted or parsed.";
        const FOREIGN: &str = "Encrypted content organization_id did not match the target organization.";
        let found = self.held.ciphertext(ciphertext).and_then(|place| {
            let item = self.held.item(place).filter(|item| fits(&item.said))?;
            Some((place, item, self.given(place)?))
        });
        let (place, item, given) = found.ok_or_else(|| self.unverified(entry, ciphertext, BROKEN))?;
        if !self.is_ours(given) {
            return Err(self.unverified(entry, ciphertext, FOREIGN));
        }
        let own_id = entry.id.as_ref().is_none_or(|id| item.ids.contains(id));
        if !own_id || (self.config.bind_models && given.model != self.model) {
            return Err(self.unverified(entry, ciphertext, BROKEN));
        }
        Ok(place)
    }

    fn unverified(&self, entry: &Entry, ciphertext: &str, reason: &str) -> Refusal {
        let compaction = matches!(entry.data, Data::Compaction { .. });
        match (self.config.vendor, self.config.wording) {
            (Vendor::Xai, _) if compaction => Refusal::request(
                "Could not decode the compaction blob. Ensure it is unmodified from the compact response.",
            ),
            (Vendor::Xai, _) => Refusal::request(
                "Could not decrypt the provided encrypted_content. Ensure the value is the unmodified encrypted_content from a previous response.",
            ),
            (_, InvalidWording::Caller) => Refusal::request(
                "Upstream request failed: [invalid_request_error] reasoning `encrypted_content` was not issued to this caller",
            ),
            (vendor, wording) => {
                let which = match &entry.id {
                    Some(id) => format!("for item {id}"),
                    None => abbreviation(ciphertext),
                };
                let mut message = format!("The encrypted content {which} could not be verified.");
                if vendor == Vendor::Azure {
                    return Refusal::request(message);
                }
                if wording == InvalidWording::Reason {
                    message.push_str(" Reason: ");
                    message.push_str(reason);
                }
                Refusal::ciphertext(message)
            }
        }
    }

    /// Refuses reasoning in the clear where the vendor takes none.
    fn unclear(&self, at: usize) -> Result<(), Refusal> {
        match self.config.vendor {
            Vendor::OpenRouter | Vendor::BedrockMantle | Vendor::DeepSeek => Ok(()),
            _ => {
                let field = format!("input[{at}].content");
                let message = format!(
                    "Invalid '{field}': array too long. Expected an array with maximum length 0, but got an array with length 1 instead."
                );
                Err(Refusal { code: Some("array_above_max_length"), ..Refusal::value(field, message) })
            }
        }
    }

    /// The item that was given with this reasoning in the clear: the one with the id, or else one that was given for
    /// what follows.
    fn clear(
        &self,
        entry: &Entry,
        text: &str,
        at: usize,
        behind: &[Entry],
        taken: &HashSet<Place>,
    ) -> Result<Option<Place>, Refusal> {
        let ours = |place: &&Place| self.given(**place).is_some_and(|given| self.is_ours(given));
        let places: Vec<Place> = self.held.text(text).iter().filter(ours).copied().collect();
        if places.is_empty() {
            self.unclear(at)?;
            return Ok(None);
        }
        if let Some(place) = entry.id.as_deref().and_then(|id| self.held.id(id))
            && places.contains(&place)
        {
            return Ok(Some(place));
        }
        let mut led = behind.iter().skip_while(|entry| matches!(entry.data, Data::Reasoning { .. }));
        let next = led.clone().next();
        let call = led.find_map(|entry| match entry.data {
            Data::Reasoning { .. } => Some(None),
            _ => entry.data.call_id().map(|call_id| self.held.call(call_id)),
        });
        let same_response = |place: &&Place| call.flatten().is_some_and(|call| call.response == place.response);
        let fits = |place: &&Place| {
            let group = self.held.group_of(**place);
            next.is_some_and(|next| group.iter().any(|member| self.says(next, *member)))
        };
        let free = places.iter().filter(|place| !taken.contains(*place));
        let best = free.clone().find(same_response).or_else(|| free.clone().find(fits)).or_else(|| free.clone().next());
        Ok(best.or_else(|| places.first()).copied())
    }

    /// Whether an item of the input says what the issued item says.
    fn says(&self, entry: &Entry, place: Place) -> bool {
        let Some(item) = self.held.item(place) else { return false };
        let same_id = |one: &String, other: &String| !self.config.bind_call_ids || one == other;
        match (&entry.data, &item.said) {
            (Data::Message { assistant: true, text }, Said::Message(issued)) => text == issued,
            (
                Data::Call { call_id, name, arguments },
                Said::Call { call_id: issued_id, name: issued_name, arguments: issued },
            ) => same_id(call_id, issued_id) && name == issued_name && same(arguments, issued),
            (
                Data::CustomCall { call_id, name, input },
                Said::CustomCall { call_id: issued_id, name: issued_name, input: issued },
            ) => same_id(call_id, issued_id) && name == issued_name && input == issued,
            (Data::Native, Said::Search) => entry.id.as_ref().is_none_or(|id| item.ids.contains(id)),
            (Data::Reference, _) => entry.id.as_ref().is_some_and(|id| item.ids.contains(id)),
            _ => false,
        }
    }

    /// Reasoning is followed by what it was given for, and comes before all of it.
    fn followers(&self, slots: &[Slot<'_>]) -> Result<(), Refusal> {
        for (at, slot) in slots.iter().enumerate() {
            let Some(place) = slot.place else { continue };
            let Some(item) = self.held.item(place).filter(|item| item.said.is_reasoning()) else { continue };
            let run = self.held.group_of(place);
            let next = slots.iter().skip(at + 1).find(|other| !(other.reasoning && other.place.is_some()));
            let followed = next.is_some_and(|next| {
                run.iter().any(|member| {
                    let kept = next.kept_id && next.place == Some(*member);
                    self.says(next.entry, *member) && (kept || !slot.kept_id || !self.pairing())
                })
            });
            let late = slots.iter().take(at).any(|earlier| earlier.place.is_some_and(|earlier| run.contains(&earlier)));
            if !followed || late {
                return Err(Refusal::without_following(slot.entry.id.as_deref().unwrap_or(item.id())));
            }
        }
        Ok(())
    }

    /// What was given after reasoning comes after it: items that kept their ids, and calls where the text is demanded.
    fn leaders(&self, slots: &[Slot<'_>]) -> Result<(), Refusal> {
        for (at, slot) in slots.iter().enumerate() {
            if slot.reasoning {
                continue;
            }
            let before = self.reasoning_before(slots, at, slot.place);
            if let Some((place, id)) = slot.place.zip(slot.entry.id.as_deref())
                && slot.kept_id
                && self.pairing()
            {
                let brought = |wanted: &Place| before.iter().any(|slot| slot.kept_id && slot.place == Some(*wanted));
                let lost = self.held.reasoning_of(place).into_iter().find(|wanted| !brought(wanted));
                if let (Some(lost), Some(item)) = (lost.and_then(|lost| self.held.item(lost)), self.held.item(place)) {
                    return Err(Refusal::without_reasoning(id, item.said.type_name(), lost.id()));
                }
            }
            if self.config.require_reasoning_text && slot.entry.data.call_id().is_some() {
                let complete = match slot.place {
                    Some(place) => self.held.reasoning_of(place).iter().all(|wanted| {
                        let clear = self
                            .held
                            .item(*wanted)
                            .is_some_and(|item| matches!(item.said, Said::Reasoning { clear: Some(_) }));
                        !clear || before.iter().any(|slot| slot.place == Some(*wanted))
                    }),
                    None => before.iter().any(|slot| slot.has_text()),
                };
                if !complete {
                    return Err(Refusal::request(
                        "The `reasoning_text` in the thinking mode must be passed back to the API.",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The reasoning before an item: only what was given along with the item may stand between, with its outputs.
    fn reasoning_before<'s, 'e>(&self, slots: &'s [Slot<'e>], at: usize, place: Option<Place>) -> Vec<&'s Slot<'e>> {
        let response = place.map(|place| place.response);
        let mut before: Vec<&Slot<'_>> = Vec::new();
        for slot in slots.iter().take(at).rev() {
            if slot.reasoning {
                before.push(slot);
                continue;
            }
            let belongs = match &slot.entry.data {
                Data::Output { call_id, .. } => self.held.call(call_id).map(|call| call.response) == response,
                Data::Message { assistant: true, .. } if slot.place.is_none() => place.is_none_or(|place| {
                    let group = self.held.reasoning_of(place).first().map(|first| self.held.group_of(*first));
                    group.unwrap_or_default().iter().any(|member| self.says(slot.entry, *member))
                }),
                _ => slot.place.map(|other| other.response) == response && slot.entry.data.is_models(),
            };
            if !belongs || !before.is_empty() {
                break;
            }
        }
        before
    }
}

/// The id of a conversation, which is given alone or in an object.
pub(super) fn conversation_id(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("id").and_then(Value::as_str))
}

/// Every output follows its call, and every call has an output. Gives the calls that are answered.
fn outputs(entries: &[Entry], context: &Context<'_>, previous: Option<usize>) -> Result<Vec<String>, Refusal> {
    let chain: Vec<&Given> = context.held.chain(previous).map(|(_, given)| given).collect();
    let mut open: Vec<(String, bool)> = Vec::new();
    for given in chain.iter().rev() {
        open.retain(|(call, _)| !given.answered.contains(call));
        open.extend(given.items.iter().filter_map(|item| {
            item.said.call_id().map(|call| (call.to_owned(), matches!(item.said, Said::CustomCall { .. })))
        }));
    }
    let mut told: HashSet<String> = open.iter().map(|(call, _)| call.clone()).collect();
    told.extend(chain.iter().flat_map(|given| &given.answered).cloned());
    let mut answered = Vec::new();
    for entry in entries {
        let referred = match entry.data {
            Data::Reference => entry
                .id
                .as_deref()
                .and_then(|id| context.held.item(context.held.id(id)?))
                .and_then(|item| Some((item.said.call_id()?, matches!(item.said, Said::CustomCall { .. })))),
            _ => entry.data.call_id().map(|call| (call, matches!(entry.data, Data::CustomCall { .. }))),
        };
        if let Some((call, custom)) = referred {
            told.insert(call.to_owned());
            open.push((call.to_owned(), custom));
        }
        if let Data::Output { call_id, custom } = &entry.data {
            if !told.contains(call_id) {
                let what = if *custom { "custom tool" } else { "function" };
                return Err(Refusal::input(format!(
                    "No tool call found for {what} call output with call_id {call_id}."
                )));
            }
            answered.push(call_id.clone());
            open.retain(|(call, _)| call != call_id);
        }
    }
    match open.first() {
        None => Ok(answered),
        Some((call, custom)) => {
            let what = if *custom { "custom tool" } else { "function" };
            Err(Refusal::input(format!("No tool output found for {what} call {call}.")))
        }
    }
}

/// How many answers of the model the input holds: runs of its items, but those of one response count once.
fn model_turns(slots: &[Slot<'_>]) -> usize {
    let mut seen: HashSet<usize> = HashSet::new();
    let models = |slot: &Slot<'_>| slot.entry.data.is_models();
    let runs = slots.chunk_by(|one, other| models(one) == models(other));
    runs.filter(|run| run.first().is_some_and(models))
        .filter(|run| {
            let responses: Vec<usize> = run.iter().filter_map(|slot| Some(slot.place?.response)).collect();
            let again = responses.iter().any(|response| seen.contains(response));
            seen.extend(responses);
            !again
        })
        .count()
}

/// The first and the last four characters.
fn abbreviation(ciphertext: &str) -> String {
    let characters: Vec<char> = ciphertext.chars().collect();
    let head: String = characters.iter().take(4).collect();
    let tail: String = characters.iter().skip(characters.len().saturating_sub(4)).collect();
    format!("{head}...{tail}")
}
