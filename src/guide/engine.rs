//! Replay without tower: the [`Engine`](crate::Engine) in a client, a filter or a pipeline of your own.
//!
//! The engine does no I/O but to ask its store. You give it heads, bodies and pieces of the answer, and it says
//! what to send, what to hold and what to store. It needs a tokio runtime with time for the bounds of a store that
//! has to be waited for, and for [commits in the background](crate::engine::Commit::run_in_background); with
//! [`MemoryStore`](crate::MemoryStore) it needs none.
//!
//! | you have | read |
//! |---|---|
//! | an HTTP client that you call yourself | [An HTTP client](#an-http-client) |
//! | callbacks with chunks, as in Pingora, proxy-wasm or Envoy's `ext_proc` | [A filter](#a-filter) |
//! | a stream of events, already unframed | [Events](#events) |
//!
//! Whose request it is has to be known in each: put a [`Tenant`](crate::scope::Tenant) into the extensions of the
//! head if your gateway authenticates its callers itself. See [`scope`](crate::scope).
//!
//! # An HTTP client
//!
//! A whole exchange, in order:
//!
//! | step | what for | what may happen |
//! |---|---|---|
//! | [`watch`](crate::Engine::watch) | is it ours, by its head alone? | `None`: send it on, with its body unread |
//! | read the body | up to [`max_request`](crate::Engine::max_request) | longer: [`count_unread`](crate::Engine::count_unread), then send on what was read and the rest. It has trailers: [`leave_unpatched`](crate::engine::Watch::leave_unpatched) |
//! | [`shape`](crate::Engine::shape) | asks for an answer that can be read | |
//! | [`prepare`](crate::Engine::prepare) | puts back what is missing | the store is down: the body is the one that came, unless [`is_failed`](crate::engine::Exchange::is_failed) |
//! | [`Exchange::shape`](crate::engine::Exchange::shape), length | the head that goes with the body | set `content-length` anew if there was one |
//! | send, and [`settle`](crate::engine::Exchange::settle) | | it fails: that is the error for your caller |
//! | [`answer`](crate::engine::Exchange::answer) | what to do with the response | [`Hold`](crate::engine::Answer::Hold) an error body that a second attempt could mend |
//! | [`refused`](crate::engine::Exchange::refused), [`retried`](crate::engine::Exchange::retried) | one more attempt | if it fails in whatever way, the client gets the first answer |
//! | [`feed`](crate::engine::Observer::feed), [`finish`](crate::engine::Observer::finish) | reads the answer in passing | a [`Commit`](crate::engine::Commit): hold this one piece until it ran |
//!
//! **What to hold, and for how long.** Only the piece for which `feed` gives a commit, until that ran, and for
//! [`commit_wait`](crate::Engine::commit_wait) at most; it shows the client that the answer is over, and a client may
//! go on at once. Then the commit goes on in the background. All other pieces pass on as they come.
//!
//! **If the client goes away**, tell the observer with [`interrupted`](crate::engine::Observer::interrupted). It does not
//! notice by itself when it is dropped.
//!
//! **If you are cancelled** before the response is there, drop everything: nothing was stored.
//!
//! In this example `Pieces` is a body, and `Client` sends a head and a body.
//!
//! ```
//! use std::{io, mem, time::Duration};
//!
//! use bytes::Bytes;
//! use http::{HeaderMap, header::CONTENT_LENGTH, request, response};
//! use tower_reasoning_replay::{
//!     Engine,
//!     engine::{Answer, Remedy},
//! };
//! # use std::{collections::VecDeque, sync::Mutex};
//! # use tower_reasoning_replay::{MemoryStore, engine::Event, scope::Session};
//! # struct Pieces(VecDeque<io::Result<Bytes>>);
//! # impl Pieces {
//! #     fn of(text: &str) -> Self { Self(text.as_bytes().chunks(16).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()) }
//! #     async fn next(&mut self) -> Option<io::Result<Bytes>> { self.0.pop_front() }
//! #     fn put_back(mut self, read: Vec<Bytes>) -> Self { read.into_iter().rev().for_each(|piece| self.0.push_front(Ok(piece))); self }
//! # }
//! # impl From<Bytes> for Pieces { fn from(whole: Bytes) -> Self { Self(VecDeque::from([Ok(whole)])) } }
//! # #[derive(Default)] struct Client { sent: Mutex<Vec<String>>, answers: Mutex<VecDeque<(u16, String)>> }
//! # impl Client {
//! #     async fn send(&self, head: &request::Parts, mut body: Pieces) -> io::Result<(response::Parts, Pieces)> {
//! #         let mut sent = Vec::new();
//! #         while let Some(piece) = body.next().await { sent.extend_from_slice(&piece?); }
//! #         if let Some(length) = head.headers.get(CONTENT_LENGTH) { assert_eq!(length, &sent.len().to_string()); }
//! #         self.sent.lock().unwrap().push(String::from_utf8(sent).unwrap());
//! #         let (status, text) = self.answers.lock().unwrap().pop_front().ok_or(io::ErrorKind::ConnectionReset)?;
//! #         let (head, ()) = http::Response::builder().status(status).body(()).unwrap().into_parts();
//! #         Ok((head, Pieces::of(&text)))
//! #     }
//! # }
//!
//! /// Reads a body into `read`, while that is not over the limit; says whether this is all of it.
//! async fn read_into(read: &mut Vec<Bytes>, body: &mut Pieces, limit: usize) -> io::Result<bool> {
//!     let mut length = 0;
//!     while let Some(piece) = body.next().await {
//!         let piece = piece?;
//!         length += piece.len();
//!         read.push(piece);
//!         if length > limit {
//!             return Ok(false);
//!         }
//!     }
//!     Ok(true)
//! }
//!
//! fn set_length(headers: &mut HeaderMap, body: &Bytes) {
//!     if headers.contains_key(CONTENT_LENGTH) {
//!         headers.insert(CONTENT_LENGTH, body.len().into());
//!     }
//! }
//!
//! async fn exchange(
//!     engine: &Engine,
//!     client: &Client,
//!     mut head: request::Parts,
//!     mut body: Pieces,
//! ) -> io::Result<(response::Parts, Watched)> {
//!     let commit_wait = engine.commit_wait();
//!     let watched = |body, answer| Watched { body, answer, commit_wait };
//!
//!     let Some(watch) = engine.watch(&head) else {
//!         let (head, body) = client.send(&head, body).await?;
//!         return Ok((head, watched(body, Answer::Pass)));
//!     };
//!     let mut read = Vec::new();
//!     if !read_into(&mut read, &mut body, engine.max_request()).await? {
//!         engine.count_unread(&watch);
//!         let (head, body) = client.send(&head, body.put_back(read)).await?;
//!         return Ok((head, watched(body, Answer::Pass)));
//!     }
//!
//!     engine.shape(&watch, &mut head.headers);
//!     let mut exchange = engine.prepare(watch, &head, read.concat().into()).await;
//!     if exchange.is_failed() {
//!         // The operator would rather fail than forget: `on_store_error(OnStoreError::Fail)`.
//!         return Err(io::Error::other("the store of reasoning state cannot be reached"));
//!     }
//!     exchange.shape(&mut head.headers);
//!     set_length(&mut head.headers, &exchange.body());
//!     let sending = client.send(&head, exchange.body().into());
//!     // While the provider thinks, there is time to work out what the answer has to be compared with.
//!     let (sent, ()) = tokio::join!(sending, async {
//!         tokio::task::yield_now().await;
//!         exchange.settle();
//!     });
//!     let (mut response, mut body) = sent?;
//!
//!     let mut answer = exchange.answer(&response);
//!     if let Answer::Hold(held) = answer {
//!         let mut read = Vec::new();
//!         let reading = read_into(&mut read, &mut body, held.bytes);
//!         let is_whole = matches!(tokio::time::timeout(held.time, reading).await, Ok(Ok(true)));
//!         let refusal = read.concat();
//!         // Whatever comes of it, this is what the client gets if there is nothing better.
//!         body = body.put_back(read);
//!         answer = Answer::Pass;
//!         if !is_whole {
//!             // Too long or too slow to be held. It is classified in passing, so that bad state is forgotten.
//!             if let Some(classifier) = exchange.classifier(response.status) {
//!                 answer = Answer::Classify(Box::new(classifier));
//!             }
//!         } else if let Remedy::Retry(changed) = exchange.refused(response.status, &refusal).await {
//!             set_length(&mut head.headers, &changed);
//!             if let Ok((second, second_body)) = client.send(&head, changed.into()).await
//!                 && exchange.retried(&second)
//!             {
//!                 (response, body) = (second, second_body);
//!                 answer = exchange.answer(&response);
//!             }
//!         }
//!     }
//!     Ok((response, watched(body, answer)))
//! }
//!
//! /// The body for the client.
//! struct Watched {
//!     body: Pieces,
//!     answer: Answer,
//!     commit_wait: Duration,
//! }
//!
//! impl Watched {
//!     async fn next(&mut self) -> Option<io::Result<Bytes>> {
//!         let next = self.body.next().await;
//!         let commit = match (&mut self.answer, &next) {
//!             (Answer::Observe(observer), Some(Ok(piece))) => observer.feed(piece),
//!             (Answer::Observe(observer), Some(Err(_))) => observer.interrupted(),
//!             (Answer::Observe(observer), None) => observer.finish(),
//!             (Answer::Classify(classifier), Some(Ok(piece))) => {
//!                 classifier.feed(piece);
//!                 None
//!             }
//!             (Answer::Classify(_), _) => match mem::replace(&mut self.answer, Answer::Pass) {
//!                 Answer::Classify(classifier) => classifier.finish(),
//!                 _ => None,
//!             },
//!             _ => None,
//!         };
//!         if let Some(commit) = commit {
//!             // A task goes on when nobody waits for it any longer.
//!             let task = tokio::spawn(commit.run());
//!             let _late = tokio::time::timeout(self.commit_wait, task).await;
//!         }
//!         next
//!     }
//! }
//!
//! /// The client went away, or has seen enough: what was complete is kept, provisionally.
//! impl Drop for Watched {
//!     fn drop(&mut self) {
//!         if let Answer::Observe(observer) = &mut self.answer
//!             && let Some(commit) = observer.interrupted()
//!         {
//!             commit.run_in_background();
//!         }
//!     }
//! }
//! #
//! # async fn ask(engine: &Engine, client: &Client, body: &str, answers: &[(u16, &str)]) -> (u16, String) {
//! #     client.answers.lock().unwrap().extend(answers.iter().map(|(status, text)| (*status, (*text).to_owned())));
//! #     let request = http::Request::post("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent");
//! #     let (mut head, ()) = request.header(CONTENT_LENGTH, body.len()).body(()).unwrap().into_parts();
//! #     head.extensions.insert(Session::new("a session"));
//! #     let (head, mut body) = exchange(engine, client, head, Pieces::of(body)).await.unwrap();
//! #     let mut got = Vec::new();
//! #     while let Some(piece) = body.next().await { got.extend_from_slice(&piece.unwrap()); }
//! #     (head.status.as_u16(), String::from_utf8(got).unwrap())
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (engine, client) = (Engine::builder(MemoryStore::new()).max_request(600).build()?, Client::default());
//! # let answer = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"look","args":{}},"thoughtSignature":"b3BhcXVlIHN0YXRl"}]},"finishReason":"STOP"}]}"#;
//! # assert_eq!(ask(&engine, &client, r#"{"contents":[{"role":"user","parts":[{"text":"Look."}]}]}"#, &[(200, answer)]).await, (200, answer.to_owned()));
//! # assert_eq!(engine.counters().get(Event::Learned), 1);
//! # let follow_up = r#"{"contents":[{"role":"user","parts":[{"text":"Look."}]},{"role":"model","parts":[{"functionCall":{"name":"look","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"name":"look","response":{}}}]}]}"#;
//! # assert_eq!(ask(&engine, &client, follow_up, &[(200, "{}")]).await.0, 200);
//! # assert!(client.sent.lock().unwrap().last().unwrap().contains("b3BhcXVlIHN0YXRl"));
//! # // A signature that is refused is taken out again, and the second answer is the one that counts.
//! # let invalid = r#"{"error":{"code":400,"message":"Corrupted thought signature.","status":"INVALID_ARGUMENT"}}"#;
//! # assert_eq!(ask(&engine, &client, follow_up, &[(400, invalid), (200, "{}")]).await, (200, "{}".to_owned()));
//! # assert!(!client.sent.lock().unwrap().last().unwrap().contains("b3BhcXVlIHN0YXRl"));
//! # assert_eq!(engine.counters().get(Event::Healed), 1);
//! # // If the second attempt fails, the client gets the first answer.
//! # ask(&engine, &client, r#"{"contents":[{"role":"user","parts":[{"text":"Look."}]}]}"#, &[(200, answer)]).await;
//! # assert_eq!(ask(&engine, &client, follow_up, &[(400, invalid)]).await, (400, invalid.to_owned()));
//! # // What is too long passes on.
//! # let long = format!("{{\"contents\":[],\"x\":\"{}\"}}", "x".repeat(600));
//! # assert_eq!(ask(&engine, &client, &long, &[(200, "{}")]).await.0, 200);
//! # assert_eq!(client.sent.lock().unwrap().last(), Some(&long));
//! # assert_eq!(engine.counters().get(Event::Unread), 1);
//! # Ok(()) }
//! ```
//!
//! # A filter
//!
//! Some hosts make the HTTP call themselves, and call a filter with heads and chunks. Chunks of a request are held
//! back until its end; then one chunk goes on, which may have another length than what came. So the head must not
//! have promised a length: take `content-length` out, and the host sends chunks or HTTP/2 frames.
//!
//! A filter like this one does not heal. It could not: when the refusal comes, the request is gone, and only the host
//! can send another. Switch healing [off](crate::engine::Builder::heal), so that nothing is held for it. What then is
//! lost:
//!
//! | the provider says | with a second attempt | in a filter |
//! |---|---|---|
//! | state is missing | the store is asked again, or a [stand-in](crate::Fallback) is set | the refusal reaches the client. [`Fallback::Always`](crate::Fallback::Always) sets stand-ins from the start, where a provider takes them |
//! | state is invalid | it is taken out | the refusal reaches the client; the classifier forgets the state, and the client's next attempt goes without it |
//! | the structure is wrong | what was put in is taken out | the refusal reaches the client, each time |
//! | (with [`drop_mismatched_thoughts`](crate::engine::Builder::drop_mismatched_thoughts)) | | leave it off: its header would have to be known before the body |
//!
//! A host that can send a request again heals as [above](#an-http-client): hold the error body, ask `refused`, and give the host the
//! body that this returns.
//!
//! The callback for the request waits for the store, as it may in Pingora and in a server for `ext_proc`. Where it must
//! not, use a store that answers at once, as [`MemoryStore`](crate::MemoryStore) does: then `prepare` is ready when it is
//! first polled. The callback for the response does not wait here. With a store whose appends take time
//! ([`appends_inline`](crate::Store::appends_inline) says so), a client that goes on at once may then be too fast for it.
//!
//! ```
#![doc = include_str!("../../examples/filter/filter.rs")]
//! #
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use tower_reasoning_replay::{MemoryStore, engine::Event, scope::Session};
//! # let engine = Engine::builder(MemoryStore::new()).heal(false).max_request(600).build()?;
//! # let head = || {
//! #     let request = http::Request::post("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent");
//! #     let (mut head, ()) = request.header(CONTENT_LENGTH, "7").body(()).unwrap().into_parts();
//! #     head.extensions.insert(Session::new("a session"));
//! #     head
//! # };
//! # let mut first = head();
//! # let mut filter = Filter::request_head(&engine, &mut first);
//! # assert!(!first.headers.contains_key(CONTENT_LENGTH));
//! # let mut chunk = Some(Bytes::from_static(b"{\"contents\""));
//! # filter.request_body(&mut chunk, false).await;
//! # assert_eq!(chunk, None);
//! # chunk = Some(Bytes::from_static(b":[]}"));
//! # filter.request_body(&mut chunk, true).await;
//! # assert_eq!(chunk.as_deref(), Some(&b"{\"contents\":[]}"[..]));
//! # filter.response_head(&http::Response::new(()).into_parts().0);
//! # let answer = br#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"look","args":{}},"thoughtSignature":"b3BhcXVlIHN0YXRl"}]},"finishReason":"STOP"}]}"#;
//! # filter.response_body(Some(&Bytes::from_static(answer)), true);
//! # assert_eq!(engine.counters().get(Event::Learned), 1);
//! # let mut filter = Filter::request_head(&engine, &mut head());
//! # let mut chunk = Some(Bytes::from_static(br#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"look","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"name":"look","response":{}}}]}]}"#));
//! # filter.request_body(&mut chunk, true).await;
//! # assert!(String::from_utf8(chunk.unwrap().to_vec())?.contains("b3BhcXVlIHN0YXRl"));
//! # let mut filter = Filter::request_head(&engine, &mut head());
//! # let mut chunk = Some(Bytes::from(vec![b' '; 400]));
//! # filter.request_body(&mut chunk, false).await;
//! # assert_eq!(chunk, None);
//! # chunk = Some(Bytes::from(vec![b' '; 400]));
//! # filter.request_body(&mut chunk, false).await;
//! # assert_eq!(chunk.map(|chunk| chunk.len()), Some(800));
//! # Ok(()) }
//! ```
//!
//! `cargo run --example filter --features testing` runs this filter in a host, against a strict fake of a provider.
//!
//! # Events
//!
//! A pipeline that has taken the framing off, with a parser of server-sent events or an SDK, gives the observer one
//! event after the other: the text after `data:`, as it came. What was parsed and written anew will do for
//! finding the state again only if the state and the arguments of calls were not touched. Give it *every* event, `[DONE]` and errors
//! too, then call `finish`. A whole JSON answer is one event.
//!
//! The requests of such a pipeline still go through `watch` and `prepare`, as bytes.
//!
//! ```
//! use tower_reasoning_replay::engine::Observer;
//!
//! /// An event, before it is passed on.
//! async fn pass_on(observer: &mut Observer, event: &str) {
//!     if let Some(commit) = observer.feed_event(event.as_bytes()) {
//!         commit.run().await;
//!     }
//!     // … now to the client …
//! }
//!
//! /// The stream is over.
//! async fn end(mut observer: Observer) {
//!     if let Some(commit) = observer.finish() {
//!         commit.run().await;
//!     }
//! }
//! # use bytes::Bytes;
//! # use tower_reasoning_replay::{Engine, MemoryStore, engine::{Answer, Event}, scope::Session};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = Engine::builder(MemoryStore::new()).build()?;
//! # let request = http::Request::post("https://api.deepseek.com/chat/completions");
//! # let (mut head, ()) = request.body(())?.into_parts();
//! # head.extensions.insert(Session::new("a session"));
//! # let watch = engine.watch(&head).ok_or("watched")?;
//! # let question = Bytes::from_static(br#"{"model":"deepseek-reasoner","messages":[{"role":"user","content":"Look."}]}"#);
//! # let mut exchange = engine.prepare(watch.clone(), &head, question).await;
//! # let Answer::Observe(mut observer) = exchange.answer(&http::Response::new(()).into_parts().0) else { panic!() };
//! # for event in [
//! #     r#"{"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"I should look."}}]}"#,
//! #     r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_00_Xq7RzPa1","type":"function","function":{"name":"look","arguments":"{}"}}]}}]}"#,
//! #     r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
//! # ] { pass_on(&mut observer, event).await; }
//! # assert_eq!(engine.counters().get(Event::Learned), 1, "the end is stored before it is passed on");
//! # pass_on(&mut observer, "[DONE]").await;
//! # end(*observer).await;
//! # let follow_up = Bytes::from_static(br#"{"model":"deepseek-reasoner","messages":[{"role":"user","content":"Look."},{"role":"assistant","content":null,"tool_calls":[{"id":"call_00_Xq7RzPa1","type":"function","function":{"name":"look","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_00_Xq7RzPa1","content":"Grey."}]}"#);
//! # let exchange = engine.prepare(watch, &head, follow_up).await;
//! # assert!(String::from_utf8(exchange.body().to_vec())?.contains("I should look."));
//! # Ok(()) }
//! ```
