//! Schedulers for tests, as PD has them: leaders, or replicas, move from store to store without a reason.
//!
//! The view comes **in**; orders to move leaders, and moves of replicas, go **out**, within the limits that the balance
//! has as well. **Never**: a replica that comes closer to the others of its region; a region that is changing already.

use std::collections::BTreeSet;

use super::Cluster;
use super::moves::Move;
use crate::pd::state::PdState;
use crate::proto::armilla::pd::SchedulerKind;
use crate::proto::metapb::PeerRole;
use crate::rt::probe::{self, Event as Probe};
use crate::types::region::{self, Region};
use crate::types::version;

/// The time between two moves of each kind.
const SHUFFLE_MS: u64 = 500;

/// Returns a number that nothing depends on, below `bound`: a shuffle needs no better one.
fn mixed(turn: u64, bound: usize) -> usize {
    let mut mixed = turn.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
}

impl Cluster {
    /// Begins to move a leader and a replica somewhere else, if the schedulers for that exist.
    pub fn shuffle(&mut self, state: &PdState, now_ms: u64) {
        let settling = now_ms.saturating_sub(self.since_ms) < self.options.settle_ms;
        let kinds = [SchedulerKind::ShuffleLeader, SchedulerKind::ShuffleRegion].map(|kind| self.runs(kind));
        if settling || now_ms < self.shuffle_at_ms || kinds == [false, false] {
            return;
        }
        self.shuffle_at_ms = now_ms + SHUFFLE_MS;
        self.shuffled += 1;
        // Several pieces may be left of a region that was split.
        let mut seen = BTreeSet::new();
        let all: Vec<&Region> = state.regions().filter(|region| seen.insert(region.id)).collect();
        let Some(first) = all.len().checked_sub(1).map(|_| mixed(self.shuffled, all.len())) else { return };
        let mut turned = all[first..].iter().chain(&all[..first]);
        if kinds[0] {
            turned.clone().any(|region| self.shuffle_leader(state, region, now_ms));
        }
        if kinds[1] && state.cluster_version() >= version::MEMBERS {
            turned.any(|region| self.shuffle_replica(state, region, now_ms));
        }
    }

    fn scheduled(&self, region: u64, store: u64, kind: SchedulerKind) {
        let (a, b) = (region, kind as u64);
        probe::emit(|| Probe::Note { store, what: "scheduled", a, b, data: Default::default() });
    }

    /// Begins to move a region's leader to another of its stores. Returns whether that is possible.
    fn shuffle_leader(&mut self, state: &PdState, region: &Region, now_ms: u64) -> bool {
        let open = self.orders.values().filter(|order| !order.ended).count();
        let rests = self
            .orders
            .get(&region.id)
            .is_some_and(|order| !order.ended || now_ms.saturating_sub(order.issued_ms) < self.options.order_ms);
        if open >= self.options.orders_max || rests {
            return false;
        }
        let Some(leader) = self.leader_of(region) else { return false };
        let fit = self.settled_stores(state, now_ms);
        let voters = region.peers.iter().filter(|peer| peer.role() == PeerRole::Voter).map(|peer| peer.store_id);
        let may = |store: &u64| {
            *store != leader.store_id && fit.contains(store) && self.refuses_leaders(*store, now_ms).is_none()
        };
        let targets: Vec<u64> = voters.filter(may).collect();
        let Some(to) = targets.get(mixed(self.shuffled, targets.len())).copied() else { return false };
        self.scheduled(region.id, leader.store_id, SchedulerKind::ShuffleLeader);
        self.order(region.id, leader.store_id, to, now_ms);
        true
    }

    /// Begins to move a region's replica to another store. Returns whether that is possible.
    fn shuffle_replica(&mut self, state: &PdState, region: &Region, now_ms: u64) -> bool {
        let whole = region.peers.len() == self.options.replicas
            && region.peers.iter().all(|peer| peer.role() == PeerRole::Voter);
        let busy = self.is_changing(region.id) || self.is_being_merged(region.id);
        if !whole || busy || self.moves.len() >= self.options.moves_max || self.leader_of(region).is_none() {
            return false;
        }
        let stores = self.stores_for_replicas(state, now_ms);
        let here: Vec<u64> = region.peers.iter().map(|peer| peer.store_id).collect();
        let from = here[mixed(self.shuffled, here.len())];
        let free = stores.fit.keys().filter(|to| region::peer_on(region, **to).is_none());
        let targets: Vec<u64> = free.copied().filter(|to| stores.places.allow(&here, from, *to)).collect();
        let Some(to) = targets.get(mixed(self.shuffled, targets.len())).copied() else { return false };
        self.scheduled(region.id, from, SchedulerKind::ShuffleRegion);
        self.moves.insert(region.id, Move::new(region, from, to, now_ms));
        true
    }
}

#[cfg(test)]
mod tests {
    //! Goal: leaders and replicas move only if the schedulers exist, and never to where they are. Method: a view of
    //! four stores.
    use std::sync::Arc;

    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{SETTLED_MS, heard, region, report, state};
    use crate::proto::armilla::pd::{Scheduler, Settings};

    #[test]
    fn leaders_and_replicas_move() {
        let now_ms = SETTLED_MS + 12_000;
        let state = state(vec![region(20, "", "m", &[1, 2, 3]), region(21, "m", "", &[1, 2, 3])], version::PROTOCOL);
        let mut cluster = heard(&state, ClusterOptions::default());
        for at_ms in [SETTLED_MS + 6000, now_ms] {
            report(&mut cluster, &state, 0, 5, at_ms);
        }
        cluster.shuffle(&state, now_ms);
        assert!(cluster.orders.is_empty() && cluster.moves.is_empty());
        let of = |kind: SchedulerKind| Scheduler { kind: kind as i32, exists: Some(true), ..Scheduler::default() };
        let schedulers = vec![of(SchedulerKind::ShuffleLeader), of(SchedulerKind::ShuffleRegion)];
        cluster.follow(&Arc::new(Settings { schedulers, ..Settings::default() }), 0);
        cluster.shuffle(&state, now_ms);
        assert_eq!((cluster.orders.len(), cluster.moves.len()), (1, 1));
        cluster.shuffle(&state, now_ms + 1);
        assert_eq!((cluster.orders.len(), cluster.moves.len()), (1, 1), "not so soon");
        cluster.shuffle(&state, now_ms + SHUFFLE_MS);
        assert_eq!((cluster.orders.len(), cluster.moves.len()), (2, 2));
        assert!(cluster.orders.values().all(|order| order.from_store == 1 && [2, 3].contains(&order.to_store)));
        assert!(cluster.moves.values().all(|moving| moving.to_store == 4));
    }
}
