//! Which regions are looked at with a heartbeat.
//!
//! To look at all regions takes time in proportion to their number. With every heartbeat only those are looked at that
//! have changed, or have something under way; all of them now and then, so that nothing is overlooked: after a time in
//! proportion to their number, so that the part of a core that this takes does not grow with it.
//!
//! **In** come reports of regions and the time; **out** go the regions to look at. **Never**: a region that is not
//! looked at although something about it has changed; one that waits for its look forever.

use std::collections::{BTreeMap, BTreeSet};

use super::Cluster;
use crate::pd::state::PdState;
use crate::types::Region;

/// The regions to look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Patrol {
    /// By store: when all regions that it leads are looked at.
    all_at_ms: BTreeMap<u64, u64>,
    /// Regions that have changed since they were last found to need nothing.
    restless: BTreeSet<u64>,
}

impl Patrol {
    /// Notes that a region has changed.
    pub(super) fn changed(&mut self, region: u64) {
        self.restless.insert(region);
    }

    /// Looks at all regions that `store` leads with its next heartbeat: there was more to do than at once.
    pub(super) fn again(&mut self, store: u64) {
        self.all_at_ms.remove(&store);
    }

    /// Notes that a region needs nothing.
    pub(super) fn settled(&mut self, region: u64) {
        self.restless.remove(&region);
    }
}

impl Cluster {
    /// Returns the time between two looks at all regions.
    pub(super) fn patrol_ms(&self, state: &PdState) -> u64 {
        self.options.patrol_us_per_region * state.region_count() as u64 / 1000
    }

    /// Returns the regions to look at with a heartbeat of `store`: all, or those about which something may have to be
    /// done at once.
    pub(super) fn look_at<'s>(&mut self, state: &'s PdState, store: u64, now_ms: u64) -> Vec<&'s Region> {
        let next_ms = now_ms + self.patrol_ms(state);
        let all_at_ms = self.patrol.all_at_ms.entry(store).or_default();
        if now_ms >= *all_at_ms {
            *all_at_ms = next_ms;
            return state.regions().collect();
        }
        crate::reach!("pd.only-restless-regions");
        let moving = self.moves.keys().chain(self.asked.keys()).chain(self.learners.keys());
        let merging = self.merges.iter().flat_map(|(source, merge)| [source, &merge.target]);
        let ids: BTreeSet<u64> = self.patrol.restless.iter().chain(moving).chain(merging).copied().collect();
        self.patrol.restless.retain(|id| state.region(*id).is_some());
        ids.into_iter().filter_map(|id| state.region(id)).collect()
    }

    /// Returns whether `from` leads enough regions that one of these stores should lead one of them. Orders that are
    /// under way are not counted.
    pub(super) fn is_uneven(&self, from: u64, stores: &[u64]) -> bool {
        let mut counts: BTreeMap<u64, u64> = stores.iter().map(|store| (*store, 0)).collect();
        for heard in self.regions.values() {
            if let Some(count) = counts.get_mut(&heard.leader.store_id) {
                *count += 1;
            }
        }
        let Some(more) = counts.get(&from).copied() else { return false };
        let weights = &self.in_force.leader_weights;
        counts.iter().any(|(to, fewer)| *to != from && weights.moves((from, more), (*to, *fewer)))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what has changed is looked at with the next heartbeat, the rest when its time has come. Method: two
    //! regions led by one store, and a look at all regions every ten seconds.
    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{SETTLED_MS, heard, region, report, state};
    use crate::proto::armilla::pd::{RegionHeartbeat, StoreHeartbeatRequest};
    use crate::types::version;

    #[test]
    fn changed_regions_do_not_wait() {
        let state = state(vec![region(20, "", "m", &[1, 2, 3]), region(21, "m", "", &[1, 2, 3])], version::PROTOCOL);
        let options = ClusterOptions { patrol_us_per_region: 5_000_000, ..ClusterOptions::default() };
        let mut cluster = heard(&state, options);
        let ids = |cluster: &mut Cluster, now_ms| -> Vec<u64> {
            cluster.look_at(&state, 1, now_ms).iter().map(|region| region.id).collect()
        };
        assert_eq!(ids(&mut cluster, SETTLED_MS), [20, 21], "all at first");
        assert_eq!(ids(&mut cluster, SETTLED_MS + 1), [20, 21], "they were reported for the first time");
        [20, 21].into_iter().for_each(|id| cluster.patrol.settled(id));
        report(&mut cluster, &state, 0, 7, SETTLED_MS + 2);
        assert_eq!(ids(&mut cluster, SETTLED_MS + 3), [0; 0], "another size is no change");
        let leader = state.region(21).unwrap().peers[1];
        let led =
            RegionHeartbeat { region: state.region(21).cloned(), leader: Some(leader), term: 7, ..Default::default() };
        let request = StoreHeartbeatRequest { store_id: 2, regions: vec![led], ..Default::default() };
        cluster.heartbeat(request, &state, SETTLED_MS + 4);
        assert_eq!(ids(&mut cluster, SETTLED_MS + 5), [21]);
        assert_eq!(ids(&mut cluster, SETTLED_MS + 10_000), [20, 21], "now and then all");
        cluster.patrol.again(1);
        assert_eq!(ids(&mut cluster, SETTLED_MS + 10_001), [20, 21], "more was left than could be done at once");
    }

    #[test]
    fn what_is_even_is_known_without_a_look() {
        let state = state(vec![region(20, "", "m", &[1, 2, 3]), region(21, "m", "", &[1, 2, 3])], version::PROTOCOL);
        let cluster = heard(&state, ClusterOptions::default());
        assert!(cluster.is_uneven(1, &[1, 2]) && !cluster.is_uneven(2, &[1, 2]) && !cluster.is_uneven(1, &[2, 3]));
        assert!(!cluster.is_uneven(1, &[1]), "there is no other store");
    }
}
