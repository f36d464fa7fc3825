//! O1 and O3: what raft promises, judged from the facts that the peers report as they happen.
//!
//! | rule | where |
//! |---|---|
//! | one leader a term (election safety) | [`Raft::leader`] |
//! | same index and term, same entry (log matching) | [`Raft::append`] |
//! | a new leader holds every committed entry (leader completeness) | [`Raft::leader`] |
//! | the same index applies the same entry everywhere, without gaps (state machine safety) | [`Raft::apply`] |
//! | an entry is durable on a quorum before anyone applies it (O3) | [`Raft::apply`] |
//! | term, vote and commit never go back, over restarts too; nor does the durable log | [`Raft::hard_state`], [`Raft::start`] |
//! | a committed entry is never overwritten | [`Raft::truncate`] |
//! | a lease ends before a later leader begins | [`Raft::lease_read`] |
//!
//! A store whose disk was replaced never comes back: its machine joins as another store. What it had made durable still counts
//! for entries that were committed by it, because a quorum of the others cannot be found without one that holds them, too.

use std::collections::BTreeMap;

use armilla::rt::probe::Event;

/// A peer of a group on a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    group: u64,
    store: u64,
    peer: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    term: u64,
    hash: u64,
}

#[derive(Debug, Default)]
struct Peer {
    term: u64,
    vote: u64,
    commit: u64,
    /// The durable log, as far as it was reported.
    log: BTreeMap<u64, Entry>,
    /// Index and term of the snapshot that stands before the log.
    base: (u64, u64),
    /// At the last start the log reached to here. Entries up to it that were never reported durable came back from the disk.
    floor: u64,
    /// The last index applied since the last start; 0: none yet.
    applied: u64,
    /// The highest term that the peer was seen in, durable or not.
    seen: u64,
}

impl Peer {
    fn last_index(&self) -> u64 {
        self.log.keys().next_back().copied().unwrap_or(0).max(self.base.0).max(self.floor)
    }
    /// Whether the peer's disk holds the entry, or one that was written before the last start and never reported.
    fn holds(&self, index: u64, entry: &Entry) -> bool {
        match self.log.get(&index) {
            Some(own) => own == entry,
            None => index <= self.base.0.max(self.floor),
        }
    }
    fn see(&mut self, term: u64) {
        self.seen = self.seen.max(term);
    }
    fn cut(&mut self, from: u64) {
        self.log.split_off(&from);
        self.floor = self.floor.min(from.saturating_sub(1));
    }
}

#[derive(Debug, Default)]
struct Group {
    /// Term to (store, peer).
    leaders: BTreeMap<u64, (u64, u64)>,
    /// (index, term) to hash, of every entry that was ever durable anywhere.
    entries: BTreeMap<(u64, u64), u64>,
    /// Index to the entry that was applied there.
    applied: BTreeMap<u64, Entry>,
    /// Index to the lowest term in which a peer applied the entry there: it was committed in that term or before. An entry of
    /// an earlier term may be committed only by a later leader, and the leaders in between need not have it.
    committed_by: BTreeMap<u64, u64>,
}

/// A rule broken: oracle, node, what.
type Broken = (&'static str, u64, String);

/// Follows all peers.
#[derive(Debug, Default)]
pub struct Raft {
    groups: BTreeMap<u64, Group>,
    peers: BTreeMap<Seat, Peer>,
    /// How many peers each group has, where it is known.
    replicas: BTreeMap<u64, usize>,
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

    /// Judges one fact.
    pub fn observe(&mut self, event: &Event) -> Result<(), Broken> {
        match *event {
            Event::Start { store, group, peer, term, vote, commit, last_index } => {
                self.start(Seat { group, store, peer }, term, vote, commit, last_index)
            }
            Event::HardState { store, group, peer, term, vote, commit } => {
                self.hard_state(Seat { group, store, peer }, term, vote, commit)
            }
            Event::Append { store, group, peer, index, term, hash } => {
                self.append(Seat { group, store, peer }, index, Entry { term, hash })
            }
            Event::Truncate { store, group, peer, from_index } => {
                self.truncate(Seat { group, store, peer }, from_index)
            }
            Event::Leader { store, group, peer, term } => self.leader(Seat { group, store, peer }, term),
            Event::Follow { store, group, peer, term, .. } => {
                self.peers.entry(Seat { group, store, peer }).or_default().see(term);
                Ok(())
            }
            Event::Apply { store, group, peer, index, term, hash } => {
                self.apply(Seat { group, store, peer }, index, Entry { term, hash })
            }
            Event::Snapshot { store, group, peer, index, term } => {
                self.snapshot(Seat { group, store, peer }, index, term)
            }
            Event::LeaseRead { store, group, peer, term } => self.lease_read(Seat { group, store, peer }, term),
            Event::IndexRead { .. } => {
                self.index_reads += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A peer came up with what its disk holds.
    fn start(&mut self, seat: Seat, term: u64, vote: u64, commit: u64, last_index: u64) -> Result<(), Broken> {
        let peer = self.peers.entry(seat).or_default();
        let name = format!("group {} peer {}", seat.group, seat.peer);
        if term < peer.term {
            return Err(("O1", seat.store, format!("{name}: term {} became {term} over a restart", peer.term)));
        }
        if term == peer.term && peer.vote != 0 && vote != peer.vote {
            let what = format!("{name}: vote for {} in term {term} became {vote} over a restart", peer.vote);
            return Err(("O1", seat.store, what));
        }
        if last_index < peer.last_index() {
            let what = format!("{name}: durable log up to {} became {last_index} over a restart", peer.last_index());
            return Err(("O3", seat.store, what));
        }
        // What was written but not reported durable may be there or not: later appends will tell.
        peer.term = term;
        peer.seen = term;
        peer.vote = vote;
        peer.commit = peer.commit.max(commit);
        peer.floor = last_index;
        peer.applied = 0;
        Ok(())
    }

    /// Term, vote and commit became durable.
    fn hard_state(&mut self, seat: Seat, term: u64, vote: u64, commit: u64) -> Result<(), Broken> {
        let peer = self.peers.entry(seat).or_default();
        let name = format!("group {} peer {}", seat.group, seat.peer);
        if term < peer.term {
            return Err(("O1", seat.store, format!("{name}: term {} went back to {term}", peer.term)));
        }
        if term == peer.term && peer.vote != 0 && vote != peer.vote {
            return Err(("O1", seat.store, format!("{name}: voted for {} and then {vote} in term {term}", peer.vote)));
        }
        if commit < peer.commit {
            return Err(("O1", seat.store, format!("{name}: commit {} went back to {commit}", peer.commit)));
        }
        (peer.term, peer.vote, peer.commit) = (term, vote, commit);
        peer.see(term);
        Ok(())
    }

    /// An entry became durable.
    fn append(&mut self, seat: Seat, index: u64, entry: Entry) -> Result<(), Broken> {
        let group = self.groups.entry(seat.group).or_default();
        let known = *group.entries.entry((index, entry.term)).or_insert(entry.hash);
        if known != entry.hash {
            let what = format!("group {} entry {index} of term {} has two contents", seat.group, entry.term);
            return Err(("O1", seat.store, what));
        }
        let peer = self.peers.entry(seat).or_default();
        if let Some((at, known)) = peer.log.range(index..).find(|(at, own)| group.applied.get(at) == Some(own)) {
            let what = format!("group {} committed entry {at} of term {} overwritten", seat.group, known.term);
            return Err(("O1", seat.store, what));
        }
        peer.cut(index);
        peer.log.insert(index, entry);
        Ok(())
    }

    /// The log from `from` on is being overwritten.
    fn truncate(&mut self, seat: Seat, from: u64) -> Result<(), Broken> {
        let group = self.groups.entry(seat.group).or_default();
        let peer = self.peers.entry(seat).or_default();
        if let Some((index, entry)) =
            peer.log.range(from..).find(|(index, entry)| group.applied.get(index) == Some(entry))
        {
            let what = format!("group {} committed entry {index} of term {} overwritten", seat.group, entry.term);
            return Err(("O1", seat.store, what));
        }
        peer.cut(from);
        Ok(())
    }

    /// A peer won an election.
    fn leader(&mut self, seat: Seat, term: u64) -> Result<(), Broken> {
        let group = self.groups.entry(seat.group).or_default();
        let who = *group.leaders.entry(term).or_insert((seat.store, seat.peer));
        if who != (seat.store, seat.peer) {
            let what =
                format!("group {} has two leaders in term {term}: peers {} and {}", seat.group, who.1, seat.peer);
            return Err(("O1", seat.store, what));
        }
        self.elections += 1;
        let peer = self.peers.entry(seat).or_default();
        peer.see(term);
        let missing = group.applied.range(peer.base.0 + 1..).rev().find(|(index, entry)| {
            group.committed_by.get(index).is_some_and(|by| *by < term) && !peer.holds(**index, entry)
        });
        if let Some((index, entry)) = missing {
            let what = format!(
                "group {} leader of term {term} lacks committed entry {index} of term {}",
                seat.group, entry.term
            );
            return Err(("O1", seat.store, what));
        }
        Ok(())
    }

    /// A peer applied an entry.
    fn apply(&mut self, seat: Seat, index: u64, entry: Entry) -> Result<(), Broken> {
        self.applies += 1;
        let group = self.groups.entry(seat.group).or_default();
        let first = !group.applied.contains_key(&index);
        let known = *group.applied.entry(index).or_insert(entry);
        if known != entry {
            let what = format!(
                "group {} index {index}: one peer applied an entry of term {}, another one of term {}",
                seat.group, known.term, entry.term
            );
            return Err(("O1", seat.store, what));
        }
        if group.applied.get(&index.saturating_sub(1)).is_some_and(|before| before.term > entry.term) {
            return Err((
                "O1",
                seat.store,
                format!("group {} index {index}: term goes back to {}", seat.group, entry.term),
            ));
        }
        if first {
            self.quorum(seat, index, entry)?;
        }
        let peer = self.peers.entry(seat).or_default();
        peer.see(entry.term);
        let seen = peer.seen;
        let group = self.groups.entry(seat.group).or_default();
        group.committed_by.entry(index).and_modify(|by| *by = seen.min(*by)).or_insert(seen);
        if peer.applied != 0 && index != peer.applied + 1 {
            let what = format!("group {} peer {} applied {index} after {}", seat.group, seat.peer, peer.applied);
            return Err(("O1", seat.store, what));
        }
        peer.applied = index;
        Ok(())
    }

    /// What is applied must be durable on a quorum.
    fn quorum(&self, seat: Seat, index: u64, entry: Entry) -> Result<(), Broken> {
        let all = Seat { store: 0, peer: 0, ..seat }..Seat { group: seat.group + 1, store: 0, peer: 0 };
        let holders = self.peers.range(all).filter(|(_, peer)| peer.holds(index, &entry)).count();
        let Some(&replicas) = self.replicas.get(&seat.group) else { return Ok(()) };
        if holders <= replicas / 2 {
            let what = format!(
                "group {} entry {index} of term {} is applied but durable on {holders} of {replicas} peers",
                seat.group, entry.term
            );
            return Err(("O3", seat.store, what));
        }
        Ok(())
    }

    /// A snapshot replaced a peer's state.
    fn snapshot(&mut self, seat: Seat, index: u64, term: u64) -> Result<(), Broken> {
        self.snapshots += 1;
        let group = self.groups.entry(seat.group).or_default();
        if let Some(known) = group.applied.get(&index).filter(|known| known.term != term) {
            let what =
                format!("group {} snapshot at {index} of term {term}, committed is term {}", seat.group, known.term);
            return Err(("O1", seat.store, what));
        }
        let peer = self.peers.entry(seat).or_default();
        if index < peer.applied {
            let what = format!(
                "group {} peer {} went back from {} by a snapshot at {index}",
                seat.group, seat.peer, peer.applied
            );
            return Err(("O1", seat.store, what));
        }
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

    /// A read was served under a lease.
    fn lease_read(&mut self, seat: Seat, term: u64) -> Result<(), Broken> {
        self.lease_reads += 1;
        let group = self.groups.entry(seat.group).or_default();
        if group.leaders.get(&term) != Some(&(seat.store, seat.peer)) {
            let what = format!(
                "group {} peer {} read under a lease of term {term} that it does not lead",
                seat.group, seat.peer
            );
            return Err(("O1", seat.store, what));
        }
        if let Some((&later, &(_, leader))) = group.leaders.last_key_value().filter(|(newest, _)| **newest > term) {
            let what = format!(
                "group {} peer {} read under its lease of term {term} while peer {leader} led term {later}",
                seat.group, seat.peer
            );
            return Err(("O1", seat.store, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each rule fires on the smallest story that breaks it. Method: a legal story, then one with one fact changed.
    use super::*;

    const G: u64 = 2;

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
        Event::Start { store, group: G, peer: store, term, vote, commit: 0, last_index }
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
        assert_eq!(with(2, leader(3, 1)), Some((2, "O1")));
    }

    #[test]
    fn two_contents() {
        assert_eq!(with(4, append(3, 1, 1, 11)), Some((4, "O1")));
        assert_eq!(with(5, apply(2, 1, 1, 11)), Some((5, "O1")));
    }

    #[test]
    fn applied_without_a_quorum() {
        assert_eq!(with(7, apply(1, 2, 1, 20)), Some((7, "O3")));
    }

    #[test]
    fn durable_state_that_goes_back() {
        assert_eq!(with(10, start(2, 1, 1, 1)), Some((10, "O1")), "term");
        assert_eq!(with(10, start(2, 2, 3, 1)), Some((10, "O1")), "vote");
        assert_eq!(with(11, start(2, 2, 2, 1)), Some((11, "O3")), "log");
        assert_eq!(with(10, hard(2, 2, 3, 1)), Some((10, "O1")), "second vote");
        assert_eq!(with(10, hard(2, 2, 2, 0)), Some((10, "O1")), "commit");
    }

    #[test]
    fn a_leader_without_a_committed_entry() {
        assert_eq!(with(5, leader(3, 2)), Some((5, "O1")));
    }

    #[test]
    fn gaps_and_lost_commits() {
        assert_eq!(with(19, apply(1, 4, 2, 40)), Some((19, "O3")));
        let cut = Event::Truncate { store: 2, group: G, peer: 2, from_index: 1 };
        assert_eq!(with(18, cut), Some((18, "O1")));
    }

    #[test]
    fn a_lease_that_outlives_its_leader() {
        assert_eq!(with(18, lease(1, 1)), Some((18, "O1")));
        assert_eq!(with(2, lease(2, 1)), Some((2, "O1")), "never led");
    }
}
