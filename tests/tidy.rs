//! The law of the house, read from the sources.
//!
//! **Goal**: what a reviewer would have to remember is a test: who may import whom, what a pure room must not name, where the
//! simulation cfg may stand, how long a file may be, how a room introduces itself, and that the README names every dependency
//! and every command.
//!
//! **Method**: each rule is a function from (path, text) to findings. It looks at a *code view* of the file: comments, strings
//! and `#[cfg(test)]` items blanked out, lines kept. Each rule is first shown a planted offence (`plants`) that it has to
//! catch; a rule that catches nothing fails before the real sources are read.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

// ---------------------------------------------------------------------------------------------------------------------
// The law

/// Who may import whom: a room names only these. What is not listed may import nothing.
const IMPORTS: &[(&str, &[&str])] = &[
    ("rt", &[]),
    ("types", &["proto"]),
    ("codec", &["types", "arch"]),
    ("engine", &["types"]),
    ("mvcc", &["types", "codec", "engine"]),
    // The state machine behind a group writes to a `WriteBatch`: src/docs/state-machine-imports-engine.md.
    ("raft", &["types", "proto", "engine"]),
    ("region", &["types", "codec", "engine", "raft", "proto"]),
    // JSON queries, which the store and whoever asks it share: src/docs/queries-at-the-data.md.
    ("query", &["types", "arch"]),
    ("client", &["rt", "types", "proto", "codec"]),
    ("replica", &["rt", "types", "proto", "engine", "raft", "arch"]),
    ("store", &["rt", "types", "proto", "codec", "engine", "region", "raft", "replica", "client"]),
    ("pd", &["rt", "types", "proto", "raft", "engine", "replica", "arch"]),
    ("service", &["rt", "types", "proto", "codec", "store", "replica", "pd", "engine", "arch", "query"]),
    (
        "node",
        &[
            "arch", "client", "codec", "engine", "pd", "proto", "raft", "region", "replica", "rt", "service", "store",
            "types",
        ],
    ),
    ("docs", &[]),
];

/// Words of `rt` that every room may use: plain data and hooks, no effect. Time comes in as an `Instant`, randomness as a
/// `&mut Rng`; probes, planted bugs and what else is for the simulator do nothing in the real world.
const RT_WORDS: &[&str] = &["rt::clock::Instant", "rt::rng", "rt::probe", "rt::mutant", "rt::buggify", "rt::reach"];

/// Rooms (or files) without `async`, clock, randomness, files, sockets or threads.
const PURE: &[&str] = &[
    "src/types/",
    "src/codec/",
    "src/mvcc/",
    "src/raft/",
    "src/region/",
    "src/query/",
    "src/pd/",
    "src/client/backoff",
    "src/client/region_cache",
    "src/node/config",
];

/// The IO files of rooms whose rest is pure.
const IO_FILES: &[&str] = &["src/pd/server/"];

/// What only `rt` may name, and what to use instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio::spawn", "rt::task::spawn"),
    ("tokio::task", "rt::task"),
    ("tokio::time", "rt::clock::Clock"),
    ("tokio::net", "rt::net"),
    ("tokio::fs", "rt::disk"),
    ("tokio::io", "rt::net or rt::disk"),
    ("tokio::runtime", "rt::lane"),
    ("tokio::select", "rt_select!, which is biased"),
    ("tokio::signal", "the binary's main"),
    ("std::fs", "rt::disk"),
    ("std::net::Tcp", "rt::net"),
    ("std::net::Udp", "rt::net"),
    ("std::thread", "rt::lane or rt::cpu"),
    ("Instant::now", "rt::clock::Clock::now"),
    ("std::time::Instant", "rt::clock::Instant"),
    ("SystemTime", "rt::clock::Clock"),
    ("thread_rng", "rt::rng::Rng"),
    ("rand::", "rt::rng::Rng"),
    ("HashMap", "BTreeMap, or a map with a fixed hasher that is never iterated"),
    ("HashSet", "BTreeSet"),
    ("RandomState", "a fixed hasher"),
];

/// Lines that may break [`FORBIDDEN`]: (file, word, why).
const ALLOWED: &[(&str, &str, &str)] =
    &[("src/engine/rocks/stage.rs", "std::fs", "files beside RocksDB's own, which the simulator does not have either")];

/// Code lines at which a file is listed, and at which it fails.
const LINES_LISTED: usize = 500;
const LINES_MAX: usize = 800;
/// Files that may be longer: (file, why).
const LONG: &[(&str, &str)] = &[];

/// Circles of files that may be: all of their files lie in the folder, or are the one named; and why.
const CIRCLES: &[(&str, &str)] = &[
    ("src/rt/sim/", "the simulated world is a hub: what happens in it is an event of the world's own queue"),
    ("arch/src/", "the facade `column` holds the types that kernels take, and the functions that call them"),
];

// ---------------------------------------------------------------------------------------------------------------------
// Reading

/// One source file.
#[derive(Clone)]
struct Source {
    /// Relative to the workspace's root.
    path: String,
    text: String,
    /// Without comments, strings and test items; same lines.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = without_tests(&without_comments(text));
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The room: the first folder below `src`.
    fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        rest.split_once('/').map(|(room, _)| room)
    }

    fn is_bin(&self) -> bool {
        self.path.starts_with("src/bin/")
    }
}

/// Blanks comments and the inside of string and character literals; keeps line ends.
fn without_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let blank = |out: &mut Vec<u8>, from: usize, to: usize| {
        out.extend(bytes[from..to].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            let end = rest.iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n);
            blank(&mut out, at, end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let (mut depth, mut end) = (1, at + 2);
            while end < bytes.len() && depth > 0 {
                if bytes[end..].starts_with(b"/*") {
                    (depth, end) = (depth + 1, end + 2);
                } else if bytes[end..].starts_with(b"*/") {
                    (depth, end) = (depth - 1, end + 2);
                } else {
                    end += 1;
                }
            }
            blank(&mut out, at, end);
            at = end;
        } else if let Some(hashes) = raw_string(bytes, at) {
            let open = at + 1 + hashes + 1;
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let end = bytes[open..]
                .windows(close.len())
                .position(|w| w == close)
                .map_or(bytes.len(), |n| open + n + close.len());
            blank(&mut out, at, end);
            at = end;
        } else if bytes[at] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = (end + 1).min(bytes.len());
            out.push(b'"');
            blank(&mut out, at + 1, end - 1);
            out.push(b'"');
            at = end;
        } else if bytes[at] == b'\'' && char_literal(rest) > 0 {
            let len = char_literal(rest);
            blank(&mut out, at, at + len);
            at += len;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The number of hashes if a raw string opens here.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let word_before =
        at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b';
    if bytes[at] != b'r' || word_before {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// The length of the character literal that starts here; 0 for a lifetime.
fn char_literal(rest: &[u8]) -> usize {
    match rest {
        [b'\'', b'\\', ..] => rest[2..].iter().skip(1).position(|&b| b == b'\'').map_or(0, |n| n + 4),
        [b'\'', _, b'\'', ..] => 3,
        // A character of several bytes.
        [b'\'', lead, ..] if *lead >= 0x80 => rest[1..].iter().take(5).position(|&b| b == b'\'').map_or(0, |n| n + 2),
        _ => 0,
    }
}

/// Blanks items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let bytes = out.as_bytes();
        let mut end = start + "#[cfg(test)]".len();
        let mut depth = 0usize;
        while end < bytes.len() {
            match bytes[end] {
                b'{' => depth += 1,
                b'}' if depth == 1 => {
                    end += 1;
                    break;
                }
                b'}' => depth = depth.saturating_sub(1),
                b';' if depth == 0 => {
                    end += 1;
                    break;
                }
                _ => {}
            }
            end += 1;
        }
        let blanked: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blanked);
        from = start + blanked.len();
    }
    out
}

/// Every place where `word` stands as a path of its own, as (line, rest of the text after it).
fn words<'a>(code: &'a str, word: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let ident = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices(word) {
        let before = code[..at].chars().next_back();
        let rest = &code[at + word.len()..];
        let cut_before = word.starts_with(ident) && before.is_some_and(ident);
        let cut_after = word.ends_with(ident) && rest.starts_with(ident);
        if !cut_before && !cut_after {
            found.push((code[..at].matches('\n').count() + 1, rest));
        }
    }
    found
}

/// The paths that a file names below `root` (`crate::`), groups expanded: `crate::{a::{b, c}, d}` gives `a::b`, `a::c`, `d`.
fn paths(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, rest) in words(code, root) {
        let mut out = Vec::new();
        expand(&mut Tokens { rest }, String::new(), &mut out);
        found.extend(out.into_iter().map(|path| (line, path)));
    }
    found
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let ident = |c: char| c.is_alphanumeric() || c == '_';
        let len = if self.rest.starts_with("::") {
            2
        } else if self.rest.starts_with(ident) {
            self.rest.find(|c| !ident(c)).unwrap_or(self.rest.len())
        } else {
            self.rest.chars().next().map_or(0, char::len_utf8)
        };
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        token
    }

    fn peek(&self) -> &'a str {
        Tokens { rest: self.rest }.next()
    }
}

/// One path or group after `root::`; every leaf goes to `out`.
fn expand(tokens: &mut Tokens<'_>, prefix: String, out: &mut Vec<String>) {
    if tokens.peek() == "{" {
        tokens.next();
        while !matches!(tokens.peek(), "}" | "") {
            expand(tokens, prefix.clone(), out);
            while !matches!(tokens.peek(), "," | "}" | "") {
                tokens.next();
            }
            if tokens.peek() == "," {
                tokens.next();
            }
        }
        tokens.next();
        return;
    }
    let name = tokens.next();
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if tokens.peek() == "::" {
        let mut ahead = Tokens { rest: tokens.rest };
        ahead.next();
        // A turbofish ends the path.
        if ahead.peek() != "<" {
            tokens.next();
            return expand(tokens, path, out);
        }
    }
    out.push(path);
}

// ---------------------------------------------------------------------------------------------------------------------
// The rules

type Findings = Vec<String>;

/// A room imports only what the table allows.
fn imports(source: &Source) -> Findings {
    let Some(room) = source.room().filter(|_| !source.is_bin()) else { return Vec::new() };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: room `{room}` is not in the import table of tests/tidy.rs", source.path)];
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
            findings.push(format!("{}:{line}: room `{room}` must not import `{path}`", source.path));
        }
    }
    findings
}

/// A pure file has no effect.
fn purity(source: &Source) -> Findings {
    if !PURE.iter().any(|room| source.path.starts_with(room)) || IO_FILES.iter().any(|io| source.path.starts_with(io)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for word in
        ["async", ".await", "tokio::", "tokio_stream::", "std::fs", "std::net", "std::thread", "std::time::Instant"]
    {
        for (line, _) in words(&source.code, word) {
            findings.push(format!("{}:{line}: a pure room must not name `{word}`", source.path));
        }
    }
    for (line, path) in paths(&source.code, "crate::") {
        let effect = path.starts_with("rt::") && !RT_WORDS.iter().any(|word| path.starts_with(word));
        if effect || path == "rt" {
            findings.push(format!("{}:{line}: a pure room must not name `{path}`", source.path));
        }
    }
    findings
}

/// The simulation cfg and the simulator's runtime stay in `rt`, `engine` and `sim`.
fn simulation_cfg(source: &Source) -> Findings {
    if ["src/rt/", "src/engine/", "sim/"].iter().any(|home| source.path.starts_with(home)) {
        return Vec::new();
    }
    words(&source.code, "madsim")
        .into_iter()
        .map(|(line, _)| format!("{}:{line}: `madsim` is named only in src/rt, src/engine and sim", source.path))
        .collect()
}

/// Memory orders and hand-made `Send` and `Sync` only where a model checks them: atomics elsewhere are plain figures.
fn orders(source: &Source) -> Findings {
    if source.path.starts_with("arch/src/sync/") || source.is_bin() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for word in ["Ordering::Acquire", "Ordering::Release", "Ordering::AcqRel", "Ordering::SeqCst", "unsafe impl"] {
        for (line, _) in words(&source.code, word) {
            findings.push(format!(
                "{}:{line}: `{word}` only in arch/src/sync, where `cargo loom` checks it: use a type of there, a lock or a channel",
                source.path
            ));
        }
    }
    findings
}

/// Names that would escape the simulator.
fn forbidden(source: &Source) -> Findings {
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

/// Lines that are neither blank, comment nor test.
fn code_lines(source: &Source) -> usize {
    source.code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// No giant files.
fn size(source: &Source) -> Findings {
    let lines = code_lines(source);
    if lines <= LINES_MAX || LONG.iter().any(|(file, _)| *file == source.path) {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines of code, at most {LINES_MAX}: split it by noun", source.path)]
}

/// The `//!` lines at the head of a file.
fn head(text: &str) -> String {
    text.lines().take_while(|line| line.starts_with("//!")).map(|line| &line[3..]).collect::<Vec<_>>().join("\n")
}

/// Every file says what it is; every room's `mod.rs` opens with an essay.
fn essay(source: &Source) -> Findings {
    let head = head(&source.text);
    if head.trim().is_empty() {
        return vec![format!("{}: opens without a word (`//!`) on what it is", source.path)];
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

// ---------------------------------------------------------------------------------------------------------------------
// The real sources

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into()))
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            walk(&path, out);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            out.push(path);
        }
    }
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    for dir in dirs {
        walk(&root().join(dir), &mut files);
    }
    files.sort();
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("a readable source");
        let path = file.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        Source::new(&path, &text)
    };
    let all: Vec<Source> = files.iter().map(read).collect();
    assert!(!all.is_empty(), "no sources below {dirs:?}");
    // Files that are modules of tests only.
    let test_only: Vec<String> = all
        .iter()
        .flat_map(|source| {
            let dir = Path::new(&source.path).parent().expect("a file has a folder");
            let own = Path::new(&source.path).file_stem().expect("a name").to_string_lossy().into_owned();
            let base = if own == "mod" || own == "lib" || own == "main" { dir.to_owned() } else { dir.join(own) };
            let text = source.text.clone();
            let mut found = Vec::new();
            for (_, rest) in words(&without_comments(&text), "#[cfg(test)]") {
                let mut tokens = Tokens { rest };
                if tokens.next() == "mod" {
                    let name = tokens.next().to_owned();
                    if tokens.next() == ";" {
                        found.push(base.join(format!("{name}.rs")).to_string_lossy().into_owned());
                        found.push(base.join(&name).to_string_lossy().into_owned() + "/");
                    }
                }
            }
            found
        })
        .collect();
    all.into_iter().filter(|source| !test_only.iter().any(|test| source.path.starts_with(test))).collect()
}

/// The module that a file is, by its path below the crate's root: `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module(path: &str, root: &str) -> Vec<String> {
    let inner = path.trim_start_matches(root).trim_start_matches('/').trim_end_matches(".rs");
    let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The modules that a file names, as paths from the crate's root.
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

/// The files of one crate that import each other in a circle. A parent that its children look up to is none: a facade with its
/// forms, or a type with its phases.
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

fn report(rule: &str, findings: Findings) {
    let mut text = String::new();
    for finding in &findings {
        writeln!(text, "  {finding}").expect("a string takes text");
    }
    assert!(findings.is_empty(), "{rule}: {} finding(s)\n{text}", findings.len());
}

/// The rule catches every plant, passes every decent file, and then passes the sources.
fn hold(rule: fn(&Source) -> Findings, name: &str, plants: &[(&str, &str)], decent: &[(&str, &str)], dirs: &[&str]) {
    for (path, text) in plants {
        assert!(!rule(&Source::new(path, text)).is_empty(), "{name} does not catch its plant in {path}:\n{text}");
    }
    for (path, text) in decent {
        report(&format!("{name}, on a decent file"), rule(&Source::new(path, text)));
    }
    report(name, sources(dirs).iter().flat_map(rule).collect());
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
            ("src/attic/mod.rs", "//! A room that the table does not know."),
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
        &["src", "arch/src", "proto/src", "check/src", "sim/src"],
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
        &["src", "sim/src", "arch/src", "proto/src", "check/src"],
    );
    let mut listed: BTreeMap<usize, String> = BTreeMap::new();
    for source in sources(&["src", "sim/src", "arch/src", "proto/src", "check/src"]) {
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
    for root in ["src", "sim/src", "arch/src", "check/src"] {
        for circle in circles(&sources(&[root]), root) {
            if !CIRCLES.iter().any(|(folder, _)| circle.iter().filter(|path| !path.starts_with(folder)).count() <= 1) {
                findings.push(circle.join(", "));
            }
        }
    }
    report("circles of files", findings);
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
        &["src", "sim/src", "arch/src", "proto/src", "check/src"],
    );
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

#[test]
fn every_exception_is_still_needed() {
    let all = sources(&["src"]);
    for (file, word, why) in ALLOWED {
        assert!(why.len() > 10, "{file}: {word} is allowed without a reason");
        let source = all.iter().find(|source| source.path == *file).unwrap_or_else(|| panic!("{file} is gone"));
        assert!(!words(&source.code, word).is_empty(), "{file} no longer names {word}: strike it from the list");
    }
    for (file, why) in LONG {
        assert!(why.len() > 10, "{file} may be long without a reason");
        let source = all.iter().find(|source| source.path == *file).unwrap_or_else(|| panic!("{file} is gone"));
        assert!(code_lines(source) > LINES_MAX, "{file} is short again: strike it from the list");
    }
    for io in IO_FILES {
        assert!(all.iter().any(|source| source.path.starts_with(io)), "{io} is gone: strike it from the list");
    }
}

#[test]
fn the_code_view_blanks_what_is_not_code() {
    let text =
        "let a = 'x'; let b: &'static str = \"// no\"; /* y /* z */ */ let c = r#\"\"q\"\"#; // end\nlet d = '\\'';";
    let view = without_comments(text);
    assert_eq!(view.lines().count(), 2);
    assert!(view.contains("&'static str") && view.contains("let c =") && view.contains("let d ="), "{view}");
    assert!(!view.contains("no") && !view.contains('y') && !view.contains("end") && !view.contains('q'), "{view}");
}
