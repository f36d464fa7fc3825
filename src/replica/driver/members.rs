//! Changes of groups' members, and the end of peers that are no members any more.
//!
//! A peer ends only on proof: its own log applied its removal, or another descriptor of its group, with a higher
//! configuration version, does not name it. What remains of it is a tombstone in the engine, forever: the lowest ID
//! that a peer of the group may have on this store. Its log goes when the tombstone is durable.
//!
//! **In** come applied changes, and proofs; **out** go groups with other members, and the ends of peers. **Never**: a
//! peer with an ID that was destroyed here; a log that is gone while the engine could still come back without the
//! tombstone.

use bytes::Bytes;

use super::Driver;
use super::install::{emit_region, encode_state};
use crate::engine::{KvEngine, WriteBatch};
use crate::proto::armilla::raft::Merges;
use crate::replica::group_state::{self, GroupState, Tombstone};
use crate::replica::peer::Peer;
use crate::rt::probe::{self, Event as Probe};
use crate::types::{Error, GroupId, Region, Result, region};

/// A change of a group's members that is applied in memory.
#[derive(Debug)]
pub(super) struct Move {
    from: Region,
    to: Region,
    /// This store's peer is no member any more.
    ends: bool,
}

impl Move {
    /// Returns whether the change ends this store's peer of a group.
    pub(super) fn is_end_of(&self, group: GroupId) -> bool {
        self.ends && self.to.id == group.0
    }
}

/// Adds the group's new descriptor, or the end of this store's peer, to the engine's batch in which the change is
/// applied. `from` is the descriptor before.
pub(super) fn put_move(peer: &Peer, at: (u64, u64), from: Region, batch: &mut WriteBatch) -> Move {
    let (id, to) = (peer.group.peer(), peer.machine.region().clone());
    let ends = region::peer_by_id(&to, id).is_none();
    if ends {
        put_end(peer, &from, Tombstone::of(peer.group.peer()), batch);
    } else {
        let merges = peer.machine.merges().clone();
        GroupState { region: to.clone(), peer: id, applied: at, merges, ..GroupState::default() }.put(batch);
    }
    Move { from, to, ends }
}

/// Adds the tombstone of a peer, and the removal of its data.
pub(super) fn put_end(peer: &Peer, region: &Region, tombstone: Tombstone, batch: &mut WriteBatch) {
    peer.view.end();
    if !crate::mutant!("replica.no-tombstone") {
        group_state::bury(batch, GroupId(region.id), tombstone);
    }
    for range in peer.machine.ranges(region) {
        batch.delete_range(range.cf, range.start, range.end);
    }
}

impl Driver {
    /// Handles that the engine holds a change of members.
    pub(super) fn note_move(&mut self, moved: &Move) {
        let Some(peer) = self.peers.get_mut(&GroupId(moved.to.id)).filter(|_| !moved.ends) else { return };
        peer.view.set_state(moved.to.clone(), Merges::clone(&peer.view.merges()));
        emit_region(self.store, &moved.to);
        peer.group.log_mut().set_state(encode_state(&moved.to, &peer.view.merges()));
        peer.group.members_changed(&moved.from, &moved.to);
        // New members' stores are not connected yet. While this store starts it must not show itself: its run is not
        // recorded.
        let shows = !self.births.is_restoring() || crate::mutant!("replica.run-shown-while-starting");
        for other in moved.to.peers.iter().filter(|_| shows) {
            self.outbox.connect(other.store_id);
        }
        tracing::info!(store = self.store, group = moved.to.id, peers = ?roles(&moved.to), "members changed");
    }

    /// Handles that the engine holds the end of a peer.
    pub(super) fn note_end(&mut self, moved: &Move) {
        if moved.ends {
            crate::reach!("driver.removed-by-own-log");
            self.end(GroupId(moved.to.id), None);
        }
    }

    /// Ends this store's peer of a group if `proof`, another descriptor of the group, shows that it is no member any
    /// more. Does nothing while the peer cannot end; proofs come again.
    pub(super) fn end_by_proof(&mut self, group: GroupId, proof: &Region) -> Result<()> {
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        if !proves_end(peer.region(), peer.group.peer(), proof)
            || !peer.install.is_idle()
            || peer.newcomer
            || self.stall.waits()
            || self.absorbing.is_target(group)
        {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        let region = peer.region().clone();
        put_end(peer, &region, Tombstone::of(peer.group.peer()), &mut batch);
        if self.engine.try_write(&batch)? {
            crate::reach!("driver.removed-by-proof");
            self.flushes.lock().expect("no holder panics").note_applied();
            self.end(group, None);
        }
        Ok(())
    }

    /// Forgets a peer whose end the engine holds. `heir` is the group that has its range now.
    pub(super) fn end(&mut self, group: GroupId, heir: Option<GroupId>) {
        let Some(mut peer) = self.peers.remove(&group) else { return };
        self.sleepers.remove(group);
        peer.end(|| Error::RegionNotFound(group));
        let (store, id) = (self.store, peer.group.peer());
        self.backlog.forget(group);
        if !crate::mutant!("replica.no-tombstone") {
            self.handle.bury(group, heir.map_or(Tombstone::of(id), Tombstone::merged));
        }
        self.handle.remove(group);
        if crate::mutant!("replica.log-removed-before-flush") {
            self.batch.remove(group);
        } else {
            self.bury(group);
        }
        tracing::info!(store, %group, peer = id, "a peer was removed");
        probe::emit(|| Probe::Note { store, what: "removed", a: group.0, b: id, data: Bytes::new() });
    }

    /// Removes destroyed peers' logs after the flush with this number.
    pub(super) fn remove_buried(&mut self, flush: u64) {
        for (group, before) in std::mem::take(&mut self.buried) {
            // The group may have come back. Its log starts over with its snapshot.
            if self.peers.contains_key(&group) {
                continue;
            }
            // A flush that began before the peer's end may have come even before its birth.
            if flush > before || crate::mutant!("replica.log-removed-after-any-flush") {
                self.batch.remove(group);
            } else {
                self.buried.insert(group, before);
                self.flushes.lock().expect("no holder panics").note_applied();
            }
        }
    }

    /// Remembers a destroyed peer's group whose log is still there. The engine holds the end.
    pub(in crate::replica) fn bury(&mut self, group: GroupId) {
        let mut flushes = self.flushes.lock().expect("no holder panics");
        flushes.note_applied();
        self.buried.insert(group, flushes.count());
    }

    /// Returns whether a group's peer here is destroyed while its log is still there.
    pub(in crate::replica) fn is_buried(&self, group: GroupId) -> bool {
        self.buried.contains_key(&group)
    }
}

/// Returns whether another descriptor of a group proves that a peer, whose own descriptor is `own`, is no member any
/// more.
fn proves_end(own: &Region, peer: u64, proof: &Region) -> bool {
    let newer = region::epoch(proof).conf_ver > region::epoch(own).conf_ver;
    let newer = newer || crate::mutant!("replica.gone-ignores-conf-ver");
    proof.id == own.id && newer && region::peer_by_id(proof, peer).is_none()
}

/// Returns a descriptor's peers for people.
fn roles(region: &Region) -> Vec<String> {
    region.peers.iter().map(|peer| format!("{}@{} {:?}", peer.id, peer.store_id, peer.role())).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: only a newer descriptor without the peer ends it. Method: by hand.
    use super::*;
    use crate::types::region::{Peer as Member, RegionEpoch};

    #[test]
    fn what_proves_that_a_peer_is_gone() {
        let region = |id, conf_ver, peers: &[u64]| Region {
            id,
            region_epoch: Some(RegionEpoch { conf_ver, version: 1 }),
            peers: peers.iter().map(|peer| Member { id: *peer, store_id: *peer, ..Member::default() }).collect(),
            ..Region::default()
        };
        let own = region(7, 3, &[1, 2, 3]);
        assert!(proves_end(&own, 3, &region(7, 4, &[1, 2])));
        assert!(!proves_end(&own, 3, &region(7, 3, &[1, 2])), "not newer");
        assert!(!proves_end(&own, 3, &region(7, 2, &[1, 2])), "older: the peer was added since");
        assert!(!proves_end(&own, 3, &region(7, 4, &[1, 3])), "it is a member");
        assert!(!proves_end(&own, 3, &region(8, 4, &[1, 2])), "of another group");
    }
}
