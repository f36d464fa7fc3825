//! Tests of the engines: golden scripts that every engine must pass, a differential test between them, crashes against a model.
// Tests read scripts and copy data directories.
#![allow(clippy::disallowed_methods)]

mod crash;
#[cfg(not(madsim))]
mod differential;
#[cfg(not(madsim))]
mod rocks;
mod scripts;

use super::*;

/// Something that keeps an engine's data across restarts and crashes.
trait Home {
    type Engine: KvEngine;
    /// Opens the engine; the one before is closed.
    fn open(&mut self) -> Result<Self::Engine>;
    /// The process dies with nothing but the flushed data on disk. The engine before may still be open.
    fn crash(&mut self);
}

impl Home for SimHome {
    type Engine = SimEngine;

    fn open(&mut self) -> Result<SimEngine> {
        SimEngine::open(self)
    }

    fn crash(&mut self) {
        self.crash_keeping(0);
    }
}

/// A data directory of RocksDB. A crash is a copy of the directory while the engine is open: what a killed process leaves.
/// (Scripts write too little for RocksDB to flush on its own, so this is the state of the last flush.)
#[cfg(not(madsim))]
struct RocksHome {
    directory: tempfile::TempDir,
}

#[cfg(not(madsim))]
impl RocksHome {
    fn new() -> RocksHome {
        RocksHome { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn options(&self) -> RocksOptions {
        let path = self.directory.path().to_owned();
        RocksOptions { path, block_cache_bytes: 1 << 20, write_buffer_bytes: 8 << 20, ..RocksOptions::default() }
    }
}

#[cfg(not(madsim))]
impl Home for RocksHome {
    type Engine = RocksEngine;

    fn open(&mut self) -> Result<RocksEngine> {
        RocksEngine::open(self.options())
    }

    fn crash(&mut self) {
        // RocksDB removes files that it no longer needs in the background: copy until nothing changed meanwhile.
        loop {
            let before = listing(self.directory.path());
            let copy = tempfile::tempdir().expect("a temporary directory");
            let copied = before
                .iter()
                .all(|(name, _)| std::fs::copy(self.directory.path().join(name), copy.path().join(name)).is_ok());
            if copied && listing(self.directory.path()) == before {
                self.directory = copy;
                return;
            }
        }
    }
}

/// Names and lengths of the files in a directory.
#[cfg(not(madsim))]
fn listing(directory: &std::path::Path) -> std::collections::BTreeMap<std::ffi::OsString, Option<u64>> {
    let entries = std::fs::read_dir(directory).expect("the data directory").map(|entry| entry.expect("an entry"));
    entries.map(|entry| (entry.file_name(), entry.metadata().ok().map(|data| data.len()))).collect()
}

/// All pairs of a column family in a range, upwards; downwards must give the same, turned.
fn pairs(read: &dyn Read, cf: Cf, start: &[u8], end: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
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
