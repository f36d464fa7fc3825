//! Once a region stops changing, the placement driver reports its exact size.
//!
//! Source: none; splits, merges and balancing will rely on these numbers.

use std::collections::BTreeMap;

use armilla::engine::{Cf, SimStorage};
use armilla::proto::armilla::pd::RegionHeartbeat;
use armilla::replica::group_state;
use armilla::types::GroupId;

/// Returns the bytes of each region's pairs in a node's engine now, flushed or not; nothing if the regions cannot be
/// read.
pub fn held(home: &SimStorage) -> BTreeMap<u64, u64> {
    let view = home.view();
    let regions = group_state::stored(&view).unwrap_or_default().into_iter().map(|state| state.region);
    let bytes = |start: &[u8], end: &[u8]| {
        Cf::all_of_regions().filter_map(|cf| view.summary(cf, start, end).ok()).map(|summary| summary.bytes).sum()
    };
    regions
        .filter(|region| region.id != GroupId::PD.0)
        .map(|region| (region.id, bytes(&region.start_key, &region.end_key)))
        .collect()
}

/// Describes the first region whose reported size is wrong or missing, if there is one.
pub fn wrong(held: &BTreeMap<u64, u64>, said: &[RegionHeartbeat]) -> Option<String> {
    let said: BTreeMap<u64, u64> =
        said.iter().filter_map(|heard| Some((heard.region.as_ref()?.id, heard.approximate_bytes))).collect();
    held.iter().find_map(|(region, bytes)| match said.get(region) {
        Some(told) if told == bytes => None,
        Some(told) => Some(format!("the placement driver says that region {region} has {told} bytes, it has {bytes}")),
        None => Some(format!("the placement driver has not heard of region {region}")),
    })
}

#[cfg(test)]
mod tests {
    //! Goal: a wrong size and a missing region are found. Method: handmade reports.
    use armilla::types::Region;

    use super::*;

    #[test]
    fn sizes() {
        let heard = |id, approximate_bytes| RegionHeartbeat {
            region: Some(Region { id, ..Region::default() }),
            approximate_bytes,
            ..RegionHeartbeat::default()
        };
        let held = BTreeMap::from([(4, 100), (8, 0)]);
        assert_eq!(wrong(&held, &[heard(4, 100), heard(8, 0), heard(12, 5)]), None);
        assert!(wrong(&held, &[heard(4, 100), heard(8, 7)]).unwrap().contains("region 8 has 7 bytes, it has 0"));
        assert!(wrong(&held, &[heard(4, 100)]).unwrap().contains("not heard of region 8"));
    }
}
