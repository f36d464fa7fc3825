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
//! RocksDB's pipelined and unordered writes are off: the first cannot be combined with `atomic_flush`, and with the
//! second a snapshot would not be frozen.
//!
//! RocksDB creates the data directory, but the caller must make that directory's entry in its parent durable.

mod ingest;
mod stage;

use std::fmt;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use librocksdb_sys as ffi;
use rocksdb::properties as property;
use rocksdb::{
    AsColumnFamilyRef, AsRawPtr, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, DataBlockIndexType, ErrorKind, Options, ReadOptions, ReadTier, Snapshot, WaitForCompactOptions,
    WriteOptions,
};

use super::{Bounds, Cached, Cf, CfRange, Cursor, CursorOptions, KvEngine, Op, Read, WriteBatch};
use crate::types::limits::MEMTABLE_RANGE_DELETIONS_MAX;
use crate::types::{Error, Result};

pub use stage::{RocksStaged, RocksStager};

/// Options of a [`RocksEngine`]: where and how it stores its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// The data directory. Only one engine at a time may use it.
    pub path: PathBuf,
    /// Bytes of memory for uncompressed blocks, indexes and filters.
    pub block_cache_bytes: usize,
    /// Bytes of memory for writes in all column families, above which RocksDB flushes on its own. Writes that are being
    /// flushed are not included: up to six times half of this value in one column family, if the disk is much slower
    /// than the writers.
    pub write_buffer_bytes: usize,
    /// Maximum number of open table files. 0 derives it from the process's file-descriptor limit, which also caps any
    /// other value.
    pub max_open_files: u32,
    /// Number of threads that flush (one) and compact (the others, at least one).
    pub background_jobs: u32,
    /// Whether to create the engine if it does not exist.
    pub create: bool,
}

impl Default for RocksOptions {
    /// Returns the options of a store of moderate size: 256 MiB of cache, 128 MiB of writes, two background threads, in
    /// `armilla-data`.
    fn default() -> RocksOptions {
        RocksOptions {
            path: PathBuf::from("armilla-data"),
            block_cache_bytes: 256 << 20,
            write_buffer_bytes: 128 << 20,
            max_open_files: 0,
            background_jobs: 2,
            create: true,
        }
    }
}

/// Bytes of pairs in one block of a table file.
const BLOCK_BYTES: usize = 8 << 10;
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
    db: DB,
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
        let cfs = Cf::ALL.map(|cf| ColumnFamilyDescriptor::new(cf.name(), cf_options(&options, &cache)));
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
        let table_options = cf_options(&options, &cache);
        let inner = Arc::new(Inner {
            before: RwLock::new(None),
            db,
            cache,
            write_options,
            impatient_options,
            read_options: ReadOptions::default(),
            cached_options: cached(ReadOptions::default()),
            writers: RwLock::new(()),
            flushes: Mutex::new(()),
            stopped: OnceLock::new(),
            table_options,
            stagers: AtomicU64::new(0),
        });
        inner.resume()?;
        Ok(RocksEngine { inner })
    }

    /// Returns statistics for metrics, summed over all column families. Names end with their unit.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let inner = &self.inner;
        let sum = |name: &property::PropName| {
            let of = |cf| inner.db.property_int_value_cf(inner.cf(cf), name).ok().flatten().unwrap_or(0);
            Cf::ALL.into_iter().map(of).sum()
        };
        // These are properties of the whole database, whichever column family is asked.
        let one = |name: &property::PropName| inner.db.property_int_value(name).ok().flatten().unwrap_or(0);
        vec![
            ("memtable_bytes", sum(property::CUR_SIZE_ALL_MEM_TABLES)),
            ("immutable_memtables", sum(property::NUM_IMMUTABLE_MEM_TABLE)),
            ("sst_bytes", sum(property::TOTAL_SST_FILES_SIZE)),
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

/// Returns how many table files may be open: the requested number, but at most three quarters of the process's limit of
/// file descriptors, so that enough remain for sockets and the log. A lowered limit must cost speed, never cause a
/// crash.
fn open_files(asked: u32) -> i32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable rlimit for the duration of the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    let descriptors = if known { limit.rlim_cur.min(1 << 20) as i32 } else { 1024 };
    // RocksDB uses at least 20.
    let most = (descriptors / 4 * 3).max(20);
    if asked == 0 { most } else { most.min(i32::try_from(asked).unwrap_or(most)) }
}

fn db_options(options: &RocksOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_atomic_flush(true);
    db.set_paranoid_checks(true);
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    db.set_max_open_files(open_files(options.max_open_files));
    let jobs = options.background_jobs.clamp(2, 64) as i32;
    db.set_max_background_jobs(jobs);
    #[allow(deprecated, reason = "the number of jobs alone makes a quarter of them flush")]
    {
        db.set_max_background_flushes(1);
        db.set_max_background_compactions(jobs - 1);
    }
    db.set_max_subcompactions((options.background_jobs / 2).clamp(1, 4));
    // Spread disk writes over time, so that syncing a large file does not stall the raft log's syncs.
    db.set_bytes_per_sync(1 << 20);
    db.set_avoid_unnecessary_blocking_io(true);
    db.set_max_manifest_file_size(64 << 20);
    // At most four text logs of 8 MiB, without the periodic dump of statistics (metrics contain those).
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(8 << 20);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

fn cf_options(options: &RocksOptions, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_bloom_filter(10.0, false);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut cf = Options::default();
    cf.set_block_based_table_factory(&table);
    // Level 0 and the level below it are rewritten often and are small; the other levels hold nearly all of the data.
    use DBCompressionType::{Lz4, None};
    cf.set_compression_per_level(&[None, None, Lz4, Lz4, Lz4, Lz4, Lz4]);
    cf.set_level_compaction_dynamic_level_bytes(true);
    // Half of the total each: the total decides, except when one column family gets nearly all writes; it may then fill
    // one memtable while another is being flushed.
    cf.set_write_buffer_size((options.write_buffer_bytes / 2).max(64 << 10));
    cf.set_max_write_buffer_number(6);
    cf.set_target_file_size_base(32 << 20);
    cf.set_max_bytes_for_level_base(256 << 20);
    // Flushes are frequent (each lets the raft log shrink), so level 0 may hold more small files before writes are
    // slowed down.
    cf.set_level_zero_file_num_compaction_trigger(4);
    cf.set_level_zero_slowdown_writes_trigger(32);
    cf.set_level_zero_stop_writes_trigger(64);
    // A filter over the memtable makes lookups of missing keys cheap there too.
    cf.set_memtable_prefix_bloom_ratio(0.02);
    cf.set_memtable_whole_key_filtering(true);
    // Every range deletion in a memtable makes the next reader sort all of them again: flush before there are many.
    // SAFETY: the options are live, and the call sets one number in them.
    unsafe { ffi::rocksdb_options_set_memtable_max_range_deletions(cf.as_raw_ptr(), MEMTABLE_RANGE_DELETIONS_MAX) };
    cf
}

/// The cursor of RocksDB; see [`Cursor`].
struct RocksCursor<'a> {
    /// `None` if the bounds are empty.
    iterator: Option<DBRawIterator<'a>>,
    bounds: Bounds,
    /// Whether the last move would have had to read from the disk.
    needs_disk: bool,
}

impl<'a> RocksCursor<'a> {
    fn go(&mut self, to: impl FnOnce(&mut DBRawIterator<'a>, &Bounds)) -> Result<bool> {
        let Some(iterator) = &mut self.iterator else { return Ok(false) };
        self.needs_disk = false;
        to(iterator, &self.bounds);
        if iterator.valid() {
            return Ok(true);
        }
        match iterator.status() {
            Err(error) if error.kind() == ErrorKind::Incomplete => self.needs_disk = true,
            Err(error) => return Err(convert(&error)),
            Ok(()) => {}
        }
        Ok(false)
    }

    fn is_somewhere(&self) -> bool {
        self.iterator.as_ref().is_some_and(DBRawIterator::valid)
    }
}

impl Cursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.go(|iterator, bounds| iterator.seek(key.max(&bounds.start)))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<bool> {
        if self.bounds.are_below(key) {
            return self.seek_last();
        }
        self.go(|iterator, _| {
            iterator.seek_for_prev(key);
            if iterator.key() == Some(key) {
                iterator.prev();
            }
        })
    }

    fn seek_last(&mut self) -> Result<bool> {
        self.go(|iterator, _| iterator.seek_to_last())
    }

    fn next(&mut self) -> Result<bool> {
        if self.is_somewhere() { self.go(|iterator, _| iterator.next()) } else { Ok(false) }
    }

    fn back(&mut self) -> Result<bool> {
        if self.is_somewhere() { self.go(|iterator, _| iterator.prev()) } else { Ok(false) }
    }

    fn pair(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.as_ref().and_then(DBRawIterator::item)
    }

    fn needs_disk(&self) -> bool {
        self.needs_disk
    }
}

/// Returns whether a batch deletes a range without an end.
fn is_unbounded(batch: &WriteBatch) -> bool {
    batch.ops().iter().any(|op| matches!(op, Op::DeleteRange(_, _, end) if end.is_empty()))
}

/// Converts an error of RocksDB.
fn convert(error: &rocksdb::Error) -> Error {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => Error::Corruption(text),
        _ => failed(text),
    }
}

/// Converts an error string of RocksDB, which is null if there is no error, and frees it.
fn said(error: *mut std::ffi::c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the string comes from RocksDB and ends in a zero byte.
    let text = unsafe { std::ffi::CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: the string belongs to this function, and RocksDB's strings are freed with this call.
    unsafe { ffi::rocksdb_free(error.cast()) };
    Err(if text.starts_with("Corruption") { Error::Corruption(text) } else { failed(text) })
}

/// Converts an error text of the disk.
fn failed(text: String) -> Error {
    let full = text.contains("No space left");
    Error::Io(if full { format!("no space left on the disk: {text}") } else { text })
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
        let mut iterator = self.db.raw_iterator_cf(self.cf(cf));
        iterator.seek_to_last();
        let stored = iterator.key();
        let pending = batch.ops()[..at].iter().filter_map(|op| match op {
            Op::Put(of, key, _) if *of == cf => Some(&key[..]),
            _ => None,
        });
        let beyond = pending.chain(stored).max().map(|key| [key, &[0]].concat());
        iterator.status().map_err(|error| convert(&error))?;
        Ok(beyond)
    }

    fn translate(&self, batch: &WriteBatch) -> Result<rocksdb::WriteBatch> {
        let mut cfs: [Option<&ColumnFamily>; Cf::ALL.len()] = [None; Cf::ALL.len()];
        let mut out = rocksdb::WriteBatch::with_capacity_bytes(16 + batch.bytes() + batch.len() * 12);
        for (at, op) in batch.ops().iter().enumerate() {
            let (Op::Put(cf, ..) | Op::Delete(cf, ..) | Op::DeleteRange(cf, ..)) = op;
            let handle = *cfs[*cf as usize].get_or_insert_with(|| self.cf(*cf));
            match op {
                Op::Put(_, key, value) => out.put_cf(handle, key, value),
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
        Ok(out)
    }

    fn get(&self, cf: Cf, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>> {
        let pinned = self.db.get_pinned_cf_opt(self.cf(cf), key, options).map_err(|error| convert(&error))?;
        Ok(pinned.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Like [`Inner::get`], with options that forbid reading from the disk.
    fn get_cached(&self, cf: Cf, key: &[u8], options: &ReadOptions) -> Result<Cached> {
        match self.db.get_pinned_cf_opt(self.cf(cf), key, options) {
            Ok(found) => Ok(Cached::Known(found.map(|value| Bytes::copy_from_slice(&value)))),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Cached::OnDisk),
            Err(error) => Err(convert(&error)),
        }
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
        self.db.write_opt(self.translate(batch)?, &self.write_options).map_err(|error| convert(&error))
    }

    /// Returns a cursor that is confined to `[start, end)`.
    fn cursor(
        &self,
        cf: Cf,
        (start, end): (&[u8], &[u8]),
        how: CursorOptions,
        mut options: ReadOptions,
    ) -> Box<dyn Cursor + '_> {
        let bounds = Bounds { start: Bytes::copy_from_slice(start), end: Bytes::copy_from_slice(end) };
        options.fill_cache(how.fill_cache);
        if how.read_ahead_bytes > 0 {
            options.set_readahead_size(how.read_ahead_bytes);
        }
        if !how.may_wait {
            options = cached(options);
        }
        if !end.is_empty() {
            options.set_iterate_upper_bound(end);
        }
        if !start.is_empty() {
            options.set_iterate_lower_bound(start);
        }
        // RocksDB does not define the behaviour of bounds that exclude each other.
        let iterator = (!bounds.is_empty()).then(|| self.db.raw_iterator_cf_opt(self.cf(cf), options));
        Box::new(RocksCursor { iterator, bounds, needs_disk: false })
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
    fn property(&self, cf: Cf, name: &property::PropName) -> Result<u64> {
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
        let options = |before: Option<&Frozen>| before.map_or_else(ReadOptions::default, Frozen::scan_options);
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
        let translated = inner.translate(batch)?;
        let written = inner.db.write_opt(translated, &inner.write_options);
        written.map_err(|error| inner.stop("write", convert(&error)))
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
        let translated = inner.translate(batch)?;
        match inner.db.write_opt(translated, &inner.impatient_options) {
            Ok(()) => Ok(true),
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
        // Keys that start with 64 bytes of 0xff may be missed by an estimate.
        let end = if end.is_empty() { &[0xff; 64] } else { end };
        if start >= end {
            return Ok(0);
        }
        let flags = ffi::rocksdb_size_approximation_flags_include_memtable
            | ffi::rocksdb_size_approximation_flags_include_files;
        let mut bytes = 0;
        let mut error = ptr::null_mut();
        // SAFETY: the database and the handle live as long as `inner`; the call reads one range, writes one size, and
        // sets `error` to null or to a string that this function must free.
        unsafe {
            ffi::rocksdb_approximate_sizes_cf_with_flags(
                self.inner.db.as_raw_ptr(),
                self.inner.cf(cf).inner(),
                1,
                &start.as_ptr().cast(),
                &start.len(),
                &end.as_ptr().cast(),
                &end.len(),
                flags as u8,
                &mut bytes,
                &mut error,
            );
        }
        said(error).map(|()| bytes)
    }

    /// RocksDB estimates the keys of a column family, not of a range: the range gets a share proportional to its bytes.
    fn approximate_keys(&self, cf: Cf, start: &[u8], end: &[u8]) -> Result<u64> {
        let inner = &*self.inner;
        let count = inner.db.property_int_value_cf(inner.cf(cf), property::ESTIMATE_NUM_KEYS);
        let keys = count.map_err(|error| convert(&error))?.unwrap_or(0);
        if keys == 0 || (start.is_empty() && end.is_empty()) {
            return Ok(keys);
        }
        let all = self.approximate_bytes(cf, b"", b"")?;
        let here = self.approximate_bytes(cf, start, end)?.min(all);
        // The product of two u64 sizes needs a u128.
        Ok(if all == 0 { 0 } else { (u128::from(keys) * u128::from(here) / u128::from(all)) as u64 })
    }
}

/// Returns options of reads that must not wait for the disk.
fn cached(mut options: ReadOptions) -> ReadOptions {
    options.set_read_tier(ReadTier::BlockCache);
    options
}

/// The database at one position of the write sequence. Its holder must drop it before the database.
struct Frozen {
    // Fields are dropped in this order. Options are created on demand, because most views serve a single read.
    options: OnceLock<ReadOptions>,
    cached_options: OnceLock<ReadOptions>,
    snapshot: Snapshot<'static>,
}

impl Frozen {
    fn new(db: &DB) -> Frozen {
        // SAFETY: the database is behind an Arc, so it does not move, and both holders, `RocksSnapshot` and `Inner`,
        // drop this view before it. The extended lifetime never leaves this file.
        let db: &'static DB = unsafe { &*ptr::from_ref(db) };
        Frozen { options: OnceLock::new(), cached_options: OnceLock::new(), snapshot: db.snapshot() }
    }

    fn options(&self) -> &ReadOptions {
        self.options.get_or_init(|| self.scan_options())
    }

    fn cached_options(&self) -> &ReadOptions {
        self.cached_options.get_or_init(|| cached(self.scan_options()))
    }

    fn scan_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
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
        let sequence = self.frozen.snapshot.sequence_number();
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
}
