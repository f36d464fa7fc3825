//! # pd: the placement driver
//!
//! Hands out timestamps and ids, knows all stores and regions, and plans moves. It is one more raft group
//! ([`crate::types::GroupId::PD`]) on the first nodes of a cluster, in the same replica loop and log as the data.
//!
//! ```text
//!   services: GetRegion, Tso, RegisterStore, StoreHeartbeat, ...
//!        |                                            ^ orders in heartbeat replies
//!   +----v--------------------------------------------+-----+
//!   | server (IO): follows leadership, lease before answers  |
//!   +---+-----------------+------------------+---------------+
//!       | take            | look up          | propose
//!   +---v---+   +---------v---------+   +----v-------------------+
//!   | tso   |   | cluster, schedule |   | raft group "pd"        |
//!   +-------+   | (leader's memory) |   +----+-------------------+
//!       ^       +---------+---------+        | committed commands
//!       | bound           | descriptors  +---v--------------------+
//!       +-----------------+--------------| machine: state         |--> Cf::Pd
//!                                        +------------------------+
//! ```
//!
//! **In** come calls of clients and stores, and committed commands; **out** go answers, and leader orders in the replies to
//! heartbeats. `state`, `machine`, `tso`, `cluster`, `schedule`, `batch` and `bootstrap` are pure; `server` is the loop.
//!
//! **Never**: a timestamp that is not larger than every one whose call ended before this one began, whoever leads and
//! whatever the clocks say; an id given twice; two stores at one address; an answer of a leader that may have been deposed.

pub(crate) mod batch;
pub(crate) mod bootstrap;
pub(crate) mod cluster;
mod lookup;
mod machine;
mod schedule;
pub(crate) mod server;
mod state;
mod tso;

#[cfg(test)]
mod tests;

pub(crate) use cluster::RegionInfo;
pub(crate) use machine::{PdMachine, SharedState};
pub(crate) use server::{PdError, PdServer};

/// Planted bugs of this room, and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("tso.window-not-persisted", "the leader opens a timestamp window without saving its bound through raft"),
    ("tso.logical-overflow", "the logical part starts over within one millisecond"),
    ("tso.old-leader-serves", "timestamps are handed out without a lease or a quorum's word"),
    ("tso.goes-back-with-the-clock", "timestamps follow a clock that was set back"),
    ("tso.restart-below-bound", "a new leader starts at its clock instead of the saved bound"),
    ("pd.orders-to-late-stores", "leaders are ordered to a store whose heartbeat is late"),
    (
        "pd.dead-store-gets-leaders",
        "leaders are ordered to a dead store again and again, and each try stops proposals for an election timeout",
    ),
    ("pd.version-not-awaited", "a command is proposed although not every node knows it"),
    ("pd.copies-not-checked", "the placement driver takes an older copy of a store's data directory for the store"),
    ("pd.answers-before-heartbeats", "lookups answer without a region's leader before its store was heard of"),
];
