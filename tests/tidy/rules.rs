//! Rules about one file: each is a function from the file to findings.

use std::collections::BTreeMap;

use super::code::{paths, words};
use super::law::{ALLOWED, FORBIDDEN, IMPORTS, IO_FILES, LINES_LISTED, LINES_MAX, LONG, OTHER_MAXIMA, PURE, RT_WORDS};
use super::report::{Findings, hold};
use super::source::{Source, sources};

/// Checks that a module imports only what the table allows.
pub fn imports(source: &Source) -> Findings {
    let Some(room) = source.room().filter(|_| !source.is_bin()) else { return Vec::new() };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: module `{room}` is not in the import table of tests/tidy/law.rs", source.path)];
    };
    let mut named = paths(&source.code, "crate::");
    for (crate_name, room) in [("armilla_proto", "proto"), ("armilla_arch", "arch")] {
        named.extend(words(&source.code, crate_name).into_iter().map(|(line, _)| (line, room.to_owned())));
    }
    let mut findings = Vec::new();
    for (line, path) in named {
        let target = match path.split("::").next().unwrap_or_default() {
            "rt_select" => "rt",
            "mutant" | "buggify" | "reach" => continue,
            other => other,
        };
        let plain_word = RT_WORDS.iter().any(|word| path == *word || path.starts_with(&format!("{word}::")));
        if target != room && !allowed.contains(&target) && !plain_word {
            findings.push(format!("{}:{line}: module `{room}` must not import `{path}`", source.path));
        }
    }
    findings
}

/// Checks that a pure file has no effect.
pub fn purity(source: &Source) -> Findings {
    if !PURE.iter().any(|room| source.path.starts_with(room)) || IO_FILES.iter().any(|io| source.path.starts_with(io)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for word in
        ["async", ".await", "tokio::", "tokio_stream::", "std::fs", "std::net", "std::thread", "std::time::Instant"]
    {
        for (line, _) in words(&source.code, word) {
            findings.push(format!("{}:{line}: a pure module must not name `{word}`", source.path));
        }
    }
    for (line, path) in paths(&source.code, "crate::") {
        let effect = path.starts_with("rt::") && !RT_WORDS.iter().any(|word| path.starts_with(word));
        if effect || path == "rt" {
            findings.push(format!("{}:{line}: a pure module must not name `{path}`", source.path));
        }
    }
    findings
}

/// Checks that the simulation cfg and the simulator's runtime stay in `rt`, `engine` and `sim`.
pub fn simulation_cfg(source: &Source) -> Findings {
    if ["src/rt/", "src/engine/", "sim/"].iter().any(|home| source.path.starts_with(home)) {
        return Vec::new();
    }
    words(&source.code, "madsim")
        .into_iter()
        .map(|(line, _)| format!("{}:{line}: `madsim` is named only in src/rt, src/engine and sim", source.path))
        .collect()
}

/// Checks that memory orders and hand-made `Send` and `Sync` are only where a model checks them. Atomics elsewhere are
/// plain statistics.
pub fn orders(source: &Source) -> Findings {
    if source.path.starts_with("arch/src/sync/") || source.is_bin() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for word in ["Ordering::Acquire", "Ordering::Release", "Ordering::AcqRel", "Ordering::SeqCst", "unsafe impl"] {
        for (line, _) in words(&source.code, word) {
            findings.push(format!(
                "{}:{line}: `{word}` only in arch/src/sync, where `cargo loom` checks it: use a type from there, a lock or a channel",
                source.path
            ));
        }
    }
    findings
}

/// Checks that limits are in one place.
pub fn limits(source: &Source) -> Findings {
    if source.room().is_none() || source.path == "src/types/limits.rs" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, line) in source.code.lines().enumerate() {
        let mut parts = line.split_whitespace().skip_while(|word| *word != "const").skip(1);
        let Some(name) = parts.next().and_then(|name| name.strip_suffix(':')).filter(|name| name.ends_with("_MAX"))
        else {
            continue;
        };
        if !OTHER_MAXIMA.iter().any(|(file, other, _)| *file == source.path && *other == name) {
            findings.push(format!(
                "{}:{}: `{name}` is not in src/types/limits.rs, where limits are",
                source.path,
                at + 1
            ));
        }
    }
    findings
}

/// Finds names that would escape the simulator.
pub fn forbidden(source: &Source) -> Findings {
    let outside = source.room().is_none() || source.is_bin() || source.path.starts_with("src/rt/");
    if outside {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (word, instead) in FORBIDDEN {
        if ALLOWED.iter().any(|(file, allowed, _)| *file == source.path && allowed == word) {
            continue;
        }
        for (line, _) in words(&source.code, word) {
            findings.push(format!("{}:{line}: `{word}` escapes the simulator: use {instead}", source.path));
        }
    }
    findings
}

/// Counts the lines that are neither blank, comment nor test.
pub fn code_lines(source: &Source) -> usize {
    source.code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// Limits the length of files.
pub fn size(source: &Source) -> Findings {
    let lines = code_lines(source);
    if lines <= LINES_MAX || LONG.iter().any(|(file, _)| *file == source.path) {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines of code, at most {LINES_MAX}: split it", source.path)]
}

/// Returns the `//!` lines at the head of a file.
fn head(text: &str) -> String {
    text.lines().take_while(|line| line.starts_with("//!")).map(|line| &line[3..]).collect::<Vec<_>>().join("\n")
}

/// Checks that every file says what it is, and that every module's `mod.rs` opens with an essay.
pub fn essay(source: &Source) -> Findings {
    let head = head(&source.text);
    if head.trim().is_empty() {
        return vec![format!("{}: has no documentation (`//!`) at its head", source.path)];
    }
    let is_room = source.room().is_some_and(|room| source.path == format!("src/{room}/mod.rs"));
    if !is_room || source.path == "src/docs/mod.rs" {
        return Vec::new();
    }
    let lower = head.to_lowercase();
    let mut missing = Vec::new();
    if !head.trim_start().starts_with("# ") {
        missing.push("a title (`//! # `)");
    }
    for (word, what) in
        [("**in**", "what comes **In**"), ("**out**", "what goes **out**"), ("**never", "what must **Never** happen")]
    {
        if !lower.contains(word) {
            missing.push(what);
        }
    }
    if missing.is_empty() {
        Vec::new()
    } else {
        vec![format!("{}: its essay lacks {}", source.path, missing.join(", "))]
    }
}

#[test]
fn a_room_imports_only_what_the_table_allows() {
    hold(
        imports,
        "imports",
        &[
            ("src/raft/group.rs", "use crate::store::Kv;"),
            ("src/codec/raw.rs", "use crate::{types::Error, rt::{clock::Clock, rng::Rng}};"),
            ("src/types/mod.rs", "fn f() { crate::rt_select! {} }"),
            ("src/client/raw.rs", "fn f() { let x = crate::replica::Handle::new(); }"),
            ("src/codec/raw.rs", "use armilla_proto::metapb;"),
            ("src/attic/mod.rs", "//! A module that the table does not know."),
        ],
        &[
            ("src/raft/group.rs", "use crate::{engine::WriteBatch, types::{Error, Region}};\nuse crate::rt::rng::Rng;"),
            ("src/region/apply.rs", "// crate::store::Kv\nfn f() { let _ = \"crate::store\"; crate::mutant!(\"x\"); }"),
            ("src/raft/a.rs", "#[cfg(test)]\nmod tests { use crate::store::Kv; }"),
            ("src/store/mod.rs", "use crate::types::region::holds::<u8>();"),
        ],
        &["src"],
    );
}

#[test]
fn pure_rooms_are_pure() {
    hold(
        purity,
        "purity",
        &[
            ("src/raft/group.rs", "pub async fn f() {}"),
            ("src/region/mod.rs", "fn f() { g().await }"),
            ("src/codec/mod.rs", "use crate::rt::clock::Clock;"),
            ("src/raft/log.rs", "use crate::rt::{disk::File, rng::Rng};"),
            ("src/types/mod.rs", "fn f() { std::thread::yield_now() }"),
        ],
        &[
            (
                "src/raft/group.rs",
                "//! async\nuse crate::rt::clock::Instant;\nfn step(now: Instant, asynchronous: bool) {}",
            ),
            ("src/store/mod.rs", "pub async fn f() {}"),
        ],
        &["src"],
    );
}

#[test]
fn the_simulation_cfg_stays_in_its_rooms() {
    hold(
        simulation_cfg,
        "simulation cfg",
        &[("src/store/mod.rs", "#[cfg(madsim)]\nfn f() {}"), ("src/node/mod.rs", "use madsim::rand;")],
        &[("src/rt/mod.rs", "#[cfg(madsim)]\nmod sim;"), ("src/store/mod.rs", "// cfg(madsim)\nlet x = \"madsim\";")],
        &["src", "arch/src", "proto/src", "check/src", "sim/src", "models/src"],
    );
}

#[test]
fn limits_are_in_one_place() {
    hold(
        limits,
        "limits",
        &[("src/service/batch.rs", "pub(super) const KEYS_MAX: usize = 4;")],
        &[
            ("src/types/limits.rs", "pub const KEYS_MAX: usize = 4;"),
            ("src/pd/tso.rs", "const PHYSICAL_MS_MAX: u64 = 1;"),
            ("src/raft/a.rs", "#[cfg(test)]\nmod tests { const KEYS_MAX: u8 = 1; }\nconst A: usize = KEYS_MAX;"),
        ],
        &["src"],
    );
}

#[test]
fn nothing_escapes_the_simulator() {
    hold(
        forbidden,
        "forbidden names",
        &[
            ("src/store/mod.rs", "fn f() { tokio::spawn(async {}); }"),
            ("src/replica/mod.rs", "fn f() { let t = std::time::Instant::now(); }"),
            ("src/service/mod.rs", "use std::collections::HashMap;"),
            ("src/pd/server.rs", "let now = SystemTime::now();"),
            ("src/replica/log/mod.rs", "let f = std::fs::File::open(p)?;"),
            ("src/raft/mod.rs", "let x = rand::thread_rng();"),
            ("src/replica/driver.rs", "tokio::select! { _ = a => {} }"),
        ],
        &[
            ("src/rt/real/task.rs", "fn f() { tokio::spawn(async {}); }"),
            ("src/store/mod.rs", "use tokio::sync::mpsc; // tokio::spawn\nlet operand::X = 1;"),
            ("src/bin/armilla/main.rs", "let t = std::time::Instant::now();"),
        ],
        &["src"],
    );
}

#[test]
fn memory_orders_stand_where_a_model_checks_them() {
    hold(
        orders,
        "memory orders",
        &[
            ("src/replica/handle.rs", "fn f() { a.store(1, Ordering::Release); }"),
            ("arch/src/lib.rs", "unsafe impl Send for X {}"),
        ],
        &[
            ("src/replica/handle.rs", "fn f() { a.fetch_add(1, Ordering::Relaxed); a.cmp(b) == Ordering::Less; }"),
            ("arch/src/sync/lease.rs", "const X: Ordering = Ordering::Release;"),
        ],
        &["src", "arch/src"],
    );
}

#[test]
fn no_file_is_a_giant() {
    let giant = "fn f() {}\n".repeat(LINES_MAX + 1);
    let long_but_commented = "// why\n\n".repeat(LINES_MAX) + &"fn f() {}\n".repeat(LINES_MAX);
    hold(
        size,
        "size",
        &[("src/store/mod.rs", &giant)],
        &[("src/store/mod.rs", &long_but_commented)],
        &["src", "sim/src", "arch/src", "proto/src", "check/src", "models/src"],
    );
    let mut listed: BTreeMap<usize, String> = BTreeMap::new();
    for source in sources(&["src", "sim/src", "arch/src", "proto/src", "check/src", "models/src"]) {
        let lines = code_lines(&source);
        if lines > LINES_LISTED {
            listed.insert(lines, source.path);
        }
    }
    for (lines, path) in listed.iter().rev() {
        println!("over {LINES_LISTED} lines of code: {path} ({lines})");
    }
}

#[test]
fn every_room_introduces_itself() {
    hold(
        essay,
        "essays",
        &[
            ("src/store/mod.rs", "//! # store\n\nfn f() {}"),
            ("src/store/mod.rs", "//! # store: x\n//! **In** come a, **out** go b.\n"),
            ("src/store/kv.rs", "use x;\n"),
        ],
        &[
            ("src/store/mod.rs", "//! # store: x\n//!\n//! **In** come a, **out** go b. **Never**: c.\n"),
            ("src/store/kv.rs", "//! What the store shows.\n"),
        ],
        &["src", "sim/src", "arch/src", "proto/src", "check/src", "models/src"],
    );
}

#[test]
fn every_exception_is_still_needed() {
    let all = sources(&["src"]);
    for (file, word, why) in ALLOWED {
        assert!(why.len() > 10, "{file}: {word} is allowed without a reason");
        let source = all.iter().find(|source| source.path == *file).unwrap_or_else(|| panic!("{file} is gone"));
        assert!(!words(&source.code, word).is_empty(), "{file} no longer names {word}: strike it from the list");
    }
    for (file, why) in LONG {
        assert!(why.len() > 10, "{file} is allowed to be long without a reason");
        let source = all.iter().find(|source| source.path == *file).unwrap_or_else(|| panic!("{file} is gone"));
        assert!(code_lines(source) > LINES_MAX, "{file} is short again: strike it from the list");
    }
    for io in IO_FILES {
        assert!(all.iter().any(|source| source.path.starts_with(io)), "{io} is gone: strike it from the list");
    }
}
