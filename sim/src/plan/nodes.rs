//! What a plan says of the nodes: their configurations and the links between them.

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

/// How links are when nothing is wrong.
pub fn link(knobs: &Knobs) -> LinkConfig {
    LinkConfig { latency_us_min: knobs.link_us / 2, latency_us_mean: knobs.link_us / 2, ..LinkConfig::default() }
}

/// The configuration of a node.
pub fn config(plan: &Plan, id: u64) -> Config {
    let stores = u64::from(plan.topology.stores);
    let knobs = &plan.knobs;
    let mut config = Config {
        name: name(id),
        data_dir: PathBuf::from("/data"),
        addr: address(id),
        initial_cluster: (1..=stores).map(|n| (name(n), address(n))).collect(),
        pd_members: stores.min(3) as usize,
        replicas: stores as usize,
        split_keys: plan
            .topology
            .splits
            .iter()
            .map(|&split| String::from_utf8_lossy(&key(split)).into_owned())
            .collect(),
        ..Config::default()
    };
    config.raft.tick_ms = knobs.tick_ms;
    config.raft.heartbeat_ticks = knobs.heartbeat_ticks as usize;
    config.raft.election_ticks = knobs.election_ticks as usize;
    config.raft.log_segment_kib = knobs.segment_kib;
    config.raft.log_soft_max_kib = 4 * knobs.segment_kib;
    config.raft.log_keep_entries = knobs.log_keep;
    config.raft.log_lag_entries_max = knobs.log_lag;
    config.raft.flush_kib = knobs.flush_kib;
    config.raft.flush_interval_ms = knobs.flush_ms;
    config.raft.snapshot_chunk_kib = knobs.snapshot_chunk_kib;
    config.raft.pack_kib_max = knobs.pack_kib;
    config.raft.letters_max = knobs.letters;
    config.raft.appends_inflight_max = knobs.inflight;
    config.ttl.collect_interval_ms = knobs.ttl_collect_ms;
    config.ttl.collect_grace_ms = knobs.ttl_grace_ms;
    config.pd.store_heartbeat_ms = knobs.pd_heartbeat_ms;
    config.pd.store_alive_ms = 5 * knobs.pd_heartbeat_ms;
    config
}
