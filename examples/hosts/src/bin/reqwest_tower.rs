//! The layer around reqwest's client.
//!
//! `reqwest::Client` is a tower service of `reqwest::Request`s; with the layer around it, it is one still. Who holds an
//! `http::Request` makes it a `reqwest::Request` first, and its extensions come along.

use replay_hosts::{BoxError, serve};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, ReplayService, Report,
    scope::Tenant,
    testing::gemini::{GeminiProvider, Say, Script, Turn},
};

/// Asks with what the client has of the conversation.
async fn ask(client: &ReplayService<reqwest::Client>, url: &str, contents: &Value) -> Result<(Value, u32), BoxError> {
    let mut request = http::Request::post(url).header("content-type", "application/json");
    if let Some(extensions) = request.extensions_mut() {
        extensions.insert(Tenant::new("customer-17"));
    }
    let request = request.body(json!({ "contents": contents }).to_string())?;
    let response = client.clone().oneshot(reqwest::Request::try_from(request)?).await?.error_for_status()?;
    let restored = response.extensions().get::<Report>().map_or(0, |report| report.summary().restored);
    Ok((serde_json::from_slice(&response.bytes().await?)?, restored))
}

async fn run() -> Result<(), BoxError> {
    let provider = GeminiProvider::builder()
        .script(Script::new([
            Turn::new([Say::call("get_weather", json!({"city": "Paris"}))]),
            Turn::new([Say::text("It rains.")]),
        ]))
        .build();
    let url = format!("http://{}/v1beta/models/gemini-3-pro-preview:generateContent", serve(provider.clone()).await?);

    let replay = ReplayLayer::new(MemoryStore::new());
    let client = ServiceBuilder::new().layer(replay).service(reqwest::Client::new());

    let mut contents = json!([{"role": "user", "parts": [{"text": "How is the weather in Paris?"}]}]);
    let (answer, _) = ask(&client, &url, &contents).await?;

    // This client has no field for signatures.
    let call = &answer["candidates"][0]["content"]["parts"][0]["functionCall"];
    let history = [
        json!({"role": "model", "parts": [{"functionCall": call}]}),
        json!({"role": "user", "parts": [{"functionResponse": {"name": "get_weather", "response": {"sky": "grey"}}}]}),
    ];
    contents.as_array_mut().ok_or("not a list")?.extend(history);
    let (answer, restored) = ask(&client, &url, &contents).await?;

    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "It rains.");
    assert_eq!(restored, 1);
    let genuine: Vec<usize> = provider.requests().iter().map(|request| request.genuine).collect();
    assert_eq!((genuine, provider.refused()), (vec![0, 1], 0));
    println!("The signature went back with the second request.");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    run().await
}

#[cfg(test)]
#[tokio::test]
async fn it_works() {
    run().await.unwrap();
}
