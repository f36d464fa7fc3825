//! # Collection: old versions go, and no transaction's fate with them
//!
//! **What is modelled.** Two keys, each in a region of its own. The first transaction writes both and commits in two
//! phases, the other writes one of them. Requests arrive at any time, also late and again; clients stop anywhere;
//! anybody ends the locks of others as their primary keys say. The safe point of transactions moves to any timestamp
//! that was given out. Each region raises its floor, reports once no older lock is left, and collects when all have.
//!
//! ```text
//!   safe point T ─▶ floor of each region ─▶ no lock below ─▶ "clear" ─▶ (all) ─▶ G = T ─▶ records below go
//! ```
//!
//! **Bounds.** `txns`, `moves` (of the safe point).
//!
//! **Invariants.** A transaction commits on all its keys or on none. Nobody is told "committed" or "aborted" of one
//! that ends otherwise. What is read at or above the floor is what was committed at or below that timestamp.
//! *Progress*: every lock can be ended.
//!
//! The rules are those of `src/docs/old-versions.md`; the pure functions that decide are in `mvcc::garbage` and
//! `txn::action`.

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "collection",
    about: "a safe point, floors, reports and the removal of old versions",
    bounds: &[
        Bound { name: "txns", about: "transactions", quick: 2, large: 3, min: 1, max: 3 },
        Bound { name: "moves", about: "moves of the safe point", quick: 1, large: 2, min: 0, max: 3 },
    ],
    cases: &[&[], &[("moves", 2)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let (txns, moves) = (usize::from(bounds.get("txns")), bounds.get("moves"));
        search(&Collection { txns, moves, flaw: flaw.map(Flaw::named) }, states_max)
    },
};

flaws! {
    NoFloor "lock-below-the-floor" [] 16 "rolled back at another" =
        "a transaction that is older than the floor sets a lock";
    NotAtApply "floor-not-at-apply" [] 11 "no key is locked" =
        "the floor is looked at when a lock is decided, not when it is applied";
    LocksLeft "before-locks-are-ended" [] 11 "no key is locked" =
        "a region reports that it is clear while it has older locks";
    NotAll "not-all-regions-clear" [] 14 "rolled back at another" =
        "versions are collected when one region has reported";
    Unchecked "collected-unchecked" [] 21 "told that it will not commit" =
        "a transaction without a record counts as rolled back although its record may be gone";
    TraceGone "rollback-at-the-safe-point" [] 15 "rolled back at another" =
        "the trace of a rollback at the safe point itself is removed";
    Needed "removes-what-is-read" [] 13 "does not see" =
        "the newest version at the safe point is removed";
}

const KEYS: usize = 2;

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fate {
    Committed,
    RolledBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Record {
    commit: u8,
    txn: u8,
    put: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Key {
    /// The transaction that has locked it.
    lock: Option<u8>,
    /// The newest first.
    records: Vec<Record>,
    /// Of its region.
    floor: u8,
    collected: u8,
    clear: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Txn {
    start: u8,
    /// The timestamp at which its client wants to commit.
    commit: u8,
    /// Keys of which its client knows that they are locked.
    acked: [bool; KEYS],
    /// Locks that were decided and not yet applied.
    pending: [bool; KEYS],
    /// What its client was told, and what is true.
    told: Option<Fate>,
    fate: Option<Fate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    now: u8,
    txns: Vec<Txn>,
    keys: [Key; KEYS],
    safe: u8,
    collect: u8,
    moves: u8,
    wrong: Option<&'static str>,
}

#[derive(Debug)]
struct Collection {
    txns: usize,
    moves: u8,
    flaw: Option<Flaw>,
}

/// Whether a transaction writes a key: the first one both, the others the first key. Its primary key is the first.
fn writes(txn: usize, key: usize) -> bool {
    txn == 0 || key == 0
}

impl World {
    fn record_of(&self, txn: usize, key: usize) -> Option<Record> {
        self.keys[key].records.iter().copied().find(|record| usize::from(record.txn) == txn)
    }

    /// Leaves a record of a transaction at a key, and ends its lock.
    fn end(&mut self, txn: usize, key: usize, fate: Fate) {
        let (start, commit, known) = (self.txns[txn].start, self.txns[txn].commit, self.txns[txn].fate);
        if key == 0 && known.is_none() {
            self.txns[txn].fate = Some(fate);
        } else if known != Some(fate) {
            self.wrong.get_or_insert("a transaction has committed at one key, and was rolled back at another");
        }
        let put = fate == Fate::Committed;
        let record = Record { commit: if put { commit } else { start }, txn: txn as u8, put };
        let own = &mut self.keys[key];
        if own.lock == Some(txn as u8) {
            own.lock = None;
        }
        own.records.push(record);
        own.records.sort_by_key(|record| std::cmp::Reverse(record.commit));
    }

    /// Its client is told of a transaction's end.
    fn tell(&mut self, txn: usize, fate: Fate) {
        self.txns[txn].told.get_or_insert(fate);
    }
}

impl Collection {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Whether history that far back may be gone.
    fn forgotten(&self, world: &World, txn: usize, key: usize) -> bool {
        world.txns[txn].start < world.keys[key].collected && !self.has(Flaw::Unchecked)
    }

    fn client_steps(&self, world: &World, txn: usize, steps: &mut Steps<World>) {
        let own = world.txns[txn];
        if own.start == 0 {
            // The others in their order: they are alike.
            if txn == 0 || world.txns[txn - 1].start != 0 {
                let mut next = world.clone();
                next.now += 1;
                next.txns[txn].start = next.now;
                steps.step(next, format_args!("transaction {txn} begins at {}", world.now + 1));
            }
            return;
        }
        let all = (0..KEYS).all(|key| !writes(txn, key) || own.acked[key]);
        if all && own.commit == 0 && own.told.is_none() {
            let mut next = world.clone();
            next.now += 1;
            next.txns[txn].commit = next.now;
            steps.step(next, format_args!("transaction {txn} will commit at {}", world.now + 1));
        }
    }

    /// A prewrite arrives, for the first time or again.
    fn prewrite_steps(&self, world: &World, txn: usize, key: usize, steps: &mut Steps<World>) {
        let own = world.txns[txn];
        if own.start == 0 || !writes(txn, key) {
            return;
        }
        let at = &world.keys[key];
        // An answer counts while its client waits for it.
        let waits = own.commit == 0 && own.told.is_none() && !own.acked[key];
        if own.pending[key] {
            let mut next = world.clone();
            next.txns[txn].pending[key] = false;
            let checked = self.has(Flaw::NotAtApply) || self.has(Flaw::NoFloor);
            if own.start < at.floor && !checked {
                steps.step(next, format_args!("the lock of {txn} at key {key} is refused: it is below the floor"));
                return;
            }
            next.keys[key].lock = Some(txn as u8);
            next.txns[txn].acked[key] |= waits;
            steps.step(next, format_args!("transaction {txn} locks key {key}"));
            return;
        }
        // Latches: one request at a time decides about a key.
        let is_latched = world.txns.iter().any(|other| other.pending[key]);
        if is_latched || at.lock.is_some_and(|lock| usize::from(lock) != txn) {
            return;
        }
        let mut next = world.clone();
        if at.lock.is_some() {
            if waits {
                next.txns[txn].acked[key] = true;
                steps.step(next, format_args!("transaction {txn} hears that it has locked key {key}"));
            }
            return;
        }
        let refused = match world.record_of(txn, key) {
            Some(record) => !record.put,
            None => {
                let newer = at.records.iter().any(|record| record.commit > own.start);
                newer || (own.start < at.floor && !self.has(Flaw::NoFloor))
            }
        };
        if refused {
            if waits {
                next.tell(txn, Fate::RolledBack);
                steps.step(next, format_args!("transaction {txn} is refused at key {key}"));
            }
        } else if world.record_of(txn, key).is_none() {
            next.txns[txn].pending[key] = true;
            steps.step(next, format_args!("a lock of transaction {txn} at key {key} is decided"));
        }
    }

    /// A commit arrives, for the first time or again.
    fn commit_steps(&self, world: &World, txn: usize, key: usize, steps: &mut Steps<World>) {
        let own = world.txns[txn];
        let is_sent = own.commit != 0 && writes(txn, key) && (key == 0 || own.told == Some(Fate::Committed));
        if !is_sent || world.txns.iter().any(|other| other.pending[key]) {
            return;
        }
        let mut next = world.clone();
        if world.keys[key].lock == Some(txn as u8) {
            next.end(txn, key, Fate::Committed);
            if key == 0 {
                steps.fault(next.clone(), format_args!("transaction {txn} commits key {key}, the answer is lost"));
                next.tell(txn, Fate::Committed);
            }
            steps.step(next, format_args!("transaction {txn} commits key {key}"));
            return;
        }
        if key != 0 || own.told.is_some() {
            return;
        }
        match world.record_of(txn, key) {
            Some(record) => next.tell(txn, if record.put { Fate::Committed } else { Fate::RolledBack }),
            None if self.forgotten(world, txn, key) => return,
            None => next.tell(txn, Fate::RolledBack),
        }
        steps.step(next, format_args!("transaction {txn} hears of its primary key: {:?}", own.fate));
    }

    /// A client meets a lock, asks its primary key, and ends it.
    fn resolve_steps(&self, world: &World, key: usize, steps: &mut Steps<World>) {
        let Some(txn) = world.keys[key].lock.map(usize::from) else { return };
        if world.txns.iter().any(|other| other.pending[key] || other.pending[0]) {
            return;
        }
        let mut next = world.clone();
        let fate = match world.record_of(txn, 0) {
            Some(record) => Some(if record.put { Fate::Committed } else { Fate::RolledBack }),
            // Its lock has expired, or it was never there.
            None if world.keys[0].lock == Some(txn as u8) || !self.forgotten(world, txn, 0) => {
                next.end(txn, 0, Fate::RolledBack);
                Some(Fate::RolledBack)
            }
            None => None,
        };
        let Some(fate) = fate else { return };
        if key != 0 {
            next.end(txn, key, fate);
        }
        steps.step(next, format_args!("a client ends the lock of transaction {txn} at key {key}: {fate:?}"));
    }

    fn collection_steps(&self, world: &World, steps: &mut Steps<World>) {
        if world.moves < self.moves && world.safe == world.collect {
            for to in world.safe + 1..=world.now {
                let mut next = world.clone();
                (next.safe, next.moves) = (to, world.moves + 1);
                steps.step(next, format_args!("the safe point moves to {to}"));
            }
        }
        for key in 0..KEYS {
            let at = &world.keys[key];
            if at.floor < world.safe {
                let mut next = world.clone();
                next.keys[key].floor = world.safe;
                steps.step(next, format_args!("the floor at key {key} is {}", world.safe));
            }
            let is_clear = at.lock.is_none_or(|lock| world.txns[usize::from(lock)].start >= world.safe);
            if at.clear < world.safe && at.floor >= world.safe && (is_clear || self.has(Flaw::LocksLeft)) {
                let mut next = world.clone();
                next.keys[key].clear = world.safe;
                steps.step(next, format_args!("the region of key {key} is clear below {}", world.safe));
            }
            self.collect_step(world, key, steps);
        }
        let is_clear = |key: &Key| key.clear >= world.safe;
        let all = world.keys.iter().all(is_clear) || (self.has(Flaw::NotAll) && world.keys.iter().any(is_clear));
        if all && world.collect < world.safe {
            let mut next = world.clone();
            next.collect = world.safe;
            steps.step(next, format_args!("versions below {} may go", world.safe));
        }
    }

    fn collect_step(&self, world: &World, key: usize, steps: &mut Steps<World>) {
        let (at, safe) = (&world.keys[key], world.collect);
        if at.collected >= safe || world.txns.iter().any(|other| other.pending[key]) {
            return;
        }
        let mut has_change = self.has(Flaw::Needed);
        let keeps = |record: &Record| {
            if record.commit > safe {
                return true;
            }
            if !record.put {
                return record.commit == safe && !self.has(Flaw::TraceGone);
            }
            !std::mem::replace(&mut has_change, true)
        };
        let mut next = world.clone();
        next.keys[key].records.retain(keeps);
        next.keys[key].collected = safe;
        steps.step(next, format_args!("old versions of key {key} are removed"));
    }
}

impl Model for Collection {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let txns = vec![Txn::default(); self.txns];
        vec![World { now: 0, txns, keys: Default::default(), safe: 0, collect: 0, moves: 0, wrong: None }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        for txn in 0..self.txns {
            self.client_steps(world, txn, steps);
            for key in 0..KEYS {
                self.prewrite_steps(world, txn, key, steps);
                self.commit_steps(world, txn, key, steps);
            }
        }
        for key in 0..KEYS {
            self.resolve_steps(world, key, steps);
        }
        self.collection_steps(world, steps);
    }

    fn check(&self, world: &World) -> Option<String> {
        if let Some(wrong) = world.wrong {
            return Some(wrong.to_owned());
        }
        for (number, txn) in world.txns.iter().enumerate() {
            match (txn.told, txn.fate) {
                (Some(Fate::Committed), fate) if fate != Some(Fate::Committed) => {
                    return Some(format!("transaction {number} was told that it has committed, but it has not"));
                }
                (Some(Fate::RolledBack), Some(Fate::Committed)) => {
                    return Some(format!("transaction {number} was told that it will not commit, but it has"));
                }
                _ => {}
            }
        }
        for (key, at) in world.keys.iter().enumerate() {
            for time in at.floor.max(1)..=world.now {
                if at.lock.is_some_and(|lock| world.txns[usize::from(lock)].start <= time) {
                    continue;
                }
                let seen = at.records.iter().find(|record| record.put && record.commit <= time);
                let done = |(number, txn): &(usize, &Txn)| {
                    writes(*number, key) && txn.fate == Some(Fate::Committed) && txn.commit <= time
                };
                let last = world.txns.iter().enumerate().filter(done).max_by_key(|(_, txn)| txn.commit);
                if seen.map(|record| usize::from(record.txn)) != last.map(|(number, _)| number) {
                    return Some(format!("a read of key {key} at {time} does not see what was committed"));
                }
            }
        }
        None
    }

    fn progress(&self) -> Option<&'static str> {
        Some("no key is locked")
    }

    fn settled(&self, world: &World) -> bool {
        world.keys.iter().all(|key| key.lock.is_none())
    }

    fn show(&self, world: &World) -> String {
        let key = |key: &Key| {
            let records: Vec<String> = key
                .records
                .iter()
                .map(|one| format!("{}{}@{}", if one.put { "P" } else { "R" }, one.txn, one.commit))
                .collect();
            let lock = key.lock.map_or(String::new(), |txn| format!(" locked by {txn}"));
            format!("[{}]{lock} floor {} clear {} collected {}", records.join(" "), key.floor, key.clear, key.collected)
        };
        let txns: Vec<String> = world
            .txns
            .iter()
            .map(|txn| format!("{}-{} told {:?} is {:?}", txn.start, txn.commit, txn.told, txn.fate))
            .collect();
        let keys: Vec<String> = world.keys.iter().map(key).collect();
        format!(
            "now {}; {}; {}; safe {} collect {}",
            world.now,
            keys.join("; "),
            txns.join("; "),
            world.safe,
            world.collect
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::{assert_every_rule_is_needed, assert_holds};

    #[test]
    fn the_design_holds() {
        assert_holds(&super::PROTOCOL);
    }

    #[test]
    fn every_rule_is_needed() {
        assert_every_rule_is_needed(&super::PROTOCOL);
    }
}
