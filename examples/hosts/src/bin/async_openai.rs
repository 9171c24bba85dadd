//! async-openai, whose HTTP service can be replaced (its feature `middleware`).
//!
//! Its types have no field for `reasoning_content`, which DeepSeek wants back.

use async_openai::{Client, config::OpenAIConfig, error::OpenAIError, middleware::HttpRequestFactory};
use replay_hosts::{BoxError, serve};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    testing::chat::{ChatProvider, Flavour, Say, Script, Turn},
};

/// A client with the layer in it. What retries goes around `service`, and its attempts are repaired anew.
fn with_replay(config: OpenAIConfig, replay: ReplayLayer) -> Client<OpenAIConfig> {
    let http = ServiceBuilder::new().layer(replay).service(reqwest::Client::new());
    let service = service_fn(move |request: HttpRequestFactory| {
        let http = http.clone();
        async move { http.oneshot(request.build().await?).await.map_err(OpenAIError::Reqwest) }
    });
    Client::with_config(config).with_http_service(service)
}

async fn run() -> Result<(), BoxError> {
    let provider = ChatProvider::builder()
        .flavour(Flavour::DeepSeek)
        .script(Script::new([
            Turn::new([Say::reasoning("I had better look."), Say::call("get_weather", json!({"city": "Paris"}))]),
            Turn::new([Say::reasoning("Now I know."), Say::text("It rains.")]),
        ]))
        .build();
    let base = format!("http://{}", serve(provider.clone()).await?);

    let config = OpenAIConfig::new().with_api_base(base).with_api_key("a key");
    let client = with_replay(config, ReplayLayer::new(MemoryStore::new()));

    let tools = json!([{"type": "function", "function": {"name": "get_weather"}}]);
    let ask = async |messages: &Value| {
        let request = json!({"model": "deepseek-v4", "tools": tools, "messages": messages});
        let response = client.chat().create(serde_json::from_value(request)?).await?;
        let choice = response.choices.into_iter().next().ok_or("no choice")?;
        Ok::<_, BoxError>(choice.message)
    };
    let mut messages = json!([{"role": "user", "content": "How is the weather in Paris?"}]);
    let said = serde_json::to_value(ask(&messages).await?)?;
    assert!(said.get("reasoning_content").is_none(), "the client knows of reasoning");
    let call = &said["tool_calls"][0];
    let history = [
        json!({"role": "assistant", "content": "", "tool_calls": [call]}),
        json!({"role": "tool", "tool_call_id": call["id"], "content": "grey"}),
    ];
    messages.as_array_mut().ok_or("not a list")?.extend(history);
    let said = ask(&messages).await?;

    assert_eq!(said.content.as_deref(), Some("It rains."));
    assert_eq!((provider.accepted(), provider.refused(), provider.restored()), (2, 0, 1));
    println!("The reasoning went back with the second request.");
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
