//! Splits a descriptor into those of its pieces. Pure: every replica gets the same result.
//!
//! **In** come a descriptor and keys with fresh IDs; **out** come the descriptors of the pieces, or the reason why
//! the region cannot be split there. **Never**: a key in two pieces or in none; a piece whose epoch is not above that
//! of the region that had its keys before.

use crate::proto::armilla::raft::{NewRegion, Split};
use crate::types::limits::SPLIT_KEYS_MAX;
use crate::types::region::{Peer, RegionEpoch};
use crate::types::{Region, region};

use super::members;

/// Returns the pieces of `region`, in order of their keys. The last one keeps the region's ID and peers. All have the
/// region's version plus the number of keys.
///
/// # Errors
/// The reason, as a sentence: a key is not strictly inside the region or not above the one before it, IDs are missing
/// or used twice, or the region's members are changing.
pub fn pieces(region: &Region, split: &Split) -> Result<Vec<Region>, String> {
    check_keys(region, &split.keys)?;
    check_ids(region, split)?;
    let epoch = region::epoch(region);
    let grows = if crate::mutant!("region.split-keeps-version") { 0 } else { split.keys.len() as u64 };
    let epoch = Some(RegionEpoch { version: epoch.version + grows, ..epoch });
    let mut start = region.start_key.clone();
    let mut pieces = Vec::with_capacity(split.keys.len() + 1);
    for (key, NewRegion { id, peer_ids }) in split.keys.iter().zip(&split.regions) {
        let peer = |(peer, id): (&Peer, &u64)| Peer { id: *id, ..*peer };
        pieces.push(Region {
            id: *id,
            start_key: std::mem::replace(&mut start, key.clone()),
            end_key: key.clone(),
            region_epoch: epoch,
            peers: region.peers.iter().zip(peer_ids).map(peer).collect(),
            ..Region::default()
        });
    }
    pieces.push(Region { start_key: start, region_epoch: epoch, ..region.clone() });
    Ok(pieces)
}

fn check_keys(region: &Region, keys: &[bytes::Bytes]) -> Result<(), String> {
    if keys.is_empty() || keys.len() > SPLIT_KEYS_MAX {
        return Err(format!("{} split keys; a command has 1 to {SPLIT_KEYS_MAX}", keys.len()));
    }
    let mut before = &region.start_key;
    for key in keys {
        if key <= before || !region::holds(region, key) {
            return Err(format!(
                "split key {} is not strictly inside region {}, or not above the key before it",
                key.escape_ascii(),
                region.id
            ));
        }
        before = key;
    }
    Ok(())
}

fn check_ids(region: &Region, split: &Split) -> Result<(), String> {
    if split.regions.len() != split.keys.len() {
        return Err(format!("{} split keys with {} new regions", split.keys.len(), split.regions.len()));
    }
    if members::is_joint(region) {
        return Err(format!("region {} is not split while its members change", region.id));
    }
    let mut used: Vec<u64> = region.peers.iter().map(|peer| peer.id).chain([0, region.id]).collect();
    for NewRegion { id, peer_ids } in &split.regions {
        if peer_ids.len() != region.peers.len() {
            return Err(format!(
                "region {id} has {} peers, region {} has {}",
                peer_ids.len(),
                region.id,
                region.peers.len()
            ));
        }
        used.extend(peer_ids.iter().chain([id]));
    }
    used.sort_unstable();
    match used.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("id {} is used twice", pair[0])),
        None => Ok(()),
    }
}
