//! Region descriptors, and questions about them.

use std::fmt;

use crate::proto::metapb;

pub use metapb::{Peer, Region, RegionEpoch};

/// The id of a raft group: a data region's (equal to the region's id), or the placement driver's ([`GroupId::PD`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The placement driver's own group. PD allocates the ids of regions, peers and stores above it.
    pub const PD: GroupId = GroupId(1);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == GroupId::PD { write!(f, "pd") } else { write!(f, "{}", self.0) }
    }
}

/// Returns whether a region has keys in `[start, end)`; an empty end is plus infinity.
pub fn touches(region: &Region, start: &[u8], end: &[u8]) -> bool {
    (end.is_empty() || region.start_key[..] < *end) && (region.end_key.is_empty() || *start < region.end_key[..])
}

/// Returns whether two regions have a key in common.
pub fn overlap(left: &Region, right: &Region) -> bool {
    let begins_before_end = |one: &Region, other: &Region| other.end_key.is_empty() || one.start_key < other.end_key;
    begins_before_end(left, right) && begins_before_end(right, left)
}

/// Returns whether a region ends where the other one begins. An empty end is plus infinity, where nothing begins.
pub fn meets(left: &Region, right: &Region) -> bool {
    !left.end_key.is_empty() && left.end_key == right.start_key
}

/// Returns whether two regions are neighbours: one ends where the other begins.
pub fn adjoin(one: &Region, other: &Region) -> bool {
    meets(one, other) || meets(other, one)
}

/// Returns a region's descriptor with the shortest range that has those of both.
pub fn hull(region: &Region, other: &Region) -> Region {
    let start_key = region.start_key.clone().min(other.start_key.clone());
    let ends = region.end_key.is_empty() || other.end_key.is_empty();
    let end_key = if ends { bytes::Bytes::new() } else { region.end_key.clone().max(other.end_key.clone()) };
    Region { start_key, end_key, ..region.clone() }
}

/// Returns whether `key` lies in `[start, end)`; an empty `end` is plus infinity.
pub fn contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    key >= start && (end.is_empty() || key < end)
}

/// Returns whether `key` lies in `region`.
pub fn holds(region: &Region, key: &[u8]) -> bool {
    contains(&region.start_key, &region.end_key, key)
}

/// Returns whether a range that ends at `end` (exclusive; empty is plus infinity) ends within `region`.
pub fn ends_by(region: &Region, end: &[u8]) -> bool {
    region.end_key.is_empty() || (!end.is_empty() && end <= &region.end_key[..])
}

/// Returns the region's epoch, or zeroes if the descriptor has none.
pub fn epoch(region: &Region) -> RegionEpoch {
    region.region_epoch.unwrap_or_default()
}

/// Returns whether `left`'s epoch is behind `right`'s in the version or in the configuration version.
pub fn older(left: &Region, right: &Region) -> bool {
    let (left, right) = (epoch(left), epoch(right));
    left.version < right.version || left.conf_ver < right.conf_ver
}

/// Returns the region's peer on `store`.
pub fn peer_on(region: &Region, store: u64) -> Option<&Peer> {
    region.peers.iter().find(|peer| peer.store_id == store)
}

/// Returns the region's peer with the id `peer`.
pub fn peer_by_id(region: &Region, peer: u64) -> Option<&Peer> {
    region.peers.iter().find(|p| p.id == peer)
}
