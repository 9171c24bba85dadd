//! Conversations of equal calls that are cut and edited at random: no call ever gets the signature of another one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::*;

/// A small generator of numbers that repeat with their seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A step of the conversation: the call, its output, and the numbers of the signatures that it may have.
type Step = (Value, Value, BTreeSet<usize>);

/// Cuts and edits; every step that is left keeps its own call.
fn mangle(dice: &mut Dice, first: &mut Value, steps: &mut Vec<Step>) {
    match dice.roll(6) {
        0 => *first = user("Summary of what was."),
        1 => drop(steps.drain(..dice.roll(steps.len() + 1))),
        2 => steps.truncate(dice.roll(steps.len() + 1)),
        3 if !steps.is_empty() => drop(steps.remove(dice.roll(steps.len()))),
        4 if !steps.is_empty() => {
            let at = dice.roll(steps.len());
            steps[at].1["parts"][0]["functionResponse"]["response"] = json!({"cleared": true});
        }
        _ => {}
    }
}

async fn converse(seed: u64) -> (usize, usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (mut own, mut none) = (0, 0);
    let turns = (0..40).map(|_| call("poll", json!({"job": dice.roll(2)}))).collect::<Vec<_>>();
    let gateway = Gateway::new(&strict(turns).order_signatures(false).build());
    let ids = dice.roll(2) == 0;
    let client = Client::new([API, VERTEX, CLOUD][dice.roll(3)], WAYS[dice.roll(3)]);
    let mut first = user("Wait for the jobs");
    let mut steps: Vec<Step> = Vec::new();
    let mut made: Vec<Vec<Value>> = Vec::new();
    for turn in 0..12 {
        let mut history = vec![first.clone()];
        history.extend(steps.iter().flat_map(|(call, back, _)| [call.clone(), back.clone()]));
        let answer = gateway.ask(&client, &history).await;
        assert_eq!(answer.status.as_u16(), 200);
        let sent = answer.upstream();
        for (at, (_, _, known)) in steps.iter_mut().enumerate() {
            match sent[2 * at + 1]["parts"][0]["thoughtSignature"].as_str() {
                None | Some("skip_thought_signature_validator") => none += 1,
                Some(signature) => {
                    let given = gateway.number(signature);
                    // An equal call that followed upon the same is, for all that can be seen, the same.
                    if made[given].last() == history.get(2 * at) {
                        known.insert(given);
                    }
                    assert!(known.contains(&given), "seed {seed}, turn {turn}, step {at}: {given} for {known:?}");
                    own += 1;
                }
            }
        }
        let number = gateway.number(&answer.signatures()[0]);
        made.push(history);
        assert_eq!(number + 1, made.len());
        let content = if ids { answer.kept() } else { without_ids(&answer.kept()) };
        let mut back = outputs(&content);
        back["parts"][0]["functionResponse"]["response"] = json!({"turn": turn});
        steps.push((content, back, [number].into()));
        if turn > 3 && dice.roll(2) == 0 {
            mangle(&mut dice, &mut first, &mut steps);
        }
    }
    (own, none)
}

#[tokio::test]
async fn no_equal_call_gets_the_signature_of_another_whatever_is_cut_g27() {
    let (mut own, mut none) = (0, 0);
    for seed in 0..50 {
        let (more, less) = converse(seed).await;
        own += more;
        none += less;
    }
    assert!(own > 10 * none, "{own} got theirs, {none} got none");
}
