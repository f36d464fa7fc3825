//! Schedulers under PD's names: those that exist, that are paused, and how they change.
//!
//! A view of the cluster, or a request, comes **in**; PD's documents, or a change of settings, go **out**. **Never**: a
//! scheduler that is shown as running while it is paused; one that Armilla does not have.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::{Answer, Answered};
use super::request::{Request, id_in, mistyped};
use super::text;
use crate::pd::view::View;
use crate::pd::{is_of_stores, scheduler_name, shuffles};
use crate::proto::armilla::pd::{ChangeScheduler, ChangeSettings, Pause, Scheduler, SchedulerKind};

/// What PD's names of schedulers end with.
const SUFFIX: &str = "-scheduler";

/// By how much loads differ from the mean before they are spread: PD's default, which is what happens here.
const HOT_TOLERANCE: f64 = 1.05;

/// Of what peers shuffle-region moves replicas.
const SHUFFLED_ROLES: [&str; 2] = ["leader", "follower"];

/// All schedulers.
const KINDS: [SchedulerKind; 7] = [
    SchedulerKind::BalanceHotRegion,
    SchedulerKind::BalanceLeader,
    SchedulerKind::BalanceRegion,
    SchedulerKind::EvictLeader,
    SchedulerKind::GrantLeader,
    SchedulerKind::ShuffleLeader,
    SchedulerKind::ShuffleRegion,
];

/// Schedulers that PD has and Armilla does not.
const UNBUILT: [&str; 9] = [
    "balance-witness-scheduler",
    "evict-slow-store-scheduler",
    "evict-slow-trend-scheduler",
    "grant-hot-region-scheduler",
    "label-scheduler",
    "random-merge-scheduler",
    "scatter-range",
    "shuffle-hot-region-scheduler",
    "transfer-witness-leader-scheduler",
];

#[derive(Serialize)]
struct Paused {
    name: String,
    paused_at: String,
    resume_at: String,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Range {
    start_key: &'static str,
    end_key: &'static str,
}

/// All keys, as the range of a scheduler.
const ALL_KEYS: [Range; 1] = [Range { start_key: "", end_key: "" }];

/// How balance-leader is configured.
#[derive(Serialize)]
struct Leaders {
    ranges: [Range; 1],
    /// How many leaders of a store move at a time.
    batch: usize,
}

/// How balance-hot-region is configured: those of PD's items that mean something here.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Hot {
    dst_tolerance_ratio: f64,
    min_hot_byte_rate: u64,
    min_hot_query_rate: u64,
    read_priorities: [&'static str; 2],
    src_tolerance_ratio: f64,
    write_leader_priorities: [&'static str; 2],
    write_peer_priorities: [&'static str; 2],
}

/// What a scheduler did last, as far as that is known: whether it is paused.
#[derive(Serialize)]
struct Diagnosis {
    name: String,
    status: &'static str,
    summary: &'static str,
    timestamp: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Stores {
    store_id_ranges: BTreeMap<String, [Range; 1]>,
}

/// Returns PD's name of a scheduler.
fn pd_name(kind: SchedulerKind) -> String {
    format!("{}{SUFFIX}", scheduler_name(kind))
}

fn kind_of(name: &str) -> Option<SchedulerKind> {
    KINDS.into_iter().find(|kind| pd_name(*kind) == name)
}

fn find(view: &View, kind: SchedulerKind) -> Option<&Scheduler> {
    view.settings.schedulers.iter().find(|one| one.kind() == kind)
}

/// Returns PD's error for a scheduler that does not exist.
fn not_found(status: u16) -> Answer {
    Answer::error(status, "[PD:scheduler:ErrSchedulerNotFound]scheduler not found")
}

/// `GET /schedulers?status=paused&timestamp=true`, `?status=disabled`
pub(super) fn list(view: &View, request: &Request) -> Answered {
    let existing = KINDS.into_iter().filter_map(|kind| find(view, kind));
    let paused = existing.clone().filter(|one| view.wall_ms < one.paused_until_ms);
    let name = |one: &Scheduler| pd_name(one.kind());
    match &request.query_or_empty("status")[..] {
        b"paused" if request.query("timestamp").is_some_and(|value| value == "true") => {
            let document = |one: &Scheduler| Paused {
                name: name(one),
                paused_at: text::rfc3339_ms(one.paused_at_ms / 1000 * 1000),
                resume_at: text::rfc3339_ms(one.paused_until_ms / 1000 * 1000),
            };
            Ok(Answer::json(&paused.map(document).collect::<Vec<_>>()))
        }
        b"paused" => Ok(Answer::json(&paused.map(name).collect::<Vec<_>>())),
        b"disabled" => {
            let usual = |kind: &SchedulerKind| !is_of_stores(*kind) && !shuffles(*kind);
            let missing = KINDS.into_iter().filter(|kind| usual(kind) && find(view, *kind).is_none());
            Ok(Answer::json(&missing.map(pd_name).collect::<Vec<_>>()))
        }
        _ => Ok(Answer::json(&existing.map(name).collect::<Vec<_>>())),
    }
}

/// `GET /scheduler-config/NAME/list`
pub(super) fn config(view: &View, request: &Request) -> Answered {
    let kind = kind_of(&request.name(0));
    let found = kind.and_then(|kind| find(view, kind)).ok_or_else(Answer::not_found)?;
    let options = &view.options;
    Ok(match found.kind() {
        SchedulerKind::EvictLeader | SchedulerKind::GrantLeader => Answer::json(&stores_document(found)),
        SchedulerKind::BalanceLeader => Answer::json(&Leaders { ranges: ALL_KEYS, batch: options.orders_max }),
        SchedulerKind::BalanceHotRegion => Answer::json(&Hot {
            dst_tolerance_ratio: HOT_TOLERANCE,
            min_hot_byte_rate: options.hot_bytes_min,
            min_hot_query_rate: options.hot_queries_min,
            read_priorities: ["query", "byte"],
            src_tolerance_ratio: HOT_TOLERANCE,
            write_leader_priorities: ["query", "byte"],
            write_peer_priorities: ["byte", "key"],
        }),
        SchedulerKind::ShuffleRegion => Answer::json(&SHUFFLED_ROLES),
        SchedulerKind::BalanceRegion | SchedulerKind::ShuffleLeader => Answer::text("not implements"),
    })
}

/// `GET /scheduler-config/shuffle-region-scheduler/roles`: of what peers replicas are moved.
pub(super) fn roles(view: &View, request: &Request) -> Answered {
    let kind = kind_of(&request.name(0)).filter(|kind| *kind == SchedulerKind::ShuffleRegion);
    kind.and_then(|kind| find(view, kind)).ok_or_else(Answer::not_found)?;
    Ok(Answer::json(&SHUFFLED_ROLES))
}

/// `GET /schedulers/diagnostic/NAME`
pub(super) fn diagnosis(view: &View, request: &Request) -> Answered {
    let name = request.name(0);
    let known = [SchedulerKind::BalanceLeader, SchedulerKind::BalanceRegion];
    let Some(kind) = kind_of(&name).filter(|kind| known.contains(kind)) else {
        let why = format!("[PD:diagnostic:ErrSchedulerUndiagnosable]{name} hasn't supported diagnostic");
        return Err(Answer::error(500, why));
    };
    let status = match find(view, kind) {
        None => "disabled",
        Some(one) if view.wall_ms < one.paused_until_ms => "paused",
        Some(_) => "normal",
    };
    Ok(Answer::json(&Diagnosis { name, status, summary: "", timestamp: view.wall_ms / 1000 }))
}

/// Returns the stores of a scheduler as PD lists them: each with its range of keys, which is all of them.
fn stores_document(scheduler: &Scheduler) -> Stores {
    Stores { store_id_ranges: scheduler.stores.iter().map(|store| (store.to_string(), ALL_KEYS)).collect() }
}

fn change(change: ChangeScheduler) -> ChangeSettings {
    ChangeSettings { schedulers: vec![change], ..ChangeSettings::default() }
}

/// Returns the change that `POST /schedulers` asks for, and the answer when it is made. A store that has the scheduler
/// already keeps it.
///
/// # Errors
/// Returns PD's answer to a request that is not in order.
pub(super) fn adding(view: &View, body: &Map<String, Value>) -> Result<(ChangeSettings, Answer), Answer> {
    let name = body.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| Answer::error(400, "missing scheduler name"))?;
    let Some(kind) = kind_of(name) else {
        return Err(match UNBUILT.contains(&name) {
            true => Answer::unbuilt(&format!(
                "Armilla does not have the scheduler {name}: it has {}",
                KINDS.map(pd_name).join(", ")
            )),
            false => Answer::error(400, "unknown scheduler"),
        });
    };
    let mut stores = Vec::new();
    if is_of_stores(kind) {
        let store = id_in(body, "store_id").ok_or_else(|| Answer::error(400, "missing store id"))?;
        let other = match kind {
            SchedulerKind::EvictLeader => SchedulerKind::GrantLeader,
            _ => SchedulerKind::EvictLeader,
        };
        if super::stores::find(view, store).is_none() {
            return Err(super::answer::store_not_found(500, store));
        }
        if find(view, other).is_some_and(|one| one.stores.contains(&store)) {
            let why = format!("[PD:core:ErrPauseLeaderTransfer]store {store} is paused for leader transfer");
            return Err(Answer::error(500, why));
        }
        stores.push(store);
    } else if find(view, kind).is_some() {
        return Err(Answer::error(500, "[PD:scheduler:ErrSchedulerExisted]scheduler existed"));
    }
    let done = if find(view, kind).is_some() {
        "The scheduler has been applied to the store."
    } else {
        "The scheduler is created."
    };
    let change = change(ChangeScheduler { kind: kind as i32, exists: Some(true), stores, pause: None });
    Ok((change, Answer::done(done)))
}

/// Returns the change that `POST /scheduler-config/NAME/config` asks for, and the answer when it is made: a store is
/// added to a scheduler that exists.
///
/// # Errors
/// Returns PD's answer to a request that is not in order.
pub(super) fn configuring(
    view: &View,
    name: &str,
    body: &Map<String, Value>,
) -> Result<(ChangeSettings, Answer), Answer> {
    let kind = kind_of(name).filter(|kind| find(view, *kind).is_some()).ok_or_else(Answer::not_found)?;
    if !is_of_stores(kind) {
        return Err(Answer::unbuilt(&format!("Armilla's scheduler {name} follows the configuration of the nodes")));
    }
    let mut named = body.clone();
    named.insert("name".into(), name.into());
    adding(view, &named)
}

/// Returns the change that `DELETE /scheduler-config/NAME/delete/S` asks for, and the answer when it is made.
///
/// # Errors
/// Returns PD's answer to a request that is not in order.
pub(super) fn taking(view: &View, request: &Request) -> Result<(ChangeSettings, Answer), Answer> {
    let kind = kind_of(&request.name(0)).filter(|kind| is_of_stores(*kind));
    let found = kind.and_then(|kind| find(view, kind)).ok_or_else(Answer::not_found)?;
    let store = text::parse_uint(request.param(1)).map_err(|why| Answer::error(400, why))?;
    if !found.stores.contains(&store) {
        return Err(Answer::error(404, "[PD:scheduler:ErrScheduleConfigNotExist]the config does not exist"));
    }
    let last = found.stores.len() == 1;
    let done = if last { Answer::done("The last store has been deleted") } else { Answer::json(&()) };
    let taken = ChangeScheduler { kind: found.kind, exists: Some(false), stores: vec![store], pause: None };
    Ok((change(taken), done))
}

/// Returns the change that `DELETE /schedulers/NAME` asks for, and the answer when it is made.
/// `evict-leader-scheduler-1` is one store of it.
///
/// # Errors
/// Returns PD's answer if there is no such scheduler.
pub(super) fn removing(view: &View, name: &str) -> Result<(ChangeSettings, Answer), Answer> {
    let of_store = |kind: SchedulerKind| {
        let store = name.strip_prefix(&pd_name(kind))?.strip_prefix('-')?.parse::<u64>().ok()?;
        Some((kind, vec![store]))
    };
    let named = kind_of(name).map(|kind| (kind, vec![]));
    let named = named.or_else(|| KINDS.into_iter().filter(|kind| is_of_stores(*kind)).find_map(of_store));
    let (kind, stores) = named.ok_or_else(|| not_found(404))?;
    let exists = find(view, kind).filter(|one| stores.iter().all(|store| one.stores.contains(store)));
    // PD says null to both.
    let of_one = !stores.is_empty();
    exists.ok_or_else(|| if of_one { Answer::of(404, &()) } else { not_found(404) })?;
    let done = if of_one { Answer::json(&()) } else { Answer::done("The scheduler is removed.") };
    Ok((change(ChangeScheduler { kind: kind as i32, exists: Some(false), stores, pause: None }), done))
}

/// Returns the change that `POST /schedulers/NAME` asks for: to pause the scheduler, or all of them.
///
/// # Errors
/// Returns PD's answer to a request that is not in order, or if there is no such scheduler.
pub(super) fn pausing(view: &View, name: &str, body: &Map<String, Value>) -> Result<ChangeSettings, Answer> {
    let delay = body.get("delay").ok_or_else(|| Answer::error(400, "missing pause time"))?;
    let delay_s = delay.as_i64().ok_or_else(|| mistyped(delay, "int64"))?;
    let delay_ms = u64::try_from(delay_s).unwrap_or(0).saturating_mul(1000);
    let until_ms = if delay_ms == 0 { 0 } else { view.wall_ms.saturating_add(delay_ms) };
    let kinds: Vec<SchedulerKind> = match name {
        "all" => view.settings.schedulers.iter().map(Scheduler::kind).collect(),
        name => kind_of(name).filter(|kind| find(view, *kind).is_some()).into_iter().collect(),
    };
    if kinds.is_empty() {
        return Err(not_found(500));
    }
    let pause = Some(Pause { at_ms: view.wall_ms, until_ms });
    let pause = |kind| ChangeScheduler { kind: kind as i32, exists: None, stores: vec![], pause };
    Ok(ChangeSettings { schedulers: kinds.into_iter().map(pause).collect(), ..ChangeSettings::default() })
}
