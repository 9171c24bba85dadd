//! What the layer costs a gateway: two processes of `examples/gateway`, one with the layer and one without, between
//! scripted streams and clients of this process. See `README.md`. Linux only: CPU time is read from `/proc`.
//!
//! `cargo bench --bench load -- quick` takes 20 seconds, `gateway=PATH` measures another build, `only=Gemini` or more
//! of a name picks from the lines; `only='first byte'` from the last table.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod gateway;
mod shape;
mod upstream;
#[path = "../workload/mod.rs"]
mod workload;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;

use self::{
    client::{Connection, Seen},
    gateway::Gateway,
    shape::{GEMINI, MESSAGES, Shape},
    upstream::{Script, Upstream},
    workload::talk::{Dialect, Form, Talk},
};

/// Between two events of a paced stream.
const PACE: Duration = Duration::from_millis(20);

/// How much is measured.
struct Plan {
    pairs: usize,
    /// How long paced streams are watched.
    window: Duration,
    floods: usize,
    requests: usize,
}

/// Both gateways, and what is behind them.
struct Bench {
    plan: Plan,
    only: Option<String>,
    runtime: Runtime,
    upstream: Arc<Upstream>,
    layered: Gateway,
    bare: Gateway,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name));
    let plan = if arguments.iter().any(|argument| argument == "quick") {
        Plan { pairs: 3, window: Duration::from_millis(300), floods: 8, requests: 3 }
    } else {
        Plan { pairs: 9, window: Duration::from_secs(1), floods: 16, requests: 10 }
    };
    let binary = gateway::binary(named("gateway="));
    let (upstream, address) = Upstream::start();
    let layered = Gateway::start(&binary, address, &[]);
    let bare = Gateway::start(&binary, address, &["--no-replay"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench { plan, only: named("only=").map(str::to_owned), runtime, upstream, layered, bare };

    let shapes =
        [Shape::gemini(true), Shape::gemini(false), Shape::messages(true), Shape::messages(false)].map(Arc::new);
    println!("\n## Paced streams, 50 events a second each\n");
    println!(
        "CPU of the gateway per event; an event's age when the client has it. Medians of {} pairs.\n",
        bench.plan.pairs
    );
    println!(
        "| streams | events | CPU layered | CPU bare | ratio (quartiles) | added age, median (quartiles) | p99 layered, bare | target |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (streams, shapes) in [(1, &shapes[..1]), (64, &shapes[..]), (512, &shapes[..1])] {
        for shape in shapes {
            bench.paced(shape, streams);
        }
    }
    println!("\n## Floods of 5,000 events in each of {} streams, as fast as they go\n", bench.plan.floods);
    println!("| events | CPU layered | CPU bare | ratio (quartiles) | events/s layered | bare | ratio (quartiles) |");
    println!("|---|---|---|---|---|---|---|");
    for shape in &shapes {
        bench.flood(shape);
    }
    println!("\n## First byte of an answer to a history of 200 turns, one request at a time\n");
    println!("| request | layered | bare | added (quartiles) | CPU layered | bare |");
    println!("|---|---|---|---|---|---|");
    bench.histories();
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.starts_with(only))
    }

    /// Measures both gateways again and again; which comes first alternates. The layered one is the first of each pair.
    fn pairs<T>(&self, mut measure: impl FnMut(&Gateway) -> T) -> Vec<(T, T)> {
        // What is set up once.
        measure(&self.layered);
        measure(&self.bare);
        let pair = |at: usize| {
            if at.is_multiple_of(2) {
                let layered = measure(&self.layered);
                (layered, measure(&self.bare))
            } else {
                let bare = measure(&self.bare);
                (measure(&self.layered), bare)
            }
        };
        (0..self.plan.pairs).map(pair).collect()
    }

    fn paced(&self, shape: &Arc<Shape>, streams: usize) {
        if !self.wants(shape.name) {
            return;
        }
        let pairs = self.pairs(|gateway| self.watch(gateway, shape, streams));
        let [layered, bare] = sides(&pairs, |run| run.cpu);
        let ratio = Spread::of(pairs.iter().map(|(layered, bare)| layered.cpu / bare.cpu));
        let added = Spread::of(pairs.iter().map(|(layered, bare)| layered.half - bare.half));
        let [late, late_bare] = sides(&pairs, |run| run.late);
        let target = if streams == 64 { "P8 ≤ 1.10" } else { "" };
        println!(
            "| {streams} | {} | {layered:.2} µs | {bare:.2} µs | {ratio:.3} | {added:.1} µs | {late:.0}, {late_bare:.0} µs | {target} |",
            shape.name
        );
    }

    /// Watches streams that are under way.
    fn watch(&self, gateway: &Gateway, shape: &Arc<Shape>, streams: usize) -> Run {
        self.upstream.play(Script::Paced(shape.clone(), PACE));
        self.runtime.block_on(async {
            let seen = Arc::new(Seen::default());
            let clients: Vec<_> = (0..streams)
                .map(|at| {
                    let (address, shape, seen) = (gateway.address, shape.clone(), seen.clone());
                    tokio::spawn(async move {
                        Connection::open(address).await.stream(&shape, &format!("stream-{at}"), seen).await;
                    })
                })
                .collect();
            while seen.streams.load(Ordering::Relaxed) < streams {
                tokio::time::sleep(PACE).await;
            }
            tokio::time::sleep(PACE * 2).await;
            let (events, cpu) = (seen.events.load(Ordering::Relaxed), gateway.cpu());
            seen.ages.lock().unwrap().clear();
            tokio::time::sleep(self.plan.window).await;
            let (events, cpu) = (seen.events.load(Ordering::Relaxed) - events, gateway.cpu() - cpu);
            let mut ages = std::mem::take(&mut *seen.ages.lock().unwrap());
            self.upstream.stop.store(true, Ordering::Relaxed);
            for client in clients {
                client.await.unwrap();
            }
            ages.sort_unstable();
            let age = |part: f64| ages[(ages.len() as f64 * part) as usize].as_nanos() as f64 / 1e3;
            Run { cpu: cpu as f64 / 1e3 / events as f64, half: age(0.5), late: age(0.99) }
        })
    }

    fn flood(&self, shape: &Arc<Shape>) {
        if !self.wants(shape.name) {
            return;
        }
        let all = self.plan.floods * shape.events.len();
        let length: usize = shape.first.iter().chain(&shape.events).map(Bytes::len).sum::<usize>() + shape.last.len();
        let pairs = self.pairs(|gateway| {
            self.upstream.play(Script::Flood(shape.clone()));
            self.runtime.block_on(async {
                let mut connections = Vec::new();
                for _ in 0..self.plan.floods {
                    connections.push(Connection::open(gateway.address).await);
                }
                let (began, cpu) = (Instant::now(), gateway.cpu());
                let clients: Vec<_> = connections
                    .into_iter()
                    .enumerate()
                    .map(|(at, mut connection)| {
                        let shape = shape.clone();
                        tokio::spawn(async move {
                            let mut answer =
                                connection.ask(shape.path, &format!("flood-{at}"), shape.request.clone()).await;
                            let mut read = 0;
                            while let Some(frame) = answer.frame().await {
                                read += frame.unwrap().data_ref().map_or(0, Bytes::len);
                            }
                            assert_eq!(read, length, "not all of the answer arrived");
                        })
                    })
                    .collect();
                for client in clients {
                    client.await.unwrap();
                }
                let (took, cpu) = (began.elapsed().as_secs_f64(), gateway.cpu() - cpu);
                (cpu as f64 / 1e3 / all as f64, all as f64 / took)
            })
        });
        let [cpu, bare_cpu] = sides(&pairs, |run| run.0);
        let [rate, bare_rate] = sides(&pairs, |run| run.1);
        let ratio = Spread::of(pairs.iter().map(|(layered, bare)| layered.0 / bare.0));
        let speed = Spread::of(pairs.iter().map(|(layered, bare)| layered.1 / bare.1));
        println!(
            "| {} | {cpu:.2} µs | {bare_cpu:.2} µs | {ratio:.3} | {rate:.0} | {bare_rate:.0} | {speed:.3} |",
            shape.name
        );
    }

    fn histories(&self) {
        for (name, dialect, path) in [("Gemini", Dialect::Gemini, GEMINI), ("Anthropic", Dialect::Anthropic, MESSAGES)]
        {
            if !self.wants(&format!("first byte, {name}")) {
                continue;
            }
            let talk = Talk::new(dialect, 200);
            let turns = talk.turns.iter().enumerate();
            self.teach(path, turns.map(|(at, turn)| (talk.body(0..at, |_| Form::Full), dialect.answer(turn))));
            let full = talk.all(Form::Full);
            self.first_byte(&format!("{name}, all there"), path, &full, &full);
            self.first_byte(&format!("{name}, the last to restore"), path, &talk.last1(), &full);
            self.first_byte(&format!("{name}, all to restore"), path, &talk.all(Form::Stripped), &full);
        }
    }

    /// Has the layered gateway see a whole conversation.
    fn teach(&self, path: &str, turns: impl Iterator<Item = (Bytes, String)>) {
        self.runtime.block_on(async {
            let mut connection = Connection::open(self.layered.address).await;
            for (request, answer) in turns {
                self.upstream.play(Script::Whole(answer.into()));
                connection.ask(path, "history", request).await.collect().await.unwrap();
            }
        });
    }

    fn first_byte(&self, name: &str, path: &str, sent: &Bytes, restored: &Bytes) {
        self.upstream.play(Script::Whole("data: {}\n\n".into()));
        let pairs = self.pairs(|gateway| {
            self.runtime.block_on(async {
                let mut connection = Connection::open(gateway.address).await;
                connection.first_byte(path, "history", sent.clone()).await;
                let cpu = gateway.cpu();
                let mut times = Vec::new();
                for _ in 0..self.plan.requests {
                    times.push(connection.first_byte(path, "history", sent.clone()).await.as_nanos() as f64 / 1e3);
                }
                let cpu = (gateway.cpu() - cpu) as f64 / 1e3 / self.plan.requests as f64;
                let expected = if gateway.address == self.layered.address { restored } else { sent };
                assert!(*self.upstream.asked.lock().unwrap() == expected, "{name}: not the same bytes");
                (Spread::of(times.into_iter()).half, cpu)
            })
        });
        let [layered, bare] = sides(&pairs, |run| run.0);
        let [cpu, bare_cpu] = sides(&pairs, |run| run.1);
        let added = Spread::of(pairs.iter().map(|(layered, bare)| layered.0 - bare.0));
        println!("| {name} | {layered:.0} µs | {bare:.0} µs | {added:.0} µs | {cpu:.0} µs | {bare_cpu:.0} µs |");
    }
}

/// One look at paced streams, in microseconds.
struct Run {
    /// CPU time per event.
    cpu: f64,
    /// The age of events on arrival: the median, and the 99th percentile.
    half: f64,
    late: f64,
}

/// The median of each side.
fn sides<T>(pairs: &[(T, T)], what: impl Fn(&T) -> f64) -> [f64; 2] {
    [Spread::of(pairs.iter().map(|pair| what(&pair.0))).half, Spread::of(pairs.iter().map(|pair| what(&pair.1))).half]
}

/// A median and its quartiles.
struct Spread {
    low: f64,
    half: f64,
    high: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
        Self { low: at(0.25), half: at(0.5), high: at(0.75) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.half, self.low, self.high)
    }
}
