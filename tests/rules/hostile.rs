//! Rules 3 and 4 on the response side: whatever a provider sends, it flows unchanged, and nothing breaks.

use std::io::Read;

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tower_reasoning_replay::engine::Summary;

use crate::support::{
    assert_same,
    body::Scripted,
    gemini::*,
    rig::Rig,
    service::{Act, whole},
};

/// Sends an answer in these frames, and tells what was made of it.
async fn outcome(content_type: &str, frames: &[Bytes], marks_end: bool) -> (Vec<String>, Summary) {
    let mut body = Scripted::of(frames);
    if marks_end {
        body = body.marks_end();
    }
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", content_type.parse().unwrap());
    let rig = Rig::new([Act::Answer(response)]);
    let got = rig.post(STREAM, QUESTION).await;
    assert_same(&got.frames, frames);
    assert!(got.error.is_none() && got.trailers.is_none());
    let states = rig.store.states();
    // The layer works on as if nothing had been.
    rig.inner.will(whole("{}"));
    rig.post(GENERATE, QUESTION).await;
    assert_eq!(rig.inner.last().text(), QUESTION);
    (states, got.report())
}

fn in_pieces(body: &[u8], size: usize) -> Vec<Bytes> {
    let body = Bytes::copy_from_slice(body);
    (0..body.len()).step_by(size).map(|at| body.slice(at..body.len().min(at + size))).collect()
}

/// Whatever is learned of a body does not depend on how it is cut; `learned` pieces of state are.
async fn flows(body: impl AsRef<[u8]>, learned: usize) {
    let body = body.as_ref();
    let mut sizes = vec![body.len().max(1), 1_000, 64, 7, 3, 2, 1];
    if body.len() > 100_000 {
        sizes.truncate(2);
    }
    for content_type in ["text/event-stream", "application/json; charset=UTF-8", "text/html"] {
        for size in &sizes {
            for marks_end in [false, true] {
                let (states, report) = outcome(content_type, &in_pieces(body, *size), marks_end).await;
                let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
                assert_eq!(states.len(), learned, "{text} in {size} as {content_type}: {report:?}");
            }
        }
    }
}

/// A content type that lies is not believed: the body tells what it is.
#[tokio::test]
async fn a_lying_content_type() {
    flows(sse(&answer_events()), 1).await;
    flows(array(&answer_events()), 1).await;
    flows(document(), 1).await;
    flows(serde_json::to_string_pretty(&event(&[call_part(SIGNATURE)], Some("STOP"))).unwrap(), 1).await;
}

/// What the standard of event streams allows.
#[tokio::test]
async fn unusual_event_streams() {
    let text = sse(&answer_events());
    let data = event(&[call_part(SIGNATURE)], Some("STOP"));
    let pretty = serde_json::to_string_pretty(&data).unwrap();
    let lines: String = pretty.lines().map(|line| format!("data: {line}\n")).collect();
    let bodies = [
        format!("\u{feff}{text}"),
        text.replace("\r\n", "\n"),
        text.replace("\r\n", "\r"),
        format!("\r\n\r\n\n{text}"),
        format!(": comment\n\n:\n{text}: bye"),
        format!("event: message\nid: 7\nretry: 100\n{text}"),
        format!("unknown: field\nno colon\n{text}"),
        text.replace("data: ", "data:"),
        format!("{lines}\n"),
        lines.replace('\n', "\r") + "\r",
        lines,
        text.trim_end().to_owned(),
        format!("{text}data: [DONE]\n\n"),
        format!("data:\n\ndata: \n\n{text}"),
    ];
    for body in bodies {
        flows(body, 1).await;
    }
}

/// Bodies that hold nothing, or nothing that makes sense.
#[tokio::test]
async fn bodies_without_sense() {
    let truncated = document();
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\n".to_vec(),
        b"\xef\xbb\xbf".to_vec(),
        b"<html><body>502 Bad Gateway</body></html>".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"[[[[".to_vec(),
        b"\"text\"".to_vec(),
        b"data: {".to_vec(),
        b"data: }\n\n".to_vec(),
        b"data: \xff\xfe\x00\n\n".to_vec(),
        b"\0\0\0\0".to_vec(),
        truncated.as_bytes()[..truncated.len() - 1].to_vec(),
        format!("{{\"a\":{}}}", "[".repeat(5_000)).into_bytes(),
        format!("data: {{\"a\":{}{}}}\n\n", "[".repeat(5_000), "]".repeat(5_000)).into_bytes(),
        format!("data: {}\n\n", "{\"candidates\":".repeat(5_000)).into_bytes(),
        format!("{{\"candidates\":[{}]}}", vec!["{}"; 5_000].join(",")).into_bytes(),
        b"\x1f\x8b\x08".to_vec(),
    ];
    for body in bodies {
        flows(body, 0).await;
    }
}

/// Values of the wrong kind in an answer's fields. What is beside them may be learned.
#[tokio::test]
async fn wrong_types_in_an_answer() {
    let text = document();
    let values = ["null", "true", "-1", "1e999", "18446744073709551616", "\"\"", "\"\\ud800\"", "[]", "{}", "[[null]]"];
    for (start, _) in text.match_indices(':') {
        let start = start + 1;
        let mut rest = serde_json::Deserializer::from_str(&text[start..]).into_iter::<serde_json::Value>();
        if rest.next().is_none_or(|value| value.is_err()) {
            continue;
        }
        let end = start + rest.byte_offset();
        for value in values {
            let body = format!("{}{value}{}", &text[..start], &text[end..]);
            let (whole, _) = outcome("application/json", &in_pieces(body.as_bytes(), body.len()), false).await;
            let (pieces, _) = outcome("application/json", &in_pieces(body.as_bytes(), 5), true).await;
            assert_eq!(whole, pieces, "{body}");
        }
    }
}

/// Keys that stand twice in an answer leave nothing doubtful behind.
#[tokio::test]
async fn repeated_keys_in_an_answer() {
    let text = document();
    for key in ["\"args\":", "\"name\":", "\"id\":", "\"functionCall\":", "\"thoughtSignature\":"] {
        let value = if key == "\"args\":" { "{\"city\":\"Rome\"}" } else { "\"bm90IHRoZSBzYW1lIHNpZ25hdHVyZQ==\"" };
        assert_eq!(text.matches(key).count(), 1);
        let body = text.replacen(key, &format!("{key}{value},{key}"), 1);
        flows(&body, 0).await;
    }
}

/// Of several data lines that are no document together the first one counts, as it does for a client
/// that reads line by line.
#[tokio::test]
async fn lines_that_do_not_belong_together() {
    let line = event(&[call_part(SIGNATURE)], None);
    let other = event(&[json!({"text": "x"})], Some("STOP"));
    flows(format!("data: {line}\ndata: {other}\n\n"), 1).await;
    flows(format!("data: {line}\n\ndata: {other}\ndata:\n\n"), 1).await;
}

/// A great many candidates, and indexes that make no sense.
#[tokio::test]
async fn many_candidates() {
    let mut events: Vec<_> = (0..2_000).map(|index| candidate(index, &[call_part(SIGNATURE)], Some("STOP"))).collect();
    flows(sse(&events[..64]), 64).await;
    let body = sse(&events);
    let (_, report) = outcome("text/event-stream", &in_pieces(body.as_bytes(), body.len()), false).await;
    assert!(report.unobserved.is_some());
    events.truncate(1);
    for index in [json!(-1), json!(4_294_967_296_u64), json!(1.5), json!("0"), json!(null)] {
        events[0]["candidates"][0]["index"] = index;
        flows(sse(&events), 1).await;
    }
}

/// Bytes without any order.
#[tokio::test]
async fn noise() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let text = sse(&answer_events()).into_bytes();
    for _ in 0..200 {
        let mut body = text.clone();
        for _ in 0..1 + draw() % 4 {
            let at = draw() as usize % body.len();
            match draw() % 3 {
                0 => body[at] = draw() as u8,
                1 => drop(body.remove(at)),
                _ => body.insert(at, b"{}[]\",:\\\r\n"[draw() as usize % 10]),
            }
        }
        let size = 1 + draw() as usize % 40;
        let (one, _) = outcome("text/event-stream", &in_pieces(&body, body.len()), true).await;
        let (other, _) = outcome("text/event-stream", &in_pieces(&body, size), false).await;
        assert_eq!(one, other, "{}", String::from_utf8_lossy(&body));
    }
    for _ in 0..50 {
        let body: Vec<u8> = (0..300).map(|_| draw() as u8).collect();
        assert!(outcome("text/event-stream", &in_pieces(&body, 11), false).await.0.is_empty());
    }
}

/// A compressed answer without a word of it.
#[tokio::test]
async fn compression_without_a_label() {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(sse(&answer_events()).as_bytes(), flate2::Compression::best())
        .read_to_end(&mut packed)
        .unwrap();
    flows(packed, 0).await;
}
