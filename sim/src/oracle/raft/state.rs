//! The state of all peers, as known from the events that they reported.

use std::collections::{BTreeMap, VecDeque};

/// A peer of a group on a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId {
    /// The group.
    pub group: u64,
    /// The store.
    pub store: u64,
    /// The peer; its group never uses the number again.
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

/// A violated property: its name, the store, and a description.
pub type Broken = (&'static str, u64, String);

/// A log record that is being written to the disk.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Its first entry.
    pub first: u64,
    /// The index that was applied when the record was made.
    pub applied: u64,
}

/// One peer.
#[derive(Debug, Default)]
pub struct Peer {
    /// The durable term.
    pub term: u64,
    /// The durable vote of that term; 0 if there is none.
    pub vote: u64,
    /// The durable commit index.
    pub commit: u64,
    /// The least commit index that the log's last record must contain.
    pub carried: u64,
    /// Records that are being written to the disk, by their last entry, the oldest first: one may replace another that
    /// is not written either.
    pub made: BTreeMap<u64, VecDeque<Made>>,
    /// The entries that were reported durable.
    pub log: BTreeMap<u64, Entry>,
    /// Index and term of the snapshot that precedes the log.
    pub base: (u64, u64),
    /// The log's last index at the last start. Entries up to it that were never reported durable came from the disk.
    pub floor: u64,
    /// The last index applied since the last start; 0 if there is none yet.
    pub applied: u64,
    /// The highest term that the peer was seen in, durable or not.
    pub seen: u64,
}

impl Peer {
    /// Returns the least last index that the log may have after a restart. A record that was being written and reached
    /// the disk may have replaced more entries than it contains.
    pub fn last_index_at_least(&self) -> u64 {
        self.last_index().min(self.made.keys().next().copied().unwrap_or(u64::MAX))
    }

    /// Returns the last index of the durable log.
    pub fn last_index(&self) -> u64 {
        self.log.keys().next_back().copied().unwrap_or(0).max(self.base.0).max(self.floor)
    }

    /// Returns whether the peer's disk holds the entry, or an unknown one that was written before the last start.
    pub fn holds(&self, index: u64, entry: &Entry) -> bool {
        match self.log.get(&index) {
            Some(own) => own == entry,
            None => index <= self.base.0.max(self.floor),
        }
    }

    /// Records a term that the peer was seen in.
    pub fn see(&mut self, term: u64) {
        self.seen = self.seen.max(term);
    }

    /// Removes the log from an index on.
    pub fn cut(&mut self, from: u64) {
        self.log.split_off(&from);
        self.floor = self.floor.min(from.saturating_sub(1));
    }
}

/// One group.
#[derive(Debug, Default)]
pub struct Group {
    /// By term: the leader's store and peer.
    pub leaders: BTreeMap<u64, (u64, u64)>,
    /// By (index, term): the hash of every entry that was ever durable on any peer.
    pub entries: BTreeMap<(u64, u64), u64>,
    /// By index: the entry that was applied.
    pub applied: BTreeMap<u64, Entry>,
    /// By index: the lowest term in which a peer applied the entry, which was committed in that term or before. An
    /// entry of an earlier term may be committed only by a later leader, and the leaders in between need not have it.
    pub committed_by: BTreeMap<u64, u64>,
}
