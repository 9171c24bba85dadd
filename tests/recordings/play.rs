//! Plays recorded conversations through a layer, and compares.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt};
use tower_reasoning_replay::{MemoryStore, ReplayLayer, RequestBody, body::ResponseBody};

use crate::{
    client::{self, Mode, Sent},
    load::{self, Exchange, Recording},
    parts::{self, Issued, contents, field, normalised, same, token},
};

/// A body that arrives in these pieces.
pub(crate) struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Answers as recorded, and keeps what it was sent.
#[derive(Clone, Default)]
pub(crate) struct Upstream(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: VecDeque<Bytes>,
    seen: Vec<Bytes>,
}

impl Service<Request<RequestBody<Full<Bytes>>>> for Upstream {
    type Response = Response<Pieces>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Pieces>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Full<Bytes>>>) -> Self::Future {
        let script = self.0.clone();
        Box::pin(async move {
            let body = request.into_body().collect().await.map_err(|_| ()).unwrap().to_bytes();
            let mut script = script.lock().unwrap();
            script.seen.push(body);
            let mut response = Response::builder().status(script.status);
            for (name, value) in &script.headers {
                response = response.header(name, value);
            }
            Ok(response.body(Pieces(script.pieces.clone())).unwrap())
        })
    }
}

/// A layer and what stands behind it.
pub(crate) struct Stage {
    pub(crate) layer: ReplayLayer,
    upstream: Upstream,
}

/// One exchange, as seen from both sides.
pub(crate) struct Played {
    pub(crate) status: u16,
    pub(crate) received: Bytes,
    /// What went upstream, attempt by attempt.
    pub(crate) seen: Vec<Bytes>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { layer: ReplayLayer::new(MemoryStore::new()), upstream: Upstream::default() }
    }

    pub(crate) async fn exchange(
        &self,
        head: http::request::Builder,
        body: Vec<u8>,
        answer: &load::Response,
        chunk: Option<usize>,
    ) -> Played {
        {
            let mut script = self.upstream.0.lock().unwrap();
            script.status = answer.status;
            script.headers.clone_from(&answer.headers);
            script.pieces = answer.chunks(chunk).into_iter().map(Bytes::from).collect();
            script.seen.clear();
        }
        let request = head.body(Full::new(Bytes::from(body))).unwrap();
        let response: Response<ResponseBody<Pieces>> =
            self.layer.layer(self.upstream.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let received = response.into_body().collect().await.map_err(|_| ()).unwrap().to_bytes();
        let seen = std::mem::take(&mut self.upstream.0.lock().unwrap().seen);
        Played { status, received, seen }
    }
}

/// The quirks of clients that put a signature where it was not issued.
const MOVES: [&str; 2] = ["moved-to-other-part", "copied-to-several-parts"];

/// How the conversations are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// By a header that names the session.
    Known,
    /// By their first content only.
    Derived,
}

/// A place that the layer is excused from filling.
pub(crate) struct Exception {
    /// The beginning of the name of the file.
    pub(crate) file: &'static str,
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) exchanges: usize,
    pub(crate) expected: usize,
    pub(crate) restored: usize,
    /// Put back although the recorded client did not carry it.
    pub(crate) beyond: usize,
    pub(crate) misplaced: usize,
    /// Put back where it was issued, which is not where the recorded client had put it.
    pub(crate) moved: usize,
    pub(crate) excused: usize,
    /// Requests that are not what was recorded, where they should be.
    pub(crate) unequal: usize,
    /// Responses that did not reach the client byte for byte.
    pub(crate) altered: usize,
    pub(crate) used: HashSet<usize>,
    pub(crate) failures: Vec<String>,
}

/// What was issued in one conversation so far.
#[derive(Default)]
struct Past {
    issued: Vec<Issued>,
    /// The calls that carry an id of the provider: name, and the signature if there is one.
    calls: HashMap<String, (String, Option<String>)>,
}

impl Past {
    fn learn(&mut self, response: &load::Response) {
        self.issued.extend(response.issued());
        for part in response.candidates().concat() {
            if let Some(call) = field(&part, "functionCall")
                && let (Some(id), Some(name)) = (call["id"].as_str(), call["name"].as_str())
            {
                self.calls.insert(id.to_owned(), (name.to_owned(), token(&part)));
            }
        }
    }

    fn knows(&self, token: &str) -> bool {
        self.issued.iter().any(|issued| issued.token == token)
    }
}

/// Plays all conversations through one layer.
pub(crate) async fn play(
    recordings: &[Recording],
    mode: Mode,
    session: Session,
    chunk: Option<usize>,
    exceptions: &[Exception],
) -> Tally {
    let stage = Stage::new();
    let mut tally = Tally::default();
    // Conversations with one opening share a ledger if nothing names them.
    let mut everyone: Vec<Issued> = Vec::new();
    for recording in recordings {
        let mut pasts: HashMap<u64, Past> = HashMap::new();
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            tally.exchanges += 1;
            let recorded = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            let sent = client::send(mode, &recorded, session == Session::Derived);
            let name = format!("{}-{}", recording.name, exchange.session);
            let head = head(recording, exchange, (session == Session::Known).then_some(&*name));
            let played = stage.exchange(head, sent.bytes.clone(), &exchange.response, chunk).await;
            let past = pasts.entry(exchange.session).or_default();
            let reachable = if session == Session::Derived { &everyone } else { &past.issued };
            let mut check = Check { recording, at, mode, past, reachable, tally: &mut tally, exceptions };
            check.response(exchange, &played);
            let seen: Value = serde_json::from_slice(&played.seen[0]).expect("what goes upstream is JSON");
            check.request(&recorded, &sent, &seen);
            past.learn(&exchange.response);
            everyone.extend(exchange.response.issued());
        }
    }
    tally
}

/// A request for a response of which the request was not recorded.
fn opening(recording: &Recording, at: usize) -> Value {
    let prompt = format!("What was answered here? {} {at}", recording.name);
    let inner = json!({"contents": [{"role": "user", "parts": [{"text": prompt}]}]});
    if recording.cloud_code { json!({"model": recording.model, "project": "p", "request": inner}) } else { inner }
}

pub(crate) fn head(recording: &Recording, exchange: &Exchange, session: Option<&str>) -> http::request::Builder {
    let verb = if exchange.response.is_sse { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let (mut host, path) = match recording.cloud_code {
        true => ("cloudcode-pa.googleapis.com", format!("/v1internal:{verb}")),
        false => ("generativelanguage.googleapis.com", format!("/v1beta/models/{}:{verb}", recording.model)),
    };
    let recorded = exchange.request.as_ref().filter(|request| !request.path.is_empty());
    let headers = recorded.map_or(&[][..], |request| &request.headers);
    if let Some((_, named)) = headers.iter().find(|(name, _)| name == "host") {
        host = named;
    }
    let method = recorded.map_or("POST", |request| &request.method);
    let path = recorded.map_or(&path, |request| &request.path);
    let mut head = Request::builder().method(method).uri(format!("https://{host}{path}"));
    for (name, value) in headers {
        head = head.header(name, value);
    }
    if !headers.iter().any(|(name, _)| name == "content-type") {
        head = head.header("content-type", "application/json");
    }
    if let Some(session) = session {
        head = head.header("x-session-id", session);
    }
    head.header("x-goog-api-key", "key")
}

/// Compares one exchange with its recording.
struct Check<'a> {
    recording: &'a Recording,
    at: usize,
    mode: Mode,
    past: &'a Past,
    /// What may be put back here at all.
    reachable: &'a [Issued],
    tally: &'a mut Tally,
    exceptions: &'a [Exception],
}

impl Check<'_> {
    fn fail(&mut self, what: &str) {
        let (mode, name, at) = (self.mode, &self.recording.name, self.at);
        self.tally.failures.push(format!("{mode:?}: {name}, exchange {at}: {what}"));
    }

    fn response(&mut self, exchange: &Exchange, played: &Played) {
        if played.received != exchange.response.text.as_bytes() || played.status != exchange.response.status {
            self.tally.altered += 1;
            self.fail("the response was altered");
        }
    }

    fn request(&mut self, recorded: &Value, sent: &Sent, seen: &Value) {
        if self.mode == Mode::CallsDropped {
            self.calls(recorded, seen);
        } else {
            self.carried(recorded, sent, seen);
        }
        self.insertions(recorded, seen);
        let excused = self.exceptions.iter().any(|exception| self.recording.name.starts_with(exception.file));
        let moves = self.recording.quirks.iter().any(|quirk| MOVES.contains(&&**quirk));
        if self.mode == Mode::Removed && !moves && !excused && !self.equals(recorded, sent, seen) {
            self.tally.unequal += 1;
            self.fail("the rebuilt request is not the recorded one");
        }
    }

    /// Every signature that the recorded client carried back stands where it did.
    fn carried(&mut self, recorded: &Value, sent: &Sent, seen: &Value) {
        for (content, held) in contents(recorded).iter().enumerate() {
            for (part, held) in parts::parts(held).iter().enumerate() {
                let Some(token) = token(held).filter(|token| self.past.knows(token)) else { continue };
                // The client dropped the part with everything that could carry it.
                let Some((to_content, to_part)) = sent.places.get(&(content, part)).copied() else { continue };
                let upstream = contents(seen).get(to_content).map_or(&[][..], parts::parts);
                let found = upstream.get(to_part).and_then(parts::token);
                // What the recorded client moved is expected where it was issued.
                let moved = !self.past.issued.iter().any(|issued| {
                    issued.token == token && issued.fits(parts::parts(&contents(recorded)[content]), part)
                });
                if moved && self.stands(&token, seen) {
                    self.tally.moved += 1;
                    continue;
                }
                self.expect(found.as_ref() == Some(&token), || {
                    let keys: Vec<_> = held.as_object().into_iter().flat_map(|held| held.keys()).collect();
                    format!("contents[{content}].parts[{part}] with {keys:?} is not restored")
                });
            }
        }
    }

    /// The calls of which the provider issued the id, and whose outputs were kept, are back.
    fn calls(&mut self, recorded: &Value, seen: &Value) {
        let outputs = contents(recorded).iter().flat_map(parts::parts);
        let outputs: HashSet<&str> =
            outputs.filter_map(|part| field(part, "functionResponse")?["id"].as_str()).collect();
        for content in contents(recorded) {
            for part in parts::parts(content) {
                let Some(id) = field(part, "functionCall").and_then(|call| call["id"].as_str()) else { continue };
                let Some((name, token)) = self.past.calls.get(id).filter(|_| outputs.contains(id)) else { continue };
                let mut before = None;
                let mut back = contents(seen).iter().flat_map(|content| {
                    let found = parts::parts(content).iter().map(move |part| (content, part));
                    found.collect::<Vec<_>>()
                });
                let found = back.find_map(|(content, part)| {
                    let call = field(part, "functionCall").filter(|call| call["id"] == id)?;
                    before = Some(content);
                    Some((call["name"] == **name, parts::token(part)))
                });
                let next = contents(seen).iter().skip_while(|content| Some(*content) != before).nth(1);
                let answered = next.is_some_and(|next| {
                    parts::parts(next).iter().any(|part| field(part, "functionResponse").is_some())
                });
                let is_back = found == Some((true, token.clone())) && answered;
                self.expect(is_back, || format!("a dropped call of {name} is not back"));
            }
        }
    }

    /// Whether a signature stands on a part for which it was issued.
    fn stands(&self, token: &str, seen: &Value) -> bool {
        contents(seen).iter().any(|content| {
            let parts = parts::parts(content);
            (0..parts.len()).any(|at| {
                let issued = self.past.issued.iter().find(|issued| issued.token == token);
                parts::token(&parts[at]).as_deref() == Some(token)
                    && issued.is_some_and(|issued| issued.fits(parts, at))
            })
        })
    }

    fn expect(&mut self, is_met: bool, what: impl FnOnce() -> String) {
        if is_met {
            self.tally.expected += 1;
            self.tally.restored += 1;
            return;
        }
        let excuse = self.exceptions.iter().position(|exception| self.recording.name.starts_with(exception.file));
        match excuse {
            Some(excuse) => {
                self.tally.excused += 1;
                self.tally.used.insert(excuse);
            }
            None => {
                self.tally.expected += 1;
                let what = what();
                self.fail(&what);
            }
        }
    }

    /// Whatever was put in stands on what it was issued for.
    fn insertions(&mut self, recorded: &Value, seen: &Value) {
        let carried: HashSet<String> = contents(recorded).iter().flat_map(parts::parts).filter_map(token).collect();
        let mut met = HashSet::new();
        for (content, held) in contents(seen).iter().enumerate() {
            let parts = parts::parts(held);
            for (at, part) in parts.iter().enumerate() {
                let Some(token) = token(part) else { continue };
                // The client sent none, so all are ours.
                let fits = self.reachable.iter().any(|issued| issued.token == token && issued.fits(parts, at));
                if !fits || !met.insert(token.clone()) {
                    self.tally.misplaced += 1;
                    self.fail(&format!("what stands on contents[{content}].parts[{at}] was issued for something else"));
                } else if !carried.contains(&token) {
                    self.tally.beyond += 1;
                }
            }
        }
    }

    /// The rebuilt request equals the recorded one, but for what the recorded client never carried.
    fn equals(&self, recorded: &Value, sent: &Sent, seen: &Value) -> bool {
        let carried = |body: &Value| -> HashSet<String> {
            contents(body).iter().flat_map(parts::parts).filter_map(token).collect()
        };
        let common: HashSet<String> = carried(recorded).intersection(&carried(seen)).cloned().collect();
        let mut rest = sent.body.clone();
        let mut one = recorded.clone();
        reduce(&mut one, &|token| self.past.knows(token));
        let mut other = seen.clone();
        reduce(&mut other, &|token| common.contains(token));
        if let (Some(rest), Some(one)) = (parts::contents_mut(&mut rest), parts::contents_mut(&mut one)) {
            rest.clone_from(one);
        }
        same(&rest, &other)
    }
}

/// Leaves only these signatures, in one spelling.
fn reduce(body: &mut Value, keep: &dyn Fn(&str) -> bool) {
    for content in parts::contents_mut(body).into_iter().flatten() {
        for part in content["parts"].as_array_mut().into_iter().flatten() {
            let token = token(part).filter(|token| keep(token));
            parts::strip(part);
            if let Some(token) = token {
                part["thoughtSignature"] = normalised(&token).into();
            }
        }
    }
}

/// Conversations that go on after each recorded response, with a client that kept all parts as they
/// came.
pub(crate) fn echoed(recordings: &[Recording]) -> Vec<Recording> {
    let mut echoed = Vec::new();
    for recording in recordings {
        for (at, exchange) in recording.exchanges.iter().enumerate() {
            let Some(parts) = exchange.response.candidates().into_iter().next() else { continue };
            let streamed = |part: &Value| {
                let call = field(part, "functionCall");
                call.is_some_and(|call| call.get("name").is_none() || call.get("willContinue").is_some())
            };
            if exchange.response.status != 200 || parts.is_empty() || parts.iter().any(streamed) {
                continue;
            }
            let mut first = exchange.request.as_ref().map_or_else(|| opening(recording, at), |held| held.body.clone());
            reduce(&mut first, &|_| false);
            let mut second = first.clone();
            let outputs: Vec<Value> = parts.iter().filter_map(|part| field(part, "functionCall")).map(output).collect();
            if let Some(contents) = parts::contents_mut(&mut second) {
                contents.push(json!({"role": "model", "parts": parts}));
                let next = if outputs.is_empty() { vec![json!({"text": "And then?"})] } else { outputs };
                contents.push(json!({"role": "user", "parts": next}));
            }
            let request = |body: Value| load::Request {
                method: "POST".into(),
                path: exchange.request.as_ref().map(|request| request.path.clone()).unwrap_or_default(),
                headers: exchange.request.as_ref().map(|request| request.headers.clone()).unwrap_or_default(),
                body,
            };
            let answer = json!({"candidates": [{"content": {"parts": [{"text": "Done."}]}, "finishReason": "STOP"}]});
            let answer = load::Response {
                status: 200,
                headers: vec![("content-type".into(), "application/json".into())],
                text: answer.to_string(),
                is_sse: false,
                chunk_sizes: Vec::new(),
            };
            let exchanges = vec![
                Exchange { session: 0, request: Some(request(first)), response: exchange.response.clone() },
                Exchange { session: 0, request: Some(request(second)), response: answer },
            ];
            echoed.push(Recording {
                name: format!("{}#{at}", recording.name),
                cloud_code: recording.cloud_code,
                model: recording.model.clone(),
                quirks: Vec::new(),
                exchanges,
            });
        }
    }
    echoed
}

fn output(call: &Value) -> Value {
    let mut output = json!({"name": call["name"], "response": {"result": "done"}});
    if let Some(id) = call.get("id") {
        output["id"] = id.clone();
    }
    json!({"functionResponse": output})
}
