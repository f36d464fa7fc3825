//! Findings, and the check of each rule against its plants before it reads the sources.

use std::fmt::Write as _;

use super::source::{Source, sources};

/// The findings of a rule, one line each.
pub type Findings = Vec<String>;

pub fn report(rule: &str, findings: Findings) {
    let mut text = String::new();
    for finding in &findings {
        writeln!(text, "  {finding}").expect("a string takes text");
    }
    assert!(findings.is_empty(), "{rule}: {} finding(s)\n{text}", findings.len());
}

/// Checks that the rule detects every plant and passes every decent file, and then that the sources pass.
pub fn hold(
    rule: fn(&Source) -> Findings,
    name: &str,
    plants: &[(&str, &str)],
    decent: &[(&str, &str)],
    dirs: &[&str],
) {
    for (path, text) in plants {
        assert!(!rule(&Source::new(path, text)).is_empty(), "{name} does not detect its plant in {path}:\n{text}");
    }
    for (path, text) in decent {
        report(&format!("{name}, on a decent file"), rule(&Source::new(path, text)));
    }
    report(name, sources(dirs).iter().flat_map(rule).collect());
}
