//! What is known of all peers, from the facts that they reported.

use std::collections::BTreeMap;

/// A peer of a group on a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId {
    /// The group.
    pub group: u64,
    /// The store.
    pub store: u64,
    /// The peer, unique in its group for all times.
    pub peer: u64,
}

/// An entry of the log, without its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term in which it was proposed.
    pub term: u64,
    /// A hash of its contents.
    pub hash: u64,
}

/// A property that does not hold: its name, the store, what happened.
pub type Broken = (&'static str, u64, String);

/// A record on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Its first entry.
    pub first: u64,
    /// What was applied when it was made.
    pub applied: u64,
}

/// One peer.
#[derive(Debug, Default)]
pub struct Peer {
    /// The durable term.
    pub term: u64,
    /// The durable vote of that term; 0: none.
    pub vote: u64,
    /// The durable commit index.
    pub commit: u64,
    /// The commit index that the log's last record must know, at least.
    pub carried: u64,
    /// Records that are on their way to the disk, by their last entry.
    pub made: BTreeMap<u64, Made>,
    /// The durable log, as far as it was reported.
    pub log: BTreeMap<u64, Entry>,
    /// Index and term of the snapshot that stands before the log.
    pub base: (u64, u64),
    /// At the last start the log reached to here. Entries up to it that were never reported durable came back from the disk.
    pub floor: u64,
    /// The last index applied since the last start; 0: none yet.
    pub applied: u64,
    /// The highest term that the peer was seen in, durable or not.
    pub seen: u64,
}

impl Peer {
    /// Where the log may end after a restart, at least: a record on its way that reached the disk may have replaced more entries than
    /// it has.
    pub fn last_index_at_least(&self) -> u64 {
        self.last_index().min(self.made.keys().next().copied().unwrap_or(u64::MAX))
    }

    /// The last index of the durable log.
    pub fn last_index(&self) -> u64 {
        self.log.keys().next_back().copied().unwrap_or(0).max(self.base.0).max(self.floor)
    }

    /// Whether the peer's disk holds the entry, or one that was written before the last start and never reported.
    pub fn holds(&self, index: u64, entry: &Entry) -> bool {
        match self.log.get(&index) {
            Some(own) => own == entry,
            None => index <= self.base.0.max(self.floor),
        }
    }

    /// Notes a term that the peer is in.
    pub fn see(&mut self, term: u64) {
        self.seen = self.seen.max(term);
    }

    /// Forgets the log from an index on.
    pub fn cut(&mut self, from: u64) {
        self.log.split_off(&from);
        self.floor = self.floor.min(from.saturating_sub(1));
    }
}

/// One group.
#[derive(Debug, Default)]
pub struct Group {
    /// Term to (store, peer).
    pub leaders: BTreeMap<u64, (u64, u64)>,
    /// (index, term) to hash, of every entry that was ever durable anywhere.
    pub entries: BTreeMap<(u64, u64), u64>,
    /// Index to the entry that was applied there.
    pub applied: BTreeMap<u64, Entry>,
    /// Index to the lowest term in which a peer applied the entry there: it was committed in that term or before. An entry of
    /// an earlier term may be committed only by a later leader, and the leaders in between need not have it.
    pub committed_by: BTreeMap<u64, u64>,
}
