//! # plan: everything that one run does, as data
//!
//! A seed expands to a plan ([`swarm`]); a plan is a TOML file that a person can read, edit and replay, and that [`shrink`] cuts
//! down. Streams are counter based: operation `n` of client `c` is a function of `(workload seed, c, n)` alone, and a fault is an
//! explicit event, so that leaving one out does not change the others.
//!
//! **In** comes a seed or a file, **out** goes a [`Plan`] whose parts fit each other. **Never**: anything in a run that follows
//! neither from the plan nor from its schedule seed.

pub mod knobs;
pub mod nodes;
pub mod shrink;
pub mod swarm;

use std::path::Path;

use armilla::node::Config;
use armilla::rt::rng::{Rng, hash_label};
use serde::{Deserialize, Serialize};

pub use self::knobs::Knobs;
use crate::fault::Fault;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Seeds the world: latencies, timeouts, the order of what happens at once. (`sim replay SEED --plan FILE` takes another.)
    pub schedule_seed: u64,
    /// The planted bug, if the run has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<String>,
    /// The oracle that finds it, in a plan that was shrunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// What is being run.
    pub topology: Topology,
    /// How the nodes are configured.
    pub knobs: Knobs,
    /// What the clients do.
    pub workload: Workload,
    /// What goes wrong, in order of time.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// What is being run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Stores: 3 or 5.
    pub stores: u32,
    /// Replicas of each region; 0: one on every store.
    #[serde(default)]
    pub replicas: u32,
    /// Borders between regions (key numbers of the workload's key space).
    pub splits: Vec<u32>,
}

impl Topology {
    /// Replicas that each region has.
    pub fn replicas_each(&self) -> u32 {
        if self.replicas == 0 { self.stores } else { self.replicas }
    }
}

/// What the clients do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Seeds the operations.
    pub seed: u64,
    /// Clients, each with one operation under way at a time.
    pub clients: u32,
    /// Size of the key space.
    pub keys: u32,
    /// Operations of each client that are run: `[from, to)` ranges of their numbers.
    pub ops: Vec<[u32; 2]>,
    /// Milliseconds from one operation's planned begin to the next one's, on average.
    pub pace_ms: u64,
    /// A client's patience with one operation, ms.
    pub deadline_ms: u64,
    /// A client's patience with one attempt of an operation, ms.
    #[serde(default = "attempt_ms")]
    pub attempt_ms: u64,
    /// Length of values, bytes.
    pub value_bytes: u32,
    /// Timestamps are asked for every so many ms by two more clients, each; 0: not at all.
    pub tso_ms: u64,
    /// How many of those requests are for very many timestamps, in parts of a thousand.
    #[serde(default)]
    pub tso_many_permille: u64,
    /// Every so many ms a request with a wrong context is made by one more client; 0: never.
    #[serde(default)]
    pub bad_request_ms: u64,
    /// Every so many ms one more client uses a key in some column family; 0: never.
    #[serde(default)]
    pub families_ms: u64,
    /// Every so many ms one more client writes JSON or asks a query over it; 0: never.
    #[serde(default)]
    pub query_ms: u64,
    /// The fewest rows that a page of such a query is asked to hold.
    #[serde(default = "query_page_rows_min")]
    pub query_page_rows_min: u64,
    /// How often each kind of operation comes.
    pub mix: Mix,
}

/// How often each kind of operation comes, in parts of their sum.
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

/// The longest that the last fault or operation may reach past the others, ms.
pub const LENGTH_MS_MAX: u64 = 600_000;

impl Plan {
    /// Reads a plan's file.
    ///
    /// # Errors
    /// When it cannot be read or is not a plan.
    pub fn read(path: &Path) -> Result<Plan, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let plan: Plan = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        plan.validate().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(plan)
    }

    /// The plan as a file's text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan has nothing that TOML lacks")
    }

    /// Whether the parts fit each other.
    ///
    /// # Errors
    /// What does not fit.
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

    /// A client's operation numbers, in order.
    pub fn op_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.workload.ops.iter().flat_map(|&[from, to]| from..to)
    }

    /// How many operations all clients have together.
    pub fn op_count(&self) -> u64 {
        let each: u64 = self.workload.ops.iter().map(|&[from, to]| u64::from(to - from)).sum();
        each * u64::from(self.workload.clients)
    }

    /// When the last fault ends and the last operation is planned, ms after the workload's begin.
    pub fn length_ms(&self) -> u64 {
        let faults = self.faults.iter().map(Fault::end_ms).max().unwrap_or(0);
        let ops = self.workload.ops.last().map_or(0, |&[_, to]| u64::from(to) * self.workload.pace_ms);
        faults.max(ops).min(LENGTH_MS_MAX)
    }

    /// Borders between regions as the stores know them: the keys, memcomparable.
    pub fn boundaries(&self) -> Vec<bytes::Bytes> {
        self.topology.splits.iter().map(|&split| armilla::codec::bytes::encode(&key(split))).collect()
    }

    /// All keys of the workload's key space.
    pub fn all_keys(&self) -> Vec<bytes::Bytes> {
        (0..self.workload.keys).map(key).collect()
    }
}

/// The key of a number.
pub fn key(number: u32) -> bytes::Bytes {
    format!("k{number:03}").into()
}

/// The random numbers of operation `n` of client `client`.
pub fn op_rng(workload_seed: u64, client: u32, n: u32) -> Rng {
    Rng::new(hash_label(workload_seed, "op") ^ (u64::from(client) << 32 | u64::from(n)))
}
