//! Handling of a group's output: messages, reads, and the work that waits for the log.

use raft::eraftpb::{Entry, HardState, Message as RaftMessage, MessageType};

use crate::raft::output::Output;
use crate::rt::probe::{self, Event as Probe};
use crate::types::{GroupId, Result, region};

use super::apply::entry_hash;
use super::birth::Newborn;
use super::unwritten::InFlight;
use super::{Driver, Job, Log, Owed};
use crate::replica::keeper::Done;
use crate::replica::transport::SnapshotOut;

/// The rest of a group's output, to be done once the log is written.
pub(super) struct AfterLog {
    group: GroupId,
    number: u64,
    messages: Vec<RaftMessage>,
    /// Index and term of a snapshot in the engine. Raft may only be told of it when the log has started over as well.
    installed: Option<(u64, u64)>,
}

impl Driver {
    pub(super) fn output(
        &mut self,
        group: GroupId,
        mut output: Output,
        committed: &mut Vec<(GroupId, Vec<Entry>)>,
        after_log: &mut Owed,
    ) -> Result<()> {
        for message in std::mem::take(&mut output.messages) {
            self.send(group, message);
        }
        match output.snapshot.clone() {
            Some(snapshot) => self.install_snapshot(group, output, &snapshot),
            None => {
                self.owe(group, output, committed, after_log);
                Ok(())
            }
        }
    }

    /// Collects what an output wants written and applied. Its snapshot, if it has one, is in the engine.
    pub(super) fn owe(
        &mut self,
        group: GroupId,
        output: Output,
        committed: &mut Vec<(GroupId, Vec<Entry>)>,
        after_log: &mut Owed,
    ) {
        let store = self.store;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        let id = peer.group.peer();
        let installed = output.snapshot.as_ref().map(|snapshot| {
            let metadata = snapshot.get_metadata();
            self.batch.reset(group, metadata.index, metadata.term);
            (metadata.index, metadata.term)
        });
        if !output.entries.is_empty() {
            self.batch.append(group, &output.entries);
            let (first, index) = (output.entries[0].index, output.entries[output.entries.len() - 1].index);
            probe::emit(|| Probe::Record { store, group: group.0, peer: id, first, index });
            self.flushes.lock().expect("no holder panics").note_logged(&output.entries);
        }
        if let Some(state) = &output.hard_state
            && !crate::mutant!("replica.vote-not-persisted")
        {
            self.batch.hard_state(group, state);
        }
        peer.answer_reads(&output.reads, &output.reads_lost);
        self.fetches.want(group, output.fetches);
        if !output.committed.is_empty() {
            committed.push((group, output.committed));
        }
        if output.number != 0 {
            let facts = log_facts(store, group, id, &output.entries, output.hard_state.as_ref());
            self.probes.extend(facts);
            let messages = output.messages_after_persist;
            after_log.push(AfterLog { group, number: output.number, messages, installed });
        }
    }

    /// Sends a message. The data of a snapshot is taken from the engine now, before anything more is applied.
    fn send(&mut self, group: GroupId, message: RaftMessage) {
        let Some(peer) = self.peers.get_mut(&group) else { return };
        let snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        let Some(to_store) = peer.store_of(message.to) else {
            // The member is not known here yet. Raft waits for the end of a snapshot until it is told.
            if snapshot {
                peer.group.snapshot_sent(message.to, message.get_snapshot().get_metadata().index, false);
            }
            return;
        };
        let epoch = region::epoch(peer.region());
        if !snapshot {
            let (to_peer, append) = (message.to, message.get_msg_type() == MessageType::MsgAppend);
            let region = peer.group.may_be_lacking(&message).then(|| peer.view.region());
            if !self.outbox.send(group, epoch, to_store, message, region.as_deref()) && append {
                crate::reach!("driver.queue-full");
                // Raft continues from what the peer has, instead of counting on the message that was dropped.
                peer.group.dropped(to_peer);
            }
            return;
        }
        let index = message.get_snapshot().get_metadata().index;
        // A batch that waits for the engine may get there at any moment: the engine is ahead of what is applied then.
        let ahead = self.stall.waits() && !crate::mutant!("replica.snapshot-beside-a-waiting-batch");
        if index != peer.group.log().applied().0 || ahead || crate::buggify!("driver.snapshot-given-up") {
            crate::reach!("driver.snapshot-of-an-earlier-pass");
            // Raft asked for it in an earlier pass, and the engine has advanced since. Raft asks again when it is told
            // of the failure.
            peer.group.snapshot_sent(message.to, index, false);
            self.touch(group);
            return;
        }
        // As the engine holds it: what is applied in memory may wait for the engine.
        let region = peer.view.region();
        let ranges = peer.machine.ranges(&region);
        let out = SnapshotOut { group, epoch, region, to_store, message, ranges, by_candidate: false };
        self.outbox.send_snapshot(out, &self.engine);
    }

    /// Writes what the pass has collected, or gives it to the writer. What had to wait for it is done when it is
    /// durable.
    pub(super) async fn write_log(&mut self, mut after_log: Owed) -> Result<()> {
        if crate::mutant!("replica.ack-before-fsync") {
            for after in &mut after_log {
                for message in std::mem::take(&mut after.messages) {
                    self.send(after.group, message);
                }
            }
        }
        let probes = std::mem::take(&mut self.probes);
        let born = self.births.join(&mut self.batch);
        let nothing = self.batch.is_empty();
        if let Log::Writer(_) = &self.log {
            // Even with nothing to write, the work waits for the batches before it.
            if nothing && (after_log.is_empty() || self.unwritten.is_empty()) {
                return self.finish(probes, after_log, born);
            }
            let batch = std::mem::take(&mut self.batch);
            let (since_ns, bytes) = (self.clock.now().0, batch.bytes());
            self.unwritten.push(InFlight { since_ns, bytes, probes, owed: after_log, born });
            self.log.ask(Job::Write(batch, Done::Lane(self.lane)));
            return Ok(());
        }
        if !nothing {
            self.write_in_line().await?;
        }
        self.finish(probes, after_log, born)
    }

    async fn write_in_line(&mut self) -> Result<()> {
        if let Log::InLine(keeper) = &mut self.log {
            keeper.write(&self.batch).await?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Handles the confirmation that the oldest batch of the writer is durable.
    pub(super) fn written(&mut self) -> Result<()> {
        assert!(!self.unwritten.is_empty(), "the log's writer confirms each batch once");
        match self.unwritten.pop() {
            Some(InFlight { probes, owed, born, .. }) => self.finish(probes, owed, born),
            None => Ok(()),
        }
    }

    /// Does the work that had to wait for the log.
    fn finish(&mut self, probes: Vec<Probe>, owed: Owed, born: Vec<Newborn>) -> Result<()> {
        for event in probes {
            probe::emit(|| event);
        }
        for AfterLog { group, number, messages, installed } in owed {
            for message in messages {
                self.send(group, message);
            }
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            peer.group.persisted(number);
            // If a later snapshot was installed while the log was written, raft is told of that one instead.
            let newest = installed.filter(|(index, _)| {
                *index >= peer.group.log().applied().0 || crate::mutant!("replica.earlier-snapshot-told-late")
            });
            if let Some((index, term)) = newest {
                peer.group.applied(index, term);
                self.log_has_begun(group)?;
            }
            self.touch(group);
        }
        self.begin_newborns(born)
    }
}

/// Returns the probe events that are true when the log is written.
fn log_facts(store: u64, group: GroupId, peer: u64, entries: &[Entry], hard_state: Option<&HardState>) -> Vec<Probe> {
    if !probe::LISTENING {
        return Vec::new();
    }
    let appended = |entry: &Entry| {
        let (index, term, hash) = (entry.index, entry.term, entry_hash(entry));
        Probe::Append { store, group: group.0, peer, index, term, hash }
    };
    let mut events: Vec<Probe> = entries.iter().map(appended).collect();
    if let Some(state) = hard_state {
        let (term, vote, commit) = (state.term, state.vote, state.commit);
        events.push(Probe::HardState { store, group: group.0, peer, term, vote, commit });
    }
    events
}
