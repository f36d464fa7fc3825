//! Old entries for followers that lag: read by a task of their own, one read a group at a time, while heartbeats and votes go on.
//!
//! **Never**: a read of the log in the lane; more old entries on their way to a store than its queue takes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::raft::output::Fetch;
use crate::rt::task;
use crate::types::limits::FETCH_QUEUE_BYTES_MAX;
use crate::types::{GroupId, region};

use super::Driver;
use crate::replica::message::Message;

/// Reads that wait for one group, at most.
const WANTED_MAX: usize = 8;

/// What is to be read, and for which groups a read is under way.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    wanted: BTreeMap<GroupId, VecDeque<Fetch>>,
    under_way: BTreeSet<GroupId>,
}

impl Fetches {
    /// Raft waits for these. It asks again with every answer of a follower, so one that waits already is not kept twice, and those
    /// beyond a few are left out.
    pub(super) fn want(&mut self, group: GroupId, fetches: Vec<Fetch>) {
        if fetches.is_empty() {
            return;
        }
        // Contexts cannot be compared but by what they show.
        let same = |left: &Fetch, right: &Fetch| {
            left.low == right.low && format!("{:?}", left.context) == format!("{:?}", right.context)
        };
        let wanted = self.wanted.entry(group).or_default();
        for fetch in fetches {
            if wanted.len() < WANTED_MAX && !wanted.iter().any(|other| same(other, &fetch)) {
                wanted.push_back(fetch);
            }
        }
    }

    /// A read has ended.
    pub(super) fn end(&mut self, group: GroupId) {
        self.under_way.remove(&group);
    }
}

impl Driver {
    /// Starts the reads that may be started: groups in order of their ids, one each, for stores whose queue has room. The others are
    /// looked at again with the next round, at the latest with the next tick.
    pub(super) fn start_fetches(&mut self) {
        let mut waiting = std::mem::take(&mut self.fetches.wanted);
        waiting.retain(|group, fetches| {
            while !self.fetches.under_way.contains(group)
                && let Some(fetch) = fetches.front()
            {
                let Some(peer) = self.peers.get(group) else { return false };
                let busy = peer.group.waits_for(fetch.low).iter().any(|to| {
                    let store = region::peer_by_id(peer.region(), *to).map(|to| to.store_id);
                    store.is_some_and(|store| self.outbox.waiting_bytes(store) >= FETCH_QUEUE_BYTES_MAX)
                });
                if busy {
                    break;
                }
                if let Some(fetch) = fetches.pop_front() {
                    self.start_fetch(*group, fetch);
                }
            }
            !fetches.is_empty()
        });
        self.fetches.wanted = waiting;
    }

    fn start_fetch(&mut self, group: GroupId, fetch: Fetch) {
        let Fetch { low, high, max_bytes, context } = fetch;
        let max_bytes =
            if crate::buggify!("driver.tiny-fetch") { 1 } else { usize::try_from(max_bytes).unwrap_or(usize::MAX) };
        self.fetches.under_way.insert(group);
        let handle = self.handle.clone();
        // Entries that are gone are answered with none: raft sends a snapshot.
        let read = self.log.prepare_read(group, low, high, max_bytes);
        task::spawn(async move {
            let entries = match read {
                Some(read) => {
                    crate::reach!("driver.entries-read-from-the-log");
                    read.run().await
                }
                None => Ok(Vec::new()),
            };
            handle.send(Message::Fetched { group, context, entries });
        });
    }
}
