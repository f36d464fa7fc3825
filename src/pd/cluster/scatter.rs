//! Spreads the leaders and the replicas of some regions evenly over the stores, as clients ask for regions that they
//! have just split.
//!
//! Only the regions that were asked for are counted, those of earlier requests of the same group with them: a store may
//! have many other regions. **Never**: a move of a region that is not whole, or takes part in something else.

use std::collections::BTreeMap;

use super::Cluster;
use crate::pd::schedule::balance::{self, Placement};
use crate::pd::state::{self, PdState};
use crate::proto::metapb::PeerRole;
use crate::types::limits::{SCATTER_GROUPS_MAX, SCATTERED_MAX};
use crate::types::{Region, region};

/// What was decided for a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scattered {
    /// The region's ID.
    pub region: u64,
    /// The store that is to lead it.
    pub leader: u64,
    /// The store that gives up a replica, and the one that gets it.
    pub moved: Option<(u64, u64)>,
}

/// Leaders by store, of the regions that were scattered in each group; the groups in the order of their last use.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(Vec<(String, BTreeMap<u64, u64>)>);

impl Groups {
    /// Returns the counts of a group, which becomes the one that was used last.
    fn of(&mut self, group: &str) -> &mut BTreeMap<u64, u64> {
        let known = self.0.iter().position(|(name, _)| name == group);
        let entry = known.map(|at| self.0.remove(at)).unwrap_or_else(|| (group.to_owned(), BTreeMap::new()));
        if self.0.len() >= SCATTER_GROUPS_MAX {
            self.0.remove(0);
        }
        self.0.push(entry);
        &mut self.0.last_mut().expect("it was just added").1
    }
}

impl Cluster {
    /// Begins to scatter regions. Returns what was decided for each of those that could be, and the IDs of the others.
    pub fn scatter(&mut self, state: &PdState, ids: &[u64], group: &str, now_ms: u64) -> (Vec<Scattered>, Vec<u64>) {
        let fit: Vec<u64> = state
            .stores()
            .filter(|record| state::is_up(record))
            .map(state::store_id)
            .filter(|id| self.alive(*id, now_ms) && self.unfit(*id, now_ms).is_none())
            .collect();
        let whole = |region: &&Region| {
            let votes = region.peers.iter().all(|peer| peer.role() == PeerRole::Voter);
            let free = !self.is_changing(region.id) && !self.is_being_merged(region.id);
            votes && free && self.leader_of(region).is_some()
        };
        let regions: Vec<Region> =
            ids.iter().take(SCATTERED_MAX).filter_map(|id| state.region(*id)).filter(whole).cloned().collect();
        let failed: Vec<u64> = ids.iter().copied().filter(|id| regions.iter().all(|one| one.id != *id)).collect();
        // Replicas first: a store that gets one may lead later.
        let mut counts: BTreeMap<u64, u64> = fit.iter().map(|store| (*store, 0)).collect();
        for peer in regions.iter().flat_map(|region| &region.peers) {
            if let Some(count) = counts.get_mut(&peer.store_id) {
                *count += 1;
            }
        }
        let placement = |region: &Region| Placement {
            region: region.id,
            stores: region.peers.iter().map(|peer| peer.store_id).collect(),
            leader: self.leader_of(region).map_or(0, |leader| leader.store_id),
            fixed: Vec::new(),
        };
        let placements: Vec<Placement> = regions.iter().map(placement).collect();
        let weights = &self.in_force.region_weights;
        let moved = balance::propose(counts, &placements, &self.places(state), weights, regions.len());
        let moved: BTreeMap<u64, (u64, u64)> = moved.iter().map(|one| (one.region, (one.from, one.to))).collect();
        for (id, (from, to)) in &moved {
            if let Some(region) = regions.iter().find(|region| region.id == *id) {
                self.begin_move(region, *from, *to, now_ms);
            }
        }
        let mut leaders = std::mem::take(self.scattered.of(group));
        let mut scattered = Vec::new();
        for region in &regions {
            let own = self.leader_of(region).map_or(0, |leader| leader.store_id);
            let moved = moved.get(&region.id).copied();
            let stays = |store: u64| moved.is_none_or(|(from, _)| from != store);
            let voters = region.peers.iter().map(|peer| peer.store_id);
            let may_lead = |store: u64| fit.contains(&store) && self.refuses_leaders(store, now_ms).is_none();
            let best = voters.filter(|store| may_lead(*store) && stays(*store));
            let share =
                |store: u64| self.in_force.leader_weights.share(store, leaders.get(&store).copied().unwrap_or(0));
            let best = best.min_by_key(|store| (share(*store), *store != own, *store));
            let leader = best.unwrap_or(own);
            *leaders.entry(leader).or_default() += 1;
            if leader != own {
                self.end_order(region.id, None, false, "replaced by a scatter".into());
                self.order(region.id, own, leader, now_ms);
            }
            scattered.push(Scattered { region: region.id, leader, moved });
        }
        *self.scattered.of(group) = leaders;
        (scattered, failed)
    }

    /// Returns whether a region is where a scatter wants it.
    pub fn is_scattered(&self, region: &Region, leader: u64, moved: Option<(u64, u64)>) -> bool {
        let arrived = moved.is_none_or(|(from, to)| {
            region::peer_on(region, to).is_some_and(|peer| peer.role() == PeerRole::Voter)
                && region::peer_on(region, from).is_none()
        });
        arrived && self.leader_of(region).is_some_and(|peer| peer.store_id == leader)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: leaders and replicas of the regions asked for are spread evenly, whatever else the stores have. Method: a
    //! view of four stores, filled by hand.
    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{heard, region, state};
    use crate::types::version;

    #[test]
    fn regions_of_one_store_are_spread() {
        let key = |at: usize| if at == 0 || at == 8 { String::new() } else { format!("k{at}") };
        let regions: Vec<Region> =
            (0..8).map(|at| region(20 + at as u64, &key(at), &key(at + 1), &[1, 2, 3])).collect();
        let state = state(regions, version::PROTOCOL);
        let mut cluster = heard(&state, ClusterOptions::default());
        let ids: Vec<u64> = (20..28).chain([999]).collect();
        let (scattered, failed) = cluster.scatter(&state, &ids, "table", 60_000);
        assert_eq!(failed, [999], "there is no such region");
        let mut leaders: BTreeMap<u64, u64> = BTreeMap::new();
        scattered.iter().for_each(|one| *leaders.entry(one.leader).or_default() += 1);
        assert!(leaders.values().all(|count| (2..=3).contains(count)) && leaders.len() == 3, "{leaders:?}");
        let moved = scattered.iter().filter(|one| one.moved.is_some_and(|(_, to)| to == 4)).count();
        assert_eq!(moved, 6, "the fourth store gets its share");
        assert!(scattered.iter().all(|one| one.moved.is_none_or(|(from, _)| from != one.leader)));
        // They are being moved now.
        assert_eq!(cluster.scatter(&state, &ids[..8], "table", 60_000).1.len(), 6);
    }
}
