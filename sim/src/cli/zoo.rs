//! `sim zoo`: plants each bug in turn and counts the seeds until an oracle finds it.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;

use comfy_table::{Cell, CellAlignment, Table};

use super::processes::{Surroundings, child, pool, workers};
use super::sources::names;
use crate::scenario::report::Options;

/// Arguments of `zoo`.
#[derive(Debug, clap::Args)]
pub struct ZooArgs {
    /// Maximum number of seeds for one hunt.
    #[arg(long, default_value_t = 100)]
    budget: u64,
    /// Number of hunts for each bug, over disjoint seeds.
    #[arg(long, default_value_t = 1)]
    trials: u64,
    /// The first seed of the first hunt.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Hunt only bugs whose id contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Number of processes at a time.
    #[arg(short)]
    j: Option<usize>,
    #[command(flatten)]
    options: Options,
}

/// Plants each bug in turn and shows how soon the oracles find it.
pub fn zoo(args: ZooArgs) -> ExitCode {
    let ids: Vec<String> = names("mutant").into_iter().filter(|id| id.contains(&args.filter)).collect();
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
                // Workers run ahead of each other; the lowest seed is reported.
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
