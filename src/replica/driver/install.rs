//! Installing snapshots: a group's whole state is replaced.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::Snapshot;

use crate::engine::{KvEngine, WriteBatch};
use crate::proto::armilla::raft::SnapshotState;
use crate::rt::cpu;
use crate::rt::probe::{self, Event as Probe};
use crate::types::{Error, GroupId, Region, Result, region};

use super::Driver;
use crate::replica::effects::StoreEffect;
use crate::replica::group_state::GroupState;
use crate::replica::message::{PeerMessage, Sender};
use crate::replica::snapshot::Pair;

/// A descriptor as snapshots carry it.
pub(super) fn encode_state(region: &Region) -> Bytes {
    SnapshotState { region: Some(region.clone()) }.encode_to_vec().into()
}

impl Driver {
    /// A snapshot has arrived whole: raft decides whether it is wanted. If so, the group's next output has it.
    pub(super) fn receive_snapshot(&mut self, sender: Sender, message: PeerMessage, pairs: Vec<Pair>) -> Result<()> {
        let now_ns = self.clock.now().0;
        let group = message.group;
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        // One at a time: raft keeps the newest only, whose data would be another's.
        if !peer.is_meant(sender.store, &message) || peer.install.is_pending() {
            return Ok(());
        }
        peer.group.step(message.message, sender.election_ns, now_ns)?;
        if peer.group.has_snapshot() {
            peer.install.begin(pairs);
        }
        self.touch(group);
        Ok(())
    }

    /// Replaces the group's state; gives the snapshot's index and term. The log starts over only after the engine is durable.
    pub(super) async fn install_snapshot(&mut self, group: GroupId, snapshot: &Snapshot) -> Result<(u64, u64)> {
        let store = self.store;
        let metadata = snapshot.get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        let corrupt = |what: &str| Error::Corruption(format!("group {group}: a snapshot {what}"));
        let state = SnapshotState::decode(snapshot.data.clone()).map_err(|_| corrupt("does not decode"))?;
        let region = state.region.ok_or_else(|| corrupt("has no descriptor"))?;
        let peer = self.peers.get_mut(&group).ok_or_else(|| corrupt("is of a group that is not here"))?;
        let pairs = peer.install.take().ok_or_else(|| corrupt("came without its data"))?;
        let id = peer.group.peer();
        if GroupId(region.id) != group || region::peer_on(&region, store).map(|peer| peer.id) != Some(id) {
            return Err(corrupt("is that of another group, or of one without this peer"));
        }
        let mut batch = WriteBatch::new();
        if !crate::mutant!("replica.snapshot-keeps-old-keys") {
            for range in peer.machine.ranges(peer.region()).into_iter().chain(peer.machine.ranges(&region)) {
                batch.delete_range(range.cf, range.start, range.end);
            }
        }
        for (cf, key, value) in pairs {
            batch.put(cf, key, value);
        }
        GroupState { region: region.clone(), peer: id, installed: index, applied: (index, term) }.put(&mut batch);
        peer.view.set_region(region.clone());
        let engine = self.engine.clone();
        let flush = !crate::mutant!("replica.snapshot-not-flushed");
        cpu::run_long(move || {
            engine.write(&batch)?;
            // The engine has it twice by now.
            drop(batch);
            if flush { engine.flush() } else { Ok(()) }
        })
        .await?;
        let peer = self.peers.get_mut(&group).ok_or_else(|| corrupt("is of a group that is not here"))?;
        peer.machine.reload(&region, &self.engine)?;
        peer.note_durable(index);
        peer.view.set_applied(index);
        self.batch.reset(group, index, term);
        tracing::info!(store, %group, index, "a snapshot is installed");
        probe::emit(|| Probe::Snapshot { store, group: group.0, peer: id, index, term });
        self.effects.tell(StoreEffect::Replaced(group));
        Ok((index, term))
    }
}
