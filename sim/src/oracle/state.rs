//! Replicas at the same applied index hold the same data. The data is read directly from the nodes' engines.
//!
//! Source: state machine replication (Schneider 1990): the same commands in the same order give the same state.

use std::collections::{BTreeMap, BTreeSet};

use armilla::engine::{Cf, SimStorage};
use armilla::proto::armilla::raft::Merges;
use armilla::proto::metapb::PeerRole;
use armilla::replica::group_state::{self, GroupState};
use armilla::types::{GroupId, Region, region};

use super::Violation;

/// A group's state as stored, and a hash of the data in its range.
type Held = (GroupState, u64);

/// The state of all groups in one store's engine.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The store's node.
    pub node: u64,
    /// The life of its process, alive or dead, in which the image was taken.
    pub life: u64,
    /// By group: its state as stored, and a hash of the data in its range.
    pub groups: BTreeMap<u64, Held>,
}

impl Image {
    /// Reads the present content of a node's engine, flushed or not.
    ///
    /// # Errors
    /// If a group's state cannot be decoded.
    pub fn read(node: u64, home: &SimStorage, at: u64) -> Result<Image, Violation> {
        let view = home.view();
        let states = group_state::stored(&view).map_err(|e| {
            Violation::new("replica-agreement", at, node, format!("cannot read the groups' states: {e}"))
        })?;
        let mut groups = BTreeMap::new();
        for state in states {
            let region = &state.region;
            let (start, end): (&[u8], &[u8]) = (&region.start_key, &region.end_key);
            let hash = if region.id == GroupId::PD.0 {
                view.content_hash(&[(Cf::Pd, b"", b"")])
            } else {
                view.content_hash(&Cf::all_of_regions().map(|cf| (cf, start, end)).collect::<Vec<_>>())
            };
            groups.insert(region.id, (state.clone(), hash));
        }
        Ok(Image { node, life: 0, groups })
    }
}

/// Returns the highest safe point up to which a replica has removed old versions.
pub fn collected(images: &[Image]) -> u64 {
    let states = images.iter().flat_map(|image| image.groups.values());
    states.filter_map(|(state, _)| Some(state.merges.marks?.collected)).max().unwrap_or_default()
}

/// Compares all replicas of each group.
pub fn check(images: &[Image], at: u64) -> Result<(), Violation> {
    // By (group, applied index): the first node found there.
    let mut seen: BTreeMap<(u64, u64), (u64, &Held)> = BTreeMap::new();
    for image in images {
        for (&group, here) in &image.groups {
            let (state, hash) = here;
            let index = state.applied.0;
            let (other, (their_state, their_hash)) = *seen.entry((group, index)).or_insert((image.node, here));
            let differs = if their_hash != hash {
                "data"
            } else if their_state.region != state.region {
                "descriptor"
            } else if their_state.merges != state.merges {
                "state of merges"
            } else if their_state.applied.1 != state.applied.1 {
                "term"
            } else {
                continue;
            };
            let what = format!("group {group} at applied index {index}: {differs} differs from node {other}'s");
            return Err(Violation::new("replica-agreement", at, image.node, what));
        }
    }
    Ok(())
}

/// Returns whether all replicas of every group are at the same applied index.
pub fn converged(images: &[Image]) -> bool {
    let mut applied: BTreeMap<u64, u64> = BTreeMap::new();
    images
        .iter()
        .flat_map(|image| &image.groups)
        .all(|(&group, (state, _))| *applied.entry(group).or_insert(state.applied.0) == state.applied.0)
}

/// Describes the first peer of a newborn region that is on none of the nodes where its descriptor has one.
/// `node_of` has the nodes of the stores that still exist.
pub fn unborn(images: &[Image], node_of: &BTreeMap<u64, u64>) -> Option<String> {
    let states = images.iter().flat_map(|image| image.groups.values()).map(|(state, _)| &state.region);
    let mut missing = states.filter(|region| region.id != GroupId::PD.0).flat_map(|region| {
        let nodes = region.peers.iter().filter_map(|peer| node_of.get(&peer.store_id));
        nodes.map(move |node| (region.id, *node))
    });
    let holds =
        |group: u64, node: u64| images.iter().any(|image| image.node == node && image.groups.contains_key(&group));
    let (group, node) = missing.find(|(group, node)| !holds(*group, *node))?;
    Some(format!("region {group} was never born on node {node}"))
}

/// Describes a region that is not what it should be in the end: it does not have `replicas` voters and nothing else,
/// one of them is lost, it takes part in a merge or remembers one, or a peer is none of its group's members but still
/// has its data; the group of the placement driver is to have `pd_members`. If `zones` has the zones of the stores,
/// each group is to be in as many as possible. The images are of a cluster that has had time to come to rest.
pub fn unsettled(images: &[Image], replicas: usize, pd_members: usize, zones: &BTreeMap<u64, u64>) -> Option<String> {
    let mut newest: BTreeMap<u64, &Region> = BTreeMap::new();
    for (state, _) in images.iter().flat_map(|image| image.groups.values()) {
        let known = newest.entry(state.region.id).or_insert(&state.region);
        if region::older(known, &state.region) {
            *known = &state.region;
        }
    }
    for region in newest.values() {
        let is_pd = |region: &Region| region.id == GroupId::PD.0;
        let overlaps = |other: &&&Region| {
            other.id != region.id && !is_pd(region) && !is_pd(other) && region::overlap(other, region)
        };
        let replicas = if is_pd(region) { pd_members } else { replicas };
        if let Some(other) = newest.values().find(overlaps) {
            return Some(format!("regions {} and {} overlap", region.id, other.id));
        }
        let voters = region.peers.iter().filter(|peer| peer.role() == PeerRole::Voter).count();
        if voters != replicas || region.peers.len() != replicas {
            return Some(format!("region {} has the peers {:?} instead of {replicas} voters", region.id, region.peers));
        }
        let held = |id: u64| {
            let own = images.iter().filter_map(|image| image.groups.get(&region.id));
            own.map(|(state, _)| state.peer).any(|peer| peer == id)
        };
        if let Some(lost) = region.peers.iter().find(|peer| !held(peer.id)) {
            return Some(format!(
                "region {} counts on peer {} of store {}, which is lost",
                region.id, lost.id, lost.store_id
            ));
        }
        let of = |peer: &armilla::types::region::Peer| zones.get(&peer.store_id).copied();
        let (all, own): (BTreeSet<u64>, BTreeSet<u64>) =
            (zones.values().copied().collect(), region.peers.iter().filter_map(of).collect());
        if own.len() < replicas.min(all.len()) {
            let peers = &region.peers;
            return Some(format!("region {} has the peers {peers:?} in the zones {own:?} of {all:?}", region.id));
        }
    }
    for image in images {
        for (group, (state, _)) in &image.groups {
            let unmarked = Merges { marks: None, ..state.merges.clone() };
            if unmarked != Merges::default() {
                return Some(format!("region {group} on node {}: {:?}", image.node, state.merges));
            }
            if newest.get(group).is_some_and(|region| region::peer_by_id(region, state.peer).is_none()) {
                return Some(format!("node {} still has peer {} of region {group}", image.node, state.peer));
            }
        }
    }
    None
}

/// Describes the groups whose replicas have different applied indexes.
pub fn behind(images: &[Image]) -> String {
    let mut applied: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for image in images {
        for (&group, (state, _)) in &image.groups {
            applied.entry(group).or_default().push((image.node, state.applied.0));
        }
    }
    applied.retain(|_, at| at.iter().any(|(_, index)| *index != at[0].1));
    let show = |(group, at): (u64, Vec<(u64, u64)>)| {
        let at: Vec<String> = at.into_iter().map(|(node, index)| format!("node {node} at {index}")).collect();
        format!("group {group}: {}", at.join(", "))
    };
    applied.into_iter().map(show).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    //! Goal: replicas are compared only at equal indexes.
    use super::*;

    fn image(node: u64, index: u64, hash: u64) -> Image {
        let state = GroupState { applied: (index, 5), ..GroupState::default() };
        Image { node, life: 0, groups: BTreeMap::from([(2, (state, hash))]) }
    }

    #[test]
    fn differences() {
        assert!(check(&[image(1, 5, 7), image(2, 5, 7), image(3, 4, 6)], 0).is_ok());
        assert!(check(&[image(1, 5, 7), image(2, 5, 8)], 0).is_err());
        assert!(converged(&[image(1, 5, 7), image(2, 5, 7)]));
        assert!(!converged(&[image(1, 5, 7), image(2, 4, 7)]));
    }
}
