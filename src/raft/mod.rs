//! # raft: one group's consensus, as data
//!
//! raft-rs' `RawNode` behind a plain interface. **In** come ticks, messages, proposals and reads; **out** go [`Output`]s; nothing
//! waits.
//!
//! ```text
//!    step(Input, now) ──▶ ┌────────────────────────────────┐
//!    propose, read        │ Group                          │ ──▶ take() -> Output:
//!    persisted(number) ──▶│  RawNode over LogView (memory) │       messages to send at once
//!    applied(index)    ──▶│  Lease (leader's and voter's)  │       what to write to the log, then messages after it
//!    fetched, snapshot ──▶│  reads waiting for a quorum    │       committed entries, confirmed reads, snapshot to install
//!                         └────────────────────────────────┘       log reads wanted
//! ```
//!
//! What the caller (the `replica` room's driver) must do for every [`Output`], in order but for the last step, which needs only the second:
//! 1. send [`Output::messages`] at any time, before the log write too;
//! 2. install [`Output::snapshot`], if there is one, durably, before anything else of this output;
//! 3. write [`Output::entries`] and [`Output::hard_state`] to the log, durably;
//! 4. only then send [`Output::messages_after_persist`] and call [`Group::persisted`] with [`Output::number`];
//! 5. apply [`Output::committed`], which a quorum has durably, in order, then call [`Group::applied`].
//!
//! **Never**: a vote, term or entry acknowledged that is not durable; a lease that outlives another leader's election; an
//! await, a clock or a file (`now` is the node's monotonic clock in nanoseconds, given by the caller).

mod beat;
pub mod frame;
pub mod group;
pub mod lease;
pub mod log_view;
mod lost;
pub mod machine;
pub mod membership;
pub mod output;
pub mod read;
mod transfer;

pub use ::raft::eraftpb;
pub use beat::Beat;
pub use group::{Group, Options, Run};
pub use log_view::LogView;
pub use output::{Fetch, Output};

/// The planted bugs of this room and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "raft.lease-ignores-drift",
        "the leader's lease is as long as the followers' election timeout, without the drift bound",
    ),
    ("raft.lease-kept-in-transfer", "the lease survives the start of a leader transfer"),
    ("raft.lease-from-commit", "the lease counts from the commit of an entry instead of from its proposal"),
    (
        "raft.promise-by-own-timeout",
        "a voter's promise is as long as its own election timeout, whatever its leader's is",
    ),
    ("raft.lease-reads-all-the-same", "a leader reads alone although it is configured not to"),
    ("raft.cache-grows", "applied entries stay in memory until the log is cut"),
    ("raft.append-not-cut", "what is proposed in one round goes into one message, however much it is"),
    ("raft.commit-not-carried", "a record of a group does not carry the commit index that moved since the last one"),
    ("raft.campaign-while-installing", "a peer campaigns while its engine does not hold its snapshot yet"),
    (
        "raft.lost-leader-frees-of-promises",
        "a voter whose leader's store cannot be reached campaigns within its promise",
    ),
    (
        "raft.beat-hides-a-commit",
        "a follower answers a heartbeat in numbers without looking at the commit index that it tells",
    ),
    ("raft.beat-hides-a-lag", "a leader takes the answer of a follower that lags for one that says nothing"),
    ("raft.beat-unheard", "a leader does not count answers in numbers as signs of life"),
    ("raft.lost-entries-ignored", "a peer whose log lost what it had acknowledged goes on voting"),
    ("raft.vote-after-restart", "a restarted voter forgets that it promised not to vote for an election timeout"),
    ("raft.campaign-within-promise", "a voter campaigns while its own promise binds it"),
    ("raft.read-index-without-quorum", "a read is served without asking a quorum"),
    ("raft.read-before-applied", "a confirmed read does not wait until the confirmed index is applied"),
    ("raft.transfer-to-silent-peer", "a leader hands over to a peer that it has not heard from"),
];

#[cfg(test)]
mod tests;
