//! The sources: the list of files, and the parts of a file that rules use.

use std::path::{Path, PathBuf};

use super::code::{Tokens, without_comments, without_tests, words};

/// One source file.
#[derive(Clone)]
pub struct Source {
    /// Path relative to the workspace's root.
    pub path: String,
    pub text: String,
    /// The text without comments, strings and test items, with the same lines.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = without_tests(&without_comments(text));
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Returns the file's module: the first directory below `src`.
    pub fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        rest.split_once('/').map(|(room, _)| room)
    }

    pub fn is_bin(&self) -> bool {
        self.path.starts_with("src/bin/")
    }
}

pub fn root() -> PathBuf {
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

pub fn sources(dirs: &[&str]) -> Vec<Source> {
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
