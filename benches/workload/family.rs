//! The workloads of `Conversation` in the protocols whose state stands beside what it belongs to.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Request, request};
use tower_reasoning_replay::{
    Engine,
    scope::{Session, Tenant},
};

use super::{Random, engine, learn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Messages,
    Responses,
    Chat,
}

impl Family {
    pub const ALL: [Self; 3] = [Self::Messages, Self::Responses, Self::Chat];

    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "anthropic",
            Self::Responses => "responses",
            Self::Chat => "chat",
        }
    }

    pub fn head(self) -> request::Parts {
        let uri = match self {
            Self::Messages => "https://api.anthropic.com/v1/messages",
            Self::Responses => "https://api.openai.com/v1/responses",
            Self::Chat => "https://api.deepseek.com/chat/completions",
        };
        let mut request = Request::post(uri).header("content-type", "application/json").body(()).unwrap();
        request.extensions_mut().insert(Session::new("bench"));
        request.extensions_mut().insert(Tenant::new("bench"));
        request.into_parts().0
    }

    /// A body with this history, and with so much before it as agents send.
    pub fn body(self, system: &str, history: &str) -> Bytes {
        let body = match self {
            Self::Messages => format!(
                r#"{{"model":"claude-sonnet-4-5","max_tokens":4096,"thinking":{{"type":"adaptive"}},"system":"{system}","messages":[{{"role":"user","content":"go"}}{history}]}}"#
            ),
            Self::Responses => format!(
                r#"{{"model":"gpt-5","store":false,"instructions":"{system}","input":[{{"role":"user","content":"go"}}{history}]}}"#
            ),
            Self::Chat => format!(
                r#"{{"model":"m","tools":[],"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"go"}}{history}]}}"#
            ),
        };
        body.into()
    }

    /// A model's answer and the output of its call, behind a comma. The state is as long as that of Gemini.
    pub fn turn(self, turn: &Turn, with_state: bool, anew: bool) -> String {
        let Turn { text, id, tool, args, state, output } = turn;
        let args = if anew {
            args.replace(r#""deep":true,"mode":"fast""#, r#""mode":"fast","deep":true"#)
        } else {
            args.clone()
        };
        let text_of_args = args.replace('\\', r"\\").replace('"', r#"\""#);
        match self {
            Self::Messages => {
                let thinking = if with_state { format!("{},", self.thought(state)) } else { String::new() };
                format!(
                    r#",{{"role":"assistant","content":[{thinking}{{"type":"text","text":"{text}"}},{{"type":"tool_use","id":"toolu_01{id}","name":"{tool}","input":{args}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"toolu_01{id}","content":"{output}"}}]}}"#
                )
            }
            Self::Responses => {
                let reasoning = if with_state { format!(",{}", self.thought(state)) } else { String::new() };
                format!(
                    r#"{reasoning},{},{},{{"type":"function_call_output","call_id":"call_{id}","output":"{output}"}}"#,
                    self.message(turn),
                    format_args!(
                        r#"{{"type":"function_call","id":"fc_{id}","call_id":"call_{id}","name":"{tool}","arguments":"{text_of_args}","status":"completed"}}"#
                    )
                )
            }
            Self::Chat => {
                let reasoning = if with_state { format!(",{}", self.thought(state)) } else { String::new() };
                format!(
                    r#",{{"role":"assistant","content":"{text}","tool_calls":[{{"id":"call_{id}","type":"function","function":{{"name":"{tool}","arguments":"{text_of_args}"}}}}]{reasoning}}},{{"role":"tool","tool_call_id":"call_{id}","content":"{output}"}}"#
                )
            }
        }
    }

    fn message(self, turn: &Turn) -> String {
        let Turn { id, text, .. } = turn;
        format!(
            r#"{{"type":"message","id":"msg_{id}","role":"assistant","status":"completed","content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}"#
        )
    }

    fn thought(self, state: &str) -> String {
        match self {
            Self::Messages => format!(r#"{{"type":"thinking","thinking":"","signature":"{state}"}}"#),
            Self::Responses => {
                format!(
                    r#"{{"type":"reasoning","id":"rs_{}","summary":[],"encrypted_content":"{state}"}}"#,
                    &state[..16].replace(['+', '/'], "x")
                )
            }
            Self::Chat => format!(r#""reasoning_content":"{state}""#),
        }
    }

    /// The answer as a document.
    pub fn document(self, turn: &Turn) -> String {
        let Turn { text, id, tool, args, state, .. } = turn;
        let text_of_args = args.replace('\\', r"\\").replace('"', r#"\""#);
        match self {
            Self::Messages => format!(
                r#"{{"type":"message","role":"assistant","content":[{},{{"type":"text","text":"{text}"}},{{"type":"tool_use","id":"toolu_01{id}","name":"{tool}","input":{args}}}],"stop_reason":"tool_use"}}"#,
                self.thought(state)
            ),
            Self::Responses => format!(
                r#"{{"object":"response","status":"completed","output":[{},{},{{"type":"function_call","id":"fc_{id}","call_id":"call_{id}","name":"{tool}","arguments":"{text_of_args}","status":"completed"}}]}}"#,
                self.thought(state),
                self.message(turn)
            ),
            Self::Chat => format!(
                r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","tool_calls":[{{"id":"call_{id}","type":"function","function":{{"name":"{tool}","arguments":"{text_of_args}"}}}}],{}}},"finish_reason":"tool_calls"}}]}}"#,
                self.thought(state)
            ),
        }
    }

    /// A stream of so many events of text, behind some of thought, of about 206 B each.
    pub fn events(self, events: usize) -> Bytes {
        let mut random = Random::new(11);
        let mut out = String::new();
        let mut event = |name: &str, data: String| match self {
            Self::Chat => write!(out, "data: {data}\n\n").unwrap(),
            _ => write!(out, "event: {name}\ndata: {data}\n\n").unwrap(),
        };
        let chat = |delta: String| {
            format!(
                r#"{{"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,"model":"m","choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":null}}]}}"#
            )
        };
        if self == Self::Messages {
            event("message_start", r#"{"type":"message_start","message":{"role":"assistant","content":[]}}"#.into());
            event("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#.into());
            event(
                "content_block_delta",
                format!(
                    r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"signature_delta","signature":"{}"}}}}"#,
                    random.base64(512)
                ),
            );
            event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#.into());
            event(
                "content_block_start",
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#.into(),
            );
        }
        if self == Self::Responses {
            event(
                "response.output_item.done",
                format!(
                    r#"{{"type":"response.output_item.done","output_index":0,"item":{}}}"#,
                    self.thought(&random.base64(512))
                ),
            );
        }
        if self == Self::Chat {
            event("", chat(format!(r#""reasoning_content":"{}""#, random.text(60))));
        }
        for _ in 0..events {
            let text = random.text(75);
            match self {
                Self::Messages => event(
                    "content_block_delta",
                    format!(
                        r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
                    ),
                ),
                Self::Responses => event(
                    "response.output_text.delta",
                    format!(
                        r#"{{"type":"response.output_text.delta","item_id":"msg_0123456789","output_index":1,"content_index":0,"delta":"{text}","sequence_number":7}}"#
                    ),
                ),
                Self::Chat => event("", chat(format!(r#""content":"{text}""#))),
            }
        }
        out.into()
    }
}

/// One turn of the model and what the client answered.
pub struct Turn {
    pub text: String,
    pub id: String,
    pub tool: String,
    pub args: String,
    pub state: String,
    pub output: String,
}

/// A conversation of so many turns.
pub struct Talk {
    pub family: Family,
    pub turns: Vec<Turn>,
    system: String,
}

impl Talk {
    pub fn new(family: Family, turns: usize) -> Self {
        let mut random = Random::new(turns as u64);
        let system = random.text(8 << 10);
        let turns = (0..turns)
            .map(|at| Turn {
                text: random.text(900),
                id: random.hex(),
                tool: format!("tool_{}", at % 6),
                args: format!(
                    r#"{{"path":"src/module_{}.rs","line":{at},"options":{{"deep":true,"mode":"fast"}},"list":[1,null,2.5],"content":"{}"}}"#,
                    at % 6,
                    random.text(160)
                ),
                state: random.base64(1_536),
                output: random.text(1_000),
            })
            .collect();
        Self { family, turns, system }
    }

    /// The body after all turns, of which those have their state for which `has_state` holds.
    pub fn body(&self, has_state: impl Fn(usize) -> bool, anew: bool) -> Bytes {
        let history = self.turns.iter().enumerate().map(|(at, turn)| self.family.turn(turn, has_state(at), anew));
        self.family.body(&self.system, &history.collect::<String>())
    }

    /// The body after any of the turns, in its own spelling.
    pub fn pick(&self, turns: impl Iterator<Item = usize>, has_state: impl Fn(usize) -> bool) -> Bytes {
        let history = turns.map(|at| self.family.turn(&self.turns[at], has_state(at), false));
        self.family.body(&self.system, &history.collect::<String>())
    }

    /// An engine that saw every turn.
    pub fn taught(&self) -> Engine {
        let engine = engine();
        let head = self.family.head();
        let mut history = String::new();
        for turn in &self.turns {
            learn(&engine, &head, &self.family.body(&self.system, &history), self.family.document(turn).as_bytes());
            history += &self.family.turn(turn, true, false);
        }
        engine
    }
}

/// Makes an engine and a body of this size.
pub type Make = Box<dyn Fn(usize) -> (Engine, Bytes)>;

/// Bodies that are made to be slow, by name, in so many pieces.
pub fn adversarial(family: Family) -> Vec<(&'static str, [usize; 2], Make)> {
    let one = move || Talk::new(family, 1);
    let same = move |same_id: bool, same_args: bool| {
        move |count: usize| {
            let mut talk = Talk::new(family, count);
            for at in 1..count {
                if same_id {
                    talk.turns[at].id = talk.turns[0].id.clone();
                }
                if same_args {
                    (talk.turns[at].tool, talk.turns[at].args) =
                        (talk.turns[0].tool.clone(), talk.turns[0].args.clone());
                    talk.turns[at].text = talk.turns[0].text.clone();
                }
            }
            (talk.taught(), talk.body(|_| false, false))
        }
    };
    let around = move |make: fn(Family, usize) -> String| {
        move |size: usize| {
            let talk = one();
            (
                talk.taught(),
                family.body(&talk.system, &(family.turn(&talk.turns[0], false, false) + &make(family, size))),
            )
        }
    };
    fn call(family: Family, args: &str) -> String {
        let turn = Turn {
            text: "So.".into(),
            id: "0011223344556677".into(),
            tool: "tool_0".into(),
            args: args.into(),
            state: String::new(),
            output: "done".into(),
        };
        family.turn(&turn, false, false)
    }
    vec![
        ("all calls and texts identical, 100 and 400 turns", [100, 400], Box::new(same(false, true))),
        ("all ids equal, 100 and 400 turns", [100, 400], Box::new(same(true, false))),
        (
            "many equal texts, 2,500 and 10,000",
            [2_500, 10_000],
            Box::new(around(|family, count| {
                let message = match family {
                    Family::Messages => {
                        r#",{"role":"assistant","content":"the same"},{"role":"user","content":"more"}"#
                    }
                    Family::Responses => {
                        r#",{"type":"message","role":"assistant","content":[{"type":"output_text","text":"the same"}]},{"role":"user","content":"more"}"#
                    }
                    Family::Chat => r#",{"role":"assistant","content":"the same"},{"role":"user","content":"more"}"#,
                };
                message.repeat(count)
            })),
        ),
        (
            "backslashes in arguments, 1 and 4 MiB",
            [1 << 20, 4 << 20],
            Box::new(around(|family, size| {
                // Each is written twice where arguments are a string, and twice again inside it.
                let each = if family == Family::Messages { 2 } else { 4 };
                call(family, &format!(r#"{{"a":"{}"}}"#, r"\\".repeat(size / each)))
            })),
        ),
        (
            "deep arguments, 1 and 4 MiB",
            [1 << 20, 4 << 20],
            Box::new(around(|family, size| {
                let call = call(family, &format!("{}1{}", r#"{"a":["#.repeat(50), "]}".repeat(50)));
                call.repeat(size / call.len())
            })),
        ),
        (
            "one message of 2,500 and 10,000 blocks",
            [2_500, 10_000],
            Box::new(around(|family, count| {
                let block = |at: usize| match family {
                    Family::Messages => format!(r#"{{"type":"text","text":"block {at}"}}"#),
                    Family::Responses => format!(r#"{{"type":"output_text","text":"block {at}"}}"#),
                    Family::Chat => format!(
                        r#"{{"id":"call_n{at:07x}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#
                    ),
                };
                let blocks = (0..count).map(block).collect::<Vec<_>>().join(",");
                match family {
                    Family::Messages => format!(r#",{{"role":"assistant","content":[{blocks}]}}"#),
                    Family::Responses => format!(r#",{{"type":"message","role":"assistant","content":[{blocks}]}}"#),
                    Family::Chat => format!(r#",{{"role":"assistant","content":null,"tool_calls":[{blocks}]}}"#),
                }
            })),
        ),
    ]
}
