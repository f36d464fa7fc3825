//! # pd: the placement driver
//!
//! Allocates timestamps and IDs, knows all stores and regions, and plans moves of leaders and replicas. It is one more
//! raft group ([`crate::types::GroupId::PD`]) on the first nodes of a cluster, in the same replica loop and log as the
//! data.
//!
//! ```text
//!   services: GetRegion, Tso, RegisterStore, StoreHeartbeat, …
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
//! **In** come calls of clients and stores, and committed commands. **Out** go responses, and orders about leaders and
//! members in the replies to heartbeats. `state`, `machine`, `tso`, `cluster`, `operators`, `view`, `schedule`, `batch`
//! and `bootstrap` are pure; `server` is the loop.
//!
//! **Never**: a timestamp that is not larger than every one whose call ended before this call began, whichever member
//! is leader and whatever the clocks show; an ID allocated twice; two stores at one address; a response from a leader
//! that may have been deposed.

pub(crate) mod batch;
pub(crate) mod bootstrap;
pub mod cluster;
mod lookup;
mod machine;
mod map;
pub(crate) mod operators;
mod schedule;
pub(crate) mod server;
pub mod state;
mod tso;
pub(crate) mod view;
mod waits;

#[cfg(test)]
mod tests;

pub(crate) use cluster::{Checker, RegionInfo, Wish};
pub(crate) use machine::{PdMachine, SharedState, empty};
pub(crate) use server::{PdError, PdServer, SafePointsView};
pub(crate) use state::{KEYSPACE_EXISTS, LABEL_REPLACED_BY, NO_KEYSPACE, is_of_stores, scheduler_name, shuffles};

/// The planted bugs of this module, and what each of them breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("tso.window-not-persisted", "the leader opens a timestamp window without saving its bound through raft"),
    ("tso.logical-overflow", "the logical part restarts at zero within one millisecond"),
    ("tso.old-leader-serves", "timestamps are returned without a lease or a quorum's confirmation"),
    ("tso.goes-back-with-the-clock", "timestamps follow a clock that was set back"),
    ("tso.restart-below-bound", "a new leader starts at its clock instead of the saved bound"),
    ("gc.ignores-barriers", "the safe point moves past a service that holds it back"),
    ("gc.not-all-regions-cleared", "old versions are removed while a region still has locks below the safe point"),
    ("pd.circle-of-other-moments", "waits of different moments are taken for a circle"),
    ("pd.hole", "a newer descriptor removes the older ones that it overlaps completely"),
    ("pd.orders-to-late-stores", "leaders are ordered to move to a store whose heartbeat is late"),
    (
        "pd.dead-store-gets-leaders",
        "leaders are ordered to a dead store repeatedly, and each attempt blocks proposals for an election timeout",
    ),
    ("pd.never-heals", "replicas that are lost for good are not replaced"),
    ("pd.keeps-lost-members", "members of the placement driver that are lost for good are not replaced"),
    ("pd.former-member-not-told", "a member that was removed without hearing of it never ends"),
    ("pd.version-not-awaited", "a command is proposed before every node supports it"),
    (
        "pd.waits-for-a-move-that-is-over",
        "a move whose new replica took the place of another one, which was lost, keeps its region from any other move",
    ),
    ("pd.two-in-one-place", "replicas do not move to zones, racks and hosts that have none"),
    ("pd.balance-ignores-places", "the balance brings replicas of a region into the same place"),
    ("pd.copies-not-checked", "the placement driver accepts an older copy of a store's data directory as the store"),
    ("pd.hot-pending-not-counted", "load is spread without counting the operators that are under way"),
    ("pd.hot-to-and-fro", "load moves although the target has more than the source had afterwards"),
    ("pd.hot-moved-by-number", "leaders and replicas of hot regions move so that stores have as many each"),
    ("pd.drained-stores-get-leaders", "the balance and operators move leaders to stores that are drained"),
    ("pd.drained-stores-keep-leaders", "stores that are drained do not give their leaders away"),
    ("pd.weights-ignored", "weights of stores have no effect"),
    ("pd.store-limits-ignored", "a store gets and gives away replicas beyond its limits"),
    (
        "pd.replaced-store-keeps-replicas",
        "the replicas of a lost store stay until it has been silent for long, though it is replaced",
    ),
    ("pd.pauses-ignored", "schedulers that are paused make orders"),
    (
        "pd.moves-wait-for-the-patrol",
        "a few replicas move with each look at all regions, however long they have moved already",
    ),
    ("pd.safe-point-unconfirmed", "any member tells the safe point that it knows"),
    ("pd.settings-not-saved", "settings are in memory only: a member that restarts has forgotten them"),
    ("pd.answers-before-heartbeats", "lookups return regions without leaders before their stores sent heartbeats"),
];
