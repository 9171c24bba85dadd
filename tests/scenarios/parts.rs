//! Parts of every kind: images, files, code and tools that the provider ran, thoughts, and signatures in odd places.

use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::{AnswerSignature, Say, Sentinels, Turn};

use super::client::*;

fn image(seed: u8) -> Vec<u8> {
    (0..2_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
}

fn draws() -> [Turn; 3] {
    [
        Turn::new([Say::text("Here it is:"), Say::media("image/png", image(1))]),
        Turn::new([Say::media("image/png", image(2)), Say::media("image/png", image(3)), Say::text("Which one?")]),
        text("You are welcome."),
    ]
}

/// What a client keeps that knows text and images.
fn kept(answer: &Answer) -> Value {
    forget(&answer.parts(0))
}

#[tokio::test]
async fn an_image_is_edited_again_and_again_g6() {
    for how in WAYS {
        for large in [false, true] {
            let gateway = Gateway::new(&strict(draws()).large_media_signatures(large).build());
            let client = Client::new(IMAGE, how);
            let mut history = vec![user("Draw a cat")];
            for _ in 0..3 {
                let answer = gateway.ask(&client, &history).await;
                history.extend([kept(&answer), user("Now blue")]);
            }
            gateway.ask(&client, &history).await;
            gateway.took(6);
            let sent = contents(&gateway.last().body);
            let sent: Vec<Value> = sent.iter().map(unsigned).collect();
            assert_eq!(sent, history, "nothing but signatures is added");
        }
    }
}

#[tokio::test]
async fn an_image_in_another_base64_alphabet_is_the_same_image_g6() {
    let recode = |data: &str| data.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
    let gateway = Gateway::says(draws());
    let client = Client::new(IMAGE, How::Sse);
    let first = gateway.ask(&client, &[user("Draw a cat")]).await;
    let mut content = kept(&first);
    let data = content["parts"][1]["inlineData"]["data"].as_str().unwrap().to_owned();
    assert_ne!(recode(&data), data);
    content["parts"][1]["inlineData"]["data"] = recode(&data).into();
    gateway.ask(&client, &[user("Draw a cat"), content.clone(), user("Now blue")]).await;
    gateway.took(2);
    // In snake case too.
    let part = content["parts"][1]["inlineData"].clone();
    content["parts"][1] = json!({"inline_data": {"mime_type": part["mimeType"], "data": part["data"]}});
    let answer = gateway.ask(&client, &[user("Draw a cat"), content, user("Now blue")]).await;
    assert_eq!(answer.upstream()[1]["parts"][1]["thought_signature"], first.signatures()[1]);
    gateway.took(2);
}

#[tokio::test]
async fn an_image_that_was_encoded_anew_gets_a_sentinel_and_stays_as_it_is_g6() {
    let gateway = Gateway::says(draws());
    let client = Client::new(IMAGE, How::Sse);
    let first = gateway.ask(&client, &[user("Draw a cat")]).await;
    let mut content = kept(&first);
    let other = kept(&gateway.ask(&Client::new(IMAGE, How::Whole).session(Some("s2")), &[user("Draw")]).await);
    content["parts"][1]["inlineData"]["data"] = other["parts"][0]["inlineData"]["data"].clone();
    let second = gateway.ask(&client, &[user("Draw a cat"), content.clone(), user("Now blue")]).await;
    assert_eq!((second.status.as_u16(), second.sent.len()), (200, 2));
    let last = gateway.last();
    assert_eq!((last.genuine, last.sentinels), (1, 1));
    let sent = contents(&last.body);
    assert_eq!(sent[1]["parts"][0]["thoughtSignature"], first.signatures()[0]);
    assert_eq!(sent[1]["parts"][1]["inlineData"], content["parts"][1]["inlineData"]);
}

#[tokio::test]
async fn a_file_is_told_by_its_uri_and_signatures_reach_four_mebibytes_g6() {
    let client = Client::new(IMAGE, How::Sse);
    for (length, restored) in [(4 << 20, true), ((4 << 20) + 4, false)] {
        let gateway = Gateway::says([]);
        let signature = "Ab+/".repeat(length / 4);
        let part =
            json!({"fileData": {"mimeType": "video/mp4", "fileUri": "https://files/1"}, "thoughtSignature": signature});
        let event = json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}]});
        gateway.answer_next(Canned::sse([event]));
        gateway.ask(&client, &[user("Film a cat")]).await;
        for (uri, same) in [("https://files/1", true), ("https://files/2", false)] {
            gateway.answer_next(Canned::json(&json!({})));
            let part = json!({"file_data": {"file_uri": uri, "mime_type": "video/mp4"}});
            let answer = gateway.ask(&client, &[user("Film a cat"), model(vec![part]), user("Now blue")]).await;
            let sent = answer.upstream()[1]["parts"][0]["thought_signature"].clone();
            let expected = if restored && same { Value::from(signature.as_str()) } else { Value::Null };
            assert!(sent == expected, "{uri} {length}");
        }
    }
}

#[tokio::test]
async fn an_image_model_gets_every_text_signed_again_g7() {
    for how in WAYS {
        for place in [AnswerSignature::TrailingEmpty, AnswerSignature::OnText] {
            let turns = ["A first answer.", "A second answer.", "A third one."].map(text);
            let gateway = Gateway::new(&strict(turns).answer_signature(place).build());
            let client = Client::new(IMAGE, how);
            let mut history = vec![user("Hello")];
            for _ in 0..3 {
                let answer = gateway.ask(&client, &history).await;
                history.extend([kept(&answer), user("Go on")]);
            }
            gateway.ask(&client, &history).await;
            gateway.took(3);
        }
    }
}

#[tokio::test]
async fn an_image_model_whose_text_was_changed_gets_a_sentinel_there_g7() {
    let gateway = Gateway::says([text("A first answer."), text("A second answer.")]);
    let client = Client::new(IMAGE, How::Whole);
    let mut history = vec![user("Hello")];
    for _ in 0..2 {
        let answer = gateway.ask(&client, &history).await;
        history.extend([kept(&answer), user("Go on")]);
    }
    history[1]["parts"][0]["text"] = json!("A first answer!");
    let answer = gateway.ask(&client, &history).await;
    assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 2));
    assert_eq!((gateway.last().genuine, gateway.last().sentinels), (1, 1));
}

#[tokio::test]
async fn what_stands_beside_a_signature_is_never_dropped_g8() {
    // Text and signature in one part, and several parts in one event.
    for size in [1, 2, 9] {
        for place in [AnswerSignature::OnText, AnswerSignature::TrailingEmpty] {
            let turn =
                Turn::new([Say::thought("Hm."), Say::text("Some words that matter."), Say::call("ls", json!({}))]);
            let provider = strict([turn, text("The end of it all.")]).parts_per_event(size).answer_signature(place);
            let gateway = Gateway::new(&provider.build());
            let client = Client::new(API, How::Sse);
            let mut history = vec![user("Go")];
            for _ in 0..2 {
                let content = gateway.ask(&client, &history).await.kept();
                let back = outputs(&content);
                history.push(content);
                history.push(if back["parts"] == json!([]) { user("On") } else { back });
            }
            assert_eq!(history[1]["parts"][0]["text"], "Some words that matter.");
            gateway.ask(&client, &history).await;
            gateway.took(2);
        }
    }
}

#[tokio::test]
async fn a_call_whose_signature_came_behind_it_gets_it_back_g8() {
    for how in WAYS {
        let turn = calls([("a", json!({"x": 1})), ("b", json!({}))]);
        let gateway = Gateway::new(&strict([turn, call("a", json!({}))]).detach_call_signatures(true).build());
        let client = Client::new(API, how);
        let mut history = vec![user("Go")];
        for _ in 0..2 {
            let answer = gateway.ask(&client, &history).await;
            let content = answer.kept();
            let back = outputs(&content);
            history.extend([content, back]);
        }
        let last = gateway.ask(&client, &history).await;
        assert_eq!(gateway.restored(&last), [0, 1], "{how:?}");
        assert_eq!(last.signature(1, 0), gateway.provider.issued()[0].signature);
        gateway.took(2);
    }
}

#[tokio::test]
async fn a_client_that_kept_the_empty_part_behind_a_call_gets_through_too_g8() {
    let gateway = Gateway::new(&strict([call("a", json!({"x": 1}))]).detach_call_signatures(true).build());
    let client = Client::new(API, How::Sse);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let content = unsigned(&first.whole());
    let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
    assert_eq!(second.status.as_u16(), 200);
    gateway.took(1);
}

/// An answer of these parts, one event each.
fn streams(parts: impl IntoIterator<Item = Value>) -> Canned {
    let mut events: Vec<Value> = parts
        .into_iter()
        .map(|part| json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}}]}))
        .collect();
    events.push(json!({"candidates": [{"index": 0, "finishReason": "STOP"}]}));
    Canned::sse(events)
}

/// What goes upstream for this model content after an answer of these parts.
async fn sends(came: &[Value], content: Value) -> Vec<Value> {
    let gateway = Gateway::says([]);
    let client = Client::new(API, How::Sse);
    gateway.answer_next(streams(came.iter().cloned()));
    gateway.ask(&client, &[user("Go")]).await;
    gateway.answer_next(Canned::json(&json!({})));
    let answer = gateway.ask(&client, &[user("Go"), content, user("On")]).await;
    answer.upstream()[1]["parts"].as_array().unwrap().clone()
}

const ONE: &str = "Signature+of+one+";
const TWO: &str = "Signature+of+two+";

fn texts<const N: usize>(texts: [(&str, &str); N]) -> Vec<Value> {
    let part = |(text, signature): (&str, &str)| match signature {
        "" => json!({ "text": text }),
        signature => json!({"text": text, "thoughtSignature": signature}),
    };
    texts.into_iter().map(part).collect()
}

#[tokio::test]
async fn a_signature_in_the_middle_of_a_run_of_text_g8() {
    let came = texts([("One ", ""), ("two ", ONE), ("three ", ""), ("four", "")]);
    let plain = |parts: &[&str]| model(parts.iter().map(|text| json!({ "text": text })));
    // Merged into one part, it stands on that.
    assert_eq!(sends(&came, plain(&["One two three four"])).await, texts([("One two three four", ONE)]));
    // In its pieces, it stands where it stood.
    let kept = sends(&came, plain(&["One ", "two ", "three ", "four"])).await;
    assert_eq!(kept, texts([("One ", ""), ("two ", ONE), ("three ", ""), ("four", "")]));
    // In other pieces, on the one in which it ended.
    let kept = sends(&came, plain(&["One t", "wo three", " four"])).await;
    assert_eq!(kept, texts([("One t", ""), ("wo three", ONE), (" four", "")]));
    // Changed, nowhere.
    for changed in [&["One two three five"][..], &["One two three four "], &["one two three four"], &["two three four"]]
    {
        assert!(signatures(&model(sends(&came, plain(changed)).await)).is_empty(), "{changed:?}");
    }
}

#[tokio::test]
async fn two_signed_texts_stay_two_g8() {
    let came = texts([("One.", ""), ("", ONE), ("Two.", ""), ("", TWO)]);
    let plain = |parts: &[&str]| model(parts.iter().map(|text| json!({ "text": text })));
    assert_eq!(sends(&came, plain(&["One.", "Two."])).await, texts([("One.", ONE), ("Two.", TWO)]));
    assert_eq!(
        sends(&came, plain(&["One.", "", "Two.", ""])).await,
        texts([("One.", ""), ("", ONE), ("Two.", ""), ("", TWO)])
    );
    // Merged, they are neither the one nor the other.
    assert_eq!(sends(&came, plain(&["One.Two."])).await, texts([("One.Two.", "")]));
    // One was dropped.
    assert_eq!(sends(&came, plain(&["Two."])).await, texts([("Two.", TWO)]));
    // One is signed by the client.
    let own = model(texts([("One.", ONE), ("Two.", "")]));
    assert_eq!(sends(&came, own).await, texts([("One.", ONE), ("Two.", TWO)]));
}

#[tokio::test]
async fn a_signature_without_anything_to_sign_is_not_moved_g27() {
    // It came alone, before a part that has its own.
    let came = [
        json!({"text": "", "thoughtSignature": ONE}),
        json!({"functionCall": {"name": "f", "args": {}}, "thoughtSignature": TWO}),
    ];
    let content = model(vec![json!({"functionCall": {"name": "f"}})]);
    assert_eq!(signatures(&model(sends(&came, content).await)), [TWO]);
    // It came behind a signed call.
    let came =
        [json!({"functionCall": {"name": "f"}, "thoughtSignature": ONE}), json!({"text": "", "thoughtSignature": TWO})];
    let content = model(vec![json!({"functionCall": {"name": "f"}})]);
    assert_eq!(signatures(&model(sends(&came, content).await)), [ONE]);
}

#[tokio::test]
async fn the_signature_of_a_call_that_was_dropped_stays_off_its_sibling_g27() {
    let gateway =
        Gateway::new(&strict([calls([("a", json!({})), ("b", json!({}))])]).sentinels(Sentinels::all()).build());
    let client = Client::new(API, How::Sse);
    let first = gateway.ask(&client, &[user("Go")]).await;
    // The signed call is gone, with its output.
    let content = model(vec![first.kept()["parts"][1].clone()]);
    let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
    assert_eq!(second.signature(1, 0), Value::Null);
    assert_eq!((second.status.as_u16(), gateway.last().genuine, gateway.last().sentinels), (200, 0, 1));
}

#[tokio::test]
async fn parts_that_the_provider_ran_keep_their_signatures_g26() {
    let turn = || {
        Turn::new([
            Say::executable_code("print(1)"),
            Say::code_result("1\n"),
            Say::tool_call("GOOGLE_SEARCH_WEB", json!({"queries": ["x"], "n": 1})),
            Say::tool_response("GOOGLE_SEARCH_WEB", json!({"hits": [1, 2]})),
            Say::executable_code("print(2)"),
            Say::code_result("2\n"),
            Say::text("Done."),
        ])
    };
    for base in FACES {
        for how in WAYS {
            let gateway = Gateway::says([turn(), turn()]);
            let client = Client::new(base, how);
            let mut history = vec![user("Go")];
            for _ in 0..2 {
                let answer = gateway.ask(&client, &history).await;
                history.extend([answer.kept(), user("Again")]);
            }
            let last = gateway.ask(&client, &history).await;
            assert_eq!(gateway.restored(&last), (0..10).collect::<Vec<_>>());
            gateway.took(10);
        }
    }
}

#[tokio::test]
async fn a_changed_part_that_the_provider_ran_gets_nothing_g26() {
    let code = |code: &str| json!({"executableCode": {"language": "PYTHON", "code": code}});
    let mut signed = code("print(1)");
    signed["thoughtSignature"] = json!(ONE);
    let came = [signed.clone()];
    assert_eq!(sends(&came, model(vec![code("print(1)")])).await, came);
    let snake = json!({"executable_code": {"code": "print(1)", "language": 1}});
    assert_eq!(sends(&came, model(vec![snake])).await[0]["thought_signature"], ONE);
    assert_eq!(sends(&came, model(vec![code("print(2)")])).await, [code("print(2)")]);
}

#[tokio::test]
async fn thoughts_that_the_client_kept_get_their_signature_g26() {
    for how in WAYS {
        let turn = Turn::new([Say::thought("I had better look."), Say::call("ls", json!({}))]);
        let gateway = Gateway::new(&strict([turn, text("Done.")]).sign_thoughts(true).build());
        let client = Client::new(API, how);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let thought = json!({"thought": true, "text": "I had better look."});
        let content = model(vec![thought, first.kept()["parts"][0].clone()]);
        gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
        gateway.took(2);
        // Dropped, it stays away: the call does not need it.
        let content = first.kept();
        let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
        assert_eq!(second.upstream()[1]["parts"].as_array().unwrap().len(), 1);
        gateway.took(1);
    }
}

#[tokio::test]
async fn texts_that_were_merged_over_a_dropped_thought_keep_the_signature_of_the_last_g8() {
    for how in WAYS {
        let think = || Say::thought("Hm.");
        let turn = Turn::new([Say::text("One. "), think(), Say::text("Two. "), think(), Say::text("Three.")]);
        let gateway = Gateway::says([turn]);
        let client = Client::new(API, how);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let merged = first.kept();
        assert_eq!(merged["parts"], json!([{"text": "One. Two. Three."}]));
        let apart = model(["One. ", "Two. ", "Three."].map(|text| json!({ "text": text })));
        for (content, last) in [(merged, 0), (apart, 2), (unsigned(&first.whole()), usize::MAX)] {
            let second = gateway.ask(&client, &[user("Go"), content, user("On")]).await;
            assert_eq!(gateway.restored(&second), [0], "{how:?} {last}");
            assert!(last == usize::MAX || second.signature(1, last) == first.signatures()[0]);
            gateway.took(1);
        }
    }
}

/// Where all that preceded the answer stands before the merged text, a text of another answer that equals one of its
/// pieces has no claim.
#[tokio::test]
async fn a_later_text_that_equals_the_last_piece_of_a_merged_one_does_not_get_its_signature_g8() {
    for how in WAYS {
        let turn = Turn::new([Say::text("One. "), Say::thought("Hm."), Say::text("Two.")]);
        let gateway = Gateway::says([turn]);
        let client = Client::new(API, how);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let (merged, elsewhere) = (first.kept(), model([json!({"text": "Two."})]));
        let mut history = vec![user("Go"), merged.clone(), user("On")];
        for _ in 0..3 {
            let next = gateway.ask(&client, &history).await;
            assert_eq!(next.signature(1, 0), first.signatures()[0], "{how:?}");
            gateway.took(1);
            history.extend([elsewhere.clone(), user("On")]);
        }
        // Without the merged text, and where something else preceded it, the piece may be what it was.
        for changed in [vec![user("Go"), elsewhere.clone(), user("On")], vec![user("Stay"), elsewhere, user("On")]] {
            let next = gateway.ask(&client, &changed).await;
            assert_eq!(next.signature(1, 0), first.signatures()[0], "{how:?}");
            gateway.took(1);
        }
    }
}
