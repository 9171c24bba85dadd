//! Bodies and ledgers that are made to be slow.

use bytes::Bytes;
use tower_reasoning_replay::Engine;

use super::{
    Random, learn,
    talk::{Before, Dialect, Form, Talk, Turn, plain},
};

/// Teaches an engine, and makes a body of this size.
pub type Make = Box<dyn Fn(usize, &Engine) -> Bytes>;

/// One of them, at two sizes.
pub struct Attack {
    pub name: &'static str,
    pub sizes: [usize; 2],
    pub make: Make,
}

fn attack(name: &'static str, small: usize, make: impl Fn(usize, &Engine) -> Bytes + 'static) -> Attack {
    Attack { name, sizes: [small, 4 * small], make: Box::new(make) }
}

/// Shows the engine one ordinary turn, so that it has a ledger to ask.
fn acquaint(dialect: Dialect, engine: &Engine) {
    Talk::small(dialect, 1).teach(engine, 0..1);
}

fn around(dialect: Dialect, engine: &Engine, history: &str) -> Bytes {
    acquaint(dialect, engine);
    let talk = Talk::small(dialect, 1);
    dialect.body(&talk.before, &(dialect.turn(&talk.turns[0], Form::Stripped) + history))
}

fn call(dialect: Dialect, args: String) -> String {
    let turn = Turn { args, ..Turn::small(&mut Random::new(29), 0) };
    dialect.turn(&turn, Form::Stripped)
}

/// Bodies that are made to be slow in this protocol.
pub fn attacks(dialect: Dialect) -> Vec<Attack> {
    let equal = move |same_id: bool, same_call: bool| {
        move |count: usize, engine: &Engine| {
            let mut talk = Talk::new(dialect, count);
            for at in 1..count {
                if same_id {
                    talk.turns[at].id = talk.turns[0].id.clone();
                }
                if same_call {
                    let Turn { tool, args, text, .. } = talk.turns[0].clone();
                    talk.turns[at] = Turn { tool, args, text, ..talk.turns[at].clone() };
                }
            }
            talk.teach(engine, 0..count);
            talk.all(Form::Stripped)
        }
    };
    let mut attacks = vec![
        attack("calls and texts identical", 100, equal(false, true)),
        attack("ids equal", 100, equal(true, false)),
        attack("candidates for one anchor", 2_500, move |count, engine| {
            let mut talk = Talk::small(dialect, count);
            for turn in &mut talk.turns {
                (turn.id, turn.args) = ("00000000deadbeef".into(), r#"{"a":1}"#.into());
                // Gemini gives no ids to speak of.
                if dialect == Dialect::Gemini {
                    turn.id.clear();
                }
            }
            let (head, body) = (dialect.head(), dialect.body(&talk.before, ""));
            talk.turns.iter().for_each(|turn| learn(engine, &head, &body, dialect.answer(turn).as_bytes()));
            talk.all(Form::Stripped)
        }),
        attack("equal texts", 2_500, move |count, engine| {
            around(dialect, engine, &dialect.plain_turn("the same").repeat(count))
        }),
        attack("backslashes in a text", 256 << 10, move |size, engine| {
            around(dialect, engine, &dialect.plain_turn(&r"\\".repeat(size / 4)))
        }),
        attack("backslashes in arguments", 256 << 10, move |size, engine| {
            // Each is written twice where arguments are a string, and twice again inside it.
            let each = if matches!(dialect, Dialect::Gemini | Dialect::Anthropic) { 2 } else { 4 };
            around(dialect, engine, &call(dialect, format!(r#"{{"a":"{}"}}"#, r"\\".repeat(size / each))))
        }),
        attack("deep arguments", 256 << 10, move |size, engine| {
            let call = call(dialect, format!("{}1{}", r#"{"a":["#.repeat(50), "]}".repeat(50)));
            around(dialect, engine, &call.repeat(size / call.len()))
        }),
        attack("blocks of one message", 2_500, move |count, engine| {
            let block = |at: usize| match dialect {
                Dialect::Gemini => format!(r#"{{"text":"block {at}"}}"#),
                Dialect::Anthropic => format!(r#"{{"type":"text","text":"block {at}"}}"#),
                Dialect::Responses => format!(r#"{{"type":"output_text","text":"block {at}"}}"#),
                Dialect::Chat => format!(
                    r#"{{"id":"call_n{at:07x}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#
                ),
            };
            let blocks = (0..count).map(block).collect::<Vec<_>>().join(",");
            let message = match dialect {
                Dialect::Gemini => format!(r#",{{"role":"model","parts":[{blocks}]}}"#),
                Dialect::Anthropic => format!(r#",{{"role":"assistant","content":[{blocks}]}}"#),
                Dialect::Responses => format!(r#",{{"type":"message","role":"assistant","content":[{blocks}]}}"#),
                Dialect::Chat => format!(r#",{{"role":"assistant","content":null,"tool_calls":[{blocks}]}}"#),
            };
            around(dialect, engine, &message)
        }),
    ];
    if dialect == Dialect::Gemini {
        attacks.extend(dropped());
        attacks.push(merged());
    }
    attacks
}

/// Texts that the client merged over dropped thoughts, and texts that equal the last piece of each.
fn merged() -> Attack {
    let head = Dialect::Gemini.head();
    attack("merged texts and their last pieces", 1_250, move |count, engine| {
        let asked = Dialect::Gemini.body(&Before::nothing(), "");
        let mut history = String::new();
        for at in 0..count {
            let answer = format!(
                "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"so {at} \"}},{{\"text\":\"hm\",\"thought\":true}},{{\"text\":\"it is.\",\"thoughtSignature\":\"signature-number-{at:08}\"}}]}},\"finishReason\":\"STOP\"}}]}}\r\n\r\n"
            );
            learn(engine, &head, &asked, answer.as_bytes());
            history += &Dialect::Gemini.plain_turn(&format!("so {at} it is."));
        }
        history += &Dialect::Gemini.plain_turn("it is.").repeat(count);
        Dialect::Gemini.body(&Before::nothing(), &history)
    })
}

/// Calls that the client dropped, as only Gemini's clients do.
fn dropped() -> [Attack; 3] {
    fn call(at: usize, signed: bool) -> String {
        let state = if signed { format!(r#","thoughtSignature":"signature-number-{at:08}""#) } else { String::new() };
        format!(r#"{{"functionCall":{{"name":"f","id":"n{at:07x}x","args":{{"a":{at}}}}}{state}}}"#)
    }
    fn output(at: usize) -> String {
        format!(r#"{{"functionResponse":{{"name":"f","id":"n{at:07x}x","response":{{"b":{at}}}}}}}"#)
    }
    fn answer(calls: &str) -> String {
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{calls}]}},\"finishReason\":\"STOP\"}}]}}\r\n\r\n")
    }
    let body = |history: &str| Dialect::Gemini.body(&Before::nothing(), history);
    let head = Dialect::Gemini.head();
    let head_too = head.clone();
    [
        attack("dropped calls behind unknown ones", 1_250, move |count, engine| {
            let asked = body("");
            let mut history = String::new();
            for at in 0..count {
                learn(engine, &head, &asked, answer(&call(at, true)).as_bytes());
                history += &format!(r#",{{"role":"model","parts":[{}]}}"#, call(count + at, false));
            }
            for at in 0..count {
                history += &format!(r#",{{"role":"user","parts":[{}]}}"#, output(at));
            }
            body(&history)
        }),
        attack("parallel calls, half of them dropped", 1_000, move |count, engine| {
            let calls = (0..count).map(|at| call(at, true)).collect::<Vec<_>>().join(",");
            learn(engine, &head_too, &body(""), answer(&calls).as_bytes());
            let kept = (0..count).step_by(2).map(|at| call(at, false)).collect::<Vec<_>>().join(",");
            let outputs = (0..count).map(output).collect::<Vec<_>>().join(",");
            body(&format!(r#",{{"role":"model","parts":[{kept}]}},{{"role":"user","parts":[{outputs}]}}"#))
        }),
        attack("outputs that answer nothing", 500, move |count, engine| {
            let mut talk = Talk::small(Dialect::Gemini, 200);
            talk.turns.iter_mut().for_each(|turn| turn.id.clear());
            talk.teach(engine, 0..200);
            let outputs = (0..count).map(|at| {
                format!(
                    r#",{{"role":"user","parts":[{{"functionResponse":{{"name":"tool_0","response":{{"a":{at}}}}}}}]}}"#
                )
            });
            body(&outputs.collect::<String>())
        }),
    ]
}

/// An ordinary conversation without anything to do, to compare with.
pub fn ordinary(dialect: Dialect) -> Bytes {
    plain(dialect, 200)
}
