//! What happens after the provider refused a history.

use http::StatusCode;
use serde_json::{Value, json};
use tower_reasoning_replay::{
    engine::Event,
    testing::chat::{ChatProvider, Flavour, Refusals, Say, Script, Turn},
};

use crate::{
    agent::*,
    support::{
        service::{refusal, whole},
        store::Mode,
    },
    talk::*,
};

const STRICT: [Flavour; 3] = [Flavour::DeepSeek, Flavour::Kimi, Flavour::MiMo];

const FORMS: [Refusals; 7] = [
    Refusals::Native,
    Refusals::OctetStream,
    Refusals::WorkBuddy,
    Refusals::SiliconFlow,
    Refusals::Relayed { status: 502 },
    Refusals::Relayed { status: 429 },
    Refusals::OpenRouter { status: 502 },
];

fn thoughts(first: Say) -> Script {
    Script::new([
        Turn::new([first, Say::call("look", json!({"at": 1}))]),
        Turn::new([Say::reasoning("Again."), Say::call("look", json!({"at": 2}))]),
        Turn::new([Say::reasoning("So."), Say::text("It rains.")]),
    ])
}

/// Absent is not empty: what came empty is sent only to who misses it, and then as it came.
#[tokio::test]
async fn empty_reasoning_goes_back_once_it_is_missed_d1() {
    for flavour in STRICT {
        for form in FORMS {
            for stream in [false, true] {
                let script = thoughts(Say::empty_reasoning());
                let provider = ChatProvider::builder().flavour(flavour).script(script).refusals(form);
                let mut agent = Agent::new(provider, Client::Strips);
                agent.stream = stream;
                agent.step().await;
                let reply = agent.step().await;
                let requests = agent.provider.requests();
                assert_eq!((requests.len(), agent.provider.refused()), (3, 1), "{flavour:?} {form:?} {stream}");
                assert_eq!(requests[1].body, reply.sent);
                let call = r#""type":"function"}]"#;
                assert_eq!(reply.arrived, reply.sent.replacen(call, &format!("{call},\"reasoning_content\":\"\""), 1));
                // Now it is known, and sent up front.
                agent.step().await;
                let reply = agent.step().await;
                assert_eq!((agent.provider.requests().len(), agent.provider.refused()), (5, 1));
                assert_eq!((agent.provider.missing(), agent.provider.altered()), (1, 0));
                assert!(reply.arrived.contains(r#""reasoning_content":"""#), "{}", reply.arrived);
            }
        }
    }
}

/// Who does not miss what is empty never gets it.
#[tokio::test]
async fn empty_reasoning_that_nobody_misses_is_not_sent_d1() {
    for flavour in [Flavour::Glm, Flavour::Qwen, Flavour::Vllm] {
        let provider = ChatProvider::builder().flavour(flavour).script(thoughts(Say::empty_reasoning()));
        let mut agent = Agent::new(provider, Client::Strips);
        agent.step().await;
        let reply = agent.step().await;
        assert_eq!(reply.arrived, reply.sent);
    }
}

/// D4: a store that failed is asked once more when the provider misses something, whatever the form.
#[tokio::test]
async fn what_is_missed_is_looked_up_once_more_d4() {
    for flavour in STRICT {
        for form in FORMS {
            for stream in [false, true] {
                let script = thoughts(Say::reasoning("First."));
                let provider = ChatProvider::builder().flavour(flavour).script(script).refusals(form);
                let mut agent = Agent::new(provider, Client::Strips);
                agent.stream = stream;
                agent.step().await;
                agent.step().await;
                agent.store.next_load(Mode::Fails);
                let reply = agent.step().await;
                assert_eq!((agent.provider.requests().len(), agent.provider.refused()), (4, 1), "{flavour:?} {form:?}");
                // All that is known goes back, not only what was named.
                for thought in ["First.", "Again."] {
                    assert!(reply.arrived.contains(&format!("\"reasoning_content\":\"{thought}\"")), "{thought}");
                }
                assert_eq!(agent.provider.requests().last().unwrap().genuine, 2);
            }
        }
    }
}

/// A refusal for which nothing can be done reaches the client as it came, after one request.
#[tokio::test]
async fn a_refusal_that_nothing_can_mend_passes_as_it_came_d1() {
    for flavour in STRICT {
        for form in FORMS {
            let history = json!([user("look"), answer(&[FIRST], &json!({})), output(FIRST)]);
            let alone = ChatProvider::builder().flavour(flavour).refusals(form).seed(1);
            let mut agent = Agent::new(alone, Client::Strips);
            agent.history = history.as_array().unwrap().clone();
            let reply = agent.send().await;
            assert!(!reply.status.is_success());
            assert_eq!(reply.arrived, reply.sent);
            assert_eq!(agent.provider.requests().len(), 1);
            let refused = agent.provider.requests().pop().unwrap();
            assert_eq!(refused.status, reply.status);
            assert!(reply.text.contains("must be passed back") || reply.text.contains("is missing"), "{}", reply.text);
        }
    }
}

/// If the second attempt fails as well, the client reads the first answer.
#[tokio::test]
async fn after_a_second_refusal_the_client_reads_the_first_d4() {
    let provider = ChatProvider::builder().flavour(Flavour::Kimi).script(thoughts(Say::empty_reasoning()));
    let mut agent = Agent::new(provider, Client::Strips);
    agent.step().await;
    agent.history.extend([answer(&[SECOND], &json!({})), output(SECOND)]);
    let reply = agent.send().await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!((agent.provider.requests().len(), agent.provider.refused()), (3, 2));
    assert!(agent.provider.requests()[2].refusal.as_ref().unwrap().contains("at index 3"));
    assert!(reply.text.contains("at index 1"), "{}", reply.text);
    // What did not help was not learned.
    let reply = agent.send().await;
    assert_eq!(agent.provider.requests()[3].body, reply.sent);
}

/// A refusal in the stream cannot be mended, and forgets nothing.
#[tokio::test]
async fn a_refusal_in_the_stream_forgets_nothing_d1() {
    let script = thoughts(Say::reasoning("First."));
    let provider = ChatProvider::builder().script(script).refusals(Refusals::StreamEvent { after: 2 });
    let mut agent = Agent::new(provider, Client::Strips);
    agent.stream = true;
    agent.step().await;
    let states = agent.store.states();
    agent.store.next_load(Mode::Fails);
    let reply = agent.send().await;
    assert_eq!((reply.status, agent.provider.refused()), (StatusCode::OK, 1));
    assert!(reply.text.contains("must be passed back"));
    assert_eq!(agent.store.states(), states, "something was learned or forgotten");
    agent.step().await;
    assert_eq!(agent.provider.refused(), 1);
}

/// Errors that say nothing of reasoning are not ours.
#[tokio::test]
async fn unrelated_errors_pass_and_forget_nothing_d1() {
    for (status, message) in [
        (400, "Thinking mode does not support this tool_choice"),
        (400, "budget is incompatible with thinking"),
        (400, "Invalid request"),
        (400, "Illegal request: max_tokens"),
        (429, "Rate limit reached"),
        (500, "Internal error"),
    ] {
        let talk = Talk::new();
        let called = answer(&[FIRST], &json!({"reasoning_content": "I have to."}));
        talk.ask(&json!([user("look")]), called.clone()).await;
        let error = json!({"error": {"message": message, "type": "some_error"}}).to_string();
        talk.rig.inner.will(refusal(status, error.clone()));
        let history = json!([user("look"), answer(&[FIRST], &json!({})), output(FIRST)]);
        let got = talk.post(talk.body(&history).to_string()).await;
        assert_eq!((got.status.as_u16(), got.text()), (status, error));
        assert_eq!((talk.rig.inner.seen().len(), talk.rig.count(Event::Retried)), (2, 0));
        assert_eq!(talk.look(&history).await[1], called);
    }
}

/// A provider that does not know the field in which reasoning came gets the request without it, once.
#[tokio::test]
async fn a_field_that_is_not_known_is_taken_out_once_d6() {
    let property = "messages.1.assistant.reasoning_content";
    for (status, error) in [
        (
            400,
            json!({
                "message": format!("{property}: property '{property}' is unsupported"),
                "type": "invalid_request_error", "param": "validation_error", "code": "wrong_api_format",
            }),
        ),
        (
            400,
            json!({"error": {
                "message": "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning_content' is unsupported)]",
                "type": "invalid_request_error",
            }}),
        ),
        (
            422,
            json!({
                "object": "error", "message": "Extra inputs are not permitted: I have to.",
                "type": "invalid_request_error", "param": "[\"body\",\"messages\",1,\"assistant\",\"reasoning_content\"]",
            }),
        ),
    ] {
        let talk = Talk::new();
        talk.ask(&json!([user("look")]), answer(&[FIRST], &json!({"reasoning_content": "I have to."}))).await;
        let body = talk.body(&json!([user("look"), answer(&[FIRST], &json!({})), output(FIRST)])).to_string();
        let fine = document(&said("fine", &json!({})), "stop");
        talk.rig.inner.will(refusal(status, error.to_string())).will(whole(fine.clone()));
        let got = talk.post(body.clone()).await;
        assert_eq!((got.status, got.text()), (StatusCode::OK, fine));
        let seen = talk.rig.inner.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen[1].text().contains("reasoning_content"));
        assert_eq!(seen[2].text(), body);
        assert!(got.report().healed);

        // The second refusal is not answered by a third attempt.
        talk.ask(&json!([user("look")]), answer(&[FIRST], &json!({"reasoning_content": "I have to."}))).await;
        talk.rig.inner.will(refusal(status, error.to_string())).will(refusal(400, "{\"error\":\"other\"}"));
        let got = talk.post(body).await;
        assert_eq!((got.status.as_u16(), got.text()), (status, error.to_string()));
        assert_eq!(talk.rig.inner.seen().len(), 6);
    }
}

/// D9: details that are no longer taken are left out and forgotten; those that came since stay.
#[tokio::test]
async fn details_that_are_refused_are_left_out_and_forgotten_d9() {
    for model in ["anthropic/claude-sonnet-4.5", "google/gemini-3-pro-preview", "openai/gpt-5", "x-ai/grok-4"] {
        let provider = ChatProvider::builder()
            .flavour(Flavour::OpenRouter)
            .demand(tower_reasoning_replay::testing::chat::Demand::Nothing)
            .script(thoughts(Say::reasoning("First.")));
        let mut agent = Agent::new(provider, Client::Strips);
        agent.model = model;
        agent.step().await;
        agent.provider.revoke_state();
        let reply = agent.step().await;
        assert_eq!(agent.provider.refused(), 1, "{model}");
        assert!(!reply.arrived.contains("reasoning_details"), "{model} {}", reply.arrived);
        let reply = agent.step().await;
        assert_eq!(agent.provider.refused(), 1, "{model}");
        let arrived: Value = serde_json::from_str(&reply.arrived).unwrap();
        assert!(arrived["messages"][1].get("reasoning_details").is_none(), "{model}");
        assert!(arrived["messages"][3]["reasoning_details"].is_array(), "{model}");
    }
}
