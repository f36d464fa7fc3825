//! Requests for operators and splits, checked.
//!
//! A view of the cluster and a body come **in**; what is to be done, or PD's error, goes **out**. **Never**: a check in
//! another order than PD's, where several would fail: tools compare the errors.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::{Answer, region_not_found, store_not_found};
use super::operators;
use super::regions;
use super::request::{Request, id_in};
use super::stores;
use super::text;
use crate::pd::Wish;
use crate::pd::operators::Action;
use crate::pd::view::View;
use crate::proto::metapb::PeerRole;
use crate::types::limits::PD_HTTP_SPLIT_KEYS_MAX;
use crate::types::region;

/// A request for an operator that is in order.
#[derive(Debug, PartialEq)]
pub(super) enum Accepted {
    /// A move of a leader or a replica.
    Move {
        /// The region's ID.
        region: u64,
        /// The move.
        action: Action,
    },
    /// A change of a region's replicas.
    Replicas {
        /// The region's ID.
        region: u64,
        /// What is to become of them.
        wish: Wish,
    },
    /// A scatter.
    Scatter {
        /// The regions' IDs.
        ids: Vec<u64>,
        /// The name of the group.
        group: String,
        /// Whether it was asked for as one of many: its answer is a summary.
        many: bool,
    },
    /// A split.
    Split {
        /// The region's ID.
        region: u64,
        /// Its version.
        version: u64,
        /// Where to split.
        keys: Vec<Bytes>,
    },
}

/// Checks a request for an operator.
///
/// # Errors
/// Returns PD's answer to a request that is not in order, in the order of PD's checks.
pub(super) fn accept(view: &View, body: &Map<String, Value>) -> Result<Accepted, Answer> {
    const UNBUILT: [&str; 2] = ["add-learner", "grant-leader"];
    const BUILT: [&str; 9] = [
        "transfer-leader",
        "transfer-region",
        "transfer-peer",
        "add-peer",
        "remove-peer",
        "merge-region",
        "split-region",
        "scatter-region",
        "scatter-regions",
    ];
    let bad = |why: &str| Answer::error(400, why);
    let name = body.get("name").and_then(Value::as_str).ok_or_else(|| bad("missing operator name"))?;
    if UNBUILT.contains(&name) {
        return Err(Answer::unbuilt(&format!(
            "Armilla does not have the operator {name} yet: it has {}, split-region with the policy usekey only",
            BUILT.join(", ")
        )));
    }
    if !BUILT.contains(&name) {
        return Err(bad("unknown operator"));
    }
    if name == "merge-region" {
        let from = id_in(body, "source_region_id").ok_or_else(|| bad("invalid source region id to merge from"))?;
        let to = id_in(body, "target_region_id").ok_or_else(|| bad("invalid target region id to merge to"))?;
        return merge_region(view, from, to);
    }
    if name == "scatter-regions" {
        let ids = ids_in(body, "region_ids").ok_or_else(|| bad("region_ids is invalid"))?;
        return Ok(Accepted::Scatter { ids, group: text_in(body, "group"), many: true });
    }
    let id = id_in(body, "region_id").ok_or_else(|| bad("missing region id"))?;
    match name {
        "transfer-leader" => {
            let to = id_in(body, "to_store_id").ok_or_else(|| bad("missing store id to transfer leader to"))?;
            transfer_leader(view, id, to)
        }
        "transfer-peer" => {
            let from = id_in(body, "from_store_id").ok_or_else(|| bad("invalid store id to transfer peer from"))?;
            let to = id_in(body, "to_store_id").ok_or_else(|| bad("invalid store id to transfer peer to"))?;
            transfer_peer(view, id, from, to)
        }
        "transfer-region" => {
            let stores = ids_in(body, "to_store_ids").ok_or_else(|| bad("invalid store ids to transfer region to"))?;
            transfer_region(view, id, &stores, body)
        }
        "add-peer" | "remove-peer" => {
            let store = id_in(body, "store_id").ok_or_else(|| bad("invalid store id to transfer peer to"))?;
            if name == "add-peer" { add_peer(view, id, store) } else { remove_peer(view, id, store) }
        }
        "scatter-region" => {
            regions::find(view, id).ok_or_else(|| region_not_found(500, id))?;
            free(view, id)?;
            Ok(Accepted::Scatter { ids: vec![id], group: String::new(), many: false })
        }
        _ => split_region(view, id, body),
    }
}

/// Checks that a person may begin an operator on the region.
fn free(view: &View, id: u64) -> Result<(), Answer> {
    let busy = operators::running(view).any(|operator| operator.region == id && operator.by_admin);
    if busy { Err(operators::busy()) } else { Ok(()) }
}

fn transfer_leader(view: &View, id: u64, to: u64) -> Result<Accepted, Answer> {
    let found = regions::find(view, id).ok_or_else(|| region_not_found(500, id))?;
    let voter = region::peer_on(&found.info.region, to).is_some_and(|peer| peer.role() == PeerRole::Voter);
    if !voter {
        return Err(Answer::error(500, format!("region has no voter in store {to}")));
    }
    let from = found.info.leader.as_ref().map_or(0, |leader| leader.store_id);
    if from == to {
        return Err(Answer::error(500, "no operator step is built"));
    }
    free(view, id)?;
    Ok(Accepted::Move { region: id, action: Action::TransferLeader { from, to } })
}

fn transfer_peer(view: &View, id: u64, from: u64, to: u64) -> Result<Accepted, Answer> {
    let found = regions::find(view, id).ok_or_else(|| region_not_found(500, id))?;
    let region = &found.info.region;
    if stores::find(view, to).is_none() {
        return Err(store_not_found(500, to));
    }
    if region::peer_on(region, from).is_none() {
        return Err(Answer::error(500, format!("region has no peer in store {from}")));
    }
    if let Some(peer) = region::peer_on(region, to) {
        let why = format!("cannot add peer store_id:{to} : already have peer id:{} store_id:{to} ", peer.id);
        return Err(Answer::error(500, why));
    }
    free(view, id)?;
    Ok(Accepted::Move { region: id, action: Action::MovePeer { from, to } })
}

fn add_peer(view: &View, id: u64, to: u64) -> Result<Accepted, Answer> {
    let found = regions::find(view, id).ok_or_else(|| region_not_found(500, id))?;
    if region::peer_on(&found.info.region, to).is_some() {
        return Err(Answer::error(500, format!("region already has peer in store {to}")));
    }
    stores::find(view, to).ok_or_else(|| store_not_found(500, to))?;
    free(view, id)?;
    Ok(Accepted::Replicas { region: id, wish: Wish::Add(to) })
}

fn remove_peer(view: &View, id: u64, from: u64) -> Result<Accepted, Answer> {
    let found = regions::find(view, id).ok_or_else(|| region_not_found(500, id))?;
    if region::peer_on(&found.info.region, from).is_none() {
        return Err(Answer::error(500, format!("region has no peer in store {from}")));
    }
    free(view, id)?;
    Ok(Accepted::Replicas { region: id, wish: Wish::Remove(from) })
}

fn transfer_region(view: &View, id: u64, to: &[u64], body: &Map<String, Value>) -> Result<Accepted, Answer> {
    let bad = |why: &str| Answer::error(500, why);
    let roles = body.get("peer_roles").and_then(Value::as_array);
    let roles: Vec<&str> = roles.into_iter().flatten().filter_map(Value::as_str).collect();
    if to.is_empty() {
        return Err(Answer::error(400, "missing store ids to transfer region to"));
    }
    regions::find(view, id).ok_or_else(|| region_not_found(500, id))?;
    if let Some(unknown) = to.iter().find(|store| stores::find(view, **store).is_none()) {
        return Err(store_not_found(500, *unknown));
    }
    if roles.len() != to.len() {
        return Err(bad("transfer region without peer role is not supported when placement rules enabled"));
    }
    if roles.contains(&"learner") {
        return Err(Answer::unbuilt("Armilla's regions have no learners but those that become voters"));
    }
    let vote = |role: &&str| ["leader", "voter", "follower"].contains(role);
    if !roles.iter().any(|role| ["leader", "voter"].contains(role)) || !roles.iter().all(vote) {
        return Err(bad("region need at least 1 voter or leader"));
    }
    let mut leaders = to.iter().zip(&roles).filter(|(_, role)| **role == "leader").map(|(store, _)| *store);
    let (leader, another) = (leaders.next(), leaders.next());
    if another.is_some() {
        return Err(bad("region cannot have more than 1 leader"));
    }
    free(view, id)?;
    Ok(Accepted::Replicas { region: id, wish: Wish::Place { stores: to.iter().copied().collect(), leader } })
}

/// Returns the regions of `POST /regions/scatter`, and their group.
pub(super) fn scattered(view: &View, request: &Request) -> Result<(Vec<u64>, String), Answer> {
    let body = request.object()?;
    let group = text_in(&body, "group");
    let (start, end) = (body.get("start_key").and_then(Value::as_str), body.get("end_key").and_then(Value::as_str));
    let ids = match (start, end) {
        (Some(start), Some(end)) => {
            let key = |hex: &str| text::parse_hex(hex.as_bytes()).map_err(|why| Answer::error(400, why));
            let (start, end) = (key(start)?, key(end)?);
            let found = regions::between(view, &start, &end).filter(|region| region.newest);
            found.map(|region| region.info.region.id).collect()
        }
        _ => ids_in(&body, "regions_id").ok_or_else(|| Answer::error(500, "regions_id is invalid"))?,
    };
    Ok((ids, group))
}

/// Returns why regions cannot be scattered at all, in PD's words.
pub(super) fn not_scattered(view: &View, ids: &[u64]) -> Option<&'static str> {
    match ids {
        [] => Some("empty region"),
        ids if ids.iter().all(|id| regions::find(view, *id).is_none()) => Some("region not found"),
        _ => None,
    }
}

/// Returns the IDs of a list in a body; `None` if it is not one.
fn ids_in(body: &Map<String, Value>, name: &str) -> Option<Vec<u64>> {
    body.get(name)?.as_array()?.iter().map(Value::as_u64).collect()
}

fn text_in(body: &Map<String, Value>, name: &str) -> String {
    body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn merge_region(view: &View, source: u64, target: u64) -> Result<Accepted, Answer> {
    let find = |id| regions::find(view, id).ok_or_else(|| region_not_found(500, id));
    let (from, to) = (find(source)?, find(target)?);
    if source == target || !region::adjoin(&from.info.region, &to.info.region) {
        return Err(Answer::error(500, "[PD:region:ErrRegionNotAdjacent]two regions are not adjacent"));
    }
    free(view, source)?;
    free(view, target)?;
    Ok(Accepted::Move { region: source, action: Action::Merge { source, target } })
}

fn split_region(view: &View, id: u64, body: &Map<String, Value>) -> Result<Accepted, Answer> {
    let policy = body.get("policy").and_then(Value::as_str);
    let policy = policy.ok_or_else(|| Answer::error(400, "missing split policy"))?;
    let found = regions::find(view, id).ok_or_else(|| region_not_found(500, id))?;
    match policy.to_ascii_lowercase().as_str() {
        "usekey" => {}
        "scan" | "approximate" => {
            return Err(Answer::unbuilt(&format!(
                "Armilla does not split by the policy {policy}: it splits large regions by itself, and others with the \
                 policy usekey"
            )));
        }
        _ => return Err(Answer::error(500, format!("check policy {policy} is not supported"))),
    }
    let mut keys = BTreeSet::new();
    for key in body.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let key = key.as_str().ok_or_else(|| Answer::error(400, "split keys should be texts"))?;
        let decoded = text::parse_hex(key.as_bytes());
        keys.insert(decoded.map_err(|_| Answer::error(500, format!("split key {key} is not in hex format")))?);
    }
    if keys.is_empty() {
        return Err(Answer::error(400, "split-region with the policy usekey needs keys"));
    }
    let region = &found.info.region;
    if let Some(key) = keys.iter().find(|key| !region::holds(region, key) || **key == region.start_key) {
        return Err(Answer::error(400, format!("split key {} is not inside region {id}", text::hex(key))));
    }
    check_count(keys.len())?;
    free(view, id)?;
    let version = region::epoch(region).version;
    Ok(Accepted::Split { region: id, version, keys: keys.into_iter().collect() })
}

fn check_count(keys: usize) -> Result<(), Answer> {
    if keys <= PD_HTTP_SPLIT_KEYS_MAX {
        return Ok(());
    }
    Err(Answer::error(400, format!("{keys} split keys, at most {PD_HTTP_SPLIT_KEYS_MAX} at a time")))
}

/// Returns the keys of `POST /regions/split`, each once.
pub(super) fn split_keys(request: &Request) -> Result<Vec<Bytes>, Answer> {
    let body = request.object()?;
    let listed = body.get("split_keys").ok_or_else(|| Answer::error(400, "split_keys should be provided."))?;
    let listed = listed.as_array().ok_or_else(|| Answer::error(400, "split_keys should be a list of texts."))?;
    if listed.is_empty() {
        return Err(Answer::error(400, "empty split keys."));
    }
    check_count(listed.len())?;
    let mut keys = BTreeSet::new();
    for key in listed {
        let key = key.as_str().ok_or_else(|| Answer::error(400, "split_keys should be a list of texts."))?;
        let key = text::parse_hex(key.as_bytes()).map_err(|why| Answer::error(500, why))?;
        if key.is_empty() {
            return Err(Answer::error(400, "an empty split key: the first region starts there already."));
        }
        keys.insert(key);
    }
    Ok(keys.into_iter().collect())
}
