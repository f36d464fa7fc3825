//! `sim run`: many seeds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::bug::Bug;
use super::executable;
use super::processes::{Surroundings, bar, child, pool, workers};
use super::sources::names;
use crate::scenario::report::{Options, Report, Scenario};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Number of seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Number of processes at a time; the number of cores by default.
    #[arg(short)]
    j: Option<usize>,
    /// Continue after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Show how many seeds reached each of the store's sites.
    #[arg(long)]
    sites: bool,
    /// Directory for the file of each failure.
    #[arg(long, default_value = "target/sim")]
    bugs: PathBuf,
    /// Maximum real time for one seed, in seconds [default: 300; with `--arm`: 7500].
    #[arg(long)]
    watchdog_s: Option<u32>,
    #[command(flatten)]
    options: Options,
}

/// The kinds of operations on regions, as runs report them.
const OPERATIONS: [&str; 4] = ["splits", "merges", "membership_changes", "snapshots"];

#[derive(Default)]
struct Sum {
    runs: u64,
    sim_s: f64,
    cpu_s: f64,
    ratios: Vec<f64>,
    /// Number of clients' operations that an oracle judged, and number of faults that struck.
    judged: u64,
    struck: u64,
    /// Number of operations on regions, by their kind.
    operations: [u64; OPERATIONS.len()],
    failures: Vec<Report>,
    /// By site: the number of seeds that reached it.
    reached: BTreeMap<String, u64>,
}

/// Number of seeds after which a site should have been reached: one that a share of p of the seeds reaches is missed by
/// 14/p of them once in a million times.
const SEEDS_REACH: u64 = 200;
/// The same for sites that fewer than 7 % of the seeds reach.
const SEEDS_REACH_RARE: [(&str, u64); 36] = [
    ("driver.candidate-sends-its-state", 2_000),
    ("driver.decided-elsewhere", 50_000),
    ("driver.demoted-leader-hands-over", 2_000),
    ("driver.lacks-a-group", 400),
    ("driver.merge-refused", 2_000),
    ("driver.message-for-the-dead", 6_000),
    ("driver.newborn-without-record", 5_000),
    ("driver.newcomer", 400),
    ("driver.removed-as-merged", 800),
    ("driver.removed-by-own-log", 1_500),
    ("driver.removed-by-proof", 1_500),
    ("driver.snapshot-covers-a-source", 10_000),
    ("driver.snapshot-finds-its-range-taken", 50_000),
    ("driver.snapshot-of-an-earlier-pass", 800),
    ("driver.stranger", 4_000),
    ("driver.warm-up-waits-for-others", 400),
    ("driver.woken-by-its-own-check", 400),
    ("engine.damaged-file-found", 800),
    ("log.older-copy-noticed", 800),
    ("pd.heartbeat-heard-twice", 400),
    ("pd.hot-replica-moved", 400),
    ("pd.older-run-refused", 800),
    ("pd.replica-balanced", 800),
    ("pd.replica-isolated", 400),
    ("raft.commit-told-by-another-group", 8_000),
    ("raft.leader-demoted", 50_000),
    ("region.command-while-merging", 1_000),
    ("replica.fate-learnt", 600),
    ("replica.proof-sought-elsewhere", 50_000),
    ("store.large-region-split", 800),
    ("transport.snapshot-finds-no-place", 400),
    ("txn.commit-at-a-record", 50_000),
    ("txn.deadlock", 400),
    ("txn.prewrite-after-its-commit", 800),
    ("txn.rollback-at-a-commit", 2_000),
    ("txn.rollback-under-an-async-lock", 800),
];

fn seeds_to_reach(site: &str) -> u64 {
    SEEDS_REACH_RARE.iter().find(|(rare, _)| *rare == site).map_or(SEEDS_REACH, |(_, seeds)| *seeds)
}

impl Sum {
    /// Prints which sites were reached. Returns false if one was not, although it should have been.
    fn show_sites(&self, all: bool) -> bool {
        let sites = names("reach");
        let count = |site: &String| self.reached.get(site).copied().unwrap_or(0);
        let never: Vec<&str> = sites.iter().filter(|site| count(site) == 0).map(String::as_str).collect();
        println!("{} of {} sites reached", sites.len() - never.len(), sites.len());
        if all {
            sites.iter().for_each(|site| println!("  {site}: reached by {} of {} seeds", count(site), self.runs));
        }
        let late: Vec<&str> = never.into_iter().filter(|site| self.runs >= seeds_to_reach(site)).collect();
        if !late.is_empty() {
            println!("never reached by {} seeds: {}", self.runs, late.join(", "));
        }
        late.is_empty()
    }
}

/// Runs many seeds.
pub fn run(args: RunArgs) -> ExitCode {
    if args.options.arm {
        executable::aarch64();
    }
    let began = Instant::now();
    let bar = bar(args.seeds);
    bar.enable_steady_tick(Duration::from_millis(250));
    let sum = Mutex::new(Sum::default());
    let surroundings = Surroundings { watchdog_s: args.watchdog_s, ..Surroundings::default() };
    pool(args.seeds, workers(args.j), |number| {
        let report = child(args.start + number, &args.options, &surroundings);
        let failed = report.failure.is_some();
        let mut sum = sum.lock().expect("no worker panics while holding it");
        sum.runs += 1;
        for site in &report.reached {
            *sum.reached.entry(site.clone()).or_default() += 1;
        }
        sum.sim_s += report.sim_s;
        sum.cpu_s += report.cpu_s;
        let stat = |name: &str| report.stats.get(name).copied().unwrap_or(0);
        sum.judged += stat("ops") + stat("queries");
        sum.struck += stat("faults");
        sum.operations.iter_mut().zip(OPERATIONS).for_each(|(total, kind)| *total += stat(kind));
        if report.cpu_s > 0.0 {
            sum.ratios.push(report.sim_s / report.cpu_s);
        }
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        let ratio = sum.sim_s / sum.cpu_s.max(1e-9);
        bar.set_message(format!(
            "{:.0} seeds/min, sim:cpu {ratio:.0}:1, {} failed",
            sum.runs as f64 / minutes,
            sum.failures.len() + usize::from(failed)
        ));
        bar.inc(1);
        if failed {
            bar.suspend(|| {
                println!("{}", report.verdict());
                println!("  replay: {}", args.options.replay_command(report.seed));
                if let Some(path) = Bug::write(&report, &args.options, &args.bugs) {
                    println!("  file: {}", path.display());
                }
            });
            sum.failures.push(report);
        }
        !failed || args.keep_going
    });
    bar.finish_and_clear();
    let mut sum = sum.into_inner().expect("no worker panicked");
    sum.ratios.sort_by(f64::total_cmp);
    let at = |part: usize| sum.ratios.get(sum.ratios.len() * part / 100).copied().unwrap_or(0.0);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!(
        "{} seeds, {} failed; {:.0} seeds/min; simulated to CPU time: median {:.0}:1, p10 {:.0}:1; \
         in a CPU second {:.0} judged operations, {:.1} faults",
        sum.runs,
        sum.failures.len(),
        sum.runs as f64 / minutes,
        at(50),
        at(10),
        sum.judged as f64 / sum.cpu_s.max(1e-9),
        sum.struck as f64 / sum.cpu_s.max(1e-9),
    );
    let operations = sum.operations.iter().zip(OPERATIONS).map(|(total, kind)| format!("{total} {kind}"));
    let operations = operations.collect::<Vec<_>>().join(", ").replace('_', " ");
    println!("{} operations on regions: {operations}", sum.operations.iter().sum::<u64>());
    let usual =
        args.options.scenario == Scenario::Cluster && args.options.mutant.is_none() && args.options.plan.is_none();
    let reached = !usual || sum.show_sites(args.sites);
    ExitCode::from(u8::from(!sum.failures.is_empty() || !reached))
}
