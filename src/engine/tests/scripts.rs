//! Golden scripts: `tests/scripts/engine/*.txt` run against every engine, `tests/scripts/engine/sim/*.txt` only against
//! the simulator's, where a script can choose what a crash keeps.
//!
//! A line `> command` is a command; the lines below it, up to a blank line, a comment (`#`) or the next command, are
//! its output. With `ARMILLA_REWRITE=1` the first engine's output is written into the files. In the words of a command,
//! `-` is the empty string and `\xNN` is a byte. Commands:
//!
//! ```text
//!   put CF KEY VALUE, delete CF KEY, delete-range CF START END     several in one batch: joined by " ; "
//!   get CF KEY, scan CF START END, scan-reverse CF START END       then "limit=N" and "at=SNAPSHOT"
//!   prefix CF PREFIX                                the pairs whose keys begin so, upwards, then downwards; "at=SNAPSHOT"
//!   walk CF START END MOVE …                        a cursor within bounds, where each move leads: first=KEY, before=KEY, last, next,
//!                                                   back; "at=SNAPSHOT", "once" (it reads ahead and fills no cache)
//!   snapshot NAME, release NAME
//!   stage NAME [CF KEY VALUE ; CF KEY VALUE …]      writes files beside the engine
//!   begin NAME CF KEY VALUE, abandon NAME           files that are never finished
//!   ingest NAME [CHANGE ; CHANGE …]                 "remove CF START END" is a range, all else is the batch
//!   discard NAME, staged                            drops files; shows whether there are any
//!   flush, reopen (an orderly end and a start), crash (only flushed data survives)
//!   crash-keeping N, fail-flush, old COMMAND (on the handle before the crash), wipe, unflushed      simulator only
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

/// Additional commands that not every engine has.
type Special<H> = fn(&mut H, &[&str]) -> Option<String>;

struct Runner<H: Home> {
    home: H,
    engine: Option<H::Engine>,
    old: Option<H::Engine>,
    snapshots: BTreeMap<String, <H::Engine as KvEngine>::Snapshot>,
    stagers: BTreeMap<String, <H::Engine as KvEngine>::Stager>,
    staged: BTreeMap<String, <H::Engine as KvEngine>::Staged>,
    special: Special<H>,
}

fn cf(word: &str) -> Cf {
    Cf::ALL.into_iter().find(|cf| cf.name() == word || (*cf == Cf::Meta && word == "meta")).expect("a column family")
}

fn bytes(word: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = if word == "-" { "" } else { word };
    while let Some(first) = rest.chars().next() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            out.push(u8::from_str_radix(&hex[..2], 16).expect("two hex digits"));
            rest = &hex[2..];
        } else {
            out.extend_from_slice(first.to_string().as_bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn show(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".into() } else { bytes.escape_ascii().to_string() }
}

impl<H: Home> Runner<H> {
    fn run(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(output) = (self.special)(&mut self.home, &words) {
            return Ok(output);
        }
        let engine = self.engine.clone().expect("an open engine");
        match words[0] {
            "put" | "delete" | "delete-range" => {
                let mut batch = WriteBatch::new();
                words.split(|word| *word == ";").for_each(|words| change(&mut batch, words));
                engine.write(&batch)?;
            }
            "stage" | "begin" => {
                let mut stager = engine.stager()?;
                for pair in words[2..].split(|word| *word == ";").filter(|pair| !pair.is_empty()) {
                    let [of, key, value] = pair else { panic!("not a pair: {pair:?}") };
                    stager.put(cf(of), &bytes(key), &bytes(value))?;
                }
                match words[0] {
                    "begin" => drop(self.stagers.insert(words[1].to_owned(), stager)),
                    _ => drop(self.staged.insert(words[1].to_owned(), stager.finish()?)),
                }
            }
            "abandon" => drop(self.stagers.remove(words[1]).expect("a stager")),
            "ingest" => {
                let (mut ranges, mut batch) = (Vec::new(), WriteBatch::new());
                for part in words[2..].split(|word| *word == ";") {
                    match part {
                        [] => {}
                        ["remove", of, start, end] => {
                            ranges.push(CfRange { cf: cf(of), start: bytes(start).into(), end: bytes(end).into() });
                        }
                        words => change(&mut batch, words),
                    }
                }
                assert!(engine.ingest(&ranges, &self.staged[words[1]], &batch)?, "an engine that can write");
            }
            "discard" => drop(self.staged.remove(words[1]).expect("staged files")),
            "staged" => return Ok(if self.home.staged() { "yes" } else { "no" }.into()),
            "get" | "scan" | "scan-reverse" | "prefix" | "walk" => {
                let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
                return match option("at=") {
                    Some(name) => read(&self.snapshots[name], &words, option("limit=")),
                    None => read(&engine, &words, option("limit=")),
                };
            }
            "snapshot" => drop(self.snapshots.insert(words[1].to_owned(), engine.snapshot())),
            "release" => drop(self.snapshots.remove(words[1]).expect("a snapshot")),
            "flush" => engine.flush()?,
            "reopen" | "crash" | "crash-keeping" | "wipe" => {
                if words[0] == "reopen" {
                    self.snapshots.clear();
                    self.stagers.clear();
                    self.staged.clear();
                    self.old = None;
                } else {
                    self.home.crash();
                    self.old = self.engine.clone();
                }
                self.engine = None;
                drop(engine);
                self.engine = Some(self.home.open()?);
            }
            "old" => {
                let current = self.engine.take();
                self.engine = self.old.clone();
                let output = self.run(line.trim_start().strip_prefix("old").expect("its own name").trim());
                self.engine = current;
                return output;
            }
            other => panic!("not a command: {other}"),
        }
        Ok(String::new())
    }
}

fn change(batch: &mut WriteBatch, words: &[&str]) {
    match words {
        ["put", of, key, value] => batch.put(cf(of), bytes(key), bytes(value)),
        ["delete", of, key] => batch.delete(cf(of), bytes(key)),
        ["delete-range", of, start, end] => batch.delete_range(cf(of), bytes(start), bytes(end)),
        other => panic!("not a change: {other:?}"),
    }
}

/// Where a cursor is.
fn place(cursor: &dyn Cursor) -> String {
    cursor.pair().map_or("(none)".into(), |(key, value)| format!("{} = {}", show(key), show(value)))
}

fn walk(from: &dyn Read, words: &[&str]) -> Result<String> {
    let of = cf(words[1]);
    let options = if words.contains(&"once") { CursorOptions::once(of) } else { CursorOptions::default() };
    let mut cursor = from.cursor(of, &bytes(words[2]), &bytes(words[3]), options)?;
    let mut lines = vec![place(&*cursor)];
    for word in words[4..].iter().filter(|word| **word != "once" && !word.starts_with("at=")) {
        let found = match word.split_once('=') {
            Some(("first", key)) => cursor.seek(&bytes(key))?,
            Some(("before", key)) => cursor.seek_before(&bytes(key))?,
            None if *word == "last" => cursor.seek_last()?,
            None if *word == "next" => cursor.next()?,
            None if *word == "back" => cursor.back()?,
            _ => panic!("not a move: {word}"),
        };
        assert_eq!(found, cursor.pair().is_some(), "a move says whether there is a pair");
        lines.push(place(&*cursor));
    }
    Ok(lines.join("\n"))
}

fn prefix(from: &dyn Read, words: &[&str]) -> Result<String> {
    let (of, prefix) = (cf(words[1]), bytes(words[2]));
    let mut cursor = from.prefix_cursor(of, &prefix, CursorOptions::default())?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut found = cursor.seek(b"")?;
    while found {
        up.push(place(&*cursor));
        found = cursor.next()?;
    }
    let mut found = cursor.seek_last()?;
    while found {
        down.push(place(&*cursor));
        found = cursor.back()?;
    }
    down.reverse();
    assert_eq!(up, down, "both directions find the same");
    Ok(if up.is_empty() { "(empty)".into() } else { up.join("\n") })
}

fn read(from: &dyn Read, words: &[&str], limit: Option<&str>) -> Result<String> {
    match words[0] {
        "walk" => return walk(from, words),
        "prefix" => return prefix(from, words),
        _ => {}
    }
    if words[0] == "get" {
        let (cf, key) = (cf(words[1]), bytes(words[2]));
        let found = from.get(cf, &key)?;
        match from.get_cached(cf, &key)? {
            Cached::Known(cached) => assert_eq!(cached, found, "a read from memory must return the current value"),
            Cached::OnDisk => {}
        }
        return Ok(found.map_or("(none)".into(), |value| show(&value)));
    }
    let mut limit: usize = limit.map_or(usize::MAX, |limit| limit.parse().expect("a number"));
    let mut lines = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        lines.push(format!("{} = {}", show(key), show(value)));
        limit -= 1;
        if limit == 0 { Visit::Stop } else { Visit::More }
    };
    let (start, end) = (bytes(words[2]), bytes(words[3]));
    match words[0] {
        "scan" => from.scan(cf(words[1]), &start, &end, &mut visit)?,
        _ => from.scan_reverse(cf(words[1]), &start, &end, &mut visit)?,
    }
    Ok(if lines.is_empty() { "(empty)".into() } else { lines.join("\n") })
}

/// Plays a script and returns it with the outputs of this engine.
fn play<H: Home>(home: H, special: Special<H>, script: &str) -> String {
    let mut runner = Runner {
        home,
        engine: None,
        old: None,
        snapshots: BTreeMap::new(),
        stagers: BTreeMap::new(),
        staged: BTreeMap::new(),
        special,
    };
    runner.engine = Some(runner.home.open().expect("an engine"));
    let (mut out, mut in_output) = (String::new(), false);
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            let output = runner.run(command).unwrap_or_else(|error| format!("error: {error}"));
            out += &format!("{line}\n");
            if !output.is_empty() {
                out += &format!("{output}\n");
            }
            in_output = true;
        } else if line.trim().is_empty() || line.starts_with('#') || !in_output {
            out += &format!("{line}\n");
            in_output = false;
        }
    }
    out
}

fn scripts(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/engine").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", folder.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("a script"))).collect()
}

/// Plays the scripts of a folder and compares their output; with ARMILLA_REWRITE, writes it to the files.
fn check<H: Home>(folder: &str, rewrite: bool, home: fn() -> H, special: Special<H>) {
    for (path, script) in scripts(folder) {
        let played = play(home(), special, &script);
        if rewrite && std::env::var_os("ARMILLA_REWRITE").is_some() {
            std::fs::write(&path, &played).expect("a writable script");
        } else {
            assert!(played == script, "{} gave:\n{played}", path.display());
        }
    }
}

#[test]
fn scripts_for_every_engine_hold_for_the_simulators() {
    check("", true, SimStorage::new, |_, _| None);
}

#[cfg(not(madsim))]
#[test]
fn scripts_for_every_engine_hold_for_rocksdb() {
    check("", false, RocksHome::new, |_, _| None);
}

#[cfg(not(madsim))]
#[test]
fn scripts_for_every_engine_hold_for_rocksdb_with_values_apart() {
    check("", false, RocksHome::with_values_apart, |_, _| None);
}

#[test]
fn scripts_for_the_simulators_engine_hold() {
    check("sim", true, SimStorage::new, |home, words| {
        match words {
            ["crash-keeping", kept] => {
                // The kept batches become durable; the crash command of every engine then keeps exactly those.
                home.crash_keeping(kept.parse().expect("a number"));
                return None;
            }
            ["wipe"] => home.wipe(),
            ["fail-flush"] => {
                home.fail_next_flush();
                return Some(String::new());
            }
            ["unflushed"] => return Some(home.unflushed().to_string()),
            _ => {}
        }
        None
    });
}
