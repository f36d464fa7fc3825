//! Installing snapshots, which replace a group's whole state.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::Snapshot;

use crate::engine::{CfRange, KvEngine, WriteBatch};
use crate::proto::armilla::raft::{Merges, SnapshotState};
use crate::raft::output::Output;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::{cpu, task};
use crate::types::{Error, GroupId, Region, Result, region};

use super::{Driver, ENGINE_RETRY};
use crate::replica::claims::Claim;
use crate::replica::effects::StoreEffect;
use crate::replica::group_state::GroupState;
use crate::replica::message::{Message, PeerMessage, Sender};
use crate::replica::snapshot::Arrived;

/// Encodes a group's descriptor, and what merges have made of it, as snapshots carry them.
pub(super) fn encode_state(region: &Region, merges: &Merges) -> Bytes {
    let merges = (*merges != Merges::default()).then(|| merges.clone());
    SnapshotState { region: Some(region.clone()), merges }.encode_to_vec().into()
}

/// Reports the descriptor that this store's peer of a region shows from now on.
pub(super) fn emit_region(store: u64, region: &Region) {
    probe::emit(|| Probe::Region { store, group: region.id, descriptor: region.encode_to_vec().into() });
}

/// A group's whole state, to be ingested by the engine.
#[derive(Debug)]
pub(super) struct Ingest {
    /// The ranges that it replaces.
    pub(super) ranges: Vec<CfRange>,
    arrived: Arrived,
    /// The group's state, which is written in the same step.
    pub(super) meta: WriteBatch,
    /// What the group is then.
    region: Region,
    merges: Merges,
}

/// Removes the files of a snapshot that is not wanted, outside of the lane.
fn discard(arrived: Arrived) {
    task::spawn(cpu::run(move || drop(arrived)));
}

impl Driver {
    /// Handles a snapshot that arrived completely. If raft wants it, the group's next output has it.
    pub(super) fn receive_snapshot(
        &mut self,
        sender: Sender,
        message: PeerMessage,
        arrived: Arrived,
        claim: Option<Claim>,
    ) -> Result<()> {
        let now_ns = self.clock.now().0;
        let group = message.group;
        let Some(peer) = self.peers.get_mut(&group) else {
            let unused = match claim {
                Some(claim) => self.begin_newcomer(sender, message, arrived, &claim)?,
                None => Some(arrived),
            };
            unused.into_iter().for_each(discard);
            return Ok(());
        };
        // A candidate's state is only for a store that lacks the group: a peer would take its sender for the leader.
        if message.by_candidate && !crate::mutant!("replica.candidates-state-taken-by-a-peer") {
            discard(arrived);
            return Ok(());
        }
        // One at a time: raft keeps only the newest snapshot, and the data here could be that of another one.
        if !peer.is_meant(sender.store, message.epoch, message.message.from, message.message.to)
            || !peer.install.is_idle()
            || crate::buggify!("driver.discard-snapshot")
        {
            discard(arrived);
            return Ok(());
        }
        let Ok((region, merges)) = described(group, message.message.get_snapshot()) else {
            discard(arrived);
            return Ok(());
        };
        // What is in its way must have become part of the group. Otherwise it is tried again later.
        let listed = |other: &GroupId| merges.absorbed.iter().any(|one| one.source_id == other.0);
        if !self.handle.overlapping(&region).iter().all(listed) {
            crate::reach!("driver.snapshot-finds-its-range-taken");
            discard(arrived);
            return Ok(());
        }
        peer.group.step(message.message, sender.election_ns, now_ns)?;
        if peer.group.has_snapshot() {
            // Nothing may begin where the group is and will be, until it is there.
            if !crate::mutant!("replica.range-free-before-the-install") {
                peer.replaced = Some(self.handle.reserve(&region::hull(peer.region(), &region)));
            }
            peer.install.begin(arrived);
        } else {
            discard(arrived);
        }
        self.touch(group);
        Ok(())
    }

    /// Begins to replace the group's state: the engine ingests it durably in a thread of its own. The output waits for
    /// that.
    pub(super) fn install_snapshot(&mut self, group: GroupId, output: Output, snapshot: &Snapshot) -> Result<()> {
        let metadata = snapshot.get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        let (region, merges) = described(group, snapshot)?;
        let corrupt = |what: &str| Error::Corruption(format!("group {group}: a snapshot {what}"));
        let peer = self.peers.get_mut(&group).ok_or_else(|| corrupt("arrived for a group that is not here"))?;
        let arrived = peer.install.run(output).ok_or_else(|| corrupt("came without its data"))?;
        let id = peer.group.peer();
        if GroupId(region.id) != group || region::peer_on(&region, self.store).map(|peer| peer.id) != Some(id) {
            return Err(corrupt("belongs to another group, or to one without this peer"));
        }
        let mut ranges = Vec::new();
        if !crate::mutant!("replica.snapshot-keeps-old-keys") {
            ranges = peer.machine.ranges(peer.region());
            for range in peer.machine.ranges(&region) {
                if !ranges.contains(&range) {
                    ranges.push(range);
                }
            }
        }
        let mut meta = WriteBatch::new();
        let newcomer = peer.newcomer && !crate::mutant!("replica.newcomer-not-recorded");
        let state = GroupState {
            region: region.clone(),
            peer: id,
            installed: index,
            applied: (index, term),
            newcomer,
            merges: merges.clone(),
        };
        state.put(&mut meta);
        let sources = self.handle.overlapping(&region);
        // Entries that were committed before the snapshot and are not applied yet are part of it.
        self.backlog.forget(group);
        let ingest = Ingest { ranges, arrived, meta, region, merges };
        if sources.is_empty() || crate::mutant!("replica.snapshot-leaves-source") {
            self.ingest(group, ingest);
        } else {
            self.ingest_over(group, sources, ingest);
        }
        Ok(())
    }

    /// Lets the engine ingest a group's snapshot, after a batch that waits for the engine: that may have entries of the
    /// group.
    pub(super) fn ingest(&mut self, group: GroupId, ingest: Ingest) {
        if let Some(peer) = self.peers.get(&group) {
            emit_region(self.store, &ingest.region);
            peer.view.set_state(ingest.region.clone(), ingest.merges.clone());
        }
        if let Some(ingest) = self.stall.hold(group, ingest) {
            self.start_install(group, ingest);
        }
    }

    /// Lets the engine ingest a group's snapshot.
    pub(super) fn start_install(&self, group: GroupId, ingest: Ingest) {
        let (handle, engine, clock) = (self.handle.clone(), self.engine.clone(), self.clock.clone());
        task::spawn(async move {
            let mut next = Some(ingest);
            let mut result = Ok(());
            while let Some(ingest) = next.take() {
                let engine = engine.clone();
                (next, result) = cpu::run_long(move || {
                    match engine.ingest(&ingest.ranges, &ingest.arrived.files, &ingest.meta) {
                        // The engine cannot write yet.
                        Ok(false) => (Some(ingest), Ok(())),
                        // The files are dropped here, where removing them may take a while.
                        ended => (None, ended.map(|_| ())),
                    }
                })
                .await;
                if next.is_some() {
                    clock.sleep(ENGINE_RETRY).await;
                }
            }
            handle.send(group, Message::Installed { group, result });
        });
    }

    /// Continues a group with the output that has the snapshot, which is now in the engine. The log starts over with
    /// its next record.
    pub(super) fn installed(&mut self, group: GroupId) -> Result<()> {
        let store = self.store;
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        let Some(output) = peer.install.end() else { return Ok(()) };
        peer.replaced = None;
        let Some(snapshot) = &output.snapshot else { return Ok(()) };
        let metadata = snapshot.get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        let (region, merges) = described(group, snapshot)?;
        peer.machine.reload(&region, &merges, &self.engine)?;
        peer.note_durable(index);
        peer.view.set_applied(index);
        let id = peer.group.peer();
        crate::reach!("driver.snapshot-installed");
        tracing::info!(store, %group, index, "installed a snapshot");
        probe::emit(|| Probe::Snapshot { store, group: group.0, peer: id, index, term });
        self.effects.send(StoreEffect::Replaced(group));
        self.took_over(group);
        self.installed.push((group, output));
        self.touch(group);
        Ok(())
    }
}

/// Decodes the descriptor in a snapshot, and what merges have made of the group.
pub(super) fn described(group: GroupId, snapshot: &Snapshot) -> Result<(Region, Merges)> {
    let state = SnapshotState::decode(snapshot.data.clone());
    let state = state.ok().and_then(|state| state.region.map(|region| (region, state.merges.unwrap_or_default())));
    state.ok_or_else(|| Error::Corruption(format!("group {group}: a snapshot has no descriptor")))
}
