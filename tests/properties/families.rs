//! Properties of generated conversations in the protocols whose state stands beside what it belongs to.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use proptest::{prelude::*, sample::Index};
use serde_json::Value;
use tower_reasoning_replay::{
    Engine, Fallback,
    engine::Answer,
    ledger::{HeldPart, Kind},
    scope::HashKey,
};

use crate::{
    family::{Family, Say, Wire, edit, family, in_one_form, say, script, spoken, states, wire},
    told::Told,
};

/// An engine with a client before it and a provider behind it.
struct Talk {
    family: Family,
    engine: Engine,
    store: Told,
    known: bool,
    /// What goes upstream lacks nothing.
    is_whole: bool,
}

impl Talk {
    fn new(family: Family, known: bool) -> Self {
        let store = Told::default();
        let engine = Engine::builder(store.clone()).hash_key(HashKey::from_bytes([7; 32])).fallback(Fallback::Off);
        Self { family, engine: engine.build().unwrap(), store, known, is_whole: false }
    }

    /// Sends a body, which is answered by these bytes, cut at these places; gives what went upstream.
    fn send(&self, body: &Bytes, answer: &[u8], cuts: &[usize]) -> Bytes {
        let mut request = Request::post(self.family.uri()).header(CONTENT_TYPE, "application/json");
        if self.known {
            request = request.header("x-session-id", "a session");
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let run = async {
            let watch = self.engine.watch(&head).unwrap();
            let mut exchange = self.engine.prepare(watch, &head, body.clone()).await;
            let upstream = exchange.body();
            if self.is_whole {
                let watch = self.engine.watch(&head).unwrap();
                let again = self.engine.prepare(watch, &head, upstream.clone()).await.body();
                assert_eq!(again.as_ptr(), upstream.as_ptr(), "what is complete was copied");
            }
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
}

/// What a part is known by, and its state as a value.
fn known_by(part: HeldPart<'_>) -> (Kind, Vec<u8>, Option<String>, Option<Value>, Option<Value>) {
    let value = |raw: &[u8]| match serde_json::from_slice(raw) {
        Ok(value) => value,
        // A member stands with its name.
        Err(_) => serde_json::from_slice(&[b"{", raw, b"}"].concat()).unwrap(),
    };
    let state = part.state().map(value);
    let anchor = format!("{:?}", part.anchor()).into_bytes();
    // What of an item only the provider's framing adds is no matter.
    let whole = part.whole().filter(|_| part.kind() == Kind::Thought).map(|whole| value(&whole));
    (part.kind(), anchor, part.id().map(str::to_owned), state, whole)
}

fn is_subsequence(original: &[u8], patched: &[u8]) -> bool {
    let mut rest = patched.iter();
    original.iter().all(|byte| rest.any(|other| other == byte))
}

/// A text that a turn says twice, once beside another and once behind a call, does not keep its thought away.
#[test]
fn equal_texts_of_one_turn_are_told_apart_by_their_order() {
    let says = [
        Say::Text(0),
        Say::Think { redacted: false, shown: false },
        Say::Text(1),
        Say::Call { name: 0, args: 0 },
        Say::Text(0),
    ];
    let family = Family::Messages;
    let talk = Talk { is_whole: true, ..Talk::new(family, false) };
    let parts = family.answer(&says, &mut 0);
    let mut kept = vec![family.said("go")];
    let mut honest = kept.clone();
    talk.send(&Bytes::from(family.body(&kept, false)), &family.encode(&parts, Wire::Sse), &[]);
    kept.extend(family.forgotten(&parts, false));
    honest.extend(family.place(&parts));
    let next = family.next(&parts, 0);
    kept.extend(next.clone());
    honest.extend(next);
    let answer = family.encode(&family.answer(&[Say::Text(2)], &mut 9), Wire::Sse);
    let sent = talk.send(&Bytes::from(family.body(&kept, false)), &answer, &[]);
    let upstream: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(in_one_form(family.history(&upstream)), in_one_form(honest));
}

/// What goes upstream of a history that follows these answers.
fn after(family: Family, answers: &[&[Value]], history: &[Value]) -> Vec<Value> {
    let talk = Talk::new(family, false);
    let mut kept = vec![family.said("go")];
    for answer in answers {
        talk.send(&Bytes::from(family.body(&kept, false)), &family.encode(answer, Wire::Sse), &[]);
        kept.extend(family.place(answer));
        kept.extend(family.next(answer, 0));
    }
    let done = family.encode(&family.answer(&[Say::Text(2)], &mut 90), Wire::Sse);
    let sent = talk.send(&Bytes::from(family.body(history, false)), &done, &[]);
    family.history(&serde_json::from_slice(&sent).unwrap())
}

/// A call comes back before its output; what its client has of the same turn behind that gets no thought for it.
#[test]
fn a_thought_does_not_stand_behind_the_call_that_it_led_to() {
    let (family, mut count) = (Family::Responses, 0);
    let think = || Say::Think { redacted: false, shown: false };
    let call = || Say::Call { name: 0, args: 0 };
    let first = family.answer(&[call(), think()], &mut count);
    let second = family.answer(&[Say::Text(0), think(), call()], &mut count);
    let mut history = vec![family.said("go")];
    history.extend(family.place(&first));
    history.extend(family.next(&second, 0));
    history.push(family.forgotten(&second, false)[0].clone());
    let upstream = after(family, &[&first, &second], &history);
    assert_eq!(upstream.last(), history.last());
}

/// A thought and the call that it led to come back side by side, or the thought does not.
#[test]
fn a_thought_does_not_stand_before_a_call_that_was_changed() {
    let (family, mut count) = (Family::Responses, 0);
    let call = || Say::Call { name: 0, args: 0 };
    let says = [Say::Text(0), call(), Say::Think { redacted: false, shown: false }, call()];
    let answer = family.answer(&says, &mut count);
    let mut kept = family.forgotten(&answer, false);
    kept.truncate(2);
    kept[1]["arguments"] = "{\"changed\":true}".into();
    let history = [vec![family.said("go")], kept, family.next(&answer, 0)].concat();
    let upstream = after(family, &[&answer], &history);
    let changed = upstream.iter().position(|item| item["arguments"] == history[2]["arguments"]).unwrap();
    assert_ne!(upstream[changed - 1]["type"], "reasoning", "{upstream:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However a response is cut, the same turn is remembered.
    #[test]
    fn any_split_of_any_protocol_gives_the_same_turn(
        family in family(), says in prop::collection::vec(say(), 1..6), wire in wire(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let bytes = family.encode(&family.answer(&says, &mut 0), wire);
        let request = Bytes::from(family.body(&[family.said("go")], false));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let every: Vec<_> = (1..bytes.len()).collect();
        let turns = [&[][..], &cuts, &every].map(|cuts| {
            let talk = Talk::new(family, true);
            talk.send(&request, &bytes, cuts);
            let turn = talk.store.last_turn();
            turn.map(|turn| (turn.context().clone(), turn.to_alternatives(), turn.is_provisional()))
        });
        prop_assert!(turns[0].is_some() || states(&bytes_as_value(&bytes)).is_empty(), "nothing is remembered");
        prop_assert_eq!(&turns[0], &turns[1]);
        prop_assert_eq!(&turns[0], &turns[2]);
    }

    /// How a response is framed makes no difference either.
    #[test]
    fn any_framing_of_any_protocol_gives_the_same_turn(family in family(), says in prop::collection::vec(say(), 1..6)) {
        let parts = family.answer(&says, &mut 0);
        let request = Bytes::from(family.body(&[family.said("go")], false));
        let turns = [Wire::Sse, Wire::Lines, Wire::Document].map(|wire| {
            let talk = Talk::new(family, true);
            talk.send(&request, &family.encode(&parts, wire), &[]);
            let turn = talk.store.last_turn();
            let alternatives = turn.iter().flat_map(|turn| turn.alternatives()).map(|alternative| {
                alternative.parts().map(known_by).collect::<Vec<_>>()
            });
            alternatives.collect::<Vec<_>>()
        });
        prop_assert_eq!(&turns[0], &turns[1]);
        prop_assert_eq!(&turns[0], &turns[2]);
    }

    /// A client that only appends, and keeps no state, gets everything back, as the same bytes for the same prefix on
    /// every turn and in every process. What is complete goes on as the very bytes that came.
    #[test]
    fn a_history_without_state_comes_back_whole(
        family in family(), script in script(), wire in wire(), known in any::<bool>(), pretty in any::<bool>(),
        as_strings in any::<bool>(),
    ) {
        let talks = [(); 2].map(|()| Talk { is_whole: true, ..Talk::new(family, known) });
        let (mut kept, mut honest) = (vec![family.said("go")], vec![family.said("go")]);
        let (mut count, mut former) = (0, String::new());
        for (says, word) in &script {
            let parts = family.answer(&spoken(says), &mut count);
            let request = Bytes::from(family.body(&kept, pretty));
            let response = family.encode(&parts, wire);
            let sent = [&talks[0], &talks[1]].map(|talk| talk.send(&request, &response, &[]));
            prop_assert_eq!(&sent[0], &sent[1]);
            let text = std::str::from_utf8(&sent[0]).unwrap();
            let upstream: Value = serde_json::from_str(text).expect("what goes upstream is valid");
            let arrived = in_one_form(family.history(&upstream));
            prop_assert_eq!(arrived, in_one_form(honest.clone()), "{} for {}", text, String::from_utf8_lossy(&request));
            prop_assert!(is_subsequence(&request, &sent[0]));
            if !pretty {
                prop_assert!(text.starts_with(&former), "{text}\ndoes not begin with\n{former}");
                former = text.strip_suffix("]}").unwrap().to_owned();
            }
            // Only the history is touched.
            let mut without: Value = serde_json::from_slice(&request).unwrap();
            let mut other = upstream.clone();
            for body in [&mut without, &mut other] {
                let list = if family == Family::Responses { "input" } else { "messages" };
                body.as_object_mut().unwrap().remove(list);
            }
            prop_assert_eq!(without, other);
            if !family.says_something(&parts) {
                break;
            }
            kept.extend(family.forgotten(&parts, as_strings && family == Family::Messages));
            honest.extend(family.place(&parts));
            let next = family.next(&parts, *word);
            kept.extend(next.clone());
            honest.extend(next);
        }
    }

    /// Whatever the client did to its history: nothing but state and the calls of known turns is put in; state stands
    /// on what it was issued for, once; what the client holds is not touched.
    #[test]
    fn whatever_a_client_did_state_stands_where_it_belongs(
        family in family(), script in script(), wire in wire(), known in any::<bool>(), pretty in any::<bool>(),
        edits in prop::collection::vec(prop::collection::vec(edit(), 0..3), 6), keeps in any::<bool>(),
    ) {
        let talk = Talk::new(family, known);
        let mut kept = vec![family.said("go")];
        let mut count = 0;
        let mut answers: Vec<Vec<Value>> = Vec::new();
        for ((says, word), edits) in script.iter().zip(&edits) {
            let mut sent = kept.clone();
            for edit in edits {
                edit.apply(family, &mut sent, &answers);
            }
            if keeps {
                kept.clone_from(&sent);
            }
            let parts = family.answer(says, &mut count);
            let request = Bytes::from(family.body(&sent, pretty));
            let upstream = talk.send(&request, &family.encode(&parts, wire), &[]);
            prop_assert!(is_subsequence(&request, &upstream), "something was taken away");
            let upstream: Value = serde_json::from_slice(&upstream).expect("what goes upstream is valid");
            let upstream = family.history(&upstream);
            let own: HashSet<String> = sent.iter().flat_map(states).collect();
            let is_ours = |state: &str| !own.contains(state);
            // Clear text goes onto every message that holds something of its turn, beside the client's own too.
            let goes = |state: &str| family == Family::Content || is_ours(state);
            let stripped = family.without(&upstream, &goes);
            let stripped = family.without_other_calls(&stripped, &family.call_ids(&sent));
            let bare = family.without(&sent, &|state| goes(state) && family == Family::Content);
            prop_assert_eq!(in_one_form(stripped), in_one_form(bare), "{:?}", upstream);
            let made: HashSet<String> = answers.iter().flat_map(|answer| family.call_ids(&family.place(answer))).collect();
            let known_calls = family.call_ids(&sent);
            let strange = family.call_ids(&upstream).into_iter().find(|id| !known_calls.contains(id) && !made.contains(id));
            prop_assert!(strange.is_none(), "a call that nobody made: {:?}", strange);
            let mut times: HashMap<String, usize> = HashMap::new();
            for (state, fits) in family.placed(&upstream, &is_ours, &answers) {
                prop_assert!(fits, "{} stands on something else in {:?}", state, upstream);
                *times.entry(state).or_default() += 1;
            }
            let is_once = family == Family::Content || times.values().all(|times| *times == 1);
            prop_assert!(is_once, "one state stands twice in {:?}", upstream);
            if family.says_something(&parts) {
                kept.extend(family.forgotten(&parts, false));
                kept.extend(family.next(&parts, *word));
            }
            answers.push(parts);
        }
    }
}

/// A response as a value in which states can be looked for.
fn bytes_as_value(bytes: &[u8]) -> Value {
    // What comes in halves is not found here, which is as well.
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}
