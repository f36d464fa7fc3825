//! Golden scripts: files of commands and of what they answer, which a test runs and compares.
//!
//! ```text
//!   # A comment, anywhere between blocks or commands.
//!   command word name=value
//!   another command
//!   ----
//!   what both answered, line by line
//!
//!   the next command
//! ```
//!
//! A block is one or more commands, a line `----`, and the lines that the commands answer; an empty line ends it. A
//! script is named after the behaviour it shows and lies in the folder `scripts` of its module, whose tests file
//! documents its commands.
//!
//! With `ARMILLA_REWRITE=1` the answers are written into the scripts instead of compared: read the difference before
//! committing. In a simulation build `ARMILLA_MUTANT=raft.lease-from-commit` plants that bug; the scripts that name it
//! must fail then.
#![allow(
    clippy::disallowed_methods,
    reason = "golden scripts are real files, and the environment says how they are run"
)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Runs one script (its path is relative to the crate) and compares every answer.
pub fn check(script: &str, run: impl FnMut(&str) -> String) {
    crate::rt::mutant::plant_from_environment();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(script);
    check_file(&path, run).unwrap_or_else(|why| panic!("{why}"));
}

/// Runs every script of a folder, each against a world of its own, and tells all that fail. A script that says
/// `Fails with` a planted bug must name one of `mutants`.
pub fn check_all<Run: FnMut(&str) -> String>(folder: &str, mutants: &[(&str, &str)], mut world: impl FnMut() -> Run) {
    crate::rt::mutant::plant_from_environment();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a readable folder").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "{}: a folder without scripts proves nothing", folder.display());
    let mut failed = Vec::new();
    for path in &paths {
        // What panics prints its own reason.
        let result = catch_unwind(AssertUnwindSafe(|| {
            check_mutants(path, mutants)?;
            check_file(path, world())
        }));
        let panicked = |_| Err(format!("{}: panicked, see above", path.display()));
        failed.extend(result.unwrap_or_else(panicked).err());
    }
    assert!(failed.is_empty(), "{} of {} scripts fail\n{}", failed.len(), paths.len(), failed.join("\n"));
}

fn check_file(path: &Path, mut run: impl FnMut(&str) -> String) -> Result<(), String> {
    let script = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let rewrite = std::env::var("ARMILLA_REWRITE").is_ok_and(|value| value == "1");
    let (mut output, mut answer, mut open) = (String::new(), String::new(), false);
    let (mut blocks, mut first) = (0, 0);
    let mut lines = script.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        output.push_str(line);
        output.push('\n');
        if line == "----" {
            let mut expected = String::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
                expected.push_str(line);
                expected.push('\n');
            }
            if !rewrite && answer != expected {
                let block = path.display();
                return Err(format!("{block}:{}:\n-- expected\n{expected}-- got\n{answer}", first + 1));
            }
            output.push_str(&answer);
            answer.clear();
            (open, blocks) = (false, blocks + 1);
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            if !open {
                (open, first) = (true, at);
            }
            let answered = run(line);
            answer.push_str(&answered);
            if !answered.is_empty() && !answered.ends_with('\n') {
                answer.push('\n');
            }
        } else if open && line.trim().is_empty() {
            return Err(format!("{}:{}: no ---- after the commands", path.display(), at + 1));
        }
    }
    if open || blocks == 0 {
        return Err(format!("{}: a script without answers proves nothing", path.display()));
    }
    if rewrite && output != script {
        std::fs::write(path, output).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn check_mutants(path: &Path, mutants: &[(&str, &str)]) -> Result<(), String> {
    let script = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for rest in script.split("Fails with ").skip(1) {
        let named = rest.split(['.', ')']).take(2).collect::<Vec<_>>().join(".");
        if !mutants.iter().any(|(id, _)| *id == named) {
            return Err(format!("{}: there is no planted bug {named}", path.display()));
        }
    }
    Ok(())
}

/// The words of a command: some plain, some `name=value`.
pub struct Args<'a> {
    /// Plain words, in order.
    pub plain: Vec<&'a str>,
    /// Values by name.
    pub named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Args<'a> {
    /// A line's command and its arguments.
    pub fn parse(line: &'a str) -> (&'a str, Args<'a>) {
        let mut words = line.split_whitespace();
        let command = words.next().expect("a command is not empty");
        let mut args = Args { plain: vec![], named: BTreeMap::new() };
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => {
                    args.named.insert(name, value);
                }
                None => args.plain.push(word),
            }
        }
        (command, args)
    }

    /// The plain word at that place.
    pub fn word(&self, at: usize) -> &'a str {
        self.plain.get(at).unwrap_or_else(|| panic!("argument {at} is missing"))
    }

    /// The plain number at that place.
    pub fn number(&self, at: usize) -> u64 {
        number(self.word(at))
    }

    /// The number of that name.
    pub fn number_or(&self, name: &str, default: u64) -> u64 {
        self.named.get(name).map_or(default, |word| number(word))
    }

    /// The value of that name.
    pub fn text_or<'b>(&self, name: &str, default: &'b str) -> &'b str
    where
        'a: 'b,
    {
        self.named.get(name).copied().unwrap_or(default)
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("'{word}' is not a number"))
}
