//! `sim replay`: one seed again, or the run of a bug file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::bug::Bug;
use super::processes::{Surroundings, child};
use crate::scenario::report::Options;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The seed, or the path of a bug file, which `run` writes for every failure.
    seed: String,
    /// File for the trace; `target/sim/trace-SEED.txt` by default.
    #[arg(long)]
    trace: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Runs one seed or bug file again with a trace.
pub fn replay(args: ReplayArgs) -> ExitCode {
    let mut options = args.options;
    let (seed, bug) = match args.seed.parse() {
        Ok(seed) => (seed, None),
        Err(_) => match Bug::read(Path::new(&args.seed)) {
            Ok(bug) => (bug.seed, Some(bug)),
            Err(why) => {
                eprintln!("error: neither a seed nor a bug file: {why}");
                return ExitCode::from(2);
            }
        },
    };
    let directory = Path::new("target/sim");
    let _ = std::fs::create_dir_all(directory);
    if let Some(bug) = &bug {
        println!("{}", bug.preface());
        let plan = directory.join(format!("plan-{seed}.toml"));
        if let Err(error) = std::fs::write(&plan, bug.plan.to_toml()) {
            eprintln!("error: {}: {error}", plan.display());
            return ExitCode::from(2);
        }
        options.plan = Some(plan);
    }
    let path = args.trace.unwrap_or_else(|| directory.join(format!("trace-{seed}.txt")));
    let surroundings = Surroundings {
        args: vec!["--trace".to_owned(), path.display().to_string()],
        loud: true,
        ..Surroundings::default()
    };
    let report = child(seed, &options, &surroundings);
    println!("{}", report.verdict());
    println!("  {} records, digest {}, trace in {}", report.records, report.digest, path.display());
    if let Some(bug) = &bug {
        println!("  {}", bug.epilogue(&report));
    }
    for (name, value) in &report.stats {
        println!("  {name}: {value}");
    }
    ExitCode::from(u8::from(report.failure.is_some()))
}
