//! # raft: what raft promises, judged from the facts that the peers report as they happen
//!
//! | property | file | judged when a peer |
//! |---|---|---|
//! | at most one leader a term | [`election_safety`] | becomes leader |
//! | same index and term, same entry | [`log_matching`] | writes an entry |
//! | a leader holds every committed entry | [`leader_completeness`] | becomes leader |
//! | the same index applies the same entry everywhere, without gaps | [`state_machine_safety`] | applies, installs a snapshot |
//! | a committed entry is never overwritten | [`commit_permanence`] | writes or cuts its log |
//! | term, vote, commit and durable log never go back | [`persistence`] | writes its state, starts |
//! | an entry is durable on a quorum before anyone applies it | [`quorum_durability`] | applies |
//! | a peer goes on with entries after a snapshot | here | installs a snapshot, while nothing loses what it is sent |
//! | a read under a lease is the newest leader's | [`lease_reads`] | serves one |
//!
//! A store whose disk was replaced never comes back: its machine joins as another store. What it had made durable still counts
//! for entries that were committed by it, because a quorum of the others cannot be found without one that holds them, too.
//!
//! **In** come probe events, **out** goes the first property that does not hold. **Never**: what a peer believes of others.

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

use armilla::rt::probe::Event;

use state::{Broken, Entry, Group, Made, Peer, PeerId};

/// The property that a lagging peer goes on with entries once it has a snapshot, and does not need another one at once.
const SNAPSHOTS_IN_A_ROW: &str = "snapshots-in-a-row";
/// When nothing is wrong any more: one that was under way, and one that was needed.
const SNAPSHOTS_IN_A_ROW_MAX: u64 = 2;

/// Follows all peers.
#[derive(Debug, Default)]
pub struct Raft {
    groups: BTreeMap<u64, Group>,
    peers: BTreeMap<PeerId, Peer>,
    /// How many peers each group has, where it is known.
    replicas: BTreeMap<u64, usize>,
    /// Stores that came back with an older copy of their disk: what they hold is not judged, what they serve and whom they elect is.
    rolled_back: BTreeSet<u64>,
    /// By peer: snapshots installed since the last entry was appended.
    in_a_row: BTreeMap<PeerId, u64>,
    /// More than two in a row are too many: always, at present.
    judges_snapshots: (bool, bool),
    /// Leader changes seen.
    pub elections: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Reads under a lease.
    pub lease_reads: u64,
    /// Reads that asked a quorum.
    pub index_reads: u64,
    /// Entries applied, over all peers.
    pub applies: u64,
}

impl Raft {
    /// The group has that many peers. Until this is said, nobody can tell what a quorum of it is.
    pub fn replicas(&mut self, group: u64, peers: usize) {
        self.replicas.insert(group, peers);
    }

    /// The store came back with an older copy of its disk.
    pub fn roll_back(&mut self, store: u64) {
        self.rolled_back.insert(store);
    }

    /// From now on nothing is wrong that would make a peer need one snapshot after the other.
    pub fn judge_snapshots(&mut self) {
        self.in_a_row.clear();
        self.judges_snapshots = (true, true);
    }

    /// The faults have changed; these (`calm`) make no peer that is up lose what it is sent. Counting begins anew.
    pub fn judge_snapshots_while(&mut self, calm: bool) {
        self.in_a_row.clear();
        self.judges_snapshots.1 = self.judges_snapshots.0 || calm;
    }

    /// The most snapshots in a row that any peer installed lately.
    pub fn snapshots_in_a_row(&self) -> u64 {
        self.in_a_row.values().copied().max().unwrap_or(0)
    }

    /// Judges one fact, then remembers it.
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
                peer.made.insert(index, Made { first, applied: peer.applied });
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

    /// A peer came up with what its disk holds.
    fn start(
        &mut self,
        id: PeerId,
        (term, vote, commit): (u64, u64, u64),
        (base, last_index): (u64, u64),
    ) -> Result<(), Broken> {
        let (_, peer) = self.parts(id);
        // A log is cut below what is applied. One that begins behind that was begun anew by a snapshot, which the peer had no time to
        // tell of.
        if base > peer.applied.max(peer.commit) {
            peer.log.clear();
            peer.made.clear();
            peer.base.0 = base;
        }
        persistence::check_start(peer, id, (term, vote, commit), last_index)?;
        // What was written but not reported durable may be there or not, in the place of what was there before: later appends will
        // tell.
        if let Some(first) = peer.made.values().map(|made| made.first).min() {
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
        // The record of an entry carries the commit index; what was applied before it was made had been committed.
        if let Some(Made { applied, .. }) = peer.made.remove(&index) {
            peer.carried = peer.carried.max(applied);
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
        if first && let Some(&replicas) = self.replicas.get(&id.group) {
            quorum_durability::check(id, index, entry, self.holders(id, index, entry), replicas)?;
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

    /// How many peers have an entry on their disks.
    fn holders(&self, id: PeerId, index: u64, entry: Entry) -> usize {
        let of_group = PeerId { store: 0, peer: 0, ..id }..PeerId { group: id.group + 1, store: 0, peer: 0 };
        self.peers.range(of_group).filter(|(_, peer)| peer.holds(index, &entry)).count()
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
    //! Goal: each rule fires on the smallest story that breaks it. Method: a legal story, then one with one fact changed.
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
    /// The oracle that fired, if one did, and at which fact.
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
        // Fact 17 of the legal story: peer 1 applies entry 2.
        let judge_with = |at: usize| {
            let mut story = legal();
            story.insert(at, record(1, 3));
            let start =
                Event::Start { store: 1, group: G, peer: 1, term: 2, vote: 0, commit: 1, base: 0, last_index: 3 };
            story.extend([append(1, 3, 2, 30), start]);
            judge(&story)
        };
        assert_eq!(judge_with(18), Some((21, persistence::NAME)), "made afterwards");
        assert_eq!(judge_with(17), None, "on its way to the disk by then");
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
        assert_eq!(with(2, lease(2, 1)), Some((2, lease_reads::NAME)), "never led");
    }
}
