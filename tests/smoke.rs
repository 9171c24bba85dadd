//! A conversation of a forgetful client through the layer.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{MemoryStore, ReplayLayer, Report, testing::gemini::*};

#[tokio::test]
async fn smoke() {
    for stream in [true, false] {
        let provider = GeminiProvider::builder().build();
        let layer = ReplayLayer::new(MemoryStore::new());
        let service = layer.layer(provider.clone());
        let mut contents = vec![json!({"role":"user","parts":[{"text":"weather in Paris?"}]})];
        for turn in 0..4 {
            let body = json!({"contents": contents}).to_string();
            let verb = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let req = Request::post(format!(
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro-preview:{verb}"
            ))
            .header("content-type", "application/json")
            .header("x-goog-api-key", "k")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
            let res = service.clone().oneshot(req).await.unwrap();
            let status = res.status();
            let report = res.extensions().get::<Report>().unwrap().clone();
            let bytes = res.into_body().collect().await.unwrap().to_bytes();
            println!("turn {turn} {status} {:?}", report.summary());
            if !status.is_success() {
                println!("{}", String::from_utf8_lossy(&bytes));
                println!("{}", String::from_utf8_lossy(&provider.requests().last().unwrap().body));
                panic!();
            }
            let events: Vec<Value> = if stream {
                String::from_utf8_lossy(&bytes)
                    .split("\r\n\r\n")
                    .filter_map(|e| serde_json::from_str(e.strip_prefix("data: ")?).ok())
                    .collect()
            } else {
                vec![serde_json::from_slice(&bytes).unwrap()]
            };
            let mut parts = vec![];
            let mut text = String::new();
            for e in &events {
                for p in e["candidates"][0]["content"]["parts"].as_array().cloned().unwrap_or_default() {
                    let mut p = p;
                    if p["thought"] == json!(true) {
                        continue;
                    }
                    p.as_object_mut().unwrap().remove("thoughtSignature");
                    if let Some(t) = p["text"].as_str() {
                        text += t;
                    } else {
                        parts.push(p);
                    }
                }
            }
            if !text.is_empty() {
                parts.insert(0, json!({"text": text}));
            }
            let outs: Vec<Value> = parts
                .iter()
                .filter(|p| p.get("functionCall").is_some())
                .map(|p| {
                    let c = &p["functionCall"];
                    let mut r = json!({"name":c["name"],"response":{"ok":turn}});
                    if let Some(id) = c.get("id") {
                        r["id"] = id.clone();
                    }
                    json!({"functionResponse":r})
                })
                .collect();
            contents.push(json!({"role":"model","parts":parts}));
            contents.push(if outs.is_empty() {
                json!({"role":"user","parts":[{"text":"and now?"}]})
            } else {
                json!({"role":"user","parts":outs})
            });
        }
        println!("{:?}", layer.engine().counters());
    }
}
