//! Finds the region that holds a key, for a placement driver that serves far more lookups than regions change.
//!
//! The index is a hint, built from the replicated state and never updated: its result counts only if the region that it
//! names still holds the key; otherwise the state's own map is used. A stale index therefore costs time but never gives
//! a wrong result. The index is rebuilt when the number of missed lookups reaches a quarter of the number of regions;
//! rebuilding costs about as much as those misses.

use armilla_arch::KeyIndex;
use bytes::Bytes;

use super::state::PdState;
use crate::types::{Region, region};

/// The hint; see the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    starts: KeyIndex,
    /// The start keys.
    keys: Vec<Bytes>,
    missed: usize,
}

impl Lookup {
    /// Returns the region that holds `key`.
    pub fn region_of<'s>(&mut self, state: &'s PdState, key: &[u8]) -> Option<&'s Region> {
        let hint = self.starts.find(key).and_then(|at| state.region_at(&self.keys[at]));
        match hint.filter(|region| region::holds(region, key)) {
            Some(region) => Some(region),
            None => {
                self.miss(state);
                state.region_of(key)
            }
        }
    }

    /// Returns the region before the one that holds `key`.
    pub fn region_before<'s>(&mut self, state: &'s PdState, key: &[u8]) -> Option<&'s Region> {
        let here = &self.region_of(state, key)?.start_key;
        if here.is_empty() {
            return None;
        }
        let hint = self.starts.find_below(here).and_then(|at| state.region_at(&self.keys[at]));
        match hint.filter(|region| region.end_key == *here) {
            Some(region) => Some(region),
            None => {
                self.miss(state);
                state.region_before(key)
            }
        }
    }

    fn miss(&mut self, state: &PdState) {
        self.missed += 1;
        if self.missed * 4 >= state.region_count() {
            self.missed = 0;
            self.keys = state.regions().map(|region| region.start_key.clone()).collect();
            // The start keys are those of an ordered map; if they were not in order, there would be no hint.
            self.starts = KeyIndex::new(state.regions().map(|region| &region.start_key)).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::region::{Peer, RegionEpoch};

    fn state(boundaries: &[u32], version: u64) -> PdState {
        let key = |boundary: u32| Bytes::copy_from_slice(&boundary.to_be_bytes());
        let mut starts = vec![Bytes::new()];
        starts.extend(boundaries.iter().map(|boundary| key(*boundary)));
        let regions = starts.iter().enumerate().map(|(at, start)| Region {
            id: 100 + at as u64,
            start_key: start.clone(),
            end_key: starts.get(at + 1).cloned().unwrap_or_default(),
            region_epoch: Some(RegionEpoch { conf_ver: 1, version }),
            peers: vec![Peer { id: 1, store_id: 1, ..Default::default() }],
            ..Default::default()
        });
        crate::pd::state::restore(10_000, regions.collect()).expect("consistent regions")
    }

    /// Goal: the hint never changes a result, whether fresh or stale, and it is used once it is built. Method: regions
    /// whose boundaries move under it; every key around every boundary is compared with the state's own map.
    #[test]
    fn answers_as_the_map_does() {
        let mut lookup = Lookup::default();
        let shapes: [Vec<u32>; 5] =
            [vec![], vec![7], (1..200).map(|n| n * 5).collect(), (1..200).map(|n| n * 7).collect(), vec![500]];
        for (version, boundaries) in shapes.iter().enumerate() {
            let state = state(boundaries, version as u64 + 1);
            for round in 0..3 {
                for key in (0..1500u32).map(u32::to_be_bytes).map(|key| key.to_vec()).chain([vec![], vec![0xff; 9]]) {
                    assert_eq!(lookup.region_of(&state, &key), state.region_of(&key), "{key:?} in round {round}");
                    assert_eq!(
                        lookup.region_before(&state, &key),
                        state.region_before(&key),
                        "{key:?} in round {round}"
                    );
                }
            }
            assert_eq!(lookup.keys.len(), state.region_count(), "the index was built for these regions");
            let missed = lookup.missed;
            assert!(lookup.region_of(&state, &[0, 0, 0, 3]).is_some());
            assert_eq!(lookup.missed, missed, "the index was used");
        }
    }
}
