//! `cargo models`: lists the models, searches one, or checks them all.

#![allow(clippy::disallowed_methods, reason = "a search is timed on the machine's clock")]

use std::process::ExitCode;
use std::time::Instant;

use armilla_models::PROTOCOLS;
use armilla_models::protocol::{Bound, Bounds, Protocol};
use armilla_models::search::{Outcome, Verdict};

const USAGE: &str = "\
usage: cargo models list [MODEL]
       cargo models run MODEL [--large] [--BOUND N]... [--flaw NAME] [--states-max N]
       cargo models check [MODEL]
  list    shows the models, or the bounds and flaws of one
  run     searches one model; with --flaw, with that rule left out
  check   searches one model or all within their quick bounds, and their flaws; prints docs/models.md's tables";

/// States that `run` visits at most unless it is told otherwise: 3 GB, more or less.
const STATES_MAX: usize = 60_000_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => {
            PROTOCOLS.iter().for_each(|protocol| println!("{:<12} {}", protocol.name, protocol.about));
            Ok(true)
        }
        ["list", name] => find(name).map(list),
        ["run", name, options @ ..] => find(name).and_then(|protocol| run(protocol, options)),
        ["check"] => Ok(check(PROTOCOLS)),
        ["check", name] => find(name).map(|protocol| check(&[protocol])),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

fn find(name: &str) -> Result<&'static Protocol, String> {
    let known = || PROTOCOLS.iter().map(|protocol| protocol.name).collect::<Vec<_>>().join(", ");
    let found = PROTOCOLS.iter().find(|protocol| protocol.name == name);
    found.copied().ok_or_else(|| format!("no model `{name}`: there are {}", known()))
}

fn list(protocol: &Protocol) -> bool {
    println!("{}: {}", protocol.name, protocol.about);
    println!("bounds (quick, --large, lowest, highest):");
    for bound in protocol.bounds {
        let Bound { name, about, quick, large, min, max } = bound;
        println!("  --{name:<10} {quick:>3} {large:>3} {min:>3} {max:>3}  {about}");
    }
    println!("flaws:");
    protocol.flaws.iter().for_each(|flaw| println!("  {:<28} {}", flaw.name, flaw.about));
    true
}

fn run(protocol: &'static Protocol, options: &[&str]) -> Result<bool, String> {
    let mut options = options.iter();
    let mut bounds = Bounds::quick(protocol);
    let mut changes = Vec::new();
    let (mut flaw, mut states_max) = (None, STATES_MAX);
    while let Some(option) = options.next() {
        if *option == "--large" {
            bounds = Bounds::large(protocol);
            continue;
        }
        let value = *options.next().ok_or_else(|| format!("`{option}` lacks its value\n{USAGE}"))?;
        match *option {
            "--flaw" => {
                let known = protocol.flaws.iter().find(|flaw| flaw.name == value);
                flaw = Some(known.ok_or_else(|| {
                    format!("{} has no flaw `{value}`: see `cargo models list {}`", protocol.name, protocol.name)
                })?);
            }
            "--states-max" => states_max = value.parse().map_err(|_| format!("`{value}` is no number of states"))?,
            _ => changes.push((option.trim_start_matches("--"), value)),
        }
    }
    if let Some(flaw) = flaw {
        bounds = Bounds::quick_with(protocol, flaw.with);
    }
    for (name, value) in changes {
        let bound = protocol.bounds.iter().find(|bound| bound.name == name);
        let bound = bound.ok_or_else(|| format!("{} has no bound `{name}`\n{USAGE}", protocol.name))?;
        let value = value.parse().ok().filter(|value| (bound.min..=bound.max).contains(value));
        bounds.set(name, value.ok_or_else(|| format!("`{name}` is a number from {} to {}", bound.min, bound.max))?);
    }
    println!("{}: {}", protocol.name, bounds.show());
    let began = Instant::now();
    let outcome = (protocol.search)(&bounds, flaw.map(|flaw| flaw.name), states_max);
    let holds = report(&outcome);
    println!(
        "{} states, {} steps, depth {}, {:.1} s",
        outcome.states,
        outcome.steps,
        outcome.depth,
        began.elapsed().as_secs_f64()
    );
    Ok(holds)
}

fn report(outcome: &Outcome) -> bool {
    match &outcome.verdict {
        Verdict::Holds => println!("holds: every state within the bounds was seen"),
        Verdict::Wrong(found) => println!("WRONG after {} steps\n{found}", found.steps.len()),
        Verdict::Stuck(found) => println!("STUCK after {} steps\n{found}", found.steps.len()),
        Verdict::TooMany => println!("given up: more states than --states-max allows"),
    }
    outcome.verdict == Verdict::Holds
}

fn check(protocols: &[&Protocol]) -> bool {
    let mut sound = true;
    println!("| model | bounds | states | depth | seconds |\n|---|---|---|---|---|");
    for protocol in protocols {
        for case in protocol.cases {
            let bounds = Bounds::quick_with(protocol, case);
            let began = Instant::now();
            let outcome = (protocol.search)(&bounds, None, STATES_MAX);
            let seconds = began.elapsed().as_secs_f64();
            let (name, states, depth) = (protocol.name, outcome.states, outcome.depth);
            println!("| `{name}` | {} | {states} | {depth} | {seconds:.1} |", bounds.show());
            if outcome.verdict != Verdict::Holds {
                sound = report(&outcome);
            }
        }
    }
    println!("\n| model | flaw | without the rule | counterexample |\n|---|---|---|---|");
    for protocol in protocols {
        for flaw in protocol.flaws {
            let outcome = (protocol.search)(&Bounds::quick_with(protocol, flaw.with), Some(flaw.name), STATES_MAX);
            let (Verdict::Wrong(found) | Verdict::Stuck(found)) = &outcome.verdict else {
                println!("| `{}` | `{}` | {} | none |", protocol.name, flaw.name, flaw.about);
                sound = false;
                continue;
            };
            let (steps, what) = (found.steps.len(), &found.what);
            println!("| `{}` | `{}` | {} | {steps} steps: {what} |", protocol.name, flaw.name, flaw.about);
            if let Err(text) = flaw.judge(&outcome) {
                eprintln!("{text}");
                sound = false;
            }
        }
    }
    sound
}
