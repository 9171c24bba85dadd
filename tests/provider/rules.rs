//! What is refused, and what is not.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_reasoning_replay::testing::gemini::*;

use crate::client::*;

#[tokio::test]
async fn the_first_call_of_each_step_of_the_current_turn_is_signed() {
    let provider = GeminiProvider::new();
    let mut history = first_step(&provider, API).await;
    accepted(&ask(&provider, API, &history).await);
    let whole = history[1].clone();
    history[1] = unsigned(whole.clone());
    let answer = ask(&provider, API, &history).await;
    refused(&answer, "Function call is missing a thought_signature in functionCall parts.");
    refused(&answer, "function call `default_api:get_weather` , position 2.");
    // An empty signature is none.
    call_part(&mut history[1])["thoughtSignature"] = json!("");
    refused(&ask(&provider, API, &history).await, "position 2.");
    // The second step is checked too; its second call needs no signature.
    history[1] = whole;
    let second = ask(&provider, API, &history).await.content();
    assert!(second["parts"][0]["thoughtSignature"].is_string());
    assert!(second["parts"][1].get("thoughtSignature").is_none());
    history.extend([unsigned(second.clone()), responses(&second)]);
    refused(&ask(&provider, API, &history).await, "`default_api:get_weather` , position 4.");
    // A response with text beside it starts no new turn.
    history[4]["parts"].as_array_mut().unwrap().push(json!({"text": "Go on."}));
    refused(&ask(&provider, API, &history).await, "position 4.");
    // Once a new turn has begun, the old one needs no signatures.
    history[3] = unsigned(second);
    history.extend([json!({"role": "model", "parts": [{"text": "Done."}]}), user("Thanks. And tomorrow?")]);
    accepted(&ask(&provider, API, &history).await);
    // Another model content is another step.
    let provider = GeminiProvider::new();
    let mut history = first_step(&provider, API).await;
    let stray = json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]});
    history.insert(2, stray);
    history[3]["parts"].as_array_mut().unwrap().push(json!({"functionResponse": {"name": "f", "response": {}}}));
    refused(&ask(&provider, API, &history).await, "`default_api:f` , position 3.");
}

#[tokio::test]
async fn each_surface_has_its_own_words() {
    let missing = "Unable to submit request because function call `default_api:get_weather` in the 2. content block is missing a `thought_signature`.";
    for (path, missing, invalid) in [
        (API, "Function call is missing a thought_signature", "Corrupted thought signature."),
        (VERTEX, missing, "Unable to submit request because Thought signature is not valid.."),
        (CLOUD, missing, "Corrupted thought signature."),
    ] {
        let provider = GeminiProvider::new();
        let mut history = first_step(&provider, path).await;
        call_part(&mut history[1])["thoughtSignature"] = json!("AAAA");
        refused(&ask(&provider, path, &history).await, invalid);
        history[1] = unsigned(history[1].clone());
        refused(&ask(&provider, path, &history).await, missing);
    }
    let provider =
        GeminiProvider::builder().invalid_wording(InvalidWording::Invalid).surface(Surface::GeminiApi).build();
    let mut history = first_step(&provider, VERTEX).await;
    call_part(&mut history[1])["thoughtSignature"] = json!("AAAA");
    refused(&ask(&provider, VERTEX, &history).await, "Invalid thought signature.");
}

#[tokio::test]
async fn signatures_are_compared_decoded_and_must_be_base64() {
    let provider = GeminiProvider::new();
    let mut history = first_step(&provider, API).await;
    let signature = call_part(&mut history[1])["thoughtSignature"].as_str().unwrap().to_owned();
    let url_safe = signature.replace('+', "-").replace('/', "_");
    for spelling in [&signature, &url_safe, signature.trim_end_matches('='), url_safe.trim_end_matches('=')] {
        call_part(&mut history[1])["thoughtSignature"] = json!(spelling);
        accepted(&ask(&provider, API, &history).await);
    }
    call_part(&mut history[1])["thoughtSignature"] = json!(&signature[..signature.len() - 8]);
    refused(&ask(&provider, API, &history).await, "Corrupted thought signature.");
    call_part(&mut history[1])["thoughtSignature"] = json!("no base64!");
    let at = history[1]["parts"].as_array().unwrap().len() - 1;
    let path =
        format!("contents[1].parts[{at}].thought_signature' (TYPE_BYTES), Base64 decoding failed for \"no base64!\"");
    let answer = ask(&provider, API, &history).await;
    // The call of a non-stream answer is its last part.
    refused(&answer, &path);
    let field = &answer.json()["error"]["details"][0]["fieldViolations"][0]["field"];
    assert_eq!(field, &json!(format!("contents[1].parts[{at}].thought_signature")));
    refused(&ask(&provider, CLOUD, &history).await, "'request.contents[1]");
}

#[tokio::test]
async fn a_corrupt_signature_is_refused_anywhere() {
    let provider = says([Say::text("Fine.")]).build();
    let mut history = vec![user("Hello"), ask(&provider, API, &[user("Hello")]).await.content(), user("Well?")];
    accepted(&ask(&provider, API, &history).await);
    history[1] = unsigned(history[1].clone());
    accepted(&ask(&provider, API, &history).await);
    history[1]["parts"][0]["thoughtSignature"] = json!("AAAA");
    refused(&ask(&provider, API, &history).await, "Corrupted thought signature.");
    // Gemini 2.5 never looks.
    accepted(&ask(&provider, OLD, &history).await);
    accepted(&ask(&says([]).family(Family::Gemini2).build(), API, &history).await);
}

#[tokio::test]
async fn a_bound_signature_stays_where_it_was_issued() {
    let strict = GeminiProvider::new();
    let history = first_step(&strict, API).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut history = history.clone();
        change(call_part(&mut history[1]));
        history
    };
    // Order of keys, and the way to write a number, do not count.
    let same = changed(&|part| part["functionCall"]["args"] = json!({"days": 1.0, "city": "Paris"}));
    accepted(&ask(&strict, API, &same).await);
    let ids = changed(&|part| part["functionCall"]["id"] = json!("minted"));
    accepted(&ask(&strict, API, &ids).await);
    for other in [
        changed(&|part| part["functionCall"]["args"]["city"] = json!("Rome")),
        changed(&|part| part["functionCall"]["name"] = json!("get_time")),
    ] {
        refused(&ask(&strict, API, &other).await, "Corrupted thought signature.");
    }
    // On the text beside it, on the response, on a second part, on another model, on another surface.
    let signature = call_part(&mut history.clone()[1])["thoughtSignature"].clone();
    let mut moved = history.clone();
    moved[0]["parts"][0]["thoughtSignature"] = signature.clone();
    refused(&ask(&strict, API, &moved).await, "Corrupted");
    let mut moved = history.clone();
    moved[2]["parts"][0]["thoughtSignature"] = signature.clone();
    refused(&ask(&strict, API, &moved).await, "Corrupted");
    let mut twice = history.clone();
    let copy = call_part(&mut twice[1]).clone();
    twice[1]["parts"].as_array_mut().unwrap().push(copy);
    let response = twice[2]["parts"][0].clone();
    twice[2]["parts"].as_array_mut().unwrap().push(response);
    refused(&ask(&strict, API, &twice).await, "Corrupted");
    refused(&ask(&strict, "/v1beta/models/gemini-3-flash-preview", &history).await, "Corrupted");
    refused(&ask(&strict, VERTEX, &history).await, "Thought signature is not valid");
    // On its neighbour, a parallel call.
    let second = ask(&strict, API, &history).await.content();
    let mut moved = second.clone();
    let signature = moved["parts"][0].as_object_mut().unwrap().remove("thoughtSignature");
    moved["parts"][1]["thoughtSignature"] = signature.unwrap();
    let steps = |step: Value| [history.clone(), vec![step, responses(&second)]].concat();
    accepted(&ask(&strict, API, &steps(second.clone())).await);
    refused(&ask(&strict, API, &steps(moved)).await, "Corrupted");
    // Without the switch, only the surface counts.
    let loose = GeminiProvider::builder().bind_signatures(false).build();
    let mut history = first_step(&loose, API).await;
    call_part(&mut history[1])["functionCall"]["args"]["city"] = json!("Rome");
    accepted(&ask(&loose, "/v1beta/models/gemini-3-flash-preview", &history).await);
    refused(&ask(&loose, VERTEX, &history).await, "Thought signature is not valid");
}

#[tokio::test]
async fn a_bound_signature_of_text_covers_its_whole_run() {
    let provider = says([Say::text("One fine long answer, 東京.")]).build();
    let path = format!("{API}:streamGenerateContent?alt=sse");
    let content = ask(&provider, &path, &[user("Hello")]).await.content();
    let parts = content["parts"].as_array().unwrap().clone();
    assert!(parts.len() > 2);
    let signature = parts.last().unwrap()["thoughtSignature"].clone();
    assert_eq!(parts.last().unwrap()["text"], "");
    let with = |parts: Value| [user("Hello"), json!({"role": "model", "parts": parts}), user("Well?")];
    accepted(&ask(&provider, API, &with(json!(parts))).await);
    let merged = json!([{"text": "One fine long answer, 東京.", "thoughtSignature": signature}]);
    accepted(&ask(&provider, API, &with(merged)).await);
    let behind = json!([{"text": "One fine long answer, 東京."}, {"text": "", "thoughtSignature": signature}]);
    accepted(&ask(&provider, API, &with(behind)).await);
    // As a client that keeps a stream as a content for each event, but not if the user comes between.
    let each: Vec<Value> = parts.iter().map(|part| json!({"role": "model", "parts": [part]})).collect();
    let mut spread = [vec![user("Hello")], each, vec![user("Well?")]].concat();
    accepted(&ask(&provider, API, &spread).await);
    spread.insert(spread.len() - 2, user("Hm."));
    refused(&ask(&provider, API, &spread).await, "Corrupted thought signature.");
    for wrong in [
        json!([{"text": "One fine answer.", "thoughtSignature": signature}]),
        json!([{"text": "", "thoughtSignature": signature}]),
        json!([{"text": "One fine long answer, 東京.", "thought": true, "thoughtSignature": signature}]),
        json!([{"text": "One fine long"}, {"text": "answer, 東京.", "thoughtSignature": signature}]),
        json!([{"executableCode": {"code": "1"}, "thoughtSignature": signature}]),
    ] {
        refused(&ask(&provider, API, &with(wrong)).await, "Corrupted thought signature.");
    }
}

#[tokio::test]
async fn equal_calls_keep_their_signatures_in_order_when_asked_to() {
    for (order, status) in [(false, StatusCode::OK), (true, StatusCode::BAD_REQUEST)] {
        let provider = says([Say::call("f", json!({}))]).order_signatures(order).build();
        let mut history = first_step(&provider, API).await;
        let second = ask(&provider, API, &history).await.content();
        history.extend([second.clone(), responses(&second)]);
        accepted(&ask(&provider, API, &history).await);
        history.swap(1, 3);
        assert_eq!(ask(&provider, API, &history).await.status, status);
    }
}

#[tokio::test]
async fn credentials_bind_when_asked_to() {
    for (bind, status) in [(false, StatusCode::OK), (true, StatusCode::BAD_REQUEST)] {
        let provider = GeminiProvider::builder().bind_credentials(bind).build();
        let history = first_step(&provider, &format!("{API}:generateContent?key=one")).await;
        accepted(&ask(&provider, &format!("{API}:generateContent?key=one"), &history).await);
        assert_eq!(ask(&provider, &format!("{API}:generateContent?key=two"), &history).await.status, status);
        let body = Full::new(Bytes::from(json!({ "contents": history }).to_string()));
        let header = Request::post(format!("{API}:generateContent")).header("x-goog-api-key", "one");
        accepted(&send(&provider, header.body(body).unwrap()).await);
    }
}

#[tokio::test]
async fn sentinels_pass_as_far_as_the_policy_goes() {
    let skip = "skip_thought_signature_validator";
    let encoded = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";
    let context = "context_engineering_is_the_way_to_go";
    for (policy, sentinel, passes) in [
        (Sentinels::all(), skip, true),
        (Sentinels::all(), encoded, true),
        (Sentinels::all(), context, true),
        (Sentinels::all().base64(false), encoded, false),
        (Sentinels::all().literal(false), skip, false),
        (Sentinels::all().context(false), context, false),
        (Sentinels::none(), skip, false),
    ] {
        let provider = GeminiProvider::builder().sentinels(policy).count_refuses_sentinels(true).build();
        let mut history = first_step(&provider, API).await;
        call_part(&mut history[1])["thoughtSignature"] = json!(sentinel);
        let answer = ask(&provider, API, &history).await;
        if passes {
            accepted(&answer);
            assert_eq!(provider.requests()[1].sentinels, 1);
        } else {
            refused(&answer, "Corrupted thought signature.");
        }
        refused(&ask(&provider, &format!("{API}:countTokens"), &history).await, "Corrupted");
    }
}

#[tokio::test]
async fn calls_and_responses_pair_and_follow_in_order() {
    let provider = GeminiProvider::new();
    let history = first_step(&provider, API).await;
    let pairing =
        "Please ensure that the number of function response parts is equal to the number of function call parts";
    let order =
        "Please ensure that function call turn comes immediately after a user turn or after a function response turn.";
    let mut more = history.clone();
    let response = more[2]["parts"][0].clone();
    more[2]["parts"].as_array_mut().unwrap().push(response.clone());
    refused(&ask(&provider, API, &more).await, pairing);
    refused(&ask(&provider, API, &history[..2]).await, pairing);
    refused(&ask(&provider, API, &[history[0].clone(), history[1].clone(), user("Well?")]).await, pairing);
    refused(&ask(&provider, API, &[user("Hello"), json!({"parts": [response]})]).await, pairing);
    refused(&ask(&provider, API, &history[1..]).await, order);
    let mut turned = history.clone();
    turned[1]["role"] = json!("user");
    refused(&ask(&provider, API, &turned).await, order);
    // Interleaved parallel calls: the second call becomes a step of its own.
    let second = ask(&provider, API, &history).await.content();
    let back = responses(&second);
    let one = |content: &Value, at: usize| json!({"role": content["role"], "parts": [content["parts"][at]]});
    let mut side_by_side = history.clone();
    side_by_side.extend([second.clone(), back.clone()]);
    accepted(&ask(&provider, API, &side_by_side).await);
    let mut interleaved = history.clone();
    interleaved.extend([one(&second, 0), one(&back, 0), one(&second, 1), one(&back, 1)]);
    refused(&ask(&provider, API, &interleaved).await, "`default_api:get_time` , position 6.");
    // A count may end with calls.
    accepted(&ask(&provider, &format!("{API}:countTokens"), &history[..2]).await);
}

#[tokio::test]
async fn json_is_read_strictly_but_in_both_spellings() {
    let provider = GeminiProvider::new();
    let history = first_step(&provider, API).await;
    let text = json!({ "contents": history }).to_string();
    let raw = |text: String| {
        let request = Request::post(format!("{API}:generateContent")).body(Full::new(Bytes::from(text))).unwrap();
        send(&provider, request)
    };
    accepted(&raw(text.replace("thoughtSignature", "thought_signature")).await);
    accepted(
        &raw(text.replace("functionCall", "function_call").replace("functionResponse", "function_response")).await,
    );
    let both = text.replace("\"thoughtSignature\"", "\"thought_signature\":\"AAAA\",\"thoughtSignature\"");
    refused(&raw(both).await, "Invalid JSON payload received.");
    let repeated = text.replace("\"thoughtSignature\"", "\"thoughtSignature\":\"AAAA\",\"thoughtSignature\"");
    refused(&raw(repeated).await, "Invalid JSON payload received. Key \"thoughtSignature\" is given twice.");
    refused(&raw(text[..text.len() - 1].to_owned()).await, "Invalid JSON payload received.");
    refused(&raw("[]".to_owned()).await, "Invalid JSON payload received.");
    let inside = text.replace("{\"functionCall\":{", "{\"functionCall\":{\"thoughtSignature\":\"AAAA\",");
    refused(&raw(inside).await, "Unknown name \"thoughtSignature\" at 'contents[1]");
    let short = Request::post(format!("{API}:generateContent"))
        .header("content-length", "12")
        .body(Full::new(Bytes::from(text)))
        .unwrap();
    refused(&send(&provider, short).await, "content-length is 12");
}

#[tokio::test]
async fn vertex_v1_may_refuse_ids() {
    let provider = GeminiProvider::builder().vertex_v1_rejects_ids(true).build();
    let mut history = first_step(&provider, VERTEX).await;
    accepted(&ask(&provider, VERTEX, &history).await);
    call_part(&mut history[1])["functionCall"]["id"] = json!("x");
    let answer = ask(&provider, VERTEX, &history).await;
    refused(&answer, "Invalid JSON payload received. Unknown name \"id\" at 'contents[1].parts[");
    accepted(&ask(&provider, &VERTEX.replace("/v1/", "/v1beta1/"), &history).await);
    accepted(&ask(&GeminiProvider::new(), OLD, &history).await);
}

#[tokio::test]
async fn image_models_want_text_and_media_signed_in_every_turn() {
    let image = vec![0, 159, 146, 150, 255];
    let build = || says([Say::text("Here it is: "), Say::media("image/png", image.clone())]);
    let provider = build().build();
    let content = ask(&provider, IMAGE, &[user("Draw")]).await.content();
    let history = |content: Value| [user("Draw"), content, user("More blue")];
    accepted(&ask(&provider, IMAGE, &history(content.clone())).await);
    let mut lost = content.clone();
    lost["parts"][1].as_object_mut().unwrap().remove("thoughtSignature");
    let message = "Image part is missing a thought_signature in content position 2, part position 2.";
    refused(&ask(&provider, IMAGE, &history(lost)).await, message);
    let mut lost = content.clone();
    lost["parts"][0].as_object_mut().unwrap().remove("thoughtSignature");
    let message = "Text part is missing a thought_signature in content position 2, part position 1.";
    refused(&ask(&provider, IMAGE, &history(lost)).await, message);
    let mut changed = content.clone();
    changed["parts"][1]["inlineData"]["data"] = json!("AAAA");
    refused(&ask(&provider, IMAGE, &history(changed)).await, "Corrupted");
    let mut sentinel = content.clone();
    sentinel["parts"][1]["thoughtSignature"] = json!("skip_thought_signature_validator");
    accepted(&ask(&provider, IMAGE, &history(sentinel)).await);
    // Other models of the generation do not mind.
    accepted(&ask(&provider, API, &history(unsigned(content))).await);
    let large = build().large_media_signatures(true).build();
    let content = ask(&large, IMAGE, &[user("Draw")]).await.content();
    let length = content["parts"][1]["thoughtSignature"].as_str().unwrap().len();
    assert!((1 << 20..2 << 20).contains(&length), "{length}");
    accepted(&ask(&large, IMAGE, &history(content)).await);
}

#[tokio::test]
async fn a_detached_signature_of_a_call_is_taken_back_in_either_place() {
    let provider = GeminiProvider::builder().detach_call_signatures(true).build();
    let history = first_step(&provider, &format!("{API}:streamGenerateContent?alt=sse")).await;
    accepted(&ask(&provider, API, &history).await);
    let parts = history[1]["parts"].as_array().unwrap();
    let at = parts.iter().position(|part| part.get("functionCall").is_some()).unwrap();
    assert!(parts[at].get("thoughtSignature").is_none());
    let mut on_call = parts[at].clone();
    on_call["thoughtSignature"] = parts[at + 1]["thoughtSignature"].clone();
    let mut moved = history.clone();
    moved[1]["parts"] = json!([on_call]);
    accepted(&ask(&provider, API, &moved).await);
    moved[1]["parts"] = json!([parts[at]]);
    refused(&ask(&provider, API, &moved).await, "missing a thought_signature");
}

#[tokio::test]
async fn claude_wants_its_thinking_back_as_it_was() {
    let provider = GeminiProvider::builder().answer_signature(AnswerSignature::OnText).build();
    let question = user("How is the weather?");
    let answer = claude(&provider, "generateContent", std::slice::from_ref(&question)).await;
    assert!(answer.json()["response"]["responseId"].as_str().unwrap().starts_with("msg_vrtx_"));
    assert_eq!(answer.json()["response"]["candidates"][0]["finishReason"], "OTHER");
    let content = answer.content();
    assert!(content["parts"][0]["thoughtSignature"].as_str().unwrap().starts_with('R'));
    assert!(content["parts"][1]["functionCall"]["id"].as_str().unwrap().starts_with("toolu_vrtx_"));
    let history = |content: &Value| [question.clone(), content.clone(), responses(content)];
    let good = claude(&provider, "generateContent", &history(&content)).await;
    accepted(&good);
    // The second answer of the script has no thought of its own, but a Claude model always thinks first.
    assert_eq!(good.content()["parts"][0]["thought"], true);

    let refusal = |answer: &Answer| {
        let body = answer.json();
        let message = body[0]["error"]["message"].as_str().unwrap().to_owned();
        let error: Value = serde_json::from_str(&message).unwrap();
        assert!(error["request_id"].as_str().unwrap().starts_with("req_vrtx_"));
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    let invalid = "messages.1.content.0: Invalid `signature` in `thinking` block";
    let mut changed = content.clone();
    changed["parts"][0]["text"] = json!("Shortened.");
    let said = refusal(&claude(&provider, "generateContent", &history(&changed)).await);
    assert_eq!(said, invalid);
    changed = content.clone();
    changed["parts"][0]["thoughtSignature"] = json!("skip_thought_signature_validator");
    assert_eq!(refusal(&claude(&provider, "generateContent", &history(&changed)).await), invalid);
    changed = unsigned(content.clone());
    let said = refusal(&claude(&provider, "generateContent", &history(&changed)).await);
    assert_eq!(said, "messages.1.content.0.thinking.signature: Field required");
    changed = json!({"role": "model", "parts": [content["parts"][1]]});
    let said = refusal(&claude(&provider, "generateContent", &history(&changed)).await);
    assert!(
        said.starts_with(
            "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
        )
    );
    // A finished turn may go without.
    let [question, call, response] = history(&changed);
    let later =
        [question.clone(), call, response, json!({"role": "model", "parts": [{"text": "Rain."}]}), user("Thanks.")];
    accepted(&claude(&provider, "generateContent", &later).await);
    changed = content.clone();
    changed["parts"][1]["functionCall"].as_object_mut().unwrap().remove("id");
    let said = refusal(&claude(&provider, "generateContent", &history(&changed)).await);
    assert_eq!(said, "messages.1.content.1.tool_use.id: Field required");
    // Signatures of the two families do not mix.
    let gemini = ask(&provider, CLOUD, std::slice::from_ref(&question)).await.content();
    changed = content.clone();
    changed["parts"][0]["thoughtSignature"] = call_part(&mut gemini.clone())["thoughtSignature"].clone();
    assert_eq!(refusal(&claude(&provider, "generateContent", &history(&changed)).await), invalid);
    // Claude is not served elsewhere.
    let elsewhere = ask(&provider, "/v1beta/models/claude-opus-4-5", &[user("Hello")]).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_count_is_checked_like_the_request_it_counts_for() {
    let provider = GeminiProvider::new();
    let mut history = first_step(&provider, API).await;
    let path = format!("{API}:countTokens");
    let issued = provider.issued().len();
    let wrapped = |history: &[Value]| json!({"generateContentRequest": {"model": "models/gemini-3-pro-preview", "contents": history}});
    for answer in [ask(&provider, &path, &history).await, post(&provider, &path, &wrapped(&history)).await] {
        accepted(&answer);
        assert!(answer.json()["totalTokens"].as_u64().unwrap() > 0);
    }
    let cloud = json!({"request": {"model": "models/gemini-3-pro-preview", "contents": [user("Hello")]}});
    accepted(&post(&provider, "/v1internal:countTokens", &cloud).await);
    history[1] = unsigned(history[1].clone());
    refused(&ask(&provider, &path, &history).await, "missing a thought_signature");
    refused(&post(&provider, &path, &wrapped(&history)).await, "missing a thought_signature");
    assert_eq!(provider.issued().len(), issued);
}

#[tokio::test]
async fn claude_streams_its_thinking_in_pieces_and_wants_it_back_as_one() {
    let provider = GeminiProvider::new();
    let question = user("How is the weather?");
    let answer = claude(&provider, "streamGenerateContent?alt=sse", std::slice::from_ref(&question)).await;
    let pieces = answer.content();
    let history = |content: &Value| [question.clone(), content.clone(), responses(content)];
    let refusal = claude(&provider, "generateContent", &history(&pieces)).await;
    assert!(refusal.text().contains("thinking.signature: Field required"));
    let (thoughts, rest): (Vec<Value>, Vec<Value>) =
        pieces["parts"].as_array().unwrap().iter().cloned().partition(|part| part["thought"] == true);
    let text: String = thoughts.iter().filter_map(|part| part["text"].as_str()).collect();
    let mut thought = thoughts.last().unwrap().clone();
    assert_eq!(thought["text"], "");
    thought["text"] = json!(text);
    let parts: Vec<Value> = std::iter::once(thought).chain(rest).collect();
    accepted(&claude(&provider, "generateContent", &history(&json!({"role": "model", "parts": parts}))).await);
}
