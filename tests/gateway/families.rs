//! Messages, Responses and chat completions through the gateway.

use std::net::SocketAddr;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use tower_reasoning_replay::testing::{
    anthropic::AnthropicProvider,
    chat::{ChatProvider, Recorded},
    responses::ResponsesProvider,
};

use crate::{
    client::{get, open, soon},
    family::{Family, Talk},
    process::Gateway,
    upstream::{Recorder, Stalling, nobody, serve},
};

/// The strict fake of a family.
pub(crate) enum Provider {
    Messages(AnthropicProvider),
    Responses(ResponsesProvider),
    Chat(ChatProvider),
}

macro_rules! of {
    ($provider:expr, $inner:ident => $what:expr) => {
        match $provider {
            Provider::Messages($inner) => $what,
            Provider::Responses($inner) => $what,
            Provider::Chat($inner) => $what,
        }
    };
}

impl Provider {
    pub(crate) fn new(family: Family) -> Self {
        match family {
            Family::Messages => Self::Messages(AnthropicProvider::new()),
            Family::Responses => Self::Responses(ResponsesProvider::new()),
            Family::Chat => Self::Chat(ChatProvider::new()),
        }
    }

    pub(crate) async fn serve(&self) -> SocketAddr {
        of!(self, provider => serve(provider).await)
    }

    fn accepted_and_refused(&self) -> (usize, usize) {
        of!(self, provider => (provider.accepted(), provider.refused()))
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        of!(self, provider => provider.requests())
    }

    /// Every piece of state that was issued.
    pub(crate) fn issued(&self) -> Vec<String> {
        match self {
            Self::Messages(provider) => provider.issued().into_iter().map(|issued| issued.signature).collect(),
            Self::Responses(provider) => provider.issued().into_iter().map(|issued| issued.encrypted_content).collect(),
            Self::Chat(provider) => {
                let text = |message: &serde_json::Value| message["reasoning_content"].as_str().map(str::to_owned);
                provider.issued().iter().filter_map(|issued| text(&issued.message)).collect()
            }
        }
    }

    fn revoke(&self) {
        match self {
            Self::Messages(provider) => provider.revoke_signatures(),
            Self::Responses(provider) => provider.revoke(),
            Self::Chat(provider) => provider.revoke_state(),
        }
    }
}

/// The value of a counter of a dialect.
pub(crate) async fn counted(gateway: &Gateway, family: Family, event: &str) -> usize {
    let metrics = get(gateway.address, "/metrics").await;
    let series = format!("dialect=\"{}\",event=\"{event}\"", family.name());
    let line = metrics.text().lines().find(|line| line.contains(&series)).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_forgetful_client_of_each_family_gets_through_a_tool_loop() {
    for (family, stream) in Family::ALL.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        let provider = Provider::new(family);
        let gateway = Gateway::before(provider.serve().await, &[]);
        let mut talk = Talk::new(family, stream);
        for turn in 0..4 {
            let answer = talk.turn(gateway.address).await;
            assert_eq!(answer.status, StatusCode::OK, "{family:?} {turn} {stream}: {}", answer.text());
        }
        assert_eq!(provider.accepted_and_refused(), (4, 0), "{family:?}");
        let requests = provider.requests();
        let genuine: Vec<usize> = requests.iter().map(|request| request.genuine).collect();
        assert_eq!(genuine, [0, 1, 2, 3], "{family:?} {stream}");
        assert_eq!(counted(&gateway, family, "restored").await, 6, "{family:?} {stream}");
        assert_eq!(counted(&gateway, family, "retried").await, 0);
    }
}

#[tokio::test]
async fn without_the_layer_the_refusal_of_each_family_arrives() {
    for (family, stream) in Family::ALL.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        let provider = Provider::new(family);
        let gateway = Gateway::before(provider.serve().await, &["--no-replay"]);
        let mut talk = Talk::new(family, stream);
        talk.turn(gateway.address).await;
        let answer = talk.turn(gateway.address).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text().contains(family.missing()), "{}", answer.text());
        assert_eq!(provider.requests()[1].body, talk.body());
    }
}

#[tokio::test]
async fn invalid_state_of_each_family_is_healed_once() {
    for family in [Family::Messages, Family::Responses] {
        for stream in [false, true] {
            let provider = Provider::new(family);
            let gateway = Gateway::before(provider.serve().await, &[]);
            let mut talk = Talk::new(family, stream);
            // So that the request without state is one that the provider takes.
            match family {
                Family::Messages => talk.settings["thinking"] = json!({"type": "adaptive"}),
                _ => talk.settings["store"] = false.into(),
            }
            talk.turn(gateway.address).await;
            provider.revoke();
            for _ in 0..3 {
                let answer = talk.turn(gateway.address).await;
                assert_eq!(answer.status, StatusCode::OK, "{family:?} {stream}: {}", answer.text());
            }
            assert_eq!(provider.accepted_and_refused(), (4, 1), "{family:?} {stream}");
            assert_eq!(counted(&gateway, family, "healed").await, 1);
        }
    }
}

#[tokio::test]
async fn a_placeholder_for_reasoning_takes_a_flag() {
    for stream in [false, true] {
        for flags in [&[][..], &["--reasoning-placeholder", "on"], &["--reasoning-placeholder=on", "--fallback=off"]] {
            let provider = Provider::new(Family::Chat);
            let upstream = provider.serve().await;
            let mut talk = Talk::new(Family::Chat, stream);
            // Another gateway has what this one would need.
            talk.turn(Gateway::before(upstream, &[]).address).await;
            let gateway = Gateway::before(upstream, flags);
            let sent = talk.body();
            let answer = talk.turn(gateway.address).await;
            let requests = provider.requests();
            assert_eq!(requests[1].body, sent, "what goes first is what came");
            if flags == ["--reasoning-placeholder", "on"] {
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                let second: serde_json::Value = serde_json::from_slice(&requests[2].body).unwrap();
                assert!(second["messages"][1]["reasoning_content"].is_string(), "{second}");
            } else {
                assert_eq!(answer.status, StatusCode::BAD_REQUEST);
                assert_eq!(requests.len(), 2);
            }
        }
    }
}

#[tokio::test]
async fn leaving_out_what_does_not_fit_takes_a_flag() {
    for flags in [&[][..], &["--drop-mismatched-thoughts", "on"]] {
        let provider = Provider::new(Family::Messages);
        let gateway = Gateway::before(provider.serve().await, flags);
        let mut talk = Talk::new(Family::Messages, true);
        talk.settings["model"] = "claude-opus-5-5".into();
        talk.settings["thinking"] = json!({"type": "adaptive"});
        for _ in 0..4 {
            let answer = talk.turn(gateway.address).await;
            assert_eq!(answer.status, StatusCode::OK, "{flags:?}: {}", answer.text());
        }
        assert_eq!(provider.accepted_and_refused(), (4, 0));
        let requests = provider.requests();
        let last = requests.last().unwrap();
        assert_eq!(last.genuine, 3);
        let body: serde_json::Value = serde_json::from_slice(&last.body).unwrap();
        let asked = body["thinking"]["block_binding"]["prefix_mismatch_behavior"] == "drop_block";
        let betas: Vec<&str> =
            last.headers.get_all("anthropic-beta").iter().map(|value| value.to_str().unwrap()).collect();
        let betas = betas.join(",");
        assert!(betas.starts_with(talk.headers[2].1), "{betas}");
        assert_eq!(betas.contains("thinking-binding-controls-2026-08-01"), asked);
        assert_eq!(asked, !flags.is_empty());
    }
}

/// A whole answer with this status line and body.
fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn refusals_of_each_family_reach_the_client_byte_for_byte() {
    const SIGNATURE: &str = "EqMBCkYIBxgCKkDb0p6dVx+/c2lnbmF0dXJl";
    let message = json!({"type": "message", "role": "assistant", "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE},
        {"type": "tool_use", "id": "toolu_01ABCDEFGHIJKLMNOPQRSTUV", "name": "get_weather", "input": {}},
    ], "stop_reason": "tool_use"});
    let response = json!({"object": "response", "id": "resp_1", "status": "completed", "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SIGNATURE},
        {"type": "function_call", "id": "fc_1", "call_id": "call_ABCDEFGHIJKLMNOPQRSTUV", "name": "get_weather", "arguments": "{}"},
    ]});
    let call = json!({"id": "call_ABCDEFGHIJKLMNOPQRSTUV", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}});
    let said = json!({"role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": [call]});
    let completion = json!({"choices": [{"index": 0, "message": said, "finish_reason": "tool_calls"}]});
    // The spelling of each is its own, down to the blanks. A second attempt that fails is not shown.
    let cases = [
        (
            Family::Messages,
            message,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid `signature` in `thinking` block"},"request_id":"req_011CQ1first"}"#,
            "request-id: req_011CQ1first\r\nanthropic-organization-id: o-1\r\nx-should-retry: false\r\n",
            3,
        ),
        (
            Family::Responses,
            response,
            "{\n  \"error\": {\n    \"message\": \"The encrypted content EqMB...dXJl could not be verified.\",\n    \"type\": \"invalid_request_error\",\n    \"param\": null,\n    \"code\": \"invalid_encrypted_content\"\n  }\n}",
            "x-request-id: req_f1rst\r\nopenai-processing-ms: 17\r\n",
            3,
        ),
        (
            Family::Chat,
            completion,
            r#"{"error":{"message":"The `reasoning_content` in the thinking mode must be passed back to the API.","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
            "x-ds-trace-id: f1rst\r\n",
            2,
        ),
    ];
    for (family, first, refusal, headers, requests) in cases {
        let second = refusal.replace("first", "second");
        let upstream = Recorder::in_turn(vec![
            answer("200 OK", "", &first.to_string()),
            answer("400 Bad Request", headers, refusal),
            answer("400 Bad Request", "request-id: req_011CQsecond\r\n", &second),
        ])
        .await;
        let gateway = Gateway::before(upstream.address, &[]);
        let mut talk = Talk::new(family, false);
        talk.turn(gateway.address).await;
        let got = talk.ask(gateway.address).await;
        assert_eq!((got.status, got.text()), (StatusCode::BAD_REQUEST, refusal), "{family:?}");
        for line in headers.split_terminator("\r\n") {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(got.headers[name], value, "{family:?}");
        }
        assert_eq!(upstream.received().len(), requests, "{family:?}");
    }
}

#[tokio::test]
async fn errors_that_are_not_about_state_reach_the_client_byte_for_byte() {
    let overloaded = r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_011CQ1"}"#;
    for family in Family::ALL {
        let headers = "request-id: req_011CQ1\r\nretry-after: 3\r\n";
        let upstream = Recorder::answering(&answer("529 Site Is Overloaded", headers, overloaded)).await;
        let gateway = Gateway::before(upstream.address, &[]);
        let got = Talk::new(family, true).ask(gateway.address).await;
        assert_eq!((got.status.as_u16(), got.text()), (529, overloaded));
        assert_eq!(
            (&got.headers["request-id"], &got.headers["retry-after"]),
            (&"req_011CQ1".parse().unwrap(), &"3".parse().unwrap())
        );
        assert_eq!(upstream.received().len(), 1);
    }
}

#[tokio::test]
async fn the_headers_of_each_family_go_upstream_as_they_came() {
    for family in Family::ALL {
        let upstream = Recorder::answering(&answer("200 OK", "", "{}")).await;
        let gateway = Gateway::before(upstream.address, &[]);
        let talk = Talk::new(family, false);
        talk.ask(gateway.address).await;
        let [received] = &upstream.received()[..] else { panic!("one request") };
        assert_eq!(received.line, format!("POST {} HTTP/1.1", family.path()));
        assert_eq!(received.body, talk.body().as_bytes());
        let (length, authority) = (talk.body().len().to_string(), upstream.address.to_string());
        let mut expected = talk.headers.clone();
        expected.extend([
            ("accept-encoding", "identity"),
            ("content-length", &*length),
            ("content-type", "application/json"),
            ("host", &*authority),
        ]);
        let mut headers: Vec<(&str, &str)> =
            received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.sort_unstable();
        expected.sort_unstable();
        assert_eq!(headers, expected, "{family:?}");
    }
}

#[tokio::test]
async fn the_events_of_each_family_do_not_wait_for_the_next() {
    let cases = [
        (
            Family::Messages,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"role\":\"assistant\",\"content\":[]}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        (
            Family::Responses,
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"output\":[]}}\n\n",
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"output\":[]}}\n\n",
        ),
        (
            Family::Chat,
            ": OPENROUTER PROCESSING\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        ),
    ];
    for (family, first, second) in cases {
        let upstream = Stalling::saying(first, second).await;
        let gateway = Gateway::before(upstream.address, &[]);
        let response = open(gateway.address, Talk::new(family, true).request()).await;
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::OK, &"text/event-stream".parse().unwrap())
        );
        let mut body = response.into_body();
        // The upstream stalls for as long as this has not come.
        assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), first, "{family:?}");
        upstream.go_on.send(()).unwrap();
        assert_eq!(soon(body.collect()).await.unwrap().to_bytes(), second, "{family:?}");
    }
}

#[tokio::test]
async fn the_log_tells_no_secrets_of_any_family() {
    for family in Family::ALL {
        let provider = Provider::new(family);
        let gateway = Gateway::before(provider.serve().await, &["--reasoning-placeholder", "on"]);
        let talk = || {
            let mut talk = Talk::new(family, true);
            talk.uri.push_str(if talk.uri.contains('?') { "&key=key-of-the-caller" } else { "?key=key-of-the-caller" });
            talk.headers.extend([
                ("cookie", "cookie-of-the-caller"),
                ("chatgpt-account-id", "account-of-the-caller"),
                ("api-key", "key-of-the-caller"),
            ]);
            talk
        };
        let mut first = talk();
        for _ in 0..4 {
            assert_eq!(first.turn(gateway.address).await.status, StatusCode::OK);
        }
        // What goes wrong is logged too.
        provider.revoke();
        first.turn(gateway.address).await;
        gateway.terminate();
        let ended = gateway.ended().await;
        let down = Gateway::before(nobody().await, &[]);
        talk().turn(down.address).await;
        down.terminate();
        let log = ended.log + &down.ended().await.log;
        for shown in ["state is put back", "the upstream did not answer", "status=200"] {
            assert!(log.contains(shown), "{shown:?} is not in the log:\n{log}");
        }
        for secret in ["-of-the-caller", "the-caller", "key=", "Paris", "get_weather", "umbrella", "Umbrella"] {
            assert!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
        }
        for secret in provider.issued() {
            assert!(!log.contains(&secret), "state is in the log:\n{log}");
        }
    }
}
