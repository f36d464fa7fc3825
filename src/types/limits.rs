//! Every maximum, in one place.

use std::time::Duration;

/// A key's length in bytes, as the client writes it.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// One raft entry's length in bytes; a larger write is refused with `raft_entry_too_large`.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// Keys or pairs in one batch request.
pub const BATCH_KEYS_MAX: usize = 16 << 10;
/// Ranges in one batch scan or checksum.
pub const RANGES_MAX: usize = 1024;
/// Pairs that one scan request may ask for.
pub const SCAN_LIMIT_MAX: u32 = 1 << 20;
/// A gRPC message that a server or a client of ours takes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Keys and values in one answer, in bytes: what a message may be, less room for what surrounds them.
pub const REPLY_BYTES_MAX: usize = 60 << 20;
/// A unary message of the key-value service, in bytes: an entry and what surrounds it. Streams of commands carry many in one.
pub const UNARY_BYTES_MAX: usize = 16 << 20;
/// Answers of a node that are being read or that clients have not taken yet, in bytes; more are refused with `server_is_busy`.
pub const ANSWER_BYTES_MAX: u64 = 512 << 20;
/// Bytes of one snapshot, which its receiver gathers in memory.
pub const SNAPSHOT_BYTES_MAX: usize = 4 << 30;
/// Timestamps in one TSO request.
pub const TSO_COUNT_MAX: u32 = 1 << 16;
/// Proposals of one group that wait for their commit; more are refused with `server_is_busy`.
pub const PROPOSALS_PENDING_MAX: usize = 4096;
/// Bytes of proposals of one group that wait for their commit.
pub const PROPOSAL_BYTES_PENDING_MAX: usize = 64 << 20;
/// Regions in one `ScanRegions` answer.
pub const SCAN_REGIONS_MAX: i32 = 4096;
/// How far two nodes' monotonic clocks may drift apart, in parts of a thousand. The leader lease is shorter by this.
pub const CLOCK_DRIFT_PERMILLE: u64 = 200;
/// How far ahead of the clock PD saves its timestamp bound.
pub const TSO_WINDOW: Duration = Duration::from_secs(3);
