//! `sim replay`: one seed again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::processes::{Surroundings, child};
use crate::scenario::report::Options;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The seed.
    seed: u64,
    /// Where the trace goes; `target/sim/trace-SEED.txt` by default.
    #[arg(long)]
    trace: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Runs one seed again, with a trace.
pub fn replay(args: ReplayArgs) -> ExitCode {
    let path = args.trace.unwrap_or_else(|| {
        let directory = Path::new("target/sim");
        let _ = std::fs::create_dir_all(directory);
        directory.join(format!("trace-{}.txt", args.seed))
    });
    let surroundings = Surroundings {
        args: vec!["--trace".to_owned(), path.display().to_string()],
        loud: true,
        ..Surroundings::default()
    };
    let report = child(args.seed, &args.options, &surroundings);
    println!("{}", report.verdict());
    println!("  {} records, digest {}, trace in {}", report.records, report.digest, path.display());
    for (name, value) in &report.stats {
        println!("  {name}: {value}");
    }
    ExitCode::from(u8::from(report.failure.is_some()))
}
