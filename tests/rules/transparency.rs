//! Rules 1 to 4: when there is nothing to do, the layer is not there.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use flate2::read::GzEncoder;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower::{Layer, Service};
use tower_reasoning_replay::engine::Event;

use crate::support::{
    assert_same,
    body::{BodyError, Scripted, Step, bytes, trailers},
    data,
    gemini::*,
    now, poll,
    rig::{Rig, drain},
    same,
    service::{Act, Inner, Ready, ServiceError, answer, frames, refusal, whole},
    store::TestStore,
};

fn ok() -> Act {
    whole("{}")
}

/// Posts a body whose frames are kept, and looks whether they arrive.
async fn arrives(rig: &Rig, request: http::request::Builder, frames: &[Bytes]) {
    rig.inner.will(ok());
    let body = Scripted::of(frames).exact();
    let length: usize = frames.iter().map(Bytes::len).sum();
    rig.exchange(request.body(body).unwrap()).await;
    let seen = rig.inner.last();
    assert_same(&seen.frames, frames);
    assert_eq!(seen.hint.exact(), Some(length as u64));
}

/// Rule 1: what is none of ours is not read, not even polled.
#[tokio::test]
async fn an_unwatched_body_is_never_polled() {
    let follow_up = Bytes::from(FOLLOW_UP);
    let requests = [
        Request::post("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:embedContent"),
        Request::post("https://generativelanguage.googleapis.com/v1beta/interactions"),
        Request::get(GENERATE),
        Request::put(GENERATE),
        Request::post(GENERATE).header("content-type", "application/x-protobuf"),
        Request::post(GENERATE).header("content-encoding", "gzip").header("content-type", "application/json"),
        Request::post(GENERATE).header("content-length", (65_u64 << 20).to_string()),
        Request::post(GENERATE).header("expect", "100-continue"),
        Request::post("/"),
    ];
    for request in requests {
        let inner = Inner::leaving_the_body([answer(Scripted::new([]))]);
        let rig = Rig::around(inner, TestStore::new(), |builder| builder);
        let body = Scripted::new([Step::Data(follow_up.clone())]);
        let log = body.log();
        let request = request.body(body).unwrap();
        let headers = request.headers().clone();
        let response = rig.send(request).await.unwrap();
        assert_eq!(log.polls(), 0);
        assert!(response.extensions().is_empty(), "an unwatched answer is not marked");
        assert_eq!(rig.inner.last().headers, headers);
        assert_eq!(rig.store.loads(), 0);
    }
}

/// Rule 1, and tower's manners: the service that was found ready makes the call, on either path.
#[tokio::test]
async fn the_ready_service_makes_the_call() {
    let rig = Rig::new([ok(), ok(), ok()]);
    let mut service = rig.layer.layer(rig.inner.clone());
    let mut waker = Context::from_waker(Waker::noop());
    let ready = |service: &mut tower_reasoning_replay::ReplayService<Inner>, cx: &mut Context<'_>| {
        let polled = Service::<Request<Scripted>>::poll_ready(service, cx);
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        service.get_ref().instance()
    };
    // Not ours: the same instance stays in place.
    for _ in 0..2 {
        let polled = ready(&mut service, &mut waker);
        let request = Request::get("/").body(Scripted::new([])).unwrap();
        now(service.call(request)).unwrap();
        assert_eq!((rig.inner.last().instance, service.get_ref().instance()), (polled, polled));
    }
    // Ours: the ready instance goes with the call, even if the service itself is gone.
    let polled = ready(&mut service, &mut waker);
    let call = service.call(request(GENERATE, QUESTION));
    assert_ne!(service.get_ref().instance(), polled);
    drop(service);
    now(call).unwrap();
    assert_eq!(rig.inner.last().instance, polled);
}

/// Rule 4: `poll_ready` is the inner service's, with its waiting and its errors.
#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let rig = Rig::new([]);
    rig.inner.readiness([Ready::NotYet, Ready::Fail(7)]);
    let mut service = rig.service();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Service::<Request<Scripted>>::poll_ready(&mut service, &mut cx).is_pending());
    let failed = Service::<Request<Scripted>>::poll_ready(&mut service, &mut cx);
    assert!(matches!(failed, Poll::Ready(Err(ServiceError(7)))));
}

/// Rule 4: errors of a call are the inner service's, on every path.
#[tokio::test]
async fn errors_of_the_call_come_through() {
    let rig = Rig::new([]);
    rig.learn().await;
    let requests =
        [Request::get("/").body(Scripted::new([])).unwrap(), request(GENERATE, QUESTION), request(GENERATE, FOLLOW_UP)];
    for request in requests {
        rig.inner.will(Act::Fail(42));
        assert_eq!(rig.send(request).await.unwrap_err(), ServiceError(42));
    }
    // What failed on its way forgets nothing and is not tried again.
    rig.inner.will(ok());
    rig.post(GENERATE, FOLLOW_UP).await;
    assert_eq!(rig.inner.last().text(), restored());
}

/// Rule 1: without a place where state could be missing the store is not asked, and the frames stay.
#[tokio::test]
async fn a_history_without_gaps_costs_no_store_access() {
    let rig = Rig::new([]);
    rig.learn().await;
    let complete = complete();
    let user_only = r#"{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"user","parts":[{"text":"b"}]}]}"#;
    for body in [QUESTION, user_only, &complete, "{}", r#"{"contents":[]}"#] {
        for size in [usize::MAX >> 1, 7, 1] {
            let frames = cut(body, size.min(body.len()));
            arrives(&rig, post(GENERATE), &frames).await;
        }
    }
    assert_eq!(rig.store.loads(), 0);
}

/// Rule 1: a request that misses something of which nothing is known goes on in its frames.
#[tokio::test]
async fn a_miss_changes_nothing() {
    let rig = Rig::new([]);
    for size in [FOLLOW_UP.len(), 10, 1] {
        arrives(&rig, post(GENERATE), &cut(FOLLOW_UP, size)).await;
    }
    assert_eq!(rig.store.loads(), 3);
    assert_eq!(rig.count(Event::Missed), 3);
}

/// Rule 2: a hit inserts, and touches no other byte.
#[tokio::test]
async fn a_hit_only_inserts() {
    let rig = Rig::new([]);
    rig.learn().await;
    for size in [FOLLOW_UP.len(), 13, 1] {
        rig.inner.will(ok());
        rig.exchange(request_in(GENERATE, &cut(FOLLOW_UP, size))).await;
        let seen = rig.inner.last();
        assert_eq!(seen.text(), restored());
        assert_eq!(seen.frames.len(), 1, "a patched body is whole, so that others can send it again");
        assert_eq!(seen.hint.exact(), Some(restored().len() as u64));
        let rest = seen.text().replacen(&format!(",\"thoughtSignature\":\"{SIGNATURE}\""), "", 1);
        assert_eq!(rest, FOLLOW_UP);
    }
}

/// Rule 2: the same history gives the same bytes on every turn, whatever follows it.
#[tokio::test]
async fn the_patched_prefix_is_stable() {
    let rig = Rig::new([]);
    rig.learn().await;
    let mut longer = FOLLOW_UP.strip_suffix("]}").unwrap().to_owned();
    let prefix = restored().strip_suffix("]}").unwrap().to_owned();
    for step in 0..4 {
        rig.inner.will(ok());
        rig.post(GENERATE, format!("{longer}]}}")).await;
        assert!(rig.inner.last().text().starts_with(&prefix));
        longer += &format!(
            r#",{{"role":"model","parts":[{{"text":"{step}"}}]}},{{"role":"user","parts":[{{"text":"go"}}]}}"#
        );
    }
}

/// `content-length` is made anew where there was one, and nowhere else.
#[tokio::test]
async fn content_length_follows_the_body() {
    let rig = Rig::new([]);
    rig.learn().await;
    for (body, expected) in [(FOLLOW_UP, restored()), (QUESTION, QUESTION.to_owned())] {
        for has_length in [true, false] {
            rig.inner.will(ok());
            let mut request = request(GENERATE, body);
            if has_length {
                request.headers_mut().insert("content-length", body.len().into());
            }
            rig.exchange(request).await;
            let seen = rig.inner.last();
            assert_eq!(seen.text(), expected);
            let length = seen.headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
            assert_eq!(length, has_length.then(|| expected.len().to_string()));
        }
    }
}

/// The request's head arrives as it came, but for the coding that can be observed.
#[tokio::test]
async fn the_head_arrives() {
    for (inside, expected) in [(false, "identity"), (true, "gzip")] {
        let rig = Rig::with(TestStore::new(), [ok()], |builder| builder.decompression_inside(inside));
        let mut request = request(GENERATE, QUESTION);
        request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
        request.headers_mut().append("x-many", "1".parse().unwrap());
        request.headers_mut().append("x-many", "2".parse().unwrap());
        let mut expected_headers = request.headers().clone();
        expected_headers.insert("accept-encoding", expected.parse().unwrap());
        rig.exchange(request).await;
        let seen = rig.inner.last();
        assert_eq!(seen.headers, expected_headers);
        assert_eq!((seen.uri.to_string().as_str(), seen.method.as_str()), (GENERATE, "POST"));
    }
}

/// Rule 1 and rule 11: over `max_request` the frames go on, and then the rest, unread.
#[tokio::test]
async fn a_long_body_is_resumed() {
    let parts = cut(FOLLOW_UP, 50);
    for limit in [1, 49, 50, 99, FOLLOW_UP.len() - 1] {
        let rig = Rig::with(TestStore::new(), [ok()], |builder| builder.max_request(limit));
        let steps = parts.iter().cloned().flat_map(|part| [Step::Pending, Step::Data(part)]);
        let body = Scripted::new(steps.chain([Step::Trailers(trailers())])).exact();
        rig.exchange(post(GENERATE).body(body).unwrap()).await;
        let seen = rig.inner.last();
        assert_same(&seen.frames, &parts);
        assert_eq!(seen.trailers, Some(trailers()));
        assert_eq!(seen.hint.exact(), Some(FOLLOW_UP.len() as u64));
        assert_eq!((rig.store.loads(), rig.count(Event::Unread)), (0, 1));
    }
    let rig = Rig::with(TestStore::new(), [ok()], |builder| builder.max_request(FOLLOW_UP.len()));
    arrives(&rig, post(GENERATE), &parts).await;
    assert_eq!(rig.store.loads(), 1, "a body of just the limit is read");
}

/// Rules 1, 2 and 12: the memory of long bodies is used again, but never while someone holds it.
#[tokio::test]
async fn long_bodies_in_many_frames_stay_apart() {
    let rig = Rig::new([]);
    rig.learn().await;
    let begins = |body: &str, fill: &str, length: usize| {
        let long = format!(r#"{{"role":"user","parts":[{{"text":"{}"}}]}},"#, fill.repeat(length));
        body.replacen("\"contents\":[", &format!("\"contents\":[{long}"), 1)
    };
    let mut expected = Vec::new();
    for (at, fill) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        for (lacking, whole) in [(FOLLOW_UP, restored()), (&complete(), complete()), (QUESTION, QUESTION.to_owned())] {
            let length = 30_000 + 25_000 * at;
            let (lacking, whole) = (begins(lacking, fill, length), begins(&whole, fill, length));
            let frames = cut(&lacking, [usize::MAX >> 1, 64 << 10, 5_000][at % 3].min(lacking.len()));
            for claim in [None, Some(0), Some(1 << 40), Some(u64::MAX)] {
                let body = Scripted::of(&frames);
                let body = claim.map_or(Scripted::of(&frames).exact(), |length| body.claims(length));
                rig.inner.will(ok());
                rig.exchange(post(GENERATE).body(body).unwrap()).await;
                if lacking == whole {
                    assert_same(&rig.inner.last().frames, &frames);
                }
                expected.push(whole.clone());
            }
        }
    }
    // The inner service still holds all of them.
    let seen = rig.inner.seen();
    let seen: Vec<String> = seen.iter().rev().take(expected.len()).rev().map(|seen| seen.text()).collect();
    assert!(seen == expected, "a body was written over");
}

/// Rule 4: a body that fails reaches the inner service: what was read, then the error.
#[tokio::test]
async fn a_broken_request_body_arrives_broken() {
    let rig = Rig::new([]);
    rig.learn().await;
    let parts = cut(FOLLOW_UP, 60);
    for intact in 0..=parts.len() {
        rig.inner.will(ok());
        let steps = parts.iter().take(intact).cloned().map(Step::Data).chain([Step::Error(9)]);
        rig.send(post(GENERATE).body(Scripted::new(steps)).unwrap()).await.unwrap();
        let seen = rig.inner.last();
        assert_same(&seen.frames, &parts[..intact]);
        assert_eq!(seen.error, Some(9));
        assert!(!seen.ended_at_once);
        assert_eq!(seen.hint.upper(), None);
    }
}

/// Rule 4: what cannot be read passes as it came.
#[tokio::test]
async fn what_cannot_be_read_passes_as_it_came() {
    let rig = Rig::new([]);
    rig.learn().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_objects = "{\"contents\":".repeat(10_000);
    let mut bodies: Vec<Bytes> = [
        "",
        " ",
        "null",
        "[]",
        "[{\"contents\":[]}]",
        "\"text\"",
        "7",
        "{",
        "{}x",
        "{\"contents\":",
        "not json at all",
        "<html></html>",
        "\u{feff}{}",
        &deep,
        &deep_objects,
        &format!("{{\"contents\":[{deep}]}}"),
        // The same member twice, in one spelling or in both.
        &FOLLOW_UP.replacen("{\"contents\"", "{\"contents\":[],\"contents\"", 1),
        &FOLLOW_UP.replacen("{\"contents\"", "{\"model\":\"a\",\"model\":\"b\",\"contents\"", 1),
        &FOLLOW_UP.replacen("\"role\":\"model\"", "\"role\":\"model\",\"role\":\"user\"", 1),
        &FOLLOW_UP.replacen("\"name\":\"look\"", "\"name\":\"look\",\"name\":\"see\"", 1),
        &FOLLOW_UP.replacen("\"args\":{", "\"args\":{},\"args\":{", 1),
    ]
    .into_iter()
    .map(|body| Bytes::copy_from_slice(body.as_bytes()))
    .collect();
    bodies.push(Bytes::from_static(b"{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"\xff\xfe\"}]}]}"));
    bodies.push(Bytes::from_static(b"\x1f\x8b\x08\x00"));
    for body in bodies {
        rig.inner.will(ok());
        let frames: Vec<Bytes> = if body.is_empty() { vec![] } else { vec![body.slice(..1), body.slice(1..)] };
        rig.exchange(request_in(GENERATE, &frames)).await;
        assert_same(&rig.inner.last().frames, &frames);
    }
    // An empty body has ended before it is polled.
    rig.inner.will(ok());
    rig.exchange(post(GENERATE).body(Scripted::new([])).unwrap()).await;
    assert!(rig.inner.last().ended_at_once);
    // All that disturbed nothing.
    rig.inner.will(ok());
    rig.post(GENERATE, FOLLOW_UP).await;
    assert_eq!(rig.inner.last().text(), restored());
}

/// Rule 4: a wrong type in any field changes nothing, or only a place that is still beyond doubt.
#[tokio::test]
async fn wrong_types_anywhere_never_fail_nor_disturb() {
    let rig = Rig::new([]);
    rig.learn().await;
    let values = ["null", "true", "0", "-1.5e300", "\"\"", "\"x\"", "[]", "{}", "[[]]", "[null]", "{\"a\":{}}"];
    // Every value of the follow-up, replaced by each of these.
    let starts: Vec<usize> = FOLLOW_UP.match_indices(':').map(|(at, _)| at + 1).collect();
    for start in starts {
        let rest = &FOLLOW_UP[start..];
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        if stream.next().is_none_or(|value| value.is_err()) {
            continue;
        }
        let end = start + stream.byte_offset();
        for value in values {
            let body = format!("{}{value}{}", &FOLLOW_UP[..start], &FOLLOW_UP[end..]);
            rig.inner.will(ok());
            let got = rig.post(GENERATE, body.clone()).await;
            assert_eq!(got.status, 200);
            let sent = rig.inner.last().text();
            // One insertion at most, and every other byte in its place.
            let before = sent.bytes().zip(body.bytes()).take_while(|(sent, body)| sent == body).count();
            let after = sent.bytes().rev().zip(body.bytes().rev()).take_while(|(sent, body)| sent == body).count();
            assert!(sent.len() >= body.len() && before + after >= body.len(), "{body}\n{sent}");
            assert!(serde_json::from_str::<serde_json::Value>(&sent).is_ok());
        }
    }
}

/// Rule 14's note: what is signed, has trailers or waits for `100 Continue` keeps its bytes.
#[tokio::test]
async fn what_something_vouches_for_is_not_patched() {
    let headers = [
        ("content-digest", "sha-256=:AAAA:"),
        ("repr-digest", "sha-256=:AAAA:"),
        ("digest", "sha-256=AAAA"),
        ("content-md5", "AAAA"),
        ("signature", "sig1=:AAAA:"),
        ("signature-input", "sig1=(\"content-digest\")"),
        ("x-amz-content-sha256", "e3b0"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=x"),
        ("expect", "100-continue"),
        ("content-encoding", "gzip"),
    ];
    let rig = Rig::new([]);
    rig.learn().await;
    let parts = cut(FOLLOW_UP, 100);
    for (name, value) in headers {
        let mut request = post(GENERATE).header("x-goog-api-key", "a key");
        request = request.header(name, value).header("accept-encoding", "br");
        arrives(&rig, request, &parts).await;
        // What is signed may cover the head too.
        assert_eq!(rig.inner.last().headers["accept-encoding"], "br", "{name}");
    }
    let steps = parts.iter().cloned().map(Step::Data).chain([Step::Trailers(trailers())]);
    rig.inner.will(ok());
    rig.exchange(post(GENERATE).body(Scripted::new(steps)).unwrap()).await;
    assert_same(&rig.inner.last().frames, &parts);
    assert_eq!(rig.inner.last().trailers, Some(trailers()));
    // A refusal of such a request is not answered by a changed one.
    rig.inner.will(refusal(400, error(400, MISSING)));
    let signed = post(GENERATE).header("content-digest", "sha-256=:AAAA:");
    let got = rig.exchange(signed.body(Scripted::of(&parts)).unwrap()).await;
    assert_eq!((got.status.as_u16(), got.text()), (400, error(400, MISSING)));
}

/// Rule 4: a compressed request passes unread.
#[tokio::test]
async fn a_compressed_request_passes() {
    use std::io::Read;
    let mut packed = Vec::new();
    GzEncoder::new(FOLLOW_UP.as_bytes(), flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    let rig = Rig::new([]);
    rig.learn().await;
    for labelled in [true, false] {
        let mut request = post(GENERATE);
        if labelled {
            request = request.header("content-encoding", "gzip");
        }
        arrives(&rig, request, &[Bytes::from(packed.clone())]).await;
    }
}

/// Rule 3: each frame of a response comes in the poll in which it came, and is the same memory.
#[tokio::test]
async fn response_frames_are_the_same_in_the_same_poll() {
    let texts = [sse(&answer_events()), array(&answer_events()), document(), "nothing of ours".to_owned()];
    for (text, size) in texts.iter().flat_map(|text| [(text, text.len()), (text, 17), (text, 1)]) {
        let frames = cut(text, size);
        let mut steps: Vec<Step> =
            frames.iter().cloned().flat_map(|frame| [Step::Pending, Step::Data(frame)]).collect();
        steps.push(Step::Trailers(trailers()));
        let rig = Rig::new([answer(Scripted::new(steps))]);
        let mut body = now(rig.send(request(STREAM, QUESTION))).unwrap().into_body();
        for frame in &frames {
            assert!(poll(&mut body).is_pending());
            assert!(same(&data(&mut body), frame));
            assert!(!body.is_end_stream());
        }
        let Poll::Ready(Some(Ok(last))) = poll(&mut body) else { panic!("the trailers are held back") };
        assert_eq!(last.into_trailers().ok(), Some(trailers()));
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
    }
}

/// Rule 3: an answer is handed on in the poll in which the inner service gives it.
#[tokio::test]
async fn the_answer_is_not_delayed() {
    let rig = Rig::new([]);
    rig.learn().await;
    for body in [QUESTION, FOLLOW_UP] {
        rig.inner.will(ok());
        let mut service = rig.service();
        let _ = Service::<Request<Scripted>>::poll_ready(&mut service, &mut Context::from_waker(Waker::noop()));
        let mut call = pin!(service.call(request(GENERATE, body)));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}

/// Rule 3: what a body says of its length and end is what the inner one says.
#[tokio::test]
async fn hints_and_ends_are_forwarded() {
    let text = document();
    let frames = cut(&text, 40);
    for request in [request(GENERATE, QUESTION), Request::get("/").body(Scripted::new([])).unwrap()] {
        let rig = Rig::new([answer(Scripted::of(&frames).exact().marks_end())]);
        let mut body = rig.send(request).await.unwrap().into_body();
        let mut left = text.len();
        for frame in &frames {
            assert_eq!(body.size_hint().exact(), Some(left as u64));
            assert!(!body.is_end_stream());
            assert!(same(&data(&mut body), frame));
            left -= frame.len();
        }
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.is_end_stream());
    }
    let rig = Rig::new([answer(Scripted::new([]).marks_end())]);
    assert!(rig.send(request(GENERATE, QUESTION)).await.unwrap().into_body().is_end_stream());
}

/// Rules 3 and 4: an error of the response body comes through, in type and value.
#[tokio::test]
async fn errors_of_the_body_come_through() {
    for uri in [STREAM, "https://example.com/"] {
        let parts = cut(&sse(&answer_events()), 30);
        let steps = parts.iter().cloned().map(Step::Data).chain([Step::Error(5)]);
        let rig = Rig::new([answer(Scripted::new(steps))]);
        let got = rig.post(uri, QUESTION).await;
        assert_same(&got.frames, &parts);
        assert_eq!(got.error, Some(BodyError(5)));
    }
}

/// Rule 3: head and extensions of an answer are the inner service's.
#[tokio::test]
async fn the_head_of_an_answer_is_kept() {
    for status in [200, 204, 301, 404, 503] {
        let mut response = Response::new(Scripted::new([bytes("{}")]));
        *response.status_mut() = status.try_into().unwrap();
        *response.version_mut() = http::Version::HTTP_2;
        response.headers_mut().append("set-cookie", "a=1".parse().unwrap());
        response.headers_mut().append("set-cookie", "b=2".parse().unwrap());
        response.headers_mut().insert("content-length", "2".parse().unwrap());
        response.extensions_mut().insert(7_u8);
        let headers: HeaderMap = response.headers().clone();
        let rig = Rig::new([Act::Answer(response)]);
        let response = rig.send(request(GENERATE, QUESTION)).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()), (status, &headers));
        assert_eq!(response.version(), http::Version::HTTP_2);
        assert_eq!(response.extensions().get::<u8>(), Some(&7));
        assert_eq!(drain(response).await.text(), "{}");
    }
}

/// Rule 3: an encoded answer passes by, and is counted.
#[tokio::test]
async fn an_encoded_answer_passes_unobserved() {
    use std::io::Read;
    let mut packed = Vec::new();
    GzEncoder::new(document().as_bytes(), flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    for coding in [None, Some("gzip"), Some("br")] {
        let frames = [Bytes::from(packed.clone())];
        let mut response = Response::new(Scripted::of(&frames));
        if let Some(coding) = coding {
            response.headers_mut().insert("content-encoding", coding.parse().unwrap());
        }
        let rig = Rig::new([Act::Answer(response)]);
        let got = rig.post(GENERATE, QUESTION).await;
        assert_same(&got.frames, &frames);
        assert_eq!(got.report().unobserved, Some(tower_reasoning_replay::engine::Unobserved::Encoded));
        assert_eq!((rig.count(Event::Unobserved), rig.store.appends()), (1, 0));
    }
    // An encoding that is none is observed.
    let mut response = Response::new(Scripted::new([bytes(document())]));
    response.headers_mut().insert("content-encoding", "identity".parse().unwrap());
    let rig = Rig::new([Act::Answer(response)]);
    assert_eq!(rig.post(GENERATE, QUESTION).await.report().learned, 2);
}

/// Rule 4: a store that fails or hangs delays a request by `load_timeout` at most, and changes nothing.
#[tokio::test(start_paused = true)]
async fn a_store_in_trouble_is_no_trouble() {
    use crate::support::store::Mode;
    for (mode, millis) in [(Mode::Fails, 0), (Mode::Hangs, 50), (Mode::After(std::time::Duration::from_secs(9)), 50)] {
        let rig = Rig::new([]);
        rig.learn().await;
        rig.store.load_as(mode).append_as(mode);
        let parts = cut(FOLLOW_UP, 33);
        let began = tokio::time::Instant::now();
        rig.inner.will(frames(&[Bytes::from("{}")]));
        rig.exchange(request_in(GENERATE, &parts)).await;
        assert_eq!(began.elapsed().as_millis(), millis);
        assert_same(&rig.inner.last().frames, &parts);
        assert_eq!(rig.count(Event::LoadFailed), 1);
    }
}

/// The bodies and futures suit every client: `Send`, `Sync` and `Unpin` follow from what they wrap.
#[test]
fn bodies_suit_every_client() {
    use tower_reasoning_replay::{ReplayLayer, ReplayService, RequestBody, ResponseBody, ResponseFuture};
    fn suits<T: Send + Sync + Unpin + 'static>() {}
    fn send<T: Send>() {}
    suits::<RequestBody<Scripted>>();
    suits::<ResponseBody<Scripted>>();
    suits::<ReplayService<Inner>>();
    suits::<ReplayLayer>();
    send::<ResponseFuture<Inner, Scripted, Scripted>>();
}
