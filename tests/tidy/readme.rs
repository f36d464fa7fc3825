//! Checks that the documents name every dependency with its reason, and every command.

use super::code::words;
use super::report::{Findings, report};
use super::source::root;

/// The document with the table of dependencies.
const DEPENDENCIES: &str = "docs/dependencies.md";
/// The documents that name the commands. Each command must be in at least one of them.
const COMMANDS: [&str; 2] = ["README.md", "docs/commands.md"];

/// Returns the names below the headings `[…dependencies]` of a Cargo.toml.
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

/// Checks that a table of `document` has a row for every dependency.
fn dependencies_named(cargo: &str, document: &str) -> Findings {
    dependencies(cargo)
        .into_iter()
        .filter(|name| !name.starts_with("armilla"))
        .filter(|name| !document.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{name}`"))))
        .map(|name| format!("{DEPENDENCIES}: no row of a table names the dependency `{name}` and its reason"))
        .collect()
}

/// Checks that `documents` name every alias.
fn aliases_named(config: &str, documents: &str) -> Findings {
    let mut inside = false;
    let mut findings = Vec::new();
    for line in config.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[alias]";
        } else if inside && let Some((name, _)) = line.split_once('=') {
            let name = name.trim();
            let word = format!("cargo {name}");
            let named = words(documents, &word).iter().any(|(_, rest)| !rest.starts_with('-'));
            if !line.starts_with('#') && !named {
                findings.push(format!("{}: none of them names `{word}`", COMMANDS.join(", ")));
            }
        }
    }
    findings
}

#[test]
fn the_documents_name_every_dependency_and_command() {
    let cargo = "[workspace.dependencies]\nhttp = \"1\"\n[dependencies]\nbytes.workspace = true\n[dev-dependencies]\ntempfile = \"3\"\n";
    assert_eq!(dependencies(cargo), ["bytes", "tempfile"]);
    assert_eq!(
        dependencies_named(cargo, "| `bytes` | slices |\n`tempfile`").len(),
        1,
        "a name outside a table is not a row"
    );
    let config = "[alias]\n# cargo old = 1\nsim = []\nsim-check = []\n[build]\njobs = 2\n";
    assert_eq!(aliases_named(config, "`cargo sim-check`").len(), 1, "`sim` is not `sim-check`");
    assert!(aliases_named(config, "`cargo sim run`, `cargo sim-check`").is_empty());

    let read =
        |name: &str| std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    report("dependencies", dependencies_named(&read("Cargo.toml"), &read(DEPENDENCIES)));
    let documents = COMMANDS.map(read).join("\n");
    report("aliases", aliases_named(&read(".cargo/config.toml"), &documents));
}
