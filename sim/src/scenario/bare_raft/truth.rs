//! What the simulator knows of all replicas, and the sizes of the scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Nodes, each with a replica of every group.
pub const NODES: u64 = 3;
/// Groups.
pub const GROUPS: u64 = 8;
/// Raft's tick.
pub const TICK: Duration = Duration::from_millis(50);

/// What the simulator knows of all replicas.
#[derive(Default)]
pub struct Truth {
    /// By group and index: the entry's number.
    pub applied: BTreeMap<(u64, u64), u64>,
    /// (group, number) of what clients were told.
    pub acknowledged: BTreeSet<(u64, u64)>,
    /// The first violation: oracle and what.
    pub violation: Option<(&'static str, String)>,
    /// Calls made.
    pub calls: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// Answers of streams.
    pub streamed: u64,
}

/// Shared by nodes and clients.
pub type Shared = Arc<Mutex<Truth>>;

/// Where a node listens.
pub fn addr(node: u64) -> String {
    format!("10.0.0.{node}:20160")
}
