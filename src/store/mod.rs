//! # store: the regions of one node, as requests see them
//!
//! ```text
//!   service ──Context──▶ Kv::route: store? region? peer? term? leader? epoch?
//!                         └─▶ Route: read, write(fence)  ──▶ replica::Handle (confirm, propose)
//!   collect ──▶ replica::Handle: "delete the expired ones of these keys", region by region, periodically
//!   effects ◀── replica: what applied entries mean for this store
//!   size_splits, load_splits ──▶ Route: split, where there is too much data or load
//!   heartbeat ──▶ PD: space, leaders, sizes;  PD ──▶ addresses, leader transfers, changes of members
//!   old_versions ◀──▶ heartbeat: safe points, and how far each region is cleared of old locks
//!   alone ──▶ PD: is this peer, which hears no leader, still a member?
//! ```
//!
//! Requests that name a region come **in**. Linearizable views and replicated writes go **out**, or the error that
//! tells the client what to refresh. **Never**: a response from a region, epoch or leader other than the request's.

mod alone;
mod collect;
mod effects;
mod flows;
mod heartbeat;
pub mod kv;
mod load_splits;
mod load_watch;
mod old_versions;
mod pd_time;
mod region_store;
mod size_splits;
mod space;
mod split;

pub(crate) use crate::region::command;
pub use crate::replica::ReadChecks;
pub(crate) use alone::Alone;
pub(crate) use collect::Collector;
pub(crate) use effects::{TtlUse, listen};
pub(crate) use heartbeat::{Heartbeat, PdLink};
pub use kv::{Access, Fence, Kv, RegionRead, Route, check_key};
pub(crate) use load_splits::LoadSplits;
pub(crate) use load_watch::LoadLimits;
pub(crate) use old_versions::{Cleared, Reports, SafePoints};
pub(crate) use pd_time::PdTime;
pub(crate) use region_store::RegionStore;
pub(crate) use size_splits::{Measured, SizeSplits};
pub(crate) use space::{Space, make_room_for_a_start};
pub(crate) use split::{ClusterVersion, Splits};

/// The planted bugs of this module and what each breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    ("store.read-without-barrier", "a replica serves a read without confirming that it is still the leader"),
    ("store.collects-by-own-clock", "expired values are removed by the clock of the leader, however far ahead it is"),
    (
        "store.collects-by-placement-driver-alone",
        "expired values are removed by the placement driver's clock, however far ahead of the store's own it is",
    ),
    ("store.disk-fills-up", "a store accepts writes until its disk is full"),
    (
        "store.freed-reserve-forgotten",
        "a store that restarts without its reserve does not know that it was nearly full",
    ),
    ("store.boundary-among-versions", "a region is split at a raw key that lies among the versions of another key"),
    ("store.version-not-awaited", "a command is replicated before every node knows it"),
    (
        "store.passes-leaders-to-and-fro",
        "two stores with very little free space hand each other the same leaders at once",
    ),
    ("store.hands-over-once", "a store with very little free space keeps the leaders that it gets later"),
    (
        "store.sleeping-regions-not-told-again",
        "a store does not tell another leader of the placement driver about regions that sleep",
    ),
    ("store.sizes-never-again", "the sizes of regions are measured only once"),
    ("store.load-split-beside-the-load", "a region is split where one of the pieces gets none of its load"),
    (
        "store.load-split-between-versions",
        "a region with one hot transactional key is split at it because of its versions",
    ),
    (
        "store.load-of-an-earlier-leadership",
        "a leader reports requests of an earlier leadership as those since its last heartbeat",
    ),
    ("store.epoch-not-checked", "a request's epoch is not compared with the region's"),
];
