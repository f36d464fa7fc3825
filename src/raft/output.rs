//! What a group wants done.

use ::raft::GetEntriesContext;
use ::raft::eraftpb::{Entry, HardState, Message, Snapshot};

/// A read of older log entries that raft waits for: answer with `Group::fetched`.
#[derive(Debug)]
pub struct Fetch {
    /// First index.
    pub low: u64,
    /// First index beyond.
    pub high: u64,
    /// Bytes of entries wanted at most (at least one entry).
    pub max_bytes: u64,
    /// Goes back with the answer.
    pub context: GetEntriesContext,
}

/// One round of work of a group; the order of doing it is at the head of this room.
#[derive(Debug, Default)]
pub struct Output {
    /// Goes back with `Group::persisted`.
    pub number: u64,
    /// To send at once.
    pub messages: Vec<Message>,
    /// A snapshot that replaces the group's state.
    pub snapshot: Option<Snapshot>,
    /// To append to the log, overwriting from the first one's index on.
    pub entries: Vec<Entry>,
    /// To write to the log, when term or vote changed or entries go along.
    pub hard_state: Option<HardState>,
    /// To send when entries and hard state are durable.
    pub messages_after_persist: Vec<Message>,
    /// To apply.
    pub committed: Vec<Entry>,
    /// Reads (by their ids) that may be served now.
    pub reads: Vec<u64>,
    /// Reads that cannot be served here: leadership is lost.
    pub reads_lost: Vec<u64>,
    /// Older log entries wanted.
    pub fetches: Vec<Fetch>,
}
