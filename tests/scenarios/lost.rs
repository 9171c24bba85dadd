//! Signatures that a client or a translator has no field for.

use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::{AnswerSignature, Chunks, Say, Turn};

use super::client::*;

/// A tool loop of two steps and an answer, then another question.
fn weather() -> [Turn; 4] {
    let think = || Say::thought("The user asks about the weather. I should look it up.");
    [
        Turn::new([think(), Say::call("get_weather", json!({"city": "Paris", "days": 1}))]),
        Turn::new([
            Say::text("And Tokyo:"),
            Say::calls([("get_weather", json!({"city": "東京"})), ("get_time", json!({}))]),
        ]),
        Turn::new([think(), Say::text("It rains in \"Paris\" & the sun shines in 東京: 24 °C.\nTake an umbrella.")]),
        text("You are welcome."),
    ]
}

/// Talks until the provider has said four things; gives the last request's contents.
async fn converse(gateway: &Gateway, ways: impl Fn(usize) -> Client, keep: impl Fn(&Answer) -> Value) -> Vec<Value> {
    let mut history = vec![user("How is the weather?")];
    for step in 0..4 {
        let answer = gateway.ask(&ways(step), &history).await;
        let kept = keep(&answer);
        let back = outputs(&kept);
        history.push(kept);
        history.push(if back["parts"] == json!([]) { user("Thanks.") } else { back });
    }
    contents(&gateway.last().body)
}

#[tokio::test]
async fn a_client_without_a_field_for_signatures_gets_through_its_tool_loop_g1() {
    for base in FACES {
        for how in WAYS {
            let gateway = Gateway::new(&strict(weather()).build());
            let sent = converse(&gateway, |_| Client::new(base, how), Answer::kept).await;
            // The first call, the first of two parallel calls, and the answer.
            gateway.took(3);
            let issued = gateway.provider.issued();
            for (content, part, issued) in [(1, 0, &issued[0]), (3, 1, &issued[1]), (5, 0, &issued[2])] {
                assert_eq!(sent[content]["parts"][part]["thoughtSignature"], issued.signature, "{base} {how:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_goes_upstream_is_what_the_client_sent_and_the_signature_g1() {
    let gateway = Gateway::says([call("ls", json!({"path": "/"}))]);
    let client = Client::new(API, How::Sse);
    let first = gateway.ask(&client, &[user("List")]).await;
    let part = &first.parts(0)[0]["functionCall"];
    let (id, signature) = (part["id"].as_str().unwrap(), &first.signatures()[0]);
    let body = |field: &str| {
        format!(
            "{{ \"contents\" : [{{\"role\":\"user\",\"parts\":[{{\"text\":\"List\"}}]}},\n\t{{\"parts\":[ {{\"functionCall\":{{\"args\":{{\"path\":\"\\u002f\"}},\"name\":\"ls\",\"id\":\"{id}\"}}{field} }} ],\"role\":\"model\"}},\
             {{\"role\":\"user\",\"parts\":[{{\"functionResponse\":{{\"name\":\"ls\",\"id\":\"{id}\",\"response\":{{}}}}}}]}}],\"labels\":{{}} }}\n"
        )
    };
    let second = gateway.ask_raw(&client, body("")).await;
    let expected = body(&format!(",\"thoughtSignature\":\"{signature}\""));
    assert_eq!(second.sent, [expected.as_bytes()]);
    gateway.took(1);
}

#[tokio::test]
async fn a_request_that_lacks_nothing_goes_on_as_it_came_g1() {
    let gateway = Gateway::new(&strict(weather()).build());
    let client = Client::new(API, How::Sse);
    let mut history = vec![user("How is the weather?")];
    for _ in 0..3 {
        let body = client.body(&history).to_string();
        let answer = gateway.ask(&client, &history).await;
        assert_eq!(answer.sent, [body.as_bytes()]);
        assert_eq!(answer.summary().restored, 0);
        let whole = answer.whole();
        let back = outputs(&whole);
        history.extend([whole, back]);
    }
    gateway.took(2);
}

#[tokio::test]
async fn what_was_streamed_is_found_when_nothing_is_streamed_and_back_g22() {
    for order in
        [[How::Whole, How::Sse, How::Array], [How::Sse, How::Array, How::Whole], [How::Array, How::Whole, How::Sse]]
    {
        for base in FACES {
            let gateway = Gateway::new(&strict(weather()).text_piece(5).build());
            converse(&gateway, |step| Client::new(base, order[step % 3]), Answer::kept).await;
            gateway.took(3);
        }
    }
}

#[tokio::test]
async fn a_text_that_came_in_many_pieces_is_one_run_g22() {
    for place in [
        AnswerSignature::TrailingEmpty,
        AnswerSignature::OnText,
        AnswerSignature::BeforeFinish,
        AnswerSignature::AfterFinish,
    ] {
        for how in WAYS {
            for piece in [1, 4, 1000] {
                let gateway = Gateway::new(&strict(weather()).text_piece(piece).answer_signature(place).build());
                converse(&gateway, |_| Client::new(API, how), Answer::kept).await;
                gateway.took(3);
            }
        }
    }
}

#[tokio::test]
async fn a_long_signature_survives_every_cut_of_the_stream_g21() {
    for size in [1, 7, 4096] {
        for how in WAYS {
            let provider = strict(weather()).chunks(Chunks::Bytes(size)).heavy_escapes(size == 7);
            let gateway = Gateway::new(&provider.build());
            converse(&gateway, |_| Client::new(API, how), Answer::kept).await;
            gateway.took(3);
        }
    }
}

#[tokio::test]
async fn a_signature_alone_at_the_end_goes_on_the_text_that_it_closes_g8() {
    let gateway = Gateway::says([text("A long answer in several pieces.")]);
    let client = Client::new(API, How::Sse);
    let answer = gateway.ask(&client, &[user("Hello")]).await;
    let came = answer.parts(0);
    assert_eq!((&came[came.len() - 1]["text"], came.len() > 2), (&json!(""), true));
    // The client merged the text and dropped the empty part.
    let next = gateway.ask(&client, &[user("Hello"), answer.kept(), user("Go on")]).await;
    gateway.took(1);
    assert_eq!(next.upstream()[1]["parts"].as_array().unwrap().len(), 1, "no part is added");
    assert_eq!(next.signature(1, 0), answer.signatures()[0]);
    // The client kept the empty part, in whatever it is still recognised by.
    for empty in [
        json!({"text": ""}),
        json!({"text": "", "thoughtSignature": ""}),
        json!({"text": "", "thoughtSignature": null}),
    ] {
        let mut kept = answer.kept();
        kept["parts"].as_array_mut().unwrap().push(empty);
        let next = gateway.ask(&client, &[user("Hello"), kept, user("Go on")]).await;
        gateway.took(1);
        assert_eq!(next.signature(1, 0), Value::Null);
        assert_eq!(next.signature(1, 1), answer.signatures()[0]);
    }
    // The client kept every piece.
    let next = gateway.ask(&client, &[user("Hello"), unsigned(&answer.whole()), user("Go on")]).await;
    gateway.took(1);
    assert_eq!(next.signature(1, came.len() - 1), answer.signatures()[0]);
    // All pieces but the empty one.
    let mut kept = unsigned(&answer.whole());
    kept["parts"].as_array_mut().unwrap().pop();
    let next = gateway.ask(&client, &[user("Hello"), kept, user("Go on")]).await;
    gateway.took(1);
    assert_eq!(next.signature(1, came.len() - 2), answer.signatures()[0]);
}
