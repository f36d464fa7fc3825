//! Transfers of leadership: of one group on request, or of all groups before the node stops.

use std::collections::BTreeMap;

use crate::rt::probe::{self, Event as Probe};
use crate::types::{Error, GroupId, Result, region};

use super::Driver;

impl Driver {
    /// Begins a transfer. The lease is removed from the group's view before any message leaves.
    pub(super) fn transfer_leader(&mut self, group: GroupId, to_peer: u64) -> Result<()> {
        let now_ns = self.clock.now().0;
        self.rouse(group);
        let peer = self.peers.get_mut(&group).ok_or(Error::RegionNotFound(group))?;
        peer.group.transfer_leader(to_peer, now_ns)?;
        peer.publish(now_ns);
        if peer.group.transfers() {
            let (store, from, to_store) = (self.store, peer.group.peer(), region::peer_by_id(peer.region(), to_peer));
            let to_store = to_store.map_or(0, |to| to.store_id);
            tracing::info!(store, %group, to_peer, to_store, "handing over leadership");
            probe::emit(|| Probe::Transfer { store, group: group.0, peer: from, to_store });
        }
        self.touch(group);
        Ok(())
    }

    /// Begins to transfer those groups led here that are `meant`, spread over the stores that can take over at once.
    /// Groups without such a store stay; the caller asks again.
    pub(super) fn hand_over(&mut self, meant: impl Fn(GroupId) -> bool) {
        let now_ns = self.clock.now().0;
        let asleep = self.peers.iter().filter(|(group, peer)| {
            let leads = peer.group.leads() && peer.rest.is_sleep();
            leads && meant(**group)
        });
        let asleep: Vec<GroupId> = asleep.map(|(group, _)| *group).collect();
        asleep.into_iter().for_each(|group| self.rouse(group));
        // The number of groups that each store leads, as far as known here, including those that are given to it now.
        let mut leaders: BTreeMap<u64, usize> = BTreeMap::new();
        for peer in self.peers.values() {
            if let Some(leader) = region::peer_by_id(peer.region(), peer.group.leader()) {
                *leaders.entry(leader.store_id).or_default() += 1;
            }
        }
        let mut given = Vec::new();
        for (group, peer) in &self.peers {
            if !meant(*group) || !peer.group.leads() || peer.group.transfers() {
                continue;
            }
            let fit = peer.group.successors(now_ns);
            let stores = fit.iter().filter_map(|id| region::peer_by_id(peer.region(), *id));
            // Among equal stores, the order of `fit` decides: the peer that lacks the fewest entries comes first.
            let Some(to) = stores.min_by_key(|to| leaders.get(&to.store_id).copied().unwrap_or(0)) else { continue };
            *leaders.entry(to.store_id).or_default() += 1;
            given.push((*group, to.id));
        }
        for (group, to_peer) in given {
            if let Err(error) = self.transfer_leader(group, to_peer) {
                tracing::debug!(%group, %error, "cannot hand over leadership");
            }
        }
    }
}
