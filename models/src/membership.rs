//! # Membership: joint consensus, applied late, with a commit index that crashes must not lose
//!
//! **What is modelled.** One group of raft on stores 1 to 4. Voters are 1, 2 and 3; 4 is a learner. The leader swaps
//! 3 for 4: `Joint` (voters {1, 2, 3} and {1, 2, 4}, a majority of both), then `Leave` (voters {1, 2, 4}, 3 a
//! learner). A peer's membership is what it has *applied*, as in raft-rs, and it applies what it knows as committed.
//! A crash takes it back to the commit index in its log: to the oldest membership, if no record carried a newer one.
//! Appends of any length that a leader ever sent, with any commit index of then, may arrive at any time; so may
//! votes.
//!
//! ```text
//!   3 applied Joint, logs Leave | crash: its log holds Joint, Leave, but knows no commit: 3 believes in {1, 2, 3}
//!   1 and 4 apply Leave         | 3 campaigns and wins with 2, while 4 wins with 1: two leaders      (camunda#57389)
//! ```
//!
//! **Bounds.** `terms` (the first leader has term 1), `crashes`, `data` (entries of data beside the empty one of
//! each new leader), `late` (whether appends of before arrive).
//!
//! **Invariants.** At most one leader a term. A new leader has every entry that was committed. Two leaders never
//! commit different entries at one index.
//!
//! **Found.** The design holds (its section 3, I5). What I5 rests on, and what the design does not say: an append
//! that carries `Leave` carries the commit index of `Joint`, as raft-rs' appends do, for `Leave` is proposed after
//! `Joint` is applied (flaw `commit-not-sent`).

use crate::flaws;
use crate::list::List;
use crate::protocol::{Bound, Bounds, Protocol};
use crate::search::{Model, Outcome, Steps, search};

/// The model, for the command line and the tests.
pub const PROTOCOL: Protocol = Protocol {
    name: "membership",
    about: "a voter is swapped by joint consensus, applied late: never two leaders, no committed entry lost",
    bounds: &[
        Bound { name: "terms", about: "terms, the first leader's is 1", quick: 2, large: 2, min: 1, max: 3 },
        Bound {
            name: "crashes",
            about: "crashes, back to the commit index in the log",
            quick: 1,
            large: 1,
            min: 0,
            max: 3,
        },
        Bound { name: "data", about: "entries of data", quick: 0, large: 0, min: 0, max: 2 },
        Bound {
            name: "late",
            about: "1: appends of before arrive late; 0: each has all that there is",
            quick: 0,
            large: 1,
            min: 0,
            max: 1,
        },
    ],
    cases: &[&[], &[("crashes", 0), ("late", 1)]],
    flaws: FLAWS,
    search: |bounds: &Bounds, flaw: Option<&str>, states_max: usize| -> Outcome {
        let model = Membership {
            terms: usize::from(bounds.get("terms")),
            crashes: bounds.get("crashes"),
            data: usize::from(bounds.get("data")),
            late: bounds.get("late") > 0,
            flaw: flaw.map(Flaw::named),
        };
        search(&model, states_max)
    },
};

flaws! {
    CommitNotCarried "commit-not-carried" [] 14 "two leaders in one term" =
        "I5: a log record does not carry the commit index";
    CommitNotSent "commit-not-sent" [] 13 "two leaders in one term" =
        "an append does not carry the leader's commit index";
    OneHalf "conf-one-quorum" [] 9 "a leader lacks what was committed" =
        "in the joint membership a majority of the new half is enough";
    LearnerCounts "learner-counts" [] 6 "a leader lacks what was committed" =
        "a learner's acknowledgement and vote count";
    SwapAtOnce "swap-at-once" [] 10 "two leaders in one term" =
        "a voter is swapped by one entry, without the joint membership";
    LeavesUnapplied "leaves-unapplied" [] 11 "two leaders in one term" =
        "a leader proposes Leave before it has applied Joint";
    CampaignsUnapplied "campaigns-unapplied" [] 13 "two leaders in one term" =
        "a peer campaigns although a committed change of members is not applied";
}

const STORES: usize = 4;
/// Voters before and after the swap, as bits.
const OLD: u8 = 0b0111;
const NEW: u8 = 0b1011;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Entry {
    Joint,
    Leave,
    /// The first entry of a new leader.
    #[default]
    Empty,
    Data,
}

/// Entries with the terms of the leaders that made them.
type Log = List<(u8, Entry), 8>;

/// In memory: a crash makes a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Peer {
    term: usize,
    log: Log,
    /// The commit index in memory. What is committed is applied.
    commit: usize,
    /// The commit index that the log holds.
    durable: usize,
    role: Role,
}

/// What the leader of a term has sent: any prefix may arrive, at any time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sent {
    leader: usize,
    log: Log,
    /// The leader's commit index when each entry could first be sent: an append with that entry carries as much at
    /// least.
    floors: List<u8, 8>,
    commit: usize,
    /// How much of its log each peer has acknowledged.
    acknowledged: [usize; STORES],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    peers: [Peer; STORES],
    /// By term: whom each peer voted for, and what the leader sent.
    votes: [[Option<u8>; STORES]; 4],
    sent: [Option<Sent>; 4],
    /// All that was ever committed.
    committed: Log,
    crashes: u8,
    wrong: Option<&'static str>,
}

#[derive(Debug)]
struct Membership {
    terms: usize,
    crashes: u8,
    data: usize,
    late: bool,
    flaw: Option<Flaw>,
}

fn majority(of: u8, set: u8) -> bool {
    (of & set).count_ones() * 2 > of.count_ones()
}

impl Membership {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// 0 before the swap, 1 in the joint membership, 2 after it: by the first `applied` entries of `log`.
    fn stage(&self, log: &Log, applied: usize) -> u8 {
        let has = |entry: Entry| log[..applied].iter().any(|(_, other)| *other == entry);
        match (has(Entry::Joint), has(Entry::Leave)) {
            (true, false) if self.has(Flaw::SwapAtOnce) => 2,
            (true, false) => 1,
            (true, true) => 2,
            (false, _) => 0,
        }
    }

    fn is_quorum(&self, stage: u8, set: u8) -> bool {
        match stage {
            _ if self.has(Flaw::LearnerCounts) && stage != 1 => set.count_ones() >= 2,
            0 => majority(OLD, set),
            1 => majority(NEW, set) && (majority(OLD, set) || self.has(Flaw::OneHalf)),
            _ => majority(NEW, set),
        }
    }

    fn is_voter(&self, stage: u8, store: usize) -> bool {
        let voters = [OLD, OLD | NEW, NEW][usize::from(stage)];
        voters & 1 << store != 0
    }

    /// Writes a record of `peer`: it carries the commit index.
    fn write(&self, peer: &mut Peer) {
        if !self.has(Flaw::CommitNotCarried) {
            peer.durable = peer.commit;
        }
    }

    fn leader_steps(&self, world: &World, store: usize, steps: &mut Steps<World>) {
        let peer = &world.peers[store];
        let Some(sent) = world.sent[peer.term].as_ref().filter(|_| peer.role == Role::Leader) else {
            return;
        };
        let term = peer.term;
        let has = |entry: Entry| peer.log.iter().filter(|(_, other)| *other == entry).count();
        let joint = self.stage(&peer.log, peer.commit) == 1 || self.has(Flaw::LeavesUnapplied);
        let proposals = [
            (Entry::Joint, has(Entry::Joint) == 0),
            (Entry::Leave, has(Entry::Joint) == 1 && has(Entry::Leave) == 0 && joint && !self.has(Flaw::SwapAtOnce)),
            (Entry::Data, has(Entry::Data) < self.data),
        ];
        for (entry, _) in proposals.into_iter().filter(|(_, allowed)| *allowed) {
            let mut next = world.clone();
            append(&mut next, store, entry);
            self.write(&mut next.peers[store]);
            steps.step(next, format_args!("{} (leader of term {term}) proposes {entry:?}", store + 1));
        }
        for at in peer.commit + 1..=peer.log.len() {
            let holders = (0..STORES).filter(|other| *other == store || sent.acknowledged[*other] >= at);
            let set = holders.fold(0u8, |set, other| set | 1 << other);
            // Only entries of the leader's own term commit by counting.
            let own = usize::from(peer.log[at - 1].0) == term;
            if own && self.is_quorum(self.stage(&peer.log, peer.commit), set) {
                let mut next = world.clone();
                commit(&mut next, store, at);
                steps.step(next, format_args!("{} (leader of term {term}) commits up to {at}", store + 1));
            }
        }
    }

    /// Any append that the leader of `term` ever sent.
    fn append_steps(&self, world: &World, store: usize, term: usize, steps: &mut Steps<World>) {
        let Some(sent) = world.sent[term].as_ref().filter(|sent| sent.leader != store) else { return };
        let peer = &world.peers[store];
        if peer.term > term {
            return;
        }
        let agreed = peer.log.iter().zip(sent.log.iter()).take_while(|(own, theirs)| own == theirs).count();
        let shortest = if self.late { 0 } else { sent.log.len() };
        for len in shortest..=sent.log.len() {
            let floor =
                if len == 0 || self.has(Flaw::CommitNotSent) { 0 } else { usize::from(sent.floors[len - 1]).min(len) };
            for heard in floor..=sent.commit.min(len) {
                let mut next = world.clone();
                let peer = &mut next.peers[store];
                let news = len > agreed;
                if news {
                    peer.log.truncate(agreed);
                    peer.log.extend(sent.log[agreed..len].iter().copied());
                }
                let changed = news || peer.term != term;
                (peer.term, peer.role) = (term, Role::Follower);
                peer.commit = peer.commit.max(heard);
                if changed {
                    self.write(peer);
                }
                if let Some(sent) = &mut next.sent[term] {
                    sent.acknowledged[store] = sent.acknowledged[store].max(len);
                }
                if next != *world {
                    steps.step(
                        next,
                        format_args!(
                            "{} takes {len} entries, {heard} committed, from the leader of term {term}",
                            store + 1
                        ),
                    );
                }
            }
        }
    }

    fn election_steps(&self, world: &World, store: usize, steps: &mut Steps<World>) {
        let peer = &world.peers[store];
        let stage = self.stage(&peer.log, peer.commit);
        if peer.term < self.terms && peer.role != Role::Leader && self.is_voter(stage, store) {
            let mut next = world.clone();
            let term = peer.term + 1;
            next.votes[term][store] = Some(store as u8);
            (next.peers[store].term, next.peers[store].role) = (term, Role::Candidate);
            self.write(&mut next.peers[store]);
            steps.step(next, format_args!("{} campaigns in term {term}", store + 1));
        }
        let term = peer.term;
        if peer.role != Role::Candidate {
            return;
        }
        for voter in (0..STORES).filter(|voter| *voter != store) {
            let other = &world.peers[voter];
            let free = other.term < term || other.term == term && world.votes[term][voter].is_none();
            let last = |log: &Log| (log.last().map(|(term, _)| *term), log.len());
            if free && last(&peer.log) >= last(&other.log) {
                let mut next = world.clone();
                next.votes[term][voter] = Some(store as u8);
                (next.peers[voter].term, next.peers[voter].role) = (term, Role::Follower);
                self.write(&mut next.peers[voter]);
                steps.step(next, format_args!("{} votes for {} in term {term}", voter + 1, store + 1));
            }
        }
        let votes = (0..STORES).filter(|voter| world.votes[term][*voter] == Some(store as u8));
        let set = votes.fold(0u8, |set, voter| set | 1 << voter);
        let oldest = if self.has(Flaw::CampaignsUnapplied) { 0 } else { stage };
        if (oldest..=stage).any(|stage| self.is_quorum(stage, set) && self.is_voter(stage, store)) {
            let mut next = world.clone();
            self.lead(&mut next, store);
            steps.step(next, format_args!("{} becomes leader of term {term}", store + 1));
        }
    }

    fn lead(&self, world: &mut World, store: usize) {
        let peer = &mut world.peers[store];
        let term = peer.term;
        if world.sent[term].is_some() {
            world.wrong.get_or_insert("two leaders in one term");
            return;
        }
        if !peer.log.starts_with(&world.committed) {
            world.wrong.get_or_insert("a leader lacks what was committed");
        }
        peer.role = Role::Leader;
        let (log, commit) = (peer.log, peer.commit);
        let mut floors = List::new();
        floors.extend(log.iter().map(|_| commit as u8));
        world.sent[term] = Some(Sent { leader: store, log, floors, commit, acknowledged: [0; STORES] });
        append(world, store, Entry::Empty);
        self.write(&mut world.peers[store]);
    }
}

fn append(world: &mut World, leader: usize, entry: Entry) {
    let peer = &mut world.peers[leader];
    peer.log.push((peer.term as u8, entry));
    if let Some(sent) = &mut world.sent[peer.term] {
        sent.log.push((peer.term as u8, entry));
        sent.floors.push(peer.commit as u8);
    }
}

fn commit(world: &mut World, leader: usize, at: usize) {
    let peer = &mut world.peers[leader];
    peer.commit = at;
    let both = at.min(world.committed.len());
    if peer.log[..both] != world.committed[..both] {
        world.wrong.get_or_insert("two leaders committed different entries at one index");
    }
    world.committed.extend(peer.log[both..at].iter().copied());
    if let Some(sent) = &mut world.sent[peer.term] {
        sent.commit = at;
    }
}

impl Model for Membership {
    type State = World;

    fn initial(&self) -> Vec<World> {
        let peer = |role: Role| Peer { term: 1, log: List::new(), commit: 0, durable: 0, role };
        let sent = Sent { leader: 0, log: List::new(), floors: List::new(), commit: 0, acknowledged: [0; STORES] };
        vec![World {
            peers: [peer(Role::Leader), peer(Role::Follower), peer(Role::Follower), peer(Role::Follower)],
            votes: [[None; STORES]; 4],
            sent: [None, Some(sent), None, None],
            committed: List::new(),
            crashes: 0,
            wrong: None,
        }]
    }

    fn steps(&self, world: &World, steps: &mut Steps<World>) {
        for store in 0..STORES {
            self.leader_steps(world, store, steps);
            for term in 1..=self.terms {
                self.append_steps(world, store, term, steps);
            }
            self.election_steps(world, store, steps);
            let peer = &world.peers[store];
            // A crash that loses nothing is as good as none.
            if world.crashes < self.crashes && (peer.role != Role::Follower || peer.commit > peer.durable) {
                let mut next = world.clone();
                next.crashes += 1;
                next.peers[store] = Peer { commit: peer.durable, role: Role::Follower, ..peer.clone() };
                steps.fault(next, format_args!("{} crashes; its log knows {} as committed", store + 1, peer.durable));
            }
        }
    }

    fn check(&self, world: &World) -> Option<String> {
        world.wrong.map(str::to_owned)
    }

    fn show(&self, world: &World) -> String {
        let one = |store: usize| {
            let peer = &world.peers[store];
            let log: Vec<String> = peer.log.iter().map(|(term, entry)| format!("{entry:?}{term}")).collect();
            let leads = if peer.role == Role::Leader { " leads" } else { "" };
            let (term, commit, durable) = (peer.term, peer.commit, peer.durable);
            format!("{}: term {term}{leads} [{}] commit {commit}, durable {durable}", store + 1, log.join(" "))
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
