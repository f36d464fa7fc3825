//! What the driver is sent.

use bytes::Bytes;

use crate::proto::armilla::raft::RaftBatch;
use crate::rt::sync::oneshot;
use crate::types::{GroupId, Result};

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
        reply: oneshot::Sender<Result<Bytes>>,
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
    },
    /// Raft messages of another store.
    Messages(RaftBatch),
}
