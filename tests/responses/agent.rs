//! Clients of the Responses API that lose reasoning, between the layer and a strict provider.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    testing::responses::{Builder, ResponsesProvider, Say, Script, Turn, Vendor},
};

const VENDORS: [Vendor; 8] = [
    Vendor::OpenAi,
    Vendor::Azure,
    Vendor::ChatGpt,
    Vendor::Copilot,
    Vendor::Xai,
    Vendor::OpenRouter,
    Vendor::BedrockMantle,
    Vendor::DeepSeek,
];

/// What the client does to the items of each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// It has no room for reasoning.
    DropsReasoning,
    /// Nor for the ids of items.
    DropsIds,
    /// It keeps reasoning without its state, in requests that want nothing stored.
    StripsState,
    /// Nor does it keep the ids of items.
    StripsStateAndIds,
    /// It keeps nothing of calls but their outputs.
    DropsCalls,
    /// It puts each output right behind its call.
    Interleaves,
    /// It keeps everything.
    Keeps,
}

impl Client {
    const ALL: [Self; 7] = [
        Self::DropsReasoning,
        Self::DropsIds,
        Self::StripsState,
        Self::StripsStateAndIds,
        Self::DropsCalls,
        Self::Interleaves,
        Self::Keeps,
    ];

    fn keep(self, items: Vec<Value>) -> Vec<Value> {
        let mut kept = Vec::new();
        let mut outputs = Vec::new();
        for mut item in items {
            let output = match item["type"].as_str().unwrap() {
                "function_call" => Some("function_call_output"),
                "custom_tool_call" => Some("custom_tool_call_output"),
                _ => None,
            };
            let output =
                output.map(|kind| json!({"type": kind, "call_id": item["call_id"], "output": "{\"ok\":true}"}));
            let is_reasoning = item["type"] == "reasoning";
            let members = item.as_object_mut().unwrap();
            if matches!(self, Self::DropsIds | Self::StripsStateAndIds) {
                members.remove("id");
            }
            if is_reasoning && matches!(self, Self::StripsState | Self::StripsStateAndIds) {
                members.remove("encrypted_content");
                members.remove("content");
                members.insert("summary".into(), json!([]));
            }
            let drops_reasoning = !matches!(self, Self::StripsState | Self::StripsStateAndIds | Self::Keeps);
            let drops_call = self == Self::DropsCalls && output.is_some();
            if !(drops_call || is_reasoning && drops_reasoning) {
                kept.push(item);
            }
            match self {
                Self::Interleaves => kept.extend(output),
                _ => outputs.extend(output),
            }
        }
        kept.extend(outputs);
        kept
    }
}

/// A conversation of several questions, each with several steps.
fn script() -> Script {
    let step = Arc::new(AtomicUsize::new(0));
    Script::from_fn(move |_| {
        let step = step.fetch_add(1, Ordering::Relaxed);
        let look = |what: usize| ("look", json!({"at": [step, what], "deep": true}));
        Turn::new(match step % 6 {
            0 => vec![Say::reasoning(["I look.", "Then I see."]), Say::calls([look(1), look(2)])],
            1 => vec![Say::hidden_reasoning(), Say::phased_text("commentary", "I look again."), Say::calls([look(3)])],
            2 => vec![Say::reasoning(["So."]), Say::phased_text("final_answer", format!("It is {step}."))],
            3 => vec![Say::hidden_reasoning(), Say::custom_tool_call("patch", format!("*** {step}"))],
            4 => vec![
                Say::hidden_reasoning(),
                Say::web_search_call("what"),
                Say::hidden_reasoning(),
                Say::text("Found."),
            ],
            _ => vec![Say::text("Nothing to add.")],
        })
    })
}

fn output(text: &str) -> Vec<Value> {
    if let Ok(document) = serde_json::from_str::<Value>(text) {
        return document["output"].as_array().unwrap().clone();
    }
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    events.filter(|event| event["type"] == "response.output_item.done").map(|event| event["item"].clone()).collect()
}

/// How a conversation goes.
#[derive(Clone, Copy, Debug)]
struct Manner {
    client: Client,
    stream: bool,
    store: Option<bool>,
    /// The client names its session.
    named: bool,
}

struct Talk {
    provider: ResponsesProvider,
    layer: ReplayLayer,
    manner: Manner,
    history: Vec<Value>,
    /// How many reasoning items the history would have if the client kept them.
    issued: usize,
}

fn is_reasoning(item: &Value) -> bool {
    item["type"] == "reasoning"
}

fn has_state(item: &Value) -> bool {
    item["encrypted_content"].is_string() || item["content"][0].is_object()
}

impl Talk {
    fn new(provider: ResponsesProvider, manner: Manner) -> Self {
        Self { provider, layer: ReplayLayer::new(MemoryStore::new()), manner, history: Vec::new(), issued: 0 }
    }

    /// Sends the history, and goes on with the answer; gives the input that went upstream.
    async fn step(&mut self) -> Result<Vec<Value>, String> {
        let Self { manner, history, .. } = self;
        if history.last().is_none_or(|last| last.get("call_id").is_none()) {
            history.push(json!({"role": "user", "content": format!("Question {}?", history.len())}));
        }
        let mut body = json!({"model": "gpt-5", "stream": manner.stream, "input": history});
        if let Some(store) = manner.store {
            body["store"] = store.into();
        }
        let mut request = Request::post("https://api.openai.com/v1/responses")
            .header("content-type", "application/json")
            .header("authorization", "Bearer key");
        if manner.named {
            request = request.header("session-id", "s");
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let response = self.layer.layer(self.provider.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let text = response.into_body().collect().await.map_err(|_| "broken".to_owned())?.to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let upstream: Value = serde_json::from_slice(&self.provider.requests().last().unwrap().body).unwrap();
        if status != StatusCode::OK {
            return Err(format!("{status} {} for {upstream}", text.trim()));
        }
        let items = output(&text);
        self.issued += items.iter().filter(|item| is_reasoning(item)).count();
        history.extend(manner.client.keep(items));
        Ok(upstream["input"].as_array().unwrap().clone())
    }
}

async fn converse(provider: ResponsesProvider, manner: Manner) -> Result<(), String> {
    let mut talk = Talk::new(provider, manner);
    for step in 0..8 {
        let issued = talk.issued;
        let input = talk.step().await.map_err(|error| format!("step {step}: {error}"))?;
        let reasoning: Vec<&Value> = input.iter().filter(|item| is_reasoning(item)).collect();
        if talk.provider.refused() > 0 || reasoning.len() != issued || !reasoning.iter().all(|item| has_state(item)) {
            return Err(format!("step {step}: {reasoning:?} are back of {issued} in {}", json!(input)));
        }
    }
    Ok(())
}

/// R5, R6, R7, R8, R9: whatever a client lost, the provider never misses it.
#[tokio::test]
async fn no_vendor_misses_what_a_client_lost_r6() {
    let mut failures = Vec::new();
    for vendor in VENDORS {
        for client in Client::ALL {
            for (stream, store, named) in
                [(false, None, true), (false, Some(false), false), (true, None, false), (true, Some(false), true)]
            {
                let strips = matches!(client, Client::StripsState | Client::StripsStateAndIds);
                // What is stored needs no state to be known by its id.
                if strips && store != Some(false) {
                    continue;
                }
                let manner = Manner { client, stream, store, named };
                let provider = Builder::default().vendor(vendor).script(script()).build();
                if let Err(error) = converse(provider, manner).await {
                    failures.push(format!("{vendor:?} {manner:?}: {error}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// R1, R14: what cannot be read any more is taken out whole, and forgotten.
#[tokio::test]
async fn reasoning_that_cannot_be_read_any_more_is_left_out_r14() {
    let manner = Manner { client: Client::DropsIds, stream: false, store: Some(false), named: true };
    let provider = Builder::default().script(script()).build();
    let mut talk = Talk::new(provider.clone(), manner);
    for _ in 0..3 {
        talk.step().await.unwrap();
    }
    provider.revoke();
    let (before, issued) = (provider.refused(), talk.issued);
    assert_eq!(talk.step().await.unwrap().iter().filter(|item| is_reasoning(item)).count(), 0);
    assert_eq!(provider.refused() - before, 1);
    // What came since then is all that is known.
    let fresh = talk.issued - issued;
    let input = talk.step().await.unwrap();
    assert_eq!(input.iter().filter(|item| is_reasoning(item)).count(), fresh);
    assert_eq!(provider.refused() - before, 1);
}

/// R1, R4, R12: state goes back to those only from whom it came.
#[tokio::test]
async fn another_account_gets_none_of_it_r12() {
    let manner = Manner { client: Client::DropsIds, stream: true, store: Some(false), named: true };
    let provider = Builder::default().script(script()).build();
    let mut talk = Talk::new(provider.clone(), manner);
    talk.step().await.unwrap();
    for (host, key) in [("api.openai.com", "another"), ("mine.openai.azure.com", "key")] {
        let body = json!({"model": "gpt-5", "store": false, "input": talk.history});
        let request = Request::post(format!("https://{host}/v1/responses"))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"))
            .header("session-id", "s");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let response = talk.layer.layer(provider.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let _ = response.into_body().collect().await;
        assert_eq!(provider.requests().last().unwrap().body, body.to_string());
    }
    assert_eq!(provider.refused(), 0);
}
