//! Rule 11: everything is bounded, the oldest goes first, and nothing is ever cut.

use bytes::Bytes;
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    engine::{Event, Unobserved},
};

use crate::support::{
    assert_same,
    body::Scripted,
    gemini::*,
    rig::{Rig, drain},
    service::{Inner, frames, whole},
    store::TestStore,
};

/// A signature of this length.
fn signature(length: usize) -> String {
    "A".repeat(length)
}

/// An event over the bound passes by unobserved, in whichever framing and however it is cut.
#[tokio::test]
async fn a_long_event_passes_unobserved() {
    let events = [
        event(&[json!({"inlineData": {"mimeType": "image/png", "data": "A".repeat(5_000)}})], None),
        event(&[call_part(SIGNATURE)], Some("STOP")),
    ];
    let document = event(&[json!({"text": "A".repeat(5_000)}), call_part(SIGNATURE)], Some("STOP")).to_string();
    let largest = events.iter().map(|event| event.to_string().len()).max().unwrap() + "data: ".len();
    for (text, largest) in [(sse(&events), largest), (array(&events), largest - 6), (document.clone(), document.len())]
    {
        for (limit, learned) in [(largest, true), (largest - 1, false), (100, false)] {
            for size in [text.len(), 1_000, 13] {
                let parts = cut(&text, size);
                let rig = Rig::with(TestStore::new(), [frames(&parts)], |builder| builder.max_event(limit));
                let got = rig.post(STREAM, QUESTION).await;
                assert_same(&got.frames, &parts);
                assert_eq!(rig.store.states().len(), usize::from(learned), "limit {limit} of {largest} in {size}");
                let expected = if learned { None } else { Some(Unobserved::TooLarge) };
                assert_eq!(got.report().unobserved, expected);
                assert_eq!(rig.count(Event::Unobserved), u64::from(!learned));
            }
        }
    }
}

/// What holds more than `max_turn` is not kept at all, and said to be too large.
#[tokio::test]
async fn a_large_turn_is_not_kept() {
    let parts: Vec<Value> = (0..10)
        .map(|city| {
            let mut call = call_part(&signature(100));
            call["functionCall"]["args"]["city"] = city.into();
            call
        })
        .collect();
    for (limit, states) in [(10_000, 10), (1_000, 0), (150, 0)] {
        for text in [sse(&[event(&parts, Some("STOP"))]), array(&[event(&parts, Some("STOP"))])] {
            let rig = Rig::with(TestStore::new(), [whole(text)], |builder| builder.max_signature(100).max_turn(limit));
            let got = rig.post(STREAM, QUESTION).await;
            assert_eq!(rig.store.states().len(), states, "limit {limit}");
            let expected = if states == 0 { Some(Unobserved::TooLarge) } else { None };
            assert_eq!(got.report().unobserved, expected);
        }
    }
}

/// A response of more parts than anyone could use is not kept.
#[tokio::test]
async fn parts_are_bounded() {
    for (count, kept) in [(4_096, true), (4_097, false)] {
        let parts = vec![call_part(SIGNATURE); count];
        let rig = Rig::new([whole(sse(&[event(&parts, Some("STOP"))]))]);
        let got = rig.post(STREAM, QUESTION).await;
        assert_eq!(got.report().unobserved.is_none(), kept);
        assert!(kept || got.report().unobserved == Some(Unobserved::TooLarge));
    }
}

/// Signatures over the bound and markers are left out, whole; what is beside them is kept.
#[tokio::test]
async fn signatures_are_bounded_and_never_cut() {
    for (length, kept) in [(15, false), (16, true), (1_000, true), (1_001, false), (100_000, false)] {
        let mut other = call_part(SIGNATURE);
        other["functionCall"]["args"]["city"] = "Rome".into();
        let answer = event(&[call_part(&signature(length)), other], Some("STOP"));
        let rig = Rig::with(TestStore::new(), [whole(answer.to_string())], |builder| builder.max_signature(1_000));
        rig.post(GENERATE, QUESTION).await;
        let mut expected = vec![format!("\"{}\"", signature(length)), format!("\"{SIGNATURE}\"")];
        if !kept {
            expected.remove(0);
        }
        assert_eq!(rig.store.states(), expected);
        rig.inner.will(whole("{}"));
        rig.post(GENERATE, FOLLOW_UP).await;
        let sent = if kept { restored_with(&signature(length)) } else { FOLLOW_UP.to_owned() };
        assert_eq!(rig.inner.last().text(), sent);
    }
}

/// An escape is one character, however it is written.
#[tokio::test]
async fn a_marker_is_none_the_longer_for_its_escapes() {
    for (written, kept) in [("a\\u003d\\u003d\\u003d", false), ("0123456789abcde\\u003d", true)] {
        let answer = event(&[call_part("?")], Some("STOP")).to_string().replace("\"?\"", &format!("\"{written}\""));
        let rig = Rig::new([whole(answer)]);
        rig.post(GENERATE, QUESTION).await;
        assert_eq!(rig.store.states().len(), usize::from(kept), "{written}");
    }
}

/// A ledger over its bounds lets its oldest turns go, whole.
#[tokio::test]
async fn the_oldest_turns_go_first() {
    for by_items in [true, false] {
        let builder = MemoryStore::builder();
        // A turn of one signed call is two items: the signature and the call.
        let builder = if by_items { builder.max_items_per_ledger(6) } else { builder.max_bytes_per_ledger(3_000) };
        let store = builder.build().unwrap();
        let layer = ReplayLayer::builder(store.clone()).max_turn(2_000).max_signature(2_000).build_layer().unwrap();
        let inner = Inner::new([]);
        let mut contents = vec![json!({"role": "user", "parts": [{"text": "Where?"}]})];
        let mut signatures = Vec::new();
        for turn in 0..6 {
            let name = format!("city {turn}");
            let value = format!("{turn}{}", signature(if by_items { 40 } else { 200 }));
            let mut call = call_part(&value);
            call["functionCall"]["args"]["city"] = name.into();
            call["functionCall"]["id"] = format!("okz0loq{turn}").into();
            inner.will(whole(event(&[call.clone()], Some("STOP")).to_string()));
            let request = request(GENERATE, json!({ "contents": contents }).to_string());
            let mut service = layer.layer(inner.clone());
            let service = ServiceExt::<http::Request<Scripted>>::ready(&mut service).await.unwrap();
            drain(service.call(request).await.unwrap()).await;
            let output =
                json!({"functionResponse": {"name": "look", "id": call["functionCall"]["id"], "response": {}}});
            call.as_object_mut().unwrap().remove("thoughtSignature");
            contents.push(json!({"role": "model", "parts": [call]}));
            contents.push(json!({"role": "user", "parts": [output]}));
            signatures.push(value);
        }
        inner.will(whole("{}"));
        let request = request(GENERATE, json!({ "contents": contents }).to_string());
        let mut service = layer.layer(inner.clone());
        let service = ServiceExt::<http::Request<Scripted>>::ready(&mut service).await.unwrap();
        service.call(request).await.unwrap();
        let sent = inner.last().text();
        let kept: Vec<bool> = signatures.iter().map(|signature| sent.contains(signature)).collect();
        let first = kept.iter().position(|kept| *kept).unwrap();
        assert!(first > 0 && kept[first..].iter().all(|kept| *kept), "{kept:?}");
        assert_eq!(store.snapshot().evicted_turns, first as u64);
        assert_eq!(layer.engine().counters().get(Event::Evicted), first as u64);
    }
}

/// Bounds that cannot work are refused when the layer is built.
#[test]
fn bounds_that_cannot_work_are_refused() {
    let build = || ReplayLayer::builder(MemoryStore::new());
    for builder in [
        build().max_request(0),
        build().max_event(0),
        build().max_turn(0),
        build().max_signature(15),
        build().max_signature(1_000).max_turn(999),
    ] {
        assert!(builder.build_layer().is_err());
    }
    assert!(build().max_signature(16).max_turn(16).build_layer().is_ok());
}

/// An endless answer without a finish leaves the memory as it is; `tests/allocations.rs` measures the stream.
#[tokio::test]
async fn an_endless_line_is_dropped() {
    let rig = Rig::with(TestStore::new(), [], |builder| builder.max_event(10_000));
    let piece = Bytes::from(vec![b'x'; 1_000]);
    let mut parts = vec![Bytes::from("data: ")];
    parts.extend(vec![piece; 100]);
    parts.push(Bytes::from(format!("\n\n{}", sse(&answer_events()))));
    rig.inner.will(frames(&parts));
    let got = rig.post(STREAM, QUESTION).await;
    assert_same(&got.frames, &parts);
    assert_eq!(got.report().unobserved, Some(Unobserved::TooLarge));
    assert!(rig.store.turns().is_empty());
}
