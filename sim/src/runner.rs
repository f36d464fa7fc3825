//! Many seeds: a pool of workers, each starting one process at a time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use comfy_table::{Cell, CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::program;
use crate::report::{Failure, Options, Report};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Processes at a time; as many as there are cores by default.
    #[arg(short)]
    j: Option<usize>,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Seconds of real time that one seed may take.
    #[arg(long, default_value_t = 300)]
    watchdog_s: u32,
    #[command(flatten)]
    options: Options,
}

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

/// Arguments of `zoo`.
#[derive(Debug, clap::Args)]
pub struct ZooArgs {
    /// Seeds to spend on one hunt.
    #[arg(long, default_value_t = 100)]
    budget: u64,
    /// Hunts for each bug, over disjoint seeds.
    #[arg(long, default_value_t = 1)]
    trials: u64,
    /// The first seed of the first hunt.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Only bugs whose id contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Processes at a time.
    #[arg(short)]
    j: Option<usize>,
    #[command(flatten)]
    options: Options,
}

/// How a child is started, beside the options of the run.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// More arguments.
    pub args: Vec<String>,
    /// Where it stands; here if nothing is said.
    pub directory: Option<PathBuf>,
    /// Environment variables on top of (or, with `bare`, instead of) ours.
    pub env: Vec<(String, String)>,
    /// Nothing of our environment is passed on.
    pub bare: bool,
    /// Addresses are not randomized.
    pub fixed_addresses: bool,
    /// What it says on standard error is shown.
    pub loud: bool,
}

/// Runs one seed in a process of its own. A child that dies without a word gives a report that says how.
pub fn child(seed: u64, options: &Options, surroundings: &Surroundings) -> Report {
    let mut command = if options.arm { program::aarch64() } else { program::own() };
    command.arg("one").arg(seed.to_string()).args(options.args()).args(&surroundings.args);
    if surroundings.bare {
        command.env_clear();
    }
    if options.arm {
        // It names a tier of this machine.
        command.env_remove(crate::TIER_VARIABLE);
    }
    command.envs(surroundings.env.iter().cloned());
    if let Some(directory) = &surroundings.directory {
        command.current_dir(directory);
    }
    if surroundings.fixed_addresses {
        use std::os::unix::process::CommandExt;
        // SAFETY: personality is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| {
                libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
                Ok(())
            });
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(if surroundings.loud { Stdio::inherit() } else { Stdio::piped() });
    let output = command.output().expect("this program can start itself");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    if let Some(report) = line.and_then(|line| serde_json::from_str::<Report>(line).ok()) {
        return report;
    }
    use std::os::unix::process::ExitStatusExt;
    let how = match output.status.signal() {
        Some(libc::SIGALRM) => "the watchdog ended it: a livelock, or far too slow".to_owned(),
        Some(signal) => format!("it died of signal {signal}"),
        None => format!("it ended with {}", output.status),
    };
    let last = String::from_utf8_lossy(&output.stderr);
    let last = last.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
    let failure = Failure { oracle: "process".to_owned(), what: format!("{how}; {last}"), at_ns: 0, node: 0 };
    Report {
        seed,
        failure: Some(failure),
        digest: String::new(),
        records: 0,
        sim_s: 0.0,
        cpu_s: 0.0,
        stats: Default::default(),
        checkpoints: Vec::new(),
    }
}

/// As many as there are cores, unless said otherwise.
pub fn workers(j: Option<usize>) -> usize {
    j.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// Calls `work` with each of `count` numbers on a pool of threads, until it answers false.
pub fn pool(count: u64, workers: usize, work: impl Fn(u64) -> bool + Sync) {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if !work(number) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// A bar that shows speed as its message.
pub fn bar(count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {pos}/{len} {msg}")
        .expect("the template is right");
    ProgressBar::new(count).with_style(style.progress_chars("=> "))
}

#[derive(Default)]
struct Sum {
    runs: u64,
    sim_s: f64,
    cpu_s: f64,
    ratios: Vec<f64>,
    failures: Vec<Report>,
}

/// Runs many seeds.
pub fn run(args: RunArgs) -> ExitCode {
    if args.options.arm {
        program::aarch64();
    }
    let began = Instant::now();
    let bar = bar(args.seeds);
    bar.enable_steady_tick(Duration::from_millis(250));
    let sum = Mutex::new(Sum::default());
    let surroundings =
        Surroundings { args: vec!["--watchdog-s".to_owned(), args.watchdog_s.to_string()], ..Surroundings::default() };
    pool(args.seeds, workers(args.j), |number| {
        let report = child(args.start + number, &args.options, &surroundings);
        let failed = report.failure.is_some();
        let mut sum = sum.lock().expect("no worker panics while holding it");
        sum.runs += 1;
        sum.sim_s += report.sim_s;
        sum.cpu_s += report.cpu_s;
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
        "{} seeds, {} failed; {:.0} seeds/min; simulated to CPU time: median {:.0}:1, p10 {:.0}:1",
        sum.runs,
        sum.failures.len(),
        sum.runs as f64 / minutes,
        at(50),
        at(10),
    );
    ExitCode::from(u8::from(!sum.failures.is_empty()))
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

/// The ids of all planted bugs, as the sources name them.
fn planted() -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                // The macro's own room only explains it.
                let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                for line in lines {
                    for part in line.split("mutant!(\"").skip(1) {
                        if let Some((id, _)) = part.split_once('"') {
                            ids.insert(id.to_owned());
                        }
                    }
                }
            }
        }
    }
    ids
}

/// Plants each bug in turn and shows how soon the oracles find it.
pub fn zoo(args: ZooArgs) -> ExitCode {
    let ids: Vec<String> = planted().into_iter().filter(|id| id.contains(&args.filter)).collect();
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["planted bug", "found", "oracle", "median seeds", "p90 seeds", "first failing seed"]);
    let mut missed = 0;
    for id in &ids {
        let mut needed = Vec::new();
        let (mut oracles, mut first) = (BTreeSet::new(), None);
        for trial in 0..args.trials {
            let start = args.start + trial * args.budget;
            let options = Options { mutant: Some(id.clone()), ..args.options.clone() };
            let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
            pool(args.budget, workers(args.j), |number| {
                let report = child(start + number, &options, &Surroundings::default());
                let Some(failure) = report.failure else { return true };
                let mut found = found.lock().expect("no worker panics while holding it");
                // Workers run ahead of each other: the lowest seed counts.
                if found.as_ref().is_none_or(|(seed, _)| *seed > report.seed) {
                    *found = Some((report.seed, failure.oracle));
                }
                false
            });
            if let Some((seed, oracle)) = found.into_inner().expect("no worker panicked") {
                needed.push(seed - start + 1);
                oracles.insert(oracle);
                first.get_or_insert(seed);
            }
        }
        needed.sort_unstable();
        let at = |part: usize| needed.get(needed.len() * part / 100).map_or("-".to_owned(), u64::to_string);
        missed += usize::from(needed.is_empty());
        table.add_row([
            Cell::new(id),
            Cell::new(format!("{}/{}", needed.len(), args.trials)),
            Cell::new(oracles.into_iter().collect::<Vec<_>>().join(" ")),
            Cell::new(at(50)).set_alignment(CellAlignment::Right),
            Cell::new(at(90)).set_alignment(CellAlignment::Right),
            Cell::new(first.map_or("-".to_owned(), |seed| seed.to_string())).set_alignment(CellAlignment::Right),
        ]);
        eprintln!("{id}: {}", first.map_or("not found".to_owned(), |seed| format!("found by seed {seed}")));
    }
    println!("{table}");
    println!("{} planted bugs, {missed} not found within {} seeds", ids.len(), args.budget);
    ExitCode::from(u8::from(missed > 0))
}
