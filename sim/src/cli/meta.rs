//! Checks that a seed is a complete bug report. Runs each seed twice, in two processes that differ in everything that
//! must not matter (environment, working directory, addresses, allocator, warm statics, trace on or off), and compares
//! the running digests. A difference is traced to the first record that differs. With `--arm` the second process also
//! runs on another instruction set. Digests can be written to a file and compared on another machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use armilla_arch::dispatch::TIER_VARIABLE;
use comfy_table::Table;

use super::executable;
use super::processes::{Surroundings, bar, child, pool, workers};
use crate::plan::Plan;
use crate::scenario::leak::Leak;
use crate::scenario::report::{Options, Report, Scenario};

/// Arguments of `meta`.
#[derive(Debug, clap::Args)]
pub struct MetaArgs {
    /// Number of seeds.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Number of pairs of processes at a time.
    #[arg(short)]
    j: Option<usize>,
    /// Plant each class of leaks instead, and check that it is detected.
    #[arg(long)]
    leaks: bool,
    /// With `--arm`: leave a seed out that has more records than this on this machine, because an emulated run takes
    /// twenty times as long.
    #[arg(long, requires = "arm")]
    records_max: Option<u64>,
    /// Also write each seed's digest to this file.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Also compare with the digests that another machine wrote.
    #[arg(long)]
    against: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Returns two surroundings that have nothing in common but the seed. With `arm` the second one is emulated and gets
/// the cheaper settings.
fn surroundings(scratch: &Path, seed: u64, arm: bool) -> [Surroundings; 2] {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let bare = Surroundings {
        args: vec!["--checkpoints".to_owned()],
        directory: Some(PathBuf::from("/")),
        env: vec![variable("MALLOC_ARENA_MAX", "1")],
        bare: true,
        fixed_addresses: true,
        loud: false,
        watchdog_s: None,
    };
    let trace = scratch.join(format!("warm-{seed}.trace"));
    let rich = Surroundings {
        args: vec!["--checkpoints".to_owned(), "--warm".to_owned(), "--trace".to_owned(), trace.display().to_string()],
        directory: Some(scratch.to_owned()),
        env: vec![
            variable("ARMILLA_PADDING", &"x".repeat(3000 + (seed as usize * 7919) % 4096)),
            variable("GLIBC_TUNABLES", "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0"),
            variable("TZ", "Asia/Kolkata"),
            variable("LANG", "tr_TR.UTF-8"),
            // No digest may depend on the kernels' tier, so every other pair changes it. An empty value selects the
            // best tier.
            variable(TIER_VARIABLE, if seed.is_multiple_of(2) { "scalar" } else { "" }),
        ],
        bare: false,
        fixed_addresses: false,
        loud: false,
        watchdog_s: None,
    };
    if arm { [rich, bare] } else { [bare, rich] }
}

/// Runs many seeds twice.
pub fn run(mut args: MetaArgs) -> ExitCode {
    // The two processes of a pair have different working directories.
    if let Some(plan) = &mut args.options.plan {
        match std::path::absolute(&plan) {
            Ok(path) => *plan = path,
            Err(error) => {
                eprintln!("error: {}: {error}", plan.display());
                return ExitCode::from(2);
            }
        }
    }
    let scratch = std::env::temp_dir().join(format!("armilla-meta-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("the temporary directory can be written");
    let code = if args.leaks { leaks(&args, &scratch) } else { compare(&args, &scratch) };
    let _ = std::fs::remove_dir_all(&scratch);
    code
}

fn twice(seed: u64, options: &Options, scratch: &Path) -> [Report; 2] {
    let (first, second) = twice_unless_large(seed, options, u64::MAX, scratch);
    [first, second.expect("no run is too large")]
}

/// Runs a seed twice. Returns the first report alone if it passed with more than `records_max` records.
fn twice_unless_large(seed: u64, options: &Options, records_max: u64, scratch: &Path) -> (Report, Option<Report>) {
    let [first, second] = surroundings(scratch, seed, options.arm);
    let here = Options { arm: false, ..options.clone() };
    let first = child(seed, &here, &first);
    let large = first.failure.is_none() && first.records > records_max;
    let second = (!large).then(|| child(seed, options, &second));
    let _ = std::fs::remove_file(scratch.join(format!("warm-{seed}.trace")));
    (first, second)
}

fn same(reports: &[Report; 2]) -> bool {
    let [a, b] = reports;
    a.records > 0 && !a.digest.is_empty() && a.digest == b.digest && a.records == b.records && a.failure == b.failure
}

#[derive(Default)]
struct Totals {
    records: u64,
    failed: u64,
    /// Number of seeds that were too large for the second run.
    left_out: u64,
}

fn compare(args: &MetaArgs, scratch: &Path) -> ExitCode {
    if args.options.arm {
        executable::aarch64();
    }
    let elsewhere = match args.against.as_deref().map(Digests::read).transpose() {
        Ok(elsewhere) => elsewhere,
        Err(what) => {
            eprintln!("error: {what}");
            return ExitCode::from(2);
        }
    };
    let digests = Mutex::new(Digests::default());
    let bar = bar(args.seeds);
    let differing = Mutex::new(Vec::new());
    let totals = Mutex::new(Totals::default());
    let records_max = args.records_max.unwrap_or(u64::MAX);
    // The processes of a pair run one after the other, so that two workers keep two cores busy.
    pool(args.seeds, workers(args.j), |number| {
        let (first, second) = twice_unless_large(args.start + number, &args.options, records_max, scratch);
        let mut totals = totals.lock().expect("no worker panics while holding it");
        bar.inc(1);
        let Some(second) = second else {
            totals.left_out += 1;
            return true;
        };
        let reports = [first, second];
        totals.records += reports[0].records;
        totals.failed += u64::from(reports[0].failure.is_some());
        if let Some(failure) = &reports[0].failure {
            bar.suspend(|| println!("FAIL seed {}: {} {}", reports[0].seed, failure.oracle, failure.what));
        }
        digests.lock().expect("no worker panics while holding it").0.insert(reports[0].seed, fingerprint(&reports[0]));
        if !same(&reports) {
            bar.suspend(|| {
                println!("MISMATCH seed {}: {} and {}", reports[0].seed, describe(&reports[0]), describe(&reports[1]))
            });
            differing.lock().expect("no worker panics while holding it").push(reports);
        }
        true
    });
    bar.finish_and_clear();
    let differing = differing.into_inner().expect("no worker panicked");
    let Totals { records, failed, left_out } = totals.into_inner().expect("no worker panicked");
    println!(
        "meta: {} seeds of `{}` run twice{}, {records} records compared, {} digest mismatches, {failed} seeds failed",
        args.seeds - left_out,
        args.options.scenario.name(),
        if args.options.arm { " (here and on aarch64)" } else { "" },
        differing.len(),
    );
    if left_out > 0 {
        println!("{left_out} seeds left out: more than {records_max} records");
    }
    if left_out == args.seeds {
        eprintln!("error: no seed was compared; a larger --records-max admits more");
        return ExitCode::from(2);
    }
    if let Some(reports) = differing.first() {
        explain(reports, &args.options, scratch);
    }
    let digests = digests.into_inner().expect("no worker panicked");
    if let Some(path) = &args.write
        && let Err(error) = std::fs::write(path, digests.text())
    {
        eprintln!("error: {}: {error}", path.display());
        return ExitCode::from(2);
    }
    let agree = elsewhere.is_none_or(|elsewhere| digests.compare(&elsewhere));
    // Without a planted bug no seed may fail, even if it fails in the same way twice.
    let planned =
        args.options.plan.as_deref().is_some_and(|plan| Plan::read(plan).is_ok_and(|plan| plan.bug.is_some()));
    let clean = failed == 0 || args.options.mutant.is_some() || planned;
    ExitCode::from(u8::from(!(agree && clean && differing.is_empty())))
}

/// Returns the digest, the number of records and the verdict of a run.
fn fingerprint(report: &Report) -> String {
    let verdict = report.failure.as_ref().map_or("pass", |failure| &failure.oracle);
    format!("{} {} {verdict}", if report.digest.is_empty() { "-" } else { &report.digest }, report.records)
}

/// The digests of many seeds. Their file has one line per seed, and a first line with the architecture that wrote it.
#[derive(Default)]
struct Digests(BTreeMap<u64, String>);

impl Digests {
    fn text(&self) -> String {
        let mut text = format!("# digests of seeds, written on {}\n", std::env::consts::ARCH);
        for (seed, fingerprint) in &self.0 {
            text.push_str(&format!("{seed} {fingerprint}\n"));
        }
        text
    }

    fn read(path: &Path) -> Result<Digests, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut digests = Digests::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let parts = line.split_once(' ').and_then(|(seed, rest)| Some((seed.parse().ok()?, rest.to_owned())));
            let (seed, rest) = parts.ok_or_else(|| {
                format!("{}:{}: not `SEED DIGEST RECORDS VERDICT`: {line}", path.display(), number + 1)
            })?;
            digests.0.insert(seed, rest);
        }
        Ok(digests)
    }

    /// Compares the digests. Returns whether the other machine has all of these seeds with the same digests.
    fn compare(&self, elsewhere: &Digests) -> bool {
        let both = self.0.iter().filter_map(|(seed, here)| Some((seed, here, elsewhere.0.get(seed)?)));
        let (mut compared, mut differing) = (0u64, 0u64);
        for (seed, here, there) in both {
            compared += 1;
            if here != there {
                differing += 1;
                println!("MISMATCH seed {seed}: {here} here, {there} there");
            }
        }
        println!(
            "meta: {compared} of {} seeds compared with another machine's, {differing} digest mismatches",
            self.0.len()
        );
        differing == 0 && compared == self.0.len() as u64
    }
}

fn describe(report: &Report) -> String {
    match &report.failure {
        Some(failure) if report.digest.is_empty() => format!("no digest ({})", failure.what),
        Some(failure) => {
            format!("{} after {} records ({} {})", report.digest, report.records, failure.oracle, failure.what)
        }
        None => format!("{} after {} records", report.digest, report.records),
    }
}

/// Prints the first record that differs: first roughly, by the checkpoints, then exactly, by two traces.
fn explain(reports: &[Report; 2], options: &Options, scratch: &Path) {
    let [a, b] = reports;
    let agreed = a.checkpoints.iter().zip(&b.checkpoints).take_while(|(a, b)| a == b).last().map_or(0, |(a, _)| a.0);
    println!("  the first {agreed} records agree");
    match first_difference(a.seed, options, scratch) {
        None => println!("  the two runs with traces agree (or wrote none): the leak does not show every time"),
        Some((before, left, right)) => {
            for line in before {
                println!("    {line}");
            }
            println!("  - {left}");
            println!("  + {right}");
        }
    }
}

/// Runs a seed twice with traces. Returns the last records that agree and the two that differ.
fn first_difference(seed: u64, options: &Options, scratch: &Path) -> Option<(Vec<String>, String, String)> {
    let mut paths = Vec::new();
    let both = [Options { arm: false, ..options.clone() }, options.clone()];
    for ((name, options), mut surroundings) in
        ["a", "b"].into_iter().zip(&both).zip(surroundings(scratch, seed, options.arm))
    {
        let path = scratch.join(format!("explain-{seed}-{name}.trace"));
        // A second `--trace` would be rejected.
        if let Some(at) = surroundings.args.iter().position(|arg| arg == "--trace") {
            surroundings.args.drain(at..at + 2);
        }
        surroundings.args.extend(["--trace".to_owned(), path.display().to_string()]);
        child(seed, options, &surroundings);
        paths.push(path);
    }
    let lines = |path: &Path| {
        let file = std::fs::File::open(path).ok();
        file.into_iter().flat_map(|file| BufReader::new(file).lines().map_while(Result::ok))
    };
    let (mut left, mut right) = (lines(&paths[0]), lines(&paths[1]));
    let mut before: Vec<String> = Vec::new();
    loop {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (a, b) if a == b => {
                before.extend(a);
                if before.len() > 3 {
                    before.remove(0);
                }
            }
            (a, b) => {
                let end = || "(the run ended)".to_owned();
                return Some((before, a.unwrap_or_else(end), b.unwrap_or_else(end)));
            }
        }
    }
}

/// Plants each class of leaks and prints whether it is detected.
fn leaks(args: &MetaArgs, scratch: &Path) -> ExitCode {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["leak", "seen", "how"]);
    let mut unseen = 0;
    for leak in Leak::ALL {
        let options = Options { scenario: Scenario::BareRaft, leak: Some(leak), ..args.options.clone() };
        let reports = twice(args.start, &options, scratch);
        let refused = reports.iter().all(|report| report.failure.is_some());
        let how = if refused {
            format!("refused: {}", reports[0].failure.as_ref().map_or("", |failure| &failure.what))
        } else {
            let difference = first_difference(args.start, &options, scratch);
            difference
                .map_or("digests differ".to_owned(), |(_, left, right)| format!("first difference:\n{left}\n{right}"))
        };
        let seen = refused || !same(&reports);
        unseen += usize::from(!seen);
        let how = if seen { how } else { "NOT SEEN: both runs have the same digest".to_owned() };
        table.add_row([leak.name(), if seen { "yes" } else { "NO" }, &how]);
    }
    // The control: without a leak no difference may be detected.
    let options = Options { scenario: Scenario::BareRaft, leak: None, ..args.options.clone() };
    let clean = same(&twice(args.start, &options, scratch));
    table.add_row(["(none)", if clean { "no" } else { "YES" }, "the control: equal digests"]);
    println!("{table}");
    ExitCode::from(u8::from(unseen > 0 || !clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_survive_a_file() {
        let path = std::env::temp_dir().join(format!("armilla-digests-{}", std::process::id()));
        let digests = Digests(BTreeMap::from([(3, "ab12 7 pass".to_owned()), (900_001, "- 0 process".to_owned())]));
        std::fs::write(&path, digests.text()).expect("the temporary directory can be written");
        let again = Digests::read(&path).expect("it was written so");
        assert_eq!(digests.0, again.0);
        std::fs::write(&path, "# x\n7\n").expect("the temporary directory can be written");
        let what = Digests::read(&path).err().expect("a line without a digest");
        assert!(what.contains(":2:"), "{what}");
        std::fs::remove_file(&path).expect("it is there");
    }
}
