//! What the README must name: every dependency with its reason, every command.

use super::code::words;
use super::report::{Findings, report};
use super::source::root;

/// Names below the headings `[…dependencies]` of a Cargo.toml.
fn dependencies(cargo: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in cargo.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("workspace");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.push(name.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The README's table has a row for every dependency.
fn dependencies_named(cargo: &str, readme: &str) -> Findings {
    dependencies(cargo)
        .into_iter()
        .filter(|name| !name.starts_with("armilla"))
        .filter(|name| !readme.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{name}`"))))
        .map(|name| format!("README.md: no row of a table names the dependency `{name}` and its reason"))
        .collect()
}

/// The README's table has every alias.
fn aliases_named(config: &str, readme: &str) -> Findings {
    let mut inside = false;
    let mut findings = Vec::new();
    for line in config.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[alias]";
        } else if inside && let Some((name, _)) = line.split_once('=') {
            let name = name.trim();
            let word = format!("cargo {name}");
            let named = words(readme, &word).iter().any(|(_, rest)| !rest.starts_with('-'));
            if !line.starts_with('#') && !named {
                findings.push(format!("README.md: does not name `{word}`"));
            }
        }
    }
    findings
}

#[test]
fn the_readme_names_every_dependency_and_command() {
    let cargo = "[workspace.dependencies]\nhttp = \"1\"\n[dependencies]\nbytes.workspace = true\n[dev-dependencies]\ntempfile = \"3\"\n";
    assert_eq!(dependencies(cargo), ["bytes", "tempfile"]);
    assert_eq!(
        dependencies_named(cargo, "| `bytes` | slices |\n`tempfile`").len(),
        1,
        "a name outside a table is no row"
    );
    let config = "[alias]\n# cargo old = 1\nsim = []\nsim-check = []\n[build]\njobs = 2\n";
    assert_eq!(aliases_named(config, "`cargo sim-check`").len(), 1, "`sim` is not `sim-check`");
    assert!(aliases_named(config, "`cargo sim run`, `cargo sim-check`").is_empty());

    let read =
        |name: &str| std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    report("dependencies", dependencies_named(&read("Cargo.toml"), &read("README.md")));
    report("aliases", aliases_named(&read(".cargo/config.toml"), &read("README.md")));
}
