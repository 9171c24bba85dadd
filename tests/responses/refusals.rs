//! What happens after the provider refused reasoning.

use serde_json::{Value, json};
use tower_reasoning_replay::engine::Event;

use crate::{
    support::{
        gemini::cut,
        service::{frames, refusal, whole},
    },
    talk::*,
};

const CIPHER: &str = "The encrypted content gAAA...DQ== could not be verified. Reason: Encrypted content could not be \
                      decrypted or parsed.";
const PAIR: &str = "Item 'rs_7fQz2LkWm3XvB9tR' of type 'reasoning' was provided without its required following item.";

fn native(message: &str, code: impl Into<Value>) -> Value {
    let code = code.into();
    json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}})
}

fn kept() -> Value {
    json!([user("Look."), call(0), output(0)])
}

fn honest() -> Value {
    json!([user("Look."), reasoning(0), call(0), output(0)])
}

async fn learned() -> Talk {
    let talk = Talk::storing(Some(false));
    talk.learn(&[user("Look.")], Form::Stream, &[reasoning(0), call(0)]).await;
    talk
}

/// Sends the history, which is refused so; tells whether the reasoning is known afterwards.
async fn refused(status: u16, error: &str, event: Event) -> bool {
    let talk = learned().await;
    talk.rig.inner.will(refusal(status, error.to_owned())).will(whole(document(&[])));
    let got = talk.post(RESPONSES, talk.body(&kept()).to_string()).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, document(&[])), "{error}");
    assert!(got.report().healed);
    let bodies: Vec<String> = talk.rig.inner.seen().iter().skip(1).map(|seen| seen.text()).collect();
    // R14: the second body is the client's own: no remains of the item are left in it.
    assert_eq!(bodies, [talk.body(&honest()).to_string(), talk.body(&kept()).to_string()]);
    assert_eq!((talk.rig.count(event), talk.rig.count(Event::Retried)), (1, 1), "{error}");
    let known = talk.rig.count(Event::Forgotten) == 0;
    talk.arrives(&kept(), &if known { honest() } else { kept() }).await;
    known
}

/// R1, R2, R3, R4, R11: every wording of state that cannot be read, in every wrapping, takes it out and forgets it.
#[tokio::test]
async fn state_that_cannot_be_read_is_taken_out_and_forgotten_r2() {
    let wordings = [
        CIPHER,
        "The encrypted content for item rs_7fQz2LkWm3XvB9tR could not be verified.",
        "Encrypted content organization_id did not match the target organization.",
        "Upstream request failed: [invalid_request_error] reasoning `encrypted_content` was not issued to this caller",
        "Item with id 'rs_7fQz2LkWm3XvB9tR' was created under a different Azure OpenAI resource.",
        "Could not decrypt the provided encrypted_content. Ensure the value is the unmodified encrypted_content from a previous response.",
        "Could not decode the compaction blob. Ensure it is unmodified from the compact response.",
    ];
    for message in wordings {
        let known = native(message, json!("invalid_encrypted_content"));
        let raw = known.to_string();
        for (status, error) in [
            (400, known.clone()),
            (400, native(message, Value::Null)),
            (422, native(message, json!(0))),
            (404, native(message, json!(""))),
            (400, json!({"code": "invalid-argument", "error": message})),
            (400, json!({"detail": message})),
            (400, json!([{"error": message}])),
            (502, json!({"error": {"message": message, "type": "upstream_error"}})),
            (502, json!({"error": {"message": raw, "code": 502}})),
            (
                500,
                json!({"error": {"message": "Provider returned error", "metadata": {"raw": json!(raw).to_string()}}}),
            ),
            (429, json!({"message": message})),
        ] {
            assert!(!refused(status, &error.to_string(), Event::RefusedInvalid).await, "{error}");
        }
        assert!(!refused(502, &format!("upstream: {message}"), Event::RefusedInvalid).await, "{message}");
    }
    let only_code = native("Bad request.", json!("invalid_encrypted_content")).to_string();
    assert!(!refused(400, &only_code, Event::RefusedInvalid).await);
}

/// R5, R7, R8, R9, R14: what is wrong about the shape takes our part out of this request, and forgets nothing.
#[tokio::test]
async fn a_wrong_shape_is_rolled_back_and_nothing_forgotten_r14() {
    for message in [
        PAIR,
        "Duplicate item found with id rs_7fQz2LkWm3XvB9tR. Remove duplicate items from your input and try again.",
        "Item with id 'rs_7fQz2LkWm3XvB9tR' not found. Items are not persisted when `store` is set to false.",
        "No tool call found for function call output with call_id call_7fQz2LkWm3XvB9tR.",
    ] {
        for (status, error) in [
            (400, native(message, Value::Null)),
            (404, native(message, Value::Null)),
            (400, json!({"code": "invalid-argument", "error": message})),
            (502, json!({"error": {"message": native(message, Value::Null).to_string()}})),
        ] {
            assert!(refused(status, &error.to_string(), Event::RefusedStructure).await, "{error}");
        }
    }
}

/// R1: of several items only the one that is named goes; the others stay.
#[tokio::test]
async fn only_the_named_item_is_taken_out_r1() {
    for number in 0..3 {
        let talk = Talk::storing(Some(false));
        let (mut kept, mut honest) = (vec![user("Look.")], vec![user("Look.")]);
        for step in 0..3 {
            talk.learn(&kept, Form::Stream, &[reasoning(step), call(step)]).await;
            kept.extend([call(step), output(step)]);
            honest.extend([reasoning(step), call(step), output(step)]);
        }
        let id = reasoning(number)["id"].clone();
        let message = format!("The encrypted content for item {} could not be verified.", id.as_str().unwrap());
        let error = native(&message, json!("invalid_encrypted_content")).to_string();
        talk.rig.inner.will(refusal(400, error)).will(whole(document(&[])));
        talk.post(RESPONSES, talk.body(&json!(kept)).to_string()).await;
        honest.retain(|item| item["id"] != id);
        assert_eq!(talk.rig.inner.last().text(), talk.body(&json!(honest)).to_string());
        talk.arrives(&json!(kept), &json!(honest)).await;
    }
}

/// R1: where the fault is in what the client itself sent, it reads so, and nothing is sent again or forgotten.
#[tokio::test]
async fn the_clients_own_reasoning_is_its_own_affair_r1() {
    let talk = learned().await;
    let own = [reasoning(4), call(4), output(4)];
    let named = "The encrypted content for item rs_Kw5uZ0oMm3XvB9tR could not be verified.";
    assert_eq!(own[0]["id"], "rs_Kw5uZ0oMm3XvB9tR");
    // Beside ours, named.
    let both = input(&[&own, &[user("Look."), call(0), output(0)]]);
    // Alone, whatever it is called.
    let alone = input(&[&[user("Look.")], &own]);
    for (history, message) in [(&both, named), (&alone, named), (&alone, CIPHER), (&alone, PAIR)] {
        let error = native(message, json!("invalid_encrypted_content")).to_string();
        let seen = talk.rig.inner.seen().len();
        let pieces = cut(&error, 31);
        let body = crate::support::body::Scripted::of(&pieces);
        talk.rig.inner.will(crate::support::service::refusal_as(400, body));
        let got = talk.post(RESPONSES, talk.body(history).to_string()).await;
        assert_eq!((got.status.as_u16(), got.text()), (400, error), "{message}");
        assert_eq!(talk.rig.inner.seen().len(), seen + 1, "{message}");
    }
    assert_eq!(talk.rig.count(Event::Forgotten), 0);
    talk.arrives(&kept(), &honest()).await;
}

/// R2: a refusal inside of a stream reaches the client as it is; it is not sent again, and the next request is right.
#[tokio::test]
async fn a_refusal_in_the_stream_forgets_without_another_attempt_r2() {
    let error = json!({"code": "invalid_encrypted_content", "message": CIPHER});
    let mut event = error.clone();
    event["type"] = "error".into();
    let created = json!({"type": "response.created", "response": {"status": "in_progress"}});
    let delta = json!({"type": "response.output_text.delta", "delta": "The thought_signature is invalid"});
    let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": error, "output": []}});
    for last in [failed, event, json!({"type": "error", "error": error})] {
        for events in
            [vec![last.clone()], vec![created.clone(), last.clone()], vec![created.clone(), delta.clone(), last]]
        {
            for size in [13, 1 << 20] {
                let talk = learned().await;
                let pieces = cut(&sse(&events), size);
                talk.rig.inner.will(frames(&pieces));
                let got = talk.post(RESPONSES, talk.body(&kept()).to_string()).await;
                crate::support::assert_same(&got.frames, &pieces);
                let seen = talk.rig.inner.seen();
                assert_eq!((seen.len(), seen[1].text()), (2, talk.body(&honest()).to_string()));
                talk.stays(&kept()).await;
            }
        }
    }
}

/// What a model says about errors, and errors of another kind, forget nothing and are not answered by us.
#[tokio::test]
async fn other_errors_forget_nothing_r2() {
    let talk = learned().await;
    for (status, message) in [
        (400, "Invalid 'input[6].id': ''. Expected an ID that contains letters, numbers, underscores, or dashes."),
        (401, CIPHER),
        (403, "The encrypted content is yours."),
        (429, "Rate limit reached for gpt-5."),
        (500, "The server had an error while processing your request."),
        (400, "Thinking mode does not support this tool_choice"),
    ] {
        let error = native(message, Value::Null).to_string();
        talk.rig.inner.will(refusal(status, error.clone()));
        let got = talk.post(RESPONSES, talk.body(&kept()).to_string()).await;
        assert_eq!((got.status.as_u16(), got.text()), (status, error), "{message}");
    }
    let text = said(1, CIPHER);
    talk.learn(kept().as_array().unwrap(), Form::Stream, &[text]).await;
    assert_eq!((talk.rig.count(Event::Retried), talk.rig.count(Event::Forgotten)), (0, 0));
    talk.arrives(&kept(), &honest()).await;
}

/// R14: if the second attempt is refused too, the client reads the first answer.
#[tokio::test]
async fn the_first_of_two_refusals_reaches_the_client_r14() {
    let talk = learned().await;
    let first = native(CIPHER, json!("invalid_encrypted_content")).to_string();
    let second = native(
        "Item 'fc_7' of type 'function_call' was provided without its required 'reasoning' item: 'rs_7'.",
        Value::Null,
    );
    talk.rig.inner.will(refusal(400, first.clone())).will(refusal(400, second.to_string()));
    let got = talk.post(RESPONSES, talk.body(&kept()).to_string()).await;
    assert_eq!((got.status.as_u16(), got.text()), (400, first));
    assert_eq!(talk.rig.inner.seen().len(), 3);
}
