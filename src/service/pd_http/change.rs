//! Changes: what people's tools may ask the placement driver to do.
//!
//! Requests come **in**; commands to the placement driver, or a split for the node that received the request, go
//! **out**. **Never**: a change that was only half understood: a request is checked as a whole first.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::{Answer, not_bootstrapped, refused, region_not_found, store_not_found};
use super::labels;
use super::operators;
use super::regions;
use super::request::{Request, id_in};
use super::stores;
use super::text;
use crate::pd::operators::Action;
use crate::pd::view::View;
use crate::pd::{PdError, PdServer};
use crate::proto::armilla::pd::{PdHttpReply, PdHttpSplit};
use crate::proto::metapb::{PeerRole, StoreLabel, StoreState};
use crate::types::limits::PD_HTTP_SPLIT_KEYS_MAX;
use crate::types::region;

/// A change that the placement driver's leader can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `POST /leader/resign`
    Resign,
    /// `POST /leader/transfer/NAME`
    TransferMember,
    /// `DELETE /store/S`
    RemoveStore,
    /// `POST /store/S/state?state=NAME`
    StoreState,
    /// `POST /store/S/label`
    SetLabels,
    /// `DELETE /store/S/label`
    DeleteLabel,
    /// `DELETE /stores/remove-tombstone`
    ForgetStores,
    /// `POST /operators`
    BeginOperator,
    /// `DELETE /operators/R`
    CancelOperator,
    /// `DELETE /operators`
    CancelOperators,
    /// `POST /regions/split`
    Split,
}

/// The end of a change: an answer (its error side ends the work early), or an error that another member, or another
/// attempt, may not have.
type Changed<T> = Result<Result<T, Answer>, PdError>;

/// Returns the value of a [`Changed`], or ends the function.
macro_rules! go_on {
    ($changed:expr) => {
        match $changed {
            Ok(value) => value,
            Err(answer) => return Ok(Err(answer)),
        }
    };
}

/// Carries out a change.
///
/// # Errors
/// Returns those of [`PdServer`] that another member, or another attempt, may not have.
pub(super) async fn carry_out(change: Change, pd: &PdServer, request: &Request) -> Result<PdHttpReply, PdError> {
    let answer = match change {
        Change::Resign => resign(pd).await?,
        Change::TransferMember => transfer_member(pd, &request.name(0)).await?,
        Change::RemoveStore => remove_store(pd, request).await?,
        Change::StoreState => set_state(pd, request).await?,
        Change::SetLabels => set_labels(pd, request).await?,
        Change::DeleteLabel => delete_label(pd, request).await?,
        Change::ForgetStores => forget_stores(pd).await?,
        Change::CancelOperator => cancel(pd, request).await?,
        Change::CancelOperators => cancel_all(pd).await?,
        Change::BeginOperator => match begin(pd, request).await? {
            Ok(Begun::Here) => Ok(created()),
            Ok(Begun::Split(keys)) => return Ok(split_reply(keys, true)),
            Err(answer) => Err(answer),
        },
        Change::Split => match split_keys(request) {
            Ok(keys) => return Ok(split_reply(keys, false)),
            Err(answer) => Err(answer),
        },
    };
    Ok(answer.unwrap_or_else(|answer| answer).into_reply())
}

/// Returns the answer to an operator that has begun.
pub(super) fn created() -> Answer {
    Answer::done("The operator is created.")
}

/// Returns the reply that lets the node which received the request make the splits.
fn split_reply(keys: Vec<Bytes>, by_operator: bool) -> PdHttpReply {
    PdHttpReply { split: Some(PdHttpSplit { keys, by_operator }), ..PdHttpReply::default() }
}

/// Returns a view of a cluster that has stores and regions.
async fn view(pd: &PdServer) -> Changed<View> {
    let view = pd.admin_view().await?;
    Ok(if view.bootstrapped { Ok(view) } else { Err(not_bootstrapped()) })
}

/// Returns `text` as the answer if the call succeeded.
fn ended<T>(result: Result<T, PdError>, text: &str) -> Changed<Answer> {
    match result {
        Ok(_) => Ok(Ok(Answer::done(text))),
        Err(error) => refused(error).map(Err),
    }
}

fn no_member() -> Answer {
    Answer::error(500, "no valid pd to transfer etcd leader")
}

async fn resign(pd: &PdServer) -> Changed<Answer> {
    match pd.transfer_member(None).await {
        Err(PdError::Invalid(_)) => Ok(Err(no_member())),
        result => ended(result, "The resign command is submitted."),
    }
}

async fn transfer_member(pd: &PdServer, name: &str) -> Changed<Answer> {
    let view = pd.admin_view().await?;
    let done = "The transfer command is submitted.";
    if view.leader.name == name {
        return Ok(Ok(Answer::done(done)));
    }
    if !view.members.iter().any(|one| one.member.name == name) {
        return Ok(Err(no_member()));
    }
    ended(pd.transfer_member(Some(name)).await, done)
}

/// Returns PD's error for a store that cannot be removed, if it is one of those that PD knows.
fn not_removable(view: &View, id: u64) -> Option<Answer> {
    let Some(store) = stores::find(view, id) else { return Some(store_not_found(404, id)) };
    if store.store.state() == StoreState::Tombstone {
        return Some(Answer::error(410, format!("[PD:core:ErrStoreRemoved]store {id} has been removed")));
    }
    let up = view.stores.iter().filter(|store| store.store.state() == StoreState::Up).count();
    let (left, need) = (up.saturating_sub(1), view.options.replicas);
    (store.store.state() == StoreState::Up && left < need).then(|| {
        let why = format!("can not remove store {id} since the number of up stores would be {left} while need {need}");
        Answer::error(400, format!("[PD:core:ErrStoresNotEnough]{why}"))
    })
}

async fn remove_store(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let view = go_on!(view(pd).await?);
    if let Some(refused) = not_removable(&view, id) {
        return Ok(Err(refused));
    }
    match pd.remove_store(id).await {
        // Here the reason is in the request: the store has a member of the placement driver.
        Err(PdError::Invalid(why)) => Ok(Err(Answer::error(400, why))),
        result => ended(result, "The store is set as Offline."),
    }
}

async fn set_state(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let done = "The store's state is updated.";
    let wanted = String::from_utf8_lossy(&request.query_or_empty("state")).into_owned();
    if !["Up", "Offline"].contains(&wanted.as_str()) {
        return Ok(Err(Answer::error(400, format!("invalid state {wanted}"))));
    }
    let view = go_on!(view(pd).await?);
    let Some(store) = stores::find(&view, id) else { return Ok(Err(store_not_found(404, id))) };
    match (wanted.as_str(), store.store.state()) {
        (_, StoreState::Tombstone) => {
            Ok(Err(Answer::error(410, format!("[PD:core:ErrStoreRemoved]store {id} has been removed"))))
        }
        ("Up", StoreState::Up) => Ok(Ok(Answer::done(done))),
        ("Up", StoreState::Offline) => Ok(Err(Answer::unbuilt(
            "Armilla cannot take back the removal of a store yet: let it become empty, then start its node as a new store",
        ))),
        _ => Ok(remove_store(pd, request).await?.map(|_| Answer::done(done))),
    }
}

/// Returns PD's error for a store that has no labels because it does not exist.
fn no_store_to_label(id: u64) -> Answer {
    Answer::error(500, format!("[PD:cluster:ErrInvalidStoreID]invalid store id {id}, not found"))
}

async fn set_labels(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let labels = go_on!(labels::given(request));
    let view = go_on!(view(pd).await?);
    if stores::find(&view, id).is_none() {
        return Ok(Err(no_store_to_label(id)));
    }
    let replace = request.query("force").is_some();
    ended(pd.set_store_labels(id, labels, replace).await, "The store's label is updated.")
}

async fn delete_label(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.store_id());
    let key = go_on!(labels::deleted(request));
    let view = go_on!(view(pd).await?);
    let Some(store) = stores::find(&view, id) else { return Ok(Err(no_store_to_label(id))) };
    if !store.store.labels.iter().any(|label| label.key == key) {
        return Ok(Err(Answer::error(500, format!("the label key {key} does not exist"))));
    }
    let done = format!("The label {key} is deleted for store {id}.");
    let label = StoreLabel { key, value: String::new() };
    ended(pd.set_store_labels(id, vec![label], false).await, &done)
}

async fn forget_stores(pd: &PdServer) -> Changed<Answer> {
    let view = go_on!(view(pd).await?);
    let removed = view.stores.iter().filter(|store| store.store.state() == StoreState::Tombstone).count();
    if removed > 0 {
        let why = format!("Armilla keeps the records of removed stores ({removed}), so that their IDs never return");
        return Ok(Err(Answer::unbuilt(&why)));
    }
    Ok(Ok(Answer::done("Remove tombstone successfully.")))
}

async fn cancel(pd: &PdServer, request: &Request) -> Changed<Answer> {
    let id = go_on!(request.region_id());
    match pd.cancel_operators(Some(id)).await {
        Ok(0) => Ok(Err(operators::not_found())),
        result => ended(result, "The pending operator is canceled."),
    }
}

async fn cancel_all(pd: &PdServer) -> Changed<Answer> {
    ended(pd.cancel_operators(None).await, "All pending operators are canceled.")
}

/// An operator that was accepted.
enum Begun {
    /// It was begun.
    Here,
    /// It is a split at these keys, for the node that received the request.
    Split(Vec<Bytes>),
}

/// Begins an operator.
async fn begin(pd: &PdServer, request: &Request) -> Changed<Begun> {
    let body = go_on!(request.object());
    let view = go_on!(view(pd).await?);
    let accepted = go_on!(accept(&view, &body));
    let (region, action, keys) = match accepted {
        Accepted::Move { region, action } => (region, action, None),
        Accepted::Split { region, version, keys } => (region, Action::Split { version }, Some(keys)),
    };
    let ordered = match action {
        Action::TransferLeader { to, .. } => pd.transfer_leader(region, to).await,
        Action::MovePeer { from, to } => pd.move_peer(region, from, to).await,
        Action::Split { .. } => Ok(()),
    };
    let begun = match ordered {
        Ok(()) => pd.begin_operator(region, action).await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(()) => Ok(Ok(keys.map_or(Begun::Here, Begun::Split))),
        Err(error) => refused(error).map(Err),
    }
}

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
    const UNBUILT: [&str; 8] = [
        "transfer-region",
        "add-peer",
        "add-learner",
        "remove-peer",
        "merge-region",
        "scatter-region",
        "scatter-regions",
        "grant-leader",
    ];
    let bad = |why: &str| Answer::error(400, why);
    let name = body.get("name").and_then(Value::as_str).ok_or_else(|| bad("missing operator name"))?;
    if UNBUILT.contains(&name) {
        return Err(Answer::unbuilt(&format!(
            "Armilla does not have the operator {name} yet: it has transfer-leader, transfer-peer, and split-region \
             with the policy usekey"
        )));
    }
    if !["transfer-leader", "transfer-peer", "split-region"].contains(&name) {
        return Err(bad("unknown operator"));
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
