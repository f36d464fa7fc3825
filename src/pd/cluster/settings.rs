//! What is in force of the settings that can be changed while the cluster runs.
//!
//! The configuration of the node that leads, what was set meanwhile, and the time come **in**; options, schedulers,
//! weights and limits go **out**. **Never**: an order of a scheduler that is paused or does not exist; a leader that is
//! ordered to a store which is to have none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Cluster, ClusterOptions};
use crate::pd::schedule::weights::Weights;
use crate::pd::state;
use crate::proto::armilla::pd::{LocationLabels, Scheduler, SchedulerKind, Settings, StoreSettings};
use crate::types::limits::STORE_RATE_MAX;

/// All schedulers.
const KINDS: [SchedulerKind; 7] = [
    SchedulerKind::BalanceLeader,
    SchedulerKind::BalanceRegion,
    SchedulerKind::BalanceHotRegion,
    SchedulerKind::EvictLeader,
    SchedulerKind::GrantLeader,
    SchedulerKind::ShuffleLeader,
    SchedulerKind::ShuffleRegion,
];

/// The time for which a limit of changes holds, ms.
const MINUTE_MS: u64 = 60_000;

/// What is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct InForce {
    /// What it was made of.
    set: Arc<Settings>,
    /// Whether it was made at all.
    made: bool,
    schedulers: Vec<Scheduler>,
    /// For leaders, and for replicas.
    pub(super) leader_weights: Weights,
    pub(super) region_weights: Weights,
    limits: BTreeMap<u64, StoreSettings>,
    wall_ms: u64,
    changes: Changes,
}

/// The changes of replicas in the last minute, by store: when they began, and of which region at which configuration
/// version.
#[derive(Clone, Debug, Default)]
struct Changes {
    added: BTreeMap<u64, VecDeque<(u64, u64, u64)>>,
    removed: BTreeMap<u64, VecDeque<(u64, u64, u64)>>,
}

/// A change of a store's replicas whose number a minute may be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limited {
    /// The store gets a replica.
    Add,
    /// The store gives one away.
    Remove,
}

/// Returns the schedulers that exist.
fn schedulers(base: &ClusterOptions, set: &Settings) -> Vec<Scheduler> {
    let of = |kind: SchedulerKind| {
        let known = set.schedulers.iter().find(|one| one.kind() == kind).cloned();
        let scheduler = known.unwrap_or_else(|| Scheduler { kind: kind as i32, ..Scheduler::default() });
        let configured = match kind {
            SchedulerKind::BalanceLeader => base.balance_leaders,
            SchedulerKind::BalanceRegion => base.balance_replicas,
            SchedulerKind::BalanceHotRegion => base.balance_hot,
            SchedulerKind::EvictLeader | SchedulerKind::GrantLeader => !scheduler.stores.is_empty(),
            SchedulerKind::ShuffleLeader | SchedulerKind::ShuffleRegion => false,
        };
        let exists = scheduler.exists.unwrap_or(configured);
        Scheduler { exists: Some(exists), ..scheduler }
    };
    KINDS.into_iter().map(of).filter(|one| one.exists == Some(true)).collect()
}

/// Returns the options with what was set.
fn options(base: &ClusterOptions, set: &Settings) -> ClusterOptions {
    let number = |set: Option<u64>, base: usize| set.map_or(base, |number| number as usize);
    let below_bytes = set.merge_below_bytes.unwrap_or(base.merge_below_bytes);
    ClusterOptions {
        orders_max: number(set.leader_orders_max, base.orders_max),
        moves_max: number(set.replica_moves_max, base.moves_max),
        merges_max: number(set.merges_max, base.merges_max),
        hot_operators_max: number(set.hot_operators_max, base.hot_operators_max),
        max_down_ms: set.max_down_ms.unwrap_or(base.max_down_ms),
        replicas: number(set.replicas, base.replicas),
        location_labels: set.location_labels.as_ref().map_or(&base.location_labels, |labels| &labels.keys).clone(),
        merge_below_bytes: below_bytes.min(base.merge_below_bytes_max),
        merge_rest_ms: set.merge_rest_ms.unwrap_or(base.merge_rest_ms),
        ..base.clone()
    }
}

impl Cluster {
    /// Takes over what is set now. `wall_ms` is the unix time, until which schedulers may be paused.
    pub fn follow(&mut self, set: &Arc<Settings>, wall_ms: u64) {
        self.in_force.wall_ms = wall_ms;
        if Arc::ptr_eq(&self.in_force.set, set) && self.in_force.made {
            return;
        }
        self.options = options(&self.base, set);
        let (mut leaders, mut regions) = (Weights::default(), Weights::default());
        let ignored = crate::mutant!("pd.weights-ignored");
        for store in set.stores.iter().filter(|_| !ignored) {
            store.leader_weight.into_iter().for_each(|weight| leaders.set(store.store_id, u64::from(weight)));
            store.region_weight.into_iter().for_each(|weight| regions.set(store.store_id, u64::from(weight)));
        }
        let changes = std::mem::take(&mut self.in_force.changes);
        self.in_force = InForce {
            set: set.clone(),
            made: true,
            schedulers: schedulers(&self.base, set),
            leader_weights: leaders,
            region_weights: regions,
            limits: set.stores.iter().map(|store| (store.store_id, *store)).collect(),
            wall_ms,
            changes,
        };
    }

    /// Returns what is in force in the form of settings: every number, every scheduler that exists, every store that
    /// has something of its own.
    pub fn settings(&self) -> Settings {
        let ClusterOptions { orders_max, moves_max, merges_max, hot_operators_max, replicas, .. } = self.options;
        Settings {
            leader_orders_max: Some(orders_max as u64),
            replica_moves_max: Some(moves_max as u64),
            merges_max: Some(merges_max as u64),
            hot_operators_max: Some(hot_operators_max as u64),
            max_down_ms: Some(self.options.max_down_ms),
            replicas: Some(replicas as u64),
            location_labels: Some(LocationLabels { keys: self.options.location_labels.clone() }),
            merge_below_bytes: Some(self.options.merge_below_bytes),
            merge_rest_ms: Some(self.options.merge_rest_ms),
            schedulers: self.in_force.schedulers.clone(),
            stores: self.in_force.set.stores.clone(),
        }
    }

    /// Returns the options in force.
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// Returns whether a scheduler exists and is not paused.
    pub fn runs(&self, kind: SchedulerKind) -> bool {
        let wall_ms = self.in_force.wall_ms;
        let scheduler = self.in_force.schedulers.iter().find(|one| one.kind() == kind);
        scheduler.is_some_and(|one| wall_ms >= one.paused_until_ms || crate::mutant!("pd.pauses-ignored"))
    }

    /// Returns the stores of the scheduler, whether it is paused or not.
    pub(super) fn stores_of(&self, kind: SchedulerKind) -> BTreeSet<u64> {
        state::stores_of(&self.in_force.set, kind).iter().copied().collect()
    }

    /// Returns the stores whose leaders the balance leaves alone: those that are to have none, or all that they can.
    pub(super) fn without_balance(&self) -> BTreeSet<u64> {
        let mut stores = self.stores_of(SchedulerKind::EvictLeader);
        if crate::mutant!("pd.drained-stores-get-leaders") {
            stores.clear();
        }
        stores.extend(self.stores_of(SchedulerKind::GrantLeader));
        stores
    }

    /// Returns why a store must not receive leaders, as a sentence, or `None` if it may.
    pub(super) fn refuses_leaders(&self, store: u64, now_ms: u64) -> Option<String> {
        let evicted = state::stores_of(&self.in_force.set, SchedulerKind::EvictLeader).contains(&store)
            && !crate::mutant!("pd.drained-stores-get-leaders");
        let drained = || format!("store {store} is drained: it is to lead no regions (evict-leader)");
        evicted.then(drained).or_else(|| self.unfit(store, now_ms))
    }

    /// Returns whether a change of a store's replicas, of a region at a configuration version, may begin now, and
    /// counts it if so. One that has begun goes on.
    pub(super) fn may_change(
        &mut self,
        what: Limited,
        store: u64,
        (region, conf_ver): (u64, u64),
        now_ms: u64,
    ) -> bool {
        let own = self.in_force.limits.get(&store);
        let (limit, changes) = match what {
            Limited::Add => (own.and_then(|own| own.add_peer_per_minute), &mut self.in_force.changes.added),
            Limited::Remove => (own.and_then(|own| own.remove_peer_per_minute), &mut self.in_force.changes.removed),
        };
        let ignored = crate::mutant!("pd.store-limits-ignored");
        let Some(limit) = limit.filter(|limit| *limit < STORE_RATE_MAX && !ignored) else {
            changes.remove(&store);
            return true;
        };
        let changes = changes.entry(store).or_default();
        while changes.front().is_some_and(|(at_ms, ..)| now_ms.saturating_sub(*at_ms) >= MINUTE_MS) {
            changes.pop_front();
        }
        if changes.iter().any(|(_, id, at)| (*id, *at) == (region, conf_ver)) {
            return true;
        }
        let allowed = (changes.len() as u64) < limit;
        if allowed {
            changes.push_back((now_ms, region, conf_ver));
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is set is in force, and nothing else. Method: settings by hand.
    use super::*;

    #[test]
    fn what_is_not_set_follows_the_configuration() {
        let base = ClusterOptions { balance_replicas: false, merge_below_bytes_max: 50, ..ClusterOptions::default() };
        let mut cluster = Cluster::new(base, 0);
        cluster.follow(&Arc::default(), 100);
        assert!(cluster.runs(SchedulerKind::BalanceLeader) && !cluster.runs(SchedulerKind::BalanceRegion));
        assert_eq!((cluster.options().replicas, cluster.settings().replicas), (3, Some(3)));
        let pause = |kind, paused_until_ms| Scheduler { kind: kind as i32, paused_until_ms, ..Scheduler::default() };
        let evict = SchedulerKind::EvictLeader;
        let set = Settings {
            replicas: Some(5),
            merge_below_bytes: Some(1000),
            schedulers: vec![
                pause(SchedulerKind::BalanceLeader, 200),
                Scheduler { exists: Some(true), ..pause(SchedulerKind::BalanceRegion, 0) },
                Scheduler { stores: vec![2], ..pause(evict, 200) },
            ],
            ..Settings::default()
        };
        cluster.follow(&Arc::new(set), 199);
        assert_eq!((cluster.options().replicas, cluster.options().merge_below_bytes), (5, 50));
        assert!(!cluster.runs(SchedulerKind::BalanceLeader) && cluster.runs(SchedulerKind::BalanceRegion));
        assert!(!cluster.runs(evict) && cluster.refuses_leaders(2, 0).unwrap().contains("drained"), "kept away");
        let set = cluster.in_force.set.clone();
        cluster.follow(&set, 200);
        assert!(cluster.runs(SchedulerKind::BalanceLeader) && cluster.runs(evict));
        cluster.follow(&Arc::default(), 200);
        assert_eq!((cluster.options().replicas, cluster.runs(evict)), (3, false));
    }

    #[test]
    fn changes_are_limited_by_the_minute() {
        let mut cluster = Cluster::new(ClusterOptions::default(), 0);
        let own = StoreSettings { store_id: 1, add_peer_per_minute: Some(2), ..StoreSettings::default() };
        cluster.follow(&Arc::new(Settings { stores: vec![own], ..Settings::default() }), 0);
        let mut add = |store, region, now_ms| cluster.may_change(Limited::Add, store, (region, 1), now_ms);
        assert!(add(1, 20, 0) && add(1, 21, 10) && !add(1, 22, 20), "two a minute");
        assert!(add(1, 21, 30_000) && !add(1, 22, 30_000), "one that has begun goes on");
        assert!(add(1, 22, 60_000) && !add(1, 23, 60_000));
        assert!((0..100).all(|region| add(2, region, 0)), "another store has no limit");
        assert!((0..100).all(|region| cluster.may_change(Limited::Remove, 1, (region, 1), 0)));
    }
}
