//! Ledgers on a server of Redis or Valkey.

mod breaker;
mod builder;
mod fault;
mod near;
mod nodes;
mod outliving;
mod read;
mod script;
mod seal;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::{Value, aio::ConnectionLike};
use tokio::{runtime::Handle, time};

use self::{
    breaker::Breaker,
    builder::Settings,
    fault::Fault,
    near::{Known, Near},
    outliving::Outliving,
    read::{Read, id_bytes},
    script::{Scripts, list, number, string},
};
pub use self::{
    builder::{RedisStoreBuilder, RedisStoreError},
    seal::Seal,
};
use super::{Appended, Reply, Store, StoreError};
use crate::{
    ledger::{Context, ItemRef, Ledger, Turn, TurnId},
    scope::Scope,
};

/// Of how many turns a ledger remembers what was removed.
const TOMBSTONES: usize = 1_024;
/// How often an operation takes another look when others change the same turn.
const ROUNDS: usize = 8;
/// How many keys a batch of a `clear` looks at, roughly.
const SCANNED_AT_ONCE: usize = 512;
/// How long to wait before the first retry.
const BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// Keeps ledgers on a server of Redis (6 and later) or Valkey, so that several replicas of a gateway share them and
/// they survive a restart.
///
/// It works over any asynchronous connection of the crate [`redis`] that can be cloned. Take one that connects again
/// on its own: a `ConnectionManager`, or a `ClusterConnection`. A `MultiplexedConnection` that was lost stays lost. A
/// server that vanishes without closing its connections is noticed by TCP alone, so give the connection a short user
/// timeout or keep-alive (`redis::io::tcp::TcpSettings`).
/// It needs a tokio runtime with time enabled. Cloning is cheap; all clones are one store.
///
/// All replicas need the same [hash key](crate::engine::Builder::hash_key), else none finds what another stored.
///
/// # What is promised
///
/// - Appends merge, whichever replicas they come from and however they interleave: each is one script that the server
///   runs as a whole, and that costs what it changes, not what the ledger holds.
/// - A load asks the primary, always. It takes one round trip, and transfers only what has changed since this process
///   has seen the ledger; all of it if that is not known, or more than 64 writes ago. A commit takes one round trip.
/// - A load that nobody waits for any more goes on until it is through or its time is over: the first load of a large
///   ledger may take longer than the engine waits, and the next one finds what it has brought.
/// - What was removed does not come back with an append that was late, as long as the ledger lives and fewer than 1,024
///   turns had something removed after it.
/// - Every operation ends within the [operation timeout](RedisStoreBuilder::operation_timeout); while the server does
///   not answer, [few](RedisStoreBuilder::breaker) wait for it.
/// - What cannot be read (damaged, sealed with another key, of a later format) is as if it were not there, turn by
///   turn. Something else under the key of a ledger is as if it were not there, and is replaced by the next append.
///
/// # What is not promised
///
/// - An append that the server has acknowledged may be lost if it fails over to a replica that has not seen it, or
///   restarts without persistence. Then a turn is missing, as if it had expired.
/// - Nothing says how many ledgers the server keeps: give it `maxmemory` and a policy that evicts (`volatile-lru`,
///   `allkeys-lru`). With `noeviction` appends fail when it is full.
/// - A reader of an older release takes the whole ledger for absent if a later one stores it in another layout, and
///   replaces it with its next append. Turns in another format only are passed over.
/// - [`clear`](Store::clear) scans the server, or each primary of a cluster, in small batches, asks until it is through,
///   and forgets neither what is written meanwhile nor what is just then on its way to another node. It may be used
///   while the server is left alone after failures, and fails when a batch fails.
///
/// # What is stored
///
/// One hash for each ledger, under the prefix and 64 hexadecimal digits of its [`Scope`], which is a keyed hash: keys
/// name neither session nor tenant. It holds what has to be put back, and keyed hashes of what surrounded it; whoever
/// can read the server can read that, unless it is [sealed](RedisStoreBuilder::seal).
///
/// # Limits
///
/// | bound | default |
/// |---|---|
/// | [time to live](RedisStoreBuilder::ttl) after the last load or append | 1 hour |
/// | [items and bytes of one ledger](RedisStoreBuilder::limits) | 4,096, 16 MiB |
/// | [ledgers and bytes kept in this process](RedisStoreBuilder::near_cache) | 256, 64 MiB |
/// | [time of an operation](RedisStoreBuilder::operation_timeout) | 1 second |
/// | [retries](RedisStoreBuilder::retries) of a commit | 3 |
/// | [failures in a row, and time between attempts after them](RedisStoreBuilder::breaker) | 3, 1 second |
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use tower_reasoning_replay::{
///     ReplayLayer,
///     scope::HashKey,
///     store::{RedisStore, Seal},
/// };
///
/// # async fn example(hash_key: [u8; 32], seal_key: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
/// let client = redis::Client::open("redis://127.0.0.1/")?;
/// let connection = client.get_connection_manager().await?;
/// let store = RedisStore::builder(connection)
///     .ttl(Duration::from_secs(2 * 60 * 60))
///     .seal(Seal::new(seal_key))
///     .build()?;
/// let replay = ReplayLayer::builder(store).hash_key(HashKey::from_bytes(hash_key)).build_layer()?;
/// # Ok(())
/// # }
/// ```
pub struct RedisStore<C>(Arc<Shared<C>>);

/// What a [`RedisStore`] has done since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisSnapshot {
    /// How many loads found a ledger as it was known in this process.
    pub same: u64,
    /// How many loads found a ledger that had changed.
    pub changed: u64,
    /// How many of all loads transferred a whole ledger, and not only what had changed.
    pub whole: u64,
    /// How many loads found none.
    pub missed: u64,
    /// How many turns were read in vain: damaged, sealed with another key or of a later format. Something else under
    /// the key of a ledger counts as one.
    pub damaged: u64,
    /// How often the server was left alone after failures.
    pub opened: u64,
    /// Whether it is left alone now.
    pub is_open: bool,
    /// How many operations were not tried because of that.
    pub refused: u64,
    /// How many attempts followed one that had failed.
    pub retried: u64,
    /// How many operations ended with an error, those that were not tried left aside.
    pub failed: u64,
}

#[derive(Default)]
struct Counters {
    same: AtomicU64,
    changed: AtomicU64,
    whole: AtomicU64,
    missed: AtomicU64,
    damaged: AtomicU64,
    refused: AtomicU64,
    retried: AtomicU64,
    failed: AtomicU64,
}

struct Shared<C> {
    connection: C,
    settings: Settings,
    ttl: String,
    near: Near,
    breaker: Breaker,
    scripts: Scripts,
    counters: Counters,
}

/// Whose breaker it is.
struct Owner<C>(Arc<Shared<C>>);

impl<C> AsRef<Breaker> for Owner<C> {
    fn as_ref(&self) -> &Breaker {
        &self.0.breaker
    }
}

/// Names one state of a ledger. Drawn at random for each write, so that two states never share one, whichever
/// server, replica or backup they come from; compared for equality only.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version([u8; 32]);

impl Version {
    fn random() -> Result<Self, Fault> {
        let bytes: [u8; 16] = random()?;
        let mut digits = [0; 32];
        for (digits, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *digits = [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        }
        Ok(Self(digits))
    }

    fn of(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }
}

fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Fault::NoRandomness)?;
    Ok(bytes)
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    /// A store with the defaults over this connection. Nothing is sent.
    #[must_use]
    pub fn new(connection: C) -> Self {
        Self::with(Self::builder(connection))
    }

    /// Begins a store over this connection.
    pub fn builder(connection: C) -> RedisStoreBuilder<C> {
        RedisStoreBuilder { connection, settings: Settings::default() }
    }

    /// What the store has done so far.
    #[must_use]
    pub fn snapshot(&self) -> RedisSnapshot {
        let Shared { counters, breaker, .. } = &*self.0;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RedisSnapshot {
            same: of(&counters.same),
            changed: of(&counters.changed),
            whole: of(&counters.whole),
            missed: of(&counters.missed),
            damaged: of(&counters.damaged),
            opened: breaker.opened(),
            is_open: breaker.is_open(),
            refused: of(&counters.refused),
            retried: of(&counters.retried),
            failed: of(&counters.failed),
        }
    }

    fn with(builder: RedisStoreBuilder<C>) -> Self {
        let RedisStoreBuilder { connection, settings } = builder;
        Self(Arc::new(Shared {
            connection,
            ttl: settings.ttl.as_millis().to_string(),
            near: Near::new(settings.near_entries, settings.near_bytes),
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_interval),
            scripts: Scripts::new(),
            counters: Counters::default(),
            settings,
        }))
    }

    /// Begins an operation, unless the server is left alone.
    fn begin<T, F>(
        &self,
        outlives: bool,
        retries: u32,
        attempt: impl Fn(Arc<Shared<C>>) -> F + Send + Sync + 'static,
    ) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let shared = self.0.clone();
        if shared.breaker.refuses() {
            count(&shared.counters.refused, 1);
            return Reply::failed(StoreError::new(Fault::Open));
        }
        let given_up = Arc::new(AtomicBool::new(false));
        let work = {
            let (shared, given_up) = (shared.clone(), given_up.clone());
            async move { shared.run(retries, &given_up, attempt).await.map_err(StoreError::new) }
        };
        // A commit that is dropped was given up; a load that is late still saves the next one from being so.
        if outlives {
            Reply::pending(Outliving::new(Owner(shared), given_up, Box::pin(work)))
        } else {
            Reply::pending(work)
        }
    }
}

impl<C> Clone for RedisStore<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.0.settings;
        f.debug_struct("RedisStore")
            .field("prefix", &settings.prefix)
            .field("sealed", &settings.seal.is_some())
            .field("is_open", &self.0.breaker.is_open())
            .finish_non_exhaustive()
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Store for RedisStore<C> {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        let scope = *scope;
        self.begin(true, 0, move |shared| async move { shared.load(&scope).await })
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        if !Ledger::admits(&turn, &self.0.settings.limits) {
            return Reply::ready(Appended::new(1));
        }
        let scope = *scope;
        self.begin(false, self.0.settings.retries, move |shared| {
            let turn = turn.clone();
            async move { shared.append(&scope, turn).await }
        })
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        if items.is_empty() {
            return Reply::ready(0);
        }
        let mut named: BTreeMap<u128, BTreeSet<(u32, u32)>> = BTreeMap::new();
        for item in items {
            named.entry(item.turn.value()).or_default().insert((item.alternative, item.part));
        }
        let (scope, named) = (*scope, Arc::new(named));
        self.begin(false, self.0.settings.retries, move |shared| {
            let named = named.clone();
            async move { shared.remove(&scope, &named).await }
        })
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        let scope = *scope;
        self.begin(false, self.0.settings.retries, move |shared| async move { shared.forget(&scope).await })
    }

    fn clear(&self) -> Reply<()> {
        let shared = self.0.clone();
        Reply::pending(async move { shared.clear().await.map_err(StoreError::new) })
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Shared<C> {
    /// Runs an operation within its bound, and tells the breaker how it went.
    async fn run<T, F>(
        self: Arc<Self>,
        retries: u32,
        given_up: &AtomicBool,
        attempt: impl Fn(Arc<Self>) -> F + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        if Handle::try_current().is_err() {
            count(&self.counters.failed, 1);
            return Err(Fault::NoRuntime);
        }
        let Some(watch) = self.breaker.admit() else {
            count(&self.counters.refused, 1);
            return Err(Fault::Open);
        };
        let attempts = async {
            let mut tried = 0;
            loop {
                match attempt(self.clone()).await {
                    Err(fault) if tried < retries && fault.may_pass() => {
                        time::sleep(backoff(tried)).await;
                        tried += 1;
                        count(&self.counters.retried, 1);
                    }
                    outcome => return outcome,
                }
            }
        };
        let outcome = time::timeout(self.settings.operation_timeout, attempts).await.unwrap_or(Err(Fault::TimedOut));
        match &outcome {
            Ok(_) => watch.succeeded(),
            Err(fault) => {
                count(&self.counters.failed, 1);
                // Who gave it up has said so.
                let is_known = given_up.load(Ordering::Relaxed);
                if fault.is_of_the_server() && !is_known { watch.failed() } else { watch.void() }
            }
        }
        outcome
    }

    fn key(&self, scope: &Scope) -> Arc<[u8]> {
        script::key(&self.settings.prefix, scope.as_bytes())
    }

    fn seal(&self) -> Option<&Seal> {
        self.settings.seal.as_ref()
    }

    async fn load(&self, scope: &Scope) -> Result<Option<Arc<Ledger>>, Fault> {
        let known = self.near.get(scope);
        let held: &[u8] = known.as_ref().map_or(&[], |known| &known.version.0);
        let write = known.as_ref().map_or_else(String::new, |known| known.write.to_string());
        let args = [held, write.as_bytes(), self.ttl.as_bytes()];
        let ledger = match self.scripts.load.call(&self.connection, &self.key(scope), &args).await? {
            Value::Nil => None,
            Value::Array(mut answer) => {
                let what = if answer.is_empty() { None } else { string(answer.remove(0)) };
                let (read, was_whole) = match (what.as_deref(), known) {
                    (Some(b"since"), Some(known)) => {
                        (read::since(&known.ledger, answer, scope, self.seal()).await, known.whole)
                    }
                    (Some(b"all"), _) => {
                        count(&self.counters.whole, 1);
                        let fields = answer.pop().and_then(list).ok_or(Fault::Answer)?;
                        (read::ledger(fields, scope, self.seal()).await, true)
                    }
                    _ => return Err(Fault::Answer),
                };
                let Read { version, write, ledger, damaged } = read.ok_or(Fault::Answer)?;
                count(&self.counters.damaged, damaged);
                let (ledger, whole) = (Arc::new(ledger), was_whole && damaged == 0);
                self.near.insert(scope, Known { version, write, ledger: ledger.clone(), whole });
                Some((ledger, &self.counters.changed))
            }
            answer => match (&*string(answer).ok_or(Fault::Answer)?, known) {
                (b"same", Some(known)) => Some((known.ledger, &self.counters.same)),
                (b"foreign", _) => {
                    count(&self.counters.damaged, 1);
                    None
                }
                _ => return Err(Fault::Answer),
            },
        };
        // What is empty keeps no more than what was removed.
        match ledger.filter(|(ledger, _)| !ledger.is_empty()) {
            Some((ledger, counter)) => {
                count(counter, 1);
                Ok(Some(ledger))
            }
            None => {
                count(&self.counters.missed, 1);
                Ok(None)
            }
        }
    }

    async fn append(&self, scope: &Scope, whole: Arc<Turn>) -> Result<Appended, Fault> {
        let (key, limits) = (self.key(scope), self.settings.limits);
        let (mut turn, mut removed) = (whole.clone(), Bytes::new());
        for _ in 0..ROUNDS {
            let version = Version::random()?;
            let numbers = [limits.items, limits.bytes, turn.items(), turn.bytes()].map(|number| number.to_string());
            let value = seal::pack(self.seal(), scope, &turn)?;
            let context = context(turn.context());
            let args: [&[u8]; 11] = [
                &version.0,
                self.ttl.as_bytes(),
                numbers[0].as_bytes(),
                numbers[1].as_bytes(),
                &id_bytes(turn.id()),
                numbers[2].as_bytes(),
                numbers[3].as_bytes(),
                if turn.is_provisional() { b"1" } else { b"0" },
                context.as_bytes(),
                &value,
                &removed,
            ];
            let answer = self.scripts.append.call(&self.connection, &key, &args).await?;
            let (what, with, gone, write) = appended(answer).ok_or(Fault::Answer)?;
            match &*what {
                b"done" => {
                    let before = if with.is_empty() { None } else { Some(Version::of(&with).ok_or(Fault::Answer)?) };
                    self.near.follow(scope, before, (version, write), |ledger| ledger.append(turn, &limits) == gone);
                    return Ok(Appended::new(gone));
                }
                b"older" => return Ok(Appended::default()),
                b"removed" => {
                    // Some of it was removed before it came, and stays so.
                    let items: Vec<_> =
                        places(&with).map(|(alternative, part)| ItemRef::new(whole.id(), alternative, part)).collect();
                    let (rest, gone) = whole.without(&items);
                    if gone > 0 && rest.items() == 0 {
                        return Ok(Appended::default());
                    }
                    (turn, removed) = (Arc::new(rest), with);
                }
                _ => return Err(Fault::Answer),
            }
        }
        Err(Fault::Contended)
    }

    async fn remove(&self, scope: &Scope, named: &BTreeMap<u128, BTreeSet<(u32, u32)>>) -> Result<usize, Fault> {
        let key = self.key(scope);
        let ids: Vec<[u8; 16]> = named.keys().map(|id| id_bytes(TurnId::new(*id))).collect();
        let args: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
        for _ in 0..ROUNDS {
            let found = match self.scripts.find.call(&self.connection, &key, &args).await? {
                Value::Nil => return Ok(0),
                found => list(found).filter(|found| found.len() == 3 * ids.len()).ok_or(Fault::Answer)?,
            };
            let changes = self.changes(scope, named, found)?;
            if changes.is_empty() {
                return Ok(0);
            }
            let (version, most) = (Version::random()?, TOMBSTONES.to_string());
            let mut args: Vec<&[u8]> = vec![&version.0, self.ttl.as_bytes(), most.as_bytes()];
            for change in &changes {
                args.extend(change.args.iter().map(|arg| &arg[..]));
            }
            let answer = self.scripts.remove.call(&self.connection, &key, &args).await?;
            let (what, before, write) = removed(answer).ok_or(Fault::Answer)?;
            match &*what {
                b"done" => {
                    let items: Vec<ItemRef> = changes.iter().flat_map(|change| change.items.iter().copied()).collect();
                    let gone = changes.iter().map(|change| change.gone).sum();
                    let before = Version::of(&before).ok_or(Fault::Answer)?;
                    self.near.follow(scope, Some(before), (version, write), |ledger| ledger.remove(&items) == gone);
                    return Ok(gone);
                }
                b"gone" => return Ok(0),
                b"again" => {}
                _ => return Err(Fault::Answer),
            }
        }
        Err(Fault::Contended)
    }

    /// What has to change so that these items are no more, given the head, the turn and the tombstone of each.
    fn changes(
        &self,
        scope: &Scope,
        named: &BTreeMap<u128, BTreeSet<(u32, u32)>>,
        found: Vec<Value>,
    ) -> Result<Vec<Change>, Fault> {
        let mut changes = Vec::new();
        let mut found = found.into_iter().map(string);
        for (id, places_named) in named {
            let id = TurnId::new(*id);
            let (head, value, tombstone) = (found.next(), found.next(), found.next());
            let (Some(Some(head)), Some(Some(value))) = (head, value) else { continue };
            let tombstone = tombstone.flatten().unwrap_or_default();
            let Some(turn) = seal::unpack(self.seal(), scope, id, value) else { continue };
            let items: Vec<ItemRef> = places_named
                .iter()
                .map(|(alternative, part)| ItemRef::new(id, *alternative, *part))
                .filter(|item| turn.part(item).is_some_and(|part| part.has_state() || part.has_whole()))
                .collect();
            if items.is_empty() {
                continue;
            }
            let (rest, gone) = turn.without(&items);
            let removed: BTreeSet<(u32, u32)> =
                places(&tombstone).chain(items.iter().map(|item| (item.alternative, item.part))).collect();
            let removed: Vec<u8> = removed
                .iter()
                .flat_map(|(alternative, part)| [alternative.to_le_bytes(), part.to_le_bytes()])
                .flatten()
                .collect();
            let value = if rest.items() > 0 { seal::pack(self.seal(), scope, &rest)? } else { Vec::new() };
            let (items_left, bytes_left) = (rest.items().to_string(), rest.bytes().to_string());
            let args = [
                Bytes::copy_from_slice(&id_bytes(id)),
                head,
                tombstone,
                removed.into(),
                items_left.into(),
                bytes_left.into(),
                value.into(),
            ];
            changes.push(Change { args, items, gone });
        }
        Ok(changes)
    }

    async fn forget(&self, scope: &Scope) -> Result<bool, Fault> {
        let answer = self.scripts.forget.call(&self.connection, &self.key(scope), &[]).await?;
        self.near.remove(scope);
        Ok(number(&answer).ok_or(Fault::Answer)? > 0)
    }

    async fn clear(&self) -> Result<(), Fault> {
        if Handle::try_current().is_err() {
            return Err(Fault::NoRuntime);
        }
        let (pattern, at_once) = (script::pattern(&self.settings.prefix), SCANNED_AT_ONCE.to_string());
        for node in self.in_time(nodes::keys(&self.connection)).await? {
            let mut cursor = Bytes::from_static(b"0");
            loop {
                let args = [&cursor[..], pattern.as_bytes(), at_once.as_bytes(), self.settings.prefix.as_bytes()];
                let batch = self.scripts.clear.call(&self.connection, node.as_bytes(), &args);
                let next = list(self.in_time(batch).await?).and_then(|answer| answer.into_iter().next());
                cursor = next.and_then(string).ok_or(Fault::Answer)?;
                if &*cursor == b"0" {
                    break;
                }
            }
        }
        self.near.clear();
        Ok(())
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let outcome = time::timeout(self.settings.operation_timeout, work).await.unwrap_or(Err(Fault::TimedOut));
        outcome.inspect_err(|_| count(&self.counters.failed, 1))
    }
}

/// How a turn changes when something of it is removed.
struct Change {
    args: [Bytes; 7],
    items: Vec<ItemRef>,
    gone: usize,
}

/// How long to wait before the next attempt, after so many retries.
fn backoff(tried: u32) -> Duration {
    let wait = BACKOFF.saturating_mul(1_u32.checked_shl(tried).unwrap_or(u32::MAX)).min(LONGEST_BACKOFF);
    // So that replicas that failed together do not come back together.
    let [jitter] = random().unwrap_or([0]);
    wait + wait * u32::from(jitter) / 512
}

/// What turns must share for one to supersede the other, as digits.
fn context(context: &Context) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(context.system().as_bytes());
    hasher.update(context.before().as_bytes());
    hasher.update(&context.depth().to_le_bytes());
    let mut digits = hasher.finalize().to_hex().to_string();
    digits.truncate(32);
    digits
}

/// The places of the items that a tombstone names.
fn places(tombstone: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let (places, _) = tombstone.as_chunks::<8>();
    places.iter().map(|[a, b, c, d, rest @ ..]| (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes(*rest)))
}

fn appended(answer: Value) -> Option<(Bytes, Bytes, usize, u64)> {
    let [what, with, gone, write] = <[Value; 4]>::try_from(list(answer)?).ok()?;
    Some((string(what)?, string(with)?, number(&gone)?, number(&write)? as u64))
}

fn removed(answer: Value) -> Option<(Bytes, Bytes, u64)> {
    let [what, before, write] = <[Value; 3]>::try_from(list(answer)?).ok()?;
    Some((string(what)?, string(before)?, number(&write)? as u64))
}
