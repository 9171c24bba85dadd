//! rig, whose transport rig-reqwest takes a client of reqwest-middleware (its feature `reqwest-middleware`).
//!
//! rig keeps Claude's thinking itself, as long as its messages are kept. Here they went through a store of an
//! application that knows only text and calls.

use replay_hosts::{BoxError, serve};
use rig_core::{
    completion::{
        AssistantContent, AssistantMessage, CompletionRequest, Message, ToolDefinition,
        message::{ToolCall, ToolResultContent},
    },
    providers::anthropic::AnthropicConfig,
};
use rig_reqwest::ReqwestMiddlewareClient;
use serde_json::json;
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    testing::anthropic::{AnthropicProvider, Say, Script, Turn},
};

async fn run() -> Result<(), BoxError> {
    let provider = AnthropicProvider::builder()
        .script(Script::new([
            Turn::new([Say::thinking("I had better look."), Say::tool_use("get_weather", json!({"city": "Paris"}))]),
            Turn::new([Say::text("It rains.")]),
        ]))
        .build();
    let base = format!("http://{}", serve(provider.clone()).await?);

    let replay = ReplayLayer::new(MemoryStore::new());
    let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(replay).build();
    let claude = AnthropicConfig::new("a key").with_base_url(base).connect(ReqwestMiddlewareClient::from(http));
    let model = claude.completion("claude-sonnet-4-5");

    let question = Message::user("How is the weather in Paris?");
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let ask = async |messages: Vec<Message>, last: Message| {
        let request = CompletionRequest::new(last)
            .messages(messages)
            .max_tokens(4096)
            .tool(ToolDefinition::new("get_weather".try_into()?, "The weather of a city", schema.clone()))
            .additional_params(json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}));
        Ok::<_, BoxError>(model.call(request).await?)
    };
    let answer = ask(vec![], question.clone()).await?;

    let call = answer.tool_calls().next().ok_or("no call")?;
    let call = ToolCall::new(call.id.clone(), call.function.clone());
    let result = Message::tool_results(vec![call.result(vec![ToolResultContent::text("grey")])]);
    let kept = Message::Assistant(AssistantMessage::new(vec![AssistantContent::ToolCall(call)]));
    let answer = ask(vec![question, kept], result).await?;

    assert_eq!(answer.text(), "It rains.");
    let genuine: Vec<usize> = provider.requests().iter().map(|request| request.genuine).collect();
    assert_eq!((genuine, provider.refused()), (vec![0, 1], 0));
    println!("The thinking went back with the second request.");
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
