//! Models that bind their thoughts to what precedes them, in front of the strict fake provider.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_reasoning_replay::{
    MemoryStore, ReplayLayer,
    testing::anthropic::{AnthropicProvider, Script, Turn},
};

use crate::family::{Edit, Family, Say, edit, in_one_form, script, spoken};

const FAMILY: Family = Family::Messages;

/// What the model says, as the provider's script has it.
fn turn(says: &[Say]) -> Turn {
    use tower_reasoning_replay::testing::anthropic as fake;
    Turn::new(says.iter().map(|say| match say {
        Say::Think { redacted: true, .. } => fake::Say::redacted(),
        Say::Think { shown: true, .. } => fake::Say::thinking("First, \"things\"."),
        Say::Think { .. } => fake::Say::hidden_thinking(),
        Say::Text(word) => fake::Say::text(["Sure.", "Done.", "caf\u{e9} \"x\"\n"][usize::from(*word)]),
        Say::Call { name, args } => {
            let args = [json!({}), json!({"a": 1, "b": "x"}), json!({"a": [1, 2.5, null]})][usize::from(*args)].clone();
            fake::Say::tool_use(["ls", "cat"][usize::from(*name)], args)
        }
    }))
}

fn post(history: &[Value]) -> Request<Full<Bytes>> {
    let body = json!({
        "model": "claude-opus-5-5", "max_tokens": 1024, "thinking": {"type": "adaptive"}, "messages": history,
    });
    let request = Request::post(FAMILY.uri()).header("content-type", "application/json").header("x-api-key", "a key");
    let request = request.header("x-claude-code-session-id", "s");
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

/// The provider alone, or behind the layer.
struct Rig {
    provider: AnthropicProvider,
    layer: ReplayLayer,
}

impl Rig {
    fn new(script: &[(Vec<Say>, u8)]) -> Self {
        let script = Script::new(script.iter().map(|(says, _)| turn(&spoken(says))));
        let provider = AnthropicProvider::builder().script(script).bind_prefix(true).seed(7).build();
        Self { provider, layer: ReplayLayer::new(MemoryStore::new()) }
    }

    /// Whether the provider takes a request as it is.
    async fn takes(&self, history: &[Value]) -> bool {
        self.provider.clone().oneshot(post(history)).await.unwrap().status() == StatusCode::OK
    }

    /// The blocks of the answer to a request through the layer, and the history that arrived.
    async fn send(&self, history: &[Value]) -> (Option<Vec<Value>>, Vec<Value>) {
        let response = self.layer.layer(self.provider.clone()).oneshot(post(history)).await.unwrap();
        let answer = response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let arrived: Value = serde_json::from_slice(&self.provider.requests().pop().unwrap().body).unwrap();
        (answer["content"].as_array().cloned(), FAMILY.history(&arrived))
    }
}

fn is_thought(block: &Value) -> bool {
    crate::family::is_thought(block)
}

fn bare(blocks: &[Value]) -> Vec<Value> {
    blocks.iter().filter(|block| !is_thought(block)).cloned().collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A client that loses every thought, and keeps the rest, gets all of them back.
    #[test]
    fn bound_thoughts_come_back_to_a_client_that_keeps_its_history(script in script(), as_strings in any::<bool>()) {
        let rig = Rig::new(&script);
        let (mut kept, mut honest) = (vec![FAMILY.said("go")], vec![FAMILY.said("go")]);
        for (_, word) in &script {
            let (answer, arrived) = run(rig.send(&kept));
            prop_assert_eq!(in_one_form(arrived.clone()), in_one_form(honest.clone()));
            prop_assert!(answer.is_some(), "refused: {:?}", arrived);
            let blocks = answer.unwrap();
            if bare(&blocks).is_empty() {
                break;
            }
            kept.extend(FAMILY.forgotten(&blocks, as_strings));
            honest.extend(FAMILY.place(&blocks));
            let next = FAMILY.next(&blocks, *word);
            kept.extend(next.clone());
            honest.extend(next);
        }
        prop_assert_eq!(rig.provider.refused(), 0);
    }

    /// Whatever a client did to its history: nothing that would have been taken is refused for what we put in.
    #[test]
    fn nothing_is_refused_that_would_have_been_taken(
        script in script(), edits in prop::collection::vec(prop::collection::vec(edit(), 0..3), 6),
        keeps in any::<bool>(), honest in prop::collection::vec(any::<bool>(), 6),
    ) {
        let rig = Rig::new(&script);
        let mut kept = vec![FAMILY.said("go")];
        let mut answers: Vec<Vec<Value>> = Vec::new();
        for (((_, word), edits), honest) in script.iter().zip(&edits).zip(&honest) {
            let mut sent = kept.clone();
            for edit in edits.iter().filter(|edit| !matches!(edit, Edit::Swap(..))) {
                edit.apply(FAMILY, &mut sent, &answers);
            }
            if keeps {
                kept.clone_from(&sent);
            }
            let is_taken = run(rig.takes(&sent));
            let before = rig.provider.refused();
            let (answer, arrived) = run(rig.send(&sent));
            let refused = rig.provider.refused() - before;
            prop_assert!(!is_taken || refused == 0, "{}\nbecame\n{}\nafter {}", json!(sent), json!(arrived), json!(answers));
            let Some(blocks) = answer else { continue };
            if bare(&blocks).is_empty() {
                continue;
            }
            // Some clients keep their thoughts now and then.
            kept.extend(if *honest { FAMILY.place(&blocks) } else { FAMILY.forgotten(&blocks, false) });
            kept.extend(FAMILY.next(&blocks, *word));
            answers.push(blocks);
        }
    }
}

/// Of two equal texts the one before the thought was edited; the other one is not taken for it.
#[test]
fn no_thought_stands_behind_a_text_that_was_edited() {
    let think = Say::Think { redacted: false, shown: false };
    let says = vec![Say::Text(0), think, Say::Text(0), Say::Call { name: 0, args: 0 }];
    let rig = Rig::new(&[(says, 0), (vec![Say::Text(1)], 0)]);
    let mut history = vec![FAMILY.said("go")];
    let blocks = run(rig.send(&history)).0.unwrap();
    history.push(json!({"role": "assistant", "content": bare(&blocks)}));
    history.extend(FAMILY.next(&blocks, 0));
    let mut edited = history.clone();
    edited[1]["content"][0]["text"] = json!("Sure, edited.");
    let (answer, arrived) = run(rig.send(&edited));
    assert!(
        answer.is_some() && rig.provider.refused() == 0,
        "{}\n{}\n{}",
        json!(blocks),
        json!(edited),
        json!(arrived)
    );
    assert_eq!(in_one_form(arrived), in_one_form(edited));
    // As it was it comes back whole.
    let arrived = run(rig.send(&history)).1;
    assert_eq!(arrived[1]["content"].as_array(), Some(&blocks));
}
