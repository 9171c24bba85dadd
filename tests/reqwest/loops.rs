//! Tool loops of a client that forgets.

use http::StatusCode;
use serde_json::json;
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    engine::Event,
    testing::{
        anthropic::{self, AnthropicProvider},
        gemini::{self, GeminiProvider},
    },
};

use crate::{
    client::{Answer, Client, for_every_client},
    talk::{Dialect, Talk},
    upstream::serve,
};

for_every_client!(
    gemini_gets_its_signatures_back,
    claude_gets_its_thinking_back,
    without_the_layer_both_refuse,
    a_refused_signature_is_healed,
    tenants_do_not_share,
);

fn gemini() -> GeminiProvider {
    let call = |city: &str| gemini::Turn::new([gemini::Say::call("get_weather", json!({"city": city}))]);
    let last = gemini::Turn::new([gemini::Say::text("Rain.")]);
    GeminiProvider::builder().script(gemini::Script::new([call("Paris"), call("Tokyo"), last])).build()
}

fn claude() -> AnthropicProvider {
    use anthropic::{Say, Script, Turn};
    let call = |city: &str| {
        Turn::new([Say::thinking("I had better look."), Say::tool_use("get_weather", json!({"city": city}))])
    };
    let last = Turn::new([Say::text("Rain.")]);
    AnthropicProvider::builder().script(Script::new([call("Paris"), call("Tokyo"), last])).build()
}

fn layer() -> ReplayLayer {
    ReplayLayer::new(MemoryStore::new())
}

async fn gemini_gets_its_signatures_back<C: Client>() {
    for stream in [true, false] {
        let provider = gemini();
        let base = format!("http://{}", serve(&provider).await);
        Talk::new(base, Dialect::Gemini, stream).run(&C::new(Some(&layer()))).await;
        let genuine: Vec<usize> = provider.requests().iter().map(|request| request.genuine).collect();
        assert_eq!((genuine, provider.refused()), (vec![0, 1, 2], 0));
    }
}

async fn claude_gets_its_thinking_back<C: Client>() {
    for stream in [true, false] {
        let provider = claude();
        let base = format!("http://{}", serve(&provider).await);
        Talk::new(base, Dialect::Anthropic, stream).run(&C::new(Some(&layer()))).await;
        let genuine: Vec<usize> = provider.requests().iter().map(|request| request.genuine).collect();
        assert_eq!((genuine, provider.refused()), (vec![0, 1, 2], 0));
    }
}

/// What the other tests are worth.
async fn without_the_layer_both_refuse<C: Client>() {
    let client = C::new(None);
    let bases = [
        (Dialect::Gemini, serve(&gemini()).await, "missing a thought_signature"),
        (Dialect::Anthropic, serve(&claude()).await, "but found `tool_use`"),
    ];
    for (dialect, address, words) in bases {
        let mut talk = Talk::new(format!("http://{address}"), dialect, false);
        assert!(talk.turn(&client).await);
        let answer = client.ask(talk.ask()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.report().is_none());
        let text = answer.text().await.unwrap();
        assert!(text.contains(words), "{text}");
    }
}

async fn a_refused_signature_is_healed<C: Client>() {
    let provider = gemini();
    let (layer, base) = (layer(), format!("http://{}", serve(&provider).await));
    let client = C::new(Some(&layer));
    let mut talk = Talk::new(base, Dialect::Gemini, false);
    assert!(talk.turn(&client).await);
    provider.revoke_signatures();
    let answer = client.ask(talk.ask()).await.unwrap();
    assert_eq!((answer.status(), answer.summary().healed), (StatusCode::OK, true));
    assert_eq!((provider.refused(), provider.accepted()), (1, 2));
    assert_eq!(layer.engine().counters().get(Event::Retried), 1);
    assert!(talk.take(&answer.text().await.unwrap()), "the second answer calls again");
}

async fn tenants_do_not_share<C: Client>() {
    let provider = gemini();
    let base = format!("http://{}", serve(&provider).await);
    let client = C::new(Some(&layer()));
    let mut talk = Talk::new(base, Dialect::Gemini, false);
    talk.tenant = Some("one");
    assert!(talk.turn(&client).await);
    let restored = async |tenant| {
        let mut talk = talk.clone();
        talk.tenant = tenant;
        client.ask(talk.ask()).await.unwrap().summary().restored
    };
    assert_eq!((restored(Some("another")).await, restored(None).await, restored(Some("one")).await), (0, 0, 1));
}
