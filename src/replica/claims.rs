//! Ranges of keys on this store that belong to a group that does not run yet.
//!
//! The ranges of the groups that run are those of their views. **In** come groups that are about to begin; **out** goes
//! whether a range is free. **Never**: two groups that own a key on one store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::types::{GroupId, Region, region};

/// Returns whether two groups cannot both be on a store: they are the same, or their ranges overlap. The placement
/// driver's group has no keys.
pub fn contend(one: &Region, other: &Region) -> bool {
    let has_keys =
        |region: &Region| GroupId(region.id) != GroupId::PD || crate::mutant!("replica.pd-group-takes-all-keys");
    one.id == other.id || has_keys(one) && has_keys(other) && region::overlap(one, other)
}

/// Ranges that are reserved, by the group's ID. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<BTreeMap<u64, Region>>>);

impl Claims {
    /// Returns whether a reserved range overlaps that of `region`.
    pub fn overlap(&self, region: &Region) -> bool {
        self.0.lock().expect("no holder panics").values().any(|other| contend(other, region))
    }

    /// Returns whether a range is reserved for a group.
    pub fn is_of(&self, group: GroupId) -> bool {
        self.0.lock().expect("no holder panics").contains_key(&group.0)
    }

    /// Returns the groups whose reserved range overlaps that of `region`.
    pub fn overlapping(&self, region: &Region) -> Vec<GroupId> {
        let claims = self.0.lock().expect("no holder panics");
        claims.values().filter(|other| contend(other, region)).map(|other| GroupId(other.id)).collect()
    }

    /// Reserves a range that belongs to a group here: that of a newborn, or one that a snapshot replaces.
    pub fn reserve(&self, region: &Region) -> Claim {
        self.0.lock().expect("no holder panics").insert(region.id, region.clone());
        Claim { claims: self.clone(), region: region.clone() }
    }

    /// Reserves a range if no other reserved one overlaps it.
    pub fn claim(&self, region: &Region) -> Option<Claim> {
        let mut claims = self.0.lock().expect("no holder panics");
        if claims.values().any(|other| contend(other, region)) {
            return None;
        }
        claims.insert(region.id, region.clone());
        Some(Claim { claims: self.clone(), region: region.clone() })
    }
}

/// A reserved range, which is free again when this is dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    region: Region,
}

impl Claim {
    /// Returns the group's descriptor.
    pub fn region(&self) -> &Region {
        &self.region
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().expect("no holder panics").remove(&self.region.id);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a range is free exactly when no claim overlaps it. Method: by hand.
    use super::*;

    #[test]
    fn a_range_is_reserved_until_its_claim_is_dropped() {
        let region = |id, start: &'static str, end: &'static str| Region {
            id,
            start_key: start.into(),
            end_key: end.into(),
            ..Region::default()
        };
        let claims = Claims::default();
        let first = claims.claim(&region(11, "a", "m")).expect("free");
        assert!(claims.claim(&region(12, "l", "")).is_none() && claims.overlap(&region(13, "", "b")));
        let next = claims.claim(&region(12, "m", ""));
        assert!(next.is_some() && !claims.overlap(&region(13, "", "a")));
        drop(first);
        assert!(claims.claim(&region(14, "a", "b")).is_some());
        let _newborn = claims.reserve(&region(15, "a", "b"));
        assert!(claims.claim(&region(16, "a", "aa")).is_none());
        let pd = claims.claim(&region(GroupId::PD.0, "", ""));
        assert!(pd.is_some() && claims.claim(&region(GroupId::PD.0, "", "")).is_none(), "once");
        assert!(claims.claim(&region(17, "b", "c")).is_some(), "the placement driver's group has no keys");
    }
}
