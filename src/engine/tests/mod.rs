//! Tests of the engines: golden scripts that every engine must pass, a differential test between them, and crashes
//! compared with a model.
// Tests read scripts and copy data directories.
#![allow(clippy::disallowed_methods)]

mod crash;
#[cfg(not(madsim))]
mod differential;
#[cfg(not(madsim))]
mod rocks;
mod scripts;

use super::*;

/// A storage that keeps an engine's data across restarts and crashes.
pub(in crate::engine) trait Home {
    type Engine: KvEngine;
    /// Opens the engine; the previous one is closed.
    fn open(&mut self) -> Result<Self::Engine>;
    /// Kills the process so that only flushed data is on disk. The previous engine may still be open.
    fn crash(&mut self);
    /// Returns whether there are staged files.
    fn staged(&self) -> bool;
}

impl Home for SimStorage {
    type Engine = SimEngine;

    fn open(&mut self) -> Result<SimEngine> {
        SimEngine::open(self)
    }

    fn crash(&mut self) {
        self.crash_keeping(0);
    }

    fn staged(&self) -> bool {
        SimStorage::staged(self) > 0
    }
}

/// A data directory of RocksDB. A crash is a copy of the directory taken while the engine is open, which is what a
/// killed process leaves. (Scripts write too little for RocksDB to flush on its own, so this is the state of the last
/// flush.)
#[cfg(not(madsim))]
pub(in crate::engine) struct RocksHome {
    pub directory: tempfile::TempDir,
    /// Bytes from which values are apart from their keys.
    pub separate_from: u64,
    /// How long a deleted range waits until its blobs are freed.
    pub reclaim_after: std::time::Duration,
}

#[cfg(not(madsim))]
impl RocksHome {
    pub(in crate::engine) fn new() -> RocksHome {
        let RocksOptions { separate_from, reclaim_after, .. } = RocksOptions::default();
        RocksHome { directory: tempfile::tempdir().expect("a temporary directory"), separate_from, reclaim_after }
    }

    /// Creates a home whose engine stores all values but empty ones apart from their keys.
    pub(in crate::engine) fn with_values_apart() -> RocksHome {
        RocksHome { separate_from: 1, ..RocksHome::new() }
    }

    pub(in crate::engine) fn options(&self) -> RocksOptions {
        RocksOptions {
            path: self.directory.path().to_owned(),
            block_cache_bytes: 1 << 20,
            write_buffer_bytes: 8 << 20,
            separate_from: self.separate_from,
            reclaim_after: self.reclaim_after,
            ..RocksOptions::default()
        }
    }

    /// Returns the bytes of the files whose names end like this.
    pub(in crate::engine) fn file_bytes(&self, ending: &str) -> u64 {
        let files = listing(self.directory.path()).into_iter();
        files.filter(|(name, _)| name.to_string_lossy().ends_with(ending)).filter_map(|(_, length)| length).sum()
    }
}

#[cfg(not(madsim))]
impl Home for RocksHome {
    type Engine = RocksEngine;

    fn open(&mut self) -> Result<RocksEngine> {
        RocksEngine::open(self.options())
    }

    fn crash(&mut self) {
        // RocksDB removes unneeded files in the background: repeat the copy until nothing changed during it.
        loop {
            let before = listing(self.directory.path());
            let copy = tempfile::tempdir().expect("a temporary directory");
            let copied = before.keys().all(|name| {
                let (from, to) = (self.directory.path().join(name), copy.path().join(name));
                std::fs::create_dir_all(to.parent().expect("below the directory")).expect("a folder");
                std::fs::copy(from, to).is_ok()
            });
            if copied && listing(self.directory.path()) == before {
                self.directory = copy;
                return;
            }
        }
    }

    fn staged(&self) -> bool {
        listing(self.directory.path()).keys().any(|name| name.starts_with("staging"))
    }
}

/// Returns the relative names and the lengths of the files in a directory and its subdirectories.
#[cfg(not(madsim))]
fn listing(directory: &std::path::Path) -> std::collections::BTreeMap<std::path::PathBuf, Option<u64>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("the data directory").map(|entry| entry.expect("an entry")) {
        let name = std::path::PathBuf::from(entry.file_name());
        match entry.metadata().ok() {
            Some(data) if data.is_dir() => {
                found.extend(listing(&entry.path()).into_iter().map(|(below, length)| (name.join(below), length)));
            }
            data => drop(found.insert(name, data.map(|data| data.len()))),
        }
    }
    found
}

/// Returns all pairs of a column family in a range, in ascending order, and checks that a reverse scan returns the
/// same.
pub(in crate::engine) fn pairs(read: &dyn Read, cf: Cf, start: &[u8], end: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    read.scan(cf, start, end, &mut |key, value| {
        up.push((key.to_vec(), value.to_vec()));
        Visit::More
    })?;
    read.scan_reverse(cf, start, end, &mut |key, value| {
        down.push((key.to_vec(), value.to_vec()));
        Visit::More
    })?;
    down.reverse();
    assert_eq!(up, down, "a scan and a reverse scan differ");
    Ok(up)
}
