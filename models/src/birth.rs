//! # Birth: one store through splits, crashes, snapshots and destroyed peers
//!
//! **What is modelled.** The peers of three groups on one store: P, whose log holds the split that makes N, whose
//! log holds the split that makes M. The raft log is durable with each record. The engine is not: a crash takes it
//! back to an earlier write, in order, as RocksDB without a log of its own does. So a store may come back with the
//! newborn's log but without the newborn.
//!
//! ```text
//!   P's log: [1: split, makes N] [2: data]    engine, in order:  P at 0 | P at 1, N at FIRST | N at 1, M at FIRST
//!   N's log: [1: split, makes M] [2: data]    after a crash:     any prefix since the last flush
//!   M's log: [1: data]                        log:               all of it
//! ```
//!
//! **Bounds.** `groups` (2: without M), `crashes`, `entries`, `snapshots`, `rejoin` (1: P may be destroyed and come
//! back by a snapshot of before the split). The other stores are any that raft allows: entries, commits and votes
//! come when the search wants.
//!
//! **Invariants.** I1: ranges of living peers never overlap. I4: the log has what the engine lacks. A start never
//! refuses. A vote or entry that was acknowledged is never lost. A destroyed peer is never born again (I2).
//!
//! **Found.** The design holds (its sections 2 and 6, I4 and I6). Said here and not there: a peer that is born of a
//! snapshot is marked so in the engine until the log has started over at its index, since only that tells it from a
//! log that fell behind; and a group whose old peer's log is not yet removed takes no new peer.

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "birth",
    about: "one store through splits, crashes, snapshots, destroyed peers: the log brings back what the engine lost",
    bounds: &[
        Bound { name: "groups", about: "P and N, or P, N and M", quick: 2, large: 3, min: 2, max: 3 },
        Bound {
            name: "crashes",
            about: "crashes, each back to any write since the last flush",
            quick: 2,
            large: 2,
            min: 0,
            max: 9,
        },
        Bound {
            name: "entries",
            about: "entries in the logs of P and N, the split first",
            quick: 2,
            large: 2,
            min: 1,
            max: 2,
        },
        Bound { name: "snapshots", about: "1: snapshots arrive", quick: 1, large: 1, min: 0, max: 1 },
        Bound {
            name: "rejoin",
            about: "1: P may come back after it was destroyed",
            quick: 1,
            large: 1,
            min: 0,
            max: 1,
        },
    ],
    cases: &[&[], &[("groups", 3), ("crashes", 2), ("entries", 1), ("rejoin", 0)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let model = Birth {
            groups: usize::from(bounds.get("groups")),
            crashes: bounds.get("crashes"),
            last: [bounds.get("entries"), bounds.get("entries"), 1],
            snapshots: bounds.get("snapshots") > 0,
            rejoin: bounds.get("rejoin") > 0,
            flaw: flaw.map(Flaw::named),
        };
        search(&model, states_max)
    },
};

flaws! {
    ParentsCommitLeftOut "birth-without-parents-commit" [] 5 "start refused: a log without state or tombstone" =
        "I6: the newborn's first record does not carry its parent's commit index";
    SpeaksUnrecorded "newborn-speaks-unrecorded" [] 5 "start refused: a log without state or tombstone" =
        "a newborn votes before its first record";
    BirthRestartsLog "birth-restarts-log" [] 6 "N has lost an entry that it had acknowledged" =
        "a birth at replay begins a new log although there is one";
    JudgedBeforeReplay "start-judges-before-replay" [] 5 "start refused: a log without state or tombstone" =
        "a start takes a log without a state for corruption before it has applied what the logs know as committed";
    MessageBeforeReplay "message-before-replay" [] 5 "start refused: a log without state or tombstone" =
        "a start takes messages before it has applied what the logs know as committed";
    VotesUnborn "votes-unborn" [] 2 "start refused: a log without state or tombstone" =
        "a store votes for a group that it lacks";
    TruncatedBeforeFlush "truncated-before-flush" []
        5 "start refused: the log lacks what the engine has not applied (I4)" =
        "I4: a log is truncated up to what the engine has applied, not up to what it has flushed";
    RemovedBeforeFlush "log-removed-before-flush" [] 3 "start refused: a state without its log" =
        "I4: the log of a destroyed peer is removed before the tombstone is flushed";
    ResetBeforeIngest "log-reset-before-ingest" []
        2 "start refused: the log lacks what the engine has not applied (I4)" =
        "I4: a snapshot starts the log over before its ingest is durable";
    SnapshotUnmarked "snapshot-unmarked" [] 2 "start refused: the log is behind the engine (I4)" =
        "the engine does not tell a state that came by a snapshot from one whose log fell behind";
    SnapshotOverNeighbour "snapshot-over-neighbour" [] 1 "P overlaps another living peer (I1)" =
        "I1: a snapshot for a new peer is taken although a living peer owns some of its range";
    TombstoneIgnored "tombstone-ignored" [] 11 "start refused: the log lacks what the engine has not applied (I4)" =
        "I2: a birth does not look whether a tombstone forbids it";
}

const P: usize = 0;
const NAMES: [&str; 3] = ["P", "N", "M"];

/// A group's state in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Absent,
    /// A living peer. At 0 it is as born (FIRST).
    Living {
        applied: u8,
        /// The state came by a snapshot, and the log may not have started over yet.
        ingested: bool,
    },
    Tombstone,
}

/// A group's log: durable as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Log {
    /// Entries up to here are truncated.
    truncated: u8,
    last: u8,
    /// The commit index that the log carries.
    commit: u8,
    voted: bool,
}

/// What peers acknowledged: no peer may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Acknowledged {
    vote: bool,
    last: u8,
    /// The peer is gone for good: tombstone durable, log removed.
    destroyed: bool,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Store {
    /// What the engine shows.
    engine: [Place; 3],
    /// What a crash leaves of it.
    flushed: [Place; 3],
    logs: [Option<Log>; 3],
    /// Commit indexes in memory.
    commits: [u8; 3],
    acknowledged: [Acknowledged; 3],
    crashes: u8,
    rejoined: bool,
    wrong: Option<&'static str>,
}

#[derive(Debug)]
struct Birth {
    groups: usize,
    crashes: u8,
    /// The last entry that each group's log will ever have. The first is the split, if the group has a child.
    last: [u8; 3],
    snapshots: bool,
    rejoin: bool,
    flaw: Option<Flaw>,
}

impl Store {
    fn applied(&self, group: usize) -> Option<u8> {
        match self.engine[group] {
            Place::Living { applied, .. } => Some(applied),
            _ => None,
        }
    }

    /// The peer lives and its log is the one that its state belongs to.
    fn runs(&self, group: usize) -> Option<(u8, Log)> {
        match (self.engine[group], self.logs[group]) {
            (Place::Living { applied, ingested: false }, Some(log)) => Some((applied, log)),
            _ => None,
        }
    }

    /// Writes a record of the group: it carries the commit index (I5).
    fn write(&mut self, group: usize, log: Log) {
        let commit = log.commit.max(self.commits[group]);
        self.logs[group] = Some(Log { commit, ..log });
    }

    /// Whether some living peer owns a part of the range that `group` has at `applied`.
    fn overlaps(&self, group: usize, applied: u8) -> bool {
        // An ancestor that has not applied its split owns its descendants' ranges.
        let ancestors = (0..group).any(|ancestor| self.applied(ancestor) == Some(0));
        let descendants = (group + 1..3).any(|descendant| self.applied(descendant).is_some());
        ancestors || applied == 0 && descendants
    }

    fn fail(&mut self, what: &'static str) {
        self.wrong.get_or_insert(what);
    }
}

impl Birth {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Applies the next entry: one batch of the engine, with the birth of a child in it.
    fn apply(&self, store: &mut Store, group: usize) {
        let Place::Living { applied, ingested } = store.engine[group] else { return };
        store.engine[group] = Place::Living { applied: applied + 1, ingested };
        let child = group + 1;
        let splits = applied == 0 && child < self.groups;
        // A birth is skipped where the group is, or was.
        let free =
            |place: Place| place == Place::Absent || place == Place::Tombstone && self.has(Flaw::TombstoneIgnored);
        if splits && free(store.engine[child]) {
            store.engine[child] = Place::Living { applied: 0, ingested: false };
            if store.acknowledged[child].destroyed {
                store.fail("a destroyed peer is born again (I2)");
            }
            if self.has(Flaw::BirthRestartsLog) {
                store.logs[child] = None;
            }
        }
    }

    /// The newborn's first record, which carries its parent's commit index.
    fn first_record(&self, store: &mut Store, child: usize) {
        store.write(child, Log { truncated: 0, last: 0, commit: 0, voted: false });
        if let (Some(log), false) = (store.logs[child - 1], self.has(Flaw::ParentsCommitLeftOut)) {
            store.write(child - 1, log);
        }
    }

    /// A crash, and the start after it: applies what the logs know as committed, then judges what is left.
    fn crash(&self, store: &mut Store, message_before_replay: bool) {
        store.crashes += 1;
        store.engine = store.flushed;
        store.commits = [0; 3];
        if message_before_replay {
            self.ingest(store, P, self.last[P]);
            self.start_log_over(store, P);
        }
        if self.has(Flaw::JudgedBeforeReplay) {
            self.judge_orphans(store);
        }
        for group in 0..self.groups {
            let Place::Living { applied, ingested } = store.engine[group] else { continue };
            let marked = ingested && !self.has(Flaw::SnapshotUnmarked);
            if marked && store.logs[group].is_none_or(|log| log.last < applied) {
                self.start_log_over(store, group);
            }
            let Some(log) = store.logs[group] else {
                if applied == 0 && group != P {
                    // It was flushed before its first record.
                    self.first_record(store, group);
                } else {
                    store.fail("start refused: a state without its log");
                }
                continue;
            };
            store.engine[group] = Place::Living { applied, ingested: false };
            if log.last < applied {
                store.fail("start refused: the log is behind the engine (I4)");
            }
            if log.truncated > applied {
                store.fail("start refused: the log lacks what the engine has not applied (I4)");
            }
            store.commits[group] = log.commit;
            for _ in applied..log.commit {
                self.apply(store, group);
            }
        }
        self.judge_orphans(store);
    }

    fn judge_orphans(&self, store: &mut Store) {
        for group in 0..self.groups {
            if store.engine[group] == Place::Absent && store.logs[group].is_some() {
                store.fail("start refused: a log without state or tombstone");
            }
        }
    }

    /// A snapshot's files, ranges and state go into the engine, durably, with all that was written before.
    fn ingest(&self, store: &mut Store, group: usize, applied: u8) {
        store.engine[group] = Place::Living { applied, ingested: true };
        store.flushed = store.engine;
    }

    /// The log starts over at the snapshot's index; term and vote stay.
    fn start_log_over(&self, store: &mut Store, group: usize) {
        let Some(applied) = store.applied(group) else { return };
        let voted = store.logs[group].is_some_and(|log| log.voted);
        store.commits[group] = applied;
        store.write(group, Log { truncated: applied, last: applied, commit: applied, voted });
        store.engine[group] = Place::Living { applied, ingested: false };
    }

    /// What raft does with a peer that runs: entries, votes, commits, apply.
    fn raft_steps(&self, store: &Store, group: usize, steps: &mut Steps<Store>) {
        let name = NAMES[group];
        let Some((applied, log)) = store.runs(group) else { return };
        if log.last < self.last[group] {
            let mut next = store.clone();
            next.write(group, Log { last: log.last + 1, ..log });
            next.acknowledged[group].last = log.last + 1;
            steps.step(next, format_args!("{name} appends entry {} and acknowledges it", log.last + 1));
        }
        if !log.voted {
            let mut next = store.clone();
            next.write(group, Log { voted: true, ..log });
            next.acknowledged[group].vote = true;
            steps.step(next, format_args!("{name} votes"));
        }
        if store.commits[group] < log.last {
            let mut next = store.clone();
            next.commits[group] += 1;
            steps.step(next, format_args!("{name} hears that entry {} is committed", store.commits[group] + 1));
        }
        if applied < store.commits[group] {
            let mut next = store.clone();
            self.apply(&mut next, group);
            steps.step(next, format_args!("{name} applies entry {}", applied + 1));
        }
        let safe = match store.flushed[group] {
            Place::Living { applied, ingested: false } => applied,
            _ => 0,
        };
        let safe = if self.has(Flaw::TruncatedBeforeFlush) { applied } else { safe };
        if log.truncated < safe {
            let mut next = store.clone();
            next.write(group, Log { truncated: safe, ..log });
            steps.step(next, format_args!("{name}'s log is truncated up to entry {safe}"));
        }
    }

    /// Votes of peers that should not have one yet.
    fn early_votes(&self, store: &Store, group: usize, steps: &mut Steps<Store>) {
        let unborn = self.has(Flaw::VotesUnborn) && store.engine[group] == Place::Absent;
        let unrecorded = self.has(Flaw::SpeaksUnrecorded) && store.applied(group) == Some(0);
        if group != P && store.logs[group].is_none() && (unborn || unrecorded) {
            let mut next = store.clone();
            next.logs[group] = Some(Log { truncated: 0, last: 0, commit: 0, voted: true });
            next.acknowledged[group].vote = true;
            steps.step(next, format_args!("{} votes already", NAMES[group]));
        }
    }

    fn snapshot_steps(&self, store: &Store, group: usize, steps: &mut Steps<Store>) {
        let (name, last) = (NAMES[group], self.last[group]);
        if let Place::Living { ingested: true, .. } = store.engine[group] {
            let mut next = store.clone();
            self.start_log_over(&mut next, group);
            steps.step(next, format_args!("{name}'s log starts over at its snapshot"));
        }
        if let Some((applied, log)) = store.runs(group)
            && log.last < last
        {
            let mut next = store.clone();
            if self.has(Flaw::ResetBeforeIngest) {
                next.logs[group] = Some(Log { truncated: last, last, commit: last, voted: log.voted });
                steps.step(next, format_args!("{name}'s log starts over for a snapshot at {last}"));
            } else {
                self.ingest(&mut next, group, last);
                steps.step(next, format_args!("{name} (at {applied}) ingests a snapshot at {last}"));
            }
        }
        // The second half of the flaw.
        if let (Some((applied, log)), true) = (store.runs(group), self.has(Flaw::ResetBeforeIngest))
            && log.truncated > applied
        {
            let mut next = store.clone();
            self.ingest(&mut next, group, log.truncated);
            self.start_log_over(&mut next, group);
            steps.step(next, format_args!("{name} ingests its snapshot"));
        }
        let absent = store.engine[group] == Place::Absent && store.logs[group].is_none() && group != P;
        if absent && (!store.overlaps(group, last) || self.has(Flaw::SnapshotOverNeighbour)) {
            let mut next = store.clone();
            self.ingest(&mut next, group, last);
            steps.step(next, format_args!("{name} is born of a snapshot at {last}"));
        }
        let may_return = self.rejoin && group == P && !store.rejoined && store.logs[P].is_none();
        let gone = store.acknowledged[P].destroyed;
        if may_return && gone && !store.overlaps(P, 0) {
            let mut next = store.clone();
            next.rejoined = true;
            next.acknowledged[P] = Acknowledged::default();
            self.ingest(&mut next, P, 0);
            steps.step(next, format_args!("P comes back as a new peer, by an old snapshot of before the split"));
        }
    }

    fn destroy_steps(&self, store: &Store, group: usize, steps: &mut Steps<Store>) {
        let name = NAMES[group];
        if store.runs(group).is_some() {
            let mut next = store.clone();
            next.engine[group] = Place::Tombstone;
            steps.step(next, format_args!("{name} is destroyed: its tombstone is written"));
        }
        let destroyed = store.engine[group] == Place::Tombstone;
        let durable = store.flushed[group] == Place::Tombstone || self.has(Flaw::RemovedBeforeFlush);
        if destroyed && durable && store.logs[group].is_some() {
            let mut next = store.clone();
            next.logs[group] = None;
            next.acknowledged[group].destroyed = true;
            steps.step(next, format_args!("{name}'s log is removed"));
        }
    }
}

impl Model for Birth {
    type State = Store;

    fn initial(&self) -> Vec<Store> {
        let mut engine = [Place::Absent; 3];
        engine[P] = Place::Living { applied: 0, ingested: false };
        let mut logs = [None; 3];
        logs[P] = Some(Log { truncated: 0, last: 0, commit: 0, voted: false });
        vec![Store {
            engine,
            flushed: engine,
            logs,
            commits: [0; 3],
            acknowledged: [Acknowledged::default(); 3],
            crashes: 0,
            rejoined: false,
            wrong: None,
        }]
    }

    fn steps(&self, store: &Store, steps: &mut Steps<Store>) {
        for (group, name) in NAMES.iter().enumerate().take(self.groups) {
            self.raft_steps(store, group, steps);
            self.early_votes(store, group, steps);
            if self.snapshots {
                self.snapshot_steps(store, group, steps);
            }
            self.destroy_steps(store, group, steps);
            let newborn = store.applied(group) == Some(0) && store.logs[group].is_none() && group != P;
            if newborn {
                let mut next = store.clone();
                self.first_record(&mut next, group);
                steps.step(next, format_args!("{name}'s first record is written"));
            }
        }
        if store.flushed != store.engine {
            let mut next = store.clone();
            next.flushed = next.engine;
            steps.step(next, format_args!("the engine flushes"));
        }
        if store.crashes < self.crashes {
            let mut next = store.clone();
            self.crash(&mut next, false);
            steps.fault(next, format_args!("the store crashes and starts again"));
            let behind = matches!(store.flushed[P], Place::Living { applied, .. } if applied < self.last[P]);
            if self.has(Flaw::MessageBeforeReplay) && behind && store.logs[P].is_some_and(|log| log.last < self.last[P])
            {
                let mut next = store.clone();
                self.crash(&mut next, true);
                steps.fault(next, format_args!("the store crashes; P's snapshot arrives before it has replayed"));
            }
        }
    }

    fn check(&self, store: &Store) -> Option<String> {
        if let Some(wrong) = store.wrong {
            return Some(wrong.to_owned());
        }
        for (group, name) in NAMES.iter().enumerate().take(self.groups) {
            if store.applied(group).is_some_and(|applied| store.overlaps(group, applied)) {
                return Some(format!("{name} overlaps another living peer (I1)"));
            }
            let Some((_, log)) = store.runs(group) else { continue };
            let acknowledged = store.acknowledged[group];
            if acknowledged.vote && !log.voted {
                return Some(format!("{name} has forgotten its vote"));
            }
            if acknowledged.last > log.last {
                return Some(format!("{name} has lost an entry that it had acknowledged"));
            }
        }
        None
    }

    fn show(&self, store: &Store) -> String {
        let place = |place: Place| match place {
            Place::Absent => "-".to_owned(),
            Place::Living { applied, ingested } => format!("{applied}{}", if ingested { " (snapshot)" } else { "" }),
            Place::Tombstone => "tombstone".to_owned(),
        };
        let one = |group: usize| {
            let log = store.logs[group].map_or("none".to_owned(), |log| {
                let vote = if log.voted { " voted" } else { "" };
                format!("{}..{} commit {}{vote}", log.truncated, log.last, log.commit)
            });
            let (engine, flushed) = (place(store.engine[group]), place(store.flushed[group]));
            format!("{}: engine {engine}, flushed {flushed}, log {log}", NAMES[group])
        };
        (0..self.groups).map(one).collect::<Vec<_>>().join("; ")
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
