//! A copy of what the placement driver's leader knows at a moment, for people and their tools.

use super::cluster::{Checker, ClusterOptions, RegionInfo};
use super::operators::Operator;
use crate::proto::armilla::pd::{Barrier, RegionLoad, Settings};
use crate::proto::keyspacepb::KeyspaceMeta;
use crate::proto::metapb::Store;
use crate::proto::pdpb::Member;

/// What the leader knows. Times are milliseconds, `wall_ms` since 1970.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The cluster's ID.
    pub cluster_id: u64,
    /// When the copy was made.
    pub wall_ms: u64,
    /// The placement driver's members.
    pub members: Vec<MemberView>,
    /// The member that leads it.
    pub leader: Member,
    /// Whether the first stores and regions exist; there are none otherwise.
    pub bootstrapped: bool,
    /// All stores, by ID, including those that were removed.
    pub stores: Vec<StoreView>,
    /// All regions, in the order of their keys.
    pub regions: Vec<RegionView>,
    /// The loads that are known, by region and store.
    pub loads: Vec<RegionLoad>,
    /// The operators that ended lately, then the running ones.
    pub operators: Vec<Operator>,
    /// The largest safe point that a client has asked for, or up to which versions were removed.
    pub gc_safe_point: u64,
    /// What holds the safe point of transactions back.
    pub barriers: Vec<Barrier>,
    /// All keyspaces, by ID. They have a use only with API V2.
    pub keyspaces: Vec<KeyspaceMeta>,
    /// Timeouts and limits.
    pub options: ClusterOptions,
    /// The settings in force, with the schedulers that exist, and what stores have of their own.
    pub settings: Settings,
    /// The checkers that are paused.
    pub paused_checkers: Vec<Checker>,
}

/// One member of the placement driver.
#[derive(Clone, Debug, Default)]
pub struct MemberView {
    /// The member.
    pub member: Member,
    /// The store of its node.
    pub store: u64,
    /// Whether its node has sent a heartbeat recently.
    pub healthy: bool,
}

/// One store.
#[derive(Clone, Debug, Default)]
pub struct StoreView {
    /// The record, with the time of the last heartbeat.
    pub store: Store,
    /// Milliseconds since the last heartbeat in this leadership, if there was one.
    pub heartbeat_age_ms: Option<u64>,
    /// Milliseconds that the store may have been silent: since its last heartbeat, or since this leadership began.
    pub silent_ms: u64,
    /// Bytes of its disk.
    pub capacity_bytes: u64,
    /// Free bytes of its disk.
    pub available_bytes: u64,
    /// Bytes that its data takes.
    pub used_bytes: u64,
}

/// One region, or what is left of one whose newer neighbors are known already.
#[derive(Clone, Debug, Default)]
pub struct RegionView {
    /// The region, its leader and its silent peers.
    pub info: RegionInfo,
    /// Approximate bytes and keys, if the leader has reported them.
    pub size: Option<(u64, u64)>,
    /// Bytes of the commands that its leader proposed between its store's last two heartbeats.
    pub written_bytes: u64,
    /// The number of these commands.
    pub writes: u64,
    /// The number of reads in the same time.
    pub reads: u64,
    /// Keys that were written in the same time.
    pub written_keys: u64,
    /// Keys that were read in the same time.
    pub read_keys: u64,
    /// Bytes of keys and values that were read in the same time.
    pub read_bytes: u64,
    /// Whether this is the newest piece with this ID. Others have the keys that no newer region has claimed yet.
    pub newest: bool,
}
