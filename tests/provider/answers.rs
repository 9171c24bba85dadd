//! What the provider says: its grammar, its scripts, its refusals.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::*;

use crate::client::*;

#[tokio::test]
async fn an_honest_client_gets_through_the_whole_loop_everywhere() {
    for base in [API, OLD, IMAGE, VERTEX, CLOUD] {
        for method in [":generateContent", ":streamGenerateContent?alt=sse", ":streamGenerateContent"] {
            for place in [
                AnswerSignature::TrailingEmpty,
                AnswerSignature::OnText,
                AnswerSignature::BeforeFinish,
                AnswerSignature::AfterFinish,
            ] {
                let provider = GeminiProvider::builder().answer_signature(place).heavy_escapes(true).build();
                let path = format!("{base}{method}");
                let mut history = vec![user("How is the weather?")];
                for step in 0..7 {
                    let answer = ask(&provider, &path, &history).await;
                    accepted(&answer);
                    let content = answer.content();
                    let back = responses(&content);
                    let calls = back["parts"].as_array().unwrap().len();
                    assert_eq!(calls, [1, 2, 0][step % 3], "{base} {method} {place:?} {step}");
                    history.push(content);
                    history.push(if calls > 0 { back } else { user("And tomorrow?") });
                }
                assert_eq!((provider.accepted(), provider.refused()), (7, 0));
                let last = provider.requests().pop().unwrap();
                // Every signature that came is in the history, and every one of them fits.
                assert_eq!(last.genuine, provider.issued().len() - 1, "{base} {method} {place:?}");
            }
        }
    }
}

#[tokio::test]
async fn parts_that_the_provider_ran_are_signed_each() {
    let provider = says([
        Say::thought("Hm."),
        Say::executable_code("print(1)"),
        Say::code_result("1\n"),
        Say::tool_call("GOOGLE_SEARCH_WEB", json!({"queries": ["x"]})),
        Say::tool_response("GOOGLE_SEARCH_WEB", json!({"hits": 1})),
        Say::text("Done."),
    ])
    .sign_thoughts(true)
    .build();
    let content = ask(&provider, API, &[user("Go")]).await.content();
    let parts = content["parts"].as_array().unwrap();
    let signed: Vec<bool> = parts.iter().map(|part| part.get("thoughtSignature").is_some()).collect();
    assert_eq!(signed, [true, true, false, true, true, true]);
    assert_eq!(parts[3]["toolCall"]["id"], parts[4]["toolResponse"]["id"]);
    accepted(&ask(&provider, API, &[user("Go"), content.clone(), user("On")]).await);
    for (at, field) in [(1, "executableCode"), (3, "toolCall"), (4, "toolResponse")] {
        let mut changed = content.clone();
        changed["parts"][at][field]["note"] = json!("changed");
        refused(&ask(&provider, API, &[user("Go"), changed, user("On")]).await, "Corrupted");
    }
    let kinds: Vec<SignedKind> = provider.issued().iter().take(5).map(|issued| issued.kind).collect();
    let native = SignedKind::Native;
    assert_eq!(kinds, [SignedKind::Thought, native, native, native, SignedKind::Text]);
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let provider = GeminiProvider::new();
    for path in
        ["/", "/v1beta/openai/chat/completions", "/v1beta/models/gemini-3-pro-preview", "/v1internal:generateContent"]
    {
        let answer = post(&provider, path, &json!({"request": {"contents": [user("Hello")]}})).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        let body = answer.json();
        let error = body.get("error").unwrap_or(&body[0]["error"]);
        assert_eq!(error["status"], "NOT_FOUND");
    }
    let get = Request::get(format!("{API}:generateContent")).body(Full::default()).unwrap();
    assert_eq!(send(&provider, get).await.status, StatusCode::NOT_FOUND);
    accepted(&post(&provider, "/v1internal:loadCodeAssist", &json!({"metadata": {}})).await);
}

async fn refusal_in(form: Refusals, path: &str) -> Answer {
    let provider = GeminiProvider::builder().refusals(form).build();
    let mut history = first_step(&provider, API).await;
    history[1] = unsigned(history[1].clone());
    let answer = ask(&provider, path, &history).await;
    assert_eq!((provider.accepted(), provider.refused()), (1, 1));
    assert!(provider.requests()[1].refusal.as_ref().unwrap().contains("missing a thought_signature"));
    answer
}

#[tokio::test]
async fn refusals_come_in_every_form() {
    const JSON: &str = "application/json; charset=UTF-8";
    let sse = format!("{API}:streamGenerateContent?alt=sse");
    let array = format!("{API}:streamGenerateContent");
    let missing = "Function call is missing a thought_signature";

    let answer = refusal_in(Refusals::Native, API).await;
    assert!(answer.text().starts_with("{\n  \"error\": {\n    \"code\": 400,\n    \"message\": \"Function call"));
    assert_eq!(answer.header("content-type"), JSON);
    let answer = refusal_in(Refusals::Native, &sse).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::BAD_REQUEST, "text/event-stream"));
    assert!(answer.text().starts_with("{\n  \"error\""));
    for answer in [refusal_in(Refusals::Native, &array).await, refusal_in(Refusals::Array, API).await] {
        assert!(answer.text().starts_with("[{\n  \"error\": {\n"), "{}", answer.text());
        refused(&answer, missing);
        assert_eq!(answer.header("content-type"), JSON);
    }
    assert_eq!(refusal_in(Refusals::Object, &sse).await.header("content-type"), JSON);
    assert_eq!(refusal_in(Refusals::SseTyped, API).await.header("content-type"), "text/event-stream");

    for after in [0, 2] {
        let answer = refusal_in(Refusals::StreamEvent { after }, &sse).await;
        accepted(&answer);
        let events = answer.events();
        assert_eq!(events.len(), after + 1);
        assert!(events[after]["error"]["message"].as_str().unwrap().starts_with(missing));
        let answer = refusal_in(Refusals::StreamLine { after }, &sse).await;
        accepted(&answer);
        assert!(answer.text().lines().last().unwrap().starts_with("{\"error\": {\"code\": 400"), "{}", answer.text());
        assert_eq!(answer.frames.len(), after + 1);
        let answer = refusal_in(Refusals::StreamLine { after }, &array).await;
        accepted(&answer);
        assert_eq!(answer.json()[after]["error"]["code"], 400);
    }
    refused(&refusal_in(Refusals::StreamLine { after: 1 }, API).await, missing);

    let answer = refusal_in(Refusals::OpenRouter { status: 429 }, &sse).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let raw = answer.json()["error"]["metadata"]["raw"].as_str().unwrap().to_owned();
    assert!(serde_json::from_str::<Value>(&raw).unwrap()["error"]["message"].as_str().unwrap().starts_with(missing));
    let answer = refusal_in(Refusals::LiteLlm { status: 502 }, API).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains(missing));

    for path in [API, &sse, &array] {
        let answer = refusal_in(Refusals::FinishReason, path).await;
        accepted(&answer);
        let events = answer.events();
        assert_eq!(events[0]["candidates"][0]["finishReason"], "MISSING_THOUGHT_SIGNATURE");
    }
}

#[tokio::test]
async fn streams_have_the_grammar_of_the_provider() {
    let sse = format!("{API}:streamGenerateContent?alt=sse");
    let text = says([Say::thought("Hm, what now?"), Say::text("Some <text> 東京 that is long.")]);
    let answer = ask(&text.clone().build(), &sse, &[user("Hello")]).await;
    assert!(answer.text().starts_with("data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": "));
    assert!(answer.text().contains("\\u003ctext"));
    let parts = answer.parts(0);
    assert_eq!(parts.last().unwrap()["text"], "");
    assert_eq!(parts.iter().filter(|part| part.get("thoughtSignature").is_some()).count(), 1);
    assert!(parts.last().unwrap()["thoughtSignature"].is_string());
    let said: String =
        parts.iter().filter(|part| part.get("thought").is_none()).map(|part| part["text"].as_str().unwrap()).collect();
    assert_eq!(said, "Some <text> 東京 that is long.");
    assert!(
        answer
            .events()
            .iter()
            .all(|event| event["modelVersion"] == "gemini-3-pro-preview" && event["responseId"].is_string())
    );
    let finished: Vec<usize> =
        reasons(&answer).iter().enumerate().filter(|(_, reason)| !reason.is_null()).map(|(at, _)| at).collect();
    assert_eq!(finished, [parts.len() - 1]);

    for (place, finish_at, signature_at) in
        [(AnswerSignature::OnText, 4, 4), (AnswerSignature::BeforeFinish, 6, 5), (AnswerSignature::AfterFinish, 4, 5)]
    {
        let answer = ask(&text.clone().answer_signature(place).build(), &sse, &[user("Hello")]).await;
        let events = answer.events();
        assert_eq!(events.iter().position(|event| !event["candidates"][0]["finishReason"].is_null()), Some(finish_at));
        let signed = |event: &Value| event["candidates"][0]["content"]["parts"][0]["thoughtSignature"].is_string();
        assert_eq!(events.iter().position(signed), Some(signature_at), "{place:?}");
    }

    // A call, whole and signed, then an empty text that finishes; on Vertex all in one.
    let call = says([Say::calls([("f", json!({})), ("g", json!({}))])]);
    let answer = ask(&call.clone().build(), &sse, &[user("Hello")]).await;
    let parts = answer.parts(0);
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0]["functionCall"]["id"].as_str().unwrap().len(), 8);
    assert_eq!((&parts[2]["text"], reasons(&answer)), (&json!(""), vec![Value::Null, Value::Null, json!("STOP")]));
    let answer = ask(
        &call.clone().build(),
        &format!("{VERTEX}:streamGenerateContent?alt=sse&%24alt=json%3Benum-encoding%3Dint"),
        &[user("Hello")],
    )
    .await;
    assert_eq!(reasons(&answer), [Value::Null, json!(1)]);
    assert!(answer.parts(0)[0]["functionCall"].get("id").is_none());
    let answer = ask(&call.build(), &format!("{CLOUD}:streamGenerateContent?alt=sse"), &[user("Hello")]).await;
    assert!(
        answer.text().starts_with("data: {\"response\": {\"candidates\"") && answer.text().contains("\"traceId\": \"")
    );

    // Several parts in one event.
    let both = says([Say::call("f", json!({}))]).parts_per_event(2).build();
    let answer = ask(&both, &sse, &[user("Hello")]).await;
    assert_eq!((answer.parts(0).len(), reasons(&answer)), (2, vec![json!("STOP")]));

    // Gemini 2.5 signs the first part that is no thought.
    let answer = ask(&text.build(), &format!("{OLD}:streamGenerateContent?alt=sse"), &[user("Hello")]).await;
    let signed = answer.parts(0).iter().position(|part| part.get("thoughtSignature").is_some());
    assert_eq!(signed, answer.parts(0).iter().position(|part| part.get("thought").is_none()));
}

#[tokio::test]
async fn array_streams_have_their_own_framing() {
    let provider = says([Say::text("Some text that is long.")]).build();
    let answer = ask(&provider, &format!("{API}:streamGenerateContent"), &[user("Hello")]).await;
    let text = answer.text();
    assert!(text.starts_with("[{\n  \"candidates\": [\n    {") && text.ends_with("\n}\n]"), "{text}");
    assert_eq!(text.matches("\n}\n,\r\n{\n").count(), answer.events().len() - 1);
    assert_eq!(answer.header("content-type"), "application/json; charset=UTF-8");
}

#[tokio::test]
async fn scripts_hold_candidates_blocks_and_empty_answers() {
    let turn = Turn::new([Say::text("One long answer.")]).candidate([Say::text("Two")]).finish_reason("MAX_TOKENS");
    let provider = script([turn, Turn::empty(), Turn::blocked("SAFETY")]).build();
    for path in [API.to_owned(), format!("{API}:streamGenerateContent?alt=sse")] {
        let mut history = vec![user("Hello")];
        let answer = ask(&provider, &path, &history).await;
        let events = answer.events();
        let candidates: Vec<&Value> = events.iter().flat_map(|event| event["candidates"].as_array().unwrap()).collect();
        assert_eq!(candidates.iter().filter(|candidate| candidate["finishReason"] == "MAX_TOKENS").count(), 2);
        assert_eq!(answer.parts(1)[0]["text"], "Two");
        history.extend([json!({"role": "model", "parts": answer.parts(1)}), user("Well?")]);
        let answer = ask(&provider, &path, &history).await;
        assert_eq!(answer.events()[0]["candidates"][0]["content"], json!({"role": "model"}));
        assert_eq!(reasons(&answer), ["STOP"]);
        history.extend([json!({"role": "model", "parts": [{"text": "-"}]}), user("Well?")]);
        let answer = ask(&provider, &path, &history).await;
        assert_eq!(answer.events()[0]["promptFeedback"]["blockReason"], "SAFETY");
        assert!(answer.events()[0].get("candidates").is_none());
    }
    let echo =
        Script::from_fn(|body| Turn::new([Say::text(body["contents"].as_array().map_or(0, Vec::len).to_string())]));
    let provider = GeminiProvider::builder().script(echo).numeric_enums(true).build();
    let answer = ask(&provider, API, &[user("a"), user("b")]).await;
    assert_eq!((&answer.parts(0)[0]["text"], reasons(&answer)), (&json!("2"), vec![json!(1)]));
}
