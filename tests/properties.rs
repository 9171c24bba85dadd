//! Properties of generated conversations through the engine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "properties/bound.rs"]
mod bound;
#[path = "properties/families.rs"]
mod families;
#[path = "properties/family.rs"]
mod family;
#[allow(dead_code)]
#[path = "recordings/parts.rs"]
mod parts;
#[path = "support/told.rs"]
mod told;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use parts::{Issued, field, is_thought, text, token};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};
use tower_reasoning_replay::{Engine, Fallback, engine::Answer, ledger::Turn, scope::HashKey, wire::patch::Patch};

use told::Told;

/// An engine with a client before it and a provider behind it.
struct Talk {
    engine: Engine,
    store: Told,
    known: bool,
}

impl Talk {
    fn new(known: bool) -> Self {
        let store = Told::default();
        let engine = Engine::builder(store.clone()).hash_key(HashKey::from_bytes([7; 32])).fallback(Fallback::Off);
        Self { engine: engine.build().unwrap(), store, known }
    }

    /// Sends a body, which is answered by these bytes, cut at these places; gives what went upstream.
    fn send(&self, body: &[u8], answer: &[u8], cuts: &[usize]) -> Bytes {
        let uri = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse";
        let mut request = Request::post(uri).header(CONTENT_TYPE, "application/json");
        if self.known {
            request = request.header("x-session-id", "a session");
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let run = async {
            let watch = self.engine.watch(&head).unwrap();
            let mut exchange = self.engine.prepare(watch, &head, Bytes::copy_from_slice(body)).await;
            let upstream = exchange.body();
            let (head, ()) = Response::new(()).into_parts();
            // A history without anything that a client said belongs to no conversation.
            let Answer::Observe(mut observer) = exchange.answer(&head) else { return upstream };
            let mut from = 0;
            for to in cuts.iter().copied().chain([answer.len()]) {
                if let Some(commit) = observer.feed(&answer[from..to]) {
                    commit.run().await;
                }
                from = to;
            }
            if let Some(commit) = observer.finish() {
                commit.run().await;
            }
            upstream
        };
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(run)
    }

    /// What the last response left in the ledger.
    fn last_turn(&self) -> Option<Arc<Turn>> {
        self.store.last_turn()
    }
}

/// A part of an answer; words, names and arguments are few, so that equal ones are many.
#[derive(Clone, Debug)]
enum Spec {
    Text { chunks: Vec<u8>, signed: Option<Index>, trailing: bool },
    Thought(u8),
    Call { name: u8, args: u8, id: bool, signed: bool },
    Media { data: u8, signed: bool },
}

fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        3 => (prop::collection::vec(0..3_u8, 1..4), prop::option::of(any::<Index>()), any::<bool>())
            .prop_map(|(chunks, signed, trailing)| Spec::Text { chunks, signed, trailing }),
        1 => (0..2_u8).prop_map(Spec::Thought),
        4 => (0..2_u8, 0..3_u8, any::<bool>(), any::<bool>())
            .prop_map(|(name, args, id, signed)| Spec::Call { name, args, id, signed }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(data, signed)| Spec::Media { data, signed }),
    ]
}

const WORDS: [&str; 3] = ["sure, ", "done. ", "caf\u{e9} \"x\"\n"];

/// Makes the parts of an answer, with signatures that nobody else has.
fn answer(specs: &[Spec], count: &mut u32) -> Vec<Value> {
    let mut sign = || {
        *count += 1;
        format!("c2lnbmF0dXJlIG51bWJlciBvbmU+/{count:06}=")
    };
    let mut parts = Vec::new();
    // A run of text has one signature, until one that comes alone closes it.
    let mut run_signed = false;
    for spec in specs {
        run_signed &= matches!(spec, Spec::Text { .. });
        match spec {
            Spec::Text { chunks, signed, trailing } => {
                let signed = signed.filter(|_| !run_signed).map(|at| at.index(chunks.len()));
                run_signed |= signed.is_some() && !trailing;
                for (at, word) in chunks.iter().enumerate() {
                    let mut part = json!({"text": WORDS[usize::from(*word)]});
                    if signed == Some(at) && !trailing {
                        part["thoughtSignature"] = sign().into();
                    }
                    parts.push(part);
                }
                if signed.is_some() && *trailing {
                    parts.push(json!({"text": "", "thoughtSignature": sign()}));
                }
            }
            Spec::Thought(word) => parts.push(json!({"text": WORDS[usize::from(*word)], "thought": true})),
            Spec::Call { name, args, id, signed } => {
                let all = [json!({}), json!({"a": 1, "b": "x"}), json!({"a": [1, 2.5, null], "b": {"c": true}})];
                let name = ["ls", "cat"][usize::from(*name)];
                let mut call = json!({"name": name, "args": all[usize::from(*args)]});
                if *id {
                    call["id"] = format!("k{}", &sign()[30..36]).into();
                }
                let mut part = json!({"functionCall": call});
                if *signed {
                    part["thoughtSignature"] = sign().into();
                }
                parts.push(part);
            }
            Spec::Media { data, signed } => {
                let data = ["aW1hZ2Ugb25l", "aW1hZ2UgdHdv"][usize::from(*data)];
                let mut part = json!({"inlineData": {"mimeType": "image/png", "data": data}});
                if *signed {
                    part["thoughtSignature"] = sign().into();
                }
                parts.push(part);
            }
        }
    }
    parts
}

/// How an answer goes over the wire.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Sse,
    SseLf,
    Array,
    Document,
}

fn wire() -> impl Strategy<Value = Wire> {
    prop_oneof![Just(Wire::Sse), Just(Wire::SseLf), Just(Wire::Array), Just(Wire::Document)]
}

fn encode(parts: &[Value], wire: Wire) -> Vec<u8> {
    let event = |parts: &[Value], last: bool| {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if last {
            candidate["finishReason"] = "STOP".into();
        }
        json!({"candidates": [candidate], "modelVersion": "gemini-3"})
    };
    let events: Vec<Value> =
        parts.iter().enumerate().map(|(at, part)| event(std::slice::from_ref(part), at + 1 == parts.len())).collect();
    let text = match wire {
        Wire::Sse => events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect(),
        Wire::SseLf => events
            .iter()
            .map(|event| format!("data: {event:#}\n\n").replace("\n ", "\ndata:  ").replace("\n}", "\ndata: }"))
            .collect(),
        Wire::Array => {
            let events: Vec<_> = events.iter().map(|event| format!("{event:#}")).collect();
            format!("[{}]", events.join("\n,\r\n"))
        }
        Wire::Document => event(parts, true).to_string(),
    };
    text.into_bytes()
}

/// What a forgetful client keeps of an answer.
fn kept(parts: &[Value], merges: bool) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for part in parts {
        let mut part = part.clone();
        parts::strip(&mut part);
        if merges && (is_thought(&part) || text(&part) == Some("")) {
            continue;
        }
        let joins = merges && text(&part).is_some();
        match kept.last_mut().filter(|last| joins && text(last).is_some()) {
            Some(last) => last["text"] = (text(last).unwrap().to_owned() + text(&part).unwrap()).into(),
            None => kept.push(part),
        }
    }
    kept
}

/// What the client says next: the outputs of the calls, or one of few questions.
fn next(parts: &[Value], word: u8) -> Value {
    let output = |call: &Value| {
        let mut output = json!({"name": call["name"], "response": {"ok": word}});
        if let Some(id) = call.get("id") {
            output["id"] = id.clone();
        }
        json!({"functionResponse": output})
    };
    let outputs: Vec<_> = parts.iter().filter_map(|part| field(part, "functionCall")).map(output).collect();
    let question = ["go on", "again"][usize::from(word)];
    let said = if outputs.is_empty() { vec![json!({"text": question})] } else { outputs };
    json!({"role": "user", "parts": said})
}

fn body(contents: &[Value]) -> Vec<u8> {
    json!({"contents": contents}).to_string().into_bytes()
}

/// A conversation: answers, and what the client says after each.
fn script() -> impl Strategy<Value = Vec<(Vec<Spec>, u8)>> {
    prop::collection::vec((prop::collection::vec(spec(), 1..5), 0..2_u8), 1..6)
}

/// What a client does to its history before it sends it.
#[derive(Clone, Debug)]
enum Edit {
    Drop(Index),
    Truncate(Index),
    ChangeText(Index),
    ChangeArgs(Index),
    DuplicateCall(Index),
    DropCall(Index),
    Branch(Index),
    Remint,
    SplitAll,
    MergeAll,
    KeepOwn(Index),
    HoldForeign(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<Index>().prop_map(Edit::Drop),
        any::<Index>().prop_map(Edit::Truncate),
        any::<Index>().prop_map(Edit::ChangeText),
        any::<Index>().prop_map(Edit::ChangeArgs),
        any::<Index>().prop_map(Edit::DuplicateCall),
        any::<Index>().prop_map(Edit::DropCall),
        any::<Index>().prop_map(Edit::Branch),
        Just(Edit::Remint),
        Just(Edit::SplitAll),
        Just(Edit::MergeAll),
        any::<Index>().prop_map(Edit::KeepOwn),
        any::<Index>().prop_map(Edit::HoldForeign),
    ]
}

impl Edit {
    /// Whether equal parts that remain still stand in the order in which they were issued.
    fn keeps_order(&self) -> bool {
        matches!(self, Self::Truncate(_) | Self::Remint | Self::SplitAll | Self::MergeAll)
    }

    fn apply(&self, contents: &mut Vec<Value>, issued: &[Issued]) {
        let pick = |index: &Index, contents: &[Value], wanted: &dyn Fn(&Value) -> bool| {
            let mut places = Vec::new();
            for (at, content) in contents.iter().enumerate().filter(|(_, content)| content["role"] == "model") {
                let parts = parts::parts(content).iter().enumerate();
                places.extend(parts.filter(|(_, part)| wanted(part)).map(|(part, _)| (at, part)));
            }
            (!places.is_empty()).then(|| places[index.index(places.len())])
        };
        let is_call = |part: &Value| field(part, "functionCall").is_some();
        match self {
            Self::Drop(index) if contents.len() > 1 => drop(contents.remove(index.index(contents.len()))),
            Self::Truncate(index) => drop(contents.drain(..index.index(contents.len()))),
            Self::Branch(index) => contents.truncate(index.index(contents.len()) + 1),
            Self::ChangeText(index) => {
                let found = pick(index, contents, &|part| text(part).is_some_and(|text| !text.is_empty()));
                if let Some((content, part)) = found {
                    contents[content]["parts"][part]["text"] = "sure, edited".into();
                }
            }
            Self::ChangeArgs(index) => {
                if let Some((content, part)) = pick(index, contents, &is_call) {
                    contents[content]["parts"][part]["functionCall"]["args"] = json!({"a": 1, "b": "y"});
                }
            }
            Self::DuplicateCall(index) => {
                if let Some((content, part)) = pick(index, contents, &is_call) {
                    let parts = contents[content]["parts"].as_array_mut().unwrap();
                    let call = parts[part].clone();
                    parts.push(call);
                }
            }
            Self::DropCall(index) => {
                if let Some((content, part)) = pick(index, contents, &is_call) {
                    let parts = contents[content]["parts"].as_array_mut().unwrap();
                    parts.remove(part);
                    if parts.is_empty() {
                        contents.remove(content);
                    }
                }
            }
            Self::Remint => {
                let mut minted: HashMap<String, String> = HashMap::new();
                for part in contents.iter_mut().flat_map(|content| content["parts"].as_array_mut().unwrap()) {
                    for kind in ["functionCall", "functionResponse"] {
                        let Some(id) = part.get_mut(kind).and_then(|held| held.get_mut("id")) else { continue };
                        let count = minted.len();
                        let new = minted.entry(id.to_string()).or_insert_with(|| format!("own_{count:x}"));
                        *id = new.clone().into();
                    }
                }
            }
            Self::SplitAll => {
                let split = contents.iter().flat_map(|content| {
                    let parts = parts::parts(content);
                    let whole = content["role"] != "model" || parts.is_empty();
                    let pieces: Vec<_> = if whole {
                        vec![content.clone()]
                    } else {
                        parts.iter().map(|part| json!({"role": "model", "parts": [part]})).collect()
                    };
                    pieces
                });
                *contents = split.collect();
            }
            Self::MergeAll => {
                let mut merged: Vec<Value> = Vec::new();
                for content in contents.drain(..) {
                    match merged.last_mut().filter(|last| last["role"] == content["role"]) {
                        Some(last) => {
                            last["parts"].as_array_mut().unwrap().extend(parts::parts(&content).iter().cloned());
                        }
                        None => merged.push(content),
                    }
                }
                *contents = merged;
            }
            // A client that still has a signature, and one that has one from elsewhere.
            Self::KeepOwn(index) if !issued.is_empty() => {
                let own = &issued[index.index(issued.len())];
                for content in contents.iter_mut().filter(|content| content["role"] == "model") {
                    let parts = content["parts"].as_array_mut().unwrap();
                    if let Some(at) = (0..parts.len()).find(|at| own.fits(parts, *at)) {
                        parts[at]["thoughtSignature"] = own.token.clone().into();
                        break;
                    }
                }
            }
            Self::HoldForeign(index) => {
                if let Some((content, part)) = pick(index, contents, &|_| true) {
                    contents[content]["parts"][part]["thoughtSignature"] = "Zm9yZWlnbiBzaWduYXR1cmUgdmFsdWU".into();
                }
            }
            _ => {}
        }
    }
}

/// The signatures of a body, with the places at which they stand.
fn signatures(contents: &[Value]) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        for (part, value) in parts::parts(content).iter().enumerate() {
            found.extend(token(value).map(|token| (at, part, token)));
        }
    }
    found
}

fn calls(contents: &[Value]) -> Vec<Value> {
    contents.iter().flat_map(parts::parts).filter_map(|part| field(part, "functionCall").cloned()).collect()
}

/// A run of adjacent messages of the model, as one message: how it is cut is the client's own.
fn run_of(contents: &[Value], at: usize, part: usize) -> (Vec<Value>, usize) {
    let is_model = |content: &&Value| content["role"] == "model";
    let from = at - contents[..at].iter().rev().take_while(is_model).count();
    let before: usize = contents[from..at].iter().map(|content| parts::parts(content).len()).sum();
    let run = contents[from..].iter().take_while(is_model).flat_map(|content| parts::parts(content).to_vec());
    (run.collect(), before + part)
}

/// Whether the original is what is left of the patched body after some bytes are taken out.
fn is_subsequence(original: &[u8], patched: &[u8]) -> bool {
    let mut rest = patched.iter();
    original.iter().all(|byte| rest.any(|other| other == byte))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However a response is cut, the same turn is remembered.
    #[test]
    fn any_split_gives_the_same_turn(
        specs in prop::collection::vec(spec(), 1..6), wire in wire(), cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let parts = answer(&specs, &mut 0);
        let bytes = encode(&parts, wire);
        let request = body(&[json!({"role": "user", "parts": [{"text": "go"}]})]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let every: Vec<_> = (1..bytes.len()).collect();
        let turns = [&[][..], &cuts, &every].map(|cuts| {
            let talk = Talk::new(true);
            talk.send(&request, &bytes, cuts);
            talk.last_turn().map(|turn| (turn.context().clone(), turn.to_alternatives(), turn.is_provisional()))
        });
        prop_assert_eq!(&turns[0], &turns[1]);
        prop_assert_eq!(&turns[0], &turns[2]);
    }

    /// How a response is framed makes no difference either.
    #[test]
    fn any_framing_gives_the_same_turn(specs in prop::collection::vec(spec(), 1..6)) {
        let parts = answer(&specs, &mut 0);
        let request = body(&[json!({"role": "user", "parts": [{"text": "go"}]})]);
        let turns = [Wire::Sse, Wire::SseLf, Wire::Array].map(|wire| {
            let talk = Talk::new(true);
            talk.send(&request, &encode(&parts, wire), &[]);
            let mut alternatives = talk.last_turn().map(|turn| turn.to_alternatives()).unwrap_or_default();
            // A whole part is kept as it came, with its white space.
            for part in alternatives.iter_mut().flat_map(|alternative| &mut alternative.parts) {
                part.whole = part.whole.take().map(|_| Bytes::new());
            }
            alternatives
        });
        prop_assert_eq!(&turns[0], &turns[1]);
        prop_assert_eq!(&turns[0], &turns[2]);
    }

    /// A patch taken back gives the original bytes.
    #[test]
    fn a_patch_minus_its_edits_is_the_original(
        original in prop::collection::vec(any::<u8>(), 0..64),
        edits in prop::collection::vec((any::<Index>(), 0..4_usize, prop::collection::vec(any::<u8>(), 0..6)), 0..6),
    ) {
        let mut patch = Patch::default();
        for (at, length, bytes) in &edits {
            let at = at.index(original.len() + 1);
            patch.replace(at..(at + length).min(original.len()), bytes.clone());
        }
        let Ok(patched) = patch.apply(&original) else { return Ok(()) };
        let (mut restored, mut from) = (Vec::new(), 0);
        for placed in patch.undo_positions().unwrap() {
            restored.extend_from_slice(&patched[from..placed.patched.start]);
            restored.extend_from_slice(&original[placed.original]);
            from = placed.patched.end;
        }
        restored.extend_from_slice(&patched[from..]);
        prop_assert_eq!(restored, original);
    }

    /// A client that only appends gets the same bytes for the same prefix on every turn, in every
    /// process; what is put in is put in and nothing else is touched; all that was issued comes back.
    #[test]
    fn the_same_history_gives_the_same_bytes(
        script in script(), merges in any::<bool>(), drops_calls in prop::bool::weighted(0.3), known in any::<bool>(),
    ) {
        let talks = [Talk::new(known), Talk::new(known)];
        let mut contents = vec![json!({"role": "user", "parts": [{"text": "go"}]})];
        let (mut count, mut former) = (0, Vec::new());
        let mut answers: Vec<Vec<Value>> = Vec::new();
        for (specs, word) in &script {
            let parts = answer(specs, &mut count);
            let request = body(&contents);
            let wire = encode(&parts, Wire::Sse);
            let sent = [&talks[0], &talks[1]].map(|talk| talk.send(&request, &wire, &[]));
            prop_assert_eq!(&sent[0], &sent[1]);
            let text = String::from_utf8(sent[0].to_vec()).unwrap();
            prop_assert!(text.as_bytes().starts_with(&former), "{text}\ndoes not begin with\n{}", String::from_utf8_lossy(&former));
            let upstream: Value = serde_json::from_str(&text).unwrap();
            let all = || parts::contents(&upstream).iter().flat_map(parts::parts);
            for output in all().filter_map(|part| field(part, "functionResponse")?.get("id")) {
                let calls = all().filter(|part| field(part, "functionCall").is_some_and(|call| call.get("id") == Some(output)));
                prop_assert_eq!(calls.count(), 1, "the call of each output is there once: {}", upstream);
            }
            let mut bare = text.clone();
            for (.., token) in signatures(parts::contents(&upstream)) {
                // The field stands last in its part; the client's text has no such bytes.
                for field in [format!(",\"thoughtSignature\":\"{token}=\""), format!("\"thoughtSignature\":\"{token}=\"")] {
                    bare = bare.replace(&field, "");
                }
            }
            prop_assert!(is_subsequence(&request, text.as_bytes()));
            prop_assert!(drops_calls || bare.as_bytes() == request, "{bare}");
            former = text.strip_suffix("]}").unwrap().as_bytes().to_vec();
            for (at, answer) in answers.iter().enumerate().filter(|_| !drops_calls) {
                let back = parts::parts(&parts::contents(&upstream)[2 * at + 1]);
                for (at, part) in answer.iter().enumerate().filter(|(_, part)| parts::text(part) != Some("")) {
                    let Some(signature) = token(part) else { continue };
                    let found = back.iter().position(|back| token(back).as_ref() == Some(&signature));
                    // Merged text may be two runs, or a run around a thought.
                    let lost = merges && parts::text(part).is_some() && found.is_none();
                    // Of equal chunks with signatures of their own, either may have either.
                    let equal = found.is_some_and(|found| parts::text(part).is_some() && parts::text(part) == parts::text(&answer[found]));
                    prop_assert!(lost || merges && found.is_some() || found == Some(at) || equal, "part {at} of {answer:?}");
                }
            }
            answers.push(parts.clone());
            let mut left = kept(&parts, merges);
            left.retain(|part| !drops_calls || field(part, "functionCall").is_none());
            if !left.is_empty() || !drops_calls {
                contents.push(json!({"role": "model", "parts": left}));
            }
            contents.push(next(&parts, *word));
        }
    }

    /// Whatever the client did to its history: what is put back stands on what it was issued for, no
    /// more than once, and what the client holds is not touched.
    #[test]
    fn what_is_put_back_stands_on_what_it_was_issued_for(
        script in script(),
        edits in prop::collection::vec(prop::collection::vec(edit(), 0..3), 6),
        merges in any::<bool>(),
        known in any::<bool>(),
    ) {
        let talk = Talk::new(known);
        let mut contents = vec![json!({"role": "user", "parts": [{"text": "go"}]})];
        let mut count = 0;
        let mut issued: Vec<Issued> = Vec::new();
        let mut made_calls: Vec<Value> = Vec::new();
        let mut ordered = true;
        for ((specs, word), edits) in script.iter().zip(&edits) {
            let mut sent = contents.clone();
            for edit in edits {
                ordered &= edit.keeps_order();
                edit.apply(&mut sent, &issued);
                // Branches and re-minted ids stay; other edits are made on the way out.
                if matches!(edit, Edit::Branch(_) | Edit::Remint | Edit::Truncate(_)) {
                    contents.clone_from(&sent);
                }
            }
            let parts = answer(specs, &mut count);
            let request = body(&sent);
            let upstream = talk.send(&request, &encode(&parts, Wire::Sse), &[]);
            prop_assert!(is_subsequence(&request, &upstream), "something was taken away");
            let upstream: Value = serde_json::from_slice(&upstream).unwrap();
            let upstream = parts::contents(&upstream);
            let mut known: Vec<Value> = calls(&sent);
            let mut made = made_calls.clone();
            for call in calls(upstream) {
                let take = |from: &mut Vec<Value>| from.iter().position(|held| *held == call).map(|at| from.remove(at));
                let is_known = take(&mut known).or_else(|| take(&mut made)).is_some();
                prop_assert!(is_known, "a call that nobody made: {call}");
            }
            prop_assert!(known.is_empty(), "a call of the client is gone");
            let own = signatures(&sent);
            let found = signatures(upstream);
            let values = |found: &[(usize, usize, String)]| -> Vec<String> {
                found.iter().map(|(.., token)| token.clone()).collect()
            };
            let owned: HashSet<String> = values(&own).into_iter().collect();
            let still: Vec<String> = values(&found).into_iter().filter(|token| owned.contains(token)).collect();
            prop_assert_eq!(still, values(&own), "the client's own signatures stay as they are");
            let mut met = HashSet::new();
            let mut last: HashMap<String, usize> = HashMap::new();
            for (at, part, token) in found.iter().filter(|(.., token)| !owned.contains(token)) {
                let of = issued.iter().position(|issued| issued.token == *token);
                prop_assert!(of.is_some(), "what was never issued stands at {at}.{part}");
                let of = of.unwrap();
                let (run, place) = run_of(upstream, *at, *part);
                let fits = issued[of].fits(parts::parts(&upstream[*at]), *part) || issued[of].fits(&run, place);
                prop_assert!(fits, "{} stands on {}", token, upstream[*at]["parts"][*part]);
                prop_assert!(met.insert(token.clone()), "one signature stands on two parts");
                if ordered {
                    let mut content = upstream[*at]["parts"][*part].clone();
                    parts::strip(&mut content);
                    let former = last.insert(content.to_string(), of);
                    prop_assert!(former.is_none_or(|former| former < of), "equal parts are out of order");
                }
            }
            issued.extend(parts::issued(&parts));
            made_calls.extend(calls(&[json!({"role": "model", "parts": parts})]));
            contents.push(json!({"role": "model", "parts": kept(&parts, merges)}));
            contents.push(next(&parts, *word));
        }
    }
}
