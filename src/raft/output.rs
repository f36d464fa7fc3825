//! The work that a group asks its driver to do.

use ::raft::GetEntriesContext;
use ::raft::eraftpb::{Entry, HardState, Message, Snapshot};

/// A read of older log entries that raft waits for. Answered with `Group::fetched`.
#[derive(Debug)]
pub struct Fetch {
    /// First index.
    pub low: u64,
    /// Index after the last one.
    pub high: u64,
    /// Maximum bytes of entries to read (but at least one entry).
    pub max_bytes: u64,
    /// Must be returned with the entries.
    pub context: GetEntriesContext,
}

/// One round of a group's work; the module's head lists the order in which to do it.
#[derive(Debug, Default)]
pub struct Output {
    /// To pass to `Group::persisted`.
    pub number: u64,
    /// To send at once.
    pub messages: Vec<Message>,
    /// A snapshot that replaces the group's state.
    pub snapshot: Option<Snapshot>,
    /// To append to the log, overwriting entries from the first one's index on.
    pub entries: Vec<Entry>,
    /// To write to the log; present if the term or the vote changed, or if entries are written.
    pub hard_state: Option<HardState>,
    /// To send once the entries and the hard state are durable.
    pub messages_after_persist: Vec<Message>,
    /// To apply.
    pub committed: Vec<Entry>,
    /// IDs of reads that may be served now.
    pub reads: Vec<u64>,
    /// IDs of reads that cannot be served here because leadership was lost.
    pub reads_lost: Vec<u64>,
    /// Older log entries to read.
    pub fetches: Vec<Fetch>,
}
