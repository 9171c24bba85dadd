//! A client that forgets all state, in two dialects.

use serde_json::{Value, json};

use crate::client::{Answer, Ask, Body, Client};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Gemini,
    Anthropic,
}

#[derive(Clone, Debug)]
pub(crate) struct Talk {
    base: String,
    dialect: Dialect,
    stream: bool,
    entries: Vec<Value>,
    pub(crate) tenant: Option<&'static str>,
}

impl Talk {
    pub(crate) fn new(base: impl Into<String>, dialect: Dialect, stream: bool) -> Self {
        let question = "How is the weather in Paris?";
        let entries = vec![match dialect {
            Dialect::Gemini => json!({"role": "user", "parts": [{"text": question}]}),
            Dialect::Anthropic => json!({"role": "user", "content": question}),
        }];
        Self { base: base.into(), dialect, stream, entries, tenant: None }
    }

    pub(crate) fn url(&self) -> String {
        let path = match (self.dialect, self.stream) {
            (Dialect::Gemini, true) => "v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse",
            (Dialect::Gemini, false) => "v1beta/models/gemini-3-pro-preview:generateContent",
            (Dialect::Anthropic, _) => "v1/messages",
        };
        format!("{}/{path}", self.base)
    }

    pub(crate) fn body(&self) -> String {
        let body = match self.dialect {
            Dialect::Gemini => json!({ "contents": self.entries }),
            Dialect::Anthropic => json!({
                "model": "claude-sonnet-4-5",
                "max_tokens": 4096,
                "stream": self.stream,
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "messages": self.entries,
            }),
        };
        body.to_string()
    }

    pub(crate) fn ask(&self) -> Ask {
        let mut ask = Ask::new(self.url(), Body::Whole(self.body()));
        ask.headers.extend(match self.dialect {
            Dialect::Gemini => vec![("x-goog-api-key", "a key")],
            Dialect::Anthropic => vec![("x-api-key", "a key"), ("anthropic-version", "2023-06-01")],
        });
        ask.tenant = self.tenant;
        ask
    }

    /// Sends what there is. Takes in what a client without fields for state understands of the answer, and answers its
    /// calls. Whether there were any.
    pub(crate) async fn turn<C: Client>(&mut self, client: &C) -> bool {
        let answer = client.ask(self.ask()).await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{text}");
        self.take(&text)
    }

    /// Works until there is nothing more to call.
    pub(crate) async fn run<C: Client>(&mut self, client: &C) {
        while self.turn(client).await {}
    }

    pub(crate) fn take(&mut self, text: &str) -> bool {
        let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let data = if data.is_empty() { vec![text] } else { data };
        let events: Vec<Value> = data.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
        let outputs = match self.dialect {
            Dialect::Gemini => self.take_parts(&events),
            Dialect::Anthropic => self.take_blocks(&events),
        };
        outputs > 0
    }

    fn take_parts(&mut self, events: &[Value]) -> usize {
        let parts = events.iter().filter_map(|event| event["candidates"][0]["content"]["parts"].as_array()).flatten();
        let calls: Vec<Value> = parts.filter_map(|part| part.get("functionCall").cloned()).collect();
        let outputs: Vec<Value> = calls
            .iter()
            .map(|call| {
                let mut output = json!({"name": call["name"], "response": {"sky": "grey"}});
                if let Some(id) = call.get("id") {
                    output["id"] = id.clone();
                }
                json!({ "functionResponse": output })
            })
            .collect();
        let count = outputs.len();
        let calls: Vec<Value> = calls.into_iter().map(|call| json!({ "functionCall": call })).collect();
        self.entries.push(json!({"role": "model", "parts": calls}));
        self.entries.push(json!({"role": "user", "parts": outputs}));
        count
    }

    fn take_blocks(&mut self, events: &[Value]) -> usize {
        let mut calls: Vec<Value> = Vec::new();
        for event in events {
            let blocks = event["content"].as_array().into_iter().flatten();
            let started = Some(&event["content_block"]).filter(|_| event["type"] == "content_block_start");
            calls.extend(blocks.chain(started).filter(|block| block["type"] == "tool_use").cloned());
            if let Some(piece) = event["delta"]["partial_json"].as_str() {
                let call = calls.last_mut().unwrap();
                let before = call["input"].as_str().unwrap_or_default();
                call["input"] = format!("{before}{piece}").into();
            }
        }
        for call in &mut calls {
            if let Some(input) = call["input"].as_str() {
                call["input"] = serde_json::from_str(input).unwrap();
            }
        }
        let outputs =
            calls.iter().map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": "grey"}));
        let outputs: Vec<Value> = outputs.collect();
        let count = outputs.len();
        self.entries.push(json!({"role": "assistant", "content": calls}));
        self.entries.push(json!({"role": "user", "content": outputs}));
        count
    }
}
