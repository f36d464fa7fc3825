//! # raft: raft's safety properties, judged from the events that the peers report
//!
//! | property | file | judged when a peer |
//! |---|---|---|
//! | at most one leader per term | [`election_safety`] | becomes leader |
//! | entries with the same index and term are the same | [`log_matching`] | writes an entry |
//! | a leader holds every committed entry | [`leader_completeness`] | becomes leader |
//! | peers apply the same entry at each index, without gaps | [`state_machine_safety`] | applies, installs a snapshot |
//! | a committed entry is never overwritten | [`commit_permanence`] | writes or truncates its log |
//! | term, vote, commit and durable log never go back | [`persistence`] | writes its state, starts |
//! | an entry is durable on a quorum before any peer applies it | [`quorum_durability`] | applies |
//! | a peer continues with entries after a snapshot | this one | installs a snapshot, while no fault loses messages |
//! | a read under a lease is served by the newest leader | [`lease_reads`] | serves a read under a lease |
//!
//! A store whose disk was replaced never comes back: its machine joins as another store. The entries that it had made
//! durable still count for their commits, because every quorum of the other stores includes one that holds them as
//! well.
//!
//! **In** come probe events, **out** goes the first violated property. **Never**: what a peer assumes about other
//! peers.

mod commit_permanence;
mod election_safety;
mod leader_completeness;
mod lease_reads;
mod log_matching;
mod persistence;
mod quorum_durability;
mod state;
mod state_machine_safety;

use std::collections::{BTreeMap, BTreeSet};

use armilla::proto::metapb::PeerRole;
use armilla::rt::probe::Event;
use armilla::types::{Region, region};

use state::{Broken, Entry, Group, Made, Peer, PeerId};

/// The property that a lagging peer continues with entries after a snapshot and does not need another one immediately.
const SNAPSHOTS_IN_A_ROW: &str = "snapshots-in-a-row";
/// The allowed number after all faults have ended: one that was in progress, and one that was needed.
const SNAPSHOTS_IN_A_ROW_MAX: u64 = 2;

/// A group's voters as of one configuration version.
#[derive(Debug)]
struct Members {
    conf_ver: u64,
    /// The voters of each half of a joint membership, by their peers' IDs; otherwise one half.
    halves: Vec<Vec<u64>>,
}

/// Follows all peers.
#[derive(Debug, Default)]
pub struct Raft {
    groups: BTreeMap<u64, Group>,
    peers: BTreeMap<PeerId, Peer>,
    /// By group: its number of peers, if known, until a descriptor is shown.
    replicas: BTreeMap<u64, usize>,
    /// By group: the two newest memberships that a peer has shown, the newest first. A leader decides by the newest one
    /// or, while it has not applied that itself, by the one before.
    members: BTreeMap<u64, Vec<Members>>,
    /// Stores that came back with an older copy of their disk. Their durable state is not judged; their elections and
    /// reads are.
    rolled_back: BTreeSet<u64>,
    /// By peer: snapshots installed since the last entry was appended.
    in_a_row: BTreeMap<PeerId, u64>,
    /// Whether snapshots in a row are judged: for the rest of the run, and at present.
    judges_snapshots: (bool, bool),
    /// The number of elections won.
    pub elections: u64,
    /// The number of installed snapshots.
    pub snapshots: u64,
    /// The number of reads under a lease.
    pub lease_reads: u64,
    /// The number of reads that asked a quorum.
    pub index_reads: u64,
    /// The number of entries applied by all peers.
    pub applies: u64,
}

impl Raft {
    /// Sets a group's number of peers. Until it is set, the group's quorum is unknown.
    pub fn replicas(&mut self, group: u64, peers: usize) {
        self.replicas.insert(group, peers);
    }

    /// Records a descriptor that a peer shows. Returns whether its membership is newer than all known ones.
    pub fn members(&mut self, region: &Region) -> bool {
        let conf_ver = region::epoch(region).conf_ver;
        let known = self.members.entry(region.id).or_default();
        if known.iter().any(|members| members.conf_ver >= conf_ver) {
            return false;
        }
        let of = |roles: &[PeerRole]| -> Vec<u64> {
            region.peers.iter().filter(|peer| roles.contains(&peer.role())).map(|peer| peer.id).collect()
        };
        let new = of(&[PeerRole::Voter, PeerRole::IncomingVoter]);
        let old = of(&[PeerRole::Voter, PeerRole::DemotingVoter]);
        let halves = if new == old { vec![new] } else { vec![new, old] };
        known.insert(0, Members { conf_ver, halves });
        known.truncate(2);
        true
    }

    /// Reports that a store came back with an older copy of its disk.
    pub fn roll_back(&mut self, store: u64) {
        self.rolled_back.insert(store);
    }

    /// Judges snapshots in a row from now on: no fault is left that could make a peer need several of them.
    pub fn judge_snapshots(&mut self) {
        self.in_a_row.clear();
        self.judges_snapshots = (true, true);
    }

    /// Reports a change of the faults, and starts counting again. If `calm`, no running peer loses messages.
    pub fn judge_snapshots_while(&mut self, calm: bool) {
        self.in_a_row.clear();
        self.judges_snapshots.1 = self.judges_snapshots.0 || calm;
    }

    /// Returns the largest number of snapshots in a row that a peer has installed since counting started.
    pub fn snapshots_in_a_row(&self) -> u64 {
        self.in_a_row.values().copied().max().unwrap_or(0)
    }

    /// Judges one event, then records it.
    pub fn observe(&mut self, event: &Event) -> Result<(), Broken> {
        match event {
            Event::Start { store, .. }
            | Event::HardState { store, .. }
            | Event::Record { store, .. }
            | Event::Append { store, .. }
            | Event::Truncate { store, .. }
            | Event::Apply { store, .. }
            | Event::Snapshot { store, .. }
                if self.rolled_back.contains(store) =>
            {
                return Ok(());
            }
            _ => {}
        }
        let id = |store: u64, group: u64, peer: u64| PeerId { group, store, peer };
        match *event {
            Event::Start { store, group, peer, term, vote, commit, base, last_index } => {
                self.start(id(store, group, peer), (term, vote, commit), (base, last_index))
            }
            Event::HardState { store, group, peer, term, vote, commit } => {
                self.hard_state(id(store, group, peer), (term, vote, commit))
            }
            Event::Record { store, group, peer, first, index } => {
                let (_, peer) = self.parts(id(store, group, peer));
                let made = Made { first, applied: peer.applied };
                peer.made.entry(index).or_default().push_back(made);
                Ok(())
            }
            Event::Append { store, group, peer, index, term, hash } => {
                self.append(id(store, group, peer), index, Entry { term, hash })
            }
            Event::Truncate { store, group, peer, from_index } => self.truncate(id(store, group, peer), from_index),
            Event::Leader { store, group, peer, term } => self.leader(id(store, group, peer), term),
            Event::Follow { store, group, peer, term, .. } => {
                self.peers.entry(id(store, group, peer)).or_default().see(term);
                Ok(())
            }
            Event::Apply { store, group, peer, index, term, hash } => {
                self.apply(id(store, group, peer), index, Entry { term, hash })
            }
            Event::Snapshot { store, group, peer, index, term } => self.snapshot(id(store, group, peer), index, term),
            Event::LeaseRead { store, group, peer, term } => {
                self.lease_reads += 1;
                lease_reads::check(self.groups.entry(group).or_default(), id(store, group, peer), term)
            }
            Event::IndexRead { .. } => {
                self.index_reads += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn parts(&mut self, id: PeerId) -> (&mut Group, &mut Peer) {
        (self.groups.entry(id.group).or_default(), self.peers.entry(id).or_default())
    }

    /// A peer started with the state on its disk.
    fn start(
        &mut self,
        id: PeerId,
        (term, vote, commit): (u64, u64, u64),
        (base, last_index): (u64, u64),
    ) -> Result<(), Broken> {
        let (_, peer) = self.parts(id);
        // A log is truncated only up to the applied index. A log that begins after that was restarted by a snapshot
        // that the peer had no time to report.
        if base > peer.applied.max(peer.commit) {
            peer.log.clear();
            peer.made.clear();
            peer.base.0 = base;
        }
        persistence::check_start(peer, id, (term, vote, commit), last_index)?;
        // Records that were being written may or may not have replaced earlier entries: later appends will show it.
        if let Some(first) = peer.made.values().flatten().map(|made| made.first).min() {
            peer.log.split_off(&first);
        }
        peer.term = term;
        peer.seen = term;
        peer.vote = vote;
        peer.commit = peer.commit.max(commit);
        peer.floor = last_index;
        peer.applied = 0;
        peer.made.clear();
        Ok(())
    }

    /// Term, vote and commit became durable.
    fn hard_state(&mut self, id: PeerId, (term, vote, commit): (u64, u64, u64)) -> Result<(), Broken> {
        let (_, peer) = self.parts(id);
        persistence::check(peer, id, term, vote, commit)?;
        (peer.term, peer.vote, peer.commit) = (term, vote, commit);
        peer.see(term);
        Ok(())
    }

    /// An entry became durable.
    fn append(&mut self, id: PeerId, index: u64, entry: Entry) -> Result<(), Broken> {
        self.in_a_row.remove(&id);
        let (group, peer) = self.parts(id);
        log_matching::check(group, id, index, entry)?;
        commit_permanence::check(group, peer, id, index)?;
        group.entries.insert((index, entry.term), entry.hash);
        peer.cut(index);
        peer.log.insert(index, entry);
        // The record of an entry contains the commit index, and all entries applied before it was made were committed.
        if let Some(records) = peer.made.get_mut(&index) {
            // Records are written in order.
            let carried = records.pop_front().map_or(0, |made| made.applied);
            peer.carried = peer.carried.max(carried);
            if records.is_empty() {
                peer.made.remove(&index);
            }
        }
        Ok(())
    }

    /// The log from `from` on is being overwritten.
    fn truncate(&mut self, id: PeerId, from: u64) -> Result<(), Broken> {
        let (group, peer) = self.parts(id);
        commit_permanence::check(group, peer, id, from)?;
        peer.cut(from);
        Ok(())
    }

    /// A peer won an election.
    fn leader(&mut self, id: PeerId, term: u64) -> Result<(), Broken> {
        self.elections += 1;
        self.in_a_row.retain(|other, _| other.group != id.group);
        let (group, peer) = self.parts(id);
        election_safety::check(group, id, term)?;
        leader_completeness::check(group, peer, id, term)?;
        group.leaders.insert(term, (id.store, id.peer));
        peer.see(term);
        Ok(())
    }

    /// A peer applied an entry.
    fn apply(&mut self, id: PeerId, index: u64, entry: Entry) -> Result<(), Broken> {
        self.applies += 1;
        let first = !self.groups.entry(id.group).or_default().applied.contains_key(&index);
        if first {
            let holders = self.holders(id, index, entry);
            if let Some(members) = self.members.get(&id.group) {
                quorum_durability::check_members(id, index, entry, &holders, members)?;
            } else if let Some(&replicas) = self.replicas.get(&id.group) {
                quorum_durability::check(id, index, entry, holders.len(), replicas)?;
            }
        }
        let (group, peer) = self.parts(id);
        state_machine_safety::check(group, peer, id, index, entry)?;
        group.applied.insert(index, entry);
        peer.see(entry.term);
        let seen = peer.seen;
        group.committed_by.entry(index).and_modify(|by| *by = seen.min(*by)).or_insert(seen);
        peer.applied = index;
        Ok(())
    }

    /// Returns the peers that have an entry on their disks.
    fn holders(&self, id: PeerId, index: u64, entry: Entry) -> BTreeSet<u64> {
        let of_group = PeerId { store: 0, peer: 0, ..id }..PeerId { group: id.group + 1, store: 0, peer: 0 };
        self.peers.range(of_group).filter(|(_, peer)| peer.holds(index, &entry)).map(|(id, _)| id.peer).collect()
    }

    /// A snapshot replaced a peer's state.
    fn snapshot(&mut self, id: PeerId, index: u64, term: u64) -> Result<(), Broken> {
        self.snapshots += 1;
        let in_a_row = self.in_a_row.entry(id).or_default();
        *in_a_row += 1;
        if self.judges_snapshots.1 && *in_a_row > SNAPSHOTS_IN_A_ROW_MAX {
            let what = format!("group {}: {in_a_row} snapshots in a row without an entry between them", id.group);
            return Err((SNAPSHOTS_IN_A_ROW, id.store, what));
        }
        let (group, peer) = self.parts(id);
        state_machine_safety::check_snapshot(group, peer, id, index, term)?;
        peer.log = if peer.log.get(&index).is_some_and(|e| e.term == term) {
            peer.log.split_off(&(index + 1))
        } else {
            BTreeMap::new()
        };
        peer.base = (index, term);
        peer.floor = 0;
        peer.applied = index;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each rule fires on the smallest sequence of events that breaks it. Method: a legal sequence, then the same
    //! with one event added.
    use super::*;

    const G: u64 = 2;

    fn record(store: u64, index: u64) -> Event {
        Event::Record { store, group: G, peer: store, first: index, index }
    }
    fn append(store: u64, index: u64, term: u64, hash: u64) -> Event {
        Event::Append { store, group: G, peer: store, index, term, hash }
    }
    fn apply(store: u64, index: u64, term: u64, hash: u64) -> Event {
        Event::Apply { store, group: G, peer: store, index, term, hash }
    }
    fn leader(store: u64, term: u64) -> Event {
        Event::Leader { store, group: G, peer: store, term }
    }
    fn hard(store: u64, term: u64, vote: u64, commit: u64) -> Event {
        Event::HardState { store, group: G, peer: store, term, vote, commit }
    }
    fn lease(store: u64, term: u64) -> Event {
        Event::LeaseRead { store, group: G, peer: store, term }
    }
    fn start(store: u64, term: u64, vote: u64, last_index: u64) -> Event {
        Event::Start { store, group: G, peer: store, term, vote, commit: 0, base: 0, last_index }
    }
    /// Returns the property that was violated, if one was, and at which event.
    fn judge(story: &[Event]) -> Option<(usize, &'static str)> {
        let mut raft = Raft::default();
        raft.replicas(G, 3);
        story.iter().enumerate().find_map(|(n, event)| raft.observe(event).err().map(|broken| (n, broken.0)))
    }
    fn legal() -> Vec<Event> {
        vec![
            hard(1, 1, 1, 0),
            leader(1, 1),
            append(1, 1, 1, 10),
            append(2, 1, 1, 10),
            apply(1, 1, 1, 10),
            lease(1, 1),
            append(1, 2, 1, 20),
            start(2, 1, 1, 1),
            hard(2, 2, 2, 1),
            leader(2, 2),
            append(2, 2, 2, 21),
            append(3, 1, 1, 10),
            append(3, 2, 2, 21),
            apply(2, 1, 1, 10),
            apply(2, 2, 2, 21),
            Event::Truncate { store: 1, group: G, peer: 1, from_index: 2 },
            append(1, 2, 2, 21),
            apply(1, 2, 2, 21),
            lease(2, 2),
        ]
    }
    fn with(at: usize, event: Event) -> Option<(usize, &'static str)> {
        let mut story = legal();
        story.insert(at, event);
        judge(&story)
    }

    #[test]
    fn a_legal_story_passes() {
        assert_eq!(judge(&legal()), None);
    }

    #[test]
    fn two_leaders() {
        assert_eq!(with(2, leader(3, 1)), Some((2, election_safety::NAME)));
    }

    #[test]
    fn two_contents() {
        assert_eq!(with(4, append(3, 1, 1, 11)), Some((4, log_matching::NAME)));
        assert_eq!(with(5, apply(2, 1, 1, 11)), Some((5, state_machine_safety::NAME)));
    }

    #[test]
    fn applied_without_a_quorum() {
        assert_eq!(with(7, apply(1, 2, 1, 20)), Some((7, quorum_durability::NAME)));
    }

    #[test]
    fn durable_state_that_goes_back() {
        assert_eq!(with(10, start(2, 1, 1, 1)), Some((10, persistence::NAME)), "term");
        assert_eq!(with(10, start(2, 2, 3, 1)), Some((10, persistence::NAME)), "vote");
        assert_eq!(with(11, start(2, 2, 2, 1)), Some((11, persistence::NAME)), "log");
        assert_eq!(with(10, hard(2, 2, 3, 1)), Some((10, persistence::NAME)), "second vote");
        assert_eq!(with(10, hard(2, 2, 2, 0)), Some((10, persistence::NAME)), "commit");
    }

    #[test]
    fn a_record_on_its_way_may_have_replaced_what_was_durable() {
        let end = |on_its_way: bool| {
            let mut story = legal();
            story.extend([append(3, 3, 2, 30), append(3, 4, 2, 40)]);
            story.extend(on_its_way.then(|| record(3, 3)));
            story.push(start(3, 3, 0, 3));
            judge(&story).map(|(_, name)| name)
        };
        assert_eq!(end(false), Some(persistence::NAME));
        assert_eq!(end(true), None);
    }

    #[test]
    fn a_log_may_begin_anew_at_a_snapshot_that_nobody_was_told_of() {
        let end = |base: u64| {
            let mut story = legal();
            story.extend((3..=7).map(|index| append(3, index, 2, index * 10)));
            story.push(Event::Start { store: 3, group: G, peer: 3, term: 2, vote: 0, commit: 5, base, last_index: 5 });
            judge(&story).map(|(_, name)| name)
        };
        assert_eq!(end(5), None);
        assert_eq!(end(0), Some(persistence::NAME), "it holds the entries from 1 on, and lost 6 and 7");
    }

    #[test]
    fn a_record_carries_what_was_committed_before_it_was_made() {
        // Event 17 of the legal story: peer 1 applies entry 2.
        let judge_with = |at: usize| {
            let mut story = legal();
            story.insert(at, record(1, 3));
            let start =
                Event::Start { store: 1, group: G, peer: 1, term: 2, vote: 0, commit: 1, base: 0, last_index: 3 };
            story.extend([append(1, 3, 2, 30), start]);
            judge(&story)
        };
        assert_eq!(judge_with(18), Some((21, persistence::NAME)), "made afterwards");
        assert_eq!(judge_with(17), None, "made before entry 2 was applied");
    }

    #[test]
    fn a_leader_without_a_committed_entry() {
        assert_eq!(with(5, leader(3, 2)), Some((5, leader_completeness::NAME)));
    }

    #[test]
    fn gaps_and_lost_commits() {
        assert_eq!(with(19, apply(1, 4, 2, 40)), Some((19, quorum_durability::NAME)));
        let cut = Event::Truncate { store: 2, group: G, peer: 2, from_index: 1 };
        assert_eq!(with(18, cut), Some((18, commit_permanence::NAME)));
    }

    #[test]
    fn a_lease_that_outlives_its_leader() {
        assert_eq!(with(18, lease(1, 1)), Some((18, lease_reads::NAME)));
        assert_eq!(with(2, lease(2, 1)), Some((2, lease_reads::NAME)), "it was never leader");
    }
}
