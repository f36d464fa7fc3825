//! Answers about the health of regions: lists of those that lack something, histograms, sums.
//!
//! A view of the cluster comes **in**, PD's documents go **out**. **Never**: a list that is empty because Armilla does
//! not know: such checks are not here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::{Answer, Answered};
use super::regions::{between, each, keys, list, size_mib};
use super::request::Request;
use super::text;
use crate::pd::view::{RegionView, View};
use crate::proto::metapb::{PeerRole, StoreState};

/// The size in MiB up to which a region counts as empty.
const EMPTY_MIB: u64 = 1;

#[derive(Serialize)]
struct Bar {
    start: u64,
    end: u64,
    count: u64,
}

type ByStore = BTreeMap<String, u64>;

#[derive(Default, Serialize)]
struct Sums {
    count: u64,
    empty_count: u64,
    storage_size: u64,
    user_storage_size: u64,
    storage_keys: u64,
    store_leader_count: Option<ByStore>,
    store_peer_count: Option<ByStore>,
    store_leader_size: Option<ByStore>,
    store_leader_keys: Option<ByStore>,
    store_peer_size: Option<ByStore>,
    store_peer_keys: Option<ByStore>,
}

/// `GET /regions/check/miss-peer`
pub(super) fn miss_peer(view: &View, _: &Request) -> Answered {
    Ok(list(each(view).filter(|region| region.info.region.peers.len() < view.options.replicas)))
}

/// `GET /regions/check/extra-peer`
pub(super) fn extra_peer(view: &View, _: &Request) -> Answered {
    Ok(list(each(view).filter(|region| region.info.region.peers.len() > view.options.replicas)))
}

/// `GET /regions/check/down-peer`
pub(super) fn down_peer(view: &View, _: &Request) -> Answered {
    Ok(list(each(view).filter(|region| !region.info.down.is_empty())))
}

/// `GET /regions/check/undersized-region`: those that are merged when they have rested.
pub(super) fn undersized(view: &View, _: &Request) -> Answered {
    let small = |region: &&RegionView| region.size.is_some_and(|(bytes, _)| bytes < view.options.merge_below_bytes);
    Ok(list(each(view).filter(small)))
}

/// `GET /regions/check/learner-peer`
pub(super) fn learner_peer(view: &View, _: &Request) -> Answered {
    let has_learner = |region: &&RegionView| region.info.region.peers.iter().any(|p| p.role() == PeerRole::Learner);
    Ok(list(each(view).filter(has_learner)))
}

/// `GET /regions/check/offline-peer`
pub(super) fn offline_peer(view: &View, _: &Request) -> Answered {
    let offline = |id: u64| {
        let store = view.stores.iter().find(|store| store.store.id == id);
        store.is_some_and(|store| store.store.state() == StoreState::Offline)
    };
    Ok(list(each(view).filter(|region| region.info.region.peers.iter().any(|peer| offline(peer.store_id)))))
}

/// `GET /regions/check/empty-region`
pub(super) fn empty(view: &View, _: &Request) -> Answered {
    Ok(list(each(view).filter(|region| is_empty(region))))
}

fn is_empty(region: &RegionView) -> bool {
    region.size.is_some() && size_mib(region) <= EMPTY_MIB
}

/// `GET /regions/check/hist-size`
pub(super) fn sizes(view: &View, request: &Request) -> Answered {
    histogram(view, request, 1, size_mib)
}

/// `GET /regions/check/hist-keys`
pub(super) fn key_counts(view: &View, request: &Request) -> Answered {
    histogram(view, request, 1000, keys)
}

/// Returns how many regions have which measure. A bar is as wide as the query's `bound` says, at least `least`.
fn histogram(view: &View, request: &Request, least: u64, measure: impl Fn(&RegionView) -> u64) -> Answered {
    let bound = u64::try_from(request.number_of("bound", 0)?).unwrap_or(0).max(least);
    let mut bars: BTreeMap<u64, u64> = BTreeMap::new();
    for region in each(view) {
        *bars.entry(measure(region) / bound).or_default() += 1;
    }
    let bar = |(at, count)| {
        let start = at * bound;
        Bar { start, end: start.saturating_add(bound - 1), count }
    };
    Ok(Answer::json(&bars.into_iter().map(bar).collect::<Vec<_>>()))
}

/// `GET /regions/range-holes`
pub(super) fn holes(view: &View, _: &Request) -> Answered {
    let mut holes: Vec<[String; 2]> = Vec::new();
    // The end of what is covered so far; `None` once it is infinity.
    let mut covered: Option<&[u8]> = Some(&[]);
    for region in &view.regions {
        let region = &region.info.region;
        if let Some(end) = covered.filter(|end| *end < &region.start_key[..]) {
            holes.push([text::hex(end), text::hex(&region.start_key)]);
        }
        covered = Some(&region.end_key[..]).filter(|end| !end.is_empty());
    }
    if let Some(end) = covered {
        holes.push([text::hex(end), String::new()]);
    }
    Ok(Answer::json(&holes))
}

/// `GET /regions/replicated?startKey=HEX&endKey=HEX`
pub(super) fn replicated(view: &View, request: &Request) -> Answered {
    let key = |name| {
        // To PD, the path does not exist without both.
        let key = request.query(name).ok_or_else(Answer::not_found)?;
        text::parse_hex(key).map_err(|why| Answer::error(400, why))
    };
    let (start, end) = (key("startKey")?, key("endKey")?);
    let whole = |region: &RegionView| {
        let voters = region.info.region.peers.iter().filter(|peer| peer.role() == PeerRole::Voter).count();
        voters == view.options.replicas && region.info.down.is_empty()
    };
    let state = if between(view, &start, &end).all(whole) { "REPLICATED" } else { "INPROGRESS" };
    Ok(Answer::done(state))
}

/// `GET /stats/region?start_key=K&end_key=K`
pub(super) fn sums(view: &View, request: &Request) -> Answered {
    let (start, end) = (request.query_or_empty("start_key"), request.query_or_empty("end_key"));
    let found = || between(view, &start, &end).filter(|region| region.newest);
    let mut sums = Sums { count: found().count() as u64, ..Sums::default() };
    if request.query("count").is_some() {
        return Ok(Answer::json(&sums));
    }
    let add = |map: &mut Option<ByStore>, store: u64, by: u64| {
        *map.get_or_insert_default().entry(store.to_string()).or_default() += by;
    };
    for region in found() {
        let (size, keys) = (size_mib(region), keys(region));
        sums.empty_count += u64::from(is_empty(region));
        sums.storage_size += size;
        sums.storage_keys += keys;
        if let Some(leader) = &region.info.leader {
            add(&mut sums.store_leader_count, leader.store_id, 1);
            add(&mut sums.store_leader_size, leader.store_id, size);
            add(&mut sums.store_leader_keys, leader.store_id, keys);
        }
        for peer in &region.info.region.peers {
            add(&mut sums.store_peer_count, peer.store_id, 1);
            add(&mut sums.store_peer_size, peer.store_id, size);
            add(&mut sums.store_peer_keys, peer.store_id, keys);
        }
    }
    for map in [
        &mut sums.store_leader_count,
        &mut sums.store_peer_count,
        &mut sums.store_leader_size,
        &mut sums.store_leader_keys,
        &mut sums.store_peer_size,
        &mut sums.store_peer_keys,
    ] {
        map.get_or_insert_default();
    }
    Ok(Answer::json(&sums))
}
