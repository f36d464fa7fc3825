//! Regions cover all keys exactly once and cut no versions of one key apart, epochs never go back, and PD's regions
//! agree with the stores'.
//!
//! Source: the contract of TiKV's region epochs (`metapb.RegionEpoch`), which clients route by.

use std::collections::{BTreeMap, BTreeSet};

use armilla::codec::bytes;
use armilla::types::{GroupId, Region, region::epoch};

use super::Violation;
use super::ranges::overlap;
use super::state::Image;

/// Versions and `conf_ver` of regions, by region.
type Epochs = BTreeMap<u64, (u64, u64)>;

/// Follows the descriptors on all stores.
#[derive(Debug, Default)]
pub struct Regions {
    /// By node: the life of its process, and the epoch of each region as last seen then, (version, conf_ver).
    seen: BTreeMap<u64, (u64, Epochs)>,
    /// By region: the newest descriptor.
    newest: BTreeMap<u64, Region>,
}

fn order(region: &Region) -> (u64, u64) {
    let epoch = epoch(region);
    (epoch.version, epoch.conf_ver)
}

impl Regions {
    /// Judges the regions that the stores hold now. `merged` are those that became part of others. While the first
    /// regions are being created (`complete` is false),
    /// they need not cover all keys.
    pub fn observe(
        &mut self,
        images: &[Image],
        merged: &BTreeSet<u64>,
        complete: bool,
        at: u64,
    ) -> Result<(), Violation> {
        for image in images {
            apart(image, at)?;
            let (life, seen) = self.seen.entry(image.node).or_default();
            if *life != image.life {
                // A change of a range that was not durable is made again when it is known as committed again.
                (*life, *seen) = (image.life, BTreeMap::new());
            }
            for (&group, (state, _)) in image.groups.iter().filter(|(group, _)| **group != GroupId::PD.0) {
                let region = &state.region;
                self.one(image.node, group, region, at)?;
            }
        }
        // A target whose node crashed may have to apply the merge again.
        let taken = |region: &Region| {
            self.newest.values().any(|other| overlap(other, region) && order(other).0 > order(region).0)
        };
        let gone = self.newest.iter().filter(|(group, region)| merged.contains(group) && taken(region));
        let gone: Vec<u64> = gone.map(|(group, _)| *group).collect();
        self.newest.retain(|group, _| !gone.contains(group));
        if complete { covers(self.newest.values(), false, at) } else { Ok(()) }
    }

    fn one(&mut self, node: u64, group: u64, region: &Region, at: u64) -> Result<(), Violation> {
        let now = order(region);
        if bytes::decode_prefix(&region.start_key).is_ok_and(|(_, rest)| !rest.is_empty()) {
            let what = format!("region {group} begins among the versions of one key, at {:?}", region.start_key);
            return Err(Violation::new("regions", at, node, what));
        }
        let (_, seen) = self.seen.entry(node).or_default();
        let before = seen.insert(group, now).unwrap_or_default();
        if now < before {
            let what = format!("region {group}: epoch {before:?} went back to {now:?}");
            return Err(Violation::new("regions", at, node, what));
        }
        let newest = self.newest.entry(group).or_insert_with(|| region.clone());
        if order(newest) == now && newest != region {
            let what = format!("region {group}: two descriptors of epoch {now:?}");
            return Err(Violation::new("regions", at, node, what));
        }
        if order(newest) < now {
            *newest = region.clone();
        }
        Ok(())
    }

    /// Compares the stores' regions with the placement driver's, once the cluster is idle.
    pub fn compare(&self, pd: &[Region], at: u64) -> Result<(), Violation> {
        covers(pd.iter(), true, at)?;
        for region in pd {
            if self.newest.get(&region.id).is_none_or(|newest| newest != region) {
                let what =
                    format!("region {}: the placement driver shows another descriptor than the stores", region.id);
                return Err(Violation::new("regions", at, 0, what));
            }
        }
        if pd.len() != self.newest.len() {
            let what = format!("the placement driver shows {} regions, the stores {}", pd.len(), self.newest.len());
            return Err(Violation::new("regions", at, 0, what));
        }
        Ok(())
    }
}

/// Judges whether the regions on one store have no key in common.
fn apart(image: &Image, at: u64) -> Result<(), Violation> {
    let states = image.groups.iter().filter(|(group, _)| **group != GroupId::PD.0);
    let mut sorted: Vec<&Region> = states.map(|(_, (state, _))| &state.region).collect();
    sorted.sort_by(|a, b| a.start_key.cmp(&b.start_key));
    match sorted.windows(2).find(|pair| overlap(pair[0], pair[1])) {
        None => Ok(()),
        Some(pair) => {
            let what = format!("regions {} and {} of one store have keys in common", pair[0].id, pair[1].id);
            Err(Violation::new("regions", at, image.node, what))
        }
    }
}

/// Judges whether the regions cover all keys. Unless `exactly`, a key may be in two of them if one is older: a store
/// that crashed has lost a split that another store has made durable with a snapshot of the newborn, and makes it again
/// from its log. No region at all is allowed: there is no cluster yet.
fn covers<'a>(regions: impl Iterator<Item = &'a Region>, exactly: bool, at: u64) -> Result<(), Violation> {
    let mut sorted: Vec<&Region> = regions.collect();
    sorted.sort_by(|a, b| a.start_key.cmp(&b.start_key));
    let Some(first) = sorted.first() else { return Ok(()) };
    let fail = |what: String| Err(Violation::new("regions", at, 0, what));
    if !first.start_key.is_empty() {
        return fail(format!("no region covers the keys before {:?}", first.start_key));
    }
    let version = |region: &Region| armilla::types::region::epoch(region).version;
    // The region that reaches farthest of those before.
    let mut farthest = *first;
    for region in &sorted[1..] {
        let ends = |region: &Region| !region.end_key.is_empty();
        let (gap, both) = if ends(farthest) {
            (farthest.end_key < region.start_key, farthest.end_key > region.start_key)
        } else {
            (false, true)
        };
        if gap || both && (exactly || version(farthest) == version(region)) {
            return fail(format!(
                "region {} ends at {:?}, region {} begins at {:?}",
                farthest.id, farthest.end_key, region.id, region.start_key
            ));
        }
        if ends(farthest) && (!ends(region) || region.end_key > farthest.end_key) {
            farthest = region;
        }
    }
    if !farthest.end_key.is_empty() {
        return fail(format!("no region covers the keys from {:?}", farthest.end_key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: gaps, overlaps and epochs that go back are found.
    use super::*;
    use ::bytes::Bytes;
    use armilla::replica::group_state::GroupState;
    use armilla::types::region::RegionEpoch;

    fn region(id: u64, start: &str, end: &str, version: u64) -> Region {
        let key = |s: &str| Bytes::copy_from_slice(s.as_bytes());
        let region_epoch = Some(RegionEpoch { version, conf_ver: 1 });
        Region { id, start_key: key(start), end_key: key(end), region_epoch, ..Region::default() }
    }
    fn image(regions: &[Region]) -> Vec<Image> {
        let state = |region: &Region| GroupState { region: region.clone(), ..GroupState::default() };
        vec![Image { node: 1, life: 1, groups: regions.iter().map(|r| (r.id, (state(r), 0))).collect() }]
    }

    #[test]
    fn cover() {
        let judge = |regions: &[Region]| Regions::default().observe(&image(regions), &BTreeSet::new(), true, 0).is_ok();
        assert!(judge(&[]));
        assert!(judge(&[region(2, "", "m", 1), region(3, "m", "", 1)]));
        assert!(!judge(&[region(2, "", "m", 1), region(3, "n", "", 1)]));
        assert!(!judge(&[region(2, "", "m", 1), region(3, "l", "", 1)]));
        assert!(!judge(&[region(2, "a", "", 1)]));
        assert!(!judge(&[region(2, "", "z", 1)]));
    }

    #[test]
    fn versions_stay_together() {
        let judge = |boundary: &[u8]| {
            let boundary = Bytes::copy_from_slice(boundary);
            let left = Region { end_key: boundary.clone(), ..region(2, "", "", 1) };
            let right = Region { start_key: boundary, ..region(3, "", "", 1) };
            Regions::default().observe(&image(&[left, right]), &BTreeSet::new(), true, 0).is_ok()
        };
        let encoded = bytes::encode(b"key");
        assert!(judge(&encoded));
        assert!(!judge(&[&encoded[..], b"~"].concat()));
    }

    #[test]
    fn epochs() {
        let mut regions = Regions::default();
        assert!(regions.observe(&image(&[region(2, "", "", 2)]), &BTreeSet::new(), true, 0).is_ok());
        assert!(regions.observe(&image(&[region(2, "", "", 1)]), &BTreeSet::new(), true, 0).is_err());
        let mut regions = Regions::default();
        assert!(regions.observe(&image(&[region(2, "", "", 2)]), &BTreeSet::new(), true, 0).is_ok());
        assert!(regions.compare(&[region(2, "", "", 2)], 0).is_ok());
        assert!(regions.compare(&[region(2, "", "", 1)], 0).is_err());
    }
}
