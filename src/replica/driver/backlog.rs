//! Committed entries that are not applied yet. If the next entry of a group reads keys that are on the disk, the
//! group's entries are set aside so that those of other groups are applied meanwhile, and a separate task reads the
//! keys (a *warm-up*).
//!
//! **In** come entries, in order for each group; **out** they go in the same order.
//!
//! **Never**: an entry before an earlier one of its group; more warm-ups at a time than their limit.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::eraftpb::Entry;

use crate::engine::Cf;
use crate::raft::frame;
use crate::types::GroupId;
use crate::types::limits::{WARM_UP_KEYS_FULL, WARM_UPS_MAX};

/// The committed entries that are not applied yet; see the module's documentation.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Entries of all groups that are to be applied, in the order in which they arrived.
    ready: VecDeque<(GroupId, Entry)>,
    /// Groups that wait for a warm-up.
    cold: BTreeMap<GroupId, Cold>,
    /// The groups among them whose warm-up has not begun, oldest first.
    queue: VecDeque<GroupId>,
    /// By group: the index up to which the keys of entries have been read.
    warm: BTreeMap<GroupId, u64>,
    /// Bytes of all entries here.
    bytes: usize,
    /// The number of warm-ups begun, which is the number of the last one.
    begun: u64,
    /// The number of warm-ups in progress.
    running: usize,
}

/// A group that waits for a warm-up.
#[derive(Debug)]
struct Cold {
    /// The warm-up in progress: its number, and the index of the last entry whose keys it reads.
    under_way: Option<(u64, u64)>,
    /// When the group began to wait (node clock, ns).
    since_ns: u64,
    entries: VecDeque<Entry>,
}

/// Keys of a group that are to be read into memory.
#[derive(Debug)]
pub struct WarmUp {
    /// The group.
    pub group: GroupId,
    /// Tells it apart from other warm-ups.
    pub number: u64,
    /// The keys.
    pub keys: Vec<(Cf, Bytes)>,
}

fn weight(entry: &Entry) -> usize {
    frame::bytes(entry) + 64
}

impl Backlog {
    /// Returns the bytes of the entries that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a committed entry.
    pub fn push(&mut self, group: GroupId, entry: Entry) {
        self.bytes += weight(&entry);
        self.ready.push_back((group, entry));
    }

    /// Takes the next entry to be applied.
    pub fn pop(&mut self) -> Option<(GroupId, Entry)> {
        loop {
            let Some((group, entry)) = self.ready.pop_front() else {
                assert!(self.bytes == 0 || !self.cold.is_empty(), "no bytes wait without an entry");
                return None;
            };
            if let Some(cold) = self.cold.get_mut(&group) {
                cold.entries.push_back(entry);
                continue;
            }
            let bytes = weight(&entry);
            assert!(bytes <= self.bytes, "the bytes that wait include those of each entry that waits");
            self.bytes -= bytes;
            return Some((group, entry));
        }
    }

    /// Puts back the entry that was taken last. It is the next one again.
    pub fn put_back(&mut self, group: GroupId, entry: Entry) {
        self.bytes += weight(&entry);
        self.ready.push_front((group, entry));
    }

    /// Sets aside the entry that was taken last, because it reads keys that are on the disk. Its group waits.
    pub fn hold(&mut self, group: GroupId, entry: Entry, now_ns: u64) {
        self.bytes += weight(&entry);
        let cold = Cold { under_way: None, since_ns: now_ns, entries: VecDeque::from([entry]) };
        let other = self.cold.insert(group, cold);
        assert!(other.is_none(), "group {group}: nothing is applied while it waits");
        self.queue.push_back(group);
    }

    /// Sets aside the entry that was taken last, because another group has to stop first. Its group waits.
    pub fn wait(&mut self, group: GroupId, entry: Entry, now_ns: u64) {
        self.hold(group, entry, now_ns);
        self.queue.retain(|of| *of != group);
    }

    /// Ends the wait of a group for which another one has stopped.
    pub fn release(&mut self, group: GroupId) {
        if let Some(cold) = self.cold.remove(&group) {
            cold.entries.into_iter().rev().for_each(|entry| self.ready.push_front((group, entry)));
        }
    }

    /// Returns whether anything waits that does not wait for another group.
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.queue.is_empty() || self.running > 0
    }

    /// Returns whether the keys of an entry have been read already. Must be called once for each entry, right before it
    /// is applied.
    pub fn is_warm(&mut self, group: GroupId, index: u64) -> bool {
        let warm = self.warm.get(&group).copied().unwrap_or(0);
        if warm <= index {
            self.warm.remove(&group);
        }
        index <= warm
    }

    /// Forgets which keys have been read, because they may no longer be in memory.
    pub fn cool_down(&mut self) {
        self.warm.clear();
    }

    /// Begins the next warm-up, if one may begin. `reads` returns the keys that an entry reads.
    pub fn begin(&mut self, mut reads: impl FnMut(GroupId, &Entry) -> Vec<(Cf, Bytes)>) -> Option<WarmUp> {
        let one = self.running > 0 && crate::buggify!("driver.one-warm-up");
        if self.running >= WARM_UPS_MAX || one {
            crate::reach!("driver.warm-up-waits-for-others");
            return None;
        }
        let group = self.queue.pop_front()?;
        let cold = self.cold.get_mut(&group).expect("a group in the queue waits");
        let (mut keys, mut last) = (Vec::new(), 0);
        for entry in &cold.entries {
            if keys.len() >= WARM_UP_KEYS_FULL {
                break;
            }
            keys.extend(reads(group, entry));
            last = entry.index;
        }
        self.begun += 1;
        self.running += 1;
        cold.under_way = Some((self.begun, last));
        Some(WarmUp { group, number: self.begun, keys })
    }

    /// Ends a warm-up, after which its group continues. Returns false if the group no longer waits for it.
    pub fn end(&mut self, group: GroupId, number: u64) -> bool {
        assert!(self.running > 0, "group {group}: a warm-up ends once");
        self.running -= 1;
        let under_way = self.cold.get(&group).and_then(|cold| cold.under_way);
        let Some((_, last)) = under_way.filter(|(of, _)| *of == number) else { return false };
        let Some(cold) = self.cold.remove(&group) else { return false };
        self.warm.insert(group, last);
        // They go before the entries of the group that have arrived since.
        cold.entries.into_iter().rev().for_each(|entry| self.ready.push_front((group, entry)));
        true
    }

    /// Drops what waits for a group that is gone, or whose whole state is replaced.
    pub fn forget(&mut self, group: GroupId) {
        let mut dropped = self.cold.remove(&group).map_or(0, |cold| cold.entries.iter().map(weight).sum());
        self.ready.retain(|(of, entry)| {
            let other = *of != group;
            dropped += if other { 0 } else { weight(entry) };
            other
        });
        self.bytes -= dropped;
        self.queue.retain(|of| *of != group);
        self.warm.remove(&group);
    }

    /// Returns the groups that have waited for keys since `then_ns` or longer.
    pub fn cold_since(&self, then_ns: u64) -> Vec<GroupId> {
        self.cold.iter().filter(|(_, cold)| cold.since_ns <= then_ns).map(|(group, _)| *group).collect()
    }
}
