//! Handling of messages.

use bytes::Bytes;
use raft::eraftpb::{Message as RaftMessage, MessageType};

use crate::raft::machine::MergeStep;
use crate::rt::probe::{self, Event as Probe};
use crate::types::region::RegionEpoch;
use crate::types::{Error, GroupId, Result, region};

use super::Driver;
use super::birth::Newborn;
use crate::replica::message::{Beats, GroupBeat, MergeMessage, Message, PeerMessage, Sender};
use crate::replica::peer::{Peer, Queued};

impl Driver {
    pub(super) async fn receive(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Propose { group, term, command, reply } => match self.peers.get_mut(&group) {
                Some(peer) => {
                    peer.proposals.queue(Queued { term, command, reply });
                    self.touch(group);
                }
                None => reply.settle(Err(Error::RegionNotFound(group))),
            },
            Message::Read { group, reply, slot } => match self.peers.get_mut(&group) {
                Some(peer) if peer.machine.merges().merging.is_some() => {
                    drop(reply.send(Err(Error::NotReadable(group))));
                }
                // As under the lease, where other peers may have served all that is committed.
                Some(peer) if peer.group.lease_until() > self.clock.now().0 && peer.group.has_applied_all() => {
                    let (store, id, term) = (self.store, peer.group.peer(), peer.group.term());
                    probe::emit(|| Probe::LeaseRead { store, group: group.0, peer: id, term });
                    drop(slot);
                    let _ = reply.send(Ok(()));
                }
                Some(peer) if peer.group.leads() => {
                    peer.read(reply, slot);
                    self.touch(group);
                }
                Some(peer) => drop(reply.send(Err(peer.view.not_leader()))),
                None => drop(reply.send(Err(Error::RegionNotFound(group)))),
            },
            Message::Asked { group, reply } => {
                let index = match self.peers.get_mut(&group) {
                    Some(peer) if peer.machine.merges().merging.is_some() => Err(Error::NotReadable(group)),
                    Some(peer) if peer.group.ready() => Ok(peer.index_for_follower()),
                    Some(peer) => Err(peer.view.not_leader()),
                    None => Err(Error::RegionNotFound(group)),
                };
                // The asker may be gone.
                let _ = reply.send(index);
            }
            Message::TransferLeader { group, to_peer, reply } => {
                // The caller may be gone.
                let _ = reply.send(self.transfer_leader(group, to_peer));
            }
            Message::Gone { group, proof } => self.end_by_proof(group, &proof)?,
            Message::HandOver { pd } => self.hand_over(|group| (group == GroupId::PD) == pd),
            Message::Create { regions, reply } => match self.create(regions).await {
                // Nothing was created: the descriptor is at fault, not the store.
                Err(error @ Error::Invalid(_)) => drop(reply.send(Err(error))),
                created => drop(reply.send(created)),
            },
            Message::FromPeers { sender, messages, beats, share: _share } => {
                self.may_promise(sender).await?;
                for message in messages {
                    self.step(sender, message)?;
                }
                self.hear(sender, beats)?;
            }
            Message::Snapshot { sender, message, arrived, claim } => {
                self.may_promise(sender).await?;
                self.receive_snapshot(sender, *message, arrived, claim)?;
            }
            Message::SnapshotSent { group, to_peer, index, delivered } => {
                if let Some(peer) = self.peers.get_mut(&group) {
                    peer.group.snapshot_sent(to_peer, index, delivered);
                    self.touch(group);
                }
            }
            Message::Fetched { group, context, entries } => {
                self.fetches.end(group);
                let store = self.store;
                probe::emit(|| Probe::Fetched { store, group: group.0 });
                let entries = entries?;
                if let Some(peer) = self.peers.get_mut(&group) {
                    peer.group.fetched(context, entries);
                    self.touch(group);
                }
            }
            Message::Unreachable { store } => self.unreachable(store),
            Message::ClockStoodStill => self.clock_stood_still(),
            Message::Flushed { number, applied, result } => {
                result?;
                self.flushed(number, &applied);
            }
            Message::Written(result) => {
                result?;
                self.written()?;
            }
            Message::Born { region, merges, claim, campaigns } => {
                self.begin_newborn(Newborn { region: *region, merges, claim, campaigns })?;
            }
            Message::Cut(cuts) => self.cut(cuts),
            Message::Applied(result) => {
                result?;
                self.stall_ended()?;
            }
            Message::Warmed { group, number, result } => self.warmed(group, number, result)?,
            Message::Installed { group, result } => {
                result?;
                self.installed(group)?;
            }
            Message::Merge(message) => self.receive_of_merge(message)?,
            Message::Tick => self.tick().await?,
            Message::Fail(why) => return Err(Error::Stopped(why)),
            Message::Stop => unreachable!("handled by the loop"),
        }
        Ok(())
    }

    fn receive_of_merge(&mut self, message: MergeMessage) -> Result<()> {
        match message {
            MergeMessage::Halt { absorbs, target } => self.halt(absorbs, target),
            MergeMessage::Halted { target, source } => self.halted(target, *source)?,
            MergeMessage::Absorbed { source } => self.absorbed(source),
            MergeMessage::Sealed { target, epoch, commit, listed } => self.decide(target, epoch, commit, listed),
            MergeMessage::WasMerged { absorbed, heir, heir_is_current, reply } => {
                // The asker may be gone.
                let _ = reply.send(self.was_merged(&absorbed, heir, heir_is_current)?);
            }
            MergeMessage::Forget { group, source } => self.propose_step(group, &MergeStep::Forget(source)),
            MergeMessage::Against { group, merging } => self.roll_back_decided(group, &merging),
        }
        Ok(())
    }

    /// Checks that the receiving side has made a promise to this sender durable.
    async fn may_promise(&mut self, sender: Sender) -> Result<()> {
        if crate::mutant!("replica.promise-waits-in-the-lane") {
            self.promise.raise(sender.election_ns).await?;
        }
        assert!(sender.election_ns <= self.promise.ns(), "no voter promises more than a restart remembers");
        Ok(())
    }

    pub(super) fn step(&mut self, sender: Sender, message: PeerMessage) -> Result<()> {
        let group = message.group;
        assert_eq!(self.handle.lane_of(group), self.lane, "group {group}: messages come to the lane that drives it");
        // Followers whose engine or log is stalled keep what they have; leaders send again.
        let appends = message.message.get_msg_type() == MessageType::MsgAppend && !message.message.entries.is_empty();
        if appends && self.is_full() {
            return Ok(());
        }
        let store = self.store;
        if appends {
            let bytes = message.message.entries.iter().map(|entry| entry.data.len() as u64);
            let last = message.message.entries.last().map_or(0, |entry| entry.data.len() as u64);
            probe::emit(|| Probe::Note { store, what: "append", a: bytes.sum(), b: last, data: Bytes::new() });
        }
        let Some(peer) = self.peers.get_mut(&group) else {
            self.lacks(sender, message);
            return Ok(());
        };
        if !peer.is_meant(sender.store, message.epoch, message.message.from, message.message.to) {
            // A member with a higher ID here is another peer, which takes this one's place.
            if let Some(region) = message.introduces(store).filter(|_| message.message.to > peer.group.peer()) {
                return self.end_by_proof(group, &region.clone());
            }
            tracing::debug!(store = self.store, %group, from = sender.store, "dropped a message for or from another peer of the replica");
            return Ok(());
        }
        if self.answers_that_it_lacks(sender, &message) {
            return Ok(());
        }
        self.rouse(group);
        let Some(peer) = self.peers.get_mut(&group) else { return Ok(()) };
        peer.meet(message.message.from, sender.store);
        let (heartbeat, says) = (message.message.get_msg_type() == MessageType::MsgHeartbeat, message.message.commit);
        if heartbeat && message.message.term >= peer.group.term() && says > peer.group.last_index() {
            probe::emit(|| Probe::Note { store, what: "word-for-more", a: group.0, b: says, data: Bytes::new() });
        }
        // The time of arrival is after that of sending, before which a promise to the sender must not begin. The time
        // of handling will not do: a peer that died meanwhile must not count as heard.
        peer.group.step(message.message, sender.election_ns, sender.arrived.0)?;
        self.touch(group);
        Ok(())
    }

    /// Handles heartbeats and their responses in groups in which nothing else happens, and what is said of sleep.
    fn hear(&mut self, sender: Sender, beats: Beats) -> Result<()> {
        let consents = self.hear_of_sleep(&sender, &beats);
        let mut answers = Vec::new();
        for GroupBeat { group, epoch, beat } in beats.heartbeats {
            let meant = |peer: &&mut Box<Peer>| peer.is_meant(sender.store, epoch, beat.from, beat.to);
            if self.peers.get_mut(&group).filter(meant).is_none() {
                continue;
            }
            self.rouse(group);
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            match peer.group.hear(&beat, sender.election_ns, sender.arrived.0) {
                Some(answer) => {
                    answers.push(GroupBeat { group, epoch: region::epoch(peer.region()), beat: answer });
                }
                None => self.step(sender, self::beat(group, epoch, beat.heartbeat()))?,
            }
        }
        for GroupBeat { group, epoch, beat } in beats.answers {
            let meant = |peer: &&mut Box<Peer>| peer.is_meant(sender.store, epoch, beat.from, beat.to);
            if self.peers.get_mut(&group).filter(meant).is_none() {
                continue;
            }
            self.rouse(group);
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            if !peer.group.hear_answer(&beat, sender.arrived.0) {
                self.step(sender, self::beat(group, epoch, beat.answer()))?;
            }
        }
        self.outbox.send_beats(sender.store, Beats { answers, consents, ..Beats::default() });
        Ok(())
    }

    fn clock_stood_still(&mut self) {
        let now_ns = self.clock.now().0;
        let groups: Vec<GroupId> = self.peers.keys().copied().collect();
        for group in groups {
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            peer.group.clock_stood_still(now_ns);
            if !peer.rest.is_sleep() {
                self.touch(group);
            }
        }
    }

    fn unreachable(&mut self, store: u64) {
        // Those that sleep notice by the signs of life.
        for group in self.sleepers.awake() {
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            let Some(other) = region::peer_on(peer.region(), store).map(|other| other.id) else { continue };
            if peer.group.leads() {
                peer.group.unreachable(other);
                self.touch(group);
            } else {
                peer.group.lost(other);
            }
        }
    }
}

/// Returns the message that a heartbeat, or the response to one, stands for.
fn beat(group: GroupId, epoch: RegionEpoch, message: RaftMessage) -> PeerMessage {
    PeerMessage { group, epoch, message, region: None, by_candidate: false }
}
