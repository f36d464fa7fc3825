//! The corpus of shrunk failures: `sim shrink SEED` writes a plan into `sim/corpus`, `sim corpus` replays all plans
//! there.
//!
//! A plan with a planted bug must fail under the oracle that it names. A plan without one shows a bug that was fixed
//! and must pass. A change to the store moves its events, so that the plan's own schedule may not show its bug any
//! more: then the schedules after it are tried, and `--settle` writes the first that shows it into the file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::processes::{Surroundings, child, pool, workers};
use crate::plan::Plan;
use crate::plan::shrink::{Budget, settings_of, shrink};
use crate::scenario::report::{Options, Report, Scenario};

/// Arguments of `shrink`.
#[derive(Debug, clap::Args)]
pub struct ShrinkArgs {
    /// The seed that fails.
    seed: u64,
    /// The file's name in the corpus, without extension.
    #[arg(long)]
    name: Option<String>,
    /// Maximum number of runs.
    #[arg(long, default_value_t = 400)]
    runs: u32,
    /// Number of schedules to try for each candidate.
    #[arg(long, default_value_t = 3)]
    schedules: u32,
    #[command(flatten)]
    options: Options,
}

/// Arguments of `corpus`.
#[derive(Debug, clap::Args)]
pub struct CorpusArgs {
    /// Directory of the plans [default: `corpus` beside the simulator's Cargo.toml].
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Number of schedules to try for a plan with a planted bug, its own first.
    #[arg(long, default_value_t = 400)]
    schedules: u64,
    /// Writes the schedule that shows the bug into a plan whose own does not.
    #[arg(long)]
    settle: bool,
    /// Number of processes at a time.
    #[arg(short)]
    j: Option<usize>,
}

/// The corpus of the checkout that cargo runs; a binary that is built once may serve several.
fn directory() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("sim"), PathBuf::from).join("corpus")
}

fn options(plan: &Path) -> Options {
    Options { scenario: Scenario::Cluster, mutant: None, plan: Some(plan.to_owned()), leak: None, arm: false }
}

/// Runs a plan in a separate process.
fn run_plan(plan: &Plan, scratch: &Path) -> Report {
    std::fs::write(scratch, plan.to_toml()).unwrap_or_else(|e| panic!("cannot write {}: {e}", scratch.display()));
    child(plan.schedule_seed, &options(scratch), &Surroundings::default())
}

/// Shrinks a failing seed's plan and adds it to the corpus.
pub fn shrink_seed(args: ShrinkArgs) -> ExitCode {
    let mut plan = match &args.options.plan {
        None => crate::plan::swarm::plan(args.seed),
        Some(path) => match Plan::read(path) {
            Ok(plan) => Plan { schedule_seed: args.seed, ..plan },
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::from(2);
            }
        },
    };
    plan.bug = args.options.mutant.clone().or(plan.bug);
    let scratch = std::env::temp_dir().join(format!("armilla-shrink-{}.toml", std::process::id()));
    let first = run_plan(&plan, &scratch);
    let Some(failure) = first.failure else {
        eprintln!("seed {} passes: nothing to shrink", args.seed);
        return ExitCode::from(2);
    };
    eprintln!("{} faults, {} operations: {} {}", plan.faults.len(), plan.op_count(), failure.oracle, failure.what);
    let mut runs = 0;
    let mut last = failure.clone();
    let mut fails = |candidate: &Plan| {
        runs += 1;
        let report = run_plan(candidate, &scratch);
        let same = report.failure.filter(|found| found.oracle == failure.oracle);
        if let Some(found) = &same {
            let (faults, ops, clients) = (candidate.faults.len(), candidate.op_count(), candidate.workload.clients);
            eprintln!(
                "run {runs}: {faults} faults, {ops} operations, {clients} clients, {} stores",
                candidate.topology.stores
            );
            last = found.clone();
        }
        same.is_some()
    };
    let mut small = shrink(plan, Budget { runs: args.runs, schedules: args.schedules }, &mut fails);
    let _ = std::fs::remove_file(&scratch);
    small.expect = Some(last.oracle.clone());
    let name = args.name.unwrap_or_else(|| small.bug.clone().unwrap_or_else(|| format!("seed-{}", args.seed)));
    let path = directory().join(format!("{name}.toml"));
    let written = std::fs::create_dir_all(path.parent().expect("it has one"))
        .and_then(|()| std::fs::write(&path, small.to_toml()));
    if let Err(why) = written {
        eprintln!("cannot write {}: {why}", path.display());
        return ExitCode::from(2);
    }
    println!("FAIL {} {} t={:.3}s", last.oracle, last.what, last.at_ns as f64 / 1e9);
    println!(
        "  {} faults, {} operations of {} clients, {} stores, after {runs} runs",
        small.faults.len(),
        small.op_count(),
        small.workload.clients,
        small.topology.stores
    );
    let settings: Vec<String> = settings_of(&small).iter().map(|(table, key)| format!("{table}.{key}")).collect();
    let settings = if settings.is_empty() { "none".to_owned() } else { settings.join(", ") };
    println!("  settings that the failure needs: {settings}");
    println!("  replay: cargo sim replay {} --plan {}", small.schedule_seed, path.display());
    ExitCode::SUCCESS
}

/// Replays one plan: what it showed, or what is wrong.
fn judge(path: &Path, args: &CorpusArgs) -> Result<String, String> {
    let plan = Plan::read(path)?;
    let Some(wanted) = plan.expect.clone().filter(|_| plan.bug.is_some()) else {
        let report = child(plan.schedule_seed, &options(path), &Surroundings::default());
        return if report.failure.is_none() { Ok(report.verdict()) } else { Err(report.verdict()) };
    };
    let mut own = None;
    for number in 0..args.schedules.max(1) {
        let seed = plan.schedule_seed.wrapping_add(number);
        let report = child(seed, &options(path), &Surroundings::default());
        if report.failure.as_ref().is_some_and(|failure| failure.oracle == wanted) {
            if number > 0 && args.settle {
                let settled = Plan { schedule_seed: seed, ..plan };
                std::fs::write(path, settled.to_toml())
                    .map_err(|why| format!("cannot write {}: {why}", path.display()))?;
            }
            let drift = if number > 0 { format!("after {number} other schedules: ") } else { String::new() };
            return Ok(format!("{drift}{}", report.verdict()));
        }
        own.get_or_insert(report.verdict());
    }
    let own = own.unwrap_or_default();
    Err(format!("expected {wanted} in one of {} schedules; its own: {own}", args.schedules.max(1)))
}

/// Replays the corpus.
pub fn corpus(args: CorpusArgs) -> ExitCode {
    let directory = args.directory.clone().unwrap_or_else(directory);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    if files.is_empty() {
        eprintln!("no plan in {}: name the corpus with --directory", directory.display());
        return ExitCode::from(2);
    }
    let wrong = std::sync::atomic::AtomicU64::new(0);
    pool(files.len() as u64, workers(args.j), |number| {
        let path = &files[number as usize];
        match judge(path, &args) {
            Ok(text) => println!("ok    {}: {text}", path.display()),
            Err(text) => {
                wrong.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                println!("WRONG {}: {text}", path.display());
            }
        }
        true
    });
    let wrong = wrong.into_inner();
    println!("{} passed, {wrong} failed", files.len() as u64 - wrong);
    ExitCode::from(u8::from(wrong > 0))
}
