//! Calls that the client kept without their signature: the same call, or another one.

use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::Sentinels;

use super::client::*;

/// Learns one call; then the client sends this in its place, with the tools in `beside`. Whether the call got its
/// signature back.
async fn restores(args: Value, kept: Option<Value>, beside: Value) -> bool {
    let mut outcomes = Vec::new();
    for (base, how, keeps_id) in
        [(API, How::Sse, true), (API, How::Whole, false), (VERTEX, How::Array, false), (CLOUD, How::Sse, true)]
    {
        let gateway = Gateway::new(&strict([call("do_it", args.clone())]).sentinels(Sentinels::none()).build());
        let client = Client::new(base, how).beside(beside.clone());
        let first = gateway.ask(&client, &[user("Go")]).await;
        let mut content = first.kept();
        if !keeps_id {
            content = without_ids(&content);
        }
        let fields = content["parts"][0]["functionCall"].as_object_mut().unwrap();
        match &kept {
            Some(kept) => drop(fields.insert("args".to_owned(), kept.clone())),
            None => drop(fields.remove("args")),
        }
        let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
        let signature = second.signature(1, 0);
        assert!(signature.is_null() || signature == first.signatures()[0]);
        outcomes.push(!signature.is_null());
    }
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
    outcomes[0]
}

async fn is_same(args: Value, kept: Value) -> bool {
    restores(args, Some(kept), json!({})).await
}

#[tokio::test]
async fn the_order_of_keys_does_not_matter_g13() {
    // Both are written with sorted keys here, so this one is written by hand.
    let gateway = Gateway::says([call("sum", json!({"a": 4, "b": {"c": 5, "d": [1, {"e": 1, "f": 2}]}}))]);
    let client = Client::new(VERTEX, How::Sse);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"Go"}]},{"role":"model","parts":[{"functionCall":
        {"args":{"b":{"d":[1,{"f":2,"e":1}],"c":5}, "a":4},"name":"sum"}}]},
        {"role":"user","parts":[{"functionResponse":{"name":"sum","response":{}}}]}]}"#;
    let second = gateway.ask_raw(&client, body).await;
    assert_eq!(second.signature(1, 0), first.signatures()[0]);
    gateway.took(1);
}

#[tokio::test]
async fn numbers_compare_by_their_exact_value_g13() {
    assert!(is_same(json!({"n": 1}), json!({"n": 1.0})).await);
    assert!(is_same(json!({"n": 1.0}), json!({"n": 1})).await);
    assert!(is_same(json!({"n": [{"m": 2e3}]}), json!({"n": [{"m": 2000}]})).await);
    assert!(is_same(json!({"n": 9_007_199_254_740_993_u64}), json!({"n": 9_007_199_254_740_993_u64})).await);
    assert!(!is_same(json!({"n": 9_007_199_254_740_993_u64}), json!({"n": 9_007_199_254_740_992_u64})).await);
    assert!(!is_same(json!({"n": 1}), json!({"n": "1"})).await);
    assert!(!is_same(json!({"n": 1}), json!({"n": true})).await);
    assert!(!is_same(json!({"n": 1}), json!({"n": 1.000_000_1})).await);
}

#[tokio::test]
async fn absent_and_empty_arguments_are_the_same_g13() {
    let none = || json!({});
    assert!(restores(none(), None, none()).await);
    assert!(restores(none(), Some(none()), none()).await);
    assert!(restores(none(), Some(Value::Null), none()).await);
    assert!(!restores(json!({"a": 1}), None, json!({})).await);
    assert!(!restores(json!({"a": 1}), Some(json!({})), json!({})).await);
}

#[tokio::test]
async fn a_call_that_came_without_arguments_is_found_however_they_are_written_g13() {
    let signature = "Signature+of+a+call+";
    for came in [json!({"name": "f"}), json!({"name": "f", "args": null}), json!({"name": "f", "args": {}})] {
        for kept in [json!({"name": "f"}), json!({"name": "f", "args": null}), json!({"args": {}, "name": "f"})] {
            let gateway = Gateway::says([]);
            let client = Client::new(VERTEX, How::Sse);
            let part = json!({"functionCall": came, "thoughtSignature": signature});
            let content = model([part]);
            gateway.answer_next(Canned::sse([json!({"candidates": [{"content": content, "finishReason": "STOP"}]})]));
            gateway.ask(&client, &[user("Go")]).await;
            gateway.answer_next(Canned::json(&json!({})));
            let content = model([json!({ "functionCall": kept })]);
            let answer = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
            assert_eq!(answer.signature(1, 0), signature, "{came} {kept}");
        }
    }
}

#[tokio::test]
async fn changed_arguments_are_another_call_g13() {
    for kept in [
        json!({"path": "/b"}),
        json!({"path": "/A"}),
        json!({"path": "/a "}),
        json!({"path": "/a", "force": true}),
        json!({"path": ["/a"]}),
        json!({"Path": "/a"}),
    ] {
        assert!(!is_same(json!({"path": "/a"}), kept.clone()).await, "{kept}");
    }
    assert!(!is_same(json!({"list": [1, 2]}), json!({"list": [2, 1]})).await);
    assert!(!is_same(json!({"a": null}), json!({"a": {}})).await);
}

fn declares(field: &str, schema: &Value) -> Value {
    json!({"tools": [{"googleSearch": {}}, {"functionDeclarations": [
        {"name": "other", field: {"type": "object", "properties": {"force": {"type": "boolean", "default": true}}}},
        {"name": "do_it", "description": "Does it.", field: schema},
    ]}]})
}

#[tokio::test]
async fn arguments_that_only_gained_declared_defaults_are_the_same_call_g13() {
    let schema = json!({"type": "OBJECT", "properties": {
        "path": {"type": "STRING"},
        "depth": {"type": "INTEGER", "default": 3},
        "force": {"type": "BOOLEAN", "default": false},
        "options": {"type": "OBJECT", "properties": {"color": {"type": "STRING", "default": "auto"}, "size": {"type": "NUMBER"}}},
        "items": {"type": "ARRAY", "items": {"type": "OBJECT", "properties": {"n": {"type": "INTEGER", "default": 1}}}},
    }});
    for field in ["parameters", "parametersJsonSchema", "parameters_json_schema"] {
        let tools = declares(field, &schema);
        let same = [
            (json!({"path": "/"}), json!({"path": "/", "depth": 3, "force": false})),
            (json!({"path": "/"}), json!({"path": "/", "depth": 3.0})),
            (json!({"path": "/", "depth": 3}), json!({"path": "/"})),
            (json!({"path": "/", "depth": 3}), json!({"path": "/", "force": false})),
            (json!({"options": {"size": 2}}), json!({"options": {"size": 2, "color": "auto"}})),
            (json!({"items": [{"m": 1}, {}]}), json!({"items": [{"m": 1, "n": 1}, {"n": 1}]})),
        ];
        for (args, kept) in same {
            // The provider compares arguments without knowing schemas, so what it says does not count here.
            assert!(gains(args.clone(), kept.clone(), &tools).await, "{field}: {args} {kept}");
        }
        let others = [
            (json!({"path": "/"}), json!({"path": "/", "depth": 4})),
            (json!({"path": "/"}), json!({"path": "/", "force": true})),
            (json!({"path": "/"}), json!({"path": "/", "depth": 3, "extra": 1})),
            (json!({"path": "/", "depth": 4}), json!({"path": "/"})),
            (json!({"options": {"size": 2}}), json!({"options": {"size": 3, "color": "auto"}})),
            (json!({"items": [{}]}), json!({"items": [{}, {"n": 1}]})),
        ];
        for (args, kept) in others {
            assert!(!gains(args.clone(), kept.clone(), &tools).await, "{field}: {args} {kept}");
        }
    }
    // Another tool's defaults are no defaults of this one.
    let tools = declares("parameters", &json!({"type": "OBJECT", "properties": {}}));
    assert!(!gains(json!({}), json!({"force": true}), &tools).await);
}

/// Whether what goes upstream carries the signature, whatever the provider makes of it.
async fn gains(args: Value, kept: Value, tools: &Value) -> bool {
    let gateway = Gateway::new(&strict([call("do_it", args)]).bind_signatures(false).build());
    let client = Client::new(VERTEX, How::Sse).beside(tools.clone());
    let first = gateway.ask(&client, &[user("Go")]).await;
    let content = model(vec![json!({"functionCall": {"name": "do_it", "args": kept}})]);
    let second = gateway.ask(&client, &[user("Go"), content.clone(), outputs(&content)]).await;
    contents(&second.sent[0])[1]["parts"][0]["thoughtSignature"] == first.signatures()[0]
}

#[tokio::test]
async fn tools_that_are_declared_later_do_not_matter_g19() {
    let gateway = Gateway::says([call("ls", json!({"path": "/"})), call("ls", json!({"path": "/etc"}))]);
    let tool = |name: &str| json!({"name": name, "parameters": {"type": "OBJECT"}});
    let client =
        |tools: Vec<Value>| Client::new(VERTEX, How::Sse).beside(json!({"tools": [{"functionDeclarations": tools}]}));
    let mut history = vec![user("Go")];
    for tools in [vec![tool("ls")], vec![tool("ls"), tool("cat")], vec![tool("new"), tool("ls")]] {
        let answer = gateway.ask(&client(tools), &history).await;
        let kept = answer.kept();
        let back = outputs(&kept);
        history.extend([kept, back]);
    }
    gateway.took(2);
}

#[tokio::test]
async fn ids_that_the_client_rewrote_are_not_needed_g13() {
    type Rewrite = fn(usize) -> Option<String>;
    let rewrites: [(&str, Rewrite); 4] = [
        ("none", |_| None),
        ("re-minted", |at| Some(format!("pyd_ai_{at:032x}"))),
        ("counted", |at| Some(format!("call_{at}"))),
        ("empty", |_| Some(String::new())),
    ];
    for (name, rewrite) in rewrites {
        for how in WAYS {
            let gateway = Gateway::says([
                calls([("a", json!({"x": 1})), ("b", json!({"x": 1}))]),
                calls([("a", json!({"x": 2})), ("b", json!({"x": 2}))]),
            ]);
            let client = Client::new(API, how);
            let mut history = vec![user("Go")];
            for _ in 0..3 {
                let answer = gateway.ask(&client, &history).await;
                let kept = with_ids(&answer.kept(), rewrite);
                let back = with_ids(&outputs(&kept), rewrite);
                history.extend([kept, back]);
            }
            assert_eq!(gateway.last().genuine, 2, "{name} {how:?}");
            gateway.took(2);
        }
    }
}

#[tokio::test]
async fn a_known_id_on_another_call_proves_nothing_g13() {
    let gateway = Gateway::new(
        &strict([calls([("a", json!({"x": 1})), ("b", json!({"x": 2}))])]).sentinels(Sentinels::none()).build(),
    );
    let client = Client::new(API, How::Sse);
    let first = gateway.ask(&client, &[user("Go")]).await;
    let mut kept = first.kept();
    // The arguments of the first call were redacted, its id stands.
    kept["parts"][0]["functionCall"]["args"] = json!({"x": "[redacted]"});
    let second = gateway.ask(&client, &[user("Go"), kept.clone(), outputs(&kept)]).await;
    assert_eq!(second.signature(1, 0), Value::Null);
    assert_eq!(second.signature(1, 1), Value::Null);
}

#[tokio::test]
async fn snake_case_is_answered_in_snake_case_g19() {
    for base in FACES {
        let gateway = Gateway::says([call("ls", json!({"path_name": "/"}))]);
        let client = Client::new(base, How::Sse);
        let first = gateway.ask(&client, &[user("Go")]).await;
        let call = first.kept()["parts"][0]["functionCall"].clone();
        let content = model(vec![json!({"function_call": call})]);
        let back = output(&call, json!({}))["functionResponse"].clone();
        let back = json!({"role": "user", "parts": [{"function_response": back}]});
        let second = gateway.ask(&client, &[user("Go"), content, back]).await;
        let sent = &second.upstream()[1]["parts"][0];
        assert_eq!(sent["thought_signature"], first.signatures()[0]);
        assert_eq!(sent["thoughtSignature"], Value::Null);
        gateway.took(1);
    }
}

#[tokio::test]
async fn placeholders_are_overwritten_with_the_real_value_byte_for_byte_g25() {
    let placeholders = [
        json!("skip_thought_signature_validator"),
        json!("c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="),
        json!("c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I"),
        json!("context_engineering_is_the_way_to_go"),
        json!("Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv"),
        json!(""),
        Value::Null,
    ];
    for placeholder in placeholders {
        for field in ["thoughtSignature", "thought_signature"] {
            let gateway = Gateway::new(&strict([call("ls", json!({}))]).heavy_escapes(true).build());
            let client = Client::new(API, How::Sse);
            let first = gateway.ask(&client, &[user("Go")]).await;
            let mut kept = first.kept();
            kept["parts"][0][field] = placeholder.clone();
            let second = gateway.ask(&client, &[user("Go"), kept.clone(), outputs(&kept)]).await;
            let raw = first.text().split("\"thoughtSignature\": ").nth(1).unwrap();
            let raw = &raw[..raw[1..].find('"').unwrap() + 2];
            let sent = String::from_utf8_lossy(&second.sent[0]).into_owned();
            assert!(sent.contains(&format!("\"{field}\":{raw}")), "{placeholder}: {sent}");
            gateway.took(1);
        }
    }
}

#[tokio::test]
async fn a_signature_of_the_clients_own_is_never_overwritten_g25() {
    let gateway = Gateway::says([calls([("a", json!({})), ("b", json!({}))]), text("Done.")]);
    let client = Client::new(API, How::Sse);
    let first = gateway.ask(&client, &[user("Go")]).await;
    // In another alphabet, without padding: still the client's own, and still valid.
    let own = first.signatures()[0].trim_end_matches('=').replace('+', "-").replace('/', "_");
    let mut kept = first.kept();
    kept["parts"][0]["thoughtSignature"] = own.clone().into();
    let history = [user("Go"), kept.clone(), outputs(&kept)];
    let body = client.body(&history).to_string();
    let second = gateway.ask(&client, &history).await;
    assert_eq!(second.sent, [body.as_bytes()]);
    gateway.took(1);
    // Beside it, what is lost comes back.
    let more = [&history[..], &[second.kept(), user("On")]].concat();
    let third = gateway.ask(&client, &more).await;
    assert_eq!(third.signature(1, 0), own);
    gateway.took(2);
}
