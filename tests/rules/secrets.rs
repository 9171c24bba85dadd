//! Rule 12: session ids, call ids, credentials, texts and signatures are told nowhere.

use std::{
    cell::RefCell,
    fmt::{self, Write},
    sync::Once,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use tower_reasoning_replay::{
    ReplayLayer, ReplayService, Report,
    engine::{Answer, refusal},
    scope::{Provenance, Session, Tenant},
    store::{Store, StoreError},
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use crate::support::{
    body::{Scripted, bytes},
    gemini::{self, GENERATE, STREAM},
    now,
    rig::Rig,
    service::{Act, Ready, refusal as refuses, whole},
    store::{Mode, TestStore},
};

/// Stands in everything that is nobody's business.
const SECRET: &str = "s3cr3t";

/// The usual conversation with secrets in all of it.
fn planted(text: &str) -> String {
    text.replace("How is the weather?", "s3cr3t question")
        .replace("look", "s3cr3t_tool")
        .replace("Paris", "s3cr3t city")
        .replace("okz0loqw", "s3cr3tid")
        .replace(gemini::SIGNATURE, "s3cr3tSignatureThatIsLongEnough+/==")
        .replace("grey", "s3cr3t sky")
        .replacen(
            "{\"contents\"",
            "{\"systemInstruction\":{\"parts\":[{\"text\":\"s3cr3t system\"}]},\"session_id\":\"s3cr3t\",\"contents\"",
            1,
        )
}

fn request(uri: &str, text: &str) -> Request<Scripted> {
    let uri = if uri.contains('?') { format!("{uri}&key=s3cr3t") } else { format!("{uri}?key=s3cr3t") };
    Request::post(uri)
        .header("content-type", "application/json")
        .header("x-goog-api-key", "s3cr3t")
        .header("authorization", "Bearer s3cr3t")
        .header("x-session-id", "s3cr3t")
        .header("x-claude-code-agent-id", "s3cr3t")
        .header("x-tenant", "s3cr3t")
        .extension(Tenant::new(SECRET))
        .extension(Session::new(SECRET))
        .extension(Provenance::new(SECRET).with_account(SECRET))
        .body(Scripted::new([bytes(planted(text))]))
        .unwrap()
}

thread_local! {
    static HEARD: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes down whatever is told on this thread, at every level.
struct Ear;

impl Ear {
    /// For the whole process: what a thread without a subscriber of its own tells first is not told to those that
    /// other threads have.
    fn listen() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing_subscriber::registry().with(Ear).init());
        HEARD.take();
    }
}

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        HEARD.with_borrow_mut(|heard| {
            let _ = write!(heard, "\n{}", event.metadata().target());
            event.record(&mut Words(heard));
        });
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        HEARD.with_borrow_mut(|heard| {
            let _ = write!(heard, "\n{}", attributes.metadata().name());
            attributes.record(&mut Words(heard));
        });
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        HEARD.with_borrow_mut(|heard| values.record(&mut Words(heard)));
    }
}

/// Everything that can happen to an exchange.
async fn everything() -> Vec<Rig> {
    let error = |status, message: &str| refuses(status, gemini::error(status, &format!("{message} s3cr3t")));
    let learn = |rig: &Rig| {
        rig.inner.will(whole(planted(&gemini::document())));
    };
    let rig = Rig::new([]);
    learn(&rig);
    rig.exchange(request(GENERATE, gemini::QUESTION)).await;
    assert_eq!(rig.store.states().len(), 1);
    // Restored, refused in every way, healed and not.
    for act in [whole("{}"), error(400, gemini::INVALID), error(400, gemini::MISSING), error(400, gemini::STRUCTURE)] {
        rig.inner.will(act).will(error(400, gemini::MISSING)).will(whole("{}"));
        rig.exchange(request(GENERATE, gemini::FOLLOW_UP)).await;
        rig.inner.clear();
        learn(&rig);
        rig.exchange(request(GENERATE, gemini::QUESTION)).await;
    }
    let stream = format!("data: {{\"error\":{{\"message\":\"{} s3cr3t\"}}}}\r\n\r\n", gemini::INVALID);
    let rig2 = Rig::with(TestStore::remote(), [], |builder| {
        builder.tenant_header("x-tenant".parse().unwrap()).commit_queue(1, 1)
    });
    learn(&rig2);
    rig2.exchange(request(GENERATE, gemini::QUESTION)).await;
    rig2.inner.will(whole(stream));
    rig2.exchange(request(STREAM, gemini::FOLLOW_UP)).await;
    // A store in trouble, unreadable requests and answers, errors of the service.
    for mode in [Mode::Fails, Mode::Hangs, Mode::After(Duration::from_secs(1))] {
        rig2.store.load_as(mode).append_as(mode);
        learn(&rig2);
        rig2.exchange(request(GENERATE, gemini::FOLLOW_UP)).await;
    }
    for text in ["{\"contents\":[{\"s3cr3t\"", "s3cr3t"] {
        rig2.inner.will(whole("s3cr3t"));
        rig2.exchange(request(GENERATE, text)).await;
    }
    rig2.inner.will(whole("data: s3cr3t\n\n"));
    rig2.exchange(request(STREAM, gemini::QUESTION)).await;
    rig2.inner.will(Act::Fail(1));
    assert!(rig2.send(request(GENERATE, gemini::QUESTION)).await.is_err());
    rig2.inner.readiness([Ready::Fail(1)]);
    assert!(rig2.send(request(GENERATE, gemini::QUESTION)).await.is_err());
    vec![rig, rig2]
}

#[track_caller]
fn tells_nothing(told: &str) {
    // Bytes may be told as numbers.
    let numbers = SECRET.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let at = told.find(SECRET).or_else(|| told.find(&numbers));
    assert!(at.is_none(), "{told}");
}

/// Rule 12: nothing in any log, at any level.
#[tokio::test(start_paused = true)]
async fn logs_tell_nothing() {
    Ear::listen();
    everything().await;
    let heard = HEARD.take();
    for line in ["state is put back", "the provider refused", "sent once more", "could not be asked"] {
        assert!(heard.contains(line), "the test has not heard {line:?}: {heard}");
    }
    tells_nothing(&heard);
}

/// Rule 12: nothing in the `Debug` output of whatever a gateway may hold.
#[tokio::test(start_paused = true)]
async fn debug_tells_nothing() {
    let mut told = String::new();
    for rig in everything().await {
        let _ = write!(
            told,
            "{:?} {:?} {:?}",
            rig.layer,
            rig.layer.engine().counters(),
            rig.layer.engine().store().is_shared()
        );
        let _ = write!(told, "{:?} {:#?}", rig.store, rig.store.turns());
        for turn in rig.store.turns() {
            for alternative in turn.alternatives() {
                let _ = write!(told, "{:?} {:?} {:?}", turn.id(), turn.context(), alternative);
                for part in alternative.parts() {
                    let _ = write!(told, "{:?} {:?} {:?}", part, part.item(), part.anchor());
                }
            }
        }
    }
    let rig = Rig::new([]);
    rig.inner.will(whole(planted(&gemini::document())));
    rig.exchange(request(GENERATE, gemini::QUESTION)).await;
    let engine = rig.layer.engine();
    let (head, _) = request(GENERATE, gemini::FOLLOW_UP).into_parts();
    let body = Bytes::from(planted(gemini::FOLLOW_UP));
    let watch = engine.watch(&head).unwrap();
    let prepare = engine.prepare(watch.clone(), &head, body);
    let _ = write!(
        told,
        "{watch:?} {prepare:?} {:?}",
        ReplayLayer::builder(rig.store.clone()).tenant_header("x-t".parse().unwrap())
    );
    let mut exchange = prepare.await;
    let (ok, ()) = http::Response::new(()).into_parts();
    let (mut bad, ()) = http::Response::new(()).into_parts();
    bad.status = 400.try_into().unwrap();
    let _ = write!(told, "{exchange:?} {:?}", exchange.report());
    let held = exchange.answer(&bad);
    let remedy = exchange
        .refused(bad.status, planted(&gemini::error(400, "Corrupted thought signature. s3cr3t")).as_bytes())
        .await;
    let _ = write!(told, "{held:?} {remedy:?}");
    if let Some(mut classifier) = exchange.classifier(bad.status) {
        classifier.feed(b"s3cr3t");
        let _ = write!(told, "{classifier:?}");
    }
    assert!(exchange.retried(&ok));
    let answer = exchange.answer(&ok);
    let _ = write!(told, "{answer:?}");
    let Answer::Observe(mut observer) = answer else { panic!("the answer is not observed") };
    let commit = observer.feed(planted(&gemini::document()).as_bytes()).unwrap();
    let _ = write!(told, "{observer:?} {commit:?}");
    let committing = commit.run();
    let _ = write!(told, "{committing:?}");
    committing.await;

    let verdict = refusal::classify(400, planted(&gemini::error(400, gemini::MISSING)).as_bytes());
    let _ = write!(told, "{verdict:?} {:?} {:?}", Tenant::new(SECRET), Session::new(SECRET));
    let _ = write!(told, "{:?}", Provenance::new(SECRET).with_account(SECRET));
    let _ = write!(told, "{:?}", now(engine.store().load(&tower_reasoning_replay::scope::Scope::from_bytes([0; 32]))));

    // The bodies and the future of an exchange under way.
    rig.inner.will(refuses(400, gemini::error(400, "s3cr3t")));
    let mut service: ReplayService<_> = rig.service();
    let _ = write!(told, "{:?}", service.engine());
    std::future::poll_fn(|cx| tower::Service::<Request<Scripted>>::poll_ready(&mut service, cx)).await.unwrap();
    let future = tower::Service::call(&mut service, request(GENERATE, gemini::FOLLOW_UP));
    let _ = write!(told, "{future:?}");
    let response = future.await.unwrap();
    let _ = write!(told, "{:?} {:?}", response.body(), response.extensions().get::<Report>());
    let body = tower_reasoning_replay::RequestBody::<Scripted>::default();
    let _ = write!(told, "{body:?}");
    tells_nothing(&told);
    // The text of an error of a store's own is the store's to tell.
    assert!(!StoreError::new(SECRET).to_string().contains(SECRET));
}

/// Rule 12: nothing in metrics, whose labels are fixed names.
#[cfg(feature = "metrics")]
#[test]
fn metrics_tell_nothing() {
    use std::sync::{Arc, Mutex};

    use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    #[derive(Default)]
    struct Total(std::sync::atomic::AtomicU64);

    impl CounterFn for Total {
        fn increment(&self, value: u64) {
            self.0.fetch_add(value, std::sync::atomic::Ordering::Relaxed);
        }

        fn absolute(&self, _: u64) {}
    }

    #[derive(Default)]
    struct Tape(Mutex<String>);

    impl Recorder for Tape {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let _ = writeln!(self.0.lock().unwrap(), "{key:?}");
            Counter::from_arc(Arc::new(Total::default()))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            panic!("there are counters only")
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            panic!("there are counters only")
        }
    }

    let tape = Tape::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&tape, || drop(runtime.block_on(everything())));
    let tape = tape.0.into_inner().unwrap();
    assert!(tape.contains("restored") && tape.contains("gemini"));
    tells_nothing(&tape);
}
