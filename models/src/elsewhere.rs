//! # Elsewhere: a follower serves reads of transactions
//!
//! **What is modelled.** One key in one region, a leader, a follower that applies the log later, and perhaps a change
//! of the leader: the former one goes on answering until it has to prove that it leads. A first transaction commits in
//! one request, at a timestamp that its leader chooses; a second one in two phases, at one that it asks for once its
//! lock is in the log. A read of the follower either asks the leader (*replica read*), or uses a safe time that the
//! leader has told (*stale read*).
//!
//! ```text
//!   replica read at t:  max_ts ≥ t ─▶ locks in memory ─▶ index, proof of the lead ─▶ (follower) applied ≥ index ─▶ read
//!   safe time:  R given out, max_ts ≥ R ─▶ min(R, locks in memory) ─▶ proof of the lead, index
//! ```
//!
//! **Bounds.** `replica`, `stale` (reads of each kind), `moves` (changes of the leader), `two` (whether the second
//! transaction runs).
//!
//! **Invariant.** A read at t has seen exactly what is committed at or below t, at every later moment too.

use crate::flaws;
use crate::list::List;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "elsewhere",
    about: "reads of transactions by a follower: by asking, and by safe times",
    bounds: &[
        Bound { name: "replica", about: "reads that ask the leader", quick: 1, large: 1, min: 0, max: 2 },
        Bound { name: "stale", about: "reads by a safe time", quick: 0, large: 1, min: 0, max: 2 },
        Bound { name: "moves", about: "changes of the leader", quick: 1, large: 1, min: 0, max: 1 },
        Bound {
            name: "two",
            about: "whether a second transaction commits in two phases",
            quick: 1,
            large: 1,
            min: 0,
            max: 1,
        },
    ],
    cases: &[&[("replica", 0), ("stale", 1)], &[("stale", 1)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let (replica, stale) = (bounds.get("replica"), bounds.get("stale"));
        let (moves, two) = (bounds.get("moves"), bounds.get("two") == 1);
        search(&Elsewhere { replica, stale, moves, two, flaw: flaw.map(Flaw::named) }, states_max)
    },
};

flaws! {
    Unraised "follower-read-unraised" [] 8 "has not seen" =
        "a leader that is asked about a read does not raise max_ts";
    IgnoresMemory "follower-read-ignores-memory" [] 8 "has not seen" =
        "a read elsewhere does not wait for locks in the leader's memory";
    IndexFirst "index-before-the-locks" [] 8 "has not seen" =
        "a leader takes its index before it looks for locks in memory";
    Unproved "lead-unproved" [] 10 "has not seen" =
        "a leader that is asked does not prove that it leads";
    BeforeApplied "read-before-applied" [] 8 "has not seen" =
        "a follower reads before it has applied the index";
    LocksPassed "locks-passed" [] 11 "has not seen" =
        "a read elsewhere does not look at locks that are applied";
    SafeUnraised "safe-time-unraised" [("replica", 0), ("stale", 1)] 8 "has not seen" =
        "a safe time is told without raising max_ts to it";
    SafeIgnoresMemory "safe-time-ignores-memory" [("replica", 0), ("stale", 1)] 8 "has not seen" =
        "a safe time is above locks in memory";
    SafeAfterLead "safe-time-after-lead" [("replica", 0), ("stale", 1)] 9 "has not seen" =
        "the timestamp of a safe time is taken after the proof of the lead";
    NotSynced "max-ts-not-synced" [] 9 "has not seen" =
        "a new leader commits below reads that an earlier one has admitted";
}

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    /// The lock of the second transaction, which began at this timestamp.
    Lock(u8),
    /// A transaction has committed at this timestamp; its lock is gone.
    Record(u8, u8),
}

impl Default for Entry {
    fn default() -> Entry {
        Entry::Record(0, 0)
    }
}

type Log = List<Entry, 4>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Leader {
    max_ts: u8,
    /// Whether max_ts is above what earlier leaders have admitted.
    synced: bool,
    /// The start of the first transaction, while its commit is under way.
    memory: Option<u8>,
    /// How much of the log it knew when it was deposed.
    knew: Option<u8>,
}

/// How far a transaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Stage {
    #[default]
    New,
    Begun,
    /// An entry is proposed; it commits at this timestamp, or it sets its lock (0).
    Proposed(u8),
    Locked,
    /// It knows its commit timestamp.
    Asked(u8),
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Txn {
    start: u8,
    stage: Stage,
}

/// How far a read, or the safe time that it uses, has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Asked {
    #[default]
    New,
    /// It has a timestamp.
    Begun,
    /// max_ts is raised.
    Raised,
    /// It has passed the locks in memory.
    Passed,
    /// Flaw: the lead is proved, the timestamp comes later.
    Proved,
    /// It may be served from this index on.
    Answered,
    /// The leader could not prove that it leads: the read is asked again, as another one.
    Refused,
    /// It has seen a transaction, or none (0).
    Seen(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Read {
    stale: bool,
    asked: Asked,
    at: u8,
    index: u8,
    /// Which leader was asked.
    leader: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    now: u8,
    leader: u8,
    leaders: [Leader; 2],
    log: Log,
    applied: u8,
    txns: [Txn; 2],
    reads: List<Read, 4>,
}

#[derive(Debug)]
struct Elsewhere {
    replica: u8,
    stale: u8,
    moves: u8,
    two: bool,
    flaw: Option<Flaw>,
}

/// Returns the transaction that a read at `at` sees in entries (numbered from 1; 0: none).
fn visible(entries: &[Entry], at: u8) -> u8 {
    let records = entries.iter().filter_map(|entry| match entry {
        Entry::Record(txn, commit) if *commit <= at => Some((*commit, txn + 1)),
        _ => None,
    });
    records.max().map_or(0, |(_, txn)| txn)
}

/// Returns the start of the lock that stands in entries.
fn locked(entries: &[Entry]) -> Option<u8> {
    let mut lock = None;
    for entry in entries {
        match entry {
            Entry::Lock(start) => lock = Some(*start),
            Entry::Record(1, _) => lock = None,
            Entry::Record(..) => {}
        }
    }
    lock
}

impl Elsewhere {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The first transaction: one request.
    fn first_steps(&self, world: &World, steps: &mut Steps<World>) {
        let own = world.txns[0];
        let mut next = world.clone();
        let at = usize::from(world.leader);
        match own.stage {
            Stage::New => {
                next.now += 1;
                next.txns[0] = Txn { start: next.now, stage: Stage::Begun };
                steps.step(next, format_args!("the first begins at {}", world.now + 1));
            }
            // The key is latched, or locked, or another has committed since.
            Stage::Begun if locked(&world.log).is_some() || matches!(world.txns[1].stage, Stage::Proposed(_)) => {}
            Stage::Begun if visible(&world.log, u8::MAX) != 0 => {
                next.txns[0].stage = Stage::Over;
                steps.step(next, format_args!("the first is refused"));
            }
            Stage::Begun if !world.leaders[at].synced && !self.has(Flaw::NotSynced) => {
                next.now += 1;
                (next.leaders[at].max_ts, next.leaders[at].synced) = (world.leaders[at].max_ts.max(next.now), true);
                steps.step(next, format_args!("the new leader asks for a timestamp: {}", world.now + 1));
            }
            Stage::Begun => {
                let commit = world.leaders[at].max_ts.max(own.start) + 1;
                next.leaders[at].memory = Some(own.start);
                next.txns[0].stage = Stage::Proposed(commit);
                steps.step(next, format_args!("the first is to commit at {commit}"));
            }
            Stage::Proposed(commit) => {
                next.log.push(Entry::Record(0, commit));
                next.leaders[at].memory = None;
                next.txns[0].stage = Stage::Over;
                steps.step(next, format_args!("the first has committed at {commit}"));
            }
            Stage::Locked | Stage::Asked(_) | Stage::Over => {}
        }
    }

    /// The second transaction: two phases.
    fn second_steps(&self, world: &World, steps: &mut Steps<World>) {
        let own = world.txns[1];
        let mut next = world.clone();
        match own.stage {
            Stage::New => {
                next.now += 1;
                next.txns[1] = Txn { start: next.now, stage: Stage::Begun };
                steps.step(next, format_args!("the second begins at {}", world.now + 1));
            }
            Stage::Begun if matches!(world.txns[0].stage, Stage::Proposed(_)) => {}
            Stage::Begun => {
                let newer = world.log.iter().any(|entry| matches!(entry, Entry::Record(_, at) if *at > own.start));
                next.txns[1].stage = if newer { Stage::Over } else { Stage::Proposed(0) };
                steps.step(next, format_args!("the second proposes its lock, or is refused"));
            }
            Stage::Proposed(0) => {
                next.log.push(Entry::Lock(own.start));
                next.txns[1].stage = Stage::Locked;
                steps.step(next, format_args!("the second has its lock"));
            }
            Stage::Locked => {
                next.now += 1;
                next.txns[1].stage = Stage::Asked(next.now);
                steps.step(next, format_args!("the second asks to commit at {}", world.now + 1));
            }
            Stage::Asked(commit) | Stage::Proposed(commit) => {
                next.log.push(Entry::Record(1, commit));
                next.txns[1].stage = Stage::Over;
                steps.step(next, format_args!("the second has committed at {commit}"));
            }
            Stage::Over => {}
        }
    }

    /// What a leader knows of the log.
    fn known(world: &World, leader: u8) -> u8 {
        world.leaders[usize::from(leader)].knew.unwrap_or(world.log.len() as u8)
    }

    fn read_steps(&self, world: &World, which: usize, steps: &mut Steps<World>) {
        let read = world.reads[which];
        let mut reads: Vec<Read> = world.reads.to_vec();
        let with = |world: &World, reads: &[Read]| {
            let mut list = List::new();
            list.extend(reads.iter().copied());
            World { reads: list, ..world.clone() }
        };
        let asked = usize::from(read.leader);
        let late = read.stale && self.has(Flaw::SafeAfterLead);
        match read.asked {
            Asked::New => {
                // Any leader that does not know better may be asked.
                for leader in 0..=world.leader {
                    let now = world.now + u8::from(!late);
                    reads[which] = Read { leader, at: now, asked: Asked::Begun, ..read };
                    let mut next = with(world, &reads);
                    next.now = now;
                    steps.step(next, format_args!("read {which} is asked of leader {leader} at {now}"));
                }
            }
            Asked::Begun => {
                let raises = if read.stale { !self.has(Flaw::SafeUnraised) } else { !self.has(Flaw::Unraised) };
                reads[which].asked = Asked::Raised;
                reads[which].index = Self::known(world, read.leader);
                let mut next = with(world, &reads);
                if raises {
                    let max_ts = &mut next.leaders[asked].max_ts;
                    *max_ts = (*max_ts).max(read.at);
                }
                steps.step(next, format_args!("leader {asked} raises max_ts to {}", read.at));
            }
            Asked::Raised => {
                let in_memory = world.leaders[asked].memory.filter(|start| *start <= read.at);
                match in_memory {
                    Some(start) if read.stale && !self.has(Flaw::SafeIgnoresMemory) => reads[which].at = start,
                    Some(_) if !read.stale && !self.has(Flaw::IgnoresMemory) => return,
                    _ => {}
                }
                reads[which].asked = Asked::Passed;
                steps.step(with(world, &reads), format_args!("read {which} passes the locks in memory"));
            }
            Asked::Passed => {
                let leads = read.leader == world.leader;
                if !leads && !self.has(Flaw::Unproved) {
                    reads[which].asked = Asked::Refused;
                    steps.step(with(world, &reads), format_args!("leader {asked} hears that it does not lead"));
                    return;
                }
                let index = if self.has(Flaw::IndexFirst) { read.index } else { Self::known(world, read.leader) };
                reads[which] = Read { index, asked: if late { Asked::Proved } else { Asked::Answered }, ..read };
                steps.step(with(world, &reads), format_args!("read {which} has the index {index}"));
            }
            Asked::Proved => {
                reads[which] = Read { at: world.now + 1, asked: Asked::Answered, ..read };
                let mut next = with(world, &reads);
                next.now += 1;
                next.leaders[asked].max_ts = next.leaders[asked].max_ts.max(next.now);
                steps.step(next, format_args!("read {which} gets the timestamp {}", world.now + 1));
            }
            Asked::Answered => {
                if world.applied < read.index && !self.has(Flaw::BeforeApplied) {
                    return;
                }
                let here = &world.log[..usize::from(world.applied)];
                if locked(here).is_some_and(|start| start <= read.at) && !self.has(Flaw::LocksPassed) {
                    return;
                }
                let seen = visible(here, read.at);
                reads[which].asked = Asked::Seen(seen);
                steps.step(with(world, &reads), format_args!("read {which} at {} sees {seen}", read.at));
            }
            Asked::Refused | Asked::Seen(_) => {}
        }
    }

    /// The leader changes. What was proposed is in the log then, or never.
    fn move_steps(&self, world: &World, steps: &mut Steps<World>) {
        if world.leader >= self.moves {
            return;
        }
        for kept in [false, true] {
            let mut next = world.clone();
            next.leaders[usize::from(world.leader)].knew = Some(world.log.len() as u8);
            next.leader += 1;
            for txn in 0..2 {
                let own = world.txns[txn];
                let Stage::Proposed(commit) = own.stage else { continue };
                if kept {
                    next.log.push(if txn == 0 { Entry::Record(0, commit) } else { Entry::Lock(own.start) });
                }
                // Nobody goes on with it; a lock that is kept stays.
                next.txns[txn].stage = Stage::Over;
            }
            steps.fault(next, format_args!("the leader changes; what was proposed is kept: {kept}"));
        }
    }
}

impl Model for Elsewhere {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let mut reads = List::new();
        reads.extend((0..self.replica + self.stale).map(|n| Read { stale: n >= self.replica, ..Read::default() }));
        let leaders = [Leader { synced: true, ..Leader::default() }, Leader::default()];
        vec![World { now: 0, leader: 0, leaders, log: Log::new(), applied: 0, txns: Default::default(), reads }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        self.first_steps(world, steps);
        if self.two {
            self.second_steps(world, steps);
        }
        for which in 0..world.reads.len() {
            self.read_steps(world, which, steps);
        }
        if usize::from(world.applied) < world.log.len() {
            let next = World { applied: world.applied + 1, ..world.clone() };
            steps.step(next, format_args!("the follower applies entry {}", world.applied + 1));
        }
        self.move_steps(world, steps);
    }

    fn check(&self, world: &World) -> Option<String> {
        for read in world.reads.iter() {
            let Asked::Seen(seen) = read.asked else { continue };
            if visible(&world.log, read.at) != seen {
                let kind = if read.stale { "stale" } else { "replica" };
                return Some(format!("a {kind} read at {} has not seen what is committed at or below that", read.at));
            }
        }
        None
    }

    fn show(&self, world: &World) -> String {
        let leader = |leader: &Leader| format!("max_ts {} memory {:?}", leader.max_ts, leader.memory);
        let [first, second] = &world.leaders;
        format!(
            "now {}; leader {} ({}; {}); log {:?} applied {}; {:?}; {:?}",
            world.now,
            world.leader,
            leader(first),
            leader(second),
            &*world.log,
            world.applied,
            world.txns,
            &*world.reads
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
