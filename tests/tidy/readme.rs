//! Checks that the documents name every dependency with its reason, every command, every call that is served, every
//! step of CI and the version of the cluster's protocol, and that their links lead somewhere.

use super::code::words;
use super::report::{Findings, report};
use super::source::root;

/// The document with the table of dependencies.
const DEPENDENCIES: &str = "docs/dependencies.md";
/// The documents that name the commands. Each command must be in at least one of them.
const COMMANDS: [&str; 2] = ["README.md", "docs/commands.md"];

/// The document with the calls that are served.
const PROTOCOL: &str = "docs/protocol.md";
/// The document that says which versions of the cluster's protocol there are.
const OPERATING: &str = "docs/operating.md";
/// The document with the steps of CI.
const CONTRIBUTING: &str = "CONTRIBUTING.md";

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

/// Returns the names of the calls in the table of `src/service/calls.rs`: `Name: function(Request) -> Reply`.
fn calls(source: &str) -> Vec<&str> {
    let table = source.split("macro_rules! tikv_calls").nth(1).and_then(|rest| rest.split("use tikv_calls").next());
    let rows = table.unwrap_or_default().lines().filter(|line| line.contains(") -> "));
    rows.filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name)).collect()
}

/// Checks that `document` names every call of the table.
fn calls_named(source: &str, document: &str) -> Findings {
    let missing = calls(source).into_iter().filter(|name| words(document, name).is_empty());
    missing.map(|name| format!("{PROTOCOL}: the call {name} is served, but not named")).collect()
}

/// Checks that `document` says which versions of the cluster's protocol this build knows.
fn version_named(source: &str, document: &str) -> Findings {
    let number = source.split("pub const PROTOCOL: u32 = ").nth(1).and_then(|rest| rest.split(';').next());
    let text = format!("knows versions 1 to {} ", number.unwrap_or("(unknown)"));
    if document.contains(&text) { Vec::new() } else { vec![format!("{OPERATING}: it does not say {text:?}")] }
}

/// Checks that `document` has every step of `.ci/test` in a table.
fn steps_named(script: &str, document: &str) -> Findings {
    let all = script.lines().find_map(|line| line.strip_prefix("all=(")).unwrap_or_default();
    let is_named =
        |step: &str| document.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{step}`")));
    let missing = all.trim_end_matches(')').split_whitespace().filter(|step| !is_named(step));
    missing.map(|step| format!("{CONTRIBUTING}: no row of a table names the step `{step}` of .ci/test")).collect()
}

/// Returns the relative links of a document, without the headings in them.
fn links(document: &str) -> Vec<&str> {
    let parts = document.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let links = parts.filter_map(|(link, _)| link.split('#').next());
    links.filter(|link| !link.is_empty() && !link.contains("://") && !link.contains(' ')).collect()
}

#[test]
fn links_lead_to_files() {
    assert_eq!(links("[a](b.md#c), [d](https://e) and [f](#g)"), ["b.md"]);
    let mut findings = Findings::new();
    for folder in ["", "docs", "src/docs"] {
        let folder = root().join(folder);
        for file in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = file.expect("a readable folder").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).expect("a readable document");
                let broken = links(&text).into_iter().filter(|link| !folder.join(link).exists());
                findings.extend(broken.map(|link| format!("{}: no file {link}", path.display())));
            }
        }
    }
    report("links", findings);
}

#[test]
fn the_documents_name_what_is_served_and_tested() {
    let table = "macro_rules! tikv_calls {\n    RawGet: raw_get(RawGetRequest) -> RawGetResponse,\n}\nuse tikv_calls;\nfn f(A: B) -> C {}\n";
    assert_eq!(calls(table), ["RawGet"]);
    assert_eq!(calls_named(table, "RawGetKeyTTL").len(), 1, "a part of another name");
    assert_eq!(version_named("pub const PROTOCOL: u32 = 3;", "This build knows versions 1 to 2 (see …)").len(), 1);
    assert_eq!(
        steps_named("all=(fmt tidy)\n", "| `fmt` | format |\n`tidy`").len(),
        1,
        "a name outside a table is no row"
    );

    let read =
        |name: &str| std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    report("calls", calls_named(&read("src/service/calls.rs"), &read(PROTOCOL)));
    report("version", version_named(&read("src/types/version.rs"), &read(OPERATING)));
    report("steps", steps_named(&read(".ci/test"), &read(CONTRIBUTING)));
}

#[test]
fn the_documents_name_every_every_dependency_and_command() {
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
