//! # Armilla's simulator
//!
//! Runs the whole store from a number: `cargo sim run`, `cargo sim replay SEED`, `cargo meta`, `cargo zoo`. Each seed is run by a process of
//! its own ([`child`]); the commands start such processes and compare what they say.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the command around the simulated world uses real files, clocks and processes"
)]

#[cfg(not(madsim))]
compile_error!(
    "the simulator is built with `--cfg madsim` only: use `cargo sim`, `cargo meta`, `cargo zoo` or `cargo sim-test`"
);

mod child;
mod clients;
mod cluster;
mod corpus;
mod fault;
mod ground;
mod history;
#[cfg(test)]
mod homes;
mod leak;
#[cfg(test)]
mod log_crash;
mod meta;
mod nemesis;
mod oracle;
mod plan;
mod program;
mod queries;
mod report;
mod runner;
mod scenario;
mod shrink;
mod swarm;
mod watch;
mod workload;
mod wrong;

use std::process::ExitCode;

use armilla_arch::dispatch::TIER_VARIABLE;
use clap::Parser;

/// Armilla's deterministic simulator.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
enum Command {
    /// Runs many seeds, each in a process of its own; stops at the first failure.
    Run(runner::RunArgs),
    /// Runs one seed again, with a trace.
    Replay(runner::ReplayArgs),
    /// Runs each seed twice in different surroundings and compares the digests.
    Meta(meta::MetaArgs),
    /// Plants each bug in turn and shows how soon the oracles find it.
    Zoo(runner::ZooArgs),
    /// Cuts a failing seed's plan down and keeps it in sim/corpus.
    Shrink(corpus::ShrinkArgs),
    /// Replays all plans of sim/corpus.
    Corpus(corpus::CorpusArgs),
    /// Runs one seed in this process and prints its report.
    #[command(hide = true)]
    One(child::ChildArgs),
}

fn main() -> ExitCode {
    if let Err(error) = armilla_arch::dispatch::init() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    match Command::parse() {
        Command::Run(args) => runner::run(args),
        Command::Replay(args) => runner::replay(args),
        Command::Meta(args) => meta::run(args),
        Command::Zoo(args) => runner::zoo(args),
        Command::Shrink(args) => corpus::shrink_seed(args),
        Command::Corpus(args) => corpus::corpus(args),
        Command::One(args) => child::run(args),
    }
}
