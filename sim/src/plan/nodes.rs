//! The nodes' configurations and the links between them, as a plan defines them.

use std::path::PathBuf;

use armilla::node::Config;
use armilla::rt::sim::LinkConfig;

use super::{Knobs, Plan, key};

fn name(id: u64) -> String {
    format!("n{id}")
}

fn address(id: u64) -> String {
    format!("n{id}:20160")
}

/// Returns the configuration of a link without faults.
pub fn link(knobs: &Knobs) -> LinkConfig {
    LinkConfig { latency_us_min: knobs.link_us / 2, latency_us_mean: knobs.link_us / 2, ..LinkConfig::default() }
}

/// Returns the configuration of a node.
///
/// # Panics
/// Panics if the plan's knobs are not valid.
pub fn config(plan: &Plan, id: u64) -> Config {
    let stores = u64::from(plan.topology.stores);
    let split_key = |&split: &u32| String::from_utf8_lossy(&key(split)).into_owned();
    let base = Config {
        name: name(id),
        data_dir: PathBuf::from("/data"),
        addr: address(id),
        initial_cluster: (1..=stores).map(|n| (name(n), address(n))).collect(),
        pd_members: stores.min(3) as usize,
        replicas: plan.topology.replicas_each() as usize,
        split_keys: plan.topology.splits.iter().map(split_key).collect(),
        labels: plan.topology.zone_of(id).map(|zone| format!("zone=z{zone}")).into_iter().collect(),
        disk_reserve_mib: Some(0),
        ..Config::default()
    };
    plan.knobs.node_config(base).unwrap_or_else(|why| panic!("{why}"))
}
