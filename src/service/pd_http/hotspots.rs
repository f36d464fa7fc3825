//! Answers about hot regions and the load of stores.
//!
//! A view of the cluster comes **in**, PD's documents go **out**: rates per second. **Never**: a region that is shown
//! as hot before the placement driver takes it for that.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::{Answer, Answered, store_not_found};
use super::request::Request;
use super::text;
use crate::pd::cluster::HITS;
use crate::pd::view::View;
use crate::proto::armilla::pd::RegionLoad;
use crate::proto::metapb::{PeerRole, StoreState};

/// So many reports without much load make a region cold, as PD tells it.
const ANTI_COUNT: u32 = 2;

#[derive(Serialize)]
struct HotPeer {
    store_id: u64,
    stores: Vec<u64>,
    is_leader: bool,
    is_learner: bool,
    region_id: u64,
    hot_degree: u32,
    flow_bytes: u64,
    flow_keys: u64,
    flow_query: u64,
    anti_count: u32,
    last_update_time: String,
}

#[derive(Default, Serialize)]
struct HotStore {
    store_bytes: u64,
    store_keys: u64,
    store_query: u64,
    total_flow_bytes: u64,
    total_flow_keys: u64,
    total_flow_query: u64,
    regions_count: usize,
    statistics: Vec<HotPeer>,
}

type ByStore = BTreeMap<String, HotStore>;

#[derive(Serialize)]
struct HotRegions {
    as_peer: ByStore,
    as_leader: ByStore,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Rates {
    bytes_write_rate: BTreeMap<String, u64>,
    bytes_read_rate: BTreeMap<String, u64>,
    keys_write_rate: BTreeMap<String, u64>,
    keys_read_rate: BTreeMap<String, u64>,
    query_write_rate: BTreeMap<String, u64>,
    query_read_rate: BTreeMap<String, u64>,
}

/// Bytes, keys and requests per second.
type Flow = (u64, u64, u64);

/// What is asked for.
#[derive(Clone, Copy)]
enum Kind {
    Reads,
    Writes,
}

impl Kind {
    fn flow(self, load: &RegionLoad) -> Flow {
        match self {
            Kind::Reads => (load.read_bytes, load.read_keys, load.reads),
            Kind::Writes => (load.written_bytes, load.written_keys, load.writes),
        }
    }

    fn hits(self, load: &RegionLoad) -> u32 {
        match self {
            Kind::Reads => load.read_hits,
            Kind::Writes => load.write_hits,
        }
    }
}

/// A load at a store that bears it, and whether the store leads the region.
struct Borne<'v> {
    load: &'v RegionLoad,
    store: u64,
    leads: bool,
}

/// Returns the loads of reads: each where the replica is that serves it.
fn read_loads(view: &View) -> Vec<Borne<'_>> {
    view.loads.iter().map(|load| Borne { load, store: load.store_id, leads: load.leads }).collect()
}

/// Returns the loads of writes: each at every store that has a replica.
fn write_loads(view: &View) -> Vec<Borne<'_>> {
    let leaders = view.loads.iter().filter(|load| load.leads);
    leaders
        .flat_map(|load| {
            stores_of(view, load.region_id).into_iter().map(|store| Borne {
                load,
                store,
                leads: store == load.store_id,
            })
        })
        .collect()
}

fn stores_of(view: &View, region: u64) -> Vec<u64> {
    let found = view.regions.iter().find(|one| one.newest && one.info.region.id == region);
    found.map_or(Vec::new(), |one| one.info.region.peers.iter().map(|peer| peer.store_id).collect())
}

fn is_learner(view: &View, region: u64, store: u64) -> bool {
    let found = view.regions.iter().find(|one| one.newest && one.info.region.id == region);
    let peer = found.and_then(|one| one.info.region.peers.iter().find(|peer| peer.store_id == store));
    peer.is_some_and(|peer| peer.role() == PeerRole::Learner)
}

/// Returns what each of the stores asked for bears.
fn by_store<'v>(view: &View, asked: &[u64], loads: impl Iterator<Item = &'v Borne<'v>>, kind: Kind) -> ByStore {
    let mut stores: BTreeMap<u64, HotStore> = asked.iter().map(|store| (*store, HotStore::default())).collect();
    for Borne { load, store, leads } in loads {
        let Some(hot) = stores.get_mut(store) else { continue };
        let (bytes, keys, queries) = kind.flow(load);
        (hot.store_bytes, hot.store_keys, hot.store_query) =
            (hot.store_bytes + bytes, hot.store_keys + keys, hot.store_query + queries);
        if kind.hits(load) < HITS {
            continue;
        }
        (hot.total_flow_bytes, hot.total_flow_keys, hot.total_flow_query) =
            (hot.total_flow_bytes + bytes, hot.total_flow_keys + keys, hot.total_flow_query + queries);
        hot.regions_count += 1;
        hot.statistics.push(HotPeer {
            store_id: *store,
            stores: stores_of(view, load.region_id),
            is_leader: *leads,
            is_learner: is_learner(view, load.region_id, *store),
            region_id: load.region_id,
            hot_degree: kind.hits(load),
            flow_bytes: bytes,
            flow_keys: keys,
            flow_query: queries,
            anti_count: ANTI_COUNT,
            last_update_time: text::rfc3339_ms(view.wall_ms.saturating_sub(load.age_ms)),
        });
    }
    for hot in stores.values_mut() {
        hot.statistics.sort_by_key(|peer| (std::cmp::Reverse((peer.flow_query, peer.flow_bytes)), peer.region_id));
    }
    stores.into_iter().map(|(store, hot)| (store.to_string(), hot)).collect()
}

/// Returns the stores that a request is about: all, or those that it names.
fn asked(view: &View, request: &Request) -> Result<Vec<u64>, Answer> {
    let here: Vec<u64> = view
        .stores
        .iter()
        .filter(|store| store.store.state() != StoreState::Tombstone)
        .map(|store| store.store.id)
        .collect();
    let mut asked = Vec::new();
    for id in request.queries("store_id") {
        let id = text::parse_uint(id).map_err(|why| Answer::error(400, format!("invalid store id: {why}")))?;
        if !here.contains(&id) {
            return Err(store_not_found(500, id));
        }
        asked.push(id);
    }
    Ok(if asked.is_empty() { here } else { asked })
}

/// `GET /hotspot/regions/read?store_id=S`
pub(super) fn hot_reads(view: &View, request: &Request) -> Answered {
    hot_regions(view, request, Kind::Reads, &read_loads(view))
}

/// `GET /hotspot/regions/write?store_id=S`
pub(super) fn hot_writes(view: &View, request: &Request) -> Answered {
    hot_regions(view, request, Kind::Writes, &write_loads(view))
}

fn hot_regions(view: &View, request: &Request, kind: Kind, loads: &[Borne<'_>]) -> Answered {
    let asked = asked(view, request)?;
    let as_leader = by_store(view, &asked, loads.iter().filter(|borne| borne.leads), kind);
    Ok(Answer::json(&HotRegions { as_peer: by_store(view, &asked, loads.iter(), kind), as_leader }))
}

/// `GET /hotspot/stores`
pub(super) fn stores(view: &View, request: &Request) -> Answered {
    let asked = asked(view, request)?;
    let rates = |loads: &[Borne<'_>], kind: Kind, of: fn(Flow) -> u64| {
        let mut rates: BTreeMap<String, u64> = asked.iter().map(|store| (store.to_string(), 0)).collect();
        for borne in loads {
            rates.entry(borne.store.to_string()).and_modify(|rate| *rate += of(kind.flow(borne.load)));
        }
        rates
    };
    let (read, mut written) = (read_loads(view), write_loads(view));
    let bytes_write_rate = rates(&written, Kind::Writes, |flow| flow.0);
    let keys_write_rate = rates(&written, Kind::Writes, |flow| flow.1);
    // Requests that write are for leaders.
    written.retain(|borne| borne.leads);
    Ok(Answer::json(&Rates {
        bytes_write_rate,
        bytes_read_rate: rates(&read, Kind::Reads, |flow| flow.0),
        keys_write_rate,
        keys_read_rate: rates(&read, Kind::Reads, |flow| flow.1),
        query_write_rate: rates(&written, Kind::Writes, |flow| flow.2),
        query_read_rate: rates(&read, Kind::Reads, |flow| flow.2),
    }))
}
