//! The options of a run and its report, shared by the child that runs one seed and the parents that start children.

use std::collections::BTreeMap;
use std::path::PathBuf;

use armilla::rt::sim::World;
use serde::{Deserialize, Serialize};

/// The scenario to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// The whole store with plans, clients, faults and oracles.
    Cluster,
    /// Bare raft groups over the simulated network and disk, on which everything else rests.
    BareRaft,
}

impl Scenario {
    /// Returns the scenario's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Cluster => "cluster",
            Scenario::BareRaft => "bare-raft",
        }
    }
}

/// The options of a run besides its seed.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scenario to run.
    #[arg(long, value_enum, default_value = "cluster")]
    pub scenario: Scenario,
    /// Plant this bug in the store.
    #[arg(long)]
    pub mutant: Option<String>,
    /// Run this plan instead of the one that the seed expands to.
    #[arg(long)]
    pub plan: Option<PathBuf>,
    /// Plant this leak of the outside world in the scenario of bare raft groups.
    #[arg(long, value_enum)]
    pub leak: Option<crate::scenario::leak::Leak>,
    /// Run the seeds on emulated aarch64; `meta` compares native runs with emulated ones.
    #[arg(long)]
    pub arm: bool,
}

impl Options {
    /// Returns the arguments that make a child run with these options.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec!["--scenario".to_owned(), self.scenario.name().to_owned()];
        if let Some(mutant) = &self.mutant {
            args.extend(["--mutant".to_owned(), mutant.clone()]);
        }
        if let Some(plan) = &self.plan {
            args.extend(["--plan".to_owned(), plan.display().to_string()]);
        }
        if let Some(leak) = self.leak {
            args.extend(["--leak".to_owned(), leak.name().to_owned()]);
        }
        args
    }

    /// Returns the command with which a person runs this seed again.
    pub fn replay_command(&self, seed: u64) -> String {
        let mut command = format!("cargo sim replay {seed}");
        if self.scenario != Scenario::Cluster {
            command.push_str(&format!(" --scenario {}", self.scenario.name()));
        }
        if let Some(mutant) = &self.mutant {
            command.push_str(&format!(" --mutant {mutant}"));
        }
        if let Some(plan) = &self.plan {
            command.push_str(&format!(" --plan {}", plan.display()));
        }
        if self.arm {
            command.push_str(" --arm");
        }
        command
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Name of the oracle that fired, such as `election-safety`, or `panic`.
    pub oracle: String,
    /// A description of the violation.
    pub what: String,
    /// When the oracle fired, in simulated nanoseconds.
    pub at_ns: u64,
    /// The node concerned; 0 for the whole cluster.
    pub node: u64,
}

/// The result of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first failure.
    pub failure: Option<Failure>,
    /// Statistics worth showing, by name.
    pub stats: BTreeMap<String, u64>,
}

impl Outcome {
    /// Returns the outcome of a failed run.
    #[allow(dead_code)]
    pub fn failed(oracle: &str, what: impl Into<String>, world: &World) -> Outcome {
        let failure = Failure { oracle: oracle.to_owned(), what: what.into(), at_ns: world.now_ns(), node: 0 };
        Outcome { failure: Some(failure), stats: BTreeMap::new() }
    }
}

/// The report that a child prints as one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The failure, if there was one.
    pub failure: Option<Failure>,
    /// The running digest at the end.
    pub digest: String,
    /// The number of records that the digest covers.
    pub records: u64,
    /// The run's length in simulated seconds.
    pub sim_s: f64,
    /// CPU time of the child in seconds.
    pub cpu_s: f64,
    /// The scenario's statistics.
    pub stats: BTreeMap<String, u64>,
    /// The names of the sites that the run reached.
    #[serde(default)]
    pub reached: Vec<String>,
    /// The digest's checkpoints (ordinal, half a digest), if they were requested.
    #[serde(default)]
    pub checkpoints: Vec<(u64, String)>,
}

impl Report {
    /// Returns the verdict in one line.
    pub fn verdict(&self) -> String {
        match &self.failure {
            None => format!("PASS seed {} in {:.1} simulated seconds, digest {}", self.seed, self.sim_s, self.digest),
            Some(failure) => {
                let node = if failure.node == 0 { String::new() } else { format!(" node {}", failure.node) };
                let at_s = failure.at_ns as f64 / 1e9;
                format!("FAIL seed {} {} {} t={at_s:.3}s{node}", self.seed, failure.oracle, failure.what)
            }
        }
    }
}
