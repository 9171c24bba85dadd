//! How bytes travel: frames, compression, accidents, records.

use std::{
    io::Read,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_reasoning_replay::testing::gemini::*;

use crate::client::*;

#[tokio::test]
async fn frames_are_cut_as_asked() {
    let path = format!("{API}:streamGenerateContent?alt=sse");
    let hello = [user("Hello")];
    let build = || says([Say::text("東京 is a long word.")]).seed(7);
    let whole = ask(&build().build(), &path, &hello).await;
    assert_eq!(whole.frames.len(), whole.events().len());
    for (chunks, largest) in
        [(Chunks::Bytes(1), 1), (Chunks::Bytes(7), 7), (Chunks::Bytes(0), 1), (Chunks::Whole, usize::MAX)]
    {
        let cut = ask(&build().chunks(chunks).build(), &path, &hello).await;
        assert_eq!(cut.bytes(), whole.bytes());
        assert!(cut.frames.iter().all(|frame| !frame.is_empty() && frame.len() <= largest));
        assert_eq!(cut.frames.len(), whole.bytes().len().div_ceil(largest));
    }
}

#[tokio::test]
async fn bodies_are_compressed_as_asked() {
    let hello = json!({"contents": [user("Hello")]}).to_string();
    let get = |builder: Builder, accept: Option<&'static str>| {
        let mut request = Request::post(format!("{API}:streamGenerateContent?alt=sse"));
        if let Some(accept) = accept {
            request = request.header("accept-encoding", accept);
        }
        let request = request.body(Full::new(Bytes::from(hello.clone()))).unwrap();
        let provider = builder.seed(3).build();
        async move { send(&provider, request).await }
    };
    let plain = get(GeminiProvider::builder(), None).await;
    for accept in ["identity", "br", "gzip;q=0, br"] {
        assert_eq!(get(GeminiProvider::builder(), Some(accept)).await.bytes(), plain.bytes());
    }
    assert_eq!(get(GeminiProvider::builder().gzip(Gzip::Never), Some("gzip")).await.bytes(), plain.bytes());
    for (answer, label) in [
        (get(GeminiProvider::builder(), Some("br, GZIP")).await, "gzip"),
        (get(GeminiProvider::builder().gzip(Gzip::Always).chunks(Chunks::Bytes(3)), None).await, "gzip"),
        (get(GeminiProvider::builder().gzip(Gzip::Unlabelled), None).await, ""),
    ] {
        assert_eq!(answer.header("content-encoding"), label);
        let mut text = Vec::new();
        GzDecoder::new(answer.bytes().as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, plain.bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn accidents_happen_as_asked() {
    let sse = format!("{API}:streamGenerateContent?alt=sse");
    let hello = [user("Hello")];
    let whole = ask(&GeminiProvider::builder().seed(1).build(), &sse, &hello).await;
    let cut = ask(&GeminiProvider::builder().seed(1).cut_after(100).build(), &sse, &hello).await;
    assert!(cut.broken && cut.bytes() == whole.bytes()[..100]);

    let early = ask(&GeminiProvider::builder().seed(1).end_early(true).build(), &sse, &hello).await;
    assert!(!early.broken && whole.bytes().starts_with(&early.bytes()) && !early.bytes().is_empty());
    assert!(reasons(&early).iter().all(Value::is_null));
    let early =
        ask(&GeminiProvider::builder().end_early(true).build(), &format!("{API}:streamGenerateContent"), &hello).await;
    assert!(early.text().ends_with('}'));

    let head = GeminiProvider::builder().cut_before_head(true).faults_only_at(0).build();
    let request = |body: &str| Request::post(sse.as_str()).body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    assert!(head.clone().oneshot(request("{}")).await.is_err());
    accepted(&ask(&head, &sse, &hello).await);

    let trailers = ask(&GeminiProvider::builder().trailers(true).build(), &sse, &hello).await;
    assert_eq!(trailers.trailers.unwrap()["x-provider-trailer"], "end");

    let began = tokio::time::Instant::now();
    let count = whole.frames.len();
    let slow = GeminiProvider::builder()
        .head_delay(Duration::from_secs(1))
        .stall(0, Duration::from_secs(10))
        .stall(count, Duration::from_secs(100))
        .build();
    accepted(&ask(&slow, &sse, &hello).await);
    assert_eq!(began.elapsed().as_secs(), 111);
}

#[tokio::test]
async fn keys_change_and_outages_happen() {
    let provider = GeminiProvider::new();
    let history = first_step(&provider, API).await;
    provider.fail_next(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&provider, API, &history).await.status, StatusCode::SERVICE_UNAVAILABLE);
    accepted(&ask(&provider, API, &history).await);
    provider.revoke_signatures();
    refused(&ask(&provider, API, &history).await, "Corrupted thought signature.");
    assert_eq!((provider.accepted(), provider.refused(), provider.requests().len()), (2, 1, 4));
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let provider = GeminiProvider::new();
    let body = json!({"contents": [user("Hello")]}).to_string();
    let request = Request::post(format!("{API}:generateContent?key=k")).header("x-test", "1");
    accepted(&send(&provider, request.body(Full::new(Bytes::from(body.clone()))).unwrap()).await);
    let recorded = provider.requests().pop().unwrap();
    assert_eq!(recorded.method, "POST");
    assert_eq!(recorded.uri.query(), Some("key=k"));
    assert_eq!(recorded.headers["x-test"], "1");
    assert_eq!(recorded.body, body);
    assert!(!format!("{recorded:?}{provider:?}{:?}", provider.issued()).contains("Hello"));
    let issued = &provider.issued()[0];
    assert_eq!(
        (issued.kind, issued.surface, issued.model.as_str()),
        (SignedKind::Call, Surface::GeminiApi, "gemini-3-pro-preview")
    );
    assert_eq!(issued.content, json!({"name": "get_weather", "args": {"city": "Paris", "days": 1}}));
}

/// A body that fails.
struct Broken;

impl Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::BrokenPipe.into())))
    }
}

#[tokio::test]
async fn a_request_that_breaks_is_an_error() {
    let provider = GeminiProvider::new();
    let request = Request::post(format!("{API}:generateContent")).body(Broken).unwrap();
    let error = provider.clone().oneshot(request).await.unwrap_err();
    assert!(std::error::Error::source(&error).is_some());
    assert!(provider.requests().is_empty());
}

#[test]
fn bodies_suit_every_client() {
    fn suits<T: Send + Sync + Unpin + 'static>() {}
    suits::<ProviderBody>();
    suits::<ProviderError>();
    suits::<GeminiProvider>();
}

#[tokio::test]
async fn it_can_be_served_over_a_socket() {
    use hyper_util::{
        client::legacy::Client,
        rt::{TokioExecutor, TokioIo},
        service::TowerToHyperService,
    };
    let provider = GeminiProvider::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = TowerToHyperService::new(provider.clone());
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await
    });
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let body = Full::new(Bytes::from(json!({"contents": [user("Hello")]}).to_string()));
    let request = Request::post(format!("http://{address}{API}:streamGenerateContent?alt=sse")).body(body).unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"\r\n\r\n"));
    assert_eq!(
        provider.requests()[0].body.len(),
        provider.requests()[0].headers["content-length"].to_str().unwrap().parse::<usize>().unwrap()
    );
}

#[tokio::test]
async fn requests_may_be_compressed() {
    let provider = GeminiProvider::new();
    let body = json!({"contents": [user("Hello")]}).to_string();
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(body.as_bytes(), flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    for (packed, status) in [(packed, StatusCode::OK), (body.into_bytes(), StatusCode::BAD_REQUEST)] {
        let request = Request::post(format!("{API}:generateContent")).header("content-encoding", "gzip");
        let answer = send(&provider, request.body(Full::new(Bytes::from(packed))).unwrap()).await;
        assert_eq!(answer.status, status);
    }
}
