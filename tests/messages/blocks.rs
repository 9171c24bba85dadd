//! Blocks of the provider's own tools, and the opaque fields in them.

use serde_json::{Value, json};

use crate::talk::*;

const ID: &str = "srvtoolu_01P3mJaBNTYcRrtoaqGRmxVg";

fn search() -> Value {
    json!({"type": "server_tool_use", "id": ID, "name": "web_search", "input": {"query": "ruby"}})
}

fn results() -> Value {
    json!({"type": "web_search_tool_result", "tool_use_id": ID, "caller": {"type": "direct"}, "content": [
        {"type": "web_search_result", "title": "Ruby", "url": "https://ruby-lang.org", "encrypted_content": FIRST,
            "page_age": null},
        {"type": "web_search_result", "title": "Gems", "url": "https://rubygems.org", "encrypted_content": SECOND,
            "page_age": "May 1, 2025"},
    ]})
}

fn cited() -> Value {
    json!({"type": "text", "text": "It is \"4.0\"", "citations": [
        {"type": "web_search_result_location", "cited_text": "4.0", "url": "https://ruby-lang.org", "title": "Ruby",
            "encrypted_index": "Eo8BCioIEhgCIiQwMTM3YjE1Yy0xNmJm"},
    ]})
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(strip),
        Value::Object(members) => {
            members.retain(|key, value| !key.starts_with("encrypted_") && key != "caller" && !value.is_null());
            members.values_mut().for_each(strip);
        }
        _ => {}
    }
}

fn stripped(mut value: Value) -> Value {
    strip(&mut value);
    value
}

#[tokio::test]
async fn opaque_fields_go_back_with_their_block() {
    let answer = json!([search(), results(), text("So: "), cited(), text(".")]);
    for reply in [document(&answer), stream(&answer)] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Search.")])), reply).await;
        let upstream = talk.ask(json!([user("Search."), model(stripped(answer.clone())), user("And?")])).await;
        assert_eq!(upstream[1], model(answer.clone()));
        // The texts without citations are known as well.
        let plain = json!([search(), results(), text("So: It is \"4.0\".")]);
        let history = json!([user("Search."), model(plain), user("And?")]);
        assert_eq!(talk.ask(history.clone()).await, history);
    }
}

/// The mark of a cached prefix is the client's own, and stays.
#[tokio::test]
async fn a_mark_stays_on_a_block_that_gets_its_fields_back() {
    let talk = Talk::new();
    talk.send(json!([user("Search.")]), json!([search(), results()])).await;
    let bare = stripped(results()).to_string();
    let bare = bare.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    let mark = r#""cache_control": {"type":"ephemeral"}"#;
    for block in [format!("{{{bare} , {mark} }}"), format!("{{ {mark} , {bare} }}")] {
        let body = talk.body(&json!([user("Search."), model(json!([search(), "BLOCK"])), user("And?")]));
        let body = body.to_string().replace("\"BLOCK\"", &block);
        talk.rig.inner.will(crate::support::service::whole(document(&json!([]))));
        talk.post(MESSAGES, body).await;
        let seen: Value = serde_json::from_str(&talk.rig.inner.last().text()).unwrap();
        let mut expected = results();
        expected["cache_control"] = json!({"type": "ephemeral"});
        assert_eq!(seen["messages"][1]["content"][1], expected, "{block}");
    }
}

/// Rule 6: changed content gets nothing, and what the client has it keeps.
#[tokio::test]
async fn changed_results_and_own_fields_stay_as_they_are() {
    let talk = Talk::new();
    talk.send(json!([user("Search.")]), json!([search(), results()])).await;
    let mut changed = stripped(results());
    changed["content"][0]["title"] = "Rust".into();
    let mut half = results();
    half["content"][1].as_object_mut().unwrap().remove("encrypted_content");
    for block in [changed, half, results()] {
        let history = json!([user("Search."), model(json!([search(), block])), user("And?")]);
        assert_eq!(talk.ask(history.clone()).await, history);
    }
}

/// Thinking between blocks of the provider's tools goes back between them, whether their fields were lost or not.
#[tokio::test]
async fn thinking_goes_back_between_the_providers_own_blocks() {
    let answer =
        json!([thinking("Search.", FIRST.repeat(2).as_str()), search(), results(), thinking("", SECOND), cited()]);
    for reply in [document(&answer), stream(&answer)] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Search.")])), reply).await;
        let kept = json!([answer[1], answer[2], answer[4]]);
        for kept in [kept.clone(), stripped(kept)] {
            let upstream = talk.ask(json!([user("Search."), model(kept), user("And?")])).await;
            assert_eq!(upstream[1], model(answer.clone()));
        }
    }
}

/// A client that knows nothing of the provider's tools keeps the texts only.
#[tokio::test]
async fn texts_are_known_without_the_blocks_between_them() {
    let first = thinking("Search.", FIRST);
    let answer = json!([first, text("Wait. "), search(), results(), text("So: "), text("4"), cited(), text(".")]);
    for reply in [document(&answer), stream(&answer)] {
        let talk = Talk::new();
        talk.raw(&talk.body(&json!([user("Search.")])), reply).await;
        let all = text("Wait. So: 4It is \"4.0\".");
        for (kept, expected) in [
            (json!([all]), json!([first, all])),
            (all["text"].clone(), json!([first, all])),
            (
                json!([answer[1], answer[2], answer[3], text("So: 4It is \"4.0\".")]),
                json!([first, answer[1], answer[2], answer[3], text("So: 4It is \"4.0\".")]),
            ),
        ] {
            let upstream = talk.ask(json!([user("Search."), model(kept), user("And?")])).await;
            assert_eq!(upstream[1], model(expected));
        }
    }
}
