//! # plan: everything that one run does, as data
//!
//! A seed expands to a plan ([`swarm`]). A plan is a TOML file that a person can read, edit and replay, and that
//! [`shrink`] reduces. Random streams are counter based: operation `n` of client `c` is a function of `(workload seed,
//! c, n)` alone, and a fault is an explicit event, so that leaving one out does not change the others.
//!
//! **In** comes a seed or a file, **out** goes a [`Plan`] whose parts fit each other. **Never**: anything in a run that
//! depends on neither the plan nor its schedule seed.

pub mod keys;
pub mod knobs;
pub mod nodes;
pub mod shrink;
pub mod swarm;

use std::path::Path;

use armilla::client::Space;
use armilla::codec::keyspace;
use armilla::node::Config;
use armilla::rt::rng::{Rng, hash_label};
use armilla::types::Api;
use serde::{Deserialize, Serialize};

pub use self::keys::key;
pub use self::knobs::Knobs;
use crate::fault::Fault;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Seeds the world: latencies, timeouts and the order of simultaneous events. (`sim replay SEED --plan FILE` uses
    /// SEED.)
    pub schedule_seed: u64,
    /// The planted bug, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<String>,
    /// The oracle that finds the bug; set in a plan that was shrunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// The cluster.
    pub topology: Topology,
    /// The nodes' configuration.
    pub knobs: Knobs,
    /// The clients' operations.
    pub workload: Workload,
    /// The faults, in order of time.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// The cluster's stores and regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Number of stores, usually 3 to 5.
    pub stores: u32,
    /// Replicas of each region; 0: one on every store.
    #[serde(default)]
    pub replicas: u32,
    /// Number of zones over which the stores are spread, by labels; 0: the stores have no labels.
    #[serde(default)]
    pub zones: u32,
    /// Boundaries between regions (key numbers of the workload's key space).
    pub splits: Vec<u32>,
}

impl Topology {
    /// Returns the number of replicas of each region.
    pub fn replicas_each(&self) -> u32 {
        if self.replicas == 0 { self.stores } else { self.replicas }
    }

    /// Returns the zone of a node; `None` if stores have no labels.
    pub fn zone_of(&self, node: u64) -> Option<u64> {
        (self.zones > 0).then(|| (node - 1) % u64::from(self.zones))
    }
}

/// The clients' operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Seeds the operations.
    pub seed: u64,
    /// Number of clients. Each has one operation in flight at a time.
    pub clients: u32,
    /// Size of the key space.
    pub keys: u32,
    /// The operations that each client runs: `[from, to)` ranges of their numbers.
    pub ops: Vec<[u32; 2]>,
    /// Milliseconds from one operation's planned start to the next one's, on average.
    pub pace_ms: u64,
    /// Timeout of one operation, ms.
    pub deadline_ms: u64,
    /// Timeout of one attempt of an operation, ms.
    #[serde(default = "attempt_ms")]
    pub attempt_ms: u64,
    /// Length of values, bytes.
    pub value_bytes: u32,
    /// Mean interval at which each of two more clients requests timestamps, ms; 0: never.
    pub tso_ms: u64,
    /// Share of those requests that ask for very many timestamps, in thousandths.
    #[serde(default)]
    pub tso_many_permille: u64,
    /// Mean interval at which one more client sends a request with a wrong context, ms; 0: never.
    #[serde(default)]
    pub bad_request_ms: u64,
    /// Mean interval at which one more client uses a key in some column family, ms; 0: never.
    #[serde(default)]
    pub families_ms: u64,
    /// Mean interval at which one more client writes JSON or queries it, ms; 0: never.
    #[serde(default)]
    pub query_ms: u64,
    /// The smallest page size, in rows, that such a query requests.
    #[serde(default = "query_page_rows_min")]
    pub query_page_rows_min: u64,
    /// Mean interval at which each of some more clients runs a transaction, ms; 0: never.
    #[serde(default)]
    pub txn_ms: u64,
    /// Mean interval at which each of some more clients sends a single transactional request, ms; 0: never.
    #[serde(default)]
    pub protocol_ms: u64,
    /// Whether some of its transactions lock a key in shared mode.
    #[serde(default)]
    pub protocol_shares: bool,
    /// Whether every other client reads from any peer of a region.
    #[serde(default)]
    pub replica_reads: bool,
    /// After how many operations of a client the range that gets most of them moves on; 0: there is no such range.
    #[serde(default)]
    pub wander_ops: u32,
    /// Requests per second to each of some regions that one store leads, at the end of the run; 0: none.
    #[serde(default)]
    pub hot_per_s: u32,
    /// Relative frequency of each kind of operation.
    pub mix: Mix,
}

/// Relative frequency of each kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each names an operation
pub struct Mix {
    pub get: u32,
    pub batch_get: u32,
    pub put: u32,
    pub batch_put: u32,
    pub delete: u32,
    pub batch_delete: u32,
    pub delete_range: u32,
    pub scan: u32,
    pub reverse_scan: u32,
    pub cas: u32,
    pub put_ttl: u32,
    #[serde(default)]
    pub cas_ttl: u32,
}

fn attempt_ms() -> u64 {
    2000
}

fn query_page_rows_min() -> u64 {
    1
}

/// The longest duration of a run's workload and faults, ms.
pub const LENGTH_MS_MAX: u64 = 600_000;

impl Plan {
    /// Returns which keys the clients use: with API V2, those of the first keyspace.
    pub fn space(&self) -> Space {
        match self.knobs.settings().founded_api() {
            Api::V1 => Space::V1,
            Api::V2 => Space::Keyspace(keyspace::DEFAULT),
        }
    }

    /// Reads a plan from a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or does not hold a valid plan.
    pub fn read(path: &Path) -> Result<Plan, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let plan: Plan = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        plan.validate().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(plan)
    }

    /// Returns the plan as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan has nothing that TOML lacks")
    }

    /// Checks that the plan's parts fit each other.
    ///
    /// # Errors
    /// Returns a description of the part that does not fit.
    pub fn validate(&self) -> Result<(), String> {
        let Plan { topology, workload, .. } = self;
        if topology.stores == 0 || topology.stores > 9 {
            return Err(format!("{} stores", topology.stores));
        }
        if topology.replicas > topology.stores {
            return Err(format!("{} replicas on {} stores", topology.replicas, topology.stores));
        }
        if workload.query_page_rows_min == 0 {
            return Err("query_page_rows_min = 0: a page has a row at least".into());
        }
        if workload.keys == 0 || workload.keys > 1000 {
            return Err(format!("{} keys: 1 to 1000", workload.keys));
        }
        if !topology.splits.is_sorted() || topology.splits.iter().any(|&split| split == 0 || split >= workload.keys) {
            return Err(format!("splits {:?} of {} keys", topology.splits, workload.keys));
        }
        if workload.ops.iter().any(|[from, to]| from >= to) || !workload.ops.is_sorted() {
            return Err("ops must be ascending ranges".into());
        }
        self.knobs.node_config(Config::default())?;
        for fault in &self.faults {
            fault.validate()?;
            if fault.end_ms() > LENGTH_MS_MAX {
                return Err(format!("the fault at {} ms lasts too long", fault.at_ms));
            }
        }
        Ok(())
    }

    /// Returns the numbers of each client's operations, in order.
    pub fn op_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.workload.ops.iter().flat_map(|&[from, to]| from..to)
    }

    /// Returns the number of operations of all clients together.
    pub fn op_count(&self) -> u64 {
        let each: u64 = self.workload.ops.iter().map(|&[from, to]| u64::from(to - from)).sum();
        each * u64::from(self.workload.clients)
    }

    /// Returns when the last fault has ended and the last operation is planned, ms after the workload's start.
    pub fn length_ms(&self) -> u64 {
        let faults = self.faults.iter().map(Fault::end_ms).max().unwrap_or(0);
        let ops = self.workload.ops.last().map_or(0, |&[_, to]| u64::from(to) * self.workload.pace_ms);
        faults.max(ops).min(LENGTH_MS_MAX)
    }

    /// Returns all keys of the workload's key space.
    pub fn all_keys(&self) -> Vec<bytes::Bytes> {
        (0..self.workload.keys).map(key).collect()
    }
}

/// Returns the random numbers of operation `n` of client `client`.
pub fn op_rng(workload_seed: u64, client: u32, n: u32) -> Rng {
    Rng::new(hash_label(workload_seed, "op") ^ (u64::from(client) << 32 | u64::from(n)))
}
