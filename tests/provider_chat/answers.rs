//! What the provider says: its shapes, its streams, its scripts.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::chat::*;

use crate::client::*;

const MODELS: [&str; 6] = ["anthropic/c", "google/g", "openai/o", "x-ai/x", "minimax/m", "deepseek/d"];

#[tokio::test]
async fn an_honest_client_gets_through_the_whole_loop_everywhere() {
    for flavour in ALL {
        for stream in [false, true] {
            for model in MODELS {
                let provider = ChatProvider::builder()
                    .flavour(flavour)
                    .heavy_escapes(stream)
                    .metadata_deltas(stream)
                    .unknown_fields(true)
                    .text_piece(5)
                    .build();
                let mut history = vec![user("How is the weather?")];
                for step in 0..7 {
                    let mut request = body(model, &history);
                    request["stream"] = json!(stream);
                    let answer = post(&provider, &request).await;
                    accepted(&answer);
                    let message = answer.message(0);
                    let back = results(&message);
                    assert_eq!(back.len(), [1, 2, 0][step % 3], "{flavour:?} {stream} {step}");
                    history.push(message);
                    history.extend(if back.is_empty() { vec![user("And tomorrow?")] } else { back });
                }
                let place = format!("{flavour:?} {stream} {model}");
                assert_eq!((provider.accepted(), provider.refused()), (7, 0), "{place}");
                assert_eq!((provider.altered(), provider.missing()), (0, 0), "{place}");
                let last = provider.requests().pop().unwrap();
                assert_eq!(last.genuine, 6, "{place}");
                assert_eq!(provider.restored(), 21, "{place}");
            }
        }
    }
}

#[tokio::test]
async fn streams_and_whole_answers_say_the_same() {
    for flavour in ALL {
        for model in MODELS {
            let says = [
                Say::reasoning("Hm, 東京 is far."),
                Say::text("Let me look."),
                Say::call("f", json!({"a": [1, "東"]})),
            ];
            let build = || script([Turn::new(says.clone())]).flavour(flavour).seed(5).build();
            let whole = post(&build(), &body(model, &[user("Go")])).await.message(0);
            let stream = post(&build(), &streamed(body(model, &[user("Go")]))).await.message(0);
            let mut stream = stream.as_object().unwrap().clone();
            let mut whole = whole.as_object().unwrap().clone();
            for message in [&mut stream, &mut whole] {
                message.retain(|_, value| !value.is_null());
            }
            assert_eq!(stream, whole, "{flavour:?} {model}");
        }
    }
}

#[tokio::test]
async fn empty_reasoning_is_a_field_that_is_there() {
    for (flavour, field) in [
        (Flavour::DeepSeek, "reasoning_content"),
        (Flavour::Kimi, "reasoning_content"),
        (Flavour::Vllm, "reasoning"),
        (Flavour::Copilot, "reasoning_text"),
    ] {
        let provider = says(flavour, [Say::empty_reasoning(), Say::text("Yes.")]).build();
        for answer in [ask(&provider, &[user("Go")]).await, ask_stream(&provider, &[user("Go")]).await] {
            assert_eq!(answer.message(0)[field], "", "{flavour:?}");
        }
    }
    let provider = says(Flavour::DeepSeek, [Say::text("Yes.")]).build();
    assert_eq!(ask(&provider, &[user("Go")]).await.message(0)["reasoning_content"], Value::Null);
}

#[tokio::test]
async fn streams_of_deepseek() {
    let provider = says(Flavour::DeepSeek, [Say::reasoning("Hm."), Say::text("Yes.")]).build();
    let answer = ask_stream(&provider, &[user("Go")]).await;
    let deltas = answer.deltas(0);
    assert_eq!(deltas[0], json!({"role": "assistant", "content": null, "reasoning_content": ""}));
    assert_eq!(deltas[1], json!({"content": null, "reasoning_content": "Hm."}));
    assert_eq!(deltas[2], json!({"content": "Yes.", "reasoning_content": null}));
    assert_eq!(deltas[3], json!({"content": "", "reasoning_content": null}));
    let chunks = answer.chunks();
    assert!(chunks[0]["usage"].is_null() && chunks[3]["usage"]["total_tokens"].is_u64());
    assert!(answer.text().starts_with("data: {\"id\":\"chatcmpl-"));
    assert!(answer.text().ends_with("}\n\ndata: [DONE]\n\n"));
    assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
}

#[tokio::test]
async fn calls_come_in_fragments_with_an_index() {
    let calls = || Say::calls([("f", json!({"text": "a long argument"})), ("g", json!({}))]);
    let provider = says(Flavour::Qwen, [calls()]).text_piece(4).build();
    let deltas = ask_stream(&provider, &[user("Go")]).await.deltas(0);
    assert!(deltas.len() > 8);
    assert_eq!(deltas[0]["tool_calls"][0]["function"], json!({"name": "f", "arguments": ""}));
    assert_eq!(deltas[1]["tool_calls"][0], json!({"index": 0, "function": {"arguments": "{\"te"}}));
    for flavour in [Flavour::Ollama, Flavour::Groq, Flavour::Mistral] {
        let provider = says(flavour, [calls()]).text_piece(4).build();
        let deltas = ask_stream(&provider, &[user("Go")]).await.deltas(0);
        let calls: Vec<&Value> = deltas.iter().filter_map(|delta| delta.get("tool_calls")).collect();
        assert_eq!((calls.len(), &calls[1][0]["index"]), (2, &json!(1)), "{flavour:?}");
    }
}

#[tokio::test]
async fn streams_of_gemini() {
    let provider = says(Flavour::Gemini, [Say::calls([("f", json!({"a": 1})), ("g", json!({}))])]);
    let answer = ask_stream(&provider.clone().build(), &[user("Go")]).await;
    let deltas = answer.deltas(0);
    assert_eq!(deltas.len(), 3);
    let call = &deltas[0]["tool_calls"][0];
    assert!(call.get("index").is_none() && call["extra_content"]["google"]["thought_signature"].is_string());
    assert_eq!(call["function"]["arguments"], "{\"a\":1}");
    assert!(deltas[1]["tool_calls"][0].get("extra_content").is_none());
    assert_eq!(answer.finish_reasons(), ["stop"]);

    let deltas = ask_stream(&provider.metadata_deltas(true).build(), &[user("Go")]).await.deltas(0);
    assert!(deltas[0]["tool_calls"][0].get("extra_content").is_none());
    assert_eq!(deltas[1]["tool_calls"][0].as_object().unwrap().len(), 2);
    assert!(deltas[1]["tool_calls"][0]["extra_content"]["google"]["thought_signature"].is_string());

    let text = says(Flavour::Vertex, [Say::text("Yes.")]);
    let deltas = ask_stream(&text.clone().build(), &[user("Go")]).await.deltas(0);
    assert!(deltas[0]["content"] == "Yes." && deltas[0]["extra_content"]["vertex"]["thought_signature"].is_string());
    let deltas = ask_stream(&text.metadata_deltas(true).build(), &[user("Go")]).await.deltas(0);
    assert_eq!(deltas[0], json!({"role": "assistant", "content": "Yes."}));
    assert_eq!(deltas[1].as_object().unwrap().keys().collect::<Vec<_>>(), ["extra_content"]);
}

#[tokio::test]
async fn streams_of_openrouter() {
    let provider = says(Flavour::OpenRouter, [Say::reasoning("Hm, what?"), Say::call("f", json!({}))]).build();
    let answer = post(&provider, &streamed(body("anthropic/c", &[user("Go")]))).await;
    assert!(answer.text().starts_with(": OPENROUTER PROCESSING\n\ndata: {"));
    let deltas = answer.deltas(0);
    let entry = |at: usize| deltas[at]["reasoning_details"][0].clone();
    assert_eq!((&entry(0)["text"], &entry(0)["signature"]), (&json!(""), &json!("")));
    assert_eq!((&entry(1)["text"], &deltas[1]["reasoning"]), (&json!("Hm, what?"), &json!("Hm, what?")));
    assert!(entry(2).get("text").is_none() && entry(2)["signature"].is_string() && deltas[2]["reasoning"].is_null());
    let chunks = answer.chunks();
    let finish = &chunks[chunks.len() - 2]["choices"][0];
    assert_eq!((&finish["finish_reason"], &finish["native_finish_reason"]), (&json!("tool_calls"), &json!("tool_use")));
    let usage = &chunks[chunks.len() - 1];
    assert!(usage["choices"] == json!([]) && usage["usage"]["prompt_tokens"].is_u64());
}

#[tokio::test]
async fn streams_of_copilot_groq_and_mistral() {
    let turn = || [Say::reasoning("Hm."), Say::text("Yes.")];
    let deltas = ask_stream(&says(Flavour::Copilot, turn()).build(), &[user("Go")]).await.deltas(0);
    assert_eq!(deltas[1]["reasoning_text"], "Hm.");
    assert!(deltas[2]["reasoning_opaque"].is_string() && deltas[3]["content"] == "Yes.");
    let late = says(Flavour::Copilot, turn()).metadata_deltas(true).build();
    let deltas = ask_stream(&late, &[user("Go")]).await.deltas(0);
    assert!(deltas[2]["content"] == "Yes." && deltas[3]["reasoning_opaque"].is_string());

    let deltas = ask_stream(&says(Flavour::Groq, turn()).build(), &[user("Go")]).await.deltas(0);
    assert_eq!(deltas[1], json!({"reasoning": "Hm.", "channel": "analysis"}));

    let answer = ask_stream(&says(Flavour::Mistral, turn()).build(), &[user("Go")]).await;
    let deltas = answer.deltas(0);
    assert_eq!(
        deltas[1]["content"],
        json!([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "closed": true}])
    );
    assert_eq!(deltas[2]["content"], json!([{"type": "text", "text": "Yes."}]));
    assert!(answer.chunks().iter().all(|chunk| chunk["p"].as_str().is_some_and(|padding| !padding.is_empty())));
}

#[tokio::test]
async fn minimax_thinks_in_the_content_unless_it_is_split() {
    let provider = says(Flavour::MiniMax, [Say::reasoning("Hm."), Say::text("Yes.")]).build();
    let message = ask(&provider, &[user("Go")]).await.message(0);
    let entry = json!({"type": "reasoning.text", "text": "Hm.", "format": null, "index": 0});
    assert_eq!(message["reasoning_details"], json!([entry]));
    assert!(message.get("reasoning").is_none());
    let mut request = body("m", &[user("Go")]);
    request["reasoning_split"] = json!(false);
    let message = post(&provider, &request).await.message(0);
    assert_eq!(message["content"], "<think>\nHm.\n</think>\n\nYes.");
    assert!(message.get("reasoning_details").is_none());
}

#[tokio::test]
async fn usage_and_the_end_come_as_asked() {
    let turn = || [Say::text("Yes.")];
    for (include, last) in [(true, true), (false, false)] {
        let mut request = streamed(body("m", &[user("Go")]));
        request["stream_options"] = json!({"include_usage": include});
        let chunks = post(&says(Flavour::Vllm, turn()).build(), &request).await.chunks();
        assert_eq!(chunks.last().unwrap()["choices"] == json!([]), last);
        assert_eq!(chunks.last().unwrap().get("usage").is_some(), last);
    }
    let answer = ask_stream(&says(Flavour::Vllm, turn()).done(false).build(), &[user("Go")]).await;
    assert!(!answer.text().contains("[DONE]") && answer.finish_reasons() == ["stop"]);
}

#[tokio::test]
async fn several_choices_are_apart() {
    let turn =
        Turn::new([Say::reasoning("One."), Say::text("First.")]).choice([Say::reasoning("Two."), Say::text("Second.")]);
    let provider = script([turn.finish_reason("length")]).flavour(Flavour::Glm).text_piece(2).build();
    let mut request = body("m", &[user("Go")]);
    request["n"] = json!(3);
    for request in [request.clone(), streamed(request)] {
        let answer = post(&provider, &request).await;
        for (index, said) in ["First.", "Second.", "Second."].into_iter().enumerate() {
            assert_eq!(answer.message(index)["content"], said);
        }
        assert!(answer.text().contains("\"finish_reason\":\"length\""));
    }
    assert_eq!(provider.issued().len(), 6);
}

#[tokio::test]
async fn scripts_may_be_closures() {
    let script = Script::from_fn(|body| Turn::new([Say::text(body["model"].as_str().unwrap_or_default())]));
    let provider = ChatProvider::builder().script(script.clone()).build();
    assert_eq!(post(&provider, &body("deepseek-v4", &[user("Go")])).await.message(0)["content"], "deepseek-v4");
    assert_eq!(format!("{script:?}"), "Script(closure)");
    let silent = script_of_nothing();
    assert_eq!(ask(&silent, &[user("Go")]).await.message(0)["content"], "");
}

fn script_of_nothing() -> ChatProvider {
    script([]).build()
}

#[tokio::test]
async fn thinking_can_be_turned_off() {
    for (flavour, field, off) in [
        (Flavour::DeepSeek, "thinking", json!({"type": "disabled"})),
        (Flavour::Qwen, "enable_thinking", json!(false)),
        (Flavour::OpenRouter, "reasoning", json!({"enabled": false})),
    ] {
        let provider = says(flavour, [Say::reasoning("Hm."), Say::call("f", json!({}))]).build();
        let mut request = body("anthropic/c", &[user("Go")]);
        request[field] = off.clone();
        let message = post(&provider, &request).await.message(0);
        assert!(message["reasoning_content"].is_null() && message.get("reasoning_details").is_none(), "{flavour:?}");
        // What was thought before is not demanded either.
        let mut history = vec![user("Go"), message.clone()];
        history.extend(results(&message));
        request = body("anthropic/c", &history);
        request[field] = off;
        accepted(&post(&provider, &request).await);
    }
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let provider = ChatProvider::new();
    let text = body("m", &[user("Go")]).to_string();
    for path in ["/", "/v1/responses", "/v1/chat/completions/x"] {
        let request = Request::post(path).body(Full::from(text.clone())).unwrap();
        assert_eq!(send(&provider, request).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let get = Request::get(PATH).body(Full::default()).unwrap();
    assert_eq!(send(&provider, get).await.status, StatusCode::NOT_FOUND);
    for path in
        ["/chat/completions", "/api/paas/v4/chat/completions", "/openai/deployments/d/chat/completions?api-version=1"]
    {
        accepted(&send(&provider, Request::post(path).body(Full::from(text.clone())).unwrap()).await);
    }
}
