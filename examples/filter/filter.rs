use bytes::{Bytes, BytesMut};
use http::{header::CONTENT_LENGTH, request, response};
use tower_reasoning_replay::{
    Engine,
    engine::{Answer, Classifier, Exchange, Observer, Watch},
};

/// What lives between the callbacks of one exchange.
#[derive(Debug)]
pub(crate) struct Filter {
    engine: Engine,
    request: Request,
    response: Response,
}

#[derive(Debug)]
enum Request {
    /// None of ours, or too long: chunks pass on as they come.
    Pass,
    Held(Box<(Watch, request::Parts, BytesMut)>),
    Sent(Box<Exchange>),
}

#[derive(Debug)]
enum Response {
    Pass,
    Observed(Box<Observer>),
    Classified(Box<Classifier>),
}

impl Filter {
    /// The head of the request, before it goes upstream.
    pub(crate) fn request_head(engine: &Engine, head: &mut request::Parts) -> Self {
        let request = match engine.watch(head) {
            Some(watch) => {
                engine.shape(&watch, &mut head.headers);
                let held = Request::Held(Box::new((watch, head.clone(), BytesMut::new())));
                // The head leaves before it is known how long the body will be.
                head.headers.remove(CONTENT_LENGTH);
                held
            }
            None => Request::Pass,
        };
        Self { engine: engine.clone(), request, response: Response::Pass }
    }

    /// A chunk of the request. What is left in `chunk` goes upstream now.
    pub(crate) async fn request_body(&mut self, chunk: &mut Option<Bytes>, end: bool) {
        let Request::Held(held) = &mut self.request else { return };
        let (watch, _, body) = &mut **held;
        body.extend_from_slice(&chunk.take().unwrap_or_default());
        if body.len() > self.engine.max_request() {
            // What was held goes on, and so does everything that follows.
            self.engine.count_unread(watch);
            *chunk = Some(body.split().freeze());
            self.request = Request::Pass;
        } else if end && let Request::Held(held) = std::mem::replace(&mut self.request, Request::Pass) {
            let (watch, head, body) = *held;
            let exchange = self.engine.prepare(watch, &head, body.freeze()).await;
            *chunk = Some(exchange.body());
            self.request = Request::Sent(Box::new(exchange));
        }
    }

    /// The head of the response, before it goes to the client.
    pub(crate) fn response_head(&mut self, head: &response::Parts) {
        let Request::Sent(exchange) = &mut self.request else { return };
        self.response = match exchange.answer(head) {
            Answer::Observe(observer) => Response::Observed(observer),
            Answer::Classify(classifier) => Response::Classified(classifier),
            // Nothing can be sent again from here, so nothing need be held.
            Answer::Hold(_) => exchange
                .classifier(head.status)
                .map_or(Response::Pass, |classifier| Response::Classified(Box::new(classifier))),
            _ => Response::Pass,
        };
    }

    /// A chunk of the response, before it goes to the client. It is never changed.
    pub(crate) fn response_body(&mut self, chunk: Option<&Bytes>, end: bool) {
        let chunk = chunk.map_or(&[][..], |chunk| chunk);
        let mut commit = match &mut self.response {
            Response::Observed(observer) => observer.feed(chunk),
            Response::Classified(classifier) => {
                classifier.feed(chunk);
                None
            }
            Response::Pass => None,
        };
        if end {
            // What the end of the body brings contains all that came before.
            commit = match std::mem::replace(&mut self.response, Response::Pass) {
                Response::Observed(mut observer) => observer.finish().or(commit),
                Response::Classified(classifier) => classifier.finish(),
                Response::Pass => None,
            };
        }
        // A store that answers at once has the turn when this returns. Where the callback may wait,
        // wait for `commit.run()` instead, for `Engine::commit_wait` at most.
        if let Some(commit) = commit {
            commit.run_in_background();
        }
    }
}

/// The host drops the filter of an exchange that breaks off.
impl Drop for Filter {
    fn drop(&mut self) {
        if let Response::Observed(observer) = &mut self.response
            && let Some(commit) = observer.interrupted()
        {
            commit.run_in_background();
        }
    }
}
