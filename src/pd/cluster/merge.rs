//! Regions that are to become part of a neighbour.
//!
//! An order is not replicated, like a move of a replica. First the source's replicas move to the target's stores; then
//! the source's leader is told with its heartbeats, until the region is gone. **Never**: an order while a store that
//! has one of the peers is silent: the source would be frozen until it gives up.

use std::collections::BTreeSet;

use super::moves::Move;
use super::{Checker, Cluster};
use crate::codec::keyspace;
use crate::pd::schedule::merge::{Candidate, Limits, propose};
use crate::pd::state::{self, PdState};
use crate::proto::armilla::pd::MergeOrder;
use crate::proto::metapb::PeerRole;
use crate::types::limits::REPLICA_MOVE_TIME_MAX;
use crate::types::{Api, Region, region, version};

/// The time between two looks for regions to merge, which take time with the number of regions.
const LOOK_MS: u64 = 1000;

/// The load of a region is known after this many reports.
const LOADS_KNOWN: u64 = 2;

/// A region that is to become part of another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    pub(super) target: u64,
    pub(super) issued_ms: u64,
}

fn stores(region: &Region) -> BTreeSet<u64> {
    region.peers.iter().map(|peer| peer.store_id).collect()
}

fn all_vote(region: &Region) -> bool {
    region.peers.iter().all(|peer| peer.role() == PeerRole::Voter)
}

impl Cluster {
    /// Returns whether a region takes part in a merge.
    pub(super) fn is_being_merged(&self, id: u64) -> bool {
        self.merges.contains_key(&id) || self.merges.values().any(|merge| merge.target == id)
    }

    /// Makes a region part of its neighbour, on an operator's behalf.
    ///
    /// # Errors
    /// A sentence, if that is not possible.
    pub fn merge(&mut self, state: &PdState, source: u64, target: u64, now_ms: u64) -> Result<(), String> {
        if state.cluster_version() < version::MERGES {
            return Err(format!(
                "regions cannot be merged yet: the cluster uses version {} of its protocol, that needs version {}",
                state.cluster_version(),
                version::MERGES
            ));
        }
        let known = |id: u64| state.region(id).ok_or_else(|| format!("there is no region {id}"));
        let (from, to) = (known(source)?, known(target)?);
        if source == target || !region::adjoin(from, to) {
            return Err(format!("regions {source} and {target} are not neighbours"));
        }
        for id in [source, target] {
            if self.is_being_merged(id) && self.merges.get(&source).map(|merge| merge.target) != Some(target) {
                return Err(format!("region {id} takes part in another merge"));
            }
        }
        self.merges.insert(source, Merge { target, issued_ms: now_ms });
        Ok(())
    }

    /// Begins merges of regions with little data.
    pub fn merge_small(&mut self, state: &PdState, now_ms: u64) {
        let below_bytes = self.options.merge_below_bytes;
        let settling = now_ms.saturating_sub(self.since_ms) < self.options.settle_ms;
        let paused = self.is_paused(Checker::Merge, now_ms);
        let early = settling || paused || now_ms < self.merges_at_ms || self.merges.len() >= self.options.merges_max;
        if state.cluster_version() < version::MERGES || below_bytes == 0 || early {
            return;
        }
        self.merges_at_ms = now_ms + LOOK_MS.max(self.patrol_ms(state));
        let mut end = None;
        let candidates: Vec<Candidate> = state
            .regions()
            .map(|region| {
                let heard = self.regions.get(&region.id).filter(|heard| heard.last.region.as_ref() == Some(region));
                let old = |since_ms: u64| now_ms.saturating_sub(since_ms) >= self.options.merge_rest_ms;
                let whole = region.peers.len() == self.options.replicas && all_vote(region);
                let free = !self.is_being_merged(region.id) && !self.is_changing(region.id);
                // A load that is not known yet may be large.
                let watched =
                    |since_ms: u64| now_ms.saturating_sub(since_ms) >= LOADS_KNOWN * self.options.hot_report_ms;
                let rests = heard.is_some_and(|heard| {
                    old(heard.since_ms) && watched(heard.since_ms) && !heard.last.is_merging && !self.is_hot(region.id)
                });
                let meets_last = end.replace(region.end_key.clone()) == Some(region.start_key.clone());
                let apart = self.options.api == Api::V2 && keyspace::is_boundary(&region.start_key);
                Candidate {
                    region: region.id,
                    bytes: heard.map_or(0, |heard| heard.last.approximate_bytes),
                    rests: rests && whole && free,
                    meets_last: meets_last && !apart,
                    load: self.load_of(region.id),
                }
            })
            .collect();
        let limits = Limits {
            below_bytes,
            queries_per_s: self.options.split_queries_per_s,
            bytes_per_s: self.options.split_bytes_per_s,
        };
        for (source, target) in propose(&candidates, limits, self.options.merges_max - self.merges.len()) {
            crate::reach!("pd.small-region-merged");
            tracing::info!(region = source, target, "a small region becomes part of its neighbour");
            self.merges.insert(source, Merge { target, issued_ms: now_ms });
        }
    }

    /// Returns the orders for the sources that `store` leads, and moves replicas to where they have to be before.
    pub fn merge_orders(&mut self, state: &PdState, store: u64, now_ms: u64) -> Vec<MergeOrder> {
        if state.cluster_version() < version::MERGES {
            return Vec::new();
        }
        let max_ms = REPLICA_MOVE_TIME_MAX.as_millis() as u64;
        let pair = |source: &u64, merge: &Merge| Some((state.region(*source)?, state.region(merge.target)?));
        self.merges.retain(|source, merge| {
            let late = now_ms.saturating_sub(merge.issued_ms) >= max_ms;
            !late && pair(source, merge).is_some_and(|(from, to)| region::adjoin(from, to))
        });
        let (mut orders, mut moves) = (Vec::new(), Vec::new());
        for (source, merge) in &self.merges {
            let Some((from, to)) = pair(source, merge) else { continue };
            if self.leader_of(from).is_none_or(|leader| leader.store_id != store) {
                continue;
            }
            let reported = |region: &Region| {
                let heard = self.regions.get(&region.id);
                heard.is_some_and(|heard| heard.last.region.as_ref() == Some(region) && !heard.last.is_merging)
            };
            if !reported(from) || !reported(to) || !all_vote(from) || !all_vote(to) {
                continue;
            }
            let (here, there) = (stores(from), stores(to));
            if here != there {
                let (leaves, arrives) = (here.difference(&there).next(), there.difference(&here).next());
                moves.extend(leaves.zip(arrives).map(|(leaves, arrives)| (*source, *leaves, *arrives)));
                continue;
            }
            let heard = |id: &u64| self.alive(*id, now_ms) && state.store(*id).is_some_and(state::is_up);
            if here.iter().all(heard) && !self.is_changing(*source) && !self.is_changing(merge.target) {
                orders.push(MergeOrder { region_id: *source, epoch: from.region_epoch, target: Some(to.clone()) });
            }
        }
        for (source, from_store, to_store) in moves {
            let conf_ver = state.region(source).map_or(0, |region| region::epoch(region).conf_ver);
            self.moves.entry(source).or_insert(Move { from_store, to_store, changed_ms: now_ms, conf_ver });
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a merge is ordered only where it can be made, its source's replicas move first, and small regions at rest
    //! are merged. Method: a view of three or four stores, filled by hand.
    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{SETTLED_MS, heard, region, report, state};

    #[test]
    fn a_source_is_ordered_to_merge() {
        let regions = vec![region(12, "", "g", &[1, 2, 3]), region(13, "g", "", &[2, 3, 1])];
        let state = state(regions, version::MERGES);
        let mut cluster = heard(&state, ClusterOptions::default());
        assert_eq!(cluster.merge(&state, 12, 13, SETTLED_MS), Ok(()));
        assert_eq!(cluster.merge_orders(&state, 2, SETTLED_MS), [], "another store leads the source");
        let orders = cluster.merge_orders(&state, 1, SETTLED_MS);
        assert_eq!(orders.len(), 1);
        assert_eq!((orders[0].region_id, orders[0].target.as_ref().map(|target| target.id)), (12, Some(13)));
        assert!(cluster.merge(&state, 13, 12, SETTLED_MS).unwrap_err().contains("another merge"));
        // A store with a peer is silent.
        report(&mut cluster, &state, 3, 5, SETTLED_MS + 20_000);
        assert_eq!(cluster.merge_orders(&state, 1, SETTLED_MS + 20_000), []);
        report(&mut cluster, &state, 0, 5, SETTLED_MS + 30_000);
        assert_eq!(cluster.merge_orders(&state, 1, SETTLED_MS + 30_000).len(), 1);
        // It is given up in the end.
        report(&mut cluster, &state, 0, 5, SETTLED_MS + 700_000);
        assert_eq!(cluster.merge_orders(&state, 1, SETTLED_MS + 700_000), []);
    }

    #[test]
    fn what_cannot_be_merged_is_refused() {
        let regions = ["a", "b", ""].iter().zip(["", "a", "b"]).zip(12..);
        let regions: Vec<Region> = regions.map(|((end, start), id)| region(id, start, end, &[1, 2, 3])).collect();
        let old = state(regions.clone(), version::MERGES - 1);
        let why = |state: &PdState, source, target| {
            heard(state, ClusterOptions::default()).merge(state, source, target, SETTLED_MS).unwrap_err()
        };
        assert!(why(&old, 12, 13).contains("needs version"));
        let state = state(regions, version::MERGES);
        assert!(why(&state, 12, 14).contains("not neighbours") && why(&state, 12, 12).contains("not neighbours"));
        assert!(why(&state, 12, 9).contains("no region 9"));
    }

    #[test]
    fn the_sources_replicas_move_to_the_targets_stores_first() {
        let regions = vec![region(12, "", "g", &[1, 2, 3]), region(13, "g", "", &[4, 2, 3])];
        let state = state(regions, version::MERGES);
        let mut cluster = heard(&state, ClusterOptions::default());
        assert_eq!(cluster.merge(&state, 12, 13, SETTLED_MS), Ok(()));
        assert_eq!(cluster.merge_orders(&state, 1, SETTLED_MS), []);
        let (_, nameless) = cluster.peers_orders(&state, 1, SETTLED_MS);
        assert_eq!(nameless, [(12, 4)], "a learner of the source on the target's store");
    }

    #[test]
    fn small_regions_are_merged_when_they_have_rested() {
        let regions = vec![region(12, "", "g", &[1, 2, 3]), region(13, "g", "", &[2, 3, 1])];
        let state = state(regions, version::MERGES);
        let options = ClusterOptions { merge_below_bytes: 10, merge_rest_ms: 80_000, ..ClusterOptions::default() };
        let mut cluster = heard(&state, options.clone());
        cluster.merge_small(&state, SETTLED_MS);
        assert_eq!(cluster.merge_orders(&state, 1, SETTLED_MS), [], "they have not rested");
        report(&mut cluster, &state, 0, 5, SETTLED_MS + 30_000);
        cluster.merge_small(&state, SETTLED_MS + 30_000);
        assert_eq!(cluster.merge_orders(&state, 1, SETTLED_MS + 30_000).len(), 1);
        report(&mut cluster, &state, 0, 50, SETTLED_MS + 30_000);
        let mut large = heard(&state, options);
        report(&mut large, &state, 0, 50, SETTLED_MS + 30_000);
        large.merge_small(&state, SETTLED_MS + 30_000);
        assert_eq!(large.merge_orders(&state, 1, SETTLED_MS + 30_000), []);
    }

    #[test]
    fn regions_of_different_keyspaces_stay_apart() {
        let [.., start, end] = keyspace::boundaries(7);
        let inside = crate::codec::bytes::encode(b"x\0\0\x07k");
        let mut regions: Vec<Region> = (12..16).map(|id| region(id, "", "", &[1, 2, 3])).collect();
        for (at, boundary) in [start, inside, end].into_iter().enumerate() {
            regions[at].end_key = boundary.clone();
            regions[at + 1].start_key = boundary;
        }
        let state = state(regions, version::MERGES);
        let merged = |api| {
            let small = ClusterOptions { merge_below_bytes: 10, merge_rest_ms: 80_000, ..ClusterOptions::default() };
            let mut cluster = heard(&state, ClusterOptions { api, ..small });
            report(&mut cluster, &state, 0, 5, SETTLED_MS + 30_000);
            cluster.merge_small(&state, SETTLED_MS + 30_000);
            cluster.merges.iter().map(|(source, merge)| (*source, merge.target)).collect::<Vec<_>>()
        };
        assert_eq!(merged(Api::V2), [(13, 14)]);
        assert_eq!(merged(Api::V1), [(12, 13), (14, 15)]);
    }
}
