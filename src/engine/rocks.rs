//! The engine of the real world: RocksDB without its write-ahead log.
//!
//! How it implements the contract at the head of this module:
//! - One [`WriteBatch`] is one RocksDB batch, so it is atomic and has one position in the write sequence. The
//!   write-ahead log is off: a batch lives in the memtables until a flush.
//! - `atomic_flush` is on: every flush, whether requested or RocksDB's own, takes the memtables of *all* column
//!   families at one sequence number and records their new files as one group in the manifest. A crash therefore leaves
//!   one prefix.
//! - [`KvEngine::flush`] waits, even where RocksDB's own wait ends too early
//!   (`src/docs/rocksdb-ends-an-atomic-flush-early.md`), and then checks: if nothing was written meanwhile, every
//!   memtable must be empty.
//! - A single thread flushes. With two, a flush of some column families could end before an older one of others, and
//!   the result would no longer be a prefix.
//! - After a failed write or flush the engine accepts no more writes until it is opened again, whatever RocksDB does
//!   (it continues by itself when a full disk has space again): the content of the disk is unknown.
//! - A flush does not wait for compactions: its caller must not be blocked until the disk has caught up.
//! - An ingest consists of several RocksDB calls, which an intent makes atomic: see `rocks/ingest.rs`.
//!
//! - Large values of some column families are in blob files, which flushes and compactions write, sync and list in the
//!   manifest like tables: `src/docs/large-values-in-blob-files.md`. What depends on that is in `rocks/sizes.rs`,
//!   `rocks/plain.rs` and `rocks/reclaim.rs`.
//!
//! RocksDB's pipelined and unordered writes are off: the first cannot be combined with `atomic_flush`, and with the
//! second a snapshot would not be frozen.
//!
//! RocksDB creates the data directory, but the caller must make that directory's entry in its parent durable.

mod error;
mod ingest;
mod options;
mod plain;
mod reads;
mod reclaim;
mod sizes;
mod stage;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::fmt;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use librocksdb_sys as ffi;
use rocksdb::properties as property;
use rocksdb::{
    AsColumnFamilyRef, AsRawPtr, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, ErrorKind, Options,
    WaitForCompactOptions, WriteOptions,
};

use super::{Bounds, Cached, Cf, CfRange, Cursor, CursorOptions, KvEngine, Op, Read, WriteBatch};
use crate::types::{Error, Result};
use error::{convert, said};
use options::{cf_options, db_options};
use reads::{Position, ReadOptions, RocksCursor, cached, look_up};
use reclaim::Reclaim;
use sizes::Profiles;

pub use options::RocksOptions;
pub use stage::{RocksStaged, RocksStager};

/// Properties of RocksDB that the crate does not name: bytes of the blob files in use and of the garbage in them, and
/// bytes and number of all blob files.
const LIVE_BLOB_BYTES: &CStr = c"rocksdb.live-blob-file-size";
const LIVE_BLOB_GARBAGE_BYTES: &CStr = c"rocksdb.live-blob-file-garbage-size";
const ALL_BLOB_BYTES: &CStr = c"rocksdb.total-blob-file-size";
const BLOB_FILES: &CStr = c"rocksdb.num-blob-files";
/// Microseconds between two checks of a flush that RocksDB has reported as done too early.
const FLUSH_LOOK_US: u64 = 10_000;
/// Number of checks after which writers are blocked until the flush is done.
const FLUSH_LOOKS: u32 = 200;

/// RocksDB; see the head of this file. Clones share it; dropping the last one closes it.
#[derive(Clone)]
pub struct RocksEngine {
    inner: Arc<Inner>,
}

struct Inner {
    /// While an ingest runs: the engine as it was before, which is what readers see. Declared before the database that
    /// it refers to, because fields are dropped in order.
    before: RwLock<Option<Arc<Frozen>>>,
    /// Declared before the database because it ends its thread.
    reclaim: Reclaim,
    db: Arc<DB>,
    cache: Cache,
    write_options: WriteOptions,
    /// Options of writes that fail if they would have to wait.
    impatient_options: WriteOptions,
    read_options: ReadOptions,
    /// Options of reads that must not wait for the disk.
    cached_options: ReadOptions,
    /// Held shared by every write; exclusively by a write that needs the last key, and by the check after a flush.
    writers: RwLock<()>,
    /// Held by every flush: each waits until RocksDB is at rest.
    flushes: Mutex<()>,
    /// Why no more writes are accepted.
    stopped: OnceLock<String>,
    /// Options of the files that stagers write.
    table_options: Options,
    /// The number of stagers created so far.
    stagers: AtomicU64,
    /// Bytes from which values are in blob files; 0: never.
    separate_from: u64,
    /// Whether the mark of `rocks/plain.rs` may be set.
    plain: Mutex<bool>,
    /// Sizes of ranges that were estimated.
    profiles: Profiles,
}

impl RocksEngine {
    /// Opens the engine, or creates it if the options allow it.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no engine, if the disk fails or if another process uses it; [`Error::Corruption`] if
    /// it is damaged; [`Error::Invalid`] if a newer version wrote it.
    pub fn open(options: RocksOptions) -> Result<RocksEngine> {
        let path = &options.path;
        if path.join("CURRENT").exists() {
            let names = DB::list_cf(&Options::default(), path).map_err(|error| convert(&error))?;
            if let Some(name) = names.iter().find(|name| Cf::ALL.iter().all(|cf| cf.name() != *name)) {
                let path = path.display();
                return Err(Error::Invalid(format!(
                    "{path} holds a column family {name:?} that is unknown to this version: a newer version wrote it"
                )));
            }
        } else if !options.create {
            return Err(Error::Io(format!("there is no engine in {}", path.display())));
        }
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let cfs = Cf::ALL.map(|cf| ColumnFamilyDescriptor::new(cf.name(), cf_options(&options, &cache, cf)));
        let db = DB::open_cf_descriptors(&db_options(&options), path, cfs).map_err(|error| match convert(&error) {
            Error::Io(text) if text.contains("While lock file") || text.contains("lock hold by current process") => {
                Error::Io(format!("another process uses this data directory: {text}"))
            }
            other => other,
        })?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let mut impatient_options = WriteOptions::default();
        impatient_options.disable_wal(true);
        impatient_options.set_no_slowdown(true);
        // Files are written with all of their values inside: RocksDB can only ingest such.
        let table_options = cf_options(&options, &cache, Cf::Meta);
        let db = Arc::new(db);
        let inner = Arc::new(Inner {
            before: RwLock::new(None),
            reclaim: Reclaim::start(db.clone(), options.reclaim_after)?,
            db,
            cache,
            write_options,
            impatient_options,
            read_options: ReadOptions::new(None),
            cached_options: ReadOptions::new(None).in_memory(),
            writers: RwLock::new(()),
            flushes: Mutex::new(()),
            stopped: OnceLock::new(),
            table_options,
            stagers: AtomicU64::new(0),
            separate_from: options.separate_from,
            plain: Mutex::new(true),
            profiles: Profiles::default(),
        });
        inner.resume()?;
        inner.mark_plain()?;
        Ok(RocksEngine { inner })
    }

    /// Returns statistics for metrics, summed over all column families. Names end with their unit.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let inner = &self.inner;
        let sum = |name: &property::PropName| {
            let of = |cf| inner.db.property_int_value_cf(inner.cf(cf), name).ok().flatten().unwrap_or(0);
            Cf::ALL.into_iter().map(of).sum()
        };
        let blobs = |name: &CStr| -> u64 {
            let of = |cf| inner.property(cf, name).unwrap_or(0);
            Cf::ALL.into_iter().filter(|cf| cf.separates()).map(of).sum()
        };
        let garbage_bytes = blobs(LIVE_BLOB_GARBAGE_BYTES);
        // These are properties of the whole database, whichever column family is asked.
        let one = |name: &property::PropName| inner.db.property_int_value(name).ok().flatten().unwrap_or(0);
        vec![
            ("memtable_bytes", sum(property::CUR_SIZE_ALL_MEM_TABLES)),
            ("immutable_memtables", sum(property::NUM_IMMUTABLE_MEM_TABLE)),
            ("sst_bytes", sum(property::TOTAL_SST_FILES_SIZE)),
            ("blob_files", blobs(BLOB_FILES)),
            ("blob_bytes", blobs(ALL_BLOB_BYTES)),
            // Between the two, a compaction may end.
            ("blob_live_bytes", blobs(LIVE_BLOB_BYTES).saturating_sub(garbage_bytes)),
            ("blob_garbage_bytes", garbage_bytes),
            ("live_data_bytes", sum(property::ESTIMATE_LIVE_DATA_SIZE)),
            ("keys_estimated", sum(property::ESTIMATE_NUM_KEYS)),
            ("compaction_pending_bytes", sum(property::ESTIMATE_PENDING_COMPACTION_BYTES)),
            ("level0_files", sum(&property::num_files_at_level(0))),
            ("table_reader_bytes", sum(property::ESTIMATE_TABLE_READERS_MEM)),
            ("block_cache_bytes", inner.cache.get_usage() as u64),
            ("block_cache_pinned_bytes", inner.cache.get_pinned_usage() as u64),
            ("compactions_running", one(property::NUM_RUNNING_COMPACTIONS)),
            ("flushes_running", one(property::NUM_RUNNING_FLUSHES)),
            ("background_errors", one(property::BACKGROUND_ERRORS)),
            ("snapshots", one(property::NUM_SNAPSHOTS)),
            ("write_stopped", one(property::IS_WRITE_STOPPED)),
            ("write_delayed_rate_bytes_per_second", one(property::ACTUAL_DELAYED_WRITE_RATE)),
        ]
    }
}

impl fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksEngine").field("path", &self.inner.db.path()).finish_non_exhaustive()
    }
}

/// Returns whether a batch deletes a range without an end.
fn is_unbounded(batch: &WriteBatch) -> bool {
    batch.ops().iter().any(|op| matches!(op, Op::DeleteRange(_, _, end) if end.is_empty()))
}

impl Inner {
    fn cf(&self, cf: Cf) -> &ColumnFamily {
        self.db.cf_handle(cf.name()).expect("every column family was opened")
    }

    fn writable(&self) -> Result<()> {
        self.stopped.get().map_or(Ok(()), |why| Err(Error::Stopped(why.clone())))
    }

    /// Stops accepting writes, because of `error`, which is returned.
    fn stop(&self, what: &str, error: Error) -> Error {
        let _ = self.stopped.set(format!("the engine's {what} failed: {error}"));
        error
    }

    /// Returns the first key after all existing keys: those of the engine, and those that the batch puts before its
    /// operation number `at`. `None` if there is no key.
    fn beyond_last(&self, cf: Cf, batch: &WriteBatch, at: usize) -> Result<Option<Vec<u8>>> {
        let mut cursor = self.cursor(cf, (b"", b""), CursorOptions::keys_only(), ReadOptions::new(None));
        cursor.seek_last()?;
        let stored = cursor.pair().map(|(key, _)| key);
        let pending = batch.ops()[..at].iter().filter_map(|op| match op {
            Op::Put(of, key, _) if *of == cf => Some(&key[..]),
            _ => None,
        });
        Ok(pending.chain(stored).max().map(|key| [key, &[0]].concat()))
    }

    /// Translates a batch. Returns also whether it ends the mark of `rocks/plain.rs`.
    fn translate(&self, batch: &WriteBatch) -> Result<(rocksdb::WriteBatch, bool)> {
        let mut ends_mark = false;
        let mut cfs: [Option<&ColumnFamily>; Cf::ALL.len()] = [None; Cf::ALL.len()];
        let mut out = rocksdb::WriteBatch::with_capacity_bytes(16 + batch.bytes() + batch.len() * 12);
        for (at, op) in batch.ops().iter().enumerate() {
            let (Op::Put(cf, ..) | Op::Delete(cf, ..) | Op::DeleteRange(cf, ..)) = op;
            let handle = *cfs[*cf as usize].get_or_insert_with(|| self.cf(*cf));
            match op {
                Op::Put(cf, key, value) => {
                    ends_mark |= self.ends_mark(*cf, value);
                    out.put_cf(handle, key, value);
                }
                Op::Delete(_, key) => out.delete_cf(handle, key),
                Op::DeleteRange(_, start, end) if end.is_empty() => {
                    if let Some(end) = self.beyond_last(*cf, batch, at)?
                        && start[..] < end[..]
                    {
                        out.delete_range_cf(handle, &start[..], &end[..]);
                    }
                }
                Op::DeleteRange(_, start, end) if start < end => out.delete_range_cf(handle, start, end),
                // RocksDB rejects a range whose end lies before its start.
                Op::DeleteRange(..) => {}
            }
        }
        let unmark = self.unmark(ends_mark);
        if let Some(Op::Delete(cf, key)) = &unmark {
            out.delete_cf(self.cf(*cf), key);
        }
        Ok((out, unmark.is_some()))
    }

    /// Notes what follows from a batch that was written.
    fn written(&self, batch: &WriteBatch, unmarked: bool) {
        if unmarked {
            self.unmarked();
        }
        self.reclaim.note(batch);
    }

    /// Looks a key up; see [`look_up`].
    fn look_up<T>(
        &self,
        cf: Cf,
        key: &[u8],
        options: &ReadOptions,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<Option<T>>> {
        look_up(&self.db, self.cf(cf), key, options, read)
    }

    fn get(&self, cf: Cf, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>> {
        let found = self.look_up(cf, key, options, Bytes::copy_from_slice)?;
        found.ok_or_else(|| Error::Io("RocksDB did not wait for the disk, although it was not told so".into()))
    }

    /// Like [`Inner::get`], with options that forbid reading from the disk.
    fn get_cached(&self, cf: Cf, key: &[u8], options: &ReadOptions) -> Result<Cached> {
        self.look_up(cf, key, options, Bytes::copy_from_slice).map(cached)
    }

    /// Calls `read` with the view for reads without a snapshot: `None` for the current state, or the state before the
    /// running ingest.
    fn now<T>(&self, read: impl FnOnce(Option<&Frozen>) -> T) -> T {
        // Held until the read has its view, so that no ingest starts in between.
        let before = self.before.read().unwrap_or_else(PoisonError::into_inner);
        read(before.as_deref())
    }

    /// Writes a batch. Nothing else may write meanwhile.
    fn write_now(&self, batch: &WriteBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (translated, unmarks) = self.translate(batch)?;
        self.db.write_opt(translated, &self.write_options).map_err(|error| convert(&error))?;
        self.written(batch, unmarks);
        Ok(())
    }

    /// Returns a cursor that is confined to `[start, end)`.
    fn cursor(
        &self,
        cf: Cf,
        (start, end): (&[u8], &[u8]),
        how: CursorOptions,
        options: ReadOptions,
    ) -> Box<dyn Cursor + '_> {
        // The engine's own keys are after all others.
        let own: &[u8] = &[0xff];
        let end = if cf == Cf::Meta && (end.is_empty() || end > own) { own } else { end };
        let bounds = Bounds { start: Bytes::copy_from_slice(start), end: Bytes::copy_from_slice(end) };
        Box::new(RocksCursor::new(&self.db, self.cf(cf), bounds, how, options))
    }

    /// Calls RocksDB's flush of all column families.
    fn flush_all(&self) -> Result<()> {
        let mut cfs = Cf::ALL.map(|cf| self.cf(cf).inner());
        let mut error = ptr::null_mut();
        // SAFETY: the options are created, used and destroyed here; the database and the handles live as long as
        // `self`; the call reads the handles, and sets `error` to null or to a string that this function must free.
        unsafe {
            let options = ffi::rocksdb_flushoptions_create();
            ffi::rocksdb_flushoptions_set_wait(options, 1);
            // Without this, the flush waits without limit while one more file in level 0 would slow writers down.
            ffi::rocksdb_flushoptions_set_allow_write_stall(options, 1);
            ffi::rocksdb_flush_cfs(self.db.as_raw_ptr(), options, cfs.as_mut_ptr(), cfs.len() as i32, &mut error);
            ffi::rocksdb_flushoptions_destroy(options);
        }
        said(error)
    }

    /// Makes everything written before the call durable. Only one caller at a time.
    fn flush_now(&self) -> Result<()> {
        let sequence = self.db.latest_sequence_number();
        self.flush_all()?;
        self.await_flushed(false)?;
        self.check_flushed(sequence)
    }

    /// Waits until every memtable that was full at the call is in a file listed in the manifest. With `held`, the
    /// caller already blocks writers.
    ///
    /// # Errors
    /// The error that stopped RocksDB's background work; [`Error::Io`] if that work has ended with a memtable left.
    fn await_flushed(&self, held: bool) -> Result<()> {
        let mut waits = WaitForCompactOptions::default();
        waits.set_timeout(FLUSH_LOOK_US);
        let (mut looks, mut alone) = (0, None);
        for cf in Cf::ALL {
            // Memtables are flushed in order: once none is left, those from before the call are flushed.
            while self.property(cf, property::NUM_IMMUTABLE_MEM_TABLE)? != 0 {
                // While writers are active, new memtables may keep coming.
                if looks == FLUSH_LOOKS && !held {
                    alone = Some(self.writers.write().unwrap_or_else(PoisonError::into_inner));
                }
                looks += 1;
                match self.db.wait_for_compact(&waits) {
                    Err(error) if error.kind() == ErrorKind::TimedOut => {}
                    Err(error) => return Err(convert(&error)),
                    Ok(())
                        if (held || alone.is_some()) && self.property(cf, property::NUM_IMMUTABLE_MEM_TABLE)? != 0 =>
                    {
                        return Err(Error::Io(format!("RocksDB is at rest, but has not flushed all of {}", cf.name())));
                    }
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    /// Checks a flush: if nothing is being written now and nothing was written since `sequence`, the memtables must be
    /// empty.
    fn check_flushed(&self, sequence: u64) -> Result<()> {
        let Ok(_alone) = self.writers.try_write() else { return Ok(()) };
        if self.db.latest_sequence_number() != sequence {
            return Ok(());
        }
        for cf in Cf::ALL {
            for name in [property::NUM_ENTRIES_ACTIVE_MEM_TABLE, property::NUM_IMMUTABLE_MEM_TABLE] {
                let left = self.property(cf, name)?;
                if left != 0 {
                    let text = format!("a flush reported success, but {name:?} of {} is {left}", cf.name());
                    return Err(Error::Io(text));
                }
            }
        }
        Ok(())
    }

    /// Returns a numeric property of a column family.
    fn property(&self, cf: Cf, name: &CStr) -> Result<u64> {
        let value = self.db.property_int_value_cf(self.cf(cf), name).map_err(|error| convert(&error))?;
        value.ok_or_else(|| Error::Io(format!("RocksDB does not provide {name:?} of {}", cf.name())))
    }
}

impl Read for RocksEngine {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
        let inner = &*self.inner;
        inner.now(|before| inner.get(cf, key, before.map_or(&inner.read_options, Frozen::options)))
    }

    fn get_cached(&self, cf: Cf, key: &[u8]) -> Result<Cached> {
        let inner = &*self.inner;
        inner.now(|before| inner.get_cached(cf, key, before.map_or(&inner.cached_options, Frozen::cached_options)))
    }

    fn cursor(&self, cf: Cf, start: &[u8], end: &[u8], how: CursorOptions) -> Result<Box<dyn Cursor + '_>> {
        // The cursor's view is fixed from here on.
        let options = |before: Option<&Frozen>| before.map_or_else(|| ReadOptions::new(None), Frozen::scan_options);
        self.inner.now(|before| Ok(self.inner.cursor(cf, (start, end), how, options(before))))
    }
}

impl KvEngine for RocksEngine {
    type Snapshot = RocksSnapshot;
    type Staged = RocksStaged;
    type Stager = RocksStager;

    fn write(&self, batch: &WriteBatch) -> Result<()> {
        let inner = &*self.inner;
        inner.writable()?;
        // RocksDB has no range deletion without an end. While the last key is determined, no other write may add a key
        // after it.
        let (_alone, _shared);
        if is_unbounded(batch) {
            _alone = inner.writers.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _shared = inner.writers.read().unwrap_or_else(PoisonError::into_inner);
        }
        let (translated, unmarks) = inner.translate(batch)?;
        let written = inner.db.write_opt(translated, &inner.write_options);
        written.map_err(|error| inner.stop("write", convert(&error)))?;
        inner.written(batch, unmarks);
        Ok(())
    }

    fn try_write(&self, batch: &WriteBatch) -> Result<bool> {
        let inner = &*self.inner;
        inner.writable()?;
        let (_alone, _shared);
        if is_unbounded(batch) {
            let Ok(alone) = inner.writers.try_write() else { return Ok(false) };
            _alone = alone;
        } else {
            // If a flush is waiting for exclusive access, this writer would have to wait for the whole flush.
            let Ok(shared) = inner.writers.try_read() else { return Ok(false) };
            _shared = shared;
        }
        let (translated, unmarks) = inner.translate(batch)?;
        match inner.db.write_opt(translated, &inner.impatient_options) {
            Ok(()) => {
                inner.written(batch, unmarks);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(false),
            Err(error) => Err(inner.stop("write", convert(&error))),
        }
    }

    fn write_waiting(&self, batch: &WriteBatch) -> Result<bool> {
        self.write(batch).map(|()| true)
    }

    fn snapshot(&self) -> RocksSnapshot {
        let before = self.inner.before.read().unwrap_or_else(PoisonError::into_inner);
        let frozen = before.clone().unwrap_or_else(|| Arc::new(Frozen::new(&self.inner.db)));
        RocksSnapshot { frozen, inner: self.inner.clone() }
    }

    fn flush(&self) -> Result<()> {
        let inner = &*self.inner;
        let _alone = inner.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        inner.writable()?;
        inner.flush_now().map_err(|error| inner.stop("flush", error))
    }

    fn stager(&self) -> Result<RocksStager> {
        RocksStager::new(self.inner.clone())
    }

    fn ingest(&self, ranges: &[CfRange], files: &RocksStaged, meta: &WriteBatch) -> Result<bool> {
        self.inner.ingest(ranges, files, meta).map(|()| true)
    }

    fn approximate_bytes(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        self.inner.bytes(cf, start, end)
    }

    /// RocksDB estimates the keys of a column family, not of a range: the range gets a share proportional to its bytes
    /// in tables and in memory.
    fn approximate_keys(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        let inner = &*self.inner;
        let count = inner.db.property_int_value_cf(inner.cf(cf), property::ESTIMATE_NUM_KEYS);
        let keys = count.map_err(|error| convert(&error))?.unwrap_or(0);
        if keys == 0 || (start.is_empty() && end.is_empty()) {
            return Ok(keys);
        }
        let flags = ffi::rocksdb_size_approximation_flags_include_memtable
            | ffi::rocksdb_size_approximation_flags_include_files;
        let all = inner.table_bytes(cf, b"", b"", flags)?;
        let here = inner.table_bytes(cf, start, end, flags)?.min(all);
        // The product of two u64 sizes needs a u128.
        Ok(if all == 0 { 0 } else { (u128::from(keys) * u128::from(here) / u128::from(all)) as u64 })
    }
}

/// The database at one position of the write sequence. Its holder must drop it before the database.
struct Frozen {
    // Fields are dropped in this order. Options are created on demand, because most views serve a single read.
    options: OnceLock<ReadOptions>,
    cached_options: OnceLock<ReadOptions>,
    at: Position<'static>,
}

impl Frozen {
    fn new(db: &DB) -> Frozen {
        // SAFETY: the database is behind an Arc, so it does not move, and both holders, `RocksSnapshot` and `Inner`,
        // drop this view before it. The extended lifetime never leaves this file.
        let db: &'static DB = unsafe { &*ptr::from_ref(db) };
        Frozen { options: OnceLock::new(), cached_options: OnceLock::new(), at: Position::new(db) }
    }

    fn options(&self) -> &ReadOptions {
        self.options.get_or_init(|| self.scan_options())
    }

    fn cached_options(&self) -> &ReadOptions {
        self.cached_options.get_or_init(|| self.scan_options().in_memory())
    }

    fn scan_options(&self) -> ReadOptions {
        ReadOptions::new(Some(&self.at))
    }
}

/// A frozen view of a [`RocksEngine`], which it keeps open.
#[derive(Clone)]
pub struct RocksSnapshot {
    // Fields are dropped in this order: the view before the database that it refers to.
    frozen: Arc<Frozen>,
    inner: Arc<Inner>,
}

impl fmt::Debug for RocksSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.frozen.at.sequence_number();
        f.debug_struct("RocksSnapshot").field("sequence", &sequence).finish_non_exhaustive()
    }
}

impl Read for RocksSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(cf, key, self.frozen.options())
    }

    fn get_cached(&self, cf: Cf, key: &[u8]) -> Result<Cached> {
        self.inner.get_cached(cf, key, self.frozen.cached_options())
    }

    fn cursor(&self, cf: Cf, start: &[u8], end: &[u8], how: CursorOptions) -> Result<Box<dyn Cursor + '_>> {
        Ok(self.inner.cursor(cf, (start, end), how, self.frozen.scan_options()))
    }

    fn left_out_are_plain(&self, may_wait: bool) -> Result<bool> {
        self.inner.has_mark(if may_wait { self.frozen.options() } else { self.frozen.cached_options() })
    }
}
