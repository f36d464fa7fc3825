//! # replica: the loop that owns a store's raft groups
//!
//! ```text
//!   Handle::propose / read_barrier / transfer_leader        other stores' messages and snapshots
//!            |                                                     |
//!            v   Mail                                              v
//!   +------------------------------------------------------------------------+
//!   | Driver (one lane a store, many groups)                                 |
//!   |  1 drain the mailbox: step messages, pack all waiting proposals        |
//!   |  2 take every group's output; send what may leave at once              |
//!   |  3 install snapshots; apply committed entries: ONE write batch; reply  |
//!   |  4 write all groups' entries and hard states: ONE write, ONE fdatasync |
//!   |  5 send what had to wait for it; again from 2 until nothing is left    |
//!   +------------------------------------------------------------------------+
//!        | Outbox: a stream a store pair      | RaftLog          | Engine, Cf::Meta: GroupState
//! ```
//!
//! **In** come letters ([`mailbox::Mail`]); **out** go raft messages, log writes, engine writes, replies.
//!
//! **Never**: a reply for a write that a quorum has not made durable; an applied index apart from its data; a log truncated
//! above what a flush has made durable; a second try of a failed write or fsync (the store stops and says why).

pub mod apply;
pub mod driver;
pub mod handle;
pub mod housekeeping;
pub mod log;
pub mod mailbox;
pub mod peer;
pub mod snapshot;
pub mod start;
mod transfer;
pub mod transport;

pub use driver::{Machines, Options};
pub use handle::{Handle, Leadership, PeerView, Poison};
pub use start::start;

/// The planted bugs of this room (the log's are [`log::MUTANTS`]) and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("replica.ack-before-fsync", "append answers and votes leave before the log write is durable"),
    ("replica.vote-not-persisted", "term and vote are not written to the log"),
    ("replica.ack-before-commit", "a write is answered when it is proposed"),
    ("replica.truncate-before-flush", "the log is truncated to what is applied, not to what a flush made durable"),
    ("replica.snapshot-missing-tail", "a snapshot lacks its last pair"),
    ("replica.snapshot-not-flushed", "an installed snapshot is not made durable before the log starts over"),
    ("replica.settle-ignores-term", "a write is answered when any entry is applied at its index"),
    ("replica.snapshot-keeps-old-keys", "an installed snapshot does not remove the keys it does not have"),
    ("replica.applied-index-lags", "the applied index in the engine is one less than what its batch holds"),
    ("replica.flush-marks-late-applies", "a flush is taken to cover what was applied while it ran"),
];
