//! Errors, grouped by what the caller should do about them.

use super::region::{GroupId, Peer, Region};

/// What went wrong, grouped by what the caller should do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Ask the named leader instead, or the placement driver if none is named.
    #[error("group {group}: not the leader")]
    NotLeader {
        /// The group that was asked.
        group: GroupId,
        /// The leader, if known.
        leader: Option<Peer>,
    },
    /// This store does not have the region: ask the placement driver where it is.
    #[error("group {0}: not on this store")]
    RegionNotFound(GroupId),
    /// The region has changed: refresh it and try again.
    #[error("the region's epoch has changed")]
    EpochNotMatch(Vec<Region>),
    /// The key is outside the region: refresh the region and try again.
    #[error("key is outside region {}", region.id)]
    KeyNotInRegion {
        /// The key.
        key: bytes::Bytes,
        /// The region that was asked.
        region: Box<Region>,
    },
    /// The region is about to become part of another one: try again.
    #[error("region {0} is being merged into its neighbour")]
    Merging(GroupId),
    /// The region cannot be read now, because it is about to become part of another one: try again.
    #[error("region {0} is being merged into its neighbour: it is not read meanwhile")]
    NotReadable(GroupId),
    /// A read as of a moment that has passed cannot be served by this peer yet: ask the leader, without `stale_read`.
    #[error("region {group}: reads are certain only up to {safe_ts} here")]
    DataNotReady {
        /// The region.
        group: GroupId,
        /// The peer.
        peer: u64,
        /// The timestamp up to which the peer can serve reads; 0 if that is not known.
        safe_ts: u64,
    },
    /// The request names another store: ask the placement driver for the store's address again.
    #[error("request for store {asked}, this is store {actual}")]
    StoreNotMatch {
        /// The store in the request.
        asked: u64,
        /// This store.
        actual: u64,
    },
    /// The request names another peer of the region: ask the placement driver for the region again.
    #[error("request for peer {asked}, this is peer {actual}")]
    PeerNotMatch {
        /// The peer that the request names; 0 if it names none.
        asked: u64,
        /// This store's peer.
        actual: u64,
    },
    /// The request carries an outdated term: try again.
    #[error("stale command")]
    StaleCommand,
    /// The write is larger than a raft entry may be: split it.
    #[error("group {group}: a raft entry of {bytes} bytes is over the limit of {max} bytes", max = super::limits::ENTRY_BYTES_MAX)]
    EntryTooLarge {
        /// The group.
        group: GroupId,
        /// The length of the entry in bytes.
        bytes: u64,
    },
    /// A queue is full: back off and try again.
    #[error("server is busy: {0}")]
    Busy(String),
    /// The store's disk is nearly full: delete data or enlarge the disk.
    #[error("store {store}: {reason}")]
    DiskFull {
        /// The store.
        store: u64,
        /// How full the disk is, in words.
        reason: String,
    },
    /// The write may or may not take effect: the leader changed or stopped while the write was in progress.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The request waited too long inside the store. It had no effect.
    #[error("timed out: {0}")]
    Timeout(String),
    /// The deadline that the client gave the request passed. The request had no effect.
    #[error("deadline is exceeded: {0}")]
    Deadline(String),
    /// The request itself is wrong: correct it.
    #[error("{0}")]
    Invalid(String),
    /// This node no longer serves requests (a failed fsync, a full disk, shutdown): use another node.
    #[error("this node no longer serves requests: {0}")]
    Stopped(String),
    /// The data on disk is not what was written. Never retried and never hidden.
    #[error("corruption: {0}")]
    Corruption(String),
    /// The disk or the network failed.
    #[error("{0}")]
    Io(String),
}

/// The result of an operation of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error.to_string())
    }
}
