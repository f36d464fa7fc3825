//! Answers about configuration: what Armilla's placement driver really does, under PD's names.
//!
//! A view of the cluster comes **in**, PD's documents go **out**. **Never**: an item that has no meaning here. Tools
//! that read such an item find it missing, and do not take a number for one that is in effect.

use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, region_not_found};
use super::regions;
use super::request::Request;
use super::text;
use crate::pd::view::View;
use crate::types::version::TIKV_VERSION;

/// The group and the ID of the only placement rule.
const GROUP: &str = "pd";
const RULE: &str = "default";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Replication {
    max_replicas: usize,
    location_labels: String,
    strictly_match_label: &'static str,
    enable_placement_rules: &'static str,
    enable_placement_rules_cache: &'static str,
    isolation_level: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Schedule {
    max_merge_region_size: u64,
    max_merge_region_keys: u64,
    split_merge_interval: String,
    max_store_down_time: String,
    leader_schedule_limit: usize,
    leader_schedule_policy: &'static str,
    region_schedule_limit: usize,
    merge_schedule_limit: usize,
    hot_region_schedule_limit: usize,
    witness_schedule_limit: u64,
    tolerant_size_ratio: u64,
    enable_remove_down_replica: &'static str,
    enable_replace_offline_replica: &'static str,
    enable_make_up_replica: &'static str,
    enable_remove_extra_replica: &'static str,
    enable_location_replacement: &'static str,
    enable_joint_consensus: &'static str,
    enable_witness: &'static str,
    enable_diagnostic: &'static str,
}

#[derive(Serialize)]
struct Config<'v> {
    name: &'v str,
    schedule: Schedule,
    replication: Replication,
    #[serde(rename = "cluster-version")]
    cluster_version: &'static str,
}

#[derive(Serialize)]
struct Rule {
    group_id: &'static str,
    id: &'static str,
    start_key: &'static str,
    end_key: &'static str,
    role: &'static str,
    is_witness: bool,
    count: usize,
}

#[derive(Serialize)]
struct Bundle {
    group_id: &'static str,
    group_index: u64,
    group_override: bool,
    rules: [Rule; 1],
}

#[derive(Serialize)]
struct Group {
    id: &'static str,
}

fn replication(view: &View) -> Replication {
    Replication {
        max_replicas: view.options.replicas,
        location_labels: view.options.location_labels.join(","),
        strictly_match_label: "false",
        enable_placement_rules: "true",
        enable_placement_rules_cache: "false",
        isolation_level: "",
    }
}

fn schedule(view: &View) -> Schedule {
    Schedule {
        max_merge_region_size: view.options.merge_below_bytes >> 20,
        max_merge_region_keys: 0,
        split_merge_interval: text::duration_ms(view.options.merge_rest_ms),
        max_store_down_time: text::duration_ms(view.options.max_down_ms),
        leader_schedule_limit: view.options.orders_max,
        leader_schedule_policy: "count",
        region_schedule_limit: view.options.moves_max,
        merge_schedule_limit: view.options.merges_max,
        hot_region_schedule_limit: view.options.hot_operators_max,
        witness_schedule_limit: 0,
        tolerant_size_ratio: 0,
        enable_remove_down_replica: "true",
        enable_replace_offline_replica: "true",
        enable_make_up_replica: "true",
        enable_remove_extra_replica: "true",
        enable_location_replacement: "true",
        enable_joint_consensus: "true",
        enable_witness: "false",
        enable_diagnostic: "false",
    }
}

/// Returns whether an item's value is the one that is shown.
pub(super) fn shows(view: &View, name: &str, value: &Value) -> bool {
    let documents = [serde_json::to_value(schedule(view)), serde_json::to_value(replication(view))];
    let shown = documents.iter().flatten().find_map(|document| document.get(name));
    // Tools send flags as texts or as booleans.
    let as_text = value.to_string();
    let same = |shown: &Value| shown == value || shown.as_str() == Some(as_text.as_str());
    shown.is_some_and(same)
}

fn rule(view: &View) -> Rule {
    Rule {
        group_id: GROUP,
        id: RULE,
        start_key: "",
        end_key: "",
        role: "voter",
        is_witness: false,
        count: view.options.replicas,
    }
}

fn bundle(view: &View) -> Bundle {
    Bundle { group_id: GROUP, group_index: 0, group_override: false, rules: [rule(view)] }
}

/// `GET /config/replicate`
pub(super) fn replicate(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&replication(view)))
}

/// `GET /config/schedule`
pub(super) fn scheduling(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&schedule(view)))
}

/// `GET /config`
pub(super) fn all(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&Config {
        name: &view.leader.name,
        schedule: schedule(view),
        replication: replication(view),
        cluster_version: TIKV_VERSION,
    }))
}

/// `GET /config/cluster-version`
pub(super) fn cluster_version(_: &View, _: &Request) -> Answered {
    Ok(Answer::json(&TIKV_VERSION))
}

/// `GET /config/rules`
pub(super) fn rules(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&[rule(view)]))
}

/// `GET /config/rules/group/G`
pub(super) fn rules_of_group(view: &View, request: &Request) -> Answered {
    // PD says null for none.
    Ok(Answer::json(&Some([rule(view)]).filter(|_| request.param(0) == GROUP.as_bytes())))
}

/// `GET /config/rules/region/R`
pub(super) fn rules_of_region(view: &View, request: &Request) -> Answered {
    let invalid = |_| Answer::error(400, "[PD:region:ErrRegionInvalidID]invalid region id");
    let id = text::parse_uint(request.param(0)).map_err(invalid)?;
    if regions::find(view, id).is_some() { rules(view, request) } else { Err(region_not_found(404, id)) }
}

/// `GET /config/rules/key/HEX`
pub(super) fn rules_of_key(view: &View, request: &Request) -> Answered {
    match text::parse_hex(request.param(0)) {
        Ok(_) => rules(view, request),
        Err(why) => Err(Answer::error(400, format!("[PD:placement:ErrKeyFormat]key should be in hex format, {why}"))),
    }
}

/// `GET /config/rule/G/ID`
pub(super) fn one_rule(view: &View, request: &Request) -> Answered {
    if request.param(0) == GROUP.as_bytes() && request.param(1) == RULE.as_bytes() {
        return Ok(Answer::json(&rule(view)));
    }
    Err(Answer::error(404, "[PD:placement:ErrRuleNotFound]rule not found"))
}

/// `GET /config/rule_groups`
pub(super) fn groups(_: &View, _: &Request) -> Answered {
    Ok(Answer::json(&[Group { id: GROUP }]))
}

/// `GET /config/placement-rule`
pub(super) fn bundles(view: &View, _: &Request) -> Answered {
    Ok(Answer::json(&[bundle(view)]))
}

/// `GET /config/placement-rule/G`
pub(super) fn one_bundle(view: &View, request: &Request) -> Answered {
    let group = request.name(0);
    if group == GROUP {
        return Ok(Answer::json(&bundle(view)));
    }
    // PD shows a group that it does not have as one without rules.
    let none = serde_json::Value::Null;
    Ok(Answer::json(&json!({ "group_id": group, "group_index": 0, "group_override": false, "rules": none })))
}

/// `GET /config/label-property` and `/hotspot/buckets`: there are none.
pub(super) fn nothing(_: &View, _: &Request) -> Answered {
    Ok(Answer::json(&json!({})))
}

/// `GET /config/replication-mode`
pub(super) fn replication_mode(_: &View, _: &Request) -> Answered {
    Ok(Answer::json(&json!({ "replication-mode": "majority" })))
}

/// `GET /replication_mode/status`
pub(super) fn replication_status(_: &View, _: &Request) -> Answered {
    Ok(Answer::json(&json!({ "mode": "majority" })))
}

/// `GET /admin/unsafe/remove-failed-stores/show`
pub(super) fn no_recovery(_: &View, _: &Request) -> Answered {
    Ok(Answer::json(&[json!({ "info": "No on-going recovery." })]))
}
