use bytes::Bytes;
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{request, *};
use crate::{
    Engine, MemoryStore,
    dialect::{Author, Recorder},
    engine::{Answer, Fallback, Remedy},
};

const STATE: &str = "gAAAAABone-of-many-that-are-made-up";

/// A provider and a client around one engine.
struct Talk {
    engine: Engine,
    store: MemoryStore,
}

impl Talk {
    fn new() -> Self {
        let store = MemoryStore::new();
        let engine = Engine::builder(store.clone()).fallback(Fallback::Off).build().unwrap();
        Self { engine, store }
    }

    async fn prepare(&self, path: &str, body: &Value) -> crate::engine::Exchange {
        let request = Request::post(format!("https://api.openai.com{path}"));
        let request = request.header(CONTENT_TYPE, "application/json").header("x-session-id", "s");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let watch = self.engine.watch(&head).unwrap();
        self.engine.prepare(watch, &head, Bytes::from(body.to_string())).await
    }

    /// Sends this body, which gets this answer; gives what went upstream.
    async fn exchange(&self, body: Value, answer: &str) -> Value {
        let mut exchange = self.prepare("/v1/responses", &body).await;
        let upstream: Value = serde_json::from_slice(&exchange.body()).unwrap();
        let (head, ()) = http::Response::new(()).into_parts();
        let Answer::Observe(mut observer) = exchange.answer(&head) else { panic!("it is observed") };
        let first = observer.feed(answer.as_bytes());
        for commit in [first, observer.finish()].into_iter().flatten() {
            commit.run().await;
        }
        upstream
    }

    /// Sends this input; gives the input that went upstream.
    async fn send(&self, input: Value, answer: Value) -> Value {
        let answer = json!({"object": "response", "status": "completed", "output": answer}).to_string();
        self.exchange(json!({"model": "gpt-5", "input": input}), &answer).await["input"].clone()
    }
}

fn ask(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn reasoning() -> Value {
    json!({"type": "reasoning", "id": "rs_1a2b3c4d5e", "summary": [], "encrypted_content": STATE})
}

fn call(id: &str) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"), "name": "look",
        "arguments": "{\"at\": [1, 2], \"deep\": true}"
    })
}

fn seen(id: &str) -> Value {
    json!({"type": "function_call_output", "call_id": format!("call_{id}"), "output": "nothing"})
}

fn message(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1a2b3c4d5e", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": text, "annotations": []}
    ]})
}

/// An item without these members.
fn without(item: &Value, gone: &[&str]) -> Value {
    let mut item = item.clone();
    gone.iter().for_each(|gone| drop(item.as_object_mut().unwrap().remove(*gone)));
    item
}

fn fine() -> Value {
    json!([message("fine")])
}

#[test]
fn the_paths_are_those_that_carry_a_history() {
    let route = |path: &str| Responses.route(&Method::POST, &path.parse().unwrap()).map(|route| route.operation);
    for path in [
        "/v1/responses",
        "/responses",
        "/openai/responses?api-version=2025-04-01-preview",
        "/openai/v1/responses",
        "/backend-api/codex/responses",
        "/api/v1/responses",
    ] {
        assert_eq!(route(path), Some(Operation::Generate), "{path}");
    }
    for path in ["/v1/responses/input_tokens", "/v1/responses/compact"] {
        assert_eq!(route(path), Some(Operation::Count), "{path}");
    }
    for path in ["/v1/responses/resp_1/cancel", "/v1/responses/resp_1/input_items", "/v1/chat/completions", "/compact"]
    {
        assert_eq!(route(path), None, "{path}");
    }
    assert!(Responses.route(&Method::GET, &"/v1/responses".parse().unwrap()).is_none());
}

/// The kinds of the parts, and who speaks.
fn read(body: &Value) -> Vec<(PartKind, Author, bool)> {
    let body = body.to_string();
    let history = request::read(body.as_bytes(), History::default()).unwrap();
    let parts = history.parts.iter();
    parts.map(|part| (part.kind, history.messages[part.message].author, part.slot.is_missing())).collect()
}

#[test]
fn items_are_told_apart() {
    use Author::{Client, Model};
    let input = json!([
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "data:image/png;base64,aW1n"}
        ]},
        {"role": "assistant", "content": "so"},
        {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "text"},
        {"type": "local_shell_call", "call_id": "d", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "q"}},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": STATE},
        {"type": "compaction", "id": "cmp_2"},
        {"type": "item_reference", "id": "rs_2"},
        {"type": "of_next_year", "what": 1}
    ]);
    let expected = [
        (PartKind::Text, Client, false),
        (PartKind::Text, Client, false),
        (PartKind::Media, Client, false),
        (PartKind::Text, Model, true),
        (PartKind::Call, Model, true),
        (PartKind::Call, Model, true),
        (PartKind::Output, Client, false),
        (PartKind::Native, Model, true),
        (PartKind::Native, Model, false),
        (PartKind::Native, Model, true),
        (PartKind::Native, Model, false),
        (PartKind::Native, Model, true),
    ];
    assert_eq!(read(&json!({"input": input})), expected);
    assert_eq!(read(&json!({"input": "hi"})), [(PartKind::Text, Client, false)]);
    let body = json!({"input": input, "previous_response_id": "resp_1"});
    assert!(read(&body).iter().all(|(.., missing)| !missing));
    let body = json!({"input": input, "conversation": {"id": "conv_1"}, "previous_response_id": null});
    assert!(read(&body).iter().all(|(.., missing)| !missing));
}

#[test]
fn what_is_not_understood_is_not_read() {
    for body in [
        r#"{"input":[1]}"#,
        r#"{"input":[],"input":[]}"#,
        r#"{"input":[{"role":"user","role":"assistant","content":"x"}]}"#,
        r#"{"input":[{"type":"function_call","call_id":"a","call_id":"b"}]}"#,
        r#"{"input":[{"type":"reasoning","encrypted_content":"a","encrypted_content":"b"}]}"#,
        r#"{"input":[{"type":"custom_tool_call","call_id":"c","input":"a","input":"b"}]}"#,
        r#"{"model":"a","model":"a"}"#,
        r#"{"store":true,"store":false}"#,
        r#"{"input":[}"#,
        "[]",
    ] {
        assert!(request::read(body.as_bytes(), History::default()).is_err(), "{body}");
    }
    for body in ["{}", r#"{"input":null}"#, r#"{"input":[{}]}"#, r#"{"input":[{"type":"reasoning"}]}"#] {
        assert!(request::read(body.as_bytes(), History::default()).is_ok(), "{body}");
    }
}

#[test]
fn damaged_bodies_and_events_do_no_harm() {
    let key = HashKey::from_bytes([7; 32]);
    let limits = RecorderLimits { min_state: 16, max_state: 1 << 20, max_parts: 100, max_bytes: 1 << 20 };
    let items = json!([reasoning(), call("x1"), message("so"), {"type": "web_search_call", "action": {"query": "q"}}]);
    let body = json!({"model": "gpt-5", "store": false, "input": items}).to_string();
    let answer = json!({"type": "response.completed", "response": {"object": "response", "output": items}}).to_string();
    let try_both = |bytes: &[u8]| {
        if crate::wire::json::is_utf8(bytes) {
            let _ = request::read(bytes, History::default());
        }
        let mut recorder = response::ResponsesRecorder::new(&key, limits, Arc::default());
        recorder.event(bytes);
        recorder.turn(true);
    };
    for text in [body, answer] {
        for at in 0..text.len() {
            let bytes = text.as_bytes();
            try_both(&bytes[..at]);
            try_both(&[&bytes[..at], &bytes[at + 1..]].concat());
            for byte in [b'"', b'[', b'}', b'0', b'\\', 0xff] {
                try_both(&[&bytes[..at], &[byte], &bytes[at + 1..]].concat());
            }
        }
    }
}

/// R6, R13: the reasoning is back before the call that it led to, with its id as the call has one.
#[tokio::test]
async fn reasoning_returns_before_what_it_led_to() {
    let talk = Talk::new();
    let answer = json!([reasoning(), call("x1"), call("x2")]);
    talk.send(json!([ask("look")]), answer).await;
    let history = json!([ask("look"), call("x1"), call("x2"), seen("x1"), seen("x2")]);
    let upstream = talk.send(history, fine()).await;
    let whole = json!([ask("look"), reasoning(), call("x1"), call("x2"), seen("x1"), seen("x2")]);
    assert_eq!(upstream, whole);
    // Where the call lost its id, nothing looks for the one of the reasoning.
    let bare = without(&call("x1"), &["id"]);
    let upstream = talk.send(json!([ask("look"), bare, seen("x1")]), fine()).await;
    assert_eq!(upstream, json!([ask("look"), without(&reasoning(), &["id"]), bare, seen("x1")]));
    // R10: an empty id is none.
    let mut empty = call("x1");
    empty["id"] = "".into();
    let upstream = talk.send(json!([ask("look"), empty, seen("x1")]), fine()).await;
    assert_eq!(upstream[1], without(&reasoning(), &["id"]));
}

/// R5: never without what follows it.
#[tokio::test]
async fn reasoning_stays_out_where_what_it_led_to_is_gone() {
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([reasoning(), message("first"), call("x1")])).await;
    let history = json!([ask("look"), call("x1"), seen("x1")]);
    assert_eq!(talk.send(history.clone(), fine()).await, history);
    let edited = json!([ask("look"), message("another"), ask("on")]);
    assert_eq!(talk.send(edited.clone(), fine()).await, edited);
}

/// R9: what is there is not put in again.
#[tokio::test]
async fn reasoning_that_the_client_kept_stays_alone() {
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([reasoning(), call("x1")])).await;
    let elsewhere = {
        // Encrypted anew, as every serialization is.
        let mut kept = reasoning();
        kept["encrypted_content"] = "gAAAAABthe-same-but-encrypted-once-more".into();
        kept
    };
    let reference = json!({"type": "item_reference", "id": "rs_1a2b3c4d5e"});
    let stored = without(&reasoning(), &["encrypted_content"]);
    for kept in [reasoning(), elsewhere, reference, stored] {
        let history = json!([ask("look"), kept, call("x1"), seen("x1")]);
        assert_eq!(talk.send(history.clone(), fine()).await, history);
    }
}

/// R7, R11: the state goes back into what was left of its item.
#[tokio::test]
async fn reasoning_without_its_state_gets_it_back_where_nothing_is_stored() {
    let talk = Talk::new();
    let mut spoken = reasoning();
    spoken["summary"] =
        json!([{"type": "summary_text", "text": "I look. "}, {"type": "summary_text", "text": "Then I see."}]);
    for whole in [reasoning(), spoken] {
        talk.send(json!([ask("look")]), json!([whole, call("x1")])).await;
        let mut blank = whole.clone();
        blank["encrypted_content"] = Value::Null;
        for kept in [without(&whole, &["encrypted_content"]), blank] {
            let input = json!([ask("look"), kept, call("x1"), seen("x1")]);
            let body = json!({"model": "gpt-5", "store": false, "input": input});
            let upstream = talk.exchange(body, "{}").await;
            assert_eq!(upstream["input"], json!([ask("look"), whole, call("x1"), seen("x1")]));
        }
    }
}

/// R8: a call of which only the output was kept returns with its reasoning.
#[tokio::test]
async fn a_dropped_call_returns_with_its_reasoning() {
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([reasoning(), call("x1"), call("x2")])).await;
    let upstream = talk.send(json!([ask("look"), seen("x1"), seen("x2")]), fine()).await;
    assert_eq!(upstream, json!([ask("look"), reasoning(), call("x1"), call("x2"), seen("x1"), seen("x2")]));
    let upstream = talk.send(json!([ask("look"), call("x2"), seen("x1"), seen("x2")]), fine()).await;
    assert_eq!(upstream, json!([ask("look"), reasoning(), call("x1"), call("x2"), seen("x1"), seen("x2")]));
    // An output whose call is referred to lacks nothing.
    let reference = json!({"type": "item_reference", "id": "fc_x1"});
    let history = json!([ask("look"), reference, seen("x1")]);
    assert_eq!(talk.send(history.clone(), fine()).await, history);
}

/// The provider has what it stored: an id is all that goes back, if it is looked for by one.
#[tokio::test]
async fn stored_reasoning_returns_as_its_id() {
    let stored = without(&reasoning(), &["encrypted_content"]);
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([stored, call("x1")])).await;
    let history = json!([ask("look"), call("x1"), seen("x1")]);
    let whole = json!([ask("look"), stored, call("x1"), seen("x1")]);
    assert_eq!(talk.send(history.clone(), fine()).await, whole);
    assert_eq!(talk.send(whole.clone(), fine()).await, whole);
    let bare = json!([ask("look"), without(&call("x1"), &["id"]), seen("x1")]);
    assert_eq!(talk.send(bare.clone(), fine()).await, bare);
    let body = json!({"model": "gpt-5", "store": false, "input": history});
    assert_eq!(talk.exchange(body.clone(), "{}").await, body);
    // What was not stored is nothing to refer to.
    let talk = Talk::new();
    let answer = json!({"object": "response", "status": "completed", "store": false, "output": [stored, call("x1")]});
    talk.exchange(json!({"model": "gpt-5", "input": [ask("look")]}), &answer.to_string()).await;
    assert_eq!(talk.send(history.clone(), fine()).await, history);
}

/// Reasoning that is shown in full is state too.
#[tokio::test]
async fn shown_reasoning_returns() {
    let shown = json!({
        "type": "reasoning", "id": "6f9a", "summary": [], "content": [{"type": "reasoning_text", "text": "I look."}]
    });
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([shown, call("x1")])).await;
    let upstream = talk.send(json!([ask("look"), call("x1"), seen("x1")]), fine()).await;
    assert_eq!(upstream[1], shown);
    let history = json!([ask("look"), without(&shown, &["id"]), call("x1"), seen("x1")]);
    assert_eq!(talk.send(history.clone(), fine()).await, history);
}

/// R15: what was cut off at a limit is put back only if it is opaque.
#[tokio::test]
async fn shown_reasoning_of_a_truncated_answer_stays_out() {
    let shown = json!({
        "type": "reasoning", "id": "6f9a", "summary": [], "content": [{"type": "reasoning_text", "text": "I look."}]
    });
    for (first, returns) in [(shown, false), (reasoning(), true)] {
        let talk = Talk::new();
        let answer = json!({"object": "response", "status": "incomplete", "output": [first, message("so")]});
        talk.exchange(json!({"model": "gpt-5", "input": [ask("look")]}), &answer.to_string()).await;
        let upstream = talk.send(json!([ask("look"), message("so"), ask("on")]), fine()).await;
        assert_eq!(upstream[1] == first, returns, "{upstream}");
    }
}

/// Messages of one answer are parts of their own: what is said before calls, and the answer.
#[tokio::test]
async fn several_messages_of_one_answer_are_known() {
    let talk = Talk::new();
    let later = json!({"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAAABtwo-of-many-that-are-made-up"});
    let mut second = message("Here it is.");
    second["id"] = "msg_2".into();
    let answer = json!([reasoning(), message("I look first."), later, second]);
    talk.send(json!([ask("look")]), answer.clone()).await;
    let upstream = talk.send(json!([ask("look"), answer[1], answer[3], ask("on")]), fine()).await;
    assert_eq!(upstream, json!([ask("look"), answer[0], answer[1], answer[2], answer[3], ask("on")]));
}

/// A compaction item and its id belong together.
#[tokio::test]
async fn a_compaction_item_gets_its_state_by_its_id() {
    let talk = Talk::new();
    let whole = json!({"type": "compaction", "id": "cmp_1", "encrypted_content": STATE});
    talk.send(json!([ask("look")]), json!([message("so"), whole])).await;
    let kept = without(&whole, &["encrypted_content"]);
    assert_eq!(talk.send(json!([kept, ask("on")]), fine()).await, json!([whole, ask("on")]));
    for other in [json!({"type": "compaction"}), json!({"type": "compaction", "id": "cmp_2"})] {
        let history = json!([other, ask("on")]);
        assert_eq!(talk.send(history.clone(), fine()).await, history);
    }
}

/// Nothing is put into a history that the provider keeps.
#[tokio::test]
async fn a_request_that_goes_on_from_a_response_is_left_alone() {
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([reasoning(), call("x1")])).await;
    for member in ["previous_response_id", "conversation"] {
        let body = json!({"model": "gpt-5", member: "resp_1", "input": [seen("x1")]});
        assert_eq!(talk.exchange(body.clone(), "{}").await, body);
    }
}

/// What counts or compacts an input is patched like it, and nothing is learned from it.
#[tokio::test]
async fn counts_and_compactions_are_patched_and_not_learned_from() {
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([reasoning(), call("x1")])).await;
    let body = json!({"model": "gpt-5", "input": [ask("look"), call("x1"), seen("x1")]});
    for path in ["/v1/responses/input_tokens", "/v1/responses/compact"] {
        let mut exchange = talk.prepare(path, &body).await;
        let upstream: Value = serde_json::from_slice(&exchange.body()).unwrap();
        assert_eq!(upstream["input"][1], reasoning());
        let (head, ()) = http::Response::new(()).into_parts();
        assert!(matches!(exchange.answer(&head), Answer::Pass));
    }
}

fn event(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
}

fn done(index: usize, item: &Value) -> String {
    event(&json!({"type": "response.output_item.done", "output_index": index, "item": item}))
}

/// Items are those that were done, whatever the end of the stream repeats of them.
#[tokio::test]
async fn the_items_of_a_stream_are_those_that_were_done() {
    let stub = {
        let mut stub = reasoning();
        stub["encrypted_content"] = "gAAAAABstub-of-what-is-to-come".into();
        event(&json!({"type": "response.output_item.added", "output_index": 0, "item": stub}))
    };
    let mut again = reasoning();
    again["encrypted_content"] = "gAAAAABthe-same-but-encrypted-once-more".into();
    again["id"] = "rs_rotated".into();
    let end = |output: &Value| {
        event(
            &json!({"type": "response.completed", "response": {"object": "response", "status": "completed", "output": output}}),
        )
    };
    let keepalive = event(&json!({"type": "keepalive"}));
    let both = [done(1, &call("x1")), done(0, &reasoning())].concat();
    let alike = [done(0, &reasoning()), done(0, &call("x1")), done(0, &call("x1"))].concat();
    for stream in [
        [&*stub, &keepalive, &both, &end(&json!([again, call("x1")]))].concat(),
        [&*both, &end(&json!([]))].concat(),
        [&*alike, &end(&json!([again, call("x1")]))].concat(),
        [&*done(0, &reasoning()), &end(&json!([again, call("x1")]))].concat(),
        end(&json!([reasoning(), call("x1")])),
        [&*both, &end(&json!([])), &done(0, &message("of another"))].concat(),
    ] {
        let talk = Talk::new();
        talk.exchange(json!({"model": "gpt-5", "input": [ask("look")]}), &stream).await;
        let upstream = talk.send(json!([ask("look"), call("x1"), seen("x1")]), fine()).await;
        assert_eq!(upstream, json!([ask("look"), reasoning(), call("x1"), seen("x1")]), "{stream}");
    }
}

/// Rule 9: without its end nothing of an answer is kept, and after an error neither.
#[tokio::test]
async fn what_did_not_end_well_is_not_kept() {
    let both = [done(0, &reasoning()), done(1, &call("x1"))].concat();
    let failed =
        event(&json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}}));
    let error = event(&json!({"type": "error", "code": "server_error", "message": "no"}));
    let document = json!({"object": "response", "status": "failed", "output": [reasoning(), call("x1")]}).to_string();
    let queued = json!({"object": "response", "status": "queued", "output": []}).to_string();
    let relayed = "data: {\"error\":{\"message\":\"no\"}}\n\n".to_owned();
    for answer in [
        both.clone(),
        [&*both, &failed].concat(),
        [&*both, &error].concat(),
        [&*both, &relayed].concat(),
        document,
        queued,
    ] {
        let talk = Talk::new();
        talk.exchange(json!({"model": "gpt-5", "input": [ask("look")]}), &answer).await;
        assert_eq!(talk.store.snapshot().turns, 0, "{answer}");
    }
}

/// R1, R14: the complete item is dropped with what was refused of it.
#[tokio::test]
async fn refused_reasoning_is_taken_out_as_a_whole() {
    let talk = Talk::new();
    talk.send(json!([ask("look")]), json!([reasoning(), call("x1")])).await;
    let body = json!({"model": "gpt-5", "input": [ask("look"), call("x1"), seen("x1")]});
    let mut exchange = talk.prepare("/v1/responses", &body).await;
    assert_ne!(serde_json::from_slice::<Value>(&exchange.body()).unwrap(), body);
    let mut head = http::Response::new(()).into_parts().0;
    head.status = StatusCode::BAD_REQUEST;
    assert!(matches!(exchange.answer(&head), Answer::Hold(_)));
    let error = json!({"error": {"code": "invalid_encrypted_content", "message": "could not be verified"}}).to_string();
    let remedy = exchange.refused(head.status, error.as_bytes()).await;
    let Remedy::Retry(again) = remedy else { panic!("it is sent again") };
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), body);
}

#[test]
fn events_that_make_no_sense_are_not_observed() {
    let key = HashKey::from_bytes([7; 32]);
    let limits = RecorderLimits { min_state: 16, max_state: 1 << 20, max_parts: 3, max_bytes: 1_000 };
    let recorder = || response::ResponsesRecorder::new(&key, limits, Arc::default());
    for json in [
        &b"{"[..],
        b"\xff",
        b"{\"type\":\"response.output_item.done\",\"item\":1}",
        b"{\"type\":\"response.completed\",\"response\":[]}",
        b"{\"type\":\"response.output_item.done\",\"item\":{},\"item\":{}}",
    ] {
        assert!(recorder().event(json).unobservable, "{}", String::from_utf8_lossy(json));
    }
    let item = |index: usize| {
        json!({"type": "response.output_item.done", "output_index": index, "item": call(&index.to_string())})
            .to_string()
    };
    let mut held = recorder();
    let last = (0..4).map(|index| held.event(item(index).as_bytes())).last().unwrap();
    assert!(last.over_bounds && last.unobservable);
    assert!(held.turn(true).is_empty());
}

/// Rule 6: absent and empty arguments are the same, however a client or a provider writes them.
#[test]
fn arguments_that_say_nothing_are_the_same() {
    let key = HashKey::from_bytes([7; 32]);
    let anchor = |arguments: &str| {
        let item = format!("{{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\"{arguments}}}");
        let mut parts = Vec::new();
        request::item(&mut Cursor::new(item.as_bytes()), 0, &mut parts).unwrap();
        parts[0].anchor(&key, None).unwrap()
    };
    for nothing in [r#","arguments":"""#, r#","arguments":"{}""#, r#","arguments":" null ""#, r#","arguments":"null""#]
    {
        assert_eq!(anchor(nothing), anchor(""), "{nothing}");
    }
    assert_ne!(anchor(r#","arguments":"[null]""#), anchor(""));
    assert_ne!(anchor(r#","arguments":"nul""#), anchor(""));
}

#[test]
fn an_item_has_the_id_and_the_state_that_its_reader_finds() {
    for item in [
        r#"{"type":"message","role":"assistant","id":"msg_1","content":[{"type":"output_text","text":"a","id":"b"}]}"#,
        r#"{"type":"message","role":"assistant","id":"","content":"a"}"#,
        r#"{"type":"message","role":"assistant","id":null,"content":"a"}"#,
        r#"{"type":"function_call","i\u0064":"fc_1","call_id":"c","name":"f","arguments":"{}"}"#,
        r#"{"type":"reasoning","summary":[],"encrypted_content":"abc"}"#,
        r#"{"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":""}"#,
        r#"{"type":"reasoning","id":"rs_3","content":[{"type":"reasoning_text","text":"so"}],"summary":[]}"#,
        r#"{"type":"reasoning","id":"rs_1","#,
        "[]",
    ] {
        let mut parts = Vec::new();
        let read = request::item(&mut Cursor::new(item.as_bytes()), 0, &mut parts).ok();
        assert_eq!(has_id(item.as_bytes()), read.as_ref().map(|read| read.id.is_some()), "{item}");
        let held = parts.iter().any(|part| matches!(part.slot, Slot::Held(_)));
        assert_eq!(has_state(item.as_bytes()), read.map(|_| held), "{item}");
    }
}
