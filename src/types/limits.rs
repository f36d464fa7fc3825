//! Every maximum, in one place.

use std::time::Duration;

/// A key's length in bytes, as the client writes it.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// One raft entry's length in bytes; a larger write is refused with `raft_entry_too_large`.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// A gRPC message that a server or a client of ours takes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Keys and values in one answer, in bytes: what a message may be, less room for what surrounds them.
pub const REPLY_BYTES_MAX: usize = 60 << 20;
/// One request of the key-value service, in bytes, alone or in a stream: an entry and what surrounds it. A longer one is not kept
/// while it arrives, and is answered as a write that is too large.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;
/// What a compressed message of a stream of commands may have in it, in bytes; a longer one ends the stream.
pub const STREAM_BYTES_MAX: usize = 128 << 20;
/// Requests of a node that are arriving or being answered, in bytes; more are refused with `server_is_busy`.
pub const REQUESTS_BYTES_MAX: u64 = 512 << 20;
/// Answers of a node that are being read or that clients have not taken yet, in bytes; more are refused with `server_is_busy`.
pub const ANSWER_BYTES_MAX: u64 = 512 << 20;
/// Snapshots that a store sends at a time, and that it takes in; one more is refused and tried again later.
pub const SNAPSHOTS_OUT_MAX: usize = 2;
/// See [`SNAPSHOTS_OUT_MAX`].
pub const SNAPSHOTS_IN_MAX: usize = 2;
/// Bytes of keys and values in one chunk of a snapshot, as its receiver takes it: what is configured and one value more.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 16 << 20;
/// How long the stream of a snapshot may stand still before it is given up.
pub const SNAPSHOT_STILL_MAX: Duration = Duration::from_secs(30);
/// How long to wait, at least and at most, before a snapshot that was not delivered is tried again.
pub const SNAPSHOT_RETRY_MIN: Duration = Duration::from_secs(1);
/// How long a snapshot that found no place waits at least before it looks again; many wait longer, each for itself.
pub const SNAPSHOT_PLACE_LOOK: Duration = Duration::from_millis(50);
/// See [`SNAPSHOT_RETRY_MIN`].
pub const SNAPSHOT_RETRY_MAX: Duration = Duration::from_secs(10);
/// Earlier runs of its data directory that a store tells of.
pub const EARLIER_RUNS_MAX: usize = 16;
/// Timestamps in one TSO request.
pub const TSO_COUNT_MAX: u32 = 1 << 16;
/// Proposals of one group that wait for their commit; more are refused with `server_is_busy`.
pub const PROPOSALS_PENDING_MAX: usize = 4096;
/// Bytes of proposals of one group that wait for their commit.
pub const PROPOSAL_BYTES_PENDING_MAX: usize = 64 << 20;
/// Bytes of proposals of all groups of a store that wait for their commit.
pub const STORE_PROPOSAL_BYTES_MAX: usize = 1 << 30;
/// Reads of one group that wait for a quorum; more are refused with `server_is_busy`.
pub const READS_PENDING_MAX: usize = 16 << 10;
/// Reads of all groups of a store that wait for a quorum.
pub const STORE_READS_PENDING_MAX: usize = 256 << 10;
/// Bytes of raft messages from other stores that may wait for the lanes; more are dropped.
pub const INBOX_BYTES_MAX: usize = 256 << 20;
/// Bytes of messages that a lane takes in, and of entries that it gathers, before it writes its log; what passes it is the last.
pub const ROUND_BYTES_MAX: usize = 8 << 20;
/// Passes of a lane over the groups that have work, before it looks for messages again.
pub const ROUND_PASSES_MAX: usize = 16;
/// How long a lane works before it writes its log, and before it looks for messages again.
pub const ROUND_TIME_MAX: Duration = Duration::from_millis(10);
/// Bytes of committed entries that wait for the engine; beyond them proposals are refused with `server_is_busy`, and followers take no
/// entries.
pub const UNAPPLIED_BYTES_MAX: usize = 256 << 20;
/// How long the engine may make writes wait before proposals are refused, and before leaders are handed over.
pub const STALL_REFUSE: Duration = Duration::from_secs(1);
/// See [`STALL_REFUSE`].
pub const STALL_HAND_OVER: Duration = Duration::from_secs(2);
/// Bytes of entries that all groups of a store keep in memory, beside those that are not applied yet.
pub const STORE_CACHE_BYTES_MAX: usize = 512 << 20;
/// Bytes in one record of the raft log.
pub const LOG_BATCH_BYTES_MAX: usize = 1 << 30;
/// Bytes of the batches of a store's lanes that one write of the log joins; the batch that passes it is the last.
pub const LOG_JOINED_BYTES_MAX: usize = 16 << 20;
/// Lanes of a store.
pub const LANES_MAX: usize = 8;
/// What applying told the store and the store has not taken yet; what is more is told in one word ("anything may have happened").
pub const EFFECTS_PENDING_MAX: usize = 1024;
/// Bytes that may wait for a store while old entries are still read for its peers.
pub const FETCH_QUEUE_BYTES_MAX: usize = 16 << 20;
/// How far two nodes' monotonic clocks may drift apart, in parts of a thousand. The leader lease is shorter by this.
pub const CLOCK_DRIFT_PERMILLE: u64 = 200;
/// How far ahead of the clock PD saves its timestamp bound.
pub const TSO_WINDOW: Duration = Duration::from_secs(3);
/// A JSON query's length in bytes.
pub const QUERY_REQUEST_BYTES_MAX: usize = 64 << 10;
/// Different paths that one query may name.
pub const QUERY_PATHS_MAX: usize = 32;
/// Fields and indexes of one path.
pub const QUERY_PATH_STEPS_MAX: usize = 32;
/// Parentheses and `not`s of a predicate, within each other.
pub const QUERY_DEPTH_MAX: usize = 32;
/// Comparisons in one predicate.
pub const QUERY_TERMS_MAX: usize = 256;
/// Literals of one `in [...]`.
pub const QUERY_LIST_MAX: usize = 1024;
/// Aggregates in one query.
pub const QUERY_AGGREGATES_MAX: usize = 32;
/// Arrays and objects of a JSON value within each other; a value that is deeper counts as no JSON. A page adds four, and readers of
/// JSON (serde_json) give up at 128.
pub const QUERY_JSON_DEPTH_MAX: usize = 120;
/// A value that a query parses, in bytes; a longer one is no row and is counted. A tape takes up to 24 times as much memory while the
/// value is looked at.
pub const QUERY_VALUE_BYTES_MAX: usize = 1 << 20;
/// A text that is the key of a group, or the minimum or maximum of a path, in bytes.
pub const QUERY_TEXT_BYTES_MAX: usize = 16 << 10;
/// Groups of one query, over all of its pages, where they are put together.
pub const QUERY_GROUPS_MAX: usize = 1 << 20;
/// One page of a query's answer, in bytes: below the 4 MiB that TiKV's Rust client decodes.
pub const QUERY_PAGE_BYTES_MAX: usize = 7 << 19;
/// Room in a page for what surrounds the rows or groups, bytes.
pub const QUERY_FRAME_BYTES: usize = (16 << 10) + 512;
/// Rows that are read for one page of a query's answer, expired ones too.
pub const QUERY_PAGE_ROWS_MAX: u64 = 128 << 10;
/// Bytes of keys and values that are read for one page of a query's answer, expired ones too; the row that passes it is the last.
pub const QUERY_PAGE_SCAN_BYTES_MAX: u64 = 32 << 20;
/// Queries of a node that are under way, with those that wait for a core; more are refused with `server_is_busy`.
pub const QUERIES_MAX: usize = 1024;

// What belongs together.
const _: () = {
    assert!(ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX / 2, "an entry and its frame fit a message");
    assert!(ENTRY_BYTES_MAX < REQUEST_BYTES_MAX, "a request holds an entry and what surrounds it");
    assert!(PROPOSAL_BYTES_PENDING_MAX >= ENTRY_BYTES_MAX, "an idle group takes any write");
    assert!(STORE_PROPOSAL_BYTES_MAX >= PROPOSAL_BYTES_PENDING_MAX, "one group cannot exhaust the store");
    assert!(STORE_READS_PENDING_MAX >= READS_PENDING_MAX, "one group cannot exhaust the store's reads");
    assert!(
        LOG_JOINED_BYTES_MAX + LANES_MAX * (2 * ROUND_BYTES_MAX + MESSAGE_BYTES_MAX) < LOG_BATCH_BYTES_MAX,
        "what lanes write fits a record"
    );
    assert!(REPLY_BYTES_MAX < MESSAGE_BYTES_MAX, "an answer fits a message with what surrounds it");
    assert!(STREAM_BYTES_MAX as u64 <= REQUESTS_BYTES_MAX, "one stream's message fits the node's bound");
    assert!(QUERY_PAGE_BYTES_MAX < 4 << 20, "TiKV's Rust client decodes a page");
};
