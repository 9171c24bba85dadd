//! A conversation over the Responses API through the layer.

use bytes::Bytes;
use http::{Request, request::Builder};
use serde_json::{Value, json};

use crate::support::{
    body::{Scripted, Step},
    gemini::cut,
    rig::{Got, Rig},
    service::{frames, whole},
};

pub(crate) const RESPONSES: &str = "https://api.openai.com/v1/responses";

/// Ids as a provider could have issued them: nothing about them is counted.
fn token(number: usize) -> String {
    const TOKENS: [&str; 6] = ["7fQz2LkW", "m3XvB9tR", "Yd8Hs4Nc", "p6GjT1aE", "Kw5uZ0oM", "e2RxV7iB"];
    format!("{}{}", TOKENS[number % TOKENS.len()], TOKENS[(number / TOKENS.len() + 1) % TOKENS.len()])
}

/// The state that is issued when an item is done.
pub(crate) fn state(number: usize) -> String {
    format!("gAAAAABp{0}{0}-_{0}==", token(number))
}

pub(crate) fn reasoning(number: usize) -> Value {
    json!({
        "type": "reasoning", "id": format!("rs_{}", token(number)), "summary": [], "encrypted_content": state(number),
    })
}

pub(crate) fn call_id(number: usize) -> String {
    format!("call_{}", token(number))
}

pub(crate) fn call(number: usize) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{}", token(number)), "call_id": call_id(number), "name": "look",
        "arguments": json!({"at": number, "deep": true}).to_string(), "status": "completed",
    })
}

pub(crate) fn output(number: usize) -> Value {
    json!({"type": "function_call_output", "call_id": call_id(number), "output": "seen"})
}

pub(crate) fn custom_call(number: usize) -> Value {
    json!({
        "type": "custom_tool_call", "id": format!("ctc_{}", token(number)), "call_id": call_id(number),
        "name": "patch", "input": format!("*** {number}\n+ \"line\""), "status": "completed",
    })
}

pub(crate) fn custom_output(number: usize) -> Value {
    json!({"type": "custom_tool_call_output", "call_id": call_id(number), "output": "done"})
}

pub(crate) fn search(number: usize) -> Value {
    json!({
        "type": "web_search_call", "id": format!("ws_{}", token(number)), "status": "completed",
        "action": {"type": "search", "query": format!("what is {number}")},
    })
}

/// A message of the model.
pub(crate) fn said(number: usize, text: &str) -> Value {
    json!({
        "type": "message", "id": format!("msg_{}", token(number)), "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    })
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// An item without some of its members.
pub(crate) fn without(item: &Value, gone: &[&str]) -> Value {
    let mut item = item.clone();
    item.as_object_mut().unwrap().retain(|key, _| !gone.contains(&&**key));
    item
}

pub(crate) fn nameless(items: &[Value]) -> Vec<Value> {
    items.iter().map(|item| without(item, &["id"])).collect()
}

pub(crate) fn is_reasoning(item: &Value) -> bool {
    item["type"] == "reasoning"
}

pub(crate) fn without_reasoning(items: &[Value]) -> Vec<Value> {
    items.iter().filter(|item| !is_reasoning(item)).cloned().collect()
}

/// A history out of pieces.
pub(crate) fn input(pieces: &[&[Value]]) -> Value {
    pieces.concat().into()
}

pub(crate) fn document(items: &[Value]) -> String {
    json!({
        "id": "resp_1", "object": "response", "status": "completed", "error": null, "incomplete_details": null,
        "model": "gpt-5", "output": items,
    })
    .to_string()
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    /// Each item is encrypted anew in each event, and only the last two can be read.
    Stream,
    /// As ChatGPT's backend: nothing is repeated at the end.
    Bare,
    /// As GitHub Copilot: the ids differ in each event, too.
    Churned,
    /// Without `event` lines, with comments and `[DONE]`.
    Plain,
}

impl Form {
    pub(crate) const ALL: [Self; 5] = [Self::Whole, Self::Stream, Self::Bare, Self::Churned, Self::Plain];

    pub(crate) fn write(self, items: &[Value]) -> String {
        match self {
            Self::Whole => document(items),
            Self::Stream | Self::Bare | Self::Churned => sse(&events(items, self, "completed")),
            Self::Plain => {
                let events = events(items, self, "completed");
                let events = events.iter().map(|event| format!(": still there\n\ndata: {event}\n\n"));
                events.chain(["data: [DONE]\n\n".to_owned()]).collect()
            }
        }
    }
}

pub(crate) fn sse(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

/// The events of an answer that ends as `response.<end>`.
pub(crate) fn events(items: &[Value], form: Form, end: &str) -> Vec<Value> {
    let rewritten = |item: &Value, stage: &str| {
        let mut item = item.clone();
        if item.get("encrypted_content").is_some_and(|state| !state.is_null()) {
            item["encrypted_content"] = format!("gAAAAABp{stage}IsOfNoUseToAnybody==").into();
        }
        if form == Form::Churned && item.get("id").is_some() {
            item["id"] = format!("{}{stage}", item["id"].as_str().unwrap()).into();
        }
        item
    };
    let mut events = vec![
        json!({"type": "response.created", "response": {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}}),
    ];
    for (index, item) in items.iter().enumerate() {
        let mut added = rewritten(item, "Added");
        added["status"] = "in_progress".into();
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": added}));
        if let Some(arguments) = item["arguments"].as_str() {
            for delta in arguments.chars().collect::<Vec<_>>().chunks(4) {
                let delta: String = delta.iter().collect();
                events.push(
                    json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": delta}),
                );
            }
        }
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    let output: Vec<Value> = match form {
        Form::Bare => Vec::new(),
        _ => items.iter().map(|item| rewritten(item, "Final")).collect(),
    };
    let error = if end == "failed" { json!({"code": "server_error", "message": "Sorry."}) } else { Value::Null };
    events.push(json!({
        "type": format!("response.{end}"),
        "response": {"id": "resp_1", "object": "response", "status": end, "error": error, "output": output},
    }));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    events
}

pub(crate) struct Talk {
    pub(crate) rig: Rig,
    pub(crate) uri: &'static str,
    pub(crate) model: &'static str,
    /// What the request says about storing.
    pub(crate) store: Option<bool>,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// Other members of the body.
    pub(crate) more: Value,
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self {
            rig: Rig::new([]),
            uri: RESPONSES,
            model: "gpt-5",
            store: None,
            headers: vec![("authorization", "Bearer a key"), ("session-id", "s")],
            more: json!({}),
        }
    }

    pub(crate) fn storing(store: Option<bool>) -> Self {
        Self { store, ..Self::new() }
    }

    /// A conversation that nothing names.
    pub(crate) fn derived() -> Self {
        Self { headers: vec![("authorization", "Bearer a key")], ..Self::new() }
    }

    pub(crate) fn body(&self, input: &Value) -> Value {
        let mut body = json!({"model": self.model, "input": input, "stream": true, "instructions": "Be brief."});
        if let Some(store) = self.store {
            body["store"] = store.into();
        }
        for (key, value) in self.more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    }

    pub(crate) fn request(&self, uri: &str) -> Builder {
        let request = Request::post(uri).header("content-type", "application/json");
        self.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    pub(crate) async fn post(&self, uri: &str, body: impl Into<Bytes>) -> Got {
        let request = self.request(uri).body(Scripted::new([Step::Data(body.into())])).unwrap();
        self.rig.exchange(request).await
    }

    /// Sends this body, is answered with this text in small pieces, and tells the body that arrived.
    pub(crate) async fn raw(&self, body: &str, answer: &str) -> String {
        let answer = cut(answer, 97);
        self.rig.inner.will(frames(&answer));
        let got = self.post(self.uri, body.to_owned()).await;
        crate::support::assert_same(&got.frames, &answer);
        self.rig.inner.last().text()
    }

    /// Learns an answer of these items to this history.
    pub(crate) async fn learn(&self, history: &[Value], form: Form, items: &[Value]) {
        let body = self.body(&json!(history)).to_string();
        self.raw(&body, &form.write(items)).await;
    }

    /// Sends this history, and demands that this one arrives, byte for byte.
    #[track_caller]
    pub(crate) fn arrives<'t>(&'t self, history: &Value, expected: &Value) -> impl Future<Output = ()> + use<'t> {
        let (body, expected) = (self.body(history).to_string(), self.body(expected).to_string());
        let caller = std::panic::Location::caller();
        async move {
            let loads = self.rig.store.loads();
            let arrived = self.raw(&body, &document(&[])).await;
            let readable = |body: &str| serde_json::from_str::<Value>(body).map(|body| body["input"].clone());
            assert!(
                arrived == expected,
                "at {caller}, out of {:#}, arrived {:#} but not {:#}",
                readable(&body).unwrap(),
                readable(&arrived).unwrap_or_else(|_| arrived.clone().into()),
                readable(&expected).unwrap(),
            );
            assert!(self.rig.store.loads() - loads <= 1);
        }
    }

    /// Demands that this history is left alone.
    #[track_caller]
    pub(crate) fn stays<'t>(&'t self, history: &Value) -> impl Future<Output = ()> + use<'t> {
        self.arrives(history, history)
    }

    /// Demands that the store is not even asked about this history, and that the frame goes on as it is.
    pub(crate) async fn is_not_ours(&self, history: &Value) {
        let loads = self.rig.store.loads();
        let body = Bytes::from(self.body(history).to_string());
        self.rig.inner.will(whole(document(&[])));
        self.post(self.uri, body.clone()).await;
        crate::support::assert_same(&self.rig.inner.last().frames, &[body]);
        assert_eq!(self.rig.store.loads(), loads, "the store was asked about {history}");
    }
}
