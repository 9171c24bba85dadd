//! What happens when the provider refuses, and when tokens are counted.

use http::StatusCode;
use serde_json::{Value, json};
use tower_reasoning_replay::{
    Fallback, MemoryStore, ReplayLayer, Sentinel,
    engine::Event,
    testing::gemini::{InvalidWording, Refusals, Sentinels},
};

use super::client::*;

/// The history of a tool loop of one step.
async fn begun(gateway: &Gateway, client: &Client) -> Vec<Value> {
    let content = gateway.ask(client, &[user("Go")]).await.kept();
    vec![user("Go"), content.clone(), outputs(&content)]
}

fn foreign() -> Vec<Value> {
    let content = model(vec![json!({"functionCall": {"name": "ls", "args": {}}})]);
    vec![user("Go"), content.clone(), outputs(&content)]
}

#[tokio::test]
async fn both_wordings_of_a_missing_signature_are_understood_g2() {
    for base in FACES {
        for how in WAYS {
            for refusals in [
                Refusals::Native,
                Refusals::Object,
                Refusals::SseTyped,
                Refusals::Array,
                Refusals::OpenRouter { status: 429 },
                Refusals::OpenRouter { status: 502 },
                Refusals::LiteLlm { status: 500 },
                Refusals::LiteLlm { status: 400 },
            ] {
                let gateway = Gateway::new(&strict([text("Done.")]).refusals(refusals).build());
                let client = Client::new(base, how);
                let answer = gateway.ask(&client, &foreign()).await;
                assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 2), "{base} {how:?} {refusals:?}");
                assert!(!answer.text().contains("thought_signature"));
                assert!(answer.summary().healed);
                assert_eq!((gateway.last().genuine, gateway.last().sentinels), (0, 1));
                assert_eq!(answer.upstream(), foreign(), "first as it came");
                let counts = [Event::RefusedMissing, Event::Retried, Event::Healed, Event::Sentinel]
                    .map(|event| gateway.count(event));
                assert_eq!(counts, [1, 1, 1, 1]);
            }
        }
    }
}

#[tokio::test]
async fn a_missing_signature_forgets_nothing_g2() {
    let gateway = Gateway::says([call("ls", json!({"path": "/"})), text("Done."), text("Done.")]);
    let client = Client::new(API, How::Sse);
    let mut history = begun(&gateway, &client).await;
    // The client split off a call of its own making, which nobody can sign.
    history.splice(1..1, foreign().drain(1..));
    let answer = gateway.ask(&client, &history).await;
    assert_eq!((answer.status.as_u16(), gateway.restored(&answer)), (200, vec![0]));
    assert_eq!((gateway.last().genuine, gateway.last().sentinels), (1, 1));
    assert_eq!(gateway.count(Event::Forgotten), 0);
}

#[tokio::test]
async fn every_wording_of_an_invalid_signature_sets_off_the_recovery_g5() {
    for base in FACES {
        for wording in [InvalidWording::Corrupted, InvalidWording::Invalid] {
            for refusals in [
                Refusals::Native,
                Refusals::Array,
                Refusals::LiteLlm { status: 500 },
                Refusals::OpenRouter { status: 429 },
            ] {
                let turns = [call("ls", json!({"path": "/"})), text("Done."), text("Done.")];
                let gateway = Gateway::new(&strict(turns).invalid_wording(wording).refusals(refusals).build());
                let client = Client::new(base, How::Sse);
                let history = begun(&gateway, &client).await;
                gateway.provider.revoke_signatures();
                let answer = gateway.ask(&client, &history).await;
                assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 2), "{base} {wording:?} {refusals:?}");
                assert_eq!((gateway.last().genuine, gateway.last().sentinels), (0, 1));
                assert_eq!((gateway.count(Event::RefusedInvalid), gateway.count(Event::Forgotten)), (1, 1));
                // It was forgotten: the next request does not bring it again.
                let next = gateway.ask(&client, &history).await;
                assert_eq!(
                    (next.status.as_u16(), next.signature(1, 0), next.summary().restored),
                    (200, Value::Null, 0)
                );
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_in_the_stream_forgets_and_the_next_request_gets_through_g5() {
    for refusals in [Refusals::StreamLine { after: 0 }, Refusals::StreamEvent { after: 2 }] {
        for how in [How::Sse, How::Array] {
            let gateway =
                Gateway::new(&strict([call("ls", json!({"path": "/"})), text("Done.")]).refusals(refusals).build());
            let client = Client::new(API, how);
            let history = begun(&gateway, &client).await;
            gateway.provider.revoke_signatures();
            let answer = gateway.ask(&client, &history).await;
            // It reached the client already, so there is no second attempt.
            assert_eq!((answer.status.as_u16(), answer.sent.len()), (200, 1));
            assert_eq!(gateway.count(Event::Forgotten), 1);
            let next = gateway.ask(&client, &history).await;
            assert_eq!(next.upstream(), history);
        }
    }
}

#[tokio::test]
async fn errors_that_say_nothing_of_signatures_forget_nothing_g5() {
    for status in [429, 500, 503, 400, 404] {
        let gateway = Gateway::says([call("ls", json!({"path": "/"})), text("Done.")]);
        let client = Client::new(API, How::Sse);
        let history = begun(&gateway, &client).await;
        gateway.provider.fail_next(status.try_into().unwrap());
        let answer = gateway.ask(&client, &history).await;
        assert_eq!((answer.status.as_u16(), answer.sent.len()), (status, 1));
        gateway.ask(&client, &history).await;
        assert_eq!((gateway.last().genuine, gateway.count(Event::Forgotten)), (1, 0));
    }
}

#[tokio::test]
async fn tokens_are_counted_of_what_would_be_sent_g23() {
    for base in FACES {
        let gateway = Gateway::says([call("ls", json!({"path": "/"})), text("Done.")]);
        let client = Client::new(base, How::Sse);
        let history = begun(&gateway, &client).await;
        let counted = gateway.ask(&client.how(How::Count), &history).await;
        assert_eq!((counted.status.as_u16(), gateway.restored(&counted)), (200, vec![0]));
        let sent = gateway.ask(&client, &history).await.sent;
        assert_eq!(counted.sent, sent, "{base}");
        gateway.took(1);
    }
}

#[tokio::test]
async fn tokens_are_counted_without_the_session_and_in_an_envelope_g23() {
    for session in [Some("s1"), None] {
        let gateway = Gateway::says([call("ls", json!({"path": "/"})), text("Done.")]);
        let system = json!({"systemInstruction": {"parts": [{"text": "Be brief."}]}});
        let client = Client::new(API, How::Sse).session(session).beside(system);
        let history = begun(&gateway, &client).await;
        let count = Client::new(API, How::Count).session(None);
        let body = client.body(&history);
        let wrapped = {
            let mut inner = body.clone();
            inner["model"] = json!("models/gemini-3-pro-preview");
            json!({"generateContentRequest": inner})
        };
        for body in [body, wrapped] {
            let counted = gateway.ask_raw(&count, body.to_string()).await;
            assert_eq!((counted.status.as_u16(), gateway.restored(&counted)), (200, vec![0]), "{session:?} {body}");
        }
        gateway.took(1);
    }
}

#[tokio::test]
async fn counting_learns_nothing_and_takes_no_sentinel_g23() {
    let layer = || ReplayLayer::builder(MemoryStore::new()).fallback(Fallback::Always).build_layer().unwrap();
    let gateway = Gateway::with(&strict([text("Done.")]).count_refuses_sentinels(true).build(), layer());
    let client = Client::new(API, How::Count);
    let counted = gateway.ask(&client, &foreign()).await;
    assert_eq!(counted.sent, [client.body(&foreign()).to_string().as_bytes()]);
    assert_eq!(gateway.layer.engine().counters().get(Event::Learned), 0);
    // A count may stand for a request that asks for the sentinel; that request gets it.
    let answer = gateway.ask(&client.how(How::Sse), &foreign()).await;
    assert_eq!((answer.status.as_u16(), answer.sent.len(), gateway.last().sentinels), (200, 1, 1));
}

#[tokio::test]
async fn only_the_documented_sentinel_is_used_and_in_the_form_that_is_configured_g24() {
    let cases = [
        (Sentinel::Literal, Sentinels::all().base64(false).context(false), "skip_thought_signature_validator"),
        (
            Sentinel::Base64,
            Sentinels::all().literal(false).context(false),
            "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
        ),
    ];
    for (sentinel, accepted, written) in cases {
        for fallback in [Fallback::OnRejection, Fallback::Always] {
            let layer =
                ReplayLayer::builder(MemoryStore::new()).sentinel(sentinel).fallback(fallback).build_layer().unwrap();
            let gateway = Gateway::with(&strict([text("Done.")]).sentinels(accepted).build(), layer);
            let answer = gateway.ask(&Client::new(VERTEX, How::Sse), &foreign()).await;
            assert_eq!(answer.status.as_u16(), 200, "{sentinel:?} {fallback:?}");
            assert_eq!(contents(answer.sent.last().unwrap())[1]["parts"][0]["thoughtSignature"], written);
        }
    }
}

#[tokio::test]
async fn where_no_sentinel_is_taken_the_client_reads_the_first_refusal_g24() {
    for how in WAYS {
        for base in FACES {
            let gateway = Gateway::new(&strict([text("Done.")]).sentinels(Sentinels::none()).build());
            let client = Client::new(base, how);
            let alone = {
                let bare = Gateway::with(
                    &strict([]).sentinels(Sentinels::none()).build(),
                    ReplayLayer::builder(MemoryStore::new()).fallback(Fallback::Off).build_layer().unwrap(),
                );
                let answer = bare.ask(&client, &foreign()).await;
                assert_eq!(answer.sent.len(), 1);
                answer
            };
            for _ in 0..2 {
                let answer = gateway.ask(&client, &foreign()).await;
                assert_eq!((answer.status, &answer.bytes), (alone.status, &alone.bytes), "{base} {how:?}");
                assert_eq!(answer.headers["content-type"], alone.headers["content-type"]);
                assert_eq!(answer.sent.len(), 2);
            }
        }
    }
}

#[tokio::test]
async fn a_sentinel_is_used_only_where_nothing_is_known_and_is_counted_g25() {
    let layer = || ReplayLayer::builder(MemoryStore::new()).fallback(Fallback::Always).build_layer().unwrap();
    let gateway = Gateway::with(&strict([call("ls", json!({"path": "/"})), text("Done.")]).build(), layer());
    let client = Client::new(API, How::Sse);
    let mut history = begun(&gateway, &client).await;
    let answer = gateway.ask(&client, &history).await;
    assert_eq!((answer.summary().restored, answer.summary().sentinels), (1, 0));
    gateway.took(1);
    history.splice(1..1, foreign().drain(1..));
    let answer = gateway.ask(&client, &history).await;
    assert_eq!((answer.summary().restored, answer.summary().sentinels), (1, 1));
    assert_eq!((gateway.last().genuine, gateway.last().sentinels), (1, 1));
    assert_eq!(gateway.count(Event::Sentinel), 1);
}

#[tokio::test]
async fn our_own_sentinels_are_never_learned_g25() {
    // A provider that echoes what it was sent.
    let gateway = Gateway::says([]);
    let client = Client::new(API, How::Whole);
    let part =
        json!({"functionCall": {"name": "ls", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"});
    let body = json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}]});
    gateway.answer_next(Canned::json(&body));
    gateway.ask(&client, &[user("Go")]).await;
    gateway.answer_next(Canned::json(&json!({})));
    let answer = gateway.ask(&client, &foreign()).await;
    assert_eq!(answer.upstream(), foreign());
}

#[tokio::test]
async fn what_is_no_conversation_of_ours_passes_untouched_g26() {
    let gateway = Gateway::says([]);
    let base = "https://generativelanguage.googleapis.com/v1beta/interactions";
    let body = json!({"model": "gemini-3-pro-preview", "input": [{"type": "user_input", "content": [{"type": "text", "text": "Hi"}]}]});
    gateway.answer_next(Canned::json(&json!({"steps": []})));
    let client = Client::new(base, How::Whole);
    let answer = gateway.ask_raw(&client, body.to_string()).await;
    assert_eq!(answer.sent, [body.to_string().as_bytes()]);
}

/// Two pieces of state of one turn, of which the client kept the second without its state, and dropped the
/// first; and three turns of which it kept the outputs only, merged.
#[tokio::test]
async fn a_named_place_among_what_was_put_in_forgets_only_what_stands_there_g5() {
    let bad = |at: &str| {
        let message =
            format!("Invalid value at '{at}.thought_signature' (TYPE_BYTES), Base64 decoding failed for \"x\"");
        let body = json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}});
        Canned(StatusCode::BAD_REQUEST, "application/json", vec![body.to_string().into()])
    };
    let client = Client::new(API, How::Whole);
    let [one, two, three] =
        ["b25lIHNpZ25hdHVyZSBvZiBtYW55", "dHdvIHNpZ25hdHVyZXMgb2YgbWFueQ==", "dGhyZWUgc2lnbmF0dXJlcyBvZg=="];
    let call = |name: &str, state: &str| json!({"functionCall": {"name": name, "args": {}, "id": format!("{name}x7k2q9")}, "thoughtSignature": state});
    let answer =
        |parts: Value| Canned::json(&json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}));
    let back = |call: &Value| output(call, json!({}));
    for (place, left) in [(0, vec![two]), (1, vec![one]), (2, vec![one, two])] {
        let gateway = Gateway::says([]);
        let tool = json!({"toolCall": {"id": "j425u3dm", "toolType": "FILE_SEARCH", "args": {"q": 1}}, "thoughtSignature": two});
        let call = call("a", one);
        gateway.answer_next(answer(json!([call, tool, {"text": "So."}])));
        gateway.ask(&client, &[user("Go")]).await;
        let kept = model([unsigned(&tool), json!({"text": "So."})]);
        let history = [user("Go"), kept, json!({"role": "user", "parts": [back(&call)]})];
        gateway.answer_next(bad(&format!("contents[1].parts[{place}]")));
        gateway.answer_next(answer(json!([{"text": "Well."}])));
        let second = gateway.ask(&client, &history).await;
        assert_eq!(signatures(&second.upstream()[1]), [one, two]);
        assert_eq!(gateway.count(Event::Forgotten), u64::from(place < 2));
        gateway.answer_next(answer(json!([{"text": "Well."}])));
        let third = gateway.ask(&client, &history).await;
        assert_eq!(signatures(&third.upstream()[1]), left, "{place}");
    }
    for place in 0..5 {
        let gateway = Gateway::says([]);
        let calls = [call("a", one), call("b", two), call("c", three)];
        let mut history = vec![user("Go")];
        for call in &calls {
            gateway.answer_next(answer(json!([call])));
            gateway.ask(&client, &history).await;
            history.push(json!({"role": "user", "parts": [back(call)]}));
        }
        let outputs: Vec<Value> = calls.iter().map(back).collect();
        let history = [user("Go"), json!({"role": "user", "parts": outputs})];
        gateway.answer_next(bad(&format!("contents[{place}].parts[0]")));
        gateway.answer_next(answer(json!([{"text": "Well."}])));
        let second = gateway.ask(&client, &history).await;
        let states = |body: &[u8]| contents(body).iter().flat_map(signatures).collect::<Vec<_>>();
        assert_eq!(states(&second.sent[0]), [one, two, three]);
        let mut left = vec![one, two, three];
        if (1..4).contains(&place) {
            left.remove(place - 1);
            assert_eq!(states(&second.sent[1]), left, "{place}");
        }
        gateway.answer_next(answer(json!([{"text": "Well."}])));
        let third = gateway.ask(&client, &history).await;
        assert_eq!(states(&third.sent[0]), left, "{place}");
    }
}
