//! reqwest-retry inside of the layer and outside of it, in both versions.

use std::time::Duration;

use http::StatusCode;
use replay_hosts::serve;
use serde_json::{Value, json};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer, Report,
    engine::Event,
    testing::gemini::{GeminiProvider, Say, Script, Turn},
};

/// What goes wrong with the second request.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Status(StatusCode),
    Reset,
}

const TROUBLES: [Trouble; 3] = [
    Trouble::Status(StatusCode::TOO_MANY_REQUESTS),
    Trouble::Status(StatusCode::INTERNAL_SERVER_ERROR),
    Trouble::Reset,
];

fn provider(trouble: Trouble) -> GeminiProvider {
    let script = Script::new([
        Turn::new([Say::call("get_weather", json!({"city": "Paris"}))]),
        Turn::new([Say::text("It rains.")]),
    ]);
    let provider = GeminiProvider::builder().script(script);
    match trouble {
        Trouble::Status(_) => provider.build(),
        Trouble::Reset => provider.cut_before_head(true).faults_only_at(1).build(),
    }
}

fn follow_up(answer: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let call = &answer["candidates"][0]["content"]["parts"][0]["functionCall"];
    let contents = json!([
        {"role": "user", "parts": [{"text": "How is the weather in Paris?"}]},
        {"role": "model", "parts": [{"functionCall": call}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "get_weather", "response": {"sky": "grey"}}}]},
    ]);
    json!({ "contents": contents }).to_string()
}

macro_rules! retries {
    ($version:ident, $reqwest:ident, $middleware:ident, $retry:ident) => {
        mod $version {
            use super::*;

            /// A tool loop whose second request goes wrong at first: how often each was repaired and learned.
            async fn tool_loop(trouble: Trouble, is_outside: bool) {
                let provider = provider(trouble);
                let base = serve(provider.clone()).await.unwrap();
                let url = format!("http://{base}/v1beta/models/gemini-3-pro-preview:generateContent");
                let replay = ReplayLayer::new(MemoryStore::new());
                let policy = $retry::policies::ExponentialBackoff::builder()
                    .retry_bounds(Duration::from_millis(1), Duration::from_millis(5))
                    .build_with_max_retries(2);
                let retry = $retry::RetryTransientMiddleware::new_with_policy(policy);
                let client = $middleware::ClientBuilder::new($reqwest::Client::new());
                let client = match is_outside {
                    true => client.with(retry).with(replay.clone()).build(),
                    false => client.with(replay.clone()).with(retry).build(),
                };

                let question = r#"{"contents":[{"role":"user","parts":[{"text":"How is the weather in Paris?"}]}]}"#;
                let answer = client.post(&*url).body(question).send().await.unwrap();
                let body = follow_up(&answer.bytes().await.unwrap());
                if let Trouble::Status(status) = trouble {
                    provider.fail_next(status);
                }
                let answer = client.post(&*url).body(body).send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "{trouble:?}");
                let report = answer.extensions().get::<Report>().unwrap().clone();
                assert_eq!(report.summary().restored, 1);
                assert!(!answer.bytes().await.unwrap().is_empty());

                let requests = provider.requests();
                let [_, .., before, last] = &requests[..] else { panic!("{requests:?}") };
                assert_eq!((last.genuine, provider.refused()), (1, 0), "{trouble:?}");
                if let Trouble::Status(status) = trouble {
                    assert_eq!((before.status, &before.body), (status, &last.body), "the same was sent again");
                }
                let counters = replay.engine().counters();
                let attempts = if is_outside { 2 } else { 1 };
                assert_eq!(counters.get(Event::Restored), attempts, "{trouble:?}");
                assert_eq!(counters.get(Event::Watched), attempts + 1);
                assert_eq!(counters.get(Event::Retried), 0, "it is no matter of reasoning state");
            }

            #[tokio::test]
            async fn inside_the_repaired_request_is_sent_again() {
                for trouble in TROUBLES {
                    tool_loop(trouble, false).await;
                }
            }

            #[tokio::test]
            async fn outside_each_attempt_is_repaired() {
                for trouble in TROUBLES {
                    tool_loop(trouble, true).await;
                }
            }
        }
    };
}

retries!(middleware_0_4, reqwest_0_12, reqwest_middleware_0_4, reqwest_retry_0_7);
retries!(middleware_0_5, reqwest, reqwest_middleware, reqwest_retry);
