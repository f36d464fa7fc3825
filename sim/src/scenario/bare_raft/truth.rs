//! The simulator's knowledge of all replicas, and the sizes of the scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Number of nodes, each with a replica of every group.
pub const NODES: u64 = 3;
/// Number of groups.
pub const GROUPS: u64 = 8;
/// Interval of raft's ticks.
pub const TICK: Duration = Duration::from_millis(50);

/// The simulator's knowledge of all replicas.
#[derive(Default)]
pub struct Truth {
    /// By group and index: the number of the applied entry.
    pub applied: BTreeMap<(u64, u64), u64>,
    /// The (group, number) pairs that were acknowledged to clients.
    pub acknowledged: BTreeSet<(u64, u64)>,
    /// The first violation: the oracle and a description.
    pub violation: Option<(&'static str, String)>,
    /// Number of calls.
    pub calls: u64,
    /// Number of calls that failed.
    pub failed_calls: u64,
    /// Number of messages received from streams.
    pub streamed: u64,
}

/// The truth, shared by nodes and clients.
pub type Shared = Arc<Mutex<Truth>>;

/// Returns the address on which a node listens.
pub fn addr(node: u64) -> String {
    format!("10.0.0.{node}:20160")
}
