//! The messages to a lane, and the callers that wait for their results.

use std::sync::Arc;

use armilla_arch::sync::Share;
use bytes::Bytes;
use raft::GetEntriesContext;
use raft::eraftpb::{Entry, Message as RaftMessage};

use crate::engine::CfRange;
use crate::proto::armilla::raft::{Absorbed, Merges, Merging};
use crate::raft::Beat;
use crate::raft::frame::Command;
use crate::raft::machine::Absorbs;
use crate::rt::clock::Instant;
use crate::rt::sync::oneshot;
use crate::types::region::RegionEpoch;
use crate::types::{Error, GroupId, Region, Result, region};

use super::claims::Claim;
use super::snapshot::Arrived;
use super::view::{PeerView, ReadSlot};

/// A message to a lane's driver.
#[derive(Debug)]
pub enum Message {
    /// Replicate a command; the reply is the state machine's.
    Propose {
        /// The group.
        group: GroupId,
        /// The term in which the proposer decided; 0 for any term.
        term: u64,
        /// The command.
        command: Command,
        /// Where the reply goes.
        reply: Waiting,
    },
    /// Confirm leadership for a read.
    Read {
        /// The group.
        group: GroupId,
        /// Completed when the engine may be read.
        reply: oneshot::Sender<Result<()>>,
        /// The slot of the read, held until it is answered.
        slot: ReadSlot,
    },
    /// Transfer leadership.
    TransferLeader {
        /// The group.
        group: GroupId,
        /// The peer that takes over.
        to_peer: u64,
        /// Completed when the transfer has begun, or with the reason why it has not.
        reply: oneshot::Sender<Result<()>>,
    },
    /// Transfer leadership of every group that is led here, as many as possible at once.
    HandOver {
        /// True for only the placement driver's group, false for only the others.
        pd: bool,
    },
    /// Create new groups.
    Create {
        /// The descriptors; a peer of each is on this store.
        regions: Vec<Region>,
        /// Completed when the groups are durable and running.
        reply: oneshot::Sender<Result<()>>,
    },
    /// A group of this lane begins: another lane has applied its birth, and its log record is durable.
    Born {
        /// The group's descriptor.
        region: Box<Region>,
        /// What it has of its parent's state.
        merges: Merges,
        /// Keeps its range from other groups until it runs.
        claim: Option<Claim>,
        /// Whether it campaigns at once.
        campaigns: bool,
    },
    /// Raft messages from another store.
    FromPeers {
        /// The store that sent them.
        sender: Sender,
        /// The messages.
        messages: Vec<PeerMessage>,
        /// Heartbeats, and responses to heartbeats.
        beats: Beats,
        /// Their share of the quota of waiting messages.
        share: Share,
    },
    /// A snapshot that arrived completely.
    Snapshot {
        /// The store that sent it.
        sender: Sender,
        /// Its raft message.
        message: Box<PeerMessage>,
        /// Its data.
        arrived: Arrived,
        /// The range that it needs, if the group is not here yet.
        claim: Option<Claim>,
    },
    /// A snapshot from here was delivered, or failed.
    SnapshotSent {
        /// The group.
        group: GroupId,
        /// The peer that it was sent to.
        to_peer: u64,
        /// The snapshot's index.
        index: u64,
        /// Whether it arrived completely.
        delivered: bool,
    },
    /// Old entries of a group, as requested.
    Fetched {
        /// The group.
        group: GroupId,
        /// The context of raft's request.
        context: GetEntriesContext,
        /// The entries; empty if they are gone.
        entries: Result<Vec<Entry>>,
    },
    /// The node's clock stood still for a while.
    ClockStoodStill,
    /// Messages to a store are being lost.
    Unreachable {
        /// The store.
        store: u64,
    },
    /// A flush of the engine has ended; it covers the applied indexes taken before it began.
    Flushed {
        /// Its number: how many had begun.
        number: u64,
        /// The applied indexes that are now durable.
        applied: Arc<Vec<(GroupId, u64)>>,
        /// The result of the flush.
        result: Result<()>,
    },
    /// The oldest batch that was given to the log's writer is durable, or failed.
    Written(Result<()>),
    /// How far groups' logs may be cut, by index.
    Cut(Vec<(GroupId, u64)>),
    /// The batch that waited for the engine was written, or failed.
    Applied(Result<()>),
    /// The keys that a group's next entries read are in memory, or could not be read.
    Warmed {
        /// The group.
        group: GroupId,
        /// The number of the warm-up.
        number: u64,
        /// The result of the warm-up.
        result: Result<()>,
    },
    /// The engine holds a group's snapshot durably, or failed.
    Installed {
        /// The group.
        group: GroupId,
        /// The result of the installation.
        result: Result<()>,
    },
    /// Another peer of a group wants to serve reads.
    Asked {
        /// The group.
        group: GroupId,
        /// Receives the commit index, if this store leads the group.
        reply: oneshot::Sender<Result<u64>>,
    },
    /// A newer descriptor of a group, which may not name this store's peer any more.
    Gone {
        /// The group.
        group: GroupId,
        /// The descriptor.
        proof: Box<Region>,
    },
    /// A step of a merge between two groups of this store.
    Merge(MergeMessage),
    /// A tick of the clock.
    Tick,
    /// Stop serving for this reason.
    Fail(String),
    /// Stop the driver.
    Stop,
}

/// A message about the merge of two groups, which may belong to different lanes.
#[derive(Debug)]
pub enum MergeMessage {
    /// A group of this lane has to stop so that another group can take over its range.
    Halt {
        /// The group that stops.
        absorbs: Absorbs,
        /// The group that takes over.
        target: GroupId,
    },
    /// A group that was to stop has stopped.
    Halted {
        /// The group that takes over.
        target: GroupId,
        /// The group that stopped.
        source: Box<Halted>,
    },
    /// The engine holds the end of a group that stopped: another group has its range.
    Absorbed {
        /// The group.
        source: GroupId,
    },
    /// A group whose source has its peer here is asked to decide: take the source over, or refuse.
    Sealed {
        /// The group that decides.
        target: GroupId,
        /// The epoch for which the source froze.
        epoch: RegionEpoch,
        /// The command that takes the source over.
        commit: Command,
        /// How many merged groups the target would list.
        listed: usize,
    },
    /// A group was merged into another one. Its peer here ends, unless the other group's peer here is going to end it.
    WasMerged {
        /// The group.
        absorbed: Absorbed,
        /// The group that has the range now.
        heir: GroupId,
        /// Whether that group's peer here has applied all that it had committed when this was known.
        heir_is_current: bool,
        /// Receives whether no peer of the group can ever run here again.
        reply: oneshot::Sender<bool>,
    },
    /// No store has a peer any more of a group that became part of another one.
    Forget {
        /// The group that remembers it.
        group: GroupId,
        /// The group that is no more.
        source: GroupId,
    },
    /// A frozen group's leader knows that the target has decided against the merge.
    Against {
        /// The group.
        group: GroupId,
        /// The merge that was decided.
        merging: Merging,
    },
}

impl Message {
    /// Returns about how many bytes it adds to the log or the engine.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Propose { command, .. } => command.bytes.len(),
            Message::FromPeers { share, .. } => share.amount(),
            _ => 0,
        }
    }
}

/// A group's heartbeat, or the response to one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupBeat {
    /// The group.
    pub group: GroupId,
    /// The group's epoch, as applied by the sender.
    pub epoch: RegionEpoch,
    /// The content of the heartbeat.
    pub beat: Beat,
}

/// Heartbeats of many groups and what else travels with them, between two stores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beats {
    /// Heartbeats of leaders.
    pub heartbeats: Vec<GroupBeat>,
    /// Responses of their followers.
    pub answers: Vec<GroupBeat>,
    /// Questions of leaders whether a peer may sleep.
    pub sleeps: Vec<GroupBeat>,
    /// Consents of their followers.
    pub consents: Vec<GroupBeat>,
    /// The lane that is alive, if this tells it.
    pub alive_lanes: Vec<u32>,
}

impl Beats {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups().next().is_none() && self.alive_lanes.is_empty()
    }

    fn groups(&self) -> impl Iterator<Item = &GroupBeat> {
        self.heartbeats.iter().chain(&self.answers).chain(&self.sleeps).chain(&self.consents)
    }

    /// Returns the bytes that they take in memory.
    pub fn bytes(&self) -> usize {
        self.groups().map(size_of_val).sum::<usize>() + size_of_val(self.alive_lanes.as_slice())
    }

    /// Appends `more`.
    pub fn join(&mut self, more: Beats) {
        self.heartbeats.extend(more.heartbeats);
        self.answers.extend(more.answers);
        self.sleeps.extend(more.sleeps);
        self.consents.extend(more.consents);
        self.alive_lanes.extend(more.alive_lanes);
    }
}

/// The store that sent a batch of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The store's ID.
    pub store: u64,
    /// The election timeout of the store's leaders, in nanoseconds.
    pub election_ns: u64,
    /// When the message arrived (this node's clock).
    pub arrived: Instant,
    /// The nonce of the store's run.
    pub nonce: u64,
}

/// A raft message between two peers of a group.
#[derive(Clone, Debug)]
pub struct PeerMessage {
    /// The group.
    pub group: GroupId,
    /// The group's epoch, as applied by the sender.
    pub epoch: RegionEpoch,
    /// The message, which names both peers.
    pub message: RaftMessage,
    /// The group's descriptor, if the sender supposes that this store may lack the group.
    pub region: Option<Region>,
    /// A snapshot whose sender does not lead the group: only a store that lacks the group takes it.
    pub by_candidate: bool,
}

impl PeerMessage {
    /// Returns the descriptor if the message is for a peer of store `store` that may lack the group. The cluster's
    /// first groups are created by their stores, so messages about them do not count.
    pub fn introduces(&self, store: u64) -> Option<&Region> {
        let region = self.region.as_ref()?;
        let epoch = region::epoch(region);
        let here = region::peer_on(region, store).map(|peer| peer.id);
        let meant = GroupId(region.id) == self.group && here == Some(self.message.to);
        (meant && (epoch.version > 1 || epoch.conf_ver > 1)).then_some(region)
    }
}

/// A peer that has stopped, because another group takes over its range.
#[derive(Clone, Debug)]
pub struct Halted {
    /// The group, and where it stopped.
    pub absorbs: Absorbs,
    /// Its descriptor.
    pub region: Region,
    /// The engine's ranges that made up its state.
    pub ranges: Vec<CfRange>,
}

/// The caller of a proposal, and its slot in the group's queue. The slot is held until the proposal is settled, even if
/// the caller is gone, since the command stays in memory until then.
#[derive(Debug)]
pub struct Waiting {
    sender: oneshot::Sender<Result<Bytes>>,
    _ticket: Ticket,
}

impl Waiting {
    /// Takes a slot in the queue of a group for a command of `bytes` bytes. Returns the waiting caller, and the
    /// receiver of its answer.
    ///
    /// # Errors
    /// [`Error::Busy`] if the queue is full.
    pub(super) fn new(view: &Arc<PeerView>, bytes: usize) -> Result<(Waiting, oneshot::Receiver<Result<Bytes>>)> {
        let ticket = Ticket::take(view, bytes)?;
        let (sender, answer) = oneshot::channel();
        Ok((Waiting { sender, _ticket: ticket }, answer))
    }

    /// Settles the proposal.
    pub(super) fn settle(self, result: Result<Bytes>) {
        // The caller may be gone.
        let _ = self.sender.send(result);
    }

    /// Returns whether the caller is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A slot in the queues of a group and its store, released when dropped.
#[derive(Debug)]
struct Ticket {
    _slot: Share,
    _bytes: Share,
    _store_bytes: Share,
}

impl Ticket {
    fn take(view: &Arc<PeerView>, bytes: usize) -> Result<Ticket> {
        let busy = |what: String| Error::Busy(format!("group {}: {what} are in flight", view.group));
        let (pending, pending_bytes, store_bytes) = view.budgets();
        let slot = pending.take(1).map_err(|count| busy(format!("{count} writes")))?;
        let share = pending_bytes.take(bytes).map_err(|bytes| busy(format!("writes of {bytes} bytes")))?;
        let on_store = store_bytes
            .take(bytes)
            .map_err(|bytes| Error::Busy(format!("writes of {bytes} bytes are in flight on this store")))?;
        Ok(Ticket { _slot: slot, _bytes: share, _store_bytes: on_store })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a proposal keeps its slot for as long as its command is in memory. Method: by hand.

    use super::*;
    use crate::replica::view::StoreBudgets;
    use crate::types::limits::{PROPOSAL_BYTES_PENDING_MAX, STORE_PROPOSAL_BYTES_MAX};

    #[test]
    fn a_slot_is_taken_until_the_proposal_is_settled() {
        let store = StoreBudgets::default();
        let view = Arc::new(PeerView::new(1, 8, Region { id: 7, ..Region::default() }, Default::default(), &store));
        let propose = || Waiting::new(&view, PROPOSAL_BYTES_PENDING_MAX / 2);
        let (first, caller) = propose().unwrap();
        drop(caller);
        assert!(first.is_gone() && view.pending() == (1, PROPOSAL_BYTES_PENDING_MAX / 2), "the command still waits");
        let (second, _caller) = propose().unwrap();
        assert!(matches!(propose(), Err(Error::Busy(_))), "no free slot, although a caller is gone");
        first.settle(Ok(Bytes::new()));
        drop(second);
        assert_eq!((view.pending(), store.proposal_bytes.taken()), ((0, 0), 0));
    }

    #[test]
    fn the_groups_of_a_store_share_its_bytes() {
        let store = StoreBudgets::default();
        let view = |id| Arc::new(PeerView::new(1, 8, Region { id, ..Region::default() }, Default::default(), &store));
        let groups = (STORE_PROPOSAL_BYTES_MAX / PROPOSAL_BYTES_PENDING_MAX) as u64;
        let kept: Vec<_> =
            (0..groups).map(|id| Waiting::new(&view(7 + id), PROPOSAL_BYTES_PENDING_MAX).unwrap()).collect();
        let why = Waiting::new(&view(1000), 1).expect_err("the store is full").to_string();
        assert!(why.contains("on this store"), "{why}");
        drop(kept);
        assert!(Waiting::new(&view(1000), 1).is_ok());
    }
}
