//! Rule 14: what happens after a provider refused a request.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    Fallback, MemoryStore, OnStoreError, ReplayLayer, Report, Sentinel, Store,
    engine::{Builder, Event, Summary},
    testing::gemini::{GeminiProvider, InvalidWording, Refusals, Sentinels},
};

use crate::support::{
    assert_same,
    body::{BodyError, Scripted, Step, bytes, trailers},
    data,
    gemini::*,
    now,
    rig::{Got, Rig, drain},
    same,
    service::{Act, Ready, frames, refusal, refusal_as, whole},
    store::{Mode, TestStore},
};

const BASE64: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

fn rig(configure: impl FnOnce(Builder) -> Builder) -> Rig {
    Rig::with(TestStore::new(), [], configure)
}

fn ok() -> Act {
    whole("{}")
}

/// Posts the follow-up and gets these answers.
async fn follow_up(rig: &Rig, acts: impl IntoIterator<Item = Act>) -> Got {
    for act in acts {
        rig.inner.will(act);
    }
    rig.post(GENERATE, FOLLOW_UP).await
}

fn bodies(rig: &Rig) -> Vec<String> {
    rig.inner.seen().iter().map(|seen| seen.text()).collect()
}

/// Rule 14: *missing* is answered by one more request, with a sentinel where nothing is known.
#[tokio::test]
async fn missing_state_gets_a_sentinel() {
    for (form, value) in [(Sentinel::Literal, SENTINEL), (Sentinel::Base64, BASE64)] {
        let rig = rig(|builder| builder.sentinel(form));
        let got = follow_up(&rig, [refusal(400, error(400, MISSING)), ok()]).await;
        assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "{}"));
        assert_eq!(bodies(&rig), [FOLLOW_UP.to_owned(), restored_with(value)]);
        let report = got.report();
        assert!(report.healed && report.sentinels == 1);
        let (one, two) = (&rig.inner.seen()[0], &rig.inner.seen()[1]);
        assert_eq!((&one.method, &one.uri, &one.headers), (&two.method, &two.uri, &two.headers));
        assert_eq!((rig.count(Event::Retried), rig.count(Event::Healed), rig.store.removes()), (1, 1, 0));
    }
}

/// Rule 14: the answer of the second attempt is observed like any other.
#[tokio::test]
async fn the_second_answer_is_learned() {
    let rig = rig(|builder| builder);
    let got = follow_up(&rig, [refusal(400, error(400, MISSING)), whole(document())]).await;
    assert_eq!(got.report().learned, 2);
}

/// `content-length` is made anew for the second attempt too.
#[tokio::test]
async fn the_second_attempt_has_its_own_length() {
    let rig = rig(|builder| builder);
    rig.inner.will(refusal(400, error(400, MISSING))).will(ok());
    let mut request = request(GENERATE, FOLLOW_UP);
    request.headers_mut().insert("content-length", FOLLOW_UP.len().into());
    rig.exchange(request).await;
    assert_eq!(rig.inner.last().headers["content-length"], restored_with(SENTINEL).len().to_string());
}

/// Rule 14: if the second attempt fails in any way, the client gets the first answer, byte for byte.
#[tokio::test]
async fn the_first_answer_comes_back_byte_for_byte() {
    let text = error(400, MISSING);
    let parts = cut(&text, 50);
    let mut seconds: Vec<Option<Act>> =
        [400, 404, 422, 429, 500, 503].iter().map(|status| Some(refusal(*status, error(*status, MISSING)))).collect();
    seconds.push(Some(Act::Fail(3)));
    // The fresh clone never becomes ready.
    seconds.push(None);
    for second in seconds {
        let rig = rig(|builder| builder);
        let steps = parts.iter().cloned().flat_map(|part| [Step::Pending, Step::Data(part)]);
        rig.inner.will(refusal_as(400, Scripted::new(steps.chain([Step::Trailers(trailers())]))));
        let attempts = if let Some(second) = second {
            rig.inner.will(second);
            2
        } else {
            rig.inner.readiness([Ready::Yes, Ready::NotYet, Ready::Fail(8)]);
            1
        };
        let got = rig.post(GENERATE, FOLLOW_UP).await;
        assert_eq!(got.status, 400);
        assert_eq!(got.headers["x-first"], "yes");
        assert_same(&got.frames, &parts);
        assert_eq!(got.trailers, Some(trailers()));
        assert_eq!((got.error, rig.inner.seen().len()), (None, attempts));
        // Only success is remembered.
        assert_eq!(follow_up(&rig, [ok()]).await.report().sentinels, 0);
    }
}

/// Rule 14: the second attempt waits until its clone is ready.
#[tokio::test]
async fn the_second_attempt_waits_for_readiness() {
    let rig = rig(|builder| builder);
    rig.inner.readiness([Ready::Yes, Ready::NotYet, Ready::NotYet, Ready::Yes]);
    let got = follow_up(&rig, [refusal(400, error(400, MISSING)), ok()]).await;
    assert_eq!(got.text(), "{}");
    let seen = rig.inner.seen();
    assert_ne!(seen[0].instance, seen[1].instance);
}

/// Rule 14: there is no second attempt if it would be the first again.
#[tokio::test]
async fn nothing_is_sent_again_unchanged() {
    let rig = rig(|builder| builder.fallback(Fallback::Off));
    let got = follow_up(&rig, [refusal(400, error(400, MISSING))]).await;
    assert_eq!((got.status.as_u16(), got.text()), (400, error(400, MISSING)));
    assert_eq!(rig.inner.seen().len(), 1);
    // Nothing lacks state, nothing was put in: whatever the error says.
    for message in [MISSING, INVALID, STRUCTURE] {
        rig.inner.will(refusal(400, error(400, message)));
        rig.post(GENERATE, complete()).await;
        rig.inner.will(refusal(400, error(400, message)));
        rig.post(GENERATE, QUESTION).await;
    }
    assert_eq!(rig.inner.seen().len(), 7);
    assert_eq!(rig.store.removes(), 0);
}

/// Rule 14: an error that is not about state forgets nothing and is not answered.
#[tokio::test]
async fn other_errors_forget_nothing() {
    let rig = rig(|builder| builder);
    rig.learn().await;
    let messages = [
        "The model is overloaded.",
        "Resource has been exhausted (e.g. check quota).",
        "Invalid JSON payload received. Unknown name \"id\" at 'contents[1].parts[0].function_call': Cannot find field.",
        "API key not valid. Please pass a valid API key.",
        "The token count (1200000) exceeds the maximum number of tokens allowed.",
        "",
    ];
    for status in [400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 529] {
        for message in messages {
            let seen = rig.inner.seen().len();
            let got = follow_up(&rig, [refusal(status, error(status, message))]).await;
            assert_eq!((got.status.as_u16(), got.text()), (status, error(status, message)));
            assert_eq!(rig.inner.seen().len(), seen + 1, "{status} {message}");
        }
    }
    assert_eq!(rig.store.removes(), 0);
    follow_up(&rig, [ok()]).await;
    assert_eq!(rig.inner.last().text(), restored());
}

/// Rule 14: what a model says about signatures is no error.
#[tokio::test]
async fn a_model_may_talk_about_signatures() {
    let rig = rig(|builder| builder);
    rig.learn().await;
    let text =
        event(&[json!({"text": "error: Corrupted thought signature. Invalid thought_signature."})], Some("STOP"));
    for (uri, body) in [(GENERATE, text.to_string()), (STREAM, sse(std::slice::from_ref(&text)))] {
        rig.inner.will(whole(body));
        rig.post(uri, FOLLOW_UP).await;
    }
    assert_eq!(rig.store.removes(), 0);
}

/// Rule 14: *invalid* forgets what was put in, and the request goes once more without it.
#[tokio::test]
async fn invalid_state_is_forgotten() {
    for (fallback, second) in [(Fallback::Off, FOLLOW_UP.to_owned()), (Fallback::OnRejection, restored_with(SENTINEL))]
    {
        let rig = rig(|builder| builder.fallback(fallback));
        rig.learn().await;
        let got = follow_up(&rig, [refusal(400, error(400, INVALID)), ok()]).await;
        assert_eq!(got.text(), "{}");
        assert_eq!(bodies(&rig)[1..], [restored(), second]);
        assert_eq!((rig.store.states().len(), rig.count(Event::Forgotten)), (0, 1));
    }
}

/// A conversation with two calls of ours, in contents 1 and 3.
async fn two_calls() -> (Rig, String, [String; 2]) {
    let second = "U2Vjb25kU2lnbmF0dXJlVGhhdElzTG9uZ0Vub3VnaA==";
    let rig = rig(|builder| builder.fallback(Fallback::Off));
    rig.learn().await;
    let mut call = call_part(second);
    call["functionCall"]["id"] = "8ydrgkw2".into();
    call["functionCall"]["args"]["city"] = "Rome".into();
    rig.inner.will(whole(event(&[call.clone()], Some("STOP")).to_string()));
    rig.post(GENERATE, FOLLOW_UP).await;
    call.as_object_mut().unwrap().remove("thoughtSignature");
    let output = json!({"functionResponse": {"name": "look", "id": "8ydrgkw2", "response": {}}});
    let body = format!(
        "{},{},{}]}}",
        FOLLOW_UP.strip_suffix("]}").unwrap(),
        json!({"role": "model", "parts": [call]}),
        json!({"role": "user", "parts": [output]})
    );
    (rig, body, [format!("\"{SIGNATURE}\""), format!("\"{second}\"")])
}

/// Rule 14: an error that names a place forgets only the item there.
#[tokio::test]
async fn a_named_place_forgets_only_the_item_there() {
    let message = "Invalid value at 'contents[3].parts[0].thought_signature' (TYPE_BYTES), Base64 decoding failed";
    let (rig, body, states) = two_calls().await;
    rig.inner.will(refusal(400, error(400, message))).will(ok());
    let got = rig.post(GENERATE, body.clone()).await;
    assert_eq!(got.text(), "{}");
    assert_eq!(rig.store.states(), states[..1]);
    let sent = rig.inner.last().text();
    assert!(sent.contains(&states[0]) && !sent.contains(&states[1]));
    // The other way round, without a place: both go.
    let (rig, body, _) = two_calls().await;
    rig.inner.will(refusal(400, error(400, INVALID))).will(ok());
    rig.post(GENERATE, body.clone()).await;
    assert_eq!(rig.store.states().len(), 0);
    assert_eq!(rig.inner.last().text(), body);
}

/// Rule 14: if the client's own value stands at the place, nothing is forgotten and nothing sent again.
#[tokio::test]
async fn a_place_with_the_clients_own_value_is_not_ours() {
    let message = "Invalid value at 'contents[3].parts[0].thought_signature' (TYPE_BYTES), Base64 decoding failed";
    let (rig, body, states) = two_calls().await;
    let own = r#""id":"8ydrgkw2","name":"look"}"#;
    assert_eq!(body.matches(own).count(), 1);
    let body = body.replacen(own, &format!("{own},\"thoughtSignature\":\"QW5vdGhlclZhbHVlT2ZUaGVDbGllbnQ=\""), 1);
    rig.inner.will(refusal(400, error(400, message)));
    let seen = rig.inner.seen().len();
    let got = rig.post(GENERATE, body).await;
    assert_eq!((got.status.as_u16(), got.text()), (400, error(400, message)));
    assert!(rig.inner.last().text().contains(&states[0]));
    assert_eq!((rig.inner.seen().len(), rig.store.states().len()), (seen + 1, 2));
}

/// Rule 14: *structure* rolls our insertion back and forgets nothing.
#[tokio::test]
async fn structure_is_rolled_back() {
    let rig = rig(|builder| builder);
    rig.learn().await;
    let dropped = concat!(
        r#"{"contents":[{"role":"user","parts":[{"text":"How is the weather?"}]},"#,
        r#"{"role":"user","parts":[{"functionResponse":{"name":"look","id":"okz0loqw","response":{}}}]}]}"#
    );
    rig.inner.will(refusal(400, error(400, STRUCTURE))).will(ok());
    let got = rig.post(GENERATE, dropped).await;
    assert_eq!(got.text(), "{}");
    let sent = bodies(&rig);
    assert!(sent[1].contains(SIGNATURE) && sent[1].contains("functionCall"), "{}", sent[1]);
    assert_eq!(sent[2], dropped);
    assert_eq!((rig.store.removes(), rig.store.states().len()), (0, 1));
}

/// Rule 14: without healing there is no second attempt, but what is invalid is still forgotten.
#[tokio::test]
async fn healing_can_be_switched_off() {
    for (message, left) in [(MISSING, 1), (STRUCTURE, 1), (INVALID, 0)] {
        let rig = rig(|builder| builder.heal(false));
        rig.learn().await;
        let got = follow_up(&rig, [refusal(400, error(400, message))]).await;
        assert_eq!((got.status.as_u16(), got.text()), (400, error(400, message)));
        assert_eq!(rig.inner.seen().len(), 2);
        assert_eq!(rig.store.states().len(), left, "{message}");
    }
}

/// Rule 14: what is wrong with a request in which nothing is ours is not counted as if it were.
#[tokio::test]
async fn a_refusal_that_is_the_clients_own_is_not_counted_as_ours() {
    for message in [STRUCTURE, INVALID] {
        let rig = rig(|builder| builder.fallback(Fallback::Off));
        let got = follow_up(&rig, [refusal(400, error(400, message))]).await;
        assert_eq!(got.text(), error(400, message));
        let counted = [Event::RefusedStructure, Event::RefusedInvalid, Event::Retried].map(|event| rig.count(event));
        assert_eq!(counted, [0, 0, 0], "{message}");
    }
}

/// Rule 14: after a failed load a *missing* answer asks the store again, with the longer bound, before
/// any sentinel.
#[tokio::test(start_paused = true)]
async fn a_failed_load_is_repeated_before_any_sentinel() {
    let cases = [
        (Mode::Fails, Mode::AtOnce, 0, restored()),
        (Mode::Hangs, Mode::After(Duration::from_millis(900)), 950, restored()),
        (Mode::Hangs, Mode::Hangs, 1_050, restored_with(SENTINEL)),
        (Mode::Fails, Mode::Fails, 0, restored_with(SENTINEL)),
    ];
    for (first, second, millis, expected) in cases {
        let rig = rig(|builder| builder);
        rig.learn().await;
        rig.store.next_load(first).next_load(second);
        let began = Instant::now();
        let got = follow_up(&rig, [refusal(400, error(400, MISSING)), ok()]).await;
        assert_eq!(got.text(), "{}");
        assert_eq!(began.elapsed().as_millis(), millis);
        assert_eq!(bodies(&rig)[1..], [FOLLOW_UP.to_owned(), expected]);
        assert_eq!(rig.store.loads(), 2);
    }
    // With the fallback switched off the second load alone may help.
    let rig = rig(|builder| builder.fallback(Fallback::Off));
    rig.learn().await;
    rig.store.next_load(Mode::Fails);
    follow_up(&rig, [refusal(400, error(400, MISSING)), ok()]).await;
    assert_eq!(bodies(&rig)[1..], [FOLLOW_UP.to_owned(), restored()]);
    // If it knows no more either, the same request is not sent again.
    rig.store.clear().await.unwrap();
    rig.store.next_load(Mode::Fails);
    let got = follow_up(&rig, [refusal(400, error(400, MISSING))]).await;
    assert_eq!((got.status.as_u16(), rig.inner.seen().len()), (400, 4));
}

/// Rule 4: a runtime that cannot tell the time is no trouble while nothing has to be waited for.
#[test]
fn a_runtime_without_timers_will_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let rig = rig(|builder| builder);
        let got = follow_up(&rig, [refusal(400, error(400, MISSING)), ok()]).await;
        assert_eq!(got.text(), "{}");
    });
}

/// Rule 4: an operator may choose that a failing store fails the request.
#[tokio::test(start_paused = true)]
async fn a_failing_store_may_fail_the_request() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let rig = rig(|builder| builder.on_store_error(OnStoreError::Fail));
        rig.store.load_as(mode);
        let got = rig.post(GENERATE, FOLLOW_UP).await;
        assert_eq!(got.status, 503);
        assert!(serde_json::from_str::<Value>(&got.text()).unwrap()["error"]["message"].is_string());
        assert!(rig.inner.seen().is_empty());
        // What needs no store goes on.
        rig.inner.will(ok());
        assert_eq!(rig.post(GENERATE, QUESTION).await.status, 200);
    }
}

fn as_other(uri: &str, key: &str, session: &str) -> Request<Scripted> {
    let mut request = request(uri, FOLLOW_UP);
    request.headers_mut().insert("x-goog-api-key", key.parse().unwrap());
    request.headers_mut().insert("x-session-id", session.parse().unwrap());
    request
}

async fn sentinels(rig: &Rig, request: Request<Scripted>) -> u32 {
    rig.inner.will(ok());
    let report = rig.exchange(request).await.report();
    assert_eq!(rig.inner.last().text().matches(SENTINEL).count(), report.sentinels as usize);
    report.sentinels
}

/// Rule 14: that a sentinel is taken is remembered for one hour, for this tenant, provenance and model.
#[tokio::test(start_paused = true)]
async fn an_accepted_sentinel_is_set_up_front_for_an_hour() {
    let rig = rig(|builder| builder);
    follow_up(&rig, [refusal(400, error(400, MISSING)), ok()]).await;
    assert_eq!(sentinels(&rig, as_other(GENERATE, "a key", "another session")).await, 1);
    assert_eq!(sentinels(&rig, as_other(GENERATE, "another key", "a session")).await, 0);
    let model = GENERATE.replace("gemini-3-pro-preview", "gemini-3-flash-preview");
    assert_eq!(sentinels(&rig, as_other(&model, "a key", "a session")).await, 0);
    let vertex = GENERATE.replace("generativelanguage", "us-central1-aiplatform");
    assert_eq!(sentinels(&rig, as_other(&vertex, "a key", "a session")).await, 0);
    // Rule 15: never on a count.
    assert_eq!(sentinels(&rig, as_other(COUNT, "a key", "a session")).await, 0);
    advance(Duration::from_secs(3_599)).await;
    assert_eq!(sentinels(&rig, as_other(GENERATE, "a key", "a session")).await, 1);
    advance(Duration::from_secs(2)).await;
    assert_eq!(sentinels(&rig, as_other(GENERATE, "a key", "a session")).await, 0);
}

/// Rule 14: an *invalid* answer to a sentinel erases what was learned of it.
#[tokio::test]
async fn a_refused_sentinel_is_not_set_again() {
    for heal in [true, false] {
        let rig = rig(|builder| builder.heal(heal));
        if heal {
            follow_up(&rig, [refusal(400, error(400, MISSING)), ok()]).await;
            follow_up(&rig, [refusal(400, error(400, INVALID)), ok()]).await;
            assert_eq!(bodies(&rig)[2..], [restored_with(SENTINEL), FOLLOW_UP.to_owned()]);
        }
        assert_eq!(sentinels(&rig, request(GENERATE, FOLLOW_UP)).await, 0);
    }
}

/// The policies: never, or from the start.
#[tokio::test]
async fn the_fallback_is_a_choice() {
    let off = rig(|builder| builder.fallback(Fallback::Off));
    follow_up(&off, [refusal(400, error(400, MISSING))]).await;
    assert_eq!(sentinels(&off, request(GENERATE, FOLLOW_UP)).await, 0);
    let always = rig(|builder| builder.fallback(Fallback::Always));
    assert_eq!(sentinels(&always, request(GENERATE, FOLLOW_UP)).await, 1);
    assert_eq!(sentinels(&always, request(COUNT, FOLLOW_UP)).await, 0);
    always.learn().await;
    follow_up(&always, [ok()]).await;
    assert_eq!(always.inner.last().text(), restored(), "what is known comes before a sentinel");
}

/// A sentinel stands on the first unsigned call of each model message of the current turn, nowhere else.
#[tokio::test]
async fn sentinels_stand_in_the_current_turn_only() {
    let rig = rig(|builder| builder.fallback(Fallback::Always));
    let call = |name: &str| json!({"functionCall": {"name": name, "args": {}}});
    let output = |name: &str| json!({"functionResponse": {"name": name, "response": {}}});
    let own = json!({"functionCall": {"name": "own", "args": {}}, "thoughtSignature": SIGNATURE});
    let body = json!({"contents": [
        {"role": "user", "parts": [{"text": "one"}]},
        {"role": "model", "parts": [call("old")]},
        {"role": "user", "parts": [output("old")]},
        {"role": "model", "parts": [{"text": "done"}]},
        {"role": "user", "parts": [{"text": "two"}]},
        {"role": "model", "parts": [{"text": "well"}, call("first"), call("second")]},
        {"role": "user", "parts": [output("first"), output("second"), {"text": "by the way"}]},
        {"role": "model", "parts": [own]},
        {"role": "user", "parts": [output("own")]},
        {"role": "model", "parts": [call("third")]},
        {"role": "user", "parts": [output("third")]},
    ]});
    rig.inner.will(ok());
    rig.post(GENERATE, body.to_string()).await;
    let mut expected = body;
    expected["contents"][5]["parts"][1]["thoughtSignature"] = SENTINEL.into();
    expected["contents"][9]["parts"][0]["thoughtSignature"] = SENTINEL.into();
    let sent: Value = serde_json::from_str(&rig.inner.last().text()).unwrap();
    assert_eq!(sent, expected);
}

/// Rule 14: a terminal error in the stream forgets too; its bytes are on their way already.
#[tokio::test]
async fn an_error_in_the_stream_forgets() {
    let error = json!({"error": {"code": 400, "message": INVALID, "status": "INVALID_ARGUMENT"}});
    for (message, left) in [(INVALID, 0), (MISSING, 1), ("The model is overloaded.", 1)] {
        let mut error = error.clone();
        error["error"]["message"] = message.into();
        for form in [format!("data: {error}\r\n\r\n"), format!("{error}\r\n")] {
            let rig = rig(|builder| builder);
            rig.learn().await;
            let parts = cut(&(sse(&[event(&[json!({"text": "Let me see."})], None)]) + &form), 20);
            rig.inner.will(frames(&parts));
            let got = rig.post(STREAM, FOLLOW_UP).await;
            assert_same(&got.frames, &parts);
            assert_eq!((rig.store.states().len(), rig.inner.seen().len()), (left, 2), "{message}");
        }
    }
}

/// Rule 14: an error in the stream that names a place forgets only the item there.
#[tokio::test]
async fn an_error_in_the_stream_forgets_only_the_named_place() {
    for (content, left) in [(1, &[1][..]), (3, &[0]), (2, &[0, 1])] {
        let message = format!("Invalid value at 'contents[{content}].parts[0].thought_signature' (TYPE_BYTES)");
        let message = format!("{message}, Base64 decoding failed");
        let (rig, body, states) = two_calls().await;
        rig.inner.will(whole(format!("data: {}\r\n\r\n", error(400, &message))));
        rig.post(STREAM, body).await;
        let left: Vec<String> = left.iter().map(|at| states[*at].clone()).collect();
        assert_eq!(rig.store.states(), left, "{content}");
    }
}

/// Rule 14: an error body over 64 KiB flows on, is classified in passing, and is not answered.
#[tokio::test]
async fn a_long_error_body_flows_on() {
    let text = error(400, INVALID);
    for (length, seen) in [((64 << 10) - text.len(), 3), ((64 << 10) - text.len() + 1, 2), (1 << 20, 2)] {
        let rig = rig(|builder| builder);
        rig.learn().await;
        let parts = cut(&(text.clone() + &" ".repeat(length)), 1_000);
        let steps = parts.iter().cloned().map(Step::Data).chain([Step::Trailers(trailers())]);
        rig.inner.will(refusal_as(400, Scripted::new(steps))).will(ok());
        let got = rig.post(GENERATE, FOLLOW_UP).await;
        assert_eq!(rig.inner.seen().len(), seen, "{length}");
        if seen == 2 {
            assert_same(&got.frames, &parts);
            assert_eq!(got.trailers, Some(trailers()));
        }
        assert_eq!(rig.store.states().len(), 0, "it is forgotten either way");
    }
}

/// Rules 11 and 14: a body of empty frames is not held for ever.
#[tokio::test]
async fn an_error_body_of_empty_frames_flows_on() {
    let rig = rig(|builder| builder);
    rig.learn().await;
    let parts = vec![Bytes::new(); 70_000];
    rig.inner.will(refusal_as(400, Scripted::of(&parts)));
    let got = rig.post(GENERATE, FOLLOW_UP).await;
    assert_eq!((got.status.as_u16(), got.frames.len(), rig.inner.seen().len()), (400, parts.len(), 2));
    assert_eq!(rig.store.states().len(), 1);
}

/// Rule 14: an error body slower than one second flows on, is classified in passing, and is not answered.
#[tokio::test(start_paused = true)]
async fn a_slow_error_body_flows_on() {
    let text = error(400, INVALID);
    for (millis, attempts) in [(900, 3), (1_100, 2), (60_000, 2)] {
        let rig = rig(|builder| builder);
        rig.learn().await;
        let parts = cut(&text, 30);
        let mut steps: Vec<Step> = parts.iter().cloned().map(Step::Data).collect();
        steps.insert(2, Step::Wait(Duration::from_millis(millis)));
        rig.inner.will(refusal_as(400, Scripted::new(steps))).will(ok());
        let began = Instant::now();
        let response = rig.send(request(GENERATE, FOLLOW_UP)).await.unwrap();
        assert_eq!(began.elapsed().as_millis(), u128::from(millis.min(1_000)));
        let mut body = response.into_body();
        if attempts == 2 {
            assert!(same(&data(&mut body), &parts[0]) && same(&data(&mut body), &parts[1]));
        }
        body.collect().await.unwrap();
        assert_eq!((rig.inner.seen().len(), rig.store.states().len()), (attempts, 0));
    }
}

/// Rule 4: an error body that breaks while it is held comes through, broken.
#[tokio::test]
async fn an_error_body_that_breaks_comes_through() {
    let rig = rig(|builder| builder);
    let parts = cut(&error(400, MISSING), 40);
    let steps = parts.iter().cloned().map(Step::Data).chain([Step::Error(6)]);
    rig.inner.will(refusal_as(400, Scripted::new(steps)));
    let got = rig.post(GENERATE, FOLLOW_UP).await;
    assert_same(&got.frames, &parts);
    assert_eq!((got.error, rig.inner.seen().len()), (Some(BodyError(6)), 1));
}

/// Rule 14: an error body is held only when that could help.
#[tokio::test]
async fn an_error_that_nothing_can_help_is_not_held() {
    let rig = rig(|builder| builder);
    rig.inner.will(refusal_as(400, Scripted::new([Step::Hang])));
    assert_eq!(now(rig.send(request(GENERATE, QUESTION))).unwrap().status(), 400);
    rig.inner.will(refusal_as(400, Scripted::new([Step::Hang])));
    assert_eq!(now(rig.send(request(GENERATE, complete()))).unwrap().status(), 400);
    // An answer that is no error is never held.
    rig.inner.will(refusal_as(302, Scripted::new([Step::Hang])));
    assert_eq!(now(rig.send(request(GENERATE, FOLLOW_UP))).unwrap().status(), 302);
}

/// The first answer knows its length and its end, also after it was held.
#[tokio::test]
async fn a_held_answer_knows_its_length() {
    use http_body::Body;
    let rig = rig(|builder| builder);
    rig.inner.will(refusal_as(400, Scripted::new([bytes("abc"), bytes("de")]).exact()));
    let mut body = rig.send(request(GENERATE, FOLLOW_UP)).await.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(5));
    data(&mut body);
    assert!(!body.is_end_stream());
    data(&mut body);
    assert!(body.is_end_stream());
    assert_eq!(drain(http::Response::new(body)).await.frames.len(), 0);
}

/// One exchange with the strict provider.
async fn ask(layer: &ReplayLayer, provider: &GeminiProvider, uri: &str, contents: &[Value]) -> (u16, String, Summary) {
    let body = match uri.contains("v1internal") {
        true => json!({"model": "gemini-3-pro-preview", "request": {"contents": contents}}),
        false => json!({ "contents": contents }),
    };
    let request = post(uri).body(Full::new(Bytes::from(body.to_string()))).unwrap();
    let response = layer.layer(provider.clone()).oneshot(request).await.unwrap();
    let report = response.extensions().get::<Report>().unwrap().clone();
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap(), report.summary())
}

/// The history after the provider's first answer, without what a forgetful client drops.
fn history(answer: &str) -> Vec<Value> {
    let start = answer.find("\"functionCall\":").unwrap() + "\"functionCall\":".len();
    let mut call = serde_json::Deserializer::from_str(&answer[start..]).into_iter::<Value>();
    let call = call.next().unwrap().unwrap();
    let output = json!({"functionResponse": {"name": call["name"], "id": call["id"], "response": {}}});
    vec![
        json!({"role": "user", "parts": [{"text": "How is the weather?"}]}),
        json!({"role": "model", "parts": [{"functionCall": call}]}),
        json!({"role": "user", "parts": [output]}),
    ]
}

/// Rule 14, with a strict provider, in every form in which a refusal is delivered before the first bytes.
#[tokio::test]
async fn every_form_of_refusal_is_healed() {
    let cloud = "https://cloudcode-pa.googleapis.com/v1internal:streamGenerateContent?alt=sse";
    let forms = [
        Refusals::Native,
        Refusals::Object,
        Refusals::SseTyped,
        Refusals::Array,
        Refusals::OpenRouter { status: 400 },
        Refusals::OpenRouter { status: 429 },
        Refusals::OpenRouter { status: 502 },
        Refusals::LiteLlm { status: 400 },
        Refusals::LiteLlm { status: 500 },
    ];
    for form in forms {
        for wording in [InvalidWording::Corrupted, InvalidWording::Invalid] {
            for uri in [GENERATE, STREAM, ARRAY, cloud] {
                let provider = GeminiProvider::builder().refusals(form).invalid_wording(wording).build();
                let layer = ReplayLayer::new(MemoryStore::new());
                let question = [json!({"role": "user", "parts": [{"text": "How is the weather?"}]})];
                let (status, answer, _) = ask(&layer, &provider, uri, &question).await;
                assert_eq!(status, 200, "{answer}");
                let history = history(&answer);
                // The keys change: what we put in is invalid, and the sentinel takes its place.
                provider.revoke_signatures();
                let (status, answer, report) = ask(&layer, &provider, uri, &history).await;
                assert!(status == 200 && report.healed, "{form:?} {uri} {answer}");
                assert_eq!(layer.engine().counters().get(Event::Forgotten), 1);
                // Another process knows nothing: *missing*.
                let fresh = ReplayLayer::new(MemoryStore::new());
                let (status, answer, report) = ask(&fresh, &provider, uri, &history).await;
                assert!(status == 200 && report.healed, "{form:?} {uri} {answer}");
                assert_eq!(fresh.engine().counters().get(Event::RefusedMissing), 1);
                assert_eq!(provider.refused(), 2);
            }
        }
    }
}

/// Rule 14: what comes when the stream has begun cannot be healed, but it is forgotten or counted.
#[tokio::test]
async fn refusals_in_the_stream_are_heard() {
    for form in
        [Refusals::StreamLine { after: 1 }, Refusals::StreamEvent { after: 1 }, Refusals::StreamLine { after: 0 }]
    {
        for uri in [STREAM, ARRAY] {
            let provider = GeminiProvider::builder().refusals(form).build();
            let layer = ReplayLayer::new(MemoryStore::new());
            let question = [json!({"role": "user", "parts": [{"text": "How is the weather?"}]})];
            let history = history(&ask(&layer, &provider, uri, &question).await.1);
            provider.revoke_signatures();
            let (status, answer, report) = ask(&layer, &provider, uri, &history).await;
            assert!(status == 200 && answer.contains("Corrupted") && !report.healed);
            assert_eq!(layer.engine().counters().get(Event::Forgotten), 1, "{form:?} {uri}");
        }
    }
    let provider = GeminiProvider::builder().refusals(Refusals::FinishReason).build();
    let layer = ReplayLayer::new(MemoryStore::new());
    let call = json!({"functionCall": {"name": "f", "args": {}}});
    let history = [
        json!({"role": "user", "parts": [{"text": "q"}]}),
        json!({"role": "model", "parts": [call]}),
        json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}),
    ];
    for uri in [STREAM, ARRAY, GENERATE] {
        assert_eq!(ask(&layer, &provider, uri, &history).await.0, 200);
    }
    assert_eq!(layer.engine().counters().get(Event::FinishedMissing), 3);
}

/// Rule 14: a provider that takes no sentinel leaves the client with the first answer.
#[tokio::test]
async fn a_provider_without_sentinels_is_asked_once_more_and_no_oftener() {
    let provider = GeminiProvider::builder().sentinels(Sentinels::none()).build();
    let layer = ReplayLayer::new(MemoryStore::new());
    let history = history(&document());
    for attempts in [2, 4] {
        let (status, answer, report) = ask(&layer, &provider, GENERATE, &history).await;
        assert!(status == 400 && answer.contains("missing a thought_signature"), "{answer}");
        assert!(!report.healed);
        assert_eq!(provider.requests().len(), attempts);
    }
}

/// Rules 1 and 14: where the client sends the sentinel itself, putting it in changes nothing: the same frames
/// go on, and nothing is sent again.
#[tokio::test]
async fn a_sentinel_of_the_clients_own_is_not_replaced_by_the_same() {
    let body = Bytes::from(restored_with(SENTINEL));
    for fallback in [Fallback::OnRejection, Fallback::Always] {
        let rig = rig(|builder| builder.fallback(fallback));
        for message in [
            MISSING,
            INVALID,
            "Invalid value at 'contents[1].parts[0].thought_signature' (TYPE_BYTES), Base64 decoding failed",
        ] {
            rig.inner.will(refusal(400, error(400, message)));
            let halves = [body.slice(..100), body.slice(100..)];
            let got = rig.exchange(request_in(GENERATE, &halves)).await;
            assert_eq!(got.text(), error(400, message));
            assert_same(&rig.inner.last().frames, &halves);
            let report = got.report();
            assert_eq!((report.sentinels, report.missed), (0, 1));
        }
        assert_eq!((rig.count(Event::Sentinel), rig.count(Event::Retried)), (0, 0));
        // In the other form it is another value.
        let other = Bytes::from(restored_with(BASE64));
        rig.inner.will(refusal(400, error(400, MISSING))).will(ok());
        if fallback == Fallback::Always {
            rig.post(GENERATE, other.clone()).await;
        } else {
            assert_eq!(rig.post(GENERATE, other.clone()).await.text(), "{}");
        }
        assert_eq!(rig.inner.last().text(), body);
    }
}

/// Rule 14: what is rolled back leaves the client's call the first of its message again.
#[tokio::test]
async fn after_a_roll_back_the_first_call_gets_its_sentinel() {
    let call = |name: &str| json!({"functionCall": {"name": name, "args": {}, "id": format!("{name}x7k2q9")}});
    let mut first = call("a");
    first["thoughtSignature"] = SIGNATURE.into();
    let output =
        |name: &str| json!({"functionResponse": {"name": name, "id": format!("{name}x7k2q9"), "response": {}}});
    let body = json!({"contents": [
        {"role": "user", "parts": [{"text": "How is the weather?"}]},
        {"role": "model", "parts": [call("b")]},
        {"role": "user", "parts": [output("a"), output("b")]},
    ]});
    for (fallback, sentinels) in [(Fallback::Always, 1), (Fallback::OnRejection, 0), (Fallback::Off, 0)] {
        let rig = rig(|builder| builder.fallback(fallback));
        rig.inner.will(whole(event(&[first.clone(), call("b")], Some("STOP")).to_string()));
        rig.post(GENERATE, QUESTION).await;
        rig.inner.will(refusal(400, error(400, STRUCTURE))).will(ok());
        let got = rig.post(GENERATE, body.to_string()).await;
        assert_eq!((got.text().as_str(), got.report().sentinels), ("{}", sentinels));
        let sent: Vec<Value> = bodies(&rig)[1..].iter().map(|sent| serde_json::from_str(sent).unwrap()).collect();
        assert_eq!(sent[0]["contents"][1]["parts"], json!([first, call("b")]));
        let mut expected = body.clone();
        if sentinels == 1 {
            expected["contents"][1]["parts"][0]["thoughtSignature"] = SENTINEL.into();
        }
        assert_eq!(sent[1], expected);
        assert_eq!(rig.store.states().len(), 1, "nothing is forgotten");
    }
}
