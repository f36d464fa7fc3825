//! Changes of the placement driver's settings, and of regions' replicas, as people make them. They are not faults, but
//! the store must handle them at any time.

use armilla::proto::armilla::pd::change_regions_request::Change;
use armilla::proto::armilla::pd::{
    ChangeScheduler, ChangeSettings, Pause, PeerOnStore, SchedulerKind, Settings, StoreSettings,
};
use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, Hit, Shape};
use super::context::Context;
use super::draw::{Class, Draft, Draw};
use super::target::Target;
use crate::oracle::settings::{About, Value};

/// The schedulers that are paused; the others have stores.
const PAUSED: u32 = 3;
/// The numbers that are set, by the numbers of their fields.
const NUMBERS: u32 = 4;
/// The end of a pause, unix ms: later than any clock of a run shows.
const NEVER_MS: u64 = 1 << 50;

/// A change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// A store is drained, unless another one is.
    Drain {
        /// The node, from 1.
        node: u32,
    },
    /// The store that is drained is so no more.
    Undrain {},
    /// A scheduler is paused.
    PauseScheduler {
        /// Which one, from 0.
        scheduler: u32,
    },
    /// The pause ends.
    ResumeScheduler {
        /// Which one, from 0.
        scheduler: u32,
    },
    /// A number is set.
    SetNumber {
        /// The number of its field, from 1.
        field: u32,
        /// The value.
        value: u64,
    },
    /// A store gets weights, in thousandths.
    Weigh {
        /// The node, from 1.
        node: u32,
        /// For leaders.
        leader: u32,
        /// For replicas.
        region: u32,
    },
    /// A store gets limits of how many replicas it may get, and give away, a minute.
    LimitStore {
        /// The node, from 1.
        node: u32,
        /// Replicas that it gets.
        add: u64,
        /// Replicas that it gives away.
        remove: u64,
    },
    /// A store is declared lost, and another one takes its place. Refused while the store is alive.
    ReplaceStore {
        /// The node of the store, from 1.
        node: u32,
        /// The node of the other one, from 1.
        by: u32,
    },
    /// A region gets a replica on a node.
    AddPeer {
        /// The region's number, from 0.
        region: u32,
        /// The node, from 1.
        to: u32,
    },
    /// A region loses a replica.
    RemovePeer {
        /// The region's number, from 0.
        region: u32,
        /// Which of its peers, counted from 0.
        peer: u32,
    },
}

/// The values of `kind`.
pub const NAMES: &[&str] = &[
    "drain",
    "undrain",
    "pause-scheduler",
    "resume-scheduler",
    "set-number",
    "weigh",
    "limit-store",
    "replace-store",
    "add-peer",
    "remove-peer",
];

/// The classes from which the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[
    Class { name: "settings", per_minute: (2.0, 20.0), make: |d| Draft::everywhere(0, setting(d)) },
    Class {
        name: "replicas",
        per_minute: (2.0, 20.0),
        make: |d| {
            let region = d.region();
            let kind = match d.rng.below(2) {
                0 => Kind::AddPeer { region, to: d.node() },
                _ => remove_peer(d, region),
            };
            Draft::everywhere(0, kind)
        },
    },
];

/// Draws a change of settings.
fn setting(d: &mut Draw<'_>) -> Kind {
    let scheduler = d.rng.below(u64::from(PAUSED)) as u32;
    match d.rng.below(11) {
        0 | 1 => Kind::Drain { node: d.node() },
        2 => Kind::Undrain {},
        3 | 4 => Kind::PauseScheduler { scheduler },
        5 => Kind::ResumeScheduler { scheduler },
        6 => Kind::SetNumber { field: d.rng.between(1, u64::from(NUMBERS)) as u32, value: d.rng.between(1, 9) },
        7 | 8 => Kind::LimitStore { node: d.node(), add: *d.rng.pick(&[1, 2, 5]), remove: *d.rng.pick(&[1, 2, 5]) },
        _ => Kind::Weigh {
            node: d.node(),
            leader: *d.rng.pick(&[0, 500, 1000, 3000]),
            region: *d.rng.pick(&[0, 500, 1000, 3000]),
        },
    }
}

/// Draws the removal of one of a region's replicas.
pub fn remove_peer(d: &mut Draw<'_>, region: u32) -> Kind {
    Kind::RemovePeer { region, peer: d.rng.below(3) as u32 }
}

fn scheduler(kind: u64, exists: Option<bool>, stores: Vec<u64>, pause: Option<Pause>) -> ChangeSettings {
    let change = ChangeScheduler { kind: kind as i32, exists, stores, pause };
    ChangeSettings { schedulers: vec![change], ..ChangeSettings::default() }
}

/// Returns the change that drains a store, or ends that.
pub fn drain(store: u64, drains: bool) -> ChangeSettings {
    scheduler(SchedulerKind::EvictLeader as u64, Some(drains), vec![store], None)
}

/// Returns the change that pauses a scheduler, or ends that.
pub fn pause(kind: u64, pauses: bool) -> ChangeSettings {
    let until_ms = if pauses { NEVER_MS } else { 0 };
    scheduler(kind, None, vec![], Some(Pause { at_ms: 1, until_ms }))
}

/// Returns the change that sets a number, or resets it.
pub fn number(field: u32, value: Option<u64>) -> ChangeSettings {
    let mut set = Settings::default();
    match field {
        1 => set.leader_orders_max = value,
        2 => set.replica_moves_max = value,
        3 => set.merges_max = value,
        _ => set.hot_operators_max = value,
    }
    let reset = if value.is_none() { vec![field] } else { vec![] };
    ChangeSettings { set: Some(set), reset, ..ChangeSettings::default() }
}

/// Returns the change that gives a store weights.
pub fn weights(store: u64, leader: u32, region: u32) -> ChangeSettings {
    let own = StoreSettings {
        store_id: store,
        leader_weight: Some(leader),
        region_weight: Some(region),
        ..StoreSettings::default()
    };
    ChangeSettings { set: Some(Settings { stores: vec![own], ..Settings::default() }), ..ChangeSettings::default() }
}

/// Returns the change that limits how many replicas a store may get, and give away, a minute.
pub fn limits(store: u64, add: u64, remove: u64) -> ChangeSettings {
    let own = StoreSettings {
        store_id: store,
        add_peer_per_minute: Some(add),
        remove_peer_per_minute: Some(remove),
        ..StoreSettings::default()
    };
    ChangeSettings { set: Some(Settings { stores: vec![own], ..Settings::default() }), ..ChangeSettings::default() }
}

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: false, lasts: false }
    }

    fn strike(&self, _hit: &mut Hit, context: &mut Context) -> bool {
        match *self {
            Kind::Drain { node } => {
                let drained = context.monitor.with(|observed| observed.settings.value(About::Drain));
                let lost = context.monitor.with(|observed| observed.settings.is_lost(About::Drain));
                let Some(store) = context.store_on(node) else { return false };
                if lost || matches!(drained, Some(Value::Number(_))) {
                    return false;
                }
                context.change_settings(About::Drain, Value::Number(store), drain(store, true));
            }
            Kind::Undrain {} => {
                let drained = context.monitor.with(|observed| observed.settings.value(About::Drain));
                let Some(Value::Number(store)) = drained else { return false };
                context.change_settings(About::Drain, Value::Off, drain(store, false));
            }
            Kind::PauseScheduler { scheduler } => {
                let kind = u64::from(scheduler % PAUSED);
                context.change_settings(About::Pause(kind), Value::On, pause(kind, true));
            }
            Kind::ResumeScheduler { scheduler } => {
                let kind = u64::from(scheduler % PAUSED);
                context.change_settings(About::Pause(kind), Value::Off, pause(kind, false));
            }
            Kind::SetNumber { field, value } => {
                context.change_settings(About::Number(field), Value::Number(value), number(field, Some(value)));
            }
            Kind::Weigh { node, leader, region } => {
                let Some(store) = context.store_on(node) else { return false };
                let value = Value::Weights(leader, region);
                context.change_settings(About::Weights(store), value, weights(store, leader, region));
            }
            Kind::LimitStore { node, add, remove } => {
                let Some(store) = context.store_on(node) else { return false };
                context.change_settings(About::Limits(store), Value::Limits(add, remove), limits(store, add, remove));
            }
            Kind::ReplaceStore { node, by } => {
                let (Some(lost), Some(by)) = (context.store_on(node), context.store_on(by)) else { return false };
                let node = context.resolve(Target::Node(node));
                if !context.may_lose(node) {
                    return false;
                }
                context.replace_store(node, lost, by);
            }
            Kind::AddPeer { region, to } => {
                let (Some(region_id), Some(store_id)) = (context.group(region), context.store_on(to)) else {
                    return false;
                };
                context.change_regions(Change::AddPeer(PeerOnStore { region_id, store_id }));
            }
            Kind::RemovePeer { region, peer } => {
                let Some(region_id) = context.group(region) else { return false };
                let Some(store_id) = context.store_of_peer(region_id, peer) else { return false };
                context.change_regions(Change::RemovePeer(PeerOnStore { region_id, store_id }));
            }
        }
        true
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Kind::LimitStore { add: 0, .. } | Kind::LimitStore { remove: 0, .. } => {
                Err("a store may get and give away a replica a minute at least".to_owned())
            }
            Kind::SetNumber { field, .. } if !(1..=NUMBERS).contains(field) => {
                Err(format!("there is no number with the field {field}"))
            }
            _ => Ok(()),
        }
    }

    fn disturbs(&self) -> bool {
        // None causes a long pause, so the sums continue and are judged.
        false
    }

    fn names_node_above(&self, highest: u32) -> bool {
        match self {
            Kind::Drain { node }
            | Kind::Weigh { node, .. }
            | Kind::LimitStore { node, .. }
            | Kind::AddPeer { to: node, .. } => *node > highest,
            Kind::ReplaceStore { node, by } => *node.max(by) > highest,
            _ => false,
        }
    }
}
