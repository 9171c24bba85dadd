//! A store that counts, and is slow, fails or hangs as it is told.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_reasoning_replay::{
    ledger::{ItemRef, Ledger, Turn},
    scope::Scope,
    store::{Appended, MemoryStore, Reply, Store, StoreError},
};

/// How an operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    AtOnce,
    After(Duration),
    Fails,
    Hangs,
}

#[derive(Debug, Default)]
struct Operation {
    count: AtomicUsize,
    next: Mutex<VecDeque<Mode>>,
    otherwise: Mutex<Option<Mode>>,
}

impl Operation {
    fn mode(&self) -> Mode {
        self.count.fetch_add(1, Ordering::SeqCst);
        let next = self.next.lock().unwrap().pop_front();
        next.or(*self.otherwise.lock().unwrap()).unwrap_or(Mode::AtOnce)
    }
}

#[derive(Debug)]
struct Shared {
    memory: MemoryStore,
    load: Operation,
    append: Operation,
    remove: Operation,
    scopes: Mutex<Vec<Scope>>,
    inline: bool,
    knows: bool,
}

/// Clones share everything.
#[derive(Clone, Debug)]
pub struct TestStore(Arc<Shared>);

impl TestStore {
    /// Appends inline, as the memory store does.
    pub fn new() -> Self {
        Self::with(true, false)
    }

    /// Knows at once what it does not hold.
    pub fn knowing() -> Self {
        Self::with(true, true)
    }

    /// Says that its appends have to be waited for.
    pub fn remote() -> Self {
        Self::with(false, false)
    }

    fn with(inline: bool, knows: bool) -> Self {
        Self(Arc::new(Shared {
            memory: MemoryStore::new(),
            load: Operation::default(),
            append: Operation::default(),
            remove: Operation::default(),
            scopes: Mutex::default(),
            inline,
            knows,
        }))
    }

    pub fn loads(&self) -> usize {
        self.0.load.count.load(Ordering::SeqCst)
    }

    pub fn appends(&self) -> usize {
        self.0.append.count.load(Ordering::SeqCst)
    }

    pub fn removes(&self) -> usize {
        self.0.remove.count.load(Ordering::SeqCst)
    }

    pub fn load_as(&self, mode: Mode) -> &Self {
        *self.0.load.otherwise.lock().unwrap() = Some(mode);
        self
    }

    pub fn append_as(&self, mode: Mode) -> &Self {
        *self.0.append.otherwise.lock().unwrap() = Some(mode);
        self
    }

    pub fn remove_as(&self, mode: Mode) -> &Self {
        *self.0.remove.otherwise.lock().unwrap() = Some(mode);
        self
    }

    pub fn next_load(&self, mode: Mode) -> &Self {
        self.0.load.next.lock().unwrap().push_back(mode);
        self
    }

    pub fn next_append(&self, mode: Mode) -> &Self {
        self.0.append.next.lock().unwrap().push_back(mode);
        self
    }

    /// Every turn of every scope that was appended to.
    pub fn turns(&self) -> Vec<Arc<Turn>> {
        let scopes = self.0.scopes.lock().unwrap().clone();
        let ledgers = scopes.iter().filter_map(|scope| super::now(self.0.memory.load(scope)).unwrap());
        ledgers.flat_map(|ledger| ledger.turns().cloned().collect::<Vec<_>>()).collect()
    }

    /// The pieces of state that are held.
    pub fn states(&self) -> Vec<String> {
        let turns = self.turns();
        let states = turns.iter().flat_map(|turn| turn.parts()).filter_map(|part| part.state());
        states.map(|state| String::from_utf8(state.to_vec()).unwrap()).collect()
    }
}

fn reply<T: Send + Unpin + 'static>(mode: Mode, run: impl FnOnce() -> Reply<T> + Send + 'static) -> Reply<T> {
    match mode {
        Mode::AtOnce => run(),
        Mode::After(time) => Reply::pending(async move {
            tokio::time::sleep(time).await;
            run().await
        }),
        Mode::Fails => Reply::failed(StoreError::new("the store is down")),
        Mode::Hangs => Reply::pending(std::future::pending()),
    }
}

impl Store for TestStore {
    fn load(&self, scope: &Scope) -> Reply<Option<Arc<Ledger>>> {
        let (this, scope) = (self.clone(), *scope);
        reply(self.0.load.mode(), move || this.0.memory.load(&scope))
    }

    fn may_hold(&self, scope: &Scope) -> bool {
        !self.0.knows || self.0.memory.may_hold(scope)
    }

    fn append(&self, scope: &Scope, turn: Arc<Turn>) -> Reply<Appended> {
        let (this, scope) = (self.clone(), *scope);
        let mut scopes = self.0.scopes.lock().unwrap();
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
        drop(scopes);
        reply(self.0.append.mode(), move || this.0.memory.append(&scope, turn))
    }

    fn remove(&self, scope: &Scope, items: &[ItemRef]) -> Reply<usize> {
        let (this, scope, items) = (self.clone(), *scope, items.to_vec());
        reply(self.0.remove.mode(), move || this.0.memory.remove(&scope, &items))
    }

    fn forget(&self, scope: &Scope) -> Reply<bool> {
        self.0.memory.forget(scope)
    }

    fn clear(&self) -> Reply<()> {
        self.0.memory.clear()
    }

    fn appends_inline(&self) -> bool {
        self.0.inline
    }

    fn is_shared(&self) -> bool {
        false
    }
}
