//! The loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use armilla_arch::sync::Pending;
use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};

use crate::engine::Engine;
use crate::raft::machine::StateMachine;
use crate::raft::{frame, output::Output};
use crate::rt::clock::Clock;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::mpsc;
use crate::types::limits::ENTRY_BYTES_MAX;
use crate::types::{Error, GroupId, Region, Result, region};

use super::handle::Handle;
use super::housekeeping::Housekeeping;
use super::log::{LogBatch, RaftLog};
use super::mailbox::Mail;
use super::peer::{Peer, Proposal};
use super::transport::Outbox;

/// Makes the state machine of a group from its descriptor.
pub type Machines = Arc<dyn Fn(&Region) -> Box<dyn StateMachine> + Send + Sync>;

/// How the driver behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of every group.
    pub raft: crate::raft::Options,
    /// Bytes of commands packed into one entry, beyond its first command.
    pub pack_bytes_max: usize,
    /// Letters handled before the log is written.
    pub letters_max: usize,
    /// Bytes of applied entries that a group keeps in memory.
    pub cache_bytes_max: usize,
    /// Entries behind the applied index that are kept for followers.
    pub log_keep_entries: u64,
    /// Entries that are kept for a follower that lags; beyond them it gets a snapshot.
    pub log_lag_entries_max: u64,
    /// Bytes of log since the last flush that start the next one.
    pub flush_bytes: u64,
    /// A flush happens at the latest after this time, if anything was written.
    pub flush_interval: Duration,
    /// Bytes of pairs in one chunk of a snapshot.
    pub snapshot_chunk_bytes: usize,
}

/// Owns the groups of one store.
pub(super) struct Driver {
    pub store: u64,
    pub options: Options,
    pub clock: Clock,
    pub engine: Engine,
    pub log: RaftLog,
    pub peers: BTreeMap<GroupId, Peer>,
    pub handle: Handle,
    pub machines: Machines,
    pub outbox: Outbox,
    pub housekeeping: Housekeeping,
    /// Groups that may have output.
    pub dirty: VecDeque<GroupId>,
    pub next_read: u64,
    pub batch: LogBatch,
    /// A tick lies in the mailbox.
    pub tick_waiting: Arc<Pending>,
}

/// What is left to do of a group's output once the log is written.
struct AfterLog {
    group: GroupId,
    number: u64,
    messages: Vec<Message>,
}

impl Driver {
    /// Runs until it is told to stop or something fails; then nothing here is acknowledged any more.
    pub async fn run(mut self, mut mail: mpsc::UnboundedReceiver<Mail>) {
        let result = self.serve(&mut mail).await;
        let why = match &result {
            Ok(()) => "the node is shutting down".to_owned(),
            Err(error) => {
                tracing::error!(store = self.store, %error, "the store stops serving");
                let (store, why) = (self.store, error.to_string());
                probe::emit(|| Probe::Poisoned { store, why });
                error.to_string()
            }
        };
        self.handle.poisoned.set(why);
        for peer in self.peers.values_mut() {
            peer.view.drop_lease();
            peer.view.set_leadership(Default::default());
            // What is under way is in the log perhaps, and other stores may commit it.
            peer.fail_all(|| Error::Unknown("the store stopped".into()));
        }
        // Letters that are still coming are dropped with their reply channels, which tells the senders the same.
    }

    async fn serve(&mut self, mail: &mut mpsc::UnboundedReceiver<Mail>) -> Result<()> {
        self.round().await?;
        loop {
            let Some(first) = mail.recv().await else { return Ok(()) };
            let mut letter = Some(first);
            let mut handled = 0;
            while let Some(current) = letter.take() {
                if matches!(current, Mail::Stop) {
                    self.round().await?;
                    return self.flush_at_stop().await;
                }
                self.receive(current).await?;
                handled += 1;
                if handled < self.options.letters_max {
                    letter = mail.try_recv().ok();
                }
            }
            self.round().await?;
            self.handle.letters.store(mail.len() as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn touch(&mut self, group: GroupId) {
        if let Some(peer) = self.peers.get_mut(&group)
            && !std::mem::replace(&mut peer.dirty, true)
        {
            self.dirty.push_back(group);
        }
    }

    async fn receive(&mut self, letter: Mail) -> Result<()> {
        match letter {
            Mail::Propose { group, command, reply } => match self.peers.get_mut(&group) {
                Some(peer) => {
                    peer.queue.push((command, reply));
                    self.touch(group);
                }
                None => reply.settle(Err(Error::RegionNotFound(group))),
            },
            Mail::Read { group, reply } => match self.peers.get_mut(&group) {
                Some(peer) if peer.group.leads() => {
                    self.next_read += 1;
                    peer.reads.insert(self.next_read, reply);
                    peer.group.read(self.next_read);
                    self.touch(group);
                }
                Some(peer) => drop(reply.send(Err(peer.view.not_leader()))),
                None => drop(reply.send(Err(Error::RegionNotFound(group)))),
            },
            Mail::TransferLeader { group, to_peer, reply } => {
                // Nobody may be there to hear it.
                let _ = reply.send(self.transfer_leader(group, to_peer));
            }
            Mail::HandOver { pd } => self.hand_over(pd),
            Mail::Create { region, reply } => match self.create(*region).await {
                // Nothing was done: the descriptor is at fault, not the store.
                Err(error @ Error::Invalid(_)) => drop(reply.send(Err(error))),
                created => drop(reply.send(created)),
            },
            Mail::Messages(messages, _bytes) => {
                for (group, message) in messages {
                    self.step(group, message);
                }
            }
            Mail::Snapshot { group, message, pairs } => self.receive_snapshot(group, *message, pairs).await?,
            Mail::SnapshotSent { group, to_peer, delivered } => {
                if let Some(peer) = self.peers.get_mut(&group) {
                    peer.group.snapshot_sent(to_peer, delivered);
                    self.touch(group);
                }
            }
            Mail::Unreachable { store } => {
                let groups: Vec<GroupId> = self.peers.keys().copied().collect();
                for group in groups {
                    let peer = self.peers.get_mut(&group).expect("just listed");
                    if let Some(other) = region::peer_on(&peer.region, store).map(|p| p.id) {
                        peer.group.unreachable(other);
                        self.touch(group);
                    }
                }
            }
            Mail::Flushed { applied, result } => {
                result?;
                self.flushed(applied);
            }
            Mail::Tick => self.tick().await?,
            Mail::Fail(why) => return Err(Error::Invalid(why)),
            Mail::Stop => unreachable!("handled by the loop"),
        }
        Ok(())
    }

    fn step(&mut self, group: GroupId, message: Message) {
        if let Some(peer) = self.peers.get_mut(&group) {
            // The clock is read after the message has arrived: a promise to its sender must not begin before it was sent.
            let now = self.clock.now().0;
            peer.group.step(message, now);
            self.touch(group);
        }
    }

    async fn tick(&mut self) -> Result<()> {
        self.tick_waiting.begin();
        let now = self.clock.now().0;
        let groups: Vec<GroupId> = self.peers.keys().copied().collect();
        for group in groups {
            let peer = self.peers.get_mut(&group).expect("just listed");
            peer.group.tick(now);
            let patience = self.options.raft.election_ns();
            match (peer.group.leads(), peer.proposals.is_empty(), peer.lost_at) {
                (true, ..) | (_, true, _) => peer.lost_at = None,
                (false, false, None) => peer.lost_at = Some(now),
                (false, false, Some(since)) if now >= since + patience => {
                    for proposal in peer.proposals.drain(..) {
                        super::peer::fail(proposal, || {
                            Error::Unknown("leadership was lost while it was under way".into())
                        });
                    }
                }
                _ => {}
            }
            self.touch(group);
        }
        self.housekeep().await
    }

    /// Packs what waits into entries. During a transfer it goes on waiting: when the transfer is over, the new leader is known.
    fn propose(&mut self, group: GroupId) {
        let now = self.clock.now().0;
        let pack_bytes_max = self.options.pack_bytes_max;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        if peer.group.transfers() {
            return;
        }
        let mut queue = std::mem::take(&mut peer.queue).into_iter().peekable();
        while let Some((command, reply)) = queue.next() {
            // Nobody waits any more: the caller has given up, and may be trying elsewhere.
            if reply.is_gone() {
                continue;
            }
            // A command that reads the engine at apply stands alone in its entry: the driver may write the engine between
            // entries, never within one.
            let alone = peer.machine.reads(&command);
            let mut bytes = command.len();
            let mut commands = vec![command];
            let mut replies = vec![reply];
            let fits = |bytes: usize, next: &Bytes| {
                !alone && bytes + next.len() <= pack_bytes_max && !peer.machine.reads(next)
            };
            while let Some((command, reply)) = queue.next_if(|(next, _)| fits(bytes, next)) {
                bytes += command.len();
                commands.push(command);
                replies.push(reply);
            }
            let payload = frame::encode(commands.iter());
            assert!(payload.len() <= ENTRY_BYTES_MAX + pack_bytes_max + frame::HEADER_BYTES * commands.len());
            match peer.group.propose(payload, now) {
                Ok(_) if crate::mutant!("replica.ack-before-commit") => {
                    for reply in replies {
                        reply.settle(Ok(Bytes::new()));
                    }
                }
                Ok((index, term)) => peer.await_entry(Proposal { index, term, replies }),
                Err(_) => {
                    for reply in replies {
                        reply.settle(Err(peer.view.not_leader()));
                    }
                }
            }
        }
    }

    /// Does the work of all groups that have some, until none has.
    pub(super) async fn round(&mut self) -> Result<()> {
        while !self.dirty.is_empty() {
            let mut committed = Vec::new();
            let mut after_log = Vec::new();
            for _ in 0..self.dirty.len() {
                let group = self.dirty.pop_front().expect("counted");
                self.propose(group);
                let now = self.clock.now().0;
                let Some(peer) = self.peers.get_mut(&group) else { continue };
                peer.dirty = false;
                let output = peer.group.take(now);
                peer.publish(now);
                if let Some(output) = output {
                    self.output(group, output, &mut committed, &mut after_log).await?;
                    self.touch(group);
                }
                self.report_leadership(group);
            }
            self.apply(committed)?;
            self.write_log(after_log).await?;
        }
        Ok(())
    }

    async fn output(
        &mut self,
        group: GroupId,
        output: Output,
        committed: &mut Vec<(GroupId, Vec<raft::eraftpb::Entry>)>,
        after_log: &mut Vec<AfterLog>,
    ) -> Result<()> {
        for message in output.messages {
            self.send(group, message);
        }
        if let Some(snapshot) = &output.snapshot {
            self.install_snapshot(group, snapshot).await?;
        }
        let store = self.store;
        let peer = self.peers.get_mut(&group).expect("it has output");
        let id = peer.group.peer();
        if !output.entries.is_empty() {
            self.batch.append(group, &output.entries);
            self.housekeeping.log_bytes += output.entries.iter().map(|e| e.data.len() as u64 + 64).sum::<u64>();
        }
        if let Some(state) = &output.hard_state
            && !crate::mutant!("replica.vote-not-persisted")
        {
            self.batch.hard_state(group, state);
        }
        for read in output.reads {
            if let Some(reply) = peer.reads.remove(&read) {
                let index = peer.group.log().applied().0;
                probe::emit(|| Probe::IndexRead { store, group: group.0, peer: id, index });
                let _ = reply.send(Ok(()));
            }
        }
        for read in output.reads_lost {
            if let Some(reply) = peer.reads.remove(&read) {
                let _ = reply.send(Err(peer.view.not_leader()));
            }
        }
        for fetch in output.fetches {
            let max_bytes = usize::try_from(fetch.max_bytes).unwrap_or(usize::MAX);
            let gone = fetch.low <= peer.group.log().truncated().0;
            let entries =
                if gone { Vec::new() } else { self.log.read(group, fetch.low, fetch.high, max_bytes).await? };
            peer.group.fetched(fetch.context, entries);
        }
        if !output.committed.is_empty() {
            committed.push((group, output.committed));
        }
        if output.number != 0 {
            let probes = log_facts(store, group, id, &output.entries, output.hard_state.as_ref());
            self.housekeeping.probes.extend(probes);
            after_log.push(AfterLog { group, number: output.number, messages: output.messages_after_persist });
        }
        Ok(())
    }

    /// Sends a message; a snapshot's data is taken from the engine now, before anything more is applied.
    fn send(&mut self, group: GroupId, message: Message) {
        let peer = self.peers.get_mut(&group).expect("it has output");
        let Some(to) = region::peer_by_id(&peer.region, message.to) else { return };
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let applied = peer.group.log().applied().0;
            if message.get_snapshot().get_metadata().index != applied {
                // Raft asked for it in an earlier pass, and the engine has moved since: it asks again once it hears of the failure.
                peer.group.snapshot_sent(message.to, false);
                self.touch(group);
                return;
            }
            let ranges = peer.machine.ranges(&peer.region);
            self.outbox.send_snapshot(group, to.store_id, message, &self.engine, ranges);
        } else {
            self.outbox.send(group, to.store_id, message);
        }
    }

    async fn write_log(&mut self, after_log: Vec<AfterLog>) -> Result<()> {
        let early = crate::mutant!("replica.ack-before-fsync");
        if early {
            for after in &after_log {
                for message in &after.messages {
                    self.send(after.group, message.clone());
                }
            }
        }
        if !self.batch.is_empty() {
            self.log.write(&self.batch, true).await?;
            self.batch.clear();
        }
        for event in std::mem::take(&mut self.housekeeping.probes) {
            probe::emit(|| event);
        }
        for after in after_log {
            if !early {
                for message in after.messages {
                    self.send(after.group, message);
                }
            }
            let peer = self.peers.get_mut(&after.group).expect("it had output");
            peer.group.persisted(after.number);
            if let Some((index, term, state)) = peer.installed.take() {
                peer.group.applied(index, term, state);
            }
            self.touch(after.group);
        }
        Ok(())
    }

    fn report_leadership(&mut self, group: GroupId) {
        let store = self.store;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        let after = (peer.group.term(), peer.group.leader());
        if std::mem::replace(&mut peer.reported, after) != after {
            let (id, term, leader) = (peer.group.peer(), after.0, after.1);
            if leader == id {
                tracing::info!(store, %group, term, "leads");
                probe::emit(|| Probe::Leader { store, group: group.0, peer: id, term });
            } else {
                tracing::debug!(store, %group, term, leader, "follows");
                probe::emit(|| Probe::Follow { store, group: group.0, peer: id, term, leader });
            }
        }
    }
}

/// The facts that become true when the log is written.
fn log_facts(
    store: u64,
    group: GroupId,
    peer: u64,
    entries: &[raft::eraftpb::Entry],
    hard_state: Option<&raft::eraftpb::HardState>,
) -> Vec<Probe> {
    if !probe::LISTENING {
        return Vec::new();
    }
    let mut events: Vec<Probe> = entries
        .iter()
        .map(|entry| Probe::Append {
            store,
            group: group.0,
            peer,
            index: entry.index,
            term: entry.term,
            hash: super::apply::entry_hash(entry),
        })
        .collect();
    if let Some(state) = hard_state {
        let (term, vote, commit) = (state.term, state.vote, state.commit);
        events.push(Probe::HardState { store, group: group.0, peer, term, vote, commit });
    }
    events
}
