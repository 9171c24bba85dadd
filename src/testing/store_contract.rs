//! The rules that every [`Store`] keeps, as checks that panic with the name of the broken rule.
//!
//! [`store_contract`] runs all of them but [`ledgers_stay_within_limits`], which has to know the limits.
//! Each check is given a store of its own that must be empty; checks of a store that keeps its ledgers
//! on a server need a namespace each. They need a tokio runtime, and find more on one with several threads.
//!
//! # Examples
//!
//! ```
//! use tower_reasoning_replay::{ledger::Limits, store::MemoryStore, testing::store_contract};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! store_contract::store_contract(|| async { MemoryStore::new() }).await;
//! store_contract::ledgers_stay_within_limits(MemoryStore::new(), &Limits::default()).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

use std::{error::Error as StdError, future::Future, sync::Arc};

use bytes::Bytes;

use crate::{
    ledger::{Alternative, Anchor, Context, Item, ItemRef, Kind, Ledger, Limits, Turn, TurnId, TurnPart},
    scope::Scope,
    store::{Store, StoreError},
};

/// Runs every check that needs no more than an empty store, each on one that `make` has made.
///
/// # Panics
///
/// If the store breaks a rule, or answers with an error.
pub async fn store_contract<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future,
    Fut::Output: Store,
{
    an_empty_store_has_nothing(make().await).await;
    what_was_written_is_read(make().await).await;
    raw_bytes_come_back_as_they_were(make().await).await;
    large_turns_come_back_whole(make().await).await;
    appending_again_changes_nothing(make().await).await;
    a_turn_of_the_same_id_is_replaced(make().await).await;
    concurrent_appends_merge(make().await).await;
    a_completed_turn_supersedes_provisional_ones(make().await).await;
    remove_takes_the_named_items_only(make().await).await;
    forget_takes_one_ledger(make().await).await;
    clear_takes_everything(make().await).await;
    scopes_share_nothing(make().await).await;
    a_loaded_ledger_does_not_change(make().await).await;
}

/// Nothing is there before it was appended, and forgetting it is no error.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn an_empty_store_has_nothing<S: Store>(store: S) {
    let rule = "an empty store has nothing";
    check(load(&store, 1).await.is_none(), rule, "`load` found a ledger that nobody wrote");
    check(remove(&store, 1, &[item(1, 0)]).await == 0, rule, "`remove` counted items that were never there");
    check(!forget(&store, 1).await, rule, "`forget` says that there was a ledger");
    clear(&store).await;
    check(load(&store, 1).await.is_none(), rule, "`load` found a ledger after these calls, which must not make one");
}

/// A turn is found by the first load after its append has completed, and turns come oldest first.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn what_was_written_is_read<S: Store>(store: S) {
    let rule = "read your writes";
    let mut written = Vec::new();
    for id in 1..=20 {
        let turn = turn(id, &[&format!("\"state {id}\"")]);
        append(&store, 1, &turn).await;
        written.push(turn);
        let read = turns(&store, 1).await;
        check(read.len() == written.len(), rule, "an append has completed, but the next `load` lacks its turn");
        check(read == written, rule, "the turns are not those that were appended, oldest first");
    }
    let ledger = load(&store, 1).await.unwrap_or_default();
    check(ledger.items() == 20, rule, "the ledger miscounts its items");
    let bytes: usize = written.iter().map(|turn| turn.bytes()).sum();
    check(ledger.bytes() == bytes, rule, "the ledger miscounts its bytes");
}

/// Every field of a turn survives, and raw bytes do so byte for byte, whatever they are.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn raw_bytes_come_back_as_they_were<S: Store>(store: S) {
    let rule = "opaque means opaque";
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut full = TurnPart::new(Kind::Call, anchor(1));
    full.aliases = [anchor(2), anchor(3)].into();
    full.state_at = Some(u32::MAX);
    full.id = Some("call_\u{1F980} \"\\".into());
    full.name = Some("".into());
    full.occurrence = 7;
    full.state = Some(Item::new(Bytes::from(every_byte)));
    full.whole = Some(Bytes::from_static(b"{ \"b\":1.0 ,\"a\" : 1e400, \"b\":\"\\u00e9\\/\" }\r\n"));
    let mut empty = TurnPart::new(Kind::Text, anchor(4));
    empty.state = Some(Item::new(Bytes::new()));
    let bare = [Kind::Thought, Kind::Media, Kind::Native].map(|kind| TurnPart::new(kind, anchor(5)));
    let alternatives =
        vec![Alternative::new(3, vec![full, empty]), Alternative::new(0, bare.to_vec()), Alternative::new(9, vec![])];
    let context = Context::new(anchor(6), anchor(7), u32::MAX, [0, 1, u64::MAX]);
    let turn = Arc::new(Turn::new(TurnId::new(u128::MAX - 1), context, alternatives, true));
    append(&store, 1, &turn).await;
    let read = turns(&store, 1).await;
    check(read.len() == 1, rule, "one turn was appended, but another number is there");
    for (written, read) in turn.parts().zip(read[0].parts()) {
        check(written.state() == read.state(), rule, "the bytes of a state are not those that were appended");
        check(written.whole() == read.whole(), rule, "the bytes of a whole part are not those that were appended");
    }
    check(read[0] == turn, rule, "a field of the turn was lost or changed");
}

/// A turn of several MiB and one of many parts come back whole.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn large_turns_come_back_whole<S: Store>(store: S) {
    let rule = "nothing is ever cut";
    let large = format!("\"{}\"", "0123456789abcdef".repeat(4 << 16));
    let many: Vec<String> = (0..2_000).map(|n| format!("\"{n}\"")).collect();
    let written =
        [turn(1, &[&large]), turn(2, &many.iter().map(String::as_str).collect::<Vec<_>>()), turn(3, &["\"small\""])];
    for turn in &written {
        append(&store, 1, turn).await;
    }
    check(turns(&store, 1).await == written, rule, "a turn of 4 MiB or one of 2,000 parts did not come back as it was");
}

/// Appending a turn twice leaves one, where it was: a commit may be repeated.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn appending_again_changes_nothing<S: Store>(store: S) {
    let rule = "appends are idempotent";
    let written = [turn(1, &["\"a\""]), turn(2, &["\"b\""])];
    for _ in 0..3 {
        for turn in &written {
            append(&store, 1, turn).await;
            // Equal, but another allocation, as after a retry.
            append(&store, 1, &Arc::new(Turn::clone(turn))).await;
        }
    }
    let read = turns(&store, 1).await;
    check(read.len() == 2, rule, "a turn that was appended again is there twice, or was lost");
    check(read == written, rule, "a turn that was appended again has changed its place or its content");
}

/// What follows the end of a response appends to the same turn: the last version of a
/// [`TurnId`] is kept, the others are not.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn a_turn_of_the_same_id_is_replaced<S: Store>(store: S) {
    let rule = "a turn of the same id is replaced";
    append(&store, 1, &turn(1, &["\"a\""])).await;
    append(&store, 1, &turn(2, &["\"b\""])).await;
    append(&store, 1, &turn(1, &["\"a\"", "\"late\""])).await;
    let expected = [turn(1, &["\"a\"", "\"late\""]), turn(2, &["\"b\""])];
    check(turns(&store, 1).await == expected, rule, "the later version did not take the place of the earlier one");
}

/// Turns that are appended to one scope at the same time are all there in the end, also while others
/// load, and each writer finds its own turn at once.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn concurrent_appends_merge<S: Store>(store: S) {
    const WRITERS: u128 = 16;
    const TURNS: u128 = 16;
    let rule = "concurrent appends merge";
    let store = Arc::new(store);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..TURNS {
                    let turn = turn(1 + writer * TURNS + n, &["\"state\""]);
                    append(&*store, 1, &turn).await;
                    check(
                        turns(&*store, 1).await.contains(&turn),
                        rule,
                        "a writer's own turn is missing right after its append: another writer overwrote it",
                    );
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for writer in writers {
        if let Err(failure) = writer.await {
            match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(failure) => panic!("a writer did not finish: {failure}"),
            }
        }
    }
    let mut ids: Vec<u128> = turns(&*store, 1).await.iter().map(|turn| turn.id().value()).collect();
    ids.sort_unstable();
    check(
        ids == (1..=WRITERS * TURNS).collect::<Vec<_>>(),
        rule,
        "in the end turns are missing, or there more than once: appends are not atomic",
    );
}

/// A completed turn drops the provisional ones that had the same preceding history, and no others.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn a_completed_turn_supersedes_provisional_ones<S: Store>(store: S) {
    let rule = "a completed turn supersedes provisional ones";
    let other = turn_after(2, 2, true, &["\"other\""]);
    append(&store, 1, &turn_after(1, 1, true, &["\"cut\""])).await;
    append(&store, 1, &other).await;
    check(turns(&store, 1).await.len() == 2, rule, "provisional turns are not kept");
    let completed = turn_after(3, 1, false, &["\"whole\""]);
    append(&store, 1, &completed).await;
    check(
        turns(&store, 1).await == [other, completed],
        rule,
        "the provisional turn with the same history has to go, the one with another history has to stay",
    );
}

/// `remove` forgets exactly the named items, says how many there were, and leaves neither empty turns
/// nor an empty ledger.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn remove_takes_the_named_items_only<S: Store>(store: S) {
    let rule = "remove takes the named items only";
    let states = |turn: &Turn| -> Vec<bool> { turn.parts().map(|part| part.has_state()).collect() };
    append(&store, 1, &turn(1, &["\"a\"", "\"b\"", "\"c\""])).await;
    append(&store, 1, &turn(2, &["\"d\""])).await;
    append(&store, 2, &turn(1, &["\"a\"", "\"b\"", "\"c\""])).await;
    check(remove(&store, 1, &[]).await == 0, rule, "items were counted though none was named");
    let named = [item(1, 1), item(1, 8), item(7, 0)];
    check(
        remove(&store, 1, &named).await == 1,
        rule,
        "one of the three named items was there; another number was counted",
    );
    let read = turns(&store, 1).await;
    check(read.len() == 2, rule, "a turn that still holds state went");
    check(states(&read[0]) == [true, false, true], rule, "other items than the named one went, or it stayed");
    check(states(&read[1]) == [true], rule, "an item of a turn that was not named went");
    check(remove(&store, 1, &named).await == 0, rule, "an item was counted again that had been removed");
    check(remove(&store, 1, &[item(2, 0)]).await == 1, rule, "the item of the second turn was not found");
    check(turns(&store, 1).await.len() == 1, rule, "a turn that holds nothing more is still there");
    check(
        remove(&store, 1, &[item(1, 0), item(1, 2)]).await == 2,
        rule,
        "two items were named, another number was counted",
    );
    check(
        load(&store, 1).await.is_none_or(|ledger| ledger.is_empty()),
        rule,
        "everything was removed, but turns are there",
    );
    check(states(&turns(&store, 2).await[0]) == [true; 3], rule, "items of another scope went");
}

/// `forget` takes the whole ledger of one scope, says whether there was one, and the scope begins anew.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn forget_takes_one_ledger<S: Store>(store: S) {
    let rule = "forget takes one ledger";
    append(&store, 1, &turn(1, &["\"a\""])).await;
    append(&store, 2, &turn(2, &["\"b\""])).await;
    check(forget(&store, 1).await, rule, "`forget` says that there was no ledger");
    check(load(&store, 1).await.is_none(), rule, "the ledger is still there");
    check(!forget(&store, 1).await, rule, "`forget` says again that there was a ledger");
    check(turns(&store, 2).await == [turn(2, &["\"b\""])], rule, "the ledger of another scope was touched");
    append(&store, 1, &turn(3, &["\"c\""])).await;
    check(
        turns(&store, 1).await == [turn(3, &["\"c\""])],
        rule,
        "a forgotten scope does not begin anew with its next turn",
    );
}

/// `clear` takes every ledger, and the store can be used after it.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn clear_takes_everything<S: Store>(store: S) {
    let rule = "clear takes everything";
    for scope in 1..=100 {
        append(&store, scope, &turn(u128::from(scope), &["\"a\""])).await;
    }
    clear(&store).await;
    for scope in 1..=100 {
        check(load(&store, scope).await.is_none(), rule, "a ledger is still there");
    }
    append(&store, 1, &turn(1, &["\"b\""])).await;
    check(turns(&store, 1).await == [turn(1, &["\"b\""])], rule, "the store cannot be used after it was cleared");
}

/// Two scopes share nothing, not even when their turns have the same ids or the scopes differ in one bit.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn scopes_share_nothing<S: Store>(store: S) {
    let rule = "scopes share nothing";
    let scopes: Vec<Scope> = (0..256)
        .map(|bit| {
            let mut bytes = [0; 32];
            bytes[bit / 8] = 1 << (bit % 8);
            Scope::from_bytes(bytes)
        })
        .chain([Scope::from_bytes([0; 32])])
        .collect();
    let state = |n: usize| turn(1, &[&format!("\"{n}\"")]);
    for (n, scope) in scopes.iter().enumerate() {
        let before = answer("load", store.load(scope).await);
        check(before.is_none(), rule, "a scope sees the ledger of one that differs in one bit");
        answer("append", store.append(scope, state(n)).await);
    }
    for (n, scope) in scopes.iter().enumerate() {
        let ledger = answer("load", store.load(scope).await).unwrap_or_default();
        check(ledger.turns().eq([&state(n)]), rule, "a scope sees a turn of another, or lost its own");
    }
}

/// A ledger that was loaded stays as it was, whatever happens to the store.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn a_loaded_ledger_does_not_change<S: Store>(store: S) {
    let rule = "a loaded ledger does not change";
    let first = turn(1, &["\"a\""]);
    append(&store, 1, &first).await;
    let Some(loaded) = load(&store, 1).await else {
        panic!("{rule}: the ledger to be watched is not there");
    };
    let same = || loaded.turns().eq([&first]) && loaded.items() == 1 && loaded.bytes() == first.bytes();
    append(&store, 1, &turn(2, &["\"b\""])).await;
    check(same(), rule, "an append changed a ledger that had been loaded");
    check(turns(&store, 1).await.len() == 2, rule, "an append was lost while a loaded ledger was held");
    remove(&store, 1, &[item(1, 0)]).await;
    check(same(), rule, "a removal changed a ledger that had been loaded");
    forget(&store, 1).await;
    clear(&store).await;
    check(same(), rule, "forgetting changed a ledger that had been loaded");
}

/// A store that was made with `limits` for each ledger keeps them: the oldest turns go first, whole, and
/// [`Appended`](crate::store::Appended) counts them; a turn over the limits is not taken. `limits` must
/// allow two items and 4 KiB at least.
///
/// # Panics
///
/// If the store breaks the rule, or answers with an error.
pub async fn ledgers_stay_within_limits<S: Store>(store: S, limits: &Limits) {
    let rule = "ledgers stay within their limits";
    let mut evicted = 0;
    let count = limits.items as u128 + 3;
    for id in 1..=count {
        let turn = turn(id, &["\"a\""]);
        evicted += answer("append", store.append(&scope(1), Arc::clone(&turn)).await).evicted;
        if id + 3 > count {
            let held = turns(&store, 1).await;
            check(held.last() == Some(&turn), rule, "the newest turn is missing");
        }
    }
    let ledger = load(&store, 1).await.unwrap_or_default();
    let first = count - ledger.turns().len() as u128 + 1;
    check(ledger.items() <= limits.items, rule, "a ledger holds more items than the limit");
    check(ledger.bytes() <= limits.bytes, rule, "a ledger holds more bytes than the limit");
    check(
        ledger.turns().map(|turn| turn.id().value()).eq(first..=count),
        rule,
        "others than the oldest turns went, or the order was lost",
    );
    check(evicted as u128 == first - 1, rule, "`Appended::evicted` does not count the turns that went");

    let half = "x".repeat(limits.bytes / 2 - 1_024);
    for id in 1..=3 {
        append(&store, 2, &turn(id, &[&half])).await;
    }
    let read = turns(&store, 2).await;
    check(
        read == [turn(2, &[&half]), turn(3, &[&half])],
        rule,
        "of three turns of half the bytes the last two must be there, whole",
    );

    let large = "x".repeat(limits.bytes);
    let many = vec!["\"a\""; limits.items + 1];
    for turn in [turn(9, &[&large]), turn(9, &many)] {
        let appended = answer("append", store.append(&scope(2), turn).await);
        check(appended.evicted == 1, rule, "a turn over the limits has to count as evicted");
    }
    check(turns(&store, 2).await == read, rule, "a turn over the limits was taken, or disturbed what was there");
    answer("append", store.append(&scope(3), turn(9, &[&large])).await);
    check(load(&store, 3).await.is_none(), rule, "a turn over the limits began a ledger");
}

fn check(holds: bool, rule: &str, broken: &str) {
    assert!(holds, "the store breaks the rule “{rule}”: {broken}");
}

fn answer<T>(call: &str, result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| match error.source() {
        Some(source) => panic!("the store could not {call}: {source}"),
        None => panic!("the store could not {call}: {error}"),
    })
}

async fn load(store: &impl Store, n: u8) -> Option<Arc<Ledger>> {
    let ledger = answer("load", store.load(&scope(n)).await);
    check(
        ledger.is_none() || store.may_hold(&scope(n)),
        "what may be held is asked for",
        "a ledger that is held is denied",
    );
    ledger
}

async fn turns(store: &impl Store, n: u8) -> Vec<Arc<Turn>> {
    load(store, n).await.map_or_else(Vec::new, |ledger| ledger.turns().cloned().collect())
}

async fn append(store: &impl Store, n: u8, turn: &Arc<Turn>) {
    answer("append", store.append(&scope(n), Arc::clone(turn)).await);
}

async fn remove(store: &impl Store, n: u8, items: &[ItemRef]) -> usize {
    answer("remove", store.remove(&scope(n), items).await)
}

async fn forget(store: &impl Store, n: u8) -> bool {
    answer("forget", store.forget(&scope(n)).await)
}

async fn clear(store: &impl Store) {
    answer("clear", store.clear().await);
}

fn scope(n: u8) -> Scope {
    Scope::from_bytes([n; 32])
}

fn anchor(n: u8) -> Anchor {
    Anchor::from_bytes([n; 16])
}

fn item(turn: u128, part: u32) -> ItemRef {
    ItemRef::new(TurnId::new(turn), 0, part)
}

fn turn(id: u128, states: &[&str]) -> Arc<Turn> {
    turn_after(id, id, false, states)
}

fn turn_after(id: u128, history: u128, provisional: bool, states: &[&str]) -> Arc<Turn> {
    let parts = states
        .iter()
        .map(|state| {
            let mut part = TurnPart::new(Kind::Text, anchor(8));
            part.state = Some(Item::new(Bytes::copy_from_slice(state.as_bytes())));
            part
        })
        .collect();
    let context = Context::new(anchor(9), Anchor::from_bytes(history.to_be_bytes()), 1, [history as u64]);
    Arc::new(Turn::new(TurnId::new(id), context, vec![Alternative::new(0, parts)], provisional))
}
