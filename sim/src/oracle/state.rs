//! Replicas at the same applied index hold the same data, read straight from the nodes' engines.
//!
//! Source: state machine replication (Schneider 1990): the same commands in the same order give the same state.

use std::collections::BTreeMap;

use armilla::engine::{Cf, Read as _, SimHome, Visit};
use armilla::proto::armilla::raft::GroupState;
use armilla::types::GroupId;
use prost::Message as _;

use super::Violation;

/// What one store's engine says about its groups.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The store (as a node's number).
    pub node: u64,
    /// By group: its state as stored, and a hash of the data of its range.
    pub groups: BTreeMap<u64, (GroupState, u64)>,
}

impl Image {
    /// Reads a node's engine, as it is in memory now.
    ///
    /// # Errors
    /// When a group's state does not decode.
    pub fn read(node: u64, home: &SimHome, at: u64) -> Result<Image, Violation> {
        let view = home.view();
        let mut states = Vec::new();
        view.scan(Cf::Meta, b"g", b"h", &mut |key, value| {
            if key.len() == 9 {
                states.push(GroupState::decode(value));
            }
            Visit::More
        })
        .map_err(|e| Violation::new("replica-agreement", at, node, format!("engine does not read: {e}")))?;
        let mut groups = BTreeMap::new();
        for state in states {
            let state = state.map_err(|e| {
                Violation::new("replica-agreement", at, node, format!("a group's state does not decode: {e}"))
            })?;
            let Some(region) = &state.region else { continue };
            let (start, end): (&[u8], &[u8]) = (&region.start_key, &region.end_key);
            let hash = if region.id == GroupId::PD.0 {
                view.content_hash(&[(Cf::Pd, b"", b"")])
            } else {
                view.content_hash(&Cf::RAW.map(|cf| (cf, start, end)))
            };
            groups.insert(region.id, (state, hash));
        }
        Ok(Image { node, groups })
    }
}

/// Compares all replicas of each group.
pub fn check(images: &[Image], at: u64) -> Result<(), Violation> {
    // (group, applied index) to (node, hash).
    let mut seen: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for image in images {
        for (&group, (state, hash)) in &image.groups {
            let (other, expected) = *seen.entry((group, state.applied_index)).or_insert((image.node, *hash));
            if expected != *hash {
                let index = state.applied_index;
                let what = format!("group {group} at applied index {index}: data differs from node {other}'s");
                return Err(Violation::new("replica-agreement", at, image.node, what));
            }
        }
    }
    Ok(())
}

/// Whether every store is at the same applied index of every group that two of them have.
pub fn converged(images: &[Image]) -> bool {
    let mut applied: BTreeMap<u64, u64> = BTreeMap::new();
    images
        .iter()
        .flat_map(|image| &image.groups)
        .all(|(&group, (state, _))| *applied.entry(group).or_insert(state.applied_index) == state.applied_index)
}

/// Which groups' replicas stand at which index, where they differ.
pub fn behind(images: &[Image]) -> String {
    let mut applied: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for image in images {
        for (&group, (state, _)) in &image.groups {
            applied.entry(group).or_default().push((image.node, state.applied_index));
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
    //! Goal: a difference is found at equal indexes only.
    use super::*;

    fn image(node: u64, index: u64, hash: u64) -> Image {
        let state = GroupState { applied_index: index, ..GroupState::default() };
        Image { node, groups: BTreeMap::from([(2, (state, hash))]) }
    }

    #[test]
    fn differences() {
        assert!(check(&[image(1, 5, 7), image(2, 5, 7), image(3, 4, 6)], 0).is_ok());
        assert!(check(&[image(1, 5, 7), image(2, 5, 8)], 0).is_err());
        assert!(converged(&[image(1, 5, 7), image(2, 5, 7)]));
        assert!(!converged(&[image(1, 5, 7), image(2, 4, 7)]));
    }
}
