//! Every maximum, in one place: bytes, entries, messages, requests and waits that bound what a client, a store or a
//! node may take up.
//!
//! `..._MAX` is never passed, unless its docs say so; `..._FULL` is passed by at most one element, the last. The maxima
//! of sockets are elsewhere (`rt::real::net`): `rt` imports nothing. Times after which something is looked at or tried again stand
//! where that is done.

use std::time::Duration;

// Keys, entries and messages.

/// A key's length in bytes, as the client writes it.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// How deep `\mem{…}` may stand within each other in a key that people write.
pub const TEXT_DEPTH_MAX: usize = 4;
/// One raft entry's length in bytes; a larger write is refused with `raft_entry_too_large`.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// A gRPC message that a server or a client of ours takes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

// Requests and answers of a node.

/// One request of the key-value service, in bytes, alone or in a stream: an entry and what surrounds it. A longer one is not kept
/// while it arrives, and is answered as a write that is too large.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Bytes that are kept of a request that is not taken, to tell which region it is for.
pub const REFUSED_PREFIX_BYTES_MAX: usize = 512;
/// Requests of a node that are arriving or being answered, in bytes; more are refused with `server_is_busy`.
pub const REQUESTS_BYTES_MAX: u64 = 512 << 20;
/// Keys and values in one answer, in bytes: what a message may be, less room for what surrounds them.
pub const REPLY_BYTES_MAX: usize = 60 << 20;
/// Answers of a node that are being read or that clients have not taken yet, in bytes; more are refused with `server_is_busy`.
pub const ANSWER_BYTES_MAX: u64 = 512 << 20;
/// Keys, or pairs asked for, up to which a read is served on the request's own task; longer ones go to the pool.
pub const READ_INLINE_KEYS_MAX: usize = 64;
/// What a compressed message of a stream of commands may have in it, in bytes; a longer one ends the stream.
pub const STREAM_BYTES_MAX: usize = 128 << 20;
/// Commands of one stream that run at the same time; the others wait.
pub const STREAM_COMMANDS_RUNNING_MAX: usize = 1024;
/// Answers in one message of a stream of commands.
pub const STREAM_ANSWERS_MAX: usize = 512;
/// Bytes of a message of answers to which no more answers are added.
pub const STREAM_ANSWER_BYTES_FULL: usize = 1 << 20;
/// Bytes of a key or value that a line of the log shows, where they are shown at all; longer ones are cut.
pub const LOGGED_BYTES_MAX: usize = 64;

// Our client.

/// Pairs that one scan request of our client asks for; a longer scan is several requests.
pub const CLIENT_SCAN_PAIRS_MAX: u32 = 10_240;
/// Bytes of keys and values in one batch request of our client, about.
pub const CLIENT_BATCH_BYTES_MAX: usize = 1 << 20;
/// Keys in one batch request of our client.
pub const CLIENT_BATCH_KEYS_MAX: usize = 4096;

// What a cluster and a store begin with.

/// Regions that a cluster may begin with.
pub const FIRST_REGIONS_MAX: usize = 16 << 10;
/// Bytes of all keys at which the first regions are divided: the placement driver's command has them several times
/// over.
pub const SPLIT_KEYS_BYTES_MAX: usize = ENTRY_BYTES_MAX / 8;
/// Lanes of a store.
pub const LANES_MAX: usize = 8;
/// Earlier runs of its data directory that a store tells of.
pub const EARLIER_RUNS_MAX: usize = 16;
/// Bytes of the disk that a store sets aside when the configuration does not say: a twentieth of the disk, at most
/// this.
pub const RESERVE_BYTES_MAX: u64 = 5 << 30;

// What waits in a group and a store.

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
/// Bytes of committed entries that wait for the engine; beyond them proposals are refused with `server_is_busy`, and followers take no
/// entries.
pub const UNAPPLIED_BYTES_MAX: usize = 256 << 20;
/// Bytes of entries that all groups of a store keep in memory, beside those that are not applied yet.
pub const STORE_CACHE_BYTES_MAX: usize = 512 << 20;
/// Groups of a lane whose keys are read from the disk at a time, before their entries are applied.
pub const WARM_UPS_MAX: usize = 16;
/// Keys of a group that one such read has, to which no more are added.
pub const WARM_UP_KEYS_FULL: usize = 1024;
/// What applying told the store and the store has not taken yet; what is more is told in one word ("anything may have happened").
pub const EFFECTS_PENDING_MAX: usize = 1024;
/// How long the engine may make writes wait before proposals are refused, and before leaders are handed over.
pub const STALL_REFUSE: Duration = Duration::from_secs(1);
/// See [`STALL_REFUSE`].
pub const STALL_HAND_OVER: Duration = Duration::from_secs(2);

// A lane at work.

/// Bytes of messages that a lane takes in, and of entries that it gathers, before it writes its log; what passes it is the last.
pub const ROUND_BYTES_MAX: usize = 8 << 20;
/// Passes of a lane over the groups that have work, before it looks for messages again.
pub const ROUND_PASSES_MAX: usize = 16;
/// How long a lane works before it writes its log, and before it looks for messages again.
pub const ROUND_TIME_MAX: Duration = Duration::from_millis(10);
/// Bytes of a batch of applied entries above which it is written before more is added.
pub const APPLY_BATCH_BYTES_FULL: usize = 4 << 20;
/// Bytes of entries that one read takes from the raft log while a group is restored at the start; one entry may be
/// larger.
pub const RESTORE_READ_BYTES_MAX: usize = 8 << 20;

// The raft log.

/// Bytes in one record of the raft log.
pub const LOG_BATCH_BYTES_MAX: usize = 1 << 30;
/// Bytes of the batches of a store's lanes that one write of the log joins; the batch that passes it is the last.
pub const LOG_JOINED_BYTES_MAX: usize = 16 << 20;
/// Bytes of a run of entries in the raft log at which it ends, so that a read from its middle does not read too much.
pub const LOG_RUN_BYTES_FULL: usize = 64 << 10;
/// Entries in one run.
pub const LOG_RUN_ENTRIES_MAX: usize = 4096;
/// Bytes of a segment of the raft log that one read takes; one run may be larger.
pub const LOG_READ_BYTES_MAX: u64 = 1 << 20;
/// Bytes that are not wanted between two runs, up to which one read takes both.
pub const LOG_READ_GAP_BYTES_MAX: u64 = 16 << 10;
/// Bytes of runs that one step of the raft log's upkeep moves; one run may be larger.
pub const LOG_MOVE_BYTES_MAX: u64 = 1 << 20;
/// Steps of the raft log's upkeep in one tick.
pub const LOG_UPKEEP_STEPS_MAX: usize = 16;
/// Bytes that a step of the upkeep must have moved for another one to follow in the same tick.
pub const LOG_UPKEEP_BYTES_MIN: u64 = 512 << 10;
/// Bytes of entries that a store's logs keep when the configuration does not say: a tenth of the disk, at least this.
pub const LOG_SOFT_BYTES_MIN: u64 = 64 << 20;
/// See [`LOG_SOFT_BYTES_MIN`]: at most this.
pub const LOG_SOFT_BYTES_MAX: u64 = 16 << 30;

// Messages between stores.

/// Messages that wait for another store; more are dropped.
pub const OUTBOX_MESSAGES_MAX: usize = 4096;
/// Bytes of messages that wait for another store; the message that passes it is the last, and more are dropped.
pub const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// Reads of old entries that wait for one group; more are left out, and raft asks again.
pub const FETCHES_WAITING_MAX: usize = 8;
/// Bytes that may wait for a store while old entries are still read for its peers.
pub const FETCH_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a batch of messages to another store to which no more messages are added.
pub const LINK_BATCH_BYTES_FULL: usize = 1 << 20;
/// Batches that wait to be taken by the stream to another store.
pub const LINK_BATCHES_MAX: usize = 4;
/// How long a stream to another store may take no batch before it is given up.
pub const LINK_STILL_MAX: Duration = Duration::from_secs(5);
/// Bytes of raft messages from other stores that wait for a store's lanes; what passes it is the last, and more are
/// dropped.
pub const INBOX_BYTES_MAX: usize = 256 << 20;

// Snapshots.

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
/// See [`SNAPSHOT_RETRY_MIN`].
pub const SNAPSHOT_RETRY_MAX: Duration = Duration::from_secs(10);
/// How long a snapshot that found no place waits at least before it looks again; many wait longer, each for itself.
pub const SNAPSHOT_PLACE_LOOK: Duration = Duration::from_millis(50);
/// Bytes of pairs in a file of a snapshot that was received, above which the next file is begun.
pub const STAGED_FILE_BYTES_MAX: usize = 128 << 20;
/// Pairs in such a file above which the next file is begun: 6 MiB for the filter.
pub const STAGED_FILE_KEYS_MAX: usize = 768 << 10;
/// Bytes of keys in such a file's index above which the next file is begun.
pub const STAGED_FILE_INDEX_BYTES_MAX: usize = 4 << 20;

// The engine.

/// Range deletions in a memtable at which RocksDB flushes it.
pub const MEMTABLE_RANGE_DELETIONS_MAX: u32 = 1000;

// Expired values.

/// Keys in one command that collects expired values.
pub const COLLECT_KEYS_MAX: usize = 256;
/// Bytes of keys in such a command to which no more keys are added.
pub const COLLECT_KEY_BYTES_FULL: usize = 256 << 10;
/// Pairs that one look for expired values reads.
pub const COLLECT_LOOKS_MAX: usize = 1024;
/// Bytes of pairs at which such a look ends.
pub const COLLECT_LOOK_BYTES_FULL: usize = 1 << 20;

// Time.

/// How far two nodes' monotonic clocks may drift apart, in parts of a thousand. The leader lease is shorter by this.
pub const CLOCK_DRIFT_PERMILLE: u64 = 200;
/// Timestamps in one TSO request.
pub const TSO_COUNT_MAX: u32 = 1 << 16;
/// How far ahead of the clock PD saves its timestamp bound.
pub const TSO_WINDOW: Duration = Duration::from_secs(3);

// Queries.

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
/// Texts that a query looks for in one value before it parses it.
pub const QUERY_NEEDLES_MAX: usize = 16;
/// Bytes of memory that a parser keeps from one value to the next; what a larger value took is given back at once.
pub const QUERY_PARSER_KEPT_BYTES_MAX: usize = 1 << 20;
/// Bytes of rows that wait for the end of their chunk, or of the texts in its columns, at which it ends early.
pub const QUERY_CHUNK_BYTES_FULL: usize = 1 << 20;
/// Bytes of texts for which a column keeps its memory from chunk to chunk.
pub const QUERY_COLUMN_KEPT_BYTES_MAX: usize = 64 << 10;
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
/// Pairs that one slice of the work for a page reads.
pub const QUERY_SLICE_PAIRS_MAX: u64 = 16 << 10;
/// Bytes that such a slice reads; the pair that passes it is the last.
pub const QUERY_SLICE_BYTES_FULL: usize = 8 << 20;
/// Queries of a node that are under way, with those that wait for a core; more are refused with `server_is_busy`.
pub const QUERIES_MAX: usize = 1024;

// What belongs together.
const _: () = {
    assert!(KEY_BYTES_MAX < ENTRY_BYTES_MAX, "an entry holds a key of any length");
    assert!(ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX / 2, "an entry and its frame fit a message");
    assert!(ENTRY_BYTES_MAX < REQUEST_BYTES_MAX, "a request holds an entry and what surrounds it");
    assert!(REFUSED_PREFIX_BYTES_MAX < REQUEST_BYTES_MAX, "only what is refused is kept in part");
    assert!(REQUEST_BYTES_MAX < MESSAGE_BYTES_MAX, "a long request is refused here and not by gRPC");
    assert!(REQUEST_BYTES_MAX as u64 <= REQUESTS_BYTES_MAX, "an idle node takes any request");
    assert!(STREAM_BYTES_MAX as u64 <= REQUESTS_BYTES_MAX, "one stream's message fits the node's bound");
    assert!(REPLY_BYTES_MAX < MESSAGE_BYTES_MAX, "an answer fits a message with what surrounds it");
    assert!(REPLY_BYTES_MAX as u64 <= ANSWER_BYTES_MAX, "an idle node gives any answer");
    assert!(
        STREAM_ANSWER_BYTES_FULL + REPLY_BYTES_MAX < MESSAGE_BYTES_MAX,
        "the last answer of a message fits it, too"
    );
    assert!(CLIENT_BATCH_BYTES_MAX < ENTRY_BYTES_MAX, "a client's batch is an entry");
    assert!(SPLIT_KEYS_BYTES_MAX < ENTRY_BYTES_MAX, "the first regions are an entry");
};
const _: () = {
    assert!(PROPOSAL_BYTES_PENDING_MAX >= ENTRY_BYTES_MAX, "an idle group takes any write");
    assert!(STORE_PROPOSAL_BYTES_MAX >= PROPOSAL_BYTES_PENDING_MAX, "one group cannot exhaust the store");
    assert!(STORE_READS_PENDING_MAX >= READS_PENDING_MAX, "one group cannot exhaust the store's reads");
    assert!(STALL_REFUSE.as_nanos() <= STALL_HAND_OVER.as_nanos(), "a store refuses before it hands its leaders over");
    assert!(
        APPLY_BATCH_BYTES_FULL + ENTRY_BYTES_MAX < UNAPPLIED_BYTES_MAX,
        "one batch that waits does not stop followers"
    );
    assert!(
        LOG_JOINED_BYTES_MAX + LANES_MAX * (2 * ROUND_BYTES_MAX + MESSAGE_BYTES_MAX) < LOG_BATCH_BYTES_MAX,
        "what lanes write fits a record"
    );
    assert!(LOG_RUN_ENTRIES_MAX <= u16::MAX as usize, "the index counts a run's entries in 16 bits");
    assert!(LOG_RUN_BYTES_FULL as u64 <= LOG_READ_BYTES_MAX, "a read takes a run of small entries");
    assert!(LOG_READ_GAP_BYTES_MAX < LOG_READ_BYTES_MAX, "a read is not all gap");
    assert!(LOG_UPKEEP_BYTES_MIN <= LOG_MOVE_BYTES_MAX, "a step of the upkeep may be followed by another");
    assert!(LOG_SOFT_BYTES_MIN <= LOG_SOFT_BYTES_MAX, "the bounds of the log's size are in order");
};
const _: () = {
    assert!(OUTBOX_BYTES_MAX >= ENTRY_BYTES_MAX, "an idle store is sent any entry");
    assert!(FETCH_QUEUE_BYTES_MAX + ENTRY_BYTES_MAX <= OUTBOX_BYTES_MAX, "old entries that were read fit the queue");
    assert!(
        LINK_BATCH_BYTES_FULL + 2 * ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX,
        "a batch and one entry more fit a message"
    );
    assert!(INBOX_BYTES_MAX >= MESSAGE_BYTES_MAX, "an idle store takes any message");
    assert!(SNAPSHOT_CHUNK_BYTES_MAX + ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX, "a chunk and one value more fit a message");
    assert!(SNAPSHOT_PLACE_LOOK.as_nanos() <= SNAPSHOT_RETRY_MIN.as_nanos(), "the waits before a retry are in order");
    assert!(SNAPSHOT_RETRY_MIN.as_nanos() <= SNAPSHOT_RETRY_MAX.as_nanos(), "the waits before a retry are in order");
    assert!(COLLECT_KEY_BYTES_FULL + KEY_BYTES_MAX < ENTRY_BYTES_MAX / 2, "a command that collects is an entry");
    assert!(COLLECT_KEYS_MAX <= COLLECT_LOOKS_MAX, "a look may fill a command");
};
const _: () = {
    assert!(QUERY_PAGE_BYTES_MAX < 4 << 20, "TiKV's Rust client decodes a page");
    assert!(QUERY_FRAME_BYTES < QUERY_PAGE_BYTES_MAX, "a page has room beside its frame");
    assert!(QUERY_CHUNK_BYTES_FULL < QUERY_PAGE_BYTES_MAX, "a page is at least a chunk");
    assert!(QUERY_SLICE_PAIRS_MAX <= QUERY_PAGE_ROWS_MAX, "a page is at least a slice of work");
    assert!(QUERY_SLICE_BYTES_FULL as u64 <= QUERY_PAGE_SCAN_BYTES_MAX, "a page is at least a slice of work");
};
