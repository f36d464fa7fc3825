//! Detects files that import each other in a cycle.

use std::collections::BTreeMap;

use super::code::{Tokens, expand, words};
use super::law::CIRCLES;
use super::report::report;
use super::source::{Source, sources};

/// Returns the module of a file, given by its path below the crate's root: `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module(path: &str, root: &str) -> Vec<String> {
    let inner = path.trim_start_matches(root).trim_start_matches('/').trim_end_matches(".rs");
    let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Returns the modules that a file names, as paths from the crate's root.
fn named_modules(source: &Source, own: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // A path may begin with a child: `mod b; use b::B;`.
    for (_, rest) in words(&source.code, "use") {
        let mut leaves = Vec::new();
        expand(&mut Tokens { rest }, String::new(), &mut leaves);
        let outer = ["crate", "self", "super"];
        let inner = leaves.into_iter().filter(|leaf| !outer.contains(&leaf.split("::").next().unwrap_or_default()));
        found.extend(inner.map(|leaf| own.iter().cloned().chain(leaf.split("::").map(str::to_owned)).collect()));
    }
    for root in ["crate::", "self::", "super::"] {
        for (at, _) in source.code.match_indices(root) {
            let before = source.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut rest = &source.code[at..];
            let mut base = own.to_vec();
            if let Some(after) = rest.strip_prefix("crate::") {
                (base, rest) = (Vec::new(), after);
            } else if let Some(after) = rest.strip_prefix("self::") {
                rest = after;
            }
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            let mut leaves = Vec::new();
            expand(&mut Tokens { rest }, String::new(), &mut leaves);
            for leaf in leaves {
                found.push(base.iter().cloned().chain(leaf.split("::").map(str::to_owned)).collect());
            }
        }
    }
    found
}

/// Returns the files of one crate that import each other in a cycle. A parent that its children import is allowed: a
/// facade with its forms, or a type with its phases.
fn circles(all: &[Source], root: &str) -> Vec<Vec<String>> {
    let modules: BTreeMap<Vec<String>, &Source> =
        all.iter().filter(|source| !source.is_bin()).map(|source| (module(&source.path, root), source)).collect();
    let mut edges: BTreeMap<&Vec<String>, Vec<&Vec<String>>> = BTreeMap::new();
    for (own, source) in &modules {
        for mut named in named_modules(source, own) {
            while !named.is_empty() && !modules.contains_key(&named) {
                named.pop();
            }
            if let Some((target, _)) = modules.get_key_value(&named)
                && !own.starts_with(target)
            {
                edges.entry(own).or_default().push(target);
            }
        }
    }
    let reaches = |from: &Vec<String>, to: &Vec<String>| {
        let (mut seen, mut next) = (BTreeMap::new(), vec![from]);
        while let Some(at) = next.pop() {
            for target in edges.get(at).into_iter().flatten() {
                if *target == to {
                    return true;
                }
                if seen.insert(*target, ()).is_none() {
                    next.push(target);
                }
            }
        }
        false
    };
    let circular: Vec<&Vec<String>> = modules.keys().filter(|own| reaches(own, own)).collect();
    let mut found: Vec<Vec<String>> = Vec::new();
    for own in circular {
        let path = modules[own].path.clone();
        match found.iter_mut().find(|circle| {
            let other = module(&circle[0], root);
            reaches(own, &other) && reaches(&other, own)
        }) {
            Some(circle) => circle.push(path),
            None => found.push(vec![path]),
        }
    }
    found
}

#[test]
fn files_import_each_other_in_no_circle() {
    let plant = |files: &[(&str, &str)]| {
        let all: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles(&all, "src")
    };
    let circle =
        plant(&[("src/a/b.rs", "use super::c::C;"), ("src/a/c.rs", "use crate::a::{d, b::B};"), ("src/a/d.rs", "")]);
    assert_eq!(circle, [["src/a/b.rs", "src/a/c.rs"]]);
    let long =
        plant(&[("src/a.rs", "use crate::b::f;"), ("src/b.rs", "use crate::c::f;"), ("src/c.rs", "use crate::a::f;")]);
    assert_eq!(long.len(), 1);
    let inner = plant(&[
        ("src/a/mod.rs", "mod b; use b::B;"),
        ("src/a/b.rs", "use crate::c::C;"),
        ("src/c.rs", "use crate::a::A;"),
    ]);
    assert_eq!(inner.len(), 1, "through a child that is named without `self`");
    let facade = plant(&[
        ("src/a/mod.rs", "mod b; use b::B; use self::c::C;"),
        ("src/a/b.rs", "use super::A;"),
        ("src/a/c.rs", ""),
    ]);
    assert!(facade.is_empty(), "{facade:?}");
    let mut findings = Vec::new();
    for root in ["src", "sim/src", "arch/src", "check/src", "models/src"] {
        for circle in circles(&sources(&[root]), root) {
            if !CIRCLES.iter().any(|(folder, _)| circle.iter().filter(|path| !path.starts_with(folder)).count() <= 1) {
                findings.push(circle.join(", "));
            }
        }
    }
    report("cycles of files", findings);
}
