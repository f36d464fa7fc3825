//! Table files written outside RocksDB, to be ingested as a whole: `staging/` in the data directory.
//!
//! Each file is one table of one column family, with RocksDB's checksums. The memory of a file's writer grows with the
//! file: 8 bytes per key for the filter, and one key per block for the index. Files are ended early enough to limit
//! this, but are otherwise as large as possible, because files above old keys count as files of level 0. File names are
//! unique within a run of the process; the directory is emptied when the engine is opened, once no intent needs its
//! files.
#![allow(clippy::disallowed_methods, reason = "the files of RocksDB, which the simulator does not have")]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{Options, SstFileWriter};

use super::Inner;
use super::error::{convert, failed};
use super::options::BLOCK_BYTES;
use crate::engine::{Cf, Stager, in_order};
use crate::types::limits::{STAGED_FILE_BYTES_MAX, STAGED_FILE_INDEX_BYTES_MAX, STAGED_FILE_KEYS_MAX};
use crate::types::{Error, Result};

/// The name of the directory inside the data directory.
const FOLDER: &str = "staging";

/// Writes files for [`crate::engine::KvEngine::ingest`].
pub struct RocksStager {
    // Fields are dropped in this order: the writer before its file is removed, the engine last.
    open: Option<Open>,
    files: Files,
    last: [Option<Vec<u8>>; Cf::ALL.len()],
    number: u64,
    ends_mark: bool,
    inner: Arc<Inner>,
}

/// The file that is being written, which is the last one of the list.
struct Open {
    cf: Cf,
    writer: SstFileWriter<'static>,
    keys: usize,
    bytes: usize,
    /// Approximate bytes of pairs in the current block, and of keys in the index.
    block: usize,
    index: usize,
}

impl Open {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = key.len() + value.len();
        self.keys += 1;
        self.bytes += bytes;
        self.block += bytes;
        if self.block >= BLOCK_BYTES {
            self.block = 0;
            self.index += key.len() + 16;
        }
        self.writer.put(key, value).map_err(|error| convert(&error))
    }

    fn has_room(&self) -> bool {
        self.bytes < STAGED_FILE_BYTES_MAX
            && self.keys < STAGED_FILE_KEYS_MAX
            && self.index < STAGED_FILE_INDEX_BYTES_MAX
    }
}

/// Finished files of a [`RocksStager`].
pub struct RocksStaged {
    pub(super) files: Files,
    /// Whether a value ends the mark of `rocks/plain.rs`.
    pub(super) ends_mark: bool,
    pub(super) inner: Arc<Inner>,
}

/// Files in the staging directory. They are removed when this is dropped, unless an intent may need them.
pub(super) struct Files {
    directory: PathBuf,
    pub names: Vec<(Cf, String)>,
    needed: AtomicBool,
}

impl Files {
    /// Sets whether an intent may name the files, in which case they are not removed.
    pub fn need(&self, needed: bool) {
        self.needed.store(needed, Ordering::Relaxed);
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.needed.load(Ordering::Relaxed) {
            return;
        }
        for (_, name) in &self.names {
            // Files that could not be removed are removed at the next open.
            let _ = fs::remove_file(self.directory.join(name));
        }
    }
}

/// Returns the staging directory.
pub(super) fn directory(data: &Path) -> PathBuf {
    data.join(FOLDER)
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> Error {
    failed(format!("{what} {}: {error}", path.display()))
}

fn sync_directory(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| io("sync", path, &error))
}

/// Removes the files that an earlier process left.
pub(super) fn clear(data: &Path) -> Result<()> {
    let directory = directory(data);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("read", &directory, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| io("read", &directory, &error))?.path();
        fs::remove_file(&path).map_err(|error| io("remove", &path, &error))?;
    }
    Ok(())
}

impl RocksStager {
    pub(super) fn new(inner: Arc<Inner>) -> Result<RocksStager> {
        let data = inner.db.path();
        let directory = directory(data);
        if !directory.exists() {
            fs::create_dir_all(&directory).map_err(|error| io("create", &directory, &error))?;
            sync_directory(data)?;
        }
        let number = inner.stagers.fetch_add(1, Ordering::Relaxed);
        let files = Files { directory, names: Vec::new(), needed: AtomicBool::new(false) };
        Ok(RocksStager { open: None, files, last: Default::default(), number, ends_mark: false, inner })
    }

    fn begin(&mut self, cf: Cf) -> Result<()> {
        // SAFETY: the options are behind the Arc, so they do not move, and they are dropped after the writer, because
        // this struct holds both in that order. The extended lifetime never leaves this struct.
        let options: &'static Options = unsafe { &*ptr::from_ref(&self.inner.table_options) };
        let name = format!("{}-{}-{}.sst", self.number, cf.name(), self.files.names.len());
        let path = self.files.directory.join(&name);
        self.files.names.push((cf, name));
        let writer = SstFileWriter::create(options);
        writer.open(path).map_err(|error| convert(&error))?;
        self.open = Some(Open { cf, writer, keys: 0, bytes: 0, block: 0, index: 0 });
        Ok(())
    }

    /// Finishes the file that is being written, durably.
    fn end(&mut self) -> Result<()> {
        match self.open.take() {
            Some(mut open) => open.writer.finish().map_err(|error| convert(&error)),
            None => Ok(()),
        }
    }
}

impl Stager for RocksStager {
    type Staged = RocksStaged;

    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> Result<()> {
        in_order(cf, self.last[cf as usize].as_deref(), key)?;
        let last = self.last[cf as usize].get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if !self.open.as_ref().is_some_and(|open| open.cf == cf && open.has_room()) {
            self.end()?;
            self.begin(cf)?;
        }
        self.ends_mark |= self.inner.ends_mark(cf, value);
        self.open.as_mut().expect("a file was begun").put(key, value)
    }

    fn finish(mut self) -> Result<RocksStaged> {
        self.end()?;
        if !self.files.names.is_empty() {
            sync_directory(&self.files.directory)?;
        }
        Ok(RocksStaged { files: self.files, ends_mark: self.ends_mark, inner: self.inner })
    }
}

impl fmt::Debug for RocksStager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStager").field("files", &self.files.names).finish_non_exhaustive()
    }
}

impl fmt::Debug for RocksStaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStaged").field("files", &self.files.names).finish_non_exhaustive()
    }
}
