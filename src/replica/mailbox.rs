//! What the driver is sent.

use armilla_arch::sync::Share;
use bytes::Bytes;
use raft::eraftpb::Message;

use crate::rt::sync::oneshot;
use crate::types::{GroupId, Region, Result};

use super::handle::Waiting;
use super::snapshot::Pair;

/// One letter to the driver.
#[derive(Debug)]
pub enum Mail {
    /// Replicate a command; the reply is the state machine's.
    Propose {
        /// The group.
        group: GroupId,
        /// The encoded command.
        command: Bytes,
        /// Where the reply goes.
        reply: Waiting,
    },
    /// Confirm leadership for a read.
    Read {
        /// The group.
        group: GroupId,
        /// Completed when the engine may be read.
        reply: oneshot::Sender<Result<()>>,
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
    /// Hand over every group that is led here, for as many as possible at once.
    HandOver {
        /// Only the placement driver's group, or only the others.
        pd: bool,
    },
    /// Create a group that never ran, with this descriptor.
    Create {
        /// The descriptor; a peer of it is on this store.
        region: Box<Region>,
        /// Completed when the group is durable and runs.
        reply: oneshot::Sender<Result<()>>,
    },
    /// Raft messages of another store.
    Messages(Vec<(GroupId, Message)>, Share),
    /// A snapshot that arrived whole.
    Snapshot {
        /// The group.
        group: GroupId,
        /// Its raft message.
        message: Box<Message>,
        /// Its data.
        pairs: Vec<Pair>,
    },
    /// A snapshot sent from here was delivered, or not.
    SnapshotSent {
        /// The group.
        group: GroupId,
        /// To this peer.
        to_peer: u64,
        /// Whether it arrived whole.
        delivered: bool,
    },
    /// Messages to a store are being lost.
    Unreachable {
        /// The store.
        store: u64,
    },
    /// A flush of the engine has ended; it covers the applied indexes taken before it began.
    Flushed {
        /// The applied indexes that are durable now.
        applied: Vec<(GroupId, u64)>,
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
