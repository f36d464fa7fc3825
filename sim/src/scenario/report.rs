//! What a run is asked for and what it answers: shared by the child that runs one seed and the parents that start children.

use std::collections::BTreeMap;
use std::path::PathBuf;

use armilla::rt::sim::World;
use serde::{Deserialize, Serialize};

/// What the simulator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// The whole store: plans, clients, faults, oracles.
    Cluster,
    /// Bare raft groups over the simulated network and disk: what everything else stands on.
    BareRaft,
}

impl Scenario {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Cluster => "cluster",
            Scenario::BareRaft => "bare-raft",
        }
    }
}

/// How a run is done, beside its seed.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is run.
    #[arg(long, value_enum, default_value = "cluster")]
    pub scenario: Scenario,
    /// A planted bug to switch on.
    #[arg(long)]
    pub mutant: Option<String>,
    /// Run this plan instead of the one that the seed expands to.
    #[arg(long)]
    pub plan: Option<PathBuf>,
    /// A leak of the outer world to plant in the scenario of bare raft groups.
    #[arg(long, value_enum)]
    pub leak: Option<crate::scenario::leak::Leak>,
    /// On aarch64, emulated: seeds run there, and `meta` compares here with there.
    #[arg(long)]
    pub arm: bool,
}

impl Options {
    /// The arguments that make a child run with these options.
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

    /// What a person types to run this seed again.
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

/// Why a run was not correct.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The oracle that fired, such as `election-safety`, or `panic`.
    pub oracle: String,
    /// What it saw.
    pub what: String,
    /// When, in simulated nanoseconds.
    pub at_ns: u64,
    /// On which node; 0 for the whole.
    pub node: u64,
}

/// What a scenario answers.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first failure.
    pub failure: Option<Failure>,
    /// Figures worth showing, by name.
    pub stats: BTreeMap<String, u64>,
}

impl Outcome {
    /// A run that failed.
    #[allow(dead_code)]
    pub fn failed(oracle: &str, what: impl Into<String>, world: &World) -> Outcome {
        let failure = Failure { oracle: oracle.to_owned(), what: what.into(), at_ns: world.now_ns(), node: 0 };
        Outcome { failure: Some(failure), stats: BTreeMap::new() }
    }
}

/// The line that a child prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The failure, if there was one.
    pub failure: Option<Failure>,
    /// The running digest at the end.
    pub digest: String,
    /// How many records went into it.
    pub records: u64,
    /// Simulated seconds.
    pub sim_s: f64,
    /// CPU seconds of the child.
    pub cpu_s: f64,
    /// The scenario's figures.
    pub stats: BTreeMap<String, u64>,
    /// The sites that it reached, by name.
    #[serde(default)]
    pub reached: Vec<String>,
    /// The digest's checkpoints (ordinal, half a digest), when they were asked for.
    #[serde(default)]
    pub checkpoints: Vec<(u64, String)>,
}

impl Report {
    /// The verdict, in one line.
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
