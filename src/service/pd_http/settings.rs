//! Changes of configuration, weights and limits, in PD's form.
//!
//! A body comes **in**, a change of settings goes **out**. **Never**: success for an item that PD has and Armilla does
//! not, unless the value is the one that is in effect anyway.

use serde_json::{Map, Value};

use super::answer::{Answer, store_not_found};
use super::config;
use super::labels;
use super::stores;
use super::text;
use crate::pd::view::View;
use crate::proto::armilla::pd::{ChangeSettings, LocationLabels, Settings, StoreSettings};
use crate::proto::metapb::StoreState;
use crate::types::limits::{STORE_RATE_MAX, STORE_WEIGHT_MAX};

/// Which items a request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// `POST /config`
    All,
    /// `POST /config/schedule`
    Schedule,
    /// `POST /config/replicate`
    Replicate,
}

/// The type of an item.
#[derive(Clone, Copy)]
enum Kind {
    Number(fn(&mut Settings, u64)),
    /// In MiB.
    Size(fn(&mut Settings, u64)),
    Duration(fn(&mut Settings, u64)),
    Labels,
    /// PD has it, Armilla does not.
    Other,
}

#[rustfmt::skip]
const SCHEDULE: &[(&str, Kind)] = &[
    ("leader-schedule-limit", Kind::Number(|set, value| set.leader_orders_max = Some(value))),
    ("region-schedule-limit", Kind::Number(|set, value| set.replica_moves_max = Some(value))),
    ("merge-schedule-limit", Kind::Number(|set, value| set.merges_max = Some(value))),
    ("hot-region-schedule-limit", Kind::Number(|set, value| set.hot_operators_max = Some(value))),
    ("max-store-down-time", Kind::Duration(|set, value| set.max_down_ms = Some(value))),
    ("max-merge-region-size", Kind::Size(|set, value| set.merge_below_bytes = Some(value))),
    ("split-merge-interval", Kind::Duration(|set, value| set.merge_rest_ms = Some(value))),
];

const REPLICATION: &[(&str, Kind)] =
    &[("max-replicas", Kind::Number(|set, value| set.replicas = Some(value))), ("location-labels", Kind::Labels)];

/// Items of `schedule` that Armilla does not have.
const OTHER_SCHEDULE: [&str; 38] = [
    "max-snapshot-count",
    "max-pending-peer-count",
    "max-merge-region-keys",
    "swtich-witness-interval",
    "enable-one-way-merge",
    "enable-cross-table-merge",
    "patrol-region-interval",
    "max-store-preparing-time",
    "leader-schedule-policy",
    "replica-schedule-limit",
    "hot-region-cache-hits-threshold",
    "store-limit",
    "store-limit-mode",
    "tolerant-size-ratio",
    "high-space-ratio",
    "low-space-ratio",
    "region-score-formula-version",
    "scheduler-max-waiting-operator",
    "enable-remove-down-replica",
    "enable-replace-offline-replica",
    "enable-make-up-replica",
    "enable-remove-extra-replica",
    "enable-location-replacement",
    "enable-debug-metrics",
    "enable-joint-consensus",
    "enable-tikv-split-region",
    "schedulers-v2",
    "schedulers-payload",
    "hot-regions-write-interval",
    "hot-regions-reserved-days",
    "max-movable-hot-peer-size",
    "enable-diagnostic",
    "enable-witness",
    "slow-store-evicting-affected-store-ratio-threshold",
    "store-limit-version",
    "halt-scheduling",
    "witness-schedule-limit",
    "switch-witness-interval",
];

/// Items of `replication` that Armilla does not have.
const OTHER_REPLICATION: [&str; 4] =
    ["strictly-match-label", "enable-placement-rules", "enable-placement-rules-cache", "isolation-level"];

/// Beginnings of PD's other items, which `POST /config` may name.
const OTHER_SECTIONS: [&str; 5] = ["pd-server.", "log.", "replication-mode.", "keyspace.", "controller."];

/// Returns the item with this name, and the name of PD's structure that has it.
fn item(name: &str, scope: Scope) -> Option<(Kind, &'static str)> {
    let (section, name) = match (scope, name.split_once('.')) {
        (Scope::All, Some((section, name))) => (Some(section), name),
        _ => (None, name),
    };
    let of = |known: &[(&str, Kind)], others: &[&str]| {
        let found = known.iter().find(|(other, _)| *other == name).map(|(_, kind)| *kind);
        found.or_else(|| others.contains(&name).then_some(Kind::Other))
    };
    let is_in = |own: Scope, word: &str| (scope == Scope::All || scope == own) && section.is_none_or(|one| one == word);
    let schedule = || of(SCHEDULE, &OTHER_SCHEDULE).map(|kind| (kind, "ScheduleConfig"));
    let replication = || of(REPLICATION, &OTHER_REPLICATION).map(|kind| (kind, "ReplicationConfig"));
    let first = is_in(Scope::Schedule, "schedule").then(schedule).flatten();
    first.or_else(|| is_in(Scope::Replicate, "replication").then(replication).flatten())
}

/// Returns the change that a body asks for.
///
/// # Errors
/// Returns PD's answer to an item that does not exist, or a value of another type.
pub(super) fn configured(view: &View, scope: Scope, body: &Map<String, Value>) -> Result<ChangeSettings, Answer> {
    let mut set = Settings::default();
    for (name, value) in body {
        let other = scope == Scope::All && OTHER_SECTIONS.iter().any(|section| name.starts_with(section));
        let Some((kind, of)) = item(name, scope) else {
            // PD reads only what it knows where the section is in the path.
            match (scope, other) {
                (Scope::All, true) => return Err(unbuilt(name)),
                (Scope::All, false) => {
                    let name = name.rsplit('.').next().unwrap_or(name);
                    return Err(Answer::error(400, format!("config item {name} not found")));
                }
                _ => continue,
            }
        };
        let name = name.rsplit('.').next().unwrap_or(name);
        let wrong = |what: String| {
            let why = format!("json: cannot unmarshal {what} into Go struct field {of}.{name} of type uint64");
            if scope == Scope::All { Answer::error(400, why) } else { Answer::input(why) }
        };
        let number = || match value {
            Value::Number(number) => number.as_u64().ok_or_else(|| wrong(format!("number {number}"))),
            other => Err(wrong(kind_of(other).to_owned())),
        };
        match kind {
            Kind::Number(put) => put(&mut set, number()?),
            Kind::Size(put) => put(&mut set, number()?.saturating_mul(1 << 20)),
            Kind::Duration(put) => {
                let said = value.as_str().ok_or_else(|| Answer::error(400, "invalid syntax"))?;
                put(&mut set, text::parse_duration_ms(said).map_err(|why| Answer::error(400, why))?);
            }
            Kind::Labels => {
                let said = value.as_str().ok_or_else(|| Answer::error(400, "invalid syntax"))?;
                let keys: Vec<String> =
                    said.split(',').map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
                if let Some(wrong) = keys.iter().find_map(|key| labels::wrong_name(key)) {
                    return Err(Answer::error(400, wrong));
                }
                set.location_labels = Some(LocationLabels { keys });
            }
            Kind::Other if config::shows(view, name, value) => {}
            Kind::Other => return Err(unbuilt(name)),
        }
    }
    if set.replicas == Some(0) {
        let status = if scope == Scope::Replicate { 500 } else { 400 };
        return Err(Answer::error(status, "[PD:placement:ErrRuleContent]invalid rule content, invalid count 0"));
    }
    Ok(ChangeSettings { set: Some(set), ..ChangeSettings::default() })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn unbuilt(name: &str) -> Answer {
    let names: Vec<&str> = SCHEDULE.iter().chain(REPLICATION).map(|(name, _)| *name).collect();
    Answer::unbuilt(&format!("Armilla does not have the item {name}: those that can be set are {}", names.join(", ")))
}

/// Returns the change that `POST /store/S/weight` asks for.
///
/// # Errors
/// Returns PD's answer to a request that is not in order.
pub(super) fn weighed(view: &View, store: u64, body: &Map<String, Value>) -> Result<ChangeSettings, Answer> {
    let given = |name: &str| body.get(name).ok_or_else(|| Answer::error(400, format!("{name} weight unset")));
    let (leader, region) = (given("leader")?, given("region")?);
    let weight = |value: &Value, name: &str| {
        let weight = value.as_f64().filter(|weight| *weight >= 0.0);
        let weight = weight.ok_or_else(|| Answer::error(400, format!("bad format {name} weight")))?;
        let thousandths = (weight * 1000.0).round();
        if thousandths > STORE_WEIGHT_MAX as f64 {
            let most = STORE_WEIGHT_MAX / 1000;
            return Err(Answer::error(400, format!("the {name} weight {weight} is too large: it is at most {most}")));
        }
        Ok(Some(thousandths as u32))
    };
    let (leader_weight, region_weight) = (weight(leader, "leader")?, weight(region, "region")?);
    if stores::find(view, store).is_none() {
        return Err(store_not_found(500, store));
    }
    let own = StoreSettings { store_id: store, leader_weight, region_weight, ..StoreSettings::default() };
    Ok(of_stores(vec![own]))
}

fn of_stores(stores: Vec<StoreSettings>) -> ChangeSettings {
    ChangeSettings { set: Some(Settings { stores, ..Settings::default() }), ..ChangeSettings::default() }
}

/// Returns a store's limits as a request says.
fn limits(body: &Map<String, Value>) -> Result<StoreSettings, Answer> {
    let bad = |why: &str| Answer::error(400, why);
    let rate = body.get("rate").ok_or_else(|| bad("rate unset"))?;
    let rate = rate.as_f64().filter(|rate| *rate > 0.0);
    let rate = rate.ok_or_else(|| bad("invalid rate which should be larger than 0"))?;
    if rate.fract() != 0.0 {
        let why = format!("the rate {rate} is not a whole number of replicas a minute, which Armilla's limits are");
        return Err(Answer::error(400, why));
    }
    let rate = Some((rate as u64).min(STORE_RATE_MAX));
    let (add, remove) = match body.get("type") {
        None => (true, true),
        Some(Value::String(name)) if name == "add-peer" => (true, false),
        Some(Value::String(name)) if name == "remove-peer" => (false, true),
        Some(Value::String(_)) => return Err(bad("unknown type")),
        Some(_) => return Err(bad("bad format type")),
    };
    Ok(StoreSettings {
        add_peer_per_minute: rate.filter(|_| add),
        remove_peer_per_minute: rate.filter(|_| remove),
        ..StoreSettings::default()
    })
}

/// Returns the change that `POST /store/S/limit` asks for.
///
/// # Errors
/// Returns PD's answer to a request that is not in order.
pub(super) fn limited(view: &View, store: u64, body: &Map<String, Value>) -> Result<ChangeSettings, Answer> {
    if stores::find(view, store).is_none() {
        return Err(store_not_found(500, store));
    }
    Ok(of_stores(vec![StoreSettings { store_id: store, ..limits(body)? }]))
}

/// Returns the change that `POST /stores/limit` asks for: of all stores, or of those with some labels.
///
/// # Errors
/// Returns PD's answer to a request that is not in order.
pub(super) fn all_limited(view: &View, body: &Map<String, Value>) -> Result<ChangeSettings, Answer> {
    let limits = limits(body)?;
    let wanted = match body.get("labels") {
        None => None,
        Some(Value::Object(labels)) => Some(labels),
        Some(_) => return Err(Answer::error(400, "labels are an object of keys and values")),
    };
    let fits = |store: &crate::proto::metapb::Store| {
        wanted.is_none_or(|wanted| {
            wanted.iter().all(|(key, value)| {
                store.labels.iter().any(|label| label.key.eq_ignore_ascii_case(key) && *value == label.value)
            })
        })
    };
    let stores = view.stores.iter().map(|store| &store.store);
    let stores = stores.filter(|store| store.state() != StoreState::Tombstone && fits(store));
    Ok(of_stores(stores.map(|store| StoreSettings { store_id: store.id, ..limits }).collect()))
}
