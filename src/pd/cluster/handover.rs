//! Stores that are to lead no regions, and stores that are to lead all that they can.
//!
//! The view comes **in**, orders to move leaders go **out**, as many at a time as the balance may have open. **Never**:
//! an order to a store that is to lead nothing, or to one that is silent.

use std::collections::{BTreeMap, BTreeSet};

use super::Cluster;
use crate::pd::state::PdState;
use crate::proto::armilla::pd::SchedulerKind;
use crate::proto::metapb::PeerRole;
use crate::rt::probe::{self, Event as Probe};

impl Cluster {
    /// Begins to move leaders away from `store`, if it is to lead nothing or another store is to lead its regions.
    pub(super) fn hand_over(&mut self, state: &PdState, store: u64, now_ms: u64) {
        let of = |kind| if self.runs(kind) { self.stores_of(kind) } else { BTreeSet::new() };
        let drained =
            of(SchedulerKind::EvictLeader).contains(&store) && !crate::mutant!("pd.drained-stores-keep-leaders");
        let granted = of(SchedulerKind::GrantLeader);
        if !drained && (granted.is_empty() || granted.contains(&store)) {
            return;
        }
        let mut fit = self.settled_stores(state, now_ms);
        fit.retain(|to| *to != store && self.refuses_leaders(*to, now_ms).is_none());
        let (mut counts, mut open, mut mine): (BTreeMap<u64, u64>, usize, Vec<_>) = (BTreeMap::new(), 0, Vec::new());
        // Several pieces may be left of a region that was split: it has one leader all the same.
        let mut placed = BTreeSet::new();
        for region in state.regions() {
            let Some(leader) = self.leader_of(region).filter(|_| placed.insert(region.id)) else { continue };
            let order = self.orders.get(&region.id);
            let under_way = order.filter(|order| !order.ended);
            *counts.entry(under_way.map_or(leader.store_id, |order| order.to_store)).or_default() += 1;
            if leader.store_id != store {
                continue;
            }
            open += usize::from(under_way.is_some());
            let rests = order
                .is_some_and(|order| !order.ended || now_ms.saturating_sub(order.issued_ms) < self.options.order_ms);
            if !rests {
                mine.push(region);
            }
        }
        for region in mine {
            if open >= self.options.orders_max {
                break;
            }
            let votes = region.peers.iter().filter(|peer| peer.role() == PeerRole::Voter).map(|peer| peer.store_id);
            let targets = votes.filter(|to| fit.contains(to) && (drained || granted.contains(to)));
            let share = |to: u64| self.in_force.leader_weights.share(to, counts.get(&to).copied().unwrap_or(0));
            let Some(to) = targets.min_by_key(|to| (!granted.contains(to), share(*to), *to)) else { continue };
            *counts.entry(to).or_default() += 1;
            open += 1;
            crate::reach!("pd.leader-handed-over");
            let (a, kind) = (region.id, if drained { SchedulerKind::EvictLeader } else { SchedulerKind::GrantLeader });
            probe::emit(|| Probe::Note { store, what: "scheduled", a, b: kind as u64, data: Default::default() });
            self.order(region.id, store, to, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a store that is drained gives its leaders away and gets none, a store that is granted leaders gets them.
    //! Method: a view of four stores, filled by hand.
    use std::sync::Arc;

    use super::*;
    use crate::pd::cluster::ClusterOptions;
    use crate::pd::cluster::tests::{SETTLED_MS, heard, region, report, state};
    use crate::proto::armilla::pd::{Scheduler, Settings};
    use crate::types::{Region, version};

    const NOW_MS: u64 = SETTLED_MS + 12_000;

    fn of(kind: SchedulerKind, stores: &[u64], paused_until_ms: u64) -> Arc<Settings> {
        let scheduler =
            Scheduler { kind: kind as i32, stores: stores.to_vec(), paused_until_ms, ..Scheduler::default() };
        Arc::new(Settings { schedulers: vec![scheduler], ..Settings::default() })
    }

    /// Two regions led by store 1, two by store 2.
    fn four() -> PdState {
        let keys = ["", "b", "d", "f", ""];
        let led = [[1, 2, 3], [1, 3, 4], [2, 1, 3], [2, 3, 4]];
        let regions: Vec<Region> = (0..4).map(|at| region(20 + at as u64, keys[at], keys[at + 1], &led[at])).collect();
        state(regions, version::PROTOCOL)
    }

    /// A view whose stores have been alive for long.
    fn settled(state: &PdState) -> Cluster {
        let mut cluster = heard(state, ClusterOptions::default());
        for at_ms in [SETTLED_MS + 6000, NOW_MS] {
            report(&mut cluster, state, 0, 5, at_ms);
        }
        cluster
    }

    fn orders(cluster: &mut Cluster, state: &PdState, store: u64) -> Vec<(u64, u64)> {
        let orders = cluster.orders_for(state, store, true, NOW_MS);
        orders.iter().map(|order| (order.region_id, order.to_store)).collect()
    }

    #[test]
    fn a_drained_store_leads_nothing() {
        let state = four();
        let mut cluster = settled(&state);
        cluster.follow(&of(SchedulerKind::EvictLeader, &[1], 0), 9);
        assert_eq!(orders(&mut cluster, &state, 1), [(20, 3), (21, 4)], "where there are fewest");
        assert_eq!(orders(&mut cluster, &state, 2), [], "nothing comes to it, nothing else is uneven");
        let refused = cluster.transfer(&state, 22, 1, NOW_MS).unwrap_err();
        assert!(refused.contains("store 1 is drained"), "{refused}");
        cluster.follow(&Arc::default(), 9);
        assert_eq!(cluster.transfer(&state, 22, 1, NOW_MS), Ok(()));
        // It is drained again: what is on its way there ends.
        cluster.follow(&of(SchedulerKind::EvictLeader, &[1], 0), 9);
        report(&mut cluster, &state, 0, 5, NOW_MS);
        assert!(cluster.take_ended().iter().any(|order| order.region_id == 22 && order.why.contains("drained")));
    }

    #[test]
    fn a_pause_stops_orders_but_not_the_rule() {
        let state = four();
        let mut cluster = settled(&state);
        cluster.follow(&of(SchedulerKind::EvictLeader, &[1], 100), 99);
        assert_eq!(orders(&mut cluster, &state, 1), []);
        assert!(cluster.transfer(&state, 22, 1, NOW_MS).is_err());
        cluster.follow(&of(SchedulerKind::EvictLeader, &[1], 100), 100);
        assert_eq!(orders(&mut cluster, &state, 1).len(), 2);
    }

    #[test]
    fn a_granted_store_leads_all_that_it_can() {
        let state = four();
        let mut cluster = settled(&state);
        cluster.follow(&of(SchedulerKind::GrantLeader, &[4], 0), 9);
        assert_eq!(orders(&mut cluster, &state, 1), [(21, 4)], "it has no replica of the other one");
        assert_eq!(orders(&mut cluster, &state, 2), [(23, 4)]);
        assert_eq!(orders(&mut cluster, &state, 4), []);
    }
}
