//! Settings of the placement driver that were changed while it ran are in force, and stay so.
//!
//! Source: they are part of the placement driver's replicated state (`armilla.pd.ChangeSettings`).
//!
//! A change that was acknowledged holds until the next one, through crashes and changes of leaders; one whose outcome
//! is not known is not judged. A scheduler makes no orders while it is paused, and nothing orders a leader to a store
//! that is drained. The scenario asks at the end what is set, and whether a drained store still leads regions.

use std::collections::{BTreeMap, BTreeSet};

use armilla::proto::armilla::pd::{SchedulerKind, Settings as Set};
use armilla::rt::probe::Event;
use armilla::types::limits::STORE_RATE_MAX;

use super::Violation;

/// How long an order may follow on a change that it did not know yet, ns: it was being decided.
pub(super) const UNDER_WAY_NS: u64 = 5_000_000_000;

/// What a change is about. One change of each at a time is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A scheduler's pause.
    Pause(u64),
    /// The stores that are drained.
    Drain,
    /// A number, by the number of its field.
    Number(u32),
    /// The weights of a store.
    Weights(u64),
    /// The limits of a store.
    Limits(u64),
}

/// A value that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The scheduler runs, the store is not drained.
    Off,
    /// The scheduler is paused.
    On,
    /// This number, or the store that is drained.
    Number(u64),
    /// For leaders and for replicas, in thousandths.
    Weights(u32, u32),
    /// How many replicas the store may get, and give away, a minute.
    Limits(u64, u64),
}

/// The oracle.
#[derive(Debug, Default)]
pub struct Settings {
    /// What was acknowledged last, and when (true ns).
    known: BTreeMap<About, (Value, u64)>,
    /// Changes that are under way.
    busy: BTreeSet<About>,
    /// What is not known any more: the outcome of a change was lost.
    lost: BTreeSet<About>,
    /// How many changes were acknowledged.
    pub changes: u64,
}

impl Settings {
    /// Begins a change. Returns whether it may be made: no other one is under way.
    pub fn begin(&mut self, about: About) -> bool {
        self.busy.insert(about)
    }

    /// Ends a change: `value` is what it has set, if it was acknowledged.
    pub fn end(&mut self, about: About, value: Option<Value>, now_ns: u64) {
        self.busy.remove(&about);
        match value {
            Some(value) => {
                self.changes += 1;
                self.known.insert(about, (value, now_ns));
            }
            None => {
                self.lost.insert(about);
            }
        }
    }

    /// Returns what is in force for certain, if anything was set.
    pub fn value(&self, about: About) -> Option<Value> {
        self.since(about).map(|(value, _)| value)
    }

    /// Returns what is in force for certain, and since when (true ns).
    pub(super) fn since(&self, about: About) -> Option<(Value, u64)> {
        let certain = !self.busy.contains(&about) && !self.lost.contains(&about);
        self.known.get(&about).copied().filter(|_| certain)
    }

    /// Returns whether nobody knows what is in force.
    pub fn is_lost(&self, about: About) -> bool {
        self.lost.contains(&about)
    }

    /// Returns whether stores may have limits.
    pub fn limits_stores(&self) -> bool {
        self.known.keys().chain(&self.lost).chain(&self.busy).any(|about| matches!(about, About::Limits(_)))
    }

    /// Forgets the limits of stores: they are about to be lifted.
    pub fn forget_limits(&mut self) {
        let others = |about: &About| !matches!(about, About::Limits(_));
        self.known.retain(|about, _| others(about));
        self.lost.retain(others);
        self.busy.retain(others);
    }

    /// Forgets what was set: everything is about to be set back.
    pub fn forget(&mut self) {
        *self = Settings { changes: self.changes, ..Settings::default() };
    }

    /// Judges one event.
    pub fn observe(&mut self, now_ns: u64, node: u64, event: &Event) -> Result<(), Violation> {
        let long_ago = |at_ns: u64| now_ns > at_ns + UNDER_WAY_NS;
        match event {
            Event::Note { what: "scheduled", a: region, b: kind, .. } => match self.since(About::Pause(*kind)) {
                Some((Value::On, at_ns)) if long_ago(at_ns) => {
                    let name = SchedulerKind::try_from(*kind as i32).map_or("", |kind| kind.as_str_name());
                    let what = format!("the scheduler {name} is paused, and makes an order for region {region}");
                    Err(Violation::new("settings", now_ns, node, what))
                }
                _ => Ok(()),
            },
            Event::Order { region, to_store, .. } => match self.since(About::Drain) {
                Some((Value::Number(drained), at_ns)) if drained == *to_store && long_ago(at_ns) => {
                    let what = format!("store {to_store} is drained, and is to become leader of region {region}");
                    Err(Violation::new("settings", now_ns, node, what))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Returns how what the placement driver says is set differs from what was acknowledged, if it does. Stores that
    /// are not among the `living` may have been forgotten.
    pub fn differs(&self, set: &Set, living: &BTreeSet<u64>) -> Option<String> {
        self.known.keys().find_map(|about| {
            let wanted = self.value(*about)?;
            let found = match *about {
                About::Pause(kind) => {
                    let mut all = set.schedulers.iter();
                    let paused = all.any(|one| one.kind as u64 == kind && one.paused_until_ms > 0);
                    if paused { Value::On } else { Value::Off }
                }
                About::Drain => {
                    let evict = set.schedulers.iter().find(|one| one.kind() == SchedulerKind::EvictLeader);
                    match evict.and_then(|one| one.stores.first()) {
                        Some(store) => Value::Number(*store),
                        None => Value::Off,
                    }
                }
                About::Number(field) => number(set, field).map_or(Value::Off, Value::Number),
                About::Weights(store) => {
                    let own = set.stores.iter().find(|one| one.store_id == store).copied().unwrap_or_default();
                    Value::Weights(own.leader_weight.unwrap_or(1000), own.region_weight.unwrap_or(1000))
                }
                About::Limits(store) => {
                    let own = set.stores.iter().find(|one| one.store_id == store).copied().unwrap_or_default();
                    let limit = |set: Option<u64>| set.unwrap_or(STORE_RATE_MAX);
                    Value::Limits(limit(own.add_peer_per_minute), limit(own.remove_peer_per_minute))
                }
            };
            let of_store = match (about, wanted) {
                (About::Weights(store) | About::Limits(store), _) => Some(*store),
                (About::Drain, Value::Number(store)) => Some(store),
                _ => None,
            };
            let judged = of_store.is_none_or(|store| living.contains(&store));
            (judged && found != wanted).then(|| format!("{about:?} was set to {wanted:?}, but is {found:?}"))
        })
    }
}

/// Returns one of the numbers that runs change.
fn number(set: &Set, field: u32) -> Option<u64> {
    match field {
        1 => set.leader_orders_max,
        2 => set.replica_moves_max,
        3 => set.merges_max,
        4 => set.hot_operators_max,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: orders against a setting, and settings that are forgotten, are found. Method: by hand.
    use super::*;

    #[test]
    fn what_is_known_is_judged() {
        let mut settings = Settings::default();
        let scheduled = Event::Note { store: 1, what: "scheduled", a: 9, b: 0, data: Default::default() };
        let order = Event::Order { store: 1, region: 9, to_store: 2 };
        let late = 2 * UNDER_WAY_NS;
        assert!(settings.begin(About::Pause(0)) && !settings.begin(About::Pause(0)));
        settings.end(About::Pause(0), Some(Value::On), 0);
        assert!(settings.observe(1, 1, &scheduled).is_ok(), "it was being decided");
        assert!(settings.observe(late, 1, &scheduled).is_err() && settings.observe(late, 1, &order).is_ok());
        settings.begin(About::Drain);
        settings.end(About::Drain, Some(Value::Number(2)), 0);
        assert!(settings.observe(late, 1, &order).is_err());
        let living = BTreeSet::from([2]);
        assert!(settings.differs(&Set::default(), &living).is_some());
        settings.begin(About::Pause(0));
        assert!(settings.observe(late, 1, &scheduled).is_ok(), "it changes");
        settings.end(About::Pause(0), None, 0);
        settings.begin(About::Drain);
        settings.end(About::Drain, Some(Value::Off), 0);
        assert_eq!(settings.differs(&Set::default(), &living), None);
    }
}
