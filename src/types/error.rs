//! Errors by what the caller should do about them.

use super::region::{GroupId, Peer, Region};

/// What went wrong, sorted by what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Ask that peer instead, or the placement driver if it is absent.
    #[error("group {group}: not the leader")]
    NotLeader {
        /// The group asked.
        group: GroupId,
        /// The leader, as far as known.
        leader: Option<Peer>,
    },
    /// This store has no such region: ask the placement driver.
    #[error("group {0}: not on this store")]
    RegionNotFound(GroupId),
    /// The region has changed: refresh it and try again.
    #[error("the region's epoch has changed")]
    EpochNotMatch(Vec<Region>),
    /// The key does not belong to the region: refresh it and try again.
    #[error("key is outside region {}", region.id)]
    KeyNotInRegion {
        /// The key.
        key: bytes::Bytes,
        /// The region that was asked.
        region: Box<Region>,
    },
    /// The request was meant for another store: ask the placement driver for the address again.
    #[error("request for store {asked}, this is store {actual}")]
    StoreNotMatch {
        /// The store in the request.
        asked: u64,
        /// This store.
        actual: u64,
    },
    /// The request was meant for another peer of the region: ask the placement driver for the region again.
    #[error("request for peer {asked}, this is peer {actual}")]
    PeerNotMatch {
        /// The peer in the request; 0 if it names none.
        asked: u64,
        /// This store's peer.
        actual: u64,
    },
    /// The request carries an old term: try again.
    #[error("stale command")]
    StaleCommand,
    /// The write is larger than a raft entry may be: make it smaller.
    #[error("group {group}: a raft entry of {bytes} bytes is over the limit of {max} bytes", max = super::limits::ENTRY_BYTES_MAX)]
    EntryTooLarge {
        /// The group.
        group: GroupId,
        /// The entry's length.
        bytes: u64,
    },
    /// A queue is full: back off and try again.
    #[error("server is busy: {0}")]
    Busy(String),
    /// The store's disk is nearly full: delete something, or give it more room.
    #[error("store {store}: {reason}")]
    DiskFull {
        /// The store.
        store: u64,
        /// How full it is.
        reason: String,
    },
    /// The write may or may not happen: the leader changed or stopped while it was under way.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The time given to the request ran out before it had any effect.
    #[error("timed out: {0}")]
    Timeout(String),
    /// The time that the request gave itself ran out before it had any effect.
    #[error("deadline is exceeded: {0}")]
    Deadline(String),
    /// The request itself is wrong: correct it.
    #[error("{0}")]
    Invalid(String),
    /// This node no longer serves (a failed fsync, a full disk, shutdown): use another.
    #[error("this node does not serve: {0}")]
    Stopped(String),
    /// Data on disk is not what was written. Never retried, never hidden.
    #[error("corruption: {0}")]
    Corruption(String),
    /// The disk or the network failed.
    #[error("{0}")]
    Io(String),
}

/// A result of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error.to_string())
    }
}
