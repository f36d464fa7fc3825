//! Committed entries that are not applied yet. Those of a group whose next entry reads keys that are on the disk stand apart, so that
//! the others are applied meanwhile; a task of their own reads such keys (a *warm-up*).
//!
//! **In** come entries, in order for each group; **out** they go in the same order.
//!
//! **Never**: an entry in front of an earlier one of its group; more warm-ups at a time than their limit.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::eraftpb::Entry;

use crate::engine::Cf;
use crate::types::GroupId;
use crate::types::limits::{WARM_UP_KEYS_FULL, WARM_UPS_MAX};

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Backlog {
    /// To be applied, of all groups in the order in which they came.
    ready: VecDeque<(GroupId, Entry)>,
    /// Groups that wait for a warm-up.
    cold: BTreeMap<GroupId, Cold>,
    /// Those of them whose warm-up has not begun, the oldest first.
    queue: VecDeque<GroupId>,
    /// By group: the keys of entries up to this index have been read.
    warm: BTreeMap<GroupId, u64>,
    /// Of all entries here.
    bytes: usize,
    /// Warm-ups begun; the number of the last one.
    begun: u64,
    /// Warm-ups under way.
    running: usize,
}

/// A group that waits.
#[derive(Debug)]
struct Cold {
    /// Its warm-up: its number, and the last entry whose keys it reads.
    under_way: Option<(u64, u64)>,
    /// Since when the group waits (node clock, ns).
    since_ns: u64,
    entries: VecDeque<Entry>,
}

/// Keys of a group that are to be read into memory.
#[derive(Debug)]
pub struct WarmUp {
    /// The group.
    pub group: GroupId,
    /// Tells it from others of the group.
    pub number: u64,
    /// The keys.
    pub keys: Vec<(Cf, Bytes)>,
}

fn weight(entry: &Entry) -> usize {
    entry.data.len() + 64
}

impl Backlog {
    /// Bytes of the entries that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// An entry was committed.
    pub fn push(&mut self, group: GroupId, entry: Entry) {
        self.bytes += weight(&entry);
        self.ready.push_back((group, entry));
    }

    /// The next entry to be applied.
    pub fn pop(&mut self) -> Option<(GroupId, Entry)> {
        loop {
            let Some((group, entry)) = self.ready.pop_front() else {
                assert!(self.bytes == 0 || !self.cold.is_empty(), "where no entry waits, no bytes do");
                return None;
            };
            if let Some(cold) = self.cold.get_mut(&group) {
                cold.entries.push_back(entry);
                continue;
            }
            let bytes = weight(&entry);
            assert!(bytes <= self.bytes, "the bytes that wait are those of the entries that wait");
            self.bytes -= bytes;
            return Some((group, entry));
        }
    }

    /// The entry that was handed out last is not applied yet after all: it is the next one.
    pub fn put_back(&mut self, group: GroupId, entry: Entry) {
        self.bytes += weight(&entry);
        self.ready.push_front((group, entry));
    }

    /// The entry that was handed out last reads keys that are on the disk: its group waits.
    pub fn hold(&mut self, group: GroupId, entry: Entry, now_ns: u64) {
        self.bytes += weight(&entry);
        let cold = Cold { under_way: None, since_ns: now_ns, entries: VecDeque::from([entry]) };
        let other = self.cold.insert(group, cold);
        assert!(other.is_none(), "group {group}: nothing is applied while it waits");
        self.queue.push_back(group);
    }

    /// Whether the keys of an entry have been read already. It is asked once for each entry, right before that is applied.
    pub fn is_warm(&mut self, group: GroupId, index: u64) -> bool {
        let warm = self.warm.get(&group).copied().unwrap_or(0);
        if warm <= index {
            self.warm.remove(&group);
        }
        index <= warm
    }

    /// What was read may no longer be in memory.
    pub fn cool_down(&mut self) {
        self.warm.clear();
    }

    /// The next warm-up, if one may begin: with the keys of the group's entries that wait, as `reads` tells them.
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

    /// A warm-up has ended: its group goes on. False: the group does not wait for it any more.
    pub fn end(&mut self, group: GroupId, number: u64) -> bool {
        assert!(self.running > 0, "group {group}: a warm-up ends once");
        self.running -= 1;
        let under_way = self.cold.get(&group).and_then(|cold| cold.under_way);
        let Some((_, last)) = under_way.filter(|(of, _)| *of == number) else { return false };
        let Some(cold) = self.cold.remove(&group) else { return false };
        self.warm.insert(group, last);
        // Before whatever of the group came since.
        cold.entries.into_iter().rev().for_each(|entry| self.ready.push_front((group, entry)));
        true
    }

    /// A group is gone, or its whole state is replaced: what waits for it is dropped.
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

    /// Groups that have waited for keys since `then_ns` or longer.
    pub fn cold_since(&self, then_ns: u64) -> Vec<GroupId> {
        self.cold.iter().filter(|(_, cold)| cold.since_ns <= then_ns).map(|(group, _)| *group).collect()
    }
}
