//! Bodies that are spelled oddly: what is put in stands in its place, and every other byte as it was.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{
    gemini::*,
    rig::Rig,
    service::{frames, whole},
};

/// Where the signature has to stand is marked so.
const HERE: &str = "⟨⟩";

/// A follow-up with a mark where the signature goes; what stands in the mark is replaced.
fn marked(body: &str) -> (String, String) {
    let (before, rest) = body.split_once('⟨').unwrap();
    let (inside, after) = rest.split_once('⟩').unwrap();
    let restored = match inside {
        "" => format!(",\"thoughtSignature\":\"{SIGNATURE}\""),
        "_" => format!(",\"thought_signature\":\"{SIGNATURE}\""),
        _ => format!("\"{SIGNATURE}\""),
    };
    let inside = inside.trim_start_matches('_');
    (format!("{before}{inside}{after}"), format!("{before}{restored}{after}"))
}

fn follow_up(part: &str) -> String {
    FOLLOW_UP.replacen(r#"{"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}}"#, part, 1)
}

/// Rules 2 and 6: the same content in other spellings is the same, and keeps its spelling.
#[tokio::test]
async fn odd_spellings_are_found_and_kept() {
    let plain =
        follow_up(&format!(r#"{{"functionCall":{{"name":"look","args":{{"city":"Paris"}},"id":"okz0loqw"}}{HERE}}}"#));
    let parts = [
        r#"{ "functionCall" : { "name" : "look" , "args" : { "city" : "Paris" } , "id" : "okz0loqw" }⟨⟩ }"#,
        "{\r\n\t\"functionCall\":\r\n{\"id\":\"okz0loqw\",\"args\":{\n\"city\":\"Paris\"\n},\"name\":\"look\"}⟨⟩\r\n\t}",
        r#"{"f\u0075nctionCall":{"n\u0061me":"l\u006fok","\u0061rgs":{"c\u0069ty":"P\u0061ris"},"\u0069d":"okz\u0030loqw"}⟨⟩}"#,
        r#"{"function_call":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}⟨_⟩}"#,
        r#"{"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"},"thoughtSignature":⟨""⟩}"#,
        r#"{"thought\u0053ignature" : ⟨null⟩ ,"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}}"#,
        r#"{"thought_signature":⟨"skip\u005fthought_signature_validator"⟩,"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}}"#,
        r#"{"thoughtSignature":⟨"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I"⟩,"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}}"#,
        r#"{"thoughtSignature":⟨"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I\u003d"⟩,"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}}"#,
        r#"{"thoughtSignature":⟨"Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv"⟩,"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}}"#,
        r#"{"text":null,"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"},"x":1,"x":"\u00e9"⟨⟩}"#,
        r#"{"text":"","thought":false,"functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}⟨⟩}"#,
        r#"{"functionCall":{"name":"look","args":{"city":"Paris"}}⟨⟩}"#,
        r#"{"functionCall":{"name":"look","args":{"city":"Paris"},"id":""}⟨⟩}"#,
    ];
    let mut bodies: Vec<String> = parts.iter().map(|part| follow_up(part)).collect();
    bodies.extend([
        plain.replace("\"contents\"", "\"\\u0063ontents\"").replace("\"parts\"", "\"p\\u0061rts\""),
        plain.replace("\"role\"", "\"\\u0072ole\"").replace("\"model\"", "\"\\u006dodel\""),
        plain.replace(":[{\"functionCall\"", ":{\"functionCall\"").replace("⟩}]", "⟩}"),
        plain.replace(":[{", ": [ \n{ ").replace("}]}", " } \t] }\r\n"),
        format!("\r\n\t {plain} \n\n"),
        plain.replacen('{', "{\"safetySettings\":[],\"x\":{\"contents\":[1]},\"x\":{\"parts\":2},", 1),
        plain.replacen('[', "[{\"role\":\"user\",\"parts\":[]},{\"role\":\"model\"},{},", 1),
        plain.replacen("[{\"functionCall\"", "[{},{\"text\":\"\"},{ \"thought\" : true },{\"functionCall\"", 1),
    ]);
    for body in bodies {
        let (body, expected) = marked(&body);
        serde_json::from_str::<Value>(&expected).unwrap_or_else(|_| panic!("{expected}"));
        for size in [usize::MAX, 1, 7] {
            let rig = Rig::new([]);
            rig.learn().await;
            rig.inner.will(whole("{}"));
            rig.exchange(request_in(GENERATE, &cut(&body, size.min(body.len())))).await;
            assert_eq!(rig.inner.last().text(), expected);
        }
    }
}

/// Rule 6: what is spelled so that nobody can say what it is gets nothing.
#[tokio::test]
async fn what_is_doubtful_stays_as_it_is() {
    let call = r#""functionCall":{"name":"look","args":{"city":"Paris"},"id":"okz0loqw"}"#;
    let parts = [
        format!(r#"{{{call},{call}}}"#),
        format!(r#"{{{call},"function_call":{{"name":"look","args":{{"city":"Paris"}}}}}}"#),
        format!(r#"{{{call},"text":"And so."}}"#),
        format!(r#"{{{call},"thoughtSignature":"","thought_signature":""}}"#),
        format!(r#"{{{call},"thoughtSignature":7}}"#),
        format!(r#"{{{call},"thoughtSignature":"b3duIHNpZ25hdHVyZSBvZiBpdHM=","thought_signature":""}}"#),
        format!(r#"{{{call},"functionResponse":{{}}}}"#),
        call.replacen("\"city\"", "\"city\":\"Rome\",\"city\"", 1).replacen('"', "{\"", 1) + "}",
        format!("{{{}}}", call.replace("Paris", "paris")),
        format!("{{{}}}", call.replace("Paris", "Paris ")),
        format!("{{{}}}", call.replace("look", "lo\\u006fk2")),
    ];
    for part in parts {
        let body = follow_up(&part);
        let rig = Rig::new([]);
        rig.learn().await;
        rig.inner.will(whole("{}"));
        rig.post(GENERATE, body.clone()).await;
        let sent = rig.inner.last().text();
        // Its output may bring the call back, but nothing is put on the part.
        assert!(sent.contains(&part), "{sent}");
        assert_eq!(sent.matches(SIGNATURE).count(), usize::from(sent != body), "{sent}");
    }
}

/// Rule 5: an escaped signature goes back as it came, and is the same value as one that is not.
#[tokio::test]
async fn escaped_signatures_are_the_same_value() {
    const STATE: &str = "EjQKMgEMOdbHUZl0c29tZXRoaW5nIG9wYXF1ZQ+/+w==";
    let spellings = [
        STATE.replace('=', "\\u003d"),
        STATE.replace('+', "\\u002B").replace('/', "\\/"),
        STATE.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect(),
    ];
    for spelling in spellings {
        for stream in [false, true] {
            let rig = Rig::new([]);
            let answer = document().replace(SIGNATURE, &spelling);
            let (uri, text) = match stream {
                true => (STREAM, format!("data: {answer}\r\n\r\n")),
                false => (GENERATE, answer),
            };
            rig.inner.will(whole(text));
            rig.post(uri, QUESTION).await;
            assert_eq!(rig.store.states(), [format!("\"{spelling}\"")]);
            rig.inner.will(whole("{}"));
            rig.post(GENERATE, FOLLOW_UP).await;
            assert_eq!(rig.inner.last().text(), restored_with(&spelling));
            // Where the client has it in another spelling it is not put in once more.
            for own in [STATE.to_owned(), STATE.replace('+', "-").replace('/', "_"), STATE.replace('=', "")] {
                let twice = FOLLOW_UP.replacen(
                    r#"{"functionCall""#,
                    &format!(r#"{{"functionCall":{{"name":"look","args":{{"city":"Paris"}}}},"thoughtSignature":"{own}"}},{{"functionCall""#),
                    1,
                );
                rig.inner.will(whole("{}"));
                rig.post(GENERATE, twice.clone()).await;
                assert_eq!(rig.inner.last().text(), twice);
            }
        }
    }
}

/// Answers that end, go on, or hold nothing in unusual ways.
#[tokio::test]
async fn unusual_answers_are_remembered_for_what_they_hold() {
    let empty = json!({"candidates": [{"index": 0}], "usageMetadata": {}});
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}});
    let call = || event(&[call_part(SIGNATURE)], None);
    let finish = |reason: Value| json!({"candidates": [{"finishReason": reason}]});
    let mut in_every = vec![event(&[call_part(SIGNATURE)], Some("STOP")); 1];
    in_every.extend((0..3).map(|at| event(&[json!({"text": format!("and {at}")})], Some("STOP"))));
    let cases: Vec<(Vec<Value>, bool)> = vec![
        (vec![empty.clone(), call(), empty.clone(), finish(json!("STOP")), empty.clone()], true),
        (vec![call(), finish(json!(1))], true),
        (vec![call(), finish(json!("MALFORMED_FUNCTION_CALL"))], true),
        (vec![blocked.clone()], false),
        (vec![empty.clone(), finish(json!("SAFETY"))], false),
        (vec![call(), blocked, finish(json!("STOP"))], true),
        (in_every, true),
        (vec![json!({}), json!(null), call(), json!([]), finish(json!("STOP"))], true),
    ];
    for (events, learned) in cases {
        let bodies = [(STREAM, sse(&events)), (ARRAY, array(&events)), (ARRAY, array(&events).replace("]\n]", "]"))];
        for (uri, text) in bodies {
            for size in [usize::MAX, 1, 10] {
                let parts: Vec<Bytes> = cut(&text, size.min(text.len()));
                let rig = Rig::new([frames(&parts), whole("{}")]);
                let got = rig.post(uri, QUESTION).await;
                assert_eq!(got.frames, parts);
                rig.post(GENERATE, FOLLOW_UP).await;
                let expected = if learned { restored() } else { FOLLOW_UP.to_owned() };
                assert_eq!(rig.inner.last().text(), expected, "{text}");
            }
        }
    }
    // The brace of the last element is the end, not the bracket: that may never come.
    let cut_off = array(&answer_events());
    let cut_off = cut_off.trim_end().strip_suffix(']').unwrap().to_owned();
    let rig = Rig::new([whole(cut_off), whole("{}")]);
    rig.post(ARRAY, QUESTION).await;
    assert!(!rig.store.turns()[0].is_provisional());
    for body in ["[]", "[ ]\n", "[\n", "{}"] {
        let rig = Rig::new([whole(body)]);
        assert_eq!(rig.post(ARRAY, QUESTION).await.text(), body);
        assert!(rig.store.turns().is_empty());
    }
}
