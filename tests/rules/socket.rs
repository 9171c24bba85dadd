//! End to end over a socket, with a real client and server.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, Report, RequestBody,
    testing::gemini::{Chunks, GeminiProvider},
};

/// A conversation of several turns over HTTP/2 and HTTP/1, with frames that fall anywhere, and trailers.
#[tokio::test]
async fn a_conversation_over_a_socket() {
    for http2 in [true, false] {
        let provider = GeminiProvider::builder().trailers(http2).chunks(Chunks::Bytes(61)).build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = provider.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = TowerToHyperService::new(server.clone());
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<RequestBody<Full<Bytes>>>();
        let layer = ReplayLayer::new(MemoryStore::new());
        let client = layer.layer(client);
        let uri = format!("http://{address}/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse");
        let mut contents = vec![json!({"role": "user", "parts": [{"text": "How is the weather?"}]})];
        for turn in 0..6 {
            let body = Full::new(Bytes::from(json!({ "contents": contents }).to_string()));
            let request = Request::post(&uri).header("content-type", "application/json").body(body).unwrap();
            let response = client.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let report = response.extensions().get::<Report>().unwrap().clone();
            let body = response.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned();
            let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            assert_eq!(status, 200, "http2: {http2}, turn {turn}: {text}");
            assert_eq!(trailers.is_some_and(|trailers| trailers["x-provider-trailer"] == "end"), http2);
            assert!(report.summary().learned > 0);
            let events = text.split_terminator("\r\n\r\n").map(|event| event.strip_prefix("data: ").unwrap());
            let events: Vec<Value> = events.map(|event| serde_json::from_str(event).unwrap()).collect();
            let parts = events.iter().flat_map(|event| event["candidates"][0]["content"]["parts"].as_array().cloned());
            let mut kept: Vec<Value> = Vec::new();
            let mut said = String::new();
            for part in parts.flatten().filter(|part| part["thought"] != true) {
                match part.get("functionCall") {
                    Some(call) => kept.push(json!({ "functionCall": call })),
                    None => said += part["text"].as_str().unwrap(),
                }
            }
            let outputs: Vec<Value> = kept
                .iter()
                .map(|part| &part["functionCall"])
                .map(|call| json!({"functionResponse": {"name": call["name"], "id": call["id"], "response": {}}}))
                .collect();
            if !said.is_empty() {
                kept.insert(0, json!({ "text": said }));
            }
            contents.push(json!({"role": "model", "parts": kept}));
            let next = if outputs.is_empty() { vec![json!({"text": "And now?"})] } else { outputs };
            contents.push(json!({"role": "user", "parts": next}));
        }
        assert_eq!(provider.refused(), 0);
        assert!(provider.requests().last().unwrap().genuine >= 4);
    }
}
