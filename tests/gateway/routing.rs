//! Which upstream a request reaches, and with which path.

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower_reasoning_replay::testing::gemini::GeminiProvider;

use crate::{
    client::{Conversation, get, soon},
    process::{Gateway, run},
    public,
    upstream::{Recorder, nobody, serve},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn lines(upstream: &Recorder) -> Vec<String> {
    upstream.received().into_iter().map(|request| request.line).collect()
}

#[tokio::test]
async fn path_and_query_are_kept_behind_the_upstreams_own_path() {
    let upstream = Recorder::answering(OK).await;
    let plain = Gateway::before(upstream.address, &[]);
    let odd = "/v1//models/a%2Fb%3Agenerate/../x;p=1?key=a%20b&alt=sse&&x=?y";
    assert_eq!(get(plain.address, odd).await.status, StatusCode::OK);
    assert_eq!(get(plain.address, "/").await.status, StatusCode::OK);
    assert_eq!(get(plain.address, "/?a").await.status, StatusCode::OK);

    let below = Gateway::start(&["--upstream", &format!("http://{}/a/b/", upstream.address)]);
    assert_eq!(get(below.address, "/v1/models?x=1").await.status, StatusCode::OK);
    let expected = [odd, "/", "/?a", "/a/b/v1/models?x=1"].map(|target| format!("GET {target} HTTP/1.1"));
    assert_eq!(lines(&upstream), expected);
}

#[tokio::test]
async fn the_longest_prefix_decides_and_is_stripped() {
    let [one, two, rest] =
        [Recorder::answering(OK).await, Recorder::answering(OK).await, Recorder::answering(OK).await];
    let flag = |prefix: &str, upstream: &Recorder, path: &str| format!("{prefix}http://{}{path}", upstream.address);
    let (one_flag, two_flag) = (flag("/llm=", &one, ""), flag("/llm/two/=", &two, "/base"));
    let prefixed = Gateway::start(&["--upstream", &one_flag, "--upstream", &two_flag]);
    for path in ["/llm/v1/x?q=1", "/llm/twofold", "/llm", "/llm?q", "/llm/two/v1/y?q=/llm", "/llm/two"] {
        assert_eq!(get(prefixed.address, path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(lines(&one), ["/v1/x?q=1", "/twofold", "/", "/?q"].map(|target| format!("GET {target} HTTP/1.1")));
    assert_eq!(lines(&two), ["/base/v1/y?q=/llm", "/base"].map(|target| format!("GET {target} HTTP/1.1")));
    for path in ["/", "/llmx", "/v1beta/models/m:generateContent"] {
        let answer = get(prefixed.address, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text().contains("no --upstream takes this path"), "{}", answer.text());
    }

    let all = Gateway::start(&["--upstream", &flag("", &rest, ""), "--upstream", &one_flag]);
    assert_eq!(get(all.address, "/llmx").await.status, StatusCode::OK);
    assert_eq!(lines(&rest), ["GET /llmx HTTP/1.1"]);
}

#[tokio::test]
async fn upstreams_of_two_prefixes_share_nothing() {
    let (one, two) = (GeminiProvider::new(), GeminiProvider::new());
    let one_flag = format!("/one=http://{}", serve(&one).await);
    let two_flag = format!("/two=http://{}", serve(&two).await);
    let gateway = Gateway::start(&["--upstream", &one_flag, "--upstream", &two_flag, "--fallback", "off"]);
    let mut conversation = Conversation::new("/one", true);
    conversation.headers.push(("x-session-id", "one-session"));
    assert_eq!(conversation.turn(gateway.address).await.status, StatusCode::OK);
    let mut elsewhere = conversation.clone();
    elsewhere.uri = conversation.uri.replace("/one", "/two");
    // State is readable where it was issued, and nowhere else.
    assert_eq!(elsewhere.ask(gateway.address).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(conversation.ask(gateway.address).await.status, StatusCode::OK);
    assert_eq!((one.accepted(), two.accepted()), (2, 0));
}

#[test]
fn without_upstreams_the_path_chooses_the_public_host() {
    let cases = [
        ("/v1beta/models/gemini-3-pro:generateContent", "generativelanguage.googleapis.com"),
        ("/v1beta/models", "generativelanguage.googleapis.com"),
        ("/v1alpha/models/m:streamGenerateContent", "generativelanguage.googleapis.com"),
        ("/v1/models/m:countTokens", "generativelanguage.googleapis.com"),
        ("/v1/models/m%3AgenerateContent", "generativelanguage.googleapis.com"),
        ("/v1internal:streamGenerateContent", "cloudcode-pa.googleapis.com"),
        ("/v1/projects/p/locations/global/publishers/google/models/m:generateContent", "aiplatform.googleapis.com"),
        (
            "/v1beta1/projects/p/locations/europe-west4/publishers/google/models/m:generateContent",
            "europe-west4-aiplatform.googleapis.com",
        ),
        ("/v1/publishers/google/models/m:generateContent", "aiplatform.googleapis.com"),
        ("/v1/messages", "api.anthropic.com"),
        ("/v1/messages/count_tokens", "api.anthropic.com"),
        ("/v1/responses", "api.openai.com"),
        ("/v1/chat/completions", "api.openai.com"),
        ("/v1beta/openai/chat/completions", "generativelanguage.googleapis.com"),
        (
            "/v1/projects/p/locations/us-east5/publishers/anthropic/models/m:streamRawPredict",
            "us-east5-aiplatform.googleapis.com",
        ),
        ("/v1/projects/p/locations/global/endpoints/openapi/chat/completions", "aiplatform.googleapis.com"),
        ("/v1/responses/input_tokens", "api.openai.com"),
        ("/backend-api/codex/responses", "chatgpt.com"),
        ("/api/v1/chat/completions", "openrouter.ai"),
        ("/api/v1/responses", "openrouter.ai"),
        ("/api/v1/messages", "openrouter.ai"),
    ];
    for (path, host) in cases {
        assert_eq!(public::host(path), Some((host.to_owned(), path)), "{path}");
    }
}

#[test]
fn without_upstreams_the_name_of_a_provider_may_stand_before_its_path() {
    let cases = [
        ("/anthropic", "/v1/messages", "api.anthropic.com"),
        ("/openai", "/v1/responses", "api.openai.com"),
        ("/gemini", "/v1beta/models", "generativelanguage.googleapis.com"),
        ("/deepseek", "/chat/completions", "api.deepseek.com"),
        ("/deepseek", "/anthropic/v1/messages", "api.deepseek.com"),
        ("/moonshot", "/v1/chat/completions", "api.moonshot.ai"),
        ("/zai", "/api/paas/v4/chat/completions", "api.z.ai"),
        ("/minimax", "/v1/chat/completions", "api.minimax.io"),
        ("/mistral", "/v1/chat/completions", "api.mistral.ai"),
        ("/xai", "/v1/responses", "api.x.ai"),
        ("/groq", "/openai/v1/chat/completions", "api.groq.com"),
        ("/cerebras", "/v1/chat/completions", "api.cerebras.ai"),
        ("/openrouter", "/api/v1/chat/completions", "openrouter.ai"),
        ("/copilot", "/responses", "api.githubcopilot.com"),
        ("/chatgpt", "/backend-api/codex/responses", "chatgpt.com"),
    ];
    for (name, path, host) in cases {
        assert_eq!(public::host(&format!("{name}{path}")), Some((host.to_owned(), path)), "{name}{path}");
    }
    assert!(public::NAMES.iter().all(|(name, _)| cases.iter().any(|case| case.0[1..] == **name)));
}

#[tokio::test]
async fn without_upstreams_unknown_paths_are_not_found() {
    let gateway = Gateway::start(&[]);
    let unknown = [
        "/",
        "/v1",
        "/v2/models/m:generateContent",
        "/v1/models",
        "/v1/embeddings",
        "/chat/completions",
        "/responses",
        "/anthropic",
        "/groq/",
        "/deepseekx/chat/completions",
        "/Deepseek/chat/completions",
        "/openai/deployments/d/chat/completions",
        "/openai/responses?api-version=2025-04-01-preview",
        "/api/paas/v4/chat/completions",
        "/v1/projects/p/locations/l.evil.example/publishers/google/models/m:generateContent",
        "/v1/projects/p/locations/evil.example:80%2F/publishers/google/models/m:generateContent",
        "/v1/projects/p/locations//publishers/google/models/m:generateContent",
    ];
    for path in unknown {
        let answer = get(gateway.address, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(error["error"]["message"], "the path belongs to no provider that is known here");
        // As the clients of Anthropic and OpenAI, and those of Google, want to be told.
        assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &"not_found_error".into()));
        assert_eq!((&error["error"]["code"], &error["error"]["status"]), (&404.into(), &"NOT_FOUND".into()));
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_bad_gateway() {
    for flags in [&[][..], &["--no-replay"]] {
        let gateway = Gateway::before(nobody().await, flags);
        let mut conversation = Conversation::new("", false);
        conversation.uri.push_str("?key=key-in-the-query");
        let answer = conversation.ask(gateway.address).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.headers["content-type"], "application/json");
        let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(error["error"]["code"], 502);
        assert_eq!(error["error"]["message"], "the upstream cannot be reached");
    }
}

#[tokio::test]
async fn an_https_upstream_is_offered_tls_with_both_versions() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::start(&["--upstream", &format!("https://{}", upstream.local_addr().unwrap())]);
    let hello = async {
        let (mut stream, _) = soon(upstream.accept()).await.unwrap();
        let mut hello = Vec::new();
        while !hello.windows(12).any(|window| window == b"\x02h2\x08http/1.1") {
            assert_ne!(soon(stream.read_buf(&mut hello)).await.unwrap(), 0);
        }
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        hello
    };
    let (answer, hello) = tokio::join!(get(gateway.address, "/v1/x?key=k"), hello);
    assert_eq!(hello[0], 22, "a record of a handshake");
    // Nothing goes out in the clear.
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn an_upstream_that_hangs_up_is_a_bad_gateway() {
    let provider = GeminiProvider::builder().cut_before_head(true).build();
    let gateway = Gateway::before(serve(&provider).await, &[]);
    let answer = Conversation::new("", false).ask(gateway.address).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.text().contains("broke before it answered"), "{}", answer.text());
}

#[test]
fn bad_flags_end_with_2_and_a_reason() {
    let cases: [(&[&str], &str); 34] = [
        (&["--bogus"], "no flag \"--bogus\""),
        (&["--bogus=1"], "no flag \"--bogus\""),
        (&["stray-key-of-someone"], "an argument is no flag"),
        (&["--listen"], "--listen needs a value"),
        (&["--listen", "here"], "--listen wants an address"),
        (&["--upstream", ""], "--upstream: this is no URL"),
        (&["--upstream", "example.com"], "has to begin with http:// or https://"),
        (&["--upstream", "ftp://example.com"], "has to begin with http:// or https://"),
        (&["--upstream", "/a=example.com"], "has to begin with http:// or https://"),
        (&["--upstream", "https://me:hunter2@example.com"], "holds credentials"),
        (&["--upstream", "https://example.com/?key=hunter2"], "a query or a fragment"),
        (&["--upstream", "https://a.example", "--upstream", "https://b.example"], "has an upstream already"),
        (&["--upstream", "/a=https://a.example", "--upstream=/a/=https://b.example"], "has an upstream already"),
        (&["--store", "hunter2"], "--store: this is none of memory, redis://"),
        (&["--store", "http://me:hunter2@localhost"], "--store: this is none of memory, redis://"),
        (&["--store", "disk:"], "comes the path of a file"),
        (&["--store-prefix", "mine:"], "--store-prefix is for a store on a server"),
        (&["--seal-key-file", "seal"], "--seal-key-file is for a store on a server"),
        (&["--key-file", "/no/such/folder/key"], "/no/such/folder/key could not be read or made"),
        (&["--key-file"], "--key-file needs a value"),
        (&["--heal", "maybe"], "--heal wants on or off"),
        (&["--fallback", "sometimes"], "--fallback wants off or on-rejection or always"),
        (&["--reasoning-placeholder", "yes"], "--reasoning-placeholder wants on or off"),
        (&["--drop-mismatched-thoughts"], "--drop-mismatched-thoughts needs a value"),
        (&["--tenant-header", "no header"], "--tenant-header wants the name of a header"),
        (&["--max-body", "many"], "--max-body wants a number of bytes"),
        (&["--max-body", "0"], "max_request is 0"),
        (&["--max-body", "-1"], "--max-body wants a number of bytes"),
        (&["--max-ledgers", "0"], "max_ledgers"),
        (&["--ttl", "0"], "time_to_live"),
        (&["--ttl", "1h"], "--ttl wants a number of seconds"),
        (&["--no-replay=yes"], "--no-replay takes no value"),
        (&["--no-replay", "--no-replay"], "--no-replay is given twice"),
        (&["--ttl", "1", "--ttl=2"], "--ttl is given twice"),
    ];
    for (flags, reason) in cases {
        let output = run(flags);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(reason), "{flags:?}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("stray"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_lists_every_flag() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let flags = [
        "--listen",
        "--upstream",
        "--store",
        "--store-prefix",
        "--key-file",
        "--seal-key-file",
        "--heal",
        "--fallback",
        "--reasoning-placeholder",
        "--drop-mismatched-thoughts",
        "--tenant-header",
        "--max-body",
        "--max-ledgers",
        "--ttl",
        "--no-replay",
        "--help",
    ];
    for flag in flags {
        assert!(help.contains(flag), "{flag}");
    }
}

#[cfg(not(all(feature = "redis", feature = "disk")))]
#[test]
fn a_store_that_is_not_built_in_names_its_feature() {
    let stores = [
        ("redis://me:hunter2@localhost", "--features redis", cfg!(feature = "redis")),
        ("rediss://me:hunter2@localhost", "--features redis", cfg!(feature = "redis")),
        ("disk:hunter2", "--features disk", cfg!(feature = "disk")),
    ];
    for (store, advice, _) in stores.into_iter().filter(|(_, _, is_built_in)| !is_built_in) {
        let output = run(&["--store", store]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(advice) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn an_address_in_use_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = run(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot listen on 127.0.0.1"));
    assert!(output.stdout.is_empty());
}
