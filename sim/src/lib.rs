//! # Armilla's simulator
//!
//! Runs the whole store from a number: `cargo sim run`, `cargo sim replay SEED`, `cargo meta`, `cargo zoo`. Each seed
//! is run by a separate process ([`cli::child`]); the commands start such processes and compare their reports.
//!
//! ```text
//!   cli ──> scenario ──> plan ──> fault     what is run, and what goes wrong
//!              ├──> cluster                 the nodes under test
//!              ├──> workload                what clients do, and the history of what they saw
//!              └──> oracle                  whether that was correct
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the command around the simulated world uses real files, clocks and processes"
)]

#[cfg(not(madsim))]
compile_error!(
    "the simulator is built with `--cfg madsim` only: use `cargo sim`, `cargo meta`, `cargo zoo` or `cargo sim-test`"
);

mod cli;
mod cluster;
mod fault;
mod memory;
mod oracle;
mod plan;
mod scenario;
mod workload;

use std::process::ExitCode;

use armilla_arch::dispatch;
use clap::Parser;
use cli::{child, corpus, meta, placement, replay, run, zoo};

#[global_allocator]
static MEMORY: memory::Memory = memory::Memory;

/// Armilla's deterministic simulator.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
enum Command {
    /// Runs many seeds, each in a separate process; stops at the first failure.
    Run(run::RunArgs),
    /// Runs one seed again, with a trace.
    Replay(replay::ReplayArgs),
    /// Runs each seed twice in different surroundings and compares the digests.
    Meta(meta::MetaArgs),
    /// Plants each bug in turn and prints how soon the oracles find it.
    Zoo(zoo::ZooArgs),
    /// Shrinks a failing seed's plan and adds it to sim/corpus.
    Shrink(corpus::ShrinkArgs),
    /// Replays all plans of sim/corpus.
    Corpus(corpus::CorpusArgs),
    /// Measures what the placement driver costs with many regions.
    Placement(placement::PlacementArgs),
    /// Runs one seed in this process and prints its report.
    #[command(hide = true)]
    One(child::ChildArgs),
}

/// Runs the command line of the program `sim`. It is in a library because a library begins to compile while the one
/// that it uses is still being optimized.
pub fn main() -> ExitCode {
    if let Err(error) = dispatch::init() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    match Command::parse() {
        Command::Run(args) => run::run(args),
        Command::Replay(args) => replay::replay(args),
        Command::Meta(args) => meta::run(args),
        Command::Zoo(args) => zoo::zoo(args),
        Command::Shrink(args) => corpus::shrink_seed(args),
        Command::Corpus(args) => corpus::corpus(args),
        Command::Placement(args) => placement::placement(args),
        Command::One(args) => child::run(args),
    }
}
