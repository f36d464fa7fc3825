//! The program: a cluster in one process (`up`), one node (`start`), inspection and keys (`ctl`), load (`bench`),
//! shell completions (`completions`).
//!
//! This is the only place that builds a runtime, reads flags, sets up logging and uses the terminal.
//!
//! Exit codes: 0 success; 1 failure (also of a request of `bench`), or the thing asked for does not exist; 2 wrong
//! flags or configuration; 130 interrupted before the command was done.

// The program runs only in the real world, never in the simulator.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod bench;
mod ctl;
mod failure;
mod logging;
mod process;
mod start;
mod up;

use clap::{CommandFactory as _, Parser, Subcommand};

use armilla::arch;
use failure::Failure;

// On aarch64 jemalloc must be built for 64 KiB pages (JEMALLOC_SYS_WITH_LG_PAGE=16), so that one binary runs on kernels
// with 4, 16 and 64 KiB pages.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Armilla: a distributed key-value store that speaks TiKV's protocol.
#[derive(Parser, Debug)]
#[command(name = "armilla", disable_version_flag = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print the version.
    #[arg(long, short = 'V')]
    version: bool,
    /// With --version: also print the properties of this build.
    #[arg(long, requires = "version")]
    verbose: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a cluster of several nodes in this process, on this machine, including the placement driver.
    Up(up::Args),
    /// Run one node of a cluster.
    Start(start::Args),
    /// Inspect a cluster; read and write keys, raw and transactional.
    Ctl(ctl::Args),
    /// Print a script that completes commands and flags in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Put load on a cluster (Armilla's, or another one that speaks TiKV's protocol) and measure it.
    Bench(bench::Args),
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    // Select the tier of the kernels first: a mistake in the variable is reported before anything else happens.
    if let Err(error) = arch::dispatch::init() {
        return Failure::usage(error).report();
    }
    if cli.version {
        print_version(cli.verbose);
        return std::process::ExitCode::SUCCESS;
    }
    let result = match cli.command {
        Some(Command::Up(args)) => up::run(args),
        Some(Command::Start(args)) => start::run(args),
        Some(Command::Ctl(args)) => ctl::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Completions { shell }) => {
            process::only_prints();
            clap_complete::generate(shell, &mut Cli::command(), "armilla", &mut std::io::stdout());
            Ok(())
        }
        None => Err(Failure::usage("give a command: up, start, ctl, bench or completions (see --help)")),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn print_version(verbose: bool) {
    process::only_prints();
    println!("armilla {}", env!("CARGO_PKG_VERSION"));
    if !verbose {
        return;
    }
    println!("  architecture   {}, {}", std::env::consts::ARCH, std::env::consts::OS);
    println!("  build          {}", if cfg!(debug_assertions) { "debug" } else { "release" });
    println!("  engine         RocksDB, WAL off: the raft log is the write-ahead log");
    println!("  allocator      jemalloc");
    println!("  data format    {}", armilla::node::ident::FORMAT);
    println!("  CPU features   {}", arch::features().join(" "));
    println!("  kernel tier    {} of {:?}", arch::dispatch::active(), arch::dispatch::tiers());
    for kernel in arch::kernels() {
        println!("    {:<14} {}", kernel.name, kernel.tier);
    }
}

#[cfg(test)]
mod tests;
