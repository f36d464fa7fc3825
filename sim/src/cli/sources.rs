//! Searches the store's sources for the names that a macro of `rt` is called with.

use std::collections::BTreeSet;
use std::path::Path;

/// Returns the names that the store's sources pass to `mac!("...")`.
pub fn names(mac: &str) -> BTreeSet<String> {
    let call = format!("{mac}!(\"");
    let mut names = BTreeSet::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                // The macro's own module only documents it.
                let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                for part in lines.flat_map(|line| line.split(&call).skip(1)) {
                    names.extend(part.split_once('"').map(|(name, _)| name.to_owned()));
                }
            }
        }
    }
    names
}
