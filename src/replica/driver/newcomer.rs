//! Peers that begin with a snapshot of their group's whole state: this store was not there when the group began.
//!
//! Requests for votes and appends carry the group's descriptor as long as the receiver may lack the group. A store that
//! does, and that has nothing in the group's range, says so (an append's rejection). A leader then sends a snapshot. So
//! does a candidate: if most stores lack the group, or those that have it die, it could never be elected. What it sends
//! is applied, so it is committed, and a store that lacks the group has promised nothing.
//!
//! **In** come messages for groups that are not here; **out** go answers, and peers. **Never**: a vote, or anything in
//! the log, for a group whose state is not in the engine; two peers on a store whose ranges overlap.

use raft::eraftpb::{Message as RaftMessage, MessageType};

use super::Driver;
use super::install::described;
use crate::engine::{KvEngine, WriteBatch};
use crate::raft::{LogView, log_view};
use crate::replica::claims::Claim;
use crate::replica::group_state::GroupState;
use crate::replica::handle::Room;
use crate::replica::message::{PeerMessage, Sender};
use crate::replica::snapshot::Arrived;
use crate::replica::transport::SnapshotOut;
use crate::types::{GroupId, Result, region};

impl Driver {
    /// Handles a message for a group that is not here: keeps it for a group that is about to be born, or says that this
    /// store lacks the group.
    pub(super) fn lacks(&mut self, sender: Sender, message: PeerMessage) {
        let Some(region) = message.introduces(self.store) else { return };
        if self.handle.is_taken(region) {
            return self.hold(sender, message);
        }
        if self.handle.peer_id_min(message.group) > message.message.to {
            crate::reach!("driver.message-for-the-dead");
            return;
        }
        let asked = &message.message;
        let index = match asked.get_msg_type() {
            MessageType::MsgAppend => asked.index,
            MessageType::MsgRequestPreVote | MessageType::MsgRequestVote => 0,
            _ => return,
        };
        if self.handle.room() != Room::Enough || crate::mutant!("replica.lacking-store-is-silent") {
            return;
        }
        crate::reach!("driver.lacks-a-group");
        let mut answer = RaftMessage::default();
        answer.set_msg_type(MessageType::MsgAppendResponse);
        (answer.from, answer.to, answer.term) = (asked.to, asked.from, asked.term);
        (answer.reject, answer.index) = (true, index);
        self.outbox.send(message.group, region::epoch(region), sender.store, answer, None);
    }

    /// Sends a group's state to a store that lacks it. Returns whether the message was such a store's answer to a
    /// request for a vote.
    pub(super) fn answers_that_it_lacks(&mut self, sender: Sender, message: &PeerMessage) -> bool {
        let answer = &message.message;
        let lacks = answer.get_msg_type() == MessageType::MsgAppendResponse && answer.reject && answer.index == 0;
        let Some(peer) = self.peers.get_mut(&message.group).filter(|_| lacks) else { return false };
        let mut sends = !peer.group.leads() && peer.install.is_idle() && !self.stall.waits();
        if crate::mutant!("replica.candidate-sends-only-a-birth") {
            sends &= peer.group.log().applied() == crate::raft::membership::FIRST;
        }
        if sends && !crate::mutant!("replica.candidate-sends-no-state") {
            crate::reach!("driver.candidate-sends-its-state");
            let region = peer.view.region();
            let (group, epoch, ranges) = (message.group, region::epoch(&region), peer.machine.ranges(&region));
            let message = peer.group.state_for(answer.from);
            let out = SnapshotOut { group, epoch, region, to_store: sender.store, message, ranges, by_candidate: true };
            self.outbox.send_snapshot(out, &self.engine);
        }
        true
    }

    /// Records in the engine that the log of a group that began with a snapshot has begun. If that gets lost, a restart
    /// does not notice if the log is lost as well.
    pub(super) fn log_has_begun(&mut self, group: GroupId) -> Result<()> {
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        if !std::mem::take(&mut peer.newcomer) {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        let (region, id) = (peer.region().clone(), peer.group.peer());
        let (index, term) = peer.group.log().applied();
        let merges = peer.machine.merges().clone();
        GroupState { region, peer: id, installed: index, applied: (index, term), newcomer: false, merges }
            .put(&mut batch);
        self.engine.try_write(&batch).map(drop)
    }

    /// Creates the peer that a snapshot is for, if raft wants the snapshot. Returns the data if it does not.
    pub(super) fn begin_newcomer(
        &mut self,
        sender: Sender,
        message: PeerMessage,
        arrived: Arrived,
        claim: &Claim,
    ) -> Result<Option<Arrived>> {
        let group = message.group;
        let Ok((region, merges)) = described(group, message.message.get_snapshot()) else { return Ok(Some(arrived)) };
        if region != *claim.region() || self.handle.peer_id_min(group) > message.message.to {
            return Ok(Some(arrived));
        }
        let view = LogView::new(log_view::Start {
            hard_state: Default::default(),
            conf_state: Default::default(),
            truncated: (0, 0),
            runs: Vec::new(),
            last_index: 0,
            unapplied: Vec::new(),
            applied: (0, 0),
            state: Default::default(),
            cache_bytes_max: self.options.cache_bytes_max,
        });
        self.register_peer(&region, &merges, view)?;
        let now_ns = self.clock.now().0;
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(Some(arrived)) };
        peer.group.step(message.message, sender.election_ns, now_ns)?;
        if !peer.group.has_snapshot() {
            self.peers.remove(&group);
            self.sleepers.remove(group);
            self.handle.remove(group);
            return Ok(Some(arrived));
        }
        peer.newcomer = true;
        crate::reach!("driver.newcomer");
        tracing::info!(store = self.store, %group, "a snapshot begins a peer of a group that was not here");
        peer.install.begin(arrived);
        self.touch(group);
        Ok(None)
    }
}
