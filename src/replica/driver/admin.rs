//! Creating groups, and registering the groups of this lane.

use std::sync::Arc;

use crate::engine::{KvEngine, WriteBatch};
use crate::proto::armilla::raft::Merges;
use crate::proto::metapb::PeerRole;
use crate::raft::{Group, LogView, log_view, membership};
use crate::rt::cpu;
use crate::rt::probe::{self, Event as Probe};
use crate::types::region::Peer;
use crate::types::{Error, GroupId, Region, Result, region};

use super::Driver;
use super::install::{emit_region, encode_state};
use crate::replica::effects::StoreEffect;
use crate::replica::group_state::GroupState;
use crate::replica::log::LogBatch;
use crate::replica::peer;
use crate::replica::view::PeerView;

impl Driver {
    /// Creates groups that do not exist here yet. They are durable when it returns. Groups that exist already are left
    /// alone.
    pub(super) async fn create(&mut self, mut regions: Vec<Region>) -> Result<()> {
        // A peer that was removed meanwhile does not begin again.
        let (handle, store) = (&self.handle, self.store);
        let was_removed = |region: &Region| {
            let here = region::peer_on(region, store).map_or(u64::MAX, |here| here.id);
            handle.peer_id_min(GroupId(region.id)) > here
        };
        regions.retain(|region| !self.peers.contains_key(&GroupId(region.id)) && !was_removed(region));
        if regions.is_empty() {
            return Ok(());
        }
        let (mut batch, mut writes) = (LogBatch::default(), WriteBatch::new());
        for region in &regions {
            let (group, peer) = (GroupId(region.id), self.peer_here(region).map_err(Error::Invalid)?);
            batch.reset(group, membership::FIRST.0, membership::FIRST.1);
            batch.hard_state(group, &membership::first_hard_state());
            GroupState { region: region.clone(), peer, applied: membership::FIRST, ..GroupState::default() }
                .put(&mut writes);
        }
        self.log.write_now(batch).await?;
        let engine = self.engine.clone();
        cpu::run_long(move || {
            engine.write(&writes)?;
            engine.flush()
        })
        .await?;
        regions.into_iter().try_for_each(|region| self.begin(&region))
    }

    /// Starts a group that was just created.
    fn begin(&mut self, region: &Region) -> Result<()> {
        let group = GroupId(region.id);
        let merges = Merges::default();
        self.register_peer(region, &merges, self.untouched_log(region, &merges))?;
        // The first peer of a new group campaigns at once, so that a fresh cluster has leaders without waiting.
        let campaigns = |first: &Peer| first.store_id == self.store && first.role() != PeerRole::Learner;
        if region.peers.first().is_some_and(campaigns)
            && let Some(peer) = self.peers.get_mut(&group)
        {
            peer.group.campaign();
        }
        Ok(())
    }

    /// Returns the log of a group that never ran.
    pub(super) fn untouched_log(&self, region: &Region, merges: &Merges) -> LogView {
        LogView::new(log_view::Start {
            hard_state: membership::first_hard_state(),
            conf_state: membership::conf_state(region),
            truncated: membership::FIRST,
            runs: Vec::new(),
            last_index: membership::FIRST.0,
            unapplied: Vec::new(),
            applied: membership::FIRST,
            state: encode_state(region, merges),
            cache_bytes_max: self.options.cache_bytes_max,
        })
    }

    /// Returns the ID of this store's peer in a region.
    fn peer_here(&self, region: &Region) -> Result<u64, String> {
        let here = region::peer_on(region, self.store).map(|peer| peer.id);
        here.ok_or_else(|| format!("region {} has no peer on store {}", region.id, self.store))
    }

    /// Registers this store's peer of a group whose state is in the engine and the log.
    pub(super) fn register_peer(&mut self, region: &Region, merges: &Merges, view: LogView) -> Result<()> {
        let group = GroupId(region.id);
        assert_eq!(self.handle.lane_of(group), self.lane, "group {group}: a lane drives only groups of its own");
        let id = self.peer_here(region).map_err(Error::Corruption)?;
        let mut machine = (self.machines)(region);
        machine.reload(region, merges, &self.engine)?;
        let applied = view.applied().0;
        let (base, last_index) = (view.truncated().0, view.last());
        let raft = Group::new(group, id, self.options.raft.clone(), view, self.process())?;
        let shown: Arc<PeerView> = self.handle.add(self.store, id, region.clone(), merges.clone());
        shown.set_applied(applied);
        let (store, term, vote, commit) = (self.store, raft.term(), raft.vote(), raft.committed());
        probe::emit(|| Probe::Start { store, group: group.0, peer: id, term, vote, commit, base, last_index });
        emit_region(store, region);
        self.peers.insert(group, Box::new(peer::Peer::new(raft, shown, machine, applied)));
        self.sleepers.add(group);
        self.effects.send(StoreEffect::Replaced(group));
        self.touch(group);
        Ok(())
    }
}
