//! Every maximum, in one place: the bytes, entries, messages, requests and waits that a client, a store or a node may
//! use.
//!
//! A limit whose name ends in `_MAX` is never exceeded, unless its documentation says so. A limit whose name ends in
//! `_FULL` is exceeded by at most one element, the last one. The limits of sockets are in `rt::real::net`, because `rt`
//! imports nothing. Intervals of polls and retries are declared where they are used.

use std::time::Duration;

// Keys, entries and messages.

/// The length of a key in bytes, as the client writes it.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// How deeply `\mem{…}` may be nested in a key that a person types.
pub const TEXT_DEPTH_MAX: usize = 4;
/// The length of one raft entry in bytes. A larger write is refused with `raft_entry_too_large`.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// The length in bytes of a gRPC message that our servers and clients accept.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

// Requests to a node, and its responses.

/// Maximum number of labels that say where a store is. A difference in one weighs a hundred times as much as in the
/// next.
pub const LOCATION_LABELS_MAX: usize = 5;

/// The length in bytes of one request of the key-value service, alone or in a stream: a raft entry and its framing. A
/// longer request is not stored while it arrives. Its response is that of a write that is too large.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;
/// How many bytes of a refused request are kept, to find out which region it was for.
pub const REFUSED_PREFIX_BYTES_MAX: usize = 512;
/// Total bytes of the requests that are arriving at a node or in progress there. Further requests are refused with
/// `server_is_busy`.
pub const REQUESTS_BYTES_MAX: u64 = 512 << 20;
/// Bytes of keys and values in one response: a message's maximum, less room for the framing.
pub const REPLY_BYTES_MAX: usize = 60 << 20;
/// Total bytes of the responses that a node is preparing or that clients have not received yet. Further requests are
/// refused with `server_is_busy`.
pub const ANSWER_BYTES_MAX: u64 = 512 << 20;
/// How many keys (or requested pairs) a read may have to run on the request's own task. Longer reads run on the CPU
/// pool.
pub const READ_INLINE_KEYS_MAX: usize = 64;
/// The decompressed length in bytes of one message of a command stream. A longer message ends the stream.
pub const STREAM_BYTES_MAX: usize = 128 << 20;
/// How many commands of one stream run at the same time; the others wait.
pub const STREAM_COMMANDS_RUNNING_MAX: usize = 1024;
/// How many responses one message of a command stream holds.
pub const STREAM_ANSWERS_MAX: usize = 512;
/// A message of responses that has this many bytes takes no further response.
pub const STREAM_ANSWER_BYTES_FULL: usize = 1 << 20;
/// How many requests to PD's HTTP interface a node answers at a time, including those whose clients have not received
/// the answer. Further ones are refused with 503.
pub const PD_HTTP_RUNNING_MAX: usize = 64;
/// The length in bytes of one answer of PD's HTTP interface. A longer one is refused: its client has to ask for less.
pub const PD_HTTP_ANSWER_BYTES_MAX: usize = 60 << 20;
/// How many keys one request to PD's HTTP interface may ask to split at.
pub const PD_HTTP_SPLIT_KEYS_MAX: usize = 1024;
/// How many labels a store has.
pub const STORE_LABELS_MAX: usize = 64;
/// The length in bytes of a store's label, its key and value together.
pub const STORE_LABEL_BYTES_MAX: usize = 512;
/// The largest number of replicas that regions may have.
pub const REPLICAS_MAX: u64 = 7;
/// The most orders, moves, merges or operators at a time that may be set while the cluster runs.
pub const SCHEDULE_LIMIT_MAX: u64 = 64 << 10;
/// The longest time that may be set while the cluster runs, ms: a leap year.
pub const SETTING_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// The largest size below which regions may be merged.
pub const MERGE_BELOW_BYTES_MAX: u64 = 1 << 50;
/// The largest weight of a store, in thousandths.
pub const STORE_WEIGHT_MAX: u64 = 1_000_000;
/// The largest number of replicas that a store may get, or give away, a minute; as much as no limit.
pub const STORE_RATE_MAX: u64 = 100_000_000;
/// How many operators the placement driver's leader remembers after they ended.
pub const OPERATORS_ENDED_MAX: usize = 1024;
/// How many bytes of a key or value a log line shows, where it shows any; the rest is cut off.
pub const LOGGED_BYTES_MAX: usize = 64;

// Our client.

/// How many pairs one scan request of our client asks for. A longer scan is several requests.
pub const CLIENT_SCAN_PAIRS_MAX: u32 = 10_240;
/// Approximate bytes of keys and values in one batch request of our client.
pub const CLIENT_BATCH_BYTES_MAX: usize = 1 << 20;
/// How many keys one batch request of our client has.
pub const CLIENT_BATCH_KEYS_MAX: usize = 4096;

// Initial regions, and settings of a store.

/// Maximum number of stores without a member of the placement driver that a node asks for its members at a start.
pub const ENDPOINTS_OTHERS_MAX: usize = 8;

/// Maximum number of members of the placement driver that a client remembers.
pub const MEMBERS_KNOWN_MAX: usize = 64;

/// How many regions a cluster may begin with.
pub const FIRST_REGIONS_MAX: usize = 16 << 10;
/// Total bytes of the keys at which the initial regions are split. The placement driver's command contains each key
/// several times.
pub const SPLIT_KEYS_BYTES_MAX: usize = ENTRY_BYTES_MAX / 8;
/// How many keys one command may split a region at.
pub const SPLIT_KEYS_MAX: usize = 256;
/// How many descriptors an error about an outdated route carries, as in TiKV.
pub const SIBLINGS_MAX: usize = 10;
/// How many keys a search for a split key looks at.
pub const KEY_SEARCH_STEPS_MAX: usize = 64;
/// How many keys of a range are counted one by one in order to estimate its size; more are counted in samples.
pub const PROFILE_KEYS_MAX: usize = 16 << 10;
/// How many values in blob files are read for their length in order to estimate the size of a range.
pub const PROFILE_SAMPLES_MAX: usize = 64;
/// After this many bytes of values no more of them are read.
pub const PROFILE_READ_BYTES_FULL: u64 = 16 << 20;
/// From how many places of a range keys are counted in samples.
pub const PROFILE_PIECES_MAX: usize = 16;
/// How many keys a sample has.
pub const PROFILE_PIECE_KEYS_MAX: usize = 1024;
/// How often an estimate of the values in blob files is used before it is made again.
pub const PROFILE_USES_MAX: u32 = 64;
/// How many such estimates are kept.
pub const PROFILES_MAX: usize = 16 << 10;
/// How many deleted ranges wait for the compaction that frees their blobs.
pub const RECLAIM_RANGES_MAX: usize = 1024;
/// The least number of bytes from which values may be put into blob files: below, the reference to a value would cost
/// more than it saves.
pub const SEPARATE_BYTES_MIN: u64 = 1 << 10;
/// At how many keys a region that is too large is split at once.
pub const SIZE_SPLIT_KEYS_MAX: usize = 16;
/// How many IDs the placement driver gives out at once.
pub const ALLOC_IDS_MAX: u32 = 4096;
/// How many groups that do not exist here yet may have messages held for them until they are created.
pub const HELD_GROUPS_MAX: usize = 1024;
/// How many messages are held for one such group.
pub const HELD_MESSAGES_MAX: usize = 8;
/// How many lanes (threads that drive raft groups) a store has.
pub const LANES_MAX: usize = 8;
/// How many earlier runs of its data directory a store reports.
pub const EARLIER_RUNS_MAX: usize = 16;
/// Upper bound of the disk space in bytes that a store reserves by default, which is a twentieth of the disk.
pub const RESERVE_BYTES_MAX: u64 = 5 << 30;

// Work that waits in a group or a store.

/// How many proposals of one group may wait to be committed. Further ones are refused with `server_is_busy`.
pub const PROPOSALS_PENDING_MAX: usize = 4096;
/// Total bytes of the proposals of one group that wait to be committed.
pub const PROPOSAL_BYTES_PENDING_MAX: usize = 64 << 20;
/// Total bytes of the proposals of all groups of a store that wait to be committed.
pub const STORE_PROPOSAL_BYTES_MAX: usize = 1 << 30;
/// How many reads of one group may wait for a quorum. Further ones are refused with `server_is_busy`.
pub const READS_PENDING_MAX: usize = 16 << 10;
/// How many reads of all groups of a store may wait for a quorum.
pub const STORE_READS_PENDING_MAX: usize = 256 << 10;
/// Bytes of committed entries that wait for the engine. Beyond this, leaders refuse proposals with `server_is_busy`,
/// and followers accept no entries.
pub const UNAPPLIED_BYTES_MAX: usize = 256 << 20;
/// Bytes of entries that all groups of a store keep in memory, not counting those that are not yet applied.
pub const STORE_CACHE_BYTES_MAX: usize = 512 << 20;
/// For how many groups of a lane keys are read from the disk at a time, before their entries are applied.
pub const WARM_UPS_MAX: usize = 16;
/// How many keys of a group fill one such read; no more are added then.
pub const WARM_UP_KEYS_FULL: usize = 1024;
/// How many effects of applied entries may wait for the store to take them. Further effects are merged into one, which
/// says that any effect may have been missed.
pub const EFFECTS_PENDING_MAX: usize = 1024;
/// How long the engine may delay writes before proposals are refused.
pub const STALL_REFUSE: Duration = Duration::from_secs(1);
/// How long the engine may delay writes before the store hands its leaders over; see [`STALL_REFUSE`].
pub const STALL_HAND_OVER: Duration = Duration::from_secs(2);

// One round of a lane.

/// Bytes of messages that a lane receives, and of entries that it gathers, before it writes its log. The last message
/// or entry may exceed the limit.
pub const ROUND_BYTES_MAX: usize = 8 << 20;
/// How many passes a lane makes over the groups that have work before it checks for messages again.
pub const ROUND_PASSES_MAX: usize = 16;
/// How long a lane works before it writes its log, and before it checks for messages again.
pub const ROUND_TIME_MAX: Duration = Duration::from_millis(10);
/// A batch of applied entries that exceeds this many bytes is written before more is added.
pub const APPLY_BATCH_BYTES_FULL: usize = 4 << 20;
/// Bytes of entries that one read takes from the raft log while a group is restored at startup. A single entry may be
/// larger.
pub const RESTORE_READ_BYTES_MAX: usize = 8 << 20;

// The raft log.

/// The length in bytes of one record of the raft log.
pub const LOG_BATCH_BYTES_MAX: usize = 1 << 30;
/// Bytes of the lanes' batches that one write of the log combines. The last batch may exceed the limit.
pub const LOG_JOINED_BYTES_MAX: usize = 16 << 20;
/// A run of entries in the raft log ends when it has this many bytes, so that reading from its middle does not read too
/// much.
pub const LOG_RUN_BYTES_FULL: usize = 64 << 10;
/// How many entries one run has.
pub const LOG_RUN_ENTRIES_MAX: usize = 4096;
/// Bytes that one read takes from a segment of the raft log. A single run may be larger.
pub const LOG_READ_BYTES_MAX: u64 = 1 << 20;
/// How many unwanted bytes between two runs one read may include in order to get both.
pub const LOG_READ_GAP_BYTES_MAX: u64 = 16 << 10;
/// Bytes of runs that one step of the raft log's maintenance moves. A single run may be larger.
pub const LOG_MOVE_BYTES_MAX: u64 = 1 << 20;
/// Out of how many segments of the raft log one step moves entries.
pub const LOG_MOVE_SEGMENTS_MAX: usize = 16;
/// How many durable entries of a group its log may hold while little disk space is left.
pub const LOG_KEPT_WITHOUT_ROOM_MAX: u64 = 16;
/// How many steps of the raft log's maintenance one tick takes.
pub const LOG_UPKEEP_STEPS_MAX: usize = 16;
/// How many bytes a maintenance step must have moved for another one to follow in the same tick.
pub const LOG_UPKEEP_BYTES_MIN: u64 = 512 << 10;
/// Lower bound of the bytes of entries that a store's logs keep by default, which is a tenth of the disk.
pub const LOG_SOFT_BYTES_MIN: u64 = 64 << 20;
/// Upper bound; see [`LOG_SOFT_BYTES_MIN`].
pub const LOG_SOFT_BYTES_MAX: u64 = 16 << 30;

// Messages between stores.

/// How many messages may wait to be sent to another store. Further ones are dropped.
pub const OUTBOX_MESSAGES_MAX: usize = 4096;
/// Bytes of messages that may wait to be sent to another store. The last message may exceed the limit; further ones are
/// dropped.
pub const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// How many reads of old entries may wait for one group. Further ones are dropped, and raft asks again.
pub const FETCHES_WAITING_MAX: usize = 8;
/// Bytes of messages that may be queued for a store while old entries are still read for its peers.
pub const FETCH_QUEUE_BYTES_MAX: usize = 16 << 20;
/// A batch of messages to another store that has this many bytes takes no further message.
pub const LINK_BATCH_BYTES_FULL: usize = 1 << 20;
/// How many batches may wait for the stream to another store to take them.
pub const LINK_BATCHES_MAX: usize = 4;
/// How long a stream to another store may take no batch before it is closed.
pub const LINK_STILL_MAX: Duration = Duration::from_secs(5);
/// Bytes of raft messages from other stores that may wait for a store's lanes. The last message may exceed the limit;
/// further ones are dropped.
pub const INBOX_BYTES_MAX: usize = 256 << 20;

// Snapshots.

/// How many snapshots a store sends at the same time. Further ones are refused and retried later.
pub const SNAPSHOTS_OUT_MAX: usize = 2;
/// How many snapshots a store receives at the same time; see [`SNAPSHOTS_OUT_MAX`].
pub const SNAPSHOTS_IN_MAX: usize = 2;
/// Bytes of keys and values in one chunk of a snapshot that a receiver accepts: the configured length and one more
/// value.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 16 << 20;
/// How long the stream of a snapshot may make no progress before it is closed.
pub const SNAPSHOT_STILL_MAX: Duration = Duration::from_secs(30);

/// How long a transfer of a sleeping region's leadership waits until the other replica has been heard.
pub const WAKE_WAIT_MAX: Duration = Duration::from_millis(500);

/// Maximum number of sleeping regions of a lane that wake in one tick because a store is silent: their elections would
/// delay each other.
pub const LOST_WAKE_MAX: usize = 500;

/// After about this time, the leader of a sleeping region wakes by itself; followers do after twice as long.
pub const SLEEP_CHECK_INTERVAL: Duration = Duration::from_mins(10);
/// The shortest wait before a snapshot that was not delivered is sent again.
pub const SNAPSHOT_RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait; see [`SNAPSHOT_RETRY_MIN`].
pub const SNAPSHOT_RETRY_MAX: Duration = Duration::from_secs(10);
/// The shortest wait before a snapshot that found no free slot checks again. With many snapshots waiting, each waits
/// longer.
pub const SNAPSHOT_PLACE_LOOK: Duration = Duration::from_millis(50);
/// A file of a received snapshot that exceeds this many bytes of pairs is completed, and the next file begins.
pub const STAGED_FILE_BYTES_MAX: usize = 128 << 20;
/// The same limit in pairs: it keeps the file's filter within 6 MiB.
pub const STAGED_FILE_KEYS_MAX: usize = 768 << 10;
/// The same limit in bytes of keys in the file's index.
pub const STAGED_FILE_INDEX_BYTES_MAX: usize = 4 << 20;

// The engine.

/// How many range deletions a memtable holds before RocksDB flushes it.
pub const MEMTABLE_RANGE_DELETIONS_MAX: u32 = 1000;

// Expired values.

/// How many keys one command that removes expired values has.
pub const COLLECT_KEYS_MAX: usize = 256;
/// A command that removes expired values takes no further key when its keys have this many bytes.
pub const COLLECT_KEY_BYTES_FULL: usize = 256 << 10;
/// How many pairs one search for expired values reads.
pub const COLLECT_LOOKS_MAX: usize = 1024;
/// Bytes of the locks that share a key from which no other joins them: each that joins writes all of them again.
pub const SHARED_LOCKS_BYTES_FULL: usize = 64 << 10;
/// How many keyspaces a cluster may have.
pub const KEYSPACES_MAX: usize = 16 << 10;
/// Bytes of a keyspace's name.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 256;
/// Bytes of all keys and values of a keyspace's configuration.
pub const KEYSPACE_CONFIG_BYTES_MAX: usize = 4 << 10;
/// Barriers that may hold the safe point of transactions back at a time.
pub const BARRIERS_MAX: usize = 1024;
/// Bytes of a barrier's name.
pub const BARRIER_NAME_BYTES_MAX: usize = 256;
/// Old records of transactional keys that one command removes.
pub const COLLECT_VERSIONS_MAX: usize = 256;
/// A search for expired values ends when it has read this many bytes of pairs.
pub const COLLECT_LOOK_BYTES_FULL: usize = 1 << 20;

// Time.

/// How far the monotonic clocks of two nodes may drift apart, in parts per thousand. The leader lease is shortened by
/// this.
pub const CLOCK_DRIFT_PERMILLE: u64 = 200;
/// How many timestamps one TSO request may ask for.
pub const TSO_COUNT_MAX: u32 = 1 << 16;
/// How far ahead of the clock PD persists its timestamp bound.
pub const TSO_WINDOW: Duration = Duration::from_secs(3);

// Queries.

/// The length of a JSON query in bytes.
pub const QUERY_REQUEST_BYTES_MAX: usize = 64 << 10;
/// How many different paths one query may name.
pub const QUERY_PATHS_MAX: usize = 32;
/// How many fields and indexes one path has.
pub const QUERY_PATH_STEPS_MAX: usize = 32;
/// How deeply parentheses and `not`s of a predicate may be nested.
pub const QUERY_DEPTH_MAX: usize = 32;
/// How many comparisons one predicate has.
pub const QUERY_TERMS_MAX: usize = 256;
/// How many literals one `in [...]` has.
pub const QUERY_LIST_MAX: usize = 1024;
/// How many aggregates one query has.
pub const QUERY_AGGREGATES_MAX: usize = 32;
/// How deeply arrays and objects of a JSON value may be nested; a deeper value is treated as invalid JSON. A page adds
/// four levels, and readers of JSON (serde_json) give up at 128.
pub const QUERY_JSON_DEPTH_MAX: usize = 120;
/// The length in bytes of a value that a query parses. A longer value is counted and is not a row. While a value is
/// evaluated, its tape takes up to 24 times the memory of the value.
pub const QUERY_VALUE_BYTES_MAX: usize = 1 << 20;
/// How many strings a query searches for in a value before parsing it.
pub const QUERY_NEEDLES_MAX: usize = 16;
/// Bytes of memory that a parser keeps from one value to the next. Memory beyond that is freed at once.
pub const QUERY_PARSER_KEPT_BYTES_MAX: usize = 1 << 20;
/// A chunk ends early when its rows, or the strings in its columns, have this many bytes.
pub const QUERY_CHUNK_BYTES_FULL: usize = 1 << 20;
/// Bytes of strings for which a column keeps its memory from chunk to chunk.
pub const QUERY_COLUMN_KEPT_BYTES_MAX: usize = 64 << 10;
/// The length in bytes of a string that is the key of a group, or the minimum or maximum of a path.
pub const QUERY_TEXT_BYTES_MAX: usize = 16 << 10;
/// How many groups one query may have over all of its pages, where they are merged.
pub const QUERY_GROUPS_MAX: usize = 1 << 20;
/// The length in bytes of one page of a query's result: below the 4 MiB that TiKV's Rust client decodes.
pub const QUERY_PAGE_BYTES_MAX: usize = 7 << 19;
/// Bytes in a page that are reserved for everything but the rows or groups.
pub const QUERY_FRAME_BYTES: usize = (16 << 10) + 512;
/// How many rows are read for one page of a query's result, including expired ones.
pub const QUERY_PAGE_ROWS_MAX: u64 = 128 << 10;
/// Bytes of keys and values that are read for one page of a query's result, including expired ones. The last row may
/// exceed the limit.
pub const QUERY_PAGE_SCAN_BYTES_MAX: u64 = 32 << 20;
/// How many pairs one slice of the work for a page reads.
pub const QUERY_SLICE_PAIRS_MAX: u64 = 16 << 10;
/// Bytes that one slice of the work for a page reads. The last pair may exceed the limit.
pub const QUERY_SLICE_BYTES_FULL: usize = 8 << 20;
/// How many queries a node may have in progress, including those that wait for a core. Further ones are refused with
/// `server_is_busy`.
pub const QUERIES_MAX: usize = 1024;

// How the limits relate to each other.
const _: () = {
    assert!(KEY_BYTES_MAX < ENTRY_BYTES_MAX, "an entry can hold the longest key");
    assert!(ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX / 2, "an entry and its framing fit in a message");
    assert!(ENTRY_BYTES_MAX < REQUEST_BYTES_MAX, "a request can hold an entry and its framing");
    assert!(REFUSED_PREFIX_BYTES_MAX < REQUEST_BYTES_MAX, "a prefix is shorter than an accepted request");
    assert!(REQUEST_BYTES_MAX < MESSAGE_BYTES_MAX, "gRPC passes long requests on, so that the service refuses them");
    assert!(REQUEST_BYTES_MAX as u64 <= REQUESTS_BYTES_MAX, "an idle node accepts the longest request");
    assert!(STREAM_BYTES_MAX as u64 <= REQUESTS_BYTES_MAX, "one message of a stream fits in the node's quota");
    assert!(REPLY_BYTES_MAX < MESSAGE_BYTES_MAX, "a response and its framing fit in a message");
    assert!(PD_HTTP_ANSWER_BYTES_MAX < MESSAGE_BYTES_MAX, "an answer and its framing fit in a message between nodes");
    assert!(REPLY_BYTES_MAX as u64 <= ANSWER_BYTES_MAX, "an idle node can give the longest response");
    assert!(
        STREAM_ANSWER_BYTES_FULL + REPLY_BYTES_MAX < MESSAGE_BYTES_MAX,
        "the last response added to a message still fits"
    );
    assert!(CLIENT_BATCH_BYTES_MAX < ENTRY_BYTES_MAX, "a client's batch fits in an entry");
    assert!(SPLIT_KEYS_BYTES_MAX < ENTRY_BYTES_MAX, "the command of the initial regions fits in an entry");
};
const _: () = {
    assert!(PROPOSAL_BYTES_PENDING_MAX >= ENTRY_BYTES_MAX, "an idle group accepts the largest write");
    assert!(STORE_PROPOSAL_BYTES_MAX >= PROPOSAL_BYTES_PENDING_MAX, "one group cannot exhaust the store");
    assert!(STORE_READS_PENDING_MAX >= READS_PENDING_MAX, "one group cannot exhaust the store's reads");
    assert!(STALL_REFUSE.as_nanos() <= STALL_HAND_OVER.as_nanos(), "a store refuses before it hands its leaders over");
    assert!(
        APPLY_BATCH_BYTES_FULL + ENTRY_BYTES_MAX < UNAPPLIED_BYTES_MAX,
        "one waiting batch does not stop followers"
    );
    assert!(
        LOG_JOINED_BYTES_MAX + LANES_MAX * (2 * ROUND_BYTES_MAX + MESSAGE_BYTES_MAX) < LOG_BATCH_BYTES_MAX,
        "one write of all lanes fits in a record"
    );
    assert!(LOG_RUN_ENTRIES_MAX <= u16::MAX as usize, "the index counts a run's entries in 16 bits");
    assert!(LOG_RUN_BYTES_FULL as u64 <= LOG_READ_BYTES_MAX, "one read takes a whole run of small entries");
    assert!(LOG_READ_GAP_BYTES_MAX < LOG_READ_BYTES_MAX, "a read is longer than the gaps in it");
    assert!(LOG_UPKEEP_BYTES_MIN <= LOG_MOVE_BYTES_MAX, "one maintenance step can move enough for another to follow");
    assert!(LOG_SOFT_BYTES_MIN <= LOG_SOFT_BYTES_MAX, "the bounds of the log's size are in order");
};
const _: () = {
    assert!(OUTBOX_BYTES_MAX >= ENTRY_BYTES_MAX, "the largest entry can be queued for an idle store");
    assert!(FETCH_QUEUE_BYTES_MAX + ENTRY_BYTES_MAX <= OUTBOX_BYTES_MAX, "the entries that were read fit in the queue");
    assert!(
        LINK_BATCH_BYTES_FULL + 2 * ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX,
        "a batch and one more entry fit in a message"
    );
    assert!(INBOX_BYTES_MAX >= MESSAGE_BYTES_MAX, "an idle store accepts the longest message");
    assert!(
        SNAPSHOT_CHUNK_BYTES_MAX + ENTRY_BYTES_MAX < MESSAGE_BYTES_MAX,
        "a chunk and one more value fit in a message"
    );
    assert!(SNAPSHOT_PLACE_LOOK.as_nanos() <= SNAPSHOT_RETRY_MIN.as_nanos(), "the waits before a retry are in order");
    assert!(SNAPSHOT_RETRY_MIN.as_nanos() <= SNAPSHOT_RETRY_MAX.as_nanos(), "the waits before a retry are in order");
    assert!(
        COLLECT_KEY_BYTES_FULL + KEY_BYTES_MAX < ENTRY_BYTES_MAX / 2,
        "a command that removes values fits in an entry"
    );
    assert!(COLLECT_KEYS_MAX <= COLLECT_LOOKS_MAX, "one search can fill a command");
};
const _: () = {
    assert!(QUERY_PAGE_BYTES_MAX < 4 << 20, "TiKV's Rust client can decode a page");
    assert!(QUERY_FRAME_BYTES < QUERY_PAGE_BYTES_MAX, "a page has room for rows beside its framing");
    assert!(QUERY_CHUNK_BYTES_FULL < QUERY_PAGE_BYTES_MAX, "a page holds at least one chunk");
    assert!(QUERY_SLICE_PAIRS_MAX <= QUERY_PAGE_ROWS_MAX, "a page takes at least one slice of work");
    assert!(QUERY_SLICE_BYTES_FULL as u64 <= QUERY_PAGE_SCAN_BYTES_MAX, "a page takes at least one slice of work");
};

/// How many replicas move at a time so that stores have about as many each.
pub const REPLICA_MOVES_MAX: usize = 4;

/// How long a replica may take to move, while nothing changes, before the placement driver gives up.
pub const REPLICA_MOVE_TIME_MAX: Duration = Duration::from_secs(600);

/// The most regions whose peers one heartbeat's reply changes.
pub const PEERS_ORDERS_MAX: usize = 8;

/// How many entries a learner may lack and still become a voter.
pub const PROMOTED_LAG_ENTRIES_MAX: u64 = 128;

/// A store that is asked for its safe times asks others for those that are older than this.
pub const SAFE_TIME_AGE_MAX: Duration = Duration::from_secs(1);

/// Of how many groups a store asks another for the safe times at once.
pub const SAFE_TIMES_AT_ONCE_MAX: usize = 1024;

/// Bytes of keys that a transaction's read through a follower names to the leader. What has more names the range of
/// its keys.
pub const READ_AT_KEY_BYTES_MAX: usize = 64 << 10;

/// Bytes of such reads in one question to the leader; the others wait for the next one.
pub const READS_ASKED_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(READ_AT_KEY_BYTES_MAX + 2 * KEY_BYTES_MAX < READS_ASKED_BYTES_MAX, "each read fits");

/// How long a follower waits for its leader's commit index.
pub const READ_INDEX_WAIT_MAX: Duration = Duration::from_secs(1);

/// How many regions a request scatters.
pub const SCATTERED_MAX: usize = 1024;

/// How many groups of scattered regions are remembered.
pub const SCATTER_GROUPS_MAX: usize = 64;

/// How many regions become part of a neighbour at a time.
pub const MERGES_MAX: usize = 8;

/// How many regions that became part of a region are remembered, until no store has a peer of them.
pub const ABSORBED_MAX: usize = 64;

/// How long a region stays frozen until every peer's log holds that; then it goes on as before.
pub const MERGE_SEAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a merge that is sealed waits for a target whose peers its leader has not all heard.
pub const MERGE_COMMIT_WAIT_MAX: Duration = Duration::from_secs(2);

/// Of how many groups without a leader a store asks at a time what became of them.
pub const FATES_AT_ONCE_MAX: usize = 16;

/// How often a store asks others about merges that are under way, or tells them of merges that happened.
pub const MERGE_QUESTION_INTERVAL: Duration = Duration::from_secs(1);

// Load.

/// How many requests to a region are sampled in one look of its store, which comes every second.
pub const LOAD_SAMPLES_MAX: usize = 64;
/// When the keys of these have this many bytes, no more is sampled.
pub const LOAD_SAMPLE_BYTES_FULL: usize = 64 << 10;
/// Of how many regions a store samples requests at a time.
pub const LOAD_SAMPLED_REGIONS_MAX: usize = 64;
/// Of how many replicas that do not lead, and serve reads all the same, a heartbeat reports the load.
pub const REPLICA_LOADS_MAX: usize = 1024;
/// How many operators that spread load run at a time.
pub const HOT_OPERATORS_MAX: usize = 4;

// Transactions.

/// For how long a client keeps a transaction alive: one that lasts longer was forgotten by its program.
pub const TXN_HEARTBEATS_MAX: Duration = Duration::from_secs(3600);
/// The longest wait of a pessimistic lock request for the lock of another transaction; the default, too.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// How many transactions may wait for locks on one store.
pub const TXN_WAITERS_MAX: usize = 64 << 10;

/// How many locks of a region are ended by one entry when a request is about all of them.
pub const RESOLVED_AT_ONCE_MAX: usize = 256;
