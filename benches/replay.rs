//! How long things take, beside the floors of the same process. See `README.md`.
//!
//! `cargo bench --bench replay -- request` runs one section only: `request`, `observe`, `linear`,
//! `adversarial`, `store`, `tower` or `families`; `attack` is the last part of that, and
//! `only=responses` or more of a name picks from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::semicolon_if_nothing_returned)]

mod workload;

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt};
use tower_reasoning_replay::{
    Engine, MemoryStore, ReplayLayer, Store,
    ledger::{Alternative, Anchor, Context as History, Item, Kind, Turn, TurnId, TurnPart},
    scope::{Scope, Session},
};
use workload::{
    Calls, Conversation, Random,
    family::{Family, Talk},
    heading, least, now, row, time,
};

const BUDGET: Duration = Duration::from_millis(700);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let sections: [(&str, fn()); 8] = [
        ("request", request),
        ("observe", observe),
        ("linear", linear),
        ("adversarial", adversarial),
        ("store", store),
        ("tower", tower),
        ("families", families),
        ("attack", families_under_attack),
    ];
    if let Some(what) = wanted.iter().find_map(|wanted| wanted.strip_prefix("profile=")) {
        let times = wanted.iter().find_map(|wanted| wanted.strip_prefix("times=")?.parse().ok());
        let turns = wanted.iter().find_map(|wanted| wanted.strip_prefix("turns=")?.parse().ok());
        return profile(what, times, turns.unwrap_or(200));
    }
    for (name, section) in sections {
        // `families` holds it too.
        if (wanted.is_empty() && name != "attack") || wanted.iter().any(|wanted| wanted == name) {
            section();
        }
    }
}

/// Does one thing for some seconds, or as often as `times=` says, for a profiler to look at. The history has as many
/// turns as `turns=` says.
fn profile(what: &str, times: Option<u32>, turns: usize) {
    if let Some(name) = what.strip_prefix("attack=") {
        return profile_attack(name, times.unwrap_or(100), turns);
    }
    if let Some(case) =
        ["pipe text", "pipe quiet", "bare pipe text", "bare pipe quiet"].iter().find(|case| **case == what)
    {
        return profile_pipe(case, times.unwrap_or(100));
    }
    let start = Instant::now();
    let mut done = 0;
    let mut is_on = || {
        done += 1;
        times.map_or_else(|| start.elapsed() < Duration::from_secs(6), |times| done <= times)
    };
    let family = Family::ALL.into_iter().find(|family| family.name() == what);
    if family.is_some() || matches!(what, "text" | "quiet") {
        let (head, request, events) = match family {
            Some(family) => (family.head(), family.body("", ""), family.events(5_000)),
            None => {
                let request = Conversation::new(3, 0, Calls::Different, 0).full();
                (workload::head(), request, workload::sse(what == "text"))
            }
        };
        let engine = workload::engine();
        while is_on() {
            feed(&engine, &head, &request, &events, 206);
        }
        return;
    }
    let head = workload::head();
    let talk = Conversation::new(200, turns, Calls::Different, 0);
    let engine = workload::taught(&talk);
    let (stripped, full) = (talk.stripped(), talk.full());
    while is_on() {
        match what {
            "restore" => drop(black_box(pass(&engine, &head, &stripped))),
            "nothing" => drop(black_box(pass(&engine, &head, &full))),
            "settle" => workload::prepare(&engine, &head, &full).settle(),
            _ => return println!("there is no profile {what}"),
        }
    }
}

/// Exchanges over a pipe, with the layer or bare, of 5,000 events with text or without.
fn profile_pipe(case: &str, times: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = Conversation::new(3, 0, Calls::Different, 0).full();
    let dialed = Dialed(Provider(frames(&workload::sse(case.ends_with("text"))).into()));
    let layer = ReplayLayer::builder(MemoryStore::new()).build_layer().unwrap();
    let layered = layer.layer(dialed.clone());
    for _ in 0..times {
        if case.starts_with("bare") {
            runtime.block_on(exchange(dialed.clone(), request.clone()));
        } else {
            runtime.block_on(exchange(layered.clone(), request.clone()));
        }
    }
}

/// The body of `attack` whose name begins so, in `size` pieces.
fn profile_attack(name: &str, times: u32, size: usize) {
    for family in Family::ALL {
        for (case, _, build) in workload::family::adversarial(family) {
            if format!("{}, {case}", family.name()).starts_with(name) {
                let (head, (engine, body)) = (family.head(), build(size));
                (0..times).for_each(|_| drop(black_box(pass(&engine, &head, &body))));
                return println!("{} B", body.len());
            }
        }
    }
}

/// One pass of a body through the engine, and what it gives.
fn pass(engine: &Engine, head: &http::request::Parts, body: &Bytes) -> Bytes {
    workload::prepare(engine, head, black_box(body)).body()
}

fn request() {
    heading("Request path: `Engine::prepare` and the body to send");
    let head = workload::head();
    for turns in [10, 50, 200, 1_000] {
        let talk = Conversation::new(turns, usize::try_from(turns).unwrap(), Calls::Different, 0);
        let engine = workload::taught(&talk);
        let (stripped, full) = (talk.stripped(), talk.full());
        assert!(pass(&engine, &head, &stripped) == full, "hist_{turns}: not the same bytes");
        let [restore, nothing, copy, find, serde] = least(
            BUDGET,
            [
                &mut || drop(black_box(pass(&engine, &head, &stripped))),
                &mut || drop(black_box(pass(&engine, &head, &full))),
                &mut || workload::memcpy(&full),
                &mut || workload::memchr(&full),
                &mut || workload::raw_values(&full),
            ],
        );
        let ratio = restore / (nothing + copy);
        let (name, floor) = (format!("hist_{turns}"), time(nothing + copy));
        row(&format!("{name}, restore all"), &time(restore), &format!("pass + memcpy {floor}"), &x(ratio), "P3 ≤ 1.5");
        row(
            &format!("{name}, all signed"),
            &time(nothing),
            &format!("memchr {}", time(find)),
            &x(nothing / find),
            "P2 ≤ 20",
        );
        let target = if turns >= 200 { "P2 ≤ 0.33" } else { "" };
        row(
            &format!("{name}, all signed"),
            &time(nothing),
            &format!("RawValue {}", time(serde)),
            &x(nothing / serde),
            target,
        );
        if turns == 200 {
            row(
                "hist_200, restore all",
                &time(restore),
                "ancestor 3.9 s",
                &format!("1/{:.0}", 3.9e9 / restore),
                "P3 ≥ 2,000×",
            );
            // A client that writes the arguments anew, in another order: they have to be hashed.
            let anew = |body: &Bytes| {
                let body = std::str::from_utf8(body).unwrap();
                Bytes::from(body.replace(r#""deep":true,"mode":"fast""#, r#""mode":"fast","deep":true"#))
            };
            let (written_anew, expected) = (anew(&stripped), anew(&full));
            assert!(pass(&engine, &head, &written_anew) == expected, "written anew: not the same bytes");
            let [hashed] = least(BUDGET, [&mut || drop(black_box(pass(&engine, &head, &written_anew)))]);
            row(
                "hist_200, arguments written anew",
                &time(hashed),
                &format!("pass + memcpy {floor}"),
                &x(hashed / (nothing + copy)),
                "P3 ≤ 1.5",
            );
            let last1 = talk.last1();
            assert!(pass(&engine, &head, &last1) == full, "last1: not the same bytes");
            let stranger = workload::session_head("stranger");
            assert_eq!(pass(&engine, &stranger, &stripped).as_ptr(), stripped.as_ptr());
            let [last, unknown, find] = least(
                BUDGET,
                [
                    &mut || drop(black_box(pass(&engine, &head, &last1))),
                    &mut || drop(black_box(pass(&engine, &stranger, &stripped))),
                    &mut || workload::memchr(&stripped),
                ],
            );
            row("last1", &time(last), &format!("pass + memcpy {floor}"), &x(last / (nothing + copy)), "P3 ≤ 1.5");
            row(
                "unknown scope, hist_200",
                &time(unknown),
                &format!("memchr {}", time(find)),
                &x(unknown / find),
                "P1 ≤ 3",
            );
            let [observer, copy] = least(
                BUDGET,
                [
                    &mut || {
                        let mut exchange = workload::prepare(&engine, &head, &full);
                        drop(black_box(workload::observer(&mut exchange)));
                    },
                    &mut || drop(black_box(pass(&engine, &head, &full))),
                ],
            );
            row(
                "hist_200, its observer",
                &time(observer - copy),
                &format!("memchr {}", time(find)),
                &x((observer - copy) / find),
                "",
            );
        }
    }
    for (name, turns, calls, media, target) in [
        ("plain_2m", 1_000, Calls::None, 0, "P1 ≤ 3"),
        ("media_2m, all signed", 200, Calls::Different, 1_200 << 10, "P2 ≤ 8"),
        ("media_20m, all signed", 200, Calls::Different, 19_200 << 10, "P2 ≤ 3"),
    ] {
        let talk = Conversation::new(7, turns, calls, media);
        let engine = workload::engine();
        if calls != Calls::None {
            let last = talk.turns.last().unwrap();
            workload::learn(&engine, &head, &talk.body(0..1, |_| true), last.events().as_bytes());
        }
        let full = talk.full();
        assert_eq!(pass(&engine, &head, &full).as_ptr(), full.as_ptr(), "{name}: copied");
        let [nothing, find, serde] = least(
            BUDGET,
            [&mut || drop(black_box(pass(&engine, &head, &full))), &mut || workload::memchr(&full), &mut || {
                workload::raw_values(&full)
            }],
        );
        row(name, &time(nothing), &format!("memchr {}", time(find)), &x(nothing / find), target);
        row(name, &time(nothing), &format!("RawValue {}", time(serde)), &x(nothing / serde), "");
    }
}

fn x(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// Feeds a response in pieces.
fn feed(engine: &Engine, head: &http::request::Parts, request: &Bytes, response: &[u8], chunk: usize) {
    let mut exchange = workload::prepare(engine, head, request);
    let mut observer = workload::observer(&mut exchange);
    for piece in response.chunks(chunk) {
        black_box(observer.feed(piece));
    }
    black_box(observer.finish());
}

fn observe() {
    heading("Observer: per event of `sse` (5,000 events)");
    let (engine, head) = (workload::engine(), workload::head());
    let request = Conversation::new(3, 0, Calls::Different, 0).full();
    for (name, with_text, target) in [("with text", true, "P6 ≤ 280 ns"), ("without text", false, "P6 ≤ 60 ns")] {
        let response = workload::sse(with_text);
        for chunk in [206, 1_400, 16 << 10] {
            let [all, none, find] = least(
                BUDGET,
                [
                    &mut || feed(&engine, &head, &request, &response, chunk),
                    &mut || feed(&engine, &head, &request, b"", chunk),
                    &mut || {
                        for piece in response.chunks(chunk) {
                            workload::memchr(piece);
                        }
                    },
                ],
            );
            let event = (all - none) / 5_000.0;
            let find = find / 5_000.0;
            row(
                &format!("sse {name}, {chunk} B chunks"),
                &time(event),
                &format!("memchr {}", time(find)),
                &x(event / find),
                target,
            );
        }
    }
    // One line of 4 MiB in tiny chunks: linear means as much per byte as a line of a quarter of it.
    let line = |size: usize| {
        let text = Random::new(5).text(size);
        let line = format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}},\"finishReason\":\"STOP\"}}]}}\r\n\r\n"
        );
        Bytes::from(line)
    };
    let (short, long) = (line(1 << 20), line(4 << 20));
    for chunk in [64, 1_400] {
        let [short_time, long_time] = least(
            BUDGET,
            [&mut || feed(&engine, &head, &request, &short, chunk), &mut || {
                feed(&engine, &head, &request, &long, chunk)
            }],
        );
        let (a, b) = (short_time / short.len() as f64, long_time / long.len() as f64);
        row(
            &format!("one line of 4 MiB, {chunk} B chunks"),
            &format!("{b:.2} ns/B"),
            &format!("1 MiB {a:.2} ns/B"),
            &x(b / a),
            "P6 linear",
        );
    }
}

fn linear() {
    heading("Linearity: time per byte against a shorter history");
    let head = workload::head();
    let mut cases: Vec<(usize, [f64; 4])> = Vec::new();
    for turns in [200, 1_000] {
        let talk = Conversation::new(9, turns, Calls::Different, 0);
        let engine = workload::taught(&talk);
        let all = talk.stripped();
        let truncated = talk.body(turns / 2..turns, |_| false);
        // A client that compacts: every third turn is gone.
        let mut edited = String::new();
        for (at, piece) in std::str::from_utf8(&all).unwrap().split(r#",{"role":"model""#).enumerate() {
            // The last one holds the end of the body.
            if at % 3 != 1 || at == turns {
                edited += if at == 0 { "" } else { r#",{"role":"model""# };
                edited += piece;
            }
        }
        let edited = Bytes::from(edited);
        let full = talk.full();
        let [a, b, c, d] = least(
            BUDGET,
            [
                &mut || drop(black_box(pass(&engine, &head, &all))),
                &mut || drop(black_box(pass(&engine, &head, &truncated))),
                &mut || drop(black_box(pass(&engine, &head, &edited))),
                &mut || drop(black_box(pass(&engine, &head, &full))),
            ],
        );
        let per_byte =
            [a / all.len() as f64, b / truncated.len() as f64, c / edited.len() as f64, d / full.len() as f64];
        cases.push((turns, per_byte));
    }
    for (at, name) in ["restore all", "truncated to half", "edited", "all signed"].into_iter().enumerate() {
        let (small, large) = (cases[0].1[at], cases[1].1[at]);
        row(
            &format!("hist_1000, {name}"),
            &format!("{large:.2} ns/B"),
            &format!("hist_200 {small:.2} ns/B"),
            &x(large / small),
            "P4 ≤ 1.05",
        );
    }
}

/// Bodies and ledgers that are made to be slow.
fn adversarial() {
    heading("Adversarial: time per byte at two sizes");
    let head = workload::head();
    let compare = |name: &str, sizes: [usize; 2], build: &dyn Fn(usize) -> (Engine, Bytes)| {
        let cases = sizes.map(build);
        let [small, large] = least(
            BUDGET,
            [&mut || drop(black_box(pass(&cases[0].0, &head, &cases[0].1))), &mut || {
                drop(black_box(pass(&cases[1].0, &head, &cases[1].1)))
            }],
        );
        let small = small / cases[0].1.len() as f64;
        let large = large / cases[1].1.len() as f64;
        row(
            name,
            &format!("{large:.2} ns/B"),
            &format!("{:.1} times smaller {small:.2} ns/B", cases[1].1.len() as f64 / cases[0].1.len() as f64),
            &x(large / small),
            "P4 linear",
        );
    };
    for (name, calls) in [("all calls identical", Calls::Same), ("all ids equal", Calls::SameId)] {
        compare(&format!("{name}, 100 and 400 turns"), [100, 400], &|turns| {
            let talk = Conversation::new(13, turns, calls, 0);
            (workload::taught(&talk), talk.stripped())
        });
    }
    compare("2,500 and 10,000 candidates for as many equal places", [2_500, 10_000], &|count| {
        let engine = workload::engine();
        let call = r#"{"functionCall":{"name":"f","args":{"a":1}}}"#;
        let mut request = String::from(r#"{"contents":[{"role":"user","parts":[{"text":"go"}]}"#);
        let mut response = String::from("data: {\"candidates\":[{\"content\":{\"parts\":[");
        for at in 0..count {
            let comma = if at % 1_000 == 0 { "" } else { "," };
            response += &format!(
                r#"{comma}{{"functionCall":{{"name":"f","args":{{"a":1}}}},"thoughtSignature":"signature-number-{at:08}"}}"#
            );
            if at % 1_000 == 999 || at + 1 == count {
                response += "]},\"finishReason\":\"STOP\"}]}\r\n\r\n";
                let body = Bytes::from(request.clone() + "]}");
                workload::learn(&engine, &workload::head(), &body, response.as_bytes());
                response = String::from("data: {\"candidates\":[{\"content\":{\"parts\":[");
            }
            request += &format!(r#",{{"role":"model","parts":[{call}]}}"#);
        }
        (engine, Bytes::from(request + "]}"))
    });
    let texts = |name: &str, piece: &'static str| {
        compare(name, [1 << 20, 4 << 20], &move |size| {
            let engine = workload::engine();
            let (text, half) = (piece.repeat(size / piece.len()), piece.repeat(size / 2 / piece.len()));
            let body = format!(
                r#"{{"contents":[{{"role":"user","parts":[{{"text":"{half}"}}]}},{{"role":"model","parts":[{{"text":"{text}"}}]}}]}}"#
            );
            let talk = Conversation::new(1, 1, Calls::Different, 0);
            workload::learn(&engine, &workload::head(), &talk.body(0..0, |_| true), talk.turns[0].events().as_bytes());
            (engine, Bytes::from(body))
        });
    };
    texts("1 and 4 MiB of backslashes", r"\\");
    texts("1 and 4 MiB of escaped characters", r"\u00e9");
    compare("calls with deep arguments, 1 and 4 MiB", [1 << 20, 4 << 20], &|size| {
        let engine = workload::engine();
        let talk = Conversation::new(1, 1, Calls::Different, 0);
        workload::learn(&engine, &workload::head(), &talk.body(0..0, |_| true), talk.turns[0].events().as_bytes());
        let depth = 100;
        let args = format!("{}1{}", r#"{"a":["#.repeat(depth / 2), "]}".repeat(depth / 2));
        let call = format!(r#",{{"role":"model","parts":[{{"functionCall":{{"name":"f","args":{args}}}}}]}}"#);
        let body = format!(
            r#"{{"contents":[{{"role":"user","parts":[{{"text":"go"}}]}}{}]}}"#,
            call.repeat(size / call.len())
        );
        (engine, Bytes::from(body))
    });
    let call = |at: usize, signed: bool| {
        let state = if signed { format!(r#","thoughtSignature":"signature-number-{at:08}""#) } else { String::new() };
        format!(r#"{{"functionCall":{{"name":"f","id":"n{at:07x}x","args":{{"a":{at}}}}}{state}}}"#)
    };
    let answer = |calls: &[String]| {
        let calls = calls.join(",");
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{calls}]}},\"finishReason\":\"STOP\"}}]}}\r\n\r\n")
    };
    let output =
        |at: usize| format!(r#"{{"functionResponse":{{"name":"f","id":"n{at:07x}x","response":{{"b":{at}}}}}}}"#);
    let go = r#"{"contents":[{"role":"user","parts":[{"text":"go"}]}"#;
    compare("dropped calls of as many turns behind unknown ones, 1,250 and 5,000", [1_250, 5_000], &|count| {
        let engine = workload::engine();
        let mut body = String::from(go);
        for at in 0..count {
            let asked = Bytes::from(format!("{go}]}}"));
            workload::learn(&engine, &workload::head(), &asked, answer(&[call(at, true)]).as_bytes());
            body += &format!(r#",{{"role":"model","parts":[{}]}}"#, call(count + at, false));
        }
        for at in 0..count {
            body += &format!(r#",{{"role":"user","parts":[{}]}}"#, output(at));
        }
        (engine, Bytes::from(body + "]}"))
    });
    compare("parallel calls of one turn, half of them dropped, 1,000 and 4,000", [1_000, 4_000], &|count| {
        let engine = workload::engine();
        let calls: Vec<_> = (0..count).map(|at| call(at, true)).collect();
        workload::learn(&engine, &workload::head(), &Bytes::from(format!("{go}]}}")), answer(&calls).as_bytes());
        let kept: Vec<_> = (0..count).step_by(2).map(|at| call(at, false)).collect();
        let outputs: Vec<_> = (0..count).map(output).collect();
        let (kept, outputs) = (kept.join(","), outputs.join(","));
        let body = format!(r#"{go},{{"role":"model","parts":[{kept}]}},{{"role":"user","parts":[{outputs}]}}]}}"#);
        (engine, Bytes::from(body))
    });
    compare("outputs that answer nothing, 2,000 and 8,000", [2_000, 8_000], &|count| {
        let engine = workload::engine();
        let talk = Conversation::new(1, 200, Calls::Different, 0);
        for turn in &talk.turns {
            workload::learn(&engine, &workload::head(), &talk.body(0..0, |_| true), turn.events().as_bytes());
        }
        let mut body = String::from(r#"{"contents":[{"role":"user","parts":[{"text":"go"}]}"#);
        for at in 0..count {
            body += &format!(
                r#",{{"role":"user","parts":[{{"functionResponse":{{"name":"tool_{}","response":{{"a":{at}}}}}}}]}}"#,
                at % 6
            );
        }
        (engine, Bytes::from(body + "]}"))
    });
}

/// The protocols whose state stands beside what it belongs to.
fn families() {
    families_in_use();
    families_under_attack();
}

fn families_in_use() {
    heading("Protocols with whole thoughts: request path, hist_200");
    for family in Family::ALL {
        let (name, head, talk) = (family.name(), family.head(), Talk::new(family, 200));
        let engine = talk.taught();
        let (stripped, full) = (talk.body(|_| false, false), talk.body(|_| true, false));
        let (last1, anew, full_anew) =
            (talk.body(|at| at != 199, false), talk.body(|_| false, true), talk.body(|_| true, true));
        for (body, expected) in [(&stripped, &full), (&last1, &full), (&anew, &full_anew)] {
            let given = pass(&engine, &head, body);
            assert!(given == *expected, "{name}: not the same bytes");
        }
        assert_eq!(pass(&engine, &head, &full).as_ptr(), full.as_ptr(), "{name}: copied");
        let [restore, last, nothing, written_anew, copy, find, serde] = least(
            BUDGET * 2,
            [
                &mut || drop(black_box(pass(&engine, &head, &stripped))),
                &mut || drop(black_box(pass(&engine, &head, &last1))),
                &mut || drop(black_box(pass(&engine, &head, &full))),
                &mut || drop(black_box(pass(&engine, &head, &anew))),
                &mut || workload::memcpy(&full),
                &mut || workload::memchr(&full),
                &mut || drop(black_box(serde_json::from_slice::<&serde_json::value::RawValue>(&full))),
            ],
        );
        let floor = nothing + copy;
        for (what, measured) in [("restore all", restore), ("last1", last), ("arguments written anew", written_anew)] {
            let beside = format!("pass + memcpy {}", time(floor));
            row(&format!("{name}, {what}"), &time(measured), &beside, &x(measured / floor), "P3 ≤ 1.5");
        }
        row(
            &format!("{name}, nothing to do"),
            &time(nothing),
            &format!("memchr {}", time(find)),
            &x(nothing / find),
            "P2 ≤ 20",
        );
        let per_byte = format!("{:.3} ns/B", nothing / full.len() as f64);
        row(
            &format!("{name}, nothing to do"),
            &per_byte,
            &format!("RawValue of the whole {}", time(serde)),
            &x(nothing / serde),
            "",
        );
    }
    heading("Protocols with whole thoughts: per event of text (500 events)");
    for family in Family::ALL {
        let (engine, head, response) = (workload::engine(), family.head(), family.events(500));
        let request = family.body("", "");
        for chunk in [206, 16 << 10] {
            let [all, none, find] = least(
                BUDGET,
                [
                    &mut || feed(&engine, &head, &request, &response, chunk),
                    &mut || feed(&engine, &head, &request, b"", chunk),
                    &mut || response.chunks(chunk).for_each(workload::memchr),
                ],
            );
            let (event, find) = ((all - none) / 500.0, find / 500.0);
            row(
                &format!("{}, {chunk} B chunks", family.name()),
                &time(event),
                &format!("memchr {}", time(find)),
                &x(event / find),
                "P6 ≤ 280 ns",
            );
        }
    }
}

fn families_under_attack() {
    let only = std::env::args().find_map(|argument| Some(argument.strip_prefix("only=")?.to_owned()));
    heading("Protocols with whole thoughts: adversarial, time per byte at two sizes");
    for family in Family::ALL {
        let head = family.head();
        for (name, sizes, build) in workload::family::adversarial(family) {
            let name = format!("{}, {name}", family.name());
            if !only.as_ref().is_none_or(|only| name.starts_with(only)) {
                continue;
            }
            let [a, b] = sizes.map(build);
            let [small, large] = least(
                BUDGET / 2,
                [&mut || drop(black_box(pass(&a.0, &head, &a.1))), &mut || drop(black_box(pass(&b.0, &head, &b.1)))],
            );
            let (small, large) = (small / a.1.len() as f64, large / b.1.len() as f64);
            row(
                &name,
                &format!("{large:.2} ns/B"),
                &format!("smaller {small:.2} ns/B"),
                &x(large / small),
                "P4 linear",
            );
        }
    }
}

fn turn(id: u64, size: usize) -> Arc<Turn> {
    let mut part = TurnPart::new(Kind::Call, Anchor::from_bytes(u128::from(id).to_le_bytes()));
    part.state = Some(Item::new(Bytes::from(vec![b'x'; size])));
    let anchor = Anchor::from_bytes([1; 16]);
    let context = History::new(anchor, anchor, 0, []);
    Arc::new(Turn::new(TurnId::new(id.into()), context, vec![Alternative::new(0, vec![part])], false))
}

fn scope(number: u64) -> Scope {
    let mut random = Random::new(number);
    let mut bytes = [0; 32];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
    Scope::from_bytes(bytes)
}

/// The 50th and 99.9th percentile of `operations` on each of several threads.
fn percentiles(threads: u64, operations: u64, operation: &(impl Fn(u64) + Sync)) -> (f64, f64) {
    let mut times: Vec<u64> = std::thread::scope(|threads_scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                threads_scope.spawn(move || {
                    let mut times = Vec::with_capacity(usize::try_from(operations).unwrap());
                    for at in 0..operations {
                        let start = Instant::now();
                        operation(thread * operations + at);
                        times.push(u64::try_from(start.elapsed().as_nanos()).unwrap());
                    }
                    times
                })
            })
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    });
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize] as f64;
    (at(0.5), at(0.999))
}

fn store() {
    heading("Memory store at capacity (10,240 ledgers), the clock included; best of 15 rounds");
    const LEDGERS: u64 = 10_240;
    const OPERATIONS: u64 = 20_000;
    let store = MemoryStore::new();
    for number in 0..LEDGERS {
        drop(store.append(&scope(number), turn(number, 1_536)));
    }
    let best = |threads: u64, operation: &(dyn Fn(u64) + Sync)| {
        let mut best = (f64::INFINITY, f64::INFINITY);
        for _ in 0..15 {
            let (half, most) = percentiles(threads, OPERATIONS, &|at| operation(at));
            best = (best.0.min(half), best.1.min(most));
        }
        best
    };
    let clock = best(1, &|at| _ = black_box(at));
    // New ledgers are made beforehand: their cost is the observer's.
    let next = std::sync::atomic::AtomicU64::new(LEDGERS);
    for threads in [1, 2] {
        let get = best(threads, &|at| {
            drop(black_box(now(store.load(&scope(at.wrapping_mul(7) % LEDGERS)))));
        });
        let label = if threads == 1 { "1 thread" } else { "2 threads" };
        row(&format!("get p50, {label}"), &time(get.0), &format!("clock {}", time(clock.0)), "", "P9 ≤ 150 ns");
        row(&format!("get p99.9, {label}"), &time(get.1), &format!("clock {}", time(clock.1)), "", "");
        let turns: Vec<_> = (0..threads * OPERATIONS).map(|at| turn(at + 1_000_000, 1_536)).collect();
        let put = best(threads, &|at| {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            drop(black_box(store.append(&scope(number), turns[usize::try_from(at).unwrap()].clone())));
        });
        row(
            &format!("put and evict p50, {label}"),
            &time(put.0),
            &format!("clock {}", time(clock.0)),
            "",
            "P9 ≤ 500 ns",
        );
        row(
            &format!("put and evict p99.9, {label}"),
            &time(put.1),
            &format!("clock {}", time(clock.1)),
            "",
            "P9 ≤ 5 µs",
        );
    }
}

/// A provider in this process that answers with these frames.
#[derive(Clone)]
struct Provider(Arc<[Bytes]>);

struct Frames(Arc<[Bytes]>, usize);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let next = self.0.get(self.1).cloned();
        self.1 += 1;
        Poll::Ready(next.map(|frame| Ok(http_body::Frame::data(frame))))
    }
}

impl<B> Service<Request<B>> for Provider {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let response = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(Ok(response.body(Frames(self.0.clone(), 0)).unwrap()))
    }
}

/// The same provider behind a connection of its own: hyper on both ends of a pipe.
#[derive(Clone)]
struct Dialed(Provider);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B> Service<Request<B>> for Dialed
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<hyper::body::Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let provider = self.0.clone();
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(256 << 10);
            let serve = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let mut provider = provider.clone();
                async move {
                    let (head, body) = request.into_parts();
                    body.collect().await?;
                    let response = provider.call(Request::from_parts(head, ())).await;
                    Ok::<_, hyper::Error>(response.unwrap_or_else(|never| match never {}))
                }
            });
            let far = hyper_util::rt::TokioIo::new(far);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(far, serve));
            let near = hyper_util::rt::TokioIo::new(near);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(near).await?;
            tokio::spawn(connection);
            Ok(sender.send_request(request.map(Box::pin)).await?)
        })
    }
}

async fn exchange<S, R>(service: S, body: Bytes)
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>>,
    S::Error: std::fmt::Debug,
    R: http_body::Body<Data = Bytes>,
    R::Error: std::fmt::Debug,
{
    let (head, ()) = Request::from_parts(workload::head(), ()).into_parts();
    let mut request = Request::from_parts(head, Full::new(body));
    request.extensions_mut().insert(Session::new("bench"));
    let response = service.oneshot(request).await.unwrap();
    let mut body = std::pin::pin!(response.into_body());
    while let Some(frame) = body.frame().await {
        black_box(frame.unwrap());
    }
}

/// Each event of a stream in a frame of its own.
fn frames(response: &Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = &response[..];
    while let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") {
        frames.push(response.slice_ref(&rest[..end + 4]));
        rest = &rest[end + 4..];
    }
    frames
}

fn tower() {
    heading("Layered against unlayered: one exchange with 5,000 events of about 206 B");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = Conversation::new(3, 0, Calls::Different, 0).full();
    for (name, with_text, target) in [("without text", false, "P7 ≤ 1.12"), ("with text", true, "P7 ≤ 1.40")] {
        let response = workload::sse(with_text);
        let provider = Provider(frames(&response).into());
        let layer = ReplayLayer::builder(MemoryStore::new()).build_layer().unwrap();
        let layered = layer.layer(provider.clone());
        let [with, without] = least(
            BUDGET,
            [&mut || runtime.block_on(exchange(layered.clone(), request.clone())), &mut || {
                runtime.block_on(exchange(provider.clone(), request.clone()))
            }],
        );
        row(
            &format!("scripted service, {name}"),
            &time(with),
            &time(without),
            &format!("+{} per event", time((with - without) / 5_000.0)),
            "",
        );
        let dialed = Dialed(provider);
        let layered = layer.layer(dialed.clone());
        let [with, without] = least(
            BUDGET * 4,
            [&mut || runtime.block_on(exchange(layered.clone(), request.clone())), &mut || {
                runtime.block_on(exchange(dialed.clone(), request.clone()))
            }],
        );
        row(&format!("hyper over a pipe, {name}"), &time(with), &time(without), &x(with / without), target);
    }
}
