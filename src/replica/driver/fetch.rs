//! Reads old entries for lagging followers: in a separate task, one read per group at a time, while heartbeats and
//! votes continue.
//!
//! **Never**: a read of the log in the lane; more old entries in flight to a store than its queue takes.

use std::collections::{BTreeMap, VecDeque};

use armilla_arch::sync::Share;

use crate::raft::output::Fetch;
use crate::rt::probe::{self, Event as Probe};
use crate::types::limits::FETCHES_WAITING_MAX;
use crate::types::{GroupId, region};

use super::{Driver, Job, Log};

/// The reads that are wanted, and the groups for which a read is in progress.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    wanted: BTreeMap<GroupId, VecDeque<Fetch>>,
    /// With the room reserved in each follower's queue.
    under_way: BTreeMap<GroupId, Vec<Share>>,
}

impl Fetches {
    /// Adds the reads that raft waits for. Raft asks again with every response of a follower, so a read that is wanted
    /// already is not added again, and those beyond [`FETCHES_WAITING_MAX`] are left out.
    pub(super) fn want(&mut self, group: GroupId, fetches: Vec<Fetch>) {
        if fetches.is_empty() {
            return;
        }
        // Contexts can only be compared by their debug text.
        let same = |left: &Fetch, right: &Fetch| {
            left.low == right.low && format!("{:?}", left.context) == format!("{:?}", right.context)
        };
        let wanted = self.wanted.entry(group).or_default();
        for fetch in fetches {
            if wanted.len() < FETCHES_WAITING_MAX && !wanted.iter().any(|other| same(other, &fetch)) {
                wanted.push_back(fetch);
            }
        }
    }

    /// Ends a read. Its room in the queues is released: the entries are put there before the next read begins.
    pub(super) fn end(&mut self, group: GroupId) {
        let ended = self.under_way.remove(&group);
        assert!(ended.is_some(), "group {group}: a read of old entries ends once");
    }
}

impl Driver {
    /// Starts the reads that may start: groups in the order of their IDs, one read each, for stores whose queue has
    /// room. The others are looked at again in the next round, at the latest with the next tick.
    pub(super) fn start_fetches(&mut self) {
        let mut waiting = std::mem::take(&mut self.fetches.wanted);
        waiting.retain(|group, fetches| {
            while !self.fetches.under_way.contains_key(group)
                && let Some(fetch) = fetches.front()
            {
                let Some(peer) = self.peers.get(group) else { return false };
                let bytes = usize::try_from(fetch.max_bytes).unwrap_or(usize::MAX);
                let followers = peer.group.waits_for(fetch.low);
                let stores = followers.iter().filter_map(|to| region::peer_by_id(peer.region(), *to));
                let stores: Vec<u64> = stores.map(|to| to.store_id).collect();
                let room: Option<Vec<Share>> =
                    stores.iter().map(|to| self.outbox.room_for_a_fetch(*to, bytes)).collect();
                let Some(room) = room else {
                    crate::reach!("driver.fetch-waits-for-the-queue");
                    break;
                };
                if let Some(fetch) = fetches.pop_front() {
                    for to_store in stores {
                        let (store, group, bytes) = (self.store, group.0, bytes as u64);
                        probe::emit(|| Probe::Fetch { store, group, to_store, bytes });
                    }
                    self.start_fetch(*group, fetch, room);
                }
            }
            !fetches.is_empty()
        });
        self.fetches.wanted = waiting;
    }

    fn start_fetch(&mut self, group: GroupId, fetch: Fetch, room: Vec<Share>) {
        let other = self.fetches.under_way.insert(group, room);
        assert!(other.is_none(), "group {group}: one read of old entries at a time");
        match &self.log {
            Log::InLine(keeper) => keeper.fetch(group, fetch),
            log => log.ask(Job::Fetch(group, fetch)),
        }
    }
}
