//! Thinking that the client lost, in whole or in part.

use serde_json::{Value, json};
use tower_reasoning_replay::scope::Tenant;

use crate::{
    support::{
        body::{Scripted, Step},
        rig::Rig,
        service::whole,
        store::TestStore,
    },
    talk::*,
};

/// A8, A2: the block stands again where it stood, and nothing else changes.
#[tokio::test]
async fn dropped_thinking_is_back_at_its_place_a8() {
    let answer = json!([thinking("I \"have\" to\nlook.", FIRST), text("Wait."), call("toolu_01aB3dE", 1)]);
    for reply in [document(&answer), stream(&answer)] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Look.")])), reply).await;
        let history =
            json!([user("Look."), model(json!([answer[1], answer[2]])), user(json!([output("toolu_01aB3dE")]))]);
        let upstream = talk.ask(history).await;
        assert_eq!(upstream[1], model(answer.clone()));
        let complete = json!([user("Look."), model(answer.clone()), user(json!([output("toolu_01aB3dE")]))]);
        assert_eq!(talk.ask(complete.clone()).await, complete);
    }
}

/// LiteLLM writes a text of its own where the model said none: the thinking comes first all the same.
#[tokio::test]
async fn thinking_goes_before_what_a_translator_wrote_for_an_empty_text() {
    let answer = json!([thinking("I have to look.", FIRST), call("toolu_01aB3dE", 1)]);
    let filler = text("[System: Empty message content sanitised to satisfy protocol]");
    let history =
        |blocks: Value| json!([user("Look."), model(blocks), user(json!([output("toolu_01aB3dE")])), model("Seen.")]);
    for talk in [Talk::new(), Talk::derived()] {
        talk.send(json!([user("Look.")]), answer.clone()).await;
        let upstream = talk.ask(history(json!([filler, answer[1]]))).await;
        assert_eq!(upstream, history(json!([answer[0], filler, answer[1]])));
        // Any other text was said by somebody.
        let changed = history(json!([text("So."), answer[1]]));
        assert_eq!(talk.ask(changed.clone()).await, changed);
    }
}

/// A4, A5, A6: several blocks, hidden ones and redacted ones among them, each stay what and where they were.
#[tokio::test]
async fn blocks_of_every_kind_keep_their_order_a4() {
    let answer = json!([
        thinking("", FIRST),
        redacted("EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5"),
        text("So."),
        thinking("And then?", SECOND),
        call("toolu_01aB3dE", 1),
        call("toolu_01xY7zW", 2),
    ]);
    for reply in [document(&answer), stream(&answer)] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Look.")])), reply).await;
        let outputs = user(json!([output("toolu_01aB3dE"), output("toolu_01xY7zW")]));
        let upstream = talk.ask(json!([user("Look."), model(json!([answer[2], answer[4], answer[5]])), outputs])).await;
        assert_eq!(upstream[1], model(answer.clone()));
        // The calls are gone as well.
        let upstream = talk.ask(json!([user("Look."), model(json!([answer[2]])), outputs])).await;
        assert_eq!(upstream[1], model(answer.clone()));
        let upstream = talk.ask(json!([user("Look."), outputs])).await;
        assert_eq!(upstream[1]["content"].as_array().unwrap().len(), 5, "the text is not known: {upstream}");
    }
}

/// A18, A19: no signature, an empty one, or one that nobody issued is none.
#[tokio::test]
async fn thinking_without_its_signature_gets_it_back_a18() {
    let answer = json!([thinking("First.", FIRST), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    let outputs = user(json!([output("toolu_01aB3dE")]));
    for signature in [None, Some(""), Some("skip_thought_signature_validator")] {
        let talk = Talk::new();
        talk.send(json!([user("Look.")]), answer.clone()).await;
        let mut kept = answer.clone();
        for block in &mut kept.as_array_mut().unwrap()[..2] {
            match signature {
                Some(signature) => block["signature"] = signature.into(),
                None => drop(block.as_object_mut().unwrap().remove("signature")),
            }
        }
        let upstream = talk.ask(json!([user("Look."), model(kept), outputs])).await;
        assert_eq!(upstream[1], model(answer.clone()), "{signature:?}");
    }
}

/// A7: what is left of hidden and of redacted thinking makes room for the whole.
#[tokio::test]
async fn the_remains_of_a_block_are_replaced_a7() {
    let answer = json!([thinking("", FIRST), redacted("EmwKAhgBEgy3va3pzix/LafPsn4a"), call("toolu_01aB3dE", 1)]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let remains = [
        json!({"type": "thinking", "thinking": ""}),
        json!({"type": "redacted_thinking", "data": ""}),
        answer[2].clone(),
    ];
    let outputs = user(json!([output("toolu_01aB3dE")]));
    let upstream = talk.ask(json!([user("Look."), model(json!(remains)), outputs])).await;
    assert_eq!(upstream[1], model(answer));
}

/// Changed thinking gets no signature, and nothing is put beside it.
#[tokio::test]
async fn changed_thinking_stays_as_it_is() {
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)])).await;
    let changed = json!({"type": "thinking", "thinking": "First, ..."});
    let history = json!([
        user("Look."),
        model(json!([changed, call("toolu_01aB3dE", 1)])),
        user(json!([output("toolu_01aB3dE")]))
    ]);
    assert_eq!(talk.ask(history.clone()).await, history);
}

/// A3: what the client sends itself is left alone, part of a turn or not.
#[tokio::test]
async fn a_message_with_thinking_of_its_own_is_not_touched_a3() {
    let answer = json!([thinking("First.", FIRST), text("So."), thinking("Second.", SECOND), call("toolu_01aB3dE", 1)]);
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let outputs = user(json!([output("toolu_01aB3dE")]));
    for kept in [json!([answer[0], answer[1], answer[3]]), json!([answer[1], answer[2], answer[3]])] {
        let history = json!([user("Look."), model(kept), outputs]);
        assert_eq!(talk.ask(history.clone()).await, history);
    }
}

/// A string stands for a list of one text.
#[tokio::test]
async fn thinking_goes_back_beside_a_string() {
    let answer = json!([thinking("First.", FIRST), redacted("EmwKAhgBEgy3va3pzix/LafPsn4a"), text("Hello \"you\".")]);
    let talk = Talk::new();
    talk.send(json!([user("Hi.")]), answer.clone()).await;
    let upstream = talk.ask(json!([user("Hi."), model("Hello \"you\"."), user("And?")])).await;
    assert_eq!(upstream[1], model(answer));
}

/// Texts come back merged, but never over thinking.
#[tokio::test]
async fn merged_texts_are_known() {
    let answer = json!([text("One. "), thinking("First.", FIRST), text("Two. "), text("Three.")]);
    for reply in [document(&answer), stream(&answer)] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Count.")])), reply).await;
        let history = json!([user("Count."), model(json!([text("One. "), text("Two. Three.")])), user("And?")]);
        let upstream = talk.ask(history).await;
        assert_eq!(upstream[1], model(json!([text("One. "), answer[1], text("Two. Three.")])));
        let history = json!([user("Count."), model(json!([text("One. Two. Three.")])), user("And?")]);
        assert_eq!(talk.ask(history.clone()).await, history);
    }
}

/// A10: of equal calls on two branches, each gets its own.
#[tokio::test]
async fn branches_are_told_apart_by_what_precedes_them_a10() {
    let talk = Talk::new();
    let turn = |text: &str, signature: &str| json!([thinking(text, signature), call("toolu_01aB3dE", 1)]);
    talk.send(json!([user("Left.")]), turn("To the left.", FIRST)).await;
    talk.send(json!([user("Right.")]), turn("To the right.", SECOND)).await;
    for (question, expected) in [("Left.", turn("To the left.", FIRST)), ("Right.", turn("To the right.", SECOND))] {
        let kept = model(json!([call("toolu_01aB3dE", 1)]));
        let upstream = talk.ask(json!([user(question), kept, user(json!([output("toolu_01aB3dE")]))])).await;
        assert_eq!(upstream[1], model(expected), "{question}");
    }
}

/// A22: the same history gives the same bytes, whatever stands behind it.
#[tokio::test]
async fn a_history_is_restored_alike_on_every_turn_a22() {
    let talk = Talk::new();
    let mut history = vec![user("Look.")];
    let mut expected = history.clone();
    for at in 0..5 {
        let id = format!("toolu_01aB3dE{at}x");
        let answer = json!([thinking(&format!("Step {at}."), &format!("{FIRST}{at}")), call(&id, at)]);
        assert_eq!(talk.send(json!(history), answer.clone()).await, json!(expected));
        history.extend([model(json!([answer[1]])), user(json!([output(&id)]))]);
        expected.extend([model(answer), user(json!([output(&id)]))]);
    }
}

/// A23: a request that switches thinking off, or forces a tool without it, gets none.
#[tokio::test]
async fn a_request_without_thinking_gets_none_a23() {
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)])).await;
    let history =
        json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))]);
    let mut off = talk.body(&history);
    off["thinking"] = json!({"type": "disabled"});
    let mut forced = talk.body(&history);
    forced.as_object_mut().unwrap().remove("thinking");
    forced["tool_choice"] = json!({"type": "tool", "name": "look"});
    for body in [off, forced] {
        assert_eq!(talk.raw(&body, document(&json!([text("fine")]))).await, body);
    }
    assert_ne!(talk.ask(history.clone()).await, history);
}

/// A11: thinking that nobody asked for is remembered too.
#[tokio::test]
async fn unasked_thinking_is_remembered_a11() {
    let talk = Talk::with("claude-sonnet-5");
    let body = |messages: Value| json!({"model": "claude-sonnet-5", "max_tokens": 9, "messages": messages});
    let answer = json!([thinking("", FIRST), call("toolu_01aB3dE", 1)]);
    talk.raw(&body(json!([user("Look.")])), stream(&answer)).await;
    let history =
        json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))]);
    let upstream = talk.raw(&body(history), document(&json!([]))).await;
    assert_eq!(upstream["messages"][1], model(answer));
}

/// A13: where thinking is bound to what precedes it, a changed beginning leaves it out.
#[tokio::test]
async fn bound_thinking_goes_back_only_behind_what_it_was_made_from_a13() {
    let talk = Talk::with("claude-fable-5-1");
    let with_system = |messages: Value, system: Value| {
        let mut body = talk.body(&messages);
        body["system"] = system;
        body
    };
    let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    talk.raw(&with_system(json!([user("Look.")]), json!("Be brief.")), document(&answer)).await;
    let history =
        json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))]);
    let marked = json!([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]);
    for (system, is_back) in [(json!("Be brief."), true), (marked, true), (json!("Be verbose."), false)] {
        let upstream = talk.raw(&with_system(history.clone(), system), document(&json!([]))).await;
        assert_eq!(upstream["messages"][1] == model(answer.clone()), is_back);
        assert!(is_back || upstream["messages"] == history);
    }
}

/// A13: the tools precede what is bound; marks for the cache on them do not count.
#[tokio::test]
async fn bound_thinking_goes_back_only_behind_the_same_tools_a13() {
    let talk = Talk::with("claude-fable-5-1");
    let look = json!({"name": "look", "description": "Looks.", "input_schema": {"type": "object"}});
    let mut marked = look.clone();
    marked["cache_control"] = json!({"type": "ephemeral"});
    let listen = json!({"name": "listen", "input_schema": {"type": "object"}});
    let with_tools = |messages: Value, tools: Value| {
        let mut body = talk.body(&messages);
        body["tools"] = tools;
        body
    };
    let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    talk.raw(&with_tools(json!([user("Look.")]), json!([look])), document(&answer)).await;
    let history =
        json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))]);
    for (tools, is_back) in [(json!([look]), true), (json!([marked]), true), (json!([look, listen]), false)] {
        let upstream = talk.raw(&with_tools(history.clone(), tools), document(&json!([]))).await;
        assert_eq!(upstream["messages"][1] == model(answer.clone()), is_back);
        assert!(is_back || upstream["messages"] == history);
    }
}

/// Rule 13: a conversation that nothing names is known by everything before a turn.
#[tokio::test]
async fn a_derived_session_wants_proof() {
    let talk = Talk::derived();
    let answer = json!([thinking("First.", FIRST), text("Hello.")]);
    talk.send(json!([user("Hi.")]), answer.clone()).await;
    let kept = model(json!([text("Hello.")]));
    let upstream = talk.ask(json!([user("Hi."), kept, user("And?")])).await;
    assert_eq!(upstream[1], model(answer));
    let edited = json!([user("Hi."), user("Hi again."), kept, user("And?")]);
    assert_eq!(talk.ask(edited.clone()).await, edited);
}

/// Rule 15: what is counted is what will be sent.
#[tokio::test]
async fn a_count_is_patched_like_the_request_it_counts_for() {
    let talk = Talk::new();
    let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let history =
        json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))]);
    talk.rig.inner.will(whole(r#"{"input_tokens":12}"#));
    talk.post(COUNT, talk.body(&history).to_string()).await;
    let seen: Value = serde_json::from_str(&talk.rig.inner.last().text()).unwrap();
    assert_eq!(seen["messages"][1], model(answer));
}

/// Vertex AI and other hosts have paths of their own.
#[tokio::test]
async fn every_path_of_the_protocol_is_watched() {
    let vertex = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/anthropic/\
                  models/claude-sonnet-4-5@20250929:streamRawPredict";
    for uri in
        [vertex, "https://api.deepseek.com/anthropic/v1/messages", "https://openrouter.ai/api/v1/messages?beta=true"]
    {
        let talk = Talk::new();
        let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
        let mut body = talk.body(&json!([user("Look.")]));
        if uri == vertex {
            body.as_object_mut().unwrap().remove("model");
            body["anthropic_version"] = "vertex-2023-10-16".into();
        }
        talk.rig.inner.will(whole(stream(&answer))).will(whole(document(&json!([]))));
        talk.post(uri, body.to_string()).await;
        body["messages"] =
            json!([user("Look."), model(json!([call("toolu_01aB3dE", 1)])), user(json!([output("toolu_01aB3dE")]))]);
        talk.post(uri, body.to_string()).await;
        let seen: Value = serde_json::from_str(&talk.rig.inner.last().text()).unwrap();
        assert_eq!(seen["messages"][1], model(answer), "{uri}");
    }
}

/// A15: the request for tolerance goes only together with its header, and only where the operator wants it.
#[tokio::test]
async fn tolerance_is_asked_for_with_its_header_a15() {
    const HEADER: &str = "thinking-binding-controls-2026-08-01";
    for wants in [false, true] {
        let mut talk = Talk::with("claude-opus-5-5");
        talk.rig = Rig::with(TestStore::new(), [], |builder| builder.drop_mismatched_thoughts(wants));
        let upstream = talk.raw(&talk.body(&json!([user("Hi.")])), document(&json!([]))).await;
        let asked = upstream["thinking"]["block_binding"] == json!({"prefix_mismatch_behavior": "drop_block"});
        let told = talk.rig.inner.last().headers.get("anthropic-beta").is_some_and(|held| held == HEADER);
        assert_eq!((asked, told), (wants, wants));
        let mut own = talk.body(&json!([user("Hi.")]));
        own["thinking"]["block_binding"] = json!({"prefix_mismatch_behavior": "error"});
        assert_eq!(talk.raw(&own, document(&json!([]))).await, own);
        assert!(!talk.rig.inner.last().headers.contains_key("anthropic-beta"));
    }
}

/// A16: where thinking is bound to the organisation, another account's is of no use.
#[tokio::test]
async fn thinking_of_another_account_is_not_put_back_a16() {
    for (model_id, is_back) in [("claude-opus-5-5", true), ("claude-haiku-5-5", false)] {
        let talk = Talk::with(model_id);
        let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
        let mut history = json!([user("Look.")]);
        for key in ["a key", "another key"] {
            let mut request = http::Request::post(MESSAGES)
                .header("content-type", "application/json")
                .header("x-claude-code-session-id", "s")
                .header("x-api-key", key)
                .body(Scripted::new([Step::Data(talk.body(&history).to_string().into())]))
                .unwrap();
            request.extensions_mut().insert(Tenant::new("customer"));
            talk.rig.inner.will(whole(document(&answer)));
            talk.rig.exchange(request).await;
            let kept = model(json!([call("toolu_01aB3dE", 1)]));
            history = json!([user("Look."), kept, user(json!([output("toolu_01aB3dE")]))]);
        }
        let seen: Value = serde_json::from_str(&talk.rig.inner.last().text()).unwrap();
        assert_eq!(seen["messages"][1] == model(answer), is_back, "{model_id}");
    }
}

/// A17: another model gets none of it, and the first one all of it again.
#[tokio::test]
async fn thinking_of_another_model_is_not_put_back_a17() {
    let mut talk = Talk::new();
    let answer = json!([thinking("First.", FIRST), call("toolu_01aB3dE", 1)]);
    talk.send(json!([user("Look.")]), answer.clone()).await;
    let kept = model(json!([call("toolu_01aB3dE", 1)]));
    let history = json!([user("Look."), kept, user(json!([output("toolu_01aB3dE")]))]);
    for (model_id, expected) in [("claude-opus-5", kept), ("claude-sonnet-4-5", model(answer))] {
        talk.model = model_id;
        assert_eq!(talk.ask(history.clone()).await[1], expected, "{model_id}");
    }
}

/// A20: thinking without a signature is neither put back nor made into text.
#[tokio::test]
async fn unsigned_thinking_never_becomes_text_a20() {
    let talk = Talk::new();
    talk.send(json!([user("Look.")]), json!([thinking("Secret.", ""), call("toolu_01aB3dE", 1)])).await;
    let kept = model(json!([call("toolu_01aB3dE", 1)]));
    let history = json!([user("Look."), kept, user(json!([output("toolu_01aB3dE")]))]);
    assert_eq!(talk.ask(history.clone()).await, history);
}

/// A21: behind a checkpoint, bound thinking from before it stays away, and what comes after it is a chain of its own.
#[tokio::test]
async fn a_checkpoint_begins_a_new_chain_a21() {
    let talk = Talk::with("claude-fable-5-1");
    let first = json!([thinking("First.", FIRST), text("Yes.")]);
    talk.send(json!([user("Hi.")]), first.clone()).await;
    let checkpoint = model(json!([{"type": "compaction", "content": "They said hi."}]));
    let second = json!([thinking("Second.", SECOND), text("No.")]);
    let kept = |answer: &Value| model(json!([answer[1]]));
    let history = json!([checkpoint, kept(&first), user("Is it?")]);
    assert_eq!(talk.send(history.clone(), second.clone()).await, history);
    let history = json!([checkpoint, kept(&first), user("Is it?"), kept(&second), user("And?")]);
    let upstream = talk.ask(history.clone()).await;
    assert_eq!((&upstream[1], &upstream[3]), (&history[1], &model(second)));
}
