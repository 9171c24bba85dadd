//! What is counted: made in one process, run in another.

use std::{hint::black_box, path::Path, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tower_reasoning_replay::{Engine, Store, scope::Scope, store::codec};

use crate::{
    told::Told,
    workload::{
        self, attack,
        pipe::Pipe,
        talk::{self, Dialect, Form, Says, Talk},
    },
};

/// The function inside of which callgrind counts.
pub(crate) const COUNTED: &str = "count_what_happens_in_here";

/// The function before which it dumps. (It dumps after a function only if it was counting before it.)
pub(crate) const DUMPED: &str = "dump_what_was_counted";

/// How often each is counted. The least counts.
pub(crate) const TIMES: usize = 3;

#[inline(never)]
fn count_what_happens_in_here(thing: &mut dyn FnMut()) {
    thing();
    black_box(());
}

#[inline(never)]
fn dump_what_was_counted() {
    black_box(());
}

/// What is done with the bodies of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A request is prepared, and becomes one of this length.
    Prepare,
    /// A request is prepared, and what follows it settled, as while its answer is awaited.
    Settle,
    /// A response is observed.
    Observe,
    /// A response comes through hyper, without the layer and with it.
    Bare,
    Layered,
}

const KINDS: [Kind; 5] = [Kind::Prepare, Kind::Settle, Kind::Observe, Kind::Bare, Kind::Layered];

pub(crate) struct Case {
    kind: Kind,
    dialect: Dialect,
    /// The size of the pieces of a response, or the length of what a request becomes.
    number: usize,
    request: Bytes,
    response: Bytes,
    turns: Vec<(Scope, Bytes)>,
}

/// What stands before a field.
fn put(out: &mut BytesMut, field: &[u8]) {
    out.put_u64(field.len() as u64);
    out.put_slice(field);
}

fn get(from: &mut Bytes) -> Bytes {
    let length = usize::try_from(from.get_u64()).unwrap();
    from.split_to(length)
}

impl Case {
    fn write(&self, file: &Path) {
        let mut out = BytesMut::new();
        out.put_u8(KINDS.iter().position(|kind| *kind == self.kind).unwrap() as u8);
        out.put_u8(Dialect::ALL.iter().position(|dialect| *dialect == self.dialect).unwrap() as u8);
        out.put_u64(self.number as u64);
        put(&mut out, &self.request);
        put(&mut out, &self.response);
        for (scope, turn) in &self.turns {
            out.put_slice(scope.as_bytes());
            put(&mut out, turn);
        }
        std::fs::write(file, out).unwrap();
    }

    pub(crate) fn read(file: &Path) -> Self {
        let mut from = Bytes::from(std::fs::read(file).unwrap());
        let (kind, dialect) = (KINDS[usize::from(from.get_u8())], Dialect::ALL[usize::from(from.get_u8())]);
        let number = usize::try_from(from.get_u64()).unwrap();
        let (request, response) = (get(&mut from), get(&mut from));
        let mut turns = Vec::new();
        while from.has_remaining() {
            let mut scope = [0; 32];
            from.copy_to_slice(&mut scope);
            turns.push((Scope::from_bytes(scope), get(&mut from)));
        }
        Self { kind, dialect, number, request, response, turns }
    }

    /// What is to be done, with everything that it needs.
    pub(crate) fn prepared(self) -> Box<dyn FnMut()> {
        let Self { kind, dialect, number, request, response, turns } = self;
        let store = workload::store();
        for (scope, turn) in turns {
            let turn = codec::decode(&turn).unwrap();
            workload::now(store.append(&scope, Arc::new(turn))).unwrap();
        }
        let engine = workload::engine_with(store);
        let head = dialect.head();
        match kind {
            Kind::Prepare => Box::new(move || {
                let body = workload::pass(&engine, &head, &request);
                assert_eq!(body.len(), number, "the request became another one");
            }),
            Kind::Settle => Box::new(move || {
                let mut exchange = workload::prepare(&engine, &head, &request);
                assert_eq!(exchange.body().len(), number, "the request became another one");
                exchange.settle();
            }),
            Kind::Observe => Box::new(move || workload::feed(&engine, &head, &request, &response, number)),
            Kind::Bare | Kind::Layered => {
                let pipe = Pipe::new(dialect, talk::frames(&response));
                Box::new(move || if kind == Kind::Bare { pipe.bare() } else { pipe.layered() })
            }
        }
    }

    /// Counts some times: the first makes what is made once, and each hashes with other random keys.
    pub(crate) fn run_counted(self) {
        let mut thing = self.prepared();
        for _ in 0..TIMES {
            count_what_happens_in_here(&mut *thing);
            dump_what_was_counted();
        }
    }
}

/// How the names of cases end that measure what follows a request, too.
const SETTLED: &str = ", settled";

/// A store that tells what it learned.
fn told() -> Told {
    Told::by(workload::store())
}

/// Writes cases to files of their names.
struct Maker<'a> {
    directory: &'a Path,
    only: &'a str,
    dialect: Dialect,
    /// The names, and what each is measured in: bytes, mostly.
    made: Vec<(String, u64)>,
}

impl Maker<'_> {
    fn is_wanted(&self, name: &str) -> bool {
        let name = format!("{} {name}", self.dialect.name());
        name.starts_with(self.only)
    }

    fn add(&mut self, name: &str, measure: usize, case: &Case) {
        let name = format!("{} {name}", self.dialect.name());
        if name.starts_with(self.only) {
            case.write(&self.directory.join(format!("{name}.case")));
            self.made.push((name, measure as u64));
        }
    }

    /// A request that becomes `expected`, if that is known.
    fn prepare(&mut self, name: &str, engine: &Engine, told: &Told, request: Bytes, expected: Option<&Bytes>) {
        if !self.is_wanted(name) {
            return;
        }
        let became = workload::pass(engine, &self.dialect.head(), &request);
        assert!(expected.is_none_or(|expected| *expected == became), "{name}: not the same bytes");
        let turns = told.turns().iter().map(|(scope, turn)| (*scope, codec::encode(turn))).collect();
        let (measure, number) = (request.len(), became.len());
        let kind = if name.ends_with(SETTLED) { Kind::Settle } else { Kind::Prepare };
        let case = Case { kind, dialect: self.dialect, number, request, response: Bytes::new(), turns };
        self.add(name, measure, &case);
    }

    fn response(&mut self, name: &str, kind: Kind, response: Bytes, number: usize) {
        let request = self.dialect.question();
        let measure = response.len();
        let case = Case { kind, dialect: self.dialect, number, request, response, turns: Vec::new() };
        self.add(name, measure, &case);
    }
}

/// Makes all cases whose names begin so. Gives their names, and in how many bytes each is measured.
pub(crate) fn build(directory: &Path, only: &str) -> Vec<(String, u64)> {
    let wanted = Dialect::ALL.into_iter().filter(|dialect| only.is_empty() || only.starts_with(dialect.name()));
    std::thread::scope(|scope| {
        let make = |dialect| {
            let mut maker = Maker { directory, only, dialect, made: Vec::new() };
            histories(&mut maker);
            items(&mut maker);
            streams(&mut maker);
            attacked(&mut maker);
            maker.made
        };
        let threads: Vec<_> = wanted.map(|dialect| scope.spawn(move || make(dialect))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn histories(maker: &mut Maker<'_>) {
    let dialect = maker.dialect;
    let head = dialect.head();
    let (told_so_far, long) = (told(), Talk::new(dialect, 1_000));
    let engine = workload::engine_with(told_so_far.clone());
    let mut known = 0;
    for turns in [200, 1_000] {
        if !maker.is_wanted(&format!("hist_{turns}"))
            && !maker.only.starts_with(&format!("{} hist_{turns}", dialect.name()))
        {
            continue;
        }
        long.teach(&engine, known..turns);
        known = turns;
        let talk = Talk { turns: long.turns[..turns].to_vec(), ..Talk::new(dialect, 0) };
        let full = talk.all(Form::Full);
        let mut prepare = |name: &str, body: Bytes, expected: &Bytes| {
            maker.prepare(&format!("hist_{turns} {name}"), &engine, &told_so_far, body, Some(expected));
        };
        prepare("nothing to do", full.clone(), &full);
        prepare("restore all", talk.all(Form::Stripped), &full);
        if turns == 200 {
            prepare("nothing to do, settled", full.clone(), &full);
            prepare("restore all, settled", talk.all(Form::Stripped), &full);
        }
        prepare("last1", talk.last1(), &full);
        prepare("arguments written anew", talk.all(Form::Anew), &talk.all(Form::AnewFull));
        prepare("edited", talk.edited(Form::Stripped), &talk.edited(Form::Full));
        let half = |form| talk.body(turns / 2..turns, |_| form);
        prepare("truncated", half(Form::Stripped), &half(Form::Full));
        // Another branch from the middle on, of which as many turns are known.
        let branch = talk.branch(turns / 2);
        let of_both = told();
        for (scope, turn) in told_so_far.turns() {
            workload::now(of_both.append(&scope, turn)).unwrap();
        }
        let engine = workload::engine_with(of_both.clone());
        branch.teach(&engine, turns / 2..turns);
        let (stripped, full) = (branch.all(Form::Stripped), branch.all(Form::Full));
        maker.prepare(&format!("hist_{turns} branched"), &engine, &of_both, stripped, Some(&full));
    }
    // Of an unknown session nothing is read before it is sent; so these are of one of which little is known.
    let (little, short) = (told(), Talk::new(dialect, 1));
    let engine = workload::engine_with(little.clone());
    short.teach(&engine, 0..1);
    for (name, media) in [("media_2m", 1_200 << 10), ("media_20m", 19_200 << 10)] {
        let name = format!("{name} nothing to do");
        if maker.is_wanted(&name) {
            let talk = Talk { media: dialect.media(media), ..Talk::new(dialect, 200) };
            let full = talk.all(Form::Full);
            assert_eq!(workload::pass(&engine, &head, &full).as_ptr(), full.as_ptr(), "{name}: copied");
            maker.prepare(&name, &engine, &little, full.clone(), Some(&full));
        }
    }
    let plain = talk::plain(dialect, 1_000);
    maker.prepare("plain_2m", &engine, &little, plain.clone(), Some(&plain));
    for (name, body) in [("unknown plain_2m", plain), ("unknown hist_200", Talk::new(dialect, 200).all(Form::Stripped))]
    {
        let nothing = told();
        maker.prepare(name, &workload::engine_with(nothing.clone()), &nothing, body.clone(), Some(&body));
        maker.prepare(
            &format!("{name}{SETTLED}"),
            &workload::engine_with(nothing.clone()),
            &nothing,
            body.clone(),
            Some(&body),
        );
    }
}

/// Histories of turns as small as can be: what counts is how many there are.
fn items(maker: &mut Maker<'_>) {
    for turns in [1_000, 5_000] {
        let name = format!("items_{turns} restore all");
        if maker.is_wanted(&name) {
            let (learned, talk) = (told(), Talk::small(maker.dialect, turns));
            let engine = workload::engine_with(learned.clone());
            // What came before does not matter here, and is left out for the time that it takes.
            let (head, body) = (maker.dialect.head(), maker.dialect.body(&talk.before, ""));
            for turn in &talk.turns {
                workload::learn(&engine, &head, &body, maker.dialect.answer(turn).as_bytes());
            }
            maker.prepare(&name, &engine, &learned, talk.all(Form::Stripped), Some(&talk.all(Form::Full)));
        }
    }
}

fn streams(maker: &mut Maker<'_>) {
    let dialect = maker.dialect;
    for says in [Says::Text, Says::Nothing] {
        let stream = talk::stream(dialect, says);
        for (name, chunk) in [("206 B", 206), ("7 B", 7), ("64 KiB", 64 << 10), ("whole", usize::MAX)] {
            if says == Says::Text || chunk == 206 {
                maker.response(
                    &format!("sse {} in pieces of {name}", says.name()),
                    Kind::Observe,
                    stream.clone(),
                    chunk,
                );
            }
        }
        maker.response(&format!("hyper {} unlayered", says.name()), Kind::Bare, stream.clone(), 0);
        maker.response(&format!("hyper {} layered", says.name()), Kind::Layered, stream, 0);
    }
    for (size, megabytes) in [(1 << 20, 1), (4 << 20, 4)] {
        for (name, chunk) in [("7 B", 7), ("64 KiB", 64 << 10), ("whole", usize::MAX)] {
            let line = talk::line(dialect, size);
            maker.response(&format!("line of {megabytes} MiB in pieces of {name}"), Kind::Observe, line, chunk);
        }
    }
}

fn attacked(maker: &mut Maker<'_>) {
    for attack::Attack { name, sizes, make } in attack::attacks(maker.dialect) {
        for (size, label) in sizes.into_iter().zip(["small", "large"]) {
            let name = format!("attack {name} {label}");
            if maker.is_wanted(&name) {
                let learned = told();
                let engine = workload::engine_with(learned.clone());
                let body = make(size, &engine);
                maker.prepare(&name, &engine, &learned, body, None);
            }
        }
    }
}
