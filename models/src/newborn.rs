//! # Newborn: a split must leave every newborn group a quorum
//!
//! **What is modelled.** P has its peers on stores 1, 2 and 3; store 4 is a spare. P's log takes the split that
//! makes N (on 1, 2 and 3), then a swap of one peer for one on store 4; or P is merged into T, which swaps a peer
//! then. An entry is committed when two of three have it in their logs; everybody applies when it wants. A store
//! that lacks N does not vote for N. A snapshot of P, a removal of P's peer and a merge of P can each take a store
//! past the split without its having applied it: there N is not born.
//!
//! ```text
//!   store 1:  P applied the split, N born          store 1 dies
//!   store 2:  P applied the split, N born          N on 2 asks for a vote: store 3 lacks N and does not answer
//!   store 3:  P came by a snapshot, N not born     N is stuck, with two of three stores alive
//! ```
//!
//! **Bounds.** `deaths` (stores that die for good), `swap` (1: P's log may take a swap), `merge` (1: P may merge
//! into T, and T may swap a peer then).
//!
//! **Properties.** From every state N can still get a quorum of living peers, and P's leader can still get leave to
//! change its members.
//!
//! **Found: I10, as the design has it, is not enough.** It strikes N from P's list once the local N has applied
//! beyond FIRST. A snapshot of P taken then carries no N ("still as born" is over), so a store that it takes past
//! the split waits for a snapshot from N's leader. If that leader's store dies first, N's other peer cannot win
//! without the vote of a store that lacks N: stuck forever (flaw `only-leaders-answer`; the same after a removal or
//! a merge).
//!
//! **Mended.** I10 stays, and: *a store that lacks N and gets a vote request whose descriptor names it says so, and
//! the candidate sends it a snapshot of its applied state, as a leader would.* That is safe: what is applied is
//! committed, and a peer that was never born has promised nothing. And a store that N's descriptor does not name
//! does not list N: else a leader of P on the spare would wait forever (flaw `spare-lists-newborn`).

use std::fmt;

use crate::flaws;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "newborn",
    about: "a split's newborn keeps a quorum although snapshots, removals and merges take stores past the split",
    bounds: &[
        Bound { name: "deaths", about: "stores that die for good", quick: 1, large: 1, min: 0, max: 4 },
        Bound { name: "swap", about: "1: P may swap a peer for one on the spare", quick: 1, large: 1, min: 0, max: 1 },
        Bound {
            name: "merge",
            about: "1: P may merge into T, which may swap a peer",
            quick: 0,
            large: 0,
            min: 0,
            max: 1,
        },
        Bound {
            name: "writes",
            about: "entries of data in P's log after the split",
            quick: 1,
            large: 2,
            min: 0,
            max: 3,
        },
    ],
    cases: &[&[], &[("swap", 0), ("merge", 1), ("writes", 0)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let model = Newborn {
            deaths: bounds.get("deaths"),
            swap: bounds.get("swap") > 0,
            merge: bounds.get("merge") > 0,
            writes: usize::from(bounds.get("writes")),
            flaw: flaw.map(Flaw::named),
        };
        search(&model, states_max)
    },
};

flaws! {
    OnlyLeadersAnswer "only-leaders-answer" [] 7 "N has a quorum of living peers" =
        "I10 as it was written: a store that lacks N gets a snapshot of N from N's leader only";
    SnapshotJumps "snapshot-jumps-newborn" [] 7 "N has a quorum of living peers" =
        "P's snapshot does not carry a newborn that is still at FIRST";
    RemovalJumps "removal-jumps-newborn" [] 11 "N has a quorum of living peers" =
        "P's leader changes its members before the local N is beyond FIRST";
    MergeJumps "merge-jumps-newborn" [("swap", 0), ("merge", 1), ("writes", 0)] 12 "N has a quorum of living peers" =
        "P's leader proposes Prepare before the local N is beyond FIRST";
    SpareLists "spare-lists-newborn" [] 9 "N has a quorum of living peers" =
        "a store that N does not name lists N as well";
}

const STORES: usize = 4;
const SPARE: usize = 3;
const P: usize = 0;
const T: usize = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    /// P's: makes N.
    Split,
    Data,
    /// This store's peer goes, one on the spare comes.
    Swap(usize),
    /// P's: it will take nothing more (Prepare and Seal).
    Seal,
    /// T's: takes P in.
    Merge,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Split => f.write_str("the split"),
            Entry::Data => f.write_str("data"),
            Entry::Swap(gone) => write!(f, "the swap of store {} for 4", gone + 1),
            Entry::Seal => f.write_str("the seal"),
            Entry::Merge => f.write_str("the merge"),
        }
    }
}

/// A peer of P or T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    Absent,
    Here {
        /// Entries in its log.
        len: usize,
        applied: usize,
    },
    Gone,
}

/// A group with committed entries only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    log: Vec<Entry>,
    peers: [Peer; STORES],
}

/// A peer of N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Born {
    No,
    /// Born; whether its log, and its state, are beyond FIRST.
    Yes {
        logged: bool,
        applied: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    dead: [bool; STORES],
    /// P and T.
    groups: [Group; 2],
    newborn: [Born; STORES],
}

#[derive(Debug)]
struct Newborn {
    deaths: u8,
    swap: bool,
    merge: bool,
    writes: usize,
    flaw: Option<Flaw>,
}

impl Group {
    fn new() -> Group {
        let here = Peer::Here { len: 0, applied: 0 };
        Group { log: Vec::new(), peers: [here, here, here, Peer::Absent] }
    }

    fn swapped(&self) -> Option<usize> {
        self.log.iter().find_map(|entry| if let Entry::Swap(gone) = entry { Some(*gone) } else { None })
    }

    fn is_member(&self, store: usize) -> bool {
        self.swapped().map_or(store != SPARE, |gone| store != gone)
    }

    fn len(&self, store: usize) -> Option<usize> {
        if let Peer::Here { len, .. } = self.peers[store] { Some(len) } else { None }
    }

    fn applied(&self, store: usize) -> Option<usize> {
        if let Peer::Here { applied, .. } = self.peers[store] { Some(applied) } else { None }
    }
}

impl World {
    /// Living members of a group that have its whole log: each may lead it.
    fn leaders(&self, group: usize) -> impl Iterator<Item = usize> {
        let whole = move |store: &usize| self.groups[group].len(*store) == Some(self.groups[group].log.len());
        (0..STORES).filter(move |store| !self.dead[*store] && self.groups[group].is_member(*store)).filter(whole)
    }

    /// P's peer here still owns N's range.
    fn split_ahead(&self, store: usize) -> bool {
        let split = self.groups[P].log.iter().position(|entry| *entry == Entry::Split);
        self.groups[P].applied(store).is_some_and(|applied| split.is_none_or(|split| applied <= split))
    }

    fn is_born(&self, store: usize) -> bool {
        self.newborn[store] != Born::No
    }

    /// Living stores with a peer of N.
    fn born(&self) -> impl Iterator<Item = usize> {
        (0..STORES).filter(|store| !self.dead[*store] && self.is_born(*store))
    }

    fn bear(&mut self, store: usize) {
        if store != SPARE && !self.is_born(store) {
            self.newborn[store] = Born::Yes { logged: false, applied: false };
        }
    }

    fn committed(&self) -> bool {
        self.newborn.iter().filter(|born| matches!(born, Born::Yes { logged: true, .. })).count() >= 2
    }
}

impl Newborn {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Whether a leader of P on `store` may change members or merge: the newborns that it lists are beyond FIRST.
    fn may_change(&self, world: &World, store: usize) -> bool {
        let unlisted = store == SPARE && !self.has(Flaw::SpareLists);
        unlisted || matches!(world.newborn[store], Born::Yes { applied: true, .. })
    }

    /// Commits `entry` in the logs of a leader and one more member.
    fn propose(&self, world: &World, group: usize, entry: Entry, steps: &mut Steps<World>) {
        let name = ["P", "T"][group];
        let whole: Vec<usize> = world.leaders(group).collect();
        for &leader in &whole {
            let allowed = match entry {
                Entry::Swap(gone) => {
                    let gate = group == T || self.may_change(world, leader) || self.has(Flaw::RemovalJumps);
                    gate && leader != gone && world.groups[group].len(SPARE).is_some()
                }
                // Prepare and Seal: all peers have the whole log.
                Entry::Seal => {
                    let members = (0..STORES).filter(|store| world.groups[P].is_member(*store)).count();
                    let gate = self.may_change(world, leader) || self.has(Flaw::MergeJumps);
                    gate && whole.len() == members
                }
                Entry::Split | Entry::Data | Entry::Merge => true,
            };
            for &other in whole.iter().filter(|other| **other > leader && allowed) {
                if entry == Entry::Swap(other) {
                    continue;
                }
                let mut next = world.clone();
                next.groups[group].log.push(entry);
                for store in [leader, other] {
                    if let Peer::Here { len, .. } = &mut next.groups[group].peers[store] {
                        *len += 1;
                    }
                }
                let (leader, other) = (leader + 1, other + 1);
                steps.step(next, format_args!("{name} commits {entry} on stores {leader} and {other}"));
            }
        }
    }

    fn proposals(&self, world: &World, steps: &mut Steps<World>) {
        let (p, t) = (&world.groups[P].log, &world.groups[T].log);
        let sealed = p.contains(&Entry::Seal);
        if p.is_empty() {
            self.propose(world, P, Entry::Split, steps);
            return;
        }
        if !sealed && p.iter().filter(|entry| **entry == Entry::Data).count() < self.writes {
            self.propose(world, P, Entry::Data, steps);
        }
        for gone in 0..SPARE {
            if self.swap && !sealed && world.groups[P].swapped().is_none() {
                self.propose(world, P, Entry::Swap(gone), steps);
            }
            if t.contains(&Entry::Merge) && world.groups[T].swapped().is_none() {
                self.propose(world, T, Entry::Swap(gone), steps);
            }
        }
        if self.merge && !sealed {
            self.propose(world, P, Entry::Seal, steps);
        }
        if sealed && t.is_empty() {
            self.propose(world, T, Entry::Merge, steps);
        }
    }

    /// Applies the next entry of a peer.
    fn apply(world: &mut World, group: usize, store: usize) {
        let Peer::Here { len, applied } = world.groups[group].peers[store] else { return };
        world.groups[group].peers[store] = Peer::Here { len, applied: applied + 1 };
        match world.groups[group].log[applied] {
            Entry::Split => world.bear(store),
            Entry::Swap(gone) if gone == store => world.groups[group].peers[store] = Peer::Gone,
            Entry::Swap(_) | Entry::Seal | Entry::Data => {}
            // T's peer takes P's range: first P's peer applies what it has, which the seal waited for.
            Entry::Merge => {
                while world.groups[P].applied(store).is_some_and(|applied| applied < world.groups[P].log.len()) {
                    Newborn::apply(world, P, store);
                }
                world.groups[P].peers[store] = Peer::Gone;
            }
        }
    }

    /// Apply, catching up, snapshots and proofs for one peer of P or T.
    fn peer_steps(&self, world: &World, group: usize, store: usize, steps: &mut Steps<World>) {
        let (name, number) = (["P", "T"][group], store + 1);
        let peer = world.groups[group].peers[store];
        if let Peer::Here { len, applied } = peer
            && applied < len
        {
            let mut next = world.clone();
            Newborn::apply(&mut next, group, store);
            let entry = world.groups[group].log[applied];
            steps.step(next, format_args!("{name} on store {number} applies {entry}"));
        }
        for leader in world.leaders(group).filter(|leader| *leader != store) {
            let ahead = world.groups[group].applied(leader).unwrap_or(0);
            let lagging = matches!(peer, Peer::Here { len, .. } if len < ahead && world.groups[group].is_member(store));
            let absent = peer == Peer::Absent
                && ahead > 0
                && (group == T || self.may_change(world, leader) || self.has(Flaw::RemovalJumps));
            if lagging || absent {
                let mut next = world.clone();
                self.install(&mut next, group, store, leader);
                steps.fault(
                    next,
                    format_args!("{name} on store {number} gets a snapshot at {ahead} from store {}", leader + 1),
                );
            }
            if let Peer::Here { len, applied } = peer
                && len < world.groups[group].log.len()
            {
                let mut next = world.clone();
                next.groups[group].peers[store] = Peer::Here { len: len + 1, applied };
                steps.step(next, format_args!("{name} on store {number} gets entry {}", len + 1));
            }
        }
        // Proof: a peer elsewhere has applied the change that removed this one.
        let removed = world.groups[group].swapped() == Some(store) && matches!(peer, Peer::Here { .. });
        let merged =
            group == P && world.groups[T].log.contains(&Entry::Merge) && world.groups[T].peers[store] == Peer::Gone;
        let proof = world.leaders(group).any(|leader| {
            let swap = world.groups[group].log.iter().position(|entry| *entry == Entry::Swap(store));
            swap.is_some_and(|swap| world.groups[group].applied(leader) > Some(swap))
        });
        if removed && proof || merged && matches!(peer, Peer::Here { .. }) {
            let mut next = world.clone();
            next.groups[group].peers[store] = Peer::Gone;
            steps.step(next, format_args!("{name} on store {number} learns that it is gone and is destroyed"));
        }
    }

    /// A snapshot of what `leader` has applied.
    fn install(&self, world: &mut World, group: usize, store: usize, leader: usize) {
        let ahead = world.groups[group].applied(leader).unwrap_or(0);
        let jumps_split = group == P && world.split_ahead(store);
        world.groups[group].peers[store] = Peer::Here { len: ahead, applied: ahead };
        let as_born = world.newborn[leader] == Born::Yes { logged: false, applied: false };
        let as_born = as_born || matches!(world.newborn[leader], Born::Yes { applied: false, .. });
        if jumps_split && as_born && !self.has(Flaw::SnapshotJumps) {
            world.bear(store);
        }
        // T's snapshot destroys the local P that it has absorbed.
        if group == T {
            world.groups[P].peers[store] = Peer::Gone;
        }
    }

    /// Elections, entries and snapshots of N.
    fn newborn_steps(&self, world: &World, steps: &mut Steps<World>) {
        let born: Vec<usize> = world.born().collect();
        let committed = world.committed();
        for &store in &born {
            for &other in born.iter().filter(|other| **other > store && !committed) {
                let mut next = world.clone();
                for voter in [store, other] {
                    next.newborn[voter] = Born::Yes { logged: true, applied: false };
                }
                let (store, other) = (store + 1, other + 1);
                steps.step(next, format_args!("N elects a leader and commits an entry on stores {store} and {other}"));
            }
            let Born::Yes { logged, applied } = world.newborn[store] else { continue };
            if committed && born.len() >= 2 && !logged {
                let mut next = world.clone();
                next.newborn[store] = Born::Yes { logged: true, applied: false };
                steps.step(next, format_args!("N on store {} gets the entry from the leader", store + 1));
            }
            if committed && logged && !applied {
                let mut next = world.clone();
                next.newborn[store] = Born::Yes { logged: true, applied: true };
                steps.step(next, format_args!("N on store {} applies beyond FIRST", store + 1));
            }
        }
        for store in (0..SPARE).filter(|store| !world.dead[*store] && !world.is_born(*store)) {
            if world.split_ahead(store) {
                continue;
            }
            // A leader needs a quorum of born peers; a candidate does not.
            for &sender in born.iter().filter(|_| born.len() >= 2 || !self.has(Flaw::OnlyLeadersAnswer)) {
                let mut next = world.clone();
                let Born::Yes { applied, .. } = world.newborn[sender] else { continue };
                next.newborn[store] = Born::Yes { logged: applied, applied };
                let who = if born.len() >= 2 { "leader" } else { "candidate" };
                steps.step(
                    next,
                    format_args!("N is born on store {} of the {who}'s state (store {})", store + 1, sender + 1),
                );
            }
        }
    }
}

impl Model for Newborn {
    type State = World;

    fn initial(&self) -> Vec<World> {
        vec![World { dead: [false; STORES], groups: [Group::new(), Group::new()], newborn: [Born::No; STORES] }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        self.proposals(world, steps);
        for store in (0..STORES).filter(|store| !world.dead[*store]) {
            self.peer_steps(world, P, store, steps);
            if self.merge {
                self.peer_steps(world, T, store, steps);
            }
            if world.dead.iter().filter(|dead| **dead).count() < usize::from(self.deaths) {
                let mut next = world.clone();
                next.dead[store] = true;
                steps.fault(next, format_args!("store {} dies for good", store + 1));
            }
        }
        self.newborn_steps(world, steps);
    }

    fn check(&self, world: &World) -> Option<String> {
        let both = |store: &usize| world.is_born(*store) && world.split_ahead(*store);
        (0..STORES).find(both).map(|store| format!("P and N on store {} overlap (I1)", store + 1))
    }

    fn progress(&self) -> Option<&'static str> {
        Some("N has a quorum of living peers, and every possible leader of P may change its members")
    }

    fn settled(&self, world: &World) -> bool {
        let quorum = world.born().count() >= 2;
        let free = world.leaders(P).all(|leader| self.may_change(world, leader));
        quorum && (free || world.groups[P].log.contains(&Entry::Seal))
    }

    fn show(&self, world: &World) -> String {
        let one = |store: usize| {
            if world.dead[store] {
                return format!("{}: dead", store + 1);
            }
            let peer = |name: &str, peer: Peer| match peer {
                Peer::Absent => String::new(),
                Peer::Here { len, applied } => format!(" {name} {applied}/{len}"),
                Peer::Gone => format!(" {name} gone"),
            };
            let newborn = match world.newborn[store] {
                Born::No => "",
                Born::Yes { logged: false, .. } => " N at FIRST",
                Born::Yes { applied: false, .. } => " N at FIRST, one entry logged",
                Born::Yes { .. } => " N beyond FIRST",
            };
            let target = if self.merge { peer("T", world.groups[T].peers[store]) } else { String::new() };
            format!("{}:{}{target}{newborn}", store + 1, peer("P", world.groups[P].peers[store]))
        };
        (0..STORES).map(one).collect::<Vec<_>>().join("; ")
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
