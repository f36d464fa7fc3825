//! Starts the processes that run one seed each, several at a time.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use armilla_arch::dispatch::TIER_VARIABLE;
use indicatif::{ProgressBar, ProgressStyle};

use super::executable;
use crate::scenario::report::{Failure, Options, Report};

/// Maximum real time for one seed unless an argument says otherwise, in seconds.
pub const WATCHDOG_S: u32 = 300;
/// An emulated run is allowed this many times as long. Measured: 15 to 25 times.
const EMULATED: u32 = 25;

/// How a child is started, besides the options of the run.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Additional arguments.
    pub args: Vec<String>,
    /// Working directory; `None`: the parent's.
    pub directory: Option<PathBuf>,
    /// Environment variables in addition to the parent's (or, with `bare`, instead of them).
    pub env: Vec<(String, String)>,
    /// Does not pass on the parent's environment.
    pub bare: bool,
    /// Disables address space randomization.
    pub fixed_addresses: bool,
    /// Shows the child's standard error.
    pub loud: bool,
    /// Maximum real time, in seconds; `None`: [`WATCHDOG_S`], or as much more as an emulated run needs.
    pub watchdog_s: Option<u32>,
}

/// Runs one seed in a separate process. If the child dies without a report, returns one that says how it died.
pub fn child(seed: u64, options: &Options, surroundings: &Surroundings) -> Report {
    let mut command = if options.arm { executable::aarch64() } else { executable::own() };
    command.arg("one").arg(seed.to_string()).args(options.args()).args(&surroundings.args);
    let watchdog_s = surroundings.watchdog_s.unwrap_or(WATCHDOG_S * if options.arm { EMULATED } else { 1 });
    command.args(["--watchdog-s", &watchdog_s.to_string()]);
    if surroundings.bare {
        command.env_clear();
    }
    if options.arm {
        // The variable names a tier of this machine.
        command.env_remove(TIER_VARIABLE);
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
        reached: Vec::new(),
        checkpoints: Vec::new(),
    }
}

/// Returns the number of workers: `j`, or as many as there are cores.
pub fn workers(j: Option<usize>) -> usize {
    j.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// Calls `work` with each of `count` numbers on a pool of threads, until it returns false.
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

/// Returns a progress bar with a message.
pub fn bar(count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {pos}/{len} {msg}")
        .expect("the template is right");
    ProgressBar::new(count).with_style(style.progress_chars("=> "))
}
