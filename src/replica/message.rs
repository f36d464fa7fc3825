//! What a lane is sent, and who waits for the answer.

use std::sync::Arc;

use armilla_arch::sync::Share;
use bytes::Bytes;
use raft::GetEntriesContext;
use raft::eraftpb::{Entry, Message as RaftMessage};

use crate::raft::Beat;
use crate::raft::frame::Command;
use crate::rt::clock::Instant;
use crate::rt::sync::oneshot;
use crate::types::region::RegionEpoch;
use crate::types::{Error, GroupId, Region, Result};

use super::snapshot::Arrived;
use super::view::{PeerView, ReadPlace};

/// One message to the driver.
#[derive(Debug)]
pub enum Message {
    /// Replicate a command; the reply is the state machine's.
    Propose {
        /// The group.
        group: GroupId,
        /// The term in which the proposer decided; 0: any.
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
        /// Its place among the reads that wait, until it is answered.
        place: ReadPlace,
    },
    /// Hand leadership over.
    TransferLeader {
        /// The group.
        group: GroupId,
        /// To this peer.
        to_peer: u64,
        /// Completed when the transfer has begun, or with the reason why it has not.
        reply: oneshot::Sender<Result<()>>,
    },
    /// Hand over every group that is led here, as many as possible at once.
    HandOver {
        /// Only the placement driver's group, or only the others.
        pd: bool,
    },
    /// Create groups that never ran, with these descriptors.
    Create {
        /// The descriptors; a peer of each is on this store.
        regions: Vec<Region>,
        /// Completed when the groups are durable and run.
        reply: oneshot::Sender<Result<()>>,
    },
    /// Raft messages of another store.
    FromPeers {
        /// Whose they are.
        sender: Sender,
        /// The messages.
        messages: Vec<PeerMessage>,
        /// Heartbeats, and answers to such.
        beats: Beats,
        /// Their place among what waits here.
        share: Share,
    },
    /// A snapshot that arrived whole.
    Snapshot {
        /// Whose it is.
        sender: Sender,
        /// Its raft message.
        message: Box<PeerMessage>,
        /// Its data.
        arrived: Arrived,
    },
    /// A snapshot sent from here was delivered, or not.
    SnapshotSent {
        /// The group.
        group: GroupId,
        /// To this peer.
        to_peer: u64,
        /// The snapshot's index.
        index: u64,
        /// Whether it arrived whole.
        delivered: bool,
    },
    /// Old entries of a group, as they were asked for.
    Fetched {
        /// The group.
        group: GroupId,
        /// What raft asked with.
        context: GetEntriesContext,
        /// The entries; none if they are gone.
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
        /// The applied indexes that are durable now.
        applied: Arc<Vec<(GroupId, u64)>>,
        /// How it ended.
        result: Result<()>,
    },
    /// The oldest batch that the log's writer was given is durable, or failed.
    Written(Result<()>),
    /// How far groups' logs may be cut.
    Cut(Vec<(GroupId, u64)>),
    /// The batch that waited for the engine is written, or failed.
    Applied(Result<()>),
    /// Keys that a group's next entries read are in memory, or could not be read.
    Warmed {
        /// The group.
        group: GroupId,
        /// Which of its warm-ups it was.
        number: u64,
        /// How it ended.
        result: Result<()>,
    },
    /// The engine holds a group's snapshot, durably, or failed.
    Installed {
        /// The group.
        group: GroupId,
        /// How it ended.
        result: Result<()>,
    },
    /// A tick of the clock.
    Tick,
    /// Stop serving, for this reason.
    Fail(String),
    /// End the driver.
    Stop,
}

impl Message {
    /// Bytes that it brings into the log or the engine, about.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Propose { command, .. } => command.bytes.len(),
            Message::FromPeers { share, .. } => share.amount(),
            _ => 0,
        }
    }
}

/// A heartbeat, or an answer, of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupBeat {
    /// The group.
    pub group: GroupId,
    /// Its epoch as the sender has applied it.
    pub epoch: RegionEpoch,
    /// What is said.
    pub beat: Beat,
}

/// Heartbeats of many groups, and answers to such, between two stores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beats {
    /// Of leaders.
    pub heartbeats: Vec<GroupBeat>,
    /// Of their followers.
    pub answers: Vec<GroupBeat>,
}

impl Beats {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.heartbeats.is_empty() && self.answers.is_empty()
    }

    /// Bytes that they take in memory.
    pub fn bytes(&self) -> usize {
        (self.heartbeats.len() + self.answers.len()) * size_of::<GroupBeat>()
    }

    /// Puts `more` behind these.
    pub fn join(&mut self, more: Beats) {
        self.heartbeats.extend(more.heartbeats);
        self.answers.extend(more.answers);
    }
}

/// The store that sent a batch of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its id.
    pub store: u64,
    /// The election timeout that its leaders go by, ns.
    pub election_ns: u64,
    /// When the message arrived (this node's clock).
    pub arrived: Instant,
}

/// A raft message between two peers of a group.
#[derive(Clone, Debug)]
pub struct PeerMessage {
    /// The group.
    pub group: GroupId,
    /// The group's epoch as the sender has applied it.
    pub epoch: RegionEpoch,
    /// The message, which names both peers.
    pub message: RaftMessage,
}

/// Who waits for a proposal, and its place in the group's queue: taken until the proposal is settled, also when the caller has
/// gone away, since the command is in memory for as long.
#[derive(Debug)]
pub struct Waiting {
    sender: oneshot::Sender<Result<Bytes>>,
    _ticket: Ticket,
}

impl Waiting {
    /// Takes a place in the queue of a group for a command of so many bytes: whoever waits there, and where the answer comes.
    ///
    /// # Errors
    /// [`Error::Busy`] when the queue is full.
    pub(super) fn new(view: &Arc<PeerView>, bytes: usize) -> Result<(Waiting, oneshot::Receiver<Result<Bytes>>)> {
        let ticket = Ticket::take(view, bytes)?;
        let (sender, answer) = oneshot::channel();
        Ok((Waiting { sender, _ticket: ticket }, answer))
    }

    /// Settles the proposal.
    pub(super) fn settle(self, result: Result<Bytes>) {
        // Nobody may be there to hear it.
        let _ = self.sender.send(result);
    }

    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A place in the queues of a group and its store; given back when dropped.
#[derive(Debug)]
struct Ticket {
    _place: Share,
    _bytes: Share,
    _store_bytes: Share,
}

impl Ticket {
    fn take(view: &Arc<PeerView>, bytes: usize) -> Result<Ticket> {
        let busy = |what: String| Error::Busy(format!("group {}: {what} are in flight", view.group));
        let (pending, pending_bytes, store_bytes) = view.budgets();
        let place = pending.take(1).map_err(|count| busy(format!("{count} writes")))?;
        let share = pending_bytes.take(bytes).map_err(|bytes| busy(format!("writes of {bytes} bytes")))?;
        let on_store = store_bytes
            .take(bytes)
            .map_err(|bytes| Error::Busy(format!("writes of {bytes} bytes are in flight on this store")))?;
        Ok(Ticket { _place: place, _bytes: share, _store_bytes: on_store })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a proposal keeps its place for as long as its command is in memory. Method: by hand.

    use super::*;
    use crate::replica::view::StoreBudgets;
    use crate::types::limits::{PROPOSAL_BYTES_PENDING_MAX, STORE_PROPOSAL_BYTES_MAX};

    #[test]
    fn a_place_is_taken_until_the_proposal_is_settled() {
        let store = StoreBudgets::default();
        let view = Arc::new(PeerView::new(1, 8, Region { id: 7, ..Region::default() }, &store));
        let propose = || Waiting::new(&view, PROPOSAL_BYTES_PENDING_MAX / 2);
        let (first, caller) = propose().unwrap();
        drop(caller);
        assert!(first.is_gone() && view.pending() == (1, PROPOSAL_BYTES_PENDING_MAX / 2), "the command still waits");
        let (second, _caller) = propose().unwrap();
        assert!(matches!(propose(), Err(Error::Busy(_))), "no more places, whoever has gone away");
        first.settle(Ok(Bytes::new()));
        drop(second);
        assert_eq!((view.pending(), store.proposal_bytes.taken()), ((0, 0), 0));
    }

    #[test]
    fn the_groups_of_a_store_share_its_bytes() {
        let store = StoreBudgets::default();
        let view = |id| Arc::new(PeerView::new(1, 8, Region { id, ..Region::default() }, &store));
        let groups = (STORE_PROPOSAL_BYTES_MAX / PROPOSAL_BYTES_PENDING_MAX) as u64;
        let kept: Vec<_> =
            (0..groups).map(|id| Waiting::new(&view(7 + id), PROPOSAL_BYTES_PENDING_MAX).unwrap()).collect();
        let why = Waiting::new(&view(1000), 1).expect_err("the store is full").to_string();
        assert!(why.contains("on this store"), "{why}");
        drop(kept);
        assert!(Waiting::new(&view(1000), 1).is_ok());
    }
}
