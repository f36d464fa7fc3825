//! # Commit: two phases, one round, one request, beside snapshots
//!
//! **What is modelled.** Two keys, each in a region of its own. The first transaction writes both, in two phases or in
//! one round of requests (*async*); a second one writes the first key in one request (*one phase*). Snapshots are read
//! at any timestamp, key by key. A server raises max_ts for a read before it looks for locks in memory and then at its
//! snapshot; it sets a lock in memory before it reads max_ts for a commit. The second region's leader may change, with
//! what was proposed kept or lost. Clients stop anywhere; others look at locks and finish them by the protocol.
//!
//! ```text
//!   read:    max_ts ≥ t ─▶ locks in memory ─▶ snapshot
//!   prewrite: lock in memory ─▶ m = max_ts + 1 ─▶ proposed ─▶ applied ─▶ lock in memory gone
//! ```
//!
//! **Bounds.** `reads`, `one` (whether the second transaction runs), `by` (0: two phases, 1: async), `moves` (changes
//! of the leader).
//!
//! **Invariants.** A transaction commits at all its keys or at none, at one timestamp; its client is told nothing else.
//! A snapshot at t sees exactly what was committed at or below t, at every later moment too. *Progress*: every lock can
//! be ended.

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "commit",
    about: "two-phase, async and one-phase commits beside snapshots and changes of leaders",
    bounds: &[
        Bound { name: "reads", about: "snapshots of one key", quick: 1, large: 2, min: 0, max: 3 },
        Bound {
            name: "one",
            about: "whether a second transaction commits in one phase",
            quick: 0,
            large: 1,
            min: 0,
            max: 1,
        },
        Bound {
            name: "by",
            about: "how the first commits: 0 in two phases, 1 async",
            quick: 1,
            large: 1,
            min: 0,
            max: 1,
        },
        Bound { name: "moves", about: "changes of the second region's leader", quick: 1, large: 1, min: 0, max: 2 },
    ],
    cases: &[&[("one", 1)], &[("by", 0), ("one", 1)], &[("reads", 2)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let (reads, moves) = (usize::from(bounds.get("reads")), bounds.get("moves"));
        let (one, by_async) = (bounds.get("one") == 1, bounds.get("by") == 1);
        search(&Commit { reads, one, by_async, moves, flaw: flaw.map(Flaw::named) }, states_max)
    },
};

flaws! {
    RaiseLate "read-raise-after-locks" [] 10 "has not seen" =
        "a read looks for locks in memory before it raises max_ts";
    SnapshotFirst "read-snapshot-before-locks" [] 9 "has not seen" =
        "a read takes its snapshot before it looks for locks in memory";
    PlusNone "m-without-plus-one" [] 10 "has not seen" =
        "an async commit may take place at the timestamp of a read";
    Outside "m-outside-the-lock" [] 12 "has not seen" =
        "max_ts is read before the lock stands in memory";
    Dropped "memory-dropped-before-apply" [] 10 "has not seen" =
        "locks in memory go before those that they stand for are applied";
    NotSynced "max-ts-not-synced" [] 11 "has not seen" =
        "a new leader commits below reads that an earlier one has served";
    RollsBackAsync "rolls-back-async" [] 7 "was told 2" =
        "an async commit is rolled back by its primary key alone";
    NoTrace "secondary-leaves-nothing" [] 7 "was told 2" =
        "a key that has no lock of an async commit gets no rollback when it is asked";
    NotPushed "commit-ignores-m" [("by", 0)] 12 "has not seen" =
        "a commit below the lock's m is accepted, and snapshots pass the lock by raising m";
}

const KEYS: usize = 2;

/// A lock, in memory or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Lock {
    txn: u8,
    min_commit: u8,
}

/// The stage of a prewrite at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Prewrite {
    #[default]
    New,
    /// Flaw: it knows its m, and its lock is not in memory yet.
    Chosen(u8),
    /// Its lock is in memory; the entry is proposed.
    Proposed(u8),
    /// Applied: the client may hear of m.
    Done(u8),
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Key {
    max_ts: u8,
    /// Whether max_ts is above what earlier leaders have served.
    synced: bool,
    memory: Option<Lock>,
    lock: Option<Lock>,
    /// Commit timestamps and transactions, the newest last; 0: rolled back.
    records: Vec<(u8, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Txn {
    start: u8,
    at: [Prewrite; KEYS],
    /// The commit timestamp of two phases that its client has asked for.
    asked: u8,
    /// What its client was told: a commit timestamp, or 0 for "aborted".
    told: Option<u8>,
}

/// How far a snapshot of one key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Stage {
    #[default]
    New,
    Begun,
    /// Its first step of two is done (max_ts, or with a flaw something else).
    Half(Option<u8>),
    /// It has passed the locks in memory.
    Passed,
    /// It has seen a transaction, or none.
    Seen(Option<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Read {
    key: u8,
    at: u8,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    now: u8,
    keys: [Key; KEYS],
    txns: [Txn; 2],
    reads: Vec<Read>,
    moves: u8,
}

#[derive(Debug)]
struct Commit {
    reads: usize,
    one: bool,
    by_async: bool,
    moves: u8,
    flaw: Option<Flaw>,
}

impl Key {
    fn record_of(&self, txn: usize) -> Option<u8> {
        self.records.iter().find(|(_, of)| usize::from(*of) == txn).map(|(at, _)| *at)
    }

    /// Leaves a record, and ends the transaction's lock.
    fn end(&mut self, txn: usize, commit: u8) {
        if self.lock.is_some_and(|lock| usize::from(lock.txn) == txn) {
            self.lock = None;
        }
        if self.record_of(txn).is_none() {
            self.records.push((commit, txn as u8));
        }
    }

    /// Returns the transaction that a snapshot sees, not looking at locks.
    fn visible(&self, at: u8) -> Option<u8> {
        let below = self.records.iter().filter(|(commit, _)| *commit != 0 && *commit <= at);
        below.max_by_key(|(commit, _)| *commit).map(|(_, txn)| *txn)
    }
}

impl Commit {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn writes(&self, txn: usize, key: usize) -> bool {
        txn == 0 || (self.one && key == 0)
    }

    /// Whether a transaction is decided by its locks.
    fn by_locks(&self, txn: usize) -> bool {
        txn == 1 || self.by_async
    }

    fn prewrite_steps(&self, world: &World, txn: usize, key: usize, steps: &mut Steps<World>) {
        let (own, at) = (world.txns[txn], &world.keys[key]);
        if own.start == 0 {
            return;
        }
        let by_locks = self.by_locks(txn);
        // One more than the greatest that was read here, and above the start.
        let one = u8::from(!self.has(Flaw::PlusNone));
        let min_commit = if by_locks { (at.max_ts + one).max(own.start + 1) } else { own.start + 1 };
        let mut next = world.clone();
        match own.at[key] {
            Prewrite::New => {
                // The latch of the key, and the locks of others.
                let decides = |other: &Txn| matches!(other.at[key], Prewrite::Proposed(_) | Prewrite::Chosen(_));
                if at.lock.is_some() || world.txns.iter().any(decides) {
                    return;
                }
                let newer = at.records.iter().any(|(commit, _)| *commit > own.start);
                if newer || at.record_of(txn).is_some() {
                    next.txns[txn].at[key] = Prewrite::Refused;
                    if own.told.is_none() && own.asked == 0 {
                        next.txns[txn].told = Some(0);
                    }
                    steps.step(next, format_args!("the prewrite of {txn} at key {key} is refused"));
                    return;
                }
                if by_locks && !at.synced && !self.has(Flaw::NotSynced) {
                    next.now += 1;
                    let own = &mut next.keys[key];
                    (own.max_ts, own.synced) = (own.max_ts.max(next.now), true);
                    steps.step(next, format_args!("the leader of key {key} asks for a timestamp: {}", world.now + 1));
                    return;
                }
                if self.has(Flaw::Outside) && by_locks {
                    next.txns[txn].at[key] = Prewrite::Chosen(min_commit);
                    steps.step(next, format_args!("the prewrite of {txn} at key {key} chooses {min_commit}"));
                    return;
                }
                self.propose(&mut next, txn, key, min_commit);
                steps.step(next, format_args!("{txn} proposes its lock at key {key}, from {min_commit} on"));
            }
            Prewrite::Chosen(min_commit) => {
                self.propose(&mut next, txn, key, min_commit);
                steps.step(next, format_args!("{txn} proposes its lock at key {key}, from {min_commit} on"));
            }
            Prewrite::Proposed(min_commit) => {
                next.txns[txn].at[key] = Prewrite::Done(min_commit);
                let here = &mut next.keys[key];
                here.memory = None;
                if txn == 1 {
                    here.end(txn, min_commit);
                } else {
                    here.lock = Some(Lock { txn: txn as u8, min_commit });
                }
                steps.step(next, format_args!("the prewrite of {txn} at key {key} is applied"));
            }
            Prewrite::Done(_) | Prewrite::Refused => {}
        }
    }

    fn propose(&self, next: &mut World, txn: usize, key: usize, min_commit: u8) {
        next.txns[txn].at[key] = Prewrite::Proposed(min_commit);
        if self.by_locks(txn) && !self.has(Flaw::Dropped) {
            next.keys[key].memory = Some(Lock { txn: txn as u8, min_commit });
        }
    }

    fn client_steps(&self, world: &World, txn: usize, steps: &mut Steps<World>) {
        let own = world.txns[txn];
        if !(0..KEYS).any(|key| self.writes(txn, key)) {
            return;
        }
        let mut next = world.clone();
        if own.start == 0 {
            next.now += 1;
            next.txns[txn].start = next.now;
            steps.step(next, format_args!("transaction {txn} begins at {}", world.now + 1));
            return;
        }
        let done = |key: usize| match own.at[key] {
            Prewrite::Done(min_commit) => Some(min_commit),
            _ => None,
        };
        let mins: Option<Vec<u8>> = (0..KEYS).filter(|key| self.writes(txn, *key)).map(done).collect();
        let Some(largest) = mins.and_then(|mins| mins.into_iter().max()) else { return };
        if own.told.is_none() && self.by_locks(txn) {
            next.txns[txn].told = Some(largest);
            steps.step(next, format_args!("transaction {txn} is told that it commits at {largest}"));
        } else if own.asked == 0 && own.told.is_none() {
            next.now += 1;
            next.txns[txn].asked = next.now;
            steps.step(next, format_args!("transaction {txn} asks to commit at {}", world.now + 1));
        }
    }

    /// Commits of a client that knows its timestamp.
    fn commit_steps(&self, world: &World, key: usize, steps: &mut Steps<World>) {
        let own = world.txns[0];
        let commit = match own.told {
            Some(0) => return,
            Some(at) => at,
            None if key == 0 && own.asked != 0 => own.asked,
            None => return,
        };
        let at = &world.keys[key];
        let mut next = world.clone();
        if let Some(lock) = at.lock.filter(|lock| lock.txn == 0) {
            if commit < lock.min_commit && !self.has(Flaw::NotPushed) {
                // It asks for a later timestamp.
                if own.told.is_none() {
                    next.now += 1;
                    next.txns[0].asked = next.now;
                    steps.step(next, format_args!("the commit of 0 is too early: it asks for {}", world.now + 1));
                }
                return;
            }
            next.keys[key].end(0, commit);
            next.txns[0].told.get_or_insert(commit);
            steps.step(next, format_args!("0 commits key {key} at {commit}"));
        } else if own.told.is_none() {
            next.txns[0].told = Some(at.record_of(0).unwrap_or(0));
            steps.step(next, format_args!("0 hears that it was ended by others"));
        }
    }

    /// A client meets a lock of the first transaction and finishes it. Its locks have expired.
    fn resolve_steps(&self, world: &World, key: usize, steps: &mut Steps<World>) {
        if world.keys[key].lock.is_none_or(|lock| lock.txn != 0) {
            return;
        }
        let mut next = world.clone();
        // A key that is being prewritten is latched.
        let latched = (0..KEYS).any(|key| matches!(world.txns[0].at[key], Prewrite::Proposed(_) | Prewrite::Chosen(_)));
        if latched {
            return;
        }
        if let Some(commit) = world.keys[0].record_of(0) {
            next.keys[key].end(0, commit);
            steps.step(next, format_args!("a client ends the lock at key {key} as its primary key says: {commit}"));
            return;
        }
        let decided_by_locks = self.by_async && world.keys[0].lock.is_some() && !self.has(Flaw::RollsBackAsync);
        if !decided_by_locks {
            next.keys[0].end(0, 0);
            if key != 0 {
                next.keys[key].end(0, 0);
            }
            steps.step(next, format_args!("a client rolls 0 back at its primary key"));
            return;
        }
        // The primary key's lock stands: the other key decides.
        let first = world.keys[0].lock.map_or(0, |lock| lock.min_commit);
        let commit = match (world.keys[1].lock.filter(|lock| lock.txn == 0), world.keys[1].record_of(0)) {
            (Some(lock), _) => first.max(lock.min_commit),
            (None, Some(record)) => record,
            (None, None) => {
                if !self.has(Flaw::NoTrace) {
                    next.keys[1].end(0, 0);
                }
                0
            }
        };
        next.keys[0].end(0, commit);
        if key != 0 {
            next.keys[key].end(0, commit);
        }
        steps.step(next, format_args!("a client finishes 0 as its locks say: {commit}"));
    }

    fn read_steps(&self, world: &World, at: usize, steps: &mut Steps<World>) {
        let Read { key, at: time, stage } = world.reads[at];
        let mut next = world.clone();
        let here = &world.keys[usize::from(key)];
        let blocks = |lock: &Lock| world.txns[usize::from(lock.txn)].start <= time && lock.min_commit <= time;
        let raise = |next: &mut World| {
            let own = &mut next.keys[usize::from(key)];
            own.max_ts = own.max_ts.max(time);
        };
        let in_memory = here.memory.as_ref().is_some_and(blocks);
        // A lock of two phases is passed by raising its m, one that its locks decide is not.
        let stored = here.lock.as_ref().is_some_and(blocks);
        match stage {
            Stage::New => {
                if at > 0 && world.reads[at - 1].stage == Stage::New {
                    return;
                }
                for key in 0..KEYS as u8 {
                    let mut next = world.clone();
                    next.now += 1;
                    next.reads[at] = Read { key, at: next.now, stage: Stage::Begun };
                    steps.step(next, format_args!("a snapshot of key {key} begins at {}", world.now + 1));
                }
            }
            Stage::Begun if self.has(Flaw::SnapshotFirst) => {
                if stored {
                    return;
                }
                next.reads[at].stage = Stage::Half(here.visible(time));
                steps.step(next, format_args!("read {at} takes its snapshot"));
            }
            Stage::Begun if self.has(Flaw::RaiseLate) => {
                if in_memory {
                    return;
                }
                next.reads[at].stage = Stage::Half(None);
                steps.step(next, format_args!("read {at} finds no lock in memory"));
            }
            Stage::Begun => {
                raise(&mut next);
                next.reads[at].stage = Stage::Half(None);
                steps.step(next, format_args!("read {at} raises max_ts of key {key} to {time}"));
            }
            Stage::Half(seen) => {
                if self.has(Flaw::RaiseLate) {
                    raise(&mut next);
                } else if in_memory {
                    return;
                }
                if self.has(Flaw::SnapshotFirst) {
                    raise(&mut next);
                    next.reads[at].stage = Stage::Seen(seen);
                } else {
                    next.reads[at].stage = Stage::Passed;
                }
                steps.step(next, format_args!("read {at} passes the locks in memory"));
            }
            Stage::Passed if stored => {
                if self.by_async {
                    return;
                }
                // Its primary key's lock decides when it commits.
                let Some(lock) = next.keys[0].lock.as_mut().filter(|lock| lock.txn == 0) else { return };
                if lock.min_commit > time {
                    next.reads[at].stage = Stage::Seen(here.visible(time));
                    steps.step(next, format_args!("read {at} passes a lock that commits later"));
                    return;
                }
                lock.min_commit = time + 1;
                steps.step(next, format_args!("read {at} makes the transaction commit after {time}"));
            }
            Stage::Passed => {
                next.reads[at].stage = Stage::Seen(here.visible(time));
                steps.step(next, format_args!("read {at} of key {key} sees {:?}", here.visible(time)));
            }
            Stage::Seen(_) => {}
        }
    }

    /// The second region's leader changes. What was proposed is applied first, or never.
    fn move_steps(&self, world: &World, steps: &mut Steps<World>) {
        if world.moves >= self.moves {
            return;
        }
        let proposed = (0..2).find_map(|txn| match world.txns[txn].at[1] {
            Prewrite::Proposed(min_commit) => Some((txn, min_commit)),
            _ => None,
        });
        for kept in [false, true] {
            let mut next = world.clone();
            next.moves += 1;
            let here = &mut next.keys[1];
            (here.max_ts, here.synced, here.memory) = (0, false, None);
            if let Some((txn, min_commit)) = proposed {
                if kept {
                    here.lock = Some(Lock { txn: txn as u8, min_commit });
                }
                // Its client does not know: it is told nothing, and others decide.
                next.txns[txn].at[1] = Prewrite::Refused;
            } else if kept {
                continue;
            }
            for txn in 0..2 {
                if matches!(next.txns[txn].at[1], Prewrite::Chosen(_)) {
                    next.txns[txn].at[1] = Prewrite::New;
                }
            }
            // A read that has not taken its snapshot asks the new leader again.
            for read in next.reads.iter_mut().filter(|read| read.key == 1) {
                if matches!(read.stage, Stage::Half(_) | Stage::Passed) {
                    read.stage = Stage::Begun;
                }
            }
            steps.fault(next, format_args!("the leader of key 1 changes; what was proposed is kept: {kept}"));
        }
    }
}

impl Model for Commit {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let key = Key { synced: true, ..Key::default() };
        let reads = vec![Read::default(); self.reads];
        vec![World { now: 0, keys: [key.clone(), key], txns: Default::default(), reads, moves: 0 }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        for txn in 0..2 {
            self.client_steps(world, txn, steps);
            for key in (0..KEYS).filter(|key| self.writes(txn, *key)) {
                self.prewrite_steps(world, txn, key, steps);
            }
        }
        for key in 0..KEYS {
            self.commit_steps(world, key, steps);
            self.resolve_steps(world, key, steps);
        }
        for at in 0..self.reads {
            self.read_steps(world, at, steps);
        }
        self.move_steps(world, steps);
    }

    fn check(&self, world: &World) -> Option<String> {
        let fates: Vec<u8> = world.keys.iter().filter_map(|key| key.record_of(0)).collect();
        if fates.iter().any(|fate| *fate != fates[0]) {
            return Some("transaction 0 has ended differently at its two keys".to_owned());
        }
        for (number, txn) in world.txns.iter().enumerate() {
            let ends: Vec<u8> = world.keys.iter().filter_map(|key| key.record_of(number)).collect();
            if let (Some(told), Some(end)) = (txn.told, ends.first())
                && told != *end
            {
                return Some(format!("transaction {number} was told {told}, but it ended with {end}"));
            }
        }
        for read in &world.reads {
            let Stage::Seen(seen) = read.stage else { continue };
            // What was committed meanwhile at or below the snapshot's timestamp was missed.
            if world.keys[usize::from(read.key)].visible(read.at) != seen {
                return Some(format!("a snapshot at {} has not seen what is committed at or below that", read.at));
            }
        }
        None
    }

    fn progress(&self) -> Option<&'static str> {
        Some("no key is locked")
    }

    fn settled(&self, world: &World) -> bool {
        world.keys.iter().all(|key| key.lock.is_none() && key.memory.is_none())
    }

    fn show(&self, world: &World) -> String {
        let key = |key: &Key| {
            let lock =
                |lock: &Option<Lock>| lock.map_or("-".into(), |lock| format!("{} from {}", lock.txn, lock.min_commit));
            let (memory, stored) = (lock(&key.memory), lock(&key.lock));
            format!("max_ts {} memory {memory} lock {stored} records {:?}", key.max_ts, key.records)
        };
        let txn = |txn: &Txn| format!("{} {:?} told {:?}", txn.start, txn.at, txn.told);
        let [first, second] = &world.keys;
        let reads: Vec<String> = world.reads.iter().map(|read| format!("{} {:?}", read.at, read.stage)).collect();
        let txns: Vec<String> = world.txns.iter().map(txn).collect();
        format!("now {}; {}; {}; {}; {}", world.now, key(first), key(second), txns.join("; "), reads.join("; "))
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
