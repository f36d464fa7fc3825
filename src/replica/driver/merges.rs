//! The steps of merges that leaders take by themselves.
//!
//! A frozen group's leader seals it when every peer's log holds the command that froze it, or lets it go on when that
//! takes too long. Once it is sealed, the target decides: each peer of the source that has applied that, on the store
//! of the target's leader, passes on the command that takes the source over. The target's leader proposes it if the
//! target is as the source knows it and its peers are there; if they are not, the target refuses in the end. A sealed
//! source goes on only with proof of that.
//!
//! **In** come ticks and words of other groups; **out** go proposals. **Never**: a seal while a peer's log lacks what
//! it seals; a sealed source that goes on while its target may still take it over.

use std::collections::BTreeMap;

use super::Driver;
use super::members::put_end;
use crate::engine::{KvEngine, WriteBatch};
use crate::proto::armilla::raft::{Absorbed, Merging};
use crate::raft::frame::{self, Command};
use crate::raft::machine::MergeStep;
use crate::replica::group_state::{self, Tombstone};
use crate::replica::message::MergeMessage;
use crate::types::limits::{ABSORBED_MAX, MERGE_COMMIT_WAIT_MAX, MERGE_SEAL_WAIT_MAX};
use crate::types::region::RegionEpoch;
use crate::types::{GroupId, Result, region};

/// Since when groups wait (node clock, ns).
#[derive(Debug, Default)]
pub(super) struct MergeWaits {
    /// Frozen groups, until they are sealed.
    frozen: BTreeMap<GroupId, u64>,
    /// Targets whose peers are not all there.
    targets: BTreeMap<GroupId, u64>,
}

impl Driver {
    /// Notes a group that is frozen, or is no more.
    pub(super) fn note_frozen(&mut self, group: GroupId, frozen: bool) {
        if frozen {
            let now_ns = self.clock.now().0;
            self.merge_waits.frozen.entry(group).or_insert(now_ns);
        } else {
            self.merge_waits.frozen.remove(&group);
        }
    }

    /// Takes the next step of each group that is frozen.
    pub(super) fn advance_merges(&mut self) {
        if self.merge_waits.frozen.is_empty() || self.births.is_restoring() {
            return;
        }
        let now_ns = self.clock.now().0;
        for (group, since_ns) in self.merge_waits.frozen.clone() {
            let merging = self.peers.get(&group).and_then(|peer| peer.machine.merges().merging);
            let Some((peer, merging)) = self.peers.get_mut(&group).zip(merging) else {
                self.merge_waits.frozen.remove(&group);
                continue;
            };
            if merging.is_sealed {
                self.hand_on(group, &merging);
                let proved = self.handle.is_decided_against(group, &merging);
                if proved || crate::mutant!("replica.rollback-unproved") {
                    self.propose_step(group, &MergeStep::RollBack { is_proved: true });
                }
                continue;
            }
            if !peer.group.leads() {
                continue;
            }
            let whole = peer.group.slowest_follower() >= merging.prepared;
            if whole || crate::mutant!("replica.seal-without-all") {
                self.propose_step(group, &MergeStep::Seal);
            } else if now_ns.saturating_sub(since_ns) >= MERGE_SEAL_WAIT_MAX.as_nanos() as u64 {
                crate::reach!("driver.merge-rolled-back");
                self.propose_step(group, &MergeStep::RollBack { is_proved: false });
            }
        }
    }

    /// Passes on the command that takes over a sealed group, if its target leads here.
    fn hand_on(&mut self, group: GroupId, merging: &Merging) {
        let target = GroupId(merging.target_id);
        let Some(peer) = self.peers.get(&group) else { return };
        if !self.handle.view(target).is_some_and(|view| view.leads()) {
            return;
        }
        let commit = peer.machine.merge_step(&MergeStep::Commit);
        let (epoch, listed) = (merging.target_epoch.unwrap_or_default(), peer.machine.merges().absorbed.len() + 1);
        self.handle.send_of_merge(target, MergeMessage::Sealed { target, epoch, commit, listed });
    }

    /// Decides, as the leader of a target, whether to take over a source that is sealed.
    pub(super) fn decide(&mut self, target: GroupId, epoch: RegionEpoch, commit: Command, listed: usize) {
        let now_ns = self.clock.now().0;
        let Some(peer) = self.peers.get_mut(&target) else { return };
        if !peer.group.accepts() || peer.group.is_changing() || crate::buggify!("driver.decide-late") {
            return;
        }
        // It has decided, by its epoch.
        if region::epoch(peer.region()) != epoch && !crate::mutant!("region.commit-at-any-epoch") {
            self.merge_waits.targets.remove(&target);
            return;
        }
        let heard = peer.group.slowest_follower() > 0 || crate::mutant!("replica.commit-without-all");
        let room = peer.machine.merges().absorbed.len() + listed <= ABSORBED_MAX;
        if heard && room {
            self.merge_waits.targets.remove(&target);
            self.propose_group_command(target, &commit);
            return;
        }
        let since_ns = *self.merge_waits.targets.entry(target).or_insert(now_ns);
        if !room || now_ns.saturating_sub(since_ns) >= MERGE_COMMIT_WAIT_MAX.as_nanos() as u64 {
            crate::reach!("driver.merge-refused");
            self.merge_waits.targets.remove(&target);
            self.propose_step(target, &MergeStep::Refuse);
        }
    }

    /// Lets a sealed group go on whose target has decided against the merge.
    pub(super) fn roll_back_decided(&mut self, group: GroupId, merging: &Merging) {
        let Some(peer) = self.peers.get(&group) else { return };
        if peer.machine.merges().merging == Some(*merging) {
            crate::reach!("driver.decided-elsewhere");
            self.propose_step(group, &MergeStep::RollBack { is_proved: true });
        }
    }

    /// Proposes a step of a merge, unless an earlier one is under way or this peer does not lead.
    pub(super) fn propose_step(&mut self, group: GroupId, step: &MergeStep) {
        let Some(peer) = self.peers.get(&group) else { return };
        let command = peer.machine.merge_step(step);
        self.propose_group_command(group, &command);
    }

    fn propose_group_command(&mut self, group: GroupId, command: &Command) {
        let now_ns = self.clock.now().0;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        if !peer.group.accepts() || peer.group.is_changing() {
            return;
        }
        // Ticks repeat it.
        if peer.group.propose(frame::encode([command].into_iter()), now_ns).is_ok() {
            self.touch(group);
        }
    }

    /// Ends the peer of a group that became part of another one, unless a peer here is going to take over its range.
    /// Returns whether no peer of the group can ever run here again.
    pub(super) fn was_merged(&mut self, absorbed: &Absorbed, heir: GroupId, heir_is_current: bool) -> Result<bool> {
        let group = GroupId(absorbed.source_id);
        if self.is_buried(group) || self.is_stopping(group) || self.stall.waits() {
            return Ok(false);
        }
        // A peer that lags may still be frozen for another target, which decided against it.
        let merging = self.peers.get(&group).and_then(|peer| peer.machine.merges().merging);
        let always = crate::mutant!("replica.kept-for-an-earlier-target");
        let merging = merging.filter(|merging| always || !self.handle.is_decided_against(group, merging));
        let taker = [Some(absorbed.target_id), merging.map(|merging| merging.target_id), Some(heir.0)];
        let takes =
            |id: &u64| self.handle.is_going_to_take(GroupId(*id), group, heir_is_current && GroupId(*id) == heir);
        let kept = taker.iter().flatten().any(takes) && !crate::mutant!("replica.source-kept-by-none");
        let mut batch = WriteBatch::new();
        let Some(peer) = self.peers.get_mut(&group) else {
            if self.handle.peer_id_min(group) == u64::MAX {
                return Ok(true);
            }
            // An old snapshot might begin a peer of it.
            group_state::bury(&mut batch, group, Tombstone::merged(heir));
            if self.engine.try_write(&batch)? {
                self.handle.bury(group, Tombstone::merged(heir));
                self.bury(group);
            }
            return Ok(false);
        };
        if kept || !peer.install.is_idle() || peer.newcomer {
            return Ok(false);
        }
        let region = peer.region().clone();
        put_end(peer, &region, Tombstone::merged(heir), &mut batch);
        if self.engine.try_write(&batch)? {
            crate::reach!("driver.removed-as-merged");
            self.flushes.lock().expect("no holder panics").note_applied();
            self.end(group, Some(heir));
        }
        Ok(false)
    }
}
