//! # replica: the loop that owns a store's raft groups
//!
//! ```text
//!   Handle::propose / read_barrier / transfer_leader        other stores' messages and snapshots
//!            |                                                     |
//!            v   Message                                           v
//!   +------------------------------------------------------------------------+
//!   | Driver (one a lane, many groups; 1 to 8 lanes a store)                 |
//!   |  1 take messages: step raft's, pack all waiting proposals              |
//!   |  2 take every group's output; send what may leave at once              |
//!   |  3 install snapshots; apply committed entries: ONE write batch; reply  |
//!   |  4 write all groups' entries and hard states: ONE write, ONE fdatasync |
//!   |  5 send what had to wait for it; again from 2 until nothing is left    |
//!   +------------------------------------------------------------------------+
//!        | Outbox: a stream a store pair      | RaftLog          | Engine, Cf::Meta: group_state
//! ```
//!
//! The only lane of a store writes the log itself. Several have it written (`keeper`): they go on meanwhile, and what several
//! write at a time becomes one write and one fdatasync. A group stays with its lane, so that its messages stay in order.
//!
//! **In** come messages (`message`); **out** go raft messages, log writes, engine writes, replies, and effects for the
//! store ([`effects`]).
//!
//! **Files**: `driver/` has a file for each phase of a round, `peer/` what one group is made of, `transport/` the way to other
//! stores, `log/` the raft log, `snapshot/` a group's state on its way; `handle` and `view` are what other modules see.
//!
//! **Never**: a reply for a write that a quorum has not made durable; an applied index apart from its data; a log truncated
//! above what a flush has made durable; a second try of a failed write or fsync (the store stops and says why).

mod driver;
pub mod effects;
pub mod group_state;
pub mod handle;
mod keeper;
pub mod log;
mod message;
mod peer;
mod promise;
mod snapshot;
pub mod start;
pub mod transport;
pub mod view;

pub use driver::{Machines, Options};
pub use effects::StoreEffect;
pub use handle::{Handle, Poison, Room};
pub use start::{Start, start};
pub use view::{Leadership, PeerView};

/// The planted bugs of this room (the log's are [`log::MUTANTS`]) and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("replica.ack-before-fsync", "append answers and votes leave before the log write is durable"),
    ("replica.vote-not-persisted", "term and vote are not written to the log"),
    ("replica.ack-before-commit", "a write is answered when it is proposed"),
    ("replica.snapshot-with-a-hole", "a pair of a snapshot that cannot be written is left out"),
    ("replica.promise-waits-in-the-lane", "a lane waits until the engine remembers how long its promises are"),
    ("replica.longest-promise-forgotten", "a voter that starts again does not remember how long its promises were"),
    ("replica.lost-log-not-noticed", "a store whose raft log is gone goes on with what its engine holds"),
    ("replica.cut-behind-a-snapshot", "the log that a follower needs after a snapshot under way is bounded in entries"),
    ("replica.log-over-its-bound", "a log is cut for its bound in bytes only where a cut for entries is worth it"),
    ("replica.truncate-before-flush", "the log is truncated to what is applied, not to what a flush made durable"),
    ("replica.snapshot-missing-tail", "a snapshot lacks its last pair"),
    ("replica.snapshot-not-flushed", "an installed snapshot is not made durable before the log starts over"),
    ("replica.settle-ignores-term", "a write is answered when any entry is applied at its index"),
    ("replica.snapshot-keeps-old-keys", "an installed snapshot does not remove the keys it does not have"),
    ("replica.applied-index-lags", "the applied index in the engine is one less than what its batch holds"),
    ("replica.peers-not-checked", "messages to and from peers that left and came back are taken for the present ones'"),
    ("replica.incarnations-not-checked", "messages of an older copy of a store's data directory are taken"),
    ("replica.runs-forgotten", "a restart forgets which runs of other stores were heard"),
    ("replica.older-log-taken", "a log that an earlier start left is opened although a later one wrote to it"),
    ("replica.earlier-snapshot-told-late", "raft hears of a snapshot after a later one was taken"),
    ("replica.writer-tells-early", "the log's writer calls what lanes gave it durable before it is written"),
    ("replica.fetches-not-reserved", "old entries are read for a store however many are on their way to it"),
    ("replica.rounds-without-end", "a lane works on, however long, before it looks for messages again"),
    ("replica.dropped-append-not-told", "raft is not told that an append was dropped before it left"),
    ("replica.waits-for-the-engine", "a lane waits when the engine makes writers wait"),
    ("replica.flush-marks-late-applies", "a flush is taken to cover what was applied while it ran"),
];

#[cfg(test)]
mod tests;
