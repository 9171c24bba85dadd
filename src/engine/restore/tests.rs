//! Restoring through an engine, without I/O.

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    Engine, MemoryStore,
    engine::{Answer, Fallback},
};

/// A provider and a client around one engine.
struct Talk {
    engine: Engine,
    session: Option<&'static str>,
}

impl Talk {
    fn new(session: Option<&'static str>) -> Self {
        let engine = Engine::builder(MemoryStore::new()).fallback(Fallback::Off).build().unwrap();
        Self { engine, session }
    }

    /// Sends these contents, which are answered by these parts; gives the contents that went upstream.
    async fn send(&self, contents: Value, answer: Value) -> Value {
        self.send_body(json!({ "contents": contents }), answer).await
    }

    async fn send_body(&self, body: Value, answer: Value) -> Value {
        let uri = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent";
        let mut request = Request::post(uri).header(CONTENT_TYPE, "application/json");
        if let Some(session) = self.session {
            request = request.header("x-session-id", session);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let watch = self.engine.watch(&head).unwrap();
        let body = Bytes::from(body.to_string());
        let mut exchange = self.engine.prepare(watch, &head, body).await;
        let upstream: Value = serde_json::from_slice(&exchange.body()).unwrap();
        let (head, ()) = Response::new(()).into_parts();
        let Answer::Observe(mut observer) = exchange.answer(&head) else { panic!("it is observed") };
        let answer = json!({"candidates": [{"content": {"parts": answer}, "finishReason": "STOP"}]});
        if let Some(commit) = observer.feed(answer.to_string().as_bytes()) {
            commit.run().await;
        }
        upstream["contents"].clone()
    }
}

fn ask(text: &str) -> Value {
    json!({"role": "user", "parts": [{"text": text}]})
}

const STATE: &str = "c2lnbmF0dXJlIG9uZSBvZiBtYW55";

/// Rule 13: what precedes proves a dropped call whose id does not.
#[tokio::test]
async fn a_dropped_call_with_a_counted_id_comes_back_to_a_derived_session_by_what_precedes_it() {
    let call = json!({"functionCall": {"id": "call_3", "name": "look", "args": {}}, "thoughtSignature": STATE});
    let output = json!({"role": "user", "parts": [
        {"functionResponse": {"id": "call_3", "name": "look", "response": {"seen": true}}}
    ]});
    let talk = Talk::new(None);
    talk.send(json!([ask("look")]), json!([call])).await;
    let upstream = talk.send(json!([ask("look"), output]), json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1], json!({"role": "model", "parts": [call]}));
    assert_eq!(upstream[2], output);
    let aside = json!({"role": "model", "parts": [{"text": "something else"}]});
    let upstream = talk.send(json!([ask("look"), aside, output]), json!([{"text": "fine"}])).await;
    assert_eq!(upstream, json!([ask("look"), aside, output]));
}

/// Rule 6: a call whose id is that of another call is not the one that it looks like.
#[tokio::test]
async fn a_call_under_the_id_of_another_one_gets_nothing() {
    let call = |id: &str, n: u32| json!({"functionCall": {"id": id, "name": "look", "args": {"n": n}}});
    let signed = |id: &str, n: u32, state: &str| {
        let mut call = call(id, n);
        call["thoughtSignature"] = state.into();
        call
    };
    let model = |call: Value| json!({"role": "model", "parts": [call]});
    let output = |id: &str| {
        let response = json!({"id": id, "name": "look", "response": {"seen": true}});
        json!({"role": "user", "parts": [{"functionResponse": response}]})
    };
    let (one, other) = ("k3x9q7tz", "b8w2m5rv");
    let talk = Talk::new(Some("s"));
    talk.send(json!([ask("look")]), json!([signed(one, 1, STATE)])).await;
    let history = json!([ask("look"), model(call(one, 1)), output(one)]);
    talk.send(history, json!([signed(other, 2, "YW5vdGhlciBzaWduYXR1cmUgb2Y=")])).await;
    let edited = json!([ask("look"), model(call(one, 2)), output(one)]);
    assert_eq!(talk.send(edited.clone(), json!([{"text": "fine"}])).await, edited);
}

fn said(text: &str) -> Value {
    json!({"role": "model", "parts": [{"text": text}]})
}

/// A call without an id, the message that it is alone in, and its output.
fn nameless() -> [Value; 3] {
    let call = json!({"functionCall": {"name": "look", "args": {}}});
    let output = json!({"functionResponse": {"name": "look", "response": {"seen": true}}});
    let [model, user] =
        [("model", &call), ("user", &output)].map(|(role, part)| json!({"role": role, "parts": [part]}));
    [call, model, user]
}

/// Rule 7: of a history that was cut, what is left before a dropped call says whose it is.
#[tokio::test]
async fn a_dropped_call_without_id_comes_back_to_a_history_that_was_cut() {
    let [call, message, output] = nameless();
    let talk = Talk::new(Some("s"));
    talk.send(json!([ask("begin"), said("so"), ask("look")]), json!([call])).await;
    let upstream = talk.send(json!([ask("look"), output]), json!([{"text": "fine"}])).await;
    assert_eq!(upstream, json!([ask("look"), message, output]));
}

/// Rule 6: a neighbour that is the same does not help where those before it are others.
#[tokio::test]
async fn a_dropped_call_without_id_does_not_come_back_behind_other_neighbours() {
    let [call, _, output] = nameless();
    let talk = Talk::new(Some("s"));
    let asked = json!([ask("a"), said("b"), ask("c"), said("d"), ask("go on")]);
    talk.send(asked, json!([call])).await;
    let other = json!([ask("1"), said("2"), ask("3"), said("4"), ask("5"), said("6"), ask("go on"), output]);
    assert_eq!(talk.send(other.clone(), json!([{"text": "fine"}])).await, other);
}

/// Rule 13: in a session that may be many, a dropped call comes back under its own instruction only.
#[tokio::test]
async fn a_dropped_call_without_id_wants_the_same_instruction_where_the_session_proves_little() {
    let [call, message, output] = nameless();
    let talk = Talk::new(None);
    let body = |instruction: &str, contents: &Value| {
        let instruction = json!({"parts": [{"text": instruction}]});
        json!({"prompt_cache_key": "app", "systemInstruction": instruction, "contents": contents})
    };
    talk.send_body(body("one", &json!([ask("look")])), json!([call])).await;
    let history = json!([ask("look"), output]);
    let fine = json!([{"text": "fine"}]);
    assert_eq!(talk.send_body(body("two", &history), fine.clone()).await, history);
    let upstream = talk.send_body(body("one", &history), fine).await;
    assert_eq!(upstream, json!([ask("look"), message, output]));
}

/// Rules 2 and 6: two calls of a turn fit an output, and one of a later turn does so less well.
#[tokio::test]
async fn a_later_call_does_not_decide_between_two_that_an_output_may_answer() {
    let call = |name: &str| json!({"functionCall": {"name": name, "args": {}}});
    let output = |name: &str| json!({"functionResponse": {"name": name, "response": {"ok": 0}}});
    let talk = Talk::new(Some("s"));
    talk.send(json!([ask("go")]), json!([call("cat"), call("ls"), {"text": "sure, "}, call("ls")])).await;
    let kept = json!({"role": "model", "parts": [{"text": "sure, "}]});
    let outputs = json!({"role": "user", "parts": [output("cat"), output("ls"), output("ls")]});
    let before = talk.send(json!([ask("go"), kept, outputs]), json!([call("ls")])).await;
    let last = json!({"role": "user", "parts": [output("ls")]});
    let after = talk.send(json!([ask("go"), kept, outputs, last]), json!([{"text": "fine"}])).await;
    let before = before.as_array().unwrap();
    assert_eq!(&after.as_array().unwrap()[..before.len()], &before[..]);
}

/// Rule 13: what was kept of its turn, and is proven, proves a dropped call whose id does not.
#[tokio::test]
async fn a_dropped_call_with_a_counted_id_comes_back_beside_what_was_kept_of_its_turn() {
    let call = json!({"functionCall": {"id": "call_3", "name": "look", "args": {}}, "thoughtSignature": STATE});
    let output = json!({"role": "user", "parts": [
        {"functionResponse": {"id": "call_3", "name": "look", "response": {"seen": true}}}
    ]});
    let text = json!({"text": "so "});
    let talk = Talk::new(None);
    talk.send(json!([ask("look")]), json!([text, call])).await;
    let upstream = talk.send(json!([ask("look"), said("so "), output]), json!([{"text": "fine"}])).await;
    assert_eq!(upstream, json!([ask("look"), {"role": "model", "parts": [text, call]}, output]));
}

/// Rule 6: absent and empty arguments are the same, for the tools of the provider too.
#[tokio::test]
async fn a_server_tool_call_is_the_same_with_empty_arguments() {
    let signed = json!({"toolCall": {"id": "j425u3dm", "toolType": "FILE_SEARCH"}, "thoughtSignature": STATE});
    let kept = json!({"tool_call": {"id": "j425u3dm", "tool_type": "FILE_SEARCH", "args": { }}});
    let talk = Talk::new(Some("s"));
    talk.send(json!([ask("search")]), json!([signed, {"text": "found"}])).await;
    let history = json!([ask("search"), {"role": "model", "parts": [kept, {"text": "found"}]}, ask("and now?")]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1]["parts"][0]["thought_signature"], STATE);
}

/// The empty part on which a signature came is where it goes, also when each part is a message.
#[tokio::test]
async fn a_trailing_signature_goes_to_the_empty_part_in_the_next_message_of_the_model() {
    let talk = Talk::new(Some("s"));
    talk.send(json!([ask("hi")]), json!([{"text": "hello"}, {"text": "", "thoughtSignature": STATE}])).await;
    let model = |parts: Value| json!({"role": "model", "parts": parts});
    let history = json!([ask("hi"), model(json!([{"text": "hello"}])), model(json!([{"text": ""}])), ask("on")]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1]["parts"][0], json!({"text": "hello"}));
    assert_eq!(upstream[2]["parts"][0]["thoughtSignature"], STATE);
}

/// Rule 6: the empty part on which a signature came belongs to the text before it, also where a call comes back.
#[tokio::test]
async fn a_dropped_call_goes_behind_the_empty_part_that_carries_the_signature_of_a_text() {
    let call = json!({"functionCall": {"name": "look", "args": {}}});
    let (text, carrier) = (json!({"text": "so "}), json!({"text": "", "thoughtSignature": STATE}));
    let talk = Talk::new(Some("s"));
    talk.send(json!([ask("look")]), json!([text, carrier, call])).await;
    let output = json!({"functionResponse": {"name": "look", "response": {"seen": true}}});
    // A signature of the client's own cuts the run, so that the text is known alone.
    let own = json!({"text": "more", "thoughtSignature": "Zm9yZWlnbiBzaWduYXR1cmUgdmFsdWU"});
    let kept = json!({"role": "model", "parts": [text, {"text": ""}, own]});
    let history = json!([ask("look"), kept, {"role": "user", "parts": [output]}]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1]["parts"], json!([text, carrier, call, own]));
}

/// Rule 7: a client of the kind that makes a message of every event.
#[tokio::test]
async fn a_run_of_text_is_known_across_messages_of_the_model() {
    let talk = Talk::new(Some("s"));
    let chunk = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
    let answer = json!([{"text": "hel"}, {"text": "lo "}, {"text": "you"}, {"text": "", "thoughtSignature": STATE}]);
    talk.send(json!([ask("hi")]), answer).await;
    let history = json!([ask("hi"), chunk("hel"), chunk("lo "), chunk("you"), ask("on")]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1], chunk("hel"));
    assert_eq!(upstream[2], chunk("lo "));
    assert_eq!(upstream[3]["parts"][0], json!({"text": "you", "thoughtSignature": STATE}));
}

/// Messages of two turns side by side are known each on its own.
#[tokio::test]
async fn adjacent_messages_of_different_turns_are_told_apart() {
    let talk = Talk::new(Some("s"));
    let other = "YW5vdGhlciBzaWduYXR1cmUgb2YgbWFueQ==";
    let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
    talk.send(json!([ask("one")]), json!([{"text": "first", "thoughtSignature": STATE}])).await;
    talk.send(json!([ask("two")]), json!([{"text": "second", "thoughtSignature": other}])).await;
    let history = json!([ask("one"), model("first"), model("second"), ask("on")]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1]["parts"][0]["thoughtSignature"], STATE);
    assert_eq!(upstream[2]["parts"][0]["thoughtSignature"], other);
}

/// Clients drop empty text, so it is nothing that precedes a turn.
#[tokio::test]
async fn an_empty_part_that_is_kept_once_and_dropped_later_changes_no_history() {
    let talk = Talk::new(None);
    let call = json!({"functionCall": {"name": "look"}});
    let output = json!({"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {}}}]});
    let kept = json!({"role": "model", "parts": [call, {"text": ""}]});
    let answer = json!({"text": "seen", "thoughtSignature": STATE});
    talk.send(json!([ask("look"), kept, output]), json!([answer])).await;
    let bare = json!({"role": "model", "parts": [call]});
    let text = json!({"role": "model", "parts": [{"text": "seen"}]});
    let upstream = talk.send(json!([ask("look"), bare, output, text, ask("on")]), json!([{"text": "fine"}])).await;
    assert_eq!(upstream[3]["parts"][0], answer);
}

/// Rule 6: equal content comes before the one signed chunk of a run.
#[tokio::test]
async fn a_chunk_does_not_take_what_belongs_to_the_whole_run() {
    let talk = Talk::new(Some("s"));
    let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
    talk.send(json!([ask("one")]), json!([{"text": "done. "}])).await;
    let history = [ask("one"), model("done. "), ask("two")];
    let answer = json!([{"text": "done. ", "thoughtSignature": STATE}, {"text": "sure"}]);
    talk.send(json!(history), answer).await;
    let [one, first, two] = history;
    let history = json!([one, first, two, model("done. sure"), ask("three")]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1], model("done. "));
    assert_eq!(upstream[3]["parts"][0]["thoughtSignature"], STATE);
}

/// Rule 6: equal unsigned parts that already stood there when the turn was made count.
#[tokio::test]
async fn a_part_that_stood_there_already_does_not_get_the_state_of_a_later_one() {
    let talk = Talk::new(Some("s"));
    let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
    let [one, two, three] = ["one", "two", "three"].map(ask);
    talk.send(json!([one]), json!([{"text": "ok"}])).await;
    talk.send(json!([one, model("ok"), two]), json!([{"text": "ok", "thoughtSignature": STATE}])).await;
    // Another answer is asked for.
    let branch = json!([one, model("ok"), three]);
    assert_eq!(talk.send(branch.clone(), json!([{"text": "fine"}])).await, branch);
    // The head is cut off.
    let upstream = talk.send(json!([two, model("ok"), three]), json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1]["parts"][0]["thoughtSignature"], STATE);
    let history = json!([one, model("ok"), two, model("ok"), three]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1], model("ok"));
    assert_eq!(upstream[3]["parts"][0]["thoughtSignature"], STATE);
}

/// The pieces of a run come after whole parts, but not after those with less proof.
#[tokio::test]
async fn a_run_in_pieces_keeps_its_state_from_an_equal_part_of_another_turn() {
    let talk = Talk::new(Some("s"));
    let other = "YW5vdGhlciBzaWduYXR1cmUgb2YgbWFueQ==";
    let answer = json!([
        {"text": "wait"}, {"text": "", "thoughtSignature": other}, {"text": "ok", "thoughtSignature": STATE}
    ]);
    talk.send(json!([ask("one")]), answer).await;
    let first = json!({"role": "model", "parts": [{"text": "wait"}, {"text": ""}, {"text": "ok"}]});
    let second = json!({"role": "model", "parts": [{"text": "ok"}]});
    let history = json!([ask("one"), first, ask("two"), second, ask("three")]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1]["parts"][1]["thoughtSignature"], other);
    assert_eq!(upstream[1]["parts"][2]["thoughtSignature"], STATE);
    assert_eq!(upstream[3], second);
}

#[tokio::test]
async fn a_chunk_of_a_run_is_known_only_where_the_run_was() {
    let talk = Talk::new(Some("s"));
    let model = |text: &str| json!({"role": "model", "parts": [{"text": text}]});
    let answer = json!([{"text": "ok", "thoughtSignature": STATE}, {"text": ", then"}]);
    talk.send(json!([ask("one"), model("ok"), ask("two")]), answer).await;
    let history = json!([ask("one"), model("ok"), ask("two"), model("ok, changed"), ask("three")]);
    assert_eq!(talk.send(history.clone(), json!([{"text": "fine"}])).await, history);
    let pieces = json!({"role": "model", "parts": [{"text": "ok"}, {"text": ", changed"}]});
    let history = json!([ask("one"), model("ok"), ask("two"), pieces, ask("three")]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1], model("ok"));
    assert_eq!(upstream[3]["parts"][0]["thoughtSignature"], STATE);
}

/// Rule 2: the same history gives the same bytes on every turn.
#[tokio::test]
async fn equal_calls_without_ids_come_back_where_they_were_made() {
    let talk = Talk::new(Some("s"));
    let call = json!({"role": "model", "parts": [{"functionCall": {"name": "look", "args": {}}}]});
    let seen = |what: u8| {
        let output = json!({"functionResponse": {"name": "look", "response": {"seen": what % 2}}});
        json!({"role": "user", "parts": [output]})
    };
    let (mut history, mut whole) = (vec![ask("look")], vec![ask("look")]);
    for turn in 0..6 {
        let upstream = talk.send(json!(history), call["parts"].clone()).await;
        assert_eq!(upstream, json!(whole));
        history.push(seen(turn));
        whole.extend([call.clone(), seen(turn)]);
    }
}

/// Rule 6: a dropped call returns in its order among what was kept of its turn.
#[tokio::test]
async fn a_dropped_call_stands_before_what_followed_it_in_another_message() {
    let talk = Talk::new(Some("s"));
    let call = json!({"functionCall": {"id": "k3x9q7tz", "name": "look", "args": {}}, "thoughtSignature": STATE});
    talk.send(json!([ask("look")]), json!([call, {"text": "so "}, {"inlineData": {"data": "aW1n"}}])).await;
    let model = |part: Value| json!({"role": "model", "parts": [part]});
    let (text, media) = (json!({"text": "so "}), model(json!({"inlineData": {"data": "aW1n"}})));
    let output = json!({"functionResponse": {"id": "k3x9q7tz", "name": "look", "response": {}}});
    let output = json!({"role": "user", "parts": [output]});
    let history = json!([ask("look"), model(text.clone()), media, output]);
    let upstream = talk.send(history, json!([{"text": "fine"}])).await;
    assert_eq!(upstream[1], json!({"role": "model", "parts": [call, text]}));
    assert_eq!((&upstream[2], &upstream[3]), (&media, &output));
}
