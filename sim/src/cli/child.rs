//! Runs one seed in one process. Statics, thread locals and hash keys are new in each run, and a run that hangs or
//! crashes affects no other.

// The simulator's own process uses real files outside the simulation.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use armilla::rt::sim::World;

use super::processes::WATCHDOG_S;
use crate::scenario::report::{Failure, Options, Outcome, Report, Scenario};
use crate::scenario::{bare_raft, cluster, leak};

/// The arguments of a child, besides the options of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct ChildArgs {
    /// The seed.
    pub seed: u64,
    #[command(flatten)]
    pub options: Options,
    /// Write a line for every record.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Also print the digest's checkpoints.
    #[arg(long)]
    pub checkpoints: bool,
    /// Run another seed in this process first, as a process that runs many seeds would, so that statics are warm.
    #[arg(long)]
    pub warm: bool,
    /// Seconds of real time after which the process ends itself, because no simulated clock can detect a livelock.
    #[arg(long, default_value_t = WATCHDOG_S)]
    pub watchdog_s: u32,
}

/// The message and location of the last panic.
static PANIC: OnceLock<Mutex<Option<String>>> = OnceLock::new();

/// Runs one seed, prints its report as one line of JSON and ends the process.
pub fn run(args: ChildArgs) -> ! {
    // SAFETY: alarm has no requirements; the default action of its signal ends the process.
    unsafe { libc::alarm(args.watchdog_s) };
    if let Some(id) = &args.options.mutant {
        armilla::rt::mutant::plant(id);
    }
    leak::prepare(args.options.leak);
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        let text = format!("{}{place}", info.payload_as_str().unwrap_or("a panic without a message"));
        eprintln!("panic: {text}");
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
        let last = PANIC.get_or_init(|| Mutex::new(None));
        last.lock().expect("nothing panics while holding it").get_or_insert(text);
    }));
    if args.warm {
        let options = Options { scenario: Scenario::BareRaft, plan: None, ..args.options.clone() };
        let warm = ChildArgs { options, trace: None, seed: args.seed ^ 0xffff, ..args.clone() };
        let _ = fresh_thread(move || simulate(&warm, Some(3)));
    }
    let report = fresh_thread(move || simulate(&args, None));
    println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    // The tasks of the run are not dropped: their destructors would have no runtime.
    // SAFETY: ends the process at once; everything was printed.
    unsafe { libc::_exit(i32::from(report.failure.is_some())) }
}

/// Runs `work` on a new thread: a thread seeds its hash keys and random generators once, which madsim must do.
fn fresh_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new()
        .name("simulation".to_owned())
        .stack_size(64 << 20)
        .spawn(work)
        .expect("the operating system gives a thread")
        .join()
        .expect("panics are caught inside")
}

fn simulate(args: &ChildArgs, seconds: Option<u64>) -> Report {
    let seed = args.seed;
    let runtime = Box::leak(Box::new(madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default())));
    let seen: std::sync::Arc<Mutex<Option<World>>> = Default::default();
    let (options, trace, shared) = (args.options.clone(), args.trace.clone(), seen.clone());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async move {
            let world = World::new(seed);
            *shared.lock().expect("nothing panics while holding it") = Some(world.clone());
            if let Some(path) = trace {
                let file =
                    std::fs::File::create(&path).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
                world.probe().trace(Box::new(std::io::BufWriter::with_capacity(1 << 20, file)), 0, u64::MAX);
            }
            leak::plant(options.leak, &world);
            match options.scenario {
                Scenario::Cluster => cluster::run(seed, &options).await,
                Scenario::BareRaft => bare_raft::run(seed, seconds).await,
            }
        })
    }));
    let world = seen.lock().expect("nothing panics while holding it").clone();
    let world = world.expect("the world is made first");
    let outcome = result.unwrap_or_else(|_| {
        let text = PANIC.get().and_then(|last| last.lock().ok()?.take()).unwrap_or_default();
        let failure = Failure { oracle: "panic".to_owned(), what: text, at_ns: world.now_ns(), node: 0 };
        Outcome { failure: Some(failure), ..Outcome::default() }
    });
    world.probe().flush();
    let checkpoints = if args.checkpoints { world.probe().checkpoints() } else { Vec::new() };
    Report {
        seed,
        failure: outcome.failure,
        digest: world.probe().digest(),
        records: world.probe().ordinal(),
        sim_s: world.now_ns() as f64 / 1e9,
        cpu_s: cpu_seconds(),
        stats: outcome.stats,
        reached: armilla::rt::reach::reached().into_iter().map(str::to_owned).collect(),
        checkpoints: checkpoints.iter().map(|point| (point.ordinal, format!("{:016x}", point.digest))).collect(),
    }
}

/// Returns the CPU time that this process has used, in seconds.
pub(super) fn cpu_seconds() -> f64 {
    // SAFETY: rusage is plain data, for which zeroes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
