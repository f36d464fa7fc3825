//! Installing snapshots: a group's whole state is replaced.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::Snapshot;

use crate::engine::{KvEngine, WriteBatch};
use crate::proto::armilla::raft::SnapshotState;
use crate::raft::output::Output;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::{cpu, task};
use crate::types::{Error, GroupId, Region, Result, region};

use super::Driver;
use super::apply::write_waiting;
use crate::replica::effects::StoreEffect;
use crate::replica::group_state::GroupState;
use crate::replica::message::{Message, PeerMessage, Sender};
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
        if !peer.is_meant(sender.store, &message) || !peer.install.is_idle() {
            return Ok(());
        }
        peer.group.step(message.message, sender.election_ns, now_ns)?;
        if peer.group.has_snapshot() {
            peer.install.begin(pairs);
        }
        self.touch(group);
        Ok(())
    }

    /// Begins to replace the group's state: the engine writes it, durably, in a thread of its own. The output waits for that.
    pub(super) fn install_snapshot(&mut self, group: GroupId, output: Output, snapshot: &Snapshot) -> Result<()> {
        let metadata = snapshot.get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        let region = described(group, snapshot)?;
        let corrupt = |what: &str| Error::Corruption(format!("group {group}: a snapshot {what}"));
        let peer = self.peers.get_mut(&group).ok_or_else(|| corrupt("is of a group that is not here"))?;
        let pairs = peer.install.run(output).ok_or_else(|| corrupt("came without its data"))?;
        let id = peer.group.peer();
        if GroupId(region.id) != group || region::peer_on(&region, self.store).map(|peer| peer.id) != Some(id) {
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
        peer.view.set_region(region);
        // What was committed before it and waits for the engine is part of it.
        self.stall.forget(group);
        // A batch that waits for the engine may have entries of the group: it goes first.
        match self.stall.hold(group, batch) {
            None => Ok(()),
            Some(batch) => {
                self.start_install(group, batch);
                Ok(())
            }
        }
    }

    /// Lets the engine write a group's snapshot.
    pub(super) fn start_install(&self, group: GroupId, batch: WriteBatch) {
        let (handle, engine, clock) = (self.handle.clone(), self.engine.clone(), self.clock.clone());
        let flush = !crate::mutant!("replica.snapshot-not-flushed");
        task::spawn(async move {
            let written = write_waiting(engine.clone(), clock, batch).await;
            let result = match written {
                Ok(()) if flush => cpu::run_long(move || engine.flush()).await,
                written => written,
            };
            handle.send(Message::Installed { group, result });
        });
    }

    /// The engine holds the snapshot: the group goes on with the output that has it. The log starts over with its next record.
    pub(super) fn installed(&mut self, group: GroupId) -> Result<()> {
        let store = self.store;
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        let Some(output) = peer.install.end() else { return Ok(()) };
        let Some(snapshot) = &output.snapshot else { return Ok(()) };
        let metadata = snapshot.get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        let region = described(group, snapshot)?;
        peer.machine.reload(&region, &self.engine)?;
        peer.note_durable(index);
        peer.view.set_applied(index);
        let id = peer.group.peer();
        tracing::info!(store, %group, index, "a snapshot is installed");
        probe::emit(|| Probe::Snapshot { store, group: group.0, peer: id, index, term });
        self.effects.tell(StoreEffect::Replaced(group));
        self.installed.push((group, output));
        self.touch(group);
        Ok(())
    }
}

/// The descriptor in a snapshot.
fn described(group: GroupId, snapshot: &Snapshot) -> Result<Region> {
    let state = SnapshotState::decode(snapshot.data.clone());
    let region = state.ok().and_then(|state| state.region);
    region.ok_or_else(|| Error::Corruption(format!("group {group}: a snapshot has no descriptor")))
}
