//! Answers about stores.
//!
//! A view of the cluster comes **in**, PD's documents go **out**. **Never**: a store that counts as up although it has
//! been silent for longer than PD's tools call it so; a number that Armilla does not measure, other than 0.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::answer::{Answer, Answered, store_not_found};
use super::request::Request;
use super::text;
use crate::pd::view::{StoreView, View};
use crate::proto::armilla::pd::StoreSettings;
use crate::proto::metapb::{NodeState, StoreState};
use crate::types::limits::STORE_RATE_MAX;

/// How long a store has to be silent until PD's tools call it disconnected, in milliseconds.
const DISCONNECTED_MS: u64 = 20_000;

#[derive(Serialize)]
struct Label<'v> {
    key: &'v str,
    value: &'v str,
}

#[derive(Serialize)]
struct Meta<'v> {
    id: u64,
    address: &'v str,
    #[serde(skip_serializing_if = "is_zero")]
    state: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label<'v>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'v str,
    #[serde(skip_serializing_if = "str::is_empty")]
    peer_address: &'v str,
    #[serde(skip_serializing_if = "str::is_empty")]
    status_address: &'v str,
    #[serde(skip_serializing_if = "str::is_empty")]
    git_hash: &'v str,
    #[serde(skip_serializing_if = "is_zero")]
    start_timestamp: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    deploy_path: &'v str,
    #[serde(skip_serializing_if = "is_zero")]
    last_heartbeat: i64,
    #[serde(skip_serializing_if = "is_zero")]
    node_state: i32,
    state_name: &'static str,
}

#[derive(Serialize)]
struct Status {
    capacity: String,
    available: String,
    used_size: String,
    leader_count: u64,
    leader_weight: Value,
    leader_score: Value,
    leader_size: u64,
    region_count: u64,
    region_weight: Value,
    region_score: Value,
    region_size: u64,
    slow_score: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat_ts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
}

#[derive(Serialize)]
struct Store<'v> {
    store: Meta<'v>,
    status: Status,
}

#[derive(Serialize)]
struct Stores<'v> {
    count: usize,
    stores: Vec<Store<'v>>,
}

#[derive(Serialize)]
struct Limit {
    #[serde(rename = "add-peer")]
    add_peer: u64,
    #[serde(rename = "remove-peer")]
    remove_peer: u64,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// What a store holds.
#[derive(Clone, Copy, Default)]
struct Load {
    leaders: u64,
    leader_mib: u64,
    regions: u64,
    region_mib: u64,
}

/// Returns what each store holds.
fn loads(view: &View) -> BTreeMap<u64, Load> {
    let mut loads: BTreeMap<u64, Load> = BTreeMap::new();
    for region in view.regions.iter().filter(|region| region.newest) {
        let mib = region.size.map_or(0, |(bytes, _)| text::mib(bytes));
        for peer in &region.info.region.peers {
            let load = loads.entry(peer.store_id).or_default();
            load.regions += 1;
            load.region_mib += mib;
        }
        if let Some(leader) = &region.info.leader {
            let load = loads.entry(leader.store_id).or_default();
            load.leaders += 1;
            load.leader_mib += mib;
        }
    }
    loads
}

/// Returns the state of a store in PD's words.
pub(super) fn state_name(view: &View, store: &StoreView) -> &'static str {
    match store.store.state() {
        StoreState::Tombstone => "Tombstone",
        StoreState::Offline => "Offline",
        StoreState::Up if store.silent_ms >= view.options.max_down_ms => "Down",
        // A new leader has not heard of the store yet, which says nothing good either.
        StoreState::Up if store.silent_ms >= DISCONNECTED_MS || store.heartbeat_age_ms.is_none() => "Disconnected",
        StoreState::Up => "Up",
    }
}

/// Returns what is set for a store.
fn own(view: &View, store: u64) -> StoreSettings {
    view.settings.stores.iter().find(|one| one.store_id == store).copied().unwrap_or_default()
}

/// Returns a number of thousandths as PD writes a number: without a fraction if it has none.
fn thousandths(number: u64) -> Value {
    if number.is_multiple_of(1000) { Value::from(number / 1000) } else { Value::from(number as f64 / 1000.0) }
}

fn document<'v>(view: &'v View, store: &'v StoreView, load: Load) -> Store<'v> {
    let record = &store.store;
    let own = own(view, record.id);
    let (leader_weight, region_weight) = (own.leader_weight.unwrap_or(1000), own.region_weight.unwrap_or(1000));
    let labels = record.labels.iter().map(|label| Label { key: &label.key, value: &label.value });
    let started_ms = u64::try_from(record.start_timestamp).unwrap_or(0).saturating_mul(1000);
    let heard_ms = store.heartbeat_age_ms.map(|age_ms| view.wall_ms.saturating_sub(age_ms));
    let uptime_ms = heard_ms.map_or(0, |heard_ms| heard_ms.saturating_sub(started_ms));
    Store {
        store: Meta {
            id: record.id,
            address: &record.address,
            state: record.state,
            labels: labels.collect(),
            version: &record.version,
            peer_address: &record.peer_address,
            status_address: &record.status_address,
            git_hash: &record.git_hash,
            start_timestamp: record.start_timestamp,
            deploy_path: &record.deploy_path,
            last_heartbeat: record.last_heartbeat,
            node_state: record.node_state,
            state_name: state_name(view, store),
        },
        status: Status {
            capacity: text::size(store.capacity_bytes),
            available: text::size(store.available_bytes),
            used_size: text::size(store.used_bytes),
            leader_count: load.leaders,
            leader_weight: thousandths(u64::from(leader_weight)),
            // The balance of leaders, and that of replicas, is one of their numbers.
            leader_score: thousandths(load.leaders * 1_000_000 / u64::from(leader_weight.max(1))),
            leader_size: load.leader_mib,
            region_count: load.regions,
            region_weight: thousandths(u64::from(region_weight)),
            region_score: thousandths(load.regions * 1_000_000 / u64::from(region_weight.max(1))),
            region_size: load.region_mib,
            slow_score: 0,
            start_ts: (started_ms > 0).then(|| text::rfc3339_ms(started_ms)),
            last_heartbeat_ts: heard_ms.map(text::rfc3339_ms),
            uptime: (started_ms > 0 && uptime_ms > 0).then(|| text::duration_ms(uptime_ms)),
        },
    }
}

/// Returns the document of the stores for which `is_in` is true.
fn list(view: &View, is_in: impl Fn(&StoreView) -> bool) -> Answer {
    let loads = loads(view);
    let load = |store: &StoreView| loads.get(&store.store.id).copied().unwrap_or_default();
    let stores: Vec<_> =
        view.stores.iter().filter(|store| is_in(store)).map(|store| document(view, store, load(store))).collect();
    Answer::json(&Stores { count: stores.len(), stores })
}

/// Returns the store with this ID.
pub(super) fn find(view: &View, id: u64) -> Option<&StoreView> {
    view.stores.iter().find(|store| store.store.id == id)
}

/// `GET /stores?state=N`
pub(super) fn all(view: &View, request: &Request) -> Answered {
    let mut states = BTreeSet::new();
    for value in request.queries("state") {
        let state = text::parse_int(value).map_err(|why| Answer::error(500, why))?;
        let state = i32::try_from(state).ok().and_then(|state| StoreState::try_from(state).ok());
        let shown = String::from_utf8_lossy(value);
        states.insert(state.ok_or_else(|| Answer::error(500, format!("unknown StoreState: {shown}")))? as i32);
    }
    let is_in = |store: &StoreView| match states.is_empty() {
        true => store.store.state() != StoreState::Tombstone,
        false => states.contains(&store.store.state),
    };
    Ok(list(view, is_in))
}

/// `GET /stores/check?state=NAME`
pub(super) fn by_state(view: &View, request: &Request) -> Answered {
    const NAMES: [&str; 5] = ["Up", "Offline", "Tombstone", "Down", "Disconnected"];
    let mut names = BTreeSet::new();
    for value in request.queries("state") {
        let shown = String::from_utf8_lossy(value);
        let known = NAMES.iter().find(|name| name.eq_ignore_ascii_case(&shown));
        names.insert(*known.ok_or_else(|| Answer::error(400, format!("unknown StoreState: {shown}")))?);
    }
    let is_in = |store: &StoreView| match names.is_empty() {
        true => store.store.state() != StoreState::Tombstone,
        false => names.contains(state_name(view, store)),
    };
    Ok(list(view, is_in))
}

/// `GET /store/S`
pub(super) fn one(view: &View, request: &Request) -> Answered {
    let id = request.store_id()?;
    let store = find(view, id).ok_or_else(|| store_not_found(404, id))?;
    let load = loads(view).get(&id).copied().unwrap_or_default();
    Ok(Answer::json(&document(view, store, load)))
}

/// `GET /labels`
pub(super) fn labels(view: &View, _: &Request) -> Answered {
    let up = view.stores.iter().filter(|store| store.store.state() != StoreState::Tombstone);
    let mut labels: Vec<Label<'_>> = Vec::new();
    for label in up.flat_map(|store| &store.store.labels) {
        if !labels.iter().any(|known| known.key == label.key && known.value == label.value) {
            labels.push(Label { key: &label.key, value: &label.value });
        }
    }
    // PD says null for none.
    Ok(Answer::json(&Some(labels).filter(|labels| !labels.is_empty())))
}

/// `GET /labels/stores?name=N&value=V`
pub(super) fn by_label(view: &View, request: &Request) -> Answered {
    let (name, value) = (request.query_or_empty("name"), request.query_or_empty("value"));
    let fits = |store: &StoreView| {
        store
            .store
            .labels
            .iter()
            .any(|label| label.key.as_bytes() == name && (value.is_empty() || label.value.as_bytes() == value))
    };
    Ok(list(view, |store| store.store.state() != StoreState::Tombstone && fits(store)))
}

/// `GET /stores/limit`
pub(super) fn limits(view: &View, _: &Request) -> Answered {
    let here = view.stores.iter().filter(|store| store.store.state() != StoreState::Tombstone);
    let limit = |store: &StoreView| {
        let own = own(view, store.store.id);
        let limit = Limit {
            add_peer: own.add_peer_per_minute.unwrap_or(STORE_RATE_MAX),
            remove_peer: own.remove_peer_per_minute.unwrap_or(STORE_RATE_MAX),
        };
        (store.store.id.to_string(), limit)
    };
    Ok(Answer::json(&here.map(limit).collect::<BTreeMap<_, _>>()))
}

/// `GET /stores/progress?action=A` or `?id=S`
pub(super) fn progress(view: &View, request: &Request) -> Answered {
    let nothing =
        |what: String| Answer::error(404, format!("[PD:progress:ErrProgressNotFound]no progress found for the {what}"));
    if let Some(id) = request.query("id").filter(|id| !id.is_empty()) {
        let id = text::parse_uint(id).map_err(Answer::input)?;
        return Err(nothing(format!("given store ID: {id}")));
    }
    let action = String::from_utf8_lossy(&request.query_or_empty("action")).into_owned();
    if action.is_empty() {
        return Err(Answer::error(400, "need query parameters"));
    }
    let leaving = view.stores.iter().any(|store| store.store.node_state() == NodeState::Removing);
    if action == "removing" && leaving {
        return Err(Answer::unbuilt(
            "Armilla does not estimate how long the removal of a store takes: see region_count of the store",
        ));
    }
    Err(nothing(format!("action: {action}")))
}
