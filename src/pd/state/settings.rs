//! Settings of the placement driver that are changed while the cluster runs, and stores that replace lost ones.
//!
//! A change comes **in**, and is made as a whole or refused with a sentence. **Never**: settings that leave no store
//! to lead regions; a setting that is outside of its limits on any member.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Changed, LABEL_REPLACED_BY, Outcome, PdState, is_tombstone, is_up, replace, store_id};
use crate::proto::armilla::pd::{
    ChangeScheduler, ChangeSettings, Pause, ReplaceStore, Scheduler, SchedulerKind, Settings, StoreSettings,
};
use crate::types::limits::{
    LOCATION_LABELS_MAX, MERGE_BELOW_BYTES_MAX, REPLICAS_MAX, SCHEDULE_LIMIT_MAX, SETTING_MS_MAX,
    STORE_LABEL_BYTES_MAX, STORE_RATE_MAX, STORE_WEIGHT_MAX,
};

/// Returns a scheduler's name in commands and messages.
pub fn name(kind: SchedulerKind) -> &'static str {
    match kind {
        SchedulerKind::BalanceLeader => "balance-leader",
        SchedulerKind::BalanceRegion => "balance-region",
        SchedulerKind::BalanceHotRegion => "balance-hot-region",
        SchedulerKind::EvictLeader => "evict-leader",
        SchedulerKind::GrantLeader => "grant-leader",
        SchedulerKind::ShuffleLeader => "shuffle-leader",
        SchedulerKind::ShuffleRegion => "shuffle-region",
    }
}

/// Returns whether a scheduler is for some stores rather than for all.
pub fn is_of_stores(kind: SchedulerKind) -> bool {
    matches!(kind, SchedulerKind::EvictLeader | SchedulerKind::GrantLeader)
}

/// Returns whether a scheduler moves things without a reason.
pub fn shuffles(kind: SchedulerKind) -> bool {
    matches!(kind, SchedulerKind::ShuffleLeader | SchedulerKind::ShuffleRegion)
}

/// Returns the stores of a scheduler.
pub fn stores_of(settings: &Settings, kind: SchedulerKind) -> &[u64] {
    settings.schedulers.iter().find(|one| one.kind() == kind).map_or(&[], |one| &one.stores)
}

fn within(what: &str, value: Option<u64>, least: u64, most: u64) -> Result<(), String> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(format!("{what} cannot be {value}: it is from {least} to {most}"))
        }
        _ => Ok(()),
    }
}

/// Checks the numbers of settings.
fn check(set: &Settings) -> Result<(), String> {
    for (what, value) in [
        ("the number of open orders to move leaders", set.leader_orders_max),
        ("the number of replicas that move at a time", set.replica_moves_max),
        ("the number of merges at a time", set.merges_max),
        ("the number of operators that spread load", set.hot_operators_max),
    ] {
        within(what, value, 0, SCHEDULE_LIMIT_MAX)?;
    }
    within("the time (ms) after which a silent store is gone", set.max_down_ms, 1000, SETTING_MS_MAX)?;
    within("the number of replicas", set.replicas, 1, REPLICAS_MAX)?;
    within("the size (bytes) below which regions are merged", set.merge_below_bytes, 0, MERGE_BELOW_BYTES_MAX)?;
    within("the time (ms) before a region is merged", set.merge_rest_ms, 0, SETTING_MS_MAX)?;
    let keys = set.location_labels.as_ref().map_or(&[][..], |labels| &labels.keys);
    if keys.len() > LOCATION_LABELS_MAX {
        return Err(format!("{} location labels: there are at most {LOCATION_LABELS_MAX}", keys.len()));
    }
    let mut known = BTreeSet::new();
    for key in keys {
        if key.is_empty() || key.len() > STORE_LABEL_BYTES_MAX || !known.insert(key.to_ascii_lowercase()) {
            return Err(format!("the location label `{key}` is empty, too long, or given twice"));
        }
    }
    for store in &set.stores {
        let weight = |value: Option<u32>| value.map(u64::from);
        within("a weight in thousandths", weight(store.leader_weight), 0, STORE_WEIGHT_MAX)?;
        within("a weight in thousandths", weight(store.region_weight), 0, STORE_WEIGHT_MAX)?;
        within("a limit of changes a minute", store.add_peer_per_minute, 1, STORE_RATE_MAX)?;
        within("a limit of changes a minute", store.remove_peer_per_minute, 1, STORE_RATE_MAX)?;
    }
    Ok(())
}

/// Removes the setting with this field number.
fn reset(settings: &mut Settings, field: u32) -> Result<(), String> {
    match field {
        1 => settings.leader_orders_max = None,
        2 => settings.replica_moves_max = None,
        3 => settings.merges_max = None,
        4 => settings.hot_operators_max = None,
        5 => settings.max_down_ms = None,
        6 => settings.replicas = None,
        7 => settings.location_labels = None,
        8 => settings.merge_below_bytes = None,
        9 => settings.merge_rest_ms = None,
        other => return Err(format!("there is no setting with the number {other} that follows the configuration")),
    }
    Ok(())
}

/// Takes over what is set.
fn merge(settings: &mut Settings, set: Settings) {
    let Settings { location_labels, stores, .. } = set;
    let take = |to: &mut Option<u64>, from: Option<u64>| *to = from.or(*to);
    take(&mut settings.leader_orders_max, set.leader_orders_max);
    take(&mut settings.replica_moves_max, set.replica_moves_max);
    take(&mut settings.merges_max, set.merges_max);
    take(&mut settings.hot_operators_max, set.hot_operators_max);
    take(&mut settings.max_down_ms, set.max_down_ms);
    take(&mut settings.replicas, set.replicas);
    take(&mut settings.merge_below_bytes, set.merge_below_bytes);
    take(&mut settings.merge_rest_ms, set.merge_rest_ms);
    settings.location_labels = location_labels.or(settings.location_labels.take());
    for new in stores {
        let at = settings.stores.partition_point(|one| one.store_id < new.store_id);
        if settings.stores.get(at).is_none_or(|one| one.store_id != new.store_id) {
            settings.stores.insert(at, StoreSettings { store_id: new.store_id, ..StoreSettings::default() });
        }
        let store = &mut settings.stores[at];
        store.leader_weight = new.leader_weight.or(store.leader_weight);
        store.region_weight = new.region_weight.or(store.region_weight);
        take(&mut store.add_peer_per_minute, new.add_peer_per_minute);
        take(&mut store.remove_peer_per_minute, new.remove_peer_per_minute);
    }
}

/// Changes one scheduler.
fn change_scheduler(settings: &mut Settings, change: ChangeScheduler) -> Result<(), String> {
    let kind = SchedulerKind::try_from(change.kind).map_err(|_| "an unknown scheduler".to_owned())?;
    let at = settings.schedulers.partition_point(|one| one.kind < kind as i32);
    if settings.schedulers.get(at).is_none_or(|one| one.kind() != kind) {
        settings.schedulers.insert(at, Scheduler { kind: kind as i32, ..Scheduler::default() });
    }
    let scheduler = &mut settings.schedulers[at];
    match change.exists {
        Some(exists) if is_of_stores(kind) => change_stores(scheduler, exists, &change.stores)?,
        Some(exists) => {
            if !change.stores.is_empty() {
                return Err(format!("the scheduler {} is for all stores", name(kind)));
            }
            scheduler.exists = Some(exists);
            if !exists {
                (scheduler.paused_at_ms, scheduler.paused_until_ms) = (0, 0);
            }
        }
        None if !change.stores.is_empty() => return Err("stores were given, but nothing to do with them".into()),
        None => {}
    }
    if let Some(Pause { at_ms, until_ms }) = change.pause {
        if scheduler.exists == Some(false) || is_of_stores(kind) && scheduler.stores.is_empty() {
            return Err(format!("there is no scheduler {}", name(kind)));
        }
        let ends = until_ms <= at_ms;
        (scheduler.paused_at_ms, scheduler.paused_until_ms) = if ends { (0, 0) } else { (at_ms, until_ms) };
    }
    let says_nothing = *scheduler == Scheduler { kind: kind as i32, ..Scheduler::default() };
    if says_nothing || is_of_stores(kind) && scheduler.stores.is_empty() {
        settings.schedulers.remove(at);
    }
    Ok(())
}

/// Adds stores to a scheduler, or takes them from it.
fn change_stores(scheduler: &mut Scheduler, add: bool, given: &[u64]) -> Result<(), String> {
    let kind = name(scheduler.kind());
    let mut stores: BTreeSet<u64> = scheduler.stores.iter().copied().collect();
    match (add, given) {
        (true, []) => return Err(format!("the scheduler {kind} needs a store")),
        (true, given) => stores.extend(given),
        (false, []) if stores.is_empty() => return Err(format!("there is no scheduler {kind}")),
        (false, []) => stores.clear(),
        (false, given) => {
            for store in given {
                if !stores.remove(store) {
                    return Err(format!("store {store} is not one of the scheduler {kind}"));
                }
            }
        }
    }
    scheduler.stores = stores.into_iter().collect();
    Ok(())
}

impl PdState {
    /// Returns what was set while the cluster ran.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Changes settings: all that the command says, or nothing.
    pub(super) fn change_settings(&mut self, command: ChangeSettings) -> Outcome {
        self.must_be_bootstrapped()?;
        let ChangeSettings { set, reset: numbers, schedulers } = command;
        let (mut settings, set) = (Settings::clone(&self.settings), set.unwrap_or_default());
        check(&set)?;
        let named = set.stores.iter().map(|store| store.store_id);
        let added = schedulers.iter().filter(|one| one.exists == Some(true)).flat_map(|one| one.stores.iter().copied());
        for id in named.chain(added) {
            match self.stores.get(&id) {
                None => return Err(format!("there is no store {id}")),
                Some(record) if is_tombstone(record) => return Err(format!("store {id} was removed from the cluster")),
                Some(_) => {}
            }
        }
        for field in numbers {
            reset(&mut settings, field)?;
        }
        merge(&mut settings, set);
        let drains = schedulers.iter().any(|one| one.kind() == SchedulerKind::EvictLeader && one.exists == Some(true));
        for change in schedulers {
            change_scheduler(&mut settings, change)?;
        }
        let evicted = stores_of(&settings, SchedulerKind::EvictLeader);
        let granted = stores_of(&settings, SchedulerKind::GrantLeader);
        if let Some(both) = evicted.iter().find(|store| granted.contains(store)) {
            return Err(format!("store {both} cannot have no leaders (evict-leader) and get them all (grant-leader)"));
        }
        let others = self.stores.values().filter(|record| is_up(record) && !evicted.contains(&store_id(record)));
        if drains && others.count() == 0 {
            return Err("no store would be left to lead regions: leave one without evict-leader".into());
        }
        if settings == *self.settings {
            return Ok((0, vec![]));
        }
        self.settings = Arc::new(settings);
        Ok((0, vec![Changed::Settings]))
    }

    /// Forgets the settings of a store that was removed. Returns whether there were any.
    pub(super) fn forget_settings_of(&mut self, store: u64) -> bool {
        let mut settings = Settings::clone(&self.settings);
        settings.stores.retain(|one| one.store_id != store);
        settings.schedulers.iter_mut().for_each(|one| one.stores.retain(|id| *id != store));
        settings.schedulers.retain(|one| !is_of_stores(one.kind()) || !one.stores.is_empty());
        let changed = settings != *self.settings;
        if changed {
            self.settings = Arc::new(settings);
        }
        changed
    }

    /// Makes a store one that is lost, in whose place another one is. It has no address any more; if its node returns
    /// with its data after all, it registers again.
    pub(super) fn replace_store(&mut self, ReplaceStore { lost, by }: ReplaceStore) -> Outcome {
        self.must_be_bootstrapped()?;
        if lost == by {
            return Err(format!("store {lost} cannot replace itself"));
        }
        let mut record = self.stores.get(&lost).cloned().ok_or_else(|| format!("there is no store {lost}"))?;
        let new = self.stores.get(&by).ok_or_else(|| format!("there is no store {by}"))?;
        if !is_up(new) {
            return Err(format!("store {by} is not up: it cannot take the place of store {lost}"));
        }
        if is_tombstone(&record) {
            return Err(format!("store {lost} was removed from the cluster already"));
        }
        replace(&mut record, by);
        if self.stores.get(&lost) == Some(&record) {
            return Ok((lost, vec![]));
        }
        self.put_store_record(record);
        Ok((lost, vec![Changed::Store(lost)]))
    }

    /// Returns the store that replaces a lost one.
    pub fn replaced_by(&self, lost: u64) -> Option<u64> {
        let store = self.stores.get(&lost)?.store.as_ref()?;
        store.labels.iter().find(|label| label.key == LABEL_REPLACED_BY)?.value.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: settings change as a whole or not at all, within their limits. Method: commands one after the other.

    use super::*;
    use crate::pd::state::restore;
    use crate::proto::armilla::pd::{LocationLabels, StoreRecord};
    use crate::proto::metapb::Store;

    fn state() -> PdState {
        let mut state = restore(10, vec![]).unwrap();
        for id in 1..=3 {
            let store = Store { id, address: format!("n{id}:1"), ..Store::default() };
            state.put_store_record(StoreRecord { store: Some(store), uuid: format!("u{id}"), name: format!("n{id}") });
        }
        state
    }

    fn set(state: &mut PdState, set: Settings) -> Result<usize, String> {
        state.change_settings(ChangeSettings { set: Some(set), ..Default::default() }).map(|(_, changed)| changed.len())
    }

    fn scheduler(state: &mut PdState, change: ChangeScheduler) -> Result<usize, String> {
        let change = ChangeSettings { schedulers: vec![change], ..ChangeSettings::default() };
        state.change_settings(change).map(|(_, changed)| changed.len())
    }

    fn of(kind: SchedulerKind, exists: Option<bool>, stores: &[u64]) -> ChangeScheduler {
        ChangeScheduler { kind: kind as i32, exists, stores: stores.to_vec(), pause: None }
    }

    #[test]
    fn numbers_are_set_and_reset() {
        let mut state = state();
        let two = Settings { replicas: Some(5), merges_max: Some(0), ..Settings::default() };
        assert_eq!(set(&mut state, two.clone()), Ok(1));
        assert_eq!(set(&mut state, two), Ok(0), "the same again");
        assert_eq!(set(&mut state, Settings { max_down_ms: Some(60_000), ..Settings::default() }), Ok(1));
        let now = state.settings().clone();
        assert_eq!((now.replicas, now.merges_max, now.max_down_ms), (Some(5), Some(0), Some(60_000)));
        let reset = |state: &mut PdState, reset| {
            state.change_settings(ChangeSettings { reset, ..ChangeSettings::default() }).map(|_| ())
        };
        assert_eq!(reset(&mut state, vec![6]), Ok(()));
        assert_eq!((state.settings().replicas, state.settings().merges_max), (None, Some(0)));
        assert!(reset(&mut state, vec![3, 10]).is_err());
        assert_eq!(state.settings().merges_max, Some(0), "nothing of a change that is refused");
        for wrong in [
            Settings { replicas: Some(0), ..Settings::default() },
            Settings { replicas: Some(REPLICAS_MAX + 1), ..Settings::default() },
            Settings { leader_orders_max: Some(SCHEDULE_LIMIT_MAX + 1), ..Settings::default() },
            Settings { max_down_ms: Some(1), ..Settings::default() },
            Settings { location_labels: Some(LocationLabels { keys: vec!["a".into(); 2] }), ..Settings::default() },
            Settings { stores: vec![StoreSettings { store_id: 9, ..Default::default() }], ..Settings::default() },
        ] {
            assert!(set(&mut state, wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_store_has_its_own() {
        let mut state = state();
        let of = |store_id, leader_weight, add_peer_per_minute| StoreSettings {
            store_id,
            leader_weight,
            add_peer_per_minute,
            ..StoreSettings::default()
        };
        let stores = vec![of(3, Some(500), None), of(1, Some(2000), None)];
        assert_eq!(set(&mut state, Settings { stores, ..Settings::default() }), Ok(1));
        assert_eq!(set(&mut state, Settings { stores: vec![of(3, None, Some(7))], ..Settings::default() }), Ok(1));
        assert_eq!(state.settings().stores, [of(1, Some(2000), None), of(3, Some(500), Some(7))]);
        assert!(state.forget_settings_of(3) && !state.forget_settings_of(3));
        assert_eq!(state.settings().stores, [of(1, Some(2000), None)]);
    }

    #[test]
    fn schedulers_come_and_go() {
        use SchedulerKind::{BalanceLeader, EvictLeader, GrantLeader};
        let mut state = state();
        assert_eq!(scheduler(&mut state, of(EvictLeader, Some(true), &[2])), Ok(1));
        assert_eq!(scheduler(&mut state, of(EvictLeader, Some(true), &[1])), Ok(1));
        assert_eq!(stores_of(state.settings(), EvictLeader), [1, 2]);
        let why = |state: &mut PdState, change| scheduler(state, change).unwrap_err();
        assert!(why(&mut state, of(EvictLeader, Some(true), &[3])).contains("no store would be left"));
        assert!(why(&mut state, of(EvictLeader, Some(true), &[9])).contains("no store 9"));
        assert!(why(&mut state, of(EvictLeader, Some(true), &[])).contains("needs a store"));
        assert!(why(&mut state, of(GrantLeader, Some(true), &[1])).contains("store 1 cannot have"));
        assert!(why(&mut state, of(GrantLeader, Some(false), &[])).contains("no scheduler grant-leader"));
        assert!(why(&mut state, of(BalanceLeader, Some(true), &[1])).contains("for all stores"));
        assert_eq!(scheduler(&mut state, of(EvictLeader, Some(false), &[1])), Ok(1));
        assert!(why(&mut state, of(EvictLeader, Some(false), &[1])).contains("store 1 is not one of"));
        let pause =
            |kind, until_ms| ChangeScheduler { pause: Some(Pause { at_ms: 5, until_ms }), ..of(kind, None, &[]) };
        assert_eq!(scheduler(&mut state, pause(BalanceLeader, 9)), Ok(1));
        let paused = state.settings().schedulers[0].clone();
        assert_eq!((paused.exists, paused.paused_at_ms, paused.paused_until_ms), (None, 5, 9));
        assert_eq!(scheduler(&mut state, pause(BalanceLeader, 0)), Ok(1));
        assert_eq!(scheduler(&mut state, of(EvictLeader, Some(false), &[])), Ok(1));
        assert_eq!(**state.settings(), Settings::default(), "nothing is left");
        assert!(why(&mut state, pause(EvictLeader, 9)).contains("no scheduler evict-leader"));
        assert_eq!(scheduler(&mut state, of(BalanceLeader, Some(false), &[])), Ok(1));
        assert!(why(&mut state, pause(BalanceLeader, 9)).contains("no scheduler balance-leader"));
    }

    #[test]
    fn a_lost_store_is_replaced() {
        let mut state = state();
        let mut replace = |lost, by| state.replace_store(ReplaceStore { lost, by }).map(|(_, changed)| changed.len());
        assert_eq!((replace(1, 2), replace(1, 2)), (Ok(1), Ok(0)));
        for (lost, by, why) in [(2, 2, "itself"), (9, 2, "no store 9"), (2, 9, "no store 9"), (2, 1, "not up")] {
            assert!(replace(lost, by).unwrap_err().contains(why));
        }
        assert_eq!((state.replaced_by(1), state.replaced_by(2)), (Some(2), None));
        assert!(!is_up(state.store(1).unwrap()));
    }
}
