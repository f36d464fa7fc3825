//! Answers about operators: the moves and splits that are running or have ended lately.
//!
//! A view of the cluster comes **in**, PD's texts go **out**. **Never**: an operator that is shown as successful before
//! the placement driver has seen its effect.

use serde::Serialize;

use super::answer::{Answer, Answered};
use super::request::Request;
use super::text;
use crate::pd::operators::{Action, Operator, Outcome};
use crate::pd::view::View;

/// The bits of an operator's kind, with their names in the order of PD's texts.
const KINDS: [(&str, u32); 5] = [("admin", 1), ("merge", 2), ("split", 16), ("region", 64), ("leader", 128)];

#[derive(Serialize)]
struct Epoch {
    conf_ver: u64,
    version: u64,
}

#[derive(Serialize)]
struct Object {
    desc: String,
    brief: String,
    region_id: u64,
    region_epoch: Epoch,
    kind: u32,
    timeout: String,
    status: u32,
}

/// Returns PD's error for a region without an operator.
pub(super) fn not_found() -> Answer {
    Answer::error(500, "[PD:operator:ErrOperatorNotFound]operator not found")
}

/// Returns PD's error for a region that has an operator already.
pub(super) fn busy() -> Answer {
    Answer::error(500, "[PD:operator:ErrAddOperator]failed to add operator, maybe already have one")
}

/// Returns whether the operator has this bit.
fn has(operator: &Operator, name: &str) -> bool {
    let by_admin = operator.by_admin;
    match name {
        "admin" => by_admin,
        "merge" => matches!(operator.action, Action::Merge { .. }),
        "split" => matches!(operator.action, Action::Split { .. }),
        "region" => matches!(
            operator.action,
            Action::MovePeer { .. } | Action::AddPeer { .. } | Action::RemovePeer { .. } | Action::Place { .. }
        ),
        "leader" => matches!(operator.action, Action::TransferLeader { .. } | Action::Scatter { .. }),
        _ => false,
    }
}

/// Returns the name of an operator.
pub(in crate::service) fn desc(operator: &Operator) -> &'static str {
    match (operator.by_admin, operator.action) {
        (true, Action::TransferLeader { .. }) => "admin-transfer-leader",
        (true, Action::MovePeer { .. }) => "admin-move-peer",
        (_, Action::Scatter { .. }) => "scatter-region",
        (_, Action::AddPeer { .. }) => "admin-add-peer",
        (_, Action::RemovePeer { .. }) => "admin-remove-peer",
        (_, Action::Place { .. }) => "admin-move-region",
        (true, Action::Merge { .. }) => "admin-merge-region",
        (false, Action::Merge { .. }) => "merge-region",
        (_, Action::Split { .. }) => "admin-split-region",
        (false, Action::TransferLeader { .. }) => "balance-leader",
        (false, Action::MovePeer { .. }) => "balance-region",
    }
}

/// Returns the stores of [`Action::Place`].
fn listed(stores: impl IntoIterator<Item = u64>) -> Vec<u64> {
    stores.into_iter().filter(|store| *store != 0).collect()
}

fn brief(operator: &Operator) -> String {
    match operator.action {
        Action::TransferLeader { from, to } => format!("transfer leader: store {from} to {to}"),
        Action::MovePeer { from, to } => format!("mv peer: store [{from}] to [{to}]"),
        Action::AddPeer { to } => format!("add peer: store [{to}]"),
        Action::RemovePeer { from } => format!("rm peer: store [{from}]"),
        Action::Place { stores, .. } => format!("mv region: stores {:?}", listed(stores)),
        Action::Scatter { leader, .. } => format!("scatter: leader to store {leader}"),
        Action::Merge { source, target } => format!("merge: region {source} to {target}"),
        Action::Split { .. } => format!("split: region {} use policy USEKEY", operator.region),
    }
}

fn step(operator: &Operator) -> String {
    match operator.action {
        Action::TransferLeader { from, to } => format!("transfer leader from store {from} to store {to}"),
        Action::MovePeer { from, to } => format!("move peer from store {from} to store {to}"),
        Action::AddPeer { to } => format!("add peer on store {to}"),
        Action::RemovePeer { from } => format!("remove peer on store {from}"),
        Action::Place { stores, leader } => {
            let leader = leader.map_or(String::new(), |store| format!(", transfer leader to store {store}"));
            format!("move region to stores {:?}{leader}", listed(stores))
        }
        Action::Scatter { leader, moved: None } => format!("transfer leader to store {leader}"),
        Action::Scatter { leader, moved: Some((from, to)) } => {
            format!("move peer from store {from} to store {to}, transfer leader to store {leader}")
        }
        Action::Merge { source, target } => format!("merge region {source} into region {target}"),
        Action::Split { .. } => "split region with policy USEKEY".into(),
    }
}

/// Returns how long the operator may take, as a text. Leaders and replicas move as long as [`crate::pd`] lets them.
fn timeout(operator: &Operator) -> &'static str {
    match operator.action {
        Action::TransferLeader { .. } => "10s",
        Action::MovePeer { .. }
        | Action::Merge { .. }
        | Action::AddPeer { .. }
        | Action::RemovePeer { .. }
        | Action::Place { .. } => "10m0s",
        Action::Scatter { .. } => "3m0s",
        Action::Split { .. } => "1m0s",
    }
}

/// Returns the text of an operator's kind.
pub(in crate::service) fn kind(operator: &Operator) -> String {
    let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).filter(|name| has(operator, name)).collect();
    kinds.join(",")
}

/// Returns the text of an operator without its outcome.
fn described(operator: &Operator) -> String {
    let (version, conf_ver) = operator.epoch;
    let begun = text::time_ms(operator.begun_ms);
    let steps_done = u32::from(matches!(operator.ended, Some((_, Outcome::Success))));
    format!(
        "{} {{{}}} (kind:{}, region:{}({version}, {conf_ver}), createAt:{begun}, startAt:{begun}, \
         currentStep:{steps_done}, size:1, steps:[0:{{{}}}], timeout:[{}])",
        desc(operator),
        brief(operator),
        kind(operator),
        operator.region,
        step(operator),
        timeout(operator),
    )
}

/// Returns the text of an operator.
fn shown(operator: &Operator) -> String {
    let word = match operator.ended {
        None => return described(operator),
        Some((_, Outcome::Success)) => "finished",
        Some((_, Outcome::Canceled)) => "canceled",
        Some((_, Outcome::Timeout)) => "timeout",
    };
    format!("{} {word}", described(operator))
}

fn status(operator: &Operator) -> &'static str {
    match operator.ended {
        None => "RUNNING",
        Some((_, Outcome::Success)) => "SUCCESS",
        Some((_, Outcome::Canceled)) => "CANCEL",
        Some((_, Outcome::Timeout)) => "TIMEOUT",
    }
}

fn object(operator: &Operator) -> Object {
    let kinds = KINDS.iter().filter(|(name, _)| has(operator, name));
    Object {
        desc: desc(operator).into(),
        brief: brief(operator),
        region_id: operator.region,
        region_epoch: Epoch { conf_ver: operator.epoch.1, version: operator.epoch.0 },
        kind: kinds.map(|(_, bit)| bit).sum(),
        timeout: timeout(operator).into(),
        // Started.
        status: 1,
    }
}

/// Returns the running operators.
pub(super) fn running(view: &View) -> impl Iterator<Item = &Operator> {
    view.operators.iter().filter(|operator| operator.ended.is_none())
}

/// `GET /operators?kind=K&object=true`
pub(super) fn list(view: &View, request: &Request) -> Answered {
    let kinds: Vec<_> = request.queries("kind").map(|kind| String::from_utf8_lossy(kind)).collect();
    let found: Vec<&Operator> =
        running(view).filter(|one| kinds.is_empty() || kinds.iter().any(|kind| has(one, kind))).collect();
    if found.is_empty() && !kinds.is_empty() {
        return Ok(Answer::json(&()));
    }
    if request.query("object").is_some() {
        return Ok(Answer::json(&found.into_iter().map(object).collect::<Vec<_>>()));
    }
    Ok(Answer::json(&found.into_iter().map(shown).collect::<Vec<_>>()))
}

/// `GET /operators/R`
pub(super) fn of_region(view: &View, request: &Request) -> Answered {
    let id = request.region_id()?;
    // The running one is the last.
    let found = view.operators.iter().rfind(|operator| operator.region == id).ok_or_else(not_found)?;
    Ok(Answer::done(&format!("status: {}, operator: {}", status(found), shown(found))))
}

/// `GET /operators/records?from=SECONDS`
pub(super) fn records(view: &View, request: &Request) -> Answered {
    let from = request.query_or_empty("from");
    let from_s = if from.is_empty() { Ok(0) } else { text::parse_int(&from) };
    let from_s = from_s.map_err(|why| Answer::error(400, why.replace("Atoi", "ParseInt")))?;
    let from_ms = u64::try_from(from_s).unwrap_or(0).saturating_mul(1000);
    let ended = view.operators.iter().filter_map(|operator| {
        let (ended_ms, _) = operator.ended.filter(|(ended_ms, _)| *ended_ms >= from_ms)?;
        let took = text::duration_ms(ended_ms.saturating_sub(operator.begun_ms));
        Some(format!("{} (finishAt:{}, duration:{took})", shown(operator), text::time_ms(ended_ms)))
    });
    Ok(Answer::json(&ended.collect::<Vec<_>>()))
}
