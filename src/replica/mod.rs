//! # replica: the loop that owns a store's raft groups
//!
//! ```text
//!   Handle::propose / read_barrier / transfer_leader        other stores' messages and snapshots
//!            |                                                     |
//!            v   Message                                           v
//!   +------------------------------------------------------------------------+
//!   | Driver (one per lane, many groups; 1 to 8 lanes per store)             |
//!   |  1 take messages: step raft's, pack all waiting proposals              |
//!   |  2 take every group's output; send what may leave at once              |
//!   |  3 install snapshots; apply committed entries: ONE write batch; reply  |
//!   |  4 write all groups' entries and hard states: ONE write, ONE fdatasync |
//!   |  5 send what had to wait for it; again from 2 until nothing is left    |
//!   +------------------------------------------------------------------------+
//!        | Outbox: a stream per store pair    | RaftLog          | Engine, Cf::Meta: group_state
//! ```
//!
//! If the committed entries of a group read keys that are not in memory, the group waits until a task has read them;
//! the other groups of its lane continue.
//!
//! If a store has only one lane, the lane writes the log itself. Several lanes share a writer (`keeper`) and continue
//! while it writes: what several lanes write at a time becomes one write and one fdatasync. A group stays with its
//! lane, so that its messages stay in order.
//!
//! **In** come messages (`message`); **out** go raft messages, log writes, engine writes, replies, and effects for the
//! store ([`effects`]).
//!
//! A group's members change by commands in its own log, and a peer that is no member any more leaves a tombstone
//! (`driver/members.rs`). Peers that do not lead serve reads by their leader's commit index (`follower_reads`).
//!
//! **Files**: `driver/` has a file for each phase of a round, `peer/` the parts of one group, `transport/` the streams
//! to other stores, `log/` the raft log, and `snapshot/` the sending and receiving of a group's state; `handle` and
//! `view` are the interface for other modules.
//!
//! **Never**: a reply to a write that a quorum has not made durable; an applied index that is stored without its data;
//! a log truncated above the index that a flush has made durable; a retry of a failed write or fsync (the store stops
//! and reports why).

mod claims;
mod driver;
pub mod effects;
mod follower_reads;
pub mod group_state;
pub mod handle;
mod keeper;
pub mod load;
pub mod log;
mod merge_questions;
mod message;
mod peer;
mod promise;
mod read_checks;
mod signs;
mod snapshot;
pub mod start;
pub mod transport;
pub mod view;

pub use driver::{Machines, Options};
pub use effects::StoreEffect;
pub use follower_reads::FollowerReads;
pub use handle::{Handle, Poison, Room};
pub use read_checks::ReadChecks;
pub use start::{Start, start};
pub use view::{Leadership, PeerView};

/// The planted bugs of this module (the log's are [`log::MUTANTS`]), and what each of them breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("replica.ack-before-fsync", "append responses and votes are sent before the log write is durable"),
    ("replica.vote-not-persisted", "term and vote are not written to the log"),
    ("replica.ack-before-commit", "a write is answered when it is proposed"),
    ("replica.snapshot-with-a-hole", "a snapshot's pair that cannot be written is skipped"),
    ("replica.birth-without-parents-commit", "a newborn's first log record does not carry its parent's commit index"),
    ("replica.birth-restarts-log", "a start that applies a group's birth again starts its log over"),
    ("replica.newborns-messages-dropped", "messages to a group that is not born here yet are dropped"),
    ("replica.dead-store-missed-asleep", "a peer that sleeps does not notice that its leader's store is silent"),
    ("replica.sleeping-leader-keeps-its-lease", "a leader that sleeps serves reads under the lease that it had"),
    (
        "replica.snapshot-beside-a-waiting-batch",
        "a snapshot is taken while a batch may get into the engine at any moment",
    ),
    ("replica.candidates-state-taken-by-a-peer", "a peer follows the candidate that sends it the state of its group"),
    ("replica.range-free-before-the-install", "a group may begin in a range that a snapshot in progress will replace"),
    ("replica.lacking-store-is-silent", "a store that lacks a group does not say so when it gets messages for it"),
    ("replica.newcomer-not-recorded", "a store forgets that a group began there with a snapshot before its log did"),
    ("replica.run-shown-while-starting", "a store connects to others before its run is recorded"),
    ("replica.strangers-not-answered", "a peer whose descriptor lags does not answer members that it does not know"),
    ("replica.follower-reads-unasked", "a follower serves reads without asking the leader"),
    (
        "replica.read-joins-question",
        "a follower serves a read by the answer to a question that was asked before the read",
    ),
    ("replica.safe-time-of-another-range", "a safe time is used although the region's range has changed since"),
    (
        "replica.safe-time-before-applied",
        "a peer serves a stale read before it has applied what the safe time is about",
    ),
    (
        "replica.asked-leader-reads-on",
        "a leader reads by its lease although a follower may have served more than it has applied",
    ),
    ("replica.no-tombstone", "a removed peer leaves no tombstone, and its state stays in the engine"),
    ("replica.gone-ignores-conf-ver", "a peer is removed by an older descriptor that does not name it"),
    ("replica.log-removed-before-flush", "a removed peer's log goes before its end is durable in the engine"),
    ("replica.candidate-sends-no-state", "a candidate sends no state to stores that lack its group"),
    ("replica.candidate-sends-only-a-birth", "a candidate sends no state once its group has changed since its birth"),
    ("replica.lease-while-merging", "a frozen group's leader goes on with its lease"),
    ("replica.seal-without-all", "a frozen group is sealed although a peer's log lacks the command that froze it"),
    ("replica.rollback-unproved", "a sealed group goes on without proof that its target decided against the merge"),
    (
        "replica.proof-by-epoch-alone",
        "a target's higher epoch is taken for proof that it decided against a merge, whatever it took over",
    ),
    ("replica.heir-not-asked", "a sealed group whose target became part of another group does not ask that one"),
    ("replica.commit-without-all", "a target proposes to take over a source while a peer of it has nothing yet"),
    (
        "replica.source-kept-by-none",
        "a peer whose group was merged ends although another peer there has to take over its range",
    ),
    (
        "replica.kept-for-an-heir-that-forgot",
        "a peer that missed its group's merge is kept for a target here that has taken the group over and forgotten it",
    ),
    ("replica.fate-not-asked", "a peer that left its group before that was merged learns of it from nobody"),
    (
        "replica.kept-for-an-earlier-target",
        "a lagging peer of a merged group is kept for a target that decided against an earlier merge",
    ),
    ("replica.snapshot-leaves-source", "a snapshot leaves the peers here whose range it covers"),
    ("replica.source-log-removed-early", "a source's log goes before its end is durable in the engine"),
    ("replica.absorbed-forgotten-early", "a merged group is forgotten when it is gone on its target's stores"),
    ("replica.promise-waits-in-the-lane", "a lane waits until its longest promise is durable in the engine"),
    ("replica.longest-promise-forgotten", "a restarted voter does not remember how long its promises were"),
    ("replica.lost-log-not-noticed", "a store whose raft log is gone continues with what its engine holds"),
    ("replica.cut-behind-a-snapshot", "the log that a follower needs after a snapshot in flight is bounded in entries"),
    ("replica.log-kept-without-room", "a store with little disk space keeps log entries that its engine has"),
    ("replica.log-upkeep-falls-behind", "one segment of the log a step is emptied, however fast they are filled"),
    ("replica.log-over-its-bound", "a log over its limit of bytes is cut only if enough entries can be dropped"),
    ("replica.truncate-before-flush", "the log is truncated to the applied index, not to what a flush made durable"),
    ("replica.snapshot-missing-tail", "a snapshot lacks its last pair"),
    ("replica.snapshot-not-flushed", "an installed snapshot is not made durable before the log starts over"),
    ("replica.settle-ignores-term", "a write is answered when any entry is applied at its index"),
    ("replica.snapshot-keeps-old-keys", "an installed snapshot does not remove the keys it does not have"),
    ("replica.applied-index-lags", "the applied index in the engine is one less than what its batch holds"),
    ("replica.peers-not-checked", "messages to and from a replica's earlier peer are accepted for its present one"),
    ("replica.incarnations-not-checked", "messages from an older copy of a store's data directory are accepted"),
    ("replica.runs-forgotten", "a restart forgets which runs of other stores were heard"),
    ("replica.older-log-taken", "a log that an earlier start left is opened although a later one wrote to it"),
    ("replica.earlier-snapshot-told-late", "raft is told of a snapshot after it accepted a later one"),
    ("replica.writer-tells-early", "the log's writer confirms batches before they are written"),
    ("replica.fetches-not-reserved", "reads of old entries for a store are not bounded in bytes"),
    ("replica.rounds-without-end", "a round of a lane has no maximum time, so messages wait"),
    ("replica.waits-for-the-engine", "a lane waits while the engine stalls writes"),
    (
        "replica.swap-reads-in-the-lane",
        "a command that reads keys when it is applied reads them from the disk in the lane",
    ),
    ("replica.flush-marks-late-applies", "a flush is assumed to cover what was applied while it ran"),
    (
        "replica.pd-group-takes-all-keys",
        "a member of the placement driver counts as the owner of all keys, so a store with data gets none",
    ),
    (
        "replica.kept-beside-its-heir",
        "a frozen peer waits forever for a target that is here by a later snapshot, which has given its range to others",
    ),
    (
        "replica.log-removed-after-any-flush",
        "the log of a destroyed peer goes after a flush that began before the peer ended, or even before it was born",
    ),
];

#[cfg(test)]
mod tests;
