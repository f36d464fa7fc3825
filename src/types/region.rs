//! Region descriptors and the questions asked of them.

use std::fmt;

use crate::proto::metapb;

pub use metapb::{Peer, Region, RegionEpoch};

/// One raft group: a data region (the group's id is the region's), or the placement driver's ([`GroupId::PD`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The placement driver's own group. Ids of regions, peers and stores come from PD's allocator and begin above it.
    pub const PD: GroupId = GroupId(1);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == GroupId::PD { write!(f, "pd") } else { write!(f, "{}", self.0) }
    }
}

/// Whether `key` lies in `[start, end)`; an empty `end` is plus infinity.
pub fn contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    key >= start && (end.is_empty() || key < end)
}

/// Whether `region` holds `key`.
pub fn holds(region: &Region, key: &[u8]) -> bool {
    contains(&region.start_key, &region.end_key, key)
}

/// Whether a range that ends at `end` (exclusive; empty: plus infinity) ends within `region`.
pub fn ends_by(region: &Region, end: &[u8]) -> bool {
    region.end_key.is_empty() || (!end.is_empty() && end <= &region.end_key[..])
}

/// The region's epoch; zeroes when the descriptor lacks one.
pub fn epoch(region: &Region) -> RegionEpoch {
    region.region_epoch.unwrap_or_default()
}

/// Whether `left`'s epoch is behind `right`'s in either part.
pub fn older(left: &Region, right: &Region) -> bool {
    let (left, right) = (epoch(left), epoch(right));
    left.version < right.version || left.conf_ver < right.conf_ver
}

/// The region's peer on a store.
pub fn peer_on(region: &Region, store: u64) -> Option<&Peer> {
    region.peers.iter().find(|peer| peer.store_id == store)
}

/// The region's peer of that id.
pub fn peer_by_id(region: &Region, peer: u64) -> Option<&Peer> {
    region.peers.iter().find(|p| p.id == peer)
}
