//! What stands in for reasoning and signatures that nobody knows.

use http::StatusCode;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::chat::{Builder, ChatProvider, Flavour, Refusals, Say, Script, Turn};

use crate::{
    agent::*,
    support::service::{refusal, whole},
    talk::*,
};

const PLACEHOLDER: &str = "The reasoning of this step is not available.";

/// A step without reasoning, and two with some.
fn deepseek() -> Builder {
    ChatProvider::builder().script(Script::new([
        Turn::new([Say::call("look", json!({"at": 1}))]),
        Turn::new([Say::reasoning("Again."), Say::call("look", json!({"at": 2}))]),
        Turn::new([Say::reasoning(PLACEHOLDER), Say::text("It rains.")]),
    ]))
}

fn reasoning(body: &str) -> Vec<Value> {
    let body: Value = serde_json::from_str(body).unwrap();
    let answers = body["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "assistant");
    answers.map(|message| message["reasoning_content"].clone()).collect()
}

/// D3: without the operator's leave nothing is made up.
#[tokio::test]
async fn nothing_is_made_up_unless_it_is_allowed_d3() {
    for client in [Client::Strips, Client::Nulls] {
        let mut agent = Agent::new(deepseek(), client);
        agent.step().await;
        let reply = agent.send().await;
        assert_eq!((reply.status, agent.provider.refused()), (StatusCode::BAD_REQUEST, 1));
        assert_eq!((agent.provider.requests().len(), &reply.arrived), (2, &reply.sent));
    }
}

/// D3, D5: what stands in says something, stands only where nothing is known, only after it was asked for, and is
/// never learned, not even from the model that repeats it.
#[tokio::test]
async fn a_placeholder_says_something_and_is_never_learned_d3() {
    for client in [Client::Strips, Client::Nulls, Client::Blanks] {
        for stream in [false, true] {
            for form in [Refusals::Native, Refusals::WorkBuddy] {
                let provider = deepseek().empty_is_missing(true).refusals(form);
                let mut agent = Agent::with(provider, client, |builder| builder.reasoning_placeholder(true));
                agent.stream = stream;
                agent.step().await;
                let reply = agent.step().await;
                assert_eq!((agent.provider.requests().len(), agent.provider.refused()), (3, 1));
                assert_eq!(agent.provider.requests()[1].body, reply.sent);
                assert_eq!(reasoning(&reply.arrived), [PLACEHOLDER]);
                let reply = agent.step().await;
                assert_eq!(agent.provider.refused(), 1, "{client:?} {stream}");
                assert_eq!(reasoning(&reply.arrived), [PLACEHOLDER, "Again."]);
                // The model said the placeholder itself.
                let reply = agent.step().await;
                assert_eq!(agent.provider.refused(), 1);
                assert_eq!(reasoning(&reply.arrived), [PLACEHOLDER, "Again.", PLACEHOLDER]);
                assert!(agent.store.states().iter().all(|state| !state.contains(PLACEHOLDER)));
            }
        }
    }
}

/// D5: the placeholder in a history is no reasoning of the client's own.
#[tokio::test]
async fn a_placeholder_leaves_its_place_to_what_is_known_d5() {
    let talk = Talk::with(|builder| builder.reasoning_placeholder(true));
    let called = answer(&[FIRST], &json!({"reasoning_content": "I have to."}));
    talk.ask(&json!([user("look")]), called.clone()).await;
    let echoed = answer(&[FIRST], &json!({"reasoning_content": PLACEHOLDER}));
    assert_eq!(talk.look(&json!([user("look"), echoed, output(FIRST)])).await[1], called);
}

/// D3: where what the client rightly calls empty is taken for missing, the same is not sent again, and only what says
/// something helps.
#[tokio::test]
async fn what_is_empty_is_not_sent_twice_d3() {
    let script = Script::new([
        Turn::new([Say::empty_reasoning(), Say::call("look", json!({"at": 1}))]),
        Turn::new([Say::reasoning("Now."), Say::text("It rains.")]),
    ]);
    for allowed in [false, true] {
        for form in [Refusals::Native, Refusals::WorkBuddy] {
            let provider = ChatProvider::builder().script(script.clone()).empty_is_missing(true).refusals(form);
            let mut agent = Agent::with(provider, Client::Keeps, |builder| builder.reasoning_placeholder(allowed));
            agent.step().await;
            let reply = agent.send().await;
            assert_eq!(reasoning(&reply.sent), [""]);
            let requests = agent.provider.requests();
            assert_eq!(requests[1].body, reply.sent);
            assert_eq!((reply.status.is_success(), requests.len()), (allowed, if allowed { 3 } else { 2 }), "{form:?}");
            assert_eq!(reasoning(&reply.arrived), [if allowed { PLACEHOLDER } else { "" }]);
        }
    }
}

/// A placeholder that is refused is taken out, and not sent up front any more.
#[tokio::test]
async fn a_placeholder_that_is_refused_is_taken_out_d5() {
    let talk = Talk::with(|builder| builder.reasoning_placeholder(true));
    let history = json!([user("look"), answer(&[FIRST], &json!({})), output(FIRST)]);
    let body = talk.body(&history).to_string();
    let fine = document(&said("fine", &json!({})), "stop");
    let missing =
        json!({"error": {"message": "The `reasoning_content` in the thinking mode must be passed back to the API."}});
    talk.rig.inner.will(refusal(400, missing.to_string())).will(whole(fine.clone()));
    assert!(talk.post(body.clone()).await.report().healed);
    let invalid = json!({"error": {"message": "The `reasoning_content` is not valid."}});
    talk.rig.inner.will(refusal(400, invalid.to_string())).will(whole(fine.clone()));
    assert!(talk.post(body.clone()).await.report().healed);
    let seen = talk.rig.inner.seen();
    assert!(seen[1].text().contains(PLACEHOLDER) && seen[2].text().contains(PLACEHOLDER));
    assert_eq!(seen[3].text(), body);
    talk.rig.inner.will(whole(fine));
    talk.post(body.clone()).await;
    assert_eq!(talk.rig.inner.last().text(), body);
}

/// G1: a signature that nobody knows is stood in for by the sentinel, in the current turn and only once it is missed.
#[tokio::test]
async fn a_sentinel_stands_in_for_a_missing_signature_g1() {
    for (accepted, stream) in [(true, false), (true, true), (false, false)] {
        let provider = ChatProvider::builder().flavour(Flavour::Gemini).sentinel(accepted);
        let mut agent = Agent::new(provider, Client::Strips);
        (agent.stream, agent.model) = (stream, "gemini-3-pro-preview");
        let old = [user("look"), answer(&[FIRST], &json!({})), output(FIRST), said("It rains.", &json!({}))];
        agent.history = [&old[..], &[user("again"), answer(&[SECOND], &json!({})), output(SECOND)]].concat();
        let reply = agent.send().await;
        assert_eq!(agent.provider.requests()[0].body, reply.sent);
        if accepted {
            let arrived: Value = serde_json::from_str(&reply.arrived).unwrap();
            assert_eq!(reply.status, StatusCode::OK);
            assert!(arrived["messages"][1]["tool_calls"][0].get("extra_content").is_none());
            assert_eq!(
                arrived["messages"][5]["tool_calls"][0]["extra_content"],
                json!({"google": {"thought_signature": "skip_thought_signature_validator"}})
            );
        } else {
            assert_eq!(reply.status, StatusCode::BAD_REQUEST);
            assert!(reply.text.contains("missing a thought_signature"), "{}", reply.text);
        }
    }
}
