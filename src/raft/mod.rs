//! # raft: one group's consensus, as data
//!
//! A plain interface around raft-rs's `RawNode`. **In** come ticks, messages, proposals and reads; **out** go
//! [`Output`]s; nothing waits.
//!
//! ```text
//!    step(Input, now) ──▶ ┌────────────────────────────────┐
//!    propose, read        │ Group                          │ ──▶ take() -> Output:
//!    persisted(number) ──▶│  RawNode over LogView (memory) │       messages to send at once
//!    applied(index)    ──▶│  Lease (leader's and voter's)  │       log writes, then messages after them
//!    fetched, snapshot ──▶│  reads waiting for a quorum    │       committed entries, confirmed reads, a snapshot
//!                         └────────────────────────────────┘       log reads wanted
//! ```
//!
//! What the caller (the driver in the `replica` module) must do for every [`Output`], in order, except that the last
//! step only depends on the second:
//! 1. send [`Output::messages`] at any time, even before the log write;
//! 2. install [`Output::snapshot`], if there is one, durably, before anything else of this output;
//! 3. write [`Output::entries`] and [`Output::hard_state`] to the log, durably;
//! 4. only then send [`Output::messages_after_persist`] and call [`Group::persisted`] with [`Output::number`];
//! 5. apply [`Output::committed`], which is durable on a quorum, in order, then call [`Group::applied`].
//!
//! **Never**: a vote, term or entry that is acknowledged before it is durable; a lease that outlives another leader's
//! election; an await, a clock or a file (`now` is the time of the node's monotonic clock in nanoseconds, passed in by
//! the caller).

mod beat;
pub mod frame;
pub mod group;
mod kinds;
pub mod lease;
pub mod log_view;
mod lost;
pub mod machine;
mod members;
pub mod membership;
pub mod output;
mod pre_vote;
pub mod read;
mod rest;
mod transfer;

pub use ::raft::eraftpb;
pub use beat::Beat;
pub use group::{Group, Options, Run};
pub use log_view::LogView;
pub use output::{Fetch, Output};

/// The planted bugs of this module, and what each of them breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("raft.members-without-quorum", "members are changed even if that leaves no quorum of voters that are alive"),
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
    (
        "raft.fence-skipped",
        "a leader serves lease reads although it proposed a change of its range and has not applied it",
    ),
    ("raft.lease-reads-all-the-same", "a leader serves lease reads although they are configured off"),
    ("raft.cache-grows", "applied entries stay in memory until the log is truncated"),
    ("raft.append-not-cut", "all entries proposed in one round go into one message, whatever their size"),
    ("raft.commit-not-carried", "a group's record does not carry the commit index that advanced since the last record"),
    ("raft.campaign-while-installing", "a peer campaigns before its engine holds its snapshot"),
    ("raft.lost-leader-frees-of-promises", "a voter whose leader's store is unreachable campaigns within its promise"),
    (
        "raft.unknown-peer-not-asked-again",
        "a leader whose log was truncated sends nothing to a peer that never answered",
    ),
    ("raft.late-pre-vote-counts", "a peer counts the answer to a pre-vote in a later round than the one it belongs to"),
    ("raft.beat-hides-a-commit", "a follower answers a heartbeat sent as numbers without looking at its commit index"),
    ("raft.beat-hides-a-lag", "a leader ignores that the response to a heartbeat comes from a lagging follower"),
    ("raft.sleeps-beside-a-laggard", "a group goes to sleep although a peer that is alive lacks entries"),
    ("raft.beat-unheard", "a leader does not count responses sent as numbers as signs of life"),
    ("raft.lost-entries-ignored", "a peer whose log lost acknowledged entries continues to vote"),
    ("raft.vote-after-restart", "a restarted voter forgets that it promised not to vote for an election timeout"),
    ("raft.campaign-within-promise", "a voter campaigns while its own promise binds it"),
    ("raft.read-index-without-quorum", "a read is served without asking a quorum"),
    ("raft.read-before-applied", "a confirmed read does not wait until the confirmed index is applied"),
    ("raft.transfer-to-silent-peer", "a leader transfers leadership to a peer that it has not heard from"),
];

#[cfg(test)]
mod tests;
